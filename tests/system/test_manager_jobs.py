# SPDX-License-Identifier: Apache-2.0
"""Job queues of the manager: who runs when is held to the policies by the decisions that were recorded, never by wall time; what is
acknowledged survives kill -9 at any moment, and runs exactly once."""
import json
import os
import signal
import threading
import xml.etree.ElementTree as ElementTree

import pytest

from conftest import manager_of_test
from patience import until


manager = pytest.fixture(scope="module")(manager_of_test)


class Queue:
    def __init__(self, manager, name, **config):
        self.manager, self.name = manager, name
        manager.good("POST", "/v1/queues", {"name": name, "slots": 1, **config})

    def update(self, **config):
        return self.manager.good("PATCH", f"/v1/queues/{self.name}", config)

    def submit(self, *command, spec=None, **members):
        body = {"queue": self.name, "spec": {"image": "busybox", "command": list(command), **(spec or {})}, **members}
        return self.manager.good("POST", "/v1/jobs", body)["id"]

    def job(self, number):
        return self.manager.good("GET", f"/v1/jobs/{number}")

    def ended(self, *numbers):
        return [self.manager.good("GET", f"/v1/jobs/{number}/wait") for number in numbers]

    def until_state(self, number, state):
        return until(lambda: self.job(number) if self.job(number)["state"] == state else None)

    def decisions(self):
        return self.manager.good("GET", f"/v1/queues/{self.name}/history")["decisions"]

    def turns(self):
        """The jobs in the order in which they got the server."""
        return [d["job"] for d in self.decisions() if d["what"] == "run"]

    def simulated_turns(self, *options):
        done = json.loads(self.manager.lodge("plan", "schedule", "--queue", self.name, "--json", *options))
        return [int(s["id"].split(":")[0]) for s in sorted(done["gantt"], key=lambda s: s["start"])]

    def instance_state(self, number):
        instance = self.job(number)["instance"]
        return instance and self.manager.inspect(instance)["state"]


def check_decisions(decisions, slots, quantum_s=0):
    """What no policy may do: more at once than there is room for, a turn cut short, an end without a beginning."""
    since = {}
    for d in decisions:
        if d["what"] == "run":
            assert d["job"] not in since
            since[d["job"]] = d["time_ns"]
            assert len(since) <= slots
        elif d["what"] in ("pause", "end", "lost") and d["job"] in since:
            ran_s = (d["time_ns"] - since.pop(d["job"])) / 1e9
            assert d["what"] != "pause" or ran_s >= quantum_s


@pytest.mark.parametrize("policy, order", [("fcfs", "abcd"), ("sjf", "dacb"), ("srtf", "dacb"), ("priority", "bdca")])
def test_the_order_of_a_batch(manager, policy, order):
    """All are there when the queue, held till then and switched to the policy, is released."""
    queue = Queue(manager, f"order-{policy}", hold=True)
    numbers = {}
    for name, estimate, priority in (("a", 6, 4), ("b", 8, 1), ("c", 7, 3), ("d", 3, 2)):
        numbers[name] = queue.submit("true", name=name, estimate_s=estimate, priority=priority)
    waiting = queue.update(policy=policy)
    assert waiting["jobs"]["queued"] == 4
    assert manager.good("GET", f"/v1/queues/{queue.name}")["next"] == [numbers[n] for n in order]
    queue.update(hold=False)
    jobs = queue.ended(*numbers.values())
    assert {job["state"] for job in jobs} == {"done"}
    assert queue.turns() == [numbers[n] for n in order]
    assert queue.simulated_turns() == queue.turns()
    check_decisions(queue.decisions(), 1)
    [totals] = manager.good("GET", f"/v1/queues/{queue.name}")["totals"]
    assert totals["policy"] == policy and totals["done"] == 4
    assert totals["t_wait_s"] == pytest.approx(sum(job["waited_s"] for job in jobs))
    assert totals["t_total_s"] == pytest.approx(sum(job["ran_s"] for job in jobs))


