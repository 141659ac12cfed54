//! What is done with streams on an open store: by the daemon, or by a command that has opened it; and how that is asked for.

use super::engine::{Engine, StreamOrder};
use super::output;
use super::pipe::Carriers;
use super::refusal::{told, told_name, told_snapshot, told_view};
use crate::ctl::{Code, Failure};
use crate::format::hydration::STORE_PATH_MAX;
use crate::format::peer::PeerRecord;
use crate::format::provenance::{COMMAND_BYTES_MAX, Provenance};
use crate::format::stream::StreamBegin;
use crate::format::{FormatError, Identity, ViewId};
use crate::fs::{Fs, HoldTerms, KEPT_SECS, ReceiveOrder, SendOrder, SentStream, StreamError, parse_token};
use crate::names;
use crate::ops::{Error, NodeId, Timestamp};
use crate::volume::SnapshotInfo;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of a stream between two words of progress.
const PROGRESS_BYTES: u64 = 4 << 20;

/// The order as it travels; `way` is the key of that on which the stream goes or comes.
pub(super) fn encode(order: &StreamOrder, way: Option<&str>) -> Value {
    let mut object = json!({"way": way});
    let put = |object: &mut Value, key: &str, bytes: &[u8]| names::put(object, key, OsStr::from_bytes(bytes));
    match order {
        StreamOrder::Send { at: _, view, from, resume } => {
            object["order"] = "send".into();
            put(&mut object, "view", view);
            from.iter().for_each(|from| put(&mut object, "from", from));
            object["resume"] = json!(resume);
        }
        StreamOrder::Receive { as_name, user } => {
            object["order"] = "receive".into();
            object["user"] = json!(user);
            as_name.iter().for_each(|name| put(&mut object, "as", name));
        }
        StreamOrder::Sums { at: _, view, identity } => {
            object["order"] = "sums".into();
            view.iter().for_each(|view| put(&mut object, "view", view));
            object["identity"] = json!(identity);
        }
        StreamOrder::Number { at: _, view, from } => {
            object["order"] = "number".into();
            put(&mut object, "view", view);
            from.iter().for_each(|from| put(&mut object, "from", from));
        }
        StreamOrder::Paths { at: _, view, inodes } => {
            object["order"] = "paths".into();
            put(&mut object, "view", view);
            object["inodes"] = json!(inodes);
        }
        StreamOrder::Identities { at: _, all } => {
            object["order"] = "identities".into();
            object["all"] = json!(all);
        }
        StreamOrder::Note { at: _, view, store, path } => {
            object["order"] = "note".into();
            put(&mut object, "view", view);
            object["store"] = json!(store);
            path.iter().for_each(|path| put(&mut object, "path", path));
        }
        StreamOrder::Hold { at: _, view, store, path, user } => {
            object["order"] = "hold".into();
            put(&mut object, "view", view);
            put(&mut object, "path", path);
            (object["store"], object["user"]) = (json!(store), json!(user));
        }
        StreamOrder::Release { at: _, view, store } => {
            object["order"] = "release".into();
            put(&mut object, "view", view);
            object["store"] = json!(store);
        }
        StreamOrder::Begin { at: _, view, from } => {
            object["order"] = "begin".into();
            put(&mut object, "view", view);
            from.iter().for_each(|from| put(&mut object, "from", from));
        }
        StreamOrder::Offer { begin } => {
            object["order"] = "offer".into();
            put(&mut object, "begin", begin);
        }
        StreamOrder::Arrivals => object["order"] = "arrivals".into(),
        StreamOrder::Drop { token } => {
            object["order"] = "drop".into();
            object["token"] = json!(token);
        }
    }
    object
}

