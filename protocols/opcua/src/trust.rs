//! Which servers we trust: a folder of certificates that an operator fills (`openfactory-edge cert`).
//!
//! ```text
//! <state>/opcua/trusted/   certificates (DER or PEM, any file name) of the servers that we talk to
//! <state>/opcua/rejected/  certificates of servers that we met and did not know, at most 100
//! <state>/opcua/library/   what the protocol library is shown: a copy of what was approved here. Safe to delete.
//! ```
//!
//! A server is trusted by its very certificate, not by its issuer. The check stands in front of the library's, which trusts by file
//! name, and which would copy a certificate that a user accepted once (`trust: any`) into the folder of the trusted ones for good.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use asset_stream::Timestamp;
use opcua::core::comms::url::hostname_from_url;
use opcua::crypto::{CertificateStore, SecurityPolicy};
use opcua::types::EndpointDescription;
use tracing::{error, warn};

use crate::certificate::{Certificate, Unusable};
use crate::durable_file;

/// What the journal knows this message by; its catalog explains it.
const UNTRUSTED: &str = "6a78d9dabc994ee08bd9e7a5fe150636";

/// Anyone can make us meet certificates: so many are kept, the newest.
const REJECTED_KEPT: usize = 100;

/// Whose certificate is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrustMode {
    /// Only those in the folder.
    #[default]
    Folder,
    /// Anyone's, unchecked. For commissioning: there is no protection against a server that pretends to be another.
    Any,
}

/// The trust folders; cheap to clone.
#[derive(Clone, Debug)]
pub struct TrustStore(Arc<Folders>);

#[derive(Debug)]
struct Folders {
    trusted: PathBuf,
    rejected: PathBuf,
    library: PathBuf,
}

/// Why a server is not talked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder or file of the trust store cannot be used.
    #[error("cannot use {}: the service's user needs read and write access to it", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody said that this server is to be trusted.
    #[error(
        "the server's certificate is not trusted: {name}, SHA-1 {sha1}, SHA-256 {sha256}. Compare the fingerprint with the one that the server shows, then trust it with: openfactory-edge cert trust {sha1}"
    )]
    Untrusted {
        /// Its common name.
        name: String,
        /// Its thumbprint.
        sha1: String,
        /// Its SHA-256 fingerprint.
        sha256: String,
        /// Where it was put.
        rejected: PathBuf,
        /// Where to move it.
        trusted: PathBuf,
    },
    /// By our clock, it begins later.
    #[error(
        "the server's certificate is not valid before {from}, and by our clock it is {now}: set the clock of the machine that is wrong"
    )]
    NotYetValid {
        /// When it begins.
        from: Timestamp,
        /// Our clock.
        now: Timestamp,
    },
    /// By our clock, it has expired.
    #[error(
        "the server's certificate expired at {until}, and by our clock it is {now}: renew the certificate on the server, or set our clock if it is wrong"
    )]
    Expired {
        /// When it expired.
        until: Timestamp,
        /// Our clock.
        now: Timestamp,
    },
    /// The server calls itself by another name than its certificate.
    #[error(
        "the server calls itself {announced:?}, its certificate was made for {certified:?}: make the server's application URI and certificate agree, on the server"
    )]
    ApplicationUri {
        /// What it says in its endpoint.
        announced: String,
        /// What stands in the certificate.
        certified: Vec<String>,
    },
    /// The policy does not take such a key.
    #[error(
        "the server's certificate has a key of {bits} bits, which the security policy {policy} does not allow: use another policy, or renew the certificate on the server"
    )]
    KeyLength {
        /// Bits of the key; 0 if it is no RSA key.
        bits: usize,
        /// The policy.
        policy: String,
    },
    /// The protocol library reads single certificates.
    #[error(
        "the server sends its certificate together with its issuers (a chain), which is not supported: let the server use a self-signed certificate, or one without the chain"
    )]
    Chain,
    /// A secured endpoint without a certificate, or with something else in its place.
    #[error("the server offers a secured endpoint without a readable certificate: give it one, on the server")]
    NoCertificate,
}

impl Error {
    /// Which check failed, in a word or two.
    pub(crate) fn check(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "trust folder",
            Self::Untrusted { .. } => "server certificate untrusted",
            Self::NotYetValid { .. } => "server certificate not yet valid",
            Self::Expired { .. } => "server certificate expired",
            Self::ApplicationUri { .. } => "server application URI",
            Self::KeyLength { .. } => "server key length",
            Self::Chain | Self::NoCertificate => "server certificate",
        }
    }
}

impl TrustStore {
    /// The folders below `<state>/opcua`, made if needed.
    pub fn open(state: &Path) -> Result<Self, Error> {
        let root = std::path::absolute(state.join("opcua")).map_err(|source| Error::Folder { path: state.to_owned(), source })?;
        let folders = Folders { trusted: root.join("trusted"), rejected: root.join("rejected"), library: root.join("library") };
        let library = [folders.library.join("trusted"), folders.library.join("rejected")];
        for path in [&folders.trusted, &folders.rejected].into_iter().chain(&library) {
            durable_file::make_folder(path).map_err(|source| Error::Folder { path: path.clone(), source })?;
        }
        Ok(Self(Arc::new(folders)))
    }

