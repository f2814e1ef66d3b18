//! Free ports.

use std::net::{Ipv4Addr, TcpListener};
use std::process;

use anyhow::{Context, Result};

/// Below the ports that systems give to outgoing connections: a server that is stopped for a moment finds its own taken by none of
/// them, and a client that tries again meanwhile does not connect to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Finds a port of the loopback interface on which nothing listens. It is free only until somebody takes it.
///
/// Processes, and attempts of one process, begin to look at different places.
pub(crate) fn free(attempt: u32) -> Result<u16> {
    let count = u32::from(PORTS.end - PORTS.start);
    let first = process::id().wrapping_mul(37).wrapping_add(attempt.wrapping_mul(7));
    let mut ports =
        (0..count).filter_map(|offset| u16::try_from(first.wrapping_add(offset) % count).ok()).map(|offset| PORTS.start + offset);
    ports.find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()).context("no port of 127.0.0.1 is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_not_free() {
        let port = free(0).unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_ne!(free(0).unwrap(), port);
    }
}
