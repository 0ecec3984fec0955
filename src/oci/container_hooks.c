/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/container_hooks.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/util.h"
#include "oci/hooks.h"

#include <errno.h>
#include <string.h>

#define HOOKS_FILE     "hooks.json"
#define HOOKS_SIZE_MAX (1 * MIB)

DEFINE_CLEANUP(json_releasep, json_t *, json_decref);

json_t *container_hooks_state(const struct container_state *state)
{
    return json_pack("{s:s, s:s, s:s, s:O*}", "ociVersion", state->version, "id", state->id,
                     "bundle", state->bundle, "annotations", state->annotations);
}

static char *state_text(const struct container_state *state, const char *status, pid_t pid)
{
    CLEANUP(json_releasep) json_t *json = container_hooks_state(state);

    return json ? hooks_state_text(json, status, pid) : NULL;
}

int container_hooks_created(const json_t *hooks, const struct container_state *state, pid_t pid,
                            struct err *err)
{
    CLEANUP(freep) char *text = state_text(state, "creating", pid);
    int result;

    if (!text)
        return err_set(err, -ENOMEM, "hooks: out of memory");
    if ((result = hooks_run(hooks, HOOKS_PRESTART, text, err)) < 0)
        return result;
    return hooks_run(hooks, HOOKS_CREATE_RUNTIME, text, err);
}

int container_hooks_save(int state_fd, const json_t *hooks, struct err *err)
{
    CLEANUP(freep) char *text = NULL;
    CLEANUP(json_releasep) json_t *json = NULL;

    if (!hooks_present(hooks, HOOKS_POSTSTART) && !hooks_present(hooks, HOOKS_POSTSTOP))
        return 0;
    json = json_pack("{s:O*, s:O*}", HOOKS_POSTSTART, json_object_get(hooks, HOOKS_POSTSTART),
                     HOOKS_POSTSTOP, json_object_get(hooks, HOOKS_POSTSTOP));
    if (!json || !(text = json_text(json, JSON_COMPACT)))
        return err_set(err, -ENOMEM, "hooks: out of memory");
    return file_replace(state_fd, HOOKS_FILE, text, strlen(text), 0600, err);
}

json_t *container_hooks_load(int state_fd)
{
    CLEANUP(buf_donep) struct buf text;
    json_t *json = NULL;

    buf_init(&text, HOOKS_SIZE_MAX);
    if (faccessat(state_fd, HOOKS_FILE, F_OK, 0) < 0 ||
        file_load(state_fd, HOOKS_FILE, &text, NULL) < 0 ||
        json_parse(text.data, text.length, HOOKS_FILE, &json, NULL) < 0)
        return NULL;
    return json;
}

static void run_late(const json_t *hooks, const char *kind, const struct container_state *state,
                     const char *status, pid_t pid)
{
    CLEANUP(freep) char *text = NULL;
    struct err err = ERR_INIT;

    if (!hooks_present(hooks, kind))
        return;
    text = state_text(state, status, pid);
    if (!text || hooks_run_all(hooks, kind, text, &err) < 0)
        log_warning("container '%s': %s", state->id, text ? err.message : "hooks: out of memory");
}

void container_hooks_started(const json_t *hooks, const struct container_state *state)
{
    run_late(hooks, HOOKS_POSTSTART, state, "running", state->pid);
}

void container_hooks_stopped(const json_t *hooks, const struct container_state *state)
{
    run_late(hooks, HOOKS_POSTSTOP, state, "stopped", 0);
}
