/* SPDX-License-Identifier: Apache-2.0 */
/* Timers, the handler, and the files: see profile.h. */
#include "vmm/profile.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "vmm/flamegraph.h"
#include "vmm/symbols.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SIGNAL     SIGPROF
#define PROBES_MAX 64u
#define SVG_MAX    (64u * MIB)

struct sample {
    struct cpu_position at;
    uint64_t count; /* 0: free */
};

struct profile_cpu {
    struct cpu *cpu;
    const struct cpu_engine *engine;
    timer_t timer;
    bool running;
    uint64_t lost;
    struct sample *table;
};

struct profile {
    const struct cpu_engine *engine;
    unsigned nr_cpus;
    char *path; /* NULL: no samples */
    int stacks_fd, svg_fd, map_fd;
    struct symbols *symbols;
    struct profile_cpu cpus[CPU_MAX];
};

static void sample_count(struct profile_cpu *p, const struct cpu_position *at, uint64_t weight)
{
    uint64_t hash = (at->address ^ at->space * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;

    for (unsigned i = 0; i < PROBES_MAX; i++) {
        struct sample *s = &p->table[((hash >> 40) + i) & (PROFILE_ENTRIES - 1)];

        if (!s->count)
            s->at = *at;
        else if (s->at.address != at->address || s->at.space != at->space || s->at.user != at->user)
            continue;
        s->count += weight;
        return;
    }
    p->lost += weight;
}

static void on_signal(int signal, siginfo_t *info, void *context)
{
    struct profile_cpu *p = info->si_code == SI_TIMER ? info->si_value.sival_ptr : NULL;
    struct cpu_position at;
    int saved = errno;

    (void)signal;
    if (p && p->engine->position(p->cpu, context, &at))
        sample_count(p, &at, 1 + (uint64_t)MAX(info->si_overrun, 0));
    errno = saved;
}

static int file_make(const char *path, int *ret_fd, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_errno(err, -errno, "profile '%s'", path);
    *ret_fd = fd;
    return 0;
}

/* PATH or PATH@BASE. */
static int symbols_add(struct profile *profile, const char *text, struct err *err)
{
    const char *at = strrchr(text, '@');
    char path[PATH_MAX], *end = NULL;
    uint64_t base = at ? strtoull(at + 1, &end, 0) : 0;

    if (!at || end == at + 1 || *end) { /* an '@' of the name */
        at = text + strlen(text);
        base = 0;
    }
    if ((size_t)(at - text) >= sizeof(path))
        return err_set(err, -ENAMETOOLONG, "symbols '%s': the path is too long", text);
    snprintf(path, sizeof(path), "%.*s", (int)(at - text), text);
    return symbols_load(profile->symbols, path, base, err);
}

static int files_make(struct profile *profile, const struct vmm_config *config, struct err *err)
{
    char path[PATH_MAX];
    int r = 0;

    if (config->profile) {
        r = file_make(config->profile, &profile->stacks_fd, err);
        if (r == 0 && snprintf(path, sizeof(path), "%s.svg", config->profile) >= PATH_MAX)
            r = err_set(err, -ENAMETOOLONG, "profile: the path is too long");
        if (r == 0)
            r = file_make(path, &profile->svg_fd, err);
    }
    if (r == 0 && config->perf_map) {
        snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
        r = file_make(path, &profile->map_fd, err);
    }
    return r;
}

int profile_new(const struct vmm_config *config, const struct cpu_engine *engine,
                struct profile **ret, struct err *err)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct profile *profile;
    int r = 0;

    if (!config->profile && !config->perf_map)
        return 0;
    if (!engine->position)
        return err_set(err, -ENOTSUP,
                       "--profile and --perf-map need the software processor: add --engine soft "
                       "(perf kvm profiles guests of the engine %s)",
                       engine->name);
    profile = calloc(1, sizeof(*profile));
    if (!profile)
        return err_set(err, -ENOMEM, "out of memory");
    profile->engine = engine;
    profile->nr_cpus = (unsigned)config->nr_cpus;
    profile->stacks_fd = profile->svg_fd = profile->map_fd = -1;
    profile->path = config->profile;
    profile->symbols = symbols_new();
    if (!profile->symbols)
        r = err_set(err, -ENOMEM, "out of memory");
    for (unsigned i = 0; r == 0 && i < config->nr_symbols; i++)
        r = symbols_add(profile, config->symbols[i], err);
    for (unsigned i = 0; r == 0 && profile->path && i < profile->nr_cpus; i++)
        if (!(profile->cpus[i].table = calloc(PROFILE_ENTRIES, sizeof(struct sample))))
            r = err_set(err, -ENOMEM, "out of memory");
    if (r == 0)
        r = files_make(profile, config, err);
    if (r == 0 && sigaction(SIGNAL, &action, NULL))
        r = err_errno(err, -errno, "profile");
    if (r < 0)
        profile_free(profile);
    else
        *ret = profile;
    return r;
}

