//! Frames that the gateway sends to a server.

use super::{Frame, Unencodable};
use crate::{Format, FrontendTag, frontend::ObjectKind};

fn begin(out: &mut Vec<u8>, tag: FrontendTag) -> Frame<'_> {
    Frame::typed(out, tag.byte(), tag.name())
}

/// Appends a Query.
///
/// # Errors
/// A NUL inside the text, or more bytes than a length can say.
pub fn query(out: &mut Vec<u8>, text: impl AsRef<[u8]>) -> Result<(), Unencodable> {
    let mut frame = begin(out, FrontendTag::Query);
    frame.text("query text", text.as_ref())?;
    frame.finish()
}

/// Appends a Parse; an oid of 0 leaves a parameter's type to the server.
///
/// # Errors
/// A NUL inside a text, more than 65,535 types, or more bytes than a length can say.
pub fn parse(
    out: &mut Vec<u8>,
    name: impl AsRef<[u8]>,
    text: impl AsRef<[u8]>,
    types: &[u32],
) -> Result<(), Unencodable> {
    let mut frame = begin(out, FrontendTag::Parse);
    frame.text("statement name", name.as_ref())?;
    frame.text("statement text", text.as_ref())?;
    frame.oids("parameter types", types)?;
    frame.finish()
}

/// Appends a Bind. `formats` and `results` are empty (all text), one for all, or one for each.
///
/// # Errors
/// A NUL inside a name, a number of formats that fits no rule, more than 65,535 of anything, or more bytes than a
/// length can say.
pub fn bind(
    out: &mut Vec<u8>,
    portal: impl AsRef<[u8]>,
    statement: impl AsRef<[u8]>,
    formats: &[Format],
    parameters: &[Option<&[u8]>],
    results: &[Format],
) -> Result<(), Unencodable> {
    let mut frame = begin(out, FrontendTag::Bind);
    frame.text("portal name", portal.as_ref())?;
    frame.text("statement name", statement.as_ref())?;
    values(&mut frame, formats, parameters)?;
    frame.formats("result formats", results)?;
    frame.finish()
}

/// Formats and the values they are for.
fn values(frame: &mut Frame<'_>, formats: &[Format], values: &[Option<&[u8]>]) -> Result<(), Unencodable> {
    if formats.len() > 1 && formats.len() != values.len() {
        let (count, limit) = (formats.len(), values.len());
        return Err(Unencodable::TooMany { frame: frame.name, field: "parameter formats", count, limit });
    }
    frame.formats("parameter formats", formats)?;
    frame.values("parameters", values)
}

/// Appends a Describe.
///
/// # Errors
/// A NUL inside the name, or more bytes than a length can say.
pub fn describe(out: &mut Vec<u8>, kind: ObjectKind, name: impl AsRef<[u8]>) -> Result<(), Unencodable> {
    object(out, FrontendTag::Describe, kind, name.as_ref())
}

/// Appends a Close.
///
/// # Errors
/// A NUL inside the name, or more bytes than a length can say.
pub fn close(out: &mut Vec<u8>, kind: ObjectKind, name: impl AsRef<[u8]>) -> Result<(), Unencodable> {
    object(out, FrontendTag::Close, kind, name.as_ref())
}

fn object(out: &mut Vec<u8>, tag: FrontendTag, kind: ObjectKind, name: &[u8]) -> Result<(), Unencodable> {
    let mut frame = begin(out, tag);
    frame.bytes(&[kind.byte()]);
    frame.text("name", name)?;
    frame.finish()
}

/// Appends an Execute; a limit of 0 asks for all rows.
///
/// # Errors
/// A NUL inside the name, or more bytes than a length can say.
pub fn execute(out: &mut Vec<u8>, portal: impl AsRef<[u8]>, row_limit: i32) -> Result<(), Unencodable> {
    let mut frame = begin(out, FrontendTag::Execute);
    frame.text("portal name", portal.as_ref())?;
    frame.bytes(&row_limit.to_be_bytes());
    frame.finish()
}

/// Appends a Sync.
pub fn sync(out: &mut Vec<u8>) {
    out.extend_from_slice(b"S\0\0\0\x04");
}

/// Appends a Flush.
pub fn flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"H\0\0\0\x04");
}

/// Appends a Terminate.
pub fn terminate(out: &mut Vec<u8>) {
    out.extend_from_slice(b"X\0\0\0\x04");
}

/// Appends a CopyFail.
///
/// # Errors
/// A NUL inside the reason, or more bytes than a length can say.
pub fn copy_fail(out: &mut Vec<u8>, reason: impl AsRef<[u8]>) -> Result<(), Unencodable> {
    let mut frame = begin(out, FrontendTag::CopyFail);
    frame.text("reason", reason.as_ref())?;
    frame.finish()
}

/// Appends a FunctionCall. The gateway never sends one; tests of its refusal do.
///
/// # Errors
/// As for [`bind`].
pub fn function_call(
    out: &mut Vec<u8>,
    function: u32,
    formats: &[Format],
    arguments: &[Option<&[u8]>],
    result: Format,
) -> Result<(), Unencodable> {
    let mut frame = begin(out, FrontendTag::FunctionCall);
    frame.bytes(&function.to_be_bytes());
    values(&mut frame, formats, arguments)?;
    frame.bytes(&result.code().to_be_bytes());
    frame.finish()
}

/// Appends a PasswordMessage. The password stays in `out`: wipe it once sent.
///
/// # Errors
/// A NUL inside the password, or more bytes than a length can say.
pub fn password(out: &mut Vec<u8>, password: &[u8]) -> Result<(), Unencodable> {
    let mut frame = begin(out, FrontendTag::Password);
    frame.text("password", password)?;
    frame.finish()
}

/// Appends a SASLInitialResponse; `None` sends no initial data.
///
/// # Errors
/// A NUL inside the mechanism, or more bytes than a length can say.
pub fn sasl_initial_response(
    out: &mut Vec<u8>,
    mechanism: impl AsRef<[u8]>,
    data: Option<&[u8]>,
) -> Result<(), Unencodable> {
    let mut frame = begin(out, FrontendTag::Password);
    frame.text("mechanism", mechanism.as_ref())?;
    frame.value("initial response", data)?;
    frame.finish()
}

/// Appends a SASLResponse.
///
/// # Errors
/// More bytes than a length can say.
pub fn sasl_response(out: &mut Vec<u8>, data: &[u8]) -> Result<(), Unencodable> {
    let mut frame = begin(out, FrontendTag::Password);
    frame.bytes(data);
    frame.finish()
}
