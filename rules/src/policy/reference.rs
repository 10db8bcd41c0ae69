//! The reference of policy.toml: every table, key, class, kind, condition and setting.
//!
//! Owns: the words that rules/README.md prints. May not: be asked by the loader; a test asks the loader instead which keys
//! it knows, table by table, and fails where this page says otherwise. Classes, kinds, conditions and settings come from
//! the types that are evaluated.

use std::fmt::Write as _;

use crate::class::Class;
use crate::policy::condition;
use crate::policy::object::Kind;
use crate::policy::packs::PACKS;
use crate::policy::settings;

/// One table of the file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its header as written.
    pub header: &'static str,
    /// What it is for.
    pub meaning: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The type of its value.
    pub value: &'static str,
    /// What holds without it; `None` where it is required.
    pub default: Option<&'static str>,
    /// What it means.
    pub meaning: &'static str,
}

const fn required(name: &'static str, value: &'static str, meaning: &'static str) -> Key {
    Key { name, value, default: None, meaning }
}

const fn optional(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { name, value, default: Some(default), meaning }
}

const GROUPS: Key = required("groups", "array of group names", "for whom; `[\"*\"]` is everyone");
const TARGETS: Key = required("targets", "array of target names", "on which targets; `*` is a wildcard");
const ID: Key =
    required("id", "name", "unique in the policy; rules of an included file bear the file's name in front");
const CLASSES: Key = required("classes", "array of classes", "what is done; a parent covers its children");
const ON: Key = required("on", "array of objects", "to what; classes without objects ignore it");

const RECORD: Key = optional(
    "record",
    "\"digest\", \"text\" or \"rows\"",
    "rows where labels or detectors are active, digest elsewhere",
    "how much the evidence keeps: digest: texts without literals, digests of parameters and results; text: and exact texts, parameters, texts of the server; rows: and rows and COPY data as they left, masked. Rows need a label or detector on the target",
);
const RECORD_ROWS_BYTES_MAX: Key = optional(
    "record_rows_bytes_max",
    "integer",
    "1048576",
    "bytes of rows, and of COPY data in each direction, kept of one result; then its digest, and a record says where capture ended",
);

