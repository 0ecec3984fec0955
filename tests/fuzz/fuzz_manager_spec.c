/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests: a specification, and a change of one. What is accepted must be accepted again
 * as it is written down. */
#include "manager/spec.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_again(json_t *document)
{
    char *text = json_text(document, JSON_COMPACT);
    struct spec spec;

    if (!text || spec_parse_text(text, &spec, NULL) < 0)
        abort();
    spec_done(&spec);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *document = NULL, *base = json_pack("{s:s}", "image", "i"), *changed = NULL;
    struct err err = ERR_INIT;
    struct spec spec;

    if (json_parse((const char *)data, size, "fuzz", &document, &err) == 0) {
        if (spec_parse(document, &spec, &err) == 0) {
            spec_done(&spec);
            parse_again(document);
        }
        if (json_is_object(document) && spec_change(base, document, &changed, &err) == 0)
            parse_again(changed);
    }
    json_decref(changed);
    json_decref(document);
    json_decref(base);
    return 0;
}
