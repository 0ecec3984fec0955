# SPDX-License-Identifier: Apache-2.0
"""A container that serves requests one after the other, and a load for it: what predictions are checked against.

A request says how much processor time it wants; the server burns that much (of its own thread's clock, so that a busy
neighbour slows it down but does not change the work). Arrivals are an open Poisson stream by seed."""
import json
import math
import os
import random
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

SERVER = """
import socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
s.bind("/serve/server")
open("/serve/ready", "w").close()
while True:
    text, peer = s.recvfrom(64)
    number, want = text.split()
    if number == b"quit":
        break
    start = time.thread_time_ns()
    end = start + int(want)
    while time.thread_time_ns() < end:
        pass
    burnt = time.thread_time_ns() - start
    s.sendto(b"%s %d %d" % (number, burnt, time.monotonic_ns()), "/serve/" + peer.rpartition("/")[2])
"""


def prefer(pid):
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
        return True
    except OSError:
        return False


def stalled():
    """Seconds in which some process waited for a processor, as the kernel counts them."""
    try:
        return int(Path("/proc/pressure/cpu").read_text().split("total=")[1].split()[0]) / 1e6
    except (OSError, IndexError):
        return None


def holds(attempt, attempts=3, seconds=40):
    """Calls attempt() until nothing is said against it: a prediction is compared with what a host really did, and a neighbour
    may spoil that. Not more often than `attempts`, nor begun after so many seconds. What fails to the end fails the test, unless
    processes had to wait for a processor in more than a third of that time: such a host proves nothing, and the test is skipped."""
    start, before, said = time.monotonic(), stalled(), []
    while len(said) < attempts and time.monotonic() - start < seconds:
        try:
            attempt()
            return
        except (AssertionError, subprocess.TimeoutExpired) as wrong:
            said.append(str(wrong)[:600])
    share = (stalled() - before) / (time.monotonic() - start) if before is not None else 1
    if share > 1 / 3:
        pytest.skip(f"the host is too busy to compare with: a process waited for a processor {share:.0%} of the time")
    raise AssertionError("\n".join(said))


