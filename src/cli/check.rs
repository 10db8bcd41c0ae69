//! `pgturnstile check`: both files, every error at once.
//!
//! Owns the report of [`Config::load`] and of the policy's loader, and the checks that need both files or the TLS
//! library. It opens no socket and writes no file.

use std::io;
use std::path::{Path, PathBuf};

use pgturnstile_rules::document::{Diagnostic, Place, Severity};
use serde::Serialize;

use crate::config::{Config, Files, Target, TargetTls};
use crate::net::tls::{CertificateFiles, ClientTls, ServerCheck, ServerTls};

use super::{Exit, Out};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Check the configuration and the policy: every error at once.

Both files are strict: an unknown key, a wrong type or unit, a value out of range, a duplicate or a dangling reference \
is an error, printed with file, line and key. The files that the configuration names (certificates, keys, passwords, \
the evidence folder) are looked at too. Nothing is opened, started or changed.",
    after_help = "\
Examples:
  pgturnstile check
  pgturnstile check --config /etc/pgturnstile/pgturnstile.toml
  pgturnstile check --skip-files    without certificates and passwords at hand
  pgturnstile check --json | jq -r '.findings[] | \"\\(.file):\\(.line) \\(.message)\"'

Exit codes:
  0  both files can be used (there may be warnings)
  2  at least one error; the gateway would not start"
)]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "PGTURNSTILE_CONFIG", default_value = "pgturnstile.toml")]
    config: PathBuf,
    /// Do not look at the files that the configuration names.
    #[arg(long)]
    skip_files: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The report as JSON.
#[derive(Serialize)]
struct Report<'f> {
    ok: bool,
    errors: usize,
    warnings: usize,
    findings: &'f [Diagnostic],
}

/// Runs `check`.
///
/// # Errors
/// The report cannot be written.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let files = if args.skip_files { Files::Skip } else { Files::Check };
    let (config, findings) = findings(&args.config, files);
    report(&findings, config.as_ref(), args.json, out)
}

/// Everything that is wrong or noteworthy, and the configuration where it could be read.
fn findings(path: &Path, files: Files) -> (Option<Config>, Vec<Diagnostic>) {
    match Config::load_with(path, files) {
        Ok(config) => {
            let mut findings = config.warnings.clone();
            if files == Files::Check {
                findings.extend(unusable_tls(&config));
            }
            (Some(config), findings)
        }
        Err(findings) => (None, findings),
    }
}

/// Keys that do not belong to their certificates, certificates that the TLS library cannot use.
fn unusable_tls(config: &Config) -> Vec<Diagnostic> {
    let error = |place: &Place, message: String| place.diagnostic(Severity::Error, message);
    let mut found = Vec::new();
    for listener in &config.listeners {
        let pair =
            CertificateFiles { certificate: listener.tls.certificate.clone(), key: listener.tls.key.clone() };
        if let Err(fault) = ServerTls::load(&pair) {
            found.push(error(&listener.place, fault.to_string()));
        }
    }
    for target in &config.targets {
        if let Some(fault) = server_check(target).and_then(|check| ClientTls::load(&check, None).err()) {
            found.push(error(&target.place, fault.to_string()));
        }
    }
    found
}

/// How the target's certificate is judged; `None` without TLS.
fn server_check(target: &Target) -> Option<ServerCheck> {
    match &target.tls {
        TargetTls::Disable => None,
        TargetTls::Require => Some(ServerCheck::Nothing),
        TargetTls::VerifyCa { ca, name } => Some(ServerCheck::Chain { ca: ca.clone(), name: name.clone() }),
        TargetTls::VerifyFull { ca, .. } => Some(ServerCheck::ChainAndName { ca: ca.clone() }),
    }
}

fn report(
    findings: &[Diagnostic],
    config: Option<&Config>,
    json: bool,
    out: &mut Out<'_>,
) -> io::Result<Exit> {
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    let warnings = findings.len() - errors;
    let exit = if errors == 0 { Exit::Yes } else { Exit::Usage };
    if json {
        let report = Report { ok: errors == 0, errors, warnings, findings };
        serde_json::to_writer_pretty(&mut *out, &report)?;
        out.line("")?;
        return Ok(exit);
    }
    for finding in findings {
        out.write(&finding.render())?;
    }
    if let (0, Some(config)) = (errors, config) {
        for line in summary(config) {
            out.line(line)?;
        }
    }
    out.line(verdict(errors, warnings))?;
    Ok(exit)
}

/// What the configuration amounts to, for the eye.
fn summary(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for listener in &config.listeners {
        lines.push(format!("listener  {} (TLS, token as password)", listener.address));
    }
    for issuer in &config.issuers {
        lines.push(format!("issuer    {} = {}", issuer.name, issuer.issuer));
    }
    for target in &config.targets {
        lines.push(format!("target    {} = {} at {}", target.name, target.database, target.address));
    }
    lines.push(format!("evidence  {}", config.evidence.directory.display()));
    lines
}

fn verdict(errors: usize, warnings: usize) -> String {
    let count = |number: usize, word: &str| match number {
        0 => format!("no {word}s"),
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    };
    let counts = format!("{}, {}", count(errors, "error"), count(warnings, "warning"));
    if errors == 0 { format!("ok: {counts}") } else { format!("not usable: {counts}") }
}
