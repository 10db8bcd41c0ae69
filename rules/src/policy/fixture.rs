//! Catalogs and identities for judging without a server: `pgturnstile explain`, `pgturnstile test`.
//!
//! Owns: the reading of SQL fixtures (CREATE statements) into a [`Snapshot`], and of claims into a [`Principal`]. May not:
//! be used for a session; what it makes has been verified by nobody. What a fixture says that this reader does not use is
//! told in [`Catalog::notes`], never dropped in silence.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::catalog::queries::QUERIES;
use crate::catalog::{FIRST_USER_OID, Rows, Snapshot, system};
use crate::class::Class;
use crate::policy::group::claim;
use crate::policy::principal::Principal;
use crate::statement::facts::{ObjectKind, StatementFacts};
use crate::statement::{Limits, facts_here};

/// Longest fixture, bytes.
pub const FIXTURE_BYTES_MAX: usize = 4 << 20;

/// The server version that a fixture pretends to be.
const SERVER_VERSION_NUM: &str = "180000";

/// A catalog from a fixture.
#[derive(Debug)]
pub struct Catalog {
    /// What names are resolved by.
    pub snapshot: Snapshot,
    /// Statements of the fixture that were not used, and why that matters.
    pub notes: Vec<String>,
}

/// Rows under construction: relations and functions get oids in the order of the text.
struct Draft {
    schemas: BTreeSet<String>,
    relations: Vec<[String; 3]>,
    functions: BTreeSet<(String, String)>,
    notes: Vec<String>,
}

/// Reads a fixture: CREATE SCHEMA, TABLE, VIEW, MATERIALIZED VIEW, SEQUENCE, FOREIGN TABLE, FUNCTION, PROCEDURE. Names
/// without a schema stand in `public`. Call on a thread of the parser's door.
///
/// # Errors
/// A text that does not parse, or that names an object twice.
pub fn catalog_here(text: &str) -> Result<Catalog, String> {
    let facts = facts_here(text.as_bytes(), &Limits { text_bytes_max: FIXTURE_BYTES_MAX })
        .map_err(|fault| fault.to_string())?;
    let mut draft = Draft {
        schemas: ["public", "pg_catalog", "information_schema"].map(str::to_owned).into(),
        relations: Vec::new(),
        functions: BTreeSet::new(),
        notes: Vec::new(),
    };
    for statement in &facts.statements {
        draft.take(statement, line_of(text, statement.range.start));
    }
    let notes = std::mem::take(&mut draft.notes);
    let snapshot = Snapshot::from_rows(&draft.rows(), 1).map_err(|fault| fault.to_string())?;
    Ok(Catalog { snapshot, notes })
}

fn line_of(text: &str, at: usize) -> usize {
    let from = text.get(at..).map_or(at, |rest| at + (rest.len() - rest.trim_start().len()));
    text.as_bytes().iter().take(from).filter(|byte| **byte == b'\n').count() + 1
}

impl Draft {
    fn take(&mut self, statement: &StatementFacts, line: usize) {
        let kind = match statement.tag {
            "CREATE TABLE" | "CREATE TABLE AS" | "SELECT INTO" => Some("r"),
            "CREATE VIEW" => Some("v"),
            "CREATE MATERIALIZED VIEW" => Some("m"),
            "CREATE SEQUENCE" => Some("S"),
            "CREATE FOREIGN TABLE" => Some("f"),
            _ => None,
        };
        let mut used = false;
        for relation in statement.relations.iter().filter(|_| kind.is_some()) {
            if relation.class == Class::DdlCreate {
                let schema = self.schema(relation.name.schema.as_deref());
                let kind = kind.unwrap_or("r").to_owned();
                self.relations.push([schema, relation.name.name.clone(), kind]);
                used = true;
            }
        }
        for act in &statement.acts {
            let Some(object) = &act.object else { continue };
            match act.kind {
                ObjectKind::Schema if act.class == Class::DdlCreate => {
                    self.schemas.insert(object.name.clone());
                    used = true;
                }
                ObjectKind::Function if matches!(statement.tag, "CREATE FUNCTION" | "CREATE PROCEDURE") => {
                    let schema = self.schema(object.schema.as_deref());
                    self.functions.insert((schema, object.name.clone()));
                    used = true;
                }
                ObjectKind::None
                | ObjectKind::Relation
                | ObjectKind::Schema
                | ObjectKind::AllInSchema
                | ObjectKind::Function
                | ObjectKind::Operator
                | ObjectKind::Type
                | ObjectKind::Role
                | ObjectKind::Database
                | ObjectKind::Tablespace
                | ObjectKind::Extension
                | ObjectKind::Server
                | ObjectKind::Publication
                | ObjectKind::Other => {}
            }
        }
        if !used {
            self.notes.push(format!(
                "line {line}: {} is not used; what depends on it may be judged otherwise than on the server",
                statement.tag
            ));
        }
    }

