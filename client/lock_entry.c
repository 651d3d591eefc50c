/* Entries of locks and barriers, and bounded waiting: see client/lock.h. */
#include "client/lock.h"
#include "common/limits.h"

#include <inttypes.h>
#include <kv/lock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* ---------------------------------------------------------------- waiting */

struct kv_wait kv_wait_begin(uint64_t timeout_ms, bool (*stop)(void *arg), void *arg)
{
    /* Three hundred years are as good as for ever. */
    bool bounded = timeout_ms > 0 && timeout_ms < INT64_MAX / 1000000;

    return (struct kv_wait){
        .until_ns = bounded ? uv_hrtime() + timeout_ms * 1000000 : UINT64_MAX,
        .stop = stop,
        .arg = arg,
    };
}

int kv_wait_check(const struct kv_wait *wait, struct kv_error *ret_error)
{
    if (wait->stop && wait->stop(wait->arg)) {
        return kv_error_set(ret_error, KV_CLOSED, "stopped while it waited");
    }
    if (uv_hrtime() >= wait->until_ns) {
        return kv_error_set(ret_error, KV_DEADLINE, "it was not its turn in time");
    }
    return 0;
}

int kv_wait_outcome(const struct kv_wait *wait, int status, struct kv_error *ret_error)
{
    struct kv_error end;
    char why[sizeof end.message] = "no reason was asked for";

    if ((status != KV_CLOSED && !kv_wait_is_passing(status)) || kv_wait_check(wait, &end) == 0 ||
        end.status == status) {
        return status;
    }
    if (ret_error) {
        snprintf(why, sizeof why, "%s", ret_error->message);
    }
    return kv_error_set(ret_error, end.status, "%s: %s", end.message, why);
}

static unsigned left_ms(const struct kv_wait *wait, unsigned most_ms)
{
    uint64_t now_ns = uv_hrtime();
    uint64_t ms = wait->until_ns > now_ns ? (wait->until_ns - now_ns + 999999) / 1000000 : 0;

    return ms < most_ms ? (unsigned)ms : most_ms;
}

unsigned kv_wait_slice_ms(const struct kv_wait *wait)
{
    return left_ms(wait, KV_WAIT_LOOK_MS);
}

struct kv_call_options kv_wait_call(const struct kv_wait *wait)
{
    unsigned ms = left_ms(wait, KV_DEADLINE_DEFAULT_MS);

    return (struct kv_call_options){
        .deadline_ms = ms > 0 ? ms : 1, /* 0 would be the usual one */
        .stop = wait->stop,
        .stop_arg = wait->arg,
    };
}

bool kv_wait_is_passing(int status)
{
    switch (kv_status_retry(status)) {
    case KV_RETRY_LATER:
    case KV_RETRY_ELSEWHERE:
    case KV_RETRY_UNKNOWN:
        return status != KV_CLOSED;
    default:
        return status == KV_COMPACTED;
    }
}

int kv_wait_again(const struct kv_wait *wait, struct kv_lease *lease, struct kv_error *ret_error)
{
    (void)kv_lease_wait(lease, kv_lease_state(lease), kv_wait_slice_ms(wait));
    return kv_wait_check(wait, ret_error);
}

int kv_wait_event(struct kv_client *client,
                  const struct kv_wait *wait,
                  const struct kv_wait_for *what,
                  struct kv_error *ret_error)
{
    struct kv_watch_options options = {
        .range = what->range,
        .start_revision = what->revision + 1,
        .kinds = what->all ? 0 : 1U << KV_EVENT_DELETE | 1U << KV_EVENT_EXPIRE,
        .keys_only = true,
        .require_leader_ms = KV_WAIT_LEADER_MS,
    };
    struct kv_event_batch *batch;
    struct kv_watch *watch;
    /* Who looks again and again asks here each time. */
    int status = kv_wait_check(wait, ret_error);
    bool told = false;

    if (status == 0) {
        status = kv_watch_open(client, &options, &watch, ret_error);
    }
    if (status < 0) {
        return status;
    }
    while (status == 0 && !told) {
        status = kv_watch_next(watch, kv_wait_slice_ms(wait), &batch, ret_error);
        if (status == 1) {
            told = batch->n_events > 0;
            kv_event_batch_free(batch);
            status = 0;
        } else if (kv_wait_is_passing(status)) {
            /* It is over, or was in vain for a while. */
            told = true;
            status = status == KV_COMPACTED ? 0 : kv_wait_again(wait, what->lease, ret_error);
        }
        told = told || kv_lease_state(what->lease) == KV_LEASE_LOST;
        if (status == 0 && !told) {
            status = kv_wait_check(wait, ret_error);
        }
    }
    kv_watch_close(watch);
    return status;
}

/* ---------------------------------------------------------------- entries */

int kv_entry_check_name(struct kv_bytes name, const char *what, struct kv_error *ret_error)
{
    if (name.size == 0 || name.size > KV_LOCK_NAME_BYTES_MAX) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "the name of a %s has 1 to %d bytes, not %zu",
                            what,
                            KV_LOCK_NAME_BYTES_MAX,
                            name.size);
    }
    return 0;
}

int kv_entry_open(struct kv_client *client,
                  struct kv_bytes name,
                  char kind,
                  const struct kv_lease_options *lease,
                  struct kv_entry *ret_entry,
                  struct kv_error *ret_error)
{
    struct kv_entry entry = {.key_size = name.size + KV_ENTRY_BYTES, .prefix_size = name.size + 1};
    int status;

    entry.key = malloc(entry.key_size + 1);
    if (!entry.key) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    status = kv_lease_hold(client, lease, &entry.lease, ret_error);
    if (status < 0) {
        free(entry.key);
        return status;
    }
    memcpy(entry.key, name.data, name.size);
    snprintf(entry.key + name.size,
             KV_ENTRY_BYTES + 1,
             "/%c-%016" PRIx64,
             kind,
             (uint64_t)kv_lease_id(entry.lease));
    *ret_entry = entry;
    return 0;
}

int kv_entry_close(struct kv_entry *entry, bool (*stop)(void *arg), void *arg)
{
    free(entry->key);
    return kv_lease_end(entry->lease, true, stop, arg);
}

struct kv_bytes kv_entry_key(const struct kv_entry *entry)
{
    return kv_bytes_of(entry->key, entry->key_size);
}

struct kv_range_spec kv_entry_range(const struct kv_entry *entry)
{
    return (struct kv_range_spec){.kind = KV_RANGE_PREFIX,
                                  .start = kv_bytes_of(entry->key, entry->prefix_size)};
}

bool kv_entry_is(struct kv_bytes key, size_t prefix_size, const char *kinds)
{
    const char *p = (const char *)key.data + prefix_size;

    if (key.size != prefix_size + KV_ENTRY_BYTES - 1 || p[0] == '\0' || !strchr(kinds, p[0]) ||
        p[1] != '-') {
        return false;
    }
    for (size_t i = 2; i < KV_ENTRY_BYTES - 1; i++) {
        if (p[i] == '\0' || !strchr("0123456789abcdef", p[i])) {
            return false;
        }
    }
    return true;
}
