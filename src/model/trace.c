/* SPDX-License-Identifier: Apache-2.0 */
/* One line at a time, cut at commas (or blanks); a format is a function from cells to a job. */
#include "model/trace.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>

#define CELLS_MAX 32
#define LINE_MAX_ 4096

const char *const trace_format_names[] = {"auto",  "jobs",    "swf", "google",
                                          "azure", "alibaba", NULL};

enum column {
    ID,
    ARRIVAL,
    BURST,
    PRIORITY,
    ESTIMATE,
    CPUS,
    MEMORY,
    TICKETS,
    WEIGHT,
    LIMIT,
    RESERVE,
    COLUMNS
};

static const char *const column_names[COLUMNS] = {"id",       "arrival", "burst",  "priority",
                                                  "estimate", "cpus",    "memory", "tickets",
                                                  "weight",   "limit",   "reserve"};

/* Google: tasks that were submitted, by an open hash table of indices into `jobs`. */
struct pending {
    uint32_t *table; /* index + 1 */
    uint64_t *keys;  /* of each job */
    double *began;   /* when it was scheduled last; < 0: not yet */
    size_t size, nr;
};

struct reader {
    struct trace *trace;
    const char *source;
    unsigned line;
    double scale;
    int columns[COLUMNS]; /* cell of each column; -1: absent */
    struct pending pending;
    char *cells[CELLS_MAX];
    size_t nr_cells;
};

static int line_error(const struct reader *r, struct err *err, const char *what, const char *value)
{
    return err_set(err, -EINVAL, "%s:%u: %s%s%.40s%s", r->source, r->line, what, *value ? " '" : "",
                   value, *value ? "'" : "");
}

static void cut(struct reader *r, char *line, bool blanks)
{
    r->nr_cells = 0;
    while (r->nr_cells < CELLS_MAX) {
        char *end;

        line += strspn(line, blanks ? " \t" : " ");
        if (blanks && !*line)
            return;
        end = line + strcspn(line, blanks ? " \t" : ",");
        r->cells[r->nr_cells++] = line;
        if (!*end)
            break;
        *end = '\0';
        line = end + 1;
    }
    for (size_t i = 0; i < r->nr_cells; i++) { /* "quoted", and blanks behind */
        size_t length = strlen(r->cells[i]);

        while (length > 0 && strchr(" \t\r", r->cells[i][length - 1]))
            r->cells[i][--length] = '\0';
        if (length > 1 && r->cells[i][0] == '"' && r->cells[i][length - 1] == '"') {
            r->cells[i][length - 1] = '\0';
            r->cells[i]++;
        }
    }
}

static int number(struct reader *r, size_t cell, const char *what, double least, double most,
                  double *ret, struct err *err)
{
    char *end;
    double value;

    if (cell >= r->nr_cells)
        return line_error(r, err, "too few columns, no", what);
    value = strtod(r->cells[cell], &end);
    if (end == r->cells[cell] || *end || !isfinite(value))
        return err_set(err, -EINVAL, "%s:%u: %s: '%.40s' is not a number", r->source, r->line, what,
                       r->cells[cell]);
    if (value < least || value > most)
        return err_set(err, -EINVAL, "%s:%u: %s: %g is not in %g to %g", r->source, r->line, what,
                       value, least, most);
    *ret = value;
    return 0;
}

static int job_add(struct reader *r, const struct trace_job *job, struct err *err)
{
    struct trace *trace = r->trace;

    if (trace->nr == TRACE_JOBS_MAX)
        return line_error(r, err, "too many jobs", "");
    if (trace->nr == trace->capacity) {
        size_t capacity = trace->capacity ? 2 * trace->capacity : 256;
        struct trace_job *jobs = reallocarray(trace->jobs, capacity, sizeof(*jobs));

        if (!jobs)
            return err_set(err, -ENOMEM, "read '%s'", r->source);
        trace->jobs = jobs;
        trace->capacity = capacity;
    }
    trace->jobs[trace->nr++] = *job;
    return 0;
}

/* ---- jobs ---- */

static int jobs_header(struct reader *r, struct err *err)
{
    for (unsigned i = 0; i < COLUMNS; i++)
        r->columns[i] = -1;
    for (size_t k = 0; k < r->nr_cells; k++) {
        unsigned i = 0;

        while (i < COLUMNS && strcasecmp(column_names[i], r->cells[k]) != 0)
            i++;
        if (i == COLUMNS)
            return err_set(err, -EINVAL,
                           "%s:%u: there is no column '%.40s'; there are id, arrival, burst, "
                           "priority, estimate, cpus, memory, tickets, weight, limit, reserve",
                           r->source, r->line, r->cells[k]);
        if (r->columns[i] >= 0)
            return line_error(r, err, "twice the column", r->cells[k]);
        r->columns[i] = (int)k;
    }
    if (r->columns[ARRIVAL] < 0 || r->columns[BURST] < 0)
        return line_error(r, err, "the header must name the columns arrival and burst", "");
    return 0;
}

