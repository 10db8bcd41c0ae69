//! Signing a policy, and what a configuration with signers makes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Parser;
use pgturnstile_rules::policy::Policy;

use super::super::Exit;
use super::super::out::told;
use super::PolicyArgs;
use crate::config::{Config, Files};
use crate::evidence::note::SigningKey;
use crate::serve::bundle::{self, Attribution};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: PolicyArgs,
}

/// A folder with a configuration, a policy with an include, and keys of Kim and Lee.
fn folder(signers: &[&str], more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    for (at, name) in (1..).zip(["kim@example.com", "lee@example.com"]) {
        let key = SigningKey::new(name, &[at; 32]).unwrap();
        let file = &name[..3];
        put(file, &key.spelled());
        fs::set_permissions(folder.path().join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let verifiers: Vec<String> = signers
        .iter()
        .map(|name| {
            let seed = if name.starts_with("kim") { 1 } else { 2 };
            format!("{:?}", SigningKey::new(name, &[seed; 32]).unwrap().verifier().to_string())
        })
        .collect();
    put(
        "pgturnstile.toml",
        &format!(
            "version = 1\n[gateway]\npolicy_signers = [{}]\n{more}\n[[listener]]\naddress = \"127.0.0.1:6432\"\n\
             tls = {{ certificate = \"c\", key = \"k\" }}\nauth = \"token-password\"\n\
             [[issuer]]\nname = \"dev\"\nissuer = \"https://id.example.com\"\naudiences = [\"a\"]\njwks = \"discover\"\n\
             algorithms = [\"ES256\"]\n[credential.c]\nuser = \"u\"\npassword = {{ file = \"p\" }}\n\
             [[target]]\nname = \"t\"\naddress = \"127.0.0.1:5432\"\ndatabase = \"d\"\ntls = {{ mode = \"disable\" }}\ncontrol = \"c\"\n",
            verifiers.join(", ")
        ),
    );
    put("policy.toml", "version = 1\ninclude = [\"more.toml\"]\n");
    put("more.toml", "version = 1\n");
    fs::create_dir(folder.path().join("state")).unwrap();
    folder
}

fn sign(folder: &Path, key: &str, more: &[&str]) -> Exit {
    let path = |name: &str| folder.join(name).display().to_string();
    let (policy, key) = (path("policy.toml"), path(key));
    let fixed = ["policy", "sign", &policy, "--key", &key];
    let line = Line::try_parse_from(fixed.iter().chain(more)).unwrap();
    told(|out| super::run(&line.args, out)).0
}

/// As a load does: whose policy it is, and that it is remembered.
fn loaded(folder: &Path) -> Result<Attribution, String> {
    let config = Config::load_with(&folder.join("pgturnstile.toml"), Files::Skip)
        .map_err(|findings| findings.iter().map(ToString::to_string).collect::<String>())?;
    let policy = Policy::load(&config.gateway.policy).unwrap();
    let attribution = bundle::attributed(&config, &policy)?;
    bundle::not_behind(&config, &attribution)?;
    bundle::remember(&config, &attribution)?;
    Ok(attribution)
}

#[test]
fn without_signers_nobody_vouches_and_nothing_is_remembered() {
    let folder = folder(&[], "");
    assert_eq!(loaded(folder.path()).unwrap().by, "unattributed");
    assert!(!folder.path().join("state/policy.serial").exists());
}

#[test]
fn a_signed_policy_says_by_whom_and_every_change_takes_a_new_signature() {
    let folder = folder(&["kim@example.com", "lee@example.com"], "");
    let at = folder.path();
    assert!(loaded(at).unwrap_err().contains("must be signed"));
    assert_eq!(sign(at, "kim", &[]), Exit::Yes);
    assert_eq!(loaded(at).unwrap().by, "kim@example.com");
    // A comment in what it includes is a change.
    fs::write(at.join("more.toml"), "version = 1\n# wider\n").unwrap();
    assert!(loaded(at).unwrap_err().contains("signed for another policy"));
    assert_eq!(sign(at, "lee", &[]), Exit::Yes);
    let attribution = loaded(at).unwrap();
    assert_eq!((attribution.by.as_str(), attribution.bundle.unwrap().serial), ("lee@example.com", 2));
    // What was signed and then changed in the note is not signed.
    let note = fs::read_to_string(at.join("policy.toml.note")).unwrap();
    fs::write(at.join("policy.toml.note"), note.replace("serial 2", "serial 3")).unwrap();
    assert!(loaded(at).unwrap_err().contains("bears 0 signature(s)"));
}

#[test]
fn two_signatures_of_one_person_are_one() {
    let folder = folder(&["kim@example.com", "lee@example.com"], "policy_signatures_min = 2");
    let at = folder.path();
    for _ in 0..2 {
        assert_eq!(sign(at, "kim", &[]), Exit::Yes);
        assert!(loaded(at).unwrap_err().contains("bears 1 signature(s)"));
    }
    // Written twice by hand, it is still one.
    let note = fs::read_to_string(at.join("policy.toml.note")).unwrap();
    let last = note.lines().last().unwrap();
    fs::write(at.join("policy.toml.note"), format!("{note}{last}\n")).unwrap();
    assert!(loaded(at).unwrap_err().contains("bears 1 signature(s)"));
    fs::write(at.join("policy.toml.note"), note).unwrap();
    assert_eq!(sign(at, "lee", &[]), Exit::Yes);
    assert_eq!(loaded(at).unwrap().by, "kim@example.com, lee@example.com");
}

#[test]
fn a_key_that_the_configuration_does_not_name_counts_for_nothing() {
    let folder = folder(&["kim@example.com"], "");
    assert_eq!(sign(folder.path(), "lee", &[]), Exit::Yes);
    assert!(loaded(folder.path()).unwrap_err().contains("bears 0 signature(s)"));
    let too_few = self::folder(&["kim@example.com"], "policy_signatures_min = 2");
    assert!(loaded(too_few.path()).unwrap_err().contains("no policy could ever"));
}

#[test]
fn an_older_policy_does_not_come_back_by_its_old_signature() {
    let folder = folder(&["kim@example.com"], "");
    let at = folder.path();
    assert_eq!(sign(at, "kim", &[]), Exit::Yes);
    let first = fs::read(at.join("policy.toml.note")).unwrap();
    loaded(at).unwrap();
    fs::write(at.join("more.toml"), "version = 1\n# tighter\n").unwrap();
    assert_eq!(sign(at, "kim", &[]), Exit::Yes);
    loaded(at).unwrap();
    loaded(at).unwrap();
    fs::write(at.join("more.toml"), "version = 1\n").unwrap();
    fs::write(at.join("policy.toml.note"), first).unwrap();
    assert!(loaded(at).unwrap_err().contains("--serial 3"));
    // Nor does another one under the serial that is in force.
    assert_eq!(sign(at, "kim", &["--serial", "2"]), Exit::Yes);
    assert!(loaded(at).unwrap_err().contains("--serial 3"));
    assert_eq!(sign(at, "kim", &["--serial", "3"]), Exit::Yes);
    loaded(at).unwrap();
    // What is remembered fails closed where it cannot be read.
    fs::write(at.join("state/policy.serial"), "3\n").unwrap();
    assert!(loaded(at).unwrap_err().contains("does not hold the serial"));
}

#[test]
fn a_policy_that_does_not_load_is_not_signed() {
    let folder = folder(&["kim@example.com"], "");
    fs::write(folder.path().join("policy.toml"), "version = 1\nnonsense = 1\n").unwrap();
    assert_eq!(sign(folder.path(), "kim", &[]), Exit::No);
    assert!(!folder.path().join("policy.toml.note").exists());
}
