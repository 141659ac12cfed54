//! Copies that are made in the background by the commands: over kills and unmounting, while the other store is away or
//! mounted, with the snapshot held until they are whole; and what is refused.

mod guard;
mod place;
mod shell;

use guard::can_mount;
use place::{PATIENCE, Place, errno};
use serde_json::Value;
use shell::{ok, same, shell};
use std::fs;
use std::time::Instant;

fn fill(p: &Place) {
    ok(
        p,
        "cd mnt; mkdir -p a/b; echo one > a/b/f; ln a/b/f a/hard; ln -s b/f a/link; chmod 0 a/b/f
         head -c 6000000 /dev/urandom > big; truncate -s 9M sparse; cp big a/copy",
    );
}

/// The only copy of a snapshot.
fn copy_of(p: &Place, name: &str) -> Value {
    p.json(&["hydrate", "mnt", name, "--json"])[0].clone()
}

fn wait_for(p: &Place, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) {
    let begun = Instant::now();
    while !is_so(&copy_of(p, name)) {
        assert!(begun.elapsed() < PATIENCE, "{what}: {}", copy_of(p, name));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn number(copy: &Value, key: &str) -> u64 {
    copy[key].as_u64().unwrap_or(0)
}

#[test]
fn a_copy_goes_on_after_a_kill_and_after_the_store_was_away() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fill(&p);
    ok(&p, "snapfs create mnt mon --method background --to copy --rate 300K");
    wait_for(&p, "mon", "some has come", |copy| number(copy, "done_bytes") > 700_000);
    p.kill();
    p.mount("");
    // It goes on by itself, from where it was, and is read meanwhile.
    wait_for(&p, "mon", "it goes on", |copy| number(copy, "sent_bytes") > 0);
    assert!(number(&copy_of(&p, "mon"), "done_bytes") > 500_000, "{}", copy_of(&p, "mon"));
    assert_eq!(ok(&p, "cat mnt/.snapshots/mon/a/hard"), "one\n");
    // Unmounting does not wait for it: at this rate the rest takes more than ten seconds.
    p.umount();
    assert_eq!(p.json(&["hydrate", "store", "mon", "--json"])[0]["state"], "queued");
    ok(&p, "mv copy away");
    p.mount("");
    wait_for(&p, "mon", "it waits", |copy| copy["state"] == "waiting");
    let what = "no such store";
    for verb in ["status", "list", "hydrate", "show"] {
        let said = ok(&p, &format!("snapfs {verb} mnt {}", if verb == "show" { "mon" } else { "" }));
        assert!(said.contains(what), "{verb}: {said}");
    }
    let waiting = copy_of(&p, "mon");
    assert!(waiting["trouble"].as_str().unwrap().contains(what), "{waiting}");
    // Something else at its place gets nothing.
    ok(&p, "snapfs init copy; snapfs hydrate mnt mon resume --rate none");
    let other = |copy: &Value| copy["trouble"].as_str().is_some_and(|why| why.contains("another store"));
    wait_for(&p, "mon", "it is another", other);
    ok(&p, "rm -r copy; mv away copy; snapfs hydrate mnt mon --wait");
    assert_eq!(copy_of(&p, "mon")["state"], "whole");
    assert!(ok(&p, "snapfs verify mnt mon --with copy").contains("the same"));
    ok(&p, "snapfs check copy --data");
    p.umount();
    p.check();
}

#[test]
fn a_snapshot_stays_until_its_copy_is_whole_and_the_copy_stands_alone() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fill(&p);
    ok(&p, "snapfs create mnt mon --method background --to copy --rate 300K");
    // More than a packet.
    wait_for(&p, "mon", "some has come", |copy| number(copy, "sent_bytes") > 800_000);
    let refused = shell(&p, "snapfs delete mnt mon");
    let way = "'snapfs hydrate MNT mon cancel'";
    assert!(refused.code == 1 && refused.err.contains(way) && refused.err.contains("/copy"), "{refused:?}");
    assert!(refused.err.contains("(to ") && refused.err.contains(", by root, since "), "{refused:?}");
    let held = p.json(&["hold", "mnt", "--list", "--json"])[0].clone();
    assert!(held["kind"] == "copy" && held["user"] == 0 && held["since"].is_string(), "{held}");
    assert!(held["expires"].is_string(), "{held}");
    assert!(ok(&p, "snapfs hold mnt --list").contains(" if it does not go on"));
    assert_eq!(errno(fs::remove_dir(p.past("mon", ""))), libc::EBUSY);
    // It may have another name meanwhile.
    ok(&p, "snapfs rename mnt mon monday; snapfs hydrate mnt monday pause");
    wait_for(&p, "monday", "it pauses", |copy| copy["state"] == "paused" && copy["sent_bytes"].is_null());
    // Then the other store is nobody's, and can be mounted; the copy goes on through that mount.
    assert!(ok(&p, "snapfs list copy").contains("RECEIVING"));
    ok(&p, "mkdir there; snapfs mount copy there; snapfs hydrate mnt monday resume --rate none");
    ok(&p, "snapfs hydrate mnt monday --wait");
    same(&p, "mnt/.snapshots/monday", "there");
    ok(&p, "snapfs umount there; snapfs delete mnt monday");
    // A later one carries what has changed, though the first is gone here.
    ok(&p, "echo tuesday > mnt/day");
    let made =
        p.json(&["create", "mnt", "tue", "--method", "background", "--to", "copy", "--wait", "--json"]);
    assert!(number(&made[0], "done_bytes") < 40_000 && made[0]["state"] == "whole", "{made}");
    let shown = p.json(&["show", "mnt", "tue", "--json"]);
    assert!(shown["method"] == "background" && shown["copies"][0]["state"] == "whole", "{shown}");
    ok(&p, "snapfs mount copy there");
    same(&p, "mnt/.snapshots/tue", "there");
    // It stands alone.
    p.umount();
    ok(
        &p,
        "mv store gone; echo own > there/own; snapfs umount there; snapfs check copy --data; mv gone store",
    );
    p.check();
}

