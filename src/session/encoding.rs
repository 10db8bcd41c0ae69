//! Names in a database whose encoding is not UTF-8.
//!
//! The server converts a text from the session's UTF-8 before it reads names: it cuts them at 63 of its own bytes
//! (`truncate_identifier`, src/backend/parser/scansup.c), and in a single-byte encoding folds letters beyond ASCII by its locale
//! (`downcase_identifier`). The parser here does both by the text's bytes.
//!
//! Owns: which texts read otherwise there. May not: convert. Fails closed: what may read otherwise is refused.

use super::denial::Refusal;
use super::names::NAME_BYTES_MAX;

/// Whether a name in a text without literals and comments may be another one to a server of another encoding: one that is not
/// quoted and has a letter beyond ASCII, or one that is quoted, has such a letter or an escape, and is long.
pub(super) fn may_read_otherwise(lifted: &str) -> bool {
    let mut outside = true;
    lifted.split('"').any(|part| {
        let plain = part.is_ascii() && (outside || !part.contains('\\'));
        let other = if outside { !plain } else { !plain && part.len() > NAME_BYTES_MAX };
        outside = !outside;
        other
    })
}

pub(super) fn reads_otherwise(encoding: &str) -> Refusal {
    Refusal::built_in(
        "0A000",
        "built-in: server-encoding",
        format!(
            "pgturnstile refused a text: this database's encoding is {}, whose server may read a name in it as another one (it folds \
             and cuts names with letters beyond ASCII by its own rules). Next: put such names in double quotes, at most 63 bytes long",
            encoding.escape_default()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::may_read_otherwise;

    #[test]
    fn names_that_another_encoding_reads_otherwise() {
        let long = "ä".repeat(32);
        for text in [
            "SELECT ä FROM t",
            "SELECT a FROM \"t\" WHERE Ü = $1",
            &format!("SELECT \"{long}\""),
            &format!("U&\"\\00e4{}\"", "a".repeat(60)),
        ] {
            assert!(may_read_otherwise(text), "{text}");
        }
        let short = "ä".repeat(31);
        for text in [
            "SELECT a FROM t WHERE b = $1",
            &format!("SELECT \"{short}\" FROM t"),
            "SELECT \"ä\"\"ö\" FROM t",
            &format!("SELECT {}", "a".repeat(90)),
        ] {
            assert!(!may_read_otherwise(text), "{text}");
        }
    }
}
