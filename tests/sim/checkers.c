#include "tests/sim/checkers.h"

#include "common/assert.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

void checkers_init(struct checkers *checkers, unsigned n_nodes)
{
    KV_ASSERT(n_nodes >= 1 && n_nodes <= CHECKERS_NODES_MAX);
    *checkers = (struct checkers){.n_nodes = n_nodes};
}

void checkers_deinit(struct checkers *checkers)
{
    for (unsigned i = 1; i <= checkers->n_nodes; i++) {
        free(checkers->nodes[i].disk.terms);
    }
    free(checkers->entries);
    free(checkers->bytes);
    free(checkers->leaders);
}

void checkers_fail(struct checkers *checkers, const char *format, ...)
{
    va_list arguments;

    if (checkers->has_failed) {
        return;
    }
    checkers->has_failed = true;
    va_start(arguments, format);
    vsnprintf(checkers->message, sizeof checkers->message, format, arguments);
    va_end(arguments);
}

/* ---------------------------------------------------------------- memory */

static void *grow(void *memory, uint64_t *capacity, uint64_t wanted, size_t size)
{
    uint64_t former = *capacity;

    if (wanted <= former) {
        return memory;
    }
    while (*capacity < wanted) {
        *capacity = *capacity ? *capacity * 2 : 256;
    }
    memory = realloc(memory, *capacity * size);
    KV_ASSERT(memory);
    memset((uint8_t *)memory + former * size, 0, (*capacity - former) * size);
    return memory;
}

static struct checked_entry *entry_at(struct checkers *checkers, uint64_t index)
{
    KV_ASSERT(index > 0);
    checkers->entries =
        grow(checkers->entries, &checkers->capacity, index, sizeof *checkers->entries);
    if (checkers->n_entries < index) {
        checkers->n_entries = index;
    }
    return &checkers->entries[index - 1];
}

const struct checked_entry *checkers_entry(const struct checkers *checkers, uint64_t index)
{
    return index > 0 && index <= checkers->n_entries ? &checkers->entries[index - 1] : NULL;
}

struct kv_slice checkers_entry_bytes(const struct checkers *checkers, uint64_t index)
{
    const struct checked_entry *entry = checkers_entry(checkers, index);

    return entry ? kv_slice_of(checkers->bytes + entry->offset, entry->size) : (struct kv_slice){0};
}

static void keep_bytes(struct checkers *checkers, struct checked_entry *entry, struct kv_slice data)
{
    uint64_t capacity = checkers->bytes_capacity;

    checkers->bytes = grow(checkers->bytes, &capacity, checkers->n_bytes + data.size + 1, 1);
    checkers->bytes_capacity = capacity;
    entry->offset = checkers->n_bytes;
    entry->size = data.size;
    if (data.size > 0) {
        memcpy(checkers->bytes + checkers->n_bytes, data.data, data.size);
    }
    checkers->n_bytes += data.size;
}

/* ---------------------------------------------------------------- leaders, commits, applies */

void checkers_leads(struct checkers *checkers, unsigned node, uint64_t term)
{
    checkers->leaders = grow(checkers->leaders, &checkers->n_leaders, term + 1, 1);
    if (checkers->leaders[term] != 0 && checkers->leaders[term] != node) {
        checkers_fail(checkers,
                      "two leaders in term %" PRIu64 ": node %u and node %u",
                      term,
                      checkers->leaders[term],
                      node);
    }
    checkers->leaders[term] = (uint8_t)node;
}

void checkers_leader_log(struct checkers *checkers,
                         unsigned node,
                         uint64_t leader_term,
                         uint64_t (*term_of)(const void *arg, uint64_t index),
                         const void *arg)
{
    for (uint64_t index = 1; index <= checkers->n_entries; index++) {
        uint64_t term = checkers->entries[index - 1].commit_term;
        uint64_t found;

        if (term == 0 || checkers->entries[index - 1].known_in >= leader_term) {
            continue;
        }
        found = term_of(arg, index);
        if (found != term) {
            checkers_fail(checkers,
                          "node %u leads without the committed entry %" PRIu64 " of term %" PRIu64
                          " (its log has term %" PRIu64 " there)",
                          node,
                          index,
                          term,
                          found);
            return;
        }
    }
}

static void check_majority(struct checkers *checkers, unsigned node, uint64_t index, uint64_t term)
{
    unsigned n = 0;

    for (unsigned i = 1; i <= checkers->n_nodes; i++) {
        const struct checked_disk *disk = &checkers->nodes[i].disk;

        n += disk->last_index >= index && disk->terms[index - 1] == term;
    }
    if (n <= checkers->n_nodes / 2) {
        checkers_fail(checkers,
                      "node %u leads and commits entry %" PRIu64 " of term %" PRIu64
                      ", which %u of %u disks hold",
                      node,
                      index,
                      term,
                      n,
                      checkers->n_nodes);
    }
}

