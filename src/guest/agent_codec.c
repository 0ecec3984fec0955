/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames and messages of the agent protocol (include/agent_protocol.h, which holds the contract).
 * Pure: no I/O. Both ends link it, and either end may be hostile: every read goes through struct
 * reader, which turns bad at the first field that is not wholly there and stays bad.
 */
#include "agent_protocol.h"

#include "base/util.h"

#include <errno.h>
#include <stdbool.h>

struct reader {
    const uint8_t *at, *end;
    bool bad;
};

static const uint8_t *read_bytes(struct reader *r, size_t length)
{
    const uint8_t *at = r->at;

    if (r->bad || (size_t)(r->end - r->at) < length) {
        r->bad = true;
        return NULL;
    }
    r->at += length;
    return at;
}

static uint16_t read_u16(struct reader *r)
{
    const uint8_t *p = read_bytes(r, 2);

    return p ? load_le16(p) : 0;
}

static uint32_t read_u32(struct reader *r)
{
    const uint8_t *p = read_bytes(r, 4);

    return p ? load_le32(p) : 0;
}

static uint64_t read_u64(struct reader *r)
{
    const uint8_t *p = read_bytes(r, 8);

    return p ? load_le64(p) : 0;
}

static const char *read_string(struct reader *r)
{
    uint32_t size = read_u32(r);
    const uint8_t *p = read_bytes(r, size);

    if (!p || size == 0 || memchr(p, '\0', size) != p + size - 1) {
        r->bad = true;
        return "";
    }
    return (const char *)p;
}

static struct reader reader_of(const struct agent_frame *frame)
{
    struct reader r = {.at = frame->payload, .end = frame->payload + frame->length};

    return r;
}

static int reader_finish(const struct reader *r)
{
    return r->bad || r->at != r->end ? -EPROTO : 0;
}

/* Reads a counted list of strings into a new NULL-terminated array. */
static int read_strings(struct reader *r, uint32_t least, char ***ret)
{
    uint32_t count = read_u32(r);
    char **list;

    /* Each entry takes at least its count and its NUL: the frame bounds the allocation. */
    if (r->bad || count < least || count > AGENT_STRINGS_MAX ||
        count > (size_t)(r->end - r->at) / 5) {
        r->bad = true;
        return -EPROTO;
    }
    if (!(list = calloc((size_t)count + 1, sizeof(*list))))
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        list[i] = (char *)(uintptr_t)read_string(r);
    *ret = list;
    return 0;
}

/* A frame under construction: the header is filled in by writer_finish. */
struct writer {
    struct buf *to;
    size_t start;
    int result;
};

static void write_bytes(struct writer *w, const void *data, size_t length)
{
    if (w->result == 0)
        w->result = buf_append(w->to, data, length);
}

static void write_u16(struct writer *w, uint16_t value)
{
    uint8_t bytes[2];

    store_le16(bytes, value);
    write_bytes(w, bytes, sizeof(bytes));
}

static void write_u32(struct writer *w, uint32_t value)
{
    uint8_t bytes[4];

    store_le32(bytes, value);
    write_bytes(w, bytes, sizeof(bytes));
}

static void write_u64(struct writer *w, uint64_t value)
{
    uint8_t bytes[8];

    store_le64(bytes, value);
    write_bytes(w, bytes, sizeof(bytes));
}

static void write_string(struct writer *w, const char *string)
{
    size_t size = strlen(string) + 1;

    if (size > AGENT_FRAME_MAX) {
        w->result = w->result ? w->result : -E2BIG;
        return;
    }
    write_u32(w, (uint32_t)size);
    write_bytes(w, string, size);
}

