//! The packages on a Debian 12 that boots: what a person does with apt and systemctl, and what happens to the box over the years.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use asset_stream::Timestamp;
use system_tests::appliance::Appliance;
use system_tests::clock::Clock;
use system_tests::control_group::ControlGroup;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::edge::Edge;
use system_tests::kafka::{Broker, Kafka};
use system_tests::plant::Plant;
use system_tests::wait::{self, Look};
use system_tests::{ports, process, tools};

const LONG: Duration = Duration::from_secs(60);

/// What a person types who has the repository on a stick, as its README says it, up to the installation.
fn repository() -> anyhow::Result<String> {
    let readme = std::fs::read_to_string(tools::tests_folder().join("../packaging/repository.md"))?;
    let block = readme.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).context("the README has no commands")?;
    let lines: Vec<_> = block.lines().take_while(|line| !line.starts_with("apt-get install")).collect();
    Ok(lines.join(" && "))
}

const INSTALL: &str = "apt-get -q -y install openfactory-edge";

fn install(the_box: &Appliance) -> anyhow::Result<()> {
    the_box.expect(&repository()?)?;
    the_box.expect(INSTALL).map(drop)
}

/// The config and the device files of a plant's edge, as a person puts them into the box; all that is not about this plant keeps its default.
fn configure(the_box: &Appliance, plant: &mut Plant) -> anyhow::Result<()> {
    let written = std::fs::read_to_string(plant.edge.config())?;
    let default = |line: &&str| !["devices = ", "state_dir = ", "socket = "].iter().any(|key| line.starts_with(key));
    let text: Vec<_> = written.lines().filter(default).collect();
    std::fs::write(the_box.file("/etc/openfactory-edge/edge.toml"), text.join("\n"))?;
    for file in std::fs::read_dir(plant.edge.config().with_file_name("devices"))? {
        let file = file?;
        std::fs::copy(file.path(), the_box.file("/etc/openfactory-edge/devices").join(file.file_name()))?;
    }
    ask_the_box(the_box, plant)
}

/// From now on the plant asks the edge of the box; again after each boot.
fn ask_the_box(the_box: &Appliance, plant: &mut Plant) -> anyhow::Result<()> {
    let config = plant.folder().join("box.toml");
    std::fs::write(&config, format!("[edge]\nsocket = {:?}\n", the_box.live("/run/openfactory-edge/edge.sock")?))?;
    plant.edge = Edge::elsewhere(config)?;
    Ok(())
}

/// Waits until all devices are connected.
fn connected(the_box: &Appliance, plant: &mut Plant) -> anyhow::Result<()> {
    let assets = plant.assets();
    plant.edge.wait_connected(&assets, LONG).with_context(|| the_box.journal())
}

/// Nothing is missing that nobody told.
fn clean(the_box: &Appliance, plant: &mut Plant) -> anyhow::Result<()> {
    plant.expect_clean(LONG).map(drop).with_context(|| the_box.journal())
}

/// A property of the edge's unit.
fn property(the_box: &Appliance, name: &str) -> anyhow::Result<String> {
    Ok(the_box.expect(&format!("systemctl show -P {name} openfactory-edge"))?.trim().to_owned())
}

/// Waits until the unit runs as another process than `before`.
fn wait_another(the_box: &Appliance, before: &str, why: &str) -> anyhow::Result<()> {
    wait::until(why, LONG, || {
        let (id, state) = (property(the_box, "MainPID")?, property(the_box, "ActiveState")?);
        let is_another = id != before && id != "0" && state == "active";
        Ok(if is_another { Look::Done(()) } else { Look::Waiting(format!("{state}, process {id}\n{}", the_box.journal())) })
    })
}

/// Which files of the box a person who is neither root nor in the edge's group can open.
fn can_read(the_box: &Appliance, user: &str, file: &str) -> anyhow::Result<bool> {
    Ok(the_box.run(&format!("runuser -u {user} -- cat {file}"))?.0 == Some(0))
}

fn plant(name: &str, folder: &Path) -> anyhow::Result<Option<(Appliance, Plant)>> {
    plant_before(name, folder, Broker::shared)
}

