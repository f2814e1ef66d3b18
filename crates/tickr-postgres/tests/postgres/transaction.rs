//! Enqueueing in the application's own transaction, of the driver and of the pool.

use std::time::Duration;

use tickr_core::{Client, Context, Enqueued, ErrorKind, Failure, Message, Outcome, Retry, State, StatsRequest, Status, Storage};
use tickr_postgres::{InTransaction, PostgresStorage, deadpool_postgres, tokio_postgres};
use tokio_postgres::IsolationLevel;

use super::support::{Database, Ran, eventually, message, sound, value, worker};

async fn shop() -> (Database, PostgresStorage) {
    let (database, storage) = Database::migrated().await;
    database.client().await.batch_execute("CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY)").await.unwrap();
    (database, storage)
}

async fn orders(database: &Database) -> String {
    value(&database.client().await, "SELECT count(*) FROM orders").await.unwrap()
}

async fn created(storage: &PostgresStorage) -> u64 {
    storage.stats(&StatsRequest::default()).await.unwrap().total(Status::Created).n
}

const ORDER_PLACED: &str = "INSERT INTO orders DEFAULT VALUES";

/// A connection as each library makes it.
async fn driver(database: &Database) -> tokio_postgres::Client {
    database.client().await
}

async fn pool(database: &Database) -> deadpool_postgres::Object {
    database.pool(2).get().await.unwrap()
}

