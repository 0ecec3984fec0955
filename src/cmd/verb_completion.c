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
    "# The words up to the cursor, whole and without quotes: bash splits them at '=' and ':', "
    "too.\n"
    "# Of the last one `token` is what bash replaces, `before` what stands before that.\n"
    "_lodge_words()\n"
    "{\n"
    "    local i rest=$COMP_LINE spaces\n"
    "    typed=()\n"
    "    for ((i = 0; i <= COMP_CWORD; i++)); do\n"
    "        token=${COMP_WORDS[i]}\n"
    "        spaces=${rest%%[![:space:]]*}\n"
    "        if [[ i -gt 0 && -z $spaces ]]; then\n"
    "            typed[${#typed[@]} - 1]+=$token\n"
    "        else\n"
    "            typed+=(\"$token\")\n"
    "        fi\n"
    "        rest=${rest#\"$spaces$token\"}\n"
    "    done\n"
    "    [[ $token == [=:] ]] && token=\n"
    "    token=${token//[\\'\\\"\\\\]/}\n"
    "    typed=(\"${typed[@]//[\\'\\\"\\\\]/}\")\n"
    "    before=${typed[${#typed[@]} - 1]}\n"
    "    before=${before%\"$token\"}\n"
    "    program=${typed[0]/#'~/'/~/}\n"
    "}\n"
    "_lodge()\n"
    "{\n"
    "    local line token before program typed\n"
    "    COMPREPLY=()\n"
    "    _lodge_words\n"
    "    while IFS= read -r line; do\n"
    "        case $line in\n"
    "        :files) _lodge_paths -f \"$token\" ;;\n"
    "        :dirs) _lodge_paths -d \"$token\" ;;\n"
    "        *) COMPREPLY+=(\"${line#\"$before\"}\") ;;\n"
    "        esac\n"
    "    done < <(\"$program\" completion words \"${typed[@]:1}\" 2>/dev/null)\n"
    "}\n"
    "_lodge_vmm()\n"
    "{\n"
    "    local word token before program typed\n"
    "    COMPREPLY=()\n"
    "    _lodge_words\n"
    "    case $before$token in\n"
    "    -*=*) _lodge_paths -f \"$token\" ;;\n"
    "    -*)\n"
    "        while IFS= read -r word; do\n"
    "            COMPREPLY+=(\"$word\")\n"
    "        done < <(compgen -W \"$(\"$program\" --help 2>/dev/null | grep -o -e "
    "'--[a-z-]*' | sort -u)\" -- \"$token\") ;;\n"
    "    *) _lodge_paths -f \"$token\" ;;\n"
    "    esac\n"
    "}\n"
    "complete -F _lodge lodge\n"
    "complete -F _lodge_vmm lodge-vmm\n";

/* The words are as they were typed: quotes and a tilde are undone, of the last one what is before
 * the cursor counts. A file after "--option=" is completed without that; options are not. */
static const char zsh_script[] =
    "#compdef lodge lodge-vmm\n"
    "# zsh completion for lodge and lodge-vmm\n"
    "_lodge()\n"
    "{\n"
    "    local line program=${~words[1]} files= found=1\n"
    "    local -a candidates\n"
    "    if [[ ${program:t} == lodge-vmm ]]; then\n"
    "        candidates=(${(fu)\"$($program --help 2>/dev/null | grep -o -e '--[a-z-]*')\"})\n"
    "        [[ $PREFIX == -* && $PREFIX != *=* ]] || { candidates=(); files=-f }\n"
    "    else\n"
    "        while IFS= read -r line; do\n"
    "            case $line in\n"
    "            (:files) files=-f ;;\n"
    "            (:dirs) files=-/ ;;\n"
    "            (*) candidates+=(\"$line\") ;;\n"
    "            esac\n"
    "        done < <($program completion words \"${(@Q)words[2,CURRENT-1]}\" \"${(Q)PREFIX}\" "
    "2>/dev/null)\n"
    "    fi\n"
    "    (( $#candidates )) && compadd -- $candidates && found=0\n"
    "    if [[ -n $files ]]; then\n"
    "        [[ $PREFIX == -*=* ]] && compset -P 1 '*='\n"
    "        if [[ $files == -/ ]]; then _files -/; else _files; fi && found=0\n"
    "    fi\n"
    "    return found\n"
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