static void write_strings(struct writer *w, char *const *list)
{
    size_t count = 0;

    while (list[count])
        count++;
    if (count > AGENT_STRINGS_MAX) {
        w->result = w->result ? w->result : -E2BIG;
        return;
    }
    write_u32(w, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        write_string(w, list[i]);
}

static struct writer writer_start(struct buf *to)
{
    static const uint8_t blank[AGENT_HEADER_SIZE];
    struct writer w = {.to = to, .start = to->length};

    write_bytes(&w, blank, sizeof(blank));
    return w;
}

/* On failure the buffer is as it was. */
static int writer_finish(struct writer *w, enum agent_frame_type type)
{
    size_t length = w->to->length - w->start;

    if (w->result == 0 && length - AGENT_HEADER_SIZE > AGENT_FRAME_MAX)
        w->result = -E2BIG;
    if (w->result < 0) {
        w->to->length = w->start;
        return w->result;
    }
    agent_header_encode((uint8_t *)w->to->data + w->start, type,
                        (uint32_t)(length - AGENT_HEADER_SIZE));
    return 0;
}

void agent_header_encode(uint8_t header[AGENT_HEADER_SIZE], enum agent_frame_type type,
                         uint32_t length)
{
    store_le32(header, length);
    header[4] = (uint8_t)type;
    header[5] = header[6] = header[7] = 0;
}

int agent_header_decode(const uint8_t header[AGENT_HEADER_SIZE], uint8_t *ret_type,
                        uint32_t *ret_length)
{
    uint32_t length = load_le32(header);
    uint8_t type = header[4];

    if (header[5] | header[6] | header[7])
        return -EPROTO;
    if (!(type >= AGENT_HELLO && type <= AGENT_QUERY) &&
        !(type >= AGENT_DATA && type <= AGENT_DATA_ERR))
        return -EPROTO;
    if (length > AGENT_FRAME_MAX)
        return -EPROTO;
    *ret_type = type;
    *ret_length = length;
    return 0;
}

int agent_frame_parse(const void *data, size_t length, struct agent_frame *ret)
{
    const uint8_t *bytes = data;
    struct agent_frame frame;
    int result;

    if (length < AGENT_HEADER_SIZE)
        return 0;
    if ((result = agent_header_decode(bytes, &frame.type, &frame.length)) < 0)
        return result;
    if (length - AGENT_HEADER_SIZE < frame.length)
        return 0;
    frame.payload = bytes + AGENT_HEADER_SIZE;
    *ret = frame;
    return 1;
}

int agent_hello_encode(struct buf *to, const struct agent_hello *hello)
{
    struct writer w = writer_start(to);

    write_u32(&w, AGENT_MAGIC);
    write_u16(&w, hello->version);
    write_u16(&w, hello->role);
    return writer_finish(&w, AGENT_HELLO);
}

int agent_hello_decode(const struct agent_frame *frame, struct agent_hello *ret)
{
    struct reader r = reader_of(frame);
    struct agent_hello hello;

    if (read_u32(&r) != AGENT_MAGIC)
        return -EPROTO;
    hello.version = read_u16(&r);
    hello.role = read_u16(&r);
    if (hello.version == 0 || hello.role >= AGENT_NR_ROLES)
        return -EPROTO;
    *ret = hello;
    return reader_finish(&r);
}

int agent_info_encode(struct buf *to, const struct agent_info *info)
{
    struct writer w = writer_start(to);

    write_string(&w, info->sysname);
    write_string(&w, info->release);
    write_string(&w, info->version);
    write_string(&w, info->machine);
    write_u32(&w, info->nr_cpus);
    write_u64(&w, info->memory_bytes);
    write_u64(&w, info->uptime_ns);
    write_u64(&w, info->ready_ns);
    return writer_finish(&w, AGENT_INFO);
}

int agent_info_decode(const struct agent_frame *frame, struct agent_info *ret)
{
    struct reader r = reader_of(frame);

    ret->sysname = read_string(&r);
    ret->release = read_string(&r);
    ret->version = read_string(&r);
    ret->machine = read_string(&r);
    ret->nr_cpus = read_u32(&r);
    ret->memory_bytes = read_u64(&r);
    ret->uptime_ns = read_u64(&r);
    ret->ready_ns = read_u64(&r);
    return reader_finish(&r);
}

int agent_run_encode(struct buf *to, const struct agent_run *run)
{
    struct writer w = writer_start(to);

    write_u32(&w, run->flags);
    write_u16(&w, run->rows);
    write_u16(&w, run->cols);
    write_string(&w, run->cwd);
    write_string(&w, run->user);
    write_string(&w, run->hostname);
    write_string(&w, run->resolv_conf);
    write_strings(&w, run->argv);
    write_strings(&w, run->env);
    return writer_finish(&w, AGENT_RUN);
}

int agent_run_decode(const struct agent_frame *frame, struct agent_run *ret)
{
    struct reader r = reader_of(frame);
    struct agent_run run = {0};
    int result;

    run.flags = read_u32(&r);
    run.rows = read_u16(&r);
    run.cols = read_u16(&r);
    run.cwd = read_string(&r);
    run.user = read_string(&r);
    run.hostname = read_string(&r);
    run.resolv_conf = read_string(&r);
    if (run.flags & ~(AGENT_RUN_TTY | AGENT_RUN_STDIN | AGENT_RUN_BUILTIN))
        return -EPROTO;
    if ((result = read_strings(&r, 1, &run.argv)) == 0)
        result = read_strings(&r, 0, &run.env);
    if (result == 0)
        result = reader_finish(&r);
    if (result < 0) {
        agent_run_done(&run);
        return result;
    }
    *ret = run;
    return 0;
}

void agent_run_done(struct agent_run *run)
{
    free(run->argv);
    free(run->env);
    run->argv = run->env = NULL;
}

int agent_started_encode(struct buf *to, const struct agent_started *started)
{
    struct writer w = writer_start(to);

    write_u32(&w, started->pid);
    write_u64(&w, started->uptime_ns);
    return writer_finish(&w, AGENT_STARTED);
}

int agent_started_decode(const struct agent_frame *frame, struct agent_started *ret)
{
    struct reader r = reader_of(frame);

    ret->pid = read_u32(&r);
    ret->uptime_ns = read_u64(&r);
    return reader_finish(&r);
}

int agent_exited_encode(struct buf *to, const struct agent_exited *exited)
{
    struct writer w = writer_start(to);

    write_u32(&w, exited->signal);
    write_u32(&w, exited->status);
    write_u64(&w, exited->run_ns);
    return writer_finish(&w, AGENT_EXITED);
}

int agent_exited_decode(const struct agent_frame *frame, struct agent_exited *ret)
{
    struct reader r = reader_of(frame);

    ret->signal = read_u32(&r);
    ret->status = read_u32(&r);
    ret->run_ns = read_u64(&r);
    if (ret->signal > 64 || ret->status > 255)
        return -EPROTO;
    return reader_finish(&r);
}

int agent_error_encode(struct buf *to, const struct agent_error *error)
{
    struct writer w = writer_start(to);

    write_u32(&w, error->exit_status);
    write_string(&w, error->message);
    return writer_finish(&w, AGENT_ERROR);
}

int agent_error_decode(const struct agent_frame *frame, struct agent_error *ret)
{
    struct reader r = reader_of(frame);

    ret->exit_status = read_u32(&r);
    ret->message = read_string(&r);
    if (ret->exit_status > 255)
        return -EPROTO;
    return reader_finish(&r);
}

int agent_resize_encode(struct buf *to, uint16_t rows, uint16_t cols)
{
    struct writer w = writer_start(to);

    write_u16(&w, rows);
    write_u16(&w, cols);
    return writer_finish(&w, AGENT_RESIZE);
}

int agent_resize_decode(const struct agent_frame *frame, uint16_t *ret_rows, uint16_t *ret_cols)
{
    struct reader r = reader_of(frame);

    *ret_rows = read_u16(&r);
    *ret_cols = read_u16(&r);
    return reader_finish(&r);
}

int agent_signal_encode(struct buf *to, uint32_t signal_number)
{
    struct writer w = writer_start(to);

    write_u32(&w, signal_number);
    return writer_finish(&w, AGENT_SIGNAL);
}

int agent_signal_decode(const struct agent_frame *frame, uint32_t *ret_signal)
{
    struct reader r = reader_of(frame);
    uint32_t number = read_u32(&r);

    if (number == 0 || number > 64)
        return -EPROTO;
    *ret_signal = number;
    return reader_finish(&r);
}

int agent_empty_encode(struct buf *to, enum agent_frame_type type)
{
    struct writer w = writer_start(to);

    return writer_finish(&w, type);
}
