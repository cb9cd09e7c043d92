//! The edge as an OPC UA application: one key, one certificate, one ApplicationUri, made once and kept.
//!
//! The ApplicationUri is read from the certificate, so the two cannot disagree. Key and certificate are checked here because the
//! library panics when it opens a secured connection without them.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use asset_stream::Timestamp;
use opcua::client::ClientBuilder;
use opcua::crypto::PrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use rsa::rand_core::OsRng;
use rsa::sha2::Sha256;
use rsa::{RsaPrivateKey, RsaPublicKey};
use tracing::{info, warn};
use x509_cert::builder::{Builder, CertificateBuilder, Profile};
use x509_cert::der::asn1::Ia5String;
use x509_cert::der::oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::{Time, Validity};

use crate::certificate::Certificate;
use crate::durable_file;
use crate::trust_list::Listed;

/// Accepted by Basic256Sha256, Aes128_Sha256_RsaOaep and Aes256_Sha256_RsaPss alike, and by small controllers in bearable time.
const KEY_BITS: usize = 2048;
/// As long as the machines it talks to. Servers trust this very certificate, not an issuer, so an early end would protect nothing,
/// and would stop a plant on a day that nobody remembers; who must renew sooner can ([`Identity::renew`]).
const VALID_FOR: Duration = Duration::from_secs(20 * 365 * DAY);
/// Servers whose clock is behind ours would refuse a certificate that begins now.
const BACKDATED_BY: Duration = Duration::from_secs(DAY);
/// Boxes without a clock battery start in 1970: a certificate made then would have expired long ago (2026-01-01).
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);
const WARN_BEFORE: i64 = 30 * DAY as i64 * 1000;
const DAY: u64 = 24 * 60 * 60;

/// The edge's key and certificate; cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    certificate_path: PathBuf,
    key_path: PathBuf,
    certificate: Certificate,
    application_uri: String,
}

/// What happens to the key when its certificate is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// It stays: the certificate is exchanged in one step.
    Keep,
    /// It is made anew too, for a key that others may have seen.
    Replace,
}

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state folder cannot be used.
    #[error("cannot use the folder {}: the service's user needs write access to the state folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is there or was configured, and cannot be read.
    #[error("cannot read {}: it must exist and be readable for the service's user", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} holds no certificate: expected one X.509 certificate as DER or PEM, without its issuers", path.display())]
    NotACertificate {
        /// The file.
        path: PathBuf,
    },
    /// The file holds something else, or the key is protected by a password.
    #[error("{} holds no usable key: expected an RSA key as PEM (PKCS #8 or PKCS #1) without a password", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// Key and certificate are of two different pairs.
    #[error("the key {} does not belong to the certificate {}: put the pair together again, or remove both for a new identity (which every server must then trust anew)", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// OPC UA asks for an ApplicationUri in the certificate.
    #[error("the certificate {} names no application URI: make one with a subjectAltName such as URI:urn:host:openfactory-edge", path.display())]
    NoApplicationUri {
        /// The certificate's file.
        path: PathBuf,
    },
    /// No security policy in use takes such a key.
    #[error("the certificate {} has a key of {bits} bits: the security policies ask for RSA of 2048 to 4096 bits", path.display())]
    KeyLength {
        /// The certificate's file.
        path: PathBuf,
        /// What it has; 0 if it is no RSA key.
        bits: usize,
    },
    /// The certificate is there, its key is gone.
    #[error("the key {} is missing, its certificate {} is there: restore the key, or remove the certificate for a new identity (which every server must then trust anew)", key.display(), certificate.display())]
    KeyMissing {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Another process is at it.
    #[error("another `cert renew` is at work in {}: wait until it has ended, and look at its certificate with `cert show`", folder.display())]
    Busy {
        /// The folder of key and certificate.
        folder: PathBuf,
    },
    /// The machine could not make a key or certificate.
    #[error("cannot make a certificate: {0}")]
    Generate(String),
}

