/* JSON to a tree, by jansson, which tells lines of syntax errors only: of all others the way is
 * told. */
#include "client/kvctl/document.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

struct reader {
    struct kv_arena *arena;
    const char *file;
    struct kvctl_node *head; /* of those whose children are not read yet */
    struct kvctl_node *tail;
    struct kv_error *error;
};

static int no_memory(struct reader *reader)
{
    return kv_error_set(reader->error, KV_NO_MEMORY, "%.200s: out of memory", reader->file);
}

static int set_text(struct reader *reader, struct kvctl_node *node, const char *text, size_t size)
{
    void *memory = kv_arena_copy(reader->arena, text, size);

    if (!memory) {
        return no_memory(reader);
    }
    node->text = kv_bytes_of(memory, size);
    return 0;
}

/* The shortest decimal that reads back as the same number, as kvctl_print_score. */
static int set_number(struct reader *reader, struct kvctl_node *node, const json_t *json)
{
    char text[64];

    if (json_is_integer(json)) {
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
    } else {
        kvctl_format_score(json_real_value(json), text, sizeof text);
    }
    return set_text(reader, node, text, strlen(text));
}

static int add(struct reader *reader, struct kvctl_node *parent, const char *name, json_t *json)
{
    static const enum kvctl_node_kind kinds[] = {
        [JSON_OBJECT] = KVCTL_MAPPING,
        [JSON_ARRAY] = KVCTL_SEQUENCE,
        [JSON_STRING] = KVCTL_SCALAR,
        [JSON_INTEGER] = KVCTL_NUMBER_SCALAR,
        [JSON_REAL] = KVCTL_NUMBER_SCALAR,
        [JSON_TRUE] = KVCTL_SCALAR,
        [JSON_FALSE] = KVCTL_SCALAR,
        [JSON_NULL] = KVCTL_NULL,
    };
    struct kvctl_node *node;
    int status =
        kvctl_node_add(reader->arena, parent, kinds[json_typeof(json)], &node, reader->error);

    if (status == KV_TOO_LARGE) {
        return kvctl_node_wrong(
            reader->file, parent, reader->error, "the objects are nested too deeply");
    }
    if (status == 0 && name) {
        void *memory = kv_arena_copy(reader->arena, name, strlen(name));

        node->name = kv_bytes_of(memory, strlen(name));
        status = memory ? 0 : no_memory(reader);
    }
    if (status < 0) {
        return status;
    }
    node->source = json;
    if (json_is_object(json) || json_is_array(json)) {
        *(reader->tail ? &reader->tail->queue : &reader->head) = node;
        reader->tail = node;
        return 0;
    }
    if (json_is_string(json)) {
        return set_text(reader, node, json_string_value(json), json_string_length(json));
    }
    if (json_is_boolean(json)) {
        return set_text(
            reader, node, json_is_true(json) ? "true" : "false", json_is_true(json) ? 4 : 5);
    }
    return json_is_number(json) ? set_number(reader, node, json) : 0;
}

static int add_children(struct reader *reader, struct kvctl_node *node)
{
    json_t *json = node->source;
    const char *name;
    json_t *child;
    size_t i;

    if (json_is_array(json)) {
        json_array_foreach(json, i, child)
        {
            int status = add(reader, node, NULL, child);

            if (status < 0) {
                return status;
            }
        }
        return 0;
    }
    json_object_foreach(json, name, child)
    {
        int status = add(reader, node, name, child);

        if (status < 0) {
            return status;
        }
    }
    return 0;
}

int kvctl_read_json(struct kv_arena *arena,
                    const char *file,
                    struct kv_bytes text,
                    struct kvctl_node **ret_node,
                    struct kv_error *ret_error)
{
    struct reader reader = {.arena = arena, .file = file, .error = ret_error};
    json_error_t where;
    json_t *json =
        json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    struct kvctl_node *root;
    int status;

    if (!json) {
        return kv_error_set(
            ret_error, KV_INVALID, "%.200s line %d: %.200s", file, where.line, where.text);
    }
    status = add(&reader, NULL, NULL, json);
    root = reader.head;
    for (struct kvctl_node *node = root; node && status == 0; node = node->queue) {
        status = add_children(&reader, node);
    }
    for (struct kvctl_node *node = root; node; node = node->queue) {
        node->source = NULL;
    }
    json_decref(json);
    if (status == 0) {
        *ret_node = root;
    }
    return status;
}
