//! The `snapfs` program: hands its arguments to the library's `cli` and exits with its code.

use snapfs::cli;

fn main() -> std::process::ExitCode {
    cli::run(&cli::Builtin, std::env::args_os().collect()).into()
}
