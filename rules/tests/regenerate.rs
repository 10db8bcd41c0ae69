//! The visitor's generator, and the test that keeps its output true.
//!
//! `statement/generated.rs` is written from the protobuf description that ships inside the pg_query crate and from
//! `statement/dispositions.txt`. This test generates it anew and compares; a message or field of the description that
//! the list does not mention, and an entry of the list that the description lacks, fail it. To accept a change:
//! `UPDATE_GENERATED=1 cargo test --release -p pgturnstile-rules --test regenerate`.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails so"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use heck::{ToSnakeCase, ToUpperCamelCase};
use syn::visit::{self, Visit};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Disposition {
    Handled,
    Structural,
    Refused,
}

#[derive(Clone)]
struct Field {
    name: String,
    kind: String,
    repeated: bool,
}

struct Message {
    name: String,
    fields: Vec<Field>,
}

struct NodeEntry {
    disposition: Disposition,
    statement: Option<(String, String)>,
    fields: BTreeMap<String, Disposition>,
}

/// Messages of the description that are no part of a parse tree.
const OUTSIDE: &[&str] = &["ParseResult", "ScanResult", "ScanToken", "SummaryResult", "Node"];

fn statement_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/statement")
}

/// The description's path, by `cargo metadata`: the crate that this workspace's lock file names.
fn description() -> String {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8(rustc.stdout).expect("rustc speaks UTF-8");
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).expect("rustc names its host");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata speaks JSON");
    let manifest = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .find(|p| p["name"] == "pg_query")
        .and_then(|p| p["manifest_path"].as_str())
        .expect("pg_query is a dependency");
    let path = Path::new(manifest).with_file_name("libpg_query").join("protobuf/pg_query.proto");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Reads the subset of proto3 that the description uses: top-level messages with plain fields and one-level oneofs.
fn messages(proto: &str) -> Vec<Message> {
    let mut found: Vec<Message> = Vec::new();
    let mut depth = 0usize;
    let mut inside = false;
    for raw in proto.lines() {
        let line = raw.split("//").next().unwrap_or("").trim();
        if depth == 0 && (line.starts_with("message ") || line.starts_with("enum ")) {
            inside = line.starts_with("message ");
            if inside {
                let name = line["message ".len()..].trim_end_matches('{').trim().to_owned();
                found.push(Message { name, fields: Vec::new() });
            }
        }
        if inside && depth > 0 && line.contains('=') && line.contains(';') {
            let repeated = line.starts_with("repeated ");
            let mut words = line.trim_start_matches("repeated ").split_whitespace();
            if let (Some(kind), Some(name), Some("=")) = (words.next(), words.next(), words.next()) {
                let field = Field { name: name.to_owned(), kind: kind.to_owned(), repeated };
                found.last_mut().expect("inside a message").fields.push(field);
            }
        }
        depth += line.matches('{').count();
        depth -= line.matches('}').count();
    }
    found
}

fn dispositions() -> BTreeMap<String, NodeEntry> {
    let path = statement_dir().join("dispositions.txt");
    let text = std::fs::read_to_string(&path).expect("dispositions.txt");
    let mut entries: BTreeMap<String, NodeEntry> = BTreeMap::new();
    let mut current = String::new();
    for (index, line) in text.lines().enumerate() {
        let at = index + 1;
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let parse = |word: &str| match word {
            "handled" => Disposition::Handled,
            "structural" => Disposition::Structural,
            "refused" => Disposition::Refused,
            other => panic!("dispositions.txt:{at}: {other:?} is no disposition"),
        };
        if line.starts_with("node ") {
            current = words[1].to_owned();
            let statement = (words.len() > 3).then(|| (words[3].to_owned(), words[4..].join(" ")));
            let entry = NodeEntry { disposition: parse(words[2]), statement, fields: BTreeMap::new() };
            assert!(
                entries.insert(current.clone(), entry).is_none(),
                "dispositions.txt:{at}: {current} twice"
            );
        } else {
            let node =
                entries.get_mut(&current).unwrap_or_else(|| panic!("dispositions.txt:{at}: no node above"));
            let twice = node.fields.insert(words[0].to_owned(), parse(words[1]));
            assert!(twice.is_none(), "dispositions.txt:{at}: {current}.{} twice", words[0]);
        }
    }
    entries
}

