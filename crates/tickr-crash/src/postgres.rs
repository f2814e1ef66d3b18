//! The proof's view of PostgreSQL: an application on tokio-postgres, and tickr's tables read past the adapter.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use tickr_core::protocol::Recorded;
use tickr_core::{Bits, EnqueueIn, Enqueued, MessageId, Retry, Timestamp, Token, Uuid};
use tickr_postgres::{PostgresStorage, Tls};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, IsolationLevel, NoTls, Row, Transaction as Tx};

use crate::database::{Application, Database, Receipt, Transacted, Transaction};
use crate::door;
use crate::journal::{Body, Claim, Journal, Key, Member, Open, Settlement, Transition as Step};

/// A schema of a database.
#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    pub(crate) url: String,
    pub(crate) schema: String,
    /// How long an operation of tickr may take (default: the adapter's).
    pub(crate) operation_timeout: Option<Duration>,
}

/// How long an application without a server waits before it looks again.
const ABSENCE: Duration = Duration::from_millis(50);

/// How long a transaction with a snapshot waits before it enqueues with a key: time for another one to take that key.
const TEMPTATION: Duration = Duration::from_millis(5);

impl Database for Postgres {
    type Storage = PostgresStorage;
    type Application = PostgresApplication;

    const LOSES_ANSWERS: bool = true;

    fn storage(&self) -> Result<PostgresStorage> {
        // The proxy follows the protocol as it is without TLS, whatever library is compiled in.
        let builder = PostgresStorage::builder().url(&self.url)?.tls(Tls::Off).schema(&self.schema);
        Ok(match self.operation_timeout {
            Some(timeout) => builder.operation_timeout(timeout).build()?,
            None => builder.build()?,
        })
    }

    async fn prepare(&self) -> Result<()> {
        let table = format!("CREATE TABLE \"{}\".crash_receipts (n bigint PRIMARY KEY, id uuid NOT NULL, duplicate_of uuid)", self.schema);
        Ok(connect(&self.url).await?.batch_execute(&table).await?)
    }

    /// Connects when it is needed, and again whenever the connection broke.
    async fn application(&self) -> Result<PostgresApplication> {
        let receipts = format!("\"{}\".crash_receipts", self.schema);
        Ok(PostgresApplication { url: self.url.clone(), schema: self.schema.clone(), receipts, client: None })
    }

    async fn journal(&self) -> Result<Journal> {
        let mut client = connect(&self.url).await?;
        // Names of tables as they are; one snapshot of all.
        client.batch_execute(&format!("SET search_path = \"{}\"", self.schema)).await?;
        let tx = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
        read_journal(&tx).await.context("cannot read the journal")
    }
}

/// Opens a connection.
pub(crate) async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    door::spawn(async {
        // Whoever uses the client is told what is wrong.
        let _ = connection.await;
    });
    Ok(client)
}

/// A connection of tokio-postgres.
#[derive(Debug)]
pub(crate) struct PostgresApplication {
    url: String,
    schema: String,
    receipts: String,
    client: Option<Client>,
}

impl PostgresApplication {
    async fn client(&mut self) -> Result<&mut Client, Error> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = Some(connect(&self.url).await?);
        }
        Ok(self.client.as_mut().expect("it was just opened"))
    }

    /// One statement that reads, whatever isolation the database likes.
    async fn read(&mut self, sql: &str) -> Result<Vec<Row>> {
        let client = self.client().await?;
        let tx = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).read_only(true).start().await?;
        let rows = tx.query(sql, &[]).await?;
        tx.commit().await?;
        Ok(rows)
    }
}

/// Why a transaction did not come to its end.
enum Stop {
    /// Nothing happened.
    Again,
    /// Something is wrong.
    Wrong(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Wrong(error)
    }
}

impl From<Error> for Stop {
    /// Before COMMIT was sent, a broken connection is a rollback.
    fn from(error: Error) -> Self {
        let temporary = error.code().is_none_or(|code| {
            // Somebody in the way, a connection that is gone, a server that ends or begins.
            matches!(&code.code()[..2], "40" | "08" | "53" | "57")
        });
        if temporary { Self::Again } else { Self::Wrong(error.into()) }
    }
}

impl From<tickr_core::Error> for Stop {
    fn from(error: tickr_core::Error) -> Self {
        if error.retry() == Retry::Transaction { Self::Again } else { Self::Wrong(error.into()) }
    }
}

impl Application for PostgresApplication {
    type Storage = PostgresStorage;

