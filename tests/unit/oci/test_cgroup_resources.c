/* SPDX-License-Identifier: Apache-2.0 */
/* What is written where for limits whose controllers few hosts have: into plain files that stand in
 * the place of the kernel's. */
#include "oci/cgroup.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct vector {
    bool v2;
    const char *resources, *file, *wanted;
};

static const struct vector vectors[] = {
    {false, "{'rdma': {'mlx5_1': {'hcaHandles': 3, 'hcaObjects': 10000}}}", "rdma.max",
     "mlx5_1 hca_handle=3 hca_object=10000"},
    {true, "{'rdma': {'mlx4_0': {'hcaObjects': 7}}}", "rdma.max", "mlx4_0 hca_object=7"},
    {false, "{'hugepageLimits': [{'pageSize': '1GB', 'limit': 1073741824}]}",
     "hugetlb.1GB.limit_in_bytes", "1073741824"},
    {true, "{'hugepageLimits': [{'pageSize': '2MB', 'limit': 4194304}]}", "hugetlb.2MB.max",
     "4194304"},
    {false, "{'network': {'classID': 1048577}}", "net_cls.classid", "1048577"},
    {false, "{'network': {'priorities': [{'name': 'eth0', 'priority': 500}]}}",
     "net_prio.ifpriomap", "eth0 500"},
    {true, "{'cpu': {'burst': 20000}}", "cpu.max.burst", "20000"},
    {true, "{'cpu': {'idle': 1}}", "cpu.idle", "1"},
    {true, "{'blockIO': {'weightDevice': [{'major': 8, 'minor': 16, 'weight': 300}]}}",
     "io.bfq.weight", "8:16 300"},
    {true, "{'blockIO': {'throttleReadBpsDevice': [{'major': 8, 'minor': 0, 'rate': 600}]}}",
     "io.max", "8:0 rbps=600"},
    {true, "{'blockIO': {'throttleWriteIOPSDevice': [{'major': 8, 'minor': 0, 'rate': 30}]}}",
     "io.max", "8:0 wiops=30"},
    {true, "{'unified': {'memory.high': '50000000'}}", "memory.high", "50000000"},
};

/* A cgroup of one hierarchy, a directory that has only that file. */
static void apply(const struct vector *v, const char *present, int wanted_result)
{
    char top[] = "/tmp/lodge-cgroup-XXXXXX";
    CLEANUP(json_decrefp) json_t *document = NULL;
    CLEANUP(buf_donep) struct buf text;
    char source[256], path[] = "/box";
    struct oci_resources resources = {.memory_limit_bytes = -1,
                                      .memory_swap_bytes = -1,
                                      .memory_reservation_bytes = -1,
                                      .cpu_quota_us = -1,
                                      .pids_limit = -1};
    struct cgroup cgroup = {
        .layout = v->v2 ? CGROUP_LAYOUT_V2 : CGROUP_LAYOUT_V1, .path = path, .nr_hierarchies = 1};
    struct err err = ERR_INIT;
    int dir, fd;

    snprintf(source, sizeof(source), "%s", v->resources);
    for (char *quote = source; (quote = strchr(quote, '\''));)
        *quote = '"';
    ck_assert_int_eq(json_parse(source, strlen(source), "resources", &document, &err), 0);
    resources.document = document;
    resources.unified = json_object_get(document, "unified");
    ck_assert_ptr_nonnull(mkdtemp(top));
    dir = open(top, O_RDONLY | O_DIRECTORY);
    fd = openat(dir, present, O_WRONLY | O_CREAT, 0644);
    close(fd);
    cgroup.hierarchies[0].fd = cgroup.root_fd = dir;
    cgroup.hierarchies[0].v2 = v->v2;
    ck_assert_msg(cgroup_apply(&cgroup, &resources, &err) == wanted_result, "%s: %s", source,
                  err.message);
    buf_init(&text, 4096);
    ck_assert_int_eq(file_load(dir, present, &text, NULL), 0);
    ck_assert_str_eq(buf_string(&text), wanted_result == 0 ? v->wanted : "");
    if (wanted_result < 0)
        ck_assert_msg(strstr(err.message, v->file) != NULL, "%s: %s", source, err.message);
    unlinkat(dir, present, 0);
    close(dir);
    rmdir(top);
}

START_TEST(each_goes_to_its_file)
{
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        apply(&vectors[i], vectors[i].file, 0);
}
END_TEST

START_TEST(without_its_file_it_is_refused_by_name)
{
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        apply(&vectors[i], "something.else", -ENOTSUP);
}
END_TEST

TEST_MAIN("oci_cgroup_resources", tcase_add_test(tcase, each_goes_to_its_file);
          tcase_add_test(tcase, without_its_file_it_is_refused_by_name);)
