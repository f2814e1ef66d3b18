//! The memory of this process.

/// The most memory that this process ever had, in MiB (Linux: `VmHWM` of `/proc/self/status`, see proc(5)); `None` elsewhere.
pub(crate) fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some((kib / 1024.0 * 10.0).round() / 10.0)
}
