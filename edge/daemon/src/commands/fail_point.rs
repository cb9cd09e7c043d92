//! Where a test can let the edge die in the middle of a command: [`service::fail_point`].

/// A claim was handed over.
pub(crate) const CLAIMED: &str = "commands.claimed";
/// `accepted` is on disk.
pub(crate) const ACCEPTED: &str = "commands.accepted";
/// `executing` is on disk; the device was not asked.
pub(crate) const EXECUTING: &str = "commands.executing";
/// The device has answered; nothing is on disk about that.
pub(crate) const ANSWERED: &str = "commands.answered";
/// The end is on disk; nobody was told.
pub(crate) const ENDED: &str = "commands.ended";
/// What is known was kept in the file.
pub(crate) const KEPT: &str = "commands.kept";

/// All of them.
pub(crate) const ALL: [&str; 6] = [CLAIMED, ACCEPTED, EXECUTING, ANSWERED, ENDED, KEPT];
