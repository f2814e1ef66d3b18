//! Many at once: nothing is taken twice, and nothing is left out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tickr_core::{Admin, AnyAdmin, Due, Enqueued, Message, MessageId, ReclaimRequest, Settled, Settlement, Status, Storage};
use tokio::sync::Barrier;
use tokio::task::JoinHandle;

use crate::world::{LEASE, ORDER, Worker, World, all_ok, checked, each, failed, ids, keyed, ok, order, these};

async fn join<T>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

/// Settles as the worker of the library does: what may be repeated is repeated, because six writers of one row may wait for each other
/// longer than an operation may take. Gives how often.
async fn settle_patiently(storage: &AnyAdmin, batch: &[Settlement]) -> (Settled, usize) {
    for repeats in 0.. {
        match storage.settle(batch).await {
            Ok(mut answers) => return (answers.remove(0), repeats),
            Err(error) if error.is_transient() && repeats < 20 => {}
            Err(error) => panic!("settle: {error}"),
        }
    }
    unreachable!("a loop without end");
}

fn sorted(mut ids: Vec<MessageId>) -> Vec<MessageId> {
    ids.sort_unstable();
    ids
}

/// `n` workers, each on a handle of its own.
async fn workers(world: &World, n: usize) -> Vec<Worker> {
    let mut workers = Vec::new();
    for _ in 0..n {
        workers.push(world.immortal().await.through(world.connect().await));
    }
    workers
}

/// Sixteen claimers take everything, and nothing twice.
pub async fn sixteen_claimers_share_without_overlap(world: World) {
    let sent = world.enqueue(480).await;
    let barrier = Arc::new(Barrier::new(16));
    let mut tasks = Vec::new();
    for worker in workers(&world, 16).await {
        let barrier = Arc::clone(&barrier);
        tasks.push(world.spawn(async move {
            barrier.wait().await;
            let mut mine = Vec::new();
            loop {
                let claim = worker.claim(7).await;
                if claim.messages.is_empty() {
                    return mine;
                }
                mine.extend(ids(&claim));
            }
        }));
    }
    let mut taken: Vec<MessageId> = join(tasks).await.into_iter().flatten().collect();
    // A claim may pass over what another is taking and then gives back: nothing here is given back, so nothing is left.
    taken.extend(ids(&world.immortal().await.claim(480).await));
    let distinct: HashSet<MessageId> = taken.iter().copied().collect();
    assert_eq!((taken.len(), distinct), (480, sent.into_iter().collect()));
}

/// Fifty types are drained by workers that each ask for all of them.
pub async fn fifty_types_are_drained(world: World) {
    let names: Vec<String> = (0..50).map(|n| format!("type-{n:02}")).collect();
    let sent = world.enqueue_all((0..500).map(|n| Message::new(&names[n % 50], "")).collect()).await;
    let names: Arc<Vec<String>> = Arc::new(names);
    let mut tasks = Vec::new();
    for worker in workers(&world, 4).await {
        let (world, names) = (world.clone(), Arc::clone(&names));
        tasks.push(world.clone().spawn(async move {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            loop {
                let claim = worker.claim_of(&names, 40).await;
                if claim.messages.is_empty() {
                    return;
                }
                world.settle_ok(&claim).await;
            }
        }));
    }
    join(tasks).await;
    world.assert_status(&sent, Status::Success).await;
}

/// Parts of one claim that are settled at the same moment are each applied, and once.
pub async fn concurrent_settles_of_one_token_disjoint(world: World) {
    for _ in 0..10 {
        let (worker, claim) = world.claimed(16).await;
        let barrier = Arc::new(Barrier::new(8));
        let mut tasks = Vec::new();
        for part in 0..8 {
            let (storage, barrier, batch) = (world.connect().await, Arc::clone(&barrier), [ok(&claim, [part, part + 8])]);
            tasks.push(world.spawn(async move {
                barrier.wait().await;
                storage.settle(&batch).await.unwrap()[0].applied.count()
            }));
        }
        assert_eq!(join(tasks).await, [2; 8]);
        assert!(worker.beat().await.open.is_empty());
        world.assert_status(&ids(&claim), Status::Success).await;
    }
}

