#include "tests/sim/model.h"

#include "common/assert.h"
#include "common/limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { VALUES_CAPACITY_MIN = 1024 };
/* Counters are on keys of their own: no string is taken for one. */
#define NUMBER_PREFIX "counter "
#define VALUES_BYTES_MAX (1024 * KV_MIB) /* of appended values, which each order makes anew */

void kv_values_init(struct kv_values *values)
{
    *values = (struct kv_values){.capacity = VALUES_CAPACITY_MIN};
    values->slots = calloc(values->capacity, sizeof(struct kv_value *));
    KV_ASSERT(values->slots);
    kv_arena_init(&values->arena, VALUES_BYTES_MAX);
    kv_buf_init(&values->scratch, KV_REQUEST_BYTES_MAX);
}

void kv_values_deinit(struct kv_values *values)
{
    free(values->slots);
    kv_arena_deinit(&values->arena);
    kv_buf_deinit(&values->scratch);
}

static size_t find_slot(const struct kv_values *values, struct kv_slice bytes, uint64_t hash)
{
    size_t i = (size_t)hash & (values->capacity - 1);

    while (values->slots[i] &&
           (values->slots[i]->hash != hash || !kv_slice_equal(values->slots[i]->bytes, bytes))) {
        i = (i + 1) & (values->capacity - 1);
    }
    return i;
}

static void grow_values(struct kv_values *values)
{
    struct kv_value **old = values->slots;
    size_t old_capacity = values->capacity;

    values->capacity *= 2;
    values->slots = calloc(values->capacity, sizeof(struct kv_value *));
    KV_ASSERT(values->slots);
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i]) {
            values->slots[find_slot(values, old[i]->bytes, old[i]->hash)] = old[i];
        }
    }
    free(old);
}

const struct kv_value *kv_values_intern(struct kv_values *values, struct kv_slice bytes)
{
    uint64_t hash = XXH3_64bits(bytes.size ? (const void *)bytes.data : "", bytes.size);
    size_t slot = find_slot(values, bytes, hash);
    struct kv_value *value;

    if (values->slots[slot]) {
        return values->slots[slot];
    }
    if (2 * ++values->count > values->capacity) {
        grow_values(values);
        slot = find_slot(values, bytes, hash);
    }
    value = kv_arena_alloc(&values->arena, sizeof *value + bytes.size);
    KV_ASSERT(value);
    *value = (struct kv_value){{(uint8_t *)(value + 1), bytes.size}, hash, values->count};
    if (bytes.size > 0) {
        memcpy(value + 1, bytes.data, bytes.size);
    }
    values->slots[slot] = value;
    return value;
}

const struct kv_value *kv_values_number(struct kv_values *values, int64_t number)
{
    char text[sizeof NUMBER_PREFIX + 24];
    int size = snprintf(text, sizeof text, NUMBER_PREFIX "%" PRId64, number);

    return kv_values_intern(values, kv_slice_of(text, (size_t)size));
}

/* False: it is none. */
static bool number_of(const struct kv_value *value, int64_t *ret_number)
{
    char text[sizeof NUMBER_PREFIX + 24] = "";
    size_t prefix = strlen(NUMBER_PREFIX);

    if (value->bytes.size >= sizeof text || value->bytes.size < prefix ||
        memcmp(value->bytes.data, NUMBER_PREFIX, prefix) != 0) {
        return false;
    }
    memcpy(text, value->bytes.data, value->bytes.size);
    *ret_number = strtoll(text + prefix, NULL, 10);
    return true;
}

void kv_key_state_init(struct kv_key_state *ret_state)
{
    *ret_state = (struct kv_key_state){.presence = KV_PRESENCE_ABSENT, .mod = KV_REVISION_FIRST};
}

void kv_key_state_forget(struct kv_key_state *ret_state)
{
    *ret_state = (struct kv_key_state){.presence = KV_PRESENCE_UNKNOWN};
}

bool kv_key_state_equal(const struct kv_key_state *a, const struct kv_key_state *b)
{
    return a->presence == b->presence && a->value == b->value && a->create == b->create &&
           a->version == b->version && a->mod == b->mod && a->mod_min == b->mod_min;
}

int64_t kv_key_state_floor(const struct kv_key_state *state)
{
    return state->mod ? state->mod : state->mod_min;
}

