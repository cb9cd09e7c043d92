//! Errors that a real broker does not give on demand. The mock cluster cannot create topics, nor search by time, nor hold replies back.

use std::time::{Duration, Instant};

use edge_buffer::Cursor;
use edge_mirror::{Config, CreateTopics, Mirror, State};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Error};

use crate::support::{append, config, fresh, judge, open_log, read_all, wait_mirrored, wait_until};

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster(topic: &str) -> (Cluster, Config) {
    let cluster = MockCluster::new(3).expect("a mock cluster");
    cluster.create_topic(topic, 4, 3).expect("a topic");
    cluster.create_topic(&format!("{topic}-edges"), 1, 3).expect("a topic");
    let mut config = config(&cluster.bootstrap_servers(), topic);
    config.create_topics = CreateTopics::Never;
    config.request_timeout = Duration::from_millis(500);
    (cluster, config)
}

#[test]
fn a_producer_that_lost_its_sequence_is_replaced_and_each_event_stands_once() {
    let (bench, topic) = (open_log(), fresh("fatal"));
    let (cluster, config) = cluster(&topic);
    let mirror = Mirror::start(config, bench.log.clone()).expect("starts");
    append(&bench.log, 2_000, 20);
    wait_mirrored(&mirror, &bench.log);
    for round in 1..=3 {
        cluster.request_errors(RDKafkaApiKey::Produce, &[Error::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
        append(&bench.log, 2_000, 20);
        wait_mirrored(&mirror, &bench.log);
        let status = mirror.status();
        assert_eq!((status.producers, status.doubts), (round + 1, round), "{status:#?}");
    }
    mirror.stop(Duration::from_secs(5));
    judge(&read_all(&cluster.bootstrap_servers(), &topic), &bench.log, &[]);
}

#[test]
fn errors_that_pass_are_waited_out_by_the_same_producer() {
    let (bench, topic) = (open_log(), fresh("passing"));
    let (cluster, config) = cluster(&topic);
    let errors = [
        Error::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Error::RD_KAFKA_RESP_ERR__TRANSPORT,
        Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    ];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    append(&bench.log, 5_000, 20);
    let mirror = Mirror::start(config, bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    for leader in [1, 2, 3] {
        for partition in 0..4 {
            cluster.partition_leader(&topic, partition, Some(leader)).expect("moved");
        }
        append(&bench.log, 2_000, 20);
        wait_mirrored(&mirror, &bench.log);
    }
    let status = mirror.status();
    assert_eq!((status.producers, status.doubts), (1, 0), "{status:#?}");
    mirror.stop(Duration::from_secs(5));
    judge(&read_all(&cluster.bootstrap_servers(), &topic), &bench.log, &[]);
}

#[test]
fn brokers_that_are_down_and_come_back_cost_nothing_but_time() {
    let (bench, topic) = (open_log(), fresh("down"));
    let (cluster, config) = cluster(&topic);
    append(&bench.log, 1_000, 20);
    let mirror = Mirror::start(config, bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    (1..=3).for_each(|broker| cluster.broker_down(broker).expect("down"));
    append(&bench.log, 3_000, 20);
    wait_until("it says that no broker answers", &mirror, || mirror.status().state == State::Unreachable);
    assert_eq!(mirror.status().backlog, 3_000);
    (1..=3).for_each(|broker| cluster.broker_up(broker).expect("up"));
    wait_mirrored(&mirror, &bench.log);
    wait_until("it says that events flow", &mirror, || mirror.status().state == State::Mirroring);
    assert_eq!(mirror.status().producers, 1);
    mirror.stop(Duration::from_secs(5));
    judge(&read_all(&cluster.bootstrap_servers(), &topic), &bench.log, &[]);
}

#[test]
fn stopping_waits_for_reports_of_brokers_that_answer_and_not_for_those_that_are_away() {
    let (bench, topic) = (open_log(), fresh("stop"));
    let (cluster, config) = cluster(&topic);
    let mirror = Mirror::start(config.clone(), bench.log.clone()).expect("starts");
    append(&bench.log, 1_000, 20);
    wait_mirrored(&mirror, &bench.log);
    (1..=3).for_each(|broker| cluster.broker_down(broker).expect("down"));
    append(&bench.log, 1_000, 20);
    wait_until("it says that no broker answers", &mirror, || mirror.status().state == State::Unreachable);
    let began = Instant::now();
    mirror.stop(Duration::from_secs(20));
    assert!(began.elapsed() < Duration::from_secs(2), "stopping took {:?}", began.elapsed());

    (1..=3).for_each(|broker| cluster.broker_up(broker).expect("up"));
    let mirror = Mirror::start(config, bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    append(&bench.log, 5_000, 20);
    wait_until("some of it is handed over", &mirror, || mirror.status().outstanding > 0 || mirror.status().backlog == 0);
    mirror.stop(Duration::from_secs(20));
    let cursor = bench.log.cursor(Cursor::MIRROR).expect("a cursor");
    assert!(String::from_utf8_lossy(&cursor.note).contains(r#""clean":true"#), "{cursor:?}");
    judge(&read_all(&cluster.bootstrap_servers(), &topic), &bench.log, &(cursor.sequence + 1..=7_000).collect::<Vec<u64>>());
}

#[test]
fn brokers_that_forgot_the_producer_are_asked_what_stands() {
    let (bench, topic) = (open_log(), fresh("forgot"));
    let (cluster, mut config) = cluster(&topic);
    config.producer_memory = Duration::from_secs(6);
    append(&bench.log, 1_000, 20);
    let mirror = Mirror::start(config, bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    (1..=3).for_each(|broker| cluster.broker_down(broker).expect("down"));
    append(&bench.log, 1_000, 20);
    wait_until("the silence is too long", &mirror, || {
        mirror.status().last_error.is_some_and(|(error, _)| error.contains("forgotten") || mirror.status().outstanding == 0)
    });
    (1..=3).for_each(|broker| cluster.broker_up(broker).expect("up"));
    wait_mirrored(&mirror, &bench.log);
    let status = mirror.status();
    assert_eq!((status.producers, status.doubts), (2, 1), "{status:#?}");
    mirror.stop(Duration::from_secs(5));
    judge(&read_all(&cluster.bootstrap_servers(), &topic), &bench.log, &[]);
}

#[test]
fn a_kafka_that_denies_writing_is_named_and_tried_again() {
    let (bench, topic) = (open_log(), fresh("denied"));
    let (cluster, config) = cluster(&topic);
    append(&bench.log, 100, 5);
    cluster.request_errors(RDKafkaApiKey::Produce, &[Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 50]);
    let mirror = Mirror::start(config, bench.log).expect("starts");
    wait_until("it says that Kafka denies it", &mirror, || mirror.status().state == State::Denied);
    assert!(mirror.status().sentence.contains("uthorization"), "{}", mirror.status().sentence);
    assert_eq!(mirror.status().refused, 0, "a denial is no reason to give events up");
    mirror.stop(Duration::from_secs(1));
}

#[test]
fn a_bad_record_in_a_batch_is_found_and_its_neighbours_arrive_in_order() {
    let (bench, topic) = (open_log(), fresh("bad"));
    let (cluster, mut config) = cluster(&topic);
    // All of them in one batch, and no announcement that meets an error meant for an event.
    config.linger = Duration::from_millis(500);
    config.edges_topic = fresh("missing");
    append(&bench.log, 50, 1);
    // The first refuses a batch, the second the first event that is sent alone.
    cluster.request_errors(RDKafkaApiKey::Produce, &[Error::RD_KAFKA_RESP_ERR_INVALID_RECORD; 2]);
    let mirror = Mirror::start(config, bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    let status = mirror.status();
    assert_eq!((status.refused, status.resent, status.holes), (1, 0, 0), "{status:#?}");
    mirror.stop(Duration::from_secs(5));
    let records = read_all(&cluster.bootstrap_servers(), &topic);
    judge(&records, &bench.log, &[1]);
    let gap = records.last().expect("a gap event");
    assert!(String::from_utf8_lossy(&gap.value).contains(r#"\"sequences\":[1,1]"#), "{gap:?}");
}

#[test]
fn another_cluster_is_said_aloud_and_gets_what_was_not_acknowledged() {
    let (bench, topic) = (open_log(), fresh("moved"));
    let (_old, config) = cluster(&topic);
    append(&bench.log, 500, 5);
    let mirror = Mirror::start(config, bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    mirror.stop(Duration::from_secs(5));
    append(&bench.log, 500, 5);
    let (new, config) = cluster(&topic);
    let mirror = Mirror::start(config, bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    let status = mirror.status();
    assert_eq!(status.changes, 1, "{status:#?}");
    assert!(status.last_error.is_some_and(|(error, _)| error.contains("cluster id")));
    mirror.stop(Duration::from_secs(5));
    let records = read_all(&new.bootstrap_servers(), &topic);
    assert!(records.iter().any(|record| record.key == "EDGE-TEST"), "the change is an event, too");
    judge(&records, &bench.log, &(1..=500).collect::<Vec<u64>>());
}
