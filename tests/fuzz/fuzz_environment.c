/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests about environments: one that is made, and a change of one. What is accepted
 * must be accepted again as it is written down, with numbers that policy can count with. */
#include "manager/environment.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct environment_spec *spec)
{
    if (!(spec->cpus > 0) || !(spec->memory > 0) || !(spec->priority > 0) ||
        isinf(spec->priority) || !(spec->alpha > 0) || !isfinite(spec->beta) ||
        !(spec->keep_free >= 0 && spec->keep_free < 1) || !(spec->overcommit[0] > 0) ||
        !(spec->overcommit[1] > 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *document = NULL, *base = json_pack("{s:i}", "cpu_millis", 500), *changed = NULL;
    struct err err = ERR_INIT;
    struct environment_spec spec;

    if (json_parse((const char *)data, size, "fuzz", &document, &err) == 0) {
        if (environment_spec_parse(document, &spec, &err) == 0)
            check(&spec);
        if (environment_spec_change(base, document, &changed, &err) == 0) {
            if (environment_spec_parse(changed, &spec, &err) < 0)
                abort();
            check(&spec);
        }
    }
    json_decref(changed);
    json_decref(document);
    json_decref(base);
    return 0;
}