/// The same part that is settled by several at the same moment is applied once.
pub async fn concurrent_equal_settles_apply_once(world: World) {
    for _ in 0..10 {
        let (worker, claim) = world.claimed(4).await;
        let barrier = Arc::new(Barrier::new(6));
        let mut tasks = Vec::new();
        for _ in 0..6 {
            let (storage, barrier, batch) = (world.connect().await, Arc::clone(&barrier), [each(&claim, &failed("boom"))]);
            tasks.push(world.spawn(async move {
                barrier.wait().await;
                let (settled, repeats) = settle_patiently(&storage, &batch).await;
                assert!(settled.lost.is_empty(), "{settled:?}");
                assert_eq!(settled.applied.count() + settled.already.count(), 4, "{settled:?}");
                (settled.applied.count(), repeats)
            }));
        }
        let answers = join(tasks).await;
        let applied: u32 = answers.iter().map(|(applied, _)| applied).sum();
        // One whose answer was lost reads as applied before when it is repeated.
        let lost_answers = answers.iter().any(|(_, repeats)| *repeats > 0);
        assert!(applied == 4 || (lost_answers && applied < 4), "{answers:?}");
        let again = worker.claim(100).await;
        assert_eq!(sorted(ids(&again)), sorted(ids(&claim)));
        for id in ids(&claim) {
            assert_eq!(world.events(id).await, ["created", "claimed", "failed", "retrying", "claimed"], "{id} was put back once");
        }
    }
}

/// A settle that races the reclaim of its claim: each member is either settled or taken back, over many rounds.
pub async fn settle_racing_reclaim_splits_members(world: World) {
    for round in 0..60 {
        let (worker, claim) = world.claimed(5).await;
        world.advance(worker.lease + Duration::from_secs(1));
        let (settler, reclaimer, barrier) = (world.connect().await, world.connect().await, Arc::new(Barrier::new(2)));
        let (batch, meet) = ([all_ok(&claim)], Arc::clone(&barrier));
        let settle = world.spawn(async move {
            meet.wait().await;
            settler.settle(&batch).await.unwrap().remove(0)
        });
        let reclaim = world.spawn(async move {
            barrier.wait().await;
            reclaimer.reclaim(&ReclaimRequest::condemning(100)).await.unwrap()
        });
        let (settled, mut taken) = (settle.await.unwrap(), reclaim.await.unwrap());
        // A reclaim passes over a row that a settle is writing; the next one finds what is left.
        taken.messages.extend(world.reclaim().await.messages);
        let succeeded = settled.applied.count();
        assert_eq!(taken.messages.len(), 5 - succeeded as usize, "round {round}: {settled:?} {taken:?}");
        for (index, id) in (0..).zip(ids(&claim)) {
            let expected = if settled.applied.contains(index) { Status::Success } else { Status::Retrying };
            assert_eq!(world.status(id).await, expected, "round {round}");
        }
        world.kill(&ids(&claim)).await;
    }
    world.assert_clean_audit().await;
}

/// A settle that races a kill: each member is either settled or killed.
pub async fn settle_racing_kill_splits_members(world: World) {
    for round in 0..40 {
        let (_, claim) = world.claimed(6).await;
        let (killer, victims) = (world.connect().await, these(&ids(&claim)[2..5]));
        let kill = world.spawn(async move { killer.kill(&victims, "not wanted").await.unwrap() });
        let settled = world.settle(all_ok(&claim)).await;
        let killed = kill.await.unwrap();
        for (index, id) in (0..).zip(ids(&claim)) {
            assert_ne!(settled.applied.contains(index), killed.done.contains(&id), "round {round}, member {index}");
            let expected = if killed.done.contains(&id) { Status::Dead } else { Status::Success };
            assert_eq!(world.status(id).await, expected, "round {round}, member {index}");
        }
    }
}

