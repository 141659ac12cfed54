//! Streams: what comes out at the other end equals what was sent, in whole and in parts; what is cut, damaged or hostile
//! changes nothing; what is refused says why.

use super::stream_changes::{clone_of, history, oddities, some_change};
use super::*;
use crate::device::Memory;
use crate::format::inode::Inode;
use crate::format::{Ino, Key, Kind, LineId};
use crate::fs::items::{decode_extent, read_blocks};
use crate::fs::{ReceiveOrder, ReceivedSnapshot, SendOrder, SentStream, StreamError, parse_token};
use crate::volume::{Access, NothingAbove, OpenOptions, SnapshotInfo, View};
use std::collections::{BTreeMap, BTreeSet};

/// A file system on a store with an identity of its own.
pub(super) fn store(uuid: u8) -> T {
    let device = Arc::new(Memory::new(1 << 40));
    Volume::create(device.clone(), 1 << 40, [uuid; 16], (0, 0)).unwrap();
    let volume =
        Volume::open(device, OpenOptions { access: Access::ReadWrite, cache_bytes: 4 << 20 }).unwrap();
    volume.recover(&mut NothingAbove);
    volume.commit(&mut |_| Ok(())).unwrap();
    T::on(volume, FsOptions::default())
}

impl T {
    pub(super) fn named(&self, name: &str) -> SnapshotInfo {
        self.fs.snapshots().into_iter().find(|s| s.name == name.as_bytes()).unwrap()
    }
    pub(super) fn send(&self, name: &str, from: Option<&str>) -> (Vec<u8>, SentStream) {
        self.send_of(&self.named(name), from.map(|from| self.named(from)).as_ref())
    }
    /// The same of snapshots of any line.
    fn send_of(&self, snapshot: &SnapshotInfo, base: Option<&SnapshotInfo>) -> (Vec<u8>, SentStream) {
        let mut out = Vec::new();
        let order = SendOrder { snapshot, base, gone: None, resume: None };
        let told = self.fs.send(&order, &mut out, &mut |_| true).unwrap();
        assert_eq!(told.bytes, out.len() as u64);
        (out, told)
    }
    pub(super) fn receive(&self, mut stream: &[u8]) -> std::result::Result<ReceivedSnapshot, StreamError> {
        self.fs.receive(&mut stream, &ReceiveOrder::default(), &mut |_, _| ())
    }
    pub(super) fn view_in(&self, info: &SnapshotInfo) -> Arc<View> {
        self.fs.volume().snapshot(info.id).unwrap()
    }
}

/// All that somebody can see of a view, whatever store it is in: items as they are, content block by block.
pub(super) fn seen(view: &View) -> BTreeMap<(u64, u8, u64), Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut files = Vec::new();
    for item in view.range(&Key::MIN, &Key::MAX) {
        let (key, value) = item.unwrap();
        let place = (key.object, key.kind, key.rest);
        match Kind::from_u8(key.kind).unwrap() {
            Kind::Inode => {
                let inode = Inode::decode(&value).unwrap();
                files.push((Ino(key.object), inode));
                all.insert(place, value.to_vec());
            }
            Kind::Extent => {
                let (at, extent) = decode_extent(&key, &value).unwrap();
                for block in 0..extent.len_bytes() / 4096 {
                    let mut content = vec![0; 4096];
                    view.read_extent(&extent, block * 4096, &mut content).unwrap();
                    let kind = u8::from(extent.is_unwritten());
                    content.push(kind);
                    all.insert((key.object, key.kind, at + block * 4096), content);
                }
            }
            // Which files may have content that has to come home is each store's own.
            Kind::Away => {}
            _ => drop(all.insert(place, value.to_vec())),
        }
    }
    // Inodes without a name are nobody's to see.
    for (ino, _) in files.iter().filter(|(_, inode)| inode.nlink == 0) {
        all.retain(|(object, ..), _| *object != ino.0);
    }
    // Nor what tells that one is to be purged, which outlives the inode itself.
    all.retain(|(_, kind, _), _| *kind != Kind::Orphan as u8);
    // As programs read it.
    for (ino, inode) in
        files.into_iter().filter(|(_, inode)| inode.kind == FileType::Regular && inode.nlink > 0)
    {
        let mut content = vec![0; inode.size.min(1 << 20).next_multiple_of(4096) as usize];
        read_blocks(view, ino, &inode, 0, &mut content, |_| false).unwrap();
        all.insert((ino.0, 200, 0), content);
    }
    all
}

