//! What is recognised by pattern: payment cards, account numbers, national ids, addresses, secrets.
//!
//! Owns: the closed list of detectors, which of them are on and with which style, and the search of one value. May not: know
//! rows, types or frames. Fails: never; where a number is spelled as no detector knows, it is not found. Detectors are the
//! second net (README decision 11): a label is the first.
//!
//! A match begins and ends where a word does, and never holds a quote, a brace, a comma or a backslash: what is replaced
//! inside JSON, an array or a composite leaves them whole. A detector without a checksum asks for separators or a prefix.

mod national;
mod number;
mod secret;
mod text;

use std::sync::OnceLock;

use aho_corasick::packed;

use super::plan::Style;

macro_rules! detectors {
    ($( $(#[$doc:meta])* $name:ident = $word:literal, $stand_in:literal; )*) => {
        /// One detector. The order is the order of precedence where two match at the same byte.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Detector { $( $(#[$doc])* $name, )* }

        impl Detector {
            /// All of them.
            pub const ALL: &'static [Detector] = &[ $( Detector::$name, )* ];

            /// The word that a policy writes.
            pub const fn name(self) -> &'static str {
                match self { $( Detector::$name => $word, )* }
            }

            /// What stands in for a match under [`Style::Fixed`].
            pub const fn stand_in(self) -> &'static [u8] {
                match self { $( Detector::$name => $stand_in, )* }
            }
        }
    };
}

detectors! {
    /// A private key in PEM, to its end.
    PrivateKey = "private-key", b"[private-key]";
    /// A URL with user and password, or `password=…`.
    ConnectionString = "connection-string", b"[connection-string]";
    /// A JSON Web Token.
    Jwt = "jwt", b"[jwt]";
    /// A token or key of a common vendor, by its prefix.
    ApiKey = "api-key", b"[api-key]";
    /// An account number, by its country's length and mod 97.
    Iban = "iban", b"[iban]";
    /// A payment card, by brand, length and Luhn.
    Card = "card", b"[card]";
    /// A United States social security number or ITIN, with separators.
    Ssn = "ssn", b"[ssn]";
    /// A national id with a check digit.
    NationalId = "national-id", b"[national-id]";
    /// A telephone number, international or of the North American plan.
    Phone = "phone", b"[phone]";
    /// An e-mail address.
    Email = "email", b"[email]";
}

impl Detector {
    /// Whether it opens something by itself, so that no part of it may stay.
    pub const fn is_secret(self) -> bool {
        match self {
            Detector::PrivateKey | Detector::ConnectionString | Detector::Jwt | Detector::ApiKey => true,
            Detector::Iban
            | Detector::Card
            | Detector::Ssn
            | Detector::NationalId
            | Detector::Phone
            | Detector::Email => false,
        }
    }
}

const COUNT: usize = Detector::ALL.len();

/// Which detectors are on, and by which style each masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detectors([Option<Style>; COUNT]);

impl Detectors {
    /// None.
    pub const NONE: Detectors = Detectors([None; COUNT]);

    /// All, by one style.
    pub const fn all(style: Style) -> Detectors {
        Detectors([Some(style); COUNT])
    }

    /// With one more, or with another style for it.
    #[must_use]
    pub fn with(mut self, detector: Detector, style: Style) -> Detectors {
        if let Some(place) = self.0.get_mut(detector as usize) {
            *place = Some(style);
        }
        self
    }

    /// The style of one; `None` where it is off.
    pub fn style(&self, detector: Detector) -> Option<Style> {
        self.0.get(detector as usize).copied().flatten()
    }

    /// Whether none is on.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Whether any gives tokens.
    pub fn give_tokens(&self) -> bool {
        self.0.iter().any(|style| matches!(style, Some(Style::Token(_))))
    }

    fn on(&self, detector: Detector) -> bool {
        self.style(detector).is_some()
    }
}

/// A match inside a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Its first byte.
    pub start: usize,
    /// Behind its last.
    pub end: usize,
    /// Whose it is.
    pub detector: Detector,
}

