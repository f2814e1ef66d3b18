//! Orders out of nothing, so that dashboards show something.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::shop::{Card, NewOrder, Shop};

const ITEMS: [&str; 4] = ["a lamp", "a chair", "a desk", "a clock"];

/// Places so many orders a second, until it is dropped: of twenty, two have a flaky card and one is declined.
pub(crate) async fn place(shop: Arc<dyn Shop>, per_second: u32) {
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let card = match fastrand::u8(..20) {
            0 => Card::Declined,
            1 | 2 => Card::Flaky,
            _ => Card::Good,
        };
        let item = fastrand::choice(ITEMS).unwrap_or("a lamp").to_owned();
        if let Err(error) = shop.place(NewOrder { item, card }).await {
            tracing::warn!(%error, "an order could not be placed");
        }
    }
}
