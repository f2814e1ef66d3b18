//! Outcomes that the storage refuses: whose fault it is, and recording all others.
//!
//! A settle is refused as a whole. The reason may be one member of it: a text that the database cannot store, a trigger, a constraint.
//! The settle loop hands such a batch over, and here it falls apart:
//!
//! 1. Plain successes first; they carry no text and are refused rarely.
//! 2. Halves of what is refused, until single outcomes are left.
//! 3. A single outcome that is refused is sent again with its text in ASCII, and then with none of it. How a message ended matters
//!    more than the words.
//! 4. What is refused all the same is put aside alone, and tried again later, a few at a time.
//!
//! An outage of the database is none of this: what may be repeated as it is goes back into the queue.

use std::collections::{HashMap, VecDeque};

use super::liveness::Loop;
use super::outbox::Finished;
use super::{OPERATION_MAX, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::id::Token;
use crate::storage::{SettleOutcome, Storage};

/// How many outcomes that were refused alone are tried again in one round.
const ALONE_MAX: usize = 20;

/// How much of a text is kept when it is sent again in ASCII.
const TEXT_MAX: usize = 2_000;

/// What stands in the place of a text that cannot be stored in any form.
const NO_TEXT: &str = "the text of this outcome could not be stored";

/// Whether splitting a batch may help: an error of the whole storage meets every part of it.
pub(super) fn may_be_of_a_member(error: &Error) -> bool {
    !error.is_transient() && !matches!(error.kind(), ErrorKind::Migration | ErrorKind::Closed)
}

impl Run {
    /// Records a refused batch in parts.
    pub(super) async fn settle_in_parts(&self, batch: Vec<Finished>, error: Error) -> Result<(), ()> {
        let mut refused = Refused::default();
        let mut parts = VecDeque::new();
        self.take_apart(batch, error, &mut parts, &mut refused).await;
        let mut interrupted = false;
        while let Some(part) = parts.pop_front() {
            if interrupted {
                self.state().put_back(part);
                continue;
            }
            match self.settle_part(part, None).await {
                Ok(()) => {}
                Err(Unsettled::Interrupted(part)) => {
                    self.state().put_back(part);
                    interrupted = true;
                }
                Err(Unsettled::Refused(part, error)) => self.take_apart(part, error, &mut parts, &mut refused).await,
            }
        }
        self.put_refused_aside(refused);
        if interrupted { Err(()) } else { Ok(()) }
    }

    /// Tries outcomes again that were refused alone before, each by itself; the rest of them waits for the next round.
    pub(super) async fn settle_alone(&self, mut batch: Vec<Finished>) -> Result<(), ()> {
        let later = batch.split_off(batch.len().min(ALONE_MAX));
        let until = self.now().after(self.error_pause(u16::MAX));
        self.state().postpone(later, until);
        let (mut refused, mut interrupted) = (Refused::default(), false);
        for finished in batch {
            if interrupted {
                self.state().put_back(vec![finished]);
                continue;
            }
            match self.settle_part(vec![finished], None).await {
                Ok(()) => {}
                Err(Unsettled::Interrupted(part)) => {
                    self.state().put_back(part);
                    interrupted = true;
                }
                Err(Unsettled::Refused(part, error)) => part.into_iter().for_each(|finished| refused.add(finished, &error)),
            }
        }
        self.put_refused_aside(refused);
        if interrupted { Err(()) } else { Ok(()) }
    }

    /// Puts the parts of a refused part behind the others; of a single outcome, tries other texts.
    async fn take_apart(&self, mut part: Vec<Finished>, error: Error, parts: &mut VecDeque<Vec<Finished>>, refused: &mut Refused) {
        if part.len() > 1 {
            // A stable order, so that what was claimed together stays together.
            part.sort_by_key(|finished| finished.other.is_some());
            let succeeded = part.partition_point(|finished| finished.other.is_none());
            let middle = if (1..part.len()).contains(&succeeded) { succeeded } else { part.len() / 2 };
            let rest = part.split_off(middle);
            parts.extend([part, rest]);
            return;
        }
        let mut error = error;
        let given = part.first().and_then(|finished| finished.other.as_ref()).and_then(SettleOutcome::text);
        for text in given.map(other_texts).into_iter().flatten() {
            match self.settle_part(part, Some(text)).await {
                Ok(()) => {
                    tracing::warn!(%error, "an outcome was recorded with another text than its own, which the storage refuses");
                    return;
                }
                Err(Unsettled::Interrupted(part)) => return self.state().put_back(part),
                Err(Unsettled::Refused(back, again)) => (part, error) = (back, again),
            }
        }
        part.into_iter().for_each(|finished| refused.add(finished, &error));
    }

    /// Sends a part, with another text than its own where one is given.
    async fn settle_part(&self, part: Vec<Finished>, text: Option<String>) -> Result<(), Unsettled> {
        self.expect_back(Loop::Settle, OPERATION_MAX);
        let mut settlements = self.settlements(&part);
        if let Some(text) = text {
            for member in settlements.iter_mut().flat_map(|settlement| &mut settlement.others) {
                member.outcome.set_text(&text);
            }
        }
        match self.within(OPERATION_MAX, "settle", self.plan.storage.settle(&settlements)).await {
            Ok(settled) => {
                self.recorded(part, &settlements, &settled);
                Ok(())
            }
            Err(error) if may_be_of_a_member(&error) => Err(Unsettled::Refused(part, error)),
            Err(error) => {
                self.could_not_settle(&error);
                Err(Unsettled::Interrupted(part))
            }
        }
    }

    fn put_refused_aside(&self, refused: Refused) {
        for (_, (batch, error)) in refused.0 {
            self.refused(batch, error);
        }
    }
}

/// Why a part is not recorded.
enum Unsettled {
    /// The storage does not want it.
    Refused(Vec<Finished>, Error),
    /// The storage cannot be reached.
    Interrupted(Vec<Finished>),
}

/// What was refused alone, by claim, with one of the reasons.
#[derive(Default)]
struct Refused(HashMap<Token, (Vec<Finished>, Error)>);

impl Refused {
    fn add(&mut self, mut finished: Finished, error: &Error) {
        finished.refused_alone = true;
        let fresh = || (Vec::new(), error.copy());
        self.0.entry(finished.claim.token).or_insert_with(fresh).0.push(finished);
    }
}

/// What may be stored where a text is not: the same in ASCII, and a sentence instead of it.
fn other_texts(text: &str) -> impl Iterator<Item = String> + use<> {
    let mut ascii = String::new();
    for c in text.chars().take(TEXT_MAX) {
        if (c.is_ascii() && !c.is_ascii_control()) || c == '\n' { ascii.push(c) } else { ascii.extend(c.escape_unicode()) }
    }
    let ascii = (ascii != text).then_some(ascii);
    ascii.into_iter().chain([NO_TEXT.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_spelt_in_ascii_and_cut() {
        let texts = |text: &str| other_texts(text).collect::<Vec<_>>();
        assert_eq!(texts("plain\nwords"), [NO_TEXT]);
        assert_eq!(texts("aé\0"), ["a\\u{e9}\\u{0}", NO_TEXT]);
        assert!(texts(&"x".repeat(1 << 20))[0].len() <= TEXT_MAX);
    }
}
