//! `pgturnstile check`: both files, every error at once.
//!
//! Owns the report of [`Config::load`] and of the policy's loader, and the checks that need both files or the TLS
//! library. It opens no socket, unless --dsn asks for a database's catalog, and writes no file.

mod second_place;

use std::io;
use std::path::{Path, PathBuf};

use pgturnstile_rules::catalog::Definitions;
use pgturnstile_rules::document::{Diagnostic, Document, Place, Severity};
use pgturnstile_rules::policy::labelled::Finding;
use pgturnstile_rules::policy::{Labelled, Policy};
use serde::Serialize;

use crate::config::{
    self, Config, Files, Issuer, ListenerAt, Target, TargetTls, against_broken_policy, against_policy,
    broken_against_policy,
};
use crate::identity::IssuerSettings;
use crate::net::tls::{CertificateFiles, ClientIdentity, ClientTls, ServerCheck, ServerTls};

use crate::serve::bundle;
use crate::serve::records::sealing_key;

use super::explain::CatalogSource;
use super::{Exit, Out};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Check the configuration and the policy: every error at once.

Both files are strict: an unknown key, a wrong type or unit, a value out of range, a duplicate or a dangling reference \
is an error, printed with file, line and key. The files that the configuration names (certificates, keys, passwords, \
the evidence folder, the second place of its checkpoints) are looked at too. Nothing is opened, started or changed.",
    after_help = "\
Examples:
  pgturnstile check
  pgturnstile check --config /etc/pgturnstile/pgturnstile.toml
  pgturnstile check --catalog crm.sql    (or --dsn URL) labels that match nothing, masks that a type cannot take
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
    /// The policy file, instead of the one that the configuration names.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Definitions of a target: the labels are held against its columns.
    #[command(flatten)]
    catalog: CatalogSource,
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
    let checked = Checked::of(args, files);
    report(&checked, args.json, out)
}

/// Both files as far as they could be read, and everything found.
struct Checked {
    config: Option<Config>,
    policy: Option<Policy>,
    findings: Vec<Diagnostic>,
}

impl Checked {
    fn of(args: &Args, files: Files) -> Self {
        let mut findings = Vec::new();
        let config = match Config::load_with(&args.config, files) {
            Ok(config) => {
                findings.extend(unusable_issuers(&config, files));
                if files == Files::Check {
                    findings.extend(unusable_tls(&config));
                    findings.extend(second_place::finding(&config));
                    findings.extend(unusable_sealing_key(&config));
                }
                // What these look at is known by its key alone.
                if let Ok(document) = Document::read(&args.config, &args.config.display().to_string()) {
                    findings = findings.into_iter().map(|found| document.placed(found)).collect();
                }
                findings.splice(..0, config.warnings.iter().cloned()).for_each(drop);
                Some(config)
            }
            Err(faults) => {
                findings.extend(faults);
                None
            }
        };
        let faults = if config.is_none() { findings.clone() } else { Vec::new() };
        let path = match (&args.policy, &config) {
            (Some(path), _) => Some(path.clone()),
            (None, Some(config)) => Some(config.gateway.policy.clone()),
            (None, None) => config::policy_despite_errors(&args.config),
        };
        let policy = path.as_deref().and_then(|path| match Policy::load(path) {
            Ok(policy) => {
                findings.extend(policy.warnings().iter().cloned());
                Some(policy)
            }
            Err(faults) => {
                findings.extend(faults);
                None
            }
        });
        let across = match (&config, &policy, &path) {
            (Some(config), Some(policy), _) => against_policy(config, policy.model()),
            (Some(config), None, Some(path)) => against_broken_policy(config, path),
            (None, _, Some(path)) => broken_against_policy(&args.config, &faults, path),
            (_, None, None) | (None, Some(_), None) => Vec::new(),
        };
        findings.extend(across.into_iter().map(|found| of_policy(path.as_deref(), found)));
        if let (Some(config), Some(policy)) = (&config, &policy) {
            findings.extend(unsigned(config, policy, files));
        }
        if let (Some(catalog), Some(policy)) = (args.catalog.read(), &policy) {
            findings.extend(against_catalog(&args.catalog.name(), catalog, policy));
        }
        Self { config, policy, findings }
    }
}

/// A finding that knows the policy's file by its bare name and its key alone, as the policy's own findings are told.
fn of_policy(path: Option<&Path>, found: Diagnostic) -> Diagnostic {
    let document = path
        .filter(|path| path.file_name() == Path::new(&found.file).file_name())
        .and_then(|path| Document::read(path, &path.display().to_string()).ok());
    match document {
        Some(document) => document.placed(found),
        None => found,
    }
}

