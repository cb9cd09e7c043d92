//! `server.security` of a device file: how a connection is secured, and as whom we log in.
//!
//! ```yaml
//! security:
//!   policy: basic256sha256            # none (default) | basic256sha256 | aes128_sha256_rsaoaep | aes256_sha256_rsapss
//!   mode: sign_and_encrypt            # sign | sign_and_encrypt (default)
//!   identity: {user: edge, password_file: /etc/openfactory/press.password}   # or password: ${PASSWORD}, or certificate: and key:
//!   trust: folder                     # folder (default) | any: accept every server's certificate, unchecked
//!   certificate: /etc/openfactory/own.der    # instead of the edge's own, with key:
//!   key: /etc/openfactory/own.pem
//! ```

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use asset_stream::document::{FromNode, Node, Section};
use opcua::client::IdentityToken;
use opcua::crypto::SecurityPolicy;
use opcua::types::{EndpointDescription, MessageSecurityMode, UserTokenPolicy, UserTokenType};
use tracing::warn;

use crate::identity::{self, Identity};
use crate::trust::TrustMode;

/// How to talk to one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// The algorithms.
    pub policy: Policy,
    /// What they are used for; `None` exactly if the policy is.
    pub mode: Mode,
    /// As whom we log in.
    pub identity: UserIdentity,
    /// Whose certificate is accepted.
    pub trust: TrustMode,
    /// A certificate and key for this server alone.
    pub own: Option<Pair>,
    /// The device file says how; otherwise a better offer of the server is worth a hint.
    explicit: bool,
    /// The hint was given; shared by all clones, so it is given once.
    hinted: Hinted,
}

/// Whether a hint was given. No part of what a config says: two configs are equal whatever was hinted.
#[derive(Clone, Debug, Default)]
struct Hinted(Arc<AtomicBool>);

impl PartialEq for Hinted {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Hinted {}

/// A security policy that is considered safe today, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Neither signed nor encrypted.
    #[default]
    None,
    /// Basic256Sha256.
    Basic256Sha256,
    /// Aes128_Sha256_RsaOaep.
    Aes128Sha256RsaOaep,
    /// Aes256_Sha256_RsaPss.
    Aes256Sha256RsaPss,
}

/// What a policy is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    #[default]
    None,
    /// Messages are signed, anyone can read them.
    Sign,
    /// Messages are signed and encrypted.
    SignAndEncrypt,
}

/// As whom we log in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UserIdentity {
    /// As nobody.
    #[default]
    Anonymous,
    /// With a name and a password.
    User {
        /// The name.
        name: String,
        /// Where the password is.
        password: Password,
    },
    /// With a user's certificate (not the application's).
    Certificate(Pair),
}

/// Where a password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// In the device file.
    Given(Secret),
    /// In a file of its own, read at each connection; a line end after it does not count.
    File(PathBuf),
}

/// Text that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A certificate (DER or PEM) and its key (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

/// Why the connection cannot be secured, or the login not be made, as configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No endpoint fits.
    #[error("the server does not offer {wanted}; it offers: {}. Change security.policy and security.mode in the device file, or enable it on the server", offered.join("; "))]
    NotOffered {
        /// What is configured.
        wanted: String,
        /// What there is.
        offered: Vec<String>,
    },
    /// The endpoint is there, for other logins.
    #[error("the server does not take a login as {login} with {wanted}; it offers: {}. Change security.identity in the device file, or enable it on the server", offered.join("; "))]
    LoginNotOffered {
        /// What is configured.
        login: &'static str,
        /// The endpoint.
        wanted: String,
        /// What there is.
        offered: Vec<String>,
    },
    /// There is nothing to encrypt the login for.
    #[error("the server wants the login encrypted, and shows no certificate to encrypt it for: give the server a certificate")]
    NothingToEncryptFor,
    /// The password's file cannot be read.
    #[error("cannot read the password file{}", named(path))]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The user's certificate or key cannot be used.
    #[error("cannot log in with the user's certificate")]
    UserCertificate(#[source] identity::Error),
}

impl Policy {
    /// The name in the standard.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Basic256Sha256 => "Basic256Sha256",
            Self::Aes128Sha256RsaOaep => "Aes128_Sha256_RsaOaep",
            Self::Aes256Sha256RsaPss => "Aes256_Sha256_RsaPss",
        }
    }

    fn uri(self) -> &'static str {
        match self {
            Self::None => SecurityPolicy::None.to_uri(),
            Self::Basic256Sha256 => SecurityPolicy::Basic256Sha256.to_uri(),
            Self::Aes128Sha256RsaOaep => SecurityPolicy::Aes128Sha256RsaOaep.to_uri(),
            Self::Aes256Sha256RsaPss => SecurityPolicy::Aes256Sha256RsaPss.to_uri(),
        }
    }
}

