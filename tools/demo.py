#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the same image and command as a container and as a virtual machine and prints what each was like.

Everything in the table is measured here, from outside: the time from the start of `lodge run` to the first byte of the command's
output, the time of a whole `lodge run ... true` (median of five for the container), and the memory (proportional set size) of every process that belongs to the run while
the command waits for input. What the guest says of itself (kernel, processor) is its own output.
"""
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

CELL_WIDTH = 38
SCRIPT = ('uname -a; grep -m1 "model name" /proc/cpuinfo || echo "model name : unknown"; '
          'grep -c ^processor /proc/cpuinfo; grep MemTotal /proc/meminfo; read -r line; echo "got $line"')


def children_of(pid):
    """Every living descendant, by one scan of /proc."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
                parents[int(entry)] = int(stat.rsplit(")", 1)[1].split()[1])
            except (OSError, ValueError):
                continue
    found, fresh = {pid}, {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def pss_kib(pid):
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def show(program, isolation, image):
    """One run: what it printed, and what it cost."""
    command = [program, "run", *isolation, "-i", image, "sh", "-c", SCRIPT]
    print(f"\n$ lodge {' '.join(command[1:-1])} SCRIPT", flush=True)
    started = time.monotonic()
    errors = tempfile.TemporaryFile("w+")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
    first = process.stdout.readline()
    result = {"first": time.monotonic() - started}
    lines = [first] + [process.stdout.readline() for _ in range(3)]
    if not all(lines):
        status = process.wait()
        errors.seek(0)
        sys.exit(f"{errors.read()}demo: `lodge run {' '.join(isolation)}` ended early, status {status}; lodge doctor may know why")
    time.sleep(0.2)
    result["memory"] = {pid: pss_kib(pid) for pid in children_of(process.pid)}
    rest, _ = process.communicate(b"it\n")
    result["status"] = process.returncode
    result["echo"] = rest.decode().strip()
    errors.seek(0)
    said = errors.read().strip()
    if said:
        print(f"  {said}")
    # "lodge: info: engine soft: why"
    result["engine"] = said.split("engine ", 1)[1].split(":", 1)[0] + " engine" if "engine " in said else "the host's kernel"
    text = [line.decode(errors="replace").strip() for line in lines]
    for line in text:
        print(f"  {line}")
    result["uname"] = text[0]
    result["cpu"] = text[1].split(":", 1)[1].strip()
    result["cpus"] = text[2]
    result["memory_seen"] = f"{int(text[3].split()[1]) // 1024} MiB"
    return result


def whole_run(program, isolation, image, times):
    took = []
    for _ in range(times):
        started = time.monotonic()
        subprocess.run([program, "run", *isolation, "-q", image, "true"], check=True, stdin=subprocess.DEVNULL)
        took.append(time.monotonic() - started)
    return statistics.median(took)


def seconds(value):
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def print_table(rows):
    """Cells longer than CELL_WIDTH go on in the next line."""
    cells = [[textwrap.wrap(cell, CELL_WIDTH) or [""] for cell in row] for row in rows]
    widths = [max(len(line) for row in cells for line in row[column]) for column in range(3)]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    print(rule)
    for number, row in enumerate(cells):
        for index in range(max(map(len, row))):
            line = [(lines[index] if index < len(lines) else "").ljust(width) for lines, width in zip(row, widths)]
            print("| " + " | ".join(line) + " |")
        if number in (0, len(cells) - 1):
            print(rule)


def main():
    build = Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
    program = str(build / "bin" / "lodge")
    image = "debian" if (build / "guest" / "images" / "debian" / "config.json").exists() else "busybox"
    print(f"SCRIPT='{SCRIPT}'")
    # The disk image of a VM is made once per image, not at every start.
    subprocess.run([program, "kernels", "--disk", image], check=True, stdout=subprocess.DEVNULL)
    container = show(program, [], image)
    machine = show(program, ["--vm"], image)
    container["whole"] = whole_run(program, [], image, 5)
    machine["whole"] = whole_run(program, ["--vm"], image, 1)
    rows = [
        ("", "container", "virtual machine"),
        ("uname -a", container["uname"], machine["uname"]),
        ("CPU", container["cpu"], machine["cpu"]),
        ("CPUs, memory that it sees", f"{container['cpus']}, {container['memory_seen']}", f"{machine['cpus']}, {machine['memory_seen']}"),
        ("runs on", container["engine"], machine["engine"]),
        ("start and end of `true`", seconds(container["whole"]), seconds(machine["whole"])),
        ("time to first output", seconds(container["first"]), seconds(machine["first"])),
        ("memory of all its processes", f"{sum(container['memory'].values()) / 1024:.1f} MiB",
         f"{sum(machine['memory'].values()) / 1024:.1f} MiB"),
        ("answer to a line of input", container["echo"], machine["echo"]),
        ("exit status", str(container["status"]), str(machine["status"])),
    ]
    print(f"\nImage {image}, the same command in both; times from the call of `lodge run`:")
    print_table(rows)
    return 0 if container["status"] == 0 and machine["status"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
