"""Fixtures of the end-to-end suite: one world a run, one gateway that most tests share, more where a test needs its own."""

from __future__ import annotations

import pytest

from harness import World


def pytest_addoption(parser):
    parser.addoption("--hostile-table", help="the file whose table of hostile peers is written anew (tests/hostile)")
    parser.addoption("--hostile-json", help="where the same goes as JSON")


@pytest.fixture(scope="session")
def world():
    made = World()
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="session")
def shared(world):
    """The gateway that the tests share; `gate` hands it out. Whatever they did to it, its evidence is sound."""
    gateway = world.gateway().start()
    yield gateway
    proof = gateway.verify()
    assert proof.returncode == 0, proof.stdout + proof.stderr


@pytest.fixture
def gate(shared):
    """The shared gateway, alive before and behind the test."""
    assert shared.alive(), "an earlier test ended the gateway"
    yield shared
    assert shared.alive(), f"the gateway ended:\n{shared.log()[-4000:]}"


@pytest.fixture
def own_gate(world):
    """A factory of gateways that end with the test."""
    made = []

    def make(start=True, **settings):
        gateway = world.gateway(**settings)
        made.append(gateway)
        return gateway.start() if start else gateway

    yield make
    for gateway in made:
        gateway.stop()


@pytest.fixture
def database(world):
    return world.database


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what its gateways said."""
    report = (yield).get_result()
    if report.when != "call" or not report.failed:
        return
    world = item.funcargs.get("world") or getattr(item.funcargs.get("gate"), "world", None)
    gateways = [item.funcargs["gate"]] if "gate" in item.funcargs else (world.gateways[-1:] if world else [])
    for gateway in gateways:
        tail = gateway.log()[-3000:]
        report.sections.append((f"log of the gateway on port {gateway.port}", tail))
