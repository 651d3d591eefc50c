/* A tree of mappings and scalars to typed keys. */
#include "client/kvctl/document.h"
#include "common/limits.h"

#include <kv/keys.h>
#include <stdarg.h>
#include <string.h>

#define BASE64_MARK "$base64:"

struct reader {
    struct kvctl_document *document;
    const char *file;
    struct kvctl_node *tail; /* of the mappings that are still to be read */
    struct kv_error *error;
};

/* ---------------------------------------------------------------- nodes */

int kvctl_node_add(struct kv_arena *arena,
                   struct kvctl_node *parent,
                   enum kvctl_node_kind kind,
                   struct kvctl_node **ret_node,
                   struct kv_error *ret_error)
{
    struct kvctl_node *node;

    if (parent && parent->depth == KVCTL_DEPTH_MAX) {
        return kv_error_set(
            ret_error, KV_TOO_LARGE, "nested more than %d deep", (int)KVCTL_DEPTH_MAX);
    }
    node = kv_arena_alloc(arena, sizeof *node);
    if (!node) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    *node = (struct kvctl_node){.kind = kind, .parent = parent};
    node->last = &node->first;
    if (parent) {
        node->depth = parent->depth + 1;
        *parent->last = node;
        parent->last = &node->next;
        parent->n_children++;
    }
    *ret_node = node;
    return 0;
}

/* name/name/... of the node, its end when that is all there is room for. */
static void describe_way(const struct kvctl_node *node, char *text, size_t size)
{
    size_t at = size - 1;

    text[at] = '\0';
    for (; node && node->parent && at > 0; node = node->parent) {
        size_t take = node->name.size < at ? node->name.size : at;

        at -= take;
        if (take > 0) {
            memcpy(text + at, (const char *)node->name.data + node->name.size - take, take);
        }
        if (at > 0 && node->parent->parent && node->name.size > 0) {
            text[--at] = '/';
        }
    }
    memmove(text, text + at, size - at);
}

int kvctl_node_wrong(const char *file,
                     const struct kvctl_node *node,
                     struct kv_error *ret_error,
                     const char *format,
                     ...)
{
    char what[256];
    char way[120];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    if (node->line) {
        return kv_error_set(ret_error, KV_INVALID, "%.120s line %zu: %s", file, node->line, what);
    }
    describe_way(node, way, sizeof way);
    return kv_error_set(ret_error, KV_INVALID, "%.120s at \"%s\": %s", file, way, what);
}

static int no_memory(struct reader *reader)
{
    return kv_error_set(reader->error, KV_NO_MEMORY, "%.200s: out of memory", reader->file);
}

/* ---------------------------------------------------------------- names and values */

static int decode(struct reader *reader,
                  const struct kvctl_node *node,
                  struct kv_bytes text,
                  struct kv_bytes *ret)
{
    uint8_t *bytes = kv_arena_alloc(reader->document->arena, text.size / 4 * 3 + 1);
    size_t size;

    if (!bytes) {
        return no_memory(reader);
    }
    if (!kvctl_base64_decode(text, bytes, &size)) {
        return kvctl_node_wrong(reader->file, node, reader->error, "this is no base64");
    }
    *ret = kv_bytes_of(bytes, size);
    return 0;
}

/* The bytes that a name stands for. */
static int
read_name(struct reader *reader, const struct kvctl_node *node, struct kv_bytes *ret_name)
{
    struct kv_bytes mark = kv_bytes_of(BASE64_MARK, strlen(BASE64_MARK));

    if (kvctl_has_prefix(node->name, mark)) {
        const char *text = node->name.data;

        return decode(
            reader, node, kv_bytes_of(text + mark.size, node->name.size - mark.size), ret_name);
    }
    if (node->name.size > 0 && ((const char *)node->name.data)[0] == '$') {
        return kvctl_node_wrong(reader->file,
                                node,
                                reader->error,
                                "\"%.*s\": names with $ are types ($string $counter $hash $list "
                                "$set $zset $base64); write $base64:... for such a key",
                                node->name.size > 40 ? 40 : (int)node->name.size,
                                (const char *)node->name.data);
    }
    *ret_name = node->name;
    return 0;
}

