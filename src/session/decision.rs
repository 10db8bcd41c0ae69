//! What was decided of a text that passes.
//!
//! Owns: the decision as a value, and what can be read off it. May not: decide (that is [`super::judge`]). Never fails.

use std::sync::Arc;

use pgturnstile_rules::catalog::Stamps;
use pgturnstile_rules::mask::detect::Detectors;
use pgturnstile_rules::policy::{Approval, Fields, Labelled};
use pgturnstile_rules::statement::facts::{NameUse, NamedUse, StatementFacts, TextFacts, TransactionControl};
use pgturnstile_rules::statement::outline::Outline;

use super::reached::Reached;
use crate::evidence::record::v1;

/// How a statement closes the way behind it (README decision 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fence {
    /// Not at all.
    None,
    /// It may run code through relations only: earlier Parses and plain texts may follow in its batch.
    Relaxed,
    /// It runs code that its text names, or sets a setting.
    Full,
}

/// Whether a statement gives a name of a statement or cursor, or takes it.
pub(super) fn changes_names(named: &NamedUse) -> bool {
    match named {
        NamedUse::Prepare(_)
        | NamedUse::Deallocate(_)
        | NamedUse::Declare(_)
        | NamedUse::Close(_)
        | NamedUse::DiscardAll => true,
        NamedUse::Execute(_) | NamedUse::Fetch(_) => false,
    }
}

/// What must be approved before a text is sent.
#[derive(Debug)]
pub struct Required {
    /// What is held and why, one line without values.
    pub message: String,
    /// Every rule that asks for it.
    pub approvals: Vec<Approval>,
    /// What it reaches, as it was.
    pub stamps: Stamps,
    /// It runs code, which may reach anything: any change of the catalog makes it another statement.
    pub reaches_anything: bool,
    /// The names of what it reaches.
    pub reached: Reached,
}

/// What was decided of a text that passes, and what follows.
#[derive(Debug)]
pub struct Decision {
    /// What the text says.
    pub facts: Arc<TextFacts>,
    /// The same for the evidence, with what the names resolved to.
    pub summary: Vec<v1::Facts>,
    /// The text without its literals, and without what the detectors find in its names: what evidence holds of it.
    pub held: Arc<str>,
    /// They look at the names of statements and portals, too.
    pub detectors: Detectors,
    /// Rules that opened it, or the one that refused it.
    pub rule: String,
    /// The policy's hash.
    pub policy_hash: [u8; 32],
    /// The catalog's epoch.
    pub epoch: u64,
    /// Under which policy and catalog it holds.
    pub ground: u128,
    /// Types of users that its Parse declares for parameters.
    pub types: Vec<u32>,
    /// Every statement is a code-free select without effects.
    pub proven: bool,
    /// The barrier behind it.
    pub fence: Fence,
    /// Behind a relaxed barrier of its own it may come again ([`pgturnstile_rules::resolve::may_come_again`]).
    pub repeatable: bool,
    /// Code may run when its text is only analysed, at Parse.
    pub runs_at_analysis: bool,
    /// Code may run with it.
    pub runs_code: bool,
    /// How many statements ask the client for COPY data.
    pub copies_in: usize,
    /// Some statement sends COPY data.
    pub copies_out: bool,
    /// It may change the schema: the catalog is read anew behind it.
    pub changes_catalog: bool,
    /// Such a change may bring code to a relation.
    pub brings_code: bool,
    /// Code ran in it that may have made objects of any name.
    pub made_by_code: bool,
    /// A table that it makes, behind which no code can stand ([`pgturnstile_rules::resolve::makes_plain_table`]).
    pub makes_table: Option<NameUse>,
    /// It may bring code to a table that this transaction has made, or take it away.
    pub unsettles_tables: bool,
    /// It makes temporary objects, which names then mean first.
    pub makes_temporary: bool,
    /// It runs code that may make such.
    pub may_make_temporary: bool,
    /// It makes, uses or drops names: it cannot be decided once for all.
    pub uses_names: bool,
    /// What each statement gives, as far as labels go; of EXECUTE and FETCH what they carry in. Empty where none reaches a label.
    pub fields: Box<[Option<Arc<Fields>>]>,
    /// The labels that it was judged by.
    pub labelled: Arc<Labelled>,
    /// What it reaches, as it was; `None` where answers do not wait for the catalog.
    pub stamps: Option<Arc<Stamps>>,
    /// It reaches a relation with labels, or may by code: its values may be those of a labelled column.
    pub reaches_labels: bool,
    /// Its rows may show a labelled column in clear: a permit says so.
    pub shows_in_clear: bool,
    /// What must be approved before it is sent; `None` where it passes.
    pub required: Option<Arc<Required>>,
    /// Its text as it stands, where approvers may have to see it: it is held, or others may run it by a name.
    pub exact: Option<Arc<str>>,
}