    pub(crate) fn trusted_folder(&self) -> &Path {
        &self.0.trusted
    }

    pub(crate) fn rejected_folder(&self) -> &Path {
        &self.0.rejected
    }

    /// What the library takes for its certificate store.
    pub(crate) fn library_folder(&self) -> &Path {
        &self.0.library
    }

    /// Whether the server behind the endpoint may be talked to; to be asked before each connection, as files may have been moved.
    /// An unknown certificate is put into `rejected/` and named in the log.
    pub(crate) fn check(&self, mode: TrustMode, endpoint: &EndpointDescription, uri: &str) -> Result<(), Error> {
        let policy = SecurityPolicy::from_uri(endpoint.security_policy_uri.as_ref());
        if policy == SecurityPolicy::None {
            return Ok(());
        }
        let certificate = Certificate::parse(endpoint.server_certificate.as_ref()).map_err(|unusable| match unusable {
            Unusable::Chain => Error::Chain,
            Unusable::Nothing | Unusable::NotACertificate => Error::NoCertificate,
        })?;
        match mode {
            TrustMode::Any => {
                warn!(server = %uri, sha1 = %certificate.sha1(), "the server's certificate is accepted unchecked (trust: any)");
            }
            TrustMode::Folder => {
                if !self.is_trusted(&certificate)? {
                    return Err(self.put_aside(&certificate, uri));
                }
                check_validity(&certificate, Timestamp::now())?;
                check_application_uri(&certificate, endpoint.server.application_uri.as_ref())?;
                warn_about_host_name(&certificate, uri);
            }
        }
        let bits = certificate.key_bits().unwrap_or(0);
        if !policy.is_valid_keylength(bits) {
            return Err(Error::KeyLength { bits, policy: policy.to_string() });
        }
        self.show_to_library(&certificate)
    }

    /// Compares bytes, not file names. Files that are no certificates are passed over: operators leave notes.
    fn is_trusted(&self, certificate: &Certificate) -> Result<bool, Error> {
        let folder = &self.0.trusted;
        let failed = |source| Error::Folder { path: folder.clone(), source };
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            match fs::read(&path) {
                Ok(bytes) => {
                    if Certificate::parse(&bytes).is_ok_and(|trusted| trusted.der() == certificate.der()) {
                        return Ok(true);
                    }
                }
                Err(_) if path.is_dir() => {}
                Err(source) => warn!(file = %path.display(), error = %source, "cannot read a file among the trusted certificates"),
            }
        }
        Ok(false)
    }

    fn put_aside(&self, certificate: &Certificate, uri: &str) -> Error {
        let name = certificate.file_name();
        let (rejected, trusted) = (self.0.rejected.join(&name), self.0.trusted.join(&name));
        let (sha1, sha256) = (certificate.sha1(), certificate.sha256());
        // Said in full once; each further attempt is logged where it ends.
        if !rejected.exists() {
            if let Err(source) = durable_file::write(&rejected, certificate.der()) {
                return Error::Folder { path: rejected, source };
            }
            let hint = format!("openfactory-edge cert trust {sha1}");
            error!(server = %uri, file = %rejected.display(), %sha1, %sha256, trust_it_with = %hint, message_id = UNTRUSTED, "the server's certificate is not trusted");
            self.forget_old_rejections();
        }
        Error::Untrusted { name: certificate.common_name(), sha1, sha256, rejected, trusted }
    }

    /// Best effort: a file that cannot be removed is tried again with the next rejection.
    fn forget_old_rejections(&self) {
        let Ok(entries) = fs::read_dir(&self.0.rejected) else { return };
        let age = |entry: &fs::DirEntry| entry.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut files: Vec<_> = entries.flatten().map(|entry| (age(&entry), entry.path())).collect();
        files.sort();
        let surplus = files.len().saturating_sub(REJECTED_KEPT);
        for (_, path) in files.into_iter().take(surplus) {
            fs::remove_file(path).ok();
        }
    }

    fn show_to_library(&self, certificate: &Certificate) -> Result<(), Error> {
        let name = CertificateStore::cert_file_name(certificate.x509());
        let path = self.0.library.join("trusted").join(&name);
        // The library reads its `rejected` first: nothing of ours writes there, but an older version may have.
        fs::remove_file(self.0.library.join("rejected").join(&name)).ok();
        if fs::read(&path).is_ok_and(|there| there == certificate.der()) {
            return Ok(());
        }
        durable_file::write(&path, certificate.der()).map_err(|source| Error::Folder { path, source })
    }
}

