//! From counts and a name to a finding.
//!
//! Owns: the thresholds, and what label is proposed. May not: see a value. A share is asked for where chance makes matches: of
//! random digits of a card's length one in forty passes its check (rules/README.md, Detectors).
//!
//! | proof | high | medium | low |
//! |---|---|---|---|
//! | structure | half of the values, at least ten | any value | |
//! | check digit | half of the values, at least ten | 15 %, at least three; any, where the name says the same | fewer, in text |
//! | form | half of the values, and the name says the same | half of the values; 10 %, at least ten | any value |
//! | the name alone | | digits of the right number, for a form | everything else |

use pgturnstile_rules::mask::detect::Detector;
use pgturnstile_rules::policy::model::Mask;

use super::class::{Class, Confidence, Proof};
use super::names::{Family, suggested};
use super::report::{Basis, Count, Finding, Share};
use super::tally::Tally;

/// Matches that make a sure finding of a share.
const SURE_MIN: u64 = 10;
/// Values that contradict a name when none of them matches.
const CONTRADICT_MIN: u64 = 50;
/// Share of whole matches, percent, from which a mask that shows a part may be proposed.
const WHOLE_PERCENT: u64 = 90;

/// What is known of a column beside its values.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'f> {
    /// Its name.
    pub name: &'f str,
    /// The family of its type.
    pub family: Family,
    /// A mask can be a text.
    pub text: bool,
}

struct Candidate {
    class: Class,
    confidence: Confidence,
    matched: u64,
    whole: u64,
    by_values: bool,
}

/// What the column holds, if anything is found.
pub fn finding(facts: Facts<'_>, tally: &Tally) -> Option<Finding> {
    let hint = suggested(facts.name, facts.family);
    let mut candidates: Vec<Candidate> =
        Detector::ALL.iter().filter_map(|detector| by_values(*detector, hint, facts.family, tally)).collect();
    if let Some(class) = hint.filter(|class| !candidates.iter().any(|found| found.class == *class)) {
        candidates.extend(by_name(class, tally));
    }
    // The surest; of equals the one of more values; of equals the first class.
    candidates.sort_by_key(|found| (std::cmp::Reverse((found.confidence, found.matched)), found.class));
    let rest = candidates.split_off(candidates.len().min(1));
    let best = candidates.pop()?;
    let also: Vec<Class> =
        rest.iter().filter(|found| found.confidence >= Confidence::Medium).map(|found| found.class).collect();
    let whole =
        facts.text && also.is_empty() && best.whole > 0 && best.whole * 100 >= WHOLE_PERCENT * tally.looked;
    let tier = also.iter().map(|class| class.tier()).fold(best.class.tier(), Ord::max);
    let told = best.by_values && best.class.tells_shapes() && also.iter().all(|class| class.tells_shapes());
    Some(Finding {
        class: best.class,
        confidence: best.confidence,
        basis: match (best.by_values, hint == Some(best.class)) {
            (true, true) => Basis::ValuesAndName,
            (true, false) => Basis::Values,
            (false, _) => Basis::Name,
        },
        matched: Count::of(best.matched),
        percent: Count::of(best.matched).exact().map(|matched| matched * 100 / tally.looked.max(1)),
        shapes: if told {
            tally
                .shapes
                .told(tally.looked)
                .into_iter()
                .map(|(shape, percent)| Share { shape, percent })
                .collect()
        } else {
            Vec::new()
        },
        also,
        tier: tier.name().to_owned(),
        mask: if whole { best.class.mask() } else { Mask::Null }.word().to_owned(),
    })
}

fn by_values(detector: Detector, hint: Option<Class>, family: Family, tally: &Tally) -> Option<Candidate> {
    let class = Class::of(detector);
    let (matched, looked) = (tally.matched(detector), tally.looked);
    if matched == 0 {
        return None;
    }
    let named = hint == Some(class);
    let reaches = |percent: u64, least: u64| matched * 100 >= looked * percent && matched >= least;
    let most = reaches(50, SURE_MIN) || named && matched == looked;
    let confidence = match class.proof() {
        Proof::Structure if most => Confidence::High,
        Proof::Structure => Confidence::Medium,
        Proof::CheckDigit if most => Confidence::High,
        Proof::CheckDigit if named || reaches(15, 3) => Confidence::Medium,
        Proof::CheckDigit if family != Family::Number => Confidence::Low,
        Proof::CheckDigit => return None,
        Proof::Form if most && named => Confidence::High,
        Proof::Form if most || reaches(10, SURE_MIN) => Confidence::Medium,
        Proof::Form | Proof::None => Confidence::Low,
    };
    Some(Candidate { class, confidence, matched, whole: tally.whole(detector), by_values: true })
}

