//! How much is recorded, of whom.

use super::support::{policy, principal, subject};
use crate::mask::detect::Detector;
use crate::policy::{Labelled, Record, Recording};

const FOR_ALL: &str =
    "[[detector]]\nid = \"d\"\ngroups = [\"*\"]\ntargets = [\"*\"]\ndetect = [\"card\"]\nmask = \"fixed\"\n";
const FOR_G: &str =
    "[[detector]]\nid = \"d\"\ngroups = [\"g\"]\ntargets = [\"*\"]\ndetect = [\"email\"]\nmask = \"fixed\"\n";

/// Of somebody in group `g`, where nothing is labelled.
fn of_g(rules: &str) -> Recording {
    let policy = policy("read", rules);
    subject(&policy).recording(&policy, &Labelled::default())
}

fn defaults(record: &str) -> String {
    format!("[defaults]\nrecord = \"{record}\"\nrecord_rows_bytes_max = 77\n")
}

#[test]
fn rows_are_the_default_where_something_masks() {
    let bare = of_g("");
    assert_eq!((bare.record, bare.by_default), (Record::Digest, true));
    let masked = of_g(FOR_ALL);
    assert_eq!((masked.record, masked.rows_bytes_max, masked.by_default), (Record::Rows, 1 << 20, true));
    assert!(masked.detectors.style(Detector::Card).is_some());
}

#[test]
fn an_access_entry_says_otherwise_than_the_defaults() {
    let said = of_g(&format!("record = \"text\"\n{}", defaults("digest")));
    assert_eq!((said.record, said.rows_bytes_max, said.by_default), (Record::Text, 77, false));
    assert!(said.why.starts_with("access all (policy.toml:"), "{}", said.why);
    assert_eq!(of_g(&format!("record_rows_bytes_max = 5\n{}", defaults("digest"))).rows_bytes_max, 5);
    assert_eq!(of_g(&format!("{FOR_ALL}{}", defaults("digest"))).record, Record::Digest);
}

#[test]
fn rows_are_kept_only_where_the_masker_stands_before_them() {
    let bare = of_g(&defaults("rows"));
    assert_eq!(bare.record, Record::Digest);
    assert!(bare.why.contains("neither labels nor detectors"), "{}", bare.why);
    let policy = policy("read", FOR_G);
    let other = policy.subject(&principal(Some(&["other"])), "crm-prod", None).expect("an access entry");
    let lowered = other.recording(&policy, &Labelled::default());
    assert_eq!(lowered.record, Record::Text);
    assert!(lowered.why.contains("off for this identity"), "{}", lowered.why);
    assert!(lowered.detectors.style(Detector::Email).is_some(), "texts are searched all the same");
    let unknown = policy.subject(&principal(None), "crm-prod", None).expect("an access entry");
    assert_eq!(
        unknown.recording(&policy, &Labelled::default()).record,
        Record::Rows,
        "who may be in a group is searched"
    );
}