static bool is_scalar(const struct kvctl_node *node)
{
    return node->kind == KVCTL_SCALAR || node->kind == KVCTL_NUMBER_SCALAR;
}

static bool is_named(const struct kvctl_node *node, const char *name)
{
    return kvctl_bytes_equal(node->name, kv_bytes_str(name));
}

/* A text, or {"$base64": text}. */
static int
read_bytes(struct reader *reader, const struct kvctl_node *node, struct kv_bytes *ret_bytes)
{
    if (is_scalar(node)) {
        *ret_bytes = node->text;
        return 0;
    }
    if (node->kind == KVCTL_MAPPING && node->n_children == 1 && is_named(node->first, "$base64") &&
        is_scalar(node->first)) {
        return decode(reader, node->first, node->first->text, ret_bytes);
    }
    if (node->kind == KVCTL_NULL) {
        return kvctl_node_wrong(
            reader->file, node, reader->error, "null is no value; \"\" is the empty one");
    }
    return kvctl_node_wrong(
        reader->file, node, reader->error, "a text or {$base64: ...} is wanted here");
}

static int read_integer(struct reader *reader,
                        const struct kvctl_node *node,
                        int64_t min,
                        const char *what,
                        int64_t *ret)
{
    char text[32];

    snprintf(text,
             sizeof text,
             "%.*s",
             node->text.size < 31 ? (int)node->text.size : 31,
             node->text.size ? (const char *)node->text.data : "");
    if (!is_scalar(node) || node->text.size >= sizeof text ||
        !kvctl_parse_number(text, min, INT64_MAX, ret)) {
        return kvctl_node_wrong(
            reader->file, node, reader->error, "%s wants a whole number, not \"%s\"", what, text);
    }
    return 0;
}

static int read_score(struct reader *reader, const struct kvctl_node *node, double *ret_score)
{
    char text[64];

    snprintf(text,
             sizeof text,
             "%.*s",
             node->text.size < 63 ? (int)node->text.size : 63,
             node->text.size ? (const char *)node->text.data : "");
    if (!is_scalar(node) || node->text.size >= sizeof text || !kvctl_parse_score(text, ret_score)) {
        return kvctl_node_wrong(reader->file,
                                node,
                                reader->error,
                                "a score is a number, inf or -inf, not \"%s\"",
                                text);
    }
    return 0;
}

/* ---------------------------------------------------------------- typed values */

static const struct {
    const char *name;
    enum kv_type type;
    enum kvctl_node_kind kind;
} types[] = {
    {"$string", KV_TYPE_STRING, KVCTL_SCALAR},
    {"$base64", KV_TYPE_STRING, KVCTL_SCALAR},
    {"$counter", KV_TYPE_COUNTER, KVCTL_SCALAR},
    {"$hash", KV_TYPE_HASH, KVCTL_MAPPING},
    {"$list", KV_TYPE_LIST, KVCTL_SEQUENCE},
    {"$set", KV_TYPE_SET, KVCTL_SEQUENCE},
    {"$zset", KV_TYPE_ZSET, KVCTL_MAPPING},
};

/* A value, or {$string or $base64: value, $ttl_ms: N}. */
static int
read_field(struct reader *reader, const struct kvctl_node *node, struct kvctl_element *element)
{
    const struct kvctl_node *value = NULL;
    const struct kvctl_node *ttl = NULL;
    int status = 0;

    for (const struct kvctl_node *child = node->first; child; child = child->next) {
        if (is_named(child, "$ttl_ms") && !ttl) {
            ttl = child;
        } else if ((is_named(child, "$string") || is_named(child, "$base64")) && !value) {
            value = child;
        } else {
            value = NULL;
            break;
        }
    }
    if (node->kind != KVCTL_MAPPING || (!ttl && value && is_named(value, "$base64"))) {
        return read_bytes(reader, node, &element->value);
    }
    if (!value) {
        return kvctl_node_wrong(
            reader->file,
            node,
            reader->error,
            "a field is a text, or one of {$string: ...} and {$base64: ...} with "
            "$ttl_ms if you like");
    }
    if (ttl) {
        status = read_integer(reader, ttl, 1, "$ttl_ms", &element->ttl_ms);
    }
    if (status == 0 && is_named(value, "$base64") && is_scalar(value)) {
        return decode(reader, value, value->text, &element->value);
    }
    return status < 0 ? status : read_bytes(reader, value, &element->value);
}

