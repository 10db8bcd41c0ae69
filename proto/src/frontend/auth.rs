//! The one type of frame (`p`) behind every authentication request: PasswordMessage, SASLInitialResponse,
//! SASLResponse, GSSResponse. The frame does not say which it is; the state of the login does, and asks the view for
//! that reading. Server: `recv_password_packet` (auth.c), `CheckSASLAuth` (auth-sasl.c).

use super::open;
use crate::{FrontendTag, Malformed, reader::Reader};

/// A password or SASL response. Its content is a secret: `Debug` shows the length only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password<'b> {
    frame: &'b [u8],
    body: &'b [u8],
}

impl<'b> Password<'b> {
    /// Reads one whole frame, leaving its content unread.
    ///
    /// # Errors
    /// Only where `frame` is not one whole frame of this type.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, FrontendTag::Password)?;
        let body = reader.take_rest();
        reader.finish(Self { frame, body })
    }

    /// Everything behind the header: the data of a SASLResponse or GSSResponse, which has no structure of its own.
    pub fn body(&self) -> &'b [u8] {
        self.body
    }

    /// The password of a PasswordMessage, without its NUL.
    ///
    /// # Errors
    /// A missing NUL, one inside the password, or anything behind it ("invalid password packet size").
    pub fn password(&self) -> Result<&'b [u8], Malformed> {
        let mut reader = self.reader("PasswordMessage");
        let password = reader.last_text("password")?;
        reader.finish(password)
    }

    /// The content as a SASLInitialResponse.
    ///
    /// # Errors
    /// An unterminated mechanism, a length that the frame cannot hold, or bytes behind the response.
    pub fn sasl_initial_response(&self) -> Result<SaslInitialResponse<'b>, Malformed> {
        let mut reader = self.reader("SASLInitialResponse");
        let mechanism = reader.text("mechanism")?;
        let data = reader.value("initial response")?;
        reader.finish(SaslInitialResponse { mechanism, data })
    }

    fn reader(&self, name: &'static str) -> Reader<'b> {
        Reader::over(name, self.frame, self.body)
    }
}

impl std::fmt::Debug for Password<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Password").field("bytes", &self.body.len()).finish()
    }
}

/// The first message of a SASL exchange. `data` may be a secret (OAUTHBEARER carries the token in it).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaslInitialResponse<'b> {
    mechanism: &'b [u8],
    data: Option<&'b [u8]>,
}

impl<'b> SaslInitialResponse<'b> {
    /// The mechanism that the client chose.
    pub fn mechanism(&self) -> &'b [u8] {
        self.mechanism
    }

    /// The initial response; `None` where the client sends none yet (length −1).
    pub fn data(&self) -> Option<&'b [u8]> {
        self.data
    }
}

impl std::fmt::Debug for SaslInitialResponse<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SaslInitialResponse")
            .field("mechanism", &self.mechanism.escape_ascii().to_string())
            .field("bytes", &self.data.map(<[u8]>::len))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reason, encode};

    static PASSWORD: &[u8] = b"p\0\0\0\x0bsecret\0";
    static INITIAL: &[u8] = b"p\0\0\0\x1aSCRAM-SHA-256\0\0\0\0\x04n,,n";

    #[test]
    fn deconstruct() {
        assert_eq!(Password::parse(PASSWORD).unwrap().password(), Ok(&b"secret"[..]));
        let initial = Password::parse(INITIAL).unwrap().sasl_initial_response().unwrap();
        assert_eq!((initial.mechanism(), initial.data()), (&b"SCRAM-SHA-256"[..], Some(&b"n,,n"[..])));
        let none =
            Password::parse(b"p\0\0\0\x0aX\0\xff\xff\xff\xff").unwrap().sasl_initial_response().unwrap();
        assert_eq!(none.data(), None);
        assert_eq!(Password::parse(b"p\0\0\0\x07\0\x01\x02").unwrap().body(), b"\0\x01\x02");
    }

    #[test]
    fn construct() {
        let mut frames = Vec::new();
        encode::password(&mut frames, b"secret").unwrap();
        encode::sasl_initial_response(&mut frames, "SCRAM-SHA-256", Some(b"n,,n")).unwrap();
        encode::sasl_response(&mut frames, b"\x01").unwrap();
        assert_eq!(frames, [PASSWORD, INITIAL, b"p\0\0\0\x05\x01"].concat());
    }

    #[test]
    fn secrets_are_not_printed() {
        let printed = format!("{:?}", Password::parse(PASSWORD).unwrap());
        assert_eq!(printed, "Password { bytes: 7 }");
        let printed = format!("{:?}", Password::parse(INITIAL).unwrap().sasl_initial_response().unwrap());
        assert_eq!(printed, "SaslInitialResponse { mechanism: \"SCRAM-SHA-256\", bytes: Some(4) }");
    }

    #[test]
    fn impossible_lengths() {
        let password = |frame| Password::parse(frame).unwrap().password().unwrap_err();
        assert_eq!(password(b"p\0\0\0\x05a").what, Reason::MissingNul { field: "password" });
        assert_eq!(password(b"p\0\0\0\x07a\0\0").what, Reason::NulInside { field: "password" });
        assert_eq!(password(b"p\0\0\0\x07a\0b").what, Reason::TrailingBytes { count: 1 });
        assert_eq!(
            password(b"p\0\0\0\x07a\0b").to_string(),
            "malformed PasswordMessage at byte 7: 1 bytes follow the last field"
        );
        let initial = |frame| Password::parse(frame).unwrap().sasl_initial_response().unwrap_err().what;
        assert_eq!(initial(b"p\0\0\0\x05X"), Reason::MissingNul { field: "mechanism" });
        assert_eq!(initial(b"p\0\0\0\x06X\0"), Reason::Truncated { field: "initial response" });
        assert_eq!(
            initial(b"p\0\0\0\x0aX\0\0\0\0\x01"),
            Reason::LengthBeyondFrame { field: "initial response", length: 1, left: 0 }
        );
        assert_eq!(
            initial(b"p\0\0\0\x0aX\0\xff\xff\xff\xfe"),
            Reason::NegativeLength { field: "initial response", length: -2 }
        );
        assert_eq!(initial(b"p\0\0\0\x0bX\0\0\0\0\0Y"), Reason::TrailingBytes { count: 1 });
    }
}
