//! The patterns by which a policy names objects.
//!
//! Owns: the grammar of `on` (config.md), globs, and the two questions a rule may ask of a pattern: whether it *covers*
//! an object (asked by permits: only a certain match counts) and whether it *touches* one (asked by restricts: a
//! possible match counts). May not: resolve a name. Fails closed: an object that the text does not fix is covered by
//! nothing but `*` and touched by everything.

use core::fmt;

use crate::class::Class;
use crate::policy::object::{Home, IDENTIFIER_BYTES_MAX, Kind, Object, Tier, home};
use crate::policy::settings::Category;
use crate::resolve::Reach;
use crate::statement::facts::ObjectKind;

/// A glob over one part of a name: `*` stands for any run of characters and never crosses a dot, since a part has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Glob {
    /// `*` alone.
    Any,
    /// No wildcard.
    Literal(Box<str>),
    /// The pieces between the wildcards; the first is a prefix, the last a suffix, either may be empty.
    Pieces(Box<[Box<str>]>),
}

impl Glob {
    /// Reads one part without quotes.
    pub fn new(text: &str) -> Self {
        if !text.is_empty() && text.bytes().all(|byte| byte == b'*') {
            return Glob::Any;
        }
        if !text.contains('*') {
            return Glob::Literal(text.into());
        }
        Glob::Pieces(text.split('*').map(Box::from).collect())
    }

    /// Whether `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Glob::Any => true,
            Glob::Literal(literal) => **literal == *name,
            Glob::Pieces(pieces) => pieces_match(pieces, name),
        }
    }

    /// The text without wildcards, where it has none.
    pub fn literal(&self) -> Option<&str> {
        match self {
            Glob::Literal(literal) => Some(literal),
            Glob::Any | Glob::Pieces(_) => None,
        }
    }
}

fn pieces_match(pieces: &[Box<str>], name: &str) -> bool {
    let [first, middle @ .., last] = pieces else { return false };
    let Some(rest) = name.strip_prefix(&**first) else { return false };
    let Some(mut rest) = rest.strip_suffix(&**last) else { return false };
    // Leftmost matches of the middle pieces suffice: an earlier match never leaves less room for the next.
    for piece in middle {
        match rest.find(&**piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    true
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Glob::Any => f.write_str("*"),
            Glob::Literal(literal) => f.write_str(literal),
            Glob::Pieces(pieces) => f.write_str(&pieces.join("*")),
        }
    }
}

/// One entry of `on`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `*`: everything, the data-bearing catalogs too.
    Star,
    /// `schema.name`.
    Relation {
        /// Schema.
        schema: Glob,
        /// Name.
        name: Glob,
    },
    /// `fn:schema.name` or `fn:schema.name(args)`.
    Function {
        /// Schema.
        schema: Glob,
        /// Name.
        name: Glob,
        /// Argument types, normalised; `None` covers every overload.
        arguments: Option<Box<str>>,
    },
    /// `kind:…`.
    Kind(Kind),
    /// `setting:…`.
    Setting(Glob),
    /// `label:tier`.
    Label(Tier),
}

/// Why a pattern cannot be read; its text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// Nothing in it.
    #[error("is empty; write schema.name, schema.*, fn:schema.name, kind:…, setting:…, label:… or \"*\"")]
    Empty,
    /// A name without a schema.
    #[error("names no schema; write schema.name (policies never use a search path)")]
    Unqualified,
    /// Three parts or more.
    #[error("has too many parts; columns are named only by [[label]], everything else is schema.name")]
    TooManyParts,
    /// A part is empty.
    #[error("has an empty part")]
    EmptyPart,
    /// An unquoted capital.
    #[error(
        "has a capital letter outside double quotes; PostgreSQL folds such names to lower case: write them so, or quote them"
    )]
    Capital,
    /// Too long.
    #[error("has a name of more than 63 bytes; PostgreSQL cuts names there and it could never match")]
    TooLong,
    /// A quote that does not close, or text behind it.
    #[error("has a double quote that does not close or does not surround a whole part")]
    Quote,
    /// A character that no pattern knows.
    #[error("has a character that no unquoted name has; quote the part (wildcards are only `*`)")]
    Character,
    /// `kind:` with an unknown word.
    #[error("names no kind; kinds are {kinds}", kinds = kinds())]
    UnknownKind,
    /// `label:` with an unknown word.
    #[error("names no tier; tiers are internal, personal, restricted, secret")]
    UnknownTier,
    /// A prefix nobody knows.
    #[error("has an unknown prefix; prefixes are fn:, kind:, setting:, label:")]
    UnknownPrefix,
    /// Parentheses do not close.
    #[error("has an argument list that does not close; write fn:schema.name(integer, text)")]
    Arguments,
}

