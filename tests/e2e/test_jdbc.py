"""PostgreSQL's JDBC driver through the gateway; the steps stand in Jdbc.java."""

import shutil
import subprocess
from pathlib import Path

import pytest

from harness import HANG_S, HERE

DRIVER = Path("/usr/share/java/postgresql.jar")


@pytest.mark.skipif(shutil.which("java") is None or not DRIVER.exists(),
                    reason="JDBC IS NOT TESTED HERE: apt-get install default-jdk-headless libpostgresql-jdbc-java")
def test_jdbc(gate):
    got = subprocess.run(
        ["java", "-cp", str(DRIVER), str(HERE / "Jdbc.java")],
        env=gate.environment(), capture_output=True, text=True, timeout=2 * HANG_S, check=False,
    )
    assert got.returncode == 0, got.stdout + got.stderr
    assert got.stdout.splitlines()[-1] == "all done", got.stdout
