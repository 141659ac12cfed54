//! What a packet may bring about at most, and that a stream told again is the same whatever has moved meanwhile.

use super::streams::{same_tree, store};
use super::*;
use crate::device::{CrashPolicy, Sim};
use crate::format::stream::{
    ContentPlace, ContentSide, HEADER_BYTES, ITEM_BYTES_MAX, PacketHeader, PacketKind, StreamBegin,
    StreamChange,
};
use crate::format::{Frame, Ino, Key, Kind};
use crate::fs::{ReceiveOrder, StreamError};
use crate::volume::{Access, OpenOptions};

/// The beginning of a stream of a snapshot, and after it a packet that the sender would not make.
fn crafted(a: &T, changes: &[StreamChange<'_>]) -> Vec<u8> {
    let stream = a.send("one", None).0;
    let len = u32::from_le_bytes(stream[12..16].try_into().unwrap()) as usize;
    let begin = StreamBegin::decode(&stream[HEADER_BYTES..HEADER_BYTES + len]).unwrap();
    let mut payload = Vec::new();
    changes.iter().for_each(|change| change.put(&mut payload));
    let packet = PacketHeader::seal(PacketKind::Changes, 1, Some(begin.stream()), &payload);
    [&stream[..HEADER_BYTES + len], &packet].concat()
}

#[test]
fn no_packet_asks_for_more_than_one_transaction_can_do() {
    let (a, b) = (store(1), store(2));
    let ino = Ino(a.put(ROOT, "f", &[1; 9000]).ino());
    a.snapshot("one");
    let place = ContentPlace { side: ContentSide::Here, ino, offset: 0 };
    let share = |len, offset| StreamChange::Share { ino, offset, len, place, piece: None };
    let long = crafted(&a, &[share(256 << 10, 1 << 20)]);
    let many: Vec<_> = (0..2 * ITEM_BYTES_MAX as u64 / 43).map(|n| share(128 << 10, n << 20)).collect();
    for (stream, what) in [(long, "shared content"), (crafted(&a, &many), "beside content")] {
        let done = b.receive(&stream);
        let second = HEADER_BYTES + u32::from_le_bytes(stream[12..16].try_into().unwrap()) as usize;
        let Err(StreamError::Bad(1, at, why)) = &done else { panic!("{done:?}") };
        assert_eq!(*at, second as u64);
        assert!(why.contains(what), "{why}");
        assert!(b.fs.arrivals().is_empty());
    }
    assert_eq!(b.fs.volume().lines().len(), 1);
    b.fs.commit().unwrap();
    b.prove();
}

#[test]
fn what_a_packet_takes_away_goes_in_steps_whatever_changes_it_is_of() {
    const FILES: usize = 60;
    const EXTENTS: u64 = 200;
    let a = store(1);
    for n in 0..FILES {
        let file = a.create(ROOT, &format!("f{n}"));
        (0..EXTENTS).for_each(|n| a.write(file, n * 8192, &[1; 4096]));
        a.fs.release(file.0, file.1);
    }
    a.snapshot("one");
    let one = a.send("one", None).0;
    for n in 0..FILES {
        a.rm(ROOT, &format!("f{n}"));
    }
    a.snapshot("two");
    let (two, told) = a.send("two", Some("one"));
    assert_eq!(told.packets, 3, "all in one packet");
    let sim = Arc::new(Sim::new(1 << 30, 1));
    Volume::create(sim.clone(), 1 << 30, [2; 16], (0, 0)).unwrap();
    let opened = |sim: Arc<Sim>| {
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 4 << 20 };
        T::on(Volume::open(sim, options).unwrap(), FsOptions::default())
    };
    let b = opened(sim.clone());
    b.receive(&one).unwrap();
    b.fs.commit().unwrap();
    // All but the end, and then what the log has of it: no record is long.
    assert!(b.receive(&two[..two.len() - 1]).is_err());
    let c = opened(Arc::new(sim.crash(CrashPolicy::KeepAll)));
    let (records, bytes) = (c.fs.recovered().records as u64, c.fs.recovered().bytes);
    let items = FILES as u64 * (EXTENTS + 2);
    assert!(records > items / 256, "{records} records of {bytes} bytes for {items} items");
    let got = b.receive(&two).unwrap();
    same_tree((&a, &a.named("two")), (&b, &got.snapshot), "two");
    b.fs.commit().unwrap();
    b.prove();
}

