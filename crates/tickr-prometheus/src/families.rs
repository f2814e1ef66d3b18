//! Every metric by name, help and labels. They are one collector, so that a registry takes all of them or none.

use std::collections::HashMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Error, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, exponential_buckets,
};

/// Labels that every series has.
pub(crate) type Labels = HashMap<String, String>;

const EVENT_TYPE: &str = "event_type";

/// Up to the largest claim and settle. Zero is a bucket: how many claims found nothing.
const SIZE_BUCKETS: &[f64] = &[0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0];

macro_rules! families {
    ($($field:ident: $type:ty),* $(,)?) => {
        /// The metrics. Clones share their values.
        #[derive(Clone, Debug)]
        pub(crate) struct Families {
            $(pub(crate) $field: $type,)*
        }

        impl Collector for Families {
            fn desc(&self) -> Vec<&Desc> {
                let mut descs = Vec::new();
                $(descs.extend(self.$field.desc());)*
                descs
            }

            fn collect(&self) -> Vec<MetricFamily> {
                let mut families = Vec::new();
                $(families.extend(self.$field.collect());)*
                families
            }
        }
    };
}

families! {
    enqueued: IntCounterVec,
    started: IntCounterVec,
    attempts: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGauge,
    dead: IntCounterVec,
    claim_size: Histogram,
    claim_duration: Histogram,
    claimed: IntCounter,
    claim_requested: IntCounter,
    settle_size: Histogram,
    settle_duration: Histogram,
    settle_refused: IntCounter,
    reclaimed: IntCounterVec,
    lost: IntCounterVec,
    depth: IntGaugeVec,
    ready: IntGaugeVec,
    suspects: IntGaugeVec,
    oldest_age: GaugeVec,
    unserved: IntGaugeVec,
    paused: IntGaugeVec,
    sampled_at: GaugeVec,
}

impl Families {
    pub(crate) fn new(labels: &Labels, duration_buckets: Vec<f64>) -> Result<Self, Error> {
        let opts = |name: &str, help: &str| Opts::new(name, help).const_labels(labels.clone());
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            let opts = HistogramOpts::from(opts(name, help)).buckets(buckets);
            // A vector looks at its buckets when it makes its first child, where nobody could be told.
            Histogram::with_opts(opts.clone()).map(|alone| (opts, alone))
        };
        let latency = exponential_buckets(0.000_5, 2.0, 17)?;
        let (duration, _) = histogram(
            "tickr_handler_duration_seconds",
            "How long handlers ran, in seconds, observed per message when its outcome was recorded; each message of a batch counts with the duration of the whole call.",
            duration_buckets,
        )?;
        let (_, claim_size) =
            histogram("tickr_claim_batch_size", "Messages that a claim brought, observed when it was answered.", SIZE_BUCKETS.to_vec())?;
        let (_, claim_duration) = histogram(
            "tickr_claim_duration_seconds",
            "How long a claim took, in seconds, from the request to the answer.",
            latency.clone(),
        )?;
        let (_, settle_size) = histogram(
            "tickr_settle_batch_size",
            "Outcomes that were recorded together, observed when they were recorded.",
            SIZE_BUCKETS.to_vec(),
        )?;
        let (_, settle_duration) = histogram(
            "tickr_settle_duration_seconds",
            "How long recording outcomes took, in seconds, from the request to the answer.",
            latency,
        )?;
        Ok(Self {
            enqueued: IntCounterVec::new(
                opts(
                    "tickr_messages_enqueued_total",
                    "Messages stored by this process, counted when they were written, before a caller's transaction commits.",
                ),
                &[EVENT_TYPE],
            )?,
            started: IntCounterVec::new(
                opts("tickr_handlers_started_total", "Attempts whose handler was called, counted per message when the call began."),
                &[EVENT_TYPE],
            )?,
            attempts: IntCounterVec::new(
                opts(
                    "tickr_handler_attempts_total",
                    "Attempts that ended, by outcome, counted when the outcome was recorded or found to be lost; released and lost ones need not have been started.",
                ),
                &[EVENT_TYPE, "outcome"],
            )?,
            duration: HistogramVec::new(duration, &[EVENT_TYPE])?,
            in_flight: IntGauge::with_opts(opts("tickr_inflight_handlers", "Handlers that run now in this worker; a batch is one."))?,
            dead: IntCounterVec::new(
                opts(
                    "tickr_messages_dead_total",
                    "Messages that became DEAD by their handler, their attempts or crashes, counted when that was recorded.",
                ),
                &[EVENT_TYPE],
            )?,
            claim_size,
            claim_duration,
            claimed: IntCounter::with_opts(opts(
                "tickr_claimed_messages_total",
                "Messages that claims brought, counted when they were answered.",
            ))?,
            claim_requested: IntCounter::with_opts(opts(
                "tickr_claim_requested_messages_total",
                "Messages that claims had room for, counted when they were answered.",
            ))?,
            settle_size,
            settle_duration,
            settle_refused: IntCounter::with_opts(opts(
                "tickr_settle_refused_outcomes_total",
                "Outcomes that the storage refused with an error that does not pass by itself, counted at every try.",
            ))?,
            reclaimed: IntCounterVec::new(
                opts(
                    "tickr_leases_reclaimed_total",
                    "Messages that this worker took back from workers that were silent for longer than their lease.",
                ),
                &[EVENT_TYPE],
            )?,
            lost: IntCounterVec::new(
                opts("tickr_leases_lost_total", "Leases of messages that this worker lost, by when it noticed."),
                &[EVENT_TYPE, "phase"],
            )?,
            depth: IntGaugeVec::new(
                opts("tickr_queue_depth", "Messages of the whole queue by status, when it was last sampled; counting stops at 100000."),
                &[EVENT_TYPE, "status"],
            )?,
            ready: IntGaugeVec::new(
                opts(
                    "tickr_queue_ready",
                    "Messages that could be handled now, when the queue was last sampled; what is scheduled for later is none of them.",
                ),
                &[EVENT_TYPE],
            )?,
            suspects: IntGaugeVec::new(
                opts(
                    "tickr_queue_suspects",
                    "Waiting messages that were with a worker that died, and run alone from now on, when the queue was last sampled.",
                ),
                &[EVENT_TYPE],
            )?,
            oldest_age: GaugeVec::new(
                opts(
                    "tickr_queue_oldest_age_seconds",
                    "For how long the message that is ready longest has been waiting, in seconds, when the queue was last sampled: since it was enqueued, due, or came back; 0 when none is ready.",
                ),
                &[EVENT_TYPE],
            )?,
            unserved: IntGaugeVec::new(
                opts(
                    "tickr_unserved_messages",
                    "Waiting messages of a type that no live worker handles, when the queue was last sampled; 0 for types that one handles.",
                ),
                &[EVENT_TYPE],
            )?,
            paused: IntGaugeVec::new(
                opts(
                    "tickr_queue_paused",
                    "Whether the type was paused when the queue was last sampled: 1 or 0; for `other`, whether all its types were.",
                ),
                &[EVENT_TYPE],
            )?,
            // A vector without labels has no series until there is a sample: 0 would be taken for the year 1970.
            sampled_at: GaugeVec::new(
                opts(
                    "tickr_queue_sampled_timestamp_seconds",
                    "When this process last sampled the queue, by the database's clock, in seconds since 1970.",
                ),
                &[],
            )?,
        })
    }
}
