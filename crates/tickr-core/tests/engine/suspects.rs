//! Messages that were there when a worker died: one that kills its worker dies alone, and nothing stands still for that.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tickr_core::protocol::{Lane, SUSPECT_CRASHES};
use tickr_core::{
    Admin, Context, ErrorKind, Failure, Handler, MemoryStorage, Message, MessageId, PauseRequest, PauseScope, ReclaimRequest, State,
    Status, Storage, Worker,
};
use tokio::time::sleep;

use super::support::{
    Call, Crowd, Fault, Faulty, Mortal, Op, Probe, enqueue, enqueue_many, eventually, memory, ms, record, secs, sound, status, steps, stop,
    until_status, worker,
};

const LEASE: std::time::Duration = secs(10);

async fn never(State(probe): State<Probe>) {
    probe.note("begun");
    std::future::pending::<()>().await;
}

/// Runs every message of a type in a process that dies, and takes them back.
async fn crash(storage: &MemoryStorage, event_type: &str, n: usize) {
    let probe = Probe::new();
    let builder = worker(storage).name("dies").lease(ms(100)).pool(u32::try_from(n).unwrap()).state(probe.clone());
    let mortal = Mortal::start(builder.on(event_type, never.no_timeout()).build().unwrap());
    probe.reached(n).await;
    mortal.crash().await;
    sleep(ms(200)).await;
    let request = ReclaimRequest::condemning(100);
    assert_eq!(storage.reclaim(&request).await.unwrap().messages.len(), n);
}

/// Leaves `n` suspects of a type behind: messages that were part of two crashes.
async fn suspects(storage: &MemoryStorage, event_type: &str, n: usize) -> Vec<MessageId> {
    let ids = enqueue_many(storage, event_type, n).await;
    for _ in 0..SUSPECT_CRASHES {
        crash(storage, event_type, n).await;
    }
    ids
}

#[tokio::test(start_paused = true)]
async fn a_message_that_kills_its_worker_dies_alone() {
    async fn run(context: Context, State(probe): State<Probe>) {
        if context.payload() == "poison" {
            probe.note("poison");
            std::future::pending::<()>().await;
        }
        // In the first run everybody is still busy when the worker dies.
        if probe.count("poison") == 1 && probe.count("crash") == 0 {
            std::future::pending::<()>().await;
        }
    }
    let (storage, probe) = (memory(), Probe::new());
    let poison = enqueue(&storage, Message::new("a", "poison")).await;
    let mut neighbours = Vec::new();
    for n in 0..10 {
        // They are at their last attempt.
        neighbours.push(enqueue(&storage, Message::new("a", n.to_string()).max_attempts(1)).await);
    }
    for runs in 1..=3 {
        let builder = worker(&storage).lease(LEASE).state(probe.clone());
        let mortal = Mortal::start(builder.on("a", run.no_timeout().max_attempts(3)).build().unwrap());
        eventually("the poison runs", async || probe.count("poison") == runs).await;
        sleep(ms(1)).await;
        mortal.crash().await;
        probe.note("crash");
    }
    let survivor = worker(&storage).lease(LEASE).state(probe.clone()).on("a", run.max_attempts(3)).build().unwrap().spawn();
    until_status(&storage, poison, Status::Dead).await;
    let record = record(&storage, poison).await;
    assert_eq!((record.attempt, record.last_error.as_deref()), (3, Some("crashed")));
    for id in neighbours {
        until_status(&storage, id, Status::Success).await;
    }
    assert_eq!(probe.count("poison"), 3);
    stop(survivor).await;
    sound(&storage).await;
}

/// Runs for a while, and notes who else did.
async fn load(State((crowd, _)): State<(Crowd, Probe)>) {
    let _inside = crowd.enter();
    sleep(ms(40)).await;
}

async fn alone(State((crowd, probe)): State<(Crowd, Probe)>) {
    let _inside = crowd.enter();
    sleep(ms(500)).await;
    probe.note(crowd.now().to_string());
}

fn busy(storage: &MemoryStorage, crowd: &Crowd, probe: &Probe) -> Worker {
    let builder = worker(storage).lease(LEASE).pool(8).state((crowd.clone(), probe.clone()));
    builder.on("load", load).on("suspect", alone).build().unwrap()
}

