# SPDX-License-Identifier: Apache-2.0
"""lodge-oci behind Slurm (srun --container): a private cluster of one node on the loopback device, with munged, slurmctld
and slurmd as children of the test, and everything they write below a temporary directory."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from conftest import need_command, need_root
from network import free_port
from patience import PATIENCE_S, until
from test_oci import rootfs  # noqa: F401 (a fixture)


CONFIG = """
ClusterName=lodge
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/m/socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/linear
ReturnToService=2
SlurmdDebug=debug
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=1 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

# A name has to tell the steps apart, and the cluster from others on this host.
NAME = f"lodge-test-{os.getpid()}-%n.%u.%j.%s.%t"

OCI = """
RunTimeRun="{runtime} run --bundle=%b {name}"
RunTimeQuery="{runtime} state {name}"
RunTimeKill="{runtime} kill -a {name} SIGTERM"
RunTimeDelete="{runtime} delete --force {name}"
"""


class Cluster:
    def __init__(self, place, runtime):
        self.place = place
        self.children = []
        self.host = socket.gethostname().split(".")[0]
        for name in ("state", "spool", "m", "ids"):
            (place / name).mkdir(mode=0o755)
        self.root = place / "ids"
        self.runtime = f"{runtime} --root={self.root}"
        (place / "slurm.conf").write_text(CONFIG.format(host=self.host, place=place, ports=(free_port(), free_port())))
        (place / "oci.conf").write_text(OCI.format(runtime=self.runtime, name=NAME))
        (place / "key").write_bytes(os.urandom(128))
        (place / "key").chmod(0o400)
        self.env = dict(os.environ, SLURM_CONF=str(place / "slurm.conf"))

    def child(self, *command):
        log = open(self.place / f"{Path(command[0]).name}.out", "w")
        self.children.append(subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                              env=self.env))

    def start(self):
        munge = self.place / "m"
        self.child("munged", "--foreground", "--force", f"--socket={munge}/socket", f"--key-file={self.place}/key",
                   f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed", "--num-threads=2")
        self.wait(lambda: (munge / "socket").exists(), "munged")
        self.child("slurmctld", "-D", "-f", self.place / "slurm.conf")
        self.child("slurmd", "-D", "-f", self.place / "slurm.conf", "-N", self.host)
        self.wait(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%T").stdout, "the node")

    def wait(self, condition, what, seconds=PATIENCE_S):
        deadline = time.monotonic() + seconds
        while not condition():
            dead = [c for c in self.children if c.poll() is not None]
            if dead or time.monotonic() > deadline:
                said = "".join(f.read_text()[-400:] for f in self.place.glob("*.out"))
                pytest.skip(f"Slurm does not start here ({what}): {said}")
            time.sleep(0.1)

    def run(self, *command, **options):
        return subprocess.run([str(c) for c in command], text=True, capture_output=True, timeout=60, env=self.env, **options)

    def srun(self, bundle, *args):
        return self.run("srun", f"--container={bundle}", *args)

    def stop(self):
        for child in reversed(self.children):
            child.terminate()
        for child in self.children:
            try:
                child.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        # Step managers leave the daemon's session; their environment tells whose they are.
        for environment in Path("/proc").glob("[0-9]*/environ"):
            try:
                if str(self.place / "slurm.conf").encode() in environment.read_bytes():
                    os.kill(int(environment.parent.name), signal.SIGKILL)
            except OSError:
                pass


@pytest.fixture(scope="module")
def cluster(program):
    need_root()
    for name in ("munged", "slurmctld", "slurmd", "srun", "scancel", "sinfo"):
        need_command(name)
    place = Path(tempfile.mkdtemp(prefix="lodge-slurm-"))
    place.chmod(0o755)
    made = Cluster(place, program("lodge-oci"))
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def bundle(cluster, rootfs, tmp_path, program):  # noqa: F811
    """A bundle; its program is what srun's command line says."""
    path = Path(tempfile.mkdtemp(prefix="bundle-", dir=cluster.place))
    subprocess.run([program("lodge-oci"), "spec", "--bundle", path], check=True)
    config = json.loads((path / "config.json").read_text())
    config["process"]["terminal"] = False
    # Slurm takes the root to be in the bundle.
    shutil.copytree(rootfs, path / "rootfs", symlinks=True)
    config["root"] = {"path": "rootfs", "readonly": False}
    (path / "config.json").write_text(json.dumps(config))
    yield path
    assert not list(cluster.root.iterdir()), "a container is left"


def test_srun_has_output_and_status(cluster, bundle):
    done = cluster.srun(bundle, "/bin/sh", "-c", "echo from $(hostname); echo problem >&2; exit 42")
    assert "from lodge" in done.stdout and "problem" in done.stderr, (done.stdout, done.stderr)
    assert done.returncode == 42, done.stderr
    assert cluster.srun(bundle, "/bin/true").returncode == 0


def test_srun_passes_input_and_environment(cluster, bundle):
    done = cluster.run("srun", f"--container={bundle}", "/bin/cat", input="through\n")
    assert done.stdout == "through\n", done.stderr
    assert "SLURM_JOB_ID=" in cluster.srun(bundle, "/bin/env").stdout


def test_a_cancelled_job_ends(cluster, bundle):
    child = subprocess.Popen(["srun", f"--container={bundle}", "/bin/sh", "-c", "echo ready; sleep 1000"], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cluster.env)
    try:
        assert child.stdout.readline() == "ready\n"
        job = cluster.run("squeue", "--noheader", "--format=%i").stdout.strip()
        assert cluster.run("scancel", job).returncode == 0
        child.wait(PATIENCE_S)
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            child.wait()
        child.stdout.close()
        child.stderr.close()
    until(lambda: not list(cluster.root.iterdir()) and not cluster.run("squeue", "--noheader").stdout)
    # Slurm asked for the state, and let the container be removed.
    log = (cluster.place / "slurmd.log").read_text()
    assert re.search("RunTimeQuery.*rc:0", log) and re.search("RunTimeDelete rc:0", log)
