//! Labels while masking is not built: a statement that reaches, or may reach, a labelled column is refused.
//!
//! Owns: that refusal (README decisions 11 and 13). May not: look at columns; the resolution has none, so a label speaks
//! for its whole relation, and for those that share its rows by inheritance or partitioning. Fails closed: views,
//! materialized views, foreign tables, functions and code that no text names may read labelled relations and are refused
//! wherever the policy has a label; so are names that the snapshot does not know.

use crate::policy::atoms::Atom;
use crate::policy::model::{Label, Rule};
use crate::policy::object::{Home, Object, home};
use crate::resolve::{Code, Reach, Resolution};
use crate::statement::facts::StatementFacts;

/// Id of the built-in rule.
const RULE_LABELS: &str = "builtin.labels";

/// Why a statement reaches, or may reach, a labelled relation.
pub(crate) struct Reached {
    /// The label, or the built-in rule where it is only feared.
    pub(crate) rule: Rule,
    /// Why, as a clause.
    pub(crate) why: String,
}

/// The first label that the statement reaches or may reach.
pub(crate) fn reached(
    labels: &[Label],
    atoms: &[Atom<'_>],
    statement: &StatementFacts,
    resolution: &Resolution,
) -> Option<Reached> {
    let any = labels.first()?;
    for atom in atoms {
        if let Some(label) = labels.iter().find(|label| names(label, &atom.object)) {
            return Some(Reached {
                rule: of(label),
                why: format!(
                    "{} is labelled {}, masking is not built into this version, and nothing labelled leaves in clear",
                    atom.object,
                    label.tier.name()
                ),
            });
        }
    }
    if let Some(shared) = shared_rows(labels, resolution) {
        return Some(shared);
    }
    let may = |what: String| {
        Some(Reached {
            rule: Rule { id: RULE_LABELS.into(), place: any.place.clone() },
            why: format!("{what} may read a labelled column, and masking is not built into this version"),
        })
    };
    for atom in atoms {
        match atom.object {
            // What is not in the snapshot may be a view by the time the server looks.
            Object::Relation {
                reach:
                    Reach::View
                    | Reach::MaterializedView
                    | Reach::Foreign
                    | Reach::DataBearingCatalog
                    | Reach::Unresolved,
                ..
            }
            | Object::Function { .. } => return may(atom.object.to_string()),
            Object::Relation {
                reach: Reach::Table | Reach::Sequence | Reach::Temporary | Reach::Catalog | Reach::New,
                ..
            }
            | Object::Whole
            | Object::Unfixed
            | Object::Setting { .. }
            | Object::Named { .. } => {}
        }
    }
    if statement.flags.dynamic {
        return may("code that no text names".into());
    }
    match &resolution.code {
        Code::ThroughRelations(reason) => may(format!("code behind a relation ({reason})")),
        // Named code is either a function (above), dynamic (above), or DDL and settings, which return no rows.
        Code::Free | Code::Named(_) => None,
    }
}

/// A relation that shares its rows with a labelled one, by inheritance or partitioning.
fn shared_rows(labels: &[Label], resolution: &Resolution) -> Option<Reached> {
    for relation in &resolution.relations {
        let kin = relation.kin.iter().flat_map(|kin| kin.iter());
        for (schema, name) in kin {
            let object = Object::Relation { schema, name, reach: Reach::Table };
            if let Some(label) = labels.iter().find(|label| names(label, &object)) {
                return Some(Reached {
                    rule: of(label),
                    why: format!(
                        "{}.{} shares its rows with {object}, which is labelled {}, and masking is not built into this version",
                        relation.schema,
                        relation.name,
                        label.tier.name()
                    ),
                });
            }
        }
    }
    None
}

fn of(label: &Label) -> Rule {
    Rule { id: format!("label {}", label.column).into(), place: label.place.clone() }
}

fn names(label: &Label, object: &Object<'_>) -> bool {
    let [schema, relation, _column] = &label.parts;
    match *object {
        // A sequence has no columns of users.
        Object::Relation { reach: Reach::Sequence, .. } => false,
        Object::Relation { schema: s, name, .. } | Object::Named { schema: Some(s), name, .. } => {
            schema.matches(s) && relation.matches(name)
        }
        Object::Named { kind, schema: None, name } => match home(kind) {
            Home::IsSchema => schema.matches(name),
            Home::InSchema => relation.matches(name),
            Home::Outside => false,
        },
        Object::Unfixed => true,
        Object::Whole | Object::Function { .. } | Object::Setting { .. } => false,
    }
}