void kv_key_state_describe(const struct kv_key_state *state, char *ret_text, size_t size)
{
    char value[192] = "an unknown value";

    if (state->presence == KV_PRESENCE_UNKNOWN) {
        snprintf(ret_text, size, "something unknown");
        return;
    }
    if (state->presence == KV_PRESENCE_ABSENT) {
        snprintf(ret_text, size, "nothing (since revision %" PRId64 ")", state->mod);
        return;
    }
    if (state->value) {
        kv_history_quote(state->value->bytes, value, sizeof value);
    }
    snprintf(ret_text,
             size,
             "%s (version %" PRId64 ", created at %" PRId64 ", mod_revision %" PRId64 ")",
             value,
             state->version,
             state->create,
             state->mod);
}

/* Known and different. */
static bool differs(int64_t *known, int64_t seen)
{
    if (*known == 0) {
        *known = seen;
        return false;
    }
    return seen != 0 && *known != seen;
}

static bool match_value(const struct kv_touch *touch, struct kv_key_state *state)
{
    if (touch->seen) {
        if (state->value && state->value != touch->seen) {
            return false;
        }
        state->value = touch->seen;
    }
    return true;
}

static bool match_pair(const struct kv_touch *touch, struct kv_key_state *state)
{
    const Kv__KeyValue *pair = touch->pair;

    if (state->mod == 0 && pair->mod_revision < state->mod_min) {
        return false;
    }
    if (differs(&state->create, pair->create_revision) || differs(&state->version, pair->version) ||
        differs(&state->mod, pair->mod_revision)) {
        return false;
    }
    state->mod_min = 0;
    return state->create <= state->mod;
}

/* What the reply says was there must be; what was not known of it is then. */
static bool match_seen(const struct kv_touch *touch, struct kv_key_state *state)
{
    if (touch->presence == KV_SEEN_NOTHING) {
        return true;
    }
    if (touch->presence == KV_SEEN_ABSENT) {
        if (state->presence == KV_PRESENCE_PRESENT) {
            return false;
        }
        state->presence = KV_PRESENCE_ABSENT;
        return true;
    }
    if (state->presence == KV_PRESENCE_ABSENT) {
        return false;
    }
    state->presence = KV_PRESENCE_PRESENT;
    return match_value(touch, state) && (!touch->pair || match_pair(touch, state));
}

bool kv_model_passes(const Kv__Range *range, int64_t create, int64_t mod)
{
    return (mod == 0 || ((range->min_mod_revision == 0 || mod >= range->min_mod_revision) &&
                         (range->max_mod_revision == 0 || mod <= range->max_mod_revision))) &&
           (create == 0 ||
            ((range->min_create_revision == 0 || create >= range->min_create_revision) &&
             (range->max_create_revision == 0 || create <= range->max_create_revision)));
}

/* A change at the revision; false: the state is of a later one. */
static bool move(struct kv_key_state *state, int64_t revision, int64_t revision_min)
{
    if (revision != 0 && revision <= kv_key_state_floor(state)) {
        return false;
    }
    state->mod = revision;
    state->mod_min = revision ? 0 : revision_min;
    return true;
}

/* version: that the reply told; 0: not told. */
static enum kv_step set_value(struct kv_key_state *state,
                              const struct kv_value *value,
                              int64_t version,
                              int64_t revision,
                              int64_t revision_min)
{
    bool was_there = state->presence == KV_PRESENCE_PRESENT;

    if (!move(state, revision, revision_min)) {
        return KV_STEP_MISMATCH;
    }
    switch (state->presence) {
    case KV_PRESENCE_ABSENT:
        state->create = revision;
        state->version = 1;
        break;
    case KV_PRESENCE_PRESENT:
        state->version += state->version != 0;
        break;
    case KV_PRESENCE_UNKNOWN:
        state->create = version == 1 ? revision : 0;
        state->version = 0;
        break;
    }
    if (version != 0 && ((was_there && version == 1) || differs(&state->version, version))) {
        return KV_STEP_MISMATCH;
    }
    state->presence = KV_PRESENCE_PRESENT;
    state->value = value;
    return KV_STEP_CHANGED;
}

enum condition { CONDITION_MET, CONDITION_NOT_MET, CONDITION_OPEN };

