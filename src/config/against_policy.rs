//! What only both files together can be wrong in: names of one that the other does not have.
//!
//! Owns the comparison of a configuration with a policy, for `check`, for the start and for every reload. It judges no
//! statement. A rule that can never match here is an error, because its author believes that it does something.

use std::path::Path;

use pgturnstile_rules::document::{Diagnostic, Severity, nearest};
use pgturnstile_rules::policy::model::{Groups, Model, Record, Targets};
use pgturnstile_rules::policy::{Place, Policy, recording};

use super::deciders::undecidable;
use super::model::{Config, TargetTls};

/// Every name that does not resolve across the two files, and what nobody can reach. Errors stop a start or reload.
#[must_use]
pub fn against_policy(config: &Config, model: &Model) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let shown = config.file.display();
    let issuers: Vec<&str> = config.issuers.iter().map(|issuer| issuer.name.as_str()).collect();
    let credentials: Vec<&str> =
        config.credentials.iter().map(|credential| credential.name.as_str()).collect();

    for group in &model.groups {
        for entry in group.any.iter().filter(|entry| !issuers.contains(&entry.issuer.as_str())) {
            let message =
                format!("no [[issuer]] named {} in {shown}{}", entry.issuer, hint(&entry.issuer, &issuers));
            found.push(at(&group.place, format!("group.{}", group.name), message));
        }
        for entry in &group.any {
            let of = config.issuers.iter().find(|issuer| issuer.name == entry.issuer);
            let fault = of.and_then(|issuer| issuer.preset).and_then(|preset| preset.fault_of(entry));
            found.extend(fault.map(|fault| at(&group.place, format!("group.{}", group.name), fault)));
        }
    }
    for access in &model.accesses {
        if !credentials.contains(&access.login.as_str()) {
            let message =
                format!("no [credential.{}] in {shown}{}", access.login, hint(&access.login, &credentials));
            found.push(at(&access.place, format!("access[{}].login", access.id), message));
        }
    }
    let accesses = model.accesses.iter().map(|rule| ("access", &rule.id, &rule.place, &rule.targets));
    let permits = model.permits.iter().map(|rule| ("permit", &rule.rule.id, &rule.rule.place, &rule.targets));
    let restricts =
        model.restricts.iter().map(|rule| ("restrict", &rule.rule.id, &rule.rule.place, &rule.targets));
    for (kind, id, place, targets) in accesses.chain(permits).chain(restricts) {
        if !matches_a_target(config, targets) {
            let message = format!("can never match: no [[target]] of {shown} has one of these names");
            found.push(at(place, format!("{kind}[{id}].targets"), message));
        }
    }
    found.extend(masked_nowhere(config, model));
    found.extend(recorded_unmasked(config, model));
    found.extend(certificates_without_tls(config, model));
    found.extend(unreachable(config, model));
    found.extend(unheard(config, model));
    found.extend(undecidable(config, model));
    found
}

/// Detectors for targets that are not there. Every single name counts: beside one that is there, a mistyped one would leave
/// its target unmasked without a word.
fn masked_nowhere(config: &Config, model: &Model) -> Vec<Diagnostic> {
    let known: Vec<&str> = config.targets.iter().map(|target| target.name.as_str()).collect();
    let mut found = Vec::new();
    for detection in &model.detections {
        for glob in &detection.targets.0 {
            if known.iter().any(|target| glob.matches(target)) {
                continue;
            }
            let (what, hint) = match glob.literal() {
                Some(name) => (format!("named {name}"), hint(name, &known)),
                None => ("of one of its patterns".to_owned(), String::new()),
            };
            let message = format!(
                "no [[target]] {what} in {}{hint}: nothing is masked there. Next: name the target as the configuration does, \
                 or take the name out",
                config.file.display()
            );
            let severity = if glob.literal().is_some() { Severity::Error } else { Severity::Warning };
            let key = format!("detector[{}].targets", detection.rule.id);
            found.push(Diagnostic { severity, ..at(&detection.rule.place, key, message) });
        }
    }
    found
}

/// Rows kept of targets where nothing masks them (README decision 13).
fn recorded_unmasked(config: &Config, model: &Model) -> Vec<Diagnostic> {
    if !model.labels.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for access in &model.accesses {
        if access.record.or(model.defaults.record) != Some(Record::Rows) {
            continue;
        }
        let bare = config.targets.iter().map(|target| target.name.as_str()).filter(|target| {
            access.targets.contain(target) && recording::detectors_of_target(model, target).is_empty()
        });
        for target in bare {
            let message = format!(
                "is \"rows\" for target {target}, where neither a [[label]] nor a [[detector]] is active: values would stand in the \
                 evidence in clear. Next: add a label or a detector for it, write \"text\" or \"digest\", or leave `record` out: \
                 rows are then kept wherever labels are active, those on the target itself included"
            );
            found.push(at(&access.place, format!("access[{}].record", access.id), message));
        }
    }
    found
}

