//! What all our Kafka clients have in common: settings, quiet logs, and ends that cannot hang the mirror.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tracing::debug;

use crate::class::{self, Class};
use crate::{Config, Error};

/// Settings shared by producers and consumers.
pub(crate) fn settings(config: &Config, role: &str) -> Result<ClientConfig, Error> {
    let mut client = config.kafka.client().map_err(Error::Kafka)?;
    client.set("client.id", format!("openfactory-edge-{}-{role}", config.edge_id));
    config.kafka.apply_overrides(&mut client);
    // A missing topic is created on purpose, with the right settings, or not at all.
    client.set("allow.auto.create.topics", "false");
    Ok(client)
}

/// What went wrong last, as librdkafka tells it beside its calls: the only place where the reason of a failed connection is told.
#[derive(Debug, Default)]
pub(crate) struct LastError {
    last: Mutex<Option<(Class, String, Instant)>>,
}

impl LastError {
    fn note(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        // "All brokers are down" follows the error that says why; a group's coordinator is of no interest to us.
        if matches!(code, Some(Code::AllBrokersDown | Code::GroupAuthorizationFailed)) {
            return;
        }
        let class = code.map_or(Class::Transient, class::of);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((class, reason.to_owned(), Instant::now()));
    }

    /// The last complaint, which is then forgotten.
    pub(crate) fn take(&self) -> Option<(Class, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take().map(|(class, reason, _)| (class, reason))
    }

    /// The last complaint.
    pub(crate) fn get(&self) -> Option<(Class, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone().map(|(class, reason, _)| (class, reason))
    }

    /// When it was.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, _, at)| *at)
    }
}

/// The context of clients that have no callbacks of their own. Logs at debug level: what matters becomes the mirror's state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quiet(pub(crate) Arc<LastError>);

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(target: "librdkafka", error = %error, "{reason}");
        self.0.note(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

/// Drops a client on a thread of its own, as that can hang; waits at most so long. True if it is gone.
pub(crate) fn drop_aside<T: Send + 'static>(client: T, wait: Duration) -> bool {
    let (done, gone) = mpsc::sync_channel::<()>(1);
    let spawned = std::thread::Builder::new().name("mirror-drop".into()).spawn(move || {
        drop(client);
        drop(done);
    });
    // Without a thread, the closure was dropped here, and the client with it.
    spawned.is_err() || matches!(gone.recv_timeout(wait), Err(mpsc::RecvTimeoutError::Disconnected))
}
