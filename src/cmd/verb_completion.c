/* SPDX-License-Identifier: Apache-2.0 */
/* lodge completion: the shells' scripts, and the candidates that they ask for (completion.h). */
#include "cmd/api_client.h"
#include "cmd/cli.h"
#include "cmd/completion.h"
#include "cmd/run_dir.h"

#include "image/store.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ":files" and ":dirs" are completion.h's. lodge-vmm's options are read from its own help. */
static const char bash_script[] =
    "# bash completion for lodge and lodge-vmm\n"
    "_lodge_paths()\n"
    "{\n"
    "    local path\n"
    "    compopt -o filenames 2>/dev/null\n"
    "    while IFS= read -r path; do COMPREPLY+=(\"$path\"); done < <(compgen \"$1\" -- \"$2\")\n"
    "}\n"
    "_lodge()\n"
    "{\n"
    "    local line current=${COMP_WORDS[COMP_CWORD]}\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r line; do\n"
    "        case $line in\n"
    "        :files) _lodge_paths -f \"$current\" ;;\n"
    "        :dirs) _lodge_paths -d \"$current\" ;;\n"
    "        *) COMPREPLY+=(\"$line\") ;;\n"
    "        esac\n"
    "    done < <(\"${COMP_WORDS[0]}\" completion words \"${COMP_WORDS[@]:1:COMP_CWORD}\" "
    "2>/dev/null)\n"
    "}\n"
    "_lodge_vmm()\n"
    "{\n"
    "    local word current=${COMP_WORDS[COMP_CWORD]}\n"
    "    COMPREPLY=()\n"
    "    case $current in\n"
    "    -*)\n"
    "        while IFS= read -r word; do\n"
    "            COMPREPLY+=(\"$word\")\n"
    "        done < <(compgen -W \"$(\"${COMP_WORDS[0]}\" --help 2>/dev/null | grep -o -e "
    "'--[a-z-]*' | sort -u)\" -- \"$current\") ;;\n"
    "    *) _lodge_paths -f \"$current\" ;;\n"
    "    esac\n"
    "}\n"
    "complete -F _lodge lodge\n"
    "complete -F _lodge_vmm lodge-vmm\n";

static const char zsh_script[] =
    "#compdef lodge lodge-vmm\n"
    "# zsh completion for lodge and lodge-vmm\n"
    "_lodge()\n"
    "{\n"
    "    local line\n"
    "    local -a candidates\n"
    "    if [[ ${words[1]:t} == lodge-vmm ]]; then\n"
    "        [[ ${words[CURRENT]} == -* ]] || { _files; return }\n"
    "        candidates=(${(fu)\"$(${words[1]} --help 2>/dev/null | grep -o -e '--[a-z-]*')\"})\n"
    "        compadd -- $candidates\n"
    "        return\n"
    "    fi\n"
    "    while IFS= read -r line; do\n"
    "        case $line in\n"
    "        (:files) _files ;;\n"
    "        (:dirs) _files -/ ;;\n"
    "        (*) candidates+=(\"$line\") ;;\n"
    "        esac\n"
    "    done < <(${words[1]} completion words \"${(@)words[2,CURRENT]}\" 2>/dev/null)\n"
    "    (( $#candidates )) && compadd -- $candidates\n"
    "}\n"
    "if [[ $funcstack[1] == _lodge ]]; then _lodge \"$@\"; else compdef _lodge lodge lodge-vmm; "
    "fi\n";

struct each {
    void (*each)(const char *name, void *context);
    void *context;
};

static void pass_image(const struct image *image, void *context)
{
    const struct each *e = context;

    e->each(image->name, e->context);
}

/* Of a manager that runs; none is started for this. */
static void each_instance(void (*each)(const char *name, void *context), void *context)
{
    json_t *answer = NULL;
    const json_t *list;

    if (!api_is_there() || api_ask("GET", "/v1/instances?all=1", NULL, &answer, NULL, NULL) < 0)
        return;
    list = json_object_get(answer, "instances");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));

        if (name)
            each(name, context);
    }
    json_decref(answer);
}

static void pass_machine(const char *id, const char *path, void *context)
{
    const struct each *e = context;
    char control[PATH_MAX];

    if (snprintf(control, sizeof(control), "%s/control", path) < PATH_MAX &&
        access(control, F_OK) == 0)
        e->each(id, e->context);
}

static void each_machine(void (*each)(const char *name, void *context), void *context)
{
    struct each e = {each, context};

    (void)run_dir_each(pass_machine, &e, NULL);
}

static void pass_kernel(const struct kernel *kernel, void *context)
{
    const struct each *e = context;

    e->each(kernel->name, e->context);
}

static void each_image(void (*each)(const char *name, void *context), void *context)
{
    struct each e = {each, context};
    struct store store;

    if (store_open(&store, NULL) == 0)
        image_list(&store, pass_image, &e);
}

static void each_kernel(void (*each)(const char *name, void *context), void *context)
{
    struct each e = {each, context};
    struct store store;

    if (store_open(&store, NULL) == 0)
        kernel_list(&store, pass_kernel, &e);
}

static void print(const char *candidate, void *context)
{
    (void)context;
    puts(candidate);
}

static int run(int argc, char **argv)
{
    static const struct completion_names names = {each_image, each_kernel, each_instance,
                                                  each_machine};

    if (argc >= 2 && !strcmp(argv[1], "words")) {
        completion_offer(&names, (size_t)argc - 2, argv + 2, print, NULL);
        return 0;
    }
    if (argc != 2)
        return cli_usage_error(&verb_completion, "bash or zsh is needed");
    if (!strcmp(argv[1], "bash"))
        fputs(bash_script, stdout);
    else if (!strcmp(argv[1], "zsh"))
        fputs(zsh_script, stdout);
    else
        return cli_usage_error(&verb_completion, "there is no completion for '%s'", argv[1]);
    return 0;
}

const struct cli_verb verb_completion = {
    .name = "completion",
    .summary = "Prints the completion script of a shell",
    .usage = "completion bash|zsh",
    .help = "For the shell that is running:  source <(lodge completion bash)\n"
            "`make install` puts the scripts where the shells look for them.\n",
    .run = run,
};
