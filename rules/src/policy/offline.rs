//! A whole text judged without a server: what `pgturnstile explain` and `pgturnstile test` show.
//!
//! Owns: the walk over the statements of one text, or of several that one session sends. May not: differ from a session in the
//! verdict on a text; it calls the same parser, resolution, judgement and rules about texts ([`crate::policy::course`]). What only a
//! live session knows (its temporary objects, names that other code gave away, bounds on what it holds) is not here. Fails
//! closed: what an EXECUTE or FETCH runs is refused where no text before it made the name, as in a session that has just begun.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use crate::catalog::Snapshot;
use crate::mask::detect::Detector;
use crate::policy::course::{self, Course, TextRefusal};
use crate::policy::fields::{self, Fields};
use crate::policy::message;
use crate::policy::{Action, Context, Judgement, Labelled, Policy, Sight, StatementTree, Subject};
use crate::resolve::{Resolution, SearchPath, SessionView, resolve, resolve_carrying};
use crate::statement::facts::{NamedUse, StatementFacts, TransactionControl};
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
    /// Judges `text`, the first of its session. Call on a thread of the parser's door.
    ///
    /// # Errors
    /// A text that has no facts: a session refuses it.
    pub fn judge_here(&self, text: &str) -> Result<TextVerdict, Unparsable> {
        self.session().judge_here(text)
    }

    /// A session that has sent nothing yet.
    #[must_use]
    pub fn session(&self) -> Texts<'_> {
        let access = self.subject.access();
        Texts {
            bench: self,
            path: SearchPath::new(&access.guards.search_path, &access.login),
            labelled: Labelled::new(&self.policy.model().labels, self.snapshot),
            course: Course::default(),
            in_transaction: self.in_transaction,
            prepared: HashMap::new(),
            cursors: HashMap::new(),
        }
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

/// The session of one text, or of several that are sent one behind another, as far as the texts tell it.
#[derive(Debug)]
pub struct Texts<'b> {
    bench: &'b Bench<'b>,
    path: SearchPath,
    labelled: Labelled,
    course: Course,
    in_transaction: bool,
    /// What PREPARE and DECLARE have made.
    prepared: HashMap<String, Arc<StatementFacts>>,
    cursors: HashMap<String, Arc<StatementFacts>>,
}

impl Texts<'_> {
    /// Judges the next text. Call on a thread of the parser's door.
    ///
    /// # Errors
    /// As [`Bench::judge_here`].
    pub fn judge_here(&mut self, text: &str) -> Result<TextVerdict, Unparsable> {
        let bench = self.bench;
        let facts = facts_here(text.as_bytes(), &bench.limits)?;
        self.course = std::mem::take(&mut self.course).next_text();
        let mut walk = Walk {
            session: self,
            digest: facts.digest,
            verdict: None,
            refused: None,
            statements: Vec::new(),
        };
        for (index, statement) in facts.statements.iter().enumerate() {
            walk.statement(index + 1, statement);
        }
        let Walk { verdict, refused, statements, .. } = walk;
        let verdict = verdict.unwrap_or_else(Judgement::allow);
        let judgement = match refused {
            // It is what a session says, whatever the policy says of the statements before and behind.
            Some(refused) => refused.and(verdict),
            None => verdict,
        };
        let mut notes: Vec<String> = bench.looked_at().into_iter().collect();
        notes.extend(message::approvals(&judgement.approvals, &bench.policy.model().groups));
        let digest = format!("blake3:{}", blake3::Hash::from_bytes(facts.digest).to_hex());
        Ok(TextVerdict { judgement, statements, digest, notes })
    }

    /// The names that a statement has made or dropped.
    fn follow_names(&mut self, statement: &StatementFacts) {
        match &statement.named {
            Some(NamedUse::Prepare(name)) => {
                if let Some(inner) = statement.prepared.as_deref() {
                    self.prepared.insert(name.clone(), Arc::new(inner.clone()));
                }
            }
            Some(NamedUse::Declare(name)) => {
                let declared = StatementFacts { named: None, ..statement.clone() };
                self.cursors.insert(name.clone(), Arc::new(declared));
            }
            Some(NamedUse::Deallocate(Some(name))) => drop(self.prepared.remove(name)),
            Some(NamedUse::Deallocate(None)) => self.prepared.clear(),
            Some(NamedUse::Close(Some(name))) => drop(self.cursors.remove(name)),
            Some(NamedUse::Close(None)) => self.cursors.clear(),
            Some(NamedUse::DiscardAll) => {
                self.prepared.clear();
                self.cursors.clear();
            }
            Some(NamedUse::Execute(_) | NamedUse::Fetch(_)) | None => {}
        }
    }

    fn follow_transaction(&mut self, statement: &StatementFacts) {
        match statement.transaction {
            Some(TransactionControl::Begin { .. }) => self.in_transaction = true,
            Some(
                TransactionControl::Commit | TransactionControl::Rollback | TransactionControl::TwoPhase,
            ) => {
                self.in_transaction = statement.flags.chains;
                self.cursors.retain(|_, declared| declared.flags.holds_cursor);
            }
            Some(TransactionControl::Savepoint | TransactionControl::Mode { .. }) | None => {}
        }
    }
}

