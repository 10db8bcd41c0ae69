//! Why a target could not be reached or logged in to.
//!
//! Owns the one error of this module's boundary: who is at fault, the SQLSTATE for the client, and two texts. `Display`
//! is exact, for the log and the evidence; [`DialError::client_text`] is safe to show: no address, no login, no
//! server's words, except where the server's answer is about what the client itself asked for.

use std::io;

use pgturnstile_proto::encode::Unencodable;
use pgturnstile_proto::{BackendTag, Malformed};

use crate::backend::credentials::CredentialError;
use crate::backend::scram::ScramError;
use crate::net::tls::TlsError;

/// A failed dial: which target, and why.
#[derive(Debug, thiserror::Error)]
#[error("target {target:?}: {failure}")]
pub struct DialError {
    /// The target's name in the configuration.
    pub target: String,
    /// What went wrong.
    pub failure: Failure,
}

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The client asked for something that the target refuses.
    Client,
    /// The target or the network to it.
    Backend,
    /// Whoever configured gateway or target.
    Operator,
    /// The gateway itself.
    Gateway,
}

/// A step of a dial, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Name lookup and TCP.
    Connect,
    /// SSLRequest and the TLS handshake.
    Tls,
    /// From the startup packet to AuthenticationOk.
    Authenticate,
    /// From AuthenticationOk to ReadyForQuery.
    Settle,
    /// A short query of the gateway's own.
    Query,
    /// A cancel request.
    Cancel,
}

impl std::fmt::Display for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Connect => "connecting",
            Self::Tls => "starting TLS",
            Self::Authenticate => "logging in",
            Self::Settle => "waiting for the first ReadyForQuery",
            Self::Query => "running a query of the gateway's own",
            Self::Cancel => "sending a cancel request",
        })
    }
}

