/* SPDX-License-Identifier: Apache-2.0 */
/* A machine without an image: which disks it may have, and the command that runs it. */
#include "manager/hardware.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"
#include "image/vdisk.h"
#include "manager/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEVICES_ALWAYS     1    /* entropy */
#define DEVICES_WITH_SLOTS 7    /* lodge-vmm --hotplug */
#define WORDS_MAX          4096 /* bytes of a log's end that are looked at */

int hardware_find_disk(const struct manager *m, const struct hardware_disk *wanted,
                       struct vdisk *ret, struct err *err)
{
    int result = vdisk_find(m->options.images, wanted->disk, wanted->format, ret, err);

    if (result < 0)
        return result;
    if (wanted->format)
        ret->qcow2 = !strcmp(wanted->format, "qcow2");
    if (access(ret->path, F_OK) < 0)
        return err_errno(err, -errno, "disk '%s'", ret->path);
    return 0;
}

struct claim {
    dev_t device;
    ino_t inode;
    bool read_only;
};

/* Is one of the disks the file of the claim, in a way that excludes it? */
static bool conflicts(const struct manager *m, const struct spec *spec, const struct claim *claim)
{
    unsigned nr;
    const struct hardware_disk *disks = spec_disks(spec, &nr);

    for (unsigned i = 0; i < nr; i++) {
        struct vdisk disk;
        struct stat st;

        if ((!claim->read_only || !disks[i].read_only) &&
            hardware_find_disk(m, &disks[i], &disk, NULL) == 0 && stat(disk.path, &st) == 0 &&
            st.st_dev == claim->device && st.st_ino == claim->inode)
            return true;
    }
    return false;
}

/* The name of an instance but `self` that has it; "" when there is none. */
static int find_owner(struct manager *m, const struct instance *self, const struct claim *claim,
                      char ret[SPEC_NAME_MAX + 1], struct err *err)
{
    int result = 0;

    *ret = '\0';
    pthread_mutex_lock(&m->lock);
    for (const struct instance *at = m->first; at && !*ret && result == 0; at = at->next) {
        struct spec spec;

        if (at == self || !at->brief->disks)
            continue;
        if ((result = spec_parse_text(at->spec, &spec, err)) < 0)
            break;
        if (conflicts(m, &spec, claim))
            snprintf(ret, SPEC_NAME_MAX + 1, "%s", at->name);
        spec_done(&spec);
    }
    pthread_mutex_unlock(&m->lock);
    return result;
}

static int check_disk(struct manager *m, const struct instance *self,
                      const struct hardware_disk *wanted, struct err *err)
{
    char owner[SPEC_NAME_MAX + 1];
    struct claim claim;
    struct vdisk disk;
    struct stat st;
    int result = hardware_find_disk(m, wanted, &disk, err);

    if (result < 0)
        return result;
    if (stat(disk.path, &st) < 0)
        return err_errno(err, -errno, "disk '%s'", disk.path);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return err_set(err, -EINVAL, "disk '%s': neither a regular file nor a block device",
                       disk.path);
    claim = (struct claim){st.st_dev, st.st_ino, wanted->read_only};
    if ((result = find_owner(m, self, &claim, owner, err)) < 0 || !*owner)
        return result;
    return err_set(err, -EBUSY,
                   "disk '%s' is attached to '%s': `lodge disk detach %s %s` first, or attach it "
                   "read-only to both",
                   wanted->disk, owner, wanted->disk, owner);
}

static int check_file(const char *what, const char *path, struct err *err)
{
    struct stat st;

    if (!path)
        return 0;
    if (stat(path, &st) < 0)
        return err_errno(err, -errno, "%s '%s'", what, path);
    return S_ISDIR(st.st_mode) ? err_errno(err, -EISDIR, "%s '%s'", what, path) : 0;
}

static int check_networks(const struct hardware *hardware, struct err *err)
{
    int result = 0;

    if (!hardware_is_networked(hardware, NULL))
        return 0;
    if (geteuid() != 0)
        return err_set(err, -EOPNOTSUPP,
                       "networks: those of the host need a manager that runs as root; \"user\" "
                       "does not");
    for (unsigned i = 0; result == 0 && i < hardware->nr_nets; i++)
        if (hardware->nets[i].network[0])
            result = networks_exists(hardware->nets[i].network, err);
    return result;
}

