# SPDX-License-Identifier: Apache-2.0
"""Environments and shares through the manager, judged by the kernel's own counters."""
import http.client
import json
import random
import subprocess
import threading
import time
from pathlib import Path

import pytest

from env_shares import BAR, HOG, MIB, cgroup_file, environment, manager_of_environments, memory_bytes, place, shares, shares_become
from lodge_run import need_kernel
from patience import until

manager = pytest.fixture(scope="module")(manager_of_environments)


def test_life_and_refusals(manager):
    manager.lodge("env", "create", "life", "--cpus", "1", "--memory", "256M", "--priority", 3, "--overcommit", "cpu=1.5")
    listed = {e["name"]: e for e in json.loads(manager.lodge("env", "ls", "--json"))}
    assert list(listed) == ["default", "life"] and listed["life"]["cores"] == 1 and listed["life"]["memory_bytes"] == 256 * MIB
    manager.lodge("run", "-d", "--in", "life", "--name", "member", "--reserve-cpu", "1", "busybox", "sleep", "1000")
    for method, path, body, status, words in [
        ("POST", "/v1/environments", {"name": "life"}, 409, "already"),
        ("POST", "/v1/environments", {"name": "../x"}, 400, "cannot be a name"),
        ("POST", "/v1/environments", {"name": "x", "cpu_millis": 8000000}, 400, "processors"),
        ("POST", "/v1/environments", {"name": "x", "priority": -1}, 400, "priority"),
        ("POST", "/v1/environments", {"name": "x", "priority": "much"}, 400, "not a number"),
        ("POST", "/v1/environments", {"name": "x", "colour": 1}, 400, "colour"),
        ("POST", "/v1/environments", {"name": "x", "overcommit": {"cpu": 0}}, 400, "overcommit.cpu"),
        ("POST", "/v1/environments", b'{"name": "x", "priority": NaN}', 400, "NaN"),
        ("PATCH", "/v1/environments/life", {"cpu_millis": 100, "overcommit": None}, 422, "reserved by what runs"),
        ("DELETE", "/v1/environments/life", None, 409, "has 1 instance"),
        ("DELETE", "/v1/environments/default", None, 400, "always there"),
        ("DELETE", "/v1/environments/nosuch", None, 404, "there are: default, life"),
        ("POST", "/v1/instances", {"image": "busybox", "environment": "nosuch"}, 404, "lodge env create"),
        ("POST", "/v1/instances", {"image": "busybox", "resources": {"reserve_cpu_millis": 900000}}, 422, "900 were asked for"),
        ("POST", "/v1/instances", {"image": "busybox", "resources": {"priority": 0}}, 400, "priority"),
        ("POST", "/v1/instances", {"image": "busybox", "resources": {"cpuset": "0-"}}, 400, "cpuset"),
        ("POST", "/v1/instances", {"image": "busybox", "resources": {"cpu_max_millis": 100, "reserve_cpu_millis": 200}}, 400, "limit"),
        ("PATCH", "/v1/instances/member", {"environment": "nosuch"}, 404, "no environment"),
        ("PATCH", "/v1/instances/member", {"resources": {"reserve_cpu_millis": 1600}}, 422, "at most 1.5"),
    ]:
        headers = {"Content-Type": "application/json"} if isinstance(body, bytes) else None
        got, _, data = manager.request(method, path, body, headers)
        assert got == status and words in json.loads(data)["error"]["message"], (method, path, body, got, data)
    # What lies still needs nothing; it is asked when it starts.
    manager.lodge("create", "--in", "life", "--name", "second", "--reserve-cpu", "0.6", "busybox", "sleep", "1000")
    refused = subprocess.run([manager.bin / "lodge", "start", "second"], env=manager.environment, capture_output=True, text=True, timeout=60)
    assert refused.returncode and "0.5 of 1.5 cores are not reserved yet, 0.6 were asked for" in refused.stderr
    # `run` leaves nothing behind of which nothing ran; `create` had made "second".
    for words in (["-d"], [], ["--rm"]):
        refused = subprocess.run([manager.bin / "lodge", "run", *words, "--in", "life", "--name", "third", "--reserve-cpu", "0.6", "busybox", "true"],
                                 env=manager.environment, capture_output=True, text=True, timeout=60)
        assert refused.returncode and "0.6 were asked for" in refused.stderr, refused
        assert manager.ask("GET", "/v1/instances/third")[0] == 404, words
    assert manager.inspect("second")["state"] == "created"
    manager.lodge("env", "update", "life", "--overcommit", "2")
    manager.lodge("start", "second")
    manager.kill()
    manager.start()
    shown = json.loads(manager.lodge("env", "inspect", "life"))[0]
    assert shown["spec"]["overcommit"] == {"cpu": 2.0, "memory": 2.0} and {m["name"] for m in shown["members"]} == {"member", "second"}
    assert manager.lodge("env", "chart", "life").startswith("<svg")
    manager.lodge("rm", "-f", "member", "second")
    manager.lodge("env", "rm", "life")


