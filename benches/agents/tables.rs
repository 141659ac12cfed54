//! The figures as Markdown.

use crate::common::report::{median, shown};
use crate::options::Sizes;
use crate::ways::{Branch, Seat, Step, Ways};
use std::time::Duration;

/// What the columns are called.
fn title(name: &str) -> &str {
    match name {
        "ext4" => "ext4, nothing kept",
        "snapfs-bare" => "snapfs, nothing kept",
        "snapfs" => "snapfs, snapshot and diff",
        "btrfs" => "btrfs, snapshot and diff",
        "git" => "ext4, git commit and diff",
        "branchfs" => "branchfs on ext4, a branch each step",
        other => other,
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn middle<'a, T: 'a>(of: impl IntoIterator<Item = &'a T>, what: impl Fn(&T) -> f64) -> Option<f64> {
    median(&of.into_iter().map(what).collect::<Vec<f64>>())
}

/// The diff that takes the least of the whole day: what one would use.
fn best(seat: &Seat) -> Option<usize> {
    let sum = |at: usize| seat.steps.iter().map(|step| step.diffs[at]).sum::<Duration>();
    (0..seat.way.diffs().len()).min_by_key(|at| sum(*at))
}

/// Snapshot and diff of a step.
fn keeping(step: &Step, diff: Option<usize>) -> f64 {
    ms(step.kept + diff.map_or(Duration::ZERO, |at| step.diffs[at]))
}

/// Seconds of the first steps.
fn day(seat: &Seat, steps: usize) -> Option<f64> {
    let diff = best(seat);
    let day = seat.steps.iter().take(steps).map(|step| ms(step.work) + keeping(step, diff));
    (!seat.steps.is_empty()).then(|| day.sum::<f64>() / 1e3)
}

/// A row: a value for each way, shown as `-` where there is none.
fn row(ways: &Ways, title: &str, cell: impl Fn(&Seat) -> Option<String>) -> String {
    let cells: Vec<Option<String>> = ways.seats.iter().map(cell).collect();
    if cells.iter().all(Option::is_none) {
        return String::new();
    }
    let cells: Vec<String> = cells.into_iter().map(|cell| cell.unwrap_or("-".into())).collect();
    format!("| {title} | {} |\n", cells.join(" | "))
}

fn head(ways: &Ways, title_of_rows: &str) -> String {
    let titles: Vec<&str> = ways.seats.iter().map(|seat| title(&seat.name)).collect();
    format!("| {title_of_rows} | {} |\n|---|{}\n", titles.join(" | "), "---:|".repeat(titles.len()))
}

fn the_day(ways: &Ways, sizes: &Sizes) -> String {
    let bare = ways.seats.iter().find(|seat| seat.name == "ext4");
    let whole = |seat: &Seat| seat.steps.len() == sizes.steps;
    let keeps = |seat: &Seat| !seat.way.diffs().is_empty() && !seat.steps.is_empty();
    let mut text = head(ways, &format!("{} steps", sizes.steps));
    text += &row(ways, "the day, s", |seat| {
        let (own, steps) = (day(seat, sizes.steps)?, seat.steps.len());
        let note = if whole(seat) { String::new() } else { format!(" for {steps} steps") };
        Some(shown(own) + &note)
    });
    text += &row(ways, "the same steps on ext4 with nothing kept: 1", |seat| {
        let steps = bare?.steps.len().min(seat.steps.len());
        let (own, bare) = (day(seat, steps)?, day(bare?, steps)?);
        Some(format!("{:.2}", own / bare))
    });
    text += &row(ways, "edit, search, build, test, ms", |seat| {
        middle(&seat.steps, |step| ms(step.work)).map(shown)
    });
    text += &row(ways, "snapshot, commit or branch, ms", |seat| {
        middle(&seat.steps, |step| ms(step.kept)).filter(|_| keeps(seat)).map(shown)
    });
    text += &row(ways, "diff, ms", |seat| {
        let each = seat.way.diffs().iter().enumerate().filter_map(|(at, name)| {
            middle(&seat.steps, |step| ms(step.diffs[at]))
                .map(|ms| format!("{} ({})", shown(ms), name.replace('|', "to")))
        });
        keeps(seat).then(|| each.collect::<Vec<String>>().join(", "))
    });
    text += &row(ways, "of that the start of the program, ms", |seat| seat.start.map(|time| shown(ms(time))));
    text += &row(ways, "both, of the day", |seat| {
        let diff = best(seat);
        let own: f64 = seat.steps.iter().map(|step| keeping(step, diff)).sum::<f64>() / 1e3;
        day(seat, sizes.steps).filter(|_| keeps(seat)).map(|day| format!("{:.1} %", own / day * 100.0))
    });
    let end = |title: &str, of: &dyn Fn(&Seat) -> Vec<f64>| {
        row(ways, &format!("both, ms, the {title} {} steps", sizes.ends), |seat| {
            median(&of(seat)).filter(|_| keeps(seat) && whole(seat)).map(shown)
        })
    };
    let all = |seat: &Seat| -> Vec<f64> {
        let diff = best(seat);
        seat.steps.iter().map(|step| keeping(step, diff)).collect()
    };
    text += &end("first", &|seat| all(seat).into_iter().take(sizes.ends).collect());
    text += &end("last", &|seat| all(seat).into_iter().rev().take(sizes.ends).collect());
    text += &row(ways, "diffs that were not what changed", |seat| {
        keeps(seat).then(|| seat.wrong.first().map_or(0, |n| *n).to_string())
    });
    text += &row(ways, "steps that failed and were done again", |seat| {
        (!seat.steps.is_empty()).then(|| seat.tried_again.to_string())
    });
    text + &row(ways, "tests that printed something else", |seat| {
        (seat.name != "ext4" && bare.is_some() && !seat.results.is_empty())
            .then(|| ways.wrong_results(seat).to_string())
    })
}

fn the_branches(ways: &Ways, sizes: &Sizes) -> String {
    let mut text = head(ways, &format!("{} branches, ms each", sizes.branches));
    let some = |title: &str, which: fn(&Branch) -> bool, what: fn(&Branch) -> Duration| {
        row(ways, title, |seat| {
            let branches = seat.branches.iter().filter(|branch| which(branch));
            middle(branches, |branch| ms(what(branch))).map(shown)
        })
    };
    text += &some("made", |_| true, |branch| branch.make);
    text += &some("changed, built and tested", |_| true, |branch| branch.work);
    text += &some("merged", |branch| branch.is_merged, |branch| branch.end);
    text += &some("dropped", |branch| !branch.is_merged, |branch| branch.end);
    text + &row(ways, "all of it, s", |seat| {
        let sum: Duration = seat.branches.iter().map(|branch| branch.make + branch.work + branch.end).sum();
        (seat.branches.len() == sizes.branches).then(|| shown(sum.as_secs_f64()))
    })
}

/// All tables.
pub fn markdown(ways: &Ways, surroundings: &str, sizes: &Sizes) -> String {
    let files = sizes.parts * (sizes.modules + 2) + 2;
    let mut text = format!("{surroundings}; {files} files in the tree. Times are medians.\n\n");
    text += &the_day(ways, sizes);
    if ways.seats.iter().any(|seat| !seat.branches.is_empty()) {
        text += &format!("\n{}", the_branches(ways, sizes));
    }
    let failed = ways.seats.iter().filter_map(|seat| Some((&seat.name, seat.failed.as_ref()?)));
    let left_out: Vec<String> =
        ways.missing.iter().chain(failed).map(|(name, why)| format!("- {name}: {why}\n")).collect();
    if !left_out.is_empty() {
        text += &format!("\nLeft out, or ended there:\n\n{}", left_out.concat());
    }
    text
}
