//! What producers and operators do.

use std::time::Duration;

use tickr_core::{Admin, Due, Enqueued, Message, MessageId, NewMessage, PauseRequest, PauseScope, Priority, Retention, Storage};

use super::{KEYS, KINDS, Run};
use crate::faults::Op;
use crate::model::{EVERYTHING, Entry, Place, Span};
use crate::world::{checked, these};

/// Producers.
impl Run {
    pub(super) async fn enqueue(&mut self) {
        let mut batch: Vec<(NewMessage, Option<u32>, Entry, Duration)> = Vec::new();
        for _ in 0..self.rng.usize(1..10) {
            let (kind, key) = (self.kind(), self.chance(30).then(|| self.rng.u32(0..KEYS)));
            let priority = [Priority::High, Priority::Normal, Priority::Low][self.rng.usize(0..3)];
            let own_max = self.chance(30).then(|| self.rng.u16(1..5));
            let delay = self.delay(30, 180);
            let mut message = Message::new(KINDS[kind], "{}").priority(priority);
            message.idempotency_key = key.map(|key| format!("key-{key}"));
            message.max_attempts = own_max;
            message.due = if delay.is_zero() { Due::Now } else { Due::After(delay) };
            let entry = Entry { kind, priority, own_max, attempt: 0, crashes: 0, place: Place::Gone };
            batch.push((checked(message), key, entry, delay));
        }
        let messages: Vec<NewMessage> = batch.iter().map(|(message, ..)| message.clone()).collect();
        let lost = self.chance(10);
        self.note(format!("enqueue {} messages, lost answer: {lost}", messages.len()));
        let before = self.now().await;
        if lost {
            self.faulty.lose_answers(Op::Enqueue, 1);
            self.faulty.enqueue(&messages).await.unwrap_err();
        }
        let answers = self.faulty.enqueue(&messages).await.unwrap();
        let call = self.span(before).await;
        for ((message, key, entry, delay), answer) in batch.into_iter().zip(answers) {
            let due = (!delay.is_zero()).then(|| call.after(delay));
            let stands = self.model.enqueue(message.id(), key, entry, due);
            let expected = if stands == message.id() { Enqueued::Stored { id: stands } } else { Enqueued::Duplicate { existing: stands } };
            assert_eq!(answer, expected);
            if stands == message.id() {
                self.known.push(stands);
            }
        }
    }
}

/// Operators.
impl Run {
    pub(super) async fn kill(&mut self) {
        let asked = self.pick_ids();
        self.note(format!("kill {asked:?}"));
        let before = self.now().await;
        let mut acted = self.world.kill(&asked).await;
        let call = self.span(before).await;
        acted.done.sort();
        let expected: Vec<MessageId> = asked.into_iter().filter(|id| self.model.kill(*id, call)).collect();
        assert_eq!(acted.done, expected);
    }

    fn due(delay: Duration) -> Due {
        if delay.is_zero() { Due::Now } else { Due::After(delay) }
    }

    pub(super) async fn requeue(&mut self) {
        let (asked, delay) = (self.pick_ids(), self.delay(30, 60));
        self.note(format!("requeue {asked:?} in {delay:?}"));
        let before = self.now().await;
        let mut acted = self.world.storage().requeue(&these(&asked), Self::due(delay)).await.unwrap();
        let call = self.span(before).await;
        let due = (!delay.is_zero()).then(|| call.after(delay));
        acted.done.sort();
        let expected: Vec<MessageId> = asked.into_iter().filter(|id| self.model.requeue(*id, due)).collect();
        assert_eq!(acted.done, expected);
    }

    pub(super) async fn reschedule(&mut self) {
        let (asked, delay) = (self.pick_ids(), self.delay(50, 60));
        self.note(format!("reschedule {asked:?} in {delay:?}"));
        let before = self.now().await;
        let mut acted = self.world.storage().reschedule(&these(&asked), Self::due(delay)).await.unwrap();
        let call = self.span(before).await;
        let due = (!delay.is_zero()).then(|| call.after(delay));
        acted.done.sort();
        let expected: Vec<MessageId> = asked.into_iter().filter(|id| self.model.reschedule(*id, due)).collect();
        assert_eq!(acted.done, expected);
    }

