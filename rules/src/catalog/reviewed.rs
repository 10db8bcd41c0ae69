//! Code of extensions that was reviewed: functions in C that compute from their arguments, as built-ins do.
//!
//! Owns: the list of libraries, and what of a catalog stands on their functions alone. May not: speak of functions that a text calls by
//! name; those need their permits. Fails closed: what is not on the list, or not in C, is code of users.
//!
//! Only a superuser creates or replaces a function in the languages `c` and `internal`, so what such a function runs is told by its library
//! and symbol. That is used for what no text calls by name: input, output and their kin of types, functions behind operators, casts and
//! operator classes, and aggregates. Operators and aggregates count where a superuser owns them, too: anybody may give such a function
//! another name. A function in SQL or PL/pgSQL stays code of users, also where an extension brings it; so does one with settings of its own.

use std::collections::{HashMap, HashSet};

use super::FIRST_USER_OID;
use super::builtins::Category;
use super::functions::category;
use super::load::{LoadError, Raw, RawEverywhere, Row};

/// A library whose functions compute from their arguments: none reads a table, runs SQL, or calls what it was not given.
struct Library {
    /// Its name behind `$libdir/`.
    name: &'static str,
    /// Symbols that do more.
    except: &'static [&'static str],
}

const fn library(name: &'static str) -> Library {
    Library { name, except: &[] }
}

/// The review, by the sources of PostgreSQL 14 to 18. Left out are libraries without types, operators and operator classes
/// (fuzzystrmatch, pgcrypto, uuid-ossp: their functions are called by name), and those whose code reads tables or runs SQL: postgis-3 looks up
/// spatial_ref_sys in the input of a type, tablefunc, dblink and xml2 run queries, unaccent and dict_* are text search. The
/// functions of earthdistance are SQL.
const LIBRARIES: [Library; 10] = [
    // Strings compared in lower case.
    library("citext"),
    // Pairs of strings. A record made of them, or they of a record, runs input and output of the types of its columns.
    Library { name: "hstore", except: &["hstore_populate_record", "hstore_from_record"] },
    // Labels of a tree, and patterns over them.
    library("ltree"),
    // Points and boxes of floating-point numbers.
    library("cube"),
    // Intervals of floating-point numbers.
    library("seg"),
    // Product numbers with check digits. One function lets the session take wrong digits.
    Library { name: "isn", except: &["accept_weak_input", "weak_input_status"] },
    // Arrays of integers and a query over them (intarray); selectivity looks at statistics, as the server's does.
    library("_int"),
    // Trigrams of strings; operators look at thresholds of the session, and one function sets one.
    Library { name: "pg_trgm", except: &["set_limit"] },
    // GiST over scalars: the server's own comparisons.
    library("btree_gist"),
    // GIN over scalars: the server's own comparisons.
    library("btree_gin"),
];

/// Built-ins that take what no text can write, and so are in no reviewed table, under another name.
const INTERNAL: [&str; 1] = ["textrecv"];

/// A function of users in `c` or `internal`, as it is read.
pub(super) struct RawInC {
    oid: u32,
    /// `probin`; empty for `internal`.
    library: String,
    symbol: String,
    /// The built-in that it stands for.
    built_in: u32,
}

/// An aggregate of a superuser: its transition function, then its others, 0 for none.
pub(super) struct RawAggregate {
    oid: u32,
    functions: Box<[u32]>,
}

pub(super) fn in_c(row: &Row<'_>) -> Result<RawInC, LoadError> {
    Ok(RawInC {
        oid: row.number(0)?,
        library: row.text(1)?.to_owned(),
        symbol: row.text(2)?.to_owned(),
        built_in: row.number(3)?,
    })
}

pub(super) fn aggregate(row: &Row<'_>) -> Result<RawAggregate, LoadError> {
    Ok(RawAggregate { oid: row.number(0)?, functions: row.oids(1)? })
}

fn is_reviewed(library: &str, symbol: &str) -> bool {
    let name = library.strip_prefix("$libdir/");
    let known = name.and_then(|name| LIBRARIES.iter().find(|library| library.name == name));
    known.is_some_and(|library| !library.except.contains(&symbol))
}

/// What of users' objects runs reviewed code alone, by oid.
#[derive(Default)]
pub(super) struct Reviewed {
    functions: HashSet<u32>,
    operators: HashSet<u32>,
}

