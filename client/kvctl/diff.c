/* What is different between two documents. */
#include "client/kvctl/diff.h"

#include <inttypes.h>
#include <kv/keys.h>
#include <string.h>

enum { SHOWN_BYTES = 400 }; /* of one value: a diff is for eyes */

int kvctl_diff_make(struct kv_arena *arena,
                    const struct kvctl_document *from,
                    const struct kvctl_document *to,
                    bool delete_missing,
                    struct kvctl_diff *ret_diff,
                    struct kv_error *ret_error)
{
    struct kvctl_diff diff = {
        .changes =
            kv_arena_alloc(arena, (from->n_entries + to->n_entries + 1) * sizeof diff.changes[0])};
    size_t i = 0;
    size_t k = 0;

    if (!diff.changes) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory for the diff");
    }
    while (i < from->n_entries || k < to->n_entries) {
        const struct kvctl_entry *a = i < from->n_entries ? &from->entries[i] : NULL;
        const struct kvctl_entry *b = k < to->n_entries ? &to->entries[k] : NULL;
        int order = !a ? 1 : !b ? -1 : kvctl_bytes_compare(a->key, b->key);
        struct kvctl_change change = {KVCTL_CHANGE, a, b};

        i += order <= 0;
        k += order >= 0;
        if (order < 0) {
            change = (struct kvctl_change){KVCTL_REMOVE, a, NULL};
        } else if (order > 0) {
            change = (struct kvctl_change){KVCTL_CREATE, NULL, b};
        }
        if ((order < 0 && !delete_missing) || (order == 0 && kvctl_entry_equal(a, b))) {
            continue;
        }
        diff.changes[diff.n_changes++] = change;
        diff.n[change.kind]++;
    }
    *ret_diff = diff;
    return 0;
}

/* ---------------------------------------------------------------- printing */

static void print_bytes(FILE *file, struct kv_bytes bytes)
{
    size_t shown = bytes.size > SHOWN_BYTES ? SHOWN_BYTES : bytes.size;

    kvctl_print_text(file, kv_bytes_of(bytes.data, shown));
    if (shown < bytes.size) {
        fprintf(file, "... (%zu bytes)", bytes.size);
    }
}

static void print_value(FILE *file, const struct kvctl_entry *entry)
{
    switch (entry->type) {
    case KV_TYPE_STRING:
        print_bytes(file, entry->value);
        break;
    case KV_TYPE_COUNTER:
        fprintf(file, "(counter) %" PRId64, entry->counter);
        break;
    case KV_TYPE_LIMITER:
        fputs("(limiter)", file);
        break;
    default:
        fprintf(file, "(%s of %zu)", kv_type_name(entry->type), entry->n_elements);
    }
}

static void print_element(FILE *file,
                          char sign,
                          const struct kvctl_entry *entry,
                          const struct kvctl_element *element)
{
    fprintf(file, "  %c ", sign);
    print_bytes(file, element->name);
    if (entry->type == KV_TYPE_HASH) {
        fputs(": ", file);
        print_bytes(file, element->value);
    } else if (entry->type == KV_TYPE_ZSET) {
        fputs(": ", file);
        kvctl_print_score(file, element->score);
    }
    fputc('\n', file);
}

static bool same(const struct kvctl_element *a, const struct kvctl_element *b)
{
    return kvctl_bytes_equal(a->name, b->name) && kvctl_bytes_equal(a->value, b->value) &&
           a->score == b->score;
}

/* Without what both begin and end with. */
static void print_list(FILE *file, const struct kvctl_entry *from, const struct kvctl_entry *to)
{
    size_t shorter = from->n_elements < to->n_elements ? from->n_elements : to->n_elements;
    size_t head = 0;
    size_t tail = 0;

    while (head < shorter && same(&from->elements[head], &to->elements[head])) {
        head++;
    }
    while (tail < shorter - head && same(&from->elements[from->n_elements - 1 - tail],
                                         &to->elements[to->n_elements - 1 - tail])) {
        tail++;
    }
    for (size_t i = head; i < from->n_elements - tail; i++) {
        print_element(file, '-', from, &from->elements[i]);
    }
    for (size_t i = head; i < to->n_elements - tail; i++) {
        print_element(file, '+', to, &to->elements[i]);
    }
}

