//! What producers and operators do.

use std::time::Duration;

use tickr_core::{Admin, Due, Enqueued, Message, MessageId, NewMessage, Priority, Retention, Storage};

use super::{KEYS, KINDS, Run};
use crate::faults::Op;
use crate::model::{Entry, Place, Span};
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

    pub(super) async fn pause(&mut self) {
        let kind = self.kind();
        let paused = self.model.paused.contains(&kind);
        self.note(format!("{} {}", if paused { "resume" } else { "pause" }, KINDS[kind]));
        if paused {
            assert!(self.world.resume(KINDS[kind]).await);
            self.model.paused.remove(&kind);
        } else {
            assert!(self.world.pause(KINDS[kind]).await);
            self.model.paused.insert(kind);
        }
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
