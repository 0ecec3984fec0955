/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's name servers, as resolv.conf(5) says them. A server on a loopback address (a caching
 * stub) means something else in a guest; systemd's stub tells its real servers in a second file.
 */
#include "net/resolver.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define RESOLV_CONF_MAX (64u << 10)

static bool usable_server(const char *text, size_t length, uint32_t *ret)
{
    char copy[INET_ADDRSTRLEN];
    struct in_addr in;

    if (length >= sizeof(copy))
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    if (inet_pton(AF_INET, copy, &in) != 1)
        return false;
    *ret = ntohl(in.s_addr);
    return *ret >> 24 != 127 && *ret != 0;
}

void net_resolv_conf_filter(const char *text, char *ret, size_t size)
{
    size_t used = 0;
    bool any = false;

    ret[0] = '\0';
    while (*text) {
        size_t length = strcspn(text, "\n"), word = strcspn(text, " \t\n");
        const char *value = text + word + strspn(text + word, " \t");
        uint32_t address;
        bool keep = false;

        if (word == 10 && !strncmp(text, "nameserver", word))
            any |= keep = usable_server(value, strcspn(value, " \t\n"), &address);
        else if ((word == 6 && !strncmp(text, "search", word)) ||
                 (word == 6 && !strncmp(text, "domain", word)) ||
                 (word == 7 && !strncmp(text, "options", word)))
            keep = true;
        if (keep && used + length + 2 <= size) {
            memcpy(ret + used, text, length);
            used += length;
            ret[used++] = '\n';
            ret[used] = '\0';
        }
        text += length;
        text += *text == '\n';
    }
    if (!any)
        ret[0] = '\0';
}

void net_resolv_conf(char *ret, size_t size)
{
    static const char *const files[] = {"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"};

    ret[0] = '\0';
    for (size_t i = 0; i < 2 && !ret[0]; i++) {
        CLEANUP(buf_donep) struct buf text;
        const char *string;

        buf_init(&text, RESOLV_CONF_MAX);
        if (file_load(AT_FDCWD, files[i], &text, NULL) == 0 && (string = buf_string(&text)))
            net_resolv_conf_filter(string, ret, size);
    }
}

uint32_t net_host_resolver(void)
{
    char text[4096];
    const char *at = text;
    uint32_t address = 0;

    net_resolv_conf(text, sizeof(text));
    while ((at = strstr(at, "nameserver"))) {
        at += strlen("nameserver");
        at += strspn(at, " \t");
        if (usable_server(at, strcspn(at, " \t\n"), &address))
            return address;
    }
    return 0;
}
