# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the manager at any moment: guests go on, what was acknowledged is there, nothing is started twice or lost."""
import fcntl
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import threading

import pytest

from conftest import manager_of_test
from patience import PATIENCE_S, until


manager = pytest.fixture(manager_of_test)


def lives(pid):
    """Neither gone nor waiting for whoever has it now to take note."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_guests_go_on_and_are_adopted(manager):
    runs = manager.create("sh", "-c", "while :; do date; sleep 0.1; done", name="runs", start=True)
    ends = manager.create("sh", "-c", "sleep 0.2; exit 6", name="ends", start=True)
    pid = manager.inspect(runs)["pid"]
    manager.kill()
    until(lambda: (manager.dir / "state" / "instances" / ends / "exit").exists())
    manager.start()
    assert manager.inspect(runs)["state"] == "running"
    until(lambda: manager.inspect(runs)["pid"] == pid)
    assert manager.good("GET", "/v1/instances/ends/wait")["exit_code"] == 6
    assert len(manager.shims()) == 1
    manager.good("POST", "/v1/instances/runs/stop", {"timeout_s": 1})
    assert manager.inspect(runs)["state"] == "exited"


def test_frozen_and_not_stored(manager, guest):
    """Killed between freezing a guest (or letting it go on) and storing that: what is stored is made true."""
    isolations = ["container"] + (["vm"] if (guest / "kernels").exists() else [])
    refs = {}
    for isolation in isolations:
        for name in ("runs", "stands"):
            command = ["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done"]
            refs[isolation, name] = manager.create(*command, isolation=isolation, name=f"{name}-{isolation}", start=True)
        until(lambda: manager.lodge("logs", f"stands-{isolation}"))
        manager.lodge("pause", f"stands-{isolation}")
    manager.kill()
    for (isolation, name), ref in refs.items():
        verb = "pause" if name == "runs" else "resume"
        if isolation == "container":
            subprocess.run([manager.bin / "lodge-oci", "--root", manager.dir / "run" / "oci", verb, ref], check=True, timeout=60)
        else:
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(str(manager.dir / "run" / "i" / ref / "v" / "vm" / "control"))
                control.sendall(json.dumps({"command": verb}).encode() + b"\n")
                assert json.loads(control.recv(4096))["ok"]
    manager.start()
    until(lambda: manager.log.read_text().count("was found") == len(refs))
    for isolation in isolations:
        before = manager.lodge("logs", f"runs-{isolation}")
        until(lambda: len(manager.lodge("logs", f"runs-{isolation}")) > len(before))
        assert manager.inspect(f"runs-{isolation}")["state"] == "running" and manager.inspect(f"stands-{isolation}")["state"] == "paused"
        manager.lodge("resume", f"stands-{isolation}")
        before = manager.lodge("logs", f"stands-{isolation}")
        until(lambda: len(manager.lodge("logs", f"stands-{isolation}")) > len(before))


def test_a_killed_shim_takes_its_guest_with_it(manager):
    ref = manager.create("sleep", "1000", start=True)
    pid = manager.inspect(ref)["pid"]
    [shim] = manager.shims()
    os.kill(shim, signal.SIGKILL)
    until(lambda: manager.inspect(ref)["state"] == "exited")
    assert manager.inspect(ref)["exit_code"] == 255 and "killed" in manager.inspect(ref)["error"]
    manager.good("POST", f"/v1/instances/{ref}/start")
    assert not lives(pid) and len(manager.shims()) == 1


def test_promised_operations_are_kept(manager):
    ref = manager.create("sleep", "1000")
    status, operation = manager.ask("POST", f"/v1/instances/{ref}/start?wait=0")
    assert status == 202
    manager.kill()
    manager.start()
    done = manager.good("GET", f"/v1/operations/{operation['id']}?wait=60")
    assert done["status"] == "done"
    assert manager.inspect(ref)["state"] == "running" and len(manager.shims()) == 1


def work(manager, number, stop, acknowledged, troubles):
    """A client that makes, starts and removes; what it was told is what must be true."""
    random_source = random.Random(number)
    count = 0
    while not stop.is_set():
        count += 1
        name = f"w{number}-{count}"
        try:
            status, made = manager.ask("POST", "/v1/instances", {"image": "busybox", "name": name, "command": ["sleep", "1000"]})
            if status != 201:
                troubles.append((name, "create", status, made))
                continue
            acknowledged[name] = "created"
            status, answer = manager.ask("POST", f"/v1/instances/{name}/start")
            if status == 200:
                acknowledged[name] = "running"
            elif status != 504:
                troubles.append((name, "start", status, answer))
            if random_source.random() < 0.7:
                acknowledged.pop(name)
                status, answer = manager.ask("DELETE", f"/v1/instances/{name}?force=1")
                if status == 200:
                    acknowledged[name] = "gone"
        except (OSError, ValueError, http.client.HTTPException):
            stop.wait(0.05)  # it was killed: nothing was promised


def test_what_a_killed_manager_left_is_waited_for(manager):
    """Between fork and exec a child of its holds both the lock and the socket for a moment, and answers nobody."""
    manager.kill()
    manager.socket.unlink()
    with open(f"{manager.socket}.lock", "w") as lock, socket.socket(socket.AF_UNIX) as listener:
        fcntl.flock(lock, fcntl.LOCK_EX)
        listener.bind(str(manager.socket))
        listener.listen(16)
        manager.launch()
        asked, _ = listener.accept()  # it looks who is there
        asked.close()
    until(manager.answers)
    second = subprocess.run([manager.program], env=manager.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            timeout=PATIENCE_S)
    assert second.returncode and "serves at" in second.stdout
    assert manager.answers()


def test_who_takes_a_connection_is_not_there_yet(manager):
    """A client that asks only a manager that is there waits for an answer: from that child none comes."""
    manager.kill()
    manager.socket.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(manager.socket))
        listener.listen(16)
        client = subprocess.Popen([manager.bin / "lodge", "stats", "--json"], env=manager.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        asked, _ = listener.accept()
        asked.settimeout(PATIENCE_S)
        request = asked.recv(4096)
    asked.close()  # as the listener: that child executes its program
    assert client.communicate(timeout=PATIENCE_S) == ("[]\n", "") and client.returncode == 0
    assert request.startswith(b"GET ")
    manager.start()


def agree(manager):
    """The instances by name, once all that was promised is done and each that runs has its shim, and no other is left."""
    status, listed = manager.ask("GET", "/v1/instances?all=1")
    assert status == 200
    there = {i["name"]: i for i in listed["instances"]}
    if not all(i["state"] in ("created", "running", "exited") for i in there.values()):
        return None
    return there if len(manager.shims()) == sum(i["state"] == "running" for i in there.values()) else None


def test_killed_again_and_again_under_load(manager):
    stop, acknowledged, troubles = threading.Event(), {}, []
    clients = [threading.Thread(target=work, args=(manager, n, stop, acknowledged, troubles)) for n in range(3)]
    for client in clients:
        client.start()
    try:
        for delay in (0.4, 0.7, 0.2, 0.5, 0.3, 0.6):
            stop.wait(delay)
            manager.kill()
            manager.start()
        stop.wait(0.3)
    finally:
        stop.set()
        for client in clients:
            client.join()
    there = until(lambda: agree(manager))
    assert not troubles
    for name, state in acknowledged.items():
        if state == "gone":
            assert name not in there
        else:
            assert name in there and (state == "created" or there[name]["state"] == "running"), (name, state, there.get(name))
    running = [i for i in there.values() if i["state"] == "running"]
    assert len({i["pid"] for i in running}) == len(running)