/// Every pair of the description is on the list, and the reverse.
fn check_complete(messages: &[Message], list: &BTreeMap<String, NodeEntry>) {
    let mut wrong = Vec::new();
    let mut known: BTreeSet<(String, String)> = BTreeSet::new();
    for message in messages {
        let Some(entry) = list.get(&message.name) else {
            wrong.push(format!("node {} has no disposition", message.name));
            continue;
        };
        for field in &message.fields {
            known.insert((message.name.clone(), field.name.clone()));
            match entry.fields.get(&field.name) {
                None => wrong.push(format!("{}.{} has no disposition", message.name, field.name)),
                Some(Disposition::Structural | Disposition::Handled)
                    if list.get(&field.kind).is_some_and(|k| k.disposition == Disposition::Refused) =>
                {
                    wrong.push(format!(
                        "{}.{} holds {}, which is refused",
                        message.name, field.name, field.kind
                    ));
                }
                Some(Disposition::Handled) if entry.disposition != Disposition::Handled => {
                    wrong.push(format!("{}.{} is handled in a node that is not", message.name, field.name));
                }
                Some(_) => {}
            }
        }
    }
    for (node, entry) in list {
        for field in entry.fields.keys() {
            if !known.contains(&(node.clone(), field.clone())) {
                wrong.push(format!("{node}.{field} is not in the description"));
            }
        }
    }
    assert!(wrong.is_empty(), "dispositions.txt:\n  {}", wrong.join("\n  "));
}

/// A field's name as prost spells it.
fn ident(name: &str) -> String {
    let snake = name.to_snake_case();
    if ["type", "override", "virtual", "abstract", "final", "box"].contains(&snake.as_str()) {
        format!("r#{snake}")
    } else {
        snake
    }
}

fn class_variant(class: &str) -> String {
    class.split(['.', '_']).map(|w| w.to_upper_camel_case()).collect()
}

fn generate(messages: &[Message], list: &BTreeMap<String, NodeEntry>) -> String {
    let tree: Vec<&Message> = messages.iter().filter(|m| !OUTSIDE.contains(&m.name.as_str())).collect();
    let node = messages.iter().find(|m| m.name == "Node").expect("the description has Node");
    let is_message = |kind: &str| tree.iter().any(|m| m.name == kind);
    let mut out = String::from(
        "//! @generated by rules/tests/regenerate.rs from pg_query's protobuf description and dispositions.txt: do not edit.\n\
         //!\n\
         //! Owns: the visit of every field of every node, and whether two nodes are alike. May not: decide anything. Each\n\
         //! pattern lists all fields, so that a field which a later grammar adds breaks the build. Exempt from the length\n\
         //! limits of the house style.\n\n\
         #![allow(clippy::wrong_self_convention, reason = \"methods are named after nodes: IntoClause, IsPredicate\")]\n\n\
         use pg_query::protobuf as pb;\n\
         use pg_query::protobuf::node::Node as N;\n\n\
         use crate::class::Class;\n\n",
    );
    out.push_str(
        "/// One pass over a tree. Each method visits one kind of node; left as they are, all together visit everything.\n\
         pub(super) trait Visitor<'t> {\n    /// A node or field that the raw parser never yields.\n    fn refused(&mut self, what: &'static str);\n\n\
         \x20   /// Any node.\n    fn node(&mut self, node: &'t pb::Node) {\n        dispatch(self, node);\n    }\n\n\
         \x20   /// Any list of nodes.\n    fn nodes(&mut self, nodes: &'t [pb::Node]) {\n        for node in nodes {\n            self.node(node);\n        }\n    }\n",
    );
    let live: Vec<&&Message> =
        tree.iter().filter(|m| list[&m.name].disposition != Disposition::Refused).collect();
    for message in &live {
        let (method, kind) = (message.name.to_snake_case(), message.name.to_upper_camel_case());
        let _ = writeln!(
            out,
            "\n    /// {}\n    #[inline]\n    fn {method}(&mut self, n: &'t pb::{kind}) {{\n        walk_{method}(self, n);\n    }}",
            message.name
        );
    }
    out.push_str("}\n\n/// Calls the visitor's method for the node's kind.\npub(super) fn dispatch<'t, V: Visitor<'t> + ?Sized>(v: &mut V, node: &'t pb::Node) {\n    let pb::Node { node } = node;\n    // A hole in a list (an operator's missing left argument, an open slice) holds nothing.\n    if let Some(node) = node {\n        dispatch_kind(v, node);\n    }\n}\n\n/// The same for the node's content.\npub(super) fn dispatch_kind<'t, V: Visitor<'t> + ?Sized>(v: &mut V, node: &'t N) {\n    match node {\n");
    for field in &node.fields {
        let variant = field.name.to_upper_camel_case();
        if list[&field.kind].disposition == Disposition::Refused {
            let _ = writeln!(out, "        N::{variant}(_) => v.refused(\"{}\"),", field.kind);
        } else {
            let _ = writeln!(out, "        N::{variant}(n) => v.{}(n),", field.kind.to_snake_case());
        }
    }
    out.push_str("    }\n}\n\n/// Class and command tag of a statement's node, as dispositions.txt states them; `None` for every other node.\npub(super) fn statement(node: &N) -> Option<(Class, &'static str)> {\n    match node {\n");
    for field in &node.fields {
        let variant = field.name.to_upper_camel_case();
        match &list[&field.kind].statement {
            Some((class, tag)) => {
                let _ = writeln!(
                    out,
                    "        N::{variant}(_) => Some((Class::{}, \"{tag}\")),",
                    class_variant(class)
                );
            }
            None => {
                let _ = writeln!(out, "        N::{variant}(_) => None,");
            }
        }
    }
    out.push_str("    }\n}\n");
    for message in &live {
        walk(&mut out, message, &list[&message.name], &is_message);
    }
    comparison(&mut out, node, list);
    for message in live.iter().filter(|m| compared(&m.name, list)) {
        alike(&mut out, message, &list[&message.name], &is_message);
    }
    out
}

