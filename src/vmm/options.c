/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of lodge-vmm. */
#include "vmm/config.h"

#include "base/cleanup.h"
#include "base/size.h"
#include "vmm/boot_disk.h"
#include "vmm/config_internal.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

const char vmm_options_help[] =
    "usage: lodge-vmm --config FILE | --kernel FILE | --boot ORDER [options]\n"
    "Runs one virtual machine. Serial port on standard input and output; Ctrl-A x ends it.\n"
    "\n"
    "  --config FILE          JSON configuration; options after it change single members\n"
    "  --kernel FILE          bzImage, ELF with a PVH note, or multiboot kernel\n"
    "  --boot ORDER           disk, cdrom, kernel, with commas between: the first that can be "
    "booted.\n"
    "                         Of a disk or CD: the kernel that its own boot loader would take\n"
    "  --initrd FILE          initial RAM disk\n"
    "  --module FILE[,ARGS]   multiboot module; may be repeated\n"
    "  --cmdline TEXT         kernel command line (default: console=ttyS0)\n"
    "  --memory SIZE          guest memory, such as 512M or 2G (default: 512M)\n"
    "  --cpus N               vCPUs (default: 1)\n"
    "  --disk FILE[,OPTION]   disk image; may be repeated. Options: ro, cdrom, format=raw (the "
    "default) "
    "or\n"
    "                         format=qcow2, backing=raw:FILE or backing=qcow2:FILE (never "
    "implied)\n"
    "  --net tap=NAME         network device on a tap interface; may be repeated. Options, each "
    "after\n"
    "                         a comma: mac=ADDRESS, mtu=BYTES, filter=off\n"
    "  --net user             network device on a user-mode stack. Options: as above, and\n"
    "                         hostfwd=tcp:HOSTADDRESS:PORT-:GUESTPORT (or udp), host-loopback=on\n"
    "  --share TAG=DIR[,ro]   a directory of the host as virtio-fs file system TAG; may be "
    "repeated.\n"
    "                         TAG/NAME=PATH[,ro]: several under one TAG, by name\n"
    "  --engine ENGINE        auto, kvm, soft or soft,OPTIONS (default: auto)\n"
    "  --exit-port            debug-exit port 0xf4: exit status (value << 1) | 1\n"
    "  --debug-console        port 0xe9 writes to the serial output\n"
    "  --vsock CID,PATH       virtio socket device, its host side at the unix socket PATH\n"
    "  --no-rng               no entropy device\n"
    "  --balloon              memory balloon: the guest gives back what it does not use\n"
    "  --console CONSOLE      stdio, virtio or none (default: stdio)\n"
    "  --control PATH         control socket\n"
    "  --profile FILE         samples by guest function: FILE, and FILE.svg as a flame graph\n"
    "  --symbols FILE[@BASE]  names for them: System.map, kallsyms, ELF; may be repeated\n"
    "  --perf-map             /tmp/perf-PID.map of translated code, for perf\n"
    "  --on-reset ACTION      reboot or exit (default: reboot)\n"
    "  --hotplug              disks and networks can be attached while the VM runs\n"
    "  --places               likewise, in windows of their own instead of a PCI bus\n"
    "  --ready-fd N           one byte is written to descriptor N when the guest runs\n"
    "  --no-jail              no system call filter (for debugging)\n"
    "  --quiet                only errors on standard error\n"
    "  --help, --version\n";

enum option_id {
    OPTION_CONFIG = 256,
    OPTION_KERNEL,
    OPTION_BOOT,
    OPTION_INITRD,
    OPTION_MODULE,
    OPTION_CMDLINE,
    OPTION_MEMORY,
    OPTION_CPUS,
    OPTION_DISK,
    OPTION_NET,
    OPTION_SHARE,
    OPTION_ENGINE,
    OPTION_EXIT_PORT,
    OPTION_DEBUG_CONSOLE,
    OPTION_VSOCK,
    OPTION_NO_RNG,
    OPTION_BALLOON,
    OPTION_CONSOLE,
    OPTION_CONTROL,
    OPTION_PROFILE,
    OPTION_SYMBOLS,
    OPTION_PERF_MAP,
    OPTION_ON_RESET,
    OPTION_HOTPLUG,
    OPTION_PLACES,
    OPTION_READY_FD,
    OPTION_NO_JAIL,
    OPTION_QUIET,
    OPTION_HELP,
    OPTION_VERSION,
};

