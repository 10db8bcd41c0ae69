//! The command line: one binary, one subcommand for each thing an operator does.
//!
//! Owns the definition of the commands, their help, their exit codes, and the writer that all output goes through. It
//! judges nothing itself. `main` starts no runtime: a command that needs one (`serve`, `dev-idp`) builds it, and the
//! offline ones (`verify`, `evidence show`, `check`, `explain`, `test`) never do. It fails with a message on standard
//! error and one of the documented codes; a reader that closes the pipe (`| head`) ends it quietly.

pub mod audit;
pub mod check;
mod completions;
pub mod control_socket;
pub mod dev_idp;
pub mod evidence_export;
pub mod evidence_keys;
pub mod evidence_query;
pub mod evidence_show;
pub mod evidence_sql;
pub mod evidence_unseal;
pub mod explain;
pub mod holds;
pub mod log;
pub mod out;
pub mod policy_sign;
pub mod reading;
pub mod replay;
mod replay_against;
pub mod scan;
pub mod serve;
mod source;
pub mod test;
pub mod token;
pub mod top;
pub mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use log::{LogFormat, LogOptions};
pub use out::{Exit, Out};

const ABOUT: &str = "A PostgreSQL-only wire-protocol firewall: identity, judgement and evidence on the only path to the database";

const LONG_ABOUT: &str = "\
pgturnstile stands between PostgreSQL clients and a database. Every client proves itself with an OIDC token, every \
statement is judged against a policy before the server sees it, and every step leaves a record in a chained evidence \
file that can be verified offline. What cannot be judged is refused: nothing falls through.

Two files say everything: pgturnstile.toml (listeners, issuers, targets, evidence) and policy.toml (who may do what).";

const AFTER_HELP: &str = "\
Examples:
  pgturnstile check                            every error of both files, with file and line
  pgturnstile check --json | jq '.findings[]'  the same for programs
  pgturnstile test                             the tests that stand in the policy
  pgturnstile scan --target crm                columns that hold personal data and bear no label
  pgturnstile top                              the live sessions of a running gateway
  pgturnstile holds                            statements that wait for people to decide
  pgturnstile verify evidence                  prove a folder of evidence, without the gateway
  pgturnstile evidence show evidence           read it

Exit codes:
  0  done: the answer is yes
  1  done: the answer is no
  2  the command line, the configuration or the policy is wrong; nothing was started
  3  the machine did not cooperate: a file, a socket, a disk
10 and more belong to `hold wait`: its --help says which.";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "pgturnstile", version, about = ABOUT, long_about = LONG_ABOUT, after_help = AFTER_HELP)]
#[command(
    propagate_version = true,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    log: LogOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Approve a statement that waits.
    Approve(holds::ApproveArgs),
    /// Make a package of the evidence for an auditor.
    Audit(audit::AuditArgs),
    /// Show a session again as it went: transcript, terminal, asciinema cast.
    Replay(Box<replay::Args>),
    /// Sign a policy.
    Policy(policy_sign::PolicyArgs),
    /// Run the gateway.
    Serve(serve::Args),
    /// Check the configuration and the policy: every error at once, with file, line and key.
    Check(check::Args),
    /// Read the evidence; make the keys of its checkpoints.
    Evidence(Box<evidence_show::EvidenceArgs>),
    /// Prove a directory of evidence: chain, order, completeness of every session.
    Verify(verify::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
    /// Deny a statement that waits.
    Deny(holds::DenyArgs),
    /// Run an identity provider for development ONLY: it signs any token for anybody on this machine.
    DevIdp(dev_idp::Args),
    /// Say what the policy makes of a text, and why, with file and line; nothing is sent anywhere.
    Explain(explain::Args),
    /// Wait until a held statement was decided.
    Hold(holds::HoldArgs),
    /// Show the statements that wait for people to decide.
    Holds(holds::ListArgs),
    /// Sample a database, read-only: what is sensitive, and which labels it lacks; never a value.
    Scan(scan::Args),
    /// Run the policy's own tests, offline.
    Test(test::Args),
    /// Show the live sessions of a running gateway.
    Top(top::Args),
    /// Print a token of the development identity provider. For development ONLY.
    Token(token::Args),
}

/// Parses the process's arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let mut out = Out::process();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help_or_fault) => return ExitCode::from(usage(&mut out, &help_or_fault)),
    };
    log::init(&cli.log);
    let outcome = match cli.command {
        Command::Approve(args) => holds::approve(&args, &mut out),
        Command::Audit(args) => audit::run_audit(&args, &mut out),
        Command::Deny(args) => holds::deny(&args, &mut out),
        Command::Hold(args) => holds::hold(&args, &mut out),
        Command::Holds(args) => holds::list(&args, &mut out),
        Command::Replay(args) => replay::run(&args, &mut out),
        Command::Policy(args) => policy_sign::run(&args, &mut out),
        Command::Serve(args) => serve::run(&args, &mut out),
        Command::Check(args) => check::run(&args, &mut out),
        Command::Evidence(args) => evidence_show::run_evidence(&args, &mut out),
        Command::Verify(args) => verify::run(&args, &mut out),
        Command::Completions(args) => completions::run(&args, &mut out),
        Command::DevIdp(args) => dev_idp::run(&args, &mut out),
        Command::Explain(args) => explain::run(&args, &mut out),
        Command::Scan(args) => scan::run(&args, &mut out),
        Command::Test(args) => test::run(&args, &mut out),
        Command::Token(args) => token::run(&args, &mut out),
        Command::Top(args) => top::run(&args, &mut out),
    };
    ExitCode::from(out.finish(outcome))
}

/// Prints clap's help, version or complaint.
fn usage(out: &mut Out<'_>, error: &clap::Error) -> Exit {
    let text = error.render();
    if error.use_stderr() {
        out.complain(format_args!(
            "{}",
            if out.err_colour() { text.ansi().to_string() } else { text.to_string() }
        ));
        return Exit::Usage;
    }
    let shown = if out.colour() { text.ansi().to_string() } else { text.to_string() };
    let written = out.write(&shown);
    out.finish(written.map(|()| Exit::Yes))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_every_command_says_what_it_does() {
        let mut command = super::Cli::command();
        command.clone().debug_assert();
        command.build();
        for subcommand in command.get_subcommands() {
            assert!(subcommand.get_about().is_some(), "{} has no help", subcommand.get_name());
        }
    }
}