fn decode(args: &Value, at: NodeId) -> Result<StreamOrder, Failure> {
    let text = |key: &str| args.get(key).and_then(Value::as_str).map(str::to_string);
    let bytes = |key: &str| names::get(args, key);
    let missing = |key: &str| Failure::new(Code::Invalid, format!("the request has no '{key}'"));
    Ok(match text("order").ok_or_else(|| missing("order"))?.as_str() {
        "send" => {
            let view = bytes("view").ok_or_else(|| missing("view"))?;
            StreamOrder::Send { at, view, from: bytes("from"), resume: text("resume") }
        }
        "receive" => StreamOrder::Receive { as_name: bytes("as"), user: user_of(args) },
        "sums" => StreamOrder::Sums { at, view: bytes("view"), identity: text("identity") },
        "number" => {
            let view = bytes("view").ok_or_else(|| missing("view"))?;
            StreamOrder::Number { at, view, from: bytes("from") }
        }
        "paths" => {
            let view = bytes("view").ok_or_else(|| missing("view"))?;
            let inodes = args["inodes"].as_array().into_iter().flatten().filter_map(Value::as_u64);
            StreamOrder::Paths { at, view, inodes: inodes.collect() }
        }
        "identities" => StreamOrder::Identities { at, all: args["all"] == true },
        "note" => {
            let view = bytes("view").ok_or_else(|| missing("view"))?;
            let store = text("store").ok_or_else(|| missing("store"))?;
            StreamOrder::Note { at, view, store, path: bytes("path") }
        }
        "hold" => {
            let [view, path] = ["view", "path"].map(|key| bytes(key).ok_or_else(|| missing(key)));
            let store = text("store").ok_or_else(|| missing("store"))?;
            StreamOrder::Hold { at, view: view?, store, path: path?, user: user_of(args) }
        }
        "release" => {
            let view = bytes("view").ok_or_else(|| missing("view"))?;
            StreamOrder::Release { at, view, store: text("store").ok_or_else(|| missing("store"))? }
        }
        "begin" => {
            let view = bytes("view").ok_or_else(|| missing("view"))?;
            StreamOrder::Begin { at, view, from: bytes("from") }
        }
        "offer" => StreamOrder::Offer { begin: bytes("begin").ok_or_else(|| missing("begin"))? },
        "arrivals" => StreamOrder::Arrivals,
        "drop" => StreamOrder::Drop { token: text("token").ok_or_else(|| missing("token"))? },
        other => return Err(Failure::new(Code::Invalid, format!("streams know no order '{other}'"))),
    })
}

/// Who asks.
fn user_of(args: &Value) -> Option<u32> {
    args.get("user").and_then(Value::as_u64).and_then(|user| u32::try_from(user).ok())
}

/// What the daemon does with a request: the stream has a way of its own.
pub(super) fn answer(
    engine: &dyn Engine,
    carriers: &Carriers,
    (args, at): (&Value, NodeId),
    progress: &mut dyn FnMut(Value) -> bool,
) -> Result<Value, Failure> {
    let order = decode(args, at)?;
    let Some(way) = args.get("way").and_then(Value::as_str) else {
        return engine.stream(&order, &mut io::empty(), &mut io::sink(), progress);
    };
    let failed =
        |e: io::Error| Failure::new(Code::Io, format!("the way for the stream cannot be opened: {e}"));
    let _kept = match &order {
        StreamOrder::Send { at, view, .. } => Some(engine.keep_while_sent(*at, view, user_of(args))?),
        _ => None,
    };
    let peer = carriers.take(way)?;
    let stream = peer.carrier().map_err(failed)?;
    let done = {
        let mut out = io::BufWriter::with_capacity(1 << 20, stream);
        let mut input = io::BufReader::with_capacity(1 << 20, stream);
        engine.stream(&order, &mut input, &mut out, progress)
    };
    // Whoever is at the other end sees that it is over, whatever is left unread.
    let _ = stream.shutdown(Shutdown::Both);
    done
}

