//! Streams between stores by the commands: over pipes and files, mounted and not, cut off and going on, copies that are made
//! again and held against each other.

mod guard;
mod place;
mod shell;

use guard::can_mount;
use place::{Loop, Place, errno, names, wait};
use serde_json::Value;
use shell::{ok, same, shell};
use std::fs;
use std::io::{BufRead, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

fn fill(p: &Place) {
    ok(
        p,
        "cd mnt; mkdir -p a/b; echo one > a/b/f; ln a/b/f a/hard; ln -s b/f a/link; chmod 0 a/b/f
         head -c 3000000 /dev/urandom > big; truncate -s 9M sparse; cp big a/copy; touch -d @1000000000.5 a/copy; mkfifo pipe
         if command -v setfattr > /dev/null; then setfattr -n user.note -v hello a/b/f; setfattr -n user.of -v a a; fi
         if command -v setfacl > /dev/null; then setfacl -m u:1001:rw,g:7:r a/copy; setfacl -m d:u:1001:rx a; fi",
    );
}

#[test]
fn a_snapshot_goes_through_a_pipe_and_a_later_one_follows() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fill(&p);
    p.snapshot("one");
    ok(&p, "snapfs send mnt one | snapfs receive copy; snapfs send mnt one > one.stream");
    let again = ok(&p, "snapfs receive copy < one.stream");
    assert!(again.contains("is here already"), "{again}");
    ok(
        &p,
        "cd mnt; mv a/b moved; echo more >> moved/f; rm big; chmod 4755 a/copy; mkdir new; echo x > new/x",
    );
    p.snapshot("two");
    // Both are mounted now, and the copy was given other names.
    ok(&p, "mkdir there; snapfs mount copy there; mv there/.snapshots/one there/.snapshots/first");
    ok(&p, "snapfs send mnt two --from one | snapfs receive there");
    for name in ["one first", "two two"] {
        let (a, b) = name.split_once(' ').unwrap();
        same(&p, &format!("mnt/.snapshots/{a}"), &format!("there/.snapshots/{b}"));
    }
    same(&p, "mnt/.snapshots/two", "there");
    if ok(&p, "command -v getfacl getfattr || true").lines().count() == 2 {
        let told = ok(&p, "cd there; getfacl -cEn a/copy a; getfattr --only-values -n user.note moved/f");
        let all = ["user:1001:rw-", "group:7:r--", "default:user:1001:r-x", "hello"];
        assert!(all.iter().all(|one| told.contains(one)), "{told}");
    }
    assert!(ok(&p, "snapfs verify mnt two --with there").contains("the same"));
    // Nothing is left behind, and both are sound.
    assert_eq!(ok(&p, "snapfs list mnt --arrivals; snapfs list there --arrivals"), "");
    ok(&p, "snapfs umount there; snapfs check copy --data");
    assert!(ok(&p, "snapfs verify mnt two --with copy").contains("the same"));
    p.umount();
    p.check();
    assert!(ok(&p, "snapfs verify store two --with copy --json").contains("\"same\": true"));
}

