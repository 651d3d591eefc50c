/* What can be told of a request without the state. */
#include "server/machine/command.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int kv_check_key(ProtobufCBinaryData key, struct kv_error *ret_error)
{
    if (key.len == 0) {
        return kv_error_set(
            ret_error, KV_INVALID, "the key is empty: 1 to %u bytes", KV_KEY_BYTES_MAX);
    }
    if (key.len > KV_KEY_BYTES_MAX) {
        return kv_error_set(ret_error,
                            KV_TOO_LARGE,
                            "the key has %zu bytes, the limit is %u",
                            key.len,
                            KV_KEY_BYTES_MAX);
    }
    return 0;
}

int kv_check_value(ProtobufCBinaryData value,
                   const struct kv_machine_settings *settings,
                   struct kv_error *ret_error)
{
    if (value.len > settings->value_bytes) {
        return kv_error_set(ret_error,
                            KV_TOO_LARGE,
                            "the value has %zu bytes, the limit is %" PRIu64
                            " (setting value-limit)",
                            value.len,
                            settings->value_bytes);
    }
    return 0;
}

int kv_check_bound(ProtobufCBinaryData bound, const char *what, struct kv_error *ret_error)
{
    /* One more than a key: the least successor of the largest. */
    if (bound.len > KV_KEY_BYTES_MAX + 1) {
        return kv_error_set(ret_error,
                            KV_TOO_LARGE,
                            "%s of the range has %zu bytes, the limit is %u",
                            what,
                            bound.len,
                            KV_KEY_BYTES_MAX);
    }
    return 0;
}

int kv_check_range(const Kv__KeyRange *range, struct kv_error *ret_error)
{
    int status;

    if (!range) {
        return kv_error_set(ret_error, KV_INVALID, "the range is missing");
    }
    status = kv_check_bound(range->start, "the start", ret_error);
    if (status == 0) {
        status = kv_check_bound(range->end, "the end", ret_error);
    }
    if (status != 0) {
        return status;
    }
    switch (range->special) {
    case KV__KEY_RANGE__SPECIAL__NONE:
        if (range->start.len == 0) {
            return kv_error_set(ret_error,
                                KV_INVALID,
                                "the range has no start: use prefix \"\" or ALL for every key");
        }
        if (range->end.len > 0 &&
            kv_slice_compare(kv_slice_of_proto(range->start), kv_slice_of_proto(range->end)) > 0) {
            return kv_error_set(ret_error, KV_INVALID, "the range ends before it starts");
        }
        return 0;
    case KV__KEY_RANGE__SPECIAL__PREFIX:
    case KV__KEY_RANGE__SPECIAL__FROM_KEY:
        return range->end.len == 0
                   ? 0
                   : kv_error_set(ret_error, KV_INVALID, "a prefix or from-key range has no end");
    case KV__KEY_RANGE__SPECIAL__ALL:
        return range->start.len == 0 && range->end.len == 0
                   ? 0
                   : kv_error_set(
                         ret_error, KV_INVALID, "a range over ALL has neither start nor end");
    default:
        return kv_error_set(ret_error, KV_INVALID, "unknown special range %d", (int)range->special);
    }
}

static int compare_names(const void *a, const void *b)
{
    return kv_slice_compare(kv_slice_of_proto(*(const ProtobufCBinaryData *)a),
                            kv_slice_of_proto(*(const ProtobufCBinaryData *)b));
}

static bool ascend(const ProtobufCBinaryData *names, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (compare_names(&names[i - 1], &names[i]) >= 0) {
            return false;
        }
    }
    return true;
}

/* Sorts a copy, unless they come in order: commands name a hundred thousand. */
static int check_distinct(const ProtobufCBinaryData *names,
                          size_t n,
                          const char *what,
                          struct kv_error *ret_error)
{
    ProtobufCBinaryData *sorted;
    bool distinct;

    if (ascend(names, n)) {
        return 0;
    }
    sorted = kv_machine_alloc(n * sizeof *sorted);
    memcpy(sorted, names, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare_names);
    distinct = ascend(sorted, n);
    free(sorted);
    return distinct ? 0 : kv_error_set(ret_error, KV_INVALID, "the command names a %s twice", what);
}

int kv_check_names(const ProtobufCBinaryData *names,
                   size_t n,
                   const char *what,
                   bool distinct,
                   struct kv_error *ret_error)
{
    if (n == 0) {
        return kv_error_set(ret_error, KV_INVALID, "the command names no %s", what);
    }
    for (size_t i = 0; i < n; i++) {
        if (names[i].len == 0) {
            return kv_error_set(
                ret_error, KV_INVALID, "a %s is empty: 1 to %u bytes", what, KV_KEY_BYTES_MAX);
        }
        if (names[i].len > KV_KEY_BYTES_MAX) {
            return kv_error_set(ret_error,
                                KV_TOO_LARGE,
                                "a %s has %zu bytes, the limit is %u",
                                what,
                                names[i].len,
                                KV_KEY_BYTES_MAX);
        }
    }
    return distinct ? check_distinct(names, n, what, ret_error) : 0;
}

void kv_clamp_range(
    uint64_t size, int64_t first, int64_t last, uint64_t *ret_from, uint64_t *ret_to)
{
    int64_t length = (int64_t)size;

    first = first < 0 ? (first < -length ? 0 : first + length) : first;
    last = last < 0 ? (last < -length ? -1 : last + length) : (last >= length ? length - 1 : last);
    *ret_from = *ret_to = 0;
    if (first <= last && first < length) {
        *ret_from = (uint64_t)first;
        *ret_to = (uint64_t)last + 1;
    }
}

int kv_check_sources(const struct kv_sources *sources, struct kv_error *ret_error)
{
    int status = 0;

    if ((unsigned)sources->combination > KV__COMBINATION__COMBINE_DIFFERENCE) {
        return kv_error_set(
            ret_error, KV_INVALID, "unknown combination %d", (int)sources->combination);
    }
    if (sources->n_keys == 0) {
        return kv_error_set(ret_error, KV_INVALID, "the command names no key to combine");
    }
    for (size_t i = 0; i < sources->n_keys && status == 0; i++) {
        status = kv_check_key(sources->keys[i], ret_error);
    }
    return status == 0 && sources->store.len > 0 ? kv_check_key(sources->store, ret_error) : status;
}
