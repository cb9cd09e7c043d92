//! The NATS clusters: `[nats.<NAME>]` and what the environment names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;
use serde::Deserialize;

/// A NATS cluster: `[nats.<NAME>]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Its servers; the router gives clients the first.
    pub urls: Vec<String>,
    /// A credentials file (JWT and seed).
    pub credentials_file: Option<PathBuf>,
    /// File that holds an nkey's seed alone.
    pub nkey_seed_file: Option<PathBuf>,
    /// A user name; with `password_file`.
    pub user: Option<String>,
    /// File that holds the password alone.
    pub password_file: Option<PathBuf>,
    /// File that holds a token alone.
    pub token_file: Option<PathBuf>,
    /// TLS: certificates of the authorities that may have signed the servers' certificates; absent: the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate, for servers that ask for one.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// A server address without the login that may stand in it: for logs, the status page, and clients of the router.
pub fn without_login(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

impl Cluster {
    /// Makes relative paths relative to the config file's folder.
    pub fn resolve_paths(&mut self, folder: &Path) {
        let secrets = [&mut self.credentials_file, &mut self.nkey_seed_file, &mut self.password_file, &mut self.token_file];
        let files = secrets.into_iter().chain([&mut self.ca, &mut self.certificate, &mut self.key]);
        for file in files.flatten() {
            *file = service::secret::locate(folder, file);
        }
    }

    /// Login and TLS of a connection; secrets are read now. The error is a sentence for people.
    pub async fn connect_options(&self) -> Result<ConnectOptions, String> {
        let secret = async |file: &Path| match tokio::fs::read_to_string(file).await {
            Ok(text) => Ok(text),
            Err(error) => Err(format!("{} cannot be read: {error}", file.display())),
        };
        let mut options = ConnectOptions::new();
        if let Some(file) = &self.credentials_file {
            options =
                options.credentials(&secret(file).await?).map_err(|error| format!("{} is no credentials file: {error}", file.display()))?;
        }
        if let Some(file) = &self.nkey_seed_file {
            options = options.nkey(secret(file).await?.trim().to_owned());
        }
        if let (Some(user), Some(file)) = (&self.user, &self.password_file) {
            options = options.user_and_password(user.clone(), secret(file).await?.trim_end().to_owned());
        }
        if let Some(file) = &self.token_file {
            options = options.token(secret(file).await?.trim_end().to_owned());
        }
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
        }
        Ok(options)
    }
}

/// The environment variables that name clusters: `NATS_CLUSTER_<NAME>` = comma-separated URLs.
pub const CLUSTER_VARIABLE: &str = "NATS_CLUSTER_";

/// Adds the clusters that the environment names; one that the file names too keeps the file's login and takes the environment's URLs.
pub fn add_clusters_from_environment(clusters: &mut BTreeMap<String, Cluster>, environment: impl IntoIterator<Item = (String, String)>) {
    for (variable, value) in environment {
        let Some(name) = variable.strip_prefix(CLUSTER_VARIABLE).filter(|name| !name.is_empty()) else { continue };
        let urls: Vec<String> = value.split(',').map(str::trim).filter(|url| !url.is_empty()).map(Into::into).collect();
        if !urls.is_empty() {
            clusters.entry(name.to_owned()).or_default().urls = urls;
        }
    }
}

/// What is wrong with the clusters, as (key, message).
pub fn cluster_problems(clusters: &BTreeMap<String, Cluster>) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    if clusters.is_empty() {
        let message = format!("no NATS cluster is named: add [nats.NAME] with urls, or set {CLUSTER_VARIABLE}NAME");
        problems.push(("nats".into(), message));
    }
    for (name, cluster) in clusters {
        let key = |field: &str| format!("nats.{name}.{field}");
        if cluster.urls.is_empty() {
            problems.push((key("urls"), "empty: name at least one server, e.g. \"nats://nats-1:4222\"".into()));
        }
        for url in &cluster.urls {
            if let Err(error) = url.parse::<async_nats::ServerAddr>() {
                let url = without_login(url);
                problems.push((key("urls"), format!("{url:?} is no server address ({error}); example: \"nats://nats-1:4222\"")));
            }
        }
        if cluster.user.is_some() != cluster.password_file.is_some() {
            problems.push((key("user"), "user and password_file go together".into()));
        }
        if cluster.certificate.is_some() != cluster.key.is_some() {
            problems.push((key("certificate"), "certificate and key go together".into()));
        }
        let files = [&cluster.credentials_file, &cluster.nkey_seed_file, &cluster.token_file];
        let logins = files.map(Option::is_some).into_iter().chain([cluster.user.is_some()]);
        if logins.filter(|login| *login).count() > 1 {
            problems.push((key("credentials_file"), "choose one of credentials_file, nkey_seed_file, user and token_file".into()));
        }
        let secrets = [
            ("credentials_file", &cluster.credentials_file),
            ("nkey_seed_file", &cluster.nkey_seed_file),
            ("password_file", &cluster.password_file),
            ("token_file", &cluster.token_file),
            ("key", &cluster.key),
        ];
        for (field, file) in secrets {
            if let Some(Err(error)) = file.as_deref().map(service::secret::check) {
                problems.push((key(field), service::error::chain(&error)));
            }
        }
        for (field, file) in [("ca", &cluster.ca), ("certificate", &cluster.certificate)] {
            if let Some(file) = file
                && let Err(error) = std::fs::File::open(file)
            {
                problems.push((key(field), format!("{} cannot be read: {error}", file.display())));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::{Cluster, add_clusters_from_environment, cluster_problems, without_login};
    use std::collections::BTreeMap;

    #[test]
    fn clusters_come_from_file_and_environment() {
        let file = Cluster { urls: vec!["nats://old:4222".into()], user: Some("forwarder".into()), ..Cluster::default() };
        let mut clusters = BTreeMap::from([("C1".to_owned(), file)]);
        let environment =
            [("NATS_CLUSTER_C1", "nats://a:4222, nats://b:4222"), ("NATS_CLUSTER_C2", "c:4222"), ("NATS_CLUSTER_", "d"), ("PATH", "/")];
        add_clusters_from_environment(&mut clusters, environment.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(clusters.keys().collect::<Vec<_>>(), ["C1", "C2"]);
        assert_eq!(clusters["C1"].urls, ["nats://a:4222", "nats://b:4222"]);
        assert_eq!(clusters["C1"].user.as_deref(), Some("forwarder"));
    }

    #[test]
    fn a_login_in_an_address_is_not_shown() {
        for (url, shown) in [
            ("nats://user:p@ss@nats-1:4222", "nats://nats-1:4222"),
            ("token@nats-1:4222", "nats-1:4222"),
            ("tls://nats-1", "tls://nats-1"),
            ("nats-1:4222", "nats-1:4222"),
        ] {
            assert_eq!(without_login(url), shown);
        }
    }

    #[test]
    fn every_problem_is_told_with_its_key() {
        let clusters = BTreeMap::from([
            ("A".to_owned(), Cluster::default()),
            ("B".to_owned(), Cluster { urls: vec!["http://a b".into()], ca: Some("/nowhere/ca.pem".into()), ..Cluster::default() }),
        ]);
        let keys: Vec<String> = cluster_problems(&clusters).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["nats.A.urls", "nats.B.urls", "nats.B.ca"]);
    }
}