fn kinds() -> String {
    Kind::ALL.map(Kind::name).join(", ")
}

impl Pattern {
    /// Reads one entry of `on`.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        if text.is_empty() {
            return Err(BadPattern::Empty);
        }
        if text == "*" {
            return Ok(Pattern::Star);
        }
        if let Some(rest) = text.strip_prefix("fn:") {
            return parse_function(rest);
        }
        if let Some(rest) = text.strip_prefix("kind:") {
            return Kind::from_name(rest).map(Pattern::Kind).ok_or(BadPattern::UnknownKind);
        }
        if let Some(rest) = text.strip_prefix("label:") {
            return Tier::from_name(rest).map(Pattern::Label).ok_or(BadPattern::UnknownTier);
        }
        if let Some(rest) = text.strip_prefix("setting:") {
            return parse_setting(rest);
        }
        let parts = split_parts(text)?;
        match parts.as_slice() {
            [schema, name] => Ok(Pattern::Relation { schema: schema.clone(), name: name.clone() }),
            [] | [_] => Err(BadPattern::Unqualified),
            [_, _, ..] => Err(BadPattern::TooManyParts),
        }
    }

    /// Whether it certainly names `object`: the question of permits.
    pub fn covers(&self, object: &Object<'_>) -> bool {
        match (self, object) {
            (Pattern::Star, _) | (_, Object::Whole) => true,
            (Pattern::Label(_), _) | (_, Object::Unfixed) => false,
            (Pattern::Relation { schema, name }, Object::Relation { schema: s, name: n, reach }) => {
                if *reach == Reach::DataBearingCatalog {
                    schema.literal() == Some(s) && name.literal() == Some(n)
                } else {
                    schema.matches(s) && name.matches(n)
                }
            }
            (Pattern::Relation { schema, name }, Object::Named { kind, schema: s, name: n }) => {
                match (home(*kind), s) {
                    // A function is named by `fn:`, in DDL as in calls.
                    (Home::InSchema, Some(s)) => {
                        *kind != ObjectKind::Function && schema.matches(s) && name.matches(n)
                    }
                    // A whole schema is covered by whoever covers all in it.
                    (Home::IsSchema, None) => *name == Glob::Any && schema.matches(n),
                    (Home::Outside, Some(s)) => schema.matches(s) && name.matches(n),
                    (Home::InSchema | Home::Outside, None) | (Home::IsSchema, Some(_)) => false,
                }
            }
            (
                Pattern::Function { schema, name, arguments },
                Object::Function { schema: s, name: n, arguments: known },
            ) => {
                schema.matches(s)
                    && name.matches(n)
                    && arguments.as_deref().is_none_or(|wanted| wanted == normal_arguments(known))
            }
            // Which overload DDL means is not told, so a pattern with arguments never covers it.
            (
                Pattern::Function { schema, name, arguments: None },
                Object::Named { kind: ObjectKind::Function, schema: Some(s), name: n },
            ) => schema.matches(s) && name.matches(n),
            (Pattern::Kind(kind), Object::Relation { reach, .. }) => Kind::of_relation(*reach) == Some(*kind),
            (Pattern::Kind(kind), Object::Setting { category, shown, .. }) => {
                kind.covers_setting(*category, *shown)
            }
            (Pattern::Setting(glob), Object::Setting { name: Some(name), .. }) => glob.matches(name),
            (Pattern::Relation { .. }, Object::Function { .. } | Object::Setting { .. })
            | (
                Pattern::Function { .. },
                Object::Relation { .. } | Object::Setting { .. } | Object::Named { .. },
            )
            | (Pattern::Kind(_), Object::Function { .. } | Object::Named { .. })
            | (
                Pattern::Setting(_),
                Object::Relation { .. }
                | Object::Function { .. }
                | Object::Named { .. }
                | Object::Setting { name: None, .. },
            ) => false,
        }
    }

    /// Whether it may name `object`: the question of restricts.
    pub fn touches(&self, object: &Object<'_>) -> bool {
        match (self, object) {
            (Pattern::Star, _) | (_, Object::Unfixed) => true,
            (_, Object::Whole) => false,
            (Pattern::Relation { schema, name }, Object::Relation { schema: s, name: n, .. }) => {
                schema.matches(s) && name.matches(n)
            }
            (
                Pattern::Relation { schema, name } | Pattern::Function { schema, name, .. },
                Object::Named { kind, schema: s, name: n },
            ) => match (home(*kind), s) {
                (Home::InSchema | Home::Outside, Some(s)) => schema.matches(s) && name.matches(n),
                // No schema in the text and none by the path: it may be in any.
                (Home::InSchema, None) => name.matches(n),
                (Home::IsSchema, _) => schema.matches(n),
                (Home::Outside, None) => false,
            },
            (
                Pattern::Function { schema, name, arguments },
                Object::Function { schema: s, name: n, arguments: known },
            ) => {
                schema.matches(s)
                    && name.matches(n)
                    && (known.is_empty()
                        || arguments.as_deref().is_none_or(|wanted| wanted == normal_arguments(known)))
            }
            (Pattern::Kind(kind), Object::Relation { reach, .. }) => match reach {
                // What is not there yet may turn out to be anything.
                Reach::Unresolved => !kind.is_setting(),
                Reach::DataBearingCatalog => *kind == Kind::Catalog,
                Reach::Table
                | Reach::View
                | Reach::MaterializedView
                | Reach::Sequence
                | Reach::Foreign
                | Reach::Temporary
                | Reach::Catalog
                | Reach::New => Kind::of_relation(*reach) == Some(*kind),
            },
            (Pattern::Kind(kind), Object::Setting { name: None, shown, .. }) => {
                kind.is_setting() && (*kind == Kind::Show) == *shown
            }
            (Pattern::Kind(kind), Object::Setting { category, shown, .. }) => {
                kind.covers_setting(*category, *shown)
            }
            (Pattern::Setting(glob), Object::Setting { name, .. }) => {
                name.is_none_or(|name| glob.matches(name))
            }
            // Which labels an object bears is the catalog's to say: asked by tier (index.rs, condition.rs).
            (
                Pattern::Label(_),
                Object::Relation { .. }
                | Object::Function { .. }
                | Object::Named { .. }
                | Object::Setting { .. },
            )
            | (Pattern::Relation { .. }, Object::Function { .. } | Object::Setting { .. })
            | (Pattern::Function { .. }, Object::Relation { .. } | Object::Setting { .. })
            | (Pattern::Kind(_), Object::Function { .. } | Object::Named { .. })
            | (
                Pattern::Setting(_),
                Object::Relation { .. } | Object::Function { .. } | Object::Named { .. },
            ) => false,
        }
    }

    /// Whether it says which settings are meant.
    pub fn is_setting(&self) -> bool {
        match self {
            Pattern::Setting(_) => true,
            Pattern::Kind(kind) => kind.is_setting(),
            Pattern::Star | Pattern::Relation { .. } | Pattern::Function { .. } | Pattern::Label(_) => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Star => f.write_str("*"),
            Pattern::Relation { schema, name } => write!(f, "{schema}.{name}"),
            Pattern::Function { schema, name, arguments: None } => write!(f, "fn:{schema}.{name}"),
            Pattern::Function { schema, name, arguments: Some(arguments) } => {
                write!(f, "fn:{schema}.{name}({arguments})")
            }
            Pattern::Kind(kind) => write!(f, "kind:{}", kind.name()),
            Pattern::Setting(glob) => write!(f, "setting:{glob}"),
            Pattern::Label(tier) => write!(f, "label:{}", tier.name()),
        }
    }
}