impl Reviewed {
    /// Finds what is reviewed, and takes it out of what counts as code: input and output of types, casts, operator classes.
    pub(super) fn take_out(raw: &mut Raw) -> Self {
        let pure: HashSet<u32> = raw
            .builtins
            .iter()
            .filter(|routine| category(routine) == Some(Category::Pure))
            .map(|routine| routine.oid)
            .collect();
        let functions = functions(raw, &pure);
        let known = |oid: &u32| functions.contains(oid);
        let server = |oid: &u32| *oid < FIRST_USER_OID;
        let all = |of: &[u32]| !of.is_empty() && of.iter().all(known);

        let mut reviewed = Self::default();
        for found in &mut raw.types {
            let (own, code) = found.own_functions.iter().copied().partition::<Vec<u32>, _>(known);
            reviewed.functions.extend(own);
            found.own_functions = code.into();
        }
        for cast in &mut raw.casts {
            if cast.function.as_ref().is_some_and(|(oid, ..)| known(oid) || pure.contains(oid)) {
                reviewed.functions.extend(cast.function.take().map(|(oid, ..)| oid).filter(known));
            }
        }
        raw.hazards.retain(|hazard| !hazard.functions.as_deref().is_some_and(all));
        raw.everywhere.retain(|entry| match entry {
            RawEverywhere::Class { functions, .. } => !all(functions),
            RawEverywhere::Any(_) | RawEverywhere::Search(_) | RawEverywhere::Defines(_) => true,
        });
        // An argument that is a domain is checked, by whatever the domain says.
        let domains: HashSet<u32> =
            raw.types.iter().filter(|found| found.letter == 'd').map(|found| found.oid).collect();
        let of_domains = raw.types.iter().filter(|found| domains.contains(&found.element));
        let checked: HashSet<u32> =
            of_domains.map(|found| found.oid).chain(domains.iter().copied()).collect();
        for (_, operator, behind) in &mut raw.operators {
            let Some((runs, selects)) = behind.split_first() else { continue };
            operator.computes = known(runs)
                && selects.iter().all(|oid| server(oid) || known(oid))
                && ![operator.left, operator.right].iter().any(|oid| checked.contains(oid));
            if operator.computes {
                reviewed.operators.insert(operator.oid);
                reviewed.functions.insert(*runs);
            }
        }
        let mut aggregates: HashSet<u32> = HashSet::new();
        for of in &raw.aggregates {
            let Some((moves, others)) = of.functions.split_first() else { continue };
            if known(moves) && others.iter().all(|oid| *oid == 0 || known(oid) || pure.contains(oid)) {
                aggregates.insert(of.oid);
            }
        }
        for routine in &mut raw.routines {
            routine.computes = aggregates.contains(&routine.oid)
                && !routine.arguments.iter().any(|oid| checked.contains(oid));
        }
        reviewed.functions.extend(aggregates);
        reviewed
    }

    /// Whether a function that an expression names stands behind an operator, a cast, a type or an aggregate, and is reviewed.
    pub(super) fn function(&self, oid: u32) -> bool {
        self.functions.contains(&oid)
    }

    /// Whether an operator is.
    pub(super) fn operator(&self, oid: u32) -> bool {
        self.operators.contains(&oid)
    }
}

/// Every function in C that is reviewed. One of `internal` stands for as many built-ins as share its symbol: all must be.
fn functions(raw: &Raw, pure: &HashSet<u32>) -> HashSet<u32> {
    let mut found: HashMap<u32, bool> = HashMap::new();
    for of in &raw.in_c {
        let good = if of.built_in == 0 {
            is_reviewed(&of.library, &of.symbol)
        } else {
            pure.contains(&of.built_in) || INTERNAL.contains(&of.symbol.as_str())
        };
        *found.entry(of.oid).or_insert(true) &= good;
    }
    found.into_iter().filter(|(_, good)| *good).map(|(oid, _)| oid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_known_by_its_whole_name_and_place() {
        assert!(is_reviewed("$libdir/citext", "citext_eq"));
        assert!(is_reviewed("$libdir/_int", "_int_overlap"));
        for library in [
            "citext",
            "/tmp/citext",
            "$libdir/citext2",
            "$libdir/../citext",
            "$libdir/CITEXT",
            "$libdir/postgis-3",
            "$libdir/tablefunc",
            "$libdir/plpgsql",
            "$libdir/",
            "",
        ] {
            assert!(!is_reviewed(library, "citext_eq"), "{library}");
        }
        assert!(is_reviewed("$libdir/hstore", "hstore_in"));
        assert!(!is_reviewed("$libdir/hstore", "hstore_populate_record"));
        assert!(!is_reviewed("$libdir/pg_trgm", "set_limit"));
    }
}
