#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lodge-oci beside crun, runc and the bare minimum: times in milliseconds, medians over rounds in which every runtime has
its turn (so that a busy host is as unkind to one as to the other), system calls and peak memory.

    bench/oci_bench.py LODGE-OCI FLOOR [ROUNDS]

crun 1.8 refuses hybrid cgroup hosts; bench/oci.sh therefore takes the v2 hierarchy away in a mount namespace of its own,
for all of them alike."""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NULL = os.open(os.devnull, os.O_RDWR)
STREAMS = [(os.POSIX_SPAWN_DUP2, NULL, 0), (os.POSIX_SPAWN_DUP2, NULL, 1)]


def call(*command):
    """Milliseconds until it has ended well."""
    command = [str(c) for c in command]
    start = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=STREAMS)
    status = os.waitpid(pid, 0)[1]
    spent = (time.perf_counter() - start) * 1000
    if status:
        raise SystemExit(f"{command} ended with {status}")
    return spent


def make_bundle(place, program, args):
    place.mkdir()
    subprocess.run([program, "spec", "--bundle", place], check=True)
    config = json.loads((place / "config.json").read_text())
    config["ociVersion"] = "1.0.2"  # crun 1.8 knows no later one
    config["process"].update(terminal=False, args=args)
    config["root"] = {"path": str(place.parent / "rootfs")}
    (place / "config.json").write_text(json.dumps(config))
    return place


def system_calls(command):
    with tempfile.NamedTemporaryFile() as out:
        done = subprocess.run(["strace", "-f", "-c", "-S", "name", "-o", out.name, *map(str, command)], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
        lines = Path(out.name).read_text().split("\n")
    total = [line.split() for line in lines if line.endswith("total")]
    return int(total[0][3]) if total and not done.returncode else None


def peak_kib(command):
    """Of the whole run: GNU time where it is, else nothing."""
    time_program = shutil.which("time")
    if not time_program:
        return None
    done = subprocess.run([time_program, "-f", "%M", *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True)
    return int(done.stderr.split()[-1]) if done.returncode == 0 else None


def main():
    lodge, floor, rounds = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), int((sys.argv[3:] or ["20"])[0])
    work = Path(tempfile.mkdtemp(prefix="lodge-bench-oci-", dir="/run"))
    try:
        bench(work, lodge, floor, rounds)
    finally:
        shutil.rmtree(work)


def bench(work, lodge, floor, rounds):
    (work / "rootfs/bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), work / "rootfs/bin/busybox")
    for name in ("true", "sleep", "sh"):
        (work / "rootfs/bin" / name).symlink_to("busybox")
    once, stay = make_bundle(work / "once", lodge, ["/bin/true"]), make_bundle(work / "stay", lodge, ["/bin/sleep", "1000"])
    runtimes = {"lodge-oci": lodge} | {n: shutil.which(n) for n in ("crun", "runc") if shutil.which(n)}
    times = {}

    def note(name, what, spent):
        times.setdefault(what, {}).setdefault(name, []).append(spent)

    for gap, what in ((0, "run, back to back"), (0.1, "run, 100 ms apart")):
        for _ in range(rounds):
            for name, program in runtimes.items():
                time.sleep(gap)
                note(name, what, call(program, "--root", work / name, "run", "--bundle", once, f"bench-{name}"))
            time.sleep(gap)
            note("floor", what, call(floor, work / "rootfs", "bench-floor", "/bin/true"))
    for _ in range(rounds):
        for name, program in runtimes.items():
            base, box = (program, "--root", work / name), f"bench-{name}"
            note(name, "create", call(*base, "create", "--bundle", stay, box))
            note(name, "start", call(*base, "start", box))
            note(name, "exec", call(*base, "exec", box, "/bin/true"))
            note(name, "state", call(*base, "state", box))
            note(name, "kill", call(*base, "kill", box, "KILL"))
            while '"stopped"' not in subprocess.run([*map(str, base), "state", box], capture_output=True, text=True).stdout:
                time.sleep(0.002)
            note(name, "delete", call(*base, "delete", box))
    names = [*runtimes, "floor"]
    print(f"medians of {rounds}, milliseconds; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    print(f"{'':22}" + "".join(f"{n:>11}" for n in names) + f"{'/ crun':>9}{'/ runc':>9}")

    def line(what, values, form):
        ratio = [f"{values['lodge-oci'] / values[n]:9.2f}" if values.get(n) else f"{'-':>9}" for n in ("crun", "runc")]
        print(f"{what:22}" + "".join(f"{format(values[n], form) if values.get(n) else '-':>11}" for n in names) + "".join(ratio))

    for what, by_name in times.items():
        line(what, {n: statistics.median(v) for n, v in by_name.items()}, ".2f")
    commands = {n: [p, "--root", work / n, "run", "--bundle", once, f"bench-{n}"] for n, p in runtimes.items()}
    commands["floor"] = [floor, work / "rootfs", "bench-floor", "/bin/true"]
    if shutil.which("strace"):
        line("system calls of a run", {n: system_calls(c) for n, c in commands.items()}, "d")
    line("peak KiB of a run", {n: peak_kib(c) for n, c in commands.items()}, "d")


main()
