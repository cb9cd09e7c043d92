//! Events that Kafka does not take.

use std::sync::Arc;
use std::time::Duration;

use asset_stream::{Event, Gap, GapReason, Sample, Timestamp};
use edge_buffer::{Entry, Stored};
use rdkafka::error::RDKafkaErrorCode as Code;
use tracing::{error, info};

use crate::class::{self, Class, Failure};
use crate::flow::Flow;
use crate::worker::Worker;

/// So many records refused one after the other, for another reason than their size, are no longer taken for bad records.
const TOO_MANY_REFUSED: u32 = 100;

impl Worker {
    /// Some events were not taken. A single one that went alone and was refused for what it is becomes a gap; all else ends the producer.
    pub(crate) fn look_at_failures(&mut self, flow: &mut Flow) -> Result<(), Failure> {
        if let [(sequence, code)] = flow.failures[..]
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
        let worst = |class| flow.failures.iter().find(|(_, code)| class::of(*code) == class);
        if let Some((sequence, code)) = worst(Class::Record) {
            let refused = flow.failures.iter().filter(|(_, code)| class::of(*code) == Class::Record);
            let before = self.suspects.len();
            self.suspects.extend(refused.map(|(sequence, _)| *sequence));
            let count = self.suspects.len() - before;
            if class::is_about_size(*code) && count > 1 {
                (self.batch_bytes, self.max_message) = ((flow.batch_bytes / 2).max(16 << 10), None);
            }
            let text = format!("Kafka refused a batch ({code}): its {count} events, from {sequence} on, are tried one by one");
            info!("{text}");
            return Err(Failure::new(Class::Record, text));
        }
        for class in [Class::Denied, Class::Topic] {
            if let Some((_, code)) = worst(class) {
                return Err(Failure::new(class, format!("Kafka refuses to take events: {code}")));
            }
        }
        let code = flow.failures[0].1;
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
        error!(sequence = event.sequence, %asset, size, %code, "Kafka refuses an event for good: it becomes a gap");
        self.shared.update(|status| status.refused += 1);
        self.shared.failed(format!("event {} of {asset} ({size} bytes) was refused: {code}", event.sequence));
        Ok(())
    }

    fn tell_refused(&mut self, event: &Stored, code: Code) -> Result<(), Failure> {
        let now = Timestamp::now();
        let decoded = Event::decode(&event.value).ok();
        let is_gap = decoded.as_ref().is_some_and(|event| event.id == "gap");
        let is_ours = decoded.as_ref().is_some_and(|event| event.value.as_str().is_some_and(|text| text.contains("refused_by_kafka")));
        let at = if code == Code::InvalidTimestamp {
            // Whatever clock is wrong, a time that Kafka took before is none to refuse.
            let at = self.newest_taken.map_or(now, |taken| now.min(Timestamp::from_millis(taken)));
            if is_gap {
                // What it tells must not be lost with it.
                self.tell_entry(Entry { key: event.key.clone(), timestamp: at.millis(), value: event.value.to_vec() })?;
            }
            at
        } else if is_gap && is_ours {
            // A gap about a refused gap would be refused as well, and so on.
            return Ok(());
        } else {
            now
        };
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
        self.tell(&Sample { timestamp: at, ..gap.to_sample(now) })
    }
}
