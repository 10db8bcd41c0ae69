//! What loads, and what is told of what does not.

use crate::policy::{Policy, packs};

/// The policy of the design, whole (config.md).
const DESIGN: &str = include_str!("design.toml");

fn found(text: &str) -> Vec<String> {
    match Policy::from_text("policy.toml", text, None) {
        Ok(policy) => policy.warnings().iter().map(ToString::to_string).collect(),
        Err(found) => found.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn every_shipped_pack_loads_alone() {
    for pack in packs::PACKS {
        let text = format!("version = 1\ninclude = [\"packs/{}.toml\"]\n", pack.name);
        let text = if pack.permits_by_default {
            text
        } else {
            text.replace(
                &format!("\"packs/{}.toml\"", pack.name),
                &format!("{{ file = \"packs/{}.toml\" }}", pack.name),
            )
        };
        let policy = Policy::from_text("policy.toml", &text, None);
        assert!(policy.is_ok(), "{:?}", policy.err());
    }
}

#[test]
fn the_policy_of_the_design_loads_but_for_what_is_not_built() {
    // As it stands: team.toml is a file that is not here.
    let as_it_stands = found(DESIGN);
    let errors: Vec<&String> = as_it_stands.iter().filter(|line| !line.contains(": warning: ")).collect();
    assert_eq!(
        errors,
        ["policy.toml:3: include[3]: a policy that was not read from a file includes shipped packs only",]
    );
    // Without it, it loads, and says of every rule what is not built.
    let text = DESIGN.replace(", { file = \"team.toml\", allow_permits = true }", "");
    let policy = Policy::from_text("policy.toml", &text, None).expect("the design's policy");
    let warnings: Vec<String> = policy.warnings().iter().map(ToString::to_string).collect();
    for needle in ["returned_rows_over", "`plan` is not built", "`outside` is not built", "under observe"] {
        assert!(warnings.iter().any(|line| line.contains(needle)), "{needle} in {warnings:#?}");
    }
    assert_eq!(policy.model().accesses.len(), 2);
    assert_eq!(policy.model().labels.len(), 3);
}

const HEAD: &str = "version = 1\n[group.g]\nany = [{ issuer = \"corp\" }]\n";

/// A rule of one line each, and what is said of it.
fn said(table: &str, lines: &str) -> Vec<String> {
    let base = match table {
        "permit" => "id = \"p\"\ngroups = [\"g\"]\ntargets = [\"*\"]\nclasses = [\"read\"]\non = [\"*\"]\n",
        "restrict" => {
            "id = \"r\"\ngroups = [\"g\"]\ntargets = [\"*\"]\nclasses = [\"read\"]\non = [\"*\"]\nthen = \"refuse\"\n"
        }
        _ => "",
    };
    let changed: Vec<&str> =
        lines.lines().filter_map(|line| line.split_once(" =").map(|(key, _)| key)).collect();
    let kept: String = base
        .lines()
        .filter(|line| !line.split_once(" =").is_some_and(|(key, _)| changed.contains(&key)))
        .map(|line| format!("{line}\n"))
        .collect();
    found(&format!("{HEAD}[[{table}]]\n{kept}{lines}\n"))
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn every_lint_speaks() {
    let mut silent = Vec::new();
    for (table, lines, expected) in [
        ("permit", "on = [\"orders\"]", "names no schema"),
        ("permit", "on = [\"crm.orders.id\"]", "has too many parts"),
        ("permit", "on = [\"crm.Orders\"]", "has a capital letter"),
        ("permit", "on = [\"crm.\"]", "has an empty part"),
        ("permit", "on = [\"crm.a b\"]", "has a character"),
        ("permit", "on = [\"crm.\\\"a\"]", "does not close"),
        ("permit", "on = [\"kind:tabel\"]", "names no kind"),
        ("permit", "on = [\"fn:crm.f(integer\"]", "argument list that does not close"),
        ("permit", "on = [\"label:restricted\"]", "labels are no objects of permits"),
        ("permit", "on = [\"fn:crm.f\"]", "can never match"),
        ("permit", "on = [\"setting:work_mem\"]", "can never match"),
        ("permit", "on = [\"kind:show\"]", "can never match"),
        ("permit", "on = []", "must name at least one"),
        ("permit", "classes = [\"raed\"]", "did you mean \"read\"?"),
        ("permit", "groups = [\"h\"]", "\"h\" is not known"),
        ("permit", "groups = [\"*\", \"g\"]", "is everyone"),
        ("permit", "targets = [\"a b\"]", "is no name"),
        ("permit", "disclose = \"clear\"", "without a tier"),
        ("permit", "id = \"builtin.x\"", "is the name of a rule of the program"),
        ("permit", "when = { predicate = \"absent\" }", "unknown key"),
        ("restrict", "on = [\"label:secret\"]", "no [[label]] has the tier secret"),
        ("restrict", "when = { predicate = \"absent\" }", "only write.update and write.delete have one"),
        ("restrict", "when = {}", "says nothing"),
        ("restrict", "when = { returned_rows_over = 5 }", "can only be \"cut\""),
        ("restrict", "then = \"cut\"", "needs returned_rows_over"),
        ("restrict", "then = \"cut\"\nwhen = { returned_rows_over = 5 }", "cuts are not built"),
        ("restrict", "then = \"hold\"", "needs hold = "),
        (
            "restrict",
            "hold = { approvers = [\"g\"], quorum = 1, ttl_s = 1, in_transaction_ttl_s = 1, ticket_ttl_s = 1 }",
            "`then` is not \"hold\"",
        ),
        (
            "restrict",
            "then = \"hold\"\nhold = { approvers = [\"*\"], quorum = 1, ttl_s = 1, in_transaction_ttl_s = 1, ticket_ttl_s = 1 }",
            "would let anybody approve",
        ),
        (
            "restrict",
            "then = \"hold\"\nhold = { approvers = [\"g\"], quorum = 0, ttl_s = 1, in_transaction_ttl_s = 1, ticket_ttl_s = 1 }",
            "between 1 and 16",
        ),
        (
            "restrict",
            "then = \"hold\"\nhold = { approvers = [\"g\"], quorum = 1, ttl_m = 1, in_transaction_ttl_s = 1, ticket_ttl_s = 1 }",
            "the unit is wrong",
        ),
        (
            "restrict",
            "then = \"hold\"\nhold = { approvers = [\"g\"], quorum = 1, ttl_s = 1, in_transaction_ttl_s = 1, mode = \"ticket\" }",
            "needs ticket_ttl_s",
        ),
        ("restrict", "observe = { reason = \"x\" }", "needs an end"),
        ("restrict", "observe = { until = 2027-01-01 }", "observe.reason: is required here"),
        ("restrict", "message = \"two\\nlines\"", "must be one line"),
        ("restrict", "when = { plan = \"rejected\" }", "is not known; one of: \"approved\""),
        (
            "restrict",
            "when = { outside = { days = [\"monday\"], from = \"7\", to = \"25:00\", zone = \"UTC\" } }",
            "must be a time of day",
        ),
        ("restrict", "when = { control = \"P9\" }", "must be a grade"),
        ("restrict", "when = { text_digest_in = [\"sha256:00\"] }", "must be blake3:"),
        ("restrict", "when = { touches = [\"orders\"] }", "names no schema"),
        ("restrict", "when = { plan = \"approved\" }", "counts as met"),
        ("restrict", "unless = { plan = \"approved\" }", "exempts nothing"),
        ("access", "id = \"a\"", "is required here, with search_path at least"),
        ("access", "guards = {}", "names are resolved by it"),
        ("access", "guards = { search_path = [\"$user\"] }", "would depend on the login"),
        ("access", "guards = { search_path = [\"pg_temp\"] }", "is searched anyway"),
        ("access", "mode = \"raed\"", "did you mean \"read\"?"),
        ("label", "column = \"crm.customers\"", "must be schema.relation.column"),
        ("label", "tier = \"top\"", "is not known"),
        ("vouch", "function = \"f\"", "must be schema.name(argument types)"),
        ("vouch", "body = \"x\"", "must be blake3:"),
        ("observe", "rule = \"nobody\"", "names no restrict"),
        ("test", "as = 5", "must be a path or a table of claims"),
        ("test", "name = \"t\"", "as: is required here"),
    ] {
        let said = said(table, lines);
        let sound = said.iter().any(|line| line.contains(expected))
            && said.iter().all(|line| line.starts_with("policy.toml:"));
        if !sound {
            silent.push(format!("{table} {lines}: {expected} in {said:#?}"));
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn defaults_that_are_not_built_say_so() {
    for (line, expected) in [
        ("unknown_lineage = \"mask_text\"", "is not built"),
        ("derived_mask = \"constant\"", "is not built"),
        ("catalog_drift = \"frozen\"", "is not built"),
    ] {
        let said = found(&format!("{HEAD}[defaults]\n{line}\n"));
        assert!(said.iter().any(|said| said.contains(expected)), "{line}: {said:#?}");
    }
    for line in ["catalog_drift = \"bounded\"", "catalog_drift = \"stamped\""] {
        assert!(found(&format!("{HEAD}[defaults]\n{line}\n")).is_empty(), "{line}");
    }
    for record in ["digest", "text", "rows"] {
        assert!(found(&format!("{HEAD}[defaults]\nrecord = \"{record}\"\n")).is_empty(), "{record}");
    }
    let said = found(&format!("{HEAD}[defaults]\nrecord = \"all\"\n"));
    assert!(said.iter().any(|said| said.contains("is not known")), "{said:#?}");
}

#[test]
fn all_errors_of_all_files_come_in_one_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
    write(
        "policy.toml",
        "version = 1\ninclude = [\"team.toml\", \"gone.toml\", \"packs/nope.toml\"]\n[[permit]]\nid = \"p\"\n",
    );
    write(
        "team.toml",
        "version = 1\ninclude = [\"x.toml\"]\n[defaults]\n[[permit]]\nid = \"p\"\n[[restrict]]\nid = 5\n",
    );
    let found = Policy::load(&folder.path().join("policy.toml")).expect_err("errors");
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    for needle in [
        "include[1]: cannot be read",
        "include[2]: no pack nope is shipped",
        "policy.toml:3: permit[p].groups: is required here",
        "team.toml:2: include: only the policy itself includes files",
        "team.toml:3: defaults: only the policy itself sets defaults",
        "team.toml:4: permit: adds rights",
        "team.toml:7: restrict[0].id: must be a string",
    ] {
        assert!(lines.iter().any(|line| line.contains(needle)), "{needle} in {lines:#?}");
    }
}

#[test]
fn included_rules_bear_their_files_name_and_count_in_the_hash() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
    let restrict = "[[restrict]]\nid = \"r\"\ngroups = [\"g\"]\ntargets = [\"*\"]\nclasses = [\"read\"]\non = [\"*\"]\nthen = \"refuse\"\n";
    write("team.toml", &format!("version = 1\n{restrict}"));
    write(
        "policy.toml",
        &format!(
            "include = [\"packs/admin-guard.toml\", \"team.toml\"]\n{HEAD}{restrict}\
             [[observe]]\nrule = \"admin-guard.rights\"\nuntil = 2027-01-01\nreason = \"measuring\"\n"
        ),
    );
    let load = || Policy::load(&folder.path().join("policy.toml")).expect("a policy");
    let one = load();
    let ids: Vec<&str> = one.model().restricts.iter().map(|restrict| &*restrict.rule.id).collect();
    assert!(ids.contains(&"r") && ids.contains(&"team.r") && ids.contains(&"admin-guard.server"), "{ids:?}");
    let place = |id: &str| {
        let rule = one.model().restricts.iter().find(|restrict| *restrict.rule.id == *id);
        rule.map(|rule| rule.rule.place.to_string())
    };
    // Decisions name files as the policy does, never by a path of the machine.
    assert_eq!(place("team.r").as_deref(), Some("team.toml:3"));
    assert_eq!(place("r").as_deref(), Some("policy.toml:6"));
    let observed = one.model().restricts.iter().find(|restrict| restrict.observe.is_some());
    assert_eq!(observed.map(|restrict| &*restrict.rule.id), Some("admin-guard.rights"));
    assert_eq!(load().hash(), one.hash());
    assert!(load().generation() > one.generation());
    write("team.toml", &format!("version = 1\n# a word\n{restrict}"));
    assert_ne!(load().hash(), one.hash());
}

#[test]
fn two_files_of_one_name_and_the_names_of_packs_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["a/team.toml", "b/team.toml", "drivers.toml"] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, "version = 1\n").expect("a file");
    }
    let text = "version = 1\ninclude = [\"a/team.toml\", \"b/team.toml\", \"drivers.toml\"]\n";
    let found = Policy::from_text("policy.toml", text, Some(folder.path())).expect_err("errors");
    assert!(
        found.iter().any(|said| said.message.contains("another include has the same name")),
        "{found:#?}"
    );
    assert!(found.iter().any(|said| said.message.contains("is the name of a shipped pack")), "{found:#?}");
}
