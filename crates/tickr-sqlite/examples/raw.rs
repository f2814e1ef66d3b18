//! What the adapter does without the engine: enqueue, then claim and settle, in a temporary file.
//!
//! `cargo run --release -p tickr-sqlite --example raw -- [messages] [claim size] [enqueuers]`
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement prints, and reads the clock")]

use std::time::{Duration, Instant};

use tickr_core::protocol::Lane;
use tickr_core::{
    Bits, ClaimRequest, EventType, LaneRequest, Limits, Message, MessageId, NewMessage, Registration, Result, Settlement, Storage, Token,
    WorkerId,
};
use tickr_sqlite::SqliteStorage;

const BATCH: usize = 500;
const PAYLOAD: [u8; 64] = [b'x'; 64];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let mut next = |default| arguments.next().and_then(std::result::Result::ok).unwrap_or(default);
    let (messages, claim_size, enqueuers) = (next(200_000), next(1_000), next(2));
    let path = std::env::temp_dir().join(format!("tickr-raw-{}.sqlite", std::process::id()));
    let storage = SqliteStorage::open(&path)?;
    storage.migrate().await?;

    let event_type = EventType::new("raw")?;
    let began = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..enqueuers {
        let storage = storage.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..messages / enqueuers / BATCH {
                storage.enqueue(&batch()?).await?;
            }
            Ok(())
        }));
    }
    for task in tasks {
        task.await.map_err(|error| tickr_core::Error::new(tickr_core::ErrorKind::Internal, error.to_string()))??;
    }
    report("enqueue", messages / enqueuers / BATCH * enqueuers * BATCH, began);

    let worker = WorkerId::new();
    let lease = Duration::from_secs(600);
    let registration = Registration::new(worker, "raw", vec![event_type.clone()], lease);
    storage.register(&registration).await?;
    let began = Instant::now();
    let mut drained = 0;
    let mut settlement: Option<Settlement> = None;
    loop {
        // As a worker does: the next claim is sent while the last one is settled, and both share a commit.
        let request = request(worker, &event_type, claim_size);
        let settled = async {
            match settlement.take() {
                Some(settlement) => storage.settle(&[settlement]).await.map(drop),
                None => Ok(()),
            }
        };
        let (claim, settled) = tokio::join!(storage.claim(&request), settled);
        settled?;
        let claim = claim?;
        if claim.messages.is_empty() {
            break;
        }
        drained += claim.messages.len();
        let mut all = Settlement::new(claim.token, claim.members);
        all.succeeded = Bits::full(claim.members);
        settlement = Some(all);
    }
    report("claim+settle", drained, began);

    drop(storage);
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.clone().into_os_string();
        file.push(suffix);
        drop(std::fs::remove_file(file));
    }
    Ok(())
}

fn batch() -> Result<Vec<NewMessage>> {
    let limits = Limits::default();
    (0..BATCH).map(|_| NewMessage::check(Message::new("raw", PAYLOAD.to_vec()), MessageId::new(), &limits)).collect()
}

fn request(worker: WorkerId, event_type: &EventType, size: usize) -> ClaimRequest {
    let limit = u32::try_from(size).unwrap_or(u32::MAX);
    let group = LaneRequest::new(event_type.clone(), Lane::ORDINARY.to_vec(), limit, 10);
    ClaimRequest::new(worker, "raw", Token::new(), vec![group], limit)
}

fn report(what: &str, messages: usize, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{what}: {messages} messages in {seconds:.3} s, {:.0} per second", messages as f64 / seconds);
}