impl Mode {
    fn wire(self) -> MessageSecurityMode {
        match self {
            Self::None => MessageSecurityMode::None,
            Self::Sign => MessageSecurityMode::Sign,
            Self::SignAndEncrypt => MessageSecurityMode::SignAndEncrypt,
        }
    }
}

impl UserIdentity {
    fn token_type(&self) -> UserTokenType {
        match self {
            Self::Anonymous => UserTokenType::Anonymous,
            Self::User { .. } => UserTokenType::UserName,
            Self::Certificate(_) => UserTokenType::Certificate,
        }
    }
}

impl FromNode for Policy {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        node.one_of([
            ("none", Self::None),
            ("basic256sha256", Self::Basic256Sha256),
            ("aes128_sha256_rsaoaep", Self::Aes128Sha256RsaOaep),
            ("aes256_sha256_rsapss", Self::Aes256Sha256RsaPss),
        ])
    }
}

impl FromNode for Mode {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        node.one_of([("none", Self::None), ("sign", Self::Sign), ("sign_and_encrypt", Self::SignAndEncrypt)])
    }
}

impl FromNode for TrustMode {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        node.one_of([("folder", Self::Folder), ("any", Self::Any)])
    }
}

/// Reads `server.security`; without it, nothing is secured and nobody logs in. `None`: problems were recorded.
pub(crate) fn parse(section: Option<Section<'_>>) -> Option<Security> {
    let Some(mut section) = section else { return Some(Security::default()) };
    let policy = section.or("policy", Policy::None);
    let mode = match (policy, section.optional::<Mode>("mode")) {
        (Policy::None, None | Some(Mode::None)) => Some(Mode::None),
        (Policy::None, Some(_)) => {
            section.problem("mode", "a mode needs a policy: add e.g. policy: basic256sha256");
            None
        }
        (_, Some(Mode::None)) => {
            section.problem("mode", "with a policy, the mode is sign or sign_and_encrypt");
            None
        }
        (_, mode) => Some(mode.unwrap_or(Mode::SignAndEncrypt)),
    };
    let trust = section.or("trust", TrustMode::Folder);
    if trust == TrustMode::Any {
        section.warning("trust", "every server's certificate is accepted: nothing protects against a server that pretends to be this one");
    }
    let identity = section.section("identity").map_or(Some(UserIdentity::Anonymous), parse_identity);
    let own = parse_pair(&mut section);
    section.finish();
    Some(Security { policy, mode: mode?, identity: identity?, trust, own: own?, explicit: true, hinted: Hinted::default() })
}

fn parse_identity(mut section: Section<'_>) -> Option<UserIdentity> {
    let user = section.optional::<String>("user");
    let given = section.optional::<String>("password").map(|text| Password::Given(Secret(text)));
    let file = section.optional::<PathBuf>("password_file");
    file.iter().for_each(|file| refuse_exposed(&section, "password_file", file));
    let file = file.map(Password::File);
    let pair = parse_pair(&mut section);
    let problem = |text: &str| {
        section.problem("", text);
        None
    };
    let identity = match (user, given, file, pair?) {
        (Some(name), Some(password), None, None) | (Some(name), None, Some(password), None) => Some(UserIdentity::User { name, password }),
        (Some(_), Some(_), Some(_), _) => problem("both password and password_file are given: keep one"),
        (Some(_), None, None, None) => problem("the user needs a password: add password_file (or password, e.g. ${PASSWORD})"),
        (None, None, None, Some(pair)) => Some(UserIdentity::Certificate(pair)),
        (Some(_), _, _, Some(_)) => problem("both a user and a certificate are given: log in with one of them"),
        (None, _, _, _) => {
            problem("needs user and password_file (or password), or certificate and key; without `identity` the login is anonymous")
        }
    };
    section.finish();
    identity
}

/// The name of a file that is there. In place of another one somebody may have written the password itself.
fn named(file: &Path) -> String {
    match file.exists() {
        true => format!(" {}", file.display()),
        false => format!(", which is not in {}", file.parent().unwrap_or(Path::new("")).display()),
    }
}

