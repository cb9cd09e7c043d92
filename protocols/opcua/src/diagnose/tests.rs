use super::{Discovery, Failure, Known, explain, needs_long_backoff};
use crate::identity::Identity;
use crate::security::{Security, UserIdentity};
use asset_stream::Timestamp;
use opcua::types::{EndpointDescription, MessageSecurityMode, StatusCode};

const URI: &str = "opc.tcp://10.0.0.5:4840/server/";
const HOUR: i64 = 3_600_000;

fn identity() -> Identity {
    let state = tempfile::tempdir().expect("a folder");
    Identity::open(state.path()).expect("made")
}

fn discovery(server_ahead_by: i64) -> Discovery {
    let now = Timestamp::now();
    Discovery { endpoints: Vec::new(), server_time: Some(Timestamp::from_millis(now.millis() + server_ahead_by)), our_time: now }
}

/// The check that is named, for a status seen while a secured connection was made.
fn named(status: StatusCode, discovery: &Discovery, identity: &Identity) -> String {
    let mut endpoint = EndpointDescription::from(URI);
    endpoint.security_mode = MessageSecurityMode::SignAndEncrypt;
    let security = Security::default();
    let known = Known { uri: URI, discovery: Some(discovery), endpoint: Some(&endpoint), security: &security, identity };
    let text = explain(&Failure::from(status), &known);
    assert!(text.contains(&format!("{status}")), "the status is not told: {text}");
    text.split(':').next().unwrap_or_default().to_owned()
}

#[test]
fn one_check_is_named_for_each_failure() {
    let (identity, same_time) = (identity(), discovery(0));
    for (status, check) in [
        (StatusCode::BadSecurityChecksFailed, "our certificate untrusted"),
        (StatusCode::BadCertificateUriInvalid, "application URI"),
        (StatusCode::BadCertificateHostNameInvalid, "host name"),
        (StatusCode::BadCertificateTimeInvalid, "certificate validity"),
        (StatusCode::BadInvalidTimestamp, "clock"),
        (StatusCode::BadUserAccessDenied, "login"),
        (StatusCode::BadTooManySessions, "sessions exhausted"),
        (StatusCode::BadSecurityPolicyRejected, "security settings"),
        (StatusCode::BadConnectionClosed, "secured connection closed"),
        (StatusCode::BadTimeout, "no answer"),
        (StatusCode::BadNothingToDo, "refused"),
    ] {
        assert_eq!(named(status, &same_time, &identity), check, "{status}");
    }
}

#[test]
fn a_wrong_clock_is_named_before_what_follows_from_it() {
    let (identity, behind) = (identity(), discovery(-400 * 24 * HOUR));
    for status in [StatusCode::BadSecurityChecksFailed, StatusCode::BadCertificateTimeInvalid, StatusCode::BadConnectionClosed] {
        assert_eq!(named(status, &behind, &identity), "clock", "{status}");
    }
    assert_eq!(named(StatusCode::BadUserAccessDenied, &behind, &identity), "login");
}

#[test]
fn secrets_stay_out_of_what_is_told() {
    let identity = identity();
    let password = crate::security::Password::File("/run/secrets/press".into());
    let mut security = Security::default();
    security.identity = UserIdentity::User { name: "edge".into(), password };
    let known = Known { uri: URI, discovery: None, endpoint: None, security: &security, identity: &identity };
    let text = explain(&Failure::from(StatusCode::BadUserAccessDenied), &known);
    assert!(text.contains("\"edge\"") && !text.contains("secrets"), "{text}");
}

#[test]
fn what_could_lock_an_account_is_not_repeated_soon() {
    for status in [StatusCode::BadUserAccessDenied, StatusCode::BadIdentityTokenRejected, StatusCode::BadCertificateUntrusted] {
        assert!(needs_long_backoff(status), "{status}");
    }
    for status in [StatusCode::BadTimeout, StatusCode::BadConnectionClosed, StatusCode::BadServerHalted] {
        assert!(!needs_long_backoff(status), "{status}");
    }
}
