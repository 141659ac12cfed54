//! `send`, `receive`: snapshots from one store to another, mounted or not.

use super::engine::{Backend, Engine, OpenFor, StoreOptions, StreamOrder};
use super::hold::identity_at;
use super::served;
use super::stream_args::{ReceiveArgs, SendArgs};
use super::{apart, making, output, pipe, standing, streaming, usage};
use crate::ctl::{Client, Code, Failure};
use crate::format::Identity;
use crate::fs::{Fs, first_of};
use crate::names;
use crate::ops::NodeId;
use crate::sys::family::{self, signals};
use crate::sys::process::effective_uid;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Told how far it is; says whether to go on.
type Progress<'p> = &'p mut (dyn FnMut(Value) -> bool + Send);

/// One end of a stream: a store that a daemon serves, or one that this program has opened.
pub(super) enum StoreEnd {
    Daemon(Client),
    Opened(Arc<dyn Engine>),
    /// The one that this process has open for other purposes, and its path.
    Here(Arc<Fs>, PathBuf),
}

impl StoreEnd {
    /// The store at `target`, or the one that is mounted there.
    pub(super) fn open(backend: &dyn Backend, target: &Path, access: OpenFor) -> Result<StoreEnd, Failure> {
        let options = StoreOptions { access, ..StoreOptions::default() };
        StoreEnd::open_with(target, || backend.open(target, &options))
    }

    /// The same, opened so if it is not mounted.
    pub(super) fn open_with(
        target: &Path,
        open: impl FnOnce() -> Result<Arc<dyn Engine>, Failure>,
    ) -> Result<StoreEnd, Failure> {
        match served::connect(target) {
            Ok(client) => Ok(StoreEnd::Daemon(client)),
            Err(f) if f.code == Code::NotMounted => Ok(StoreEnd::Opened(open()?)),
            Err(f) => Err(f),
        }
    }

    /// Another store, which is made if there is none.
    fn open_other(&self, backend: &dyn Backend, other: &Path) -> Result<StoreEnd, Failure> {
        if let StoreEnd::Daemon(client) = self {
            let record = client.record();
            apart::outside_of_mounts(other, (Some(record.store_id), &record.store))?;
        }
        let opened = StoreEnd::open(backend, other, OpenFor::Mount);
        if opened.as_ref().is_err_and(|f| f.code == Code::Busy)
            && let Some(there) = identity_at(other)
            && let Ok(own) = self.ask(&StreamOrder::Identities { at: NodeId::ROOT, all: false })
            && own["store"] == Identity(there).to_string()
        {
            return Err(own_side(other));
        }
        opened
    }

    /// Carries out an order; the stream goes to `out` or comes from `input`.
    pub(super) fn run(
        &self,
        order: &StreamOrder,
        input: &mut (dyn Read + Send),
        out: &mut (dyn Write + Send),
        progress: Progress<'_>,
    ) -> Result<Value, Failure> {
        match self {
            StoreEnd::Opened(engine) => engine.stream(order, input, out, progress),
            StoreEnd::Here(fs, store) => streaming::carry_out(fs, store, order, (input, out), progress),
            StoreEnd::Daemon(client) => through(client, order, input, out, progress),
        }
    }

    /// Carries out an order without a stream.
    pub(super) fn ask(&self, order: &StreamOrder) -> Result<Value, Failure> {
        match self {
            StoreEnd::Here(fs, store) => {
                streaming::carry_out(fs, store, order, (&mut io::empty(), &mut io::sink()), &mut |_| true)
            }
            StoreEnd::Opened(engine) => {
                engine.stream(order, &mut io::empty(), &mut io::sink(), &mut |_| true)
            }
            StoreEnd::Daemon(client) => client.call("stream", streaming::encode(order, None), &mut |_| {}),
        }
    }

    /// Lets go of the store.
    pub(super) fn close(self) -> Result<(), Failure> {
        match self {
            StoreEnd::Opened(engine) => engine.close(),
            StoreEnd::Daemon(_) | StoreEnd::Here(..) => Ok(()),
        }
    }
}

