//! `snapfs mirror`: orders about the sides of a store, for the daemon that has it.

use super::engine::{Backend, Engine, OpenFor, Partner, StoreOptions};
use super::limit::UNLIMITED;
use super::mirror_args::{MirrorArgs, MirrorVerb, ResyncArgs, SplitArgs};
use super::mirror_order::{MirrorOrder, encode};
use super::output;
use super::served;
use super::snapshots::{daemon_for_changes, put_maker, written};
use super::standing;
use super::wire;
use crate::ctl::{Client, Code, Failure};
use crate::names;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a filling that is waited for is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Differing blocks that are listed at most.
const LISTED_MAX: usize = 20;

pub(super) fn run(backend: &dyn Backend, args: &MirrorArgs) -> Result<(), Failure> {
    match &args.what {
        MirrorVerb::Attach(a) => {
            let client = daemon_for_changes(&a.target)?;
            set_rate(&client, a.rate)?;
            let limit = a.timeout.map(Duration::from_secs);
            let path = absolute(&a.store)?;
            let status = send(&client, &MirrorOrder::Attach { path, force: a.force, limit })?;
            finish(Some(&client), status, a.wait, a.json.json)
        }
        MirrorVerb::Status(a) => {
            let (client, status) = asked(&a.target)?;
            finish(client.as_ref(), status, a.wait, a.json.json)
        }
        MirrorVerb::Split(a) => split(a),
        MirrorVerb::Resync(a) => {
            let client = match (daemon_for_changes(&a.target), &a.keep) {
                (Err(f), Some(keep)) if f.code == Code::NotMounted => return unmounted(backend, a, keep),
                (client, _) => client?,
            };
            set_rate(&client, a.rate)?;
            let order = match (a.pause, a.resume) {
                (true, _) => MirrorOrder::Pause(true),
                (_, true) => MirrorOrder::Pause(false),
                _ if a.rate.is_some() && send(&client, &MirrorOrder::Status)?["syncing"] == true => {
                    MirrorOrder::Status
                }
                _ => MirrorOrder::Resync {
                    with: a.with.as_deref().map(absolute).transpose()?,
                    keep: a.keep.as_deref().map(absolute).transpose()?,
                    discard: a.discard,
                    dry_run: a.dry_run,
                },
            };
            let status = match resync(&client, &order, a.json.json) {
                // What is under way by itself, or was, is what is waited for.
                Err(f)
                    if a.wait && a.brings_what_was_there() && matches!(f.code, Code::Busy | Code::Exists) =>
                {
                    let status = send(&client, &MirrorOrder::Status)?;
                    let is_it = status["syncing"] == true || status["in_sync"] == true;
                    if is_it { status } else { return Err(f) }
                }
                status => status?,
            };
            if a.dry_run {
                let text = foretold(&status);
                return written(if a.json.json { output::print_json(&status) } else { output::print(&text) });
            }
            finish(Some(&client), status, a.wait, a.json.json)
        }
        MirrorVerb::Verify(a) => {
            let client = served::connect(&a.target)?;
            verify(&a.target, &send(&client, &MirrorOrder::Verify)?, a.json.json)
        }
        MirrorVerb::Detach(a) => {
            let client = daemon_for_changes(&a.target)?;
            let status = send(&client, &MirrorOrder::Detach)?;
            if a.json.json { written(output::print_json(&status)) } else { Ok(()) }
        }
    }
}

fn send(client: &Client, order: &MirrorOrder) -> Result<Value, Failure> {
    client.call("mirror", encode(order), &mut |_| {})
}

/// How the sides are of what is mounted at a target, of a store, or of the other side of one, whoever has it: and who that is.
fn asked(target: &Path) -> Result<(Option<Client>, Value), Failure> {
    let not_mounted = match served::connect(target) {
        Ok(client) => {
            let status = send(&client, &MirrorOrder::Status)?;
            return Ok((Some(client), status));
        }
        Err(f) if f.code == Code::NotMounted => f,
        Err(f) => return Err(f),
    };
    if let Some((partner, pair)) = standing::other_side(target)
        && let Ok(client) = served::connect(&partner)
        && let Ok(status) = send(&client, &MirrorOrder::Status)
        && status["pair"] == pair
    {
        return Ok((Some(client), status));
    }
    match standing::of_closed(target) {
        // What is nothing of ours is not mounted either.
        Err(f) if f.code == Code::NotFound => Err(not_mounted),
        status => Ok((None, status?)),
    }
}

