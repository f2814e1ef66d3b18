//! What the suite checks, as data.

use std::sync::LazyLock;

/// A case of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaseInfo {
    /// The group, such as `claim`: the module of the test.
    pub group: &'static str,
    /// The name within the group: the function of the test.
    pub name: &'static str,
    /// The rule that the case holds a storage to, in a sentence.
    pub rule: &'static str,
    /// The methods whose contract the rule is part of, such as `Storage::claim`: their documentation in tickr-core says more.
    pub contract: &'static str,
}

/// The methods that the cases of a group are about.
fn contract(group: &str) -> &'static str {
    match group {
        "adoption" => "Storage::adopt",
        "audit" => "Admin::audit, and of Storage and Admin as a whole: rows that cannot be read",
        "capabilities" => "Storage::capabilities",
        "claim" | "lanes" | "limits" | "priority" => "Storage::claim",
        "concurrency" => "Storage::claim, Storage::settle and Storage::reclaim",
        "dedupe" | "enqueue" => "Storage::enqueue",
        "engine" | "promise" | "random" => "Storage as a whole",
        "exclusive" => "Storage::end_exclusive",
        "fence" | "settle" | "snooze" => "Storage::settle",
        "heartbeat" => "Storage::heartbeat",
        "history" => "Admin::history",
        "input" => "Storage and Admin as a whole: what is refused",
        "kill" => "Admin::kill",
        "lease" => "Storage::register, Storage::claim and Storage::heartbeat",
        "list" => "Admin::list and Admin::list_dead",
        "locks" => "Storage::acquire_lock, Storage::renew_lock and Storage::release_lock",
        "migrate" => "Storage::schema and Storage::migrate",
        "notify" => "Storage::wakeups and Storage::notifier",
        "pause" => "Storage::pause and Admin::resume",
        "reclaim" | "suspects" => "Storage::reclaim",
        "release" => "Storage::settle and Storage::retire",
        "requeue" => "Admin::requeue",
        "retention" => "Storage::purge and Admin::discard",
        "schedule" => "Storage::promote and Admin::reschedule",
        "stats" => "Storage::stats",
        "status" => "Admin::get",
        "tx" => "EnqueueIn::enqueue_in",
        "version" => "Harness::version",
        _ => "",
    }
}

macro_rules! infos {
    ($($group:ident { $($case:ident)* })*) => {
        vec![$($(CaseInfo {
            group: stringify!($group),
            name: stringify!($case),
            contract: contract(stringify!($group)),
            rule: rule(include_str!(concat!("cases/", stringify!($group), ".rs")), stringify!($case)),
        },)*)*]
    };
}

/// Every case, by group.
pub fn cases() -> &'static [CaseInfo] {
    static CASES: LazyLock<Vec<CaseInfo>> = LazyLock::new(|| crate::__for_each_case! { infos });
    &CASES
}

/// The doc comment of a case, so that the sentence is written once. Empty when there is none.
fn rule(source: &'static str, case: &str) -> &'static str {
    let signature = format!("pub async fn {case}(");
    let before = source.split(&signature).next().filter(|before| before.len() < source.len()).unwrap_or_default();
    let mut above = before.lines().rev().skip_while(|line| line.starts_with("#["));
    above.next().and_then(|line| line.strip_prefix("/// ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Every case in the files is in the list: one that is not would never run.
    macro_rules! sources {
        ($($group:ident { $($case:ident)* })*) => {
            [$((stringify!($group), include_str!(concat!("cases/", stringify!($group), ".rs")))),*]
        };
    }
    #[test]
    fn every_case_has_a_rule_of_one_sentence() {
        for case in cases() {
            assert!(case.rule.ends_with('.'), "{}::{} has no doc comment of one line: {:?}", case.group, case.name, case.rule);
        }
    }

    #[test]
    fn every_group_names_its_contract() {
        for case in cases() {
            assert!(!case.contract.is_empty(), "the group {} is about no method", case.group);
        }
    }

    #[test]
    fn every_case_is_listed_once() {
        let listed: HashSet<(&str, &str)> = cases().iter().map(|case| (case.group, case.name)).collect();
        assert_eq!(listed.len(), cases().len(), "a case is listed twice");
        for (group, source) in crate::__for_each_case! { sources } {
            for rest in source.split("pub async fn ").skip(1) {
                let name = rest.split('(').next().unwrap_or_default();
                assert!(listed.contains(&(group, name)), "{group}::{name} is not in the list");
            }
        }
    }

    #[test]
    fn every_case_that_the_readme_names_exists() {
        let listed: HashSet<String> = cases().iter().map(|case| format!("{}::{}", case.group, case.name)).collect();
        let table = include_str!("../README.md").split("## The promises").nth(1).expect("the table of promises");
        let named: Vec<&str> = table.split('`').filter(|word| word.contains("::")).collect();
        assert!(named.len() > 15);
        for name in named {
            assert!(listed.contains(name), "the README names {name}");
        }
    }
}