fn check_validity(certificate: &Certificate, now: Timestamp) -> Result<(), Error> {
    let (from, until) = (certificate.not_before(), certificate.not_after());
    if now < from {
        Err(Error::NotYetValid { from, now })
    } else if now > until {
        Err(Error::Expired { until, now })
    } else {
        Ok(())
    }
}

fn check_application_uri(certificate: &Certificate, announced: &str) -> Result<(), Error> {
    let certified = certificate.uris();
    if certified.iter().any(|uri| uri == announced) {
        Ok(())
    } else {
        Err(Error::ApplicationUri { announced: announced.to_owned(), certified })
    }
}

/// Only a warning: the very certificate is trusted, so its host names protect nothing more, and behind NAT they never match.
fn warn_about_host_name(certificate: &Certificate, uri: &str) {
    let Ok(host) = hostname_from_url(uri) else { return };
    let host = host.trim_matches(['[', ']']);
    let hosts = certificate.hosts();
    if !hosts.iter().any(|name| name.eq_ignore_ascii_case(host)) {
        warn!(server = %uri, certified = ?hosts, "the server's certificate was made for other host names; accepted, as this very certificate is trusted");
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, TrustMode, TrustStore, check_validity};
    use crate::certificate::Certificate;
    use crate::identity::Identity;
    use asset_stream::Timestamp;
    use opcua::crypto::SecurityPolicy;
    use opcua::types::{ByteString, EndpointDescription};
    use std::fs;

    const URI: &str = "opc.tcp://10.0.0.5:4840/";

    /// A server that uses an identity of ours.
    fn endpoint(of: &Identity) -> EndpointDescription {
        let mut endpoint = EndpointDescription::from(URI);
        endpoint.security_policy_uri = SecurityPolicy::Basic256Sha256.to_uri().into();
        endpoint.server_certificate = ByteString::from(of.certificate().der().to_vec());
        endpoint.server.application_uri = of.application_uri().into();
        endpoint
    }

    #[test]
    fn an_unknown_certificate_is_put_aside_and_the_named_command_makes_it_trusted() {
        let (state, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let store = TrustStore::open(state.path()).expect("open");
        let endpoint = endpoint(&Identity::open(other.path()).expect("made"));
        let Err(Error::Untrusted { rejected, trusted, .. }) = store.check(TrustMode::Folder, &endpoint, URI) else {
            panic!("an unknown certificate was accepted");
        };
        fs::rename(&rejected, &trusted).expect("the command works");
        store.check(TrustMode::Folder, &endpoint, URI).expect("trusted now");
        fs::rename(&trusted, trusted.with_file_name("press server.crt")).expect("renamed");
        store.check(TrustMode::Folder, &endpoint, URI).expect("the file's name does not matter");
        fs::remove_dir_all(state.path().join("opcua/trusted")).expect("there");
        fs::create_dir(state.path().join("opcua/trusted")).expect("again");
        let refused = store.check(TrustMode::Folder, &endpoint, URI);
        assert!(matches!(refused, Err(Error::Untrusted { .. })), "trust that was taken back still counts: {refused:?}");
    }

    #[test]
    fn trust_any_leaves_no_trust_behind() {
        let (state, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let store = TrustStore::open(state.path()).expect("open");
        let endpoint = endpoint(&Identity::open(other.path()).expect("made"));
        store.check(TrustMode::Any, &endpoint, URI).expect("anyone");
        let refused = store.check(TrustMode::Folder, &endpoint, URI);
        assert!(matches!(refused, Err(Error::Untrusted { .. })), "{refused:?}");
    }

    #[test]
    fn the_checks_behind_trust_are_told_apart() {
        let (state, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let store = TrustStore::open(state.path()).expect("open");
        let server = Identity::open(other.path()).expect("made");
        fs::copy(server.certificate_path(), state.path().join("opcua/trusted/server.der")).expect("copied");
        let mut endpoint = endpoint(&server);
        endpoint.server.application_uri = "urn:somebody:else".into();
        let refused = store.check(TrustMode::Folder, &endpoint, URI);
        assert!(matches!(refused, Err(Error::ApplicationUri { .. })), "{refused:?}");
        let mut chain = server.certificate().der().to_vec();
        chain.extend_from_slice(server.certificate().der());
        endpoint.server_certificate = ByteString::from(chain);
        let refused = store.check(TrustMode::Folder, &endpoint, URI);
        assert!(matches!(refused, Err(Error::Chain)), "{refused:?}");
        endpoint.server_certificate = ByteString::from(vec![0x30, 3, 1]);
        let refused = store.check(TrustMode::Folder, &endpoint, URI);
        assert!(matches!(refused, Err(Error::NoCertificate)), "{refused:?}");
        let certificate = Certificate::parse(server.certificate().der()).expect("readable");
        let early = check_validity(&certificate, Timestamp::from_millis(0));
        assert!(matches!(early, Err(Error::NotYetValid { .. })), "{early:?}");
        let late = check_validity(&certificate, Timestamp::from_millis(i64::MAX));
        assert!(matches!(late, Err(Error::Expired { .. })), "{late:?}");
    }
}
