//! From the device file to a line: ask the server for its endpoints, choose one, check its certificate, and start a session.

use std::sync::Arc;

use opcua::client::{Client, Session};
use opcua::client::{ClientBuilder, SessionEventLoop};
use opcua::types::EndpointDescription;
use std::time::Duration;

use crate::config::Config;
use crate::diagnose::{Failure, Known, explain, is_about_login};
use crate::discover::{Discovery, discover};
use crate::identity::Identity;
use crate::line::Line;
use crate::run::Shared;
use crate::transport::{Cut, DialedConnector, Dialer};

/// What the library may take from a server before it closes the connection. Its own limits (1,000 array elements, 327,675 bytes) are
/// reached by one notification of a thousand items, and by the backlog after an outage.
mod decoding {
    pub(super) const ARRAY: usize = 1_000_000;
    pub(super) const MESSAGE: usize = 64 << 20;
    pub(super) const CHUNKS: usize = 2_000;
    pub(super) const TEXT: usize = 16 << 20;
}

/// An attempt that failed: what happened, and why in plain words.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// For the log and for `avail`.
    pub(crate) words: String,
    /// When to try again.
    pub(crate) again: Again,
}

/// When it makes sense to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// The cause may go away at any time.
    Soon,
    /// Somebody has to do something, or the server has to recover.
    Later,
    /// Each attempt may bring an account nearer to being locked.
    MuchLater,
}

/// What was learned of a server on the way to a line; explains later failures.
pub(crate) struct Chosen {
    discovery: Option<Discovery>,
    endpoint: Option<EndpointDescription>,
    identity: Identity,
}

impl Chosen {
    /// What a failure means, in plain words.
    pub(crate) fn refusal(&self, failure: &Failure, config: &Config) -> Refusal {
        let known = Known {
            uri: &config.uri,
            discovery: self.discovery.as_ref(),
            endpoint: self.endpoint.as_ref(),
            security: &config.security,
            identity: &self.identity,
        };
        let again = match failure {
            failure if !failure.needs_long_backoff() => Again::Soon,
            Failure::Status(status, _) if is_about_login(*status) => Again::MuchLater,
            _ => Again::Later,
        };
        Refusal { words: explain(failure, &known), again }
    }
}

/// Opens a line. `device`: its name, for the server's list of sessions.
pub(crate) async fn open(config: &Config, shared: &Shared, device: &str) -> Result<(Line, Chosen), Refusal> {
    let mut chosen = Chosen { discovery: None, endpoint: None, identity: shared.identity.clone() };
    match start(config, shared, device, &mut chosen).await {
        Ok(line) => Ok((line, chosen)),
        Err(failure) => Err(chosen.refusal(&failure, config)),
    }
}

async fn start(config: &Config, shared: &Shared, device: &str, chosen: &mut Chosen) -> Result<Line, Failure> {
    // Certificate and key are read and checked here: the library panics where they are missing.
    chosen.identity = config.security.own_identity(&shared.identity)?;
    chosen.identity.warn_before_expiry();
    let client = client(config, &chosen.identity, shared, device)?;
    let within = config.session.connect_timeout + config.session.request_timeout;
    let discovery = chosen.discovery.insert(discover(&client, &config.uri, within).await?);
    // With the configured address: the advertised one is often not reachable from here.
    let endpoint = chosen.endpoint.insert(config.security.choose(&discovery.endpoints, &config.uri)?);
    config.security.check_login(endpoint)?;
    shared.trust.check(config.security.trust, endpoint, &config.uri)?;
    let cut = Cut::default();
    let (session, events) = session(&client, endpoint, config, &cut)?;
    Ok(Line::start(session, events, cut, config.session.keep_alive_failures))
}

fn client(config: &Config, identity: &Identity, shared: &Shared, device: &str) -> Result<Client, Failure> {
    let session = &config.session;
    let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let builder = ClientBuilder::new()
        .application_name("OpenFactory Edge")
        .product_uri("urn:openfactory:edge")
        .session_name(format!("openfactory-edge {device}"))
        .pki_dir(shared.trust.library_folder())
        .trust_server_certs(false)
        .verify_server_certs(false)
        // The line decides how long to try, and when a connection counts as dead: the library would close the session first.
        .session_retry_limit(-1)
        .session_retry_initial(Duration::from_millis(200))
        .session_retry_max(Duration::from_secs(3))
        .max_failed_keep_alive_count(0)
        .keep_alive_interval(session.keep_alive_interval)
        .request_timeout(session.request_timeout)
        .session_timeout(millis(session.session_timeout))
        // Subscriptions are ours: the library's way of recreating them loses data and leaves orphans.
        .recreate_subscriptions(false)
        .max_array_length(decoding::ARRAY)
        .max_message_size(decoding::MESSAGE)
        .max_chunk_count(decoding::CHUNKS)
        .max_string_length(decoding::TEXT)
        .max_byte_string_length(decoding::TEXT);
    identity.apply(builder).client().map_err(|problems| Failure::Address(problems.join("; ")))
}

type Started = (Arc<Session>, SessionEventLoop<DialedConnector>);

fn session(client: &Client, endpoint: &EndpointDescription, config: &Config, cut: &Cut) -> Result<Started, Failure> {
    let token = config.security.token()?;
    let dialer = Dialer { cut: cut.clone(), within: config.session.connect_timeout };
    let builder = client.session_builder().connect_to_endpoint_directly(endpoint.clone())?.user_identity_token(token);
    Ok(builder.with_connector(dialer).build(client.certificate_store().clone())?)
}
