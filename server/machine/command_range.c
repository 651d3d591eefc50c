/* Ranges: as one reply, and as pieces of a stream, all at one revision. */
#include "server/machine/command.h"

#include "common/assert.h"

#include <inttypes.h>
#include <string.h>

/* Bytes of a key-value on the wire besides key and value, at most. */
enum { KEY_VALUE_OVERHEAD_BYTES = 96 };

static int check_filter(int64_t min, int64_t max, const char *what, struct kv_error *ret_error)
{
    if (min < 0 || max < 0 || (max != 0 && min > max)) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "%s revisions from %" PRId64 " to %" PRId64 " are no range",
                            what,
                            min,
                            max);
    }
    return 0;
}

int kv_validate_range(const Kv__Request *request,
                      const struct kv_machine_settings *settings,
                      struct kv_error *ret_error)
{
    const Kv__Range *range = request->range;
    int status = kv_check_range(range->range, ret_error);

    (void)settings;
    if (status == 0) {
        status = check_filter(range->min_mod_revision, range->max_mod_revision, "mod", ret_error);
    }
    if (status == 0) {
        status = check_filter(
            range->min_create_revision, range->max_create_revision, "create", ret_error);
    }
    if (status == 0) {
        status = kv_check_bound(range->cursor, "the cursor", ret_error);
    }
    if (status == 0 && range->cursor.len > 0 && range->count_only) {
        return kv_error_set(ret_error, KV_INVALID, "count_only takes no cursor");
    }
    if (status == 0 && range->stream && range->count_only) {
        return kv_error_set(ret_error, KV_INVALID, "count_only is not streamed");
    }
    return status;
}

/* What to look for, and where to go on. */
struct query {
    const Kv__Range *range;
    int64_t revision; /* 0: now */
    struct kv_bounds bounds;
    bool has_position; /* the last key given; the next is beyond it */
    struct kv_slice position;
    uint64_t max_keys;
    uint64_t max_bytes;
    uint64_t max_visits;
};

struct found {
    size_t n;
    bool more;
    uint64_t visits;      /* keys that were looked at */
    struct kv_slice last; /* last key given or looked at */
};

static void
seek(const struct kv_machine *machine, const struct query *query, struct kv_tree_cursor *ret_cursor)
{
    const struct kv_bounds *bounds = &query->bounds;
    bool goes_on = query->has_position;

    /* A cursor that no server gave may lie outside of the range. */
    if (query->range->descending) {
        goes_on =
            goes_on && (!bounds->has_end || kv_slice_compare(query->position, bounds->end) < 0);
        kv_tree_seek_before(&machine->tree,
                            goes_on ? query->position : bounds->end,
                            goes_on || bounds->has_end,
                            ret_cursor);
        return;
    }
    goes_on = goes_on && kv_slice_compare(query->position, bounds->start) >= 0;
    kv_tree_seek(&machine->tree, goes_on ? query->position : bounds->start, ret_cursor);
    if (goes_on) {
        const struct kv_record *record = kv_tree_cursor_get(ret_cursor);

        if (record && kv_slice_equal(kv_record_key(record), query->position)) {
            kv_tree_next(ret_cursor);
        }
    }
}

static bool is_outside(const struct query *query, struct kv_slice key)
{
    if (query->range->descending) {
        return kv_slice_compare(key, query->bounds.start) < 0;
    }
    return query->bounds.has_end && kv_slice_compare(key, query->bounds.end) >= 0;
}

static bool passes(const Kv__Range *range, const struct kv_record *record)
{
    return (range->min_mod_revision == 0 || record->mod_revision >= range->min_mod_revision) &&
           (range->max_mod_revision == 0 || record->mod_revision <= range->max_mod_revision) &&
           (range->min_create_revision == 0 ||
            record->create_revision >= range->min_create_revision) &&
           (range->max_create_revision == 0 ||
            record->create_revision <= range->max_create_revision);
}

static uint64_t wire_cost(const struct kv_record *record, bool keys_only)
{
    return KEY_VALUE_OVERHEAD_BYTES + record->key_size +
           (keys_only ? 0 : (uint64_t)record->value_size);
}

/* The record at the cursor. Of now, what is dead is stepped over by whole subtrees: a queue of keys
 * has all of its past in front. */
static const struct kv_record *look(const struct query *query, struct kv_tree_cursor *cursor)
{
    if (query->revision == 0) {
        kv_tree_skip_dead(cursor, !query->range->descending);
    }
    return kv_tree_cursor_get(cursor);
}

/* Fills machine->kvs (unless count_only) with what the query finds, at least one key when there is
 * any. */
static struct found collect(struct kv_machine *machine, const struct query *query)
{
    const Kv__Range *range = query->range;
    struct found found = {0};
    struct kv_tree_cursor cursor;
    uint64_t bytes = 0;

    seek(machine, query, &cursor);
    for (const struct kv_record *newest; (newest = look(query, &cursor));
         range->descending ? kv_tree_previous(&cursor) : kv_tree_next(&cursor)) {
        const struct kv_record *record =
            query->revision ? kv_machine_record_at(machine, newest, query->revision) : newest;

        if (is_outside(query, kv_record_key(newest))) {
            return found;
        }
        if (kv_keyspace_is_dead(machine, newest)) {
            continue;
        }
        if (found.n == query->max_keys || ++found.visits > query->max_visits) {
            found.more = true;
            return found;
        }
        if (record && passes(range, record)) {
            uint64_t cost = range->count_only ? 0 : wire_cost(record, range->keys_only);

            if (found.n > 0 && bytes + cost > query->max_bytes) {
                found.more = true;
                return found;
            }
            bytes += cost;
            if (!range->count_only) {
                kv_machine_reserve_kvs(machine, found.n + 1);
                kv_key_value_fill(&machine->kvs[found.n], record, range->keys_only);
            }
            found.n++;
        }
        found.last = kv_record_key(newest);
    }
    return found;
}