static enum condition check_presence(const struct kv_key_state *state, enum kv_presence wanted)
{
    return state->presence == KV_PRESENCE_UNKNOWN ? CONDITION_OPEN
           : state->presence == wanted            ? CONDITION_MET
                                                  : CONDITION_NOT_MET;
}

static enum condition check_condition(const Kv__Put *put, const struct kv_key_state *state)
{
    switch (put->condition_case) {
    case KV__PUT__CONDITION_IF_ABSENT:
        return put->if_absent ? check_presence(state, KV_PRESENCE_ABSENT) : CONDITION_MET;
    case KV__PUT__CONDITION_IF_PRESENT:
        return put->if_present ? check_presence(state, KV_PRESENCE_PRESENT) : CONDITION_MET;
    case KV__PUT__CONDITION_IF_MOD_REVISION:
        if (put->if_mod_revision == 0 || state->presence == KV_PRESENCE_ABSENT) {
            return put->if_mod_revision == 0 ? check_presence(state, KV_PRESENCE_ABSENT)
                                             : CONDITION_NOT_MET;
        }
        if (state->presence == KV_PRESENCE_UNKNOWN || state->mod == 0) {
            return put->if_mod_revision < state->mod_min ? CONDITION_NOT_MET : CONDITION_OPEN;
        }
        return state->mod == put->if_mod_revision ? CONDITION_MET : CONDITION_NOT_MET;
    case KV__PUT__CONDITION_IF_VALUE:
        if (state->presence == KV_PRESENCE_UNKNOWN ||
            (state->presence == KV_PRESENCE_PRESENT && !state->value)) {
            return CONDITION_OPEN;
        }
        return state->presence == KV_PRESENCE_PRESENT &&
                       kv_slice_equal(state->value->bytes, kv_model_slice(put->if_value))
                   ? CONDITION_MET
                   : CONDITION_NOT_MET;
    default:
        return CONDITION_MET;
    }
}

/* The condition was open: its answer tells what was there. */
static void learn_condition(const Kv__Put *put, bool met, struct kv_key_state *state)
{
    switch (put->condition_case) {
    case KV__PUT__CONDITION_IF_ABSENT:
        state->presence = met ? KV_PRESENCE_ABSENT : KV_PRESENCE_PRESENT;
        break;
    case KV__PUT__CONDITION_IF_PRESENT:
        state->presence = met ? KV_PRESENCE_PRESENT : KV_PRESENCE_ABSENT;
        break;
    case KV__PUT__CONDITION_IF_MOD_REVISION:
        if (put->if_mod_revision == 0) {
            state->presence = met ? KV_PRESENCE_ABSENT : KV_PRESENCE_PRESENT;
        } else if (met) {
            state->presence = KV_PRESENCE_PRESENT;
            state->mod = put->if_mod_revision;
            state->mod_min = 0;
        }
        break;
    case KV__PUT__CONDITION_IF_VALUE:
        state->presence = met ? KV_PRESENCE_PRESENT : state->presence;
        break;
    default:
        break;
    }
}

/* The code that a put gets when its condition is not met. */
static int refusal(const Kv__Put *put)
{
    switch (put->condition_case) {
    case KV__PUT__CONDITION_IF_ABSENT:
        return KV_EXISTS;
    case KV__PUT__CONDITION_IF_PRESENT:
        return KV_NOT_FOUND;
    default:
        return KV_CONDITION_FAILED;
    }
}

static enum kv_step step_put(const struct kv_touch *touch,
                             int64_t revision,
                             int64_t revision_min,
                             struct kv_key_state *state)
{
    const struct kv_history_op *op = touch->op;
    const Kv__Put *put =
        op->request->command_case == KV__REQUEST__COMMAND_PUT ? op->request->put : NULL;
    enum condition condition = put ? check_condition(put, state) : CONDITION_MET;
    bool refused = touch->answered && op->status != 0;
    int64_t version = 0;

    if (!touch->answered && condition == CONDITION_NOT_MET) {
        return KV_STEP_SAME;
    }
    if (touch->answered && condition == (refused ? CONDITION_MET : CONDITION_NOT_MET)) {
        return KV_STEP_MISMATCH;
    }
    if (refused && (!put || op->status != refusal(put))) {
        return KV_STEP_MISMATCH;
    }
    if (touch->answered && condition == CONDITION_OPEN) {
        learn_condition(put, !refused, state);
    }
    if (refused) {
        return KV_STEP_SAME;
    }
    if (touch->answered && put && op->reply && op->reply->put) {
        version = op->reply->put->version;
    }
    return set_value(state, touch->argument, version, revision, revision_min);
}

