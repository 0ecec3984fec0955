# SPDX-License-Identifier: Apache-2.0
"""The manager as a client sees it: containers' lives through the API and the command line."""
import json
import os
import subprocess

import pytest

from conftest import manager_of_test
from lodge_run import need_kernel
from manager import Manager
from patience import PATIENCE_S, until


manager = pytest.fixture(scope="module")(manager_of_test)


def logged(manager, ref):
    status, _, text = manager.request("GET", f"/v1/instances/{ref}/logs")
    assert status == 200
    return [line.split(" ", 3)[1:] for line in text.decode().splitlines()]


def test_life_of_a_container(manager):
    ref = manager.create("sh", "-c", "echo out; echo err >&2; echo -n part; exit 3", name="life", start=True)
    end = manager.good("GET", "/v1/instances/life/wait")
    assert end["exit_code"] == 3 and end["reached"]
    assert sorted(logged(manager, ref)) == [["stderr", "F", "err"], ["stdout", "F", "out"], ["stdout", "P", "part"]]
    shown = manager.inspect(ref)
    assert shown["state"] == "exited" and shown["name"] == "life" and shown["run"] == 1
    manager.good("DELETE", "/v1/instances/life")
    assert manager.ask("GET", f"/v1/instances/{ref}")[0] == 404
    assert not (manager.dir / "state" / "instances" / ref).exists()


def test_what_it_wrote_is_there_at_the_next_start(manager):
    ref = manager.create("sh", "-c", "cat /note; echo before > /note; exit 0", start=True)
    manager.good("GET", f"/v1/instances/{ref}/wait")
    manager.good("POST", f"/v1/instances/{ref}/start")
    until(lambda: ["stdout", "F", "before"] in logged(manager, ref))
    manager.good("DELETE", f"/v1/instances/{ref}?force=1")


def test_stop_is_polite_and_then_not(manager):
    polite = manager.create("sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done", start=True)
    until(lambda: logged(manager, polite))
    manager.good("POST", f"/v1/instances/{polite}/stop")
    assert manager.inspect(polite)["exit_code"] == 9
    deaf = manager.create("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done", start=True)
    until(lambda: logged(manager, deaf))
    manager.good("POST", f"/v1/instances/{deaf}/stop", {"timeout_s": 1})
    assert manager.inspect(deaf)["exit_code"] == 137
    for ref in (polite, deaf):
        manager.good("DELETE", f"/v1/instances/{ref}")


def test_refusals_say_what_is_wrong(manager):
    ref = manager.create("sleep", "1000", name="taken", start=True)
    still = manager.create("true")
    for method, path, body, status, words in [
        ("POST", "/v1/instances", {"image": "busybox", "name": "taken"}, 409, "in use"),
        ("POST", "/v1/instances", {"image": "nosuch"}, 404, "no image"),
        ("POST", "/v1/instances", {"image": "busybox", "colour": 1}, 400, "colour"),
        ("POST", "/v1/instances", {"image": "busybox", "command": "ls"}, 400, "command"),
        ("POST", "/v1/instances", {"image": "busybox", "name": "../x"}, 400, "cannot be a name"),
        ("POST", f"/v1/instances/{ref}/start", None, 409, "runs already"),
        ("DELETE", f"/v1/instances/{ref}", None, 409, "lodge stop"),
        ("POST", f"/v1/instances/{still}/pause", None, 409, "cannot be paused"),
        ("POST", f"/v1/instances/{ref}/kill", {"signal": "NOSUCH"}, 400, "no signal"),
        ("GET", "/v1/instances/nosuch", None, 404, "no instance"),
        ("GET", "/v1/operations/77777", None, 404, "no operation"),
        ("GET", "/v1/nosuch", None, 404, "openapi"),
        ("PUT", "/v1/instances", None, 405, "GET, POST"),
    ]:
        got, answer = manager.ask(method, path, body)
        assert got == status and words in answer["error"]["message"], (method, path, got, answer)
    for one in (ref, still):
        manager.good("DELETE", f"/v1/instances/{one}?force=1")


def test_requests_from_web_pages_are_refused(manager):
    body = json.dumps({"image": "busybox"}).encode()
    for headers, status in [({"Origin": "http://evil.example"}, 403), ({"Host": "evil.example"}, 403),
                            ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Content-Type": "text/plain"}, 415),
                            ({"Content-Type": "application/x-www-form-urlencoded"}, 415)]:
        headers = {"Content-Type": "application/json", **headers}
        assert manager.request("POST", "/v1/instances", body, headers)[0] == status, headers
    assert manager.request("POST", "/v1/instances", b"x" * (2 << 20), {"Content-Type": "application/json"})[0] == 413