/// Has the side to keep fill the other while nobody serves either.
fn unmounted(backend: &dyn Backend, args: &ResyncArgs, keep: &Path) -> Result<(), Failure> {
    let refused =
        |what: &str| Err(Failure::new(Code::Invalid, format!("{}: {what}", names::shown(&args.target))));
    if args.dry_run || args.pause || args.resume {
        return refused("it is not mounted: mount the side to keep with -o mirror=alone first");
    }
    let other = match &args.with {
        Some(with) => Some(absolute(with)?),
        None if keep.canonicalize().ok() == args.target.canonicalize().ok() => None,
        None => Some(absolute(&args.target)?),
    };
    let options = StoreOptions { access: OpenFor::Work, partner: Partner::Nobody, ..StoreOptions::default() };
    let engine = backend.open(keep, &options)?;
    let filled = fill_to_the_end(&*engine, args, other, keep);
    let closed = engine.close();
    let status = filled?;
    closed?;
    let json = args.json.json;
    written(if json {
        output::print_json(&status)
    } else {
        output::print(&(told_received(&status, "received") + &told(&status)))
    })?;
    match status["sync_failed"].as_str() {
        Some(why) => Err(Failure::new(Code::Io, format!("the other side was not filled: {why}"))),
        None => Ok(()),
    }
}

fn fill_to_the_end(
    engine: &dyn Engine,
    args: &ResyncArgs,
    with: Option<PathBuf>,
    keep: &Path,
) -> Result<Value, Failure> {
    let ask = |order: &MirrorOrder| engine.mirror(order, &mut |_| true);
    if let Some(rate) = args.rate {
        ask(&MirrorOrder::Rate(if rate == UNLIMITED { 0 } else { rate }))?;
    }
    let keep = Some(absolute(keep)?);
    let begun = ask(&MirrorOrder::Resync { with, keep, discard: args.discard, dry_run: false })?;
    let mut status = begun.clone();
    while status["syncing"] == true {
        std::thread::sleep(LOOK_AGAIN);
        status = ask(&MirrorOrder::Status)?;
    }
    if !begun["received"].is_null() {
        status["received"] = begun["received"].clone();
    }
    Ok(status)
}

/// Shows how much has been received before anything is copied.
fn resync(client: &Client, order: &MirrorOrder, json: bool) -> Result<Value, Failure> {
    let terminal = std::io::stderr().is_terminal() && !json;
    let answer = client.call("mirror", encode(order), &mut |value| {
        if let Some(bytes) = value["received_bytes"].as_u64().filter(|_| terminal) {
            let _shown = write!(std::io::stderr(), "\rmirror: {} received\x1b[K", output::size(bytes));
        }
    });
    if terminal {
        let _shown = write!(std::io::stderr(), "\r\x1b[K");
    }
    answer
}

/// What was received, or would be, a line for each.
fn told_received(answer: &Value, how: &str) -> String {
    let name =
        |row: &Value, key: &str| names::get(row, key).map(|n| names::shown_bytes(&n)).unwrap_or_default();
    let rows = answer["received"].as_array().into_iter().flatten();
    rows.map(|row| {
        let bytes = output::size(row["bytes"].as_u64().unwrap_or(0));
        format!("{how}: {} in .clones/{} ({bytes})\n", name(row, "name"), name(row, "line"))
    })
    .collect()
}

/// What a resync would do, for people.
fn foretold(answer: &Value) -> String {
    let side = names::get(answer, "side").map(|side| names::shown_bytes(&side)).unwrap_or_default();
    let bytes = |key: &str| output::size(answer[key].as_u64().unwrap_or(0));
    let mut text = match answer["own"].as_str() {
        Some(own) => format!("{side} has of its own: {own}\n"),
        None => format!("{side} has nothing of its own\n"),
    };
    text += &told_received(answer, "would be received");
    if answer["discarded"] == true {
        text += "all of that would be lost\n";
    }
    text + &format!("{} would be received and {} copied\n", bytes("receive_bytes"), bytes("copy_bytes"))
}

fn set_rate(client: &Client, rate: Option<u64>) -> Result<(), Failure> {
    let Some(rate) = rate else { return Ok(()) };
    send(client, &MirrorOrder::Rate(if rate == UNLIMITED { 0 } else { rate })).map(drop)
}

/// The daemon is elsewhere.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::new(Code::Invalid, format!("{}: {e}", names::shown(path))))
}

/// A snapshot NAME on both sides, which are two stores from then on.
pub(super) fn split(args: &SplitArgs) -> Result<(), Failure> {
    let client = daemon_for_changes(&args.target)?;
    let mut request = json!({});
    names::put(&mut request, "name", &args.name);
    put_maker(&mut request, None);
    let answer = client.call("split", request, &mut |_| {})?;
    let made = wire::decode(&answer)?;
    let store = names::get(&answer, "store");
    if args.json.json {
        return written(output::print_json(&output::split_json(&made, &answer)));
    }
    let store = store.map_or("the second side".into(), |store| names::shown_bytes(&store));
    written(output::print(&format!("{store} is a store of its own\n")))
}

