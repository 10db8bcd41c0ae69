//! Frames that the gateway sends to a client, and those that tests and scripted servers need.

use super::{Frame, Unencodable};
use crate::{
    BackendTag, Format,
    backend::{FieldDescription, TransactionStatus},
};

fn begin(out: &mut Vec<u8>, tag: BackendTag) -> Frame<'_> {
    Frame::typed(out, tag.byte(), tag.name())
}

/// A frame without content.
fn bare(out: &mut Vec<u8>, tag: BackendTag) {
    out.extend_from_slice(&[tag.byte(), 0, 0, 0, 4]);
}

/// Appends AuthenticationOk.
pub fn authentication_ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"R\0\0\0\x08\0\0\0\0");
}

/// Appends AuthenticationCleartextPassword. Only inside TLS or over a Unix socket.
pub fn authentication_cleartext_password(out: &mut Vec<u8>) {
    out.extend_from_slice(b"R\0\0\0\x08\0\0\0\x03");
}

/// Appends AuthenticationMD5Password, for scripted servers.
pub fn authentication_md5_password(out: &mut Vec<u8>, salt: [u8; 4]) {
    out.extend_from_slice(b"R\0\0\0\x0c\0\0\0\x05");
    out.extend_from_slice(&salt);
}

/// Appends AuthenticationSASL.
///
/// # Errors
/// An empty mechanism, a NUL inside one, or more bytes than a length can say.
pub fn authentication_sasl<M: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    mechanisms: impl IntoIterator<Item = M>,
) -> Result<(), Unencodable> {
    let mut frame = begin(out, BackendTag::Authentication);
    frame.bytes(&10_u32.to_be_bytes());
    for mechanism in mechanisms {
        frame.element("mechanism", mechanism.as_ref())?;
    }
    frame.bytes(&[0]);
    frame.finish()
}

/// Appends AuthenticationSASLContinue.
///
/// # Errors
/// More bytes than a length can say.
pub fn authentication_sasl_continue(out: &mut Vec<u8>, data: &[u8]) -> Result<(), Unencodable> {
    authentication_data(out, 11, data)
}

/// Appends AuthenticationSASLFinal.
///
/// # Errors
/// More bytes than a length can say.
pub fn authentication_sasl_final(out: &mut Vec<u8>, data: &[u8]) -> Result<(), Unencodable> {
    authentication_data(out, 12, data)
}

fn authentication_data(out: &mut Vec<u8>, kind: u32, data: &[u8]) -> Result<(), Unencodable> {
    let mut frame = begin(out, BackendTag::Authentication);
    frame.bytes(&kind.to_be_bytes());
    frame.bytes(data);
    frame.finish()
}

/// Appends BackendKeyData.
///
/// # Errors
/// A key shorter than 4 or longer than 256 bytes.
pub fn backend_key_data(out: &mut Vec<u8>, process_id: u32, key: &[u8]) -> Result<(), Unencodable> {
    let mut frame = begin(out, BackendTag::BackendKeyData);
    frame.bytes(&process_id.to_be_bytes());
    frame.key(key)?;
    frame.finish()
}

/// Appends NegotiateProtocolVersion: the newest version spoken (a whole version word, as PostgreSQL sends it) and the
/// options that are not known.
///
/// # Errors
/// A NUL inside an option, or more of them than a count can say.
pub fn negotiate_protocol_version<O: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    version: u32,
    options: impl IntoIterator<Item = O>,
) -> Result<(), Unencodable> {
    let mut frame = begin(out, BackendTag::NegotiateProtocolVersion);
    frame.bytes(&version.to_be_bytes());
    let count_at = frame.out.len();
    frame.bytes(&[0; 4]);
    let mut count = 0_i32;
    for option in options {
        frame.text("option", option.as_ref())?;
        count = count.saturating_add(1);
    }
    if let Some(slot) = frame.out.get_mut(count_at..).and_then(<[u8]>::first_chunk_mut::<4>) {
        *slot = count.to_be_bytes();
    }
    frame.finish()
}

/// Appends ParseComplete.
pub fn parse_complete(out: &mut Vec<u8>) {
    bare(out, BackendTag::ParseComplete);
}

/// Appends BindComplete.
pub fn bind_complete(out: &mut Vec<u8>) {
    bare(out, BackendTag::BindComplete);
}

/// Appends CloseComplete.
pub fn close_complete(out: &mut Vec<u8>) {
    bare(out, BackendTag::CloseComplete);
}

/// Appends NoData.
pub fn no_data(out: &mut Vec<u8>) {
    bare(out, BackendTag::NoData);
}

/// Appends PortalSuspended.
pub fn portal_suspended(out: &mut Vec<u8>) {
    bare(out, BackendTag::PortalSuspended);
}

/// Appends EmptyQueryResponse.
pub fn empty_query_response(out: &mut Vec<u8>) {
    bare(out, BackendTag::EmptyQueryResponse);
}

/// Appends ReadyForQuery.
pub fn ready_for_query(out: &mut Vec<u8>, status: TransactionStatus) {
    out.extend_from_slice(&[BackendTag::ReadyForQuery.byte(), 0, 0, 0, 5, status.byte()]);
}

/// Appends CommandComplete.
///
/// # Errors
/// A NUL inside the tag, or more bytes than a length can say.
pub fn command_complete(out: &mut Vec<u8>, tag: impl AsRef<[u8]>) -> Result<(), Unencodable> {
    let mut frame = begin(out, BackendTag::CommandComplete);
    frame.text("command tag", tag.as_ref())?;
    frame.finish()
}

