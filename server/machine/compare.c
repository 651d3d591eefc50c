/* Compares of a transaction: of one key, or of every key in a range. */
#include "server/machine/command.h"
#include "server/machine/map.h"
#include "server/machine/zset_index.h"

#include <math.h>

/* ---------------------------------------------------------------- without the state */

static int check_operand(const Kv__Compare *compare, struct kv_error *ret_error)
{
    switch (compare->operand_case) {
    case KV__COMPARE__OPERAND__NOT_SET:
        return kv_error_set(ret_error, KV_INVALID, "nothing to compare with is set");
    case KV__COMPARE__OPERAND_TYPE:
        return compare->type >= KV__TYPE__TYPE_NONE && compare->type <= KV__TYPE__TYPE_LIMITER
                   ? 0
                   : kv_error_set(ret_error, KV_INVALID, "unknown type %d", (int)compare->type);
    case KV__COMPARE__OPERAND_HASH_FIELD:
        return kv_check_names(&compare->hash_field->field, 1, "field", false, ret_error);
    case KV__COMPARE__OPERAND_SET_MEMBER:
        return kv_check_names(&compare->set_member, 1, "member", false, ret_error);
    case KV__COMPARE__OPERAND_ZSET_SCORE:
        if (isnan(compare->zset_score->score)) {
            return kv_error_set(ret_error, KV_INVALID, "the score is not a number");
        }
        return kv_check_names(&compare->zset_score->member, 1, "member", false, ret_error);
    default:
        return 0;
    }
}

int kv_check_compare(const Kv__Compare *compare, struct kv_error *ret_error)
{
    const bool has_order = compare->operand_case != KV__COMPARE__OPERAND_TYPE &&
                           compare->operand_case != KV__COMPARE__OPERAND_EXISTS &&
                           compare->operand_case != KV__COMPARE__OPERAND_SET_MEMBER;
    int status = kv_check_range(compare->range, ret_error);

    if (status == 0) {
        status = check_operand(compare, ret_error);
    }
    if (status != 0) {
        return status;
    }
    if (compare->comparison < KV__COMPARISON__COMPARE_EQUAL ||
        compare->comparison > KV__COMPARISON__COMPARE_GREATER_EQUAL) {
        return kv_error_set(
            ret_error, KV_INVALID, "unknown comparison %d", (int)compare->comparison);
    }
    if (!has_order && compare->comparison > KV__COMPARISON__COMPARE_NOT_EQUAL) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "type, existence and members have no order: compare for equal or not "
                            "equal");
    }
    return 0;
}

/* ---------------------------------------------------------------- on the state */

/* order: below, at or above 0, as of what is there against what is asked for. */
static bool holds(Kv__Comparison comparison, int order)
{
    switch (comparison) {
    case KV__COMPARISON__COMPARE_EQUAL:
        return order == 0;
    case KV__COMPARISON__COMPARE_NOT_EQUAL:
        return order != 0;
    case KV__COMPARISON__COMPARE_LESS:
        return order < 0;
    case KV__COMPARISON__COMPARE_LESS_EQUAL:
        return order <= 0;
    case KV__COMPARISON__COMPARE_GREATER:
        return order > 0;
    default:
        return order >= 0;
    }
}