static int
read_element(struct reader *reader, const struct kvctl_node *node, struct kvctl_entry *entry)
{
    struct kvctl_element *element = kvctl_entry_add(reader->document, entry);
    bool member = entry->type == KV_TYPE_LIST || entry->type == KV_TYPE_SET;
    int status;

    if (!element) {
        return no_memory(reader);
    }
    status =
        member ? read_bytes(reader, node, &element->name) : read_name(reader, node, &element->name);
    if (status == 0 && entry->type == KV_TYPE_HASH) {
        status = read_field(reader, node, element);
    } else if (status == 0 && entry->type == KV_TYPE_ZSET) {
        status = read_score(reader, node, &element->score);
    }
    if (status == 0 && entry->type != KV_TYPE_LIST &&
        (element->name.size == 0 || element->name.size > KV_KEY_BYTES_MAX)) {
        return kvctl_node_wrong(reader->file,
                                node,
                                reader->error,
                                "names of fields and members have 1 to %u bytes",
                                KV_KEY_BYTES_MAX);
    }
    return status;
}

static int
read_elements(struct reader *reader, const struct kvctl_node *node, struct kvctl_entry *entry)
{
    if (node->n_children == 0) {
        return kvctl_node_wrong(reader->file,
                                node,
                                reader->error,
                                "a %s without elements does not exist: leave the key out",
                                kv_type_name(entry->type));
    }
    for (const struct kvctl_node *child = node->first; child; child = child->next) {
        int status = read_element(reader, child, entry);

        if (status < 0) {
            return status;
        }
    }
    return 0;
}

/* The member of a typed value that says which type it has. */
static int
read_content(struct reader *reader, const struct kvctl_node *node, struct kvctl_entry *entry)
{
    size_t i = 0;

    while (i < sizeof types / sizeof types[0] && !is_named(node, types[i].name)) {
        i++;
    }
    if (i == sizeof types / sizeof types[0] || entry->type != KV_TYPE_NONE) {
        return kvctl_node_wrong(reader->file,
                                node,
                                reader->error,
                                "\"%.*s\": one of $string, $counter, $hash, $list, $set, $zset and "
                                "$base64 is wanted, with $ttl_ms if you like",
                                node->name.size > 40 ? 40 : (int)node->name.size,
                                (const char *)node->name.data);
    }
    if (node->kind != types[i].kind &&
        (types[i].kind != KVCTL_SCALAR || !(is_scalar(node) || i == 0))) {
        return kvctl_node_wrong(reader->file,
                                node,
                                reader->error,
                                "%s wants %s",
                                types[i].name,
                                types[i].kind == KVCTL_MAPPING    ? "a mapping"
                                : types[i].kind == KVCTL_SEQUENCE ? "a sequence"
                                                                  : "one value");
    }
    entry->type = types[i].type;
    switch (entry->type) {
    case KV_TYPE_STRING:
        return i == 0 ? read_bytes(reader, node, &entry->value)
                      : decode(reader, node, node->text, &entry->value);
    case KV_TYPE_COUNTER:
        return read_integer(reader, node, INT64_MIN, "$counter", &entry->counter);
    default:
        return read_elements(reader, node, entry);
    }
}

static int
read_typed(struct reader *reader, const struct kvctl_node *node, struct kvctl_entry *entry)
{
    int status = 0;

    for (const struct kvctl_node *child = node->first; child && status == 0; child = child->next) {
        if (is_named(child, "$ttl_ms")) {
            status = read_integer(reader, child, 1, "$ttl_ms", &entry->ttl_ms);
        } else if (is_named(child, "$lease")) {
            status = read_integer(reader, child, 1, "$lease", &entry->lease_id);
        } else {
            status = read_content(reader, child, entry);
        }
    }
    if (status == 0 && entry->type == KV_TYPE_NONE) {
        return kvctl_node_wrong(reader->file, node, reader->error, "this has no value");
    }
    return status;
}

/* ---------------------------------------------------------------- keys */

