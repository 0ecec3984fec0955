# SPDX-License-Identifier: Apache-2.0
"""Limits whose controller is rarely in reach: each test brings it within reach of the runtime, in a mount namespace of its own
where that takes mounts, and reads from inside what the kernel then has."""
import json
import os
import subprocess
from pathlib import Path

import pytest

from conftest import need_command, need_root
from patience import until
from test_oci import rootfs, runtime  # noqa: F401 (fixtures)
from test_oci_cgroups import LAYOUTS, Elsewhere
from test_oci_verbs import container  # noqa: F401 (a fixture)

UNIFIED = Path("/sys/fs/cgroup/unified")
MB = 1 << 20


def need_v1(controller, file):
    if not Path("/sys/fs/cgroup", controller, file).exists():
        pytest.skip(f"needs {file} of cgroup version 1")


def need_huge_pages():
    if "hugetlb" not in (UNIFIED / "cgroup.controllers").read_text().split() if UNIFIED.exists() else True:
        pytest.skip("needs a hybrid host whose version 2 has hugetlb")
    if not Path("/sys/kernel/mm/hugepages/hugepages-2048kB").exists():
        pytest.skip("needs huge pages of 2 MiB")


@pytest.fixture
def two(program, rootfs, tmp_path):  # noqa: F811
    """The same host, seen as one with version 2 alone."""
    need_root()
    need_command("unshare")
    need_huge_pages()
    made = Elsewhere(program("lodge-oci"), rootfs, tmp_path)
    made.setup = LAYOUTS["version 2"]
    yield made
    made.nothing_left()
    assert not (UNIFIED / made.name).exists()


def test_real_time_as_runc(runtime):  # noqa: F811
    need_v1("cpu", "cpu.rt_runtime_us")
    runtime.config["linux"]["resources"]["cpu"] = {"realtimePeriod": 900000, "realtimeRuntime": 18000}
    assert runtime.as_runc("cd /sys/fs/cgroup/cpu; cat cpu.rt_period_us cpu.rt_runtime_us") == "900000\n18000\n"


def test_deadline_scheduling(runtime):  # noqa: F811
    runtime.config["process"]["scheduler"] = {"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 30_000_000,
                                              "period": 40_000_000}
    done = runtime.run("cat", "/proc/self/stat", "/proc/self/sched", check=False)
    if done.returncode and ("EPERM" in done.stderr or "not permitted" in done.stderr or "busy" in done.stderr):
        pytest.skip(f"this host grants it to nobody: {done.stderr}")
    assert done.returncode == 0, done.stderr
    stat, *sched = done.stdout.split("\n")
    assert stat.rsplit(")", 1)[1].split()[38] == "6"  # SCHED_DEADLINE, field 41
    values = dict(line.replace(" ", "").split(":", 1) for line in sched if ":" in line)
    if "dl.runtime" in values:
        assert int(values["dl.runtime"]) <= 10_000_000
    runtime.nothing_left()


@pytest.fixture
def weighed_disk():
    """The number of a disk whose scheduler has weights meanwhile: a loop device that nobody uses."""
    need_root()
    for queue in sorted(Path("/sys/block").glob("loop*/queue/scheduler"), reverse=True):
        name = queue.parent.parent.name
        if "bfq" in queue.read_text() and not (queue.parent.parent / "loop").exists():
            before = queue.read_text().split("[")[1].split("]")[0]
            queue.write_text("bfq")
            yield tuple(map(int, (queue.parent.parent / "dev").read_text().split(":")))
            queue.write_text(before)
            return
    pytest.skip("needs a loop device that is free, and BFQ")


def test_weights_of_a_device(runtime, weighed_disk):  # noqa: F811
    need_v1("blkio", "blkio.throttle.read_bps_device")
    major, minor = weighed_disk
    runtime.config["linux"]["resources"]["blockIO"] = {
        "weight": 200, "weightDevice": [{"major": major, "minor": minor, "weight": 300}]}
    done = runtime.run("cat", "/sys/fs/cgroup/blkio/blkio.bfq.weight", "/sys/fs/cgroup/blkio/blkio.bfq.weight_device", check=False)
    if done.returncode and "this host has no blkio.bfq" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout.split("\n")[:3] == ["200", "default 200", f"{major}:{minor} 300"], done.stderr


NETWORK = "net_cls,net_prio"


def network_hierarchies():
    lines = [line.split() for line in Path("/proc/cgroups").read_text().split("\n") if line.startswith("net_")]
    return {name: number for name, number, *_ in lines}


def network_mounted_and_left():
    """In a mount namespace of its own, so that no other test finds it and uses it."""
    return subprocess.run(["unshare", "--mount", "mount", "-t", "cgroup", "-o", NETWORK, "none", "/mnt"], capture_output=True).returncode == 0


