#include "tests/sim/queues.h"

#include "common/assert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- judging */

/* By value, the push first. */
static int by_value(const void *a, const void *b)
{
    const struct queue_fact *first = a;
    const struct queue_fact *second = b;
    int order = kv_slice_compare(first->key, second->key);

    order = order ? order : kv_slice_compare(first->value, second->value);
    return order ? order : (int)first->kind - (int)second->kind;
}

/* What left and what is left, in the order in which it left or would. */
static int by_leaving(const void *a, const void *b)
{
    const struct queue_fact *first = *(struct queue_fact *const *)a;
    const struct queue_fact *second = *(struct queue_fact *const *)b;
    int order = kv_slice_compare(first->key, second->key);

    if (order == 0 && first->kind != second->kind) {
        order = (int)first->kind - (int)second->kind;
    }
    if (order == 0 && first->revision != second->revision) {
        order = first->revision < second->revision ? -1 : 1;
    }
    return order ? order : (first->place > second->place) - (first->place < second->place);
}

static void complain(struct checkers *checkers, const struct queue_fact *fact, const char *what)
{
    checkers_fail(checkers,
                  "the value %.*s of the queue %.*s %s (revision %" PRId64 ")",
                  (int)fact->value.size,
                  (const char *)fact->value.data,
                  (int)fact->key.size,
                  (const char *)fact->key.data,
                  what,
                  fact->revision);
}

static bool is_same_value(const struct queue_fact *a, const struct queue_fact *b)
{
    return kv_slice_equal(a->key, b->key) && kv_slice_equal(a->value, b->value);
}

/* The facts about one value. Returns whether it was pushed for certain and nobody has it. */
static bool judge_value(struct checkers *checkers, const struct queue_fact *facts, size_t n)
{
    const struct queue_fact *push = facts[0].kind == QUEUE_PUSHED ? &facts[0] : NULL;

    if (!push || push->refused) {
        if (n > 1 || !push) {
            complain(checkers, &facts[n - 1], push ? "was refused and came" : "was never pushed");
        }
        return false;
    }
    if (n > 2) {
        complain(checkers, &facts[2], "was given twice");
    } else if (n == 2 && facts[1].kind == QUEUE_POPPED && push->revision > 0 &&
               facts[1].revision > 0 && facts[1].revision <= push->revision) {
        complain(checkers, &facts[1], "was given before it was pushed");
    }
    return n == 1 && push->revision > 0;
}

/* Those that are gone from one queue, and what the pops of it that nobody knows the end of may
 * have taken. */
static size_t judge_queue(struct checkers *checkers, const struct queue_fact *facts, size_t n)
{
    const struct queue_fact *gone = NULL;
    uint64_t n_gone = 0, n_missed = 0;
    size_t i = 0;

    while (i < n && kv_slice_equal(facts[i].key, facts[0].key)) {
        size_t end = i + 1;

        if (facts[i].kind == QUEUE_MISSED) {
            n_missed += facts[i++].count;
            continue;
        }
        while (end < n && is_same_value(&facts[end], &facts[i])) {
            end++;
        }
        if (judge_value(checkers, facts + i, end - i)) {
            n_gone++;
            gone = &facts[i];
        }
        i = end;
    }
    if (n_gone > n_missed) {
        complain(checkers, gone, "is lost");
    }
    return i;
}

static const struct queue_fact *push_of(const struct queue_fact *facts, const struct queue_fact *of)
{
    while (of > facts && is_same_value(of - 1, of)) {
        of--;
    }
    return of;
}

/* First in, first out, of those whose push is known. */
static void judge_order(struct checkers *checkers, const struct queue_fact *facts, size_t n)
{
    const struct queue_fact **leaving = malloc((n + 1) * sizeof *leaving);
    const struct queue_fact *last = NULL;
    size_t n_leaving = 0;

    KV_ASSERT(leaving);
    for (size_t i = 0; i < n; i++) {
        if ((facts[i].kind == QUEUE_POPPED && facts[i].revision > 0) ||
            facts[i].kind == QUEUE_LEFT) {
            leaving[n_leaving++] = &facts[i];
        }
    }
    qsort(leaving, n_leaving, sizeof(struct queue_fact *), by_leaving);
    for (size_t i = 0; i < n_leaving; i++) {
        const struct queue_fact *push = push_of(facts, leaving[i]);

        if (push->kind != QUEUE_PUSHED || push->revision == 0) {
            continue;
        }
        if (last && kv_slice_equal(last->key, push->key) &&
            (push->revision < last->revision ||
             (push->revision == last->revision && push->place < last->place))) {
            complain(checkers, leaving[i], "left behind one that was pushed later");
        }
        last = push;
    }
    free(leaving);
}

void queues_judge(struct checkers *checkers, struct queue_fact *facts, size_t n)
{
    if (n == 0) {
        return;
    }
    qsort(facts, n, sizeof *facts, by_value);
    for (size_t i = 0; i < n;) {
        i += judge_queue(checkers, facts + i, n - i);
    }
    judge_order(checkers, facts, n);
}

/* ---------------------------------------------------------------- gathering */

struct gathering {
    struct queue_fact *facts;
    size_t n, capacity;
    struct kv_arena arena;
};

static struct queue_fact *add(struct gathering *gathering, enum queue_fact_kind kind)
{
    if (gathering->n == gathering->capacity) {
        gathering->capacity = gathering->capacity ? gathering->capacity * 2 : 256;
        gathering->facts =
            realloc(gathering->facts, gathering->capacity * sizeof *gathering->facts);
        KV_ASSERT(gathering->facts);
    }
    gathering->facts[gathering->n] = (struct queue_fact){.kind = kind};
    return &gathering->facts[gathering->n++];
}

