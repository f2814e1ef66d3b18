//! A message's headers as what propagators read and write.

use opentelemetry::propagation::{Extractor, Injector};
use tickr_core::Headers;

/// The header of baggage, which says nothing of the trace.
const BAGGAGE: &str = "baggage";

/// Headers to read a context from.
pub(crate) struct Incoming<'a>(pub(crate) &'a Headers);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name).collect()
    }
}

/// What a propagator wrote, once for all messages of an enqueue.
#[derive(Debug, Default)]
pub(crate) struct Outgoing(Vec<(String, String)>);

impl Injector for Outgoing {
    fn set(&mut self, key: &str, value: String) {
        // An empty `tracestate` says nothing, and costs its bytes in every stored message.
        if !value.is_empty() {
            self.0.push((key.to_owned(), value));
        }
    }
}

impl Outgoing {
    /// Adds to `headers` what is not there. Of the headers of a trace all or none, for a `tracestate` of one trace
    /// beside the `traceparent` of another would be nonsense.
    pub(crate) fn write(&self, headers: &mut Headers, has_own_trace: bool) {
        for (name, value) in &self.0 {
            if name == BAGGAGE || !has_own_trace {
                headers.insert_if_absent(name.as_str(), value.as_str());
            }
        }
    }
}

/// Whether the user wrote one of the headers that name a trace.
pub(crate) fn has_own_trace<'a>(headers: &Headers, mut fields: impl Iterator<Item = &'a str>) -> bool {
    !headers.is_empty() && fields.any(|field| field != BAGGAGE && headers.get(field).is_some())
}
