//! What a device answers when it is asked, once, for what its device file names.

/// One entry of a device file, and whether the device has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The entry's key.
    pub item: String,
    /// Where the entry says that it is, in the protocol's own words.
    pub address: String,
    /// What is there; or why it cannot be used, and what may be meant instead.
    pub answer: Result<String, String>,
}