#[test]
fn a_copy_is_made_with_a_snapshot_and_costs_what_has_changed() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fill(&p);
    ok(&p, "snapfs create mnt mon --method clone --to copy --description 'with a copy'");
    ok(&p, "echo tuesday > mnt/day");
    let made = p.json(&["create", "mnt", "tue", "--method", "clone", "--to", "copy", "--json"]);
    let shown = p.json(&["show", "mnt", "tue", "--json"]);
    assert_eq!(shown["method"], "clone");
    let uuid = p.json(&["info", "copy", "--json"])["uuid"].clone();
    assert_eq!(shown["stores"], serde_json::json!([uuid]));
    // Neither what came later nor what was sent later changes what is kept of one.
    ok(&p, "snapfs create mnt plain; snapfs send mnt plain --to third; snapfs create mnt rowed --method row");
    let path = p.at("copy").canonicalize().unwrap();
    for (name, method, store) in
        [("mon", "clone", "copy"), ("tue", "clone", "copy"), ("plain", "row", "third")]
    {
        let shown = p.json(&["show", "mnt", name, "--json"]);
        let (copy, uuid) = (&shown["copies"][0], p.json(&["info", store, "--json"])["uuid"].clone());
        assert!(shown["method"] == method && shown["state"] == "copied", "{shown}");
        assert!(shown["hydration_percent"] == 100 && shown["stores"] == serde_json::json!([uuid]), "{shown}");
        assert!(copy["state"] == "whole" && copy["store"] == uuid, "{shown}");
        assert_eq!(copy["to"], p.at(store).canonicalize().unwrap().to_str().unwrap(), "{shown}");
    }
    let text = ok(&p, "snapfs show mnt mon");
    let told = format!("copies: {} (store {}): whole since ", path.display(), uuid.as_str().unwrap());
    assert!(
        text.contains("method: clone\nstate: copied\nhydration: 100 %\n") && text.contains(&told),
        "{text}"
    );
    let alone = p.json(&["show", "mnt", "rowed", "--json"]);
    assert!(alone["method"] == "row" && alone["state"] == "here alone", "{alone}");
    assert!(alone["hydration_percent"].is_null() && alone["copies"] == serde_json::json!([]), "{alone}");
    // Where it was is told while it is away, and over a kill.
    p.kill();
    p.mount("");
    ok(&p, "mv copy elsewhere");
    let away = p.json(&["show", "mnt", "mon", "--json"]);
    assert!(
        away["copies"][0]["state"] == "away" && away["state"] == "copied, and the copy is away",
        "{away}"
    );
    ok(&p, "mv elsewhere copy; snapfs delete mnt plain; snapfs delete mnt rowed");
    // How one was made travels with it.
    assert_eq!(p.json(&["show", "copy", "mon", "--json"])["method"], "clone");
    assert!(made["bytes"].as_u64().unwrap() < 20_000 && made["from"] == "mon", "{made}");
    // The copy stands alone: it is mounted, written, and the first store is gone.
    p.umount();
    ok(&p, "mkdir there; snapfs mount copy there; mv store away");
    assert_eq!(
        ok(&p, "cat there/day there/.snapshots/mon/a/hard 2>/dev/null || cat there/day"),
        "tuesday\none\n"
    );
    ok(&p, "echo own > there/own; snapfs umount there; snapfs check copy --data; mv away store");
    p.mount("");
    // What was changed in the copy is not lost; what came to nothing holds nothing.
    let done = shell(&p, "snapfs create mnt wed --method clone --to copy");
    assert!(done.code == 1 && done.err.contains("has changed since 'tue'"), "{done:?}");
    assert!(done.err.contains("snapfs send mnt wed --to copy"), "{done:?}");
    assert_eq!(p.json(&["hold", "mnt", "--list", "--json"]), serde_json::json!([]));
    ok(&p, "snapfs send mnt wed --to copy --as theirs");
    ok(
        &p,
        "snapfs mount copy there; test $(cat there/own) = own; test $(cat there/.clones/theirs/day) = tuesday",
    );
    let written = fs::write(p.at("there").join(".clones/theirs/day"), "x");
    assert_eq!(errno(written), libc::EROFS);
    ok(&p, "snapfs umount there; snapfs check copy");
}

