//! Payloads as names and values, for people and for JSON.
//!
//! Owns: the one list of fields of every kind; it destructures without `..`, so a field that is not shown does not
//! compile. May not: decide how output looks. Compiles with std, blake3 and rkyv alone.

use rkyv::boxed::ArchivedBox;
use rkyv::option::ArchivedOption;
use rkyv::rend::{i16_le, i32_le, i64_le, u16_le, u32_le, u64_le};
use rkyv::string::ArchivedString;
use rkyv::vec::ArchivedVec;

use super::record::{Payload, v1};
use super::value;

/// A value of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing there.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A count, a size, a time.
    Unsigned(u64),
    /// Seconds since 1970.
    Signed(i64),
    /// A string, as the parties spelled it: not escaped yet.
    Text(String),
    /// Bytes that are no string by themselves.
    Bytes(Vec<u8>),
    /// Several.
    List(Vec<Value>),
    /// A value with parts.
    Map(Vec<(&'static str, Value)>),
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        digits.push(DIGITS[usize::from(byte >> 4)]);
        digits.push(DIGITS[usize::from(byte & 15)]);
    }
    digits
}

/// Whether a character could move a reader's terminal, hide itself or what follows: controls, marks that reorder or join text, and
/// what Unicode calls default-ignorable (a renderer shows nothing of it), with the blanks that look like nothing.
pub fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
            | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}'
            | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// A string that is safe to print on one line: deceptive characters become `\u{…}`, a backslash two.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\\' {
            safe.push_str("\\\\");
        } else if is_deceptive(character) {
            safe.extend(character.escape_unicode());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// What an archived field shows.
trait Shown {
    fn shown(&self) -> Value;
}

impl Shown for ArchivedBox<str> {
    fn shown(&self) -> Value {
        Value::Text(self.get().to_owned())
    }
}

impl Shown for ArchivedString {
    fn shown(&self) -> Value {
        Value::Text(self.as_str().to_owned())
    }
}

impl Shown for bool {
    fn shown(&self) -> Value {
        Value::Bool(*self)
    }
}

impl Shown for u16_le {
    fn shown(&self) -> Value {
        Value::Unsigned(u64::from(self.to_native()))
    }
}

impl Shown for u32_le {
    fn shown(&self) -> Value {
        Value::Unsigned(u64::from(self.to_native()))
    }
}

impl Shown for u64_le {
    fn shown(&self) -> Value {
        Value::Unsigned(self.to_native())
    }
}

impl Shown for i64_le {
    fn shown(&self) -> Value {
        Value::Signed(self.to_native())
    }
}

impl Shown for i32_le {
    fn shown(&self) -> Value {
        Value::Signed(i64::from(self.to_native()))
    }
}

impl Shown for i16_le {
    fn shown(&self) -> Value {
        Value::Signed(i64::from(self.to_native()))
    }
}

impl Shown for [u8; 32] {
    fn shown(&self) -> Value {
        Value::Text(hex(self))
    }
}

impl Shown for [u8; 16] {
    fn shown(&self) -> Value {
        Value::Text(hex(self))
    }
}

impl Shown for ArchivedBox<[u8; 32]> {
    fn shown(&self) -> Value {
        Value::Text(hex(self.get()))
    }
}

impl Shown for ArchivedBox<[u8]> {
    fn shown(&self) -> Value {
        Value::Bytes(self.get().to_vec())
    }
}

impl<T: Shown> Shown for ArchivedOption<T> {
    fn shown(&self) -> Value {
        self.as_ref().map_or(Value::Null, Shown::shown)
    }
}

impl<T: Shown> Shown for ArchivedBox<[T]> {
    fn shown(&self) -> Value {
        Value::List(self.get().iter().map(Shown::shown).collect())
    }
}

impl<T: Shown> Shown for ArchivedVec<T> {
    fn shown(&self) -> Value {
        Value::List(self.iter().map(Shown::shown).collect())
    }
}

impl Shown for v1::ArchivedText<'_> {
    fn shown(&self) -> Value {
        self.text.shown()
    }
}

