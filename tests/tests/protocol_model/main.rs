//! The protocol from an edge's log to the stream, checked exhaustively in small: every order in which things can happen, with every mixture of
//! a few faults. What is modelled, and what is not: docs/protocol-model.md.
//!
//! The way is checked in two halves. Nothing flows back from the forwarder to the mirror, and Kafka's records never change, so the second half
//! is checked on every partition that the first one can leave behind.

mod broker;
mod events;
mod forwarder;
mod kafka_to_stream;
mod log_to_kafka;
mod mirror;
mod producer;
mod promises;
mod stream;
mod wire;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, HasDiscoveries, Model};

use crate::events::{Header, Record};
use crate::kafka_to_stream::{Forwarding, KafkaToStream};
use crate::log_to_kafka::{Action, Left, LogToKafka, Protocol, Size};
use crate::wire::{OnWire, Reply};

/// Small enough for every run of the tests.
const SIZE: Size = Size { events: 3, partitions: 1, faults: 2 };
const FORWARDER_FAULTS: u8 = 2;

/// One more fault on the way to Kafka, where somebody asks for it.
fn size() -> Size {
    let more = u8::from(std::env::var("OPENFACTORY_MODEL").is_ok_and(|size| size == "large"));
    Size { faults: SIZE.faults + more, ..SIZE }
}

/// What stateright asks of a model.
trait Checkable:
    Model<State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static, Action: Clone + Debug + PartialEq + Send + Sync>
    + Send
    + Sync
    + 'static
{
}

impl Checkable for LogToKafka {}
impl Checkable for KafkaToStream {}

fn run<M: Checkable>(name: &str, model: M, until: HasDiscoveries) -> impl Checker<M> + use<M> {
    let checker = model.checker().finish_when(until).spawn_bfs().join();
    println!("{name}: {} states, up to {} actions one after the other", checker.unique_state_count(), checker.max_depth());
    checker
}

