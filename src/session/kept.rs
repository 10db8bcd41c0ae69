//! Texts, parameters and the server's texts into the evidence, as far as the policy has them kept.
//!
//! Owns: what of a statement and of an answer is kept beyond digests, but for rows ([`super::capture`]); what the client says of
//! itself. May not: decide what is masked for the client. Fails closed: a value that may be a labelled column's is withheld,
//! whoever sent it and whoever may see it; what detectors of the target find is replaced.

use std::borrow::Cow;

use pgturnstile_proto::backend::{Fields, Message, Notification, RowDescription};
use pgturnstile_proto::frontend::Bind;
use pgturnstile_proto::{BackendTag, Format};
use pgturnstile_rules::mask::detect::Detectors;
use pgturnstile_rules::mask::shape::Shape;
use pgturnstile_rules::mask::side;
use pgturnstile_rules::mask::style::Masked;
use pgturnstile_rules::mask::tally::Hits;
use pgturnstile_rules::mask::value::{Look, redacted};

use super::account::{Account, ended};
use super::end::End;
use super::expect::{Expectation, Run};
use super::judge::Decision;
use super::relay::Relay;
use super::stated;
use super::world::Ground;
use crate::evidence::record::captured::NOT_DESCRIBED;
use crate::evidence::record::v1::{self, ReportKind, SealedOf, TextKept, ValueKept};
use crate::evidence::record::{Entry, How};
use crate::evidence::{AppendError, Mark};

/// Why a text is withheld that no server takes either.
const NOT_UTF8: &str = "it is not UTF-8";
/// Why a value in binary is withheld.
const FOUND: &str = "a detector finds something in it, and nothing of its type can stand in for that";
const TOO_LONG: &str = "the parameters before it fill what is kept of one statement (record_rows_bytes_max)";
/// Bytes of parameters that one record holds at most, whatever the policy says: a record has its own bound.
const PARAMETERS_BYTES_MAX: u64 = 4 << 20;

/// Bytes of the texts of one error or notice that its record holds at most.
const REPORT_BYTES_MAX: usize = 1 << 20;

/// A text of the server, of which no more than the `left` bytes are kept that the texts before it have left.
fn beginning<'t>(text: &'t [u8], left: &mut usize) -> Cow<'t, str> {
    let Some((kept, cut)) = text.split_at_checked(*left).filter(|(_, cut)| !cut.is_empty()) else {
        *left -= text.len();
        return String::from_utf8_lossy(text);
    };
    *left = 0;
    let kept = String::from_utf8_lossy(kept);
    Cow::Owned(format!(
        "{kept} (pgturnstile: {} more bytes left for the client, and are not recorded)",
        cut.len()
    ))
}

/// A text with what the detectors find in it replaced.
fn cleaned<'t>(detectors: &Detectors, text: &'t str) -> Cow<'t, str> {
    redacted(detectors, text).map_or(Cow::Borrowed(text), Cow::Owned)
}

impl Account {
    /// The policy may have moved, and with it how much is recorded: the session's record says so.
    ///
    /// # Errors
    /// The record was not taken.
    pub(super) async fn follow(&mut self, ground: &Ground) -> Result<(), End> {
        if self.recorder.stands_on(ground.number) {
            return Ok(());
        }
        let recording = ground.subject.recording(&ground.policy, &ground.labelled);
        if !self.recorder.stand_on(ground.number, !ground.labelled.is_empty(), recording) {
            return Ok(());
        }
        let recording = self.recorder.recording();
        let entry = Entry::Recording(v1::Recording {
            record: recording.record.name(),
            rows_bytes_max: recording.rows_bytes_max,
            why: &recording.why,
        });
        self.log.append(entry, How::QUEUED).await.map_err(|error| ended(&error))?;
        Ok(())
    }