impl Identity {
    /// The identity in `<state>/opcua/own`; made there when there is none yet, which takes a second.
    pub fn open(state: &Path) -> Result<Self, Error> {
        let folder = state.join("opcua").join("own");
        durable_file::make_folder(&folder).map_err(|source| Error::Folder { path: folder.clone(), source })?;
        let (certificate, key) = (folder.join("certificate.der"), folder.join("key.pem"));
        if certificate.exists() && key.exists() {
            return Self::load(&certificate, &key);
        }
        // Two processes that both make a pair would mix theirs. Released when it is dropped.
        let _lock = File::open(&folder)
            .and_then(|folder| folder.lock().map(|()| folder))
            .map_err(|source| Error::Folder { path: folder.clone(), source })?;
        Self::open_locked(&folder)
    }

    /// To be called by the holder of the folder's lock.
    fn open_locked(folder: &Path) -> Result<Self, Error> {
        let (certificate, key) = (folder.join("certificate.der"), folder.join("key.pem"));
        match (certificate.exists(), key.exists()) {
            (true, true) => {}
            (true, false) => return Err(Error::KeyMissing { certificate, key }),
            // A crash left the key alone: its certificate was never shown to anyone.
            (false, true) => certify(read_key(&key)?, &certificate)?,
            (false, false) => certify(make_key(&key)?, &certificate)?,
        }
        Self::load(&certificate, &key)
    }

    /// Makes a new certificate in place of the one in `<state>/opcua/own`, which is kept beside it. Connections that are made from now on
    /// show the new one. Refuses while another process does the same: who asks twice wants one new certificate.
    pub fn renew(state: &Path, change: KeyChange) -> Result<Self, Error> {
        let folder = state.join("opcua").join("own");
        let unusable = |source| Error::Folder { path: folder.clone(), source };
        durable_file::make_folder(&folder).map_err(unusable)?;
        // Released when it is dropped, or when the process ends, however it ends.
        let lock = File::open(&folder).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { folder }),
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let before = Self::open_locked(&folder)?;
        let kept = |path: &Path, ending: &str| {
            let kept = folder.join(format!("replaced-{}.{ending}", &before.thumbprint()[..8]));
            fs::read(path).and_then(|bytes| durable_file::write(&kept, &bytes)).map_err(|source| Error::Write { path: kept, source })
        };
        kept(before.certificate_path(), "der")?;
        let key = match change {
            KeyChange::Keep => read_key(before.key_path())?,
            // Between the two files the pair does not fit: a connection in that moment is tried again.
            KeyChange::Replace => kept(before.key_path(), "pem").and_then(|()| make_key(before.key_path()))?,
        };
        certify(key, before.certificate_path())?;
        Self::load(before.certificate_path(), before.key_path())
    }

    /// What a person wants to know of it.
    pub fn listed(&self) -> Listed {
        Listed::of(self.certificate_path(), self.certificate())
    }

    /// A user's own pair. Both are read and checked to belong together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(|source| Error::Read { path: path.to_owned(), source });
        let (certificate_path, key_path) = (absolute(certificate)?, absolute(key)?);
        let (certificate, _) = read_pair(&certificate_path, &key_path)?;
        let bits = certificate.key_bits().unwrap_or(0);
        if !(2048..=4096).contains(&bits) {
            return Err(Error::KeyLength { path: certificate_path, bits });
        }
        let Some(application_uri) = certificate.uris().into_iter().next() else {
            return Err(Error::NoApplicationUri { path: certificate_path });
        };
        Ok(Self(Arc::new(Inner { certificate_path, key_path, certificate, application_uri })))
    }

    /// The URI that the edge calls itself by; the one in the certificate.
    pub fn application_uri(&self) -> &str {
        &self.0.application_uri
    }

    /// Where the certificate lies: what a server's operator imports.
    pub fn certificate_path(&self) -> &Path {
        &self.0.certificate_path
    }

    /// Where the key lies.
    pub fn key_path(&self) -> &Path {
        &self.0.key_path
    }

    /// SHA-1 over the certificate, as OPC UA tools show it.
    pub fn thumbprint(&self) -> String {
        self.0.certificate.sha1()
    }

    /// Logs when the certificate expires within 30 days or has expired.
    pub fn warn_before_expiry(&self) {
        let (expires, now) = (self.0.certificate.not_after(), Timestamp::now());
        let left = expires.millis() - now.millis();
        let certificate = self.certificate_path().display();
        if left < 0 {
            warn!(%certificate, %expires, "our OPC UA certificate has expired: servers may refuse it; openfactory-edge cert renew, then let the servers trust the new one");
        } else if left < WARN_BEFORE {
            let days = left / (DAY as i64 * 1000);
            warn!(%certificate, %expires, days, "our OPC UA certificate expires soon: openfactory-edge cert renew, then let the servers trust the new one");
        }
    }

    pub(crate) fn certificate(&self) -> &Certificate {
        &self.0.certificate
    }

    /// Tells the library who we are.
    pub(crate) fn apply(&self, builder: ClientBuilder) -> ClientBuilder {
        builder
            .application_uri(self.application_uri())
            .certificate_path(self.certificate_path())
            .private_key_path(self.key_path())
            .create_sample_keypair(false)
    }
}

