//! The map under the whole suite.

use std::time::Duration;

use adapter_example::MapStorage;
use tickr_conformance::Harness;
use tickr_core::{AnyAdmin, BoxError, ClockOffset};

struct Map {
    storage: MapStorage,
    clock: ClockOffset,
}

impl Harness for Map {
    async fn create() -> Result<Self, BoxError> {
        let clock = ClockOffset::default();
        Ok(Self { storage: MapStorage::new(clock.clone()), clock })
    }

    fn storage(&self) -> AnyAdmin {
        AnyAdmin::new(self.storage.clone())
    }

    async fn connect(&self) -> Result<AnyAdmin, BoxError> {
        Ok(AnyAdmin::new(self.storage.other_handle()))
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn set_back(&self, by: Duration) {
        self.clock.set_back(by);
    }

    async fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }
}

tickr_conformance::suite!(Map, without: [
    tx = "a map has no transactions that an application could join",
    notify::enqueue_in_starts_a_burst = "a map has no transactions that an application could join",
    notify::other_handles_are_woken = "a map has nothing like LISTEN",
    migrate = "a map has no schema",
    audit = "the harness does not damage the map",
]);
