# SPDX-License-Identifier: Apache-2.0
"""What members of environments get, by the kernel's own counters."""
import time
from pathlib import Path

import pytest

from conftest import need_root
from manager import Manager

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
        assert passed < 120, used


def shares_become(paths, expected):
    """Within the bar: a window may be a bad one, since others load this host, too."""
    seen = []
    for _ in range(8):
        seen = shares(paths, 1)[0]
        if max(abs(got / want - 1) for got, want in zip(seen, expected)) <= BAR:
            return
    raise AssertionError((seen, expected))


def memory_bytes(path):
    v1 = Path("/sys/fs/cgroup/memory").exists()
    return int(cgroup_file("memory", path, "memory.usage_in_bytes" if v1 else "memory.current").read_text())
