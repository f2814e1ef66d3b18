//! The readme step: the README's first programs build and run as they are printed.
//!
//! Each `toml` block of the README with dependencies belongs to the first `rust` block after it, which is a whole program. A package is
//! made of the two by `cargo new`, outside the workspace, with not a letter changed. A configuration of cargo beside it says that
//! `tickr-outbox` is the one of this checkout. The program has a folder of its own, and the URL of a database in `DATABASE_URL`; it is
//! run until it prints a line of a handler, and must then end by itself when it is interrupted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::services::{Provision, Service};
use crate::shell::{self, Seconds, Stopwatch, Workspace};

/// How long the program may take to handle its message, and how long to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Builds and runs every program of the README.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let text = fs::read_to_string(workspace.root().join("README.md")).context("could not read README.md")?;
    let programs = programs(&text)?;
    ensure!(!programs.is_empty(), "README.md has no `toml` block with dependencies and a `rust` block after it");
    for program in &programs {
        program.check(workspace).with_context(|| format!("the program after line {} of README.md", program.line))?;
    }
    Ok(())
}

/// A program as the README prints it.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// The line of its `toml` block, from 1.
    line: usize,
    dependencies: String,
    main: String,
}

/// The programs of a text in Markdown.
fn programs(text: &str) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    let mut dependencies = None;
    for block in blocks(text) {
        if block.language == "toml" && block.text.contains("[dependencies]") {
            dependencies = Some((block.line, block.text));
        } else if block.language.split(',').next() == Some("rust")
            && let Some((line, dependencies)) = dependencies.take()
        {
            ensure!(block.text.contains("fn main()"), "README.md:{}: a program without `fn main()`", block.line);
            programs.push(Program { line, dependencies, main: block.text });
        }
    }
    if let Some((line, _)) = dependencies {
        bail!("README.md:{line}: dependencies without a program after them");
    }
    Ok(programs)
}

struct Block {
    line: usize,
    language: String,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some(Block { line: index + 1, language: language.to_owned(), text: String::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

impl Program {
    fn check(&self, workspace: &Workspace) -> Result<()> {
        let watch = Stopwatch::start();
        let folder = Folder::create()?;
        self.write(workspace, &folder.0)?;
        // A folder for all, so that the dependencies of the second program are those of the first.
        let target = workspace.target().join("readme");
        let mut build = workspace.cargo(["build"]);
        shell::run(build.current_dir(&folder.0).env("CARGO_TARGET_DIR", &target))?;
        println!("line {}: built {} after `cargo new`", self.line, Seconds(watch.elapsed()));

        let needs: &[Service] = if self.dependencies.contains("\"postgres\"") { &[Service::Postgres] } else { &[] };
        let provision = Provision::of(needs, tickr_servers::may_install())?;
        let mut program = Command::new(target.join("debug").join(NAME));
        program.current_dir(&folder.0);
        if let Some(url) = provision.url(Service::Postgres).filter(|_| !needs.is_empty()) {
            program.env("DATABASE_URL", url);
        }
        self.run(&mut program)?;
        println!("line {}: handled its first message {} after `cargo new`", self.line, Seconds(watch.elapsed()));
        Ok(())
    }

    /// Makes the package: what `cargo new` writes, with the README's dependencies in place of none, and its program.
    fn write(&self, workspace: &Workspace, folder: &Path) -> Result<()> {
        shell::run(workspace.cargo(["new", "--quiet", "--vcs", "none", "--name", NAME]).arg(folder))?;
        let manifest = folder.join("Cargo.toml");
        let made = fs::read_to_string(&manifest).context("could not read what `cargo new` has made")?;
        let made = made.trim_end().strip_suffix("[dependencies]").context("`cargo new` no longer ends with [dependencies]")?;
        let patch = workspace.root().join("crates/tickr");
        let config = format!("[patch.crates-io]\ntickr-outbox = {{ path = {:?} }}\n", patch.display().to_string());
        let files = [
            ("Cargo.toml", format!("{made}{}", self.dependencies)),
            ("src/main.rs", self.main.clone()),
            // The versions that the workspace is tested with.
            ("Cargo.lock", fs::read_to_string(workspace.root().join("Cargo.lock")).context("could not read Cargo.lock")?),
            (".cargo/config.toml", config),
        ];
        fs::create_dir_all(folder.join(".cargo")).context("could not make a folder for cargo's configuration")?;
        for (name, text) in files {
            fs::write(folder.join(name), text).with_context(|| format!("could not write {name}"))?;
        }
        Ok(())
    }

    /// Starts the program, waits for a line of a handler and interrupts it.
    fn run(&self, command: &mut Command) -> Result<()> {
        let wanted = printed(&self.main);
        ensure!(!wanted.is_empty(), "it prints nothing, so that nobody sees a message handled");
        println!("$ {NAME}");
        let mut child = Running(command.stdout(Stdio::piped()).spawn().context("could not start it")?);
        let output = child.0.stdout.take().context("it has no output")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut seen = false;
        while !seen {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    println!("{line}");
                    seen = wanted.iter().any(|format| matches(&line, format));
                }
                Err(RecvTimeoutError::Timeout) => bail!("it handled no message within {}", Seconds(PATIENCE)),
                Err(RecvTimeoutError::Disconnected) => bail!("it ended before it handled a message"),
            }
        }
        shell::run(Command::new("kill").args(["-INT", &child.0.id().to_string()]))?;
        // Its output ends with it.
        while let Ok(line) = lines.recv_timeout(PATIENCE) {
            println!("{line}");
        }
        let status = child.0.try_wait().context("could not wait for it")?;
        let status = status.map_or_else(|| child.0.wait(), Ok).context("could not wait for it")?;
        ensure!(status.success(), "it did not end well after an interrupt: {status}");
        Ok(())
    }
}

/// What the package and its program are called.
const NAME: &str = "shop";

/// The parts of texts between the placeholders of each `println!`.
fn printed(main: &str) -> Vec<Vec<String>> {
    let texts = main.split("println!(\"").skip(1).filter_map(|rest| rest.split('"').next());
    texts.map(|text| text.split('{').map(|part| part.rsplit('}').next().unwrap_or(part).to_owned()).collect()).collect()
}

/// True if the parts are in the line, in their order.
fn matches(line: &str, parts: &[String]) -> bool {
    parts.iter().try_fold(line, |rest, part| rest.find(part.as_str()).map(|at| &rest[at + part.len()..])).is_some()
}

/// A folder outside the workspace, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("tickr-readme-{}", std::process::id()));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("could not remove {}", folder.display()))?;
        }
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = "```toml\n[dependencies]\na = \"1\"\n```\ntext\n```rust,no_run\nfn main() {}\n```\n```rust\nfn other() {}\n```\n";

    #[test]
    fn a_program_is_the_first_block_after_its_dependencies() {
        let found = programs(README).unwrap();
        assert_eq!(found, [Program { line: 1, dependencies: "[dependencies]\na = \"1\"\n".to_owned(), main: "fn main() {}\n".to_owned() }]);
    }

    #[test]
    fn dependencies_without_a_program_are_refused() {
        assert!(programs("```toml\n[dependencies]\n```\n").is_err());
        assert!(programs(&README.replace("fn main", "fn start")).is_err());
    }

    #[test]
    fn a_line_of_a_handler_is_known_by_the_text_around_its_values() {
        let formats = printed("println!(\"order {} is {state:?}.\", body.order);");
        assert!(matches("INFO order 7 is Confirmed.", &formats[0]));
        assert!(!matches("order 7 was", &formats[0]));
    }
}
