#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The manager's bars, each bounded: --rows run,containers,stored,clients,killed; --seconds for the last two; --count of containers.

run         lodge run --rm busybox true, warm, beside podman where it is installed (interleaved; medians of wall time)
containers  so many containers made, started, listed, stopped, removed
stored      10,000 stored instances: listed, and filtered by a label
clients     200 clients, one write in ten requests, each on a connection of its own that it keeps
killed      kill -9 every second under load: what was acknowledged is there, nothing is orphaned or doubled
"""
import argparse
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "system"))
from manager import Connection, Manager, until  # noqa: E402


def row(name, value, bar, good):
    print(f"{name:<52} {value:>22} {bar:>22}  {'yes' if good else 'NO'}", flush=True)


def timed(fn):
    begun = time.monotonic()
    result = fn()
    return (time.monotonic() - begun) * 1000, result


def best(fn, rounds=5):
    return min(timed(fn)[0] for _ in range(rounds))


def metric(manager, name):
    for line in manager.request("GET", "/metrics")[2].decode().splitlines():
        if line.startswith(f"lodge_{name} "):
            return int(line.split()[1])
    raise KeyError(name)


def in_parallel(width, work, items):
    """work(item) on `width` threads; the first failure is raised."""
    items, failures = iter(items), []
    lock = threading.Lock()

    def loop():
        while not failures:
            with lock:
                item = next(items, None)
            if item is None:
                return
            try:
                work(item)
            except BaseException as failure:
                failures.append(failure)

    threads = [threading.Thread(target=loop) for _ in range(width)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def podman_command(manager, guest):
    """podman with stores of its own, and the same image."""
    if not shutil.which("podman"):
        return None
    places = ["--runtime", shutil.which("runc") or "crun", "--root", manager.dir / "pr", "--runroot", manager.dir / "prr", "--tmpdir", manager.dir / "pt", "--cgroup-manager=cgroupfs",
              "--storage-driver=vfs", "--events-backend=file"]
    command = ["podman", *map(str, places)]
    tar = subprocess.Popen(["tar", "c", "-C", guest / "images" / "busybox" / "rootfs", "."], stdout=subprocess.PIPE)
    done = subprocess.run([*command, "import", "-", "lodge-bench"], stdin=tar.stdout, capture_output=True, text=True)
    tar.wait()
    if done.returncode:
        print("podman cannot be used here:", done.stderr.strip().splitlines()[-1:])
        return None
    return [*command, "run", "--rm", "--net=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "lodge-bench", "true"]


def bench_run(manager, guest, options):
    ours = [str(manager.bin / "lodge"), "run", "--rm", "busybox", "true"]
    peer = podman_command(manager, guest)
    times = {"ours": [], "peer": []}
    for _ in range(options.rounds + 1):
        for name, command in (("ours", ours), ("peer", peer)):
            if command:
                elapsed, done = timed(lambda: subprocess.run(command, env=manager.environment, capture_output=True, text=True))
                assert done.returncode == 0, done
                times[name].append(elapsed)
    for name in ("pr", "prr", "pt"):
        shutil.rmtree(manager.dir / name, ignore_errors=True)
    ours_ms = statistics.median(times["ours"][1:])
    if not peer:
        row("lodge run --rm busybox true", f"{ours_ms:.0f} ms", "(podman not there)", True)
        return
    ratio = ours_ms / statistics.median(times["peer"][1:])
    row("lodge run --rm busybox true / podman run --rm", f"{ours_ms:.0f} ms, {ratio:.2f}x", "0.25x", ratio <= 0.25)


def bench_containers(manager, guest, options):
    count = options.count
    names = [f"many{number}" for number in range(count)]
    create, _ = timed(lambda: in_parallel(16, lambda n: manager.create("sleep", "100000", name=n), names))
    start, _ = timed(lambda: in_parallel(16, lambda n: manager.good("POST", f"/v1/instances/{n}/start"), names))
    listed = best(lambda: manager.good("GET", "/v1/instances"))
    assert len(manager.good("GET", "/v1/instances")["instances"]) == count
    memory = metric(manager, "resident_bytes") / (1 << 20)
    ps = best(lambda: manager.lodge("ps", "-q"))
    stop, _ = timed(lambda: in_parallel(16, lambda n: manager.good("POST", f"/v1/instances/{n}/stop"), names))
    remove, _ = timed(lambda: in_parallel(16, lambda n: manager.good("DELETE", f"/v1/instances/{n}"), names))
    row(f"{count} containers: create, start, stop, remove", " ".join(f"{ms / 1000:.1f}" for ms in (create, start, stop, remove)) + " s",
        "no error", True)
    row(f"{count} containers: list by the API", f"{listed:.1f} ms", "30 ms", listed <= 30)
    row(f"{count} containers: lodge ps -q", f"{ps:.1f} ms", "", True)
    row(f"{count} containers: the manager's resident memory", f"{memory:.1f} MiB", "40 MiB", memory < 40)


def bench_stored(manager, guest, options):
    made, _ = timed(lambda: in_parallel(16, lambda n: manager.create("true", name=f"s{n}", labels={"group": str(n % 100)}), range(10000)))
    everything = best(lambda: manager.request("GET", "/v1/instances?all=1"))
    filtered = best(lambda: manager.request("GET", "/v1/instances?all=1&label=group=7"))
    assert len(manager.good("GET", "/v1/instances?all=1&label=group=7")["instances"]) == 100
    row("10,000 stored: made", f"{made / 1000:.1f} s", "", True)
    row("10,000 stored: all listed", f"{everything:.1f} ms", "100 ms", everything <= 100)
    row("10,000 stored: filtered by a label", f"{filtered:.1f} ms", "100 ms", filtered <= 100)
    manager.stop()
    started, _ = timed(manager.start)
    row("10,000 stored: the manager's start", f"{started:.0f} ms", "", True)
    row("10,000 stored: resident memory", f"{metric(manager, 'resident_bytes') / (1 << 20):.1f} MiB", "", True)
    in_parallel(16, lambda n: manager.good("DELETE", f"/v1/instances/s{n}"), range(10000))


CLIENT = """
import sys, time, random, json
sys.path.insert(0, sys.argv[1])
from manager import Connection
import threading
path, clients, seconds, base = sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
reads, writes, errors = [], [], []
def one(number):
    chance = random.Random(number); connection = Connection(path); end = time.monotonic() + seconds; count = 0
    def ask(method, path, body=None):
        begun = time.monotonic()
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse(); answer.read()
        return (time.monotonic() - begun) * 1000, answer.status
    while time.monotonic() < end:
        count += 1
        try:
            if chance.random() < 0.1:
                name = f"c{number}-{count}"
                for method, where, body, good in (("POST", "/v1/instances", json.dumps({"image": "busybox", "name": name}), 201), ("DELETE", "/v1/instances/" + name, None, 200)):
                    elapsed, status = ask(method, where, body); writes.append(elapsed)
                    if status != good: errors.append((method, status))
            else:
                elapsed, status = ask("GET", chance.choice(["/v1/instances?all=1&label=x", "/v1/info", "/v1/instances/stays"])); reads.append(elapsed)
                if status != 200: errors.append(("GET", status))
        except OSError as trouble: errors.append(("connection", str(trouble))); connection = Connection(path)
        time.sleep(chance.uniform(0.5, 1.5))
