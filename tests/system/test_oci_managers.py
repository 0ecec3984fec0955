# SPDX-License-Identifier: Apache-2.0
"""What service managers and engines expect of the runtime besides the container: socket activation, reports of readiness,
exec's rarer options, and answers in the forms that runc gives."""
import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest

from conftest import need_command
from patience import PATIENCE_S
from test_oci import rootfs  # noqa: F401 (a fixture)
from test_oci_verbs import Container, cgroup_paths, container, sleeping  # noqa: F401 (fixtures)


def test_sockets_are_passed_on(container):  # noqa: F811
    """LISTEN_FDS is for the process that LISTEN_PID names only."""
    container.write("sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; readlink /proc/self/fd/3; readlink /proc/self/fd/4 || echo no more")
    read, write = os.pipe()
    command = " ".join(container.command("run", "--bundle", str(container.bundle), container.name))

    def run(pid):
        script = f"LISTEN_PID={pid} LISTEN_FDS=1 exec {command}"
        return subprocess.run(["sh", "-c", script], text=True, capture_output=True, preexec_fn=lambda: os.dup2(read, 3), pass_fds=[3],
                              timeout=PATIENCE_S).stdout

    target = os.readlink(f"/proc/self/fd/{read}")
    assert run("$$") == f"1 1\n{target}\nno more\n"
    assert run("1") == "\nno more\n"
    os.close(read)
    os.close(write)


class Manager:
    """The end of NOTIFY_SOCKET that a service manager has."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(PATIENCE_S)
        self.env = dict(os.environ, NOTIFY_SOCKET=str(path))

    def said(self):
        return self.socket.recv(4096).decode()


# busybox cannot send a datagram to a unix socket.
REPORTER = """
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
for line in sys.argv[1:]:
    s.send(line.replace("|", chr(10)).encode())
time.sleep(1000)
"""


@pytest.fixture
def reporter(container, tmp_path):  # noqa: F811
    """The container runs the host's Python; returns the manager."""
    python = "/usr/bin/python3"
    if not Path(python).exists():
        pytest.skip("needs /usr/bin/python3")
    for place in ("/usr", "/lib", "/lib64"):
        if Path(place).is_dir():
            container.config["mounts"].append({"destination": place, "type": "bind", "source": place, "options": ["bind", "ro"]})
    container.arguments = [python, "-c", REPORTER]
    os.chdir(tmp_path)
    return Manager(tmp_path / "m")


def test_readiness_is_reported(container, reporter):  # noqa: F811
    container.write(*container.arguments, "MAINPID=1|FDSTORE=1", "STATUS=warm", "READY=1")
    child = subprocess.Popen(container.command("run", "--bundle", str(container.bundle), container.name), env=reporter.env)
    assert reporter.said() == "STATUS=warm"
    report = reporter.said()
    pid = json.loads(container.verb("state", container.name))["pid"]
    assert report == f"READY=1\nMAINPID={pid}"
    container.verb("kill", container.name, "KILL")
    assert child.wait(PATIENCE_S) == 137


@pytest.mark.parametrize("how", ["run", "start"])
def test_a_detached_start_waits_for_readiness(container, reporter, how):  # noqa: F811
    container.write(*container.arguments, "READY=1")
    options = dict(env=reporter.env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   timeout=PATIENCE_S)
    if how == "run":
        subprocess.run(container.command("run", "--detach", "--bundle", str(container.bundle), container.name), **options)
    else:
        subprocess.run(container.command("create", "--bundle", str(container.bundle), container.name), **options)
        subprocess.run(container.command("start", container.name), **options)
    reporter.socket.settimeout(0.5)
    assert reporter.said().startswith("READY=1\nMAINPID=")


def test_a_program_that_ends_is_not_waited_for(container, reporter):  # noqa: F811
    container.write("true")
    subprocess.run(container.command("run", "--detach", "--bundle", str(container.bundle), container.name), env=reporter.env,
                   check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=PATIENCE_S)


def hierarchies():
    return [p for p in Path("/sys/fs/cgroup").iterdir() if (p / "cgroup.procs").exists()] or [Path("/sys/fs/cgroup")]