/// What is told of another store that is none.
pub(super) fn own_side(path: &Path) -> Failure {
    let what = "this is a side of the store itself, or its twin: nothing was copied, and a copy has to be in another store";
    Failure::new(Code::Invalid, format!("{}: {what}", names::shown(path)))
}

/// Has a daemon carry out an order, with the stream on a way of its own.
fn through(
    client: &Client,
    order: &StreamOrder,
    input: &mut (dyn Read + Send),
    out: &mut (dyn Write + Send),
    progress: Progress<'_>,
) -> Result<Value, Failure> {
    let failed = |e: io::Error| Failure::new(Code::Io, format!("the stream cannot be carried: {e}"));
    let (stream, key) = pipe::open(client)?;
    let mut request = streaming::encode(order, Some(&key));
    request["user"] = effective_uid().into();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let answer = client.call("stream", request, &mut |value| {
                progress(value);
            });
            if answer.is_err() {
                // It may not have come to the stream at all.
                let _ = stream.shutdown(Shutdown::Both);
            }
            answer
        });
        let (carried, side) = match order {
            StreamOrder::Receive { .. } => (io::copy(input, &mut &stream), Shutdown::Write),
            _ => (io::copy(&mut &stream, out).and_then(|n| out.flush().map(|()| n)), Shutdown::Both),
        };
        // Says that this was all, or that nobody takes any more.
        let _ = stream.shutdown(side);
        let answer = asking.join().map_err(|_| Failure::new(Code::Other, "a failed assertion"))?;
        match (answer, carried) {
            (Err(f), _) if f.code == Code::Io && client.is_leaving() => Err(ended_meanwhile(client, order)),
            (Err(f), _) => Err(f),
            // The daemon needed no more of it.
            (Ok(answer), Err(e)) if is_closed_to(&e) => Ok(answer),
            (Ok(_), Err(e)) => Err(failed(e)),
            (Ok(answer), Ok(_)) => Ok(answer),
        }
    })
}

/// True if the other end has closed a connection: the one error or the other, by what was on its way.
fn is_closed_to(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// The mount has ended while a stream went or came.
fn ended_meanwhile(client: &Client, order: &StreamOrder) -> Failure {
    let at = names::shown(&client.record().mountpoint);
    let what = match order {
        StreamOrder::Receive { .. } => {
            "; what has come stays for a week, and goes on with send --resume (snapfs list --arrivals shows the token)"
        }
        _ => "",
    };
    Failure::new(Code::NotMounted, format!("{at}: it was unmounted meanwhile{what}"))
}

/// Bytes that go through a gate at once at most.
const GATE_BYTES: usize = 64 << 10;

/// Asked before so many bytes go on.
pub(super) type Passage<'g> = &'g (dyn Fn(usize) -> io::Result<()> + Sync);

/// A pipe behind a gate.
struct Gated<'g> {
    out: io::PipeWriter,
    gate: Passage<'g>,
}

