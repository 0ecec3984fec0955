# SPDX-License-Identifier: Apache-2.0
"""A manager of a test's own: its directories, its API and its command line."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from patience import PATIENCE_S, until
from processes import processes


class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout=PATIENCE_S):
        super().__init__("lodge", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Manager:
    def __init__(self, build, guest, enter=()):
        """enter: words before each command, such as those of nsenter."""
        self.enter = list(enter)
        self.dir = Path(tempfile.mkdtemp(prefix="lm", dir="/tmp"))
        self.socket = self.dir / "run" / "lodged.sock"
        self.log = self.dir / "lodged.log"
        self.bin = Path(build) / "bin"
        self.environment = {**os.environ, "LODGE_MANAGER": str(self.dir), "LODGE_HOME": str(guest),
                            "LODGE_NETWORKS": str(self.dir / "networks"), "LODGE_VOLUMES": str(self.dir / "volumes")}
        self.environment.pop("LODGE_SOCKET", None)
        self.process = None
        self.program = os.environ.get("LODGE_TEST_LODGED", self.bin / "lodged")  # one of another build, such as with ThreadSanitizer
        self.arguments = []  # of lodged

    def launch(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*self.enter, self.program, *self.arguments], stderr=log, env=self.environment)

    def start(self):
        self.launch()
        until(self.answers)
        return self

    def answers(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.ask("GET", "/v1/info")[0] == 200
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0, self.log.read_text()

    def request(self, method, path, body=None, headers=None):
        """Status, headers and the body's bytes."""
        connection = Connection(self.socket)
        try:
            headers = dict(headers or {})
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode()
                headers.setdefault("Content-Type", "application/json")
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def ask(self, method, path, body=None):
        status, _, data = self.request(method, path, body)
        return status, json.loads(data) if data else None

    def good(self, method, path, body=None):
        status, answer = self.ask(method, path, body)
        assert 200 <= status < 300, (method, path, status, answer)
        return answer

    def create(self, *command, start=False, **members):
        made = self.good("POST", "/v1/instances", {"image": "busybox", "command": list(command), **members})
        if start:
            self.good("POST", f"/v1/instances/{made['id']}/start")
        return made["id"]

    def inspect(self, ref):
        return self.good("GET", f"/v1/instances/{ref}")

    def lodge(self, *arguments, status=0, **options):
        done = subprocess.run([*self.enter, self.bin / "lodge", *map(str, arguments)], env=self.environment, capture_output=True, text=True,
                              timeout=120, **options)
        assert done.returncode == status, (arguments, done)
        return done.stdout

    def shims(self):
        """Pids of the shims below our directory."""
        return [pid for pid, words in processes() if words[0].endswith("lodge-shim") and str(self.dir) in words[1]]

    def end(self):
        """Removes what there is, and ends; the directory stays."""
        if self.process.poll() is not None:
            self.start()
        for instance in self.good("GET", "/v1/instances?all=1")["instances"]:
            self.ask("DELETE", f"/v1/instances/{instance['id']}?force=1")
        self.stop()
        until(lambda: not self.shims())

    def close(self):
        self.end()
        shutil.rmtree(self.dir)
