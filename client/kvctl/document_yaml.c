/* YAML to a tree, by libyaml's events: plain scalars stay what was written. */
#include "client/kvctl/document.h"

#include <string.h>
#include <yaml.h>

struct reader {
    struct kv_arena *arena;
    const char *file;
    yaml_parser_t parser;
    struct kvctl_node *root;
    struct kvctl_node *parent; /* that is open */
    struct kv_bytes name;      /* of the next member of a mapping */
    bool named;
    unsigned documents;
    struct kv_error *error;
};

static int fail(struct reader *reader, size_t line, const char *what, const char *name)
{
    return kv_error_set(
        reader->error, KV_INVALID, "%.200s line %zu: %s%.100s", reader->file, line + 1, what, name);
}

static int copy(struct reader *reader, const void *data, size_t size, struct kv_bytes *ret_bytes)
{
    void *memory = kv_arena_copy(reader->arena, data, size);

    if (!memory) {
        return kv_error_set(reader->error, KV_NO_MEMORY, "%.200s: out of memory", reader->file);
    }
    *ret_bytes = kv_bytes_of(memory, size);
    return 0;
}

/* The node in its place; what has a tag (!list [...]) is the member "$list" of a mapping of its
 * own. */
static int add(struct reader *reader,
               enum kvctl_node_kind kind,
               const yaml_event_t *event,
               const yaml_char_t *tag,
               struct kvctl_node **ret_node)
{
    struct kvctl_node *parent = reader->parent;
    struct kv_bytes name = reader->name;
    int status = 0;

    reader->named = false;
    if (tag && tag[0] == '!' && tag[1]) {
        char text[64];
        size_t size = (size_t)snprintf(text, sizeof text, "$%.60s", (const char *)tag + 1);

        status = kvctl_node_add(reader->arena, parent, KVCTL_MAPPING, &parent, reader->error);
        if (status == 0) {
            parent->name = name;
            parent->line = event->start_mark.line + 1;
            parent->source = reader;
            reader->root = reader->root ? reader->root : parent;
            status = copy(reader, text, size, &name);
        }
    } else if (tag && strcmp((const char *)tag, YAML_STR_TAG) != 0) {
        return fail(reader, event->start_mark.line, "unknown tag ", (const char *)tag);
    }
    if (status == 0) {
        status = kvctl_node_add(reader->arena, parent, kind, ret_node, reader->error);
    }
    if (status == KV_TOO_LARGE) {
        return fail(reader, event->start_mark.line, "the mappings are nested too deeply", "");
    }
    if (status == 0) {
        (*ret_node)->name = name;
        (*ret_node)->line = event->start_mark.line + 1;
        reader->root = reader->root ? reader->root : *ret_node;
    }
    return status;
}

static bool is_null(const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;

    return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

static int read_scalar(struct reader *reader, const yaml_event_t *event)
{
    struct kvctl_node *node;
    struct kv_bytes text;
    int status = copy(reader, event->data.scalar.value, event->data.scalar.length, &text);

    if (status == 0 && reader->parent && reader->parent->kind == KVCTL_MAPPING && !reader->named) {
        reader->name = text;
        reader->named = true;
        return 0;
    }
    if (status == 0) {
        status = add(reader,
                     is_null(event) && !event->data.scalar.tag ? KVCTL_NULL : KVCTL_SCALAR,
                     event,
                     event->data.scalar.tag,
                     &node);
    }
    if (status == 0) {
        node->text = text;
    }
    return status;
}

static int open_node(struct reader *reader,
                     enum kvctl_node_kind kind,
                     const yaml_event_t *event,
                     const yaml_char_t *tag)
{
    if (reader->parent && reader->parent->kind == KVCTL_MAPPING && !reader->named) {
        return fail(reader, event->start_mark.line, "a name is a text", "");
    }
    return add(reader, kind, event, tag, &reader->parent);
}

static void close_node(struct reader *reader)
{
    reader->parent = reader->parent->parent;
    /* The mapping that a tag has made ends with what is in it. */
    if (reader->parent && reader->parent->kind == KVCTL_MAPPING && reader->parent->source) {
        reader->parent = reader->parent->parent;
    }
}

static int read_event(struct reader *reader, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (reader->documents++ > 0) {
            return fail(reader, event->start_mark.line, "a second document begins", "");
        }
        return 0;
    case YAML_SCALAR_EVENT:
        return read_scalar(reader, event);
    case YAML_MAPPING_START_EVENT:
        return open_node(reader, KVCTL_MAPPING, event, event->data.mapping_start.tag);
    case YAML_SEQUENCE_START_EVENT:
        return open_node(reader, KVCTL_SEQUENCE, event, event->data.sequence_start.tag);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        close_node(reader);
        return 0;
    case YAML_ALIAS_EVENT:
        return fail(reader, event->start_mark.line, "aliases (*name) are not taken", "");
    default:
        return 0;
    }
}

int kvctl_read_yaml(struct kv_arena *arena,
                    const char *file,
                    struct kv_bytes text,
                    struct kvctl_node **ret_node,
                    struct kv_error *ret_error)
{
    struct reader reader = {.arena = arena, .file = file, .error = ret_error};
    bool ended = false;
    int status = 0;

    if (!yaml_parser_initialize(&reader.parser)) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "%.200s: out of memory", file);
    }
    yaml_parser_set_input_string(
        &reader.parser, text.size ? text.data : (const void *)"", text.size);
    while (status == 0 && !ended) {
        yaml_event_t event;

        if (!yaml_parser_parse(&reader.parser, &event)) {
            size_t line = reader.parser.problem_mark.line;

            /* What is no character has no mark of its own. */
            status = fail(&reader,
                          line ? line : reader.parser.mark.line,
                          reader.parser.problem ? reader.parser.problem : "this is no YAML",
                          "");
            break;
        }
        status = read_event(&reader, &event);
        ended = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&reader.parser);
    if (status == 0) {
        *ret_node = reader.root;
    }
    return status;
}
