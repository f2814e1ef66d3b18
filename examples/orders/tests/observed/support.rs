//! What the tests share: the service as a process, and patience.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than anything here may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A process that is told to end, and waited for, when it is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("could not start {command:?}: {error}")))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    fn terminate(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
    }

    /// Tells it to end; gives whether it ended well.
    pub(crate) fn end(mut self) -> bool {
        self.terminate();
        self.0.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.terminate();
            let _ = self.0.wait();
        }
    }
}

/// A running service.
pub(crate) struct Orders {
    pub(crate) process: Process,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    http: reqwest::Client,
}

impl Orders {
    /// Starts it on a database, with further arguments and variables.
    pub(crate) fn start(database: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orders"));
        command.args(["--listen", "127.0.0.1:0", "--url"]).arg(format!("sqlite:{}", database.display())).args(arguments);
        for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_SAMPLER", "RUST_LOG"] {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1").envs(variables.iter().copied()).stderr(Stdio::piped());
        let mut process = Process::start(&mut command);
        let mut log = BufReader::new(process.0.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the service ended before it listened");
            eprint!("{line}");
            if let Some((_, rest)) = line.split_once("listening address=") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        // What it says from now on belongs to the output of the test.
        std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        Self { process, address, http: reqwest::Client::new() }
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.http.get(format!("http://{}{path}", self.address)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Places an order, with headers of HTTP; gives its number.
    pub(crate) async fn place(&self, card: &str, headers: &[(&str, &str)]) -> i64 {
        let mut request = self.http.post(format!("http://{}/orders", self.address)).json(&json!({ "item": "a lamp", "card": card }));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 201);
        answer.json::<Value>().await.unwrap()["order"].as_i64().unwrap()
    }

    pub(crate) async fn ledger(&self) -> Value {
        serde_json::from_str(&self.get("/ledger").await.1).unwrap()
    }
}

pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new().prefix("tickr-observed-").tempdir().unwrap()
}

/// Waits for what processes do in their own time.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: in vain");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
