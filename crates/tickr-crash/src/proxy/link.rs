//! One connection of a client, carried to the server and back.

use std::io::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::Cuts;
use super::wire::Frames;

/// What a connection of a line needs to know.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) server: (String, u16),
    pub(super) stalls: watch::Receiver<bool>,
    pub(super) cut_one_in: u32,
    pub(super) rng: fastrand::Rng,
    pub(super) cuts: Arc<Cuts>,
}

/// No answer is to be withheld.
const NONE: u64 = u64::MAX;

impl Link {
    /// The same for the next connection, with chances of its own.
    pub(super) fn fork(&mut self) -> Self {
        let Self { server, stalls, cut_one_in, rng, cuts } = self;
        Self { server: server.clone(), stalls: stalls.clone(), cut_one_in: *cut_one_in, rng: rng.fork(), cuts: Arc::clone(cuts) }
    }

    /// Carries until one side ends, or the connection is cut. Both sides are closed then.
    pub(super) async fn carry(mut self, client: TcpStream) {
        let carried = async {
            flowing(&mut self.stalls).await?;
            let server = TcpStream::connect((self.server.0.as_str(), self.server.1)).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            let withheld = Arc::new(AtomicU64::new(NONE));
            let down = answers(from_server, to_client, self.stalls.clone(), Arc::clone(&withheld));
            let cuts = Arc::clone(&self.cuts);
            tokio::select! {
                cut = self.requests(from_client, to_server, &withheld) => cut,
                cut = down => {
                    if cut? {
                        cuts.after.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                }
            }
        };
        // A connection that breaks by itself is as good as one that is cut.
        let _: Result<()> = carried.await;
    }

    /// Carries what the client asks.
    async fn requests(&mut self, mut client: OwnedReadHalf, mut server: OwnedWriteHalf, withheld: &AtomicU64) -> Result<()> {
        let mut frames = Frames::of_client();
        let mut asked = 0;
        let mut chunk = vec![0; 16 * 1024];
        loop {
            let read = client.read(&mut chunk).await?;
            if read == 0 {
                return Ok(());
            }
            frames.push(&chunk[..read]);
            let mut passed = Vec::new();
            while let Some(frame) = frames.next() {
                if frame.is_commit() && self.cut_one_in > 0 && self.rng.u32(..self.cut_one_in) == 0 {
                    match self.rng.u32(..5) {
                        0 => {
                            self.send(&mut server, &passed).await?;
                            return cut(&self.cuts.before);
                        }
                        1 => {
                            passed.extend(frame.bytes);
                            self.send(&mut server, &passed).await?;
                            return cut(&self.cuts.during);
                        }
                        // The other direction ends the connection when it sees the answer to this one.
                        _ => withheld.store(asked, Ordering::SeqCst),
                    }
                }
                asked += u64::from(frame.is_request());
                passed.extend(frame.bytes);
            }
            self.send(&mut server, &passed).await?;
        }
    }

    async fn send(&mut self, server: &mut OwnedWriteHalf, bytes: &[u8]) -> Result<()> {
        flowing(&mut self.stalls).await?;
        server.write_all(bytes).await
    }
}

fn cut(count: &AtomicU32) -> Result<()> {
    count.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Carries what the server answers, but for the answer that is withheld; says whether one was.
async fn answers(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    mut stalls: watch::Receiver<bool>,
    withheld: Arc<AtomicU64>,
) -> Result<bool> {
    let mut frames = Frames::of_server();
    let mut answered = 0;
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let read = server.read(&mut chunk).await?;
        if read == 0 {
            return Ok(false);
        }
        frames.push(&chunk[..read]);
        let mut passed = Vec::new();
        let mut over = false;
        while let Some(frame) = frames.next() {
            let withhold = answered >= withheld.load(Ordering::SeqCst);
            over |= withhold && frame.is_ready_for_query();
            answered += u64::from(frame.is_ready_for_query());
            if !withhold {
                passed.extend(frame.bytes);
            }
        }
        flowing(&mut stalls).await?;
        client.write_all(&passed).await?;
        if over {
            return Ok(true);
        }
    }
}

/// Waits while the line stalls.
async fn flowing(stalls: &mut watch::Receiver<bool>) -> Result<()> {
    stalls.wait_for(|stalled| !stalled).await.map(drop).map_err(Error::other)
}
