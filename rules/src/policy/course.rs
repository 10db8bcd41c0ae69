//! What one statement of a text does to the next, and the refusals of a text that rest on text and catalog alone.
//!
//! A text is judged whole before any of it runs. So what a statement may do to names, settings and the catalog counts for those
//! behind it, and where that cannot be told, the text is refused: these rules are built in, and no permit opens them.
//!
//! Owns: those rules and their words, and what the session of a text sees of the statements before. A session and the judgement
//! without a server ([`crate::policy::offline`]) both ask here. May not: know a live session: which names it holds, its own
//! tables, its frames. Fails closed: what is not known to leave names as they are is taken to move them.

use crate::catalog::Snapshot;
use crate::class::Class;
use crate::policy::judge::SQLSTATE_REFUSED;
use crate::policy::made::Made;
use crate::policy::moved_here::MovedHere;
use crate::resolve::{
    Code, NAMES_MAX, Resolution, SessionView, is_unmistakable, names_too_many, plainly_defines,
};
use crate::statement::facts::{CopyUse, NamedUse, StatementFacts, TransactionControl};

/// The server's NAMEDATALEN less its NUL (`src/include/pg_config_manual.h`).
pub const NAME_BYTES_MAX: usize = 63;
/// Client names that begin with this are refused: what the gateway sends under its own names must not be reachable.
pub const RESERVED_PREFIX: &[u8] = b"pgturnstile.";

/// A refusal by a rule that is built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextRefusal {
    /// Five characters.
    pub sqlstate: &'static str,
    /// The rule, one word.
    pub rule: &'static str,
    /// The whole primary message: what, why, what next.
    pub message: String,
}

impl TextRefusal {
    pub(super) fn new(sqlstate: &'static str, rule: &'static str, message: impl Into<String>) -> Self {
        Self { sqlstate, rule, message: message.into() }
    }

    /// What is refused and why, without the words around it.
    pub(super) fn why(&self) -> &str {
        let what = self.message.split(". Next: ").next().unwrap_or_default();
        what.strip_prefix("pgturnstile refused ").unwrap_or(what)
    }
}

/// What a statement does to the catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// It may change it.
    pub changes_catalog: bool,
    /// It is a definition by its text.
    pub ddl: bool,
}

/// What a text has changed so far that no snapshot shows.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// Names that the session has made or altered, and this text so far.
    made: Made,
    /// It may have changed the catalog.
    pub catalog: bool,
    /// That may have brought code to a relation.
    pub brings_code: bool,
    /// Code has made what no text names.
    pub made_by_code: bool,
    /// It makes temporary objects.
    pub makes_temporary: bool,
}

impl Changed {
    /// What the session may see that the snapshot does not show, as it is by the next statement; `session`: as it was when the
    /// text began.
    #[must_use]
    pub fn view<'v>(&'v self, session: &SessionView<'v>) -> SessionView<'v> {
        SessionView {
            temp_possible: session.temp_possible || self.makes_temporary,
            temp_names: session.temp_names.filter(|_| !self.makes_temporary),
            temp_code: session.temp_code || self.brings_code,
            temp_types: session.temp_types || self.makes_temporary || self.catalog,
            private_catalog: session.private_catalog || self.catalog,
            private_code: session.private_code || self.brings_code,
            made: &self.made.names,
            made_more: self.made.more,
            made_calls: self.made.calls,
            own_tables: session.own_tables,
            held_cursor: session.held_cursor,
            parameter_types: session.parameter_types,
        }
    }
}

/// See the module: the statements of one text, in their order.
#[derive(Debug, Default)]
pub struct Course {
    /// A statement before this one may have moved what names mean.
    code_before: bool,
    /// Code runs with this statement.
    code_now: bool,
    /// A statement before this one makes a name that such code could give away before anybody has seen it.
    names_before: bool,
    /// Names that statements before this one make or drop.
    moved_here: MovedHere,
    changed: Changed,
}

impl Course {
    /// A text of a session that has made these names, which no snapshot shows yet.
    #[must_use]
    pub fn behind(made: &Made) -> Self {
        Self { changed: Changed { made: made.clone(), ..Changed::default() }, ..Self::default() }
    }