int hardware_check(struct manager *m, const struct instance *self, const struct hardware *hardware,
                   struct err *err)
{
    int result = check_networks(hardware, err);

    if (result < 0)
        return result;

    if ((result = check_file("kernel", hardware->kernel, err)) < 0 ||
        (result = check_file("initrd", hardware->initrd, err)) < 0 ||
        (result = check_file("cdrom", hardware->cdrom, err)) < 0)
        return result;
    return hardware_check_disks(m, self, hardware->disks, hardware->nr_disks, err);
}

int hardware_check_disks(struct manager *m, const struct instance *self,
                         const struct hardware_disk *disks, unsigned nr, struct err *err)
{
    int result = 0;

    for (unsigned i = 0; result == 0 && i < nr; i++)
        result = check_disk(m, self, &disks[i], err);
    return result;
}

int hardware_change_allowed(const struct instance *instance, const json_t *changes, struct err *err)
{
    static const char *const fixed[] = {"memory_bytes", "cpus", "cdrom", "disks", "networks"};

    if (!instance->brief->hardware)
        return err_set(err, -EINVAL, "hardware: '%s' was made of an image", instance->name);
    if (!json_is_object(changes))
        return err_set(err, -EINVAL, "hardware: not an object");
    if (!life_is_active(instance->row.state))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        if (json_object_get(changes, fixed[i]))
            return err_set(err, -EBUSY,
                           "hardware.%s: changes only while the machine is stopped; `lodge vm stop "
                           "%s` first",
                           fixed[i], instance->name);
    return 0;
}

static int add_disks(struct manager *m, const struct hardware *hardware, json_t *list,
                     struct err *err)
{
    int result;

    for (unsigned i = 0; i < hardware->nr_disks; i++) {
        char id[HARDWARE_ID_MAX + 1];
        struct vdisk disk;

        if ((result = hardware_find_disk(m, &hardware->disks[i], &disk, err)) < 0)
            return result;
        hardware_disk_id(hardware->disks[i].disk, id);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:b}", "path", disk.path, "serial",
                                              id, "format", disk.qcow2 ? "qcow2" : "raw",
                                              "read_only", (int)hardware->disks[i].read_only));
    }
    if (hardware->cdrom)
        json_array_append_new(list, json_pack("{s:s, s:s, s:b}", "path", hardware->cdrom, "serial",
                                              HARDWARE_CDROM, "cdrom", 1));
    return 0;
}

static int put_texts(json_t *document, const struct hardware *hardware)
{
    if (json_put_string(document, "boot", hardware->boot) < 0 ||
        json_put_string(document, "kernel", hardware->kernel) < 0 ||
        json_put_string(document, "initrd", hardware->initrd) < 0 ||
        json_put_string(document, "cmdline", hardware->cmdline) < 0)
        return -ENOMEM;
    return 0;
}

/* Slots for parts that come later are in the place of some that are there from the beginning. */
static bool has_room(const struct hardware *hardware, unsigned nr_more)
{
    return hardware->nr_disks + hardware->nr_nets + (hardware->cdrom ? 1u : 0u) + DEVICES_ALWAYS +
               nr_more <=
           DEVICES_WITH_SLOTS;
}

static int write_config(struct manager *m, const struct instance *instance, const struct spec *spec,
                        const char *path, struct err *err)
{
    const struct hardware *hardware = spec->hardware;
    char control[PATH_SIZE];
    json_t *document, *disks = json_array();
    CLEANUP(freep) char *text = NULL;
    int result = add_disks(m, hardware, disks, err);

    run_path(m, control, sizeof(control), "i/%s/v/vm/control", instance->id);
    /* The balloon is a part, too: slots go before it. */
    document = json_pack("{s:o, s:I, s:I, s:s, s:s, s:b, s:b, s:b}", "disks", disks, "memory",
                         (json_int_t)hardware->memory_bytes, "cpus", (json_int_t)hardware->cpus,
                         "control", control, "engine", spec->engine ?: "auto", "hotplug",
                         (int)has_room(hardware, 0), "balloon", (int)has_room(hardware, 1), "quiet",
                         1);
    if (result == 0 && (!document || put_texts(document, hardware) < 0 ||
                        !(text = json_text(document, JSON_COMPACT))))
        result = err_set(err, -EINVAL, "the machine's configuration: a path is not UTF-8");
    json_decref(document);
    if (result < 0)
        return result;
    return file_replace_unsynced(AT_FDCWD, path, text, strlen(text), 0600, err);
}

