//! `show PATH` of a file: how far its content is from home, and with `--wait` waiting until it is there.
//!
//! Reads an attribute of the file, which any program can do.

use super::args::ShowArgs;
use super::output;
use crate::ctl::{Client, Code, Failure};
use crate::names;
use crate::sys::attribute;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// All is done.
pub(super) const DONE: u8 = 0;
/// Some content cannot come home.
const STAYS_AWAY: u8 = 3;
/// How often it is looked whether more has come home.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Prints it.
pub(super) fn show(args: &ShowArgs) -> Result<u8, Failure> {
    let path = &args.target;
    let mut found = look(path)?;
    while args.wait && found["state"] == "moving" {
        std::thread::sleep(LOOK_INTERVAL);
        found = look(path)?;
    }
    let printed = if args.json.json { output::print_json(&found) } else { output::print(&text(&found)) };
    printed.map_err(|e| Failure::new(Code::Other, e))?;
    Ok(if args.wait && found["away"] != 0 { STAYS_AWAY } else { DONE })
}

/// What the daemon says of a file.
fn look(path: &Path) -> Result<Value, Failure> {
    let read = |name: &'static str| {
        let at = path.to_path_buf();
        let value = Client::patiently(path, move || attribute::get(&at, name))?;
        let value = value.map_err(|e| Failure::new(Code::Io, format!("{}: {e}", names::shown(path))))?;
        let value = value.ok_or_else(|| {
            let what = "this is no file in a mount of snapfs; of a snapshot or clone say its name, too";
            Failure::new(Code::Invalid, format!("{}: {what}", names::shown(path)))
        })?;
        Ok(names::shown_bytes(&value))
    };
    let words: String = read("user.snapfs.layout.home")?;
    let layout: String = read("user.snapfs.layout")?;
    let mut object = json!({"kind": "file", "layout": layout});
    names::put(&mut object, "path", path);
    for (key, value) in words.split(' ').filter_map(|word| word.split_once('=')) {
        object[key] = value.parse::<u64>().map_or_else(|_| value.into(), Value::from);
    }
    Ok(object)
}

fn text(found: &Value) -> String {
    let path = names::get(found, "path").map(|path| names::shown_bytes(&path)).unwrap_or_default();
    let word = |key: &str| found[key].as_str().unwrap_or_default().to_string();
    let size = |key: &str| output::size(found[key].as_u64().unwrap_or_default());
    format!(
        "file: {path}\nlayout: {}\nmapped: {}\naway from home: {}\nnot written yet: {}\nruns: {}\nstate: {}\n",
        word("layout"),
        size("mapped"),
        size("away"),
        size("delayed"),
        found["runs"],
        word("state")
    )
}