#[test]
fn what_is_cut_off_goes_on_and_what_differs_is_told() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fill(&p);
    p.snapshot("one");
    ok(&p, "snapfs init copy; mkdir there; snapfs mount copy there; echo mine > there/own");
    let cut = shell(&p, "snapfs send mnt one | head -c 2000000 | snapfs receive there");
    assert!(cut.code == 1 && cut.err.contains("--resume "), "{cut:?}");
    let listed = ok(&p, "snapfs list there");
    assert!(listed.contains("RECEIVING") && !listed.contains(".receiving"), "{listed}");
    assert_eq!(ok(&p, "ls -A there; ls there/.clones"), "own\n");
    // It survives the daemon.
    let status = p.json(&["status", "there", "--json"]);
    let pid = status[0]["pid"].as_u64().or_else(|| status["pid"].as_u64()).unwrap();
    ok(
        &p,
        &format!(
            "kill -9 {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.05; done; snapfs mount copy there"
        ),
    );
    let arrivals = p.json(&["list", "there", "--arrivals", "--json"]);
    let token = arrivals[0]["token"].as_str().unwrap().to_string();
    let rest = ok(
        &p,
        &format!("snapfs send mnt one --resume {token} > rest; snapfs receive there < rest; wc -c < rest"),
    );
    assert!(rest.contains(".clones/one"), "{rest}");
    same(&p, "mnt/.snapshots/one", "there/.clones/one");
    // Directly, where it goes on by itself.
    ok(&p, "head -c 2000000 /dev/urandom > mnt/second");
    p.snapshot("two");
    shell(&p, "snapfs send mnt two --from one | head -c 1500000 | snapfs receive there");
    let sent = p.json(&["send", "mnt", "two", "--to", "there", "--json"]);
    assert!(sent["bytes"].as_u64().unwrap() < 1_200_000, "{sent}");
    same(&p, "mnt/.snapshots/two", "there/.clones/one");
    // Of another snapshot there is no copy; a copy that is another is told.
    ok(&p, "echo x > mnt/third");
    p.snapshot("three");
    let none = shell(&p, "snapfs verify mnt three --with there");
    assert!(none.code == 1 && none.err.contains("no copy of 'three'"), "{none:?}");
    ok(&p, "snapfs umount there; snapfs check copy --data");
}

/// Names of sockets that processes have open and that anybody could connect to, whatever the rights of files say.
fn names_for_all(pids: &[u32]) -> Vec<String> {
    let links = pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap());
    let links = links.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    let inodes: Vec<String> = links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_string()))
        .collect();
    assert!(!inodes.is_empty());
    let all = fs::read_to_string("/proc/net/unix").unwrap();
    let names = all.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_theirs = inodes.iter().any(|inode| Some(&inode.as_str()) == fields.get(6));
        fields.get(7).filter(|name| is_theirs && name.starts_with('@')).map(|name| name.to_string())
    });
    names.collect()
}