/// What went wrong at a target.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The name leads to no address.
    #[error("the host {host:?} cannot be resolved: {error}")]
    Resolve {
        /// As configured.
        host: String,
        /// The resolver's words.
        error: io::Error,
    },
    /// Nobody takes the connection.
    #[error("no connection to {address}: {error}")]
    Connect {
        /// The last address tried.
        address: String,
        /// The socket's error.
        error: io::Error,
    },
    /// The deadline passed.
    #[error("the deadline passed while {0}")]
    Deadline(Step),
    /// The connection broke.
    #[error("the connection broke while {step}: {error}")]
    Io {
        /// When.
        step: Step,
        /// The socket's error.
        error: io::Error,
    },
    /// The server closed the connection without a word.
    #[error("the server closed the connection while {0}")]
    Closed(Step),
    /// The server answered `N`.
    #[error(
        "the server offers no TLS and the target demands it: switch ssl on there, or set tls.mode to \"disable\""
    )]
    TlsNotOffered,
    /// The server answered something else than one of the two letters.
    #[error("the server answered SSLRequest with byte 0x{0:02x} instead of 'S' or 'N'")]
    TlsAnswer(u8),
    /// Bytes behind the answer, before TLS: someone stands between (CVE-2021-23222).
    #[error(
        "the server sent plaintext behind its answer to SSLRequest: someone between may have put it there"
    )]
    EarlyBytes,
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(String),
    /// A frame that breaks the protocol.
    #[error("the server broke the protocol while {step}: {malformed}")]
    Malformed {
        /// When.
        step: Step,
        /// What exactly.
        malformed: Malformed,
    },
    /// A whole frame at the wrong time.
    #[error("the server sent {} while {step}, which does not belong there", tag.name())]
    Unexpected {
        /// When.
        step: Step,
        /// Which.
        tag: BackendTag,
    },
    /// A frame whose content makes no sense there.
    #[error("the server sent {what} while {step}")]
    Nonsense {
        /// When.
        step: Step,
        /// What.
        what: &'static str,
    },
    /// More frames or bytes than that step can need.
    #[error("the server sent too much while {step}: more than {limit}")]
    TooMuch {
        /// When.
        step: Step,
        /// The limit with its unit.
        limit: String,
    },
    /// The server refused, with an ErrorResponse.
    #[error("the server refused while {step}: {rejection}")]
    Rejected {
        /// When.
        step: Step,
        /// Its words.
        rejection: Rejection,
    },
    /// An authentication method that the gateway has not.
    #[error(
        "the server asks for {0} authentication, which this gateway has not: set the role's password with \
         password_encryption = 'scram-sha-256' and its pg_hba.conf line to scram-sha-256"
    )]
    Method(&'static str),
    /// SASL without a SCRAM mechanism.
    #[error("the server offers no SASL mechanism that this gateway has (SCRAM-SHA-256, SCRAM-SHA-256-PLUS)")]
    Mechanism,
    /// A cleartext password over plain TCP.
    #[error(
        "the server asks for the password in clear and the connection is not encrypted: set tls.mode, or the \
         server's pg_hba.conf line to scram-sha-256"
    )]
    CleartextUnencrypted,
    /// The server wants a password and the credential has none.
    #[error("the server asks for a password and credential {0:?} has none: configure its password")]
    NoPassword(String),
    /// The credential has a password and the server does not ask for it.
    #[error(
        "the server let the login in without asking for the password of credential {0:?}, so nothing shows that it is \
         the right one: set its pg_hba.conf line to scram-sha-256, or remove the password from the credential"
    )]
    NotAsked(String),
    /// The credential has a certificate and the server does not ask for it.
    #[error(
        "the server let the login in without asking for the certificate of credential {0:?}, so nothing shows that it is \
         the right one: set its pg_hba.conf line to cert, or remove the certificate from the credential"
    )]
    CertificateNotAsked(String),
    /// The credential has a certificate and the connection is no TLS.
    #[error(
        "credential {0:?} has a certificate, which is shown inside TLS only, and tls.mode is \"disable\": set another mode"
    )]
    CertificateUnencrypted(String),
    /// The credential's certificate or key cannot be used.
    #[error("the certificate of credential {credential:?} cannot be shown: {error}")]
    Certificate {
        /// The credential's name.
        credential: String,
        /// The file and what is wrong with it.
        error: TlsError,
    },
    /// MD5 over plain TCP.
    #[error(
        "the server asks for MD5 authentication and the connection is not encrypted: who listens to the answer can try \
         passwords on it. Set tls.mode, or the role's password with password_encryption = 'scram-sha-256'"
    )]
    Md5Unencrypted,
    /// Channel binding is demanded and cannot be had.
    #[error("tls.channel_binding is \"require\" and {0}")]
    ChannelBinding(&'static str),
    /// SCRAM failed on the gateway's side.
    #[error("{0}")]
    Scram(#[from] ScramError),
    /// The password cannot be read.
    #[error("{0}")]
    Credential(#[from] CredentialError),
    /// Something the gateway wanted to send has no place in a frame.
    #[error("{0}")]
    Unencodable(#[from] Unencodable),
    /// The server is no PostgreSQL that the gateway can stand before.
    #[error("{0}")]
    Unfit(#[from] Unfit),
    /// The gateway's own thread was lost.
    #[error("the thread that derives SCRAM keys was stopped")]
    Stopped,
}

/// A server that logged us in and still cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Another major version, or no version at all.
    #[error("the server calls itself version {0:?}: PostgreSQL 14 to 18 are supported")]
    Version(String),
    /// A setting that must be reported was not.
    #[error("the server does not report {0}: it is no PostgreSQL 14 to 18, or something between removes it")]
    Missing(&'static str),
    /// A setting that the gateway set has another value.
    #[error(
        "the server has {name} = {found:?} where {wanted:?} was asked for: ALTER ROLE SET or ALTER DATABASE SET, a \
         login trigger, or something between the gateway and the server (a pooler that ignores startup parameters) \
         changes it; take it back there"
    )]
    Setting {
        /// The setting.
        name: &'static str,
        /// As reported.
        found: String,
        /// As sent.
        wanted: String,
    },
    /// ReadyForQuery names an open transaction.
    #[error(
        "the session begins inside a transaction: something between the gateway and the server has used it before"
    )]
    NotIdle,
    /// No BackendKeyData.
    #[error("the server sent no BackendKeyData: nothing in this session could be cancelled")]
    NoKey,
}

/// A server's ErrorResponse: its words, shortened, control characters removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// As sent, where it is five legal characters; else `XX000`.
    pub sqlstate: String,
    /// The primary message.
    pub message: String,
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} (SQLSTATE {})", self.message, self.sqlstate)
    }
}

/// What a server's refusal at login is about.
enum About {
    /// A value that the client chose.
    ClientValue,
    /// Load or a restart: worth another attempt.
    Availability,
    /// The login, the database, and everything else.
    Login,
}

