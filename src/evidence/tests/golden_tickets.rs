//! Golden files of tickets: kinds 47 to 50, each shape of each of them.

use std::path::PathBuf;

use super::directory::check;
use super::golden::{self, Script, folder, header, same, told};
use super::samples;
use crate::evidence::read::segment_name;
use crate::evidence::record::v1::*;
use crate::evidence::record::{Entry, How, Kind};

fn golden() -> PathBuf {
    folder("evidence_v1_tickets")
}

/// A decision of the gateway's stream on ticket `ticket` of session 3.
fn decided<'a>(ticket: &'a str, groups: &'a [Text<'a>], binding: &'a [u8; 32]) -> TicketDecided<'a> {
    TicketDecided {
        ticket,
        session: [3; 16],
        statement: 4,
        decision: "approve",
        refused: None,
        reason: "change 4711",
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

fn refused(script: &mut Script, number: u64, statement: u64, message: &str) {
    let refusal = Refusal { sqlstate: "PH005", rule: "built-in: hold-ticket", message, how: "local" };
    script.put(3, number, &Entry::Refusal(refusal), How::QUEUED.answering(statement));
}

fn made() -> Vec<u8> {
    let mut script = Script::begin(&header());
    golden::gateway(&mut script);
    golden::login(&mut script);
    let (binding, dba) = ([5; 32], [Text { text: "dba" }, Text { text: "owners" }]);
    let needs = [HoldNeed { rule: "any.blind-write (policy.toml:48)", approvers: &dba, quorum: 2 }];
    let first = "7K3M-9QX2-TB4R";
    let opened = |ticket, why, in_transaction| TicketOpened {
        ticket,
        why,
        needs: &needs,
        binding: &binding,
        in_transaction,
        expires_ns: 1_795_000_000_000_000_000,
    };
    held(&mut script, 3);
    script.put(3, 5, &Entry::TicketOpened(opened(first, "mode", false)), How::GATED.belonging_to(4));
    refused(&mut script, 6, 4, "it is a ticket");
    let again = TicketDecided {
        refused: Some("requester"),
        reason: "",
        person: None,
        token_id: None,
        ..decided(first, &[], &binding)
    };
    script.put(1, 4, &Entry::TicketDecided(again), How::GATED);
    script.put(1, 5, &Entry::TicketDecided(decided(first, &dba, &binding)), How::GATED);
    held(&mut script, 7);
    let by = [Text { text: "corp/lee@example.com" }, Text { text: "corp/kay@example.com" }];
    let used = TicketUsed {
        ticket: first,
        session: [3; 16],
        statement: 4,
        binding: &binding,
        approved_by: &by,
        opened_ns: 1_794_000_000_000_000_000,
    };
    script.put(3, 9, &Entry::TicketUsed(used), How::GATED.belonging_to(8));
    script.put(3, 10, &samples::result(), How::QUEUED.answering(8));
    let others = [
        (TicketOutcome::Denied, "not on a Friday"),
        (TicketOutcome::Expired, "open"),
        (TicketOutcome::Withdrawn, "the journal could not be written"),
    ];
    let mut number = 11;
    for (outcome, reason) in others {
        held(&mut script, number);
        let entry = Entry::TicketOpened(opened("0000-0000-0001", "unanswered", true));
        script.put(3, number + 2, &entry, How::GATED.belonging_to(number + 1));
        refused(&mut script, number + 3, number + 1, reason);
        let ended = TicketEnded {
            ticket: "0000-0000-0001",
            session: [3; 16],
            statement: number + 1,
            outcome,
            reason,
        };
        script.put(3, number + 4, &Entry::TicketEnded(ended), How::QUEUED);
        number += 5;
    }
    script.put(3, number, &samples::closed_entry(&Totals::default()), How::QUEUED);
    script.put(1, 6, &Entry::GatewayStopped(GatewayStopped { reason: "signal" }), How::GATED);
    script.seal();
    let missing: Vec<_> =
        Kind::ALL.iter().filter(|kind| kind.code() > 46 && !script.kinds.contains(kind)).collect();
    assert!(missing.is_empty(), "{missing:?} are not in the golden file");
    script.closed()
}

#[test]
fn tickets_are_written_byte_for_byte_as_they_were_published() {
    same(&golden(), &segment_name(0), &made());
}

#[test]
fn tickets_read_as_they_were_published() {
    let report = check(&golden());
    assert_eq!(report.bad, None);
    assert_eq!((report.sessions_closed, report.open.len()), (1, 0));
    same(&golden(), "records.txt", told(&golden()).as_bytes());
}