def test_pause_update_rename(manager):
    ref = manager.create("sleep", "1000", name="before", start=True)
    manager.good("POST", f"/v1/instances/{ref}/pause")
    assert manager.inspect(ref)["state"] == "paused"
    manager.good("POST", f"/v1/instances/{ref}/resume")
    changed = manager.good("PATCH", f"/v1/instances/{ref}",
                           {"name": "after", "resources": {"pids": 40, "memory_bytes": 64 << 20}, "labels": {"a": "b"}})
    assert changed["name"] == "after" and changed["spec"]["resources"]["pids"] == 40
    assert manager.good("GET", f"/v1/instances/{ref}/stats")["memory_limit_bytes"] == 64 << 20
    assert [i["name"] for i in manager.good("GET", "/v1/instances?label=a=b")["instances"]] == ["after"]
    assert any("sleep 1000" in p["command"] for p in manager.good("GET", "/v1/instances/after/top")["processes"])
    manager.good("DELETE", "/v1/instances/after?force=1")


def test_restart_policy(manager):
    ref = manager.create("sh", "-c", "exit 4", restart={"policy": "on-failure", "max_retries": 2}, start=False)
    manager.ask("POST", f"/v1/instances/{ref}/start")
    end = until(lambda: (lambda i: i if i["restarts"] == 2 and i["state"] == "exited" else None)(manager.inspect(ref)))
    assert end["exit_code"] == 4 and end["run"] == 3
    manager.good("DELETE", f"/v1/instances/{ref}")


@pytest.mark.parametrize("isolation", ["container", "vm"])
def test_a_command_that_cannot_be_run(manager, guest, program, isolation):
    """127 not found, 126 not to be run, as other tools have it: attached or not, kept or not; whoever looks later sees why."""
    kind, before = [], manager.lodge("ps", "-aq")
    if isolation == "vm":
        need_kernel(guest, "cloud")
        program("lodge-vmm")
        kind = ["--vm"]
    for words, status, why in ((["busybox", "nosuch"], 127, "not found"), (["busybox", "/etc"], 126, "/etc"), (["-u", "nosuch", "busybox", "true"], 126, "nosuch")):
        for options in (["-d", "--rm"], ["--rm"]):
            manager.lodge("run", *kind, *options, *words, status=status)
        manager.lodge("run", *kind, "-d", "--name", "cannot", *words, status=status)
        end = manager.inspect("cannot")
        assert end["exit_code"] == status and end["started"] is None and why in end["error"]
        code, answer = manager.ask("POST", "/v1/instances/cannot/start")
        assert code >= 400 and answer["error"]["exit_code"] == status and why in answer["error"]["message"]
        for verb in ("start", "restart"):
            done = subprocess.run([manager.bin / "lodge", verb, "cannot"], env=manager.environment, capture_output=True, text=True, timeout=PATIENCE_S)
            assert (done.returncode, done.stdout) == (status, "") and answer["error"]["message"] in done.stderr
        manager.lodge("rm", "cannot")
    assert manager.lodge("ps", "-aq") == before
    # What ran and ended so has been started.
    ref = manager.lodge("run", *kind, "-d", "busybox", "sh", "-c", "exit 127").strip()
    assert manager.good("GET", f"/v1/instances/{ref}/wait")["exit_code"] == 127 and manager.inspect(ref)["started"]
    manager.lodge("rm", ref)
    manager.lodge("run", *kind, "-d", "--rm", "nosuch", "true", status=125)


def test_command_line(manager):
    assert manager.lodge("run", "--rm", "busybox", "echo", "hello") == "hello\n"
    assert manager.lodge("run", "--rm", "-i", "busybox", "cat", input="through\n") == "through\n"
    manager.lodge("run", "--rm", "busybox", "sh", "-c", "exit 7", status=7)
    manager.lodge("run", "--rm", "busybox", "nosuch", status=127)
    manager.lodge("run", "--rm", "nosuch", "true", status=125)
    ref = manager.lodge("run", "-d", "--name", "cli", "-l", "x=y", "busybox", "sh", "-c", "echo said; sleep 1000").strip()
    assert manager.lodge("ps", "-q", "--label", "x=y") == ref + "\n"
    assert manager.lodge("exec", "cli", "echo", "inside") == "inside\n"
    assert manager.lodge("exec", "-i", "cli", "cat", input="piped") == "piped"
    manager.lodge("exec", "cli", "sh", "-c", "exit 5", status=5)
    manager.lodge("exec", "cli", "nosuch", status=127)
    until(lambda: manager.lodge("logs", "cli") == "said\n")
    assert json.loads(manager.lodge("inspect", "cli"))[0]["id"] == ref
    manager.lodge("rename", "cli", "cli2")
    manager.lodge("stop", "-t", "1", "cli2")
    assert manager.lodge("wait", "cli2") == "143\n"
    manager.lodge("rm", "cli2")
    assert manager.lodge("ps", "-aq") == ""


def test_large_streams_are_whole(manager):
    size = 8 << 20
    done = subprocess.run([manager.bin / "lodge", "run", "--rm", "-i", "busybox", "cat"], input=os.urandom(size), env=manager.environment,
                          stdout=subprocess.PIPE, timeout=120, check=True)
    assert len(done.stdout) == size