/// Appends ParameterStatus.
///
/// # Errors
/// A NUL inside a text, or more bytes than a length can say.
pub fn parameter_status(
    out: &mut Vec<u8>,
    name: impl AsRef<[u8]>,
    value: impl AsRef<[u8]>,
) -> Result<(), Unencodable> {
    let mut frame = begin(out, BackendTag::ParameterStatus);
    frame.text("setting", name.as_ref())?;
    frame.text("value", value.as_ref())?;
    frame.finish()
}

/// Appends ErrorResponse with these codes (see [`crate::backend::field`]) and texts.
///
/// # Errors
/// A code of 0, a NUL inside a text, or more bytes than a length can say.
pub fn error_response<T: AsRef<[u8]>>(out: &mut Vec<u8>, fields: &[(u8, T)]) -> Result<(), Unencodable> {
    coded(out, BackendTag::ErrorResponse, fields)
}

/// Appends NoticeResponse.
///
/// # Errors
/// As for [`error_response`].
pub fn notice_response<T: AsRef<[u8]>>(out: &mut Vec<u8>, fields: &[(u8, T)]) -> Result<(), Unencodable> {
    coded(out, BackendTag::NoticeResponse, fields)
}

fn coded<T: AsRef<[u8]>>(out: &mut Vec<u8>, tag: BackendTag, fields: &[(u8, T)]) -> Result<(), Unencodable> {
    let mut frame = begin(out, tag);
    for (code, text) in fields {
        if *code == 0 {
            return Err(Unencodable::Empty { frame: tag.name(), field: "field code" });
        }
        frame.bytes(&[*code]);
        frame.text("field", text.as_ref())?;
    }
    frame.bytes(&[0]);
    frame.finish()
}

/// Appends NotificationResponse.
///
/// # Errors
/// A NUL inside a text, or more bytes than a length can say.
pub fn notification_response(
    out: &mut Vec<u8>,
    process_id: u32,
    channel: impl AsRef<[u8]>,
    payload: impl AsRef<[u8]>,
) -> Result<(), Unencodable> {
    let mut frame = begin(out, BackendTag::NotificationResponse);
    frame.bytes(&process_id.to_be_bytes());
    frame.text("channel", channel.as_ref())?;
    frame.text("payload", payload.as_ref())?;
    frame.finish()
}

/// Appends RowDescription.
///
/// # Errors
/// A NUL inside a name, more than 65,535 columns, or more bytes than a length can say.
pub fn row_description(out: &mut Vec<u8>, fields: &[FieldDescription<'_>]) -> Result<(), Unencodable> {
    let mut frame = begin(out, BackendTag::RowDescription);
    frame.count("columns", fields.len())?;
    for field in fields {
        frame.text("column name", field.name)?;
        frame.bytes(&field.table_oid.to_be_bytes());
        frame.bytes(&field.attribute.to_be_bytes());
        frame.bytes(&field.type_oid.to_be_bytes());
        frame.bytes(&field.type_length.to_be_bytes());
        frame.bytes(&field.type_modifier.to_be_bytes());
        frame.bytes(&field.format.code().to_be_bytes());
    }
    frame.finish()
}

/// Appends ParameterDescription.
///
/// # Errors
/// More than 65,535 types.
pub fn parameter_description(out: &mut Vec<u8>, types: &[u32]) -> Result<(), Unencodable> {
    let mut frame = begin(out, BackendTag::ParameterDescription);
    frame.oids("parameter types", types)?;
    frame.finish()
}

/// Appends DataRow; `None` is NULL.
///
/// # Errors
/// More than 65,535 columns, or more bytes than a length can say.
pub fn data_row(out: &mut Vec<u8>, columns: &[Option<&[u8]>]) -> Result<(), Unencodable> {
    let mut frame = begin(out, BackendTag::DataRow);
    frame.values("columns", columns)?;
    frame.finish()
}

/// Appends FunctionCallResponse, for scripted servers.
///
/// # Errors
/// More bytes than a length can say.
pub fn function_call_response(out: &mut Vec<u8>, value: Option<&[u8]>) -> Result<(), Unencodable> {
    let mut frame = begin(out, BackendTag::FunctionCallResponse);
    frame.value("result", value)?;
    frame.finish()
}

/// Appends CopyInResponse.
///
/// # Errors
/// More than 65,535 columns.
pub fn copy_in_response(out: &mut Vec<u8>, overall: Format, columns: &[Format]) -> Result<(), Unencodable> {
    copy_response(out, BackendTag::CopyInResponse, overall, columns)
}

/// Appends CopyOutResponse.
///
/// # Errors
/// More than 65,535 columns.
pub fn copy_out_response(out: &mut Vec<u8>, overall: Format, columns: &[Format]) -> Result<(), Unencodable> {
    copy_response(out, BackendTag::CopyOutResponse, overall, columns)
}

/// Appends CopyBothResponse, for scripted servers: a session that the gateway serves never replicates.
///
/// # Errors
/// More than 65,535 columns.
pub fn copy_both_response(out: &mut Vec<u8>, overall: Format, columns: &[Format]) -> Result<(), Unencodable> {
    copy_response(out, BackendTag::CopyBothResponse, overall, columns)
}

fn copy_response(
    out: &mut Vec<u8>,
    tag: BackendTag,
    overall: Format,
    columns: &[Format],
) -> Result<(), Unencodable> {
    let mut frame = begin(out, tag);
    let [_, overall] = overall.code().to_be_bytes();
    frame.bytes(&[overall]);
    frame.formats("columns", columns)?;
    frame.finish()
}