/// One text.
struct Walk<'w, 'b> {
    session: &'w mut Texts<'b>,
    digest: [u8; 32],
    verdict: Option<Judgement>,
    /// The first refusal by a rule about texts.
    refused: Option<Judgement>,
    statements: Vec<Explained>,
}

impl Walk<'_, '_> {
    /// In the order in which a session asks; but what that would not come to any more is told, too.
    fn statement(&mut self, number: usize, statement: &StatementFacts) {
        let at = self.statements.len();
        let mut refusals: Vec<TextRefusal> = course::new_name(statement).err().into_iter().collect();
        let named = self.session.course.names(statement).err();
        let (carried, unknown) = self.carried(statement);
        // What the text has made itself is not there yet: that it is unknown says nothing more.
        refusals.extend(named.or(unknown));
        refusals.extend(self.session.course.order(statement).err());
        let snapshot = self.session.bench.snapshot;
        let fields = match &carried {
            None => {
                let resolution = self.resolve(statement, None);
                refusals.extend(course::analysis(statement, &resolution, snapshot).err());
                let fields = self.judge(number, statement, &resolution, false);
                if let Some(inner) = &statement.prepared {
                    let resolution = self.resolve(inner, None);
                    self.explain(number, inner, &resolution, true);
                }
                fields
            }
            Some(inner) => {
                let resolution = self.resolve(statement, Some(inner));
                self.judge(number, statement, &resolution, false);
                self.judge(number, inner, &resolution, true)
            }
        };
        refusals.extend(self.session.course.end(statement).err());
        let near = fields.is_some_and(|fields| fields.near);
        let looked_at = near || !self.session.bench.subject.detectors().is_empty();
        refusals.extend(course::spelling(statement, looked_at).err());
        self.refuse(at, &refusals);
        self.session.follow_names(statement);
        self.session.follow_transaction(statement);
    }

    /// What EXECUTE and FETCH bring in, or why that is not known.
    fn carried(&self, statement: &StatementFacts) -> (Option<Arc<StatementFacts>>, Option<TextRefusal>) {
        let (known, refusal) = match &statement.named {
            Some(NamedUse::Execute(name)) => {
                (self.session.prepared.get(name), course::unknown_statement(name))
            }
            Some(NamedUse::Fetch(name)) => (self.session.cursors.get(name), course::unknown_cursor(name)),
            Some(
                NamedUse::Prepare(_)
                | NamedUse::Deallocate(_)
                | NamedUse::Declare(_)
                | NamedUse::Close(_)
                | NamedUse::DiscardAll,
            )
            | None => return (None, None),
        };
        match known {
            Some(carried) => (Some(Arc::clone(carried)), None),
            None => (None, Some(refusal)),
        }
    }

    fn resolve(&self, statement: &StatementFacts, carried: Option<&StatementFacts>) -> Resolution {
        let Texts { bench, path, course, .. } = &*self.session;
        let view = course.changed().view(&SessionView::default());
        match carried {
            None => resolve(statement, bench.snapshot, path, &view),
            Some(carried) => resolve_carrying(statement, carried, bench.snapshot, path, &view),
        }
    }

    /// The verdict, and what the statement does to those behind it.
    fn judge(
        &mut self,
        number: usize,
        statement: &StatementFacts,
        resolution: &Resolution,
        carried: bool,
    ) -> Option<Arc<Fields>> {
        let fields = self.explain(number, statement, resolution, carried);
        let snapshot = self.session.bench.snapshot;
        self.session.course.note(statement, resolution, snapshot);
        fields
    }

    fn explain(
        &mut self,
        number: usize,
        statement: &StatementFacts,
        resolution: &Resolution,
        carried: bool,
    ) -> Option<Arc<Fields>> {
        let Texts { bench, path, labelled, course, in_transaction, .. } = &*self.session;
        let context = Context {
            in_transaction: *in_transaction,
            text_digest: &self.digest,
            now_s: bench.now_s,
            sight: Some(&Sight {
                labelled,
                snapshot: bench.snapshot,
                path,
                temp_possible: course.changed().makes_temporary,
                temp_names: None,
                private_catalog: course.changed().catalog,
            }),
        };
        let mut judgement = bench.policy.explain(bench.subject, statement, resolution, &context);
        if let Some(tree) = judgement.tree.take() {
            let unproven = resolution.unproven.as_deref().map(str::to_owned);
            self.statements.push(Explained { statement: number, carried, unproven, tree: *tree });
        }
        let fields = judgement.fields.clone();
        self.verdict = Some(match self.verdict.take() {
            Some(verdict) => verdict.and(judgement),
            None => judgement,
        });
        fields
    }

    /// Each is a leaf of the statement whose reasons begin at `at`; the first of the text is what a client reads.
    fn refuse(&mut self, at: usize, refusals: &[TextRefusal]) {
        for refusal in refusals.iter().rev() {
            if let Some(explained) = self.statements.get_mut(at) {
                explained.tree.refuse(&Judgement::built_in(refusal), refusal);
            }
        }
        for refusal in refusals {
            let judgement = Judgement::built_in(refusal);
            self.refused = Some(match self.refused.take() {
                Some(earlier) => earlier.and(judgement),
                None => judgement,
            });
        }
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
