/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config.h"

#include "base/util.h"
#include "testing.h"

#include <errno.h>
#include <string.h>

static int parse(struct vmm_config *config, const char *text, struct err *err)
{
    vmm_config_init(config);
    return vmm_config_from_json(config, text, strlen(text), "vm.json", err);
}

START_TEST(a_whole_document_is_read)
{
    static const char text[] =
        "{\"kernel\": \"/k\", \"initrd\": \"/i\", \"cmdline\": \"a b\", \"memory\": \"1G\","
        " \"cpus\": 3, \"engine\": \"soft,tier=interp\", \"exit_port\": true,"
        " \"disks\": [{\"path\": \"/d\", \"read_only\": true, \"serial\": \"s\"}, {\"path\": "
        "\"/e\"}],"
        " \"vsock\": {\"cid\": 7, \"path\": \"/v\"}, \"control\": \"/c\", \"console\": \"none\","
        " \"on_reset\": \"exit\", \"rng\": false, \"quiet\": true}";
    struct vmm_config config;
    struct err err = ERR_INIT;

    ck_assert_msg(parse(&config, text, &err) == 0, "%s", err.message);
    ck_assert_str_eq(config.kernel, "/k");
    ck_assert_uint_eq(config.nr_modules, 1);
    ck_assert_str_eq(config.modules[0].path, "/i");
    ck_assert_str_eq(config.cmdline, "a b");
    ck_assert_uint_eq(config.memory_bytes, GIB);
    ck_assert_uint_eq(config.nr_cpus, 3);
    ck_assert_int_eq(config.engine, VMM_ENGINE_SOFT);
    ck_assert_str_eq(config.engine_options, "tier=interp");
    ck_assert_uint_eq(config.nr_disks, 2);
    ck_assert(config.disks[0].read_only && !config.disks[1].read_only);
    ck_assert_str_eq(config.disks[0].serial, "s");
    ck_assert_uint_eq(config.vsock_cid, 7);
    ck_assert_str_eq(config.vsock_path, "/v");
    ck_assert_int_eq(config.console, VMM_CONSOLE_NONE);
    ck_assert_int_eq(config.on_reset, VMM_ON_RESET_EXIT);
    ck_assert(config.exit_port && config.quiet && !config.rng && config.jail);
    ck_assert_int_eq(vmm_config_check(&config, &err), 0);
    vmm_config_done(&config);
}
END_TEST

static const struct {
    const char *text, *message;
} wrong[] = {
    {"[]", "an object is needed"},
    {"{\"kernel\": 1}", "kernel: an integer where a string is needed"},
    {"{\"kernal\": \"/k\"}", "kernal"},
    {"{\"disks\": [{\"path\": \"/d\", \"ro\": true}]}", "disks[0].ro"},
    {"{\"disks\": [{}]}", "disks[0].path"},
    {"{\"disks\": {}}", "disks: an array is needed"},
    {"{\"memory\": \"lots\"}", "memory: 'lots' is not a size"},
    {"{\"memory\": true}", "memory"},
    {"{\"cpus\": -1}", "cpus"},
    {"{\"engine\": \"fast\"}", "engine: 'fast' is not one of auto, kvm, soft"},
    {"{\"console\": \"\"}", "console: '' is not one of stdio, virtio, none"},
    {"{\"vsock\": {\"cid\": 3}}", "vsock.path"},
    {"{\"kernel\": \"/a\", \"kernel\": \"/b\"}", "vm.json:1"},
    {"{", "vm.json:1"},
    {"", "vm.json"},
};

START_TEST(what_is_wrong_is_named)
{
    struct vmm_config config;
    struct err err = ERR_INIT;

    ck_assert_int_lt(parse(&config, wrong[_i].text, &err), 0);
    ck_assert_msg(strstr(err.message, wrong[_i].message), "%s", err.message);
    vmm_config_done(&config);
}
END_TEST

static int options(struct vmm_config *config, struct err *err, const char *const *words)
{
    char *argv[32] = {(char *)"lodge-vmm"};
    int argc = 1;

    for (; words[argc - 1]; argc++)
        argv[argc] = (char *)words[argc - 1];
    vmm_config_init(config);
    return vmm_config_from_options(config, argc, argv, err);
}

