/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading config.json (OCI runtime specification 1.2, config.md and config-linux.md): the whole and
 * what its parts (spec_parts.h) must agree on. The checks name the member by its path.
 */
#include "oci/spec.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"
#include "oci/hooks.h"
#include "oci/spec_parts.h"
#include "oci/spec_read.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <string.h>

#define CONFIG_SIZE_MAX (16 * MIB)

static int check_sysctl(const struct oci_spec *spec, const char *name, struct err *err)
{
    static const char *const ipc[] = {"kernel.msgmax", "kernel.msgmnb",         "kernel.msgmni",
                                      "kernel.sem",    "kernel.shmall",         "kernel.shmmax",
                                      "kernel.shmmni", "kernel.shm_rmid_forced"};
    int flag = 0;

    if (strncmp(name, "net.", 4) == 0)
        flag = CLONE_NEWNET;
    else if (strncmp(name, "fs.mqueue.", 10) == 0)
        flag = CLONE_NEWIPC;
    else if (strcmp(name, "kernel.domainname") == 0 || strcmp(name, "kernel.hostname") == 0)
        flag = CLONE_NEWUTS;
    for (size_t i = 0; i < ARRAY_LEN(ipc); i++)
        if (strcmp(name, ipc[i]) == 0)
            flag = CLONE_NEWIPC;
    if (flag == 0)
        return err_set(err, -EINVAL, "linux.sysctl.%s: belongs to no namespace", name);
    if (!oci_spec_namespace(spec, flag))
        return err_set(err, -EINVAL, "linux.sysctl.%s: needs a namespace of its own (%s)", name,
                       flag == CLONE_NEWNET   ? "network"
                       : flag == CLONE_NEWIPC ? "ipc"
                                              : "uts");
    return 0;
}

static int check_consistency(const struct oci_spec *spec, struct err *err)
{
    if (!oci_spec_namespace(spec, CLONE_NEWNS))
        return err_set(err, -EINVAL, "linux.namespaces: a mount namespace is required");
    if (spec->hostname && !oci_spec_namespace(spec, CLONE_NEWUTS))
        return err_set(err, -EINVAL, "hostname: needs a uts namespace in linux.namespaces");
    if (spec->nr_net_devices && !oci_spec_namespace(spec, CLONE_NEWNET))
        return err_set(err, -EINVAL,
                       "linux.netDevices: needs a network namespace in linux.namespaces");
    if (spec->nr_uid_maps && !oci_spec_namespace(spec, CLONE_NEWUSER))
        return err_set(err, -EINVAL,
                       "linux.uidMappings: needs a user namespace in linux.namespaces");
    for (size_t i = 0; i < spec->nr_sysctls; i++) {
        int result = check_sysctl(spec, spec->sysctls[i].name, err);

        if (result < 0)
            return result;
    }
    if (spec->domainname && !oci_spec_namespace(spec, CLONE_NEWUTS))
        return err_set(err, -EINVAL, "domainname: needs a uts namespace in linux.namespaces");
    if (spec->nr_time_offsets && !oci_spec_namespace(spec, CLONE_NEWTIME))
        return err_set(err, -EINVAL,
                       "linux.timeOffsets: needs a time namespace in linux.namespaces");
    if (spec->cgroups_path && strstr(spec->cgroups_path, ".."))
        return err_set(err, -EINVAL, "linux.cgroupsPath: '%s' leaves its root", spec->cgroups_path);
    return 0;
}

