//! What is logged: enough to find a message and its attempt, and nothing of a payload.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tickr_core::{Context, Failure, Handler, Message, MessageId, Status, Timestamp};
use tokio::time::sleep;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::LevelFilter;

use super::support::{Mortal, enqueue, enqueue_many, eventually, memory, sound, stop, until_status, worker};

const SECRET: &str = "4111-1111";

/// The lines that are logged while it is the thread's own log.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn capture(&self) -> DefaultGuard {
        let lines = self.clone();
        let log = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_ansi(false).with_writer(move || lines.clone());
        tracing::subscriber::set_default(log.finish())
    }

    /// The same for all threads of this process.
    pub(crate) fn capture_warnings_of_all_threads(&self) {
        let lines = self.clone();
        let log = tracing_subscriber::fmt().with_max_level(LevelFilter::WARN).with_ansi(false).with_writer(move || lines.clone());
        tracing::subscriber::set_global_default(log.finish()).unwrap();
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The only line that says so.
    fn line(&self, words: &str) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(words)).collect();
        assert_eq!(lines.len(), 1, "{words}: {text}");
        lines[0].to_owned()
    }
}

async fn talk(context: Context) -> Result<(), Failure> {
    tracing::info!("my own words");
    match context.content_type() {
        Some("panics") => panic!("out of order"),
        Some(_) => Err(Failure::dead("refused")),
        None => Ok(()),
    }
}

#[tokio::test(start_paused = true)]
async fn events_and_the_span_of_an_attempt_say_which_it_is() {
    let (storage, lines) = (memory(), Lines::default());
    let _log = lines.capture();
    let message = |id| Message::new("order.paid", SECRET).id(id);
    let [fine, panics, refused] = [MessageId::new(), MessageId::new(), MessageId::new()];
    enqueue(&storage, message(fine)).await;
    let worker = worker(&storage).on("order.paid", talk.max_attempts(1)).build().unwrap();
    worker.run_until_idle().await.unwrap();

    let told = |line: &str, id: MessageId| {
        for part in ["event_type=order.paid", &format!("message_id={id}"), "attempt=1"] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        // The worker's name is quoted where it is a field of a span.
        assert!(line.contains("worker=w") || line.contains("worker=\"w\""), "{line}");
        let token = line.split("token=").nth(1).unwrap_or_default();
        assert!(token.chars().take(36).filter(|c| *c == '-').count() == 4, "{line}");
    };
    told(&lines.line("my own words"), fine);
    assert!(lines.line("my own words").contains("tickr.handler{"));
    told(&lines.line("outcome recorded"), fine);

    enqueue(&storage, message(panics).content_type("panics")).await;
    worker.run_until_idle().await.unwrap();
    told(&lines.line("runner: handler panicked"), panics);
    told(&lines.line("message is dead"), panics);
    enqueue(&storage, message(refused).content_type("refuses")).await;
    worker.run_until_idle().await.unwrap();
    told(&lines.line("error=\"refused\""), refused);

    sound(&storage).await;
    assert!(!lines.text().contains(SECRET), "{}", lines.text());
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_says_when_the_next_one_follows_and_how_many_there_are() {
    let (storage, lines) = (memory(), Lines::default());
    let _log = lines.capture();
    enqueue(&storage, Message::new("a", "")).await;
    let fail = async || Err::<(), _>(Failure::retry_after(Duration::from_secs(3_600), "no"));
    let before = Timestamp::now().after(Duration::from_secs(3_600));
    worker(&storage).on("a", fail.max_attempts(4)).build().unwrap().run_until_idle().await.unwrap();
    let after = Timestamp::now().after(Duration::from_secs(3_600));
    let line = lines.line("attempt failed");
    assert!(line.contains("attempt=1 max_attempts=4 "), "{line}");
    let at = line.split("next_attempt_at=").nth(1).unwrap().split(' ').next().unwrap();
    assert!((before.to_string()..=after.to_string()).contains(&at.to_owned()), "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_says_that_it_ended_and_what_it_did() {
    let (storage, lines) = (memory(), Lines::default());
    let _log = lines.capture();
    enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).on("a", async || {}).build().unwrap();
    worker.run_until_idle().await.unwrap();
    let line = lines.line("worker ended");
    assert!(line.contains(" INFO ") && line.contains("worker=w claimed=1 succeeded=1 skipped=0 retried=0 dead=0"), "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_start_says_why_it_ended() {
    let (storage, lines) = (super::support::Faulty::new(), Lines::default());
    let _log = lines.capture();
    storage.next(super::support::Op::Register, super::support::Fault::Refuse(tickr_core::ErrorKind::Config));
    worker(&storage).on("a", async || {}).build().unwrap().run_until_idle().await.unwrap_err();
    let line = lines.line("worker ended with an error");
    assert!(line.contains("ERROR") && line.contains("register: refused by the test"), "{line}");
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_back_is_said_once_and_nothing_in_calm() {
    let (storage, lines) = (memory(), Lines::default());
    let _log = lines.capture();
    let ids = enqueue_many(&storage, "a", 2).await;
    let pending = (async || std::future::pending::<()>().await).no_timeout();
    let mortal = Mortal::start(worker(&storage).name("dies").lease(Duration::from_secs(2)).on("a", pending).build().unwrap());
    until_status(&storage, ids[1], Status::Handling).await;
    mortal.crash().await;
    let worker = worker(&storage).lease(Duration::from_secs(2)).on("a", async || {}).build().unwrap().spawn();
    until_status(&storage, ids[1], Status::Success).await;
    sleep(Duration::from_secs(60)).await;
    let line = lines.line("taken back");
    assert!(line.contains("WARN") && line.contains("work of dead workers was taken back workers=1 messages=2"), "{line}");
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_type_that_nobody_handles_is_logged_without_observers_too() {
    let (storage, lines) = (memory(), Lines::default());
    let _log = lines.capture();
    enqueue(&storage, Message::new("misspelt", "")).await;
    let unobserved = || worker(&storage).on("a", async || {});
    let running = unobserved().build().unwrap().spawn();
    eventually("it is logged", async || lines.text().contains("no live worker handles")).await;
    stop(running).await;
    let line = lines.line("no live worker handles");
    assert!(line.contains(" WARN ") && line.contains("event_type=misspelt"), "{line}");

    let running = unobserved().stats_interval(None).build().unwrap().spawn();
    sleep(Duration::from_secs(600)).await;
    stop(running).await;
    lines.line("no live worker handles");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_of_a_type_share_a_line_as_alerts_do() {
    let (storage, lines) = (memory(), Lines::default());
    let _log = lines.capture();
    enqueue_many(&storage, "a", 50).await;
    enqueue_many(&storage, "b", 1).await;
    let die = async || Err::<(), _>(Failure::dead("hopeless"));
    worker(&storage).on("a", die).on("b", die).build().unwrap().run_until_idle().await.unwrap();
    let text = lines.text();
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 3, "{errors:#?}");
    assert_eq!(errors.iter().filter(|line| line.contains("message is dead")).count(), 2);
    assert!(errors[2].contains("more messages are dead event_type=a worker=w count=49"), "{errors:#?}");
}
