//! The deny step: licences, bans and sources of all dependencies, as `deny.toml` has them.
//!
//! `cargo deny check` does the same and looks for advisories besides, but takes minutes to compile. This reads the same file, and only
//! those of its keys that are used there; a key that it does not know is an error, so that nothing is in the file that nobody checks.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;
use toml::{Table, Value};

use crate::shell::{self, Workspace};

/// The keys of the file that are checked here, or that only matter to `cargo deny`.
const KEYS: &[&str] = &[
    "graph.all-features",
    "advisories.yanked",
    "advisories.unmaintained",
    "licenses.allow",
    "bans.multiple-versions",
    "bans.wildcards",
    "bans.allow-wildcard-paths",
    "bans.deny",
    "sources.unknown-registry",
    "sources.unknown-git",
];

/// Checks every package that cargo would take for any target and feature.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let text = fs::read_to_string(workspace.root().join("deny.toml")).context("could not read deny.toml")?;
    let rules = Rules::parse(&text)?;
    let metadata = shell::capture(&mut workspace.cargo(["metadata", "--format-version", "1", "--all-features", "--locked"]))?;
    let metadata: Json = serde_json::from_str(&metadata).context("cargo metadata printed what is not JSON")?;
    let problems = rules.check(&metadata)?;
    if !problems.is_empty() {
        bail!("{}", problems.join("\n  "));
    }
    println!("{} packages are as deny.toml wants them", metadata["packages"].as_array().map_or(0, Vec::len));
    Ok(())
}

/// What the file says.
#[derive(Debug, Default)]
struct Rules {
    licences: Vec<String>,
    bans: Vec<Ban>,
}

#[derive(Debug)]
struct Ban {
    name: String,
    /// Packages that may depend on it all the same.
    wrappers: Vec<String>,
    reason: String,
}

impl Rules {
    fn parse(text: &str) -> Result<Self> {
        let file: Table = text.parse().context("deny.toml is not TOML")?;
        for (section, keys) in &file {
            for key in keys.as_table().into_iter().flatten().map(|(key, _)| format!("{section}.{key}")) {
                if !KEYS.contains(&key.as_str()) {
                    bail!("deny.toml: `{key}` is checked by nothing: teach it to xtask/src/deny.rs");
                }
            }
        }
        let bans = file.get("bans").and_then(|bans| bans.get("deny")).and_then(Value::as_array).into_iter().flatten();
        let ban = |entry: &Value| {
            let text = |name| entry.get(name).and_then(Value::as_str).map(str::to_owned);
            let name = text("crate").context("deny.toml: a ban without `crate`")?;
            let wrappers = entry.get("wrappers").map(texts).unwrap_or_default();
            Ok(Ban { name, wrappers, reason: text("reason").unwrap_or_default() })
        };
        let licences = file.get("licenses").and_then(|licences| licences.get("allow")).map(texts).unwrap_or_default();
        Ok(Self { licences, bans: bans.map(ban).collect::<Result<_>>()? })
    }

    /// What is wrong, in the order of the packages.
    fn check(&self, metadata: &Json) -> Result<Vec<String>> {
        let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
        let names: HashMap<&str, &str> = packages.iter().filter_map(|p| Some((p["id"].as_str()?, p["name"].as_str()?))).collect();
        let mut problems = Vec::new();
        for package in packages {
            let title = format!("{} {}", package["name"].as_str().unwrap_or("?"), package["version"].as_str().unwrap_or("?"));
            let Some(source) = package["source"].as_str() else {
                problems.extend(wildcards(package).map(|name| format!("{title} takes any version of {name}")));
                continue;
            };
            if !source.starts_with("registry+https://github.com/rust-lang/crates.io-index")
                && !source.starts_with("sparse+https://index.crates.io")
            {
                problems.push(format!("{title} comes from {source}"));
            }
            match package["license"].as_str() {
                Some(licence) if self.allows(licence) => {}
                Some(licence) => problems.push(format!("{title} has the licence {licence}, which is not allowed")),
                None => problems.push(format!("{title} names no licence")),
            }
        }
        for node in metadata["resolve"]["nodes"].as_array().into_iter().flatten() {
            let dependent = node["id"].as_str().and_then(|id| names.get(id)).copied().unwrap_or("?");
            let dependencies = node["dependencies"].as_array().into_iter().flatten();
            for name in dependencies.filter_map(|id| names.get(id.as_str()?)) {
                for ban in self.bans.iter().filter(|ban| ban.name == *name && !ban.wrappers.iter().any(|wrapper| wrapper == dependent)) {
                    problems.push(format!("{dependent} depends on {name}: {}", ban.reason));
                }
            }
        }
        Ok(problems)
    }

