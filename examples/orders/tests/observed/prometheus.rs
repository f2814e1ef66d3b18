//! A real Prometheus scrapes the service while orders succeed and fail; what it counts is what the ledger says.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tickr_servers::prometheus;

use super::support::{Orders, PATIENCE, Process, eventually, folder};

fn observability() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../observability")
}

/// A server that scrapes one target every half a second.
struct Prometheus {
    _process: Process,
    address: String,
    http: reqwest::Client,
}

impl Prometheus {
    fn start(folder: &Path, target: &str) -> Self {
        let rules = observability().join("prometheus").canonicalize().unwrap();
        let configuration = format!(
            "global: {{ scrape_interval: 500ms, evaluation_interval: 500ms }}\n\
             rule_files: ['{0}/recording.yml', '{0}/alerts.yml']\n\
             scrape_configs: [{{ job_name: orders, static_configs: [{{ targets: ['{target}'] }}] }}]\n",
            rules.display()
        );
        let file = folder.join("prometheus.yml");
        fs::write(&file, configuration).unwrap();
        // It cannot be asked which port it took; this one was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let log = fs::File::create(folder.join("prometheus.log")).unwrap();
        let process = Process::start(
            Command::new(prometheus("prometheus").unwrap())
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .stderr(log),
        );
        Self { _process: process, address, http: reqwest::Client::new() }
    }

    async fn api(&self, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let answer = self.http.post(format!("http://{}/api/v1/{path}", self.address)).form(query);
        let answer: Value = answer.send().await.ok()?.json().await.ok()?;
        assert_eq!(answer["status"], "success", "{query:?}: {answer}");
        Some(answer["data"].clone())
    }

    /// The answer to an instant query; absent while there is none.
    async fn query(&self, query: &str) -> Vec<Value> {
        let data = self.api("query", &[("query", query)]).await.unwrap_or_default();
        data["result"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until every query has an answer; names those that have none.
    async fn knows(&self, mut queries: Vec<String>) {
        let begun = Instant::now();
        while !queries.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "no data for {queries:#?}");
            let mut left = Vec::new();
            for query in queries {
                if self.query(&query).await.is_empty() {
                    left.push(query);
                }
            }
            queries = left;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The sum of what a selector finds.
    async fn sum(&self, selector: &str) -> Option<i64> {
        let result = self.query(&format!("sum({selector})")).await;
        Some(result.first()?["value"][1].as_str()?.parse::<f64>().ok()? as i64)
    }
}

#[test]
fn rules_are_valid_and_their_tests_pass() {
    let folder = observability().join("prometheus");
    for arguments in [&["check", "rules", "recording.yml", "alerts.yml"][..], &["test", "rules", "tests.yml"]] {
        let output = Command::new(prometheus("promtool").unwrap()).args(arguments).current_dir(&folder).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "promtool {arguments:?}: {said}");
    }
}

#[tokio::test]
async fn counts_are_those_of_the_ledger_and_every_query_has_an_answer() {
    let folder = folder();
    let orders = Orders::start(&folder.path().join("orders.db"), &["--stats-seconds", "1", "--receipt-ms", "200"], &[]);
    let prometheus = Prometheus::start(folder.path(), &orders.address);
    eventually("it scrapes", async || (prometheus.sum("up").await == Some(1)).then_some(())).await;

    let (good, flaky, declined) = (60, 12, 5);
    for n in 0..good {
        orders.place("good", &[]).await;
        if n < flaky {
            orders.place("flaky", &[]).await;
        }
        if n < declined {
            orders.place("declined", &[]).await;
        }
    }
    let ledger = eventually("everything is handled", async || {
        let ledger = orders.ledger().await;
        (ledger["receipts"] == good + flaky && ledger["declined"] == declined).then_some(ledger)
    });
    let ledger = ledger.await;
    let of = |name: &str| ledger[name].as_i64().unwrap();
    assert_eq!([of("placed"), of("paid"), of("declined")], [good + flaky + declined, good + flaky, declined]);
    assert_eq!(of("tries"), good + 2 * flaky + declined);

    let attempts = |outcome: &str| format!("tickr_handler_attempts_total{{event_type='order.placed',outcome='{outcome}'}}");
    for (selector, expected) in [
        ("tickr_messages_enqueued_total{event_type='order.placed'}".to_owned(), of("placed")),
        ("tickr_messages_enqueued_total{event_type='receipt.due'}".to_owned(), of("paid")),
        (attempts("success"), of("paid")),
        (attempts("retry"), flaky),
        (attempts("dead"), of("declined")),
        ("tickr_handlers_started_total{event_type='order.placed'}".to_owned(), of("tries")),
        ("tickr_handler_duration_seconds_count{event_type='order.placed'}".to_owned(), of("tries")),
        ("tickr_messages_dead_total".to_owned(), of("declined")),
        ("tickr_handler_attempts_total{event_type='receipt.due',outcome='success'}".to_owned(), of("receipts")),
        ("tickr_queue_depth{status='dead'}".to_owned(), of("declined")),
        ("tickr_queue_depth{status!='dead'}".to_owned(), 0),
        ("tickr_inflight_handlers".to_owned(), 0),
    ] {
        let what = format!("{selector} = {expected}");
        eventually(&what, async || (prometheus.sum(&selector).await == Some(expected)).then_some(())).await;
    }

    prometheus.knows(dashboard_queries()).await;
    let rules = eventually("rules are evaluated", async || {
        let data = prometheus.http.get(format!("http://{}/api/v1/rules", prometheus.address)).send().await.ok()?;
        let data: Value = data.json().await.ok()?;
        let groups = data["data"]["groups"].as_array()?.clone();
        let rules: Vec<Value> = groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect();
        (!rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown")).then_some(rules)
    });
    for rule in rules.await {
        assert_eq!(rule["health"], "ok", "{rule}");
        // An alert that does not fire has no data of its own: what it looks at must be there.
        prometheus.knows(names(rule["query"].as_str().unwrap()).into_iter().collect()).await;
    }
    assert!(orders.process.end());
}

/// The queries of all panels, with values for the variables of the dashboard.
fn dashboard_queries() -> Vec<String> {
    let dashboard = fs::read_to_string(observability().join("grafana/tickr.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let mut queries = Vec::new();
    collect(&dashboard["panels"], &mut queries);
    assert!(queries.len() > 10, "{queries:?}");
    queries
        .into_iter()
        .map(|query| {
            let values = [("$__rate_interval", "10s"), ("$__interval", "10s"), ("$__range", "1m")];
            let query = values.iter().fold(query, |query, (name, value)| query.replace(name, value));
            let query = ["${job}", "$job", "${instance}", "$instance", "${event_type:regex}", "${event_type}", "$event_type"]
                .iter()
                .fold(query, |query, name| query.replace(name, ".*"));
            assert!(!query.contains('$'), "{query} has a variable that nobody knows");
            // A variable of one value is compared with =, which knows no patterns.
            let query = query.replace("=\".*\"", "=~\".*\"");
            // Some panels show only what is wrong: then there is what they look at.
            query.strip_suffix(" > 0").map_or(query.clone(), str::to_owned)
        })
        .collect()
}

fn collect(value: &Value, queries: &mut Vec<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, queries)),
        Value::Object(fields) => {
            queries.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, queries));
        }
        _ => {}
    }
}

/// The series that an expression names.
fn names(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.starts_with("tickr_") || word.contains(":tickr_")).map(str::to_owned).collect()
}
