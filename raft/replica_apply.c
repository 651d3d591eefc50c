/* Hands committed entries up, in order and once, from the cache or read back from the log. */
#include "common/assert.h"
#include "common/reached.h"
#include "raft/configuration.h"
#include "raft/replica_internal.h"
#include "raft/wal_format.h"

#include <inttypes.h>

/* Longest stretch of applying in one turn, so that heartbeats and reads get their turn too. */
enum { APPLY_TURN_NS = 2000000, READ_BYTES = 8 * 1024 * 1024 };

static void apply_configuration(struct kv_replica *r, uint64_t index, struct kv_slice data)
{
    struct raft_event event = {.type = RAFT_CONFIGURATION};

    event.configuration.index = index;
    if (kv_configuration_decode(data, &event.configuration.conf) != 0) {
        kv_replica_die(r, KV_CORRUPT, "the configuration at index %" PRIu64 " is malformed", index);
        return;
    }
    kv_replica_step_or_die(r, &event, "CONFIGURATION");
}

static void apply_one(struct kv_replica *r, uint64_t term, uint16_t type, struct kv_slice data)
{
    uint64_t index = r->applied_index + 1;

    r->applied_index = index;
    r->log_bytes += data.size + KV_WAL_RECORD_HEADER_BYTES;
    r->options.ops->apply(r->options.arg, index, term, (enum kv_entry_type)type, data);
    if (type == RAFT_CHANGE && !r->dead) {
        kv_replica_note_configuration(r, index, data);
        apply_configuration(r, index, data);
    }
}

static void on_read(struct kv_wal_read *read, int status)
{
    struct kv_replica *r = read->arg;

    r->apply_reader.active = false;
    if (r->apply_reader.is_void) {
        r->apply_reader.is_void = false;
        kv_wal_read_deinit(read);
        return;
    }
    if (status != 0) {
        kv_wal_read_deinit(read);
        kv_replica_die(r,
                       status,
                       "committed entries from index %" PRIu64
                       " on cannot be read back from the log: %s",
                       read->first_index,
                       kv_status_text(status));
        return;
    }
    r->apply_reader.ready = true;
    r->apply_reader.position = 0;
}

static void start_read(struct kv_replica *r)
{
    struct kv_apply_reader *reader = &r->apply_reader;

    KV_REACHED("apply-read-back");
    reader->active = true;
    reader->read = (struct kv_wal_read){
        .first_index = r->applied_index + 1,
        .last_index = raft_commit_index(&r->raft),
        .max_bytes = READ_BYTES,
        .done = on_read,
        .arg = r,
    };
    kv_wal_read(r->wal, &reader->read);
}

void kv_replica_apply_void(struct kv_replica *r)
{
    struct kv_apply_reader *reader = &r->apply_reader;

    reader->is_void = reader->active;
    if (reader->ready) {
        reader->ready = false;
        kv_wal_read_deinit(&reader->read);
    }
}

/* True when an entry was applied. */
static bool apply_from_reader(struct kv_replica *r)
{
    struct kv_apply_reader *reader = &r->apply_reader;
    const struct kv_wal_entry *entry;

    if (!reader->ready) {
        return false;
    }
    if (reader->position == reader->read.n_entries) {
        kv_wal_read_deinit(&reader->read);
        reader->ready = false;
        return false;
    }
    KV_ASSERT(reader->read.first_index + reader->position == r->applied_index + 1);
    entry = &reader->read.entries[reader->position++];
    if (entry->term != kv_terms_of(&r->terms, r->applied_index + 1)) {
        kv_replica_die(r,
                       KV_CORRUPT,
                       "entry %" PRIu64 " read back from the log has another term",
                       r->applied_index + 1);
        return false;
    }
    apply_one(r, entry->term, entry->type, entry->data);
    return true;
}

static bool apply_next(struct kv_replica *r)
{
    const struct kv_cached_entry *entry;

    if (r->apply_reader.active) {
        return false;
    }
    if (apply_from_reader(r)) {
        return true;
    }
    if (r->dead || r->apply_reader.ready || r->applied_index >= raft_commit_index(&r->raft)) {
        return false;
    }
    entry = kv_entry_cache_get(&r->cache, r->applied_index + 1);
    if (!entry) {
        start_read(r);
        return false;
    }
    apply_one(r, entry->term, entry->type, entry->data);
    return true;
}

static void trim_cache(struct kv_replica *r)
{
    uint64_t keep_behind =
        r->applied_index < r->raft.last_stored ? r->applied_index : r->raft.last_stored;
    size_t max_bytes = r->options.entry_cache_bytes;

    kv_entry_cache_trim(&r->cache, keep_behind, max_bytes ? max_bytes : KV_ENTRY_CACHE_BYTES_MAX);
}

bool kv_replica_apply_some(struct kv_replica *r)
{
    const struct kv_clock *clock = &r->env.clock;
    uint64_t end = clock->ops->now_ns(clock->clock) + APPLY_TURN_NS;
    bool more = true;

    while (more && !r->dead) {
        more = apply_next(r);
        if (more && clock->ops->now_ns(clock->clock) > end) {
            break;
        }
    }
    trim_cache(r);
    return more;
}
