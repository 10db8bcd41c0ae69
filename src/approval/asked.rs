//! What is asked of an approver: one statement, exactly as it would be sent, and all that its approval binds.
//!
//! Owns: the id of a hold, and the values that it was opened with, which never change. May not: hold a token. The exact text and
//! the parameters are data: they are shown to who proves to be an approver, and stand in no log and no record of a hold.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use pgturnstile_rules::policy::{Approval, Hold, HoldMode, Place, Rule};
use serde::{Deserialize, Serialize};

use super::people::Human;

/// Digits of an id, five bits each, in Crockford's base 32: it can be read out.
const DIGITS: usize = 12;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const BITS: u64 = 60;

/// The name of one hold: 60 random bits. It is no secret and opens nothing: who decides proves who he is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id(u64);

impl Id {
    /// A new one; `None` where the system gives no randomness.
    #[must_use]
    pub fn random() -> Option<Self> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).ok()?;
        Some(Self(u64::from_le_bytes(bytes) >> (64 - BITS)))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in 0..DIGITS {
            if place > 0 && place % 4 == 0 {
                f.write_str("-")?;
            }
            let digit = (self.0 >> (5 * (DIGITS - 1 - place))) & 31;
            let digit = usize::try_from(digit).ok().and_then(|digit| ALPHABET.get(digit)).copied();
            write!(f, "{}", char::from(digit.unwrap_or(b'0')))?;
        }
        Ok(())
    }
}

/// The text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no id of a hold: they look like 7K3M-9QX2-TB4R")]
pub struct NoId;

impl FromStr for Id {
    type Err = NoId;

    /// As people write it: in any case, with or without hyphens, with the letters that Crockford reads as digits.
    fn from_str(text: &str) -> Result<Self, NoId> {
        let mut value = 0;
        let mut digits = 0;
        for byte in text.bytes().filter(|byte| *byte != b'-') {
            let byte = match byte.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                byte => byte,
            };
            let digit = ALPHABET.iter().position(|known| *known == byte).ok_or(NoId)?;
            digits += 1;
            if digits > DIGITS {
                return Err(NoId);
            }
            value = (value << 5) | digit as u64;
        }
        if digits == DIGITS { Ok(Self(value)) } else { Err(NoId) }
    }
}

/// Whose statement it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// The `[[issuer]]` entry.
    pub issuer: String,
    /// The token's subject.
    pub subject: String,
    /// The person behind it, where a claim says so.
    pub person: Option<String>,
    /// The groups that it is in.
    pub groups: Vec<String>,
    /// The claims that the issuer's `keep` names, path and JSON.
    pub claims: Vec<(String, String)>,
    /// To be compared with approvers.
    pub human: Human,
}

/// What one rule asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "KeptNeed", into = "KeptNeed")]
pub struct Need {
    /// The rule, as messages name it.
    pub rule: String,
    /// What it says.
    pub approval: Approval,
    /// Names of the groups that may approve.
    pub groups: Vec<String>,
}

impl Need {
    /// How many distinct people must approve, where they can be compared with the requester.
    #[must_use]
    pub fn quorum(&self) -> usize {
        usize::try_from(self.approval.hold.quorum).unwrap_or(usize::MAX)
    }
}

/// A need as a journal keeps it.
#[derive(Serialize, Deserialize)]
struct KeptNeed {
    rule: String,
    id: String,
    file: String,
    line: u32,
    groups: Vec<String>,
    approvers: Vec<usize>,
    quorum: u32,
    ttl_s: u64,
    in_transaction_ttl_s: u64,
    ticket_ttl_s: Option<u64>,
    at_once: bool,
}

impl From<Need> for KeptNeed {
    fn from(need: Need) -> Self {
        let Need { rule, approval: Approval { rule: Rule { id, place }, hold }, groups } = need;
        let Hold { approvers, quorum, ttl_s, in_transaction_ttl_s, ticket_ttl_s, mode } = hold;
        Self {
            rule,
            id: id.to_string(),
            file: place.file.to_string(),
            line: place.line,
            groups,
            approvers,
            quorum,
            ttl_s,
            in_transaction_ttl_s,
            ticket_ttl_s,
            at_once: mode == HoldMode::Ticket,
        }
    }
}

impl From<KeptNeed> for Need {
    fn from(kept: KeptNeed) -> Self {
        let rule = Rule { id: kept.id.into(), place: Place { file: kept.file.into(), line: kept.line } };
        let hold = Hold {
            approvers: kept.approvers,
            quorum: kept.quorum,
            ttl_s: kept.ttl_s,
            in_transaction_ttl_s: kept.in_transaction_ttl_s,
            ticket_ttl_s: kept.ticket_ttl_s,
            mode: if kept.at_once { HoldMode::Ticket } else { HoldMode::Wait },
        };
        Self { rule: kept.rule, approval: Approval { rule, hold }, groups: kept.groups }
    }
}

/// A shared text as a journal keeps it.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(from).map(Arc::from)
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Its name.
    pub id: Id,
    /// The session.
    pub session: [u8; 16],
    /// The statement's record in the session's stream.
    pub record: u64,
    /// Whose.
    pub requester: Requester,
    /// The `[[target]]` entry.
    pub target: String,
    /// The `[[access]]` entry.
    pub access: String,
    /// What each rule asks for; all of them must be met.
    pub needs: Vec<Need>,
    /// What is held and why, one line without values.
    pub message: String,
    /// Class and tag of each statement of the text.
    pub statements: Vec<(String, String)>,
    /// What it reaches, as the evidence names it.
    pub reaches: Vec<String>,
    /// The text with its literals lifted.
    #[serde(with = "shared")]
    pub lifted: Arc<str>,
    /// The text, exactly.
    #[serde(with = "shared")]
    pub text: Arc<str>,
    /// The texts of what it runs by name: prepared statements, cursors. Such names are a session's own: no ticket has them.
    #[serde(skip)]
    pub runs: Vec<Arc<str>>,
    /// The bound parameters in words, each bounded and marked where it is cut.
    pub parameters: Vec<String>,
    /// A transaction is open, and holds what it has locked.
    pub in_transaction: bool,
    /// When it was opened, milliseconds since 1970.
    pub opened_ms: u64,
    /// When it ends unanswered, milliseconds since 1970.
    pub expires_ms: u64,
    /// Digest, keyed for the session, of everything that the approval binds.
    pub binding: [u8; 32],
    /// The policy that asks for it.
    pub policy_hash: [u8; 32],
}

impl Asked {
    /// Bytes that it keeps of the client's, for the bound.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let parameters = self.parameters.iter().map(String::len).sum::<usize>();
        let runs = self.runs.iter().map(|text| text.len()).sum::<usize>();
        self.text.len() + self.lifted.len() + runs + parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_as_people_write_it() {
        let ids: Vec<Id> = std::iter::repeat_with(Id::random).take(200).flatten().collect();
        for id in &ids {
            let spelled = id.to_string();
            assert_eq!(spelled.len(), 14, "{spelled}");
            assert_eq!(spelled.parse(), Ok(*id));
            assert_eq!(spelled.to_lowercase().replace('-', "").parse(), Ok(*id));
        }
        assert_eq!("O1L1-0000-000I".parse::<Id>().map(|id| id.to_string()), Ok("0111-0000-0001".to_owned()));
        for bad in ["", "-", "7K3M", "7K3M-9QX2-TB4U", "7K3M-9QX2-TB4RX", "7K3M 9QX2 TB4R", "é"] {
            assert_eq!(bad.parse::<Id>(), Err(NoId), "{bad}");
        }
    }
}