def test_events_and_metrics(manager):
    since = manager.request("GET", "/v1/events?follow=0")
    assert since[0] == 200
    before = manager.create("true", name="eventful")
    status, _, text = manager.request("GET", "/v1/events?follow=0&since=1")
    events = [json.loads(line) for line in text.decode().splitlines() if line]
    assert status == 200 and events[-1]["event"] == "create" and events[-1]["instance"] == before
    manager.good("DELETE", f"/v1/instances/{before}")
    text = manager.request("GET", "/metrics")[2].decode()
    assert 'lodge_instances{state="running"}' in text and "lodge_starts_total" in text


def test_a_virtual_machine_has_the_same_verbs(manager, guest):
    if not (guest / "kernels" / "cloud").exists():
        pytest.skip("needs the cloud kernel (make guest)")
    ref = manager.lodge("run", "-d", "--vm", "--name", "machine", "busybox", "sh", "-c",
                        "uname -s; trap 'exit 9' TERM; while :; do sleep 0.1; done").strip()
    assert manager.inspect(ref)["isolation"] == "vm" and manager.inspect(ref)["state"] == "running"
    until(lambda: manager.lodge("logs", "machine") == "Linux\n")
    manager.lodge("pause", "machine")
    manager.lodge("resume", "machine")
    manager.kill()
    manager.start()
    assert manager.inspect(ref)["state"] == "running"
    manager.lodge("stop", "machine")
    assert manager.lodge("wait", "machine") == "9\n"
    assert manager.lodge("run", "--rm", "--vm", "-i", "busybox", "cat", input="through\n") == "through\n"
    manager.lodge("rm", "machine")


def test_health_checks(manager):
    ref = manager.lodge("run", "-d", "--health-cmd", "test -e /good", "--health-interval", "1", "busybox", "sleep", "1000").strip()
    assert manager.inspect(ref)["health"] == "starting"
    manager.lodge("exec", ref, "touch", "/good")
    manager.lodge("wait", "--condition", "healthy", "--timeout", "60", ref)
    assert manager.inspect(ref)["health"] == "healthy"
    manager.lodge("exec", ref, "rm", "/good")
    assert manager.lodge("exec", "-e", "WORD=sent", "-e", "LODGE_HOME", ref, "sh", "-c", "echo $WORD $LODGE_HOME") == \
        f"sent {manager.environment['LODGE_HOME']}\n"
    until(lambda: manager.inspect(ref)["health"] == "unhealthy")
    manager.lodge("rm", "-f", ref)


def test_every_figure_of_a_health_check_arrives(manager):
    ref = manager.lodge("create", "--health-cmd", "true", "--health-interval", "7", "--health-timeout", "8", "--health-retries", "9",
                        "--health-start-period", "10", "busybox", "true").strip()
    assert manager.inspect(ref)["spec"]["health"] == {"command": ["/bin/sh", "-c", "true"], "interval_ms": 7000, "timeout_ms": 8000, "retries": 9,
                                                      "start_period_ms": 10000}
    manager.lodge("rm", ref)


def test_a_restart_policy_is_understood_or_refused(manager):
    for verb, rest, isolation in (("create", ("busybox", "true"), "container"), ("vm create", ("parts",), "vm")):
        ref = manager.lodge(*verb.split(), "--restart", "on-failure:3", *rest).strip()
        assert manager.inspect(ref)["spec"]["restart"] == {"policy": "on-failure", "max_retries": 3} and manager.inspect(ref)["isolation"] == isolation
        for policy in ("on-failure:x", "on-failure:0", "on-failure:", "always:3", "sometimes"):
            for words in ((*verb.split(), "--restart", policy, *rest), ("update", "--restart", policy, ref)):
                done = subprocess.run([manager.bin / "lodge", *words], env=manager.environment, capture_output=True, text=True, timeout=60)
                assert done.returncode in (2, 125) and "--restart" in done.stderr, (words, done)
        manager.lodge("update", "--restart", "on-failure:4", ref)
        assert manager.inspect(ref)["spec"]["restart"]["max_retries"] == 4
        manager.lodge("rm", ref)


def test_last_words_of_a_runtime_that_failed(build, guest, tmp_path):
    """They come when it has ended already, through whoever still holds its error output."""
    runtime = tmp_path / "runtime"
    runtime.write_text('#!/bin/sh\ncase "$*" in *run*) (sleep 0.5; echo last words >&2) & esac\nexit 1\n')
    runtime.chmod(0o755)
    m = Manager(build, guest)
    m.environment["LODGE_OCI"] = str(runtime)
    m.start()
    try:
        done = subprocess.run([m.bin / "lodge", "run", "--rm", "busybox", "true"], env=m.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 125 and "last words" in done.stderr, done
    finally:
        m.close()
