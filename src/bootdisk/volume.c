/* SPDX-License-Identifier: Apache-2.0 */
#include "bootdisk/volume.h"

#include <errno.h>

void volume_close(struct volume *volume)
{
    if (volume)
        volume->functions->close(volume);
}

int volume_load(struct volume *volume, const char *path, uint64_t most, volume_sink_fn *sink,
                void *context)
{
    return volume->functions->load(volume, path, most, sink, context);
}

int volume_list(struct volume *volume, const char *path, volume_name_fn *each, void *context)
{
    return volume->functions->list(volume, path, each, context);
}

static int append(void *context, const void *data, size_t length)
{
    return buf_append(context, data, length);
}

int volume_load_text(struct volume *volume, const char *path, struct buf *ret)
{
    int result;

    ret->length = 0;
    result = volume_load(volume, path, ret->cap - 1, append, ret);
    if (result == 0 && !buf_string(ret))
        result = -ENOMEM;
    return result;
}
