/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entropy device (virtio 1.2 5.4): fills buffers from getrandom(2), at a bounded rate. The
 * budget is a bucket that holds up to one second of the rate (at least one buffer's worth); when it
 * is empty the queue waits for a timer.
 */
#include "virtio/device.h"

#include "base/clock.h"
#include "base/util.h"

#include <errno.h>
#include <sys/random.h>

#define RNG_DEFAULT_RATE MIB
#define RNG_BUFFER_MAX   4096u /* of one request; the rest is returned unused */

struct rng {
    struct virtio_device device;
    uint64_t bytes_per_second;
    uint64_t budget_bytes;
    uint64_t refilled_ns;
    struct loop_timer *timer;
    struct virtq_chain chain;
};

static void refill(struct rng *rng)
{
    uint64_t now = clock_monotonic_ns();
    uint64_t most = MAX(rng->bytes_per_second, (uint64_t)RNG_BUFFER_MAX);
    uint64_t elapsed = MIN(now - rng->refilled_ns, NS_PER_S);
    uint64_t gained = elapsed * rng->bytes_per_second / NS_PER_S;

    if (gained == 0)
        return; /* keep the fraction */
    rng->refilled_ns = now;
    rng->budget_bytes = MIN(rng->budget_bytes + gained, most);
}

static void serve(struct rng *rng)
{
    struct virtq *queue = &rng->device.queues[0];
    unsigned budget = VIRTIO_DEVICE_BURST;

    refill(rng);
    while (rng->budget_bytes && budget-- && virtio_device_pop(&rng->device, 0, &rng->chain)) {
        uint8_t data[RNG_BUFFER_MAX];
        uint32_t want = MIN(rng->chain.in_bytes, RNG_BUFFER_MAX);
        ssize_t n;

        want = (uint32_t)MIN((uint64_t)want, rng->budget_bytes);
        n = getrandom(data, want, 0);
        if (n < 0)
            n = 0;
        rng->budget_bytes -= (uint64_t)n;
        virtq_chain_write(&rng->chain, 0, data, (uint32_t)n);
        virtq_push(queue, &rng->chain, (uint32_t)n);
    }
    virtio_device_publish(&rng->device, 0);
    if (rng->budget_bytes == 0 && rng->device.active)
        loop_timer_arm(rng->timer, clock_monotonic_ns() + 20 * NS_PER_MS);
    else if (virtq_listen(queue))
        virtio_device_notified(&rng->device, 0);
}

static void on_timer(void *context)
{
    serve(context);
}

static void rng_notify(struct virtio_device *device, unsigned queue)
{
    (void)queue;
    serve(CONTAINER_OF(device, struct rng, device));
}

static void rng_reset(struct virtio_device *device)
{
    loop_timer_arm(CONTAINER_OF(device, struct rng, device)->timer, 0);
}

static void rng_free(struct virtio_device *device)
{
    struct rng *rng = CONTAINER_OF(device, struct rng, device);

    loop_timer_free(rng->timer);
    virtio_device_done(device);
    free(rng);
}

static const struct virtio_class rng_class = {
    .name = "rng",
    .id = VIRTIO_ID_ENTROPY,
    .nr_queues = 1,
    .notify = rng_notify,
    .reset = rng_reset,
    .free = rng_free,
};

int virtio_rng_new(const struct virtio_host *host, const struct virtio_rng_config *config,
                   struct virtio_device **ret, struct err *err)
{
    struct rng *rng = calloc(1, sizeof(*rng));
    int r;

    if (!rng)
        return err_set(err, -ENOMEM, "entropy device: out of memory");
    virtio_device_init(&rng->device, &rng_class, host, 0);
    rng->bytes_per_second = config->bytes_per_second ? config->bytes_per_second : RNG_DEFAULT_RATE;
    rng->bytes_per_second = MIN(rng->bytes_per_second, GIB);
    rng->budget_bytes = MAX(rng->bytes_per_second, (uint64_t)RNG_BUFFER_MAX);
    rng->refilled_ns = clock_monotonic_ns();
    r = loop_timer_new(host->loop, on_timer, rng, &rng->timer, err);
    if (r < 0) {
        rng_free(&rng->device);
        return r;
    }
    *ret = &rng->device;
    return 0;
}
