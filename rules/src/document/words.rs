//! The words of messages: the nearest known key, the unit in a key's name, what an identifier may hold.
//!
//! Pure functions over text; they know nothing of files.

/// The unit suffixes of keys, and how a message names the unit.
const UNITS: [(&str, &str); 8] = [
    ("_bytes", "bytes"),
    ("_ms", "milliseconds"),
    ("_s", "seconds"),
    ("_bytes_max", "bytes"),
    ("_s_max", "seconds"),
    ("_ms_max", "milliseconds"),
    ("_max", "items"),
    ("_bits", "bits"),
];

/// Longest identifier, in bytes.
pub const NAME_BYTES_MAX: usize = 63;

/// Says that `word` is none of `names`, with the nearest one when there is one.
#[must_use]
pub fn unknown_word(word: &str, names: &[&str]) -> String {
    let all = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    match nearest(word, names) {
        Some(near) => format!("\"{word}\" is not known; did you mean \"{near}\"? One of: {all}"),
        None => format!("\"{word}\" is not known; one of: {all}"),
    }
}

/// The known word that `word` was probably meant to be.
#[must_use]
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let length = word.chars().count();
    let allowed = (length / 3).max(usize::from(length > 1));
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// What is wrong with an identifier, if anything.
#[must_use]
pub fn name_fault(name: &str) -> Option<String> {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Some(format!("a name has 1 to {NAME_BYTES_MAX} characters"));
    }
    if !name.chars().all(sound) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Some(format!(
            "`{}` is no name: letters, digits, `_`, `-` and `.` only, starting with a letter or digit",
            name.escape_debug()
        ));
    }
    None
}

pub(super) fn unit_of(key: &str) -> Option<&'static str> {
    UNITS.iter().find(|(suffix, _)| key.ends_with(suffix)).map(|(_, unit)| *unit)
}

pub(super) fn same_but_for_unit<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    const SUFFIXES: [&str; 12] =
        ["_ms", "_s", "_sec", "_secs", "_seconds", "_m", "_min", "_minutes", "_bytes", "_kb", "_mb", "_gb"];
    let stem = |key: &str| {
        SUFFIXES
            .iter()
            .filter_map(|suffix| key.strip_suffix(suffix))
            .min_by_key(|stem| stem.len())
            .map(str::to_owned)
    };
    let bare = stem(key).unwrap_or_else(|| key.to_owned());
    known.iter().copied().find(|candidate| stem(candidate).is_some_and(|known| known == bare))
}
