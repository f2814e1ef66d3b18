//! Claims as the journal has them.

use rusqlite::{OptionalExtension, Row, params};
use tickr_core::{Bits, EventType, MessageId, Timestamp, Token, protocol};
use tickr_sql::json;
use tickr_sql::sqlite::{admin, claim, stats};

use crate::error::Fault;
use crate::row;
use crate::scope::Scope;
use crate::settle::Fence;

/// A row of claims.
#[derive(Debug)]
pub(crate) struct ClaimRow {
    pub(crate) token: Token,
    pub(crate) worker_name: String,
    pub(crate) solo: bool,
    pub(crate) at: Timestamp,
    pub(crate) ids: Vec<MessageId>,
    pub(crate) attempts: Vec<u16>,
    pub(crate) crashes: Vec<u16>,
    pub(crate) maxes: Vec<u16>,
    event_types: Vec<EventType>,
    types: Vec<u16>,
}

impl ClaimRow {
    /// Reads the ten columns. `None` when its ids cannot be read: nobody can say then which messages it had. Everything else that
    /// cannot be read is replaced, so that its messages go on.
    fn read(row: &Row<'_>) -> Result<Option<Self>, Fault> {
        let token = row::token(row, 0)?;
        let Some(ids) = row::ids(row::blob(row, 4)?) else {
            tracing::error!(%token, "the ids of a claim cannot be read; an audit names it");
            return Ok(None);
        };
        let list = |column, replacement| {
            let read: Result<Vec<u16>, Fault> = row::unpack(row::blob(row, column)?, ids.len());
            Ok::<_, Fault>(read.unwrap_or_else(|_| vec![replacement; ids.len()]))
        };
        Ok(Some(Self {
            token,
            worker_name: row::shown(row, 1)?.unwrap_or_default(),
            solo: row.get(2)?,
            at: row::timestamp(row, 3)?,
            attempts: list(5, 0)?,
            crashes: list(6, 0)?,
            maxes: list(7, u16::MAX)?,
            event_types: json::decode_names(&row::lossy(row.get_ref(8)?)).unwrap_or_default(),
            types: list(9, u16::MAX)?,
            ids,
        }))
    }

    /// The number of members.
    pub(crate) fn members(&self) -> u32 {
        u32::try_from(self.ids.len()).unwrap_or(u32::MAX)
    }

    /// The event type of a member; `None` when the journal cannot say it.
    fn known_type(&self, index: usize) -> Option<&EventType> {
        self.event_types.get(usize::from(*self.types.get(index)?))
    }

    /// The event type of a member; `?` when the journal cannot say it.
    pub(crate) fn event_type(&self, index: usize) -> EventType {
        self.known_type(index).cloned().unwrap_or_else(|| EventType::from_stored("?"))
    }

    /// The event type under which a member goes back to the queue: if the journal cannot say it, its body does.
    pub(crate) fn returning_type(&self, scope: &Scope<'_>, index: usize) -> Result<EventType, Fault> {
        if let Some(known) = self.known_type(index) {
            return Ok(known.clone());
        }
        let mut statement = scope.prepare(claim::BODY)?;
        let stored = statement.query_row([self.ids[index].as_bytes().as_slice()], |row| row::event_type(row, 12)).optional()?;
        Ok(stored.unwrap_or_else(|| self.event_type(index)))
    }
}

/// An open claim with its fence row.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) claim: ClaimRow,
    pub(crate) settled: Bits,
    pub(crate) revoked: Bits,
}

impl Open {
    /// The members that are still leased.
    pub(crate) fn leased(&self) -> Bits {
        self.settled.union(&self.revoked).complement()
    }
}

/// The claim with this token, open or not. `None` also when it cannot be read.
pub(crate) fn claim_of(scope: &Scope<'_>, token: Token) -> Result<Option<ClaimRow>, Fault> {
    let mut statement = scope.prepare(claim::READ_CLAIM)?;
    let found = statement.query_row([token.as_bytes().as_slice()], |row| Ok(ClaimRow::read(row))).optional()?;
    Ok(found.transpose()?.flatten())
}

/// The claim of a fence row, which a foreign key says is there.
pub(crate) fn open_claim_of(scope: &Scope<'_>, token: Token) -> Result<ClaimRow, Fault> {
    claim_of(scope, token)?.ok_or_else(|| row::corrupt("an open claim has no row in the journal that can be read"))
}

/// The claim of a fence row, if it can be read and has as many members as the fence: only then is it known which member is which.
pub(crate) fn sound_claim_of(scope: &Scope<'_>, fence: &Fence) -> Result<Option<ClaimRow>, Fault> {
    let claim = claim_of(scope, fence.token)?.filter(|claim| claim.members() == fence.settled.len());
    if claim.is_none() {
        tracing::error!(token = %fence.token, "an open claim and its fence do not fit each other; an audit names it");
    }
    Ok(claim)
}

/// Every open claim that can be read.
pub(crate) fn open_claims(scope: &Scope<'_>) -> Result<Vec<Open>, Fault> {
    let mut statement = scope.prepare(stats::OPEN_CLAIMS)?;
    let mut rows = statement.query([])?;
    let mut open = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(claim) = ClaimRow::read(row)? else { continue };
        let (settled, revoked) = (row::bits(row, 10, claim.members())?, row::bits(row, 11, claim.members())?);
        open.push(Open { claim, settled, revoked });
    }
    Ok(open)
}

/// Every claim that ever had one of these ids as a member, as far as the journal goes. `ids` must be sorted.
pub(crate) fn claims_with(scope: &Scope<'_>, ids: &[MessageId]) -> Result<Vec<ClaimRow>, Fault> {
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(Vec::new()) };
    let mut statement = scope.prepare(admin::CLAIMS_OVER)?;
    let mut claims = Vec::new();
    for span in 0..=protocol::SPAN_MAX {
        let end = protocol::span_end(*last, span);
        let [first, last, end] = [first, last, &end].map(|id| id.as_bytes().as_slice());
        let mut rows = statement.query(params![span, first, last, end])?;
        while let Some(row) = rows.next()? {
            let members = row::blob(row, 4)?;
            if members.chunks_exact(16).any(|member| ids.binary_search_by(|id| id.as_bytes()[..].cmp(member)).is_ok()) {
                claims.extend(ClaimRow::read(row)?);
            }
        }
    }
    Ok(claims)
}
