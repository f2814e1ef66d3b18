//! Claims as the journal has them.

use rusqlite::{OptionalExtension, Row, params};
use tickr_core::{Bits, EventType, MessageId, Timestamp, Token, protocol};
use tickr_sql::json;
use tickr_sql::sqlite::{admin, claim, stats};

use crate::error::Fault;
use crate::row;
use crate::scope::Scope;

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
    /// Reads the ten columns from `column` on.
    fn read(row: &Row<'_>) -> Result<Self, Fault> {
        let ids = row::ids(row::blob(row, 4)?)?;
        let list = |column| row::unpack(row::blob(row, column)?, ids.len());
        let (attempts, crashes, maxes, types) = (list(5)?, list(6)?, list(7)?, list(9)?);
        let event_types = json::decode_names(row::text(row, 8)?)?;
        if types.iter().any(|at| usize::from(*at) >= event_types.len()) {
            return Err(row::corrupt("a claim names an event type that it does not have"));
        }
        Ok(Self {
            token: row::token(row, 0)?,
            worker_name: row.get(1)?,
            solo: row.get(2)?,
            at: row::timestamp(row, 3)?,
            ids,
            attempts,
            crashes,
            maxes,
            event_types,
            types,
        })
    }

    /// The number of members.
    pub(crate) fn members(&self) -> u32 {
        u32::try_from(self.ids.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn event_type(&self, index: usize) -> &EventType {
        &self.event_types[usize::from(self.types[index])]
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

/// The claim with this token, open or not.
pub(crate) fn claim_of(scope: &Scope<'_>, token: Token) -> Result<Option<ClaimRow>, Fault> {
    let mut statement = scope.prepare(claim::READ_CLAIM)?;
    let found = statement.query_row([token.as_bytes().as_slice()], |row| Ok(ClaimRow::read(row))).optional()?;
    found.transpose()
}

/// The claim of a fence row, which a foreign key says is there.
pub(crate) fn open_claim_of(scope: &Scope<'_>, token: Token) -> Result<ClaimRow, Fault> {
    claim_of(scope, token)?.ok_or_else(|| row::corrupt("an open claim has no row in the journal"))
}

/// Every open claim.
pub(crate) fn open_claims(scope: &Scope<'_>) -> Result<Vec<Open>, Fault> {
    let mut statement = scope.prepare(stats::OPEN_CLAIMS)?;
    let mut rows = statement.query([])?;
    let mut open = Vec::new();
    while let Some(row) = rows.next()? {
        let claim = ClaimRow::read(row)?;
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
                claims.push(ClaimRow::read(row)?);
            }
        }
    }
    Ok(claims)
}
