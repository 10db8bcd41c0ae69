//! Checks over a whole policy: rules that can never speak, conditions in the wrong phase, and what is not built.
//!
//! Owns: the lints of lineage.md 6.4. May not: change the policy. What can never match is an error, since whoever wrote
//! it believes otherwise; what is not built is a warning that says what happens instead.

use crate::class::Class;
use crate::document::Diagnostics;
use crate::policy::condition::{Condition, Phase};
use crate::policy::model::{Classes, Restrict, Then};
use crate::policy::object::Tier;
use crate::policy::pattern::{On, Pattern};
use crate::policy::read::{Draft, RulePlaces};

/// Reports every finding.
pub(crate) fn check(draft: &Draft, diagnostics: &Diagnostics) {
    let tiers: Vec<Tier> = draft.model.labels.iter().map(|label| label.tier).collect();
    for (permit, places) in draft.model.permits.iter().zip(&draft.permit_places) {
        dead_patterns(permit.classes, &permit.on, places, diagnostics);
        for (pattern, place) in permit.on.patterns().iter().zip(&places.on) {
            if matches!(pattern, Pattern::Label(_)) {
                diagnostics.error(
                    place,
                    "labels are no objects of permits; a permit names relations and says `disclose`",
                );
            }
        }
    }
    for (restrict, places) in draft.model.restricts.iter().zip(&draft.restrict_places) {
        dead_patterns(restrict.classes, &restrict.on, places, diagnostics);
        for (pattern, place) in restrict.on.patterns().iter().zip(&places.on) {
            if let Pattern::Label(tier) = pattern {
                label_pattern(*tier, &tiers, place, diagnostics);
            }
        }
        check_restrict(restrict, places, diagnostics);
    }
}

/// A pattern that no class of its rule ever meets.
fn dead_patterns(classes: Classes, on: &On, places: &RulePlaces, diagnostics: &Diagnostics) {
    for (pattern, place) in on.patterns().iter().zip(&places.on) {
        let meets = match pattern {
            Pattern::Star | Pattern::Relation { .. } | Pattern::Label(_) => true,
            Pattern::Function { .. } => classes.iter().any(meets_functions),
            Pattern::Setting(_) => classes.contain(Class::SessionSet),
            Pattern::Kind(kind) => !kind.is_setting() || classes.contain(Class::SessionSet),
        };
        if !meets {
            diagnostics.error(
                place,
                format!("\"{pattern}\" can never match: none of the rule's classes meets such an object"),
            );
        }
    }
}

/// Classes whose atoms may carry a function.
fn meets_functions(class: Class) -> bool {
    match class {
        Class::CallFunction
        | Class::CallProcedure
        | Class::DdlCode
        | Class::DdlCreate
        | Class::DdlAlter
        | Class::DdlDrop
        | Class::DdlComment
        | Class::DclGrant
        | Class::DclLabel
        | Class::SessionLock
        | Class::SessionNotify
        | Class::ExportLargeObject
        | Class::ExportBulk
        | Class::AdminSystem => true,
        Class::ReadSelect
        | Class::ReadFetch
        | Class::ReadExplain
        | Class::ReadExplainAnalyze
        | Class::WriteInsert
        | Class::WriteUpdate
        | Class::WriteDelete
        | Class::WriteMerge
        | Class::WriteTruncate
        | Class::DdlTemp
        | Class::DdlIndex
        | Class::DclRole
        | Class::DclPolicy
        | Class::SessionTransaction
        | Class::SessionTwoPhase
        | Class::SessionSet
        | Class::SessionPrepare
        | Class::SessionCursor
        | Class::SessionListen
        | Class::ExportCopyOut
        | Class::ExportReplication
        | Class::ImportCopyIn
        | Class::CallDo
        | Class::MaintenanceVacuum
        | Class::MaintenanceAnalyze
        | Class::MaintenanceReindex
        | Class::MaintenanceCluster
        | Class::MaintenanceRefresh
        | Class::MaintenanceCheckpoint
        | Class::AdminDatabase
        | Class::AdminExtension
        | Class::AdminSubscription
        | Class::AdminServer
        | Class::Unknown => false,
    }
}

fn label_pattern(tier: Tier, tiers: &[Tier], place: &crate::document::Place, diagnostics: &Diagnostics) {
    if !tiers.contains(&tier) {
        diagnostics.error(place, format!("can never match: no [[label]] has the tier {}", tier.name()));
    }
}

fn check_restrict(restrict: &Restrict, places: &RulePlaces, diagnostics: &Diagnostics) {
    let meets_predicate =
        [Class::WriteUpdate, Class::WriteDelete].iter().any(|class| restrict.classes.contain(*class));
    for (conditions, place, outcome) in [
        (&restrict.when, &places.when, "counts as met, so the rule applies whatever it says"),
        (&restrict.unless, &places.unless, "counts as not met, so it exempts nothing"),
    ] {
        for condition in conditions {
            let key = condition.key();
            match condition {
                Condition::Predicate(_) if !meets_predicate => diagnostics.error(
                    place,
                    "`predicate` can never be met: only write.update and write.delete have one",
                ),
                Condition::NotBuilt { .. } => {
                    diagnostics.warn(place, format!("`{key}` is not built into this version: it {outcome}"));
                }
                Condition::Predicate(_)
                | Condition::InTransaction(_)
                | Condition::Touches(_)
                | Condition::TextDigestIn(_) => {}
            }
        }
    }
    let running = |condition: &&Condition| condition.phase() == Phase::Running;
    let first_running = restrict.when.iter().chain(&restrict.unless).find(running).map(Condition::key);
    match (&restrict.then, first_running) {
        (Then::Hold(_) | Then::Refuse, Some(key)) => diagnostics.error(
            &places.then,
            format!("`{key}` is known only while the statement runs, and then it can only be \"cut\""),
        ),
        (Then::Cut, None) => diagnostics.error(
            &places.then,
            "\"cut\" stops a running statement: it needs returned_rows_over, returned_bytes_over or affected_rows_over",
        ),
        (Then::Cut, Some(_)) => diagnostics.warn(
            &places.then,
            "cuts are not built into this version: what this rule matches is refused before it runs",
        ),
        (Then::Hold(_) | Then::Refuse, None) => {}
    }
    if restrict.observe.is_some() {
        diagnostics
            .warn(&places.whole, "is under observe: it records what it would have done, and does nothing");
    }
}
