//! FunctionCall (`F`): runs a function by oid with no SQL to judge. Server: `HandleFunctionRequest` (fastpath.c). The
//! gateway refuses it always; the view exists so that the refusal and the record can say which function was asked for.

use super::open;
use crate::{Format, Formats, FrontendTag, Malformed, Reason, Values};

/// A call by oid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionCall<'b> {
    function: u32,
    formats: Formats<'b>,
    arguments: Values<'b>,
    result: Format,
}

impl<'b> FunctionCall<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// A count or length that the frame cannot hold, an unknown format code, several formats that are not one for
    /// each argument, or bytes behind the result's format.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, FrontendTag::FunctionCall)?;
        let function = reader.u32("function oid")?;
        let formats = reader.formats("argument formats", "argument format")?;
        let arguments = reader.values("arguments", "argument")?;
        if formats.len() > 1 && formats.len() != arguments.len() {
            let what = Reason::FormatCountMismatch { formats: formats.len(), values: arguments.len() };
            return Err(reader.fault(what));
        }
        let result = reader.format("result format")?;
        reader.finish(Self { function, formats, arguments, result })
    }

    /// The function's oid.
    pub fn function(&self) -> u32 {
        self.function
    }

    /// The format codes of the arguments as sent.
    pub fn formats(&self) -> Formats<'b> {
        self.formats
    }

    /// The arguments' values.
    pub fn arguments(&self) -> Values<'b> {
        self.arguments
    }

    /// The format asked for the result.
    pub fn result(&self) -> Format {
        self.result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;

    static FIXTURE: &[u8] = b"F\0\0\0\x17\0\0\x05\x25\0\x01\0\x01\0\x01\0\0\0\x03abc\0\0";

    #[test]
    fn deconstruct() {
        let call = FunctionCall::parse(FIXTURE).unwrap();
        assert_eq!((call.function(), call.result()), (1317, Format::Text));
        assert_eq!(call.formats().of(0), Some(Format::Binary));
        assert_eq!(call.arguments().iter().collect::<Vec<_>>(), [Some(&b"abc"[..])]);
    }

    #[test]
    fn construct() {
        let mut frame = Vec::new();
        encode::function_call(&mut frame, 1317, &[Format::Binary], &[Some(b"abc")], Format::Text).unwrap();
        assert_eq!(frame, FIXTURE);
    }

    #[test]
    fn impossible_lengths() {
        let what = |frame: &[u8]| FunctionCall::parse(frame).unwrap_err().what;
        assert_eq!(what(b"F\0\0\0\x07\0\0\0"), Reason::Truncated { field: "function oid" });
        assert_eq!(what(b"F\0\0\0\x0c\0\0\0\0\0\0\0\0"), Reason::Truncated { field: "result format" });
        assert_eq!(
            what(b"F\0\0\0\x12\0\0\0\0\0\x02\0\0\0\0\0\0\0\0"),
            Reason::FormatCountMismatch { formats: 2, values: 0 }
        );
        assert_eq!(what(b"F\0\0\0\x0f\0\0\0\0\0\0\0\0\0\0\0"), Reason::TrailingBytes { count: 1 });
    }
}
