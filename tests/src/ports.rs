//! Ports for servers that cannot tell which port the kernel gave them, or that must come back on the same one.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

use anyhow::Context as _;

/// What this process has handed out and not necessarily bound yet.
static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of 127.0.0.1 that the kernel just proved to be free.
///
/// It lies below the range of outgoing connections: while a server is stopped, the kernel must not give its port to a client that tries to
/// reach it (a client may even connect to itself that way).
pub fn free() -> anyhow::Result<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").context("cannot read the range of outgoing ports")?;
    let end: u16 =
        range.split_whitespace().next().and_then(|word| word.parse().ok()).context("the range of outgoing ports is not a number")?;
    let begin = end.saturating_sub(20_000).max(1024);
    let mut handed_out = HANDED_OUT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Test processes that run at the same time begin at different places.
    let start = std::process::id().wrapping_mul(2_654_435_761) % u32::from(end - begin);
    for step in 0..u32::from(end - begin) {
        let port = begin + u16::try_from((start + step) % u32::from(end - begin))?;
        if !handed_out.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            handed_out.insert(port);
            return Ok(port);
        }
    }
    anyhow::bail!("no free port between {begin} and {end}")
}
