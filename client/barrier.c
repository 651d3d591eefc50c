/* kv/barrier.h. A round begins when a party comes and nobody is inside: what is left of an earlier
 * NAME/go is deleted in the same transaction. Whoever sees all parties makes NAME/go; whoever finds
 * nobody inside any more deletes it. Every step is one transaction on what is there, so any of them
 * may crash at any moment. */
#include "client/lock.h"

#include <kv/barrier.h>
#include <kv/lock.h>
#include <kv/txn.h>
#include <stdlib.h>
#include <string.h>

struct kv_barrier {
    struct kv_client *client;
    struct kv_entry entry;
    unsigned parties;
    struct kv_bytes go;  /* NAME/go, owned */
    int64_t go_revision; /* its create revision in our round */
    struct kv_wait wait;
    struct kv_barrier_options options; /* its bytes are not used later */
};

/* ---------------------------------------------------------------- parts of transactions */

/* True when nobody is inside. */
static void compare_empty(struct kv_txn *txn, const struct kv_barrier *barrier)
{
    struct kv_range_spec inside = {.kind = KV_RANGE_BETWEEN};
    char *from = barrier->entry.key;
    char to[KV_LOCK_NAME_BYTES_MAX + 4];

    /* NAME/b- up to NAME/b. which is the next byte: all entries, and not NAME/go. */
    memcpy(to, from, barrier->entry.prefix_size);
    memcpy(to + barrier->entry.prefix_size, "b.", 2);
    inside.start = kv_bytes_of(from, barrier->entry.prefix_size + 2);
    inside.end = kv_bytes_of(to, barrier->entry.prefix_size + 2);
    kv_txn_compare(txn,
                   &(struct kv_compare){
                       .range = &inside, .what = KV_COMPARE_EXISTS, .comparison = KV_NOT_EQUAL});
}

static void compare_go_absent(struct kv_txn *txn, const struct kv_barrier *barrier)
{
    kv_txn_compare(txn,
                   &(struct kv_compare){
                       .key = barrier->go, .what = KV_COMPARE_EXISTS, .comparison = KV_NOT_EQUAL});
}

/* Commits; *ret_succeeded and *ret_revision are those of the result. */
static int commit(const struct kv_barrier *barrier,
                  struct kv_txn *txn,
                  bool *ret_succeeded,
                  int64_t *ret_revision,
                  struct kv_error *ret_error)
{
    struct kv_call_options call = kv_wait_call(&barrier->wait);
    struct kv_txn_result result;
    int status;

    *ret_succeeded = false;
    *ret_revision = 0;
    status = kv_txn_commit(txn, &call, &result, ret_error);

    if (status == 0) {
        *ret_succeeded = result.succeeded;
        *ret_revision = result.revision;
        kv_txn_result_free(&result);
    }
    return status;
}

/* Any change under the name behind the revision. */
static int wait_for_change(struct kv_barrier *barrier, int64_t revision, struct kv_error *ret_error)
{
    struct kv_wait_for what = {.range = kv_entry_range(&barrier->entry),
                               .revision = revision,
                               .all = true,
                               .lease = barrier->entry.lease};

    return kv_wait_event(barrier->client, &barrier->wait, &what, ret_error);
}

/* ---------------------------------------------------------------- looking */

struct count {
    unsigned inside;
    int64_t go_revision; /* 0: no NAME/go */
    bool listed;         /* we are */
    int64_t revision;
};

static int
count_inside(const struct kv_barrier *barrier, struct count *ret_count, struct kv_error *ret_error)
{
    struct kv_range_spec range = kv_entry_range(&barrier->entry);
    struct kv_range_options options = {.keys_only = true, .call = kv_wait_call(&barrier->wait)};
    struct kv_bytes own = kv_entry_key(&barrier->entry);
    struct kv_range_iterator *iterator;
    struct kv_pair pair;
    int status = kv_range(barrier->client, &range, &options, &iterator, ret_error);

    if (status < 0) {
        return status;
    }
    *ret_count = (struct count){0};
    while ((status = kv_range_next(iterator, &pair, ret_error)) == 1) {
        if (kv_entry_is(pair.key, barrier->entry.prefix_size, "b")) {
            ret_count->inside++;
            ret_count->listed |=
                pair.key.size == own.size && memcmp(pair.key.data, own.data, own.size) == 0;
        } else if (pair.key.size == barrier->go.size &&
                   memcmp(pair.key.data, barrier->go.data, pair.key.size) == 0) {
            ret_count->go_revision = pair.create_revision;
        }
    }
    ret_count->revision = kv_range_revision(iterator);
    kv_range_close(iterator);
    return status;
}