static int make_dirs(struct manager *m, const char *id, struct err *err)
{
    static const char *const below[] = {"", "/v", "/v/vm"};

    for (size_t i = 0; i < ARRAY_LEN(below); i++) {
        char path[PATH_SIZE];

        run_path(m, path, sizeof(path), "i/%s%s", id, below[i]);
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            return err_errno(err, -errno, "make '%s'", path);
    }
    return 0;
}

static void add(json_t *argv, const char *word)
{
    json_array_append_new(argv, json_string(word));
}

/* On the host's networks; what an earlier run left there is given back first. */
static int take_places(struct manager *m, const struct instance *instance,
                       const struct hardware *hardware,
                       char ret[HARDWARE_NETS_MAX][NETWORKS_TAP_SIZE], struct err *err)
{
    int result = 0;

    if (!hardware_is_networked(hardware, NULL))
        return 0;
    networks_leave(m, instance);
    for (unsigned i = 0; result == 0 && i < hardware->nr_nets; i++)
        if (hardware->nets[i].network[0])
            result = networks_place(m, instance, hardware->nets[i].network,
                                    hardware->nets[i].address4, ret[i], err);
    return result;
}

int hardware_prepare(struct manager *m, const struct instance *instance, const struct spec *spec,
                     json_t **ret, struct err *err)
{
    const struct hardware *hardware = spec->hardware;
    char path[PATH_SIZE], nets[HARDWARE_NETS_MAX][NETWORKS_TAP_SIZE] = {{0}};
    json_t *argv;
    int result;

    if (!*m->options.vmm)
        return err_set(err, -ENOENT, "lodge-vmm was not found beside lodged");
    run_path(m, path, sizeof(path), "i/%s/vm.json", instance->id);
    if ((result = make_dirs(m, instance->id, err)) < 0 ||
        (result = write_config(m, instance, spec, path, err)) < 0 ||
        (result = take_places(m, instance, hardware, nets, err)) < 0)
        return result;
    argv = json_array();
    add(argv, m->options.vmm);
    add(argv, "--config");
    add(argv, path);
    add(argv, "--ready-fd");
    add(argv, "3");
    for (unsigned i = 0; i < hardware->nr_nets; i++) {
        add(argv, "--net");
        json_array_append_new(argv,
                              json_sprintf("%s,id=%s", *nets[i] ? nets[i] : hardware->nets[i].net,
                                           hardware->nets[i].id));
    }
    *ret = argv;
    return 0;
}

int hardware_power_button(struct manager *m, const struct instance *instance, struct err *err)
{
    return vm_command(m, instance->id, "power-button", err);
}

void hardware_last_words(struct manager *m, const struct instance *instance, char *ret, size_t size)
{
    const char *mark = instance->brief->hardware ? " F lodge-vmm: error: " : " F lodge: error: ";
    CLEANUP(fd_closep) int fd = -1;
    char path[PATH_SIZE], text[WORDS_MAX + 1], *at = text, *found = NULL;
    off_t end;
    ssize_t n;

    *ret = '\0';
    manager_path(m, path, sizeof(path), "instances/%s/log", instance->id);
    if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0 ||
        (end = lseek(fd, 0, SEEK_END)) < 0 ||
        (n = pread(fd, text, WORDS_MAX, end > WORDS_MAX ? end - WORDS_MAX : 0)) <= 0)
        return;
    text[n] = '\0';
    while ((at = strstr(at, mark)))
        found = at += strlen(mark);
    if (found)
        snprintf(ret, size, "%.*s", (int)MIN(strcspn(found, "\n"), size - 1), found);
}
