//! Side doors: errors, notices, notifications and settings, whose texts quote stored values.
//!
//! Owns: which fields keep their text, which pass through the detectors, and what a text becomes where labels can be reached
//! (lineage 1.12). May not: change severity, SQLSTATE or positions. Fails closed: a frame that cannot be read is an error.

use pgturnstile_proto::backend::{Fields, field};
use pgturnstile_proto::encode;

use super::detect::Detectors;
use super::plan::Reach;
use super::row::{Masker, Misfit};
use super::style::Masked;
use super::tally::{At, Hits, Tally};
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
        let masked = Look { detectors, key: self.key(), hits: &mut hits }.text(text, &mut out);
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
        let mut changed = false;
        let mut kept: Vec<(u8, Vec<u8>)> = Vec::new();
        for (code, text) in fields.iter() {
            let text = match (place(code), reach) {
                (Place::Code, _) => text.to_vec(),
                (Place::Message, Reach::Labels) => {
                    changed = true;
                    withheld(sqlstate).into_bytes()
                }
                (Place::Detail | Place::Name, Reach::Labels) => {
                    changed = true;
                    continue;
                }
                (Place::Message | Place::Detail | Place::Name, Reach::NoLabel) => {
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
