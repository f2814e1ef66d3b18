//! What probes are told, and how the service ends.

use serde_json::Value;

use super::support::{Orders, eventually, folder};

#[tokio::test]
async fn probes_answer_from_the_start_to_the_end() {
    let folder = folder();
    let orders = Orders::start(&folder.path().join("orders.db"), &[], &[]);
    assert_eq!(orders.get("/healthz").await.0, 200);
    let ready = eventually("it is ready", async || {
        let (status, body) = orders.get("/readyz").await;
        (status == 200).then_some(body)
    });
    let ready: Value = serde_json::from_str(&ready.await).unwrap();
    assert_eq!((&ready["ready"], &ready["worker"]["live"], &ready["worker"]["lease"]), (&true.into(), &true.into(), &true.into()));
    orders.place("good", &[]).await;
    eventually("it is paid", async || (orders.ledger().await["paid"] == 1).then_some(())).await;
    assert_eq!(orders.get("/orders").await.0, 405);
    assert!(orders.process.end(), "it ends well when it is told to");
}

#[tokio::test]
async fn a_service_without_a_worker_is_live_and_ready() {
    let folder = folder();
    let orders = Orders::start(&folder.path().join("orders.db"), &["--role", "service"], &[]);
    assert_eq!(orders.get("/healthz").await.0, 200);
    let (status, body) = orders.get("/readyz").await;
    assert_eq!((status, &serde_json::from_str::<Value>(&body).unwrap()["worker"]), (200, &Value::Null));
    orders.place("good", &[]).await;
    assert_eq!(orders.ledger().await["tries"], 0, "nobody handles it here");
    assert!(orders.process.end());
}