/// What only the name says. Values that could show it and never do speak against it.
fn by_name(class: Class, tally: &Tally) -> Option<Candidate> {
    let looked = tally.looked;
    let of_form = class.digits().map_or(0, |digits| tally.with_digits(digits));
    let confidence = if looked >= SURE_MIN && of_form * 100 >= looked * 80 {
        Confidence::Medium
    } else if looked >= CONTRADICT_MIN && class.proof() == Proof::Structure {
        return None;
    } else {
        Confidence::Low
    };
    Some(Candidate { class, confidence, matched: 0, whole: 0, by_values: false })
}

#[cfg(test)]
mod tests {
    use super::super::tally::Spelling;
    use super::*;

    fn of(name: &str, values: &[&str], times: usize) -> Option<Finding> {
        let mut tally = Tally::default();
        for _ in 0..times {
            for value in values {
                tally.add(Spelling::Text, Some(value.as_bytes()));
            }
        }
        finding(Facts { name, family: Family::Text, text: true }, &tally)
    }

    fn said(name: &str, values: &[&str], times: usize) -> String {
        of(name, values, times).map_or_else(
            || "nothing".to_owned(),
            |found| {
                format!(
                    "{} {} {:?} {} {}",
                    found.confidence, found.class, found.basis, found.tier, found.mask
                )
            },
        )
    }

    #[test]
    fn values_make_it_sure_and_names_do_not() {
        assert_eq!(said("x", &["kim@example.com"], 30), "high email Values personal domain");
        assert_eq!(said("email", &["kim@example.com"], 3), "high email ValuesAndName personal domain");
        assert_eq!(said("x", &["kim@example.com"], 3), "medium email Values personal domain");
        assert_eq!(said("email", &[], 1), "low email Name personal null");
        assert_eq!(said("email", &["queued"], 60), "nothing");
        assert_eq!(said("x", &["4111111111111111"], 30), "high card Values secret last4");
        assert_eq!(said("ssn", &["123-45-6789"], 30), "high ssn ValuesAndName restricted last4");
        assert_eq!(said("x", &["123-45-6789"], 30), "medium ssn Values restricted last4");
        assert_eq!(said("ssn", &["123456789"], 30), "medium ssn Name restricted null");
        assert_eq!(said("first_name", &["Kim"], 30), "low person-name Name personal null");
        assert_eq!(said("x", &["Kim"], 30), "nothing");
    }

    #[test]
    fn a_mask_that_shows_a_part_is_for_whole_values_alone() {
        assert_eq!(said("notes", &["write to kim@example.com"], 30), "high email Values personal null");
        assert_eq!(said("notes", &["kim@example.com", "nothing"], 30), "high email Values personal null");
    }

    #[test]
    fn the_strictest_of_several_classes_counts() {
        let mixed = ["kim@example.com", "kim@example.com", "AKIAIOSFODNN7EXAMPLE"];
        assert_eq!(said("x", &mixed, 30), "high email Values secret null");
        let found = of("x", &mixed, 30).unwrap();
        assert_eq!((found.also, found.shapes.len()), (vec![Class::ApiKey], 0));
    }

    #[test]
    fn what_chance_makes_is_no_finding() {
        // Of random digits of this length some pass the check.
        let mut values = vec!["4111111111111112"; 39];
        values.push("4111111111111111");
        assert_eq!(said("order_no", &values, 30), "low card Values secret null");
        assert_eq!(said("card_number", &values, 30), "medium card ValuesAndName secret null");
    }

    #[test]
    fn few_matches_are_not_counted_out() {
        let mut values = vec!["nothing"; 500];
        values.extend(["kim@example.com"; 3]);
        let found = of("x", &values, 1).unwrap();
        assert_eq!((found.matched, found.percent), (Count { at_least: 1, at_most: 9 }, None));
        assert!(found.shapes.iter().all(|share| share.shape != "a@a.a"), "{:?}", found.shapes);
    }
}