/// What stands in no expression is compared with nothing: statements, but for queries.
fn compared(name: &str, list: &BTreeMap<String, NodeEntry>) -> bool {
    let entry = &list[name];
    entry.disposition != Disposition::Refused && (entry.statement.is_none() || name == "SelectStmt")
}

/// Fields that say where and how a thing was written, not what it is.
fn says_how(field: &Field) -> bool {
    let place = ["location", "rexpr_list_start", "rexpr_list_end", "list_start", "list_end"];
    field.kind == "CoercionForm" || place.contains(&field.name.as_str()) || field.name.ends_with("_location")
}

fn comparison(out: &mut String, node: &Message, list: &BTreeMap<String, NodeEntry>) {
    out.push_str(
        "\n/// Compares two nodes below those that are compared.\n\
         pub(super) type Same<'s, 't> = &'s dyn Fn(&'t pb::Node, &'t pb::Node) -> bool;\n\n\
         fn both<'t, T>(a: Option<&'t T>, b: Option<&'t T>, same: impl FnOnce(&'t T, &'t T) -> bool) -> bool {\n\
         \x20   match (a, b) {\n        (Some(a), Some(b)) => same(a, b),\n        (None, None) => true,\n\
         \x20       (Some(_), None) | (None, Some(_)) => false,\n    }\n}\n\n\
         fn all<'t, T>(a: &'t [T], b: &'t [T], mut same: impl FnMut(&'t T, &'t T) -> bool) -> bool {\n\
         \x20   a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))\n}\n\n\
         /// Whether two nodes are of one kind and the same, but for where they stand and how they are written. What stands in\n\
         /// no expression is like nothing.\n\
         pub(super) fn alike<'t>(same: Same<'_, 't>, a: &'t N, b: &'t N) -> bool {\n    match a {\n",
    );
    for field in &node.fields {
        let (variant, method) = (field.name.to_upper_camel_case(), field.kind.to_snake_case());
        if compared(&field.kind, list) {
            let _ = writeln!(
                out,
                "        N::{variant}(a) => matches!(b, N::{variant}(b) if alike_{method}(same, a, b)),"
            );
        } else {
            let _ = writeln!(out, "        N::{variant}(_) => false,");
        }
    }
    out.push_str("    }\n}\n");
}

