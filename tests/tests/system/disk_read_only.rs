//! The file system under the log finds an error and makes itself read-only: the edge goes on without it, and when it is repaired, what was
//! durable is there.

use std::time::Duration;

use anyhow::Context as _;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::mounts::{self, Mount};
use system_tests::plant::Plant;

#[test]
fn a_file_system_that_becomes_read_only_costs_what_it_did_not_take_and_nothing_else() -> anyhow::Result<()> {
    if !mounts::are_allowed() {
        return Ok(());
    }
    let log = "[log]\nmax_size = \"32 MiB\"\nmin_free = \"1 MiB\"\nsegment_size = \"1 MiB\"\n";
    let mut plant = Plant::new("read-only", Broker::shared()?, log)?;
    let image = plant.folder().join("disk.img");
    mounts::ext4_image(&image, 128 << 20)?;
    let disk = Mount::image(&plant.edge.state(), &image, "errors=remount-ro")?;
    let devices = Devices::start(Plan { rate: 1000, ..Plan::new(Make::Fast, 2, 50) }, plant.folder())?;
    plant.add(devices)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(1))?;
    // The kernel does as if it had found an error in the file system.
    let device = disk.source()?.replace("/dev/", "");
    std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").context("the kernel cannot pretend an error")?;
    plant.edge.wait_status("the log says that the disk fails", Duration::from_secs(30), |status| {
        status["log"]["failure"].as_str().is_some_and(|why| why.contains("ead-only"))
    })?;
    let durable = plant.edge.status()?["log"]["durable"].as_u64().unwrap_or_default();
    plant.run_for(Duration::from_secs(2))?;
    // What a person does: stop, repair (mounting replays the journal), start.
    let ended = plant.edge.process()?.terminate(Duration::from_secs(30))?;
    assert_eq!(ended.code(), Some(1), "a log that could not be closed is no success");
    drop(disk);
    let _disk = Mount::image(&plant.edge.state(), &image, "errors=remount-ro")?;
    plant.start_edge()?;
    let status = plant.edge.status()?;
    assert!(status["log"]["durable"].as_u64().unwrap_or_default() >= durable, "{durable} events were durable: {status}");
    plant.run_for(Duration::from_secs(1))?;
    let verdict = plant.expect_clean(Duration::from_secs(60))?;
    assert_eq!(verdict.told, 0, "nothing that had a number may be lost: {verdict}");
    plant.stop()
}
