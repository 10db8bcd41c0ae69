//! The shape of the sources: what may use what, how long a module and a function may be, what must stand above it.
//!
//! Owns: the one-way order of the design and the house rules that a compiler does not check. It parses every source file
//! of the workspace and lists every violation at once. May not: excuse one; the order is changed in the design first.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a panic here is a failed test, which is what must happen"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Longest module, in lines outside its tests.
const MODULE_LINES_MAX: usize = 600;

/// Longest function, in lines that hold code.
const FUNCTION_LINES_MAX: usize = 70;

/// A part of a crate and the parts it may use. A part may always use itself.
struct Part {
    /// Module paths that belong to it; the longest prefix that fits decides.
    modules: &'static [&'static str],
    /// Module paths of the parts it may use.
    uses: &'static [&'static str],
}

/// What a session stands on, and more.
macro_rules! below_session_and {
    ($($more:literal),*) => {
        &[
            "config",
            "net::stream",
            "net::tls",
            "net::conduit",
            "net::close",
            "evidence",
            "identity",
            "backend",
            "approval",
            $($more,)*
        ]
    };
}

/// `src/`: the sockets of both legs and the buffer between them, config, evidence, identity and backend (which do not know
/// each other), session, net, operate (what an operator's machinery sees), serve, cli.
const GATEWAY: &[Part] = &[
    Part { modules: &["net::stream"], uses: &[] },
    Part { modules: &["net::tls"], uses: &["net::stream"] },
    // The linear buffer of one direction: knows bytes and positions, nothing of sockets or sessions.
    Part { modules: &["net::conduit"], uses: &[] },
    // The file of a Unix socket that listens.
    Part { modules: &["net::local"], uses: &["config"] },
    // The end of a connection, for any stream.
    Part { modules: &["net::close"], uses: &[] },
    Part { modules: &["config"], uses: &[] },
    Part { modules: &["evidence"], uses: &["config"] },
    Part { modules: &["identity"], uses: &["config", "net::stream", "net::tls"] },
    Part { modules: &["backend"], uses: &["config", "net::stream", "net::tls", "evidence"] },
    // Holds and who decides them: knows no session, no token and no record.
    Part { modules: &["approval"], uses: &[] },
    Part { modules: &["session"], uses: below_session_and![] },
    Part { modules: &["net"], uses: below_session_and!["session", "net::local"] },
    Part {
        modules: &["operate"],
        uses: &[
            "config",
            "net::stream",
            "net::tls",
            "net::local",
            "evidence",
            "identity",
            "approval",
            "session",
        ],
    },
    Part {
        modules: &["serve"],
        uses: &[
            "operate",
            "config",
            "net::local",
            "net::stream",
            "net::tls",
            "net::conduit",
            "evidence",
            "identity",
            "backend",
            "approval",
            "session",
            "net",
        ],
    },
    // A command of its own: reads a target as the catalog's reader does, and knows no session of a client.
    Part { modules: &["scan"], uses: &["config", "net::stream", "net::tls", "evidence", "backend"] },
    // What people do with the evidence: reads it, without the gateway.
    Part { modules: &["audit"], uses: &["evidence"] },
    Part {
        modules: &["cli"],
        uses: &[
            "audit",
            "config",
            "scan",
            "net::stream",
            "net::tls",
            "evidence",
            "identity",
            "backend",
            "session",
            "net",
            "serve",
        ],
    },
];

/// `rules/src/`.
const RULES: &[Part] = &[
    Part { modules: &["class"], uses: &[] },
    Part { modules: &["document"], uses: &[] },
    Part { modules: &["statement"], uses: &["class"] },
    Part { modules: &["catalog"], uses: &["class", "statement"] },
    Part { modules: &["resolve"], uses: &["class", "statement", "catalog"] },
    Part { modules: &["mask"], uses: &["statement"] },
    Part { modules: &["policy"], uses: &["class", "document", "statement", "catalog", "resolve", "mask"] },
];

