//! Where a test can let the mirror die: [`service::fail_point`].

/// Events were handed to the producer; nothing is known of them.
pub(crate) const SENT: &str = "mirror.sent";
/// Kafka has reported them, and the log has heard of it; the cursor does not know.
pub(crate) const REPORTED: &str = "mirror.reported";
/// The cursor is kept.
pub(crate) const CURSOR_KEPT: &str = "mirror.cursor_kept";
/// What stands in Kafka was read once; nothing was decided.
pub(crate) const READING_BACK: &str = "mirror.reading_back";

/// All of them.
pub(crate) const ALL: [&str; 4] = [SENT, REPORTED, CURSOR_KEPT, READING_BACK];
