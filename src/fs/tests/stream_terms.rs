//! What a stream waits for and holds: when an arrival goes, what it keeps, what is asked before anything comes, and by what
//! snapshots of a store are known that was one with another.

use super::streams::{same_tree, store};
use super::*;
use crate::device::mirror::{Present, open_sides, write_label};
use crate::device::{Device, Sim};
use crate::fixtures::together_label;
use crate::format::provenance::Provenance;
use crate::format::terms::Terms;
use crate::fs::{PurgeAsked, PurgeEnd, ReceiveOrder, ReceivedSnapshot, SendOrder, StreamError, parse_token};
use crate::volume::{Access, OpenOptions, VolumeError, newest_and_before};
use std::io::Read;

const HOUR: i64 = 3600 * 1_000_000_000;
const CUT: usize = 3 << 20;

fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| rng.u8(..)).collect()
}

/// A sender with two snapshots of some MiB each.
fn sender() -> T {
    let a = store(1);
    for (n, name) in ["one", "two"].into_iter().enumerate() {
        a.put(ROOT, &format!("f{n}"), &random(n as u64, 4 << 20));
        a.snapshot(name);
    }
    a
}

/// Bytes, and something that happens when so many were read.
struct Meanwhile<'m> {
    bytes: &'m [u8],
    at: usize,
    happens: Option<Box<dyn FnOnce() + 'm>>,
}

impl Read for Meanwhile<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.at == 0
            && let Some(happens) = self.happens.take()
        {
            happens();
        }
        let most = if self.at == 0 { out.len() } else { out.len().min(self.at) };
        let n = self.bytes.read(&mut out[..most])?;
        self.at = self.at.saturating_sub(n);
        Ok(n)
    }
}

type Received = std::result::Result<ReceivedSnapshot, StreamError>;

fn receive_while(b: &T, bytes: &[u8], as_line: Option<&str>, at: usize, happens: impl FnOnce()) -> Received {
    let mut input = Meanwhile { bytes, at, happens: Some(Box::new(happens)) };
    let order = ReceiveOrder { as_line: as_line.map(str::as_bytes), user: None };
    b.fs.receive(&mut input, &order, &mut |_, _| ())
}

/// The rest of a stream that was cut off.
fn rest(a: &T, b: &T, name: &str, from: Option<&str>) -> Vec<u8> {
    let (snapshot, base) = (a.named(name), from.map(|from| a.named(from)));
    let resume = parse_token(&b.fs.arrivals()[0].token());
    let order = SendOrder { snapshot: &snapshot, base: base.as_ref(), gone: None, resume };
    let mut stream = Vec::new();
    a.fs.send(&order, &mut stream, &mut |_| true).unwrap();
    stream
}

fn is_cut(done: Received) {
    assert!(matches!(done, Err(StreamError::Carrier(_))), "{done:?}");
}

/// So many hours in which clones are looked at.
fn hours(t: &T, n: u32) {
    for _ in 0..n {
        t.clock.advance(HOUR);
        t.fs.drop_ended_clones();
    }
}

/// What has waited too long, as it is found when clones are looked at.
fn ended(t: &T) -> Vec<(crate::volume::LineRecord, &'static str)> {
    for _ in 0..9 * 24 {
        t.clock.advance(HOUR);
        let ended = t.fs.past.ended_clones();
        if !ended.is_empty() {
            return ended;
        }
    }
    panic!("nothing has ended");
}

#[test]
fn what_is_gone_on_with_or_received_does_not_go_though_it_had_ended() {
    let (a, b) = (sender(), store(2));
    b.put(ROOT, "own", b"mine");
    let one = a.send("one", None).0;
    // It was found to have ended, and is a clone when its turn comes.
    is_cut(b.receive(&one[..CUT]));
    let found = ended(&b);
    let got = b.receive(&rest(&a, &b, "one", None)).unwrap();
    found.iter().for_each(|(line, why)| b.fs.past.drop_ended(line, why));
    assert_eq!(b.list(NodeId::clonedir(0)), ["one"]);
    same_tree((&a, &a.named("one")), (&b, &got.snapshot), "one");
    // Or somebody goes on with it.
    let got = b.fs.drop_clone(b"one").map(|()| is_cut(b.receive(&one[..CUT])));
    got.unwrap();
    let (found, more) = (ended(&b), rest(&a, &b, "one", None));
    let drop_it = || found.iter().for_each(|(line, why)| b.fs.past.drop_ended(line, why));
    let got = receive_while(&b, &more, None, 1 << 19, drop_it).unwrap();
    same_tree((&a, &a.named("one")), (&b, &got.snapshot), "gone on with");
    // Or somebody had gone on with it, and it waits anew.
    b.fs.drop_clone(b"one").unwrap();
    is_cut(b.receive(&one[..CUT]));
    let (found, more) = (ended(&b), rest(&a, &b, "one", None));
    is_cut(b.receive(&more[..800 << 10]));
    found.iter().for_each(|(line, why)| b.fs.past.drop_ended(line, why));
    assert_eq!(b.fs.arrivals().len(), 1);
    // In the end it goes.
    hours(&b, 8 * 24);
    assert!(b.fs.arrivals().is_empty());
    b.fs.commit().unwrap();
    b.prove();
}