/// Crates of this workspace that a crate may name, in code and in its manifest.
const CRATES: [(&str, &[&str]); 4] = [
    ("proto", &[]),
    ("rules/sweep", &[]),
    ("rules", &["pgturnstile_proto", "pgturnstile_sweep"]),
    (".", &["pgturnstile_proto", "pgturnstile_rules"]),
];

const WORKSPACE_CRATES: [&str; 5] =
    ["pgturnstile", "pgturnstile_proto", "pgturnstile_rules", "pgturnstile_sweep", "pgturnstile_tests"];

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("the tests crate stands in the workspace's folder").to_path_buf()
}

/// A source file.
struct Source {
    /// Path from the workspace's folder.
    shown: String,
    /// Module path inside its crate, without `crate`.
    module: Vec<String>,
    text: String,
    tree: syn::File,
}

impl Source {
    fn is_test(&self) -> bool {
        self.module
            .iter()
            .any(|module| module == "tests" || module.ends_with("_tests") || module == "proptests")
            || self.shown.starts_with("tests/")
            || self.shown.starts_with("bench/")
            || self.shown.contains("/tests/")
            || self.shown.contains("/benches/")
    }

    /// The tree without items that are compiled for tests only.
    fn shipped(&self) -> TokenStream {
        self.tree
            .items
            .iter()
            .filter(|item| !for_tests(attributes(item)))
            .map(ToTokens::to_token_stream)
            .collect()
    }
}

/// Every Rust file below `folder`, with module paths counted from it.
fn sources(folder: &str) -> Vec<Source> {
    let root = root();
    let base = root.join(folder);
    let mut files = Vec::new();
    walk(&base, &mut files);
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let tree = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let inside = path.strip_prefix(&base).expect("found below the folder").with_extension("");
            let mut module: Vec<String> =
                inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            if module.last().is_some_and(|last| last == "mod" || last == "lib" || last == "main") {
                module.pop();
            }
            let shown = path.strip_prefix(&root).expect("found below the root").display().to_string();
            Source { shown, module, text, tree }
        })
        .collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "sweep" && !name.starts_with('.') {
            walk(&path, files);
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
}

fn every_source() -> Vec<Source> {
    ["src", "proto", "rules/src", "rules/tests", "rules/sweep/src", "bench", "tests"]
        .iter()
        .flat_map(|folder| sources(folder))
        .collect()
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item;
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        // An item that the parser does not know is judged like shipped code.
        Item::Verbatim(_) | _ => &[],
    }
}

fn for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && attribute.meta.to_token_stream().to_string().contains("test"))
    })
}

/// Flattens a stream into identifiers, punctuation and group marks, each with its line.
fn flatten(stream: TokenStream, into: &mut Vec<(String, usize)>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                into.push(("{".to_owned(), line));
                flatten(group.stream(), into);
                into.push(("}".to_owned(), group.span_close().start().line));
            }
            TokenTree::Ident(ident) => into.push((ident.to_string(), line)),
            TokenTree::Punct(punct) => into.push((punct.to_string(), line)),
            TokenTree::Literal(_) => into.push(("\"".to_owned(), line)),
        }
    }
}

