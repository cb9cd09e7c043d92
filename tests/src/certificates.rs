//! Authorities and certificates as a plant's own PKI makes them, as PEM files.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Who signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate's file.
    pub file: PathBuf,
}

/// A certificate and its key, in files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key, readable for the owner alone.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, whose certificate is written into the folder.
    pub fn new(name: &str, folder: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let file = folder.join(format!("{name}.pem"));
        std::fs::write(&file, params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), file })
    }

    /// Signs a certificate of a client or server on this machine, and writes it: over the one before, if there is one of that name.
    pub fn issue(&self, name: &str, folder: &Path) -> anyhow::Result<Pair> {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let pair = Pair { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
        std::fs::write(&pair.certificate, params.signed_by(&key, &self.issuer)?.pem())?;
        write_secret(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }
}

impl Pair {
    /// Key and certificate in one file, as Kafka takes them.
    pub fn joined(&self) -> anyhow::Result<PathBuf> {
        let file = self.certificate.with_extension("both.pem");
        write_secret(&file, &(std::fs::read_to_string(&self.key)? + &std::fs::read_to_string(&self.certificate)?))?;
        Ok(file)
    }
}

/// Writes a file that its owner alone can read.
pub fn write_secret(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut made = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    Ok(made.write_all(text.as_bytes())?)
}
