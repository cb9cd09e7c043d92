//! The same picture as `status`, for Prometheus.

use service::metrics::{Family, Metrics};

use crate::commands;
use crate::status::{Device, LogStatus, MirrorStatus, Outcome, Status};

/// The page for `/metrics`.
pub(crate) fn page(status: &Status) -> String {
    let mut metrics = Metrics::new("openfactory_edge");
    let who = [("version", status.version.as_str()), ("edge", status.edge.as_str()), ("asset", status.asset.as_str())];
    metrics.gauge("info", "Who this is.").of(&who, 1.0);
    metrics.counter("accepted_total", "Samples taken from devices.").is(status.events.accepted as f64);
    metrics.counter("durable_total", "Events on disk.").is(status.events.durable as f64);
    let refused_by_kafka = status.mirror.as_ref().map_or(0, |mirror| mirror.refused);
    let lost = metrics.counter("lost_total", "Events that are lost, as their gap events tell; of the dropped ones some may have arrived.");
    lost.of(&[("reason", "refused_new")], status.events.refused as f64)
        .of(&[("reason", "dropped_oldest")], status.log.dropped as f64)
        .of(&[("reason", "damaged")], status.log.damaged as f64)
        .of(&[("reason", "refused_by_kafka")], refused_by_kafka as f64);
    let is_done = status.reload.as_ref().is_none_or(|reload| reload.outcome == Outcome::Done);
    metrics
        .gauge("config_last_reload_successful", "0 while the files hold a config that was refused, or is not all at work.")
        .is(truth(is_done));
    log(&mut metrics, &status.log);
    if let Some(status) = &status.mirror {
        mirror(&mut metrics, status);
    }
    if let Some(status) = &status.commands {
        commands(&mut metrics, status);
    }
    devices(&mut metrics, &status.devices);
    metrics.into_text()
}

fn log(metrics: &mut Metrics, log: &LogStatus) {
    metrics.gauge("log_writable", "1 while the log takes events.").is(truth(log.failure.is_none()));
    metrics.gauge("log_bytes", "What the log takes on the disk.").is(log.bytes as f64);
    metrics.gauge("log_max_bytes", "What it may take.").is(log.max_bytes as f64);
    metrics.gauge("log_free_bytes", "What is free on its file system.").is(log.free_bytes as f64);
    metrics.gauge("log_quarantine_bytes", "Damaged bytes that are kept.").is(log.quarantine_bytes as f64);
    metrics.gauge("log_untold_losses", "Losses whose gap events are not written yet.").is(log.losses as f64);
    metrics.counter("log_syncs_total", "Group commits: a write and an fdatasync each.").is(log.syncs as f64);
    metrics.counter("log_sync_seconds_total", "What they took.").is(log.sync_seconds);
    metrics.counter("log_sync_failures_total", "Group commits that failed.").is(log.sync_failures as f64);
}

fn mirror(metrics: &mut Metrics, mirror: &MirrorStatus) {
    metrics.gauge("mirror_state", "1 for the state that the mirror is in.").of(&[("state", mirror.state.as_str())], 1.0);
    metrics.counter("mirrored_total", "Events that Kafka acknowledged.").is(mirror.mirrored as f64);
    metrics.gauge("mirrored_per_second", "The same, lately: while there is a backlog, how fast it drains.").is(mirror.rate);
    metrics.gauge("backlog_events", "Durable events that Kafka has not acknowledged.").is(mirror.backlog as f64);
    metrics.gauge("backlog_bytes", "What they take on the disk.").is(mirror.backlog_bytes as f64);
    metrics.gauge("backlog_age_seconds", "Age of the oldest of them; 0 if there is none.").is(mirror.backlog_seconds.unwrap_or(0.0));
    metrics.counter("resent_total", "Events sent again after doubt.").is(mirror.resent as f64);
    metrics.counter("doubts_total", "Times that Kafka was asked what stands there already.").is(mirror.doubts as f64);
    metrics.counter("holes_total", "Missing events found behind later ones of their asset.").is(mirror.holes as f64);
    metrics.counter("repeats_total", "Events found more than once.").is(mirror.repeats as f64);
    metrics.counter("topic_changes_total", "Times that the topic was not what it had been.").is(mirror.changes as f64);
}

fn commands(metrics: &mut Metrics, commands: &commands::Status) {
    metrics.gauge("commands_following", "1 while commands are read from Kafka.").is(truth(commands.state == "following"));
    metrics.gauge("commands_waiting", "Commands without an end.").is(commands.waiting as f64);
    let mut steps = metrics.counter("command_steps_total", "Steps of commands, by their state.");
    for (state, count) in &commands.steps {
        steps = steps.of(&[("state", state.as_str())], *count as f64);
    }
    metrics.counter("command_repeats_total", "Repeats of commands that were known; nothing was done for them.").is(commands.repeats as f64);
    metrics.counter("commands_missed_total", "Times that the topic did not have what was to be read next.").is(commands.missed as f64);
}

fn devices(metrics: &mut Metrics, devices: &[Device]) {
    each(metrics.gauge("device_connected", "1 while the device is connected."), devices, |device| truth(device.state == "connected"));
    each(metrics.counter("device_samples_total", "Samples read from the device."), devices, |device| device.samples as f64);
    each(metrics.counter("device_gaps_total", "Gap events of the device."), devices, |device| device.gaps as f64);
    let restarts = metrics.counter("device_restarts_total", "Gateways that ended unexpectedly and were begun again.");
    each(restarts, devices, |device| device.restarts as f64);
}

fn each(mut family: Family<'_>, devices: &[Device], value: fn(&Device) -> f64) {
    for device in devices {
        let labels = [("device", device.name.as_str()), ("asset", device.asset.as_str()), ("protocol", device.protocol.as_str())];
        family = family.of(&labels, value(device));
    }
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
