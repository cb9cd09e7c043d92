//! Commands from NATS: a request becomes a command in the asset stream, and its reply is the command's life.
//!
//! `cmd.<asset>.<method>`, the tokens escaped as in subjects of events. Each step is a message to the reply subject, the first of them that the
//! command stands in Kafka (`requested`); the last one, and no other, has the header `Of-End`. What becomes no command, and a life without an
//! end, are told as NATS services tell errors: `Nats-Service-Error` and `Nats-Service-Error-Code`. A request with the header `Of-Replies: end`
//! gets the end alone, for clients that take one reply.

mod request;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use asset_stream::Timestamp;
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, Subject};
use futures::StreamExt as _;
use serde_json::json;
use service::error::chain;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::Error;
use crate::config::Front;
use crate::given::{Commander, Enqueued};
use crate::status::{Board, Trouble};
use request::Asked;

/// On the last reply.
const END: &str = "Of-End";
/// On a request: which replies are wanted.
const REPLIES: &str = "Of-Replies";
/// How long a round trip through the server may take.
const ECHO: Duration = Duration::from_secs(2);
/// As the services of NATS tell errors.
const ERROR: &str = "Nats-Service-Error";
const ERROR_CODE: &str = "Nats-Service-Error-Code";

/// A NATS cluster that is listened to.
pub struct Cluster {
    /// Its name in the config.
    pub name: String,
    /// Its servers.
    pub urls: Vec<String>,
    /// Login and TLS.
    pub options: ConnectOptions,
}

/// What requests of one cluster need.
pub(crate) struct Listener {
    pub(crate) front: Front,
    pub(crate) commander: Arc<Commander>,
    pub(crate) board: Arc<Board>,
}

/// Who asked, and how to answer.
struct Requester {
    client: Client,
    reply: Option<Subject>,
    wants_end_alone: bool,
}

impl Listener {
    /// Listens until `stop`; the library connects again by itself.
    pub(crate) async fn run(self, cluster: Cluster, stop: CancellationToken) {
        let Cluster { name, urls, options } = cluster;
        let trouble = Trouble::Nats(name.clone());
        self.board.trouble(trouble.clone(), format!("NATS cluster {name}: no server answers"));
        let (board, of) = (self.board.clone(), name.clone());
        let options = options.name("openfactory-commands").retry_on_initial_connect().event_callback(move |event| {
            hear(&event, &board, &of);
            async {}
        });
        let client = match options.connect(urls).await {
            Ok(client) => client,
            Err(error) => {
                warn!(cluster = name, error = %chain(&error), "this NATS cluster cannot be listened to; restart the service when that is repaired");
                return;
            }
        };
        let subject = format!("{}.*.*", self.front.prefix);
        let mut requests = match client.queue_subscribe(subject.clone(), self.front.queue_group.clone()).await {
            Ok(requests) => requests,
            Err(error) => return warn!(cluster = name, subject, error = %chain(&error), "no requests are taken"),
        };
        if stop.run_until_cancelled(is_subscribed(&client)).await.is_none() {
            return;
        }
        info!(cluster = name, subject, "commands are taken from NATS");
        let mut waiting = JoinSet::new();
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => return,
                Some(_) = waiting.join_next(), if !waiting.is_empty() => {
                    self.board.waiting.fetch_sub(1, Relaxed);
                    continue;
                }
                message = requests.next() => message,
            };
            let Some(message) = message else { return };
            self.board.requests.fetch_add(1, Relaxed);
            let requester = Requester::of(&client, &message);
            // One after the other: commands of an asset get into the stream in the order in which they came.
            match self.take(&message, waiting.len()).await {
                Ok((asked, enqueued)) => {
                    self.board.waiting.fetch_add(1, Relaxed);
                    waiting.spawn(answer(requester, asked, enqueued));
                }
                Err((code, text)) => {
                    self.board.refused.fetch_add(1, Relaxed);
                    debug!(subject = %message.subject, text, "refused");
                    requester.fail(code, &text, None).await;
                }
            }
        }
    }

    /// Hands the command to the producer; the error is a code as in HTTP, and a sentence.
    async fn take(&self, message: &Message, waiting: usize) -> Result<(Asked, Enqueued), (u16, String)> {
        let limit = self.front.max_waiting;
        let failed = |error: Error| (503, chain(&error));
        if waiting >= limit {
            return Err(failed(Error::TooMany { limit }));
        }
        let asked = request::read(&message.subject, &self.front.prefix, &message.payload, self.front.expires_in, Timestamp::now())
            .map_err(|text| (400, text))?;
        let enqueued = self.commander.enqueue(&asked.asset, &asked.method, &asked.command, None).await.map_err(failed)?;
        Ok((asked, enqueued))
    }
}