impl Write for Gated<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let some = &bytes[..bytes.len().min(GATE_BYTES)];
        (self.gate)(some.len())?;
        self.out.write_all(some)?;
        Ok(some.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Standard output that notes why it takes no more.
struct Outlet {
    out: io::Stdout,
    failed: Option<String>,
}

impl Outlet {
    fn note<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        if let Err(e) = &done {
            self.failed.get_or_insert_with(|| match e.kind() {
                io::ErrorKind::BrokenPipe => "nobody takes it any more".into(),
                _ => e.to_string(),
            });
        }
        done
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.out.write(bytes);
        self.note(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.out.flush();
        self.note(done)
    }
}

/// What printing has come to.
pub(super) fn written(result: Result<(), String>) -> Result<(), Failure> {
    result.map_err(|e| Failure::new(Code::Other, e))
}

/// How far a transfer is, on a terminal.
struct Meter {
    shown: Option<Instant>,
    begun: Instant,
    is_wanted: bool,
}

impl Meter {
    fn new(json: bool) -> Meter {
        Meter { shown: None, begun: Instant::now(), is_wanted: !json && io::stderr().is_terminal() }
    }

    /// Shows how far it is; true, for it goes on.
    fn tell(&mut self, value: &Value) -> bool {
        let bytes = value["content_bytes"].as_u64().or_else(|| value["bytes"].as_u64());
        let Some(bytes) = bytes.filter(|_| self.is_wanted) else { return true };
        if self.shown.is_some_and(|at| at.elapsed() < PROGRESS_EVERY) {
            return true;
        }
        self.shown = Some(Instant::now());
        let rate = bytes as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        let about = value["about_bytes"]
            .as_u64()
            .map_or(String::new(), |all| format!(" of about {}", output::size(all)));
        eprint!("\r{}{about}, {}/s\x1b[K", output::size(bytes), output::size(rate as u64));
        true
    }

    fn end(&self) {
        if self.shown.is_some() {
            eprintln!();
        }
    }
}

fn order_of(args: &SendArgs) -> StreamOrder {
    StreamOrder::Send {
        at: NodeId::ROOT,
        view: args.view.as_bytes().to_vec(),
        from: args.from.as_ref().map(|from| from.as_bytes().to_vec()),
        resume: args.resume.clone(),
    }
}

pub(super) fn send(backend: &dyn Backend, args: &SendArgs) -> Result<(), Failure> {
    if let Some(path) = &args.to {
        let as_name = args.as_name.as_ref().map(|name| name.as_bytes().to_vec());
        let done = send_to(backend, (&args.target, order_of(args)), (path, as_name), args.json.json)?;
        return tell_received(&done, args.json.json);
    }
    if io::stdout().is_terminal() {
        return Err(usage::wrong(
            "a stream is bytes for a file, for 'snapfs receive' or for ssh, not for a terminal: give it with '>' or '|', or \
             name a store with --to",
        ));
    }
    let from = StoreEnd::open(backend, &args.target, OpenFor::LookAsMounted)?;
    let mut meter = Meter::new(args.json.json);
    let mut out = Outlet { out: io::stdout(), failed: None };
    let done = from.run(&order_of(args), &mut io::empty(), &mut out, &mut |value| meter.tell(&value));
    meter.end();
    from.close()?;
    // Also a reader that has enough: half a stream is no copy.
    if let Some(why) = out.failed {
        return Err(Failure::new(Code::Io, format!("the stream was not sent to its end: {why}")));
    }
    let sent = done?;
    if args.json.json {
        eprintln!("{sent}");
    }
    Ok(())
}

/// The order with its snapshot by number: a word may mean another one when the transfer is over, by time or after a rename.
fn settled(from: &StoreEnd, order: StreamOrder) -> Result<StreamOrder, Failure> {
    let StreamOrder::Send { at, view: word, from: base, resume } = order else { return Ok(order) };
    let told = from.ask(&StreamOrder::Number { at, view: word.clone(), from: None })?;
    let view = told["view"].as_u64().map_or(word, |n| format!("{}{n}", streaming::VIEW_PREFIX).into_bytes());
    Ok(StreamOrder::Send { at, view, from: base, resume })
}

/// The order, told against the newest older snapshot that both have, if nothing else was said: by what it is, whatever it is
/// called in either. One that is not here any more will do, if the other store was noted to have it and it is newer.
pub(super) fn against_common(
    from: &StoreEnd,
    to: &StoreEnd,
    order: StreamOrder,
) -> Result<StreamOrder, Failure> {
    let StreamOrder::Send { at, view, from: None, resume: None } = &order else { return Ok(order) };
    let identity = |row: &Value| row["identity"].as_str().map(str::to_string);
    let rows = |told: &Value, key: &str| told[key].as_array().cloned().unwrap_or_default();
    let told = to.ask(&StreamOrder::Identities { at: NodeId::ROOT, all: true })?;
    let theirs: BTreeSet<String> = rows(&told, "snapshots").iter().filter_map(identity).collect();
    let asked = StreamOrder::Number { at: *at, view: view.clone(), from: None };
    let own = from.ask(&asked)?["identity"].as_str().map(str::to_string);
    let ours = from.ask(&StreamOrder::Identities { at: *at, all: false })?;
    let here = rows(&ours, "snapshots");
    let older = here.iter().take_while(|row| identity(row) != own);
    let common = older.filter(|row| identity(row).is_some_and(|identity| theirs.contains(&identity))).last();
    let peer = rows(&ours, "peers").into_iter().find(|peer| {
        let has = identity(peer).is_some_and(|identity| theirs.contains(&identity));
        has && peer["store"] == told["store"] && !here.iter().any(|row| row["identity"] == peer["identity"])
    });
    let made = |row: &Value| (row["secs"].as_i64(), row["nanos"].as_u64());
    let base = common.and_then(|row| names::get(row, "name"));
    if let (Some(peer), Some(store)) = (peer, told["store"].as_str())
        && common.is_none_or(|common| made(common) < made(&peer))
    {
        let word = format!("{}{store}", streaming::PEER_PREFIX).into_bytes();
        let asked = StreamOrder::Number { at: *at, view: view.clone(), from: Some(word.clone()) };
        if from.ask(&asked).is_ok() {
            return Ok(StreamOrder::Send { at: *at, view: view.clone(), from: Some(word), resume: None });
        }
    }
    Ok(StreamOrder::Send { at: *at, view: view.clone(), from: base, resume: None })
}

/// Notes at the sender what the receiver has now, so that the next can be told against it also when it is gone there; and
/// where that is, if it is to be kept where a copy is.
pub(super) fn note(
    from: &StoreEnd,
    to: &StoreEnd,
    order: &StreamOrder,
    path: Option<Vec<u8>>,
) -> Result<(), Failure> {
    noted(to, order, path)?.map_or(Ok(()), |noted| from.ask(&noted).map(drop))
}

/// The order that does so.
fn noted(to: &StoreEnd, order: &StreamOrder, path: Option<Vec<u8>>) -> Result<Option<StreamOrder>, Failure> {
    let StreamOrder::Send { at, view, .. } = order else { return Ok(None) };
    let store = store_of(to)?.as_str().map(str::to_string);
    Ok(store.map(|store| StreamOrder::Note { at: *at, view: view.clone(), store, path }))
}

/// Where a store is that was found at a path: absolute, and its own and not that of a mount, where it may not be tomorrow.
pub(super) fn place_of(to: &StoreEnd, path: &Path) -> Result<Vec<u8>, Failure> {
    if let StoreEnd::Daemon(client) = to
        && let Some(store) = names::get(&client.call("status", json!({}), &mut |_| {})?, "store")
    {
        return Ok(store);
    }
    Ok(apart::real(path).unwrap_or_else(|_| path.to_path_buf()).into_os_string().into_encoded_bytes())
}

/// The store that something goes to, and the path by which it was named.
struct OtherEnd<'e> {
    end: &'e StoreEnd,
    path: &'e Path,
}

