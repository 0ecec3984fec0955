# SPDX-License-Identifier: Apache-2.0
"""lodge stats: the figures of a running machine, found by its run, add up and are of the work that was done."""
import json
import subprocess

import pytest

from lodge_run import machines_of_test, read_until
from vmm import control


lodge = pytest.fixture(machines_of_test("--engine", "soft"))


def figures(lodge, name):
    return json.loads(lodge("stats", "--json", name).stdout)[0]


def test_figures_of_a_running_machine(lodge):
    vm = lodge.start("--name", "counted", "--cpus", "2", "-q", "-i", "busybox", "sh", stdin=subprocess.PIPE)
    try:
        vm.stdin.write(b"i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); done; echo up\n")
        vm.stdin.flush()
        read_until(vm.stdout, b"up")
        path = lodge.runtime / "counted/control"
        assert control(path, {"command": "pause"})[0]["ok"]
        found = figures(lodge, "counted")
        assert found["status"]["state"] == "paused" and found["status"]["cpus"] == len(found["cpus"]) == 2
        for cpu in found["cpus"]:
            assert cpu["code"]["instructions"] >= cpu["blocks_translated"] > 100
            assert 0 < cpu["code"]["used_bytes"] <= cpu["code"]["cap_bytes"] <= 64 << 20
            # Each exit has one reason, each instruction handed back one name.
            assert sum(cpu["exits"].values()) == cpu["translated_exits"]
            assert len(cpu["handbacks"]) == 48 or sum(cpu["handbacks"].values()) == cpu["translated_handbacks"]
            assert sum(cpu["handbacks"].values()) <= cpu["translated_handbacks"]
            # Every page that was cached was missed first; what is not translated was left for.
            assert cpu["translated_fills"] <= cpu["exits"]["load"] + cpu["exits"]["store"]
            assert cpu["translated_handbacks"] >= cpu["exits"]["one"] + cpu["exits"]["rest"]
        # A paused machine does nothing; the table says the same in words.
        assert figures(lodge, "counted")["cpus"] == found["cpus"]
        table = lodge("stats").stdout.decode()
        first, second = (cpu["blocks_translated"] for cpu in found["cpus"])
        assert table.startswith("counted: paused, engine soft")
        assert b"counted" in lodge("completion", "words", "stats", "c").stdout.split()
        assert ["blocks", "translated", str(first + second), str(first), str(second)] in [line.split() for line in table.splitlines()]
        reply, = control(path, {"command": "counters", "cpu": 2})
        assert not reply["ok"] and "vCPU 2" in reply["error"]
        assert control(path, {"command": "resume"})[0]["ok"]
        vm.stdin.write(b"i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); done; sleep 0.1; echo again\n")
        vm.stdin.flush()
        read_until(vm.stdout, b"again")
        later = figures(lodge, "counted")
        assert sum(cpu["halts"] for cpu in later["cpus"]) > sum(cpu["halts"] for cpu in found["cpus"])
    finally:
        vm.stdin.close()
        assert vm.wait() == 0


def test_nothing_runs(lodge):
    lodge.runtime.mkdir(mode=0o700, exist_ok=True)
    assert lodge("stats").stdout == b"nothing is running\n"
    assert json.loads(lodge("stats", "--json").stdout) == []
    done = lodge("stats", "nobody")
    assert done.returncode == 125 and b"nothing named 'nobody' is running" in done.stderr
    assert lodge("stats", "--jsn").returncode == 2
