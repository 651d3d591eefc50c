/* Typed keys to text: each entry's value becomes a small tree, which is written as JSON or YAML. */
#include "client/kvctl/document.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

/* What one value's tree may take: its elements as base64, and a node of 128 bytes each. */
#define TREE_BYTES_MAX KVCTL_DOCUMENT_BYTES_MAX
#define BASE64_MARK "$base64:"

/* ---------------------------------------------------------------- a value's tree */

struct maker {
    struct kv_arena *arena;
    struct kv_error *error;
};

static int no_memory(struct maker *maker)
{
    return kv_error_set(maker->error, KV_NO_MEMORY, "out of memory for one value");
}

static int make(struct maker *maker,
                struct kvctl_node *parent,
                enum kvctl_node_kind kind,
                struct kv_bytes name,
                struct kvctl_node **ret_node)
{
    int status = kvctl_node_add(maker->arena, parent, kind, ret_node, maker->error);

    if (status == 0) {
        (*ret_node)->name = name;
    }
    return status;
}

/* Base64 behind a mark. */
static int
encode(struct maker *maker, const char *mark, struct kv_bytes bytes, struct kv_bytes *ret_text)
{
    size_t size = strlen(mark) + kvctl_base64_size(bytes.size);
    char *text = kv_arena_alloc(maker->arena, size + 1);

    if (!text) {
        return no_memory(maker);
    }
    memcpy(text, mark, strlen(mark));
    kvctl_base64_encode(bytes, text + strlen(mark));
    *ret_text = kv_bytes_of(text, size);
    return 0;
}

/* As a name in a mapping. */
static int make_name(struct maker *maker, struct kv_bytes bytes, struct kv_bytes *ret_name)
{
    if (!kvctl_is_text(bytes) || (bytes.size > 0 && ((const char *)bytes.data)[0] == '$')) {
        return encode(maker, BASE64_MARK, bytes, ret_name);
    }
    *ret_name = bytes;
    return 0;
}

/* A text, or a mapping around the base64. */
static int make_bytes(struct maker *maker,
                      struct kvctl_node *parent,
                      struct kv_bytes name,
                      struct kv_bytes bytes)
{
    bool text = kvctl_is_text(bytes);
    struct kvctl_node *node;
    int status = make(maker, parent, text ? KVCTL_SCALAR : KVCTL_MAPPING, name, &node);

    if (status == 0 && text) {
        node->text = bytes;
    } else if (status == 0) {
        status = make(maker, node, KVCTL_SCALAR, kv_bytes_str("$base64"), &node);
        if (status == 0) {
            status = encode(maker, "", bytes, &node->text);
        }
    }
    return status;
}

static int make_number(struct maker *maker,
                       struct kvctl_node *parent,
                       struct kv_bytes name,
                       const char *number)
{
    struct kvctl_node *node;
    bool finite = !strstr(number, "inf");
    int status = make(maker, parent, finite ? KVCTL_NUMBER_SCALAR : KVCTL_SCALAR, name, &node);

    if (status == 0) {
        void *text = kv_arena_copy(maker->arena, number, strlen(number));

        node->text = kv_bytes_of(text, strlen(number));
        status = text ? 0 : no_memory(maker);
    }
    return status;
}

static int
make_integer(struct maker *maker, struct kvctl_node *parent, const char *name, int64_t number)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRId64, number);
    return make_number(maker, parent, kv_bytes_str(name), text);
}

/* A value, or with a time to live a mapping around both. */
static int make_field(struct maker *maker,
                      struct kvctl_node *parent,
                      struct kv_bytes name,
                      const struct kvctl_element *element)
{
    bool text = kvctl_is_text(element->value);
    struct kv_bytes value = element->value;
    struct kvctl_node *node;
    struct kvctl_node *content;
    int status;

    if (element->ttl_ms == 0) {
        return make_bytes(maker, parent, name, value);
    }
    status = make(maker, parent, KVCTL_MAPPING, name, &node);
    if (status == 0 && !text) {
        status = encode(maker, "", element->value, &value);
    }
    if (status == 0) {
        status =
            make(maker, node, KVCTL_SCALAR, kv_bytes_str(text ? "$string" : "$base64"), &content);
    }
    if (status == 0) {
        content->text = value;
        status = make_integer(maker, node, "$ttl_ms", element->ttl_ms);
    }
    return status;
}

static int make_element(struct maker *maker,
                        struct kvctl_node *parent,
                        enum kv_type type,
                        const struct kvctl_element *element)
{
    struct kv_bytes name;
    char score[32];
    int status;

    if (type == KV_TYPE_LIST || type == KV_TYPE_SET) {
        return make_bytes(maker, parent, kv_bytes_of(NULL, 0), element->name);
    }
    status = make_name(maker, element->name, &name);
    if (status == 0 && type == KV_TYPE_HASH) {
        status = make_field(maker, parent, name, element);
    } else if (status == 0) {
        kvctl_format_score(element->score, score, sizeof score);
        status = make_number(maker, parent, name, score);
    }
    return status;
}

