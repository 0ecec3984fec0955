/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the "hardware" of a specification. */
#include "manager/hardware.h"

#include "base/hash.h"
#include "base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX       4095
#define MEMORY_DEFAULT (512 * MIB)
#define MEMORY_LEAST   (4 * MIB)
#define MEMORY_MOST    (UINT64_C(1) << 46)
#define PAGE           4096u

static int get_text(const struct json_at *at, const char *name, const char **ret, struct err *err)
{
    int result = json_opt_string(at, name, ret, err);

    if (result == 0 && *ret && (!**ret || strlen(*ret) > TEXT_MAX))
        return err_set(err, -EINVAL, "%s.%s: not 1 to %d bytes", at->path, name, TEXT_MAX);
    return result;
}

static int get_path(const struct json_at *at, const char *name, const char **ret, struct err *err)
{
    int result = get_text(at, name, ret, err);

    if (result == 0 && *ret && **ret != '/')
        return err_set(err, -EINVAL, "%s.%s: '%.200s' is not an absolute path", at->path, name,
                       *ret);
    return result;
}

int hardware_parse_disk(const struct json_at *at, struct hardware_disk *ret, struct err *err)
{
    static const char *const known[] = {"disk", "format", "read_only", NULL};
    struct hardware_disk disk = {0};
    int result;

    if ((result = json_reject_unknown(at, known, err)) < 0 ||
        (result = json_get_string(at, "disk", &disk.disk, err)) < 0 ||
        (result = get_text(at, "disk", &disk.disk, err)) < 0 ||
        (result = json_opt_string(at, "format", &disk.format, err)) < 0 ||
        (result = json_opt_bool(at, "read_only", &disk.read_only, err)) < 0)
        return result;
    if (disk.disk[0] != '/' && strchr(disk.disk, '/'))
        return err_set(err, -EINVAL,
                       "disk '%.200s': a name of `lodge disk ls`, or an absolute path", disk.disk);
    if (disk.format && strcmp(disk.format, "raw") != 0 && strcmp(disk.format, "qcow2") != 0)
        return err_set(err, -EINVAL, "format: '%.40s' is none of raw, qcow2", disk.format);
    *ret = disk;
    return 0;
}

static bool id_is_good(const char *id)
{
    size_t length = strlen(id);

    return length > 0 && length <= HARDWARE_ID_MAX &&
           strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == length;
}

#define HOST_NETWORK "network="

static int parse_host_network(struct hardware_net *net, struct err *err)
{
    const char *name = net->net + strlen(HOST_NETWORK);
    size_t length = strcspn(name, ",");

    if (length < sizeof(net->network))
        memcpy(net->network, name, length);
    if (!network_name_ok(net->network) || (name[length] && strncmp(name + length, ",ip=", 4) != 0))
        return err_set(err, -EINVAL, "network '%.200s': 'network=NAME[,ip=ADDRESS]' is needed",
                       net->net);
    net->address4 = name[length] ? name + length + 4 : NULL;
    return 0;
}

bool hardware_is_networked(const struct hardware *hardware, const char *network)
{
    for (unsigned i = 0; hardware && i < hardware->nr_nets; i++)
        if (hardware->nets[i].network[0] &&
            (!network || !strcmp(hardware->nets[i].network, network)))
            return true;
    return false;
}

int hardware_parse_net(const struct json_at *at, struct hardware_net *ret, struct err *err)
{
    static const char *const known[] = {"id", "net", NULL};
    struct hardware_net net = {0};
    int result;

    if ((result = json_reject_unknown(at, known, err)) < 0 ||
        (result = json_get_string(at, "id", &net.id, err)) < 0 ||
        (result = json_get_string(at, "net", &net.net, err)) < 0 ||
        (result = get_text(at, "net", &net.net, err)) < 0)
        return result;
    if (!id_is_good(net.id))
        return err_set(err, -EINVAL,
                       "network '%.40s': its id has 1 to %d small letters, digits and '-'", net.id,
                       HARDWARE_ID_MAX);
    if (!strncmp(net.net, HOST_NETWORK, strlen(HOST_NETWORK))) {
        if ((result = parse_host_network(&net, err)) < 0)
            return result;
    } else if (strcmp(net.net, "user") != 0 && strncmp(net.net, "user,", 5) != 0 &&
               strncmp(net.net, "tap=", 4) != 0) {
        return err_set(err, -EINVAL,
                       "network '%.200s': 'user', 'tap=NAME' or 'network=NAME' is needed", net.net);
    }
    *ret = net;
    return 0;
}

static void id_of(const char *name, bool itself, char first, char ret[HARDWARE_ID_MAX + 1])
{
    if (itself)
        snprintf(ret, HARDWARE_ID_MAX + 1, "%s", name);
    else
        snprintf(ret, HARDWARE_ID_MAX + 1, "%c%016llx", first,
                 (unsigned long long)hash_bytes(HASH_START, name, strlen(name)));
}

void hardware_disk_id(const char *disk, char ret[HARDWARE_ID_MAX + 1])
{
    id_of(disk, *disk != '/' && strlen(disk) <= HARDWARE_ID_MAX, 'd', ret);
}

void hardware_net_id(const char *network, char ret[HARDWARE_ID_MAX + 1])
{
    id_of(network, id_is_good(network), 'n', ret);
}

