//! The startup packet's `options`, read exactly as the server reads it.
//!
//! Owns two steps of src/backend/utils/init/postinit.c and src/backend/tcop/postgres.c: [`split`] is `pg_split_opts`,
//! [`settings`] is what `process_postgres_switches` makes of the words. Only switches that name one setting are taken
//! (`-c name=value`, `-cname=value`, `--name=value`); every other switch, a lone word, `--` and a letter joined with
//! others are refused by name. What was read is sent on as separate parameters, never as `options`, so nothing
//! depends on the server's splitting what we split.

/// A part of `options` that is not a single setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionRefused {
    /// A byte outside of printable ASCII and white space: whether it is white space depends on the server's locale.
    #[error("it holds a character that is neither printable ASCII nor white space")]
    NotAscii,
    /// A word that is no switch.
    #[error("{0:?} is not of the form -c name=value or --name=value")]
    Word(String),
    /// A switch other than `-c` and `--name=value`.
    #[error("the switch {0:?} is not allowed; only -c name=value and --name=value are")]
    Switch(String),
    /// `-c` at the end.
    #[error("-c lacks its name=value")]
    Argument,
    /// A setting without a value.
    #[error("{0:?} lacks a value")]
    Value(String),
}

/// Splits at white space outside of a backslash escape (`pg_split_opts`). A backslash makes the next character
/// literal, whatever it is; one at the very end is dropped.
pub fn split(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = options.chars().peekable();
    loop {
        while rest.next_if(|&character| is_space(character)).is_some() {}
        if rest.peek().is_none() {
            return words;
        }
        let mut word = String::new();
        let mut escaped = false;
        while let Some(character) = rest.next_if(|&character| escaped || !is_space(character)) {
            if !escaped && character == '\\' {
                escaped = true;
            } else {
                escaped = false;
                word.push(character);
            }
        }
        words.push(word);
    }
}

/// `isspace` of the C locale.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// The settings named by `options`, in order; hyphens of names turned into underscores (`ParseLongOption`).
///
/// # Errors
/// Anything that is not a single setting, by name.
pub fn settings(options: &str) -> Result<Vec<(String, String)>, OptionRefused> {
    if !options.chars().all(|character| is_space(character) || (' '..='~').contains(&character)) {
        return Err(OptionRefused::NotAscii);
    }
    let mut found = Vec::new();
    let mut words = split(options).into_iter();
    while let Some(word) = words.next() {
        let assignment = if let Some(long) = word.strip_prefix("--") {
            if long.is_empty() {
                return Err(OptionRefused::Switch(word));
            }
            long.to_owned()
        } else if let Some(joined) = word.strip_prefix("-c") {
            if joined.is_empty() { words.next().ok_or(OptionRefused::Argument)? } else { joined.to_owned() }
        } else if word.starts_with('-') && word.len() > 1 {
            return Err(OptionRefused::Switch(word));
        } else {
            return Err(OptionRefused::Word(word));
        };
        let Some((name, value)) = assignment.split_once('=') else {
            return Err(OptionRefused::Value(assignment));
        };
        found.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(options: &str) -> Vec<(String, String)> {
        settings(options).unwrap()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn words_end_at_white_space_that_is_not_escaped() {
        assert_eq!(split(""), Vec::<String>::new());
        assert_eq!(split(" \t\n"), Vec::<String>::new());
        assert_eq!(split("  a\tb\nc\x0bd\x0ce\rf "), ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(split(r"a\ b c"), ["a b", "c"]);
        assert_eq!(split(r"a\\ b"), [r"a\", "b"]);
        assert_eq!(split(r"\a\b"), ["ab"]);
        assert_eq!(split(r"a \"), ["a", ""]);
        assert_eq!(split(r"a\"), ["a"]);
    }

    #[test]
    fn each_form_of_a_setting_is_read() {
        assert_eq!(pairs("-c x=y"), [pair("x", "y")]);
        assert_eq!(pairs("-cx=y"), [pair("x", "y")]);
        assert_eq!(pairs("--x-y=z"), [pair("x_y", "z")]);
        assert_eq!(pairs("-c x-y=z-w"), [pair("x_y", "z-w")]);
        assert_eq!(pairs("-c x=y=z --a="), [pair("x", "y=z"), pair("a", "")]);
        assert_eq!(pairs(r"-c DateStyle=ISO,\ MDY"), [pair("DateStyle", "ISO, MDY")]);
        // getopt takes the next word whatever it looks like.
        assert_eq!(pairs("-c --x=y"), [pair("__x", "y")]);
        assert_eq!(pairs("-c -c=y"), [pair("_c", "y")]);
        assert_eq!(pairs("---x=y"), [pair("_x", "y")]);
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let refused = |options: &str| settings(options).unwrap_err();
        assert_eq!(refused("word"), OptionRefused::Word("word".into()));
        assert_eq!(refused("-"), OptionRefused::Word("-".into()));
        assert_eq!(refused(r"\"), OptionRefused::Word(String::new()));
        assert_eq!(refused("--"), OptionRefused::Switch("--".into()));
        assert_eq!(refused("-d5"), OptionRefused::Switch("-d5".into()));
        assert_eq!(refused("-Oc x=y"), OptionRefused::Switch("-Oc".into()));
        assert_eq!(refused("-c"), OptionRefused::Argument);
        assert_eq!(refused("-c x"), OptionRefused::Value("x".into()));
        assert_eq!(refused("--x"), OptionRefused::Value("x".into()));
        assert_eq!(refused("-c x=\u{a0}y"), OptionRefused::NotAscii);
        assert_eq!(refused("-c x=\u{1}"), OptionRefused::NotAscii);
    }

    proptest! {
        #[test]
        fn escaping_every_character_round_trips(words in prop::collection::vec("[ -~\t\n]{1,12}", 0..5)) {
            let text: Vec<String> = words
                .iter()
                .map(|word| word.chars().flat_map(|character| ['\\', character]).collect())
                .collect();
            prop_assert_eq!(split(&text.join(" ")), words);
        }

        #[test]
        fn no_input_panics(options in "\\PC{0,64}") {
            drop(settings(&options));
            drop(split(&options));
        }
    }
}
