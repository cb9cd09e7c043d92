//! Topics that are deleted and made anew.

use cloud_forwarder::Forwarder;

use crate::GRACE;
use crate::support::{self, Edge, LONG, Nats, STREAM, config, make_topic, route, servers, unique, wait_until};

/// Runs a forwarder until the topic's end was reached; a topic that was made anew ends it once, as a service is then started again.
pub(crate) async fn forward_to_the_end(config: &cloud_forwarder::Config, ends: i64) {
    loop {
        let mut forwarder = Forwarder::start(config.clone()).expect("a good config");
        let handle = forwarder.handle();
        let position = || handle.status().partitions.iter().filter_map(|p| p.position).sum::<i64>();
        let reached = wait_until("the end is reached", async || position(), |position| *position == ends);
        tokio::select! {
            _ = reached => {
                assert!(forwarder.stop(GRACE).await);
                return;
            }
            ended = forwarder.ended() => {
                let error = ended.expect_err("it ends by itself with an error alone");
                assert!(error.is_transient(), "{error}");
                println!("{error}");
            }
        }
    }
}

/// The values of a subject's messages, in their order.
async fn values(nats: &Nats, subject: &str) -> Vec<String> {
    let of_subject = nats.stream(STREAM).await.into_iter().filter(|message| message.subject.as_str() == subject);
    let value =
        |message: async_nats::Message| serde_json::from_slice::<serde_json::Value>(&message.payload).expect("JSON")["VALUE"].to_string();
    of_subject.map(value).collect()
}

fn numbered(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_is_forwarded_from_its_beginning_whoever_wrote_it() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("anew"));
    let mut edge = Edge::new(&kafka, &topic);
    let config = config(&kafka, &topic, route(), &[("C1", &nats)]);
    // Fewer records than before, as many, and more: offsets repeat in each case.
    let (mut first, mut ends) = (0, Vec::new());
    for count in [300, 200, 200, 500] {
        make_topic(&kafka, &topic, 1).await;
        edge = edge.go_on(&kafka);
        for n in first..first + count {
            edge.write_raw(Some("HMI-1"), format!(r#"{{"ID":"temp","VALUE":{n},"TYPE":"Samples"}}"#).as_bytes());
            edge.write("PRESS-1", "temp");
        }
        edge.flush();
        first += count;
        ends.push(first);
        forward_to_the_end(&config, 2 * i64::try_from(count).expect("small")).await;
        // Read again by a group without offsets: nothing of it is new.
        let mut again = config.clone();
        again.forward.group = unique("again");
        forward_to_the_end(&again, 2 * i64::try_from(count).expect("small")).await;
        support::delete_topic(&kafka, &topic).await;
        assert_eq!(values(&nats, "ofa.HMI-1.temp").await, numbered(0..first), "after {count} of {ends:?}");
    }
    let of_edge: Vec<String> = numbered(1..first + 1);
    assert_eq!(values(&nats, "ofa.PRESS-1.temp").await, of_edge);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_anew_under_a_running_forwarder_is_forwarded_from_its_beginning() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("anew-running"));
    let mut edge = Edge::new(&kafka, &topic);
    let config = config(&kafka, &topic, route(), &[("C1", &nats)]);
    let write = |edge: &mut Edge, numbers: std::ops::Range<u64>| {
        for n in numbers {
            edge.write_raw(Some("HMI-1"), format!(r#"{{"ID":"temp","VALUE":{n},"TYPE":"Samples"}}"#).as_bytes());
            edge.write("PRESS-1", "temp");
        }
        edge.flush();
    };
    make_topic(&kafka, &topic, 1).await;
    write(&mut edge, 0..300);
    let mut forwarder = Forwarder::start(config.clone()).expect("a good config");
    let handle = forwarder.handle();
    wait_until("it is forwarded", async || handle.status(), |s| s.forwarded == 600 && s.lag == 0).await;
    support::delete_topic(&kafka, &topic).await;
    make_topic(&kafka, &topic, 1).await;
    // More than before: its place of the former life is one of this life, too.
    let mut edge = edge.go_on(&kafka);
    write(&mut edge, 300..900);
    let ended = tokio::time::timeout(LONG, forwarder.ended()).await.expect("in time").expect_err("its places are worth nothing");
    assert!(ended.to_string().contains("made anew"), "{ended}");
    drop(forwarder);
    forward_to_the_end(&config, 1200).await;
    assert_eq!(values(&nats, "ofa.HMI-1.temp").await, numbered(0..900));
    assert_eq!(values(&nats, "ofa.PRESS-1.temp").await, numbered(1..901));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_of_a_topics_former_life_is_not_taken_for_one_of_its_present_life() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("former-place"));
    let mut edge = Edge::new(&kafka, &topic);
    let config = config(&kafka, &topic, route(), &[("C1", &nats)]);
    make_topic(&kafka, &topic, 1).await;
    (0..300).for_each(|_| _ = edge.write("PRESS-1", "temp"));
    edge.flush();
    forward_to_the_end(&config, 300).await;
    let former = support::committed(&kafka, &config.forward.group, &topic);
    support::delete_topic(&kafka, &topic).await;
    make_topic(&kafka, &topic, 1).await;
    let mut edge = edge.go_on(&kafka);
    // As many as before: at the former place nothing stands, and none would be told of.
    (0..300).for_each(|_| _ = edge.write("PRESS-1", "temp"));
    edge.flush();
    // A commit that was under way while the topic was made anew.
    support::commit(&kafka, &config.forward.group, &former).await;
    forward_to_the_end(&config, 300).await;
    assert_eq!(values(&nats, "ofa.PRESS-1.temp").await, numbered(1..601));
}
