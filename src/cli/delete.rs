//! `delete`: snapshots by names, patterns and times, through the daemon; and waiting for the space of what was deleted.

use super::args::DeleteArgs;
use super::delete_order::{DeleteOrder, NO_ROOM_IN_TRASH, encode, told_no_room};
use super::output::{self, counted};
use super::served;
use super::snapshots::{daemon_for_changes, put_maker, written};
use super::usage;
use crate::ctl::{Client, Code, Failure};
use crate::names;
use crate::ops::NodeId;
use crate::sys::family::{self, signals};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// How soon it is looked whether space has come back, and then twice as long at a time, up to the other.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(2);
/// Who waits looks no more often than once in so many times of what an answer takes.
const ANSWERS_SHARE: u32 = 50;
/// After so long it is told that somebody reads what is waited for.
const TELL_OF_READERS: Duration = Duration::from_secs(1);
/// What ends the waiting and nothing else.
const ENDS: [i32; 2] = [signals::SIGINT, signals::SIGTERM];

pub(super) fn run(args: &DeleteArgs) -> Result<(), Failure> {
    if args.names.iter().any(|name| name.is_empty()) {
        return Err(usage::wrong("a name is empty"));
    }
    let client =
        if args.dry_run { served::connect(&args.target)? } else { daemon_for_changes(&args.target)? };
    let bytes = |word: &std::ffi::OsString| word.as_bytes().to_vec();
    let order = DeleteOrder {
        at: NodeId::ROOT,
        names: args.names.iter().map(bytes).collect(),
        before: args.before.as_ref().map(bytes),
        after: args.after.as_ref().map(bytes),
        dry_run: args.dry_run,
        now: args.now,
        is_waited_for: args.wait,
    };
    let mut request = encode(&order);
    put_maker(&mut request, None);
    let answer = client.call("delete_meant", request, &mut |_| {})?;
    let json = args.json.json;
    let list = |key: &str| answer[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let kept = list("kept").iter().map(|one| one["why"].as_str().unwrap_or_default());
    let missing = list("missing").iter().map(|one| one.as_str().unwrap_or_default());
    let stays: Vec<&str> = kept.chain(missing).collect();
    if args.dry_run && !json {
        written(output::print(&told(&answer)))?;
    }
    if json && !args.wait {
        written(output::print_json(&for_programs(&answer, args.dry_run)))?;
    }
    let no_room = names::get_list(&answer, NO_ROOM_IN_TRASH).unwrap_or_default();
    no_room.iter().for_each(|name| eprintln!("snapfs: {}", told_no_room(name)));
    if args.wait {
        wait(&client, json)?;
        if json {
            written(output::print(&format!("{}\n", for_programs(&answer, false))))?;
        }
    }
    // The last of the sentences is that of the failure.
    match stays.split_last() {
        None => Ok(()),
        Some((last, others)) => {
            others.iter().for_each(|what| eprintln!("snapfs: {}", names::sentence(what)));
            Err(Failure::new(Code::Busy, names::sentence(last)))
        }
    }
}

fn gone(answer: &Value) -> Vec<Vec<u8>> {
    names::get_list(answer, "deleted").unwrap_or_default()
}

/// A rehearsal for people.
fn told(answer: &Value) -> String {
    let gone = gone(answer);
    let mut out: String = gone.iter().map(|name| names::shown_bytes(name) + "\n").collect();
    let bytes = |key: &str| answer[key].as_u64().filter(|bytes| *bytes > 0).map(output::size);
    let what = counted(gone.len() as u64, "snapshot");
    if let Some(kept) = answer["in_trash"].as_u64() {
        let back = format!("{} come back when that is emptied, or at once with --now", output::size(kept));
        out += &format!("{what} would go into the trash, and {back}\n");
    } else if let Some(frees) = answer["frees"].as_u64() {
        out += &format!("{what} would go, and {} come back\n", output::size(frees));
    }
    if let Some(later) = bytes("frees_later") {
        out += &format!("{later} more when what is read or compared with is so no more\n");
    }
    if let Some(shared) = bytes("shared") {
        out += &format!("{shared} stay: other files share these blocks\n");
    }
    out
}

fn for_programs(answer: &Value, dry_run: bool) -> Value {
    let mut object = json!({"kept": answer["kept"], "missing": answer["missing"], "frees": answer["frees"]});
    for key in ["frees_later", "shared", "in_trash"] {
        if let Some(bytes) = answer[key].as_u64() {
            object[key] = bytes.into();
        }
    }
    if let Some(all) = names::get_list(answer, NO_ROOM_IN_TRASH) {
        let list: Vec<&OsStr> = all.iter().map(|name| OsStr::from_bytes(name)).collect();
        names::put_list(&mut object, NO_ROOM_IN_TRASH, &list);
    }
    let gone = gone(answer);
    let list: Vec<&OsStr> = gone.iter().map(|name| OsStr::from_bytes(name)).collect();
    names::put_list(&mut object, if dry_run { "would_delete" } else { "deleted" }, &list);
    object
}

/// How far it is, for people.
fn on_the_way(views: u64, bytes: u64, rate: u64, left: Option<u64>) -> String {
    let left = left.map(|left| format!(", {} left", output::duration(left))).unwrap_or_default();
    let (views, bytes, rate) = (counted(views, "snapshot"), output::size(bytes), output::size(rate));
    format!("{views} to go, {bytes} to come back, {rate}/s{left}")
}

/// Waits until nothing of what was ever deleted is still to be freed. A signal ends the waiting alone.
fn wait(client: &Client, json: bool) -> Result<(), Failure> {
    let held = family::hold_signals(&ENDS);
    let waited = look_on(client, json);
    if held.is_ok() {
        let _ = family::let_signals_come(&ENDS); // at worst they stay away from what is about to end
    }
    waited
}

fn why_not(state: &str) -> String {
    match state {
        "ok" => "what is left to be freed cannot be read (snapfs check)".into(),
        state => format!("the store is {state}"),
    }
}

/// How fast what is waited for comes back.
#[derive(Default)]
struct Rate {
    /// The most there was to come back, and when, as time since the beginning.
    most: (u64, Duration),
}

impl Rate {
    /// Bytes a second since there was most, when so much has passed and so many bytes are still to come; and how many seconds these take.
    fn look(&mut self, bytes: u64, passed: Duration) -> (u64, Option<u64>) {
        if bytes >= self.most.0 {
            self.most = (bytes, passed);
        }
        let (most, since) = self.most;
        let seconds = passed.saturating_sub(since).as_secs_f64();
        let rate = if seconds > 0.0 { ((most - bytes) as f64 / seconds) as u64 } else { 0 };
        (rate, bytes.checked_div(rate))
    }
}

fn look_on(client: &Client, json: bool) -> Result<(), Failure> {
    let is_shown = !json && io::stderr().is_terminal();
    let mut rate = Rate::default();
    let (mut last, mut pause) = (Value::Null, LOOK_AGAIN);
    let (began, mut is_told_of_readers) = (Instant::now(), false);
    let done = loop {
        let asked = Instant::now();
        let status = client.call("status", json!({}), &mut |_| {})?;
        let answered_in = asked.elapsed();
        let number = |key: &str| status[key].as_u64();
        let state = status["state"].as_str().unwrap_or_default();
        let (Some(views), Some(jobs), Some(bytes), "ok") =
            (number("deleting"), number("freeing_jobs"), number("freeing_bytes"), state)
        else {
            let what = format!("they are deleted, and their space does not come back: {}", why_not(state));
            break Err(Failure::new(Code::Io, what));
        };
        if views == 0 && jobs == 0 {
            if number("freeing_set_aside").is_some_and(|jobs| jobs > 0) {
                let what =
                    "they are deleted, and some of their space does not come back before the next mount";
                break Err(Failure::new(Code::Io, format!("{what}: {}", why_not(state))));
            }
            break Ok(());
        }
        let without_room = number("deleting_without_room").unwrap_or_default();
        if without_room > 0 && without_room == views && jobs == 0 {
            let what = "they are deleted, and some of their space comes back when there is more room for what that takes, or with \
                        the next mount";
            break Err(Failure::new(Code::Io, what));
        }
        let read = number("deleting_read").unwrap_or_default();
        let now =
            json!({"deleting": views, "deleting_read": read, "freeing_jobs": jobs, "freeing_bytes": bytes});
        if read > 0 && read == views && jobs == 0 && !is_told_of_readers && began.elapsed() >= TELL_OF_READERS
        {
            is_told_of_readers = true;
            let (what, is) = (counted(read, "deleted snapshot"), if read == 1 { "is" } else { "are" });
            let start = if is_shown && !last.is_null() { "\r\x1b[K" } else { "" };
            eprintln!(
                "{start}snapfs: waiting: {what} {is} in use still, by an open file or a working directory in it"
            );
        }
        let (rate, left) = rate.look(bytes, began.elapsed());
        if json && now != last {
            let mut line = now.clone();
            (line["rate_bytes"], line["eta_seconds"]) = (rate.into(), left.into());
            written(output::print(&format!("{line}\n")))?;
        } else if is_shown {
            let what = on_the_way(views, bytes, rate, left);
            // Who does not see it misses nothing that counts.
            let _ = write!(io::stderr().lock(), "\r{what}\x1b[K");
        }
        last = now;
        // The answer counts what is to come back, and is not what the daemon is there for.
        let pause_now = pause.max(answered_in * ANSWERS_SHARE).min(LOOK_AGAIN_MAX);
        if matches!(family::wait_signal(&ENDS, Some(pause_now)), Ok(Some(_))) {
            let what = "waited for no longer; it goes on in the background (snapfs status)";
            break Err(Failure::new(Code::Other, what));
        }
        pause = (2 * pause).min(LOOK_AGAIN_MAX);
    };
    if is_shown && !last.is_null() {
        eprintln!();
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_how_fast_it_goes_and_how_long_it_takes() {
        let mut rate = Rate::default();
        let mut look = |mib: u64, secs| rate.look(mib << 20, Duration::from_secs(secs));
        // What there is to come back is known once it is counted.
        assert_eq!((look(10, 1), look(100, 2)), ((0, None), (0, None)));
        assert_eq!((look(100, 3), look(80, 5)), ((0, None), (10 << 20, Some(8))));
        assert_eq!(look(0, 13), (10 << 20, Some(0)));
        let told = on_the_way(1, 80 << 20, 10 << 20, Some(8));
        assert_eq!(told, "1 snapshot to go, 80.0 MiB to come back, 10.0 MiB/s, 0:08 left");
        assert_eq!(on_the_way(2, 512, 0, None), "2 snapshots to go, 512 B to come back, 0 B/s");
    }
}