def test_round_robin_takes_turns(manager):
    queue = Queue(manager, "turns", policy="rr", quantum_s=0.3, hold=True)
    numbers = [queue.submit("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done; echo over") for _ in range(3)]
    queue.update(hold=False)
    until(lambda: queue.instance_state(numbers[0]) == "paused")
    assert {job["state"] for job in queue.ended(*numbers)} == {"done"}
    check_decisions(queue.decisions(), 1, 0.3)
    ready = list(numbers)
    for d in queue.decisions():
        if d["what"] == "run":
            assert d["job"] == ready.pop(0), queue.decisions()
        elif d["what"] == "pause":
            ready.append(d["job"])
        elif d["job"] in ready:  # it ended at the very moment at which its turn did
            ready.remove(d["job"])
    assert all(job["pauses"] >= 1 for job in queue.ended(*numbers))
    assert manager.lodge("job", "logs", numbers[2]) == "over\n"
    chart = manager.lodge("job", "chart", "turns")
    ElementTree.fromstring(chart)
    assert chart.count("<rect") > 9


def test_a_shorter_one_pauses_a_longer_one(manager):
    queue = Queue(manager, "shorter", policy="srtf")
    long = queue.submit("sh", "-c", "until [ -e /go ]; do sleep 0.1; done", estimate_s=1000)
    until(lambda: queue.instance_state(long) == "running")
    short = queue.submit("sh", "-c", "sleep 0.2; exit 3", estimate_s=10)
    until(lambda: queue.instance_state(long) == "paused")
    for words in (("explain", long), ("job", "explain", long)):
        # What was decided is told once it is stored, which is after it was done.
        told = until(lambda w=words: (lambda text: text if "a job with less left to do waits" in text else None)(manager.lodge(*w)))
        assert "policy srtf: the least left to do" in told and "estimate 1000 s (given)" in told, told
    manager.lodge("job", "explain", 424242, status=125)
    assert queue.ended(short)[0]["exit_code"] == 3
    until(lambda: queue.instance_state(long) == "running")
    manager.lodge("exec", queue.job(long)["instance"], "touch", "/go")
    job, = queue.ended(long)
    assert job["state"] == "done" and job["pauses"] == 1
    assert queue.turns() == [long, short, long] == queue.simulated_turns()
    why = [d["why"] for d in queue.decisions() if d["what"] == "pause"]
    assert why == ["a job with less left to do waits"]


def test_a_machine_is_paused_and_resumed(manager, guest):
    if not (guest / "kernels").exists():
        pytest.skip("needs a guest kernel (make guest)")
    queue = Queue(manager, "machine", policy="priority", preemptive=True)
    machine = queue.submit("sh", "-c", "echo here; i=0; while [ $i -lt 5 ]; do sleep 0.2; i=$((i+1)); done; echo over", spec={"isolation": "vm"}, priority=5)
    until(lambda: "here" in manager.lodge("job", "logs", machine))
    urgent = queue.submit("sleep", "0.5", priority=1)
    until(lambda: queue.instance_state(machine) in ("paused", None))
    assert [job["state"] for job in queue.ended(urgent, machine)] == ["done", "done"]
    assert queue.turns() == [machine, urgent, machine]
    assert manager.lodge("job", "logs", machine) == "here\nover\n"


def test_capacity_and_live_change(manager):
    queue = Queue(manager, "capacity", policy="fcfs", slots=0, cpus=2)
    numbers = [queue.submit("sleep", "1000", spec={"resources": {"cpu_millis": 1000}}) for _ in range(3)]
    until(lambda: [queue.job(n)["state"] for n in numbers] == ["running", "running", "queued"])
    queue.update(cpus=3)
    until(lambda: queue.instance_state(numbers[2]) == "running")
    queue.update(cpus=1)
    until(lambda: [queue.instance_state(n) for n in numbers] == ["running", "paused", "paused"])
    assert manager.ask("POST", "/v1/jobs", {"queue": "capacity", "spec": {"image": "busybox", "resources": {"cpu_millis": 2000}}})[0] == 400
    queue.update(cpus=2)
    assert manager.ask("PATCH", "/v1/queues/capacity", {"cpus": 0.5})[0] == 409
    until(lambda: queue.instance_state(numbers[1]) == "running")
    manager.lodge("job", "cancel", numbers[1])
    assert queue.job(numbers[1])["state"] == "cancelled"
    status, answer = manager.ask("POST", f"/v1/jobs/{numbers[1]}/cancel")
    assert status == 409 and "cancelled" in answer["error"]["message"]
    assert manager.ask("DELETE", "/v1/queues/capacity")[0] == 409
    assert manager.ask("DELETE", f"/v1/jobs/{numbers[0]}")[0] == 409
    manager.lodge("job", "queue", "rm", "--force", "capacity")
    assert manager.ask("GET", "/v1/queues/capacity")[0] == 404 and manager.ask("GET", f"/v1/jobs/{numbers[0]}")[0] == 404
    assert not [i for i in manager.good("GET", "/v1/instances?all=1")["instances"] if i["labels"].get("lodge.job") in map(str, numbers)]