/// Whether `detector` matches in `value` at `start`: the end of the match. This alone says what a detector finds.
pub fn match_at(detector: Detector, value: &[u8], start: usize) -> Option<usize> {
    match detector {
        Detector::PrivateKey => secret::private_key(value, start),
        Detector::ConnectionString => secret::connection_string(value, start),
        Detector::Jwt => secret::jwt(value, start),
        Detector::ApiKey => secret::api_key(value, start),
        Detector::Iban => text::iban(value, start),
        Detector::Card => number::card(value, start),
        Detector::Ssn => number::ssn(value, start),
        Detector::NationalId => national::id(value, start),
        Detector::Phone => number::phone(value, start),
        Detector::Email => text::email(value, start),
    }
}

/// Detectors that can match behind a byte of a kind; the others need not be asked there.
const DIGIT: &[Detector] =
    &[Detector::Card, Detector::Ssn, Detector::NationalId, Detector::Phone, Detector::Email];
const LETTER: &[Detector] =
    &[Detector::ConnectionString, Detector::Jwt, Detector::ApiKey, Detector::Iban, Detector::Email];
const PLUS: &[Detector] = &[Detector::Phone, Detector::Email];
const DASH: &[Detector] = &[Detector::PrivateKey, Detector::Email];
const PARENTHESIS: &[Detector] = &[Detector::Phone];
const OTHER: &[Detector] = &[Detector::Email];

fn asked(byte: u8) -> &'static [Detector] {
    match byte {
        b'0'..=b'9' => DIGIT,
        b'A'..=b'Z' | b'a'..=b'z' => LETTER,
        b'+' => PLUS,
        b'-' => DASH,
        b'(' => PARENTHESIS,
        b'.' | b'_' | b'%' | 0x80..=0xFF => OTHER,
        0..=b'$'
        | b'&'
        | b'\''
        | b')'
        | b'*'
        | b','
        | b'/'
        | b':'..=b'@'
        | b'['..=b'^'
        | b'`'
        | b'{'..=0x7F => &[],
    }
}

/// The matches in a value, leftmost first, none over another. The work is linear in the value's bytes.
pub fn find<'v>(detectors: &Detectors, value: &'v [u8]) -> Matches<'v> {
    let mut detectors = *detectors;
    if memchr::memchr(b'@', value).is_none()
        && let Some(email) = detectors.0.get_mut(Detector::Email as usize)
    {
        *email = None;
    }
    Matches { detectors, value, at: 0, no_jwt_before: 0 }
}

/// See [`find`].
#[derive(Clone, Debug)]
pub struct Matches<'v> {
    detectors: Detectors,
    value: &'v [u8],
    at: usize,
    /// No token begins before this place: they all fail by what the first of their stretch failed by, and each reads the
    /// stretch to its end.
    no_jwt_before: usize,
}

impl Matches<'_> {
    fn at(&mut self, start: usize, byte: u8) -> Option<Match> {
        // Inside a word only what stands behind an escape can begin.
        if byte.is_ascii_alphanumeric() && !text::open_left(self.value, start) {
            return None;
        }
        for detector in asked(byte).iter().copied().filter(|detector| self.detectors.on(*detector)) {
            if detector == Detector::Jwt && start < self.no_jwt_before {
                continue;
            }
            if let Some(end) = match_at(detector, self.value, start) {
                return Some(Match { start, end, detector });
            }
            if detector == Detector::Jwt {
                self.no_jwt_before = secret::no_jwt_before(self.value, start);
            }
        }
        None
    }
}

impl Iterator for Matches<'_> {
    type Item = Match;

    fn next(&mut self) -> Option<Match> {
        while let Some(byte) = self.value.get(self.at) {
            match self.at(self.at, *byte) {
                Some(found) => {
                    self.at = found.end.max(self.at + 1);
                    return Some(found);
                }
                None => self.at += 1,
            }
        }
        None
    }
}

