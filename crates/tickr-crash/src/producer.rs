//! The producer: runs the transactions of its share of the plan, and resumes where its ledger says.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tickr_core::{Limits, MessageId, NewMessage, Timestamp};

use crate::database::{Application, Database, Transacted, Transaction};
use crate::ledger::{self, Event, Writer};
use crate::plan::{Plan, Planned};
use crate::{door, process};

/// Which part of the plan, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// Which producer this is.
    pub(crate) index: u32,
    /// How many there are.
    pub(crate) producers: u32,
    /// When the first message of the plan is enqueued.
    pub(crate) begin: Timestamp,
    /// How long after it the last one follows.
    pub(crate) span: Duration,
}

/// What earlier incarnations got done.
#[derive(Debug, Default)]
struct Done {
    /// The ids of messages whose transaction was begun.
    ids: HashMap<u32, MessageId>,
    /// Messages whose end is known.
    settled: HashSet<u32>,
    /// Messages that were held already.
    held: HashSet<u32>,
}

impl Done {
    fn read(folder: &Path, index: u32) -> Result<Self> {
        let mut done = Self::default();
        for page in ledger::read(folder, &format!("producer-{index}-"))? {
            for record in page.records {
                match record.event {
                    Event::Planned { n, id } => drop(done.ids.insert(n, id)),
                    Event::Holds { n } => drop(done.held.insert(n)),
                    Event::Committed { n, .. } | Event::Duplicate { n, .. } | Event::RolledBack { n, .. } | Event::Unknown { n, .. } => {
                        done.settled.insert(n);
                    }
                    Event::Again { .. } | Event::Repeats { .. } | Event::Found { .. } => {}
                    Event::Started { .. } | Event::Succeeded { .. } | Event::Failed { .. } => {}
                }
            }
        }
        Ok(done)
    }
}

/// Runs one incarnation to the end of its share.
pub(crate) async fn run(database: &impl Database, folder: &Path, name: &str, plan: Plan, share: Share) -> Result<()> {
    let done = Done::read(folder, share.index)?;
    let ledger = Writer::create(folder, name)?;
    let storage = database.storage()?;
    let mut application = database.application().await?;
    for n in (share.index..plan.messages).step_by(share.producers as usize) {
        if done.settled.contains(&n) {
            continue;
        }
        wait_for_turn(n, plan, share).await;
        let planned = plan.message(n);
        let id = match done.ids.get(&n) {
            Some(id) => *id,
            None => {
                let id = MessageId::new();
                ledger.write(Event::Planned { n, id })?;
                id
            }
        };
        let hold = planned.holds && !done.held.contains(&n);
        enqueue(&mut application, &storage, &ledger, &planned, id, hold).await?;
    }
    Ok(())
}

async fn enqueue<A: Application>(
    application: &mut A,
    storage: &A::Storage,
    ledger: &Writer,
    planned: &Planned,
    id: MessageId,
    mut hold: bool,
) -> Result<()> {
    let n = planned.n;
    let message = NewMessage::check(planned.message(id), id, &Limits::default())?;
    let transaction = Transaction { n, message: &message, rolls_back: planned.rolls_back };
    loop {
        let before_end = || {
            if std::mem::take(&mut hold) {
                ledger.write(Event::Holds { n })?;
                process::stop_self()?;
            }
            Ok(())
        };
        let event = match application.transact(storage, &transaction, before_end).await? {
            Transacted::Again => {
                ledger.write(Event::Again { n })?;
                continue;
            }
            Transacted::Unknown if planned.leaves_unknown => Event::Unknown { n, id },
            Transacted::Unknown => {
                ledger.write(Event::Repeats { n, id })?;
                continue;
            }
            Transacted::RolledBack => Event::RolledBack { n, id },
            Transacted::Committed { receipt, before } => {
                ensure!(receipt.id == id, "message {n} was committed as {} before", receipt.id);
                if before {
                    ledger.write(Event::Found { n, id })?;
                }
                match receipt.duplicate_of {
                    None => Event::Committed { n, id },
                    Some(existing) => Event::Duplicate { n, id, existing },
                }
            }
        };
        return ledger.write(event);
    }
}

/// How many messages are due to be enqueued at once: a crash should hit several at a time.
const BURST: u32 = 100;

/// Spreads the plan over its time, in bursts: whoever was dead meanwhile catches up.
async fn wait_for_turn(n: u32, plan: Plan, share: Share) {
    let turn = share.begin.after(share.span.mul_f64(f64::from(n - n % BURST) / f64::from(plan.messages)));
    door::pause(turn.since(Timestamp::now())).await;
}