#[test]
fn nobody_else_finds_the_way_of_a_stream() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fill(&p);
    p.snapshot("one");
    ok(&p, "snapfs send mnt one > one.stream; snapfs init copy; mkdir there; snapfs mount copy there");
    let stream = fs::read(p.at("one.stream")).unwrap();
    let mut receiving = p.command(&["receive", "there"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut input = receiving.stdin.take().unwrap();
    input.write_all(&stream[..2 << 20]).unwrap();
    let mut arrivals = p.json(&["list", "there", "--arrivals", "--json"]);
    while arrivals[0]["active"] != true {
        assert!(receiving.try_wait().unwrap().is_none(), "it has ended");
        arrivals = p.json(&["list", "there", "--arrivals", "--json"]);
    }
    let status = p.json(&["status", "there", "--json"]);
    let daemon = status[0]["pid"].as_u64().or_else(|| status["pid"].as_u64()).unwrap();
    assert_eq!(names_for_all(&[receiving.id(), daemon as u32]), Vec::<String>::new());
    input.write_all(&stream[2 << 20..]).unwrap();
    drop(input);
    assert!(receiving.wait().unwrap().success());
    same(&p, "mnt/.snapshots/one", "there");
    // Whoever sends nothing and goes away ends it.
    let mut receiving = p.command(&["receive", "there"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    drop(receiving.stdin.take());
    assert!(!receiving.wait().unwrap().success());
    ok(&p, "snapfs umount there; snapfs check copy --data");
}

#[test]
fn what_cannot_be_is_refused_with_a_sentence() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("f"), "x").unwrap();
    p.snapshot("one");
    fs::write(p.path("f"), "y").unwrap();
    p.snapshot("two");
    for (script, code, what) in [
        ("snapfs send mnt @live > x", 1, "make a snapshot of it"),
        ("snapfs send mnt none > x", 1, "no such view"),
        ("snapfs send mnt one --resume nonsense > x", 1, "no token"),
        ("snapfs send mnt one --from one > x", 1, "does not differ from itself"),
        ("snapfs send mnt two --from one | snapfs receive new", 1, "told against 'one'"),
        ("echo hello world, this is no stream at all | snapfs receive other", 1, "packet 0"),
        ("snapfs receive mnt --drop nonsense", 1, "no token"),
        ("snapfs create mnt x --method clone", 2, "--to"),
        ("snapfs send mnt one --as x > x", 2, "--to"),
        ("snapfs verify mnt one --with none", 1, "no such store"),
    ] {
        let done = shell(&p, &format!("set +e; {script}"));
        assert!(done.code == code && done.err.contains(what), "{script}: {done:?}");
    }
    assert_eq!(ok(&p, "snapfs list mnt | tail -n +2 | wc -l"), "2\n");
    // Nobody takes it: that is no failure of the store.
    let gone = shell(
        &p,
        "head -c 40000000 /dev/zero | tr '\\0' x > mnt/big; snapfs create mnt big; snapfs send mnt big | true",
    );
    assert_eq!(gone.code, 0, "{gone:?}");
    p.umount();
    p.check();
}

#[test]
fn what_comes_to_nothing_leaves_nothing_and_is_no_success() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fill(&p);
    p.snapshot("one");
    ok(&p, "snapfs send mnt one > one.stream; echo more > mnt/more; snapfs create mnt two");
    // No store is made for what cannot become a snapshot in it.
    for stream in [": |", "echo nonsense |", "snapfs send mnt two --from one |", "head -c 100 one.stream |"] {
        let said = shell(&p, &format!("{stream} snapfs receive new"));
        assert!(said.code == 1 && !said.err.is_empty(), "{stream}: {said:?}");
        assert!(!p.at("new").exists(), "{stream}");
    }
    // One whose making was cut off is made again.
    ok(
        &p,
        "snapfs init half; truncate -s 0 half/super.b; dd if=/dev/zero of=half/super.a bs=4k count=64 conv=notrunc; : > half/making",
    );
    ok(&p, "snapfs receive half < one.stream; snapfs check half --data");
    // Half a stream is no copy, whoever ends it.
    let said = shell(&p, "snapfs send mnt one > /dev/full");
    assert!(said.code == 1 && said.err.contains("No space left"), "{said:?}");
    let said = shell(&p, "{ snapfs send mnt one || echo code $? >&2; } | head -c 100 > /dev/null");
    assert!(said.err.contains("nobody takes it any more") && said.err.contains("code 1"), "{said:?}");
    // More than one at once is not passed over in silence.
    let said = shell(&p, "cat one.stream one.stream | snapfs receive more");
    assert!(
        said.code == 1 && said.err.contains("'one' was received") && said.err.contains("more"),
        "{said:?}"
    );
    let token = "snapfs send mnt one --resume $(snapfs send mnt one | head -c 2000000 | snapfs receive cut 2>&1 | grep -o '[0-9a-f]*:[0-9]*$')99";
    let said = shell(&p, &format!("{token} > /dev/null"));
    assert!(said.code == 1 && said.err.contains("the last packet of this stream"), "{said:?}");
    // The store itself is no other place, and neither is one inside of it.
    for to in ["mnt", "store", "mnt/inside"] {
        for command in ["send mnt one --to", "create mnt again --method clone --to"] {
            let said = shell(&p, &format!("snapfs {command} {to}"));
            assert_eq!(said.code, 1, "{command} {to}: {said:?}");
            ok(&p, "snapfs delete mnt again 2> /dev/null || true");
        }
    }
    assert!(!p.path("inside").exists());
    let said = shell(&p, "snapfs create mnt aside --method background --to store");
    assert!(said.code == 1 && said.err.contains("the store itself"), "{said:?}");
    p.umount();
    p.check();
}

