//! The default propagator: W3C trace context and baggage.

use opentelemetry::Context;
use opentelemetry::propagation::text_map_propagator::FieldIter;
use opentelemetry::propagation::{Extractor, Injector, TextMapCompositePropagator, TextMapPropagator};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

const TRACEPARENT: &str = "traceparent";
/// What else the SDK reads.
const OTHERS: [&str; 2] = ["tracestate", "baggage"];

/// The propagators of the SDK, but for what nearly every message has: a `traceparent` of version 00 alone is read here.
/// Reading it by the SDK was a third of what a message cost that is not sampled.
#[derive(Debug)]
pub(crate) struct W3c(TextMapCompositePropagator);

impl Default for W3c {
    fn default() -> Self {
        Self(TextMapCompositePropagator::new(vec![Box::new(TraceContextPropagator::new()), Box::new(BaggagePropagator::new())]))
    }
}

impl TextMapPropagator for W3c {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        self.0.inject_context(context, injector);
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        let plain = || {
            let parent = read(extractor.get(TRACEPARENT)?)?;
            OTHERS.iter().all(|other| extractor.get(other).is_none()).then_some(parent)
        };
        match plain() {
            Some(parent) => context.with_remote_span_context(parent),
            None => self.0.extract_with_context(context, extractor),
        }
    }

    fn fields(&self) -> FieldIter<'_> {
        self.0.fields()
    }
}

/// Reads `00-<32>-<16>-<2>` in lower-case hexadecimal digits. `None` for everything else, which the SDK then judges.
fn read(header: &str) -> Option<SpanContext> {
    let header: &[u8; 55] = header.as_bytes().try_into().ok()?;
    let [b'0', b'0', b'-', rest @ ..] = header else { return None };
    let (trace, rest) = rest.split_at(32);
    let (span, rest) = rest.strip_prefix(b"-")?.split_at(16);
    let flags = rest.strip_prefix(b"-")?;
    let (high, low) = trace.split_at(16);
    let trace = TraceId::from(u128::from(hex(high)?) << 64 | u128::from(hex(low)?));
    let flags = u8::try_from(hex(flags)?).ok()?;
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    let context = SpanContext::new(trace, SpanId::from(hex(span)?), flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

/// What a byte is worth as a digit; [`NO_DIGIT`] for all others.
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    digits
};
const NO_DIGIT: u8 = 0xff;

/// At most sixteen digits. By a table: nobody can predict which of random digits are letters.
fn hex(digits: &[u8]) -> Option<u64> {
    let read = |(number, all), digit: &u8| {
        let value = DIGITS[usize::from(*digit)];
        (number << 4 | u64::from(value & 0xf), all | value)
    };
    let (number, all) = digits.iter().fold((0, 0), read);
    (all != NO_DIGIT).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use opentelemetry::baggage::BaggageExt;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// What both read of the same headers.
    fn both(headers: &[(&str, &str)]) -> [(SpanContext, usize); 2] {
        let headers: HashMap<String, String> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let w3c = W3c::default();
        [w3c.extract_with_context(&Context::new(), &headers), w3c.0.extract_with_context(&Context::new(), &headers)]
            .map(|context| (context.span().span_context().clone(), context.baggage().len()))
    }

    #[test]
    fn it_reads_what_the_sdk_reads() {
        let mut headers: Vec<String> = (0..PARENT.len())
            .flat_map(|place| ["0", "a", "A", "g", "-", " ", "/", ":", "`", "\u{e4}", ""].map(|with| (place, with)))
            .map(|(place, with)| format!("{}{with}{}", &PARENT[..place], &PARENT[place + 1..]))
            .collect();
        headers.extend(["00-00000000000000000000000000000000-b7ad6b7169203331-01", ""].map(str::to_owned));
        headers.extend(["", "0", "-", "-x"].map(|more| format!("{PARENT}{more}")));
        headers.extend((0..=255).map(|flags| format!("{}{flags:02x}", &PARENT[..53])));
        for header in &headers {
            let [ours, theirs] = both(&[("traceparent", header)]);
            assert_eq!(ours, theirs, "{header:?}");
        }
    }

    #[test]
    fn it_reads_the_usual_by_itself() {
        let parent = read(PARENT).unwrap();
        assert_eq!(parent.trace_id(), TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c));
        assert_eq!((parent.span_id(), parent.is_sampled(), parent.is_remote()), (SpanId::from(0xb7ad_6b71_6920_3331), true, true));
        assert_eq!(read("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), None);
    }

    #[test]
    fn other_headers_are_not_forgotten() {
        let w3c = W3c::default();
        let mut fields: Vec<_> = w3c.fields().filter(|field| !OTHERS.contains(field)).collect();
        assert_eq!(fields.pop(), Some(TRACEPARENT));
        assert!(fields.is_empty(), "{fields:?}");
        for other in [("tracestate", "vendor=x"), ("baggage", "k=v")] {
            let [ours, theirs] = both(&[("traceparent", PARENT), other]);
            assert_eq!(ours, theirs);
            assert!(ours.0.trace_state().get("vendor").is_some() || ours.1 == 1, "{other:?}");
        }
    }
}
