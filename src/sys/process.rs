//! Processes, users, signals and local time.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Effective user id of this process.
pub fn effective_uid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() }
}

/// Effective group id of this process.
pub fn effective_gid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::getegid() }
}

/// Bytes of memory that the machine has; 0 if it does not tell.
pub fn memory_bytes() -> u64 {
    // SAFETY: no pointers.
    let (pages, page_bytes) =
        unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    u64::try_from(pages).unwrap_or(0).saturating_mul(u64::try_from(page_bytes).unwrap_or(0))
}

/// Columns of the terminal that this is; none if it is no terminal, or one that does not say.
pub fn terminal_columns(terminal: impl AsFd) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel fills the structure, which lives as long as the call.
    let done = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col != 0).then_some(usize::from(size.ws_col))
}

/// Bytes of pages of files, of the whole machine, that wait to be written; as many as there can be if it does not tell.
pub fn dirty_page_bytes() -> u64 {
    let told = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of_line = |line: &str| {
        let (what, rest) = line.split_once(':')?;
        let counts = matches!(what, "Dirty" | "Writeback" | "WritebackTmp");
        let kib: u64 = rest.split_whitespace().next()?.parse().ok()?;
        counts.then_some((what == "Dirty", kib.saturating_mul(1024)))
    };
    let found: Vec<(bool, u64)> = told.lines().filter_map(of_line).collect();
    let is_told = found.iter().any(|(is_dirty, _)| *is_dirty);
    if is_told { found.iter().map(|(_, bytes)| bytes).sum() } else { u64::MAX }
}

/// Leaves the session of the terminal. Fails only for a process that leads a group already.
pub fn new_session() -> io::Result<()> {
    // SAFETY: no arguments.
    check(unsafe { libc::setsid() })?;
    Ok(())
}

/// Makes descriptor `fd` (0, 1 or 2) mean `file` from now on.
pub fn redirect(fd: i32, file: &File) -> io::Result<()> {
    debug_assert!((0..=2).contains(&fd));
    // SAFETY: no pointers; replacing a standard stream is the purpose.
    check(unsafe { libc::dup2(file.as_raw_fd(), fd) })?;
    Ok(())
}

/// User id of the process at the other end of a socket, when it connected.
pub fn peer_uid(socket: &UnixStream) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = std::mem::size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the buffer has the stated length.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        )
    })?;
    Ok(peer.uid)
}

/// Connects to a socket without ever waiting. Fails with [`io::ErrorKind::WouldBlock`] where so many wait to be taken
/// that one more would have to wait for a place among them.
pub fn connect_at_once(path: &Path) -> io::Result<UnixStream> {
    let bytes = path.as_os_str().as_bytes();
    let mut address =
        libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
    // One zero at least stays at the end.
    if bytes.len() >= address.sun_path.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    address.sun_path.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from as libc::c_char);
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: a new descriptor that nobody else has.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let len = std::mem::size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the address has the stated length.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    socket.set_nonblocking(false)?;
    Ok(socket)
}

/// Ends a listening socket for all who have it: who waits for connections stops waiting, and later ones are refused.
pub fn shut_down(socket: &UnixListener) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) })?;
    Ok(())
}

/// True for a process that a signal has stopped, or that is traced, until it is told to go on.
pub fn is_stopped(pid: u32) -> bool {
    let Ok(stat) = std::fs::read(format!("/proc/{pid}/stat")) else { return false };
    // `PID (NAME) STATE ...`, and the name may hold anything.
    let state = stat.iter().rposition(|&b| b == b')').and_then(|at| stat.get(at + 2));
    matches!(state, Some(b'T' | b't'))
}

/// True for a process to which SIGTERM or SIGINT was sent, and that has not taken note of it yet.
pub fn is_told_to_end(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let waiting = status.lines().filter_map(|line| {
        let set = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(set.trim(), 16).ok()
    });
    let ends = [libc::SIGTERM, libc::SIGINT].iter().fold(0, |set, signal| set | 1u64 << (signal - 1));
    waiting.fold(0, |all, set| all | set) & ends != 0
}

/// True if the kernel has ended what `file` is the connection of, as it does with the last mount of a FUSE connection.
pub fn is_hung_up(file: &impl AsRawFd) -> bool {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one structure, which lives through the call; it does not wait.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & (libc::POLLERR | libc::POLLHUP) != 0
}

