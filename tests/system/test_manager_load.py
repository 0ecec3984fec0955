# SPDX-License-Identifier: Apache-2.0
"""Many clients at once, each with all verbs, on instances of their own and on each other's; some seconds long. The manager under
ThreadSanitizer is put to the same load by tools/run_tests.py, which names it in LODGE_TEST_LODGED."""
import json
import random
import threading
import time

import pytest

from conftest import manager_of_test
from manager import Connection

CLIENTS = 12
SECONDS = 4
SHARED = ("shared0", "shared1", "shared2")
# Of what others may have removed, stopped or taken meanwhile: not found, not now, broken off.
RACE = (404, 409, 422)


manager = pytest.fixture(manager_of_test)


class Client(threading.Thread):
    def __init__(self, manager, number, end, troubles):
        super().__init__()
        self.manager, self.number, self.end, self.troubles = manager, number, end, troubles
        self.chance = random.Random(number)
        self.rounds = 0

    def ask(self, method, path, body=None, also=()):
        status, _, data = self.manager.request(method, path, body)
        if not 200 <= status < 300 and status not in also:
            self.troubles.append((method, path, status, data[:300]))
        return status

    def run(self):
        try:
            while time.monotonic() < self.end and not self.troubles:
                self.rounds += 1
                self.chance.choice((self.whole_life, self.whole_life, self.short_life, self.look, self.work_on_shared))()
        except Exception as failure:
            self.troubles.append(repr(failure))

    def whole_life(self):
        name = f"load{self.number}-{self.rounds}"
        one = f"/v1/instances/{name}"
        self.ask("POST", "/v1/instances", {"image": "busybox", "name": name, "command": ["sh", "-c", "while :; do date; sleep 0.05; done"], "labels": {"of": str(self.number)}})
        self.ask("POST", one + "/start")
        for verb in ("pause", "resume"):
            self.ask("POST", f"{one}/{verb}")
        self.ask("PATCH", one, {"resources": {"pids": 50}, "labels": {"more": "x"}})
        self.ask("PATCH", one, {"name": name + "b"})
        one += "b"
        for what in ("", "/stats", "/top", "/logs?tail=5"):
            self.ask("GET", one + what)
        if self.chance.random() < 0.5:
            self.ask("POST", one + "/stop", {"timeout_s": 0})
            self.ask("GET", one + "/wait")
        self.ask("DELETE", one + "?force=1")

    def short_life(self):
        name = f"short{self.number}-{self.rounds}"
        self.ask("POST", "/v1/instances", {"image": "busybox", "name": name, "command": ["true"], "auto_remove": True})
        self.ask("POST", f"/v1/instances/{name}/start?wait=0")
        self.ask("GET", f"/v1/instances/{name}/wait?condition=removed&timeout=60", also=(404,))

    def look(self):
        for path in ("/v1/instances?all=1", "/v1/events?follow=0", "/metrics", "/v1/info", "/v1/operations", "/openapi.json"):
            self.ask("GET", path)
        connection = Connection(self.manager.socket)  # and one that goes in the middle of a stream
        connection.request("GET", "/v1/events?follow=1")
        connection.getresponse().read(10)
        connection.close()

    def work_on_shared(self):
        name = self.chance.choice(SHARED)
        one = f"/v1/instances/{name}"
        self.ask("POST", "/v1/instances", {"image": "busybox", "name": name, "command": ["sleep", "1000"], "restart": {"policy": "always"}}, also=(409,))
        for method, rest, body in self.chance.sample([("POST", "/start", None), ("POST", "/stop", {"timeout_s": 0}), ("POST", "/kill", {"signal": "KILL"}), ("POST", "/pause", None),
                                                      ("POST", "/resume", None), ("POST", "/restart", {"timeout_s": 0}), ("DELETE", "?force=1", None), ("GET", "/stats", None)], 4):
            self.ask(method, one + rest, body, also=RACE)


def test_many_clients_with_all_verbs(manager):
    troubles = []
    clients = [Client(manager, number, time.monotonic() + SECONDS, troubles) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(240)
        assert not client.is_alive(), "a request is not answered"
    assert not troubles, f"{troubles[:3]}\n{manager.log.read_text()[-9000:]}"
    assert sum(client.rounds for client in clients) > CLIENTS
    left = {i["name"] for i in json.loads(manager.request("GET", "/v1/instances?all=1")[2])["instances"]}
    assert left <= set(SHARED)
    for name in left:
        manager.good("DELETE", f"/v1/instances/{name}?force=1")
    assert "ThreadSanitizer" not in manager.log.read_text()
