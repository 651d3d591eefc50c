/* Inside kvctl: typed keys outside of a cluster: a document, as export writes and import reads it.
 *
 * In a file a document is a mapping of keys to values. A text is a string. A mapping whose names
 * begin with "$" is a typed value: {"$counter": 5}, {"$hash": {NAME: VALUE}}, {"$list": [...]},
 * {"$set": [...]}, {"$zset": {MEMBER: SCORE}}, {"$base64": "..."} for bytes that are no text,
 * {"$string": ...}, the last one so that "$ttl_ms" and "$lease" can stand beside it. A field of a
 * hash is a text, {"$base64": ...}, or either with "$ttl_ms" beside it. Any other mapping holds
 * keys that begin with its own name and a slash. A name that is no text, or begins with "$", is
 * "$base64:...". YAML may say !counter 5 for {$counter: 5}, and likewise for the other types.
 *
 * Everything is in the arena that is passed in; keys and values may be borrowed. */
#ifndef KV_KVCTL_DOCUMENT_H
#define KV_KVCTL_DOCUMENT_H

#include "client/kvctl/kvctl.h"

/* A file is read as a whole, and a document is held three times (file, tree, request) at most. */
#define KVCTL_FILE_BYTES_MAX (64 * 1024 * 1024)
#define KVCTL_DOCUMENT_BYTES_MAX (512 * 1024 * 1024)
enum {
    KVCTL_DEPTH_MAX = 32, /* of mappings in a file: deeper is a mistake, or meant to do harm */
};

/* An element of a list (name), a member of a set (name) or of a sorted set (name, score), or a
 * field of a hash (name, value). */
struct kvctl_element {
    struct kv_bytes name;
    struct kv_bytes value;
    double score;
    int64_t ttl_ms; /* of a field, that remains; 0: none */
};

struct kvctl_entry {
    struct kv_bytes key;
    enum kv_type type;
    struct kv_bytes value; /* of a string */
    int64_t counter;
    struct kvctl_element *elements; /* of hash, set and zset in the order of their names */
    size_t n_elements;
    size_t capacity;
    int64_t mod_revision; /* in the cluster; 0: read from a file */
    int64_t ttl_ms;       /* that remains; 0: none */
    int64_t lease_id;
    size_t line; /* of the file; 0: not known */
};

/* Zeroed but for the arena: empty. */
struct kvctl_document {
    struct kv_arena *arena;
    struct kvctl_entry *entries; /* in order of keys after kvctl_document_sort */
    size_t n_entries;
    size_t capacity;
    int64_t revision; /* of the cluster, that it was read at; 0: from a file */
};

enum kvctl_notation { KVCTL_YAML, KVCTL_JSON_TEXT };

/* --- document.c --- */
/* A zeroed entry at the end, valid until the next one; NULL: no memory. */
struct kvctl_entry *kvctl_document_add(struct kvctl_document *document);
/* Likewise an element. */
struct kvctl_element *kvctl_entry_add(struct kvctl_document *document, struct kvctl_entry *entry);
/* Orders entries and elements. KV_EXISTS: a key or element is there twice; the message has no file.
 */
int kvctl_document_sort(struct kvctl_document *document, struct kv_error *ret_error) KV_MUST_CHECK;
/* In a sorted document; NULL. */
const struct kvctl_entry *kvctl_document_find(const struct kvctl_document *document,
                                              struct kv_bytes key);
int kvctl_bytes_compare(struct kv_bytes a, struct kv_bytes b);
bool kvctl_bytes_equal(struct kv_bytes a, struct kv_bytes b);
bool kvctl_has_prefix(struct kv_bytes key, struct kv_bytes prefix);
/* The same type and content; revisions and expiry, of fields too, do not count. */
bool kvctl_entry_equal(const struct kvctl_entry *a, const struct kvctl_entry *b);

/* --- document_tree.c, document_yaml.c, document_json.c: text to a tree to a document --- */
enum kvctl_node_kind {
    KVCTL_SCALAR,
    KVCTL_NUMBER_SCALAR,
    KVCTL_NULL,
    KVCTL_MAPPING,
    KVCTL_SEQUENCE
};
struct kvctl_node {
    enum kvctl_node_kind kind;
    struct kv_bytes name; /* in a mapping */
    struct kv_bytes text; /* of a scalar */
    size_t line;          /* 0: not known */
    size_t depth;
    size_t n_children;
    struct kvctl_node *first;
    struct kvctl_node **last;
    struct kvctl_node *next;
    struct kvctl_node *parent;
    struct kvctl_node *queue; /* of who walks over the tree */
    void *source;             /* of who makes it */
};
/* A node below parent, or without one; KV_TOO_LARGE (depth), KV_NO_MEMORY. */
int kvctl_node_add(struct kv_arena *arena,
                   struct kvctl_node *parent,
                   enum kvctl_node_kind kind,
                   struct kvctl_node **ret_node,
                   struct kv_error *ret_error) KV_MUST_CHECK;
/* What is wrong with a node: the file, the line or the way to it, what. */
int kvctl_node_wrong(const char *file,
                     const struct kvctl_node *node,
                     struct kv_error *ret_error,
                     const char *format,
                     ...) KV_PRINTF(4, 5);
/* NULL: an empty file. KV_INVALID with file, line and what. */
int kvctl_read_yaml(struct kv_arena *arena,
                    const char *file,
                    struct kv_bytes text,
                    struct kvctl_node **ret_node,
                    struct kv_error *ret_error) KV_MUST_CHECK;
int kvctl_read_json(struct kv_arena *arena,
                    const char *file,
                    struct kv_bytes text,
                    struct kvctl_node **ret_node,
                    struct kv_error *ret_error) KV_MUST_CHECK;
/* Text that begins with { is JSON, all other YAML. Sorted. */
int kvctl_document_parse(struct kvctl_document *document,
                         const char *file,
                         struct kv_bytes text,
                         struct kv_error *ret_error) KV_MUST_CHECK;

/* --- document_write.c --- */
/* Failures to write show at the file's end (ferror). */
int kvctl_document_write(const struct kvctl_document *document,
                         enum kvctl_notation notation,
                         FILE *file,
                         struct kv_error *ret_error) KV_MUST_CHECK;
/* The value of one entry as JSON, on one line. */
int kvctl_entry_write_json(const struct kvctl_entry *entry,
                           FILE *file,
                           struct kv_error *ret_error) KV_MUST_CHECK;

#endif