/// What a gateway would say of the labels on a target with these definitions. A label that matches nothing here may be meant
/// for another target.
fn against_catalog(name: &str, catalog: Result<Definitions, String>, policy: &Policy) -> Vec<Diagnostic> {
    let catalog = match catalog {
        Ok(catalog) => catalog,
        // It names the file by itself.
        Err(fault) => {
            let fault = fault.strip_prefix(&format!("{name}: ")).unwrap_or(&fault);
            return vec![Diagnostic::of_file(name, fault)];
        }
    };
    let labelled = Labelled::new(&policy.model().labels, &catalog.snapshot);
    let found = |finding: &Finding| Diagnostic {
        severity: if finding.unmatched { Severity::Warning } else { Severity::Error },
        line: usize::try_from(finding.rule.place.line).unwrap_or_default(),
        key: "label".to_owned(),
        ..Diagnostic::of_file(&*finding.rule.place.file, finding.message.clone())
    };
    labelled.findings().iter().map(found).collect()
}

/// Issuers that the token verifier would not take.
fn unusable_issuers(config: &Config, files: Files) -> Vec<Diagnostic> {
    let of_issuer = |issuer: &Issuer| {
        let faults = match (IssuerSettings::from_config(issuer), files) {
            (Ok(settings), Files::Check) => settings.key_file_problem().into_iter().collect(),
            (Ok(_), Files::Skip) => Vec::new(),
            (Err(faults), _) => faults,
        };
        let place = issuer.place.clone();
        faults.into_iter().map(move |fault| place.diagnostic(Severity::Error, fault.to_string()))
    };
    config.issuers.iter().flat_map(of_issuer).collect()
}

/// A policy that the configuration wants signed, and that is not.
fn unsigned(config: &Config, policy: &Policy, files: Files) -> Option<Diagnostic> {
    let outcome = bundle::attributed(config, policy);
    let checked = outcome.and_then(|attribution| match files {
        Files::Check => bundle::not_behind(config, &attribution),
        Files::Skip => Ok(()),
    });
    Some(bundle::finding(config, checked.err()?))
}

/// An auditor's key that nothing can be sealed to.
fn unusable_sealing_key(config: &Config) -> Option<Diagnostic> {
    let fault = sealing_key(&config.evidence).err()?;
    Some(config.evidence.place.diagnostic(Severity::Error, fault))
}

