//! Kafka takes the right to write away from the edge: everything is kept, and goes on when the right is given back.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{self, Broker, Kafka};
use system_tests::plant::Plant;

#[test]
fn a_right_that_was_taken_away_and_given_back_costs_time_and_nothing_else() -> anyhow::Result<()> {
    let settings = [
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        // Rules stand only where this test sets them.
        ("allow.everyone.if.no.acl.found", "true"),
    ];
    let kafka = Kafka::start_with(&kafka::Plan { settings: &settings, ..Default::default() })?;
    let mut plant = Plant::new("denied", Broker::Own(kafka), "")?;
    let devices = Devices::start(Plan { rate: 5_000, ..Plan::new(Make::Fast, 4, 250) }, plant.folder())?;
    plant.add(devices)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(2))?;
    let topic = plant.topic().to_owned();
    // Everybody may look and read, and with that rule nobody may write.
    let rule = ["--topic", &topic, "--operation", "Describe", "--operation", "Read", "--operation", "DescribeConfigs"];
    let rule = [&rule[..], &["--allow-principal", "User:*"]].concat();
    plant.kafka.own()?.acls(&[&["--add"], &rule[..]].concat())?;
    let status =
        plant.edge.wait_status("the edge says that it is denied", Duration::from_secs(60), |s| s["mirror"]["state"] == "denied")?;
    let (durable, refused) = (status["log"]["durable"].as_u64().unwrap_or_default(), &status["mirror"]["refused"]);
    assert_eq!(refused, 0, "a denial is no reason to give events up");
    plant.edge.wait_status("it goes on collecting", Duration::from_secs(60), |status| {
        status["log"]["durable"].as_u64().unwrap_or_default() > durable + 10_000
    })?;
    plant.kafka.own()?.acls(&[&["--remove", "--force"], &rule[..]].concat())?;
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    assert_eq!((verdict.told, verdict.told_values, verdict.resent), (0, 0, 0), "{verdict}");
    plant.stop()
}