/// Waits if that is wanted, tells how it stands, and fails if it did not come to be in sync.
fn finish(client: Option<&Client>, mut status: Value, wait: bool, json: bool) -> Result<(), Failure> {
    let received = status.as_object_mut().and_then(|status| status.remove("received"));
    let terminal = std::io::stderr().is_terminal() && !json;
    let mut last = u64::MAX;
    while let Some(client) = client.filter(|_| wait && status["syncing"] == true && status["paused"] != true)
    {
        let number = |key: &str| status[key].as_u64().unwrap_or(0);
        let (done, total) = (number("done_bytes"), number("total_bytes"));
        if terminal {
            let line = format!("mirror: {}% of {}", done * 100 / total.max(1), output::size(total));
            let _shown = write!(std::io::stderr(), "\r{line}\x1b[K");
        } else if json && done != last {
            last = done;
            written(output::print(&format!("{}\n", json!({"done_bytes": done, "total_bytes": total}))))?;
        }
        std::thread::sleep(LOOK_AGAIN);
        status = send(client, &MirrorOrder::Status)?;
    }
    if terminal && wait {
        let _shown = write!(std::io::stderr(), "\r\x1b[K");
    }
    if let Some(received) = received {
        status["received"] = received;
    }
    if json {
        written(output::print_json(&status))?;
    } else {
        written(output::print(&(told_received(&status, "received") + &told(&status))))?;
    }
    match (status["sync_failed"].as_str(), unread(&status)) {
        (Some(why), _) if wait => {
            Err(Failure::new(Code::Io, format!("the other side was not filled: {why}")))
        }
        (None, Some(what)) if wait => {
            Err(Failure::new(Code::Damaged, format!("{what}: 'snapfs scrub' names the files")))
        }
        _ if wait && status["syncing"] == true => {
            let what = "the filling is paused: 'snapfs mirror resync MNT --resume' has it go on";
            Err(Failure::new(Code::Busy, what))
        }
        // One that is only read is as it should be.
        _ if wait
            && status["mirrored"] == true
            && status["in_sync"] == false
            && status["read_only"] != true =>
        {
            let what = "the store has no other side that is in sync: see 'snapfs mirror resync' and 'snapfs mirror attach'";
            Err(Failure::new(Code::Io, what))
        }
        _ => Ok(()),
    }
}

/// What the other side did not get because it cannot be read, in a few words.
fn unread(status: &Value) -> Option<String> {
    let bytes = status["unread_bytes"].as_u64().filter(|bytes| *bytes > 0)?;
    Some(format!("{} could not be read and are on no other side", output::size(bytes)))
}

/// Makes what the state of a mount says of its mirror a few words, and nothing where there is none.
pub(super) fn shorten(status: &mut Value) {
    let Some(of) = status.as_object_mut() else { return };
    if let Some(mirror) = of.remove("mirror")
        && (mirror["mirrored"] == true || mirror["syncing"] == true)
    {
        of.insert("mirror".into(), state(&mirror).into());
    }
}

/// How the sides stand, in a few words.
fn state(status: &Value) -> String {
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    match (&status["mirrored"], &status["in_sync"], &status["syncing"]) {
        (_, _, Value::Bool(true)) => {
            let (done, total) = (number("done_bytes"), number("total_bytes"));
            let paused = if status["paused"] == true { ", paused" } else { "" };
            format!("syncing: {}% of {}{paused}", done * 100 / total.max(1), output::size(total))
        }
        (_, Value::Bool(true), _) => {
            let closed = if status["mounted"] == false { ", not mounted" } else { "" };
            unread(status).map_or(format!("in sync{closed}"), |what| format!("in sync, but {what}"))
        }
        _ if status["read_only"] == true => read_only(status),
        (Value::Bool(true), ..) if status["mounted"] == false => format!("not mounted: {}", apart(status)),
        (Value::Bool(true), ..) => format!("alone: {}", apart(status)),
        _ => "not mirrored".into(),
    }
}

/// How sides stand that are not in use together, in a few words.
fn apart(status: &Value) -> &'static str {
    let sides = status["sides"].as_array().into_iter().flatten();
    let words: Vec<&str> =
        sides.filter_map(|side| side["stands"].as_str().or(side["state"].as_str())).collect();
    let told = [
        (
            "parted",
            "both sides went on without the other ('snapfs mirror resync --keep' brings them together)",
        ),
        ("missing", "the other side is missing"),
        ("silent", "the other side does not answer"),
        ("stranger", "what is in the place of the other side is none of this mirror"),
        ("own store", "the other side is a store of its own ('snapfs mirror resync' brings it back)"),
        ("detached", "the other side was detached"),
        ("older", "the other side is older ('snapfs mirror resync' fills it)"),
        ("unknown", "it is not known which side is newer"),
        ("lost", "the other side was lost"),
    ];
    let found = told.iter().find(|(word, _)| words.contains(word));
    found.map_or("the other side takes no part", |(_, what)| what)
}

