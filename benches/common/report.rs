//! Figures in files: where they are kept and shown, and how.

use crate::common::Result;
use clap::Args;
use std::fs;
use std::path::PathBuf;

/// Where the figures of a benchmark go.
#[derive(Args)]
pub struct Output {
    /// Keeps the figures in this file (tab-separated), and begins with those that are there.
    #[arg(long)]
    pub results: Option<PathBuf>,
    /// Measures nothing: prints what `--results` holds.
    #[arg(long, requires = "results")]
    pub render: bool,
    /// Writes the tables.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Writes the chart.
    #[arg(long)]
    svg: Option<PathBuf>,
}

impl Output {
    /// Prints the tables, and writes what was asked for.
    pub fn show(&self, tables: &str, chart: impl FnOnce() -> String) -> Result<()> {
        println!("{tables}");
        if let Some(file) = &self.markdown {
            fs::write(file, tables)?;
        }
        if let Some(file) = &self.svg {
            fs::write(file, chart())?;
        }
        Ok(())
    }
}

/// The middle of some values. None of none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (upper, lower) = (sorted.get(sorted.len() / 2)?, sorted.get(sorted.len().checked_sub(1)? / 2)?);
    Some((upper + lower) / 2.0)
}

/// The value that a share `of` the values is below. None of none.
pub fn quantile(values: &[f64], of: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() as f64 * of) as usize).copied()
}

/// A value with three digits or so.
pub fn shown(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.0}k", v / 1e3),
        v if v >= 1e4 => format!("{:.1}k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 0.1 => format!("{v:.2}"),
        v => format!("{v:.4}"),
    }
}

/// Text that fits a field of a file of figures.
pub fn one_line(text: &str) -> String {
    text.replace(['\n', '\t'], " ")
}
