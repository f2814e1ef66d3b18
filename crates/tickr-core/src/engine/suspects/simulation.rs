//! Fleets of workers through an hour of crashes, on [`Schedule`] and [`protocol::reclaimed`] alone: no storage, no engine.
//!
//! There is always more ordinary work than the fleet can do, so that no worker is ever idle. Of the first two thousand messages a few in
//! a thousand are poison: a certain time after their start, their worker dies. Workers also die for no reason. What a dead worker held
//! is reclaimed when its lease has run out; it starts again after two seconds. Workers learn of suspects by their heartbeats, the one
//! that reclaims at once. A run ends when all poison is dead and no suspect is left, or after six hours.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::{Rules, Schedule, Turn, View};
use crate::door::Random;
use crate::door::clock::Tick;
use crate::protocol::{self, Lane, Waiting};

const LEASE_MS: u64 = 30_000;
const POOL: usize = 16;
const MAX_ATTEMPTS: u16 = 10;
const FIRST: usize = 2_000;
/// Longer than a worker is closed for suspects of few crashes.
const FEW_MS: u64 = 1_100;

/// One fleet and what it has to do.
#[derive(Clone, Copy, Debug)]
struct Scene {
    workers: usize,
    /// Of a thousand messages.
    poison: u64,
    /// How long a handler takes on average.
    handler_ms: u64,
    /// How long poison runs before it kills its worker.
    kills_after_ms: u64,
    /// How often a worker dies for no reason, in an hour.
    crashes_an_hour: u64,
    rules: Rules,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    poison: usize,
    poison_dead: usize,
    innocent_dead: usize,
    crashes: usize,
    /// How often poison took others along.
    shared: usize,
    suspects: usize,
    /// The longest wait of a suspect for its start.
    suspect_wait_ms: u64,
    /// The longest time that a worker was closed in any ten seconds, for suspects of few crashes.
    closed_ms: u64,
    /// For how long all workers together were closed, and ran.
    all_closed_ms: u64,
    all_up_ms: u64,
    minutes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    poison: bool,
    handler_ms: u64,
    waiting: Waiting,
    ready_at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    message: usize,
    attempt: u16,
    started: u64,
    exclusive: bool,
    suspect: bool,
}

#[derive(Debug)]
struct Worker {
    up: bool,
    epoch: u32,
    running: Vec<Run>,
    schedule: Schedule,
    known: Option<u16>,
    closed_since: Option<u64>,
    up_since: u64,
    closed: VecDeque<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    End { worker: usize, epoch: u32, message: usize },
    Wake { worker: usize, epoch: u32 },
    Beat { worker: usize },
    Crash { worker: usize },
    Start { worker: usize },
    Reclaim(Vec<(usize, u16, bool)>),
}

struct Fleet {
    scene: Scene,
    random: Random,
    now: u64,
    number: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    messages: Vec<Message>,
    workers: Vec<Worker>,
    lanes: [VecDeque<usize>; 3],
    /// Poison that is not dead, and suspects that have not ended.
    left: usize,
    outcome: Outcome,
}

const RETURNED: usize = 0;
const NORMAL: usize = 1;
const SUSPECT: usize = 2;

fn tick(ms: u64) -> Tick {
    Tick::from_nanos(ms * 1_000_000)
}

impl Fleet {
    fn new(scene: Scene, seed: u64) -> Self {
        let random = Random::seeded(seed);
        let mut fleet = Self {
            scene,
            random,
            now: 0,
            number: 0,
            events: BinaryHeap::new(),
            messages: Vec::new(),
            workers: Vec::new(),
            lanes: Default::default(),
            left: 0,
            outcome: Outcome::default(),
        };
        for worker in 0..scene.workers {
            fleet.workers.push(Worker {
                up: false,
                epoch: 0,
                running: Vec::new(),
                schedule: Schedule::new(scene.rules),
                known: None,
                closed_since: None,
                up_since: 0,
                closed: VecDeque::new(),
            });
            let beat = fleet.below(LEASE_MS / 3);
            fleet.at(beat, Event::Beat { worker });
            fleet.plan_crash(worker);
        }
        for message in 0..FIRST {
            let poison = fleet.below(1_000) < scene.poison;
            fleet.outcome.poison += usize::from(poison);
            fleet.left += usize::from(poison);
            fleet.new_message(poison);
            fleet.lanes[NORMAL].push_back(message);
        }
        for worker in 0..scene.workers {
            fleet.at(0, Event::Start { worker });
        }
        fleet
    }

    fn new_message(&mut self, poison: bool) {
        let handler_ms = self.scene.handler_ms / 2 + self.below(self.scene.handler_ms.max(1));
        let waiting = Waiting { lane: Lane::Normal, attempt: 0, crashes: 0 };
        self.messages.push(Message { poison, handler_ms, waiting, ready_at: 0 });
    }

    fn below(&self, limit: u64) -> u64 {
        (self.random.unit() * limit as f64) as u64
    }

