/* kv/election.h: an exclusive lock whose entries have values, and the reading of its queue. */
#include "client/lock.h"

#include <kv/election.h>
#include <kv/txn.h>
#include <stdlib.h>
#include <string.h>

struct kv_election {
    struct kv_client *client;
    struct kv_lock *lock;
};

/* ---------------------------------------------------------------- candidates */

int kv_election_campaign(struct kv_client *client,
                         const struct kv_lock_options *options,
                         struct kv_election **ret_election,
                         struct kv_error *ret_error)
{
    struct kv_election *election = calloc(1, sizeof *election);
    struct kv_lock_options lock = *options;
    int status;

    if (!election) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    lock.mode = KV_LOCK_EXCLUSIVE;
    status = kv_lock_acquire(client, &lock, &election->lock, ret_error);
    if (status < 0) {
        free(election);
        return status;
    }
    election->client = client;
    *ret_election = election;
    return 0;
}

struct kv_lock *kv_election_lock(struct kv_election *election)
{
    return election->lock;
}

int kv_election_proclaim(struct kv_election *election,
                         struct kv_bytes value,
                         struct kv_error *ret_error)
{
    struct kv_put_options keep = {.keep_expiry = true};
    struct kv_txn_result result;
    struct kv_txn *txn;
    int status = kv_txn_begin(election->client, &txn, ret_error);

    if (status < 0) {
        return status;
    }
    kv_lock_guard(election->lock, txn);
    kv_txn_put_with(txn, kv_lock_key(election->lock), value, &keep);
    status = kv_txn_commit(txn, NULL, &result, ret_error);
    if (status < 0) {
        return status;
    }
    if (!result.succeeded) {
        status = kv_error_set(ret_error, KV_CONDITION_FAILED, "it does not lead any more");
    }
    kv_txn_result_free(&result);
    return status;
}

int kv_election_resign(struct kv_election *election)
{
    int status = 0;

    if (election) {
        status = kv_lock_release(election->lock);
        free(election);
    }
    return status;
}

/* ---------------------------------------------------------------- who leads */

void kv_leader_free(struct kv_leader *leader)
{
    if (leader) {
        free(leader->memory);
        *leader = (struct kv_leader){0};
    }
}

static int no_memory(struct kv_error *ret_error)
{
    return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
}

/* A copy that owns both. */
static int set_leader(const struct kv_pair *pair, struct kv_leader *leader, struct kv_error *error)
{
    size_t size = pair->key.size + pair->value.size;
    char *memory = malloc(size ? size : 1);

    if (!memory) {
        return no_memory(error);
    }
    memcpy(memory, pair->key.data, pair->key.size);
    if (pair->value.size > 0) {
        memcpy(memory + pair->key.size, pair->value.data, pair->value.size);
    }
    free(leader->memory);
    *leader = (struct kv_leader){
        .present = true,
        .key = kv_bytes_of(memory, pair->key.size),
        .value = kv_bytes_of(memory + pair->key.size, pair->value.size),
        .token = pair->create_revision,
        .memory = memory,
    };
    return 0;
}

/* The oldest of the entries in the range NAME/. */
static int read_leader(struct kv_client *client,
                       struct kv_bytes prefix,
                       const struct kv_call_options *call,
                       struct kv_leader *ret_leader,
                       struct kv_error *ret_error)
{
    struct kv_range_spec range = {.kind = KV_RANGE_PREFIX, .start = prefix};
    struct kv_range_options options = {0};
    struct kv_leader leader = {0};
    struct kv_range_iterator *iterator;
    struct kv_pair pair;
    int status;

    if (call) {
        options.call = *call;
    }
    status = kv_range(client, &range, &options, &iterator, ret_error);
    if (status < 0) {
        return status;
    }
    while ((status = kv_range_next(iterator, &pair, ret_error)) == 1) {
        if (kv_entry_is(pair.key, prefix.size, "x") &&
            (!leader.present || pair.create_revision < leader.token) &&
            (status = set_leader(&pair, &leader, ret_error)) < 0) {
            break;
        }
    }
    leader.revision = kv_range_revision(iterator);
    kv_range_close(iterator);
    if (status < 0) {
        kv_leader_free(&leader);
        return status;
    }
    *ret_leader = leader;
    return 0;
}

/* NAME/, to be freed; NULL: no memory. */
static char *make_prefix(struct kv_bytes name)
{
    char *prefix = malloc(name.size + 1);

    if (prefix) {
        memcpy(prefix, name.data, name.size);
        prefix[name.size] = '/';
    }
    return prefix;
}

int kv_election_leader(struct kv_client *client,
                       struct kv_bytes name,
                       const struct kv_call_options *options,
                       struct kv_leader *ret_leader,
                       struct kv_error *ret_error)
{
    int status = kv_entry_check_name(name, "election", ret_error);
    char *prefix;

