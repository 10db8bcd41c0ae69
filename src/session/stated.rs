//! What a client says of itself: which agent, model, version, run, commit, person.
//!
//! Owns: the two places where it may say so, and their spelling. May not: believe it: the evidence keeps it as stated, apart
//! from what an issuer vouched for. Bounds: [`CLAIMS_MAX`] claims, of [`NAME_BYTES_MAX`] and [`VALUE_BYTES_MAX`]; what is over
//! them is left out. Never fails.
//!
//! - `application_name`: words `name=value`, set apart by white space, commas or semicolons.
//! - A comment at the text's beginning or end, `/* name='value',name='value' */`: as [sqlcommenter](https://google.github.io/sqlcommenter/spec/)
//!   spells it (values percent-encoded), or as the words above.

/// Claims that one text states at most.
const CLAIMS_MAX: usize = 16;
/// Longest name, bytes.
const NAME_BYTES_MAX: usize = 64;
/// Longest value, bytes.
const VALUE_BYTES_MAX: usize = 256;
/// Longest comment that is looked at, bytes.
const COMMENT_BYTES_MAX: usize = 4 << 10;

/// What `application_name` states.
pub(super) fn in_application_name(name: &str) -> Vec<(String, String)> {
    words(name)
}

/// What the comment at a text's beginning or end states.
pub(super) fn in_comment(text: &str) -> Vec<(String, String)> {
    let text = text.trim_matches(|character: char| character.is_whitespace() || character == ';');
    let last = text.strip_suffix("*/").and_then(|text| Some(text.rsplit_once("/*")?.1));
    let first = text.strip_prefix("/*").and_then(|text| Some(text.split_once("*/")?.0));
    match last.or(first) {
        Some(comment) if comment.len() <= COMMENT_BYTES_MAX => words(comment),
        Some(_) | None => Vec::new(),
    }
}

fn words(text: &str) -> Vec<(String, String)> {
    let parts = text.split(|character: char| character.is_whitespace() || matches!(character, ',' | ';'));
    parts.filter_map(word).take(CLAIMS_MAX).collect()
}

fn word(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let sound = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(plain);
    let value = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).unwrap_or(value);
    let value = percent_decoded(value)?;
    (sound && !value.is_empty() && value.len() <= VALUE_BYTES_MAX).then(|| (name.to_owned(), value))
}

/// `%2F` is `/`; `None` where the result is no text.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded =
            digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(said: &[(String, String)]) -> Vec<(&str, &str)> {
        said.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    #[test]
    fn claims_are_read_from_both_places() {
        let said = in_application_name("psql agent=reporter,model=m-1;run=77 =x y= pgturnstile:0303");
        assert_eq!(pairs(&said), [("agent", "reporter"), ("model", "m-1"), ("run", "77")]);
        let text = "select 1 /*agent='re%20porter',commit='a%2Fb'*/ ;";
        assert_eq!(pairs(&in_comment(text)), [("agent", "re porter"), ("commit", "a/b")]);
        let text = "/* run=5 */ select '/* run=6 */'";
        assert_eq!(pairs(&in_comment(text)), [("run", "5")]);
        assert_eq!(pairs(&in_comment("select a=b")), []);
        assert!(in_comment(&format!("/*{}=1*/", "x".repeat(65))).is_empty());
        assert!(in_comment(&format!("/*x={}*/", "1".repeat(257))).is_empty());
        assert_eq!(in_application_name(&"a=1 ".repeat(40)).len(), CLAIMS_MAX);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in ".{0,200}") {
            drop((in_comment(&text), in_comment(&format!("/*{text}*/"))));
        }
    }
}