/// Checks everything; what does not hold must be `broken`.
fn expect<M: Checkable>(name: &str, model: M, broken: &[&'static str]) -> impl Checker<M> + use<M> {
    let checker = run(name, model, HasDiscoveries::All);
    let mut found = checker.discoveries();
    broken.iter().for_each(|broken| assert!(found.remove(broken).is_some(), "{name}: it holds all the same that {broken}"));
    if let Some((property, path)) = found.into_iter().next() {
        let state = path.last_state().clone();
        panic!("{name}: it does not hold that {property}:\n{state:#?}\nafter {:#?}", path.into_actions());
    }
    checker
}

fn expect_stream(name: &str, left: Left, faults: u8) {
    expect(name, KafkaToStream { forwarding: Forwarding::AsBuilt, left, faults }, &[]);
}

/// The shortest way to break a promise.
fn break_kafka(protocol: Protocol, property: &'static str) -> Vec<Action> {
    let checker = run(&format!("{protocol:?}"), LogToKafka::new(protocol, SIZE), HasDiscoveries::AnyOf(BTreeSet::from([property])));
    let path = checker.discovery(property).unwrap_or_else(|| panic!("{protocol:?}: it holds all the same that {property}"));
    path.into_actions()
}

fn break_stream(forwarding: Forwarding, property: &'static str) {
    let records = (1..=SIZE.events).map(|sequence| Record { sequence, header: Header::None });
    let model = KafkaToStream { forwarding, left: Left::from([records.collect()]), faults: FORWARDER_FAULTS };
    let checker = run(&format!("{forwarding:?}"), model, HasDiscoveries::AnyOf(BTreeSet::from([property])));
    assert!(checker.discovery(property).is_some(), "{forwarding:?}: it holds all the same that {property}");
}

#[test]
fn whatever_breaks_kafka_holds_every_event_once_and_in_order_and_the_stream_shows_it_so() {
    for size in [size(), Size { partitions: 2, ..SIZE }] {
        let checker = expect(&format!("as built, {size:?}"), LogToKafka::new(Protocol::AsBuilt, size), &[]);
        expect_stream("as built, to the stream", checker.model().left(), FORWARDER_FAULTS);
    }
}

#[test]
fn beyond_the_doubt_limit_repeats_are_marked_and_only_they_can_be_shown_again() {
    let size = Size { events: 2, faults: 1, ..SIZE };
    let checker = expect("doubt limit", LogToKafka::new(Protocol::DoubtLimit, size), &[]);
    let left = checker.model().left();
    assert!(left.iter().flatten().any(|record| record.header == Header::Resent), "nothing was sent again: {left:?}");
    expect_stream("doubt limit, to the stream", left, FORWARDER_FAULTS);
}

#[test]
fn a_late_request_of_a_dead_process_doubles_an_event_in_kafka_and_the_stream_shows_it_once() {
    let path = break_kafka(Protocol::LateRequest, promises::ONCE);
    let is_late = |action: &Action| matches!(action, Action::Deliver(OnWire { request, reply: Reply::Lost, .. }) if request.life == 1);
    let mut actions = path.iter();
    let mut then = |step, is_it: fn(&Action) -> bool| assert!(actions.any(is_it), "\"{step}\" is missing in its place: {path:#?}");
    then("a producer sends", |action| matches!(action, Action::Send(_)));
    then("its process is killed", |action| *action == Action::Kill);
    then("the next one waits", |action| *action == Action::WaitUntilQuiet);
    then("and reads back", |action| *action == Action::ReadBack);
    then("then the request arrives", is_late);
    let size = Size { faults: 1, ..SIZE };
    let checker = expect("late request", LogToKafka::new(Protocol::LateRequest, size), &[promises::ONCE]);
    let left = checker.model().left();
    assert!(left.iter().any(|partition| partition.len() > size.events.into()), "nothing is doubled: {left:?}");
    expect_stream("late request, to the stream", left, 1);
}

#[test]
fn a_follower_that_lags_for_longer_than_the_wait_doubles_an_event() {
    break_kafka(Protocol::LaggingFollower, promises::ONCE);
}

#[test]
fn without_reading_back_an_event_is_doubled() {
    break_kafka(Protocol::WithoutReadBack, promises::ONCE);
}

#[test]
fn a_cursor_that_is_kept_before_the_reports_loses_an_event() {
    break_kafka(Protocol::CursorBeforeReports, promises::ACKNOWLEDGED);
    break_kafka(Protocol::CursorBeforeReports, promises::COMPLETE);
}

#[test]
fn with_several_requests_in_flight_and_the_first_one_refused_an_event_overtakes_another() {
    let path = break_kafka(Protocol::SeveralInFlight, promises::ORDER);
    assert!(path.iter().any(|action| matches!(action, Action::Refuse(_))), "nothing was refused: {path:#?}");
    // It is noticed, filled up and marked; nothing else breaks.
    expect("several in flight", LogToKafka::new(Protocol::SeveralInFlight, SIZE), &[promises::ORDER, promises::UNMARKED]);
}

#[test]
fn a_producer_that_outlives_the_brokers_memory_of_it_doubles_an_event() {
    break_kafka(Protocol::ForgottenProducer, promises::ONCE);
}

#[test]
fn ends_that_are_taken_over_while_events_before_them_are_under_way_double_an_event() {
    break_kafka(Protocol::EndsAtOnce, promises::PLACE);
    break_kafka(Protocol::EndsAtOnce, promises::ONCE);
}

#[test]
fn a_forwarder_that_pipelines_an_assets_events_lets_one_overtake_another() {
    break_stream(Forwarding::PipelinedAsset, kafka_to_stream::ORDER);
}

#[test]
fn offsets_that_are_committed_before_the_acknowledgement_lose_an_event() {
    break_stream(Forwarding::OffsetsBeforeAcknowledgement, kafka_to_stream::COMMITTED);
    break_stream(Forwarding::OffsetsBeforeAcknowledgement, kafka_to_stream::COMPLETE);
}

#[test]
fn without_looking_up_what_is_read_again_an_event_is_shown_twice() {
    break_stream(Forwarding::WithoutLookUp, kafka_to_stream::ONCE);
}
