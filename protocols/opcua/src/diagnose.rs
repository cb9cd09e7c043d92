//! Why a connection failed, in plain words: the one check that fails, and what to do about it.

use std::error::Error as _;
use std::fmt;

use asset_stream::Timestamp;
use gateway::chain;
use opcua::types::{EndpointDescription, Error, MessageSecurityMode, StatusCode};

use crate::certificate::Certificate;
use crate::convert::status_text;
use crate::discover::Discovery;
use crate::identity::{self, Identity};
use crate::security::{self, Security, UserIdentity};
use crate::trust;

/// Servers refuse requests from another time; most draw the line at some minutes.
const SKEW: i64 = 5 * 60 * 1000;

/// What ended an attempt to connect.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configured address is none.
    Address(String),
    /// The host's name cannot be resolved.
    Name(String),
    /// The host answers: nothing listens there.
    Refused,
    /// The host does not answer.
    Unreachable(String),
    /// TCP connects, but no OPC UA comes back.
    NoAnswer,
    /// Our own certificate or key.
    Identity(identity::Error),
    /// What is configured and what is offered.
    Security(security::Error),
    /// The server's certificate, checked by us.
    Trust(trust::Error),
    /// What the server, or the library, said.
    Status(StatusCode, String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Status(error.status(), error.source().map(ToString::to_string).unwrap_or_default())
    }
}

impl From<StatusCode> for Failure {
    fn from(status: StatusCode) -> Self {
        Self::Status(status, String::new())
    }
}

impl From<identity::Error> for Failure {
    fn from(error: identity::Error) -> Self {
        Self::Identity(error)
    }
}

impl From<security::Error> for Failure {
    fn from(error: security::Error) -> Self {
        Self::Security(error)
    }
}

impl From<trust::Error> for Failure {
    fn from(error: trust::Error) -> Self {
        Self::Trust(error)
    }
}

/// What is known about the server and us when a connection fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// The configured address.
    pub(crate) uri: &'a str,
    /// What the server said about itself, if it came to that.
    pub(crate) discovery: Option<&'a Discovery>,
    /// The endpoint that was chosen, if it came to that.
    pub(crate) endpoint: Option<&'a EndpointDescription>,
    /// How the connection was to be secured.
    pub(crate) security: &'a Security,
    /// Who we are.
    pub(crate) identity: &'a Identity,
}

/// Whether trying again soon would only do harm: accounts are locked after some wrong passwords, and a server that has no session
/// left needs time, not requests. Then minutes should pass between attempts.
pub(crate) fn needs_long_backoff(status: StatusCode) -> bool {
    is_about_login(status)
        || is_about_certificates(status)
        || [
            StatusCode::BadSecurityPolicyRejected,
            StatusCode::BadSecurityModeRejected,
            StatusCode::BadSecurityModeInsufficient,
            StatusCode::BadTooManySessions,
            StatusCode::BadMaxConnectionsReached,
            StatusCode::BadLicenseExpired,
            StatusCode::BadLicenseLimitsExceeded,
            StatusCode::BadLicenseNotAvailable,
        ]
        .contains(&status)
}

/// Whether the login itself was refused: the server counts such attempts.
pub(crate) fn is_about_login(status: StatusCode) -> bool {
    [
        StatusCode::BadUserAccessDenied,
        StatusCode::BadIdentityTokenInvalid,
        StatusCode::BadIdentityTokenRejected,
        StatusCode::BadUserSignatureInvalid,
        StatusCode::BadIdentityChangeNotSupported,
    ]
    .contains(&status)
}

fn is_about_certificates(status: StatusCode) -> bool {
    [
        StatusCode::BadCertificateInvalid,
        StatusCode::BadCertificatePolicyCheckFailed,
        StatusCode::BadCertificateTimeInvalid,
        StatusCode::BadCertificateIssuerTimeInvalid,
        StatusCode::BadCertificateHostNameInvalid,
        StatusCode::BadCertificateUriInvalid,
        StatusCode::BadCertificateUseNotAllowed,
        StatusCode::BadCertificateIssuerUseNotAllowed,
        StatusCode::BadCertificateUntrusted,
        StatusCode::BadCertificateRevocationUnknown,
        StatusCode::BadCertificateIssuerRevocationUnknown,
        StatusCode::BadCertificateRevoked,
        StatusCode::BadCertificateIssuerRevoked,
        StatusCode::BadCertificateChainIncomplete,
        StatusCode::BadSecurityChecksFailed,
        StatusCode::BadApplicationSignatureInvalid,
        StatusCode::BadNoValidCertificates,
    ]
    .contains(&status)
}

