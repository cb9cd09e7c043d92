//! Events that Kafka does not take.

use std::sync::Arc;
use std::time::Duration;

use asset_stream::{Event, Gap, GapReason, Timestamp};
use edge_buffer::Stored;
use rdkafka::error::RDKafkaErrorCode as Code;
use tracing::{error, info};

use crate::class::{self, Class, Failure};
use crate::flow::Flow;
use crate::window::Failed;
use crate::worker::Worker;

/// What the journal knows this message by; its catalog explains it.
const EVENT_REFUSED: &str = "da5855593695482c967fd811cbb5a0c6";

/// So many records refused one after the other, for another reason than their size, are no longer taken for bad records.
const TOO_MANY_REFUSED: u32 = 100;

impl Worker {
    /// Some events were not taken. A single one that went alone and was refused for what it is becomes a gap; all else ends the producer.
    pub(crate) fn look_at_failures(&mut self, flow: &mut Flow) -> Result<(), Failure> {
        if let [Failed { sequence, code, .. }] = flow.failures[..]
            && class::of(code) == Class::Record
            && self.window.waiting() == 0
            && let Some(event) = flow.alone.take_if(|event| event.sequence == sequence)
        {
            flow.failures.clear();
            self.refuse(&event, code)?;
            self.window.give_up(sequence);
            self.suspects.remove(&sequence);
            // Nothing is under way, and a broker has said that it did not take this one: no doubt. But its sequence numbers have a gap now.
            self.replace_producer(flow)?;
            // Kept at once: after a crash it would be tried, refused and told again.
            let taken = self.take_reports(flow);
            self.try_to_keep();
            return taken;
        }
        // The others of the window will report too: those refused with their batch are suspects, each to be tried alone.
        let mut more = Vec::new();
        flow.producer.drain(Duration::from_secs(1), &mut more);
        flow.reports.append(&mut more);
        self.take_reports(flow)?;
        if flow.producer.fatal().is_some_and(|(_, text)| text.contains("Invalid timestamp")) {
            // Of a whole batch, librdkafka calls the records that are meant invalid, and tells what for only here.
            let invalid = flow.failures.iter_mut().filter(|failed| failed.code == Code::InvalidRecord);
            invalid.for_each(|failed| failed.code = Code::InvalidTimestamp);
        }
        let worst = |class| flow.failures.iter().find(|failed| class::of(failed.code) == class);
        if let Some(Failed { sequence, code, .. }) = worst(Class::Record) {
            let refused = flow.failures.iter().filter(|failed| class::of(failed.code) == Class::Record);
            let before = self.suspects.len();
            self.suspects.extend(refused.map(|failed| failed.sequence));
            let count = self.suspects.len() - before;
            if class::is_about_size(*code) && count > 1 {
                self.batch_bytes = (flow.batch_bytes / 2).max(16 << 10);
            }
            let text = format!("Kafka refused a batch ({code}): its {count} events, from {sequence} on, are tried one by one");
            info!("{text}");
            return Err(Failure::new(Class::Record, text));
        }
        if let Some(Failed { sequence, timestamp, code }) = worst(Class::Time) {
            let refused = flow.failures.iter().filter(|failed| class::of(failed.code) == Class::Time);
            let remedy = self.times.learn(refused.map(|failed| failed.timestamp));
            // Whoever was suspected was so for this, or will be again.
            self.suspects.clear();
            let observed = Timestamp::from_millis(*timestamp);
            let text = format!(
                "Kafka refuses the record times of events ({code}), as of event {sequence} of {observed}: {remedy}. They are sent again with other times; none is given up"
            );
            return Err(Failure::new(Class::Time, text));
        }
        for class in [Class::Denied, Class::Topic] {
            if let Some(Failed { code, .. }) = worst(class) {
                return Err(Failure::new(class, format!("Kafka refuses to take events: {code}")));
            }
        }
        let code = flow.failures[0].code;
        let text = flow.producer.fatal().map_or_else(|| code.to_string(), |(_, text)| text);
        Err(Failure::new(Class::Transient, format!("the producer cannot go on: {text}")))
    }

    /// Kafka will never take this event: its loss becomes an event, durable before the mirror goes on.
    pub(crate) fn refuse(&mut self, event: &Stored, code: Code) -> Result<(), Failure> {
        self.refused_in_a_row += 1;
        if self.refused_in_a_row > TOO_MANY_REFUSED && !class::is_about_size(code) {
            let text = format!(
                "Kafka refused {TOO_MANY_REFUSED} records one after the other ({code}): is the topic right? Nothing more is given up"
            );
            return Err(Failure::new(Class::Refusals, text));
        }
        self.tell_refused(event, code)?;
        let (asset, size) = (&event.key, event.value.len());
        error!(sequence = event.sequence, %asset, size, %code, message_id = EVENT_REFUSED, "Kafka refuses an event for good: it becomes a gap");
        self.shared.update(|status| status.refused += 1);
        self.shared.failed(format!("event {} of {asset} ({size} bytes) was refused: {code}", event.sequence));
        Ok(())
    }

    fn tell_refused(&mut self, event: &Stored, code: Code) -> Result<(), Failure> {
        let now = Timestamp::now();
        let decoded = Event::decode(&event.value).ok();
        if decoded.as_ref().is_some_and(|event| Gap::is_told_by(event, GapReason::RefusedByKafka)) {
            // Another one would be refused as well, and so on.
            let (sequence, asset) = (event.sequence, &event.key);
            let text = format!(
                "Kafka refuses event {sequence} of {asset}, which tells that it refused another one ({code}): what does the topic take? Nothing more is given up"
            );
            return Err(Failure::new(Class::Refusals, text));
        }
        let size = event.value.len();
        let observed = Timestamp::from_millis(event.timestamp);
        let gap = Gap {
            asset: event.key.clone(),
            item: decoded.map(|event| Arc::from(event.id)),
            reason: GapReason::RefusedByKafka,
            count: Some(1),
            sequences: Some((event.sequence, event.sequence)),
            asset_sequences: Some((event.key_sequence, event.key_sequence)),
            epoch: None,
            from: observed,
            to: observed,
            detail: format!("Kafka refused a record of {size} bytes: {code}"),
        };
        self.tell(&gap.to_sample(now))
    }
}