/// Makes a full copy of a snapshot in another store; what that has of older ones is not sent again.
pub(super) fn copy(
    backend: &dyn Backend,
    target: &Path,
    name: &OsStr,
    path: &Path,
    json: bool,
) -> Result<(), Failure> {
    let order =
        StreamOrder::Send { at: NodeId::ROOT, view: name.as_bytes().to_vec(), from: None, resume: None };
    let done = send_to(backend, (target, order), (path, None), json)?;
    tell_received(&done, json)
}

/// Carries a snapshot from the one store to the other, and notes it in the first.
fn send_to(
    backend: &dyn Backend,
    (target, order): (&Path, StreamOrder),
    (path, as_name): (&Path, Option<Vec<u8>>),
    json: bool,
) -> Result<Value, Failure> {
    let from = StoreEnd::open(backend, target, OpenFor::LookAsMounted)?;
    let done = from.open_other(backend, path).and_then(|to| {
        let end = OtherEnd { end: &to, path };
        let done = settled(&from, order)
            .and_then(|order| against_common(&from, &to, order))
            .and_then(|order| carry(&from, &end, &order, as_name, json));
        done.and_then(|done| to.close().map(|()| done))
    });
    let was_opened = matches!(from, StoreEnd::Opened(_));
    from.close()?;
    let (done, noted) = done?;
    if let Some(noted) = noted.filter(|_| was_opened)
        && let Err(f) = note_unmounted(backend, target, &noted)
    {
        eprintln!("snapfs: the copy is whole, but nothing is noted of it in {}: {f}", names::shown(target));
    }
    Ok(done)
}