#[test]
fn what_comes_does_not_end_whatever_the_time_of_day_is_set_to() {
    let a = sender();
    let one = a.send("one", None).0;
    let day = 24 * HOUR;
    for set in [20 * day, -20 * day, 0] {
        let b = store(2);
        let in_the_middle = || {
            b.clock.set(set);
            // Nothing comes for that long.
            hours(&b, 9 * 24);
        };
        let mut input =
            Meanwhile { bytes: &one[..one.len() - 9], at: CUT, happens: Some(Box::new(in_the_middle)) };
        is_cut(b.fs.receive(&mut input, &ReceiveOrder::default(), &mut |_, _| ()));
        // From what came last on it waits for a week.
        assert_eq!(b.fs.arrivals().len(), 1, "set by {set}");
        hours(&b, 5 * 24);
        assert_eq!(b.fs.arrivals().len(), 1, "set by {set}");
        hours(&b, 4 * 24);
        assert!(b.fs.arrivals().is_empty(), "set by {set}");
    }
}

#[test]
fn what_a_stream_is_told_against_stays_until_it_is_there() {
    let (a, b) = (sender(), store(2));
    b.receive(&a.send("one", None).0).unwrap();
    let two = a.send("two", Some("one")).0;
    let kept = || assert_eq!(b.fs.delete_snapshot(b"one"), Err(Error::Busy));
    is_cut(receive_while(&b, &two[..CUT], None, 1 << 20, kept));
    kept();
    let arrival = b.fs.arrivals().remove(0);
    assert!(b.fs.drop_arrival(arrival.record.begin.stream()).unwrap());
    is_cut(b.receive(&two[..CUT]));
    let got = receive_while(&b, &rest(&a, &b, "two", Some("one")), None, 1 << 19, kept).unwrap();
    same_tree((&a, &a.named("two")), (&b, &got.snapshot), "two");
    b.fs.delete_snapshot(b"one").unwrap();
    // So does a clone that has it.
    let c = store(3);
    c.put(ROOT, "own", b"mine");
    c.receive(&a.send("one", None).0).unwrap();
    is_cut(c.receive(&two[..CUT]));
    assert_eq!(c.fs.drop_clone(b"one"), Err(Error::Busy));
    c.receive(&rest(&a, &c, "two", Some("one"))).unwrap();
    c.fs.drop_clone(b"one").unwrap();
    for t in [&b, &c] {
        t.fs.commit().unwrap();
        t.prove();
    }
}

/// Who asked whether a snapshot may go before somebody began to receive against it: what carries it out asks again.
#[test]
fn what_is_told_against_a_snapshot_begins_before_it_goes_or_not_at_all() {
    let (a, b) = (sender(), store(2));
    b.put(ROOT, "own", b"mine");
    b.fs.setxattr(&SUPER, ROOT, b"user.snapfs.trash", b"1h", XattrMode::Set).unwrap();
    let got = b.receive(&a.send("one", None).0).unwrap().snapshot;
    let (volume, line) = (b.fs.volume(), got.line);
    let begin = |from| {
        let terms = Terms::default();
        volume.begin_receiving(b".receiving-x", Some(from), (0, 0), terms, &Provenance::default())
    };
    let arrival = begin(got.id).unwrap();
    let by = Provenance::default();
    let held = |done: std::result::Result<(), VolumeError>| assert!(matches!(done, Err(VolumeError::Held)));
    held(volume.delete_snapshot(line, got.id));
    held(volume.delete_snapshots(line, &[got.id]).unwrap().remove(0));
    let age = volume.age();
    let new = crate::volume::NewTrash { since_secs: 0, age, after: 9, by: &by };
    held(volume.trash_snapshots(line, &[got.id], &new).unwrap().remove(0));
    held(volume.trash_line(line, &new, &mut |_| Ok(())).map(drop));
    held(volume.drop_line(line));
    volume.drop_line(arrival.id).unwrap();
    // In the trash it is nothing to begin with.
    b.fs.discard_clone(b"one", &by).unwrap();
    assert!(matches!(begin(got.id), Err(VolumeError::NoSuchView)));
    b.fs.commit().unwrap();
    b.prove();
}

