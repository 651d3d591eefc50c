/* What kvctl reads from files: a document (import, edit, a cache) gives an error with a text, or
 * keys that are the same after they were written and read again, in both notations; a template
 * gives an error with a text, or what it renders from those keys.
 *
 * Input: the document, a zero byte, the template. */
#include "client/kvctl/diff.h"
#include "client/kvctl/template.h"
#include "common/assert.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES_MAX ((size_t)64 * 1024 * 1024)
#define OUT_BYTES_MAX (1024 * 1024)

struct input {
    struct kvctl_template_loader loader; /* first: they get it */
    struct kvctl_template_keys keys;
    struct kv_bytes template;
    struct kvctl_document document;
    struct kv_arena arena;
};
static struct input input;

/* Every include is the template itself, which is a cycle. */
static int load(struct kvctl_template_loader *loader,
                const struct kvctl_template_source *from,
                const char *name,
                struct kvctl_template_source *ret_source,
                struct kv_error *ret_error)
{
    (void)loader;
    (void)from;
    (void)name;
    (void)ret_error;
    *ret_source = (struct kvctl_template_source){"template", input.template, {1, 1}};
    return 0;
}

static int get(struct kvctl_template_keys *keys,
               struct kv_bytes key,
               const struct kvctl_entry **ret_entry,
               struct kv_error *ret_error)
{
    (void)keys;
    (void)ret_error;
    *ret_entry = kvctl_document_find(&input.document, key);
    return 0;
}

/* Those of the empty prefix. */
static int list(struct kvctl_template_keys *keys,
                struct kv_bytes prefix,
                const struct kvctl_document **ret_document,
                struct kv_error *ret_error)
{
    static const struct kvctl_document none;

    (void)keys;
    (void)ret_error;
    *ret_document = prefix.size == 0 ? &input.document : &none;
    return 0;
}

static void check_round_trip(enum kvctl_notation notation)
{
    struct kvctl_document read = {.arena = &input.arena};
    struct kvctl_diff diff;
    struct kv_error error;
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    int status;

    KV_ASSERT(file);
    status = kvctl_document_write(&input.document, notation, file, &error);
    fclose(file);
    if (status == 0) {
        status = kvctl_document_parse(&read, "again", kv_bytes_of(text, size), &error);
        KV_ASSERT(status == 0 || status == KV_NO_MEMORY);
    }
    if (status == 0) {
        status = kvctl_diff_make(&input.arena, &input.document, &read, true, &diff, &error);
        KV_ASSERT(status == KV_NO_MEMORY || diff.n_changes == 0);
    }
    free(text);
}

static void check_template(void)
{
    struct kvctl_template *template;
    struct kv_error error = {0};
    struct kv_buf out;
    int status = kvctl_template_compile(&input.arena, &input.loader, "template", &template, &error);

    kv_buf_init(&out, OUT_BYTES_MAX);
    if (status == 0) {
        status = kvctl_template_render(template, &input.keys, &input.arena, &out, &error);
    }
    KV_ASSERT(status == 0 || error.message[0] != '\0');
    kv_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t document_size = end ? (size_t)(end - data) : size;
    struct kv_error error = {0};

    input = (struct input){.loader = {load, &input.arena}, .keys = {get, list}};
    kv_arena_init(&input.arena, ARENA_BYTES_MAX);
    input.document.arena = &input.arena;
    if (kvctl_document_parse(&input.document, "f", kv_bytes_of(data, document_size), &error) == 0) {
        check_round_trip(KVCTL_YAML);
        check_round_trip(KVCTL_JSON_TEXT);
    } else {
        KV_ASSERT(error.message[0] != '\0');
        input.document.n_entries = 0;
    }
    if (end) {
        input.template = kv_bytes_of(end + 1, size - document_size - 1);
        check_template();
    }
    kv_arena_deinit(&input.arena);
    return 0;
}