/// How a side stands that is only read, as far as its mount could see.
fn read_only(status: &Value) -> String {
    let partner = names::get(status, "partner").map_or_else(String::new, |path| names::shown_bytes(&path));
    let what = match status["stands"].as_str() {
        Some("both ahead") => {
            format!(
                "both sides went on alone, and {partner} has what is not here ('snapfs mirror resync --keep' brings them together)"
            )
        }
        Some("together") => format!("in sync with {partner} when it was mounted"),
        Some("ahead") => format!("it went on without {partner}, which is older"),
        Some("behind") => format!("it is older than {partner}, which went on without it"),
        _ => "its sides are not looked at".into(),
    };
    format!("mounted read-only: {what}")
}

/// How the sides are, for people.
fn told(status: &Value) -> String {
    let mut text = format!("state: {}\n", state(status));
    if let Some(newer) = names::get(status, "newer") {
        text += &format!("newer: {}\n", names::shown_bytes(&newer));
    }
    if let Some(limit) = status["limit_ms"].as_u64().filter(|_| status["mirrored"] == true) {
        text += &format!("timeout: {:?}\n", Duration::from_millis(limit));
    }
    if let Some(rate) = status["rate"].as_u64() {
        text += &format!("rate: {} a second at most\n", output::size(rate));
    }
    if let Some(why) = status["sync_failed"].as_str() {
        text += &format!("last sync failed: {why}\n");
    }
    for side in status["sides"].as_array().into_iter().flatten() {
        let path = names::get(side, "path").map(|path| names::shown_bytes(&path)).unwrap_or_default();
        let of = |key: &str| side[key].as_str().unwrap_or("-").to_owned();
        text += &format!("{path}  {}  generation {}", stands(status, side), of("generation"));
        if let Some(from) = side["parted_from"].as_str() {
            text += &format!(", parted from {from} at state {}", side["parted_at"]);
        }
        if let Some(since) = local(side, "parted_since") {
            text += &format!(" ({since})");
        }
        if let Some(why) = side["why"].as_str() {
            text += &format!(": {why}");
        }
        if side["pending_calls"].as_u64().unwrap_or(0) > 0 && side["state"] == "lost" {
            text += &format!(" ({} calls have not returned)", side["pending_calls"]);
        }
        text.push('\n');
    }
    text
}

fn local(object: &Value, key: &str) -> Option<String> {
    object[key].as_str().and_then(output::parse_rfc3339).map(output::local)
}

/// What a side does, how it stands to the other, and what it lacks.
fn stands(status: &Value, side: &Value) -> String {
    let (does, stands) = (side["state"].as_str().unwrap_or("-"), side["stands"].as_str().unwrap_or(""));
    let mut text = does.to_owned();
    let total = status["total_bytes"].as_u64().unwrap_or(0);
    if stands == "filling" && total > 0 {
        let done = status["done_bytes"].as_u64().unwrap_or(0);
        return format!("{does}, {} of {} are filled", output::size(done), output::size(total));
    }
    if !stands.is_empty() && stands != does {
        text += &format!(", {stands}");
    }
    if let Some(bytes) = side["lag_bytes"].as_u64() {
        let least = if side["lag_is_least"] == true { "at least " } else { "" };
        text += &format!(", lacks {least}{}", output::size(bytes));
    }
    if let Some(since) = local(side, "lag_since") {
        text += &format!(" since {since}");
    }
    text
}

fn verify(target: &Path, answer: &Value, json: bool) -> Result<(), Failure> {
    let of = |key: &str| -> Vec<u64> {
        answer[key].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
    };
    let (differing, tables) = (of("differing"), of("tables_differing"));
    if json {
        written(output::print_json(answer))?;
    } else {
        let compared = output::size(answer["compared_bytes"].as_u64().unwrap_or(0));
        let mut text = format!("{compared} compared, {} blocks differ\n", differing.len());
        for at in differing.iter().take(LISTED_MAX) {
            text += &format!("{at:#x}\n");
        }
        if !tables.is_empty() {
            text += &format!("{} blocks of superblocks and log differ\n", tables.len());
        }
        for at in tables.iter().take(LISTED_MAX) {
            text += &format!("{at:#x}\n");
        }
        written(output::print(&text))?;
    }
    let what = match (differing.is_empty(), tables.is_empty()) {
        (true, true) => return Ok(()),
        (false, _) => "the sides differ: 'snapfs scrub' proves both and heals the bad one",
        (true, false) => {
            "superblocks or log of the sides differ: they are made the same, from the side that proves them, when the store \
             is mounted the next time with both"
        }
    };
    Err(Failure::new(Code::Damaged, format!("{}: {what}", names::shown(target))))
}