fn alike(out: &mut String, message: &Message, entry: &NodeEntry, is_message: &dyn Fn(&str) -> bool) {
    let (method, kind) = (message.name.to_snake_case(), message.name.to_upper_camel_case());
    let mut terms: Vec<String> = Vec::new();
    for field in &message.fields {
        if entry.fields[&field.name] == Disposition::Refused || says_how(field) {
            continue;
        }
        let oneof = message.name == "A_Const" && field.name.ends_with("val");
        let name = if oneof { "val".to_owned() } else { ident(&field.name) };
        let below = match field.kind.as_str() {
            "Node" => "|a, b| same(a, b)".to_owned(),
            other => format!("|a, b| alike_{}(same, a, b)", other.to_snake_case()),
        };
        let term = if oneof || !(field.kind == "Node" || is_message(&field.kind)) {
            format!("a.{name} == b.{name}")
        } else if field.repeated {
            let below = if field.kind == "Node" { "same".to_owned() } else { below };
            format!("all(&a.{name}, &b.{name}, {below})")
        } else {
            format!("both(a.{name}.as_ref(), b.{name}.as_ref(), {below})")
        };
        if !terms.contains(&term) {
            terms.push(term);
        }
    }
    let same = if terms.iter().any(|term| term.contains("same")) { "same" } else { "_same" };
    let (a, b) = if terms.is_empty() { ("_a", "_b") } else { ("a", "b") };
    let body = if terms.is_empty() { "true".to_owned() } else { terms.join(" && ") };
    let _ = write!(
        out,
        "\n#[inline(never)]\nfn alike_{method}<'t>({same}: Same<'_, 't>, {a}: &'t pb::{kind}, {b}: &'t pb::{kind}) -> bool {{\n    {body}\n}}\n",
    );
}

fn walk(out: &mut String, message: &Message, entry: &NodeEntry, is_message: &dyn Fn(&str) -> bool) {
    let (method, kind) = (message.name.to_snake_case(), message.name.to_upper_camel_case());
    let oneof = message.name == "A_Const";
    let mut pattern = String::new();
    let mut body = String::new();
    for field in &message.fields {
        let name = ident(&field.name);
        let disposition = entry.fields[&field.name];
        if oneof {
            // The five literal kinds are one oneof in prost: leaves all, read by hand where a constant matters.
            let name = if field.name.ends_with("val") { "val".to_owned() } else { name };
            let part = format!("{name}: _, ");
            if !pattern.contains(&part) {
                pattern.push_str(&part);
            }
            continue;
        }
        let message_kind = field.kind == "Node" || is_message(&field.kind);
        if disposition == Disposition::Refused {
            let _ = write!(pattern, "{name}, ");
            let test = if field.repeated {
                format!("!{name}.is_empty()")
            } else if message_kind {
                format!("{name}.is_some()")
            } else if field.kind == "string" {
                format!("!{name}.is_empty()")
            } else if field.kind == "bool" {
                format!("*{name}")
            } else if field.kind == "double" {
                format!("*{name} != 0.0")
            } else {
                format!("*{name} != 0")
            };
            let _ = writeln!(
                body,
                "    if {test} {{\n        v.refused(\"{}.{}\");\n    }}",
                message.name, field.name
            );
        } else if !message_kind {
            let _ = write!(pattern, "{name}: _, ");
        } else {
            let _ = write!(pattern, "{name}, ");
            let visit = if field.kind == "Node" { "node".to_owned() } else { field.kind.to_snake_case() };
            if field.repeated && field.kind == "Node" {
                let _ = writeln!(body, "    v.nodes({name});");
            } else if field.repeated {
                let _ = writeln!(body, "    for x in {name} {{\n        v.{visit}(x);\n    }}");
            } else {
                let _ = writeln!(body, "    if let Some(x) = {name} {{\n        v.{visit}(x);\n    }}");
            }
        }
    }
    let visitor = if body.is_empty() { "_v" } else { "v" };
    let pattern = pattern.trim_end_matches(", ");
    let bound = if pattern.is_empty() { "{}".to_owned() } else { format!("{{ {pattern} }}") };
    let _ = write!(
        out,
        "\n/// Every field of {}.\n#[inline(never)]\npub(super) fn walk_{method}<'t, V: Visitor<'t> + ?Sized>({visitor}: &mut V, n: &'t pb::{kind}) {{\n    let pb::{kind} {bound} = n;\n{body}}}\n",
        message.name
    );
}