/// Carries out an order.
pub(super) fn carry_out(
    fs: &Fs,
    store: &Path,
    order: &StreamOrder,
    (input, output): (&mut dyn Read, &mut dyn Write),
    progress: &mut dyn FnMut(Value) -> bool,
) -> Result<Value, Failure> {
    match order {
        StreamOrder::Send { at, view, from, resume } => {
            let snapshot = find(fs, *at, view)?;
            let base = from.as_ref().map(|from| find_base(fs, *at, from)).transpose()?;
            let wrong = || Failure::new(Code::Invalid, "that is no token of a transfer: receive prints one");
            let resume = resume.as_ref().map(|token| parse_token(token).ok_or_else(wrong)).transpose()?;
            let (base, gone) = (Base::snapshot(&base), Base::gone(&base));
            let order = SendOrder { snapshot: &snapshot, base, gone, resume };
            let mut said = 0;
            let mut tell = |bytes: u64| {
                if bytes < said + PROGRESS_BYTES {
                    return true;
                }
                said = bytes;
                progress(json!({"content_bytes": bytes}));
                true
            };
            let sent = fs.send(&order, output, &mut tell).map_err(|e| failure(store, &e))?;
            Ok(encode_sent(fs, &snapshot, (base, gone), &sent))
        }
        StreamOrder::Receive { as_name, user } => {
            let order = ReceiveOrder { as_line: as_name.as_deref(), user: *user };
            receive(fs, store, &order, input, progress)
        }
        StreamOrder::Sums { at, view, identity } => {
            sums(fs, *at, (view.as_deref(), identity.as_deref()), output)
        }
        StreamOrder::Number { at, view, from } => {
            let snapshot = find(fs, *at, view)?;
            let base = from.as_ref().map(|from| find_base(fs, *at, from)).transpose()?;
            let (base, gone) = (Base::snapshot(&base), Base::gone(&base));
            let order = SendOrder { snapshot: &snapshot, base, gone, resume: None };
            let stream = fs.stream_number(&order).map_err(|e| failure(store, &e))?;
            let mut object = json!({"stream": stream.to_string(), "view": snapshot.id.0});
            put_snapshot(fs, &mut object, &snapshot);
            Ok(object)
        }
        StreamOrder::Paths { at, view, inodes } => {
            let found = find(fs, *at, view)?;
            let paths = fs.paths_in(&found, inodes).map_err(|e| told_name(&found.name, &e))?;
            let all = paths.into_iter().map(|path| {
                let mut object = json!({});
                names::put(&mut object, "path", OsStr::from_bytes(&path));
                object
            });
            Ok(Value::Array(all.collect()))
        }
        StreamOrder::Identities { at, all } => identities(fs, store, *at, *all),
        StreamOrder::Note { at, view, store: peer, path } => {
            let snapshot = find(fs, *at, view)?;
            let noted = match Identity::parse(peer) {
                Some(Identity(peer)) if !fs.volume().is_read_only() => {
                    let is_path = |path: &&Vec<u8>| path.len() <= STORE_PATH_MAX && path.starts_with(b"/");
                    let path = path.as_ref().filter(is_path);
                    if let Some(path) = path {
                        // The copy is there, whether there is room for a word about it or not.
                        fs.note_copy(snapshot.id, peer, path).unwrap_or_else(|e| {
                            log::warn!(
                                "it is not kept where the copy of {} is: {e}",
                                names::shown_bytes(&snapshot.name)
                            );
                        });
                    }
                    fs.note_sent(snapshot.id, peer, path.map(Vec::as_slice).unwrap_or_default())
                }
                _ => Ok(false),
            };
            Ok(json!({"noted": noted.map_err(|e| told_name(&snapshot.name, &e))?}))
        }
        StreamOrder::Hold { at, view, store: other, path, user } => {
            let snapshot = find(fs, *at, view)?;
            let by = transfer_by(&snapshot.name, path, *user);
            let terms = HoldTerms { tag: &transfer_tag(other), after: Some(KEPT_SECS) };
            let held = !fs.volume().is_read_only() && {
                let held = fs.hold_for_transfer(snapshot.id, &terms, &by);
                // It is kept while it is sent in any case.
                let told = held.as_ref().err().filter(|e| **e != Error::ReadOnly);
                told.iter()
                    .for_each(|e| log::warn!("{} is held by none: {e}", names::shown_bytes(&by.command)));
                held.is_ok()
            };
            Ok(json!({"held": held}))
        }
        StreamOrder::Release { at, view, store: other } => {
            let snapshot = find(fs, *at, view)?;
            let done = fs.release_transfer(snapshot.id, &transfer_tag(other));
            Ok(json!({"released": done.map_err(|e| told_name(&snapshot.name, &e))?}))
        }
        StreamOrder::Begin { at, view, from } => {
            let snapshot = find(fs, *at, view)?;
            let base = from.as_ref().map(|from| find_base(fs, *at, from)).transpose()?;
            let (base, gone) = (Base::snapshot(&base), Base::gone(&base));
            let order = SendOrder { snapshot: &snapshot, base, gone, resume: None };
            let begin = fs.stream_begin(&order).map_err(|e| failure(store, &e))?;
            let mut object = json!({"about_bytes": begin.about_bytes});
            names::put(&mut object, "begin", OsStr::from_bytes(&begin.encode()));
            Ok(object)
        }
        StreamOrder::Offer { begin } => {
            let wrong = |e: FormatError| {
                Failure::new(Code::Invalid, format!("that is no beginning of a stream: {}", e.0))
            };
            let begin = StreamBegin::decode(begin).map_err(wrong)?;
            fs.offer(&begin, &ReceiveOrder::default()).map_err(|e| failure(store, &e))?;
            Ok(json!({}))
        }
        StreamOrder::Arrivals => Ok(arrivals(fs)),
        StreamOrder::Drop { token } => {
            let stream = parse_token(token).map(|(stream, _)| stream).or_else(|| Identity::parse(token));
            let wrong = || Failure::new(Code::Invalid, "that is no token of a transfer: list shows them");
            match fs.drop_arrival(stream.ok_or_else(wrong)?).map_err(|e| failure(store, &e))? {
                true => Ok(json!({})),
                false => {
                    Err(Failure::new(Code::NotFound, "nothing of this transfer is here, or it goes on now"))
                }
            }
        }
    }
}

