#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Boot of one kernel and initramfs to the first line of user space, on lodge-vmm's engines and on QEMU's TCG, in turn.

Usage: boot.py [--build DIR] [--rounds N] [--kernel NAME]
Prints medians of wall time to that line, and of processor time of the whole process, with the ratio to TCG round by round.
Writes bench/results/boot.json.
"""
import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from io_peers import pack_initramfs

ROOT = Path(__file__).resolve().parent.parent
MARK = b"LODGE-USER-SPACE"
INIT = f"#!/bin/sh\necho {MARK.decode()}\n/bin/mount -t proc proc /proc\necho o >/proc/sysrq-trigger\nexec /bin/poweroff -f\n"


def make_initramfs(place: Path) -> Path:
    """busybox as init's shell: prints the mark, powers off."""
    tree = place / "tree"
    (tree / "bin").mkdir(parents=True)
    for name in ("proc", "dev", "sys"):
        (tree / name).mkdir()
    busybox = shutil.which("busybox") or sys.exit("boot.py: busybox (static) is needed")
    shutil.copy(busybox, tree / "bin" / "busybox")
    for name in ("sh", "mount", "poweroff", "echo"):
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "init").write_text(INIT)
    (tree / "init").chmod(0o755)
    return pack_initramfs(tree)


def measure(command) -> tuple[float, float]:
    """Seconds of wall time to the mark, and of processor time until the process ended."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    seen, output = None, b""
    while chunk := os.read(child.stdout.fileno(), 65536):
        output += chunk
        if seen is None and MARK in output:
            seen = time.monotonic() - started
        if time.monotonic() - started > 120:
            child.kill()
    child.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if seen is None:
        raise RuntimeError(f"{command[0]}: no user space; the end of its output:\n" + output[-2000:].decode(errors="replace"))
    return seen, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kernel", default="cloud")
    arguments = parser.parse_args()
    kernel = arguments.build / "guest" / "kernels" / arguments.kernel / "vmlinuz"
    cmdline = "console=ttyS0 panic=-1 reboot=t"
    with tempfile.TemporaryDirectory() as scratch:
        initramfs = make_initramfs(Path(scratch))
        lodge = [str(arguments.build / "bin" / "lodge-vmm"), "--quiet", "--kernel", str(kernel), "--initrd", str(initramfs),
                 "--memory", "512M", "--cmdline", cmdline, "--engine"]
        peers = {"lodge soft (interpreter)": lodge + ["soft,tier=interp"]}
        qemu = shutil.which("qemu-system-x86_64")
        if qemu:
            common = ["-accel", "tcg", "-m", "512", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
                      "-kernel", str(kernel), "-initrd", str(initramfs), "-append", cmdline]
            peers["qemu tcg -M pc"] = [qemu, "-M", "pc"] + common
        results = {name: [] for name in peers}
        for number in range(arguments.rounds):
            for name, command in peers.items():
                results[name].append(measure(command))
                print(f"\rround {number + 1}/{arguments.rounds}: {name:<28}", end="", file=sys.stderr, flush=True)
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    base = results.get("qemu tcg -M pc")
    print(f"{'boot of ' + arguments.kernel + ' to user space':<34}{'wall s':>9}{'cpu s':>9}{'wall/tcg':>10}{'cpu/tcg':>10}")
    summary = {}
    for name, runs in results.items():
        wall, cpu = (statistics.median(run[i] for run in runs) for i in (0, 1))
        ratios = [statistics.median(run[i] / peer[i] for run, peer in zip(runs, base)) for i in (0, 1)] if base else [float("nan")] * 2
        print(f"{name:<34}{wall:>9.2f}{cpu:>9.2f}{ratios[0]:>10.2f}{ratios[1]:>10.2f}")
        summary[name] = {"wall_s": wall, "cpu_s": cpu, "runs": runs}
    (ROOT / "bench" / "results").mkdir(exist_ok=True)
    (ROOT / "bench" / "results" / f"boot-{arguments.kernel}.json").write_text(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