/// A secret that everybody can read is none. One that is not there yet is another matter: it is read at each connection.
fn refuse_exposed(section: &Section<'_>, key: &str, file: &Path) {
    if fs::metadata(file).is_ok_and(|found| found.permissions().mode() & 0o007 != 0) {
        let file = file.display();
        section.problem(key, format!("everybody on this machine can read the secret {file}: chmod o= {file}"));
    }
}

/// `Some(None)`: neither is there; `None`: a problem was recorded.
fn parse_pair(section: &mut Section<'_>) -> Option<Option<Pair>> {
    match (section.optional::<PathBuf>("certificate"), section.optional::<PathBuf>("key")) {
        (Some(certificate), Some(key)) => {
            refuse_exposed(section, "key", &key);
            Some(Some(Pair { certificate, key }))
        }
        (None, None) => Some(None),
        (Some(_), None) => {
            section.problem("certificate", "a certificate needs its key: add key: FILE");
            None
        }
        (None, Some(_)) => {
            section.problem("key", "a key needs its certificate: add certificate: FILE");
            None
        }
    }
}

impl Security {
    /// The certificate and key to use: the ones for this server, or the edge's.
    pub(crate) fn own_identity(&self, edge: &Identity) -> Result<Identity, identity::Error> {
        match &self.own {
            Some(pair) => Identity::load(&pair.certificate, &pair.key),
            // Read anew: it may have been renewed.
            None => Identity::load(edge.certificate_path(), edge.key_path()),
        }
    }

    /// What the configuration asks for, in words.
    pub(crate) fn describe(&self) -> String {
        describe(self.policy.as_str(), self.mode.wire())
    }

    /// The endpoint that fits, made ready for the library: with the configured address (the advertised one is often unreachable,
    /// e.g. behind NAT), and with one token policy, spelled out.
    pub(crate) fn choose(&self, endpoints: &[EndpointDescription], uri: &str) -> Result<EndpointDescription, Error> {
        let token_type = self.identity.token_type();
        let binary = |e: &&EndpointDescription| {
            let profile = e.transport_profile_uri.as_ref();
            profile.is_empty() || profile.ends_with("uatcp-uasc-uabinary")
        };
        let fits = |e: &&EndpointDescription| e.security_policy_uri.as_ref() == self.policy.uri() && e.security_mode == self.mode.wire();
        let offered = || offers(endpoints.iter().filter(binary));
        let fitting: Vec<_> = endpoints.iter().filter(binary).filter(fits).collect();
        if fitting.is_empty() {
            return Err(Error::NotOffered { wanted: self.describe(), offered: offered() });
        }
        let with_login = fitting.iter().filter_map(|e| Some((*e, choose_token(e, token_type)?)));
        let Some((endpoint, token)) = with_login.max_by_key(|(e, _)| e.security_level) else {
            return Err(Error::LoginNotOffered { login: login(token_type), wanted: self.describe(), offered: offered() });
        };
        self.hint(endpoints, uri);
        if token_type == UserTokenType::UserName && self.mode != Mode::SignAndEncrypt && token.security_policy_uri == Policy::None.uri() {
            warn!(server = %uri, "the password travels unencrypted: use a security policy for this server");
        }
        let mut endpoint = endpoint.clone();
        endpoint.endpoint_url = uri.into();
        endpoint.user_identity_tokens = Some(vec![token]);
        Ok(endpoint)
    }

    /// Whether the login can be made as the chosen endpoint wants it: the library panics where it has nobody to encrypt a password for.
    pub(crate) fn check_login(&self, chosen: &EndpointDescription) -> Result<(), Error> {
        let is_encrypted = |token: &UserTokenPolicy| {
            let policy = token.security_policy_uri.as_ref();
            token.token_type != UserTokenType::Anonymous && !policy.is_empty() && policy != Policy::None.uri()
        };
        let has_certificate = chosen.server_certificate.value.as_ref().is_some_and(|bytes| !bytes.is_empty());
        let encrypts = chosen.user_identity_tokens.iter().flatten().any(is_encrypted);
        if encrypts && !has_certificate { Err(Error::NothingToEncryptFor) } else { Ok(()) }
    }

    fn hint(&self, endpoints: &[EndpointDescription], uri: &str) {
        let is_better = |e: &EndpointDescription| e.security_mode != MessageSecurityMode::None && can_use(e.security_policy_uri.as_ref());
        if !self.explicit && endpoints.iter().any(is_better) && !self.hinted.0.swap(true, Ordering::Relaxed) {
            warn!(server = %uri, "the connection is neither signed nor encrypted, although the server offers it: add `security` to the device file (policy: none to silence this)");
        }
    }