/// Notes a copy in a store that nobody has mounted. While it was sent it was only looked at, so that others could, too.
fn note_unmounted(backend: &dyn Backend, target: &Path, noted: &StreamOrder) -> Result<(), Failure> {
    // Whoever opens one side for writing makes it the newer one, and who opens a half gives it something of its own.
    if !standing::is_by_itself(target) {
        return Err(Failure::new(
            Code::Other,
            "it is a side of a mirror, or the half of one, and is not mounted",
        ));
    }
    let store = StoreEnd::open(backend, target, OpenFor::Work)?;
    let told = store.ask(noted);
    store.close()?;
    match told? {
        answer if answer["noted"] == false => Err(Failure::new(Code::Other, "it takes no changes")),
        _ => Ok(()),
    }
}

/// Has the daemon of the sender hold a snapshot for what goes to another store, if there is one: nobody else can delete it
/// meanwhile where there is none. What lets it go.
fn hold(from: &StoreEnd, other: &OtherEnd<'_>, order: &StreamOrder) -> Result<Option<StreamOrder>, Failure> {
    let (StreamOrder::Send { at, view, .. }, StoreEnd::Daemon(_)) = (order, from) else { return Ok(None) };
    let Some(store) = store_of(other.end)?.as_str().map(str::to_string) else { return Ok(None) };
    let (at, view, path) = (*at, view.clone(), place_of(other.end, other.path)?);
    let (wanted, user) = ((view.clone(), store.clone()), Some(effective_uid()));
    let held = from.ask(&StreamOrder::Hold { at, view, store, path, user })?["held"] == true;
    Ok(held.then_some(StreamOrder::Release { at, view: wanted.0, store: wanted.1 }))
}

/// Carries a snapshot from one store to another. A transfer of it that was cut off goes on by itself. It is held meanwhile, and
/// for a week from then on if something waits for the rest of it: also what another one has brought, or brings now. What the
/// store has to note of it comes with what is told.
fn carry(
    from: &StoreEnd,
    other: &OtherEnd<'_>,
    order: &StreamOrder,
    as_name: Option<Vec<u8>>,
    json: bool,
) -> Result<(Value, Option<StreamOrder>), Failure> {
    let release = hold(from, other, order)?;
    let done = carry_held(from, other, order, as_name, json);
    let Some(release) = release else { return done };
    if done.is_ok() {
        from.ask(&release)?;
        return done;
    }
    let kept = match waits_for_rest(from, other.end, order) {
        Rest::None => from.ask(&release).map(drop),
        Rest::Waits => hold(from, other, order).map(drop),
        Rest::Comes => Ok(()),
    };
    kept.unwrap_or_else(|f| log::debug!("the hold of a transfer that has failed stays as it is: {f}"));
    done
}

/// What another store has of a snapshot that it does not have.
enum Rest {
    None,
    /// It waits for what is missing. So does what is not known, of a store that cannot be asked any more.
    Waits,
    /// Somebody brings that.
    Comes,
}

fn waits_for_rest(from: &StoreEnd, to: &StoreEnd, order: &StreamOrder) -> Rest {
    let StreamOrder::Send { at, view, .. } = order else { return Rest::None };
    let asked = from.ask(&StreamOrder::Number { at: *at, view: view.clone(), from: None });
    let (Ok(own), Ok(all)) = (asked, to.ask(&StreamOrder::Arrivals)) else { return Rest::Waits };
    let mut all = all.as_array().into_iter().flatten();
    match all.find(|arrival| arrival["identity"] == own["identity"]) {
        None => Rest::None,
        Some(arrival) if arrival["active"] == true => Rest::Comes,
        Some(_) => Rest::Waits,
    }
}

