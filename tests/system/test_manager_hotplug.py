# SPDX-License-Identifier: Apache-2.0
"""Networks and disks that come to a running virtual machine of an image and go: its guest takes them, is reached over them, and has them
again after a restart; whoever is killed, nothing is doubled or left."""
import random
import re
import subprocess
import time
from pathlib import Path

import pytest

from conftest import need_root  # noqa: F401 (the fixtures need it)
from lodge_run import need_kernel
from patience import until
from processes import processes
from test_manager_networks import SERVE, endpoints, host, interfaces, place  # noqa: F401 (fixtures)


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
    """Names of who has just come are known within a second."""
    words = [*m.enter, m.bin / "lodge", "exec", who, "wget", "-qO-", f"http://{whom}/"]
    until(lambda: subprocess.run(words, env=m.environment, stdout=subprocess.PIPE, text=True, timeout=120).stdout == f"{whom}\n")


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
    vm(m, "box", "--net", "front", command="echo begun; ip -4 addr; sleep 100000")
    m.lodge("network", "connect", "back", "box")
    m.lodge("network", "connect", "third", "box")
    had = {name: endpoints(m, name)["box"] for name in ("front", "back", "third")}
    m.lodge("restart", "-t", "0", "box")
    assert set(links(m, "box").values()) == set(had.values())
    assert {name: endpoints(m, name)["box"] for name in had} == had and len(interfaces(m)) == 3
    # And its command has had them all from the beginning.
    assert set(re.findall(r"inet (10[.0-9]+)/", m.lodge("logs", "box").rpartition("begun")[2])) == set(had.values())
    # The next one leads out when the first has gone.
    m.lodge("network", "disconnect", "front", "box")
    routes = m.lodge("exec", "box", "ip", "route")
    assert "default via 10.77.1.1" in routes and "10.77.0" not in routes, routes
    assert "nameserver 10.77.1.1" in m.lodge("exec", "box", "cat", "/etc/resolv.conf")


def disks_of(m, name):
    return [disk["disk"] for disk in m.inspect(name)["spec"].get("disks", [])]


def sh(m, name, command, **options):
    return m.lodge("exec", name, "sh", "-c", command, **options)


def device(m, instance, disk):
    return m.lodge("exec", instance, "readlink", "-f", f"/dev/disk/by-id/virtio-{disk}").strip()


@pytest.fixture
def disks(m):
    """Names of disks that the test may make; they go at its end."""
    names = []

    def make(name, *options):
        m.lodge("disk", "create", *options, name, "16M")
        names.append(name)
        return name

    yield make
    for instance in m.good("GET", "/v1/instances?all=1")["instances"]:
        m.good("DELETE", f"/v1/instances/{instance['id']}?force=1")
    for name in names:
        m.lodge("disk", "rm", name)


@pytest.fixture
def unique(m):
    """Names of disks are the store's, which tests share."""
    return lambda name: f"{name}{m.process.pid}"


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_disk_goes_from_one_to_another(m, disks, unique, form):
    """What one guest wrote another reads; and each has it again after a restart."""
    name = disks(unique("d"), "--format", form)
    vm(m, "one", command="sleep 100000")
    vm(m, "two", command="sleep 100000")
    m.lodge("disk", "attach", name, "one")
    at = device(m, "one", name)
    assert at == "/dev/vdc" and disks_of(m, "one") == [name]
    assert m.good("GET", "/v1/disks")["disks"] and f"is attached to 'one'" in refused(m, "disk", "attach", name, "two")
    assert "attached to 'one'" in refused(m, "disk", "rm", name)
    sh(m, "one", f"mke2fs {at} >/dev/null 2>&1; mkdir /d; mount -t ext2 {at} /d; echo 'first words' >/d/file")
    assert f"'{at}' is in use there at '/d'" in refused(m, "disk", "detach", name, "one")
    sh(m, "one", "umount /d")
    m.lodge("disk", "detach", name, "one")
    assert sh(m, "one", f"ls {at} /dev/disk/by-id 2>&1; true").count("No such file") == 1 and disks_of(m, "one") == []
    m.lodge("disk", "attach", name, "two")
    sh(m, "two", f"mkdir /d; mount -t ext2 {device(m, 'two', name)} /d")
    assert m.lodge("exec", "two", "cat", "/d/file") == "first words\n"
    sh(m, "two", "echo 'and more' >>/d/file; sync")
    m.lodge("restart", "two")
    sh(m, "two", f"mount -t ext2 {device(m, 'two', name)} /d")
    assert m.lodge("exec", "two", "cat", "/d/file") == "first words\nand more\n"
    sh(m, "two", "umount /d")
    m.lodge("disk", "detach", name, "two")  # it was there when the machine started
    assert disks_of(m, "two") == []


