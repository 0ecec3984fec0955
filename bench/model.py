# SPDX-License-Identifier: Apache-2.0
"""bench/model.py --build BUILD [--seeds N] [--real]: the planner against its bars, beside SimPy where that is installed.

Figures are processor time of one process each (bench/model.c says what they do). --real also fits a model to a container
that serves requests and compares the prediction with the load run for real, strictly: for a quiet host. Results:
bench/results/model.json."""
import argparse
import json
import math
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def simpy_mmc(customers=20000):
    """M/M/3 in SimPy, the same load: events a second of processor time (an arrival and an end each)."""
    try:
        import simpy  # version 3 and later
    except ImportError:
        return simpy2_mmc(customers)
    environment, draw, waits = simpy.Environment(), random.Random(1), []
    servers = simpy.Resource(environment, capacity=3)

    def customer():
        came = environment.now
        with servers.request() as request:
            yield request
            yield environment.timeout(draw.expovariate(1))
        waits.append(environment.now - came)

    def source():
        for _ in range(customers):
            yield environment.timeout(draw.expovariate(2))
            environment.process(customer())

    environment.process(source())
    start = time.process_time()
    environment.run()
    return {"name": "SimPy " + simpy.__version__ + ", M/M/3", "events_per_s": 2 * customers / (time.process_time() - start), "mean": sum(waits) / customers}


def simpy2_mmc(customers):
    """Debian's python3-simpy is SimPy 2."""
    try:
        import SimPy
        from SimPy.Simulation import Process, Resource, Simulation, hold, release, request
    except ImportError:
        return None
    draw, waits = random.Random(1), []
    simulation = Simulation()
    simulation.initialize()
    servers = Resource(capacity=3, sim=simulation)

    class Customer(Process):
        def run(self):
            came = self.sim.now()
            yield request, self, servers
            yield hold, self, draw.expovariate(1)
            yield release, self, servers
            waits.append(self.sim.now() - came)

    class Source(Process):
        def run(self):
            for _ in range(customers):
                yield hold, self, draw.expovariate(2)
                one = Customer(sim=self.sim)
                self.sim.activate(one, one.run())

    source = Source(sim=simulation)
    simulation.activate(source, source.run())
    start = time.process_time()
    simulation.simulate(until=1e9)
    return {"name": "SimPy " + SimPy.__version__ + ", M/M/3", "events_per_s": 2 * customers / (time.process_time() - start), "mean": sum(waits) / customers}


def real(build):
    """Fitted at 20 % load, checked at 40, 60 and 80 %: relative errors."""
    sys.path.insert(0, str(ROOT / "tests" / "system"))
    from plan_load import Service, observe

    lodge, demand = build / "bin" / "lodge", .005
    with tempfile.TemporaryDirectory(prefix="lodge-bench-") as directory, Service(str(build / "bin" / "lodge-oci"), Path(directory)) as service:
        fitted, own = observe(lodge, service, .2 / demand, demand, 1000, 1, directory, "fitted")
        # The variability of the work is the service's, its mean at each load the draws'; both are counted, not assumed.
        for share in (.4, .6, .8):
            nr = int(4000 * share)
            seen, load = observe(lodge, service, share / demand, demand, nr, int(share * 100), directory, f"at-{share}")
            scenario = Path(directory) / "scenario.json"
            scenario.write_text(json.dumps(fitted))
            factor = nr / load["span"] / fitted["classes"][0]["arrivals"]["rate"]
            done = subprocess.run([lodge, "plan", "predict", scenario, "--loads", str(factor), "--replications", "20", "--answers", str(nr), "--json"],
                                  stdout=subprocess.PIPE, text=True, check=True)
            row = json.loads(done.stdout)["over_load"][0]
            used = seen["measured"]["processor_seconds"] / load["span"]
            yield {"name": f"real container at {share:.0%}", "busy": used, "busy_predicted": row["busy_cpu"], "busy_error": row["busy_cpu"] / used - 1,
                         "throughput_error": row["throughput"] / (nr / load["took"]) - 1, "response": load["response"], "response_predicted": row["response"],
                         "response_error": row["response"] / load["response"] - 1}


GROWTH_HOSTS = (10000, 100000, 1000000)
# What of more than logarithmic growth is the machine's: ten times the hosts are less in its caches.
GROWTH_SLACK = 1.25


