/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/progress.h"

#include "base/clock.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BAR_CELLS 24
#define EVERY_NS  (100 * NS_PER_MS)

void progress_init(struct progress *progress, bool quiet)
{
    memset(progress, 0, sizeof(*progress));
    progress->shown = !quiet && isatty(STDERR_FILENO);
}

void progress_show(struct progress *progress, const char *what, uint64_t done, uint64_t total)
{
    char bar[BAR_CELLS + 1];
    uint64_t now;
    unsigned filled;

    if (!progress->shown)
        return;
    now = clock_monotonic_ns();
    if (progress->drawn && now - progress->drawn_ns < EVERY_NS &&
        !strncmp(what, progress->what, sizeof(progress->what) - 1))
        return;
    snprintf(progress->what, sizeof(progress->what), "%s", what);
    progress->drawn = true;
    progress->drawn_ns = now;
    if (total == 0) {
        fprintf(stderr, "\r\033[K%.60s", what);
        if (done)
            fprintf(stderr, "  %llu MiB", (unsigned long long)(done / MIB));
    } else {
        filled = (unsigned)(MIN(done, total) / (double)total * BAR_CELLS);
        memset(bar, '.', BAR_CELLS);
        memset(bar, '#', filled);
        bar[BAR_CELLS] = '\0';
        fprintf(stderr, "\r\033[K%.40s  [%s] %3u%%  %llu of %llu MiB", what, bar,
                (unsigned)(MIN(done, total) / (double)total * 100),
                (unsigned long long)(done / MIB), (unsigned long long)(total / MIB));
    }
    fflush(stderr);
}

void progress_end(struct progress *progress)
{
    if (progress->drawn)
        fputs("\r\033[K", stderr);
    progress->drawn = false;
}
