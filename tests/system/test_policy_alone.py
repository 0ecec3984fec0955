# SPDX-License-Identifier: Apache-2.0
"""src/policy decides and does nothing else: what the library calls is itself, memory, strings, arithmetic and the error type."""
import re
import subprocess

import pytest

from conftest import need_command

ALLOWED = re.compile(r"(admission|allocation|balancing|drf|estimat\w*|memory|placement|queue)_\w+|err_(set|wrap|negative)_|__\w*(ti[34]|di[34])|__stack_chk_fail"
                     r"|_GLOBAL_OFFSET_TABLE_|__(asan|ubsan|tsan|sanitizer)_\w+"
                     r"|(m|c|re)alloc|reallocarray|free|mem(cpy|move|set|cmp|chr)|str\w+|v?snprintf|__v?snprintf_chk|qsort"
                     r"|l?l?round|exp|log|sqrt|pow|floor|ceil|f(max|min|abs|mod)|ldexp|frexp|trunc")


def test_no_clock_no_files_no_processes(build):
    need_command("nm")
    library = build / "src" / "policy" / "liblodge_policy.a"
    if not library.exists():
        pytest.skip("the library is not built")
    listed = subprocess.run(["nm", "-u", str(library)], stdout=subprocess.PIPE, text=True, check=True).stdout
    called = {line.split()[-1] for line in listed.splitlines() if re.match(r"\s+[Uw] ", line)}
    assert len(called) > 20 and not [name for name in called if not ALLOWED.fullmatch(name)]
