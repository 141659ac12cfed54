//! The device of two sides: who they are, and what is done about one that fails.

use super::crew::CallCrew;
use super::label::write_label;
use super::side::{MirrorSide, SideReply};
use crate::device::bystander::{Beside, judge_late_beside};
use crate::device::waited::Waited;
use crate::device::{Device, DeviceError};
use crate::format::mirror::{Label, Standing};
use parking_lot::{Condvar, Mutex, RwLock};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How often it is looked whether calls have returned that nobody waits for.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What a side takes part in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SideRole {
    /// In everything.
    Serving,
    /// It has everything, and its labels are being written: in all but reads.
    Joining,
    /// It is being filled: in changes.
    Target,
}

#[derive(Clone)]
pub(super) struct Member {
    pub side: Arc<MirrorSide>,
    pub role: SideRole,
}

/// A call that is to change a side, by its number.
pub(super) type ChangeReply = (usize, SideReply<Result<(), DeviceError>>);

/// Who makes a call on both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hands {
    /// One thread, if that is soon done: to wake another takes longer.
    OneIfSoonDone,
    /// Two at once.
    Two,
}

/// Sides by number.
pub(super) type Members = [Option<Member>; 2];

/// Changes that are on their way while a side is filled, and the piece that is being copied.
#[derive(Default)]
pub(super) struct Traffic {
    pub changing: Vec<Range<u64>>,
    pub copying: Option<Range<u64>>,
}

/// A new side.
pub struct NewSide {
    /// Its device.
    pub device: Arc<dyn Device>,
    /// Where it is, for the label of its partner.
    pub path: Vec<u8>,
    /// Where the partner is, for its label.
    pub partner_path: Vec<u8>,
    /// How long either side may keep the other waiting.
    pub limit: Duration,
}

/// A side that takes part no more.
pub struct Parted {
    pub(super) side: Arc<MirrorSide>,
    pub(super) limit: Duration,
    /// Who was its partner.
    pub(super) beside: Beside,
    /// Its label.
    pub label: Label,
}

impl Parted {
    /// Makes a call on it, by the threads of the mirror and within its limit: it is late only if who was its partner answers meanwhile.
    ///
    /// # Errors
    /// The device's, or that it is late.
    pub fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Device) -> Result<T, DeviceError> + Send + 'static,
    ) -> Result<T, DeviceError> {
        self.side.within(self.limit, &self.beside, call)
    }

    /// Calls that have not returned.
    #[must_use]
    pub fn pending_calls(&self) -> usize {
        self.side.pending_calls()
    }
}

/// How a side is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SideState {
    /// `serving`, `joining`, `syncing` or `lost`.
    pub state: &'static str,
    /// Why it is lost.
    pub why: Option<String>,
    /// Its label, as last written.
    pub label: Option<Label>,
    /// Calls that have not returned.
    pub pending_calls: usize,
    /// What a person calls it.
    pub place: String,
}

/// Why sides cannot be brought together or parted.
#[derive(Debug)]
pub enum MirrorError {
    /// A device failed.
    Device(DeviceError),
    /// It cannot be done now; a sentence.
    Refused(String),
}

