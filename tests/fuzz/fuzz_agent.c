/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent protocol's parser on arbitrary bytes, taken as a stream of frames. Whatever decodes is
 * encoded again and must decode to the same bytes: one form for each message.
 */
#include "agent_protocol.h"

#include "base/buf.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int again(const struct agent_frame *frame, struct buf *out)
{
    struct agent_run run;
    struct agent_info info;
    struct agent_hello hello;
    struct agent_error error;
    struct agent_started started;
    struct agent_exited exited;
    uint16_t rows, cols;
    uint32_t number;
    int result;

    switch (frame->type) {
    case AGENT_HELLO:
        return agent_hello_decode(frame, &hello) < 0 ? -1 : agent_hello_encode(out, &hello);
    case AGENT_INFO:
        return agent_info_decode(frame, &info) < 0 ? -1 : agent_info_encode(out, &info);
    case AGENT_STARTED:
        return agent_started_decode(frame, &started) < 0 ? -1 : agent_started_encode(out, &started);
    case AGENT_EXITED:
        return agent_exited_decode(frame, &exited) < 0 ? -1 : agent_exited_encode(out, &exited);
    case AGENT_ERROR:
        return agent_error_decode(frame, &error) < 0 ? -1 : agent_error_encode(out, &error);
    case AGENT_RESIZE:
        return agent_resize_decode(frame, &rows, &cols) < 0 ? -1
                                                            : agent_resize_encode(out, rows, cols);
    case AGENT_SIGNAL:
        return agent_signal_decode(frame, &number) < 0 ? -1 : agent_signal_encode(out, number);
    case AGENT_RUN:
        if (agent_run_decode(frame, &run) < 0)
            return -1;
        result = agent_run_encode(out, &run);
        agent_run_done(&run);
        return result;
    default:
        return -1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agent_frame frame;

    while (agent_frame_parse(data, size, &frame) == 1) {
        CLEANUP(buf_donep) struct buf out;
        size_t whole = AGENT_HEADER_SIZE + (size_t)frame.length;

        buf_init(&out, AGENT_FRAME_MAX + AGENT_HEADER_SIZE);
        if (again(&frame, &out) == 0 && (out.length != whole || memcmp(out.data, data, whole)))
            __builtin_trap();
        data += whole;
        size -= whole;
    }
    return 0;
}
