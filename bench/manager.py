#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The manager's bars, each bounded: --rows; --seconds for clients, killed and monitor; --count of containers, --operations of growth.

run         lodge run --rm busybox true, warm, beside podman and docker where they are (interleaved; medians of wall time)
containers  so many containers made, started, listed, stopped, removed
stored      10,000 stored instances: listed, and filtered by a label
clients     200 clients, one write in ten requests, each on a connection of its own that it keeps
killed      kill -9 every second under load: what was acknowledged is there, nothing is orphaned or doubled
growth      10,000 operations (made, started, refused, listed, removed): open files and memory before and after
monitor     a VM's monitor beside its guest's memory (PSS), after its boot and a minute of work, with and without a code cache

Rows are printed as they come; --json FILE has them too, with the host and its load.
"""
import argparse
import json
import os
import platform
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
from manager import Manager  # noqa: E402
from patience import until  # noqa: E402
from timing import best, timed  # noqa: E402


RESULTS = []


def row(name, value, bar, good):
    """good: whether the bar is kept; a row without a bar is for information."""
    kept = "" if not bar else "pass" if good else "MISS"
    RESULTS.append({"measure": name, "here": value, "bar": bar, "kept": kept})
    print(f"{name:<58} {value:>26} {bar:>12}  {kept}", flush=True)


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


class Docker:
    """A dockerd of our own, with directories of its own; commands is None where there is none to be had."""

    def __init__(self, manager, guest):
        self.dir, self.daemon, self.command = manager.dir / "docker", None, None
        if not shutil.which("dockerd") or not shutil.which("docker"):
            return
        self.dir.mkdir()
        socket = f"unix://{self.dir}/s"
        # vfs, as podman's: what overlay would save both is not what is measured here.
        with open(self.dir / "log", "wb") as log:
            self.daemon = subprocess.Popen(["dockerd", "-H", socket, "--data-root", self.dir / "data", "--exec-root", self.dir / "exec", "-p", self.dir / "pid",
                                            "--bridge=none", "--iptables=false", "--ip-masq=false", "--storage-driver=vfs"], stdout=log, stderr=log)
        docker = ["docker", "-H", socket]
        try:
            until(lambda: self.daemon.poll() is not None or subprocess.run([*docker, "info"], capture_output=True).returncode == 0, 60)
            tar = subprocess.Popen(["tar", "c", "-C", guest / "images" / "busybox" / "rootfs", "."], stdout=subprocess.PIPE)
            done = subprocess.run([*docker, "import", "-", "lodge-bench"], stdin=tar.stdout, capture_output=True, text=True)
            tar.wait()
            command = [*docker, "run", "--rm", "--net=none", "lodge-bench", "true"]
            done = done if done.returncode else subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                self.command = command
            else:
                print("docker cannot be used here:", done.stderr.strip().splitlines()[-1:])
        except AssertionError:
            print("docker cannot be used here: it does not come up")

    def close(self):
        if self.daemon:
            self.daemon.terminate()
            try:
                self.daemon.wait(60)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
        subprocess.run(f"umount -q {self.dir}/exec/netns/* 2>/dev/null", shell=True)
        shutil.rmtree(self.dir, ignore_errors=True)


def bench_run(manager, guest, options):
    ours = [str(manager.bin / "lodge"), "run", "--rm", "busybox", "true"]
    docker = Docker(manager, guest)
    commands = {name: command for name, command in (("ours", ours), ("podman", podman_command(manager, guest)), ("docker", docker.command)) if command}
    times = {name: [] for name in commands}
    try:
        for _ in range(options.rounds + 1):
            for name, command in commands.items():
                elapsed, done = timed(lambda: subprocess.run(command, env=manager.environment, capture_output=True, text=True))
                assert done.returncode == 0, done
                times[name].append(elapsed)
    finally:
        docker.close()
        for name in ("pr", "prr", "pt"):
            shutil.rmtree(manager.dir / name, ignore_errors=True)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    row("lodge run --rm busybox true", f"{medians['ours']:.0f} ms", "", True)
    for peer, bar in (("podman", 0.25), ("docker", 0.2)):
        if peer in medians:
            ratio = medians["ours"] / medians[peer]
            row(f"  over {peer} run --rm (vfs)", f"{ratio:.2f}x of {medians[peer]:.0f} ms", f"{bar}x", ratio <= bar)
        else:
            row(f"  over {peer} run --rm", "not there", "", True)


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
    row(f"{count} containers: lodge ps -q", f"{ps:.1f} ms", "30 ms", ps <= 30)
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

    there = until(lambda: killed.agree(manager))
    wrong = [(name, state, there.get(name, {}).get("state")) for name, state in acknowledged.items()
             if (state == "gone") != (name not in there) or (state == "running" and there[name]["state"] != "running")]
    running = [i for i in there.values() if i["state"] == "running"]
    assert kills >= options.seconds // 3
    row(f"{kills} times kill -9 in {options.seconds} s: {len(acknowledged)} acknowledged", f"{len(wrong)} wrong, {len(troubles)} refused", "none",
        not wrong and not troubles)
    row("orphans, doubles", f"{len(manager.shims()) - len(running)}, {len(running) - len({i['pid'] for i in running})}", "none",
        len({i["pid"] for i in running}) == len(running))
    if wrong or troubles:
        print(wrong[:5], troubles[:5])


def usage(manager):
    return metric(manager, "open_files"), metric(manager, "resident_bytes")


def bench_growth(manager, guest, options):
    """Eight clients; half of what is asked for is refused. As much before it as fills what is kept on purpose: 4096 events, 1000 operations."""

    def life(number):
        name = f"g{number}"
        manager.create("true", name=name)
        assert manager.ask("POST", "/v1/instances", {"image": "busybox", "name": name})[0] == 409
        if number % 10 == 0:
            manager.ask("POST", f"/v1/instances/{name}/start")
            manager.ask("GET", f"/v1/instances/{name}/wait?timeout=60")
        assert manager.ask("POST", f"/v1/instances/{name}/exec", {"command": ["x"]})[0] == 426
        manager.good("GET", f"/v1/instances/{name}")
        manager.good("DELETE", f"/v1/instances/{name}?force=1")
        assert manager.ask("GET", f"/v1/instances/{name}")[0] == 404

    each = 6
    lives = options.operations // each
    in_parallel(8, life, range(lives, lives + max(lives // 4, 2100)))
    until(lambda: usage(manager)[0] < 64 and len({usage(manager)[0] for _ in range(5)}) == 1)
    before = usage(manager)
    elapsed, _ = timed(lambda: in_parallel(8, life, range(lives)))
    # Connections that are being closed count for a moment; what is not gone within half a minute has leaked.
    deadline = time.monotonic() + 30
    while (files := usage(manager)[0]) > before[0] and time.monotonic() < deadline:
        time.sleep(0.1)
    memory = (usage(manager)[1] - before[1]) / (1 << 20)
    row(f"{lives * each} operations in {elapsed / 1000:.0f} s: open files", f"{before[0]} -> {files}", "no growth", files <= before[0])
    row(f"{lives * each} operations: resident memory of {before[1] / (1 << 20):.1f} MiB", f"{memory:+.2f} MiB", "no growth", memory < 1)


WORK = "while :; do ls -lR /bin /etc >/tmp/a; sha256sum /bin/busybox; gzip -c /bin/busybox | gunzip | wc -c; awk 'BEGIN { for (i = 0; i < 200000; i++) s += i; print s }'; " \
       "sort /tmp/a | uniq -c | head -3; sed 's/b/a/g' /tmp/a | md5sum; done >/dev/null"


def descendants(pid):
    children = [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
    return children + [below for child in children for below in descendants(child)]


def beside_guest_kib(pid):
    """PSS of everything but the guest's memory, and the guest's."""
    ours = theirs = 0
    guests = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if line.startswith("Pss:"):
            if guests:
                theirs += int(line.split()[1])
            else:
                ours += int(line.split()[1])
        elif "-" in line.split()[0]:
            guests = "memfd:guest-memory" in line
    return ours, theirs


def bench_monitor(manager, guest, options):
    for engine, bar, what in (("soft", 90, "the code cache at its default"), ("soft,tier=interp,cache=4096", 12, "without it")):
        ref = manager.good("POST", "/v1/instances", {"image": "busybox", "isolation": "vm", "engine": engine, "command": ["sh", "-c", WORK]})["id"]
        manager.good("POST", f"/v1/instances/{ref}/start")
        [shim] = manager.shims()
        [monitor] = [pid for pid in descendants(shim) if os.readlink(f"/proc/{pid}/exe").endswith("/lodge-vmm")]
        most = 0
        for _ in range(6):
            time.sleep(options.seconds / 6)
            ours, theirs = beside_guest_kib(monitor)
            most = max(most, ours)
        row(f"a VM's monitor, {what}, after {options.seconds} s of work", f"{ours / 1024:.1f} MiB", f"{bar} MiB", ours / 1024 < bar)
        row("  its guest's memory; the most that was seen of its own", f"{theirs / 1024:.0f} MiB; {most / 1024:.1f} MiB", "", True)
        manager.good("DELETE", f"/v1/instances/{ref}?force=1")
        until(lambda: not manager.shims())


def write_json(path, options):
    host = {"processors": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"host": host, "seconds": options.seconds, "count": options.count, "rows": RESULTS}, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=ROOT / "build", type=Path)
    parser.add_argument("--guest", type=Path)
    parser.add_argument("--rows", default="run,containers,stored,clients,killed,growth,monitor")
    parser.add_argument("--rounds", default=10, type=int)
    parser.add_argument("--count", default=1000, type=int)
    parser.add_argument("--seconds", default=60, type=int)
    parser.add_argument("--operations", default=10000, type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    guest = options.guest or options.build.resolve() / "guest"
    print(f"{'measure':<58} {'here':>26} {'bar':>12}  kept")
    for name in options.rows.split(","):
        manager = Manager(options.build.resolve(), guest).start()
        try:
            globals()[f"bench_{name}"](manager, guest, options)
        finally:
            manager.close()
        if options.json:
            write_json(options.json, options)
    return 1 if any(result["kept"] == "MISS" for result in RESULTS) else 0


if __name__ == "__main__":
    sys.exit(main())