#[test]
fn a_stream_is_the_same_whatever_goes_home_meanwhile() {
    for compressed in [false, true] {
        let a = store(1);
        a.fs.setxattr(&SUPER, ROOT, b"user.snapfs.layout", b"cow", XattrMode::Set).unwrap();
        if compressed {
            a.compress(ROOT, "zstd");
        }
        let image = a.create(ROOT, "image");
        let bytes: Vec<u8> = (0..512 << 10).map(|i| (i / 4096) as u8 | 1).collect();
        a.write(image, 0, &bytes);
        a.fs.commit().unwrap();
        // Some blocks in the middle of extents have several references.
        let part = a.create(ROOT, "part");
        for at in [5u64, 40, 70] {
            let (from, len) = (at * 4096, 3 * 4096);
            a.fs.copy_range(&SUPER, image.0, image.1, from, part.0, part.1, from, len).unwrap();
        }
        a.snapshot("s");
        let before = a.send("s", None).0;
        let mut moved = 0;
        for round in 0..3u8 {
            for block in [2u64, 9, 20, 33, 44, 60, 80] {
                a.write(image, block * 4096, &[200 + round; 4096]);
            }
            a.fs.commit().unwrap();
            for _ in 0..1000 {
                let step = a.fs.bring_content_home(1 << 20).unwrap();
                moved += step.copied;
                if !step.more {
                    break;
                }
            }
            assert!(a.send("s", None).0 == before, "round {round}, compressed: {compressed}");
        }
        assert!(moved > 0 || compressed);
        let b = store(2);
        let got = b.receive(&before).unwrap();
        same_tree((&a, &a.named("s")), (&b, &got.snapshot), "s");
        [image, part].into_iter().for_each(|(node, handle)| a.fs.release(node, handle));
    }
}

/// What proves it looks at each thing a bounded number of times, and stops when it is told to.
#[test]
fn what_a_proof_takes_follows_what_has_come() {
    const EXTENTS: u64 = 20_000;
    const DIRS: u64 = 5000;
    let (a, b) = (store(1), store(2));
    let file = a.create(ROOT, "space");
    a.fs.fallocate(&SUPER, file.0, file.1, 0, EXTENTS * (128 << 10), AllocateMode::KeepSize).unwrap();
    a.fs.release(file.0, file.1);
    let flat = a.mkdir(ROOT, "flat").unwrap();
    let mut at = a.mkdir(ROOT, "nested").unwrap();
    for n in 0..DIRS {
        a.mkdir(flat, &n.to_string()).unwrap();
        at = a.mkdir(at, "d").unwrap();
    }
    a.snapshot("one");
    let one = a.send("one", None).0;
    let receive = |goes_on: &mut dyn FnMut() -> bool| {
        b.fs.receive_while(&mut &one[..], &ReceiveOrder::default(), &mut |_, _| (), goes_on)
    };
    let mut asked = 0;
    let stopped = receive(&mut || {
        asked += 1;
        asked < 3
    });
    assert!(matches!(&stopped, Err(StreamError::Carrier(_))), "{stopped:?}");
    assert_eq!(b.fs.arrivals().len(), 1);
    let mut asked = 0;
    let got = receive(&mut || {
        asked += 1;
        true
    });
    let looks = EXTENTS + 2 * 2 * DIRS;
    assert!((3..=looks / 4096 + 2).contains(&asked), "asked {asked} times");
    assert_eq!(a.fs.digest_of(&a.named("one")).unwrap(), b.fs.digest_of(&got.unwrap().snapshot).unwrap());
}

/// What is each store's own, and what no inode has, nobody can tell.
#[test]
fn a_stream_takes_nothing_away_that_is_no_inode_s() {
    let (a, b) = (store(1), store(2));
    a.put(ROOT, "f", &[1; 9000]);
    a.snapshot("one");
    let key = |ino: Ino, kind: Kind, rest| Key::new(ino.0, kind, rest);
    let wrong = [
        StreamChange::Clear(Ino(2), Ino(3)),
        StreamChange::Clear(Ino(1), Ino(4)),
        StreamChange::Clear(Ino(3), Ino(40)),
        StreamChange::Clear(Ino(15), Ino(17)),
        StreamChange::ClearItems(key(Ino::ORPHANS, Kind::Inode, 0), key(Ino::ORPHANS, Kind::Away, 90)),
        StreamChange::ClearItems(key(Ino::ARRIVAL, Kind::Inode, 0), key(Ino::ARRIVAL, Kind::Arrival, 1)),
        StreamChange::Set(key(Ino::ORPHANS, Kind::Away, 17), &[]),
        StreamChange::Remove(key(Ino::ORPHANS, Kind::Away, 17)),
    ];
    for change in wrong {
        let done = b.receive(&crafted(&a, std::slice::from_ref(&change)));
        assert!(matches!(done, Err(StreamError::Bad(1, ..))), "{change:?}: {done:?}");
        assert!(b.fs.arrivals().is_empty(), "{change:?}");
    }
    b.fs.commit().unwrap();
    b.prove();
}

