//! What a server says while a session is set up: Authentication (`R`), BackendKeyData (`K`) and
//! NegotiateProtocolVersion (`v`). Client: `pqParseInput3` and `pg_fe_sendauth` of libpq.

use super::open;
use crate::{BackendTag, CANCEL_KEY_BYTES_MAX, CANCEL_KEY_BYTES_MIN, Malformed, Reason, reader::Reader};

/// An authentication request, or the news that none is needed any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Authentication<'b> {
    /// 0: the client is who it says.
    Ok,
    /// 2: Kerberos V5, which no supported server asks for.
    KerberosV5,
    /// 3: a password in clear.
    CleartextPassword,
    /// 5: a password hashed with MD5 and this salt.
    Md5Password {
        /// Random bytes for this login.
        salt: [u8; 4],
    },
    /// 7: GSSAPI.
    Gss,
    /// 8: data of a GSSAPI or SSPI exchange.
    GssContinue(&'b [u8]),
    /// 9: SSPI.
    Sspi,
    /// 10: SASL, with the mechanisms on offer.
    Sasl(Mechanisms<'b>),
    /// 11: data of a SASL exchange.
    SaslContinue(&'b [u8]),
    /// 12: last data of a SASL exchange.
    SaslFinal(&'b [u8]),
}

impl<'b> Authentication<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// A kind that is not known, a body that does not fit its kind, an unterminated list of mechanisms.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, BackendTag::Authentication)?;
        let view = match reader.u32("kind of authentication")? {
            0 => Self::Ok,
            2 => Self::KerberosV5,
            3 => Self::CleartextPassword,
            5 => Self::Md5Password { salt: reader.u32("salt")?.to_be_bytes() },
            7 => Self::Gss,
            8 => Self::GssContinue(reader.take_rest()),
            9 => Self::Sspi,
            10 => Self::Sasl(Mechanisms::read(&mut reader)?),
            11 => Self::SaslContinue(reader.take_rest()),
            12 => Self::SaslFinal(reader.take_rest()),
            code => return Err(reader.fault(Reason::UnknownAuthentication { code })),
        };
        reader.finish(view)
    }
}

/// The SASL mechanisms on offer, in the server's order of preference.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mechanisms<'b> {
    names: &'b [u8],
}

impl<'b> Mechanisms<'b> {
    fn read(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        let start = reader.rest();
        loop {
            let names = reader.walked(start);
            if reader.left() == 0 {
                return Err(reader.fault(Reason::MissingTerminator { field: "mechanism list" }));
            }
            if reader.text("mechanism")?.is_empty() {
                return Ok(Self { names });
            }
        }
    }

    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &'b [u8]> + Clone + use<'b> {
        self.names.split(|&byte| byte == 0).filter(|name| !name.is_empty())
    }

    /// This mechanism is on offer.
    pub fn offers(&self, name: &str) -> bool {
        self.iter().any(|offered| offered == name.as_bytes())
    }
}

impl std::fmt::Debug for Mechanisms<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|name| name.escape_ascii().to_string())).finish()
    }
}

/// What a later CancelRequest must name. The key is a secret: `Debug` shows its length only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BackendKeyData<'b> {
    process_id: u32,
    key: &'b [u8],
}

impl<'b> BackendKeyData<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// A key shorter than 4 or longer than 256 bytes.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, BackendTag::BackendKeyData)?;
        let process_id = reader.u32("process id")?;
        let length = reader.left();
        if !(CANCEL_KEY_BYTES_MIN..=CANCEL_KEY_BYTES_MAX).contains(&length) {
            return Err(reader.fault(Reason::KeyLength { length }));
        }
        let key = reader.take_rest();
        reader.finish(Self { process_id, key })
    }

    /// The process id.
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// The key: 4 bytes in protocol 3.0, up to 256 in 3.2.
    pub fn key(&self) -> &'b [u8] {
        self.key
    }
}

impl std::fmt::Debug for BackendKeyData<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackendKeyData")
            .field("process_id", &self.process_id)
            .field("key_bytes", &self.key.len())
            .finish()
    }
}

/// The server's answer to a newer minor version or to options it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiateProtocolVersion<'b> {
    version: u32,
    count: usize,
    options: &'b [u8],
}

