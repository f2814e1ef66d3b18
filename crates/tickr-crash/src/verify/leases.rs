//! Leases: made of claims and what ended them. No two of one message overlap, and the attempts add up.

use std::collections::HashMap;

use tickr_core::protocol::{self, Recorded};
use tickr_core::{Bits, MessageId, Timestamp, Token, Uuid};

use super::{Counts, Findings};
use crate::journal::{Claim, Journal, Member, Open, Settlement};

/// One message in the hands of one worker.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) token: Token,
    pub(super) attempt: u16,
    pub(super) max_attempts: u16,
    /// Exclusive to its end.
    pub(super) solo: bool,
    /// The only one of its claim.
    pub(super) is_single: bool,
    pub(super) worker: Uuid,
    pub(super) worker_name: String,
    pub(super) from: Timestamp,
    pub(super) ended: Option<(Recorded, Timestamp)>,
}

/// The leases of each message, in the order of their claims.
pub(super) type Leases = HashMap<MessageId, Vec<Lease>>;

/// Reads claims and settlements, and checks I2: masks of a token are disjoint, and full if and only if it is closed.
pub(super) fn read(journal: &Journal, findings: &mut Findings, counts: &mut Counts) -> Leases {
    let mut settlements: HashMap<Token, Vec<&Settlement>> = HashMap::new();
    for settlement in &journal.settlements {
        settlements.entry(settlement.token).or_default().push(settlement);
    }
    let mut open: HashMap<Token, &Open> = journal.open.iter().map(|open| (open.token, open)).collect();
    let mut steps: Steps = HashMap::new();
    for step in &journal.transitions {
        if let Some(token) = step.token {
            steps.entry((token, step.id)).or_default().push((step.recorded, step.attempt));
        }
    }
    let mut leases = Leases::new();
    for claim in &journal.claims {
        let settlements = settlements.remove(&claim.token).unwrap_or_default();
        let ended = ends(claim, &settlements, findings);
        check_fence(claim, &ended, open.remove(&claim.token), findings);
        counts.claims += 1;
        counts.solo_claims += usize::from(claim.solo);
        counts.leases += claim.members.len();
        for (member, ended) in claim.members.iter().zip(ended) {
            let ended = ended.map(|(recorded, at)| (refine(member, claim.token, recorded, &mut steps, findings), at));
            counts.attempt_max = counts.attempt_max.max(member.attempt);
            counts.reclaimed += usize::from(matches!(ended, Some((Recorded::Reclaimed | Recorded::Crashed, _))));
            counts.released += usize::from(matches!(ended, Some((Recorded::Released, _))));
            leases.entry(member.id).or_default().push(Lease {
                token: claim.token,
                attempt: member.attempt,
                max_attempts: member.max_attempts,
                solo: claim.solo,
                is_single: claim.members.len() == 1,
                worker: claim.worker,
                worker_name: claim.worker_name.clone(),
                from: claim.at,
                ended,
            });
        }
    }
    for token in settlements.keys() {
        findings.add(format!("there are settlements of claim {token}, which does not exist (I2)"));
    }
    for ((token, id), steps) in &steps {
        findings.add(format!("there are transitions of message {id} in claim {token}, which did not end so: {steps:?}"));
    }
    for token in open.keys() {
        findings.add(format!("claim {token} is open and does not exist (I3)"));
    }
    leases
}

/// What was recorded of one member of one claim, with the attempt.
type Steps = HashMap<(Token, MessageId), Vec<(Recorded, u16)>>;

/// What a settlement says of many members, its transition says of one; of a member that was taken back it says whether
/// that died of it.
fn refine(member: &Member, token: Token, recorded: Recorded, steps: &mut Steps, findings: &mut Findings) -> Recorded {
    let told = steps.remove(&(token, member.id)).unwrap_or_default();
    match told[..] {
        [] if recorded == Recorded::Ok => recorded,
        [(Recorded::Crashed, attempt)] if recorded == Recorded::Reclaimed && attempt == member.attempt => Recorded::Crashed,
        [(same, attempt)] if same == recorded && attempt == member.attempt => recorded,
        _ => {
            let (id, attempt) = (member.id, member.attempt);
            findings
                .add(format!("attempt {attempt} of message {id} in claim {token} ended as {recorded:?}, but its transitions are {told:?}"));
            recorded
        }
    }
}