    /// Evaluates an expression of licences, <https://spdx.github.io/spdx-spec/v3.0.1/annexes/spdx-license-expressions/>. Older packages
    /// write `/` for `OR`.
    fn allows(&self, expression: &str) -> bool {
        let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let tokens: Vec<&str> = spaced.split_whitespace().collect();
        let mut at = 0;
        let allowed = self.any(&tokens, &mut at);
        allowed && at == tokens.len()
    }

    fn any(&self, tokens: &[&str], at: &mut usize) -> bool {
        let mut allowed = self.every(tokens, at);
        while tokens.get(*at) == Some(&"OR") {
            *at += 1;
            allowed |= self.every(tokens, at);
        }
        allowed
    }

    fn every(&self, tokens: &[&str], at: &mut usize) -> bool {
        let mut allowed = self.one(tokens, at);
        while tokens.get(*at) == Some(&"AND") {
            *at += 1;
            allowed &= self.one(tokens, at);
        }
        allowed
    }

    fn one(&self, tokens: &[&str], at: &mut usize) -> bool {
        let Some(token) = tokens.get(*at) else {
            return false;
        };
        *at += 1;
        if *token == "(" {
            let allowed = self.any(tokens, at);
            *at += 1;
            return allowed;
        }
        let mut licence = (*token).to_owned();
        if let Some(["WITH", exception]) = tokens.get(*at..*at + 2) {
            licence = format!("{licence} WITH {exception}");
            *at += 2;
        }
        self.licences.contains(&licence)
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Dependencies without a version, unless they are of this workspace.
fn wildcards(package: &Json) -> impl Iterator<Item = &str> {
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    dependencies.filter(|d| d["req"] == "*" && d["path"].is_null()).filter_map(|d| d["name"].as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RULES: &str = r#"
        [licenses]
        allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
        [bans]
        deny = [{ crate = "bad", wrappers = ["good"], reason = "too heavy" }]
    "#;

    fn package(name: &str, licence: &str) -> Json {
        let source = "registry+https://github.com/rust-lang/crates.io-index";
        json!({ "name": name, "id": name, "version": "1.0.0", "source": source, "license": licence })
    }

    #[test]
    fn licences_are_read_as_expressions() {
        let rules = Rules::parse(RULES).unwrap();
        for allowed in ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "(MIT OR GPL-3.0) AND Apache-2.0", "Apache-2.0 WITH LLVM-exception"] {
            assert!(rules.allows(allowed), "{allowed}");
        }
        for refused in ["GPL-3.0", "MIT AND GPL-3.0", "MIT WITH LLVM-exception", "", "(GPL-3.0 OR ISC) AND MIT"] {
            assert!(!rules.allows(refused), "{refused}");
        }
    }

    #[test]
    fn a_banned_package_is_reported_unless_its_wrapper_depends_on_it() {
        let packages = json!(["bad", "good", "other"].map(|name| package(name, "MIT")));
        let node = |id: &str, dependencies: &[&str]| json!({ "id": id, "dependencies": dependencies });
        let nodes = [node("good", &["bad"]), node("other", &["bad", "good"])];
        let metadata = json!({ "packages": packages, "resolve": { "nodes": nodes } });
        assert_eq!(Rules::parse(RULES).unwrap().check(&metadata).unwrap(), ["other depends on bad: too heavy"]);
    }

    #[test]
    fn sources_and_wildcards_are_checked() {
        let mut foreign = package("foreign", "MIT");
        foreign["source"] = "git+https://example.org/x".into();
        let own =
            json!({ "name": "own", "id": "own", "version": "0.1.0", "source": null, "dependencies": [{ "name": "any", "req": "*" }] });
        let problems = Rules::parse(RULES).unwrap().check(&json!({ "packages": [foreign, own] })).unwrap();
        assert_eq!(problems, ["foreign 1.0.0 comes from git+https://example.org/x", "own 0.1.0 takes any version of any"]);
    }

    #[test]
    fn a_rule_that_nothing_checks_is_an_error() {
        assert!(Rules::parse("[bans]\nskip = []\n").is_err());
    }
}