/// Every table there is.
pub const SECTIONS: &[Section] = &[
    Section {
        header: "(top)",
        meaning: "The file itself.",
        keys: &[
            required("version", "integer", "the format; this build reads 1"),
            optional(
                "include",
                "array of paths or { file, allow_permits }",
                "none",
                "further files; `packs/NAME.toml` is a pack compiled into the program, any other path a file relative to this one",
            ),
            optional("defaults", "table", "as below", "what holds where nothing else is said"),
            optional("group", "tables", "none", "`[group.NAME]`"),
            optional("access", "array of tables", "none", "`[[access]]`"),
            optional("label", "array of tables", "none", "`[[label]]`"),
            optional("detector", "array of tables", "none", "`[[detector]]`"),
            optional("vouch", "array of tables", "none", "`[[vouch]]`"),
            optional("permit", "array of tables", "none", "`[[permit]]`"),
            optional("restrict", "array of tables", "none", "`[[restrict]]`"),
            optional("observe", "array of tables", "none", "`[[observe]]`"),
            optional("test", "array of tables", "none", "`[[test]]`"),
        ],
    },
    Section {
        header: "include = [{ … }]",
        meaning: "An included file. Its rules bear its name in front (`drivers.chatter`). It may tighten, and add tests and groups; adding rights (permit, access, vouch) needs `allow_permits`.",
        keys: &[
            required("file", "path", "the file"),
            optional(
                "allow_permits",
                "boolean",
                "false; true for packs/drivers.toml",
                "whether it may add rights",
            ),
        ],
    },
    Section {
        header: "[defaults]",
        meaning: "What holds where nothing else is said. Only in the policy itself.",
        keys: &[
            optional(
                "unknown_lineage",
                "\"refuse\"",
                "\"refuse\"",
                "what becomes of results near labels whose origin is unknown; other words are not built",
            ),
            optional(
                "derived_mask",
                "\"null\"",
                "\"null\"",
                "what stands in for values computed from labelled ones; other words are not built",
            ),
            RECORD,
            RECORD_ROWS_BYTES_MAX,
            optional(
                "catalog_drift",
                "\"bounded\" or \"stamped\"",
                "\"bounded\"",
                "how changes of the schema behind the gateway are met where something is labelled: the catalog is compared every two seconds, or before each answer leaves",
            ),
        ],
    },
    Section {
        header: "[group.NAME]",
        meaning: "A set of identities, by verified claims.",
        keys: &[required("any", "array of tables", "an identity that matches one of these is in")],
    },
    Section {
        header: "[group.NAME] any = [{ … }]",
        meaning: "All of it must hold. Every other key is the path of a claim and the value it must have (or an array of values, one of which): `environment = \"production\"`, `act.sub = \"agent-7\"`. Text, integers and booleans do not mix. A claim that is missing, of another type, or that two readings of a dotted path give different values, leaves the membership unknown: no permit and no access entry counts it as in, every restrict does.",
        keys: &[
            required(
                "issuer",
                "name",
                "the `[[issuer]]` entry of the configuration that vouched for the identity",
            ),
            optional("groups", "array of strings", "any", "one of these is among the identity's groups"),
        ],
    },
    Section {
        header: "[[access]]",
        meaning: "Which database login a session gets, once for its whole life. Where several entries match, the client names one by its id as the user name of the connection.",
        keys: &[
            ID,
            GROUPS,
            TARGETS,
            required("login", "name", "the `[credential.*]` entry of the configuration"),
            required(
                "mode",
                "\"read\" or \"write\"",
                "read: read-only in the startup packet, and its escapes refused",
            ),
            required("guards", "table", "what stands in the startup packet"),
            optional(
                "durability",
                "\"gated\" or \"queued\"",
                "\"gated\"",
                "gated: nothing but proven reads is forwarded before its record is durable; queued: the session's record says so",
            ),
            optional(
                "record",
                "as in [defaults]",
                "[defaults] record",
                "the same for sessions of this entry",
            ),
            optional(
                "record_rows_bytes_max",
                "integer",
                "[defaults] record_rows_bytes_max",
                "the same for sessions of this entry",
            ),
        ],
    },
    Section {
        header: "[[access]] guards = { … }",
        meaning: "Settings that stand for the session. RESET and DISCARD ALL return to them.",
        keys: &[
            required(
                "search_path",
                "array of schemas",
                "exact names, in order; `[]` leaves pg_catalog alone",
            ),
            optional("statement_timeout_ms", "integer", "the server's", "`statement_timeout`"),
            optional("lock_timeout_ms", "integer", "the server's", "`lock_timeout`"),
            optional(
                "idle_in_transaction_ms",
                "integer",
                "the server's",
                "`idle_in_transaction_session_timeout`",
            ),
        ],
    },
    Section {
        header: "[[label]]",
        meaning: "What is sensitive. A labelled column leaves as a plain output alone, masked; every other use of it, and code that may read it, is refused. See Labels.",
        keys: &[
            required("column", "schema.relation.column", "globs never cross a dot"),
            required("tier", "\"internal\", \"personal\", \"restricted\", \"secret\"", "how sensitive"),
            required("mask", "\"null\", \"last4\", \"domain\", \"token\"", "the style of its mask"),
            optional("entropy_bits", "integer", "unknown", "bits of entropy of its values"),
            optional("canonical", "\"lower\", \"digits\"", "none", "how values are brought to one form"),
        ],
    },
    Section {
        header: "[[detector]]",
        meaning: "What is recognised by pattern in columns without a label, in every format, and in the server's messages. Without any, nothing is. An included file may hold it: it tightens.",
        keys: &[
            ID,
            GROUPS,
            TARGETS,
            required(
                "detect",
                "array of detectors",
                "`private-key`, `connection-string`, `jwt`, `api-key`, `iban`, `card`, `ssn`, `national-id`, `phone`, `email`; `*` is all",
            ),
            optional(
                "mask",
                "\"fixed\", \"token\", \"domain\" or \"last4\"",
                "\"fixed\"",
                "what stands in for a match inside a text; of several for one detector the first of this list. In types that are no text the value becomes NULL",
            ),
        ],
    },
    Section {
        header: "[[vouch]]",
        meaning: "A function whose body the operator stands for. Not built: the function needs a permit on `fn:` all the same, and `check` warns.",
        keys: &[
            required("function", "schema.name(types)", "the function"),
            required("body", "\"blake3:…\"", "the digest of its body"),
            optional("reads", "array of objects", "none", "what it reads"),
        ],
    },
    Section {
        header: "[[permit]]",
        meaning: "Adds. Order does not matter. What no permit covers is refused.",
        keys: &[
            ID,
            GROUPS,
            TARGETS,
            CLASSES,
            ON,
            optional(
                "disclose",
                "\"token\", \"masked\", \"withheld\", or { clear_up_to = TIER }",
                "\"masked\"",
                "how labelled columns leave: as a keyed token, by their label's mask, as NULL, or in clear; of several permits the most generous counts",
            ),
        ],
    },
    Section {
        header: "[[permit]] disclose = { … }",
        meaning: "Clear needs a tier.",
        keys: &[required("clear_up_to", "tier", "labels up to this tier leave in clear")],
    },
    Section {
        header: "[[restrict]]",
        meaning: "Tightens. Order does not matter; all that match apply, the strictest wins: allow < hold < refuse.",
        keys: &[
            ID,
            GROUPS,
            TARGETS,
            CLASSES,
            ON,
            optional("when", "table of conditions", "always", "it applies when all are met"),
            optional("unless", "table of conditions", "never", "it does not apply when all are met"),
            required(
                "then",
                "\"hold\", \"cut\", \"refuse\"",
                "what it does; cuts are not built and refuse, saying so",
            ),
            optional("hold", "table", "none", "with `then = \"hold\"`: who approves"),
            optional("message", "string", "the rule's own words", "one line for the client's error"),
            optional("observe", "table", "none", "only records what it would have done"),
        ],
    },
    Section {
        header: "[[restrict]] hold = { … }",
        meaning: "Who approves, and for how long a statement waits. Where several rules hold one statement, each must be given its approvals, and the shortest wait counts. Where who asks and who approves cannot be compared (different issuers and no `[[person]]` entry, or no person in a token), two distinct people must approve, whatever `quorum` says.",
        keys: &[
            required("approvers", "array of group names", "never the requester, nor the person behind it"),
            required("quorum", "integer", "how many distinct humans"),
            required("ttl_s", "integer", "how long it waits; then it is refused"),
            required("in_transaction_ttl_s", "integer", "how long it waits inside a transaction"),
            optional(
                "ticket_ttl_s",
                "integer",
                "no tickets: what nobody decided in time has expired",
                "a statement that nobody decided in time becomes a ticket, which lives so long: it may be decided, and lets that statement pass once",
            ),
            optional(
                "mode",
                "\"wait\", \"ticket\"",
                "\"wait\"",
                "\"ticket\": the client does not wait, but is refused at once with a ticket",
            ),
        ],
    },
    Section {
        header: "[[restrict]] observe = { … }",
        meaning: "Loud, and it needs an end.",
        keys: &[
            required("until", "date", "the last day, UTC; behind it the rule acts"),
            required("reason", "string", "why"),
        ],
    },
    Section {
        header: "[[observe]]",
        meaning: "Switches a restrict of an included file to observe.",
        keys: &[
            required("rule", "id", "the restrict (`admin-guard.rights`)"),
            required("until", "date", "the last day, UTC"),
            required("reason", "string", "why"),
        ],
    },
    Section {
        header: "[[test]]",
        meaning: "The policy's own tests, run by `pgturnstile test`, offline.",
        keys: &[
            required("name", "string", "unique"),
            required(
                "as",
                "path or table",
                "a JSON file of claims relative to the policy, or claims in place: `{ issuer = \"corp\", groups = [\"bi\"] }`",
            ),
            required("target", "name", "the target"),
            optional(
                "catalog",
                "path",
                "an empty database",
                "a file of CREATE statements, relative to the policy",
            ),
            optional(
                "before",
                "array of texts",
                "none",
                "texts that the session has sent before, each by itself: all have to pass, and what they prepare and declare is known to `sql`",
            ),
            required("sql", "string", "the text, judged whole as one message"),
            optional("in_transaction", "boolean", "false", "whether a transaction is open"),
            required("expect", "table", "what must come out"),
        ],
    },
    Section {
        header: "[[test]] expect = { … }",
        meaning: "What must come out.",
        keys: &[
            required("action", "\"allow\", \"hold\", \"refuse\"", "what the policy asks for"),
            optional("rules", "array of ids", "any", "rules that must have spoken"),
            optional(
                "fields",
                "array of strings",
                "any",
                "how each field leaves; not built: a test with it fails",
            ),
        ],
    },
];