@pytest.fixture
def network_controllers():
    """Free for one test. A hierarchy ends with the last mount that finds all its cgroups really gone: mounted once more where it did not."""
    need_root()
    need_command("unshare")
    if network_hierarchies() != {"net_cls": "0", "net_prio": "0"}:
        pytest.skip("needs net_cls and net_prio that nobody uses")
    if not network_mounted_and_left():
        pytest.skip("net_cls and net_prio cannot be mounted")
    yield

    def is_gone():
        return network_hierarchies()["net_cls"] == "0" or not network_mounted_and_left()

    until(is_gone)


def test_network_class_and_priorities(program, rootfs, tmp_path, network_controllers):  # noqa: F811
    made = Elsewhere(program("lodge-oci"), rootfs, tmp_path)
    place = tmp_path / "cgroups"
    place.mkdir()
    made.setup = (f'set -e; cd {place}; mount -t tmpfs none .; cd {place}; for d in /sys/fs/cgroup/*/; do d=${{d%/}}; mkdir ${{d##*/}};'
                  f' mount --bind $d ${{d##*/}}; done; mkdir {NETWORK}; mount -t cgroup -o {NETWORK} none {NETWORK}; cd /;'
                  f' mount --rbind {place} /sys/fs/cgroup')
    made.config["linux"]["resources"]["network"] = {"classID": 0x100001, "priorities": [{"name": "lo", "priority": 5}]}
    done = made.run("cat", *(f"/sys/fs/cgroup/{NETWORK}/{f}" for f in ("net_cls.classid", "net_prio.ifpriomap")))
    assert done.stdout.split("\n")[:2] == [str(0x100001), "lo 5"]
    made.nothing_left()


def test_huge_pages_of_a_hybrid_host(runtime):  # noqa: F811
    need_huge_pages()
    runtime.config["linux"]["cgroupsPath"] = f"/{runtime.name}/below"
    runtime.config["linux"]["resources"]["hugepageLimits"] = [{"pageSize": "2MB", "limit": 6 * MB}]
    try:
        done = runtime.run("sh", "-c", "cd /sys/fs/cgroup/unified; cat hugetlb.2MB.max hugetlb.2MB.rsvd.max")
        assert done.stdout.split() == [str(6 * MB)] * 2
    finally:
        for place in Path("/sys/fs/cgroup").glob(f"*/{runtime.name}"):
            place.rmdir()


def test_huge_pages_version_2(two):
    two.config["linux"]["resources"]["hugepageLimits"] = [{"pageSize": "2MB", "limit": 4 * MB}]
    done = two.run("sh", "-c", "cd /sys/fs/cgroup; cat hugetlb.2MB.max hugetlb.2MB.rsvd.max")
    assert done.stdout.split() == [str(4 * MB)] * 2


def test_unified_version_2(two):
    two.config["linux"]["resources"]["unified"] = {"hugetlb.2MB.max": str(8 * MB), "cgroup.max.descendants": "7"}
    done = two.run("sh", "-c", "cd /sys/fs/cgroup; cat hugetlb.2MB.max cgroup.max.descendants")
    assert done.stdout.split() == [str(8 * MB), "7"]


@pytest.mark.parametrize("name, said", [("memory.nosuch", "memory.nosuch"), ("../cgroup.procs", "unified")])
def test_unified_wrong_names(two, name, said):
    two.config["linux"]["resources"]["unified"] = {name: "1"}
    done = two.run("true", check=False)
    assert done.returncode == 1 and said in done.stderr


def test_memory_is_checked_before_an_update(container):  # noqa: F811
    """The page cache is what the kernel would give up for a lower limit: with the check, the limit is refused instead."""
    need_v1("memory", "memory.limit_in_bytes")
    container.config["linux"]["resources"]["memory"] = {"limit": 128 * MB}
    container.start("sh", "-c", "dd if=/dev/zero of=/lodge-cache bs=1M count=48; sleep 1000")
    usage = Path("/sys/fs/cgroup/memory", container.name, "memory.usage_in_bytes")
    limit = usage.parent / "memory.limit_in_bytes"
    change = {"memory": {"limit": 24 * MB, "checkBeforeUpdate": True}}
    try:
        until(lambda: int(usage.read_text()) >= 40 * MB)
        said = container.verb("update", "--resources", "-", container.name, input=json.dumps(change), status=1)
        assert "bytes in use" in said and limit.read_text().strip() == str(128 * MB)
        os.sync()  # what is written can be given up
        change["memory"]["checkBeforeUpdate"] = None
        container.verb("update", "--resources", "-", container.name, input=json.dumps(change))
        assert limit.read_text().strip() == str(24 * MB)
    finally:
        (container.rootfs / "lodge-cache").unlink(missing_ok=True)
