/* Naive model of the store: what one key holds, and what a command does to it. Written from
 * kv.proto, not from server/machine, so that the two can disagree.
 *
 * Parts of a state may be unknown (a write of unknown outcome may or may not have been done); what
 * a reply tells of them is learned. Not thread safe. */
#ifndef KV_TESTS_SIM_MODEL_H
#define KV_TESTS_SIM_MODEL_H

#include "common/arena.h"
#include "common/bytes.h"
#include "tests/sim/history.h"

/* Values are kept once: equal bytes are the same pointer. */
struct kv_value {
    struct kv_slice bytes;
    uint64_t hash;
    uint64_t number;
};
struct kv_values {
    struct kv_value **slots;
    size_t capacity; /* power of two */
    size_t count;
    struct kv_arena arena;
    struct kv_buf scratch;
};
void kv_values_init(struct kv_values *values);
void kv_values_deinit(struct kv_values *values);
/* The bytes are copied when they are new. Without memory the process ends. */
const struct kv_value *kv_values_intern(struct kv_values *values, struct kv_slice bytes);

/* What a counter holds. */
const struct kv_value *kv_values_number(struct kv_values *values, int64_t number);

enum kv_presence { KV_PRESENCE_ABSENT, KV_PRESENCE_PRESENT, KV_PRESENCE_UNKNOWN };

/* One key. NULL and 0: unknown. */
struct kv_key_state {
    enum kv_presence presence;
    const struct kv_value *value;
    int64_t create;
    int64_t version;
    int64_t mod;     /* revision of the last change, a delete included */
    int64_t mod_min; /* mod is at least this, while it is unknown */
};
/* Of the empty store. */
void kv_key_state_init(struct kv_key_state *ret_state);
/* Nothing is known. */
void kv_key_state_forget(struct kv_key_state *ret_state);
bool kv_key_state_equal(const struct kv_key_state *a, const struct kv_key_state *b);
/* The latest revision that the last change is known to have reached. */
int64_t kv_key_state_floor(const struct kv_key_state *state);
void kv_key_state_describe(const struct kv_key_state *state, char *ret_text, size_t size);

enum kv_touch_kind {
    KV_TOUCH_LOOK,     /* get, exists, a key of a range: says what is there */
    KV_TOUCH_FILTERED, /* is not in the result of a range with filters: absent, or filtered out */
    KV_TOUCH_LENGTH,
    KV_TOUCH_SLICE,
    KV_TOUCH_PUT, /* and getset */
    KV_TOUCH_APPEND,
    KV_TOUCH_SET_RANGE,
    KV_TOUCH_COUNTER_ADD,
    KV_TOUCH_COUNTER_SET,
    KV_TOUCH_DELETE, /* getdel, and each key of a delete */
};
enum kv_seen { KV_SEEN_NOTHING, KV_SEEN_ABSENT, KV_SEEN_PRESENT };

/* What one operation does to one key, and what its reply says of it. */
struct kv_touch {
    const struct kv_history_op *op;
    const Kv__KeyValue *pair;        /* seen before the change; NULL: presence only */
    const struct kv_value *seen;     /* its value; NULL: not told */
    const struct kv_value *argument; /* put, append, set range, counter set */
    uint32_t key;
    uint8_t kind;
    uint8_t presence; /* enum kv_seen */
    bool answered;    /* false: of unknown outcome, the reply says nothing */
    bool changes;     /* surely, when it was answered */
};

enum kv_step {
    KV_STEP_MISMATCH, /* the reply does not fit the state */
    KV_STEP_SAME,
    KV_STEP_LEARNED, /* nothing was changed, but more is known now */
    KV_STEP_CHANGED,
};
/* What becomes of the state. revision: of the change; 0: unknown, but at least revision_min. */
enum kv_step kv_model_step(struct kv_values *values,
                           const struct kv_touch *touch,
                           int64_t revision,
                           int64_t revision_min,
                           const struct kv_key_state *state,
                           struct kv_key_state *ret_next);

/* May the pair be in the result of the range, by its filters? Unknown revisions (0) may. */
bool kv_model_passes(const Kv__Range *range, int64_t create, int64_t mod);

static inline struct kv_slice kv_model_slice(ProtobufCBinaryData data)
{
    return (struct kv_slice){data.data, data.len};
}

#endif
