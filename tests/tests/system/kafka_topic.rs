//! The topic is not what it was, while the edge is at work: said aloud, and what the log still has arrives again.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{self, Broker, Kafka};
use system_tests::plant::Plant;

/// A plant under load whose edge sends again what a changed topic has not.
fn plant(name: &str, kafka: Kafka) -> anyhow::Result<Plant> {
    let mut plant = Plant::new(name, Broker::Own(kafka), "on_changed_topic = \"resend_retained\"\n")?;
    let devices = Devices::start(Plan { rate: 5_000, ..Plan::new(Make::Fast, 4, 250) }, plant.folder())?;
    plant.add(devices)?;
    Ok(plant)
}

/// The edge noticed, and everything that devices ever said stands in Kafka once.
fn is_told_and_made_good(mut plant: Plant) -> anyhow::Result<()> {
    plant.edge.wait_status("the edge notices", Duration::from_secs(120), |status| status["mirror"]["changes"] == 1)?;
    plant.run_for(Duration::from_secs(2))?;
    let verdict = plant.expect_complete(Duration::from_secs(180))?;
    assert_eq!((verdict.told, verdict.told_values), (0, 0), "{verdict}");
    plant.stop()
}

#[test]
fn a_topic_deleted_and_made_anew_under_load_gets_everything_again() -> anyhow::Result<()> {
    let mut plant = plant("topic-anew", Kafka::start()?)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(3))?;
    kafka::delete_topic(&plant.kafka.bootstrap(), plant.topic())?;
    plant.run_for(Duration::from_secs(3))?;
    kafka::create_topic(&plant.kafka.bootstrap(), plant.topic(), 4, &[])?;
    is_told_and_made_good(plant)
}

#[test]
fn another_cluster_behind_the_same_address_gets_everything_again() -> anyhow::Result<()> {
    let mut plant = plant("other-cluster", Kafka::start()?)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(3))?;
    plant.kafka.own()?.start_anew()?;
    plant.create_topics()?;
    is_told_and_made_good(plant)
}

/// Kafka itself loses what it had acknowledged: a copy that lags becomes the leader, and the others cut their ends off.
#[test]
fn what_an_unclean_election_cut_off_is_sent_again() -> anyhow::Result<()> {
    let mut plant = plant("unclean", Kafka::cluster()?)?;
    let (bootstrap, topic) = (plant.kafka.bootstrap(), plant.topic().to_owned());
    kafka::delete_topic(&bootstrap, &topic)?;
    // The third node keeps the controllers' majority.
    let (leads, lags) = (1, 2);
    let settings = [("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")];
    kafka::create_topic_on(&bootstrap, &topic, &[&[leads, lags][..]; 4], &settings)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(2))?;
    let kafka = plant.kafka.own()?;
    kafka.node(lags)?.stop()?;
    kafka.wait_in_sync_on(&topic, &[leads])?;
    let acknowledged = |plant: &Plant| anyhow::Ok(plant.edge.status()?["mirror"]["acknowledged"].as_u64().unwrap_or_default());
    let before = acknowledged(&plant)?;
    plant.edge.wait_status("one copy alone has acknowledged events", Duration::from_secs(60), |status| {
        status["mirror"]["acknowledged"].as_u64().unwrap_or_default() > before + 5_000
    })?;
    let kafka = plant.kafka.own()?;
    kafka.node(leads)?.kill()?;
    kafka.node(lags)?.start_again()?;
    kafka.wait_leader(&topic, 0, Some(leads))?;
    kafka.node(leads)?.start_again()?;
    kafka.wait_in_sync(&topic)?;
    is_told_and_made_good(plant)
}
