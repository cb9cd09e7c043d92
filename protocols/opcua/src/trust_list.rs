//! The trust folders as a list, for the person who decides whom to trust.

use std::fs;
use std::path::{Path, PathBuf};

use asset_stream::Timestamp;
use serde::Serialize;

use crate::certificate::Certificate;
use crate::durable_file;
use crate::trust::{Error, TrustStore};

/// A certificate in one of the folders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Where it lies.
    pub file: PathBuf,
    /// Its common name.
    pub name: String,
    /// The application URI it was made for.
    pub application_uri: Option<String>,
    /// Its thumbprint, as OPC UA tools show it.
    pub sha1: String,
    /// Its SHA-256 fingerprint.
    pub sha256: String,
    /// When it begins to be valid.
    pub valid_from: String,
    /// When it expires.
    pub valid_until: String,
    /// Whether it has expired, by our clock.
    pub has_expired: bool,
}

impl Listed {
    pub(crate) fn of(file: &Path, certificate: &Certificate) -> Self {
        Self {
            file: file.to_owned(),
            name: certificate.common_name(),
            application_uri: certificate.uris().into_iter().next(),
            sha1: certificate.sha1(),
            sha256: certificate.sha256(),
            valid_from: certificate.not_before().to_string(),
            valid_until: certificate.not_after().to_string(),
            has_expired: certificate.not_after() < Timestamp::now(),
        }
    }

    /// A fingerprint or its beginning (four digits at least, colons and case do not matter), or the file's name.
    fn is_meant_by(&self, which: &str) -> bool {
        let digits = which.replace([':', ' '], "").to_lowercase();
        let begins = |fingerprint: &str| fingerprint.replace(':', "").to_lowercase().starts_with(&digits);
        let is_beginning = digits.len() >= 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        (is_beginning && (begins(&self.sha1) || begins(&self.sha256))) || self.file.file_name().is_some_and(|name| name == which)
    }
}

/// Why a certificate was not moved.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// A folder or file of the trust store cannot be used.
    #[error(transparent)]
    Folder(#[from] Error),
    /// Nothing fits.
    #[error("no certificate in {} has the fingerprint or file name {which:?}; see `openfactory-edge cert show`", folder.display())]
    NotFound {
        /// What was asked for.
        which: String,
        /// Where was looked.
        folder: PathBuf,
    },
    /// More than one fits.
    #[error("{which:?} fits {count} certificates in {}; give more of the fingerprint", folder.display())]
    Ambiguous {
        /// What was asked for.
        which: String,
        /// How many fit.
        count: usize,
        /// Where was looked.
        folder: PathBuf,
    },
    /// A file that was named holds something else.
    #[error("{} holds no certificate: expected one X.509 certificate as DER or PEM, without its issuers", file.display())]
    NotACertificate {
        /// The file.
        file: PathBuf,
    },
}

impl TrustStore {
    /// The certificates of the servers that are talked to, by name.
    pub fn trusted(&self) -> Result<Vec<Listed>, Error> {
        list(self.trusted_folder())
    }

    /// The certificates of servers that were met and are not trusted, by name.
    pub fn rejected(&self) -> Result<Vec<Listed>, Error> {
        list(self.rejected_folder())
    }

    /// Trusts a certificate among the rejected ones, by its fingerprint or file name; or that in a file elsewhere, which is copied. Counts
    /// from the next attempt to connect on.
    pub fn trust(&self, which: &str) -> Result<Listed, ListError> {
        let elsewhere = Path::new(which);
        if elsewhere.is_file() {
            return self.trust_file(elsewhere);
        }
        let found = the_one(self.rejected()?, which, self.rejected_folder())?;
        Ok(move_to(self.trusted_folder(), found)?)
    }

