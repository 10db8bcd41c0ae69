//! The opening of a hold: what is asked of people, and what their approval binds.
//!
//! Owns: the binding, the limit of the wait, the values that approvers see, and the records of a hold. May not: decide. Fails closed:
//! a statement whose exact text cannot be shown to an approver is refused.
//!
//! A binding is a digest, keyed for the session, over: the frame byte for byte (text, or statement name, parameters and formats), the
//! text of what it binds or runs by name, types, identity, target, access entry, policy, search path, every relation that it reaches
//! as it stands in the catalog (the whole catalog where it runs code), and whether a transaction is open. The role and the guarded
//! settings are the session's own, which ends where one moves.

use std::sync::Arc;
use std::time::Duration;

use pgturnstile_proto::Format;
use pgturnstile_proto::backend::TransactionStatus;
use pgturnstile_proto::frontend::{Bind, Message};
use pgturnstile_rules::statement::facts::NamedUse;
use tokio::time::Instant;

use super::account::{Account, Unrecorded, ended};
use super::decision::{Decision, Required};
use super::denial;
use super::end::End;
use super::gate::Step;
use super::hold::{BatchRuns, Hold, Limit, Recorded};
use super::hold_words as words;
use super::names::{Lookup, Prepared};
use super::refuse::Stand;
use super::relay::Relay;
use super::summary;
use super::waiting::Waiting;
use crate::approval::{Asked, How, Human, Id, Need, Requester, Vote, Wake};
use crate::evidence::describe::hex;
use crate::evidence::record::v1::{self, HoldOutcome};
use crate::evidence::record::{Entry, How as Recording};
use crate::evidence::{AppendError, Mark, value};

/// Longest parameter that approvers see whole, characters; of a longer one the beginning, and how long it is.
const PARAMETER_CHARS_MAX: usize = 4_096;
/// Of the server's own timeout, which has been running since the batch began, a hold takes so many hundredths.
const TIMEOUT_HUNDREDTHS: u64 = 75;

/// Notices in one `idle_in_transaction_session_timeout`, where the access entry sets it.
const IDLE_PARTS: u64 = 3;
/// Least time between two notices.
const NOTICE_LEAST: Duration = Duration::from_millis(100);

/// One part of a binding: its length, then itself, so that no two lists of parts are one.
fn part(binding: &mut Vec<u8>, bytes: &[u8]) {
    binding.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    binding.extend_from_slice(bytes);
}

impl Relay {
    /// What an approval of the frame at the front binds, as everything stands now.
    pub(super) fn binding(
        &self,
        len: usize,
        decision: &Decision,
        prepared: Option<&Arc<Prepared>>,
    ) -> [u8; 32] {
        let frame = self.up.unscanned().get(..len).unwrap_or_default();
        let (ground, world) = (&self.judge.ground, self.judge.world());
        let (principal, access) = (world.principal(), ground.subject.access());
        let mut binding = Vec::with_capacity(frame.len() + 512);
        let parts: [&[u8]; 9] = [
            b"pgturnstile hold v1",
            frame,
            &decision.facts.digest,
            principal.issuer_url.as_bytes(),
            principal.subject.as_bytes(),
            principal.person.as_deref().unwrap_or_default().as_bytes(),
            ground.subject.target().as_bytes(),
            access.id.as_bytes(),
            &ground.policy.hash(),
        ];
        parts.iter().for_each(|bytes| part(&mut binding, bytes));
        let types = prepared.map(|prepared| prepared.types().list()).unwrap_or_default();
        types.iter().chain(&decision.types).for_each(|oid| part(&mut binding, &oid.to_le_bytes()));
        access.guards.search_path.iter().for_each(|schema| part(&mut binding, schema.as_bytes()));
        for text in self.runs_by_name(decision).into_iter().flatten() {
            part(&mut binding, text.as_bytes());
        }
        if let Some(Required { stamps, reaches_anything, .. }) = decision.required.as_deref() {
            for (oid, stamp) in stamps {
                part(&mut binding, &oid.to_le_bytes());
                part(&mut binding, &stamp.to_le_bytes());
            }
            let epoch = if *reaches_anything { decision.epoch } else { 0 };
            part(&mut binding, &epoch.to_le_bytes());
        }
        part(&mut binding, &[u8::from(self.in_transaction())]);
        let digest = self.account.log.keys().text(&binding);
        zeroize::Zeroize::zeroize(&mut binding);
        digest
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.status != TransactionStatus::Idle || self.gate.batch_runs != BatchRuns::Nothing
    }

