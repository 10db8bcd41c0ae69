//! Whether a question to the evidence can be meant, and what it names that no record does.
//!
//! Owns: the checks of a filter's words before the evidence is read, and the words about those that fit nothing behind it. To an
//! auditor nothing is an answer: it must not come of a slip of the pen. May not: change what a filter means.

use std::collections::BTreeSet;

use pgturnstile_rules::class::Class;
use pgturnstile_rules::document::nearest;

use super::reading::NO_SESSION;
use crate::audit::event::{Event, Identity};
use crate::audit::filter::{Filter, claim_fits, matches, referred, rules, within};
use crate::evidence::describe::{escaped, hex};
use crate::evidence::record::Kind;

/// Words that are kept to be told, of one filter.
const WORDS_KEPT: usize = 1_000;
/// Words that are told where none is near.
const WORDS_TOLD: usize = 8;

/// What is wrong with a filter before anything is read: closed lists, and times in the wrong order.
pub(super) fn fault(filter: &Filter) -> Option<String> {
    let classes: BTreeSet<&str> = Class::ALL
        .iter()
        .flat_map(|class| [class.name(), class.name().split('.').next().unwrap_or_default()])
        .collect();
    for wanted in &filter.class {
        if !classes.iter().any(|class| within(class, wanted)) {
            return Some(format!("--class {wanted}: no class is called so; {}", told(wanted, &classes)));
        }
    }
    let kinds: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    for wanted in &filter.kind {
        if !kinds.iter().any(|kind| matches(wanted, kind)) {
            return Some(format!("--kind {wanted}: no record is of such a kind; {}", told(wanted, &kinds)));
        }
    }
    match (filter.from, filter.to) {
        (Some(from), Some(to)) if from >= to => Some("--to lies before --from".to_owned()),
        (Some(_) | None, Some(_) | None) => None,
    }
}

/// `did you mean write?`, or some of what there is.
fn told(wanted: &str, there: &BTreeSet<&str>) -> String {
    let bare = wanted.trim_matches('*').to_lowercase();
    let words: Vec<&str> = there.iter().copied().collect();
    let same = words.iter().find(|word| word.to_lowercase() == bare);
    if let Some(near) = same.copied().or_else(|| nearest(&bare, &words)) {
        return format!("did you mean {}?", escaped(near));
    }
    let mut shown: Vec<String> = words.iter().take(WORDS_TOLD).map(|word| escaped(word)).collect();
    if words.len() > WORDS_TOLD {
        shown.push(format!("{} more", words.len() - WORDS_TOLD));
    }
    match shown.len() {
        0 => "there is none at all".to_owned(),
        1 => format!("there is {}", shown.concat()),
        _ => format!("there are {}", shown.join(", ")),
    }
}

/// Words of an event that a filter is held against.
type Words = for<'e> fn(&'e Event) -> Vec<&'e str>;

/// A filter whose words are anybody's, and what came by for it.
struct Open<'f> {
    /// `a target`: what it asks for.
    what: &'static str,
    option: &'static str,
    wanted: &'f [String],
    words: Words,
    fits: fn(&str, &Event, Words) -> bool,
    met: bool,
    there: BTreeSet<String>,
}

/// The open filters of a question, and which of them no event fits by itself.
pub(super) struct Unmet<'f> {
    filter: &'f Filter,
    open: Vec<Open<'f>>,
    session: bool,
    reference: bool,
}

fn by_words(wanted: &str, event: &Event, words: Words) -> bool {
    words(event).iter().any(|word| matches(wanted, word))
}

fn identity(event: &Event) -> Option<&Identity> {
    event.session.as_deref()?.identity.as_ref()
}

fn claims(event: &Event) -> Vec<&str> {
    identity(event).map(|who| who.claims.iter().map(|(path, _)| path.as_str()).collect()).unwrap_or_default()
}

fn people(event: &Event) -> Vec<&str> {
    identity(event).map_or_else(Vec::new, |who| {
        std::iter::once(who.subject.as_str()).chain(who.person.as_deref()).collect()
    })
}

fn groups(event: &Event) -> Vec<&str> {
    identity(event).map(|who| who.groups.iter().map(String::as_str).collect()).unwrap_or_default()
}

fn targets(event: &Event) -> Vec<&str> {
    let target = event.session.as_deref().and_then(|session| session.target.as_ref());
    target.map(|target| target.target.as_str()).into_iter().collect()
}

impl<'f> Unmet<'f> {
    pub(super) fn of(filter: &'f Filter) -> Unmet<'f> {
        let open = |option, what, wanted: &'f [String], words: Words| Open {
            what,
            option,
            wanted,
            words,
            fits: by_words,
            met: wanted.is_empty(),
            there: BTreeSet::new(),
        };
        let claim = |wanted: &str, event: &Event, _: Words| {
            identity(event).is_some_and(|who| claim_fits(wanted, who))
        };
        let open = vec![
            open("--who", "a subject or person", &filter.who, people),
            open("--group", "a group", &filter.group, groups),
            Open { fits: claim, ..open("--claim", "a kept claim", &filter.claim, claims) },
            open("--target", "a target", &filter.target, targets),
            open("--relation", "a relation", &filter.relation, |event| {
                event.statement().map(|statement| statement.relations()).unwrap_or_default()
            }),
            open("--rule", "a rule", &filter.rule, |event| event.statement().map(rules).unwrap_or_default()),
            // A statement's refusal, results and rows are told with it.
            open("--kind", "a kind that is told by itself", &filter.kind, |event| vec![event.kind()]),
        ];
        Unmet { filter, open, session: filter.session.is_none(), reference: filter.reference.is_none() }
    }

    /// Takes an event, wanted or not, while none was wanted.
    pub(super) fn take(&mut self, event: &Event) {
        self.session |= self.filter.session.as_ref().is_some_and(|id| hex(&event.stream).starts_with(id));
        self.reference |= self.filter.reference.is_some_and(|asked| referred(asked, event));
        for open in self.open.iter_mut().filter(|open| !open.met) {
            open.met = open.wanted.iter().any(|wanted| (open.fits)(wanted, event, open.words));
            for word in (open.words)(event) {
                if open.there.len() < WORDS_KEPT && !open.there.contains(word) {
                    open.there.insert(word.to_owned());
                }
            }
        }
    }

    /// A line for each filter that no event fits by itself.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.session {
            lines.push(format!("--session: {NO_SESSION}"));
        }
        if !self.reference {
            lines.push("--ref: no record of this log bears it".to_owned());
        }
        for open in self.open.iter().filter(|open| !open.met) {
            let there: BTreeSet<&str> = open.there.iter().map(String::as_str).collect();
            let wanted: Vec<String> = open.wanted.iter().map(|wanted| escaped(wanted)).collect();
            let first = open.wanted.first().map(String::as_str).unwrap_or_default();
            lines.push(format!(
                "{}: no record names {} that fits {}; {}",
                open.option,
                open.what,
                wanted.join(" or "),
                told(first, &there)
            ));
        }
        lines
    }
}
