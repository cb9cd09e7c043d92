//! The command line of `browse`.

use std::path::PathBuf;

use clap::Args;

pub(super) const EXAMPLES: &str = "\
Examples:
  The whole tree, with types and values:
    openfactory-edge browse opc.tcp://10.0.0.5:4840
  A part of it, as JSON:
    openfactory-edge browse opc.tcp://10.0.0.5:4840 --node 'ns=2;s=Line1' --json
  A device file of all variables, to be pruned by hand:
    openfactory-edge browse opc.tcp://10.0.0.5:4840 --asset PRESS-1 --write /etc/openfactory-edge/devices/press-1.yaml
  With the login and security of a device of the config:
    openfactory-edge browse press-1";

#[derive(Debug, Args)]
pub(crate) struct BrowseArgs {
    /// The server, opc.tcp://HOST:PORT, or the name of a device in the config.
    #[arg(value_name = "SERVER")]
    pub(crate) target: String,
    /// Where to begin: a node id or a browse path.
    #[arg(long, value_name = "NODE", default_value = "i=85")]
    pub(crate) node: String,
    /// How many levels below it.
    #[arg(long, value_name = "LEVELS", default_value_t = 20)]
    pub(crate) depth: usize,
    /// At most so many nodes.
    #[arg(long, value_name = "NODES", default_value_t = 10_000)]
    pub(crate) limit: usize,
    /// JSON instead of a tree.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a device file with all variables that were found; the file must not be there yet.
    #[arg(long, value_name = "FILE", requires = "asset", conflicts_with = "json")]
    pub(crate) write: Option<PathBuf>,
    /// The asset's UUID in that file.
    #[arg(long, value_name = "UUID", requires = "write")]
    pub(crate) asset: Option<String>,
    #[command(flatten)]
    pub(crate) login: Login,
}

/// How to talk to a server of which no device file says it.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The security policy.
    #[arg(long, value_name = "POLICY", value_parser = ["none", "basic256sha256", "aes128_sha256_rsaoaep", "aes256_sha256_rsapss"])]
    pub(crate) policy: Option<String>,
    /// What it is used for [default: sign_and_encrypt].
    #[arg(long, value_name = "MODE", value_parser = ["sign", "sign_and_encrypt"], requires = "policy")]
    pub(crate) mode: Option<String>,
    /// Log in as this user.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub(crate) user: Option<String>,
    /// The file with the user's password.
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
    /// Accept the server's certificate unchecked, this once.
    #[arg(long)]
    pub(crate) trust_any: bool,
}

impl Login {
    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        self.policy.is_none() && self.user.is_none() && !self.trust_any
    }
}
