/* A cache with stampede protection: of all who miss, one computes, the others wait for it.
 *
 * "report" is the cached value, "report:lock" says who computes it, "report:ready" is a list with
 * one baton: it is put there together with the value; who waits takes it, and passes it on to the
 * next. */
#include <kv/kv.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define VALUE kv_bytes_str("report")
#define LOCK kv_bytes_str("report:lock")
#define READY kv_bytes_str("report:ready")
enum { CALLERS = 8, WAIT_MS = 10000 };

static struct kv_client *client;
static atomic_int computed;
static atomic_int served;

/* Commits, and says whether the compares were true; negative: a status. */
static int commit(struct kv_txn *txn, struct kv_error *ret_error)
{
    struct kv_txn_result result;
    int status = kv_txn_commit(txn, NULL, &result, ret_error);

    if (status == 0) {
        status = result.succeeded;
        kv_txn_result_free(&result);
    }
    return status;
}

static void if_absent(struct kv_txn *txn, struct kv_bytes key)
{
    kv_txn_compare(txn, &(struct kv_compare){.key = key, .comparison = KV_NOT_EQUAL});
}

/* 1: it is for this caller to compute. An old baton goes, since there is nothing to be had yet. */
static int take_lock(const char *me, struct kv_error *ret_error)
{
    struct kv_txn *txn;
    int status = kv_txn_begin(client, &txn, ret_error);

    if (status < 0) {
        return status;
    }
    if_absent(txn, VALUE);
    if_absent(txn, LOCK);
    kv_txn_put(txn, LOCK, kv_bytes_str(me));
    kv_txn_delete(txn, READY);
    return commit(txn, ret_error);
}

/* Value, lock and baton change at once, and only if the lock was not taken over. */
static int publish(const char *me, const char *value, struct kv_error *ret_error)
{
    struct kv_txn *txn;
    int status = kv_txn_begin(client, &txn, ret_error);

    if (status < 0) {
        return status;
    }
    kv_txn_compare(
        txn,
        &(struct kv_compare){.key = LOCK, .what = KV_COMPARE_VALUE, .value = kv_bytes_str(me)});
    kv_txn_put(txn, VALUE, kv_bytes_str(value));
    kv_txn_delete(txn, LOCK);
    kv_txn_list_push(txn, READY, KV_LIST_LEFT, kv_bytes_str("go"));
    return commit(txn, ret_error);
}

/* Waits for the baton and passes it on. When none came, who computes is taken for dead. */
static int wait_for_it(struct kv_error *ret_error)
{
    struct kv_pop_options wait = {.block_ms = WAIT_MS};
    struct kv_bytes lock = LOCK;
    struct kv_elements baton;
    struct kv_txn *txn;
    int status = kv_list_pop(client, READY, KV_LIST_LEFT, &wait, &baton, ret_error);

    if (status == KV_DEADLINE) {
        return kv_delete(client, &lock, 1, NULL, NULL, ret_error);
    }
    if (status < 0) {
        return status;
    }
    kv_elements_free(&baton);
    status = kv_txn_begin(client, &txn, ret_error);
    if (status == 0) {
        if_absent(txn, LOCK);
        kv_txn_list_push(txn, READY, KV_LIST_LEFT, kv_bytes_str("go"));
        status = commit(txn, ret_error);
    }
    return status < 0 ? status : 0;
}

static int get_or_compute(const char *me, struct kv_pair *ret_value, struct kv_error *ret_error)
{
    int status;

    while ((status = kv_get(client, VALUE, NULL, ret_value, ret_error)) == KV_NOT_FOUND) {
        status = take_lock(me, ret_error);
        if (status == 1) {
            /* The expensive part. */
            atomic_fetch_add(&computed, 1);
            status = publish(me, "42 pages", ret_error);
        } else if (status == 0) {
            status = wait_for_it(ret_error);
        }
        if (status < 0) {
            return status;
        }
    }
    return status;
}

static void *caller(void *arg)
{
    struct kv_pair value;
    struct kv_error error;
    int status = get_or_compute(arg, &value, &error);

    if (status < 0) {
        fprintf(stderr, "%s: %s\n", kv_status_name(status), error.message);
        return NULL;
    }
    atomic_fetch_add(&served, 1);
    kv_pair_free(&value);
    return NULL;
}

int main(int argc, char **argv)
{
    struct kv_client_options options = {.endpoints = argc > 1 ? argv[1] : "127.0.0.1:4700"};
    char names[CALLERS][16];
    pthread_t threads[CALLERS];
    struct kv_error error;

    if (kv_client_open(&options, &client, &error) < 0) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    for (int i = 0; i < CALLERS; i++) {
        snprintf(names[i], sizeof names[i], "caller %d", i);
        if (pthread_create(&threads[i], NULL, caller, names[i]) != 0) {
            return 1;
        }
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
    }
    printf("%d callers served, computed %d time\n", served, computed);
    kv_client_close(client);
    return served != CALLERS;
}
