/* The configuration, from any file, flags and variables: a refusal that says something, or values
 * within their bounds, which printed as a file, as flags, and as variables give the same again.
 *
 * Input: parts with a zero byte between them: the file, then flags, and variables (KVD_...). */
#define _GNU_SOURCE /* memfd_create */
#include "common/assert.h"
#include "server/node/config_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PARTS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char program[] = "kvd";

/* ---------------------------------------------------------------- a file that is in memory only */

struct memory_file {
    int fd;
    char path[64];
    char variable[80]; /* KVD_CONFIG=path */
};

static struct memory_file open_file(const char *content, size_t size)
{
    struct memory_file file = {.fd = memfd_create("config", MFD_CLOEXEC)};

    KV_ASSERT(file.fd >= 0 && write(file.fd, content, size) == (ssize_t)size);
    snprintf(file.path, sizeof file.path, "/proc/self/fd/%d", file.fd);
    snprintf(file.variable, sizeof file.variable, "KVD_CONFIG=%s", file.path);
    return file;
}

/* ---------------------------------------------------------------- what is loaded */

static const char *text_of(const struct kv_config *config, const struct kv_option *option)
{
    return (const char *)config + option->offset;
}

static uint64_t number_of(const struct kv_config *config, const struct kv_option *option)
{
    return *(const uint64_t *)(const void *)text_of(config, option);
}

static void check_option(const struct kv_config *config, const struct kv_option *option)
{
    switch (option->type) {
    case KV_OPTION_TEXT:
        KV_ASSERT(memchr(text_of(config, option), '\0', option->size));
        return;
    case KV_OPTION_BOOL:
        KV_ASSERT((uint8_t)*text_of(config, option) <= 1);
        return;
    default:
        KV_ASSERT(number_of(config, option) >= option->min);
        KV_ASSERT(number_of(config, option) <= option->max);
        return;
    }
}

static void on_warning(void *arg, const char *warning)
{
    (void)arg;
    KV_ASSERT(warning[0] != '\0');
}

static void check_config(const struct kv_config *config)
{
    size_t n_self = 0;

    for (size_t i = 0; i < kv_n_options; i++) {
        check_option(config, &kv_options[i]);
    }
    KV_ASSERT(config->cluster_id != 0 && config->cluster[0] && config->data_dir[0]);
    KV_ASSERT(config->heartbeat_ms * 3 <= config->election_timeout_ms);
    KV_ASSERT(config->n_members > 0 && config->n_members <= KV_MEMBERS_MAX);
    for (size_t i = 0; i < config->n_members; i++) {
        const struct kv_config_member *member = &config->members[i];

        KV_ASSERT(member->id > 0 && member->id <= INT64_MAX && strchr(member->address, ':'));
        n_self += member->id == config->node_id;
        for (size_t k = 0; k < i; k++) {
            KV_ASSERT(member->id != config->members[k].id);
        }
    }
    KV_ASSERT(n_self == 1);
    kv_config_warn(config, on_warning, NULL);
}

static void check_same(const struct kv_config *a, const struct kv_config *b)
{
    for (size_t i = 0; i < kv_n_options; i++) {
        const struct kv_option *option = &kv_options[i];

        if (option->type == KV_OPTION_TEXT) {
            KV_ASSERT(strcmp(text_of(a, option), text_of(b, option)) == 0);
        } else {
            KV_ASSERT(memcmp(text_of(a, option), text_of(b, option), option->size) == 0);
        }
    }
    KV_ASSERT(a->cluster_id == b->cluster_id && a->level == b->level);
    KV_ASSERT(a->n_members == b->n_members);
    for (size_t i = 0; i < a->n_members; i++) {
        KV_ASSERT(a->members[i].id == b->members[i].id);
        KV_ASSERT(strcmp(a->members[i].address, b->members[i].address) == 0);
    }
}

/* ---------------------------------------------------------------- the same, given otherwise */

static void check_reloads(const struct kv_config *config, int argc, char **argv, char **environment)
{
    struct kv_config *again = calloc(1, sizeof *again);
    enum kv_config_action action;
    struct kv_error error = {0};

    KV_ASSERT(again);
    KV_ASSERT(kv_config_load(argc, argv, environment, again, &action, &error) == 0);
    KV_ASSERT(action == KV_CONFIG_RUN);
    check_same(config, again);
    free(again);
}

