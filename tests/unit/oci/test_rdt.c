/* SPDX-License-Identifier: Apache-2.0 */
/* Classes of service below a root that only looks like resctrl: plain files where the kernel would
 * have its own. */
#include "oci/rdt.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char top[] = "/tmp/lodge-rdt-XXXXXX";
static int top_fd;

static void set_up(void)
{
    strcpy(strrchr(top, '-'), "-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(top));
    top_fd = open(top, O_RDONLY | O_DIRECTORY);
    ck_assert_int_ge(top_fd, 0);
}

static void tear_down(void)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", top);
    ck_assert_int_eq(system(command), 0);
}

static void make_file(const char *path)
{
    int fd = openat(top_fd, path, O_WRONLY | O_CREAT, 0644);

    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void make_class(const char *name)
{
    char path[128];

    ck_assert_int_eq(mkdirat(top_fd, name, 0755), 0);
    snprintf(path, sizeof(path), "%s/schemata", name);
    make_file(path);
    snprintf(path, sizeof(path), "%s/tasks", name);
    make_file(path);
    snprintf(path, sizeof(path), "%s/mon_groups", name);
    ck_assert_int_eq(mkdirat(top_fd, path, 0755), 0);
}

static void check_content(const char *path, const char *wanted)
{
    CLEANUP(buf_donep) struct buf text;

    buf_init(&text, 4096);
    ck_assert_int_eq(file_load(top_fd, path, &text, NULL), 0);
    ck_assert_str_eq(buf_string(&text), wanted);
}

static int exists(const char *path)
{
    return faccessat(top_fd, path, F_OK, 0) == 0;
}

START_TEST(a_named_class_is_joined_and_stays)
{
    const char *lines[] = {"L3:0=f", "MB:0=50", NULL};
    struct oci_rdt rdt = {.present = true, .clos_id = "gold", .schemata = {lines, 2}};
    struct err err = ERR_INIT;
    json_t *plan;

    make_class("gold");
    plan = rdt_plan(top, &rdt, "box");
    ck_assert_int_eq(rdt_create(plan, &rdt, &err), 0);
    check_content("gold/schemata", "L3:0=f\nMB:0=50\n");
    ck_assert_int_eq(rdt_join(plan, 4711, &err), 0);
    check_content("gold/tasks", "4711");
    ck_assert_int_eq(rdt_update(plan, "L3:0=1", NULL, &err), 0);
    rdt_remove(plan);
    ck_assert(exists("gold"));
    json_decref(plan);
}
END_TEST

START_TEST(a_class_that_is_only_named_must_exist)
{
    struct oci_rdt rdt = {.present = true, .clos_id = "gold"};
    struct err err = ERR_INIT;
    json_t *plan = rdt_plan(top, &rdt, "box");

    ck_assert_int_eq(rdt_create(plan, &rdt, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "closID"));
    ck_assert(!exists("gold"));
    json_decref(plan);
}
END_TEST

START_TEST(a_class_of_its_own_goes_away)
{
    struct oci_rdt rdt = {.present = true};
    struct err err = ERR_INIT;
    json_t *plan = rdt_plan(top, &rdt, "box");

    ck_assert_int_eq(rdt_create(plan, &rdt, &err), 0);
    ck_assert(exists("box"));
    ck_assert_int_eq(rdt_create(plan, &rdt, &err), -EEXIST);
    rdt_remove(plan);
    ck_assert(!exists("box"));
    json_decref(plan);
}
END_TEST

START_TEST(refused_schemata_leave_nothing)
{
    struct oci_rdt rdt = {.present = true, .l3_schema = "L3:0=f"};
    struct err err = ERR_INIT;
    json_t *plan = rdt_plan(top, &rdt, "box");

    /* A fresh directory has no schemata here, where the kernel would have made it. */
    ck_assert_int_lt(rdt_create(plan, &rdt, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.message, "L3:0=f"));
    rdt_remove(plan);
    ck_assert(!exists("box"));
    json_decref(plan);
}
END_TEST

START_TEST(monitoring_has_a_group_of_the_containers)
{
    struct oci_rdt rdt = {.present = true, .clos_id = "gold", .monitoring = true};
    struct err err = ERR_INIT;
    json_t *plan;

    make_class("gold");
    plan = rdt_plan(top, &rdt, "box");
    ck_assert_int_eq(rdt_create(plan, &rdt, &err), 0);
    ck_assert(exists("gold/mon_groups/box"));
    rdt_remove(plan);
    ck_assert(!exists("gold/mon_groups/box") && exists("gold"));
    json_decref(plan);
}
END_TEST

TEST_MAIN("rdt", tcase_add_checked_fixture(tcase, set_up, tear_down);
          tcase_add_test(tcase, a_named_class_is_joined_and_stays);
          tcase_add_test(tcase, a_class_that_is_only_named_must_exist);
          tcase_add_test(tcase, a_class_of_its_own_goes_away);
          tcase_add_test(tcase, refused_schemata_leave_nothing);
          tcase_add_test(tcase, monitoring_has_a_group_of_the_containers))