def test_exec_in_a_cgroup_below(sleeping):  # noqa: F811
    below = [h / sleeping.name / "sub" for h in hierarchies() if (h / sleeping.name).exists()]
    for path in below:
        path.mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):
            if path.parent.parent.name == "cpuset":
                (path / file).write_text((path.parent / file).read_text())
    assert set(cgroup_paths(sleeping.exec("cat", "/proc/self/cgroup", options=["--cgroup", "sub"])).values()) == {"/sub"}
    assert "does not exist" in sleeping.exec("true", options=["--cgroup", "none"], status=255)
    assert "leaves" in sleeping.exec("true", options=["--cgroup", "../x"], status=255)
    if len(below) > 1:
        inside = sleeping.exec("cat", "/proc/self/cgroup", options=["--cgroup", "pids,memory:/sub"])
        found = cgroup_paths(inside)
        assert found["pids"] == "/sub" and found["memory"] == "/sub" and found["freezer"] == "/"


@pytest.mark.parametrize("option,module", [("--apparmor", "AppArmor"), ("--process-label", "SELinux")])
def test_exec_with_a_label_that_the_host_does_not_know(sleeping, option, module):  # noqa: F811
    if module == "AppArmor" and Path("/sys/module/apparmor/parameters/enabled").exists() or Path("/sys/fs/selinux/status").exists():
        pytest.skip(f"this host may have {module}")
    assert f"no {module}" in sleeping.exec("true", options=[option, "label"], status=255)


def test_a_mount_label_needs_its_module(container):  # noqa: F811
    if Path("/sys/fs/selinux/status").exists():
        pytest.skip("this host has SELinux")
    container.config["linux"]["mountLabel"] = "system_u:object_r:container_file_t:s0:c1,c2"
    done = container.run("true", check=False)
    assert done.returncode == 1 and "linux.mountLabel" in done.stderr and "no SELinux" in done.stderr
    container.config["linux"]["mountLabel"] = ""
    container.run("true")


