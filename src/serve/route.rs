//! Which target a session is for.
//!
//! Owns: the names that lead to targets, and the one decision of a session. May not: ask the policy, or say to a client
//! that is not authenticated which names there are: it is called behind the token, and whoever refuses lists only what that
//! principal may use. Fails closed: what names nothing, what names two things, and a name that is another target's are
//! refused; nothing is guessed.
//!
//! ```text
//!   server name of TLS ──┐ exact, then *.parent      ┐
//!   user@target ─────────┤ the listener's `routes`   ├─► all that name a target name the same one ─► the database, if
//!   database ────────────┘ say which of them count   ┘                                                it is given, fits
//! ```

use std::collections::HashMap;
use std::fmt;

use crate::config::{Route, Target};

/// Names that lead to targets.
#[derive(Debug, Default)]
pub struct Routes {
    /// Database by target.
    databases: HashMap<String, String>,
    /// Target by server name, lower case: exact, or `*.parent`.
    server_names: HashMap<String, String>,
}

/// What a client said of where it wants to go.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The server name of its TLS handshake.
    pub server_name: Option<&'a str>,
    /// The user of its startup packet.
    pub user: &'a str,
    /// The database of its startup packet.
    pub database: Option<&'a str>,
}

/// Where a session goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// The target's name.
    pub target: String,
    /// The user, without the part that named the target.
    pub user: String,
    /// What named it.
    pub by: Vec<Route>,
}

/// Why a session goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unroutable {
    /// A name that leads nowhere.
    #[error("there is no target named \"{}\", which its {way} asks for", asked.escape_default())]
    Unknown {
        /// As sent.
        asked: String,
        /// Where it stood.
        way: Route,
    },
    /// Nothing names a target.
    #[error("nothing names its target: this listener goes by {}", words(ways))]
    Unnamed {
        /// What could.
        ways: Vec<Route>,
    },
    /// Two names, two targets.
    #[error("its {} asks for target \"{}\" and its {} for \"{}\"", first.0, first.1, second.0, second.1)]
    Ambiguous {
        /// One.
        first: (Route, String),
        /// The other.
        second: (Route, String),
    },
    /// A database that is not the target's.
    #[error("the database \"{}\" is not that of target \"{target}\"", database.escape_default())]
    OtherDatabase {
        /// As sent.
        database: String,
        /// What the other names lead to.
        target: String,
    },
}

fn words(ways: &[Route]) -> String {
    ways.iter().map(Route::to_string).collect::<Vec<_>>().join(" and ")
}

impl Routes {
    /// The names of a configuration.
    pub fn new(targets: &[Target]) -> Self {
        let databases = targets.iter().map(|target| (target.name.clone(), target.database.clone())).collect();
        let names = targets
            .iter()
            .flat_map(|target| target.server_names.iter().map(|name| (name.clone(), target.name.clone())));
        Self { databases, server_names: names.collect() }
    }

    /// Decides, by the ways that the listener takes.
    ///
    /// # Errors
    /// [`Unroutable`].
    pub fn decide(&self, ways: &[Route], asked: &Asked<'_>) -> Result<Routed, Unroutable> {
        let (user, suffix) = match asked.user.rsplit_once('@') {
            Some((user, suffix)) if ways.contains(&Route::UserSuffix) => (user, Some(suffix)),
            Some(_) | None => (asked.user, None),
        };
        // libpq sends the user as the database where none is given.
        let database = asked.database.filter(|database| *database != asked.user && *database != user);
        let mut named: Vec<(Route, &str)> = Vec::with_capacity(ways.len());
        for way in ways {
            match way {
                Route::ServerName => {
                    let target = asked.server_name.and_then(|name| self.by_server_name(name));
                    named.extend(target.map(|target| (Route::ServerName, target)));
                }
                Route::UserSuffix => {
                    let target = suffix.map(|suffix| self.known(suffix, Route::UserSuffix)).transpose()?;
                    named.extend(target.map(|target| (Route::UserSuffix, target)));
                }
                // The database of a target is a name within it: judged when the target is known.
                Route::Database => {
                    let target = database.and_then(|database| self.target(database));
                    named.extend(target.map(|target| (Route::Database, target)));
                }
            }
        }
        let Some((first, others)) = named.split_first() else {
            return self.by_default(ways, asked, user);
        };
        if let Some(second) = others.iter().find(|other| other.1 != first.1) {
            let owned = |(way, target): &(Route, &str)| (*way, (*target).to_owned());
            return Err(Unroutable::Ambiguous { first: owned(first), second: owned(second) });
        }
        self.fits(first.1, database)?;
        let by = named.iter().map(|(way, _)| *way).collect();
        Ok(Routed { target: first.1.to_owned(), user: user.to_owned(), by })
    }