/// Keeps the queue filled.
fn producer(storage: &MemoryStorage) -> tokio::task::JoinHandle<()> {
    let storage = storage.clone();
    tokio::spawn(async move {
        loop {
            enqueue_many(&storage, "load", 50).await;
            sleep(ms(100)).await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn suspects_run_alone_in_their_worker() {
    let storage = memory();
    let ids = suspects(&storage, "suspect", 2).await;
    let (crowd, probe) = (Crowd::default(), Probe::new());
    let producer = producer(&storage);
    let worker = busy(&storage, &crowd, &probe).spawn();
    for id in ids {
        until_status(&storage, id, Status::Success).await;
    }
    assert_eq!(probe.notes(), ["1", "1"], "nothing else ran");
    producer.abort();
    stop(worker).await;
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_an_idle_worker_took_runs_alone_too() {
    let storage = memory();
    let (crowd, probe) = (Crowd::default(), Probe::new());
    let worker = busy(&storage, &crowd, &probe).spawn();
    sleep(secs(4)).await;
    // Found by looking, before the next heartbeat tells of it; what others enqueue wakes nobody here.
    let ids = suspects(&storage.other_process(), "suspect", 1).await;
    eventually("it runs", async || crowd.now() == 1).await;
    let load = enqueue_many(&storage, "load", 200).await;
    until_status(&storage, ids[0], Status::Success).await;
    assert_eq!(probe.notes(), ["1"], "what came meanwhile waits");
    until_status(&storage, load[199], Status::Success).await;
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn suspects_do_not_starve_on_a_busy_worker_and_work_goes_on_after_them() {
    let storage = memory();
    let (crowd, probe) = (Crowd::default(), Probe::new());
    let producer = producer(&storage);
    let worker = busy(&storage, &crowd, &probe).spawn();
    sleep(secs(5)).await;
    let ids = suspects(&storage, "suspect", 2).await;
    let begun = tokio::time::Instant::now();
    for id in ids {
        until_status(&storage, id, Status::Success).await;
    }
    assert!(begun.elapsed() < LEASE, "a heartbeat, a drain and two runs took {:?}", begun.elapsed());
    let next = enqueue(&storage, Message::new("load", "")).await;
    until_status(&storage, next, Status::Success).await;
    producer.abort();
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn suspects_do_not_starve_behind_handlers_that_run_longer_than_the_lease() {
    async fn long() {
        sleep(secs(25)).await;
    }
    let storage = memory();
    let (crowd, probe) = (Crowd::default(), Probe::new());
    let builder = worker(&storage).lease(LEASE).pool(8).state((crowd.clone(), probe.clone()));
    let worker = builder.on("load", long).on("suspect", alone).build().unwrap().spawn();
    let feeding = storage.clone();
    let producer = tokio::spawn(async move {
        loop {
            enqueue_many(&feeding, "load", 1).await;
            sleep(secs(3)).await;
        }
    });
    sleep(secs(60)).await;
    let ids = suspects(&storage, "suspect", 1).await;
    // A heartbeat tells of it, and it waits for an idle worker for as long as that takes everywhere.
    sleep(LEASE).await;
    assert_eq!(status(&storage, ids[0]).await, Status::Success);
    producer.abort();
    stop(worker).await;
}

/// How many notes there are in each ten seconds from `from` on, in steps of one second.
fn windows(probe: &Probe, note: &str, from: Duration, to: Duration) -> Vec<usize> {
    let times: Vec<Duration> = probe.notes().iter().zip(probe.times()).filter(|(known, _)| *known == note).map(|(_, at)| at).collect();
    let begins = (0..).map(|n| from + secs(n)).take_while(|begin| *begin + secs(10) <= to);
    begins.map(|begin| times.iter().filter(|at| **at >= begin && **at < begin + secs(10)).count()).collect()
}

async fn noted(State(probe): State<Probe>) {
    sleep(ms(5)).await;
    probe.note("load");
}

/// Noted when it starts: when it ends depends on the phase in which its like started.
async fn two_seconds(State(probe): State<Probe>) {
    probe.note("load");
    sleep(secs(2)).await;
}

/// Enqueues 200 messages a second.
fn steady(storage: &MemoryStorage) -> tokio::task::JoinHandle<()> {
    let storage = storage.clone();
    tokio::spawn(async move {
        loop {
            enqueue_many(&storage, "load", 20).await;
            sleep(ms(100)).await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_handler_without_end_and_waiting_suspects_leave_ordinary_work_alone() {
    async fn endless() {
        std::future::pending::<()>().await;
    }
    let (storage, probe) = (memory(), Probe::new());
    let ids = suspects(&storage, "suspect", 3).await;
    storage.pause(&PauseRequest::event_type("suspect")).await.unwrap();
    enqueue(&storage, Message::new("endless", "")).await;
    let builder = worker(&storage).state(probe.clone()).on("endless", endless.no_timeout());
    let worker = builder.on("load", noted).on("suspect", noted_suspect).build().unwrap().spawn();
    let producer = steady(&storage);
    sleep(secs(60)).await;
    let waiting = probe.now();
    storage.resume(&PauseScope::from("suspect")).await.unwrap();
    for id in ids {
        until_status(&storage, id, Status::Success).await;
    }
    let waited = probe.now() - waiting;
    assert!(waited < secs(30), "the suspects ran after {waited:?}");
    sleep(secs(120)).await;
    let handled = windows(&probe, "load", secs(10), probe.now());
    assert!(handled.iter().all(|handled| *handled >= 1_600), "of 2000 in ten seconds: {handled:?}");
    producer.abort();
    worker.shutdown_now();
    worker.join().await.unwrap();
}

async fn noted_suspect(State(probe): State<Probe>) {
    sleep(secs(2)).await;
    probe.note("suspect");
}

/// What a lone worker of 16 places does in ten seconds with messages of two seconds, of which there are always more.
const FULL: usize = 80;

#[tokio::test(start_paused = true)]
async fn one_crash_costs_the_worker_that_is_left_nothing() {
    let (storage, probe) = (memory(), Probe::new());
    enqueue_many(&storage, "suspect", 32).await;
    enqueue_many(&storage, "load", 2_000).await;
    crash(&storage, "suspect", 32).await;
    let builder = worker(&storage).pool(16).state(probe.clone()).on("load", two_seconds).on("suspect", noted_suspect);
    let worker = builder.build().unwrap().spawn();
    sleep(secs(60)).await;
    assert_eq!(probe.count("suspect"), 32);
    let handled = windows(&probe, "load", secs(10), secs(60));
    assert!(handled.iter().all(|handled| *handled >= FULL * 8 / 10), "{handled:?}");
    worker.shutdown_now();
    worker.join().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_suspects_leave_ordinary_work_four_fifths_of_every_ten_seconds() {
    let (storage, probe) = (memory(), Probe::new());
    let ids = suspects(&storage, "suspect", 32).await;
    enqueue_many(&storage, "load", 4_000).await;
    let builder = worker(&storage).pool(16).state(probe.clone()).on("load", two_seconds).on("suspect", noted_suspect);
    let (begun, worker) = (probe.now(), builder.build().unwrap().spawn());
    for id in ids {
        until_status(&storage, id, Status::Success).await;
    }
    // They wait for an idle worker for a third of the lease, then run one after the other, each once a place in the pool is free.
    let took = probe.now() - begun;
    assert!(took < secs(10 + 32 * (2 + 2)), "the suspects took {took:?}");
    let handled = windows(&probe, "load", begun, probe.now());
    assert!(handled.iter().all(|handled| *handled >= FULL * 8 / 10), "{handled:?}");
    worker.shutdown_now();
    worker.join().await.unwrap();
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_suspects_of_a_fleet_that_was_killed_are_worked_off_in_calm() {
    async fn quick(State(probe): State<Probe>) {
        sleep(ms(100)).await;
        probe.note("suspect");
    }
    let (storage, probe) = (memory(), Probe::new());
    let ids = suspects(&storage, "suspect", 336).await;
    let producer = steady(&storage);
    let begun = probe.now();
    let workers: Vec<_> =
        (0..3).map(|_| worker(&storage).state(probe.clone()).on("load", noted).on("suspect", quick).build().unwrap().spawn()).collect();
    for id in ids {
        until_status(&storage, id, Status::Success).await;
    }
    let took = probe.now() - begun;
    assert!(took < secs(10 + 336 / 10 / 3 + 20), "the suspects took {took:?}");
    sleep(secs(10)).await;
    let handled = windows(&probe, "load", begun, probe.now());
    assert!(handled.iter().all(|handled| *handled >= 1_600), "of 2000 in ten seconds: {handled:?}");
    producer.abort();
    for worker in workers {
        stop(worker).await;
    }
}

#[tokio::test(start_paused = true)]
async fn suspects_without_end_do_not_keep_others_waiting() {
    let (storage, probe) = (memory(), Probe::new());
    suspects(&storage, "endless", 3).await;
    let ids = suspects(&storage, "suspect", 3).await;
    let producer = steady(&storage);
    let builder = worker(&storage).state(probe.clone()).on("load", noted).on("endless", never.no_timeout());
    let (begun, worker) = (probe.now(), builder.on("suspect", noted_suspect).build().unwrap().spawn());
    for id in ids {
        until_status(&storage, id, Status::Success).await;
    }
    let took = probe.now() - begun;
    assert!(took < secs(6 * 10 + 20), "they began after {took:?}");
    sleep(secs(10)).await;
    let handled = windows(&probe, "load", begun, probe.now());
    assert!(handled.iter().all(|handled| *handled >= 1_600), "of 2000 in ten seconds: {handled:?}");
    producer.abort();
    worker.shutdown_now();
    worker.join().await.unwrap();
}

/// What a worker asked the storage for, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Ordinary,
    Exclusive,
    EndExclusive,
}

#[tokio::test(start_paused = true)]
async fn nothing_is_claimed_beside_an_exclusive_claim_before_the_storage_knows_that_it_has_ended() {
    let faulty = Faulty::new();
    let ids = suspects(&faulty.inner, "suspect", 1).await;
    enqueue_many(&faulty.inner, "load", 4_000).await;
    let (asked, refusals) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
    let log = Arc::clone(&asked);
    faulty.script(move |call| {
        let what = match call {
            Call::Claim(request) if request.solo => Asked::Exclusive,
            Call::Claim(request) if request.groups.iter().any(|group| group.lanes.contains(&Lane::Normal)) => Asked::Ordinary,
            Call::Other(Op::EndExclusive) => Asked::EndExclusive,
            _ => return None,
        };
        log.lock().unwrap().push(what);
        let mut refusals = refusals.lock().unwrap();
        if what == Asked::EndExclusive && *refusals < 3 {
            *refusals += 1;
            // It does not happen, it happens without an answer, it never answers.
            return Some([Fault::Refuse(ErrorKind::Unavailable), Fault::LoseAnswer, Fault::Hang][*refusals - 1].clone());
        }
        None
    });
    let probe = Probe::new();
    let builder = worker(&faulty).pool(16).state(probe.clone()).on("load", two_seconds).on("suspect", long_suspect);
    let worker = builder.build().unwrap().spawn();
    until_status(&faulty.inner, ids[0], Status::Success).await;
    let asked = asked.lock().unwrap().clone();
    let ended = asked.iter().rposition(|asked| *asked == Asked::EndExclusive).expect("its time is over after a second");
    assert_eq!(&asked[..=ended], [Asked::Exclusive, Asked::EndExclusive, Asked::EndExclusive, Asked::EndExclusive, Asked::EndExclusive]);
    assert!(asked[ended..].contains(&Asked::Ordinary), "ordinary work went on beside it");
    worker.shutdown_now();
    worker.join().await.unwrap();
}

async fn long_suspect() {
    sleep(secs(29)).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_beside_ordinary_work_proves_nothing_against_a_suspect() {
    let (storage, probe) = (memory(), Probe::new());
    let ids = suspects(&storage, "suspect", 1).await;
    enqueue_many(&storage, "load", 1_000).await;
    let builder = worker(&storage).lease(LEASE).pool(16).state(probe.clone()).on("load", two_seconds);
    let mortal = Mortal::start(builder.on("suspect", never.no_timeout().max_attempts(3)).build().unwrap());
    probe.noted("begun").await;
    // Its exclusive time is over, and others run beside it.
    probe.noted("load").await;
    mortal.crash().await;
    sleep(LEASE).await;
    let reclaimed = storage.reclaim(&ReclaimRequest::condemning(100)).await.unwrap();
    assert!(reclaimed.messages.len() > 1 && reclaimed.messages.iter().all(|message| !message.dead), "{reclaimed:?}");
    let record = record(&storage, ids[0]).await;
    assert_eq!((record.status, record.attempt), (Status::Retrying, 2), "at its last attempt, which it keeps");
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_kills_its_worker_late_dies_too_though_the_worker_is_always_busy() {
    async fn poison(State(probe): State<Probe>) {
        sleep(secs(3)).await;
        probe.note("kills");
        std::future::pending::<()>().await;
    }
    let (storage, probe) = (memory(), Probe::new());
    let id = enqueue(&storage, Message::new("poison", "")).await;
    let load = enqueue_many(&storage, "load", 20_000).await;
    let mut kills = 0;
    while status(&storage, id).await != Status::Dead {
        let builder = worker(&storage).lease(LEASE).pool(16).state(probe.clone());
        let mortal = Mortal::start(builder.on("load", two_seconds).on("poison", poison.no_timeout()).build().unwrap());
        eventually("it kills its worker again, or is dead", async || {
            probe.count("kills") > kills || status(&storage, id).await == Status::Dead
        })
        .await;
        kills = probe.count("kills");
        mortal.crash().await;
    }
    assert_eq!(record(&storage, id).await.last_error.as_deref(), Some("crashed"));
    assert!(kills <= 11, "it killed {kills} workers");
    for id in load {
        assert_ne!(status(&storage, id).await, Status::Dead);
    }
}

#[tokio::test(start_paused = true)]
async fn suspects_that_nobody_here_handles_do_not_close_the_worker() {
    async fn long() {
        sleep(secs(20)).await;
    }
    let storage = memory();
    suspects(&storage, "other", 1).await;
    for _ in 0..100 {
        enqueue(&storage, Message::new("load", "")).await;
    }
    let builder = worker(&storage).lease(secs(1)).pool(2).janitor(false).reclaim_interval(ms(500));
    let worker = builder.on("load", long).build().unwrap().spawn();
    eventually("it is full", async || worker.health().running == 2).await;
    for _ in 0..100 {
        sleep(ms(100)).await;
        assert_eq!(worker.health().running, 2);
    }
    worker.shutdown_now();
    worker.join().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_fails_is_an_ordinary_message_again() {
    async fn fail_once(context: Context) -> Result<(), Failure> {
        if context.attempt() == 3 { Err(Failure::retry_after(ms(1), "no")) } else { Ok(()) }
    }
    let storage = memory();
    let ids = suspects(&storage, "a", 1).await;
    let worker = worker(&storage).lease(LEASE).on("a", fail_once).build().unwrap().spawn();
    until_status(&storage, ids[0], Status::Success).await;
    assert_eq!(
        steps(&storage, ids[0]).await,
        ["created", "claimed", "reclaimed", "claimed", "reclaimed", "claimed", "failed", "retrying", "claimed", "ok"],
        "its crashes kept the attempts"
    );
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn suspects_of_a_paused_type_do_not_close_the_worker() {
    let storage = memory();
    suspects(&storage, "suspect", 1).await;
    storage.pause(&PauseRequest::event_type("suspect")).await.unwrap();
    let (crowd, probe) = (Crowd::default(), Probe::new());
    let producer = producer(&storage);
    let worker = busy(&storage, &crowd, &probe).spawn();
    let mut idle = 0;
    sleep(secs(1)).await;
    for _ in 0..1_000 {
        sleep(ms(10)).await;
        idle += u32::from(worker.health().running == 0);
    }
    assert!(idle < 400, "idle for {idle} of 1000 looks");
    producer.abort();
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn suspects_of_a_type_at_its_cap_are_looked_for_now_and_then() {
    async fn endless(State(probe): State<Probe>) {
        probe.note("begun");
        std::future::pending::<()>().await;
    }
    let inner = memory();
    suspects(&inner, "suspect", 2).await;
    let (storage, probe, looks) = (Faulty::over(inner), Probe::new(), Arc::new(Mutex::new(0)));
    let seen = Arc::clone(&looks);
    storage.script(move |call| {
        if let Call::Claim(request) = call
            && !request.solo
            && request.groups.iter().all(|group| group.lanes == [Lane::Suspect])
        {
            *seen.lock().unwrap() += 1;
            assert!(request.groups.iter().all(|group| &*group.event_type == "other"), "the cap is reached");
        }
        None
    });
    let builder = worker(&storage).lease(LEASE).state(probe.clone());
    let worker = builder.on("suspect", endless.no_timeout().max_in_flight(1)).on("other", noted).build().unwrap().spawn();
    sleep(secs(120)).await;
    assert_eq!(probe.len(), 1);
    let looks = *looks.lock().unwrap();
    assert!((10..=40).contains(&looks), "{looks} looks beside what runs in two minutes");
    worker.shutdown_now();
    worker.join().await.unwrap();
}
