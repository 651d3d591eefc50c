/* Typed keys in memory: order, look-up, equality. */
#include "client/kvctl/document.h"
#include "common/bytes.h"

#include <stdlib.h>
#include <string.h>

enum { CAPACITY_MIN = 16 };

/* Twice the room, in the arena; the old one stays there unused. */
static void *grow(struct kv_arena *arena, const void *old, size_t n, size_t size, size_t *capacity)
{
    size_t more = *capacity ? 2 * *capacity : CAPACITY_MIN;
    void *memory = kv_arena_alloc(arena, more * size);

    if (!memory) {
        return NULL;
    }
    if (n > 0) {
        memcpy(memory, old, n * size);
    }
    *capacity = more;
    return memory;
}

struct kvctl_entry *kvctl_document_add(struct kvctl_document *document)
{
    struct kvctl_entry *entry;

    if (document->n_entries == document->capacity) {
        void *entries = grow(document->arena,
                             document->entries,
                             document->n_entries,
                             sizeof *entry,
                             &document->capacity);

        if (!entries) {
            return NULL;
        }
        document->entries = entries;
    }
    entry = &document->entries[document->n_entries++];
    *entry = (struct kvctl_entry){0};
    return entry;
}

struct kvctl_element *kvctl_entry_add(struct kvctl_document *document, struct kvctl_entry *entry)
{
    struct kvctl_element *element;

    if (entry->n_elements == entry->capacity) {
        void *elements = grow(
            document->arena, entry->elements, entry->n_elements, sizeof *element, &entry->capacity);

        if (!elements) {
            return NULL;
        }
        entry->elements = elements;
    }
    element = &entry->elements[entry->n_elements++];
    *element = (struct kvctl_element){0};
    return element;
}

int kvctl_bytes_compare(struct kv_bytes a, struct kv_bytes b)
{
    return kv_slice_compare(kv_slice_of(a.data, a.size), kv_slice_of(b.data, b.size));
}

bool kvctl_bytes_equal(struct kv_bytes a, struct kv_bytes b)
{
    return a.size == b.size && kvctl_bytes_compare(a, b) == 0;
}

bool kvctl_has_prefix(struct kv_bytes key, struct kv_bytes prefix)
{
    return key.size >= prefix.size && kvctl_bytes_equal(kv_bytes_of(key.data, prefix.size), prefix);
}

static int compare_entries(const void *a, const void *b)
{
    return kvctl_bytes_compare(((const struct kvctl_entry *)a)->key,
                               ((const struct kvctl_entry *)b)->key);
}

static int compare_elements(const void *a, const void *b)
{
    return kvctl_bytes_compare(((const struct kvctl_element *)a)->name,
                               ((const struct kvctl_element *)b)->name);
}

/* What it is and, shortened, its name, for an error. */
static int twice(struct kv_error *ret_error, const struct kvctl_entry *entry, struct kv_bytes name)
{
    char line[32] = "";

    if (entry->line) {
        snprintf(line, sizeof line, "line %zu: ", entry->line);
    }
    return kv_error_set(ret_error,
                        KV_EXISTS,
                        "%s\"%.*s\" is there twice in \"%.*s\"",
                        line,
                        name.size > 100 ? 100 : (int)name.size,
                        (const char *)name.data,
                        entry->key.size > 100 ? 100 : (int)entry->key.size,
                        (const char *)entry->key.data);
}

static int sort_elements(struct kvctl_entry *entry, struct kv_error *ret_error)
{
    if (entry->type == KV_TYPE_LIST || entry->n_elements == 0) {
        return 0;
    }
    qsort(entry->elements, entry->n_elements, sizeof entry->elements[0], compare_elements);
    for (size_t i = 1; i < entry->n_elements; i++) {
        if (compare_elements(&entry->elements[i - 1], &entry->elements[i]) == 0) {
            return twice(ret_error, entry, entry->elements[i].name);
        }
    }
    return 0;
}

int kvctl_document_sort(struct kvctl_document *document, struct kv_error *ret_error)
{
    int status = 0;

    if (document->n_entries == 0) {
        return 0;
    }
    qsort(document->entries, document->n_entries, sizeof document->entries[0], compare_entries);
    for (size_t i = 0; i < document->n_entries && status == 0; i++) {
        struct kvctl_entry *entry = &document->entries[i];

        if (i > 0 && compare_entries(entry - 1, entry) == 0) {
            return kv_error_set(ret_error,
                                KV_EXISTS,
                                "the key \"%.*s\" is there twice, on lines %zu and %zu",
                                entry->key.size > 200 ? 200 : (int)entry->key.size,
                                (const char *)entry->key.data,
                                entry[-1].line < entry->line ? entry[-1].line : entry->line,
                                entry[-1].line < entry->line ? entry->line : entry[-1].line);
        }
        status = sort_elements(entry, ret_error);
    }
    return status;
}

const struct kvctl_entry *kvctl_document_find(const struct kvctl_document *document,
                                              struct kv_bytes key)
{
    struct kvctl_entry wanted = {.key = key};

    if (document->n_entries == 0) {
        return NULL;
    }
    return bsearch(&wanted,
                   document->entries,
                   document->n_entries,
                   sizeof document->entries[0],
                   compare_entries);
}

bool kvctl_entry_equal(const struct kvctl_entry *a, const struct kvctl_entry *b)
{
    if (a->type != b->type || a->counter != b->counter || a->n_elements != b->n_elements ||
        !kvctl_bytes_equal(a->value, b->value)) {
        return false;
    }
    for (size_t i = 0; i < a->n_elements; i++) {
        const struct kvctl_element *x = &a->elements[i];
        const struct kvctl_element *y = &b->elements[i];

        if (!kvctl_bytes_equal(x->name, y->name) || !kvctl_bytes_equal(x->value, y->value) ||
            x->score != y->score) {
            return false;
        }
    }
    return true;
}