static const struct option long_options[] = {
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"kernel", required_argument, NULL, OPTION_KERNEL},
    {"boot", required_argument, NULL, OPTION_BOOT},
    {"initrd", required_argument, NULL, OPTION_INITRD},
    {"module", required_argument, NULL, OPTION_MODULE},
    {"cmdline", required_argument, NULL, OPTION_CMDLINE},
    {"memory", required_argument, NULL, OPTION_MEMORY},
    {"cpus", required_argument, NULL, OPTION_CPUS},
    {"disk", required_argument, NULL, OPTION_DISK},
    {"net", required_argument, NULL, OPTION_NET},
    {"share", required_argument, NULL, OPTION_SHARE},
    {"engine", required_argument, NULL, OPTION_ENGINE},
    {"exit-port", no_argument, NULL, OPTION_EXIT_PORT},
    {"debug-console", no_argument, NULL, OPTION_DEBUG_CONSOLE},
    {"vsock", required_argument, NULL, OPTION_VSOCK},
    {"no-rng", no_argument, NULL, OPTION_NO_RNG},
    {"balloon", no_argument, NULL, OPTION_BALLOON},
    {"console", required_argument, NULL, OPTION_CONSOLE},
    {"control", required_argument, NULL, OPTION_CONTROL},
    {"profile", required_argument, NULL, OPTION_PROFILE},
    {"symbols", required_argument, NULL, OPTION_SYMBOLS},
    {"perf-map", no_argument, NULL, OPTION_PERF_MAP},
    {"on-reset", required_argument, NULL, OPTION_ON_RESET},
    {"hotplug", no_argument, NULL, OPTION_HOTPLUG},
    {"places", no_argument, NULL, OPTION_PLACES},
    {"ready-fd", required_argument, NULL, OPTION_READY_FD},
    {"no-jail", no_argument, NULL, OPTION_NO_JAIL},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

/* "text,rest": the part before the first comma (to be freed) and, in *ret_rest, what follows it. */
static char *split(const char *text, const char **ret_rest)
{
    const char *comma = strchr(text, ',');

    *ret_rest = comma ? comma + 1 : NULL;
    return comma ? strndup(text, (size_t)(comma - text)) : strdup(text);
}

/* "FILE[,ro|rw][,format=FORMAT][,backing=FORMAT:FILE]..." */
static int add_disk(struct vmm_config *config, const char *text, struct err *err)
{
    CLEANUP(freep) char *copy = strdup(text);
    char *word, *rest = NULL;
    int r;

    if (!copy)
        return err_set(err, -ENOMEM, "out of memory");
    word = *copy == ',' ? NULL : strtok_r(copy, ",", &rest);
    r = config_disk_add(config, word ? word : "", false, NULL, err);
    while (r == 0 && (word = strtok_r(NULL, ",", &rest))) {
        if (!strcmp(word, "ro") || !strcmp(word, "rw"))
            config->disks[config->nr_disks - 1].read_only = word[1] == 'o';
        else if (!strcmp(word, "cdrom"))
            config->disks[config->nr_disks - 1].cdrom =
                config->disks[config->nr_disks - 1].read_only = true;
        else if (!strncmp(word, "format=", 7))
            r = config_disk_format(config, word + 7, err);
        else if (!strncmp(word, "backing=", 8))
            r = config_disk_backing(config, word + 8, err);
        else
            r = err_set(err, -EINVAL, "'%s' is none of ro, rw, cdrom, format=, backing=", word);
    }
    return r < 0 ? err_wrap(err, "--disk %s", text) : 0;
}

static int add_module(struct vmm_config *config, const char *text, struct err *err)
{
    const char *rest;
    CLEANUP(freep) char *path = split(text, &rest);

    if (!path)
        return err_set(err, -ENOMEM, "out of memory");
    return config_module_add(config, path, rest, err);
}

