# SPDX-License-Identifier: Apache-2.0
"""Completion as the shells see it: the script is sourced, and what a Tab would offer is read back."""
import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

from conftest import need_command
from patience import PATIENCE_S


def make_store(home):
    """Images and a kernel, as far as listings look."""
    for name in ("busybox", "blue", "app:1", "app:2"):
        (home / "images" / name / "rootfs").mkdir(parents=True)
        (home / "images" / name / "config.json").write_text('{"name": "%s", "digest": "sha256:%s", "cmd": ["/bin/sh"]}' % (name, "0" * 64))
    kernel = home / "kernels" / "cloud"
    kernel.mkdir(parents=True)
    (kernel / "vmlinuz").write_text("x")
    (kernel / "release").write_text("6.1\n")


@pytest.fixture
def store(tmp_path):
    make_store(tmp_path)
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
    script = (f'PATH="{os.path.dirname(program("lodge"))}:$PATH"; source <(lodge completion bash); COMP_WORDS=({quoted}); COMP_LINE="{line}"; COMP_POINT={len(line)}; '
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
    ("lodge run --vm --engine soft,tier=", ["interp", "translate"]),
    ("lodge image rm app:", ["1", "2"]),
    ("lodge image rm app:1", ["1"]),
    ("lodge --tls-ca=f", ["file"]),
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


BASH = r"""bind 'set bell-style none'; bind 'set completion-query-items 0'; bind 'set page-completions off'; bind 'set enable-bracketed-paste off'
show() { printf '\n%s%s]>\n' '<' "[$READLINE_LINE"; READLINE_LINE=; READLINE_POINT=0; }; bind -x '"\C-y": show'
source <(lodge completion bash); PS1='<''<ready>''>'"""
ZSH = r"""unsetopt zle beep; LISTMAX=10000; autoload -Uz compinit; compinit -u -D; %s
show() { zle -I; print -r -- "<""[$BUFFER]"">"; BUFFER= }; zle-line-init() { zle -I; print "<""<ready>"">" }; zle -N show; zle -N zle-line-init
bindkey -e; bindkey '^Y' show; setopt zle"""
SOURCED = "source <(lodge completion zsh)"


class Shell:
    """One on a terminal of its own. A line and a Tab go in, and a key whose widget prints what the line has become: each is done before the next is read."""

    def __init__(self, words, setup, environment, cwd):
        self.got, self.seen = b"", 0
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.environ.update(environment, TERM="dumb", PS1="", HOME=str(cwd))
            os.execv(words[0], words)
        for line in setup.splitlines():
            os.write(self.master, line.encode() + b"\n")
        self.until(b"<<ready>>")

    def until(self, wanted):
        """What came up to that."""
        deadline = time.monotonic() + PATIENCE_S
        while wanted not in self.got[self.seen:]:
            ready, _, _ = select.select([self.master], [], [], max(deadline - time.monotonic(), 0))
            assert ready, self.got
            self.got += os.read(self.master, 65536)
        end = self.got.index(wanted, self.seen) + len(wanted)
        before, self.seen = self.got[self.seen:end], end
        return before.replace(b"\r", b"").decode()

    def tab(self, line):
        """The line after it, and what was listed."""
        os.write(self.master, line.encode() + b"\t\x19")
        listed = self.until(b"<[")
        return self.until(b"]>")[:-2], listed

    def close(self):
        os.close(self.master)
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


@pytest.fixture(scope="module", params=["bash", "zsh", "zsh by its path"])
def shell(request, build, tmp_path_factory):
    name = need_command(request.param.split()[0])
    if not (build / "bin" / "lodge-vmm").exists():
        pytest.skip("lodge-vmm is not built")
    here = tmp_path_factory.mktemp("here")
    make_store(here / "store")
    (here / "directory").mkdir()
    (here / "file with a space").write_text("")
    (here / "directory" / "inner").write_text("")
    (here / "bin").symlink_to(build / "bin")
    environment = {"LODGE_HOME": str(here / "store"), "LODGE_SOCKET": str(here / "none"), "PATH": f"{build / 'bin'}:{os.environ['PATH']}"}
    if request.param == "bash":
        opened = Shell([name, "--norc", "--noprofile", "-i"], BASH, environment, here)
    elif request.param == "zsh":
        opened = Shell([name, "-f", "-i"], ZSH % SOURCED, environment, here)
    else:  # as it is installed
        (here / "functions").mkdir()
        (here / "functions" / "_lodge").write_bytes(subprocess.run([build / "bin" / "lodge", "completion", "zsh"], stdout=subprocess.PIPE, check=True).stdout)
        opened = Shell([name, "-f", "-i"], ZSH.replace("autoload", f"fpath=({here / 'functions'} $fpath); autoload") % "", environment, here)
    opened.name = request.param.split()[0]
    yield opened
    opened.close()


@pytest.mark.parametrize("line, completed", [
    ("lodge ru", "lodge run "),
    ("lodge run --inter", "lodge run --interactive "),
    ("lodge run bus", "lodge run busybox "),
    ("lodge run -m 1G -e A=1 bus", "lodge run -m 1G -e A=1 busybox "),
    ("lodge run --vm --engine=s", "lodge run --vm --engine=soft "),
    ("lodge run --vm --engine soft,tier=i", "lodge run --vm --engine soft,tier=interp "),
    ("lodge image rm app:", "lodge image rm app:"),
    ("lodge image rm app:1", "lodge image rm app:1 "),
    ("lodge image rm 'app:1", "lodge image rm 'app:1' "),
    ("lodge --tls-ca=file", "lodge --tls-ca=file\\ with\\ a\\ space "),
    ("lodge --host tcp://far:7443 stats --j", "lodge --host tcp://far:7443 stats --json "),
    ("lodge run ./dir", "lodge run ./directory/"),
    ("lodge run busybox --v", "lodge run busybox --v"),
    ("lodge image import file", "lodge image import file\\ with\\ a\\ space "),
    ("lodge image import file\\ w", "lodge image import file\\ with\\ a\\ space "),
    ("lodge image import --authfile=file", "lodge image import --authfile=file\\ with\\ a\\ space "),
    ("lodge image import directory/", "lodge image import directory/inner "),
    ("~/bin/lodge run bus", "~/bin/lodge run busybox "),
    ("lodge-vmm --kern", "lodge-vmm --kernel "),
    ("lodge-vmm --kernel file", "lodge-vmm --kernel file\\ with\\ a\\ space "),
    ("lodge-vmm --kernel=file", "lodge-vmm --kernel=file\\ with\\ a\\ space "),
    ("lodge nosuch x", "lodge nosuch x"),
])
def test_on_a_terminal(shell, line, completed):
    """Readline and zle each take words apart in their own way, and have their own idea of what is in the way of a candidate."""
    assert shell.tab(line)[0] == completed


def test_candidates_on_a_terminal(shell):
    line, listed = shell.tab("lodge run b")
    if shell.name == "bash":  # lists at the second Tab
        line, listed = shell.tab("lodge run b\t")
    assert line == "lodge run b" and "blue" in listed and "busybox" in listed


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
