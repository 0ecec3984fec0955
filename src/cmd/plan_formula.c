/* SPDX-License-Identifier: Apache-2.0 */
/* lodge plan formula: any analytic model by its name. Its options are the model's parameters. */
#include "cmd/plan.h"

#include "base/util.h"
#include "cmd/cli.h"
#include "model/formula.h"

#include <stdio.h>
#include <string.h>

static json_t *list_formulas(void)
{
    json_t *result = json_object(), *rows = json_array();
    const struct formula *formula;

    for (size_t i = 0; (formula = formula_at(i)); i++)
        json_array_append_new(
            rows, json_pack("{s:s, s:s}", "name", formula->name, "model", formula->title));
    json_object_set_new(result, "formulas", rows);
    return result;
}

static json_t *describe(const struct formula *formula)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < FORMULA_PARAMETERS_MAX && formula->parameters[i].name; i++) {
        const struct formula_parameter *p = &formula->parameters[i];
        char option[64];

        snprintf(option, sizeof(option), "--%s", p->name);
        json_array_append_new(rows, json_pack("{s:s, s:s, s:s}", "option", option, "standard",
                                              p->standard ? p->standard : "(needed)", "meaning",
                                              p->meaning));
    }
    return json_pack("{s:s, s:s, s:s, s:o}", "name", formula->name, "model", formula->title,
                     "formula", formula->text, "parameters", rows);
}

static int run(const struct plan_arguments *arguments, json_t **ret, struct err *err)
{
    const char *values[FORMULA_PARAMETERS_MAX] = {NULL};
    const struct formula *formula;
    bool any = false;

    if (arguments->nr_positionals == 0) {
        *ret = list_formulas();
        return 0;
    }
    if (!(formula = formula_find(arguments->positionals[0]))) {
        const char *names[64], *nearest;
        size_t nr = 0;

        for (; formula_at(nr) && nr + 1 < ARRAY_LEN(names); nr++)
            names[nr] = formula_at(nr)->name;
        names[nr] = NULL;
        nearest = cli_nearest(arguments->positionals[0], names);
        return err_set(err, -ENOENT,
                       "there is no formula '%s'%s%s%s; lodge plan formula lists them",
                       arguments->positionals[0], nearest ? "; did you mean '" : "",
                       nearest ? nearest : "", nearest ? "'?" : "");
    }
    for (size_t k = 0; k < arguments->nr_options; k++) {
        size_t i = 0;

        if (!arguments->values[k] || !arguments->options[k].value)
            continue;
        while (i < FORMULA_PARAMETERS_MAX && formula->parameters[i].name &&
               strcmp(formula->parameters[i].name, arguments->options[k].name) != 0)
            i++;
        if (i == FORMULA_PARAMETERS_MAX || !formula->parameters[i].name)
            return err_set(err, -EINVAL,
                           "%s has no parameter --%s; lodge plan formula %s lists what it has",
                           formula->name, arguments->options[k].name, formula->name);
        values[i] = arguments->values[k];
        any = true;
    }
    if (arguments->nr_positionals > 1)
        return formula_compute_file(formula, arguments->positionals[1], ret, err);
    if (!any) {
        *ret = describe(formula);
        return 0;
    }
    return formula_compute(formula, values, ret, err);
}

/* Every parameter of every formula; which belong together the formula knows. */
static const struct plan_option options[] = {
    {"lambda", "N", "arrivals per unit of time (a list for classes)"},
    {"mu", "N", "services per unit of time of one server"},
    {"servers", "N", "servers (a list for stations)"},
    {"capacity", "N", "most customers in the system"},
    {"service", "T", "mean time of service"},
    {"scv", "N", "squared coefficient of variation of service"},
    {"scv-arrivals", "N", "the same between arrivals"},
    {"scv-service", "N", "the same of service"},
    {"preemptive", "WORD", "yes or no"},
    {"load", "N", "erlangs"},
    {"share", "N", "allowed share"},
    {"of", "WORD", "refused or delayed"},
    {"time", "T", "length of the observation"},
    {"completions", "N", "in that time"},
    {"busy", "T", "time that the station was busy"},
    {"station-completions", "N", "at the station"},
    {"customers", "N", "in the network"},
    {"think", "T", "time of thinking"},
    {"demands", "LIST", "service demands, comma between"},
    {"method", "WORD", "exact or schweitzer"},
    {"routing", "ROWS", "shares, rows separated by semicolons"},
    {"tasks", "N", "tasks of a job"},
    {"memory", "MIB", "of the guest"},
    {"bandwidth", "MIB", "a second"},
    {"dirty-rate", "MIB", "a second"},
    {"downtime", "T", "allowed"},
    {"working-set", "MIB", "most that is dirty at once"},
    {"rounds", "N", "at most"},
    {NULL},
};

const struct plan_command plan_formula = {
    .name = "formula",
    .usage = "[NAME [FILE.json] [--PARAMETER VALUE...]]",
    .summary = "an analytic model by name; without parameters, what it needs",
    .options = options,
    .run = run,
};
