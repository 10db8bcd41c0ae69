//! The keys of `[holds]` and `[[person]]`: statements that wait for people.
//!
//! Owns these descriptions only, as the module above.

use super::super::keys::Section;
use super::{GIB, MIB, integer, key};

/// `[holds]`.
pub const HOLDS: Section = Section {
    header: "[holds]",
    meaning: "Statements that a rule of the policy holds until people have decided (`pgturnstile holds`, `approve`, `deny`), over the control socket. Beyond a bound a statement that would be held is refused.",
    keys: &[
        key(
            "open_max",
            integer(1, 100_000, 1_000),
            "Statements that wait at a time; a session has one at most.",
        ),
        key("open_per_requester_max", integer(1, 100_000, 100), "The same of one token's subject."),
        key(
            "bytes_max",
            integer(65_536, GIB, 64 * MIB),
            "Bytes of texts and parameters that are kept for approvers to see.",
        ),
        key(
            "notice_every_s",
            integer(1, 300, 5),
            "Between two notices to a client that waits. They keep drivers alive that close a silent socket.",
        ),
    ],
};

/// `[[person]]`.
pub const PERSON: Section = Section {
    header: "[[person]]",
    meaning: "The same human under several issuers: `email`, or an issuer's name, each with the value of the person claim there. It tells who asks for an approval from who gives it: what is written here is compared, and between identities of different issuers that stand nowhere here two people must approve. `email` is an address that the token calls verified.",
    keys: &[],
};
