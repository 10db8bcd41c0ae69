//! Objects of utility statements, by kind: DROP, COMMENT, RENAME, OWNER, SET SCHEMA, GRANT and their like.
//!
//! Owns: how each ObjectType spells its name (gram.y's any_name, function_with_argtypes, TypeName…), which class touches it,
//! and the command tags made of its words. May not: say what a statement does with it.

use pg_query::protobuf as pb;
use pg_query::protobuf::ObjectType as O;
use pg_query::protobuf::node::Node as N;

use super::{Walker, kind, name};
use crate::class::Class;
use crate::statement::facts::{FunctionUse, NameUse, ObjectKind, Predicate};
use crate::statement::generated::Visitor;

/// How an object's name stands in the tree, and what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A relation's own name.
    Relation,
    /// A member of a relation: its name is the last part.
    Member,
    /// Anything else, of the kind.
    Of(ObjectKind),
}

pub(super) fn object_type(number: i32) -> O {
    O::try_from(number).unwrap_or(O::Undefined)
}

pub(super) fn shape(object: O) -> Option<Shape> {
    Some(match object {
        O::ObjectTable
        | O::ObjectView
        | O::ObjectMatview
        | O::ObjectIndex
        | O::ObjectSequence
        | O::ObjectForeignTable => Shape::Relation,
        O::ObjectColumn | O::ObjectTabconstraint | O::ObjectPolicy | O::ObjectRule | O::ObjectTrigger => {
            Shape::Member
        }
        O::ObjectAggregate | O::ObjectFunction | O::ObjectProcedure | O::ObjectRoutine => {
            Shape::Of(ObjectKind::Function)
        }
        O::ObjectOperator => Shape::Of(ObjectKind::Operator),
        O::ObjectType | O::ObjectDomain | O::ObjectDomconstraint | O::ObjectAttribute => {
            Shape::Of(ObjectKind::Type)
        }
        O::ObjectSchema => Shape::Of(ObjectKind::Schema),
        O::ObjectRole => Shape::Of(ObjectKind::Role),
        O::ObjectDatabase => Shape::Of(ObjectKind::Database),
        O::ObjectTablespace => Shape::Of(ObjectKind::Tablespace),
        O::ObjectExtension => Shape::Of(ObjectKind::Extension),
        O::ObjectFdw | O::ObjectForeignServer | O::ObjectUserMapping => Shape::Of(ObjectKind::Server),
        O::ObjectPublication
        | O::ObjectPublicationNamespace
        | O::ObjectPublicationRel
        | O::ObjectSubscription => Shape::Of(ObjectKind::Publication),
        O::ObjectAccessMethod
        | O::ObjectAmop
        | O::ObjectAmproc
        | O::ObjectCast
        | O::ObjectCollation
        | O::ObjectConversion
        | O::ObjectEventTrigger
        | O::ObjectLanguage
        | O::ObjectLargeobject
        | O::ObjectOpclass
        | O::ObjectOpfamily
        | O::ObjectParameterAcl
        | O::ObjectStatisticExt
        | O::ObjectTransform
        | O::ObjectTsconfiguration
        | O::ObjectTsdictionary
        | O::ObjectTsparser
        | O::ObjectTstemplate => Shape::Of(ObjectKind::Other),
        O::ObjectDefault | O::ObjectDefacl | O::Undefined => return None,
    })
}

