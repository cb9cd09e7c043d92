//! What has to hold on the way from the log to Kafka, in every state.

use stateright::Property;

use crate::broker::Partition;
use crate::events::{Header, Record, are_in_order};
use crate::log_to_kafka::{LogToKafka, Protocol, State};
use crate::mirror::Cursor;

pub(crate) const ONCE: &str = "Kafka holds no event twice";
pub(crate) const ORDER: &str = "in Kafka no event of an asset stands before an earlier one";
pub(crate) const ACKNOWLEDGED: &str = "what is acknowledged stands in Kafka";
pub(crate) const PLACE: &str = "no event beyond the cursor stands before its partition's place";
pub(crate) const UNMARKED: &str = "no event has to be sent marked";
pub(crate) const COMPLETE: &str = "when nothing is left to do, every event stands in Kafka";

pub(crate) fn all() -> Vec<Property<LogToKafka>> {
    vec![
        Property::always(ONCE, is_once),
        Property::always(ORDER, is_in_order),
        Property::always(ACKNOWLEDGED, is_acknowledged_rightly),
        Property::always(PLACE, is_place_right),
        Property::always(UNMARKED, is_unmarked),
        Property::always(COMPLETE, is_complete),
    ]
}

fn is_once(model: &LogToKafka, state: &State) -> bool {
    let copies = |sequence| state.records().filter(move |record| *record == Record { sequence, header: Header::None }).count();
    (1..=model.size.events).all(|sequence| copies(sequence) <= 1)
}

fn is_in_order(_: &LogToKafka, state: &State) -> bool {
    state.partitions.iter().all(|partition| are_in_order(partition.records().map(|record| record.sequence)))
}

fn is_acknowledged_rightly(_: &LogToKafka, state: &State) -> bool {
    let kept = state.log.cursor.as_ref().map_or(0, |cursor| cursor.sequence);
    (1..=kept.max(state.worker.window.acknowledged)).all(|sequence| state.stands(sequence))
}

fn is_place_right(_: &LogToKafka, state: &State) -> bool {
    let Some(Cursor { sequence, note }) = &state.log.cursor else { return true };
    let known = *sequence.max(&note.unsure_through);
    let before =
        |(partition, place): (&Partition, &u8)| partition.records().take(usize::from(*place)).all(|record| record.sequence <= known);
    state.partitions.iter().zip(&note.places).all(before)
}

fn is_unmarked(model: &LogToKafka, state: &State) -> bool {
    model.protocol == Protocol::DoubtLimit || state.records().all(|record| record.header == Header::None)
}

fn is_complete(model: &LogToKafka, state: &State) -> bool {
    (1..=model.size.events).all(|sequence| state.stands(sequence)) || !model.work(state).is_empty()
}
