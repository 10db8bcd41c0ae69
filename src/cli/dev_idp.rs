//! `pgturnstile dev-idp`: the development identity provider, in the foreground.
//!
//! Owns: its arguments, the warning on standard error and the `[[issuer]]` block on standard output. The provider itself
//! is `identity::dev`. Exit code 2: an address or folder that cannot stand; 3: the machine did not cooperate.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use crate::identity::dev::server::DevServer;

use super::{Exit, Out};

/// Arguments of `dev-idp`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Run an identity provider FOR DEVELOPMENT ONLY: it signs any token for anybody on this machine.

It listens on a loopback address, keeps its key in the state folder, and serves OpenID Connect discovery, a key set and a
token endpoint: POST /token with grant_type=client_credentials, sub, groups, audience, ttl_s and claims (a JSON object).
The [[issuer]] block for pgturnstile.toml goes to standard output. Never name it in the configuration of a gateway that
guards anything real.",
    after_help = "\
Examples:
  pgturnstile dev-idp --state dev-idp
  curl -d 'grant_type=client_credentials&sub=agent-7&groups=bi' http://127.0.0.1:PORT/token
  pgturnstile token --idp-state dev-idp --sub agent-7 --groups bi

Exit codes:
  0  it was stopped
  2  the address or the folder cannot be used
  3  the machine did not cooperate"
)]
pub struct Args {
    /// Loopback address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Folder for the key and for what `pgturnstile token` and the gateway need; made if missing, for its owner only.
    #[arg(long, value_name = "DIR", default_value = "dev-idp")]
    pub state: PathBuf,
    /// Audience of tokens that ask for none.
    #[arg(long, value_name = "NAME", default_value = "pgturnstile")]
    pub audience: String,
}

/// Serves until it is interrupted or terminated.
///
/// # Errors
/// The output cannot be written, or the runtime cannot be built.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let server = match DevServer::bind(args.listen, &args.state, &args.audience).await {
            Ok(server) => server,
            Err(error) => {
                out.complain(format_args!("pgturnstile dev-idp: {error}"));
                return Ok(if error.is_trouble() { Exit::Trouble } else { Exit::Usage });
            }
        };
        out.complain(format_args!(
            "pgturnstile dev-idp: FOR DEVELOPMENT ONLY. Everybody on this machine can get any token from {},\n\
             and whoever can read {} can be anybody. Stop with Ctrl-C.",
            server.address(),
            args.state.display()
        ));
        out.write(&issuer_block(&server.identity().state.issuer, &args.audience))?;
        out.flush()?;
        server
            .serve(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            })
            .await;
        Ok(Exit::Yes)
    })
}

/// What the gateway's configuration needs to accept its tokens.
fn issuer_block(issuer: &str, audience: &str) -> String {
    format!(
        "# for pgturnstile.toml, development only\n\
         [[issuer]]\n\
         name = \"dev\"\n\
         issuer = {}\n\
         audiences = [{}]\n\
         jwks = \"discover\"\n\
         algorithms = [\"ES256\"]\n",
        toml::Value::from(issuer),
        toml::Value::from(audience)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_can_reach_is_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let args = Args {
            listen: "0.0.0.0:0".parse().expect("an address"),
            state: folder.path().join("idp"),
            audience: "pgturnstile".to_owned(),
        };
        let (mut standard, mut error) = (Vec::new(), Vec::new());
        let mut out = Out::captured(&mut standard, &mut error);
        let exit = run(&args, &mut out).expect("an exit");
        drop(out);
        assert_eq!(exit, Exit::Usage);
        let said = String::from_utf8(error).expect("text");
        assert!(said.contains("loopback") && said.contains("127.0.0.1"), "{said}");
        assert!(standard.is_empty() && !args.state.exists());
    }

    #[test]
    fn the_issuer_block_is_an_issuer_of_the_configuration() {
        let block: toml::Table =
            issuer_block("http://127.0.0.1:5556", "a \"quoted\" one").parse().expect("TOML");
        let issuer = &block["issuer"].as_array().expect("a list")[0];
        assert_eq!(issuer["issuer"].as_str(), Some("http://127.0.0.1:5556"));
        assert_eq!(issuer["audiences"][0].as_str(), Some("a \"quoted\" one"));
        assert_eq!(issuer["algorithms"][0].as_str(), Some("ES256"));
    }
}
