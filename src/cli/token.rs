//! `pgturnstile token`: a token of the development identity provider, without asking it.
//!
//! Owns: its arguments and the one line on standard output, which is the token and nothing else, so that
//! `PGPASSWORD=$(pgturnstile token …)` works. The warning goes to standard error. Reads the state folder only.

use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use crate::identity::dev::server::TTL_S;
use crate::identity::dev::{DevError, DevIdentity, TTL_S_MAX, Wish};

use super::{Exit, Out};

/// Arguments of `token`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Print a token signed with the key of `pgturnstile dev-idp`. FOR DEVELOPMENT ONLY.

The provider is not asked and need not run: the state folder is enough. Standard output gets the token and nothing else.",
    after_help = "\
Examples:
  PGPASSWORD=$(pgturnstile token --idp-state dev-idp --sub agent-7 --groups bi) psql 'host=localhost port=6432 …'
  pgturnstile token --sub kim --claim email=kim@example.com --claims-json '{\"email_verified\":true}'
  pgturnstile token --sub agent-7 --claim agent.model=m-1 --ttl 60

Exit codes:
  0  the token is on standard output
  2  there is no provider in the folder, or the claims contradict each other"
)]
pub struct Args {
    /// State folder of `pgturnstile dev-idp`.
    #[arg(long, value_name = "DIR", default_value = "dev-idp")]
    pub idp_state: PathBuf,
    /// Whose token: the claim sub.
    #[arg(long, value_name = "SUBJECT")]
    pub sub: String,
    /// Groups, separated by commas or repeated.
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    pub groups: Vec<String>,
    /// Another claim as text, NAME=VALUE; a dot nests, so agent.model=x is {"agent":{"model":"x"}}. May be repeated.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = text_claim)]
    pub claims: Vec<(String, String)>,
    /// Other claims as one JSON object, for numbers, booleans, lists and names with dots.
    #[arg(long, value_name = "JSON", value_parser = json_claims)]
    pub claims_json: Option<Map<String, Value>>,
    /// Seconds until it expires.
    #[arg(long, value_name = "SECONDS", default_value_t = TTL_S, value_parser = clap::value_parser!(u32).range(1..=i64::from(TTL_S_MAX)))]
    pub ttl: u32,
    /// Audience; may be repeated. Default: the provider's own.
    #[arg(long, value_name = "NAME")]
    pub audience: Vec<String>,
}

fn text_claim(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if name.split('.').all(|step| !step.is_empty()) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        Some(_) | None => Err("write NAME=VALUE, e.g. email=kim@example.com or agent.model=x".to_owned()),
    }
}

fn json_claims(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(claims)) => Ok(claims),
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            Err("write a JSON object, e.g. {\"email_verified\":true}".to_owned())
        }
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

/// Mints and prints.
///
/// # Errors
/// The output cannot be written.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    match mint(args) {
        Ok((token, issuer)) => {
            out.complain(format_args!(
                "pgturnstile token: FOR DEVELOPMENT ONLY; valid {} s, issuer {issuer}",
                args.ttl
            ));
            out.line(token.expose_secret())?;
            Ok(Exit::Yes)
        }
        Err(error) => {
            out.complain(format_args!("pgturnstile token: {error}"));
            Ok(if error.is_trouble() { Exit::Trouble } else { Exit::Usage })
        }
    }
}

fn mint(args: &Args) -> Result<(SecretString, String), DevError> {
    let identity = DevIdentity::load(&args.idp_state)?;
    let mut claims = args.claims_json.clone().unwrap_or_default();
    for (name, value) in &args.claims {
        nest(&mut claims, name, value)?;
    }
    let wish = Wish {
        subject: args.sub.clone(),
        groups: args.groups.clone(),
        audiences: args.audience.clone(),
        ttl_s: args.ttl,
        claims,
    };
    let now_s = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(_) => 0,
    };
    Ok((identity.mint(&wish, now_s)?, identity.state.issuer))
}

/// Sets `a.b.c` to a text, making the objects on the way.
fn nest(claims: &mut Map<String, Value>, name: &str, value: &str) -> Result<(), DevError> {
    let clash = || DevError::Clash(name.to_owned());
    let (path, last) = name.rsplit_once('.').map_or((None, name), |(path, last)| (Some(path), last));
    let mut object = claims;
    for step in path.into_iter().flat_map(|path| path.split('.')) {
        object = object
            .entry(step)
            .or_insert_with(|| Value::Object(Map::new()))
            .as_object_mut()
            .ok_or_else(clash)?;
    }
    match object.insert(last.to_owned(), value.into()) {
        None => Ok(()),
        Some(_) => Err(clash()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_claims_nest_and_contradictions_are_refused() {
        let mut claims = Map::new();
        for (name, value) in
            [("email", "k@e.x"), ("agent.model", "m"), ("agent.version", "3"), ("a.b.c", "d")]
        {
            nest(&mut claims, name, value).expect("a claim");
        }
        let expected = serde_json::json!({
            "email": "k@e.x", "agent": { "model": "m", "version": "3" }, "a": { "b": { "c": "d" } },
        });
        assert_eq!(Value::Object(claims.clone()), expected);
        for clash in ["email", "email.domain", "agent", "agent.model"] {
            assert!(nest(&mut claims, clash, "x").is_err(), "{clash}");
        }
    }

    #[test]
    fn claims_on_the_command_line_are_read_strictly() {
        assert_eq!(text_claim("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert_eq!(text_claim("a="), Ok(("a".to_owned(), String::new())));
        for bad in ["a", "=x", ".a=x", "a..b=x"] {
            assert!(text_claim(bad).is_err(), "{bad}");
        }
        assert!(json_claims("{\"a\":1}").is_ok());
        for bad in ["[]", "7", "{"] {
            assert!(json_claims(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn standard_output_holds_the_token_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        DevIdentity::set_up(folder.path(), "http://127.0.0.1:1", "pgturnstile").expect("an identity");
        let args = Args {
            idp_state: folder.path().to_owned(),
            sub: "agent-7".to_owned(),
            groups: vec!["bi".to_owned()],
            claims: vec![("agent.model".to_owned(), "m".to_owned())],
            claims_json: None,
            ttl: 60,
            audience: Vec::new(),
        };
        let (mut standard, mut error) = (Vec::new(), Vec::new());
        let mut out = Out::captured(&mut standard, &mut error);
        assert_eq!(run(&args, &mut out).expect("an exit"), Exit::Yes);
        drop(out);
        let text = String::from_utf8(standard).expect("text");
        let token = text.strip_suffix('\n').expect("one line");
        assert_eq!(token.split('.').count(), 3);
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
        let said = String::from_utf8(error).expect("text");
        assert!(said.contains("FOR DEVELOPMENT ONLY") && !said.contains(token), "{said}");
        let missing = Args { idp_state: folder.path().join("none"), ..args };
        let (mut standard, mut error) = (Vec::new(), Vec::new());
        let mut out = Out::captured(&mut standard, &mut error);
        assert_eq!(run(&missing, &mut out).expect("an exit"), Exit::Usage);
        drop(out);
        assert!(standard.is_empty() && String::from_utf8(error).expect("text").contains("dev-idp --state"));
    }
}
