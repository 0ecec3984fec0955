# SPDX-License-Identifier: Apache-2.0
"""What members of environments get, by the kernel's own counters."""
import json
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import need_root
from manager import Manager
from patience import until

MIB = 1 << 20
HOG = ["sh", "-c", "echo ready; while :; do :; done"]
BAR = 0.05


def cgroup_file(controller, path, name):
    """Version 1 (or hybrid), else version 2."""
    for place in (Path("/sys/fs/cgroup") / controller, Path("/sys/fs/cgroup")):
        file = Path(f"{place}{path}") / name
        if file.exists():
            return file
    pytest.skip(f"no {controller} controller")


def manager_of_environments(build, guest):
    """A fixture's function."""
    need_root()
    if not (guest / "images" / "busybox").exists():
        pytest.skip("needs the busybox image (make guest)")
    if not Path("/sys/fs/cgroup/cpu/cgroup.procs").exists() and not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("needs cgroups")
    m = Manager(build, guest).start()
    yield m
    for one in m.good("GET", "/v1/instances?all=1")["instances"]:
        m.good("DELETE", f"/v1/instances/{one['id']}?force=1")
    for one in m.good("GET", "/v1/environments")["environments"][1:]:
        m.good("DELETE", f"/v1/environments/{one['name']}")
        assert not list(Path("/sys/fs/cgroup").glob(f"*{one['cgroup']}")), "its cgroups stay"
    m.close()


@contextmanager
def environment(manager, name, *options):
    """Gone at the end with all that is in it, after a failure too: what stayed would have its part of the host in the next test."""
    manager.lodge("env", "create", name, *options)
    try:
        yield
    finally:
        members = [one["name"] for one in json.loads(manager.lodge("env", "inspect", name))[0]["members"]]
        if members:
            manager.lodge("rm", "-f", *members)
        manager.lodge("env", "rm", name)


def place(manager, name):
    return manager.good("GET", f"/v1/instances/{name}/explain")["written"]["cgroup"]


def cpu_ns(path):
    file = cgroup_file("cpuacct", path, "cpuacct.usage" if Path("/sys/fs/cgroup/cpuacct").exists() else "cpu.stat")
    text = file.read_text()
    return int(text.split()[1]) * 1000 if "usage_usec" in text else int(text)


def shares(paths, cpu_s):
    """Of so much processor time of theirs, however long that takes beside others: parts of it, and cores."""
    before, start = [cpu_ns(path) for path in paths], time.monotonic()
    while True:
        time.sleep(0.1)
        used = [cpu_ns(path) - old for path, old in zip(paths, before)]
        passed = time.monotonic() - start
        if sum(used) >= cpu_s * 1e9:
            return [part / sum(used) for part in used], [part / 1e9 / passed for part in used]
        assert passed < 300, used


def shares_become(paths, expected):
    """Within the bar, of what they had together, however much that was. In the first windows a turn of the scheduler's weighs more
    than the bar on a host with other work, and the manager may just have begun to measure; in those that are long enough it does not."""
    seen = []
    for cpu_s in (1, 1, 2, 4, 8, 16):
        seen.append(shares(paths, cpu_s)[0])
        if max(abs(got / want - 1) for got, want in zip(seen[-1], expected)) <= BAR:
            return
    raise AssertionError((seen, expected))


def written(paths):
    """What the kernel was told of how to divide among them: parts."""
    v1 = Path("/sys/fs/cgroup/cpu").exists()
    values = [int(cgroup_file("cpu", path, "cpu.shares" if v1 else "cpu.weight").read_text()) for path in paths]
    return [value / sum(values) for value in values]


def written_become(paths, expected):
    until(lambda: written(paths) == pytest.approx(expected, rel=BAR), told=lambda: (written(paths), expected))


def memory_bytes(path):
    v1 = Path("/sys/fs/cgroup/memory").exists()
    return int(cgroup_file("memory", path, "memory.usage_in_bytes" if v1 else "memory.current").read_text())