    fn at(&mut self, when: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse((when, self.number, event)));
    }

    fn plan_crash(&mut self, worker: usize) {
        if let Some(longest) = 7_200_000_u64.checked_div(self.scene.crashes_an_hour) {
            let pause = self.below(longest);
            self.at(self.now + pause, Event::Crash { worker });
        }
    }

    fn run(mut self) -> Outcome {
        while (self.left > 0 || self.now < 300_000)
            && let Some(Reverse((now, _, event))) = self.events.pop()
        {
            self.now = now;
            if now > 6 * 3_600_000 {
                break;
            }
            self.handle(event);
        }
        self.outcome.minutes = self.now / 60_000;
        for worker in 0..self.workers.len() {
            self.open(worker);
            self.outcome.all_up_ms += if self.workers[worker].up { self.now - self.workers[worker].up_since } else { 0 };
        }
        self.outcome
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::End { worker, epoch, message } if self.workers[worker].epoch == epoch => {
                if self.messages[message].poison {
                    self.crash(worker, true);
                } else {
                    self.workers[worker].running.retain(|run| run.message != message);
                    self.step(worker);
                }
            }
            Event::Wake { worker, epoch } if self.workers[worker].epoch == epoch => self.step(worker),
            Event::End { .. } | Event::Wake { .. } => {}
            Event::Beat { worker } => {
                self.workers[worker].known = self.first_suspect();
                self.at(self.now + LEASE_MS / 3, Event::Beat { worker });
                self.step(worker);
            }
            Event::Crash { worker } => {
                self.plan_crash(worker);
                if self.workers[worker].up {
                    self.crash(worker, false);
                }
            }
            Event::Start { worker } => {
                let rules = self.scene.rules;
                let known = self.first_suspect();
                let it = &mut self.workers[worker];
                (it.up, it.schedule, it.known, it.up_since) = (true, Schedule::new(rules), known, self.now);
                self.step(worker);
            }
            Event::Reclaim(members) => self.reclaim(&members),
        }
    }

    fn first_suspect(&self) -> Option<u16> {
        self.lanes[SUSPECT].front().map(|message| self.messages[*message].waiting.crashes)
    }

    fn wake_all(&mut self) {
        for worker in 0..self.workers.len() {
            if self.workers[worker].running.len() < POOL {
                self.step(worker);
            }
        }
    }

    fn crash(&mut self, worker: usize, by_poison: bool) {
        let now = self.now;
        self.open(worker);
        self.outcome.all_up_ms += now - self.workers[worker].up_since;
        let it = &mut self.workers[worker];
        (it.up, it.known) = (false, None);
        it.epoch += 1;
        let held: Vec<_> = it.running.drain(..).map(|run| (run.message, run.attempt, run.exclusive)).collect();
        self.outcome.crashes += 1;
        self.outcome.shared += usize::from(by_poison && held.len() > 1);
        // The lease was extended at most a third of it ago. A lone worker condemns only after a lease of its own.
        let rest = LEASE_MS - self.below(LEASE_MS / 3);
        let alone = self.workers.iter().all(|worker| !worker.up);
        let after = if alone { 2_000 + LEASE_MS } else { rest } + self.below(5_000);
        self.at(now + after, Event::Reclaim(held));
        self.at(now + 2_000, Event::Start { worker });
    }

    fn reclaim(&mut self, members: &[(usize, u16, bool)]) {
        for (message, attempt, exclusive) in members.iter().copied() {
            let it = &mut self.messages[message];
            let Some(waiting) = protocol::reclaimed(exclusive, attempt, it.waiting.crashes, MAX_ATTEMPTS) else {
                let counted = if it.poison { &mut self.outcome.poison_dead } else { &mut self.outcome.innocent_dead };
                *counted += 1;
                self.left -= usize::from(it.poison);
                continue;
            };
            let suspect = waiting.lane == Lane::Suspect;
            if suspect && it.waiting.lane != Lane::Suspect {
                self.outcome.suspects += 1;
            }
            (it.waiting, it.ready_at) = (waiting, self.now);
            self.lanes[if suspect { SUSPECT } else { RETURNED }].push_back(message);
        }
        let reclaimer = self.workers.iter().position(|worker| worker.up);
        if let Some(reclaimer) = reclaimer {
            self.workers[reclaimer].known = self.first_suspect();
        }
        self.wake_all();
    }

    fn open(&mut self, worker: usize) {
        let now = self.now;
        let it = &mut self.workers[worker];
        if let Some(since) = it.closed_since.take()
            && now > since
        {
            self.outcome.all_closed_ms += now - since;
            if now - since > FEW_MS {
                return;
            }
            it.closed.push_back((since, now));
            it.closed.retain(|(_, until)| until + 10_000 > now);
            let window: u64 = it.closed.iter().map(|(since, until)| until - (*since).max(now.saturating_sub(10_000))).sum();
            self.outcome.closed_ms = self.outcome.closed_ms.max(window);
        }
    }

    /// What the claim loop does.
    fn step(&mut self, worker: usize) {
        while self.workers[worker].up {
            let now = self.now;
            let it = &mut self.workers[worker];
            let epoch = it.epoch;
            if let Some(run) = it.running.iter_mut().find(|run| run.exclusive) {
                let until = it.schedule.exclusive_until();
                if tick(now) < until {
                    let until = until.as_nanos() / 1_000_000;
                    it.closed_since.get_or_insert(now);
                    return self.at(until, Event::Wake { worker, epoch });
                }
                run.exclusive = false;
                it.schedule.open(tick(now));
            }
            let view = View {
                waiting: it.known,
                is_alone: it.running.is_empty(),
                is_idle: false,
                oldest: it.running.iter().map(|run| Duration::from_millis(now - run.started)).max(),
                suspect: it.running.iter().filter(|run| run.suspect).map(|run| Duration::from_millis(now - run.started)).min(),
            };
            let turn = it.schedule.turn(tick(now), &view);
            match turn {
                Turn::Close(until) => {
                    it.closed_since.get_or_insert(now);
                    return self.at(until.as_nanos() / 1_000_000, Event::Wake { worker, epoch });
                }
                Turn::Exclusive => self.take(worker, SUSPECT, true),
                Turn::Beside if it.running.len() < POOL => {
                    self.open(worker);
                    self.take(worker, SUSPECT, false);
                }
                Turn::Beside | Turn::Ordinary => {
                    self.open(worker);
                    if self.workers[worker].running.len() >= POOL {
                        return;
                    }
                    if self.lanes[NORMAL].is_empty() {
                        self.lanes[NORMAL].push_back(self.messages.len());
                        self.new_message(false);
                    }
                    let lane = if self.lanes[RETURNED].is_empty() { NORMAL } else { RETURNED };
                    self.take(worker, lane, false);
                }
            }
        }
    }

    fn take(&mut self, worker: usize, lane: usize, exclusive: bool) {
        let Some(message) = self.lanes[lane].pop_front() else {
            self.workers[worker].known = None;
            return;
        };
        let now = self.now;
        let it = &mut self.workers[worker];
        let suspect = lane == SUSPECT;
        if suspect {
            self.outcome.suspect_wait_ms = self.outcome.suspect_wait_ms.max(now - self.messages[message].ready_at);
        }
        if exclusive {
            it.schedule.took(self.messages[message].waiting.crashes);
        }
        let attempt = self.messages[message].waiting.attempt + 1;
        it.running.push(Run { message, attempt, started: now, exclusive, suspect });
        let (poison, handler_ms) = (self.messages[message].poison, self.messages[message].handler_ms);
        let takes = if poison { self.scene.kills_after_ms } else { handler_ms };
        let epoch = it.epoch;
        self.at(now + takes, Event::End { worker, epoch, message });
    }
}