static struct kv_slice bytes_of(const struct kv_key_state *state)
{
    return state->presence == KV_PRESENCE_PRESENT ? state->value->bytes : kv_slice_of(NULL, 0);
}

/* Is the content known? Nothing is a content, too. */
static bool is_known(const struct kv_key_state *state)
{
    return state->presence == KV_PRESENCE_ABSENT ||
           (state->presence == KV_PRESENCE_PRESENT && state->value);
}

static const struct kv_value *
overwrite(struct kv_values *values, struct kv_slice old, uint64_t offset, struct kv_slice bytes)
{
    size_t end = (size_t)offset + bytes.size;
    size_t size = end > old.size ? end : old.size;
    uint8_t *memory;

    if (old.size == 0 && offset == 0) {
        return kv_values_intern(values, bytes);
    }
    kv_buf_clear(&values->scratch);
    memory = kv_buf_reserve(&values->scratch, size);
    KV_ASSERT(memory);
    memset(memory, 0, size);
    if (old.size > 0) {
        memcpy(memory, old.data, old.size);
    }
    memcpy(memory + offset, bytes.data, bytes.size);
    return kv_values_intern(values, kv_slice_of(memory, size));
}

/* Append, and set range: an append is one at the end. */
static enum kv_step step_splice(struct kv_values *values,
                                const struct kv_touch *touch,
                                int64_t revision,
                                int64_t revision_min,
                                struct kv_key_state *state)
{
    struct kv_slice argument = touch->argument->bytes;
    bool is_append = touch->kind == KV_TOUCH_APPEND;
    bool known = is_known(state);
    struct kv_slice old = known ? bytes_of(state) : kv_slice_of(NULL, 0);
    uint64_t offset = is_append ? old.size : touch->op->request->set_range->offset;
    uint64_t length =
        argument.size == 0 || offset + argument.size < old.size ? old.size : offset + argument.size;

    if (touch->answered && touch->op->reply && touch->op->reply->append) {
        uint64_t told = touch->op->reply->append->length;

        if (known ? told != length : told < length) {
            return KV_STEP_MISMATCH;
        }
    }
    if (argument.size == 0 && (!is_append || state->presence == KV_PRESENCE_PRESENT)) {
        return KV_STEP_SAME;
    }
    /* One that nobody knows the end of may have made the key; that it left it alone is allowed for
     * by leaving it out. */
    if (argument.size == 0 && state->presence == KV_PRESENCE_UNKNOWN && touch->answered) {
        state->presence = KV_PRESENCE_PRESENT;
        return KV_STEP_SAME;
    }
    return set_value(
        state, known ? overwrite(values, old, offset, argument) : NULL, 0, revision, revision_min);
}

/* What the number becomes; else the refusal that is due. */
static int add(const Kv__CounterAdd *command, int64_t before, int64_t *ret_after)
{
    int64_t delta = command->delta;

    if (delta > 0 ? before > INT64_MAX - delta : before < INT64_MIN - delta) {
        return KV_OVERFLOW;
    }
    *ret_after = before + delta;
    return (command->min && *ret_after < command->min->value) ||
                   (command->max && *ret_after > command->max->value)
               ? KV_OUT_OF_BOUNDS
               : 0;
}

static enum kv_step step_add(struct kv_values *values,
                             const struct kv_touch *touch,
                             int64_t revision,
                             int64_t revision_min,
                             struct kv_key_state *state)
{
    const Kv__CounterAdd *command = touch->op->request->counter_add;
    const Kv__Reply *reply = touch->op->reply;
    int64_t before = command->initial;
    int64_t after = 0;
    bool known = state->presence == KV_PRESENCE_ABSENT ||
                 (is_known(state) && number_of(state->value, &before));
    int status = known ? add(command, before, &after) : touch->answered ? touch->op->status : 0;
    const struct kv_value *value = known ? kv_values_number(values, after) : NULL;

