//! Known identity providers: what stands in for the keys that an `[[issuer]]` leaves out, and the traps of their claims.
//!
//! Owns one [`Preset`] for each provider, from its own documentation, and the checks that follow from it: of the issuer's
//! section alone (`check_section`) and of the groups of a policy (`fault_of`). May not: look at a token; the
//! verifier knows no presets, only the settings that they fill in. Fails closed: an audience that the provider gives
//! to everybody, an issuer of many tenants, a group that only names hold together which others can take, are errors.
//!
//! What a provider's tokens are bound by, and what somebody else can come to have:
//!
//! | preset | source | a group's entry must name | because |
//! |---|---|---|---|
//! | `github-actions` | docs.github.com, "OpenID Connect" | a numeric id of repository or owner | every workflow on GitHub gets tokens for any audience; names are given anew |
//! | `gitlab` | docs.gitlab.com, "ID tokens" | project, namespace or user id, and `ref_protected` | the same; and whoever may push a branch runs a pipeline |
//! | `entra` | learn.microsoft.com, "ID token claims" | `oid`, groups or roles, where it names people | `upn`, `email` and display names are given anew |
//! | `okta` | developer.okta.com, "ID token claims" | `sub`, `uid` or groups, where it names people | logins and addresses are given anew |
//! | `google` | developers.google.com, "OpenID Connect" | `sub` or `hd` | every Google account gets tokens; addresses are given anew |
//! | `gcp-metadata` | cloud.google.com, "VM identity" | `sub` or the project's number | every project gets tokens for any audience |
//! | `kubernetes` | kubernetes.io, "projected service account tokens" | – | the issuer is one cluster |

use pgturnstile_rules::policy::group::Match;

use super::keys::Reader;

/// A provider as its tokens are.
#[derive(Debug, PartialEq, Eq)]
pub struct Preset {
    /// The word in the configuration.
    pub word: &'static str,
    /// Its `iss`, where all customers share one.
    pub issuer: Option<&'static str>,
    /// What an issuer's URL of its own looks like, for the message where it is missing.
    issuer_form: &'static str,
    /// What it signs with.
    pub algorithms: &'static [&'static str],
    /// Where groups stand.
    pub groups: Option<&'static str>,
    /// Who stands behind.
    pub person: Option<&'static str>,
    /// What is kept in the evidence.
    pub keep: &'static [&'static str],
    /// Audiences (their beginnings) that tokens have which were made for others.
    audiences_of_others: &'static [(&'static str, &'static str)],
    /// Parts of an issuer's URL that stand for more than one customer.
    shared_issuers: &'static [&'static str],
    /// Claims that nobody else can come to have.
    anchors: &'static [&'static str],
    /// Whether anybody in the world gets tokens of this issuer for any audience: then every group needs an anchor.
    public: bool,
    /// Whether the provider's groups are anchors.
    groups_hold: bool,
    /// Claims that somebody else can come to have: a group that names one needs an anchor beside it.
    names: &'static [&'static str],
    /// A claim that every group must say something on, and why.
    must_say: Option<(&'static str, &'static str)>,
}

/// Every preset but `generic`, in the order of the reference.
pub static PRESETS: [Preset; 7] = [GITHUB_ACTIONS, GITLAB, ENTRA, OKTA, GOOGLE, GCP_METADATA, KUBERNETES];

/// The words, `generic` first: an issuer that is written out.
pub const WORDS: &[&str] = &[
    "generic",
    GITHUB_ACTIONS.word,
    GITLAB.word,
    ENTRA.word,
    OKTA.word,
    GOOGLE.word,
    GCP_METADATA.word,
    KUBERNETES.word,
];

const GITHUB_ACTIONS: Preset = Preset {
    word: "github-actions",
    issuer: Some("https://token.actions.githubusercontent.com"),
    issuer_form: "",
    algorithms: &["RS256"],
    groups: None,
    person: Some("actor_id"),
    keep: &[
        "repository_id",
        "repository",
        "repository_owner_id",
        "workflow_ref",
        "job_workflow_ref",
        "run_id",
        "run_attempt",
        "actor_id",
        "actor",
        "environment",
        "event_name",
        "ref",
        "ref_protected",
        "sha",
        "runner_environment",
    ],
    audiences_of_others: &[("https://github.com/", "GitHub's default: every workflow of that owner has it")],
    shared_issuers: &[],
    anchors: &["repository_id", "repository_owner_id", "enterprise_id"],
    public: true,
    groups_hold: false,
    names: &[],
    must_say: None,
};