/// Keys that do not belong to their certificates, certificates that the TLS library cannot use.
fn unusable_tls(config: &Config) -> Vec<Diagnostic> {
    let error = |place: &Place, key: &str, message: String| Diagnostic {
        key: format!("{}.{key}", place.key),
        ..place.diagnostic(Severity::Error, message)
    };
    let mut found = Vec::new();
    for listener in &config.listeners {
        let Some(tls) = listener.tls() else { continue };
        let pair = CertificateFiles { certificate: tls.certificate.clone(), key: tls.key.clone() };
        if let Err(fault) = ServerTls::load(&pair) {
            found.push(error(&listener.place, "tls.certificate", fault.to_string()));
        }
    }
    for credential in &config.credentials {
        let Some(files) = &credential.certificate else { continue };
        let files = CertificateFiles { certificate: files.certificate.clone(), key: files.key.clone() };
        if let Err(fault) = ClientIdentity::load(&files) {
            found.push(error(&credential.place, "certificate", fault.to_string()));
        }
    }
    for target in &config.targets {
        if let Some(fault) = server_check(target).and_then(|check| ClientTls::load(&check).err()) {
            found.push(error(&target.place, "tls", fault.to_string()));
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

fn report(checked: &Checked, json: bool, out: &mut Out<'_>) -> io::Result<Exit> {
    let findings = &checked.findings;
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
    if let (0, Some(config), Some(policy)) = (errors, &checked.config, &checked.policy) {
        for line in summary(config, policy) {
            out.line(line)?;
        }
    }
    out.line(verdict(errors, warnings))?;
    Ok(exit)
}

/// What the configuration amounts to, for the eye.
fn summary(config: &Config, policy: &Policy) -> Vec<String> {
    let mut lines = Vec::new();
    for listener in &config.listeners {
        let way = match &listener.at {
            ListenerAt::Tcp { .. } => "TLS".to_owned(),
            ListenerAt::Unix(socket) => format!("Unix socket, mode {:04o}", socket.mode),
        };
        lines.push(format!("listener  {} ({way}, token as password)", listener.address()));
    }
    for issuer in &config.issuers {
        lines.push(format!("issuer    {} = {}", issuer.name, issuer.issuer));
    }
    for target in &config.targets {
        lines.push(format!("target    {} = {} at {}", target.name, target.database, target.address));
    }
    let credentials: Vec<String> = config
        .credentials
        .iter()
        .map(|credential| format!("{} = {}", credential.name, credential.user))
        .collect();
    lines.push(format!("logins    {}", credentials.join(", ")));
    let model = policy.model();
    lines.push(format!(
        "policy    {}: {} groups, {} access entries, {} permits, {} restricts, {} labels, {} detector entries",
        config.gateway.policy.display(),
        model.groups.len(),
        model.accesses.len(),
        model.permits.len(),
        model.restricts.len(),
        model.labels.len(),
        model.detections.len()
    ));
    let second_place = config.evidence.head.as_ref().map_or_else(
        || "no second place of its checkpoints (evidence.head)".to_owned(),
        |head| format!("second place {}", head.display()),
    );
    lines.push(format!("evidence  {}, {second_place}", config.evidence.directory.display()));
    if let Some(control) = &config.control {
        let socket = control
            .socket
            .as_ref()
            .map_or_else(String::new, |socket| format!(", socket {}", socket.display()));
        lines.push(format!("control   {}{socket}", control.address));
    }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::super::{Exit, Out};
    use super::Args;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn check(arguments: &[&str]) -> (Exit, String) {
        let line = Line::try_parse_from(std::iter::once(&"check").chain(arguments)).unwrap();
        let (mut standard, mut error) = (Vec::new(), Vec::new());
        let mut out = Out::captured(&mut standard, &mut error);
        let outcome = super::run(&line.args, &mut out);
        let exit = out.finish(outcome);
        drop(out);
        assert!(error.is_empty(), "{error:?}");
        (exit, String::from_utf8(standard).unwrap())
    }

    const CONFIG: &str = "version = 1\n[[listener]]\naddress = \"127.0.0.1:6432\"\n\
        tls = { certificate = \"a\", key = \"b\" }\n[[issuer]]\nname = \"corp\"\nissuer = \"https://id.example.com\"\n\
        audiences = [\"p\"]\ngroups = \"groups\"\n[credential.reader]\nuser = \"r\"\n[[target]]\nname = \"crm\"\n\
        address = \"/run/postgresql:5432\"\ndatabase = \"crm\"\ncontrol = \"reader\"\n";

    const POLICY: &str = "version = 1\n[group.all]\nany = [{ issuer = \"corp\", groups = [\"a\"] }]\n[[access]]\n\
        id = \"a\"\ngroups = [\"all\"]\ntargets = [\"crm\"]\nlogin = \"reader\"\nmode = \"read\"\n\
        guards = { search_path = [] }\n";

    #[test]
    fn both_files_are_read_and_every_error_of_both_is_in_one_report() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("pgturnstile.toml");
        let policy = folder.path().join("policy.toml");
        let shown = config.display().to_string();
        fs::write(&config, CONFIG).unwrap();
        fs::write(&policy, POLICY).unwrap();
        let (exit, text) = check(&["--config", &shown, "--skip-files"]);
        assert_eq!(exit, Exit::Yes, "{text}");
        assert!(text.contains("target    crm = crm at /run/postgresql:5432"), "{text}");
        assert!(text.ends_with("ok: no errors, no warnings\n"), "{text}");

        // Without --skip-files the named files count.
        let (exit, text) = check(&["--config", &shown]);
        assert_eq!(exit, Exit::Usage);
        assert!(text.contains("cannot be read") && text.contains("install -d -m 0700"), "{text}");

        // A broken configuration does not hide a broken policy.
        fs::write(&config, CONFIG.replace("audiences", "audience")).unwrap();
        fs::write(&policy, POLICY.replace("mode = \"read\"", "mode = \"reed\"")).unwrap();
        let (exit, text) = check(&["--config", &shown, "--skip-files", "--json"]);
        assert_eq!(exit, Exit::Usage);
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        let messages = report["findings"].to_string();
        assert!(messages.contains("did you mean `audiences`?") && messages.contains("reed"), "{messages}");
        assert_eq!(report["ok"], false);
    }

    #[test]
    fn names_that_only_one_file_has_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("pgturnstile.toml");
        let policy = folder.path().join("other.toml");
        fs::write(&config, CONFIG).unwrap();
        fs::write(&policy, POLICY.replace("\"reader\"", "\"writer\"")).unwrap();
        let (config, policy) = (config.display().to_string(), policy.display().to_string());
        let (exit, text) = check(&["--config", &config, "--policy", &policy, "--skip-files"]);
        assert_eq!(exit, Exit::Usage);
        // At the line of the key, in the file as it was named, with its source.
        assert!(text.contains(&format!("{policy}:8: access[a].login: no [credential.writer]")), "{text}");
        assert!(text.contains("8 | login = \"writer\""), "{text}");
    }

    #[test]
    fn a_file_that_is_wrong_is_told_at_the_line_of_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("c.toml");
        fs::create_dir(folder.path().join("evidence")).unwrap();
        fs::write(folder.path().join("pw"), "\n").unwrap();
        fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
        let more = "\n[evidence]\ndirectory = \"evidence\"\nhead = { file = \"gone/last\" }\n";
        let text = CONFIG.replace("user = \"r\"\n", "user = \"r\"\npassword = { file = \"pw\" }\n") + more;
        fs::write(&config, &text).unwrap();
        let (exit, said) = check(&["--config", &config.display().to_string()]);
        assert_eq!(exit, Exit::Usage);
        let line = |part: &str| text.lines().position(|line| line.contains(part)).unwrap() + 1;
        for (key, at, says) in [
            ("evidence.head.file", line("head ="), "does not exist"),
            ("listener[0].tls.certificate", line("tls ="), "cannot be read"),
        ] {
            let place = format!("{}:{at}: {key}: ", config.display());
            let found = said.lines().find(|line| line.starts_with(&place));
            assert!(found.is_some_and(|line| line.contains(says)), "{place} in {said}");
        }
        let place = format!(
            "{}:{}: warning: credential.reader.password.file: ",
            config.display(),
            line("password =")
        );
        let blank =
            said.lines().find(|line| line.starts_with(&place) && line.ends_with("pw holds no password"));
        assert!(blank.is_some(), "{said}");
    }

    #[test]
    fn a_detector_for_a_target_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("pgturnstile.toml");
        let policy = folder.path().join("policy.toml");
        fs::write(&config, CONFIG).unwrap();
        let (config, shown) = (config.display().to_string(), policy.display().to_string());
        for (targets, exit, says) in [
            ("\"crm\", \"cmr\"", Exit::Usage, "no [[target]] named cmr"),
            ("\"cr*\", \"erp-*\"", Exit::Yes, "no [[target]] of one of its patterns"),
            ("\"*\"", Exit::Yes, "1 detector entries"),
        ] {
            let detector = format!(
                "[[detector]]\nid = \"d\"\ngroups = [\"*\"]\ntargets = [{targets}]\ndetect = [\"card\"]\n"
            );
            fs::write(&policy, format!("{POLICY}{detector}")).unwrap();
            let (exited, text) = check(&["--config", &config, "--policy", &shown, "--skip-files"]);
            assert_eq!(exited, exit, "{text}");
            assert!(text.contains(says), "{says} in {text}");
            assert!(!says.contains("cmr") || text.contains("did you mean `crm`"), "{text}");
        }
    }

    #[test]
    fn a_claim_path_that_the_verifier_would_refuse_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("pgturnstile.toml");
        fs::write(&config, CONFIG.replace("groups = \"groups\"", "groups = \"/a//b\"")).unwrap();
        let (exit, text) = check(&["--config", &config.display().to_string(), "--skip-files"]);
        assert_eq!(exit, Exit::Usage, "{text}");
        assert!(text.contains("issuer[corp]"), "{text}");
    }

    #[test]
    fn labels_are_held_against_definitions() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(
            path("c.toml"),
            CONFIG.replace(
                "version = 1\n",
                "version = 1\n[gateway]\npolicy = \"p.toml\"\n[evidence]\ndirectory = \"e\"\n",
            ),
        )
        .unwrap();
        let label =
            |column: &str| format!("[[label]]\ncolumn = \"{column}\"\ntier = \"secret\"\nmask = \"last4\"\n");
        let labels = label("crm.people.born") + &label("crm.people.gone") + &label("crm.people.ssn");
        fs::write(path("p.toml"), format!("{POLICY}{labels}")).unwrap();
        fs::write(path("crm.sql"), "create schema crm; create table crm.people (ssn text, born date);")
            .unwrap();
        let (_, said) = check(&["--config", &path("c.toml"), "--skip-files", "--catalog", &path("crm.sql")]);
        for part in [
            "crm.people.born is of a type that holds none",
            "write mask = \"null\" for it",
            "the label crm.people.gone matches no column",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
        assert!(!said.contains("crm.people.ssn"), "{said}");
        let (exit, said) =
            check(&["--config", &path("c.toml"), "--skip-files", "--catalog", &path("none.sql")]);
        assert!(exit == Exit::Usage && said.contains("none.sql"), "{said}");
    }
}