static int order_of(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static bool find_score(struct kv_collection *set, struct kv_slice member, double *ret_score)
{
    const struct kv_record *record;
    struct kv_element element;
    size_t at = kv_packed_first();

    if (set->is_large) {
        record = kv_element_find(set, member);
        *ret_score = record ? kv_zset_score_of(record) : 0;
        return record != NULL;
    }
    while ((at = kv_packed_get(&set->packed, at, &element)) > 0) {
        if (kv_slice_equal(element.name, member)) {
            *ret_score = element.score;
            return true;
        }
    }
    return false;
}

/* Of a key that is no collection of the type, nothing holds. */
static bool open_collection(struct kv_machine *machine,
                            const struct kv_record *record,
                            enum kv_type type,
                            struct kv_collection *ret_collection)
{
    struct kv_answer unused;

    return record && record->type == type &&
           kv_collection_open(machine, kv_record_key(record), type, 0, &unused, ret_collection) ==
               0;
}

static bool compare_collection(struct kv_machine *machine,
                               const Kv__Compare *compare,
                               const struct kv_record *record)
{
    struct kv_collection collection;
    struct kv_slice value = {0};
    double score = 0;
    bool found;

    switch (compare->operand_case) {
    case KV__COMPARE__OPERAND_HASH_FIELD:
        return open_collection(machine, record, KV_TYPE_HASH, &collection) &&
               kv_map_find(&collection, kv_slice_of_proto(compare->hash_field->field), &value) &&
               holds(compare->comparison,
                     kv_slice_compare(value, kv_slice_of_proto(compare->hash_field->value)));
    case KV__COMPARE__OPERAND_SET_MEMBER:
        if (!open_collection(machine, record, KV_TYPE_SET, &collection)) {
            return false;
        }
        found = kv_map_find(&collection, kv_slice_of_proto(compare->set_member), &value);
        return found == (compare->comparison == KV__COMPARISON__COMPARE_EQUAL);
    default:
        if (!open_collection(machine, record, KV_TYPE_ZSET, &collection) ||
            !find_score(&collection, kv_slice_of_proto(compare->zset_score->member), &score)) {
            return false;
        }
        return holds(compare->comparison,
                     (score > compare->zset_score->score) - (score < compare->zset_score->score));
    }
}

/* record NULL: the key is absent. */
static bool
compare_key(struct kv_machine *machine, const Kv__Compare *compare, const struct kv_record *record)
{
    const Kv__Comparison comparison = compare->comparison;
    Kv__KeyValue kv = KV__KEY_VALUE__INIT;

    if (record) {
        kv_key_value_fill(&kv, record, false);
    }
    switch (compare->operand_case) {
    case KV__COMPARE__OPERAND_VALUE:
        return record && record->type == KV_TYPE_STRING &&
               holds(comparison,
                     kv_slice_compare(kv_record_value(record), kv_slice_of_proto(compare->value)));
    case KV__COMPARE__OPERAND_COUNTER:
        return record && record->type == KV_TYPE_COUNTER &&
               holds(comparison, order_of(kv.counter, compare->counter));
    case KV__COMPARE__OPERAND_VERSION:
        return holds(comparison, order_of(kv.version, compare->version));
    case KV__COMPARE__OPERAND_CREATE_REVISION:
        return holds(comparison, order_of(kv.create_revision, compare->create_revision));
    case KV__COMPARE__OPERAND_MOD_REVISION:
        return holds(comparison, order_of(kv.mod_revision, compare->mod_revision));
    case KV__COMPARE__OPERAND_LEASE_ID:
        return holds(comparison, order_of(kv.lease_id, compare->lease_id));
    case KV__COMPARE__OPERAND_TYPE:
        return holds(comparison, order_of(kv.type, compare->type));
    case KV__COMPARE__OPERAND_EXISTS:
        return holds(comparison, order_of(record != NULL, compare->exists != 0));
    default:
        return compare_collection(machine, compare, record);
    }
}

int kv_compare(struct kv_machine *machine,
               const Kv__Compare *compare,
               struct kv_answer *answer,
               bool *ret_holds)
{
    const Kv__KeyRange *range = compare->range;
    struct kv_tree_cursor cursor;
    struct kv_bounds bounds;
    int status = 0;

    if (range->special == KV__KEY_RANGE__SPECIAL__NONE && range->end.len == 0) {
        const struct kv_record *record = kv_keyspace_get(machine, kv_slice_of_proto(range->start));

        *ret_holds = compare_key(machine, compare, record);
        return kv_machine_work(machine, 1, answer);
    }
    *ret_holds = true;
    kv_bounds_of(range, &bounds);
    kv_tree_seek(&machine->tree, bounds.start, &cursor);
    while (*ret_holds && status == 0) {
        const struct kv_record *record;

        kv_tree_skip_dead(&cursor, true);
        record = kv_tree_cursor_get(&cursor);
        if (!record ||
            (bounds.has_end && kv_slice_compare(kv_record_key(record), bounds.end) >= 0)) {
            break;
        }
        *ret_holds = compare_key(machine, compare, record);
        status = kv_machine_work(machine, 1, answer);
        kv_tree_next(&cursor);
    }
    return status;
}