/// The table of `docs/decisions/suspects.md`: `cargo test -p tickr-core --lib simulation -- --nocapture`.
#[allow(clippy::print_stdout, reason = "the table is for people")]
fn print(scene: Scene, outcome: &Outcome) {
    println!(
        "| {} | {} | {} ms | {} ms | {} of {} | {} | {} | {} | {:.1} s | {:.1} s | {:.3} | {} |",
        scene.workers,
        scene.poison,
        scene.handler_ms,
        scene.kills_after_ms,
        outcome.poison_dead,
        outcome.poison,
        outcome.crashes,
        outcome.shared,
        outcome.suspects,
        outcome.suspect_wait_ms as f64 / 1_000.0,
        outcome.closed_ms as f64 / 1_000.0,
        outcome.all_closed_ms as f64 / outcome.all_up_ms.max(1) as f64,
        outcome.minutes,
    );
}

#[test]
fn poison_dies_and_nobody_else_in_fleets_that_have_always_work() {
    let rules = Rules::new(Duration::from_millis(LEASE_MS));
    for (handler_ms, kills_after_ms) in [(200, 10), (2_000, 500), (2_000, 20_000), (20_000, 10)] {
        for workers in [1, 3, 20] {
            for poison in [0, 1, 5] {
                let crashes_an_hour = if poison == 0 { 30 } else { 2 };
                let scene = Scene { workers, poison, handler_ms, kills_after_ms, crashes_an_hour, rules };
                let outcome = Fleet::new(scene, 7).run();
                print(scene, &outcome);
                assert_eq!((outcome.poison_dead, outcome.innocent_dead), (outcome.poison, 0), "{scene:?}");
                // A worker that dies and starts again within the ten seconds may be closed twice.
                assert!(poison > 0 || outcome.closed_ms <= 2_000, "{scene:?}: closed for {} ms of ten seconds", outcome.closed_ms);
                let share = outcome.all_closed_ms as f64 / outcome.all_up_ms as f64;
                assert!(share <= 0.4, "{scene:?}: closed for {share} of its time");
            }
        }
    }
}
