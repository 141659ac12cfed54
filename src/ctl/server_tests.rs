//! The control channel over real sockets, in a directory of the test's own.

use super::super::dirs::RuntimeDir;
use super::super::registry::{self, FoundMount, StoreId};
use super::*;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;

static NEXT: AtomicU32 = AtomicU32::new(0);

struct Echo;

impl Handler for Echo {
    fn handle(
        &self,
        verb: &str,
        args: &Value,
        _peer: &Peer,
        progress: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        match verb {
            "echo" => {
                progress(json!({"done": 1}));
                Ok(args.clone())
            }
            _ => Err(Failure::new(Code::UnknownVerb, format!("no {verb} here"))),
        }
    }
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(length: usize) -> Scratch {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut name = format!("snapfs-ctl-{}-{id}", std::process::id());
        name.extend(std::iter::repeat_n('x', length));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).expect("temporary directory");
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).expect("chmod");
        Scratch(dir)
    }
    fn serve(&self) -> Server {
        self.serve_while(|| true)
    }
    fn serve_while(&self, is_mounted: impl Fn() -> bool + Send + Sync + 'static) -> Server {
        self.serve_by(Arc::new(Echo), is_mounted, WRITE_TIMEOUT)
    }
    fn serve_by(
        &self,
        handler: Arc<dyn Handler>,
        is_mounted: impl Fn() -> bool + Send + Sync + 'static,
        write_timeout: Duration,
    ) -> Server {
        Server::start_in(&self.0, &record(), Box::new(is_mounted), (handler, write_timeout)).expect("server")
    }
    fn dir(&self) -> RuntimeDir {
        RuntimeDir { path: self.0.clone(), uid: process::effective_uid() }
    }
    /// Names of the files in it that end so, without that.
    fn entries(&self, ending: &str) -> Vec<String> {
        let files = fs::read_dir(&self.0).expect("list").map(|e| e.expect("entry").file_name());
        let names = files.map(|name| name.into_string().expect("text"));
        names.filter_map(|name| Some(name.strip_suffix(ending)?.to_string())).collect()
    }
    fn found(&self) -> FoundMount {
        let [name] = &self.entries(".json")[..] else { panic!("one entry") };
        registry::load(&self.dir(), name).expect("registered")
    }
    fn ask(&self, line: &str) -> Vec<String> {
        let found = self.found();
        let (dir, socket) = found.socket();
        let stream = client::with_short_path(dir, &socket, |p| UnixStream::connect(p)).expect("connect");
        // A server that refuses a long line may close before it has read all of it.
        let _ = (&stream).write_all(line.as_bytes());
        BufReader::new(&stream).lines().map_while(Result::ok).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn record() -> MountRecord {
    MountRecord {
        pid: std::process::id(),
        device: (0, 99),
        store: "/store".into(),
        store_id: StoreId::of(Path::new("/")).expect("stat"),
        mountpoint: "/mnt".into(),
        started: "2026-01-01T00:00:00Z".into(),
        snapshot: None,
    }
}

#[test]
fn numbers_of_another_file_system_are_refused() {
    let scratch = Scratch::new(0);
    let _server = scratch.serve();
    let client = client::Client::of(scratch.found());
    let (own, args) = (record().device, json!({"dir": 27}));
    let asked = |device| client.call("echo", protocol::of_device(args.clone(), device), &mut |_| {});
    assert!(asked(own).is_ok_and(|answer| answer["dir"] == 27));
    let other = asked((own.0, own.1 + 1));
    assert!(other.is_err_and(|f| f.code == Code::Invalid && f.message.contains("another file system")));
}

#[test]
fn a_request_is_answered() {
    for length in [0, 150] {
        let place = Scratch::new(length);
        let server = place.serve();
        let said = place.ask("{\"version\":1,\"verb\":\"echo\",\"args\":{\"a\":[1,2]}}\n");
        assert_eq!(said, [r#"{"progress":{"done":1}}"#, r#"{"ok":{"a":[1,2]}}"#]);
        drop(server);
        assert_eq!(fs::read_dir(&place.0).expect("list").count(), 0, "nothing is left");
    }
}

#[test]
fn bad_requests_get_a_reason() {
    let place = Scratch::new(0);
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
    let huge = format!("{{\"version\":1,\"verb\":\"{}\"}}\n", "x".repeat(9 << 20));
    let said = place.ask(&huge).join("");
    assert!(said.is_empty() || said.contains("too long"), "{said}");
}

#[test]
fn the_socket_is_private() {
    let place = Scratch::new(0);
    let _server = place.serve();
    for ending in [".sock", ".json"] {
        let [name] = &place.entries(ending)[..] else { panic!("one {ending}") };
        let file = place.0.join(format!("{name}{ending}"));
        assert_eq!(fs::metadata(file).expect("stat").permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_daemon_that_closes_its_store_is_waited_for() {
    let place = Scratch::new(0);
    let mut server = place.serve();
    let found = place.found();
    assert_eq!(client::has_ended(&found), Ok(false));
    server.stop_accepting();
    let waiting = std::thread::spawn(move || client::has_ended(&found));
    drop(server);
    assert_eq!(waiting.join().expect("join"), Ok(true));
}

/// What the kernel does when one mount ends and the next gets its device number: the first daemon closes its store still.
#[test]
fn a_device_number_that_is_used_again_is_no_end_of_the_other() {
    let place = Scratch::new(0);
    let is_there = Arc::new(AtomicBool::new(true));
    let seen = is_there.clone();
    let first = place.serve_while(move || seen.load(Ordering::SeqCst));
    let of_first = place.found();
    is_there.store(false, Ordering::SeqCst);
    assert!(place.ask("{\"version\":1,\"verb\":\"echo\",\"args\":1}\n").join("").contains("not_mounted"));
    let second = place.serve();
    let names = place.entries(".json");
    assert_eq!(names.len(), 2, "each has an entry of its own");
    let hidden: Vec<FoundMount> = names.iter().filter_map(|n| registry::load(&place.dir(), n)).collect();
    let serves = |f: &FoundMount| client::has_ended(f).is_ok_and(|ended| !ended);
    assert!(of_first.is_running());
    let ending = std::thread::spawn(move || drop(first));
    ending.join().expect("it wakes its own thread");
    assert_eq!(hidden.iter().filter(|f| serves(f)).count(), 1, "the second one is as it was");
    assert!(!of_first.is_running());
    drop(second);
    assert_eq!(fs::read_dir(&place.0).expect("list").count(), 0);
}

#[test]
fn a_server_ends_also_when_its_files_are_gone() {
    let place = Scratch::new(0);
    let mut server = place.serve();
    for ending in [".sock", ".json"] {
        place
            .entries(ending)
            .iter()
            .for_each(|n| fs::remove_file(place.0.join(format!("{n}{ending}"))).unwrap());
    }
    let other = place.serve();
    server.stop_accepting();
    drop(server);
    assert_eq!(client::has_ended(&place.found()), Ok(false), "it wakes and removes nobody else's");
    drop(other);
}

/// Nobody holds the lock on these.
#[test]
fn what_the_dead_have_left_is_cleared_away() {
    let place = Scratch::new(0);
    let text = record().kept().to_string(); // its process number lives: it is ours
    for (name, content) in [("a.json", text.as_str()), ("a.sock", ""), ("b.new", ""), ("b.sock", "")] {
        fs::write(place.0.join(name), content).expect("write");
    }
    let server = place.serve();
    assert_eq!(registry::in_dir(&place.dir()).len(), 1, "the living one alone");
    assert_eq!((place.entries(".json").len(), place.entries("").len()), (1, 2));
    drop(server);
}

/// Tells more than any socket keeps, and says when it is done, and whether anybody listened to the end.
struct Flood(std::sync::mpsc::SyncSender<bool>);

impl Handler for Flood {
    fn handle(
        &self,
        verb: &str,
        _args: &Value,
        _peer: &Peer,
        progress: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        let piece = "x".repeat(1 << 16);
        let most = if verb == "endless" { usize::MAX } else { 256 };
        let all = (0..most).all(|_| progress(json!(piece)));
        self.0.send(all).expect("somebody waits");
        Ok(json!({}))
    }
}

#[test]
fn a_command_that_waits_does_not_keep_the_daemon_waiting() {
    let (place, (done, wait)) = (Scratch::new(0), std::sync::mpsc::sync_channel(1));
    let _server = place.serve_by(Arc::new(Flood(done)), || true, WRITE_TIMEOUT);
    let (mut pieces, mut all) = (0, None);
    let client = client::Client::of(place.found());
    let answer = client.stream("flood", json!({}), &mut |_| {
        // As one whose output nobody reads: it goes on only when the daemon is done.
        all = all.or_else(|| wait.recv_timeout(WRITE_TIMEOUT).ok());
        pieces += 1;
        true
    });
    assert_eq!((answer, all, pieces), (Ok(Some(json!({}))), Some(true), 256));
    // One that has enough ends the work.
    let some = client.stream("endless", json!({}), &mut |_| false);
    assert_eq!((some, wait.recv_timeout(WRITE_TIMEOUT)), (Ok(None), Ok(false)));
}

#[test]
fn who_takes_nothing_is_no_longer_told() {
    let (place, (done, wait)) = (Scratch::new(0), std::sync::mpsc::sync_channel(1));
    let _server = place.serve_by(Arc::new(Flood(done)), || true, Duration::from_millis(100));
    let found = place.found();
    let (dir, socket) = found.socket();
    let stream = client::with_short_path(dir, &socket, |p| UnixStream::connect(p)).expect("connect");
    (&stream).write_all(b"{\"version\":1,\"verb\":\"flood\"}\n").expect("send");
    assert_eq!(wait.recv_timeout(WRITE_TIMEOUT), Ok(false));
    // Nothing looks like an end that is none.
    let last = BufReader::new(&stream).lines().map_while(Result::ok).last().expect("some");
    assert!(
        serde_json::from_str::<Reply>(&last).is_ok_and(|reply| matches!(reply, Reply::Progress(_)))
            || last.len() < 1 << 16
    );
}

#[test]
fn whoever_asked_is_there_until_he_lets_go() {
    struct Keeper(parking_lot::Mutex<Option<Peer>>);
    impl Handler for Keeper {
        fn handle(
            &self,
            _verb: &str,
            _args: &Value,
            peer: &Peer,
            _progress: &mut dyn FnMut(Value) -> bool,
        ) -> Result<Value, Failure> {
            *self.0.lock() = Some(peer.clone());
            Ok(json!({}))
        }
    }
    let (place, keeper) = (Scratch::new(0), Arc::new(Keeper(parking_lot::Mutex::default())));
    let _server = place.serve_by(keeper.clone(), || true, WRITE_TIMEOUT);
    let client = client::Client::of(place.found());
    let is_there = || keeper.0.lock().as_ref().is_some_and(Peer::is_there);
    let (_, bond) = client.begin("keep", json!({})).expect("kept");
    assert!(is_there());
    drop(bond);
    assert!(!is_there());
    client.call("keep", json!({}), &mut |_| {}).expect("asked");
    assert!(!is_there());
}