/// Class of altering or dropping (`base`) an object of the type.
pub(super) fn class_of(object: O, base: Class) -> Class {
    match object {
        O::ObjectPolicy => Class::DclPolicy,
        O::ObjectRole => Class::DclRole,
        O::ObjectDatabase | O::ObjectTablespace => Class::AdminDatabase,
        O::ObjectExtension => Class::AdminExtension,
        O::ObjectFdw | O::ObjectForeignServer | O::ObjectUserMapping => Class::AdminServer,
        O::ObjectPublication
        | O::ObjectPublicationNamespace
        | O::ObjectPublicationRel
        | O::ObjectSubscription => Class::AdminSubscription,
        O::ObjectParameterAcl => Class::AdminSystem,
        O::ObjectAccessMethod
        | O::ObjectAggregate
        | O::ObjectAmop
        | O::ObjectAmproc
        | O::ObjectCast
        | O::ObjectConversion
        | O::ObjectDomconstraint
        | O::ObjectEventTrigger
        | O::ObjectFunction
        | O::ObjectLanguage
        | O::ObjectOpclass
        | O::ObjectOperator
        | O::ObjectOpfamily
        | O::ObjectProcedure
        | O::ObjectRoutine
        | O::ObjectRule
        | O::ObjectTransform
        | O::ObjectTrigger => Class::DdlCode,
        O::ObjectAttribute
        | O::ObjectCollation
        | O::ObjectColumn
        | O::ObjectDomain
        | O::ObjectForeignTable
        | O::ObjectIndex
        | O::ObjectLargeobject
        | O::ObjectMatview
        | O::ObjectSchema
        | O::ObjectSequence
        | O::ObjectStatisticExt
        | O::ObjectTabconstraint
        | O::ObjectTable
        | O::ObjectTsconfiguration
        | O::ObjectTsdictionary
        | O::ObjectTsparser
        | O::ObjectTstemplate
        | O::ObjectType
        | O::ObjectView
        | O::ObjectDefault
        | O::ObjectDefacl
        | O::Undefined => base,
    }
}

macro_rules! tags {
    ($( $($object:ident)|+ => $words:literal, $alter:literal; )*) => {
        /// Command tag of DROP (utility.c, CreateCommandTag).
        pub(super) fn drop_tag(object: O) -> &'static str {
            match object { $( $( O::$object )|+ => concat!("DROP ", $words), )* }
        }
        /// Command tag of ALTER (utility.c, AlterObjectTypeCommandTag): that of what the member belongs to.
        pub(super) fn alter_tag(object: O) -> &'static str {
            match object { $( $( O::$object )|+ => concat!("ALTER ", $alter), )* }
        }
        /// Command tag of CREATE, for what DefineStmt creates.
        pub(super) fn create_tag(object: O) -> &'static str {
            match object { $( $( O::$object )|+ => concat!("CREATE ", $words), )* }
        }
    };
}

