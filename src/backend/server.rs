//! What a server must report before a session on it is used.
//!
//! The startup packet asks; this looks whether it was granted. What a server of that version does not report
//! (role, search_path before 18, the timeouts) is read back behind the login, before a client has the session.

use crate::backend::error::Unfit;
use crate::backend::startup::StartupParameters;

/// Major versions that the gateway can stand before.
pub const MAJOR_VERSIONS: std::ops::RangeInclusive<u16> = 14..=18;

/// A server's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerVersion {
    /// 14 to 18.
    pub major: u16,
    /// As reported: `15.14 (Debian 15.14-0+deb12u1)`.
    pub text: String,
}

/// Holds what the server reported against what was sent.
///
/// # Errors
/// A version that is not supported, a setting that is missing or has another value than the one asked for.
pub(super) fn check(
    parameters: &[(String, String)],
    sent: &StartupParameters,
) -> Result<ServerVersion, Unfit> {
    let find =
        |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let text = find("server_version").ok_or(Unfit::Missing("server_version"))?;
    let major = major(text).filter(|major| MAJOR_VERSIONS.contains(major));
    let major = major.ok_or_else(|| Unfit::Version(text.chars().take(80).collect()))?;

    let mut wanted = vec![
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("integer_datetimes", "on"),
        ("session_authorization", sent.user()),
    ];
    if sent.read_only() {
        wanted.push(("default_transaction_read_only", "on"));
    }
    if major >= 18 {
        wanted.push(("search_path", sent.search_path()));
    }
    for (name, wanted) in wanted {
        let found = find(name).ok_or(Unfit::Missing(name))?;
        if found != wanted {
            return Err(Unfit::Setting { name, found: found.to_owned(), wanted: wanted.to_owned() });
        }
    }
    Ok(ServerVersion { major, text: text.to_owned() })
}

/// The digits in front: `15.14 (Debian…)`, `18rc1`, `17beta2`.
fn major(text: &str) -> Option<u16> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::settings::Guards;
    use crate::backend::startup::ClientSettings;

    fn reported(changes: &[(&str, Option<&str>)]) -> Result<ServerVersion, Unfit> {
        let guards = Guards { read_only: true, search_path: vec!["crm".into()], ..Guards::default() };
        let sent =
            StartupParameters::build("crm_reader", "crm", &ClientSettings::default(), &guards, "s").unwrap();
        let mut parameters: Vec<(String, String)> = [
            ("server_version", "15.14 (Debian 15.14-0+deb12u1)"),
            ("client_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
            ("integer_datetimes", "on"),
            ("session_authorization", "crm_reader"),
            ("default_transaction_read_only", "on"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        for (name, value) in changes {
            parameters.retain(|(known, _)| known != name);
            if let Some(value) = value {
                parameters.push(((*name).to_owned(), (*value).to_owned()));
            }
        }
        check(&parameters, &sent)
    }

    #[test]
    fn supported_versions_pass() {
        assert_eq!(reported(&[]).unwrap().major, 15);
        for (text, number) in [("14.0", 14), ("16rc1", 16), ("17", 17)] {
            assert_eq!(reported(&[("server_version", Some(text))]).unwrap().major, number);
        }
        let path = Some("\"crm\"");
        assert_eq!(reported(&[("server_version", Some("18.1")), ("search_path", path)]).unwrap().major, 18);
    }

    #[test]
    fn other_versions_are_refused_by_name() {
        for text in
            ["13.9", "19beta1", "9.6.24", "", "PostgreSQL", "99999999999", "-15", "8.4.2-EnterpriseDB"]
        {
            assert_eq!(reported(&[("server_version", Some(text))]), Err(Unfit::Version(text.to_owned())));
        }
    }

    #[test]
    fn each_setting_must_be_reported_as_sent() {
        for (name, other) in [
            ("client_encoding", "LATIN1"),
            ("standard_conforming_strings", "off"),
            ("integer_datetimes", "off"),
            ("session_authorization", "postgres"),
            ("default_transaction_read_only", "off"),
        ] {
            assert_eq!(reported(&[(name, None)]), Err(Unfit::Missing(name)));
            assert!(matches!(reported(&[(name, Some(other))]), Err(Unfit::Setting { .. })), "{name}");
        }
        let eighteen = ("server_version", Some("18.0"));
        assert_eq!(reported(&[eighteen]), Err(Unfit::Missing("search_path")));
        assert!(matches!(reported(&[eighteen, ("search_path", Some("public"))]), Err(Unfit::Setting { .. })));
        assert_eq!(reported(&[("server_version", None)]), Err(Unfit::Missing("server_version")));
    }
}