/// Reads a certificate and a key that belong together.
pub(crate) fn read_pair(certificate_path: &Path, key_path: &Path) -> Result<(Certificate, PrivateKey), Error> {
    let read = |path: &Path| fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source });
    let (certificate, key) = (read(certificate_path)?, read(key_path)?);
    let certificate = Certificate::parse(&certificate).map_err(|_| Error::NotACertificate { path: certificate_path.to_owned() })?;
    let key = PrivateKey::from_pem(&key).map_err(|_| Error::NotAKey { path: key_path.to_owned() })?;
    let public = key.public_key_to_info().ok();
    if public.is_some_and(|public| public == *certificate.subject_public_key_info()) {
        Ok((certificate, key))
    } else {
        Err(Error::Mismatch { certificate: certificate_path.to_owned(), key: key_path.to_owned() })
    }
}

fn read_key(path: &Path) -> Result<RsaPrivateKey, Error> {
    RsaPrivateKey::read_pkcs8_pem_file(path).map_err(|_| Error::NotAKey { path: path.to_owned() })
}

fn make_key(path: &Path) -> Result<RsaPrivateKey, Error> {
    let key = RsaPrivateKey::new(&mut OsRng, KEY_BITS).map_err(|e| Error::Generate(e.to_string()))?;
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|e| Error::Generate(e.to_string()))?;
    durable_file::write(path, pem.as_bytes()).map_err(|source| Error::Write { path: path.to_owned(), source })?;
    Ok(key)
}

/// Makes the certificate of the edge's own key.
fn certify(key: RsaPrivateKey, path: &Path) -> Result<(), Error> {
    let host = host_name();
    let der = self_signed(key, &host, SystemTime::now()).map_err(|e| Error::Generate(e.to_string()))?;
    durable_file::write(path, &der).map_err(|source| Error::Write { path: path.to_owned(), source })?;
    info!(certificate = %path.display(), application_uri = %application_uri(&host), "made the edge's OPC UA certificate");
    Ok(())
}

fn application_uri(host: &str) -> String {
    format!("urn:{host}:openfactory-edge")
}

