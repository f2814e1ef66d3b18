//! Transactions of the application on the storage's own thread.

use rusqlite::Connection;
use tickr_core::{BoxError, Client, Context, ErrorKind, Failure, Hint, Message, Outcome, State, StatsRequest, Status, Storage, Worker};
use tickr_sqlite::{SqliteStorage, Transactions, Tx};

use crate::{Database, order};

async fn shop() -> (Database, Client<SqliteStorage>, Connection) {
    let (database, storage) = Database::migrated().await;
    let connection = database.connection();
    connection.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY, shipped INTEGER NOT NULL DEFAULT 0)").unwrap();
    (database, Client::new(storage), connection)
}

async fn created(client: &Client<SqliteStorage>) -> u64 {
    client.storage().stats(&StatsRequest::default()).await.unwrap().total(Status::Created).n
}

fn orders(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap()
}

fn place(tx: &mut Tx<'_>) -> Result<i64, BoxError> {
    tx.execute("INSERT INTO orders DEFAULT VALUES", [])?;
    let id = tx.last_insert_rowid();
    tx.enqueue(Message::new("order", id.to_string()))?;
    Ok(id)
}

#[tokio::test]
async fn business_row_and_message_share_their_fate() {
    let (_database, client, connection) = shop().await;
    let wakeups = client.storage().wakeups().subscribe([&order()]);
    assert_eq!(client.transaction(place).await.unwrap(), 1);
    assert_eq!((orders(&connection), created(&client).await), (1, 1));
    assert_eq!(wakeups.take(), Some(Hint::Ready), "workers are woken after the commit");
    let refused: Result<(), BoxError> = client
        .transaction(|tx| {
            place(tx)?;
            Err("sold out".into())
        })
        .await;
    assert_eq!(refused.unwrap_err().to_string(), "sold out");
    assert_eq!((orders(&connection), created(&client).await), (1, 1));
}

#[expect(clippy::disallowed_methods, reason = "a task says that it panicked")]
#[tokio::test]
async fn a_panic_rolls_back_and_goes_on_in_the_caller() {
    let (_database, client, connection) = shop().await;
    let of_caller = client.clone();
    let panicking = tokio::spawn(async move {
        of_caller
            .transaction(|tx| -> Result<(), BoxError> {
                place(tx)?;
                panic!("on purpose, by a test")
            })
            .await
    });
    assert!(panicking.await.unwrap_err().is_panic());
    assert_eq!((orders(&connection), created(&client).await), (0, 0));
    client.transaction(place).await.unwrap();
    assert_eq!((orders(&connection), created(&client).await), (1, 1), "the thread goes on");
}

/// Nobody waits for its answer, so that the thread drops it, and then what it panics with, which panics too.
#[tokio::test]
async fn a_value_that_panics_when_it_is_dropped_does_not_end_the_thread() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }
    let (_database, client, connection) = shop().await;
    let bomb = Bomb;
    drop(client.transaction(move |_| Ok::<_, BoxError>(bomb)));
    client.transaction(place).await.unwrap();
    assert_eq!((orders(&connection), created(&client).await), (1, 1));
}

#[tokio::test]
async fn a_message_that_is_refused_leaves_the_transaction_to_the_caller() {
    let (_database, client, connection) = shop().await;
    let kept = client.transaction(|tx| {
        place(tx)?;
        let refused = tx.enqueue(Message::new("", "")).unwrap_err();
        Ok::<_, BoxError>(refused.kind())
    });
    assert_eq!(kept.await.unwrap(), ErrorKind::Config);
    assert_eq!((orders(&connection), created(&client).await), (1, 1));
}

/// Somebody else holds the lock: the transaction waits as long as the busy timeout, and says that nothing was written.
#[tokio::test]
async fn a_lock_that_cannot_be_had_is_unavailable() {
    let (database, client, mut connection) = shop().await;
    let storage = SqliteStorage::builder().path(database.path()).busy_timeout(std::time::Duration::from_millis(50)).build().unwrap();
    let impatient = Client::new(storage);
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let refused = impatient.transaction(|tx| -> tickr_core::Result<()> { tx.enqueue(Message::new("order", "")).map(drop) }).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(tx);
    impatient.transaction(place).await.unwrap();
    assert_eq!(created(&client).await, 1);
}

/// The handler that is written most: it changes a row, and enqueues what follows, in one transaction.
#[tokio::test]
async fn a_handler_writes_its_row_and_what_follows_in_one_transaction() {
    async fn ship(context: Context, State(client): State<Client<SqliteStorage>>) -> Result<Outcome, Failure> {
        let order: i64 = std::str::from_utf8(context.payload())?.parse()?;
        let fails = context.attempt() == 1;
        client
            .transaction(move |tx| {
                if tx.execute("UPDATE orders SET shipped = shipped + 1 WHERE id = ?1 AND shipped = 0", [order])? == 0 {
                    return Ok(Outcome::skip("shipped before"));
                }
                tx.enqueue(Message::new("order.shipped", order.to_string()))?;
                if fails { Err(Failure::retry_after(std::time::Duration::ZERO, "on purpose, by a test")) } else { Ok(Outcome::Done) }
            })
            .await
    }
    let (_database, client, connection) = shop().await;
    client.transaction(place).await.unwrap();
    let storage = client.storage().clone();
    let worker = Worker::builder(storage.clone()).state(client).on("order", ship).build().unwrap();
    let report = worker.run_until_idle().await.unwrap();
    assert_eq!((report.retried, report.succeeded), (1, 1));
    let shipped: i64 = connection.query_row("SELECT shipped FROM orders", [], |row| row.get(0)).unwrap();
    let stats = storage.stats(&StatsRequest::default()).await.unwrap();
    assert_eq!((shipped, stats.of("order.shipped").unwrap().created.n), (1, 1), "the failed attempt left nothing behind");
}
