//! The main job of tickr, on SQLite or PostgreSQL: messages that exist if and only if a transaction commits, a worker that
//! handles them, and what the database says afterwards.
//!
//! Read `story` below from top to bottom, then `shop.rs`: that is all that an application needs. `database/` has what differs
//! between the databases, `report.rs` prints and checks, `volume.rs` does the same job with many messages.

mod database;
mod report;
mod shop;
mod volume;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tickr::admin::StatsRequest;
use tickr::{Admin, BoxError, Client, DeadQuery, Due, Enqueued, Json, Message, MessageId, Status, Storage, json, shutdown_signal};

use database::{Connection, Database, Order, Sqlite, Transaction};
use report::{Expected, Promises, chapter, line};
use shop::{OrderPlaced, ParcelDue, PaymentDue, Shop, SurveyDue};

/// Enqueues messages inside transactions, works them off, and shows what the database says.
#[derive(Parser)]
struct Args {
    /// Which database: sqlite:PATH, or postgres://USER@HOST/DATABASE (feature `postgres`), of which it uses a schema of its own.
    /// A temporary SQLite file if none is named.
    #[arg(long)]
    url: Option<String>,
    /// The same as --url sqlite:PATH.
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    db: Option<PathBuf>,
    /// Keeps the temporary file, or the schema, for a look.
    #[arg(long)]
    keep: bool,
    /// Does it with volume: so many messages, in transactions of 500.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(promises) if promises.report() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quickstart: {}", sentence(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Opens the database that the URL names.
async fn run(args: &Args) -> Result<Promises, BoxError> {
    let Some(url) = &args.url else { return play(args, Sqlite::open(args.db.clone(), args.keep)?).await };
    // Errors show the scheme alone: the rest of a URL may hold a password.
    match url.split_once(':') {
        Some(("sqlite", path)) if path.contains(['?', '%']) => {
            Err("options and escapes of SQLite URLs are not for this; say sqlite:PATH".into())
        }
        Some(("sqlite", path)) => play(args, Sqlite::open(Some(path.strip_prefix("//").unwrap_or(path).into()), args.keep)?).await,
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => play(args, database::Postgres::open(url, args.keep).await?).await,
        #[cfg(not(feature = "postgres"))]
        Some(("postgres" | "postgresql", _)) => {
            Err("this is built without PostgreSQL; turn on its feature: cargo run -p quickstart --features postgres -- --url ...".into())
        }
        Some((scheme, _)) => Err(format!("no database is known for the scheme {scheme:?}; known are sqlite and postgres").into()),
        None => Err("the URL has no scheme; it is sqlite:PATH or postgres://USER@HOST/DATABASE".into()),
    }
}

/// Does what the arguments say, and clears up, also when it fails or is interrupted.
async fn play<D: Database>(args: &Args, database: D) -> Result<Promises, BoxError> {
    line(&format!("tickr quickstart, on {database}"));
    let play = async {
        match args.messages {
            Some(messages) => volume::run(&database, messages).await,
            None => story(&database).await,
        }
    };
    let played = tokio::select! {
        played = play => played,
        () = shutdown_signal() => Err("interrupted".into()),
    };
    let closed = database.close().await;
    let promises = played?;
    closed?;
    Ok(promises)
}

/// An error in one line. Drivers have the reason among the causes ("db error"); what comes from tickr says it itself.
fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = if error.is::<tickr::Error>() { None } else { error.source() };
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.replace('\n', ", ")
}

const SURVEY_DELAY: Duration = Duration::from_secs(1);

/// Three orders: Ada's is committed, Bob's is rolled back, Cleo's is committed by a transaction that met a duplicate.
async fn story(database: &impl Database) -> Result<Promises, BoxError> {
    const ADA: Order = Order { customer: "Ada", item: "a lamp", address: Some("Elm Street 1"), wants_mail: true };
    const BOB: Order = Order { customer: "Bob", item: "a chair", address: Some("Oak Street 2"), wants_mail: true };
    const CLEO: Order = Order { customer: "Cleo", item: "a desk", address: None, wants_mail: false };

    // The queue lives in the application's own database: here, tables beside `orders`.
    let storage = database.storage();
    storage.migrate().await?;
    let client = Client::new(storage.clone());
    let since = storage.now().await?;

    // The application's own connection, and below its own transactions: rusqlite's or tokio-postgres's.
    let mut db = database.connect().await?;

    chapter("1. A message commits with the row that it is about");
    let mut tx = db.begin().await?;
    let order = tx.insert(&ADA).await?;
    let ada_order = order;
    let ada = [
        client.enqueue_in(&mut tx, placed(order)?).await?.id(),
        client.enqueue_in(&mut tx, Json(PaymentDue { order, cents: 49_00 })).await?.id(),
        client.enqueue_in(&mut tx, json::message(&SurveyDue { order })?.after(SURVEY_DELAY)).await?.id(),
    ];
    tx.commit().await?;
    line("Ada    the order and its 3 messages are committed; one of them is due in a second");

    let mut tx = db.begin().await?;
    let order = tx.insert(&BOB).await?;
    let bob = client.enqueue_in(&mut tx, placed(order)?).await?.id();
    tx.rollback().await?;
    line("Bob    the order and its message are rolled back: neither exists");

    // A duplicate is a value, not an error, so the transaction can go on. A key that was rolled back is free again: SQLite
    // gives Cleo's order the number of Bob's.
    let mut tx = db.begin().await?;
    let again = client.enqueue_in(&mut tx, placed(ada_order)?).await?;
    let order = tx.insert(&CLEO).await?;
    let cleo = [
        client.enqueue_in(&mut tx, placed(order)?).await?.id(),
        client.enqueue_in(&mut tx, Json(ParcelDue { order })).await?.id(),
        client.enqueue_in(&mut tx, Json(SurveyDue { order })).await?.id(),
    ];
    tx.commit().await?;
    line("Ada    her idempotency key again: a duplicate, which is a value, so the transaction goes on");
    line("Cleo   that same transaction commits an order and its 3 messages");
    let mut depths = vec![("enqueued", storage.stats(&StatsRequest::default()).await?)];

    chapter("2. A worker calls the handlers");
    let shop = Shop::new(database.orders().await?);
    let worker = shop::worker(storage.clone(), shop.clone())?;
    let all = [ada, cleo].concat();
    worker.run_until(finished(&storage, &all)).await?;
    depths.push(("worked off", storage.stats(&StatsRequest::default()).await?));
    let dead = storage.list_dead(&DeadQuery::default()).await?.items;

    chapter("3. Somebody looks at the dead letter, repairs its cause, and requeues it");
    db.set_address(order, "Pine Street 3").await?;
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
    report::orders(db.latest(10).await?);
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

/// That an order was placed is said once, however often it is enqueued: its idempotency key is the order's.
fn placed(order: i64) -> tickr::Result<Message> {
    Ok(json::message(&OrderPlaced { order })?.idempotency_key(format!("order-{order}")))
}

/// Waits until all messages have succeeded or died, or 20 seconds have passed: the report then says what is wrong.
async fn finished(storage: &impl Admin, messages: &[MessageId]) {
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
