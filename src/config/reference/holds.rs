//! The keys of `[holds]` and `[[person]]`: statements that wait for people.
//!
//! Owns these descriptions only, as the module above.

use super::super::keys::Section;
use super::{GIB, MIB, integer, key};

/// `[holds]`.
pub const HOLDS: Section = Section {
    header: "[holds]",
    meaning: "Statements that a rule of the policy holds until people have decided (`pgturnstile holds`, `approve`, `deny`), over the control socket. Beyond a bound a statement that would be held is refused. Tickets stand in `tickets.journal` below `state_dir`, with the texts and parameters of their statements: it is as secret as the data is.",
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
        key(
            "tickets_max",
            integer(1, 100_000, 1_000),
            "Tickets that are undecided, or not used yet (`ticket_ttl_s` of a rule's `hold`). Each is looked through where its requester's statement is held, and people have to look through them, too. Beyond it a hold that nobody decides has expired.",
        ),
        key(
            "tickets_per_requester_max",
            integer(1, 100_000, 100),
            "The same of one token's subject: nobody can fill them for all.",
        ),
        key(
            "tickets_bytes_max",
            integer(65_536, GIB, 64 * MIB),
            "Bytes that they take, texts and parameters among them, in memory and in the journal below `state_dir`, which is read whole at the start.",
        ),
    ],
};

/// `[[person]]`.
pub const PERSON: Section = Section {
    header: "[[person]]",
    meaning: "The same human under several issuers: `email`, or an issuer's name, each with the value of the person claim there. It tells who asks for an approval from who gives it: what is written here is compared, and between identities of different issuers that stand nowhere here two people must approve. `email` is an address that the token calls verified.",
    keys: &[],
};
