//! Ending leases: settle, and giving back what a worker still holds.

use rusqlite::{OptionalExtension, params};
use tickr_core::protocol::{self, Recorded, Waiting};
use tickr_core::{
    Bits, Error, EventType, MessageId, OpenClaim, SettleOutcome, Settled, SettledMember, Settlement, Token, check_settlements,
};
use tickr_sql::sqlite::settle;

use crate::error::Fault;
use crate::journal;
use crate::row;
use crate::scope::Scope;

/// Records outcomes, in the order of the batch.
pub(crate) fn settle(scope: &mut Scope<'_>, batch: &[Settlement]) -> Result<Vec<Settled>, Fault> {
    check_settlements(batch)?;
    batch.iter().map(|settlement| settle_one(scope, settlement)).collect()
}

/// A fence row. Reading it inside a transaction that holds the write lock is as good as locking it.
#[derive(Debug)]
pub(crate) struct Fence {
    pub(crate) token: Token,
    pub(crate) settled: Bits,
    pub(crate) revoked: Bits,
}

impl Fence {
    pub(crate) fn read(scope: &Scope<'_>, token: Token) -> Result<Option<Self>, Fault> {
        let mut statement = scope.prepare(settle::READ_OPEN)?;
        let found = statement.query_row([token.as_bytes().as_slice()], |row| {
            let members = row::members(row, 0)?;
            let bits = row::bits(row, 1, members).and_then(|settled| Ok((settled, row::bits(row, 2, members)?)));
            Ok(bits.map(|(settled, revoked)| Self { token, settled, revoked }))
        });
        found.optional()?.transpose()
    }

    /// The fence as a heartbeat and an audit see it.
    pub(crate) fn into_open_claim(self) -> OpenClaim {
        let mut open = OpenClaim::new(self.token, self.settled.len());
        open.settled = self.settled;
        open.revoked = self.revoked;
        open
    }

    /// The members that are still leased.
    pub(crate) fn leased(&self) -> Bits {
        self.settled.union(&self.revoked).complement()
    }

    /// Writes that `take` ended; a full row is deleted.
    pub(crate) fn write_settled(&self, scope: &Scope<'_>, take: &Bits) -> Result<(), Fault> {
        self.write(scope, settle::WRITE_SETTLED, &self.settled.union(take), take)
    }

    /// Writes that `take` was taken away; a full row is deleted.
    pub(crate) fn write_revoked(&self, scope: &Scope<'_>, take: &Bits) -> Result<(), Fault> {
        self.write(scope, settle::WRITE_REVOKED, &self.revoked.union(take), take)
    }

    fn write(&self, scope: &Scope<'_>, sql: &str, bits: &Bits, take: &Bits) -> Result<(), Fault> {
        let token = self.token.as_bytes().as_slice();
        let rows = if self.leased().difference(take).is_empty() {
            scope.writes(settle::CLOSE, [token])?
        } else {
            scope.writes(sql, params![token, bits.to_bytes()])?
        };
        if rows == 1 { Ok(()) } else { Err(row::corrupt("a fence row vanished under the write lock")) }
    }
}

fn settle_one(scope: &mut Scope<'_>, settlement: &Settlement) -> Result<Settled, Fault> {
    let asked = settlement.asked();
    let Some(fence) = Fence::read(scope, settlement.token)? else {
        return settled_before(scope, settlement, &asked);
    };
    check_members(scope, settlement, fence.settled.len())?;
    let applied = asked.intersection(&fence.leased());
    if !applied.is_empty() {
        fence.write_settled(scope, &applied)?;
        write_outcomes(scope, settlement, &applied)?;
    }
    let mut settled = Settled::new(applied);
    settled.already = asked.intersection(&fence.settled);
    settled.lost = asked.intersection(&fence.revoked);
    Ok(settled)
}

/// Refuses a settlement of another claim's members.
fn check_members(scope: &Scope<'_>, settlement: &Settlement, members: u32) -> Result<(), Fault> {
    let (token, asked) = (settlement.token, settlement.succeeded.len());
    if asked != members {
        return Err(Error::config(format!("settlement of claim {token} has {asked} members, the claim has {members}")).into());
    }
    // A plain success, the usual case, names no message.
    if settlement.others.is_empty() {
        return Ok(());
    }
    let claim = journal::open_claim_of(scope, token)?;
    match settlement.others.iter().find(|member| claim.ids.get(member.index as usize) != Some(&member.id)) {
        Some(member) => Err(Error::config(format!("member {} of claim {token} is not message {}", member.index, member.id)).into()),
        None => Ok(()),
    }
}

/// Journal, and the rows of what goes on: nothing more for a success.
fn write_outcomes(scope: &mut Scope<'_>, settlement: &Settlement, applied: &Bits) -> Result<(), Fault> {
    for (recorded, mask) in settlement.by_outcome() {
        let mask = mask.intersection(applied);
        if !mask.is_empty() {
            scope.insert_settlement(settlement.token, recorded, &mask)?;
        }
    }
    let mut members: Vec<&SettledMember> = settlement.others.iter().filter(|member| applied.contains(member.index)).collect();
    // What returns keeps the order it was claimed in.
    members.sort_unstable_by_key(|member| member.index);
    let mut ready = Vec::new();
    for member in members {
        let text = member.outcome.text();
        scope.insert_transition(member.id, Some(settlement.token), member.outcome.recorded(), member.attempt, text)?;
        if let Some(row) = place(scope, member)? {
            ready.push(row);
        }
    }
    scope.insert_ready(ready)
}

/// Puts a member where it goes: scheduled or dead; or gives the row for ready.
fn place<'m>(scope: &Scope<'_>, member: &'m SettledMember) -> Result<Option<(MessageId, &'m EventType, Waiting)>, Fault> {
    let SettledMember { id, event_type, priority, attempt, crashes, outcome, .. } = member;
    match protocol::returned(outcome, *priority, *attempt, *crashes) {
        Some(waiting) if outcome.delay().is_zero() => return Ok(Some((*id, event_type, waiting))),
        Some(waiting) => scope.insert_scheduled(*id, scope.now().after(outcome.delay()), event_type, waiting)?,
        None if matches!(outcome, SettleOutcome::Skipped { .. }) => {}
        None => scope.insert_dead(*id, event_type, *attempt, outcome.text().unwrap_or("dead"))?,
    }
    Ok(None)
}

/// The claim is closed: only its journal knows who ended which member. No journal: whoever asks has come too late.
fn settled_before(scope: &Scope<'_>, settlement: &Settlement, asked: &Bits) -> Result<Settled, Fault> {
    if let Some(claim) = journal::claim_of(scope, settlement.token)? {
        check_members(scope, settlement, claim.members())?;
    }
    let members = asked.len();
    let mut by_holder = Bits::new(members);
    let mut statement = scope.prepare(settle::READ_SETTLEMENTS)?;
    let mut rows = statement.query([settlement.token.as_bytes().as_slice()])?;
    while let Some(row) = rows.next()? {
        if Recorded::parse(row::text(row, 0)?).is_some_and(|recorded| !recorded.took_the_lease()) {
            by_holder = by_holder.union(&row::bits(row, 1, members)?);
        }
    }
    let mut settled = Settled::new(Bits::default());
    settled.already = asked.intersection(&by_holder);
    settled.lost = asked.difference(&settled.already);
    Ok(settled)
}