static void print_elements(FILE *file, const struct kvctl_entry *from, const struct kvctl_entry *to)
{
    size_t i = 0;
    size_t k = 0;

    while (i < from->n_elements || k < to->n_elements) {
        const struct kvctl_element *a = i < from->n_elements ? &from->elements[i] : NULL;
        const struct kvctl_element *b = k < to->n_elements ? &to->elements[k] : NULL;
        int order = !a ? 1 : !b ? -1 : kvctl_bytes_compare(a->name, b->name);
        bool equal = order == 0 && same(a, b);

        if (order <= 0 && !equal) {
            print_element(file, '-', from, a);
        }
        if (order >= 0 && !equal) {
            print_element(file, '+', to, b);
        }
        i += order <= 0;
        k += order >= 0;
    }
}

static void print_all(FILE *file, char sign, const struct kvctl_entry *entry)
{
    for (size_t i = 0; i < entry->n_elements; i++) {
        print_element(file, sign, entry, &entry->elements[i]);
    }
}

static void print_change(FILE *file, const struct kvctl_change *change)
{
    static const char signs[] = {[KVCTL_CREATE] = '+', [KVCTL_CHANGE] = '~', [KVCTL_REMOVE] = '-'};
    const struct kvctl_entry *entry = change->to ? change->to : change->from;

    fprintf(file, "%c ", signs[change->kind]);
    kvctl_print_escaped(file, entry->key);
    fputc(':', file);
    if (change->kind != KVCTL_CHANGE) {
        fputc(' ', file);
        print_value(file, entry);
        fputc('\n', file);
        print_all(file, signs[change->kind], entry);
    } else if (change->from->type != change->to->type || change->from->n_elements == 0) {
        fputs("\n  - ", file);
        print_value(file, change->from);
        fputs("\n  + ", file);
        print_value(file, change->to);
        fputc('\n', file);
    } else {
        fprintf(file, " (%s)\n", kv_type_name(entry->type));
        (entry->type == KV_TYPE_LIST ? print_list : print_elements)(file, change->from, change->to);
    }
}

void kvctl_diff_print(const struct kvctl_diff *diff, FILE *file)
{
    for (size_t i = 0; i < diff->n_changes; i++) {
        print_change(file, &diff->changes[i]);
    }
}

static int print_side(FILE *file,
                      const char *name,
                      const struct kvctl_entry *entry,
                      struct kv_error *ret_error)
{
    if (!entry) {
        return 0;
    }
    fprintf(file, ",\"%s\":", name);
    if (entry->type == KV_TYPE_LIMITER) {
        fputs("{\"$limiter\": null}", file);
        return 0;
    }
    return kvctl_entry_write_json(entry, file, ret_error);
}

int kvctl_diff_print_json(const struct kvctl_diff *diff, FILE *file, struct kv_error *ret_error)
{
    static const char *const names[] = {
        [KVCTL_CREATE] = "create", [KVCTL_CHANGE] = "change", [KVCTL_REMOVE] = "delete"};
    int status = 0;

    fputs("\"changes\":[", file);
    for (size_t i = 0; i < diff->n_changes && status == 0; i++) {
        const struct kvctl_change *change = &diff->changes[i];

        fputs(i ? ",{" : "{", file);
        kvctl_print_json_bytes(file, "key", (change->to ? change->to : change->from)->key);
        fprintf(file, ",\"change\":\"%s\"", names[change->kind]);
        status = print_side(file, "from", change->from, ret_error);
        if (status == 0) {
            status = print_side(file, "to", change->to, ret_error);
        }
        fputc('}', file);
    }
    fputc(']', file);
    return status;
}
