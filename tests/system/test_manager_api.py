# SPDX-License-Identifier: Apache-2.0
"""The API against its own description: every path and method is served, every answer has the shape that is written down; and
whatever is sent, the manager answers and lives."""
import itertools
import json
import os
import re
import socket

import pytest

from conftest import ROOT, manager_of_test


manager = pytest.fixture(scope="module")(manager_of_test)


@pytest.fixture(scope="module")
def document(manager):
    served = manager.good("GET", "/openapi.json")
    assert served == json.loads((ROOT / "docs" / "API" / "openapi.json").read_text())
    return served


TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict, "null": type(None)}


def check(document, schema, value, where="answer"):
    """The part of JSON Schema that the document uses."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        check(document, document["components"]["schemas"][name], value, f"{where}({name})")
        return
    wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert any(isinstance(value, TYPES[t]) and not (t == "integer" and isinstance(value, bool)) for t in wanted), (where, value)
    assert "enum" not in schema or value in schema["enum"], (where, value)
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            assert name in value, f"{where}: no {name}"
        extra = schema.get("additionalProperties", True)
        for name, member in value.items():
            if name in schema.get("properties", {}):
                check(document, schema["properties"][name], member, f"{where}.{name}")
            elif extra is False:
                raise AssertionError(f"{where}: {name} is not described")
            elif isinstance(extra, dict):
                check(document, extra, member, f"{where}.{name}")
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            check(document, schema["items"], item, f"{where}[{number}]")


def call(manager, document, method, path, values, body=None, query="", headers=None):
    """Asks and holds the answer to the document."""
    described = document["paths"][path][method.lower()]["responses"]
    real = re.sub(r"\{(\w+)\}", lambda m: str(values[m.group(1)]), path)
    status, headers, data = manager.request(method, real + query, body, headers)
    assert str(status) in described or "default" in described
    answer = described.get(str(status), described.get("default"))
    kind = headers["Content-Type"].split(";")[0]
    assert kind in answer["content"], (path, status, kind, data)
    if kind == "application/json":
        check(document, answer["content"][kind]["schema"], json.loads(data), f"{method} {path} {status}")
    return status, data


def jobs_as_described(good):
    name = {"name": "shapes"}
    job = {"queue": "shapes", "spec": {"image": "busybox", "command": ["sh", "-c", "echo x"]}, "name": "shape"}
    good("POST", "/v1/queues", body={**name, "policy": "priority", "ageing_s": 1.5, "cpus": 1}, status=201)
    first = {"id": json.loads(good("POST", "/v1/jobs", body={**job, "estimate_s": 1, "restartable": True}, status=201))["id"]}
    good("GET", "/v1/jobs/{id}/wait", first)
    good("GET", "/v1/jobs/{id}/logs", first)
    good("PATCH", "/v1/queues/{name}", name, {"hold": True})
    second = {"id": json.loads(good("POST", "/v1/jobs/batch", body={"jobs": [{**job, "count": 2}, job]}, status=201))["id"]}
    good("PATCH", "/v1/jobs/{id}", second, {"priority": 3})
    good("GET", "/v1/jobs", query="?all=1&queue=shapes&limit=2")
    good("GET", "/v1/jobs/{id}/wait", second, query="?timeout=0", status=504)
    good("POST", "/v1/jobs/{id}/cancel", second)
    for job in (first, second):
        good("GET", "/v1/jobs/{id}", job)
    for path in ("/v1/queues", "/v1/queues/{name}", "/v1/queues/{name}/history"):
        good("GET", path, name)
    good("DELETE", "/v1/jobs/{id}", second)
    good("DELETE", "/v1/queues/{name}", name, query="?force=1")


def test_every_answer_is_as_described(manager, document):
    seen = set()

    def good(method, path, values=None, body=None, query="", status=200, headers=None):
        got, data = call(manager, document, method, path, values or {}, body, query, headers)
        assert got == status, (method, path, got, data)
        seen.add((method.lower(), path))
        return data

    made = json.loads(good("POST", "/v1/instances", body={"image": "busybox", "command": ["sh", "-c", "echo x; sleep 1000"], "labels": {"a": ""},
                                                          "resources": {"pids": 99}, "name": "shape"}, status=201))
    ref = {"ref": made["id"]}
    one = "/v1/instances/{ref}"
    operation = json.loads(good("POST", one + "/start", ref))
    for path in ("/openapi.json", "/metrics", "/v1/info", "/v1/operations", "/v1/instances", "/v1/stats"):
        good("GET", path)
    good("GET", "/v1/operations/{id}", {"id": operation["id"]})
    good("DELETE", "/v1/operations/{id}", {"id": operation["id"]}, status=409)
    lines = good("GET", "/v1/events", query="?follow=0&since=0").decode().splitlines()
    for line in filter(None, lines):
        check(document, document["components"]["schemas"]["Event"], json.loads(line))
    for path in (one, one + "/stats", one + "/top", one + "/logs", one + "/figures", one + "/explain"):
        good("GET", path, ref)
    group, groups = {"name": "shape-env"}, "/v1/environments"
    good("POST", groups, body={**group, "cpu_millis": 500, "policy": "dynamic", "overcommit": {"cpu": 2}}, status=201)
    good("GET", groups)
    good("PATCH", one, ref, {"environment": "shape-env", "resources": {"priority": 2.5, "reserve_cpu_millis": 100}})
    good("GET", one + "/explain", ref)
    good("GET", groups + "/{name}", group, query="?measure=1")
    good("PATCH", groups + "/{name}", group, {"drf": True, "cpu_millis": None})
    good("PATCH", one, ref, {"environment": None})
    good("DELETE", groups + "/{name}", group)
    good("PATCH", one, ref, {"labels": {"b": "c"}})
    for verb in ("pause", "resume", "restart"):
        good("POST", f"{one}/{verb}", ref, {"timeout_s": 0} if verb == "restart" else None)
    good("POST", one + "/kill", ref, {"signal": "KILL"})
    good("GET", one + "/wait", ref)
    good("POST", one + "/stop", ref)
    good("DELETE", one, ref)
    # Networks need more than this test asks for (see test_manager_networks): here the words alone.
    good("GET", "/v1/networks")
    for verb in ("connect", "disconnect"):
        good("POST", "/v1/networks/{ref}/" + verb, {"ref": "nosuch"}, {"instance": "nosuch"}, status=404)
    good("POST", "/v1/networks", body={"name": "no name"}, status=400)
    good("GET", "/v1/networks/{ref}", {"ref": "nosuch"}, status=404)
    good("DELETE", "/v1/networks/{ref}", {"ref": "nosuch"}, status=404)
    good("GET", "/v1/images")
    assert json.loads(good("POST", "/v1/images", body={"action": "import", "path": "/nosuch", "name": "x"}, query="?wait=0", status=202))["subject"] == "/nosuch"
    awaiting = json.loads(good("POST", "/v1/images", body={"action": "import", "upload": True, "source": "x.tar"}, status=202))
    good("PUT", "/v1/operations/{id}/content", awaiting, b"no tar", headers={"Content-Type": "application/octet-stream"})
    good("DELETE", "/v1/images", query="?name=nosuch", status=404)
    good("POST", "/v1/images/prune", body={"all": 1}, status=400)
    good("POST", "/v1/volumes", body={"name": "shape"}, status=201)
    good("GET", "/v1/volumes")
    good("GET", "/v1/volumes/{ref}", {"ref": "shape"})
    assert json.loads(good("POST", "/v1/volumes/prune")) == {"removed": ["shape"]}
    good("POST", "/v1/volumes", body={"name": "shape"}, status=201)
    good("DELETE", "/v1/volumes/{ref}", {"ref": "shape"})
    machine = {"ref": json.loads(good("POST", "/v1/instances", body={"isolation": "vm", "hardware": {"cpus": 2}, "name": "parts"}, status=201))["id"]}
    for part, key, body in (("disk", "disk", {"disk": "/dev/null", "read_only": True}), ("network", "id", {"id": "net0", "net": "user"})):
        if part == "disk":
            assert call(manager, document, "POST", f"{one}/attach-disk", machine, body)[0] == 400  # no disk
            body["disk"] = str(manager.socket.parent / "part.raw")
            open(body["disk"], "wb").truncate(1 << 20)
        good("POST", f"{one}/attach-{part}", machine, body)
        good("POST", f"{one}/detach-{part}", machine, {key: body[key]})
    good("DELETE", one, machine)
    good("GET", "/v1/disks")
    for path, body in (("", {"name": "no name", "size_bytes": 512}), ("/resize", {"disk": "-x", "size_bytes": 512}), ("/convert", {"disk": "./x", "new": "y"})):
        good("POST", "/v1/disks" + path, body=body, status=400)
    removed = call(manager, document, "DELETE", "/v1/disks/{name}", {"name": "nosuch"})
    assert removed[0] == 404, removed
    seen.add(("delete", "/v1/disks/{name}"))
    for verb, body in (("attach", None), ("exec", {"command": ["x"]}), ("copy", {"path": "/", "direction": "out"})):
        assert call(manager, document, "POST", f"{one}/{verb}", {"ref": "nosuch"}, body)[0] == 426
        seen.add(("post", f"{one}/{verb}"))
    jobs_as_described(good)
    described = {(method, path) for path, methods in document["paths"].items() for method in methods if method != "parameters"}
    assert seen == described


def test_the_server_has_no_route_that_is_not_described(document):
    source = (ROOT / "src" / "manager" / "api" / "routes.c").read_text()
    routes = {(method.lower(), path) for method, path in re.findall(r'\{"([A-Z]+)", "([^"]+)"', source)}
    assert routes == {(method, path) for path, methods in document["paths"].items() for method in methods if method != "parameters"}


HOSTILE = [b"", b"{", b"[]", b"null", b'"x"', b"{}" * 1000, b'{"a":' * 3000, b"\xff\xfe", b'{"image": 1}', b'{"image": ""}', b'{"image": "\\u0000"}',
           b'{"image": "busybox", "image": "busybox"}', b'{"image": "busybox", "command": [1]}', b'{"image": "busybox", "env": ["x"]}',
           b'{"image": "busybox", "labels": {"": ""}}', b'{"image": "busybox", "resources": {"pids": -1}}',
           b'{"image": "busybox", "resources": {"pids": 99999999999999999999}}', b'{"image": "busybox", "volumes": [{"source": "x", "target": "/"}]}',
           b'{"image": "../../etc/nosuch"}', b'{"signal": []}', b'{"timeout_s": -1}', b'{"command": []}', b'{"name": 1}', b'{"resources": []}']


def test_hostile_requests_are_answered(manager, document):
    """Every method on every path with every hostile body, references and queries among them."""
    refs = ["nosuch", "%00", "..%2f..", "a" * 4000, "%ff"]
    for number, (path, methods) in enumerate(document["paths"].items()):
        for method in methods:
            if method == "parameters" or (method, path) == ("get", "/v1/events"):
                continue
            real = re.sub(r"\{\w+\}", refs[number % len(refs)], path)
            for body in HOSTILE[:: 1 if method in ("post", "patch") else 8]:
                status, _, data = manager.request(method.upper(), real, body or None, {"Content-Type": "application/json"})
                assert status < 500, (method, real, body, status, data)
                assert not (body and path != "/metrics") or "error" in json.loads(data), (method, real, body, data)
    for query in ("wait=x", "wait=-1", "wait=99999999999999999999", "timeout=%00", "tail=x"):
        assert manager.request("GET", f"/v1/instances/nosuch/logs?{query}")[0] in (400, 404)
    assert manager.answers()


def test_hostile_bytes_do_not_end_it(manager):
    for data in (b"\0" * 100, b"GET /v1/info HTTP/1.1\r\n" + b"X: " + b"y" * 100000, b"POST /v1/instances HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
                 b"GET / HTTP/9.9\r\n\r\n", b"A" * 70000, b"POST /v1/instances HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(manager.socket))
            try:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                client.recv(4096)
            except OSError:
                pass
    assert manager.answers()


def test_nothing_grows(manager):
    """Descriptors and memory after many requests, once all threads have gone."""

    def used():
        text = manager.request("GET", "/metrics")[2].decode()
        return {name: int(re.search(rf"^lodge_{name} (\d+)", text, re.M).group(1)) for name in ("open_files", "resident_bytes")}

    def work(count):
        for number in range(count):
            name = f"grow{number}"
            manager.good("POST", "/v1/instances", {"image": "busybox", "name": name, "command": ["true"]})
            manager.ask("POST", "/v1/instances", {"image": "busybox", "name": name})
            manager.good("GET", f"/v1/instances/{name}")
            manager.good("DELETE", f"/v1/instances/{name}")

    work(40)
    before = used()
    work(120)
    after = used()
    assert after["open_files"] <= before["open_files"] + 4
    if "LODGE_SANITIZED" not in os.environ:  # which keeps what is freed
        assert after["resident_bytes"] < before["resident_bytes"] + (4 << 20)
    assert not list(itertools.islice((manager.dir / "state" / "instances").iterdir(), 1))