static int
make_content(struct maker *maker, struct kvctl_node *parent, const struct kvctl_entry *entry)
{
    static const char *const names[] = {
        [KV_TYPE_HASH] = "$hash",
        [KV_TYPE_LIST] = "$list",
        [KV_TYPE_SET] = "$set",
        [KV_TYPE_ZSET] = "$zset",
    };
    bool member = entry->type == KV_TYPE_LIST || entry->type == KV_TYPE_SET;
    struct kvctl_node *node;
    int status;

    if (entry->type == KV_TYPE_STRING) {
        return make_bytes(maker, parent, kv_bytes_str("$string"), entry->value);
    }
    if (entry->type == KV_TYPE_COUNTER) {
        return make_integer(maker, parent, "$counter", entry->counter);
    }
    status = make(maker,
                  parent,
                  member ? KVCTL_SEQUENCE : KVCTL_MAPPING,
                  kv_bytes_str(names[entry->type]),
                  &node);
    for (size_t i = 0; i < entry->n_elements && status == 0; i++) {
        status = make_element(maker, node, entry->type, &entry->elements[i]);
    }
    return status;
}

/* The whole member: name and value. */
static int
make_entry(struct maker *maker, const struct kvctl_entry *entry, struct kvctl_node **ret_node)
{
    struct kvctl_node *root;
    struct kvctl_node *node;
    struct kv_bytes name;
    int status = make(maker, NULL, KVCTL_MAPPING, kv_bytes_of(NULL, 0), &root);

    if (status == 0) {
        status = make_name(maker, entry->key, &name);
    }
    if (status == 0 && entry->type == KV_TYPE_STRING && !entry->ttl_ms && !entry->lease_id) {
        status = make_bytes(maker, root, name, entry->value);
    } else if (status == 0) {
        status = make(maker, root, KVCTL_MAPPING, name, &node);
        if (status == 0) {
            status = make_content(maker, node, entry);
        }
        if (status == 0 && entry->ttl_ms) {
            status = make_integer(maker, node, "$ttl_ms", entry->ttl_ms);
        }
        if (status == 0 && entry->lease_id) {
            status = make_integer(maker, node, "$lease", entry->lease_id);
        }
    }
    if (status == 0) {
        *ret_node = root->first;
    }
    return status;
}

/* ---------------------------------------------------------------- JSON */

/* Values are at most four levels deep, by the above. */
static void write_json(FILE *file, const struct kvctl_node *node)
{
    bool mapping = node->kind == KVCTL_MAPPING;

    if (node->kind == KVCTL_SCALAR) {
        kvctl_print_json_text(file, node->text.size ? node->text.data : "", node->text.size);
        return;
    }
    if (node->kind == KVCTL_NUMBER_SCALAR) {
        kvctl_print_raw(file, node->text);
        return;
    }
    fputc(mapping ? '{' : '[', file);
    for (const struct kvctl_node *child = node->first; child; child = child->next) {
        if (mapping) {
            kvctl_print_json_text(file, child->name.size ? child->name.data : "", child->name.size);
            fputs(": ", file);
        }
        write_json(file, child);
        fputs(child->next ? ", " : "", file);
    }
    fputc(mapping ? '}' : ']', file);
}

int kvctl_entry_write_json(const struct kvctl_entry *entry, FILE *file, struct kv_error *ret_error)
{
    struct kv_arena arena;
    struct maker maker = {&arena, ret_error};
    struct kvctl_node *node;
    int status;

    kv_arena_init(&arena, TREE_BYTES_MAX);
    status = make_entry(&maker, entry, &node);
    if (status == 0) {
        write_json(file, node);
    }
    kv_arena_deinit(&arena);
    return status;
}

static void write_json_member(FILE *file, const struct kvctl_node *node, bool first)
{
    fputs(first ? "\n  " : ",\n  ", file);
    kvctl_print_json_text(file, node->name.size ? node->name.data : "", node->name.size);
    fputs(": ", file);
    write_json(file, node);
}

/* ---------------------------------------------------------------- YAML */

/* What other readers of YAML would not take for a text is quoted. */
static bool is_special(struct kv_bytes text)
{
    static const char *const words[] = {
        "true", "false", "yes", "no", "on", "off", "null", "~", "y", "n", ".nan", ".inf"};
    const char *p = text.data;

    if (text.size == 0 || strchr("0123456789+-.", p[0])) {
        return true;
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strlen(words[i]) == text.size && strncasecmp(words[i], p, text.size) == 0) {
            return true;
        }
    }
    return false;
}

/* Several lines stay lines where a block gives back exactly what it was given. */
static yaml_scalar_style_t style_of(const struct kvctl_node *node, struct kv_bytes text)
{
    const char *p = text.data;
    bool lines = false;

    if (node && node->kind == KVCTL_NUMBER_SCALAR) {
        return YAML_PLAIN_SCALAR_STYLE;
    }
    if (is_special(text) || strchr(" \t\n", p[0])) {
        return YAML_DOUBLE_QUOTED_SCALAR_STYLE;
    }
    for (size_t i = 0; i < text.size; i++) {
        if (p[i] == '\n' && node && i + 1 < text.size && !strchr(" \t\n", p[i + 1])) {
            lines = true;
        } else if (p[i] == '\n' && node && i + 1 == text.size) {
            lines = true;
        } else if ((unsigned char)p[i] < 0x20 || (unsigned char)p[i] >= 0x7f) {
            return YAML_DOUBLE_QUOTED_SCALAR_STYLE;
        }
    }
    return lines ? YAML_LITERAL_SCALAR_STYLE : YAML_ANY_SCALAR_STYLE;
}