pub(super) fn same_tree(a: (&T, &SnapshotInfo), b: (&T, &SnapshotInfo), what: &str) {
    let (left, right) = (seen(&a.0.view_in(a.1)), seen(&b.0.view_in(b.1)));
    if left != right {
        let differs = left.iter().filter(|(k, v)| right.get(k) != Some(v)).map(|(k, _)| *k);
        let more = right.keys().filter(|k| !left.contains_key(k)).copied();
        panic!("{what}: {:?}", differs.chain(more).take(20).collect::<Vec<_>>());
    }
    assert_eq!(
        (&a.1.name, a.1.created, a.1.consistency, &a.1.provenance),
        (&b.1.name, b.1.created, b.1.consistency, &b.1.provenance),
        "{what}"
    );
    assert_eq!(a.0.fs.digest_of(a.1).unwrap(), b.0.fs.digest_of(b.1).unwrap(), "{what}");
    let [one, other] = [a, b].map(|(t, s)| t.fs.volume().identity(s.id));
    assert_eq!(one, other, "{what}");
}

/// How many histories the property test runs.
fn histories() -> u64 {
    std::env::var("SNAPFS_STREAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000)
}

/// Sends a clone of a snapshot that both have, and what becomes of it.
fn a_clone_beside((a, b): (&T, &T), of: &str, rng: &mut fastrand::Rng, what: &str) {
    let (line, names) = clone_of(a, of, rng, 10);
    let mut base = a.named(of);
    for (n, name) in names.iter().enumerate() {
        let snapshot = a.fs.volume().find_snapshot(line, name.as_bytes()).unwrap();
        let stream = a.send_of(&snapshot, Some(&base)).0;
        let got = if n == 0 { b.receive_as(&stream, "c") } else { b.receive(&stream) };
        let got = got.unwrap_or_else(|e| panic!("{what}, {name}: {e}"));
        assert!(!got.was_here && got.line == b"c");
        same_tree((a, &snapshot), (b, &got.snapshot), &format!("{what}, {name}"));
        base = snapshot;
    }
}

#[test]
fn what_is_received_equals_what_was_sent_snapshot_by_snapshot() {
    let (mut odd, mut rollbacks, mut came_home) = (BTreeSet::new(), 0, 0);
    for seed in 0..histories() {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (a, b) = (store(1), store(2));
        if seed % 3 == 0 {
            // Otherwise few files have the layout for long enough to go home.
            a.fs.setxattr(&SUPER, ROOT, b"user.snapfs.layout", b"cow", XattrMode::Set).unwrap();
        }
        let names = history(&a, &mut rng, 3, 14);
        let mut before: Option<String> = None;
        for (n, name) in names.iter().enumerate() {
            let (stream, _) = a.send(name, before.as_deref());
            let got = b.receive(&stream).unwrap_or_else(|e| panic!("seed {seed}, {name}: {e}"));
            assert!(!got.was_here && got.line.is_empty());
            same_tree((&a, &a.named(name)), (&b, &got.snapshot), &format!("seed {seed}, {name}"));
            before = Some(name.clone());
            if b.fs.volume().knows_homes() && rng.bool() {
                // What has come goes home there, more or less of it, before the next comes.
                b.fs.commit().unwrap();
                for _ in 0..rng.u8(1..6) {
                    came_home += b.fs.bring_content_home(rng.u64(1..80) * 4096).unwrap().moved;
                }
            }
            if n == 1 && seed % 4 == 0 {
                a_clone_beside((&a, &b), &names[rng.usize(..2)], &mut rng, &format!("seed {seed}"));
            }
        }
        rollbacks += a.fs.snapshots().iter().filter(|s| s.name.starts_with(b"@before-rollback")).count();
        if seed % 20 == 0 {
            odd.extend(names.iter().flat_map(|name| oddities(&a.view_in(&a.named(name)))));
            // What is told of all at once is the same; and so is what goes the other way.
            let c = store(3);
            let whole = c.receive(&a.send("s2", None).0).unwrap();
            same_tree((&a, &a.named("s2")), (&c, &whole.snapshot), &format!("seed {seed}, whole"));
            b.put(ROOT, "from the copy", &vec![rng.u8(1..); rng.usize(1..90_000)]);
            b.snapshot("back");
            let back = a.receive(&b.send("back", Some("s2")).0);
            match back {
                Ok(got) => same_tree((&b, &b.named("back")), (&a, &got.snapshot), "back"),
                Err(e) => assert!(matches!(e, StreamError::Refused(_)), "seed {seed}: {e}"),
            }
            [&a, &b, &c].into_iter().for_each(|t| {
                t.fs.commit().unwrap();
                t.prove();
            });
        }
    }
    if histories() >= 2000 {
        assert!(odd.len() == 9 && rollbacks > 200 && came_home > 0, "{odd:?}, {rollbacks}, {came_home}");
    }
}

#[test]
fn a_stream_that_is_cut_off_anywhere_goes_on_there() {
    let mut rng = fastrand::Rng::with_seed(7);
    let a = store(1);
    for (name, file) in [("one", "big"), ("two", "bigger")] {
        let bytes: Vec<u8> = (0..3 << 20).map(|_| rng.u8(..)).collect();
        (0..60).for_each(|_| some_change(&a, &mut rng));
        a.put(ROOT, file, &bytes);
        a.snapshot(name);
    }
    let b = store(2);
    for (name, base) in [("one", None), ("two", Some("one"))] {
        let (stream, told) = a.send(name, base);
        assert!(told.packets > 5, "{told:?}");
        // Each try brings one packet more.
        let mut tries = 0;
        let mut token = None;
        let got = loop {
            let (snapshot, base) = (a.named(name), base.map(|base| a.named(base)));
            let order = SendOrder { snapshot: &snapshot, base: base.as_ref(), gone: None, resume: token };
            let mut rest = Vec::new();
            a.fs.send(&order, &mut rest, &mut |_| true).unwrap();
            assert!(tries > 0 || rest == stream);
            let mut ends = vec![0];
            while *ends.last().unwrap() < rest.len() {
                let at = *ends.last().unwrap();
                let len = u32::from_le_bytes(rest[at + 12..at + 16].try_into().unwrap()) as usize;
                ends.push(at + 32 + len);
            }
            let whole = ends.len() == 3;
            let cut = if whole { rest.len() } else { ends[2] + rng.usize(..ends[3] - ends[2]) };
            match b.receive(&rest[..cut]) {
                Ok(got) if whole => break got,
                Ok(_) => panic!("it is not whole"),
                Err(StreamError::Carrier(_)) => {}
                Err(e) => panic!("{e}"),
            }
            assert!(b.fs.volume().find_identity(a.fs.volume().identity(snapshot.id).unwrap()).is_none());
            let arrivals = b.fs.arrivals();
            assert_eq!(arrivals.len(), 1);
            token = parse_token(&arrivals[0].token());
            assert!(!arrivals[0].is_active && token.is_some_and(|(_, next)| next == tries + 2));
            tries += 1;
            if tries % 3 == 0 {
                b.fs.commit().unwrap();
                b.prove();
            }
        };
        assert_eq!(tries + 2, told.packets);
        same_tree((&a, &a.named(name)), (&b, &got.snapshot), name);
        assert!(b.fs.arrivals().is_empty());
        // Once more does nothing.
        assert!(b.receive(&stream).unwrap().was_here);
    }
    b.fs.commit().unwrap();
    b.prove();
}

/// The packets of a stream, and where each begins.
fn packets_of(stream: &[u8]) -> Vec<(usize, &[u8])> {
    let (mut packets, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        let len = 32 + u32::from_le_bytes(stream[at + 12..at + 16].try_into().unwrap()) as usize;
        packets.push((at, &stream[at..at + len]));
        at += len;
    }
    packets
}

/// A stream that was damaged somehow, and the number of the first packet that is not as it was.
struct Damaged {
    what: String,
    bytes: Vec<u8>,
    packet: usize,
}

/// Many of them. `foreign` is another stream.
fn damaged(stream: &[u8], foreign: &[u8], rng: &mut fastrand::Rng) -> Vec<Damaged> {
    let (packets, others) = (packets_of(stream), packets_of(foreign));
    let holder = |at: usize| packets.iter().rposition(|(begin, _)| *begin <= at).unwrap();
    let joined = |all: &[(usize, &[u8])]| all.iter().flat_map(|(_, packet)| packet.to_vec()).collect();
    let mut all = Vec::new();
    let mut put = |what: String, bytes: Vec<u8>, packet| all.push(Damaged { what, bytes, packet });
    for _ in 0..200 {
        let (at, bit) = (rng.usize(..stream.len()), rng.u8(..8));
        let mut bytes = stream.to_vec();
        bytes[at] ^= 1 << bit;
        put(format!("bit {bit} of {at}"), bytes, holder(at));
    }
    for _ in 0..30 {
        let at = rng.usize(..stream.len());
        put(format!("cut at {at}"), stream[..at].to_vec(), holder(at));
        let (i, j) = (rng.usize(..packets.len()), rng.usize(..packets.len()));
        let mut swapped = packets.clone();
        swapped.swap(i, j);
        if i != j {
            put(format!("{i} and {j} swapped"), joined(&swapped), i.min(j));
        }
        let mut twice = packets.clone();
        twice.insert(i, packets[i]);
        if i + 1 < packets.len() {
            put(format!("{i} twice"), joined(&twice), i + 1);
        }
        let mut less = packets.clone();
        less.remove(i);
        put(format!("without {i}"), joined(&less), i);
        let mut mixed = packets.clone();
        if let Some(other) = others.get(i).filter(|_| i > 0) {
            mixed[i] = *other;
            put(format!("{i} of another stream"), joined(&mixed), i);
        }
    }
    all
}

#[test]
fn a_damaged_stream_changes_nothing_and_says_where() {
    let mut rng = fastrand::Rng::with_seed(9);
    let a = store(1);
    for name in ["one", "two"] {
        (0..50).for_each(|_| some_change(&a, &mut rng));
        // Of several packets in any case.
        a.put(ROOT, name, &crate::fixtures::bytes(1, 3 << 20));
        a.snapshot(name);
    }
    let (one, two) = (a.send("one", None).0, a.send("two", Some("one")).0);
    for (stream, foreign, has_base) in [(&one, &two, false), (&two, &one, true)] {
        let b = store(2);
        if has_base {
            b.receive(&one).unwrap();
        } else {
            b.put(ROOT, "own", b"here");
        }
        b.fs.commit().unwrap();
        let live = || seen(&b.fs.volume().live(LineId::MAIN).unwrap());
        let (before, snapshots) = (live(), b.fs.snapshots().len());
        let packets = packets_of(stream);
        assert!(packets.len() > 4);
        for Damaged { what, bytes, packet } in damaged(stream, foreign, &mut rng) {
            let begin = packets[packet].0 as u64;
            match b.receive(&bytes) {
                Err(StreamError::Bad(number, at, why)) => {
                    assert_eq!((number, at), (packet as u64, begin), "{what}: {why}");
                    assert!(!why.is_empty());
                }
                // It ends in the header of that packet, or behind it.
                Err(StreamError::Carrier(e)) => {
                    let ends = [begin, begin + 32];
                    let told =
                        ends.map(|at| format!("it ends in packet {packet}, {at} bytes from its beginning"));
                    assert!(told.contains(&e.to_string()), "{what}: {e}");
                }
                other => panic!("{what}: {other:?}"),
            }
            for arrival in b.fs.arrivals() {
                assert!(b.fs.drop_arrival(arrival.record.begin.stream()).unwrap());
            }
            assert_eq!(b.fs.snapshots().len(), snapshots, "{what}");
            assert_eq!(b.fs.volume().lines().len(), 1, "{what}");
        }
        assert!(live() == before);
        // A packet behind the end is never read.
        let got = b.receive(&[&stream[..], packets.last().unwrap().1].concat()).unwrap();
        let name = if has_base { "two" } else { "one" };
        same_tree((&a, &a.named(name)), (&b, &got.snapshot), name);
        b.fs.commit().unwrap();
        b.prove();
    }
}

impl T {
    fn receive_as(&self, stream: &[u8], name: &str) -> std::result::Result<ReceivedSnapshot, StreamError> {
        let order = ReceiveOrder { as_line: Some(name.as_bytes()), user: None };
        self.fs.receive(&mut &stream[..], &order, &mut |_, _| ())
    }
    fn refused(&self, stream: &[u8]) -> String {
        match self.receive(stream) {
            Err(StreamError::Refused(why)) => why,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_increment_costs_what_has_changed() {
    let (a, b) = (store(1), store(2));
    let mut rng = fastrand::Rng::with_seed(1);
    let mut random = |len: usize| (0..len).map(|_| rng.u8(..)).collect::<Vec<u8>>();
    let image = a.put(ROOT, "image", &random(64 << 20));
    let d = a.mkdir(ROOT, "d").unwrap();
    for n in 0..2000 {
        a.put(d, &format!("file-{n}"), &[n as u8; 100]);
    }
    a.snapshot("one");
    b.receive(&a.send("one", None).0).unwrap();
    let handle = a.open(image, RW);
    let mut changed = 0;
    for n in 0..500 {
        a.write(handle, (n * 7919 % 16384) * 4096, &random(4096));
        changed += 4096;
    }
    a.fs.release(handle.0, handle.1);
    let new = random(1 << 20);
    a.put(d, "new", &new);
    changed += new.len() as u64;
    a.snapshot("two");
    let (stream, told) = a.send("two", Some("one"));
    let bytes = stream.len() as u64;
    assert!(told.content_bytes == changed, "{told:?}, {changed} changed");
    assert!(bytes <= changed + changed / 10, "{bytes} bytes for {changed}");
    let reads = a.fs.volume().io().read_bytes;
    let _ = a.send("two", Some("one"));
    let read = a.fs.volume().io().read_bytes - reads;
    assert!(read <= 2 * changed, "{read} bytes read for {changed}");
    let got = b.receive(&stream).unwrap();
    same_tree((&a, &a.named("two")), (&b, &got.snapshot), "two");
    // Sharing that only a scan would find goes as content; sharing inside of one stream, and what the base loses, does not.
    let file = a.open(image, RO);
    let copy = a.create(ROOT, "copy");
    a.fs.copy_range(&SUPER, image, file.1, 0, copy.0, copy.1, 0, 1 << 20).unwrap();
    let twice = a.create(ROOT, "twice");
    a.fs.copy_range(&SUPER, image, file.1, 0, twice.0, twice.1, 1 << 20, 1 << 20).unwrap();
    a.fs.unlink(&SUPER, d, b"new").unwrap();
    a.snapshot("three");
    let (stream, told) = a.send("three", Some("two"));
    assert_eq!((told.content_bytes, told.shared_bytes), (1 << 20, 1 << 20));
    let got = b.receive(&stream).unwrap();
    same_tree((&a, &a.named("three")), (&b, &got.snapshot), "three");
    let node = a.find(ROOT, "copy").unwrap();
    let (from, to) = (a.open(node, RO), a.create(d, "moved"));
    a.fs.copy_range(&SUPER, node, from.1, 0, to.0, to.1, 0, 1 << 20).unwrap();
    [from, to, file, copy, twice].into_iter().for_each(|(node, handle)| a.fs.release(node, handle));
    a.fs.unlink(&SUPER, ROOT, b"copy").unwrap();
    a.fs.forget(node);
    a.snapshot("four");
    let (stream, told) = a.send("four", Some("three"));
    assert_eq!(told.content_bytes, 0, "it is in what the base loses: {told:?}");
    let got = b.receive(&stream).unwrap();
    same_tree((&a, &a.named("four")), (&b, &got.snapshot), "four");
    b.fs.commit().unwrap();
    b.prove();
}

#[test]
fn bases_are_found_by_what_they_are() {
    let (a, b) = (store(1), store(2));
    for (n, name) in ["one", "two", "three"].into_iter().enumerate() {
        a.put(ROOT, &format!("f{n}"), &vec![n as u8 + 1; 50_000]);
        a.clock.advance(1_000_000_000);
        a.snapshot(name);
    }
    let (one, two, three) =
        (a.send("one", None).0, a.send("two", Some("one")).0, a.send("three", Some("two")).0);
    let why = b.refused(&two);
    assert!(why.contains("'one'") && why.contains("no older snapshot of its line is here"), "{why}");
    b.receive(&one).unwrap();
    let why = b.refused(&three);
    assert!(why.contains("'two'") && why.contains("the nearest that is here is 'one'"), "{why}");
    assert!(b.fs.arrivals().is_empty() && b.fs.volume().lines().len() == 1);
    // Other names on both sides, and the first one gone where it came from.
    b.fs.rename_snapshot(b"one", b"first").unwrap();
    a.fs.rename_snapshot(b"one", b"erste").unwrap();
    a.fs.delete_snapshot(b"erste").unwrap();
    b.receive(&two).unwrap();
    b.fs.delete_snapshot(b"first").unwrap();
    b.receive(&three).unwrap();
    same_tree((&a, &a.named("three")), (&b, &b.named("three")), "three");
    // The other way.
    b.put(ROOT, "back", b"from the copy");
    b.snapshot("four");
    a.receive(&b.send("four", Some("three")).0).unwrap();
    assert_eq!(a.cat(ROOT, "back"), b"from the copy");
    // A line that has changed since is not lost.
    a.put(ROOT, "own", b"changed here");
    b.put(ROOT, "more", b"changed there");
    b.snapshot("five");
    let five = b.send("five", Some("four")).0;
    let why = a.refused(&five);
    assert!(why.contains("has changed since 'four'") && why.contains("--as NAME"), "{why}");
    assert_eq!(a.cat(ROOT, "own"), b"changed here");
    let got = a.receive_as(&five, "theirs").unwrap();
    assert_eq!(got.line, b"theirs");
    same_tree((&b, &b.named("five")), (&a, &got.snapshot), "five");
    for t in [&a, &b] {
        t.fs.commit().unwrap();
        t.prove();
    }
}

#[test]
fn the_nearest_base_is_one_that_the_sender_has_in_the_line() {
    let (a, b, other) = (store(1), store(2), store(3));
    let later = |t: &T| t.clock.advance(1_000_000_000);
    let step = |t: &T, name: &str| {
        t.put(ROOT, &format!("in {name}"), &[1; 9000]);
        later(t);
        t.snapshot(name);
    };
    ["one", "two", "three"].into_iter().for_each(|name| step(&a, name));
    b.receive(&a.send("one", None).0).unwrap();
    b.receive(&a.send("two", Some("one")).0).unwrap();
    b.fs.rename_snapshot(b"two", b"zwei").unwrap();
    // What is newer there is of another store, or its own.
    (0..3).for_each(|_| later(&other));
    step(&other, "foreign");
    b.receive(&other.send("foreign", None).0).unwrap();
    (0..3).for_each(|_| later(&b));
    step(&b, "own");
    ["four", "five"].into_iter().for_each(|name| step(&a, name));
    assert!(b.named("own").created < a.named("five").created);
    let refused = |name, from| b.refused(&a.send(name, Some(from)).0);
    for (name, from) in [("four", "three"), ("five", "three"), ("five", "four")] {
        let why = refused(name, from);
        let wanted =
            why.contains(&format!("'{from}'")) && why.contains("the nearest that is here is 'zwei' (");
        assert!(wanted, "{why}");
    }
    // Of a clone, what it has from before it was one.
    let root = a.fs.create_line(b"c", a.named("three").id).unwrap();
    let in_clone = ["c0", "c1"].map(|name| {
        a.put(root, name, b"x");
        let id = a.fs.create_snapshot_of(root, name.as_bytes(), crate::fs::Reason::User).unwrap();
        a.fs.volume().snapshot_info(id).unwrap()
    });
    let why = b.refused(&a.send_of(&in_clone[1], Some(&in_clone[0])).0);
    assert!(why.contains("'c0'") && why.contains("the nearest that is here is 'zwei' ("), "{why}");
    // What the sender has not any more is no base.
    a.fs.delete_snapshot(b"two").unwrap();
    let why = refused("five", "four");
    assert!(why.contains("the nearest that is here is 'one' ("), "{why}");
    a.fs.delete_snapshot(b"one").unwrap();
    let why = refused("five", "four");
    assert!(why.contains("no older snapshot of its line is here") && !why.contains("'own'"), "{why}");
    assert!(b.fs.arrivals().is_empty());
}

#[test]
fn what_is_received_beside_other_lines_is_changed_by_nobody() {
    let (a, b) = (store(1), store(2));
    let f = a.put(ROOT, "f", &[1; 9000]);
    a.snapshot("one");
    a.write(a.open(f, RW), 0, b"two");
    a.put(ROOT, "g", b"second");
    a.snapshot("two");
    b.put(ROOT, "own", b"mine");
    let (one, two) = (a.send("one", None).0, a.send("two", Some("one")).0);
    assert_eq!(b.receive(&one).unwrap().line, b"one");
    let root = || b.find(NodeId::clonedir(0), "one").unwrap();
    assert_eq!(b.list(ROOT), ["own"]);
    assert_eq!(b.cat(root(), "f"), [1; 9000]);
    let refused = |done: Result<()>| assert_eq!(done, Err(Error::ReadOnly));
    refused(b.fs.mkdir(&SUPER, root(), b"d", 0o755).map(drop));
    refused(b.fs.unlink(&SUPER, root(), b"f"));
    refused(b.fs.create(&SUPER, root(), b"new", 0o644, RW).map(drop));
    let file = b.find(root(), "f").unwrap();
    refused(b.fs.setattr(&SUPER, file, None, &SetAttr { mode: Some(0), ..SetAttr::default() }).map(drop));
    refused(b.fs.setxattr(&SUPER, file, b"user.x", b"y", XattrMode::Set));
    // A later state comes into the same line.
    let got = b.receive(&two).unwrap();
    assert_eq!(got.line, b"one");
    assert_eq!(b.cat(root(), "g"), b"second");
    same_tree((&a, &a.named("two")), (&b, &got.snapshot), "two");
    assert_eq!(b.list(NodeId::clonedir(0)), ["one"]);
    // Its name is taken, and what is told against nothing is another.
    let c = store(3);
    c.put(ROOT, "x", b"y");
    c.snapshot("one");
    let why = b.refused(&c.send("one", None).0);
    assert!(why.contains("--as NAME"), "{why}");
    assert_eq!(b.receive_as(&c.send("one", None).0, "other").unwrap().line, b"other");
    // A clone of it is writable, and so it is itself as the head of another line.
    b.fs.create_clone(ROOT, b"work", Some(b".clones/one"), &Default::default()).unwrap();
    let work = b.find(NodeId::clonedir(0), "work").unwrap();
    b.put(work, "mine", b"x");
    b.fs.drop_clone(b"work").unwrap();
    // New numbers are above those that came.
    let inode = b.put(ROOT, "later", b"x").ino();
    assert!(inode > file.ino() && inode > a.find(ROOT, "g").unwrap().ino());
    b.fs.commit().unwrap();
    b.prove();
}

#[test]
fn what_waits_is_told_and_goes_by_itself() {
    let (a, b) = (store(1), store(2));
    let mut rng = fastrand::Rng::with_seed(4);
    let bytes: Vec<u8> = (0..4 << 20).map(|_| rng.u8(..)).collect();
    a.put(ROOT, "f", &bytes);
    a.snapshot("one");
    let (stream, _) = a.send("one", None);
    b.put(ROOT, "own", b"mine");
    let used = b.fs.volume().space().used;
    assert!(matches!(b.receive(&stream[..3 << 20]), Err(StreamError::Carrier(_))));
    let arrival = b.fs.arrivals().remove(0);
    assert_eq!(arrival.record.begin.name, b"one");
    assert!(!arrival.is_active && arrival.record.received_bytes > 2 << 20);
    assert!(b.fs.volume().space().used > used + (2 << 20));
    // It is nobody's to see.
    assert!(
        b.list(NodeId::clonedir(0)).is_empty()
            && b.find(NodeId::clonedir(0), &String::from_utf8(arrival.line.name.clone()).unwrap()).is_err()
    );
    assert!(b.fs.volume().clones().is_empty());
    for _ in 0..6 * 24 {
        b.clock.advance(3600 * 1_000_000_000);
        b.fs.drop_ended_clones();
    }
    assert_eq!(b.fs.arrivals().len(), 1);
    for _ in 0..2 * 24 {
        b.clock.advance(3600 * 1_000_000_000);
        b.fs.drop_ended_clones();
    }
    assert!(b.fs.arrivals().is_empty());
    (0..20).for_each(|_| b.fs.tick().unwrap());
    assert!(b.fs.volume().space().used < used + (1 << 20), "{:?}", b.fs.volume().space());
    b.fs.commit().unwrap();
    b.prove();
}

/// What is sent against a snapshot that is not here any more, by what is younger.
pub(super) fn send_against_gone(t: &T, name: &str, peer: [u8; 16]) -> (Vec<u8>, SentStream) {
    let (snapshot, gone) = (t.named(name), t.fs.volume().peer(&peer).unwrap());
    let mut out = Vec::new();
    let order = SendOrder { snapshot: &snapshot, base: None, gone: Some(&gone), resume: None };
    let told = t.fs.send(&order, &mut out, &mut |_| true).unwrap();
    (out, told)
}

#[test]
fn a_base_that_is_gone_is_one_still_by_what_is_younger() {
    for seed in 0..histories() / 8 {
        let mut rng = fastrand::Rng::with_seed(seed + 100_000);
        let (a, b) = (store(1), store(2));
        for n in 0..4 {
            let held = (rng.u8(0..3) == 0).then(|| a.create(ROOT, &format!("held{n}")));
            (0..rng.usize(1..25)).for_each(|_| some_change(&a, &mut rng));
            if let Some((node, handle)) = held {
                // It may be immutable by now.
                let _ = a.fs.write(node, handle, 0, &[7; 9000], false);
                let _ = a.fs.unlink(&SUPER, ROOT, format!("held{n}").as_bytes());
                if rng.bool() {
                    // It has a name again when the next snapshot is made.
                    a.snapshot(&format!("between{n}"));
                    let _ = a.fs.link(&SUPER, node, ROOT, format!("again{n}").as_bytes());
                }
            }
            let name = format!("s{n}");
            a.snapshot(&name);
            let stream = match n {
                0 => a.send(&name, None).0,
                _ => send_against_gone(&a, &name, [2; 16]).0,
            };
            let got = b.receive(&stream).unwrap_or_else(|e| panic!("seed {seed}, {name}: {e}"));
            same_tree((&a, &a.named(&name)), (&b, &got.snapshot), &format!("seed {seed}, {name}"));
            assert!(a.fs.volume().note_peer([2; 16], a.named(&name).id, (0, b"")).unwrap());
            assert_eq!(a.fs.volume().peers().len(), 1);
            a.fs.delete_snapshot(name.as_bytes()).unwrap();
            if rng.bool() {
                a.fs.commit().unwrap();
            }
        }
        if seed % 10 == 0 {
            [&a, &b].into_iter().for_each(|t| {
                t.fs.commit().unwrap();
                t.prove();
            });
        }
    }
}

#[test]
fn what_is_sent_against_a_base_that_is_gone_is_what_has_changed() {
    let (a, b) = (store(1), store(2));
    let mut rng = fastrand::Rng::with_seed(1);
    let mut random = |len: usize| (0..len).map(|_| rng.u8(..)).collect::<Vec<u8>>();
    let image = a.put(ROOT, "image", &random(32 << 20));
    let dirs: Vec<_> = (0..20).map(|n| a.mkdir(ROOT, &format!("d{n}")).unwrap()).collect();
    for (n, dir) in dirs.iter().enumerate() {
        (0..100).for_each(|m| assert!(a.put(*dir, &format!("f{n}-{m}"), &[m as u8; 100]).0 > 0));
    }
    a.snapshot("one");
    b.receive(&a.send("one", None).0).unwrap();
    assert!(a.fs.volume().note_peer([2; 16], a.named("one").id, (0, b"")).unwrap());
    a.fs.delete_snapshot(b"one").unwrap();
    a.fs.commit().unwrap();
    let handle = a.open(image, RW);
    (0..256).for_each(|n| a.write(handle, (n * 31 % 8192) * 4096, &random(4096)));
    a.fs.release(handle.0, handle.1);
    // Many neighbours go, whole leaves of them.
    for (n, dir) in dirs.iter().enumerate().take(15).skip(2) {
        for name in (0..100).map(|m| format!("f{n}-{m}")) {
            let node = a.find(*dir, &name).unwrap();
            a.fs.unlink(&SUPER, *dir, name.as_bytes()).unwrap();
            a.fs.forget(node);
        }
        a.fs.rmdir(&SUPER, ROOT, format!("d{n}").as_bytes()).unwrap();
    }
    a.snapshot("two");
    let (stream, told) = send_against_gone(&a, "two", [2; 16]);
    assert_eq!(told.content_bytes, 256 * 4096);
    assert!(stream.len() < 256 * 4096 + (1 << 20), "{}", stream.len());
    let got = b.receive(&stream).unwrap();
    same_tree((&a, &a.named("two")), (&b, &got.snapshot), "two");
    // After a rollback it is none.
    let two = a.named("two");
    assert!(a.fs.volume().note_peer([2; 16], two.id, (0, b"")).unwrap());
    a.fs.rollback(ROOT, &two, crate::fs::OpenForWriting::CutOff, &crate::fs::Reason::Rollback.into())
        .unwrap();
    a.put(ROOT, "later", b"x");
    a.snapshot("three");
    a.fs.delete_snapshot(b"two").unwrap();
    let (snapshot, gone) = (a.named("three"), a.fs.volume().peer(&[2; 16]).unwrap());
    let order = SendOrder { snapshot: &snapshot, base: None, gone: Some(&gone), resume: None };
    let refused = a.fs.send(&order, &mut Vec::new(), &mut |_| true);
    assert!(matches!(refused, Err(StreamError::Refused(_))), "{refused:?}");
}

/// What was done to a line in another store was not done to its copy: nothing of it is taken back, or goes, as if it had been.
#[test]
fn guards_of_another_store_are_none_here() {
    let (from, to) = (store(1), store(2));
    from.put(ROOT, "f", b"one");
    from.snapshot("one");
    from.put(ROOT, "g", b"two");
    let base = from.fs.snapshot_of_word(ROOT, b"one").unwrap();
    let why = crate::format::provenance::Reason::Rollback.into();
    from.fs.rollback(ROOT, &base, crate::fs::OpenForWriting::CutOff, &why).unwrap();
    assert!(from.fs.last_undoable(ROOT).unwrap().is_some());
    let guard = from.fs.snapshots().pop().unwrap();
    assert!(guard.name.starts_with(b"@before-rollback"));
    let name = String::from_utf8(guard.name.clone()).unwrap();
    let got = to.receive(&from.send("one", None).0).unwrap();
    let got = [got, to.receive(&from.send(&name, Some("one")).0).unwrap()];
    assert_eq!(got[1].snapshot.name, guard.name);
    assert_eq!(to.fs.last_undoable(ROOT).unwrap(), None);
    assert_eq!(to.fs.undo(ROOT, crate::fs::OpenForWriting::CutOff).unwrap(), None);
    // What is done here is.
    let back = to.fs.snapshot_of_word(ROOT, b"one").unwrap();
    to.fs.rollback(ROOT, &back, crate::fs::OpenForWriting::CutOff, &why).unwrap();
    assert!(matches!(to.fs.last_undoable(ROOT).unwrap(), Some(crate::fs::Undoable::Switch(_))));
}

/// A schedule of the same name thins what was received by its rules, and a write takes nothing that these keep.
#[test]
fn what_was_received_does_not_go_before_a_write_fails_unless_rules_say_so() {
    let from = store(1);
    let device = Arc::new(Memory::new(64 << 20));
    Volume::create(device.clone(), 64 << 20, [2; 16], (0, 0)).unwrap();
    let volume =
        Volume::open(device, OpenOptions { access: Access::ReadWrite, cache_bytes: 4 << 20 }).unwrap();
    volume.recover(&mut NothingAbove);
    volume.commit(&mut |_| Ok(())).unwrap();
    let to = T::on(volume, FsOptions::default());
    let rules = |text| vec![crate::schedule::parse_rules("default", text).unwrap()];
    from.fs.set_schedules(LineId::MAIN, rules("every=1h keep=all")).unwrap();
    let file = from.create(ROOT, "data");
    let mut last: Option<String> = None;
    for n in 0..6 {
        from.write(file, 0, &crate::fixtures::bytes(n, 2 << 20));
        while from.fs.keep_schedules() {}
        from.clock.advance(3600 * 1_000_000_000);
        let name = String::from_utf8(from.fs.snapshots().pop().unwrap().name).unwrap();
        to.receive(&from.send(&name, last.as_deref()).0).unwrap();
        last = Some(name);
    }
    to.clock.advance(6 * 3600 * 1_000_000_000);
    to.fs.set_schedules(LineId::MAIN, rules("every=1h keep=all")).unwrap();
    while to.fs.keep_schedules() {}
    assert_eq!(to.fs.may_free(), 0);
    let wanted = RoomFor::Change(to.fs.volume().space().available + 1);
    assert!(!to.fs.can_make_room(wanted) || !to.fs.make_room(wanted, std::time::Duration::from_secs(1)));
    assert_eq!(to.fs.snapshots().len(), 6);
    // Those that no rule keeps go.
    to.fs.set_schedules(LineId::MAIN, rules("every=1h keep=3h")).unwrap();
    while to.fs.keep_schedules() {}
    assert_eq!(to.fs.snapshots().len(), 3);
}