def test_weights_caps_and_a_change(manager):
    with environment(manager, "hogs", "--cpus", "1"):
        names = [f"hog{weight}" for weight in (1, 2, 4)]
        for name, weight in zip(names, (1, 2, 4)):
            manager.lodge("run", "-d", "--in", "hogs", "--name", name, "--priority", weight, "--cpuset", "0", "busybox", *HOG)
        paths = [place(manager, name) for name in names]
        assert all(path.startswith("/lodge/env-hogs-") for path in paths)
        shares_become(paths, [1 / 7, 2 / 7, 4 / 7])
        manager.lodge("update", "--priority", "4", "hog1")
        manager.lodge("update", "--priority", "1", "hog4")
        shares_become(paths, [4 / 7, 2 / 7, 1 / 7])
        # A cap is kept whatever is idle beside it; what it leaves goes to the others by weight.
        manager.lodge("update", "--cpu-max", "0.2", "hog1")
        told = manager.good("GET", "/v1/instances/hog1/explain")
        assert told["cpu"]["bound"] == "held at its limit" and told["written"]["quota_us"] == 20000
        assert {one["name"] for one in told["competitors"]} == {"hog2", "hog4"} and told["weight"]["value"] == 4
        manager.lodge("pause", "hog2", "hog4")
        assert min(shares(paths, 0.6)[1][0] for _ in range(2)) <= 0.2 * (1 + BAR)
        until(lambda: manager.good("GET", "/v1/instances/hog1/figures")["throttled_ns"] >= 10_000_000)  # shown below in hundredths of a second
        text = manager.lodge("explain", "hog1")
        for words in ("1 * 4 + 0 *", "limit 0.2", "throttled", "hog2", "water level"):
            assert words in text, text
        figures = manager.good("GET", "/v1/instances/hog1/figures")
        assert figures["run_ns"] > 0 and figures["waiting_ns"] > 0 and figures["throttled_periods"] > 0
        # Behind ours come machines that other tests run without a manager.
        shown = {line.split()[0]: line.split() for line in manager.lodge("stats", "--all").split("PSI cpu", 1)[1].splitlines()[1:] if line.strip()}
        assert set(names) <= set(shown) and shown["hog1"][1] == "container" and shown["hog1"][10] != "-"
        run, wait, held, periods = map(float, shown["hog1"][2:6])
        assert run > 0 and wait > 0 and held > 0 and periods > 0 and float(shown["hog2"][4]) == 0
        of_one, = json.loads(manager.lodge("stats", "--all", "--json", "hog1"))
        assert of_one["figures"]["throttled_ns"] >= figures["throttled_ns"] and of_one["figures"]["pressure"].keys() == {"cpu", "memory", "io"}
        top = manager.lodge("top", "--all", "hog1")
        assert "WAIT s" in top and top.index("hog1") < top.index("PID")
        assert json.loads(manager.lodge("top", "--all", "--json", "hog1"))["figures"]["waiting_ns"] > 0
        metrics = manager.request("GET", "/metrics")[2].decode()
        assert 'lodge_instance_waiting_seconds_total{instance="hog2"}' in metrics