static bool
emit_scalar(yaml_emitter_t *emitter, const struct kvctl_node *node, struct kv_bytes text)
{
    yaml_event_t event;

    return yaml_scalar_event_initialize(&event,
                                        NULL,
                                        NULL,
                                        text.size ? (yaml_char_t *)text.data : (yaml_char_t *)"",
                                        (int)text.size,
                                        1,
                                        1,
                                        style_of(node, text)) &&
           yaml_emitter_emit(emitter, &event);
}

static bool emit_start(yaml_emitter_t *emitter, const struct kvctl_node *node)
{
    yaml_event_t event;
    bool done =
        node->kind == KVCTL_MAPPING
            ? yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE)
            : yaml_sequence_start_event_initialize(
                  &event, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE);

    return done && yaml_emitter_emit(emitter, &event);
}

static bool emit_end(yaml_emitter_t *emitter, const struct kvctl_node *node)
{
    yaml_event_t event;
    bool done = node->kind == KVCTL_MAPPING ? yaml_mapping_end_event_initialize(&event)
                                            : yaml_sequence_end_event_initialize(&event);

    return done && yaml_emitter_emit(emitter, &event);
}

/* Values are at most four levels deep. */
static bool emit(yaml_emitter_t *emitter, const struct kvctl_node *node)
{
    if (node->kind == KVCTL_SCALAR || node->kind == KVCTL_NUMBER_SCALAR) {
        return emit_scalar(emitter, node, node->text);
    }
    if (!emit_start(emitter, node)) {
        return false;
    }
    for (const struct kvctl_node *child = node->first; child; child = child->next) {
        if ((node->kind == KVCTL_MAPPING && !emit_scalar(emitter, NULL, child->name)) ||
            !emit(emitter, child)) {
            return false;
        }
    }
    return emit_end(emitter, node);
}

static bool begin_yaml(yaml_emitter_t *emitter, FILE *file)
{
    static const struct kvctl_node root = {.kind = KVCTL_MAPPING};
    yaml_event_t event;

    yaml_emitter_set_output_file(emitter, file);
    yaml_emitter_set_unicode(emitter, 1);
    yaml_emitter_set_width(emitter, -1);
    return yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING) &&
           yaml_emitter_emit(emitter, &event) &&
           yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1) &&
           yaml_emitter_emit(emitter, &event) && emit_start(emitter, &root);
}

static bool end_yaml(yaml_emitter_t *emitter)
{
    static const struct kvctl_node root = {.kind = KVCTL_MAPPING};
    yaml_event_t event;

    return emit_end(emitter, &root) && yaml_document_end_event_initialize(&event, 1) &&
           yaml_emitter_emit(emitter, &event) && yaml_stream_end_event_initialize(&event) &&
           yaml_emitter_emit(emitter, &event);
}

/* ---------------------------------------------------------------- documents */

static int write_entries(const struct kvctl_document *document,
                         yaml_emitter_t *emitter,
                         FILE *file,
                         struct kv_error *ret_error)
{
    struct kv_arena arena;
    struct maker maker = {&arena, ret_error};
    int status = 0;

    kv_arena_init(&arena, TREE_BYTES_MAX);
    for (size_t i = 0; i < document->n_entries && status == 0; i++) {
        struct kvctl_node *node;

        kv_arena_reset(&arena);
        status = make_entry(&maker, &document->entries[i], &node);
        if (status == 0 && !emitter) {
            write_json_member(file, node, i == 0);
        } else if (status == 0 &&
                   (!emit_scalar(emitter, NULL, node->name) || !emit(emitter, node))) {
            status = kv_error_set(ret_error, KV_IO, "the output cannot be written");
        }
    }
    kv_arena_deinit(&arena);
    return status;
}

int kvctl_document_write(const struct kvctl_document *document,
                         enum kvctl_notation notation,
                         FILE *file,
                         struct kv_error *ret_error)
{
    yaml_emitter_t emitter;
    int status;

    if (notation == KVCTL_JSON_TEXT) {
        fputc('{', file);
        status = write_entries(document, NULL, file, ret_error);
        fputs(document->n_entries ? "\n}\n" : "}\n", file);
        return status;
    }
    if (!yaml_emitter_initialize(&emitter)) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    status = begin_yaml(&emitter, file) ? write_entries(document, &emitter, file, ret_error)
                                        : kv_error_set(ret_error, KV_IO, "the output fails");
    if (status == 0 && !end_yaml(&emitter)) {
        status = kv_error_set(ret_error, KV_IO, "the output cannot be written");
    }
    yaml_emitter_delete(&emitter);
    return status;
}
