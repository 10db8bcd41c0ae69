//! The throwaway cluster itself: starts with settings, authentication and TLS as asked, and is gone afterwards.

use std::net::TcpStream;

use pgturnstile_tests::Postgres;

#[test]
fn starts_as_asked_and_is_gone_when_dropped() {
    let server = Postgres::builder(21200..21240)
        .setting("work_mem", "5MB")
        .superuser_password("s3cret")
        .hba("host all all 127.0.0.1/32 scram-sha-256")
        .tls()
        .start();
    let port = server.port();
    assert_eq!(
        server.query("postgres", "SHOW work_mem; SHOW ssl"),
        [[Some("5MB".to_owned())], [Some("on".to_owned())]]
    );
    server.create_database("crm");
    server.execute("crm", "CREATE TABLE t (id int)");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    let folder = server.socket_folder().to_owned();
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(!folder.exists());
}
