#include "tests/sim/touch.h"

#include "common/assert.h"
#include "common/limits.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { SLOT_EMPTY = UINT32_MAX, SLOTS_MIN = 256 };

static void *allocate(size_t n, size_t size)
{
    void *memory = calloc(n ? n : 1, size);

    KV_ASSERT(memory);
    return memory;
}

/* --- keys --- */

static size_t find_slot(const struct kv_touches *touches, struct kv_slice key)
{
    size_t i = (size_t)XXH3_64bits(key.size ? (const void *)key.data : "", key.size);

    for (i &= touches->n_slots - 1; touches->slots[i] != SLOT_EMPTY;
         i = (i + 1) & (touches->n_slots - 1)) {
        if (kv_slice_equal(touches->keys[touches->slots[i]], key)) {
            break;
        }
    }
    return i;
}

static void grow_keys(struct kv_touches *touches)
{
    touches->n_slots = touches->n_slots ? 2 * touches->n_slots : SLOTS_MIN;
    free(touches->slots);
    touches->slots = allocate(touches->n_slots, sizeof *touches->slots);
    touches->keys = realloc(touches->keys, touches->n_slots / 2 * sizeof *touches->keys);
    KV_ASSERT(touches->keys);
    for (size_t i = 0; i < touches->n_slots; i++) {
        touches->slots[i] = SLOT_EMPTY;
    }
    for (size_t i = 0; i < touches->n_keys; i++) {
        touches->slots[find_slot(touches, touches->keys[i])] = (uint32_t)i;
    }
}

static void add_key(struct kv_touches *touches, ProtobufCBinaryData bytes)
{
    struct kv_slice key = kv_model_slice(bytes);
    size_t slot;

    if (2 * (touches->n_keys + 1) > touches->n_slots) {
        grow_keys(touches);
    }
    slot = find_slot(touches, key);
    if (touches->slots[slot] == SLOT_EMPTY) {
        touches->slots[slot] = (uint32_t)touches->n_keys;
        touches->keys[touches->n_keys++] = key;
    }
}

/* The key of a command that touches one, or NULL. */
static const ProtobufCBinaryData *single_key(const Kv__Request *request)
{
    switch (request->command_case) {
    case KV__REQUEST__COMMAND_PUT:
        return &request->put->key;
    case KV__REQUEST__COMMAND_GET:
        return &request->get->key;
    case KV__REQUEST__COMMAND_APPEND:
        return &request->append->key;
    case KV__REQUEST__COMMAND_GETSET:
        return &request->getset->key;
    case KV__REQUEST__COMMAND_GETDEL:
        return &request->getdel->key;
    case KV__REQUEST__COMMAND_STRLEN:
        return &request->strlen->key;
    case KV__REQUEST__COMMAND_GET_RANGE:
        return &request->get_range->key;
    case KV__REQUEST__COMMAND_SET_RANGE:
        return &request->set_range->key;
    case KV__REQUEST__COMMAND_COUNTER_ADD:
        return &request->counter_add->key;
    case KV__REQUEST__COMMAND_COUNTER_GET:
        return &request->counter_get->key;
    case KV__REQUEST__COMMAND_COUNTER_SET:
        return &request->counter_set->key;
    default:
        return NULL;
    }
}

static void add_pairs(struct kv_touches *touches, size_t n, Kv__KeyValue *const *pairs)
{
    for (size_t i = 0; i < n; i++) {
        add_key(touches, pairs[i]->key);
    }
}

static void add_keys(struct kv_touches *touches, const struct kv_history_op *op)
{
    const Kv__Request *request = op->request;
    const ProtobufCBinaryData *key = single_key(request);

    if (key) {
        add_key(touches, *key);
    }
    if (request->command_case == KV__REQUEST__COMMAND_EXISTS) {
        for (size_t i = 0; i < request->exists->n_keys; i++) {
            add_key(touches, request->exists->keys[i]);
        }
    }
    if (request->command_case == KV__REQUEST__COMMAND_DELETE) {
        for (size_t i = 0; i < request->delete_->n_keys; i++) {
            add_key(touches, request->delete_->keys[i]);
        }
        if (op->reply && op->reply->delete_) {
            add_pairs(touches, op->reply->delete_->n_previous, op->reply->delete_->previous);
        }
    }
    if (request->command_case == KV__REQUEST__COMMAND_RANGE) {
        if (op->reply && op->reply->range) {
            add_pairs(touches, op->reply->range->n_kvs, op->reply->range->kvs);
        }
        for (const struct kv_history_piece *piece = op->pieces; piece; piece = piece->next) {
            add_pairs(touches, piece->result->n_kvs, piece->result->kvs);
        }
    }
}

