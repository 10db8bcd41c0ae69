"""What a container engine would do with the files of docker/, as far as plain processes can: no engine is needed.

Owns: sandboxes (bubblewrap) with the user, mounts, read-only root, environment and words that the files name, in one network
of their own, so that every configuration runs with its own paths and ports. The gateway's sandbox holds what its image
holds: the binary, the libraries that distroless cc has, no shell. It needs root (or sudo without a password) for users and
mounts. May not: pull, build, or enforce networks between services; the tests look at those in the files.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from harness import HANG_S, ROOT, binary, pg_bin, wait_until

DOCKER = ROOT / "docker"
AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]
GATEWAY_USER = 65532
# What distroless cc gives to a binary that needs neither C++ nor OpenSSL.
DISTROLESS = ("linux-vdso", "ld-linux", "libc.so.6", "libm.so.6", "libgcc_s.so.1")
USERS = "root:x:0:0:root:/root:/bin/sh\npostgres:x:999:999::/tmp:/bin/sh\nnonroot:x:65532:65532::/tmp:/bin/sh\n"


def missing() -> str | None:
    """Why sandboxes cannot be had here; None where they can."""
    if not shutil.which("bwrap"):
        return "bubblewrap is not installed (apt-get install bubblewrap)"
    if AS_ROOT and (not shutil.which("sudo") or subprocess.run([*AS_ROOT, "true"], capture_output=True, check=False).returncode):
        return "containers of several users need root, or sudo without a password"
    user = ["setpriv", f"--reuid={GATEWAY_USER}", f"--regid={GATEWAY_USER}", "--clear-groups"]
    tried = [*AS_ROOT, *user, "bwrap", "--ro-bind", "/", "/", "true"]
    if subprocess.run(tried, capture_output=True, cwd="/", check=False).returncode:
        return "this system lets no ordinary user make namespaces (kernel.unprivileged_userns_clone, AppArmor)"
    return None


def containerfile() -> dict[str, str]:
    """The instructions of the final stage, the last of each."""
    joined = re.sub(r"\\\n", " ", (DOCKER / "Containerfile").read_text())
    final = re.split(r"(?m)^FROM ", joined)[-1]
    found = {}
    for line in final.splitlines()[1:]:
        if re.match(r"[A-Z]+ ", line):
            name, value = line.split(" ", 1)
            found[name] = value.strip()
    return found


def libraries(program: Path) -> list[str]:
    """What the dynamic linker loads for it, one line a library."""
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
    return [line.strip() for line in linked.stdout.splitlines()]


def distroless_root(copy: Path) -> list[str]:
    """The gateway's image: the binary, its libraries, names. Nothing else is there."""
    root = ["--ro-bind", copy, "/usr/local/bin/pgturnstile"]
    for line in libraries(copy):
        found = re.search(r"(/\S+)", line)
        if found:
            root += ["--ro-bind", found[1], found[1]]
    return root


def debian_root() -> list[str]:
    """The distribution, where a service's image is one of Debian's."""
    root = ["--ro-bind", "/usr", "/usr", "--symlink", "/run", "/var/run"]
    for name in ("bin", "sbin", "lib", "lib64"):
        root += ["--symlink", f"usr/{name}", f"/{name}"]
    return root


class Network:
    """One network namespace with loopback only: all services are in it, and nobody else."""

    UP = (
        "import fcntl, signal, socket, struct\n"
        # SIOCSIFFLAGS, with IFF_UP and IFF_RUNNING: netdevice(7).
        "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 0x41))\n"
        "print('up', flush=True)\nsignal.pause()\n"
    )

    def __enter__(self):
        self.process = subprocess.Popen(
            [*AS_ROOT, "unshare", "--net", "--kill-child", "--fork", "--pid", sys.executable, "-c", self.UP],
            stdout=subprocess.PIPE, text=True,
        )
        assert self.process.stdout.readline() == "up\n"
        self.holder = wait_until("the holder of the network", lambda: number_one(self.process.pid))
        return self

    def enter(self) -> list[str]:
        """The words that run a command inside."""
        return [*AS_ROOT, "nsenter", f"--net=/proc/{self.holder}/ns/net", "--"]

    def __exit__(self, *_):
        subprocess.run([*AS_ROOT, "kill", "-KILL", str(self.holder)], check=False)
        self.process.wait(HANG_S)


