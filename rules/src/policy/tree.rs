//! The reason tree: everything that was asked about a statement and what was answered, with file and line.
//!
//! Owns: its shape as JSON and its picture for people (lineage.md 6.4). May not: judge; it is filled by the same run that
//! decides, so it never tells another story.

use core::fmt;

use serde::Serialize;

use crate::policy::atoms::Atom;
use crate::policy::condition::Condition;
use crate::policy::course::TextRefusal;
use crate::policy::judge::Judgement;
use crate::policy::model::{Observe, Restrict, Rule};
use crate::policy::object::Object;
use crate::policy::settings::Category;
use crate::resolve::Reach;
use crate::statement::facts::{Predicate, StatementFacts};

/// Reasons about one statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatementTree {
    /// `allow`, `hold` or `refuse`: what becomes of it.
    pub action: &'static str,
    /// What the policy asks for.
    pub asked: &'static str,
    /// SQLSTATE; empty when it passes.
    pub sqlstate: &'static str,
    /// The statement's class.
    pub class: &'static str,
    /// Its command tag.
    pub tag: &'static str,
    /// What it does, and what was said of each.
    pub atoms: Vec<AtomTree>,
    /// What was said of the statement as a whole.
    pub leaves: Vec<Leaf>,
    /// Near a label, what each field of the result holds and how it leaves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// The message for the client; empty when it passes.
    pub message: String,
    #[serde(skip)]
    headline: &'static str,
}

/// Reasons about one atom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AtomTree {
    /// Its class.
    pub class: &'static str,
    /// Its object.
    pub object: String,
    /// What kind of object, where that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// `absent` or `present`, for updates and deletes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicate: Option<&'static str>,
    /// What in the statement led here.
    pub why: &'static str,
    /// What was said of it.
    pub leaves: Vec<Leaf>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leaf {
    /// What kind of rule answered.
    pub kind: LeafKind,
    /// Its id.
    pub rule: String,
    /// Its file and line; `built in` for what stands in no file.
    pub place: String,
    /// `allow`, `hold`, `cut`, `refuse`, or `none` where it does not apply.
    pub result: &'static str,
    /// In words.
    pub words: String,
}

/// Kinds of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeafKind {
    /// A permit.
    Permit,
    /// No permit.
    DefaultDeny,
    /// A restrict.
    Restrict,
    /// A restrict that is only measured.
    Observed,
    /// A rule of the program.
    BuiltIn,
    /// A label.
    Label,
}

impl Leaf {
    pub(crate) fn permit(rule: &Rule) -> Self {
        Self::of(LeafKind::Permit, rule, "allow", String::new())
    }

    pub(crate) fn default_deny(why: &str) -> Self {
        Self {
            kind: LeafKind::DefaultDeny,
            rule: "default-deny".into(),
            place: "built in".into(),
            result: "refuse",
            words: why.to_owned(),
        }
    }

    pub(crate) fn built_in(id: &str, why: &str) -> Self {
        Self {
            kind: LeafKind::BuiltIn,
            rule: id.to_owned(),
            place: "built in".into(),
            result: "refuse",
            words: why.to_owned(),
        }
    }

    pub(crate) fn label(rule: &Rule, why: &str) -> Self {
        Self::of(LeafKind::Label, rule, "refuse", why.to_owned())
    }

    pub(crate) fn restrict(restrict: &Restrict, fires: bool, observed: Option<&Observe>) -> Self {
        let list = |conditions: &[Condition]| {
            conditions
                .iter()
                .map(|condition| {
                    let mark = if condition.is_built() { "" } else { " (not built)" };
                    format!("{}{mark}", condition.key())
                })
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut words = Vec::new();
        if !restrict.when.is_empty() {
            words.push(format!("when {}", list(&restrict.when)));
        }
        if !restrict.unless.is_empty() {
            words.push(format!("unless {}", list(&restrict.unless)));
        }
        if !fires {
            words.push("does not apply".into());
        }
        if let Some(observe) = observed {
            words.push(format!("only observed until {}: {}", observe.until, observe.reason));
        }
        let (kind, result) = match (fires, observed) {
            (true, Some(_)) => (LeafKind::Observed, restrict.then.name()),
            (true, None) => (LeafKind::Restrict, restrict.then.name()),
            (false, Some(_)) => (LeafKind::Observed, "none"),
            (false, None) => (LeafKind::Restrict, "none"),
        };
        Self::of(kind, &restrict.rule, result, words.join("; "))
    }

    fn of(kind: LeafKind, rule: &Rule, result: &'static str, words: String) -> Self {
        Self { kind, rule: rule.id.to_string(), place: rule.place.to_string(), result, words }
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, rule, place, result, words } = self;
        match kind {
            LeafKind::Permit => write!(f, "permit {rule} ({place})")?,
            LeafKind::DefaultDeny => write!(f, "no permit -> refuse")?,
            LeafKind::Restrict => write!(f, "restrict {rule} ({place}) -> {result}")?,
            LeafKind::Observed => write!(f, "restrict {rule} ({place}) would -> {result}")?,
            LeafKind::BuiltIn => write!(f, "{rule} ({place}) -> {result}")?,
            LeafKind::Label => write!(f, "{rule} ({place}) -> {result}")?,
        }
        if words.is_empty() { Ok(()) } else { write!(f, ": {words}") }
    }
}