/// A copy in a store of this kind and size, which is there and empty; a later one that costs what has changed; both are what they
/// are copies of, and the store is one by itself.
fn is_copied_into(p: &Place, to: &str, tag: &str) {
    let [first, second] = ["mon", "tue"].map(|day| format!("{day}-{tag}"));
    ok(p, &format!("snapfs create mnt {first} --method clone --to {to}"));
    ok(p, "head -c 300000 /dev/urandom > mnt/a/day; echo again >> mnt/a/hard");
    let made = p.json(&["create", "mnt", &second, "--method", "clone", "--to", to, "--json"]);
    let bytes = made["bytes"].as_u64().expect("a number");
    assert!((300_000..400_000).contains(&bytes) && made["from"] == first.as_str(), "{to}: {made}");
    let uuid = p.json(&["info", to, "--json"])["uuid"].clone();
    for name in [&first, &second] {
        let shown = p.json(&["show", "mnt", name, "--json"]);
        let copy = &shown["copies"][0];
        assert!(shown["method"] == "clone" && shown["state"] == "copied", "{shown}");
        assert!(copy["state"] == "whole" && copy["store"] == uuid, "{shown}");
        assert_eq!(copy["to"], p.at(to).canonicalize().unwrap().to_str().unwrap(), "{shown}");
        assert!(ok(p, &format!("snapfs verify mnt {name} --with {to}")).contains("the same"));
    }
    ok(p, &format!("snapfs mount {to} there"));
    same(p, &format!("mnt/.snapshots/{first}"), &format!("there/.snapshots/{first}"));
    same(p, &format!("mnt/.snapshots/{second}"), "there");
    ok(p, "echo own > there/own; snapfs create there later; snapfs umount there");
    ok(p, &format!("snapfs check {to} --data"));
}

#[test]
fn copies_go_into_images_of_any_size_and_onto_a_block_device() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fill(&p);
    ok(&p, "mkdir there; head -c 20000000 /dev/urandom > mnt/large");
    // One of the size that it needs, and one much larger than what is there.
    let images = [("80M", "small.img"), ("900G", "large.img")];
    for (size, image) in images {
        ok(&p, &format!("snapfs init --size {size} {image}"));
        is_copied_into(&p, image, image.split('.').next().unwrap());
    }
    // What does not fit is refused, and leaves a sound store and a snapshot here that can be copied elsewhere.
    ok(&p, "snapfs init --size 32M tiny.img; head -c 20000000 /dev/urandom > mnt/larger");
    let said = shell(&p, "snapfs create mnt wed --method clone --to tiny.img");
    assert!(said.code == 1 && said.err.contains("tiny.img"), "{said:?}");
    ok(&p, "snapfs check tiny.img --data; ! snapfs verify mnt wed --with tiny.img");
    ok(&p, "snapfs init --size 1G other.img; snapfs send mnt wed --to other.img");
    ok(&p, "snapfs verify mnt wed --with other.img; rm mnt/larger");
    fs::File::create(p.at("disk")).and_then(|file| file.set_len(100 << 20)).expect("a file");
    let disk = Loop::over(&p.at("disk"), &[]);
    if let Some(disk) = &disk {
        ok(&p, &format!("snapfs init {}", disk.0));
        is_copied_into(&p, &disk.0, "disk");
    }
    // They stand alone.
    let expected = ok(&p, "cd mnt; sha256sum big large");
    p.umount();
    ok(&p, "mv store away");
    for copy in images.iter().map(|(_, image)| *image).chain(disk.iter().map(|disk| disk.0.as_str())) {
        ok(&p, &format!("snapfs mount {copy} there"));
        assert_eq!(ok(&p, "cat there/own; ls there/.snapshots | grep later"), "own\nlater\n", "{copy}");
        assert_eq!(ok(&p, "cd there; sha256sum big large"), expected, "{copy}");
        ok(&p, "snapfs umount there");
    }
    ok(&p, "mv away store");
    p.check();
}

/// Harms every node that has these bytes in it, wherever its copies are.
fn harm_nodes_with(p: &Place, bytes: &[u8]) {
    const NODE: usize = 16 << 10;
    let mut harmed = 0;
    for file in fs::read_dir(p.at("store/seg")).unwrap().map(|file| file.unwrap().path()) {
        let content = fs::read(&file).unwrap();
        let file = fs::File::options().write(true).open(&file).unwrap();
        for (n, node) in content.chunks(NODE).enumerate() {
            if node.get(8..12) == Some(b"SnpB") && node.windows(bytes.len()).any(|part| part == bytes) {
                file.write_all_at(&[!node[100]], (n * NODE + 100) as u64).unwrap();
                harmed += 1;
            }
        }
    }
    assert!(harmed > 0);
}

