# SPDX-License-Identifier: Apache-2.0
"""The schemas of the planner's files say what lodge plan takes: documents that are changed anywhere, in any way, are accepted and refused by both
alike, but for what no schema can say; and what is refused is named with its line."""
import copy
import json
import random
import re
import subprocess

import pytest

from conftest import ROOT, skip_when_sanitized

jsonschema = pytest.importorskip("jsonschema", reason="needs python3-jsonschema")

SCHEMAS = ROOT / "docs" / "planning"
SAMPLES = {
    "scenario": ([["predict", "--answers", "100", "--loads", "1"]], [
        {"name": "shop", "run": {"seed": 3, "answers": 200, "warm_up": .1, "level": .9, "replications": 2},
         "stations": [{"name": "cpu", "kind": "shared", "servers": 2}, {"name": "disk", "kind": "queue"}, {"name": "link", "kind": "delay"}],
         "classes": [{"name": "page", "arrivals": {"rate": 2, "scv": 2, "distribution": "hyper"},
                      "demands": {"cpu": {"mean": .1, "scv": 1.5}, "disk": {"mean": .1, "distribution": "constant"}, "link": .1}},
                     {"name": "order", "arrivals": 1, "demands": {"cpu": .1}}]},
        {"stations": [{"name": "cpu"}], "classes": [{"name": "a", "customers": 3, "think": {"mean": 2, "scv": .5}, "demands": {"cpu": 1}}]}]),
    "fleet": ([["place"], ["fit"], ["rebalance"], ["what-if", "rule=best-fit"]], [
        {"rule": "best-fit", "overcommit": {"cpu": 2, "memory": 1, "disk": 1}, "environment": {"name": "shop", "cpus": 60, "memory": 200000, "instances": 40},
         "hosts": [{"name": "rack", "count": 4, "cpus": 16, "memory": 65536, "disk": 100000, "zone": 1}, {"name": "old", "cpus": 8, "memory": 4096}],
         "instances": [{"name": "db", "count": 3, "cpus": 8, "memory": 3000, "disk": 5, "busy": 3, "max_per_host": 1, "group": 4, "dirty_rate": 2},
                       {"name": "web", "count": 2, "cpus": 2, "memory": 100, "spread": True}, {"name": "batch", "cpus": 1, "memory": 20, "host": "old"}]}]),
    "network": ([["formula", "mva"]], [
        {"think": 4, "customers": 5, "method": "exact",
         "stations": [{"name": "cpu", "demand": 2}, {"name": "pool", "kind": "servers", "servers": 4, "demand": 3},
                      {"kind": "load-dependent", "rates": [1, 1.5], "demand": 1}]},
        {"classes": [{"name": "a", "customers": 3, "think": 1}, {"name": "b", "customers": 2}], "stations": [{"demand": [2, 1]}, {"demand": 1, "kind": "delay"}]},
        {"lambda": .1, "stations": [{"demand": 2}]}]),
}
# What only the whole document, or the arithmetic, can say. Each is a mistake of its own kind.
BEYOND = re.compile("there is no (station|host) |is there already|unstable: |does not take number|numbers where there are|range: (scv|customers)|schweitzer")
VALUES = [-1, 0, 1, 2, 1.5, .25, 1e300, 70000, "", "x", "y" * 60, True, [], {}, [1], {"mean": 1}]


def schema_of(name):
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text())


def places(value, path=()):
    """All members and elements, as paths."""
    for key in (value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()):
        yield (*path, key)
        yield from places(value[key], (*path, key))


def changed(document, chance):
    """One change anywhere: a value, a member that is gone, one that nobody knows."""
    document = copy.deepcopy(document)
    path = chance.choice(list(places(document)))
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    how = chance.randrange(10)
    if how == 0 and isinstance(holder, dict):
        del holder[path[-1]]
    elif how == 1 and isinstance(holder, dict):
        holder["colour"] = 1
    else:
        holder[path[-1]] = copy.deepcopy(chance.choice(VALUES))
    return document


@pytest.fixture
def judge(program, tmp_path):
    """judge(words, document) -> (0, "") or (125, what is wrong)"""
    lodge = program("lodge")

    def ask(words, document):
        file = tmp_path / "file.json"
        file.write_text(json.dumps(document, indent=1))
        at = 2 if words[0] == "formula" else 1
        done = subprocess.run([lodge, "plan", *words[:at], str(file), *words[at:], "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode in (0, 125), (document, done.returncode, done.stderr)
        return done.returncode, done.stderr

    return ask


@pytest.mark.parametrize("name", SAMPLES)
def test_schemas_are_schemas(judge, name):
    jsonschema.Draft202012Validator.check_schema(schema_of(name))
    for document in SAMPLES[name][1]:
        jsonschema.validate(document, schema_of(name), cls=jsonschema.Draft202012Validator)
        for words in SAMPLES[name][0]:
            assert judge(words, document) == (0, ""), words
    if name == "scenario":
        jsonschema.validate(json.loads((SCHEMAS / "shop.json").read_text()), schema_of(name), cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("name", SAMPLES)
def test_schema_and_reader_agree(judge, name):
    skip_when_sanitized()
    seed = random.randrange(1 << 30)
    chance, validator = random.Random(seed), jsonschema.Draft202012Validator(schema_of(name))
    refused = 0
    for _ in range(120):
        words, document = SAMPLES[name][0][0], changed(chance.choice(SAMPLES[name][1]), chance)
        status, error = judge(words, document)
        wrong = next(validator.iter_errors(document), None)
        what = f"seed {seed}: {json.dumps(document)}: the schema says {wrong and wrong.message}, lodge {error!r}"
        assert status != 0 or wrong is None, what
        assert status == 0 or wrong is not None or BEYOND.search(error), what
        assert status == 0 or wrong is None or re.search(r"file\.json:\d+: ", error), what
        refused += status != 0
    assert 20 < refused < 120
