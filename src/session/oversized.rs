//! Frames of the client that are larger than what is judged or held.
//!
//! Owns: which of them are refused while the session goes on. A server reads such a frame whole and answers it; here it is
//! refused by its header, and its bytes are dropped as they come, so that nothing is set aside for them and the next frame
//! is read where it stands. May not: send any of it on. Fails by ending the session: a length that no server takes, or a
//! kind that has no business being large.

use pgturnstile_proto::{FrontendTag, Limits, Malformed, Reason, SERVER_BYTES_MAX, frontend};

use super::copy_in::CopyPhase;
use super::denial::Refusal;
use super::end::End;
use super::gate::Step;
use super::refuse::{Skip, Stand};
use super::relay::Relay;

impl Relay {
    /// A frame whose header is over its limit, or cannot be read at all.
    pub(super) async fn over_limit(&mut self, fault: &Malformed) -> Result<Step, End> {
        let Reason::OverLimit { declared, limit } = fault.what else { return Err(End::client_fault(fault)) };
        let any = Limits {
            statement_bytes_max: usize::MAX,
            bind_bytes_max: usize::MAX,
            function_call_bytes_max: usize::MAX,
            ..self.limits.clone()
        };
        let Ok(Some(header)) = frontend::Header::peek(self.up.unscanned(), &any) else {
            return Err(End::client_fault(fault));
        };
        let (stand, setting, limit) = match header.tag {
            // What a frame may have beside its text is not what the setting says.
            FrontendTag::Query => (Stand::Query, "statement_bytes_max", self.limits.statement_bytes_max),
            FrontendTag::Parse => (Stand::Extended, "statement_bytes_max", self.limits.statement_bytes_max),
            FrontendTag::Bind => (Stand::Extended, "held_bytes_max", limit),
            FrontendTag::FunctionCall
            | FrontendTag::Close
            | FrontendTag::CopyData
            | FrontendTag::CopyDone
            | FrontendTag::CopyFail
            | FrontendTag::Describe
            | FrontendTag::Execute
            | FrontendTag::Flush
            | FrontendTag::Password
            | FrontendTag::Sync
            | FrontendTag::Terminate => return Err(End::client_fault(fault)),
        };
        if declared > SERVER_BYTES_MAX {
            return Err(End::client_fault(fault));
        }
        if self.gate.copy == CopyPhase::Awaited || self.waits_for_copy(header.tag) {
            return Ok(Step::Blocked);
        }
        self.leave_copy(header.tag);
        let here = self.up.unscanned().len().min(header.len);
        if self.gate.skip == Skip::No {
            let refusal = too_large(header.tag, declared, limit, setting);
            self.refuse(here, stand, refusal, None).await?;
        } else {
            self.up.swallow(here);
        }
        self.gate.stream_left = header.len - here;
        self.gate.stream_passes = false;
        Ok(Step::Done)
    }
}

fn too_large(tag: FrontendTag, bytes: usize, limit: usize, setting: &str) -> Refusal {
    Refusal::built_in(
        "54000",
        "built-in: frame-size",
        format!(
            "pgturnstile refused a {} message of {bytes} bytes: at most {limit} are taken ({setting}). Next: send it in \
             parts, use COPY for data, or have the limit raised",
            tag.name()
        ),
    )
}
