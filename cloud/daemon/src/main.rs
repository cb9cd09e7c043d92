//! `openfactory-cloud`: the services beside Kafka, one subcommand each.
//!
//! Purpose: reads the config, wires a service up, starts and stops it in order. What the services do is written in their own crates.
//!
//! Promises: a bad config is told completely, with file, line and key, and exits with 78 before anything is started; a stop waits a few
//! seconds for answers that are under way, and never for a network to come back.
//!
//! Non-goals: forwarding itself (`cloud/forwarder`), and commands (`cloud/commands`).

mod audit;
mod cli;
mod commands;
mod config;
mod send;
mod services;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use service::config::Problem;

use crate::cli::{AuditArgs, Cli, Command, Give, ServiceArgs, VerifyArgs};
use crate::config::{Config, Service};

/// As clap exits.
const WRONG_USAGE: u8 = 2;
/// sysexits' EX_UNAVAILABLE: Kafka gives nothing to prove anything from.
const UNAVAILABLE: u8 = 69;
/// sysexits' EX_CONFIG: the unit does not restart on it.
const BAD_CONFIG: u8 = 78;

fn main() -> ExitCode {
    service::tls::install_ring();
    let cli = Cli::parse();
    match &cli.command {
        Command::Forward(arguments) => start(&cli.config, Service::Forward, |config| {
            let ServiceArgs { instance, status_listen } = arguments;
            config.forward.instance = instance.clone().or(config.forward.instance.take());
            config.forward.status_listen = status_listen.or(config.forward.status_listen);
        }),
        Command::Route => start(&cli.config, Service::Route, |_| {}),
        Command::Commands(arguments) => start(&cli.config, Service::Commands, |config| {
            let ServiceArgs { instance, status_listen } = arguments;
            config.commands.instance = instance.clone().or(config.commands.instance.take());
            config.commands.status_listen = status_listen.or(config.commands.status_listen);
        }),
        Command::Give(wanted) => give(&cli.config, wanted),
        Command::Verify(arguments) => prove(&cli.config, arguments),
        Command::Audit(arguments) => examine(&cli.config, arguments),
        Command::CheckConfig => check(&cli.config),
        Command::Completion(completion) => outcome(completion.print(Cli::command())),
        Command::ManPages { folder } => outcome(service::command_line::write_manual(Cli::command(), folder)),
    }
}

/// `change`: what the command line has to say.
fn start(file: &Path, wanted: Service, change: impl Fn(&mut Config)) -> ExitCode {
    let read = || -> Result<Config, Vec<Problem>> {
        let mut config = Config::load(file, &[wanted])?;
        change(&mut config);
        Ok(config)
    };
    let config = match read() {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    if let Err(error) = service::logging::init(config.log_filter.as_deref()) {
        eprintln!("openfactory-cloud: {:#}", anyhow::Error::new(error));
        return ExitCode::from(BAD_CONFIG);
    }
    match services::run(config, wanted, &read) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            let of_forwarder = error.downcast_ref::<cloud_forwarder::Error>().is_some_and(|error| !error.is_transient());
            let is_config = of_forwarder || error.downcast_ref::<cloud_commands::Error>().is_some_and(cloud_commands::Error::is_config);
            if is_config { ExitCode::from(BAD_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn prove(config: &Path, arguments: &VerifyArgs) -> ExitCode {
    let kafka = match Config::load_kafka(config) {
        Ok(kafka) => kafka,
        Err(problems) => return refuse(&problems),
    };
    judged(verify::run(&kafka, arguments).map(|report| report.complete))
}

fn examine(config: &Path, arguments: &AuditArgs) -> ExitCode {
    let (kafka, commands) = match Config::load_commands(config) {
        Ok(loaded) => loaded,
        Err(problems) => return refuse(&problems),
    };
    judged(audit::run(&kafka, &commands.assets_topic, arguments).map(|audit| audit.sound))
}

/// `true`: nothing is wrong.
fn judged(verdict: anyhow::Result<bool>) -> ExitCode {
    match verdict {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("openfactory-cloud: {error:#}");
            match error.downcast_ref::<cloud_verify::Error>() {
                Some(error) if error.is_config() => ExitCode::from(BAD_CONFIG),
                Some(_) => ExitCode::from(UNAVAILABLE),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn give(config: &Path, wanted: &Give) -> ExitCode {
    let prepared = match send::prepare(wanted) {
        Ok(prepared) => prepared,
        Err(problem) => {
            eprintln!("openfactory-cloud: {problem}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let (kafka, commands) = match Config::load_commands(config) {
        Ok(loaded) => loaded,
        Err(problems) => return refuse(&problems),
    };
    match send::run(&kafka, &commands, &prepared, wanted.how()) {
        Ok(outcome) => ExitCode::from(outcome as u8),
        Err(error) => {
            eprintln!("openfactory-cloud: {error:#}");
            let is_config = error.downcast_ref::<cloud_commands::Error>().is_some_and(cloud_commands::Error::is_config);
            if is_config { ExitCode::from(BAD_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn check(config: &Path) -> ExitCode {
    match Config::load(config, &[Service::Forward, Service::Route, Service::Commands]) {
        Ok(config) => print(&config.summary()),
        Err(problems) => refuse(&problems),
    }
}

fn print(text: &str) -> ExitCode {
    outcome(service::output::print(text))
}

fn outcome(done: std::io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("openfactory-cloud: {error}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("{problem}");
    }
    let plural = if problems.len() == 1 { "problem" } else { "problems" };
    eprintln!("openfactory-cloud: {} {plural} in the config", problems.len());
    ExitCode::from(BAD_CONFIG)
}
