//! Statements about the session: transactions, settings, prepared statements, cursors, EXPLAIN, COPY.
//!
//! Owns: their facts. May not: follow a name to what it stands for (EXECUTE's facts are brought in by the session).

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use super::{Purpose, Walker, kind, name};
use crate::class::Class;
use crate::statement::facts::{
    CopySpelling, CopyUse, NamedUse, ObjectKind, Predicate, SettingAction, SettingUse, TransactionControl,
};
use crate::statement::generated::Visitor;

/// `CURSOR_OPT_HOLD` (src/include/nodes/parsenodes.h).
const CURSOR_OPT_HOLD: i32 = 0x20;

impl<'t> Walker<'t> {
    pub(super) fn transaction(&mut self, n: &'t pb::TransactionStmt) {
        let pb::TransactionStmt { kind, options, savepoint_name: _, gid: _, chain, location: _ } = n;
        let read_write = writes(options);
        use pb::TransactionStmtKind as K;
        let (control, tag) = match K::try_from(*kind).unwrap_or(K::Undefined) {
            K::TransStmtBegin => (TransactionControl::Begin { read_write }, "BEGIN"),
            K::TransStmtStart => (TransactionControl::Begin { read_write }, "START TRANSACTION"),
            K::TransStmtCommit => (TransactionControl::Commit, "COMMIT"),
            K::TransStmtRollback => (TransactionControl::Rollback, "ROLLBACK"),
            K::TransStmtSavepoint => (TransactionControl::Savepoint, "SAVEPOINT"),
            K::TransStmtRelease => (TransactionControl::Savepoint, "RELEASE"),
            K::TransStmtRollbackTo => (TransactionControl::Savepoint, "ROLLBACK"),
            K::TransStmtPrepare => (TransactionControl::TwoPhase, "PREPARE TRANSACTION"),
            K::TransStmtCommitPrepared => (TransactionControl::TwoPhase, "COMMIT PREPARED"),
            K::TransStmtRollbackPrepared => (TransactionControl::TwoPhase, "ROLLBACK PREPARED"),
            K::Undefined => return self.unknown("a transaction statement of unknown kind"),
        };
        self.tagged(tag);
        self.facts.transaction = Some(control);
        self.facts.flags.chains = *chain;
        if control == TransactionControl::TwoPhase {
            // It ends work that another session began, or leaves it to one: more than control of this one's transaction.
            self.is(Class::SessionTwoPhase);
            self.facts.flags.effects = true;
        }
        self.facts.flags.outside_transaction |= matches!(tag, "COMMIT PREPARED" | "ROLLBACK PREPARED");
        self.nodes(options);
    }

    pub(super) fn set(&mut self, n: &'t pb::VariableSetStmt) {
        let pb::VariableSetStmt { kind, name, args, jumble_args: _, is_local, location: _ } = n;
        use pb::VariableSetKind as K;
        let kind = K::try_from(*kind).unwrap_or(K::Undefined);
        if kind == K::VarSetMulti {
            return self.set_multiple(name, args);
        }
        let (action, value) = match kind {
            K::VarSetValue => (
                SettingAction::Set,
                match args.as_slice() {
                    [one] if !matches!(super::kind(Some(one)), Some(N::TypeCast(_))) => {
                        name::constant(Some(one))
                    }
                    [] | [_] | [_, _, ..] => None,
                },
            ),
            // SET … FROM CURRENT stands in CREATE FUNCTION only.
            K::VarSetCurrent => (SettingAction::Set, None),
            K::VarSetDefault | K::VarReset | K::VarResetAll => (SettingAction::Reset, None),
            K::VarSetMulti | K::Undefined => return self.unknown("a SET of unknown kind"),
        };
        if self.facts.class == Class::SessionSet && matches!(kind, K::VarReset | K::VarResetAll) {
            self.tagged("RESET");
        }
        let name = (kind != K::VarResetAll).then(|| name.to_ascii_lowercase());
        self.setting(name, action, value, *is_local);
        self.nodes(args);
    }

    pub(super) fn setting(
        &mut self,
        name: Option<String>,
        action: SettingAction,
        value: Option<String>,
        local: bool,
    ) {
        let action = if self.persist { SettingAction::Persist } else { action };
        self.facts.settings.push(SettingUse { name, action, value, local });
    }