/// Several reclaimers at once take each claim back once.
pub async fn reclaimers_take_each_claim_once(world: World) {
    let sent = world.enqueue(60).await;
    for worker in workers(&world, 10).await {
        let worker = worker.with_lease(LEASE);
        worker.register().await.unwrap();
        assert_eq!(worker.claim(6).await.members, 6);
    }
    world.advance(LEASE * 2);
    let barrier = Arc::new(Barrier::new(5));
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let (storage, barrier) = (world.connect().await, Arc::clone(&barrier));
        tasks.push(world.spawn(async move {
            barrier.wait().await;
            storage.reclaim(&ReclaimRequest::condemning(100)).await.unwrap().messages
        }));
    }
    let mut taken: Vec<MessageId> = join(tasks).await.into_iter().flatten().map(|message| message.id).collect();
    taken.extend(world.reclaim().await.messages.into_iter().map(|message| message.id));
    taken.sort();
    assert_eq!(taken, sent);
}

/// Several promoters at once move each due message once.
pub async fn promoters_move_each_message_once(world: World) {
    world.enqueue_all((0..100).map(|_| order().after(Duration::from_secs(1))).collect()).await;
    world.advance_secs(2);
    let barrier = Arc::new(Barrier::new(5));
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let (storage, barrier) = (world.connect().await, Arc::clone(&barrier));
        tasks.push(world.spawn(async move {
            barrier.wait().await;
            storage.promote(1_000).await.unwrap().moved
        }));
    }
    let moved: u32 = join(tasks).await.iter().sum::<u32>() + world.promote().await;
    assert_eq!(moved, 100);
    assert_eq!(world.immortal().await.claim(1_000).await.messages.len(), 100);
}

/// Of several that enqueue one key at the same moment one is stored, and all others name it.
pub async fn one_of_many_wins_a_key(world: World) {
    for round in 0..10 {
        let barrier = Arc::new(Barrier::new(8));
        let mut tasks = Vec::new();
        for _ in 0..8 {
            let (storage, barrier) = (world.connect().await, Arc::clone(&barrier));
            tasks.push(world.spawn(async move {
                let batch = [checked(keyed(&format!("key-{round}")))];
                barrier.wait().await;
                storage.enqueue(&batch).await.unwrap()[0]
            }));
        }
        let answers: Vec<Enqueued> = join(tasks).await;
        let stored = answers.iter().filter(|answer| !answer.is_duplicate()).count();
        let named: HashSet<MessageId> = answers.iter().map(|answer| answer.id()).collect();
        assert_eq!((stored, named.len()), (1, 1), "{answers:?}");
    }
    assert_eq!(world.immortal().await.claim(100).await.messages.len(), 10);
}

/// Producers, workers and a purge at work together lose and double nothing.
pub async fn producers_and_workers_lose_nothing(world: World) {
    let barrier = Arc::new(Barrier::new(6));
    let mut producers = Vec::new();
    for _ in 0..3 {
        let (world, barrier) = (world.through(world.connect().await), Arc::clone(&barrier));
        producers.push(world.clone().spawn(async move {
            barrier.wait().await;
            let mut sent = Vec::new();
            for n in 1..=10 {
                sent.extend(world.enqueue(n).await);
            }
            sent
        }));
    }
    let done = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut consumers = Vec::new();
    for worker in workers(&world, 3).await {
        let (world, barrier, done) = (world.clone(), Arc::clone(&barrier), Arc::clone(&done));
        consumers.push(world.clone().spawn(async move {
            barrier.wait().await;
            loop {
                let claim = worker.claim(9).await;
                world.settle_ok(&claim).await;
                let finished = {
                    let mut done = done.lock().unwrap();
                    done.extend(ids(&claim));
                    done.len() >= 165
                };
                if finished {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }));
    }
    let mut sent: Vec<MessageId> = join(producers).await.into_iter().flatten().collect();
    join(consumers).await;
    let mut done = std::mem::take(&mut *done.lock().unwrap());
    sent.sort();
    done.sort();
    assert_eq!(done, sent);
}

/// Of several requeues of one dead letter at the same moment one brings it back.
pub async fn one_requeue_of_many_counts(world: World) {
    for _ in 0..10 {
        let id = world.dead(order()).await;
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let storage = world.connect().await;
            tasks.push(world.spawn(async move { storage.requeue(&these(&[id]), Due::Now).await.unwrap().done.len() }));
        }
        assert_eq!(join(tasks).await.iter().sum::<usize>(), 1);
        assert_eq!(ids(&world.immortal().await.claim_of(&[ORDER], 10).await), [id]);
    }
}