    /// The next text of the same session, where no snapshot was read since.
    pub(super) fn next_text(self) -> Self {
        Self { changed: self.changed, ..Self::default() }
    }

    /// What it has changed so far.
    pub fn changed(&self) -> &Changed {
        &self.changed
    }

    /// The names of the next statement: those that the text itself has moved, and how many there are.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn names(&mut self, statement: &StatementFacts) -> Result<(), TextRefusal> {
        if let Some(named) = &statement.named {
            self.moved_here.refuses(named).map_or(Ok(()), Err)?;
            self.moved_here.note(named);
        }
        if names_too_many(statement) {
            return Err(too_many_different_names());
        }
        Ok(())
    }

    /// Behind a statement that runs code, in the same text, a name may mean another object, and what runs may run as
    /// another role or under another guarded setting: only what controls the transaction may follow.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn order(&mut self, statement: &StatementFacts) -> Result<(), TextRefusal> {
        self.code_now = false;
        if !self.code_before || statement.transaction.is_some() {
            return Ok(());
        }
        Err(TextRefusal::new(
            SQLSTATE_REFUSED,
            "order",
            "pgturnstile refused a text in which a statement stands behind one that runs code of the database's users \
             (a function, or a trigger, rule, view or default of a relation): that code may change what names mean and \
             as whom the rest runs. Next: send them as separate queries",
        ))
    }

    /// What the statement does to those behind it; of what EXECUTE or FETCH carries in, too, by the same resolution.
    pub fn note(&mut self, statement: &StatementFacts, resolution: &Resolution, snapshot: &Snapshot) -> Done {
        let ddl = statement.class.covered_by("ddl")
            || statement.acts.iter().any(|act| act.class.covered_by("ddl"))
            || statement.relations.iter().any(|relation| relation.class.covered_by("ddl"));
        // What was prepared is in no catalog, whoever prepared it: committed, it may hold any definition.
        let two_phase = statement.transaction == Some(TransactionControl::TwoPhase);
        // Without code, what reads and writes rows changes no catalog, though it be a barrier for what this session has changed.
        let plain = statement.class.covered_by("read") || statement.class.covered_by("write");
        // What sets a setting by the server's own function moves that setting and nothing else.
        let only_sets = statement.flags.sets_setting
            && resolution.functions.is_empty()
            && resolution.relations.iter().all(|found| {
                snapshot.relation(&found.schema, &found.name).is_some_and(|relation| relation.system)
            });
        let runs_code = resolution.runs_code && !only_sets;
        let opaque = two_phase
            || statement.flags.dynamic
            || matches!(resolution.code, Code::Named(_))
                && (runs_code || !plain && !statement.flags.sets_setting)
            || runs_code && snapshot.defines().is_some();
        let changed = &mut self.changed;
        changed.made.note(statement);
        changed.made_by_code |=
            opaque && runs_code && snapshot.defines().is_some() || two_phase || statement.flags.dynamic;
        changed.made.more |= changed.made_by_code;
        changed.catalog |= ddl || opaque;
        changed.brings_code |=
            two_phase || opaque && runs_code || ddl && !plainly_defines(statement, resolution, snapshot);
        let temporary = statement.class == Class::DdlTemp
            || statement.acts.iter().any(|act| act.class == Class::DdlTemp)
            || statement.relations.iter().any(|relation| relation.class == Class::DdlTemp);
        changed.makes_temporary |= temporary;
        // DDL alone moves no names but its own, which need permits in every schema of the path either way.
        self.code_now |= resolution.runs_code || statement.flags.dynamic;
        self.code_before |= self.code_now;
        Done { changes_catalog: ddl || opaque, ddl }
    }

    /// The end of the statement, whose doing was noted.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn end(&mut self, statement: &StatementFacts) -> Result<(), TextRefusal> {
        if self.code_now && self.names_before {
            return Err(name_before_code());
        }
        self.names_before |= matches!(statement.named, Some(NamedUse::Prepare(_) | NamedUse::Declare(_)));
        Ok(())
    }
}

