//! On which processor, and with what claim, threads of this process run.

use std::io;

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Number of a thread, as the kernel counts. Valid until the thread ends, and then perhaps another's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadId(u32);

impl ThreadId {
    /// The calling thread.
    pub fn current() -> ThreadId {
        // SAFETY: no arguments, cannot fail.
        ThreadId(unsafe { libc::gettid() }.cast_unsigned())
    }

    /// The thread that the kernel calls `id`.
    pub fn new(id: u32) -> ThreadId {
        ThreadId(id)
    }
}

/// What a thread claims of a processor.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Claim {
    /// As everybody else (`SCHED_OTHER`).
    #[default]
    Normal,
    /// Only what nobody else wants (`SCHED_IDLE`): for the scheduler a processor that runs nothing else is free.
    Leftover,
}

/// Gives a thread of this process a claim; threads that it starts get the normal one. Back from [`Claim::Leftover`] needs
/// `CAP_SYS_NICE` or a limit that lets it (`RLIMIT_NICE`).
pub fn set_claim(thread: ThreadId, claim: Claim) -> io::Result<()> {
    let policy = match claim {
        Claim::Normal => libc::SCHED_OTHER,
        Claim::Leftover => libc::SCHED_IDLE | libc::SCHED_RESET_ON_FORK,
    };
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: `param` lives through the call.
    check(unsafe { libc::sched_setscheduler(thread.0.cast_signed(), policy, &raw const param) })
}

/// Makes the calling thread, and those that it starts, give way: whoever wakes goes first, and beside a thread that never
/// rests it gets a tenth of a processor (nice 10). Nobody needs a right for that.
pub fn give_way() {
    const NICE: libc::c_int = 10;
    let nice = nice().max(NICE);
    // SAFETY: plain numbers; 0 is the calling thread. Nobody is refused to become nicer.
    unsafe { libc::setpriority(libc::PRIO_PROCESS as _, 0, nice) };
}

/// For a thread that works long and for nobody in particular: whoever wakes runs before it goes on, and it runs the longer
/// later; its share of a processor stays what it is. A thread that it starts does the same. Does nothing to one that has
/// another policy than everybody: somebody chose that.
///
/// By policy (`SCHED_BATCH`, sched(7)), and by the slice that it asks for, which shortens the wait of those who ask for
/// less (Linux 6.12; ignored before).
pub fn take_long_turns() -> io::Result<()> {
    const SLICE_NANOS: u64 = 100_000_000; // the longest that the kernel knows
    if !claims_normally() {
        return Ok(());
    }
    let size = size_of::<libc::sched_attr>();
    // SAFETY: an all-zero attribute is valid.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer has the stated size; 0 is the calling thread; no flags.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) } as libc::c_int)?;
    attr.size = size as u32;
    attr.sched_flags = 0;
    attr.sched_policy = libc::SCHED_BATCH.cast_unsigned();
    attr.sched_runtime = SLICE_NANOS;
    // SAFETY: as above; the rest is what it was.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) } as libc::c_int)
}

/// How nice the calling thread is, from -20 to 19.
fn nice() -> libc::c_int {
    // SAFETY: plain numbers; 0 is the calling thread, which exists.
    unsafe { libc::getpriority(libc::PRIO_PROCESS as _, 0) }
}

/// True if this thread claims what everybody does.
pub fn claims_normally() -> bool {
    // SAFETY: a number.
    unsafe { libc::sched_getscheduler(0) == libc::SCHED_OTHER }
}

/// Processors.
#[derive(Clone, Copy)]
pub struct Processors(libc::cpu_set_t);

impl Processors {
    /// Those that this thread may run on.
    pub fn allowed() -> io::Result<Processors> {
        // SAFETY: an all-zero set is a valid, empty one; the size is that of the buffer.
        let set = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            check(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set))?;
            set
        };
        Ok(Processors(set))
    }

    /// One of them alone.
    pub fn only(cpu: usize) -> Processors {
        // SAFETY: as above; a number beyond the set is ignored.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu.min(libc::CPU_SETSIZE as usize - 1), &mut set);
            Processors(set)
        }
    }

    /// The same without one.
    pub fn without(mut self, cpu: usize) -> Processors {
        if cpu < libc::CPU_SETSIZE as usize {
            // SAFETY: the number is in range.
            unsafe { libc::CPU_CLR(cpu, &mut self.0) };
        }
        self
    }

    /// Their numbers.
    pub fn numbers(&self) -> Vec<usize> {
        // SAFETY: the numbers are in range.
        (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &self.0) }).collect()
    }
}

/// Lets a thread of this process run on these processors and no others.
pub fn set_processors(thread: ThreadId, set: &Processors) -> io::Result<()> {
    let set = &raw const set.0;
    // SAFETY: the set has the stated size.
    check(unsafe { libc::sched_setaffinity(thread.0.cast_signed(), size_of::<libc::cpu_set_t>(), set) })
}

/// The processor that the calling thread runs on, as of now.
pub fn processor() -> usize {
    // SAFETY: no arguments. A number below 0 would be an error, which there is none of.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

/// The processor that a thread of any process ran on last. `None` if there is no such thread, or it is not ours to see.
pub fn processor_of(thread: ThreadId) -> Option<usize> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", thread.0)).ok()?;
    // The name, in brackets, may hold anything; the processor is the 37th field behind it (proc_pid_stat(5)).
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(36)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_moves_to_where_it_is_sent() {
        let all = Processors::allowed().unwrap();
        for cpu in all.numbers() {
            set_processors(ThreadId::current(), &Processors::only(cpu)).unwrap();
            assert_eq!(processor_of(ThreadId::current()), Some(cpu));
            assert_eq!(processor(), cpu);
        }
        set_processors(ThreadId::current(), &all).unwrap();
        assert_eq!(all.without(all.numbers()[0]).numbers().len() + 1, all.numbers().len());
        assert_eq!(processor_of(ThreadId::new(u32::MAX)), None);
    }

    #[test]
    fn one_thread_gives_way_and_not_the_others() {
        let before = nice();
        std::thread::spawn(move || {
            give_way();
            assert_eq!(nice(), before.max(10));
        })
        .join()
        .unwrap();
        assert_eq!(nice(), before);
    }

    #[test]
    fn long_turns_are_taken_by_one_thread_alone() {
        std::thread::spawn(|| {
            take_long_turns().unwrap();
            // SAFETY: a number.
            assert_eq!(unsafe { libc::sched_getscheduler(0) }, libc::SCHED_BATCH);
        })
        .join()
        .unwrap();
        assert!(claims_normally());
    }

    #[test]
    fn a_claim_is_given_up() {
        std::thread::spawn(|| {
            assert!(claims_normally());
            set_claim(ThreadId::current(), Claim::Leftover).unwrap();
            assert!(!claims_normally());
        })
        .join()
        .unwrap();
    }
}
