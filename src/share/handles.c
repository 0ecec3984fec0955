/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of open files. A handle's number is its slot and the slot's generation. A handle pins
 * its node, whose descriptor then stays for as long as the node does.
 */
#include "share/internal.h"

#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int grow(struct share *share)
{
    uint32_t nr = share->nr_handle_slots ? share->nr_handle_slots * 2 : 64;
    struct share_handle *handles;

    if (nr > SHARE_HANDLES_MAX)
        return -ENFILE;
    handles = reallocarray(share->handles, nr, sizeof(*handles));
    if (!handles)
        return -ENOMEM;
    share->handles = handles;
    memset(handles + share->nr_handle_slots, 0, (nr - share->nr_handle_slots) * sizeof(*handles));
    /* Slot 0 stays unused: 0 ends the list. */
    for (uint32_t i = nr; i-- > MAX(share->nr_handle_slots, 1u);) {
        handles[i].fd = -1;
        handles[i].next_free = share->free_handle;
        share->free_handle = i;
    }
    handles[0].fd = -1;
    share->nr_handle_slots = nr;
    return 0;
}

int share_handle_new(struct share *share, int fd, struct share_node *node, bool directory,
                     bool writable, uint64_t *ret)
{
    struct share_handle *handle;
    int r = share->free_handle ? 0 : grow(share);

    if (r < 0) {
        close(fd);
        return r;
    }
    handle = &share->handles[share->free_handle];
    *ret = (uint64_t)(handle->generation + 1) << 32 | share->free_handle;
    share->free_handle = handle->next_free;
    *handle = (struct share_handle){.fd = fd,
                                    .directory = directory,
                                    .writable = writable,
                                    .generation = handle->generation + 1,
                                    .node = share_node_id(share, node)};
    node->pins++;
    share->nr_handles++;
    return 0;
}

struct share_handle *share_handle_find(struct share *share, uint64_t id, bool directory)
{
    uint32_t index = (uint32_t)id;
    struct share_handle *handle;

    if (!index || index >= share->nr_handle_slots)
        return NULL;
    handle = &share->handles[index];
    return handle->fd >= 0 && handle->generation == (uint32_t)(id >> 32) &&
                   handle->directory == directory
               ? handle
               : NULL;
}

static void release(struct share *share, struct share_handle *handle)
{
    struct share_node *node = share_node_find(share, handle->node);

    if (node && node->pins)
        node->pins--;
    close(handle->fd);
    handle->fd = -1;
    handle->next_free = share->free_handle;
    share->free_handle = (uint32_t)(handle - share->handles);
    share->nr_handles--;
}

void share_handle_close(struct share *share, uint64_t id, bool directory)
{
    struct share_handle *handle = share_handle_find(share, id, directory);

    if (handle)
        release(share, handle);
}

void share_handles_done(struct share *share)
{
    for (uint32_t i = 1; i < share->nr_handle_slots; i++)
        if (share->handles[i].fd >= 0)
            release(share, &share->handles[i]);
}
