//! A whole text judged without a server: what `pgturnstile explain` and `pgturnstile test` show.
//!
//! Owns: the walk over the statements of one text, with what PREPARE and CREATE TEMP of the same text change for those
//! behind them. May not: differ from a session in the verdict on a statement; it calls the same parser, resolution and
//! judgement. Fails closed: what an EXECUTE runs and the text does not prepare is told as unknown.

use std::collections::HashMap;

use serde::Serialize;

use crate::catalog::Snapshot;
use crate::class::Class;
use crate::mask::detect::Detector;
use crate::policy::fields;
use crate::policy::message;
use crate::policy::{Action, Context, Judgement, Labelled, Policy, Sight, StatementTree, Subject};
use crate::resolve::{Resolution, SearchPath, SessionView, resolve};
use crate::statement::facts::{NamedUse, StatementFacts};
use crate::statement::{Limits, Unparsable, facts_here};

/// The verdict on a whole text.
#[derive(Debug)]
pub struct TextVerdict {
    /// The strictest of all its statements.
    pub judgement: Judgement,
    /// The reasons about each judged statement: those of the text, and those that PREPARE and EXECUTE carry.
    pub statements: Vec<Explained>,
    /// blake3 of the text, as `text_digest_in` takes it.
    pub digest: String,
    /// What a session would know and this cannot.
    pub notes: Vec<String>,
}

/// The reasons about one statement.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// Number of the statement in the text, from 1.
    pub statement: usize,
    /// Whether it is what a PREPARE or EXECUTE carries.
    pub carried: bool,
    /// Why it is not proven, so that a session waits for its record before it is sent; nothing where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unproven: Option<String>,
    /// The reasons.
    #[serde(flatten)]
    pub tree: StatementTree,
}

/// What a text is judged against.
#[derive(Debug)]
pub struct Bench<'b> {
    /// The policy.
    pub policy: &'b Policy,
    /// Who asks, on which target.
    pub subject: &'b Subject,
    /// The catalog.
    pub snapshot: &'b Snapshot,
    /// Whether a transaction is open when the text begins.
    pub in_transaction: bool,
    /// The time, seconds since 1970.
    pub now_s: i64,
    /// Bounds of the text.
    pub limits: Limits,
}

impl Bench<'_> {
    /// Judges `text`. Call on a thread of the parser's door.
    ///
    /// # Errors
    /// A text that has no facts: a session refuses it.
    pub fn judge_here(&self, text: &str) -> Result<TextVerdict, Unparsable> {
        let facts = facts_here(text.as_bytes(), &self.limits)?;
        let mut walk = Walk {
            bench: self,
            digest: facts.digest,
            path: SearchPath::new(&self.subject.access().guards.search_path, &self.subject.access().login),
            labelled: Labelled::new(&self.policy.model().labels, self.snapshot),
            temp_possible: false,
            changed: false,
            in_transaction: self.in_transaction,
            prepared: HashMap::new(),
            verdict: None,
            statements: Vec::new(),
            notes: Vec::new(),
        };
        for (index, statement) in facts.statements.iter().enumerate() {
            walk.statement(index + 1, statement);
        }
        walk.notes.extend(self.looked_at());
        let judgement = walk.verdict.unwrap_or_else(Judgement::allow);
        walk.notes.extend(message::approvals(&judgement.approvals, &self.policy.model().groups));
        let digest = format!("blake3:{}", blake3::Hash::from_bytes(facts.digest).to_hex());
        Ok(TextVerdict { judgement, statements: walk.statements, digest, notes: walk.notes })
    }
}

impl Bench<'_> {
    /// What detectors look for in what bears no label.
    fn looked_at(&self) -> Option<String> {
        let detectors = self.subject.detectors();
        let each = Detector::ALL.iter().filter_map(|detector| Some((detector, detectors.style(*detector)?)));
        let words: Vec<String> =
            each.map(|(detector, style)| format!("{} ({})", detector.name(), fields::word(style))).collect();
        (!words.is_empty()).then(|| format!("fields without a label are searched for {}", words.join(", ")))
    }
}