    fn trust_file(&self, file: &Path) -> Result<Listed, ListError> {
        let bytes = fs::read(file).map_err(|source| Error::Folder { path: file.to_owned(), source })?;
        let certificate = Certificate::parse(&bytes).map_err(|_| ListError::NotACertificate { file: file.to_owned() })?;
        let path = self.trusted_folder().join(certificate.file_name());
        durable_file::write(&path, certificate.der()).map_err(|source| Error::Folder { path: path.clone(), source })?;
        Ok(Listed::of(&path, &certificate))
    }

    /// Takes the trust back. Counts from the next attempt to connect on; a connection that is open stays open.
    pub fn reject(&self, which: &str) -> Result<Listed, ListError> {
        let found = the_one(self.trusted()?, which, self.trusted_folder())?;
        Ok(move_to(self.rejected_folder(), found)?)
    }
}

fn list(folder: &Path) -> Result<Vec<Listed>, Error> {
    let failed = |source| Error::Folder { path: folder.to_owned(), source };
    let mut listed = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // Operators leave notes, and folders.
        let Ok(bytes) = fs::read(&path) else { continue };
        listed.extend(Certificate::parse(&bytes).map(|certificate| Listed::of(&path, &certificate)));
    }
    listed.sort_by(|a, b| (&a.name, &a.file).cmp(&(&b.name, &b.file)));
    Ok(listed)
}

fn the_one(listed: Vec<Listed>, which: &str, folder: &Path) -> Result<Listed, ListError> {
    let mut fitting: Vec<Listed> = listed.into_iter().filter(|listed| listed.is_meant_by(which)).collect();
    let (which, folder, count) = (which.to_owned(), folder.to_owned(), fitting.len());
    match (fitting.pop(), count) {
        (Some(one), 1) => Ok(one),
        (None, _) => Err(ListError::NotFound { which, folder }),
        (Some(_), _) => Err(ListError::Ambiguous { which, count, folder }),
    }
}

fn move_to(folder: &Path, listed: Listed) -> Result<Listed, Error> {
    let file = folder.join(listed.file.file_name().unwrap_or_default());
    durable_file::rename(&listed.file, &file).map_err(|source| Error::Folder { path: file.clone(), source })?;
    Ok(Listed { file, ..listed })
}

#[cfg(test)]
mod tests {
    use super::ListError;
    use crate::identity::Identity;
    use crate::trust::TrustStore;
    use std::fs;

    #[test]
    fn a_certificate_is_trusted_by_its_fingerprint_or_file_and_trust_is_taken_back() {
        let (state, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let store = TrustStore::open(state.path()).expect("open");
        let server = Identity::open(other.path()).expect("made");
        fs::copy(server.certificate_path(), state.path().join("opcua/rejected/press.der")).expect("copied");
        fs::write(state.path().join("opcua/rejected/note.txt"), "ask Jo").expect("written");
        let fingerprint = server.thumbprint();
        assert!(matches!(store.trust("12"), Err(ListError::NotFound { .. })), "two digits are no fingerprint");
        let trusted = store.trust(&fingerprint[..8].to_uppercase()).expect("the beginning of the fingerprint is enough");
        assert_eq!((store.trusted().expect("listed"), store.rejected().expect("listed")), (vec![trusted], vec![]));
        store.reject("press.der").expect("by the file's name");
        assert_eq!((store.trusted().expect("listed").len(), store.rejected().expect("listed").len()), (0, 1));
        let file = server.certificate_path().to_str().expect("UTF-8");
        store.trust(file).expect("from a file elsewhere");
        assert!(server.certificate_path().exists(), "it was copied, not moved");
        store.trust(&fingerprint).expect("twice the same, under two names");
        let unclear = store.reject(&fingerprint);
        assert!(matches!(unclear, Err(ListError::Ambiguous { count: 2, .. })), "{unclear:?}");
        let no_certificate = store.trust(state.path().join("opcua/rejected/note.txt").to_str().expect("UTF-8"));
        assert!(matches!(no_certificate, Err(ListError::NotACertificate { .. })), "{no_certificate:?}");
    }
}
