//! What Linux tells of processes, below /proc; nothing on other systems.

use std::fs;

/// Clock ticks a second, the unit of `/proc/PID/stat`: 100 on every Linux.
const TICKS: f64 = 100.0;

/// The fields of `/proc/PID/stat` after the name, which may hold blanks.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn number(fields: &[String], field: usize) -> f64 {
    fields.get(field).and_then(|field| field.parse().ok()).unwrap_or(0.0)
}

pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

pub(crate) fn name(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned())
}

/// Seconds of CPU of one process.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |fields| (number(&fields, 11) + number(&fields, 12)) / TICKS)
}

/// Seconds of CPU of a process, its children, and those that it has had.
pub(crate) fn family_cpu_seconds(pid: u32) -> f64 {
    let gone = stat(pid).map_or(0.0, |fields| (number(&fields, 13) + number(&fields, 14)) / TICKS);
    let children: f64 = all().filter(|child| parent(*child) == Some(pid)).map(cpu_seconds).sum();
    cpu_seconds(pid) + gone + children
}

fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The most memory that a process has had, in MB.
pub(crate) fn peak_mb(pid: u32) -> Option<f64> {
    field_mb(pid, "VmHWM:")
}

fn field_mb(pid: u32, field: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((kilobytes / 1_024.0 * 10.0).round() / 10.0)
}

/// The model of the processor.
pub(crate) fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The machine's memory in GiB.
pub(crate) fn memory_gib() -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes: f64 = text.lines().next()?.split_whitespace().nth(1)?.parse().ok()?;
    Some((kilobytes / 1_048_576.0 * 10.0).round() / 10.0)
}

/// The memory that a process has now, in MB.
pub(crate) fn now_mb(pid: u32) -> Option<f64> {
    field_mb(pid, "VmRSS:")
}
