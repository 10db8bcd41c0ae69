//! The packs that are shipped with the program and compiled into it.
//!
//! Owns: their names and texts (rules/packs). May not: be changed by configuration; what `packs/NAME.toml` says is what
//! stands here, and its text is part of the policy's hash.

/// A shipped pack.
#[derive(Clone, Copy, Debug)]
pub struct Pack {
    /// The name in `packs/NAME.toml`, and the prefix of its rules.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// Whether it may hold permits without `allow_permits = true`.
    pub permits_by_default: bool,
}

/// Every shipped pack.
pub const PACKS: &[Pack] = &[
    Pack { name: "drivers", text: include_str!("../../packs/drivers.toml"), permits_by_default: true },
    Pack {
        name: "admin-guard",
        text: include_str!("../../packs/admin-guard.toml"),
        permits_by_default: false,
    },
];

/// Packs that the design names and that need what is not built yet.
const NOT_BUILT: &[(&str, &str)] =
    &[("pii", "it labels columns, and masking is not built into this version")];

/// The pack of that name, or why there is none.
pub(crate) fn find(name: &str) -> Result<&'static Pack, String> {
    if let Some(pack) = PACKS.iter().find(|pack| pack.name == name) {
        return Ok(pack);
    }
    let names: Vec<&str> = PACKS.iter().map(|pack| pack.name).collect();
    Err(match NOT_BUILT.iter().find(|(planned, _)| *planned == name) {
        Some((_, why)) => format!("the pack {name} is not built: {why}; leave it out"),
        None => format!(
            "no pack {name} is shipped; packs are {}; other files must not stand in packs/",
            names.join(", ")
        ),
    })
}
