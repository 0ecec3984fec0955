#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Processors side by side: the bare host, QEMU's TCG, and Lodge's software CPU, on the same kernel, RAM disk and programs.

    make bench-cpu                                 everything, five rounds: about ten minutes
    make bench-cpu ROWS=lua,getppid                rows or groups: integer programs short float getppid system process boot smp
    make bench-cpu ROWS=lua ROUNDS=9 ARGS="--peers lodge"
    bench/cpu.py --rows crc,gcc --lodge old=/path/to/old/build --lodge new=build     two builds against each other
    bench/cpu.py --rows gcc --lodge interp=build:soft,tier=interp
    bench/cpu.py --rows list --scale 20 --peers lodge --rounds 1                    longer, for a profiler

One guest of each kind is booted and asked for one row after the other, in turn: native, TCG, Lodge, and again. Between rows guests
sleep, so what a process has used of the host's processors (its CPU clock) between request and answer is the row's cost; no clock of a
guest is believed. A figure is the median of the rounds; a ratio is the median of the rounds' own ratios. The first round of a guest
is thrown away (and reported as "cold" in the JSON: with translation, page cache and all). Every answer has a checksum, and all must agree.
Results: bench/results/cpu.json and cpu.svg when every row was measured, or with --write.
"""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import cpu_chart
import cpu_guest
import cpu_rows
from cpu_guest import Failure, Native, Runner

ROOT = Path(__file__).resolve().parent.parent
NATIVE, TCG, LODGE = "native", "tcg", "lodge"


class Bench:
    def __init__(self, options):
        self.options = options
        self.place = options.build.resolve() / "bench-cpu"
        cpu_guest.prepare(self.place)
        self.vmlinuz = cpu_guest.kernel(options.kernel)
        self.lodges = {}
        for text in options.lodge or [LODGE + "=" + str(options.build)]:
            name, _, rest = text.partition("=")
            build, _, engine = rest.partition(":")
            self.lodges[name] = (Path(build).resolve(), engine or options.engine)
        wanted = options.peers.split(",")
        self.peers = [peer for peer in (NATIVE, TCG) if peer in wanted] + (list(self.lodges) if LODGE in wanted else [])
        if TCG in self.peers and not shutil.which("qemu-system-x86_64"):
            print("cpu.py: no qemu-system-x86_64: measured without TCG", file=sys.stderr)
            self.peers.remove(TCG)
        self.samples, self.cold, self.failures, self.notes = {}, {}, [], []

    def command(self, peer, initrd, cpus, memory, machine="pc"):
        initrd = self.place / initrd
        if peer == TCG:
            return cpu_guest.tcg_command(machine, self.vmlinuz, initrd, cpus, memory, self.options.append)
        build, engine = self.lodges[peer]
        return cpu_guest.lodge_command(build, engine, self.vmlinuz, initrd, cpus, memory, self.options.append)

    def start(self, peer, cpus):
        if peer == NATIVE:
            return Native(peer, cpu_guest.in_tree(self.place / "tree", "/init"))
        return Runner(peer, self.command(peer, "full.cpio", cpus, 1024), self.options.limit)

    def note(self, row, peer, result, first):
        self.say(f"{row} {peer}")
        if first:
            self.cold.setdefault(row, {})[peer] = result
        else:
            self.samples.setdefault(row, {}).setdefault(peer, []).append(result)

    @staticmethod
    def say(text):
        if sys.stderr.isatty():
            print(f"\r{text:<40}", end="", file=sys.stderr, flush=True)

    def rows(self, rows, cpus):
        """Boots one guest of each peer and does these rows in turn."""
        guests = {}
        try:
            for peer in self.peers:
                self.say(f"starting {peer}")
                try:
                    guests[peer] = self.start(peer, cpus)
                except Failure as failure:
                    self.failures.append(str(failure))
            for row in rows:
                for number in range(self.options.rounds + 1):
                    for peer, guest in list(guests.items()):
                        try:
                            self.note(row, peer, guest.row(row, self.options.scale), number == 0)
                        except (Failure, OSError) as failure:
                            self.failures.append(f"{row}: {failure}")
                            guest.close()
                            del guests[peer]
                            self.restart(guests, peer, cpus)
        finally:
            for guest in guests.values():
                guest.close()

    def restart(self, guests, peer, cpus):
        try:
            guests[peer] = self.start(peer, cpus)
        except Failure as failure:
            self.failures.append(str(failure))

    def boot(self):
        """Cold starts with a small RAM disk. TCG: the best in each round of two machines, and of the kernel packed and unpacked."""
        vmlinux = cpu_guest.unpacked_kernel(self.vmlinuz, self.place)
        for _ in range(self.options.rounds):
            for peer in self.peers:
                if peer == NATIVE:
                    continue
                results = []
                for machine, unpacked in (("pc", False), ("pc", True), ("microvm", True)) if peer == TCG else ((None, False),):
                    if unpacked and not vmlinux:
                        continue
                    try:
                        command = self.command(peer, "small.cpio", 1, 512, machine)
                        if unpacked:
                            command[command.index("-kernel") + 1] = vmlinux
                        guest = Runner(peer, command, 20)
                        results.append({**guest.boot, "machine": machine, "unpacked": unpacked})
                        guest.close()
                    except Failure as failure:
                        # Without a second clock to calibrate against, a kernel on microvm may wait for ever: not our failure.
                        (self.notes if machine == "microvm" else self.failures).append(f"boot {machine or ''}: {failure}")
                if results:
                    best = min(results, key=lambda result: result["cpu"])
                    self.note("boot", peer, {**best, "checksum": "", "all": results}, False)

    def run(self, groups):
        plain = [row for group in groups if group.name not in ("boot", "smp") for row in group.rows + group.extra]
        names = {group.name for group in groups}
        if plain:
            self.rows(plain, 1)
        if "boot" in names:
            self.boot()
        if "smp" in names:
            self.rows(["threads1", "threads2"], 2)
        self.say("")
        for row in self.samples:
            sums = {result["checksum"] for results in self.samples[row].values() for result in results}
            sums |= {result["checksum"] for result in self.cold.get(row, {}).values()}
            if len(sums) > 1:
                self.failures.append(f"{row}: checksums differ: " + ", ".join(
                    f"{peer} {'/'.join(sorted({r['checksum'] for r in results}))}" for peer, results in self.samples[row].items()))

    def seconds(self, row, peer, clock="cpu"):
        results = self.samples.get(row, {}).get(peer)
        return statistics.median(result[clock] for result in results) if results else None

    def ratio(self, row, above, below, clock="cpu"):
        """Median of the rounds' ratios."""
        pairs = list(zip(self.samples.get(row, {}).get(above, []), self.samples.get(row, {}).get(below, [])))
        return statistics.median(a[clock] / b[clock] for a, b in pairs) if pairs else None

    def mean(self, rows, above, below):
        ratios = [self.ratio(row, above, below) for row in rows]
        return statistics.geometric_mean(ratios) if ratios and None not in ratios else None

    def scaling(self, peer):
        """Throughput of two threads over one: by the wall clock outside (the best round of each, since other work on the host only ever
        slows), and what the processor time says that it would be on a host with nothing else to do."""
        one, two = (self.samples.get(row, {}).get(peer) for row in ("threads1", "threads2"))
        if not one or not two:
            return None, None
        wall = 2 * min(r["wall"] for r in one) / min(r["wall"] for r in two)
        cost = 2 * statistics.median(r["cpu"] for r in one) / statistics.median(r["cpu"] for r in two)
        if peer == NATIVE:  # processor time over wall time says nothing where others want the host too
            return wall, None
        busy = statistics.median(r["guest_cpu"] / r["guest_wall"] for r in two)
        return wall, cost * busy