impl<'b> NegotiateProtocolVersion<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// A negative count, one that the frame cannot hold, an unterminated option, bytes behind the last.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, BackendTag::NegotiateProtocolVersion)?;
        let version = reader.u32("protocol version")?;
        let declared = reader.i32("number of options")?;
        let count = usize::try_from(declared)
            .map_err(|_| reader.fault(Reason::NegativeCount { field: "options", count: declared }))?;
        reader.room("options", count, 1)?;
        let start = reader.rest();
        for _ in 0..count {
            reader.text("option")?;
        }
        let options = reader.walked(start);
        reader.finish(Self { version, count, options })
    }

    /// The newest version that the server speaks, as the whole version word: PostgreSQL sends major and minor, though
    /// the chapter calls the field the minor version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The options that it does not know.
    pub fn options(&self) -> impl Iterator<Item = &'b [u8]> + Clone + use<'b> {
        self.options.split(|&byte| byte == 0).take(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encode, startup::VERSION_3_0};

    static SASL: &[u8] = b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

    fn auth(frame: &[u8]) -> Authentication<'_> {
        Authentication::parse(frame).unwrap()
    }

    #[test]
    fn deconstruct() {
        assert_eq!(auth(b"R\0\0\0\x08\0\0\0\0"), Authentication::Ok);
        assert_eq!(auth(b"R\0\0\0\x08\0\0\0\x02"), Authentication::KerberosV5);
        assert_eq!(auth(b"R\0\0\0\x08\0\0\0\x03"), Authentication::CleartextPassword);
        assert_eq!(auth(b"R\0\0\0\x0c\0\0\0\x05salt"), Authentication::Md5Password { salt: *b"salt" });
        assert_eq!(auth(b"R\0\0\0\x08\0\0\0\x07"), Authentication::Gss);
        assert_eq!(auth(b"R\0\0\0\x0a\0\0\0\x08ab"), Authentication::GssContinue(b"ab"));
        assert_eq!(auth(b"R\0\0\0\x08\0\0\0\x09"), Authentication::Sspi);
        assert_eq!(auth(b"R\0\0\0\x0a\0\0\0\x0bab"), Authentication::SaslContinue(b"ab"));
        assert_eq!(auth(b"R\0\0\0\x0a\0\0\0\x0cab"), Authentication::SaslFinal(b"ab"));
        let Authentication::Sasl(mechanisms) = auth(SASL) else { panic!("no SASL") };
        assert_eq!(mechanisms.iter().collect::<Vec<_>>(), [&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"]);
        assert!(mechanisms.offers("SCRAM-SHA-256") && !mechanisms.offers("SCRAM-SHA-25"));
        let key = BackendKeyData::parse(b"K\0\0\0\x0c\0\0\0\x07abcd").unwrap();
        assert_eq!((key.process_id(), key.key()), (7, &b"abcd"[..]));
        assert_eq!(format!("{key:?}"), "BackendKeyData { process_id: 7, key_bytes: 4 }");
        let negotiate = NegotiateProtocolVersion::parse(b"v\0\0\0\x14\0\x03\0\0\0\0\0\x01_pq_.ab\0").unwrap();
        assert_eq!(negotiate.version(), VERSION_3_0);
        assert_eq!(negotiate.options().collect::<Vec<_>>(), [b"_pq_.ab"]);
    }

    #[test]
    fn construct() {
        let mut frames = Vec::new();
        encode::authentication_sasl(&mut frames, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]).unwrap();
        assert_eq!(frames, SASL);
        frames.clear();
        encode::authentication_ok(&mut frames);
        encode::authentication_cleartext_password(&mut frames);
        encode::authentication_md5_password(&mut frames, *b"salt");
        assert_eq!(frames, b"R\0\0\0\x08\0\0\0\0R\0\0\0\x08\0\0\0\x03R\0\0\0\x0c\0\0\0\x05salt");
        frames.clear();
        encode::backend_key_data(&mut frames, 7, b"abcd").unwrap();
        encode::negotiate_protocol_version(&mut frames, VERSION_3_0, ["_pq_.ab"]).unwrap();
        assert_eq!(frames, b"K\0\0\0\x0c\0\0\0\x07abcdv\0\0\0\x14\0\x03\0\0\0\0\0\x01_pq_.ab\0");
    }

    #[test]
    fn impossible_lengths() {
        let what = |frame: &[u8]| super::super::Message::parse(frame).unwrap_err().what;
        assert_eq!(what(b"R\0\0\0\x04"), Reason::Truncated { field: "kind of authentication" });
        assert_eq!(what(b"R\0\0\0\x08\0\0\0\x06"), Reason::UnknownAuthentication { code: 6 });
        assert_eq!(what(b"R\0\0\0\x09\0\0\0\0\0"), Reason::TrailingBytes { count: 1 });
        assert_eq!(what(b"R\0\0\0\x0b\0\0\0\x05sal"), Reason::Truncated { field: "salt" });
        assert_eq!(what(b"R\0\0\0\x08\0\0\0\x0a"), Reason::MissingTerminator { field: "mechanism list" });
        assert_eq!(what(b"R\0\0\0\x0a\0\0\0\x0aX\0"), Reason::MissingTerminator { field: "mechanism list" });
        assert_eq!(what(b"R\0\0\0\x09\0\0\0\x0aX"), Reason::MissingNul { field: "mechanism" });
        assert_eq!(what(b"R\0\0\0\x0c\0\0\0\x0aX\0\0Y"), Reason::TrailingBytes { count: 1 });
        assert_eq!(what(b"K\0\0\0\x0b\0\0\0\x07abc"), Reason::KeyLength { length: 3 });
        assert_eq!(
            what(b"v\0\0\0\x0c\0\x03\0\0\xff\xff\xff\xff"),
            Reason::NegativeCount { field: "options", count: -1 }
        );
        assert_eq!(
            what(b"v\0\0\0\x0c\0\x03\0\0\x7f\xff\xff\xff"),
            Reason::CountBeyondFrame { field: "options", count: 0x7fff_ffff, left: 0 }
        );
        assert_eq!(what(b"v\0\0\0\x0d\0\x03\0\0\0\0\0\0\0"), Reason::TrailingBytes { count: 1 });
    }
}
