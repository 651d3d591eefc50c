/* The variables of a command that kvctl starts. */
#include "client/kvctl/stream.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

/* Takes the text. */
static void add(struct kvctl_variables *variables, char *text)
{
    size_t name_size = text ? strcspn(text, "=") + 1 : 0;
    char **list = variables->list;

    if (!text) {
        variables->no_memory = true;
        return;
    }
    for (size_t i = 0; i < variables->n; i++) {
        if (strncmp(list[i], text, name_size) == 0) {
            free(list[i]);
            list[i] = text;
            return;
        }
    }
    if (variables->n + 1 >= variables->size) {
        size_t size = variables->size ? 2 * variables->size : 64;

        list = realloc(variables->list, size * sizeof *list);
        if (!list) {
            variables->no_memory = true;
            free(text);
            return;
        }
        variables->list = list;
        variables->size = size;
    }
    variables->list[variables->n++] = text;
    variables->list[variables->n] = NULL;
}

void kvctl_variables_init(struct kvctl_variables *variables)
{
    *variables = (struct kvctl_variables){0};
    for (char **variable = environ; *variable; variable++) {
        add(variables, strdup(*variable));
    }
}

void kvctl_variables_set(struct kvctl_variables *variables, const char *name, struct kv_bytes value)
{
    size_t name_size = strlen(name);
    char *text;

    if (value.size > KVCTL_VARIABLE_BYTES_MAX - name_size - 1 ||
        (value.size > 0 && memchr(value.data, '\0', value.size))) {
        return;
    }
    text = malloc(name_size + value.size + 2);
    if (text) {
        memcpy(text, name, name_size);
        text[name_size] = '=';
        if (value.size > 0) {
            memcpy(text + name_size + 1, value.data, value.size);
        }
        text[name_size + 1 + value.size] = '\0';
    }
    add(variables, text);
}

void kvctl_variables_set_number(struct kvctl_variables *variables, const char *name, int64_t number)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRId64, number);
    kvctl_variables_set(variables, name, kv_bytes_str(text));
}

void kvctl_variables_deinit(struct kvctl_variables *variables)
{
    for (size_t i = 0; i < variables->n; i++) {
        free(variables->list[i]);
    }
    free(variables->list);
    *variables = (struct kvctl_variables){0};
}
