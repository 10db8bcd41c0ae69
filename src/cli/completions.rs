//! `pgturnstile completions`: a completion script for a shell.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit, Out};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgturnstile completions bash > ~/.local/share/bash-completion/completions/pgturnstile
  pgturnstile completions zsh  > \"${fpath[1]}/_pgturnstile\"
  pgturnstile completions fish > ~/.config/fish/completions/pgturnstile.fish

Exit codes:
  0  the script was printed
  2  there is no such shell")]
pub(super) struct Args {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pgturnstile", &mut script);
    io::Write::write_all(out, &script)?;
    Ok(Exit::Yes)
}