def test_memory_policy(container):  # noqa: F811
    if not Path("/proc/self/numa_maps").exists():
        pytest.skip("this kernel has no NUMA policies")
    container.config["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}
    lines = container.run("cat", "/proc/self/numa_maps").stdout.splitlines()
    assert any(re.match(r"\S+ bind=static:0 ", line) for line in lines), lines
    container.config["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "1000"}
    assert "linux.memoryPolicy" in container.run("true", check=False).stderr


def test_systemds_cgroups_are_refused(container):  # noqa: F811
    container.write("true")
    done = subprocess.run([container.program, "--systemd-cgroup", "--root", container.state, "run", "--bundle", container.bundle,
                           container.name], text=True, capture_output=True)
    assert done.returncode == 1 and "--systemd-cgroup" in done.stderr and "cgroupfs" in done.stderr


def test_list_in_all_forms(sleeping):  # noqa: F811
    assert sleeping.verb("list", "--quiet") == sleeping.verb("list", "-q") == f"{sleeping.name}\n"
    heading, line = sleeping.verb("list").splitlines()
    assert heading.split() == "ID PID STATUS BUNDLE CREATED OWNER".split()
    assert line.split()[0] == sleeping.name and line.split()[2] == "running" and line.split()[5] == "root"
    runc = need_command("runc")
    peer = Container(runc, sleeping.rootfs, sleeping.bundle.parent / "peer")
    try:
        peer.config["process"]["args"] = ["sleep", "100"]
        peer.start("sleep", "100")
        theirs, = json.loads(peer.verb("list", "--format", "json"))
        ours, = json.loads(sleeping.verb("list", "--format", "json"))
        assert set(theirs) <= set(ours)
        theirs, ours = json.loads(peer.verb("state", peer.name)), json.loads(sleeping.verb("state", sleeping.name))
        assert set(theirs) <= set(ours)
        assert peer.verb("list").splitlines()[0].split() == heading.split()
        table = peer.verb("ps", peer.name).splitlines()
        assert sleeping.verb("ps", sleeping.name).splitlines()[0] == table[0]
        assert len(sleeping.verb("ps", sleeping.name, "-o", "pid,args").splitlines()) == 2
        stats = json.loads(peer.verb("events", "--stats", peer.name))["data"]
        own = json.loads(sleeping.verb("events", "--stats", sleeping.name))["data"]
        assert {"cpu", "memory", "pids"} <= set(own) and set(stats) - set(own) <= {"cpuset"}
    finally:
        peer.verb("delete", "--force", peer.name)


def test_events_at_an_interval(sleeping):  # noqa: F811
    """Often as asked for, which a host with other work only stretches: the default of 5 s would take 100."""
    begun = time.monotonic()
    child = subprocess.Popen(sleeping.command("events", "--interval", "50ms", sleeping.name), text=True, stdout=subprocess.PIPE)
    for _ in range(21):
        assert json.loads(child.stdout.readline())["type"] == "stats"
    assert 20 * 0.05 <= time.monotonic() - begun < 90
    sleeping.verb("kill", sleeping.name, "KILL")
    assert child.wait(PATIENCE_S) == 0


def test_features_have_all_members(container):  # noqa: F811
    features = json.loads(container.verb("features"))
    assert set(features) >= {"ociVersionMin", "ociVersionMax", "hooks", "mountOptions", "linux", "annotations",
                             "potentiallyUnsafeConfigAnnotations"}
    assert set(features["linux"]) >= {"namespaces", "capabilities", "cgroup", "seccomp", "apparmor", "selinux", "intelRdt",
                                      "mountExtensions", "memoryPolicy"}
    assert features["linux"]["mountExtensions"]["idmap"]["enabled"]
    assert set(features["linux"]["namespaces"]) >= {"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"}
    seccomp = features["linux"]["seccomp"]
    assert "SCMP_ACT_NOTIFY" in seccomp["actions"] and "SCMP_CMP_MASKED_EQ" in seccomp["operators"]
    assert "SCMP_ARCH_X86_64" in seccomp["archs"] and "SECCOMP_FILTER_FLAG_LOG" in seccomp["knownFlags"]


@pytest.mark.parametrize("verb", "run create start exec kill delete pause resume state list ps update events spec features checkpoint restore".split())
def test_each_verb_explains_itself(container, verb):  # noqa: F811
    """Engines probe a runtime by `checkpoint --help`."""
    assert verb in container.verb(verb, "--help")


def test_classes_of_service_need_resctrl(container):  # noqa: F811
    if Path("/sys/fs/resctrl/schemata").exists():
        pytest.skip("this host has resctrl")
    container.config["linux"]["intelRdt"] = {"closID": "gold"}
    done = container.run("true", check=False)
    assert done.returncode == 1 and "linux.intelRdt" in done.stderr and "resctrl" in done.stderr
    container.nothing_left()
    del container.config["linux"]["intelRdt"]
    container.start("sleep", "1000")
    assert "without linux.intelRdt" in container.verb("update", "--l3-cache-schema", "L3:0=f", container.name, status=1)


def test_a_network_device_moves_in(container):  # noqa: F811
    """With its addresses, under another name, set up; a wrong one is named and leaves nothing."""
    need_command("ip")
    name, peer = f"lo{os.getpid() % 100000}a", f"lo{os.getpid() % 100000}b"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", peer], check=True)
    try:
        subprocess.run(["ip", "address", "add", "10.213.7.5/24", "broadcast", "+", "dev", name], check=True)
        subprocess.run(["ip", "address", "add", "fd00:213::5/64", "dev", name], check=True)
        container.config["linux"]["netDevices"] = {name: {"name": "inside0"}}
        container.start("sleep", "1000")
        pid = json.loads(container.verb("state", container.name))["pid"]
        links = json.loads(subprocess.check_output(["nsenter", "--net", "--target", str(pid), "ip", "--json", "address"]))
        link, = (item for item in links if item["ifname"] == "inside0")
        found = {(a["local"], a["prefixlen"]) for a in link["addr_info"] if a["scope"] == "global"}
        assert found == {("10.213.7.5", 24), ("fd00:213::5", 64)} and "UP" in link["flags"]
        assert subprocess.run(["ip", "link", "show", name], capture_output=True).returncode != 0
        container.verb("delete", "--force", container.name)
        done = container.run("true", check=False)
        assert done.returncode == 1 and name in done.stderr
        container.nothing_left()
    finally:
        subprocess.run(["ip", "link", "delete", peer], capture_output=True)
