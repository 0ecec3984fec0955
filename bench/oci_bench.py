#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lodge-oci beside crun, runc and the bare minimum: times in milliseconds, medians over rounds in which every runtime has
its turn (so that a busy host is as unkind to one as to the other), system calls and peak memory, each beside its bar.

    bench/oci_bench.py LODGE-OCI FLOOR [ROUNDS] [RESULT.JSON]

LODGE_BENCH_MANY: how many containers run beside the one that is timed in the last rows (999; 0: leave them out).
LODGE_BENCH_NEWER: a root file system with a newer crun, run in it by chroot as a further column.
crun 1.8 refuses hybrid cgroup hosts; bench/oci.sh therefore takes the v2 hierarchy away in a mount namespace of its own,
for all of them alike."""
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NULL = os.open(os.devnull, os.O_RDWR)
STREAMS = [(os.POSIX_SPAWN_DUP2, NULL, 0), (os.POSIX_SPAWN_DUP2, NULL, 1)]
MANY = int(os.environ.get("LODGE_BENCH_MANY", "999"))
CONCURRENT = 100


def spawn(command):
    command = [str(c) for c in command]
    return os.posix_spawn(command[0], command, os.environ, file_actions=STREAMS)


def both(*command):
    """Milliseconds until it has ended well, and milliseconds of processor that it and its container took."""
    start = time.perf_counter()
    _, status, usage = os.wait4(spawn(command), 0)
    spent = (time.perf_counter() - start) * 1000
    if status:
        raise SystemExit(f"{[str(c) for c in command]} ended with {status}")
    return spent, (usage.ru_utime + usage.ru_stime) * 1000


def processor_ms():
    """Of all children that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) * 1000


def call(*command):
    return both(*command)[0]


def docker_like_profile():
    """379 names, as the container engines' default profile has."""
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    names = re.findall(r"#define __NR_(\w+)", header.read_text()) if header.exists() else []
    old = ["_llseek", "_newselect", "chown32", "fadvise64_64", "fchown32", "fcntl64", "fstat64", "fstatat64", "fstatfs64", "ftruncate64",
           "getegid32", "geteuid32", "getgid32", "getgroups32", "getresgid32", "getresuid32", "getuid32", "ipc", "lchown32", "lstat64",
           "mmap2", "recv", "send", "sendfile64", "setfsgid32", "setgid32", "socketcall", "stat64", "ugetrlimit", "waitpid"]
    forbidden = {"mount", "umount2", "reboot", "kexec_load", "init_module", "delete_module", "bpf", "swapon", "swapoff", "ptrace"}
    names = [n for n in names if n not in forbidden]
    return {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": (names + old)[:379], "action": "SCMP_ACT_ALLOW"},
                         {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]}]}


LIMITS = {"memory": {"limit": 256 << 20}, "pids": {"limit": 100}, "cpu": {"shares": 512, "quota": 50000, "period": 100000}}


def make_bundle(place, program, args, limits=None, seccomp=None):
    place.mkdir()
    subprocess.run([program, "spec", "--bundle", place], check=True)
    config = json.loads((place / "config.json").read_text())
    config["ociVersion"] = "1.0.2"  # crun 1.8 knows no later one
    config["process"].update(terminal=False, args=args)
    config["root"] = {"path": str(place.parent / "rootfs")}
    config["linux"]["resources"].update(limits or {})
    if seccomp:
        config["linux"]["seccomp"] = seccomp
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


# What a row has to reach: beside crun, beside runc; and the absolute one.
BARS = {
    "run, back to back": (0.6, 0.25), "run, 100 ms apart": (0.3, None),
    "run, seccomp and limits": (0.35, None), "the same, 100 ms apart": (0.25, None),
    "create": (0.6, None), "start": (0.6, None), "exec": (0.6, None), "kill": (0.6, None), "delete": (0.6, None),
    f"{CONCURRENT} runs, one by one": (0.5, None), f"{CONCURRENT} runs at once": (0.5, None), f"run beside {MANY}": (0.5, None),
    "system calls of a run": (0.4, None),
}
PEAK_KIB_MAX = 2560


