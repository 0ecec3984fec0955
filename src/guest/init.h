/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of lodge-init, in the order in which main uses them. One process, one thread, PID 1 of
 * a virtual machine. Errors name the step that failed; main prints them to the console and powers
 * off, because nobody else could.
 */
#ifndef LODGE_GUEST_INIT_H
#define LODGE_GUEST_INIT_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define INIT_PARAM_MAX  256
#define INIT_MOUNTS_MAX 4096 /* a kernel command line is at most that long */

/* What /proc/cmdline says to us. */
struct init_params {
    char agent[INIT_PARAM_MAX]; /* lodge.agent=SPEC (transport.h); "" : a command on the console */
    char root[INIT_PARAM_MAX];  /* lodge.root=/dev/vda (the default) */
    char net[64];               /* lodge.net=ADDRESS/BITS,GATEWAY of eth0; "": none */
    char net6[96];              /* lodge.net6=ADDRESS/BITS,GATEWAY of eth0; "": none */
    char disks[8];              /* lodge.disks=link: links to disks by their serial numbers */
    char nics[1024]; /* lodge.nic=MAC+ADDRESS/BITS[+ADDRESS6/BITS], repeated: by blanks */
    char rw[32];     /* lodge.rw=SIZE of the writable layer, as tmpfs takes it (50%), or
                      * the disk that it is on, /dev/... */
    char mounts[INIT_MOUNTS_MAX]; /* lodge.mount=NAME,TARGET[,ro], repeated: their texts, by blanks;
                                   * NAME: of a share, or /dev/... */
};

void init_params_parse(const char *cmdline, struct init_params *ret);

/* /proc, /sys, /dev and what belongs below them. */
int init_mount_early(struct err *err);
/* Loads /modules/<name> for each line of /modules/list, in that order. */
int init_load_modules(struct err *err);
/* Likewise those of /modules/later, when something needs them; nothing when that is done. */
int init_load_later(int dirfd, struct err *err);
/* Mounts the image with its writable layer and makes it the root directory. */
int init_switch_root(const struct init_params *params, struct err *err);
/* A disk that may still have to appear. */
int init_disk_open(const char *path, int *ret, struct err *err);
/* What lodge.mount says, in the new root directory. */
int init_mount_volumes(const struct init_params *params, struct err *err);
int init_loopback_up(struct err *err);
/* What lodge.nic says of interfaces beyond the first. */
int init_networks_up(const struct init_params *params, struct err *err);
/* What lodge.net says; "" does nothing. The interface is there when its driver is loaded. */
int init_network_up(const char *text, struct err *err);
/* The same for any interface; without ",GATEWAY" there is no way out by it. Right to do twice. */
int init_interface_up(const char *name, const char *text, struct err *err);
/* The same for IPv6, which the kernel may lack: then nothing is done. After those for IPv4. */
int init_interface6_up(const char *name, const char *text, struct err *err);
int init_network6_up(const char *text, struct err *err);
/* hostname "" keeps the kernel's; resolv_conf "" keeps the image's file. Best effort. */
void init_identify(const char *hostname, const char *resolv_conf);

/* Runs argv (or a shell when argc is 0) on the console as its session until it ends; returns its
 * wait status or a negative errno. */
int init_console_run(int argc, char *const *argv, struct err *err);

/* Ends every other process, writes back, turns the machine off. Does not return. */
_Noreturn void init_poweroff(void);

#endif