impl Shown for v1::ArchivedTextHeld<'_> {
    fn shown(&self) -> Value {
        match self {
            v1::ArchivedTextHeld::Lifted(text) => Value::Map(vec![("lifted", text.shown())]),
            v1::ArchivedTextHeld::Withheld(why) => Value::Map(vec![("withheld", why.shown())]),
        }
    }
}

impl Shown for v1::ArchivedTextKept<'_> {
    fn shown(&self) -> Value {
        let (how, text) = match self {
            v1::ArchivedTextKept::Whole(text) => ("whole", text),
            v1::ArchivedTextKept::Masked(text) => ("masked", text),
            v1::ArchivedTextKept::Withheld(why) => ("withheld", why),
        };
        Value::Map(vec![(how, text.shown())])
    }
}

/// A parameter's value in words, where its type is known; else its bytes.
impl Shown for v1::ArchivedParameter<'_> {
    fn shown(&self) -> Value {
        let v1::ArchivedParameter { type_oid, binary, value } = self;
        let spelled = |bytes: &ArchivedBox<[u8]>| value::shown(type_oid.to_native(), *binary, bytes.get());
        let kept = match value {
            v1::ArchivedValueKept::Null => ("null", Value::Bool(true)),
            v1::ArchivedValueKept::Whole(bytes) => ("whole", spelled(bytes)),
            v1::ArchivedValueKept::Masked(bytes) => ("masked", spelled(bytes)),
            v1::ArchivedValueKept::Withheld(why) => ("withheld", why.shown()),
        };
        Value::Map(vec![("type_oid", type_oid.shown()), ("binary", binary.shown()), kept])
    }
}

/// A field of a report under its name.
impl Shown for v1::ArchivedReportField<'_> {
    fn shown(&self) -> Value {
        let v1::ArchivedReportField { code, text } = self;
        let code = Value::Text(char::from(*code).to_string());
        Value::Map(vec![("code", code), ("text", text.shown())])
    }
}

macro_rules! words {
    ($( $archived:ident { $( $variant:ident = $word:literal ),* $(,)? } )*) => { $(
        impl Shown for v1::$archived {
            fn shown(&self) -> Value {
                Value::Text(match self { $( v1::$archived::$variant => $word, )* }.to_owned())
            }
        }
    )* };
}

words! {
    ArchivedDocument { Configuration = "configuration", Policy = "policy", Material = "material" }
    ArchivedProtocol { Simple = "simple", Parse = "parse", Execute = "execute", Injected = "injected" }
    ArchivedAction { Allow = "allow", Hold = "hold", Refuse = "refuse" }
    ArchivedDirection { ToClient = "to the client", FromClient = "from the client" }
    ArchivedCaptured { Rows = "rows", CopyToClient = "copy to the client", CopyFromClient = "copy from the client" }
    ArchivedSealedOf {
        Rows = "rows", CopyToClient = "copy to the client", Text = "text", Parameters = "parameters", Report = "report",
        Notification = "notification",
    }
    ArchivedReportKind { Error = "error", Notice = "notice" }
    ArchivedHoldOutcome {
        Released = "released", Denied = "denied", Expired = "expired", Withdrawn = "withdrawn", Superseded = "superseded",
    }
    ArchivedTicketOutcome { Denied = "denied", Expired = "expired", Withdrawn = "withdrawn" }
    ArchivedOutcome {
        Completed = "completed", Failed = "failed", Suspended = "suspended", Skipped = "skipped", Unknown = "unknown",
    }
}

macro_rules! fields {
    ($( $archived:ident $(<$lifetime:lifetime>)? { $( $field:ident ),* $(,)? } )*) => { $(
        impl Shown for v1::$archived $(<$lifetime>)? {
            fn shown(&self) -> Value {
                let v1::$archived { $( $field ),* } = self;
                Value::Map(vec![ $( (stringify!($field), $field.shown()) ),* ])
            }
        }
    )* };
}