static int jobs_line(struct reader *r, struct err *err)
{
    static const double least[COLUMNS] = {0, 0, 0, -4096, 0, 0, 0, 1, 1e-6, 1e-6, 0};
    static const double most[COLUMNS] = {
        0, TRACE_TIME_MAX, TRACE_TIME_MAX, 4096, TRACE_TIME_MAX, 1e6, 1e9, 1e6, 1e6, 1e6, 1e6};
    double values[COLUMNS] = {0};
    struct trace_job job = {0};
    int result = 0;

    for (unsigned i = ARRIVAL; result == 0 && i < COLUMNS; i++) {
        size_t cell = (size_t)r->columns[i];
        bool needed = i == ARRIVAL || i == BURST;

        if (r->columns[i] < 0 || (!needed && cell < r->nr_cells && !*r->cells[cell]))
            continue;
        result = number(r, cell, column_names[i], least[i], most[i], &values[i], err);
    }
    if (result < 0)
        return result;
    if (r->columns[ID] >= 0 && (size_t)r->columns[ID] < r->nr_cells)
        snprintf(job.id, sizeof(job.id), "%s", r->cells[r->columns[ID]]);
    else
        snprintf(job.id, sizeof(job.id), "%zu", r->trace->nr + 1);
    job.arrival = values[ARRIVAL];
    job.burst = values[BURST];
    job.estimate = r->columns[ESTIMATE] >= 0 ? values[ESTIMATE] : values[BURST];
    job.priority = (int32_t)values[PRIORITY];
    job.cpus = values[CPUS];
    job.memory_mib = values[MEMORY];
    job.tickets = (uint32_t)values[TICKETS];
    job.weight = values[WEIGHT];
    job.limit = values[LIMIT];
    job.reserve = values[RESERVE];
    return job_add(r, &job, err);
}

/* ---- recorded formats ---- */

static int swf_line(struct reader *r, struct err *err)
{
    static const char *const names[] = {"job",      "submit time",       "wait time",
                                        "run time", "processors",        "CPU time",
                                        "memory",   "processors wanted", "time wanted"};
    double v[ARRAY_LEN(names)];
    struct trace_job job = {0};

    if (r->nr_cells != 18)
        return line_error(r, err, "a line of SWF has 18 numbers", "");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        int result = number(r, i, names[i], -1, 1e15, &v[i], err);

        if (result < 0)
            return result;
    }
    if (v[1] < 0 || v[3] < 0) {
        r->trace->left_out++;
        return 0;
    }
    snprintf(job.id, sizeof(job.id), "%.0f", v[0]);
    job.arrival = fmin(v[1], TRACE_TIME_MAX);
    job.burst = fmin(v[3], TRACE_TIME_MAX);
    job.estimate = v[8] > 0 ? fmin(v[8], TRACE_TIME_MAX) : job.burst;
    job.cpus = fmin(fmax(v[7] > 0 ? v[7] : v[4], 1), 1e6);
    job.memory_mib = v[6] > 0 ? fmin(v[6] / 1024 * job.cpus, 1e9) : 0;
    return job_add(r, &job, err);
}

static uint64_t text_hash(const char *a, const char *b)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (; *a; a++)
        hash = (hash ^ (uint8_t)*a) * 0x100000001b3u;
    hash = (hash ^ 0xff) * 0x100000001b3u;
    for (; *b; b++)
        hash = (hash ^ (uint8_t)*b) * 0x100000001b3u;
    return hash ? hash : 1;
}

/* The place of key in the table: that of its job, or a free one. */
static uint32_t *pending_find(const struct pending *p, uint64_t key)
{
    size_t i = (size_t)(key ^ (key >> 31)) & (p->size - 1);

    while (p->table[i] && p->keys[p->table[i] - 1] != key)
        i = (i + 1) & (p->size - 1);
    return &p->table[i];
}

static int pending_grow(struct pending *p)
{
    size_t size = p->size ? 2 * p->size : 1024;
    uint32_t *table = calloc(size, sizeof(*table));
    uint64_t *keys = reallocarray(p->keys, size, sizeof(*keys));
    double *began;

    if (keys)
        p->keys = keys;
    began = reallocarray(p->began, size, sizeof(*began));
    if (began)
        p->began = began;
    if (!table || !keys || !began) {
        free(table);
        return -ENOMEM;
    }
    free(p->table);
    p->table = table;
    p->size = size;
    for (size_t i = 0; i < p->nr; i++)
        *pending_find(p, p->keys[i]) = (uint32_t)i + 1;
    return 0;
}

