"""The files of docker/: they parse, hold to the linters and to the rules that matter, and run, without a container engine.

What runs: entry points, configurations, policies and scripts, each with the user, mounts, read-only root and words that the
files name (engine.py says how). What does not: image builds, and networks between services; the tests read those.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from engine import AS_ROOT, DISTROLESS, DOCKER, GATEWAY_USER, Compose, Machine, containerfile, libraries, missing
from harness import HANG_S, ROOT, binary, wait_until

BASE, CLOUD_SQL = DOCKER / "kubernetes" / "base", DOCKER / "kubernetes" / "cloud-sql"
# The oldest with the preStop sleep on by default, and the newest that the linter knows.
KUBERNETES = ("1.30", "1.37")
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
TOOLS = Path(sys.executable).parent

engine = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def documents(folder: Path) -> dict[tuple[str, str], dict]:
    """Every object of the folder's resources, by kind and name."""
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    found = {}
    for name in listed:
        for document in yaml.safe_load_all((folder / name).read_text()):
            found[document["kind"], document["metadata"]["name"]] = document
    return found


@pytest.fixture
def machine():
    with Machine() as made:
        yield made


# --- the image ------------------------------------------------------------------------------------------------------


def test_containerfile_lint():
    linted = subprocess.run([TOOLS / "hadolint", DOCKER / "Containerfile"], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_containerfile_builds_what_the_tree_builds():
    text = (DOCKER / "Containerfile").read_text()
    packages = re.search(r"--no-install-recommends ([^\\]*)", text)[1].split()
    shared = re.search(r"BUILD_PACKAGES=\(([^)]*)\)", (DOCKER / "common.sh").read_text())[1].split()
    assert packages == shared and not {"protobuf-compiler"} & set(packages)
    assert "cargo build --profile dist --locked" in text
    built_on = re.search(r"rust:(\d+)\.(\d+)\.\d+-slim-bookworm", text)
    minimum = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"].split(".")
    assert [int(n) for n in built_on.groups()] >= [int(n) for n in minimum[:2]]
    assert all(re.search(r":[\w.-]*\d", image) or image.endswith(":nonroot") for image in re.findall(r"(?m)^FROM (\S+)", text))


def test_final_stage():
    image = containerfile()
    assert image["USER"] == f"{GATEWAY_USER}:{GATEWAY_USER}" and image["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(image["ENTRYPOINT"]) == ["/usr/local/bin/pgturnstile"]


def test_the_binary_links_what_distroless_holds():
    strange = [line for line in libraries(binary()) if not any(name in line for name in DISTROLESS)]
    assert strange == []
    pattern = re.search(r"grep -Ev '([^']*)'", (DOCKER / "Containerfile").read_text())[1]
    assert [line for line in libraries(binary()) if not re.search(pattern, line)] == []


def test_the_build_context_is_enough_and_no_more(tmp_path):
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*" and {"**/target", "**/__pycache__"} <= set(rules)
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    for name in kept:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("target", "__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    read = subprocess.run(
        ["cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )
    assert read.returncode == 0, read.stderr
    for package in json.loads(read.stdout)["packages"]:
        assert Path(package["manifest_path"]).is_relative_to(tmp_path)


# --- Compose --------------------------------------------------------------------------------------------------------


def test_compose_lint():
    linted = subprocess.run(
        [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml"],
        capture_output=True, text=True, check=False,
    )
    assert linted.returncode == 0, linted.stdout


def test_compose_reaches_the_database_through_the_gateway_only():
    networks = yaml.safe_load((DOCKER / "compose.yaml").read_text())["networks"]
    assert networks["database"]["internal"] is True
    inside = {name for name, service in COMPOSE.items() if "database" in service.get("networks", [])}
    assert inside == {"postgres", "pgturnstile"}
    assert COMPOSE["postgres"]["networks"] == ["database"] and "ports" not in COMPOSE["postgres"]
    assert COMPOSE["psql"]["networks"] == ["clients"]
    assert COMPOSE["ready"]["network_mode"] == "service:pgturnstile"
    # The identity provider signs for anybody: loopback of the gateway, and no port.
    assert COMPOSE["dev-idp"]["network_mode"] == "service:pgturnstile" and "ports" not in COMPOSE["dev-idp"]
    assert [port for service in COMPOSE.values() for port in service.get("ports", [])] == ["127.0.0.1:6432:6432"]


def test_compose_gives_nobody_more_than_needed():
    for name, service in COMPOSE.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"] != "0:0" or name == "prepare"
    volumes = {name: service.get("volumes", []) for name, service in COMPOSE.items()}
    writers = {name for name, mounted in volumes.items() if "evidence:/var/lib/pgturnstile/evidence" in mounted}
    assert writers == {"pgturnstile"}
    secrets = [volume for mounted in volumes.values() for volume in mounted if volume.startswith(("gateway-s", "database-s"))]
    assert all(volume.endswith(":ro") or volume.split(":")[1].startswith("/volumes/") for volume in secrets)
    grace = int(COMPOSE["pgturnstile"]["stop_grace_period"].removesuffix("s"))
    drain = tomllib.loads((DOCKER / "compose" / "pgturnstile.toml").read_text())["gateway"]["drain_deadline_s"]
    # And login_deadline_ms, and five seconds for last words.
    assert grace > drain + 10 + 5


class Postgres:
    """The image of PostgreSQL: what its entry point makes of the environment and of the scripts (first start, then start)."""

    def __init__(self, compose):
        self.compose, self.container = compose, compose.container("postgres")
        self.settings = COMPOSE["postgres"]["environment"]

    def first_start(self):
        data = "/var/lib/postgresql/data"
        made = self.container.run(
            ["initdb", "-D", data, "--username=postgres", f"--pwfile={self.settings['POSTGRES_PASSWORD_FILE']}",
             # The test's own: nothing here must outlive it.
             "--no-sync", *self.settings["POSTGRES_INITDB_ARGS"].split()], PGDATA=data,
        )
        assert made.returncode == 0, made.stderr
        # On its socket alone, with the words of the service in front; in one sandbox, since a tmpfs is one container's.
        _, *words = self.compose.command("postgres")
        alone = " ".join([*words, "-c", "listen_addresses=''"])
        script = f"""set -euo pipefail
            pg_ctl -D "$PGDATA" -o "{alone}" -w start
            psql -X -v ON_ERROR_STOP=1 -U postgres -c "CREATE DATABASE $POSTGRES_DB"
            for found in /docker-entrypoint-initdb.d/*; do case $found in
              *.sh) "$found" ;;
              *.sql) psql -X -q -v ON_ERROR_STOP=1 -U postgres -d "$POSTGRES_DB" -f "$found" ;;
            esac; done
            pg_ctl -D "$PGDATA" -m fast -w stop"""
        done = self.container.run(["bash", "-c", script], POSTGRES_USER="postgres", PGDATA=data, PGHOST="/run/postgresql")
        assert done.returncode == 0, done.stdout + done.stderr

    def service(self, log):
        return self.container.service([*self.compose.command("postgres"), "-D", "/var/lib/postgresql/data"], log, stop="INT")


def healthy(compose, name):
    """Whether the service's health check says so."""
    _, *command = COMPOSE[name]["healthcheck"]["test"]
    return compose.container(name).run(command).returncode == 0


@engine
def test_compose_runs(machine):
    """The first run of docker/README.md: prepare, PostgreSQL, gateway, identity provider, a token, psql."""
    compose = Compose(machine)
    prepare = compose.container("prepare")
    for said in ("prepared: certificates, passwords, volumes\n", "prepared before\n"):
        prepared = prepare.run(compose.command("prepare"))
        assert (prepared.returncode, prepared.stdout) == (0, said), prepared.stderr
    modes = subprocess.run(
        [*AS_ROOT, "find", compose.volumes, "-type", "f", "-printf", "%P %m %U\\n"], capture_output=True, text=True, check=True
    ).stdout.split("\n")[:-1]
    open_to_others = [line for line in modes if not re.search(r" 400 (65532|999)$", line)]
    assert open_to_others == ["client-tls/ca.crt 444 0"]

    postgres = Postgres(compose)
    postgres.first_start()
    gateway, idp, client = (compose.container(name) for name in ("pgturnstile", "dev-idp", "psql"))
    entry = json.loads(containerfile()["ENTRYPOINT"])
    checked = gateway.run([*entry, "check", "--config", "/etc/pgturnstile/pgturnstile.toml", "--json"])
    findings = json.loads(checked.stdout)["findings"]
    assert checked.returncode == 0 and [finding["message"] for finding in findings] == [
        "is reached without TLS: for development on this machine only"
    ]
    tested = gateway.run([*entry, "test", "--config", "/etc/pgturnstile/pgturnstile.toml"])
    assert tested.returncode == 0 and " 0 failed" in tested.stdout, tested.stdout

    def psql(*words, group="agents"):
        made = idp.run([*entry, "token", "--idp-state", "/var/lib/dev-idp", "--sub", "agent-7", "--groups", group])
        assert made.returncode == 0, made.stderr
        return client.run([*compose.command("psql"), *words], PGPASSWORD=made.stdout.strip())

    logs = machine.folder
    with postgres.service(logs / "postgres.log"):
        wait_until("the database's health", lambda: healthy(compose, "postgres"))
        with (
            gateway.service(compose.command("pgturnstile"), logs / "gateway.log") as serving,
            idp.service(compose.command("dev-idp"), logs / "idp.log"),
        ):
            try:
                wait_until("the gateway's health", lambda: healthy(compose, "ready"))
                # Ready does not wait for targets: until the catalog is read, sessions are refused and say so.
                wait_until("the first statement", lambda: psql("-c", "SELECT 1").returncode == 0)
                passed = psql("-At", "-c", "SELECT count(*) FROM orders")
                assert (passed.returncode, passed.stdout.strip()) == (0, "5000"), passed.stderr
                refused = psql("-c", "DROP TABLE orders")
                assert refused.returncode == 1 and "pgturnstile refused DROP TABLE on crm.orders" in refused.stderr
                stranger = psql("-c", "SELECT 1", group="sales")
                assert stranger.returncode == 2, stranger.stdout
                # Beside the gateway: what pg_hba.conf keeps out even where the network would not.
                for words, why in ((["sslmode=disable"], "no encryption"), (["user=postgres"], "rejects connection")):
                    direct = client.run(["psql", "-X", " ".join(["host=postgres port=5432 user=crm_reader sslmode=require", *words])])
                    assert direct.returncode == 2 and why in direct.stderr, direct.stderr
            except BaseException:
                print(serving.log()[-4000:])
                raise
            assert serving.stop() == 0, serving.log()[-2000:]
    verified = gateway.run([*entry, "verify", "/var/lib/pgturnstile/evidence"])
    assert verified.returncode == 0 and " 0 without a close" in verified.stdout, verified.stdout


# --- Kubernetes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_schema(version):
    for document in [*documents(BASE).values(), *yaml.safe_load_all((CLOUD_SQL / "network.yaml").read_text())]:
        kubernetes_validate.validate(document, version, strict=True)


def test_kustomizations_name_what_is_there():
    for folder in (BASE, CLOUD_SQL):
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        named = {name for map in kustomization["configMapGenerator"] for name in map["files"]}
        named |= {name for name in kustomization["resources"] if (folder / name).is_file()}
        named |= {patch["path"] for patch in kustomization.get("patches", []) if "path" in patch}
        assert named | {"kustomization.yaml"} == {path.name for path in folder.iterdir()}
    # What the overlay changes and deletes is there under that name.
    base = documents(BASE)
    for patch in yaml.safe_load((CLOUD_SQL / "kustomization.yaml").read_text())["patches"]:
        text = (CLOUD_SQL / patch["path"]).read_text() if "path" in patch else patch["patch"]
        changed = yaml.safe_load(text)
        assert (changed["kind"], changed["metadata"]["name"]) in base


def pod():
    return documents(BASE)["StatefulSet", "pgturnstile"]["spec"]["template"]["spec"]


def test_pod_is_restricted():
    """Pod Security Standards, level "restricted", and what they do not ask."""
    spec, (container,) = pod(), pod()["containers"]
    context = spec["securityContext"]
    assert context["runAsNonRoot"] and context["runAsUser"] == context["fsGroup"] == GATEWAY_USER
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert {"configMap", "secret"} >= {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
    pages = {probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert pages == {"startupProbe": "/live", "readinessProbe": "/ready", "livenessProbe": "/live"}
    assert container["args"] == json.loads(containerfile()["CMD"])


def test_pod_has_time_to_drain():
    (container,) = pod()["containers"]
    wait = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    for folder in (BASE, CLOUD_SQL):
        drain = tomllib.loads((folder / "pgturnstile.toml").read_text())["gateway"]["drain_deadline_s"]
        assert pod()["terminationGracePeriodSeconds"] > wait + drain + 10 + 5


def test_replicas_fit_the_database():
    replicas = documents(BASE)["StatefulSet", "pgturnstile"]["spec"]["replicas"]
    for folder in (BASE, CLOUD_SQL):
        (target,) = tomllib.loads((folder / "pgturnstile.toml").read_text())["target"]
        # One connection is each gateway's own; PostgreSQL keeps three of 100 for superusers.
        assert replicas * (target["sessions_max"] + 1) <= 97


def test_selectors_meet():
    objects = documents(BASE)
    labels = objects["StatefulSet", "pgturnstile"]["spec"]["template"]["metadata"]["labels"]
    assert objects["StatefulSet", "pgturnstile"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["StatefulSet", "pgturnstile"]["spec"]["serviceName"] == "pgturnstile-pods"
    assert objects["PodDisruptionBudget", "pgturnstile"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["NetworkPolicy", "pgturnstile"]["spec"]["podSelector"]["matchLabels"] == labels
    (allowed,) = objects["NetworkPolicy", "postgresql-by-gateway-only"]["spec"]["ingress"]
    assert [who["podSelector"]["matchLabels"] for who in allowed["from"]] == [labels]
    ports = {port["name"] for port in pod()["containers"][0]["ports"]}
    for name in ("pgturnstile", "pgturnstile-pods"):
        service = objects["Service", name]["spec"]
        assert service["selector"] == labels and {port["targetPort"] for port in service["ports"]} <= ports


def test_egress_of_both():
    base = documents(BASE)["NetworkPolicy", "pgturnstile"]["spec"]
    overlay = yaml.safe_load((CLOUD_SQL / "network.yaml").read_text())["spec"]
    assert base["policyTypes"] == ["Ingress", "Egress"] and overlay["podSelector"] == base["podSelector"]
    (target,) = tomllib.loads((CLOUD_SQL / "pgturnstile.toml").read_text())["target"]
    host, port = target["address"].split(":")
    assert overlay["egress"][0] == {"to": [{"ipBlock": {"cidr": f"{host}/32"}}], "ports": [{"port": int(port)}]}
    for spec in (base, overlay):
        # Nowhere without a port, and HTTPS to no private network.
        assert all(rule["ports"] and rule["to"] for rule in spec["egress"])
        assert "169.254.0.0/16" in spec["egress"][-1]["to"][0]["ipBlock"]["except"]


def kubernetes_mounts(folder: Path, machine):
    """The pod's volumes as the kubelet makes them: (path, source, writable)."""
    (container,), volumes = pod()["containers"], {volume["name"]: volume for volume in pod()["volumes"]}
    claims = {claim["metadata"]["name"] for claim in documents(BASE)["StatefulSet", "pgturnstile"]["spec"]["volumeClaimTemplates"]}
    files = {"pgturnstile-tls": {}, "pgturnstile-logins": {}, "pgturnstile-database-ca": {}}
    config = tomllib.loads((folder / "pgturnstile.toml").read_text())
    for credential in config["credential"].values():
        files["pgturnstile-logins"][Path(credential["password"]["file"]).name] = "secret"
    made = machine.folder / "made"
    made.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=pgturnstile", "-keyout", made / "tls.key", "-out", made / "tls.crt"], check=True, capture_output=True,
    )
    files["pgturnstile-tls"] = {name: (made / name).read_text() for name in ("tls.crt", "tls.key")}
    files["pgturnstile-database-ca"] = {"ca.crt": (made / "tls.crt").read_text()}
    for mount in container["volumeMounts"]:
        name, source = mount["name"], machine.folder / "pod" / mount["name"]
        source.mkdir(parents=True)
        if name in claims:
            # A fresh ext4 with fsGroup.
            (source / "lost+found").mkdir(mode=0o700)
            subprocess.run([*AS_ROOT, "chown", f"root:{GATEWAY_USER}", source], check=True)
            subprocess.run([*AS_ROOT, "chmod", "2775", source], check=True)
            yield mount["mountPath"], source, True
            continue
        assert mount["readOnly"] is True
        if "configMap" in volumes[name]:
            # The overlay merges its file into the base's.
            for config_file in ("policy.toml", "pgturnstile.toml"):
                shutil.copy((folder if (folder / config_file).exists() else BASE) / config_file, source / config_file)
        else:
            secret = volumes[name]["secret"]
            assert secret["defaultMode"] == 0o400
            for key, value in files.pop(secret["secretName"]).items():
                (source / key).write_text(value)
                (source / key).chmod(0o440)
            subprocess.run([*AS_ROOT, "chown", "-R", f"root:{GATEWAY_USER}", source], check=True)
        yield mount["mountPath"], source, False


ASK = """
import http.client, ssl, sys
connection = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[1]), context=ssl._create_unverified_context())
connection.request("GET", sys.argv[2])
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


def probe(machine, container, name) -> tuple[int, dict]:
    """What the kubelet is answered: the status and the page."""
    get = container[name]["httpGet"]
    assert get["scheme"] == "HTTPS"
    (port,) = [port["containerPort"] for port in container["ports"] if port["name"] == get["port"]]
    words = [*machine.network.enter(), sys.executable, "-c", ASK, str(port), get["path"]]
    asked = subprocess.run(words, capture_output=True, text=True, timeout=HANG_S, check=True)
    status, page = asked.stdout.split(" ", 1)
    return int(status), json.loads(page)


@engine
@pytest.mark.parametrize("folder", [BASE, CLOUD_SQL], ids=lambda folder: folder.name)
def test_pod_starts(folder, machine):
    """The pod's words with its configuration: it checks, tests its policy, listens, and ends in order by SIGTERM."""
    container = machine.gateway(list(kubernetes_mounts(folder, machine)))
    entry, (spec,) = json.loads(containerfile()["ENTRYPOINT"]), pod()["containers"]
    config = ["--config", spec["args"][spec["args"].index("--config") + 1]]
    checked = container.run([*entry, "check", *config, "--json"])
    report = json.loads(checked.stdout)
    messages = [finding["message"] for finding in report["findings"]]
    # By fsGroup, and that group has one member.
    allowed = r"\S+ is open to others \(mode (0440|2775)\); chmod [67]00"
    assert checked.returncode == 0 and all(re.fullmatch(allowed, message) for message in messages), messages
    tested = container.run([*entry, "test", *config])
    assert tested.returncode == 0 and " 0 failed" in tested.stdout, tested.stdout
    with container.service([*entry, *spec["args"]], machine.folder / "log") as serving:
        def accepts():
            assert serving.alive(), serving.log()
            return '"accepting"' in serving.log()

        wait_until("the listener", accepts)
        # The kubelet's probes, which check no certificate. The issuer cannot be reached from here: not ready, and it says why.
        assert probe(machine, spec, "startupProbe") == (200, {"live": True, "stalled_shards": []})
        status, page = probe(machine, spec, "readinessProbe")
        assert (status, [missing["part"] for missing in page["not_ready"]]) == (503, ["keys"])
        postgresql = [*machine.network.enter(), "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/6432"]
        assert subprocess.run(postgresql, capture_output=True, check=False).returncode == 0
        assert serving.stop() == 0, serving.log()


# --- systemd --------------------------------------------------------------------------------------------------------

UNIT, SOCKET = DOCKER / "systemd" / "pgturnstile.service", DOCKER / "systemd" / "pgturnstile.socket"


@engine
def test_unit_verifies(machine):
    # The unit names the program by its installed path.
    words = ["bwrap", "--dev-bind", "/", "/", "--tmpfs", "/usr/local/bin", "--ro-bind", machine.binary, "/usr/local/bin/pgturnstile"]
    verified = subprocess.run(
        [*AS_ROOT, *words, "systemd-analyze", "verify", "--man=no", UNIT, SOCKET], capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, ""), verified.stderr
    # From 0 to 10, in tenths here; what is left is that it has a network.
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=15", UNIT], capture_output=True, text=True, check=False
    )
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_unit_starts_what_the_image_starts():
    settings = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if re.match(r"[A-Z]\w*=", line))
    image = containerfile()
    assert settings["ExecStart"].split() == json.loads(image["ENTRYPOINT"]) + json.loads(image["CMD"])
    assert int(settings["TimeoutStopSec"]) > 30 + 10 + 5
