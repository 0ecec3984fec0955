# SPDX-License-Identifier: Apache-2.0
"""lodge plan as its user sees it: answers that are printed in textbooks, files, charts, errors."""
import json
import re
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from conftest import ROOT


@pytest.fixture
def plan(program):
    """plan("formula", "mm1", ...) -> the result; plan.fails(...) -> what it says on standard error."""
    lodge = program("lodge")

    def ask(*words, status=0):
        done = subprocess.run([lodge, "plan", *map(str, words), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout) if status == 0 else done.stderr

    ask.fails = lambda *words: ask(*words, status=125)
    return ask


@pytest.mark.parametrize("words, answers", [
    ("mm1 --lambda .8 --mu 1", {"customers": 4, "queued": 3.2, "response": 5, "wait": 4}),
    ("mmc --lambda 1.5 --mu 1 --servers 2", {"empty": 1 / 7, "delayed": 9 / 14, "wait": 9 / 7, "customers": 24 / 7}),
    ("mmc --lambda 2 --mu 1 --servers 3", {"empty": 1 / 9, "delayed": 4 / 9, "queued": 8 / 9, "response": 13 / 9}),
    ("erlang-b --servers 10 --load 5", {"refused": .018385}),
    ("mg1 --lambda .8 --service 1 --scv 4", {"response": 11}),
    ("mg1-ps --lambda .8 --service 1", {"response": 5}),
    ("mva --demands 2,3,1 --think 4 --customers 5", {"response": 13.256, "throughput": .290}),
    ("mva --demands 2,3,1 --think 4 --customers 5 --method schweitzer", {"response": 13.948, "throughput": .27859}),
    ("migration --memory 4096 --bandwidth 1024 --dirty-rate 256 --downtime .03", {"rounds": 4, "downtime": .015625, "total": 5.328, "sent": 5456}),
    ("laws --time 60 --completions 120 --busy 30", {"throughput": 2, "utilisation": .5, "demand": .25}),
])
def test_formulas(plan, words, answers):
    result = plan("formula", *words.split())
    for name, answer in answers.items():
        digits = len(str(answer).partition(".")[2]) if len(str(answer)) < 10 else 12
        assert abs(result[name] - answer) <= .5001 * 10 ** -digits, name


@pytest.mark.parametrize("words, error", [
    ("mm1 --lambda 2 --mu 1", "unstable"),
    ("mm1 --lambda -1 --mu 1", "negative"),
    ("mm1 --lambda nan --mu 1", "not-a-number"),
    ("mm1 --lambda 1", "missing: --mu"),
    ("mmc --lambda 1 --mu 1 --servers 1.5", "range: servers"),
    ("mm2 --lambda 1", "did you mean"),
])
def test_named_errors(plan, words, error):
    assert error in plan.fails("formula", *words.split())


def test_network_file(plan, tmp_path):
    network = tmp_path / "net.json"
    network.write_text(json.dumps({"classes": [{"name": "a", "customers": 1, "think": 4}, {"name": "b", "customers": 1, "think": 4}],
                                   "stations": [{"name": "cpu", "demand": [2, 2]}, {"name": "disk", "demand": 3}, {"demand": [1, 1]}]}))
    result = plan("formula", "mva", network)
    assert sum(row["throughput"] for row in result["classes"]) == pytest.approx(.17544, abs=5e-6)
    network.write_text('{\n "customers": 3,\n "stations": [\n  {"demand": 2},\n  {"demand": -1}\n ]\n}')
    assert "net.json:5: stations[1].demand" in plan.fails("formula", "mva", network)
    network.write_text('{\n "lambda": 2,\n "stations": [\n  {"demand": 0.1},\n  {"demand": 1}\n ]\n}')
    assert "net.json:5: stations[1]: station 2: unstable" in plan.fails("formula", "open", network)


def jobs_file(path, rows, header="id,arrival,burst,priority"):
    path.write_text(header + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def test_schedule(plan, tmp_path):
    jobs = jobs_file(tmp_path / "jobs.csv", [("A", 0, 24, 0), ("B", 0, 3, 0), ("C", 0, 3, 0)])
    chart = tmp_path / "gantt.svg"
    result = plan("schedule", "--policy", "rr", "--quantum", 4, jobs, "--svg", chart)
    assert result["average_wait"] == pytest.approx(17 / 3)
    assert [row["wait"] for row in result["per_job"]] == [6, 4, 7]
    assert [(s["id"], s["start"], s["end"]) for s in result["gantt"]] == [("A", 0, 4), ("B", 4, 7), ("C", 7, 10), ("A", 10, 30)]
    assert ElementTree.parse(chart).getroot().tag.endswith("svg")


def test_compare(plan, tmp_path):
    jobs = jobs_file(tmp_path / "jobs.csv", [(n, *row, 0) for n, row in enumerate([(0, 8), (1, 4), (2, 9), (3, 5)])])
    waits = {row["policy"]: row["average_wait"] for row in plan("compare", jobs)["policies"]}
    assert (waits["srtf"], waits["sjf"], waits["fcfs"]) == (6.5, 7.75, 8.75)


def test_jobs_that_share_by_weight(plan, tmp_path):
    """6 and 6 of weights 2 and 1 on one core: 9 and 12 s. With a limit, a reservation and admission: the unit tests."""
    jobs = jobs_file(tmp_path / "jobs.csv", [("A", 0, 6, 2, "", ""), ("B", 0, 6, 1, "", ""), ("C", 20, 1, 1, .5, ""), ("D", 20, 1, 1, 1, .9)],
                     "id,arrival,burst,weight,limit,reserve")
    finish = {row["id"]: row["finish"] for row in plan("schedule", "--policy", "weights", jobs)["per_job"]}
    assert (finish["A"], finish["B"]) == pytest.approx((9, 12)) and finish["D"] == pytest.approx(20 + 1 / .9)
    assert [row["policy"] for row in plan("compare", jobs)["policies"]][-1] == "weights"
    figures = {row["figure"]: row for row in plan("what-if", jobs, "policy=weights")["what_if"]}
    assert figures["average_turnaround"]["then"] != figures["average_turnaround"]["now"]


def test_bad_line(plan, tmp_path):
    jobs = jobs_file(tmp_path / "jobs.csv", [("A", 0, 24, 0), ("B", "x", 3, 0)])
    assert "jobs.csv:3: arrival: 'x'" in plan.fails("schedule", jobs)


TRACES = {
    "swf": """; Version: 2.2
1 10 0 30 2 -1 -1 2 60 -1 1 1 1 1 1 1 -1 -1
2 12 5 20 1 -1 2048 1 30 -1 1 1 1 1 1 1 -1 -1
3 15 -1 -1 1 -1 -1 1 30 -1 5 1 1 1 1 1 -1 -1
""",
    "google": """600000000,,3418309,0,,0,user,3,9,0.125,0.0745,0.0004,0
601000000,,3418309,0,4155527081,1,user,3,9,0.125,0.0745,0.0004,0
602000000,,3418309,1,,0,user,3,9,0.125,0.0745,0.0004,0
631000000,,3418309,0,4155527081,4,user,3,9,0.125,0.0745,0.0004,0
632000000,,3418309,1,4155527081,1,user,3,9,0.125,0.0745,0.0004,0
652000000,,3418309,1,4155527081,4,user,3,9,0.125,0.0745,0.0004,0
653000000,,3418309,2,,0,user,3,9,0.125,0.0745,0.0004,0
""",
    "azure": """x/B+,sub,dep,0,30,99.3,3.4,88.1,Delay-insensitive,2,4
y/C+,sub,dep,2,22,12.0,1.0,10.0,Interactive,>24,>64
z/D+,sub,dep,9,5,12.0,1.0,10.0,Unknown,4,8
""",
    "alibaba": """task_a,1,j_1,1,Terminated,100,130,100.00,0.5
task_b,2,j_1,1,Terminated,102,122,50.00,0.25
task_c,1,j_2,1,Running,110,0,50.00,0.25
""",
}


@pytest.mark.parametrize("name", TRACES)
def test_traces(plan, tmp_path, name):
    """Each sample: a job of 30 s, 2 s later (SWF: also 2 s) one of 20 s, and one that has no end."""
    trace = tmp_path / f"sample.{name}"
    trace.write_text(TRACES[name])
    result = plan("trace", trace)
    assert (result["trace"]["jobs"], result["trace"]["left_out"], result["trace"]["work_seconds"]) == (2, 1, 50)
    assert result["trace"]["arrivals_over"] == 2
    assert result["average_wait"] == 14 and result["makespan"] == 50
    assert plan("trace", trace, "--servers", 2)["average_wait"] == 0


SHOP = {"name": "shop",
        "stations": [{"name": "cpu", "kind": "shared", "servers": 2}, {"name": "disk"}, {"name": "link", "kind": "delay"}],
        "classes": [{"name": "page", "arrivals": {"rate": 80}, "demands": {"cpu": {"mean": .012, "scv": 1.5}, "disk": .004, "link": .02}},
                    {"name": "order", "arrivals": 10, "demands": {"cpu": .03, "disk": .012}}]}


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "shop.json"
    path.write_text(json.dumps(SHOP, indent=1))
    return path


def test_predict(plan, shop, tmp_path):
    chart, use = tmp_path / "latency.svg", tmp_path / "use.svg"
    result = plan("predict", shop, "--answers", 50000, "--target", .15, "--svg", chart, "--svg-use", use)
    now = result["as_described"]
    assert now["busy_cpu"] == pytest.approx((80 * .012 + 10 * .03) / 2, rel=.03)
    assert now["response"] == pytest.approx(now["formula"], rel=.06)
    assert now["p50"] < now["p95"] < now["p99"]
    assert .5 < result["knee_at_load"] < result["saturated_at_load"] and .9 < result["most_load_for_target"] < 1.3
    responses = [row["response"] for row in result["over_load"]]
    assert responses == sorted(responses) and len(responses) == 11
    for path in (chart, use):
        assert "over load" in "".join(ElementTree.parse(path).getroot().itertext())


def test_predict_is_repeatable(plan, shop):
    words = ("predict", shop, "--answers", 5000, "--loads", "1", "--replications", 3)
    assert plan(*words, "--seed", 7) == plan(*words, "--seed", 7) != plan(*words, "--seed", 8)


def test_what_if(plan, shop, tmp_path):
    figures = {row["figure"]: row for row in plan("what-if", shop, "stations.cpu.servers=4", "load=2", "--answers", 20000)["what_if"]}
    assert figures["stable"]["then"] == "yes" and figures["busy_cpu"]["change_percent"] == pytest.approx(0, abs=3)
    jobs = jobs_file(tmp_path / "jobs.csv", [(n, *row, 0) for n, row in enumerate([(0, 8), (1, 4), (2, 9), (3, 5)])])
    figures = {row["figure"]: row for row in plan("what-if", jobs, "policy=srtf")["what_if"]}
    assert (figures["average_wait"]["now"], figures["average_wait"]["then"]) == (8.75, 6.5)
    assert "no such member" in plan.fails("what-if", shop, "stations.gpu.servers=4")


@pytest.mark.parametrize("old, new, error", [
    ('"kind": "shared"', '"kind": "fast"', "shop.json:6: stations[0].kind: 'fast' is not one of queue, shared, delay"),
    ('"servers": 2', '"servers": 0', "shop.json:7: stations[0].servers: 0 is not in"),
    ('"mean": 0.012', '"mean": -1', "classes[0].demands.cpu.mean: -1 is not in"),
    ('"link": 0.02', '"tape": 0.02', "classes[0].demands.tape: there is no station"),
    ('"scv": 1.5', '"svc": 1.5', "svc"),
    ('"shop",', '"shop"', "shop.json:"),
])
def test_scenario_errors(plan, shop, old, new, error):
    text = shop.read_text()
    assert old in text
    shop.write_text(text.replace(old, new))
    assert error in plan.fails("predict", shop)


FLEET = {"rule": "best-fit", "overcommit": {"cpu": 2},
         "hosts": [{"name": "rack", "count": 4, "cpus": 16, "memory": 65536}],
         "instances": [{"name": "db", "count": 3, "cpus": 8, "memory": 32768, "busy": 3, "max_per_host": 1},
                       {"name": "web", "count": 8, "cpus": 2, "memory": 4096, "busy": .7},
                       {"name": "batch", "count": 3, "cpus": 4, "memory": 2048, "busy": 1, "host": "rack.1"}]}


@pytest.fixture
def fleet(tmp_path):
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(FLEET, indent=1))
    return path


def test_place(plan, fleet, tmp_path):
    chart = tmp_path / "hosts.svg"
    result = plan("place", fleet, "--svg", chart)
    assert [row["placed"] for row in result["instances"]] == [3, 8, 3]
    on = [row["host"] for row in result["placement"] if row["instance"] == "db"]
    assert len(set(on)) == 3 and [row["host"] for row in result["placement"] if row["instance"] == "batch"] == ["rack.1"] * 3
    assert any("processors" in row["verdict"] for row in result["one_more_would_go"])
    assert "rack.4" in "".join(ElementTree.parse(chart).getroot().itertext())


def test_counts_that_do_not_add_up(plan, fleet):
    """A sum of hosts that is right does not make a wrong count of one of them right."""
    document = json.loads(fleet.read_text())
    document["hosts"] = [{"name": "a", "count": 500, "cpus": 1, "memory": 1}, {"name": "b", "count": -499, "cpus": 1, "memory": 1}]
    document["instances"] = []
    fleet.write_text(json.dumps(document))
    assert "fleet.json:1: hosts[1].count: -499 is not in 1 to 1e+06" in plan.fails("place", fleet)
    document["hosts"][1]["count"] = 1.5
    fleet.write_text(json.dumps(document))
    assert "hosts[1].count: 1.5 is not a whole number" in plan.fails("place", fleet)


def test_one_host_less(plan, fleet):
    def after(*words):
        return {row["figure"]: (row["now"], row["then"]) for row in plan("what-if", fleet, *words)["what_if"]}

    # db: one a host, half of a host's memory; three hosts of four still take all.
    less = after("hosts.rack.count=3", "--instance", "web")
    assert less["hosts"] == (4, 3) and less["placed_db"] == (3, 3) and less["without_room"] == (0, 0)
    # 30 more webs fit on four hosts (test_fit), and 16 on each of them: 65536 / 4096.
    assert less["more_web"] == (30, 14)
    two = after("hosts.rack.count=2")
    assert two["placed_db"] == (3, 2) and two["without_room"] == (0, 1)
    # Those that the file puts on a host that is gone go elsewhere; on one that never was is a mistake.
    document = json.loads(fleet.read_text())
    document["hosts"].append({"name": "old", "cpus": 16, "memory": 65536})
    document["instances"][2]["host"] = "old"
    fleet.write_text(json.dumps(document))
    assert after("hosts.old=null")["placed_batch"] == (3, 3) and after("hosts.old=null")["hosts"] == (5, 4)
    assert after("hosts.rack.cpus=4", "hosts.old.cpus=12")["placed_db"] == (3, 3)
    assert "no such member" in plan.fails("what-if", fleet, "hosts.nosuch=null")
    assert "hosts[0].count: 0 is not in" in plan.fails("what-if", fleet, "hosts.rack.count=0")


def test_fit(plan, fleet):
    result = plan("fit", fleet, "--instance", "web")
    # 262144 MiB less 3 * 32768, 8 * 4096 and 3 * 2048 is room for 30 of 4096 on whole hosts, and the processors are there
    assert result["more_that_fit"] == 30 and result["breaks_first"] == "memory"
    busy = plan("fit", fleet, "--instance", "web", "--busy-most", .5)
    assert busy["breaks_first"] == "busy processors" and busy["more_that_fit"] < 30
    assert plan("fit", "--cpus", 1, "--memory", 1 << 30)["more_that_fit"] == 0


def test_fit_asks_admission(plan, tmp_path):
    """The environment's quota, not the hosts, is what ends it, and the answer says so."""
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(FLEET | {"environment": {"name": "shop", "cpus": 60, "memory": 200000, "instances": 40}}))
    # 3 * 8 + 8 * 2 + 3 * 4 cores are reserved of 60
    result = plan("fit", path, "--instance", "web")
    assert (result["more_that_fit"], result["by_admission"], result["by_reservation"]) == (4, 4, 30)
    assert (result["breaks_first"], result["who_says_no"]) == ("processors", "admission") and "environment shop: 0 of 60 cores" in result["because"]
    path.write_text(json.dumps(FLEET | {"environment": {"name": "shop", "instances": 16}}))
    result = plan("fit", path, "--instance", "web")
    assert (result["more_that_fit"], result["breaks_first"]) == (2, "the number of instances")
    # One host would take it by the sum, no single one has room: placement says no.
    path.write_text(json.dumps({"hosts": [{"name": "h", "count": 3, "cpus": 16, "memory": 1000}],
                                "instances": [{"name": "half", "count": 3, "cpus": 1, "memory": 600}, {"name": "big", "count": 0, "cpus": 1, "memory": 500}]}))
    result = plan("fit", path, "--instance", "big")
    assert (result["more_that_fit"], result["by_admission"], result["who_says_no"], result["breaks_first"]) == (0, 2, "placement", "memory")