static int google_submit(struct reader *r, uint64_t key, double time, struct err *err)
{
    struct pending *p = &r->pending;
    struct trace_job job = {.arrival = time, .burst = -1};
    double priority = 0, cpus = 0, memory = 0;
    uint32_t *place;
    int result = 0;

    if (p->nr * 2 >= p->size && pending_grow(p) < 0)
        return err_set(err, -ENOMEM, "read '%s'", r->source);
    place = pending_find(p, key);
    if (*place)
        return 0; /* submitted again after an eviction: waiting goes on */
    snprintf(job.id, sizeof(job.id), "%.12s.%.8s", r->cells[2], r->cells[3]);
    if (r->nr_cells > 8 && *r->cells[8])
        result = number(r, 8, "priority", 0, 4096, &priority, err);
    if (result == 0 && r->nr_cells > 9 && *r->cells[9])
        result = number(r, 9, "CPU request", 0, 1000, &cpus, err);
    if (result == 0 && r->nr_cells > 10 && *r->cells[10])
        result = number(r, 10, "memory request", 0, 1000, &memory, err);
    if (result < 0)
        return result;
    job.priority = -(int32_t)priority; /* there, larger is more urgent */
    job.cpus = cpus * r->scale;
    job.memory_mib = memory * 1024 * r->scale;
    p->keys[p->nr] = key;
    p->began[p->nr++] = -1;
    *place = (uint32_t)p->nr;
    return job_add(r, &job, err);
}

static const char *cell(const struct reader *r, size_t index)
{
    return index < r->nr_cells && r->cells[index] ? r->cells[index] : "";
}

static int google_line(struct reader *r, struct err *err)
{
    enum { SUBMIT = 0, SCHEDULE = 1, FINISH = 4 };
    double time, type;
    uint64_t key;
    uint32_t job;
    int result = number(r, 0, "timestamp", 0, 2e15, &time, err);

    if (result < 0 || (result = number(r, 5, "event type", 0, 8, &type, err)) < 0)
        return result;
    time /= 1e6;
    key = text_hash(cell(r, 2), cell(r, 3));
    if ((int)type == SUBMIT)
        return google_submit(r, key, time, err);
    job = r->pending.size ? *pending_find(&r->pending, key) : 0;
    if (!job)
        return 0;
    if ((int)type == SCHEDULE)
        r->pending.began[job - 1] = time;
    if ((int)type == FINISH && r->pending.began[job - 1] >= 0)
        r->trace->jobs[job - 1].estimate = r->trace->jobs[job - 1].burst =
            fmax(time - r->pending.began[job - 1], 0);
    return 0;
}

static int azure_line(struct reader *r, struct err *err)
{
    double created, deleted, cores = 1, memory = 0;
    struct trace_job job = {0};
    int result = number(r, 3, "created", 0, TRACE_TIME_MAX, &created, err);

    if (result < 0 || (result = number(r, 4, "deleted", 0, TRACE_TIME_MAX, &deleted, err)) < 0)
        return result;
    /* The later releases have buckets here: ">24" is the last. */
    if (r->nr_cells > 9) {
        r->cells[9] += *r->cells[9] == '>';
        result = number(r, 9, "cores", 0, 1e6, &cores, err);
    }
    if (result == 0 && r->nr_cells > 10) {
        r->cells[10] += *r->cells[10] == '>';
        result = number(r, 10, "memory", 0, 1e6, &memory, err);
    }
    if (result < 0)
        return result;
    if (deleted < created) {
        r->trace->left_out++;
        return 0;
    }
    snprintf(job.id, sizeof(job.id), "%.20s", r->cells[0]);
    job.arrival = created;
    job.burst = job.estimate = deleted - created;
    job.cpus = cores;
    job.memory_mib = memory * 1024;
    return job_add(r, &job, err);
}

static int alibaba_line(struct reader *r, struct err *err)
{
    double start, end, instances, cpu = 0, memory = 0;
    struct trace_job job = {0};
    int result = number(r, 1, "instances", 0, 1e9, &instances, err);

    if (result < 0 || (result = number(r, 5, "start time", 0, TRACE_TIME_MAX, &start, err)) < 0 ||
        (result = number(r, 6, "end time", 0, TRACE_TIME_MAX, &end, err)) < 0)
        return result;
    if (r->nr_cells > 7 && *r->cells[7])
        result = number(r, 7, "plan_cpu", 0, 1e8, &cpu, err);
    if (result == 0 && r->nr_cells > 8 && *r->cells[8])
        result = number(r, 8, "plan_mem", 0, 1e8, &memory, err);
    if (result < 0)
        return result;
    if (end < start || end <= 0) {
        r->trace->left_out++;
        return 0;
    }
    snprintf(job.id, sizeof(job.id), "%.12s.%.10s", r->cells[2], r->cells[0]);
    job.arrival = start;
    job.burst = job.estimate = end - start;
    job.cpus = fmin(cpu / 100, 1e6);
    job.memory_mib = fmin(memory / 100 * 1024 * r->scale, 1e9);
    return job_add(r, &job, err);
}

