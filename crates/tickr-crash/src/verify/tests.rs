//! The verdict on made-up evidence: sound evidence passes, and each way to break it is noticed.

use std::collections::HashMap;

use tickr_core::protocol::Recorded;
use tickr_core::{Bits, ClaimEntry, MessageId, OutcomeEntry, Status, Timestamp, Token, Uuid, WorkerId, assemble_history};

use super::{Evidence, Verdict, verify};
use crate::database::Receipt;
use crate::journal::{Body, Claim, Journal, Key, Member, Open, Settlement, Transition};
use crate::ledger::{Event, Page, Record};
use crate::plan::{ATTEMPTS, Kind, Plan, Planned};

const PLAN: Plan = Plan { seed: 5, messages: 60, holds: 0 };

/// Writes a run in which everything goes well, message by message, by a clock that moves with every event.
struct Author {
    clock: i64,
    worker: Uuid,
    evidence: Evidence,
}

impl Author {
    fn write() -> Evidence {
        let page = |name: &str| Page { name: name.to_owned(), records: Vec::new() };
        let evidence = Evidence {
            plan: PLAN,
            loses_answers: false,
            pages: vec![page("producer-0-0"), page("worker-0-0")],
            receipts: Vec::new(),
            journal: Journal::default(),
            statuses: HashMap::new(),
            histories: HashMap::new(),
            audit: Vec::new(),
        };
        let mut author = Self { clock: 1_000_000, worker: *WorkerId::new().as_uuid(), evidence };
        (0..PLAN.messages).for_each(|n| author.message(&PLAN.message(n)));
        author.evidence
    }

    fn now(&mut self) -> Timestamp {
        self.clock += 10;
        Timestamp::from_micros(self.clock)
    }

    fn say(&mut self, page: usize, event: Event) {
        let at = self.now();
        self.evidence.pages[page].records.push(Record { event, at, monotonic_us: at.as_micros() });
    }

    fn message(&mut self, planned: &Planned) {
        let (n, id) = (planned.n, MessageId::new());
        self.say(0, Event::Planned { n, id });
        if planned.rolls_back {
            return self.say(0, Event::RolledBack { n, id });
        }
        let owner = planned.key.as_ref().and_then(|key| self.evidence.journal.keys.iter().find(|known| known.key == *key));
        let duplicate_of = owner.map(|key| key.id);
        self.evidence.receipts.push(Receipt { n, id, duplicate_of });
        if let Some(existing) = duplicate_of {
            return self.say(0, Event::Duplicate { n, id, existing });
        }
        self.say(0, Event::Committed { n, id });
        self.store(planned, id);
        let outcomes: &[(bool, Recorded)] = match planned.kind {
            Kind::Works => &[(false, Recorded::Ok)],
            Kind::Skips => &[(false, Recorded::Skipped)],
            Kind::Fails1 | Kind::Panics1 => &[(false, Recorded::Failed), (false, Recorded::Ok)],
            Kind::Fails => &[(false, Recorded::Failed), (false, Recorded::Failed), (false, Recorded::Exhausted)],
            Kind::Kills => &[(false, Recorded::Reclaimed), (false, Recorded::Reclaimed), (true, Recorded::Crashed)],
        };
        let mut claims = Vec::new();
        let mut ends = Vec::new();
        for (attempt, (solo, recorded)) in (1_u16..).zip(outcomes) {
            let max_attempts = if planned.kind.is_doomed() { 3 } else { ATTEMPTS };
            let (claim, end) = self.lease(Member { id, attempt, max_attempts }, *solo, *recorded);
            claims.push(claim);
            ends.push(end);
        }
        let status = if planned.kind.is_doomed() { Status::Dead } else { Status::Success };
        if status == Status::Dead {
            self.evidence.journal.dead.push(id);
        }
        self.evidence.statuses.insert(id, status);
        let created = Timestamp::from_micros(1);
        self.evidence.histories.insert(id, assemble_history(id, Some(created), claims, ends));
    }

    fn store(&mut self, planned: &Planned, id: MessageId) {
        let message = planned.message(id);
        let (event_type, scheduled_at) = (message.event_type.clone(), planned.delay.map(|_| self.now()));
        if let Some(key) = &message.idempotency_key {
            self.evidence.journal.keys.push(Key { event_type: event_type.clone(), key: key.clone(), id });
        }
        let payload = message.payload.to_vec();
        self.evidence.journal.bodies.push(Body { id, event_type, payload, key: message.idempotency_key, scheduled_at });
    }

