//! From records to events.
//!
//! Owns: what of a session is remembered while it is open, and when an event is whole. May not: judge; it takes sound records in
//! their order. Memory grows with the sessions that are open at once and with the texts that each of them has said.
//!
//! ```text
//!            statement, answer expected                     last answer
//!  (nothing) ───────────────────────────> pending ─────────────────────────> told, settled
//!                                            │  a new run of the gateway, or the end of what there is
//!                                            └──────────────────────────────> told, outcome unknown
//! ```

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use rkyv::option::ArchivedOption;

use super::event::{
    Body, Captured, Event, Exact, Identity, Judged, Refusal, Returned, Session, Statement, Target,
};
use crate::evidence::describe::{Value, describe};
use crate::evidence::format::{FLAG_CLOSES, FLAG_EXPECTS, FLAG_SETTLES, REFERS_TO_NONE, RecordView};
use crate::evidence::record::v1::{
    Action, ArchivedAction, ArchivedAuthenticated, ArchivedFacts, ArchivedJudgedStatement,
    ArchivedJudgedText, ArchivedMasked, ArchivedOutcome, ArchivedProtocol, ArchivedRefusal,
    ArchivedSessionOpened, ArchivedStatementResult, ArchivedTargetChosen, ArchivedTextHeld, ArchivedTextKept,
    Facts, MaskCount, Outcome, Protocol, Relation,
};
use crate::evidence::record::{self, Kind, Payload};

/// Who hears of events.
pub type Hear<'h> = &'h mut dyn FnMut(&Event);

/// A text that was parsed.
struct Parsed {
    commitment: [u8; 32],
    exact: Option<Rc<Exact>>,
}

/// An open stream.
#[derive(Default)]
struct Open {
    /// `None` for the gateway's own run.
    session: Option<Rc<Session>>,
    texts: HashMap<u64, Rc<Judged>>,
    /// The texts that were parsed, for the executions that refer to them.
    parsed: HashMap<u64, Parsed>,
    pending: BTreeMap<u64, Event>,
}

/// Turns records into events.
#[derive(Default)]
pub struct Teller {
    open: HashMap<[u8; 16], Open>,
}

impl Teller {
    /// Takes the next sound record; tells what is whole with it.
    pub fn take(&mut self, record: &RecordView<'_>, hear: Hear<'_>) {
        // The walk has decoded it already: what cannot be decoded never comes here.
        let Ok((kind, payload)) = record::payload(record) else { return };
        let header = record.header();
        if let Payload::GatewayStarted(_) = payload {
            self.cut_off(record.sequence(), hear);
        }
        let open = self.open.entry(header.stream).or_default();
        open.take(record, kind, &payload, hear);
        if header.flags & FLAG_CLOSES != 0 {
            self.open.remove(&header.stream);
        }
    }

    /// Tells the statements whose end is missing: nothing comes behind this.
    pub fn finish(mut self, records: u64, hear: Hear<'_>) {
        self.cut_off(records, hear);
    }

    /// A run ended without closing its sessions: what waits there has no end.
    fn cut_off(&mut self, at: u64, hear: Hear<'_>) {
        let mut left: Vec<Event> =
            self.open.drain().flat_map(|(_, open)| open.pending.into_values()).collect();
        left.sort_unstable_by_key(|event| event.sequence);
        for mut event in left {
            event.told_at = at;
            hear(&event);
        }
    }
}

