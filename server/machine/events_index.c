/* Which records of a large revision belong to which collection (events_internal.h): chains of
 * offsets by a hash of the collection's number, each ascending. */
#include "server/machine/events_internal.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* One at a time: who reads a large revision reads on in it. */
struct kv_elements_index {
    int64_t revision;
    uint64_t first; /* sequence of its first record */
    uint64_t n;
    uint32_t *next; /* of each record: one more than the offset of the next in its chain; 0: none */
    uint32_t *heads;
    size_t n_heads; /* a power of two */
};

void kv_elements_index_free(struct kv_elements_index *index)
{
    if (index) {
        free(index->next);
        free(index->heads);
        free(index);
    }
}

static uint32_t *head_of(const struct kv_elements_index *index, uint64_t id)
{
    return &index->heads[XXH3_64bits(&id, sizeof id) & (index->n_heads - 1)];
}

static uint64_t count_records(const struct kv_history *history, uint64_t first, int64_t revision)
{
    const uint64_t end = kv_history_end_sequence(history);
    uint64_t at = first;

    while (at < end && kv_history_at(history, at)->mod_revision == revision) {
        at++;
    }
    return at - first;
}

static struct kv_elements_index *
make(const struct kv_history *history, uint64_t first, int64_t revision)
{
    struct kv_elements_index *index = kv_machine_alloc(sizeof *index);

    *index = (struct kv_elements_index){.revision = revision, .first = first, .n_heads = 64};
    index->n = count_records(history, first, revision);
    while (index->n_heads < index->n / 4) {
        index->n_heads *= 2;
    }
    index->next = kv_machine_alloc((index->n + 1) * sizeof *index->next);
    index->heads = kv_machine_alloc(index->n_heads * sizeof *index->heads);
    memset(index->heads, 0, index->n_heads * sizeof *index->heads);
    for (uint64_t offset = index->n; offset > 0; offset--) {
        const struct kv_record *record = kv_history_at(history, first + offset - 1);
        uint32_t *head;

        index->next[offset - 1] = 0;
        if (record->is_element) {
            head = head_of(index, kv_get_u64_be(record->bytes));
            index->next[offset - 1] = *head;
            *head = (uint32_t)offset;
        }
    }
    return index;
}

const struct kv_elements_index *
kv_elements_index_of(struct kv_machine *machine, uint64_t first, int64_t revision)
{
    const struct kv_elements_index *index = machine->elements_index;

    if (!index || index->revision != revision || index->first != first) {
        kv_elements_index_free(machine->elements_index);
        machine->elements_index = make(&machine->history, first, revision);
    }
    return machine->elements_index;
}

uint64_t kv_elements_index_begin(const struct kv_elements_index *index, uint64_t id, uint64_t from)
{
    uint64_t offset = (uint64_t)*head_of(index, id) - 1;

    while (offset < from) {
        offset = kv_elements_index_next(index, offset);
    }
    return offset;
}

uint64_t kv_elements_index_next(const struct kv_elements_index *index, uint64_t offset)
{
    /* The last one's is the greatest number there is. */
    return (uint64_t)index->next[offset] - 1;
}