fn carry_held(
    from: &StoreEnd,
    other: &OtherEnd<'_>,
    order: &StreamOrder,
    as_name: Option<Vec<u8>>,
    json: bool,
) -> Result<(Value, Option<StreamOrder>), Failure> {
    let to = other.end;
    let done = carry_now(from, to, resumed(from, to, order)?, as_name, json)?;
    if done["was_here"] == true && store_of(from)? == store_of(to)? {
        let what = "the other store is this one: nothing was copied, and a copy has to be in another store";
        return Err(Failure::new(Code::Invalid, what));
    }
    let noted = noted(to, order, Some(place_of(to, other.path)?))?;
    noted.iter().try_for_each(|noted| from.ask(noted).map(drop))?;
    Ok((done, noted))
}

/// By what a store is known everywhere.
fn store_of(end: &StoreEnd) -> Result<Value, Failure> {
    Ok(end.ask(&StreamOrder::Identities { at: NodeId::ROOT, all: false })?["store"].clone())
}

fn carry_now(
    from: &StoreEnd,
    to: &StoreEnd,
    order: StreamOrder,
    as_name: Option<Vec<u8>>,
    json: bool,
) -> Result<Value, Failure> {
    let mut meter = Meter::new(json);
    let done = carry_through(from, to, (order, as_name), &|_| Ok(()), &mut |value| meter.tell(&value));
    meter.end();
    done
}

/// The same; `gate` is asked before so many bytes go on, and may wait, or end it: also, with no bytes, while a store that this
/// process has open proves what has come.
pub(super) fn carry_through(
    from: &StoreEnd,
    to: &StoreEnd,
    (order, as_name): (StreamOrder, Option<Vec<u8>>),
    gate: Passage<'_>,
    progress: Progress<'_>,
) -> Result<Value, Failure> {
    let (mut reader, out) = io::pipe()
        .map_err(|e| Failure::new(Code::Other, format!("no pipe can be had from the system: {e}")))?;
    let mut writer = Gated { out, gate };
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut nothing = |_| true;
            let sent = from.run(&order, &mut io::empty(), &mut writer, &mut nothing);
            drop(writer);
            sent
        });
        let receive = StreamOrder::Receive { as_name, user: Some(effective_uid()) };
        let mut goes_on = |value| progress(value) && gate(0).is_ok();
        let received = to.run(&receive, &mut reader, &mut io::sink(), &mut goes_on);
        drop(reader);
        let sent = sending.join().unwrap_or_else(|_| Err(Failure::new(Code::Other, "a failed assertion")));
        match (received, sent) {
            (Ok(mut received), Ok(sent)) => {
                for key in ["content_bytes", "shared_bytes", "from", "digest"] {
                    received[key] = sent[key].clone();
                }
                Ok(received)
            }
            // It takes nothing that is there already.
            (Ok(received), Err(f)) if received["was_here"] == true => {
                drop(f);
                Ok(received)
            }
            (Ok(_), Err(f)) => Err(f),
            // What the receiver says of a stream that ended is that it ended.
            (Err(_), Err(f)) if !f.message.starts_with("nobody takes") => Err(f),
            (Err(f), _) => Err(f),
        }
    })
}

/// The order, going on with what the receiver has of it.
pub(super) fn resumed(from: &StoreEnd, to: &StoreEnd, order: &StreamOrder) -> Result<StreamOrder, Failure> {
    let StreamOrder::Send { at, view, from: base, resume: None } = order else { return Ok(order.clone()) };
    for arrival in to.ask(&StreamOrder::Arrivals)?.as_array().into_iter().flatten() {
        let Some(token) = arrival["token"].as_str().filter(|_| arrival["active"] != true) else { continue };
        let asked = StreamOrder::Number { at: *at, view: view.clone(), from: base.clone() };
        if from.ask(&asked)?["stream"].as_str() == token.split(':').next() {
            let (view, from, resume) = (view.clone(), base.clone(), Some(token.to_string()));
            return Ok(StreamOrder::Send { at: *at, view, from, resume });
        }
    }
    Ok(order.clone())
}

