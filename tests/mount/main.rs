//! The FUSE transport on a real mount, over a file system in memory: what only the kernel can show.

mod guard;
mod toyfs;

use guard::{Scratch, TestMount, can_mount};
use snapfs::ops::NodeId;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::sync::atomic::Ordering;
use toyfs::ToyFs;

fn mounted() -> Option<(std::sync::Arc<ToyFs>, TestMount)> {
    if !can_mount() {
        return None;
    }
    let toy = ToyFs::new();
    let mount = TestMount::with(toy.clone(), |_| {});
    toy.set_kernel(mount.mounted().kernel());
    Some((toy, mount))
}

/// Maps a file and writes through the mapping when the file is closed: closing would write the pages back.
fn map_and_write(file: File, offset: usize, data: &[u8], len: usize) -> Mapping {
    let mapping = Mapping::new(&file, len);
    drop(file);
    mapping.write(offset, data);
    mapping
}

use mapping::Mapping;

/// Shared mappings for tests: the one place here that needs it.
mod mapping {
    #![allow(unsafe_code)]
    use std::fs::File;
    use std::os::fd::AsRawFd;

    pub struct Mapping(*mut u8, usize);

    impl Mapping {
        pub fn new(file: &File, len: usize) -> Mapping {
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a new mapping anywhere, of a file that stays that long.
            let at =
                unsafe { libc::mmap(std::ptr::null_mut(), len, prot, libc::MAP_SHARED, file.as_raw_fd(), 0) };
            assert_ne!(at, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
            Mapping(at.cast(), len)
        }
        pub fn write(&self, offset: usize, data: &[u8]) {
            assert!(offset + data.len() <= self.1);
            // SAFETY: inside the mapping.
            unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.0.add(offset), data.len()) }
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: the mapping that `new` made.
            unsafe { libc::munmap(self.0.cast(), self.1) };
        }
    }
}

#[test]
fn files_are_created_written_read_and_removed() {
    let Some((toy, m)) = mounted() else { return };
    let path = m.path("file");
    let mut file = File::create_new(&path).expect("create");
    file.write_all(b"hello world").expect("write");
    drop(file);
    assert_eq!(toy.content(b"file"), b"hello world");
    let mut file = File::options().read(true).write(true).open(&path).expect("open");
    file.seek(SeekFrom::Start(6)).expect("seek");
    file.write_all(b"there").expect("write");
    let mut text = String::new();
    file.rewind().expect("rewind");
    file.read_to_string(&mut text).expect("read");
    assert_eq!(text, "hello there");
    let mut appending = File::options().append(true).open(&path).expect("open");
    appending.write_all(b"!").expect("append");
    assert_eq!(fs::read(&path).expect("read"), b"hello there!");
    File::create(&path).expect("truncate");
    assert_eq!(fs::metadata(&path).expect("stat").len(), 0);
    fs::remove_file(&path).expect("unlink");
    assert!(!path.exists());
    fs::write(&path, b"again").expect("a negative entry does not hide a new file");
    assert_eq!(fs::read(&path).expect("read"), b"again");
}

#[test]
fn large_data_survives_in_both_cache_modes() {
    if !can_mount() {
        return;
    }
    let data: Vec<u8> = (0..5_000_000u32).map(|i| (i * 7 + (i >> 11)) as u8).collect();
    for writeback in [false, true] {
        let toy = ToyFs::new();
        let m = TestMount::with(toy.clone(), |o| o.writeback_cache = writeback);
        fs::write(m.path("big"), &data).expect("write");
        assert!(toy.content(b"big") == data, "cache=writeback: {writeback}");
        assert!(fs::read(m.path("big")).expect("read") == data);
    }
}

#[test]
fn thousand_names_are_listed_once_each() {
    let Some((_toy, m)) = mounted() else { return };
    let names: BTreeSet<String> = (0..1000).map(|i| format!("a name of some length, number {i}")).collect();
    for name in &names {
        File::create_new(m.path(name)).expect("create");
    }
    for _ in 0..3 {
        let mut seen = BTreeSet::new();
        for entry in fs::read_dir(m.path("")).expect("readdir") {
            let entry = entry.expect("entry");
            assert!(entry.file_type().expect("type").is_file());
            assert!(entry.metadata().expect("stat").is_file());
            assert!(seen.insert(entry.file_name().into_string().expect("text")));
        }
        assert_eq!(seen, names);
    }
    fs::remove_file(m.path(names.first().expect("one"))).expect("unlink");
    assert_eq!(fs::read_dir(m.path("")).expect("readdir").count(), 999);
}

