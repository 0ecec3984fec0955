#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares processors on bench/guest/cpu_work.c: the host, QEMU's TCG, the interpreter and the translator.

Every guest is booted by `lodge run --vm` with the same kernel and the same static program (QEMU in the place of lodge-vmm through
tests/system/qemu_vmm.py), one after the other, `--rounds` times; a figure is the median of the rounds' best times. Checksums must agree.
Writes bench/results/cpu.json.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def build_guest(folder):
    (folder / "bin").mkdir(parents=True)
    subprocess.run(["gcc", "-O2", "-static", "-o", folder / "bin/cpu_work", HERE / "guest/cpu_work.c", "-lm"], check=True)
    return folder


def run(engine, guest, build, arguments):
    if engine == "native":
        command, env = [str(guest / "bin/cpu_work"), *arguments], None
    else:
        env = dict(os.environ, LODGE_BUILD=str(build))
        command = [str(build / "bin/lodge"), "run", "--vm", "-q"]
        if engine == "tcg":
            env["LODGE_VMM"] = str(HERE.parent / "tests/system/qemu_vmm.py")
        else:
            command += ["--engine", f"soft,tier={engine}"]
        command += [str(guest), "/bin/cpu_work", *arguments]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    return {name: (int(ns), checksum) for name, ns, checksum in (line.split() for line in done.stdout.splitlines())}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", default="0.2")
    parser.add_argument("--only")
    parser.add_argument("--engines", default="native,tcg,interp,translate")
    options = parser.parse_args()
    build = Path(options.build).resolve()
    engines = options.engines.split(",")
    arguments = [options.seconds] + ([options.only] if options.only else [])
    times, checksums = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        guest = build_guest(Path(folder) / "root")
        for _ in range(options.rounds):
            for engine in engines:
                for name, (ns, checksum) in run(engine, guest, build, arguments).items():
                    times.setdefault(name, {}).setdefault(engine, []).append(ns)
                    checksums.setdefault(name, set()).add(checksum)
    medians = {name: {engine: statistics.median(row[engine]) for engine in engines} for name, row in times.items()}
    print(f"{'ns a round':12}" + "".join(f"{engine:>12}" for engine in engines)
          + ("  tcg / translate" if {"tcg", "translate"} <= set(engines) else ""))
    for name, row in medians.items():
        print(f"{name:12}" + "".join(f"{row[engine]:12.0f}" for engine in engines)
              + (f"{row['tcg'] / row['translate']:17.2f}" if {"tcg", "translate"} <= set(engines) else ""))
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results/cpu.json").write_text(json.dumps(medians, indent=1) + "\n")
    wrong = [name for name, seen in checksums.items() if len(seen) > 1]
    if wrong:
        sys.exit(f"checksums differ: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