def test_without_room_a_job_waits(manager):
    """Its environment is full when its turn comes: it says so, others of its queue that have begun go on, and it runs when there is room."""
    manager.lodge("env", "create", "narrow", "--cpus", "1")
    holder = manager.create("sleep", "1000", environment="narrow", resources={"reserve_cpu_millis": 800}, start=True)
    queue = Queue(manager, "narrow", policy="fcfs", slots=2)
    needs = {"environment": "narrow", "resources": {"reserve_cpu_millis": 500}}
    waits = queue.submit("true", spec=needs)
    job = until(lambda: queue.job(waits) if queue.job(waits)["waits_for"] else None)
    assert job["state"] == "queued" and "0.2 of 1 cores are not reserved yet, 0.5 were asked for" in job["waits_for"], job
    behind = queue.submit("true")
    assert "waits: not admitted" in manager.lodge("job", "ls", "--queue", "narrow")
    assert "not admitted" in json.loads(manager.lodge("job", "inspect", waits))[0]["waits_for"]
    assert queue.job(behind)["state"] == "queued"  # it may not pass: a large one would wait for ever
    manager.kill()
    manager.start()
    until(lambda: queue.job(waits)["waits_for"])
    assert queue.job(waits)["state"] == "queued" and queue.job(waits)["ran_s"] == 0
    manager.lodge("rm", "-f", holder)
    first, second = queue.ended(waits, behind)
    assert (first["state"], second["state"]) == ("done", "done") and first["waits_for"] is None
    assert first["waited_s"] > 0 and first["pauses"] == 0
    # One that goes before it by the policy's order need not wait for it.
    queue.update(policy="priority")
    holder = manager.create("sleep", "1000", environment="narrow", resources={"reserve_cpu_millis": 800}, start=True)
    waits = queue.submit("true", spec=needs, priority=3)
    until(lambda: queue.job(waits)["waits_for"])
    behind = queue.submit("true", priority=3)
    assert queue.ended(queue.submit("true", priority=1))[0]["state"] == "done"
    until(lambda: queue.job(waits)["waits_for"])
    raised = queue.submit("true", priority=5)
    manager.lodge("job", "update", "--priority", "0", raised)
    assert queue.ended(raised)[0]["state"] == "done"
    manager.lodge("rm", "-f", holder)
    assert {job["state"] for job in queue.ended(waits, behind)} == {"done"}
    queue.update(policy="fcfs")
    # What it waits for may also be given up, by it or by its environment.
    holder = manager.create("sleep", "1000", environment="narrow", resources={"reserve_cpu_millis": 800}, start=True)
    given_up, runs = queue.submit("true", spec=needs), queue.submit("true", spec={"resources": {"reserve_cpu_millis": 1}})
    until(lambda: queue.job(given_up)["waits_for"])
    manager.lodge("job", "cancel", given_up)
    assert [job["state"] for job in queue.ended(given_up, runs)] == ["cancelled", "done"]
    never = queue.submit("true", spec=needs)
    until(lambda: queue.job(never)["waits_for"])
    manager.lodge("rm", "-f", holder)
    assert queue.ended(never)[0]["state"] == "done"
    manager.lodge("job", "queue", "update", "narrow", "--hold")
    never = queue.submit("true", spec=needs)
    manager.lodge("env", "update", "narrow", "--cpus", "0.3")
    manager.lodge("job", "queue", "update", "narrow", "--release")
    failed, = queue.ended(never)
    assert failed["state"] == "failed" and "0.5 were asked for" in failed["error"], failed
    manager.lodge("job", "queue", "rm", "--force", "narrow")
    manager.lodge("env", "rm", "narrow")


