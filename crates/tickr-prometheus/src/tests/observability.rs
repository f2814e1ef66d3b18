//! What the rules, the dashboard and the runbook say is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use prometheus::proto::MetricType;
use tickr_core::{EventType, Metrics, Stats, Timestamp, TypeStats};

use super::registered;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Words that begin with `prefix`.
fn words(text: &str, prefix: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.starts_with(prefix)).map(str::to_owned).collect()
}

fn exported() -> BTreeSet<String> {
    let (registry, metrics) = registered();
    metrics.message_enqueued("a");
    metrics.handler_started("a", 1);
    metrics.queue_sampled(&Stats::new(vec![TypeStats::new(EventType::new("a").unwrap())], Timestamp::from_micros(1)));
    let names = |family: &prometheus::proto::MetricFamily| {
        let suffixes = if family.get_field_type() == MetricType::HISTOGRAM { &["_bucket", "_sum", "_count"][..] } else { &[""] };
        suffixes.iter().map(|suffix| format!("{}{suffix}", family.name())).collect::<Vec<_>>()
    };
    registry.gather().iter().flat_map(names).collect()
}

#[test]
fn rules_and_dashboard_ask_for_metrics_that_exist() {
    let exported = exported();
    let recording = read("observability/prometheus/recording.yml");
    let recorded: BTreeSet<String> = words(&recording, "job").into_iter().filter(|word| word.contains(":tickr_")).collect();
    for file in ["prometheus/recording.yml", "prometheus/alerts.yml", "prometheus/tests.yml", "grafana/tickr.json"] {
        let text = read(&format!("observability/{file}"));
        let asked = words(&text, "tickr_");
        assert!(!asked.is_empty());
        assert_eq!(asked.difference(&exported).collect::<Vec<_>>(), Vec::<&String>::new(), "{file}");
        let rules: BTreeSet<String> = words(&text, "job").into_iter().filter(|word| word.contains(":tickr_")).collect();
        assert_eq!(rules.difference(&recorded).collect::<Vec<_>>(), Vec::<&String>::new(), "{file}");
    }
}

#[test]
fn every_alert_has_a_section_in_the_runbook_and_cases() {
    let (alerts, runbook, tests) =
        (read("observability/prometheus/alerts.yml"), read("docs/runbook.md"), read("observability/prometheus/tests.yml"));
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 10);
    for name in &names {
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name}");
        assert!(alerts.contains(&format!("runbook: docs/runbook.md#{}\n", name.to_lowercase())), "{name}");
        let cases: Vec<&str> = tests.split(&format!("- alertname: {name}\n")).skip(1).collect();
        let fires = |case: &&&str| case.lines().nth(1).is_some_and(|line| line.trim() == "exp_alerts:");
        let firing = cases.iter().filter(fires).count();
        assert!(firing > 0 && firing < cases.len(), "{name} has a case that fires and one that does not");
    }
    assert_eq!(runbook.matches("\n## ").count(), names.len());
}
