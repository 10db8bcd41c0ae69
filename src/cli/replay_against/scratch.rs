//! The scratch database: where it may be, and what it answers.
//!
//! Owns: the refusal of a configured target, the connection, one statement at a time with the digest of its rows as the evidence
//! makes it, the volatility of functions. May not: judge whether answers are the same. Fails by words; a statement that fails
//! there is an answer, a connection that breaks is not.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use pgturnstile_proto::backend::Message;
use pgturnstile_proto::{Format, encode};
use tokio::time::Instant;

use super::collect::{Bound, Sent};
use super::identity::Identity;
use crate::backend::query::{converse, query};
use crate::backend::settings::{Address, Guards};
use crate::backend::{ClientSettings, Connected, KeyCache, Login, StartupParameters, dial};
use crate::cli::source::Source;
use crate::evidence::keys::SessionKeys;

/// How long connecting may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// What one statement may answer, bytes.
const ANSWER_BYTES_MAX: usize = 16 << 30;

/// What one result of a statement was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The command tag; empty where it failed.
    pub(super) tag: String,
    /// SQLSTATE of its error.
    pub(super) sqlstate: Option<String>,
    pub(super) rows: u64,
    /// Digest of its rows; `None` without one.
    pub(super) digest: Option<[u8; 32]>,
}

/// Whether two places are one database: the same port and database on addresses that overlap.
pub(super) fn same_place(one: (&Address, &str), other: (&Address, &str)) -> bool {
    if one.1 != other.1 {
        return false;
    }
    if one.0 == other.0 {
        return true;
    }
    let (one, other) = (addresses(one.0), addresses(other.0));
    one.iter().any(|place| other.contains(place))
}

/// Addresses and port of a place. A Unix socket is this machine.
fn addresses(address: &Address) -> Vec<(IpAddr, u16)> {
    match address {
        Address::Unix { port, .. } => {
            vec![(Ipv4Addr::LOCALHOST.into(), *port), (Ipv6Addr::LOCALHOST.into(), *port)]
        }
        Address::Tcp { host, port } => {
            let found = (host.as_str(), *port).to_socket_addrs();
            let places =
                found.map(|found| found.map(|place| (place.ip().to_canonical(), place.port())).collect());
            let mut places: Vec<(IpAddr, u16)> = places.unwrap_or_default();
            // All of 127.0.0.0/8, ::1, 0.0.0.0, and every address that a socket can be bound to are this machine.
            let ours = |ip: IpAddr| ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok();
            if places.iter().any(|(ip, _)| ours(*ip)) {
                places.push((Ipv4Addr::LOCALHOST.into(), *port));
                places.push((Ipv6Addr::LOCALHOST.into(), *port));
            }
            places
        }
    }
}

/// A connection to it.
pub(super) struct Scratch {
    connected: Connected,
    limit: Duration,
}

impl Scratch {
    /// Connects; `guards` with the `search_path` that the recorded session had.
    pub(super) async fn connect(source: &Source, guards: Guards, limit: Duration) -> Result<Scratch, String> {
        let (user, database) = (&source.credential.user, source.target.database());
        let parameters =
            StartupParameters::build(user, database, &ClientSettings::default(), &guards, "replay")
                .map_err(|error| error.to_string())?;
        let keys = KeyCache::default();
        let login = Login { credential: &source.credential, keys: &keys };
        let deadline = Instant::now() + CONNECT_DEADLINE;
        let connected =
            dial(&source.target, &login, &parameters, deadline).await.map_err(|error| error.to_string())?;
        Ok(Scratch { connected, limit })
    }

    /// Which database of which server it is.
    pub(super) async fn identity(&mut self) -> Result<Identity, String> {
        let deadline = Instant::now() + CONNECT_DEADLINE;
        Identity::ask(&mut self.connected.stream, deadline).await
    }

    /// Of each of these names of functions that is known: whether one that bears it is volatile, in whatever schema.
    pub(super) async fn volatile(&mut self, names: &[String]) -> Result<HashMap<String, bool>, String> {
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        let list: Vec<String> = names.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
        let text = format!(
            "SELECT p.proname, pg_catalog.bool_or(p.provolatile = 'v') FROM pg_catalog.pg_proc p \
             WHERE p.proname IN ({}) GROUP BY 1",
            list.join(", ")
        );
        let deadline = Instant::now() + self.limit;
        let answer =
            query(&mut self.connected.stream, &text, deadline).await.map_err(|error| error.to_string())?;
        let found = answer.rows.into_iter().filter_map(|row| match <[Option<String>; 2]>::try_from(row) {
            Ok([Some(name), Some(volatile)]) => Some((name, volatile == "t")),
            Ok(_) | Err(_) => None,
        });
        Ok(found.collect())
    }

