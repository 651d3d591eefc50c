/* Feature flags in one hash: read as a whole at one revision, changed only if nobody else changed
 * them meanwhile, and looked up as they were. */
#include <kv/kv.h>
#include <stdio.h>

#define FLAGS kv_bytes_str("flags")

static int64_t
print_flags(struct kv_client *client, int64_t at_revision, struct kv_error *ret_error)
{
    struct kv_get_options options = {.at_revision = at_revision};
    struct kv_fields flags;
    int64_t revision;
    int status = kv_hash_get_all(client, FLAGS, &options, &flags, ret_error);

    if (status < 0) {
        return status;
    }
    for (size_t i = 0; i < flags.n_fields; i++) {
        printf("%s%.*s=%.*s",
               i ? " " : "",
               (int)flags.fields[i].name.size,
               (const char *)flags.fields[i].name.data,
               (int)flags.fields[i].value.size,
               (const char *)flags.fields[i].value.data);
    }
    printf("\n");
    revision = flags.revision;
    kv_fields_free(&flags);
    return revision;
}

/* Done only if the flag still has the value that the editor saw. 1: done, 0: somebody was faster.
 */
static int change(struct kv_client *client,
                  const char *name,
                  const char *from,
                  const char *to,
                  struct kv_error *ret_error)
{
    struct kv_field flag = {.name = kv_bytes_str(name), .value = kv_bytes_str(to)};
    struct kv_txn_result result;
    struct kv_txn *txn;
    int status = kv_txn_begin(client, &txn, ret_error);

    if (status < 0) {
        return status;
    }
    kv_txn_compare(txn,
                   &(struct kv_compare){.key = FLAGS,
                                        .what = KV_COMPARE_FIELD,
                                        .name = kv_bytes_str(name),
                                        .value = kv_bytes_str(from)});
    kv_txn_hash_set(txn, FLAGS, &flag, 1);
    status = kv_txn_commit(txn, NULL, &result, ret_error);
    if (status == 0) {
        status = result.succeeded;
        kv_txn_result_free(&result);
    }
    return status;
}

static int run(struct kv_client *client, struct kv_error *ret_error)
{
    struct kv_field start[] = {
        {.name = kv_bytes_str("checkout"), .value = kv_bytes_str("old")},
        {.name = kv_bytes_str("search"), .value = kv_bytes_str("off")},
    };
    int64_t before;
    int status = kv_hash_set(client, FLAGS, start, 2, false, NULL, NULL, ret_error);

    if (status < 0) {
        return status;
    }
    before = print_flags(client, 0, ret_error);
    if (before < 0) {
        return (int)before;
    }
    status = change(client, "checkout", "old", "new", ret_error);
    if (status >= 0) {
        printf("first editor: %s\n", status ? "done" : "somebody was faster");
        status = change(client, "checkout", "old", "off", ret_error);
    }
    if (status >= 0) {
        printf("second editor: %s\n", status ? "done" : "somebody was faster");
        status = print_flags(client, 0, ret_error) < 0 ? ret_error->status : 0;
    }
    /* What was on when the report came in? */
    if (status == 0) {
        status = print_flags(client, before, ret_error) < 0 ? ret_error->status : 0;
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