/// How each member ended.
fn ends(claim: &Claim, settlements: &[&Settlement], findings: &mut Findings) -> Vec<Option<(Recorded, Timestamp)>> {
    let mut ends = vec![None; claim.members.len()];
    for settlement in settlements {
        for index in settlement.mask.iter() {
            match ends.get_mut(index as usize) {
                None => findings.add(format!("claim {} has no member {index}, but a settlement of it (I2)", claim.token)),
                Some(Some((before, _))) => {
                    let (token, now) = (claim.token, settlement.recorded);
                    findings.add(format!("member {index} of claim {token} was settled twice: {before:?}, {now:?} (I2)"));
                }
                Some(end) => *end = Some((settlement.recorded, settlement.at)),
            }
        }
    }
    ends
}

/// The fence row says what the settlements say, and is there until they are complete.
fn check_fence(claim: &Claim, ended: &[Option<(Recorded, Timestamp)>], open: Option<&Open>, findings: &mut Findings) {
    let token = claim.token;
    let full = ended.iter().all(Option::is_some);
    let Some(open) = open else {
        findings.check(full, || format!("claim {token} is closed, but not all of its members are settled (I2)"));
        return;
    };
    findings.check(!full, || format!("claim {token} is open, but all of its members are settled (I2)"));
    let members = u32::try_from(ended.len()).unwrap_or(u32::MAX);
    let which = |took: bool| {
        let indices = (0_u32..).zip(ended).filter(|(_, end)| end.is_some_and(|(recorded, _)| recorded.took_the_lease() == took));
        Bits::from_indices(members, indices.map(|(index, _)| index))
    };
    findings.check(open.settled == which(false) && open.revoked == which(true), || {
        format!("the fence of claim {token} does not say what its settlements say (I2)")
    });
}

/// Follows each message from lease to lease.
pub(super) fn check_sequences(leases: &Leases, findings: &mut Findings) {
    for (id, leases) in leases {
        let mut attempt = 1;
        let mut crashes = 0;
        let mut before: Option<&Lease> = None;
        for lease in leases {
            match before.map(|before| (before, before.ended)) {
                Some((before, None)) => {
                    findings.add(format!("message {id} is leased twice: claims {} and {}", before.token, lease.token));
                }
                Some((before, Some((_, at)))) if lease.from < at => {
                    let (one, two, from) = (before.token, lease.token, lease.from);
                    findings.add(format!("leases of message {id} overlap: {two} began at {from}, {one} ended at {at}"));
                }
                Some((_, Some((recorded, _)))) if is_terminal(recorded) => {
                    findings.add(format!("message {id} was claimed again by {} after {recorded:?}", lease.token));
                }
                _ => {}
            }
            findings.check(lease.attempt == attempt, || {
                format!("claim {} counts attempt {} of message {id}, which should be {attempt}", lease.token, lease.attempt)
            });
            findings.check(lease.attempt <= lease.max_attempts, || {
                format!("claim {} brings attempt {} of {} of message {id}", lease.token, lease.attempt, lease.max_attempts)
            });
            let suspect = protocol::is_suspect(crashes);
            findings.check(suspect || !lease.solo, || {
                format!("claim {} is exclusive, but message {id} was no suspect after {crashes} crashes", lease.token)
            });
            findings.check(lease.is_single || !suspect, || {
                format!("message {id} was a suspect after {crashes} crashes, but claim {} has others beside it", lease.token)
            });
            if let Some((recorded, at)) = lease.ended {
                findings.check(at >= lease.from, || format!("claim {} of message {id} ended before it began", lease.token));
                attempt = next_attempt(lease, recorded);
                crashes = match recorded {
                    Recorded::Reclaimed => crashes + 1,
                    Recorded::Released => crashes,
                    _ => 0,
                };
            }
            before = Some(lease);
        }
    }
}

pub(super) const fn is_terminal(recorded: Recorded) -> bool {
    use Recorded::{Crashed, Dead, Exhausted, Killed, Ok, Skipped};
    matches!(recorded, Ok | Skipped | Exhausted | Dead | Killed | Crashed)
}

/// The number of the attempt that follows. A shared crash leaves room for one attempt; what is given back does not count.
fn next_attempt(lease: &Lease, recorded: Recorded) -> u16 {
    match recorded {
        Recorded::Released | Recorded::Snoozed => lease.attempt,
        Recorded::Reclaimed if !lease.solo => lease.attempt.min(lease.max_attempts.saturating_sub(1)) + 1,
        _ => lease.attempt + 1,
    }
}
