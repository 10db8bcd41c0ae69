//! The judged texts that a session's next statement may share.
//!
//! Owns: the comparison, by value, with the last few. May not: outlive its session or decide anything: a text that is not
//! found is recorded once more, which is never wrong. Bounds: [`RECENT_TEXTS_MAX`] texts of [`RECENT_TEXT_BYTES_MAX`].

use super::chain::Hash;
use super::limits::{RECENT_TEXT_BYTES_MAX, RECENT_TEXTS_MAX};
use super::record::v1::{Action, Facts, JudgedText, TextHeld};

/// One judged text, and where it was recorded.
#[derive(Debug)]
pub(crate) struct Recent {
    lifted: bool,
    text: Box<str>,
    facts: Box<[Facts]>,
    action: Action,
    rule: Box<str>,
    policy_hash: Hash,
    catalog_epoch: u64,
}

impl Recent {
    /// A copy to compare with; `None` where the text is too long to be kept.
    pub(crate) fn of(judged: &JudgedText<'_>) -> Option<Recent> {
        let (lifted, text) = held(&judged.text);
        (text.len() <= RECENT_TEXT_BYTES_MAX).then(|| Recent {
            lifted,
            text: text.into(),
            facts: judged.facts.into(),
            action: judged.action,
            rule: judged.rule.into(),
            policy_hash: judged.policy_hash,
            catalog_epoch: judged.catalog_epoch,
        })
    }

    fn is(&self, judged: &JudgedText<'_>) -> bool {
        let JudgedText { text, facts, action, rule, policy_hash, catalog_epoch } = judged;
        (self.lifted, &*self.text) == held(text)
            && self.action == *action
            && &*self.rule == *rule
            && self.catalog_epoch == *catalog_epoch
            && self.policy_hash == *policy_hash
            && &*self.facts == *facts
    }
}

fn held<'a>(text: &TextHeld<'a>) -> (bool, &'a str) {
    match text {
        TextHeld::Lifted(text) => (true, text),
        TextHeld::Withheld(why) => (false, why),
    }
}

/// The last few of a session.
#[derive(Debug, Default)]
pub(crate) struct RecentTexts {
    list: Vec<(Recent, u64)>,
    next: usize,
}

impl RecentTexts {
    /// Where an equal text was recorded: its number in the stream.
    pub(crate) fn find(&self, judged: &JudgedText<'_>) -> Option<u64> {
        self.list.iter().find(|(recent, _)| recent.is(judged)).map(|(_, at)| *at)
    }

    /// Remembers a text that was recorded, in place of the oldest.
    pub(crate) fn remember(&mut self, recent: Recent, at: u64) {
        if self.list.len() < RECENT_TEXTS_MAX {
            self.list.push((recent, at));
        } else {
            self.list[self.next] = (recent, at);
            self.next = (self.next + 1) % RECENT_TEXTS_MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged<'a>(text: &'a str, facts: &'a [Facts], rule: &'a str) -> JudgedText<'a> {
        JudgedText {
            text: TextHeld::Lifted(text),
            facts,
            action: Action::Allow,
            rule,
            policy_hash: [1; 32],
            catalog_epoch: 1,
        }
    }

    #[test]
    fn only_what_is_equal_in_every_part_is_shared() {
        let facts = [Facts { class: "read.select".into(), ..Facts::default() }];
        let base = judged("select $1", &facts, "r");
        let mut recent = RecentTexts::default();
        recent.remember(Recent::of(&base).unwrap(), 4);
        assert_eq!(recent.find(&base), Some(4));
        let others = [
            judged("select $2", &facts, "r"),
            judged("select $1", &[], "r"),
            judged("select $1", &facts, "s"),
            JudgedText { text: TextHeld::Withheld("select $1"), ..base },
            JudgedText { action: Action::Refuse, ..base },
            JudgedText { policy_hash: [2; 32], ..base },
            JudgedText { catalog_epoch: 2, ..base },
        ];
        for other in others {
            assert_eq!(recent.find(&other), None, "{other:?}");
        }
    }

    #[test]
    fn the_oldest_goes_and_long_texts_are_not_kept() {
        let texts: Vec<String> = (0..=RECENT_TEXTS_MAX).map(|number| format!("select {number}")).collect();
        let mut recent = RecentTexts::default();
        for (at, text) in (0..).zip(&texts) {
            recent.remember(Recent::of(&judged(text, &[], "r")).unwrap(), at);
        }
        assert_eq!(recent.find(&judged(&texts[0], &[], "r")), None);
        assert_eq!(recent.find(&judged(&texts[1], &[], "r")), Some(1));
        assert_eq!(recent.find(&judged(&texts[RECENT_TEXTS_MAX], &[], "r")), Some(RECENT_TEXTS_MAX as u64));
        assert!(Recent::of(&judged(&"x".repeat(RECENT_TEXT_BYTES_MAX + 1), &[], "r")).is_none());
    }
}
