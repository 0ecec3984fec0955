/* SPDX-License-Identifier: Apache-2.0 */
/* What config.json may say, and by which words the runtime refuses the rest. */
#include "oci/spec.h"

#include "base/util.h"
#include "testing.h"

#include <sched.h>
#include <string.h>

/* A whole configuration with `extra` members at top level and `linux_members` below linux. */
static int parse(const char *process, const char *linux_members, struct oci_spec **ret,
                 struct err *err)
{
    char text[4096];

    snprintf(text, sizeof(text),
             "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"rootfs\"},"
             "\"process\":{\"cwd\":\"/\",\"args\":[\"true\"]%s},"
             "\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"pid\"}]%s}}",
             process, linux_members);
    return oci_spec_parse(text, strlen(text), "config.json", ret, err);
}

START_TEST(the_smallest_configuration_has_the_defaults)
{
    struct oci_spec *spec = NULL;
    struct err err = ERR_INIT;

    ck_assert_msg(parse("", "", &spec, &err) == 0, "%s", err.message);
    ck_assert_uint_eq(spec->process.umask, 022);
    ck_assert_int_eq(spec->resources.memory_limit_bytes, -1);
    ck_assert_ptr_nonnull(oci_spec_namespace(spec, CLONE_NEWPID));
    ck_assert_ptr_null(oci_spec_namespace(spec, CLONE_NEWNET));
    oci_spec_free(spec);
}
END_TEST

START_TEST(the_default_configuration_parses)
{
    json_t *json = oci_spec_default();
    char *text = json_dumps(json, 0);
    struct oci_spec *spec = NULL;
    struct err err = ERR_INIT;

    ck_assert_msg(oci_spec_parse(text, strlen(text), "config.json", &spec, &err) == 0, "%s",
                  err.message);
    ck_assert_uint_eq(spec->nr_mounts, 7);
    ck_assert_uint_eq(spec->resources.nr_devices, 12);
    oci_spec_free(spec);
    free(text);
    json_decref(json);
}
END_TEST

static const struct {
    const char *process, *linux_members, *said;
} refused[] = {
    {",\"rlimits\":[{\"type\":\"RLIMIT_FOO\",\"soft\":1,\"hard\":1}]", "",
     "unknown limit 'RLIMIT_FOO'"},
    {",\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":1}]", "", "soft and hard"},
    {",\"user\":{\"uid\":-1}", "", "process.user.uid: -1 is negative"},
    {",\"user\":{\"uid\":4294967296}", "", "too large"},
    {",\"user\":{\"uid\":4294967295}", "", "nobody's id"},
    {",\"user\":{\"gid\":4294967295}", "", "nobody's id"},
    {",\"user\":{\"additionalGids\":[4294967295]}", "", "not a group id"},
    {",\"env\":[1]", "", "process.env[0]"},
    {",\"oomScoreAdj\":1001", "", "not in -1000..1000"},
    {",\"terminal\":\"yes\"", "", "process.terminal: a string where true or false"},
    {"", ",\"seccomp\":{}", "linux.seccomp.defaultAction: required"},
    {"", ",\"intelRdt\":{\"closID\":\"../x\"}", "'../x' is not the name of a directory"},
    {"", ",\"intelRdt\":{\"schemata\":[1]}", "linux.intelRdt.schemata[0]"},
    {"", ",\"netDevices\":{\"a/b\":{}}", "'a/b' is not the name of a network device"},
    {"", ",\"netDevices\":{\"eth0\":{}}", "needs a network namespace"},
    {"", ",\"mountLabel\":1", "linux.mountLabel: an integer where a string"},
    {"", ",\"memoryPolicy\":{\"mode\":\"MPOL_ODD\"}", "unknown mode 'MPOL_ODD'"},
    {"", ",\"memoryPolicy\":{\"mode\":\"MPOL_BIND\"}", "'' is not a list of nodes"},
    {"", ",\"memoryPolicy\":{\"mode\":\"MPOL_LOCAL\",\"nodes\":\"0\"}", "takes none"},
    {"", ",\"memoryPolicy\":{\"mode\":\"MPOL_BIND\",\"nodes\":\"0\",\"flags\":[\"X\"]}",
     "unknown flag 'X'"},
    {"", ",\"personality\":{\"domain\":\"BSD\"}", "'BSD' is not"},
    {"", ",\"timeOffsets\":{\"monotonic\":{\"secs\":1}}", "needs a time namespace"},
    {"", ",\"timeOffsets\":{\"realtime\":{\"secs\":1}}", "realtime"},
    {",\"scheduler\":{\"policy\":\"SCHED_ODD\"}", "", "unknown policy 'SCHED_ODD'"},
    {",\"scheduler\":{\"policy\":\"SCHED_OTHER\",\"nice\":20}", "", "nice is -20..19"},
    {",\"ioPriority\":{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":8}", "", "not in 0..7"},
    {",\"execCPUAffinity\":{\"initial\":\"1-\"}", "", "not a list of CPUs"},
    {",\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":2,\"hard\":1}]", "", "above the hard one"},
    {"", ",\"rootfsPropagation\":\"odd\"", "unknown value 'odd'"},
    {"", ",\"cgroupsPath\":\"/a/../../b\"", "leaves its root"},
    {"", ",\"uidMappings\":[{\"containerID\":0,\"hostID\":0,\"size\":1}]",
     "needs a user namespace"},
    {"", ",\"uidMappings\":[{\"containerID\":0,\"size\":1}]", "hostID: required"},
    {"", ",\"gidMappings\":[{\"containerID\":9,\"hostID\":4294967290,\"size\":6}]",
     "past the last"},
    {"", ",\"devices\":[{\"path\":\"dev/x\",\"type\":\"c\",\"major\":1,\"minor\":1}]",
     "absolute path"},
    {"", ",\"devices\":[{\"path\":\"/dev/x\",\"type\":\"z\",\"major\":1,\"minor\":1}]",
     "'z' is not"},
    {"", ",\"sysctl\":{\"../../etc/passwd\":\"x\"}", "not the name of a kernel parameter"},
    {"", ",\"resources\":{\"devices\":[{\"allow\":true,\"access\":\"rwx\"}]}", "'rwx'"},
    {"", ",\"resources\":{\"memory\":{\"limit\":\"1G\"}}", "memory.limit: a string"},
};

START_TEST(what_is_wrong_is_named)
{
    struct oci_spec *spec = NULL;
    struct err err = ERR_INIT;

    ck_assert_int_lt(parse(refused[_i].process, refused[_i].linux_members, &spec, &err), 0);
    ck_assert_msg(strstr(err.message, refused[_i].said), "said: %s", err.message);
}
END_TEST

START_TEST(syntax_errors_name_line_and_column)
{
    static const char text[] = "{\"ociVersion\":\n  \"1.0.2\",,}";
    struct oci_spec *spec = NULL;
    struct err err = ERR_INIT;

    ck_assert_int_lt(oci_spec_parse(text, strlen(text), "config.json", &spec, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.message, "config.json:2:"));
}
END_TEST

TEST_MAIN("spec", tcase_add_test(tcase, the_smallest_configuration_has_the_defaults);
          tcase_add_test(tcase, the_default_configuration_parses);
          tcase_add_loop_test(tcase, what_is_wrong_is_named, 0, (int)ARRAY_LEN(refused));
          tcase_add_test(tcase, syntax_errors_name_line_and_column))