    fn lease(&mut self, member: Member, solo: bool, recorded: Recorded) -> (ClaimEntry, OutcomeEntry) {
        let (token, worker, worker_name) = (Token::new(), self.worker, "worker-0-0".to_owned());
        let Member { id, attempt, .. } = member;
        let claimed = self.now();
        self.evidence.journal.claims.push(Claim { token, worker, worker_name, solo, at: claimed, members: vec![member] });
        self.say(1, Event::Started { id, attempt });
        match recorded {
            Recorded::Ok | Recorded::Skipped => self.say(1, Event::Succeeded { id, attempt }),
            Recorded::Failed | Recorded::Exhausted => self.say(1, Event::Failed { id, attempt }),
            _ => {}
        }
        let at = self.now();
        let settled = if recorded == Recorded::Crashed { Recorded::Reclaimed } else { recorded };
        self.evidence.journal.settlements.push(Settlement { token, recorded: settled, mask: Bits::full(1), at });
        if recorded != Recorded::Ok {
            self.evidence.journal.transitions.push(Transition { id, token: Some(token), recorded, attempt });
        }
        let claim = ClaimEntry::new(token, attempt, "worker-0-0".to_owned(), claimed);
        let mut outcome = OutcomeEntry::new(recorded, attempt, at);
        outcome.token = Some(token);
        (claim, outcome)
    }
}

/// The first stored message of a kind.
fn one(evidence: &Evidence, kind: Kind) -> MessageId {
    let of_kind = |receipt: &&Receipt| receipt.duplicate_of.is_none() && PLAN.message(receipt.n).kind == kind;
    evidence.receipts.iter().find(of_kind).unwrap().id
}

/// The places of its claims in the journal.
fn claims(evidence: &Evidence, id: MessageId) -> Vec<usize> {
    let claims = evidence.journal.claims.iter().enumerate();
    claims.filter(|(_, claim)| claim.members[0].id == id).map(|(at, _)| at).collect()
}

fn rolled_back(evidence: &Evidence) -> MessageId {
    let ended = evidence.pages[0].records.iter().find_map(|record| match record.event {
        Event::RolledBack { id, .. } => Some(id),
        _ => None,
    });
    ended.unwrap()
}

fn say(evidence: &mut Evidence, event: Event) {
    let at = Timestamp::from_micros(i64::MAX / 2);
    evidence.pages[1].records.push(Record { event, at, monotonic_us: 0 });
}

/// Breaks sound evidence, and expects a finding with these words.
fn notices(words: &str, sabotage: impl FnOnce(&mut Evidence)) {
    let mut evidence = Author::write();
    sabotage(&mut evidence);
    let Verdict { findings, .. } = verify(&evidence);
    assert!(findings.0.iter().any(|finding| finding.contains(words)), "{words:?} is not in {findings:#?}");
}

#[test]
fn sound_evidence_passes() {
    let evidence = Author::write();
    let Verdict { findings, counts } = verify(&evidence);
    assert_eq!(findings.0, Vec::<String>::new());
    assert_eq!(counts.rolled_back, 6);
    assert_eq!(counts.committed + counts.duplicates + counts.rolled_back, PLAN.messages as usize);
    assert_eq!((counts.dead_crashed, counts.killer_solo, counts.reclaimed), (1, 1, 3));
    assert_eq!(counts.succeeded + counts.dead_exhausted + counts.dead_crashed, counts.committed);
    assert!(counts.duplicates > 0 && counts.dead_exhausted > 0, "{counts:?}");
}

#[test]
fn a_lost_message_is_noticed() {
    notices("nowhere: lost (I1)", |evidence| {
        let at = claims(evidence, one(evidence, Kind::Works))[0];
        let token = evidence.journal.claims.remove(at).token;
        evidence.journal.settlements.retain(|settlement| settlement.token != token);
    });
    notices("was never claimed", |evidence| {
        let id = one(evidence, Kind::Works);
        evidence.journal.claims.retain(|claim| claim.members[0].id != id);
    });
    notices("the audit says: Lost", |evidence| evidence.audit.push("Lost".to_owned()));
}

