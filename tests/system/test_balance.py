# SPDX-License-Identifier: Apache-2.0
"""lodge balance --dry-run --hosts: by hand-worked loads, each aim, and what it says of hosts that are not chosen."""
import json
import statistics
import subprocess

import pytest

# Load is the larger part of cores and memory that is reserved: a 6/8, b 2/8 (1/8 of its cores, a quarter of its memory), c nothing, and c is too small for either.
HOSTS = {"hosts": [{"name": "a", "cpus": 8, "memory": 16384}, {"name": "b", "cpus": 8, "memory": 16384}, {"name": "c", "cpus": 2, "memory": 1024}],
         "instances": [{"name": "web", "count": 3, "cpus": 2, "memory": 2048, "host": "a"}, {"name": "db", "cpus": 1, "memory": 4096, "host": "b"}]}


@pytest.fixture
def balance(program, tmp_path):
    hosts = tmp_path / "hosts.json"

    def ask(*words, document=HOSTS, status=0):
        hosts.write_text(json.dumps(document))
        done = subprocess.run([program("lodge"), "balance", *(["--hosts", str(hosts)] if document else []), *words],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        if status:
            return done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout

    return ask


def route(answer):
    return [(move["instance"], move["from"], move["to"]) for move in answer["moves"]]


def test_spread(balance):
    answer = balance("--dry-run", "--json")
    assert answer["spread_before"] == pytest.approx(statistics.pstdev([.75, .25, 0]))
    assert route(answer) == [("web", "a", "b")]
    move, = answer["moves"]
    assert [move[name] for name in ("from_before", "from_after", "to_before", "to_after", "memory_mib")] == [.75, .5, .25, .375, 2048]
    assert answer["spread_after"] == pytest.approx(statistics.pstdev([.5, .375, 0])) and "worth" in answer["stops_because"]
    candidates = {c["host"]: c for c in move["candidates"]}
    assert candidates["b"]["fits"] and candidates["b"]["reason"].startswith("chosen")
    assert (candidates["c"]["fits"], candidates["c"]["reason"], candidates["c"]["short_by"]) == (False, "too little memory is free", 1024)
    assert candidates["a"]["reason"] == "it is there now"
    text = balance("--dry-run")
    assert "move web from a (load 0.750 -> 0.500) to b (0.250 -> 0.375), 2048 MiB to copy" in text and "too little memory is free" in text
    assert balance("--dry-run", "--json", "--threshold", "0.9")["moves"] == []


def test_other_aims(balance):
    packed = balance("--dry-run", "--json", "--aim", "consolidate")
    assert route(packed) == [("db", "b", "a")] and (packed["hosts_used_before"], packed["hosts_used_after"]) == (2, 1)
    drained = balance("--dry-run", "--json", "--aim", "drain", "--host", "a")
    assert route(drained) == [("web", "a", "b")] * 3 and drained["stuck"] == 0 and drained["moves"][-1]["from_after"] == 0
    assert len(balance("--dry-run", "--json", "--aim", "drain", "--host", "a", "--moves", "2")["moves"]) == 2
    full = json.loads(json.dumps(HOSTS))
    full["instances"][1]["cpus"] = 4
    stuck = balance("--dry-run", "--json", "--aim", "drain", "--host", "a", document=full)
    assert len(route(stuck)) + stuck["stuck"] == 3 and stuck["stuck"] == 1  # 4 cores of b are free, 6 would be needed


def test_mistakes(balance):
    assert "--dry-run" in balance(status=2)
    assert "none of spread" in balance("--dry-run", "--aim", "up", status=125)
    assert "which host" in balance("--dry-run", "--aim", "drain", status=125)
    assert "'x'" in balance("--dry-run", "--aim", "drain", "--host", "x", status=125)
    assert "--moves" in balance("--dry-run", "--moves", "0", status=125)
    assert "hosts[0].cpus" in balance("--dry-run", document={"hosts": [{"name": "a", "cpus": -1, "memory": 1}]}, status=125)
