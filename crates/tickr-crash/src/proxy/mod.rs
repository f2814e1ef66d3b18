//! The network between processes and a PostgreSQL server, which breaks and stalls.
//!
//! There are several lines to the server, each with a port of its own, so that one may stall while another works. On each of them
//! connections are cut around a COMMIT: before it reaches the server, as soon as it was sent, or after the server has answered
//! and before the client hears of it. To the client all of these look alike.

mod link;
mod wire;

use std::net::TcpListener as Port;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use self::link::Link;

/// The lines, until this is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    lines: Vec<Line>,
    cuts: Arc<Cuts>,
    /// Dropped first: the thread ends by it.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Line {
    port: u16,
    stalled: watch::Sender<bool>,
}

/// How many connections were cut.
#[derive(Debug, Default)]
struct Cuts {
    before: AtomicU32,
    during: AtomicU32,
    after: AtomicU32,
}

/// How many connections were cut before a COMMIT reached the server, while it did, and after it was answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cut {
    pub(crate) before: u32,
    pub(crate) during: u32,
    pub(crate) after: u32,
}

impl Proxy {
    /// Opens lines to a server. One commit of `cut_one_in` is cut; 0 for none.
    pub(crate) fn start(host: &str, port: u16, lines: usize, cut_one_in: u32, seed: u64) -> Result<Self> {
        let cuts = Arc::new(Cuts::default());
        let mut ports = Vec::new();
        let mut opened = Vec::new();
        for line in 0..lines {
            let listener = Port::bind(("127.0.0.1", 0)).context("no port for a line to the server")?;
            listener.set_nonblocking(true)?;
            let (stalled, stalls) = watch::channel(false);
            ports.push(Line { port: listener.local_addr()?.port(), stalled });
            let rng = fastrand::Rng::with_seed(seed.wrapping_add(line as u64));
            let link = Link { server: (host.to_owned(), port), stalls, cut_one_in, rng, cuts: Arc::clone(&cuts) };
            opened.push((listener, link));
        }
        let (end, ended) = oneshot::channel();
        // On a thread of its own: the supervisor waits for a server that restarts, and the network does not.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("lines".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut serving = JoinSet::new();
                for (listener, link) in opened {
                    serving.spawn(serve(listener, link));
                }
                tokio::select! {
                    _ = ended => {}
                    failed = serving.join_next() => tracing::error!(?failed, "a line to the server ended"),
                }
            });
        })?;
        Ok(Self { lines: ports, cuts, end: Some(end), thread: Some(thread) })
    }

    /// The ports of the lines.
    pub(crate) fn ports(&self) -> impl Iterator<Item = u16> {
        self.lines.iter().map(|line| line.port)
    }

    /// Stalls a line, or lets it go on.
    pub(crate) fn stall(&self, line: usize, stalled: bool) {
        self.lines[line].stalled.send_replace(stalled);
    }

    /// What was cut until now.
    pub(crate) fn cut(&self) -> Cut {
        let read = |count: &AtomicU32| count.load(Ordering::Relaxed);
        Cut { before: read(&self.cuts.before), during: read(&self.cuts.during), after: read(&self.cuts.after) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes connections of one line.
async fn serve(listener: Port, mut link: Link) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            client = listener.accept() => {
                let (client, _) = client?;
                connections.spawn(link.fork().carry(client));
            }
            // Forgets those that ended.
            Some(_) = connections.join_next() => {}
        }
    }
}
