//! A device is restarted, its connection is cut, it is half-open: it harms itself alone, and what it can give again arrives.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;
use system_tests::proxy::{Fault, Proxy};

/// A faulty OPC UA device behind a proxy, and healthy devices beside it.
fn plant(name: &str) -> anyhow::Result<(Plant, Proxy)> {
    let mut plant = Plant::new(name, Broker::shared()?, "")?;
    let faulty = Devices::start(Plan { rate: 200, ..Plan::new(Make::Asyncua, 1, 20) }, plant.folder())?;
    let proxy = Proxy::start(([127, 0, 0, 1], faulty.ports()[0]).into())?;
    let file = faulty.device_file(|_| proxy.port())?;
    plant.add_with_file(faulty, &file)?;
    for plan in [Plan { first_device: 2, rate: 200, ..Plan::new(Make::Asyncua, 1, 20) }, Plan::new(Make::PymodbusTcp, 1, 10)] {
        let healthy = Devices::start(plan, plant.folder())?;
        plant.add(healthy)?;
    }
    plant.start_nats()?;
    plant.start()?;
    plant.run_for(Duration::from_secs(3))?;
    Ok((plant, proxy))
}

fn wait_state(plant: &mut Plant, state: &str, max: Duration) -> anyhow::Result<()> {
    let what = format!("the faulty device is {state}");
    plant.edge.wait_status(&what, max, |status| device(status, "OPCUA-001")["state"] == state).map(drop)
}

fn device<'s>(status: &'s serde_json::Value, asset: &str) -> &'s serde_json::Value {
    status["devices"]
        .as_array()
        .and_then(|devices| devices.iter().find(|device| device["asset"] == asset))
        .unwrap_or(&serde_json::Value::Null)
}

/// Runs on, judges, and sees that the healthy ones never lost their connection.
fn finish(mut plant: Plant, since: &serde_json::Value) -> anyhow::Result<system_tests::judge::Verdict> {
    plant.run_for(Duration::from_secs(3))?;
    let verdict = plant.expect_clean(Duration::from_secs(60))?;
    let status = plant.edge.status()?;
    for asset in ["OPCUA-002", "MODBUS-001"] {
        let (before, after) = (device(since, asset), device(&status, asset));
        assert_eq!((&before["since"], &after["state"]), (&after["since"], &"connected".into()), "{asset} was disturbed: {after}");
    }
    plant.stop()?;
    Ok(verdict)
}

#[test]
fn a_connection_that_is_cut_loses_nothing() -> anyhow::Result<()> {
    let (mut plant, proxy) = plant("cut")?;
    let before = plant.edge.status()?;
    for _ in 0..3 {
        proxy.cut();
        plant.run_for(Duration::from_secs(2))?;
    }
    proxy.set(Fault::Refuse);
    wait_state(&mut plant, "lost", Duration::from_secs(30))?;
    plant.run_for(Duration::from_secs(5))?;
    proxy.set(Fault::None);
    wait_state(&mut plant, "connected", Duration::from_secs(60))?;
    let verdict = finish(plant, &before)?;
    assert_eq!(verdict.told_values, 0, "the server still had everything: {verdict}");
    Ok(())
}

#[test]
fn a_half_open_connection_is_noticed_and_loses_nothing() -> anyhow::Result<()> {
    let (mut plant, proxy) = plant("half-open")?;
    let before = plant.edge.status()?;
    proxy.set(Fault::Swallow);
    wait_state(&mut plant, "lost", Duration::from_secs(60))?;
    proxy.set(Fault::None);
    wait_state(&mut plant, "connected", Duration::from_secs(60))?;
    let verdict = finish(plant, &before)?;
    assert_eq!(verdict.told_values, 0, "the server still had everything: {verdict}");
    Ok(())
}

#[test]
fn a_restarted_device_comes_back_and_what_it_forgot_is_told() -> anyhow::Result<()> {
    let (mut plant, _proxy) = plant("restart")?;
    let before = plant.edge.status()?;
    plant.devices[0].kill()?;
    wait_state(&mut plant, "lost", Duration::from_secs(60))?;
    plant.devices[0].start_again()?;
    wait_state(&mut plant, "connected", Duration::from_secs(60))?;
    plant.wait_first_values(Duration::from_secs(60))?;
    plant.devices[0].go()?;
    // Values that the device said and took with it are gone; the judge accepts only what gap events tell.
    finish(plant, &before).map(drop)
}
