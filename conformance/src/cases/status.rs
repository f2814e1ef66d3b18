//! One message: where it stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tickr_core::{Admin, MessageId, Status};

use crate::world::{World, each, failed, failed_for, ids, ok, order, with};

/// A message that was never stored is not found, rather than a success.
pub async fn unknown_message_is_none(world: World) {
    assert_eq!(world.find(MessageId::new()).await, None);
}

/// A leased message names its worker and the running attempt.
pub async fn leased_message_names_its_worker(world: World) {
    let (_, claim) = world.claimed(1).await;
    let record = world.record(ids(&claim)[0]).await;
    assert_eq!((record.status, record.attempt, record.worker.as_deref()), (Status::Handling, 1, Some("host-1")));
    assert_eq!((record.due_at, record.finished_at), (None, None));
}

/// A message that waits again names no worker, but its last error.
pub async fn waiting_message_names_no_worker(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle(with(&claim, 0, failed("boom"))).await;
    let record = world.record(ids(&claim)[0]).await;
    assert_eq!((record.worker, record.finished_at, record.last_error.as_deref()), (None, None, Some("boom")));
}

/// Of several errors the newest is told.
pub async fn newest_error_is_told(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.settle(with(&claim, 0, failed("first"))).await;
    world.settle(with(&worker.claim(1).await, 0, failed("second"))).await;
    assert_eq!(world.record(ids(&claim)[0]).await.last_error.as_deref(), Some("second"));
}

/// A success and a death have a time of the database.
pub async fn finished_messages_have_a_time(world: World) {
    let before = world.now().await.before(Duration::from_millis(1));
    let (_, claim) = world.claimed(1).await;
    world.settle_ok(&claim).await;
    let dead = world.dead(order()).await;
    let after = world.now().await.after(Duration::from_millis(1));
    for id in [ids(&claim)[0], dead] {
        let finished_at = world.record(id).await.finished_at.expect("a time");
        assert!(finished_at >= before && finished_at <= after, "{finished_at:?}");
    }
}

/// A message whose first attempt was given back is CREATED again.
pub async fn given_back_first_attempt_is_created(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle(each(&claim, &crate::world::released("shutdown"))).await;
    assert_eq!(world.status(ids(&claim)[0]).await, Status::Created);
}

/// A message on the move is never absent, nor a success: a status is read in one snapshot.
pub async fn during_move_is_never_success(world: World) {
    let id = world.enqueue(1).await[0];
    let (looks, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let reader = {
        let (reader, looks, stop) = (world.connect().await, Arc::clone(&looks), Arc::clone(&stop));
        world.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let record = reader.get(id).await.unwrap().expect("a message on the move was absent");
                assert_ne!(record.status, Status::Success, "a message on the move was a success");
                looks.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        })
    };
    let worker = world.immortal().await;
    for round in 0..60 {
        let seen = looks.load(Ordering::SeqCst);
        let claim = worker.claim(1).await;
        let outcome = if round % 2 == 0 { failed("boom") } else { failed_for("boom", Duration::from_secs(1)) };
        world.settle(each(&claim, &outcome)).await;
        if round % 2 == 1 {
            world.advance_secs(2);
            world.promote().await;
        }
        if round % 10 == 9 {
            world.kill(&[id]).await;
            world.requeue(&[id]).await;
        }
        while looks.load(Ordering::SeqCst) == seen && !reader.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    reader.await.unwrap();
}

/// Settling one member does not change what its neighbours read.
pub async fn neighbours_keep_their_status(world: World) {
    let (_, claim) = world.claimed(3).await;
    world.settle(ok(&claim, [1])).await;
    assert_eq!(world.status(ids(&claim)[0]).await, Status::Handling);
    assert_eq!(world.status(ids(&claim)[1]).await, Status::Success);
    assert_eq!(world.status(ids(&claim)[2]).await, Status::Handling);
}