/// The same of a policy that was not read whole, without hiding what is wrong across the files behind what is wrong in one of
/// them: errors alone, of the entries that could be read. What is not there may be what could not be read, so nothing is
/// said of that.
#[must_use]
pub fn against_broken_policy(config: &Config, path: &Path) -> Vec<Diagnostic> {
    let model = Policy::model_despite_errors(path);
    let found = model.map(|model| against_policy(config, &model)).unwrap_or_default();
    found.into_iter().filter(Diagnostic::is_error).collect()
}

/// The same of a configuration that was not read whole, for these errors: unless a section whose name a policy may use could
/// not be read by one of them, is not known, or the file is no TOML.
#[must_use]
pub fn broken_against_policy(config: &Path, faults: &[Diagnostic], policy: &Path) -> Vec<Diagnostic> {
    let known = |fault: &Diagnostic| {
        let section = fault.key.split(['.', '[']).next().unwrap_or_default();
        super::reference::ROOT.keys.iter().any(|key| key.name == section)
    };
    if !faults.iter().filter(|fault| fault.is_error()).all(known) {
        return Vec::new();
    }
    super::despite_errors(config).map(|config| against_broken_policy(&config, policy)).unwrap_or_default()
}

/// Permits for groups that have no access where the permit speaks. Who is in one of them and in another group that has
/// some is permitted by it all the same: allowed, and worth knowing.
fn unheard(config: &Config, model: &Model) -> Vec<Diagnostic> {
    let meet = |permit: &Groups, access: &Groups| match (permit, access) {
        (Groups::Everyone, _) | (_, Groups::Everyone) => true,
        (Groups::Listed(some), Groups::Listed(others)) => some.iter().any(|group| others.contains(group)),
    };
    let heard = |groups: &Groups, targets: &Targets| {
        let covered = |access: &Targets| {
            config.targets.iter().any(|target| targets.contain(&target.name) && access.contain(&target.name))
        };
        model.accesses.iter().any(|access| meet(groups, &access.groups) && covered(&access.targets))
    };
    let silent = model.permits.iter().filter(|permit| {
        matches_a_target(config, &permit.targets) && !heard(&permit.groups, &permit.targets)
    });
    silent
        .map(|permit| Diagnostic {
            severity: Severity::Warning,
            ..at(
                &permit.rule.place,
                format!("permit[{}].groups", permit.rule.id),
                "no [[access]] entry gives these groups a login on these targets: it speaks only for who is in another \
                 group too"
                    .to_owned(),
            )
        })
        .collect()
}

/// Logins that show a certificate, at targets that are dialled without TLS.
fn certificates_without_tls(config: &Config, model: &Model) -> Vec<Diagnostic> {
    let shows =
        |name: &str| config.credential(name).is_some_and(|credential| credential.certificate.is_some());
    let mut found = Vec::new();
    for target in config.targets.iter().filter(|target| target.tls == TargetTls::Disable) {
        let message = |login: &str| {
            format!(
                "credential {login} has a certificate, which is shown inside TLS only, and target {} has none: set its tls.mode",
                target.name
            )
        };
        if shows(&target.control) {
            found.push(target.control_place.diagnostic(Severity::Error, message(&target.control)));
        }
        let accesses = model.accesses.iter().filter(|access| access.targets.contain(&target.name));
        for access in accesses.filter(|access| shows(&access.login)) {
            found.push(at(&access.place, format!("access[{}].login", access.id), message(&access.login)));
        }
    }
    found
}

/// Targets without an access entry and credentials without a use: allowed, and worth knowing.
fn unreachable(config: &Config, model: &Model) -> Vec<Diagnostic> {
    let accesses = &model.accesses;
    let targets = config
        .targets
        .iter()
        .filter(|target| !accesses.iter().any(|access| access.targets.contain(&target.name)))
        .map(|target| {
            target.place.diagnostic(
                Severity::Warning,
                "no [[access]] entry of the policy leads here: nobody can use it",
            )
        });
    let credentials = config
        .credentials
        .iter()
        .filter(|credential| {
            !config.targets.iter().any(|target| target.control == credential.name)
                && !accesses.iter().any(|access| access.login == credential.name)
        })
        .map(|credential| {
            credential.place.diagnostic(Severity::Warning, "is used by no target and no [[access]] entry")
        });
    targets.chain(credentials).collect()
}

fn matches_a_target(config: &Config, targets: &Targets) -> bool {
    config.targets.iter().any(|target| targets.contain(&target.name))
}

fn hint(word: &str, known: &[&str]) -> String {
    nearest(word, known).map_or(String::new(), |near| format!("; did you mean `{near}`?"))
}

pub(super) fn at(place: &Place, key: String, message: String) -> Diagnostic {
    Diagnostic {
        line: usize::try_from(place.line).unwrap_or(0),
        key,
        ..Diagnostic::of_file(place.file.to_string(), message)
    }
}