impl AtomTree {
    pub(crate) fn new(atom: &Atom<'_>) -> Self {
        Self {
            class: atom.class.name(),
            object: atom.object.to_string(),
            kind: kind_of(&atom.object),
            predicate: match atom.predicate {
                Predicate::NotApplicable => None,
                Predicate::Present => Some("present"),
                Predicate::Absent => Some("absent"),
            },
            why: atom.why,
            leaves: Vec::new(),
        }
    }
}

impl fmt::Display for AtomTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.class, self.object)?;
        if let Some(kind) = self.kind {
            write!(f, " [{kind}]")?;
        }
        if let Some(predicate) = self.predicate {
            write!(f, " [predicate {predicate}]")?;
        }
        Ok(())
    }
}

fn kind_of(object: &Object<'_>) -> Option<&'static str> {
    match object {
        Object::Relation { reach, .. } => Some(match reach {
            Reach::Table => "table",
            Reach::View => "view",
            Reach::MaterializedView => "materialized view",
            Reach::Sequence => "sequence",
            Reach::Foreign => "foreign table",
            Reach::Temporary => "temporary",
            Reach::Catalog => "catalog",
            Reach::DataBearingCatalog => "data-bearing catalog",
            Reach::New => "new",
            Reach::Unresolved => "not found",
        }),
        Object::Setting { category, .. } => Some(match category {
            Category::Client => "client setting",
            Category::Guard => "guard setting",
            Category::Pinned => "pinned setting",
            Category::Custom => "custom setting",
            Category::Closed => "closed setting",
        }),
        Object::Whole | Object::Unfixed | Object::Function { .. } | Object::Named { .. } => None,
    }
}

impl StatementTree {
    pub(crate) fn new(statement: &StatementFacts) -> Self {
        Self {
            action: "",
            asked: "",
            sqlstate: "",
            class: statement.class.name(),
            tag: statement.tag,
            atoms: Vec::new(),
            leaves: Vec::new(),
            fields: Vec::new(),
            message: String::new(),
            headline: "",
        }
    }

    pub(crate) fn conclude(&mut self, judgement: &Judgement) {
        self.action = judgement.action.name();
        self.asked = judgement.asked.name();
        self.sqlstate = judgement.sqlstate;
        self.message.clone_from(&judgement.message);
        self.headline = judgement.action.name();
    }

    /// A rule about whole texts refuses it, before the policy does.
    pub(crate) fn refuse(&mut self, judgement: &Judgement, refusal: &TextRefusal) {
        let rule = judgement.rule.as_ref().map_or("", |rule| &*rule.id);
        self.leaves.insert(0, Leaf::built_in(rule, refusal.why()));
        self.conclude(judgement);
    }

    /// Its picture, as statement `number` of `count`, or as what that one carries.
    #[must_use]
    pub fn render(&self, number: usize, count: usize, carried: bool) -> String {
        let what = if carried { "run by statement" } else { "statement" };
        let mut out =
            format!("+- {what} {number} of {count}  {}  {}  -> {}\n", self.class, self.tag, self.headline);
        for atom in &self.atoms {
            out.push_str(&format!("|  +- {atom}\n"));
            for leaf in &atom.leaves {
                out.push_str(&format!("|  |  +- {leaf}\n"));
            }
        }
        for leaf in &self.leaves {
            out.push_str(&format!("|  +- {leaf}\n"));
        }
        for field in &self.fields {
            out.push_str(&format!("|  +- {field}\n"));
        }
        out
    }
}