class Service:
    """with Service(lodge_oci, directory) as service: the container runs, its first process is service.pid."""

    def __init__(self, program, directory: Path):
        self.program, self.directory = program, Path(directory)
        self.name = f"lodge-plan-{os.getpid()}"
        self.serve = self.directory / "serve"
        bundle = self.directory / "bundle"
        for path in (self.serve, bundle / "root"):
            path.mkdir(parents=True)
        subprocess.run([program, "spec", "--bundle", bundle], check=True)
        config = json.loads((bundle / "config.json").read_text())
        config["process"].update(terminal=False, args=["/usr/bin/python3", "-c", SERVER])
        config["root"] = {"path": "root", "readonly": False}
        binds = [p for p in ("/usr", "/bin", "/lib", "/lib64", "/etc") if os.path.exists(p)]
        config["mounts"] += [{"destination": p, "type": "bind", "source": os.path.realpath(p), "options": ["rbind", "ro"]} for p in binds]
        config["mounts"].append({"destination": "/serve", "type": "bind", "source": str(self.serve), "options": ["rbind", "rw"]})
        (bundle / "config.json").write_text(json.dumps(config))
        self.command = [program, "--root", str(self.directory / "state")]
        self.bundle = bundle

    def __enter__(self):
        self.process = subprocess.Popen([*self.command, "run", "--bundle", str(self.bundle), self.name], stdin=subprocess.DEVNULL,
                                        stderr=open(self.directory / "stderr", "w"))
        deadline = time.monotonic() + 30
        while not (self.serve / "ready").exists():
            assert self.process.poll() is None and time.monotonic() < deadline, (self.directory / "stderr").read_text()
            time.sleep(.02)
        state = json.loads(subprocess.run([*self.command, "state", self.name], stdout=subprocess.PIPE, check=True).stdout)
        self.pid = state["pid"]
        self.prefer()
        return self

    def prefer(self):
        """Before all neighbours, so that they stretch no answer; where that is not to be had, by the largest weight."""
        for place in Path("/sys/fs/cgroup").glob(f"cpu*/{self.name}"):
            for file, value in (("cpu.rt_runtime_us", 900000), ("cpu.shares", 262144)):
                try:
                    (place / file).write_text(str(value))
                except OSError:
                    pass
        self.preferred = prefer(self.pid)

    def __exit__(self, *_):
        subprocess.run([*self.command, "delete", "--force", self.name], stderr=subprocess.DEVNULL, check=False)
        self.process.wait(timeout=30)

    def load(self, rate, demand, nr, seed, log):
        """Sends nr requests of exponential demand (mean, seconds) at that rate; writes the log; returns its figures."""
        draw, wants = random.Random(seed), random.Random(seed + 1)
        at, due = [], 0.0
        for _ in range(nr):
            due += draw.expovariate(rate)
            at.append(due)
        want = [wants.expovariate(1 / demand) for _ in range(nr)]
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind(str(self.serve / f"client-{seed}-{log.stem}"))
        sock.settimeout(60)
        response, service = [0.0] * nr, [0.0] * nr
        start = time.monotonic()

        def receive():
            for _ in range(nr):
                number, burnt, _ = sock.recv(64).split()
                response[int(number)] = time.monotonic() - start - at[int(number)]
                service[int(number)] = int(burnt) / 1e9

        receiver = threading.Thread(target=receive, daemon=True)
        receiver.start()
        for number in range(nr):
            left = start + at[number] - time.monotonic()
            if left > 0:
                time.sleep(left)
            sock.sendto(b"%d %d" % (number, int(want[number] * 1e9)), str(self.serve / "server"))
        receiver.join()
        took = time.monotonic() - start
        sock.close()
        log.write_text("arrival,response,service\n" + "".join(f"{a:.6f},{r:.6f},{s:.9f}\n" for a, r, s in zip(at, response, service)))
        return {"took": took, "span": at[-1], "response": sum(response) / nr, "service": sum(service) / nr}


    def closed_load(self, customers, think, demand, nr, seed, log):
        """Customers who think (exponential mean, seconds), ask (half to one and a half times the demand, evenly), wait: nr
        answers together. What is drawn is the quantiles of
        each distribution in a random order, so that a short load has the mean of a long one. Times are the kernel's one
        clock, read by who sends and by who answers: what wakes a customer late is thinking, not response. Returns figures."""
        draw = random.Random(seed)
        thoughts = iter([think * -math.log(1 - (i + .5) / nr) for i in draw.sample(range(nr), nr)])
        wants = iter([demand * (.5 + (i + .5) / nr) for i in draw.sample(range(nr), nr)])
        rows, lock = [], threading.Lock()

        def customer(number):
            prefer(0)  # this thread: late customers come in crowds
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sock.bind(str(self.serve / f"customer-{log.stem}-{number}"))
            sock.settimeout(60)
            last = time.monotonic_ns()
            while True:
                with lock:
                    thought, want = next(thoughts, None), next(wants, None)
                if thought is None:
                    break
                left = thought - (time.monotonic_ns() - last) / 1e9
                if left > 0:
                    time.sleep(left)
                sent = time.monotonic_ns()
                sock.sendto(b"%d %d" % (number, int(want * 1e9)), str(self.serve / "server"))
                _, burnt, end = map(int, sock.recv(64).split())
                rows.append((sent, end - sent, burnt, sent - last))
                last = end
            sock.close()

        threads = [threading.Thread(target=customer, args=(n,), daemon=True) for n in range(customers)]
        start = time.monotonic_ns()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = (time.monotonic_ns() - start) / 1e9
        log.write_text("arrival,response,service\n" +
                       "".join(f"{(sent - start) / 1e9:.6f},{r / 1e9:.6f},{s / 1e9:.9f}\n" for sent, r, s, _ in sorted(rows)))
        return {"took": took, "answers": len(rows), "response": sum(r[1] for r in rows) / len(rows) / 1e9,
                "service": sum(r[2] for r in rows) / len(rows) / 1e9, "think": sum(r[3] for r in rows) / len(rows) / 1e9}


def observe(lodge, service, rate, demand, nr, seed, directory, name):
    """The load, with `lodge plan from-host` watching the container: (its result, the load's own figures)."""
    return observe_load(lodge, service, directory, name, lambda log: service.load(rate, demand, nr, seed, log))


def observe_load(lodge, service, directory, name, load):
    log = Path(directory) / f"{name}.csv"
    hold = subprocess.Popen(["sleep", "600"])  # stands for the load: watched until it ends
    watcher = subprocess.Popen([lodge, "plan", "from-host", "--pid", str(service.pid), "--while", str(hold.pid), "--log", str(log), "--name", name, "--json"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(.1)
        own = load(log)
    finally:
        hold.kill()
        hold.wait()
        out, said = watcher.communicate(timeout=30)
    assert watcher.returncode == 0, said
    return json.loads(out), own
