//! Every mode against every kind of certificate, over real handshakes on the loopback interface.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519, PKCS_RSA_SHA256, date_time_ymd,
};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{CertificateFiles, ClientTls, ServerCheck, ServerTls, TlsError, server_end_point};
use crate::net::stream::Stream;

const INSTANCE: &str = "my-project:crm-prod";

/// A folder of PEM files: two authorities and one certificate of each kind.
struct Files {
    folder: TempDir,
}

/// What a test certificate looks like.
struct Leaf<'a> {
    common_name: &'a str,
    names: &'a [&'a str],
    expired: bool,
}

const HOST: Leaf<'_> = Leaf { common_name: "server", names: &["localhost", "127.0.0.1"], expired: false };

impl Files {
    fn make() -> Self {
        let files = Self { folder: TempDir::new().unwrap() };
        let (right, right_pem) = authority("right");
        let (_, wrong_pem) = authority("wrong");
        files.write("right.pem", &right_pem);
        files.write("wrong.pem", &wrong_pem);
        files.write("both.pem", &format!("{wrong_pem}{right_pem}"));
        files.leaf("good", &HOST, &right);
        files.leaf("other-host", &Leaf { names: &["db.example.com"], ..HOST }, &right);
        files.leaf("expired", &Leaf { expired: true, ..HOST }, &right);
        files.leaf("cloud-sql", &Leaf { common_name: INSTANCE, names: &[], ..HOST }, &right);
        files.leaf("cn-only-host", &Leaf { common_name: "localhost", names: &[], ..HOST }, &right);
        files.self_signed("self-signed", false, false);
        files.self_signed("self-signed-ca", true, false);
        files.self_signed("self-signed-old", true, true);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn leaf(&self, name: &str, leaf: &Leaf<'_>, issuer: &Issuer<'_, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters(leaf).signed_by(&key, issuer).unwrap();
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn self_signed(&self, name: &str, ca: bool, expired: bool) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = parameters(&Leaf { expired, ..HOST });
        if ca {
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        self.write(&format!("{name}.pem"), &parameters.self_signed(&key).unwrap().pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn identity(&self, name: &str) -> CertificateFiles {
        CertificateFiles {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        }
    }

    fn ca(&self, names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(|name| self.path(&format!("{name}.pem"))).collect()
    }

    fn chain(&self, ca: &[&str], name: Option<&str>) -> ServerCheck {
        ServerCheck::Chain { ca: self.ca(ca), name: name.map(str::to_owned) }
    }

    fn full(&self, ca: &[&str]) -> ServerCheck {
        ServerCheck::ChainAndName { ca: self.ca(ca) }
    }
}

fn parameters(leaf: &Leaf<'_>) -> CertificateParams {
    let names: Vec<String> = leaf.names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, leaf.common_name);
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if leaf.expired {
        parameters.not_before = date_time_ymd(2001, 1, 1);
        parameters.not_after = date_time_ymd(2002, 1, 1);
    }
    parameters
}

fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(DnType::CommonName, name);
    let pem = parameters.self_signed(&key).unwrap().pem();
    (Issuer::new(parameters, key), pem)
}

/// One handshake and one byte each way; the client's stream, or its error as text.
async fn handshake(
    server: &CertificateFiles,
    check: &ServerCheck,
    name: &'static str,
) -> Result<Stream, String> {
    let server = ServerTls::load(server).unwrap();
    let client = ClientTls::load(check).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        if let Ok(mut stream) = server.accept(tcp).await {
            let mut byte = [0; 1];
            if stream.read_exact(&mut byte).await.is_ok() {
                drop(stream.write_all(&byte).await);
                drop(stream.flush().await);
            }
        }
    });
    let tcp = TcpStream::connect(address).await.unwrap();
    let connected = client.connect(tcp, ServerName::try_from(name).unwrap()).await;
    let result = match connected {
        Ok(mut stream) => {
            stream.write_all(b"!").await.unwrap();
            stream.flush().await.unwrap();
            let mut byte = [0; 1];
            stream.read_exact(&mut byte).await.unwrap();
            Ok(stream)
        }
        Err(error) => Err(super::reason(&error)),
    };
    serve.await.unwrap();
    result
}

