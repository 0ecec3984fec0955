/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to hotplug.h, as the control socket makes them, that have to succeed. */
#ifndef LODGE_TESTS_HOTPLUG_CALLS_H
#define LODGE_TESTS_HOTPLUG_CALLS_H

#include "testing.h"
#include "vmm/hotplug.h"

#include <string.h>

/* The state that the answer tells. */
static inline const char *detached(struct hotplug *hotplug, const char *id, bool force)
{
    static char state[16];
    json_t *request = json_pack("{s:s, s:b}", "id", id, "force", (int)force), *answer = NULL;
    struct err err = ERR_INIT;

    ck_assert_msg(!hotplug_detach(hotplug, request, &answer, &err), "%s", err.message);
    snprintf(state, sizeof(state), "%s", json_string_value(json_object_get(answer, "state")));
    json_decref(answer);
    json_decref(request);
    return state;
}

static inline size_t hotplug_count(struct hotplug *hotplug)
{
    struct err err = ERR_INIT;
    json_t *answer = NULL;
    size_t nr;

    ck_assert_msg(!hotplug_list(hotplug, &answer, &err), "%s", err.message);
    nr = json_array_size(json_object_get(answer, "devices"));
    json_decref(answer);
    return nr;
}

#endif
