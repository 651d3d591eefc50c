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
    for (unsigned i = 1; i <= n_nodes; i++) {
        checkers->nodes[i].disk.first_index = 1;
    }
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

void checkers_leads(struct checkers *checkers, unsigned node, uint64_t process, uint64_t term)
{
    struct checked_leader *leader;

    checkers->leaders =
        grow(checkers->leaders, &checkers->n_leaders, term + 1, sizeof *checkers->leaders);
    leader = &checkers->leaders[term];
    if (leader->node != 0 && leader->node != node) {
        checkers_fail(checkers,
                      "two leaders in term %" PRIu64 ": node %u and node %u",
                      term,
                      leader->node,
                      node);
    } else if (leader->node != 0 && leader->process != process) {
        checkers_fail(checkers,
                      "node %u leads again in term %" PRIu64 ", which an earlier process of it led",
                      node,
                      term);
    }
    *leader = (struct checked_leader){node, process};
}

void checkers_leader_log(struct checkers *checkers,
                         unsigned node,
                         uint64_t leader_term,
                         uint64_t snapshot_index,
                         uint64_t (*term_of)(const void *arg, uint64_t index),
                         const void *arg)
{
    for (uint64_t index = snapshot_index + 1; index <= checkers->n_entries; index++) {
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

static bool has_snapshot(const struct checked_disk *disk, uint64_t index)
{
    for (size_t i = 0; i < disk->n_snapshots; i++) {
        if (disk->snapshots[i].index >= index) {
            return true;
        }
    }
    return false;
}

/* Of the two newest that are kept. */
static uint64_t older_snapshot(const struct checked_disk *disk)
{
    uint64_t newest = 0, older = 0;

    for (size_t i = 0; i < disk->n_snapshots; i++) {
        uint64_t index = disk->snapshots[i].index;

        older = index > newest ? newest : index > older ? index : older;
        newest = index > newest ? index : newest;
    }
    return older;
}

static bool log_holds(const struct checked_disk *disk, uint64_t index, uint64_t term)
{
    return index >= disk->first_index && index <= disk->last_index &&
           disk->terms[index - 1] == term;
}

static void check_majority(struct checkers *checkers, unsigned node, uint64_t index, uint64_t term)
{
    unsigned n = 0;

    for (unsigned i = 1; i <= checkers->n_nodes; i++) {
        const struct checked_disk *disk = &checkers->nodes[i].disk;

        n += log_holds(disk, index, term) || has_snapshot(disk, index);
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

/* ---------------------------------------------------------------- snapshots */

static void
check_snapshot(struct checkers *checkers, unsigned node, const struct checked_snapshot *snapshot)
{
    const struct checked_entry *entry = checkers_entry(checkers, snapshot->index);

    if (!entry || !entry->has_state || entry->term != snapshot->term) {
        checkers_fail(checkers,
                      "node %u has a snapshot of entry %" PRIu64 " of term %" PRIu64
                      ", where term %" PRIu64 " was applied",
                      node,
                      snapshot->index,
                      snapshot->term,
                      entry ? entry->term : 0);
    } else if (entry->state_hash != snapshot->state_hash || entry->revision != snapshot->revision) {
        checkers_fail(checkers,
                      "node %u has a snapshot of entry %" PRIu64
                      " with another state (hash %016" PRIx64 ", revision %" PRId64
                      ") than was applied (%016" PRIx64 ", %" PRId64 ")",
                      node,
                      snapshot->index,
                      snapshot->state_hash,
                      snapshot->revision,
                      entry->state_hash,
                      entry->revision);
    }
}

void checkers_snapshots(struct checkers *checkers,
                        unsigned node,
                        const struct checked_snapshot *snapshots,
                        size_t n)
{
    struct checked_disk *disk = &checkers->nodes[node].disk;

    KV_ASSERT(n <= CHECKERS_SNAPSHOTS_MAX);
    for (size_t i = 0; i < n; i++) {
        check_snapshot(checkers, node, &snapshots[i]);
        disk->snapshots[i] = snapshots[i];
    }
    disk->n_snapshots = n;
}

static void
starts_from(struct checkers *checkers, unsigned node, const struct checked_snapshot *snapshot)
{
    struct checked_node *checked = &checkers->nodes[node];

    check_snapshot(checkers, node, snapshot);
    if (!has_snapshot(&checked->disk, snapshot->index)) {
        checkers_fail(checkers,
                      "node %u has the state of a snapshot of entry %" PRIu64
                      ", which its disk does not hold",
                      node,
                      snapshot->index);
    }
    checked->applied = snapshot->index;
    checked->revision = snapshot->revision;
    if (checked->committed < snapshot->index) {
        checked->committed = snapshot->index;
    }
}

void checkers_installs(struct checkers *checkers,
                       unsigned node,
                       const struct checked_snapshot *snapshot)
{
    const struct checked_node *checked = &checkers->nodes[node];

    if (snapshot->index <= checked->applied || snapshot->revision < checked->revision) {
        checkers_fail(checkers,
                      "node %u installs a snapshot of entry %" PRIu64 " (revision %" PRId64
                      ") after entry %" PRIu64 " (revision %" PRId64 ")",
                      node,
                      snapshot->index,
                      snapshot->revision,
                      checked->applied,
                      checked->revision);
    }
    starts_from(checkers, node, snapshot);
}

void checkers_released(struct checkers *checkers, unsigned node, uint64_t first_index)
{
    struct checked_disk *disk = &checkers->nodes[node].disk;

    if (first_index <= disk->first_index) {
        return;
    }
    if (!has_snapshot(disk, first_index - 1)) {
        checkers_fail(checkers,
                      "node %u releases the log before entry %" PRIu64
                      " without a snapshot of it on its disk",
                      node,
                      first_index);
    } else if (disk->n_snapshots > 1 && !checkers->nodes[node].was_full &&
               first_index > older_snapshot(disk) + 1 &&
               first_index > checkers->nodes[node].boundary + 1) {
        checkers_fail(checkers,
                      "node %u releases the log before entry %" PRIu64
                      ", its older snapshot is of entry %" PRIu64,
                      node,
                      first_index,
                      older_snapshot(disk));
    }
    disk->first_index = first_index;
}

void checkers_writes_record(
    struct checkers *checkers, unsigned node, uint64_t process, uint64_t number, bool is_new)
{
    struct checked_node *checked = &checkers->nodes[node];
    uint64_t last;

    if (checked->process != process) {
        if (checked->has_synced) {
            checked->lost_records = checked->last_record;
        }
        checked->process = process;
        checked->last_record = 0;
        checked->has_synced = false;
    }
    if (is_new) {
        checked->last_record = checked->lost_records = 0;
    }
    last =
        checked->last_record > checked->lost_records ? checked->last_record : checked->lost_records;
    if (number <= last) {
        checkers_fail(checkers,
                      "node %u writes record %" PRIu64 ", it had written %" PRIu64 " before",
                      node,
                      number,
                      last);
    }
    checked->last_record = number;
}

void checkers_synced_record(struct checkers *checkers, unsigned node)
{
    checkers->nodes[node].has_synced = true;
}

void checkers_rest_of_log(struct checkers *checkers, unsigned node, struct kv_slice rest)
{
    /* Nearly always: many megabytes a second. */
    if (rest.size == 0 ||
        (rest.data[0] == 0 && memcmp(rest.data, rest.data + 1, rest.size - 1) == 0)) {
        return;
    }
    for (size_t i = 0; i < rest.size; i++) {
        if (rest.data[i] != 0) {
            checkers_fail(checkers,
                          "node %u has recovered its log and left something %zu bytes behind it",
                          node,
                          i);
            return;
        }
    }
}

void checkers_part(struct checkers *checkers,
                   unsigned node,
                   struct kv_slice noted,
                   struct kv_slice durable)
{
    if (durable.size < noted.size ||
        !kv_slice_equal(noted, kv_slice_of(durable.data, noted.size))) {
        checkers_fail(checkers,
                      "node %u notes %zu bytes of a snapshot as safe that are not all on its disk",
                      node,
                      noted.size);
    }
}

void checkers_cluster_time(struct checkers *checkers,
                           uint64_t index,
                           uint64_t time_ms,
                           uint64_t max_ms)
{
    if (time_ms > max_ms) {
        checkers_fail(checkers,
                      "the cluster's time is %" PRIu64 " ms at entry %" PRIu64
                      ", no clock has run for more than %" PRIu64 " ms",
                      time_ms,
                      index,
                      max_ms);
    }
}

void checkers_time_goes_on(struct checkers *checkers,
                           unsigned node,
                           int64_t before_ms,
                           int64_t after_ms)
{
    if (after_ms < before_ms) {
        checkers_fail(checkers,
                      "the cluster's time of node %u went back from %" PRId64 " to %" PRId64 " ms",
                      node,
                      before_ms,
                      after_ms);
    }
}

static void lose_entries(struct checkers *checkers, unsigned node, uint64_t from, const char *why);

void checkers_synced_boundary(struct checkers *checkers,
                              unsigned node,
                              uint64_t index,
                              uint64_t term)
{
    struct checked_disk *disk = &checkers->nodes[node].disk;
    const struct checked_entry *entry = checkers_entry(checkers, index);

    if (!has_snapshot(disk, index) || !entry || entry->term != term) {
        checkers_fail(checkers,
                      "node %u begins its log behind entry %" PRIu64 " of term %" PRIu64
                      " without a snapshot of it",
                      node,
                      index,
                      term);
    }
    lose_entries(checkers, node, index + 1, "drops");
    disk->first_index = index + 1;
    disk->last_index = index;
    disk->doubt_from = 0;
    checkers->nodes[node].boundary = index;
}

/* ---------------------------------------------------------------- disks */

/* Is it committed, and in a term that the node is in, too? One of an earlier term may still be told
 * by that term's leader to replace its copy of an entry that a later leader has committed without
 * it. */
static bool
must_stay(const struct checked_disk *disk, const struct checked_entry *entry, uint64_t index)
{
    return entry && entry->commit_term == disk->terms[index - 1] && disk->term >= entry->known_in;
}

/* The log loses what it has from there on: none of it may be committed. */
static void lose_entries(struct checkers *checkers, unsigned node, uint64_t from, const char *why)
{
    const struct checked_disk *disk = &checkers->nodes[node].disk;

    for (uint64_t i = from > disk->first_index ? from : disk->first_index; i <= disk->last_index;
         i++) {
        const struct checked_entry *entry = checkers_entry(checkers, i);

        if (must_stay(disk, entry, i)) {
            checkers_fail(checkers,
                          "node %u %s the committed entry %" PRIu64 " of term %" PRIu64,
                          node,
                          why,
                          i,
                          entry->commit_term);
        }
    }
}

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

    lose_entries(checkers, node, index, "removes");
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
    const struct checked_disk *disk = &checkers->nodes[node].disk;

    if (index > disk->last_index) {
        checkers_fail(checkers,
                      "node %u says that it has stored entry %" PRIu64
                      ", its disk ends at %" PRIu64,
                      node,
                      index,
                      checkers->nodes[node].disk.last_index);
    }
}

/* What the disk held is in what was found, or in the snapshot; what a truncation was to remove may
 * be gone. */
static void check_recovered(struct checkers *checkers,
                            unsigned node,
                            const struct checked_recovery *recovery,
                            uint64_t (*term_of)(const void *arg, uint64_t index),
                            const void *arg)
{
    const struct checked_disk *disk = &checkers->nodes[node].disk;
    uint64_t first = disk->first_index > recovery->snapshot.index ? disk->first_index
                                                                  : recovery->snapshot.index + 1;

    for (uint64_t i = first; i <= disk->last_index; i++) {
        const struct checked_entry *entry = checkers_entry(checkers, i);
        bool is_same = !recovery->is_log_dropped && i <= recovery->last_index &&
                       term_of(arg, i) == disk->terms[i - 1];
        bool may_go = recovery->is_log_dropped || (disk->doubt_from != 0 && i >= disk->doubt_from);

        if (!is_same && (must_stay(disk, entry, i) || !may_go)) {
            checkers_fail(checkers,
                          "node %u recovers without entry %" PRIu64 " of term %" PRIu64
                          ", which was on its disk (now %" PRIu64 " entries)",
                          node,
                          i,
                          disk->terms[i - 1],
                          recovery->last_index);
            break;
        }
    }
}

void checkers_recovers(struct checkers *checkers,
                       unsigned node,
                       const struct checked_recovery *recovery,
                       uint64_t (*term_of)(const void *arg, uint64_t index),
                       const void *arg)
{
    struct checked_node *checked = &checkers->nodes[node];
    struct checked_disk *disk = &checked->disk;
    uint64_t first = recovery->first_index;
    uint64_t last = recovery->last_index;

    check_vote(checkers, node, "recovers", recovery->term, recovery->vote);
    check_recovered(checkers, node, recovery, term_of, arg);
    if (recovery->is_log_dropped) {
        first = recovery->snapshot.index + 1;
        last = recovery->snapshot.index;
    }
    disk->terms = grow(disk->terms, &disk->capacity, last + 1, sizeof *disk->terms);
    for (uint64_t i = first; i <= last; i++) {
        disk->terms[i - 1] = term_of(arg, i);
    }
    disk->first_index = first;
    disk->last_index = last;
    disk->term = recovery->term;
    disk->voted_for = recovery->vote;
    disk->doubt_from = 0;
    checked->applied = checked->committed = 0;
    checked->revision = 0;
    if (recovery->snapshot.index > 0) {
        starts_from(checkers, node, &recovery->snapshot);
    }
    if (first > checked->applied + 1) {
        checkers_fail(checkers,
                      "node %u recovers a log that begins with entry %" PRIu64
                      " and a state as of entry %" PRIu64,
                      node,
                      first,
                      checked->applied);
    }
}

static void match_logs(struct checkers *checkers, unsigned a, unsigned b)
{
    const struct checked_disk *first = &checkers->nodes[a].disk;
    const struct checked_disk *second = &checkers->nodes[b].disk;
    uint64_t index =
        first->last_index < second->last_index ? first->last_index : second->last_index;
    uint64_t begin =
        first->first_index > second->first_index ? first->first_index : second->first_index;

    while (index >= begin && first->terms[index - 1] != second->terms[index - 1]) {
        index--;
    }
    for (; index >= begin; index--) {
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