def test_two_at_once_one_for_reading(m, disks, unique):
    first, second = disks(unique("a")), disks(unique("b"), "--format", "qcow2")
    networks(m, "front")
    vm(m, "box", command="sleep 100000")
    # One after the other, whatever the order in which they are asked for.
    asked = [subprocess.Popen([*m.enter, m.bin / "lodge", *words], env=m.environment)
             for words in (("disk", "attach", first, "box"), ("disk", "attach", "--read-only", second, "box"), ("network", "connect", "front", "box"))]
    assert [process.wait(120) for process in asked] == [0, 0, 0]
    assert {device(m, "box", first), device(m, "box", second)} == {"/dev/vdc", "/dev/vdd"}
    assert "1" in sh(m, "box", f"cat /sys/block/$(basename {device(m, 'box', second)})/ro")
    assert links(m, "box") == {"eth0": endpoints(m, "front")["box"]}
    m.lodge("disk", "detach", first, "box")
    m.lodge("disk", "detach", second, "box")
    assert sh(m, "box", "ls /dev | grep -c vd[c-z]; true") == "0\n"


def test_what_a_disk_is_refused_for(m, disks, unique):
    name = disks(unique("d"))
    vm(m, "box", command="sleep 100000")
    m.lodge("run", "-d", "--name", "jar", "busybox", "sleep", "100000")
    assert "no disk 'nosuch'" in refused(m, "disk", "attach", "nosuch", "box")
    assert "is a container, which takes no disks" in refused(m, "disk", "attach", name, "jar")
    assert f"'{name}' is not attached to 'box'" in refused(m, "disk", "detach", name, "box")
    m.lodge("pause", "box")
    assert "is paused" in refused(m, "disk", "attach", name, "box")
    m.lodge("resume", "box")
    assert disks_of(m, "box") == []
    m.lodge("stop", "-t", "0", "box")
    m.lodge("disk", "attach", name, "box")
    assert "is attached to 'box' already" in refused(m, "disk", "attach", name, "box")
    m.lodge("start", "box")
    assert device(m, "box", name) == "/dev/vdc"
    status, answer = m.ask("PATCH", "/v1/instances/box", {"disks": []})
    assert status == 400 and "detach-disk" in answer["error"]["message"]


def test_a_guest_that_does_not_let_go(m, disks, unique):
    """Its root stops whatever the agent would do: an error after a time; by force the disk is free at once."""
    name = disks(unique("d"))
    networks(m, "front")
    vm(m, "box", command="sleep 100000")
    m.lodge("disk", "attach", name, "box")
    m.lodge("network", "connect", "front", "box")
    sh(m, "box", "mount -t tmpfs none /sys")
    assert "the guest of 'box'" in refused(m, "network", "disconnect", "front", "box")
    assert "box" in endpoints(m, "front")
    before = disks_of(m, "box")
    assert before == [name]
    m.lodge("disk", "detach", "--force", name, "box")
    assert disks_of(m, "box") == []
    assert "has not let go of it yet" in refused(m, "disk", "attach", name, "box")
    vm(m, "other", command="sleep 100000")
    m.lodge("disk", "attach", name, "other")
    assert device(m, "other", name) == "/dev/vdc"


