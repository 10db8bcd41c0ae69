//! What PostgreSQL's scanner would work on a text, before it does.
//!
//! Owns: one estimate, of the one place where scan.l is quadratic: an operator or the start of a comment is matched with
//! all operator characters behind it, and then given back but for its first one or two. In a run of n such characters
//! each `/*`, `+` and `-` thus costs up to n steps: 256 KiB of `/**/` take minutes, and a parse cannot be interrupted.
//! May not: lex. It does not know strings or comments apart, so that it counts too much there, never too little.

/// Steps over given-back characters that any text may cost: a millisecond or two, spent on a shard.
const STEPS_MAX: usize = 1024 * 1024;
/// Further steps for each byte of the text: at the default cap, a tenth of a second on a thread of the pool.
const STEPS_PER_BYTE_MAX: usize = 256;

/// Whether the byte may stand in an operator (`op_chars` of scan.l).
const OPERATOR: [bool; 256] = {
    let mut table = [false; 256];
    let characters = b"~!@#^&|`?+-*/%<>=";
    let mut i = 0;
    while i < characters.len() {
        table[characters[i] as usize] = true;
        i += 1;
    }
    table
};

/// The end of the run at which the text gets too costly; `None` when it does not.
pub(super) fn exceeded(text: &[u8]) -> Option<usize> {
    let steps_max = STEPS_MAX.saturating_add(text.len().saturating_mul(STEPS_PER_BYTE_MAX));
    let mut steps = 0usize;
    // Length of the run at hand, and how often the scanner may start anew in it.
    let (mut run, mut starts) = (0usize, 0usize);
    let mut before = 0u8;
    for (at, byte) in text.iter().chain([&b' ']).enumerate() {
        if OPERATOR[usize::from(*byte)] {
            run += 1;
            // A minus that follows a minus begins a line comment: nothing of the run is scanned again behind it.
            let anew =
                *byte == b'+' || (*byte == b'*' && before == b'/') || (*byte == b'-' && before != b'-');
            starts += usize::from(anew);
        } else if run > 0 {
            steps = steps.saturating_add(run.saturating_mul(starts));
            (run, starts) = (0, 0);
            if steps > steps_max {
                return Some(at);
            }
        }
        before = *byte;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_texts_cost_nothing_to_speak_of() {
        for text in ["", "select 1", "select a->>'b' || c from t -- ----\n/* *** */", "+", "/**/"] {
            assert_eq!(exceeded(text.as_bytes()), None, "{text}");
        }
        assert_eq!(exceeded("select 1 + 1 - 1 ".repeat(15_000).as_bytes()), None);
        assert_eq!(exceeded("/* x */".repeat(35_000).as_bytes()), None);
        assert_eq!(exceeded("-".repeat(250_000).as_bytes()), None);
        assert_eq!(exceeded("=*".repeat(125_000).as_bytes()), None);
    }

    #[test]
    fn long_runs_are_too_much() {
        for unit in ["/**/", "/*", "+", "+-", "*+", "-/**/"] {
            let text = unit.repeat(250_000 / unit.len());
            assert_eq!(exceeded(text.as_bytes()), Some(text.len()), "{unit}");
            let shorter = unit.repeat(1_000 / unit.len()) + " select 1";
            assert_eq!(exceeded(shorter.as_bytes()), None, "{unit}");
        }
        let (many, few) = (("+".repeat(1_000) + " ").repeat(260), ("+".repeat(200) + " ").repeat(1_200));
        assert!(exceeded(many.as_bytes()).is_some() && exceeded(few.as_bytes()).is_none());
    }
}
