//! The figures as Markdown.

use crate::common::report;
use crate::figures::{Cell, Figures};
use crate::workloads::{GROUPS, Phase, Unit};

/// Workloads that have figures, in order.
pub fn phases(figures: &Figures) -> impl Iterator<Item = &'static Phase> {
    let has = |p: &&Phase| figures.peers().iter().any(|peer| figures.cell(peer, p.id).is_some());
    GROUPS.into_iter().flat_map(|g| g.phases).filter(has)
}

/// How good a peer is beside the base: above 1 is better, whatever the unit. None where nothing is compared.
pub fn ratio(figures: &Figures, peer: &str, phase: &Phase) -> Option<f64> {
    let (own, base) = (figures.median(peer, phase.id)?, figures.median(figures.base(), phase.id)?);
    match phase.unit {
        Unit::Megabytes | Unit::Operations => Some(own / base),
        Unit::Seconds | Unit::Milliseconds => Some(base / own),
        Unit::Number => None,
    }
}

/// Geometric mean of the ratios of a peer, and of how many.
fn mean(figures: &Figures, peer: &str) -> Option<(f64, usize)> {
    let logs: Vec<f64> = phases(figures).filter_map(|p| ratio(figures, peer, p)).map(f64::ln).collect();
    (!logs.is_empty()).then(|| ((logs.iter().sum::<f64>() / logs.len() as f64).exp(), logs.len()))
}

/// A value in the unit of its workload.
fn shown(value: f64, unit: Unit) -> String {
    let value = if unit == Unit::Megabytes { value / 1e6 } else { value };
    report::shown(value)
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Megabytes => "MB/s",
        Unit::Operations => "op/s",
        Unit::Seconds => "s",
        Unit::Milliseconds => "ms",
        Unit::Number => "",
    }
}

/// True if a peer says durable what is not: fewer than one flush for two fsyncs. On a RAM disk nobody can count.
fn never_flushes(figures: &Figures, peer: &str) -> bool {
    figures.median(peer, "flushes").is_some_and(|flushes| flushes < 0.5)
}

fn is_of_fsync(phase: &Phase) -> bool {
    phase.id.starts_with("fsync") || phase.id.starts_with("fdatasync")
}

fn table(figures: &Figures, cell: impl Fn(&str, &Phase) -> Option<String>) -> String {
    let peers = figures.peers();
    let mut text = format!("| workload | {} |\n|---|{}\n", peers.join(" | "), "---:|".repeat(peers.len()));
    for phase in phases(figures) {
        let cells: Vec<Option<String>> = peers.iter().map(|peer| cell(peer, phase)).collect();
        if cells.iter().any(Option::is_some) {
            let cells: Vec<String> = cells.into_iter().map(|c| c.unwrap_or("-".into())).collect();
            let unit = unit(phase.unit);
            let title = if unit.is_empty() { phase.title.into() } else { format!("{}, {unit}", phase.title) };
            text += &format!("| {title} | {} |\n", cells.join(" | "));
        }
    }
    text
}

/// All tables.
pub fn markdown(figures: &Figures) -> String {
    let mut text = String::new();
    figures.surroundings().iter().for_each(|line| text += &format!("{line}.\n"));
    let rounds = figures
        .peers()
        .iter()
        .flat_map(|peer| phases(figures).filter_map(|p| figures.cell(peer, p.id)).map(Cell::rounds));
    let rounds = rounds.max().unwrap_or(0);
    let base = figures.base();
    text +=
        &format!("\nMedians of {rounds} rounds, and how good each is beside {base}: above 1 is better.\n\n");
    text += &table(figures, |peer, phase| {
        let value = shown(figures.median(peer, phase.id)?, phase.unit);
        let mark = if is_of_fsync(phase) && never_flushes(figures, peer) { " (!)" } else { "" };
        let ratio = ratio(figures, peer, phase).filter(|_| peer != base);
        Some(ratio.map_or(format!("{value}{mark}"), |r| format!("{value} ({r:.2}){mark}")))
    });
    let means = figures.peers().iter().map(|peer| {
        mean(figures, peer).map_or("-".into(), |(mean, count)| format!("**{mean:.2}** of {count}"))
    });
    text += &format!("| geometric mean of the ratios | {} |\n", means.collect::<Vec<String>>().join(" | "));
    if text.contains("(!)") {
        text += "\n(!) It answers before the device has been flushed: a power cut may lose what it called durable.\n";
    }
    let left_out: Vec<String> = figures.left_out().map(|line| format!("- {line}\n")).collect();
    if !left_out.is_empty() {
        text += &format!("\nLeft out:\n\n{}", left_out.concat());
    }
    if rounds > 1 {
        text += "\nLeast and most of all rounds.\n\n";
        text += &table(figures, |peer, phase| {
            let cell = figures.cell(peer, phase.id)?;
            Some(format!("{} - {}", shown(cell.least(), phase.unit), shown(cell.most(), phase.unit)))
        });
    }
    text += "\nThe daemon while the workload ran: CPU seconds, and peak of its memory in MiB.\n\n";
    let daemons = table(figures, |peer, phase| {
        let (cpu, peak) = figures.cell(peer, phase.id)?.daemon()?;
        Some(format!("{cpu:.2} s, {peak:.0}"))
    });
    text + &daemons
}
