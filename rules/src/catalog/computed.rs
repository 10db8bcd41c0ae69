//! Expressions that a write computes of its row: generated columns, indexes over expressions or with predicates, partition keys.
//!
//! Owns: which columns stand together in one of them, as [`KeyRule::Computed`]. May not: judge what an answer tells. Whether such an
//! expression fails answers whoever writes one of its columns about the others. One that cannot fail, save by length, answers nothing
//! and is left out, unless its value decides more than what is stored: in a predicate, a unique index, a partition key.
//! Follows the server's own analysed trees; one that does not read is of the whole row.

use std::collections::HashMap;
use std::sync::Arc;

use super::keys::{Key, KeyRule, RawKey};
use super::load::Raw;
use super::tree;

/// Such expressions of one object, as they are read.
#[derive(Debug)]
pub(super) struct RawComputed {
    /// Oid of the relation.
    pub(super) relation: u32,
    /// Name of the column, the index or the relation.
    pub(super) name: Arc<str>,
    /// The values decide more than what is stored.
    pub(super) decides: bool,
    /// The expressions' tree.
    pub(super) expressions: Box<str>,
    /// The predicate's tree; empty where there is none.
    pub(super) predicate: Box<str>,
}

/// The keys of all of them.
pub(super) fn keys(raw: &Raw) -> Vec<RawKey> {
    let names: HashMap<u32, &str> = raw
        .builtins
        .iter()
        .filter(|routine| &*routine.schema == "pg_catalog")
        .map(|routine| (routine.oid, &*routine.name))
        .collect();
    let total = |oid: u32| names.get(&oid).is_some_and(|name| is_total(name));
    let mut all = Vec::new();
    for of in &raw.computed {
        let mut add = |columns: Box<[i16]>| {
            let key = Key { name: Arc::clone(&of.name), columns, rule: KeyRule::Computed };
            all.push((of.relation, key, Box::from("")));
        };
        for (text, predicate) in [(&of.expressions, false), (&of.predicate, true)] {
            match tree::expressions(text, predicate) {
                Some(found) => {
                    for one in found {
                        let fails = !one.plain || !one.functions.iter().all(|oid| total(*oid));
                        if of.decides || predicate || fails {
                            add(one.columns.into());
                        }
                    }
                }
                None => add(Box::new([0])),
            }
        }
    }
    all
}

/// Types whose comparisons are functions named by the type and an ending of [`COMPARES`].
const COMPARED: [&str; 27] = [
    "text",
    "text_",
    "bpchar",
    "name",
    "bool",
    "char",
    "oid",
    "int2",
    "int4",
    "int8",
    "int24",
    "int42",
    "int28",
    "int82",
    "int48",
    "int84",
    "float4",
    "float8",
    "float48",
    "float84",
    "numeric_",
    "date_",
    "time_",
    "timestamp_",
    "timestamptz_",
    "uuid_",
    "bytea",
];
const COMPARES: [&str; 6] = ["eq", "ne", "lt", "le", "gt", "ge"];

/// Whether a built-in of that name fails for no value, save for its length.
pub(super) fn is_total(name: &str) -> bool {
    let compares =
        || COMPARED.iter().any(|of| name.strip_prefix(of).is_some_and(|ending| COMPARES.contains(&ending)));
    matches!(
        name,
        "textcat"
            | "lower"
            | "upper"
            | "initcap"
            | "btrim"
            | "ltrim"
            | "rtrim"
            | "length"
            | "char_length"
            | "character_length"
            | "octet_length"
            | "bit_length"
            | "md5"
            | "left"
            | "right"
            | "reverse"
            | "replace"
            | "translate"
            | "strpos"
            | "to_tsvector"
            | "tsvector_concat"
    ) || compares()
}