#[test]
fn a_copy_that_content_was_purged_from_is_no_copy_of_what_comes() {
    let sim = Arc::new(Sim::new(64 << 20, 1));
    Volume::create(sim.clone(), 64 << 20, [2; 16], (0, 0)).unwrap();
    let (a, b) = (sender(), opened(sim));
    let one = a.send("one", None).0;
    let got = b.receive(&one).unwrap().snapshot;
    assert!(b.receive(&one).unwrap().was_here);
    let node = b.find(ROOT, "f0").unwrap();
    b.rm(ROOT, "f0");
    b.fs.forget(node);
    b.fs.commit().unwrap();
    let asked = PurgeAsked { path: b"f0".to_vec(), snapshots: vec![got.id], all: false, dry_run: false };
    assert!(matches!(b.fs.purge(&asked), Ok(PurgeEnd::Purged(..))));
    let snapshot = a.named("one");
    let order = SendOrder { snapshot: &snapshot, base: None, gone: None, resume: None };
    let begin = a.fs.stream_begin(&order).unwrap();
    let offered = b.fs.offer(&begin, &ReceiveOrder::default()).map(|()| false);
    for done in [offered, b.receive(&one).map(|got| got.was_here)] {
        assert!(matches!(&done, Err(StreamError::Refused(why)) if why.contains("purged")), "{done:?}");
    }
    // Without it all of it comes.
    b.fs.delete_snapshot(b"one").unwrap();
    let got = b.receive(&one).unwrap();
    same_tree((&a, &a.named("one")), (&b, &got.snapshot), "anew");
    b.prove();
}

#[test]
fn what_cannot_be_in_the_end_is_refused_before_anything_comes() {
    let (a, b) = (sender(), store(2));
    b.put(ROOT, "own", b"mine");
    let one = a.send("one", None).0;
    let refused = |b: &T, stream: &[u8], as_line: Option<&str>| {
        let order = ReceiveOrder { as_line: as_line.map(str::as_bytes), user: None };
        // Of the changes there is nothing to be read.
        let len = 32 + u32::from_le_bytes(stream[12..16].try_into().unwrap()) as usize;
        let lines = b.fs.volume().lines().len();
        let done = b.fs.receive(&mut &stream[..len], &order, &mut |_, _| ());
        assert_eq!(b.fs.volume().lines().len(), lines);
        match done {
            Err(StreamError::Refused(why)) => why,
            other => panic!("{as_line:?}: {other:?}"),
        }
    };
    let long = "x".repeat(256);
    for name in ["a/b", ".x", "@x", "", &long] {
        let why = refused(&b, &one, Some(name));
        assert!(why.contains("no name for one"), "{name}: {why}");
    }
    // An automatic name is no clone's.
    a.fs.create_guard_of(ROOT, &crate::fs::Reason::Rollback.into()).unwrap();
    let guard = a.fs.snapshots().pop().unwrap();
    let order = SendOrder { snapshot: &guard, base: None, gone: None, resume: None };
    let mut stream = Vec::new();
    a.fs.send(&order, &mut stream, &mut |_| true).unwrap();
    let why = refused(&b, &stream, None);
    assert!(why.contains("--as NAME"), "{why}");
    // There are as many clones as there may be.
    b.fs.create_clone(ROOT, b"only", None, &Default::default()).unwrap();
    b.fs.setxattr(&SUPER, ROOT, b"user.snapfs.clones_max", b"1", XattrMode::Set).unwrap();
    assert!(refused(&b, &one, Some("x")).contains("clones_max"));
    b.fs.removexattr(&SUPER, ROOT, b"user.snapfs.clones_max").unwrap();
    // Names that go round: what it is told against has the name here.
    let c = store(3);
    c.receive(&one).unwrap();
    a.fs.rename_snapshot(b"one", b"one.1").unwrap();
    a.fs.rename_snapshot(b"two", b"one").unwrap();
    let two = a.send("one", Some("one.1")).0;
    for as_line in [None, Some("x")] {
        let why = refused(&c, &two, as_line);
        assert!(why.contains("rename that first") && !why.contains("--as"), "{why}");
    }
    c.fs.rename_snapshot(b"one", b"one.1").unwrap();
    let got = c.receive(&two).unwrap();
    same_tree((&a, &a.named("one")), (&c, &got.snapshot), "one");
    c.fs.commit().unwrap();
    c.prove();
}

