//! What the reader says of wrong files, line by line.

use super::{Diagnostics, Document, Shape, Unique};

fn read(text: &str, reader: impl FnOnce(&super::Table<'_>)) -> Vec<String> {
    let diagnostics = Diagnostics::new();
    let document = Document::from_text("t.toml", text);
    if let Some(root) = document.root(&diagnostics) {
        reader(&root);
    }
    diagnostics.into_vec().iter().map(ToString::to_string).collect()
}

#[test]
fn syntax_errors_carry_their_line() {
    let found = read("version = 1\n\n[a\nb = 2\n", |_| {});
    assert!(!found.is_empty());
    assert!(found[0].starts_with("t.toml:3: not valid TOML: "), "{found:?}");
    let twice = read("a = 1\na = 2\n", |_| {});
    assert!(twice[0].starts_with("t.toml:2: not valid TOML: "), "{twice:?}");
}

#[test]
fn every_error_is_reported_in_one_run() {
    let found = read(
        "version = 2\nport = \"5\"\ncount_max = 900\nmdoe = \"reed\"\n[[rule]]\nid = \"x\"\nclasses = [\"a\", 3, \"a\"]\n",
        |root| {
            root.version(1);
            assert_eq!(root.integer("port", 1..=65_535), None);
            assert_eq!(root.integer("count_max", 1..=10), None);
            assert_eq!(root.choice("mode", &[("read", 1), ("write", 2)]), None);
            for rule in root.tables("rule") {
                assert_eq!(rule.required_name("id").as_deref(), Some("x"));
                assert!(rule.required_strings("classes").is_none());
                assert!(rule.required_strings("on").is_none());
            }
        },
    );
    assert_eq!(
        found,
        [
            "t.toml:1: version: this build reads version 1 only",
            "t.toml:2: port: must be a whole number (the unit is in the key's name), not a string",
            "t.toml:3: count_max: must be a whole number of items between 1 and 10",
            "t.toml:4: mdoe: unknown key; did you mean `mode`?",
            "t.toml:5: rule[x].on: is required here",
            "t.toml:7: rule[x].classes[1]: must be a string, not an integer",
            "t.toml:7: rule[x].classes[2]: `a` stands here twice",
        ]
    );
}

#[test]
fn a_wrong_unit_names_the_right_key() {
    let found = read("deadline_s = 3\nsize_mb = 3\n", |root| {
        assert_eq!(root.integer("deadline_ms", 1..=10), None);
        assert_eq!(root.integer("size_bytes", 1..=10), None);
    });
    assert_eq!(
        found,
        [
            "t.toml:1: deadline_s: unknown key; the unit is wrong: this key is `deadline_ms`",
            "t.toml:2: size_mb: unknown key; the unit is wrong: this key is `size_bytes`",
        ]
    );
}

#[test]
fn unasked_keys_of_every_depth_are_errors() {
    let found = read("[a]\nb = { c = 1, d = 2 }\n[group.x]\nany = 1\n[group.\"no name\"]\n", |root| {
        let a = root.table("a").unwrap();
        let b = a.table("b").unwrap();
        assert_eq!(b.integer("c", 0..=1), Some(1));
        for (_, group) in root.named_tables("group") {
            assert!(group.rest().len() <= 1);
        }
    });
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], "t.toml:2: a.b.d: unknown key; known here: c");
    assert_eq!(found[1], "t.toml:4: group.x.any: unknown key; this table takes none");
    assert!(found[2].starts_with("t.toml:5: group.no name: `no name` is no name"), "{found:?}");
}

#[test]
fn shapes_let_a_key_take_several_kinds() {
    let found =
        read("disclose = { clear_up_to = \"restricted\" }\ninclude = [\"a\", { file = \"b\" }]\n", |root| {
            let Shape::Table(table) = root.shape("disclose").unwrap().value else { panic!("no table") };
            assert_eq!(table.string("clear_up_to").as_deref(), Some("restricted"));
            drop(table);
            let include = root.list("include").unwrap();
            assert_eq!(include.len(), 2);
            assert_eq!(include[1].place.line, 2);
        });
    assert_eq!(found, ["t.toml:2: include[1].file: unknown key; this table takes none"]);
}

#[test]
fn duplicates_name_the_first_holder() {
    let found = read("[[t]]\nname = \"a\"\n[[t]]\nname = \"a\"\n", |root| {
        let mut names = Unique::new();
        for table in root.tables("t") {
            let name = table.required_name("name").unwrap();
            names.claim(&name, &table.place_of("name"), table.diagnostics());
        }
        assert!(names.contains("a"));
    });
    assert_eq!(found, ["t.toml:4: t[a].name: `a` is taken already at t.toml:2; choose another"]);
}

#[test]
fn dates_are_dates() {
    let found = read(
        "a = 2027-03-31\nb = \"2027-03-31\"\nc = 2027-03-31T10:00:00Z\nd = 2027-03-31T10:00:00\n",
        |root| {
            assert_eq!(root.date("a").unwrap().day, 31);
            assert!(root.date("b").is_none());
            assert!(root.datetime("c").is_some());
            assert!(root.datetime("d").is_none());
        },
    );
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_line_that_may_hold_a_secret_is_never_shown() {
    let diagnostics = Diagnostics::new();
    let document = Document::from_text("t.toml", "password = \"hunter2\"\nport = \"x\"\n");
    if let Some(root) = document.root(&diagnostics) {
        assert!(root.table("password").is_none());
        assert!(root.integer("port", 0..=1).is_none());
    }
    let found = diagnostics.into_vec();
    let rendered: String = found.iter().map(super::Diagnostic::render).collect();
    assert!(!rendered.contains("hunter2"), "{rendered}");
    assert!(rendered.contains(" 2 | port = \"x\""), "{rendered}");
    let json = serde_json::to_string(&found).unwrap();
    assert!(!json.contains("hunter2") && json.contains("\"severity\":\"error\""), "{json}");
}

#[test]
fn a_load_without_value_never_passes() {
    let diagnostics = Diagnostics::new();
    assert!(diagnostics.finish::<()>(None).is_err());
    let diagnostics = Diagnostics::new();
    assert!(diagnostics.finish(Some(())).is_ok());
}

#[test]
fn integers_beyond_the_range_are_refused_not_wrapped() {
    let found = read("a = -1\nb = 99999999999999999999\n", |root| {
        assert_eq!(root.integer("a", 0..=10), None);
        assert_eq!(root.integer("b", 0..=u64::MAX), None);
    });
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn nesting_is_bounded_and_refused() {
    for deep in ["a = ".to_owned() + &"[".repeat(200_000), "a = ".to_owned() + &"{b=".repeat(200_000)] {
        let found = read(&deep, |_| {});
        assert!(found.iter().any(|fault| fault.contains("not valid TOML")), "accepted");
        assert!(found.len() <= super::SYNTAX_ERRORS_MAX);
    }
    let dotted = "a.".repeat(100_000) + "a = 1";
    assert!(!read(&dotted, |_| {}).is_empty());
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_a_line_of_its_own(text in "[\\[\\]{}=\"'#a-c0-9_.,:\\-\\n \\\\\\PC]{0,200}") {
        let diagnostics = Diagnostics::new();
        let document = Document::from_text("t.toml", text.as_str());
        if let Some(root) = document.root(&diagnostics) {
            for key in root.rest() {
                if let Some(shape) = root.shape(&key) {
                    shape.value.abandon();
                }
            }
        }
        let lines = text.split('\n').count();
        for found in diagnostics.into_vec() {
            proptest::prop_assert!((1..=lines).contains(&found.line), "{found} of {lines} lines");
        }
    }
}
