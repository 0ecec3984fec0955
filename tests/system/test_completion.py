# SPDX-License-Identifier: Apache-2.0
"""Completion as the shells see it: the script is sourced, and what a Tab would offer is read back."""
import os
import re
import shutil
import subprocess

import pytest

from conftest import need_command
from patience import PATIENCE_S


@pytest.fixture
def store(tmp_path):
    """Two images and a kernel, as far as listings look."""
    for name in ("busybox", "blue"):
        (tmp_path / "images" / name / "rootfs").mkdir(parents=True)
        (tmp_path / "images" / name / "config.json").write_text('{"name": "%s", "digest": "sha256:%s", "cmd": ["/bin/sh"]}' % (name, "0" * 64))
    kernel = tmp_path / "kernels" / "cloud"
    kernel.mkdir(parents=True)
    (kernel / "vmlinuz").write_text("x")
    (kernel / "release").write_text("6.1\n")
    return tmp_path


@pytest.fixture
def words(program, store):
    lodge = program("lodge")

    def ask(*typed):
        done = subprocess.run([lodge, "completion", "words", *typed], env=dict(os.environ, LODGE_HOME=str(store)),
                              stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE_S)
        return sorted(done.stdout.split())

    return ask


def bash_offers(program, store, line, cwd):
    """What bash puts into COMPREPLY for this line: it splits words at '=' and ':' as readline would."""
    bash = need_command("bash")
    typed = re.findall(r"[=:]|[^\s=:]+", line)
    if line.endswith((" ", "=")):
        typed.append("")
    quoted = " ".join(f"'{word}'" for word in typed)
    script = (f'PATH="{os.path.dirname(program("lodge"))}:$PATH"; source <(lodge completion bash); COMP_WORDS=({quoted}); '
              f'COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); function=$(complete -p "$1"); function=${{function#*-F }}; ${{function%% *}}; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run([bash, "--norc", "-c", script, "bash", typed[0]], env=dict(os.environ, LODGE_HOME=str(store)), cwd=cwd,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
    assert done.stderr == "" and done.returncode == 0, done.stderr
    return sorted(done.stdout.split())


@pytest.mark.parametrize("line, offered", [
    ("lodge ru", ["run"]),
    ("lodge v", ["version", "vm", "volume"]),
    ("lodge stats --j", ["--json"]),
    ("lodge --ver", ["--version"]),
    ("lodge help do", ["doctor"]),
    ("lodge --ho", ["--host"]),
    ("lodge --host tcp://far:7443 doc", ["doctor"]),
    ("lodge --host=far:7443 --tls-ca=ca.pem stats --j", ["--json"]),
    ("lodge run --inter", ["--interactive"]),
    ("lodge run --vm --engine ", ["auto", "kvm", "soft"]),
    ("lodge run --vm --engine=s", ["soft"]),
    ("lodge run --vm --engine soft,", ["soft,tier=interp", "soft,tier=translate"]),
    ("lodge run --kernel ", ["cloud"]),
    ("lodge run b", ["blue", "busybox"]),
    ("lodge run -m 1G -e A=1 bu", ["busybox"]),
    ("lodge run -itm 1G bu", ["busybox"]),
    ("lodge run -v /tmp:/x:ro bu", ["busybox"]),
    ("lodge run --memory=1G bu", ["busybox"]),
    ("lodge run -- bu", ["busybox"]),
    ("lodge run -e b", []),
    ("lodge run ./di", ["./directory"]),
    ("lodge run -v f", ["file"]),
    ("lodge run busybox b", []),
    ("lodge run busybox --v", []),
    ("lodge kernels --disk bl", ["blue"]),
    ("lodge kernels --init", ["--initramfs"]),
    ("lodge plan formula --dirt", ["--dirty-rate"]),
    ("lodge plan form", ["formula"]),
    ("lodge completion z", ["zsh"]),
    ("lodge nosuch x", []),
    ("lodge-vmm --kern", ["--kernel"]),
    ("lodge-vmm --kernel f", ["file"]),
])
def test_bash(program, store, tmp_path_factory, line, offered):
    here = tmp_path_factory.mktemp("here")
    (here / "directory").mkdir()
    (here / "file").write_text("")
    program("lodge-vmm")
    assert bash_offers(program, store, line, here) == offered


@pytest.mark.parametrize("line, offered", [
    ("lodge ru", "lodge run "),
    ("lodge run --inter", "lodge run --interactive "),
    ("lodge run bus", "lodge run busybox "),
    ("lodge run --vm --engine=s", "lodge run --vm --engine=soft "),
    ("lodge-vmm --kern", "lodge-vmm --kernel "),
])
def test_zsh(program, store, line, offered):
    """A zsh on a terminal of its own gets the line and a Tab; then a widget of ours prints its buffer."""
    zsh = need_command("zsh")
    import pty
    import select
    import time

    pid, master = pty.fork()
    if pid == 0:
        os.environ.update(LODGE_HOME=str(store), PATH=f"{os.path.dirname(program('lodge'))}:{os.environ['PATH']}", TERM="dumb", PS1="")
        os.execv(zsh, ["zsh", "-f", "-i"])
    got = b""

    def until(wanted):
        nonlocal got
        deadline = time.monotonic() + PATIENCE_S
        while wanted not in got:
            ready, _, _ = select.select([master], [], [], max(deadline - time.monotonic(), 0))
            assert ready, got
            got += os.read(master, 65536)

    try:
        os.write(master, b"unsetopt zle; autoload -Uz compinit; compinit -u -D; source <(lodge completion zsh); "
                         b"show() { print -r -- \"<\"\"<$BUFFER>\"\">\" }; setopt zle; zle -N show; bindkey '^X' show; print re''ady\n")
        until(b"ready")
        time.sleep(0.3)
        os.write(master, line.encode() + b"\t")
        time.sleep(1)
        os.write(master, b"\x18")
        until(b">>")
        assert b"<<" + offered.encode() + b">>" in got.replace(b"\r", b"")
    finally:
        os.close(master)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_every_documented_option_is_offered(program, words):
    """The help texts and the completion cannot drift apart."""
    for verb in words(""):
        text = subprocess.run([program("lodge"), "help", verb], stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE_S).stdout
        text = re.sub(r"^ *lodge-vmm .*(\n +--.*)*", "", text, flags=re.M)
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text)) - {"--vm"}:
            assert option in words(verb, "--"), f"lodge {verb} {option}"


def test_unknown_shell(program):
    done = subprocess.run([program("lodge"), "completion", "fish"], stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2 and "fish" in done.stderr


def test_scripts_are_clean(program, tmp_path):
    (tmp_path / "lodge.bash").write_bytes(subprocess.run([program("lodge"), "completion", "bash"], stdout=subprocess.PIPE, check=True).stdout)
    (tmp_path / "_lodge").write_bytes(subprocess.run([program("lodge"), "completion", "zsh"], stdout=subprocess.PIPE, check=True).stdout)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-s", "bash", "-e", "SC2207", str(tmp_path / "lodge.bash")], check=True)
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n", str(tmp_path / "_lodge")], check=True)