fn formatted(text: String) -> String {
    let dir = tempfile::tempdir().expect("scratch folder");
    let path = dir.path().join("generated.rs");
    std::fs::write(&path, text).expect("scratch file");
    let status = Command::new("rustfmt")
        .args(["--edition", "2024", "--config", "max_width=110,use_small_heuristics=Max"])
        .arg(&path)
        .status()
        .expect("rustfmt runs");
    assert!(status.success(), "rustfmt refuses what the generator wrote");
    std::fs::read_to_string(&path).expect("scratch file")
}

#[test]
fn generated_visitor_is_current_and_the_list_is_whole() {
    let messages: Vec<Message> = messages(&description());
    let list = dispositions();
    let tree: Vec<Message> = messages
        .iter()
        .filter(|m| !OUTSIDE.contains(&m.name.as_str()))
        .map(|m| Message { name: m.name.clone(), fields: m.fields.clone() })
        .collect();
    assert!(tree.len() > 250, "the description was read: {} messages", tree.len());
    check_complete(&tree, &list);
    let fresh = formatted(generate(&messages, &list));
    let path = statement_dir().join("generated.rs");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, &fresh).expect("generated.rs is writable");
        return;
    }
    let present = std::fs::read_to_string(&path).expect("generated.rs");
    assert!(
        present == fresh,
        "generated.rs is stale: run this test with UPDATE_GENERATED=1 and review the change"
    );
}

/// Patterns on the grammar's structs in the hand-written walker.
#[derive(Default)]
struct Patterns {
    file: String,
    /// Struct to its fields; `true` where some pattern binds the field.
    seen: BTreeMap<String, BTreeMap<String, bool>>,
    open: Vec<String>,
}

impl<'ast> Visit<'ast> for Patterns {
    fn visit_pat_struct(&mut self, pattern: &'ast syn::PatStruct) {
        let segments: Vec<String> = pattern.path.segments.iter().map(|s| s.ident.to_string()).collect();
        if let [root, name] = segments.as_slice()
            && root == "pb"
        {
            if pattern.rest.is_some() {
                self.open.push(format!("{}: a pattern on {name} has `..`", self.file));
            }
            let fields = self.seen.entry(name.clone()).or_default();
            for field in &pattern.fields {
                let syn::Member::Named(ident) = &field.member else { continue };
                let bound = !matches!(*field.pat, syn::Pat::Wild(_));
                *fields.entry(ident.to_string().trim_start_matches("r#").to_owned()).or_default() |= bound;
            }
        }
        visit::visit_pat_struct(self, pattern);
    }
}

/// Every source file of a module and of those below it.
fn sources_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { sources_below(&path) } else { vec![path] }).collect()
}

#[test]
fn the_list_says_what_the_hand_written_code_does() {
    let mut patterns = Patterns::default();
    for path in sources_below(&statement_dir().join("walk")) {
        patterns.file = path.display().to_string();
        let source = std::fs::read_to_string(&path).expect("source");
        patterns.visit_file(&syn::parse_file(&source).expect("Rust"));
    }
    let mut wrong = patterns.open;
    for (node, entry) in dispositions() {
        let seen = patterns.seen.get(&node.to_upper_camel_case());
        if seen.is_some() != (entry.disposition == Disposition::Handled) {
            wrong.push(format!("{node} is {:?}, taken apart by hand: {}", entry.disposition, seen.is_some()));
        }
        for (field, disposition) in &entry.fields {
            let bound = seen.and_then(|s| s.get(field.to_snake_case().as_str())).copied().unwrap_or(false);
            let oneof = node == "A_Const" && field.ends_with("val");
            match disposition {
                Disposition::Handled if !bound && !oneof => {
                    wrong.push(format!("{node}.{field} is handled, but bound nowhere"))
                }
                Disposition::Structural if bound && !oneof => {
                    wrong.push(format!("{node}.{field} is structural, but bound by hand"))
                }
                Disposition::Handled | Disposition::Structural | Disposition::Refused => {}
            }
        }
    }
    assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
}