    async fn transact(
        &mut self,
        storage: &PostgresStorage,
        message: &Transaction<'_>,
        before_end: impl FnMut() -> Result<()>,
    ) -> Result<Transacted> {
        let receipts = self.receipts.clone();
        let transacted = match self.client().await {
            Ok(client) => transact(client, &receipts, storage, message, before_end).await,
            Err(error) => Err(error.into()),
        };
        match transacted {
            Ok(transacted) => Ok(transacted),
            Err(Stop::Again) => {
                if self.client.as_ref().is_none_or(Client::is_closed) {
                    door::pause(ABSENCE).await;
                }
                Ok(Transacted::Again)
            }
            Err(Stop::Wrong(error)) => Err(error),
        }
    }

    async fn receipts(&mut self) -> Result<Vec<Receipt>> {
        let rows = self.read(&format!("SELECT n, id, duplicate_of FROM {} ORDER BY n", self.receipts)).await?;
        let receipt = |row: &Row| {
            let duplicate_of = row.try_get::<_, Option<Uuid>>(2)?.map(MessageId::from_uuid);
            Ok(Receipt { n: u32::try_from(row.try_get::<_, i64>(0)?)?, id: MessageId::from_uuid(row.try_get(1)?), duplicate_of })
        };
        rows.iter().map(receipt).collect()
    }

    async fn progress(&mut self) -> Result<i64> {
        // The last success and the last of everything else, each by an index.
        let sql = format!(
            "SELECT coalesce((SELECT (extract(epoch FROM max(at)) * 1000000)::bigint FROM \"{0}\".tickr_settlements \
             WHERE proves_from IS NOT NULL), 0) + coalesce((SELECT max(n) FROM \"{0}\".tickr_transitions), 0)",
            self.schema
        );
        let rows = self.read(&sql).await?;
        Ok(rows.first().context("no answer")?.try_get(0)?)
    }
}

async fn transact(
    client: &mut Client,
    receipts: &str,
    storage: &PostgresStorage,
    message: &Transaction<'_>,
    mut before_end: impl FnMut() -> Result<()>,
) -> Result<Transacted, Stop> {
    let (n, id) = (i64::from(message.n), message.message.id());
    // All isolations: what the application says, and, unsaid, the default of the database.
    let isolation = [Some(IsolationLevel::RepeatableRead), None, Some(IsolationLevel::ReadCommitted)][message.n as usize % 3];
    let mut tx = match isolation {
        Some(isolation) => client.build_transaction().isolation_level(isolation).start().await?,
        None => client.transaction().await?,
    };
    // A transaction that is repeated because its answer was lost finds its own receipt. It waits for an earlier run that is still
    // under way.
    let insert = format!("INSERT INTO {receipts} (n, id) VALUES ($1, $2) ON CONFLICT DO NOTHING");
    let before = tx.execute(&insert, &[&n, id.as_uuid()]).await? == 0;
    if message.message.idempotency_key.is_some() && matches!(isolation, Some(IsolationLevel::RepeatableRead)) {
        door::pause(TEMPTATION).await;
    }
    let enqueued = storage.enqueue_in(&mut tx, std::slice::from_ref(message.message)).await?;
    let duplicate_of = match enqueued.first() {
        Some(Enqueued::Stored { id: stored }) => {
            if *stored != id {
                return Err(anyhow!("message {id} was stored as {stored}").into());
            }
            None
        }
        Some(Enqueued::Duplicate { existing }) => Some(*existing),
        None => return Err(anyhow!("no answer for one message").into()),
    };
    let update = format!("UPDATE {receipts} SET duplicate_of = $2 WHERE n = $1");
    tx.execute(&update, &[&n, &duplicate_of.map(|existing| *existing.as_uuid())]).await?;
    before_end()?;
    if message.rolls_back {
        // Not answered is rolled back too: COMMIT was never sent.
        drop(tx.rollback().await);
        return Ok(Transacted::RolledBack);
    }
    match tx.commit().await {
        Ok(()) => Ok(Transacted::Committed { receipt: Receipt { n: message.n, id, duplicate_of }, before }),
        Err(error) if is_undone(&error) => Err(Stop::Again),
        Err(_) => Ok(Transacted::Unknown),
    }
}

/// Whether the server answered to COMMIT that it did not happen.
fn is_undone(error: &Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("40") && *code != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN)
}

/// A moment in microseconds since 1970.
fn micros(column: &str) -> String {
    format!("(extract(epoch FROM {column}) * 1000000)::bigint")
}