tags! {
    ObjectTable => "TABLE", "TABLE";
    ObjectColumn | ObjectTabconstraint => "TABLE", "TABLE";
    ObjectView => "VIEW", "VIEW";
    ObjectMatview => "MATERIALIZED VIEW", "MATERIALIZED VIEW";
    ObjectIndex => "INDEX", "INDEX";
    ObjectSequence => "SEQUENCE", "SEQUENCE";
    ObjectForeignTable => "FOREIGN TABLE", "FOREIGN TABLE";
    ObjectPolicy => "POLICY", "POLICY";
    ObjectRule => "RULE", "RULE";
    ObjectTrigger => "TRIGGER", "TRIGGER";
    ObjectAggregate => "AGGREGATE", "AGGREGATE";
    ObjectFunction => "FUNCTION", "FUNCTION";
    ObjectProcedure => "PROCEDURE", "PROCEDURE";
    ObjectRoutine => "ROUTINE", "ROUTINE";
    ObjectOperator => "OPERATOR", "OPERATOR";
    ObjectType | ObjectAttribute => "TYPE", "TYPE";
    ObjectDomain | ObjectDomconstraint => "DOMAIN", "DOMAIN";
    ObjectSchema => "SCHEMA", "SCHEMA";
    ObjectRole => "ROLE", "ROLE";
    ObjectDatabase => "DATABASE", "DATABASE";
    ObjectTablespace => "TABLESPACE", "TABLESPACE";
    ObjectExtension => "EXTENSION", "EXTENSION";
    ObjectFdw => "FOREIGN DATA WRAPPER", "FOREIGN DATA WRAPPER";
    ObjectForeignServer => "SERVER", "SERVER";
    ObjectUserMapping => "USER MAPPING", "USER MAPPING";
    ObjectPublication | ObjectPublicationNamespace | ObjectPublicationRel => "PUBLICATION", "PUBLICATION";
    ObjectSubscription => "SUBSCRIPTION", "SUBSCRIPTION";
    ObjectAccessMethod => "ACCESS METHOD", "ACCESS METHOD";
    ObjectAmop | ObjectAmproc | ObjectOpfamily => "OPERATOR FAMILY", "OPERATOR FAMILY";
    ObjectOpclass => "OPERATOR CLASS", "OPERATOR CLASS";
    ObjectCast => "CAST", "CAST";
    ObjectCollation => "COLLATION", "COLLATION";
    ObjectConversion => "CONVERSION", "CONVERSION";
    ObjectEventTrigger => "EVENT TRIGGER", "EVENT TRIGGER";
    ObjectLanguage => "LANGUAGE", "LANGUAGE";
    ObjectLargeobject => "LARGE OBJECT", "LARGE OBJECT";
    ObjectParameterAcl => "PARAMETER", "PARAMETER";
    ObjectStatisticExt => "STATISTICS", "STATISTICS";
    ObjectTransform => "TRANSFORM", "TRANSFORM";
    ObjectTsconfiguration => "TEXT SEARCH CONFIGURATION", "TEXT SEARCH CONFIGURATION";
    ObjectTsdictionary => "TEXT SEARCH DICTIONARY", "TEXT SEARCH DICTIONARY";
    ObjectTsparser => "TEXT SEARCH PARSER", "TEXT SEARCH PARSER";
    ObjectTstemplate => "TEXT SEARCH TEMPLATE", "TEXT SEARCH TEMPLATE";
    ObjectDefault | ObjectDefacl | Undefined => "OBJECT", "OBJECT";
}

/// The dotted parts of an object's name, however it is spelled; `None`, and so class unknown, for any other spelling.
#[allow(clippy::wildcard_enum_match_arm, reason = "a spelling that is not known falls to unknown")]
fn parts(object: O, node: &pb::Node) -> Option<Vec<String>> {
    let own = |nodes: &[pb::Node]| Some(name::strings(nodes)?.into_iter().map(str::to_owned).collect());
    match kind(Some(node))? {
        N::String(pb::String { sval }) => Some(vec![sval.clone()]),
        N::Integer(pb::Integer { ival }) => Some(vec![ival.to_string()]),
        N::Float(pb::Float { fval }) => Some(vec![fval.clone()]),
        N::TypeName(of) => own(&of.names),
        N::ObjectWithArgs(of) => own(&of.objname),
        // The access method stands first: any_name follows.
        N::List(pb::List { items }) if matches!(object, O::ObjectOpclass | O::ObjectOpfamily) => {
            own(items.get(1..)?)
        }
        // A type and a name of something on it (domain constraint, transform), or two types (cast): the type names it.
        N::List(pb::List { items }) => match items.first().and_then(|i| kind(Some(i))) {
            Some(N::TypeName(of)) => own(&of.names),
            Some(_) | None => own(items),
        },
        _ => None,
    }
}

impl<'t> Walker<'t> {
    /// Lists an object of a utility statement under `class`, with the types and functions that its name spells out.
    pub(super) fn touch(&mut self, object: O, node: &'t pb::Node, class: Class, why: &'static str) {
        if let Some(N::RangeVar(range)) = kind(Some(node)) {
            return self.relation(range, class, Predicate::NotApplicable);
        }
        let Some(of) = shape(object) else { return self.unknown("an object of unknown kind") };
        let found = parts(object, node).map(|mut parts| {
            if of == Shape::Member {
                parts.pop();
            }
            parts
        });
        let strs: Option<Vec<&str>> = found.as_ref().map(|p| p.iter().map(String::as_str).collect());
        let Some(name) = strs.as_deref().and_then(name::from_parts) else {
            return self.unknown("an object without a name");
        };
        match of {
            Shape::Relation | Shape::Member => {
                self.named_relation(name, class, Predicate::NotApplicable, false, None)
            }
            Shape::Of(kind) => self.touch_named(kind, name, class, why),
        }
        self.node(node);
    }