/// The host's name, reduced to what may stand in a certificate.
fn host_name() -> String {
    let name = opcua::crypto::hostname().unwrap_or_default();
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).take(63).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// An application instance certificate as OPC UA Part 6, 6.2.2 asks for it. The library's own maker gives every certificate the
/// serial number 42 and lets it begin at this very second; hence ours.
fn self_signed(key: RsaPrivateKey, host: &str, now: SystemTime) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    use x509_cert::der::{Encode, referenced::OwnedToRef};
    let public = SubjectPublicKeyInfoOwned::from_key(RsaPublicKey::from(&key))?;
    let signer = SigningKey::<Sha256>::new(key);
    let start = now.max(SystemTime::UNIX_EPOCH + EARLIEST);
    let validity = Validity { not_before: Time::try_from(start - BACKDATED_BY)?, not_after: Time::try_from(start + VALID_FOR)? };
    let mut serial = rand::random::<[u8; 16]>();
    // A serial number is positive and not zero.
    serial[0] = serial[0] & 0x7f | 0x40;
    let subject: Name = format!("CN=openfactory-edge@{host},O=OpenFactory").parse()?;
    let issuer = Profile::Manual { issuer: None };
    let mut builder = CertificateBuilder::new(issuer, SerialNumber::new(&serial)?, validity, subject, public.clone(), &signer)?;
    builder.add_extension(&SubjectKeyIdentifier::try_from(public.owned_to_ref())?)?;
    builder.add_extension(&AuthorityKeyIdentifier::try_from(public.owned_to_ref())?)?;
    builder.add_extension(&BasicConstraints { ca: false, path_len_constraint: None })?;
    builder.add_extension(&KeyUsage(
        KeyUsages::DigitalSignature
            | KeyUsages::NonRepudiation
            | KeyUsages::KeyEncipherment
            | KeyUsages::DataEncipherment
            | KeyUsages::KeyCertSign,
    ))?;
    builder.add_extension(&ExtendedKeyUsage(vec![ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH]))?;
    // The URI stands first: some stacks look no further.
    builder.add_extension(&SubjectAltName(vec![
        GeneralName::UniformResourceIdentifier(Ia5String::new(&application_uri(host))?),
        GeneralName::DnsName(Ia5String::new(host)?),
    ]))?;
    Ok(builder.build()?.to_der()?)
}