#[test]
fn directories_links_and_special_files() {
    let Some((_toy, m)) = mounted() else { return };
    fs::create_dir(m.path("d")).expect("mkdir");
    fs::write(m.path("d/f"), b"x").expect("write");
    assert!(fs::remove_dir(m.path("d")).is_err_and(|e| e.raw_os_error() == Some(libc::ENOTEMPTY)));
    fs::hard_link(m.path("d/f"), m.path("hard")).expect("link");
    assert_eq!(fs::metadata(m.path("hard")).expect("stat").nlink(), 2);
    symlink("d/f", m.path("soft")).expect("symlink");
    assert_eq!(fs::read(m.path("soft")).expect("read"), b"x");
    assert_eq!(fs::metadata(m.path("")).expect("stat").nlink(), 3);
    let made = Command::new("mkfifo").arg("-m").arg("640").arg(m.path("fifo")).status().expect("mkfifo");
    assert!(made.success());
    let fifo = fs::symlink_metadata(m.path("fifo")).expect("stat");
    assert!(fifo.file_type().is_fifo() && fifo.permissions().mode() & 0o7777 == 0o640);
    let _socket = std::os::unix::net::UnixListener::bind(m.path("socket")).expect("socket");
    assert!(fs::symlink_metadata(m.path("socket")).expect("stat").file_type().is_socket());
    let long = "n".repeat(256);
    assert!(File::create(m.path(&long)).is_err_and(|e| e.raw_os_error() == Some(libc::ENAMETOOLONG)));
}

#[test]
fn rename_replaces_swaps_or_refuses() {
    let Some((_toy, m)) = mounted() else { return };
    fs::write(m.path("a"), b"A").expect("write");
    fs::write(m.path("b"), b"B").expect("write");
    let mv = |flag: &str| {
        Command::new("mv").args([flag, "-T"]).arg(m.path("a")).arg(m.path("b")).output().expect("mv")
    };
    mv("-n");
    assert_eq!(fs::read(m.path("b")).expect("read"), b"B");
    fs::rename(m.path("a"), m.path("b")).expect("rename");
    assert_eq!(fs::read(m.path("b")).expect("read"), b"A");
    assert!(!m.path("a").exists());
}

#[test]
fn attributes_and_old_times() {
    let Some((_toy, m)) = mounted() else { return };
    let path = m.path("f");
    fs::write(&path, b"12345").expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4711)).expect("chmod");
    assert_eq!(fs::metadata(&path).expect("stat").mode() & 0o7777, 0o4711);
    let touched = Command::new("touch").args(["-d", "1969-12-31T23:59:57.25Z"]).arg(&path).status();
    assert!(touched.expect("touch").success());
    let stat = fs::metadata(&path).expect("stat");
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (-3, 250_000_000));
    // The very first second there is: nothing on the way may fall over it.
    let script =
        "import os,sys; os.utime(sys.argv[1], (-2**63, -2**63)); print(os.stat(sys.argv[1]).st_mtime_ns)";
    if let Ok(out) = Command::new("python3").args(["-c", script]).arg(&path).output() {
        let shown = String::from_utf8_lossy(&out.stdout).trim().to_string();
        assert_eq!(shown, "-9223372036854775808000000000", "{out:?}");
    }
    let file = File::options().write(true).open(&path).expect("open");
    file.set_len(3).expect("truncate");
    assert_eq!(fs::read(&path).expect("read"), b"123");
}

#[test]
fn umask_is_applied_once() {
    let Some((_toy, m)) = mounted() else { return };
    let script = "umask 027; : > f; mkdir d";
    let status = Command::new("sh").args(["-c", script]).current_dir(m.path("")).status().expect("sh");
    assert!(status.success());
    assert_eq!(fs::metadata(m.path("f")).expect("stat").mode() & 0o7777, 0o640);
    assert_eq!(fs::metadata(m.path("d")).expect("stat").mode() & 0o7777, 0o750);
}

