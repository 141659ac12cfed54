//! PostgreSQL: a counter of our own and pgbench beside it; then recovery by the server itself, the sums that pgbench
//! keeps equal, every acknowledged row, and at the end the checksums of all pages.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{Program, finish, is_root, ok};
use crate::place::{PATIENCE, Place, said};

/// A user without rights: the server refuses to run as root.
const NOBODY: u32 = 65534;

/// A cluster on the mount, its socket beside it.
pub struct Postgres {
    bin: PathBuf,
    data: PathBuf,
    socket: PathBuf,
    root: bool,
    server: Option<Child>,
    clients: Vec<Child>,
    counter: Option<JoinHandle<u64>>,
    rows: u64,
    proved: u64,
}

/// Where the server's programs are: Debian keeps them out of the path.
fn bin() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let places = debian.map(|e| e.path().join("bin")).chain(["/usr/bin".into(), "/usr/local/bin".into()]);
    let found = places.into_iter().find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists());
    if found.is_none() {
        eprintln!("SKIPPED: PostgreSQL is not installed (package postgresql)");
    }
    found
}

impl Postgres {
    pub fn new(p: &Place) -> Option<Postgres> {
        let bin = bin()?;
        let root = is_root();
        let (data, socket) = (p.path("cluster"), p.at("socket"));
        fs::create_dir(&data).expect("mkdir");
        fs::create_dir(&socket).expect("mkdir");
        if root {
            for dir in [&data, &socket] {
                chown(dir, Some(NOBODY), Some(NOBODY)).expect("chown");
            }
            // The way there is for its owner alone otherwise.
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&p.dir.0, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        let postgres = Postgres {
            bin,
            data,
            socket,
            root,
            server: None,
            clients: Vec::new(),
            counter: None,
            rows: 0,
            proved: 0,
        };
        let mut make = postgres.command("initdb");
        make.args(["-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "--data-checksums", "-D"]);
        ok(make.arg(&postgres.data));
        let mut postgres = postgres;
        postgres.serve();
        postgres.sql("CREATE TABLE counted(i bigint PRIMARY KEY)");
        ok(postgres.client("pgbench").args(["-q", "-i", "-s", "1", "postgres"]));
        Some(postgres)
    }

    /// A program of the server, as a user without rights.
    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        if !self.root {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program).current_dir("/");
        command
    }

    fn client(&self, program: &str) -> Command {
        let mut command = self.command(program);
        command.arg("-h").arg(&self.socket).args(["-U", "tester"]);
        command
    }

    fn sql(&self, sql: &str) -> String {
        ok(self.client("psql").args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-c", sql, "postgres"]))
    }

    /// Starts the server and waits until it answers. It recovers first, and may find that processes of the last one
    /// are still ending.
    fn serve(&mut self) {
        let end = Instant::now() + 2 * PATIENCE;
        let log = self.socket.join("log");
        while Instant::now() < end {
            let running = self.server.as_mut().is_some_and(|s| s.try_wait().expect("wait").is_none());
            if !running {
                let mut server = self.command("postgres");
                server.arg("-D").arg(&self.data).arg("-k").arg(&self.socket);
                for setting in
                    ["listen_addresses=", "fsync=on", "checkpoint_timeout=30s", "max_wal_size=64MB"]
                {
                    server.args(["-c", setting]);
                }
                let log = fs::File::options().create(true).append(true).open(&log).expect("log");
                let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
                self.server = Some(server.expect("postgres"));
            }
            std::thread::sleep(Duration::from_millis(100));
            let mut asked = self.client("psql");
            if said(asked.args(["-X", "-c", "SELECT 1", "postgres"])).code == 0 {
                return;
            }
        }
        panic!("the server does not start:\n{}", fs::read_to_string(log).unwrap_or_default());
    }

    /// Signals the server, whose number is that of the program that became it.
    fn signal(&mut self, signal: &str) {
        let Some(server) = &self.server else { return };
        let _ = Command::new("kill").args([signal, &server.id().to_string()]).stderr(Stdio::null()).status();
    }

    /// Ends the server, politely if it can.
    fn shut(&mut self, signal: &str, patience: Duration) {
        self.signal(signal);
        let Some(mut server) = self.server.take() else { return };
        let end = Instant::now() + patience;
        while server.try_wait().expect("wait").is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        finish(&mut server);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.clients.iter_mut().for_each(finish);
        self.shut("-QUIT", Duration::from_secs(5));
    }
}

impl Program for Postgres {
    fn name(&self) -> String {
        "postgresql".into()
    }

    fn start(&mut self, _: &Place) {
        let mut bench = self.client("pgbench");
        bench.args(["-n", "-c", "2", "-T", "60", "postgres"]).stdout(Stdio::null()).stderr(Stdio::null());
        self.clients.push(bench.spawn().expect("pgbench"));
        let mut psql = self.client("psql");
        psql.args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "postgres"]);
        let mut psql =
            psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("psql");
        let (mut to, from) = (psql.stdin.take().expect("piped"), psql.stdout.take().expect("piped"));
        self.clients.push(psql);
        let first = self.rows + 1;
        self.counter = Some(std::thread::spawn(move || {
            let mut lines = BufReader::new(from).lines();
            let mut count = |n: u64| {
                to.write_all(format!("INSERT INTO counted VALUES({n}) RETURNING i;\n").as_bytes()).ok()?;
                (lines.next()?.ok()? == n.to_string()).then_some(())
            };
            (first..).find(|n| count(*n).is_none()).map_or(first, |failed| failed) - 1
        }));
    }

    fn stop(&mut self) {
        self.shut("-QUIT", Duration::from_secs(3));
        self.clients.iter_mut().for_each(finish);
        self.clients.clear();
        self.rows = self.counter.take().expect("started").join().expect("the counter");
    }

    fn prove(&mut self, _: &Place) -> u64 {
        self.serve();
        let acknowledged = self.rows;
        let found = self.sql("SELECT count(*), coalesce(max(i), 0) FROM counted");
        let found: Vec<u64> = found.trim().split('|').map(|n| n.parse().expect("a number")).collect();
        assert!(
            found[0] == found[1] && (found[0] == acknowledged || found[0] == acknowledged + 1),
            "{found:?} rows, {acknowledged} acknowledged"
        );
        let new = acknowledged - self.proved;
        (self.rows, self.proved) = (found[0], found[0]);
        // Each transaction of pgbench adds one number to a row of each table and to the history.
        let sums = self.sql(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches) \
             AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches) \
             AND (SELECT coalesce(sum(delta), 0) FROM pgbench_history) = (SELECT sum(bbalance) FROM pgbench_branches)",
        );
        assert_eq!(sums.trim(), "t", "pgbench's tables do not fit");
        new
    }

    fn end(&mut self, _: &Place) {
        println!(
            "postgresql: pgbench made {} transactions",
            self.sql("SELECT count(*) FROM pgbench_history").trim()
        );
        self.shut("-INT", PATIENCE);
        ok(self.command("pg_checksums").arg("--check").arg("-D").arg(&self.data));
    }
}