class Container:
    """One container: an image's root, a user, mounts, an environment. It runs commands, one after another."""

    def __init__(self, machine, root, user, mounts=(), tmpfs=(), environment=None, capabilities=(), names=()):
        self.network = machine.network
        self.user = user
        self.environment = {"PATH": f"/usr/local/bin:{pg_bin()}:/usr/bin:/bin", **(environment or {})}
        etc = Path(tempfile.mkdtemp(prefix="etc.", dir=machine.folder))
        etc.chmod(0o755)
        (etc / "passwd").write_text(USERS)
        (etc / "hosts").write_text("127.0.0.1 localhost " + " ".join(names) + "\n")
        self.arguments = ["--dev", "/dev", "--proc", "/proc", *root]
        for name in ("passwd", "hosts"):
            self.arguments += ["--ro-bind", etc / name, f"/etc/{name}"]
        for at, source, writable in mounts:
            self.arguments += ["--bind" if writable else "--ro-bind", source, at]
        for at in tmpfs:
            # A tmpfs of bubblewrap is its user's, mode 0755.
            self.arguments += ["--tmpfs", at]
        # Behind everything that must be made in it: the root is read-only, as in every file of docker/.
        self.arguments += ["--remount-ro", "/"]
        self.arguments += ["--cap-drop", "ALL"]
        for name in capabilities:
            self.arguments += ["--cap-add", f"CAP_{name}"]

    def words(self, command, *more, **environment) -> list[str]:
        """The whole command line. A process that its end must reach is number 1, as in a container."""
        words = [*self.network.enter(), "setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        words += ["bwrap", "--die-with-parent", "--new-session", "--unshare-pid", "--as-pid-1", "--unshare-ipc", "--clearenv"]
        for name, value in {**self.environment, **environment}.items():
            words += ["--setenv", name, value]
        return [str(word) for word in [*words, *more, *self.arguments, "--chdir", "/", "--", *command]]

    def run(self, command, stdin=None, **environment) -> subprocess.CompletedProcess:
        """Runs it to its end."""
        return subprocess.run(
            self.words(command, **environment), input=stdin, capture_output=True, text=True, timeout=HANG_S, check=False
        )

    @contextlib.contextmanager
    def service(self, command, log: Path, stop="TERM"):
        """Runs it meanwhile; ends it by its stop signal, sent to the process itself, and waits."""
        with open(log, "wb") as out:
            process = subprocess.Popen(self.words(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        running = Running(process, log)
        try:
            yield running
        finally:
            running.stop(stop)


def number_one(pid) -> int | None:
    """The process behind `pid` that is number 1 of a namespace of its own."""
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        numbers = re.search(r"(?m)^NSpid:\s*(.*)$", status)[1].split()
        if len(numbers) > 1 and numbers[-1] == "1":
            return pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            return None
        pid = int(children[0])


class Running:
    """A service that runs."""

    def __init__(self, process, log):
        self.process, self.log_path = process, log

    def log(self) -> str:
        """What it said."""
        return self.log_path.read_text(errors="replace")

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def stop(self, signal="TERM") -> int:
        """Its exit code, behind the signal."""
        if self.alive():
            pid = wait_until("the container's process", lambda: number_one(self.process.pid))
            subprocess.run([*AS_ROOT, "kill", f"-{signal}", str(pid)], check=False)
        return self.process.wait(HANG_S)


class Machine:
    """One scratch folder that every user may enter, with copies of the binary and of docker/; one network."""

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="pgturnstile-deploy."))
        self.folder.chmod(0o755)
        self.binary = shutil.copy(binary(), self.folder / "pgturnstile")
        self.docker = shutil.copytree(DOCKER, self.folder / "docker")
        self.network = Network().__enter__()
        return self

    def __exit__(self, *_):
        self.network.__exit__()
        # What the containers' users own is theirs.
        subprocess.run([*AS_ROOT, "rm", "-rf", self.folder], check=False)

    def gateway(self, mounts=(), environment=None, user=GATEWAY_USER, names=()) -> Container:
        """A container of the gateway's image."""
        return Container(self, distroless_root(self.binary), user, mounts, environment=environment, names=names)


class Compose:
    """docker/compose.yaml, its services as containers."""

    def __init__(self, machine: Machine):
        self.file = yaml.safe_load((DOCKER / "compose.yaml").read_text())
        self.machine = machine
        self.volumes = machine.folder / "volumes"
        self.volumes.mkdir()
        for name in self.file["volumes"]:
            (self.volumes / name).mkdir()

    def container(self, name) -> Container:
        """A service, by what its section says."""
        service = self.file["services"][name]
        mounts = []
        for volume in service.get("volumes", []):
            source, at, *mode = volume.split(":")
            path = self.machine.docker / source if source.startswith(".") else self.volumes / source
            assert path.exists(), path
            mounts.append((at, path, mode != ["ro"]))
        ours = service["image"].startswith("pgturnstile")
        return Container(
            self.machine,
            distroless_root(self.machine.binary) if ours else debian_root(),
            int(service["user"].split(":")[0]),
            mounts,
            [at.split(":")[0] for at in service.get("tmpfs", [])],
            {name: value for name, value in service.get("environment", {}).items() if value is not None},
            service.get("cap_add", []),
            self.file["services"],
        )

    def command(self, name) -> list[str]:
        """Its words: those of the file, else the image's."""
        service, image = self.file["services"][name], containerfile()
        if not service["image"].startswith("pgturnstile"):
            return service.get("entrypoint", []) + service.get("command", [])
        return json.loads(image["ENTRYPOINT"]) + service.get("command", json.loads(image["CMD"]))
