# SPDX-License-Identifier: Apache-2.0
"""How long tests wait for what has to come. A limit is for what never comes: on a host with other work nothing is late."""
import time

PATIENCE_S = 120


def until(what, patience_s=PATIENCE_S, told=lambda: ""):
    """Polls `what` until it gives something true, and returns that. told(): what a failure should show."""
    deadline, pause = time.monotonic() + patience_s, 0.01
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {patience_s} s {told()}"
        time.sleep(pause)
        pause = min(pause * 1.2, 0.2)