void profile_free(struct profile *profile)
{
    if (!profile)
        return;
    for (unsigned i = 0; i < profile->nr_cpus; i++)
        free(profile->cpus[i].table);
    fd_closep(&profile->stacks_fd);
    fd_closep(&profile->svg_fd);
    fd_closep(&profile->map_fd);
    symbols_free(profile->symbols);
    free(profile);
}

int profile_begin(struct profile *profile, unsigned index, struct cpu *cpu, struct err *err)
{
    struct itimerspec period = {.it_interval = {.tv_nsec = PROFILE_PERIOD_NS},
                                .it_value = {.tv_nsec = PROFILE_PERIOD_NS}};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGNAL};
    struct profile_cpu *p;

    if (!profile || !profile->path)
        return 0;
    p = &profile->cpus[index];
    p->cpu = cpu;
    p->engine = profile->engine;
    event.sigev_value.sival_ptr = p;
    event._sigev_un._tid = gettid();
    if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &p->timer))
        return err_errno(err, -errno, "profile: make a timer");
    p->running = true;
    if (timer_settime(p->timer, 0, &period, NULL))
        return err_errno(err, -errno, "profile: start a timer");
    return 0;
}

void profile_end(struct profile *profile, unsigned index)
{
    struct timespec none = {0};
    sigset_t set;

    if (!profile || !profile->cpus[index].running)
        return;
    /* A signal that is on its way must not find the vCPU gone. */
    sigemptyset(&set);
    sigaddset(&set, SIGNAL);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    timer_delete(profile->cpus[index].timer);
    while (sigtimedwait(&set, NULL, &none) > 0)
        continue;
    profile->cpus[index].running = false;
}

void profile_name(const struct symbols *symbols, const struct cpu_position *position, char *text,
                  size_t size)
{
    const char *name = symbols_find(symbols, position->address);
    char space[40] = "kernel", place[40];

    if (position->user)
        snprintf(space, sizeof(space), "user;space-%llx",
                 (unsigned long long)position->space >> 12);
    /* Without a name, by pages: a line for each instruction would tell nobody anything. */
    snprintf(place, sizeof(place), "%#llx", (unsigned long long)(position->address & ~0xfffull));
    snprintf(text, size, "%s;%s", space, name ? name : place);
}

static void map_add(void *context, const void *host, size_t size, gva_t guest, bool user)
{
    struct profile *profile = context;
    const char *name = symbols_find(profile->symbols, guest);
    char line[256];
    int length = snprintf(line, sizeof(line), "%llx %zx %s%s%s%#llx\n",
                          (unsigned long long)(uintptr_t)host, size,
                          user ? "guest-user:" : "guest:", name ? name : "", name ? "+" : "",
                          (unsigned long long)guest);

    if (write(profile->map_fd, line, (size_t)length) != length)
        log_warning("perf map: %s", strerror(errno));
}

bool profile_map_begin(struct profile *profile)
{
    if (!profile || profile->map_fd < 0)
        return false;
    if (ftruncate(profile->map_fd, 0) < 0 || lseek(profile->map_fd, 0, SEEK_SET) < 0)
        log_warning("perf map: %s", strerror(errno));
    return true;
}

