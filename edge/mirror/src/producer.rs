//! The idempotent producer, and how it reports.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use asset_stream::headers;
use edge_buffer::Stored;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};

use crate::client::{self, LastError, Quiet, drop_aside};
use crate::window::{Handle, Outcome};
use crate::{Config, Error};

/// A connection is not given up sooner for want of an answer: brokers and machines may be busy.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(20);
/// librdkafka takes no longer time limit for a request.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);

/// A delivery report, on its way to the window.
pub(crate) type Report = (Handle, Outcome);

/// Collects delivery reports. There is one for each event in the window, so the window bounds it.
#[derive(Debug)]
struct Reports {
    quiet: Quiet,
    queue: Mutex<Vec<Report>>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.quiet.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, handle: usize) {
        let outcome = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
        };
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push((handle, outcome));
    }
}

/// Why an event was not taken; it was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The producer's queue is full.
    Full,
    /// The producer refuses it, or anything.
    Refused(Code),
}

/// One life of the idempotent producer, and with it one stretch without doubt.
pub(crate) struct Producer {
    inner: BaseProducer<Reports>,
    last_error: Arc<LastError>,
    topic: String,
    edge_id: String,
    /// `<epoch>:`, followed by the digits of the number at hand.
    position: Vec<u8>,
    epoch_len: usize,
}

impl Producer {
    /// Starts a producer whose batches hold at most `batch_bytes`. It connects by itself, and goes on trying. `role`: its name to the brokers.
    pub(crate) fn start(config: &Config, role: &str, epoch: u64, batch_bytes: usize, linger: Duration) -> Result<Self, Error> {
        let mut settings = client::settings(config, role)?;
        let unanswered = (config.request_timeout * 2).clamp(SHORTEST_TIMEOUT, LONGEST_TIMEOUT);
        let queue_kib = (config.window_bytes * 2).max(config.max_record_bytes * 2).div_ceil(1024);
        settings
            .set("enable.idempotence", "true")
            // A batch that fails for good must not be followed by later ones of its partition.
            .set("enable.gapless.guarantee", "true")
            .set("max.in.flight", config.max_in_flight.to_string())
            .set("acks", "all")
            // The log is our memory: an event never times out.
            .set("message.timeout.ms", "0")
            .set("request.timeout.ms", config.request_timeout.as_millis().to_string())
            // A connection that gives no answer for so long is replaced; requests are small enough for it (`capacity.rs`).
            .set("socket.timeout.ms", unanswered.as_millis().to_string())
            // The topic was seen before this producer starts: if it is gone, that shall be known soon.
            .set("topic.metadata.propagation.max.ms", "5000")
            .set("partitioner", "murmur2_random")
            .set("compression.codec", &config.compression)
            .set("linger.ms", linger.as_millis().to_string())
            .set("batch.size", batch_bytes.to_string())
            .set("batch.num.messages", "10000")
            .set("message.max.bytes", (config.max_record_bytes + 4096).to_string())
            .set("queue.buffering.max.messages", (config.window + 1).to_string())
            .set("queue.buffering.max.kbytes", queue_kib.to_string());
        config.kafka.apply_overrides(&mut settings);
        let last_error = Arc::new(LastError::default());
        let queue = Mutex::new(Vec::with_capacity(config.window.min(10_000)));
        let context = Reports { quiet: Quiet(last_error.clone()), queue };
        let inner = settings.create_with_context(context).map_err(Error::Client)?;
        let position = format!("{epoch}:").into_bytes();
        let epoch_len = position.len();
        Ok(Self { inner, last_error, topic: config.assets_topic.clone(), edge_id: config.edge_id.clone(), position, epoch_len })
    }

    /// Hands an event over, with a record time in Unix ms. Does not wait.
    pub(crate) fn send(&mut self, event: &Stored, record_time: i64, handle: Handle) -> Result<(), NotTaken> {
        let headers = self.headers(event);
        self.hand_over(event, record_time, handle, headers)
    }

