/* SPDX-License-Identifier: Apache-2.0 */
#include "manager/store.h"

#include "testing.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>
#include <sqlite3.h>
#include <unistd.h>

#define CLIENTS 8
#define EACH    20

static char path[64];

struct seen {
    int instances, operations;
    char name[64];
};

static int count_instance(const struct store_instance *instance, void *context)
{
    struct seen *seen = context;

    seen->instances++;
    snprintf(seen->name, sizeof(seen->name), "%s", instance->name);
    return 0;
}

static int count_operation(const struct store_operation *operation, void *context)
{
    struct seen *seen = context;

    (void)operation;
    seen->operations++;
    return 0;
}

static struct state_store *open_store(struct seen *seen)
{
    struct state_store *store;
    struct err err = ERR_INIT;

    ck_assert_msg(state_store_open(path, &store, &err) == 0, "%s", err.message);
    *seen = (struct seen){0};
    ck_assert_int_eq(state_store_load(store, count_instance, count_operation, seen, &err), 0);
    return store;
}

static struct store_instance row(const char *id, const char *name)
{
    return (struct store_instance){
        .id = id, .name = name, .spec = "{}", .state = "created", .error = "", .created_ns = 1};
}

static void setup(void)
{
    snprintf(path, sizeof(path), "/tmp/lodge-store-%d.db", (int)getpid());
}

static void teardown(void)
{
    char other[80];

    unlink(path);
    snprintf(other, sizeof(other), "%s-wal", path);
    unlink(other);
    snprintf(other, sizeof(other), "%s-shm", path);
    unlink(other);
}

START_TEST(what_was_acknowledged_is_there)
{
    struct seen seen;
    struct state_store *store = open_store(&seen);
    struct store_instance a = row("a", "one");
    struct store_operation operation = {
        .id = 1, .kind = "start", .instance = "a", .status = "running"};
    struct store_change put = {.put = &a, .operation = &operation}, take = {.remove = "a"};

    ck_assert_int_eq(state_store_apply(store, &put, NULL), 0);
    a.name = "two";
    ck_assert_int_eq(state_store_apply(store, &put, NULL), 0);
    state_store_close(store);
    store = open_store(&seen);
    ck_assert_int_eq(seen.instances, 1);
    ck_assert_int_eq(seen.operations, 1);
    ck_assert_str_eq(seen.name, "two");
    ck_assert_int_eq(state_store_apply(store, &take, NULL), 0);
    state_store_close(store);
    state_store_close(open_store(&seen));
    ck_assert_int_eq(seen.instances, 0);
}
END_TEST

struct client {
    struct state_store *store;
    int number, taken, stored;
};

/* Each tries to give every other of its instances a name that all others want, too. */
static void *client_main(void *context)
{
    struct client *client = context;

    for (int i = 0; i < EACH; i++) {
        char id[32], name[32];
        struct store_instance instance;
        struct store_change change = {.put = &instance};
        int result;

        snprintf(id, sizeof(id), "%d-%d", client->number, i);
        snprintf(name, sizeof(name), "%d", i % 2 ? i : 1000 * (client->number + 1) + i);
        instance = row(id, name);
        result = state_store_apply(client->store, &change, NULL);
        client->stored += result == 0;
        client->taken += result == -EEXIST;
    }
    return NULL;
}

START_TEST(one_refused_change_refuses_no_other)
{
    struct seen seen;
    struct state_store *store = open_store(&seen);
    struct client clients[CLIENTS];
    pthread_t threads[CLIENTS];
    int stored = 0, taken = 0;

    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.store = store, .number = i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
        stored += clients[i].stored;
        taken += clients[i].taken;
    }
    ck_assert_int_eq(stored, CLIENTS * EACH / 2 + EACH / 2);
    ck_assert_int_eq(taken, (CLIENTS - 1) * EACH / 2);
    state_store_close(store);
    state_store_close(open_store(&seen));
    ck_assert_int_eq(seen.instances, stored);
}
END_TEST

/* A file that may not grow is a full disk. */
START_TEST(a_full_disk_refuses_and_keeps_what_is_there)
{
    struct seen seen;
    struct state_store *store = open_store(&seen);
    struct store_instance a = row("a", "kept"), b = row("b", "large");
    struct store_change put = {.put = &a}, large = {.put = &b};
    struct rlimit limit = {256 << 10, RLIM_INFINITY}, before;
    char *spec = malloc(1 << 20);
    struct err err = ERR_INIT;

    memset(spec, 'x', (1 << 20) - 1);
    spec[(1 << 20) - 1] = '\0';
    b.spec = spec;
    ck_assert_int_eq(state_store_apply(store, &put, NULL), 0);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    setrlimit(RLIMIT_FSIZE, &limit);
    ck_assert_int_lt(state_store_apply(store, &large, &err), 0);
    setrlimit(RLIMIT_FSIZE, &before);
    ck_assert_int_eq(state_store_apply(store, &large, &err), 0);
    state_store_close(store);
    state_store_close(open_store(&seen));
    ck_assert_int_eq(seen.instances, 2);
    free(spec);
}
END_TEST

static int make_table(sqlite3 *db, void *context)
{
    (void)context;
    return sqlite3_exec(db, "CREATE TABLE t(n INTEGER)", NULL, NULL, NULL) == SQLITE_OK ? 0 : -EIO;
}

static int insert_number(sqlite3 *db, void *context)
{
    char text[64];

    snprintf(text, sizeof(text), "INSERT INTO t VALUES(%d)", *(int *)context);
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        return -EIO;
    return *(int *)context < 0 ? -ECANCELED : 0;
}

static int count_numbers(sqlite3 *db, void *context)
{
    sqlite3_stmt *s = NULL;

    if (sqlite3_prepare_v2(db, "SELECT count(*) FROM t", -1, &s, NULL) != SQLITE_OK ||
        sqlite3_step(s) != SQLITE_ROW)
        return -EIO;
    *(int *)context = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return 0;
}

/* What somebody adds to a change is stored with it, or neither is. */
START_TEST(also_in_the_same_transaction)
{
    struct store_instance i = row("1", "one");
    int good = 1, bad = -1, count = 0;
    struct store_change table = {.also = make_table}, with = {.put = &i, .also = insert_number};
    struct store_change look = {.also = count_numbers, .context = &count};
    struct state_store *store;
    struct err err = ERR_INIT;
    struct seen seen;

    store = open_store(&seen);
    ck_assert_int_eq(state_store_apply(store, &table, &err), 0);
    with.context = &bad;
    ck_assert_int_eq(state_store_apply(store, &with, &err), -ECANCELED);
    ck_assert_int_eq(state_store_apply(store, &look, &err), 0);
    ck_assert_int_eq(count, 0);
    with.context = &good;
    ck_assert_int_eq(state_store_apply(store, &with, &err), 0);
    ck_assert_int_eq(state_store_apply(store, &look, &err), 0);
    ck_assert_int_eq(count, 1);
    state_store_close(store);
    state_store_close(open_store(&seen));
    ck_assert_int_eq(seen.instances, 1);
}
END_TEST

TEST_MAIN("manager_store", tcase_add_checked_fixture(tcase, setup, teardown);
          tcase_add_test(tcase, what_was_acknowledged_is_there);
          tcase_add_test(tcase, one_refused_change_refuses_no_other);
          tcase_add_test(tcase, also_in_the_same_transaction);
          tcase_add_test(tcase, a_full_disk_refuses_and_keeps_what_is_there);)
