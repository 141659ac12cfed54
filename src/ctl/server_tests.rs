//! The control channel over real sockets, in a directory of the test's own.

use super::*;
use serde_json::json;
use std::io::{BufRead, Write};
use std::sync::atomic::AtomicU32;

static NEXT: AtomicU32 = AtomicU32::new(0);

struct Echo;

impl Handler for Echo {
    fn handle(&self, verb: &str, args: &Value, progress: &mut dyn FnMut(Value)) -> Result<Value, Failure> {
        match verb {
            "echo" => {
                progress(json!({"done": 1}));
                Ok(args.clone())
            }
            _ => Err(Failure::new(Code::UnknownVerb, format!("no {verb} here"))),
        }
    }
}

struct Place(PathBuf);

impl Place {
    fn new(length: usize) -> Place {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut name = format!("snapfs-ctl-{}-{id}", std::process::id());
        name.extend(std::iter::repeat_n('x', length));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).expect("temporary directory");
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).expect("chmod");
        Place(dir)
    }
    fn serve(&self) -> Server {
        Server::start_in(&self.0, "0:99", &record(), Arc::new(Echo)).expect("server")
    }
    fn ask(&self, line: &str) -> Vec<String> {
        let stream =
            client::with_short_path(&self.0, "0:99.sock", |p| UnixStream::connect(p)).expect("connect");
        // A server that refuses a long line may close before it has read all of it.
        let _ = (&stream).write_all(line.as_bytes());
        BufReader::new(&stream).lines().map_while(Result::ok).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn record() -> Record {
    Record {
        pid: std::process::id(),
        store: "/store".into(),
        mountpoint: "/mnt".into(),
        started: "2026-01-01T00:00:00Z".into(),
        snapshot: None,
        store_id: None,
    }
}

#[test]
fn a_request_is_answered() {
    for length in [0, 150] {
        let place = Place::new(length);
        let server = place.serve();
        let said = place.ask("{\"version\":1,\"verb\":\"echo\",\"args\":{\"a\":[1,2]}}\n");
        assert_eq!(said, [r#"{"progress":{"done":1}}"#, r#"{"ok":{"a":[1,2]}}"#]);
        drop(server);
        assert_eq!(fs::read_dir(&place.0).expect("list").count(), 0, "nothing is left");
    }
}

#[test]
fn bad_requests_get_a_reason() {
    let place = Place::new(0);
    let _server = place.serve();
    for (line, code) in [
        ("{\"version\":2,\"verb\":\"echo\",\"new\":true}\n", "version"),
        ("{\"verb\":\"echo\"}\n", "invalid"),
        ("nonsense\n", "invalid"),
        ("{\"version\":1}\n", "invalid"),
        ("{\"version\":1,\"verb\":\"fly\"}\n", "unknown_verb"),
    ] {
        let said = place.ask(line).join("");
        assert!(said.contains(&format!("\"code\":\"{code}\"")), "{line} {said}");
    }
    let huge = format!("{{\"version\":1,\"verb\":\"{}\"}}\n", "x".repeat(70 << 10));
    let said = place.ask(&huge).join("");
    assert!(said.is_empty() || said.contains("too long"), "{said}");
}

#[test]
fn the_socket_is_private() {
    let place = Place::new(0);
    let _server = place.serve();
    let mode = |name: &str| fs::metadata(place.0.join(name)).expect("stat").permissions().mode() & 0o777;
    assert_eq!((mode("0:99.sock"), mode("0:99.json")), (0o600, 0o600));
}

#[test]
fn a_daemon_that_closes_its_store_is_waited_for() {
    let place = Place::new(0);
    let mut server = place.serve();
    let dir = dirs::RuntimeDir { path: place.0.clone(), uid: 0 };
    let found = registry::load(&dir, "0:99").expect("registered");
    assert!(!client::has_ended(&found));
    server.stop_accepting();
    let waiting = std::thread::spawn(move || client::has_ended(&found));
    drop(server);
    assert!(waiting.join().expect("join"));
}
