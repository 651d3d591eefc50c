#include "raft/terms.h"

#include "common/assert.h"

#include <stdlib.h>
#include <string.h>

static int grow(struct kv_terms *terms)
{
    size_t capacity = terms->capacity ? terms->capacity * 2 : 16;
    struct kv_term_run *runs = realloc(terms->runs, capacity * sizeof *runs);

    if (!runs) {
        return KV_NO_MEMORY;
    }
    terms->runs = runs;
    terms->capacity = capacity;
    return 0;
}

int kv_terms_init(struct kv_terms *terms, uint64_t base_index, uint64_t base_term)
{
    *terms = (struct kv_terms){.last_index = base_index};
    if (base_term == 0) {
        return 0;
    }
    if (grow(terms) != 0) {
        return KV_NO_MEMORY;
    }
    terms->runs[terms->n_runs++] = (struct kv_term_run){base_index, base_term};
    return 0;
}

void kv_terms_deinit(struct kv_terms *terms)
{
    free(terms->runs);
    *terms = (struct kv_terms){0};
}

int kv_terms_append(struct kv_terms *terms, uint64_t index, uint64_t term)
{
    KV_ASSERT(index == terms->last_index + 1);
    KV_ASSERT(term > 0);
    if (terms->n_runs == 0 || terms->runs[terms->n_runs - 1].term != term) {
        if (terms->n_runs == terms->capacity && grow(terms) != 0) {
            return KV_NO_MEMORY;
        }
        terms->runs[terms->n_runs++] = (struct kv_term_run){index, term};
    }
    terms->last_index = index;
    return 0;
}

void kv_terms_truncate(struct kv_terms *terms, uint64_t index)
{
    if (index > terms->last_index) {
        return;
    }
    while (terms->n_runs > 0 && terms->runs[terms->n_runs - 1].first_index >= index) {
        terms->n_runs--;
    }
    terms->last_index = index - 1;
}

void kv_terms_release(struct kv_terms *terms, uint64_t index)
{
    size_t n = 0;

    while (n + 1 < terms->n_runs && terms->runs[n + 1].first_index <= index) {
        n++;
    }
    terms->n_runs -= n;
    memmove(terms->runs, terms->runs + n, terms->n_runs * sizeof terms->runs[0]);
}

/* The run that index is in, or NULL. */
static const struct kv_term_run *find_run(const struct kv_terms *terms, uint64_t index)
{
    size_t low = 0;
    size_t high = terms->n_runs;

    if (index > terms->last_index) {
        return NULL;
    }
    while (low < high) {
        size_t middle = (low + high) / 2;

        if (terms->runs[middle].first_index <= index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 ? &terms->runs[low - 1] : NULL;
}

uint64_t kv_terms_of(const struct kv_terms *terms, uint64_t index)
{
    const struct kv_term_run *run = find_run(terms, index);

    return run ? run->term : 0;
}

uint64_t kv_terms_run_first(const struct kv_terms *terms, uint64_t index)
{
    const struct kv_term_run *run = find_run(terms, index);

    return run ? run->first_index : 0;
}
