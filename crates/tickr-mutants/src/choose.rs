//! Chooses the mutations of a run by a seed.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::site::Site;
use crate::{Args, rust, sql};

/// A part of the workspace, the files that belong to it, and its share of the mutations in a hundred.
struct Group {
    name: &'static str,
    folder: &'static str,
    extension: &'static str,
    share: usize,
    /// Files and folders that belong to other groups, or to none.
    without: &'static [&'static str],
}

const GROUPS: &[Group] = &[
    Group {
        name: "core",
        folder: "crates/tickr-core/src",
        extension: "rs",
        share: 36,
        without: &["src/memory/", "src/door/", "/simulation.rs"],
    },
    Group { name: "memory", folder: "crates/tickr-core/src/memory", extension: "rs", share: 6, without: &["tests.rs"] },
    Group { name: "sqlite", folder: "crates/tickr-sqlite/src", extension: "rs", share: 18, without: &[] },
    Group { name: "postgres", folder: "crates/tickr-postgres/src", extension: "rs", share: 20, without: &[] },
    Group { name: "sql for sqlite", folder: "crates/tickr-sql/sql/sqlite", extension: "sql", share: 8, without: &["sabotage"] },
    Group {
        name: "sql for postgres",
        folder: "crates/tickr-sql/sql/postgres",
        extension: "sql",
        share: 12,
        without: &["sabotage", "prelude/"],
    },
];

/// The chosen mutations, by file and place, with their ids.
pub(crate) fn choose(root: &Path, args: &Args) -> Result<Vec<Site>> {
    let mut chosen = Vec::new();
    for group in GROUPS {
        let mut sites = all(root, group)?;
        if let Some(only) = &args.only {
            sites.retain(|site| site.key().contains(only.as_str()));
        }
        sites.sort_by_cached_key(|site| rank(args.seed, &site.key()));
        sites.truncate((args.count * group.share).div_ceil(100));
        chosen.extend(sites);
    }
    if chosen.is_empty() {
        bail!("there is nothing to change that fits");
    }
    chosen.sort_by(|a, b| (&a.file, a.range.start, &a.mutated).cmp(&(&b.file, b.range.start, &b.mutated)));
    for (id, site) in (1..).zip(&mut chosen) {
        site.id = id;
    }
    Ok(chosen)
}

fn all(root: &Path, group: &Group) -> Result<Vec<Site>> {
    let mut files = Vec::new();
    walk(&root.join(group.folder), &mut files)?;
    let mut sites = Vec::new();
    for path in files {
        let file = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if !file.ends_with(&format!(".{}", group.extension)) || group.without.iter().any(|other| file.contains(other)) {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("could not read {file}"))?;
        match group.extension {
            "rs" => sites.extend(rust::sites(group.name, &file, &text)?),
            _ => sites.extend(sql::sites(group.name, &file, &text)),
        }
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    for site in &mut sites {
        let count = seen.entry(site.key()).or_default();
        *count += 1;
        site.ordinal = *count;
    }
    Ok(sites)
}

fn walk(folder: &Path, files: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() { walk(&path, files)? } else { files.push(path) }
    }
    files.sort();
    Ok(())
}

/// The same number for the same mutation in every run with this seed, with every version of the standard library: FNV-1a, and
/// the last step of MurmurHash3, because the first alone hardly mixes what comes last.
pub(crate) fn rank(seed: u64, key: &str) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain(key.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
