#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The manager's job queues against their bars: bench/jobs.py [--build DIR] [--rows submit,many,answers] [--seconds 5] [--unit MS] [--work sleep|burn]. Root.

submit    clients, each on a connection that it keeps, submit one job a request into a queue that is held; then the manager is killed,
          and what was acknowledged must be there (the store syncs each transaction: synchronous=FULL, one for those that wait together)
many      a queue of 100,000: submitted in batches, listed, filtered, ordered, cancelled, and the manager started again with it
answers   known answers of scheduling textbooks, with real processes in containers that the queue starts, freezes and thaws. They sleep
          (time in which they are frozen does not count), so that neighbours change nothing; --work burn: they burn processor time,
          for a host that is quiet. The mean wait is in units of T_total by the sum of the bursts; raw: of --unit.
Exit status 1 if a bar is missed."""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "system"))
from manager import Manager  # noqa: E402
from timing import best, timed  # noqa: E402

missed = []

CLIENT = r"""
import json, sys, threading, time
sys.path.insert(0, sys.argv[1])
from manager import Connection
path, seconds, threads = sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
body = json.dumps({"queue": "held", "estimate_s": 5, "spec": {"image": "busybox", "command": ["sh", "-c", "true"]}}).encode()
acknowledged, end = [], time.monotonic() + seconds
def one():
    connection = Connection(path)
    while time.monotonic() < end:
        connection.request("POST", "/v1/jobs", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = json.loads(answer.read())
        assert answer.status == 201, data
        acknowledged.append(data["id"])
workers = [threading.Thread(target=one) for _ in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
json.dump(acknowledged, sys.stdout)
"""


def row(name, value, bar="", good=True):
    print(f"{name:<62} {value:>24} {bar:>14}  {'yes' if good else 'NO'}", flush=True)
    if not good:
        missed.append(name)


def bench_submit(manager, options):
    manager.good("POST", "/v1/queues", {"name": "held", "hold": True})
    arguments = [sys.executable, "-c", CLIENT, ROOT / "tests" / "system", manager.socket, str(options.seconds), "8"]
    begun = time.monotonic()
    clients = [subprocess.Popen(arguments, stdout=subprocess.PIPE) for _ in range(4)]
    acknowledged = [number for client in clients for number in json.loads(client.communicate()[0])]
    rate = len(acknowledged) / (time.monotonic() - begun)
    row("durable submissions, 32 clients, one job a request", f"{rate:.0f} /s", "1000 /s", rate >= 1000)
    manager.kill()
    manager.start()
    there = manager.good("GET", "/v1/queues/held")["jobs"]["queued"]
    row("  of those acknowledged, after kill -9", f"{there} of {len(acknowledged)}", "all", there >= len(acknowledged))
    body = {"jobs": [{"queue": "held", "spec": {"image": "busybox", "command": ["true", str(n)]}} for n in range(1000)]}
    took = best(lambda: manager.good("POST", "/v1/jobs/batch", body), 3)
    row("durable submissions, 1,000 jobs a request", f"{1e6 / took:.0f} /s", "1000 /s", took < 1000)
    took, _ = timed(lambda: manager.good("DELETE", "/v1/queues/held?force=1"))
    row("  the queue with all its jobs removed", f"{took:.0f} ms")


def bench_many(manager, options):
    manager.good("POST", "/v1/queues", {"name": "many", "policy": "priority", "hold": True})
    took, _ = timed(lambda: [manager.good("POST", "/v1/jobs", {"queue": "many", "count": 10000, "priority": n % 3, "name": f"part{n}",
                                                                "spec": {"image": "busybox", "command": ["true"]}}) for n in range(10)])
    row("100,000 jobs: submitted, 10,000 alike a request", f"{took / 1000:.2f} s")
    row("  the first 1,000 listed", f"{best(lambda: manager.request('GET', '/v1/jobs?queue=many&limit=1000')):.1f} ms", "100 ms")
    took = best(lambda: manager.request("GET", "/v1/jobs?queue=many&name=part7&limit=1000"))
    row("  1,000 of them by a part of the name", f"{took:.1f} ms", "100 ms", took < 100)
    took = best(lambda: manager.request("GET", "/v1/jobs?queue=many&state=running"))
    row("  those that run (none): all looked at", f"{took:.1f} ms", "100 ms", took < 100)
    took, data = timed(lambda: manager.request("GET", "/v1/jobs?queue=many&limit=100000")[2])
    row(f"  all listed, {len(data) / 1e6:.0f} MB", f"{took:.0f} ms")
    row("  the queue's order, the first 100", f"{best(lambda: manager.request('GET', '/v1/queues/many')):.1f} ms")
    victims = iter(manager.good("GET", "/v1/jobs?queue=many&limit=200")["jobs"])
    took = best(lambda: [manager.good("POST", f"/v1/jobs/{next(victims)['id']}/cancel") for _ in range(20)]) / 20
    row("  one cancelled, durably", f"{took:.2f} ms")
    policies = iter(("sjf", "fcfs", "srtf"))
    took = best(lambda: manager.good("PATCH", "/v1/queues/many", {"policy": next(policies)}), 3)
    row("  the policy changed while it works", f"{took:.0f} ms")
    manager.kill()
    took, _ = timed(manager.start)
    row("  the manager started again", f"{took:.0f} ms")
    for line in manager.request("GET", "/metrics")[2].decode().splitlines():
        if line.startswith("lodge_resident_bytes "):
            row("  its resident memory", f"{int(line.split()[1]) / 2**20:.0f} MiB")
    took, _ = timed(lambda: manager.good("DELETE", "/v1/queues/many?force=1"))
    row("  the queue with all its jobs removed", f"{took:.0f} ms")


# policy, configuration, bursts, arrivals, mean wait
ANSWERS = [
    ("FCFS 24, 3, 3", "fcfs", {}, [24, 3, 3], [0, 0, 0], 17),
    ("FCFS 3, 3, 24", "fcfs", {}, [3, 3, 24], [0, 0, 0], 3),
    ("RR, quantum 4: 24, 3, 3", "rr", {"quantum": 4}, [24, 3, 3], [0, 0, 0], 17 / 3),
    ("SJF 6, 8, 7, 3", "sjf", {}, [6, 8, 7, 3], [0, 0, 0, 0], 7),
    ("FCFS 6, 8, 7, 3", "fcfs", {}, [6, 8, 7, 3], [0, 0, 0, 0], 10.25),
    ("SRTF 8, 4, 9, 5 at 0, 1, 2, 3", "srtf", {}, [8, 4, 9, 5], [0, 1, 2, 3], 6.5),
    ("priority 10, 1, 2, 1, 5 by 3, 1, 4, 5, 2", "priority", {"priorities": [3, 1, 4, 5, 2]}, [10, 1, 2, 1, 5], [0] * 5, 8.2),
]


def one_answer(manager, directory, number, answer, unit_s, work):
    name, policy, extra, bursts, arrivals, wanted = answer
    queue = f"answer{number}"
    config = {"name": queue, "policy": policy, "slots": 1, "hold": True}
    if "quantum" in extra:
        config["quantum_s"] = extra["quantum"] * unit_s
    manager.good("POST", "/v1/queues", config)

    def submit(k):
        spec = {"image": "busybox", "command": ["/b/burn", work, str(bursts[k] * unit_s * 1000)],
                "volumes": [{"source": str(directory), "target": "/b", "read_only": True}]}
        priority = extra.get("priorities", [0] * len(bursts))[k]
        return manager.good("POST", "/v1/jobs", {"queue": queue, "spec": spec, "estimate_s": bursts[k] * unit_s, "priority": priority})["id"]

    ids = [submit(k) for k, at in enumerate(arrivals) if at == 0]
    manager.good("PATCH", f"/v1/queues/{queue}", {"hold": False})
    begun = time.monotonic()
    for k, at in enumerate(arrivals):
        if at:
            time.sleep(max(0, begun + at * unit_s - time.monotonic()))
            ids.append(submit(k))
    for job in ids:
        assert manager.good("GET", f"/v1/jobs/{job}/wait")["state"] == "done"
    history = manager.good("GET", f"/v1/queues/{queue}/history")
    waits, ran = [], 0
    for entry in history["jobs"]:
        job = entry["job"]
        held_s = max(0, history["released_ns"] - entry["submitted_ns"]) / 1e9
        waits.append(job["waited_s"] - held_s)
        ran += job["ran_s"]
    unit = ran / sum(bursts)
    got = sum(waits) / len(waits) / unit
    return got, sum(waits) / len(waits) / unit_s


def bench_answers(manager, options):
    directory = options.build / "bench"
    subprocess.run(["ninja", "-C", str(options.build), "bench/burn"], check=True, capture_output=True)
    for number, answer in enumerate(ANSWERS):
        got, raw = one_answer(manager, directory, number, answer, options.unit / 1000, options.work)
        off = got / answer[5] - 1
        row(f"mean wait, {answer[0]}: {answer[5]:.4g}", f"{got:.3f}, {off * 100:+.2f} % (raw {raw:.2f})", "5 %", abs(off) <= .05)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--rows", default="submit,many,answers")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--unit", type=float, default=500, help="milliseconds that a table's unit stands for")
    parser.add_argument("--work", choices=("sleep", "burn"), default="sleep")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("jobs.py: needs root")
    options.build = options.build.resolve()
    manager = Manager(options.build, os.environ.get("LODGE_HOME", options.build / "guest")).start()
    print(f"{'measure':<62} {'seen':>24} {'bar':>14}")
    try:
        for name in options.rows.split(","):
            {"submit": bench_submit, "many": bench_many, "answers": bench_answers}[name](manager, options)
    finally:
        for queue in manager.good("GET", "/v1/queues")["queues"]:
            manager.ask("DELETE", f"/v1/queues/{queue['name']}?force=1")
        manager.close()
        shutil.rmtree(manager.dir, ignore_errors=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