/// Every path that begins with `crate`, `super` or the name of a crate of the workspace, groups spread out:
/// `crate::{a::b, c}` is `crate::a::b` and `crate::c`. With the line.
fn paths(stream: TokenStream) -> Vec<(Vec<String>, usize)> {
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let (word, line) = &tokens[at];
        let begins = matches!(word.as_str(), "crate" | "super") || WORKSPACE_CRATES.contains(&word.as_str());
        let continued = at > 0 && tokens[at - 1].0 == ":";
        if begins && !continued {
            at = spread(&tokens, at, &[], *line, &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path at `at`; returns where it ends.
fn spread(
    tokens: &[(String, usize)],
    mut at: usize,
    prefix: &[String],
    line: usize,
    found: &mut Vec<(Vec<String>, usize)>,
) -> usize {
    let mut path = prefix.to_vec();
    while let Some((word, _)) = tokens.get(at) {
        if word == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|(word, _)| word != "}") {
                at = spread(tokens, at, &path, line, found);
                if tokens.get(at).is_some_and(|(word, _)| word == ",") {
                    at += 1;
                }
            }
            return at + 1;
        }
        if !word.starts_with(|c: char| c.is_alphabetic() || c == '_') && word != "*" {
            // Something that no path holds (a macro's pattern): step over it.
            at += 1;
            break;
        }
        path.push(word.clone());
        at += 1;
        let colons = tokens.get(at).is_some_and(|(word, _)| word == ":")
            && tokens.get(at + 1).is_some_and(|(word, _)| word == ":");
        if !colons {
            break;
        }
        at += 2;
    }
    // `use a as b` inside a group.
    if tokens.get(at).is_some_and(|(word, _)| word == "as") {
        at += 2;
    }
    found.push((path, line));
    at
}

/// The path inside the crate that `path`, written in `module`, leads to; `None` when it leaves the crate.
fn resolve(path: &[String], module: &[String]) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "super" => {
            let ups = path.iter().take_while(|word| *word == "super").count();
            let mut whole = module[..module.len().saturating_sub(ups)].to_vec();
            whole.extend(path[ups..].iter().cloned());
            Some(whole)
        }
        _ => None,
    }
}

fn part_of<'p>(parts: &'p [Part], path: &[String]) -> Option<(&'static str, &'p Part)> {
    let joined = path.join("::");
    parts
        .iter()
        .flat_map(|part| part.modules.iter().map(move |module| (*module, part)))
        .filter(|(module, _)| joined == **module || joined.starts_with(&format!("{module}::")))
        .max_by_key(|(module, _)| module.len())
}

fn edges(source: &Source, parts: &[Part], violations: &mut Vec<String>) {
    if source.is_test() || source.module.is_empty() {
        return;
    }
    let Some((own, part)) = part_of(parts, &source.module) else {
        violations.push(format!("{}: belongs to no part of the design's order", source.shown));
        return;
    };
    for (path, line) in paths(source.shipped()) {
        let Some(target) = resolve(&path, &source.module) else { continue };
        let Some((name, _)) = part_of(parts, &target) else { continue };
        if name != own && !part.uses.contains(&name) {
            violations.push(format!("{}:{line}: `{own}` may not use `{name}`", source.shown));
        }
    }
}

fn assert_none(what: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{what}:\n  {}", violations.join("\n  "));
}

#[test]
fn modules_use_only_what_stands_before_them() {
    let mut violations = Vec::new();
    sources("src").iter().for_each(|source| edges(source, GATEWAY, &mut violations));
    sources("rules/src").iter().for_each(|source| edges(source, RULES, &mut violations));
    assert_none("against the one-way order", &violations);
}

#[test]
fn crates_use_only_what_stands_before_them() {
    let mut violations = Vec::new();
    for (folder, allowed) in CRATES {
        let own = format!(
            "pgturnstile{}",
            folder.trim_start_matches('.').rsplit('/').next().map_or(String::new(), |last| {
                if last.is_empty() { String::new() } else { format!("_{last}") }
            })
        );
        let foreign: Vec<&str> =
            WORKSPACE_CRATES.into_iter().filter(|name| *name != own && !allowed.contains(name)).collect();
        for source in sources(&format!("{folder}/src"))
            .iter()
            .filter(|source| source.shown != "./src/main.rs" && source.shown != "src/main.rs")
        {
            for (path, line) in paths(source.tree.to_token_stream()) {
                if foreign.contains(&path[0].as_str()) {
                    violations.push(format!("{}:{line}: `{own}` may not use `{}`", source.shown, path[0]));
                }
            }
        }
        let manifest =
            fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("the crate's manifest");
        let dependencies = manifest.rsplit_once("\n[dependencies]").map_or("", |(_, rest)| rest);
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        for name in &foreign {
            let key = name.replace('_', "-");
            if dependencies
                .lines()
                .any(|line| line.starts_with(&format!("{key}.")) || line.starts_with(&format!("{key} ")))
            {
                violations.push(format!("{folder}/Cargo.toml: depends on {key}"));
            }
        }
    }
    assert_none("against the order of the crates", &violations);
}

