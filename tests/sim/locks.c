#include "tests/sim/locks.h"

#include "common/assert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- judging */

/* By token, the taking first, then the writes in their order. */
static int by_token(const void *a, const void *b)
{
    const struct lock_fact *first = a;
    const struct lock_fact *second = b;

    if (first->token != second->token) {
        return first->token < second->token ? -1 : 1;
    }
    if (first->act != second->act) {
        return (int)first->act - (int)second->act;
    }
    return first->revision < second->revision ? -1 : first->revision > second->revision;
}

static void
judge_pair(struct checkers *checkers, const struct lock_fact *before, const struct lock_fact *taken)
{
    if (before->act == LOCK_TAKEN && before->token == taken->token) {
        checkers_fail(checkers,
                      "clients %u and %u hold the same lock with token %" PRId64,
                      before->client,
                      taken->client,
                      taken->token);
    } else if (before->act == LOCK_TAKEN && taken->returned_ns < before->called_ns) {
        checkers_fail(checkers,
                      "client %u got the token %" PRId64 ", a greater one was given before",
                      before->client,
                      before->token);
    } else if (before->act == LOCK_WROTE && before->revision >= taken->token) {
        checkers_fail(checkers,
                      "a write of client %u under token %" PRId64
                      " was accepted at revision %" PRId64 ", behind token %" PRId64
                      " of client %u",
                      before->client,
                      before->token,
                      before->revision,
                      taken->token,
                      taken->client);
    }
}

void locks_judge(struct checkers *checkers, struct lock_fact *facts, size_t n)
{
    size_t first = 0; /* of the token before */

    if (n > 0) {
        qsort(facts, n, sizeof *facts, by_token);
    }
    for (size_t i = 0; i < n && !checkers->has_failed; i++) {
        if (facts[i].act == LOCK_WROTE && facts[i].revision <= facts[i].token) {
            checkers_fail(checkers,
                          "a write of client %u was accepted before its token %" PRId64,
                          facts[i].client,
                          facts[i].token);
        }
        if (facts[i].act != LOCK_TAKEN) {
            continue;
        }
        for (size_t k = first; k < i; k++) {
            judge_pair(checkers, &facts[k], &facts[i]);
        }
        first = i;
    }
}

/* ---------------------------------------------------------------- gathering */

struct taking {
    const struct history_call *call;
    unsigned lock; /* the last byte of its key */
    struct lock_fact fact;
};

static bool begins(ProtobufCBinaryData key, const char *prefix)
{
    return key.len > strlen(prefix) && memcmp(key.data, prefix, strlen(prefix)) == 0;
}

/* False: it is no such transaction, or had no effect. */
static bool
read_call(const struct history_call *call, const Kv__Request *request, struct taking *taking)
{
    const Kv__Txn *txn = request->txn;
    Kv__Reply *reply;
    bool succeeded;

    if (request->command_case != KV__REQUEST__COMMAND_TXN || txn->n_then != 1 ||
        txn->n_compares != 1 || txn->then[0]->command_case != KV__REQUEST__COMMAND_PUT) {
        return false;
    }
    reply = kv__reply__unpack(NULL, call->reply.size, call->reply.data);
    succeeded = reply && reply->result_case == KV__REPLY__RESULT_TXN && reply->txn->succeeded;
    if (reply) {
        kv__reply__free_unpacked(reply, NULL);
    }
    *taking = (struct taking){.call = call,
                              .fact = {.client = call->client,
                                       .revision = call->revision,
                                       .called_ns = call->called_ns,
                                       .returned_ns = call->returned_ns}};
    if (begins(txn->then[0]->put->key, LOCKS_PREFIX)) {
        taking->fact.act = LOCK_TAKEN;
        taking->fact.token = call->revision;
    } else if (begins(txn->then[0]->put->key, LOCKS_GUARDED_PREFIX)) {
        taking->fact.act = LOCK_WROTE;
        taking->fact.token = txn->compares[0]->create_revision;
    } else {
        return false;
    }
    taking->lock = txn->then[0]->put->key.data[txn->then[0]->put->key.len - 1];
    return succeeded;
}

void locks_check(const struct history *history, struct checkers *checkers)
{
    struct lock_fact *facts[256] = {0};
    size_t n[256] = {0}, capacity[256] = {0};

    for (size_t i = 0; i < history->n_calls; i++) {
        const struct history_call *call = &history->calls[i];
        Kv__Request *request;
        struct taking taking;

        if (call->cls != KV_COMMAND_WRITE || !call->has_returned || call->status != 0) {
            continue;
        }
        request = kv__request__unpack(NULL, call->request.size, call->request.data);
        KV_ASSERT(request);
        if (read_call(call, request, &taking)) {
            unsigned lock = taking.lock;

            if (n[lock] == capacity[lock]) {
                capacity[lock] = capacity[lock] ? capacity[lock] * 2 : 64;
                facts[lock] = realloc(facts[lock], capacity[lock] * sizeof *facts[lock]);
                KV_ASSERT(facts[lock]);
            }
            facts[lock][n[lock]++] = taking.fact;
        }
        kv__request__free_unpacked(request, NULL);
    }
    for (unsigned lock = 0; lock < 256; lock++) {
        locks_judge(checkers, facts[lock], n[lock]);
        free(facts[lock]);
    }
}
