# SPDX-License-Identifier: Apache-2.0
"""Rules of environments on containers and a virtual machine together: weights, caps, every setting changed live, the dynamic policy,
dominant-resource fairness; what the kernel was told is read back from it."""
import json
import os
import subprocess
from pathlib import Path

import pytest

from env_shares import HOG, MIB, cgroup_file, environment, manager_of_environments, memory_bytes, place, shares_become, written_become
from lodge_run import need_kernel
from patience import until

manager = pytest.fixture(scope="module")(manager_of_environments)


def ready(manager, *names):
    for name in names:
        until(lambda n=name: "ready" in manager.lodge("logs", n), 180)


def refused(manager, *words):
    done = subprocess.run([manager.bin / "lodge", *map(str, words)], env=manager.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 125, (words, done)
    return done.stderr


def top(manager, name):
    """None: a guest without a processor does not answer in time."""
    done = subprocess.run([manager.bin / "lodge", "top", "--all", "--json", name], env=manager.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 or "does not answer" in done.stderr, done
    return json.loads(done.stdout) if done.returncode == 0 else None


def told(manager, name):
    return manager.good("GET", f"/v1/instances/{name}/explain")


@pytest.fixture(scope="module")
def mix(manager, guest):
    """Three hogs of weights 1, 2 and 4 on one processor, the second of them a virtual machine."""
    need_kernel(guest, "cloud")
    names = ["one", "two", "four"]
    with environment(manager, "mix", "--cpus", "1"):
        for name, weight in zip(names, (1, 2, 4)):
            manager.lodge("run", "-d", "--in", "mix", "--name", name, *(["--vm", "-m", "128M"] if name == "two" else []), "--priority", weight,
                          "--cpuset", "0", "busybox", *HOG)
        ready(manager, *names)
        yield names


def test_a_mix_shares_by_weight(manager, mix):
    paths = [place(manager, name) for name in mix]
    shares_become(paths, [1 / 7, 2 / 7, 4 / 7])
    manager.lodge("update", "--priority", 8, "two")
    shares_become(paths, [1 / 13, 8 / 13, 4 / 13])
    manager.lodge("update", "--alpha", 0.25, "two")
    shares_become(paths, [1 / 7, 2 / 7, 4 / 7])
    manager.lodge("update", "--alpha", 1, "--priority", 2, "two")
    # Reservation and limit: 1 core of weights 2, 1, 1, held at 0.3 and raised to 0.2: 0.3, 0.35, 0.35.
    manager.lodge("update", "--priority", 2, "--cpu-max", 0.3, "two")
    manager.lodge("update", "--priority", 1, "--reserve-cpu", 0.2, "four")
    shares_become(paths, [0.35, 0.3, 0.35])
    for name, bound in zip(mix, ("by its weight", "held at its limit", "by its weight")):
        assert told(manager, name)["cpu"]["bound"] == bound
    manager.lodge("update", "--cpu-max", 0, "two")
    manager.lodge("update", "--reserve-cpu", 0, "--priority", 4, "four")


def test_figures_of_a_machine_and_a_container(manager, mix):
    """The same of both, in each of the places where figures are."""
    for name in mix[:2]:
        manager.lodge("update", "--cpu-max", 0.01, name)
        until(lambda n=name: manager.good("GET", f"/v1/instances/{n}/figures")["throttled_periods"] > 0)
        manager.lodge("update", "--cpu-max", 0, name)
    listed = {one["name"]: one for one in json.loads(manager.lodge("stats", "--all", "--json"))}
    table = manager.lodge("stats", "--all").split("PSI cpu", 1)[1]
    metrics = manager.request("GET", "/metrics")[2].decode()
    for name in mix[:2]:
        figures = manager.good("GET", f"/v1/instances/{name}/figures")
        assert min(figures[n] for n in ("run_ns", "waiting_ns", "throttled_periods", "periods", "memory_bytes", "tasks")) > 0
        assert figures.keys() == listed[name]["figures"].keys() == until(lambda n=name: top(manager, n))["figures"].keys()
        assert {"reclaimed", "io_requests", "io_bytes"} <= figures.keys() and figures["pressure"].keys() == {"cpu", "memory", "io"}
        assert name in [line.split()[0] for line in table.splitlines() if line]
        text = manager.lodge("explain", name)
        for words in ("run (T)", "ready, waiting (W)", "throttled by its cap", "memory", "reclaim", "cpu.shares", "competitors"):
            assert words in text, text
        for kind in ("run_seconds", "waiting_seconds", "throttled_seconds", "throttled_periods", "reclaimed"):
            assert f'lodge_instance_{kind}_total{{instance="{name}"}}' in metrics
        assert f'lodge_instance_memory_bytes{{instance="{name}"}}' in metrics
    if figures["pressure"]["cpu"] is not None:
        assert 'lodge_instance_pressure{instance="two",resource="cpu"}' in metrics
    assert "vm" in table and "container" in table
    # What stood in for steal time grows while others have the processor; T by what it ran.
    before = manager.good("GET", "/v1/instances/two/figures")
    until(lambda: manager.good("GET", "/v1/instances/two/figures")["waiting_ns"] > before["waiting_ns"])


@pytest.mark.parametrize("name", ["one", "two"])
def test_every_setting_live(manager, mix, name):
    """Of a container and of a machine, into the kernel's files."""
    path, v1 = place(manager, name), Path("/sys/fs/cgroup/cpu").exists()
    cap = lambda: cgroup_file("cpu", path, "cpu.cfs_quota_us" if v1 else "cpu.max").read_text().split()[0]
    manager.lodge("update", "--cpu-max", 0.4, name)
    assert cap() == "40000"
    manager.lodge("update", "--cpu-max", 0, name)
    assert cap() in ("-1", "max")
    manager.lodge("update", "--cpuset", "", name)
    assert cgroup_file("cpuset", path, "cpuset.cpus").read_text().strip() != "0" or os.cpu_count() == 1
    manager.lodge("update", "--cpuset", "0", name)
    assert cgroup_file("cpuset", path, "cpuset.cpus").read_text().strip() == "0"
    assert "cpuset" in refused(manager, "update", "--cpuset", "0-", name)
    assert "1.5 were asked for" in refused(manager, "update", "--reserve-cpu", 1.5, name)
    assert "memory" in refused(manager, "update", "--reserve-memory", "4000G", name)
    manager.lodge("update", "--reserve-memory", "16M", name)
    assert told(manager, name)["memory"]["reservation"] == 16 * MIB
    manager.lodge("update", "--reserve-memory", "0", name)
    manager.lodge("update", "--beta", 0.5, name)
    weight = told(manager, name)["weight"]
    assert weight["beta"] == 0.5 and weight["run_seconds"] > 0
    assert weight["value"] == pytest.approx(weight["alpha"] * weight["priority"] + 0.5 * weight["run_seconds"], rel=1e-6)
    manager.lodge("update", "--beta", 0, name)
    # To no environment and back: what runs goes on.
    pid = manager.inspect(name)["pid"]
    manager.lodge("update", "--in", "default", name)
    assert place(manager, name) == f"/lodge/{manager.inspect(name)['id']}"
    manager.lodge("update", "--in", "mix", name)
    assert place(manager, name) == path and manager.inspect(name)["pid"] == pid


def test_weight_at_the_disks(manager, mix):
    """Where the kernel has weights they are written; where it has not, who asks for one is told, whatever the isolation and the verb."""
    path = place(manager, "one")
    v1 = Path("/sys/fs/cgroup/blkio").exists()
    files = [file for file in (Path(f"/sys/fs/cgroup{'/blkio' if v1 else ''}{path}") / name
                               for name in (("blkio.weight", "blkio.bfq.weight") if v1 else ("io.weight", "io.bfq.weight"))) if file.exists()]
    if files:
        manager.lodge("update", "--io-weight", 300, "one", "two")
        for name in mix[:2]:
            value = (Path(str(files[0]).replace(path, place(manager, name)))).read_text().split()[-1]
            assert value == ("2930" if files[0].name == "io.weight" else "300")
        return
    for words in (("update", "--io-weight", 300, "one"), ("update", "--io-weight", 300, "two"), ("create", "--io-weight", 300, "busybox", "true"),
                  ("run", "--vm", "--io-weight", 300, "busybox", "true"), ("job", "submit", "--io-weight", 300, "busybox", "true")):
        said = refused(manager, *words)
        assert "resources.io_weight: this host's kernel does not divide block devices by weight" in said and "BFQ" in said, said
    assert "io_weight" not in manager.inspect("one")["spec"]["resources"]
    manager.lodge("update", "--io-weight", 0, "one")


def test_weights_below_a_cap(manager):
    """An environment that is stopped by its quota in each period: its members share by weight all the same."""
    names = [f"capped{weight}" for weight in (1, 2, 4)]
    with environment(manager, "capped", "--cpus", "0.25"):
        for name, weight in zip(names, (1, 2, 4)):
            manager.lodge("run", "-d", "--in", "capped", "--name", name, "--priority", weight, "--cpuset", "0", "busybox", *HOG)
        ready(manager, *names)
        paths = [place(manager, name) for name in names]
        shares_become(paths, [1 / 7, 2 / 7, 4 / 7])
        own = paths[0].rpartition("/")[0]
        v1 = Path("/sys/fs/cgroup/cpu").exists()
        cap = [cgroup_file("cpu", own, f"cpu.cfs_{what}_us").read_text().strip() for what in ("quota", "period")] if v1 else \
            cgroup_file("cpu", own, "cpu.max").read_text().split()
        assert cap == ["250000", "1000000"]


def test_killed_while_it_reclaimed(manager):
    """Version 1 has no reclaim: the limit comes down for a moment, with the killer off. Neither stays when the manager dies between."""
    for name, options, limit in (("bounded", ["-m", "64M"], 64 * MIB), ("free", [], None)):
        manager.lodge("run", "-d", "--name", name, *options, "busybox", "sleep", "1000")
        path = place(manager, name)
        if not Path("/sys/fs/cgroup/memory").exists():
            pytest.skip("version 2 reclaims by itself")
        killer, bytes_file = (cgroup_file("memory", path, f"memory.{file}") for file in ("oom_control", "limit_in_bytes"))
        before = bytes_file.read_text()
        manager.kill()
        killer.write_text("1")
        bytes_file.write_text(str(32 * MIB))
        manager.start()
        until(lambda k=killer: "oom_kill_disable 0" in k.read_text())
        assert bytes_file.read_text() == before and (limit is None or int(before) == limit)
    manager.lodge("rm", "-f", "bounded", "free")


def test_dynamic_policy(manager):
    """What one does not want goes to those that stall, by weight, and back to it once it wants it."""
    with environment(manager, "moves", "--cpus", "1", "--policy", "dynamic"):
        for name, weight in (("small", 1), ("large", 2)):
            manager.lodge("run", "-d", "--in", "moves", "--name", name, "--priority", weight, "--cpuset", "0", "busybox", *HOG)
        # One that woke to look would stall, beside others, and so want more than it uses.
        manager.lodge("run", "-d", "--in", "moves", "--name", "idle", "--priority", 4, "--cpuset", "0", "busybox", "sh", "-c",
                      "mkfifo /go; echo ready; read x < /go; while :; do :; done")
        ready(manager, "small", "large", "idle")
        paths = [place(manager, name) for name in ("small", "large", "idle")]
        shares_become(paths[:2], [1 / 3, 2 / 3])
        if told(manager, "small")["measured"]["pressure"]["cpu"] is not None:
            answer = until(lambda: (lambda a: a if a["cpu"]["bound"] == "all it wants" and a["cpu"]["amount"] < 0.2 else None)(told(manager, "idle")))
            assert answer["policy"] == "dynamic" and answer["cpu"]["entitled"] == pytest.approx(4 / 7)
        manager.lodge("exec", "idle", "sh", "-c", "echo > /go")
        written_become(paths, [1 / 7, 2 / 7, 4 / 7])
        shares_become(paths, [1 / 7, 2 / 7, 4 / 7])


def test_dominant_resource_fairness(manager):
    """One holds four fifths of the memory and may have half a core; the other wants the core. Equal dominant shares s: 0.8 s' = s, 0.625 s + s = 1."""
    hold = ["sh", "-c", "dd if=/dev/zero of=/dev/shm/held bs=1M count=48 2>/dev/null; echo ready; while :; do :; done"]
    with environment(manager, "fair", "--cpus", "1", "--memory", "60M", "--drf"):
        manager.lodge("run", "-d", "--in", "fair", "--name", "holder", "--cpu-max", 0.5, "--cpuset", "0", "busybox", *hold)
        manager.lodge("run", "-d", "--in", "fair", "--name", "worker", "--cpuset", "0", "busybox", *HOG)
        ready(manager, "holder", "worker")
        paths = [place(manager, name) for name in ("holder", "worker")]
        held = memory_bytes(paths[0]) / (60 * MIB)
        assert held > 0.75
        s = 1 / (1 + 0.5 / held)
        written_become(paths, [1 - s, s])
        shares_become(paths, [1 - s, s])
        answer = told(manager, "holder")
        assert answer["drf"] and answer["cpu"]["bound"] == "by equal dominant shares" and answer["itself"]["dominant_resource"] == "memory"
        assert answer["itself"]["dominant_share"] == pytest.approx(told(manager, "worker")["itself"]["dominant_share"], abs=0.02)
        text = manager.lodge("explain", "holder")
        assert "its share of memory" in text and "water level" not in text and "equal dominant shares" in text
        # Without it they are equals, as far as the cap lets them be.
        manager.lodge("env", "update", "fair", "--no-drf")
        written_become(paths, [0.5, 0.5])
        shares_become(paths, [0.5, 0.5])
