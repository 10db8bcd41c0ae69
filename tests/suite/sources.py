"""PostgreSQL's own regression suite, fetched: the tree holds none of it.

Owns: the download of the distribution's source package by apt, in folders of its own (no root, no change of the machine),
the unpacking of src/test/regress, and the building of regress.so, the library of C functions that the suite loads.
Fails loudly: what cannot be had is named, with the command that was tried.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path


class Missing(RuntimeError):
    """The suite cannot be had here."""


def run(*command, **options) -> str:
    """Runs a command; its output, or an error that shows it."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    except FileNotFoundError as error:
        raise Missing(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise Missing(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def server_major(bindir: Path) -> int:
    """Major version of the server whose programs lie in `bindir`."""
    return int(re.search(r"\) (\d+)", run(bindir / "postgres", "--version")).group(1))


def installed_version(major: int) -> str:
    """The package's version, as apt names it."""
    return run("dpkg-query", "-W", "-f=${Version}", f"postgresql-{major}").strip()


class Apt:
    """apt with its lists, cache and sources in a folder of ours: deb-src lines made from what the machine already uses."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (folder / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        targets = run("apt-get", "indextargets", "--format", "$(SITE)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)", "Created-By: Packages")
        lines = set()
        for line in targets.splitlines():
            site, release, component, signed_by = line.split("|")
            keyring = signed_by if signed_by.startswith("/") else self._keyring()
            option = f"[signed-by={keyring}] " if keyring else ""
            for kind in ("deb", "deb-src"):
                lines.add(f"{kind} {option}{site} {release} {component}")
        (folder / "sources.list").write_text("\n".join(sorted(lines)) + "\n")

    @staticmethod
    def _keyring() -> str | None:
        for name in ("debian-archive-keyring.gpg", "ubuntu-archive-keyring.gpg"):
            path = Path("/usr/share/keyrings") / name
            if path.exists():
                return str(path)
        return None

    def get(self, *arguments) -> str:
        """apt-get with those settings."""
        settings = {
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::Lists": self.folder / "lists",
            "Dir::Cache": self.folder / "cache",
            "APT::Sandbox::User": "",
        }
        options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        return run("apt-get", "-q", *options, *arguments, cwd=self.folder)


def fetch(cache: Path, bindir: Path) -> Path:
    """The folder of the suite for that server, from `cache` or freshly made: sql, data, expected, the schedule, and lib
    with the libraries that it loads."""
    major = server_major(bindir)
    version = installed_version(major)
    made = cache / f"postgresql-{version}"
    if (made / "complete").exists():
        return made
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    apt = Apt(cache / "apt")
    apt.get("update")
    source = _download(apt, "source", "--download-only", f"postgresql-{major}", version)
    headers = _download(apt, "download", None, f"postgresql-server-dev-{major}", version)
    tarball = next(iter(sorted(source.glob("*.orig.tar.*"))), None)
    if tarball is None:
        raise Missing(f"the source package of postgresql-{major} holds no original tar file")
    run("tar", "-xf", tarball, "-C", made, "--strip-components=4", "--wildcards", "*/src/test/regress/*")
    _library(made, headers, major, bindir)
    (made / "complete").write_text(f"{tarball.name}\n")
    return made


def _download(apt: Apt, verb: str, option: str | None, package: str, version: str) -> Path:
    """Fetches the version that is installed, or else the newest of the same major version: within one, neither the suite's
    files nor the headers change their meaning."""
    folder = apt.folder / package
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    options = [option] if option else []
    try:
        apt.get(verb, *options, f"{package}={version}")
    except Missing:
        apt.get(verb, *options, package)
    for file in apt.folder.glob(f"{package.replace('-server-dev', '')}*" if verb == "source" else f"{package}_*.deb"):
        if file.is_file():
            file.rename(folder / file.name)
    return folder


def _library(made: Path, headers: Path, major: int, bindir: Path):
    """regress.so from regress.c and the headers of the development package, which is unpacked and not installed."""
    package = next(iter(headers.glob("*.deb")), None)
    if package is None:
        raise Missing(f"postgresql-server-dev-{major} was not downloaded")
    unpacked = headers / "unpacked"
    run("dpkg-deb", "-x", package, unpacked)
    include = unpacked / "usr" / "include" / "postgresql" / str(major) / "server"
    library = made / "lib"
    library.mkdir()
    run("cc", "-O1", "-shared", "-fPIC", f"-I{include}", "-o", library / "regress.so", made / "regress.c")
    # refint and autoinc are contributed modules, which the server's package brings.
    shipped = Path(run(bindir / "pg_config", "--pkglibdir").strip()) if (bindir / "pg_config").exists() else bindir.parent / "lib"
    for name in ("refint.so", "autoinc.so"):
        if not (shipped / name).exists():
            raise Missing(f"{shipped / name} is missing: install postgresql-contrib")
        shutil.copy(shipped / name, library / name)


def schedule(suite: Path) -> list[str]:
    """The test files in the order in which the suite runs them, one at a time."""
    tests = []
    for line in (suite / "parallel_schedule").read_text().splitlines():
        if line.startswith("test:"):
            tests += line.split()[1:]
    return tests
