//! A verified identity on a target, as the policy sees it for the whole session.
//!
//! Owns: the choice of the access entry and the rules that apply, found once. May not: judge. Fails closed: no entry, or
//! several without the client choosing one, is [`NoAccess`]; a group whose claims are missing counts as in for
//! restricts and as out for everything else.

use std::sync::Arc;

use crate::class::Class;
use crate::mask::detect::Detectors;
use crate::mask::plan::Style;
use crate::policy::Policy;
use crate::policy::group::{Group, Member};
use crate::policy::index::Index;
use crate::policy::labelled::Labelled;
use crate::policy::model::{Access, DETECTOR_STYLES, Disclose, Groups, Hold};
use crate::policy::object::Object;
use crate::policy::principal::Principal;

/// What [`Policy::judge`] needs to know of a session.
#[derive(Debug)]
pub struct Subject {
    pub(crate) policy_hash: [u8; 32],
    pub(crate) permits: Index,
    pub(crate) restricts: Index,
    access: Arc<Access>,
    target: Arc<str>,
    groups: Vec<Arc<str>>,
    unknown: Vec<(Arc<str>, String)>,
    detectors: Detectors,
}

impl Subject {
    /// The access entry: login, mode, guards, durability.
    pub fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// The target's name.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The detectors that look at what it reads.
    pub fn detectors(&self) -> &Detectors {
        &self.detectors
    }

    /// The groups it is in.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(AsRef::as_ref)
    }

    /// Whether a permit discloses every label of the target to it where it listens: payloads of notifications come from code
    /// that may have read anything.
    pub fn hears_in_clear(&self, policy: &Policy, labelled: &Labelled) -> bool {
        let (class, object) = (Class::SessionListen, Object::Whole);
        let covering = self.permits.all_covering(&policy.model.permits, class, &object);
        labelled.is_empty()
            || covering.into_iter().filter_map(|at| policy.model.permits.get(at)).any(
                |permit| matches!(permit.disclose, Disclose::ClearUpTo(tier) if tier >= labelled.strictest()),
            )
    }

    /// Groups whose membership the token does not tell, and the claim that is missing or unclear.
    pub fn unknown_groups(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unknown.iter().map(|(group, claim)| (group.as_ref(), claim.as_str()))
    }
}

/// Why an identity gets no session on a target. Safe to show to the client, who is authenticated by now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAccess {
    /// No entry.
    #[error(
        "no access entry of the policy lets you on target {target}{}. Next: ask whoever keeps the policy",
        unknown.as_ref().map(|(group, claim)| format!(" (group {group} needs the claim {claim}, which your token does not carry)")).unwrap_or_default()
    )]
    None {
        /// The target.
        target: String,
        /// A group that the token does not tell about, and the missing claim.
        unknown: Option<(String, String)>,
    },
    /// Several entries, and the client named none.
    #[error("several access entries let you on target {target}: {}. Next: connect with one of them as the user name", ids.join(", "))]
    Ambiguous {
        /// The target.
        target: String,
        /// Their ids.
        ids: Vec<String>,
    },
}

/// Membership of a principal in every group of a policy.
struct Membership(Vec<Member>);

impl Membership {
    fn new(policy: &Policy, principal: &Principal) -> Self {
        Self(policy.model.groups.iter().map(|group| group.member(principal)).collect())
    }

    /// Certainly in one of them.
    fn is_in(&self, groups: &Groups) -> bool {
        match groups {
            Groups::Everyone => true,
            Groups::Listed(listed) => listed.iter().any(|at| self.0.get(*at) == Some(&Member::Yes)),
        }
    }

    /// Perhaps in one of them.
    fn may_be_in(&self, groups: &Groups) -> bool {
        match groups {
            Groups::Everyone => true,
            Groups::Listed(listed) => listed.iter().any(|at| self.0.get(*at) != Some(&Member::No)),
        }
    }
}

impl Policy {
    /// The access entry of `principal` on `target`. `asked` is the user name of the startup packet: where several
    /// entries match, the one with that id is meant; where one matches, any user name will do.
    ///
    /// # Errors
    /// [`NoAccess`], whose text may be shown to the client.
    pub fn access(
        &self,
        principal: &Principal,
        target: &str,
        asked: Option<&str>,
    ) -> Result<&Arc<Access>, NoAccess> {
        self.choose(&Membership::new(self, principal), target, asked)
    }

