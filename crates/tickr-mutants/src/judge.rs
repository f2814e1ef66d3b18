//! Runs the tests against each mutation.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::Args;
use crate::choose::rank;
use crate::site::Site;
use crate::tests::{End, Test, in_parallel, lock, now};

/// What the tests say of a mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This test fails.
    Killed(String),
    /// This test does not end.
    TimedOut(String),
    /// This number of tests reaches it, and none fails.
    Survived(usize),
    /// The time ended after the first number of tests, of the second.
    Undecided(usize, usize),
    /// No test reaches it.
    NotReached,
}

impl Verdict {
    /// True if a test noticed the mutation.
    pub(crate) const fn is_noticed(&self) -> bool {
        matches!(self, Self::Killed(_) | Self::TimedOut(_))
    }
}

/// Judges the mutations of this run's part. What an earlier run of the same code has decided is taken from its record.
pub(crate) fn judge(
    sites: &[Site],
    tests: &[Test],
    known: &BTreeMap<String, String>,
    work: &Path,
    args: &Args,
) -> Result<HashMap<u32, Verdict>> {
    let record = work.join("verdicts.jsonl");
    let mut earlier = if args.again { HashMap::new() } else { read(&record) };
    let part: Vec<&Site> = sites.iter().skip(args.shard.number - 1).step_by(args.shard.of).collect();
    let mut verdicts = HashMap::new();
    let mut todo = Vec::new();
    for site in part {
        match earlier.remove(&stamp(site)) {
            Some(verdict) if !args.missed || verdict.is_noticed() || known.contains_key(&site.key()) => {
                verdicts.insert(site.id, verdict);
            }
            _ => todo.push(site),
        }
    }
    // In no order, so that a run that is ended early has tried some of every part.
    todo.sort_by_cached_key(|site| rank(args.seed, &site.key()));
    println!("{} mutations are decided by an earlier run, {} are tried", verdicts.len(), todo.len());
    let file = OpenOptions::new().create(true).append(true).open(&record).context("could not open the record of verdicts")?;
    let (file, verdicts, total) = (Mutex::new(file), Mutex::new(verdicts), todo.len());
    let (start, limit) = (now(), args.minutes.map(|minutes| Duration::from_secs(minutes * 60)));
    in_parallel(args.jobs, &todo, |index, site| {
        if limit.is_some_and(|limit| start.elapsed() > limit) {
            return Ok(());
        }
        let verdict = one(site, tests, Duration::from_secs(args.budget))?;
        println!("{}/{total} {site}\n        {verdict}", index + 1);
        writeln!(lock(&file), "{}", to_json(site, &verdict)).context("could not record a verdict")?;
        lock(&verdicts).insert(site.id, verdict);
        Ok(())
    })?;
    Ok(verdicts.into_inner().unwrap_or_default())
}

/// The tests that reach a mutation, until one fails. First come those that take little and reach little else.
fn one(site: &Site, tests: &[Test], budget: Duration) -> Result<Verdict> {
    let mut reaching: Vec<&Test> = tests.iter().filter(|test| test.reaches.contains(&site.id)).collect();
    reaching.sort_by_key(|test| test.takes * u32::try_from(test.reaches.len()).unwrap_or(u32::MAX));
    if reaching.is_empty() {
        return Ok(Verdict::NotReached);
    }
    let start = now();
    for (done, test) in reaching.iter().enumerate() {
        if start.elapsed() > budget {
            return Ok(Verdict::Undecided(done, reaching.len()));
        }
        let end = test.run(site.id)?;
        // One that fails without the mutation too says nothing of it.
        if end != End::Passed && test.run(0)? == End::Passed {
            let title = test.title();
            return Ok(if end == End::TimedOut { Verdict::TimedOut(title) } else { Verdict::Killed(title) });
        }
    }
    Ok(Verdict::Survived(reaching.len()))
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Killed(test) => write!(f, "killed by {test}"),
            Self::TimedOut(test) => write!(f, "stopped {test}"),
            Self::Survived(tests) => write!(f, "SURVIVED {tests} tests"),
            Self::Undecided(done, of) => write!(f, "not decided: survived {done} of {of} tests"),
            Self::NotReached => f.write_str("not reached by any test"),
        }
    }
}

/// The same for the same change of the same file: then an earlier verdict counts, as long as the tests are the same.
fn stamp(site: &Site) -> String {
    format!("{:016x}", rank(0, &format!("{}\n{}", site.key(), site.original)))
}

fn to_json(site: &Site, verdict: &Verdict) -> Value {
    let (kind, test, numbers) = match verdict {
        Verdict::Killed(test) => ("killed", test.as_str(), [0, 0]),
        Verdict::TimedOut(test) => ("timed out", test.as_str(), [0, 0]),
        Verdict::Survived(tests) => ("survived", "", [*tests, *tests]),
        Verdict::Undecided(done, of) => ("undecided", "", [*done, *of]),
        Verdict::NotReached => ("not reached", "", [0, 0]),
    };
    json!({ "stamp": stamp(site), "site": site.key(), "verdict": kind, "test": test, "done": numbers[0], "of": numbers[1] })
}

fn read(record: &Path) -> HashMap<String, Verdict> {
    let text = fs::read_to_string(record).unwrap_or_default();
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries.filter_map(|entry| Some((entry["stamp"].as_str()?.to_owned(), from_json(&entry)?))).collect()
}

fn from_json(entry: &Value) -> Option<Verdict> {
    let number = |name: &str| usize::try_from(entry[name].as_u64()?).ok();
    let test = entry["test"].as_str()?.to_owned();
    Some(match entry["verdict"].as_str()? {
        "killed" => Verdict::Killed(test),
        "timed out" => Verdict::TimedOut(test),
        "survived" => Verdict::Survived(number("of")?),
        "undecided" => Verdict::Undecided(number("done")?, number("of")?),
        "not reached" => Verdict::NotReached,
        _ => return None,
    })
}
