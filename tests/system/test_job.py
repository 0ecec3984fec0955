# SPDX-License-Identifier: Apache-2.0
"""lodge job: jobs really started, paused and resumed by the queue's decisions; what is told of them; nothing left behind.

No test depends on how fast anything is: what is decided follows from arrivals and estimates alone.
"""
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from lodge_run import LIMIT, containers_of_test
from patience import until


lodge = pytest.fixture(containers_of_test)


def write_jobs(tmp_path, *jobs):
    path = tmp_path / "jobs.json"
    path.write_text(json.dumps([{"image": "busybox", **job} for job in jobs]))
    return str(path)


def run_jobs(lodge, tmp_path, options, *jobs):
    done = lodge("job", "run", "--json", "-q", "--logs", str(tmp_path / "logs"), *options, write_jobs(tmp_path, *jobs))
    result = json.loads(done.stdout)
    return done.returncode, {job["id"]: job for job in result["jobs"]}, result


def cgroups_of(pid):
    """By name only: other tests' cgroups come and go meanwhile, in which a recursive search would stumble."""
    found = []
    for top in [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]:
        try:
            found += [name for name in os.listdir(top / "lodge") if f"job-{pid}-" in name]
        except OSError:
            continue
    return found


def test_a_shorter_one_pauses_a_longer_one(lodge, tmp_path):
    status, jobs, result = run_jobs(
        lodge, tmp_path, ["--policy", "srtf"],
        {"id": "long", "command": ["sh", "-c", "sleep 2; echo long"], "estimate": 60},
        {"id": "short", "command": ["sh", "-c", "echo short; exit 3"], "estimate": 1, "arrival": 0.2},
        {"id": "last", "command": ["true"], "estimate": 600})
    assert status == 1 and [jobs[name]["status"] for name in ("long", "short", "last")] == [0, 3, 0]
    assert jobs["long"]["pauses"] == 1 and jobs["short"]["pauses"] == jobs["last"]["pauses"] == 0
    assert jobs["short"]["ended"] < jobs["long"]["ended"] <= jobs["last"]["started"]
    assert (tmp_path / "logs/long.log").read_text() == "long\n"
    for job in jobs.values():
        assert job["turnaround"] == pytest.approx(job["waited"] + job["ran"])
    assert result["finished"] == 3 and result["t_wait"] == pytest.approx(sum(job["waited"] for job in jobs.values()))


def test_capacity_and_priority(lodge, tmp_path):
    """Two processors, jobs of one each: two at once, in order of priority; one that can never fit is not run."""
    status, jobs, _ = run_jobs(
        lodge, tmp_path, ["--policy", "priority", "--cpus", "2"],
        {"id": "c", "command": ["sleep", "0.2"], "priority": 3, "cpus": 1},
        {"id": "a", "command": ["sleep", "1"], "priority": 1, "cpus": 1},
        {"id": "b", "command": ["sleep", "1"], "priority": 2, "cpus": 1},
        {"id": "never", "command": ["true"], "cpus": 3})
    assert status == 1 and jobs["never"]["status"] is None
    assert jobs["a"]["started"] <= jobs["b"]["started"] < min(jobs["a"]["ended"], jobs["b"]["ended"]) <= jobs["c"]["started"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_it_is_stopped(lodge, tmp_path, how):
    """One job runs, one is frozen: both end."""
    path = write_jobs(tmp_path, {"id": "frozen", "command": ["sleep", "1000"], "estimate": 2000},
                      {"id": "runs", "command": ["sh", "-c", "echo here; sleep 1000"], "estimate": 1000, "arrival": 0.3})
    process = subprocess.Popen([lodge.program, "job", "run", "--policy", "srtf", path], env=lodge.env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while b"here" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(how)
    process.communicate(timeout=LIMIT)
    assert process.returncode == (130 if how == signal.SIGTERM else -how)
    until(lambda: not cgroups_of(process.pid) and not lodge.processes())


@pytest.mark.parametrize("options, jobs, words", [
    ([], [{"id": "a"}], "command"),
    ([], [{"command": ["true"], "id": "../x"}], "../x"),
    ([], [{"command": ["true"], "id": "a"}, {"command": ["true"], "id": "a"}], "'a'"),
    ([], [{"command": ["true"], "estimate": -1}], "estimate"),
    ([], [{"command": ["true"], "colour": 1}], "colour"),
    (["--policy", "lifo"], [{"command": ["true"]}], "lifo"),
    (["--quantum", "0"], [{"command": ["true"]}], "--quantum"),
    (["--policy", "rr", "--backfill"], [{"command": ["true"]}], "backfill"),
])
def test_mistakes_are_named(lodge, tmp_path, options, jobs, words):
    done = lodge("job", "run", *options, write_jobs(tmp_path, *jobs))
    assert done.returncode in (2, 125) and words in done.stderr.decode()