/// A plant before a Kafka of its own, or the shared one.
fn plant_before(name: &str, folder: &Path, broker: impl FnOnce() -> anyhow::Result<Broker>) -> anyhow::Result<Option<(Appliance, Plant)>> {
    let Some(the_box) = Appliance::boot(folder)? else { return Ok(None) };
    let mut plant = Plant::new(name, broker()?, "")?;
    for plan in [Plan { rate: 200, ..Plan::new(Make::Asyncua, 1, 20) }, Plan::new(Make::PymodbusTcp, 1, 10)] {
        let devices = Devices::start(plan, plant.folder())?;
        plant.add(devices)?;
    }
    Ok(Some((the_box, plant)))
}

fn start(the_box: &Appliance, plant: &mut Plant) -> anyhow::Result<()> {
    the_box.expect("openfactory-edge check-config && systemctl enable --now openfactory-edge")?;
    connected(the_box, plant)?;
    plant.wait_first_values(LONG).with_context(|| the_box.journal())?;
    plant.go()
}

#[test]
fn from_apt_install_to_events_in_kafka_and_through_what_a_box_goes_through() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let Some((mut the_box, mut plant)) = plant("box", folder.path())? else { return Ok(()) };
    install(&the_box)?;
    assert_eq!((property(&the_box, "ActiveState")?, property(&the_box, "UnitFileState")?), ("inactive".into(), "disabled".into()));
    the_box.expect("openfactory-edge check-config")?;
    configure(&the_box, &mut plant)?;
    for secret in ["/etc/openfactory-edge/edge.toml", "/etc/openfactory-edge/devices/devices-0.yaml"] {
        assert!(the_box.file(secret).exists() && !can_read(&the_box, "nobody", secret)?, "everybody can read {secret}, or it is not there");
    }
    // As root, before the service ever ran: what it makes must be the service's.
    let said = the_box.expect("openfactory-edge check-config --online")?;
    assert!(said.contains("has 4 partitions, topic") && !said.contains("AMISS"), "{said}");
    start(&the_box, &mut plant)?;
    plant.run_for(Duration::from_secs(2))?;
    wait::until("systemd shows how the edge is", LONG, || {
        let told = property(&the_box, "StatusText")?;
        Ok(if told.starts_with("2/2 devices connected") { Look::Done(()) } else { Look::Waiting(told) })
    })?;

    // A bad config while it runs.
    the_box.expect("echo 'devices: {x: {uuid: X, connector: {type: morse}}}' > /etc/openfactory-edge/devices/bad.yaml")?;
    let (code, said) = the_box.run("systemctl reload openfactory-edge")?;
    assert_eq!(code, Some(1), "{said}");
    let told = property(&the_box, "StatusText")?;
    assert!(told.contains("bad.yaml:1:") && told.contains("morse"), "{told}");
    let explained = the_box.expect("journalctl -x -u openfactory-edge --no-pager")?;
    assert!(explained.contains("Subject: The new config was refused"), "the journal's catalog does not know our messages:\n{explained}");
    the_box.expect("rm /etc/openfactory-edge/devices/bad.yaml && systemctl reload openfactory-edge")?;

    // What is sent to support has the journal, and no secret.
    the_box.expect(
        "mkdir -p /etc/systemd/system/openfactory-edge.service.d && \
         printf '[Service]\\nEnvironment=PASSWORD=hush\\n' > /etc/systemd/system/openfactory-edge.service.d/own.conf && systemctl daemon-reload",
    )?;
    the_box.expect("cd /root && openfactory-edge support-bundle --output bundle.tar.zst")?;
    let unpack = format!("zstd -dc {} | tar -xO", the_box.file("/root/bundle.tar.zst").display());
    let (code, text, _) = process::run(Path::new("sh"), &["-c", &unpack], LONG)?;
    assert!(code == Some(0) && text.contains("the new config is refused") && text.contains("devices connected"), "{text}");
    assert!(text.contains("PASSWORD=") && !text.contains("hush"), "a secret is in the bundle");

    // Killed, and hung.
    let first = property(&the_box, "MainPID")?;
    the_box.expect("systemctl kill --kill-who=main -s KILL openfactory-edge")?;
    wait_another(&the_box, &first, "the edge is started again after kill -9")?;
    let stopped = wait::now();
    the_box.expect("mkdir -p /run/systemd/system/openfactory-edge.service.d && printf '[Service]\\nWatchdogSec=3\\n' > /run/systemd/system/openfactory-edge.service.d/quick.conf && systemctl daemon-reload && systemctl restart openfactory-edge")?;
    connected(&the_box, &mut plant)?;
    plant.nobody_listened_since(stopped);
    let hung = property(&the_box, "MainPID")?;
    the_box.expect("systemctl kill --kill-who=main -s STOP openfactory-edge")?;
    wait_another(&the_box, &hung, "the watchdog has ended an edge that stands still")?;
    assert!(the_box.expect("journalctl -o cat -u openfactory-edge")?.contains("Watchdog timeout"));

    // A reboot, and the plug.
    connected(&the_box, &mut plant)?;
    let stopped = wait::now();
    the_box.power_off()?;
    the_box.power_on()?;
    ask_the_box(&the_box, &mut plant)?;
    connected(&the_box, &mut plant)?;
    plant.nobody_listened_since(stopped);
    plant.run_for(Duration::from_secs(1))?;
    the_box.pull_the_plug()?;
    the_box.power_on()?;
    ask_the_box(&the_box, &mut plant)?;
    connected(&the_box, &mut plant)?;

    // A root file system that is kept read-only.
    let stopped = wait::now();
    the_box.expect("mount --bind /etc /etc && mount -o remount,bind,ro /etc && ! touch /etc/openfactory-edge/probe 2>/dev/null")?;
    the_box.expect("systemctl restart openfactory-edge && systemctl reload openfactory-edge")?;
    connected(&the_box, &mut plant)?;
    plant.nobody_listened_since(stopped);
    the_box.expect("umount --lazy /etc")?;
    plant.run_for(Duration::from_secs(2))?;
    clean(&the_box, &mut plant)?;

    // Removed and installed again: its log is there. Purged: nothing is.
    let epoch = plant.edge.status()?["log"]["epoch"].clone();
    the_box.expect("apt-get -q -y remove openfactory-edge")?;
    assert!(the_box.file("/var/lib/openfactory-edge/log").is_dir());
    the_box.expect(INSTALL)?;
    the_box.expect("systemctl start openfactory-edge")?;
    plant.edge.wait_status("the edge has found its log", LONG, |status| status["log"]["epoch"] == epoch)?;
    the_box.expect("apt-get -q -y purge openfactory-edge")?;
    for gone in ["/var/lib/openfactory-edge", "/etc/openfactory-edge", "/usr/bin/openfactory-edge"] {
        assert!(!the_box.file(gone).exists(), "{gone} is left after a purge");
    }
    the_box.power_off()
}

