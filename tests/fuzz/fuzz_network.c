/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of guests as DNS queries, and bytes of a damaged disk as a network's state. */
#include "base/buf.h"
#include "network/internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_query(const uint8_t *data, size_t size)
{
    static const enum dns_answer answers[] = {DNS_ADDRESS, DNS_NO_DATA, DNS_FAILURE};
    uint8_t reply[DNS_MESSAGE_MAX], address[16] = {0};
    struct dns_question question;

    if (size > DNS_MESSAGE_MAX || dns_parse(data, size, &question) < 0)
        return;
    if (question.end > size || strlen(question.name) > 255)
        abort();
    for (unsigned i = 0; i < 3; i++)
        if (dns_reply(data, &question, answers[i], address, 16, reply) > sizeof(reply))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct network network;
    struct buf rules;

    as_query(data, size);
    if (state_load_one((const char *)data, size, &network, NULL) < 0)
        return 0;
    buf_init(&rules, 1 << 20);
    if (network_rules(&network, 1, &rules) == 0 && !buf_string(&rules))
        abort();
    buf_done(&rules);
    network_done(&network);
    return 0;
}
