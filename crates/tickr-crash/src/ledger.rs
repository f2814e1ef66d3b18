//! The independent ledger: what producers and handlers did, outside of tickr and of its database.
//!
//! Each incarnation of a process appends to a file of its own. A record is one `write(2)` of a fixed length that divides
//! a page: the kernel copies page by page and looks for a fatal signal in between, so that no SIGKILL tears a record.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use tickr_core::{MessageId, Timestamp};

use crate::door;

const RECORD_BYTES: usize = 128;
const EXTENSION: &str = "ledger";

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A producer is about to begin the transaction of a message, for the first time.
    Planned { n: u32, id: MessageId },
    /// A producer is about to stop itself inside of a transaction.
    Holds { n: u32 },
    /// A commit was answered, and the message stored.
    Committed { n: u32, id: MessageId },
    /// A commit was answered, and the message was a duplicate.
    Duplicate { n: u32, id: MessageId, existing: MessageId },
    /// Another transaction was in the way: the whole transaction is repeated.
    Again { n: u32 },
    /// A commit was sent and not answered: the transaction is repeated with the same id.
    Repeats { n: u32, id: MessageId },
    /// A repeated transaction found its own receipt: it had been committed.
    Found { n: u32, id: MessageId },
    /// A commit was sent and not answered, and the producer leaves it at that.
    Unknown { n: u32, id: MessageId },
    /// A rollback was answered.
    RolledBack { n: u32, id: MessageId },
    /// A handler begins.
    Started { id: MessageId, attempt: u16 },
    /// A handler is about to say that it succeeded.
    Succeeded { id: MessageId, attempt: u16 },
    /// A handler is about to say that it failed.
    Failed { id: MessageId, attempt: u16 },
}

/// A line of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// What happened.
    pub(crate) event: Event,
    /// When, by this machine's clock, which is the database's.
    pub(crate) at: Timestamp,
    /// When, by a clock that nobody sets.
    pub(crate) monotonic_us: i64,
}

/// Writes one file.
#[derive(Debug)]
pub(crate) struct Writer(File);

impl Writer {
    /// Begins the file of one incarnation.
    pub(crate) fn create(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name).with_extension(EXTENSION);
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        Ok(Self(file.with_context(|| format!("cannot begin {}", path.display()))?))
    }

    /// Appends; when this returns the record outlives the process.
    pub(crate) fn write(&self, event: Event) -> Result<()> {
        let record = Record { event, at: Timestamp::now(), monotonic_us: door::monotonic_us() };
        let line = encode(&record);
        let written = (&self.0).write(line.as_bytes()).context("cannot write the ledger")?;
        ensure!(written == RECORD_BYTES, "the ledger took {written} bytes of a record");
        Ok(())
    }
}

/// What one incarnation wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// The incarnation, which is also the name of a worker.
    pub(crate) name: String,
    /// Its records, oldest first.
    pub(crate) records: Vec<Record>,
}

/// Reads the files whose names begin with `prefix`.
pub(crate) fn read(folder: &Path, prefix: &str) -> Result<Vec<Page>> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == EXTENSION) && name.starts_with(prefix) {
            let records = read_file(&path)?;
            pages.push(Page { name, records });
        }
    }
    pages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(pages)
}

fn read_file(path: &PathBuf) -> Result<Vec<Record>> {
    let text = fs::read_to_string(path)?;
    ensure!(text.len().is_multiple_of(RECORD_BYTES), "{} ends in a torn record", path.display());
    let lines = text.lines().map(|line| decode(line).with_context(|| format!("{} has the line {line:?}", path.display())));
    lines.collect()
}

