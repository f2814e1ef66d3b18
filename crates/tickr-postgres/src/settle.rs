//! Ending leases: settle.

use std::borrow::Cow;
use std::collections::HashMap;

use tickr_core::protocol::{self, Recorded};
use tickr_core::{Bits, Error, Settled, Settlement, Token, check_settlements};
use tickr_sql::postgres::settle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::config::Settings;
use crate::enqueue::micros;
use crate::error::Fault;
use crate::executor::{Executor, Plan};
use crate::row::{self, Encoding, Mask};

/// One array a column: a part is an outcome of a token; an item is a member that did not simply succeed.
#[derive(Default)]
struct Columns<'s> {
    tokens: Vec<Uuid>,
    outcomes: Vec<&'static str>,
    masks: Vec<Mask>,
    items: Items<'s>,
}

#[derive(Default)]
struct Items<'s> {
    tokens: Vec<Uuid>,
    indices: Vec<i32>,
    ids: Vec<Uuid>,
    event_types: Vec<&'s str>,
    lanes: Vec<i16>,
    attempts: Vec<i32>,
    ended: Vec<i32>,
    crashes: Vec<i16>,
    delays: Vec<i64>,
    outcomes: Vec<&'static str>,
    texts: Vec<Option<Cow<'s, str>>>,
}

impl<'s> Columns<'s> {
    fn of(batch: &'s [Settlement], encoding: Encoding) -> Self {
        let mut columns = Self::default();
        for settlement in batch {
            let token = *settlement.token.as_uuid();
            for (recorded, mask) in settlement.by_outcome() {
                columns.tokens.push(token);
                columns.outcomes.push(recorded.as_str());
                columns.masks.push(Mask(mask));
            }
            for member in &settlement.others {
                let waiting = protocol::returned(&member.outcome, member.priority, member.attempt, member.crashes);
                let items = &mut columns.items;
                items.tokens.push(token);
                items.indices.push(i32::try_from(member.index).unwrap_or(i32::MAX));
                items.ids.push(*member.id.as_uuid());
                items.event_types.push(member.event_type.as_str());
                items.lanes.push(waiting.map_or(0, |waiting| waiting.lane.as_i16()));
                items.attempts.push(waiting.map_or(0, |waiting| i32::from(waiting.attempt)));
                items.ended.push(i32::from(member.attempt));
                items.crashes.push(waiting.map_or(0, |waiting| row::small(waiting.crashes)));
                items.delays.push(micros(member.outcome.delay()));
                items.outcomes.push(member.outcome.recorded().as_str());
                items.texts.push(member.outcome.text().map(|text| encoding.text(text)));
            }
        }
        columns
    }
}

/// What became of the members of one token, over the whole batch.
struct Answer {
    applied: Bits,
    already: Bits,
    lost: Bits,
}

/// Records outcomes.
pub(crate) async fn settle(executor: &Executor, settings: &Settings, channel: &str, batch: &[Settlement]) -> Result<Vec<Settled>, Fault> {
    check_settlements(batch)?;
    let mut answers = write(executor, settings, channel, batch).await?;
    let closed: Vec<&Settlement> = batch.iter().filter(|settlement| !answers.contains_key(&settlement.token)).collect();
    if !closed.is_empty() {
        settled_before(executor, &closed, &mut answers).await?;
    }
    Ok(batch.iter().map(|settlement| share(settlement, answers.get(&settlement.token))).collect())
}

/// The part of a token's answer that one settlement asked for. Without an answer nothing of it is known: whoever asks has come too late.
fn share(settlement: &Settlement, answer: Option<&Answer>) -> Settled {
    let asked = settlement.asked();
    let Some(answer) = answer else {
        let mut settled = Settled::new(Bits::default());
        settled.lost = asked;
        return settled;
    };
    let mut settled = Settled::new(asked.intersection(&answer.applied));
    settled.already = asked.intersection(&answer.already);
    settled.lost = asked.intersection(&answer.lost);
    settled
}

