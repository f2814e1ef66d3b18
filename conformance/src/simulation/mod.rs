//! A random run: operations on a storage and on the model, side by side.
#![allow(clippy::unwrap_used, reason = "a run is a test: it fails by panicking")]

mod operators;
mod workers;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use tickr_core::{Admin, AnyAdmin, MessageId, PauseScope, ReclaimRequest, Status, Storage, Timestamp};

use crate::faults::Faulty;
use crate::model::{Model, Place, Span};
use crate::world::{Worker, World, ids};

const KINDS: [&str; 4] = ["order", "mail", "invoice", "audit"];
const LEASE: Duration = Duration::from_secs(60);
const KEYS: u32 = 300;

/// A run in progress.
pub(crate) struct Run {
    world: World,
    faulty: Faulty<AnyAdmin>,
    model: Model,
    workers: Vec<Worker>,
    known: Vec<MessageId>,
    rng: Rng,
    seed: u64,
    log: VecDeque<String>,
}

impl Drop for Run {
    /// A failing run says how to repeat it and what came last.
    #[allow(clippy::print_stderr, reason = "a failing test says what it did")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("TICKR_SEED={} repeats this run; its last operations were:", self.seed);
            for line in &self.log {
                eprintln!("  {line}");
            }
        }
    }
}

impl Run {
    #[allow(clippy::print_stdout, reason = "the seed repeats the run")]
    pub(crate) fn new(world: World, seed: u64) -> Self {
        println!("random run with TICKR_SEED={seed}");
        let faulty = Faulty::new(world.storage().clone());
        let (model, rng) = (Model::default(), Rng::with_seed(seed));
        Self { world, faulty, model, workers: Vec::new(), known: Vec::new(), rng, seed, log: VecDeque::new() }
    }

    pub(crate) async fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..20 => self.enqueue().await,
            20..40 => self.claim().await,
            40..48 => self.claim_solo().await,
            48..50 => self.end_exclusive().await,
            50..70 => self.settle().await,
            70..76 => self.heartbeat().await,
            76..79 => self.kill().await,
            79..82 => self.requeue().await,
            82..84 => self.reschedule().await,
            84 => self.discard().await,
            85..87 => self.pause().await,
            87..91 => self.advance(),
            91..93 => self.reclaim().await,
            93 => self.retire().await,
            94..97 => self.promote().await,
            97 => self.stats().await,
            98 => self.add_worker().await,
            _ => self.purge().await,
        }
    }

    fn note(&mut self, line: String) {
        if self.log.len() == 40 {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    async fn now(&self) -> Timestamp {
        self.world.now().await
    }

    async fn span(&self, earliest: Timestamp) -> Span {
        // The precision of stored times may be coarser than that of the clock.
        let slack = self.world.capabilities().time_precision;
        Span { earliest: earliest.before(slack), latest: self.now().await.after(slack) }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    fn kind(&mut self) -> usize {
        self.rng.usize(0..KINDS.len())
    }

    fn delay(&mut self, percent: u32, secs_max: u64) -> Duration {
        if self.chance(percent) { Duration::from_millis(self.rng.u64(1..secs_max * 1_000)) } else { Duration::ZERO }
    }

    fn pick_ids(&mut self) -> Vec<MessageId> {
        let mut picked = BTreeSet::from([MessageId::new()]);
        for _ in 0..self.rng.usize(1..6) {
            if !self.known.is_empty() {
                picked.insert(self.known[self.rng.usize(0..self.known.len())]);
            }
        }
        picked.into_iter().collect()
    }
}

/// Looking.
impl Run {
    async fn stats(&mut self) {
        self.note("stats".to_owned());
        let before = self.now().await;
        let stats = self.world.stats().await;
        let call = self.span(before).await;
        for (kind, name) in KINDS.iter().enumerate() {
            let of =
                |status| self.model.messages.values().filter(|entry| entry.kind == kind && entry.status() == Some(status)).count() as u64;
            let expected = [Status::Created, Status::Retrying, Status::Handling, Status::Dead].map(of);
            let found = stats.of(name).map_or([0; 4], |stats| [stats.created.n, stats.retrying.n, stats.handling.n, stats.dead.n]);
            assert_eq!(found, expected, "statistics of {name}");
            // A type that is paused with everything is only listed if it has messages.
            if let Some(stats) = stats.of(name) {
                assert!(self.model.is_paused(kind, call).is_none_or(|paused| paused == stats.paused), "{name} is paused: {}", stats.paused);
            }
        }
    }

    pub(crate) async fn check(&mut self) {
        for (id, entry) in &self.model.messages {
            let found = self.world.find(*id).await.map(|record| (record.status, record.attempt));
            assert_eq!(found, entry.status().map(|status| (status, entry.attempt)), "{id}: {entry:?}");
        }
        self.world.assert_clean_audit().await;
        // What is gone stays gone: it need not be looked at again, unless an old claim still names it.
        let named: BTreeSet<MessageId> = self.model.claims.values().flat_map(|claim| &claim.members).map(|member| member.id).collect();
        self.model.messages.retain(|id, entry| !matches!(entry.place, Place::Gone) || named.contains(id));
        self.known.retain(|id| self.model.messages.contains_key(id));
    }

    /// Lets everything end: nothing is stuck.
    pub(crate) async fn drain(&mut self) {
        self.note("drain".to_owned());
        for kind in std::mem::take(&mut self.model.pauses).into_keys() {
            let scope = KINDS.get(kind).map_or(PauseScope::Everything, |name| PauseScope::from(*name));
            self.world.storage().resume(&scope).await.unwrap();
        }
        self.world.advance(Duration::from_secs(10_000));
        let before = self.now().await;
        self.world.promote().await;
        self.world.storage().reclaim(&ReclaimRequest::condemning(1_000_000)).await.unwrap();
        let worker = self.world.worker_for(&KINDS, LEASE * 100_000).await;
        let mut done: BTreeSet<MessageId> = BTreeSet::new();
        loop {
            let mut claim = worker.claim_of(&KINDS, 200).await;
            if claim.messages.is_empty() {
                claim = worker.claim_solo().await;
            }
            if claim.messages.is_empty() {
                break;
            }
            done.extend(ids(&claim));
            self.world.settle_ok(&claim).await;
        }
        let call = self.span(before).await;
        for (id, entry) in &mut self.model.messages {
            if done.contains(id) {
                entry.attempt = self.world.record(*id).await.attempt;
                entry.place = Place::Success { at: call };
            } else if let Place::Leased { .. } = entry.place {
                // It ran alone for the last time when its worker was condemned.
                entry.place = Place::Dead { at: call };
            }
            assert!(matches!(entry.place, Place::Success { .. } | Place::Dead { .. } | Place::Gone), "{id} is stuck: {entry:?}");
        }
    }
}
