//! What comes out: permits add, restricts tighten, no permit means refuse.

use super::support::{judge, permit, policy, relation, restrict};
use crate::class::Class;
use crate::policy::Action;
use crate::resolve::Reach;

#[test]
fn no_permit_means_refuse() {
    let policy = policy("write", "");
    let judgement =
        judge(&policy, Class::ReadSelect, vec![relation("crm.orders", Class::ReadSelect, Reach::Table)]);
    assert_eq!(judgement.action, Action::Refuse);
    assert_eq!(judgement.sqlstate, "42501");
    assert_eq!(
        judgement.message,
        "pgturnstile refused SELECT on crm.orders: no permit of yours covers read.select on it (rule default-deny, \
         built in). Next: ask whoever keeps the policy for a permit on read.select for crm.orders."
    );
}

#[test]
fn a_blind_delete_that_the_policy_would_hold_is_refused_and_says_so() {
    let rules = permit("w", "\"write\"", "\"crm.*\"")
        + "[group.dba]\nany = [{ issuer = \"corp\", groups = [\"dba\"] }]\n"
        + &restrict(
            "any.blind-write",
            "\"write.update\", \"write.delete\"",
            "\"*\"",
            "when = { predicate = \"absent\" }\nthen = \"hold\"\n\
             hold = { approvers = [\"dba\"], quorum = 1, ttl_s = 3_600, in_transaction_ttl_s = 60, ticket_ttl_s = 3_600 }",
        );
    let policy = policy("write", &rules);
    let mut blind = relation("crm.orders", Class::WriteDelete, Reach::Table);
    let judgement = judge(&policy, Class::WriteDelete, vec![blind.clone()]);
    assert_eq!(judgement.action, Action::Allow, "{}", judgement.message);
    blind.predicate = crate::statement::facts::Predicate::Absent;
    let judgement = judge(&policy, Class::WriteDelete, vec![blind]);
    assert_eq!((judgement.action, judgement.asked), (Action::Refuse, Action::Hold));
    assert_eq!(
        judgement.message,
        "pgturnstile refused DELETE on crm.orders: write.delete without a predicate is held for approval, and holds \
         are not built into this version (rule any.blind-write, policy.toml:22). Next: add a WHERE clause that looks \
         at the columns of crm.orders, or ask whoever keeps the policy."
    );
}
