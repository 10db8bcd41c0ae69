//! The verdict on one statement.
//!
//! Owns: the order of the questions (built-in rules, permits, restricts, labels) and which reason is told first. May
//! not: read facts beyond [`atoms`], or know bytes. Permits add, restricts tighten, the strictest wins; no permit means
//! refuse (README decision 10). Who approves a hold, and whether somebody has, is the gateway's to say. Cuts are not built:
//! they become refusals that say so.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use crate::class::Class;
use crate::policy::Policy;
use crate::policy::atoms::{Atom, atoms};
use crate::policy::condition::{Condition, Situation};
use crate::policy::course::TextRefusal;
use crate::policy::fields::{self, Fields};
use crate::policy::labels::{self, Near, Outcome, Sight};
use crate::policy::message;
use crate::policy::model::{Hold, Observe, Permit, Restrict, Rule, Then};
use crate::policy::object::{Object, Tier};
use crate::policy::place::Place;
use crate::policy::settings::{self, BuiltIn};
use crate::policy::subject::Subject;
use crate::policy::tree::{AtomTree, Leaf, StatementTree};
use crate::resolve::Resolution;
use crate::statement::facts::{Predicate, SettingUse, StatementFacts};

/// SQLSTATE of a refusal by the policy: insufficient_privilege (Appendix A of the PostgreSQL documentation).
pub const SQLSTATE_REFUSED: &str = "42501";

/// What becomes of a statement, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It passes.
    Allow,
    /// It waits for approval.
    Hold,
    /// It is refused.
    Refuse,
}

impl Action {
    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Hold => "hold",
            Action::Refuse => "refuse",
        }
    }
}

/// What judgement needs to know beside the statement.
#[derive(Clone, Copy, Debug)]
pub struct Context<'c> {
    /// Whether a transaction block is open when the statement begins.
    pub in_transaction: bool,
    /// blake3 of the whole text.
    pub text_digest: &'c [u8; 32],
    /// The time, seconds since 1970: decides whether an `observe` is still running.
    pub now_s: i64,
    /// The labels of the target. Without them a policy that has labels refuses whatever names an object.
    pub sight: Option<&'c Sight<'c>>,
}

/// The verdict on one statement, or the strictest of several.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// What becomes of it in this version.
    pub action: Action,
    /// What the policy asks for.
    pub asked: Action,
    /// Where it is refused, `42501` or what a built-in rule says, else empty.
    pub sqlstate: &'static str,
    /// The rule that decided a refusal or a hold.
    pub rule: Option<Rule>,
    /// Of a refusal the whole primary message for the client; of a hold what is held and why. One line, no literal of the
    /// statement in it; empty when it passes.
    pub message: String,
    /// Of a hold: every restrict that asks for approval. All of them must be given theirs.
    pub approvals: Vec<Approval>,
    /// Rules that spoke, each once: permits that opened atoms, restricts that fired, built-in rules that refused.
    pub rules: Vec<Rule>,
    /// Restricts under `observe` that would have fired.
    pub observed: Vec<Observed>,
    /// What the fields of a statement near labels hold; `None` for one that reaches no label, or is refused.
    pub fields: Option<Arc<Fields>>,
    /// The reason tree, where [`Policy::explain`] was asked.
    pub tree: Option<Box<StatementTree>>,
}

/// A restrict that asks for approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Which.
    pub rule: Rule,
    /// Who approves, and for how long it waits.
    pub hold: Hold,
}

/// A restrict under `observe` that would have fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Which.
    pub rule: Rule,
    /// What it would have done: `hold`, `cut` or `refuse`.
    pub would: &'static str,
}

impl Judgement {
    /// Passes with nothing said: an empty text.
    #[must_use]
    pub fn allow() -> Self {
        Self {
            action: Action::Allow,
            asked: Action::Allow,
            sqlstate: "",
            rule: None,
            message: String::new(),
            approvals: Vec::new(),
            rules: Vec::new(),
            observed: Vec::new(),
            fields: None,
            tree: None,
        }
    }

    /// A text that a built-in rule about whole texts refuses.
    pub(crate) fn built_in(refusal: &TextRefusal) -> Self {
        let rule = Rule { id: format!("builtin.{}", refusal.rule).into(), place: Place::built_in() };
        Self {
            action: Action::Refuse,
            asked: Action::Refuse,
            sqlstate: refusal.sqlstate,
            message: refusal.message.clone(),
            rules: vec![rule.clone()],
            rule: Some(rule),
            ..Self::allow()
        }
    }