static void fill_result(struct kv_machine *machine,
                        const struct query *query,
                        const struct found *found,
                        int64_t revision,
                        Kv__RangeResult *ret_result)
{
    kv__range_result__init(ret_result);
    ret_result->count = found->n;
    ret_result->revision = revision;
    ret_result->more = found->more;
    if (!query->range->count_only) {
        ret_result->n_kvs = found->n;
        ret_result->kvs = machine->kv_pointers;
    }
    if (found->more) {
        ret_result->cursor =
            (ProtobufCBinaryData){found->last.size, (uint8_t *)(uintptr_t)found->last.data};
    }
}

/* Without filters the counts of the tree answer at once. */
static bool
count_from_tree(const struct kv_machine *machine, const struct query *query, uint64_t *ret_count)
{
    const Kv__Range *range = query->range;
    const struct kv_bounds *bounds = &query->bounds;

    if (!range->count_only || query->revision != 0 || range->min_mod_revision ||
        range->max_mod_revision || range->min_create_revision || range->max_create_revision ||
        query->has_position) {
        return false;
    }
    *ret_count = 0;
    if (!bounds->has_end || kv_slice_compare(bounds->start, bounds->end) < 0) {
        *ret_count = (bounds->has_end ? kv_tree_rank(&machine->tree, bounds->end)
                                      : kv_tree_count(&machine->tree)) -
                     kv_tree_rank(&machine->tree, bounds->start);
    }
    return true;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

int kv_run_range(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__Range *range = request->range;
    /* Within a transaction that has changed something, now is the revision that it makes. */
    int64_t revision =
        range->at_revision ? range->at_revision : machine->revision + machine->changed;
    struct query query = {
        .range = range,
        .revision = kv_revision_is_now(machine, range->at_revision) ? 0 : range->at_revision,
        .has_position = range->cursor.len > 0,
        .position = kv_slice_of_proto(range->cursor),
        .max_keys = range->limit ? range->limit : UINT64_MAX,
        .max_bytes = machine->settings.reply_bytes - least(machine->settings.reply_bytes / 2, 4096),
        .max_visits = machine->settings.work_elements,
    };
    struct found found = {0};
    uint64_t count;
    int status = kv_keyspace_check_revision(machine, range->at_revision, answer);

    if (status != 0) {
        return status;
    }
    kv_bounds_of(range->range, &query.bounds);
    if (count_from_tree(machine, &query, &count)) {
        found.n = least(count, query.max_keys);
    } else {
        found = collect(machine, &query);
        machine->work += found.visits;
        if (found.more && range->count_only && found.n < query.max_keys) {
            answer->hint.limit = (char *)(uintptr_t) "work-limit";
            answer->hint.limit_value = machine->settings.work_elements;
            return kv_error_set(&answer->error,
                                KV_TOO_LARGE,
                                "counting looks at more than %" PRIu64
                                " keys (setting work-limit): count in pieces",
                                machine->settings.work_elements);
        }
    }
    fill_result(machine, &query, &found, revision, &answer->result.range);
    answer->reply.result_case = KV__REPLY__RESULT_RANGE;
    answer->reply.range = &answer->result.range;
    return 0;
}

/* Remembers where the next piece begins. */
static void move_stream(struct kv_range_stream *stream, const struct found *found)
{
    stream->returned += found->n;
    if (found->last.size > 0) {
        KV_ASSERT(found->last.size <= sizeof stream->position);
        memcpy(stream->position, found->last.data, found->last.size);
        stream->position_size = found->last.size;
    }
}

/* Fixes the revision, once. */
static int start_stream(struct kv_machine *machine,
                        const Kv__Range *range,
                        struct kv_range_stream *stream,
                        struct kv_answer *answer)
{
    int status = kv_keyspace_check_revision(
        machine, stream->started ? stream->revision : range->at_revision, answer);

    if (status == 0 && !stream->started) {
        stream->started = true;
        stream->revision = range->at_revision ? range->at_revision : machine->revision;
        if (range->cursor.len > 0) {
            memcpy(stream->position, range->cursor.data, range->cursor.len);
            stream->position_size = range->cursor.len;
        }
    }
    return status;
}

int kv_machine_range_piece(struct kv_machine *machine,
                           const Kv__Range *range,
                           struct kv_range_stream *stream,
                           size_t max_bytes,
                           kv_machine_piece_fn fn,
                           void *arg,
                           struct kv_error *ret_error)
{
    struct kv_answer answer = {0};
    struct query query = {
        .range = range, .max_bytes = max_bytes, .max_visits = machine->settings.work_elements};
    Kv__RangeResult result;
    struct found found;
    int status = start_stream(machine, range, stream, &answer);

    if (status != 0) {
        if (ret_error) {
            *ret_error = answer.error;
        }
        return status;
    }
    query.revision = stream->revision == machine->revision ? 0 : stream->revision;
    query.has_position = stream->position_size > 0;
    query.position = kv_slice_of(stream->position, stream->position_size);
    query.max_keys = range->limit ? range->limit - stream->returned : UINT64_MAX;
    kv_bounds_of(range->range, &query.bounds);
    found = collect(machine, &query);
    fill_result(machine, &query, &found, stream->revision, &result);
    move_stream(stream, &found);
    /* Stopped by the limit: then nothing more follows, whatever lies behind. */
    if (range->limit && stream->returned >= range->limit) {
        fn(arg, &result, stream->revision);
        return 0;
    }
    fn(arg, &result, stream->revision);
    return found.more ? 1 : 0;
}
