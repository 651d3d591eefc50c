#include "client/kvbench/load.h"
#include "client/kvbench/fanout.h"
#include "client/kvbench/watchers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { FIELDS_PER_HASH = 10 };

static const struct load loads[] = {
    {"put", "set a string", {OPERATION_PUT, OPERATION_PUT}, false, NULL},
    {"get", "read a string", {OPERATION_GET, OPERATION_GET}, false, NULL},
    {"mix", "put or get, half and half", {OPERATION_PUT, OPERATION_GET}, true, NULL},
    {"counter-add",
     "add 1 to a counter (etcd: read, then compare and swap until it succeeds)",
     {OPERATION_COUNTER_ADD, OPERATION_COUNTER_ADD},
     false,
     NULL},
    {"hash-set",
     "set a field; hashes of ten fields",
     {OPERATION_HASH_SET, OPERATION_HASH_SET},
     false,
     NULL},
    {"zset-add",
     "give a member of one sorted set, of --keys members, a random score",
     {OPERATION_ZSET_ADD, OPERATION_ZSET_ADD},
     false,
     NULL},
    {"zset-rank",
     "ask for a member's rank, counted from the greatest score",
     {OPERATION_ZSET_RANK, OPERATION_ZSET_RANK},
     false,
     NULL},
    {"leaderboard",
     "zset-add and zset-rank by turns",
     {OPERATION_ZSET_ADD, OPERATION_ZSET_RANK},
     false,
     NULL},
    {"limiter",
     "take a token, of a million each second (etcd: as counter-add)",
     {OPERATION_LIMITER, OPERATION_LIMITER},
     false,
     NULL},
    {"list-push", "push to the right end", {OPERATION_LIST_PUSH, OPERATION_LIST_PUSH}, false, NULL},
    {"list-pop", "pop from the left end", {OPERATION_LIST_POP, OPERATION_LIST_POP}, false, NULL},
    {"list",
     "list-push and list-pop by turns",
     {OPERATION_LIST_PUSH, OPERATION_LIST_POP},
     false,
     NULL},
    {"publish", "publish to a topic", {OPERATION_PUBLISH, OPERATION_PUBLISH}, false, NULL},
    {"lease-grant",
     "grant a lease of --ttl-ms",
     {OPERATION_LEASE_GRANT, OPERATION_LEASE_GRANT},
     false,
     NULL},
    {"lease-renew",
     "renew --batch leases, in order with --sequential",
     {OPERATION_LEASE_RENEW, OPERATION_LEASE_RENEW},
     false,
     NULL},
    {"watch",
     "put to one key that --watchers watch; --pipeline puts not yet told to all",
     {OPERATION_PUT, OPERATION_PUT},
     false,
     fanout_run},
    {"subscribe",
     "the same with a topic",
     {OPERATION_PUBLISH, OPERATION_PUBLISH},
     false,
     fanout_run},
    {"watch-idle",
     "watch a key each, say so, and wait for --seconds or the end of stdin",
     {OPERATION_PUT, OPERATION_PUT},
     false,
     watchers_run_idle},
    {"watch-catch-up",
     "watch --prefix --from a revision for --count events, again and again",
     {OPERATION_PUT, OPERATION_PUT},
     false,
     watchers_run_catch_up},
};

const struct load *load_find(const char *name)
{
    for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++) {
        if (strcmp(loads[i].name, name) == 0) {
            return &loads[i];
        }
    }
    return NULL;
}

void load_print_help(void)
{
    printf("Operations:\n");
    for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++) {
        printf("  %-24s %s\n", loads[i].name, loads[i].help);
    }
}

void load_name(struct bench_request *request,
               uint64_t number,
               const char *prefix,
               struct load_names *names)
{
    int key_size;
    int element_size = 0;

    switch (request->operation) {
    case OPERATION_HASH_SET:
        key_size = snprintf(names->key,
                            sizeof names->key,
                            "%s%012" PRIu64,
                            prefix,
                            number / (uint64_t)FIELDS_PER_HASH);
        element_size = snprintf(names->element,
                                sizeof names->element,
                                "field%" PRIu64,
                                number % (uint64_t)FIELDS_PER_HASH);
        break;
    case OPERATION_ZSET_ADD:
    case OPERATION_ZSET_RANK:
        key_size = snprintf(names->key, sizeof names->key, "%sboard", prefix);
        element_size =
            snprintf(names->element, sizeof names->element, "player:%012" PRIu64, number);
        break;
    default:
        key_size = snprintf(names->key, sizeof names->key, "%s%012" PRIu64, prefix, number);
    }
    request->key = kv_slice_of(names->key, (size_t)key_size);
    request->element = kv_slice_of(names->element, (size_t)element_size);
}
