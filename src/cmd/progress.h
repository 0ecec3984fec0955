/* SPDX-License-Identifier: Apache-2.0 */
/* A progress bar on standard error: redrawn in place on a terminal, silent elsewhere. */
#ifndef LODGE_CMD_PROGRESS_H
#define LODGE_CMD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool shown; /* standard error is a terminal, and nobody asked for quiet */
    bool drawn;
    uint64_t drawn_ns;
    char what[64];
};

void progress_init(struct progress *progress, bool quiet);
/* total 0: how much there is to do is not known. Draws at most ten times a second. */
void progress_show(struct progress *progress, const char *what, uint64_t done, uint64_t total);
/* Takes the bar away. */
void progress_end(struct progress *progress);

#endif