    /// The exact texts of what it runs by name; `None` where one was not kept.
    fn runs_by_name(&self, decision: &Decision) -> Option<Vec<Arc<str>>> {
        let mut texts = Vec::new();
        for statement in &decision.facts.statements {
            let known = match &statement.named {
                Some(NamedUse::Execute(name)) => match self.names.statement(name.as_bytes(), self.batch) {
                    Lookup::Known(prepared) => prepared.decision.exact.clone(),
                    Lookup::Absent | Lookup::Pending => None,
                },
                Some(NamedUse::Fetch(name)) => match self.names.portal(name.as_bytes(), self.batch) {
                    Lookup::Known(portal) => portal.statement.decision.exact.clone(),
                    Lookup::Absent | Lookup::Pending => None,
                },
                Some(
                    NamedUse::Prepare(_)
                    | NamedUse::Deallocate(_)
                    | NamedUse::Declare(_)
                    | NamedUse::Close(_)
                    | NamedUse::DiscardAll,
                )
                | None => continue,
            };
            texts.push(known?);
        }
        Some(texts)
    }

    /// How long it may wait, and what sets that; `None` where the requester's token has expired.
    fn hold_limit(&self, required: &Required, now_ms: u64) -> Option<(Duration, Limit)> {
        let in_transaction = self.in_transaction();
        let of_rule = required.approvals.iter().map(|approval| {
            let hold = &approval.hold;
            if in_transaction { hold.in_transaction_ttl_s.min(hold.ttl_s) } else { hold.ttl_s }
        });
        let mut limit = (Duration::from_secs(of_rule.min().unwrap_or(0)), Limit::Rule);
        let timeout_ms = self.judge.ground.subject.access().guards.statement_timeout_ms;
        if self.gate.batch_runs == BatchRuns::Outside
            && let Some(timeout_ms) = timeout_ms.filter(|timeout_ms| *timeout_ms > 0)
        {
            let timeout = Duration::from_millis(timeout_ms.saturating_mul(TIMEOUT_HUNDREDTHS) / 100);
            if timeout < limit.0 {
                limit = (timeout, Limit::StatementTimeout);
            }
        }
        let expires_ms = self.judge.world().principal().expires_at_s.saturating_mul(1_000);
        let left = u64::try_from(expires_ms).unwrap_or(0).checked_sub(now_ms).filter(|left| *left > 0)?;
        let left = Duration::from_millis(left);
        Some(if left < limit.0 { (left, Limit::Token) } else { limit })
    }

    /// Records the frame at the front as one that people are asked about: what they are asked, but for what an approval binds, and how
    /// long it may wait. The record that a refusal would answer is set.
    pub(super) async fn ask(
        &mut self,
        len: usize,
        stand: Stand,
        decision: &Arc<Decision>,
        prepared: Option<&Arc<Prepared>>,
        required: &Required,
    ) -> Result<Result<(Asked, (Duration, Limit)), Recorded>, End> {
        let now_ms = self.account.now_ns() / 1_000_000;
        let limit = self.hold_limit(required, now_ms);
        let texts = decision.exact.clone().zip(self.runs_by_name(decision));
        let ((wait, limit), (text, runs)) = match (limit, texts) {
            (None, _) => {
                let refusal = words::token_expired(&required.message);
                return self.refused(len, stand, decision, refusal).await.map(Err);
            }
            (_, None) => {
                let refusal = words::not_shown(&required.message);
                return self.refused(len, stand, decision, refusal).await.map(Err);
            }
            (Some(limit), Some(texts)) => (limit, texts),
        };
        self.account.follow(&self.judge.ground).await?;
        let record = match self.record(len, decision, prepared).await {
            Ok((record, _)) => record,
            Err(Unrecorded::Refused(refusal)) => {
                return self.refused(len, stand, decision, refusal).await.map(Err);
            }
            Err(Unrecorded::Ended(end)) => return Err(end),
        };
        self.gate.was_held = Some(record);
        let Some(id) = Id::random() else {
            return Err(End::gateway("the system gives no randomness for the id of a hold"));
        };
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let asked = Asked {
            text,
            runs,
            opened_ms: now_ms,
            expires_ms: now_ms.saturating_add(wait_ms),
            parameters: self.spelled_parameters(len, prepared),
            ..self.asked(id, record, decision, required)
        };
        Ok(Ok((asked, (wait, limit))))
    }

