//! Named leases.

use std::sync::Arc;
use std::time::Duration;

use tickr_core::{ErrorKind, Lock, Storage, WorkerId};
use tokio::sync::Barrier;

use crate::world::World;

const TTL: Duration = Duration::from_secs(10);

async fn acquire(world: &World, name: &str, holder: WorkerId) -> Option<Lock> {
    world.storage().acquire_lock(name, holder, TTL).await.unwrap()
}

/// A free lock is taken, and its answer names lock, holder and term.
pub async fn free_lock_is_taken(world: World) {
    let me = WorkerId::new();
    let lock = acquire(&world, "promote", me).await.expect("a free lock");
    assert_eq!((lock.name.as_str(), lock.holder), ("promote", me));
    assert!(lock.term > 0);
}

/// A lock that is held is not given to another.
pub async fn held_lock_is_refused(world: World) {
    acquire(&world, "promote", WorkerId::new()).await.expect("a free lock");
    assert_eq!(acquire(&world, "promote", WorkerId::new()).await, None);
}

/// Its holder may take a lock again, under the same term.
pub async fn own_lock_is_taken_again(world: World) {
    let me = WorkerId::new();
    let first = acquire(&world, "promote", me).await;
    assert_eq!(acquire(&world, "promote", me).await, first);
}

/// A lock that has expired changes hands, and its term goes up.
pub async fn expired_lock_changes_hands_with_a_new_term(world: World) {
    let old = acquire(&world, "promote", WorkerId::new()).await.expect("a free lock");
    world.advance_secs(9);
    assert_eq!(acquire(&world, "promote", WorkerId::new()).await, None);
    world.advance_secs(2);
    let new = acquire(&world, "promote", WorkerId::new()).await.expect("an expired lock");
    assert!(new.term > old.term, "{old:?} {new:?}");
}

/// A holder that takes its own lock after it expired has a new term too.
pub async fn own_expired_lock_has_a_new_term(world: World) {
    let me = WorkerId::new();
    let old = acquire(&world, "promote", me).await.expect("a free lock");
    world.advance_secs(11);
    let new = acquire(&world, "promote", me).await.expect("an expired lock");
    assert!(new.term > old.term, "{old:?} {new:?}");
    assert!(!world.storage().renew_lock(&old, TTL).await.unwrap());
}

/// A renewal extends the lock from the moment it arrives.
pub async fn renewal_extends(world: World) {
    let lock = acquire(&world, "promote", WorkerId::new()).await.expect("a free lock");
    for _ in 0..5 {
        world.advance_secs(8);
        assert!(world.storage().renew_lock(&lock, TTL).await.unwrap());
    }
    assert_eq!(acquire(&world, "promote", WorkerId::new()).await, None);
}

/// A renewal counts for its own term only: an old one, or another's, is refused and changes nothing.
pub async fn renewal_is_scoped_to_the_term(world: World) {
    let old = acquire(&world, "promote", WorkerId::new()).await.expect("a free lock");
    world.advance_secs(11);
    let new = acquire(&world, "promote", WorkerId::new()).await.expect("an expired lock");
    let forged = Lock::new(old.name.clone(), old.holder, new.term);
    assert_eq!((renew(&world, &old).await, renew(&world, &forged).await, renew(&world, &new).await), (false, false, true));
}

async fn renew(world: &World, lock: &Lock) -> bool {
    world.storage().renew_lock(lock, TTL).await.unwrap()
}

/// A lock that has expired cannot be renewed, even if nobody took it: its holder no longer knows that it is alone.
pub async fn expired_lock_cannot_be_renewed(world: World) {
    let lock = acquire(&world, "promote", WorkerId::new()).await.expect("a free lock");
    world.advance_secs(11);
    assert!(!renew(&world, &lock).await);
}

/// A lock that is given back is free, and its next term is a new one.
pub async fn released_lock_is_free(world: World) {
    let old = acquire(&world, "promote", WorkerId::new()).await.expect("a free lock");
    assert!(world.storage().release_lock(&old).await.unwrap());
    let new = acquire(&world, "promote", WorkerId::new()).await.expect("a released lock");
    assert!(new.term > old.term, "{old:?} {new:?}");
}

/// After the database's clock was set back, a lock of a dead holder ends within its own length, and a live holder keeps it.
pub async fn clock_set_back_does_not_lengthen_a_lock(world: World) {
    acquire(&world, "dead", WorkerId::new()).await.expect("a free lock");
    let live = acquire(&world, "live", WorkerId::new()).await.expect("a free lock");
    let released = acquire(&world, "released", WorkerId::new()).await.expect("a free lock");
    assert!(world.storage().release_lock(&released).await.unwrap());
    world.set_back(Duration::from_secs(3_600));
    assert!(acquire(&world, "released", WorkerId::new()).await.is_some_and(|lock| lock.term > released.term));
    for name in ["dead", "live"] {
        assert_eq!(acquire(&world, name, WorkerId::new()).await, None, "{name}: nobody can tell yet whether its holder lives");
    }
    world.advance(TTL / 2);
    assert!(renew(&world, &live).await);
    world.advance(TTL / 2);
    assert!(acquire(&world, "dead", WorkerId::new()).await.is_some());
    assert_eq!(acquire(&world, "live", WorkerId::new()).await, None);
}

/// A release of an older term gives nothing back.
pub async fn release_is_scoped_to_the_term(world: World) {
    let old = acquire(&world, "promote", WorkerId::new()).await.expect("a free lock");
    world.advance_secs(11);
    let new = acquire(&world, "promote", WorkerId::new()).await.expect("an expired lock");
    assert!(!world.storage().release_lock(&old).await.unwrap());
    assert!(renew(&world, &new).await, "still held");
}

/// A lock that nobody holds cannot be given back twice.
pub async fn release_twice_says_so(world: World) {
    let lock = acquire(&world, "promote", WorkerId::new()).await.expect("a free lock");
    assert!(world.storage().release_lock(&lock).await.unwrap());
    assert!(!world.storage().release_lock(&lock).await.unwrap());
}

/// Locks of different names have nothing to do with each other.
pub async fn names_are_independent(world: World) {
    acquire(&world, "promote", WorkerId::new()).await.expect("a free lock");
    assert!(acquire(&world, "purge", WorkerId::new()).await.is_some());
}

/// Of ten that want a lock at the same moment, one gets it.
pub async fn ten_contenders_one_winner(world: World) {
    let barrier = Arc::new(Barrier::new(10));
    let mut tasks = Vec::new();
    for _ in 0..10 {
        let (storage, barrier) = (world.connect().await, Arc::clone(&barrier));
        tasks.push(world.spawn(async move {
            barrier.wait().await;
            storage.acquire_lock("promote", WorkerId::new(), TTL).await.unwrap().is_some()
        }));
    }
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await.unwrap());
    }
    assert_eq!(winners, 1);
}

/// A lock that would expire at once is a mistake of the caller.
pub async fn lock_without_time_is_refused(world: World) {
    let refused = world.storage().acquire_lock("promote", WorkerId::new(), Duration::ZERO).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(acquire(&world, "promote", WorkerId::new()).await.is_some());
}
