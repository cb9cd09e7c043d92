//! What both daemons need to be good systemd services, and what the Kafka clients of both share.
//!
//! - [`config`]: TOML files whose errors name file, line and key, all of them at once; [`units`]: durations and sizes in them.
//! - [`logging`]: the journal under systemd, readable lines elsewhere.
//! - [`signals`], [`notify`]: being started, watched and stopped by systemd.
//! - [`metrics`]: Prometheus' text format.
//! - [`command_line`]: completion scripts and man pages, made of the command line itself.
//! - [`secret`]: files with secrets: where they are, and who can read them.
//! - [`kafka`]: how to reach the brokers, the same section in both config files.
//! - [`web`]: pages over HTTP, and who may see them.
//! - [`tls`]: one TLS provider for everything; [`host`]: which machine this is; [`error`], [`output`]: what people read.
//!
//! Non-goals: anything about assets, logs or protocols; a framework. No workspace crate is used here.

pub mod command_line;
pub mod config;
pub mod error;
pub mod fail_point;
pub mod host;
mod journal;
pub mod kafka;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod output;
pub mod secret;
pub mod signals;
pub mod tls;
pub mod units;
pub mod web;
