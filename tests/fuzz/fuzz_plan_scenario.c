/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the planner on arbitrary bytes: scenarios, fleets and networks. What is refused has a
 * message that names a line of the file; what is accepted has formulas that end, and a short
 * simulation of it ends too.
 */
#include "model/fleet.h"
#include "model/formula.h"
#include "model/scenario.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Large counts are only slow. */
static bool small_numbers(const uint8_t *data, size_t size)
{
    unsigned digits = 0;

    for (size_t i = 0; i < size; i++) {
        digits = isdigit(data[i]) ? digits + 1 : 0;
        if (digits > 3 || (i > 0 && isdigit(data[i - 1]) && tolower(data[i]) == 'e'))
            return false;
    }
    return true;
}

/* As a network of queues: the formulas that read files. */
static void network(const struct json_at *root, const struct document *document)
{
    for (size_t i = 0; formula_at(i); i++) {
        struct err err = ERR_INIT;
        json_t *result = formula_at(i)->compute_file ? json_object() : NULL;

        if (result && formula_at(i)->compute_file(root, result, &err) < 0 &&
            (document_error(document, &err) >= 0 || strncmp(err.message, "fuzz:", 5) != 0))
            abort();
        json_decref(result);
    }
}

static void refused(const struct document *document, struct err *err)
{
    if (document_error(document, err) >= 0 || strncmp(err->message, "fuzz:", 5) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct document document = {0};
    struct scenario *scenario = NULL;
    struct fleet *fleet = NULL;
    struct json_at root;
    struct err err = ERR_INIT;
    static struct scenario_point point;

    if (document_parse((const char *)data, size, "fuzz", &document, &err) < 0) {
        if (!err.message[0])
            abort();
        return 0;
    }
    json_at_root(document.root, &root);
    err_clear(&err);
    if (scenario_read(&root, &scenario, &err) < 0) {
        refused(&document, &err);
    } else if (small_numbers(data, size)) {
        scenario_knee(scenario, scenario->nr_classes);
        scenario->answers = 200;
        scenario->replications = 1;
        if (scenario_predict(scenario, 1, scenario->nr_classes, &point, &err) < 0 &&
            !err.message[0])
            abort();
    }
    err_clear(&err);
    if (small_numbers(data, size)) {
        if (fleet_read(&root, &fleet, &err) < 0)
            refused(&document, &err);
        else if (fleet_place_all(fleet, &err) < 0)
            abort();
    }
    if (small_numbers(data, size))
        network(&root, &document);
    if (scenario)
        scenario_free(scenario);
    if (fleet)
        fleet_free(fleet);
    document_done(&document);
    return 0;
}
