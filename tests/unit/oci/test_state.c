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

/* Whatever there is of it at a time, the file is one document (or not complete): with or without a
 * configuration, before and after the process is known. */
START_TEST(the_state_is_one_document)
{
    static const char *const configurations[] = {
        "", "{\"process\": {\"args\": [\"sh\"]},\n\n \"x\": 1}\n"};

    for (size_t i = 0; i < 2; i++) {
        char top[] = "/tmp/lodge-state-XXXXXX";
        CLEANUP(fd_closep) int dir = -1;
        CLEANUP(fd_closep) int file = -1;
        struct container_state *saved = calloc(1, sizeof(*saved)), *loaded = NULL;
        CLEANUP(freep) char *path = NULL;
        json_t *json;

        ck_assert_ptr_nonnull(mkdtemp(top));
        dir = open(top, O_RDONLY | O_DIRECTORY);
        *saved = sample();
        saved->pid = 0;
        saved->pid_start_time = 0;
        saved->config = strdup(configurations[i]);
        saved->config_length = strlen(configurations[i]);
        ck_assert_int_eq(state_save_first(dir, saved, &file, NULL), 0);
        ck_assert_int_eq(state_load(dir, &loaded, NULL), 0);
        ck_assert_int_eq(loaded->pid, 0);
        ck_assert_int_eq(state_status(dir, loaded), CONTAINER_CREATING);
        state_free(loaded);
        saved->pid = 4194303;
        saved->pid_start_time = INT64_MAX;
        ck_assert_int_eq(state_save_pid(file, saved, NULL), 0);
        ck_assert_int_eq(state_load(dir, &loaded, NULL), 0);
        ck_assert_int_eq(loaded->pid, 4194303);
        ck_assert(loaded->pid_start_time == INT64_MAX);
        ck_assert_uint_eq(loaded->config_length, saved->config_length);
        if (saved->config_length)
            ck_assert_str_eq(loaded->config, saved->config);
        ck_assert_int_gt(asprintf(&path, "%s/state.json", top), 0);
        json = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
        ck_assert_ptr_nonnull(json);
        ck_assert_int_eq(json_integer_value(json_object_get(json, "pid")), 4194303);
        ck_assert(json_integer_value(json_object_get(json, "pidStartTime")) == INT64_MAX);
        ck_assert(i == 0 ? json_is_null(json_object_get(json, "config"))
                         : json_is_object(json_object_get(json, "config")));
        json_decref(json);
        unlinkat(dir, "state.json", 0);
        rmdir(top);
        state_free(loaded);
        state_free(saved);
    }
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

TEST_MAIN("oci_state", tcase_add_test(tcase, the_state_is_one_document);
          tcase_add_test(tcase, no_refused_allocation_forgets_the_cgroup);
          tcase_add_test(tcase, no_refused_allocation_forgets_a_monitoring_group);)