class Bench:
    def __init__(self, work, lodge, floor, rounds):
        self.work, self.floor, self.rounds, self.times = work, floor, rounds, {}
        self.lodge = lodge
        self.runtimes = {"lodge-oci": [lodge]} | {n: [shutil.which(n)] for n in ("crun", "runc") if shutil.which(n)}
        newer = os.environ.get("LODGE_BENCH_NEWER")
        if newer:
            self.runtimes["newer crun"] = ["/usr/sbin/chroot", newer, "/usr/bin/crun"]
        (work / "rootfs/bin").mkdir(parents=True)
        shutil.copy(shutil.which("busybox"), work / "rootfs/bin/busybox")
        for name in ("true", "sleep", "sh"):
            (work / "rootfs/bin" / name).symlink_to("busybox")
        self.once = make_bundle(work / "once", lodge, ["/bin/true"])
        self.stay = make_bundle(work / "stay", lodge, ["/bin/sleep", "1000"])
        self.limited = make_bundle(work / "limited", lodge, ["/bin/true"], LIMITS, docker_like_profile())
        self.small = make_bundle(work / "small", lodge, ["/bin/true"], {"memory": {"limit": 512 << 10}})

    def base(self, name):
        return (*self.runtimes[name], "--root", self.work / name.replace(" ", "-"))

    def run_command(self, name, bundle, box=None):
        return (*self.base(name), "run", "--bundle", bundle, box or f"bench-{name.replace(' ', '-')}")

    def floor_command(self, box="bench-floor"):
        return (self.floor, self.work / "rootfs", box, "/bin/true")

    def note(self, name, what, spent):
        self.times.setdefault(what, {}).setdefault(name, []).append(spent)

    def runs(self, what, bundle, gap, processor=None):
        """processor: the row for processor time, which a busy host does not stretch."""
        for _ in range(self.rounds):
            for name in [*self.runtimes, "floor"]:
                time.sleep(gap)
                spent, used = both(*(self.floor_command() if name == "floor" else self.run_command(name, bundle)))
                self.note(name, what, spent)
                if processor:
                    self.note(name, processor, used)

    def verbs(self):
        for _ in range(self.rounds):
            for name in self.runtimes:
                base, box = self.base(name), f"bench-{name.replace(' ', '-')}"
                self.note(name, "create", call(*base, "create", "--bundle", self.stay, box))
                self.note(name, "start", call(*base, "start", box))
                self.note(name, "exec", call(*base, "exec", box, "/bin/true"))
                self.note(name, "state", call(*base, "state", box))
                self.note(name, "kill", call(*base, "kill", box, "KILL"))
                while '"stopped"' not in subprocess.run([*map(str, base), "state", box], capture_output=True, text=True).stdout:
                    time.sleep(0.002)
                self.note(name, "delete", call(*base, "delete", box))

    def crowds(self):
        """One after the other, and all at once: milliseconds for all of them, and of processor."""
        for _ in range(max(3, self.rounds // 4)):
            for name in [*self.runtimes, "floor"]:
                commands = [self.floor_command(f"bench-floor-{i}") if name == "floor" else
                            self.run_command(name, self.once, f"bench-{name.replace(' ', '-')}-{i}") for i in range(CONCURRENT)]
                spent = [both(*c) for c in commands]
                self.note(name, f"{CONCURRENT} runs, one by one", sum(s for s, _ in spent))
                self.note(name, "processor time of them", sum(p for _, p in spent))
                start, used = time.perf_counter(), processor_ms()
                pids = [spawn(c) for c in commands]
                failed = [p for p in pids if os.waitpid(p, 0)[1]]
                self.note(name, f"{CONCURRENT} runs at once", (time.perf_counter() - start) * 1000)
                self.note(name, "processor time of those", processor_ms() - used)
                if failed:
                    print(f"{name}: {len(failed)} of {CONCURRENT} at once failed")

    def beside_many(self):
        base = (self.lodge, "--root", self.work / "many")
        names = [f"bench-many-{i}" for i in range(MANY)]
        begun = 0
        try:
            for name in names:
                call(*base, "run", "--detach", "--bundle", self.stay, name)
                begun += 1
            self.runs(f"run beside {MANY}", self.once, 0)
        finally:
            for i in range(0, begun, 50):
                call(*base, "delete", "--force", *names[i:min(i + 50, begun)])

    def medians(self):
        return {what: {n: statistics.median(v) for n, v in by_name.items()} for what, by_name in self.times.items()}


def report(bench, rows, small):
    names = [*bench.runtimes, "floor"]
    missed = []
    print(f"medians of {bench.rounds}, milliseconds; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    print(f"{'':24}" + "".join(f"{n:>11}" for n in names) + f"{'/ crun':>8}{'bar':>6}{'/ runc':>8}{'bar':>6}{'/ floor':>9}")
    for what, values in rows.items():
        form = ".2f" if what in bench.times else "d"
        line = f"{what:24}" + "".join(f"{format(values[n], form) if values.get(n) else '-':>11}" for n in names)
        for peer, bar in zip(("crun", "runc"), BARS.get(what, (None, None))):
            ratio = values["lodge-oci"] / values[peer] if values.get(peer) else None
            line += f"{ratio:8.2f}" if ratio else f"{'-':>8}"
            line += f"{bar:6.2f}" if bar else f"{'':6}"
            if ratio and bar and ratio > bar:
                missed.append(f"{what}: {ratio:.2f} of {peer}, the bar is {bar}")
        line += f"{values['lodge-oci'] / values['floor']:9.2f}" if values.get("floor") else f"{'-':>9}"
        print(line)
    print(f"{'memory limit of 512 KiB':24}" + "".join(f"{'starts' if small[n] else 'fails':>11}" for n in small))
    if (rows["peak KiB of a run"].get("lodge-oci") or 0) > PEAK_KIB_MAX:
        missed.append(f"peak memory: above {PEAK_KIB_MAX} KiB")
    if not small["lodge-oci"]:
        missed.append("a container with a memory limit of 512 KiB does not start")
    print("all bars reached" if not missed else "missed:\n  " + "\n  ".join(missed))
    return missed


def measure(bench):
    bench.runs("run, back to back", bench.once, 0, "processor time of it")
    bench.runs("run, 100 ms apart", bench.once, 0.1)
    bench.runs("run, seccomp and limits", bench.limited, 0, "processor time of that")
    bench.runs("the same, 100 ms apart", bench.limited, 0.1)
    bench.verbs()
    bench.crowds()
    if MANY:
        bench.beside_many()
    rows = bench.medians()
    commands = {n: bench.run_command(n, bench.once) for n in bench.runtimes} | {"floor": bench.floor_command()}
    if shutil.which("strace"):
        rows["system calls of a run"] = {n: system_calls(c) for n, c in commands.items()}
    rows["peak KiB of a run"] = {n: peak_kib(c) for n, c in commands.items()}
    small = {n: subprocess.run([str(c) for c in bench.run_command(n, bench.small)], stdin=subprocess.DEVNULL, capture_output=True)
             .returncode == 0 for n in bench.runtimes}
    for name, started in small.items():
        if not started:
            subprocess.run([str(c) for c in (*bench.base(name), "delete", "--force", f"bench-{name.replace(' ', '-')}")], capture_output=True)
    return rows, small


def main():
    lodge, floor, rounds = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), int((sys.argv[3:] or ["20"])[0])
    work = Path(tempfile.mkdtemp(prefix="lodge-bench-oci-", dir="/run"))
    try:
        bench = Bench(work, lodge, floor, rounds)
        rows, small = measure(bench)
    finally:
        shutil.rmtree(work)
    missed = report(bench, rows, small)
    if sys.argv[4:]:
        Path(sys.argv[4]).write_text(json.dumps({"rounds": rounds, "load": os.getloadavg()[0], "rows": rows, "bars": BARS,
                                                 "starts_with_512_KiB": small, "missed": missed}, indent=1) + "\n")


main()