impl Failure {
    /// As [`needs_long_backoff`]. What we refuse ourselves costs the server nothing and is checked again soon: an operator who has
    /// just moved a certificate should not wait.
    pub(crate) fn needs_long_backoff(&self) -> bool {
        matches!(self, Self::Status(status, _) if needs_long_backoff(*status))
    }
}

/// The failing check, what is wrong, and the remedy.
pub(crate) fn explain(failure: &Failure, known: &Known<'_>) -> String {
    let uri = known.uri;
    match failure {
        Failure::Address(text) => format!("address: {text} is no address of an OPC UA server; expected opc.tcp://host:port/path"),
        Failure::Name(why) => {
            format!("host name: the host in {uri} is not known ({why}). Check its spelling and the name server, or use the IP address")
        }
        Failure::Refused => format!(
            "port closed: the host in {uri} answers, but nothing listens on that port. Is the OPC UA server running, is the port right, does a firewall refuse?"
        ),
        Failure::Unreachable(why) => {
            format!(
                "host unreachable: no TCP connection to {uri} ({why}). Is the device switched on, the cable plugged in, the address right, the route or firewall open?"
            )
        }
        Failure::NoAnswer => format!(
            "no OPC UA: {uri} accepts TCP connections, but no OPC UA server answers there. Is it the right port (not the one of a web page), or does the server hang?"
        ),
        Failure::Identity(error) => format!("our certificate: {}", chain(error)),
        Failure::Security(error) => format!("security settings: {}", chain(error)),
        Failure::Trust(error) => format!("{}: {}", error.check(), chain(error)),
        Failure::Status(status, said) => explain_status(*status, said, known),
    }
}

fn explain_status(status: StatusCode, said: &str, known: &Known<'_>) -> String {
    let text = if let Some(text) = clock(status, known) {
        text
    } else if is_about_login(status) {
        login(known)
    } else {
        certificates(status, known).or_else(|| resources(status, known)).unwrap_or_else(|| other(status, said, known))
    };
    format!("{text} [{}]", status_text(status))
}

/// Times stand first: with a wrong clock every other message misleads.
fn clock(status: StatusCode, known: &Known<'_>) -> Option<String> {
    let is_about_time = [
        StatusCode::BadInvalidTimestamp,
        StatusCode::BadCertificateTimeInvalid,
        StatusCode::BadSecurityChecksFailed,
        StatusCode::BadCertificateInvalid,
        StatusCode::BadCertificateUntrusted,
    ]
    .contains(&status);
    let is_wordless = is_hang_up(status) && is_secured(known);
    if !is_about_time && !is_wordless {
        return None;
    }
    let ours = known.identity.certificate();
    let (from, until) = (ours.not_before(), ours.not_after());
    let times = known.discovery.and_then(|d| Some((d.server_time?, d.our_time)));
    let skewed = times.filter(|(server, our)| (server.millis() - our.millis()).abs() > SKEW);
    if let Some((server, our)) = skewed {
        let consequence = if server < from || server > until {
            format!(", so our certificate (valid {from} to {until}) is not valid by its clock")
        } else {
            String::new()
        };
        return Some(format!(
            "clock: the server's clock shows {server}, ours {our}, {} apart{consequence}. Set the clock that is wrong, best by NTP on both",
            Apart(server.millis() - our.millis())
        ));
    }
    let now = times.map_or_else(Timestamp::now, |(_, our)| our);
    if now < from || now > until {
        return Some(format!(
            "our certificate: {} is valid from {from} to {until}, and it is {now}. Replace it and its key, and let the server trust the new one",
            known.identity.certificate_path().display()
        ));
    }
    match status {
        StatusCode::BadInvalidTimestamp => Some(
            "clock: the server finds the time of our requests too far from its own. Set the clock that is wrong, best by NTP on both"
                .to_owned(),
        ),
        StatusCode::BadCertificateTimeInvalid => Some(format!(
            "certificate validity: the server finds a certificate not yet or no longer valid. Ours is valid from {from} to {until}{}. Check the server's clock",
            server_certificate(known).map(|c| format!(", the server's from {} to {}", c.not_before(), c.not_after())).unwrap_or_default()
        )),
        _ => None,
    }
}