impl Open {
    fn take(&mut self, record: &RecordView<'_>, kind: Kind, payload: &Payload<'_>, hear: Hear<'_>) {
        let header = record.header();
        match payload {
            Payload::SessionOpened(opened) => self.session = Some(Rc::new(session(opened, record))),
            Payload::Authenticated(who) => {
                self.learn(|session| session.identity = Some(identity(who)));
            }
            Payload::TargetChosen(chosen) => self.learn(|session| session.target = Some(target(chosen))),
            Payload::JudgedText(text) => {
                self.texts.insert(header.stream_sequence, Rc::new(judged(record.sequence(), text)));
                return;
            }
            Payload::Statement(asked) => return self.asked(record, asked, hear),
            Payload::StatementText(text) => {
                if let Some(parsed) = self.parsed.get_mut(&header.refers) {
                    parsed.exact = Some(Rc::new(exact(&text.text)));
                }
                return self.answered(record, kind, payload, hear);
            }
            Payload::StatementResult(_)
            | Payload::Refusal(_)
            | Payload::Masked(_)
            | Payload::Parameters(_)
            | Payload::CaptureEnded(_)
            | Payload::Report(_)
            | Payload::Rows(_)
            | Payload::CopyData(_)
            | Payload::Sealed(_)
            | Payload::HoldOpened(_)
            | Payload::HoldEnded(_)
            | Payload::TicketOpened(_)
            | Payload::TicketUsed(_)
            | Payload::RowDescription(_) => return self.answered(record, kind, payload, hear),
            Payload::Stated(_) if header.refers != REFERS_TO_NONE => {
                return self.answered(record, kind, payload, hear);
            }
            Payload::Recording(_)
            | Payload::Stated(_)
            | Payload::Notification(_)
            | Payload::CopiedIn(_)
            | Payload::Unsealed(_)
            | Payload::HoldDecided(_)
            | Payload::TicketDecided(_)
            | Payload::TicketEnded(_)
            | Payload::GatewayStarted(_)
            | Payload::GatewayStopped(_)
            | Payload::DocumentLoaded(_)
            | Payload::Recovered(_)
            | Payload::Checkpoint(_)
            | Payload::KeyRotated(_)
            | Payload::Clock(_)
            | Payload::AuthenticationDenied(_)
            | Payload::CancelRequested(_)
            | Payload::SettingMoved(_)
            | Payload::ProtocolViolation(_)
            | Payload::Proxied(_)
            | Payload::Routed(_)
            | Payload::SessionClosed(_) => {}
        }
        hear(&self.event(record, own(record, kind, payload)));
    }

    /// More is known of the session from here on.
    fn learn(&mut self, what: impl FnOnce(&mut Session)) {
        if let Some(session) = &mut self.session {
            what(Rc::make_mut(session));
        }
    }

    fn event(&self, record: &RecordView<'_>, body: Body) -> Event {
        let header = record.header();
        Event {
            sequence: record.sequence(),
            told_at: record.sequence(),
            time_ns: header.wall_ns,
            hash: record.hash(),
            stream: header.stream,
            number: header.stream_sequence,
            session: self.session.clone(),
            body,
        }
    }

    fn asked(&mut self, record: &RecordView<'_>, asked: &ArchivedJudgedStatement<'_>, hear: Hear<'_>) {
        let header = record.header();
        let own = (asked.text_commitment != [0; 32]).then_some(asked.text_commitment);
        let parsed = self.parsed.get(&header.refers);
        let text_commitment = own.or_else(|| parsed.map(|parsed| parsed.commitment));
        let text = parsed.and_then(|parsed| parsed.exact.clone());
        let protocol = protocol(&asked.protocol);
        if protocol == Protocol::Parse
            && let Some(commitment) = own
        {
            self.parsed.insert(header.stream_sequence, Parsed { commitment, exact: None });
        }
        // The walk holds every statement to a judged text that stands before it.
        let Some(judged) = self.texts.get(&asked.judged.to_native()) else { return };
        let expects = header.flags & FLAG_EXPECTS != 0;
        let statement = Statement {
            judged: Rc::clone(judged),
            protocol,
            action: action(&asked.action),
            parameters: u64::from(asked.parameters.to_native()),
            name: asked.name.get().to_owned(),
            portal: asked.portal.get().to_owned(),
            text_bytes: asked.text_bytes.to_native(),
            text_commitment,
            parameter_digest: asked.parameter_digest.as_ref().map(|digest| *digest.get()),
            results: Vec::new(),
            refusal: None,
            masked: Vec::new(),
            captured: Captured { text, ..Captured::default() },
            holds: Vec::new(),
            runs_nothing: !expects,
            settled: !expects,
        };
        let event = self.event(record, Body::Statement(Box::new(statement)));
        if expects {
            self.pending.insert(header.stream_sequence, event);
        } else {
            hear(&event);
        }
    }

