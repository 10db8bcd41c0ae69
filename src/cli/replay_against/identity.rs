//! Whether the database that --against leads to is a target, whatever the way to it: an address says nothing behind a tunnel.
//!
//! Owns: the questions to both, and what their answers mean. A running server is told by the time at which it started, its database by
//! its oid: a cluster that was restored from a backup bears the system identifier of the one that it was taken from. May not: run
//! anything else on a target, or take a target that does not answer for another database: fails closed.
//!
//! ```text
//!  a target of the same database name? ── none ──> it is none
//!        │ ask both: server's start, oid, system identifier, in recovery?
//!        ├── the same ──────────────────────────────> refused
//!        ├── another server ────────────────────────> it is none
//!        └── no answer, or a standby of the same ───> refused, with why it cannot be told
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::scratch::Scratch;
use super::{Against, CONFIG_DEFAULT};
use crate::audit::event::Target;
use crate::backend::query::query;
use crate::backend::settings::{Address, Guards};
use crate::cli::source::{self, Source, Wrong};
use crate::config::{Config, Files};
use crate::evidence::describe::escaped;
use crate::serve::mapping;

/// How long a target may take to answer.
const TARGET_DEADLINE: Duration = Duration::from_secs(30);
/// What every login may ask.
const SERVER: &str = "SELECT pg_catalog.current_database(), d.oid, \
     (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8, pg_catalog.pg_is_in_recovery() \
     FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";
/// What not every provider lets a login ask.
const SYSTEM: &str = "SELECT system_identifier FROM pg_catalog.pg_control_system()";

/// Which database of which running server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    database: String,
    oid: String,
    started_us: String,
    recovering: bool,
    system: Option<String>,
}

/// What two identities are to one another.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Same,
    Other,
    Unknown(&'static str),
}

impl Identity {
    /// Asks it over a connection.
    pub(super) async fn ask<S>(stream: &mut S, deadline: Instant) -> Result<Identity, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let answer = query(stream, SERVER, deadline).await.map_err(|error| error.to_string())?;
        let [row] = &answer.rows[..] else { return Err("it does not say which database it is".to_owned()) };
        let [Some(database), Some(oid), Some(started_us), Some(recovering)] = &row[..] else {
            return Err("it does not say which database it is".to_owned());
        };
        // Denied, or unknown: the start and the oid have to do.
        let system = query(stream, SYSTEM, deadline).await.ok();
        let system = system.and_then(|answer| answer.rows.into_iter().next()?.into_iter().next()?);
        Ok(Identity {
            database: database.clone(),
            oid: oid.clone(),
            started_us: started_us.clone(),
            recovering: recovering == "t",
            system,
        })
    }

    /// Whether it is the target's database.
    fn told(&self, target: &Identity) -> Told {
        let system_differs =
            matches!((&self.system, &target.system), (Some(one), Some(other)) if one != other);
        if system_differs || self.oid != target.oid {
            return Told::Other;
        }
        if self.started_us == target.started_us {
            return Told::Same;
        }
        if target.recovering && !self.recovering {
            return Told::Unknown("that target is a standby, and this may be its primary");
        }
        Told::Other
    }
}

/// A target that the scratch database must not be.
pub(super) struct Kept {
    said: String,
    database: String,
    source: Result<Source, String>,
}

/// The recorded session's target and those of the configuration; empty with `--even-a-target`.
pub(super) fn kept(args: &Against, recorded: Option<&Target>) -> Vec<Kept> {
    if args.even_a_target {
        return Vec::new();
    }
    let path = args.config.clone().unwrap_or_else(|| PathBuf::from(CONFIG_DEFAULT));
    // One that cannot be read was refused before, where it was named.
    let config = Config::load_with(&path, Files::Skip).ok();
    let targets = config.as_ref().map_or(&[][..], |config| config.targets.as_slice());
    let mut all: Vec<Kept> = targets
        .iter()
        .map(|target| Kept {
            said: format!("target {} of {}", target.name, path.display()),
            database: mapping::settings(target).database,
            source: reached(&path, &target.name),
        })
        .collect();
    if let Some(recorded) = recorded {
        let still_there = targets.iter().any(|target| {
            let settings = mapping::settings(target);
            let address = recorded.endpoint.parse::<Address>();
            target.name == recorded.target
                && settings.database == recorded.database
                && address.is_ok_and(|address| address == settings.address)
        });
        if !still_there {
            all.push(Kept {
                said: format!("the recorded session's own target, {}", recorded.target),
                database: recorded.database.clone(),
                source: Err("no configuration (--config FILE) leads there, so it cannot be asked".to_owned()),
            });
        }
    }
    all
}

fn reached(config: &Path, target: &str) -> Result<Source, String> {
    match source::of_config(config, Some(target), None) {
        Ok((source, _)) => Ok(source),
        Err(Wrong::Arguments(what)) => Err(what),
        Err(Wrong::Files(findings)) => {
            Err(findings.iter().map(ToString::to_string).collect::<Vec<String>>().join("; "))
        }
    }
}

/// Why nothing may be run there; `None` where it is known to be no target.
pub(super) async fn refusal(scratch: &mut Scratch, kept: &[Kept]) -> Result<Option<String>, String> {
    let here = scratch.identity().await?;
    for target in kept.iter().filter(|target| target.database == here.database) {
        let told = match asked(target).await {
            Ok(there) => here.told(&there),
            Err(why) => return Ok(Some(cannot_be_told(target, &why))),
        };
        match told {
            Told::Other => {}
            Told::Same => {
                return Ok(Some(format!(
                    "--against leads to {}, by another way (it is the same server and database): what the session wrote would be \
                     written there again; name a scratch database (createdb, restored to before the session)",
                    escaped(&target.said)
                )));
            }
            Told::Unknown(why) => return Ok(Some(cannot_be_told(target, why))),
        }
    }
    Ok(None)
}

fn cannot_be_told(target: &Kept, why: &str) -> String {
    format!(
        "--against leads to a database that is called {}, as that of {} is, and whether it is the same one cannot be told: {}; \
         give the scratch database another name, or make the target answer, or say --even-a-target where you know that it is a scratch database",
        escaped(&target.database),
        escaped(&target.said),
        escaped(why)
    )
}

async fn asked(target: &Kept) -> Result<Identity, String> {
    let source = target.source.as_ref().map_err(Clone::clone)?;
    let guards = Guards { read_only: true, ..Guards::default() };
    let mut there = Scratch::connect(source, guards, TARGET_DEADLINE).await?;
    let identity = there.identity().await;
    there.close().await;
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_cluster_is_another_and_a_tunnel_leads_to_the_same() {
        let target = Identity {
            database: "crm".to_owned(),
            oid: "16384".to_owned(),
            started_us: "1795000000000001".to_owned(),
            recovering: false,
            system: Some("7312".to_owned()),
        };
        let restored = Identity { started_us: "1795000000000002".to_owned(), ..target.clone() };
        let standby = Identity { recovering: true, ..target.clone() };
        for (here, there, told) in [
            (target.clone(), target.clone(), Told::Same),
            (Identity { system: None, ..target.clone() }, target.clone(), Told::Same),
            (restored.clone(), target.clone(), Told::Other),
            (Identity { oid: "5".to_owned(), ..target.clone() }, target.clone(), Told::Other),
            (Identity { system: Some("1".to_owned()), ..target.clone() }, target.clone(), Told::Other),
            (standby.clone(), standby.clone(), Told::Same),
        ] {
            assert_eq!(here.told(&there), told, "{here:?} {there:?}");
        }
        assert!(matches!(restored.told(&standby), Told::Unknown(_)));
    }
}
