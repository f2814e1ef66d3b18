//! Ten thousand random operations, against the model.

use tickr_core::Timestamp;

use crate::simulation::Run;
use crate::world::World;

/// Whatever is done in whatever order, every message is where the protocol says, and the invariants I1 and I2 hold.
pub async fn mask_invariant(world: World) {
    let seed = seed();
    let mut run = Run::new(world, seed);
    for _ in 0..2 {
        run.add_worker().await;
    }
    for step in 1..=operations() {
        run.step().await;
        if step % 1_000 == 0 {
            run.check().await;
        }
    }
    run.drain().await;
    run.check().await;
}

/// `TICKR_SEED` repeats a run.
fn seed() -> u64 {
    let given = std::env::var("TICKR_SEED").ok().map(|text| text.parse().expect("TICKR_SEED is a number"));
    given.unwrap_or_else(|| Timestamp::now().as_micros().unsigned_abs())
}

/// `TICKR_OPERATIONS` makes a run longer or shorter.
fn operations() -> u32 {
    std::env::var("TICKR_OPERATIONS").map_or(10_000, |text| text.parse().expect("TICKR_OPERATIONS is a number"))
}
