//! The classes of statements, and how a policy names them.
//!
//! Owns: the closed list of classes (lineage.md 6.2). May not: know syntax or policy. A parent name (`write`) covers its
//! children; `*` covers all but [`Class::Unknown`] and [`Class::ExportReplication`], which no wildcard ever reaches.

use core::fmt;

macro_rules! classes {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal, objects: $objects:literal; )*) => {
        /// What a statement, or one part of it, does. Each is one leaf of the policy's vocabulary.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Class { $( $(#[$doc])* $variant, )* }

        impl Class {
            /// Every class, in the order of the reference.
            pub const ALL: &'static [Class] = &[ $( Class::$variant, )* ];

            /// The dotted name that a policy writes.
            pub const fn name(self) -> &'static str {
                match self { $( Class::$variant => $name, )* }
            }

            /// Whether atoms of this class carry an object. Classes without objects ignore `on`.
            pub const fn has_objects(self) -> bool {
                match self { $( Class::$variant => $objects, )* }
            }
        }
    };
}

classes! {
    /// SELECT, VALUES, TABLE.
    ReadSelect = "read.select", objects: true;
    /// FETCH and MOVE on a cursor.
    ReadFetch = "read.fetch", objects: false;
    /// EXPLAIN without ANALYZE.
    ReadExplain = "read.explain", objects: true;
    /// EXPLAIN ANALYZE: the statement runs.
    ReadExplainAnalyze = "read.explain_analyze", objects: true;
    /// INSERT.
    WriteInsert = "write.insert", objects: true;
    /// UPDATE, and the update arm of MERGE and ON CONFLICT.
    WriteUpdate = "write.update", objects: true;
    /// DELETE, and the delete arm of MERGE.
    WriteDelete = "write.delete", objects: true;
    /// MERGE itself.
    WriteMerge = "write.merge", objects: true;
    /// TRUNCATE.
    WriteTruncate = "write.truncate", objects: true;
    /// CREATE of a relation, schema, type, sequence.
    DdlCreate = "ddl.create", objects: true;
    /// ALTER of the same.
    DdlAlter = "ddl.alter", objects: true;
    /// DROP of the same.
    DdlDrop = "ddl.drop", objects: true;
    /// CREATE TEMP and SELECT INTO TEMP.
    DdlTemp = "ddl.temp", objects: true;
    /// COMMENT ON.
    DdlComment = "ddl.comment", objects: true;
    /// CREATE INDEX and its kin.
    DdlIndex = "ddl.index", objects: true;
    /// Functions, procedures, triggers, rules, operators, casts, domains with checks, event triggers.
    DdlCode = "ddl.code", objects: true;
    /// GRANT, REVOKE, ALTER DEFAULT PRIVILEGES, REASSIGN, OWNER TO.
    DclGrant = "dcl.grant", objects: true;
    /// Roles: CREATE, ALTER, DROP ROLE.
    DclRole = "dcl.role", objects: true;
    /// Row security policies.
    DclPolicy = "dcl.policy", objects: true;
    /// SECURITY LABEL.
    DclLabel = "dcl.label", objects: true;
    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT.
    SessionTransaction = "session.transaction", objects: false;
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED: what they leave behind or end may be another session's.
    SessionTwoPhase = "session.two_phase", objects: false;
    /// SET, RESET, SHOW, DISCARD.
    SessionSet = "session.set", objects: true;
    /// PREPARE, EXECUTE, DEALLOCATE (what EXECUTE runs brings its own atoms).
    SessionPrepare = "session.prepare", objects: false;
    /// DECLARE, CLOSE (what DECLARE runs brings its own atoms); UNLISTEN, which like CLOSE only gives something up.
    SessionCursor = "session.cursor", objects: false;
    /// LISTEN.
    SessionListen = "session.listen", objects: false;
    /// NOTIFY.
    SessionNotify = "session.notify", objects: false;
    /// LOCK TABLE, FOR UPDATE and its kin, advisory locks.
    SessionLock = "session.lock", objects: true;
    /// COPY to the client.
    ExportCopyOut = "export.copy_out", objects: true;
    /// A result over a bulk limit.
    ExportBulk = "export.bulk", objects: true;
    /// Large objects read.
    ExportLargeObject = "export.large_object", objects: true;
    /// Replication.
    ExportReplication = "export.replication", objects: false;
    /// COPY from the client.
    ImportCopyIn = "import.copy_in", objects: true;
    /// A function outside the reviewed built-ins.
    CallFunction = "call.function", objects: true;
    /// CALL.
    CallProcedure = "call.procedure", objects: true;
    /// DO.
    CallDo = "call.do", objects: false;
    /// VACUUM.
    MaintenanceVacuum = "maintenance.vacuum", objects: true;
    /// ANALYZE.
    MaintenanceAnalyze = "maintenance.analyze", objects: true;
    /// REINDEX.
    MaintenanceReindex = "maintenance.reindex", objects: true;
    /// CLUSTER.
    MaintenanceCluster = "maintenance.cluster", objects: true;
    /// REFRESH MATERIALIZED VIEW.
    MaintenanceRefresh = "maintenance.refresh", objects: true;
    /// CHECKPOINT.
    MaintenanceCheckpoint = "maintenance.checkpoint", objects: false;
    /// ALTER SYSTEM, LOAD, COPY to or from a server file or program, server files.
    AdminSystem = "admin.system", objects: false;
    /// CREATE, ALTER, DROP DATABASE and TABLESPACE.
    AdminDatabase = "admin.database", objects: true;
    /// Extensions.
    AdminExtension = "admin.extension", objects: true;
    /// Publications and subscriptions.
    AdminSubscription = "admin.subscription", objects: true;
    /// Foreign servers, wrappers, user mappings.
    AdminServer = "admin.server", objects: true;
    /// What the classifier could not place. Only a permit that spells `unknown` reaches it.
    Unknown = "unknown", objects: false;
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Class {
    /// Whether `pattern` (`*`, a parent such as `write`, or a leaf) covers this class.
    pub fn covered_by(self, pattern: &str) -> bool {
        if pattern == "*" {
            return !matches!(self, Class::Unknown | Class::ExportReplication);
        }
        let name = self.name();
        if name == pattern {
            return true;
        }
        // A parent never covers replication either: it is spelled whole or not at all.
        self != Class::ExportReplication
            && name.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('.'))
    }
}
