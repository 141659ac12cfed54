//! What is to be listed of snapshots, and how: which rows, which columns, in which order, or drawn.

use clap::Args;
use std::ffi::OsString;

/// A column of a list of snapshots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Column {
    Name,
    Id,
    Created,
    Reason,
    Description,
    Held,
    Edited,
    Referenced,
    Exclusive,
    Written,
    Consistency,
    Pause,
    Method,
}

impl Column {
    pub(super) const ALL: [Column; 13] = [
        Column::Name,
        Column::Id,
        Column::Created,
        Column::Reason,
        Column::Description,
        Column::Held,
        Column::Edited,
        Column::Referenced,
        Column::Exclusive,
        Column::Written,
        Column::Consistency,
        Column::Pause,
        Column::Method,
    ];

    /// What users call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Column::Name => "name",
            Column::Id => "id",
            Column::Created => "created",
            Column::Reason => "reason",
            Column::Description => "description",
            Column::Held => "held",
            Column::Edited => "edited",
            Column::Referenced => "referenced",
            Column::Exclusive => "exclusive",
            Column::Written => "written",
            Column::Consistency => "consistency",
            Column::Pause => "pause",
            Column::Method => "method",
        }
    }

    /// Its key in JSON.
    pub(super) fn key(self) -> &'static str {
        if self == Column::Pause { "pause_us" } else { self.name() }
    }

    fn parse(text: &str) -> Result<Column, String> {
        let found = Column::ALL.into_iter().find(|column| column.name() == text);
        found.ok_or_else(|| {
            let all: Vec<&str> = Column::ALL.into_iter().map(Column::name).collect();
            format!("there is no column '{text}'; there are: {}", all.join(", "))
        })
    }
}

/// A column that rows are sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SortKey {
    pub(super) column: Column,
    /// Largest first.
    pub(super) descending: bool,
}

impl SortKey {
    fn parse(text: &str) -> Result<SortKey, String> {
        let name = text.strip_prefix('-');
        Ok(SortKey { column: Column::parse(name.unwrap_or(text))?, descending: name.is_some() })
    }
}

/// What is said of a list of snapshots, and of no other.
pub(super) const CHOICES: [&str; 8] =
    ["columns", "sort", "clone", "automatic", "held", "since", "strip", "graph"];

/// Which snapshots, and how they are shown.
#[derive(Args, Debug, Default)]
pub(super) struct ListChoice {
    /// Show these: name, id, created, reason, description, held, edited, referenced, exclusive, written, consistency, pause, method
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', value_parser = Column::parse)]
    pub(super) columns: Vec<Column>,
    /// Sort by these, a column with a dash before it largest first: -exclusive,name
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', value_parser = SortKey::parse)]
    pub(super) sort: Vec<SortKey>,
    /// The snapshots that this clone shows, instead of those of the line that TARGET is in
    #[arg(long, value_name = "NAME")]
    pub(super) clone: Option<OsString>,
    /// Only those that were made automatically, and are called so still
    #[arg(long)]
    pub(super) automatic: bool,
    /// Only those that something keeps from being deleted
    #[arg(long)]
    pub(super) held: bool,
    /// Only those that were made since then: an age (@-7d), a time (@2026-01-31), or a snapshot
    #[arg(long, value_name = "VIEW")]
    pub(super) since: Option<OsString>,
    /// Draw what is kept: how many of each hour, day and week
    #[arg(long, conflicts_with_all = ["json", "graph", "columns", "sort"])]
    pub(super) strip: bool,
    /// Draw sizes over time
    #[arg(long, conflicts_with_all = ["json", "columns", "sort"])]
    pub(super) graph: bool,
}

impl ListChoice {
    /// True if snapshots are chosen, or how they are shown: then nothing else is listed.
    pub(super) fn is_of_snapshots(&self) -> bool {
        let how = !self.columns.is_empty() || !self.sort.is_empty() || self.strip || self.graph;
        how || self.clone.is_some() || self.automatic || self.held || self.since.is_some()
    }

    /// True if it has to be found out by which method each was made, for which their trees are read.
    pub(super) fn wants_methods(&self) -> bool {
        self.columns.contains(&Column::Method) || self.sort.iter().any(|key| key.column == Column::Method)
    }
}
