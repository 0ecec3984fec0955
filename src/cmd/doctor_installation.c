/* SPDX-License-Identifier: Apache-2.0 */
/* What Lodge itself has at hand: programs, kernels, images, tools, places to write. */
#include "cmd/doctor.h"

#include "base/util.h"
#include "cmd/programs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DETAIL(finding, ...) snprintf((finding)->detail, sizeof((finding)->detail), __VA_ARGS__)

struct name_list {
    char text[240];
    size_t nr;
};

static void add_name(struct name_list *list, const char *name, const char *more)
{
    size_t used = strlen(list->text);

    snprintf(list->text + used, sizeof(list->text) - used, "%s%s%s%s%s", used ? ", " : "", name,
             *more ? " (" : "", more, *more ? ")" : "");
    list->nr++;
}

static void add_kernel(const struct kernel *kernel, void *context)
{
    add_name(context, kernel->name, kernel->release);
}

static void add_image(const struct image *image, void *context)
{
    add_name(context, image->name, "");
}

static void check_programs(struct findings *findings, const struct store *store)
{
    static const char *const programs[][3] = {{"lodge-oci", "LODGE_OCI", "containers"},
                                              {"lodge-vmm", "LODGE_VMM", "virtual machines"},
                                              {"lodge-init", "LODGE_INIT", "virtual machines"}};

    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        char path[PATH_MAX];
        struct err err = ERR_INIT;
        bool there = program_find(store, programs[i][0], programs[i][1], path, &err) == 0;
        struct finding *f = findings_add(findings, programs[i][0],
                                         there ? FINDING_OK : FINDING_MISSING,
                                         there ? NULL : "build it: make");

        if (there)
            DETAIL(f, "%.300s", path);
        else
            DETAIL(f, "missing; %s need it", programs[i][2]);
    }
}

static void check_store(struct findings *findings, const struct store *store)
{
    struct name_list kernels = {""}, images = {""};
    char advice[320];
    struct finding *f;

    kernel_list(store, add_kernel, &kernels);
    snprintf(advice, sizeof(advice), "%.200s/fetch_kernel.sh cloud (virtual machines need one)",
             store->tools_dir);
    f = findings_add(findings, "guest kernels", kernels.nr ? FINDING_OK : FINDING_MISSING,
                     kernels.nr ? NULL : advice);
    DETAIL(f, "%s", kernels.nr ? kernels.text : "none");
    image_list(store, add_image, &images);
    snprintf(advice, sizeof(advice), "%.200s/make_images.sh busybox debian (or run a ROOTFS-DIR)",
             store->tools_dir);
    f = findings_add(findings, "images", images.nr ? FINDING_OK : FINDING_MISSING,
                     images.nr ? NULL : advice);
    DETAIL(f, "%s", images.nr ? images.text : "none");
}

static void check_mke2fs(struct findings *findings)
{
    static const char *const places[] = {"/usr/sbin/mke2fs", "/sbin/mke2fs", "/usr/bin/mke2fs"};
    struct finding *f;

    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (access(places[i], X_OK) == 0) {
            f = findings_add(findings, "mke2fs", FINDING_OK, NULL);
            DETAIL(f, "%s", places[i]);
            return;
        }
    f = findings_add(findings, "mke2fs", FINDING_MISSING,
                     "apt-get install e2fsprogs (it makes a VM's disk from an image)");
    DETAIL(f, "missing");
}

static void check_writable(struct findings *findings, const struct store *store)
{
    char dir[PATH_MAX];
    struct statvfs fs;
    bool there = store_writable_dir(store, "disks", dir) == 0;
    struct finding *f =
        findings_add(findings, "store", there ? FINDING_OK : FINDING_LIMITED,
                     there ? NULL
                           : "disk images of VMs are made anew in each run; LODGE_HOME can name a "
                             "directory that can be written");

    if (!there)
        DETAIL(f, "no directory of the store can be written");
    else if (statvfs(dir, &fs) == 0)
        DETAIL(f, "%.200s, %llu MiB free", dir,
               (unsigned long long)((uint64_t)fs.f_bavail * fs.f_frsize / MIB));
}

void doctor_check_installation(struct findings *findings, const struct store *store)
{
    check_programs(findings, store);
    check_store(findings, store);
    check_mke2fs(findings);
    check_writable(findings, store);
}