/// How the tags of holds begin that transfers have.
pub(super) const TRANSFER_PREFIX: &str = "send-";

/// What the hold of a transfer is called: there is one for each store that a snapshot goes to.
fn transfer_tag(store: &str) -> String {
    let short: String = store.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    format!("{TRANSFER_PREFIX}{short}")
}

/// Who holds a snapshot for a transfer, and what that is.
fn transfer_by(name: &[u8], path: &[u8], user: Option<u32>) -> Provenance {
    let mut command = [b"snapfs send ", name, b" --to ", path].concat();
    command.truncate(COMMAND_BYTES_MAX);
    Provenance { user, command, ..Provenance::default() }
}

/// Keeps a snapshot from being deleted while it is sent.
pub(super) fn keep_while_sent(
    fs: &Fs,
    at: NodeId,
    word: &[u8],
    user: Option<u32>,
) -> Result<Box<dyn Send>, Failure> {
    let found = find(fs, at, word)?;
    let kept = fs.begin_departure(found.id, user).map_err(|e| told_name(&found.name, &e))?;
    Ok(Box::new(kept))
}

/// The snapshot that a word is about.
fn find(fs: &Fs, at: NodeId, word: &[u8]) -> Result<SnapshotInfo, Failure> {
    let number =
        word.strip_prefix(VIEW_PREFIX.as_bytes()).and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
    if let Some(number) = number {
        let found = fs.volume().snapshot_info(ViewId(number));
        return found.ok_or_else(|| told_view(word, &Error::NotFound));
    }
    if word == b"@live" || word.starts_with(b".clones/") {
        let shown = names::shown_bytes(word);
        let line = if word == b"@live" { "MNT".to_string() } else { format!("MNT/{shown}") };
        let what = format!(
            "{shown}: is not at rest and cannot be sent: make a snapshot of it ('snapfs create {line} NAME'), and send that \
             ('snapfs send {line} NAME')"
        );
        return Err(Failure::new(Code::Invalid, what));
    }
    fs.snapshot_of_word(at, word).map_err(|e| told_snapshot(word, &e))
}

