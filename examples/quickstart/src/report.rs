//! Prints what the database says, and checks that it is as promised.

use std::fmt::{Arguments, Debug};
use std::io::{Write, stdout};
use std::time::Duration;

use comfy_table::{LineStyle, Table, TableStyle};
use tickr::admin::Stats;
use tickr::{Admin, BoxError, ListQuery, MessageId, Status, Timestamp};

use crate::database::{Connection, Placed};
use crate::shop::Shop;

/// What became of a message, if all went as it should.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) id: MessageId,
    /// The customer.
    pub(crate) of: &'static str,
    /// How often its handler was called.
    pub(crate) calls: u32,
    /// Every status it had.
    pub(crate) path: &'static str,
}

/// Prints a line. Whoever reads may have seen enough (`| head`): that is no reason to end without clearing up.
fn print(text: Arguments<'_>) {
    let _ = writeln!(stdout(), "{text}");
}

pub(crate) fn chapter(title: &str) {
    print(format_args!("\n{title}\n"));
}

pub(crate) fn line(text: &str) {
    print(format_args!("  {text}"));
}

fn table<const N: usize>(title: &str, columns: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));
    let mut table = Table::new();
    table.load_style(STYLE).set_header(columns).add_rows(rows);
    print(format_args!("  {title}\n"));
    for line in table.lines() {
        print(format_args!("   {}", line.trim_end()));
    }
    print(format_args!(""));
}

/// The rows of the application.
pub(crate) fn orders(placed: Vec<Placed>) {
    let rows = placed.into_iter().map(|order| [order.id.to_string(), order.customer, order.item, order.address.unwrap_or_default()]);
    table("orders", ["order", "customer", "item", "address"], rows);
}

/// Status and attempts of each message.
pub(crate) async fn messages(storage: &impl Admin, expected: &[Expected]) -> Result<(), BoxError> {
    let mut rows = Vec::new();
    for Expected { id, of, .. } in expected {
        let record = storage.get(*id).await?.ok_or("a message is missing")?;
        let note = record.last_error.unwrap_or_default();
        rows.push([record.stored.event_type.to_string(), (*of).to_owned(), record.status.to_string(), record.attempt.to_string(), note]);
    }
    table("messages", ["event type", "of", "status", "attempts", "last error or reason"], rows);
    Ok(())
}

/// Every step of each message.
pub(crate) async fn histories(storage: &impl Admin, expected: &[Expected], since: Timestamp) -> Result<(), BoxError> {
    let mut rows = Vec::new();
    for Expected { id, of, .. } in expected {
        let record = storage.get(*id).await?.ok_or("a message is missing")?;
        for step in storage.history(*id).await? {
            // The first step of a message names it.
            let name = if step.from.is_none() { format!("{} of {of}", record.stored.event_type) } else { String::new() };
            let at = format!("{:.3} s", step.at.since(since).as_secs_f64());
            let change = step.from.map_or_else(|| step.to.to_string(), |from| format!("{from} -> {}", step.to));
            let attempt = if step.attempt == 0 { String::new() } else { step.attempt.to_string() };
            rows.push([name, at, change, step.event.to_owned(), attempt, step.error.unwrap_or_default()]);
        }
    }
    table("history", ["message", "at", "transition", "event", "attempt", "error or reason"], rows);
    Ok(())
}

/// How deep the queue was, at each moment.
pub(crate) fn statistics(depths: &[(&str, Stats)]) {
    let mut rows = Vec::new();
    for (moment, stats) in depths {
        let row = |name: &str, count: &dyn Fn(Status) -> u64| {
            let counts = [Status::Created, Status::Retrying, Status::Handling, Status::Dead].map(|status| count(status).to_string());
            let [created, retrying, handling, dead] = counts;
            [(*moment).to_owned(), name.to_owned(), created, retrying, handling, dead]
        };
        rows.extend(stats.types.iter().map(|each| row(&each.event_type, &|status| each.count(status).n)));
        rows.push(row("all", &|status| stats.total(status).n));
    }
    table("statistics", ["when", "event type", "CREATED", "RETRYING", "HANDLING", "DEAD"], rows);
}