    /// Holds the frame at the front: recorded, then shown to people and told to the client; with what else it is told beside that.
    pub(super) async fn open_hold(
        &mut self,
        len: usize,
        stand: Stand,
        decision: &Arc<Decision>,
        prepared: Option<&Arc<Prepared>>,
        (binding, beside): ([u8; 32], Option<String>),
    ) -> Result<Recorded, End> {
        let Some(required) = decision.required.clone() else { return Ok(Recorded::Not(Step::Blocked)) };
        let (asked, (wait, limit)) = match self.ask(len, stand, decision, prepared, &required).await? {
            Ok(asked) => asked,
            Err(recorded) => return Ok(recorded),
        };
        let asked = Asked { binding, ..asked };
        let record = asked.record;
        let wake = Arc::clone(&self.control) as Arc<dyn Wake>;
        let seat = match self.holds.open(asked, wake) {
            Ok(seat) => seat,
            Err(full) => {
                return self.refused(len, stand, decision, words::full(&required.message, full)).await;
            }
        };
        let mark = match self.account.hold_opened(seat.asked(), limit).await {
            Ok(mark) => mark,
            Err(Unrecorded::Refused(refusal)) => return self.refused(len, stand, decision, refusal).await,
            Err(Unrecorded::Ended(end)) => return Err(end),
        };
        self.until_durable(mark).await?;
        seat.show();
        self.gate.was_held = None;
        let opened = Instant::now();
        let every = self.notice_every(seat.settings().notice_every);
        let next_notice = opened + every;
        if let Some(beside) = beside {
            self.down.insert(denial::notice(&beside));
        }
        self.down.insert(denial::notice(&words::waits(seat.asked(), wait)));
        let deadline = opened + wait;
        let hold = Hold { seat, binding, record, opened, deadline, limit, next_notice, every };
        self.gate.hold = Some(Box::new(hold));
        Ok(Recorded::Not(Step::Blocked))
    }

    /// Between two notices, with which the server's idle timeout is kept from running out.
    fn notice_every(&self, wanted: Duration) -> Duration {
        let idle_ms = self.judge.ground.subject.access().guards.idle_in_transaction_ms;
        match idle_ms.filter(|idle_ms| *idle_ms > 0 && self.in_transaction()) {
            Some(idle_ms) => wanted.min(Duration::from_millis(idle_ms / IDLE_PARTS).max(NOTICE_LEAST)),
            None => wanted,
        }
    }

    pub(super) async fn until_durable(&self, mark: Mark) -> Result<(), End> {
        let lane = self.account.lane().clone();
        let waiting =
            Waiting { control: &self.control, up: &self.up, limits: &self.limits, queue: &self.queue };
        let durable = waiting.recorded(lane.until_durable(mark)).await;
        durable.map_err(|stopped| ended(&AppendError::Stopped(stopped)))
    }

    /// What people are asked, but for text, parameters and times.
    fn asked(&self, id: Id, record: u64, decision: &Decision, required: &Required) -> Asked {
        let (ground, principal) = (&self.judge.ground, self.judge.world().principal());
        let need = |approval: &pgturnstile_rules::policy::Approval| Need {
            rule: summary::named(&approval.rule),
            groups: ground.policy.approvers(&approval.hold).into_iter().map(str::to_owned).collect(),
            approval: approval.clone(),
        };
        let reaches = decision.summary.iter().flat_map(|facts| &facts.relations);
        Asked {
            id,
            session: self.account.log.id(),
            record,
            requester: Requester {
                issuer: principal.issuer.clone(),
                subject: principal.subject.clone(),
                person: principal.person.clone(),
                groups: ground.subject.groups().map(str::to_owned).collect(),
                claims: principal
                    .kept
                    .iter()
                    .map(|(path, value)| (path.clone(), value.to_string()))
                    .collect(),
                human: Human::of(principal),
            },
            target: ground.subject.target().to_owned(),
            access: ground.subject.access().id.to_string(),
            needs: required.approvals.iter().map(need).collect(),
            message: required.message.clone(),
            statements: decision
                .facts
                .statements
                .iter()
                .map(|statement| (statement.class.name().to_owned(), statement.tag.to_owned()))
                .collect(),
            reaches: reaches.map(|relation| format!("{} ({})", relation.name, relation.access)).collect(),
            lifted: Arc::clone(&decision.held),
            text: Arc::from(""),
            runs: Vec::new(),
            parameters: Vec::new(),
            in_transaction: self.in_transaction(),
            opened_ms: 0,
            expires_ms: 0,
            binding: [0; 32],
            policy_hash: decision.policy_hash,
        }
    }

    fn spelled_parameters(&self, len: usize, prepared: Option<&Arc<Prepared>>) -> Vec<String> {
        let frame = self.up.unscanned().get(..len).unwrap_or_default();
        let types = prepared.map(|prepared| prepared.types().list()).unwrap_or_default();
        match Message::parse(frame) {
            Ok(Message::Bind(bind)) => spelled(&bind, &types),
            Ok(_) | Err(_) => Vec::new(),
        }
    }
}

