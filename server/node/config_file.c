/* The YAML file: one flat mapping of options. libyaml's parser is used itself, since libcyaml
 * (which stands on it) names neither the nearest key nor the line of an unknown one. */
#include "common/assert.h"
#include "server/node/config_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

struct reader {
    struct kv_config *config;
    const char *path;
    yaml_parser_t parser;
    size_t lines[KV_OPTIONS_MAX]; /* where each option stands; 0: nowhere yet */
    struct kv_error *ret_error;
};

/* A text with a zero byte in it (YAML's "\0") would end there. */
static bool is_cut(const yaml_event_t *scalar)
{
    return strlen((const char *)scalar->data.scalar.value) != scalar->data.scalar.length;
}

static int fail(struct reader *reader, const yaml_mark_t *mark, const char *what)
{
    return kv_error_set(
        reader->ret_error, KV_INVALID, "%.200s line %zu: %s", reader->path, mark->line + 1, what);
}

static int next_event(struct reader *reader, yaml_event_t *ret_event)
{
    if (yaml_parser_parse(&reader->parser, ret_event)) {
        return 0;
    }
    return fail(reader,
                &reader->parser.problem_mark,
                reader->parser.problem ? reader->parser.problem : "this is no YAML");
}

/* key: value; the key's event is freed by the caller. */
static int read_pair(struct reader *reader, const yaml_event_t *key)
{
    const char *name = (const char *)key->data.scalar.value;
    const struct kv_option *option = kv_option_find(name, strlen(name));
    yaml_event_t value;
    char text[160];
    size_t *line;
    int status;

    if (is_cut(key)) {
        return fail(reader, &key->start_mark, "a key has a zero byte in it");
    }
    if (!option) {
        snprintf(text,
                 sizeof text,
                 "unknown key \"%.40s\": did you mean \"%s\"?",
                 name,
                 kv_option_nearest(name));
        return fail(reader, &key->start_mark, text);
    }
    line = &reader->lines[option - kv_options];
    if (*line != 0) {
        snprintf(text, sizeof text, "%s is given twice, first on line %zu", option->name, *line);
        return fail(reader, &key->start_mark, text);
    }
    *line = key->start_mark.line + 1;
    status = next_event(reader, &value);
    if (status != 0) {
        return status;
    }
    if (value.type != YAML_SCALAR_EVENT || is_cut(&value)) {
        snprintf(text,
                 sizeof text,
                 value.type == YAML_SCALAR_EVENT ? "%s has a zero byte in it"
                                                 : "%s wants one value",
                 option->name);
        status = fail(reader, &value.start_mark, text);
    } else {
        snprintf(text, sizeof text, "%.100s line %zu", reader->path, value.start_mark.line + 1);
        status = kv_option_set(
            reader->config, option, (const char *)value.data.scalar.value, text, reader->ret_error);
    }
    yaml_event_delete(&value);
    return status;
}

static int read_events(struct reader *reader)
{
    bool in_mapping = false;
    bool ended = false;
    int status = 0;

    while (status == 0 && !ended) {
        yaml_event_t event;

        status = next_event(reader, &event);
        if (status != 0) {
            break;
        }
        if (event.type == YAML_STREAM_END_EVENT) {
            ended = true;
        } else if (event.type == YAML_MAPPING_START_EVENT && !in_mapping) {
            in_mapping = true;
        } else if (event.type == YAML_MAPPING_END_EVENT) {
            in_mapping = false;
        } else if (event.type == YAML_SCALAR_EVENT && in_mapping) {
            status = read_pair(reader, &event);
        } else if (event.type == YAML_SCALAR_EVENT && event.data.scalar.length > 0) {
            status = fail(reader, &event.start_mark, "want lines of \"option: value\"");
        } else if (event.type == YAML_SEQUENCE_START_EVENT || event.type == YAML_ALIAS_EVENT ||
                   event.type == YAML_MAPPING_START_EVENT) {
            status = fail(reader, &event.start_mark, "want lines of \"option: value\"");
        }
        yaml_event_delete(&event);
    }
    return status;
}

int kv_config_read_file(struct kv_config *config, const char *path, struct kv_error *ret_error)
{
    struct reader reader = {.config = config, .path = path, .ret_error = ret_error};
    FILE *file = fopen(path, "re");
    int status;

    KV_ASSERT(kv_n_options <= KV_OPTIONS_MAX);
    if (!file) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "cannot read the configuration file %.300s: %s",
                            path,
                            strerror(errno));
    }
    if (!yaml_parser_initialize(&reader.parser)) {
        fclose(file);
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory");
    }
    yaml_parser_set_input_file(&reader.parser, file);
    status = read_events(&reader);
    yaml_parser_delete(&reader.parser);
    fclose(file);
    return status;
}