/// Waits until the server has taken our subscriptions: it handles what a client sends in its order, so a message to ourselves comes back then.
async fn is_subscribed(client: &Client) {
    let inbox = client.new_inbox();
    let Ok(mut echo) = client.subscribe(inbox.clone()).await else { return };
    loop {
        // One that is on its way when the connection breaks is lost.
        let sent = client.publish(inbox.clone(), Vec::new().into()).await;
        if sent.is_err() || tokio::time::timeout(ECHO, echo.next()).await.is_ok() {
            return;
        }
    }
}

fn hear(event: &Event, board: &Board, cluster: &str) {
    let trouble = Trouble::Nats(cluster.to_owned());
    match event {
        Event::Connected => {
            if board.settled(&trouble) {
                info!(cluster, "NATS answers");
            }
        }
        Event::Disconnected => {
            if board.trouble(trouble, format!("NATS cluster {cluster}: no server answers")) {
                warn!(cluster, "NATS does not answer; commands come over Kafka alone until it does");
            }
        }
        Event::ServerError(error) => {
            let reason = format!("NATS cluster {cluster}: the server says: {error}");
            if board.trouble(trouble, reason.clone()) {
                warn!(cluster, reason, "commands may not come from NATS");
            }
        }
        other => debug!(cluster, %other, "NATS"),
    }
}

/// Tells the command's life until its end.
async fn answer(requester: Requester, Asked { command, .. }: Asked, enqueued: Enqueued) {
    let id = &command.header.correlation_id;
    let mut life = match enqueued.written().await {
        Ok(life) => life,
        Err(error) => return requester.fail(503, &chain(&error), Some(id)).await,
    };
    if requester.reply.is_none() {
        return;
    }
    let header = &command.header;
    let requested = json!({"correlation_id": id, "sender_uuid": header.sender_uuid, "state": "requested", "time": header.timestamp,
                           "expires_at": header.expires_at});
    requester.tell(requested.to_string(), IsEnd::No).await;
    while let Some(status) = life.next().await {
        let is_end = if status.state.is_end() { IsEnd::Yes } else { IsEnd::No };
        requester.tell(status.encode(), is_end).await;
        if is_end == IsEnd::Yes {
            return;
        }
    }
    requester.fail(504, &life.silence(), Some(id)).await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum IsEnd {
    Yes,
    No,
}

impl Requester {
    fn of(client: &Client, message: &Message) -> Self {
        let replies = message.headers.as_ref().and_then(|headers| headers.get(REPLIES));
        let wants_end_alone = replies.is_some_and(|wanted| wanted.as_str().eq_ignore_ascii_case("end"));
        Self { client: client.clone(), reply: message.reply.clone(), wants_end_alone }
    }

    async fn tell(&self, text: String, is_end: IsEnd) {
        let mut headers = HeaderMap::new();
        match is_end {
            IsEnd::Yes => headers.insert(END, "true"),
            IsEnd::No if self.wants_end_alone => return,
            IsEnd::No => {}
        }
        self.send(headers, text).await;
    }

    /// What ends a life otherwise. The id tells which command it was, if there is one.
    async fn fail(&self, code: u16, text: &str, id: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(END, "true");
        headers.insert(ERROR_CODE, code.to_string().as_str());
        headers.insert(ERROR, text.replace(['\r', '\n'], " ").as_str());
        self.send(headers, json!({"correlation_id": id, "error": text}).to_string()).await;
    }

    async fn send(&self, headers: HeaderMap, text: String) {
        let Some(reply) = &self.reply else { return };
        if let Err(error) = self.client.publish_with_headers(reply.clone(), headers, text.into()).await {
            debug!(error = %chain(&error), "a reply was not sent");
        }
    }
}
