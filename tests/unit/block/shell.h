/* SPDX-License-Identifier: Apache-2.0 */
/* Shell commands of a test (qemu-img, most of all), in its directory, which keeps their output. */
#ifndef LODGE_TESTS_BLOCK_SHELL_H
#define LODGE_TESTS_BLOCK_SHELL_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* Its exit status; -1: none. */
__attribute__((format(printf, 1, 2))) static inline int run(const char *format, ...)
{
    char command[1200];
    va_list arguments;
    int status;

    va_start(arguments, format);
    vsnprintf(command, sizeof(command) - 30, format, arguments);
    va_end(arguments);
    strcat(command, " >>log 2>&1");
    status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#endif
