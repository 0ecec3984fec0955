/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where lodge-oci begins, before the C library: `run`, `create` and `exec` execute their program
 * file once more, from a read-only mount of it (self.h). Done here, the first execution costs
 * nothing but itself: what the C library does at a start (some fifty CPUID instructions, each of
 * which leaves a virtual machine: 0.3 ms) is done once, by the second.
 *
 * Nothing is set up here: no thread-local storage (so no stack protector, no errno), no relocation
 * of function pointers, no sanitizer. System calls and the stack as the kernel left it (System V
 * AMD64 ABI 3.4.1: argc, argv, environment, auxiliary vector); whatever fails, main does what there
 * is to do, or lets it be. Only linked where the program is static.
 */
#include "oci/self.h"

#include <asm/unistd.h>
#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/statfs.h>

#define BARE           __attribute__((no_stack_protector, no_sanitize("address", "undefined"), used))
#define SELF           "/proc/self/exe"
#define ST_RDONLY_FLAG 1 /* of statfs(2) */

void oci_entry_protect(long *stack);

__asm__(".pushsection .text\n"
        ".globl oci_entry\n"
        ".type oci_entry, @function\n"
        "oci_entry:\n"
        "    endbr64\n"
        "    mov %rsp, %rdi\n"
        "    push %rdx\n" /* what the kernel hands to _start; twice, for alignment */
        "    push %rdx\n"
        "    call oci_entry_protect\n"
        "    pop %rdx\n"
        "    pop %rdx\n"
        "    jmp _start\n"
        ".size oci_entry, . - oci_entry\n"
        ".popsection\n");

BARE static long call(long number, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

BARE static bool is_word(const char *text, const char *word)
{
    while (*text && *text == *word) {
        text++;
        word++;
    }
    return *text == *word;
}

/* One too many is no harm: it costs a moment. */
BARE static bool names_such_a_verb(char **argv)
{
    for (; *argv; argv++)
        if (is_word(*argv, "run") || is_word(*argv, "create") || is_word(*argv, "exec"))
            return true;
    return false;
}

BARE static unsigned long value_of(const Elf64_auxv_t *auxiliary, unsigned long type)
{
    for (; auxiliary->a_type != AT_NULL; auxiliary++)
        if (auxiliary->a_type == type)
            return auxiliary->a_un.a_val;
    return ~0ul;
}

/* Maybe the second execution, or somebody else's: "/dev/fd/N" is what such a program is called. */
BARE static bool is_by_descriptor(const Elf64_auxv_t *auxiliary)
{
    unsigned long name = value_of(auxiliary, AT_EXECFN);
    const char *expected = "/dev/fd/";

    if (name == ~0ul)
        return true;
    for (const char *c = (const char *)name; *expected; c++, expected++)
        if (*c != *expected)
            return false;
    return true;
}

/* Failures are left to main, which looks again. */
BARE static bool is_done(void)
{
    struct statfs fs;
    long result = call(__NR_statfs, (long)SELF, (long)&fs, 0, 0, 0);

    self_is_protected = result == 0 && (fs.f_flags & ST_RDONLY_FLAG);
    return result < 0 || self_is_protected;
}

BARE void oci_entry_protect(long *stack)
{
    char **argv = (char **)(stack + 1), **environment = argv + stack[0] + 1, **end = environment;
    const Elf64_auxv_t *auxiliary;
    struct mount_attr attributes;
    long fd;

    while (*end)
        end++;
    auxiliary = (const Elf64_auxv_t *)(const void *)(end + 1);
    if (!names_such_a_verb(argv) || value_of(auxiliary, AT_EUID) != 0)
        return;
    if (is_by_descriptor(auxiliary) && is_done())
        return;
    /* Stays open in the second execution, which closes it when nobody waits (self_mount). */
    fd = call(__NR_open_tree, AT_FDCWD, (long)SELF, OPEN_TREE_CLONE, 0, 0);
    if (fd < 0)
        return;
    attributes.attr_set = MOUNT_ATTR_RDONLY;
    attributes.attr_clr = attributes.propagation = attributes.userns_fd = 0;
    if (call(__NR_mount_setattr, fd, (long)"", AT_EMPTY_PATH, (long)&attributes,
             sizeof(attributes)) == 0)
        call(__NR_execveat, fd, (long)"", (long)argv, (long)environment, AT_EMPTY_PATH);
    call(__NR_close, fd, 0, 0, 0, 0);
}
