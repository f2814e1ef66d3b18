//! The attribute `event_type`, of bounded cardinality.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use opentelemetry::KeyValue;

const EVENT_TYPE: &str = "event_type";
const OTHER: &str = "other";

/// The event types that are told apart: the first so many that were seen.
#[derive(Debug)]
pub(super) struct EventTypes {
    max: usize,
    /// Made once, so that a count allocates nothing.
    known: RwLock<HashMap<Arc<str>, KeyValue>>,
}

impl EventTypes {
    pub(super) fn new(max: usize) -> Self {
        Self { max, known: RwLock::default() }
    }

    /// The attribute of a type, or that of all others.
    pub(super) fn attribute(&self, event_type: &str) -> KeyValue {
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            match known.get(event_type) {
                Some(attribute) => return attribute.clone(),
                None if known.len() >= self.max => return KeyValue::new(EVENT_TYPE, OTHER),
                None => {}
            }
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Others may have taken the last place in between.
        if known.len() >= self.max && !known.contains_key(event_type) {
            return KeyValue::new(EVENT_TYPE, OTHER);
        }
        let name = Arc::<str>::from(event_type);
        known.entry(Arc::clone(&name)).or_insert_with(|| KeyValue::new(EVENT_TYPE, name)).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn types_beyond_the_bound_are_other_and_those_within_stay() {
        let types = EventTypes::new(2);
        let name = |event_type| types.attribute(event_type).value.to_string();
        assert_eq!((name("a"), name("b"), name("c")), ("a".to_owned(), "b".to_owned(), "other".to_owned()));
        assert_eq!((name("b"), name("a"), name("d")), ("b".to_owned(), "a".to_owned(), "other".to_owned()));
    }

    #[test]
    fn threads_together_keep_the_bound() {
        for _ in 0..500 {
            let (types, start) = (EventTypes::new(1), Barrier::new(4));
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (types, start) = (&types, &start);
                    scope.spawn(move || {
                        start.wait();
                        types.attribute(&thread.to_string())
                    });
                }
            });
            assert_eq!(types.known.read().unwrap().len(), 1);
        }
    }
}
