#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Processor time of running instances against what the policy gave them.

Starts three hogs (an endless loop in a shell) on one processor, as containers, as VMs, and as a mix; divides by
weight, by reservation and limit, and by weights changed while they run; reads the kernel's counters
(bench/shares.c). Then the same, and memory given back, through a manager and its commands (environments.py). Root, and an image with a shell (LODGE_HOME/images). Exit status 1 if any share is off by more
than 5 %.

  bench/shares.py [--build DIR] [--image NAME] [--seconds 15] [--kinds containers,vms,mix]
"""
import argparse
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import environments

HOG = ["sh", "-c", "echo ready; while :; do :; done"]
BAR = 0.05


def lodge_cgroups() -> list[Path]:
    """Those of others come and go meanwhile."""
    found = []
    for top in [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]:
        try:
            found += [path for path in (top / "lodge").iterdir() if path.is_dir()]
        except OSError:
            continue
    return found


class Hog:
    """One instance that runs at full speed once this returns."""

    def __init__(self, lodge: Path, image: str, vm: bool, name: str):
        self.vm, self.name = vm, name
        options = ["--vm", "-m", "128M"] if vm else []
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", str(lodge), "run", "-q", "--name", name, *options, image, *HOG],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def wait_ready(self, deadline: float) -> None:
        ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready or b"ready" not in self.process.stdout.readline():
            self.process.kill()
            raise SystemExit(f"{self.name}: not ready: {self.process.stderr.read().decode()}")

    def place(self) -> str:
        """Its cgroup (a container), or its monitor's process (a VM), as bench_shares takes it."""
        if not self.vm:
            found = [path for path in lodge_cgroups() if self.holds_hog(path)]
            if not found:
                raise SystemExit(f"{self.name}: its cgroup is not found")
            return "/lodge/" + found[0].name
        for child in self.descendants(self.process.pid):
            if "lodge-vmm" in Path(f"/proc/{child}/cmdline").read_text().split("\0")[0]:
                return f"pid:{child}"
        raise SystemExit(f"{self.name}: its monitor is not found")

    def holds_hog(self, cgroup: Path) -> bool:
        try:
            members = (cgroup / "cgroup.procs").read_text().split()
        except OSError:
            return False
        return any(int(pid) in self.descendants(self.process.pid) for pid in members)

    @staticmethod
    def descendants(pid: int) -> list[int]:
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found, todo = [], [pid]
        while todo:
            for child in children.get(todo.pop(), []):
                found.append(child)
                todo.append(child)
        return found

    def end(self) -> None:
        self.process.kill() if self.process.poll() is not None else self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            for pid in self.descendants(self.process.pid):
                os.kill(pid, 9)
            self.process.kill()
            self.process.wait()


def measure(tool: Path, label: str, seconds: float, shares: list[str], places: list[str]) -> bool:
    arguments = [f"{share}={place}" for share, place in zip(shares, places)]
    answer = json.loads(subprocess.run([str(tool), str(seconds), *arguments], check=True, capture_output=True,
                                       text=True).stdout)
    got = "  ".join(f"{i['got']:.4f} of {i['expected']:.4f}" for i in answer["instances"])
    ok = answer["deviation"] <= BAR
    print(f"{label:34} {got}  off by {100 * answer['deviation']:.2f} %  {'ok' if ok else 'MISSED'}", flush=True)
    return ok


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--image", default="busybox")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--kinds", default="containers,vms,mix")
    parser.add_argument("--without-manager", action="store_true")
    parser.add_argument("--manager-alone", action="store_true")
    options = parser.parse_args()
    if os.geteuid():
        sys.exit("shares.py: needs root")
    subprocess.run(["ninja", "-C", str(options.build), "bench/bench_shares"], check=True, capture_output=True)
    lodge, tool = options.build / "bin/lodge", options.build / "bench/bench_shares"
    kinds = {"containers": [False] * 3, "vms": [True] * 3, "mix": [False, True, False]}
    ok = True
    for kind in [] if options.manager_alone else options.kinds.split(","):
        hogs = [Hog(lodge, options.image, vm, f"share-{os.getpid()}-{kind}-{i}")
                for i, vm in enumerate(kinds[kind])]
        try:
            deadline = time.monotonic() + 180
            for hog in hogs:
                hog.wait_ready(deadline)
            places = [hog.place() for hog in hogs]
            ok &= measure(tool, f"{kind}: 1 : 2 : 4", options.seconds, ["1", "2", "4"], places)
            ok &= measure(tool, f"{kind}: changed to 4 : 2 : 1", options.seconds / 3, ["4", "2", "1"], places)
            ok &= measure(tool, f"{kind}: 10 GHz, 3 / 3.5 / 3.5", options.seconds / 3,
                          ["2000:0:0.3", "1000:0.2", "1000"], places)
        finally:
            for hog in hogs:
                hog.end()
    for path in lodge_cgroups():
        if path.name.startswith("share-"):
            try:
                path.rmdir()
            except OSError:
                pass
    if not options.without_manager:
        ok &= environments.run(options.build, options.image, options.seconds, {k: kinds[k] for k in options.kinds.split(",")}, BAR)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
