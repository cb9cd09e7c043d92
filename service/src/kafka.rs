//! How to reach the brokers: the `[kafka]` section of both config files.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use serde::Deserialize;

use crate::secret;

/// Secrets that have a file of their own: a config is shown to people, copied and sent to support.
const SECRETS: [(&str, &str); 2] = [
    ("sasl.password", "a secret stands in a file of its own: kafka.sasl.password_file"),
    ("ssl.key.pem", "a secret stands in a file of its own: kafka.tls.key"),
];

/// The brokers and how to prove who we are.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `host:port` of some brokers; the others are found through them.
    pub brokers: Vec<String>,
    /// Encrypt the connection. Absent: plain text.
    pub tls: Option<Tls>,
    /// Log in by SASL. Absent: no login, or the certificate of `tls`.
    pub sasl: Option<Sasl>,
    /// Properties of librdkafka, for what has no key of its own here; they win over everything else.
    #[serde(default)]
    pub overrides: BTreeMap<String, String>,
}

/// TLS towards the brokers. Paths to PEM files.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Certificates of the authorities that may have signed the brokers' certificates; absent: the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate, for brokers that ask for one.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// A login by SASL.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// How to log in.
    pub mechanism: Mechanism,
    /// Who we are.
    pub username: String,
    /// File that holds the password alone: it stands in no config file and no log.
    pub password_file: PathBuf,
}

/// How to log in.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Mechanism {
    /// The password itself; use it with TLS only.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Salted challenge and response.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Salted challenge and response.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// The section cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No brokers are named.
    #[error("kafka.brokers is empty: name at least one broker as \"host:port\"")]
    NoBrokers,
    /// A file that the section names cannot be used.
    #[error("{key}")]
    File {
        /// The key that names it.
        key: &'static str,
        /// Which, and why.
        #[source]
        source: secret::Error,
    },
    /// A certificate without its key, or the other way round.
    #[error("kafka.tls needs both certificate and key, or neither")]
    HalfAnIdentity,
    /// An override would break a promise.
    #[error("kafka.overrides: {property} cannot be overridden: {why}")]
    Protected {
        /// The property.
        property: String,
        /// What rests on it, or which key to use instead.
        why: &'static str,
    },
}

impl Error {
    /// The key of the config that is meant, and what is wrong with it.
    pub fn at(&self) -> (String, String) {
        match self {
            Self::NoBrokers => ("kafka.brokers".into(), "empty: name at least one broker as \"host:port\"".into()),
            Self::File { key, source } => ((*key).into(), crate::error::chain(source)),
            Self::HalfAnIdentity => ("kafka.tls".into(), "needs both certificate and key, or neither".into()),
            Self::Protected { property, why } => (format!("kafka.overrides.{property:?}"), format!("cannot be changed: {why}")),
        }
    }
}

impl Config {
    /// Brokers without TLS or login, as in tests.
    pub fn plain(brokers: impl Into<String>) -> Self {
        Self { brokers: vec![brokers.into()], tls: None, sasl: None, overrides: BTreeMap::new() }
    }

    /// Makes relative paths relative to the config file's folder.
    pub fn resolve_paths(&mut self, folder: &Path) {
        let of_tls = self.tls.iter_mut().flat_map(|tls| [&mut tls.ca, &mut tls.certificate, &mut tls.key]).flatten();
        for file in of_tls.chain(self.sasl.iter_mut().map(|sasl| &mut sasl.password_file)) {
            *file = secret::locate(folder, file);
        }
    }

    /// Another number as soon as a file that the section names has other contents: a certificate that was renewed, a password that was changed.
    pub fn fingerprint(&self) -> u64 {
        let of_tls = self.tls.iter().flat_map(|tls| [&tls.ca, &tls.certificate, &tls.key]).flatten();
        let mut hasher = std::hash::DefaultHasher::new();
        for file in of_tls.chain(self.sasl.iter().map(|sasl| &sasl.password_file)) {
            std::fs::read(file).ok().hash(&mut hasher);
        }
        hasher.finish()
    }

