use std::os::unix::fs::PermissionsExt;

use super::{Error, Mode, Password, Policy, Security, UserIdentity, parse};
use crate::trust::TrustMode;
use asset_stream::document::{Document, Environment, Problems};
use opcua::types::{EndpointDescription, MessageSecurityMode, UserTokenPolicy, UserTokenType};

const URI: &str = "opc.tcp://10.0.0.5:4840/server/";

fn read(text: &str) -> (Option<Security>, Vec<String>) {
    let problems = Problems::new();
    let environment = Environment::from_fn(|name| (name == "PASSWORD").then(|| "s3cret".to_owned()));
    let document = Document::parse("d.yaml", text.as_bytes(), &problems).expect("YAML");
    let mut root = document.root(&environment, &problems);
    let security = parse(root.section("security"));
    root.finish();
    (security, problems.into_vec().iter().map(ToString::to_string).collect())
}

fn good(text: &str) -> Security {
    let (security, problems) = read(text);
    assert_eq!(problems, [""; 0], "{text}");
    security.expect("no problem")
}

#[test]
fn without_a_section_nothing_is_secured() {
    let security = good("{}");
    assert_eq!((security.policy, security.mode, security.trust), (Policy::None, Mode::None, TrustMode::Folder));
    assert!(matches!(security.identity, UserIdentity::Anonymous));
}

#[test]
fn all_of_it_is_read_and_no_secret_is_shown() {
    let text = "security:\n  policy: aes256_sha256_rsapss\n  mode: sign\n  identity: {user: edge, password: '${PASSWORD}'}\n  certificate: own.der\n  key: own.pem\n";
    let security = good(text);
    assert_eq!((security.policy, security.mode), (Policy::Aes256Sha256RsaPss, Mode::Sign));
    assert!(security.own.is_some());
    let shown = format!("{security:?} {:?}", security.token().expect("given"));
    assert!(shown.contains("edge") && !shown.contains("s3cret"), "{shown}");
    assert_eq!(good("security: {policy: basic256sha256}").mode, Mode::SignAndEncrypt);
    let by_file = good("security: {identity: {user: edge, password_file: /etc/x}}");
    assert!(matches!(by_file.identity, UserIdentity::User { password: Password::File(_), .. }));
    let by_certificate = good("security: {identity: {certificate: u.der, key: u.pem}}");
    assert!(matches!(by_certificate.identity, UserIdentity::Certificate(_)));
}

#[test]
fn a_password_file_that_everybody_can_read_is_told_with_its_place() {
    let file = tempfile::NamedTempFile::new().expect("temp file");
    let text = format!("security: {{identity: {{user: edge, password_file: {}}}}}", file.path().display());
    good(&text);
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).expect("own file");
    let (_, problems) = read(&text);
    let expected = format!(
        "d.yaml:1:35: security.identity.password_file: everybody on this machine can read the secret {0}: chmod o= {0}",
        file.path().display()
    );
    assert_eq!(problems, [expected]);
}