#[cfg(test)]
mod tests {
    use super::{DAY, EARLIEST, Error, Identity, KeyChange, self_signed};
    use crate::certificate::Certificate;
    use rsa::RsaPrivateKey;
    use rsa::rand_core::OsRng;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    #[test]
    fn an_identity_is_made_once_and_kept() {
        let state = tempfile::tempdir().expect("a folder");
        let first = Identity::open(state.path()).expect("made");
        let again = Identity::open(state.path()).expect("kept");
        assert_eq!(first.thumbprint(), again.thumbprint());
        assert!(first.application_uri().starts_with("urn:") && first.application_uri().ends_with(":openfactory-edge"));
        for path in [first.certificate_path(), first.key_path()] {
            let mode = fs::metadata(path).expect("written").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
        let left: Vec<_> = fs::read_dir(state.path().join("opcua/own")).expect("a folder").collect();
        assert_eq!(left.len(), 2, "temporary files were left behind: {left:?}");
    }

    #[test]
    fn a_renewed_certificate_replaces_the_one_before_which_is_kept() {
        let state = tempfile::tempdir().expect("a folder");
        let first = Identity::open(state.path()).expect("made");
        let key = fs::read(first.key_path()).expect("there");
        let second = Identity::renew(state.path(), KeyChange::Keep).expect("renewed");
        assert_ne!(first.thumbprint(), second.thumbprint());
        assert_eq!(fs::read(second.key_path()).expect("there"), key, "the key stays");
        let third = Identity::renew(state.path(), KeyChange::Replace).expect("renewed");
        assert_ne!(fs::read(third.key_path()).expect("there"), key);
        let again = Identity::open(state.path()).expect("a pair");
        assert_eq!(again.thumbprint(), third.thumbprint());
        let own = state.path().join("opcua/own");
        let kept = |identity: &Identity| own.join(format!("replaced-{}.der", &identity.thumbprint()[..8]));
        Identity::load(&kept(&first), &own.join(format!("replaced-{}.pem", &second.thumbprint()[..8]))).expect("the pair of before");
        assert!(kept(&second).exists());
    }

    #[test]
    fn two_that_renew_at_the_same_time_leave_one_pair_and_one_of_them_is_told() {
        let state = tempfile::tempdir().expect("a folder");
        let first = Identity::open(state.path()).expect("made");
        let own = fs::File::open(state.path().join("opcua/own")).expect("a folder");
        own.lock().expect("nobody has it");
        let refused = Identity::renew(state.path(), KeyChange::Replace);
        assert!(matches!(refused, Err(Error::Busy { .. })), "{refused:?}");
        assert_eq!(Identity::open(state.path()).expect("who only reads waits for nobody").thumbprint(), first.thumbprint());
        drop(own);
        let renewed: Vec<_> = std::thread::scope(|scope| {
            let renew = || Identity::renew(state.path(), KeyChange::Replace);
            let both = [scope.spawn(renew), scope.spawn(renew)];
            both.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(renewed.iter().any(Result::is_ok), "{renewed:?}");
        assert!(renewed.iter().flat_map(|renewed| renewed.as_ref().err()).all(|error| matches!(error, Error::Busy { .. })), "{renewed:?}");
        Identity::open(state.path()).expect("a pair that fits");
    }

    #[test]
    fn two_that_make_the_first_identity_at_the_same_time_get_the_same() {
        let state = tempfile::tempdir().expect("a folder");
        let made: Vec<_> = std::thread::scope(|scope| {
            let both = [0; 2].map(|_| scope.spawn(|| Identity::open(state.path()).expect("made").thumbprint()));
            both.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(made[0], made[1]);
    }

    #[test]
    fn a_pair_that_does_not_belong_together_is_refused_by_name() {
        let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (one, other) = (Identity::open(one.path()).expect("made"), Identity::open(other.path()).expect("made"));
        let refused = Identity::load(one.certificate_path(), other.key_path());
        assert!(matches!(refused, Err(Error::Mismatch { .. })), "{refused:?}");
        let refused = Identity::load(one.key_path(), one.key_path());
        assert!(matches!(refused, Err(Error::NotACertificate { .. })), "{refused:?}");
        let refused = Identity::load(one.certificate_path(), one.certificate_path());
        assert!(matches!(refused, Err(Error::NotAKey { .. })), "{refused:?}");
        fs::remove_file(one.key_path()).expect("there");
        let refused = Identity::load(one.certificate_path(), one.key_path());
        assert!(matches!(refused, Err(Error::Read { .. })), "{refused:?}");
    }

    #[test]
    fn a_key_without_its_certificate_gets_one_and_a_certificate_without_its_key_is_told() {
        let state = tempfile::tempdir().expect("a folder");
        let made = Identity::open(state.path()).expect("made");
        fs::remove_file(made.certificate_path()).expect("there");
        let again = Identity::open(state.path()).expect("the key is used again");
        assert_ne!(made.thumbprint(), again.thumbprint());
        fs::remove_file(made.key_path()).expect("there");
        let refused = Identity::open(state.path());
        assert!(matches!(refused, Err(Error::KeyMissing { .. })), "{refused:?}");
    }

    #[test]
    fn a_box_whose_clock_starts_in_1970_makes_a_certificate_for_today() {
        let key = RsaPrivateKey::new(&mut OsRng, 2048).expect("a key");
        let der = self_signed(key, "box", SystemTime::UNIX_EPOCH).expect("a certificate");
        let certificate = Certificate::parse(&der).expect("readable");
        let start = certificate.not_before().millis() / 1000;
        assert_eq!(start as u64, EARLIEST.as_secs() - DAY);
        let end = SystemTime::UNIX_EPOCH + Duration::from_millis(certificate.not_after().millis() as u64);
        assert!(end > SystemTime::now() + Duration::from_secs(10 * 365 * DAY), "ends too early: {end:?}");
        assert_eq!(certificate.uris(), ["urn:box:openfactory-edge"]);
        assert_eq!(certificate.hosts(), ["box"]);
        assert_eq!(certificate.common_name(), "openfactory-edge@box");
    }
}
