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
    one_signal().await;
    task::spawn(async {
        one_signal().await;
        hurry().cancel();
    });
}

/// Waits for the second signal; for ever when [`shutdown_signal`] was not used.
pub(crate) async fn second() {
    hurry().cancelled().await;
}

#[cfg(unix)]
async fn one_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "no signal handler could be installed");
            std::future::pending().await
        }
    }
}

#[cfg(not(unix))]
async fn one_signal() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::error!(%error, "no signal handler could be installed");
        std::future::pending().await
    }
}