async fn read_journal(tx: &Tx<'_>) -> Result<Journal> {
    let at = micros("at");
    let claims =
        format!("SELECT token, worker, worker_name, solo, {at}, ids, attempts, maxes FROM tickr_claims ORDER BY tickr_claims.at, token");
    let bodies = format!("SELECT id, event_type, payload, idempotency_key, {} FROM tickr_messages", micros("scheduled_at"));
    let settlements = format!("SELECT token, outcome, mask::text, {at} FROM tickr_settlements ORDER BY tickr_settlements.at");
    Ok(Journal {
        bodies: rows(tx, &bodies, |row| {
            Ok(Body {
                id: message_id(row, 0)?,
                event_type: row.try_get(1)?,
                payload: row.try_get(2)?,
                key: row.try_get(3)?,
                scheduled_at: row.try_get::<_, Option<i64>>(4)?.map(Timestamp::from_micros),
            })
        })
        .await?,
        ready: ids(tx, "tickr_ready").await?,
        scheduled: ids(tx, "tickr_scheduled").await?,
        dead: ids(tx, "tickr_dead").await?,
        claims: rows(tx, &claims, claim).await?,
        open: rows(tx, "SELECT token, settled::text, revoked::text FROM tickr_open_claims", |row| {
            Ok(Open { token: token(row, 0)?, settled: bits(row, 1)?, revoked: bits(row, 2)? })
        })
        .await?,
        settlements: rows(tx, &settlements, |row| {
            let at = Timestamp::from_micros(row.try_get(3)?);
            Ok(Settlement { token: token(row, 0)?, recorded: recorded(row, 1)?, mask: bits(row, 2)?, at })
        })
        .await?,
        transitions: rows(tx, "SELECT id, token, outcome, attempt FROM tickr_transitions ORDER BY n", |row| {
            let token = row.try_get::<_, Option<Uuid>>(1)?.map(Token::from_uuid);
            Ok(Step { id: message_id(row, 0)?, token, recorded: recorded(row, 2)?, attempt: u16::try_from(row.try_get::<_, i32>(3)?)? })
        })
        .await?,
        keys: rows(tx, "SELECT event_type, key, id FROM tickr_dedupe", |row| {
            Ok(Key { event_type: row.try_get(0)?, key: row.try_get(1)?, id: message_id(row, 2)? })
        })
        .await?,
    })
}

fn claim(row: &Row) -> Result<Claim> {
    let ids: Vec<Uuid> = row.try_get(5)?;
    let (attempts, maxes) = (numbers(row, 6, ids.len())?, numbers(row, 7, ids.len())?);
    let members = ids.into_iter().map(MessageId::from_uuid).zip(attempts).zip(maxes);
    Ok(Claim {
        token: token(row, 0)?,
        worker: row.try_get(1)?,
        worker_name: row.try_get(2)?,
        solo: row.try_get(3)?,
        at: Timestamp::from_micros(row.try_get(4)?),
        members: members.map(|((id, attempt), max_attempts)| Member { id, attempt, max_attempts }).collect(),
    })
}

/// A list with one number a member, or one for all.
fn numbers(row: &Row, column: usize, members: usize) -> Result<Vec<u16>> {
    let numbers: Vec<i32> = row.try_get(column)?;
    let numbers = numbers.into_iter().map(u16::try_from).collect::<Result<Vec<_>, _>>()?;
    match numbers[..] {
        [all] => Ok(vec![all; members]),
        _ => {
            ensure!(numbers.len() == members, "a claim of {members} members has {} numbers", numbers.len());
            Ok(numbers)
        }
    }
}

/// A bit string as text, the first member first.
fn bits(row: &Row, column: usize) -> Result<Bits> {
    let text: &str = row.try_get(column)?;
    let set = (0_u32..).zip(text.bytes()).filter(|(_, bit)| *bit == b'1').map(|(index, _)| index);
    Ok(Bits::from_indices(u32::try_from(text.len())?, set))
}

async fn ids(tx: &Tx<'_>, table: &str) -> Result<Vec<MessageId>> {
    rows(tx, &format!("SELECT id FROM {table}"), |row| message_id(row, 0)).await
}

async fn rows<T>(tx: &Tx<'_>, sql: &str, read: impl FnMut(&Row) -> Result<T>) -> Result<Vec<T>> {
    tx.query(sql, &[]).await?.iter().map(read).collect()
}

fn message_id(row: &Row, column: usize) -> Result<MessageId> {
    Ok(MessageId::from_uuid(row.try_get(column)?))
}

fn token(row: &Row, column: usize) -> Result<Token> {
    Ok(Token::from_uuid(row.try_get(column)?))
}

fn recorded(row: &Row, column: usize) -> Result<Recorded> {
    let word: &str = row.try_get(column)?;
    Recorded::parse(word).with_context(|| format!("the journal has the outcome {word:?}"))
}
