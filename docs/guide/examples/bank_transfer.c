/* A bank transfer: one transaction that takes, gives and writes the statement, or does nothing. */
#include <kv/kv.h>
#include <kv/kv.pb-c.h>
#include <stdio.h>

/* 0: done; KV_CONDITION_FAILED: not enough money, *ret_balance says how much there is. */
static int transfer(struct kv_client *client,
                    const char *from,
                    const char *to,
                    int64_t cents,
                    int64_t *ret_balance,
                    struct kv_error *ret_error)
{
    char line[100];
    struct kv_txn_result result;
    struct kv_txn *txn;
    int status = kv_txn_begin(client, &txn, ret_error);

    if (status < 0) {
        return status;
    }
    snprintf(line, sizeof line, "%s -> %s: %lld", from, to, (long long)cents);
    kv_txn_compare(txn,
                   &(struct kv_compare){.key = kv_bytes_str(from),
                                        .what = KV_COMPARE_COUNTER,
                                        .comparison = KV_GREATER_EQUAL,
                                        .number = cents});
    kv_txn_counter_add(txn, kv_bytes_str(from), -cents);
    kv_txn_counter_add(txn, kv_bytes_str(to), cents);
    kv_txn_list_push(txn, kv_bytes_str("statement"), KV_LIST_RIGHT, kv_bytes_str(line));
    kv_txn_otherwise(txn);
    kv_txn_counter_get(txn, kv_bytes_str(from));
    status = kv_txn_commit(txn, NULL, &result, ret_error);
    if (status < 0) {
        return status;
    }
    /* The first operation of either branch tells the balance of `from`. */
    *ret_balance = result.succeeded ? result.replies[0]->counter_add->value
                                    : result.replies[0]->counter_get->value;
    status = result.succeeded ? 0 : KV_CONDITION_FAILED;
    kv_txn_result_free(&result);
    return status;
}

static int run(struct kv_client *client, struct kv_error *ret_error)
{
    struct kv_elements statement;
    int64_t balance;
    int status = kv_counter_set(client, kv_bytes_str("account:ada"), 10000, NULL, ret_error);

    if (status == 0) {
        status = kv_counter_set(client, kv_bytes_str("account:bob"), 500, NULL, ret_error);
    }
    for (int i = 0; i < 2 && status == 0; i++) {
        status = transfer(client, "account:ada", "account:bob", 7000, &balance, ret_error);
        if (status == 0) {
            printf("done, ada has %lld\n", (long long)balance);
        }
    }
    if (status != KV_CONDITION_FAILED) {
        return status;
    }
    printf("refused, ada has %lld\n", (long long)balance);
    status = kv_counter_get(client, kv_bytes_str("account:bob"), NULL, &balance, ret_error);
    if (status == 0) {
        printf("bob has %lld\n", (long long)balance);
        status =
            kv_list_range(client, kv_bytes_str("statement"), 0, -1, NULL, &statement, ret_error);
    }
    if (status == 0) {
        for (size_t i = 0; i < statement.n_elements; i++) {
            printf("%.*s\n",
                   (int)statement.elements[i].size,
                   (const char *)statement.elements[i].data);
        }
        kv_elements_free(&statement);
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
    status = run(client, &error);
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", kv_status_name(status), error.message);
    }
    kv_client_close(client);
    return status < 0;
}