static void check_as_file(const struct kv_config *config)
{
    char *argv[] = {program, NULL};
    char *environment[] = {NULL, NULL};
    struct memory_file file;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    KV_ASSERT(out);
    kv_config_print(config, out);
    fclose(out);
    file = open_file(text, size);
    environment[0] = file.variable;
    check_reloads(config, 1, argv, environment);
    close(file.fd);
    free(text);
}

/* --name=value, or KVD_NAME=value. */
static char *assignment(const struct kv_config *config, const struct kv_option *option, bool flag)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    KV_ASSERT(out);
    fprintf(out, flag ? "--" : "KVD_");
    for (const char *p = option->name; *p; p++) {
        fputc(flag ? *p : *p == '-' ? '_' : *p - 'a' + 'A', out);
    }
    if (option->type == KV_OPTION_TEXT) {
        fprintf(out, "=%s", text_of(config, option));
    } else if (option->type == KV_OPTION_BOOL) {
        fprintf(out, "=%s", *text_of(config, option) ? "true" : "false");
    } else {
        fprintf(out,
                "=%" PRIu64 "%s",
                number_of(config, option),
                option->type == KV_OPTION_TIME   ? "ms"
                : option->type == KV_OPTION_SIZE ? "B"
                                                 : "");
    }
    fclose(out);
    return text;
}

static void check_as_assignments(const struct kv_config *config, bool flags)
{
    char *none[] = {program, NULL};
    char *all[KV_OPTIONS_MAX + 2] = {program};

    for (size_t i = 0; i < kv_n_options; i++) {
        all[i + 1] = assignment(config, &kv_options[i], flags);
    }
    if (flags) {
        check_reloads(config, (int)kv_n_options + 1, all, none + 1);
    } else {
        check_reloads(config, 1, none, all + 1);
    }
    for (size_t i = 0; i < kv_n_options; i++) {
        free(all[i + 1]);
    }
}

/* ---------------------------------------------------------------- input */

struct input {
    char *bytes; /* the parts, each with a zero behind it */
    const char *file;
    char *argv[PARTS_MAX + 2];
    char *environment[PARTS_MAX + 2];
    int argc;
    size_t n_environment;
};

/* No other file is read than ours. */
static bool names_a_file(const char *part)
{
    return strncmp(part, "--config", 8) == 0 || strncmp(part, "KVD_CONFIG", 10) == 0;
}

static void parse_input(const uint8_t *data, size_t size, struct input *ret_input)
{
    char *end;
    char *part;

    *ret_input = (struct input){.bytes = malloc(size + 1), .argc = 1};
    KV_ASSERT(ret_input->bytes);
    if (size > 0) {
        memcpy(ret_input->bytes, data, size);
    }
    ret_input->bytes[size] = '\0';
    ret_input->argv[0] = program;
    ret_input->file = ret_input->bytes;
    end = ret_input->bytes + size;
    part = ret_input->bytes + strlen(ret_input->bytes) + 1;
    for (size_t i = 0; i < PARTS_MAX && part <= end; i++, part += strlen(part) + 1) {
        if (names_a_file(part)) {
            continue;
        }
        if (strncmp(part, "KVD_", 4) == 0) {
            ret_input->environment[ret_input->n_environment++] = part;
        } else {
            ret_input->argv[ret_input->argc++] = part;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kv_config *config = calloc(1, sizeof *config);
    struct kv_error error = {0};
    struct memory_file file = {.fd = -1};
    enum kv_config_action action;
    struct input input;
    int status;

    KV_ASSERT(config);
    parse_input(data, size, &input);
    if (input.file[0]) {
        file = open_file(input.file, strlen(input.file));
        input.environment[input.n_environment++] = file.variable;
    }
    status = kv_config_load(input.argc, input.argv, input.environment, config, &action, &error);
    if (status != 0) {
        KV_ASSERT(status == KV_INVALID && error.message[0] != '\0');
    } else if (action == KV_CONFIG_RUN || action == KV_CONFIG_CHECK) {
        check_config(config);
        check_as_file(config);
        check_as_assignments(config, true);
        check_as_assignments(config, false);
    }
    if (file.fd >= 0) {
        close(file.fd);
    }
    free(input.bytes);
    free(config);
    return 0;
}
