/* Which term each index of the log has, as runs: terms change rarely, entries are many. The core
 * keeps the same in its trail but does not offer it. Not thread safe. */
#ifndef KV_RAFT_TERMS_H
#define KV_RAFT_TERMS_H

#include "common/status.h"

#include <stddef.h>
#include <stdint.h>

struct kv_term_run {
    uint64_t first_index;
    uint64_t term;
};

struct kv_terms {
    struct kv_term_run *runs;
    size_t n_runs;
    size_t capacity;
    uint64_t last_index;
};

/* Before the log's first entry; base_term 0: not known, or base_index is 0. */
int kv_terms_init(struct kv_terms *terms, uint64_t base_index, uint64_t base_term) KV_MUST_CHECK;
void kv_terms_deinit(struct kv_terms *terms);
/* index must be last_index + 1. */
int kv_terms_append(struct kv_terms *terms, uint64_t index, uint64_t term) KV_MUST_CHECK;
/* Forgets index and everything behind it. */
void kv_terms_truncate(struct kv_terms *terms, uint64_t index);
/* What lies before index may be forgotten; its own term stays known. */
void kv_terms_release(struct kv_terms *terms, uint64_t index);
/* 0: not known. */
uint64_t kv_terms_of(const struct kv_terms *terms, uint64_t index);
/* First index of the run that index is in; 0: not known. */
uint64_t kv_terms_run_first(const struct kv_terms *terms, uint64_t index);

#endif