threads = [threading.Thread(target=one, args=(base + n,)) for n in range(clients)]
[t.start() for t in threads]; [t.join() for t in threads]
print(json.dumps([reads, writes, errors[:5], len(errors)]))
"""


def bench_clients(manager, guest, options):
    import json
    manager.create("true", name="stays")
    helpers = [subprocess.Popen([sys.executable, "-c", CLIENT, ROOT / "tests" / "system", manager.socket, "50", str(options.seconds), str(n * 50)],
                                stdout=subprocess.PIPE, text=True) for n in range(4)]
    reads, writes, errors, shown = [], [], 0, []
    for helper in helpers:
        out = json.loads(helper.communicate(timeout=options.seconds + 120)[0])
        reads += out[0]
        writes += out[1]
        shown += out[2]
        errors += out[3]
    p99 = statistics.quantiles(reads, n=100)[98]
    row(f"200 clients, {options.seconds} s: {len(reads)} reads, {len(writes)} writes", f"{errors} errors", "none", errors == 0)
    row("200 clients: reads, median and p99", f"{statistics.median(reads):.1f}, {p99:.1f} ms", "p99 50 ms", p99 < 50)
    row("200 clients: writes, median and p99", f"{statistics.median(writes):.1f}, {statistics.quantiles(writes, n=100)[98]:.1f} ms", "", True)
    if shown:
        print(shown)
    manager.good("DELETE", "/v1/instances/stays")


def bench_killed(manager, guest, options):
    import test_manager_killed as killed
    stop, acknowledged, troubles = threading.Event(), {}, []
    clients = [threading.Thread(target=killed.work, args=(manager, n, stop, acknowledged, troubles)) for n in range(4)]
    for client in clients:
        client.start()
    kills = 0
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        time.sleep(random.uniform(0.8, 1.2))
        manager.kill()
        kills += 1
        manager.start()
    stop.set()
    for client in clients:
        client.join()

    def settled():
        there = {i["name"]: i for i in manager.good("GET", "/v1/instances?all=1")["instances"]}
        return there if all(i["state"] in ("created", "running", "exited") for i in there.values()) else None

    there = until(settled)
    wrong = [(name, state, there.get(name, {}).get("state")) for name, state in acknowledged.items()
             if (state == "gone") != (name not in there) or (state == "running" and there[name]["state"] != "running")]
    running = [i for i in there.values() if i["state"] == "running"]
    until(lambda: len(manager.shims()) == len(running))
    row(f"{kills} times kill -9: {len(acknowledged)} acknowledged", f"{len(wrong)} wrong, {len(troubles)} refused", "none",
        not wrong and not troubles)
    row("orphans, doubles", f"{len(manager.shims()) - len(running)}, {len(running) - len({i['pid'] for i in running})}", "none",
        len({i["pid"] for i in running}) == len(running))
    if wrong or troubles:
        print(wrong[:5], troubles[:5])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=ROOT / "build", type=Path)
    parser.add_argument("--guest", type=Path)
    parser.add_argument("--rows", default="run,containers,stored,clients,killed")
    parser.add_argument("--rounds", default=10, type=int)
    parser.add_argument("--count", default=1000, type=int)
    parser.add_argument("--seconds", default=60, type=int)
    options = parser.parse_args()
    guest = options.guest or options.build.resolve() / "guest"
    print(f"{'measure':<52} {'here':>22} {'bar':>22}  kept")
    for name in options.rows.split(","):
        manager = Manager(options.build.resolve(), guest).start()
        try:
            globals()[f"bench_{name}"](manager, guest, options)
        finally:
            manager.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