/// Writes the fences; gives an answer for each token that has one.
async fn write(executor: &Executor, settings: &Settings, channel: &str, batch: &[Settlement]) -> Result<HashMap<Token, Answer>, Fault> {
    let columns = Columns::of(batch, executor.dialect().await?.encoding);
    if columns.tokens.is_empty() {
        return Ok(HashMap::new());
    }
    let offset = settings.clock.as_micros();
    let items = &columns.items;
    let answer = if batch.iter().all(|settlement| settlement.others.is_empty()) {
        let params = [(&offset as _, Type::INT8), (&columns.tokens as _, Type::UUID_ARRAY), (&columns.masks as _, Type::VARBIT_ARRAY)];
        executor.once(Plan::Indexed, settle::SUCCEEDED, &params).await
    } else {
        let params = [
            (&offset as _, Type::INT8),
            (&columns.tokens as _, Type::UUID_ARRAY),
            (&columns.outcomes as _, Type::TEXT_ARRAY),
            (&columns.masks as _, Type::VARBIT_ARRAY),
            (&items.tokens as _, Type::UUID_ARRAY),
            (&items.indices as _, Type::INT4_ARRAY),
            (&items.ids as _, Type::UUID_ARRAY),
            (&items.event_types as _, Type::TEXT_ARRAY),
            (&items.lanes as _, Type::INT2_ARRAY),
            (&items.attempts as _, Type::INT4_ARRAY),
            (&items.ended as _, Type::INT4_ARRAY),
            (&items.crashes as _, Type::INT2_ARRAY),
            (&items.delays as _, Type::INT8_ARRAY),
            (&items.outcomes as _, Type::TEXT_ARRAY),
            (&items.texts as _, Type::TEXT_ARRAY),
            (&settings.history as _, Type::BOOL),
            (&channel as _, Type::TEXT),
        ];
        executor.once(Plan::Indexed, settle::SETTLE, &params).await
    };
    let rows = match answer {
        // Bit strings of different lengths.
        Err(fault) if fault.is(&SqlState::STRING_DATA_LENGTH_MISMATCH) => {
            return Err(Error::config("a settlement has another number of members than its claim").into());
        }
        other => other?,
    };
    let mut answers = HashMap::with_capacity(rows.len());
    for row in &rows {
        let token = row::token(row, 0)?;
        if let Some(index) = row.try_get::<_, Option<i32>>(4)? {
            return Err(Error::config(format!("member {index} of claim {token} is another message than the settlement says")).into());
        }
        if let Some(Mask(applied)) = row.try_get(1)? {
            answers.insert(token, Answer { applied, lost: row::bits(row, 2)?, already: row::bits(row, 3)? });
        }
    }
    Ok(answers)
}

/// The claims are closed: only their journal knows who ended which member.
async fn settled_before(executor: &Executor, closed: &[&Settlement], answers: &mut HashMap<Token, Answer>) -> Result<(), Fault> {
    let tokens: Vec<Uuid> = closed.iter().map(|settlement| *settlement.token.as_uuid()).collect();
    let rows = executor.once(Plan::Indexed, settle::BEFORE, &[(&tokens, Type::UUID_ARRAY)]).await?;
    let mut by_holder: HashMap<Token, Bits> = HashMap::new();
    for row in &rows {
        let (token, members) = (row::token(row, 0)?, row::index(row, 1)?);
        let bits = by_holder.entry(token).or_insert_with(|| Bits::new(members));
        let outcome: Option<&str> = row.try_get(2)?;
        if outcome.and_then(Recorded::parse).is_some_and(|recorded| !recorded.took_the_lease()) {
            *bits = bits.union(&row::bits(row, 3)?);
        }
    }
    for settlement in closed {
        let Some(by_holder) = by_holder.get(&settlement.token) else { continue };
        let asked = settlement.asked();
        if asked.len() != by_holder.len() {
            return Err(Error::config(format!(
                "settlement of claim {} has {} members, the claim has {}",
                settlement.token,
                asked.len(),
                by_holder.len()
            ))
            .into());
        }
        let none = Bits::new(asked.len());
        answers.insert(settlement.token, Answer { applied: none, already: by_holder.clone(), lost: by_holder.complement() });
    }
    Ok(())
}
