//! The keys of `[evidence]` and of its tables.
//!
//! Owns these descriptions only, as the module above.

use super::super::keys::{Absent, Kind, Section};
use super::{GIB, MIB, integer, key};

/// `[evidence]`.
pub const EVIDENCE: Section = Section {
    header: "[evidence]",
    meaning: "The chained record of everything. Its folder must exist: a mistyped path must not start a second history.",
    keys: &[
        key("directory", Kind::Path(Absent::Default("evidence")), "Folder of the segments, mode 0700."),
        key("segment_bytes", integer(MIB, 16 * GIB, 256 * MIB), "Size at which a segment is closed."),
        key("reserve_bytes", integer(MIB, 1 << 50, GIB), "Free disk below which nothing new is accepted."),
        key(
            "stall_limit_ms",
            integer(100, 600_000, 5_000),
            "How long a session waits for the evidence before it is refused.",
        ),
        key(
            "queue_bytes_max",
            integer(MIB, 16 * GIB, 64 * MIB),
            "Records in memory that are not yet written.",
        ),
        key("digest_key", Kind::Table(Absent::Optional), "Master key of the keyed digests, see below."),
        key(
            "checkpoint_every_s",
            integer(1, 86_400, 10),
            "Most time between two signed checkpoints, also when nothing happens.",
        ),
        key(
            "checkpoint_every_records",
            integer(100, 1 << 32, 100_000),
            "Most records between two signed checkpoints.",
        ),
        key("signing_key", Kind::Table(Absent::Optional), "Key that signs checkpoints, see below."),
        key(
            "sealing_key",
            Kind::Table(Absent::Optional),
            "An auditor's public key: originals of masked values are kept, sealed to it, see below. Without it none is kept.",
        ),
        key(
            "head",
            Kind::Table(Absent::Optional),
            "Second place of the last checkpoint, see below. Without it nobody can tell whether the log's end was cut off.",
        ),
    ],
};

/// `evidence.signing_key`.
pub const SIGNING_KEY: Section = Section {
    header: "evidence.signing_key",
    meaning: "The Ed25519 key of the checkpoints, as `pgturnstile evidence new-key` makes it: `file` or `command`. \
              `STATE_DIR/checkpoint.key`, created at the first start, when the table is absent.",
    keys: &[
        key(
            "file",
            Kind::Path(Absent::Optional),
            "A file of mode 0600, created at the first start; refused inside the evidence folder.",
        ),
        key(
            "command",
            Kind::Strings(Absent::Optional),
            "A program with its arguments, no shell; it prints the key.",
        ),
        key("timeout_ms", integer(100, 60_000, 5_000), "How long `command` may run."),
        key(
            "certificate",
            Kind::Path(Absent::Optional),
            "The note by which the key before passed the signing on to this one: `pgturnstile evidence rotate-key` makes it. \
             Needed at the first start with a new key.",
        ),
    ],
};

/// `evidence.sealing_key`.
pub const SEALING_KEY: Section = Section {
    header: "evidence.sealing_key",
    meaning: "What labels and detectors mask, and what is withheld near labels, is sealed to this key (HPKE, RFC 9180) before \
              anything stands in for it; `pgturnstile evidence unseal` opens it, with the private key and a reason. \
              The gateway cannot.",
    keys: &[key(
        "file",
        Kind::Path(Absent::Required),
        "The line that `pgturnstile evidence keygen` printed for the auditor. Read at the start. Never the private key's file.",
    )],
};

/// `evidence.head`.
pub const HEAD: Section = Section {
    header: "evidence.head",
    meaning: "Where the last checkpoint is also kept: another disk, another machine's share, a folder that the owner of the \
              evidence cannot change. The gateway does not start when the evidence is behind it.",
    keys: &[key(
        "file",
        Kind::Path(Absent::Required),
        "A file in a folder that exists; refused inside the evidence folder. One file belongs to one gateway.",
    )],
};

/// `evidence.digest_key`.
pub const DIGEST_KEY: Section = Section {
    header: "evidence.digest_key",
    meaning: "Digests of texts, parameters and rows are keyed: a salt beside a nine-digit value would be no secret.",
    keys: &[key(
        "file",
        Kind::Path(Absent::Required),
        "64 hexadecimal digits, mode 0600; `STATE_DIR/digest.key` when the table is absent. Created at the first start; refused inside the evidence folder.",
    )],
};