/// What finds a number in a column of numbers, where it can only be replaced as a whole: keys and amounts stand there too, so
/// that cards alone are looked for, and only of lengths that are issued (14 to 16 digits, UnionPay to 19).
pub fn number(detectors: &Detectors, digits: &[u8]) -> Option<Detector> {
    let issued =
        matches!(digits.len(), 14..=16) || matches!(digits.len(), 17..=19) && digits.starts_with(b"62");
    let is_card = issued && match_at(Detector::Card, digits, 0) == Some(digits.len());
    (is_card && detectors.on(Detector::Card)).then_some(Detector::Card)
}

/// What begins a secret, or stands inside every one of a kind. At most sixteen, none shorter than three bytes: more or
/// shorter ones make the packed searcher several times slower.
const ANCHORS: &[&[u8]] = &[
    b"AKIA",
    b"ASIA",
    b"ghp_",
    b"gho_",
    b"ghs_",
    b"pat_",
    b"lpat-",
    b"_live_",
    b"xox",
    b"AIza",
    b"sk-",
    b"SG.",
    b"eyJ",
    b"-----BEGIN",
    b"://",
    b"word=",
];
const _: () = assert!(ANCHORS.len() <= 16);

/// Finds the anchors of secrets in a run of bytes.
pub struct Anchors(Option<packed::Searcher>);

impl Anchors {
    /// The one of the process.
    pub fn get() -> &'static Anchors {
        static ANCHOR_SEARCHER: OnceLock<Anchors> = OnceLock::new();
        ANCHOR_SEARCHER.get_or_init(|| Anchors(packed::Searcher::new(ANCHORS)))
    }

    /// Where the next anchor stands at or behind `from`.
    pub fn next(&self, bytes: &[u8], from: usize) -> Option<usize> {
        match &self.0 {
            Some(searcher) => searcher
                .find_in(bytes, aho_corasick::Span { start: from.min(bytes.len()), end: bytes.len() })
                .map(|found| found.start()),
            // A machine without the vectors that the searcher needs.
            None => {
                let rest = bytes.get(from..)?;
                (0..rest.len())
                    .find(|at| {
                        ANCHORS.iter().any(|anchor| rest.get(*at..).is_some_and(|r| r.starts_with(anchor)))
                    })
                    .map(|at| from + at)
            }
        }
    }
}

/// Whether a secret can stand where an anchor does. False only where none can: most that do are addresses of pages.
pub fn plausible_anchor(bytes: &[u8], at: usize) -> bool {
    let address = bytes.get(at..).and_then(|rest| rest.strip_prefix(b"://"));
    address.is_none_or(secret::may_name_a_user)
}

/// Whether a stretch of number bytes that begins at `start` can hold what a detector looks for. False only where none can.
///
/// Most stretches in real rows are timestamps and amounts: a date in front is passed over (no detector's number has one),
/// and what remains needs ten digits, or eight and two separators, or eight behind a `+`.
pub fn plausible_run(bytes: &[u8], start: usize) -> bool {
    let run = bytes.get(start..).unwrap_or_default();
    let length = run.iter().take_while(|byte| pgturnstile_sweep::is_number_byte(**byte)).count();
    let run = run.get(..length).unwrap_or_default();
    let lead = run.iter().take_while(|byte| matches!(byte, b' ' | b'(' | b')')).count();
    let rest = run.get(lead..).unwrap_or_default();
    let rest = match rest {
        [a, b, c, d, b'-', e, f, b'-', g, h, rest @ ..]
            if [a, b, c, d, e, f, g, h].iter().all(|byte| byte.is_ascii_digit())
                && !rest.first().is_some_and(u8::is_ascii_digit) =>
        {
            rest
        }
        rest => rest,
    };
    // A `+` begins a telephone number and stands in no other.
    let mut parts = rest.split(|byte| *byte == b'+');
    let first = parts.next().unwrap_or_default();
    let count = |part: &[u8]| part.iter().filter(|byte| byte.is_ascii_digit()).count();
    let digits = count(first);
    let long = first.len() >= pgturnstile_sweep::RUN_BYTES_MIN;
    long && (digits >= 10 || digits >= 8 && first.len() - digits >= 2) || parts.any(|part| count(part) >= 8)
}

#[cfg(test)]
mod figures;
#[cfg(test)]
mod tests;
