//! One connection to a NATS server, which is never repaired: when it breaks, it is thrown away and a new one is made.
//!
//! The library would reconnect by itself and then send what still waits in its queues, although what it wrote just before was lost: later
//! messages would overtake earlier ones. So its reconnecting is turned off, and what is sent on a link is a prefix of what was handed to it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::client::{PublishError, PublishErrorKind};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, ReconnectToServer, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use service::error::chain;

use crate::config::{Cluster, without_login};
use crate::lane::Left;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A half-open connection is noticed after two to three of these.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// An address that can never be connected to: where the library is sent to when it wants to reconnect.
const NOWHERE: &str = "nats://127.0.0.1:0";
/// Answers that wait to be read; more than can be under way, so the library never has to drop one.
const ANSWERS: usize = 65_536;

/// A connection with an inbox for answers.
pub(crate) struct Link {
    client: Client,
    answers: Subscriber,
    inbox: String,
    /// What the server complained about last, e.g. a missing permission: such a message gets no answer.
    complaint: Arc<Mutex<Option<String>>>,
}

/// A message that was not sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// This server never takes it.
    Never(String),
    /// The link is broken.
    Broken,
}

impl Link {
    /// Connects to one server. The error is a sentence for people.
    pub(crate) async fn connect(url: &str, cluster: &Cluster, name: &str) -> Result<Self, String> {
        let complaint = Arc::new(Mutex::new(None));
        let options = options(cluster, name, complaint.clone()).await?;
        let shown = without_login(url);
        let client = options.connect(url).await.map_err(|error| format!("{shown} does not answer: {}", chain(&error)))?;
        let broken = |what: &str| format!("{shown}: the connection broke {what}");
        client.set_server_pool(NOWHERE).await.map_err(|_| broken("at once"))?;
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.*")).await.map_err(|_| broken("at once"))?;
        Ok(Self { client, answers, inbox, complaint })
    }

    /// Publishes; the answer comes to [`Self::answer`] with the token. Cancelled calls may or may not have sent it.
    pub(crate) async fn publish(&self, subject: String, headers: HeaderMap, payload: Bytes, token: u64) -> Result<(), NotSent> {
        let reply = format!("{}.{token}", self.inbox);
        self.client.publish_with_reply_and_headers(subject, reply, headers, payload).await.map_err(|error| not_sent(&error))
    }

    /// Publishes without asking for an answer.
    pub(crate) async fn publish_plain(&self, subject: String, headers: HeaderMap, payload: Bytes) -> Result<(), NotSent> {
        self.client.publish_with_headers(subject, headers, payload).await.map_err(|error| not_sent(&error))
    }

    /// Sends ourselves a message: when it is back, the server has handled everything that was published before it.
    pub(crate) async fn echo(&self, token: u64) -> Result<(), NotSent> {
        self.client.publish(format!("{}.{token}", self.inbox), Bytes::new()).await.map_err(|error| not_sent(&error))
    }

    /// The next answer with its token; `None` when the link is broken. Cancel safe.
    pub(crate) async fn answer(&mut self) -> Option<(u64, Message)> {
        loop {
            let message = self.answers.next().await?;
            if let Some(token) = token(&message) {
                return Some((token, message));
            }
        }
    }

    /// An answer that is there already.
    pub(crate) fn waiting_answer(&mut self) -> Option<(u64, Message)> {
        self.answer().now_or_never().flatten()
    }

    /// The client, for requests of the JetStream API.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What the server complained about since the last call, as the end of a sentence.
    pub(crate) fn complaint(&self) -> String {
        let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner).take();
        complaint.map_or(String::new(), |text| format!("; the server says: {text}"))
    }

    /// That the link broke, and what the server said about it.
    pub(crate) fn broken(&self) -> Left {
        Left::Broken(format!("the connection broke{}", self.complaint()))
    }
}

fn token(message: &Message) -> Option<u64> {
    message.subject.rsplit('.').next()?.parse().ok()
}

fn not_sent(error: &PublishError) -> NotSent {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => NotSent::Never(format!("larger than the NATS server's max_payload: {}", chain(error))),
        PublishErrorKind::InvalidSubject => NotSent::Never(format!("no valid NATS subject: {}", chain(error))),
        PublishErrorKind::Send => NotSent::Broken,
    }
}

async fn options(cluster: &Cluster, name: &str, complaint: Arc<Mutex<Option<String>>>) -> Result<ConnectOptions, String> {
    let options = cluster.connect_options().await?;
    Ok(options
        .name(name)
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(ANSWERS)
        .ignore_discovered_servers()
        .max_reconnects(1)
        .reconnect_to_server_callback(|servers, _| async move {
            // Our own first connect is left to the library. Later there is only nowhere to go, and this way it goes there silently.
            let nowhere = servers.into_iter().find(|server| server.addr.as_url_str() == NOWHERE);
            nowhere.map(|server| ReconnectToServer { addr: server.addr, delay: Some(Duration::ZERO) })
        })
        .event_callback(move |event| {
            let complaint = complaint.clone();
            async move {
                if let Event::ServerError(error) = event {
                    *complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                }
            }
        }))
}
