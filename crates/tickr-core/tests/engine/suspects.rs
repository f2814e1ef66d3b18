//! Messages that were there when a worker died: they run alone, and a killer dies alone.

use tickr_core::{Admin, Context, Failure, Handler, MemoryStorage, Message, MessageId, PauseRequest, State, Status, Storage, Worker};
use tokio::time::sleep;

use super::support::{
    Crowd, Faulty, Mortal, Op, Probe, enqueue, enqueue_many, eventually, memory, ms, record, secs, sound, status, steps, stop,
    until_status, worker,
};

const LEASE: std::time::Duration = secs(10);

/// Leaves `n` suspects of a type behind.
async fn suspects(storage: &MemoryStorage, event_type: &str, n: usize) -> Vec<MessageId> {
    async fn never(State(probe): State<Probe>) {
        probe.note("begun");
        std::future::pending::<()>().await;
    }
    let probe = Probe::new();
    let ids = enqueue_many(storage, event_type, n).await;
    let builder = worker(storage).name("dies").lease(ms(100)).state(probe.clone());
    let mortal = Mortal::start(builder.on(event_type, never.no_timeout()).build().unwrap());
    probe.reached(n).await;
    mortal.crash().await;
    sleep(ms(200)).await;
    let request = tickr_core::ReclaimRequest { condemn: true, limit: 100 };
    let reclaimed = tickr_core::Storage::reclaim(storage, &request).await.unwrap();
    assert_eq!(reclaimed.messages.len(), n);
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
    let ids = suspects(&storage, "suspect", 3).await;
    let (crowd, probe) = (Crowd::default(), Probe::new());
    let producer = producer(&storage);
    let worker = busy(&storage, &crowd, &probe).spawn();
    for id in ids {
        until_status(&storage, id, Status::Success).await;
    }
    assert_eq!(probe.notes(), ["1", "1", "1"], "nothing else ran");
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
    sleep(secs(180)).await;
    assert_eq!(status(&storage, ids[0]).await, Status::Success);
    producer.abort();
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_busy_workers_one_empties_itself() {
    async fn long(State((crowd, _)): State<(Crowd, Probe)>) {
        let _inside = crowd.enter();
        // They do not end together, so that a worker that empties itself is seen to.
        sleep(ms(600 + 100 * crowd.now() as u64)).await;
    }
    let storage = memory();
    let (crowds, probe) = ([Crowd::default(), Crowd::default()], Probe::new());
    let producer = producer(&storage);
    let workers = crowds.clone().map(|crowd| {
        let builder = worker(&storage).lease(LEASE).pool(8).state((crowd, probe.clone()));
        builder.on("load", long).on("suspect", alone).build().unwrap().spawn()
    });
    sleep(secs(5)).await;
    let ids = suspects(&storage, "suspect", 1).await;
    let mut least = usize::MAX;
    while status(&storage, ids[0]).await != Status::Success {
        sleep(ms(10)).await;
        least = least.min(crowds.iter().map(Crowd::now).max().unwrap());
    }
    assert!(least >= 7, "the busier of the two ran only {least} at times");
    assert_eq!(probe.notes(), ["1"]);
    producer.abort();
    for worker in workers {
        stop(worker).await;
    }
}

#[tokio::test(start_paused = true)]
async fn suspects_that_nobody_here_handles_do_not_empty_the_worker() {
    async fn long() {
        sleep(secs(20)).await;
    }
    async fn never(State(probe): State<Probe>) {
        probe.note("begun");
        std::future::pending::<()>().await;
    }
    let (storage, probe) = (Faulty::new(), Probe::new());
    let builder = worker(&storage.inner).name("dies").lease(ms(100)).state(probe.clone());
    enqueue(&storage, Message::new("other", "")).await;
    let mortal = Mortal::start(builder.on("other", never.no_timeout()).build().unwrap());
    probe.reached(1).await;
    mortal.crash().await;
    for _ in 0..100 {
        enqueue(&storage, Message::new("load", "")).await;
    }
    let builder = worker(&storage).lease(secs(1)).pool(2).janitor(false).reclaim_interval(ms(500));
    let worker = builder.on("load", long).build().unwrap().spawn();
    eventually("the crash is found", async || {
        storage.inner.list(&tickr_core::ListQuery::default().event_type("other")).await.unwrap().items[0].status == Status::Retrying
    })
    .await;
    sleep(secs(10)).await;
    assert_eq!(storage.calls(Op::Lock), 0);
    worker.shutdown_now();
    worker.join().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_fails_is_an_ordinary_message_again() {
    async fn fail_once(context: Context) -> Result<(), Failure> {
        if context.attempt() == 2 { Err(Failure::retry_after(ms(1), "no")) } else { Ok(()) }
    }
    let storage = memory();
    let ids = suspects(&storage, "a", 1).await;
    let worker = worker(&storage).lease(LEASE).on("a", fail_once).build().unwrap().spawn();
    until_status(&storage, ids[0], Status::Success).await;
    assert_eq!(
        steps(&storage, ids[0]).await,
        ["created", "claimed", "reclaimed", "claimed", "failed", "retrying", "claimed", "ok"],
        "its crash kept the attempt"
    );
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn suspects_of_a_paused_type_do_not_empty_the_worker() {
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
