//! Alerts: coalesced, on a thread of their own, so that no alerter ever holds up the engine.
//!
//! The thread polls the alerter within the application's runtime, so that it may use connections that live there. An alerter that
//! blocks the thread for good gets no further alerts, and nothing else stops. Under a clock that a test may pause a task of the
//! runtime takes the thread's place.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::door::{Clock, clock, task};
use crate::error::BoxError;
use crate::event_type::EventType;
use crate::id::MessageId;
use crate::observe::{Alerter, ErrorEvent, ErrorEventKind};
use crate::panic::{caught, caught_future};

/// The first event of a (kind, event type) is delivered at once, then one per this time, with the count of all.
const WINDOW: Duration = Duration::from_secs(10);
/// How long one delivery may take.
const DELIVERY_MAX: Duration = Duration::from_secs(30);
/// How many events may wait; beyond that they are counted as dropped in the log.
const QUEUE_MAX: usize = 1_024;

type Key = (ErrorEventKind, Option<EventType>);

enum Order {
    Event(ErrorEvent),
    Flush(oneshot::Sender<()>),
}

/// Where the engine drops its alerts.
#[derive(Debug)]
pub(super) struct Alerts(Option<Post>);

#[derive(Debug)]
struct Post {
    orders: mpsc::Sender<Order>,
    alerter: Arc<dyn Alerter>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Event(_) => "Event",
            Self::Flush(_) => "Flush",
        })
    }
}

impl Alerts {
    pub(super) fn start(alerter: Option<Arc<dyn Alerter>>, clock: Clock) -> Self {
        Self(alerter.map(|alerter| {
            let (orders, inbox) = mpsc::channel(QUEUE_MAX);
            let delivering = deliver_all(Arc::clone(&alerter), inbox);
            if clock.is_runtime() {
                task::spawn(delivering);
            } else {
                let runtime = Handle::current();
                let deliver = move || {
                    // It panics only when the runtime has ended before the worker, with which nobody listens any more.
                    drop(caught(|| runtime.block_on(delivering)));
                };
                if let Err(error) = task::spawn_thread("tickr-alerts", deliver) {
                    tracing::error!(%error, "there is no thread for alerts; they are dropped");
                }
            }
            Post { orders, alerter }
        }))
    }

    /// An error that the application's runtime cannot deliver because it is blocked: at once, on a thread and a runtime made for
    /// it.
    pub(super) fn apart(&self, kind: ErrorEventKind, error: impl Into<BoxError>) {
        let Some(Post { alerter, .. }) = &self.0 else { return };
        let (alerter, event) = (Arc::clone(alerter), ErrorEvent::new(kind, error));
        let deliver = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(deliver(&*alerter, Some(event))),
            Err(error) => tracing::error!(%error, "an alert has no runtime and was dropped"),
        };
        if let Err(error) = task::spawn_thread("tickr-alert", deliver) {
            tracing::error!(%error, "an alert has no thread and was dropped");
        }
    }

    /// An error of the engine itself.
    pub(super) fn core(&self, kind: ErrorEventKind, error: impl Into<BoxError>) {
        self.send(|| ErrorEvent::new(kind, error));
    }

    /// An error of a message, or of an event type.
    pub(super) fn message(&self, kind: ErrorEventKind, event_type: &EventType, id: MessageId, attempt: u16, error: &str) {
        self.send(|| {
            let mut event = ErrorEvent::new(kind, error);
            (event.event_type, event.message_id, event.attempt) = (Some(event_type.clone()), Some(id), attempt);
            event
        });
    }

    /// Messages of a type wait and nobody handles them.
    pub(super) fn unserved(&self, event_type: &EventType) {
        self.send(|| {
            let mut event = ErrorEvent::new(ErrorEventKind::NoHandler, format!("no live worker handles {event_type}"));
            event.event_type = Some(event_type.clone());
            event
        });
    }

    /// Makes an event and sends it, if there is an alerter.
    fn send(&self, event: impl FnOnce() -> ErrorEvent) {
        if let Some(Post { orders, .. }) = &self.0
            && orders.try_send(Order::Event(event())).is_err()
        {
            tracing::warn!("an alert was dropped: too many are waiting");
        }
    }

    /// Waits until everything that was sent is delivered.
    pub(super) async fn flush(&self) {
        let Some(Post { orders, .. }) = &self.0 else { return };
        let (done, flushed) = oneshot::channel();
        if orders.send(Order::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

/// Events of one key that came within the window.
struct Waiting {
    closes: tokio::time::Instant,
    event: Option<ErrorEvent>,
}

async fn deliver_all(alerter: Arc<dyn Alerter>, mut inbox: mpsc::Receiver<Order>) {
    let mut windows: HashMap<Key, Waiting> = HashMap::new();
    loop {
        let next = windows.values().map(|waiting| waiting.closes).min();
        let order = tokio::select! {
            biased;
            () = sleep_until(next) => {
                close_windows(&*alerter, &mut windows, clock::runtime_now()).await;
                continue;
            }
            order = inbox.recv() => order,
        };
        match order {
            Some(Order::Event(event)) => take(&*alerter, &mut windows, event).await,
            Some(Order::Flush(done)) => {
                for (_, waiting) in windows.drain() {
                    deliver(&*alerter, waiting.event).await;
                }
                let _ = done.send(());
            }
            None => return,
        }
    }
}

async fn take(alerter: &dyn Alerter, windows: &mut HashMap<Key, Waiting>, event: ErrorEvent) {
    let key = (event.kind, event.event_type.clone());
    match windows.get_mut(&key) {
        Some(Waiting { event: Some(first), .. }) => first.count += 1,
        Some(waiting) => waiting.event = Some(event),
        None => {
            windows.insert(key, Waiting { closes: clock::runtime_now() + WINDOW, event: None });
            deliver(alerter, Some(event)).await;
        }
    }
}

/// Delivers what windows that are over have collected; a window that collected nothing is forgotten.
async fn close_windows(alerter: &dyn Alerter, windows: &mut HashMap<Key, Waiting>, now: tokio::time::Instant) {
    let mut due = Vec::new();
    windows.retain(|_, waiting| {
        if waiting.closes > now {
            return true;
        }
        waiting.closes = now + WINDOW;
        due.push(waiting.event.take());
        due.last().is_some_and(Option::is_some)
    });
    for event in due {
        deliver(alerter, event).await;
    }
}

async fn deliver(alerter: &dyn Alerter, event: Option<ErrorEvent>) {
    let Some(event) = event else { return };
    let delivery = caught_future((alerter, event), |(alerter, event)| alerter.on_error(event));
    tokio::select! {
        biased;
        result = delivery => if let Err(panic) = result {
            tracing::error!(panic, "the alerter panicked");
        },
        () = clock::sleep(DELIVERY_MAX) => tracing::error!("the alerter took longer than {DELIVERY_MAX:?} and was dropped"),
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => clock::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
