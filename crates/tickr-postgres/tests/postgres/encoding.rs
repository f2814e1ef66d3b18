//! A database that is not encoded in UTF8.

use tickr_core::{Admin, Client, ErrorKind, Failure, Message, Raw, Selection, Status, Storage, Worker};

use super::support::{Database, ORDER, message, secs, sound, status};

async fn handle(body: Raw) -> Result<(), Failure> {
    match &*body.0 {
        b"cyrillic" => Err(Failure::dead("ошибка")),
        b"latin" => Err(Failure::dead("größe")),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_the_database_lacks_keep_no_outcome() {
    for (encoding, cyrillic, latin) in [
        ("LATIN1", "\\u{43e}\\u{448}\\u{438}\\u{431}\\u{43a}\\u{430}", "größe"),
        ("WIN1251", "\\u{43e}\\u{448}\\u{438}\\u{431}\\u{43a}\\u{430}", "gr\\u{f6}\\u{df}e"),
        ("SQL_ASCII", "ошибка", "größe"),
    ] {
        let database = Database::encoded(encoding).await;
        let storage = database.storage();
        storage.migrate().await.unwrap();
        let client = Client::new(storage.clone());
        let ids = client.enqueue_all((0..18).map(|n| message(&n.to_string()))).await.unwrap();
        let bad = client.enqueue(message("cyrillic")).await.unwrap().id();
        let fair = client.enqueue(message("latin")).await.unwrap().id();
        let later = client.enqueue(message("later").after(secs(600))).await.unwrap().id();
        let worker = Worker::builder(storage.clone()).name("хост").lease(secs(3)).on(ORDER, handle).build().unwrap();
        let report = worker.run_until_idle().await.unwrap();
        assert_eq!((report.succeeded, report.dead), (18, 2), "{encoding}");
        assert_eq!(status(&storage, ids[0].id()).await, Status::Success);
        let reason = async |id| storage.get(id).await.unwrap().unwrap().last_error.unwrap();
        assert_eq!((reason(bad).await.as_str(), reason(fair).await.as_str()), (cyrillic, latin), "{encoding}");
        storage.kill(&Selection::from(later), "хватит").await.unwrap();
        assert_eq!(status(&storage, later).await, Status::Dead);
        // What people do not only read is refused as it is: the caller's to change.
        if encoding != "SQL_ASCII" {
            let error = client.enqueue(Message::new(ORDER, "1").tenant("日本")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(!error.to_string().contains("publication"), "that is the advice for another error: {error}");
        }
        sound(&storage).await;
    }
}
