/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nanoseconds per decoded instruction, over the executable segments of an ELF file (64-bit), by
 * linear sweep; the best of several rounds. Usage: bench_decode [FILE] (default /bin/bash).
 *
 * A byte that does not decode (data between functions) is skipped; how often is printed.
 */
#include "soft/decode/insn.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 10

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void sweep(const uint8_t *text, size_t size, size_t *ret_good, size_t *ret_bad)
{
    struct insn insn;

    *ret_good = 0;
    *ret_bad = 0;
    for (size_t at = 0; at < size;) {
        if (insn_decode(text + at, size - at, INSN_MODE_64, &insn) == INSN_OK) {
            at += insn.length;
            ++*ret_good;
        } else {
            at++;
            ++*ret_bad;
        }
    }
}

static void measure(const uint8_t *text, size_t size)
{
    double best = 0;
    size_t good = 0, bad = 0;

    for (int i = 0; i < ROUNDS; i++) {
        double start = now_ns(), elapsed;

        sweep(text, size, &good, &bad);
        elapsed = now_ns() - start;
        if (i == 0 || elapsed < best)
            best = elapsed;
    }
    printf("%zu bytes, %zu instructions, %zu bytes skipped: %.1f ns per instruction\n", size, good,
           bad, best / (double)(good + bad));
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "/bin/bash";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    const uint8_t *image;
    Elf64_Ehdr header;

    if (fd < 0 || fstat(fd, &st) < 0 || (size_t)st.st_size < sizeof(header)) {
        fprintf(stderr, "bench_decode: cannot read '%s'\n", path);
        return EXIT_FAILURE;
    }
    image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (image == MAP_FAILED)
        return EXIT_FAILURE;
    memcpy(&header, image, sizeof(header));
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64) {
        fprintf(stderr, "bench_decode: '%s' is not a 64-bit ELF file\n", path);
        return EXIT_FAILURE;
    }
    for (unsigned i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr segment;
        size_t at = header.e_phoff + i * sizeof(segment);

        if (at + sizeof(segment) > (size_t)st.st_size)
            break;
        memcpy(&segment, image + at, sizeof(segment));
        if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) &&
            segment.p_offset + segment.p_filesz <= (size_t)st.st_size)
            measure(image + segment.p_offset, segment.p_filesz);
    }
    return EXIT_SUCCESS;
}
