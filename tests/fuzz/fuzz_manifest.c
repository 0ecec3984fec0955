/* SPDX-License-Identifier: Apache-2.0 */
/* Foreign documents of an image: manifest, index, configuration and references. */
#include "image/manifest.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    static struct manifest manifest;
    static struct image_config config;
    const char *text = (const char *)input;
    char reference[REFERENCE_MAX], *copy = strndup(text, size);
    struct descriptor picked;
    bool is_index;

    if (manifest_parse(text, size, "fuzz", &manifest, NULL) == 0)
        for (size_t i = 0; i < manifest.nr_layers; i++)
            if (!digest_valid(manifest.layers[i].digest))
                abort();
    (void)manifest_pick(text, size, "fuzz", &is_index, &picked, NULL);
    for (size_t layers = 0; layers < 3; layers++)
        if (image_config_parse(text, size, "fuzz", layers, &config, NULL) == 0) {
            json_decref(image_config_run(&config));
            image_config_done(&config);
        }
    if (copy && reference_normalize(copy, reference, NULL) == 0 &&
        (strstr(reference, "..") || reference[0] == '/' || strlen(reference) >= REFERENCE_MAX))
        abort();
    free(copy);
    return 0;
}