const GITLAB: Preset = Preset {
    word: "gitlab",
    issuer: Some("https://gitlab.com"),
    issuer_form: "",
    algorithms: &["RS256"],
    groups: None,
    person: Some("user_id"),
    keep: &[
        "project_id",
        "project_path",
        "namespace_id",
        "user_id",
        "user_login",
        "pipeline_id",
        "pipeline_source",
        "job_id",
        "ref",
        "ref_protected",
        "environment",
        "environment_protected",
        "sha",
        "runner_id",
    ],
    audiences_of_others: &[("https://gitlab.com", "GitLab's own: jobs have it for other services")],
    shared_issuers: &[],
    anchors: &["project_id", "namespace_id", "user_id"],
    public: true,
    groups_hold: false,
    names: &[],
    must_say: Some((
        "ref_protected",
        "whoever may push a branch, or open a merge request, runs a pipeline. Next: add ref_protected = \"true\" (and protect the \
         branch), or [\"true\", \"false\"] where any branch may",
    )),
};

const ENTRA: Preset = Preset {
    word: "entra",
    issuer: None,
    issuer_form: "https://login.microsoftonline.com/TENANT-ID/v2.0",
    algorithms: &["RS256"],
    groups: Some("groups"),
    person: Some("oid"),
    keep: &["tid", "oid", "azp", "appid", "preferred_username", "roles"],
    audiences_of_others: &[
        ("https://graph.microsoft.com", "Microsoft Graph's"),
        ("00000003-0000-0000-c000-000000000000", "Microsoft Graph's"),
        ("https://management.", "Azure's own interface's"),
    ],
    shared_issuers: &[
        "/common",
        "/organizations",
        "/consumers",
        "{tenantid}",
        "9188040d-6c67-4c5b-b112-36a304b66dad",
    ],
    anchors: &["oid", "sub", "azp", "appid", "roles", "wids"],
    public: false,
    groups_hold: true,
    names: &["upn", "email", "preferred_username", "unique_name", "name", "verified_primary_email"],
    must_say: None,
};

const OKTA: Preset = Preset {
    word: "okta",
    issuer: None,
    issuer_form: "https://ORGANIZATION.okta.com, or https://ORGANIZATION.okta.com/oauth2/SERVER",
    algorithms: &["RS256"],
    groups: Some("groups"),
    person: Some("sub"),
    keep: &["sub", "uid", "cid", "email", "preferred_username"],
    audiences_of_others: &[("api://default", "the default authorization server's: every application has it")],
    shared_issuers: &[],
    anchors: &["sub", "uid", "cid"],
    public: false,
    groups_hold: true,
    names: &["email", "preferred_username", "name", "nickname", "login"],
    must_say: None,
};

const GOOGLE: Preset = Preset {
    word: "google",
    issuer: Some("https://accounts.google.com"),
    issuer_form: "",
    algorithms: &["RS256"],
    groups: None,
    person: Some("sub"),
    keep: &["sub", "email", "email_verified", "hd", "azp"],
    audiences_of_others: &[],
    shared_issuers: &[],
    anchors: &["sub", "hd"],
    public: true,
    groups_hold: false,
    names: &[],
    must_say: None,
};

const GCP_METADATA: Preset = Preset {
    word: "gcp-metadata",
    issuer: Some("https://accounts.google.com"),
    issuer_form: "",
    algorithms: &["RS256"],
    groups: None,
    person: None,
    keep: &[
        "sub",
        "email",
        "azp",
        "google.compute_engine.project_id",
        "google.compute_engine.project_number",
        "google.compute_engine.zone",
        "google.compute_engine.instance_id",
        "google.compute_engine.instance_name",
        "google.compute_engine.instance_creation_timestamp",
    ],
    audiences_of_others: &[],
    shared_issuers: &[],
    anchors: &["sub", "google.compute_engine.project_number"],
    public: true,
    groups_hold: false,
    names: &[],
    must_say: None,
};

const KUBERNETES: Preset = Preset {
    word: "kubernetes",
    issuer: None,
    issuer_form: "what `kubectl get --raw /.well-known/openid-configuration` says in `issuer`",
    algorithms: &["RS256", "ES256"],
    groups: None,
    person: None,
    keep: &[
        "sub",
        "/kubernetes.io/namespace",
        "/kubernetes.io/serviceaccount/name",
        "/kubernetes.io/serviceaccount/uid",
        "/kubernetes.io/pod/name",
        "/kubernetes.io/pod/uid",
        "/kubernetes.io/node/name",
    ],
    audiences_of_others: &[
        ("https://kubernetes.default.svc", "the cluster's own: every pod has it by default"),
        ("sts.amazonaws.com", "that of AWS: pods have it for AWS"),
    ],
    shared_issuers: &[],
    anchors: &[],
    public: false,
    groups_hold: false,
    names: &[],
    must_say: None,
};

