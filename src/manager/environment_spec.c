/* SPDX-License-Identifier: Apache-2.0 */
/* An environment as a client describes it: a JSON object, checked member by member. Pure. */
#include "manager/environment.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <errno.h>
#include <string.h>

#define OVERCOMMIT_MAX 100.0

static int read_overcommit(const struct json_at *root, struct environment_spec *spec,
                           struct err *err)
{
    static const char *const known[] = {"cpu", "memory", NULL};
    struct json_at at;
    int result = json_at_member(root, "overcommit", &at, err);

    if (result < 0 || !at.value || json_is_null(at.value))
        return result;
    if ((result = json_reject_unknown(&at, known, err)) < 0 ||
        (result = spec_get_real(&at, "cpu", 0.01, OVERCOMMIT_MAX, &spec->overcommit[ALLOCATION_CPU],
                                err)) < 0)
        return result;
    return spec_get_real(&at, "memory", 0.01, OVERCOMMIT_MAX, &spec->overcommit[ALLOCATION_MEMORY],
                         err);
}

static int read_policy(const struct json_at *root, struct environment_spec *spec, struct err *err)
{
    const char *policy = "static", *network = "";
    int result;

    if ((result = json_opt_string(root, "policy", &policy, err)) < 0 ||
        (result = json_opt_string(root, "network", &network, err)) < 0)
        return result;
    if (strcmp(policy, "static") != 0 && strcmp(policy, "dynamic") != 0)
        return err_set(err, -EINVAL, "policy: '%.40s' is neither static nor dynamic", policy);
    spec->mode = !strcmp(policy, "dynamic") ? ALLOCATION_DYNAMIC : ALLOCATION_STATIC;
    if (*network && (strlen(network) >= sizeof(spec->network) || spec_check_name(network, err) < 0))
        return err_set(err, -EINVAL,
                       "network: '%.80s' is no name of a network; `lodge network ls` lists them",
                       network);
    snprintf(spec->network, sizeof(spec->network), "%s", network);
    return 0;
}

static int read_members(const struct json_at *root, struct environment_spec *spec, struct err *err)
{
    uint64_t cpu_millis = 0, memory_bytes = 0;
    int result;

    if ((result = spec_get_number(root, "cpu_millis", 10, 8192000, &cpu_millis, err)) < 0 ||
        (result = spec_get_number(root, "memory_bytes", 4 * MIB, UINT64_C(1) << 50, &memory_bytes,
                                  err)) < 0 ||
        (result = spec_get_real(root, "priority", 0.001, 1e6, &spec->priority, err)) < 0 ||
        (result = spec_get_real(root, "alpha", 0.001, 1e6, &spec->alpha, err)) < 0 ||
        (result = spec_get_real(root, "beta", -1e6, 1e6, &spec->beta, err)) < 0 ||
        (result = spec_get_number(root, "instances_max", 0, 1000000, &spec->instances_max, err)) <
            0 ||
        (result = spec_get_real(root, "keep_free", 0, 0.999, &spec->keep_free, err)) < 0 ||
        (result = json_opt_bool(root, "drf", &spec->drf, err)) < 0 ||
        (result = read_overcommit(root, spec, err)) < 0)
        return result;
    if (cpu_millis)
        spec->cpus = (double)cpu_millis / 1000;
    if (memory_bytes)
        spec->memory = (double)memory_bytes;
    return read_policy(root, spec, err);
}

int environment_spec_parse(json_t *document, struct environment_spec *ret, struct err *err)
{
    static const char *const known[] = {"cpu_millis", "memory_bytes",  "priority",  "alpha",
                                        "beta",       "instances_max", "keep_free", "drf",
                                        "overcommit", "policy",        "network",   NULL};
    struct environment_spec spec = {.cpus = ALLOCATION_UNLIMITED,
                                    .memory = ALLOCATION_UNLIMITED,
                                    .priority = 1,
                                    .alpha = 1,
                                    .overcommit = {1, 1, 1, 1}};
    struct json_at root;
    int result;

    json_at_root(document, &root);
    if (!json_is_object(document))
        return err_set(err, -EINVAL, "not a JSON object");
    if ((result = json_reject_unknown(&root, known, err)) < 0 ||
        (result = read_members(&root, &spec, err)) < 0)
        return result;
    *ret = spec;
    return 0;
}

int environment_spec_change(json_t *document, json_t *changes, json_t **ret, struct err *err)
{
    CLEANUP(json_decrefp) json_t *changed = json_deep_copy(document);
    struct environment_spec spec;
    const char *name;
    json_t *value;
    int result;

    if (!json_is_object(changes))
        return err_set(err, -EINVAL, "not a JSON object");
    if (!changed)
        return err_set(err, -ENOMEM, "out of memory");
    json_object_foreach(changes, name, value)
    {
        if (json_is_null(value))
            json_object_del(changed, name);
        else if (json_object_set(changed, name, value) < 0)
            return err_set(err, -ENOMEM, "out of memory");
    }
    if ((result = environment_spec_parse(changed, &spec, err)) < 0)
        return result;
    *ret = TAKE_PTR(changed);
    return 0;
}