    /// SET TRANSACTION … and SET SESSION CHARACTERISTICS AS TRANSACTION …: several settings in one statement.
    fn set_multiple(&mut self, name: &str, args: &'t [pb::Node]) {
        let read_write = writes(args);
        self.facts.transaction = Some(TransactionControl::Mode { read_write });
        match name {
            "TRANSACTION" | "TRANSACTION SNAPSHOT" => {
                if self.facts.class == Class::SessionSet {
                    self.is(Class::SessionTransaction);
                }
            }
            "SESSION CHARACTERISTICS" => {
                for arg in args {
                    if let Some(N::DefElem(option)) = kind(Some(arg)) {
                        let value = name::constant(option.arg.as_deref());
                        self.setting(
                            Some(format!("default_{}", option.defname)),
                            SettingAction::Set,
                            value,
                            false,
                        );
                    }
                }
            }
            _ => self.unknown("a SET of several settings of unknown kind"),
        }
        self.nodes(args);
    }

    pub(super) fn show(&mut self, n: &'t pb::VariableShowStmt) {
        let pb::VariableShowStmt { name } = n;
        let name = Some(name.to_ascii_lowercase()).filter(|n| n != "all");
        self.facts.settings.push(SettingUse { name, action: SettingAction::Show, value: None, local: false });
    }

    pub(super) fn discard(&mut self, n: &'t pb::DiscardStmt) {
        let pb::DiscardStmt { target } = n;
        use pb::DiscardMode as D;
        let tag = match D::try_from(*target).unwrap_or(D::Undefined) {
            D::DiscardAll => {
                self.setting(None, SettingAction::Reset, None, false);
                self.facts.named = Some(NamedUse::DiscardAll);
                self.facts.flags.outside_transaction = true;
                "DISCARD ALL"
            }
            D::DiscardPlans => "DISCARD PLANS",
            D::DiscardSequences => "DISCARD SEQUENCES",
            // No more than a part of DISCARD ALL: it drops what is the session's own.
            D::DiscardTemp => "DISCARD TEMP",
            D::Undefined => return self.unknown("a DISCARD of unknown kind"),
        };
        self.tagged(tag);
    }

    pub(super) fn prepare(&mut self, n: &'t pb::PrepareStmt) {
        let pb::PrepareStmt { name, argtypes, query } = n;
        self.facts.named = Some(NamedUse::Prepare(name.clone()));
        self.nodes(argtypes);
        self.facts.prepared = Some(Box::new(Walker::whole(query.as_deref())));
    }

    pub(super) fn execute(&mut self, n: &'t pb::ExecuteStmt) {
        let pb::ExecuteStmt { name, params } = n;
        self.facts.named = Some(NamedUse::Execute(name.clone()));
        self.act(Class::SessionPrepare, None, ObjectKind::None, "EXECUTE");
        self.nodes(params);
    }

    pub(super) fn deallocate(&mut self, n: &'t pb::DeallocateStmt) {
        let pb::DeallocateStmt { name, isall, location: _ } = n;
        self.facts.named = Some(NamedUse::Deallocate((!isall).then(|| name.clone())));
        self.tagged(if *isall { "DEALLOCATE ALL" } else { "DEALLOCATE" });
    }

    pub(super) fn declare(&mut self, n: &'t pb::DeclareCursorStmt) {
        let pb::DeclareCursorStmt { portalname, options, query } = n;
        self.facts.flags.holds_cursor = options & CURSOR_OPT_HOLD != 0;
        // EXPLAIN DECLARE declares nothing.
        if self.nested == 0 {
            self.facts.named = Some(NamedUse::Declare(portalname.clone()));
        }
        match query {
            Some(query) => self.inside(query),
            None => self.unknown("DECLARE without a query"),
        }
    }

    pub(super) fn fetch(&mut self, n: &'t pb::FetchStmt) {
        let pb::FetchStmt { direction: _, how_many: _, portalname, ismove } = n;
        self.facts.named = Some(NamedUse::Fetch(portalname.clone()));
        self.tagged(if *ismove { "MOVE" } else { "FETCH" });
    }

    pub(super) fn close(&mut self, n: &'t pb::ClosePortalStmt) {
        let pb::ClosePortalStmt { portalname } = n;
        let all = portalname.is_empty();
        self.facts.named = Some(NamedUse::Close((!all).then(|| portalname.clone())));
        self.tagged(if all { "CLOSE CURSOR ALL" } else { "CLOSE CURSOR" });
    }

    pub(super) fn explain(&mut self, n: &'t pb::ExplainStmt) {
        let pb::ExplainStmt { query, options } = n;
        let mut runs = false;
        for option in options {
            if let Some(N::DefElem(option)) = kind(Some(option))
                && option.defname == "analyze"
            {
                // The last one counts, as in the server (explain.c).
                runs = truth(option.arg.as_deref());
            }
        }
        let (purpose, class) = if runs {
            (Purpose::ExplainAnalyze, Class::ReadExplainAnalyze)
        } else {
            (Purpose::Explain, Class::ReadExplain)
        };
        self.is(class);
        let outer = std::mem::replace(&mut self.purpose, purpose);
        match query {
            Some(query) => self.inside(query),
            None => self.unknown("EXPLAIN without a query"),
        }
        self.purpose = outer;
        self.nodes(options);
    }