    /// Nothing names a target but, perhaps, the user that stands for the database.
    fn by_default(&self, ways: &[Route], asked: &Asked<'_>, user: &str) -> Result<Routed, Unroutable> {
        if !ways.contains(&Route::Database) {
            return Err(Unroutable::Unnamed { ways: ways.to_vec() });
        }
        let target = self.known(asked.database.unwrap_or(user), Route::Database)?;
        Ok(Routed { target: target.to_owned(), user: user.to_owned(), by: vec![Route::Database] })
    }

    /// A database that is given is the target's, by either of its names.
    fn fits(&self, target: &str, database: Option<&str>) -> Result<(), Unroutable> {
        let own = self.databases.get(target).map(String::as_str);
        match database {
            Some(database) if database != target && Some(database) != own => {
                Err(Unroutable::OtherDatabase { database: database.to_owned(), target: target.to_owned() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The target of that name, as it is kept here.
    fn target(&self, name: &str) -> Option<&str> {
        self.databases.get_key_value(name).map(|(name, _)| name.as_str())
    }

    fn known(&self, name: &str, way: Route) -> Result<&str, Unroutable> {
        self.target(name).ok_or_else(|| Unroutable::Unknown { asked: name.to_owned(), way })
    }

    /// Exact before wildcard; a wildcard stands for one label (RFC 9525, section 6.3).
    fn by_server_name(&self, name: &str) -> Option<&str> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let wildcard = || {
            let (_, parent) = name.split_once('.')?;
            self.server_names.get(&format!("*.{parent}"))
        };
        self.server_names.get(&name).or_else(wildcard).map(String::as_str)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Route::Database => "database",
            Route::ServerName => "TLS server name",
            Route::UserSuffix => "user name's suffix",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two targets of one database name, and one that is named as the database of the others.
    fn routes() -> Routes {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<HashMap<_, _>>()
        };
        Routes {
            databases: owned(&[
                ("crm-prod", "crm"),
                ("crm-test", "crm"),
                ("mart", "mart"),
                ("mart-old", "mart"),
            ]),
            server_names: owned(&[
                ("crm.db.example.com", "crm-prod"),
                ("*.db.example.com", "crm-test"),
                ("old.example.com", "mart-old"),
            ]),
        }
    }

    const ALL: [Route; 3] = [Route::Database, Route::ServerName, Route::UserSuffix];

    fn decide(ways: &[Route], server_name: &str, user: &str, database: &str) -> Result<Routed, Unroutable> {
        let none = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (server_name, database) = (none(server_name), none(database));
        routes()
            .decide(ways, &Asked { server_name: server_name.as_deref(), user, database: database.as_deref() })
    }

    fn target(ways: &[Route], server_name: &str, user: &str, database: &str) -> String {
        let routed = decide(ways, server_name, user, database).unwrap();
        format!("{} {} {}", routed.target, routed.user, routed.by.len())
    }

    #[test]
    fn by_the_database_alone_nothing_else_counts() {
        let ways = &[Route::Database];
        assert_eq!(target(ways, "old.example.com", "kim@crm-test", "crm-prod"), "crm-prod kim@crm-test 1");
        assert_eq!(target(ways, "", "mart", ""), "mart mart 1");
        let fault = decide(ways, "crm.db.example.com", "kim", "crm").unwrap_err();
        assert_eq!(fault, Unroutable::Unknown { asked: "crm".to_owned(), way: Route::Database });
        assert!(decide(ways, "", "kim", "").is_err());
    }

    #[test]
    fn a_server_name_is_exact_or_one_label_below_a_wildcard() {
        let ways = &[Route::ServerName];
        for (name, wanted) in [
            ("crm.db.example.com", "crm-prod kim 1"),
            ("CRM.db.Example.com.", "crm-prod kim 1"),
            ("x.db.example.com", "crm-test kim 1"),
            ("old.example.com", "mart-old kim 1"),
        ] {
            assert_eq!(target(ways, name, "kim", ""), wanted, "{name}");
            // What libpq sends where no database is given.
            assert_eq!(target(ways, name, "kim", "kim"), wanted, "{name}");
        }
        for name in
            ["", "db.example.com", "a.b.db.example.com", "*.db.example.com.evil", "example.com", ".", ".."]
        {
            let fault = decide(ways, name, "kim", "").unwrap_err();
            assert_eq!(fault, Unroutable::Unnamed { ways: ways.to_vec() }, "{name}");
        }
        // A database does not name a target here, but it has to fit.
        assert_eq!(target(ways, "crm.db.example.com", "kim", "crm"), "crm-prod kim 1");
        assert_eq!(target(ways, "crm.db.example.com", "kim", "crm-prod"), "crm-prod kim 1");
        assert!(matches!(
            decide(ways, "crm.db.example.com", "kim", "crm-test"),
            Err(Unroutable::OtherDatabase { .. })
        ));
    }

    #[test]
    fn the_last_at_sign_of_a_user_names_a_target_or_nothing_passes() {
        let ways = &[Route::UserSuffix];
        assert_eq!(target(ways, "", "kim@crm-prod", ""), "crm-prod kim 1");
        assert_eq!(target(ways, "", "kim@example.com@crm-prod", "crm"), "crm-prod kim@example.com 1");
        // What libpq sends where no database is given.
        assert_eq!(target(ways, "", "kim@crm-prod", "kim@crm-prod"), "crm-prod kim 1");
        for user in ["kim@example.com", "kim@", "kim@crm", "kim@CRM-PROD"] {
            assert!(matches!(decide(ways, "", user, ""), Err(Unroutable::Unknown { .. })), "{user}");
        }
        assert!(matches!(decide(ways, "", "kim", "crm-prod"), Err(Unroutable::Unnamed { .. })));
    }

    #[test]
    fn what_several_ways_name_has_to_be_one_target() {
        assert_eq!(target(&ALL, "crm.db.example.com", "kim@crm-prod", "crm-prod"), "crm-prod kim 3");
        assert_eq!(target(&ALL, "gateway.example.com", "kim", "mart"), "mart kim 1");
        assert_eq!(target(&ALL, "crm.db.example.com", "kim", "crm"), "crm-prod kim 1");
        for (server_name, user, database) in [
            ("crm.db.example.com", "kim@crm-test", ""),
            ("crm.db.example.com", "kim", "crm-test"),
            ("", "kim@crm-test", "crm-prod"),
            // The database of one target is the name of another.
            ("old.example.com", "kim", "mart"),
        ] {
            let outcome = decide(&ALL, server_name, user, database);
            assert!(matches!(outcome, Err(Unroutable::Ambiguous { .. })), "{outcome:?}");
        }
        let outcome = decide(&ALL, "crm.db.example.com", "kim", "sales");
        assert!(matches!(outcome, Err(Unroutable::OtherDatabase { .. })), "{outcome:?}");
        assert!(matches!(decide(&ALL, "", "kim", "sales"), Err(Unroutable::Unknown { .. })));
    }
}