/// The whole reference as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::new();
    for section in SECTIONS {
        let Section { header, meaning, keys } = section;
        let _infallible = write!(
            out,
            "### `{header}`\n\n{meaning}\n\n| key | value | without it | meaning |\n|---|---|---|---|\n"
        );
        for key in *keys {
            let default = key.default.unwrap_or("an error");
            let _infallible =
                writeln!(out, "| `{}` | {} | {default} | {} |", key.name, key.value, key.meaning);
        }
        out.push('\n');
    }
    conditions(&mut out);
    classes(&mut out);
    kinds(&mut out);
    setting_lists(&mut out);
    packs(&mut out);
    out
}

fn conditions(out: &mut String) {
    out.push_str("### Conditions of `when` and `unless`\n\nA condition that is not built counts as met in `when` and as not met in `unless`, and `check` warns.\n\n| condition | value | phase | built | meaning |\n|---|---|---|---|---|\n");
    for kind in condition::KINDS {
        let built = if kind.built { "yes" } else { "no" };
        let _infallible = writeln!(
            out,
            "| `{}` | {} | {} | {built} | {} |",
            kind.key,
            kind.value,
            kind.phase.name(),
            kind.meaning
        );
    }
    out.push('\n');
}

fn classes(out: &mut String) {
    out.push_str("### Classes\n\n`*` covers all but `unknown` and `export.replication`, which are spelled. Classes without objects ignore `on`.\n\n| class | has objects | in a session with `mode = \"read\"` |\n|---|---|---|\n");
    for class in Class::ALL {
        let objects = if class.has_objects() { "yes" } else { "no" };
        let read = if settings::passes_read_mode(*class) { "by permit" } else { "refused" };
        let _infallible = writeln!(out, "| `{class}` | {objects} | {read} |");
    }
    out.push('\n');
}

