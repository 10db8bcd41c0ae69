//! Which events are wanted.
//!
//! Owns: the filter's arguments and what each means. All that are given must hold; of one that is given several times, one must.
//! Every pattern is a whole word with `*` for any characters; it is compared with the words as they were recorded.

use super::event::{Event, Exact, Identity, Statement};
use super::time;
use crate::evidence::describe::hex;
use crate::evidence::reference::Reference;

/// Shortest digest that is looked for, hexadecimal digits.
const DIGEST_DIGITS_MIN: usize = 6;

/// What is asked for.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Filter")]
pub struct Filter {
    /// Whose: subject or person, `*` for any characters.
    #[arg(long, value_name = "PATTERN")]
    pub who: Vec<String>,
    /// A group of the policy that the session matched.
    #[arg(long, value_name = "PATTERN")]
    pub group: Vec<String>,
    /// A kept claim: PATH=VALUE, the value as a word or as JSON, or PATH alone.
    #[arg(long, value_name = "PATH=PATTERN")]
    pub claim: Vec<String>,
    /// The target.
    #[arg(long, value_name = "PATTERN")]
    pub target: Vec<String>,
    /// A relation that the statement names: schema.name. What a view, a function or a trigger reads, and the partitions below a
    /// table, are not named: ask for them too.
    #[arg(long, value_name = "PATTERN", value_parser = relation)]
    pub relation: Vec<String>,
    /// A class of the statement or of what it reaches; `ddl` means all of `ddl.*` too.
    #[arg(long, value_name = "CLASS")]
    pub class: Vec<String>,
    /// What was decided.
    #[arg(long, value_name = "VERDICT", value_parser = ["allow", "hold", "refuse"])]
    pub verdict: Vec<String>,
    /// How it ended.
    #[arg(long, value_name = "OUTCOME",
        value_parser = ["completed", "failed", "suspended", "skipped", "refused", "unknown", "parsed"])]
    pub outcome: Vec<String>,
    /// A rule that decided, by its id.
    #[arg(long, value_name = "PATTERN")]
    pub rule: Vec<String>,
    /// From this time on: 2026-11-21, or 2026-11-21T14:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time::begin)]
    pub from: Option<u64>,
    /// Before this time; a date means to its end.
    #[arg(long, value_name = "TIME", value_parser = time::end)]
    pub to: Option<u64>,
    /// Words in the text (the exact one where it is recorded, else with literals lifted), upper or lower case.
    #[arg(long, value_name = "WORDS")]
    pub text: Vec<String>,
    /// The first digits of a text's commitment, of a digest of parameters or rows, of a policy's or record's hash.
    #[arg(long, value_name = "HEX", value_parser = digest)]
    pub digest: Vec<String>,
    /// More rows than this.
    #[arg(long, value_name = "ROWS")]
    pub rows_over: Option<u64>,
    /// Only statements of whose result something was masked.
    #[arg(long)]
    pub masked: bool,
    /// A session, by the first digits of its id.
    #[arg(long, value_name = "ID", value_parser = session)]
    pub session: Option<String>,
    /// The reference that a refused client was told: `[ref …]`.
    #[arg(long = "ref", value_name = "REF", value_parser = Reference::parse)]
    pub reference: Option<Reference>,
    /// Events of this kind: `statement`, another record's kind, `*` for all.
    #[arg(long, value_name = "PATTERN")]
    pub kind: Vec<String>,
}

fn digest(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    if text.len() < DIGEST_DIGITS_MIN || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("write at least {DIGEST_DIGITS_MIN} hexadecimal digits"));
    }
    Ok(text)
}

/// The first digits of a session's id.
///
/// # Errors
/// Words for whoever typed it.
pub fn session(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("write the first hexadecimal digits of a session's id".to_owned());
    }
    Ok(text)
}

/// Relations are recorded with their schema: a bare name would never fit.
fn relation(text: &str) -> Result<String, String> {
    if text.contains(['.', '*']) {
        Ok(text.to_owned())
    } else {
        Err(format!("write schema.name, or *.{text} for every schema's"))
    }
}

/// Whether `text` is what `pattern` says: `*` is any characters, the rest is meant as it stands.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Whether nothing is asked, or one of the patterns fits one of the words.
fn any<'w>(patterns: &[String], words: impl IntoIterator<Item = &'w str> + Clone) -> bool {
    patterns.is_empty()
        || patterns.iter().any(|pattern| words.clone().into_iter().any(|word| matches(pattern, word)))
}

/// Whether a reference names the event: its own record, or that of its refusal.
pub fn referred(asked: Reference, event: &Event) -> bool {
    let refusal = event.statement().and_then(|statement| statement.refusal.as_ref());
    let numbers = [Some(event.number), refusal.map(|refusal| refusal.number)];
    numbers.into_iter().flatten().any(|number| asked.names(&event.stream, number))
}

/// Whether a class is the wanted one, below it, or fits its pattern.
pub fn within(class: &str, wanted: &str) -> bool {
    class == wanted
        || class.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
        || matches(wanted, class)
}

/// Whether one of the kept claims is `wanted`: PATH=PATTERN, or PATH alone.
pub fn claim_fits(wanted: &str, who: &Identity) -> bool {
    let (path, value) = wanted.split_once('=').unwrap_or((wanted, "*"));
    who.claims.iter().any(|(name, json)| {
        // A word is wanted as it is read, any other value as it is written.
        let word = serde_json::from_str::<String>(json).ok();
        name == path && (matches(value, json) || word.is_some_and(|word| matches(value, &word)))
    })
}