#[test]
fn evidence_is_read_without_the_gateway() {
    const FOREIGN: [&str; 6] = ["tokio", "tokio_rustls", "rustls", "pg_query", "pgwire", "pgturnstile_rules"];
    // The reader's half, as `evidence/mod.rs` names it.
    const READERS: [&str; 16] = [
        "ahead",
        "chain",
        "checkpoint",
        "delivered",
        "describe",
        "diagnose",
        "follow",
        "format",
        "note",
        "read",
        "record",
        "second_place",
        "signed",
        "streams",
        "value",
        "verify",
    ];
    const COMMANDS: [&str; 8] = [
        "verify",
        "reading",
        "audit",
        "replay",
        "evidence_show",
        "evidence_query",
        "evidence_sql",
        "evidence_export",
    ];
    let mut violations = Vec::new();
    for source in sources("src").iter().filter(|source| !source.is_test()) {
        let reader = match source.module.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["evidence", module, ..] => READERS.contains(&module),
            ["audit", ..] => true,
            ["cli", module, ..] => COMMANDS.contains(&module),
            _ => false,
        };
        if !reader {
            continue;
        }
        let mut tokens = Vec::new();
        flatten(source.shipped(), &mut tokens);
        for (word, line) in tokens.iter().filter(|(word, _)| FOREIGN.contains(&word.as_str())) {
            violations.push(format!("{}:{line}: uses {word}", source.shown));
        }
    }
    assert_none("the evidence reader must stand alone", &violations);
}

#[test]
fn modules_and_functions_are_short() {
    let mut violations = Vec::new();
    for source in every_source().iter().filter(|source| !source.shown.ends_with("/generated.rs")) {
        let test_lines: usize = source
            .tree
            .items
            .iter()
            .filter(|item| for_tests(attributes(item)))
            .map(|item| item.span().end().line - item.span().start().line + 1)
            .sum();
        let lines = source.text.lines().count() - test_lines;
        if lines > MODULE_LINES_MAX && !source.is_test() {
            violations.push(format!(
                "{}: {lines} lines outside its tests, at most {MODULE_LINES_MAX}",
                source.shown
            ));
        }
        let mut functions = Functions { source, violations: &mut violations };
        functions.visit_file(&source.tree);
    }
    assert_none("too long", &violations);
}

/// Finds functions that are too long.
struct Functions<'s> {
    source: &'s Source,
    violations: &'s mut Vec<String>,
}