    /// Joins a record to the statement that waits for it; what belongs to none is an event of its own.
    fn answered(&mut self, record: &RecordView<'_>, kind: Kind, payload: &Payload<'_>, hear: Hear<'_>) {
        let header = record.header();
        let Some(mut event) = self.pending.remove(&header.refers) else {
            return hear(&self.event(record, own(record, kind, payload)));
        };
        let settles = header.flags & FLAG_SETTLES != 0;
        if let Body::Statement(statement) = &mut event.body {
            join(statement, header.stream_sequence, payload);
            statement.settled = settles;
        }
        if settles {
            event.told_at = record.sequence();
            hear(&event);
        } else {
            self.pending.insert(header.refers, event);
        }
    }
}

/// What a record, by its number in the session, adds to the statement that it refers to. Rows and COPY data are counted: `evidence show` and `replay` tell them.
fn join(statement: &mut Statement, number: u64, payload: &Payload<'_>) {
    let fields = || Value::Map(describe(payload));
    let captured = &mut statement.captured;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the caller names every kind; what is none of these adds nothing"
    )]
    match payload {
        Payload::StatementResult(result) => statement.results.push(returned(result)),
        Payload::Refusal(refused) => statement.refusal = Some(refusal(number, refused)),
        Payload::Masked(masked) => statement.masked.extend(masks(masked)),
        Payload::StatementText(text) => captured.text = Some(Rc::new(exact(&text.text))),
        Payload::Parameters(_) => captured.parameters.push(fields()),
        Payload::CaptureEnded(_) => captured.ended.push(fields()),
        Payload::Report(_) => captured.reports.push(fields()),
        Payload::Stated(_) => captured.stated.push(fields()),
        Payload::HoldOpened(_)
        | Payload::HoldEnded(_)
        | Payload::TicketOpened(_)
        | Payload::TicketUsed(_) => statement.holds.push(fields()),
        Payload::Rows(rows) => {
            captured.rows = captured.rows.saturating_add(rows.rows.to_native());
            captured.bytes = captured.bytes.saturating_add(rows.frames.get().len() as u64);
        }
        Payload::CopyData(copied) => {
            captured.bytes = captured.bytes.saturating_add(copied.frames.get().len() as u64);
        }
        _ => {}
    }
}

fn exact(kept: &ArchivedTextKept<'_>) -> Exact {
    match kept {
        ArchivedTextKept::Whole(text) => Exact::Whole(text.get().to_owned()),
        ArchivedTextKept::Masked(text) => Exact::Masked(text.get().to_owned()),
        ArchivedTextKept::Withheld(why) => Exact::Withheld(why.get().to_owned()),
    }
}

/// A record's own fields, without frames; what it refers to stands with them.
fn own(record: &RecordView<'_>, kind: Kind, payload: &Payload<'_>) -> Body {
    let mut fields = describe(payload);
    fields.retain(|(_, value)| !matches!(value, Value::Bytes(_)));
    let refers = record.header().refers;
    if refers != REFERS_TO_NONE {
        fields.push(("refers", Value::Unsigned(refers)));
    }
    Body::Record(kind, fields)
}

fn session(opened: &ArchivedSessionOpened<'_>, record: &RecordView<'_>) -> Session {
    let ArchivedSessionOpened { peer, listener, tls } = opened;
    Session {
        opened_at: record.sequence(),
        opened_ns: record.header().wall_ns,
        peer: peer.get().to_owned(),
        listener: listener.get().to_owned(),
        tls: tls.get().to_owned(),
        ..Session::default()
    }
}

fn identity(who: &ArchivedAuthenticated<'_>) -> Identity {
    // Where the groups are not known, none is named: the record's own event says which it is.
    let groups = who.groups.get().iter().map(|group| group.text.get().to_owned()).collect();
    let claims = who
        .claims
        .get()
        .iter()
        .map(|claim| (claim.path.get().to_owned(), claim.json.get().to_owned()))
        .collect();
    Identity {
        method: who.method.get().to_owned(),
        issuer: who.issuer.get().to_owned(),
        issuer_url: who.issuer_url.get().to_owned(),
        subject: who.subject.get().to_owned(),
        person: who.person.as_ref().map(|person| person.get().to_owned()),
        groups,
        claims,
        token_thumbprint: who.token_thumbprint.get().to_owned(),
        token_id: who.token_id.as_ref().map(|id| id.get().to_owned()),
    }
}