#[test]
fn an_unfinished_message_is_noticed() {
    notices("is not finished", |evidence| {
        let id = one(evidence, Kind::Works);
        evidence.journal.claims.retain(|claim| claim.members[0].id != id);
        evidence.journal.ready.push(id);
    });
    notices("is in more than one place", |evidence| evidence.journal.ready.push(one(evidence, Kind::Works)));
    notices("is in more than one place", |evidence| evidence.journal.dead.push(one(evidence, Kind::Works)));
}

#[test]
fn a_missing_body_is_noticed() {
    notices("has no body, but is", |evidence| drop(evidence.journal.bodies.remove(0)));
    notices("was not stored as it was enqueued", |evidence| evidence.journal.bodies[0].payload.push(b'!'));
    notices("its receipt is gone", |evidence| evidence.receipts.truncate(1));
}

#[test]
fn a_second_success_is_noticed() {
    let again = |evidence: &mut Evidence| {
        let at = claims(evidence, one(evidence, Kind::Works))[0];
        let (token, later) = (Token::new(), Timestamp::from_micros(i64::MAX / 4));
        let mut claim = Claim { token, at: later, ..evidence.journal.claims[at].clone() };
        claim.members[0].attempt = 2;
        evidence.journal.claims.push(claim);
        evidence.journal.settlements.push(Settlement { token, recorded: Recorded::Ok, mask: Bits::full(1), at: later });
    };
    notices("succeeded 2 times", again);
    notices("was claimed again", again);
    notices("no handler had", again);
}

#[test]
fn overlapping_leases_are_noticed() {
    notices("overlap", |evidence| {
        let claims = claims(evidence, one(evidence, Kind::Fails));
        evidence.journal.claims[claims[1]].at = evidence.journal.claims[claims[0]].at.after(std::time::Duration::from_micros(1));
    });
    notices("is leased twice", |evidence| {
        let at = claims(evidence, one(evidence, Kind::Fails))[0];
        let token = evidence.journal.claims[at].token;
        evidence.journal.settlements.retain(|settlement| settlement.token != token);
    });
}

#[test]
fn broken_masks_are_noticed() {
    notices("was settled twice", |evidence| {
        let settlement = evidence.journal.settlements[0].clone();
        evidence.journal.settlements.push(settlement);
    });
    notices("not all of its members are settled (I2)", |evidence| drop(evidence.journal.settlements.remove(0)));
    notices("has no member 3", |evidence| evidence.journal.settlements[0].mask = Bits::from_indices(8, [0, 3]));
    notices("is open, but all of its members are settled", |evidence| {
        let token = evidence.journal.claims[0].token;
        evidence.journal.open.push(Open { token, settled: Bits::full(1), revoked: Bits::new(1) });
    });
    notices("the fence of claim", |evidence| {
        let token = evidence.journal.claims[0].token;
        evidence.journal.open.push(Open { token, settled: Bits::new(1), revoked: Bits::new(1) });
    });
    notices("which does not exist (I2)", |evidence| drop(evidence.journal.claims.remove(0)));
    notices("but its transitions are", |evidence| evidence.journal.transitions.clear());
}

#[test]
fn what_was_rolled_back_and_ran_is_noticed() {
    notices("is rolled back, and ran", |evidence| {
        let id = rolled_back(evidence);
        say(evidence, Event::Started { id, attempt: 1 });
    });
    notices("is rolled back, and stored", |evidence| {
        let body = Body { id: rolled_back(evidence), ..evidence.journal.bodies[0].clone() };
        evidence.journal.bodies.push(body);
    });
    notices("its receipt is there", |evidence| {
        let id = rolled_back(evidence);
        let n = (0..PLAN.messages).find(|n| PLAN.message(*n).rolls_back).unwrap();
        evidence.receipts.push(Receipt { n, id, duplicate_of: None });
    });
    notices("no committed transaction stored it", |evidence| say(evidence, Event::Started { id: MessageId::new(), attempt: 1 }));
}

#[test]
fn a_wrong_death_is_noticed() {
    let die = |evidence: &mut Evidence, kind: Kind, recorded: Recorded| {
        let id = one(evidence, kind);
        let token = evidence.journal.claims[*claims(evidence, id).last().unwrap()].token;
        evidence.journal.settlements.iter_mut().find(|settlement| settlement.token == token).unwrap().recorded = recorded;
    };
    notices("ended as Exhausted", |evidence| die(evidence, Kind::Works, Recorded::Exhausted));
    notices("ended as Ok", |evidence| die(evidence, Kind::Fails, Recorded::Ok));
    notices("ended as Exhausted", |evidence| die(evidence, Kind::Kills, Recorded::Exhausted));
    notices("but not by both", |evidence| evidence.journal.dead.truncate(1));
    notices("solo: false", |evidence| {
        let at = *claims(evidence, one(evidence, Kind::Kills)).last().unwrap();
        evidence.journal.claims[at].solo = false;
    });
    notices("never began", |evidence| {
        let killer = one(evidence, Kind::Kills);
        evidence.pages[1].records.retain(|record| !matches!(record.event, Event::Started { id, .. } if id == killer));
    });
}

