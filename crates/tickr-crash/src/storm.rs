//! The supervisor: kills and stops processes while messages flow, until all are committed and drained.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tickr_core::{StatsRequest, Status, Storage};

use crate::database::{Application, Database};
use crate::door;
use crate::fleet::{Counts, Fleet};
use crate::options::Run;

/// How often the supervisor looks around.
const TICK: Duration = Duration::from_millis(10);
/// How often it asks the database.
const LOOK: Duration = Duration::from_millis(50);
/// How long workers may take to shut down.
const SHUTDOWN_MAX: Duration = Duration::from_secs(20);

/// How a storm went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) counts: Counts,
    /// From the first process to the last outcome.
    pub(crate) storm: Duration,
    /// The longest time without any recorded outcome while something was there to do.
    pub(crate) standstill_max: Duration,
    /// The longest time from the moment when the last stopped process went on to the next recorded outcome.
    pub(crate) recovery_max: Duration,
}

/// Whether work goes on.
struct Pulse {
    progress: i64,
    /// When the last progress was seen.
    since: Instant,
    /// Since when nobody is stopped any more, and recovery is waited for.
    went_on: Option<Instant>,
    weather: Weather,
}

impl Pulse {
    fn note_progress(&mut self, progress: i64) {
        let now = door::now();
        if progress == self.progress {
            return;
        }
        self.progress = progress;
        self.weather.standstill_max = self.weather.standstill_max.max(now - self.since);
        if let Some(went_on) = self.went_on.take() {
            self.weather.recovery_max = self.weather.recovery_max.max(now - went_on);
        }
        self.since = now;
    }
}

/// Runs the storm to its end.
pub(crate) async fn run<D: Database>(database: &D, storage: &D::Storage, fleet: &mut Fleet, options: &Run, seed: u64) -> Result<Weather> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let lease = Duration::from_millis(options.lease_ms);
    let mut application = database.application().await?;
    let begin = door::now();
    let limit = options.limit_seconds.map_or(options.size.span() * 2 + Duration::from_secs(60), Duration::from_secs);
    let recover = Duration::from_secs(options.recover_seconds);
    let mut pulse = Pulse { progress: 0, since: begin, went_on: None, weather: Weather::default() };
    let second = Duration::from_secs(1);
    let (mut next_kill, mut next_stop, mut next_term, mut next_look) = (begin, begin + second, begin + second, begin);
    loop {
        door::pause(TICK).await;
        let now = door::now();
        // Beyond the lease, and sometimes beyond the lease that everybody else has lost meanwhile.
        let outage = lease.mul_f64(1.2 + 1.3 * rng.f64());
        let went_on = fleet.tend(|| outage)?;
        if fleet.any_stopped() {
            // Whoever is stopped may hold up everybody again.
            pulse.went_on = None;
        } else if went_on {
            pulse.went_on = Some(now);
        }
        if options.kill_every_ms > 0 && now >= next_kill {
            next_kill = now + Duration::from_millis(options.kill_every_ms);
            fleet.kill_one(&mut rng)?;
        }
        if options.term_every_ms > 0 && now >= next_term {
            next_term = now + Duration::from_millis(options.term_every_ms);
            fleet.replace_one(&mut rng)?;
        }
        if options.stop_every_ms > 0 && now >= next_stop {
            next_stop = now + Duration::from_millis(options.stop_every_ms).mul_f64(0.5 + rng.f64());
            fleet.stop_one(&mut rng, outage)?;
        }
        if now >= next_look {
            next_look = now + LOOK;
            pulse.note_progress(application.progress().await?);
            if fleet.producers_finished() && is_drained(storage).await? {
                break;
            }
        }
        if pulse.went_on.is_some_and(|went_on| now - went_on > recover) {
            bail!("no outcome was recorded in the {recover:?} after a stopped process went on: {}", standing(storage).await?);
        }
        if now - begin > limit {
            bail!("not drained after {limit:?}: {}", standing(storage).await?);
        }
    }
    pulse.weather.storm = door::now() - begin;
    fleet.shut_down(SHUTDOWN_MAX).await?;
    pulse.weather.counts = fleet.counts;
    Ok(pulse.weather)
}

async fn is_drained(storage: &impl Storage) -> Result<bool> {
    let stats = storage.stats(&StatsRequest::default()).await?;
    Ok([Status::Created, Status::Retrying, Status::Handling].into_iter().all(|status| stats.total(status).n == 0))
}

/// What is left, in words.
async fn standing(storage: &impl Storage) -> Result<String> {
    let stats = storage.stats(&StatsRequest::default()).await?;
    let counts = [Status::Created, Status::Retrying, Status::Handling, Status::Dead].map(|status| (status, stats.total(status).n));
    Ok(counts.map(|(status, n)| format!("{n} {status}")).join(", "))
}