#[test]
fn what_cannot_be_copied_to_is_refused_and_leaves_no_snapshot() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fill(&p);
    ok(&p, "snapfs init small.img --size 48M; head -c 60000000 /dev/urandom > mnt/huge");
    ok(
        &p,
        "mkdir there full; echo x > full/x; snapfs mount taken there; echo mine > there/own; snapfs clone there x",
    );
    for (to, code, what) in [
        ("store", 1, "the store itself"),
        ("mnt", 1, "the store itself"),
        ("mnt/inside", 1, "in a mount of the store itself"),
        ("full", 1, "no snapfs store and not empty"),
        ("none/at/all", 1, "none/at/all"),
        ("small.img", 1, "there is room for"),
        ("there", 1, "a clone called 'x' is here already"),
        ("taken", 1, "a clone called 'x' is here already"),
    ] {
        let done = shell(&p, &format!("snapfs create mnt x --method background --to {to}"));
        assert!(done.code == code && done.err.contains(what), "{to}: {done:?}");
    }
    for (script, code, what) in [
        ("snapfs create mnt x --method background", 2, "--to"),
        ("snapfs create mnt x --rate 5M", 2, "--method background"),
        ("snapfs create mnt x --method clone --to other --wait", 2, "--method background"),
        ("snapfs hydrate mnt x pause", 1, "no such view"),
        ("snapfs hydrate mnt pause", 1, "no such view"),
        ("snapfs create mnt y; snapfs hydrate mnt y cancel", 1, "no copy of it is being made"),
        ("snapfs hydrate mnt y --rate 0", 2, "rate"),
    ] {
        let done = shell(&p, script);
        assert!(done.code == code && done.err.contains(what), "{script}: {done:?}");
    }
    assert_eq!(ok(&p, "ls mnt/.snapshots; ls -d none 2>/dev/null || true"), "y\n");
    // One that there is gets a copy later, and in several stores; one is given up.
    ok(&p, "snapfs hydrate mnt y --to first --rate 200K; snapfs hydrate mnt y --to second --rate 1K");
    assert_eq!(p.json(&["hydrate", "mnt", "--json"]).as_array().unwrap().len(), 2);
    wait_for(&p, "y", "it goes on", |copy| number(copy, "sent_bytes") > 0);
    ok(&p, "snapfs hydrate mnt y cancel; snapfs delete mnt y");
    assert_eq!(ok(&p, "snapfs hydrate mnt"), "no copies\n");
    ok(&p, "snapfs umount there");
    p.umount();
    p.check();
    for store in ["first", "second", "small.img"] {
        assert_eq!(ok(&p, &format!("snapfs check {store} > /dev/null; snapfs list {store} 2>/dev/null")), "");
    }
}

/// A mount goes before a copy: the daemon that makes it lets go of the store, and goes on through the daemon of the mount.
#[test]
fn a_store_is_mounted_while_a_copy_is_made_in_it() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    let content: Vec<u8> = (0..6_u32 << 20).map(|n| (n ^ (n >> 7)) as u8).collect();
    fs::write(p.path("file"), content).expect("write");
    p.ok(&["create", "mnt", "monday", "--method", "background", "--to", "other", "--rate", "1M"]);
    wait_for(&p, "monday", "some of it is there", |copy| copy["sent_bytes"].as_u64() > Some(0));
    fs::create_dir(p.at("there")).expect("mkdir");
    let said = p.run(&["mount", "other", "there"]);
    assert_eq!(said.code, 0, "{said:?}");
    p.ok(&["hydrate", "mnt", "monday", "--rate", "none"]);
    wait_for(&p, "monday", "it is whole", |copy| copy["state"] == "whole");
    p.ok(&["umount", "there"]);
    p.umount();
    p.check();
}
