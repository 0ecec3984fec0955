# SPDX-License-Identifier: Apache-2.0
"""Networks and disks that come to a running virtual machine of an image and go: its guest takes them, is reached over them, and has them
again after a restart; whoever is killed, nothing is doubled or left."""
import json
import re
import subprocess

import pytest

from conftest import need_root  # noqa: F401 (the fixtures need it)
from lodge_run import need_kernel
from patience import until
from test_manager_networks import SERVE, endpoints, host, interfaces, place, rules  # noqa: F401 (fixtures)


@pytest.fixture
def m(host, guest, program):  # noqa: F811
    need_kernel(guest, "cloud")
    program("lodge-vmm")
    return host


def refused(m, *arguments):
    """What is said when it is not done."""
    done = subprocess.run([*m.enter, m.bin / "lodge", *map(str, arguments)], env=m.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0, done
    return done.stderr


def networks(m, *names):
    """The first is 10.77.0.0/24, and so on."""
    for i, name in enumerate(names):
        m.lodge("network", "create", "--subnet", f"10.77.{i}.0/24", name)


def vm(m, name, *options, command=SERVE):
    m.lodge("run", "-d", "--vm", "--engine", "soft", "--memory", "128M", "--name", name, *options, "busybox", "sh", "-c", command, name)


def links(m, name):
    """Interfaces of the guest but the loopback, with their IPv4 addresses."""
    text = m.lodge("exec", name, "ip", "-o", "-4", "addr")
    return dict(re.findall(r"^\d+: (eth\d+) +inet ([0-9.]+)/", text, re.MULTILINE))


def reaches(m, who, whom):
    until(lambda: m.lodge("exec", who, "wget", "-qO-", f"http://{whom}/") == f"{whom}\n")


def test_a_second_network_comes_and_goes(m):
    networks(m, "front", "back")
    m.lodge("run", "-d", "--name", "web", "--net", "back", "busybox", "sh", "-c", SERVE, "web")
    vm(m, "box", "--net", "front")
    before = interfaces(m)
    m.lodge("network", "connect", "--ip", "10.77.1.9", "back", "box")
    assert endpoints(m, "back")["box"] == "10.77.1.9"
    assert links(m, "box") == {"eth0": endpoints(m, "front")["box"], "eth1": "10.77.1.9"}
    reaches(m, "box", "web")
    reaches(m, "web", "box")
    m.lodge("exec", "web", "ping", "-c", "1", "box")
    m.lodge("exec", "box", "ping", "-c", "1", "web")
    assert "on network 'back' already" in refused(m, "network", "connect", "back", "box")
    m.lodge("network", "disconnect", "back", "box")
    assert links(m, "box") == {"eth0": endpoints(m, "front")["box"]}
    assert interfaces(m) == before and list(endpoints(m, "back")) == ["web"]
    assert "not on network 'back'" in refused(m, "network", "disconnect", "back", "box")
    assert "no network 'nosuch'" in refused(m, "network", "connect", "nosuch", "box")


def test_from_none_to_one_and_back(m):
    networks(m, "front")
    m.lodge("run", "-d", "--name", "web", "--net", "front", "busybox", "sh", "-c", SERVE, "web")
    vm(m, "box")
    m.lodge("network", "connect", "front", "box")
    reaches(m, "box", "web")
    reaches(m, "web", "box")
    assert "default via 10.77.0.1" in m.lodge("exec", "box", "ip", "route")
    address = endpoints(m, "front")["box"]
    m.lodge("restart", "-t", "0", "box")
    assert links(m, "box") == {"eth0": address}
    reaches(m, "web", "box")
    # What was there when the machine started goes as well.
    m.lodge("network", "disconnect", "front", "box")
    assert links(m, "box") == {} and list(endpoints(m, "front")) == ["web"]
    m.lodge("network", "connect", "front", "box")
    reaches(m, "box", "web")


def test_a_restart_keeps_what_came(m):
    networks(m, "front", "back", "third")
    vm(m, "box", "--net", "front")
    m.lodge("network", "connect", "back", "box")
    m.lodge("network", "connect", "third", "box")
    had = {name: endpoints(m, name)["box"] for name in ("front", "back", "third")}
    m.lodge("restart", "-t", "0", "box")
    assert set(links(m, "box").values()) == set(had.values())
    assert {name: endpoints(m, name)["box"] for name in had} == had and len(interfaces(m)) == 3
    # The next one leads out when the first has gone.
    m.lodge("network", "disconnect", "front", "box")
    routes = m.lodge("exec", "box", "ip", "route")
    assert "default via 10.77.1.1" in routes and "10.77.0" not in routes, routes
    assert "nameserver 10.77.1.1" in m.lodge("exec", "box", "cat", "/etc/resolv.conf")
