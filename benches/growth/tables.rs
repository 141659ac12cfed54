//! The figures as Markdown.

use crate::common::report::shown;
use crate::curves::{BACKGROUND, FAMILIES, FOREGROUND, Family, background_id};
use crate::figures::Figures;
use std::collections::BTreeSet;

/// A place on an axis.
pub fn place(at: u64) -> String {
    match at {
        n if n >= 1_000_000 && n.is_multiple_of(1_000_000) => format!("{} M", n / 1_000_000),
        n if n >= 1_000 && n.is_multiple_of(1_000) => format!("{} k", n / 1_000),
        n => n.to_string(),
    }
}

/// Where a family has points, of any peer and curve.
fn places(figures: &Figures, family: &Family) -> BTreeSet<u64> {
    let of =
        |peer: &String| family.curves.iter().flat_map(|c| figures.points(peer, c.id)).collect::<Vec<_>>();
    figures.peers().iter().flat_map(of).map(|(at, _)| at).collect()
}

fn table(figures: &Figures, family: &Family) -> String {
    let places = places(figures, family);
    let head: Vec<String> = places.iter().map(|at| place(*at)).collect();
    let mut text = format!("| {} | peer | {} |\n", family.axis, head.join(" | "));
    text += &format!("|---|---|{}\n", "---:|".repeat(places.len()));
    for curve in family.curves {
        let mut title = format!("{}, {}", curve.title, curve.unit);
        for peer in figures.peers() {
            let points = figures.points(peer, curve.id);
            if points.is_empty() {
                continue;
            }
            let cell = |at: &u64| points.iter().find(|p| p.0 == *at).map_or("-".into(), |p| shown(p.1));
            let cells: Vec<String> = places.iter().map(cell).collect();
            text += &format!("| {title} | {peer} | {} |\n", cells.join(" | "));
            title.clear();
        }
    }
    text
}

fn background(figures: &Figures) -> String {
    let mut text = String::from(
        "| beside it | foreground | peer | p50 alone | p50 beside | p99 alone | p99 beside | ratio of p99 | of all \
         calls |\n|---|---|---|---:|---:|---:|---:|---:|---:|\n",
    );
    let empty = text.len();
    for (kind, kind_title) in BACKGROUND {
        for (call, call_title) in FOREGROUND {
            for peer in figures.peers() {
                let figure = |name: &str| figures.single(peer, &background_id(kind, call, name));
                let Some(ratio) = figure("ratio") else { continue };
                let numbers: Vec<String> = ["p50.alone", "p50.beside", "p99.alone", "p99.beside"]
                    .iter()
                    .map(|name| figure(name).map_or("-".into(), shown))
                    .collect();
                let all = figure("ratio.all").map_or("-".into(), |r| format!("{r:.2}"));
                text += &format!(
                    "| {kind_title} | {call_title} | {peer} | {} | {ratio:.2} | {all} |\n",
                    numbers.join(" | ")
                );
            }
        }
    }
    if text.len() == empty { String::new() } else { text }
}

/// All tables.
pub fn markdown(figures: &Figures) -> String {
    let mut text = String::from("# Growth\n\n");
    figures.surroundings().iter().for_each(|line| text += &format!("{line}.\n"));
    let has = |family: &&Family| !places(figures, family).is_empty();
    for family in FAMILIES.iter().filter(has) {
        text += &format!("\n## {}\n\n{}", family.title, table(figures, family));
    }
    let background = background(figures);
    if !background.is_empty() {
        text += "\n## Background work\n\nMicroseconds.\n\n";
        text += &background;
    }
    if !figures.left_out().is_empty() {
        text += "\n## Left out\n\n";
        figures.left_out().iter().for_each(|(what, why)| text += &format!("- {what}: {why}\n"));
    }
    text
}