fn parse_function(text: &str) -> Result<Pattern, BadPattern> {
    let (name, arguments) = match text.split_once('(') {
        None if text.contains(')') => return Err(BadPattern::Arguments),
        None => (text, None),
        Some((name, rest)) => {
            let inner = rest.strip_suffix(')').ok_or(BadPattern::Arguments)?;
            (name, Some(normal_arguments(inner).into_boxed_str()))
        }
    };
    match split_parts(name)?.as_slice() {
        [schema, name] => Ok(Pattern::Function { schema: schema.clone(), name: name.clone(), arguments }),
        [] | [_] => Err(BadPattern::Unqualified),
        [_, _, ..] => Err(BadPattern::TooManyParts),
    }
}

/// Settings have one or two parts (`statement_timeout`, `app.tenant`) and are compared without case.
fn parse_setting(text: &str) -> Result<Pattern, BadPattern> {
    if text.is_empty() {
        return Err(BadPattern::Empty);
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.*$-".contains(&byte)) {
        return Err(BadPattern::Character);
    }
    Ok(Pattern::Setting(Glob::new(&text.to_ascii_lowercase())))
}

/// Argument lists are compared without regard to blanks around the commas, in lower case.
fn normal_arguments(text: &str) -> String {
    text.split(',')
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase())
        .collect::<Vec<_>>()
        .join(",")
}

