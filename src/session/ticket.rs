//! Tickets in a session: a statement that nobody waits with, and one that passes because people have approved it before.
//!
//! Owns: what a ticket binds of a frame, when there is one, and the order of its use. May not: keep a ticket or decide it (that is
//! [`crate::approval`]). Fails closed: a ticket is used on disk before its frame goes, and a frame that differs in anything is held.
//!
//! ```text
//!   judged: held ─► a ticket of this requester for exactly this? ─ approved ─► recorded ─► used, on disk ─► recorded ─► sent, once
//!                     │                                          ├ denied ──► told, once: refused
//!                     │                                          └ undecided ► refused, with its id
//!                     │ none, or it differs: what in
//!                     ▼
//!               mode "ticket"? ─ yes ─► recorded ─► kept, on disk ─► refused, with its id
//!                     │ no
//!                     ▼
//!                   held ─ nobody decides in time ─► kept, on disk ─► refused, with its id
//! ```

use std::sync::Arc;

use pgturnstile_proto::Format;
use pgturnstile_proto::frontend::Message;

use super::account::{Account, Unrecorded};
use super::decision::{Decision, Required};
use super::end::End;
use super::gate::Step;
use super::hold::{Limit, Recorded};
use super::hold_words as words;
use super::names::Prepared;
use super::refuse::Stand;
use super::relay::Relay;
use super::waiting::Waiting;
use crate::approval::ticket::{PARTS, Parts, Ticket, Why, is_at_once, life_s};
use crate::approval::tickets::{Look, Sought, Undone};
use crate::approval::{Asked, How};
use crate::evidence::Mark;
use crate::evidence::record::v1::{self, Outcome as Result_, TicketOutcome};
use crate::evidence::record::{Entry, How as Recording};