/* ---------------------------------------------------------------- coming in */

/* One try: with nobody inside a new round begins; else only when the round has not begun to leave.
 * 1: in; 0: not yet, *ret_revision is that of the look. */
static int try_in(struct kv_barrier *barrier, int64_t *ret_revision, struct kv_error *ret_error)
{
    struct kv_put_options put = {.lease_id = kv_lease_id(barrier->entry.lease)};
    struct kv_bytes key = kv_entry_key(&barrier->entry);
    struct kv_txn *txn;
    bool succeeded;
    int status = kv_txn_begin(barrier->client, &txn, ret_error);

    if (status < 0) {
        return status;
    }
    compare_empty(txn, barrier);
    kv_txn_delete(txn, barrier->go);
    kv_txn_put_with(txn, key, barrier->options.value, &put);
    status = commit(barrier, txn, &succeeded, ret_revision, ret_error);
    if (status < 0 || succeeded) {
        return status < 0 ? status : 1;
    }
    status = kv_txn_begin(barrier->client, &txn, ret_error);
    if (status < 0) {
        return status;
    }
    compare_go_absent(txn, barrier);
    kv_txn_put_with(txn, key, barrier->options.value, &put);
    status = commit(barrier, txn, &succeeded, ret_revision, ret_error);
    return status < 0 ? status : succeeded;
}

/* try_in, after one that may have been done although it failed: then we are in, and everybody waits
 * for our end as we would for theirs. */
static int try_again(struct kv_barrier *barrier, int64_t *ret_revision, struct kv_error *ret_error)
{
    struct count count;
    int status = count_inside(barrier, &count, ret_error);

    if (status < 0 || count.listed) {
        return status < 0 ? status : 1;
    }
    return try_in(barrier, ret_revision, ret_error);
}

static int come_in(struct kv_barrier *barrier, struct kv_error *ret_error)
{
    int64_t revision = 0;
    bool failed = false;
    int status = 0;

    while (status == 0) {
        status = failed ? try_again(barrier, &revision, ret_error)
                        : try_in(barrier, &revision, ret_error);
        if (status == 0) {
            status = wait_for_change(barrier, revision, ret_error);
        } else if (status < 0 && kv_wait_is_passing(status)) {
            failed = true;
            status = kv_wait_again(&barrier->wait, barrier->entry.lease, ret_error);
        }
        if (status == 0 && kv_lease_state(barrier->entry.lease) == KV_LEASE_LOST) {
            return kv_error_set(ret_error, KV_NOT_FOUND, "its lease ended while it waited");
        }
    }
    return status < 0 ? status : 0;
}

/* ---------------------------------------------------------------- all together */

static int wait_for_all(struct kv_barrier *barrier, struct kv_error *ret_error)
{
    struct kv_put_options once = {.condition = KV_PUT_IF_ABSENT};
    struct count count;
    int status;

    for (;;) {
        status = count_inside(barrier, &count, ret_error);
        if (status < 0 && !kv_wait_is_passing(status)) {
            return status;
        }
        if (status == 0 && !count.listed) {
            return kv_error_set(
                ret_error, KV_NOT_FOUND, "its lease ended, or its entry was deleted");
        }
        if (status == 0 && count.go_revision != 0) {
            barrier->go_revision = count.go_revision;
            return 0;
        }
        if (status == 0 && count.inside >= barrier->parties) {
            /* Whoever makes it: the next look finds it. */
            once.call = kv_wait_call(&barrier->wait);
            status =
                kv_put(barrier->client, barrier->go, kv_bytes_of(NULL, 0), &once, NULL, ret_error);
            if (status == 0 || status == KV_EXISTS) {
                continue;
            }
        }
        status = status == 0 ? wait_for_change(barrier, count.revision, ret_error)
                             : kv_wait_again(&barrier->wait, barrier->entry.lease, ret_error);
        if (status < 0) {
            return status;
        }
    }
}

/* ---------------------------------------------------------------- enter, leave */

static void free_barrier(struct kv_barrier *barrier)
{
    free((void *)barrier->go.data);
    free(barrier);
}

static int make_go(struct kv_barrier *barrier, struct kv_bytes name, struct kv_error *ret_error)
{
    char *go = malloc(name.size + 3);

    if (!go) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    memcpy(go, name.data, name.size);
    memcpy(go + name.size, "/go", 3);
    barrier->go = kv_bytes_of(go, name.size + 3);
    return 0;
}

/* Nobody hears whether the place is free at once: who waits for all goes on either way. */
static void close_barrier(struct kv_barrier *barrier)
{
    (void)kv_entry_close(&barrier->entry, barrier->options.stop, barrier->options.arg);
    free_barrier(barrier);
}