fn login(known: &Known<'_>) -> String {
    match &known.security.identity {
        UserIdentity::User { name, .. } => format!(
            "login: the server refuses the user {name:?}: wrong name or password, a locked account, or no right to connect. Check security.identity in the device file and the user on the server; we try again only every few minutes, so as not to lock the account"
        ),
        UserIdentity::Certificate(pair) => format!(
            "login: the server refuses the user certificate {}. Let the server trust it as a user's certificate, and give its user the right to connect",
            pair.certificate.display()
        ),
        UserIdentity::Anonymous => {
            "login: the server does not let anonymous users in. Add security.identity with user and password_file to the device file, or allow anonymous users on the server".to_owned()
        }
    }
}

/// How to make the server trust us.
fn trust_us(known: &Known<'_>) -> String {
    let certificate = known.identity.certificate();
    format!(
        "on the server, move our certificate ({}, SHA-1 {}) from the rejected to the trusted ones, or import {}",
        certificate.common_name(),
        certificate.sha1(),
        known.identity.certificate_path().display()
    )
}

fn certificates(status: StatusCode, known: &Known<'_>) -> Option<String> {
    Some(match status {
        StatusCode::BadSecurityChecksFailed
        | StatusCode::BadCertificateUntrusted
        | StatusCode::BadNoValidCertificates
        | StatusCode::BadCertificateChainIncomplete => {
            format!("our certificate untrusted: the server most likely does not trust our certificate. Remedy: {}", trust_us(known))
        }
        StatusCode::BadCertificateUriInvalid => format!(
            "application URI: the server finds that the URI we announce ({}) is not the one in the certificate ({}), or expects another one for us. Remove an older certificate of ours from the server's list; then {}",
            known.identity.application_uri(),
            known.identity.certificate().uris().join(", "),
            trust_us(known)
        ),
        StatusCode::BadCertificateHostNameInvalid => {
            let hosts = server_certificate(known).map(|c| c.hosts().join(", ")).unwrap_or_default();
            format!("host name: the server's certificate was made for other hosts ({hosts}) than the one in {}. Use such a host name in the device file, or renew the certificate on the server", known.uri)
        }
        StatusCode::BadCertificateUseNotAllowed | StatusCode::BadCertificatePolicyCheckFailed => format!(
            "our certificate: the server does not accept how it was made (key usage, key length or signature): {}. Use one that its operator issued: security.certificate and security.key in the device file",
            known.identity.certificate_path().display()
        ),
        StatusCode::BadCertificateRevoked | StatusCode::BadCertificateIssuerRevoked => {
            "our certificate: it was revoked. Ask the server's operator for a new one: security.certificate and security.key in the device file".to_owned()
        }
        StatusCode::BadCertificateRevocationUnknown | StatusCode::BadCertificateIssuerRevocationUnknown => {
            "our certificate: the server has no revocation list of its issuer. Let the server's operator install it".to_owned()
        }
        StatusCode::BadCertificateInvalid => format!(
            "certificate: a certificate cannot be read, or the one that the server uses is not the one it advertises (renewed meanwhile: the next attempt will see). Otherwise {}",
            trust_us(known)
        ),
        StatusCode::BadApplicationSignatureInvalid => {
            "signature: the server cannot verify our signature. Is there an older certificate of ours in its list? Remove it; a restart of the server may help".to_owned()
        }
        StatusCode::BadSecurityPolicyRejected | StatusCode::BadSecurityModeRejected | StatusCode::BadSecurityModeInsufficient => format!(
            "security settings: the server refuses {}. Change security.policy and security.mode in the device file, or enable it on the server",
            known.security.describe()
        ),
        _ => return None,
    })
}