static int set_vsock(struct vmm_config *config, const char *text, struct err *err)
{
    const char *path;
    CLEANUP(freep) char *cid = split(text, &path);
    int r;

    if (!cid)
        return err_set(err, -ENOMEM, "out of memory");
    if (!path || !path[0])
        return err_set(err, -EINVAL, "--vsock %s: CID,PATH is needed", text);
    r = number_parse(cid, "--vsock CID", 3, 0xfffffffe, &config->vsock_cid, err);
    return r < 0 ? r : config_string_set(&config->vsock_path, path, err);
}

static int apply(struct vmm_config *config, int option, const char *value, struct err *err)
{
    uint64_t number = 0;
    int r;

    switch (option) {
    case OPTION_CONFIG:
        return vmm_config_from_file(config, value, err);
    case OPTION_KERNEL:
        return config_string_set(&config->kernel, value, err);
    case OPTION_BOOT:
        r = boot_order_check(value, err);
        return r < 0 ? r : config_string_set(&config->boot, value, err);
    case OPTION_INITRD:
        return config_module_add(config, value, NULL, err);
    case OPTION_MODULE:
        return add_module(config, value, err);
    case OPTION_CMDLINE:
        return config_string_set(&config->cmdline, value, err);
    case OPTION_MEMORY:
        r = size_parse(value, &config->memory_bytes, err);
        return r < 0 ? (err_wrap(err, "--memory"), r) : 0;
    case OPTION_CPUS:
        return number_parse(value, "--cpus", 1, UINT32_MAX, &config->nr_cpus, err);
    case OPTION_DISK:
        return add_disk(config, value, err);
    case OPTION_NET:
        return config_net_add(config, value, err);
    case OPTION_SHARE:
        return config_share_add(config, value, err);
    case OPTION_ENGINE:
        return config_engine_set(config, value, "--engine", err);
    case OPTION_VSOCK:
        return set_vsock(config, value, err);
    case OPTION_CONSOLE:
        return config_console_set(config, value, "--console", err);
    case OPTION_CONTROL:
        return config_string_set(&config->control, value, err);
    case OPTION_PROFILE:
        return config_string_set(&config->profile, value, err);
    case OPTION_SYMBOLS:
        return config_symbols_add(config, value, err);
    case OPTION_PERF_MAP:
        config->perf_map = true;
        return 0;
    case OPTION_ON_RESET:
        return config_on_reset_set(config, value, "--on-reset", err);
    case OPTION_EXIT_PORT:
        config->exit_port = true;
        return 0;
    case OPTION_DEBUG_CONSOLE:
        config->debug_console = true;
        return 0;
    case OPTION_BALLOON:
        config->balloon = true;
        return 0;
    case OPTION_NO_RNG:
        config->rng = false;
        return 0;
    case OPTION_HOTPLUG:
        config->hotplug = true;
        return 0;
    case OPTION_PLACES:
        config->places = true;
        return 0;
    case OPTION_READY_FD:
        r = number_parse(value, "--ready-fd", 3, 1023, &number, err);
        config->ready_fd = r < 0 ? -1 : (int)number;
        return r;
    case OPTION_NO_JAIL:
        config->jail = false;
        return 0;
    case OPTION_QUIET:
        config->quiet = true;
        return 0;
    default:
        return err_set(err, -EINVAL, "option %d is not handled", option);
    }
}

int vmm_config_from_options(struct vmm_config *config, int argc, char **argv, struct err *err)
{
    optind = 0;
    opterr = 0;
    for (;;) {
        int option = getopt_long(argc, argv, "+:", long_options, NULL);
        int r;

        if (option == -1)
            break;
        if (option == '?')
            return err_set(err, -EINVAL, "unknown option '%s'", argv[optind - 1]);
        if (option == ':')
            return err_set(err, -EINVAL, "option '%s' needs a value", argv[optind - 1]);
        if (option == OPTION_HELP)
            return VMM_OPTIONS_HELP;
        if (option == OPTION_VERSION)
            return VMM_OPTIONS_VERSION;
        r = apply(config, option, optarg, err);
        if (r < 0)
            return r;
    }
    if (optind < argc)
        return err_set(err, -EINVAL, "unexpected argument '%s'", argv[optind]);
    return VMM_OPTIONS_RUN;
}