struct Walk<'w> {
    bench: &'w Bench<'w>,
    digest: [u8; 32],
    path: SearchPath,
    labelled: Labelled,
    temp_possible: bool,
    /// A statement before changed the catalog.
    changed: bool,
    in_transaction: bool,
    prepared: HashMap<&'w str, &'w StatementFacts>,
    verdict: Option<Judgement>,
    statements: Vec<Explained>,
    notes: Vec<String>,
}

impl<'w> Walk<'w> {
    fn statement(&mut self, number: usize, statement: &'w StatementFacts) {
        self.judge(number, statement, false);
        if let Some(inner) = &statement.prepared {
            self.judge(number, inner, true);
        }
        match &statement.named {
            Some(NamedUse::Prepare(name)) => {
                if let Some(inner) = &statement.prepared {
                    self.prepared.insert(name, inner);
                }
            }
            Some(NamedUse::Execute(name)) => match self.prepared.get(name.as_str()).copied() {
                Some(inner) => self.judge(number, inner, true),
                None => self.notes.push(format!(
                    "statement {number} runs a prepared statement that this text does not prepare; a session judges it too"
                )),
            },
            Some(NamedUse::Fetch(_)) => self.notes.push(format!(
                "statement {number} reads from a cursor; a session judged its query at DECLARE"
            )),
            Some(
                NamedUse::Deallocate(_) | NamedUse::Declare(_) | NamedUse::Close(_) | NamedUse::DiscardAll,
            )
            | None => {}
        }
        self.changed |= statement.class.covered_by("ddl");
        self.temp_possible |= statement.flags.dynamic
            || statement.class == Class::DdlTemp
            || statement.relations.iter().any(|relation| relation.class == Class::DdlTemp);
        self.follow_transaction(statement);
    }

    fn follow_transaction(&mut self, statement: &StatementFacts) {
        use crate::statement::facts::TransactionControl as Control;
        match statement.transaction {
            Some(Control::Begin { .. }) => self.in_transaction = true,
            Some(Control::Commit | Control::Rollback | Control::TwoPhase) => {
                self.in_transaction = statement.flags.chains;
            }
            Some(Control::Savepoint | Control::Mode { .. }) | None => {}
        }
    }

    fn judge(&mut self, number: usize, statement: &StatementFacts, carried: bool) {
        let session = SessionView { temp_possible: self.temp_possible, ..SessionView::default() };
        let resolution: Resolution = resolve(statement, self.bench.snapshot, &self.path, &session);
        let context = Context {
            in_transaction: self.in_transaction,
            text_digest: &self.digest,
            now_s: self.bench.now_s,
            sight: Some(&Sight {
                labelled: &self.labelled,
                snapshot: self.bench.snapshot,
                path: &self.path,
                temp_possible: self.temp_possible,
                temp_names: None,
                private_catalog: self.changed,
            }),
        };
        let mut judgement = self.bench.policy.explain(self.bench.subject, statement, &resolution, &context);
        if let Some(tree) = judgement.tree.take() {
            let unproven = resolution.unproven.as_deref().map(str::to_owned);
            self.statements.push(Explained { statement: number, carried, unproven, tree: *tree });
        }
        self.verdict = Some(match self.verdict.take() {
            Some(verdict) => verdict.and(judgement),
            None => judgement,
        });
    }
}

impl TextVerdict {
    /// The picture of all reasons, for people.
    #[must_use]
    pub fn render(&self) -> String {
        let judgement = &self.judgement;
        let mut out = match judgement.action {
            Action::Allow => "allow\n".to_owned(),
            Action::Hold | Action::Refuse => {
                format!("{}  {}", judgement.action.name(), judgement.sqlstate).trim_end().to_owned() + "\n"
            }
        };
        let count = self.statements.iter().map(|explained| explained.statement).max().unwrap_or(0);
        for explained in &self.statements {
            out.push_str(&explained.tree.render(explained.statement, count, explained.carried));
        }
        if self.statements.is_empty() {
            out.push_str("+- no statement: nothing to judge\n");
        }
        for observed in &judgement.observed {
            out.push_str(&format!(
                "+- observed: {} ({}) would {} it\n",
                observed.rule.id, observed.rule.place, observed.would
            ));
        }
        for note in &self.notes {
            out.push_str(&format!("+- note: {note}\n"));
        }
        if !judgement.message.is_empty() {
            out.push_str(&format!("+- message: {}\n", judgement.message));
        }
        out
    }
}