/* ---- files ---- */

static size_t commas(const char *line)
{
    size_t nr = 0;

    for (; *line; line++)
        nr += *line == ',';
    return nr;
}

/* By the first line that says something. */
static enum trace_format guess(const char *line)
{
    if (*line == ';')
        return TRACE_SWF;
    if (strcasestr(line, "arrival"))
        return TRACE_JOBS;
    switch (commas(line)) {
    case 0:
        return TRACE_SWF;
    case 8:
        return TRACE_ALIBABA;
    case 10:
        return TRACE_AZURE;
    case 12:
        return TRACE_GOOGLE;
    default:
        return TRACE_JOBS;
    }
}

static int take_line(struct reader *r, char *line, enum trace_format *format, bool *header,
                     struct err *err)
{
    line[strcspn(line, "\r")] = '\0';
    line += strspn(line, " \t");
    if (!*line)
        return 0;
    if (*format == TRACE_AUTO)
        *format = guess(line);
    if (*line == (*format == TRACE_SWF ? ';' : '#'))
        return 0;
    cut(r, line, *format == TRACE_SWF);
    if (*format == TRACE_JOBS && !*header) {
        *header = true;
        return jobs_header(r, err);
    }
    switch (*format) {
    case TRACE_AUTO:
    case TRACE_JOBS:
        return jobs_line(r, err);
    case TRACE_SWF:
        return swf_line(r, err);
    case TRACE_GOOGLE:
        return google_line(r, err);
    case TRACE_AZURE:
        return azure_line(r, err);
    case TRACE_ALIBABA:
        return alibaba_line(r, err);
    }
    return -EINVAL;
}

static int by_arrival(const void *a, const void *b)
{
    const struct trace_job *x = a, *y = b;

    return (x->arrival > y->arrival) - (x->arrival < y->arrival);
}

/* Leaves out what has no end, sorts (jobs at one instant stay in the file's order), and for
 * recorded traces begins at the first arrival. */
static void settle(struct trace *trace, bool from_zero)
{
    size_t kept = 0;
    double first = 0;
    bool sorted = true;

    for (size_t i = 0; i < trace->nr; i++) {
        if (trace->jobs[i].burst < 0) {
            trace->left_out++;
            continue;
        }
        trace->jobs[kept++] = trace->jobs[i];
    }
    trace->nr = kept;
    for (size_t i = 1; i < kept; i++)
        sorted = sorted && trace->jobs[i - 1].arrival <= trace->jobs[i].arrival;
    if (!sorted) /* glibc sorts by merging: equal ones keep their order */
        qsort(trace->jobs, kept, sizeof(*trace->jobs), by_arrival);
    if (from_zero && kept > 0)
        first = trace->jobs[0].arrival;
    for (size_t i = 0; i < kept; i++)
        trace->jobs[i].arrival -= first;
}

int trace_parse(const char *text, size_t length, const char *source, enum trace_format format,
                double scale, struct trace *ret, struct err *err)
{
    struct trace trace = {0};
    struct reader r = {.trace = &trace, .source = source, .scale = scale > 0 ? scale : 1};
    bool header = false;
    int result = 0;

    while (result == 0 && length > 0) {
        const char *end = memchr(text, '\n', length);
        size_t line_length = end ? (size_t)(end - text) : length;
        char line[LINE_MAX_];

        r.line++;
        if (line_length >= sizeof(line) || memchr(text, '\0', line_length)) {
            result = line_error(&r, err, "the line is too long, or not text", "");
            break;
        }
        memcpy(line, text, line_length);
        line[line_length] = '\0';
        result = take_line(&r, line, &format, &header, err);
        text += line_length + (end != NULL);
        length -= line_length + (end != NULL);
    }
    free(r.pending.table);
    free(r.pending.keys);
    free(r.pending.began);
    if (result == 0 && trace.nr == 0)
        result = err_set(err, -EINVAL, "%s: there are no jobs in it", source);
    if (result < 0) {
        trace_done(&trace);
        return result;
    }
    settle(&trace, format != TRACE_JOBS);
    *ret = trace;
    return 0;
}

int trace_load(const char *path, enum trace_format format, double scale, struct trace *ret,
               struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    int r;

    buf_init(&text, TRACE_BYTES_MAX);
    r = file_load(AT_FDCWD, path, &text, err);
    return r < 0 ? r
                 : trace_parse(text.data ? text.data : "", text.length, path, format, scale, ret,
                               err);
}

void trace_done(struct trace *trace)
{
    free(trace->jobs);
    *trace = (struct trace){0};
}
