//! The processes of a run: starts them, sees them end, starts them again.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal};
use tickr_core::Timestamp;

use crate::options::{Name, Place, Run};
use crate::{door, process};

/// How a process ends that cannot begin because the database does not answer, such as while a stopped writer blocks it:
/// EX_TEMPFAIL of sysexits(3). Whoever watches over it starts it again.
pub(crate) const TEMPORARY_FAILURE: u8 = 75;

/// How long one that could not begin stays away.
const AWAY: Duration = Duration::from_millis(100);

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Producer,
    Worker,
}

impl Role {
    /// The name of the subcommand.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Worker => "worker",
        }
    }
}

/// One place of the fleet, with the process that fills it now.
#[derive(Debug)]
pub(crate) struct Seat {
    role: Role,
    name: Name,
    state: State,
    /// Whether it was told to end, to be replaced.
    told: bool,
}

#[derive(Debug)]
enum State {
    Running(Child),
    /// Stopped, until then.
    Stopped(Child, Instant),
    /// Killed by the supervisor, not yet seen to be dead.
    Killed(Child),
    /// It could not begin, and tries again then.
    Away(Instant),
    /// A producer that is through.
    Finished,
}

/// What happened to the fleet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) producers_killed: u32,
    pub(crate) workers_killed: u32,
    /// Workers that were told to end, and did so in order.
    pub(crate) ended: u32,
    /// Processes that a handler killed.
    pub(crate) self_killed: u32,
    /// Processes that could not begin because the database was blocked.
    pub(crate) gave_up: u32,
    /// Processes that the supervisor stopped.
    pub(crate) stopped: u32,
    /// Writers that stopped themselves inside of a transaction.
    pub(crate) held: u32,
    pub(crate) restarts: u32,
}

/// All processes.
#[derive(Debug)]
pub(crate) struct Fleet {
    options: Run,
    /// Ways to the database, which processes take in turns.
    roads: Vec<Place>,
    logs: PathBuf,
    begin: Timestamp,
    seats: Vec<Seat>,
    pub(crate) counts: Counts,
}

impl Fleet {
    /// Starts everything.
    pub(crate) fn start(options: &Run, roads: Vec<Place>, logs: PathBuf) -> Result<Self> {
        let mut fleet =
            Self { options: options.clone(), roads, logs, begin: Timestamp::now(), seats: Vec::new(), counts: Counts::default() };
        let workers = (0..options.workers).map(|index| (Role::Worker, index));
        let producers = (0..options.size.producers).map(|index| (Role::Producer, index));
        for (role, index) in workers.chain(producers) {
            let name = Name { index, incarnation: 0 };
            let state = State::Running(fleet.spawn(role, &name)?);
            fleet.seats.push(Seat { role, name, state, told: false });
        }
        Ok(fleet)
    }