/// Parameters as approvers see them: in words where their type is known, else their bytes.
fn spelled(bind: &Bind<'_>, types: &[u32]) -> Vec<String> {
    let spell = |(at, (format, bytes)): (usize, (Format, Option<&[u8]>))| {
        let Some(bytes) = bytes else { return "NULL".to_owned() };
        let (oid, binary) = (types.get(at).copied().unwrap_or(0), format == Format::Binary);
        let text = value::text(oid, binary, bytes).unwrap_or_else(|| format!("bytes \\x{}", hex(bytes)));
        match text.char_indices().nth(PARAMETER_CHARS_MAX) {
            Some((cut, _)) => {
                let head = text.get(..cut).unwrap_or_default();
                format!("{head} [CUT HERE: {} bytes in all]", bytes.len())
            }
            None => text,
        }
    };
    bind.typed_parameters().enumerate().map(spell).collect()
}

/// The approvers of each need, for a record.
pub(super) fn approvers(asked: &Asked) -> Vec<Vec<v1::Text<'_>>> {
    asked.needs.iter().map(|need| need.groups.iter().map(|text| v1::Text { text }).collect()).collect()
}

/// What is asked for, for a record.
pub(super) fn needs<'a>(asked: &'a Asked, groups: &'a [Vec<v1::Text<'a>>]) -> Vec<v1::HoldNeed<'a>> {
    asked
        .needs
        .iter()
        .zip(groups)
        .map(|(need, approvers)| v1::HoldNeed {
            rule: &need.rule,
            approvers,
            quorum: need.approval.hold.quorum,
        })
        .collect()
}

impl Account {
    /// Records that a statement is held; it may be decided when the mark is durable.
    async fn hold_opened(&mut self, asked: &Asked, limit: Limit) -> Result<Mark, Unrecorded> {
        let groups = approvers(asked);
        let needs = needs(asked, &groups);
        let hold = asked.id.to_string();
        let entry = Entry::HoldOpened(v1::HoldOpened {
            hold: &hold,
            needs: &needs,
            binding: &asked.binding,
            in_transaction: asked.in_transaction,
            expires_ns: asked.expires_ms.saturating_mul(1_000_000),
            limit: limit.name(),
        });
        Ok(self.log.append(entry, Recording::GATED.belonging_to(asked.record)).await?)
    }

    /// Records how a hold ended; what it releases goes when the mark is durable.
    pub(super) async fn hold_ended(
        &mut self,
        hold: &Hold,
        how: How,
        reason: &str,
        votes: &[Vote],
    ) -> Result<Mark, Unrecorded> {
        let names: Vec<String> = votes.iter().map(|vote| vote.by.name()).collect();
        let approved_by: Vec<v1::Text<'_>> = names.iter().map(|text| v1::Text { text }).collect();
        let (outcome, recording) = match how {
            How::Released => (HoldOutcome::Released, Recording::GATED),
            How::Denied => (HoldOutcome::Denied, Recording::QUEUED),
            How::Expired => (HoldOutcome::Expired, Recording::QUEUED),
            How::Withdrawn => (HoldOutcome::Withdrawn, Recording::QUEUED),
            How::Superseded => (HoldOutcome::Superseded, Recording::QUEUED),
        };
        let id = hold.seat.asked().id.to_string();
        let entry = Entry::HoldEnded(v1::HoldEnded {
            hold: &id,
            outcome,
            reason,
            approved_by: &approved_by,
            waited_ns: u64::try_from(hold.opened.elapsed().as_nanos()).unwrap_or(u64::MAX),
        });
        Ok(self.log.append(entry, recording.belonging_to(hold.record)).await?)
    }
}

#[cfg(test)]
mod tests {
    use pgturnstile_proto::encode;

    use super::*;

    #[test]
    fn approvers_see_every_parameter_and_where_one_is_cut() {
        let long = vec![b'x'; PARAMETER_CHARS_MAX + 5];
        let mut frame = Vec::new();
        let values: [Option<&[u8]>; 4] = [Some(b"kim"), None, Some(&[0, 0, 0, 7]), Some(&long)];
        let formats = [Format::Text, Format::Text, Format::Binary, Format::Text];
        encode::bind(&mut frame, "", "s", &formats, &values, &[]).unwrap();
        let Ok(Message::Bind(bind)) = Message::parse(&frame) else { panic!("a Bind") };
        let shown = spelled(&bind, &[25, 25, 23]);
        assert_eq!(shown.get(..3), Some(&["kim".to_owned(), "NULL".to_owned(), "7".to_owned()][..]));
        assert!(shown[3].ends_with("[CUT HERE: 4101 bytes in all]"), "{}", shown[3]);
        assert_eq!(spelled(&bind, &[])[2], "bytes \\x00000007");
    }
}