#[test]
fn what_makes_no_sense_is_told_with_its_place() {
    for (text, expected) in [
        ("security: {policy: basic128rsa15}", "d.yaml:1:20: security.policy: expected `none`"),
        ("security: {mode: sign}", "d.yaml:1:12: security.mode: a mode needs a policy"),
        ("security: {policy: basic256sha256, mode: none}", "d.yaml:1:36: security.mode: with a policy, the mode is"),
        ("security: {identity: {user: edge}}", "d.yaml:1:12: security.identity: the user needs a password"),
        (
            "security: {identity: {user: edge, password: a, password_file: b}}",
            "d.yaml:1:12: security.identity: both password and password_file",
        ),
        ("security: {identity: {password: a}}", "d.yaml:1:12: security.identity: needs user and password_file"),
        ("security: {key: own.pem}", "d.yaml:1:12: security.key: a key needs its certificate"),
        ("security: {polisy: none}", "d.yaml:1:12: security.polisy: unknown key"),
    ] {
        let (_, problems) = read(text);
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{text}: expected {expected}, got {problems:#?}");
    }
}

fn endpoint(policy: Policy, mode: MessageSecurityMode, level: u8, tokens: &[(UserTokenType, &str)]) -> EndpointDescription {
    let mut endpoint = EndpointDescription::from("opc.tcp://plc-internal:4840/");
    endpoint.security_policy_uri = policy.uri().into();
    endpoint.security_mode = mode;
    endpoint.security_level = level;
    let token = |(token_type, policy): &(UserTokenType, &str)| UserTokenPolicy {
        token_type: *token_type,
        policy_id: format!("{token_type:?}-{policy}").into(),
        security_policy_uri: (*policy).into(),
        ..Default::default()
    };
    endpoint.user_identity_tokens = Some(tokens.iter().map(token).collect());
    endpoint
}

#[test]
fn the_endpoint_is_chosen_by_policy_mode_and_login_and_made_ready() {
    use MessageSecurityMode as M;
    use UserTokenType as T;
    let secure = Policy::Basic256Sha256;
    let endpoints = [
        endpoint(Policy::None, M::None, 0, &[(T::Anonymous, "")]),
        endpoint(secure, M::Sign, 10, &[(T::Anonymous, "")]),
        endpoint(secure, M::SignAndEncrypt, 20, &[(T::Anonymous, "")]),
        endpoint(
            secure,
            M::SignAndEncrypt,
            30,
            &[(T::Anonymous, ""), (T::Certificate, ""), (T::UserName, Policy::None.uri()), (T::UserName, secure.uri())],
        ),
    ];
    let chosen = good("security: {policy: basic256sha256}").choose(&endpoints, URI).expect("offered");
    assert_eq!((chosen.endpoint_url.as_ref(), chosen.security_level), (URI, 30), "the configured address and the highest level");
    let user = good("security: {policy: basic256sha256, identity: {user: u, password: p}}").choose(&endpoints, URI).expect("offered");
    let tokens = user.user_identity_tokens.expect("one");
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].security_policy_uri.as_ref(), secure.uri(), "the password would travel in clear");
    let certificate =
        good("security: {policy: basic256sha256, identity: {certificate: c, key: k}}").choose(&endpoints, URI).expect("offered");
    let tokens = certificate.user_identity_tokens.expect("one");
    assert_eq!(tokens[0].security_policy_uri.as_ref(), secure.uri(), "an empty policy is the endpoint's");
}

#[test]
fn a_password_is_not_encrypted_for_nobody() {
    use UserTokenType as T;
    let endpoints =
        [endpoint(Policy::None, MessageSecurityMode::None, 0, &[(T::Anonymous, ""), (T::UserName, Policy::Basic256Sha256.uri())])];
    let user = good("security: {identity: {user: u, password: p}}");
    let chosen = user.choose(&endpoints, URI).expect("offered");
    assert!(matches!(user.check_login(&chosen), Err(Error::NothingToEncryptFor)));
    let anonymous = good("security: {policy: none}");
    let chosen = anonymous.choose(&endpoints, URI).expect("offered");
    assert!(anonymous.check_login(&chosen).is_ok());
}

#[test]
fn what_the_server_offers_is_listed_when_nothing_fits() {
    use MessageSecurityMode as M;
    use UserTokenType as T;
    let endpoints =
        [endpoint(Policy::None, M::None, 0, &[(T::Anonymous, "")]), endpoint(Policy::Basic256Sha256, M::Sign, 10, &[(T::UserName, "")])];
    let refused = good("security: {policy: aes128_sha256_rsaoaep}").choose(&endpoints, URI);
    let Err(Error::NotOffered { offered, .. }) = &refused else { panic!("expected a refusal: {refused:?}") };
    assert_eq!(offered, &["policy None (login: anonymous)", "policy Basic256Sha256, mode sign (login: user name)"]);
    let refused = good("security: {policy: none, identity: {user: u, password: p}}").choose(&endpoints, URI);
    assert!(matches!(&refused, Err(Error::LoginNotOffered { login: "user name", .. })), "{refused:?}");
    let nothing = Security::default().choose(&[], URI);
    assert!(matches!(&nothing, Err(Error::NotOffered { .. })), "{nothing:?}");
}
