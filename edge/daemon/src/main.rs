//! `openfactory-edge`: the edge daemon and what people ask it.
//!
//! Purpose: gateways read machines, every reading becomes durable in the log before anything else happens, the mirror copies the log into
//! Kafka. This crate wires them together (`run`), exchanges what changed in the config (`reload`), answers `status` and `tail`, looks for devices
//! (`browse`, `scan`, `check-config --online`), keeps certificates (`cert`), looks into the log's files (`log`), carries out `replay` and
//! `reconcile`, tests disks (`selftest`), and collects what support needs (`support-bundle`).
//!
//! Promises: shutting down closes inputs in order (gateways, ingest, log, mirror's cursor) and never waits for a network; a bad config is
//! told completely, with file, line and key, and exits with 78 before anything is started.
//!
//! Non-goals: protocols, the log's format, Kafka: each has a crate of its own.

mod app;
mod browse;
mod cert;
mod check;
mod cli;
mod clock;
mod commands;
mod config;
mod devices;
mod gateways;
mod http;
mod ingest;
mod log_tools;
mod look_back;
mod losses;
mod metrics;
mod mirroring;
mod new_device_file;
mod online;
mod progress;
mod protocols;
mod register;
mod reload;
mod replay;
mod scan;
mod selftest;
mod socket;
mod status;
mod status_table;
mod support;
mod tail;
mod unheard;
mod when;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command, ScanCommand};

/// sysexits' EX_CONFIG, for what only a person can cure: the unit does not restart on it.
const BAD_CONFIG: u8 = 78;

fn main() -> ExitCode {
    service::tls::install_ring();
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Run => return run(&cli),
        Command::CheckConfig(args) => return check::run(&cli.config, args),
        Command::Replay(args) => return replay::replay(&cli.config, args),
        Command::Reconcile(args) => return replay::reconcile(&cli.config, args),
        Command::Browse(args) => browse::run(&cli.config, args),
        Command::Scan(ScanCommand::Modbus(args)) => scan::modbus(args),
        Command::Cert(command) => cert::run(&cli.config, command),
        Command::Reload => reload::ask(&cli.config),
        Command::Status(args) => status_table::run(&cli.config, args),
        Command::Tail(args) => tail::run(&cli.config, args),
        Command::Log(args) => return log_tools::run(&cli.config, args),
        Command::SupportBundle(args) => support::run(&cli.config, args),
        Command::Selftest(args) => selftest::run(args),
        Command::Completion(completion) => completion.print(Cli::command()).map_err(Into::into),
        Command::ManPages { folder } => service::command_line::write_manual(Cli::command(), folder).map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("openfactory-edge: {error:#}");
            if error.is::<check::BadConfig>() || error.is::<reload::Refused>() || error.is::<reload::NotAsked>() {
                ExitCode::from(BAD_CONFIG)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(cli: &Cli) -> ExitCode {
    let checked = match check::load(&cli.config) {
        Ok(checked) => checked,
        Err(problems) => return check::refuse(&problems),
    };
    let logging = match service::logging::init(checked.config.edge.log_filter.as_deref()) {
        Ok(logging) => logging,
        Err(error) => {
            eprintln!("openfactory-edge: {}", service::error::chain(&error));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    match app::run(&cli.config, checked, logging) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            // An older program that was put back: no restart helps.
            let is_newer = |cause: &edge_buffer::Error| matches!(cause, edge_buffer::Error::NewerVersion { .. });
            let needs_a_person = error.chain().any(|cause| cause.downcast_ref().is_some_and(is_newer));
            if needs_a_person { ExitCode::from(BAD_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}
