//! Zero-copy views over the frames of PostgreSQL's frontend/backend protocol 3.0, both directions, from the first
//! startup byte on.
//!
//! **Owns** the reading of a peer's bytes: where a frame ends ([`frontend::Header`], [`backend::Header`],
//! [`startup::peek`]), what it says ([`frontend::Message`], [`backend::Message`], [`startup::Packet`]), how large it
//! may be ([`Limits`]), and the writing of the frames that the gateway itself originates ([`encode`]).
//!
//! **May not** keep state between frames (what is allowed *when* is the session's business), copy or change a peer's
//! bytes, allocate on behalf of a declared length, or know of SQL.
//!
//! **Invariant.** A view exists only if its constructor walked the whole frame and consumed it exactly: every string
//! ends where the frame says, every count and length fits its frame, no byte is left over. After that no accessor can
//! fail or panic. What PostgreSQL 14 to 18 would answer with SQLSTATE 08P01 is refused here.
//!
//! **Fails** with [`Malformed`]: the frame, the offset in it, and a [`Reason`] that names exactly what is wrong.
//! Whoever sent the bytes is at fault; only [`Reason::NotOneFrame`] and [`Reason::WrongTag`] are the caller's.
//!
//! ```text
//!  bytes ── startup::peek ──► length ── startup::parse ──► Packet          (before the session is set up)
//!  bytes ── Header::peek ───► tag, length ── Message::parse ──► a view     (ever after, one Header per direction)
//!                                      └─── backend::skip_rows: whole runs of DataRow / CopyData by header alone
//! ```
//!
//! Sources: PostgreSQL documentation, part "Frontend/Backend Protocol" (chapters "Message Formats" and "Message
//! Flow"); `src/backend/libpq/pqformat.c`, `pqcomm.c`, `src/backend/tcop/backend_startup.c`, `postgres.c`,
//! `fastpath.c`; `src/interfaces/libpq/fe-protocol3.c`.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod backend;
pub mod encode;
pub mod frontend;
pub mod proxy;
pub mod startup;

mod format;
mod header;
mod limits;
mod malformed;
mod reader;
mod tag;
mod values;

pub use format::{Format, Formats};
pub use header::{HEADER_BYTES, Header};
pub use limits::{
    CANCEL_KEY_BYTES_MAX, CANCEL_KEY_BYTES_MIN, Limits, PROXY_HEADER_BYTES_MAX, SERVER_BYTES_MAX,
    STARTUP_BYTES_MAX, STARTUP_PARAMETERS_MAX,
};
pub use malformed::{Malformed, Reason};
pub use tag::{BackendTag, FrontendTag};
pub use values::{Values, ValuesIter};
