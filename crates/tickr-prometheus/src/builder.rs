//! What a user may set.

use prometheus::{Error, Registry};

use crate::families::{Families, Labels};
use crate::metrics::PrometheusMetrics;

/// How many event types get a label of their own.
const EVENT_TYPES_MAX: usize = 100;

/// From a handler that only looks something up to one that runs for an hour.
const DURATION_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0];

/// Builds [`PrometheusMetrics`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PrometheusMetricsBuilder {
    event_types: Vec<String>,
    event_types_max: usize,
    duration_buckets: Vec<f64>,
    labels: Labels,
}

impl Default for PrometheusMetricsBuilder {
    fn default() -> Self {
        Self {
            event_types: Vec::new(),
            event_types_max: EVENT_TYPES_MAX,
            duration_buckets: DURATION_BUCKETS.to_vec(),
            labels: Labels::new(),
        }
    }
}

impl PrometheusMetricsBuilder {
    /// How many event types get a label of their own (default 100): those that come first. The others are counted together
    /// under the label `other`.
    pub const fn max_event_types(mut self, types: usize) -> Self {
        self.event_types_max = types;
        self
    }

    /// Names event types in advance: they come before all others, and the counters of their handlers begin at zero when the
    /// process starts, so that `rate` sees the first dead message too.
    ///
    /// With a registry of handlers: `.event_types(registry.event_types().map(|t| t.as_str()))`.
    pub fn event_types<T: Into<String>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.event_types.extend(types.into_iter().map(Into::into));
        self
    }

    /// The upper bounds of the buckets of `tickr_handler_duration_seconds`, in seconds, ascending (default 18, from 1 ms to 1 h).
    pub fn duration_buckets(mut self, seconds: Vec<f64>) -> Self {
        self.duration_buckets = seconds;
        self
    }

    /// Gives every series a label, such as the worker's name where one registry serves two workers.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Makes the metrics and registers them: all of them, or none.
    ///
    /// # Errors
    /// [`AlreadyReg`](Error::AlreadyReg) when the registry has metrics of tickr with the same labels. Another error when the buckets
    /// are empty, not ascending or no numbers, or when a label's name is not one.
    pub fn register(self, registry: &Registry) -> Result<PrometheusMetrics, Error> {
        if self.duration_buckets.is_empty() || self.duration_buckets.iter().any(|bound| bound.is_nan()) {
            return Err(Error::Msg("the duration buckets must be numbers, and at least one".to_owned()));
        }
        let families = Families::new(&self.labels, self.duration_buckets)?;
        registry.register(Box::new(families.clone()))?;
        Ok(PrometheusMetrics::new(families, &self.event_types, self.event_types_max))
    }
}