/// A package of another version, as a repository would have it later or had it before: the same program, with `change` made to its unpacked files.
fn repack(the_box: &Appliance, version: &str, change: &str) -> anyhow::Result<String> {
    let made = format!("/root/openfactory-edge_{version}.deb");
    the_box.expect(&format!(
        "rm -rf /root/unpacked && dpkg-deb -R /srv/openfactory/pool/openfactory-edge_*_$(dpkg --print-architecture).deb /root/unpacked && cd /root/unpacked && \
         sed -i 's/^Version: .*/Version: {version}/' DEBIAN/control && {change} && dpkg-deb -b /root/unpacked {made}"
    ))?;
    Ok(made)
}

#[test]
fn an_update_under_load_and_with_a_backlog_loses_nothing_and_keeps_what_the_user_changed() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let kafka = || Ok(Broker::Own(Kafka::start()?));
    let Some((the_box, mut plant)) = plant_before("update", folder.path(), kafka)? else { return Ok(()) };
    install(&the_box)?;
    // Nobody has changed the config: an update may, without a question.
    let newer = repack(&the_box, "0.1.1", "echo '# a new default' >> etc/openfactory-edge/edge.toml")?;
    the_box.expect(&format!("apt-get -q -y install {newer}"))?;
    the_box.expect("grep -q 'a new default' /etc/openfactory-edge/edge.toml")?;
    assert_eq!(property(&the_box, "ActiveState")?, "inactive", "an update starts nothing that was not started");

    configure(&the_box, &mut plant)?;
    start(&the_box, &mut plant)?;
    plant.run_for(Duration::from_secs(2))?;
    // Under load, and with a backlog.
    plant.kafka.own()?.stop()?;
    plant.run_for(Duration::from_secs(3))?;
    let (before, stopped) = (property(&the_box, "MainPID")?, wait::now());
    // A config that the user did change is kept where nobody can be asked.
    let newest = repack(&the_box, "0.1.2", "echo '# another default' >> etc/openfactory-edge/edge.toml")?;
    the_box.expect(&format!("apt-get -q -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install {newest}"))?;
    the_box.expect("grep -q edge-update /etc/openfactory-edge/edge.toml && ! grep -q 'another default' /etc/openfactory-edge/edge.toml")?;
    wait_another(&the_box, &before, "the update has started the edge again")?;
    connected(&the_box, &mut plant)?;
    plant.nobody_listened_since(stopped);
    assert!(plant.edge.status()?["mirror"]["backlog"].as_u64().unwrap_or_default() > 0, "there was to be a backlog");
    plant.kafka.own()?.start_again()?;
    plant.run_for(Duration::from_secs(2))?;
    clean(&the_box, &mut plant)?;

    // Back to the version before, which does not know a newer log's format: it says so, stays down, and changes nothing.
    the_box.expect("systemctl stop openfactory-edge")?;
    let log = the_box.file("/var/lib/openfactory-edge/log");
    let newest_segment =
        std::fs::read_dir(&log)?.flatten().map(|file| file.path()).filter(|file| file.extension().is_some_and(|e| e == "seg")).max();
    let segment = newest_segment.context("the log has no segment")?;
    let mut bytes = std::fs::read(&segment)?;
    let version = u16::from_le_bytes([bytes[4], bytes[5]]) + 1;
    bytes[4..6].copy_from_slice(&version.to_le_bytes());
    bytes[6..8].copy_from_slice(&(!version).to_le_bytes());
    std::fs::write(&segment, &bytes)?;
    the_box.expect(&format!("apt-get -q -y --allow-downgrades -o Dpkg::Options::=--force-confold install {newer}"))?;
    assert_ne!(the_box.run("systemctl start openfactory-edge")?.0, Some(0), "it started with a log that it does not know");
    assert_eq!((property(&the_box, "ActiveState")?, property(&the_box, "ExecMainStatus")?), ("failed".into(), "78".into()));
    let said = the_box.expect("journalctl -o cat -u openfactory-edge -n 20")?;
    assert!(said.contains("written by a newer version") && said.contains("nothing was changed"), "{said}");
    assert_eq!(std::fs::read(&segment)?, bytes, "the log was changed");
    Ok(())
}