    /// Records the exact text of the statement of `mark`: the mark that stands for both.
    pub(super) async fn keep_text(
        &mut self,
        mark: Mark,
        how: How,
        decision: Option<&Decision>,
        text: &[u8],
    ) -> Result<Mark, AppendError> {
        if !self.recorder.keeps_texts() {
            return Ok(mark);
        }
        let detectors = self.recorder.recording().detectors;
        let text = std::str::from_utf8(text);
        let masked = text.ok().and_then(|text| redacted(&detectors, text));
        let kept = match (self.recorder.against_values(decision), text, &masked) {
            (Some(why), _, _) => TextKept::Withheld(why),
            (None, Err(_), _) => TextKept::Withheld(NOT_UTF8),
            (None, Ok(_), Some(masked)) => TextKept::Masked(masked),
            (None, Ok(text), None) => TextKept::Whole(text),
        };
        let of = how.belonging_to(mark.stream_sequence);
        let claims = text.map(stated::in_comment).unwrap_or_default();
        let says_more = !claims.is_empty() && claims != self.recorder.stated;
        let hidden = match (&kept, text) {
            (TextKept::Masked(_) | TextKept::Withheld(_), Ok(text)) if self.log.seals() => Some(text),
            (TextKept::Masked(_) | TextKept::Withheld(_) | TextKept::Whole(_), _) => None,
        };
        let entry = Entry::StatementText(v1::StatementText { text: kept });
        let more = says_more || hidden.is_some();
        let mut kept = self.log.append(entry, if more { of.followed() } else { of }).await?;
        if let Some(text) = hidden {
            let of = if says_more { of.followed() } else { of };
            kept = self.seal_aside(SealedOf::Text, &[(0, 0, text.as_bytes())], of).await?.unwrap_or(kept);
        }
        if !says_more {
            return Ok(kept);
        }
        let said = self.state("comment", &claims, of).await?;
        self.recorder.stated = claims;
        Ok(said)
    }

    /// Records what the client says of itself.
    async fn state(
        &mut self,
        origin: &str,
        claims: &[(String, String)],
        how: How,
    ) -> Result<Mark, AppendError> {
        let detectors = self.recorder.recording().detectors;
        let cleaned: Vec<_> = claims
            .iter()
            .map(|(name, value)| (cleaned(&detectors, name), cleaned(&detectors, value)))
            .collect();
        let claims: Vec<_> = cleaned.iter().map(|(name, value)| v1::StatedClaim { name, value }).collect();
        self.log.append(Entry::Stated(v1::Stated { origin, claims: &claims }), how).await
    }

    /// Records what `application_name` says of the client.
    ///
    /// # Errors
    /// The record was not taken.
    pub(super) async fn says(&mut self, application_name: &str) -> Result<(), End> {
        let claims = stated::in_application_name(application_name);
        if !claims.is_empty() {
            let said = self.state("application_name", &claims, How::QUEUED).await;
            said.map_err(|error| ended(&error))?;
        }
        Ok(())
    }

    /// Records the parameters of the Bind of `mark`: the mark that stands for both.
    pub(super) async fn keep_parameters(
        &mut self,
        mark: Mark,
        how: How,
        decision: &Decision,
        bind: &Bind<'_>,
        types: &[u32],
    ) -> Result<Mark, AppendError> {
        if !self.recorder.keeps_texts() || bind.parameters().is_empty() {
            return Ok(mark);
        }
        let against = self.recorder.against_values(Some(decision));
        let detectors = self.recorder.recording().detectors;
        let mut left = self.recorder.recording().rows_bytes_max.min(PARAMETERS_BYTES_MAX);
        let typed = bind.typed_parameters().enumerate();
        let searched: Vec<Searched> = typed
            .map(|(at, (format, value))| match (value, against) {
                (Some(value), None) => {
                    Searched::of(&detectors, types.get(at).copied(), format == Format::Binary, value)
                }
                (None, _) | (_, Some(_)) => Searched::Clean,
            })
            .collect();
        let mut values = Vec::with_capacity(searched.len());
        for (at, ((format, value), searched)) in bind.typed_parameters().zip(&searched).enumerate() {
            let value = match (value, against, searched) {
                (None, _, _) => ValueKept::Null,
                (Some(_), Some(why), _) => ValueKept::Withheld(why),
                (Some(value), None, _) if value.len() as u64 > left => {
                    left = 0;
                    ValueKept::Withheld(TOO_LONG)
                }
                (Some(_), None, Searched::Masked(masked)) => ValueKept::Masked(masked),
                (Some(_), None, Searched::Found) => ValueKept::Withheld(FOUND),
                (Some(value), None, Searched::Clean) => {
                    left -= value.len() as u64;
                    ValueKept::Whole(value)
                }
            };
            let binary = format == Format::Binary;
            values.push(v1::Parameter { type_oid: types.get(at).copied().unwrap_or(0), binary, value });
        }
        let of = how.belonging_to(mark.stream_sequence);
        let hidden: Vec<(u64, u16, &[u8])> = (0_u16..)
            .zip(bind.typed_parameters().zip(&values))
            .filter_map(|(at, ((_, value), parameter))| match parameter.value {
                ValueKept::Masked(_) | ValueKept::Withheld(_) if self.log.seals() => Some((0, at, value?)),
                ValueKept::Null | ValueKept::Whole(_) | ValueKept::Masked(_) | ValueKept::Withheld(_) => None,
            })
            .collect();
        let entry = Entry::Parameters(v1::Parameters { values: &values });
        let kept = self.log.append(entry, if hidden.is_empty() { of } else { of.followed() }).await?;
        let sealed = self.seal_aside(SealedOf::Parameters, &hidden, of).await?;
        Ok(sealed.unwrap_or(kept))
    }