def cell(value, form, width):
    return f"{format(value, form) if value is not None else '-':>{width}}"


def verdict(value, bar, least):
    if bar is None or value is None:
        return ""
    return "pass" if (value >= bar if least else value <= bar) else "MISS"


def table(bench, groups, lodge, against):
    """Lines of one table: every row and group, with its bar."""
    least = against == TCG
    bar_of = (lambda group: group.tcg) if least else (lambda group: group.native)

    def value(row):
        return bench.ratio(row, TCG, lodge) if least else bench.ratio(row, lodge, NATIVE)

    lines = [f"{lodge} against {against}: " + ("times faster (CPU time of the whole process)" if least else "times slower")]
    lines.append(f"  {'':<40}{against + ' ms':>11}{lodge + ' ms':>11}{'ratio':>9}  bar")
    for group in groups:
        if group.name == "smp":
            continue
        bar = bar_of(group)
        text = "" if bar is None else f"{'>=' if least else '<='} {bar:g}"
        mean = bench.mean(group.rows, TCG, lodge) if least else bench.mean(group.rows, lodge, NATIVE)
        if len(group.rows) > 1:
            lines.append(f"  {group.title + ' (mean)':<40}{'':>22}{cell(mean, '.2f', 9)}  {text:<7} {verdict(mean, bar, least)}")
        for row in group.rows + group.extra:
            times = "".join(cell(None if s is None else s * 1e3, ".2f", 11) for s in (bench.seconds(row, against), bench.seconds(row, lodge)))
            own = bar if row in group.rows else None
            name = ("  " if len(group.rows) > 1 or row in group.extra else "") + row + ("" if row in group.rows else " (beside)")
            lines.append(f"  {name:<40}{times}{cell(value(row), '.2f', 9)}  {text if own else '':<7} {verdict(value(row), own, least)}")
    return lines


