//! The reference model of a conversation: what a PostgreSQL client must see.
//!
//! Owns: a closed set of statements with their meaning ([`sql`]), the frames of a pipeline and the total decoding of any
//! bytes into one ([`frames`]), the server as a state machine over them ([`server`] and its parts), and what the gateway
//! changes ([`gate`]). May not: touch a socket, a clock or randomness: equal frames give equal replies. Where the model
//! knows no answer it says so beforehand ([`Conversation::supports`]), and the pipeline goes without that step.
//!
//! ```text
//!   bytes ─ frames ─► Conversation ─ gate: refused? ─► the frame, or its stand-in ─► server ─► replies
//! ```
//!
//! Sources: PostgreSQL documentation, "Message Flow"; `src/backend/tcop/postgres.c`, `src/backend/tcop/pquery.c`,
//! `src/backend/access/transam/xact.c`, `src/backend/utils/mmgr/portalmem.c` of 15. The gateway: README decision 7.

pub mod data;
pub mod frames;
pub mod gate;
pub mod server;
mod simple;
pub mod sql;
mod standing;
mod transaction;

use frames::Frame;
use server::{Reply, Server};

/// A server behind a gateway, both as models.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The server.
    pub server: Server,
    /// The gateway.
    pub gate: gate::Gate,
}

/// What came of one frame.
#[derive(Clone, Debug)]
pub struct Turn {
    /// What a server without a gateway is sent in its place: itself, or the stand-in of a refused frame.
    pub bare: Frame,
    /// What the client sees because of it.
    pub replies: Vec<Reply>,
}

impl Conversation {
    /// A session behind its login.
    pub fn new() -> Self {
        Self { server: Server::new(), gate: gate::Gate::default() }
    }

    /// Whether the model knows what follows.
    pub fn supports(&self, frame: &Frame) -> bool {
        self.server.supports(frame) && self.gate.supports(&self.server, frame)
    }

    /// The client sends a frame.
    pub fn send(&mut self, frame: &Frame) -> Turn {
        let refused = self.gate.refuses(&self.server, frame);
        let bare = match refused {
            None => frame.clone(),
            Some(_) if frame.is_simple() => Frame::Query(vec![sql::Sql::Syntax]),
            // Whatever comes of it, a Parse drops the unnamed statement before it reads its text.
            Some(_) if matches!(frame, Frame::Parse { name, .. } if name.is_empty()) => {
                Frame::Parse { name: "", sql: vec![sql::Sql::Syntax] }
            }
            Some(_) => Frame::StandIn,
        };
        let mut replies = self.server.frame(&bare);
        if let Some(code) = refused {
            for reply in &mut replies {
                if *reply == Reply::Error("42601") {
                    *reply = Reply::Refused(code);
                }
            }
        }
        self.gate.settled(&self.server, frame, &replies);
        Turn { bare, replies }
    }
}
