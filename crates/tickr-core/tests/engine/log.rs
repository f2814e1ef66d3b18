//! What is logged: enough to find a message and its attempt, and nothing of a payload.

use std::io;
use std::sync::{Arc, Mutex};

use tickr_core::{Context, Failure, Handler, Message, MessageId};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::LevelFilter;

use super::support::{enqueue, memory, sound, worker};

const SECRET: &str = "4111-1111";

/// The lines that are logged while it is the thread's own log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

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

    fn text(&self) -> String {
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
