//! The command line of `cert`.

use clap::Subcommand;

pub(super) const EXAMPLES: &str = "\
Examples:
  Whom does the edge trust, and whom did it meet?
    openfactory-edge cert show
  Trust a server whose fingerprint was compared:
    openfactory-edge cert trust 3f2a91c0";

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Shows the edge's own certificate, the trusted ones, and those that were met and are not trusted.
    Show {
        /// JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Makes a new certificate for the edge; the one before is kept beside it. Each server must then trust the new one. Connections that
    /// are open stay open; the next ones show the new certificate, without a restart.
    Renew {
        /// Make a new key too, for a key that others may have seen.
        #[arg(long)]
        new_key: bool,
    },
    /// Trusts a server's certificate that was met before, or one in a file. Counts from the next attempt to connect on.
    Trust {
        /// Its fingerprint, or the beginning of it; its file name; or the path of a file.
        certificate: String,
    },
    /// Takes the trust back. Counts from the next attempt to connect on: restart the edge to end a connection that is open.
    Reject {
        /// Its fingerprint, or the beginning of it, or its file name.
        certificate: String,
    },
}