START_TEST(a_command_line_is_read)
{
    const char *const words[] = {"--kernel",      "/k",          "--initrd", "/i",       "--memory",
                                 "256M",          "--cpus",      "2",        "--disk",   "/d,ro",
                                 "--disk",        "/e",          "--engine", "soft",     "--vsock",
                                 "9,/run/v.sock", "--exit-port", "--module", "/m,x=1 y", NULL};
    struct vmm_config config;
    struct err err = ERR_INIT;

    ck_assert_int_eq(options(&config, &err, words), VMM_OPTIONS_RUN);
    ck_assert_uint_eq(config.memory_bytes, 256 * MIB);
    ck_assert_uint_eq(config.nr_cpus, 2);
    ck_assert(config.disks[0].read_only);
    ck_assert_str_eq(config.disks[1].path, "/e");
    ck_assert_uint_eq(config.vsock_cid, 9);
    ck_assert_str_eq(config.vsock_path, "/run/v.sock");
    ck_assert_str_eq(config.modules[1].path, "/m");
    ck_assert_str_eq(config.modules[1].cmdline, "x=1 y");
    ck_assert(config.exit_port);
    vmm_config_done(&config);
}
END_TEST

static const struct {
    const char *words[4], *message;
} wrong_options[] = {
    {{"--kernel"}, "'--kernel' needs a value"},
    {{"--colour", "red"}, "unknown option '--colour'"},
    {{"vmlinuz"}, "unexpected argument 'vmlinuz'"},
    {{"--memory", "12Q"}, "--memory: '12Q' is not a size"},
    {{"--cpus", "0"}, "--cpus: 0 is not in"},
    {{"--disk", "/d,rx"}, "none of ro, rw"},
    {{"--disk", "/d,format=vmdk"}, "'raw' and 'qcow2'"},
    {{"--disk", "/d,format=qcow2,backing=/b"}, "'raw:FILE'"},
    {{"--disk", ",ro"}, "a disk needs the path"},
    {{"--vsock", "2,/v"}, "--vsock CID: 2 is not in"},
    {{"--vsock", "5"}, "CID,PATH is needed"},
    {{"--engine", "hard"}, "--engine: 'hard' is not one of"},
    {{"--config", "/nonexistent/vm.json"}, "/nonexistent/vm.json"},
};

START_TEST(wrong_options_are_named)
{
    struct vmm_config config;
    struct err err = ERR_INIT;

    ck_assert_int_lt(options(&config, &err, wrong_options[_i].words), 0);
    ck_assert_msg(strstr(err.message, wrong_options[_i].message), "%s", err.message);
    vmm_config_done(&config);
}
END_TEST

START_TEST(the_whole_has_to_fit)
{
    struct vmm_config config;
    struct err err = ERR_INIT;

    vmm_config_init(&config);
    ck_assert_int_eq(vmm_config_check(&config, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "no kernel"));
    config.kernel = strdup("/k");
    ck_assert_int_eq(vmm_config_check(&config, &err), 0);
    config.nr_cpus = 65;
    ck_assert_int_eq(vmm_config_check(&config, &err), -EINVAL);
    config.nr_cpus = 1;
    config.memory_bytes = 64 * KIB;
    ck_assert_int_eq(vmm_config_check(&config, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "too small"));
    config.memory_bytes = 64 * MIB + 1;
    ck_assert_int_eq(vmm_config_check(&config, &err), -EINVAL);
    vmm_config_done(&config);
}
END_TEST

TEST_MAIN("vmm_config", tcase_add_test(tcase, a_whole_document_is_read);
          tcase_add_loop_test(tcase, what_is_wrong_is_named, 0, ARRAY_LEN(wrong));
          tcase_add_test(tcase, a_command_line_is_read);
          tcase_add_loop_test(tcase, wrong_options_are_named, 0, ARRAY_LEN(wrong_options));
          tcase_add_test(tcase, the_whole_has_to_fit))