    /// The stricter of two verdicts of one message (README decision 7); the rules of both are kept, the first of two
    /// equals is told.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let (mut strict, mild) = if (other.action, other.asked) > (self.action, self.asked) {
            (other, std::mem::replace(&mut self, Self::allow()))
        } else {
            (self, other)
        };
        for rule in mild.rules {
            push_once(&mut strict.rules, rule);
        }
        for observed in mild.observed {
            push_once(&mut strict.observed, observed);
        }
        if strict.action == Action::Hold {
            for approval in mild.approvals {
                push_once(&mut strict.approvals, approval);
            }
        }
        strict
    }

    /// The same of a statement that only prepares another one, which is judged where it runs: nobody has to approve it.
    #[must_use]
    pub fn as_prepared(self) -> Self {
        match self.action {
            Action::Allow | Action::Refuse => self,
            Action::Hold => Self {
                action: Action::Allow,
                asked: Action::Allow,
                message: String::new(),
                rule: None,
                approvals: Vec::new(),
                ..self
            },
        }
    }

    /// The message with the reference under which the evidence has it.
    #[must_use]
    pub fn message_with_reference(&self, reference: &str) -> String {
        format!("{} [ref {reference}]", self.message)
    }
}

/// One reason against a statement.
#[derive(Debug)]
pub(crate) struct Objection<'s> {
    pub(crate) asked: Action,
    /// Which of equally strict reasons is told first: the lower.
    rank: u8,
    pub(crate) rule: Rule,
    pub(crate) object: Object<'s>,
    pub(crate) why: Cow<'s, str>,
    pub(crate) next: Cow<'s, str>,
}

const RANK_BUILT_IN: u8 = 0;
const RANK_LABEL: u8 = 1;
const RANK_NO_PERMIT: u8 = 2;
const RANK_RESTRICT: u8 = 3;

impl Policy {
    /// Judges one statement. `subject` must come from this policy; one of another version is refused.
    pub fn judge(
        &self,
        subject: &Subject,
        statement: &StatementFacts,
        resolution: &Resolution,
        context: &Context<'_>,
    ) -> Judgement {
        self.run(subject, statement, resolution, context, None)
    }

    /// Judges one statement and says why in full.
    pub fn explain(
        &self,
        subject: &Subject,
        statement: &StatementFacts,
        resolution: &Resolution,
        context: &Context<'_>,
    ) -> Judgement {
        let mut tree = StatementTree::new(statement);
        let mut judgement = self.run(subject, statement, resolution, context, Some(&mut tree));
        tree.conclude(&judgement);
        judgement.tree = Some(Box::new(tree));
        judgement
    }

    fn run(
        &self,
        subject: &Subject,
        statement: &StatementFacts,
        resolution: &Resolution,
        context: &Context<'_>,
        mut tree: Option<&mut StatementTree>,
    ) -> Judgement {
        let atoms = atoms(statement, resolution, &subject.access().guards.search_path);
        let mut judge = Judge {
            policy: self,
            subject,
            context,
            atoms: &atoms,
            worst: None,
            objections: 0,
            verdict: Judgement::allow(),
            touching: Vec::new(),
            touched: RefCell::default(),
            tiers: Vec::new(),
        };
        judge.tiers = atoms.iter().flat_map(|atom| judge.tiers_of(atom)).collect();
        if subject.policy_hash != self.hash() {
            // Its positions are those of another policy: nothing of it may be looked up.
            judge.object(stale_subject());
            return judge.finish(statement);
        }
        judge.built_in(statement, tree.as_deref_mut());
        for atom in &atoms {
            let mut report = tree.as_ref().map(|_| AtomTree::new(atom));
            judge.atom(atom, report.as_mut());
            if let (Some(tree), Some(report)) = (tree.as_deref_mut(), report) {
                tree.atoms.push(report);
            }
        }
        judge.labels(statement, resolution, tree);
        judge.finish(statement)
    }
}

struct Judge<'j> {
    policy: &'j Policy,
    subject: &'j Subject,
    context: &'j Context<'j>,
    atoms: &'j [Atom<'j>],
    worst: Option<Objection<'j>>,
    objections: usize,
    verdict: Judgement,
    /// Scratch: restricts that touch the atom at hand.
    touching: Vec<usize>,
    /// What `touches` conditions answered.
    touched: RefCell<Vec<(usize, bool)>>,
    /// Tiers of the labels that the statement may reach.
    tiers: Vec<Tier>,
}

impl<'j> Judge<'j> {
    fn tiers_of(&self, atom: &Atom<'_>) -> Vec<Tier> {
        let labels = &self.policy.model.labels;
        if labels.is_empty() && self.context.sight.is_none_or(|sight| sight.labelled.facts().is_empty()) {
            return Vec::new();
        }
        labels::tiers(self.context.sight, labels, atom)
    }