def test_moves_in_virtual_time(plan, fleet):
    """Alone a copy takes what the formula says; with others on its links longer."""
    alone = plan("rebalance", fleet, "--bandwidth", 1000, "--dirty-rate", 50, "--simulate", "--moves", 1)
    move, = alone["plan"]
    assert move["ends"] == pytest.approx(move["copy_seconds"], abs=1e-5) and move["stands_still"] == pytest.approx(move["downtime"], abs=1e-5)
    together = plan("rebalance", fleet, "--bandwidth", 1000, "--dirty-rate", 50, "--simulate", "--parallel", 4)
    assert together["simulated"]["moved"] == together["moves"] > 1 and together["simulated"]["stayed"] == 0
    assert any(row["ends"] - row["begins"] > 1.2 * row["copy_seconds"] for row in together["plan"])
    assert "--bandwidth" in plan.fails("rebalance", fleet, "--simulate")


def test_rebalance(plan, fleet):
    spread = plan("rebalance", fleet, "--bandwidth", 1000, "--dirty-rate", 50)
    assert spread["spread_after"] <= .05 < spread["spread_before"] and spread["plan"][0]["downtime"] < .3
    drained = plan("rebalance", fleet, "--aim", "drain", "--host", "rack.1")
    assert drained["stuck"] == 0 and {row["from"] for row in drained["plan"]} == {"rack.1"}
    assert "which host" in plan.fails("rebalance", fleet, "--aim", "drain")


def test_the_tutorial_tells_the_truth(program):
    """Every figure printed in docs/planning.md is what the command printed above it prints."""
    pages, shown = ROOT / "docs", 0
    for block in re.findall(r"^```\n(\$ lodge plan (?:predict|what-if|compare).*?)^```", (pages / "planning.md").read_text(), re.M | re.S):
        command, lines = None, []
        for line in block.splitlines():
            if line.startswith("$ "):
                command = re.sub(r" --svg(-use)? \S+", "", line[2:]).split()
                out = subprocess.run([program("lodge"), *command[1:]], cwd=pages / "planning", stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout
                lines = [one.split() for one in out.splitlines()]
            elif line.strip() and not line.endswith(":") and line.split()[0] not in ("policy", "figure"):
                words = line.split()
                row = next(one for one in lines if one and one[0] == words[0] and len(one) >= len(words))
                assert set(words) <= set(row), f"{' '.join(command)}: {line}"
                shown += 1
    assert shown >= 15
