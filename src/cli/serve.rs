//! `pgturnstile serve`: runs the gateway.
//!
//! Owns: the command's arguments and how its start and its errors are told. The work is [`crate::serve`]'s.

use std::io;
use std::path::PathBuf;

use super::{Exit, Out};
use crate::serve::{self, ServeError};

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Run the gateway.

Everything is checked before the first listener opens: both files, certificates, the evidence folder. SIGTERM and SIGINT \
drain: no new connections, sessions end when they are idle, all are ended after drain_deadline_s. SIGHUP loads both files \
anew, as one step; on any error the old ones stay in force.",
    after_help = "\
Examples:
  pgturnstile serve
  pgturnstile serve --config /etc/pgturnstile/pgturnstile.toml --log-format json

Exit codes:
  0  stopped in order
  2  the configuration or the policy is wrong; nothing was opened
  3  the machine did not cooperate: the evidence folder, a listener, a disk that failed while running"
)]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "PGTURNSTILE_CONFIG", default_value = "pgturnstile.toml")]
    config: PathBuf,
}

/// Runs `serve`.
///
/// # Errors
/// Output cannot be written.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let outcome = serve::serve(&args.config, |gateway| {
        let loaded = gateway.loaded.load();
        for listener in &loaded.config.listeners {
            tracing::info!(address = %listener.address(), "accepting");
        }
    });
    match outcome {
        Ok(()) => Ok(Exit::Yes),
        Err(ServeError::Configuration(findings)) => {
            for finding in &findings {
                out.complain(finding.render().trim_end());
            }
            out.complain("nothing was started; `pgturnstile check` shows the same");
            Ok(Exit::Usage)
        }
        Err(error) => {
            out.complain(format_args!("pgturnstile: {error}"));
            Ok(Exit::Trouble)
        }
    }
}
