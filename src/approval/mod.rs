//! Holds: statements that wait for people, and what people say of them (README decision 14).
//!
//! Owns: every open hold and ticket of the gateway in one place, who may decide it, and when it is decided. May not: touch a frame or
//! a socket, verify a token, or write a record: the session holds the bytes and records what becomes of them; whoever takes a
//! decision in has verified the token and recorded it first. Fails closed: whoever cannot be told apart from the requester does
//! not decide alone, and whoever cannot be told apart from another approver is no second one.
//!
//! | module | owns |
//! |---|---|
//! | [`asked`] | what is asked of an approver |
//! | [`people`] | whether two identities are the same human |
//! | [`quorum`] | who may decide, and when approval is reached |
//! | [`holds`] | the open holds, their states, and the last that ended |
//! | [`ticket`] | what a ticket binds, and where it stands |
//! | [`tickets`] | all tickets, their bounds, and that each change of one is on disk first |
//! | [`journal`] | the file that they are kept in |

pub mod asked;
pub mod holds;
pub mod journal;
pub mod people;
pub mod quorum;
pub mod ticket;
pub mod tickets;

pub use asked::{Asked, Id, Need, Requester};
pub use holds::{Ended, Found, Full, Holds, How, Outcome, Seat, Settings, Wake};
pub use people::{Human, People, Same};
pub use quorum::{Bar, Vote};
pub use ticket::Ticket;
pub use tickets::{Bounds, Tickets};
