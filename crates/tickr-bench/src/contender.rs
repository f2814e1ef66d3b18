//! The programs that are measured, tickr among them: see `bench/peers/README.md`.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::process;

/// How long a drain may take, and how long a program may take to say something.
const PATIENCE: Duration = Duration::from_secs(900);

/// A program with the arguments before the command.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    program: PathBuf,
    arguments: Vec<String>,
}

/// What it says of itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Info {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) settings: String,
    pub(crate) keeps: String,
}

#[derive(Debug, Deserialize)]
struct Took {
    messages: u64,
    seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Left {
    left: u64,
}

/// Latencies under a steady load.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Steady {
    pub(crate) offered: u64,
    pub(crate) started: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// What is enqueued.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub(crate) messages: u64,
    pub(crate) batch: u64,
    pub(crate) producers: u64,
    pub(crate) payload: usize,
}

/// What a drain showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drained {
    pub(crate) per_second: f64,
    /// The most memory of one of the processes.
    pub(crate) peak_mb: Option<f64>,
}

impl Contender {
    /// This program.
    pub(crate) fn tickr() -> Result<Self> {
        Ok(Self { name: "tickr".to_owned(), program: std::env::current_exe()?, arguments: vec!["peer".to_owned()] })
    }

    /// The peers below a folder that are built, with the names of those that are not.
    pub(crate) fn peers(folder: &Path) -> Result<(Vec<Self>, Vec<String>)> {
        let (mut built, mut missing) = (Vec::new(), Vec::new());
        let mut folders: Vec<PathBuf> =
            std::fs::read_dir(folder.join("bench/peers"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        folders.sort();
        for path in folders {
            let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
            if path.join("Cargo.toml").exists() {
                let program = folder.join("target/peers/release").join(format!("peer-{name}"));
                if program.exists() { built.push(Self { name, program, arguments: Vec::new() }) } else { missing.push(name) }
            } else if path.join("package.json").exists() {
                let script = path.join("index.mjs").display().to_string();
                if path.join("node_modules").exists() {
                    built.push(Self { name, program: "node".into(), arguments: vec![script] });
                } else {
                    missing.push(name);
                }
            }
        }
        Ok((built, missing))
    }

    fn command(&self, command: &str, arguments: &[String]) -> Command {
        let mut process = Command::new(&self.program);
        process.args(&self.arguments).arg(command).args(arguments).kill_on_drop(true);
        process
    }

    /// Runs a command to its end; its last line is the answer.
    async fn ask<T: DeserializeOwned>(&self, command: &str, arguments: &[String]) -> Result<T> {
        let mut process = self.command(command, arguments);
        let output = tokio::time::timeout(PATIENCE, process.stdin(Stdio::null()).output()).await;
        let output = output.with_context(|| format!("{} {command} does not end", self.name))??;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("{} {command} failed: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        let line = text.lines().last().unwrap_or_default();
        serde_json::from_str(line).with_context(|| format!("{} {command} answered {line:?}", self.name))
    }

    pub(crate) async fn info(&self) -> Result<Info> {
        self.ask("info", &[]).await
    }

    pub(crate) async fn prepare(&self, url: &str) -> Result<()> {
        self.ask::<serde_json::Value>("prepare", &["--url".to_owned(), url.to_owned()]).await.map(|_| ())
    }

    /// Messages a second.
    pub(crate) async fn enqueue(&self, url: &str, what: Batch, more: &[&str]) -> Result<f64> {
        let mut arguments = vec!["--url".to_owned(), url.to_owned()];
        let numbers = [("messages", what.messages), ("batch", what.batch), ("producers", what.producers), ("payload", what.payload as u64)];
        for (name, value) in numbers {
            arguments.extend([format!("--{name}"), value.to_string()]);
        }
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let took: Took = self.ask("enqueue", &arguments).await?;
        ensure!(took.messages == what.messages, "{} enqueued {} of {}", self.name, took.messages, what.messages);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        Ok(took.messages as f64 / took.seconds)
    }

    pub(crate) async fn left(&self, url: &str) -> Result<u64> {
        Ok(self.ask::<Left>("left", &["--url".to_owned(), url.to_owned()]).await?.left)
    }

    pub(crate) async fn steady(&self, url: &str, rate: u64, seconds: u64) -> Result<Steady> {
        let arguments = ["--url", url, "--rate", &rate.to_string(), "--seconds", &seconds.to_string()].map(str::to_owned);
        self.ask("steady", &arguments).await
    }

    /// Starts worker processes that wait for [`Crew::go`].
    pub(crate) async fn hire(&self, url: &str, processes: usize, more: &[&str]) -> Result<Crew> {
        let mut arguments = vec!["--url".to_owned(), url.to_owned()];
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let mut members = Vec::new();
        for _ in 0..processes {
            let mut process = self.command("work", &arguments);
            let mut child =
                process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {}", self.name))?;
            let (input, output) = child.stdin.take().zip(child.stdout.take()).context("a process without pipes")?;
            members.push(Member { child, input, output: BufReader::new(output).lines(), done: 0 });
        }
        for member in &mut members {
            loop {
                let line = tokio::time::timeout(PATIENCE, member.output.next_line())
                    .await
                    .with_context(|| format!("{} is not ready", self.name))??;
                match line.as_deref() {
                    Some("ready") => break,
                    Some(_) => {}
                    None => bail!("{} ended before it was ready", self.name),
                }
            }
        }
        Ok(Crew { members })
    }

    /// Has worker processes finish what is enqueued: from the start signal until the database says that nothing is left.
    pub(crate) async fn drain(&self, url: &str, messages: u64, processes: usize, more: &[&str]) -> Result<Drained> {
        let mut crew = self.hire(url, processes, more).await?;
        let began = Instant::now();
        crew.go().await?;
        crew.finish(messages).await.with_context(|| format!("{} does not finish", self.name))?;
        let mut took = began.elapsed();
        // Asking takes a process and a connection: what was left while it was asked counts, the asking itself does not.
        while self.left(url).await? > 0 {
            took = began.elapsed();
            ensure!(took < PATIENCE, "{} does not record what is done", self.name);
        }
        let peak_mb = crew.peak_mb();
        crew.dismiss().await?;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        Ok(Drained { per_second: messages as f64 / took.as_secs_f64(), peak_mb })
    }
}

/// Worker processes of one contender.
#[derive(Debug)]
pub(crate) struct Crew {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    done: u64,
}

impl Crew {
    /// Lets them start.
    pub(crate) async fn go(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.input.write_all(b"go\n").await?;
            member.input.flush().await?;
        }
        Ok(())
    }

    /// Waits until their handlers have ended so often.
    pub(crate) async fn finish(&mut self, messages: u64) -> Result<()> {
        tokio::time::timeout(PATIENCE, async {
            while self.done() < messages {
                let next = self.members.iter_mut().map(|member| Box::pin(member.progress()));
                futures_util::future::select_all(next).await.0?;
            }
            Ok(())
        })
        .await
        .with_context(|| format!("{} of {messages} were done", self.done()))?
    }

    pub(crate) fn done(&self) -> u64 {
        self.members.iter().map(|member| member.done).sum()
    }

    pub(crate) fn peak_mb(&self) -> Option<f64> {
        self.members.iter().filter_map(|member| process::peak_mb(member.child.id()?)).reduce(f64::max)
    }

    /// Seconds of CPU that they have taken.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.members.iter().filter_map(|member| member.child.id()).map(process::cpu_seconds).sum()
    }

    /// Ends them.
    pub(crate) async fn dismiss(self) -> Result<()> {
        for mut member in self.members {
            drop(member.input);
            while member.output.next_line().await?.is_some() {}
            let status = tokio::time::timeout(PATIENCE, member.child.wait()).await.context("a worker does not end")??;
            ensure!(status.success(), "a worker ended with {status}");
        }
        Ok(())
    }
}

impl Member {
    async fn progress(&mut self) -> Result<()> {
        let line = self.output.next_line().await?.context("a worker ended by itself")?;
        if let Some(done) = line.strip_prefix("done ") {
            self.done = done.trim().parse().context("a worker counts in numbers")?;
        }
        Ok(())
    }
}
