/* Keys as environment variables. */
#include "client/kvctl/environment.h"

#include <inttypes.h>
#include <kv/keys.h>
#include <stdlib.h>
#include <string.h>

struct variable {
    const char *text; /* NAME=value */
    size_t name_size;
    const struct kvctl_entry *entry; /* NULL: inherited */
    size_t prefix;
};
struct maker {
    struct kv_arena *arena;
    struct variable *variables;
    size_t n;
    size_t capacity;
    size_t bytes;
    FILE *notes;
    struct kv_error *error;
};

/* The C locale's letters: a name must not depend on who runs it. */
static bool is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

bool kvctl_variable_name(struct kv_bytes key, char *ret_name, size_t size)
{
    const char *p = key.data;

    if (key.size == 0 || key.size >= size || (p[0] >= '0' && p[0] <= '9')) {
        return false;
    }
    for (size_t i = 0; i < key.size; i++) {
        bool digit = p[i] >= '0' && p[i] <= '9';

        ret_name[i] = is_letter(p[i]) ? (char)(p[i] & ~0x20) : digit ? p[i] : '_';
    }
    ret_name[key.size] = '\0';
    return true;
}

static void note(struct maker *maker, const struct kvctl_entry *entry, const char *what)
{
    fputs("kvctl run: left out: ", maker->notes);
    kvctl_print_escaped(maker->notes, entry->key);
    fprintf(maker->notes, ": %s\n", what);
}

static struct variable *find(struct maker *maker, const char *text, size_t name_size)
{
    for (size_t i = 0; i < maker->n; i++) {
        if (maker->variables[i].name_size == name_size &&
            memcmp(maker->variables[i].text, text, name_size) == 0) {
            return &maker->variables[i];
        }
    }
    return NULL;
}

/* In the place of what has the same name. */
static int add(struct maker *maker, const struct variable *variable)
{
    struct variable *old = find(maker, variable->text, variable->name_size);

    if (old && old->entry && variable->entry && old->prefix == variable->prefix) {
        fprintf(maker->notes, "kvctl run: %.*s is the name of ", (int)old->name_size, old->text);
        kvctl_print_escaped(maker->notes, old->entry->key);
        fputs(" and of ", maker->notes);
        kvctl_print_escaped(maker->notes, variable->entry->key);
        fputs(": the last one counts\n", maker->notes);
    }
    if (!old && maker->n == maker->capacity) {
        return kv_error_set(
            maker->error, KV_TOO_LARGE, "more than %d variables", (int)KVCTL_VARIABLES_MAX);
    }
    maker->bytes += strlen(variable->text) + 1 - (old ? strlen(old->text) + 1 : 0);
    *(old ? old : &maker->variables[maker->n++]) = *variable;
    return 0;
}

/* What a variable can hold; NULL, said, when it cannot. */
static const char *
value_of(struct maker *maker, const struct kvctl_entry *entry, char *number, size_t size)
{
    if (entry->type == KV_TYPE_COUNTER) {
        snprintf(number, size, "%" PRId64, entry->counter);
        return number;
    }
    if (entry->type != KV_TYPE_STRING) {
        note(maker, entry, "only strings and counters can be variables");
        return NULL;
    }
    if (entry->value.size > 0 && memchr(entry->value.data, 0, entry->value.size)) {
        note(maker, entry, "its value has a zero byte");
        return NULL;
    }
    return entry->value.data ? entry->value.data : "";
}

static int
add_entry(struct maker *maker, const struct kvctl_entry *entry, size_t prefix, size_t prefix_size)
{
    struct kv_bytes rest =
        kv_bytes_of((const char *)entry->key.data + prefix_size, entry->key.size - prefix_size);
    char name[4097];
    char number[24];
    const char *value = value_of(maker, entry, number, sizeof number);
    size_t value_size;
    size_t size;
    char *text;

    if (!value) {
        return 0;
    }
    if (!kvctl_variable_name(rest, name, sizeof name)) {
        note(maker,
             entry,
             "what is behind the prefix is no name: it is empty or begins with a digit");
        return 0;
    }
    value_size = entry->type == KV_TYPE_STRING ? entry->value.size : strlen(value);
    size = rest.size + 1 + value_size;
    if (size > KVCTL_VARIABLE_BYTES_MAX) {
        note(maker, entry, "it is larger than the 128 KiB of a variable");
        return 0;
    }
    text = kv_arena_alloc(maker->arena, size + 1);
    if (!text) {
        return kv_error_set(maker->error, KV_NO_MEMORY, "out of memory");
    }
    memcpy(text, name, rest.size);
    text[rest.size] = '=';
    memcpy(text + rest.size + 1, value, value_size);
    text[size] = '\0';
    return add(maker, &(struct variable){text, rest.size, entry, prefix});
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct variable *)a)->text, ((const struct variable *)b)->text);
}

static int finish(struct maker *maker, char ***ret_environment)
{
    char **environment = kv_arena_alloc(maker->arena, (maker->n + 1) * sizeof *environment);

    if (!environment) {
        return kv_error_set(maker->error, KV_NO_MEMORY, "out of memory");
    }
    if (maker->bytes > KVCTL_ENVIRONMENT_BYTES_MAX) {
        return kv_error_set(maker->error,
                            KV_TOO_LARGE,
                            "the environment has %zu bytes, at most %d",
                            maker->bytes,
                            (int)KVCTL_ENVIRONMENT_BYTES_MAX);
    }
    if (maker->n > 0) {
        qsort(maker->variables, maker->n, sizeof maker->variables[0], compare);
    }
    for (size_t i = 0; i < maker->n; i++) {
        environment[i] = (char *)maker->variables[i].text;
    }
    environment[maker->n] = NULL;
    *ret_environment = environment;
    return 0;
}

int kvctl_environment_make(struct kv_arena *arena,
                           const struct kvctl_document *document,
                           const char *const *prefixes,
                           size_t n_prefixes,
                           char *const *inherited,
                           FILE *notes,
                           char ***ret_environment,
                           struct kv_error *ret_error)
{
    struct maker maker = {.arena = arena, .notes = notes, .error = ret_error};
    int status = 0;

    maker.capacity = KVCTL_VARIABLES_MAX;
    maker.variables = kv_arena_alloc(arena, maker.capacity * sizeof maker.variables[0]);
    if (!maker.variables) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    for (; *inherited && status == 0; inherited++) {
        status = add(&maker,
                     &(struct variable){.text = *inherited, .name_size = strcspn(*inherited, "=")});
    }
    for (size_t p = 0; p < n_prefixes; p++) {
        struct kv_bytes prefix = kv_bytes_str(prefixes[p]);

        for (size_t i = 0; i < document->n_entries && status == 0; i++) {
            if (kvctl_has_prefix(document->entries[i].key, prefix)) {
                status = add_entry(&maker, &document->entries[i], p, prefix.size);
            }
        }
    }
    return status < 0 ? status : finish(&maker, ret_environment);
}

bool kvctl_environment_equal(char *const *a, char *const *b)
{
    while (*a && *b && strcmp(*a, *b) == 0) {
        a++;
        b++;
    }
    return !*a && !*b;
}
