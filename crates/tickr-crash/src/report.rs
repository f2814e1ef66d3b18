//! What a person reads at the end.

use comfy_table::{Table, presets};

use crate::storm::Weather;
use crate::verify::Counts;

/// The counts of a run.
pub(crate) fn table(counts: &Counts, weather: Option<&Weather>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut row = |name: &str, value: String, note: &str| {
        table.add_row([name, value.as_str(), note]);
    };
    if let Some(weather) = weather {
        let storm = &weather.counts;
        row(
            "killed",
            (storm.producers_killed + storm.workers_killed + storm.self_killed).to_string(),
            &format!(
                "{} producers, {} workers, {} by the message that kills",
                storm.producers_killed, storm.workers_killed, storm.self_killed
            ),
        );
        row(
            "restarted",
            storm.restarts.to_string(),
            &format!("{} of them because the database was blocked when they began", storm.gave_up),
        );
        row("told to end", storm.ended.to_string(), "workers, as by a deployment");
        row("stopped", (storm.stopped + storm.held).to_string(), &format!("{} of them inside of a write transaction", storm.held));
        if let Some(outages) = weather.outages {
            let cut = outages.cut;
            row("server restarts", outages.restarts.to_string(), "as after a crash");
            row("stalls", outages.stalls.to_string(), "of the network, for longer than a lease");
            row(
                "cut commits",
                (cut.before + cut.during + cut.after).to_string(),
                &format!("{} before the server saw them, {} while it did, {} after it had answered", cut.before, cut.during, cut.after),
            );
        }
        let (recoveries, note) = (weather.recoveries, "from whatever goes on (a process, the server, the network) to the next outcome");
        row("longest recovery", format!("{:.1?} of {recoveries}", weather.recovery_max), note);
        row("longest standstill", format!("{:.1?}", weather.standstill_max), "between two outcomes");
    }
    row("committed", counts.committed.to_string(), "");
    row("rolled back", counts.rolled_back.to_string(), "");
    row(
        "unknown commits",
        (counts.unknown_committed + counts.unknown_undone).to_string(),
        &format!("whose answer was lost: {} had happened, {} had not", counts.unknown_committed, counts.unknown_undone),
    );
    row("conflicts", counts.conflicts.to_string(), "transactions that were run again, because others or an outage were in their way");
    row("duplicates", counts.duplicates.to_string(), "of an idempotency key");
    row("succeeded", counts.succeeded.to_string(), "");
    row(
        "dead",
        (counts.dead_exhausted + counts.dead_crashed).to_string(),
        &format!("all meant to be: {} exhausted, {} crashed alone at their last attempt", counts.dead_exhausted, counts.dead_crashed),
    );
    row("claims", counts.claims.to_string(), &format!("{} leases; {} stayed exclusive", counts.leases, counts.solo_claims));
    row("reclaimed", counts.reclaimed.to_string(), "leases of dead workers");
    row("released", counts.released.to_string(), "leases given back unfinished");
    row("exclusive runs of the killer", counts.killer_solo.to_string(), "");
    if counts.unknown_beside_suspects > 0 {
        row("unknown company", counts.unknown_beside_suspects.to_string(), "claims beside a suspect whose answer was lost");
    }
    row("highest attempt", counts.attempt_max.to_string(), "");
    row("handler starts", counts.starts.to_string(), &format!("{} without a recorded outcome", counts.starts_unrecorded));
    row("repeated successes", counts.successes_repeated.to_string(), "handlers that succeeded, died before it was recorded, and ran again");
    row("late starts", counts.starts_late.to_string(), "handlers that began after their lease was given away");
    if let Some(weather) = weather {
        row("seconds", format!("{:.1}", weather.storm.as_secs_f64()), "from the first process to the last outcome");
    }
    table.to_string()
}
