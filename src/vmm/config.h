/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM is made of, from a JSON document (docs/lodge-vmm.md) or a command line. Pure parsing:
 * no file is opened here but the document itself. Strings are owned by the configuration.
 */
#ifndef LODGE_VMM_CONFIG_H
#define LODGE_VMM_CONFIG_H

#include "base/err.h"
#include "block/block.h"
#include "net/net.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMM_DISKS_MAX       8
#define VMM_NETS_MAX        9
#define VMM_SHARES_MAX      64 /* directories */
#define VMM_TAGS_MAX        4  /* file systems that they make */
#define VMM_MODULES_MAX     16
#define VMM_SYMBOLS_MAX     16
#define VMM_MEMORY_DEFAULT  (UINT64_C(512) << 20)
#define VMM_CMDLINE_DEFAULT "console=ttyS0"

enum vmm_engine {
    VMM_ENGINE_AUTO,
    VMM_ENGINE_KVM,
    VMM_ENGINE_SOFT,
};

enum vmm_console {
    VMM_CONSOLE_STDIO,  /* COM1 on standard input and output */
    VMM_CONSOLE_VIRTIO, /* hvc0 on standard input and output, COM1 on standard output */
    VMM_CONSOLE_NONE,
};

enum vmm_on_reset {
    VMM_ON_RESET_REBOOT,
    VMM_ON_RESET_EXIT,
};

struct vmm_disk {
    char *path;
    char *serial; /* NULL: "lodge-disk-N" */
    bool read_only;
    bool cdrom; /* read-only, and what `--boot cdrom` looks at */
    enum block_format format;
    char *backing[BLOCK_BACKING_MAX]; /* qcow2: files below, from the nearest on */
    enum block_format backing_formats[BLOCK_BACKING_MAX];
    unsigned nr_backing;
};

enum vmm_net_kind {
    VMM_NET_TAP,
    VMM_NET_USER,
};

struct vmm_net {
    enum vmm_net_kind kind;
    char *id;  /* NULL: "netN" */
    char *tap; /* the interface */
    bool has_mac;
    uint8_t mac[NET_MAC_BYTES]; /* else random */
    uint16_t mtu;               /* 0: the back end's */
    bool any_source;            /* the guest may send under any hardware address */
    bool host_loopback;
    struct net_forward forwards[NET_FORWARDS_MAX];
    unsigned nr_forwards;
};

/* Directories of one tag make one file system: one of no name, which is its root, or several with
 * names below its root. */
struct vmm_share {
    char *tag, *path;
    char *name; /* NULL: none */
    bool read_only;
};

struct vmm_module {
    char *path;
    char *cmdline; /* NULL: none */
};

struct vmm_config {
    char *kernel;
    char *boot;                                 /* order; NULL: the kernel */
    char *cmdline;                              /* NULL: VMM_CMDLINE_DEFAULT */
    struct vmm_module modules[VMM_MODULES_MAX]; /* Linux: at most one, the initrd */
    unsigned nr_modules;
    uint64_t memory_bytes;
    uint64_t nr_cpus;
    enum vmm_engine engine;
    char *engine_options; /* NULL: none */
    struct vmm_disk disks[VMM_DISKS_MAX];
    unsigned nr_disks;
    struct vmm_net nets[VMM_NETS_MAX];
    unsigned nr_nets;
    struct vmm_share shares[VMM_SHARES_MAX];
    unsigned nr_shares;
    bool exit_port;
    bool debug_console;
    bool rng;
    bool balloon;
    enum vmm_console console;
    uint64_t vsock_cid; /* 0: no vsock device */
    char *vsock_path;
    char *control;                  /* NULL: no control socket */
    char *profile;                  /* NULL: none */
    char *symbols[VMM_SYMBOLS_MAX]; /* PATH or PATH@BASE */
    unsigned nr_symbols;
    bool perf_map;
    enum vmm_on_reset on_reset;
    bool jail;
    bool hotplug; /* disks and networks may come and go while it runs: by PCI */
    bool places;  /* likewise, in windows kept for them; the guest is told by who asks for it */
    int ready_fd; /* -1: none. One byte is written when the guest runs */
    bool quiet;
};

void vmm_config_init(struct vmm_config *config);
void vmm_config_done(struct vmm_config *config);

/* Fills config (initialised before) from a document; `source` names it in errors. */
int vmm_config_from_json(struct vmm_config *config, const char *text, size_t length,
                         const char *source, struct err *err);
int vmm_config_from_file(struct vmm_config *config, const char *path, struct err *err);

enum vmm_options_result {
    VMM_OPTIONS_RUN = 0,
    VMM_OPTIONS_HELP = 1,
    VMM_OPTIONS_VERSION = 2,
};

/* A command line. Options after --config change what the document says. enum vmm_options_result or
 * a negative errno. */
int vmm_config_from_options(struct vmm_config *config, int argc, char **argv, struct err *err);
extern const char vmm_options_help[];

/* What no single member can say: a kernel is needed, counts and sizes in range. */
int vmm_config_check(const struct vmm_config *config, struct err *err);

#endif