/// The same promises for the transactions of both libraries.
macro_rules! promises {
    ($library:ident) => {
        mod $library {
            use super::*;

            #[tokio::test]
            async fn business_row_and_message_share_their_fate() {
                let (database, storage) = shop().await;
                let client = Client::new(storage.clone());
                let mut connection = super::$library(&database).await;
                for commit in [true, false] {
                    let mut tx = connection.transaction().await.unwrap();
                    tx.execute(ORDER_PLACED, &[]).await.unwrap();
                    client.enqueue_in(&mut tx, message("1")).await.unwrap();
                    assert_eq!(created(&storage).await, u64::from(!commit), "nobody else sees it before the commit");
                    if commit {
                        tx.commit().await.unwrap();
                    } else {
                        tx.rollback().await.unwrap();
                    }
                    assert_eq!((orders(&database).await.as_str(), created(&storage).await), ("1", 1));
                }
                sound(&storage).await;
            }

            #[tokio::test]
            async fn duplicate_at_read_committed_is_a_value_and_the_transaction_goes_on() {
                let (database, storage) = shop().await;
                let client = Client::new(storage.clone());
                let first = client.enqueue(message("1").idempotency_key("k")).await.unwrap();
                let mut connection = super::$library(&database).await;
                let mut tx = connection.transaction().await.unwrap();
                let again = client.enqueue_in(&mut tx, message("2").idempotency_key("k")).await.unwrap();
                assert_eq!(again, Enqueued::Duplicate { existing: first.id() });
                tx.execute(ORDER_PLACED, &[]).await.unwrap();
                client.enqueue_in(&mut tx, message("3")).await.unwrap();
                tx.commit().await.unwrap();
                assert_eq!((orders(&database).await.as_str(), created(&storage).await), ("1", 2));
            }

            #[tokio::test]
            async fn duplicate_behind_the_snapshot_says_retry_transaction_and_is_a_duplicate_then() {
                let (database, storage) = shop().await;
                let client = Client::new(storage.clone());
                let mut connection = super::$library(&database).await;
                for (isolation, key) in [(IsolationLevel::RepeatableRead, "a"), (IsolationLevel::Serializable, "b")] {
                    let mut tx = connection.build_transaction().isolation_level(isolation).start().await.unwrap();
                    tx.execute(ORDER_PLACED, &[]).await.unwrap();
                    let first = client.enqueue(message("meanwhile").idempotency_key(key)).await.unwrap();
                    let error = client.enqueue_in(&mut tx, message("late").idempotency_key(key)).await.unwrap_err();
                    assert_eq!((error.kind(), error.retry()), (ErrorKind::Conflict, Retry::Transaction), "{error}");
                    assert!(error.to_string().contains("could not serialize access"), "{error}");
                    tx.rollback().await.unwrap();

                    let mut tx = connection.build_transaction().isolation_level(isolation).start().await.unwrap();
                    tx.execute(ORDER_PLACED, &[]).await.unwrap();
                    let again = client.enqueue_in(&mut tx, message("late").idempotency_key(key)).await.unwrap();
                    assert_eq!(again, Enqueued::Duplicate { existing: first.id() });
                    tx.commit().await.unwrap();
                }
                assert_eq!((orders(&database).await.as_str(), created(&storage).await), ("2", 2));
            }

            #[tokio::test]
            async fn savepoint_rollback_takes_its_messages_and_keys_along() {
                let (database, storage) = shop().await;
                let client = Client::new(storage.clone());
                let mut connection = super::$library(&database).await;
                let mut tx = connection.transaction().await.unwrap();
                client.enqueue_in(&mut tx, message("kept")).await.unwrap();
                let mut savepoint = tx.savepoint("item").await.unwrap();
                client.enqueue_in(&mut savepoint, message("undone").idempotency_key("k")).await.unwrap();
                savepoint.rollback().await.unwrap();
                let again = client.enqueue_in(&mut tx, message("again").idempotency_key("k")).await.unwrap();
                assert!(!again.is_duplicate());
                tx.commit().await.unwrap();
                assert_eq!(created(&storage).await, 2);
                sound(&storage).await;
            }

            #[tokio::test]
            async fn crossed_keys_say_retry_transaction_to_one_of_two() {
                let (database, storage) = shop().await;
                let client = Client::new(storage.clone());
                for (isolation, a, b) in [(IsolationLevel::ReadCommitted, "a1", "b1"), (IsolationLevel::RepeatableRead, "a2", "b2")] {
                    let (mut one, mut two) = (super::$library(&database).await, super::$library(&database).await);
                    let mut one = one.build_transaction().isolation_level(isolation).start().await.unwrap();
                    let mut two = two.build_transaction().isolation_level(isolation).start().await.unwrap();
                    client.enqueue_in(&mut one, message("1").idempotency_key(a)).await.unwrap();
                    client.enqueue_in(&mut two, message("2").idempotency_key(b)).await.unwrap();
                    // Each waits for the other; the one that is refused must let go for the other to go on.
                    let first = async {
                        let crossed = client.enqueue_in(&mut one, message("3").idempotency_key(b)).await;
                        if crossed.is_ok() { one.commit().await } else { one.rollback().await }.unwrap();
                        crossed
                    };
                    let second = async {
                        let crossed = client.enqueue_in(&mut two, message("4").idempotency_key(a)).await;
                        if crossed.is_ok() { two.commit().await } else { two.rollback().await }.unwrap();
                        crossed
                    };
                    let (first, second) = tokio::join!(first, second);
                    let errors: Vec<_> = [first, second].into_iter().filter_map(Result::err).collect();
                    let [error] = &errors[..] else { panic!("one of two is refused: {errors:?}") };
                    assert_eq!((error.kind(), error.retry()), (ErrorKind::Conflict, Retry::Transaction), "{error}");
                    assert!(error.to_string().contains("deadlock detected"), "{error}");
                }
                sound(&storage).await;
            }

            #[tokio::test]
            async fn aborted_transaction_says_retry_transaction() {
                let (database, storage) = shop().await;
                let mut connection = super::$library(&database).await;
                let mut tx = connection.transaction().await.unwrap();
                tx.batch_execute("SELECT 1 / 0").await.unwrap_err();
                let error = Client::new(storage).enqueue_in(&mut tx, message("1")).await.unwrap_err();
                assert_eq!((error.kind(), error.retry()), (ErrorKind::Conflict, Retry::Transaction), "{error}");
                assert!(error.to_string().contains("an earlier statement of your transaction failed"), "{error}");
            }

            #[tokio::test]
            async fn assumed_transaction_is_checked() {
                let (database, storage) = shop().await;
                let client = Client::new(storage.clone());
                let mut connection = super::$library(&database).await;
                let error = InTransaction::assume(&mut connection).await.unwrap_err();
                assert_eq!((error.kind(), error.retry()), (ErrorKind::Config, Retry::Never));
                assert!(error.to_string().contains("not inside a transaction"), "{error}");
                for (end, expected) in [("ROLLBACK", 0), ("COMMIT", 1)] {
                    connection.batch_execute("BEGIN").await.unwrap();
                    let mut tx = InTransaction::assume(&mut connection).await.unwrap();
                    assert!(!client.enqueue_in(&mut tx, message("1")).await.unwrap().is_duplicate());
                    connection.batch_execute(end).await.unwrap();
                    assert_eq!(created(&storage).await, expected);
                }
            }
        }
    };
}

