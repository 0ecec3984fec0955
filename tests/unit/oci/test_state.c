/* SPDX-License-Identifier: Apache-2.0 */
/* A saved state names all there is to remove, or the save has failed: whichever allocation of the
 * JSON library is refused. */
#include "oci/state.h"

#include "base/cleanup.h"
#include "oci/rdt.h"
#include "oci/spec.h"
#include "testing.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static long countdown;

static void *failing_malloc(size_t size)
{
    return countdown && --countdown == 0 ? NULL : malloc(size);
}

static void refuse_allocation(long number)
{
    json_set_alloc_funcs(failing_malloc, free);
    countdown = number;
}

/* Whether that allocation came at all. */
static bool was_refused(void)
{
    bool refused = countdown == 0;

    countdown = 0;
    return refused;
}

static struct container_state sample(void)
{
    return (struct container_state){.id = strdup("box"),
                                    .bundle = strdup("/bundle"),
                                    .rootfs = strdup("/bundle/root"),
                                    .cgroup_path = strdup("/some/cgroup"),
                                    .version = strdup("1.2.0"),
                                    .pid = 12,
                                    .pid_start_time = 34};
}

START_TEST(no_refused_allocation_forgets_the_cgroup)
{
    char top[] = "/tmp/lodge-state-XXXXXX";
    CLEANUP(fd_closep) int dir = -1;
    bool refused = true;
    unsigned failures = 0;

    ck_assert_ptr_nonnull(mkdtemp(top));
    dir = open(top, O_RDONLY | O_DIRECTORY);
    for (long number = 1; refused; number++) {
        struct container_state *saved = calloc(1, sizeof(*saved)), *loaded = NULL;
        struct err err = ERR_INIT;
        int result;

        *saved = sample();
        refuse_allocation(number);
        result = state_save(dir, saved, &err);
        refused = was_refused();
        failures += result < 0;
        ck_assert_msg(result == 0 || refused, "%s", err.message);
        if (result == 0) {
            result = state_load(dir, &loaded, &err);
            ck_assert_msg(result == 0, "allocation %ld: %s", number, err.message);
            ck_assert_msg(loaded->cgroup_path && loaded->rootfs, "allocation %ld", number);
            ck_assert_str_eq(loaded->cgroup_path, saved->cgroup_path);
            ck_assert_str_eq(loaded->rootfs, saved->rootfs);
        }
        state_free(loaded);
        state_free(saved);
    }
    ck_assert_uint_gt(failures, 10);
    unlinkat(dir, "state.json", 0);
    rmdir(top);
}
END_TEST

START_TEST(no_refused_allocation_forgets_a_monitoring_group)
{
    struct oci_rdt rdt = {.present = true, .monitoring = true};
    bool refused = true;

    for (long number = 1; refused; number++) {
        json_t *plan;

        refuse_allocation(number);
        plan = rdt_plan("/resctrl", &rdt, "box");
        refused = was_refused();
        ck_assert(plan || refused);
        if (plan)
            ck_assert_str_eq(json_string_value(json_object_get(plan, "monitor")),
                             "/resctrl/box/mon_groups/box");
        json_decref(plan);
    }
}
END_TEST

TEST_MAIN("oci_state", tcase_add_test(tcase, no_refused_allocation_forgets_the_cgroup);
          tcase_add_test(tcase, no_refused_allocation_forgets_a_monitoring_group);)
