//! SQLite: one row for each transaction, counted outside; then `PRAGMA integrity_check` and all rows.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use crate::harness::{Program, finish, installed, ok};
use crate::place::Place;

/// A database with a journal of one kind.
pub struct Sqlite {
    mode: &'static str,
    database: PathBuf,
    /// Rows that are known to be there.
    rows: u64,
    /// Of these, rows that the last proof found.
    proved: u64,
    worker: Option<(Child, JoinHandle<u64>)>,
}

impl Sqlite {
    pub fn new(p: &Place, mode: &'static str) -> Option<Sqlite> {
        if !installed("sqlite3", "sqlite3") {
            return None;
        }
        let database = p.path("rows.db");
        let make = "CREATE TABLE t(i INTEGER PRIMARY KEY, s TEXT); CREATE INDEX by_s ON t(s);";
        ok(Command::new("sqlite3").arg(&database).arg(format!("PRAGMA journal_mode={mode};{make}")));
        Some(Sqlite { mode, database, rows: 0, proved: 0, worker: None })
    }
}

/// Starts a shell that inserts the rows from `first` on, until it ends. `told` hears the number of each row that was
/// committed.
pub fn insert(
    database: &PathBuf,
    mode: &str,
    first: u64,
    mut told: impl FnMut(u64) + Send + 'static,
) -> (Child, JoinHandle<u64>) {
    let mut command = Command::new("stdbuf");
    command.args(["-oL", "sqlite3", "-batch", "-bail"]).arg(database);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("sqlite3");
    let (mut to, from) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let pragmas =
        format!("PRAGMA journal_mode={mode}; PRAGMA synchronous=EXTRA; PRAGMA wal_autocheckpoint=50;\n");
    let work = move || {
        let mut last = first - 1;
        let mut lines = BufReader::new(from).lines();
        if to.write_all(pragmas.as_bytes()).is_err() {
            return last;
        }
        for row in first.. {
            let size = row * 7919 % 3000 + 1;
            let sql = format!(
                "BEGIN; INSERT INTO t VALUES({row}, hex(randomblob({size}))); COMMIT; SELECT 'row', {row};\n"
            );
            if to.write_all(sql.as_bytes()).is_err() {
                break;
            }
            let wanted = format!("row|{row}");
            // Anything else is an answer to the pragmas.
            if !lines.by_ref().map_while(Result::ok).any(|line| line == wanted) {
                break;
            }
            last = row;
            told(row);
        }
        last
    };
    (child, std::thread::spawn(work))
}

/// Proves a database that is known to have `rows` rows, and may have one more. Returns how many there are.
pub fn prove(database: &PathBuf, rows: u64) -> u64 {
    let sql = "PRAGMA integrity_check; SELECT count(*), coalesce(max(i), 0), coalesce(min(i), 1) FROM t;";
    let out = ok(Command::new("sqlite3").arg(database).arg(sql));
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("ok"), "{out}");
    let found: Vec<u64> =
        lines.next().unwrap_or_default().split('|').map(|n| n.parse().expect("a number")).collect();
    assert!(found[0] == found[1] && found[2] == 1, "rows are missing: {out}");
    assert!(found[0] >= rows, "{rows} rows were acknowledged: {out}");
    found[0]
}

impl Program for Sqlite {
    fn name(&self) -> String {
        format!("sqlite, {}", self.mode)
    }

    fn start(&mut self, _: &Place) {
        self.worker = Some(insert(&self.database, self.mode, self.rows + 1, |_| {}));
    }

    fn stop(&mut self) {
        let (mut child, thread) = self.worker.take().expect("started");
        finish(&mut child);
        self.rows = thread.join().expect("the worker");
    }

    fn prove(&mut self, _: &Place) -> u64 {
        let found = prove(&self.database, self.rows);
        assert!(found <= self.rows + 1, "{found} rows, {} acknowledged", self.rows);
        let new = self.rows - self.proved;
        (self.rows, self.proved) = (found, found);
        new
    }
}