static int open_barrier(struct kv_client *client,
                        const struct kv_barrier_options *options,
                        struct kv_barrier **ret_barrier,
                        struct kv_error *ret_error)
{
    struct kv_lease_options lease = {.ttl_ms = options->ttl_ms ? options->ttl_ms
                                                               : KV_LOCK_TTL_DEFAULT_MS};
    struct kv_barrier *barrier = calloc(1, sizeof *barrier);
    int status;

    if (!barrier) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    barrier->client = client;
    barrier->parties = options->parties;
    barrier->options = *options;
    barrier->wait = kv_wait_begin(options->timeout_ms, options->stop, options->arg);
    lease.call = kv_wait_call(&barrier->wait);
    status = make_go(barrier, options->name, ret_error);
    if (status == 0) {
        status = kv_entry_open(client, options->name, 'b', &lease, &barrier->entry, ret_error);
    }
    if (status < 0) {
        status = kv_wait_outcome(&barrier->wait, status, ret_error);
        free_barrier(barrier);
        return status;
    }
    *ret_barrier = barrier;
    return 0;
}

int kv_barrier_enter(struct kv_client *client,
                     const struct kv_barrier_options *options,
                     struct kv_barrier **ret_barrier,
                     struct kv_error *ret_error)
{
    struct kv_barrier *barrier = NULL;
    int status = kv_entry_check_name(options->name, "barrier", ret_error);

    if (status == 0 && (options->parties == 0 || options->parties > KV_BARRIER_PARTIES_MAX)) {
        status = kv_error_set(ret_error,
                              KV_INVALID,
                              "a barrier has 1 to %d parties, not %u",
                              KV_BARRIER_PARTIES_MAX,
                              options->parties);
    }
    if (status == 0) {
        status = open_barrier(client, options, &barrier, ret_error);
    }
    if (status < 0) {
        return status;
    }
    status = come_in(barrier, ret_error);
    if (status == 0) {
        status = wait_for_all(barrier, ret_error);
    }
    if (status < 0) {
        status = kv_wait_outcome(&barrier->wait, status, ret_error);
        close_barrier(barrier);
        return status;
    }
    *ret_barrier = barrier;
    return 0;
}

/* Deletes NAME/go when nobody is inside any more. 1: it is gone; 0: not yet. */
static int try_end(struct kv_barrier *barrier, int64_t *ret_revision, struct kv_error *ret_error)
{
    struct kv_txn *txn;
    bool succeeded;
    int status = kv_txn_begin(barrier->client, &txn, ret_error);

    if (status < 0) {
        return status;
    }
    compare_empty(txn, barrier);
    kv_txn_delete(txn, barrier->go);
    status = commit(barrier, txn, &succeeded, ret_revision, ret_error);
    return status < 0 ? status : succeeded;
}

/* Is the round over for us? 1: yes; 0: not at *ret_revision. */
static int is_over(struct kv_barrier *barrier, int64_t *ret_revision, struct kv_error *ret_error)
{
    struct kv_get_options at = {.call = kv_wait_call(&barrier->wait)};
    struct kv_pair pair;
    int status = try_end(barrier, ret_revision, ret_error);

    if (status != 0) {
        return status;
    }
    /* Somebody is inside: of our round, or, when its end was seen by another, of a later one. */
    at.at_revision = *ret_revision;
    status = kv_get(barrier->client, barrier->go, &at, &pair, ret_error);
    if (status == KV_NOT_FOUND) {
        return 1;
    }
    if (status == 0) {
        status = pair.create_revision != barrier->go_revision;
        kv_pair_free(&pair);
    }
    return status;
}

int kv_barrier_leave(struct kv_barrier *barrier, struct kv_error *ret_error)
{
    struct kv_call_options call;
    struct kv_bytes key;
    int64_t revision = 0;
    int status;

    if (!barrier) {
        return 0;
    }
    barrier->wait =
        kv_wait_begin(barrier->options.timeout_ms, barrier->options.stop, barrier->options.arg);
    key = kv_entry_key(&barrier->entry);
    call = kv_wait_call(&barrier->wait);
    status = kv_delete(barrier->client, &key, 1, &call, NULL, ret_error);
    while (status == 0) {
        status = is_over(barrier, &revision, ret_error);
        if (status == 0) {
            status = wait_for_change(barrier, revision, ret_error);
        } else if (status < 0 && kv_wait_is_passing(status)) {
            status = kv_wait_again(&barrier->wait, barrier->entry.lease, ret_error);
        }
    }
    status = status < 0 ? kv_wait_outcome(&barrier->wait, status, ret_error) : 0;
    close_barrier(barrier);
    return status;
}