    /// What no permit opens and no atom carries: settings, transaction modes, large objects that a read would write.
    fn built_in(&mut self, statement: &'j StatementFacts, mut tree: Option<&mut StatementTree>) {
        let access = self.subject.access();
        for setting in &statement.settings {
            if let Err(refusal) = settings::check(setting, statement, access) {
                self.refuse_built_in(setting_object(setting), refusal, tree.as_deref_mut());
            }
        }
        for check in [settings::check_transaction, settings::check_large_objects] {
            if let Err(refusal) = check(statement, access) {
                self.refuse_built_in(Object::Whole, refusal, tree.as_deref_mut());
            }
        }
    }

    fn refuse_built_in(&mut self, object: Object<'j>, refusal: BuiltIn, tree: Option<&mut StatementTree>) {
        if let Some(tree) = tree {
            tree.leaves.push(Leaf::built_in(refusal.id, &format!("{object}: {}", refusal.why)));
        }
        self.object(built_in_objection(object, refusal));
    }

    fn atom(&mut self, atom: &'j Atom<'j>, mut report: Option<&mut AtomTree>) {
        let reach = match atom.object {
            Object::Relation { reach, .. } => Some(reach),
            Object::Whole
            | Object::Unfixed
            | Object::Function { .. }
            | Object::Setting { .. }
            | Object::Named { .. } => None,
        };
        if let Err(refusal) = settings::class_in_read_mode(atom.class, reach, self.subject.access()) {
            if let Some(report) = report.as_deref_mut() {
                report.leaves.push(Leaf::built_in(refusal.id, &refusal.why));
            }
            self.object(built_in_objection(atom.object, refusal));
        }
        let policy = self.policy;
        match self.subject.permits.covering(&policy.model.permits, atom.class, &atom.object) {
            Some(position) => self.permitted(&policy.model.permits[position], report.as_deref_mut()),
            None => self.not_permitted(atom, report.as_deref_mut()),
        }
        let mut touching = std::mem::take(&mut self.touching);
        let restricts = &policy.model.restricts;
        self.subject.restricts.touching(restricts, atom.class, &atom.object, &mut touching);
        for shared in atom.reaches().skip(1) {
            let mut more = Vec::new();
            self.subject.restricts.touching(restricts, atom.class, &shared, &mut more);
            more.retain(|position| !touching.contains(position));
            touching.append(&mut more);
        }
        let tiers = self.tiers_of(atom);
        if !tiers.is_empty() {
            self.subject.restricts.on_labels(&policy.model.restricts, atom.class, &tiers, &mut touching);
        }
        for position in &touching {
            self.restrict(&policy.model.restricts[*position], atom, report.as_deref_mut());
        }
        self.touching = touching;
    }

    fn permitted(&mut self, permit: &Permit, report: Option<&mut AtomTree>) {
        push_rule(&mut self.verdict.rules, &permit.rule);
        if let Some(report) = report {
            report.leaves.push(Leaf::permit(&permit.rule));
        }
    }

    fn not_permitted(&mut self, atom: &Atom<'j>, report: Option<&mut AtomTree>) {
        let (why, next) = message::no_permit(atom, self.subject);
        if let Some(report) = report {
            report.leaves.push(Leaf::default_deny(&why));
        }
        self.object(Objection {
            asked: Action::Refuse,
            rank: RANK_NO_PERMIT,
            rule: Rule { id: "default-deny".into(), place: Place::built_in() },
            object: atom.object,
            why: why.into(),
            next: next.into(),
        });
    }

    fn restrict(&mut self, restrict: &'j Restrict, atom: &Atom<'j>, report: Option<&mut AtomTree>) {
        let situation = Situation {
            predicate: atom.predicate,
            atoms: self.atoms,
            in_transaction: self.context.in_transaction,
            text_digest: self.context.text_digest,
            touched: &self.touched,
            tiers: &self.tiers,
        };
        let fires = fires(restrict, &situation);
        let observed = restrict.observe.as_ref().filter(|observe| is_running(observe, self.context.now_s));
        if let Some(report) = report {
            report.leaves.push(Leaf::restrict(restrict, fires, observed));
        }
        if !fires {
            return;
        }
        if observed.is_some() {
            push_once(
                &mut self.verdict.observed,
                Observed { rule: restrict.rule.clone(), would: restrict.then.name() },
            );
            return;
        }
        push_rule(&mut self.verdict.rules, &restrict.rule);
        if let Then::Hold(hold) = &restrict.then {
            push_once(
                &mut self.verdict.approvals,
                Approval { rule: restrict.rule.clone(), hold: hold.clone() },
            );
        }
        let (why, next) = message::restricted(restrict, atom);
        self.object(Objection {
            asked: match restrict.then {
                Then::Hold(_) => Action::Hold,
                Then::Cut | Then::Refuse => Action::Refuse,
            },
            rank: RANK_RESTRICT,
            rule: restrict.rule.clone(),
            object: atom.object,
            why,
            next,
        });
    }

