/* A session store: a hash per session, and a set per user of the sessions that are open. Signing in
 * and out change both at once. */
#include <kv/kv.h>
#include <kv/kv.pb-c.h>
#include <stdio.h>

static struct kv_bytes join(char *buffer, size_t size, const char *kind, const char *id)
{
    snprintf(buffer, size, "%s:%s", kind, id);
    return kv_bytes_str(buffer);
}

static int
sign_in(struct kv_client *client, const char *session, const char *user, struct kv_error *ret_error)
{
    struct kv_field fields[] = {
        {.name = kv_bytes_str("user"), .value = kv_bytes_str(user)},
        {.name = kv_bytes_str("theme"), .value = kv_bytes_str("dark")},
    };
    char session_key[100];
    char user_key[100];
    struct kv_txn_result result;
    struct kv_txn *txn;
    int status = kv_txn_begin(client, &txn, ret_error);

    if (status < 0) {
        return status;
    }
    join(session_key, sizeof session_key, "session", session);
    join(user_key, sizeof user_key, "sessions-of", user);
    /* An id that is taken is not taken over. */
    kv_txn_compare(txn,
                   &(struct kv_compare){.key = kv_bytes_str(session_key),
                                        .what = KV_COMPARE_EXISTS,
                                        .comparison = KV_NOT_EQUAL});
    kv_txn_hash_set(txn, kv_bytes_str(session_key), fields, 2);
    kv_txn_set_add(txn, kv_bytes_str(user_key), kv_bytes_str(session));
    status = kv_txn_commit(txn, NULL, &result, ret_error);
    if (status == 0) {
        status = result.succeeded ? 0 : KV_EXISTS;
        kv_txn_result_free(&result);
    }
    return status;
}

/* All sessions of a user end in one change. */
static int
sign_out_everywhere(struct kv_client *client, const char *user, struct kv_error *ret_error)
{
    char key[100];
    struct kv_bytes set = join(key, sizeof key, "sessions-of", user);
    struct kv_elements sessions;
    struct kv_txn_result result;
    struct kv_txn *txn;
    int status = kv_set_members(client, set, NULL, &sessions, ret_error);

    if (status == 0) {
        status = kv_txn_begin(client, &txn, ret_error);
    }
    if (status < 0) {
        return status;
    }
    for (size_t i = 0; i < sessions.n_elements; i++) {
        char session[100];

        snprintf(session,
                 sizeof session,
                 "session:%.*s",
                 (int)sessions.elements[i].size,
                 (const char *)sessions.elements[i].data);
        kv_txn_delete(txn, kv_bytes_str(session));
    }
    kv_txn_delete(txn, set);
    status = kv_txn_commit(txn, NULL, &result, ret_error);
    if (status == 0) {
        kv_txn_result_free(&result);
        printf("signed out of %zu sessions\n", sessions.n_elements);
    }
    kv_elements_free(&sessions);
    return status;
}

static int use(struct kv_client *client, const char *session, struct kv_error *ret_error)
{
    char key[100];
    struct kv_bytes hash = join(key, sizeof key, "session", session);
    struct kv_fields fields;
    int64_t requests = 0;
    int status = kv_hash_get_all(client, hash, NULL, &fields, ret_error);

    if (status < 0) {
        return status;
    }
    if (fields.n_fields == 0) {
        printf("session %s is not open\n", session);
        kv_fields_free(&fields);
        return 0;
    }
    kv_fields_free(&fields);
    status = kv_hash_add(client, hash, kv_bytes_str("requests"), 1, NULL, &requests, ret_error);
    if (status == 0) {
        printf("session %s: request %lld\n", session, (long long)requests);
    }
    return status;
}

int main(int argc, char **argv)
{
    struct kv_client_options options = {.endpoints = argc > 1 ? argv[1] : "127.0.0.1:4700"};
    struct kv_client *client;
    struct kv_error error = {0};
    int status = kv_client_open(&options, &client, &error);

    if (status < 0) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    status = sign_in(client, "a1", "ada", &error);
    if (status == 0) {
        status = sign_in(client, "b2", "ada", &error);
    }
    if (status == 0 && sign_in(client, "a1", "mallory", &error) == KV_EXISTS) {
        printf("session a1 is taken\n");
    }
    if (status == 0) {
        status = use(client, "a1", &error);
    }
    if (status == 0) {
        status = use(client, "a1", &error);
    }
    if (status == 0) {
        status = sign_out_everywhere(client, "ada", &error);
    }
    if (status == 0) {
        status = use(client, "a1", &error);
    }
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", kv_status_name(status), error.message);
    }
    kv_client_close(client);
    return status < 0;
}