#[test]
fn what_ends_before_its_end_says_so_and_how_to_go_on() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("a name that is in a node"), vec![7; 100_000]).unwrap();
    ok(
        &p,
        "snapfs create mnt one; snapfs send mnt one > one.stream; snapfs clone mnt tried; echo text > plain",
    );
    for (command, word) in [
        ("snapfs send mnt .clones/tried", "snapfs create MNT/.clones/tried NAME"),
        ("snapfs send mnt @live", "snapfs create MNT NAME"),
        ("snapfs receive plain < one.stream", "snapfs init"),
    ] {
        let said = shell(&p, &format!("{command} > out"));
        assert!(said.code == 1 && said.err.contains(word), "{command}: {said:?}");
    }
    // Who receives is interrupted.
    let mut receiving = p.command(&["receive", "other"]);
    let mut receiving = receiving.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let half = fs::read(p.at("one.stream")).unwrap();
    let mut to = receiving.stdin.take().unwrap();
    to.write_all(&half[..half.len() / 2]).unwrap();
    let threads = format!("/proc/{}/task", receiving.id());
    place::wait("it looks out for its end", || {
        let names =
            fs::read_dir(&threads).unwrap().flatten().map(|t| fs::read_to_string(t.path().join("comm")));
        names.flatten().any(|name| name.trim() == "ended")
    });
    ok(&p, &format!("kill -INT {}", receiving.id()));
    let ended = receiving.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{err}");
    assert!(err.contains("--arrivals other") && err.contains("send --resume"), "{err}");
    drop(to);
    // Who follows changes is left alone by the daemon.
    fs::write(p.path("changed"), "x").unwrap();
    let mut following = p.command(&["changes", "mnt", "--follow", "--since", "one"]);
    let mut following = following.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(following.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    p.signal("-KILL");
    let ended = following.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && err.contains("has ended without being told to"), "{err}");
    p.wait_gone();
    // What is damaged in both copies is damage for whoever sends.
    p.mount("");
    p.umount();
    harm_nodes_with(&p, b"a name that is in a node");
    for command in ["snapfs send store one > out", "snapfs send store one --to third"] {
        let said = shell(&p, command);
        assert!(said.code == 3 && said.err.contains("damaged"), "{command}: {said:?}");
    }
}

/// All holds that there are, of one snapshot.
fn holds(p: &Place, at: &str, name: &str) -> Vec<Value> {
    let all = p.json(&["hold", at, "--list", "--json"]);
    all.as_array().unwrap().iter().filter(|hold| hold["snapshot"] == name).cloned().collect()
}

/// The tags that a list shows.
fn held(p: &Place, at: &str, name: &str) -> Value {
    let all = p.json(&["list", at, "--held", "--json"]);
    let found = all.as_array().unwrap().iter().find(|row| row["name"] == name);
    found.map_or(serde_json::json!([]), |row| row["held"].clone())
}