/// The ids of the rules that decided a statement.
pub fn rules(statement: &Statement) -> Vec<&str> {
    let rules = statement.judged.rule.split([',', ';']).map(str::trim);
    let ids = rules.map(|rule| rule.split(' ').next().unwrap_or_default());
    // What a rule in observation would have done decided nothing.
    ids.filter(|id| *id != "observed:").collect()
}

impl Filter {
    /// Whether nothing but statements can fit.
    fn wants_statements(&self) -> bool {
        (self.kind.is_empty() && self.reference.is_none())
            || self.masked
            || self.rows_over.is_some()
            || [&self.relation, &self.class, &self.verdict, &self.outcome, &self.rule, &self.text]
                .iter()
                .any(|asked| !asked.is_empty())
    }

    /// Whether the event is wanted.
    pub fn wants(&self, event: &Event) -> bool {
        self.kind_fits(event)
            && self.from.is_none_or(|from| event.time_ns >= from)
            && self.to.is_none_or(|to| event.time_ns < to)
            && self.session.as_ref().is_none_or(|id| hex(&event.stream).starts_with(id))
            && self.reference.is_none_or(|asked| referred(asked, event))
            && self.who_fits(event)
            && self.digest_fits(event)
            && match event.statement() {
                Some(statement) => self.statement_fits(statement),
                None => !self.wants_statements(),
            }
    }

    fn kind_fits(&self, event: &Event) -> bool {
        // A permitted Parse runs nothing: whoever counts statements counts its executions.
        let parsed = event.statement().is_some_and(|statement| statement.runs_nothing);
        if parsed && !self.outcome.iter().any(|outcome| outcome == "parsed") {
            return false;
        }
        any(&self.kind, [event.kind()])
    }

    fn who_fits(&self, event: &Event) -> bool {
        let session = event.session.as_deref();
        let target = session.and_then(|session| session.target.as_ref()).map(|target| target.target.as_str());
        if !any(&self.target, target) {
            return false;
        }
        match session.and_then(|session| session.identity.as_ref()) {
            Some(who) => {
                any(&self.who, [Some(who.subject.as_str()), who.person.as_deref()].into_iter().flatten())
                    && any(&self.group, who.groups.iter().map(String::as_str))
                    && (self.claim.is_empty() || self.claim.iter().any(|claim| claim_fits(claim, who)))
            }
            None => self.who.is_empty() && self.group.is_empty() && self.claim.is_empty(),
        }
    }

    fn digest_fits(&self, event: &Event) -> bool {
        if self.digest.is_empty() {
            return true;
        }
        let mut known = vec![hex(&event.hash)];
        if let Some(statement) = event.statement() {
            let results = statement.results.iter().filter_map(|result| result.digest.as_ref());
            let own = [&statement.text_commitment, &statement.parameter_digest].into_iter().flatten();
            known.extend(own.chain([&statement.judged.policy_hash]).chain(results).map(|digest| hex(digest)));
        }
        self.digest.iter().any(|wanted| known.iter().any(|digest| digest.starts_with(wanted)))
    }

    fn statement_fits(&self, statement: &Statement) -> bool {
        let text = || match statement.captured.text.as_deref() {
            Some(Exact::Whole(exact) | Exact::Masked(exact)) => exact.to_lowercase(),
            Some(Exact::Withheld(_)) | None => {
                statement.judged.text.as_deref().unwrap_or_default().to_lowercase()
            }
        };
        let classes = || statement.classes();
        any(&self.verdict, [statement.verdict()])
            && any(&self.outcome, [statement.outcome()])
            && (!self.masked || statement.masked_values() > 0)
            && self.rows_over.is_none_or(|rows| statement.rows() > rows)
            && (self.relation.is_empty() || any(&self.relation, statement.relations()))
            && (self.class.is_empty()
                || self.class.iter().any(|wanted| classes().iter().any(|class| within(class, wanted))))
            && (self.rule.is_empty() || any(&self.rule, rules(statement)))
            && (self.text.is_empty() || self.text.iter().any(|words| text().contains(&words.to_lowercase())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_is_any_characters_and_the_rest_is_meant_as_it_stands() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("crm.*", "crm.customers", true),
            ("crm.*", "crmx", false),
            ("*b*b*", "abab", true),
            ("*b*b", "ab", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
        assert!(within("ddl.drop", "ddl") && !within("ddlx", "ddl") && within("ddl.drop", "ddl.*"));
        assert!(digest("ABCDEF").is_ok() && digest("abc").is_err() && digest("nothex!").is_err());
    }

    /// The naive twin: try every length for every star.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|at| naive(rest, &text[at..])),
            Some((first, rest)) => {
                text.split_first().is_some_and(|(head, tail)| head == first && naive(rest, tail))
            }
        }
    }

    proptest! {
        #[test]
        fn patterns_agree_with_trying_everything(pattern in "[ab*]{0,7}", text in "[ab]{0,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<char>>();
            prop_assert_eq!(matches(&pattern, &text), naive(&chars(&pattern), &chars(&text)));
        }
    }
}