    if (status < 0) {
        return status;
    }
    prefix = make_prefix(name);
    if (!prefix) {
        return no_memory(ret_error);
    }
    status =
        read_leader(client, kv_bytes_of(prefix, name.size + 1), options, ret_leader, ret_error);
    free(prefix);
    return status;
}

/* ---------------------------------------------------------------- observers */

struct kv_election_observer {
    struct kv_client *client;
    struct kv_call_options options;
    char *prefix;
    size_t prefix_size;
    struct kv_watch *watch; /* behind what was read; NULL: read anew */
    bool told;              /* something, so that last counts */
    struct kv_leader last;
};

int kv_election_observe(struct kv_client *client,
                        struct kv_bytes name,
                        const struct kv_call_options *options,
                        struct kv_election_observer **ret_observer,
                        struct kv_error *ret_error)
{
    struct kv_election_observer *observer;
    int status = kv_entry_check_name(name, "election", ret_error);

    if (status < 0) {
        return status;
    }
    observer = calloc(1, sizeof *observer);
    if (observer) {
        observer->prefix = make_prefix(name);
    }
    if (!observer || !observer->prefix) {
        free(observer);
        return no_memory(ret_error);
    }
    observer->client = client;
    if (options) {
        observer->options = *options;
    }
    observer->prefix_size = name.size + 1;
    *ret_observer = observer;
    return 0;
}

void kv_election_observe_close(struct kv_election_observer *observer)
{
    if (observer) {
        kv_watch_close(observer->watch);
        kv_leader_free(&observer->last);
        free(observer->prefix);
        free(observer);
    }
}

static bool is_same(const struct kv_leader *a, const struct kv_leader *b)
{
    return a->present == b->present && a->token == b->token && a->value.size == b->value.size &&
           (a->value.size == 0 || memcmp(a->value.data, b->value.data, a->value.size) == 0);
}

/* The caller's copy of the newest. */
static int give(const struct kv_election_observer *observer,
                struct kv_leader *ret_leader,
                struct kv_error *ret_error)
{
    struct kv_pair pair = {.key = observer->last.key,
                           .value = observer->last.value,
                           .create_revision = observer->last.token};
    struct kv_leader leader = {0};

    if (observer->last.present && set_leader(&pair, &leader, ret_error) < 0) {
        return KV_NO_MEMORY;
    }
    leader.revision = observer->last.revision;
    *ret_leader = leader;
    return 1;
}

/* 1: *ret_leader is new; 0: it is as it was. */
static int look(struct kv_election_observer *observer,
                struct kv_leader *ret_leader,
                struct kv_error *ret_error)
{
    struct kv_bytes prefix = kv_bytes_of(observer->prefix, observer->prefix_size);
    struct kv_watch_options options = {.range = {.kind = KV_RANGE_PREFIX, .start = prefix},
                                       .keys_only = true,
                                       .require_leader_ms = KV_WAIT_LEADER_MS};
    struct kv_leader leader;
    int status = read_leader(observer->client, prefix, &observer->options, &leader, ret_error);

    if (status < 0) {
        return status;
    }
    if (!observer->watch) {
        options.start_revision = leader.revision + 1;
        status = kv_watch_open(observer->client, &options, &observer->watch, ret_error);
        if (status < 0) {
            kv_leader_free(&leader);
            return status;
        }
    }
    if (observer->told && is_same(&leader, &observer->last)) {
        kv_leader_free(&leader);
        return 0;
    }
    kv_leader_free(&observer->last);
    observer->last = leader;
    observer->told = true;
    return give(observer, ret_leader, ret_error);
}

int kv_election_observe_next(struct kv_election_observer *observer,
                             unsigned timeout_ms,
                             struct kv_leader *ret_leader,
                             struct kv_error *ret_error)
{
    struct kv_wait wait = kv_wait_begin(timeout_ms ? timeout_ms : 1, NULL, NULL);
    struct kv_event_batch *batch;
    int status = 0;

    while (status == 0) {
        bool changed = false;

        if (!observer->watch) {
            status = look(observer, ret_leader, ret_error);
            if (status != 0) {
                return status;
            }
        }
        status = kv_watch_next(observer->watch, kv_wait_slice_ms(&wait), &batch, ret_error);
        if (status == 1) {
            changed = batch->n_events > 0;
            kv_event_batch_free(batch);
            status = 0;
        } else if (status < 0 && status != KV_NO_LEADER) {
            /* It is over: from now on by another. */
            kv_watch_close(observer->watch);
            observer->watch = NULL;
            status = status == KV_COMPACTED ? 0 : status;
        }
        if (changed) {
            status = look(observer, ret_leader, ret_error);
        }
        if (status == 0 && kv_wait_check(&wait, NULL) < 0) {
            return 0;
        }
    }
    return status;
}