#[test]
fn a_suspect_in_company_is_noticed() {
    notices("was not alone in its worker", |evidence| {
        let killer = claims(evidence, one(evidence, Kind::Kills))[2];
        let at = evidence.journal.claims[killer].at.after(std::time::Duration::from_micros(1));
        let other = claims(evidence, one(evidence, Kind::Works))[0];
        evidence.journal.claims[other].at = at;
        let token = evidence.journal.claims[other].token;
        evidence.journal.settlements.iter_mut().find(|settlement| settlement.token == token).unwrap().at = at;
    });
    notices("but claim", |evidence| {
        let at = *claims(evidence, one(evidence, Kind::Kills)).last().unwrap();
        let neighbour = Member { id: MessageId::new(), attempt: 1, max_attempts: 3 };
        evidence.journal.claims[at].members.push(neighbour);
    });
    notices("no suspect after 1", |evidence| {
        let at = claims(evidence, one(evidence, Kind::Kills))[1];
        evidence.journal.claims[at].solo = true;
    });
    notices("but message", |evidence| {
        let at = claims(evidence, one(evidence, Kind::Works))[0];
        evidence.journal.claims[at].solo = true;
    });
}

#[test]
fn wrong_attempts_are_noticed() {
    notices("which should be 1", |evidence| evidence.journal.claims[0].members[0].attempt = 2);
    notices("brings attempt 3 of 2", |evidence| {
        let at = claims(evidence, one(evidence, Kind::Fails))[2];
        evidence.journal.claims[at].members[0].max_attempts = 2;
    });
    notices("which claimed it 1 times", |evidence| {
        let id = one(evidence, Kind::Works);
        say(evidence, Event::Started { id, attempt: 1 });
    });
}

#[test]
fn a_torn_ledger_is_noticed() {
    notices("no handler had", |evidence| {
        evidence.pages[1].records.retain(|record| !matches!(record.event, Event::Succeeded { .. }));
    });
    notices("ended more often", |evidence| {
        let id = one(evidence, Kind::Works);
        say(evidence, Event::Succeeded { id, attempt: 1 });
    });
    notices("does not say once", |evidence| evidence.pages[0].records.truncate(9));
    notices("the ledger says", |evidence| {
        for record in &mut evidence.pages[0].records {
            if let Event::Committed { n, id } = record.event {
                record.event = Event::RolledBack { n, id };
            }
        }
    });
}

#[test]
fn an_early_start_is_noticed() {
    let delayed = |evidence: &mut Evidence, at: Timestamp| {
        evidence.journal.bodies.iter_mut().find(|body| body.scheduled_at.is_some()).unwrap().scheduled_at = Some(at);
    };
    let never = Timestamp::from_micros(i64::MAX);
    notices("and was claimed at", |evidence| delayed(evidence, never));
    notices("and began at", |evidence| delayed(evidence, never));
    notices("handlers began after their lease was given away", |evidence| {
        for record in &mut evidence.pages[1].records {
            if matches!(record.event, Event::Started { .. }) {
                record.at = never;
            }
        }
    });
    notices("before claim", |evidence| evidence.journal.claims[0].at = never);
}

#[test]
fn a_wrong_answer_to_an_operator_is_noticed() {
    notices("the storage says that message", |evidence| {
        let id = one(evidence, Kind::Works);
        evidence.statuses.insert(id, Status::Dead);
    });
    notices("ends in", |evidence| {
        let id = one(evidence, Kind::Works);
        evidence.histories.get_mut(&id).unwrap().pop();
    });
    notices("tells of the claims", |evidence| {
        let id = one(evidence, Kind::Works);
        evidence.histories.get_mut(&id).unwrap().retain(|step| step.to != Status::Handling);
    });
    notices("which belongs to None", |evidence| evidence.journal.keys.clear());
    notices("which does not exist", |evidence| evidence.journal.keys[0].id = MessageId::new());
}
