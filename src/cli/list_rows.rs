//! Snapshots as rows: which of them were asked for, in which order, and what is in each column.

use super::engine::SnapshotRow;
use super::list_args::{Column, ListChoice, SortKey};
use super::output::{local, size, snapshot_json, table};
use super::refusal::told_view;
use crate::ctl::Failure;
use crate::fs::moment_of;
use crate::names;
use crate::ops::{Error, Timestamp};
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Those that were asked for, in the order that was.
pub(super) fn chosen(
    mut all: Vec<SnapshotRow>,
    choice: &ListChoice,
    now: Timestamp,
) -> Result<Vec<SnapshotRow>, Failure> {
    if let Some(word) = &choice.since {
        let word = word.as_bytes();
        let named = all.iter().find(|s| s.name == word).map(|s| (s.created.secs, s.created.nanos));
        let since = named.or_else(|| moment_of(word, now).map(|(secs, nanos)| whole_second(secs, nanos)));
        let since = since.ok_or_else(|| told_view(word, &Error::NotFound))?;
        all.retain(|s| (s.created.secs, s.created.nanos) >= since);
    }
    all.retain(|s| !choice.automatic || s.name.starts_with(b"@"));
    all.retain(|s| !choice.held || is_held(s));
    // Rows that are equal in all keys stay oldest first.
    all.sort_by(|a, b| {
        let by = |key: &SortKey| match key.descending {
            false => compared(a, b, key.column),
            true => compared(b, a, key.column),
        };
        choice.sort.iter().map(by).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    Ok(all)
}

/// The second that a time names is all of it.
fn whole_second(secs: i64, nanos: u32) -> (i64, u32) {
    (secs, if nanos == 999_999_999 { 0 } else { nanos })
}

/// True if something keeps it from being deleted.
pub(super) fn is_held(s: &SnapshotRow) -> bool {
    !s.held.is_empty()
}

fn compared(a: &SnapshotRow, b: &SnapshotRow, column: Column) -> Ordering {
    match column {
        Column::Name => a.name.cmp(&b.name),
        Column::Id => a.id.cmp(&b.id),
        Column::Created => (a.created.secs, a.created.nanos).cmp(&(b.created.secs, b.created.nanos)),
        Column::Reason => a.reason.cmp(&b.reason),
        Column::Description => a.description.cmp(&b.description),
        Column::Held => a.held.cmp(&b.held),
        Column::Edited => a.edited.cmp(&b.edited),
        Column::Referenced => a.referenced.cmp(&b.referenced),
        Column::Exclusive => a.exclusive.cmp(&b.exclusive),
        Column::Written => a.written.cmp(&b.written),
        Column::Consistency => a.consistency.name().cmp(b.consistency.name()),
        Column::Pause => a.pause_us.cmp(&b.pause_us),
        Column::Method => a.method.cmp(&b.method),
    }
}

fn cell(s: &SnapshotRow, column: Column) -> String {
    match column {
        Column::Name => names::shown_bytes(&s.name),
        Column::Id => s.id.to_string(),
        Column::Created => local(s.created),
        Column::Reason => s.reason.clone(),
        Column::Description => names::shown_bytes(&s.description),
        Column::Held if !is_held(s) => "-".into(),
        Column::Held => s.held.join(","),
        Column::Edited => s.edited.map_or("-".into(), |secs| local(Timestamp { secs, nanos: 0 })),
        Column::Referenced => size(s.referenced),
        Column::Exclusive => s.exclusive.map_or("-".into(), size),
        Column::Written => size(s.written),
        Column::Consistency => s.consistency.name().into(),
        Column::Pause => format!("{} us", s.pause_us),
        Column::Method => s.method.clone().unwrap_or("-".into()),
    }
}

/// Snapshots for programs: with the keys of the columns that were asked for, or those that there are without asking.
pub(super) fn snapshots_json(all: &[SnapshotRow], columns: &[Column]) -> Value {
    let chosen = |s: &SnapshotRow| {
        let mut all = snapshot_json(s);
        (all["reason"], all["method"]) = (s.reason.as_str().into(), s.method.as_deref().into());
        names::put(&mut all, "description", OsStr::from_bytes(&s.description));
        let mut object = json!({});
        for key in columns.iter().map(|column| column.key()) {
            object[key] = all[key].clone();
            let hex = names::hex_key(key);
            if let Some(bytes) = all.get(&hex) {
                object[hex] = bytes.clone();
            }
        }
        object
    };
    let of_all = |s: &SnapshotRow| if columns.is_empty() { snapshot_json(s) } else { chosen(s) };
    Value::Array(all.iter().map(of_all).collect())
}

/// The columns that were asked for, or those that there are without asking.
pub(super) fn snapshot_table(all: &[SnapshotRow], columns: &[Column]) -> String {
    let mut usual =
        vec![Column::Name, Column::Created, Column::Referenced, Column::Exclusive, Column::Written];
    usual.extend(all.iter().any(is_held).then_some(Column::Held));
    usual.extend(all.iter().any(|s| s.edited.is_some()).then_some(Column::Edited));
    let columns = if columns.is_empty() { &usual[..] } else { columns };
    let heads: Vec<String> = columns.iter().map(|column| column.name().to_uppercase()).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let is_number = |c: &Column| {
        matches!(c, Column::Id | Column::Referenced | Column::Exclusive | Column::Written | Column::Pause)
    };
    let right: Vec<usize> = (0..columns.len()).filter(|n| is_number(&columns[*n])).collect();
    let rows: Vec<Vec<String>> =
        all.iter().map(|s| columns.iter().map(|column| cell(s, *column)).collect()).collect();
    table(&heads, &rows, &right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::view::Consistency;

    fn row(id: u64, name: &str, exclusive: u64) -> SnapshotRow {
        SnapshotRow {
            name: name.into(),
            id,
            created: Timestamp { secs: 1_767_225_600 + id as i64 * 3600, nanos: 5 },
            referenced: 1 << 20,
            exclusive: Some(exclusive),
            written: 0,
            reason: if name.starts_with('@') { "schedule" } else { "user" }.into(),
            description: Vec::new(),
            consistency: Consistency::FileSystem,
            pause_us: 7,
            held: if id == 2 { vec!["legal".into()] } else { Vec::new() },
            edited: (id == 3).then_some(1_767_225_600),
            method: (id == 1).then(|| "cow".into()),
        }
    }

    #[test]
    fn programs_get_what_is_asked_for() {
        let mut odd = row(3, "a", 5);
        (odd.name, odd.description) = (b"\xff".to_vec(), b"why".to_vec());
        let all = [row(1, "b", 5), odd];
        let told = snapshots_json(&all, &[Column::Name, Column::Reason, Column::Description]);
        assert_eq!(told[0], json!({"name": "b", "reason": "user", "description": ""}));
        let hex = snapshot_json(&all[1])["name_hex"].clone();
        assert_eq!(
            (hex.is_string(), &told[1]["name_hex"], &told[1]["description"]),
            (true, &hex, &json!("why"))
        );
        let told =
            snapshots_json(&all, &[Column::Consistency, Column::Pause, Column::Method, Column::Edited]);
        let wanted = json!({"consistency": "file system", "pause_us": 7, "method": "cow", "edited": null});
        assert_eq!((&told[0], &told[1]["method"]), (&wanted, &Value::Null));
        // All columns have a key, and what is told without asking is among them.
        let told = snapshots_json(&all, &Column::ALL);
        let known = |key: &String| told[0].get(key).is_some();
        assert!(snapshot_json(&all[0]).as_object().unwrap().keys().all(known), "{told}");
        assert_eq!(snapshots_json(&all, &[])[0], snapshot_json(&all[0]));
        let told = snapshot_table(&all[..1], &[Column::Pause, Column::Method, Column::Consistency]);
        assert_eq!(told, "PAUSE  METHOD  CONSISTENCY\n 7 us  cow     file system\n");
    }

    #[test]
    fn rows_are_chosen_and_sorted() {
        let all = || vec![row(1, "b", 5), row(2, "@GMT-x", 9), row(3, "a", 5)];
        let now = Timestamp { secs: 1_767_225_600 + 3 * 3600 + 60, nanos: 0 };
        let ids = |choice: &ListChoice| -> Vec<u64> {
            chosen(all(), choice, now).unwrap().iter().map(|s| s.id).collect()
        };
        let sorted = |keys: &[(Column, bool)]| ListChoice {
            sort: keys
                .iter()
                .map(|(column, descending)| SortKey { column: *column, descending: *descending })
                .collect(),
            ..ListChoice::default()
        };
        assert_eq!(ids(&ListChoice::default()), [1, 2, 3]);
        assert_eq!(ids(&sorted(&[(Column::Exclusive, true)])), [2, 1, 3]);
        assert_eq!(ids(&sorted(&[(Column::Exclusive, false), (Column::Name, false)])), [3, 1, 2]);
        assert_eq!(ids(&sorted(&[(Column::Created, true)])), [3, 2, 1]);
        assert_eq!(ids(&ListChoice { automatic: true, ..ListChoice::default() }), [2]);
        assert_eq!(ids(&ListChoice { held: true, ..ListChoice::default() }), [2]);
        let since = |word: &str| ListChoice { since: Some(word.into()), ..ListChoice::default() };
        assert_eq!(ids(&since("@-2h")), [2, 3]);
        assert_eq!(ids(&since("@GMT-x")), [2, 3]);
        assert_eq!(ids(&since("@2026-01-01T03:00:00")), [3]);
        assert!(chosen(all(), &since("yesterday"), now).is_err());
        let told = snapshot_table(&all()[..1], &[Column::Id, Column::Name, Column::Held, Column::Exclusive]);
        assert_eq!(told, "ID  NAME  HELD  EXCLUSIVE\n 1  b     -           5 B\n");
        let parting = SnapshotRow { exclusive: None, ..row(1, "b", 0) };
        let told = snapshot_table(std::slice::from_ref(&parting), &[Column::Id, Column::Exclusive]);
        assert_eq!(told, "ID  EXCLUSIVE\n 1          -\n");
        assert!(compared(&parting, &row(2, "c", 0), Column::Exclusive).is_lt());
        assert!(snapshot_table(&all(), &[]).starts_with("NAME    CREATED"));
        assert!(snapshot_table(&all(), &[]).lines().next().unwrap().ends_with("HELD   EDITED"));
        assert!(!snapshot_table(&all()[..2], &[]).contains("EDITED"));
        assert_eq!(ids(&sorted(&[(Column::Edited, true)]))[0], 3);
    }
}