impl std::fmt::Display for MirrorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MirrorError::Device(e) => write!(f, "{e}"),
            MirrorError::Refused(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for MirrorError {}

impl From<DeviceError> for MirrorError {
    fn from(e: DeviceError) -> MirrorError {
        MirrorError::Device(e)
    }
}

pub(super) fn refused<T>(why: impl Into<String>) -> Result<T, MirrorError> {
    Err(MirrorError::Refused(why.into()))
}

/// The device. Any thread may call any method.
///
/// Locks, in this order: `members` (a call of the device reads it until both sides have answered, so whoever writes it
/// meets no call half-way), `labels` (held while labels are written), `verdict`, `traffic`; `gone` and the locks of a side are
/// leaves.
///
/// A copy of the members tells whom to call, and no more: who may be lost is judged by the members in force. A side that is
/// lost or parted is so for good, and who is lost is the only note of it.
pub struct Mirror {
    /// Grows when a smaller side has left.
    pub(super) size: AtomicU64,
    /// Where the store ended before it was to fit on another side, for labels; 0 if it was not.
    pub(super) wide: AtomicU64,
    pub(super) members: RwLock<Members>,
    /// Labels by side, as they were last to be written, with the number of the last that was acknowledged: see [`unproved`].
    pub(super) labels: Mutex<[Option<Label>; 2]>,
    /// Held while a side is lost, so that never both are.
    verdict: Mutex<()>,
    pub(super) traffic: Mutex<Traffic>,
    pub(super) moved: Condvar,
    pub(super) limit_ms: AtomicU64,
    /// What was committed last, as told, and when; 0: that is not known.
    pub(super) reached: AtomicU64,
    pub(super) reached_secs: AtomicI64,
    /// The side that leaves when the two are parted.
    pub(super) leaving: AtomicUsize,
    /// Sides that take part no more, or never did, as long as somebody may call them or waits for their calls.
    pub(super) gone: Mutex<Vec<Arc<MirrorSide>>>,
    /// Who makes calls when there are two.
    pub(super) crew: Arc<CallCrew>,
    /// Of this opening, and how many numbers were drawn.
    random: (u64, AtomicU64),
}

impl Mirror {
    /// A mirror of one side, which has no label.
    #[must_use]
    pub fn solo(device: Arc<dyn Device>, seed: u64) -> Mirror {
        Mirror::of(device.size(), [Some(device), None], [None, None], seed)
    }

    fn of(size: u64, devices: [Option<Arc<dyn Device>>; 2], labels: [Option<Label>; 2], seed: u64) -> Mirror {
        let limit =
            labels.iter().flatten().map(|l| u64::from(l.limit_ms)).next().unwrap_or(u64::from(u32::MAX));
        let wide = labels.iter().flatten().map(|l| l.wide).max().unwrap_or(0);
        let crew = CallCrew::new();
        let serving =
            |device| Member { side: Arc::new(MirrorSide::new(device, &crew)), role: SideRole::Serving };
        let members = devices.map(|device| device.map(serving));
        Mirror {
            size: AtomicU64::new(size),
            wide: AtomicU64::new(wide),
            members: RwLock::new(members),
            labels: Mutex::new(labels),
            verdict: Mutex::default(),
            traffic: Mutex::default(),
            moved: Condvar::new(),
            limit_ms: AtomicU64::new(limit),
            reached: AtomicU64::new(0),
            reached_secs: AtomicI64::new(0),
            leaving: AtomicUsize::new(1),
            gone: Mutex::default(),
            crew,
            random: (seed, AtomicU64::new(0)),
        }
    }

    /// Both sides, which are together as their labels say: they take a new generation, durably, before this returns. So an
    /// older copy of a side is known as one. `reached` is what has been committed on both.
    ///
    /// # Errors
    /// If neither takes a label.
    pub fn opened(
        sides: [(Arc<dyn Device>, Label); 2],
        reached: u64,
        seed: u64,
    ) -> Result<Mirror, DeviceError> {
        let mirror = Mirror::together(sides, seed);
        mirror.reached.store(reached, SeqCst);
        let members = mirror.members.read();
        let mut written = mirror.labels.lock();
        let before = written.clone();
        let generation = mirror.fresh();
        // A power cut may have left another on each.
        let limit_ms = before.iter().flatten().map(|label| label.limit_ms).next().unwrap_or(u32::MAX);
        let labels = before
            .clone()
            .map(|label| label.map(|label| label.followed(Standing::Together, generation, reached)))
            .map(|label| label.map(|label| Label { limit_ms, ..label }));
        let replies = mirror.call_each(&members, &[0, 1], Hands::Two, |n| {
            let label = labels[n].clone();
            move |device: &dyn Device| label.map_or(Ok(()), |label| write_label(device, &label))
        });
        mirror.judge(&members, replies)?;
        for (n, (before, label)) in before.into_iter().zip(labels).enumerate() {
            let is_proved = members[n].as_ref().is_some_and(|m| m.side.is_there());
            written[n] = match (before, label) {
                (Some(before), Some(label)) if !is_proved => Some(unproved(&before, label)),
                (_, label) => label,
            };
        }
        drop(written);
        mirror.announce(&members)?;
        drop(members);
        Ok(mirror)
    }

    /// Both sides, of which nothing is known but that they are together. `seed` is another each time.
    #[must_use]
    pub fn together(sides: [(Arc<dyn Device>, Label); 2], seed: u64) -> Mirror {
        let size = sides[0].0.size().min(sides[1].0.size());
        let [(a, a_label), (b, b_label)] = sides;
        Mirror::of(size, [Some(a), Some(b)], [Some(a_label), Some(b_label)], seed)
    }

    /// A mirror of one side with a label that need not change: it was split off.
    #[must_use]
    pub fn labelled(device: Arc<dyn Device>, label: Label, seed: u64) -> Mirror {
        Mirror::of(device.size(), [Some(device), None], [Some(label), None], seed)
    }

    /// One side that goes on without its partner: its label says so durably before this returns. `reached` is what has been
    /// committed on it, and when. If the partner was being filled, a new generation begins as well: so what was noted on the partner is known
    /// to be of another history, should this side have been put back to an older time.
    ///
    /// # Errors
    /// If the label cannot be written.
    pub fn one_of_two(
        device: Arc<dyn Device>,
        label: Label,
        (reached, secs): (u64, i64),
        seed: u64,
    ) -> Result<Mirror, DeviceError> {
        let fills = label.standing == Standing::Alone && label.opened;
        let mirror = Mirror::of(device.size(), [Some(device), None], [Some(label), None], seed);
        mirror.reached.store(reached, SeqCst);
        mirror.reached_secs.store(secs, SeqCst);
        let members = mirror.members.read();
        match fills {
            true => mirror.write_own_label(&members, 0, |ours| ours.begun_again(mirror.fresh(), reached))?,
            false => mirror.announce(&members)?,
        }
        drop(members);
        Ok(mirror)
    }

    pub(super) fn limit(&self) -> Duration {
        Duration::from_millis(self.limit_ms.load(SeqCst))
    }

    /// How long a side may keep the other waiting.
    #[must_use]
    pub fn time_limit(&self) -> Duration {
        self.limit()
    }

    /// Has that be another from now on. The labels of all sides that serve say so durably when this returns; one that is being filled
    /// gets it with its last label, and one that is away when it comes back.
    pub(super) fn note_limit(&self, limit: Duration) -> Result<(), DeviceError> {
        let limit_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).max(1);
        let members = self.members.read();
        let mut labels = self.labels.lock();
        let there = serving(&members);
        let before = labels.clone();
        let next = |label: Label| Label { number: label.number + 1, limit_ms, ..label };
        let new = before.clone().map(|label| label.map(next));
        if there.is_empty() || there.iter().any(|n| new[*n].is_none()) {
            return Err(gone());
        }
        let replies = self.call_each(&members, &there, Hands::Two, |n| {
            let label = new[n].clone();
            move |device: &dyn Device| label.map_or(Ok(()), |label| write_label(device, &label))
        });
        self.judge(&members, replies)?;
        for ((n, before), new) in
            before.into_iter().enumerate().zip(new).filter(|((n, _), _)| there.contains(n))
        {
            labels[n] = match (before, new) {
                (Some(before), Some(new)) if !is_serving(&members, n) => Some(unproved(&before, new)),
                (_, new) => new,
            };
        }
        drop(labels);
        self.limit_ms.store(u64::from(limit_ms), SeqCst);
        self.announce(&members)
    }

    pub(super) fn fresh(&self) -> u64 {
        let n = self.random.1.fetch_add(1, SeqCst);
        xxh3_64_with_seed(&n.to_le_bytes(), self.random.0).max(1)
    }

    /// The generation that follows on a label: the same each time that it is asked for.
    pub(super) fn next_after(&self, label: &Label) -> u64 {
        xxh3_64_with_seed(&[label.current, label.number].map(u64::to_le_bytes).concat(), self.random.0).max(1)
    }

    /// How each side is; none where there is none.
    #[must_use]
    pub fn states(&self) -> [Option<SideState>; 2] {
        let members = self.members.read().clone();
        let labels = self.labels.lock().clone();
        let mut labels = labels.into_iter();
        members.map(|member| {
            let label = labels.next().flatten();
            let member = member?;
            let why = member.side.why_lost();
            let state = match member.role {
                _ if why.is_some() => "lost",
                SideRole::Serving => "serving",
                SideRole::Joining => "joining",
                SideRole::Target => "syncing",
            };
            let (pending_calls, place) = (member.side.pending_calls(), member.side.place().to_owned());
            Some(SideState { state, why, label, pending_calls, place })
        })
    }

    /// The label of the side that serves; of either, if both do.
    #[must_use]
    pub fn label(&self) -> Option<Label> {
        let n = serving(&self.members.read()).first().copied()?;
        self.labels.lock()[n].clone()
    }

    /// The number of the side that is not the first to serve, if it is there, in whatever role.
    #[must_use]
    pub fn second(&self) -> Option<usize> {
        let members = self.members.read();
        let n = 1 - serving(&members).first().copied()?;
        members[n].is_some().then_some(n)
    }

    /// Makes a call on each of these sides, by other threads, and waits.
    pub(super) fn all(
        &self,
        members: &Members,
        there: &[usize],
        hands: Hands,
        call: impl Fn(&dyn Device) -> Result<(), DeviceError> + Clone + Send + 'static,
    ) -> Result<(), DeviceError> {
        let each = |_| {
            let call = call.clone();
            move |device: &dyn Device| call(device)
        };
        let replies = self.call_each(members, there, hands, each);
        self.judge(members, replies)
    }

    /// The same, of calls that are not the same for each, without waiting: [`Mirror::judge`] has to follow.
    pub(super) fn call_each<C>(
        &self,
        members: &Members,
        there: &[usize],
        hands: Hands,
        call: impl Fn(usize) -> C,
    ) -> Vec<ChangeReply>
    where
        C: FnOnce(&dyn Device) -> Result<(), DeviceError> + Send + 'static,
    {
        let mut replies = Vec::with_capacity(there.len());
        for n in there {
            let Some(member) = &members[*n] else { continue };
            let one_after_the_other = hands == Hands::OneIfSoonDone && !replies.is_empty();
            let side = &member.side;
            let reply = if one_after_the_other { side.call_behind(call(*n)) } else { side.call(call(*n)) };
            replies.push((*n, reply));
        }
        replies
    }

    /// Waits for sides that were to change something, and loses those that did not, if one that serves did.
    pub(super) fn judge(&self, members: &Members, replies: Vec<ChangeReply>) -> Result<(), DeviceError> {
        self.crew.hurry(|| replies.iter().all(|(_, reply)| reply.is_answered()));
        let outcomes = self.gather(members, replies);
        let served = |(n, done): &(usize, Result<(), DeviceError>)| done.is_ok() && is_serving(members, *n);
        if !outcomes.iter().any(served) {
            // Nobody has it: no side is to be blamed.
            let failed = outcomes.into_iter().filter(|(n, _)| is_serving(members, *n)).map(|(_, done)| done);
            return failed.into_iter().find(Result::is_err).unwrap_or_else(|| Err(gone()));
        }
        let mut left = Ok(());
        for (n, done) in outcomes {
            if let (Err(e), Some(member)) = (&done, &members[n]) {
                member.side.note_error(e);
            }
            if let (Err(e), Some(member)) = (done, &members[n])
                && !self.lose(&member.side, &e.to_string())
            {
                // Who had it was lost meanwhile, for a change of somebody else's: the last one has not.
                left = Err(e);
            }
        }
        left
    }

    /// Makes no call on a side any more, unless it is the last that serves. True if it is lost, or was parted.
    pub(super) fn lose(&self, side: &Arc<MirrorSide>, why: &str) -> bool {
        // The caller may be reading them, and somebody may be waiting to write them.
        let members = self.members.read_recursive();
        let _verdict = self.verdict.lock();
        let is_it = |m: &Option<Member>| m.as_ref().is_some_and(|m| Arc::ptr_eq(&m.side, side));
        let Some(n) = members.iter().position(is_it) else { return true };
        if !side.is_there() {
            return true;
        }
        if is_serving(&members, n) && !is_serving(&members, 1 - n) {
            return false;
        }
        side.lose(why);
        log::error!("mirror: {} is lost and left out: {why}", side.place());
        true
    }

    /// Has the label of the side that serves say that it goes on alone, if it does and the label does not, and that the other has
    /// lost content, if that is so: then nothing that it has or has noted counts any more. Durable when it
    /// returns. The caller reads `members`: whoever serves alone then goes on doing so.
    pub(super) fn announce(&self, members: &Members) -> Result<(), DeviceError> {
        let n = match serving(members)[..] {
            [n] => n,
            // Whatever was acknowledged both have.
            [_, ..] => return Ok(()),
            [] => return Err(gone()),
        };
        // Flushes wait for a side that joins: it has everything as well, and its labels are being written.
        if members[1 - n].as_ref().is_some_and(|m| m.role == SideRole::Joining && m.side.is_there()) {
            return Ok(());
        }
        let mut labels = self.labels.lock();
        let (Some(member), Some(label)) = (&members[n], &labels[n]) else { return Ok(()) };
        let without = members[1 - n].as_ref().filter(|m| !m.side.is_there() && m.side.has_lost_content());
        let reached = self.reached.load(SeqCst);
        let alone = match (label.standing, without) {
            (Standing::Together | Standing::Stale, _) => {
                let parted_secs = self.reached_secs.load(SeqCst);
                Label { parted_secs, ..label.followed(Standing::Alone, self.fresh(), reached) }
            }
            (Standing::Alone, Some(_)) => label.begun_again(self.fresh(), reached),
            _ => return Ok(()),
        };
        let alone = if without.is_some() { alone.with_nothing_in_common() } else { alone };
        write_label(&*member.side.device, &alone)?;
        if let Some(lost) = without {
            lost.side.note_lost_content(false);
        }
        labels[n] = Some(alone);
        if let (Some(lost), Some(old)) = (&members[1 - n], &labels[1 - n])
            && old.standing == Standing::Together
        {
            let stale = Label { number: old.number + 1, standing: Standing::Stale, ..old.clone() };
            let written = stale.clone();
            lost.side.send(move |device| {
                if let Err(e) = write_label(device, &written) {
                    log::info!("mirror: a side that was left out cannot be told so: {e}");
                }
            });
            labels[1 - n] = Some(unproved(old, stale));
        }
        Ok(())
    }

    /// Has the label of the side that serves say that its partner, which is lost, has nothing that counts. Durable when it returns.
    ///
    /// # Errors
    /// If the label cannot be written.
    pub fn partner_lost_content(&self) -> Result<(), MirrorError> {
        let members = self.members.read();
        let [n] = serving(&members)[..] else { return refused("both sides are there") };
        let reached = self.reached.load(SeqCst);
        let change = |ours: &Label| ours.begun_again(self.fresh(), reached).with_nothing_in_common();
        Ok(self.write_own_label(&members, n, change)?)
    }

    /// Gives a side that serves another label, if it has one.
    fn write_own_label(
        &self,
        members: &Members,
        n: usize,
        change: impl FnOnce(&Label) -> Label,
    ) -> Result<(), DeviceError> {
        let mut labels = self.labels.lock();
        let (Some(member), Some(label)) = (&members[n], &labels[n]) else { return Ok(()) };
        let new = change(label);
        write_label(&*member.side.device, &new)?;
        labels[n] = Some(new);
        Ok(())
    }

    /// Remembers a side that takes part no more as long as it has calls that have not returned: they may change it still.
    pub(super) fn remember(&self, side: Arc<MirrorSide>) {
        self.gone.lock().push(side);
    }

    /// Lets go of those of which all calls have returned and that nobody has, which closes them.
    fn forget_returned(&self) {
        let returned = {
            let mut gone = self.gone.lock();
            let all = std::mem::take(&mut *gone);
            let is_over = |side: &Arc<MirrorSide>| side.pending_calls() == 0 && Arc::strong_count(side) == 1;
            let (returned, pending): (Vec<_>, Vec<_>) = all.into_iter().partition(is_over);
            *gone = pending;
            returned
        };
        // Closed when nobody waits for the lock.
        drop(returned);
    }

    /// Calls of a device that have not returned, as one of the sides or since it was one. No call is made for that.
    #[must_use]
    pub fn pending_calls_of(&self, device: &Arc<dyn Device>) -> usize {
        self.pending(device, None)
    }

    /// The same; one that was opened anew is the same by its name alone.
    fn pending(&self, device: &Arc<dyn Device>, place: Option<&str>) -> usize {
        let is_it = |side: &Arc<MirrorSide>| Arc::ptr_eq(&side.device, device);
        let was_it = |side: &Arc<MirrorSide>| is_it(side) || place.is_some_and(|place| side.place() == place);
        let members = self.members.read().clone();
        let members = members.iter().flatten().map(|member| &member.side).filter(|side| is_it(side));
        let gone = self.gone.lock();
        members.chain(gone.iter().filter(|side| was_it(side))).map(|side| side.pending_calls()).sum()
    }

    /// Waits until there are none, if that is so within the limit.
    #[must_use]
    pub fn have_returned(&self, device: &Arc<dyn Device>, limit: Duration) -> bool {
        self.return_within(device, None, (limit, &None))
    }

    /// The same of one that may have been opened anew, and that is late only if another answers meanwhile.
    pub(super) fn return_within(
        &self,
        device: &Arc<dyn Device>,
        place: Option<&str>,
        (limit, beside): (Duration, &Beside),
    ) -> bool {
        let wait = |time| {
            let mut waited = Waited::new(time);
            while self.pending(device, place) > 0 {
                if waited.is_over() {
                    return None;
                }
                std::thread::sleep(LOOK_AGAIN);
            }
            Some(())
        };
        let returned = wait(limit).or_else(|| judge_late_beside(limit, beside, wait));
        if returned.is_some() {
            self.forget_returned();
        }
        returned.is_some()
    }
}

/// A label that was to follow another and of which it is not known whether it is there: the next has its number, and is
/// written to the same places. The one before is in the others, and in force for sure.
pub(super) fn unproved(before: &Label, label: Label) -> Label {
    Label { number: before.number, ..label }
}

/// Sides that serve and are there.
pub(super) fn serving(members: &Members) -> Vec<usize> {
    (0..2).filter(|n| is_serving(members, *n)).collect()
}

pub(super) fn is_serving(members: &Members, n: usize) -> bool {
    members[n].as_ref().is_some_and(|m| m.role == SideRole::Serving && m.side.is_there())
}

pub(super) fn gone() -> DeviceError {
    DeviceError::refused(std::io::ErrorKind::NotConnected, "no such side of the mirror is there".into())
}
