//! Reads `[gateway]`, `[control]`, `[limits]` and `[evidence]`.
//!
//! Owns the checks among these sections' own keys. An absent section is read as an empty one, so that defaults stand in
//! one place, the reference.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::files;
use super::keys::Reader;
use super::model::{Control, Evidence, Gateway, Holds, Limits, ListenerTls, PasswordSource};
use super::{reference, socket, target};

/// Name of the digest key in the state folder.
const DIGEST_KEY_FILE: &str = "digest.key";
/// Name of the checkpoints' key in the state folder.
const SIGNING_KEY_FILE: &str = "checkpoint.key";

pub(super) fn gateway(root: &Reader<'_>) -> Gateway {
    let section = root.section("gateway", &reference::GATEWAY);
    let gateway = Gateway {
        policy: section.path("policy").unwrap_or_default(),
        policy_place: section.table.place_of("policy"),
        policy_signers: section.strings("policy_signers"),
        policy_signatures_min: section.integer("policy_signatures_min"),
        state_directory: section.path("state_dir").unwrap_or_default(),
        state_place: section.table.place_of("state_dir"),
        state_named: section.table.has("state_dir"),
        shards: usize::try_from(section.integer("shards")).unwrap_or(0),
        drain_deadline_s: section.integer("drain_deadline_s"),
    };
    section.done();
    gateway
}

/// The admin listener; `None` where the file has none, or none that can be used (which was reported).
pub(super) fn control(root: &Reader<'_>) -> Option<Control> {
    if !root.table.has("control") {
        return None;
    }
    let section = root.section("control", &reference::CONTROL);
    let address = section.text("address").map(|address| address.parse::<SocketAddr>());
    if let Some(Err(_)) = address {
        section.table.error("address", "must be an IP address and a port, such as 127.0.0.1:6480");
    }
    let tls = section.table("tls", &reference::CONTROL_TLS).and_then(|tls| {
        let (certificate, key) = (tls.path("certificate"), tls.path("key"));
        tls.done();
        // HTTPS has no other way to begin.
        Some(ListenerTls { certificate: certificate?, key: key?, direct: true })
    });
    let address = address.and_then(Result::ok);
    if let Some(address) = address
        && !address.ip().is_loopback()
        && !section.table.has("tls")
    {
        section.table.error(
            "address",
            format!(
                "{address} can be reached from other machines, and nothing would encrypt what is said there; add tls = \
                 {{ certificate = \"…\", key = \"…\" }}, or listen on 127.0.0.1"
            ),
        );
    }
    let (metrics, place) = (section.boolean("metrics"), section.place());
    let socket = control_socket(&section);
    section.done();
    Some(Control { address: address?, socket, metrics, tls, place })
}

/// The control socket; `None` without one, or after a report.
fn control_socket(section: &Reader<'_>) -> Option<PathBuf> {
    let path = section.path("socket")?;
    socket::fits(&path).map_err(|fault| section.table.error("socket", fault)).ok().map(|()| path)
}

pub(super) fn holds(root: &Reader<'_>) -> Holds {
    let section = root.section("holds", &reference::HOLDS);
    let holds = Holds {
        open_max: section.integer("open_max"),
        open_per_requester_max: section.integer("open_per_requester_max"),
        bytes_max: section.integer("bytes_max"),
        notice_every_s: section.integer("notice_every_s"),
        tickets_max: section.integer("tickets_max"),
        tickets_per_requester_max: section.integer("tickets_per_requester_max"),
        tickets_bytes_max: section.integer("tickets_bytes_max"),
    };
    section.done();
    holds
}

pub(super) fn limits(root: &Reader<'_>) -> Limits {
    let section = root.section("limits", &reference::LIMITS);
    let limits = Limits {
        connections_max: section.integer("connections_max"),
        connections_per_address_max: section.integer("connections_per_address_max"),
        login_deadline_ms: section.integer("login_deadline_ms"),
        dial_deadline_ms: section.integer("dial_deadline_ms"),
        token_bytes_max: section.integer("token_bytes_max"),
        statement_bytes_max: section.integer("statement_bytes_max"),
        row_bytes_max: section.integer("row_bytes_max"),
        held_bytes_max: section.integer("held_bytes_max"),
        keepalive_s: section.integer("keepalive_s"),
    };
    if limits.dial_deadline_ms > limits.login_deadline_ms {
        section.table.error(
            "dial_deadline_ms",
            format!(
                "{} ms is more than login_deadline_ms ({} ms), which covers the dial; lower it",
                limits.dial_deadline_ms, limits.login_deadline_ms
            ),
        );
    }
    if limits.statement_bytes_max > limits.held_bytes_max {
        section.table.error(
            "statement_bytes_max",
            format!(
                "{} bytes is more than held_bytes_max ({} bytes): a statement that long could never be judged",
                limits.statement_bytes_max, limits.held_bytes_max
            ),
        );
    }
    section.done();
    limits
}

pub(super) fn evidence(root: &Reader<'_>, gateway: &Gateway) -> Evidence {
    let section = root.section("evidence", &reference::EVIDENCE);
    let directory = section.path("directory").unwrap_or_default();
    let file_of = |key: &str, reference| {
        section.table(key, reference).and_then(|table| {
            let file = table.path("file");
            table.done();
            file
        })
    };
    let digest_key = file_of("digest_key", &reference::DIGEST_KEY)
        .unwrap_or_else(|| gateway.state_directory.join(DIGEST_KEY_FILE));
    let outside = |path: &Path, key: &str, what: &str| {
        if files::lies_within(path, &directory) {
            let key = if section.table.has(key) { key } else { "directory" };
            let (path, directory) = (path.display(), directory.display());
            section.table.error(
                key,
                format!("{what} {path} would lie inside the evidence folder, where whoever copies or changes the evidence \
                         takes it along; keep gateway.state_dir and evidence.{key} outside {directory}"),
            );
        }
    };
    outside(&digest_key, "digest_key", "the digest key");
    let (signing_key, signing_certificate) = signing_key(&section, gateway);
    if let PasswordSource::File(file) = &signing_key {
        outside(file, "signing_key", "the signing key");
    }
    let (head, sealing_key) =
        (file_of("head", &reference::HEAD), file_of("sealing_key", &reference::SEALING_KEY));
    if let Some(file) = &head {
        outside(file, "head", "the second place of the checkpoints");
    }
    let evidence = Evidence {
        directory,
        segment_bytes: section.integer("segment_bytes"),
        reserve_bytes: section.integer("reserve_bytes"),
        stall_limit_ms: section.integer("stall_limit_ms"),
        queue_bytes_max: section.integer("queue_bytes_max"),
        digest_key,
        signing_key,
        signing_certificate,
        sealing_key,
        head,
        checkpoint_every_s: section.integer("checkpoint_every_s"),
        checkpoint_every_records: section.integer("checkpoint_every_records"),
        place: section.table.place_of("directory"),
    };
    section.done();
    evidence
}

/// Where the key of the checkpoints comes from, and the note that certifies it.
fn signing_key(section: &Reader<'_>, gateway: &Gateway) -> (PasswordSource, Option<PathBuf>) {
    let own = PasswordSource::File(gateway.state_directory.join(SIGNING_KEY_FILE));
    let Some(table) = section.table("signing_key", &reference::SIGNING_KEY) else { return (own, None) };
    if table.table.has("file") == table.table.has("command") {
        table.table.error_here("must name exactly one of file, command");
    }
    let (file, command) = (table.path("file").map(PasswordSource::File), target::command(&table));
    let certificate = table.path("certificate");
    table.done();
    (file.or(command).unwrap_or(own), certificate)
}