    fn spawn(&self, role: Role, name: &Name) -> Result<Child> {
        let mut args: Vec<OsString> = vec![role.as_str().into()];
        args.extend(self.roads[name.index as usize % self.roads.len()].to_args());
        args.extend([format!("--index={}", name.index).into(), format!("--incarnation={}", name.incarnation).into()]);
        match role {
            Role::Producer => {
                args.extend(self.options.size.to_args());
                args.push(format!("--begin-us={}", self.begin.as_micros()).into());
            }
            Role::Worker => args.push(format!("--lease-ms={}", self.options.lease_ms).into()),
        }
        let log = File::create(self.logs.join(name.of(role.as_str())).with_extension("log"))?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("cannot start {}", name.of(role.as_str())))
    }

    /// Sees who ended, stopped or may go on, and starts again whoever was killed. `hold` is for how long a writer that
    /// stopped itself stays so. Says whether anybody went on.
    pub(crate) fn tend(&mut self, hold: impl Fn() -> Duration) -> Result<bool> {
        let mut went_on = false;
        for at in 0..self.seats.len() {
            if let Some((status, expected)) = self.seats[at].ended()? {
                self.replace(at, status, expected)?;
            }
            if matches!(self.seats[at].state, State::Away(until) if door::now() >= until) {
                self.fill(at)?;
            }
            let seat = &mut self.seats[at];
            if seat.role == Role::Producer && seat.has_stopped_itself() {
                seat.note_stop(door::now() + hold());
                self.counts.held += 1;
            }
            went_on |= seat.go_on_if_due()?;
        }
        Ok(went_on)
    }

    fn replace(&mut self, at: usize, status: ExitStatus, expected: bool) -> Result<()> {
        let seat = &self.seats[at];
        let who = seat.name.of(seat.role.as_str());
        if seat.role == Role::Producer && status.success() {
            self.seats[at].state = State::Finished;
            return Ok(());
        }
        match status.signal() {
            None if seat.told && status.success() => self.counts.ended += 1,
            // Told before it listened.
            Some(signal) if seat.told && signal == Signal::TERM.as_raw() => self.counts.ended += 1,
            None if status.code() == Some(i32::from(TEMPORARY_FAILURE)) => {
                self.counts.gave_up += 1;
                self.seats[at].state = State::Away(door::now() + AWAY);
                return Ok(());
            }
            Some(signal) if signal == Signal::KILL.as_raw() => {
                if !expected && seat.role == Role::Producer {
                    bail!("{who} was killed, but not by this program: out of memory?");
                }
                self.counts.self_killed += u32::from(!expected);
            }
            _ => bail!("{who} ended by itself ({status}); see {}", self.logs.join(&who).with_extension("log").display()),
        }
        self.fill(at)
    }

    /// Starts the next incarnation.
    fn fill(&mut self, at: usize) -> Result<()> {
        let seat = &self.seats[at];
        let (role, name) = (seat.role, Name { incarnation: seat.name.incarnation + 1, ..seat.name.clone() });
        let child = self.spawn(role, &name)?;
        self.counts.restarts += 1;
        self.seats[at] = Seat { role, name, state: State::Running(child), told: false };
        Ok(())
    }

    /// Kills a random running process.
    pub(crate) fn kill_one(&mut self, rng: &mut fastrand::Rng) -> Result<()> {
        let Some(at) = self.any_running(rng, |_| true) else { return Ok(()) };
        let State::Running(child) = std::mem::replace(&mut self.seats[at].state, State::Finished) else { return Ok(()) };
        process::signal(pid(&child), Signal::KILL)?;
        self.seats[at].state = State::Killed(child);
        match self.seats[at].role {
            Role::Producer => self.counts.producers_killed += 1,
            Role::Worker => self.counts.workers_killed += 1,
        }
        Ok(())
    }

    /// Tells a random running worker to end; another one takes its place.
    pub(crate) fn replace_one(&mut self, rng: &mut fastrand::Rng) -> Result<()> {
        let Some(at) = self.any_running(rng, |seat| seat.role == Role::Worker && !seat.told) else { return Ok(()) };
        if let State::Running(child) = &self.seats[at].state {
            process::signal(pid(child), Signal::TERM)?;
            self.seats[at].told = true;
        }
        Ok(())
    }

    /// Stops a random running process for a while.
    pub(crate) fn stop_one(&mut self, rng: &mut fastrand::Rng, duration: Duration) -> Result<()> {
        let Some(at) = self.any_running(rng, |_| true) else { return Ok(()) };
        if let State::Running(child) = &self.seats[at].state {
            process::signal(pid(child), Signal::STOP)?;
        }
        self.seats[at].note_stop(door::now() + duration);
        self.counts.stopped += 1;
        Ok(())
    }

    fn any_running(&self, rng: &mut fastrand::Rng, wanted: impl Fn(&Seat) -> bool) -> Option<usize> {
        let seats = self.seats.iter().enumerate();
        let running = seats.filter(|(_, seat)| matches!(seat.state, State::Running(_)) && wanted(seat)).map(|(at, _)| at);
        rng.choice(running.collect::<Vec<_>>())
    }

    /// Whether every producer is through.
    pub(crate) fn producers_finished(&self) -> bool {
        self.seats.iter().all(|seat| seat.role == Role::Worker || matches!(seat.state, State::Finished))
    }

    /// Whether any process is stopped.
    pub(crate) fn any_stopped(&self) -> bool {
        self.seats.iter().any(|seat| matches!(seat.state, State::Stopped(..)))
    }

    /// Asks every worker to shut down, and waits for it.
    pub(crate) async fn shut_down(&mut self, patience: Duration) -> Result<()> {
        let deadline = door::now() + patience;
        for seat in &mut self.seats {
            seat.go_on()?;
            match &seat.state {
                State::Running(child) => process::signal(pid(child), Signal::TERM)?,
                State::Away(_) => seat.state = State::Finished,
                _ => {}
            }
        }
        while let Some(at) = self.seats.iter().position(|seat| !matches!(seat.state, State::Finished)) {
            match self.seats[at].ended()? {
                Some((_, true)) => self.seats[at].state = State::Finished,
                Some((status, false)) => {
                    let who = self.seats[at].name.of(self.seats[at].role.as_str());
                    // One that was only just started dies of the signal, before it listens to it.
                    if !status.success() && status.signal() != Some(Signal::TERM.as_raw()) {
                        bail!("{who} was told to end and did so with {status}");
                    }
                    self.seats[at].state = State::Finished;
                }
                None if door::now() > deadline => {
                    bail!("{} was told to end and still runs", self.seats[at].name.of(self.seats[at].role.as_str()))
                }
                None => door::pause(Duration::from_millis(10)).await,
            }
        }
        Ok(())
    }
}

impl Drop for Fleet {
    /// Leaves no process behind.
    fn drop(&mut self) {
        for seat in &mut self.seats {
            if let State::Running(child) | State::Stopped(child, _) | State::Killed(child) = &mut seat.state {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl Seat {
    /// How the process ended, and whether the supervisor killed it.
    fn ended(&mut self) -> Result<Option<(ExitStatus, bool)>> {
        Ok(match &mut self.state {
            State::Running(child) | State::Stopped(child, _) => child.try_wait()?.map(|status| (status, false)),
            State::Killed(child) => child.try_wait()?.map(|status| (status, true)),
            State::Away(_) | State::Finished => None,
        })
    }

    fn has_stopped_itself(&self) -> bool {
        matches!(&self.state, State::Running(child) if process::has_stopped(pid(child)))
    }

    fn note_stop(&mut self, until: Instant) {
        self.state = match std::mem::replace(&mut self.state, State::Finished) {
            State::Running(child) => State::Stopped(child, until),
            other => other,
        };
    }

    fn go_on_if_due(&mut self) -> Result<bool> {
        let due = matches!(&self.state, State::Stopped(_, until) if door::now() >= *until);
        if due {
            self.go_on()?;
        }
        Ok(due)
    }

    fn go_on(&mut self) -> Result<()> {
        if let State::Stopped(child, _) = &self.state {
            process::signal(pid(child), Signal::CONT)?;
        }
        self.state = match std::mem::replace(&mut self.state, State::Finished) {
            State::Stopped(child, _) => State::Running(child),
            other => other,
        };
        Ok(())
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}