static int read_list(const struct json_at *root, const char *name, size_t most, struct json_at *ret,
                     size_t *ret_nr, struct err *err)
{
    int result = json_at_member(root, name, ret, err);

    if (result < 0)
        return result;
    if (ret->value && (!json_is_array(ret->value) || json_array_size(ret->value) > most))
        return err_set(err, -EINVAL, "%s: not a list of at most %zu", ret->path, most);
    *ret_nr = json_array_size(ret->value);
    return 0;
}

int hardware_parse_disks(const struct json_at *root, struct hardware_disk ret[HARDWARE_DISKS_MAX],
                         unsigned *ret_nr, struct err *err)
{
    char ids[HARDWARE_DISKS_MAX][HARDWARE_ID_MAX + 1];
    struct json_at list, at;
    size_t nr = 0;
    int result = read_list(root, "disks", HARDWARE_DISKS_MAX, &list, &nr, err);

    for (size_t i = 0; result == 0 && i < nr; i++) {
        if ((result = json_at_index(&list, i, &at, err)) < 0 ||
            (result = hardware_parse_disk(&at, &ret[i], err)) < 0)
            return result;
        hardware_disk_id(ret[i].disk, ids[i]);
        for (size_t j = 0; j < i; j++)
            if (!strcmp(ids[i], ids[j]))
                return err_set(err, -EEXIST, "disk '%.200s' is attached already", ret[i].disk);
        *ret_nr = (unsigned)i + 1;
    }
    return result;
}

static int read_nets(const struct json_at *root, struct hardware *h, struct err *err)
{
    struct json_at list, at;
    size_t nr = 0;
    int result = read_list(root, "networks", HARDWARE_NETS_MAX, &list, &nr, err);

    for (size_t i = 0; result == 0 && i < nr; i++) {
        if ((result = json_at_index(&list, i, &at, err)) < 0 ||
            (result = hardware_parse_net(&at, &h->nets[i], err)) < 0)
            return result;
        for (size_t j = 0; j < i; j++)
            if (!strcmp(h->nets[i].id, h->nets[j].id) ||
                (h->nets[i].network[0] && !strcmp(h->nets[i].network, h->nets[j].network)))
                return err_set(err, -EEXIST, "network '%s' is there already", h->nets[i].id);
        h->nr_nets++;
    }
    return result;
}

static int read_boot(const struct json_at *root, struct hardware *h, struct err *err)
{
    static const char *const known[] = {"cdrom", "disk", "kernel"};
    struct json_at list;
    size_t nr = 0, used = 0;
    unsigned seen = 0;
    int result = read_list(root, "boot", ARRAY_LEN(known), &list, &nr, err);

    if (result < 0)
        return result;
    if (nr == 0)
        snprintf(h->boot, sizeof(h->boot), "%s",
                 h->kernel  ? "kernel"
                 : h->cdrom ? "cdrom,disk"
                            : "disk");
    for (size_t i = 0; i < nr; i++) {
        const char *word = json_string_value(json_array_get(list.value, i)) ?: "";
        size_t which = 0;

        while (which < ARRAY_LEN(known) && strcmp(word, known[which]) != 0)
            which++;
        if (which == ARRAY_LEN(known) || seen & 1u << which)
            return err_set(err, -EINVAL, "%s[%zu]: cdrom, disk and kernel, each once at most",
                           list.path, i);
        seen |= 1u << which;
        used += (size_t)snprintf(h->boot + used, sizeof(h->boot) - used, "%s%s", i ? "," : "",
                                 word);
    }
    return 0;
}

static int check_numbers(const struct hardware *h, struct err *err)
{
    if (h->memory_bytes < MEMORY_LEAST || h->memory_bytes > MEMORY_MOST || h->memory_bytes % PAGE)
        return err_set(err, -EINVAL,
                       "hardware.memory_bytes: %llu is not 4 MiB to 64 TiB in pages of 4096",
                       (unsigned long long)h->memory_bytes);
    if (h->cpus < 1 || h->cpus > HARDWARE_CPUS_MAX)
        return err_set(err, -EINVAL, "hardware.cpus: %llu is not within 1 and %d",
                       (unsigned long long)h->cpus, HARDWARE_CPUS_MAX);
    if (h->initrd && !h->kernel)
        return err_set(err, -EINVAL, "hardware.initrd: only with a kernel");
    return 0;
}

int hardware_parse(const struct json_at *at, struct hardware *ret, struct err *err)
{
    static const char *const known[] = {"memory_bytes", "cpus",  "boot",  "kernel",   "initrd",
                                        "cmdline",      "cdrom", "disks", "networks", NULL};
    struct hardware h = {.memory_bytes = MEMORY_DEFAULT, .cpus = 1};
    int result;

    if ((result = json_reject_unknown(at, known, err)) < 0 ||
        (result = json_opt_uint(at, "memory_bytes", &h.memory_bytes, err)) < 0 ||
        (result = json_opt_uint(at, "cpus", &h.cpus, err)) < 0 ||
        (result = get_path(at, "kernel", &h.kernel, err)) < 0 ||
        (result = get_path(at, "initrd", &h.initrd, err)) < 0 ||
        (result = get_text(at, "cmdline", &h.cmdline, err)) < 0 ||
        (result = get_path(at, "cdrom", &h.cdrom, err)) < 0 ||
        (result = hardware_parse_disks(at, h.disks, &h.nr_disks, err)) < 0 ||
        (result = read_nets(at, &h, err)) < 0 || (result = read_boot(at, &h, err)) < 0 ||
        (result = check_numbers(&h, err)) < 0)
        return result;
    *ret = h;
    return 0;
}