/// Code that runs while a statement is analysed stands between its own names.
///
/// # Errors
/// Why it is refused.
pub fn analysis(
    statement: &StatementFacts,
    resolution: &Resolution,
    snapshot: &Snapshot,
) -> Result<(), TextRefusal> {
    if !resolution.types_run_code || is_unmistakable(statement, resolution, snapshot) {
        return Ok(());
    }
    Err(TextRefusal::new(
        SQLSTATE_REFUSED,
        "analysis",
        "pgturnstile refused a statement: a type in it runs code of the database's users while the statement is analysed, which may \
         change what the statement's other names mean, and as whom its tables' row security sees it. Next: write every name that \
         is not the only one of its kind with its schema, an operator as OPERATOR(pg_catalog.=); rules/README.md says which types of \
         extensions run no such code",
    ))
}

/// Where detectors or labels look at what leaves, COPY must say how its rows are spelled.
///
/// # Errors
/// Why it is refused.
pub fn spelling(statement: &StatementFacts, looked_at: bool) -> Result<(), TextRefusal> {
    if looked_at && statement.copy == Some(CopyUse::Out) && statement.copy_spelling.is_none() {
        return Err(TextRefusal::new(
            SQLSTATE_REFUSED,
            "copy-spelling",
            "pgturnstile refused a COPY to the client: an option of it, or an encoding other than UTF8, leaves it open how its \
             rows are spelled, and the policy has them searched or masked. Next: use FORMAT text, csv or binary in UTF8",
        ));
    }
    Ok(())
}

/// A name that a statement makes.
///
/// # Errors
/// Why it is refused.
pub fn new_name(statement: &StatementFacts) -> Result<(), TextRefusal> {
    let (what, name) = match &statement.named {
        Some(NamedUse::Prepare(name)) => ("statement", name),
        Some(NamedUse::Declare(name)) => ("cursor", name),
        None
        | Some(
            NamedUse::Execute(_)
            | NamedUse::Fetch(_)
            | NamedUse::Deallocate(_)
            | NamedUse::Close(_)
            | NamedUse::DiscardAll,
        ) => return Ok(()),
    };
    bad_name(name.as_bytes(), what).map_or(Ok(()), Err)
}

/// Why a client may not give this name.
#[must_use]
pub fn bad_name(name: &[u8], what: &str) -> Option<TextRefusal> {
    if name.len() > NAME_BYTES_MAX {
        return Some(TextRefusal::new(
            "42622",
            "name-length",
            format!(
                "pgturnstile refused a {what} name of {} bytes: SQL cuts names at {NAME_BYTES_MAX} bytes, and two \
                 readings of one name are none. Next: use a shorter name",
                name.len()
            ),
        ));
    }
    name.starts_with(RESERVED_PREFIX).then(|| {
        TextRefusal::new(
            "42939",
            "reserved-name",
            format!("pgturnstile refused a {what} name that begins with \"pgturnstile.\": it is reserved. Next: use another name"),
        )
    })
}

/// EXECUTE of a name that nothing is known of.
#[must_use]
pub fn unknown_statement(name: &str) -> TextRefusal {
    unknown("26000", "prepared statement", name)
}

/// FETCH or MOVE from a name that nothing is known of.
#[must_use]
pub fn unknown_cursor(name: &str) -> TextRefusal {
    unknown("34000", "cursor", name)
}

fn unknown(sqlstate: &'static str, what: &str, name: &str) -> TextRefusal {
    TextRefusal::new(
        sqlstate,
        "unknown-name",
        format!(
            "pgturnstile refused to use the {what} \"{}\": this session did not make it through the gateway, so what \
             it runs is not known. Next: make it in this session first",
            name.escape_default()
        ),
    )
}

fn name_before_code() -> TextRefusal {
    TextRefusal::new(
        SQLSTATE_REFUSED,
        "order",
        "pgturnstile refused a text in which a statement that runs code of the database's users stands behind PREPARE or DECLARE: \
         that code may give the new name to another statement before anybody has seen it. Next: send them as separate queries",
    )
}

fn too_many_different_names() -> TextRefusal {
    let message = format!(
        "pgturnstile refused a statement that names more than {NAMES_MAX} different relations, functions, operators and types: each is \
         looked up and judged. Next: send it in parts"
    );
    TextRefusal::new("54000", "names", message)
}