fn resources(status: StatusCode, known: &Known<'_>) -> Option<String> {
    Some(match status {
        StatusCode::BadTooManySessions | StatusCode::BadMaxConnectionsReached => {
            "sessions exhausted: the server takes no further session. Close other clients, or raise its limit; sessions that were cut end by themselves after their timeout".to_owned()
        }
        StatusCode::BadTooManySubscriptions => {
            "subscriptions exhausted: the server takes no further subscription. Close other clients, or raise its limit".to_owned()
        }
        StatusCode::BadTcpServerTooBusy
        | StatusCode::BadServerTooBusy
        | StatusCode::BadTcpNotEnoughResources
        | StatusCode::BadOutOfMemory
        | StatusCode::BadResourceUnavailable => "server busy: the server is short of resources. It is tried again; if it lasts, reduce clients or tags".to_owned(),
        StatusCode::BadServerHalted | StatusCode::BadShutdown => "server stopped: the server is shutting down or in a failed state. Start it again".to_owned(),
        StatusCode::BadLicenseExpired | StatusCode::BadLicenseLimitsExceeded | StatusCode::BadLicenseNotAvailable => {
            "licence: the server's licence has expired or its limits are reached. Ask the server's vendor".to_owned()
        }
        StatusCode::BadTcpEndpointUrlInvalid | StatusCode::BadServerUriInvalid => format!(
            "address: the server does not know itself by {}. It calls itself {}: use that path in the device file",
            known.uri,
            advertised(known)
        ),
        StatusCode::BadDecodingError
        | StatusCode::BadEncodingLimitsExceeded
        | StatusCode::BadResponseTooLarge
        | StatusCode::BadTcpMessageTooLarge
        | StatusCode::BadRequestTooLarge => {
            "message size: a message is larger than one side takes, or cannot be read. Fewer tags or a shorter publishing interval make messages smaller".to_owned()
        }
        _ => return None,
    })
}

fn other(status: StatusCode, said: &str, known: &Known<'_>) -> String {
    if is_hang_up(status) && is_secured(known) {
        format!(
            "secured connection closed: the server answers, but hangs up when the secured connection is made, without a reason. Most likely it does not trust our certificate ({}), or cannot do {}",
            trust_us(known),
            known.security.describe()
        )
    } else if status == StatusCode::BadTimeout || status == StatusCode::BadRequestTimeout {
        format!("no answer: {} does not answer in time. Is the device overloaded or the line cut?", known.uri)
    } else if is_hang_up(status) {
        format!("connection lost: the connection to {} ended{}", known.uri, aside(said))
    } else {
        format!("refused: {} refuses the connection{}", known.uri, aside(said))
    }
}

fn aside(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

fn is_hang_up(status: StatusCode) -> bool {
    [
        StatusCode::BadCommunicationError,
        StatusCode::BadConnectionClosed,
        StatusCode::BadSecureChannelClosed,
        StatusCode::BadConnectionRejected,
        StatusCode::BadTcpInternalError,
        StatusCode::BadUnexpectedError,
        StatusCode::BadInternalError,
    ]
    .contains(&status)
}

/// The server was just reached, and a secured connection was being made.
fn is_secured(known: &Known<'_>) -> bool {
    known.discovery.is_some() && known.endpoint.is_some_and(|e| e.security_mode != MessageSecurityMode::None)
}

fn server_certificate(known: &Known<'_>) -> Option<Certificate> {
    Certificate::parse(known.endpoint?.server_certificate.as_ref()).ok()
}

fn advertised(known: &Known<'_>) -> String {
    let mut urls: Vec<&str> = known.discovery.iter().flat_map(|d| &d.endpoints).map(|e| e.endpoint_url.as_ref()).collect();
    urls.dedup();
    if urls.is_empty() { "otherwise".to_owned() } else { urls.join(", ") }
}

/// A time difference for people.
struct Apart(i64);

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0.abs() / 60_000;
        match minutes {
            0..=119 => write!(f, "{minutes} minutes"),
            120..=2879 => write!(f, "{} hours", minutes / 60),
            _ => write!(f, "{} days", minutes / 1440),
        }
    }
}

#[cfg(test)]
mod tests;
