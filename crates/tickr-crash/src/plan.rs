//! What message number `n` of a run is: a pure function of the seed, so that every incarnation of a producer agrees.

use std::time::Duration;

use tickr_core::{Message, MessageId, Priority};

/// The event types; the last one is handled in batches, the one before has a cap.
pub(crate) const EVENT_TYPES: [&str; 4] = ["crash.plain", "crash.other", "crash.capped", "crash.batch"];

/// The maximum of attempts of everything that is meant to succeed.
pub(crate) const ATTEMPTS: u16 = 50;

/// The maximum of attempts of what is meant to die.
pub(crate) const DOOMED_ATTEMPTS: u16 = 3;

/// How many neighbours may share an idempotency key.
const KEY_GROUP: u32 = 20;

/// The size of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// What everything random is made from.
    pub(crate) seed: u64,
    /// How many messages there are.
    pub(crate) messages: u32,
    /// How many writers stop themselves inside of their transaction.
    pub(crate) holds: u32,
}

/// What the handler of a message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Succeeds.
    Works,
    /// Fails at its first attempt, then succeeds.
    Fails1,
    /// Panics at its first attempt, then succeeds.
    Panics1,
    /// Is skipped, which is a success.
    Skips,
    /// Fails always.
    Fails,
    /// Kills its process.
    Kills,
}

impl Kind {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Works, "works"),
        (Self::Fails1, "fails-once"),
        (Self::Panics1, "panics-once"),
        (Self::Skips, "skips"),
        (Self::Fails, "fails"),
        (Self::Kills, "kills"),
    ];

    fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(kind, _)| kind)
    }

    /// Whether the message is meant to end as a dead letter.
    pub(crate) const fn is_doomed(self) -> bool {
        matches!(self, Self::Fails | Self::Kills)
    }
}

/// One message, before it has an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Its number.
    pub(crate) n: u32,
    /// What its handler does.
    pub(crate) kind: Kind,
    /// Whether its transaction is rolled back.
    pub(crate) rolls_back: bool,
    /// Whether its writer stops itself inside of the transaction.
    pub(crate) holds: bool,
    /// Whether its producer leaves it at that when the answer of its commit is lost; others repeat the transaction.
    pub(crate) leaves_unknown: bool,
    /// The event type.
    pub(crate) event_type: &'static str,
    /// The idempotency key.
    pub(crate) key: Option<String>,
    /// The priority.
    pub(crate) priority: Priority,
    /// The delay of its first attempt.
    pub(crate) delay: Option<Duration>,
    /// How long its handler works.
    pub(crate) work: Duration,
}

impl Plan {
    /// Exactly one of every ten rolls back, exactly one of every ten fails always, and one of all kills its process.
    pub(crate) fn message(&self, n: u32) -> Planned {
        let mut ten = self.random(1, n / 10);
        let doomed = ten.u32(..10);
        let undone = (doomed + ten.u32(1..10)) % 10;
        let mut rng = self.random(2, n);
        let kind = match rng.u32(..100) {
            _ if n % 10 == doomed => Kind::Fails,
            0..=4 => Kind::Fails1,
            5..=6 => Kind::Panics1,
            7..=8 => Kind::Skips,
            _ => Kind::Works,
        };
        let mut planned = Planned {
            n,
            kind,
            rolls_back: n % 10 == undone,
            holds: self.is_hold(n),
            // The killer must exist.
            leaves_unknown: n.is_multiple_of(2) && n != self.killer(),
            event_type: EVENT_TYPES[rng.usize(..EVENT_TYPES.len())],
            key: None,
            priority: [Priority::High, Priority::Normal, Priority::Normal, Priority::Normal, Priority::Normal, Priority::Low]
                [rng.usize(..6)],
            delay: (rng.u32(..10) == 0).then(|| Duration::from_millis(rng.u64(20..3_000))),
            work: Duration::from_micros(if rng.u32(..3) == 0 { rng.u64(10_000..150_000) } else { rng.u64(..4_000) }),
        };
        match rng.u32(..10) {
            0 => planned.key = Some(format!("own-{n}")),
            // Neighbours belong to different producers.
            1 => (planned.key, planned.event_type) = (Some(format!("shared-{}", n / KEY_GROUP)), EVENT_TYPES[0]),
            _ => {}
        }
        if n == self.killer() {
            let (kind, event_type) = (Kind::Kills, EVENT_TYPES[0]);
            return Planned { kind, event_type, rolls_back: false, key: None, delay: None, priority: Priority::Normal, ..planned };
        }
        planned
    }

    /// The number of the message that kills its process.
    pub(crate) const fn killer(&self) -> u32 {
        self.messages / 3
    }

    fn is_hold(&self, n: u32) -> bool {
        (1..=self.holds).any(|hold| n == self.messages / (self.holds + 1) * hold)
    }

    fn random(&self, what: u64, n: u32) -> fastrand::Rng {
        // One step of a linear congruential generator keeps neighbouring seeds apart.
        let mixed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(what << 40 | u64::from(n));
        let mut rng = fastrand::Rng::with_seed(mixed);
        rng.u64(..);
        rng
    }
}

impl Planned {
    /// The message to enqueue.
    pub(crate) fn message(&self, id: MessageId) -> Message {
        let body = format!("{} {} {}", self.n, self.kind.as_str(), self.work.as_micros());
        let mut message = Message::new(self.event_type, body).id(id).priority(self.priority);
        message.idempotency_key.clone_from(&self.key);
        if let Some(delay) = self.delay {
            message = message.after(delay);
        }
        if self.kind.is_doomed() {
            message = message.max_attempts(DOOMED_ATTEMPTS);
        }
        message
    }
}

/// What a handler reads from the body: what to do, and for how long.
pub(crate) fn order(body: &[u8]) -> Option<(Kind, Duration)> {
    let mut words = std::str::from_utf8(body).ok()?.split(' ').skip(1);
    let kind = Kind::parse(words.next()?)?;
    Some((kind, Duration::from_micros(words.next()?.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { seed: 7, messages: 10_000, holds: 3 };

    #[test]
    fn a_tenth_rolls_back_a_tenth_fails_and_one_kills() {
        let all: Vec<_> = (0..PLAN.messages).map(|n| PLAN.message(n)).collect();
        let count = |test: fn(&Planned) -> bool| all.iter().filter(|planned| test(planned)).count();
        assert_eq!(count(|planned| planned.kind == Kind::Kills && !planned.rolls_back), 1);
        assert!((999..=1_000).contains(&count(|planned| planned.rolls_back)));
        assert!((999..=1_000).contains(&count(|planned| planned.kind == Kind::Fails)));
        assert_eq!(count(|planned| planned.holds), 3);
        assert_eq!(PLAN.message(17), PLAN.message(17));
        assert_ne!(PLAN.message(17), Plan { seed: 8, ..PLAN }.message(17));
    }

    #[test]
    fn a_body_says_what_its_handler_does() {
        let planned = PLAN.message(PLAN.killer());
        let message = planned.message(MessageId::new());
        assert_eq!(order(&message.payload), Some((Kind::Kills, planned.work)));
        assert_eq!(message.max_attempts, Some(DOOMED_ATTEMPTS));
        assert_eq!(order(b"7 sings 12"), None);
    }
}
