/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs of others (e2fsprogs) on file systems and trees that guests or strangers wrote. Whoever
 * takes such a program over has one file, one tree to read, the host's programs and libraries, and
 * nothing else:
 *
 *      file system   a root of its own: the image, the tree read-only, /usr and what belongs to it
 *                    read-only, /dev/null; no /proc, no /etc
 *      rights        no capability (the tree: CAP_DAC_READ_SEARCH), none by a new program
 *      system calls  a list: no sockets, no processes, no signals, no mounts, no second program
 *      network       none
 *      limits        processor time, memory, the size of files, descriptors; no core; an end
 *
 * Without root's rights the first needs user namespaces, and with a tree that its files are all the
 * user's: other owners would be nobody in there. Where it is not to be had, Landlock lets the
 * program open the same files and no others. Without that, too, the rest holds, and the program is
 * its user. Builds with sanitizers confine alike: the program is not part of them.
 *
 * Threads: any. Blocks until the program's end.
 */
#ifndef LODGE_TOOL_TOOL_H
#define LODGE_TOOL_TOOL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Words of argv that stand for a path. */
extern const char tool_file[], tool_tree[];

/* How an argv begins that makes an image: quiet, of a plain file, blocks of 4 KiB, inodes of 256
 * bytes, nothing kept back for root (mke2fs(8)). */
#define TOOL_MKE2FS "mke2fs", "-q", "-F", "-b", "4096", "-I", "256", "-m", "0"

struct tool {
    const char *const *argv; /* [0]: a name, looked for where the host's programs are, or a path */
    int file;                /* open for reading and writing: the image; no larger afterwards */
    const char *tree;        /* a directory; NULL: none */
    bool tree_is_ours;       /* all that is in it has our effective user and group as its owners */
    unsigned limit_s;        /* of time, and of processor time */
};

/* Its exit status; *words gets the end of what it said, in one line. -ENOENT: there is no such
 * program; -ETIME: it was ended; -EIO: it was ended by a signal; others: it could not be started.
 */
int tool_run(const struct tool *tool, char *words, size_t size, struct err *err);

#endif