/// In front of the number of a snapshot, which stays what it is whatever it is called.
pub(super) const VIEW_PREFIX: &str = "@view:";

/// In front of the identity of another store: what that has of this one, whether it is here still or not.
pub(super) const PEER_PREFIX: &str = "@peer:";

/// What the receiver has.
enum Base {
    Here(SnapshotInfo),
    Gone(PeerRecord),
}

impl Base {
    fn snapshot(base: &Option<Base>) -> Option<&SnapshotInfo> {
        if let Some(Base::Here(snapshot)) = base { Some(snapshot) } else { None }
    }

    fn gone(base: &Option<Base>) -> Option<&PeerRecord> {
        if let Some(Base::Gone(peer)) = base { Some(peer) } else { None }
    }
}

/// The base that a word is about: a snapshot, or what another store has.
fn find_base(fs: &Fs, at: NodeId, word: &[u8]) -> Result<Base, Failure> {
    let Some(store) = word.strip_prefix(PEER_PREFIX.as_bytes()) else {
        return find(fs, at, word).map(Base::Here);
    };
    let store = std::str::from_utf8(store).ok().and_then(Identity::parse);
    let peer = store.and_then(|Identity(store)| fs.volume().peer(&store));
    let Some(peer) = peer else {
        let what = "nothing is known of what this store has: send --from a snapshot that it has, or all";
        return Err(Failure::new(Code::NotFound, format!("{}: {what}", names::shown_bytes(word))));
    };
    Ok(match fs.volume().find_identity(peer.identity) {
        Some(snapshot) => Base::Here(snapshot),
        None => Base::Gone(peer),
    })
}

fn put_snapshot(fs: &Fs, object: &mut Value, snapshot: &SnapshotInfo) {
    names::put(object, "name", OsStr::from_bytes(&snapshot.name));
    object["identity"] = json!(fs.volume().identity(snapshot.id).map(|identity| identity.to_string()));
    object["secs"] = json!(snapshot.created.0);
    object["nanos"] = json!(snapshot.created.1);
}

fn encode_sent(
    fs: &Fs,
    snapshot: &SnapshotInfo,
    (base, gone): (Option<&SnapshotInfo>, Option<&PeerRecord>),
    sent: &SentStream,
) -> Value {
    let mut object = json!({
        "packets": sent.packets,
        "bytes": sent.bytes,
        "content_bytes": sent.content_bytes,
        "shared_bytes": sent.shared_bytes,
        "digest": format!("{:032x}", sent.digest),
    });
    put_snapshot(fs, &mut object, snapshot);
    if let Some(name) = base.map(|base| &base.name).or(gone.map(|gone| &gone.name)) {
        names::put(&mut object, "from", OsStr::from_bytes(name));
    }
    object
}