#[test]
fn a_full_disk_at_boot_keeps_nobody_from_booting_and_the_edge_comes_back_with_room() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let Some((the_box, mut plant)) = plant("full", folder.path())? else { return Ok(()) };
    install(&the_box)?;
    configure(&the_box, &mut plant)?;
    // A disk of its own for the state, filled by somebody else before the edge starts for the first time.
    the_box.expect(
        "mkdir -p /var/lib/openfactory-edge && mount -t tmpfs -o size=700M tmpfs /var/lib/openfactory-edge && \
         head -c 700M /dev/zero > /var/lib/openfactory-edge/somebody-elses; true",
    )?;
    the_box.expect("systemctl enable openfactory-edge; systemctl start --no-block openfactory-edge")?;
    wait::until("the edge says why it cannot start", LONG, || {
        let said = the_box.expect("journalctl -o cat -u openfactory-edge")?;
        Ok(if said.contains("No space left on device") || said.contains("no room") { Look::Done(()) } else { Look::Waiting(said) })
    })?;
    the_box.expect("rm /var/lib/openfactory-edge/somebody-elses")?;
    connected(&the_box, &mut plant)?;
    plant.wait_first_values(LONG)?;
    plant.go()?;
    plant.run_for(Duration::from_secs(1))?;
    clean(&the_box, &mut plant)
}

