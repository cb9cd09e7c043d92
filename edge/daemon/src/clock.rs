//! Whether the box's clock follows another one.

use std::path::Path;

use edge_mirror::Clock;

/// Where systemd-timesyncd, Debian's default, keeps what it knows.
pub(crate) const TIMESYNC: &str = "/run/systemd/timesync";

/// What systemd-timesyncd says; unknown where another service sets the clock, or none.
pub(crate) fn look(timesync: &Path) -> Clock {
    if !timesync.exists() {
        Clock::Unknown
    } else if timesync.join("synchronized").exists() {
        Clock::Synchronised
    } else {
        Clock::Free
    }
}

#[cfg(test)]
mod tests {
    use super::look;
    use edge_mirror::Clock;

    #[test]
    fn a_clock_is_what_timesyncd_says_and_unknown_without_it() {
        let run = tempfile::tempdir().expect("a folder");
        let timesync = run.path().join("timesync");
        assert_eq!(look(&timesync), Clock::Unknown);
        std::fs::create_dir(&timesync).expect("a folder");
        assert_eq!(look(&timesync), Clock::Free);
        std::fs::write(timesync.join("synchronized"), "").expect("a file");
        assert_eq!(look(&timesync), Clock::Synchronised);
    }
}
