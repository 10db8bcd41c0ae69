//! Whether a portal still gives what its Bind was judged by.
//!
//! Owns: the judgement at Execute. May not: forward a frame, or change a name. Fails closed: a portal of an earlier batch is
//! judged again, by the policy and the catalog of now; one whose fields bear other labels now, or whose FETCH or EXECUTE
//! means another cursor or statement now, or may, is refused: the server goes by what they were at the Bind (`PortalRun`, src/backend/tcop/pquery.c).

use std::sync::{Arc, Weak};

use super::denial::Refusal;
use super::end::End;
use super::fence::behind_code;
use super::judge::{Decision, Verdict};
use super::masking;
use super::names::{Lookup, Portal};
use super::relay::Relay;

impl Relay {
    /// The cursor that a FETCH means now.
    pub(super) fn cursor_of(&self, decision: &Decision) -> Option<Weak<Portal>> {
        match self.names.portal(decision.fetches()?.as_bytes(), self.batch) {
            Lookup::Known(cursor) => Some(Arc::downgrade(&cursor)),
            Lookup::Absent | Lookup::Pending => None,
        }
    }

    pub(super) async fn judge_execution(&mut self, portal: &Portal) -> Result<Verdict, End> {
        let decision = &portal.statement.decision;
        let verdict = if portal.batch == Some(self.batch) {
            // Its Bind has passed, and was approved where it had to be.
            Verdict::Allow(Arc::clone(decision))
        } else {
            let transaction = self.transaction();
            self.judge.again(decision, &self.names, self.batch, transaction).await?
        };
        let now = match verdict {
            Verdict::Allow(now) => now,
            Verdict::Hold(now) if decision.required.is_some() && now.policy_hash == decision.policy_hash => {
                now
            }
            Verdict::Hold(now) => return Ok(Verdict::Refuse(not_approved(), Some(now))),
            Verdict::Refuse(..) | Verdict::Wait => return Ok(verdict),
        };
        if !self.relaxed_fence_admits_run(portal, &now) {
            return Ok(Verdict::Refuse(behind_code(), Some(now)));
        }
        if !masking::give_the_same(decision.fields(0), now.fields(0)) {
            return Ok(Verdict::Refuse(masking::gives_other_labels("portal"), Some(now)));
        }
        let same = match (&portal.cursor, self.cursor_of(decision)) {
            (Some(then), Some(now)) => Weak::ptr_eq(then, &now),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !self.names.is_certain(portal) {
            return Ok(Verdict::Refuse(given_away(&portal.name), Some(now)));
        }
        let stands = same && self.names.stands(portal);
        Ok(if stands { Verdict::Allow(now) } else { Verdict::Refuse(declared_anew(), Some(now)) })
    }
}

/// A portal of before, and a policy of now.
fn not_approved() -> Refusal {
    Refusal::built_in(
        "34000",
        "built-in: bound-before-approval",
        "pgturnstile refused to execute a portal: by the policy in force it needs approval, and it was bound under another. Next: \
         bind it again, where it is held until it is approved",
    )
}

/// The server would print the rows of the new cursor by the types of the old one.
fn declared_anew() -> Refusal {
    Refusal::built_in(
        "34000",
        "built-in: cursor-moved",
        "pgturnstile refused to execute a portal that is bound to a FETCH or EXECUTE: its cursor was closed or declared anew, or its \
         prepared statement made anew, since the Bind, or may have been. Next: bind it again",
    )
}

/// A portal's name may be that of a cursor of the code by now.
pub(super) fn given_away(name: &[u8]) -> Refusal {
    let said = |name: &str| {
        format!(
            "pgturnstile refused to use the portal{name}: code of the database's users ran since its Bind, and has given its name to \
             another cursor (refcursor), or may have. Next: bind it anew, and end its batch with Sync before such code runs"
        )
    };
    Refusal {
        sqlstate: "34000",
        message: said(&format!(" \"{}\"", name.escape_ascii())),
        safe: said(""),
        rule: "built-in: name-given-away".to_owned(),
    }
}