    fn schema(&mut self, schema: Option<&str>) -> String {
        let schema = schema.unwrap_or("public").to_owned();
        self.schemas.insert(schema.clone());
        schema
    }

    fn rows(&self) -> Rows {
        let text = |cell: &str| Some(cell.to_owned());
        let mut user_oids = (FIRST_USER_OID..).map(|oid| oid.to_string());
        let mut next = || user_oids.next();
        let system = system::all().zip(1_u32..).map(|((schema, name), oid)| {
            // What a system relation is made of does not matter: the lists say what it carries.
            vec![Some(oid.to_string()), text(schema), text(name), text("r")]
        });
        let mut relations: Vec<Vec<Option<String>>> = system.collect();
        for [schema, name, kind] in &self.relations {
            relations.push(vec![next(), text(schema), text(name), text(kind)]);
        }
        let mut functions = Vec::new();
        for (schema, name) in &self.functions {
            // Arguments are not read: an empty variadic list may take any number of them.
            let any = [text("f"), text("0"), text("t"), text(""), text(""), text("0")];
            let mut row = vec![next(), text(schema), text(name)];
            row.extend(any);
            functions.push(row);
        }
        let answers = QUERIES.iter().map(|query| match query.name {
            "server" => vec![vec![text(SERVER_VERSION_NUM), text("fixture")]],
            "schemas" => self.schemas.iter().map(|schema| vec![text(schema)]).collect(),
            "relations" => std::mem::take(&mut relations),
            "functions" => std::mem::take(&mut functions),
            _ => Vec::new(),
        });
        Rows(answers.collect())
    }
}

/// What of the gateway's configuration turns claims into an identity.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Name of the `[[issuer]]` entry.
    pub name: String,
    /// The `iss` it stands for.
    pub url: String,
    /// Claim path of the groups.
    pub groups: Option<String>,
    /// Claim path of the person.
    pub person: Option<String>,
}

/// An identity from claims, as a token with them would make it. Three forms are read: the claims of a token with `iss`,
/// looked up among `issuers`; `{ "issuer": NAME, "claims": {…} }`; and claims with `issuer = NAME` among them, for tests
/// that stand in a policy.
///
/// # Errors
/// What is missing, and what to write.
pub fn principal(claims: &Map<String, Value>, issuers: &[Issuer]) -> Result<Principal, String> {
    let (issuer, claims) = match (claims.get("issuer"), claims.get("claims"), claims.get("iss")) {
        (Some(Value::String(name)), Some(Value::Object(inner)), _) => (by_name(name, issuers), inner.clone()),
        (Some(Value::String(name)), _, _) => {
            let mut rest = claims.clone();
            rest.remove("issuer");
            (by_name(name, issuers), rest)
        }
        (None, _, Some(Value::String(url))) => {
            let issuer = issuers.iter().find(|issuer| issuer.url == *url).cloned().ok_or_else(|| {
                "no issuer of the configuration has this iss; name the configuration with --config, or wrap the claims: \
                 { \"issuer\": NAME, \"claims\": { … } }"
                    .to_owned()
            })?;
            (issuer, claims.clone())
        }
        _ => return Err("has neither iss nor issuer; write { \"issuer\": NAME, \"claims\": { … } }".into()),
    };
    let text = |path: &str| claim(&claims, path).and_then(Value::as_str).map(str::to_owned);
    let number = |path: &str| claim(&claims, path).and_then(Value::as_i64).unwrap_or(0);
    Ok(Principal {
        groups: issuer.groups.as_deref().and_then(|path| groups(&claims, path)),
        person: issuer.person.as_deref().and_then(text),
        subject: text("sub").unwrap_or_else(|| "nobody".into()),
        token_id: text("jti"),
        issued_at_s: number("iat"),
        expires_at_s: number("exp"),
        issuer: issuer.name,
        issuer_url: issuer.url,
        kept: Vec::new(),
        token_thumbprint: String::new(),
        claims,
    })
}

/// The configured issuer of that name, or one that keeps its groups where most do.
fn by_name(name: &str, issuers: &[Issuer]) -> Issuer {
    issuers.iter().find(|issuer| issuer.name == name).cloned().unwrap_or_else(|| Issuer {
        name: name.to_owned(),
        url: String::new(),
        groups: Some("groups".into()),
        person: None,
    })
}

fn groups(claims: &Map<String, Value>, path: &str) -> Option<Vec<String>> {
    match claim(claims, path)? {
        Value::Array(groups) => groups.iter().map(|group| group.as_str().map(str::to_owned)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => None,
    }
}
