/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/memory_policy.h"

#include "base/util.h"
#include "oci/process_attributes.h"
#include "oci/spec_read.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct name {
    const char *name;
    int value;
};

static int value_of(const struct name *names, size_t length, const char *name)
{
    for (size_t i = 0; i < length; i++)
        if (strcmp(names[i].name, name) == 0)
            return names[i].value;
    return -1;
}

static int read_flags(const struct json_at *at, struct oci_memory_policy *ret, struct err *err)
{
    static const struct name names[] = {
        {"MPOL_F_STATIC_NODES", MPOL_F_STATIC_NODES},
        {"MPOL_F_RELATIVE_NODES", MPOL_F_RELATIVE_NODES},
        {"MPOL_F_NUMA_BALANCING", MPOL_F_NUMA_BALANCING},
    };
    struct oci_strings flags = {0};
    int result = spec_read_strings(at, "flags", &flags, err);

    for (size_t i = 0; result == 0 && i < flags.length; i++) {
        int value = value_of(names, ARRAY_LEN(names), flags.items[i]);

        if (value < 0)
            result = err_set(err, -EINVAL, "%s.flags: unknown flag '%s'", at->path, flags.items[i]);
        else
            ret->mode |= value;
    }
    free(flags.items);
    return result;
}

int memory_policy_read(const struct json_at *linux_at, struct oci_memory_policy *ret,
                       struct err *err)
{
    static const struct name modes[] = {
        {"MPOL_DEFAULT", MPOL_DEFAULT},  {"MPOL_PREFERRED", MPOL_PREFERRED},
        {"MPOL_BIND", MPOL_BIND},        {"MPOL_INTERLEAVE", MPOL_INTERLEAVE},
        {"MPOL_LOCAL", MPOL_LOCAL},      {"MPOL_PREFERRED_MANY", MPOL_PREFERRED_MANY},
        {"MPOL_WEIGHTED_INTERLEAVE", 6},
    };
    const char *mode = NULL, *nodes = NULL;
    struct json_at at;
    bool needs_nodes;
    int result = json_at_member(linux_at, "memoryPolicy", &at, err);

    if (result < 0 || !at.value)
        return result;
    if ((result = json_get_string(&at, "mode", &mode, err)) < 0 ||
        (result = json_opt_string(&at, "nodes", &nodes, err)) < 0)
        return result;
    if ((ret->mode = value_of(modes, ARRAY_LEN(modes), mode)) < 0)
        return err_set(err, -EINVAL, "%s.mode: unknown mode '%s'", at.path, mode);
    needs_nodes = ret->mode != MPOL_DEFAULT && ret->mode != MPOL_LOCAL &&
                  ret->mode != MPOL_PREFERRED;
    if (nodes && !nodes[0])
        nodes = NULL;
    if (nodes ? cpu_list_parse(nodes, &ret->nodes) < 0 : needs_nodes)
        return err_set(err, -EINVAL, "%s.nodes: '%s' is not a list of nodes", at.path,
                       nodes ? nodes : "");
    if (nodes && (ret->mode == MPOL_DEFAULT || ret->mode == MPOL_LOCAL))
        return err_set(err, -EINVAL, "%s.nodes: mode %s takes none", at.path, mode);
    ret->has_nodes = nodes != NULL;
    ret->present = true;
    return read_flags(&at, ret, err);
}

int memory_policy_apply(const struct oci_memory_policy *policy, struct err *err)
{
    if (!policy->present)
        return 0;
    /* The kernel counts one bit less than it is told. */
    if (syscall(SYS_set_mempolicy, policy->mode, policy->has_nodes ? &policy->nodes : NULL,
                policy->has_nodes ? CPU_SETSIZE + 1 : 0) < 0)
        return err_errno(err, -errno, "linux.memoryPolicy: mode %#x", (unsigned)policy->mode);
    return 0;
}
