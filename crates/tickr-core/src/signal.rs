//! Signals of the operating system.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use crate::door::task;

/// Fires with the second signal after [`shutdown_signal`] saw the first.
fn hurry() -> &'static CancellationToken {
    static HURRY: OnceLock<CancellationToken> = OnceLock::new();
    HURRY.get_or_init(CancellationToken::new)
}

/// Waits for SIGTERM or SIGINT (Ctrl-C), for [`Worker::run_until`](crate::Worker::run_until). After the first, a second
/// signal makes every worker of the process skip its grace.
///
/// When no signal handler can be installed it waits for ever, and the process keeps the default behaviour.
pub async fn shutdown_signal() {
    let mut signals = Signals::install();
    signals.next().await;
    // The same streams go on, so that a second signal is not missed however soon it comes.
    task::spawn(async move {
        signals.next().await;
        hurry().cancel();
    });
}

/// Waits for the second signal; for ever when [`shutdown_signal`] was not used.
pub(crate) async fn second() {
    hurry().cancelled().await;
}

/// SIGTERM and SIGINT; absent when no handler could be installed.
#[cfg(unix)]
struct Signals(Option<[tokio::signal::unix::Signal; 2]>);

#[cfg(unix)]
impl Signals {
    fn install() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => Self(Some([terminate, interrupt])),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "no signal handler could be installed");
                Self(None)
            }
        }
    }

    async fn next(&mut self) {
        let Some([terminate, interrupt]) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

/// Ctrl-C.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    const fn install() -> Self {
        Self
    }

    async fn next(&mut self) {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "no signal handler could be installed");
            std::future::pending().await
        }
    }
}