async fn passes(server: &CertificateFiles, check: &ServerCheck, name: &'static str) {
    let stream = handshake(server, check, name).await.unwrap_or_else(|error| panic!("{check:?}: {error}"));
    let facts = stream.tls().unwrap();
    assert_eq!(facts.version, "TLSv1.3");
    assert_eq!(facts.alpn.as_deref(), Some(super::ALPN));
    assert!(stream.peer_certificate().is_some());
    assert!(stream.may_carry_cleartext_password());
}

async fn fails(server: &CertificateFiles, check: &ServerCheck, name: &'static str, reason: &str) {
    match handshake(server, check, name).await {
        Ok(_) => panic!("{check:?} accepted {server:?}"),
        Err(error) => assert!(error.contains(reason), "{check:?} says {error:?}, expected {reason:?}"),
    }
}

#[tokio::test]
async fn require_accepts_every_certificate() {
    let files = Files::make();
    for name in ["good", "other-host", "expired", "cloud-sql", "self-signed", "self-signed-ca"] {
        passes(&files.identity(name), &ServerCheck::Nothing, "localhost").await;
    }
}

#[tokio::test]
async fn verify_ca_wants_the_chain_and_no_name() {
    let files = Files::make();
    for name in ["good", "other-host", "cloud-sql", "cn-only-host"] {
        passes(&files.identity(name), &files.chain(&["right"], None), "elsewhere.example.com").await;
    }
    let check = files.chain(&["wrong"], None);
    fails(&files.identity("good"), &check, "localhost", "UnknownIssuer").await;
    let check = files.chain(&["right"], None);
    fails(&files.identity("self-signed"), &check, "localhost", "UnknownIssuer").await;
    fails(&files.identity("expired"), &check, "localhost", "certificate expired").await;
}

#[tokio::test]
async fn several_authorities_count_at_once() {
    let files = Files::make();
    passes(&files.identity("good"), &files.chain(&["wrong", "right"], None), "localhost").await;
    passes(&files.identity("good"), &files.full(&["both"]), "localhost").await;
}

#[tokio::test]
async fn verify_ca_with_a_name_wants_exactly_that_name() {
    let files = Files::make();
    let check = files.chain(&["right"], Some(INSTANCE));
    passes(&files.identity("cloud-sql"), &check, "10.20.0.3").await;
    fails(&files.identity("good"), &check, "localhost", "is named CN \"server\"").await;
    let check = files.chain(&["right"], Some("my-project:crm"));
    fails(&files.identity("cloud-sql"), &check, "10.20.0.3", "not \"my-project:crm\"").await;
    let check = files.chain(&["right"], Some("DB.example.com"));
    passes(&files.identity("other-host"), &check, "10.20.0.3").await;
    let check = files.chain(&["wrong"], Some(INSTANCE));
    fails(&files.identity("cloud-sql"), &check, "10.20.0.3", "UnknownIssuer").await;
}

#[tokio::test]
async fn verify_full_wants_chain_and_host() {
    let files = Files::make();
    let check = files.full(&["right"]);
    passes(&files.identity("good"), &check, "localhost").await;
    passes(&files.identity("good"), &check, "127.0.0.1").await;
    passes(&files.identity("other-host"), &check, "db.example.com").await;
    fails(&files.identity("other-host"), &check, "localhost", "not valid for name").await;
    fails(&files.identity("good"), &check, "127.0.0.2", "not valid for name").await;
    fails(&files.identity("cn-only-host"), &check, "localhost", "not valid for").await;
    fails(&files.identity("cloud-sql"), &check, "localhost", "not valid for").await;
    fails(&files.identity("expired"), &check, "localhost", "certificate expired").await;
    fails(&files.identity("good"), &files.full(&["wrong"]), "localhost", "UnknownIssuer").await;
    fails(&files.identity("self-signed"), &check, "localhost", "UnknownIssuer").await;
}

#[tokio::test]
async fn a_self_signed_certificate_passes_where_it_is_named_itself() {
    let files = Files::make();
    for name in ["self-signed", "self-signed-ca"] {
        passes(&files.identity(name), &files.chain(&[name], None), "elsewhere.example.com").await;
        passes(&files.identity(name), &files.full(&[name]), "localhost").await;
        fails(&files.identity(name), &files.full(&[name]), "elsewhere.example.com", "not valid for").await;
    }
    let check = files.chain(&["self-signed-old"], None);
    fails(&files.identity("self-signed-old"), &check, "localhost", "expired").await;
}