    fn touch_named(&mut self, kind: ObjectKind, name: NameUse, class: Class, why: &'static str) {
        match kind {
            ObjectKind::Function => self.mention(name.clone()),
            ObjectKind::Operator => self.operator(name.schema.clone(), &name.name),
            ObjectKind::Type => self.type_use(name.clone()),
            ObjectKind::None
            | ObjectKind::Relation
            | ObjectKind::Schema
            | ObjectKind::AllInSchema
            | ObjectKind::Role
            | ObjectKind::Database
            | ObjectKind::Tablespace
            | ObjectKind::Extension
            | ObjectKind::Server
            | ObjectKind::Publication
            | ObjectKind::Other => {}
        }
        self.act(class, Some(name), kind, why);
    }

    /// A function that is named, not called.
    pub(super) fn mention(&mut self, name: NameUse) {
        self.function(FunctionUse {
            name,
            arguments: None,
            constants: Vec::new(),
            implied: false,
            offset: None,
        });
    }

    /// The same, by the grammar's list of strings.
    pub(super) fn mention_nodes(&mut self, nodes: &'t [pb::Node]) {
        match name::from_nodes(nodes) {
            Some(name) => self.mention(name),
            None => self.unknown("a function without a name"),
        }
    }

    pub(super) fn type_use(&mut self, name: NameUse) {
        self.types.push(name);
    }

    pub(super) fn drop_objects(&mut self, n: &'t pb::DropStmt) {
        let pb::DropStmt { objects, remove_type, behavior, missing_ok: _, concurrent } = n;
        let object = object_type(*remove_type);
        let class = class_of(object, Class::DdlDrop);
        self.is(if class == Class::DdlCode { Class::DdlDrop } else { class });
        self.tagged(drop_tag(object));
        self.facts.flags.outside_transaction |= *concurrent;
        self.cascades(*behavior);
        for node in objects {
            self.touch(object, node, class, "DROP");
            if class == Class::DdlCode {
                // Code that goes is both: code, and gone.
                self.touch(object, node, Class::DdlDrop, "DROP");
            }
        }
    }

    pub(super) fn cascades(&mut self, behavior: i32) {
        self.facts.flags.cascade |= pb::DropBehavior::try_from(behavior) == Ok(pb::DropBehavior::DropCascade);
    }

    pub(super) fn comment(&mut self, n: &'t pb::CommentStmt) {
        let pb::CommentStmt { objtype, object, comment: _ } = n;
        match object {
            Some(node) => self.touch(object_type(*objtype), node, Class::DdlComment, "COMMENT"),
            None => self.unknown("COMMENT without an object"),
        }
    }

    pub(super) fn security_label(&mut self, n: &'t pb::SecLabelStmt) {
        let pb::SecLabelStmt { objtype, object, provider: _, label: _ } = n;
        match object {
            Some(node) => self.touch(object_type(*objtype), node, Class::DclLabel, "SECURITY LABEL"),
            None => self.unknown("SECURITY LABEL without an object"),
        }
    }

    pub(super) fn rename(&mut self, n: &'t pb::RenameStmt) {
        let pb::RenameStmt {
            rename_type,
            relation_type,
            relation,
            object,
            subname,
            newname,
            behavior,
            missing_ok: _,
        } = n;
        let renamed = object_type(*rename_type);
        let class = class_of(renamed, Class::DdlAlter);
        let whole = if renamed == O::ObjectColumn { object_type(*relation_type) } else { renamed };
        self.is(class);
        self.tagged(alter_tag(whole));
        self.cascades(*behavior);
        self.facts.flags.in_place =
            whole == O::ObjectTable && renamed != whole || renamed == O::ObjectTabconstraint;
        match (relation, object, shape(renamed)) {
            (Some(relation), None, Some(of)) => {
                self.member_of(relation, of, class);
                if of == Shape::Relation {
                    // The name it takes stands in its own schema.
                    let name = NameUse { schema: super::some(&relation.schemaname), ..name::bare(newname) };
                    self.named_relation(name, class, Predicate::NotApplicable, false, None);
                }
            }
            (None, Some(object), Some(_)) => self.touch(renamed, object, class, "RENAME"),
            (None, None, Some(Shape::Of(kind))) => self.act(class, Some(name::bare(subname)), kind, "RENAME"),
            (_, _, _) => self.unknown("RENAME of an object of unknown kind"),
        }
    }

