//! Pauses: a type, or everything, is not claimed for a while.

use std::time::Duration;

use tickr_core::{Admin, ErrorKind, Message, Pause, PauseRequest, Stats, Storage};

use crate::world::{ORDER, World, each, failed, ids};

/// A paused type is not claimed; other types are.
pub async fn paused_type_is_not_claimed(world: World) {
    world.enqueue(2).await;
    let other = world.put(Message::new("other", "")).await;
    assert!(world.pause(ORDER).await);
    assert_eq!(ids(&world.worker().await.claim_of(&[ORDER, "other"], 10).await), [other]);
}

/// What is leased when its type is paused goes on.
pub async fn leaves_leased(world: World) {
    let (worker, claim) = world.claimed(2).await;
    world.pause(ORDER).await;
    assert_eq!(worker.beat().await.open.len(), 1);
    world.settle_ok(&claim).await;
}

/// A resumed type is claimed again, with what came meanwhile.
pub async fn resume_allows_claims(world: World) {
    world.pause(ORDER).await;
    let sent = world.enqueue(2).await;
    assert!(world.resume(ORDER).await);
    assert_eq!(ids(&world.worker().await.claim(10).await), sent);
}

/// Pausing twice, or resuming what is not paused, says that nothing changed.
pub async fn again_says_so(world: World) {
    assert!(!world.resume(ORDER).await);
    assert_eq!((world.pause(ORDER).await, world.pause(ORDER).await), (true, false));
    assert_eq!((world.resume(ORDER).await, world.resume(ORDER).await), (true, false));
}

/// Pauses are listed with who, why, since when and until when: everything first, then types by name.
pub async fn pauses_are_listed(world: World) {
    let before = world.now().await;
    world.pause("b").await;
    world.pause_as(PauseRequest::everything().reason("a copy of production").by("anna")).await;
    let until = before.after(Duration::from_secs(3_600));
    world.pause_as(PauseRequest::event_type("a").until(until).reason("the mail server is down")).await;
    let listed = world.paused().await;
    let names: Vec<String> = listed.iter().map(|pause| pause.scope.to_string()).collect();
    assert_eq!(names, ["everything", "a", "b"]);
    let texts = |pause: &Pause| (pause.until, pause.reason.clone(), pause.by.clone());
    assert_eq!(texts(&listed[0]), (None, Some("a copy of production".to_owned()), Some("anna".to_owned())));
    assert_eq!(texts(&listed[1]), (Some(until), Some("the mail server is down".to_owned()), None));
    assert_eq!(texts(&listed[2]), (None, None, None));
    let slack = world.capabilities().time_precision;
    let after = world.now().await.after(slack);
    assert!(listed.iter().all(|pause| pause.since >= before.before(slack) && pause.since <= after), "{listed:?}");
}

/// A pause of everything stops every type, also one that has no message yet.
pub async fn everything_stops_all_types(world: World) {
    world.enqueue(1).await;
    assert!(world.pause_as(PauseRequest::everything()).await);
    world.put(Message::new("later", "")).await;
    let worker = world.worker().await;
    assert!(worker.claim_of(&[ORDER, "later"], 10).await.messages.is_empty());
    assert!(world.resume_everything().await);
    assert_eq!(worker.claim_of(&[ORDER, "later"], 10).await.messages.len(), 2);
}

/// Resuming everything leaves a type paused that was paused by name, and the other way round.
pub async fn everything_and_types_are_independent(world: World) {
    world.enqueue(1).await;
    assert!(world.pause(ORDER).await);
    assert!(world.pause_as(PauseRequest::everything()).await, "one of its own");
    let worker = world.worker().await;
    assert!(world.resume_everything().await);
    assert!(worker.claim(10).await.messages.is_empty());
    assert!(!world.resume_everything().await);
    world.pause_as(PauseRequest::everything()).await;
    assert!(world.resume(ORDER).await);
    assert!(worker.claim(10).await.messages.is_empty());
    assert!(world.resume_everything().await);
    assert_eq!(worker.claim(10).await.messages.len(), 1);
}

/// A pause ends by the database's clock, without a write: claims find what waited, and nothing is paused any more.
pub async fn ends_by_the_databases_clock(world: World) {
    let worker = world.immortal().await;
    let requests: [fn() -> PauseRequest; 2] = [|| PauseRequest::event_type(ORDER), PauseRequest::everything];
    for request in requests {
        world.enqueue(1).await;
        assert!(world.pause_as(request().until(Duration::from_secs(60))).await);
        world.advance_secs(50);
        assert!(worker.claim(10).await.messages.is_empty());
        let until = world.paused().await[0].until.expect("an end");
        assert!(until > world.now().await);
        world.advance_secs(11);
        assert_eq!(world.paused().await, []);
        assert!(!world.stats().await.of(ORDER).unwrap().paused);
        assert_eq!(worker.claim(10).await.messages.len(), 1);
        assert!(world.pause_as(request().until(Duration::from_secs(60))).await, "what was over counts for nothing");
        world.advance_secs(61);
        assert!(!(world.resume(ORDER).await || world.resume_everything().await), "it had ended by itself");
    }
}