fn message(result: Result<impl std::fmt::Debug, TlsError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn unusable_files_are_named() {
    let files = Files::make();
    files.write("empty.pem", "nothing here\n");
    let check = |file: &str| ClientTls::load(&files.full(&[file]));
    assert!(message(check("empty")).contains("empty.pem: holds no CERTIFICATE block"));
    assert!(message(check("missing")).contains("missing.pem: cannot be read"));
    let none = ServerCheck::ChainAndName { ca: Vec::new() };
    assert!(message(ClientTls::load(&none)).contains("need at least one `ca` file"));

    let mixed = CertificateFiles { certificate: files.path("good.pem"), key: files.path("expired.key") };
    let text = message(ServerTls::load(&mixed));
    assert!(text.contains("good.pem: cannot be used with the key"), "{text}");
    let swapped = CertificateFiles { certificate: files.path("good.pem"), key: files.path("good.pem") };
    let text = message(ServerTls::load(&swapped));
    assert!(text.contains("good.pem: holds no usable private key"), "{text}");
}

#[test]
fn debug_output_holds_no_key() {
    let files = Files::make();
    let server = ServerTls::load(&files.identity("good")).unwrap();
    assert_eq!(format!("{server:?}"), "ServerTls { .. }");
}

fn der(path: &Path) -> rustls::pki_types::CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_file(path).unwrap()
}

#[test]
fn the_binding_follows_the_signature_algorithm() {
    let files = Files::make();
    let make = |algorithm: &'static rcgen::SignatureAlgorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = parameters(&HOST).self_signed(&key).unwrap();
        files.write("bound.pem", &certificate.pem());
        der(&files.path("bound.pem"))
    };
    let sha256 =
        |bytes: &[u8]| Some(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec());
    let sha384 =
        |bytes: &[u8]| Some(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, bytes).as_ref().to_vec());
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &PKCS_RSA_SHA256] {
        let certificate = make(algorithm);
        assert_eq!(server_end_point(&certificate), sha256(&certificate));
    }
    let certificate = make(&rcgen::PKCS_ECDSA_P384_SHA384);
    assert_eq!(server_end_point(&certificate), sha384(&certificate));
    assert_eq!(server_end_point(&make(&PKCS_ED25519)), None);
    assert_eq!(server_end_point(&rustls::pki_types::CertificateDer::from(vec![0x30, 0x80])), None);
    let server = ServerTls::load(&files.identity("good")).unwrap();
    assert_eq!(server.end_point(), sha256(&der(&files.path("good.pem"))).as_deref());
}

#[test]
fn a_certificate_of_version_one_says_so() {
    use rustls::pki_types::pem::PemObject;
    // `openssl x509 -req -signkey`, OpenSSL 3.0.
    const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----
MIIBFjCBvQIUIhpVAOHTrn/xdNxfhhpVrdI7czgwCgYIKoZIzj0EAwIwDTELMAkG
A1UEAwwCZGIwIBcNMjYxMTIwMjMwNzQ1WhgPMjEyNjEwMjcyMzA3NDVaMA0xCzAJ
BgNVBAMMAmRiMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQ9Lznaj8kDbOJSv/
+KbOtq/QyfCN1V7CRxsTLVQKm8/jWjqvvK5eLUpwdB1rcNGJNOxkA1OnyBsgNmzd
HtBLXzAKBggqhkjOPQQDAgNIADBFAiBsn31Y+kWMvSODnpoVygx7IN5yhJ5LJLhI
8zo7WGTHHwIhAPb9X52HF5950xw5RKlGRZSN4iqtA9GIbw4urQ+9bom8
-----END CERTIFICATE-----
";
    let certificate = rustls::pki_types::CertificateDer::from_pem_slice(PEM).unwrap();
    let error = rustls::server::ParsedCertificate::try_from(&certificate).map(drop).unwrap_err();
    let text = super::reason(&std::io::Error::new(std::io::ErrorKind::InvalidData, error));
    assert!(text.contains("X.509 version 1"), "{text}");
}