static int parse_document(struct oci_spec *spec, struct err *err)
{
    struct json_at root, at;
    int result;

    json_at_root(spec->document, &root);
    if ((result = json_get_string(&root, "ociVersion", &spec->version, err)) < 0)
        return result;
    if (strncmp(spec->version, "1.", 2) != 0)
        return err_set(err, -ENOTSUP, "ociVersion: %s, but 1.x is what is understood",
                       spec->version);
    if ((result = spec_read_process(&root, &spec->process, err)) < 0 ||
        (result = json_at_member(&root, "root", &at, err)) < 0)
        return result;
    if (!at.value)
        return err_set(err, -EINVAL, "root: required, and absent");
    if ((result = json_get_string(&at, "path", &spec->root_path, err)) < 0 ||
        (result = json_opt_bool(&at, "readonly", &spec->root_read_only, err)) < 0 ||
        (result = json_opt_string(&root, "hostname", &spec->hostname, err)) < 0 ||
        (result = json_opt_string(&root, "domainname", &spec->domainname, err)) < 0 ||
        (result = spec_read_mounts(&root, spec, err)) < 0 ||
        (result = spec_read_linux(&root, spec, err)) < 0)
        return result;
    spec->annotations = json_object_get(spec->document, "annotations");
    spec->hooks = json_object_get(spec->document, "hooks");
    if ((result = hooks_check(&root, err)) < 0)
        return result;
    return check_consistency(spec, err);
}

DEFINE_CLEANUP(oci_spec_freep, struct oci_spec *, oci_spec_free);

int oci_spec_from_json(json_t *document, const char *source, struct oci_spec **ret, struct err *err)
{
    CLEANUP(oci_spec_freep) struct oci_spec *spec = calloc(1, sizeof(*spec));
    int result;

    if (!spec)
        return err_set(err, -ENOMEM, "%s: out of memory", source);
    spec->document = json_incref(document);
    if ((result = parse_document(spec, err)) < 0)
        return err_wrap(err, "%s", source);
    *ret = TAKE_PTR(spec);
    return 0;
}

int oci_spec_parse(const char *text, size_t length, const char *source, struct oci_spec **ret,
                   struct err *err)
{
    CLEANUP(oci_spec_freep) struct oci_spec *spec = calloc(1, sizeof(*spec));
    int result;

    if (!spec)
        return err_set(err, -ENOMEM, "%s: out of memory", source);
    if ((result = json_parse(text, length, source, &spec->document, err)) < 0)
        return result;
    if ((result = parse_document(spec, err)) < 0)
        return err_wrap(err, "%s", source);
    *ret = TAKE_PTR(spec);
    return 0;
}

int oci_spec_load(int bundle_fd, struct buf *ret_text, struct oci_spec **ret, struct err *err)
{
    int result;

    buf_init(ret_text, CONFIG_SIZE_MAX);
    if ((result = file_load(bundle_fd, "config.json", ret_text, err)) < 0)
        return result;
    return oci_spec_parse(ret_text->data, ret_text->length, "config.json", ret, err);
}

void oci_spec_free(struct oci_spec *spec)
{
    if (!spec)
        return;
    for (size_t i = 0; i < spec->nr_mounts; i++) {
        free(spec->mounts[i].options.items);
        free(spec->mounts[i].label_option);
        free(spec->mounts[i].uid_maps);
        free(spec->mounts[i].gid_maps);
        fd_closep(&spec->mounts[i].tree_fd);
    }
    free(spec->mounts);
    free(spec->namespaces);
    free(spec->uid_maps);
    free(spec->gid_maps);
    free(spec->devices);
    free(spec->resources.devices);
    free(spec->rdt.schemata.items);
    free(spec->net_devices);
    free(spec->masked_paths.items);
    free(spec->read_only_paths.items);
    free(spec->sysctls);
    free(spec->process.additional_gids);
    free(spec->process.args.items);
    free(spec->process.env.items);
    free(spec->process.rlimits);
    json_decref(spec->document);
    free(spec);
}

const char *oci_spec_annotation(const struct oci_spec *spec, const char *name)
{
    return spec->annotations ? json_string_value(json_object_get(spec->annotations, name)) : NULL;
}

const struct oci_namespace *oci_spec_namespace(const struct oci_spec *spec, int flag)
{
    for (size_t i = 0; i < spec->nr_namespaces; i++)
        if (spec->namespaces[i].flag == flag)
            return &spec->namespaces[i];
    return NULL;
}