/// A second pause replaces the first, also by an earlier end, unless it is asked to keep the longer one.
pub async fn second_pause_replaces_the_first(world: World) {
    let secs = Duration::from_secs;
    let reason = || async { world.paused().await.pop().and_then(|pause| pause.reason).unwrap_or_default() };
    let request = |reason: &str| PauseRequest::event_type(ORDER).reason(reason);
    world.pause_as(request("first")).await;
    world.pause_as(request("shorter").until(secs(100))).await;
    assert_eq!(reason().await, "shorter");
    assert!(!world.pause_as(request("shorter still").until(secs(50)).keep_longer()).await);
    assert_eq!(reason().await, "shorter");
    world.pause_as(request("longer").until(secs(200)).keep_longer()).await;
    assert_eq!(reason().await, "longer");
    world.pause_as(request("endless").keep_longer()).await;
    assert_eq!(reason().await, "endless");
    world.pause_as(request("ends").until(secs(300)).keep_longer()).await;
    assert_eq!(reason().await, "endless");
    world.pause_as(request("by hand").until(secs(10))).await;
    world.advance_secs(11);
    assert!(world.pause_as(request("afterwards").until(secs(5)).keep_longer()).await);
    assert_eq!(reason().await, "afterwards");
}

/// A pause that could not hold, or cannot be stored, is refused, and so is the resume of what is no event type.
pub async fn wrong_pauses_are_refused(world: World) {
    let now = world.now().await;
    for request in [
        PauseRequest::event_type(""),
        PauseRequest::event_type("a\0b"),
        PauseRequest::event_type(ORDER).until(Duration::ZERO),
        PauseRequest::everything().until(now.before(Duration::from_secs(1))),
        PauseRequest::event_type(ORDER).reason("x".repeat(1_001)),
        PauseRequest::event_type(ORDER).by("\0"),
    ] {
        assert_eq!(world.storage().pause(&request).await.unwrap_err().kind(), ErrorKind::Config, "{request:?}");
    }
    assert_eq!(world.storage().resume(&"".into()).await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(world.paused().await, []);
    let far = PauseRequest::event_type(ORDER).until(Duration::MAX).reason("x".repeat(1_000)).by("y".repeat(255));
    assert!(world.pause_as(far).await);
    assert_eq!(world.paused().await[0].until, None, "an end that no database stores is none");
}

/// Statistics list what is paused by name, also without messages, and mark what is paused with everything; they know the ends.
pub async fn statistics_know_pauses(world: World) {
    let now = world.now().await;
    let [soon, late] = [60, 120].map(|secs| now.after(Duration::from_secs(secs)));
    world.pause_as(PauseRequest::event_type("quiet").until(late)).await;
    world.pause("endless").await;
    world.enqueue(1).await;
    let of = |stats: &Stats, name: &str| stats.of(name).map(|stats| (stats.paused, stats.paused_until)).unwrap();
    let stats = world.stats().await;
    assert_eq!((of(&stats, "quiet"), of(&stats, "endless")), ((true, Some(late)), (true, None)));
    assert_eq!(of(&stats, ORDER), (false, None));
    world.pause_as(PauseRequest::everything().until(soon).reason("maintenance")).await;
    let stats = world.stats().await;
    assert_eq!(of(&stats, ORDER), (true, Some(soon)));
    assert_eq!((of(&stats, "quiet"), of(&stats, "endless")), ((true, Some(late)), (true, None)), "the last end counts");
    assert_eq!(stats.pauses, world.paused().await);
    assert_eq!(stats.pauses[0].reason.as_deref(), Some("maintenance"));
}

/// A pause is in the database: every handle keeps to it.
pub async fn pause_holds_for_other_handles(world: World) {
    world.enqueue(1).await;
    let worker = world.worker().await.through(world.connect().await);
    world.pause(ORDER).await;
    assert!(worker.claim(10).await.messages.is_empty());
}

/// A message that fails while its type is paused waits for the resume.
pub async fn failed_message_of_paused_type_waits(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.pause(ORDER).await;
    world.settle(each(&claim, &failed("boom"))).await;
    assert!(worker.claim(10).await.messages.is_empty());
    world.resume(ORDER).await;
    assert_eq!(worker.claim(10).await.messages[0].attempt, 2);
}
