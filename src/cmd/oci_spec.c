/* SPDX-License-Identifier: Apache-2.0 */
/* spec, features: what a configuration looks like, and what may be in one. */
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"
#include "cmd/oci_cli.h"
#include "oci/feature_list.h"
#include "oci/spec.h"

#include <fcntl.h>
#include <string.h>

/* An ordinary user's container: a user namespace with their own id as its root, the host's network
 * (another would have no way out), no group ids that cannot be mapped. */
static int make_rootless(json_t *spec)
{
    json_t *linux_object = json_object_get(spec, "linux");
    json_t *namespaces = json_object_get(linux_object, "namespaces");
    json_t *mounts = json_object_get(spec, "mounts");
    json_t *item;
    size_t i;

    json_object_del(linux_object, "resources");
    json_object_set_new(linux_object, "uidMappings",
                        json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID",
                                  (json_int_t)geteuid(), "size", 1));
    json_object_set_new(linux_object, "gidMappings",
                        json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID",
                                  (json_int_t)getegid(), "size", 1));
    for (i = json_array_size(namespaces); i-- > 0;) {
        const char *type =
            json_string_value(json_object_get(json_array_get(namespaces, i), "type"));

        if (type && strcmp(type, "network") == 0)
            json_array_remove(namespaces, i);
    }
    json_array_append_new(namespaces, json_pack("{s:s}", "type", "user"));
    json_array_foreach(mounts, i, item)
    {
        const char *where = json_string_value(json_object_get(item, "destination"));
        json_t *options = json_object_get(item, "options");

        if (where && strcmp(where, "/sys") == 0) {
            json_object_set_new(item, "type", json_string("none"));
            json_object_set_new(item, "source", json_string("/sys"));
            json_array_insert_new(options, 0, json_string("rbind"));
        }
        for (size_t o = json_array_size(options); o-- > 0;)
            if (strcmp(json_string_value(json_array_get(options, o)), "gid=5") == 0)
                json_array_remove(options, o);
    }
    for (i = json_array_size(mounts); i-- > 0;)
        if (strcmp(json_string_value(json_object_get(json_array_get(mounts, i), "destination")),
                   "/sys/fs/cgroup") == 0)
            json_array_remove(mounts, i);
    return 0;
}

int oci_verb_spec(const struct oci_global *global, int argc, char **argv)
{
    static const struct option options[] = {{"bundle", required_argument, NULL, 'b'},
                                            {"rootless", no_argument, NULL, 'r'},
                                            {NULL, 0, NULL, 0}};
    CLEANUP(json_decrefp) json_t *spec = oci_spec_default();
    CLEANUP(freep) char *text = NULL;
    CLEANUP(fd_closep) int fd = -1;
    CLEANUP(fd_closep) int bundle_fd = -1;
    const char *bundle = ".";
    struct err err;
    int option;

    while ((option = getopt_long(argc, argv, "+b:", options, NULL)) >= 0) {
        if (option == 'b')
            bundle = optarg;
        else if (option == 'r')
            make_rootless(spec);
        else
            return oci_unknown_option();
    }
    if ((bundle_fd = open(bundle, O_PATH | O_DIRECTORY | O_CLOEXEC)) >= 0)
        fd = openat(bundle_fd, "config.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        err_errno(&err, -errno, "write '%s/config.json'", bundle);
        return oci_fail(global, &err);
    }
    text = json_text(spec, JSON_INDENT(4));
    if (!text || file_write_full(fd, text, strlen(text)) < 0) {
        err_errno(&err, text ? -errno : -ENOMEM, "write '%s/config.json'", bundle);
        return oci_fail(global, &err);
    }
    return 0;
}

int oci_verb_features(const struct oci_global *global, int argc, char **argv)
{
    CLEANUP(json_decrefp) json_t *features = oci_features();
    struct err err;

    if (argc > 1)
        return oci_usage_error(global, "features: no argument '%s' is known", argv[1]);
    if (!features) {
        err_set(&err, -ENOMEM, "features: out of memory");
        return oci_fail(global, &err);
    }
    return oci_print_json(global, features, JSON_INDENT(4));
}
