"""Signed policies: a reload says by whom, an unsigned or older one does not come into force, and the evidence holds both."""

import signal
import subprocess

from harness import HANG_S, binary


def run(*command, code=0):
    done = subprocess.run([binary(), *command], capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def loads(gate, document="policy"):
    return [r["payload"] for r in gate.records() if r["kind"] == "document-loaded" and r["payload"]["document"] == document]


def reload(gate):
    before = len(loads(gate))
    gate.process.send_signal(signal.SIGHUP)
    gate.wait_record("a reload", lambda _: len(loads(gate)) > before)
    return loads(gate)[-1]


def test_reloads_are_attributed_to_who_signed(own_gate):
    gate = own_gate(start=False)
    keys = {}
    for name in ("kim", "lee"):
        keys[name] = gate.folder / f"{name}.ed25519"
        keys[f"{name}.pub"] = run("evidence", "new-key", keys[name], "--name", f"{name}@example.com").strip()
    config, policy = gate.folder / "pgturnstile.toml", gate.folder / "policy.toml"
    signers = f'policy_signers = ["{keys["kim.pub"]}"]'
    config.write_text(config.read_text().replace("[gateway]", f"[gateway]\n{signers}"))
    said = subprocess.run([binary(), "check", "--config", config], capture_output=True, text=True, timeout=HANG_S)
    assert said.returncode == 2 and "policy sign" in said.stdout + said.stderr
    run("policy", "sign", policy, "--key", keys["kim"])
    run("check", "--config", config)
    gate.start()
    assert [load["by"] for load in loads(gate)] == ["kim@example.com"]
    assert [load["by"] for load in loads(gate, "configuration")] == ["unattributed"]
    first = (policy.read_text(), (gate.folder / "policy.toml.note").read_text())

    policy.write_text(first[0] + "\n# a change\n")
    refused = reload(gate)
    assert not refused["in_force"] and refused["by"] == "unattributed" and "signed for another policy" in refused["detail"]
    run("policy", "sign", policy, "--key", keys["lee"])
    refused = reload(gate)
    assert not refused["in_force"] and "bears 0 signature(s)" in refused["detail"]
    run("policy", "sign", policy, "--key", keys["kim"], "--serial", "2")
    taken = reload(gate)
    assert taken["in_force"] and taken["by"] == "kim@example.com" and taken["old_hash"] != taken["new_hash"]

    policy.write_text(first[0])
    (gate.folder / "policy.toml.note").write_text(first[1])
    refused = reload(gate)
    assert not refused["in_force"] and "older policy" in refused["detail"]
    with gate.connect() as db:
        assert db.execute("SELECT 1").fetchone() == (1,), "what is in force stays"

    # Whoever may write the configuration does not make themselves a signer on the fly.
    config.write_text(config.read_text().replace(keys["kim.pub"], keys["lee.pub"]))
    run("policy", "sign", policy, "--key", keys["lee"], "--serial", "9")
    refused = reload(gate)
    assert not refused["in_force"] and "policy_signers" in refused["detail"]
    gate.stop()
    assert gate.verify().returncode == 0