#[test]
fn what_is_sent_is_held_and_told_and_falls_off() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    ok(&p, "head -c 90000000 /dev/urandom > mnt/big; snapfs create mnt piped");
    // Into a pipe: while it is sent.
    let program = env!("CARGO_BIN_EXE_snapfs");
    let spawn = |args: &[&str]| {
        let mut command = Command::new(program);
        p.settle(&mut command).args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut sender = spawn(&["send", "mnt", "piped"]);
    wait("it is held", || held(&p, "mnt", "piped") == serde_json::json!(["send"]));
    let told = &holds(&p, "mnt", "piped")[0];
    assert!(told["kind"] == "send" && told["user"] == 0 && told["since"].is_string(), "{told}");
    let done = shell(&p, "snapfs delete mnt piped");
    assert!(done.code == 1 && done.err.contains("it is being sent (by root, since"), "{done:?}");
    assert_eq!(errno(fs::remove_dir(p.past("piped", ""))), libc::EBUSY);
    assert!(ok(&p, "snapfs show mnt piped").contains("held by: send (by root, since"));
    sender.kill().unwrap();
    sender.wait().unwrap();
    wait("it falls off", || held(&p, "mnt", "piped") == serde_json::json!([]));
    ok(&p, "snapfs delete mnt piped");

    // To another store: over the end of the command and of the daemon, so that it can be gone on with.
    let mut sender = spawn(&["create", "mnt", "c1", "--method", "clone", "--to", "copy"]);
    wait("it is held", || held(&p, "mnt", "c1") != serde_json::json!([]));
    ok(&p, &format!("kill -STOP {}", sender.id()));
    let tag = held(&p, "mnt", "c1")[0].as_str().unwrap().to_string();
    let done = shell(&p, "snapfs delete mnt c1");
    let way = format!("'snapfs release MNT c1 --tag {tag}' lets it go; {tag} (by root, since ");
    assert!(done.code == 1 && done.err.contains(&way) && done.err.contains(", until "), "{done:?}");
    assert_eq!(errno(fs::remove_dir(p.past("c1", ""))), libc::EBUSY);
    sender.kill().unwrap();
    sender.wait().unwrap();
    p.kill();
    p.mount("");
    let told = &holds(&p, "mnt", "c1")[0];
    assert!(told["user"] == 0 && told["expires"].is_string() && told["tag"] == tag.as_str(), "{told}");
    assert!(ok(&p, "snapfs list mnt --held").contains(&tag));
    assert_eq!(shell(&p, "snapfs delete mnt c1").code, 1);
    ok(&p, "snapfs send mnt c1 --to copy");
    let uuid = p.json(&["info", "copy", "--json"])["uuid"].clone();
    assert_eq!(tag, format!("send-{}", &uuid.as_str().unwrap()[..8]));
    assert_eq!((holds(&p, "mnt", "c1"), held(&p, "mnt", "c1")), (Vec::new(), serde_json::json!([])));
    assert_eq!(p.json(&["show", "mnt", "c1", "--json"])["method"], "clone");

    // What something is told against that was cut off is held by that, where it comes.
    ok(&p, "head -c 20000000 /dev/urandom > mnt/more; snapfs create mnt c2");
    ok(&p, "snapfs send mnt --from c1 c2 | head -c 15000000 > cut; ! snapfs receive copy < cut 2>/dev/null");
    assert_eq!(held(&p, "copy", "c1"), serde_json::json!(["receive"]));
    let told = &holds(&p, "copy", "c1")[0];
    assert!(told["user"] == 0 && told["expires"].is_string() && told["since"].is_string(), "{told}");
    let arrival = p.json(&["list", "copy", "--arrivals", "--json"])[0].clone();
    assert!(
        arrival["user"] == 0 && arrival["since"].is_string() && arrival["expires"].is_string(),
        "{arrival}"
    );
    ok(&p, "mkdir there; snapfs mount copy there");
    let done = shell(&p, "snapfs delete there c1");
    assert!(done.code == 1 && done.err.contains("told against it (by root, since "), "{done:?}");
    ok(&p, "snapfs send mnt c2 --to there; snapfs delete there c1; snapfs umount there");
    ok(&p, "snapfs delete mnt c1; snapfs delete mnt c2");
    p.check();
}

#[test]
fn who_is_refused_leaves_the_hold_of_who_sends_alone() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    ok(&p, "head -c 150000000 /dev/urandom > mnt/big; snapfs create mnt one; snapfs init other; mkdir there");
    ok(&p, "snapfs mount other there");
    let program = env!("CARGO_BIN_EXE_snapfs");
    let mut command = Command::new(program);
    let first = p.settle(&mut command).args(["send", "mnt", "one", "--to", "there"]);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let comes = || p.json(&["list", "there", "--arrivals", "--json"])[0]["active"] == true;
    wait("it is received", comes);
    ok(&p, &format!("kill -STOP {}", first.id()));
    assert!(comes(), "there was more to come");
    let tags = held(&p, "mnt", "one");
    assert!(tags[0].as_str().is_some_and(|tag| tag.starts_with("send-")), "{tags}");
    let second = shell(&p, "snapfs send mnt one --to there");
    assert!(second.code == 1 && second.err.contains("is being received already"), "{second:?}");
    assert_eq!(held(&p, "mnt", "one"), tags);
    // Also when the first one ends before its end: what has come waits for the rest. The next one brings it.
    first.kill().unwrap();
    first.wait().unwrap();
    wait("it is cut off", || !comes());
    assert_eq!(held(&p, "mnt", "one"), tags);
    let third = ok(&p, "snapfs send mnt one --to there --json");
    assert!(third.contains("\"was_here\": false"), "{third}");
    assert_eq!(held(&p, "mnt", "one"), serde_json::json!([]));
    ok(&p, "cmp mnt/big there/big; snapfs umount there; snapfs check other");
    p.umount();
    p.check();
}

