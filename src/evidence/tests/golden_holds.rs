//! Golden files of holds: kinds 44 to 46, each shape of each of them.

use std::path::PathBuf;

use super::directory::check;
use super::golden::{self, Script, folder, header, same, told};
use super::samples;
use crate::evidence::read::segment_name;
use crate::evidence::record::v1::*;
use crate::evidence::record::{Entry, How, Kind};

fn golden() -> PathBuf {
    folder("evidence_v1_holds")
}

/// A decision of the gateway's stream on hold `hold` of session 3.
fn decided<'a>(hold: &'a str, groups: &'a [Text<'a>], binding: &'a [u8; 32]) -> HoldDecided<'a> {
    HoldDecided {
        hold,
        session: [3; 16],
        statement: 4,
        decision: "approve",
        refused: None,
        reason: "ticket 4711",
        binding,
        issuer: "corp",
        issuer_url: "https://id.example.com",
        subject: "lee",
        person: Some("lee@example.com"),
        groups,
        token_thumbprint: "0123456789abcdef0123456789abcdef",
        token_id: Some("jti-1"),
        channel: "control-socket",
    }
}

/// A statement that is held, with the judged text before it.
fn held(script: &mut Script, number: u64) {
    let facts = samples::facts();
    let Entry::Statement(statement) = samples::statement(&facts) else { panic!("a sample") };
    let statement = Statement { action: Action::Hold, ..statement };
    script.put(3, number, &Entry::JudgedText(statement.shared()), How::QUEUED);
    script.put(3, number + 1, &Entry::Statement(statement), How::GATED);
}

fn made() -> Vec<u8> {
    let mut script = Script::begin(&header());
    golden::gateway(&mut script);
    golden::login(&mut script);
    let (binding, dba) = ([5; 32], [Text { text: "dba" }, Text { text: "owners" }]);
    let needs = [HoldNeed { rule: "any.blind-write (policy.toml:48)", approvers: &dba, quorum: 2 }];
    let opened = |hold, in_transaction, limit| HoldOpened {
        hold,
        needs: &needs,
        binding: &binding,
        in_transaction,
        expires_ns: 1_795_000_000_000_000_000,
        limit,
    };
    let ended = |hold, outcome, reason, approved_by| HoldEnded {
        hold,
        outcome,
        reason,
        approved_by,
        waited_ns: 2_000_000_000,
    };
    held(&mut script, 3);
    let first = "7K3M-9QX2-TB4R";
    let entry = Entry::HoldOpened(opened(first, false, "rule"));
    script.put(3, 5, &entry, How::GATED.belonging_to(4));
    let again = HoldDecided {
        refused: Some("requester"),
        reason: "",
        person: None,
        token_id: None,
        ..decided(first, &[], &binding)
    };
    script.put(1, 4, &Entry::HoldDecided(again), How::GATED);
    script.put(1, 5, &Entry::HoldDecided(decided(first, &dba, &binding)), How::GATED);
    let by = [Text { text: "corp/lee@example.com" }, Text { text: "corp/kay@example.com" }];
    let entry = Entry::HoldEnded(ended(first, HoldOutcome::Released, "approved", &by));
    script.put(3, 6, &entry, How::GATED.belonging_to(4));
    script.put(3, 7, &samples::result(), How::QUEUED.answering(4));
    let others = [
        (HoldOutcome::Denied, "not on a Friday"),
        (HoldOutcome::Expired, "nobody decided in time"),
        (HoldOutcome::Withdrawn, "a cancel request came"),
        (HoldOutcome::Superseded, "the policy has changed"),
    ];
    let mut number = 8;
    for (outcome, reason) in others {
        held(&mut script, number);
        let entry = Entry::HoldOpened(opened("0000-0000-0001", true, "token"));
        script.put(3, number + 2, &entry, How::GATED.belonging_to(number + 1));
        let entry = Entry::HoldEnded(ended("0000-0000-0001", outcome, reason, &[]));
        script.put(3, number + 3, &entry, How::QUEUED.belonging_to(number + 1));
        let refusal = Refusal { sqlstate: "PH001", rule: "built-in: hold", message: reason, how: "local" };
        script.put(3, number + 4, &Entry::Refusal(refusal), How::QUEUED.answering(number + 1));
        number += 5;
    }
    script.put(3, number, &samples::closed_entry(&Totals::default()), How::QUEUED);
    script.put(1, 6, &Entry::GatewayStopped(GatewayStopped { reason: "signal" }), How::GATED);
    script.seal();
    let missing: Vec<_> = Kind::ALL
        .iter()
        .filter(|kind| (44..=46).contains(&kind.code()) && !script.kinds.contains(kind))
        .collect();
    assert!(missing.is_empty(), "{missing:?} are not in the golden file");
    script.closed()
}

#[test]
fn holds_are_written_byte_for_byte_as_they_were_published() {
    same(&golden(), &segment_name(0), &made());
}

#[test]
fn holds_read_as_they_were_published() {
    let report = check(&golden());
    assert_eq!(report.bad, None);
    assert_eq!((report.sessions_closed, report.open.len()), (1, 0));
    same(&golden(), "records.txt", told(&golden()).as_bytes());
}
