//! The supervisor: kills and stops processes while messages flow, until all are committed and drained.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tickr_core::{StatsRequest, Status, Storage};

use crate::database::{Application, Database};
use crate::door;
use crate::fleet::{Counts, Fleet};
use crate::options::Run;
use crate::outages::{self, Outages};

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
    /// What happened to the server and the network, if there are any.
    pub(crate) outages: Option<outages::Counts>,
    /// From the first process to the last outcome.
    pub(crate) storm: Duration,
    /// The longest time without any recorded outcome while something was there to do.
    pub(crate) standstill_max: Duration,
    /// How often everything went on again, after something had been stopped.
    pub(crate) recoveries: u32,
    /// The longest time from the moment when the last stopped thing went on to the next recorded outcome.
    pub(crate) recovery_max: Duration,
}

/// Whether work goes on.
struct Pulse {
    progress: i64,
    /// When the last progress was seen.
    since: Instant,
    /// Since when nothing is stopped any more, and recovery is waited for.
    went_on: Option<Instant>,
    /// When the database answered last, or had an excuse.
    answered: Instant,
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
            self.weather.recoveries += 1;
            self.weather.recovery_max = self.weather.recovery_max.max(now - went_on);
        }
        self.since = now;
    }
}

/// Runs the storm to its end.
pub(crate) async fn run<D: Database>(
    database: &D,
    storage: &D::Storage,
    fleet: &mut Fleet,
    outages: &mut Outages,
    options: &Run,
    seed: u64,
) -> Result<Weather> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let lease = Duration::from_millis(options.lease_ms);
    let mut application = database.application().await?;
    let begin = door::now();
    let limit = options.limit_seconds.map_or(options.size.span() * 2 + Duration::from_secs(60), Duration::from_secs);
    let recover = Duration::from_secs(options.recover_seconds);
    let mut pulse = Pulse { progress: 0, since: begin, went_on: None, answered: begin, weather: Weather::default() };
    let second = Duration::from_secs(1);
    let mut kills = Every::new(begin, options.kill_every_ms);
    let mut terms = Every::new(begin + second, options.term_every_ms);
    let mut stops = Every::new(begin + second, options.stop_every_ms);
    let mut stalls = Every::new(begin + 2 * second, if outages.are_possible() { options.stall_every_ms } else { 0 });
    let mut restarts = Every::new(begin + 3 * second, if outages.cluster().is_some() { options.restart_every_ms } else { 0 });
    let mut next_look = begin;
    loop {
        door::pause(TICK).await;
        let now = door::now();
        // Beyond the lease, and sometimes beyond the lease that everybody else has lost meanwhile.
        let outage = lease.mul_f64(1.2 + 1.3 * rng.f64());
        let went_on = fleet.tend(|| outage)? | outages.tend().await?;
        if fleet.any_stopped() || outages.any() {
            // Whatever is stopped may hold up everybody again.
            pulse.went_on = None;
        } else if went_on {
            pulse.went_on = Some(now);
        }
        if kills.strikes(now, 1.0) {
            fleet.kill_one(&mut rng)?;
        }
        if terms.strikes(now, 1.0) {
            fleet.replace_one(&mut rng)?;
        }
        if stops.strikes(now, 0.5 + rng.f64()) {
            fleet.stop_one(&mut rng, outage)?;
        }
        if stalls.strikes(now, 0.5 + rng.f64()) {
            outages.stall(&mut rng, outage);
        }
        if restarts.strikes(now, 0.5 + rng.f64()) {
            // Sometimes back at once, sometimes when every lease has expired.
            outages.restart(outage.mul_f64(rng.f64()));
        }
        if now >= next_look {
            next_look = now + LOOK;
            match look(&mut application, storage, &mut pulse, fleet.producers_finished()).await {
                Ok(true) => break,
                Ok(false) => pulse.answered = now,
                Err(_) if outages.any() => pulse.answered = now,
                Err(error) if now - pulse.answered > recover => return Err(error.context(format!("no answer in {recover:?}"))),
                Err(_) => {}
            }
        }
        if pulse.went_on.is_some_and(|went_on| now - went_on > recover) {
            bail!("no outcome was recorded in the {recover:?} after what was stopped went on: {}", standing(storage).await);
        }
        if now - begin > limit {
            bail!("not drained after {limit:?}: {}", standing(storage).await);
        }
    }
    pulse.weather.storm = door::now() - begin;
    outages.end().await?;
    fleet.shut_down(SHUTDOWN_MAX).await?;
    pulse.weather.counts = fleet.counts;
    pulse.weather.outages = outages.are_possible().then(|| outages.counts());
    Ok(pulse.weather)
}

/// Something that happens again and again.
struct Every {
    next: Instant,
    /// Zero: never.
    interval: Duration,
}

impl Every {
    fn new(first: Instant, every_ms: u64) -> Self {
        Self { next: first, interval: Duration::from_millis(every_ms) }
    }

    /// Whether it is time; the next time is after so many intervals.
    fn strikes(&mut self, now: Instant, intervals: f64) -> bool {
        let strikes = !self.interval.is_zero() && now >= self.next;
        if strikes {
            self.next = now + self.interval.mul_f64(intervals);
        }
        strikes
    }
}

/// Asks the database how far it is; says whether everything is done.
async fn look<S: Storage>(
    application: &mut impl Application<Storage = S>,
    storage: &S,
    pulse: &mut Pulse,
    producers_finished: bool,
) -> Result<bool> {
    pulse.note_progress(application.progress().await?);
    Ok(producers_finished && is_drained(storage).await?)
}

async fn is_drained(storage: &impl Storage) -> Result<bool> {
    let stats = storage.stats(&StatsRequest::default()).await?;
    Ok([Status::Created, Status::Retrying, Status::Handling].into_iter().all(|status| stats.total(status).n == 0))
}

/// What is left, in words.
async fn standing(storage: &impl Storage) -> String {
    let stats = match storage.stats(&StatsRequest::default()).await {
        Ok(stats) => stats,
        Err(error) => return format!("the database does not say what is left ({error})"),
    };
    let counts = [Status::Created, Status::Retrying, Status::Handling, Status::Dead].map(|status| (status, stats.total(status).n));
    counts.map(|(status, n)| format!("{n} {status}")).join(", ")
}