def test_estimates_outputs_and_retention(manager):
    queue = Queue(manager, "keeps", keep=2)
    command = ["sh", "-c", "echo out; echo err >&2; sleep 0.1"]
    first = queue.submit(*command)
    job, = queue.ended(first)
    assert job["estimate_from"] == "none"
    second = queue.job(queue.submit(*command))
    assert second["estimate_from"] == "learnt" and second["estimate_s"] == pytest.approx(job["ran_s"])
    queue.ended(second["id"])
    assert manager.lodge("job", "logs", first) == "out\n"
    third = queue.submit("true")
    queue.ended(third)
    until(lambda: manager.ask("GET", f"/v1/jobs/{first}")[0] == 404)
    manager.lodge("job", "rm", second["id"])
    assert manager.ask("GET", f"/v1/jobs/{second['id']}/logs")[0] == 404
    until(lambda: sorted(p.name for p in (manager.dir / "state" / "jobs").glob("[0-9]*.log") if int(p.stem) <= third and int(p.stem) >= first) == [f"{third}.log"])


def test_many_jobs(manager):
    Queue(manager, "many", policy="priority", hold=True, keep=5)
    body = {"queue": "many", "spec": {"image": "busybox", "command": ["true"]}, "count": 10000}
    for priority in (5, 3):
        assert manager.good("POST", "/v1/jobs", {**body, "priority": priority})["count"] == 10000
    first = manager.good("POST", "/v1/jobs/batch", {"jobs": [{**body, "count": 1, "name": f"n{i}", "priority": i} for i in range(4)]})["id"]
    assert manager.good("GET", "/v1/queues/many")["next"][:3] == [first, first + 1, first + 2]
    answer = manager.good("GET", "/v1/jobs?queue=many&limit=3&after=" + str(first - 2))
    assert [job["id"] for job in answer["jobs"]] == [first - 1, first, first + 1] and answer["next"] == first + 1
    assert len(manager.good("GET", "/v1/jobs?queue=many&name=n")["jobs"]) == 4
    assert manager.good("POST", f"/v1/jobs/{first}/cancel")["state"] == "cancelled"
    assert manager.good("PATCH", f"/v1/jobs/{first + 3}", {"priority": -1})["priority"] == -1
    assert manager.good("GET", "/v1/queues/many")["next"][0] == first + 3
    manager.lodge("job", "queue", "rm", "--force", "many")


JOB = {"spec": {"image": "busybox", "command": ["true"]}}


@pytest.mark.parametrize("path, body, status, words", [
    ("/v1/jobs", {}, 400, "spec"),
    ("/v1/jobs", {**JOB, "queue": "nosuch"}, 404, "nosuch"),
    ("/v1/jobs", {**JOB, "queue": "../x"}, 400, "queue"),
    ("/v1/jobs", {**JOB, "estimate_s": -1}, 400, "estimate_s"),
    ("/v1/jobs", {**JOB, "estimate_s": 0}, 400, "estimate_s"),
    ("/v1/jobs", {**JOB, "estimate_s": 1e300}, 400, "estimate_s"),
    ("/v1/jobs", b'{"estimate_s": NaN}', 400, "NaN"),
    ("/v1/jobs", b'{"estimate_s": 1e999}', 400, "body"),
    ("/v1/jobs", {**JOB, "estimate_s": "30s"}, 400, "estimate_s"),
    ("/v1/jobs", {**JOB, "priority": 5000}, 400, "priority"),
    ("/v1/jobs", {**JOB, "priority": 1.5}, 400, "priority"),
    ("/v1/jobs", {**JOB, "count": 0}, 400, "count"),
    ("/v1/jobs", {**JOB, "colour": 1}, 400, "colour"),
    ("/v1/jobs", {"spec": {"image": "nosuch"}}, 404, "nosuch"),
    ("/v1/jobs", {"spec": {"image": "busybox", "environment": "nosuch"}}, 404, "nosuch"),
    ("/v1/jobs", {"spec": {"isolation": "vm", "hardware": {}}}, 400, "spec"),
    ("/v1/jobs", {"spec": {"image": "busybox", "restart": {"policy": "always"}}}, 400, "restartable"),
    ("/v1/jobs", {"spec": {"image": "busybox", "tty": True}}, 400, "terminal"),
    ("/v1/jobs/batch", {"jobs": []}, 400, "jobs"),
    ("/v1/jobs/batch", {"jobs": [JOB, {**JOB, "tickets": 0}]}, 400, "jobs[1]"),
    ("/v1/jobs/batch", {"jobs": [{**JOB, "count": 9000}, {**JOB, "count": 9000}]}, 400, "10000"),
    ("/v1/queues", {"name": "bad", "policy": "lifo"}, 400, "lifo"),
    ("/v1/queues", {"name": "bad", "policy": "rr", "quantum_s": 0}, 400, "quantum_s"),
    ("/v1/queues", {"name": "bad", "policy": "rr", "backfill": True}, 400, "backfill"),
    ("/v1/queues", {"name": "bad", "slots": 0}, 400, "slots"),
    ("/v1/queues", {"name": "bad", "cpus": -1}, 400, "cpus"),
    ("/v1/queues", {"name": "a/b"}, 400, "a/b"),
    ("/v1/queues", {"name": "default"}, 409, "default"),
])
def test_mistakes_are_named(manager, path, body, status, words):
    got, _, data = manager.request("POST", path, body, {"Content-Type": "application/json"})
    assert got == status and words in data.decode(), data
    assert not manager.good("GET", "/v1/jobs?queue=default")["jobs"]


