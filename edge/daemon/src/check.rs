//! `openfactory-edge check-config`, and the same check before `run`.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use asset_stream::device_file::files_in;
use asset_stream::document::{Environment, Problems};

use crate::BAD_CONFIG;
use crate::cli::CheckConfigArgs;
use crate::config::Config;
use crate::devices::{self, Device};

/// A config without problems.
pub(crate) struct Checked {
    pub(crate) config: Config,
    pub(crate) devices: Vec<Device>,
    /// What works, but is probably not meant so.
    pub(crate) warnings: Vec<String>,
}

/// Reads edge.toml and all device files, or says everything that is wrong, each with file, line and key.
pub(crate) fn load(file: &Path) -> Result<Checked, Vec<String>> {
    let config = Config::read(file).map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let of_devices = Problems::new();
    // As in edge.toml itself.
    let folder = folder_of(file).to_owned();
    let environment = Environment::process().with_paths(move |path| service::secret::locate(&folder, path));
    let devices = devices::load(&config, environment, &of_devices);
    let warnings = of_devices.warnings().iter().map(ToString::to_string).collect();
    let of_config = config.problems(file).into_iter().map(|problem| problem.to_string());
    let problems: Vec<_> = of_config.chain(of_devices.into_vec().iter().map(ToString::to_string)).collect();
    if problems.is_empty() { Ok(Checked { config, devices, warnings }) } else { Err(problems) }
}

/// Prints what is wrong, or what was understood.
pub(crate) fn run(file: &Path, args: &CheckConfigArgs) -> ExitCode {
    let checked = match load(file) {
        Ok(checked) => checked,
        Err(problems) => return refuse(&problems),
    };
    for warning in checked.warnings.iter().cloned().chain(hidden_from_the_service(file, &checked.config)) {
        eprintln!("warning: {warning}");
    }
    match print(file, checked, args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("openfactory-edge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What root can read and the service cannot: it runs with the group of the config's folder.
fn hidden_from_the_service(config_file: &Path, config: &Config) -> Vec<String> {
    let folder = std::path::absolute(config_file).ok().and_then(|file| Some(std::fs::metadata(file.parent()?).ok()?.gid()));
    let Some(group) = folder.filter(|group| *group != 0 && rustix::process::geteuid().is_root()) else { return Vec::new() };
    let devices = files_in(&config.edge.devices).unwrap_or_default();
    let told = |file: PathBuf| {
        let found = std::fs::metadata(&file).ok()?;
        let may_read = found.mode() & 0o004 != 0 || (found.gid() == group && found.mode() & 0o040 != 0);
        let name = file.display();
        (!may_read).then(|| {
            format!("{name} cannot be read by the service: chgrp --reference={} {name}; chmod 640 {name}", folder_of(config_file).display())
        })
    };
    [config_file.to_owned()].into_iter().chain(devices).filter_map(told).collect()
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("."))
}

fn print(file: &Path, checked: Checked, args: &CheckConfigArgs) -> anyhow::Result<ExitCode> {
    if !args.json {
        service::output::print(&summary(file, &checked)?)?;
    }
    if args.online { crate::online::run(checked, args.json) } else { Ok(ExitCode::SUCCESS) }
}

/// What was understood.
fn summary(file: &Path, Checked { config, devices, .. }: &Checked) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let out = &mut text;
    writeln!(out, "{} is fine", file.display())?;
    writeln!(out, "edge      {} (asset {})", config.edge.id, config.asset())?;
    writeln!(out, "devices   {} from {}", devices.len(), config.edge.devices.display())?;
    for device in devices {
        writeln!(out, "          {} → {} ({})", device.name, device.asset, device.connector.protocol())?;
    }
    writeln!(out, "state     {}", config.edge.state_dir.display())?;
    match &config.kafka {
        Some(kafka) => writeln!(out, "kafka     {} → topic {}", kafka.brokers.join(", "), config.mirror.topic)?,
        None => writeln!(out, "kafka     none: the edge collects and keeps, nothing is sent")?,
    }
    Ok(text)
}

/// Prints the problems of a bad config; systemd does not restart on the exit code.
pub(crate) fn refuse(problems: &[String]) -> ExitCode {
    for problem in problems {
        eprintln!("{problem}");
    }
    eprintln!("openfactory-edge: the config has {} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" });
    ExitCode::from(BAD_CONFIG)
}

/// Where the running daemon answers, by its config: whoever may use the socket need not be able to read the files that the config names.
pub(crate) fn socket_of(file: &Path) -> Result<PathBuf, BadConfig> {
    Config::read(file).map(|config| config.edge.socket).map_err(|problems| BadConfig::of(&problems))
}

/// What was asked for cannot be done without the config.
#[derive(Debug, thiserror::Error)]
#[error("{problems}\nthe config says where the edge's socket and files are; name it by --config")]
pub(crate) struct BadConfig {
    pub(crate) problems: String,
}

impl BadConfig {
    pub(crate) fn of(problems: &[impl ToString]) -> Self {
        Self { problems: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n") }
    }
}