def scaling_table(bench):
    lines = ["two vCPUs over one, parallel integer work: throughput by the wall clock, and as processor time would have it"]
    for peer in bench.peers:
        bar = cpu_rows.SMP_BAR if peer in bench.lodges else None
        wall, cost = bench.scaling(peer)
        lines.append(f"  {peer:<40}{'':>11}{cell(wall, '.2f', 11)}{cell(cost, '.2f', 9)}  {f'>= {bar}' if bar else '':<7} "
                     f"{verdict(wall, bar, True)}")
    return lines


def about(bench):
    def first_line(*command):
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
        except (OSError, subprocess.CalledProcessError, IndexError):
            return "unknown"

    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")), "?")
    return {"host": cpu, "cores": os.cpu_count(), "load": os.getloadavg()[0], "qemu": first_line("qemu-system-x86_64", "--version"),
            "guest_kernel": (bench.vmlinuz.parent / "release").read_text().strip(), "rounds": bench.options.rounds,
            "commit": first_line("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
            "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "append": bench.options.append}


def summary(bench, groups):
    """What is written down, and drawn."""
    out = {"about": about(bench), "groups": [], "rows": {}, "scaling": {peer: bench.scaling(peer) for peer in bench.peers},
           "failures": bench.failures, "notes": bench.notes}
    lodge = next(iter(bench.lodges))
    for group in groups:
        if group.name != "smp":
            out["groups"].append({"name": group.name, "title": group.title, "rows": group.rows, "beside": group.extra,
                                  "bar_tcg": group.tcg, "bar_native": group.native,
                                  "faster_than_tcg": bench.mean(group.rows, TCG, lodge),
                                  "slower_than_native": bench.mean(group.rows, lodge, NATIVE)})
    for row, peers in bench.samples.items():
        out["rows"][row] = {peer: {"cpu_s": bench.seconds(row, peer), "wall_s": bench.seconds(row, peer, "wall"),
                                   "samples_cpu_s": [result["cpu"] for result in results],
                                   "cold_cpu_s": bench.cold.get(row, {}).get(peer, {}).get("cpu")} for peer, results in peers.items()}
        out["rows"][row]["faster_than_tcg"] = bench.ratio(row, TCG, lodge)
        out["rows"][row]["slower_than_native"] = bench.ratio(row, lodge, NATIVE)
    return out


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", default="", help="rows or groups, separated by commas; all when absent")
    parser.add_argument("--peers", default="native,tcg,lodge")
    parser.add_argument("--lodge", action="append", metavar="NAME=BUILD[:ENGINE]", help="may be repeated")
    parser.add_argument("--engine", default="soft")
    parser.add_argument("--kernel", default="cloud")
    parser.add_argument("--append", default="", help="more for the guests' kernel command line")
    parser.add_argument("--scale", type=int, default=1, help="each row does so many times its work")
    parser.add_argument("--limit", type=int, default=180, help="seconds that one row may take")
    parser.add_argument("--write", action="store_true", help="write the results although rows were chosen")
    return parser.parse_args()


def main():
    options = parse()
    groups = cpu_rows.select(options.rows)
    bench = Bench(options)
    # Stopped early, it tells what it has.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        bench.run(groups)
    except KeyboardInterrupt:
        bench.failures.append("stopped before the end")
    lines = []
    for lodge in bench.lodges if bench.peers[-1:] and LODGE in options.peers.split(",") else []:
        for against in (TCG, NATIVE):
            if against in bench.peers:
                lines += table(bench, [g for g in groups if against == TCG or g.name != "boot"], lodge, against) + [""]
    if not {NATIVE, TCG} & set(bench.peers) or len(bench.lodges) > 1:
        lines.append(f"{'CPU ms':<20}" + "".join(f"{peer:>14}" for peer in bench.peers))
        for row in bench.samples:
            lines.append(f"{row:<20}" + "".join(cell(None if (s := bench.seconds(row, peer)) is None else s * 1e3, ".2f", 14)
                                                for peer in bench.peers))
        lines.append("")
    if "threads2" in bench.samples:
        lines += scaling_table(bench)
    facts = about(bench)
    lines.append(f"{facts['qemu']}; guest kernel {facts['guest_kernel']}; {facts['host']}, {facts['cores']} CPUs, load {facts['load']:.1f}; "
                 f"medians of {facts['rounds']}")
    print("\n".join(lines))
    if options.write or not options.rows:
        results = ROOT / "bench/results"
        results.mkdir(exist_ok=True)
        found = summary(bench, groups)
        (results / "cpu.json").write_text(json.dumps(found, indent=1) + "\n")
        (results / "cpu.txt").write_text("\n".join(lines) + "\n")
        (results / "cpu.svg").write_text(cpu_chart.chart(found))
    for note in sorted(set(bench.notes)):
        print(f"note: {note}", file=sys.stderr)
    for failure in bench.failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    sys.exit(1 if bench.failures else 0)


if __name__ == "__main__":
    main()
