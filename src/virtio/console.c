/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console device with port 0 only (virtio 1.2 5.3): queue 0 carries input to the guest, queue 1
 * its output. Nothing is buffered here: input that finds no guest buffer is not taken, and output
 * that its receiver does not take stays in the queue.
 */
#include "virtio/device.h"

#include "base/util.h"

#include <errno.h>

#define CONSOLE_INPUT  0
#define CONSOLE_OUTPUT 1

#define VIRTIO_CONSOLE_F_SIZE 0

struct console_config_space {
    uint16_t columns, rows;
    uint32_t max_nr_ports, emerg_wr;
};

struct console {
    struct virtio_device device;
    struct virtio_console_config config;
    bool output_stopped; /* until virtio_console_output_ready */
    bool input_wanted;   /* input_ready is owed */
    bool output_held;    /* `held` is a popped chain of which output_offset bytes are out */
    uint32_t output_offset;
    struct virtq_chain held;
    struct virtq_chain input;
};

/* Returns whether all of the held chain is out. */
static bool output_chain(struct console *console)
{
    struct virtq_chain *chain = &console->held;

    while (console->output_offset < chain->out_bytes) {
        struct iovec iov;
        size_t taken;

        virtq_chain_slice(chain, false, console->output_offset,
                          chain->out_bytes - console->output_offset, &iov, 1);
        taken = console->config.output(console->config.context, iov.iov_base, iov.iov_len);
        console->output_offset += (uint32_t)MIN(taken, iov.iov_len);
        if (taken < iov.iov_len) {
            console->output_stopped = true;
            return false;
        }
    }
    return true;
}

static void serve_output(struct console *console)
{
    struct virtio_device *device = &console->device;
    struct virtq *queue = &device->queues[CONSOLE_OUTPUT];
    unsigned budget = VIRTIO_DEVICE_BURST;

    virtq_quiet(queue);
    do {
        while (
            !console->output_stopped &&
            (console->output_held || virtio_device_pop(device, CONSOLE_OUTPUT, &console->held))) {
            if (!console->output_held)
                console->output_offset = 0;
            console->output_held = true;
            budget--;
            if (!output_chain(console))
                break;
            console->output_held = false;
            virtq_push(queue, &console->held, 0);
        }
        virtio_device_publish(device, CONSOLE_OUTPUT);
    } while (!console->output_stopped && budget && virtq_listen(queue));
}

static void console_notify(struct virtio_device *device, unsigned queue)
{
    struct console *console = CONTAINER_OF(device, struct console, device);

    if (queue == CONSOLE_OUTPUT) {
        serve_output(console);
    } else if (console->input_wanted) {
        console->input_wanted = false;
        if (console->config.input_ready)
            console->config.input_ready(console->config.context);
    }
}

size_t virtio_console_input(struct virtio_device *device, const void *data, size_t length)
{
    struct console *console = CONTAINER_OF(device, struct console, device);
    struct virtq *queue = &device->queues[CONSOLE_INPUT];
    size_t done = 0;

    do {
        while (done < length && virtio_device_pop(device, CONSOLE_INPUT, &console->input)) {
            uint32_t want = (uint32_t)MIN(length - done, (size_t)VIRTQ_CHAIN_BYTES_MAX);
            uint32_t n = virtq_chain_write(&console->input, 0, (const char *)data + done, want);

            virtq_push(queue, &console->input, n);
            done += n;
        }
        virtio_device_publish(device, CONSOLE_INPUT);
    } while (done < length && virtq_listen(queue));
    console->input_wanted = done < length;
    return done;
}

void virtio_console_output_ready(struct virtio_device *device)
{
    struct console *console = CONTAINER_OF(device, struct console, device);

    console->output_stopped = false;
    serve_output(console);
}

void virtio_console_resize(struct virtio_device *device, uint16_t columns, uint16_t rows)
{
    uint16_t size[2] = {columns, rows};

    virtio_device_set_config(device, 0, size, sizeof(size));
}

static void console_reset(struct virtio_device *device)
{
    CONTAINER_OF(device, struct console, device)->output_held = false;
}

static void console_free(struct virtio_device *device)
{
    virtio_device_done(device);
    free(CONTAINER_OF(device, struct console, device));
}

static const struct virtio_class console_class = {
    .name = "console",
    .id = VIRTIO_ID_CONSOLE,
    .nr_queues = 2,
    .notify = console_notify,
    .reset = console_reset,
    .free = console_free,
};

int virtio_console_new(const struct virtio_host *host, const struct virtio_console_config *config,
                       struct virtio_device **ret, struct err *err)
{
    struct console_config_space space = {
        .columns = config->columns,
        .rows = config->rows,
        .max_nr_ports = 1,
    };
    struct console *console = calloc(1, sizeof(*console));

    if (!console)
        return err_set(err, -ENOMEM, "console device: out of memory");
    virtio_device_init(&console->device, &console_class, host, VIRTIO_F(VIRTIO_CONSOLE_F_SIZE));
    console->config = *config;
    console->device.config_bytes = sizeof(space);
    memcpy(console->device.config, &space, sizeof(space));
    *ret = &console->device;
    return 0;
}
