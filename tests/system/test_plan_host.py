# SPDX-License-Identifier: Apache-2.0
"""A model fitted to a real container at one load, and what it says of another, against that load run for real.

Processor time is counted, not the clock's, so that the figures hold on a busy host; bench/model.py has the strict
comparison, latency included, for a quiet one."""
import json
import subprocess
from pathlib import Path

import pytest

from conftest import need_root
from plan_load import Service, observe

DEMAND = .004


def stalled():
    try:
        return int(Path("/proc/pressure/cpu").read_text().split("total=")[1].split()[0]) / 1e6
    except (OSError, IndexError):
        return float("inf")


def test_a_fitted_model_predicts_another_load(program, tmp_path):
    need_root()
    lodge = program("lodge")
    with Service(program("lodge-oci"), tmp_path) as service:
        fitted, own = observe(lodge, service, .3 / DEMAND, DEMAND, 300, 1, tmp_path, "fitted")
        before = stalled()
        measured, checked = observe(lodge, service, .6 / DEMAND, DEMAND, 400, 2, tmp_path, "checked")
        quiet = stalled() - before < .03 * checked["took"]
    demand = fitted["classes"][0]["demands"]["cpu"]
    # The log's service is what the request burnt; the container's count has the receiving and sending with it.
    assert own["service"] * .97 < demand["mean"] < own["service"] * 1.25
    assert .5 < demand["scv"] < 1.7  # exponential, of 300
    scenario = tmp_path / "fitted.json"
    scenario.write_text(json.dumps(fitted))
    load = 400 / checked["span"] / fitted["classes"][0]["arrivals"]["rate"]
    done = subprocess.run([lodge, "plan", "predict", scenario, "--loads", str(load), "--json"], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    row = json.loads(done.stdout)["over_load"][0]
    used = measured["measured"]["processor_seconds"] / checked["span"]
    drawn = checked["service"] / own["service"]  # the second load's draws are not those of the first
    assert row["busy_cpu"] * drawn == pytest.approx(used, rel=.12)
    assert row["throughput"] == pytest.approx(400 / checked["span"], rel=.05)
    if quiet:
        assert row["response"] == pytest.approx(checked["response"], rel=.5)


def test_the_whole_host(program):
    lodge = program("lodge")
    done = subprocess.run([lodge, "plan", "--from-host", "--seconds", ".2", "--json"], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    result = json.loads(done.stdout)
    assert result["processors"] >= 1 and 0 <= result["measured"]["processors_busy"] <= result["processors"] * 1.5


def test_errors(program, tmp_path):
    lodge = program("lodge")

    def said(*words):
        done = subprocess.run([lodge, "plan", "from-host", "--seconds", ".01", *map(str, words)], stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == 125
        return done.stderr

    log = tmp_path / "log.csv"
    log.write_text("arrival,response\n0,1\nx,2\n")
    assert "no process" in said("--pid", 999999999)
    assert "not a cgroup" in said("--cgroup", "no/such/group")
    assert "log.csv:3: 'x,2'" in said("--log", log)