/// Splits at the dots outside double quotes; a quoted part is literal, `""` in it is one quote.
pub(crate) fn split_parts(text: &str) -> Result<Vec<Glob>, BadPattern> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_part(quoted)?,
            None => plain_part(rest)?,
        };
        parts.push(part);
        match behind {
            None => return Ok(parts),
            Some(next) => rest = next,
        }
    }
}

fn quoted_part(text: &str) -> Result<(Glob, Option<&str>), BadPattern> {
    let mut name = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if character != '"' {
            name.push(character);
            continue;
        }
        if characters.next_if(|(_, next)| *next == '"').is_some() {
            name.push('"');
            continue;
        }
        let behind = &text[at + 1..];
        let behind = match behind.strip_prefix('.') {
            Some(rest) => Some(rest),
            None if behind.is_empty() => None,
            None => return Err(BadPattern::Quote),
        };
        check_length(&name)?;
        return Ok((Glob::Literal(name.into()), behind));
    }
    Err(BadPattern::Quote)
}

fn plain_part(text: &str) -> Result<(Glob, Option<&str>), BadPattern> {
    let (part, behind) = match text.split_once('.') {
        Some((part, behind)) => (part, Some(behind)),
        None => (text, None),
    };
    for character in part.chars() {
        match character {
            'A'..='Z' => return Err(BadPattern::Capital),
            '"' => return Err(BadPattern::Quote),
            'a'..='z' | '0'..='9' | '_' | '$' | '*' | '\u{80}'.. => {}
            _ => return Err(BadPattern::Character),
        }
    }
    check_length(part)?;
    Ok((Glob::new(part), behind))
}

fn check_length(part: &str) -> Result<(), BadPattern> {
    if part.is_empty() {
        return Err(BadPattern::EmptyPart);
    }
    if part.len() > IDENTIFIER_BYTES_MAX { Err(BadPattern::TooLong) } else { Ok(()) }
}

/// The whole `on` of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct On {
    patterns: Box<[Pattern]>,
    names_settings: bool,
}

impl On {
    /// From its entries.
    pub fn new(patterns: Vec<Pattern>) -> Self {
        let names_settings = patterns.iter().any(Pattern::is_setting);
        Self { patterns: patterns.into(), names_settings }
    }

    /// Its entries.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether it says which settings are meant. One that does not speaks of all settings that its class reaches: a
    /// setting belongs to no schema.
    pub fn names_settings(&self) -> bool {
        self.names_settings
    }

    /// Whether it certainly names `object`.
    pub fn covers(&self, class: Class, object: &Object<'_>) -> bool {
        !class.has_objects()
            || self.covers_by_silence(object)
            || self.patterns.iter().any(|pattern| pattern.covers(object))
    }

    /// Whether it may name `object`.
    pub fn touches(&self, class: Class, object: &Object<'_>) -> bool {
        !class.has_objects()
            || (!self.names_settings && matches!(object, Object::Setting { .. }))
            || self.patterns.iter().any(|pattern| pattern.touches(object))
    }

    /// A permit that names no setting covers all but custom ones: those belong to an application or an extension, and
    /// what they open is known only to whoever names them.
    fn covers_by_silence(&self, object: &Object<'_>) -> bool {
        !self.names_settings
            && matches!(object, Object::Setting { category, .. } if *category != Category::Custom)
    }
}
