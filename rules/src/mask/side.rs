//! Side doors: errors, notices, notifications and settings, whose texts quote stored values.
//!
//! Owns: which fields keep their text, which pass through the detectors, and what a text becomes where labels can be reached
//! (lineage 1.12). Names of fields, command tags and where in the server's source an error arose are not searched: no server
//! of PostgreSQL puts a stored value there. May not: change severity, SQLSTATE or positions. Fails closed: a frame that cannot be read is an error.

use pgturnstile_proto::backend::{Fields, field};
use pgturnstile_proto::encode;

use super::detect::Detectors;
use super::plan::Reach;
use super::row::{Masker, Misfit};
use super::style::Masked;
use super::tally::{At, By, Hits, Tally};
use super::value::Look;

/// An error or a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// ErrorResponse.
    Error,
    /// NoticeResponse.
    Notice,
}

impl Masker {
    /// A text of the server that holds matches, with them masked.
    fn side_text(
        &mut self,
        detectors: &Detectors,
        text: &[u8],
        at: At,
        tally: &mut Tally,
    ) -> Option<Vec<u8>> {
        let (mut out, mut hits) = (Vec::new(), Hits::default());
        let masked = Look { detectors, tokens: None, hits: &mut hits }.text(text, &mut out);
        tally.found(at, &hits);
        (masked == Masked::Value).then_some(out)
    }

    /// What leaves in the stead of a whole ErrorResponse or NoticeResponse; `None` when it may leave as it is.
    ///
    /// # Errors
    /// [`Misfit`]: the frame cannot be read, and nothing of it may be released.
    pub fn report(
        &mut self,
        report: Report,
        frame: &[u8],
        detectors: &Detectors,
        reach: Reach,
        tally: &mut Tally,
    ) -> Result<Option<Vec<u8>>, Misfit> {
        if detectors.is_empty() && reach == Reach::NoLabel {
            return Ok(None);
        }
        let (fields, at) = match report {
            Report::Error => (Fields::parse_error(frame), At::Text("error")),
            Report::Notice => (Fields::parse_notice(frame), At::Text("notice")),
        };
        let fields = fields.map_err(|_| Misfit)?;
        let sqlstate = fields.sqlstate().unwrap_or("XX000");
        let telling = match report {
            Report::Error => quotes_nothing(&fields, sqlstate),
            Report::Notice => Quotes::Anything,
        };
        let mut changed = false;
        let mut kept: Vec<(u8, Vec<u8>)> = Vec::new();
        for (code, text) in fields.iter() {
            let text = match (place(code), reach) {
                (Place::Code, _) => text.to_vec(),
                (Place::Message, Reach::Labels) if telling == Quotes::Anything => {
                    changed = true;
                    tally.add(at, By::Withheld(WITHHELD));
                    withheld(sqlstate).into_bytes()
                }
                (Place::Detail | Place::Name, Reach::Labels) if telling != Quotes::Names => {
                    changed = true;
                    continue;
                }
                (Place::Message | Place::Detail | Place::Name, Reach::NoLabel | Reach::Labels) => {
                    match self.side_text(detectors, text, at, tally) {
                        Some(masked) => {
                            changed = true;
                            masked
                        }
                        None => text.to_vec(),
                    }
                }
            };
            kept.push((code, text));
        }
        if !changed {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(frame.len());
        let encoded = match report {
            Report::Error => encode::error_response(&mut out, &kept),
            Report::Notice => encode::notice_response(&mut out, &kept),
        };
        encoded.map_err(|_| Misfit)?;
        Ok(Some(out))
    }

    /// What stands in for the text of a notification or the value of a setting; `None` when it may stay.
    pub fn plain(
        &mut self,
        what: &'static str,
        text: &[u8],
        detectors: &Detectors,
        tally: &mut Tally,
    ) -> Option<Vec<u8>> {
        if detectors.is_empty() { None } else { self.side_text(detectors, text, At::Text(what), tally) }
    }
}

/// Why a text near a label is not told, for the record.
const WITHHELD: &str = "text of the server near a label";

/// What the texts of an error can quote, where a label is near.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// Names of the statement and the catalog alone: parse analysis raised it, and that reads no row.
    Names,
    /// Nothing in its message; the rest may.
    NothingInMessage,
    /// Stored values.
    Anything,
}

/// By its code. Parse analysis gives a place in the client's own text (`parser_errposition`, src/backend/parser), which nothing
/// gives that runs, and no context, which all gives that runs inside a function. The messages of the other classes named here
/// are constants of the server (src/backend/utils/errcodes.txt; `ProcessInterrupts`, `PreventCommandIfReadOnly`).
fn quotes_nothing(fields: &Fields<'_>, sqlstate: &str) -> Quotes {
    let has = |code: u8| fields.iter().any(|(of, _)| of == code);
    let inside = has(field::WHERE) || has(field::INTERNAL_QUERY) || has(field::INTERNAL_POSITION);
    match (sqlstate.get(..2), sqlstate) {
        (Some("42"), _) if has(field::POSITION) && !inside => Quotes::Names,
        (
            _,
            "25006" | "25P02" | "40001" | "40P01" | "53300" | "55P03" | "57014" | "57P01" | "57P02" | "57P03",
        ) if !inside => Quotes::NothingInMessage,
        _ => Quotes::Anything,
    }
}

/// What a field of a report may quote.
enum Place {
    /// Nothing: codes and positions.
    Code,
    /// Values, in the line that every client shows.
    Message,
    /// Values, whole rows, statements.
    Detail,
    /// Names of objects, which `RAISE … USING` can forge.
    Name,
}

fn place(code: u8) -> Place {
    match code {
        field::SEVERITY
        | field::SEVERITY_NONLOCALIZED
        | field::SQLSTATE
        | field::POSITION
        | field::INTERNAL_POSITION
        | field::FILE
        | field::LINE
        | field::ROUTINE => Place::Code,
        field::MESSAGE => Place::Message,
        field::SCHEMA | field::TABLE | field::COLUMN | field::DATA_TYPE | field::CONSTRAINT => Place::Name,
        // DETAIL, HINT, CONTEXT, the internal query, and codes that are not known.
        _ => Place::Detail,
    }
}

fn withheld(sqlstate: &str) -> String {
    format!(
        "the server answered with SQLSTATE {sqlstate}; pgturnstile withheld its text, which may quote a labelled value. \
         Next: look the code up, or ask whoever may read the label"
    )
}
