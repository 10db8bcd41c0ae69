//! Which portals the gateway holds for certain to be what their Bind made: code may give their names to cursors of its own.
//!
//! Owns: the gateway's rule. The code of the model's database does no such thing, so that what the server says is the same at
//! each reading.

use std::collections::BTreeMap;

use super::sql::Sql;

#[derive(Clone, Debug)]
struct Bound {
    /// The server has said since when it has it.
    seen: bool,
    /// It is to be asked for.
    asks: bool,
    lost: bool,
    /// Up to which code it is certain.
    upto: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    code: u64,
    portals: BTreeMap<String, Bound>,
}

impl Standing {
    /// A text goes to the server that runs code.
    pub fn ran(&mut self) {
        self.code += 1;
    }

    /// A Bind was carried out.
    pub fn bound(&mut self, name: &str, sql: &Sql) {
        if name.is_empty() {
            return;
        }
        let asks = sql.is_select() || matches!(sql, Sql::AddReturning(_) | Sql::Fetch(..));
        self.portals.insert(name.into(), Bound { seen: false, asks, lost: false, upto: self.code });
    }

    /// Those alone are left that `stays` says.
    pub fn retain(&mut self, stays: impl Fn(&str) -> bool) {
        self.portals.retain(|name, _| stays(name));
    }

    /// A portal runs that was certain.
    pub fn runs(&mut self, name: &str) {
        if let Some(bound) = self.portals.get_mut(name) {
            bound.upto = self.code;
        }
    }

    /// A portal came to its end.
    pub fn done(&mut self, name: &str) {
        if let Some(bound) = self.portals.get_mut(name) {
            bound.asks = false;
        }
    }

    /// Whether some are to be asked for.
    pub fn asks(&self) -> bool {
        self.portals.values().any(|bound| bound.asks && !bound.seen && !bound.lost)
    }

    /// Whether what stands under the name may be another's.
    pub fn is_doubtful(&self, name: &str) -> bool {
        self.portals.get(name).is_some_and(|bound| bound.lost || bound.upto != self.code)
    }

    /// The server was asked.
    pub fn told(&mut self) {
        for bound in self.portals.values_mut() {
            bound.lost |= !bound.seen && bound.upto != self.code;
            bound.seen = true;
            bound.upto = self.code;
        }
    }
}