#[test]
fn extended_attributes() {
    let Some((_toy, m)) = mounted() else { return };
    fs::write(m.path("f"), b"").expect("write");
    let run = |args: &[&str]| {
        let script = "import os,sys\nf=sys.argv[1]\nexec(sys.argv[2])";
        let out = Command::new("python3").args(["-c", script]).arg(m.path("f")).args(args).output();
        out.ok().map(|o| (o.status.success(), String::from_utf8_lossy(&o.stdout).trim().to_string()))
    };
    let Some((ok, listed)) =
        run(&["os.setxattr(f,'user.a',b'x'*3000)\nos.setxattr(f,'user.b',b'')\nprint(os.listxattr(f))"])
    else {
        eprintln!("SKIPPED: no python3 to set extended attributes with");
        return;
    };
    assert!(ok);
    assert_eq!(listed, "['user.a', 'user.b']");
    let read = run(&["print(len(os.getxattr(f,'user.a')), len(os.getxattr(f,'user.b')))"]);
    assert_eq!(read, Some((true, "3000 0".into())));
    let wrong = "import errno\ntry: os.setxattr(f,'user.a',b'',os.XATTR_CREATE)\n\
                 except OSError as e: print(errno.errorcode[e.errno])\n\
                 os.removexattr(f,'user.a')\ntry: os.getxattr(f,'user.a')\n\
                 except OSError as e: print(errno.errorcode[e.errno])";
    assert_eq!(run(&[wrong]), Some((true, "EEXIST\nENODATA".into())));
}

#[test]
fn ranges_holes_and_copies() {
    let Some((toy, m)) = mounted() else { return };
    fs::write(m.path("f"), vec![1u8; 20_000]).expect("write");
    let run = |program: &str, args: &[&str]| {
        Command::new(program).args(args).current_dir(m.path("")).output().is_ok_and(|o| o.status.success())
    };
    assert!(run("fallocate", &["-p", "-o", "4096", "-l", "4096", "f"]));
    assert_eq!(toy.content(b"f")[4095..4097], [1, 0]);
    assert!(run("fallocate", &["-z", "-o", "0", "-l", "100", "f"]));
    assert_eq!(toy.content(b"f")[99..101], [0, 1]);
    assert!(run("fallocate", &["-l", "30000", "f"]));
    assert_eq!(fs::metadata(m.path("f")).expect("stat").len(), 30_000);
    assert!(!run("fallocate", &["-c", "-o", "0", "-l", "4096", "f"]), "collapse is not offered");
    assert_eq!(fs::copy(m.path("f"), m.path("g")).expect("copy"), 30_000);
    assert!(fs::read(m.path("g")).expect("read") == toy.content(b"f"));
}

#[test]
fn direct_io_and_the_cache_agree() {
    use std::os::unix::fs::OpenOptionsExt;
    let Some((_toy, m)) = mounted() else { return };
    fs::write(m.path("f"), vec![1u8; 8192]).expect("write");
    assert_eq!(fs::read(m.path("f")).expect("read")[0], 1);
    let direct =
        File::options().read(true).write(true).custom_flags(libc::O_DIRECT).open(m.path("f")).expect("open");
    direct.write_all_at(&vec![2u8; 4096], 4096).expect("write");
    let all = fs::read(m.path("f")).expect("read");
    assert_eq!((all[4095], all[4096], all.len()), (1, 2, 8192));
}

#[test]
fn set_id_bits_go_when_another_user_writes() {
    let Some((_toy, m)) = mounted() else { return };
    if snapfs::sys::process::effective_uid() != 0 {
        eprintln!("SKIPPED: only root can become another user");
        return;
    }
    fs::write(m.path("f"), b"x").expect("write");
    fs::set_permissions(m.path("f"), fs::Permissions::from_mode(0o6777)).expect("chmod");
    let args = ["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", "echo y >> f"];
    let wrote = Command::new("setpriv").args(args).current_dir(m.path("")).status().expect("setpriv");
    assert!(wrote.success());
    assert_eq!(fs::metadata(m.path("f")).expect("stat").mode() & 0o6000, 0);
}

#[test]
fn statfs_is_in_blocks() {
    let Some((_toy, m)) = mounted() else { return };
    let out = Command::new("stat").args(["-f", "-c", "%S %b %f %a %c %d %l"]).arg(m.path("")).output();
    let text = String::from_utf8_lossy(&out.expect("stat").stdout).trim().to_string();
    assert_eq!(text, "4096 262144 131072 65536 1000 900 255");
}

