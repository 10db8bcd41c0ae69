//! The command line: one binary, one subcommand for each thing an operator does.
//!
//! Owns the definition of the commands, their help, their exit codes, and the writer that all output goes through. It
//! judges nothing itself. `main` starts no runtime: a command that needs one (`serve`, `dev-idp`) builds it, and the
//! offline ones (`verify`, `evidence show`, `check`, `explain`, `test`) never do. It fails with a message on standard
//! error and one of the documented codes; a reader that closes the pipe (`| head`) ends it quietly.

mod asked;
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
pub mod tickets;
pub mod token;
pub mod top;
pub mod verify;

use std::io;
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
  pgturnstile tickets                          the same, while nobody waits for them
  pgturnstile verify evidence                  prove a folder of evidence, without the gateway
  pgturnstile evidence show evidence           read it

Exit codes:
  0  done: the answer is yes
  1  done: the answer is no
  2  the command line, the configuration or the policy is wrong; nothing was started
  3  the machine did not cooperate: a file to be written, a socket, a disk (evidence that cannot be read is 2: another was meant)
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
    /// Run the gateway.
    Serve(serve::Args),
    /// Check the configuration and the policy: every error at once, with file, line and key.
    Check(check::Args),
    /// Run the policy's own tests, offline.
    Test(test::Args),
    /// Say what the policy makes of a text, and why, with file and line; nothing is sent anywhere.
    Explain(explain::Args),
    /// Sign a policy.
    Policy(policy_sign::PolicyArgs),
    /// Show the statements that wait for people to decide.
    Holds(holds::ListArgs),
    /// Approve a statement that waits.
    Approve(holds::ApproveArgs),
    /// Deny a statement that waits.
    Deny(holds::DenyArgs),
    /// Wait until a held statement or a ticket was decided.
    Hold(holds::HoldArgs),
    /// Show the tickets: statements that people may decide while nobody waits.
    Tickets(tickets::Args),
    /// Sample a database, read-only: what is sensitive, and which labels it lacks; never a value.
    Scan(scan::Args),
    /// Show the live sessions of a running gateway.
    Top(top::Args),
    /// Prove a directory of evidence: chain, order, completeness of every session.
    Verify(verify::Args),
    /// Read the evidence; make the keys of its checkpoints.
    Evidence(Box<evidence_show::EvidenceArgs>),
    /// Show a session again as it went: transcript, terminal, asciinema cast.
    Replay(Box<replay::Args>),
    /// Make a package of the evidence for an auditor.
    Audit(audit::AuditArgs),
    /// Run an identity provider for development ONLY: it signs any token for anybody on this machine.
    DevIdp(dev_idp::Args),
    /// Print a token of the development identity provider. For development ONLY.
    Token(token::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
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
    let outcome = run(cli.command, &mut out);
    ExitCode::from(out.finish(outcome))
}

fn run(command: Command, out: &mut Out<'_>) -> io::Result<Exit> {
    match command {
        Command::Audit(args) => audit::run_audit(&args, out),
        Command::Replay(args) => replay::run(&args, out),
        Command::Serve(args) => serve::run(&args, out),
        Command::Check(args) => check::run(&args, out),
        Command::Evidence(args) => evidence_show::run_evidence(&args, out),
        Command::Verify(args) => verify::run(&args, out),
        Command::Completions(args) => completions::run(&args, out),
        Command::DevIdp(args) => dev_idp::run(&args, out),
        Command::Explain(args) => explain::run(&args, out),
        Command::Scan(args) => scan::run(&args, out),
        Command::Test(args) => test::run(&args, out),
        Command::Token(args) => token::run(&args, out),
        Command::Top(args) => top::run(&args, out),
        Command::Policy(args) => policy_sign::run(&args, out),
        Command::Holds(args) => holds::list(&args, out),
        Command::Approve(args) => holds::approve(&args, out),
        Command::Deny(args) => holds::deny(&args, out),
        Command::Hold(args) => holds::hold(&args, out),
        Command::Tickets(args) => tickets::run(&args, out),
    }
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
    use std::path::Path;

    use clap::{CommandFactory, Parser};

    use super::{Cli, Exit, Out};

    /// The examples of a command's help and of those below it: the words of each, without its remark and without what a shell does
    /// behind it.
    fn examples(command: &clap::Command) -> Vec<Vec<String>> {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default().replace("\\\n", " ");
        let lines = help.lines().filter_map(|line| line.strip_prefix("  pgturnstile "));
        let words = |line: &str| {
            let line = line.split("    ").next().unwrap_or_default();
            let words = shlex::split(line).unwrap_or_else(|| panic!("{line}: quotes"));
            words.into_iter().take_while(|word| !["|", "<", ">", "&&"].contains(&word.as_str())).collect()
        };
        let mut found: Vec<Vec<String>> = lines.map(words).collect();
        command.get_subcommands().for_each(|below| found.extend(examples(below)));
        found
    }

    #[test]
    fn every_example_of_every_help_is_a_command_line_and_questions_are_answered() {
        let golden =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/evidence_v1").display().to_string();
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index").display().to_string();
        let all = examples(&Cli::command());
        assert!(all.len() > 40, "{}", all.len());
        let mut answered = 0;
        for mut words in all {
            let asks = matches!(words.as_slice(), [group, ask, ..] if group == "evidence" && (ask == "query" || ask == "sql"));
            for word in &mut words {
                if asks && word == "evidence" {
                    // The group's own name comes first: it is put back below.
                    word.clone_from(&golden);
                } else if word == "/var/tmp/evidence.db" {
                    word.clone_from(&index);
                }
            }
            if asks {
                "evidence".clone_into(&mut words[0]);
            }
            words.insert(0, "pgturnstile".to_owned());
            let cli = Cli::try_parse_from(&words).unwrap_or_else(|fault| panic!("{words:?}: {fault}"));
            if asks {
                let (mut said, mut complained) = (Vec::new(), Vec::new());
                let mut out = Out::captured(&mut said, &mut complained);
                let outcome = super::run(cli.command, &mut out);
                let exit = out.finish(outcome);
                drop(out);
                assert_eq!(exit, Exit::Yes, "{words:?}: {}", String::from_utf8_lossy(&complained));
                answered += 1;
            }
        }
        assert!(answered >= 10, "{answered}");
    }

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