void checkers_commits(struct checkers *checkers, unsigned node, struct checked_commit commit)
{
    struct checked_entry *entry = entry_at(checkers, commit.index);

    if (entry->commit_term == 0) {
        entry->commit_term = commit.term;
        entry->known_in = commit.known_in;
    } else if (entry->commit_term != commit.term) {
        checkers_fail(checkers,
                      "entry %" PRIu64 " was committed with term %" PRIu64
                      "; node %u commits term %" PRIu64 " there",
                      commit.index,
                      entry->commit_term,
                      node,
                      commit.term);
    }
    if (commit.is_leader) {
        check_majority(checkers, node, commit.index, commit.term);
    }
}

void checkers_applies(struct checkers *checkers,
                      unsigned node,
                      uint64_t index,
                      uint64_t term,
                      unsigned type,
                      struct kv_slice data)
{
    struct checked_entry *entry = entry_at(checkers, index);
    uint64_t hash = XXH3_64bits_withSeed(data.data, data.size, term * 8 + type);

    if (index != checkers->nodes[node].applied + 1) {
        checkers_fail(checkers,
                      "node %u applies entry %" PRIu64 " after entry %" PRIu64,
                      node,
                      index,
                      checkers->nodes[node].applied);
    }
    checkers->nodes[node].applied = index;
    if (entry->term == 0) {
        entry->term = term;
        entry->type = (uint8_t)type;
        entry->hash = hash;
        keep_bytes(checkers, entry, data);
    } else if (entry->hash != hash) {
        checkers_fail(checkers,
                      "node %u applies another entry %" PRIu64 " (term %" PRIu64
                      ") than was applied"
                      " before (term %" PRIu64 ")",
                      node,
                      index,
                      term,
                      entry->term);
    }
    if (entry->commit_term != 0 && entry->commit_term != term) {
        checkers_fail(checkers,
                      "node %u applies entry %" PRIu64 " of term %" PRIu64
                      ", committed was that of term %" PRIu64,
                      node,
                      index,
                      term,
                      entry->commit_term);
    }
}

void checkers_state(
    struct checkers *checkers, unsigned node, uint64_t index, uint64_t state_hash, int64_t revision)
{
    struct checked_entry *entry = entry_at(checkers, index);

    if (revision < checkers->nodes[node].revision) {
        checkers_fail(checkers,
                      "node %u: revision %" PRId64 " after %" PRId64 " at entry %" PRIu64,
                      node,
                      revision,
                      checkers->nodes[node].revision,
                      index);
    }
    checkers->nodes[node].revision = revision;
    if (!entry->has_state) {
        entry->has_state = true;
        entry->state_hash = state_hash;
        entry->revision = revision;
    } else if (entry->state_hash != state_hash || entry->revision != revision) {
        checkers_fail(checkers,
                      "node %u has another state after entry %" PRIu64 " (hash %016" PRIx64
                      ", revision %" PRId64 ") than others (%016" PRIx64 ", %" PRId64 ")",
                      node,
                      index,
                      state_hash,
                      revision,
                      entry->state_hash,
                      entry->revision);
    }
}

/* ---------------------------------------------------------------- disks */

void checkers_synced_entry(struct checkers *checkers, unsigned node, uint64_t index, uint64_t term)
{
    struct checked_disk *disk = &checkers->nodes[node].disk;

    if (index != disk->last_index + 1) {
        checkers_fail(checkers,
                      "node %u writes entry %" PRIu64 " behind entry %" PRIu64,
                      node,
                      index,
                      disk->last_index);
        return;
    }
    disk->terms = grow(disk->terms, &disk->capacity, index, sizeof *disk->terms);
    disk->terms[index - 1] = term;
    disk->last_index = index;
}

void checkers_synced_truncation(struct checkers *checkers, unsigned node, uint64_t index)
{
    struct checked_disk *disk = &checkers->nodes[node].disk;

    for (uint64_t i = index; i <= disk->last_index; i++) {
        const struct checked_entry *entry = checkers_entry(checkers, i);

        if (entry && entry->commit_term == disk->terms[i - 1]) {
            checkers_fail(checkers,
                          "node %u removes the committed entry %" PRIu64 " of term %" PRIu64,
                          node,
                          i,
                          entry->commit_term);
        }
    }
    if (index <= disk->last_index) {
        disk->last_index = index - 1;
    }
    disk->doubt_from = 0;
}

