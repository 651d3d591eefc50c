/* Inside kvctl: the templates of `kvctl render`. Text with {{ actions }}:
 *
 *   {{ key "app/host" }}                  a string's text, a counter's number; an error without
 * such a key
 *   {{ key "app/host" | default "x" }}    instead of the error
 *   {{ hash "user:1" "name" }}            a field of a hash
 *   {{ range prefix "app/" }} ... {{ else }} ... {{ end }}   for each key: .key .name (without the
 * prefix) .value
 *   {{ if exists "app/tls" }} ... {{ else }} ... {{ end }}   `if not exists` too
 *   {{ include "other.tmpl" }}            beside the template that names it
 *   {{ "text" }}  {{ .key }}  {{ .name }}  {{ .value }}      and {{ # a comment }}
 *
 * Behind key, prefix and exists several texts make one key. Filters are default "x", json (a quoted
 * JSON string), shell (one word of sh), base64. {{- and -}} take white space off before and behind.
 *
 * A template is compiled to steps with jumps, so that neither reading nor running it calls itself.
 * Pure: files and keys come by functions. Memory is the arena's. */
#ifndef KV_KVCTL_TEMPLATE_H
#define KV_KVCTL_TEMPLATE_H

#include "client/kvctl/document.h"
#include "common/bytes.h"

enum {
    KVCTL_TEMPLATE_STEPS_MAX = 100000, /* a template is written by hand */
    KVCTL_TEMPLATE_BLOCKS_MAX = 32,    /* range and if within each other */
    KVCTL_TEMPLATE_INCLUDES_MAX = 8,   /* within each other */
    KVCTL_TEMPLATE_SOURCES_MAX = 256,  /* in all: each include reads its file anew */
    KVCTL_TEMPLATE_PARTS_MAX = 8,      /* texts that make one key */
    KVCTL_TEMPLATE_FILTERS_MAX = 4,    /* of one value */
    KVCTL_TEMPLATE_RUN_MAX = 10000000, /* steps that one rendering takes: nested ranges multiply */
};
#define KVCTL_TEMPLATE_BYTES_MAX (1024 * 1024) /* of one file */
#define KVCTL_RENDERED_BYTES_MAX (64 * 1024 * 1024)

/* A template's text. */
struct kvctl_template_source {
    const char *name; /* for messages, and what an include is relative to */
    struct kv_bytes text;
    uint64_t identity[2]; /* two with the same one are the same file */
};
struct kvctl_template_loader {
    /* Reads `name` as it stands in `from` (NULL: the outermost). The source is in the arena. */
    int (*load)(struct kvctl_template_loader *loader,
                const struct kvctl_template_source *from,
                const char *name,
                struct kvctl_template_source *ret_source,
                struct kv_error *ret_error);
    struct kv_arena *arena;
};

struct kvctl_template; /* compiled */
/* KV_INVALID with template, line and what; what the loader says. */
int kvctl_template_compile(struct kv_arena *arena,
                           struct kvctl_template_loader *loader,
                           const char *name,
                           struct kvctl_template **ret_template,
                           struct kv_error *ret_error) KV_MUST_CHECK;

/* Where keys come from: all of one revision. Entries live as long as the arena of the rendering. */
struct kvctl_template_keys {
    /* *ret_entry NULL: no such key. Collections come with their content. */
    int (*get)(struct kvctl_template_keys *keys,
               struct kv_bytes key,
               const struct kvctl_entry **ret_entry,
               struct kv_error *ret_error);
    int (*list)(struct kvctl_template_keys *keys,
                struct kv_bytes prefix,
                const struct kvctl_document **ret_document,
                struct kv_error *ret_error);
};
/* Appends to out. KV_NOT_FOUND: an unknown key, with template, line and key; KV_WRONG_TYPE,
 * KV_TOO_LARGE. */
int kvctl_template_render(const struct kvctl_template *template,
                          struct kvctl_template_keys *keys,
                          struct kv_arena *arena,
                          struct kv_buf *out,
                          struct kv_error *ret_error) KV_MUST_CHECK;

/* Inside template*.c. */
enum kvctl_step_kind {
    KVCTL_STEP_TEXT,
    KVCTL_STEP_PRINT, /* a value through filters */
    KVCTL_STEP_RANGE, /* begins; empty: to jump */
    KVCTL_STEP_NEXT,  /* the next key: to jump; none: goes on */
    KVCTL_STEP_IF,    /* false: to jump */
    KVCTL_STEP_JUMP,
};
enum kvctl_part_kind { KVCTL_PART_TEXT, KVCTL_PART_KEY, KVCTL_PART_NAME, KVCTL_PART_VALUE };
struct kvctl_part {
    enum kvctl_part_kind kind;
    struct kv_bytes text;
};
enum kvctl_value_kind { KVCTL_VALUE_PART, KVCTL_VALUE_KEY, KVCTL_VALUE_FIELD };
enum kvctl_filter_kind { KVCTL_FILTER_JSON, KVCTL_FILTER_SHELL, KVCTL_FILTER_BASE64 };
struct kvctl_step {
    enum kvctl_step_kind kind;
    enum kvctl_value_kind value;
    const char *file;
    unsigned line;
    size_t jump;
    struct kv_bytes text; /* of TEXT; of PRINT: the default */
    bool has_default;
    bool negated; /* if not */
    struct kvctl_part
        parts[KVCTL_TEMPLATE_PARTS_MAX]; /* of the key; of a field, the last is its name */
    size_t n_parts;
    enum kvctl_filter_kind filters[KVCTL_TEMPLATE_FILTERS_MAX];
    size_t n_filters;
};
struct kvctl_template {
    struct kvctl_step *steps;
    size_t n_steps;
    size_t capacity;
};

#endif
