//! The server's own relations and functions near labels.
//!
//! Owns: which of them tell of labelled values by another way than rows, and which writes move what labels stand on. May not:
//! decide what follows; [`crate::policy::labels`] does.

use crate::catalog::system;
use crate::class::Class;
use crate::policy::labels::Near;
use crate::policy::object::Object;
use crate::resolve::ResolvedRelation;

impl Near<'_> {
    /// Functions of the server that tell what a write did below its rows, and that the subject may not call in clear. No permit names
    /// most of them: they are looked up in the text.
    pub(crate) fn calls_of_volumes(&self) -> impl Iterator<Item = &str> {
        let carried = self.statement.prepared.as_deref().into_iter();
        let called = std::iter::once(self.statement).chain(carried).flat_map(|facts| &facts.functions);
        let named = called
            .filter(|used| used.arguments.is_some())
            .map(|used| (used.name.schema.as_deref().unwrap_or("pg_catalog"), used.name.name.as_str()));
        named.filter(|(schema, name)| system::tells_volumes(schema, name)).map(|(_, name)| name).filter(
            |name| {
                let object = Object::Function { schema: "pg_catalog", name, arguments: "" };
                !self.code_is_clear(Class::CallFunction, &object)
            },
        )
    }

    /// Whether it is a view that tells what a write did below its rows, and the subject sees not everything in clear.
    pub(crate) fn tells_volumes(&self, relation: &ResolvedRelation) -> bool {
        let (schema, name) = (&relation.schema, &relation.name);
        let object = Object::Relation { schema, name, reach: relation.reach };
        system::tells_volumes(schema, name) && !self.code_is_clear(relation.class, &object)
    }

    /// Whether a relation of the catalog is written by somebody who sees not everything in clear.
    pub(crate) fn writes_catalog(&self, relation: &ResolvedRelation) -> bool {
        let (schema, name) = (&relation.schema, &relation.name);
        let object = Object::Relation { schema, name, reach: relation.reach };
        let writes = relation.class.covered_by("write") || relation.class.covered_by("import");
        writes && !self.code_is_clear(relation.class, &object)
    }
}
