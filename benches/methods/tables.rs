//! The figures as Markdown.

use crate::column::{Column, Overwrites, Sequential};
use crate::common::report::{median, quantile, shown};
use crate::options::Sizes;
use crate::ratios::Ratio;

/// Nothing to tell.
const NONE: &str = "-";

/// A row: a cell for each method.
fn row(columns: &[Column], title: &str, cell: impl Fn(&Column) -> Option<String>) -> String {
    let cells = columns.iter().map(|column| cell(column).unwrap_or(NONE.into()));
    format!("| {title} | {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

fn mib(bytes: u64) -> String {
    shown(bytes as f64 / f64::from(1 << 20))
}

fn micros(of: &Overwrites) -> Option<String> {
    let [middle, late] = [0.5, 0.99].map(|share| quantile(&of.micros, share));
    Some(format!("{} ({})", shown(middle?), shown(late?)))
}

fn amplification(of: &Overwrites) -> Option<String> {
    median(&of.amplification).map(|times| format!("{times:.2}"))
}

fn sequential(of: &Sequential) -> Option<String> {
    Some(format!("{} ({:.2})", shown(of.rate), of.amplification))
}

fn methods(columns: &[Column], sizes: &Sizes) -> String {
    let titles: Vec<&str> = columns.iter().map(|column| column.method.title()).collect();
    let mut text = format!("| | {} |\n|---|{}\n", titles.join(" | "), "---:|".repeat(titles.len()));
    let ms = |seconds: f64| shown(seconds * 1e3);
    text += &row(columns, "made, by the command, ms", |c| {
        c.later_made.map(|_| ms(c.first.returned.as_secs_f64()))
    });
    text += &row(columns, "the same later on, ms", |c| c.later_made.map(shown));
    text += &row(columns, "made, by `mkdir`, ms", |c| c.mkdir.map(shown));
    text += &row(columns, "before the first one, s", |c| c.ready.map(shown));
    text += &row(columns, "until a copy stands alone, s", |c| Some(shown(c.first.alone?.as_secs_f64())));
    text += &row(columns, "the same later on, s", |c| c.later_alone.map(shown));
    text += &row(columns, "bytes of the first copy, MiB", |c| c.first.moved.map(mib));
    text += &row(columns, "bytes of later copies, for a byte in a changed block", |c| {
        c.moved.map(|moved| format!("{moved:.2}"))
    });
    text += &row(columns, "first overwrite of a block, us (p99)", |c| micros(&c.first_overwrite));
    text += &row(columns, "later overwrite, us (p99)", |c| micros(&c.later_overwrite));
    text += &row(columns, "first overwrite, device bytes for a byte", |c| amplification(&c.first_overwrite));
    text += &row(columns, "later overwrite, device bytes for a byte", |c| amplification(&c.later_overwrite));
    text += &row(columns, "runs of the file, at the beginning", |c| Some(c.runs[0].to_string()));
    let after = format!("runs after {} random overwrites under {} snapshots", sizes.overwrites, sizes.rounds);
    text += &row(columns, &after, |c| Some(c.runs[1].to_string()));
    text += &row(columns, "then read cold, MB/s", |c| Some(shown(c.read)));
    text += &row(columns, "beside a file freshly written: 1", |c| Some(format!("{:.2}", c.ratio)));
    text += &row(columns, "overwritten in order after a snapshot, MB/s (device bytes for a byte)", |c| {
        sequential(&c.first_sequential)
    });
    text += &row(columns, "and once more", |c| sequential(&c.later_sequential));
    text += &row(columns, "the file restored from the first snapshot, ms", |c| c.restore.map(shown));
    text += &row(columns, "the copy mounted alone and read from, ms", |c| c.mount_copy.map(shown));
    text += &row(columns, "the first device is lost: what is left", |c| Some(c.method.survives().into()));
    text
}

fn ratios(all: &[Ratio]) -> String {
    let mut text = String::from("| | found | ratio | wanted |\n|---|---|---:|---|\n");
    for one in all {
        let ratio = one.ratio.map_or(NONE.into(), |ratio| format!("{ratio:.2}"));
        text += &format!("| {} | {} | {ratio} | {} |\n", one.what, one.found, one.wanted);
    }
    text
}

/// All tables.
pub fn markdown(columns: &[Column], all: &[Ratio], surroundings: &str, sizes: &Sizes) -> String {
    let mut text = format!(
        "{surroundings}; the second store is in memory. A file of {} MiB, blocks of 4 KiB; device bytes are counted by the \
         daemon until all is at rest, of a mirror those that each side gets.\n\n",
        sizes.file
    );
    if !columns.is_empty() {
        text += &methods(columns, sizes);
        text.push('\n');
    }
    if !all.is_empty() {
        text += &ratios(all);
    }
    text
}
