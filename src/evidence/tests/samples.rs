//! Entries as sessions make them.

use crate::evidence::record::v1::*;
use crate::evidence::record::{Entry, How};
use crate::evidence::{Mark, SessionLog};

pub(super) fn opened() -> Entry<'static> {
    Entry::SessionOpened(SessionOpened { peer: "192.0.2.7:40112", listener: "0.0.0.0:6432", tls: "TLSv1.3" })
}

pub(super) fn facts() -> Vec<Facts> {
    vec![Facts {
        class: "read.select".into(),
        tag: "SELECT".into(),
        relations: vec![Relation {
            name: "crm.customers".into(),
            access: "read.select".into(),
            what: "table".into(),
            blind: false,
        }],
        ..Facts::default()
    }]
}

pub(super) fn statement(facts: &[Facts]) -> Entry<'_> {
    Entry::Statement(Statement {
        protocol: Protocol::Simple,
        name: "",
        portal: "",
        text: TextHeld::Lifted("select name from crm.customers where id = $1"),
        text_bytes: 44,
        text_commitment: [7; 32],
        parameters: 0,
        parameter_digest: None,
        facts,
        action: Action::Allow,
        rule: "analyst.read",
        policy_hash: [9; 32],
        catalog_epoch: 3,
    })
}

pub(super) fn result() -> Entry<'static> {
    Entry::StatementResult(StatementResult {
        outcome: Outcome::Completed,
        tag: "SELECT 1",
        sqlstate: None,
        rows: 1,
        bytes: 38,
        bytes_in: 0,
        digest: Some([5; 32]),
        started_ns: 1,
        first_row_ns: 2,
        ended_ns: 3,
    })
}

pub(super) fn closed_entry(totals: &Totals) -> Entry<'_> {
    Entry::SessionClosed(closed(totals))
}

pub(super) fn closed(totals: &Totals) -> SessionClosed<'_> {
    SessionClosed { reason: "Terminate", by: "client", totals }
}

/// One whole session with `statements` statements; the mark of its last record.
pub(super) async fn session(mut log: SessionLog, statements: usize, how: How) -> Mark {
    let facts = facts();
    log.append(opened(), how).await.unwrap();
    for _ in 0..statements {
        let mark = log.append(statement(&facts), how).await.unwrap();
        log.append(result(), How::QUEUED.answering(mark.stream_sequence)).await.unwrap();
    }
    log.close(closed(&Totals::default())).await.unwrap()
}