    pub(super) fn copy(&mut self, n: &'t pb::CopyStmt) {
        let pb::CopyStmt { relation, query, attlist, is_from, is_program, filename, options, where_clause } =
            n;
        let class = if *is_from { Class::ImportCopyIn } else { Class::ExportCopyOut };
        self.is(class);
        if *is_program || !filename.is_empty() {
            self.facts.flags.server_files = true;
            let why = if *is_program { "COPY with a program" } else { "COPY with a server file" };
            self.act(Class::AdminSystem, None, ObjectKind::None, why);
        } else {
            self.facts.copy = Some(if *is_from { CopyUse::In } else { CopyUse::Out });
            self.facts.copy_spelling = (!is_from).then(|| spelling(options)).flatten();
        }
        if let Some(relation) = relation {
            self.relation(relation, class, Predicate::NotApplicable);
            if !is_from {
                self.relation(relation, Class::ReadSelect, Predicate::NotApplicable);
            }
        }
        if let Some(query) = query {
            let outer = std::mem::replace(&mut self.purpose, Purpose::CopyOut);
            self.inside(query);
            self.purpose = outer;
        }
        self.nodes(attlist);
        self.nodes(options);
        if let Some(condition) = where_clause {
            self.access = Class::ReadSelect;
            self.node(condition);
        }
    }
}

/// How the rows are spelled; `None` where an option leaves it open.
fn spelling(options: &[pb::Node]) -> Option<CopySpelling> {
    let text = |arg: Option<&pb::Node>| match kind(arg) {
        Some(N::String(pb::String { sval })) => Some(sval.clone()),
        Some(_) | None => name::constant(arg),
    };
    let byte = |arg: Option<&pb::Node>| match text(arg)?.as_bytes() {
        [byte] => Some(*byte),
        _ => None,
    };
    let (mut format, mut delimiter, mut quote, mut escape) = ("text".to_owned(), None, None, None);
    let (mut null, mut header) = (None, false);
    for option in options {
        let Some(N::DefElem(option)) = kind(Some(option)) else { return None };
        let arg = option.arg.as_deref();
        match option.defname.as_str() {
            "format" => format = text(arg)?,
            "delimiter" => delimiter = Some(byte(arg)?),
            "quote" => quote = Some(byte(arg)?),
            "escape" => escape = Some(byte(arg)?),
            "null" => null = Some(text(arg)?),
            "header" => header = truth(arg),
            // Quotes where none are needed read the same; FREEZE speaks of COPY FROM.
            "force_quote" | "freeze" => {}
            // In some encodings a byte of a character looks like a delimiter or a backslash.
            "encoding" => {
                let name = text(arg)?.to_ascii_lowercase();
                if !matches!(name.as_str(), "utf8" | "utf-8" | "unicode") {
                    return None;
                }
            }
            _ => return None,
        }
    }
    match format.as_str() {
        "text" => Some(CopySpelling::Text {
            delimiter: delimiter.unwrap_or(b'\t'),
            null: null.unwrap_or_else(|| "\\N".to_owned()).into_bytes().into(),
            header,
        }),
        "csv" => {
            let quote = quote.unwrap_or(b'"');
            Some(CopySpelling::Csv {
                delimiter: delimiter.unwrap_or(b','),
                quote,
                escape: escape.unwrap_or(quote),
                null: null.unwrap_or_default().into_bytes().into(),
                header,
            })
        }
        "binary" => Some(CopySpelling::Binary),
        _ => None,
    }
}

/// Whether READ WRITE stands among transaction modes.
fn writes(options: &[pb::Node]) -> bool {
    options.iter().any(|o| match kind(Some(o)) {
        Some(N::DefElem(option)) => {
            option.defname == "transaction_read_only"
                && name::constant(option.arg.as_deref()).as_deref() == Some("0")
        }
        Some(_) | None => false,
    })
}

/// An option's boolean as defGetBoolean reads it; what it would reject counts as true.
fn truth(arg: Option<&pb::Node>) -> bool {
    let Some(arg) = arg else { return true };
    let text = match kind(Some(arg)) {
        Some(N::String(pb::String { sval })) => Some(sval.clone()),
        Some(N::Integer(pb::Integer { ival })) => Some(ival.to_string()),
        Some(_) | None => name::constant(Some(arg)),
    };
    !text.is_some_and(|t| matches!(t.to_ascii_lowercase().as_str(), "false" | "off" | "0"))
}
