//! A session: one task between one client and one target.
//!
//! ```text
//!  Accepted ─► Greeting ─► Authenticating ─► Authorizing ─► Dialing ─► Priming ─► Relaying ─► Closed
//!      └──────────┴──────────────┴───────────────┴────────────┴──────────┴────────────┴─► last words
//! ```
//!
//! Owns: everything between the client's first byte and the session's last record. Frames, verdicts and evidence meet here
//! and nowhere else. May not: listen, load configuration, read the catalog. Fails closed: see [`end`].
//!
//! | module | owns |
//! |---|---|
//! | [`greeting`] | the bytes before the client is known |
//! | [`relay`] | the loop, back-pressure, last words |
//! | `closing` | a peer that has closed its side |
//! | `hold`, `hold_open`, `hold_words` | statements that wait for people |
//! | `ticket`, `reached` | statements that people decide while nobody waits, and what those bind |
//! | [`gate`], `held`, `waiting`, `copy_in`, `copy_probe`, `fence`, `refuse` | what a client's frame does, and when it may go on |
//! | [`flow`], `reading` | what a backend's frame closes, and when it may go on |
//! | `portals` | whether a portal still gives what its Bind was judged by |
//! | `drift` | whether the catalog is still the one that a statement was judged by |
//! | `rows` | rows, COPY data, texts that quote data |
//! | `masking`, `large` | which plan holds for which rows; what is masked beside the shard |
//! | [`expect`] | what the backend owes |
//! | `answers` | what it owes to the gateway's own questions |
//! | [`names`] | prepared statements and portals |
//! | [`by_sql`], `standing` | whether a name still stands for what was made under it |
//! | [`judge`], [`decision`], [`world`], [`decisions`] | the verdict on a text |
//! | [`pinned`], [`denial`] | what may not move, and how it is said |
//! | [`account`], [`summary`] | what is recorded |
//! | `recorder`, `kept`, `capture`, `stated` | what of it beyond digests: how much, texts and parameters, rows, what the client says of itself |
//! | [`tally`], `live` | what is counted, and what is shown of one session |

pub mod account;
mod answers;
pub mod by_sql;
mod capture;
mod closing;
pub mod control;
mod copy_in;
mod copy_probe;
pub mod decision;
pub mod decisions;
pub mod denial;
mod digest;
mod drift;
mod encoding;
pub mod end;
pub mod expect;
mod fence;
pub mod flow;
pub mod gate;
pub mod greeting;
mod held;
mod hold;
mod hold_open;
mod hold_words;
pub mod judge;
mod kept;
mod large;
mod live;
mod masking;
pub mod names;
mod objects;
mod oversized;
pub mod pinned;
mod portals;
mod reached;
mod reading;
mod recorder;
mod refuse;
pub mod relay;
mod rows;
mod sealing;
mod standing;
mod stated;
pub mod summary;
pub mod tally;
mod ticket;
mod waiting;
mod work;
pub mod world;

pub use account::{Account, Durability};
pub use control::{Control, Met, Order, Phase};
pub use decisions::ShardMemory;
pub use end::{End, Fault};
pub use judge::Judge;
pub use live::{Seen, Waits};
pub use pinned::Pinned;
pub use relay::{Parts, Relay};
pub use tally::{Login, Tally};
pub use world::{Ground, Source, World};