    /// Hands over an event that may stand already, or comes late: with the header `of-resent`.
    pub(crate) fn send_marked(&mut self, event: &Stored, record_time: i64, handle: Handle) -> Result<(), NotTaken> {
        let headers = self.headers(event).insert(Header { key: headers::RESENT, value: Some("true".as_bytes()) });
        self.hand_over(event, record_time, handle, headers)
    }

    /// Hands over an event that is sent again on request: with the header `of-replay`.
    pub(crate) fn send_again(&mut self, event: &Stored, record_time: i64, handle: Handle, replay: &str) -> Result<(), NotTaken> {
        let headers = self.headers(event).insert(Header { key: headers::REPLAY, value: Some(replay.as_bytes()) });
        self.hand_over(event, record_time, handle, headers)
    }

    fn headers(&mut self, event: &Stored) -> OwnedHeaders {
        OwnedHeaders::new_with_capacity(4)
            .insert(Header { key: headers::EDGE, value: Some(self.edge_id.as_bytes()) })
            .insert(Header { key: headers::SEQUENCE, value: Some(position(&mut self.position, self.epoch_len, event.sequence)) })
            .insert(Header { key: headers::ASSET_SEQUENCE, value: Some(position(&mut self.position, self.epoch_len, event.key_sequence)) })
    }

    fn hand_over(&self, event: &Stored, record_time: i64, handle: Handle, headers: OwnedHeaders) -> Result<(), NotTaken> {
        let record = BaseRecord {
            topic: &self.topic,
            partition: None,
            payload: Some(&event.value[..]),
            key: Some(event.key.as_bytes()),
            // Zero means "now" to librdkafka, and a time before 1970 is none to Kafka.
            timestamp: Some(record_time.max(1)),
            headers: Some(headers),
            delivery_opaque: handle,
        };
        self.inner.send(record).map_err(|(error, _)| match error.rdkafka_error_code() {
            Some(Code::QueueFull) => NotTaken::Full,
            code => NotTaken::Refused(code.unwrap_or(Code::Unknown)),
        })
    }

    /// Serves callbacks, for as long as given; `reports` gets what came in (it should be empty).
    pub(crate) fn poll(&self, wait: Duration, reports: &mut Vec<Report>) {
        if wait.is_zero() {
            // Each call serves one event, and one event holds the reports of one batch.
            for _ in 0..8 {
                self.inner.poll(Duration::ZERO);
            }
        } else {
            self.inner.poll(wait);
        }
        mem::swap(&mut *self.inner.context_queue(), reports);
    }

    /// The fatal error that ended this producer's life.
    pub(crate) fn fatal(&self) -> Option<(Code, String)> {
        self.inner.client().fatal_error()
    }

    pub(crate) fn last_error(&self) -> &LastError {
        &self.last_error
    }

    /// Waits for what is still on its way, at most so long: reports go to `reports`.
    pub(crate) fn drain(&self, wait: Duration, reports: &mut Vec<Report>) {
        let deadline = Instant::now() + wait;
        let mut more = Vec::new();
        while self.inner.in_flight_count() > 0 && Instant::now() < deadline {
            self.inner.poll(Duration::from_millis(5));
            self.poll(Duration::ZERO, &mut more);
            reports.append(&mut more);
        }
        self.poll(Duration::ZERO, &mut more);
        reports.append(&mut more);
    }

    /// Ends this life: nothing more is sent, and nothing more is reported. Waits at most so long.
    pub(crate) fn end(self, wait: Duration) {
        self.inner.purge(PurgeConfig::default().queue().inflight());
        if !drop_aside(self.inner, wait) {
            tracing::debug!("the old producer takes long to end");
        }
    }
}

trait ContextQueue {
    fn context_queue(&self) -> std::sync::MutexGuard<'_, Vec<Report>>;
}

impl ContextQueue for BaseProducer<Reports> {
    fn context_queue(&self) -> std::sync::MutexGuard<'_, Vec<Report>> {
        self.client().context().queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `<epoch>:<n>` in a buffer that is used again and again.
fn position(buffer: &mut Vec<u8>, epoch_len: usize, n: u64) -> &[u8] {
    buffer.truncate(epoch_len);
    buffer.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    buffer
}