static struct kv_slice copy(struct gathering *gathering, ProtobufCBinaryData bytes)
{
    uint8_t *data = kv_arena_alloc(&gathering->arena, bytes.len + 1);

    KV_ASSERT(data);
    memcpy(data, bytes.data, bytes.len);
    return kv_slice_of(data, bytes.len);
}

static bool is_queue(ProtobufCBinaryData key)
{
    return key.len >= sizeof QUEUES_PREFIX - 1 &&
           memcmp(key.data, QUEUES_PREFIX, sizeof QUEUES_PREFIX - 1) == 0;
}

static bool is_refused(const struct history_call *call)
{
    return call->status != 0 && kv_status_retry(call->status) != KV_RETRY_UNKNOWN;
}

static void
gather_push(struct gathering *gathering, const struct history_call *call, const Kv__ListPush *push)
{
    for (size_t i = 0; i < push->n_elements; i++) {
        struct queue_fact *fact = add(gathering, QUEUE_PUSHED);

        fact->key = copy(gathering, push->key);
        fact->value = copy(gathering, push->elements[i]);
        fact->revision = call->status == 0 ? call->revision : 0;
        fact->refused = is_refused(call);
        fact->place = i;
    }
}

static void
gather_pop(struct gathering *gathering, const struct history_call *call, const Kv__ListPop *pop)
{
    Kv__Reply *reply =
        call->status == 0 ? kv__reply__unpack(NULL, call->reply.size, call->reply.data) : NULL;

    if (reply && reply->result_case == KV__REPLY__RESULT_LIST_POP) {
        for (size_t i = 0; i < reply->list_pop->n_elements; i++) {
            struct queue_fact *fact = add(gathering, QUEUE_POPPED);

            fact->key = copy(gathering, pop->key);
            fact->value = copy(gathering, reply->list_pop->elements[i]);
            fact->revision = call->revision;
            fact->place = i;
        }
    } else if (call->status != 0 && !is_refused(call) && call->n_effects > 0) {
        struct queue_fact *fact = add(gathering, QUEUE_MISSED);

        fact->key = copy(gathering, pop->key);
        fact->count = pop->count ? pop->count : 1;
    }
    if (reply) {
        kv__reply__free_unpacked(reply, NULL);
    }
}

static void gather_call(struct gathering *gathering, const struct history_call *call)
{
    Kv__Request *request;

    if (call->cls != KV_COMMAND_WRITE || call->internal || !call->has_returned) {
        return;
    }
    request = kv__request__unpack(NULL, call->request.size, call->request.data);
    KV_ASSERT(request);
    if (request->command_case == KV__REQUEST__COMMAND_LIST_PUSH &&
        is_queue(request->list_push->key)) {
        gather_push(gathering, call, request->list_push);
    } else if (request->command_case == KV__REQUEST__COMMAND_LIST_POP &&
               is_queue(request->list_pop->key)) {
        gather_pop(gathering, call, request->list_pop);
    }
    kv__request__free_unpacked(request, NULL);
}

/* Within the lowest work limit. */
enum { REST_PIECE = 100 };

struct rest {
    struct gathering *gathering;
    struct kv_slice key;
    size_t n; /* elements so far */
};

static void on_rest(void *arg, Kv__Reply *reply)
{
    struct rest *rest = arg;

    KV_ASSERT(reply->result_case == KV__REPLY__RESULT_LIST_RANGE);
    for (size_t i = 0; i < reply->list_range->n_elements; i++) {
        struct queue_fact *fact = add(rest->gathering, QUEUE_LEFT);

        fact->key = rest->key;
        fact->value = copy(rest->gathering, reply->list_range->elements[i]);
        fact->place = rest->n++;
    }
}

/* What is in one queue. */
static void
gather_rest_of(struct gathering *gathering, struct kv_machine *machine, struct kv_slice key)
{
    struct rest rest = {gathering, key, 0};
    Kv__ListRange range = KV__LIST_RANGE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    range.key = (ProtobufCBinaryData){key.size, (uint8_t *)(uintptr_t)key.data};
    request.command_case = KV__REQUEST__COMMAND_LIST_RANGE;
    request.list_range = &range;
    do {
        range.first = (int64_t)rest.n;
        range.last = range.first + REST_PIECE - 1;
        kv_machine_read(machine, &request, on_rest, &rest);
    } while ((int64_t)rest.n > range.last);
}

/* What is in the queues of which anything is known. */
static void gather_rest(struct gathering *gathering, struct kv_machine *machine)
{
    size_t n = gathering->n;

    for (size_t i = 0; i < n; i++) {
        const struct kv_slice key = gathering->facts[i].key;
        bool is_known = false;

        for (size_t j = 0; j < i && !is_known; j++) {
            is_known = kv_slice_equal(gathering->facts[j].key, key);
        }
        if (!is_known) {
            gather_rest_of(gathering, machine, key);
        }
    }
}

void queues_check(const struct history *history,
                  struct kv_machine *machine,
                  struct checkers *checkers)
{
    struct gathering gathering = {0};

    kv_arena_init(&gathering.arena, SIZE_MAX);
    for (size_t i = 0; i < history->n_calls; i++) {
        gather_call(&gathering, &history->calls[i]);
    }
    gather_rest(&gathering, machine);
    queues_judge(checkers, gathering.facts, gathering.n);
    kv_arena_deinit(&gathering.arena);
    free(gathering.facts);
}
