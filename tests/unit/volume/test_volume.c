/* SPDX-License-Identifier: Apache-2.0 */
/* The life of volumes: made whole or not at all, held by users, listed, removed. */
#include "volume/volume.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static char dir[64];
static unsigned nr_listed;

static void count(const struct volume *volume, void *context)
{
    const char **names = context;

    ck_assert_str_eq(volume->name, names[nr_listed++]);
}

static void clean(void)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static void setup(void)
{
    strcpy(dir, "/tmp/lodge-volumes-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    nr_listed = 0;
}

START_TEST(wrong_names)
{
    static const char *const wrong[] = {"", ".", "..", ".a", "-a", "a/b", "a b", "/a"};
    struct err err = ERR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        ck_assert_int_eq(volume_create(dir, wrong[i], 0, &err), -EINVAL);
    ck_assert_int_eq(volume_create(dir, "a", 1000, &err), -EINVAL);
}
END_TEST

START_TEST(life)
{
    const char *names[] = {"a", "b.1"};
    struct volume volume;
    struct volume_use one, two;
    struct err err = ERR_INIT;
    char path[PATH_MAX + 32];

    ck_assert_int_eq(volume_create(dir, "b.1", 0, &err), 0);
    ck_assert_int_eq(volume_create(dir, "a", 0, &err), 0);
    ck_assert_int_eq(volume_create(dir, "a", 0, &err), -EEXIST);
    ck_assert_int_eq(volume_each(dir, count, names, &err), 2);
    ck_assert_int_eq(volume_find(dir, "none", &volume, &err), -ENOENT);
    ck_assert_int_eq(volume_take(dir, "a", "", "web", &one, &err), 0);
    ck_assert_int_eq(volume_take(dir, "a", "", NULL, &two, &err), 0);
    ck_assert_int_eq(volume_find(dir, "a", &volume, &err), 0);
    ck_assert(volume.in_use && !volume.size_bytes && !volume.image && !volume.project);
    ck_assert_int_eq(volume_remove(dir, "a", &err), -EBUSY);
    snprintf(path, sizeof(path), "%s/file", one.path);
    close(open(path, O_WRONLY | O_CREAT, 0600));
    volume_release(&one);
    ck_assert_int_eq(volume_remove(dir, "a", &err), -EBUSY);
    volume_release(&two);
    ck_assert_int_eq(volume_remove(dir, "a", &err), 0);
    ck_assert(access(path, F_OK) < 0);
    ck_assert_int_eq(volume_remove(dir, "a", &err), -ENOENT);
    nr_listed = 1;
    ck_assert_int_eq(volume_each(dir, count, names, &err), 1);
}
END_TEST

/* What an interrupted creation or removal left is nothing, and goes. */
START_TEST(leftovers)
{
    const char *names[] = {"a"};
    struct err err = ERR_INIT;
    char path[128];

    snprintf(path, sizeof(path), "%s/.a.new", dir);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(volume_each(dir, count, names, &err), 0);
    ck_assert_int_eq(volume_create(dir, "a", 0, &err), 0);
    ck_assert(access(path, F_OK) < 0);
    snprintf(path, sizeof(path), "%s/.a.old", dir);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(volume_remove(dir, "a", &err), 0);
    ck_assert(access(path, F_OK) < 0);
    /* A description that is damaged is no volume, and is said to be so. */
    ck_assert_int_eq(volume_create(dir, "a", 0, &err), 0);
    snprintf(path, sizeof(path), "%s/a/volume.json", dir);
    ck_assert_int_eq(truncate(path, 5), 0);
    ck_assert_int_eq(volume_each(dir, count, names, &err), 0);
    ck_assert_int_lt(volume_take(dir, "a", "", NULL, &(struct volume_use){0}, &err), 0);
}
END_TEST

/* Of a project quota that nothing enforces: it is not used as if it held. */
START_TEST(quota_that_is_off)
{
    static const char text[] =
        "{\"version\": 1, \"size\": 8388608, \"created\": 1, \"project\": 1073741830}";
    static const char wrong[] =
        "{\"version\": 1, \"size\": 8388608, \"created\": 1, \"project\": 4294967296}";
    struct volume_use use;
    struct volume volume;
    struct err err = ERR_INIT;
    char path[128];
    FILE *file;

    ck_assert_int_eq(volume_create(dir, "a", 0, &err), 0);
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/a/volume.json", dir);
        file = fopen(path, "we");
        ck_assert_ptr_nonnull(file);
        fputs(i ? wrong : text, file);
        fclose(file);
        ck_assert_int_eq(volume_find(dir, "a", &volume, &err), i ? -EINVAL : 0);
        ck_assert(i || (volume.project == 1073741830 && !volume.image));
        ck_assert_int_eq(volume_take(dir, "a", "", NULL, &use, &err), i ? -EINVAL : -EOPNOTSUPP);
        ck_assert_int_eq(volume_take_disk(dir, "a", false, NULL, &use, &err), -EINVAL);
        ck_assert(use.lock_fd < 0);
    }
}
END_TEST

/* What date -u -d @N says. */
START_TEST(time_of_creation)
{
    static const struct {
        const char *created, *shown;
    } cases[] = {{"0", "1970-01-01T00:00:00Z"},
                 {"951827696", "2000-02-29T12:34:56Z"},
                 {"253402300799", "9999-12-31T23:59:59Z"},
                 {"253402300800", NULL},
                 {"9223372036854775807", NULL}};
    struct volume volume;
    struct err err = ERR_INIT;
    char path[128];

    ck_assert_int_eq(volume_create(dir, "a", 0, &err), 0);
    snprintf(path, sizeof(path), "%s/a/volume.json", dir);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        FILE *file = fopen(path, "we");
        json_t *json;

        ck_assert_ptr_nonnull(file);
        fprintf(file, "{\"version\": 1, \"size\": 0, \"created\": %s}", cases[i].created);
        fclose(file);
        ck_assert_int_eq(volume_find(dir, "a", &volume, &err), cases[i].shown ? 0 : -EINVAL);
        if (!cases[i].shown)
            continue;
        json = volume_json(&volume);
        ck_assert_str_eq(json_string_value(json_object_get(json, "created")), cases[i].shown);
        json_decref(json);
    }
}
END_TEST

TEST_MAIN("volume", tcase_add_checked_fixture(tcase, setup, clean);
          tcase_add_test(tcase, wrong_names); tcase_add_test(tcase, life);
          tcase_add_test(tcase, leftovers); tcase_add_test(tcase, quota_that_is_off);
          tcase_add_test(tcase, time_of_creation);)