/// What was promised, and whether it was kept.
#[derive(Debug, Default)]
pub(crate) struct Promises(Vec<(&'static str, Vec<String>)>);

impl Promises {
    /// Checks that `found` is as it should be.
    #[expect(clippy::needless_pass_by_value, reason = "the calls are easier to read")]
    pub(crate) fn check<T: PartialEq + Debug>(&mut self, promise: &'static str, found: T, wanted: T) {
        let broken = (found != wanted).then(|| format!("expected {wanted:?}, found {found:?}"));
        self.0.push((promise, broken.into_iter().collect()));
    }

    /// Prints all, and why those that are broken are; `false` if any is.
    pub(crate) fn report(&self) -> bool {
        chapter("Promises");
        for (promise, broken) in &self.0 {
            print(format_args!("  {}  {promise}", if broken.is_empty() { "kept  " } else { "BROKEN" }));
            for reason in broken {
                print(format_args!("          {reason}"));
            }
        }
        print(format_args!(""));
        self.0.iter().all(|(_, broken)| broken.is_empty())
    }

    /// Rows and messages exist together: those that were committed, and no others.
    pub(crate) async fn atomic(
        &mut self,
        db: &impl Connection,
        storage: &impl Admin,
        expected: &[Expected],
        rolled_back: MessageId,
        since: Timestamp,
    ) -> Result<(), BoxError> {
        let customers: Vec<String> = db.latest(2).await?.into_iter().map(|order| order.customer).collect();
        self.check("the orders that were committed exist, and no other", customers, vec!["Cleo".to_owned(), "Ada".to_owned()]);
        let page = storage.list(&ListQuery::default().since(since)).await?;
        let mut found: Vec<_> = page.items.iter().map(|record| record.stored.id).collect();
        found.sort_unstable();
        self.check("so do their messages, and no other", found, expected.iter().map(|each| each.id).collect());
        self.check("the message that was rolled back is unknown", storage.get(rolled_back).await?, None);
        Ok(())
    }

    /// A scheduled message is not handled before its time.
    pub(crate) async fn on_time(&mut self, storage: &impl Admin, id: MessageId) -> Result<(), BoxError> {
        let due = storage.get(id).await?.and_then(|record| record.stored.scheduled_at);
        let history = storage.history(id).await?;
        let claimed = history.iter().find(|step| step.to == Status::Handling).map(|step| step.at);
        self.check("a scheduled message is handled when it is due, not before", due.is_some() && claimed >= due, true);
        Ok(())
    }

    /// Between a failure and the next attempt lies the back-off.
    pub(crate) async fn backed_off(&mut self, storage: &impl Admin, id: MessageId, delay: Duration) -> Result<(), BoxError> {
        let history = storage.history(id).await?;
        let failures = history.iter().filter(|step| step.to == Status::Failed);
        let repeats = history.iter().filter(|step| step.to == Status::Handling && step.attempt > 1);
        let pauses: Vec<Duration> = failures.zip(repeats).map(|(failure, repeat)| repeat.at.since(failure.at)).collect();
        self.check("a failed attempt is repeated after its back-off", pauses.iter().filter(|pause| **pause >= delay).count(), 2);
        Ok(())
    }

    /// Every message went its way, and its handler was called once for each attempt.
    pub(crate) async fn histories(&mut self, storage: &impl Admin, shop: &Shop, expected: &[Expected]) -> Result<(), BoxError> {
        let (mut ways, mut calls) = (Vec::new(), Vec::new());
        for each in expected {
            let record = storage.get(each.id).await?.ok_or("a message is missing")?;
            let path: Vec<&str> = storage.history(each.id).await?.iter().map(|step| step.to.as_str()).collect();
            let name = format!("{} of {}", record.stored.event_type, each.of);
            if record.status != Status::Success || path.join(" ") != each.path {
                ways.push(format!("{name}: {}, by {}, expected {}", record.status, path.join(" "), each.path));
            }
            if shop.calls(each.id) != each.calls {
                calls.push(format!("{name}: called {} times, expected {}", shop.calls(each.id), each.calls));
            }
        }
        self.0.push(("every message succeeded in the end, by exactly the expected transitions", ways));
        self.0.push(("every attempt called its handler once", calls));
        Ok(())
    }

    /// No message is lost or in two places, in any table.
    pub(crate) async fn sound(&mut self, storage: &impl Admin) -> Result<(), BoxError> {
        self.check("an audit of all tables finds nothing", storage.audit().await?.findings, Vec::new());
        Ok(())
    }
}