fn encode(record: &Record) -> String {
    let event = match record.event {
        Event::Planned { n, id } => format!("planned {n} {id}"),
        Event::Holds { n } => format!("holds {n}"),
        Event::Committed { n, id } => format!("committed {n} {id}"),
        Event::Duplicate { n, id, existing } => format!("duplicate {n} {id} {existing}"),
        Event::Again { n } => format!("again {n}"),
        Event::Repeats { n, id } => format!("repeats {n} {id}"),
        Event::Found { n, id } => format!("found {n} {id}"),
        Event::Unknown { n, id } => format!("unknown {n} {id}"),
        Event::RolledBack { n, id } => format!("rolled-back {n} {id}"),
        Event::Started { id, attempt } => format!("started {attempt} {id}"),
        Event::Succeeded { id, attempt } => format!("succeeded {attempt} {id}"),
        Event::Failed { id, attempt } => format!("failed {attempt} {id}"),
    };
    let line = format!("{:x} {:x} {event}", record.at.as_micros(), record.monotonic_us);
    format!("{line:<width$}\n", width = RECORD_BYTES - 1)
}

fn decode(line: &str) -> Result<Record> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [at, monotonic_us, what, number, ids @ ..] = words.as_slice() else { bail!("it is too short") };
    let n = || number.parse::<u32>().context("its number is none");
    let attempt = || number.parse::<u16>().context("its attempt is none");
    let id = |place: usize| ids.get(place).context("an id is missing").and_then(|id| Ok(id.parse::<MessageId>()?));
    let event = match *what {
        "planned" => Event::Planned { n: n()?, id: id(0)? },
        "holds" => Event::Holds { n: n()? },
        "committed" => Event::Committed { n: n()?, id: id(0)? },
        "duplicate" => Event::Duplicate { n: n()?, id: id(0)?, existing: id(1)? },
        "again" => Event::Again { n: n()? },
        "repeats" => Event::Repeats { n: n()?, id: id(0)? },
        "found" => Event::Found { n: n()?, id: id(0)? },
        "unknown" => Event::Unknown { n: n()?, id: id(0)? },
        "rolled-back" => Event::RolledBack { n: n()?, id: id(0)? },
        "started" => Event::Started { id: id(0)?, attempt: attempt()? },
        "succeeded" => Event::Succeeded { id: id(0)?, attempt: attempt()? },
        "failed" => Event::Failed { id: id(0)?, attempt: attempt()? },
        other => bail!("there is no event {other}"),
    };
    Ok(Record { event, at: Timestamp::from_micros(i64::from_str_radix(at, 16)?), monotonic_us: i64::from_str_radix(monotonic_us, 16)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_one_length_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let (id, existing) = (MessageId::new(), MessageId::new());
        let events = [
            Event::Planned { n: u32::MAX, id },
            Event::Holds { n: 0 },
            Event::Committed { n: 1, id },
            Event::Duplicate { n: u32::MAX, id, existing },
            Event::Again { n: 4 },
            Event::Repeats { n: 5, id },
            Event::Found { n: 6, id },
            Event::Unknown { n: 7, id },
            Event::RolledBack { n: 3, id },
            Event::Started { id, attempt: 1 },
            Event::Succeeded { id, attempt: u16::MAX },
            Event::Failed { id, attempt: 2 },
        ];
        let writer = Writer::create(folder.path(), "worker-1-2").unwrap();
        events.iter().for_each(|event| writer.write(*event).unwrap());
        assert_eq!(fs::metadata(folder.path().join("worker-1-2.ledger")).unwrap().len() as usize, events.len() * RECORD_BYTES);
        let pages = read(folder.path(), "worker-").unwrap();
        assert_eq!(pages[0].name, "worker-1-2");
        assert_eq!(pages[0].records.iter().map(|record| record.event).collect::<Vec<_>>(), events);
        assert!(read(folder.path(), "producer-").unwrap().is_empty());
    }

    #[test]
    fn a_torn_record_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        Writer::create(folder.path(), "worker-1-2").unwrap().write(Event::Holds { n: 1 }).unwrap();
        let path = folder.path().join("worker-1-2.ledger");
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(100).unwrap();
        assert!(read(folder.path(), "").unwrap_err().to_string().contains("torn"));
    }
}
