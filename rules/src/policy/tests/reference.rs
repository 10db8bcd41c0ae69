//! The reference against the loader, and against the page that is printed from it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::policy::Policy;
use crate::policy::condition::KINDS;
use crate::policy::reference::{SECTIONS, markdown};

/// A key that no table has, nor anything near it.
const STRANGER: &str = "qqqqqqqqqqqqqqqqqqqq";

/// One occurrence of each table, with a stranger in it.
fn probe(header: &str) -> String {
    let inner = format!("{STRANGER} = 1");
    let body = match header {
        "(top)" => format!("{inner}\n"),
        "include = [{ … }]" => format!("include = [{{ {inner} }}]\n"),
        "[group.NAME]" => format!("[group.g]\n{inner}\n"),
        "[[access]] guards = { … }" => format!("[[access]]\nguards = {{ {inner} }}\n"),
        "[[permit]] disclose = { … }" => format!("[[permit]]\ndisclose = {{ {inner} }}\n"),
        "[[restrict]] hold = { … }" => format!("[[restrict]]\nhold = {{ {inner} }}\n"),
        "[[restrict]] observe = { … }" => format!("[[restrict]]\nobserve = {{ {inner} }}\n"),
        "[[test]] expect = { … }" => format!("[[test]]\nexpect = {{ {inner} }}\n"),
        plain => format!("{plain}\n{inner}\n"),
    };
    format!("version = 1\n{body}")
}

fn known_to_the_loader(text: &str) -> BTreeSet<String> {
    let found = Policy::from_text("p.toml", text, None).expect_err("a stranger is an error");
    let listed = found.iter().find_map(|diagnostic| {
        diagnostic
            .key
            .ends_with(STRANGER)
            .then(|| diagnostic.message.strip_prefix("unknown key; known here: "))?
    });
    let listed = listed.unwrap_or_else(|| panic!("no list of known keys in {found:#?} of {text}"));
    listed.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_reference_names_the_keys_that_the_loader_knows_and_no_others() {
    for section in SECTIONS {
        // There every other key is a claim.
        if section.header == "[group.NAME] any = [{ … }]" {
            continue;
        }
        let told: BTreeSet<String> = section.keys.iter().map(|key| key.name.to_owned()).collect();
        assert_eq!(known_to_the_loader(&probe(section.header)), told, "{}", section.header);
    }
    let conditions: BTreeSet<String> = KINDS.iter().map(|kind| kind.key.to_owned()).collect();
    for side in ["when", "unless"] {
        let text = format!("version = 1\n[[restrict]]\n{side} = {{ {STRANGER} = 1 }}\n");
        assert_eq!(known_to_the_loader(&text), conditions);
    }
}

#[test]
fn required_keys_are_missed_and_others_are_not() {
    for section in SECTIONS {
        let text = match section.header {
            "[group.NAME] any = [{ … }]" => "version = 1\n[group.g]\nany = [{}]\n".to_owned(),
            "(top)" => "include = []\n".to_owned(),
            header => probe(header),
        };
        let found = Policy::from_text("p.toml", &text, None).expect_err("something is missing");
        for key in section.keys {
            let missed = found.iter().any(|diagnostic| {
                let of_this_table =
                    diagnostic.key == key.name || diagnostic.key.ends_with(&format!(".{}", key.name));
                of_this_table
                    && (diagnostic.message.contains("is required here")
                        || diagnostic.message.contains("must hold at least one"))
            });
            assert_eq!(missed, key.default.is_none(), "{} {}: {found:#?}", section.header, key.name);
        }
    }
}

#[test]
fn the_printed_reference_is_the_codes() {
    const MARK: &str = "<!-- generated from rules/src/policy/reference.rs; a test compares -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let stored = std::fs::read_to_string(&path).expect("rules/README.md");
    let (head, printed) = stored.split_once(MARK).expect("the mark of the generated part");
    let rendered = format!("\n{}", markdown().trim_end().to_owned() + "\n");
    if printed != rendered && std::env::var_os("PGTURNSTILE_REGENERATE").is_some() {
        std::fs::write(&path, format!("{head}{MARK}{rendered}")).expect("rules/README.md");
        return;
    }
    assert!(
        printed == rendered,
        "rules/README.md is stale: PGTURNSTILE_REGENERATE=1 cargo nextest run --release -p pgturnstile-rules reference"
    );
}