fn termination_signals() -> libc::sigset_t {
    // SAFETY: an all-zero sigset_t is valid and sigemptyset initialises it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Blocks SIGTERM, SIGINT and SIGHUP in this thread and the threads that it starts from now on.
pub fn block_termination_signals() -> io::Result<()> {
    let set = termination_signals();
    // SAFETY: `set` is initialised; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Waits for one of the signals that [`block_termination_signals`] blocked; true for SIGHUP.
pub fn wait_termination_signal() -> io::Result<bool> {
    let set = termination_signals();
    let mut signal = 0;
    // SAFETY: both pointers are to live variables.
    match unsafe { libc::sigwait(&raw const set, &raw mut signal) } {
        0 => Ok(signal == libc::SIGHUP),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// What a process gets when the thread that started it has ended.
const PARENTS_END: libc::c_int = libc::SIGUSR1;

fn parents_end() -> libc::sigset_t {
    // SAFETY: an all-zero sigset_t is valid and sigemptyset initialises it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, PARENTS_END);
        set
    }
}

/// From now on the end of the thread that started this process is told to [`wait_parents_end`]. Called before there are
/// other threads.
pub fn expect_parents_end() -> io::Result<()> {
    let set = parents_end();
    // SAFETY: `set` is initialised; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => {}
        error => return Err(io::Error::from_raw_os_error(error)),
    }
    // SAFETY: numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, PARENTS_END, 0, 0, 0) })?;
    Ok(())
}

/// Waits for the end of the thread that started this process, for so long at most. True if it was told of.
pub fn wait_parents_end(at_most: Option<Duration>) -> io::Result<bool> {
    let set = parents_end();
    let limit = at_most.map(|limit| libc::timespec {
        tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    loop {
        // SAFETY: `set` is initialised and outlives the call, as does `limit` if there is one; what came is not asked for.
        let got = unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), limit) };
        match check(got) {
            Ok(_) => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The number of the thread that calls.
pub fn thread_id() -> u32 {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }.cast_unsigned()
}

/// True if a process has a thread of that number. Others of its threads may be there without it.
pub fn has_thread(process: u32, thread: u32) -> bool {
    // SAFETY: numbers only; no signal is sent.
    let asked = check(unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) } as libc::c_int);
    !asked.is_err_and(|e| e.raw_os_error() == Some(libc::ESRCH))
}

/// Waits until a child has ended, and leaves it to be reaped: until then nobody else gets its number.
pub fn wait_ended(child: u32) -> io::Result<()> {
    loop {
        // SAFETY: an all-zero siginfo_t is valid; the call writes it.
        let done = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            check(libc::waitid(libc::P_PID, child, &raw mut info, libc::WEXITED | libc::WNOWAIT))
        };
        match done {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done.map(drop),
        }
    }
}

/// Closes every descriptor but the three standard streams. For a process that has just begun and has opened nothing.
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: nothing in this process owns a descriptor yet.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } as libc::c_int)?;
    Ok(())
}

/// Bounds what the C library's allocator keeps for threads that are done with it: with an arena for each thread, every
/// one holds the most that it ever needed. What is kept is given back by [`trim_heap`] alone: giving delayed data back at
/// each commit and asking for it again costs a tenth of a small write. A no-op elsewhere than on glibc.
pub fn share_heap() {
    /// As much as the delayed data that a daemon holds by default.
    #[cfg(target_env = "gnu")]
    const KEPT_BYTES: libc::c_int = 64 << 20;
    /// Buffers of requests, at most 1 MiB, come from what is kept.
    #[cfg(target_env = "gnu")]
    const MAPPED_BYTES_MIN: libc::c_int = 4 << 20;
    #[cfg(target_env = "gnu")]
    // SAFETY: sets numbers; called before other threads allocate, or harmless later.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
    }
}

fn limit(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is of the right type and lives through the call.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    Ok(limit)
}