/// What a ticket for a frame binds, and why there can be none for it, as it stands.
pub(super) type Sight = Option<(Parts, Option<&'static str>)>;

/// A list of texts, each with its length before it, so that no two lists are one.
fn spelled<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<u8> {
    let mut out = Vec::new();
    for text in texts {
        out.extend_from_slice(&(text.len() as u64).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out
}

/// How a frame carries its statement, and what is bound to it; names of statements and portals are a session's own.
fn parameters(frame: &[u8]) -> Vec<u8> {
    let Ok(Message::Bind(bind)) = Message::parse(frame) else { return b"query".to_vec() };
    let mut out = b"bind".to_vec();
    for (format, value) in bind.typed_parameters() {
        out.push(u8::from(format == Format::Binary));
        out.push(u8::from(value.is_some()));
        let value = value.unwrap_or_default();
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        out.extend_from_slice(value);
    }
    out.extend_from_slice(b"results");
    out.extend(bind.results().iter().map(|format| u8::from(format == Format::Binary)));
    out
}

impl Relay {
    /// What a ticket for the frame at the front binds, as everything stands now; `None` where no tickets are kept.
    pub(super) fn sight(
        &self,
        len: usize,
        decision: &Decision,
        required: &Required,
        prepared: Option<&Arc<Prepared>>,
    ) -> Sight {
        let frame = self.up.unscanned().get(..len).unwrap_or_default();
        let (ground, principal) = (&self.judge.ground, self.judge.world().principal());
        let mut text = spelled(decision.exact.as_deref().into_iter());
        let types = prepared.map(|prepared| prepared.types().list()).unwrap_or_default();
        types.iter().chain(&decision.types).for_each(|oid| text.extend_from_slice(&oid.to_le_bytes()));
        let person = principal.person.as_deref().unwrap_or_default();
        let mut who = spelled([&*principal.issuer_url, &*principal.subject, person].into_iter());
        who.extend(spelled(ground.subject.groups()));
        who.extend_from_slice(b"claims");
        for (path, value) in &principal.kept {
            who.extend(spelled([path.as_str(), &value.to_string()].into_iter()));
        }
        let access = ground.subject.access();
        let mut settings = self.pinned.spelled();
        settings.extend(spelled(access.guards.search_path.iter().map(AsRef::as_ref)));
        let mut reached = required.reached.spelled.clone();
        for (oid, stamp) in &required.stamps {
            reached.extend_from_slice(&oid.to_le_bytes());
            reached.extend_from_slice(&stamp.to_le_bytes());
        }
        if required.reaches_anything {
            reached.extend_from_slice(ground.snapshot.print());
        }
        let parts: [Vec<u8>; PARTS.len()] = [
            text,
            parameters(frame),
            who,
            spelled([ground.subject.target(), &*access.id].into_iter()),
            ground.policy.hash().to_vec(),
            settings,
            reached,
            vec![u8::from(self.in_transaction())],
        ];
        self.holds.tickets().parts(&parts).map(|parts| (parts, self.bars_tickets(decision, required)))
    }

    /// What of it another session, or this one at another time, could not find again.
    fn bars_tickets(&self, decision: &Decision, required: &Required) -> Option<&'static str> {
        let judge = &self.judge;
        if let Some(why) = required.reached.fleeting {
            Some(why)
        } else if decision.uses_names {
            Some("it makes or runs a name that its session alone has (PREPARE, EXECUTE, DECLARE, FETCH)")
        } else if judge.temp_possible || judge.temp_unread {
            Some("its session has temporary objects, or may have: its names mean those first")
        } else if judge.private_ddl.is_some() {
            Some("its session has changed definitions, and the catalog as it was read does not show them yet")
        } else {
            None
        }
    }

    /// The frame at the front must be approved, and is not held yet: by a ticket, or else people are asked.
    pub(super) async fn ticket_or_hold(
        &mut self,
        len: usize,
        stand: Stand,
        decision: &Arc<Decision>,
        prepared: Option<&Arc<Prepared>>,
        binding: [u8; 32],
    ) -> Result<Recorded, End> {
        let Some(required) = decision.required.clone() else { return Ok(Recorded::Not(Step::Blocked)) };
        let rules = || required.approvals.iter().map(|approval| &approval.hold);
        let life_s = life_s(rules());
        let sight = life_s.and_then(|_| self.sight(len, decision, &required, prepared));
        let mut beside = None;
        if let Some((parts, bar)) = &sight {
            match self.look_for_ticket(decision, parts, *bar) {
                Look::Passes(ticket) => {
                    return self.pass_by_ticket(len, stand, decision, prepared, &ticket).await;
                }
                Look::Denied(ticket) => return self.tell_denial(len, stand, decision, &ticket).await,
                Look::Waits(ticket) => {
                    return self.refused(len, stand, decision, words::ticket_waits(&ticket.asked)).await;
                }
                Look::Differs(ticket, what) => beside = Some(words::differs(ticket.id(), &what)),
                Look::Nothing => {}
            }
        }
        match life_s {
            Some(life_s) if is_at_once(rules()) => {
                let asked = match self.ask(len, stand, decision, prepared, &required).await? {
                    Ok((asked, _)) => asked,
                    Err(recorded) => return Ok(recorded),
                };
                let refusal = match self.open_ticket(asked, life_s, sight, Why::Mode).await? {
                    Ok(asked) => words::ticket_at_once(&asked, beside.as_deref()),
                    Err(why) => words::no_ticket(&required.message, &why),
                };
                self.refused(len, stand, decision, refusal).await
            }
            Some(_) | None => self.open_hold(len, stand, decision, prepared, (binding, beside)).await,
        }
    }

    fn look_for_ticket(&self, decision: &Decision, parts: &Parts, bar: Option<&'static str>) -> Look {
        let principal = self.judge.world().principal();
        let sought = Sought {
            issuer: &principal.issuer,
            subject: &principal.subject,
            parts,
            lifted: &decision.held,
            bar,
        };
        let now_ms = self.account.now_ns() / 1_000_000;
        self.holds.tickets().look(&sought, &self.holds.settings().people, now_ms)
    }

    /// Does what waits for the disk, where that stalls no other session; never given up.
    async fn on_disk<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, End> {
        let waiting =
            Waiting { control: &self.control, up: &self.up, limits: &self.limits, queue: &self.queue };
        let done = waiting.recorded(tokio::task::spawn_blocking(work)).await;
        done.map_err(|error| End::gateway(format!("a ticket could not be written down: {error}")))
    }

    /// An approved ticket is for exactly this: it is used, and the frame goes, once both are on disk.
    async fn pass_by_ticket(
        &mut self,
        len: usize,
        stand: Stand,
        decision: &Arc<Decision>,
        prepared: Option<&Arc<Prepared>>,
        ticket: &Arc<Ticket>,
    ) -> Result<Recorded, End> {
        self.account.follow(&self.judge.ground).await?;
        let record = match self.record(len, decision, prepared).await {
            Ok((record, _)) => record,
            Err(Unrecorded::Refused(refusal)) => return self.refused(len, stand, decision, refusal).await,
            Err(Unrecorded::Ended(end)) => return Err(end),
        };
        let (holds, id, now_ms) = (Arc::clone(&self.holds), ticket.id(), self.account.now_ns() / 1_000_000);
        let spent = self.on_disk(move || holds.tickets().spend(id, &holds.settings().people, now_ms)).await?;
        match spent {
            Ok(()) => {}
            Err(Undone::Barred(_)) => {
                // Another session was faster, or an approver took it back: judged anew.
                self.account.settle(record, Result_::Skipped, None).await?;
                return Ok(Recorded::Not(Step::Done));
            }
            Err(
                undone @ (Undone::Full | Undone::FullForRequester | Undone::FullOfBytes | Undone::Unkept(_)),
            ) => {
                self.gate.was_held = Some(record);
                let refusal = words::not_used(&ticket.asked, &undone.to_string());
                return self.refused(len, stand, decision, refusal).await;
            }
        }
        let mark = match self.account.ticket_used(record, ticket).await {
            Ok(mark) => mark,
            Err(Unrecorded::Refused(refusal)) => {
                self.gate.was_held = Some(record);
                return self.refused(len, stand, decision, refusal).await;
            }
            Err(Unrecorded::Ended(end)) => return Err(end),
        };
        match prepared {
            None => self.account.may_run(decision),
            Some(_) => self.account.bound(decision, record),
        }
        Ok(Recorded::As(record, Some(mark)))
    }

    /// Its requester has not been told of a denial.
    async fn tell_denial(
        &mut self,
        len: usize,
        stand: Stand,
        decision: &Arc<Decision>,
        ticket: &Arc<Ticket>,
    ) -> Result<Recorded, End> {
        let (holds, id) = (Arc::clone(&self.holds), ticket.id());
        if let Err(Undone::Barred(_)) = self.on_disk(move || holds.tickets().tell(id)).await? {
            // Another session has been told.
            return Ok(Recorded::Not(Step::Done));
        }
        let refusal = words::ticket_denied(ticket);
        // Refused either way.
        match self.account.ticket_ended(&ticket.asked, TicketOutcome::Denied, &refusal.safe).await {
            Ok(_) | Err(Unrecorded::Refused(_)) => {}
            Err(Unrecorded::Ended(end)) => return Err(end),
        }
        self.refused(len, stand, decision, refusal).await
    }

    /// Keeps a ticket for what is asked, or says why there is none.
    async fn open_ticket(
        &mut self,
        asked: Asked,
        life_s: u64,
        sight: Sight,
        why: Why,
    ) -> Result<Result<Arc<Asked>, String>, End> {
        let (parts, bar) = match sight {
            Some((parts, None)) => (parts, None),
            Some((parts, Some(bar))) => (parts, Some(bar.to_owned())),
            None => return Ok(Err("the gateway keeps none".to_owned())),
        };
        let now_ms = self.account.now_ns() / 1_000_000;
        let asked = Asked {
            binding: parts.binding(),
            opened_ms: now_ms,
            expires_ms: now_ms.saturating_add(life_s.saturating_mul(1_000)),
            ..asked
        };
        if let Some(bar) =
            bar.or_else(|| self.holds.tickets().room(&asked).err().map(|full| full.to_string()))
        {
            return Ok(Err(bar));
        }
        let mark = match self.account.ticket_opened(&asked, why).await {
            Ok(mark) => mark,
            Err(Unrecorded::Refused(refusal)) => return Ok(Err(refusal.safe)),
            Err(Unrecorded::Ended(end)) => return Err(end),
        };
        self.until_durable(mark).await?;
        let ticket = Ticket::new(asked, parts, why);
        let (holds, asked) = (Arc::clone(&self.holds), Arc::clone(&ticket.asked));
        let Err(undone) = self.on_disk(move || holds.tickets().open(ticket)).await? else {
            return Ok(Ok(asked));
        };
        let why = undone.to_string();
        match self.account.ticket_ended(&asked, TicketOutcome::Withdrawn, &why).await {
            Ok(_) | Err(Unrecorded::Refused(_)) => Ok(Err(why)),
            Err(Unrecorded::Ended(end)) => Err(end),
        }
    }

    /// Nobody has decided on what is held: it becomes a ticket where its rules know tickets.
    pub(super) async fn hold_expired(
        &mut self,
        len: usize,
        stand: Stand,
        decision: &Arc<Decision>,
        prepared: Option<&Arc<Prepared>>,
        limit: Limit,
    ) -> Result<Recorded, End> {
        let Some(hold) = &self.gate.hold else { return Ok(Recorded::Not(Step::Blocked)) };
        let asked = Arc::clone(hold.seat.asked());
        let plain = words::expired(&asked, limit);
        let rules = decision.required.iter().flat_map(|required| &required.approvals);
        let refusal = match (life_s(rules.map(|approval| &approval.hold)), &decision.required) {
            (Some(life_s), Some(required)) => {
                let sight = self.sight(len, decision, required, prepared);
                match self.open_ticket(Asked::clone(&asked), life_s, sight, Why::Unanswered).await? {
                    Ok(ticket) => words::ticket_instead(&asked, &ticket),
                    Err(why) => words::without_ticket(plain, &why),
                }
            }
            (Some(_) | None, _) => plain,
        };
        self.end_hold(How::Expired, &refusal.safe).await?;
        self.refused(len, stand, decision, refusal).await
    }
}

impl Account {
    /// Records that a statement is a ticket; it is kept when the mark is durable.
    async fn ticket_opened(&mut self, asked: &Asked, why: Why) -> Result<Mark, Unrecorded> {
        let groups = super::hold_open::approvers(asked);
        let needs = super::hold_open::needs(asked, &groups);
        let ticket = asked.id.to_string();
        let entry = Entry::TicketOpened(v1::TicketOpened {
            ticket: &ticket,
            why: why.name(),
            needs: &needs,
            binding: &asked.binding,
            in_transaction: asked.in_transaction,
            expires_ns: asked.expires_ms.saturating_mul(1_000_000),
        });
        Ok(self.log.append(entry, Recording::GATED.belonging_to(asked.record)).await?)
    }

    /// Records that a statement passes by a ticket; it goes when the mark is durable.
    async fn ticket_used(&mut self, record: u64, ticket: &Ticket) -> Result<Mark, Unrecorded> {
        let names: Vec<String> = ticket.votes.iter().map(|vote| vote.by.name()).collect();
        let approved_by: Vec<v1::Text<'_>> = names.iter().map(|text| v1::Text { text }).collect();
        let id = ticket.id().to_string();
        let entry = Entry::TicketUsed(v1::TicketUsed {
            ticket: &id,
            session: ticket.asked.session,
            statement: ticket.asked.record,
            binding: &ticket.asked.binding,
            approved_by: &approved_by,
            opened_ns: ticket.asked.opened_ms.saturating_mul(1_000_000),
        });
        Ok(self.log.append(entry, Recording::GATED.belonging_to(record)).await?)
    }

    /// Records that nothing comes of a ticket.
    async fn ticket_ended(
        &mut self,
        asked: &Asked,
        outcome: TicketOutcome,
        reason: &str,
    ) -> Result<Mark, Unrecorded> {
        let ticket = asked.id.to_string();
        let entry = Entry::TicketEnded(v1::TicketEnded {
            ticket: &ticket,
            session: asked.session,
            statement: asked.record,
            outcome,
            reason,
        });
        Ok(self.log.append(entry, Recording::QUEUED).await?)
    }
}

#[cfg(test)]
mod tests {
    use pgturnstile_proto::encode;

    use super::*;

    #[test]
    fn names_of_a_session_are_no_parameters_and_everything_else_is() {
        let bind = |portal, statement, formats: &[Format], values: &[Option<&[u8]>], results: &[Format]| {
            let mut frame = Vec::new();
            encode::bind(&mut frame, portal, statement, formats, values, results).unwrap();
            parameters(&frame)
        };
        let text = [Format::Text];
        let one = bind("", "", &text, &[Some(b"1")], &[]);
        assert_eq!(one, bind("p", "_pg3_0", &text, &[Some(b"1")], &[]));
        let mut query = Vec::new();
        encode::query(&mut query, "SELECT 1").unwrap();
        let others = [
            bind("", "", &text, &[Some(b"2")], &[]),
            bind("", "", &text, &[None], &[]),
            bind("", "", &text, &[Some(b"")], &[]),
            bind("", "", &[Format::Binary], &[Some(b"1")], &[]),
            bind("", "", &text, &[Some(b"1")], &[Format::Binary]),
            bind("", "", &text, &[Some(b"1"), None], &[]),
            bind("", "", &[], &[], &[]),
            parameters(&query),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != one && !others[..at].contains(other), "{at}");
        }
    }

    #[test]
    fn lists_that_join_alike_are_spelled_apart() {
        assert_ne!(spelled(["ab", "c"].into_iter()), spelled(["a", "bc"].into_iter()));
        assert_ne!(spelled(["a", ""].into_iter()), spelled(["a"].into_iter()));
    }
}