fn kinds(out: &mut String) {
    out.push_str("### Kinds of `kind:`\n\n| kind | covers |\n|---|---|\n");
    for kind in Kind::ALL {
        let _infallible = writeln!(out, "| `kind:{}` | {} |", kind.name(), kind.meaning());
    }
    out.push('\n');
}

fn setting_lists(out: &mut String) {
    out.push_str("### Settings\n\n| kind | who may set it | settings |\n|---|---|---|\n");
    let list = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let _infallible = writeln!(
        out,
        "| client | a permit on `session.set` (`kind:client-setting`; in packs/drivers.toml) | {}, `enable_*` |",
        list(settings::CLIENT)
    );
    let _infallible = writeln!(
        out,
        "| guard | `mode = \"write\"` and a permit on `session.set` (`kind:guard-setting`, `setting:NAME`) | {} |",
        list(settings::GUARD)
    );
    let _infallible = writeln!(
        out,
        "| pinned | nobody; setting it to the value that it has passes | {} |",
        list(settings::PINNED)
    );
    out.push_str("| custom | a permit on `session.set` that names it (`setting:app.tenant`) or `*` | every name with a dot |\n");
    out.push_str("| closed | nobody | every other name |\n\n");
}

fn packs(out: &mut String) {
    out.push_str("### Packs\n\n| pack | rules |\n|---|---|\n");
    for pack in PACKS {
        let ids: Vec<String> = pack
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("id = \"")?.strip_suffix('"'))
            .map(|id| format!("`{}.{id}`", pack.name))
            .collect();
        let _infallible = writeln!(out, "| `packs/{}.toml` | {} |", pack.name, ids.join(", "));
    }
}
