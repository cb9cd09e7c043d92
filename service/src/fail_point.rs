//! Named places at which a test can let the process die. They exist in builds with debug assertions only, never in what is shipped.
//!
//! `OPENFACTORY_FAIL_POINT=mirror.sent:3` ends the process when it reaches that place for the third time, as SIGKILL would: nothing is
//! closed, flushed or said.

use std::sync::atomic::{AtomicU32, Ordering};

use tracing::warn;

const VARIABLE: &str = "OPENFACTORY_FAIL_POINT";

/// The place at which this process is to die, if a test chose one, and how many times it has to be reached until then.
#[derive(Debug)]
pub struct Fuse(Option<(&'static str, AtomicU32)>);

impl Fuse {
    /// What the environment says about one of these places, whose names begin with `part` and a dot.
    pub fn from_environment(part: &str, places: &[&'static str]) -> Self {
        if !cfg!(debug_assertions) {
            return Self(None);
        }
        let Ok(text) = std::env::var(VARIABLE) else { return Self(None) };
        if text.split('.').next() != Some(part) {
            return Self(None);
        }
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        let chosen = places.iter().find(|place| **place == name).copied().zip(times.parse().ok());
        match chosen {
            Some(_) => warn!("{VARIABLE}={text}: this process will die there"),
            None => warn!("{VARIABLE}={text} names no fail point; it is one of {places:?}, then :N for the Nth time"),
        }
        Self(chosen.map(|(place, times)| (place, AtomicU32::new(times))))
    }

    /// Dies here if a test wants it.
    pub fn reached(&self, place: &str) {
        let Some((chosen, left)) = &self.0 else { return };
        if *chosen == place && left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    }
}
