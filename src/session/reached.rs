//! What a statement reaches by its names, as far as another session could reach the same.
//!
//! Owns: the spelling of names and of what they stand for, for a digest. May not: resolve. Fails closed: what only one session has,
//! and what nothing stands for yet, is said to be so.

use pgturnstile_rules::resolve::{Reach, Resolution};

use super::summary;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// Each name and what it is, each with its length before it.
    pub spelled: Vec<u8>,
    /// Something that another session's same text could not reach.
    pub fleeting: Option<&'static str>,
}

impl Reached {
    fn part(&mut self, text: &str) {
        self.spelled.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.spelled.extend_from_slice(text.as_bytes());
    }

    /// And what one statement reaches.
    pub(super) fn note(&mut self, resolution: &Resolution) {
        for relation in &resolution.relations {
            self.part(&relation.schema);
            self.part(&relation.name);
            self.part(summary::reach(relation.reach));
            match relation.reach {
                Reach::Temporary => self.fleeting = Some("it reaches a temporary relation"),
                Reach::Unresolved => self.fleeting = Some("a name in it stands for nothing yet"),
                Reach::Table
                | Reach::View
                | Reach::MaterializedView
                | Reach::Sequence
                | Reach::Foreign
                | Reach::Catalog
                | Reach::DataBearingCatalog
                | Reach::New => {}
            }
        }
        for function in &resolution.functions {
            self.part(&function.schema);
            self.part(&function.name);
            self.part(&function.arguments);
        }
    }
}
