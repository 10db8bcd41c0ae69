//! The text that evidence may hold: literals lifted, comments dropped.
//!
//! Owns: [`lift`]. May not: contain any byte of a literal or a comment. It is put together from the scanner's tokens that
//! are known to be no literal, never by cutting literals out; where the scanner fails, nothing of the text is kept.

use pg_query::protobuf::{KeywordKind, ScanToken, Token};

/// `select a from t where b = 'x' -- y` to `select a from t where b = $1`.
///
/// Placeholders go on behind the highest `$n` of the text. White space and comments become one space.
pub(super) fn lift(text: &str) -> String {
    // Where there is no token the library makes a slice of a null pointer, which no slice may have.
    if text.bytes().all(is_space) {
        return String::new();
    }
    let scanned = pg_query::scan_tokens(text).ok();
    scanned
        .and_then(|tokens| assemble(text, &tokens))
        .unwrap_or_else(|| format!("<{} bytes, not scanned>", text.len()))
}

/// `space` of the server's scanner (src/backend/parser/scan.l).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c')
}

fn assemble(text: &str, tokens: &[ScanToken]) -> Option<String> {
    let mut next = 1 + highest_parameter(text, tokens);
    let mut out = String::with_capacity(text.len().min(4096));
    let mut end = 0usize;
    let mut setting = Setting::Begin;
    let mut extract = Extract::Elsewhere;
    for token in tokens {
        let ScanToken { start, end: stop, token, keyword_kind } = token;
        let (start, stop) = (usize::try_from(*start).ok()?, usize::try_from(*stop).ok()?);
        let kind = Token::try_from(*token).ok()?;
        if kind == Token::SqlComment || kind == Token::CComment {
            continue;
        }
        if start > end && !out.is_empty() {
            out.push(' ');
        }
        let spelled = text.get(start..stop)?;
        setting = setting.next(kind, spelled);
        extract = extract.next(kind);
        let word = kind == Token::Ident && *keyword_kind == KeywordKind::NoKeyword as i32;
        let value = setting == Setting::Value || extract == Extract::Field && !is_field(spelled);
        if keeps_its_text(kind, *keyword_kind) && !(word && value) {
            out.push_str(spelled);
        } else {
            out.push('$');
            out.push_str(&next.to_string());
            next += 1;
        }
        end = stop;
    }
    Some(out)
}

/// Where a scan stands in `EXTRACT(field FROM value)`, whose grammar takes any word as a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extract {
    Elsewhere,
    /// Behind EXTRACT.
    Named,
    /// Behind its parenthesis.
    Opened,
    /// At what stands there first.
    Field,
}

impl Extract {
    fn next(self, kind: Token) -> Extract {
        match (self, kind) {
            (_, Token::Extract) => Extract::Named,
            (Extract::Named, Token::Ascii40) => Extract::Opened,
            (Extract::Opened, _) => Extract::Field,
            (Extract::Elsewhere | Extract::Named | Extract::Field, _) => Extract::Elsewhere,
        }
    }
}

/// Whether EXTRACT knows the word (`deltatktbl` and `datetktbl` in src/backend/utils/adt/datetime.c, by the names that the
/// documentation gives them). What it does not know fails, and may be any text.
fn is_field(spelled: &str) -> bool {
    const FIELDS: [&str; 24] = [
        "century",
        "day",
        "decade",
        "dow",
        "doy",
        "epoch",
        "hour",
        "isodow",
        "isoyear",
        "julian",
        "microsecond",
        "microseconds",
        "millennium",
        "millisecond",
        "milliseconds",
        "minute",
        "month",
        "quarter",
        "second",
        "timezone",
        "timezone_hour",
        "timezone_minute",
        "week",
        "year",
    ];
    let spelled = spelled.trim_matches('"');
    FIELDS.iter().any(|field| spelled.eq_ignore_ascii_case(field))
}

/// Where a scan stands in `SET name = value`, also within ALTER and CREATE: a bare word is a value there.
///
/// ```text
/// Begin ─► Kind ──SET──► Name ──`a.b =`, application_name =──► Value ──;──► Begin
///   └─► Other (until ;)   └──anything else──► Kind
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    /// Before the first word of a statement.
    Begin,
    /// In a statement that may set.
    Kind,
    /// Behind SET; whether what is named takes any text: it is one of an extension or application (with a dot), or `application_name`.
    /// The other settings take words that the server knows.
    Name { free: bool },
    /// Behind `=` or TO.
    Value,
    /// In a statement whose SET is none of a setting.
    Other,
}

impl Setting {
    fn next(self, kind: Token, spelled: &str) -> Setting {
        if kind == Token::Ascii59 {
            return Setting::Begin;
        }
        match (self, kind) {
            (Setting::Begin | Setting::Kind, Token::Set) => Setting::Name { free: false },
            (Setting::Begin, Token::Alter | Token::Create) => Setting::Kind,
            (Setting::Begin, _) | (Setting::Other, _) => Setting::Other,
            (Setting::Kind, _) => Setting::Kind,
            (Setting::Name { .. }, Token::Session | Token::Local) => self,
            (Setting::Name { .. }, Token::Ascii46) => Setting::Name { free: true },
            (Setting::Name { free: true }, Token::Ascii61 | Token::To) => Setting::Value,
            (Setting::Name { free: false }, Token::Ascii61 | Token::To) => Setting::Kind,
            (Setting::Name { free }, _) => {
                let name = spelled.trim_matches('"');
                Setting::Name {
                    free: free || name.contains('.') || name.eq_ignore_ascii_case("application_name"),
                }
            }
            (Setting::Value, _) => Setting::Value,
        }
    }
}

/// Names, key words, operators and punctuation. What is not known to be one of them is lifted.
fn keeps_its_text(kind: Token, keyword_kind: i32) -> bool {
    let punctuation = (kind as i32) < 256;
    let keyword = keyword_kind != KeywordKind::NoKeyword as i32;
    punctuation
        || keyword
        || matches!(
            kind,
            Token::Ident | Token::Uident | Token::Param | Token::Op | Token::Typecast | Token::DotDot
        )
        || matches!(
            kind,
            Token::ColonEquals | Token::EqualsGreater | Token::LessEquals | Token::GreaterEquals
        )
        || matches!(kind, Token::NotEquals)
}

fn highest_parameter(text: &str, tokens: &[ScanToken]) -> u32 {
    let number = |t: &ScanToken| {
        let (start, end) = (usize::try_from(t.start).ok()?, usize::try_from(t.end).ok()?);
        text.get(start..end)?.strip_prefix('$')?.parse::<u32>().ok()
    };
    let parameters = tokens.iter().filter(|t| t.token == Token::Param as i32);
    parameters.filter_map(number).max().unwrap_or(0)
}
