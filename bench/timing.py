# SPDX-License-Identifier: Apache-2.0
"""How long something takes, for the benchmarks that ask the manager."""
import time


def timed(fn):
    """Milliseconds, and what it returned."""
    begun = time.monotonic()
    result = fn()
    return (time.monotonic() - begun) * 1000, result


def best(fn, rounds=5):
    """The least of so many times, in milliseconds."""
    return min(timed(fn)[0] for _ in range(rounds))