def growth(ask, rule):
    """Microseconds of processor time to place one instance (ten a host, the best of three runs but at the largest size), and the
    fit cost = a + b log2(hosts): growth is at most logarithmic if cost rises no more than log(hosts) does."""
    costs = {}
    for hosts in GROWTH_HOSTS:
        runs = [ask("place", hosts, 10 * hosts, rule) for _ in range(1 if hosts == GROWTH_HOSTS[-1] else 3)]
        costs[hosts] = min(row["cpu_s"] / row["events"] for run in runs for row in run) * 1e6
    x, y = [math.log2(h) for h in costs], list(costs.values())
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    b = sum((i - mean_x) * (j - mean_y) for i, j in zip(x, y)) / sum((i - mean_x) ** 2 for i in x)
    first = GROWTH_HOSTS[0]
    worst = max(costs[h] / costs[first] / (math.log(h) / math.log(first)) for h in GROWTH_HOSTS[1:])
    return {"name": f"growth {rule}", **{f"us_at_{h}": costs[h] for h in costs}, "fit_a_us": mean_y - b * mean_x, "fit_b_us_per_doubling": b,
            "growth_to_logarithm": worst}


def shown(name, value):
    if isinstance(value, float):
        return f"{name}={value:.4g}"
    if isinstance(value, int):
        return f"{name}={value:,}"
    return value if name == "name" else f"{name}={value}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--only-real", action="store_true", help="the rest of the results stays as it was")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    subprocess.run(["ninja", "-C", build, "bench/bench_model"], check=True, stdout=subprocess.DEVNULL)
    program, rows = build / "bench" / "bench_model", []

    def ask(*words):
        done = subprocess.run([program, *map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def run(*words):
        for row in ask(*words):
            take(row)

    def take(row):
        rows.append(row)
        print("  ".join(shown(name, value) for name, value in row.items()), flush=True)

    def bar(name, met):
        take({"name": f"bar: {name}", "met": "yes" if met else "NO"})

    def named(start):
        return [row for row in rows if row["name"].startswith(start)]

    results = ROOT / "bench" / "results" / "model.json"
    for words in () if arguments.only_real else (["events"], ["mmc"], ["priority"], ["cluster"], ["place", 1000000, 10000000, "best-fit"], ["place", 1000000, 10000000, "dot-product"],
                  ["coverage", arguments.seeds]):
        run(*words)
    for rule in () if arguments.only_real else ("best-fit", "dot-product"):
        take(growth(ask, rule))
    if arguments.only_real and results.exists():
        rows.extend(row for row in json.loads(results.read_text()) if not re.match("(bar: )?real container|bar: ", row["name"]))
    peer = None if arguments.only_real else simpy_mmc()
    if peer:
        take(peer)
        take({"name": "M/M/3 against SimPy", "ratio": named("M/M/3")[0]["events_per_s"] / peer["events_per_s"]})
    if arguments.real or arguments.only_real:
        for row in real(build):
            take(row)
    bar("10 million events a second, M/M/3", named("M/M/3")[0]["events_per_s"] >= 1e7)
    bar("10 million events a second, preemptive-priority host", named("preemptive")[0]["events_per_s"] >= 1e7)
    cluster = named("cluster")[0]
    bar("cluster under 20 s and 1 GiB", cluster["cpu_s"] < 20 and cluster["peak_mib"] < 1024 and cluster["mean"] == 100000)
    bar("10,000,000 placed under 120 s and 8 GiB", all(row["cpu_s"] < 120 and row["peak_mib"] < 8192 for row in named("place")))
    for row in named("growth"):
        bar(f"{row['name']}: at most logarithmic from 1e4 to 1e6 hosts", row["growth_to_logarithm"] <= GROWTH_SLACK)
    bar("theory inside 99 % intervals in 97 % of the seeds", all(row["inside"] >= .97 * row["seeds"] for row in named("coverage")))
    for row in named("real container"):
        bar(f"{row['name']}: 5 %, 5 %, 15 %", abs(row["busy_error"]) < .05 and abs(row["throughput_error"]) < .05 and abs(row["response_error"]) < .15)
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if all(row.get("met") != "NO" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