    if (touch->answered && status != touch->op->status) {
        return KV_STEP_MISMATCH;
    }
    if (status != 0) {
        return KV_STEP_SAME;
    }
    if (touch->answered && reply && reply->counter_add) {
        const struct kv_value *told = kv_values_number(values, reply->counter_add->value);

        if (value && told != value) {
            return KV_STEP_MISMATCH;
        }
        value = told;
    }
    return set_value(state, value, 0, revision, revision_min);
}

static enum kv_step
step_delete(struct kv_key_state *state, bool sure, int64_t revision, int64_t revision_min)
{
    int64_t floor = kv_key_state_floor(state);

    if (state->presence == KV_PRESENCE_ABSENT) {
        return KV_STEP_SAME;
    }
    if (!move(state, revision, revision_min)) {
        return KV_STEP_MISMATCH;
    }
    if (!sure && state->presence == KV_PRESENCE_UNKNOWN) {
        state->mod = 0;
        state->mod_min = floor;
    }
    state->presence = KV_PRESENCE_ABSENT;
    state->value = NULL;
    state->create = state->version = 0;
    return KV_STEP_CHANGED;
}

static bool match_slice(const struct kv_touch *touch, const struct kv_key_state *state)
{
    const Kv__GetRange *command = touch->op->request->get_range;
    struct kv_slice bytes = bytes_of(state);
    int64_t size = (int64_t)bytes.size;
    int64_t first = command->first < 0 ? command->first + size : command->first;
    int64_t last = command->last < 0 ? command->last + size : command->last;
    struct kv_slice wanted = {NULL, 0};

    first = first < 0 ? 0 : first;
    last = last >= size ? size - 1 : last;
    if (first <= last) {
        wanted = kv_slice_of(bytes.data + first, (size_t)(last - first + 1));
    }
    return !touch->op->reply || !touch->op->reply->get_range ||
           kv_slice_equal(wanted, kv_model_slice(touch->op->reply->get_range->value));
}

/* Length and slice: nothing to learn, something to contradict. */
static bool match_content(const struct kv_touch *touch, const struct kv_key_state *state)
{
    const Kv__Reply *reply = touch->op->reply;

    if (!is_known(state)) {
        return true;
    }
    if (touch->kind == KV_TOUCH_SLICE) {
        return match_slice(touch, state);
    }
    return !reply || !reply->strlen || reply->strlen->length == bytes_of(state).size;
}

enum kv_step kv_model_step(struct kv_values *values,
                           const struct kv_touch *touch,
                           int64_t revision,
                           int64_t revision_min,
                           const struct kv_key_state *state,
                           struct kv_key_state *ret_next)
{
    enum kv_step step = KV_STEP_SAME;

    *ret_next = *state;
    if (touch->answered && !match_seen(touch, ret_next)) {
        return KV_STEP_MISMATCH;
    }
    switch ((enum kv_touch_kind)touch->kind) {
    case KV_TOUCH_LOOK:
        break;
    case KV_TOUCH_FILTERED:
        if (state->presence == KV_PRESENCE_PRESENT && state->mod != 0 && state->create != 0 &&
            kv_model_passes(touch->op->request->range, state->create, state->mod)) {
            return KV_STEP_MISMATCH;
        }
        break;
    case KV_TOUCH_LENGTH:
    case KV_TOUCH_SLICE:
        if (!match_content(touch, ret_next)) {
            return KV_STEP_MISMATCH;
        }
        break;
    case KV_TOUCH_PUT:
        step = step_put(touch, revision, revision_min, ret_next);
        break;
    case KV_TOUCH_APPEND:
    case KV_TOUCH_SET_RANGE:
        step = step_splice(values, touch, revision, revision_min, ret_next);
        break;
    case KV_TOUCH_COUNTER_ADD:
        step = step_add(values, touch, revision, revision_min, ret_next);
        break;
    case KV_TOUCH_COUNTER_SET:
        step = set_value(ret_next, touch->argument, 0, revision, revision_min);
        break;
    case KV_TOUCH_DELETE:
        step = step_delete(ret_next, touch->presence == KV_SEEN_PRESENT, revision, revision_min);
        break;
    }
    if (step == KV_STEP_SAME && !kv_key_state_equal(state, ret_next)) {
        return KV_STEP_LEARNED;
    }
    return step;
}
