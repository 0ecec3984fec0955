/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/criu_options.h"

#include "base/util.h"
#include "oci/protobuf.h"

#define OPTIONS_SIZE_MAX (56 * KIB)

void criu_options_init(struct criu_options *options)
{
    options->result = 0;
    buf_init(&options->fields, OPTIONS_SIZE_MAX);
}

void criu_options_done(struct criu_options *options)
{
    buf_done(&options->fields);
}

static void keep(struct criu_options *options, int result)
{
    if (options->result == 0 && result < 0)
        options->result = result;
}

void criu_options_number(struct criu_options *options, enum criu_option field, uint64_t value)
{
    keep(options, protobuf_put_uint(&options->fields, field, value));
}

void criu_options_flag(struct criu_options *options, enum criu_option field, bool value)
{
    if (value)
        criu_options_number(options, field, 1);
}

void criu_options_text(struct criu_options *options, enum criu_option field, const char *text)
{
    if (text)
        keep(options, protobuf_put_string(&options->fields, field, text));
}

static void add_message(struct criu_options *options, enum criu_option field,
                        const struct buf *message)
{
    keep(options, protobuf_put_message(&options->fields, field, message));
}

void criu_options_pair(struct criu_options *options, enum criu_option field, const char *first,
                       const char *second)
{
    CLEANUP(buf_donep) struct buf message;

    buf_init(&message, OPTIONS_SIZE_MAX);
    keep(options, protobuf_put_string(&message, 1, first));
    keep(options, protobuf_put_string(&message, 2, second));
    add_message(options, field, &message);
}

void criu_options_inherit(struct criu_options *options, const char *key, int fd)
{
    CLEANUP(buf_donep) struct buf message;

    buf_init(&message, OPTIONS_SIZE_MAX);
    keep(options, protobuf_put_string(&message, 1, key));
    keep(options, protobuf_put_uint(&message, 2, (uint64_t)fd));
    add_message(options, CRIU_INHERIT_FD, &message);
}

void criu_options_page_server(struct criu_options *options, const char *address, uint64_t port)
{
    CLEANUP(buf_donep) struct buf message;

    buf_init(&message, OPTIONS_SIZE_MAX);
    keep(options, protobuf_put_string(&message, 1, address));
    keep(options, protobuf_put_uint(&message, 2, port));
    add_message(options, CRIU_PAGE_SERVER, &message);
}