#[test]
fn a_store_that_is_not_mounted_notes_where_copies_went() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    ok(&p, "echo one > mnt/f; snapfs create mnt one");
    p.umount();
    ok(&p, "snapfs send store one --to other");
    let (other, path) =
        (p.json(&["info", "other", "--json"])["uuid"].clone(), p.at("other").canonicalize().unwrap());
    let told = |at: &str, name: &str| {
        let shown = p.json(&["show", at, name, "--json"]);
        (shown["copies"][0]["store"].clone(), shown["copies"][0]["to"].clone())
    };
    let expected = (other, serde_json::json!(path.to_str().unwrap()));
    assert_eq!(told("store", "one"), expected);
    let sent = |at: &str| {
        let all = p.json(&["list", at, "--sent", "--json"]);
        let [one] = &all.as_array().unwrap()[..] else { panic!("{all}") };
        assert!(one["sent"].is_string() && one["created"].is_string(), "{one}");
        assert_eq!((&one["store"], &one["to"]), (&expected.0, &expected.1));
        (one["name"].as_str().unwrap().to_string(), one["here"] == true)
    };
    assert_eq!(sent("store"), ("one".to_string(), true));
    assert_eq!(p.json(&["list", "other", "--sent", "--json"]), serde_json::json!([]));
    // What the other store has is a base also when it is gone here.
    p.mount("");
    assert_eq!(told("mnt", "one"), expected);
    ok(&p, "snapfs delete mnt one; head -c 9000000 /dev/urandom > mnt/big; snapfs create mnt two");
    assert_eq!(sent("mnt"), ("one".to_string(), false));
    assert!(ok(&p, "snapfs list mnt --sent").contains("SENT LAST"));
    p.umount();
    let told = ok(&p, "snapfs send store two --to other --json");
    assert!(told.contains("\"from\": \"one\""), "{told}");
    assert_eq!(sent("store"), ("two".to_string(), true));
    // Where nothing can be noted the copy is whole all the same.
    if place::is_root() {
        ok(&p, "cp -a store still; mkdir ro; mount --bind still ro; mount -o remount,bind,ro ro");
        let done = shell(&p, "snapfs send ro two --to third; snapfs verify ro two --with third");
        ok(&p, "umount ro");
        assert!(done.code == 0 && done.err.contains("the copy is whole, but nothing is noted"), "{done:?}");
    }
    ok(&p, "snapfs check store; snapfs check other");
}

/// Nothing changes by itself in a line that was received.
#[test]
fn a_received_line_has_no_schedule_and_a_clone_of_it_has() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("f"), "there").unwrap();
    p.snapshot("one");
    p.ok(&["init", "other"]);
    fs::create_dir(p.at("its")).unwrap();
    p.ok(&["mount", "other", "its"]);
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        fs::write(p.at("its/own"), "a life of its own").unwrap();
        p.ok(&["send", "mnt", "one", "--to", "its"]);
        let received = names(&p.at("its/.clones"));
        let [line] = &received[..] else { panic!("{received:?}") };
        let at = format!("its/.clones/{line}");
        let refused = p.run(&["schedule", &at, "every=1h", "keep=24h"]);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.err.contains("schedule a clone of it"), "{refused:?}");
        assert_eq!(p.json(&["schedule", &at, "--json"]), serde_json::json!([]));
        p.ok(&["clone", &at, "mine", "--from", "one"]);
        p.ok(&["schedule", "its/.clones/mine", "every=1h", "keep=24h"]);
    }));
    p.ok(&["umount", "its"]);
    p.umount();
    if let Err(why) = done {
        std::panic::resume_unwind(why);
    }
}