fn target(chosen: &ArchivedTargetChosen<'_>) -> Target {
    Target {
        target: chosen.target.get().to_owned(),
        endpoint: chosen.endpoint.get().to_owned(),
        database: chosen.database.get().to_owned(),
        access: chosen.access.get().to_owned(),
        login: chosen.login.get().to_owned(),
        user: chosen.user.get().to_owned(),
        mode: chosen.mode.get().to_owned(),
        durability: chosen.durability.get().to_owned(),
        server_version: chosen.server_version.get().to_owned(),
        application_name: chosen.application_name.get().to_owned(),
    }
}

fn judged(sequence: u64, text: &ArchivedJudgedText<'_>) -> Judged {
    Judged {
        sequence,
        text: match &text.text {
            ArchivedTextHeld::Lifted(text) => Ok(text.get().to_owned()),
            ArchivedTextHeld::Withheld(why) => Err(why.get().to_owned()),
        },
        facts: text.facts.get().iter().map(facts).collect(),
        rule: text.rule.get().to_owned(),
        policy_hash: text.policy_hash,
        catalog_epoch: text.catalog_epoch.to_native(),
    }
}

fn facts(archived: &ArchivedFacts) -> Facts {
    let ArchivedFacts { class, tag, relations, functions, acts, settings, unproven } = archived;
    let strings = |list: &rkyv::vec::ArchivedVec<rkyv::string::ArchivedString>| {
        list.iter().map(|text| text.as_str().to_owned()).collect()
    };
    Facts {
        class: class.as_str().to_owned(),
        tag: tag.as_str().to_owned(),
        relations: relations
            .iter()
            .map(|relation| Relation {
                name: relation.name.as_str().to_owned(),
                access: relation.access.as_str().to_owned(),
                what: relation.what.as_str().to_owned(),
                blind: relation.blind,
            })
            .collect(),
        functions: strings(functions),
        acts: strings(acts),
        settings: strings(settings),
        unproven: match unproven {
            ArchivedOption::Some(why) => Some(why.as_str().to_owned()),
            ArchivedOption::None => None,
        },
    }
}

fn returned(result: &ArchivedStatementResult<'_>) -> Returned {
    Returned {
        outcome: match result.outcome {
            ArchivedOutcome::Completed => Outcome::Completed,
            ArchivedOutcome::Failed => Outcome::Failed,
            ArchivedOutcome::Suspended => Outcome::Suspended,
            ArchivedOutcome::Skipped => Outcome::Skipped,
            ArchivedOutcome::Unknown => Outcome::Unknown,
        },
        tag: result.tag.get().to_owned(),
        sqlstate: result.sqlstate.as_ref().map(|state| state.get().to_owned()),
        rows: result.rows.to_native(),
        bytes: result.bytes.to_native(),
        bytes_in: result.bytes_in.to_native(),
        digest: result.digest.as_ref().copied(),
        started_ns: result.started_ns.to_native(),
        ended_ns: result.ended_ns.to_native(),
    }
}

fn refusal(number: u64, refused: &ArchivedRefusal<'_>) -> Refusal {
    let ArchivedRefusal { sqlstate, rule, message, how } = refused;
    Refusal {
        number,
        sqlstate: sqlstate.get().to_owned(),
        rule: rule.get().to_owned(),
        message: message.get().to_owned(),
        how: how.get().to_owned(),
    }
}

fn masks<'m>(masked: &'m ArchivedMasked<'_>) -> impl Iterator<Item = MaskCount> + 'm {
    masked.counts.get().iter().map(|mask| MaskCount {
        place: mask.place.as_str().to_owned(),
        by: mask.by.as_str().to_owned(),
        count: mask.count.to_native(),
    })
}

fn protocol(archived: &ArchivedProtocol) -> Protocol {
    match archived {
        ArchivedProtocol::Simple => Protocol::Simple,
        ArchivedProtocol::Parse => Protocol::Parse,
        ArchivedProtocol::Execute => Protocol::Execute,
        ArchivedProtocol::Injected => Protocol::Injected,
    }
}

fn action(archived: &ArchivedAction) -> Action {
    match archived {
        ArchivedAction::Allow => Action::Allow,
        ArchivedAction::Hold => Action::Hold,
        ArchivedAction::Refuse => Action::Refuse,
    }
}
