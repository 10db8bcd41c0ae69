//! Names of prepared statements and cursors that a text makes or drops itself.
//!
//! A text is judged whole before any of it runs, and by then its PREPARE has not made its name, and its DEALLOCATE has not
//! dropped it: what EXECUTE or FETCH runs behind them in the same text is another statement than the one that bears the name
//! now, or one that is not known.
//!
//! Owns: which names those are, and the refusal of their use. May not: look a name up. Fails closed: a name that was touched is
//! not used again in its text.

use crate::policy::course::TextRefusal;
use crate::policy::judge::SQLSTATE_REFUSED;
use crate::statement::facts::NamedUse;

/// Names of one kind.
#[derive(Clone, Debug, Default)]
struct Touched {
    every: bool,
    names: Vec<Box<str>>,
}

impl Touched {
    fn touch(&mut self, name: Option<&str>) {
        match name {
            Some(name) => self.names.push(name.into()),
            None => self.every = true,
        }
    }

    fn has(&self, name: &str) -> bool {
        self.every || self.names.iter().any(|touched| **touched == *name)
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct MovedHere {
    statements: Touched,
    cursors: Touched,
}

impl MovedHere {
    /// A statement of the text stands before what is looked at next.
    pub(super) fn note(&mut self, named: &NamedUse) {
        match named {
            NamedUse::Prepare(name) => self.statements.touch(Some(name)),
            NamedUse::Deallocate(name) => self.statements.touch(name.as_deref()),
            NamedUse::Declare(name) => self.cursors.touch(Some(name)),
            NamedUse::Close(name) => self.cursors.touch(name.as_deref()),
            NamedUse::DiscardAll => {
                self.statements.touch(None);
                self.cursors.touch(None);
            }
            NamedUse::Execute(_) | NamedUse::Fetch(_) => {}
        }
    }

    /// Why the next statement may not use its name.
    pub(super) fn refuses(&self, named: &NamedUse) -> Option<TextRefusal> {
        let (what, name, touched) = match named {
            NamedUse::Execute(name) => ("prepared statement", name, &self.statements),
            NamedUse::Fetch(name) => ("cursor", name, &self.cursors),
            NamedUse::Prepare(_)
            | NamedUse::Deallocate(_)
            | NamedUse::Declare(_)
            | NamedUse::Close(_)
            | NamedUse::DiscardAll => return None,
        };
        touched.has(name).then(|| {
            TextRefusal::new(
                SQLSTATE_REFUSED,
                "order",
                format!(
                    "pgturnstile refused a text that uses the {what} \"{}\" behind a statement of its own that makes or drops that \
                     name: a text is judged whole before any of it runs, and what the name stands for is known only then. \
                     Next: send them as separate queries",
                    name.escape_debug()
                ),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_text_touched_is_not_used_behind_it() {
        let name = || "n".to_owned();
        for (before, execute, fetch) in [
            (NamedUse::Prepare(name()), true, false),
            (NamedUse::Prepare("other".to_owned()), false, false),
            (NamedUse::Deallocate(Some(name())), true, false),
            (NamedUse::Deallocate(None), true, false),
            (NamedUse::Declare(name()), false, true),
            (NamedUse::Close(Some(name())), false, true),
            (NamedUse::Close(None), false, true),
            (NamedUse::DiscardAll, true, true),
            (NamedUse::Execute(name()), false, false),
            (NamedUse::Fetch(name()), false, false),
        ] {
            let mut moved = MovedHere::default();
            moved.note(&before);
            assert_eq!(moved.refuses(&NamedUse::Execute(name())).is_some(), execute, "{before:?}");
            assert_eq!(moved.refuses(&NamedUse::Fetch(name())).is_some(), fetch, "{before:?}");
            assert!(moved.refuses(&NamedUse::Prepare(name())).is_none(), "the server says what stands there");
        }
    }
}