    /// Records the columns that rows are described by, once for all results that look alike: the record's number.
    ///
    /// # Errors
    /// The record was not taken.
    pub(super) async fn describe(
        &mut self,
        record: u64,
        frame: &[u8],
        rows: &RowDescription<'_>,
    ) -> Result<u64, End> {
        if let Some(number) = self.recorder.described(frame) {
            return Ok(number);
        }
        let detectors = self.recorder.recording().detectors;
        let names: Vec<String> = rows
            .iter()
            .map(|column| cleaned(&detectors, &String::from_utf8_lossy(column.name)).into_owned())
            .collect();
        let columns: Vec<_> = rows
            .iter()
            .zip(&names)
            .map(|(column, name)| v1::ResultColumn {
                name,
                table_oid: column.table_oid,
                attribute: column.attribute,
                type_oid: column.type_oid,
                type_bytes: column.type_length,
                type_modifier: column.type_modifier,
                binary: column.format == Format::Binary,
            })
            .collect();
        let entry = Entry::RowDescription(v1::RowDescription { columns: &columns });
        let appended = self.log.append(entry, How::QUEUED.belonging_to(record)).await;
        let number = appended.map_err(|error| ended(&error))?.stream_sequence;
        self.recorder.remember_description(frame, number);
        Ok(number)
    }

    /// Records a notification that leaves with this payload; `withheld`: nothing of it is kept. The mark that it waits for.
    ///
    /// # Errors
    /// The record was not taken.
    pub(super) async fn keep_notification(
        &mut self,
        note: &Notification<'_>,
        payload: &[u8],
        withheld: bool,
    ) -> Result<Option<Mark>, End> {
        if !self.recorder.keeps_texts() {
            return Ok(None);
        }
        let detectors = self.recorder.recording().detectors;
        let (channel, payload) = (String::from_utf8_lossy(note.channel()), String::from_utf8_lossy(payload));
        let payload = (!withheld).then(|| cleaned(&detectors, &payload));
        if payload.as_deref().is_none_or(|payload| payload.as_bytes() != note.payload()) {
            self.seal_told(None, SealedOf::Notification, note.payload()).await?;
        }
        let entry = Entry::Notification(v1::Notification {
            process: note.process_id(),
            channel: &cleaned(&detectors, &channel),
            payload: payload.as_deref(),
        });
        self.keep_told(None, entry).await
    }

    /// Seals what the server tells; its record comes right behind.
    async fn seal_told(&mut self, record: Option<u64>, what: SealedOf, original: &[u8]) -> Result<(), End> {
        let how = self.how_told(record).followed();
        let sealed = self.seal_aside(what, &[(0, 0, original)], how).await;
        sealed.map(drop).map_err(|error| ended(&error))
    }

    fn how_told(&self, record: Option<u64>) -> How {
        let how = if self.recorder.keeps_rows() { self.how() } else { How::QUEUED };
        match record.or(self.last_record()) {
            Some(record) => how.belonging_to(record),
            None => how,
        }
    }

    /// Records what the server tells; the mark that it waits for.
    async fn keep_told(&mut self, record: Option<u64>, entry: Entry<'_>) -> Result<Option<Mark>, End> {
        let how = self.how_told(record);
        let mark = self.log.append(entry, how).await.map_err(|error| ended(&error))?;
        Ok(if self.recorder.keeps_rows() { self.gate(mark) } else { None })
    }
}

/// What detectors make of a value.
enum Searched {
    /// They find nothing.
    Clean,
    /// This stands in for it.
    Masked(Vec<u8>),
    /// Nothing of its type can stand in for it.
    Found,
}