impl Decision {
    /// What a statement gives, as far as labels go; `None` where it reaches none.
    pub fn fields(&self, statement: usize) -> Option<&Arc<Fields>> {
        self.fields.get(statement)?.as_ref()
    }

    /// Whether some statement of it reaches a label that is not clear for the subject.
    pub fn near_labels(&self) -> bool {
        self.fields.iter().flatten().any(|fields| fields.near)
    }

    /// Whether the text does nothing but end a transaction, or set, release or return to a savepoint: in a failed
    /// transaction the server runs no other, and none of them reads a setting or a name.
    pub fn only_controls_transaction(&self) -> bool {
        matches!(
            self.facts.statements.as_slice(),
            [StatementFacts {
                transaction: Some(
                    TransactionControl::Commit | TransactionControl::Rollback | TransactionControl::Savepoint
                ),
                ..
            }]
        )
    }

    /// The cursor that it reads from, where it is a FETCH.
    pub fn fetches(&self) -> Option<&str> {
        match self.facts.statements.as_slice() {
            [StatementFacts { named: Some(NamedUse::Fetch(name)), .. }] => Some(name),
            _ => None,
        }
    }

    /// Whether the text does nothing but give names up.
    pub fn only_drops_names(&self) -> bool {
        self.facts.statements.iter().all(|statement| {
            matches!(
                statement.named,
                Some(NamedUse::Deallocate(_) | NamedUse::Close(_) | NamedUse::DiscardAll)
            )
        })
    }

    /// Whether its rows may go to the client, as far as its text says.
    pub fn gives_rows(&self) -> bool {
        self.facts.statements.iter().any(|statement| match &statement.outline {
            Outline::Rows(query) => !query.arms.is_empty() || !query.level.outputs.is_empty(),
            Outline::CopyQuery(_)
            | Outline::CopyTable { .. }
            | Outline::CopyIn(_)
            | Outline::Stores(_)
            | Outline::NoValues => false,
            Outline::Carries | Outline::Explains | Outline::Opaque => true,
        })
    }

    /// Whether a portal of it may give rows later on. It has taken a snapshot then, as every plan does.
    pub fn may_be_suspended(&self) -> bool {
        let plans = |statement: &StatementFacts| {
            statement.class.covered_by("read") || statement.class.covered_by("write")
        };
        self.facts.statements.iter().all(plans) && self.gives_rows()
    }

    /// Why nothing may follow it in its batch, where nothing may.
    pub fn bars_because(&self) -> &'static str {
        let statements = &self.facts.statements;
        if self.runs_code || self.runs_at_analysis {
            "it runs code of the database's users, or may"
        } else if statements.iter().any(|statement| statement.flags.sets_setting) {
            "it sets a setting"
        } else if statements.iter().any(|statement| statement.named.as_ref().is_some_and(changes_names)) {
            "it makes or drops the name of a prepared statement or cursor"
        } else if self.changes_catalog {
            "it changes definitions"
        } else {
            "definitions of this session's own, or of its temporary schema, may stand in its way that the catalog's last reading does \
             not show"
        }
    }

    /// Whether the text makes names in SQL.
    pub fn makes_names(&self) -> bool {
        self.facts
            .statements
            .iter()
            .any(|statement| matches!(statement.named, Some(NamedUse::Prepare(_) | NamedUse::Declare(_))))
    }

    /// Whether a statement runs what a name stands for.
    pub fn runs_by_name(&self) -> bool {
        self.facts
            .statements
            .iter()
            .any(|statement| matches!(statement.named, Some(NamedUse::Fetch(_) | NamedUse::Execute(_))))
    }

    /// Whether running it may give a name of a statement or cursor another meaning.
    pub fn may_move_names(&self) -> bool {
        let ends = |statement: &StatementFacts| statement.transaction.is_some();
        !self.proven || self.uses_names || self.facts.statements.iter().any(ends)
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self {
            facts: Arc::new(TextFacts {
                digest: [0; 32],
                text_bytes: 0,
                statements: Vec::new(),
                lifted: Arc::from(""),
            }),
            summary: Vec::new(),
            held: Arc::from(""),
            detectors: Detectors::NONE,
            rule: String::new(),
            policy_hash: [0; 32],
            epoch: 0,
            ground: 0,
            types: Vec::new(),
            proven: true,
            fence: Fence::None,
            repeatable: false,
            runs_at_analysis: false,
            runs_code: false,
            copies_in: 0,
            copies_out: false,
            changes_catalog: false,
            makes_temporary: false,
            may_make_temporary: false,
            brings_code: false,
            made_by_code: false,
            makes_table: None,
            unsettles_tables: false,
            uses_names: false,
            fields: Box::default(),
            labelled: Arc::default(),
            stamps: None,
            reaches_labels: false,
            shows_in_clear: false,
            required: None,
            exact: None,
        }
    }
}