/// Takes as many descriptors and as long files as this process may have, and meets the limit of the latter as an error
/// instead of a signal that ends it. Best effort: what cannot be raised stays.
pub fn take_what_limits_allow() {
    for resource in [libc::RLIMIT_NOFILE, libc::RLIMIT_FSIZE] {
        if let Ok(mut limit) = limit(resource)
            && limit.rlim_cur < limit.rlim_max
        {
            limit.rlim_cur = limit.rlim_max;
            // SAFETY: `limit` lives through the call.
            let _ = unsafe { libc::setrlimit(resource, &raw const limit) };
        }
    }
    // SAFETY: no handler of ours is set.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// How many descriptors this process may have.
pub fn open_files_max() -> u64 {
    limit(libc::RLIMIT_NOFILE).map_or(u64::MAX, |limit| limit.rlim_cur)
}

/// How long a file may be that this process writes, in bytes.
pub fn file_bytes_max() -> u64 {
    limit(libc::RLIMIT_FSIZE).map_or(u64::MAX, |limit| limit.rlim_cur)
}

/// Files that this process makes from now on are its user's alone.
pub fn keep_files_private() {
    // SAFETY: a number, cannot fail.
    unsafe { libc::umask(0o077) };
}

/// Capabilities that a daemon of root uses after its start: to unmount; to open and make files of a store that belongs to
/// somebody else; to give request threads back what they gave up of a processor.
const KEPT: u64 = 1 << 21 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 23; // SYS_ADMIN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, SYS_NICE

/// Gives up what a daemon does not need: memory images in core files, which would hold what is in the files, and for root
/// all other capabilities and any way to gain new ones. For this thread and those that it starts from now on.
pub fn drop_privileges() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` lives through the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) })?;
    if effective_uid() != 0 {
        // fusermount3 ends this mount, and needs the rights of its owner.
        return Ok(());
    }
    // SAFETY: numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    // SAFETY: numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // The layout of version 3 of `capset(2)`: version, thread (0 is this one); then effective, permitted and inheritable
    // capabilities 0 to 31, and the same of those above.
    let header = [0x2008_0522_u32, 0];
    let mut sets = [0_u32; 6];
    // SAFETY: both have the layout that the version in the header asks for.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) } as libc::c_int)?;
    let kept = [KEPT as u32, (KEPT >> 32) as u32];
    let sets: [u32; 6] = std::array::from_fn(|n| if n % 3 == 2 { 0 } else { sets[n] & kept[n / 3] });
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) } as libc::c_int)?;
    Ok(())
}

/// True if the thread has `gid` among its supplementary groups, or the capability to ignore that.
///
/// From `/proc`, as the kernel does not tell with a request. A thread that is gone is in no group.
pub fn is_member(thread: u32, gid: u32) -> bool {
    const CAP_FSETID: u64 = 1 << 4;
    let Ok(status) = std::fs::read_to_string(format!("/proc/{thread}/status")) else { return false };
    let line = |key: &str| status.lines().find_map(|l| l.strip_prefix(key));
    let groups = line("Groups:").unwrap_or_default();
    let effective =
        line("CapEff:").and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
    groups.split_whitespace().any(|g| g.parse() == Ok(gid)) || effective & CAP_FSETID != 0
}

/// What has passed since the machine was started, times in which it slept included.
pub fn since_boot() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the structure, which lives as long as the call.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    assert!(done == 0, "every kernel has this clock");
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Broken-down local time: year, month 1..=12, day, hour, minute, second.
pub fn local_time(secs: i64) -> Option<[i64; 6]> {
    let time: libc::time_t = secs;
    // SAFETY: an all-zero tm is valid; localtime_r writes it or returns null.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&raw const time, &raw mut tm).is_null() {
            return None;
        }
        tm
    };
    Some([
        i64::from(tm.tm_year) + 1900,
        i64::from(tm.tm_mon) + 1,
        i64::from(tm.tm_mday),
        i64::from(tm.tm_hour),
        i64::from(tm.tm_min),
        i64::from(tm.tm_sec),
    ])
}

/// What the system calls a user.
pub fn user_name(uid: u32) -> Option<Vec<u8>> {
    let mut text = vec![0; 16 << 10];
    let mut found = std::ptr::null_mut();
    // SAFETY: an all-zero passwd is valid; getpwuid_r writes it and the text that it points to, whose length is given.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let failed = unsafe {
        libc::getpwuid_r(uid, &raw mut entry, text.as_mut_ptr().cast(), text.len(), &raw mut found)
    };
    if failed != 0 || found.is_null() {
        return None;
    }
    // SAFETY: it was found, so its name is a string that ends in `text`, which lives on.
    let name = unsafe { std::ffi::CStr::from_ptr(entry.pw_name) };
    Some(name.to_bytes().to_vec())
}

/// The number of a group.
pub fn group_number(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).ok()?;
    let mut text = vec![0; 64 << 10];
    let mut found = std::ptr::null_mut();
    // SAFETY: an all-zero group is valid; getgrnam_r reads the name, and writes the group and what it points to, whose length is given.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let failed = unsafe {
        libc::getgrnam_r(name.as_ptr(), &raw mut entry, text.as_mut_ptr().cast(), text.len(), &raw mut found)
    };
    (failed == 0 && !found.is_null()).then_some(entry.gr_gid)
}

/// Gives free memory of the heap back to the system. Does nothing where the C library has no such call.
pub fn trim_heap() {
    // SAFETY: malloc_trim takes a number and touches only free memory of the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connecting_never_waits() {
        let path = std::env::temp_dir().join(format!("snapfs-connect-{}", std::process::id()));
        assert_eq!(connect_at_once(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).unwrap();
        // SAFETY: no pointers; the queue of a socket that listens becomes shorter.
        check(unsafe { libc::listen(listener.as_raw_fd(), 1) }).unwrap();
        let connections: Vec<io::Result<UnixStream>> = (0..5).map(|_| connect_at_once(&path)).collect();
        let made = connections.iter().filter(|c| c.is_ok()).count();
        assert!((1..5).contains(&made), "{made} of a queue of one");
        for refused in connections.iter().filter_map(|c| c.as_ref().err()) {
            assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        }
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        let long = path.join("x".repeat(200));
        assert_eq!(connect_at_once(&long).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_thread_that_has_ended_is_not_there_though_its_process_is() {
        let ours = std::process::id();
        let thread = std::thread::spawn(thread_id);
        let ended = thread.join().unwrap();
        // The kernel forgets it a moment later than the one who waits for it.
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while has_thread(ours, ended) && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        assert!(!has_thread(ours, ended) && has_thread(ours, thread_id()));
    }
}