    /// The login. Files are read each time, so a changed password needs no restart.
    pub(crate) fn token(&self) -> Result<IdentityToken, Error> {
        Ok(match &self.identity {
            UserIdentity::Anonymous => IdentityToken::Anonymous,
            UserIdentity::User { name, password } => {
                let password = match password {
                    Password::Given(secret) => secret.0.clone(),
                    Password::File(path) => {
                        let text = fs::read_to_string(path).map_err(|source| Error::PasswordFile { path: path.clone(), source })?;
                        text.strip_suffix('\n').map(|t| t.strip_suffix('\r').unwrap_or(t)).unwrap_or(&text).to_owned()
                    }
                };
                IdentityToken::new_user_name(name.clone(), password)
            }
            UserIdentity::Certificate(pair) => {
                let (certificate, key) = identity::read_pair(&pair.certificate, &pair.key).map_err(Error::UserCertificate)?;
                IdentityToken::new_x509(certificate.x509().clone(), key)
            }
        })
    }
}

/// Whether the library has the algorithms, and they are not broken by now.
fn can_use(policy_uri: &str) -> bool {
    [Policy::Basic256Sha256, Policy::Aes128Sha256RsaOaep, Policy::Aes256Sha256RsaPss].iter().any(|policy| policy.uri() == policy_uri)
}

/// The endpoint's best policy for such a login, with its security policy spelled out: the library takes an empty one for "none" where
/// the standard says "the endpoint's", and then signs with nothing.
fn choose_token(endpoint: &EndpointDescription, token_type: UserTokenType) -> Option<UserTokenPolicy> {
    let tokens = endpoint.user_identity_tokens.iter().flatten().filter(|token| token.token_type == token_type);
    let spelled_out = tokens.cloned().map(|mut token| {
        if token.security_policy_uri.is_empty() {
            token.security_policy_uri = endpoint.security_policy_uri.clone();
        }
        token
    });
    let rank = |token: &UserTokenPolicy| {
        let uri = token.security_policy_uri.as_ref();
        if uri == endpoint.security_policy_uri.as_ref() && can_use(uri) {
            3
        } else if can_use(uri) {
            2
        } else if uri == Policy::None.uri() || token_type == UserTokenType::Anonymous {
            1
        } else {
            0
        }
    };
    let best = spelled_out.filter(|token| rank(token) > 0).max_by_key(rank);
    // Some small servers list nothing and mean: anyone.
    let lists_nothing = endpoint.user_identity_tokens.as_ref().is_none_or(Vec::is_empty);
    let anonymous = || UserTokenPolicy { token_type: UserTokenType::Anonymous, policy_id: "anonymous".into(), ..Default::default() };
    best.or_else(|| (lists_nothing && token_type == UserTokenType::Anonymous).then(anonymous))
}

fn login(token_type: UserTokenType) -> &'static str {
    match token_type {
        UserTokenType::Anonymous => "anonymous",
        UserTokenType::UserName => "user name",
        UserTokenType::Certificate => "certificate",
        _ => "issued token",
    }
}

fn describe(policy: &str, mode: MessageSecurityMode) -> String {
    match mode {
        MessageSecurityMode::None => "policy None".to_owned(),
        MessageSecurityMode::Sign => format!("policy {policy}, mode sign"),
        MessageSecurityMode::SignAndEncrypt => format!("policy {policy}, mode sign_and_encrypt"),
        _ => format!("policy {policy}, no valid mode"),
    }
}

/// Endpoints in words, each kind once.
fn offers<'e>(endpoints: impl Iterator<Item = &'e EndpointDescription>) -> Vec<String> {
    let mut offers: Vec<String> = Vec::new();
    for endpoint in endpoints {
        let policy = endpoint.security_policy_uri.as_ref();
        let mut logins: Vec<&str> = endpoint.user_identity_tokens.iter().flatten().map(|token| login(token.token_type)).collect();
        logins.dedup();
        let policy = policy.rsplit('#').next().unwrap_or(policy);
        let offer = format!("{} (login: {})", describe(policy, endpoint.security_mode), logins.join(", "));
        if !offers.contains(&offer) {
            offers.push(offer);
        }
    }
    if offers.is_empty() {
        offers.push("nothing over opc.tcp".to_owned());
    }
    offers
}

#[cfg(test)]
mod tests;
