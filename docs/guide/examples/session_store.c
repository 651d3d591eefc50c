/* A session store with sliding expiry: a session ends by itself when it is not used for a while,
 * and each use lets it live on. It is a hash; a second hash per user holds the user's open
 * sessions, as fields that end by themselves in the same way. What belongs together changes at
 * once. */
#include <kv/kv.h>
#include <stdio.h>
#include <string.h>

enum { IDLE_MS = 3000, USE_EVERY_MS = 200, WAIT_MS = 10000, KEY_BYTES = 100 };

static struct kv_bytes join(char key[KEY_BYTES], const char *kind, const char *id)
{
    snprintf(key, KEY_BYTES, "%s:%s", kind, id);
    return kv_bytes_str(key);
}

/* Commits; 1: done, 0: its compares were not true. */
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

/* The session and its place among those of the user live for IDLE_MS from now on. */
static void
live_on(struct kv_txn *txn, struct kv_bytes session_key, const char *id, const char *user)
{
    struct kv_field open = {.name = kv_bytes_str(id), .ttl_ms = IDLE_MS};
    char user_key[KEY_BYTES];

    kv_txn_expire(txn, session_key, IDLE_MS);
    kv_txn_hash_set(txn, join(user_key, "sessions-of", user), &open, 1);
}

/* KV_EXISTS: an id that is taken is not taken over. */
static int
sign_in(struct kv_client *client, const char *id, const char *user, struct kv_error *ret_error)
{
    struct kv_field fields[] = {
        {.name = kv_bytes_str("user"), .value = kv_bytes_str(user)},
        {.name = kv_bytes_str("theme"), .value = kv_bytes_str("dark")},
    };
    char buffer[KEY_BYTES];
    struct kv_bytes key = join(buffer, "session", id);
    struct kv_txn *txn;
    int status = kv_txn_begin(client, &txn, ret_error);

    if (status < 0) {
        return status;
    }
    kv_txn_compare(
        txn,
        &(struct kv_compare){.key = key, .what = KV_COMPARE_EXISTS, .comparison = KV_NOT_EQUAL});
    kv_txn_hash_set(txn, key, fields, 2);
    live_on(txn, key, id, user);
    status = commit(txn, ret_error);
    return status == 0 ? KV_EXISTS : status < 0 ? status : 0;
}

/* 1: counted and kept alive, if it is open and the user's; 0: it is not. */
static int
use(struct kv_client *client, const char *id, const char *user, struct kv_error *ret_error)
{
    char buffer[KEY_BYTES];
    struct kv_bytes key = join(buffer, "session", id);
    struct kv_txn *txn;
    int status = kv_txn_begin(client, &txn, ret_error);

    if (status < 0) {
        return status;
    }
    kv_txn_compare(txn,
                   &(struct kv_compare){.key = key,
                                        .what = KV_COMPARE_FIELD,
                                        .name = kv_bytes_str("user"),
                                        .value = kv_bytes_str(user)});
    kv_txn_hash_add(txn, key, kv_bytes_str("requests"), 1);
    live_on(txn, key, id, user);
    return commit(txn, ret_error);
}

static int list(struct kv_client *client, const char *user, struct kv_error *ret_error)
{
    char buffer[KEY_BYTES];
    struct kv_fields open;
    int status = kv_hash_get_all(client, join(buffer, "sessions-of", user), NULL, &open, ret_error);

    if (status < 0) {
        return status;
    }
    printf("%s has %zu open:", user, open.n_fields);
    for (size_t i = 0; i < open.n_fields; i++) {
        printf(" %.*s", (int)open.fields[i].name.size, (const char *)open.fields[i].name.data);
    }
    printf("\n");
    kv_fields_free(&open);
    return 0;
}

/* Waits until this session has ended by itself; `used`, if there is one, is used meanwhile. */
static int until_ended(struct kv_client *client,
                       const char *id,
                       const char *used,
                       int64_t since,
                       struct kv_error *ret_error)
{
    char buffer[KEY_BYTES];
    struct kv_watch_options options = {
        .range = {.kind = KV_RANGE_KEY, .start = join(buffer, "session", id)},
        .start_revision = since,
        .kinds = 1U << KV_EVENT_EXPIRE,
    };
    struct kv_event_batch *batch;
    struct kv_watch *watch;
    int waited_ms = 0;
    int status = kv_watch_open(client, &options, &watch, ret_error);

    if (status < 0) {
        return status;
    }
    while ((status = kv_watch_next(watch, USE_EVERY_MS, &batch, ret_error)) == 0 &&
           waited_ms < WAIT_MS) {
        waited_ms += USE_EVERY_MS;
        if (used && (status = use(client, used, "ada", ret_error)) <= 0) {
            break;
        }
    }
    if (status == 1) {
        printf("%s has ended by itself\n", id);
        kv_event_batch_free(batch);
    }
    kv_watch_close(watch);
    return status < 0 ? status : 0;
}

static int run(struct kv_client *client, struct kv_error *ret_error)
{
    struct kv_put_result start;
    int status =
        kv_put(client, kv_bytes_str("sessions-began"), kv_bytes_str(""), NULL, &start, ret_error);

    if (status == 0) {
        status = sign_in(client, "a1", "ada", ret_error);
    }
    if (status == 0) {
        status = sign_in(client, "b2", "ada", ret_error);
    }
    if (status == 0 && sign_in(client, "a1", "mallory", ret_error) == KV_EXISTS) {
        printf("a1 is taken\n");
    }
    if (status == 0) {
        status = list(client, "ada", ret_error);
    }
    /* Nobody uses b2; a1 lives for longer than IDLE_MS, since it is used. */
    if (status == 0) {
        status = until_ended(client, "b2", "a1", start.revision, ret_error);
    }
    if (status == 0) {
        status = list(client, "ada", ret_error);
    }
    if (status == 0) {
        status = until_ended(client, "a1", NULL, start.revision, ret_error);
    }
    if (status == 0 && (status = use(client, "a1", "ada", ret_error)) == 0) {
        printf("a1 is not open\n");
    }
    return status < 0 ? status : list(client, "ada", ret_error);
}

int main(int argc, char **argv)
{
    struct kv_client_options options = {.endpoints = argc > 1 ? argv[1] : "127.0.0.1:4700"};
    struct kv_client *client;
    struct kv_error error = {0};
    int status = kv_client_open(&options, &client, &error);

    if (status == 0) {
        status = run(client, &error);
        kv_client_close(client);
    }
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", kv_status_name(status), error.message);
    }
    return status < 0;
}