    pub(super) async fn discard(&mut self) {
        let asked = self.pick_ids();
        self.note(format!("discard {asked:?}"));
        let mut acted = self.world.storage().discard(&these(&asked)).await.unwrap();
        acted.done.sort();
        let expected: Vec<MessageId> = asked.into_iter().filter(|id| self.model.discard(*id)).collect();
        assert_eq!(acted.done, expected);
    }

    /// Pauses or resumes a type, or now and then everything.
    pub(super) async fn pause(&mut self) {
        let kind = if self.chance(15) { EVERYTHING } else { self.kind() };
        let scope = KINDS.get(kind).map_or(PauseScope::Everything, |name| PauseScope::from(*name));
        let before = self.now().await;
        if self.model.pauses.contains_key(&kind) && self.chance(60) {
            self.note(format!("resume {scope}"));
            let resumed = self.world.storage().resume(&scope).await.unwrap();
            let call = self.span(before).await;
            assert!(self.model.holds(kind, call).is_none_or(|held| held == resumed), "{scope} was resumed: {resumed}");
            self.model.pauses.remove(&kind);
            return;
        }
        let delay = self.delay(60, 180).max(Duration::from_secs(5));
        let mut request = if kind == EVERYTHING { PauseRequest::everything() } else { PauseRequest::event_type(KINDS[kind]) };
        // Everything always ends: nothing else would happen for long.
        let ends = kind == EVERYTHING || self.chance(50);
        if ends {
            request = request.until(delay);
        }
        if self.chance(40) {
            request = request.keep_longer();
        }
        self.note(format!("pause {request:?}"));
        let paused = self.world.pause_as(request.clone()).await;
        let call = self.span(before).await;
        let held = self.model.holds(kind, call);
        assert!(held.is_none_or(|held| held != paused), "{scope} was paused: {paused}");
        let stored = self.world.paused().await.into_iter().find(|pause| pause.scope == scope).expect("the pause that was asked for");
        let span = call.after(delay);
        let is_new =
            if ends { stored.until.is_some_and(|until| until >= span.earliest && until <= span.latest) } else { stored.until.is_none() };
        // What stays ends later.
        let stays = || request.keeps_longer() && held != Some(false) && self.model.pauses.get(&kind) == Some(&stored.until);
        assert!(is_new || stays(), "{request:?} came to {stored:?}");
        assert!(is_new || stored.until.is_none_or(|until| ends && until >= span.earliest), "{request:?} came to {stored:?}");
        self.model.pauses.insert(kind, stored.until);
    }

    pub(super) async fn purge(&mut self) {
        let retention = Retention::default()
            .success(Duration::from_secs(300))
            .dead(Some(Duration::from_secs(900)))
            .history(Some(Duration::from_secs(900)));
        self.note("purge".to_owned());
        let before = self.now().await;
        self.world.purge(retention).await;
        let call = self.span(before).await;
        let finished: Vec<(MessageId, Span)> = self
            .model
            .messages
            .iter()
            .filter_map(|(id, entry)| match entry.place {
                Place::Success { at } => Some((*id, at.after(retention.success))),
                Place::Dead { at } => Some((*id, at.after(retention.dead.unwrap()))),
                _ => None,
            })
            .collect();
        for (id, until) in finished {
            let gone = match until.reached_by(call) {
                Some(reached) => reached,
                None => self.world.find(id).await.is_none(),
            };
            if gone {
                self.model.messages.get_mut(&id).unwrap().place = Place::Gone;
            }
        }
        // Whether the journal still knows a closed claim is its own affair: from here on nobody asks.
        self.model.claims.retain(|_, claim| claim.is_open());
    }
}