#[test]
fn a_box_that_boots_with_the_clock_of_five_days_ago_loses_nothing_before_and_after_it_is_set() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let Some((the_box, mut plant)) = plant("clock", folder.path())? else { return Ok(()) };
    install(&the_box)?;
    configure(&the_box, &mut plant)?;
    // As systemd sets it without a battery: to the last time it knew. For the edge alone: a container has this machine's clock.
    let behind = 5 * 86_400;
    let clock = Clock::new(&the_box.file("/opt"), "edge", -behind)?;
    the_box.expect(
        "mkdir -p /etc/systemd/system/openfactory-edge.service.d && \
         printf '[Service]\\nEnvironment=LD_PRELOAD=/opt/edge-clock.so OPENFACTORY_CLOCK=/opt/edge.clock\\n' \
             > /etc/systemd/system/openfactory-edge.service.d/clock.conf && systemctl daemon-reload",
    )?;
    start(&the_box, &mut plant)?;
    let started = plant.edge.status()?["started"].as_str().and_then(Timestamp::parse).context("the status has no start")?;
    let off = wait::now() - started.millis();
    assert!((off - 1000 * behind).abs() < 300_000, "the edge's clock should be {behind} s behind, and is {off} ms");
    plant.run_for(Duration::from_secs(2))?;
    clock.set(0)?;
    plant.run_for(Duration::from_secs(2))?;
    let verdict = plant.expect_clean(LONG).with_context(|| the_box.journal())?;
    assert_eq!((verdict.told, verdict.told_values), (0, 0), "a clock costs no event: {verdict}");
    Ok(())
}

#[test]
fn its_limits_hold_under_load_and_what_the_kernel_killed_for_its_memory_comes_back() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // The box's systemd has no memory controller, as the container has none: the kernel's own, outside, holds what the unit says.
    let (Some(limits), Some(tiny)) = (ControlGroup::for_memory()?, ControlGroup::for_memory()?) else {
        tools::skipped("the kernel has no memory controller of the first version");
        return Ok(());
    };
    let Some(the_box) = Appliance::boot(folder.path())? else { return Ok(()) };
    let mut plant = Plant::new("memory", Broker::shared()?, "")?;
    let devices = Devices::start(Plan { rate: 10_000, ..Plan::new(Make::Fast, 10, 1000) }, plant.folder())?;
    plant.add(devices)?;
    install(&the_box)?;
    configure(&the_box, &mut plant)?;
    the_box.expect("systemctl start openfactory-edge")?;
    let id = property(&the_box, "MainPID")?;
    limits.write("memory.limit_in_bytes", &property(&the_box, "MemoryMax")?)?;
    limits.add(the_box.process(id.parse()?)?)?;
    connected(&the_box, &mut plant)?;
    plant.wait_first_values(LONG)?;
    let used = |id: &str| -> anyhow::Result<(u64, f64)> {
        let process = procfs::process::Process::new(the_box.process(id.parse()?)?.cast_signed())?;
        let (status, times) = (process.status()?, process.stat()?);
        let ticks = u32::try_from(times.utime + times.stime)?;
        Ok((status.vmhwm.context("no VmHWM")? >> 10, f64::from(ticks) / procfs::ticks_per_second() as f64))
    };
    let idle = used(&id)?;
    plant.go()?;
    let seconds = 10;
    plant.run_for(Duration::from_secs(seconds))?;
    let busy = used(&id)?;
    let cpu = 100.0 * (busy.1 - idle.1) / seconds as f64;
    println!("at most {} MiB before the load, {} MiB with 10,000 tags each second, {cpu:.0} % of a CPU", idle.0, busy.0);
    let high = property(&the_box, "MemoryHigh")?.parse::<u64>()? >> 20;
    assert!(busy.0 < high, "the edge has needed {} MiB, and its unit slows it down at {high} MiB", busy.0);
    assert_eq!(property(&the_box, "MainPID")?, id, "it was killed at its limit");

    let stopped = wait::now();
    tiny.write("memory.limit_in_bytes", "65536")?;
    tiny.add(the_box.process(id.parse()?)?)?;
    wait_another(&the_box, &id, "the edge is started again after the kernel has killed it for its memory")?;
    let told = tiny.read("memory.failcnt")?;
    assert!(told > 0, "it was not its memory");
    connected(&the_box, &mut plant)?;
    plant.nobody_listened_since(stopped);
    plant.run_for(Duration::from_secs(2))?;
    clean(&the_box, &mut plant)
}

