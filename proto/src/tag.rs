//! The message types of both directions, as closed enums. Owns the bytes and the names, as the protocol chapter
//! "Message Formats" and `src/include/libpq/protocol.h` list them.

macro_rules! tags {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $byte:literal, $text:literal;)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$doc])* $variant = $byte,)*
        }

        impl $name {
            /// Every type, in the order of the enum.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The type that this first byte announces, if there is one.
            #[inline]
            pub fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($byte => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The first byte of frames of this type.
            #[inline]
            pub fn byte(self) -> u8 {
                self as u8
            }

            /// The name in the protocol chapter.
            #[inline]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

tags! {
    /// Type of a frame that a client sends once the startup packet is behind it.
    FrontendTag {
        /// Portal, statement, parameters.
        Bind = b'B', "Bind";
        /// Forget a statement or portal.
        Close = b'C', "Close";
        /// A piece of a COPY stream.
        CopyData = b'd', "CopyData";
        /// The end of a COPY stream.
        CopyDone = b'c', "CopyDone";
        /// A COPY stream that failed on the client's side.
        CopyFail = b'f', "CopyFail";
        /// Asks what a statement or portal returns.
        Describe = b'D', "Describe";
        /// Runs a portal.
        Execute = b'E', "Execute";
        /// Asks for pending replies.
        Flush = b'H', "Flush";
        /// The fast path: a function by oid, no SQL. Always refused by the gateway.
        FunctionCall = b'F', "FunctionCall";
        /// Prepares a statement.
        Parse = b'P', "Parse";
        /// PasswordMessage, SASLInitialResponse, SASLResponse or GSSResponse: the type is one, the state tells which.
        Password = b'p', "PasswordMessage";
        /// A simple query.
        Query = b'Q', "Query";
        /// Ends a pipeline.
        Sync = b'S', "Sync";
        /// Ends the session.
        Terminate = b'X', "Terminate";
    }
}

tags! {
    /// Type of a frame that a server sends.
    BackendTag {
        /// Any authentication request, and its success.
        Authentication = b'R', "Authentication";
        /// Process id and cancel key.
        BackendKeyData = b'K', "BackendKeyData";
        /// Bind succeeded.
        BindComplete = b'2', "BindComplete";
        /// Close succeeded.
        CloseComplete = b'3', "CloseComplete";
        /// A command ended; carries its tag.
        CommandComplete = b'C', "CommandComplete";
        /// A piece of a COPY stream.
        CopyData = b'd', "CopyData";
        /// The end of a COPY stream.
        CopyDone = b'c', "CopyDone";
        /// The server waits for a COPY stream.
        CopyInResponse = b'G', "CopyInResponse";
        /// A COPY stream follows.
        CopyOutResponse = b'H', "CopyOutResponse";
        /// Streams both ways (replication).
        CopyBothResponse = b'W', "CopyBothResponse";
        /// One row.
        DataRow = b'D', "DataRow";
        /// The query string was empty.
        EmptyQueryResponse = b'I', "EmptyQueryResponse";
        /// An error.
        ErrorResponse = b'E', "ErrorResponse";
        /// The value of a fast-path call.
        FunctionCallResponse = b'V', "FunctionCallResponse";
        /// The server speaks an older minor version or knows not all options.
        NegotiateProtocolVersion = b'v', "NegotiateProtocolVersion";
        /// A statement or portal returns no rows.
        NoData = b'n', "NoData";
        /// A warning or notice.
        NoticeResponse = b'N', "NoticeResponse";
        /// A NOTIFY of any session.
        NotificationResponse = b'A', "NotificationResponse";
        /// Types of a statement's parameters.
        ParameterDescription = b't', "ParameterDescription";
        /// Value of a reported setting.
        ParameterStatus = b'S', "ParameterStatus";
        /// Parse succeeded.
        ParseComplete = b'1', "ParseComplete";
        /// Execute reached its row limit.
        PortalSuspended = b's', "PortalSuspended";
        /// The server waits for the next command.
        ReadyForQuery = b'Z', "ReadyForQuery";
        /// The columns of the rows to come.
        RowDescription = b'T', "RowDescription";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_maps_to_the_tag_that_has_it_and_no_other() {
        for byte in 0..=u8::MAX {
            let frontend = FrontendTag::ALL.iter().copied().find(|tag| tag.byte() == byte);
            assert_eq!(FrontendTag::from_byte(byte), frontend);
            let backend = BackendTag::ALL.iter().copied().find(|tag| tag.byte() == byte);
            assert_eq!(BackendTag::from_byte(byte), backend);
        }
        assert_eq!((FrontendTag::ALL.len(), BackendTag::ALL.len()), (14, 24));
    }
}
