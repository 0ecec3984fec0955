#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""TCP between the host and a guest through a tap interface: both ways, and the round trip of one byte; beside QEMU's TCG, in turn.

Usage: net.py [--build DIR] [--rounds N] [--kernel NAME] [--mib N]        Needs root. Writes bench/results/net.json.

The host's end sends by CUBIC (RENO where that is missing), so that the guest is measured and not the host's pacing; where the host's own
choice is another (BBR), the stream to the guest is measured with that, too, in a row of its own. TCG moves a quarter of the bytes, so that
both take about as long.
"""
import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

from io_peers import ROOT, Lines, Peers, table

ROWS = [("from", "TCP from the guest", "Mbit/s", 1), ("to", "TCP to the guest", "Mbit/s", 1), ("round", "round trip", "us", -1)]
OWN = ("own", "TCP to the guest, the host's way", "Mbit/s", 1)


def measure(peers: Peers, name: str, space: str, nbytes: int, rounds: int) -> dict[str, float]:
    inside = ["nsenter", f"--net=/run/netns/{space}"]
    host = Lines([*inside, str(peers.io_work), "net-host", "10.77.0.1", "7000", str(nbytes), str(rounds)])
    host.until("ready")
    chosen, own = host.seen[-1].split()[1:]
    guest = Lines(inside + peers.command(name, net="tap0"))
    result = {}
    try:
        for key in ("from", "to", "round", *(["own"] if own != chosen else [])):
            host.until(key)
            value = float(host.seen[-1].split()[1])
            result[key] = value if key == "round" else 8000.0 / value
        guest.process.wait(60)
    finally:
        host.close()
        guest.close()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kernel", default="cloud")
    parser.add_argument("--mib", type=int, default=1024, help="bytes each way; short streams measure TCP finding its window")
    parser.add_argument("--only", choices=["lodge", "tcg"])
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("net.py: needs root (a network namespace with a tap interface)")
    space = f"lodgebench{os.getpid()}"
    script = "ifconfig eth0 10.77.0.2 netmask 255.255.255.0 up\nio_work net-guest 10.77.0.1 7000\n"
    subprocess.run(["ip", "netns", "add", space], check=True)
    try:
        for line in ("link set lo up", "tuntap add tap0 mode tap vnet_hdr", "addr add 10.77.0.1/24 dev tap0", "link set tap0 up"):
            subprocess.run(["ip", "-n", space, *line.split()], check=True)
        with tempfile.TemporaryDirectory() as scratch:
            peers = Peers(arguments.build.resolve(), Path(scratch), arguments.kernel, script)
            results = {name: [] for name in peers.names if arguments.only in (None, name)}
            for _ in range(arguments.rounds):
                for name, runs in results.items():
                    runs.append(measure(peers, name, space, arguments.mib << 20 if name == "lodge" else arguments.mib << 18, 4000))
                    print(name, {key: round(value, 1) for key, value in runs[-1].items()}, flush=True)
    finally:
        subprocess.run(["ip", "netns", "del", space], check=False)
    if "lodge" in results:
        table(ROWS + ([OWN] if "own" in results["lodge"][0] else []), results)
    (ROOT / "bench" / "results").mkdir(exist_ok=True)
    (ROOT / "bench" / "results" / "net.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
