//! Whether the holds of a policy can be decided by somebody, as far as both files tell.
//!
//! Owns these findings, for `check` and the start. May not: refuse a file for a hold that nobody can decide: it expires, which is safe.

use pgturnstile_rules::document::{Diagnostic, Severity};
use pgturnstile_rules::policy::model::{Groups, Model, Restrict, Then};

use super::against_policy::at;
use super::model::Config;

/// What keeps people from deciding.
pub(super) fn undecidable(config: &Config, model: &Model) -> Vec<Diagnostic> {
    let holds = model.restricts.iter().filter_map(|restrict| match &restrict.then {
        Then::Hold(hold) => Some((restrict, hold)),
        Then::Cut | Then::Refuse => None,
    });
    let has_socket = config.control.as_ref().is_some_and(|control| control.socket.is_some());
    let mut found = Vec::new();
    for (restrict, hold) in holds {
        if hold.ticket_ttl_s.is_some() && !config.gateway.state_named {
            let key = format!("restrict[{}].hold.ticket_ttl_s", restrict.rule.id);
            let what = format!(
                "asks for tickets, and {} does not say where they are kept: what has been approved and used must outlive the gateway. \
                 Next: add state_dir = \"…\" to [gateway], a folder that stays, or leave ticket_ttl_s out",
                config.file.display()
            );
            found.push(at(&restrict.rule.place, key, what));
        }
        if !has_socket {
            let what = "holds, and nobody can decide: decisions come over the control socket, and [control] names none. Next: add \
                        socket = \"/run/pgturnstile/control\" to [control]";
            found.push(warning(restrict, what.to_owned()));
        }
        let of_groups = |groups: &[usize]| {
            let groups = groups.iter().filter_map(|group| model.groups.get(*group));
            groups.flat_map(|group| &group.any).map(|entry| entry.issuer.as_str()).collect::<Vec<_>>()
        };
        let requesters = match &restrict.groups {
            Groups::Everyone => config.issuers.iter().map(|issuer| issuer.name.as_str()).collect(),
            Groups::Listed(listed) => of_groups(listed),
        };
        let approvers = of_groups(&hold.approvers);
        let pairs = requesters.iter().flat_map(|one| approvers.iter().map(move |other| (*one, *other)));
        let apart = pairs.filter(|(one, other)| one != other).find(|pair| !bridged(config, *pair));
        if let Some((one, other)) = apart.filter(|_| hold.quorum < 2) {
            let what = format!(
                "asks for one approval, and who asks by issuer {one} cannot be compared with who approves by issuer {other}: two must \
                 approve. Next: say in [[person]] who is whom, or write quorum = 2"
            );
            found.push(warning(restrict, what));
        }
    }
    found
}

/// Whether some `[[person]]` names both.
fn bridged(config: &Config, (one, other): (&str, &str)) -> bool {
    config.persons.iter().any(|person| {
        let names = |issuer: &str| person.identities.iter().any(|(key, _)| key == issuer || key == "email");
        names(one) && names(other)
    })
}

fn warning(restrict: &Restrict, message: String) -> Diagnostic {
    let key = format!("restrict[{}].hold", restrict.rule.id);
    Diagnostic { severity: Severity::Warning, ..at(&restrict.rule.place, key, message) }
}
