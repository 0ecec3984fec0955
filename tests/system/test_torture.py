# SPDX-License-Identifier: Apache-2.0
"""Programs that find fault with processors, on two vCPUs of the software CPU: what they print has to be what they print in a container of the
same image on the host's processor. LODGE_TEST_LONG=N: more of everything."""
import os

import pytest

from conftest import need_root, skip_when_sanitized
from lodge_run import Lodge, need_image, need_kernel

LONG = float(os.environ.get("LODGE_TEST_LONG", "0") or 0)


class Pair:
    """The same commands in a VM and natively."""

    def __init__(self, program, guest):
        self.program = program
        self.vm = Lodge(program, guest, ["--vm", "--engine", "soft", "--cpus", "2", "--memory", "1G"])
        self.container = Lodge(program, guest)

    def in_vm(self, script, seconds=240, kernel="cloud"):
        done = self.vm.run("-q", "-i", "--kernel", kernel, "torture", "sh", input=script.encode(), timeout=seconds)
        assert done.returncode == 0, (done.returncode, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout.decode(errors="replace")

    def natively(self, script, seconds=240):
        done = self.container.run("-q", "-i", "torture", "sh", input=script.encode(), timeout=seconds)
        assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout.decode(errors="replace")

    def same(self, script, seconds=240):
        expected = self.natively(script, seconds)
        assert len(expected) > 20
        assert self.in_vm(script, seconds) == expected


@pytest.fixture
def pair(program, guest):
    skip_when_sanitized()
    need_root()
    need_image(guest, "torture")
    need_kernel(guest, "cloud")
    program("lodge-vmm")
    pair = Pair(program("lodge"), guest)
    yield pair
    pair.vm.assert_clean()


# name, instances, operations: about 20 seconds in all
STRESSORS = """cpu 2 60; vm 2 3000; fp 2 4; matrix 2 200; vecmath 2 200; vecfp 2 20; vecshuf 2 40; vecwide 2 200; signal 2 20000; sigsegv 2 2000;
sigfpe 2 2000; sigtrap 2 2000; sigpending 2 2000; sigsuspend 2 2000; sigq 2 2000; sigrt 2 200; sigabrt 2 100; icache 2 40; branch 2 20;
longjmp 2 1000; goto 2 1000; mprotect 2 400; tlb-shootdown 2 20; futex 2 1000; fork 2 100; atomic 2 100; lockbus 2 20; membarrier 2 10; regs 2 20;
nop 2 20; qsort 1 2; hash 2 200; crypt 2 20; switch 2 4000; pagemove 2 5; resched 1 100; x86syscall 1 1; memcpy 2 10; str 2 200; flushcache 2 20;
far-branch 2 1; rmap 1 20; remap 2 10; pipe 2 20000; clone 2 60; pthread 2 100; usersyscall 1 1000; seccomp 1 50; bad-altstack 1 20; sigio 1 20;
timer 2 1000; mutex 2 2000; shm 1 4; fault 2 1000; userfaultfd 1 100"""


def test_stressors_verify_themselves(pair):
    script, names = "cd /tmp\n", []
    for stressor in STRESSORS.replace("\n", " ").split(";"):
        name, instances, operations = stressor.split()
        names.append(name)
        operations = int(float(operations) * max(1, LONG))
        script += (f"stress-ng --{name} {instances} --{name}-ops {operations} --vm-bytes 32M --verify --seed 1 --timeout {int(60 * max(1, LONG))} "
                   f">/tmp/out 2>&1; echo {name} $?; grep fail: /tmp/out\n")
    output = pair.in_vm(script + "true\n", int(240 * max(1, LONG)))
    assert output.split("\n")[:-1] == [f"{name} 0" for name in names]


def c_source(number):
    """A C file with arithmetic, tables, switches and floating point, different for each number."""
    lines = ["#include <stdio.h>", "#include <string.h>", "#include <math.h>"]
    for i in range(12):
        seed = number * 1000 + i
        lines.append(f"static const int table{i}[] = {{{', '.join(str((seed * k * 2654435761) % 100003) for k in range(1, 30))}}};")
        lines.append(f"""double f{number}_{i}(int n, double x, char *s) {{
    for (int k = 0; k < n; k++) {{
        switch ((n * k + {seed}) % 11) {{
        case 0: x += table{i}[k % 29]; break;
        case 1: x = sqrt(x * x + {seed}.5); break;
        case {2 + i % 4}: s[k & 31] ^= (char)(k * {seed}); break;
        case 7: x -= (double)strlen(s) / {i + 1}; break;
        case 9: n -= table{i}[(k + 3) % 29] & 1; break;
        default: x *= 1.0 + 1.0 / (k + {i + 2});
        }}
    }}
    return x;
}}""")
    return "\n".join(lines) + "\n"


def test_parallel_compile(pair):
    script = "mkdir /tmp/c && cd /tmp/c\n"
    for number in range(int(3 * max(1, LONG))):
        script += f"cat >f{number}.c <<'END'\n{c_source(number)}END\n"
    script += ("printf 'all: $(patsubst %%.c,%%.o,$(wildcard *.c))\\n%%.o: %%.c\\n\\tgcc -O2 -march=x86-64-v3 -frandom-seed=1 -c -o $@ $<\\n' >Makefile\n"
               "make -s -j2 && sha256sum *.o\n")
    pair.same(script)


PYTHON = "cmath float struct array mmap complex pow dict sort generators coroutines binascii memoryview marshal thread"
PYTHON_LONG = ("math long int re bytes ctypes hashlib zlib random decimal strtod unicode set gc fractions userstring heapq json pickle posix "
               "signal threading faulthandler queue selectors bz2 lzma zipfile tarfile statistics fork1 contextlib")


def test_pythons_own_tests(pair):
    names = " ".join(f"test_{name}" for name in (PYTHON + " " + PYTHON_LONG if LONG else PYTHON).split())
    script = (f"cd /tmp; for t in {names}; do timeout 200 python3 -m test -q $t >/tmp/out 2>&1; r=$?; echo $t $r; [ $r = 0 ] || tail -30 /tmp/out; done; true\n")
    output = pair.in_vm(script, 900 if LONG else 240)
    assert output.split("\n")[:-1] == [f"{name} 0" for name in names.split()]


LUA = """
local h = 5381
local function add(v) h = (h * 33 + #v) % 4294967296; for i = 1, #v do h = (h * 33 + v:byte(i)) % 4294967296 end end
for round = 1, 15 do
  local t = {}
  for i = 1, 3000 do t[i] = ((i * 7919 + round) % 10007) / (round + 0.5) end
  table.sort(t)
  for i = 1, 3000, 97 do add(string.format('%.17g', math.sin(t[i]) * math.sqrt(t[i] + i))) end
  local s = ('abc'):rep(round):gsub('b', tostring(round)); add(s)
  local c = coroutine.wrap(function() for i = 1, 50 do coroutine.yield(i * round) end end)
  for i = 1, 50 do add(tostring(c())) end
  add(tostring(pcall(function() error({}) end)))
  print(round, string.format('%.0f', h))
end
"""

NODE = """
const crypto = require('crypto');
function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
class P { constructor(x, y) { this.x = x; this.y = y; } add(o) { return new P(this.x + o.x, this.y * 1.0001 + o.y); } }
let p = new P(0, 0.5);
for (let round = 0; round < 8; round++) {
  const a = new Float64Array(20000), m = new Map();
  for (let i = 0; i < a.length; i++) { a[i] = Math.sqrt(i * round + 1) * (i % 7) - i / 3; m.set('k' + (i % 1000), a[i]); p = p.add(new P(i, a[i])); }
  a.sort();
  const big = (2n ** 200n + BigInt(round)) ** 3n % 1000000007n;
  const text = JSON.stringify([...m].slice(0, 50)) + p.x + p.y + big + fib(15 + round % 8) + 'abc'.repeat(round).replace(/b(.)/g, '<$1>');
  console.log(round, crypto.createHash('sha256').update(Buffer.from(a.buffer)).update(text).digest('hex'));
}
const wasm = new Uint8Array([0,97,115,109,1,0,0,0,1,6,1,96,1,127,1,127,3,2,1,0,7,5,1,1,102,0,0,10,30,1,28,1,1,127,3,64,32,0,65,3,108,32,1,106,33,1,32,0,
  65,1,107,34,0,13,0,11,32,1,11]);
WebAssembly.instantiate(wasm).then(w => console.log('wasm', w.instance.exports.f(1000000)), e => console.log('no wasm', e.message));
const { Worker } = require('worker_threads');
for (let i = 0; i < 3; i++)
  new Worker(`let x = ${i}; for (let k = 0; k < 2e6; k++) x = (x * 1103515245 + 12345) & 0x7fffffff; require('worker_threads').parentPort.postMessage(x);`,
    { eval: true }).on('message', x => { if (x < 0) console.log('bad'); results[i] = x; if (++n === 3) console.log('workers', results.join(' ')); });
const results = []; let n = 0;
"""


@pytest.mark.parametrize("command, source", [("lua5.4 -", LUA), ("luajit -", LUA), ("luajit -O3 -Ohotloop=2 -", LUA), ("node -", NODE)],
                         ids=["lua", "luajit", "luajit-hot", "node"])
def test_languages(pair, command, source):
    pair.same(f"{command} <<'END' | sort\n{source}END\n")


KERNEL = """
set -e
mount -t tracefs trace /sys/kernel/tracing
cd /sys/kernel/tracing
echo 1 >/proc/sys/net/core/bpf_jit_enable
python3 - <<'END' &
import socket, struct, ctypes
# A classic filter: packets whose first byte is odd pass; translated by the kernel's own compiler.
for number in range(60):
    code = [(0x30, 0, 0, 0), (0x54, 0, 0, 1), (0x15, 0, 1, 1), (0x06, 0, 0, 0xffff), (0x06, 0, 0, 0)]
    raw = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *c) for c in code))
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    b.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", len(code), ctypes.addressof(raw)))
    for value in range(64):
        a.send(bytes([value]))
    b.setblocking(False)
    got = []
    try:
        while True:
            got.append(b.recv(10)[0])
    except BlockingIOError:
        pass
    assert got == [v for v in range(64) if v & 1], got
    a.close(); b.close()
print("filters agree")
END
stress-ng --seccomp 1 --seccomp-ops 20 --switch 1 --switch-ops 4000 --fork 1 --fork-ops 40 --timeout 60 >/tmp/out 2>&1 &
for i in $(seq ROUNDS); do
    for event in sched syscalls irq kmem exceptions; do echo 1 >events/$event/enable; done
    echo function >current_tracer
    sleep 0.05
    echo nop >current_tracer
    for event in exceptions kmem irq syscalls sched; do echo 0 >events/$event/enable; done
    echo >trace
done
wait %1; wait %2
! grep -E 'fail:' /tmp/out
echo ROUND >trace_marker
echo 'toggled'
dmesg | grep -E 'BUG|Oops|WARNING|soft lockup|general protection' || echo 'kernel is quiet'
"""


@pytest.mark.parametrize("kernel", ["cloud", "generic", "rt"])
def test_kernel_changes_its_own_code(pair, guest, kernel):
    """Tracepoints, static keys and ftrace switched on and off under load, and the kernel's compiler of filters."""
    if kernel == "rt" and not LONG:
        pytest.skip("only with LODGE_TEST_LONG")
    need_kernel(guest, kernel)
    output = pair.in_vm(KERNEL.replace("ROUNDS", str(int(3 * max(1, LONG)))), 120 * max(1, LONG), kernel)
    assert sorted(output.split("\n")[:-1]) == ["filters agree", "kernel is quiet", "toggled"]


def test_the_translator_ran_it(pair):
    """Not the interpreter by mistake: the same loop there takes several times as long."""
    script = "lua5.4 -e 'local x = 0; for i = 1, 1e6 do x = x + i % 7 end; print(x, os.clock())'\n"
    interpreter = Lodge(pair.program, pair.vm.guest, ["--vm", "--engine", "soft,tier=interp", "--memory", "512M"])
    slow = interpreter.run("-q", "-i", "torture", "sh", input=script.encode()).stdout.split()
    fast = pair.in_vm(script).split()
    assert slow[0].decode() == fast[0]
    assert float(slow[1]) > 1.5 * float(fast[1])