#[test]
fn names_that_are_not_there_are_remembered() {
    let Some((toy, m)) = mounted() else { return };
    assert!(!m.path("nothing").exists());
    let before = toy.lookups.load(Ordering::Relaxed);
    for _ in 0..100 {
        assert!(!m.path("nothing").exists());
    }
    assert_eq!(toy.lookups.load(Ordering::Relaxed), before);
    m.mounted().kernel().invalidate_entry(NodeId::ROOT, b"nothing");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while toy.lookups.load(Ordering::Relaxed) == before {
        assert!(!m.path("nothing").exists());
        assert!(std::time::Instant::now() < end, "the invalidation never arrived");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn write_back_brings_mapped_pages() {
    for writeback in [false, true] {
        if !can_mount() {
            return;
        }
        let toy = ToyFs::new();
        let m = TestMount::with(toy.clone(), |o| o.writeback_cache = writeback);
        let path = m.path("f");
        fs::write(&path, vec![0u8; 65536]).expect("write");
        let file = File::options().read(true).write(true).open(&path).expect("open");
        let _mapping = map_and_write(file, 5000, b"mapped", 65536);
        assert_eq!(toy.content(b"f")[5000..5006], [0; 6]);
        m.mounted().kernel().write_back(&toy.open_for_write()).expect("write back");
        assert_eq!(&toy.content(b"f")[5000..5006], b"mapped");
    }
}

#[test]
fn who_reads_is_answered_however_many_wait_to_change_something() {
    const WRITERS: usize = 9;
    if !can_mount() {
        return;
    }
    let toy = ToyFs::new();
    let m = TestMount::with(toy.clone(), |o| o.threads = 2);
    let path = |n: usize| m.path(&format!("f{n}"));
    let files: Vec<File> = (0..WRITERS).map(|n| File::create(path(n)).expect("create")).collect();
    fs::write(m.path("old"), "old").expect("write");
    // Who removes something has its directory locked in the kernel.
    fs::create_dir(m.path("dir")).expect("mkdir");
    fs::write(m.path("dir/gone"), "x").expect("write");
    toy.stand_still();
    std::thread::scope(|s| {
        for file in &files {
            s.spawn(|| file.write_all_at(b"later", 0).expect("write"));
        }
        s.spawn(|| fs::remove_file(m.path("dir/gone")).expect("unlink"));
        toy.await_waiting(WRITERS + 1);
        // None of this is in the kernel's caches.
        for n in 0..100 {
            fs::metadata(m.path(&format!("missing{n}"))).expect_err("it is not there");
        }
        assert_eq!(fs::read_dir(m.path("")).expect("readdir").count(), WRITERS + 2);
        let mut content = [0; 3];
        let old = File::open(m.path("old")).expect("open");
        m.mounted().kernel().invalidate_now(NodeId(old.metadata().expect("stat").ino()));
        old.read_exact_at(&mut content, 0).expect("read");
        assert_eq!(&content, b"old");
        toy.go_on();
    });
    (0..WRITERS).for_each(|n| assert_eq!(fs::read(path(n)).expect("read"), b"later"));
    fs::metadata(m.path("dir/gone")).expect_err("it was removed");
}

#[test]
fn mkdir_in_snapshots_flushes_first() {
    let Some((toy, m)) = mounted() else { return };
    let mut mappings = Vec::new();
    for i in 0..300 {
        let path = m.path(&format!("f{i}"));
        fs::write(&path, vec![0u8; 8192]).expect("write");
        let file = File::options().read(true).write(true).open(&path).expect("open");
        mappings.push(map_and_write(file, 4090, format!("number {i}").as_bytes(), 8192));
    }
    fs::create_dir(m.path(".snapshots/one")).expect("snapshot");
    for i in 0..300 {
        let want = format!("number {i}");
        let got = toy.content_at(b"one", format!("f{i}").as_bytes());
        assert_eq!(&got[4090..4090 + want.len()], want.as_bytes());
    }
    assert!(fs::create_dir(m.path(".snapshots/one")).is_err_and(|e| e.raw_os_error() == Some(libc::EEXIST)));
    fs::rename(m.path(".snapshots/one"), m.path(".snapshots/two")).expect("rename");
    assert!(!m.path(".snapshots/one").exists());
    assert!(
        fs::rename(m.path(".snapshots/two"), m.path("out"))
            .is_err_and(|e| e.raw_os_error() == Some(libc::EXDEV))
    );
    fs::remove_dir(m.path(".snapshots/two")).expect("delete");
    assert_eq!(fs::read_dir(m.path(".snapshots")).expect("readdir").count(), 0);
}

#[test]
fn the_hidden_directory_is_the_flushers_alone() {
    let Some((_toy, m)) = mounted() else { return };
    let shell = |script: &str| {
        Command::new("sh")
            .args(["-c", script])
            .current_dir(m.path(""))
            .output()
            .is_ok_and(|o| o.status.success())
    };
    assert!(!shell("ls .snapfs-nodes"));
    assert!(!shell("mkdir .snapfs-nodes"));
    assert!(!shell(": > .snapfs-nodes"));
    // This test and the daemon are one process.
    assert!(fs::metadata(m.path(".snapfs-nodes")).is_err_and(|e| e.raw_os_error() == Some(libc::ENOENT)));
    assert_eq!(fs::read_dir(m.path("")).expect("readdir").count(), 0);
}

/// The part without the capability runs in a second process of this test program, started by the first.
#[test]
fn write_back_without_the_capability() {
    let Some(dir) = std::env::var_os("SNAPFS_TEST_UNPRIVILEGED_DIR") else {
        start_unprivileged();
        return;
    };
    let dir = std::path::PathBuf::from(dir);
    let toy = ToyFs::new();
    let options = snapfs::fuse::Options { program: guard::program(), ..Default::default() };
    let mounted = snapfs::fuse::Mounted::start(toy.clone(), &dir, &options);
    let mut m = TestMount { mounted: Some(mounted.expect("mount")), scratch: Scratch::new() };
    let scratch = std::mem::replace(&mut m.scratch.0, dir);
    let _ = fs::remove_dir(scratch);
    for (name, mode) in [("f", 0o600), ("write-only", 0o200), ("nothing", 0o000)] {
        let path = m.path(name);
        fs::write(&path, vec![0u8; 8192]).expect("write");
        let file = File::options().read(true).write(true).open(&path).expect("open");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        assert_eq!(File::open(&path).is_ok(), mode & 0o400 != 0, "permissions do not count for this process");
        let _mapping = map_and_write(file, 100, b"mapped", 8192);
        assert_eq!(toy.content(name.as_bytes())[100..106], [0; 6]);
        m.mounted().kernel().write_back(&toy.open_for_write()).expect("write back");
        assert_eq!(&toy.content(name.as_bytes())[100..106], b"mapped", "{name}");
    }
    // Somebody who asks for the directory all the time must not make the daemon believe that it is not there.
    let mut noise = Command::new("sh")
        .args(["-c", "while :; do [ ! -e .snapfs-nodes ] || echo visible; done"])
        .current_dir(m.path(""))
        .spawn()
        .expect("sh");
    let file = File::options().read(true).write(true).open(m.path("f")).expect("open");
    let mapping = map_and_write(file, 0, b"-", 8192);
    for i in 0..500 {
        let text = format!("round {i:05}");
        mapping.write(10, text.as_bytes());
        m.mounted().kernel().write_back(&toy.open_for_write()).expect("write back");
        assert_eq!(&toy.content(b"f")[10..21], text.as_bytes());
    }
    noise.kill().and_then(|()| noise.wait()).expect("kill");
    drop(mapping);
    drop(m);
    println!("unprivileged part passed");
}

fn start_unprivileged() {
    if !can_mount() {
        return;
    }
    if snapfs::sys::process::effective_uid() != 0 {
        eprintln!("SKIPPED: only root can become another user (run the test as a user to check that part)");
        return;
    }
    // Root who may mount but not use file handles; and a user, who needs fusermount3.
    unprivileged(&["--bounding-set=-dac_read_search,-dac_override"], 0);
    let everybody = fs::metadata("/dev/fuse").is_ok_and(|m| m.permissions().mode() & 0o006 == 0o006);
    if everybody {
        unprivileged(&["--reuid=65534", "--regid=65534", "--clear-groups"], 65534);
    } else {
        eprintln!("SKIPPED: /dev/fuse is for root only, so a normal user's mount was not tried");
    }
}

fn unprivileged(how: &[&str], owner: u32) {
    let dir = Scratch::new();
    std::os::unix::fs::chown(&dir.0, Some(owner), Some(owner)).expect("chown");
    // A copy that another user can run, wherever the build directory is.
    let program = Scratch::new();
    let copy = program.0.join("mount-test");
    fs::copy(std::env::current_exe().expect("self"), &copy).expect("copy");
    let flusher = program.0.join("snapfs");
    fs::copy(guard::program(), &flusher).expect("copy");
    fs::set_permissions(&program.0, fs::Permissions::from_mode(0o755)).expect("chmod");
    let out = Command::new("setpriv")
        .args(how)
        .arg(&copy)
        .args(["--exact", "write_back_without_the_capability", "--nocapture"])
        .env("SNAPFS_TEST_UNPRIVILEGED_DIR", &dir.0)
        .env("SNAPFS_TEST_PROGRAM", &flusher)
        .output()
        .expect("setpriv");
    let _ = (fs::remove_file(&copy), fs::remove_file(&flusher));
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("unprivileged part passed"), "{said}");
}