fn receive(
    fs: &Fs,
    store: &Path,
    order: &ReceiveOrder<'_>,
    input: &mut dyn Read,
    progress: &mut dyn FnMut(Value) -> bool,
) -> Result<Value, Failure> {
    let (mut said, mut stream) = (0, None);
    let far = RefCell::new((progress, json!({})));
    let mut tell = |begin: &StreamBegin, bytes: u64| {
        stream = Some(begin.stream());
        let (progress, last) = &mut *far.borrow_mut();
        *last = json!({"bytes": bytes, "about_bytes": begin.about_bytes});
        if bytes >= said + PROGRESS_BYTES {
            said = bytes;
            progress(last.clone());
        }
    };
    let mut goes_on = || {
        let (progress, last) = &mut *far.borrow_mut();
        progress(last.clone())
    };
    let done = fs.receive_while(input, order, &mut tell, &mut goes_on);
    let got = done.map_err(|e| {
        let told = failure(store, &e);
        let waits = fs.arrivals().into_iter().find(|a| Some(a.record.begin.stream()) == stream);
        match waits {
            Some(waits) if !matches!(e, StreamError::Refused(_)) => Failure::new(
                told.code,
                format!(
                    "{}; what has come stays for a week: go on with send --resume {}",
                    told.message,
                    waits.token()
                ),
            ),
            _ => told,
        }
    })?;
    if !got.was_here && input.read(&mut [0]).is_ok_and(|more| more > 0) {
        let name = names::shown_bytes(&got.snapshot.name);
        let what = "was received, and behind it there is more, which was not: one stream at a time";
        return Err(Failure::new(Code::Invalid, format!("'{name}' {what}")));
    }
    let mut object = json!({"was_here": got.was_here, "bytes": got.bytes});
    put_snapshot(fs, &mut object, &got.snapshot);
    names::put(&mut object, "line", OsStr::from_bytes(&got.line));
    Ok(object)
}

/// Writes inode and sum, inode by inode.
fn sums(
    fs: &Fs,
    at: NodeId,
    (view, identity): (Option<&[u8]>, Option<&str>),
    output: &mut dyn Write,
) -> Result<Value, Failure> {
    let found = match (identity.and_then(Identity::parse), view) {
        (Some(identity), _) => fs
            .volume()
            .find_identity(identity)
            .ok_or_else(|| Failure::new(Code::NotFound, "no copy of the snapshot is here".to_string()))?,
        (None, Some(view)) => find(fs, at, view)?,
        (None, None) => return Err(Failure::new(Code::Invalid, "the request names no view")),
    };
    let view = fs.volume().snapshot(found.id).map_err(|e| told_name(&found.name, &e.into()))?;
    fs.refuse_edited(&found).map_err(|e| failure(Path::new(OsStr::from_bytes(&found.name)), &e))?;
    let mut failed = None;
    let digest = fs.sums_of(&view, &mut |ino, sum| {
        if failed.is_none() {
            let row = [&ino.0.to_le_bytes()[..], &sum.to_le_bytes()].concat();
            failed = output.write_all(&row).err();
        }
    });
    let digest = digest.map_err(|e| failure(Path::new(OsStr::from_bytes(&found.name)), &e))?;
    if let Some(e) = failed.or_else(|| output.flush().err()) {
        return Err(Failure::new(Code::Io, format!("what is compared cannot be written: {e}")));
    }
    let mut object = json!({"digest": format!("{digest:032x}")});
    put_snapshot(fs, &mut object, &found);
    Ok(object)
}

/// All snapshots of a line, or of all lines that are not in the trash, oldest first, with what they are known by everywhere.
fn identities(fs: &Fs, store: &Path, at: NodeId, all: bool) -> Result<Value, Failure> {
    let (volume, line) = (fs.volume(), fs.line_at(at).map_err(|e| told(store, &e))?);
    let found: Vec<SnapshotInfo> = match all {
        true => {
            let shown = volume.lines().into_iter().filter(|line| line.state.is_shown());
            shown.flat_map(|line| volume.own_snapshots(line.id)).collect()
        }
        false => volume.snapshots(line),
    };
    let rows = found.iter().map(|snapshot| {
        let mut object = json!({});
        put_snapshot(fs, &mut object, snapshot);
        object
    });
    let rows: Vec<Value> = rows.collect();
    let peers: Vec<Value> = volume.peers().iter().map(|peer| encode_peer(fs, peer)).collect();
    Ok(json!({"store": Identity(volume.uuid()).to_string(), "snapshots": rows, "peers": peers}))
}