void checkers_may_truncate(struct checkers *checkers, unsigned node, uint64_t index)
{
    struct checked_disk *disk = &checkers->nodes[node].disk;

    if (disk->doubt_from == 0 || index < disk->doubt_from) {
        disk->doubt_from = index;
    }
}

static void
check_vote(struct checkers *checkers, unsigned node, const char *what, uint64_t term, uint64_t vote)
{
    const struct checked_disk *disk = &checkers->nodes[node].disk;

    if (term < disk->term || (term == disk->term && disk->voted_for && disk->voted_for != vote)) {
        checkers_fail(checkers,
                      "node %u %s term %" PRIu64 " vote %" PRIu64 ", its disk had term %" PRIu64
                      " vote %" PRIu64,
                      node,
                      what,
                      term,
                      vote,
                      disk->term,
                      disk->voted_for);
    }
}

void checkers_synced_vote(struct checkers *checkers, unsigned node, uint64_t term, uint64_t vote)
{
    check_vote(checkers, node, "writes", term, vote);
    checkers->nodes[node].disk.term = term;
    checkers->nodes[node].disk.voted_for = vote;
}

void checkers_tells_term(struct checkers *checkers, unsigned node, uint64_t term)
{
    if (term > checkers->nodes[node].disk.term) {
        checkers_fail(checkers,
                      "node %u tells others of term %" PRIu64 ", its disk has term %" PRIu64,
                      node,
                      term,
                      checkers->nodes[node].disk.term);
    }
}

void checkers_tells_stored(struct checkers *checkers, unsigned node, uint64_t index)
{
    if (index > checkers->nodes[node].disk.last_index) {
        checkers_fail(checkers,
                      "node %u says that it has stored entry %" PRIu64
                      ", its disk ends at %" PRIu64,
                      node,
                      index,
                      checkers->nodes[node].disk.last_index);
    }
}

void checkers_recovers(struct checkers *checkers,
                       unsigned node,
                       uint64_t term,
                       uint64_t vote,
                       uint64_t last_index,
                       uint64_t (*term_of)(const void *arg, uint64_t index),
                       const void *arg)
{
    struct checked_disk *disk = &checkers->nodes[node].disk;

    check_vote(checkers, node, "recovers", term, vote);
    for (uint64_t i = 1; i <= disk->last_index; i++) {
        const struct checked_entry *entry = checkers_entry(checkers, i);
        bool is_same = i <= last_index && term_of(arg, i) == disk->terms[i - 1];
        bool is_committed = entry && entry->commit_term == disk->terms[i - 1];

        if (!is_same && (is_committed || disk->doubt_from == 0 || i < disk->doubt_from)) {
            checkers_fail(checkers,
                          "node %u recovers without entry %" PRIu64 " of term %" PRIu64
                          ", which was on its disk (now %" PRIu64 " entries)",
                          node,
                          i,
                          disk->terms[i - 1],
                          last_index);
            break;
        }
    }
    disk->terms = grow(disk->terms, &disk->capacity, last_index + 1, sizeof *disk->terms);
    for (uint64_t i = 1; i <= last_index; i++) {
        disk->terms[i - 1] = term_of(arg, i);
    }
    disk->last_index = last_index;
    disk->term = term;
    disk->voted_for = vote;
    disk->doubt_from = 0;
    checkers->nodes[node].applied = 0;
    checkers->nodes[node].committed = 0;
    checkers->nodes[node].revision = 0;
}

static void match_logs(struct checkers *checkers, unsigned a, unsigned b)
{
    const struct checked_disk *first = &checkers->nodes[a].disk;
    const struct checked_disk *second = &checkers->nodes[b].disk;
    uint64_t index =
        first->last_index < second->last_index ? first->last_index : second->last_index;

    while (index > 0 && first->terms[index - 1] != second->terms[index - 1]) {
        index--;
    }
    for (; index > 0; index--) {
        if (first->terms[index - 1] != second->terms[index - 1]) {
            checkers_fail(checkers,
                          "the logs of nodes %u and %u agree behind entry %" PRIu64
                          " and differ there (terms %" PRIu64 " and %" PRIu64 ")",
                          a,
                          b,
                          index,
                          first->terms[index - 1],
                          second->terms[index - 1]);
            return;
        }
    }
}

void checkers_log_matching(struct checkers *checkers)
{
    for (unsigned a = 1; a <= checkers->n_nodes; a++) {
        for (unsigned b = a + 1; b <= checkers->n_nodes; b++) {
            match_logs(checkers, a, b);
        }
    }
}

void checkers_bound(
    struct checkers *checkers, unsigned node, const char *what, uint64_t value, uint64_t max)
{
    if (value > max) {
        checkers_fail(
            checkers, "node %u: %s is %" PRIu64 ", the bound %" PRIu64, node, what, value, max);
    }
}