promises!(driver);
promises!(pool);

/// Whatever the database's default is, every transaction of tickr's own says by itself what it needs.
#[tokio::test(flavor = "multi_thread")]
async fn own_operations_are_read_committed_where_serializable_is_the_default() {
    let database = Database::empty().await;
    let defaults = format!(
        "ALTER DATABASE \"{0}\" SET default_transaction_isolation = 'serializable';
         ALTER DATABASE \"{0}\" SET default_transaction_read_only = off;
         ALTER DATABASE \"{0}\" SET default_transaction_deferrable = on",
        database.name
    );
    database.client().await.batch_execute(&defaults).await.unwrap();
    let storage = database.storage();
    storage.migrate().await.unwrap();
    let script = "
        CREATE FUNCTION refuse_other_isolation() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF current_setting('transaction_isolation') <> 'read committed' THEN
                RAISE EXCEPTION '% of % is %', TG_OP, TG_TABLE_NAME, current_setting('transaction_isolation');
            END IF;
            RETURN NULL;
        END $$;
        DO $$
        DECLARE name text;
        BEGIN
            FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
                -- Rows, not statements: a plain enqueue finds out where it is by itself, and then inserts nothing.
                EXECUTE format('CREATE TRIGGER inserted AFTER INSERT ON %I
                                FOR EACH ROW EXECUTE FUNCTION refuse_other_isolation()', name);
                EXECUTE format('CREATE TRIGGER isolation BEFORE UPDATE OR DELETE ON %I
                                FOR EACH STATEMENT EXECUTE FUNCTION refuse_other_isolation()', name);
            END LOOP;
        END $$";
    let application = database.client().await;
    application.batch_execute(script).await.unwrap();
    let (client, ran) = (Client::new(storage.clone()), Ran::default());
    let workers: Vec<_> = (0..3).map(|_| worker(&database.storage(), &ran).pool(4).batch(5).build().unwrap().spawn()).collect();
    for n in 0..100 {
        client.enqueue(message("1").idempotency_key(format!("{}", n / 2))).await.unwrap();
    }
    // The statements that are transactions of their own do nothing there, for one message and for several.
    for _ in 0..10 {
        client.enqueue(message("1")).await.unwrap();
        client.enqueue_all([message("1"), message("1")]).await.unwrap();
    }
    ran.reached(80).await;
    eventually("all are settled", async || storage.stats(&StatsRequest::default()).await.unwrap().total(Status::Handling).n == 0).await;
    for worker in &workers {
        assert_eq!(worker.health().failures, 0);
    }
    for worker in workers {
        worker.shutdown();
        worker.join().await.unwrap();
    }
    assert_eq!(ran.count(), 80);
    sound(&storage).await;
    // The test's own trap works.
    let refused = application.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE; DELETE FROM tickr_dead").await.unwrap_err();
    assert!(refused.as_db_error().unwrap().message().contains("serializable"), "{refused:?}");
}

/// By the transaction's own connection: a pool of one has no other, and the caller has that.
#[tokio::test]
async fn a_client_that_only_enqueues_in_transactions_makes_ids_in_database_time() {
    let (database, storage) = shop().await;
    let offset = tickr_core::ClockOffset::default();
    offset.advance(std::time::Duration::from_secs(400 * 24 * 3_600));
    let application = database.pool(1);
    let ahead = PostgresStorage::builder().pool(application.clone()).clock_offset(offset).build().unwrap();
    let client = Client::new(ahead.clone());
    let mut connection = application.get().await.unwrap();
    let mut tx = connection.transaction().await.unwrap();
    let id = client.enqueue_in(&mut tx, message("1")).await.unwrap().id();
    tx.commit().await.unwrap();
    drop(connection);
    let now = ahead.now().await.unwrap();
    let made = id.as_uuid().get_timestamp().unwrap().to_unix().0;
    let now = now.since(tickr_core::Timestamp::from_micros(0)).as_secs();
    assert!(now.abs_diff(made) < 3_600, "{made} is not near {now}");
    sound(&storage).await;
}

/// The application needs no second pool: it uses the storage's, also if that has one connection.
#[tokio::test]
async fn a_handler_writes_its_row_and_what_follows_through_the_pool_of_the_storage() {
    async fn ship(context: Context, State(client): State<Client<PostgresStorage>>) -> Result<Outcome, Failure> {
        let mut db = client.storage().pool().get().await?;
        let mut tx = db.transaction().await?;
        if tx.execute("UPDATE orders SET shipped = true WHERE NOT shipped", &[]).await? == 0 {
            return Ok(Outcome::skip("shipped before"));
        }
        client.enqueue_in(&mut tx, Message::new("order.shipped", "1")).await?;
        if context.attempt() == 1 {
            return Err(Failure::retry_after(Duration::ZERO, "on purpose, by a test"));
        }
        tx.commit().await?;
        Ok(Outcome::Done)
    }
    let (database, _storage) = shop().await;
    let storage = database.builder().pool_size(1).build().unwrap();
    storage.pool().get().await.unwrap().batch_execute("ALTER TABLE orders ADD shipped boolean NOT NULL DEFAULT false").await.unwrap();
    let client = Client::new(storage.clone());
    {
        let mut db = storage.pool().get().await.unwrap();
        let mut tx = db.transaction().await.unwrap();
        tx.execute(ORDER_PLACED, &[]).await.unwrap();
        client.enqueue_in(&mut tx, Message::new("order.placed", "1")).await.unwrap();
        tx.commit().await.unwrap();
    }
    let worker = tickr_core::Worker::builder(storage.clone()).state(client).on("order.placed", ship).build().unwrap();
    let report = worker.run_until_idle().await.unwrap();
    assert_eq!((report.retried, report.succeeded), (1, 1), "{report:?}");
    let shipped = value(&database.client().await, "SELECT count(*) FROM orders WHERE shipped").await.unwrap();
    let stats = storage.stats(&StatsRequest::default()).await.unwrap();
    assert_eq!((shipped.as_str(), stats.of("order.shipped").unwrap().created.n), ("1", 1), "the failed attempt left nothing behind");
    sound(&storage).await;
}

/// A pool of the application's own, and everything else of the URL: where the tables are, and that workers may listen.
#[tokio::test]
async fn a_pool_and_the_options_of_a_url_go_together() {
    let database = Database::empty().await;
    let pool = database.pool(2);
    let url = format!("{}?schema=queue", database.url());
    let both = PostgresStorage::builder().pool(pool.clone()).url(&url).unwrap().connect().await.unwrap();
    assert!(both.capabilities().notify, "a URL says how to connect for LISTEN");
    let silent = PostgresStorage::builder().pool(pool.clone()).url(&format!("{url}&listen=off")).unwrap().build().unwrap();
    assert!(!silent.capabilities().notify);
    both.migrate().await.unwrap();
    Client::new(both.clone()).enqueue(Message::new("order", "1")).await.unwrap();
    let stored = value(&database.client().await, "SELECT count(*) FROM queue.tickr_messages").await.unwrap();
    assert_eq!(stored, "1", "in the schema that the URL names");
    assert_eq!(both.pool().status().size, pool.status().size, "it is the same pool");
    assert!(pool.status().size > 0 && !both.pool().is_closed());
}