    /// Runs a statement as it was sent; its results.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub(super) async fn run(
        &mut self,
        text: &str,
        sent: &Sent,
        keys: &SessionKeys,
    ) -> Result<Vec<Answer>, String> {
        let request = request(text, sent).map_err(|error| error.to_string())?;
        let mut reader = Reader { keys, answers: Vec::new(), digest: None, rows: 0, frame: Vec::new() };
        let deadline = Instant::now() + self.limit;
        let mut take = |message: &Message<'_>| reader.take(message);
        let ended =
            converse(&mut self.connected.stream, &request, ANSWER_BYTES_MAX, deadline, &mut take).await;
        ended.map_err(|error| error.to_string())?;
        Ok(reader.answers)
    }

    /// Ends it.
    pub(super) async fn close(self) {
        // It was read, or not, however the session ends.
        drop(self.connected.close().await);
    }
}

/// The frames that ask it.
fn request(text: &str, sent: &Sent) -> Result<Vec<u8>, encode::Unencodable> {
    let mut out = Vec::new();
    match sent {
        Sent::Simple => encode::query(&mut out, text)?,
        Sent::Extended { parameters, binary } => {
            let form = |binary: bool| if binary { Format::Binary } else { Format::Text };
            let types: Vec<u32> = parameters.iter().map(|bound| bound.type_oid).collect();
            let formats: Vec<Format> = parameters.iter().map(|bound| form(bound.binary)).collect();
            let values: Vec<Option<&[u8]>> =
                parameters.iter().map(|Bound { value, .. }| value.as_deref()).collect();
            let results: Vec<Format> = binary.iter().flatten().map(|binary| form(*binary)).collect();
            encode::parse(&mut out, "", text, &types)?;
            encode::bind(&mut out, "", "", &formats, &values, &results)?;
            encode::execute(&mut out, "", 0)?;
            encode::sync(&mut out);
        }
    }
    Ok(out)
}

/// Puts answers together as they come.
struct Reader<'k> {
    keys: &'k SessionKeys,
    answers: Vec<Answer>,
    digest: Option<blake3::Hasher>,
    rows: u64,
    frame: Vec<u8>,
}

impl Reader<'_> {
    fn take(&mut self, message: &Message<'_>) {
        if let Message::DataRow(row) = message {
            let columns: Vec<Option<&[u8]>> = row.columns().iter().collect();
            self.frame.clear();
            // What came as a frame can be one again.
            let encoded = encode::data_row(&mut self.frame, &columns);
            debug_assert!(encoded.is_ok());
            self.digest.get_or_insert_with(|| self.keys.result()).update(&self.frame);
            self.rows += 1;
        } else if let Message::CommandComplete(complete) = message {
            self.ended(String::from_utf8_lossy(complete.tag()).into_owned(), None);
        } else if let Message::ErrorResponse(fields) = message {
            self.ended(String::new(), Some(fields.sqlstate().unwrap_or("XX000").to_owned()));
        } else if let Message::EmptyQueryResponse = message {
            self.ended(String::new(), None);
        }
    }

    fn ended(&mut self, tag: String, sqlstate: Option<String>) {
        let digest = self.digest.take().map(|digest| *digest.finalize().as_bytes());
        let rows = std::mem::take(&mut self.rows);
        self.answers.push(Answer { tag, sqlstate, rows, digest });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_database_under_other_names_is_the_same_place() {
        let at = |text: &str| text.parse::<Address>().unwrap();
        for (one, other, same) in [
            ("127.0.0.1:5432", "localhost:5432", true),
            ("127.0.0.1:5432", "127.0.0.2:5432", true),
            ("127.0.0.1:5432", "0.0.0.0:5432", true),
            ("/run/postgresql:5432", "127.0.0.1:5432", true),
            ("127.0.0.1:5432", "127.0.0.1:5433", false),
            ("192.0.2.1:5432", "127.0.0.1:5432", false),
            ("192.0.2.1:5432", "192.0.2.1:5432", true),
        ] {
            assert_eq!(same_place((&at(one), "crm"), (&at(other), "crm")), same, "{one} {other}");
            assert!(!same_place((&at(one), "crm"), (&at(other), "scratch")), "{one} {other}");
        }
    }
}
