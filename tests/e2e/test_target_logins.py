"""Logins to the target by client certificate and by MD5, through serve: what `[credential.NAME]` says of them."""

import shutil
import subprocess

import pytest

import wire
from harness import Gateway, Postgres, binary, wait_until
from wire import Client, errors, query

HBA = "hostssl all app_login 127.0.0.1/32 cert\nhost all all 127.0.0.1/32 md5\n"
SHOWN = 'certificate = "client.crt"\nkey = "client.key"'


def certificate(folder, name, *subject_alternatives):
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
               "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"]
    for alternative in subject_alternatives:
        command += ["-addext", f"subjectAltName={alternative}"]
    subprocess.run(command, check=True, capture_output=True)
    (folder / f"{name}.key").chmod(0o600)


@pytest.fixture(scope="module")
def tls(world, tmp_path_factory):
    """A server that asks for certificates, and its files."""
    files = tmp_path_factory.mktemp("tls")
    # The server's user has to reach its own files.
    for folder in (files, *files.parents):
        if str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    certificate(files, "server", "IP:127.0.0.1")
    certificate(files, "app_login")
    certificate(files, "stranger")
    database = Postgres(
        world.folder / "postgres-tls",
        hba=HBA,
        settings=f"ssl = on\nssl_cert_file = '{files}/server.crt'\nssl_key_file = '{files}/server.key'\n"
        f"ssl_ca_file = '{files}/app_login.crt'\npassword_encryption = md5\n",
    )
    if database.user == "postgres":
        shutil.chown(files / "server.key", "postgres")
    database.start()
    yield database, files
    database.stop()


@pytest.fixture
def before(world, tls):
    """A factory of gateways before that server; their credential `app` shows the certificate of `name`."""
    database, files = tls
    made = []

    def make(name="app_login", **settings):
        settings = {
            "app_password": SHOWN,
            "target_tls": '{ mode = "verify-full", ca = ["server.crt"] }',
            **settings,
        }
        gateway = Gateway(world.folder / f"gateway-tls-{name}-{len(world.gateways)}", database, world.idp, world.folder, **settings)
        world.gateways.append(gateway)
        made.append(gateway)
        shutil.copy(files / "server.crt", gateway.folder)
        shutil.copy(files / f"{name}.crt", gateway.folder / "client.crt")
        shutil.copy(files / f"{name}.key", gateway.folder / "client.key")
        (gateway.folder / "client.key").chmod(0o600)
        return gateway

    yield make
    for gateway in made:
        gateway.stop()


def checked(gateway):
    done = subprocess.run([binary(), "check", "--config", gateway.folder / "pgturnstile.toml"], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_certificate_and_an_md5_password_log_in(before, tls):
    database, _ = tls
    gate = before()
    assert checked(gate)[0] == 0, checked(gate)
    gate.start()
    with Client(gate) as client:
        pid = client.rows("SELECT pg_backend_pid()")[0][0]
        assert database.one("SELECT client_dn FROM pg_stat_ssl WHERE pid = %s", int(pid)) == "/CN=app_login"
        client.send(query("SELECT pg_sleep(600)"))
        wait_until("the sleep", lambda: database.one("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", int(pid)) == "PgSleep")
        wire.cancel(gate, client.key)
        assert errors(client.until_ready())[0]["C"] == "57014"
    assert database.one("SELECT rolpassword FROM pg_authid WHERE rolname = 'power_login'").startswith("md5")
    with Client(gate, "power") as client:
        assert client.rows("SELECT current_user") == [(b"power_login",)]


def test_the_key_is_read_at_each_login_under_libpq_s_rule_on_modes(before):
    gate = before()
    gate.start()
    key = gate.folder / "client.key"
    key.chmod(0o644)
    with pytest.raises(wire.Refused) as refused:
        Client(gate)
    assert refused.value.fields["C"] == "08001" and "client.key" not in str(refused.value)
    assert "others may read or change (mode 0644): chmod 600" in gate.log()
    code, said = checked(gate)
    assert code != 0 and "others may read or change" in said, said
    key.chmod(0o600)
    gate.served()


def test_a_certificate_that_the_server_does_not_know(before):
    gate = before("stranger")
    gate.spawn()

    def refused():
        try:
            Client(gate).sock.close()
        except (wire.Refused, ConnectionError) as got:
            return got

    wait_until("the refusal", lambda: refused() and "could not be dialled" in gate.log())
    assert "app_login" not in str(refused())


def test_a_certificate_needs_its_key_and_tls(before):
    code, said = checked(before(app_password='certificate = "client.crt"'))
    assert code != 0 and "needs its private key" in said, said
    code, said = checked(before(app_password='key = "client.key"'))
    assert code != 0 and "belongs to a certificate" in said, said
    code, said = checked(before(target_tls='{ mode = "disable" }'))
    assert code != 0 and "shown inside TLS only" in said, said


def test_md5_is_refused_outside_tls(before):
    """The catalog's own login is the first to be asked."""
    gate = before(app_password='password = { file = "secrets/app_login" }', target_tls='{ mode = "disable" }')
    gate.spawn()
    wait_until("the refusal", lambda: "who listens to the answer can try passwords on it" in gate.log())
