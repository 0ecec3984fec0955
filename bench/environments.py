# SPDX-License-Identifier: Apache-2.0
"""Shares, caps, live changes and memory given back, through a manager and `lodge` commands alone; what came of them is
read from the kernel's counters. bench/shares.py calls it."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

HOG = ["sh", "-c", "echo ready; while :; do :; done"]
MIB = 1 << 20
PERIOD_S = 0.1  # of the kernel's caps


class Managed:
    def __init__(self, build: Path):
        self.bin, self.dir = build.resolve() / "bin", Path(tempfile.mkdtemp(prefix="lb", dir="/tmp"))
        self.env = {**os.environ, "LODGE_MANAGER": str(self.dir)}
        self.daemon = subprocess.Popen([self.bin / "lodged", "--log", self.dir / "log"], env=self.env)
        self.wait(lambda: (self.dir / "run" / "lodged.sock").exists(), 30)

    @staticmethod
    def wait(condition, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"not within {seconds} s")
            time.sleep(0.05)

    def lodge(self, *words) -> str:
        return subprocess.run([self.bin / "lodge", *map(str, words)], env=self.env, check=True, stdout=subprocess.PIPE, text=True,
                              timeout=600).stdout

    def path(self, name: str) -> str:
        return json.loads(self.lodge("explain", "--json", name))["written"]["cgroup"]

    def start(self, name: str, vm: bool, command: list[str], *options, memory="128M") -> str:
        self.lodge("run", "-d", "--name", name, *(["--vm", "-m", memory] if vm else []), *options, self.image, *command)
        return name

    def said(self, name: str, word: str) -> None:
        self.wait(lambda: word in self.lodge("logs", name), 300)

    def close(self) -> None:
        for name in self.lodge("ps", "-a", "-q").split():
            self.lodge("rm", "-f", name)
        for one in json.loads(self.lodge("env", "ls", "--json"))[1:]:
            self.lodge("env", "rm", one["name"])
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(60)
        shutil.rmtree(self.dir)


def counter(controller: str, v1: str, v2: str, path: str) -> int:
    first = Path(f"/sys/fs/cgroup/{controller}{path}/{v1}")
    text = (first if first.exists() else Path(f"/sys/fs/cgroup{path}/{v2}")).read_text()
    return int(text.split()[1]) * 1000 if text.startswith("usage_usec") else int(text)


def cpu_ns(path: str) -> int:
    return counter("cpuacct", "cpuacct.usage", "cpu.stat", path)


def memory_bytes(path: str) -> int:
    return counter("memory", "memory.usage_in_bytes", "memory.current", path)


def measure(label: str, paths: list[str], expected: list[float], seconds: float, bar: float) -> bool:
    """Over so much processor time of theirs, which beside others takes longer than that."""
    before, start, used = [cpu_ns(path) for path in paths], time.monotonic(), [0]
    while sum(used) < 0.95e9 * seconds and time.monotonic() - start < 10 * seconds:
        time.sleep(0.1)
        used = [cpu_ns(path) - old for path, old in zip(paths, before)]
    got = [part / max(sum(used), 1) for part in used]
    off = max(abs(have / want - 1) for have, want in zip(got, expected))
    parts = "  ".join(f"{have:.4f} of {want:.4f}" for have, want in zip(got, expected))
    print(f"{label:34} {parts}  off by {100 * off:.2f} %  {'ok' if off <= bar else 'MISSED'}", flush=True)
    return off <= bar


def shares(m: Managed, kind: str, vms: list[bool], seconds: float, bar: float) -> bool:
    m.lodge("env", "create", kind, "--cpus", 1)
    names = [m.start(f"{kind}-{i}", vm, HOG, "--in", kind, "--priority", weight, "--cpuset", "0")
             for i, (vm, weight) in enumerate(zip(vms, (1, 2, 4)))]
    for name in names:
        m.said(name, "ready")
    paths = [m.path(name) for name in names]
    ok = measure(f"managed {kind}: 1 : 2 : 4", paths, [1 / 7, 2 / 7, 4 / 7], seconds, bar)
    m.lodge("update", "--priority", 4, names[0])
    m.lodge("update", "--priority", 1, names[2])
    time.sleep(2 * PERIOD_S)
    ok &= measure(f"managed {kind}: live, 4 : 2 : 1", paths, [4 / 7, 2 / 7, 1 / 7], seconds / 3, bar)
    m.lodge("update", "--priority", 2, "--cpu-max", 0.3, names[0])
    m.lodge("update", "--priority", 1, "--reserve-cpu", 0.2, names[1])
    m.lodge("update", "--priority", 1, names[2])
    time.sleep(2 * PERIOD_S)
    ok &= measure(f"managed {kind}: 3 / 3.5 / 3.5", paths, [0.3, 0.35, 0.35], seconds / 3, bar)
    m.lodge("rm", "-f", *names)
    m.lodge("env", "rm", kind)
    return ok


def memory(m: Managed) -> bool:
    """Pages of files that an idle container and an idle VM hold: how much of them is back within ten seconds."""
    filled = 100 * MIB
    fill = ["sh", "-c", "dd if=/dev/zero of=/fill bs=1M count=100 2>/dev/null; sync; cat /fill > /dev/null; echo filled; sleep 100000"]
    names = [m.start("idle-box", False, fill), m.start("idle-vm", True, fill, memory="256M")]
    for name in names:
        m.said(name, "filled")
    paths, ok = [m.path(name) for name in names], True
    before = [memory_bytes(path) for path in paths]
    # Of a container no less than the floor of 32 MiB is left.
    unused = [min(filled, before[0] - 32 * MIB), filled]
    m.lodge("env", "update", "default", "--keep-free", 0.99)
    start, best = time.monotonic(), [0.0, 0.0]
    while time.monotonic() - start < 10:
        time.sleep(0.25)
        best = [max(b, (old - memory_bytes(path)) / part) for b, old, path, part in zip(best, before, paths, unused)]
    m.lodge("env", "update", "default", "--keep-free", 0.1)
    states = [json.loads(m.lodge("inspect", name)) for name in names]
    alive = all((s[0] if isinstance(s, list) else s)["state"] == "running" for s in states)
    for name, part in zip(names, best):
        ok &= part >= 0.7
        print(f"memory of {name:24} {100 * part:.0f} % of what it did not need is back within 10 s  {'ok' if part >= 0.7 else 'MISSED'}")
    grown = [m.lodge("exec", name, "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=50 2>/dev/null && echo good").strip() for name in names]
    print(f"memory grows on demand: {grown}, nothing killed: {alive}", flush=True)
    m.lodge("rm", "-f", *names)
    return ok and alive and grown == ["good", "good"]


def run(build: Path, image: str, seconds: float, kinds: dict[str, list[bool]], bar: float) -> bool:
    m = Managed(build)
    m.image, ok = image, True
    try:
        for kind, vms in kinds.items():
            ok &= shares(m, kind, vms, seconds, bar)
        ok &= memory(m)
    finally:
        m.close()
    return ok