impl Functions<'_> {
    fn judge(&mut self, attributes: &[syn::Attribute], signature: &syn::Signature, block: &syn::Block) {
        // An exception needs its reason where the function stands; clippy's own attribute holds it.
        let excused = attributes.iter().any(|attribute| {
            let text = attribute.meta.to_token_stream().to_string();
            text.contains("too_many_lines") && text.contains("reason")
        });
        let (first, last) = (signature.span().start().line, block.span().end().line);
        let code = self
            .source
            .text
            .lines()
            .skip(first - 1)
            .take(last - first + 1)
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .count();
        if code > FUNCTION_LINES_MAX && !excused {
            let (file, name) = (&self.source.shown, &signature.ident);
            self.violations
                .push(format!("{file}:{first}: fn {name}: {code} lines, at most {FUNCTION_LINES_MAX}"));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.judge(&item.attrs, &item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.judge(&item.attrs, &item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.judge(&item.attrs, &item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

#[test]
fn every_module_says_what_it_owns() {
    let violations: Vec<String> = every_source()
        .iter()
        .filter(|source| {
            let docs = source.tree.attrs.iter().filter(|attribute| attribute.path().is_ident("doc"));
            let text: String = docs.map(|doc| doc.meta.to_token_stream().to_string()).collect();
            text.is_empty() || text.contains("Skeleton")
        })
        .map(|source| source.shown.clone())
        .collect();
    assert_none("without a module doc (//!)", &violations);
}

#[test]
fn only_the_sweep_is_unsafe() {
    let mut violations = Vec::new();
    for source in every_source().iter().filter(|source| !source.shown.starts_with("rules/sweep/")) {
        let mut tokens = Vec::new();
        flatten(source.tree.to_token_stream(), &mut tokens);
        let lines: BTreeSet<usize> =
            tokens.iter().filter(|(word, _)| word == "unsafe").map(|(_, line)| *line).collect();
        violations.extend(lines.iter().map(|line| format!("{}:{line}: unsafe", source.shown)));
    }
    assert_none("unsafe outside rules/sweep", &violations);
}

#[test]
fn nothing_is_left_unfinished_or_ignored() {
    // Put together here so that this file does not hold them.
    let marks = ["TO|DO", "FIX|ME", "X|XX", "for n|ow", "#[ign|ore", "/wo|rk/", "/ro|ot/"]
        .map(|mark| mark.replace('|', ""));
    let mut violations = Vec::new();
    for source in every_source().iter().filter(|source| source.shown != "tests/architecture.rs") {
        for (index, line) in source.text.lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(mark.as_str())) {
                violations.push(format!("{}:{}: {mark}", source.shown, index + 1));
            }
        }
    }
    assert_none("unfinished, ignored, or naming a machine", &violations);
}

#[test]
fn the_top_level_is_the_design_s() {
    const ALLOWED: [&str; 9] =
        ["Cargo.toml", "Cargo.lock", "src", "proto", "rules", "bench", "fuzz", "tests", "docker"];
    let violations: Vec<String> = fs::read_dir(root())
        .expect("the workspace's folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            !(ALLOWED.contains(&name.as_str())
                || name == "README.md"
                || name.starts_with("LICENSE")
                || name.starts_with('.')
                || name == "target")
        })
        .collect();
    assert_none("not in the design's top level", &violations);
}

#[test]
fn a_wrong_edge_is_found_and_a_test_s_is_not() {
    let found = |module: &str, text: &str| {
        let source = Source {
            shown: module.to_owned(),
            module: module.split("::").map(str::to_owned).collect(),
            text: text.to_owned(),
            tree: syn::parse_file(text).expect("a source"),
        };
        let mut violations = Vec::new();
        edges(&source, GATEWAY, &mut violations);
        violations
    };
    assert_eq!(
        found("config::target", "use std::fmt;\n\nuse crate::{config::A, session::B};"),
        ["config::target:3: `config` may not use `session`"]
    );
    assert_eq!(found("evidence::writer", "fn f() { g!(super::super::backend::X) }").len(), 1);
    assert_eq!(found("net::tls", "use super::conduit::X;").len(), 1);
    assert_eq!(found("identity", "use crate::backend::X;").len(), 1);
    assert_eq!(found("elsewhere", "").len(), 1);
    assert!(found("config", "#[cfg(test)]\nmod tests { use crate::session::X; }").is_empty());
    assert!(found("session::relay", "use crate::net::stream::Stream; use super::phase;").is_empty());
}

#[test]
fn the_path_reader_reads_every_form() {
    let read = |text: &str| -> Vec<String> {
        let stream: TokenStream = text.parse().expect("tokens");
        paths(stream).into_iter().map(|(path, _)| path.join("::")).collect()
    };
    assert_eq!(
        read("use crate::{a::b, c::{d, e as f}, g::*};"),
        ["crate::a::b", "crate::c::d", "crate::c::e", "crate::g::*"]
    );
    assert_eq!(read("fn x() { format!(\"{}\", crate::net::tls::ALPN) }"), ["crate::net::tls::ALPN"]);
    assert_eq!(read("let y = super::super::session::X;"), ["super::super::session::X"]);
    assert_eq!(
        read("pub(crate) fn z(a: &pgturnstile_rules::class::Class) {}"),
        ["crate", "pgturnstile_rules::class::Class"]
    );
    let module = ["net".to_owned(), "tls".to_owned()];
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(resolve(&path("super::stream"), &module), Some(path("net::stream")));
    assert_eq!(part_of(GATEWAY, &path("net::tls::ALPN")).map(|(name, _)| name), Some("net::tls"));
    assert_eq!(part_of(GATEWAY, &path("net::listener")).map(|(name, _)| name), Some("net"));
    assert!(part_of(GATEWAY, &path("network")).is_none());
}