    /// Everything about `principal` on `target` that stays the same for a session.
    ///
    /// # Errors
    /// [`NoAccess`], as [`Policy::access`].
    pub fn subject(
        &self,
        principal: &Principal,
        target: &str,
        asked: Option<&str>,
    ) -> Result<Subject, NoAccess> {
        let membership = Membership::new(self, principal);
        let access = Arc::clone(self.choose(&membership, target, asked)?);
        let permits = self.model.permits.iter().enumerate().filter_map(|(at, permit)| {
            (permit.targets.contain(target) && membership.is_in(&permit.groups)).then_some(at)
        });
        let restricts = self.model.restricts.iter().enumerate().filter_map(|(at, restrict)| {
            (restrict.targets.contain(target) && membership.may_be_in(&restrict.groups)).then_some(at)
        });
        let names = self.model.groups.iter().map(|group| &group.name).zip(&membership.0);
        Ok(Subject {
            policy_hash: self.hash(),
            permits: Index::new(&self.model.permits, permits),
            restricts: Index::new(&self.model.restricts, restricts),
            access,
            target: target.into(),
            groups: names
                .clone()
                .filter(|(_, member)| **member == Member::Yes)
                .map(|(name, _)| Arc::clone(name))
                .collect(),
            unknown: names.filter_map(unknown).collect(),
            detectors: self.detectors(&membership, target),
        })
    }

    /// The groups by which `principal` may approve what `hold` holds: those that it is certainly in.
    #[must_use]
    pub fn approves(&self, principal: &Principal, hold: &Hold) -> Vec<&str> {
        let approvers = hold.approvers.iter().filter_map(|at| self.model.groups.get(*at));
        let certainly = |group: &&Group| group.member(principal) == Member::Yes;
        approvers.filter(certainly).map(|group| &*group.name).collect()
    }

    /// The names of the groups that may approve what `hold` holds.
    #[must_use]
    pub fn approvers(&self, hold: &Hold) -> Vec<&str> {
        let approvers = hold.approvers.iter().filter_map(|at| self.model.groups.get(*at));
        approvers.map(|group| &*group.name).collect()
    }

    /// Like restricts, they tighten: who may be in a group counts as in. Of two styles for one detector the stricter is
    /// taken.
    fn detectors(&self, membership: &Membership, target: &str) -> Detectors {
        let strictness = |style: Style| DETECTOR_STYLES.iter().position(|(_, listed)| *listed == style);
        let mut detectors = Detectors::NONE;
        for detection in &self.model.detections {
            if !detection.targets.contain(target) || !membership.may_be_in(&detection.groups) {
                continue;
            }
            for detector in &detection.detect {
                let stricter = detectors
                    .style(*detector)
                    .is_none_or(|before| strictness(detection.style) < strictness(before));
                if stricter {
                    detectors = detectors.with(*detector, detection.style);
                }
            }
        }
        detectors
    }

    fn choose(
        &self,
        membership: &Membership,
        target: &str,
        asked: Option<&str>,
    ) -> Result<&Arc<Access>, NoAccess> {
        let matching: Vec<&Arc<Access>> = self
            .model
            .accesses
            .iter()
            .filter(|access| access.targets.contain(target) && membership.is_in(&access.groups))
            .collect();
        match matching.as_slice() {
            [] => Err(NoAccess::None {
                target: target.to_owned(),
                unknown: self
                    .model
                    .groups
                    .iter()
                    .map(|group| &group.name)
                    .zip(&membership.0)
                    .find_map(unknown)
                    .map(|(group, claim)| (group.to_string(), claim)),
            }),
            [only] => Ok(only),
            several => several.iter().find(|access| Some(&*access.id) == asked).copied().ok_or_else(|| {
                NoAccess::Ambiguous {
                    target: target.to_owned(),
                    ids: several.iter().map(|access| access.id.to_string()).collect(),
                }
            }),
        }
    }
}

fn unknown((name, member): (&Arc<str>, &Member)) -> Option<(Arc<str>, String)> {
    match member {
        Member::Unknown(claim) => Some((Arc::clone(name), claim.clone())),
        Member::Yes | Member::No => None,
    }
}
