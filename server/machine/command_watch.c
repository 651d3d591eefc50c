/* What can be told of a watch without the state. */
#include "server/machine/command.h"

#include <inttypes.h>

static int check_start(int64_t start_revision, struct kv_error *ret_error)
{
    return start_revision >= 0 ? 0
                               : kv_error_set(ret_error,
                                              KV_INVALID,
                                              "start_revision %" PRId64 " is negative",
                                              start_revision);
}

int kv_check_progress(uint64_t progress_ms, struct kv_error *ret_error)
{
    if (progress_ms != 0 &&
        (progress_ms < KV_PROGRESS_MIN_MS || progress_ms > KV_PROGRESS_MAX_MS)) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "progress_ms is %" PRIu64 ": 0 for none, or %u to %u",
                            progress_ms,
                            KV_PROGRESS_MIN_MS,
                            KV_PROGRESS_MAX_MS);
    }
    return 0;
}

static int check_filters(const Kv__Watch *watch, struct kv_error *ret_error)
{
    for (size_t i = 0; i < watch->n_kinds; i++) {
        if (watch->kinds[i] < KV__EVENT_KIND__EVENT_PUT ||
            watch->kinds[i] > KV__EVENT_KIND__EVENT_EXPIRE) {
            return kv_error_set(
                ret_error, KV_INVALID, "kinds: unknown kind of event %d", (int)watch->kinds[i]);
        }
    }
    for (size_t i = 0; i < watch->n_types; i++) {
        if (watch->types[i] == KV__TYPE__TYPE_NONE) {
            return kv_error_set(
                ret_error, KV_INVALID, "types: no event is of a key without type (TYPE_NONE)");
        }
        if (watch->types[i] < KV__TYPE__TYPE_NONE || watch->types[i] > KV__TYPE__TYPE_LIMITER) {
            return kv_error_set(
                ret_error, KV_INVALID, "types: unknown type %d", (int)watch->types[i]);
        }
    }
    return 0;
}

int kv_validate_watch(const Kv__Request *request,
                      const struct kv_machine_settings *settings,
                      struct kv_error *ret_error)
{
    const Kv__Watch *watch = request->watch;
    int status = kv_check_range(watch->range, ret_error);

    (void)settings;
    if (status == 0 && watch->range->end.len > 0 &&
        kv_slice_equal(kv_slice_of_proto(watch->range->start),
                       kv_slice_of_proto(watch->range->end))) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "the range is empty: it ends where it starts; nothing can match");
    }
    if (status == 0) {
        status = check_start(watch->start_revision, ret_error);
    }
    if (status == 0) {
        status = kv_check_progress(watch->progress_ms, ret_error);
    }
    return status ? status : check_filters(watch, ret_error);
}
