//! What we need to know about a certificate: whose it is, for which URI and hosts, from when to when, and its fingerprints.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use asset_stream::Timestamp;
use opcua::crypto::{KeySize, X509};
use sha2::{Digest, Sha256};
use x509_cert::der::{Decode, Reader, SliceReader, oid::db::rfc4519::COMMON_NAME};
use x509_cert::ext::pkix::{SubjectAltName, name::GeneralName};
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::Time;

/// An X.509 certificate that was read and understood.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    inner: x509_cert::Certificate,
    x509: X509,
    der: Vec<u8>,
}

/// Why bytes are no usable certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// No certificate at all.
    Nothing,
    /// Neither DER nor PEM.
    NotACertificate,
    /// A certificate followed by its issuers.
    Chain,
}

impl Certificate {
    /// Reads DER or PEM.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Unusable> {
        if bytes.is_empty() {
            return Err(Unusable::Nothing);
        }
        let der = if bytes.starts_with(b"-----") || bytes.trim_ascii_start().starts_with(b"-----") {
            let pem = X509::from_pem(bytes.trim_ascii_start()).map_err(|_| Unusable::NotACertificate)?;
            pem.to_der().map_err(|_| Unusable::NotACertificate)?
        } else {
            bytes.to_vec()
        };
        let mut reader = SliceReader::new(&der).map_err(|_| Unusable::NotACertificate)?;
        let inner = x509_cert::Certificate::decode(&mut reader).map_err(|_| Unusable::NotACertificate)?;
        if !reader.is_finished() {
            return Err(Unusable::Chain);
        }
        let x509 = X509::from_der(&der).map_err(|_| Unusable::NotACertificate)?;
        Ok(Self { inner, x509, der })
    }

    /// The library's form of it.
    pub(crate) fn x509(&self) -> &X509 {
        &self.x509
    }

    /// The bytes that the fingerprints are made of.
    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    /// The subject's common name; empty if it has none.
    pub(crate) fn common_name(&self) -> String {
        let parts = self.inner.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
        let name = parts.filter(|part| part.oid == COMMON_NAME).find_map(|part| std::str::from_utf8(part.value.value()).ok());
        name.unwrap_or_default().trim().to_owned()
    }

    /// The application URIs it was made for (one, in a proper certificate).
    pub(crate) fn uris(&self) -> Vec<String> {
        let uri = |name: &GeneralName| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
            _ => None,
        };
        self.alternative_names().iter().filter_map(uri).collect()
    }

    /// The host names and addresses it was made for.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let host = |name: &GeneralName| match name {
            GeneralName::DnsName(name) => Some(name.to_string()),
            GeneralName::IpAddress(bytes) => match bytes.as_bytes().len() {
                4 => <[u8; 4]>::try_from(bytes.as_bytes()).ok().map(|b| Ipv4Addr::from(b).to_string()),
                16 => <[u8; 16]>::try_from(bytes.as_bytes()).ok().map(|b| Ipv6Addr::from(b).to_string()),
                _ => None,
            },
            _ => None,
        };
        self.alternative_names().iter().filter_map(host).collect()
    }

    fn alternative_names(&self) -> Vec<GeneralName> {
        match self.inner.tbs_certificate.get::<SubjectAltName>() {
            Ok(Some((_, names))) => names.0,
            _ => Vec::new(),
        }
    }

    /// When it begins to be valid.
    pub(crate) fn not_before(&self) -> Timestamp {
        timestamp(&self.inner.tbs_certificate.validity.not_before)
    }

    /// When it expires.
    pub(crate) fn not_after(&self) -> Timestamp {
        timestamp(&self.inner.tbs_certificate.validity.not_after)
    }

    pub(crate) fn subject_public_key_info(&self) -> &SubjectPublicKeyInfoOwned {
        &self.inner.tbs_certificate.subject_public_key_info
    }

    /// Bits of the RSA key; `None` for any other key.
    pub(crate) fn key_bits(&self) -> Option<usize> {
        self.x509.public_key().ok().map(|key| key.bit_length())
    }

    /// SHA-1 over the certificate, the "thumbprint" that OPC UA tools show.
    pub(crate) fn sha1(&self) -> String {
        self.x509.thumbprint().as_hex_string()
    }

    /// SHA-256 over the certificate.
    pub(crate) fn sha256(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in Sha256::digest(&self.der) {
            // Writing into a string cannot fail.
            write!(text, "{byte:02x}").ok();
        }
        text
    }

    /// A file name for it: common name and thumbprint, without a character that a shell or a file system could take amiss.
    pub(crate) fn file_name(&self) -> String {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let name: String = self.common_name().chars().map(safe).take(64).collect();
        if name.is_empty() { format!("{}.der", self.sha1()) } else { format!("{name}-{}.der", self.sha1()) }
    }
}

fn timestamp(time: &Time) -> Timestamp {
    Timestamp::from_millis(i64::try_from(time.to_unix_duration().as_millis()).unwrap_or(i64::MAX))
}
