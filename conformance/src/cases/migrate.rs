//! The schema: made by whoever is first, kept by all others.

use std::sync::Arc;

use tickr_core::{ErrorKind, Migrated, SchemaStatus, Status, Storage};
use tokio::sync::Barrier;

use crate::world::{World, ids};

/// A database without schema is named as such, with what to do, and is not changed by looking.
pub async fn missing_schema_is_named(world: World) {
    let fresh = world.unmigrated().await;
    for _ in 0..2 {
        let status = fresh.storage().schema().await.unwrap();
        assert!(matches!(status, SchemaStatus::Missing { .. }), "{status:?}");
        let error = status.usable().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Migration);
        assert!(error.to_string().contains("migrate"), "{error}");
    }
}

/// Without schema an operation fails with Migration, rather than with the database's own words.
pub async fn operations_without_schema_say_so(world: World) {
    let fresh = world.unmigrated().await;
    assert_eq!(fresh.try_enqueue(vec![crate::world::order()]).await.unwrap_err().kind(), ErrorKind::Migration);
    assert!(matches!(fresh.storage().schema().await.unwrap(), SchemaStatus::Missing { .. }));
}

/// A migration brings the schema from nothing to the version that this library makes.
pub async fn brings_the_schema_up(world: World) {
    let fresh = world.unmigrated().await;
    let newest = fresh.storage().migrations().last().expect("migrations").version;
    let migrated = fresh.storage().migrate().await.unwrap();
    assert_eq!((migrated.from, migrated.to), (0, newest));
    assert_eq!(fresh.storage().schema().await.unwrap(), SchemaStatus::Current { version: newest });
    let (_, claim) = fresh.claimed(2).await;
    fresh.settle_ok(&claim).await;
}

/// Ten processes that migrate at once all succeed, and the schema is made once.
pub async fn ten_at_once(world: World) {
    let fresh = world.unmigrated().await;
    let barrier = Arc::new(Barrier::new(10));
    let mut tasks = Vec::new();
    for _ in 0..10 {
        let (storage, barrier) = (fresh.connect().await, Arc::clone(&barrier));
        tasks.push(world.spawn(async move {
            barrier.wait().await;
            storage.migrate().await
        }));
    }
    let newest = fresh.storage().migrations().last().expect("migrations").version;
    let mut from_nothing = 0;
    for task in tasks {
        let migrated = task.await.unwrap().expect("a migration beside others");
        assert_eq!(migrated.to, newest);
        from_nothing += usize::from(migrated.from == 0);
    }
    assert_eq!(from_nothing, 1, "the schema was made by several");
    let (_, claim) = fresh.claimed(2).await;
    fresh.settle_ok(&claim).await;
}

/// Migrating what is migrated changes nothing.
pub async fn again_is_a_no_op(world: World) {
    let SchemaStatus::Current { version } = world.storage().schema().await.unwrap() else { panic!("a migrated database") };
    assert_eq!(world.storage().migrate().await.unwrap(), Migrated::new(version));
}

/// Migrating a database in use keeps what is in it, leases included.
pub async fn keeps_data(world: World) {
    let (_, claim) = world.claimed(2).await;
    let ready = world.enqueue(1).await[0];
    world.connect().await.migrate().await.unwrap();
    world.settle_ok(&claim).await;
    world.assert_status(&ids(&claim), Status::Success).await;
    assert_eq!(world.status(ready).await, Status::Created);
}

/// The migrations can be printed: numbered from 1 without gaps, named, with their statements.
pub async fn migrations_can_be_printed(world: World) {
    let migrations = world.storage().migrations();
    assert!(!migrations.is_empty());
    for (version, migration) in (1..).zip(migrations) {
        assert_eq!(migration.version, version);
        assert!(!migration.name.trim().is_empty() && !migration.sql.trim().is_empty(), "{migration:?}");
    }
}
