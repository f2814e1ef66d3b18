//! What the database alone can do: the same rows and the same statements in a bare loop, without an engine, without an adapter.
//! On SQLite, whose operations are several statements each, the loop calls the adapter.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use futures_util::future::join3;
use tickr::adapter::protocol::Lane;
use tickr::adapter::{Bits, ClaimRequest, LaneRequest, Registration, Settlement, Token, Uuid, WorkerId};
use tickr::postgres::tokio_postgres::types::{ToSql, Type};
use tickr::postgres::tokio_postgres::{Client, Row, Statement};
use tickr::{AnyAdmin, EventType, MessageId, Storage};
use tickr_sql::postgres::{Names, claim, prelude, settle};

use crate::contender::Batch;
use crate::queue::{self, EVENT_TYPE, SCHEMA};
use crate::server;

/// How many messages one claim takes.
const CLAIM: u32 = 2_000;

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(messages: u64, took: Duration) -> f64 {
    messages as f64 / took.as_secs_f64()
}

/// Inserts the rows of messages, committed batch by batch; in transactions with a business row if `business` is set.
pub(crate) async fn enqueue(url: &str, what: Batch, business: bool) -> Result<f64> {
    let left = Arc::new(AtomicU64::new(what.messages));
    let mut clients = Vec::new();
    for _ in 0..what.producers {
        clients.push(server::connect(url).await?);
    }
    let sql = format!(
        "WITH body AS (
             INSERT INTO {SCHEMA}.tickr_messages (id, created_at, priority, event_type, payload)
             SELECT id, clock_timestamp(), 2, $3, payload FROM unnest($1::uuid[], $2::bytea[]) m (id, payload)
         )
         INSERT INTO {SCHEMA}.tickr_ready (event_type, lane, id, attempt, crashes)
         SELECT $3, 2, id, 0, 0 FROM unnest($1::uuid[]) m (id)"
    );
    let business_sql = format!("INSERT INTO {SCHEMA}.bench_orders (note) VALUES ('shipped')");
    let began = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let (left, sql, business_sql) = (Arc::clone(&left), sql.clone(), business_sql.clone());
            tokio::spawn(async move {
                let insert = client.prepare_typed(&sql, &[Type::UUID_ARRAY, Type::BYTEA_ARRAY, Type::TEXT]).await?;
                let order = if business { Some(client.prepare(&business_sql).await?) } else { None };
                let payload = vec![b'x'; what.payload];
                loop {
                    let take =
                        left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left > 0).then(|| left.saturating_sub(what.batch)));
                    let Ok(before) = take else { return anyhow::Ok(()) };
                    let n = usize::try_from(before.min(what.batch))?;
                    let ids: Vec<Uuid> = (0..n).map(|_| *MessageId::new().as_uuid()).collect();
                    let payloads = vec![payload.as_slice(); n];
                    let params: [&(dyn ToSql + Sync); 3] = [&ids, &payloads, &EVENT_TYPE];
                    match &order {
                        None => drop(client.execute(&insert, &params).await?),
                        Some(order) => {
                            let tx = client.transaction().await?;
                            tx.execute(order, &[]).await?;
                            tx.execute(&insert, &params).await?;
                            tx.commit().await?;
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(per_second(what.messages, began.elapsed()))
}

/// Claims and settles what is there, in so many loops at the same time.
pub(crate) async fn drain(url: &str, storage: &AnyAdmin, messages: u64, loops: u64) -> Result<f64> {
    let mut workers = Vec::new();
    for _ in 0..loops {
        let worker = WorkerId::new();
        let event_types = vec![EventType::new(EVENT_TYPE)?];
        storage.register(&Registration::new(worker, "floor", event_types, Duration::from_secs(600))).await?;
        workers.push(worker);
    }
    let done = Arc::new(AtomicU64::new(0));
    let postgres = queue::scheme(url) == "postgres";
    let mut sessions = Vec::new();
    for worker in &workers {
        sessions.push((*worker, if postgres { Some(Session::open(url).await?) } else { None }));
    }
    let began = Instant::now();
    let tasks: Vec<_> = sessions
        .into_iter()
        .map(|(worker, session)| {
            let (storage, done) = (storage.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut reached = 0;
                loop {
                    let settled = match &session {
                        Some(session) => session.turn(worker, &mut reached).await?,
                        None => turn(&storage, worker).await?,
                    };
                    if settled == 0 {
                        return anyhow::Ok(());
                    }
                    done.fetch_add(settled, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let took = began.elapsed();
    ensure!(done.load(Ordering::Relaxed) == messages, "the floor settled {} of {messages}", done.load(Ordering::Relaxed));
    for worker in workers {
        storage.retire(worker, "the floor is measured").await?;
    }
    Ok(per_second(messages, took))
}

/// One claim and its settle through the adapter.
async fn turn(storage: &AnyAdmin, worker: WorkerId) -> Result<u64> {
    let group = LaneRequest::new(EventType::new(EVENT_TYPE)?, vec![Lane::Normal], CLAIM, 10);
    let request = ClaimRequest::new(worker, "floor", Token::new(), vec![group], CLAIM);
    let claim = storage.claim(&request).await?;
    if claim.members == 0 {
        return Ok(0);
    }
    let mut settlement = Settlement::new(claim.token, claim.members);
    settlement.succeeded = Bits::full(claim.members);
    let settled = storage.settle(&[settlement]).await?;
    Ok(settled.iter().map(|settled| settled.applied.iter().count() as u64).sum())
}

/// A connection that knows the statements of the adapter.
struct Session {
    client: Client,
    begin: String,
    take: Statement,
    settle: Statement,
}

impl Session {
    async fn open(url: &str) -> Result<Self> {
        let client = server::connect(url).await?;
        let names = Names::new(Some(SCHEMA), Names::PREFIX)?;
        let take = client.prepare(&names.render(claim::TAKE.text)).await?;
        // Bit strings as text: the driver has no type for them.
        let types = [Type::INT8, Type::UUID_ARRAY, Type::TEXT_ARRAY];
        let settle = client.prepare_typed(&names.render(settle::SUCCEEDED.text), &types).await?;
        Ok(Self { client, begin: Names::default().render(prelude::INDEXED), take, settle })
    }

    /// One statement in a transaction, in one round trip.
    async fn once(&self, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let (begun, rows, committed) =
            join3(self.client.batch_execute(&self.begin), self.client.query(statement, params), self.client.batch_execute("COMMIT")).await;
        begun?;
        committed?;
        Ok(rows?)
    }

    /// One claim, which looks a little behind what was `reached`, and its settle.
    async fn turn(&self, worker: WorkerId, reached: &mut i64) -> Result<u64> {
        let token = *Token::new().as_uuid();
        let limit = i32::try_from(CLAIM)?;
        let (types, lanes, floors) = (vec![EVENT_TYPE], vec![2_i16], vec![*reached - 5 * i64::from(CLAIM)]);
        let rows = self
            .once(
                &self.take,
                &[
                    &0_i64,
                    worker.as_uuid(),
                    &"floor",
                    &token,
                    &false,
                    &types,
                    &vec![1_i32],
                    &vec![1_i32],
                    &vec![limit],
                    &vec![10_i32],
                    &lanes,
                    &floors,
                    &i64::from(CLAIM),
                    &SystemTime::UNIX_EPOCH,
                ],
            )
            .await?;
        // Nothing is a row without a place.
        let Some(last) = rows.iter().map(|row| row.get::<_, Option<i64>>("seq")).max().flatten() else { return Ok(0) };
        *reached = last;
        let claimed = rows.len();
        let rows = self.once(&self.settle, &[&0_i64, &vec![token], &vec!["1".repeat(claimed)]]).await?;
        ensure!(rows.len() == 1, "a settle of one claim answers one row");
        Ok(claimed as u64)
    }
}