def test_what_is_lost(manager):
    """The shim of a job is killed: one that may be begun again is, the other has failed."""
    queue = Queue(manager, "lost", slots=2)
    again = queue.submit("sh", "-c", "sleep 0.5; echo over", restartable=True)
    fails = queue.submit("sleep", "1000")
    for number in (again, fails):
        until(lambda: queue.instance_state(number) in ("running", None))
        instance = queue.job(number)["instance"]
        for shim in manager.shims():
            with open(f"/proc/{shim}/cmdline", "rb") as words:
                if instance and instance.encode() in words.read():
                    os.kill(shim, signal.SIGKILL)
    first, second = queue.ended(again, fails)
    assert (first["state"], second["state"]) == ("done", "failed") and "killed" in second["error"]
    assert first["attempts"] == 2 or first["pauses"] == 0
    assert manager.lodge("job", "logs", again) == "over\n"


fresh = pytest.fixture(manager_of_test)


def test_killed_again_and_again(fresh, tmp_path):
    """Two queues, one that takes turns; clients that submit; kill -9 of the manager: each acknowledged job runs once, to its end."""
    manager = fresh
    queues = [Queue(manager, "turns", policy="rr", quantum_s=0.1, slots=2), Queue(manager, "first", slots=2)]
    volume = {"volumes": [{"source": str(tmp_path), "target": "/out"}]}
    stop, acknowledged = threading.Event(), {}

    def submit(queue, client):
        for count in range(12):
            token = f"{client}-{count}"
            try:
                number = queue.submit("sh", "-c", f"echo begin {token} >> /out/log; sleep 0.1; sleep 0.1; echo end {token} >> /out/log; echo {token}",
                                      spec=volume, name=token)
                acknowledged[number] = token
            except (OSError, ValueError, AssertionError):
                pass  # the manager was killed: nothing was promised
            if stop.wait(0.08):
                return

    clients = [threading.Thread(target=submit, args=(queue, number)) for number, queue in enumerate(queues)]
    for client in clients:
        client.start()
    for delay in (0.3, 0.6, 0.25, 0.5, 0.4):
        stop.wait(delay)
        manager.kill()
        manager.start()
    for client in clients:
        client.join()
    until(lambda: not manager.good("GET", "/v1/jobs")["jobs"])
    jobs = {job["id"]: job for job in manager.good("GET", "/v1/jobs?all=1")["jobs"]}
    lines = (tmp_path / "log").read_text().split("\n")
    for number, token in acknowledged.items():
        assert jobs[number]["state"] == "done", jobs[number]
        assert (lines.count(f"begin {token}"), lines.count(f"end {token}")) == (1, 1), token
        assert manager.request("GET", f"/v1/jobs/{number}/logs")[2].decode().endswith(f" {token}\n")
        assert jobs[number]["turnaround_s"] == pytest.approx(jobs[number]["waited_s"] + jobs[number]["ran_s"])
    assert acknowledged and len(lines) == len(set(lines))
    until(lambda: not manager.good("GET", "/v1/instances?all=1")["instances"])
