//! Lists: newest first, filtered, in pages.

use std::time::Duration;

use tickr_core::{Admin, DeadQuery, ListQuery, Message, MessageId, Status};

use crate::world::{ORDER, World, all_ok, dead, each, failed, ids, order, with};

async fn list(world: &World, query: ListQuery) -> Vec<MessageId> {
    world.storage().list(&query).await.unwrap().items.into_iter().map(|record| record.stored.id).collect()
}

fn reversed(ids: &[MessageId]) -> Vec<MessageId> {
    ids.iter().rev().copied().collect()
}

/// Messages are listed newest first.
pub async fn newest_first(world: World) {
    let sent = world.enqueue(5).await;
    assert_eq!(list(&world, ListQuery::default()).await, reversed(&sent));
}

/// Pages follow each other without gap or repeat, also while new messages arrive.
pub async fn pages_by_cursor(world: World) {
    let sent = world.enqueue(7).await;
    let (mut seen, mut query, mut sizes) = (Vec::new(), ListQuery::default().limit(3), Vec::new());
    loop {
        let page = world.storage().list(&query).await.unwrap();
        sizes.push(page.items.len());
        seen.extend(page.items.iter().map(|record| record.stored.id));
        world.enqueue(1).await;
        match page.next {
            Some(next) => query = query.before(next),
            None => break,
        }
    }
    assert_eq!((seen, sizes), (reversed(&sent), vec![3, 3, 1]));
}

/// A page that is exactly full and the last says that it is the last.
pub async fn full_last_page_has_no_cursor(world: World) {
    world.enqueue(3).await;
    let page = world.storage().list(&ListQuery::default().limit(3)).await.unwrap();
    assert_eq!((page.items.len(), page.next), (3, None));
}

/// A list of one status has just that; records are those of a look-up by id.
pub async fn by_status(world: World) {
    let (worker, claim) = world.claimed(4).await;
    let all = ids(&claim);
    world.settle(crate::world::and(with(&claim, 1, failed("boom")), &claim, 2, crate::world::dead("boom"))).await;
    world.settle(crate::world::ok(&claim, [3])).await;
    let created = world.enqueue(1).await[0];
    for (status, id) in [
        (Status::Created, created),
        (Status::Handling, all[0]),
        (Status::Retrying, all[1]),
        (Status::Dead, all[2]),
        (Status::Success, all[3]),
    ] {
        let page = world.storage().list(&ListQuery::default().status(status)).await.unwrap();
        assert_eq!(page.items, [world.record(id).await], "{status}");
    }
    drop(worker);
}

/// FAILED is a label of the history: no message is listed under it.
pub async fn failed_matches_nothing(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle(with(&claim, 0, failed("boom"))).await;
    assert!(list(&world, ListQuery::default().status(Status::Failed)).await.is_empty());
}

/// A list of one type, of one tenant, or of both has just that.
pub async fn by_type_and_tenant(world: World) {
    let a = world.put(order().tenant("acme")).await;
    let b = world.put(order()).await;
    let c = world.put(Message::new("other", "").tenant("acme")).await;
    assert_eq!(list(&world, ListQuery::default().event_type(ORDER)).await, [b, a]);
    assert_eq!(list(&world, ListQuery::default().tenant("acme")).await, [c, a]);
    assert_eq!(list(&world, ListQuery::default().tenant("acme").event_type("other")).await, [c]);
    assert!(list(&world, ListQuery::default().event_type("none")).await.is_empty());
}

/// A list since a moment leaves out what was created before.
pub async fn since_a_moment(world: World) {
    world.enqueue(2).await;
    world.advance_secs(10);
    let since = world.now().await.before(Duration::from_secs(5));
    let later = world.enqueue(2).await;
    assert_eq!(list(&world, ListQuery::default().since(since)).await, reversed(&later));
    let since = world.record(later[0]).await.stored.created_at;
    assert_eq!(list(&world, ListQuery::default().since(since)).await, reversed(&later), "what was created at that moment is in it");
}

/// Filters and pages go together: every match is found, however rare.
pub async fn rare_matches_are_found_across_pages(world: World) {
    let mut rare = Vec::new();
    for n in 0..60 {
        let message = if n % 20 == 0 { order().tenant("rare") } else { order() };
        let id = world.put(message).await;
        if n % 20 == 0 {
            rare.push(id);
        }
    }
    let (mut seen, mut query) = (Vec::new(), ListQuery::default().tenant("rare").limit(1));
    loop {
        let page = world.storage().list(&query).await.unwrap();
        seen.extend(page.items.iter().map(|record| record.stored.id));
        match page.next {
            Some(next) => query = query.before(next),
            None => break,
        }
    }
    assert_eq!(seen, reversed(&rare));
}

