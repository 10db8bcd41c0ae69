//! The lines of what waits for people: holds and tickets.

use super::{Fields, plain};
use crate::evidence::describe::Value;
use crate::evidence::record::Kind;

/// `HELD as 7K3M-…: …`, who decided, how it ended.
pub(super) fn hold(kind: Kind, fields: &Fields) -> String {
    let text = |name: &str| fields.text(name);
    if kind == Kind::HoldOpened {
        return format!("   HELD as {} until it is approved; needs {}", text("hold"), text("needs"));
    }
    if kind == Kind::HoldEnded {
        let by = text("approved_by");
        let by = if by.is_empty() { by } else { format!(": {by}") };
        return format!("   hold {} {} ({}{by})", text("hold"), text("outcome"), text("reason"));
    }
    decided(fields, "hold")
}

/// `BECAME ticket 7K3M-…: …`, who decided, what came of it.
pub(super) fn ticket(kind: Kind, fields: &Fields) -> String {
    let text = |name: &str| fields.text(name);
    if kind == Kind::TicketOpened {
        return format!("   BECAME ticket {} ({}); needs {}", text("ticket"), text("why"), text("needs"));
    }
    if kind == Kind::TicketUsed {
        return format!("   passes by ticket {}, approved by {}", text("ticket"), text("approved_by"));
    }
    if kind == Kind::TicketEnded {
        return format!("ticket {} {}: {}", text("ticket"), text("outcome"), text("reason"));
    }
    decided(fields, "ticket")
}

/// Who decided on a hold or ticket, how, and whether that counts.
fn decided(fields: &Fields, what: &str) -> String {
    let text = |name: &str| fields.text(name);
    let who = format!("{} of {}, person {}", text("subject"), text("issuer"), text("person"));
    let refused = fields.value("refused");
    let counts = if matches!(refused, Value::Null) {
        String::new()
    } else {
        format!(" (does not count: {})", plain(refused))
    };
    let reason = text("reason");
    let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
    format!("{} of {what} {} by {who}{counts}{reason}", text("decision"), text(what))
}