    /// The relation that a statement's object is or belongs to; a composite type's attribute makes it a type.
    fn member_of(&mut self, relation: &'t pb::RangeVar, of: Shape, class: Class) {
        match of {
            Shape::Relation | Shape::Member => self.relation(relation, class, Predicate::NotApplicable),
            Shape::Of(kind) => {
                let name =
                    NameUse { schema: super::some(&relation.schemaname), ..name::bare(&relation.relname) };
                self.touch_named(kind, name, class, "ALTER TYPE");
            }
        }
    }

    pub(super) fn owner(&mut self, n: &'t pb::AlterOwnerStmt) {
        let pb::AlterOwnerStmt { object_type: of, relation, object, newowner: _ } = n;
        let object_kind = object_type(*of);
        self.tagged(alter_tag(object_kind));
        for class in [Class::DclGrant, class_of(object_kind, Class::DdlAlter)] {
            match (relation, object, shape(object_kind)) {
                (Some(relation), _, Some(of)) => self.member_of(relation, of, class),
                (None, Some(object), Some(_)) => self.touch(object_kind, object, class, "OWNER TO"),
                (_, _, _) => self.unknown("OWNER TO of an object of unknown kind"),
            }
        }
    }

    pub(super) fn set_schema(&mut self, n: &'t pb::AlterObjectSchemaStmt) {
        let pb::AlterObjectSchemaStmt { object_type: of, relation, object, newschema, missing_ok: _ } = n;
        let object_kind = object_type(*of);
        let class = class_of(object_kind, Class::DdlAlter);
        self.is(class);
        self.tagged(alter_tag(object_kind));
        match (relation, object, shape(object_kind)) {
            (Some(relation), _, Some(of)) => {
                self.member_of(relation, of, class);
                let moved = NameUse { schema: Some(newschema.clone()), ..name::bare(&relation.relname) };
                self.named_relation(moved, Class::DdlCreate, Predicate::NotApplicable, false, None);
            }
            (None, Some(object), Some(of)) => {
                self.touch(object_kind, object, class, "SET SCHEMA");
                let moved = parts(object_kind, object).and_then(|p| p.last().cloned());
                if let (Some(moved), Shape::Of(kind)) = (moved, of) {
                    let name = NameUse { schema: Some(newschema.clone()), ..name::bare(&moved) };
                    self.act(class_of(object_kind, Class::DdlCreate), Some(name), kind, "SET SCHEMA");
                }
            }
            (_, _, _) => self.unknown("SET SCHEMA of an object of unknown kind"),
        }
    }

    pub(super) fn depends(&mut self, n: &'t pb::AlterObjectDependsStmt) {
        let pb::AlterObjectDependsStmt { object_type: of, relation, object, extname, remove: _ } = n;
        let object_kind = object_type(*of);
        let class = class_of(object_kind, Class::DdlAlter);
        self.is(class);
        self.tagged(alter_tag(object_kind));
        match (relation, object, shape(object_kind)) {
            (Some(relation), _, Some(of)) => self.member_of(relation, of, class),
            (None, Some(object), Some(_)) => self.touch(object_kind, object, class, "DEPENDS ON EXTENSION"),
            (_, _, _) => self.unknown("DEPENDS ON EXTENSION of an object of unknown kind"),
        }
        if let Some(pb::String { sval }) = extname {
            self.act(class, Some(name::bare(sval)), ObjectKind::Extension, "DEPENDS ON EXTENSION");
        }
    }
}