void profile_map(struct profile *profile, struct cpu *cpu)
{
    if (profile && profile->map_fd >= 0 && profile->engine->code_map)
        profile->engine->code_map(cpu, map_add, profile);
}

struct line {
    char *name;
    uint64_t count;
};

static int line_compare(const void *a, const void *b)
{
    return strcmp(((const struct line *)a)->name, ((const struct line *)b)->name);
}

/* All vCPUs' samples by name, sorted, each name once. */
static int lines_collect(const struct profile *profile, struct line **ret, size_t *ret_nr,
                         uint64_t *ret_lost)
{
    struct line *lines = calloc((size_t)PROFILE_ENTRIES * profile->nr_cpus, sizeof(*lines));
    size_t nr = 0, kept = 0;

    if (!lines)
        return -ENOMEM;
    for (unsigned i = 0; i < profile->nr_cpus; i++) {
        *ret_lost += profile->cpus[i].lost;
        for (unsigned j = 0; j < PROFILE_ENTRIES; j++) {
            const struct sample *s = &profile->cpus[i].table[j];
            char text[256];

            if (!s->count)
                continue;
            profile_name(profile->symbols, &s->at, text, sizeof(text));
            lines[nr].count = s->count;
            if ((lines[nr].name = strdup(text)))
                nr++;
        }
    }
    if (nr)
        qsort(lines, nr, sizeof(*lines), line_compare);
    for (size_t i = 0; i < nr; i++) {
        if (kept && !strcmp(lines[kept - 1].name, lines[i].name)) {
            lines[kept - 1].count += lines[i].count;
            free(lines[i].name);
        } else {
            lines[kept++] = lines[i];
        }
    }
    *ret = lines;
    *ret_nr = kept;
    return 0;
}

static int all_write(int fd, const char *data, size_t length, struct err *err)
{
    while (length) {
        ssize_t n = write(fd, data, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, -errno, "write the profile");
        data += n;
        length -= (size_t)n;
    }
    return 0;
}

static int lines_write(const struct profile *profile, struct line *lines, size_t nr,
                       struct err *err)
{
    CLEANUP(buf_donep) struct buf text, svg;
    CLEANUP(freep) const char **names = calloc(nr + 1, sizeof(*names));
    CLEANUP(freep) uint64_t *counts = calloc(nr + 1, sizeof(*counts));
    int r = names && counts ? 0 : err_set(err, -ENOMEM, "out of memory");

    buf_init(&text, SVG_MAX);
    buf_init(&svg, SVG_MAX);
    for (size_t i = 0; r == 0 && i < nr; i++) {
        char line[300];
        int length = snprintf(line, sizeof(line), "%s %llu\n", lines[i].name,
                              (unsigned long long)lines[i].count);

        names[i] = lines[i].name;
        counts[i] = lines[i].count;
        if (buf_append(&text, line, (size_t)length) < 0)
            r = err_set(err, -ENOMEM, "out of memory");
    }
    if (r == 0)
        r = flamegraph_draw("Guest functions by processor time", names, counts, nr, &svg, err);
    if (r == 0)
        r = all_write(profile->stacks_fd, text.data, text.length, err);
    if (r == 0)
        r = all_write(profile->svg_fd, svg.data, svg.length, err);
    return r;
}

int profile_write(struct profile *profile, struct err *err)
{
    struct line *lines = NULL;
    uint64_t lost = 0;
    size_t nr = 0;
    int r;

    if (!profile || !profile->path)
        return 0;
    r = lines_collect(profile, &lines, &nr, &lost);
    if (r < 0)
        return err_set(err, r, "the profile does not fit into memory");
    r = lines_write(profile, lines, nr, err);
    if (lost)
        log_warning("profile: %llu samples found no room", (unsigned long long)lost);
    for (size_t i = 0; i < nr; i++)
        free(lines[i].name);
    free(lines);
    return r;
}