fn tell_received(got: &Value, json: bool) -> Result<(), Failure> {
    let shown = |key: &str| names::get(got, key).map(|name| names::shown_bytes(&name)).unwrap_or_default();
    if json {
        let mut object = got.clone();
        if let Some(created) = streaming::created(got) {
            object["created"] = output::rfc3339(created).into();
        }
        for key in ["secs", "nanos"] {
            object.as_object_mut().map(|object| object.remove(key));
        }
        return written(output::print_json(&object));
    }
    let place = match shown("line") {
        line if line.is_empty() => "the main line".to_string(),
        line => format!(".clones/{line}"),
    };
    if got["was_here"] == true {
        return written(output::print(&format!("'{}' is here already, in {place}\n", shown("name"))));
    }
    let bytes = output::size(got["bytes"].as_u64().unwrap_or(0));
    written(output::print(&format!("received '{}' into {place}: {bytes}\n", shown("name"))))
}

pub(super) fn receive(backend: &dyn Backend, args: &ReceiveArgs) -> Result<(), Failure> {
    if let Some(token) = &args.drop {
        let end = StoreEnd::open(backend, &args.target, OpenFor::Work)?;
        let done = end.ask(&StreamOrder::Drop { token: token.clone() });
        end.close()?;
        done?;
        return if args.json.json { written(output::print_json(&json!({"dropped": token}))) } else { Ok(()) };
    }
    let mut input = io::stdin();
    if input.is_terminal() {
        return Err(usage::wrong(
            "a stream comes from a file or from 'snapfs send', not from a terminal: give it with '<' or '|'",
        ));
    }
    let mut begun = io::Cursor::new(Vec::new());
    if making::nothing_at(&args.target).is_some() {
        // No store is made for what cannot become a snapshot in it.
        let first = first_of(&mut input).map_err(|e| streaming::failure(&args.target, &e))?;
        begun = io::Cursor::new(first);
    }
    let mut input = begun.chain(input);
    tell_when_ended(&args.target);
    let end = StoreEnd::open(backend, &args.target, OpenFor::Mount).map_err(|f| match f.code {
        Code::Invalid if f.message.contains("no snapfs store") => {
            let what = "'snapfs receive' makes a store where nothing is, or in an empty directory; in an image or on a device \
                        'snapfs init' makes one";
            Failure::new(f.code, format!("{}; {what}", f.message))
        }
        _ => f,
    })?;
    let mut meter = Meter::new(args.json.json);
    let as_name = args.as_name.as_ref().map(|name| name.as_bytes().to_vec());
    let order = StreamOrder::Receive { as_name, user: Some(effective_uid()) };
    let done = end.run(&order, &mut input, &mut io::sink(), &mut |value| meter.tell(&value));
    meter.end();
    end.close()?;
    tell_received(&done?, args.json.json)
}

/// Has whoever ends this program learn how to go on with what has come.
fn tell_when_ended(target: &Path) {
    const ENDS: [i32; 2] = [signals::SIGINT, signals::SIGTERM];
    if family::hold_signals(&ENDS).is_err() {
        return;
    }
    let target = names::shown(target);
    let tell = move || {
        let arrived = match family::wait_signal(&ENDS, None) {
            Ok(Some(arrived)) => arrived,
            _ => return,
        };
        eprintln!(
            "\nsnapfs: ended before all had come; what has stays for a week: 'snapfs list --arrivals {target}' shows the token \
             for 'snapfs send --resume TOKEN'"
        );
        std::process::exit(128 + arrived.signal);
    };
    if std::thread::Builder::new().name("ended".into()).spawn(tell).is_err() {
        // Then it ends without a word.
        let _ = family::let_signals_come(&ENDS);
    }
}
