//! When a worker serves suspects, and how: exclusively, or beside ordinary work.
//!
//! A suspect is a message that was part of several crashes. Only a crash of a claim that was exclusive to its end may kill it, so
//! suspects have to run exclusively now and then; but a worker that is closed for ordinary work is a standstill. [`Schedule`] decides
//! between the two. The claim loop asks it before every claim and does what it says. It sees time only through its arguments, so that
//! `simulation` can run fleets of it through hours of crashes.
//!
//! 1. A worker that holds nothing takes a suspect exclusively.
//! 2. A busy worker closes: it claims nothing until it is empty, then takes suspects exclusively, one after the other. It does so only
//!    if what runs has a chance to end in time.
//! 3. Both together take at most [`Rules::exclusive`], longer only for a message of many crashes, and then the worker stays open
//!    for [`Rules::open_share`] times as long. A suspect that still runs goes on beside ordinary work, no longer exclusive.
//! 4. Suspects that wait although no worker could become empty run beside ordinary work, one at a time.
//!
//! The reasons and what other rules would do are in `docs/decisions/suspects.md`.

use std::time::Duration;

use crate::door::clock::Tick;

#[cfg(test)]
mod simulation;

/// The bounds of a schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How long a worker is closed at most for suspects of few crashes.
    exclusive: Duration,
    /// How many crashes those few are. Each further crash doubles the time: a message that takes long to kill its worker is found too.
    few: u16,
    /// The limit of that doubling.
    exclusive_max: Duration,
    /// How many times as long as it was closed a worker then stays open.
    open_share: u32,
    /// How long suspects wait for a worker that has nothing else to do before they run beside ordinary work.
    wait: Duration,
    /// How long a suspect that runs beside ordinary work keeps the next one from it.
    place: Duration,
}

impl Rules {
    /// The rules of a worker with this lease. Within a third of it every worker has sent a heartbeat and knows of the suspects.
    pub(super) fn new(lease: Duration) -> Self {
        Self {
            exclusive: Duration::from_secs(1),
            few: 4,
            exclusive_max: Duration::from_secs(300),
            open_share: 9,
            wait: lease / 3,
            place: Duration::from_secs(10),
        }
    }

    /// How long a worker may be closed for a message of this many crashes.
    fn closed_max(&self, crashes: u16) -> Duration {
        let doublings = u32::from(crashes.saturating_sub(self.few)).min(16);
        self.exclusive.saturating_mul(1 << doublings).min(self.exclusive_max)
    }
}

/// What the worker holds, as far as the schedule is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Suspects of its types wait: the most crashes among the first of each type.
    pub(super) waiting: Option<u16>,
    /// It holds nothing, runs nothing, and nothing of it is in doubt.
    pub(super) is_alone: bool,
    /// It has found no ordinary work for a while.
    pub(super) is_idle: bool,
    /// How long the handler that began first has been running.
    pub(super) oldest: Option<Duration>,
    /// How long ago the suspect that it took last was claimed, if it still holds it.
    pub(super) suspect: Option<Duration>,
}

/// What the claim loop does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Claim ordinary work.
    Ordinary,
    /// Claim nothing until this moment, or until the worker is empty.
    Close(Tick),
    /// Claim a suspect exclusively.
    Exclusive,
    /// Claim a suspect beside ordinary work.
    Beside,
}

/// A time in which the worker is closed for ordinary work.
#[derive(Clone, Copy, Debug)]
struct Closed {
    since: Tick,
    until: Tick,
}

/// A worker's schedule.
#[derive(Debug)]
pub(super) struct Schedule {
    rules: Rules,
    /// Since when suspects have been waiting, as far as the worker knows.
    waiting_since: Option<Tick>,
    closed: Option<Closed>,
    /// Before this the worker does not close again.
    open_until: Tick,
}

impl Schedule {
    pub(super) const fn new(rules: Rules) -> Self {
        Self { rules, waiting_since: None, closed: None, open_until: Tick::ZERO }
    }

    /// What to claim next. Not for a worker that holds an exclusive claim.
    pub(super) fn turn(&mut self, now: Tick, view: &View) -> Turn {
        let Some(crashes) = view.waiting else {
            self.waiting_since = None;
            self.open(now);
            return Turn::Ordinary;
        };
        let waiting_since = *self.waiting_since.get_or_insert(now);
        if let Some(closed) = self.closed {
            if now < closed.until {
                return if view.is_alone { Turn::Exclusive } else { Turn::Close(closed.until) };
            }
            self.open(now);
        }
        let may_close = now >= self.open_until;
        let limit = self.rules.closed_max(crashes);
        if view.is_alone && (view.is_idle || may_close) {
            self.close(now, limit);
            return Turn::Exclusive;
        }
        // What has been running for longer than the worker may be closed is not likely to end in that time.
        if may_close && view.oldest.is_none_or(|age| age < limit) {
            return Turn::Close(self.close(now, limit));
        }
        let has_place = view.suspect.is_none_or(|age| age >= self.rules.place);
        if has_place && now.since(waiting_since) >= self.rules.wait { Turn::Beside } else { Turn::Ordinary }
    }

    fn close(&mut self, now: Tick, limit: Duration) -> Tick {
        let until = now.after(limit);
        self.closed = Some(Closed { since: now, until });
        until
    }

    /// The worker took a suspect of this many crashes exclusively: it may be closed for as long as such a one needs.
    pub(super) fn took(&mut self, crashes: u16) {
        let limit = self.rules.closed_max(crashes);
        if let Some(closed) = &mut self.closed {
            closed.until = closed.until.max(closed.since.after(limit));
        }
    }

    /// What could be claimed beside ordinary work just now was none: others may have room later.
    pub(super) fn wait_again(&mut self, now: Tick) {
        self.waiting_since = Some(now);
    }

    /// Until when the claim that the worker holds may stay exclusive.
    pub(super) fn exclusive_until(&self) -> Tick {
        self.closed.map_or(Tick::ZERO, |closed| closed.until)
    }

    /// The worker claims ordinary work again.
    pub(super) fn open(&mut self, now: Tick) {
        if let Some(closed) = self.closed.take() {
            self.open_until = now.after(now.since(closed.since) * self.rules.open_share);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_closed_for_as_long_as_the_suspect_of_most_crashes_needs() {
        let mut schedule = Schedule::new(Rules::new(Duration::from_secs(30)));
        let now = Tick::ZERO.after(Duration::from_secs(1_000));
        let view = View { waiting: Some(6), is_alone: true, is_idle: false, oldest: None, suspect: None };
        assert_eq!(schedule.turn(now, &view), Turn::Exclusive);
        let closed_for = |schedule: &Schedule| schedule.exclusive_until().since(now).as_secs();
        assert_eq!(closed_for(&schedule), 4);
        schedule.took(2);
        assert_eq!(closed_for(&schedule), 4, "another one may follow in the same time");
        schedule.took(8);
        assert_eq!(closed_for(&schedule), 16, "it has more crashes than was known");
    }
}