impl Rejection {
    fn about(&self) -> About {
        if self.sqlstate == "22023" {
            About::ClientValue
        } else if self.sqlstate.starts_with("53") || self.sqlstate.starts_with("57P0") {
            About::Availability
        } else {
            About::Login
        }
    }

    /// Whether the server turned the login itself away (class 28, invalid authorization specification).
    pub(super) fn is_authentication(&self) -> bool {
        self.sqlstate.starts_with("28")
    }
}

impl DialError {
    /// Who has to act.
    pub fn fault(&self) -> Fault {
        match &self.failure {
            Failure::Resolve { .. }
            | Failure::Connect { .. }
            | Failure::Deadline(_)
            | Failure::Io { .. }
            | Failure::Closed(_)
            | Failure::TlsAnswer(_)
            | Failure::EarlyBytes
            | Failure::Malformed { .. }
            | Failure::Unexpected { .. }
            | Failure::Nonsense { .. }
            | Failure::TooMuch { .. } => Fault::Backend,
            Failure::Rejected { rejection, .. } => match rejection.about() {
                About::ClientValue => Fault::Client,
                About::Availability => Fault::Backend,
                About::Login => Fault::Operator,
            },
            Failure::TlsNotOffered
            | Failure::Handshake(_)
            | Failure::Method(_)
            | Failure::Mechanism
            | Failure::CleartextUnencrypted
            | Failure::NoPassword(_)
            | Failure::NotAsked(_)
            | Failure::CertificateNotAsked(_)
            | Failure::CertificateUnencrypted(_)
            | Failure::Certificate { .. }
            | Failure::Md5Unencrypted
            | Failure::ChannelBinding(_)
            | Failure::Scram(_)
            | Failure::Credential(_)
            | Failure::Unfit(_) => Fault::Operator,
            Failure::Unencodable(_) | Failure::Stopped => Fault::Gateway,
        }
    }

    /// The SQLSTATE for the client.
    pub fn sqlstate(&self) -> &str {
        match &self.failure {
            Failure::Rejected { rejection, .. } => match rejection.about() {
                About::ClientValue | About::Availability => &rejection.sqlstate,
                About::Login => "08004", // sqlserver_rejected_establishment_of_sqlconnection
            },
            Failure::Malformed { .. }
            | Failure::Unexpected { .. }
            | Failure::Nonsense { .. }
            | Failure::TooMuch { .. }
            | Failure::TlsAnswer(_)
            | Failure::EarlyBytes => "08P01", // protocol_violation
            Failure::Resolve { .. }
            | Failure::Connect { .. }
            | Failure::Deadline(_)
            | Failure::Io { .. }
            | Failure::Closed(_)
            | Failure::TlsNotOffered
            | Failure::Handshake(_)
            | Failure::Method(_)
            | Failure::Mechanism
            | Failure::CleartextUnencrypted
            | Failure::NoPassword(_)
            | Failure::NotAsked(_)
            | Failure::CertificateNotAsked(_)
            | Failure::CertificateUnencrypted(_)
            | Failure::Certificate { .. }
            | Failure::Md5Unencrypted
            | Failure::ChannelBinding(_)
            | Failure::Scram(_)
            | Failure::Credential(_)
            | Failure::Unfit(_)
            | Failure::Unencodable(_)
            | Failure::Stopped => "08001", // sqlclient_unable_to_establish_sqlconnection
        }
    }

    /// What the client may read.
    pub fn client_text(&self) -> String {
        let target = &self.target;
        if let Failure::Rejected { rejection, .. } = &self.failure {
            match rejection.about() {
                About::ClientValue => {
                    return format!(
                        "target {target:?} refuses a startup parameter: {}; change it in the client's settings",
                        rejection.message
                    );
                }
                About::Availability => {
                    return format!(
                        "target {target:?} takes no session now: {}; try again later",
                        rejection.message
                    );
                }
                About::Login => {}
            }
        }
        match self.fault() {
            Fault::Client | Fault::Backend => format!(
                "target {target:?} cannot be reached by the gateway now; try again later, the gateway's log says why"
            ),
            Fault::Operator | Fault::Gateway => format!(
                "the gateway cannot log in to target {target:?}; its operator has to act, the gateway's log says why"
            ),
        }
    }
}