    /// What every client of ours starts from; producer and consumer add what is theirs, then call [`Self::apply_overrides`].
    pub fn client(&self) -> Result<ClientConfig, Error> {
        if self.brokers.is_empty() {
            return Err(Error::NoBrokers);
        }
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.brokers.join(","));
        // A link that comes back after days must be used within seconds, not after a long back-off.
        client.set("reconnect.backoff.ms", "100").set("reconnect.backoff.max.ms", "2000");
        // Middle boxes drop idle connections silently: let the kernel find out.
        client.set("socket.keepalive.enable", "true");
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "PLAINTEXT",
            (Some(_), None) => "SSL",
            (None, Some(_)) => "SASL_PLAINTEXT",
            (Some(_), Some(_)) => "SASL_SSL",
        };
        client.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            if tls.certificate.is_some() != tls.key.is_some() {
                return Err(Error::HalfAnIdentity);
            }
            let files = [
                ("kafka.tls.ca", "ssl.ca.location", &tls.ca),
                ("kafka.tls.certificate", "ssl.certificate.location", &tls.certificate),
                ("kafka.tls.key", "ssl.key.location", &tls.key),
            ];
            for (key, property, file) in files {
                if let Some(file) = file {
                    let readable = if key == "kafka.tls.key" {
                        secret::check(file)
                    } else {
                        std::fs::File::open(file).map(drop).map_err(|source| secret::Error::Unreadable { file: file.clone(), source })
                    };
                    readable.map_err(|source| Error::File { key, source })?;
                    client.set(property, file.to_string_lossy());
                }
            }
        }
        if let Some(sasl) = &self.sasl {
            let mechanism = match sasl.mechanism {
                Mechanism::Plain => "PLAIN",
                Mechanism::ScramSha256 => "SCRAM-SHA-256",
                Mechanism::ScramSha512 => "SCRAM-SHA-512",
            };
            let (key, file) = ("kafka.sasl.password_file", &sasl.password_file);
            let password = secret::read(file).map_err(|source| Error::File { key, source })?;
            client.set("sasl.mechanism", mechanism).set("sasl.username", &sasl.username).set("sasl.password", password);
        }
        Ok(client)
    }

    /// Which properties, on which promises rest or that are secrets, are overridden all the same: of their names (all that librdkafka knows them by), and why.
    pub fn overridden<'p>(&self, properties: &'p [(&'p str, &'static str)]) -> impl Iterator<Item = (&'p str, &'static str)> {
        properties.iter().copied().chain(SECRETS).filter(|(property, _)| self.overrides.contains_key(*property))
    }

    /// Refuses such overrides.
    pub fn protect(&self, properties: &[(&str, &'static str)]) -> Result<(), Error> {
        let first = self.overridden(properties).next();
        first.map_or(Ok(()), |(property, why)| Err(Error::Protected { property: property.to_owned(), why }))
    }

    /// Lets the user's own properties win.
    pub fn apply_overrides(&self, client: &mut ClientConfig) {
        for (property, value) in &self.overrides {
            client.set(property, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Error, Mechanism, Sasl, Tls};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_login_over_tls_sets_what_librdkafka_needs_and_keeps_the_password_out_of_the_config() {
        let password = tempfile::NamedTempFile::new().expect("temp file");
        std::fs::write(password.path(), "secret\n").expect("temp file");
        let sasl = Sasl { mechanism: Mechanism::ScramSha512, username: "edge-7".into(), password_file: password.path().into() };
        let config = Config { tls: Some(Tls::default()), sasl: Some(sasl), ..Config::plain("kafka:9093") };
        assert!(!format!("{config:?}").contains("secret"));
        let client = config.client().expect("valid");
        for (property, value) in [("security.protocol", "SASL_SSL"), ("sasl.mechanism", "SCRAM-SHA-512"), ("sasl.password", "secret")] {
            assert_eq!(client.get(property), Some(value), "{property}");
        }
    }

    #[test]
    fn files_beside_the_config_are_found_from_any_folder() {
        let folder = tempfile::tempdir().expect("temp folder");
        for file in ["ca.pem", "own.pem", "own.key", "password"] {
            std::fs::write(folder.path().join(file), "x").expect("temp file");
            std::fs::set_permissions(folder.path().join(file), std::fs::Permissions::from_mode(0o600)).expect("own file");
        }
        let tls = Tls { ca: Some("ca.pem".into()), certificate: Some("own.pem".into()), key: Some(folder.path().join("own.key")) };
        let sasl = Sasl { mechanism: Mechanism::Plain, username: "edge-7".into(), password_file: "password".into() };
        let mut config = Config { tls: Some(tls), sasl: Some(sasl), ..Config::plain("kafka:9093") };
        assert!(config.client().is_err(), "the tests run in another folder");
        config.resolve_paths(folder.path());
        let client = config.client().expect("all files are there");
        for (property, file) in [("ssl.ca.location", "ca.pem"), ("ssl.certificate.location", "own.pem"), ("ssl.key.location", "own.key")] {
            assert_eq!(client.get(property), folder.path().join(file).to_str(), "{property}");
        }
    }

    #[test]
    fn files_that_are_missing_are_named_with_their_key() {
        let tls = Tls { ca: Some("/nowhere/ca.pem".into()), ..Tls::default() };
        let error = Config { tls: Some(tls), ..Config::plain("kafka:9093") }.client().expect_err("no such file");
        assert!(crate::error::chain(&error).starts_with("kafka.tls.ca: /nowhere/ca.pem cannot be read"), "{error:?}");
        let half = Tls { certificate: Some("/nowhere/own.pem".into()), ..Tls::default() };
        assert!(matches!(Config { tls: Some(half), ..Config::plain("kafka:9093") }.client(), Err(Error::HalfAnIdentity)));
    }

    #[test]
    fn overrides_of_what_promises_rest_on_are_refused_with_the_reason() {
        let mut config = Config::plain("kafka:9092");
        let protected = [("acks", "a promise rests on it")];
        config.overrides.insert("socket.nagle.disable".into(), "true".into());
        config.protect(&protected).expect("nobody promises anything about it");
        config.overrides.insert("acks".into(), "0".into());
        let error = config.protect(&protected).expect_err("protected");
        assert_eq!(error.to_string(), "kafka.overrides: acks cannot be overridden: a promise rests on it");
    }
}