    fn labels(
        &mut self,
        statement: &StatementFacts,
        resolution: &Resolution,
        tree: Option<&mut StatementTree>,
    ) {
        let outcome = match self.context.sight {
            Some(sight) => Near {
                sight,
                subject: self.subject,
                permits: &self.policy.model.permits,
                atoms: self.atoms,
                statement,
                resolution,
            }
            .judge(),
            None => labels::unseen(&self.policy.model.labels, self.atoms),
        };
        let reached = match outcome {
            Outcome::Far => return,
            Outcome::Near(fields) => {
                if let (Some(tree), Some(sight)) = (tree, self.context.sight) {
                    tree.fields = fields::describe(&fields, sight);
                }
                self.verdict.fields = Some(Arc::new(fields));
                return;
            }
            Outcome::Refused(reached) => reached,
        };
        let rule = reached.rule;
        if let Some(tree) = tree {
            tree.leaves.push(Leaf::label(&rule, &reached.why));
        }
        self.object(Objection {
            asked: Action::Refuse,
            rank: RANK_LABEL,
            rule,
            object: Object::Whole,
            why: reached.why.into(),
            next: reached.next.into(),
        });
    }

    fn object(&mut self, objection: Objection<'j>) {
        self.objections += 1;
        push_rule(&mut self.verdict.rules, &objection.rule);
        let stricter = self.worst.as_ref().is_none_or(|worst| {
            (objection.asked, std::cmp::Reverse(objection.rank))
                > (worst.asked, std::cmp::Reverse(worst.rank))
        });
        if stricter {
            self.worst = Some(objection);
        }
    }

    fn finish(self, statement: &StatementFacts) -> Judgement {
        let mut verdict = self.verdict;
        let Some(worst) = self.worst else { return verdict };
        (verdict.asked, verdict.action) = (worst.asked, worst.asked);
        match worst.asked {
            Action::Hold => verdict.message = message::held(statement, &worst, self.objections),
            Action::Allow | Action::Refuse => {
                verdict.action = Action::Refuse;
                verdict.sqlstate = SQLSTATE_REFUSED;
                verdict.message = message::refusal(statement, &worst, self.objections);
                verdict.approvals.clear();
            }
        }
        verdict.rule = Some(worst.rule);
        verdict
    }
}

/// Whether a restrict applies: all of `when` are met and not all of `unless`. What nobody can tell yet counts against
/// the statement: met in `when`, not met in `unless`.
pub(crate) fn fires(restrict: &Restrict, situation: &Situation<'_>) -> bool {
    let met = |condition: &Condition, unknown: bool| condition.met(situation).unwrap_or(unknown);
    let when = restrict.when.iter().all(|condition| met(condition, true));
    let exempt = !restrict.unless.is_empty() && restrict.unless.iter().all(|condition| met(condition, false));
    when && !exempt
}

/// Whether `observe` still only measures: up to the end of its last day, UTC.
pub(crate) fn is_running(observe: &Observe, now_s: i64) -> bool {
    const DAY_S: i64 = 86_400;
    now_s.div_euclid(DAY_S) <= observe.until_day
}

fn setting_object(setting: &SettingUse) -> Object<'_> {
    Object::Setting {
        name: setting.name.as_deref(),
        category: settings::category_of_use(setting),
        shown: false,
    }
}

fn built_in_objection(object: Object<'_>, refusal: BuiltIn) -> Objection<'_> {
    Objection {
        asked: Action::Refuse,
        rank: RANK_BUILT_IN,
        rule: Rule { id: refusal.id.into(), place: Place::built_in() },
        object,
        why: refusal.why.into(),
        next: refusal.next.into(),
    }
}

fn stale_subject() -> Objection<'static> {
    Objection {
        asked: Action::Refuse,
        rank: RANK_BUILT_IN,
        rule: Rule { id: "builtin.policy-version".into(), place: Place::built_in() },
        object: Object::Whole,
        why: "the session was admitted under another version of the policy".into(),
        next: "reconnect".into(),
    }
}

fn push_rule(rules: &mut Vec<Rule>, rule: &Rule) {
    if !rules.iter().any(|known| known.id == rule.id) {
        rules.push(rule.clone());
    }
}

fn push_once<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// Whether an atom is an update or delete without a predicate, for the advice in messages.
pub(crate) fn is_blind(atom: &Atom<'_>) -> bool {
    matches!(atom.class, Class::WriteUpdate | Class::WriteDelete) && atom.predicate == Predicate::Absent
}