impl Searched {
    fn of(detectors: &Detectors, type_oid: Option<u32>, binary: bool, value: &[u8]) -> Self {
        let shape = match type_oid.filter(|oid| *oid != 0) {
            Some(oid) => Shape::of(oid, binary),
            None if binary => Shape::of_copied(None, true),
            None => Shape::Text,
        };
        if detectors.is_empty() || !shape.may_hold() {
            return Searched::Clean;
        }
        let (mut out, mut hits) = (Vec::new(), Hits::default());
        match (Look { detectors, tokens: None, hits: &mut hits }).value(shape, value, &mut out) {
            Ok(Masked::Keep) => Searched::Clean,
            Ok(Masked::Value) => Searched::Masked(out),
            // What is no value of its type is refused by the server: nothing tells what it holds.
            Ok(Masked::Null) | Err(_) => Searched::Found,
        }
    }
}

impl Relay {
    /// An error or notice of the server leaves, as `masked` where that stands in for it; recorded first, where texts are kept.
    pub(super) async fn tell(
        &mut self,
        len: usize,
        report: side::Report,
        masked: Option<Vec<u8>>,
    ) -> Result<(), End> {
        self.keep_report(len, report, masked.as_deref()).await?;
        self.say_or_pass(len, masked);
        Ok(())
    }

    pub(super) async fn keep_report(
        &mut self,
        len: usize,
        report: side::Report,
        masked: Option<&[u8]>,
    ) -> Result<(), End> {
        if !self.account.recorder.keeps_texts() {
            return Ok(());
        }
        let frame = self.down.unscanned().get(..len).unwrap_or_default();
        // What the client may see in clear, by a permit, is masked in the evidence all the same.
        let told = masked.unwrap_or(frame);
        let front = self.queue.front().and_then(Expectation::run);
        let record = front.map(|run| run.record);
        let against = self.account.recorder.against_values(front.map(|run| &*run.decision)).is_some();
        let detectors = self.account.recorder.recording().detectors;
        let stricter = self.masking.report_for_evidence(report, told, &detectors, against).await?;
        let kept = stricter.as_deref().unwrap_or(told);
        if kept != frame {
            self.account.seal_told(record, SealedOf::Report, frame).await?;
        }
        let (what, fields) = match report {
            side::Report::Error => (ReportKind::Error, Fields::parse_error(kept)),
            side::Report::Notice => (ReportKind::Notice, Fields::parse_notice(kept)),
        };
        let fields = fields.map_err(|fault| End::backend_fault(&fault))?;
        let record_bytes_max = self.account.log.lane().record_bytes_max();
        let mut left = usize::try_from(record_bytes_max / 4).unwrap_or(usize::MAX).min(REPORT_BYTES_MAX);
        let texts: Vec<_> = fields.iter().map(|(code, text)| (code, beginning(text, &mut left))).collect();
        let fields: Vec<_> = texts.iter().map(|(code, text)| v1::ReportField { code: *code, text }).collect();
        let entry = Entry::Report(v1::Report { what, fields: &fields });
        let mark = self.account.keep_told(record, entry).await?;
        self.stay(mark, false);
        Ok(())
    }

    /// The record that describes the rows of a portal or query, where rows are kept.
    pub(super) async fn describe_rows(&mut self, tag: BackendTag, len: usize) -> Result<Option<u64>, End> {
        // Of a statement that is not bound the forms are not known; our own reading of the guards is no result.
        let record = match self.queue.front() {
            Some(Expectation::Query(run)) => Some(run.record),
            Some(Expectation::DescribePortal { portal: Some(portal), .. }) => Some(portal.record),
            Some(_) | None => None,
        };
        let Some(record) = record.filter(|_| tag == BackendTag::RowDescription) else { return Ok(None) };
        if !self.account.recorder.keeps_rows() {
            return Ok(None);
        }
        let frame = self.down.unscanned().get(..len).unwrap_or_default();
        let Message::RowDescription(rows) =
            Message::parse(frame).map_err(|fault| End::backend_fault(&fault))?
        else {
            return Ok(None);
        };
        self.account.describe(record, frame, &rows).await.map(Some)
    }
}

/// What a run's rows are described by.
pub(super) fn described_by(run: &Run) -> u64 {
    let of_portal = run.portal.as_ref().and_then(|portal| portal.described.number());
    run.row_description.or(of_portal).unwrap_or(NOT_DESCRIBED)
}
