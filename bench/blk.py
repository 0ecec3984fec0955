#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""virtio-blk: 4 KiB random reads one at a time (uncached), and one sequential buffered read; beside QEMU's TCG, in turn.

Usage: blk.py [--build DIR] [--rounds N] [--kernel NAME]        Writes bench/results/blk.json. Times are taken on the host.
"""
import argparse
import json
import os
import tempfile
from pathlib import Path

from io_peers import ROOT, Lines, Peers, table

READS, MIB = 6000, 256
ROWS = [("iops", "random 4 KiB reads, depth 1", "1/s", 1), ("mib", "sequential buffered read", "MiB/s", 1)]


def measure(peers: Peers, name: str, disk: Path) -> dict[str, float]:
    guest = Lines(peers.command(name, disk=str(disk)), 100)
    try:
        start = guest.until("random-start")
        random = guest.until("random-end") - start
        start = guest.until("sequential-start")
        sequential = guest.until("sequential-end") - start
        guest.process.wait(60)
    finally:
        guest.close()
    return {"iops": READS / random, "mib": MIB / sequential}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kernel", default="cloud")
    parser.add_argument("--only", choices=["lodge", "tcg"])
    arguments = parser.parse_args()
    script = f"io_work random /dev/vda {READS}\nio_work sequential /dev/vda\n"
    with tempfile.TemporaryDirectory() as scratch:
        disk = Path(scratch) / "disk"
        with open(disk, "wb") as file:
            for _ in range(MIB):
                file.write(os.urandom(1 << 20))
        peers = Peers(arguments.build.resolve(), Path(scratch), arguments.kernel, script)
        results = {name: [] for name in peers.names if arguments.only in (None, name)}
        for _ in range(arguments.rounds):
            for name, runs in results.items():
                runs.append(measure(peers, name, disk))
                print(name, {key: round(value, 1) for key, value in runs[-1].items()}, flush=True)
    if "lodge" in results:
        table(ROWS, results)
    (ROOT / "bench" / "results").mkdir(exist_ok=True)
    (ROOT / "bench" / "results" / "blk.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