/* prefix/name, in the arena; the prefix's own slash is enough. */
static int join(struct reader *reader,
                const struct kvctl_node *node,
                struct kv_bytes prefix,
                struct kv_bytes name,
                struct kv_bytes *ret_key)
{
    const char *start = prefix.data;
    bool slash = prefix.size > 0 && start[prefix.size - 1] != '/';
    size_t size = prefix.size + slash + name.size;
    char *key;

    if (size == 0 || size > KV_KEY_BYTES_MAX) {
        return kvctl_node_wrong(
            reader->file, node, reader->error, "a key has 1 to %u bytes", KV_KEY_BYTES_MAX);
    }
    key = kv_arena_alloc(reader->document->arena, size);
    if (!key) {
        return no_memory(reader);
    }
    if (prefix.size > 0) {
        memcpy(key, prefix.data, prefix.size);
    }
    if (slash) {
        key[prefix.size] = '/';
    }
    if (name.size > 0) {
        memcpy(key + prefix.size + slash, name.data, name.size);
    }
    *ret_key = kv_bytes_of(key, size);
    return 0;
}

static bool is_typed(const struct kvctl_node *node)
{
    return node->first && node->first->name.size > 0 &&
           ((const char *)node->first->name.data)[0] == '$' &&
           !kvctl_has_prefix(node->first->name, kv_bytes_of(BASE64_MARK, strlen(BASE64_MARK)));
}

static int read_entry(struct reader *reader, const struct kvctl_node *node, struct kv_bytes key)
{
    struct kvctl_entry *entry = kvctl_document_add(reader->document);

    if (!entry) {
        return no_memory(reader);
    }
    entry->key = key;
    entry->line = node->line;
    if (node->kind == KVCTL_MAPPING) {
        return read_typed(reader, node, entry);
    }
    if (node->kind == KVCTL_SEQUENCE) {
        return kvctl_node_wrong(
            reader->file, node, reader->error, "which type? {$list: [...]} or {$set: [...]}");
    }
    entry->type = KV_TYPE_STRING;
    return read_bytes(reader, node, &entry->value);
}

/* One member of a mapping of keys: a value, or a mapping whose turn comes later. */
static int read_member(struct reader *reader, struct kvctl_node *node)
{
    struct kv_bytes key;
    struct kv_bytes name;
    int status = read_name(reader, node, &name);

    if (status == 0) {
        status = join(reader, node, node->parent->text, name, &key);
    }
    if (status < 0) {
        return status;
    }
    if (node->kind != KVCTL_MAPPING || is_typed(node)) {
        return read_entry(reader, node, key);
    }
    if (!node->first) {
        return kvctl_node_wrong(reader->file, node, reader->error, "this has no value");
    }
    node->text = key; /* what its members' keys begin with */
    reader->tail->queue = node;
    reader->tail = node;
    return 0;
}

int kvctl_document_parse(struct kvctl_document *document,
                         const char *file,
                         struct kv_bytes text,
                         struct kv_error *ret_error)
{
    struct reader reader = {.document = document, .file = file, .error = ret_error};
    const char *start = text.data;
    size_t blank = 0;
    struct kvctl_node *root = NULL;
    struct kv_error error;
    int status;

    while (blank < text.size && start[blank] && strchr(" \t\r\n", start[blank])) {
        blank++;
    }
    status = (blank < text.size && start[blank] == '{' ? kvctl_read_json : kvctl_read_yaml)(
        document->arena, file, text, &root, ret_error);
    if (status < 0 || !root || (root->kind == KVCTL_NULL && root->text.size == 0)) {
        return status;
    }
    if (root->kind != KVCTL_MAPPING || is_typed(root)) {
        return kvctl_node_wrong(
            file, root, ret_error, "a mapping of keys to values is wanted (KEY: VALUE)");
    }
    root->queue = NULL;
    root->text = kv_bytes_of(NULL, 0);
    reader.tail = root;
    for (struct kvctl_node *node = root; node && status == 0; node = node->queue) {
        for (struct kvctl_node *child = node->first; child && status == 0; child = child->next) {
            child->queue = NULL;
            status = read_member(&reader, child);
        }
    }
    if (status == 0) {
        status = kvctl_document_sort(document, &error);
        if (status < 0) {
            return kv_error_set(ret_error, KV_INVALID, "%.120s: %s", file, error.message);
        }
    }
    return status;
}