#[test]
fn what_came_of_a_snapshot_that_is_here_goes() {
    let (a, b) = (sender(), store(2));
    b.receive(&a.send("one", None).0).unwrap();
    // All of it was on its way, as a clone, and then what differs comes.
    let all = a.send("two", None).0;
    let order = ReceiveOrder { as_line: Some(b"other"), user: None };
    is_cut(b.fs.receive(&mut &all[..CUT], &order, &mut |_, _| ()));
    assert_eq!(b.fs.arrivals().len(), 1);
    let more = a.send("two", Some("one")).0;
    // One at a time.
    let at_once = || {
        let why = b.fs.receive(&mut &all[..], &order, &mut |_, _| ());
        assert!(matches!(why, Err(StreamError::Refused(_))), "{why:?}");
    };
    receive_while(&b, &more, None, 1 << 20, at_once).unwrap();
    assert!(b.fs.arrivals().is_empty());
    assert!(b.receive(&all).unwrap().was_here);
    assert_eq!(b.fs.volume().lines().len(), 1);
    b.fs.commit().unwrap();
    b.prove();
}

/// Two disks with the image of one, as sides of a mirror.
fn sides(image: &Sim) -> [Arc<Sim>; 2] {
    [1, 2].map(|side| {
        let disk = image.clone_image();
        write_label(&disk, &together_label(side)).unwrap();
        Arc::new(disk)
    })
}

fn opened(device: Arc<dyn Device>) -> T {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 4 << 20 };
    T::on(Volume::open(device, options).unwrap(), FsOptions::default())
}

#[test]
fn halves_of_a_mirror_know_each_other_s_snapshots() {
    let image = Arc::new(Sim::new(1 << 30, 1));
    Volume::create(image.clone(), 1 << 30, [1; 16], (0, 0)).unwrap();
    let t = opened(image.clone());
    t.put(ROOT, "f", &random(1, 90_000));
    t.snapshot("one");
    t.fs.close().unwrap();
    let disks = sides(&image);
    let [first, second] = disks.clone().map(|disk| {
        let (newest, before) = newest_and_before(&*disk).unwrap();
        Present::read(disk, (newest.epoch.0, before.0), 0).unwrap()
    });
    let mirror = Arc::new(open_sides(first, Some(second), false, 7).unwrap().mirror);
    let a = opened(mirror.clone());
    a.clock.advance(HOUR);
    a.put(ROOT, "g", b"together");
    a.snapshot("two");
    a.fs.commit().unwrap();
    let r = store(9);
    r.receive(&a.send("one", None).0).unwrap();
    r.receive(&a.send("two", Some("one")).0).unwrap();
    a.fs.volume().split(&mirror, [3; 16]).unwrap();
    let second = Present::read(disks[1].clone(), (0, 0), 0).unwrap();
    let b = opened(Arc::new(open_sides(second, None, false, 8).unwrap().mirror));
    assert_ne!(a.fs.volume().uuid(), b.fs.volume().uuid());
    for name in ["one", "two"] {
        same_tree((&a, &a.named(name)), (&b, &b.named(name)), name);
    }
    // Both go on, and what each makes is its own.
    a.clock.advance(HOUR);
    b.clock.advance(HOUR + 1);
    for (t, name) in [(&a, "left"), (&b, "right")] {
        t.put(ROOT, name, name.as_bytes());
        t.snapshot(name);
    }
    let [left, right] =
        [(&a, "left"), (&b, "right")].map(|(t, name)| t.fs.volume().identity(t.named(name).id));
    assert_ne!(left, right);
    // What differs goes from either to the other, and from either to where the past of both is.
    let order = ReceiveOrder { as_line: Some(b"theirs"), user: None };
    let one_way = b.fs.receive(&mut &a.send("left", Some("two")).0[..], &order, &mut |_, _| ()).unwrap();
    same_tree((&a, &a.named("left")), (&b, &one_way.snapshot), "left");
    let other = a.fs.receive(&mut &b.send("right", Some("two")).0[..], &order, &mut |_, _| ()).unwrap();
    same_tree((&b, &b.named("right")), (&a, &other.snapshot), "right");
    let got = r.receive(&b.send("right", Some("two")).0).unwrap();
    same_tree((&b, &b.named("right")), (&r, &got.snapshot), "right in the third");
}
