//! What a storage says of itself.

use tickr_core::{ErrorKind, Storage};

use crate::harness::TxStep;
use crate::world::World;

/// What was left out of the suite is exactly what the capabilities say that the storage cannot do, and the other way round.
pub async fn are_the_declared_ones(world: World) {
    let capabilities = world.capabilities();
    let schemaless = world.storage().migrations().is_empty();
    for (what, can) in [
        ("tx::commit_keeps", capabilities.transactions),
        ("tx::savepoint_rollback_discards", capabilities.transactions && capabilities.savepoints),
        ("notify::enqueue_in_starts_a_burst", capabilities.transactions),
        ("notify::other_handles_are_woken", capabilities.notify),
        ("migrate::ten_at_once", !schemaless),
    ] {
        assert!(can || world.leaves_out(what), "{capabilities:?} cannot do {what}: leave it out, and say why");
        assert!(!can || !world.leaves_out(what), "{capabilities:?} can do {what}, which was left out: test it");
    }
}

/// A storage has a notifier if and only if it says so.
pub async fn notifier_is_there_when_declared(world: World) {
    assert_eq!(world.capabilities().notify, world.storage().notifier().is_some());
}

/// Transactions run if and only if the storage says that they do.
pub async fn transactions_run_when_declared(world: World) {
    let outcome = world.run_tx(vec![TxStep::Commit]).await;
    let unsupported = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unsupported);
    assert_eq!(world.capabilities().transactions, !unsupported, "{outcome:?}");
}

/// The name of the storage is a word that labels can carry.
pub async fn name_is_a_label(world: World) {
    let name = world.capabilities().name;
    assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_'), "{name:?}");
}

/// Stored times are at least as precise as they are said to be.
pub async fn time_precision_is_kept(world: World) {
    let precision = world.capabilities().time_precision;
    let before = world.now().await;
    let id = world.enqueue(1).await[0];
    let after = world.now().await;
    let created_at = world.record(id).await.stored.created_at;
    assert!(created_at >= before.before(precision) && created_at <= after.after(precision), "{before} {created_at} {after}");
}