impl Preset {
    /// The preset of this place among [`WORDS`]; `None` for `generic`.
    pub(super) fn of(index: usize) -> Option<&'static Preset> {
        index.checked_sub(1).and_then(|at| PRESETS.get(at))
    }

    /// What of an issuer's section is wrong for this provider.
    pub(super) fn check_section(&self, section: &Reader<'_>, issuer: Option<&str>, audiences: &[String]) {
        if issuer.is_none() {
            section.table.error(
                "issuer",
                format!(
                    "must be there: preset \"{}\" has one for each customer: {}",
                    self.word, self.issuer_form
                ),
            );
        }
        let shared = |url: &&str| self.shared_issuers.iter().any(|part| url.contains(part));
        if let Some(url) = issuer.filter(shared) {
            section.table.error(
                "issuer",
                format!("{url:?} stands for the tenants of everybody; write your own: {}", self.issuer_form),
            );
        }
        for audience in audiences {
            let others = self.audiences_of_others.iter().find(|(begins, _)| audience.starts_with(begins));
            if let Some((_, whose)) = others {
                section.table.error(
                    "audiences",
                    format!(
                        "{audience:?} is {whose}, so a token that was made for something else would open a session. Next: choose one of \
                         your own, such as \"pgturnstile\", and ask for it where tokens are fetched"
                    ),
                );
            }
        }
    }

    /// What is wrong with a group's entry over tokens of this provider, and what next; `None`: nothing.
    pub(super) fn fault_of(&self, entry: &Match) -> Option<String> {
        let says = |claim: &str| entry.claims.iter().any(|(path, _)| path == claim);
        let held =
            self.anchors.iter().any(|anchor| says(anchor)) || (self.groups_hold && entry.groups.is_some());
        let name = self.names.iter().find(|name| says(name));
        let anchors = || {
            let mut list: Vec<String> = self.anchors.iter().map(|anchor| format!("`{anchor}`")).collect();
            if self.groups_hold {
                list.push("`groups`".to_owned());
            }
            list.join(", ")
        };
        if !held && self.public {
            return Some(format!(
                "an entry for {} tokens must name one of {}: anybody gets tokens of this issuer for any audience, and names are given \
                 to others when they become free. Next: add one of these to the entry of issuer \"{}\"",
                self.word,
                anchors(),
                entry.issuer
            ));
        }
        if let (false, Some(name)) = (held, name) {
            return Some(format!(
                "`{name}` alone names nobody in {} tokens: it can be changed, and given to somebody else. Next: name one of {} in the entry \
                 of issuer \"{}\"",
                self.word,
                anchors(),
                entry.issuer
            ));
        }
        match self.must_say {
            Some((claim, why)) if !says(claim) => Some(format!(
                "the entry of issuer \"{}\" must say what `{claim}` has to be: {why}",
                entry.issuer
            )),
            Some(_) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(claims: &[&str], groups: bool) -> Match {
        Match {
            issuer: "it".to_owned(),
            groups: groups.then(|| vec!["g".to_owned()]),
            claims: claims.iter().map(|claim| ((*claim).to_owned(), vec![json!("1")])).collect(),
        }
    }

    #[test]
    fn words_and_presets_are_one_list() {
        assert_eq!(WORDS.len(), PRESETS.len() + 1);
        assert_eq!(Preset::of(0), None);
        for (index, preset) in PRESETS.iter().enumerate() {
            assert_eq!(WORDS[index + 1], preset.word);
            assert_eq!(Preset::of(index + 1), Some(preset));
            // Who must write the URL is told its form, and nobody else.
            assert_eq!(preset.issuer.is_none(), !preset.issuer_form.is_empty(), "{}", preset.word);
            for algorithm in preset.algorithms {
                assert!(super::super::model::ALGORITHMS.contains(algorithm), "{algorithm}");
            }
        }
    }

    #[test]
    fn a_group_is_bound_to_what_nobody_else_can_have() {
        let fault = |word: &str, claims: &[&str], groups: bool| {
            let preset = PRESETS.iter().find(|preset| preset.word == word).expect("a preset");
            preset.fault_of(&entry(claims, groups))
        };
        for (word, claims, groups) in [
            ("github-actions", &[][..], false),
            ("github-actions", &["repository", "environment"], false),
            ("github-actions", &["sub"], false),
            ("github-actions", &["actor"], true),
            ("gitlab", &["project_path", "ref_protected"], false),
            ("gitlab", &["project_id"], false),
            ("entra", &["upn"], false),
            ("okta", &["email"], false),
            ("google", &["email"], false),
            ("google", &[], true),
            ("gcp-metadata", &["email"], false),
            ("gcp-metadata", &["google.compute_engine.project_id"], false),
        ] {
            let said =
                fault(word, claims, groups).unwrap_or_else(|| panic!("{word} {claims:?} {groups} passed"));
            assert!(said.contains("Next: "), "{said}");
        }
        for (word, claims, groups) in [
            ("github-actions", &["repository_id", "environment"][..], false),
            ("github-actions", &["repository_owner_id"], false),
            ("gitlab", &["project_id", "ref_protected"], false),
            ("entra", &["upn"], true),
            ("entra", &["oid"], false),
            ("entra", &[], false),
            ("okta", &["email", "sub"], false),
            ("google", &["email", "hd"], false),
            ("gcp-metadata", &["google.compute_engine.project_number"], false),
            ("kubernetes", &["sub"], false),
            ("kubernetes", &["/kubernetes.io/namespace"], false),
        ] {
            assert_eq!(fault(word, claims, groups), None, "{word} {claims:?} {groups}");
        }
    }
}