fields! {
    ArchivedClaim<'_> { path, json }
    ArchivedRelation { name, access, what, blind }
    ArchivedFacts { class, tag, relations, functions, acts, settings, unproven }
    ArchivedTotals { statements, refused, rows, client_bytes, server_bytes }
    ArchivedGatewayStarted<'_> {
        version, binary_hash, configuration_hash, policy_hash, key_id, host, process, shards,
    }
    ArchivedGatewayStopped<'_> { reason }
    ArchivedDocumentLoaded<'_> { document, in_force, old_hash, new_hash, by, detail }
    ArchivedRecovered<'_> { segment, offset, bytes_cut, next_sequence, unsealed_kept, flaw }
    ArchivedCheckpoint<'_> { note }
    ArchivedKeyRotated<'_> { note }
    ArchivedClock<'_> { why, wall_ns, boot_ns, step_ns, source, synchronized }
    ArchivedSessionOpened<'_> { peer, listener, tls }
    ArchivedAuthenticated<'_> {
        method, issuer, issuer_url, subject, person, groups_known, groups, claims, token_thumbprint, token_id,
        issued_at_s, expires_at_s,
    }
    ArchivedAuthenticationDenied<'_> {
        method, told, reason, sqlstate, claimed_user, claimed_database, token_thumbprint,
    }
    ArchivedTargetChosen<'_> {
        target, endpoint, database, tls, access, login, user, mode, durability, search_path, server_version,
        application_name, backend_process, policy_hash, catalog_epoch,
    }
    ArchivedJudgedText<'_> { text, facts, action, rule, policy_hash, catalog_epoch }
    ArchivedJudgedStatement<'_> {
        judged, protocol, action, parameters, name, portal, text_bytes, text_commitment, parameter_digest,
    }
    ArchivedStatementResult<'_> {
        outcome, tag, sqlstate, rows, bytes, bytes_in, digest, started_ns, first_row_ns, ended_ns,
    }
    ArchivedMaskCount { place, by, count }
    ArchivedMasked<'_> { counts }
    ArchivedProxied<'_> { proxy, destination }
    ArchivedRouted<'_> { target, by, server_name, user, database }
    ArchivedRefusal<'_> { sqlstate, rule, message, how }
    ArchivedCancelRequested<'_> { peer, outcome }
    ArchivedSettingMoved<'_> { name, expected, seen, how }
    ArchivedProtocolViolation<'_> { side, what, offset }
    ArchivedSessionClosed<'_> { reason, by, totals }
    ArchivedRecording<'_> { record, rows_bytes_max, why }
    ArchivedStatedClaim<'_> { name, value }
    ArchivedStated<'_> { origin, claims }
    ArchivedStatementText<'_> { text }
    ArchivedParameters<'_> { values }
    ArchivedResultColumn<'_> { name, table_oid, attribute, type_oid, type_bytes, type_modifier, binary }
    ArchivedRowDescription<'_> { columns }
    ArchivedRows<'_> { described, first_row, rows, frames }
    ArchivedCopyData<'_> { direction, binary, offset, frames }
    ArchivedCaptureEnded<'_> { what, why, rows, bytes }
    ArchivedReport<'_> { what, fields }
    ArchivedNotification<'_> { process, channel, payload }
    ArchivedCopiedIn<'_> { frames, bytes, digest }
    ArchivedSealed<'_> { what, rest, values, key_id, columns, encapsulated, ciphertext }
    ArchivedUnsealed<'_> { reason, operator, filter, log_id, records, head, key_id, sealed, values }
    ArchivedHoldNeed<'_> { rule, approvers, quorum }
    ArchivedHoldOpened<'_> { hold, needs, binding, in_transaction, expires_ns, limit }
    ArchivedHoldDecided<'_> {
        hold, session, statement, decision, refused, reason, binding, issuer, issuer_url, subject, person, groups,
        token_thumbprint, token_id, channel,
    }
    ArchivedHoldEnded<'_> { hold, outcome, reason, approved_by, waited_ns }
    ArchivedTicketOpened<'_> { ticket, why, needs, binding, in_transaction, expires_ns }
    ArchivedTicketDecided<'_> {
        ticket, session, statement, decision, refused, reason, binding, issuer, issuer_url, subject, person, groups,
        token_thumbprint, token_id, channel,
    }
    ArchivedTicketUsed<'_> { ticket, session, statement, binding, approved_by, opened_ns }
    ArchivedTicketEnded<'_> { ticket, session, statement, outcome, reason }
}

