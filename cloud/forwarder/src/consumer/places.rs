//! Places as they are committed: each says in its metadata in which life of the topic it counts (docs/decisions/0010).

use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

/// Begins the metadata, so that a note that somebody else committed is not taken for a topic's id.
const TOPIC_ID: &str = "of-topic-id=";

/// Adds a place.
pub(super) fn add(places: &mut TopicPartitionList, topic: &str, partition: i32, offset: i64, life: Option<&str>) -> KafkaResult<()> {
    let mut place = places.add_partition(topic, partition);
    if let Some(life) = life {
        place.set_metadata(format!("{TOPIC_ID}{life}"));
    }
    place.set_offset(Offset::Offset(offset))
}

/// Whether a committed place counts in this life of its topic. A place that says nothing, of an older forwarder or an operator, does.
pub(super) fn counts_in(place: &TopicPartitionListElem<'_>, life: &str) -> bool {
    place.metadata().strip_prefix(TOPIC_ID).is_none_or(|committed| committed == life)
}

#[cfg(test)]
mod tests {
    use super::{add, counts_in};
    use rdkafka::TopicPartitionList;

    #[test]
    fn a_place_counts_in_the_life_that_it_names_or_in_any() {
        let mut places = TopicPartitionList::new();
        add(&mut places, "ofa_assets", 0, 600, Some("2lGz")).expect("an offset");
        add(&mut places, "ofa_assets", 1, 600, None).expect("an offset");
        places.add_partition("ofa_assets", 2).set_metadata("moved by Ann");
        let counts = |life: &str| places.elements().iter().map(|place| counts_in(place, life)).collect::<Vec<_>>();
        assert_eq!((counts("2lGz"), counts("0bA9")), (vec![true, true, true], vec![false, true, true]));
    }
}