def named(m, instance):
    spec = m.inspect(instance)["spec"]
    return {name for name in [spec.get("network", "none"), *spec.get("networks", [])] if name != "none"}


def agreed(m, disk):
    """What is stored, what the host gave, what the monitor and the guest have: the same."""
    nets = named(m, "box")
    placed = {name: places["box"] for name in ("front", "back") if "box" in (places := endpoints(m, name))}
    found = sh(m, "box", f"cat /sys/block/vd[c-z]/serial 2>/dev/null; true").split()
    return set(placed) == nets and len(interfaces(m)) == len(nets) and set(links(m, "box").values()) == set(placed.values()) and found == disks_of(m, "box")


def test_a_manager_killed_meanwhile(m, disks, unique):
    """At many moments: the next manager makes the machine what is stored, which is as before the request or as after it."""
    name = disks(unique("d"))
    networks(m, "front", "back")
    vm(m, "box", "--net", "front", command="sleep 100000")
    moments = random.Random(5)
    for words, undo in [(("network", "connect", "back", "box"), ("network", "disconnect", "back", "box")),
                        (("disk", "attach", name, "box"), ("disk", "detach", name, "box"))] * 4:
        for request in (words, undo):
            process = subprocess.Popen([*m.enter, m.bin / "lodge", *request], env={**m.environment, "LODGED": "/bin/false"},
                                       stderr=subprocess.DEVNULL)  # which starts no manager itself
            time.sleep(moments.choice((0.004, 0.01, 0.02, 0.04, 0.08)))
            m.kill()
            process.wait(60)
            m.start()
            until(lambda: agreed(m, name))
    m.lodge("restart", "-t", "0", "box")
    until(lambda: agreed(m, name))


def test_an_agent_that_is_held_up(plain_build, m, disks, unique):
    """Whatever program of its agent the guest stops at once: the request ends with an error, and nothing has changed."""
    networks(m, "front")
    name = disks(unique("d"))
    hold = "until [ -e /go ]; do sleep 0.1; done; while :; do for p in /proc/[0-9]*; do [ ${p#/proc/} -gt $$ ] && read c <$p/comm && [ \"$c\" = init ] && kill -STOP ${p#/proc/}; done; done 2>/dev/null"
    vm(m, "box", command=hold)
    m.lodge("disk", "attach", name, "box")
    sh(m, "box", "touch /go")
    said = refused(m, "network", "connect", "front", "box")
    assert "did not do its part (net-attach) within 30 seconds" in said, said
    assert named(m, "box") == set() and endpoints(m, "front") == {} and interfaces(m) == set()
    assert "did not do its part (disk-detach) within 20 seconds" in refused(m, "disk", "detach", name, "box")
    assert disks_of(m, "box") == [name]
    m.lodge("disk", "detach", "--force", name, "box")
    assert disks_of(m, "box") == []


def test_nothing_grows(m, disks, unique):
    """The monitor's and the manager's open files and threads, over many that came and went."""
    networks(m, "front")
    name = disks(unique("d"))
    vm(m, "box", command="sleep 100000")
    directory = str(m.dir / "run" / "i" / m.inspect("box")["id"])
    monitor = next(pid for pid, words in processes() if words[0].endswith("lodge-vmm") and any(directory in word for word in words))

    def counted():
        return [len(list(Path(f"/proc/{pid}/{what}").iterdir())) for pid, what in ((monitor, "fd"), (monitor, "task"), (m.process.pid, "fd"))]

    def cycle():
        m.lodge("network", "connect", "front", "box")
        m.lodge("disk", "attach", name, "box")
        m.lodge("network", "disconnect", "front", "box")
        m.lodge("disk", "detach", name, "box")

    cycle()
    before = counted()
    for _ in range(10):
        cycle()
    # What is left over at each is ten by now; what the manager has open for others comes and goes.
    until(lambda: all(now < then + 10 for now, then in zip(counted(), before)))