/// Dead letters are listed newest first, by type and in pages, with body, attempts and reason.
pub async fn dead_letters(world: World) {
    let mut dead = Vec::new();
    for _ in 0..3 {
        dead.push(world.dead(Message::new(ORDER, "body")).await);
    }
    let other = world.dead(Message::new("other", "")).await;
    let page = world.storage().list_dead(&DeadQuery::default().event_type(ORDER).limit(2)).await.unwrap();
    assert_eq!((page.items.iter().map(|letter| letter.id).collect::<Vec<_>>(), page.next), (vec![dead[2], dead[1]], Some(dead[1])));
    let letter = &page.items[0];
    assert_eq!((letter.event_type.as_str(), letter.attempt, letter.reason.as_str()), (ORDER, 1, "no use"));
    assert_eq!(&letter.stored.as_ref().expect("a body").payload[..], b"body");
    let rest = world.storage().list_dead(&DeadQuery::default().event_type(ORDER).limit(2).before(dead[1])).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));
    let page = async |query: DeadQuery| {
        let page = world.storage().list_dead(&query).await.unwrap();
        (page.items.into_iter().map(|letter| letter.id).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(page(DeadQuery::default().limit(3)).await, (vec![other, dead[2], dead[1]], Some(dead[1])));
    assert_eq!(page(DeadQuery::default().limit(3).before(dead[1])).await, (vec![dead[0]], None));
}

/// Successes are listed while their body is kept.
pub async fn successes_are_listed(world: World) {
    let (_, claim) = world.claimed(3).await;
    world.settle(all_ok(&claim)).await;
    assert_eq!(list(&world, ListQuery::default().status(Status::Success)).await, reversed(&ids(&claim)));
}

/// A limit beyond the largest page is the largest page, and nothing in it is cut short.
pub async fn huge_limit_is_the_largest_page(world: World) {
    let sent = world.enqueue(20).await;
    assert_eq!(list(&world, ListQuery::default().limit(u32::MAX)).await, reversed(&sent));
}

/// A page scans no more messages than it may, however few of them match: it is empty, and its cursor leads on.
pub async fn scan_is_bounded(world: World) {
    let sent = world.enqueue(30).await;
    let query = ListQuery::default().event_type("absent").scan_max(10);
    let page = world.storage().list(&query).await.unwrap();
    assert_eq!((page.items, page.next), (vec![], Some(sent[20])));
    let page = world.storage().list(&query.clone().before(sent[20])).await.unwrap();
    assert_eq!((page.items, page.next), (vec![], Some(sent[10])));
    let page = world.storage().list(&query.before(sent[10])).await.unwrap();
    assert!(page.items.is_empty() && page.next.is_none_or(|next| next == sent[0]), "{page:?}");
}

/// Neither does a page of what is dead or waits.
pub async fn scan_of_one_status_is_bounded(world: World) {
    let sent = world.enqueue(30).await;
    for status in [Status::Created, Status::Dead] {
        let query = ListQuery::default().status(status).event_type("absent").scan_max(10);
        let page = world.storage().list(&query).await.unwrap();
        assert_eq!((page.items, page.next), (vec![], Some(sent[20])), "{status}");
        let page = world.storage().list(&query.before(sent[20])).await.unwrap();
        assert_eq!((page.items, page.next), (vec![], Some(sent[10])), "{status}");
        world.kill(&sent).await;
    }
}

/// Pages that are followed to the end leave nothing out and show nothing twice, whatever was asked for and however little one scans.
pub async fn short_pages_leave_nothing_out(world: World) {
    let mut sent = Vec::new();
    for n in 0..30 {
        let message = if n % 7 == 0 { Message::new("rare", "") } else { order() };
        sent.push(world.put(if n % 5 == 0 { message.tenant("t") } else { message }).await);
    }
    let worker = world.worker().await;
    world.settle_ok(&worker.claim(4).await).await;
    let claim = worker.claim(4).await;
    world.settle(each(&claim, &dead("no use"))).await;
    worker.claim(4).await;
    for query in [
        ListQuery::default(),
        ListQuery::default().event_type("rare"),
        ListQuery::default().tenant("t"),
        ListQuery::default().event_type("rare").tenant("t"),
        ListQuery::default().status(Status::Created),
        ListQuery::default().status(Status::Created).event_type("rare"),
        ListQuery::default().status(Status::Created).tenant("t"),
        ListQuery::default().status(Status::Success),
        ListQuery::default().status(Status::Dead),
        ListQuery::default().status(Status::Handling),
        ListQuery::default().since(world.record(sent[9]).await.stored.created_at),
    ] {
        let all = list(&world, query.clone().limit(1_000)).await;
        for scan_max in [0, 1, 3, 7, 1_000] {
            let (mut seen, mut page) = (Vec::new(), query.clone().limit(2).scan_max(scan_max));
            loop {
                let answer = world.storage().list(&page).await.unwrap();
                seen.extend(answer.items.iter().map(|record| record.stored.id));
                match answer.next {
                    Some(next) => page = page.before(next),
                    None => break,
                }
            }
            assert_eq!(seen, all, "{query:?} by {scan_max}");
        }
    }
}