/// Links of the handbook in a folder that lead nowhere.
fn dead_links(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut dead = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let file = file?.path();
        if file.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&file)?;
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let is_dead = |target: &&str| !target.is_empty() && !target.contains("://") && !folder.join(target).exists();
        dead.extend(targets.filter(is_dead).map(|target| format!("{}: {target}", file.display())));
    }
    Ok(dead)
}

#[test]
fn the_units_keep_to_what_they_need() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(the_box) = Appliance::boot(folder.path())? else { return Ok(()) };
    the_box.expect(&repository()?)?;
    the_box.expect("apt-get -q -y install openfactory-edge openfactory-cloud")?;
    for package in ["openfactory-edge", "openfactory-cloud"] {
        assert_eq!(dead_links(&the_box.file(&format!("/usr/share/doc/{package}")))?, Vec::<String>::new(), "links of the handbook");
    }
    let exposure = |unit: &str| -> anyhow::Result<f64> {
        let said = the_box.expect(&format!("systemd-analyze security --no-pager {unit} | tail -n 1"))?;
        let words: Vec<_> = said.split_whitespace().collect();
        let at = words.iter().position(|word| word.starts_with("service:") || word.ends_with("service:")).context("no verdict")?;
        Ok(words[at + 1].parse()?)
    };
    the_box
        .expect("systemd-analyze verify --man=no openfactory-edge.service openfactory-router.service openfactory-commands.service openfactory-forwarder@1.service")?;
    for unit in
        ["openfactory-edge.service", "openfactory-forwarder@1.service", "openfactory-router.service", "openfactory-commands.service"]
    {
        let seen = exposure(unit)?;
        println!("{unit} {seen}");
        assert!(seen <= 1.5, "{unit} is exposed {seen}, at most 1.5 is wanted");
    }
    the_box.expect(
        "mkdir -p /etc/systemd/system/openfactory-edge.service.d && \
         ln -s /usr/share/openfactory-edge/serial-ports.conf /etc/systemd/system/openfactory-edge.service.d/ && systemctl daemon-reload",
    )?;
    let seen = exposure("openfactory-edge.service")?;
    println!("openfactory-edge.service with serial ports {seen}");
    assert!(seen <= 2.0, "with serial ports open it is exposed {seen}");
    // What they need is enough: they start, confined as they are.
    let kafka = Broker::shared()?;
    let cloud = format!("[kafka]\nbrokers = [{:?}]\n[nats.C1]\nurls = [\"nats://127.0.0.1:{}\"]\n", kafka.bootstrap(), ports::free()?);
    std::fs::write(the_box.file("/etc/openfactory-cloud/cloud.toml"), cloud)?;
    the_box.expect("openfactory-cloud check-config && systemctl start openfactory-forwarder@1 openfactory-router openfactory-commands")?;
    for unit in ["openfactory-forwarder@1", "openfactory-router", "openfactory-commands"] {
        let user = the_box.expect(&format!("stat -c %U /proc/$(systemctl show -P MainPID {unit})"))?;
        assert_eq!(user.trim(), "openfactory-cloud", "{unit}");
    }
    // An update starts them again, instances too; removing the package ends them.
    let running = || {
        ["openfactory-forwarder@1", "openfactory-router", "openfactory-commands"]
            .map(|unit| the_box.expect(&format!("systemctl show -P MainPID {unit}")))
    };
    let before = running();
    the_box
        .expect("apt-get -q -y install --reinstall openfactory-cloud && systemctl is-active openfactory-forwarder@1 openfactory-router openfactory-commands")?;
    for (before, after) in before.into_iter().zip(running()) {
        assert_ne!(before?, after?, "it still runs with the program of before");
    }
    the_box.expect("apt-get -q -y remove openfactory-cloud")?;
    assert_eq!(the_box.expect("systemctl list-units --no-legend --state=active 'openfactory-*'")?.trim(), "");
    Ok(())
}