/// What another store has.
fn encode_peer(fs: &Fs, peer: &PeerRecord) -> Value {
    let mut object = json!({
        "store": Identity(peer.store).to_string(),
        "identity": peer.identity.to_string(),
        "line": peer.line.0,
        "secs": peer.created.0,
        "nanos": peer.created.1,
        "sent_secs": Some(peer.sent_secs).filter(|secs| *secs != 0),
        "here": fs.volume().find_identity(peer.identity).is_some(),
    });
    names::put(&mut object, "name", OsStr::from_bytes(&peer.name));
    if !peer.path.is_empty() {
        names::put(&mut object, "to", OsStr::from_bytes(&peer.path));
    }
    object
}

fn arrivals(fs: &Fs) -> Value {
    let all = fs.arrivals().into_iter().map(|arrival| {
        let begin = &arrival.record.begin;
        let store: String = begin.store.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut object = json!({
            "token": arrival.token(),
            "from_store": store,
            "identity": begin.identity.to_string(),
            "received_bytes": arrival.record.received_bytes,
            "about_bytes": begin.about_bytes,
            "active": arrival.is_active,
            "expires": arrival.line.terms.expiry.map(|expiry| expiry.at),
            "user": arrival.line.provenance.user,
            "since": arrival.line.created.0,
        });
        names::put(&mut object, "name", OsStr::from_bytes(&begin.name));
        object
    });
    Value::Array(all.collect())
}

/// What went wrong, as a sentence.
pub(super) fn failure(store: &Path, e: &StreamError) -> Failure {
    match e {
        StreamError::Failed(e) => told(store, e),
        StreamError::Store(e) => super::refusal::told_volume(store, e),
        StreamError::Refused(why) => Failure::new(Code::Invalid, why.clone()),
        StreamError::Bad(..) => Failure::new(Code::Io, e.to_string()),
        StreamError::Carrier(e) if e.kind() == io::ErrorKind::BrokenPipe => {
            Failure::new(Code::Io, "nobody takes the stream any more")
        }
        StreamError::Carrier(_) => Failure::new(Code::Io, e.to_string()),
    }
}

/// When a snapshot was made, as it travels.
pub(super) fn created(answer: &Value) -> Option<Timestamp> {
    let nanos = answer["nanos"].as_u64().and_then(|nanos| u32::try_from(nanos).ok())?;
    Some(Timestamp { secs: answer["secs"].as_i64()?, nanos })
}

/// Seconds since 1970 as a time.
fn moment(value: &Value) -> Option<Timestamp> {
    value.as_i64().map(|secs| Timestamp { secs, nanos: 0 })
}

/// What is being received, for programs.
pub(super) fn arrivals_json(all: &Value) -> Value {
    let rows = all.as_array().into_iter().flatten().cloned().map(|mut row| {
        for key in ["expires", "since"] {
            row[key] = json!(moment(&row[key]).map(output::rfc3339));
        }
        row
    });
    Value::Array(rows.collect())
}

/// The same for people; none if there is nothing.
pub(super) fn arrivals_table(all: &Value) -> Option<String> {
    let rows: Vec<Vec<String>> = all
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            let name = names::get(row, "name").map(|name| names::shown_bytes(&name)).unwrap_or_default();
            let bytes = |key: &str| output::size(row[key].as_u64().unwrap_or(0));
            let from = row["from_store"].as_str().and_then(|store| store.get(..8)).unwrap_or("?").to_string();
            let ends = match row["active"] == true {
                true => "now".to_string(),
                false => moment(&row["expires"]).map(output::local).unwrap_or_default(),
            };
            let token = row["token"].as_str().unwrap_or("?").to_string();
            vec![name, from, bytes("received_bytes"), ends, token]
        })
        .collect();
    let head = ["RECEIVING", "FROM STORE", "HERE", "KEPT UNTIL", "TOKEN"];
    (!rows.is_empty()).then(|| output::table(&head, &rows, &[2]))
}
