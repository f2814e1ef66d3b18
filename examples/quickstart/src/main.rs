//! The main job of tickr, on SQLite: messages that exist if and only if a transaction commits, a worker that handles them,
//! and what the database says afterwards.
//!
//! Read this file from top to bottom, then `shop.rs`: that is all that an application needs. `report.rs` prints and checks,
//! `volume.rs` does the same job with many messages.

mod report;
mod shop;
mod volume;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tickr::sqlite::SqliteStorage;
use tickr::{Admin, BoxError, Client, DeadQuery, Due, Enqueued, Json, MessageId, StatsRequest, Status, Storage, json};

use report::{Expected, Promises, chapter, line};
use shop::{Order, OrderPlaced, ParcelDue, PaymentDue, Shop, SurveyDue};

/// Enqueues messages inside transactions, works them off, and shows what the database says.
#[derive(Debug, Parser)]
struct Args {
    /// Keeps the database in this file, instead of a temporary one.
    #[arg(long, value_name = "PATH")]
    db: Option<PathBuf>,
    /// Does it with volume: so many messages, in transactions of 500.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(promises) if promises.report() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<Promises, BoxError> {
    let folder = tempfile::Builder::new().prefix("tickr-quickstart-").tempdir()?;
    let path = args.db.unwrap_or_else(|| folder.path().join("shop.db"));
    line(&format!("tickr quickstart, on SQLite in {}", path.display()));
    match args.messages {
        Some(messages) => volume::run(&path, messages).await,
        None => story(&path).await,
    }
}

const SURVEY_DELAY: Duration = Duration::from_secs(1);

/// Three orders: Ada's is committed, Bob's is rolled back, Cleo's is committed by a transaction that met a duplicate.
async fn story(path: &Path) -> Result<Promises, BoxError> {
    const ADA: Order = Order { customer: "Ada", item: "a lamp", address: Some("Elm Street 1"), wants_mail: true };
    const BOB: Order = Order { customer: "Bob", item: "a chair", address: Some("Oak Street 2"), wants_mail: true };
    const CLEO: Order = Order { customer: "Cleo", item: "a desk", address: None, wants_mail: false };

    // The queue lives in the application's own database: here, tables beside `orders` in one file.
    let storage = SqliteStorage::open(path)?;
    storage.migrate().await?;
    let client = Client::new(storage.clone());
    let mut db = shop::open(path)?;
    let since = storage.now().await?;

    chapter("1. A message commits with the row that it is about");
    let mut tx = db.transaction()?;
    let order = ADA.insert(&tx)?;
    let key = format!("order-{order}");
    let ada = [
        client.enqueue_in(&mut tx, json::message(&OrderPlaced { order })?.idempotency_key(&key)).await?.id(),
        client.enqueue_in(&mut tx, Json(PaymentDue { order, cents: 49_00 })).await?.id(),
        client.enqueue_in(&mut tx, json::message(&SurveyDue { order })?.after(SURVEY_DELAY)).await?.id(),
    ];
    tx.commit()?;
    line("Ada    the order and its 3 messages are committed; one of them is due in a second");

    let mut tx = db.transaction()?;
    let order = BOB.insert(&tx)?;
    let bob = client.enqueue_in(&mut tx, Json(OrderPlaced { order })).await?.id();
    tx.rollback()?;
    line("Bob    the order and its message are rolled back: neither exists");

    // A duplicate is a value, not an error, so the transaction can go on. The key of an order that was rolled back is free.
    let mut tx = db.transaction()?;
    let again = client.enqueue_in(&mut tx, json::message(&OrderPlaced { order })?.idempotency_key(&key)).await?;
    let order = CLEO.insert(&tx)?;
    let cleo = [
        client.enqueue_in(&mut tx, json::message(&OrderPlaced { order })?.idempotency_key(format!("order-{order}"))).await?.id(),
        client.enqueue_in(&mut tx, Json(ParcelDue { order })).await?.id(),
        client.enqueue_in(&mut tx, Json(SurveyDue { order })).await?.id(),
    ];
    tx.commit()?;
    line(&format!("Ada    her idempotency key {key} again: a duplicate, which is a value, so the transaction goes on"));
    line("Cleo   that same transaction commits an order and its 3 messages");
    let mut depths = vec![("enqueued", storage.stats(&StatsRequest::default()).await?)];

    chapter("2. A worker calls the handlers");
    let shop = Shop::new(shop::open(path)?);
    let worker = shop::worker(storage.clone(), shop.clone())?;
    let all = [ada, cleo].concat();
    worker.run_until(finished(&storage, &all)).await?;
    depths.push(("worked off", storage.stats(&StatsRequest::default()).await?));
    let dead = storage.list_dead(&DeadQuery::default()).await?.items;

    chapter("3. Somebody looks at the dead letter, repairs its cause, and requeues it");
    db.execute("UPDATE orders SET address = 'Pine Street 3' WHERE id = ?1", [order])?;
    let requeued = storage.requeue(&cleo[1].into(), Due::Now).await?;
    worker.run_until(finished(&storage, &all)).await?;
    depths.push(("repaired", storage.stats(&StatsRequest::default()).await?));

    chapter("4. What the database says");
    const DONE: &str = "CREATED HANDLING SUCCESS";
    const TWICE_FAILED: &str = "CREATED HANDLING FAILED RETRYING HANDLING FAILED RETRYING HANDLING SUCCESS";
    const REPAIRED: &str = "CREATED HANDLING DEAD CREATED HANDLING SUCCESS";
    let expected = [
        Expected { id: ada[0], of: "Ada", calls: 1, path: DONE },
        Expected { id: ada[1], of: "Ada", calls: 3, path: TWICE_FAILED },
        Expected { id: ada[2], of: "Ada", calls: 1, path: DONE },
        Expected { id: cleo[0], of: "Cleo", calls: 1, path: DONE },
        Expected { id: cleo[1], of: "Cleo", calls: 2, path: REPAIRED },
        Expected { id: cleo[2], of: "Cleo", calls: 1, path: DONE },
    ];
    report::orders(&db)?;
    report::messages(&storage, &expected).await?;
    report::histories(&storage, &expected, since).await?;
    report::statistics(&depths);

    let mut promises = Promises::default();
    promises.atomic(&db, &storage, &expected, bob, since).await?;
    promises.check("a duplicate names the message that has the key", again, Enqueued::Duplicate { existing: ada[0] });
    promises.on_time(&storage, ada[2]).await?;
    promises.backed_off(&storage, ada[1], shop::PAYMENT_RETRY).await?;
    let reason = dead.iter().find(|letter| letter.id == cleo[1]).map(|letter| letter.reason.as_str());
    promises.check("a dead letter waits with its reason, until somebody requeues it", reason, Some("the address is missing"));
    promises.check("the requeue says what it did", requeued.done, vec![cleo[1]]);
    promises.histories(&storage, &shop, &expected).await?;
    promises.sound(&storage).await?;
    Ok(promises)
}

/// Waits until all messages have succeeded or died, or 20 seconds have passed: the report then says what is wrong.
async fn finished(storage: &SqliteStorage, messages: &[MessageId]) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..1_000 {
        tick.tick().await;
        let mut open = 0;
        for &id in messages {
            let record = storage.get(id).await.ok().flatten();
            open += usize::from(record.is_none_or(|record| !matches!(record.status, Status::Success | Status::Dead)));
        }
        if open == 0 {
            return;
        }
    }
}