static int compare_keys(const void *a, const void *b)
{
    return kv_slice_compare(*(const struct kv_slice *)a, *(const struct kv_slice *)b);
}

static void sort_keys(struct kv_touches *touches)
{
    if (touches->n_keys == 0) {
        return;
    }
    qsort(touches->keys, touches->n_keys, sizeof *touches->keys, compare_keys);
    for (size_t i = 0; i < touches->n_slots; i++) {
        touches->slots[i] = SLOT_EMPTY;
    }
    for (size_t i = 0; i < touches->n_keys; i++) {
        touches->slots[find_slot(touches, touches->keys[i])] = (uint32_t)i;
    }
}

static uint32_t key_number(const struct kv_touches *touches, ProtobufCBinaryData key)
{
    return touches->slots[find_slot(touches, kv_model_slice(key))];
}

/* The first key that is not below. */
static uint32_t lower_bound(const struct kv_touches *touches, struct kv_slice bound)
{
    size_t from = 0;
    size_t to = touches->n_keys;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (kv_slice_compare(touches->keys[middle], bound) < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return (uint32_t)from;
}

static bool has_prefix(struct kv_slice key, struct kv_slice prefix)
{
    return key.size >= prefix.size &&
           (prefix.size == 0 || memcmp(key.data, prefix.data, prefix.size) == 0);
}

/* The keys of the range: [*ret_from, *ret_to). */
static void range_keys(const struct kv_touches *touches,
                       const Kv__KeyRange *range,
                       uint32_t *ret_from,
                       uint32_t *ret_to)
{
    struct kv_slice start = kv_model_slice(range->start);

    *ret_from = lower_bound(touches, start);
    *ret_to = (uint32_t)touches->n_keys;
    if (range->special == KV__KEY_RANGE__SPECIAL__PREFIX) {
        for (*ret_to = *ret_from; *ret_to < touches->n_keys; ++*ret_to) {
            if (!has_prefix(touches->keys[*ret_to], start)) {
                break;
            }
        }
    } else if (range->special == KV__KEY_RANGE__SPECIAL__NONE && range->end.len > 0) {
        *ret_to = lower_bound(touches, kv_model_slice(range->end));
        *ret_to = *ret_to < *ret_from ? *ret_from : *ret_to;
    } else if (range->special == KV__KEY_RANGE__SPECIAL__NONE) {
        bool there = *ret_from < touches->n_keys && kv_slice_equal(touches->keys[*ret_from], start);

        *ret_to = *ret_from + there;
    }
}

/* --- touches --- */

static void grow_touches(struct kv_touches *touches)
{
    touches->capacity = touches->capacity ? 2 * touches->capacity : 1024;
    touches->touches = realloc(touches->touches, touches->capacity * sizeof *touches->touches);
    KV_ASSERT(touches->touches);
}

/* Borrowed until the next is added. */
static struct kv_touch *add_touch(struct kv_touches *touches,
                                  const struct kv_history_op *op,
                                  enum kv_touch_kind kind,
                                  uint32_t key)
{
    struct kv_op_info *info = &touches->infos[op - touches->history->ops];
    struct kv_touch *touch = &touches->left_out;

    if (touches->n_touches == touches->max_touches) {
        touches->too_many = true;
    } else {
        if (touches->n_touches == touches->capacity) {
            grow_touches(touches);
        }
        touch = &touches->touches[touches->n_touches++];
        info->count++;
    }
    *touch = (struct kv_touch){.op = op,
                               .key = key,
                               .kind = (uint8_t)kind,
                               .answered = info->outcome == KV_OUTCOME_ANSWERED};
    return touch;
}

static void
see(struct kv_touches *touches, struct kv_touch *touch, const Kv__KeyValue *pair, bool with_value)
{
    touch->presence = pair ? KV_SEEN_PRESENT : KV_SEEN_ABSENT;
    touch->pair = pair;
    if (pair && with_value && pair->type == KV__TYPE__TYPE_COUNTER) {
        touch->seen = kv_values_number(&touches->values, pair->counter);
    } else if (pair && with_value) {
        touch->seen = kv_values_intern(&touches->values, kv_model_slice(pair->value));
    }
}

static const struct kv_value *argument_of(struct kv_touches *touches, const Kv__Request *request)
{
    switch (request->command_case) {
    case KV__REQUEST__COMMAND_PUT:
        return kv_values_intern(&touches->values, kv_model_slice(request->put->value));
    case KV__REQUEST__COMMAND_GETSET:
        return kv_values_intern(&touches->values, kv_model_slice(request->getset->value));
    case KV__REQUEST__COMMAND_APPEND:
        return kv_values_intern(&touches->values, kv_model_slice(request->append->value));
    case KV__REQUEST__COMMAND_SET_RANGE:
        return kv_values_intern(&touches->values, kv_model_slice(request->set_range->value));
    case KV__REQUEST__COMMAND_COUNTER_SET:
        return kv_values_number(&touches->values, request->counter_set->value);
    default:
        return NULL;
    }
}

static enum kv_touch_kind kind_of(const Kv__Request *request)
{
    switch (request->command_case) {
    case KV__REQUEST__COMMAND_PUT:
    case KV__REQUEST__COMMAND_GETSET:
        return KV_TOUCH_PUT;
    case KV__REQUEST__COMMAND_APPEND:
        return KV_TOUCH_APPEND;
    case KV__REQUEST__COMMAND_SET_RANGE:
        return KV_TOUCH_SET_RANGE;
    case KV__REQUEST__COMMAND_GETDEL:
        return KV_TOUCH_DELETE;
    case KV__REQUEST__COMMAND_STRLEN:
        return KV_TOUCH_LENGTH;
    case KV__REQUEST__COMMAND_GET_RANGE:
        return KV_TOUCH_SLICE;
    case KV__REQUEST__COMMAND_COUNTER_ADD:
        return KV_TOUCH_COUNTER_ADD;
    case KV__REQUEST__COMMAND_COUNTER_SET:
        return KV_TOUCH_COUNTER_SET;
    default:
        return KV_TOUCH_LOOK;
    }
}

/* What the reply of a command on one key says was there. */
static void see_single(struct kv_touches *touches, struct kv_touch *touch)
{
    const struct kv_history_op *op = touch->op;
    const Kv__Reply *reply = op->reply;

    switch (op->request->command_case) {
    case KV__REQUEST__COMMAND_GET:
    case KV__REQUEST__COMMAND_GETDEL:
        if (op->status == KV_NOT_FOUND || (reply && reply->get)) {
            see(touches, touch, op->status == 0 ? reply->get->kv : NULL, true);
        }
        break;
    case KV__REQUEST__COMMAND_GETSET:
        if (reply && reply->getset) {
            see(touches, touch, reply->getset->kv, true);
        }
        break;
    case KV__REQUEST__COMMAND_PUT:
        if (op->request->put->return_previous && reply && reply->put) {
            see(touches, touch, reply->put->previous, true);
        }
        break;
    case KV__REQUEST__COMMAND_COUNTER_GET:
        if (op->status == KV_NOT_FOUND) {
            touch->presence = KV_SEEN_ABSENT;
        } else if (reply && reply->counter_get) {
            touch->presence = KV_SEEN_PRESENT;
            touch->seen = kv_values_number(&touches->values, reply->counter_get->value);
        }
        break;
    default:
        break;
    }
}

static void add_single(struct kv_touches *touches,
                       const struct kv_history_op *op,
                       struct kv_op_info *info,
                       uint32_t key)
{
    struct kv_touch *touch = add_touch(touches, op, kind_of(op->request), key);
    size_t size;

    touch->argument = argument_of(touches, op->request);
    size = touch->argument ? touch->argument->bytes.size : 0;
    if (!touch->answered) {
        return;
    }
    see_single(touches, touch);
    if (op->status != 0) {
        return;
    }
    touch->changes =
        touch->kind == KV_TOUCH_PUT || touch->kind == KV_TOUCH_DELETE ||
        touch->kind == KV_TOUCH_COUNTER_ADD || touch->kind == KV_TOUCH_COUNTER_SET ||
        ((touch->kind == KV_TOUCH_APPEND || touch->kind == KV_TOUCH_SET_RANGE) && size > 0);
    info->changes = touch->changes;
    info->may_change = touch->kind == KV_TOUCH_APPEND && size == 0 &&
                       (!op->reply || !op->reply->append || op->reply->append->length == 0);
}

static const Kv__KeyValue *find_pair(size_t n, Kv__KeyValue *const *pairs, struct kv_slice key)
{
    for (size_t i = 0; i < n; i++) {
        if (kv_slice_equal(kv_model_slice(pairs[i]->key), key)) {
            return pairs[i];
        }
    }
    return NULL;
}

static void
add_delete_key(struct kv_touches *touches, const struct kv_history_op *op, uint32_t key, bool alone)
{
    const Kv__Delete *command = op->request->delete_;
    const Kv__DeleteResult *result = op->reply ? op->reply->delete_ : NULL;
    struct kv_touch *touch;

    for (size_t i = touches->infos[op - touches->history->ops].first; i < touches->n_touches; i++) {
        if (touches->touches[i].key == key) {
            return; /* named twice */
        }
    }
    touch = add_touch(touches, op, KV_TOUCH_DELETE, key);
    if (!touch->answered || !result) {
        return;
    }
    if (command->return_previous) {
        see(touches,
            touch,
            find_pair(result->n_previous, result->previous, touches->keys[key]),
            true);
    } else if (result->deleted == 0 || alone) {
        touch->presence = result->deleted == 0 ? KV_SEEN_ABSENT : KV_SEEN_PRESENT;
    }
    touch->changes = touch->presence == KV_SEEN_PRESENT;
}

static void
add_delete(struct kv_touches *touches, const struct kv_history_op *op, struct kv_op_info *info)
{
    const Kv__Delete *command = op->request->delete_;
    bool alone = command->n_keys == 1 && command->n_ranges == 0;
    uint32_t from, to;

    for (size_t i = 0; i < command->n_keys; i++) {
        add_delete_key(touches, op, key_number(touches, command->keys[i]), alone);
    }
    for (size_t i = 0; i < command->n_ranges; i++) {
        range_keys(touches, command->ranges[i], &from, &to);
        for (uint32_t key = from; key < to; key++) {
            add_delete_key(touches, op, key, false);
        }
    }
    info->changes = info->outcome == KV_OUTCOME_ANSWERED && op->status == 0 && op->reply &&
                    op->reply->delete_ && op->reply->delete_->deleted > 0;
    if (info->outcome == KV_OUTCOME_ANSWERED && op->reply && op->reply->delete_) {
        info->counted = (int64_t)op->reply->delete_->deleted;
    }
}

static void
add_exists(struct kv_touches *touches, const struct kv_history_op *op, struct kv_report *report)
{
    const Kv__Exists *command = op->request->exists;
    const Kv__ExistsResult *result = op->reply ? op->reply->exists : NULL;
    uint64_t count = 0;

    if (!result) {
        return;
    }
    if (result->n_present != command->n_keys) {
        kv_report_bad(report, NULL, "exists answers for another number of keys than it was asked");
        kv_report_add_op(report, touches->history, op);
        return;
    }
    for (size_t i = 0; i < command->n_keys; i++) {
        uint32_t key = key_number(touches, command->keys[i]);
        struct kv_touch *touch = add_touch(touches, op, KV_TOUCH_LOOK, key);

        touch->presence = result->present[i] ? KV_SEEN_PRESENT : KV_SEEN_ABSENT;
        count += result->present[i] != 0;
    }
    if (count != result->count) {
        kv_report_bad(report, NULL, "exists counts other keys than it says exist");
        kv_report_add_op(report, touches->history, op);
    }
}

/* --- ranges --- */

bool kv_range_is_plain(const Kv__Range *range)
{
    return !range->min_mod_revision && !range->max_mod_revision && !range->min_create_revision &&
           !range->max_create_revision;
}

/* The pairs of a reply or of all pieces, one after the other. */
struct pairs {
    const Kv__RangeResult *result;
    const struct kv_history_piece *rest;
    size_t next;
    uint64_t taken;
    bool more; /* of the last result */
};

static const Kv__KeyValue *peek_pair(struct pairs *pairs)
{
    while (pairs->result && pairs->next == pairs->result->n_kvs) {
        pairs->more = pairs->result->more;
        pairs->result = pairs->rest ? pairs->rest->result : NULL;
        pairs->rest = pairs->rest ? pairs->rest->next : NULL;
        pairs->next = 0;
    }
    return pairs->result ? pairs->result->kvs[pairs->next] : NULL;
}

static void add_range_key(struct kv_touches *touches,
                          const struct kv_history_op *op,
                          uint32_t key,
                          const Kv__KeyValue *pair,
                          struct kv_report *report)
{
    const Kv__Range *range = op->request->range;
    struct kv_touch *touch = add_touch(touches, op, KV_TOUCH_LOOK, key);

    if (pair && !kv_model_passes(range, pair->create_revision, pair->mod_revision)) {
        kv_report_bad(report, &touches->keys[key], "a range gives what its filters forbid");
        kv_report_add_op(report, touches->history, op);
    }
    if (!pair && !kv_range_is_plain(range)) {
        touch->kind = KV_TOUCH_FILTERED;
        return;
    }
    see(touches, touch, pair, !range->keys_only);
}

/* Goes through the keys of the range and the pairs of the reply side by side. */
static void add_range_keys(struct kv_touches *touches,
                           const struct kv_history_op *op,
                           uint32_t from,
                           uint32_t to,
                           struct kv_report *report)
{
    const Kv__Range *range = op->request->range;
    struct pairs pairs = {.result = op->reply ? op->reply->range : NULL, .rest = op->pieces};
    const Kv__KeyValue *pair;
    uint32_t pair_key;

    if (!pairs.result && pairs.rest) {
        pairs.result = pairs.rest->result;
        pairs.rest = pairs.rest->next;
    }
    pair = peek_pair(&pairs);
    pair_key = pair ? key_number(touches, pair->key) : 0;
    for (uint32_t i = from; i < to; i++) {
        uint32_t key = range->descending ? to - 1 - (i - from) : i;
        bool listed = pair && pair_key == key;

        if (range->cursor.len > 0) {
            int order = kv_slice_compare(touches->keys[key], kv_model_slice(range->cursor));

            if (range->descending ? order >= 0 : order <= 0) {
                continue;
            }
        }
        if (!pair && (pairs.more || (range->limit && pairs.taken >= range->limit))) {
            return; /* cut off: nothing is said of the rest */
        }
        add_range_key(touches, op, key, listed ? pair : NULL, report);
        if (listed) {
            pairs.next++;
            pairs.taken++;
            pair = peek_pair(&pairs);
            pair_key = pair ? key_number(touches, pair->key) : 0;
        }
    }
    if (pair) {
        kv_report_bad(report,
                      &touches->keys[pair_key],
                      "a range gives a key that is outside of it, twice, or out of order");
        kv_report_add_op(report, touches->history, op);
    }
    if (range->limit && pairs.taken > range->limit) {
        kv_report_bad(report, NULL, "a range gives more keys than its limit");
        kv_report_add_op(report, touches->history, op);
    }
}

/* The one revision of a range, or 0. */
static int64_t
range_revision(struct kv_touches *touches, const struct kv_history_op *op, struct kv_report *report)
{
    const Kv__RangeResult *result = op->reply ? op->reply->range : NULL;
    int64_t revision = result ? result->revision : op->pieces ? op->pieces->revision : 0;
    int64_t wanted = op->request->range->at_revision;

    for (const struct kv_history_piece *piece = op->pieces; piece; piece = piece->next) {
        if (piece->revision != revision || piece->result->revision != revision) {
            const Kv__KeyValue *pair = piece->result->n_kvs > 0 ? piece->result->kvs[0] : NULL;

            kv_report_bad(report,
                          pair ? &touches->keys[key_number(touches, pair->key)] : NULL,
                          "pieces of one range are of two revisions, %" PRId64 " and %" PRId64,
                          revision,
                          piece->revision);
            kv_report_add_op(report, touches->history, op);
            break;
        }
    }
    wanted = wanted == 0 && result ? op->reply->revision : wanted;
    if (wanted != 0 && revision != wanted) {
        kv_report_bad(report,
                      NULL,
                      "a range that must be of revision %" PRId64 " is of %" PRId64,
                      wanted,
                      revision);
        kv_report_add_op(report, touches->history, op);
    }
    return revision;
}

static void add_range(struct kv_touches *touches,
                      const struct kv_history_op *op,
                      struct kv_op_info *info,
                      struct kv_report *report)
{
    const Kv__Range *range = op->request->range;
    uint32_t from, to;

    if (!op->pieces && !(op->reply && op->reply->range)) {
        return;
    }
    info->state_revision = range_revision(touches, op, report);
    if (range->stream) {
        info->answer_revision = range->at_revision ? 0 : info->state_revision;
    }
    range_keys(touches, range->range, &from, &to);
    if (range->count_only) {
        info->key_from = from;
        info->key_to = to;
        info->counted = op->reply ? (int64_t)op->reply->range->count : -1;
        return;
    }
    add_range_keys(touches, op, from, to, report);
}

/* --- operations --- */

static int64_t asked_revision(const Kv__Request *request)
{
    switch (request->command_case) {
    case KV__REQUEST__COMMAND_GET:
        return request->get->at_revision;
    case KV__REQUEST__COMMAND_STRLEN:
        return request->strlen->at_revision;
    case KV__REQUEST__COMMAND_GET_RANGE:
        return request->get_range->at_revision;
    case KV__REQUEST__COMMAND_EXISTS:
        return request->exists->at_revision;
    case KV__REQUEST__COMMAND_COUNTER_GET:
        return request->counter_get->at_revision;
    case KV__REQUEST__COMMAND_COUNT:
        return request->count->at_revision;
    case KV__REQUEST__COMMAND_RANGE:
        return request->range->at_revision;
    default:
        return 0;
    }
}

static void add_multi(struct kv_touches *touches,
                      const struct kv_history_op *op,
                      struct kv_op_info *info,
                      struct kv_report *report)
{
    switch (op->request->command_case) {
    case KV__REQUEST__COMMAND_DELETE:
        add_delete(touches, op, info);
        break;
    case KV__REQUEST__COMMAND_EXISTS:
        add_exists(touches, op, report);
        break;
    case KV__REQUEST__COMMAND_COUNT:
        if (op->reply && op->reply->count) {
            range_keys(touches, op->request->count->range, &info->key_from, &info->key_to);
            info->counted = (int64_t)op->reply->count->count;
        }
        break;
    case KV__REQUEST__COMMAND_RANGE:
        add_range(touches, op, info, report);
        break;
    default:
        break; /* settings, cluster, what the model does not follow: no keys */
    }
}

/* A revision that was refused as not reached must be beyond the one that was. */
static void check_future(const struct kv_touches *touches,
                         const struct kv_history_op *op,
                         struct kv_report *report)
{
    int64_t asked = asked_revision(op->request);

    if (asked != 0 && op->reply && op->reply->revision != 0 && asked <= op->reply->revision) {
        kv_report_bad(report, NULL, "a revision that is reached was refused as not reached");
        kv_report_add_op(report, touches->history, op);
    }
}

static void
add_op(struct kv_touches *touches, const struct kv_history_op *op, struct kv_report *report)
{
    struct kv_op_info *info = &touches->infos[op - touches->history->ops];
    const ProtobufCBinaryData *key = single_key(op->request);
    int64_t asked = asked_revision(op->request);

    info->first = touches->n_touches;
    info->counted = -1;
    info->outcome = kv_history_outcome(op);
    info->is_write = kv_history_is_write(op);
    info->at_revision = asked != 0;
    info->foreign = kv_history_is_foreign(op);
    if (info->outcome == KV_OUTCOME_NOTHING ||
        (info->outcome == KV_OUTCOME_OPEN && !info->is_write)) {
        info->outcome = KV_OUTCOME_NOTHING;
        return;
    }
    if (info->outcome == KV_OUTCOME_ANSWERED && op->reply) {
        info->answer_revision = op->reply->revision;
        info->state_revision = asked ? asked : op->reply->revision;
    }
    if (info->outcome == KV_OUTCOME_ANSWERED && op->status == KV_FUTURE_REVISION) {
        check_future(touches, op, report);
        info->state_revision = 0;
        return;
    }
    if (key) {
        add_single(touches, op, info, key_number(touches, *key));
    } else {
        add_multi(touches, op, info, report);
    }
}

void kv_touches_init(struct kv_touches *touches,
                     const struct kv_history *history,
                     size_t max_touches,
                     struct kv_report *report)
{
    *touches = (struct kv_touches){.history = history, .max_touches = max_touches};
    kv_values_init(&touches->values);
    touches->infos = allocate(history->n_ops, sizeof *touches->infos);
    grow_keys(touches);
    for (size_t i = 0; i < history->n_ops; i++) {
        add_keys(touches, &history->ops[i]);
    }
    sort_keys(touches);
    for (size_t i = 0; i < history->n_ops; i++) {
        add_op(touches, &history->ops[i], report);
    }
    report->n_touches = touches->n_touches;
}

void kv_touches_deinit(struct kv_touches *touches)
{
    kv_values_deinit(&touches->values);
    free(touches->slots);
    free(touches->keys);
    free(touches->touches);
    free(touches->infos);
}