def test_moves_survive_a_kill(manager):
    for name in ("left", "right"):
        manager.lodge("env", "create", name)
    manager.lodge("run", "-d", "--in", "left", "--name", "mover", "busybox", "sh", "-c", "sleep 1000 & sleep 1000 & wait")
    homes = {e["name"]: e["cgroup"] for e in manager.good("GET", "/v1/environments")["environments"]}
    identifier = manager.inspect("mover")["id"]
    pid = manager.inspect("mover")["pid"]
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    for turn in range(6):
        target = ("right", "left")[turn % 2]
        mover = threading.Thread(target=move, args=(manager, target))
        mover.start()
        time.sleep(chance.uniform(0, 0.03))
        manager.kill()
        mover.join(60)
        manager.start()
        settled = lambda: manager.inspect("mover")["state"] == "running" and one_place(manager, homes, identifier)
        until(settled, 60)
    assert Path(f"/proc/{pid}").exists(), f"seed {seed}"
    manager.lodge("update", "--in", "default", "mover")
    assert place(manager, "mover") == f"/lodge/{identifier}"
    # A further program is where the container is now.
    manager.lodge("exec", "mover", "true")
    members = cgroup_file("cpu", f"/lodge/{identifier}", "cgroup.procs").read_text().split()
    assert len(members) >= 3 and str(pid) in members
    manager.lodge("rm", "-f", "mover")
    for name in ("left", "right"):
        manager.lodge("env", "rm", name)


def move(manager, target):
    """As a client that is cut off; `lodge` itself would start another manager."""
    try:
        manager.ask("PATCH", "/v1/instances/mover", {"environment": target})
    except (OSError, http.client.HTTPException, ValueError):
        pass


def one_place(manager, homes, identifier):
    """All its processes are where its specification says, and nothing of it is elsewhere."""
    home = homes[manager.inspect("mover")["spec"].get("environment", "default")]
    found = {str(p) for p in Path("/sys/fs/cgroup").glob(f"*/lodge/*/{identifier}")}
    found |= {str(p) for p in Path("/sys/fs/cgroup").glob(f"*/lodge/{identifier}")}
    return bool(found) and all(p.endswith(f"{home}/{identifier}") for p in found)


def test_memory_comes_back(manager, guest):
    """While the host is to keep more free than it has, what is not needed goes back; nothing is killed; it grows on demand."""
    need_kernel(guest, "cloud")
    fill = "dd if=/dev/zero of=/fill bs=1M count=80 2>/dev/null; sync; cat /fill > /dev/null; echo filled; sleep 1000"
    manager.lodge("run", "-d", "--name", "box", "busybox", "sh", "-c", fill)
    manager.lodge("run", "-d", "--vm", "-m", "256M", "--name", "machine", "busybox", "sh", "-c", fill)
    for name in ("box", "machine"):
        until(lambda n=name: "filled" in manager.lodge("logs", n), 150)
    paths = {name: place(manager, name) for name in ("box", "machine")}
    before = {name: memory_bytes(path) for name, path in paths.items()}
    # Of a container the pages of files, less what no instance goes below; of the guest its page cache.
    box = manager.good("GET", "/v1/instances/box/figures")
    given = {"box": min(box["reclaimable_bytes"], before["box"] - 32 * MIB), "machine": 80 * MIB}
    manager.lodge("env", "update", "default", "--keep-free", "0.99")
    try:
        for name, path in paths.items():
            until(lambda n=name, p=path: memory_bytes(p) <= before[n] - 0.7 * given[n], 90)
    finally:
        manager.lodge("env", "update", "default", "--keep-free", "0.05")
    assert all(manager.inspect(name)["state"] == "running" for name in paths)
    for name in paths:
        assert manager.lodge("exec", name, "sh", "-c", "dd if=/dev/zero of=/dev/shm/again bs=1M count=40 2>/dev/null && echo good") == "good\n"
    manager.lodge("rm", "-f", *paths)