/// The fields of a payload, in order.
pub fn describe(payload: &Payload<'_>) -> Vec<(&'static str, Value)> {
    let value = match payload {
        Payload::GatewayStarted(payload) => payload.shown(),
        Payload::GatewayStopped(payload) => payload.shown(),
        Payload::DocumentLoaded(payload) => payload.shown(),
        Payload::Recovered(payload) => payload.shown(),
        Payload::Checkpoint(payload) => payload.shown(),
        Payload::KeyRotated(payload) => payload.shown(),
        Payload::Clock(payload) => payload.shown(),
        Payload::SessionOpened(payload) => payload.shown(),
        Payload::Authenticated(payload) => payload.shown(),
        Payload::AuthenticationDenied(payload) => payload.shown(),
        Payload::TargetChosen(payload) => payload.shown(),
        Payload::Statement(payload) => payload.shown(),
        Payload::JudgedText(payload) => payload.shown(),
        Payload::StatementResult(payload) => payload.shown(),
        Payload::Masked(payload) => payload.shown(),
        Payload::Proxied(payload) => payload.shown(),
        Payload::Routed(payload) => payload.shown(),
        Payload::Refusal(payload) => payload.shown(),
        Payload::CancelRequested(payload) => payload.shown(),
        Payload::SettingMoved(payload) => payload.shown(),
        Payload::ProtocolViolation(payload) => payload.shown(),
        Payload::SessionClosed(payload) => payload.shown(),
        Payload::Recording(payload) => payload.shown(),
        Payload::Stated(payload) => payload.shown(),
        Payload::StatementText(payload) => payload.shown(),
        Payload::Parameters(payload) => payload.shown(),
        Payload::RowDescription(payload) => payload.shown(),
        Payload::Rows(payload) => payload.shown(),
        Payload::CopyData(payload) => payload.shown(),
        Payload::CaptureEnded(payload) => payload.shown(),
        Payload::Report(payload) => payload.shown(),
        Payload::Notification(payload) => payload.shown(),
        Payload::CopiedIn(payload) => payload.shown(),
        Payload::Sealed(payload) => payload.shown(),
        Payload::Unsealed(payload) => payload.shown(),
        Payload::HoldOpened(payload) => payload.shown(),
        Payload::HoldDecided(payload) => payload.shown(),
        Payload::HoldEnded(payload) => payload.shown(),
        Payload::TicketOpened(payload) => payload.shown(),
        Payload::TicketDecided(payload) => payload.shown(),
        Payload::TicketUsed(payload) => payload.shown(),
        Payload::TicketEnded(payload) => payload.shown(),
    };
    match value {
        Value::Map(fields) => fields,
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Unsigned(_)
        | Value::Signed(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::List(_)) => vec![("value", other)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_deceive_a_terminal_is_escaped() {
        assert_eq!(escaped("a\u{1b}[2Jb\nc\\d\u{202e}é"), "a\\u{1b}[2Jb\\u{a}c\\\\d\\u{202e}é");
        assert_eq!(hex(&[0, 255, 16]), "00ff10");
    }
}
