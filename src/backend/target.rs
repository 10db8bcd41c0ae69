//! A target made ready to dial: its settings checked, its certificates read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pgturnstile_proto::startup::ProtocolVersion;
use rustls::pki_types::ServerName;

use crate::backend::limits::NAME_BYTES_MAX;
use crate::backend::settings::{Address, ChannelBinding, TargetSettings, TlsMode, TlsSettings};
use crate::net::tls::{ClientTls, ServerCheck, TlsError};

/// Settings of a target that cannot be used; found when the configuration is loaded, not when somebody connects.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A certificate file, or none where one is needed.
    #[error("target {target:?}: {error}")]
    Tls {
        /// The target's name.
        target: String,
        /// What is wrong.
        error: TlsError,
    },
    /// Settings that contradict each other.
    #[error("target {target:?}: {what}")]
    Settings {
        /// The target's name.
        target: String,
        /// What is wrong and what to do.
        what: String,
    },
}

/// A target that can be dialled. Immutable: a reload makes another.
#[derive(Debug, Clone)]
pub struct Target {
    name: String,
    address: Address,
    database: String,
    tls: Option<TargetTls>,
    binding: ChannelBinding,
    protocol: ProtocolVersion,
    /// Something on the way to it refused a newer protocol than 3.0 and took that. Forgotten by a reload.
    only_3_0: Arc<AtomicBool>,
}

#[derive(Debug, Clone)]
pub(super) struct TargetTls {
    pub(super) client: ClientTls,
    pub(super) name: ServerName<'static>,
    pub(super) direct: bool,
}

impl Target {
    /// Checks the settings and reads the certificates.
    ///
    /// # Errors
    /// Contradictions, and files that cannot be used.
    pub fn new(settings: &TargetSettings) -> Result<Self, TargetError> {
        let failed = |what: String| TargetError::Settings { target: settings.name.clone(), what };
        let database = &settings.database;
        if database.is_empty() || database.len() > NAME_BYTES_MAX || database.contains('\0') {
            return Err(failed(format!("the database {database:?} is no name of 1 to 63 bytes")));
        }
        let tls = match tls_check(&settings.tls).map_err(failed)? {
            None => None,
            Some(check) => {
                let name = server_name(settings).map_err(failed)?;
                let client = ClientTls::load(&check)
                    .map_err(|error| TargetError::Tls { target: settings.name.clone(), error })?;
                Some(TargetTls { client, name, direct: settings.tls.direct })
            }
        };
        if tls.is_none() && settings.tls.channel_binding == ChannelBinding::Require {
            return Err(failed("channel binding needs TLS, and tls.mode is \"disable\"".to_owned()));
        }
        if tls.is_none() && settings.tls.direct {
            return Err(failed("tls.direct needs TLS, and tls.mode is \"disable\"".to_owned()));
        }
        Ok(Self {
            name: settings.name.clone(),
            address: settings.address.clone(),
            database: database.clone(),
            tls,
            binding: settings.tls.channel_binding,
            protocol: settings.protocol,
            only_3_0: Arc::default(),
        })
    }

    /// The target's name in configuration, policy and evidence.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its database.
    pub fn database(&self) -> &str {
        &self.database
    }

    pub(super) fn tls(&self) -> Option<&TargetTls> {
        self.tls.as_ref()
    }

    pub(super) fn binding(&self) -> ChannelBinding {
        self.binding
    }

    /// The newest version to ask for.
    pub(super) fn protocol(&self) -> ProtocolVersion {
        // Relaxed: a stale answer costs one more attempt.
        if self.only_3_0.load(Ordering::Relaxed) { ProtocolVersion::V3_0 } else { self.protocol }
    }

    /// Asks for protocol 3.0 from now on; whether that is new.
    pub(super) fn stay_at_3_0(&self) -> bool {
        !self.only_3_0.swap(true, Ordering::Relaxed)
    }
}

fn tls_check(tls: &TlsSettings) -> Result<Option<ServerCheck>, String> {
    let unused = |mode: &str| {
        if tls.ca.is_empty() && tls.name.is_none() {
            return Ok(());
        }
        Err(format!(
            "tls.mode \"{mode}\" verifies nothing, so `ca` and `name` would be ignored: use verify-ca or verify-full"
        ))
    };
    match tls.mode {
        TlsMode::Disable => {
            unused("disable")?;
            Ok(None)
        }
        TlsMode::Require => {
            unused("require")?;
            Ok(Some(ServerCheck::Nothing))
        }
        TlsMode::VerifyCa => Ok(Some(ServerCheck::Chain { ca: tls.ca.clone(), name: tls.name.clone() })),
        TlsMode::VerifyFull => Ok(Some(ServerCheck::ChainAndName { ca: tls.ca.clone() })),
    }
}

/// The name that goes into the server name indication and that `verify-full` checks.
fn server_name(settings: &TargetSettings) -> Result<ServerName<'static>, String> {
    let host = match &settings.address {
        Address::Unix { .. } => {
            return Err("PostgreSQL has no TLS on a Unix socket: set tls.mode to \"disable\"".to_owned());
        }
        Address::Tcp { host, .. } => host,
    };
    let (name, from) = match (settings.tls.mode, &settings.tls.name) {
        (TlsMode::VerifyFull, Some(name)) => (name, "tls.name"),
        (TlsMode::Disable | TlsMode::Require | TlsMode::VerifyCa, _) | (TlsMode::VerifyFull, None) => {
            (host, "the host")
        }
    };
    ServerName::try_from(name.clone()).map_err(|_| {
        format!("{from} {name:?} is neither a DNS name nor an IP address; a certificate's common name is verified by verify-ca")
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn settings(address: &str, mode: TlsMode) -> TargetSettings {
        TargetSettings {
            name: "crm".into(),
            address: address.parse().unwrap(),
            database: "crm".into(),
            tls: TlsSettings { mode, ..TlsSettings::disabled() },
            protocol: ProtocolVersion::V3_2,
        }
    }

    fn wrong(settings: &TargetSettings) -> String {
        Target::new(settings).unwrap_err().to_string()
    }

    #[test]
    fn contradictions_are_named() {
        let mut given = settings("db:5432", TlsMode::Require);
        assert!(Target::new(&given).is_ok());
        given.tls.ca.push(PathBuf::from("ca.pem"));
        assert!(wrong(&given).contains("target \"crm\": tls.mode \"require\" verifies nothing"));
        given = settings("db:5432", TlsMode::Disable);
        given.tls.name = Some("db".into());
        assert!(wrong(&given).contains("\"disable\" verifies nothing"));
        given = settings("db:5432", TlsMode::Disable);
        given.tls.channel_binding = ChannelBinding::Require;
        assert!(wrong(&given).contains("channel binding needs TLS"));
        given = settings("db:5432", TlsMode::Disable);
        given.tls.direct = true;
        assert!(wrong(&given).contains("tls.direct needs TLS"));
        assert!(
            wrong(&settings("/run/postgresql:5432", TlsMode::Require)).contains("no TLS on a Unix socket")
        );
        assert!(wrong(&settings("db:5432", TlsMode::VerifyFull)).contains("at least one `ca`"));
        given = settings("db:5432", TlsMode::VerifyFull);
        given.tls.name = Some("project:instance".into());
        assert!(wrong(&given).contains("verified by verify-ca"));
        given = settings("db:5432", TlsMode::Disable);
        given.database = "d".repeat(64);
        assert!(wrong(&given).contains("1 to 63 bytes"));
    }
}