/// Its checksums say that it came as it was sent, and no more.
#[test]
fn a_frame_that_cannot_be_decompressed_is_refused_when_it_comes() {
    let (a, b) = (store(1), store(2));
    let ino = Ino(a.put(ROOT, "f", &[1; 9000]).ino());
    a.snapshot("one");
    let mut packed = Vec::new();
    let codec = crate::store::Codec::default();
    let frame = codec.pack(1, &[7; 128 << 10], &mut packed).unwrap();
    let mut spoiled = packed.clone();
    spoiled[9] ^= 0xff;
    let content = |stored: &[u8], content_len: u32| {
        let crcs = stored.chunks(4096).map(crc32c::crc32c).collect();
        let frame = Some(Frame { content_len, ..frame });
        crafted(&a, &[StreamChange::Content { ino, offset: 0, len: 8192, frame, crcs, stored }])
    };
    for (stream, what) in
        [(content(&spoiled, 128 << 10), "spoiled"), (content(&packed, 64 << 10), "too long")]
    {
        let done = b.receive(&stream);
        let Err(StreamError::Bad(1, _, why)) = &done else { panic!("{what}: {done:?}") };
        assert!(why.contains("decompressed"), "{what}: {why}");
    }
    // What is one is taken, as far as it goes.
    let done = b.receive(&content(&packed, 128 << 10));
    assert!(!matches!(&done, Err(StreamError::Bad(_, _, why)) if why.contains("decompressed")), "{done:?}");
}

/// A file without a name that is in the way of one that comes goes in steps, as all that a packet takes away.
#[test]
fn what_has_no_name_and_is_in_the_way_goes_in_steps() {
    const EXTENTS: u64 = 10_000;
    let sim = Arc::new(Sim::new(1 << 30, 1));
    Volume::create(sim.clone(), 1 << 30, [2; 16], (0, 0)).unwrap();
    let opened = |sim: Arc<Sim>| {
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 4 << 20 };
        T::on(Volume::open(sim, options).unwrap(), FsOptions::default())
    };
    let (a, b) = (store(1), opened(sim.clone()));
    let file = b.create(ROOT, "f");
    (0..EXTENTS).for_each(|n| b.write(file, n * 8192, &[1; 4096]));
    b.rm(ROOT, "f");
    b.snapshot("one");
    a.receive(&b.send("one", None).0).unwrap();
    let new = a.put(ROOT, "new", b"its number is that of the file without a name");
    assert_eq!(new.ino(), file.0.ino());
    a.snapshot("two");
    let two = a.send("two", Some("one")).0;
    b.fs.release(file.0, file.1);
    b.fs.commit().unwrap();
    assert!(b.receive(&two[..two.len() - 1]).is_err());
    let c = opened(Arc::new(sim.crash(CrashPolicy::KeepAll)));
    let records = c.fs.recovered().records as u64;
    assert!(records > EXTENTS / 256, "{records} records");
    let got = b.receive(&two).unwrap();
    same_tree((&a, &a.named("two")), (&b, &got.snapshot), "two");
    b.fs.commit().unwrap();
    b.prove();
}

/// What is shared in the live store comes and goes while a stream is on its way.
#[test]
fn a_stream_is_the_same_whatever_is_shared_beside() {
    let a = store(1);
    a.fs.setxattr(&SUPER, ROOT, b"user.snapfs.layout", b"cow", XattrMode::Set).unwrap();
    let image = a.create(ROOT, "image");
    let bytes: Vec<u8> = (0..512 << 10).map(|i| (i / 4096) as u8 | 1).collect();
    a.write(image, 0, &bytes);
    a.fs.commit().unwrap();
    a.snapshot("zero");
    (0..40u64).for_each(|n| a.write(image, n * 3 * 4096, &[200; 4096]));
    a.fs.commit().unwrap();
    a.snapshot("one");
    while a.fs.bring_content_home(1 << 20).unwrap().more {}
    a.write(image, 127 * 4096, &[201; 4096]);
    a.fs.commit().unwrap();
    a.snapshot("two");
    let before = a.send("two", Some("one"));
    assert_eq!(before.1.content_bytes, 4096);
    let part = a.create(ROOT, "part");
    a.fs.copy_range(&SUPER, image.0, image.1, 0, part.0, part.1, 0, 256 << 10).unwrap();
    a.fs.commit().unwrap();
    let meanwhile = a.send("two", Some("one"));
    assert_eq!(meanwhile.1.content_bytes, 4096, "what came home is not told");
    assert!(meanwhile.0 == before.0);
    [image, part].into_iter().for_each(|(node, handle)| a.fs.release(node, handle));
}
