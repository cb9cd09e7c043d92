//! Properties of librdkafka that `[kafka.overrides]` must not change: what the forwarder promises rests on them.

const PROTECTED: &[(&str, &str)] = &[
    // Of the consumer.
    ("enable.auto.offset.store", "an offset is stored when NATS has everything before it, and not earlier"),
    ("enable.auto.commit", "this is how stored offsets get into Kafka"),
    ("offset.store.method", "offsets belong to the group, so they are kept in Kafka"),
    ("auto.offset.reset", "any other value passes over what was written before the first start"),
    ("isolation.level", "what a transaction took back must not reach NATS"),
    ("partition.assignment.strategy", "all forwarders of a group need the same one, and it moves a partition without stopping the others"),
    ("group.protocol", "sessions and assignments are those of the classic protocol"),
    ("group.id", "set forward.group instead"),
    ("group.instance.id", "set forward.instance instead"),
    ("session.timeout.ms", "set forward.session_timeout instead"),
    ("enable.partition.eof", "the end of a partition would be taken for trouble"),
    ("debug", "that a topic was made anew is told there alone"),
    ("statistics.interval.ms", "lag and the return of the brokers are known from the statistics"),
    // Of the producer of dead letters.
    ("acks", "a record is done when its dead letter stands on all replicas in sync"),
    ("request.required.acks", "a record is done when its dead letter stands on all replicas in sync"),
    ("delivery.report.only.error", "a record is done when its dead letter is reported as written"),
    ("transactional.id", "dead letters are written without transactions"),
    ("batch.num.messages", "a dead letter that is too large must not take its neighbours with it"),
];

/// What is wrong with the overrides of the `[kafka]` section, as (key, message).
pub fn override_problems(kafka: &service::kafka::Config) -> Vec<(String, String)> {
    let problem = |(property, reason)| (format!("kafka.overrides.{property:?}"), format!("cannot be changed: {reason}"));
    kafka.overridden(PROTECTED).map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::override_problems;

    #[test]
    fn what_promises_rest_on_cannot_be_overridden_and_the_rest_can() {
        let mut kafka = service::kafka::Config::plain("kafka:9092");
        for property in ["fetch.max.bytes", "enable.auto.commit", "max.poll.interval.ms", "isolation.level"] {
            kafka.overrides.insert(property.into(), "true".into());
        }
        let keys: Vec<String> = override_problems(&kafka).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [r#"kafka.overrides."enable.auto.commit""#, r#"kafka.overrides."isolation.level""#]);
    }
}
