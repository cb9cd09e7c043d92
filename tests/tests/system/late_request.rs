//! The one case in which Kafka may hold an event twice: a request of a dead process that the network delivers after its successor has looked.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{Broker, Kafka};
use system_tests::plant::Plant;

const MAX: Duration = Duration::from_secs(60);

#[test]
fn a_late_request_of_a_dead_process_doubles_events_in_kafka_and_nats_serves_each_once() -> anyhow::Result<()> {
    let kafka = Kafka::start_with_link()?;
    let bootstrap = kafka.link_bootstrap()?;
    let mut plant = Plant::over("late-request", Broker::Own(kafka), bootstrap, "")?;
    let devices = Devices::start(Plan { rate: 2_000, ..Plan::new(Make::Fast, 2, 100) }, plant.folder())?;
    plant.add(devices)?;
    plant.start_nats()?;
    plant.start()?;
    plant.run_for(Duration::from_secs(1))?;

    plant.kafka.own()?.link()?.hold();
    plant.edge.wait_status("events are on their way", MAX, |status| status["mirror"]["backlog"].as_u64() > Some(2_000))?;
    plant.edge.kill()?;
    plant.start_edge()?;
    plant.edge.wait_mirrored(MAX)?;
    let before = plant.edge.status()?["mirror"]["acknowledged"].as_u64();
    plant.kafka.own()?.link()?.deliver();
    plant.edge.wait_status("events go on", MAX, |status| status["mirror"]["acknowledged"].as_u64() > before.map(|n| n + 2_000))?;

    let verdict = plant.judge(Duration::from_secs(120))?;
    println!("{verdict}");
    assert!(plant.kafka.own()?.link()?.held() > 0, "nothing was held back: the test proves nothing");
    assert!(verdict.duplicated_records > 0, "the late request did not arrive: {verdict}\n{:#?}", verdict.harms);
    assert_eq!(verdict.duplicated, verdict.duplicated_records, "NATS serves each once: {verdict}\n{:#?}", verdict.harms);
    let others = [verdict.missing(), verdict.reordered, verdict.altered, verdict.wrong_gaps];
    assert_eq!(others, [0; 4], "{verdict}\n{:#?}", verdict.harms);
    plant.stop()
}
