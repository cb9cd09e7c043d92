//! One TLS provider in the whole process.

/// Makes ring the process's provider. Call it first in `main` and in test binaries: rustls panics at the first handshake if it has to
/// choose between two providers or finds none. A second call changes nothing.
pub fn install_ring() {
    // An error says that a provider is installed already; all our crates are built with ring alone.
    rustls::crypto::ring::default_provider().install_default().ok();
}
