//! The packs that are shipped with the program and compiled into it.
//!
//! Owns: their names and texts (rules/packs). May not: be changed by configuration; what `packs/NAME.toml` says is what
//! stands here, and its text is part of the policy's hash.

use crate::document::Diagnostic;
use crate::policy::Policy;

/// A shipped pack.
#[derive(Clone, Copy, Debug)]
pub struct Pack {
    /// The name in `packs/NAME.toml`, and the prefix of its rules.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// Whether it may hold permits without `allow_permits = true`.
    pub permits_by_default: bool,
    /// Rules around it in its own tests, which are run against the pack alone: what a user's policy says besides must
    /// not make them fail.
    bench: &'static str,
}

/// An access entry for everyone.
const BENCH_ACCESS: &str = r#"
[[access]]
id = "bench"
groups = ["*"]
targets = ["*"]
login = "bench"
mode = "write"
guards = { search_path = ["public"] }
"#;

/// The same, and a permit for everything: what a pack that tightens is tested against.
const BENCH_OPEN: &str = r#"
[[access]]
id = "bench"
groups = ["*"]
targets = ["*"]
login = "bench"
mode = "write"
guards = { search_path = ["public"] }

[[permit]]
id = "bench.everything"
groups = ["*"]
targets = ["*"]
classes = ["*", "unknown", "export.replication"]
on = ["*"]
"#;

impl Pack {
    /// The pack alone, as its own tests are run.
    ///
    /// # Errors
    /// What is wrong with it: never in a build whose tests passed.
    pub fn bench(&self) -> Result<Policy, Vec<Diagnostic>> {
        let include =
            format!("version = 1\ninclude = [{{ file = \"packs/{}.toml\" }}]\n{}", self.name, self.bench);
        Policy::from_text(self.name, &include, None)
    }
}

/// Every shipped pack.
pub const PACKS: &[Pack] = &[
    Pack {
        name: "drivers",
        text: include_str!("../../packs/drivers.toml"),
        permits_by_default: true,
        bench: BENCH_ACCESS,
    },
    Pack {
        name: "admin-guard",
        text: include_str!("../../packs/admin-guard.toml"),
        permits_by_default: false,
        bench: BENCH_OPEN,
    },
    Pack {
        name: "pii",
        text: include_str!("../../packs/pii.toml"),
        permits_by_default: false,
        bench: BENCH_OPEN,
    },
];

/// The pack of that name, or why there is none.
pub(crate) fn find(name: &str) -> Result<&'static Pack, String> {
    if let Some(pack) = PACKS.iter().find(|pack| pack.name == name) {
        return Ok(pack);
    }
    let names: Vec<&str> = PACKS.iter().map(|pack| pack.name).collect();
    Err(format!(
        "no pack {name} is shipped; packs are {}; other files must not stand in packs/",
        names.join(", ")
    ))
}
