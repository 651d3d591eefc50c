/* The judgement at the end: the committed log, run through a fresh machine, says what each client
 * should have been told. */
#include "tests/sim/calls.h"

#include "common/assert.h"
#include "common/reached.h"
#include "proto/entry.h"
#include "raft/replica.h"
#include "server/machine/machine_internal.h"
#include "tests/sim/checkers.h"
#include "tests/sim/queues.h"
#include "tests/sim/shape.h"
#include "tests/sim/truth.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 1024 * 1024 };

struct oracle {
    struct history *history;
    struct checkers *checkers;
    struct kv_machine *machine;
    struct truth *truth;  /* NULL: nobody wants it */
    bool time_has_passed; /* what is due in this entry has ended */
    uint64_t index;
    /* calls that read, by the revision of their answers */
    struct history_call **reads;
    size_t n_reads, first_read;
    /* every id in the log so far */
    uint64_t *ids;
    size_t n_ids, ids_capacity;
};

static const char *name_of(const struct history_call *call)
{
    Kv__Request *request = kv__request__unpack(NULL, call->request.size, call->request.data);
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(
        &kv__request__descriptor, request ? request->command_case : 0);

    if (request) {
        kv__request__free_unpacked(request, NULL);
    }
    return field ? field->name : "?";
}

/* ---------------------------------------------------------------- writes */

struct expected {
    struct oracle *oracle;      /* that wants to know what was done; NULL: a read */
    const Kv__Request *request; /* likewise */
    uint64_t id;
    struct history_call *call;
    bool is_same;
    bool is_stamped;
    bool has_effect; /* it made a revision */
    Kv__Code code;
};

/* How many subscribe on a node is its own matter, and not in the log. */
static void adopt_subscribers(Kv__Reply *reply, const struct history_call *call)
{
    Kv__Reply *told = kv__reply__unpack(NULL, call->reply.size, call->reply.data);

    if (told && told->result_case == KV__REPLY__RESULT_TOPIC_LIST &&
        told->topic_list->n_topics == reply->topic_list->n_topics) {
        for (size_t i = 0; i < told->topic_list->n_topics; i++) {
            reply->topic_list->topics[i]->subscribers = told->topic_list->topics[i]->subscribers;
        }
    }
    if (told) {
        kv__reply__free_unpacked(told, NULL);
    }
}

static void compare(struct expected *expected, Kv__Reply *reply)
{
    size_t size;
    uint8_t *packed;

    expected->code = reply->code;
    reply->id = expected->id;
    if (reply->result_case == KV__REPLY__RESULT_TOPIC_LIST) {
        adopt_subscribers(reply, expected->call);
    }
    size = kv__reply__get_packed_size(reply);
    packed = malloc(size + 1);
    KV_ASSERT(packed);
    kv__reply__pack(reply, packed);
    expected->is_same =
        size == expected->call->reply.size && memcmp(packed, expected->call->reply.data, size) == 0;
    free(packed);
}

static void note_done(struct truth *truth,
                      const Kv__Request *request,
                      const Kv__Reply *reply,
                      int64_t revision);

static void
note_txn(struct truth *truth, const Kv__Txn *txn, const Kv__TxnResult *result, int64_t revision)
{
    Kv__Request **operations = result->succeeded ? txn->then : txn->otherwise;

    for (size_t i = 0; i < result->n_replies; i++) {
        note_done(truth, operations[i], result->replies[i], revision);
    }
}

/* What a command did that no key tells. */
static void
note_done(struct truth *truth, const Kv__Request *request, const Kv__Reply *reply, int64_t revision)
{
    switch (reply->result_case) {
    case KV__REPLY__RESULT_LEASE_GRANT:
        truth_lease(truth, reply->lease_grant->lease_id, reply->lease_grant->ttl_ms);
        break;
    case KV__REPLY__RESULT_LEASE_KEEP_ALIVE:
        for (size_t i = 0; i < reply->lease_keep_alive->n_leases; i++) {
            const Kv__LeaseResult *lease = reply->lease_keep_alive->leases[i];

            if (lease->ttl_ms > 0) {
                truth_lease(truth, lease->lease_id, lease->ttl_ms);
            }
        }
        break;
    case KV__REPLY__RESULT_LEASE_REVOKE:
        /* The keys that are left of it are taken away as if its time was over, but no events say
         * so. */
        truth_lease(truth, request->lease_revoke->lease_id, 0);
        break;
    case KV__REPLY__RESULT_PUBLISH:
        truth_message(truth, revision, request->publish);
        break;
    case KV__REPLY__RESULT_CONFIG_SET:
        truth_setting(truth, request->config_set);
        break;
    case KV__REPLY__RESULT_TXN:
        note_txn(truth, request->txn, reply->txn, revision);
        break;
    default:
        break;
    }
}

/* A retry with a stamp that was done before gets the answer of that, and does nothing. */
static bool is_done_again(struct history_call *call, const Kv__SessionStamp *stamp)
{
    bool result =
        stamp && call->done_session == stamp->session_id && call->done_sequence == stamp->sequence;

    if (stamp) {
        call->done_session = stamp->session_id;
        call->done_sequence = stamp->sequence;
    }
    return result;
}

static void on_write(void *arg, Kv__Reply *reply)
{
    struct expected *expected = arg;

    if (reply->code == 0 && !is_done_again(expected->call, expected->request->session) &&
        expected->oracle->truth && !expected->oracle->truth->times_alone) {
        note_done(expected->oracle->truth, expected->request, reply, reply->revision);
    }
    compare(expected, reply);
}

static bool is_refusal(int status)
{
    enum kv_retry retry = kv_status_retry(status);

    return status != 0 && (retry == KV_RETRY_LATER || retry == KV_RETRY_ELSEWHERE);
}

static void
check_write(struct oracle *oracle, struct history_call *call, const struct expected *expected)
{
    /* What the machine itself refuses may be asked again, and is no try that counts. */
    bool is_refused = is_refusal(-(int)expected->code);

    if (expected->code == KV__CODE__NO_SPACE) {
        KV_REACHED("data-limit");
    }
    call->n_committed += !is_refused;
    call->n_effects += expected->has_effect;
    if (call->n_committed > 1 && !call->repeatable && !call->renews && !expected->is_stamped) {
        checkers_fail(oracle->checkers,
                      "%s of client %u is in the log twice, again at entry %" PRIu64,
                      name_of(call),
                      call->client,
                      oracle->index);
    }
    if (call->n_effects > 1 && expected->is_stamped) {
        checkers_fail(oracle->checkers,
                      "%s of client %u has a stamp and took effect twice, again at entry %" PRIu64,
                      name_of(call),
                      call->client,
                      oracle->index);
    }
    if (call->has_returned && is_refusal(call->status) && !call->renews &&
        (expected->has_effect || !(expected->is_stamped || is_refused))) {
        checkers_fail(oracle->checkers,
                      "%s of client %u was refused (%s) and is in the log at entry %" PRIu64,
                      name_of(call),
                      call->client,
                      kv_status_name(call->status),
                      oracle->index);
    }
    if (!call->has_reply || call->reply_id != expected->id ||
        kv_status_retry(call->status) == KV_RETRY_UNKNOWN) {
        return;
    }
    call->is_explained = true;
    if (!expected->is_same) {
        checkers_fail(oracle->checkers,
                      "%s of client %u at entry %" PRIu64 " was answered %s at revision %" PRId64
                      ", the log says %s at revision %" PRId64,
                      name_of(call),
                      call->client,
                      oracle->index,
                      kv_status_name(call->status),
                      call->revision,
                      kv_status_name(-(int)expected->code),
                      kv_machine_revision(oracle->machine));
    }
}

/* A try of a pop that waits now: the first, or one that joins the earlier ones. */
static void note_wait(struct oracle *oracle, const Kv__Request *request, struct history_call *call)
{
    call->first_wait = call->first_wait ? call->first_wait : request->id;
    call->last_wait = request->id;
    (void)kv_machine_tag_waiter(oracle->machine, request->session, call);
}

/* Whichever of its tries is told (nodes know the one that came by them): the answer is the same. */
static void on_wake(void *arg, void *tag, Kv__Reply *reply)
{
    struct oracle *oracle = arg;
    struct history_call *call = tag;
    struct expected expected = {.call = call, .is_stamped = true, .has_effect = reply->code == 0};

    if (call->reply_id >= call->first_wait && call->reply_id <= call->last_wait) {
        expected.id = call->reply_id;
    }
    compare(&expected, reply);
    check_write(oracle, call, &expected);
}

static void note_id(struct oracle *oracle, uint64_t id)
{
    if (oracle->n_ids == oracle->ids_capacity) {
        oracle->ids_capacity = oracle->ids_capacity ? oracle->ids_capacity * 2 : 1024;
        oracle->ids = realloc(oracle->ids, oracle->ids_capacity * sizeof *oracle->ids);
        KV_ASSERT(oracle->ids);
    }
    oracle->ids[oracle->n_ids++] = id;
}

static void look(struct oracle *oracle)
{
    if (oracle->truth) {
        truth_look(oracle->truth, oracle->machine, false);
    }
}

/* Ends what is due, as the first command of the entry would, or its end. */
static void let_time_pass(struct oracle *oracle, size_t max_pieces)
{
    if (oracle->time_has_passed) {
        return;
    }
    kv_machine_expire(oracle->machine, max_pieces);
    oracle->time_has_passed = true;
    if (oracle->truth) {
        truth_look(oracle->truth, oracle->machine, true);
        truth_check_time(oracle->truth, max_pieces, oracle->checkers);
    }
}

/* What the first leader of a new cluster is told by its flags, and asks for itself. */
static bool is_bootstrap(const Kv__Request *request)
{
    return request->command_case == KV__REQUEST__COMMAND_CONFIG_SET &&
           request->config_set->at_bootstrap && request->id == 0;
}

static void run_request(struct oracle *oracle, struct kv_slice bytes)
{
    Kv__Request *request = kv__request__unpack(NULL, bytes.size, bytes.data);
    struct history_call *call;
    struct expected expected = {0};
    int64_t revision;

    if (!request) {
        checkers_fail(
            oracle->checkers, "entry %" PRIu64 " holds a request that is none", oracle->index);
        return;
    }
    /* Renewals come before what their time would end. */
    if (request->command_case != KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE) {
        let_time_pass(oracle, KV_EXPIRE_PIECES_BESIDE);
    }
    call = history_find(oracle->history, request->id);
    if (is_bootstrap(request)) {
        kv_machine_execute(oracle->machine, request, NULL, NULL);
    } else if (!call) {
        checkers_fail(oracle->checkers,
                      "entry %" PRIu64 " holds a request that nobody sent (id %" PRIx64 ")",
                      oracle->index,
                      request->id);
    } else {
        expected = (struct expected){
            .oracle = oracle, .request = request, .id = request->id, .call = call};
        note_id(oracle, request->id);
        expected.is_stamped = request->session != NULL;
        revision = kv_machine_revision(oracle->machine);
        if (!kv_machine_execute(oracle->machine, request, on_write, &expected)) {
            note_wait(oracle, request, call);
        } else if (!call->internal) {
            expected.has_effect = kv_machine_revision(oracle->machine) != revision;
            check_write(oracle, call, &expected);
        }
    }
    look(oracle);
    kv__request__free_unpacked(request, NULL);
}

static void run_entry(struct oracle *oracle)
{
    const struct checked_entry *entry = checkers_entry(oracle->checkers, oracle->index);
    struct kv_slice data = checkers_entry_bytes(oracle->checkers, oracle->index);
    struct kv_entry_reader reader;
    struct kv_slice request;

    if (entry->type != KV_ENTRY_COMMAND) {
        return;
    }
    if (kv_entry_read_head(data, &reader) != 0 ||
        kv_machine_begin(
            oracle->machine, oracle->index, reader.machine_version, reader.cluster_time_ms) != 0) {
        checkers_fail(oracle->checkers, "entry %" PRIu64 " is malformed", oracle->index);
        return;
    }
    oracle->time_has_passed = false;
    if (oracle->truth) {
        oracle->truth->index = oracle->index;
        oracle->truth->time_ms = kv_machine_cluster_time_ms(oracle->machine);
    }
    while (kv_entry_read_request(&reader, &request) == 1) {
        run_request(oracle, request);
    }
    let_time_pass(oracle, KV_EXPIRE_PIECES);
    kv_machine_serve_rest(oracle->machine);
    look(oracle);
    kv_machine_end(oracle->machine);
    if (oracle->truth) {
        oracle->truth->oldest = kv_machine_oldest_revision(oracle->machine);
    }
    if (entry->has_state && kv_machine_state_hash(oracle->machine) != entry->state_hash) {
        checkers_fail(oracle->checkers,
                      "the state of the nodes after entry %" PRIu64 " is not that of the log",
                      oracle->index);
    }
}

/* ---------------------------------------------------------------- reads */

static void on_read(void *arg, Kv__Reply *reply)
{
    compare(arg, reply);
}

struct pieces {
    uint64_t hash, keys;
};

static void on_piece(void *arg, Kv__RangeResult *result, int64_t revision)
{
    struct pieces *pieces = arg;

    (void)revision;
    pieces->hash = history_hash_pairs(pieces->hash, result);
    pieces->keys += result->n_kvs;
}

static bool
is_stream_right(struct oracle *oracle, const struct history_call *call, const Kv__Request *request)
{
    struct kv_range_stream *stream = calloc(1, sizeof *stream);
    struct pieces pieces = {0};
    struct kv_error error;
    int status;

    KV_ASSERT(stream);
    do {
        status = kv_machine_range_piece(
            oracle->machine, request->range, stream, PIECE_BYTES, on_piece, &pieces, &error);
    } while (status == 1);
    free(stream);
    return status == 0 && pieces.hash == call->stream_hash && pieces.keys == call->stream_keys;
}

/* Does the state as it is now explain the answer? */
static bool is_explained(struct oracle *oracle, struct history_call *call)
{
    Kv__Request *request = kv__request__unpack(NULL, call->request.size, call->request.data);
    struct expected expected = {.id = call->reply_id, .call = call};
    bool result;

    KV_ASSERT(request);
    if (call->cls == KV_COMMAND_STREAM) {
        result = is_stream_right(oracle, call, request);
    } else {
        kv_machine_read(oracle->machine, request, on_read, &expected);
        result = expected.is_same;
    }
    kv__request__free_unpacked(request, NULL);
    return result;
}

static int64_t revision_of(const struct history_call *call)
{
    return call->cls == KV_COMMAND_STREAM && call->stream_revision ? call->stream_revision
                                                                   : call->revision;
}

/* A reply that the state alone explains. */
static bool is_read(const struct history_call *call)
{
    if (call->cls == KV_COMMAND_STREAM) {
        return call->has_returned && call->status == 0 && call->stream_revision > 0;
    }
    return call->cls == KV_COMMAND_READ && call->has_reply &&
           (call->status == 0 || kv_status_retry(call->status) == KV_RETRY_NEVER);
}

static int by_revision(const void *a, const void *b)
{
    const struct history_call *first = *(struct history_call *const *)a;
    const struct history_call *second = *(struct history_call *const *)b;

    if (revision_of(first) != revision_of(second)) {
        return revision_of(first) < revision_of(second) ? -1 : 1;
    }
    return first < second ? -1 : first > second;
}

/* A read that was refused as wrong in itself, by no state: it is. */
static bool check_refusal(struct oracle *oracle, const struct history_call *call)
{
    Kv__Request *request;
    struct kv_error error;
    int status;

    if (call->revision != 0 || call->status == 0) {
        return false;
    }
    if (call->status == KV_INVALID && call->is_stampable) {
        return true; /* for the stamp, which it has not here */
    }
    request = kv__request__unpack(NULL, call->request.size, call->request.data);
    KV_ASSERT(request);
    status = kv_command_validate(request, kv_machine_settings_of(oracle->machine), &error);
    if (status != call->status) {
        checkers_fail(oracle->checkers,
                      "%s of client %u was refused unseen: %s, where %s is due",
                      name_of(call),
                      call->client,
                      kv_status_name(call->status),
                      kv_status_name(status));
    }
    kv__request__free_unpacked(request, NULL);
    return true;
}

static void collect_reads(struct oracle *oracle)
{
    struct history *history = oracle->history;

    oracle->reads = malloc((history->n_calls + 1) * sizeof *oracle->reads);
    KV_ASSERT(oracle->reads);
    for (size_t i = 0; i < history->n_calls; i++) {
        if (is_read(&history->calls[i]) && !check_refusal(oracle, &history->calls[i])) {
            oracle->reads[oracle->n_reads++] = &history->calls[i];
        }
    }
    qsort(oracle->reads, oracle->n_reads, sizeof *oracle->reads, by_revision);
}

/* The reads of this revision; several entries may leave the revision as it is, and any of them may
 * be the one that the node had applied last. */
static void check_reads(struct oracle *oracle)
{
    int64_t revision = kv_machine_revision(oracle->machine);

    while (oracle->first_read < oracle->n_reads &&
           (oracle->reads[oracle->first_read]->is_explained ||
            revision_of(oracle->reads[oracle->first_read]) < revision)) {
        struct history_call *call = oracle->reads[oracle->first_read++];

        /* A stream at a former revision need not begin between two entries. */
        if (!call->is_explained &&
            (call->cls != KV_COMMAND_STREAM || !is_explained(oracle, call))) {
            checkers_fail(oracle->checkers,
                          "%s of client %u was answered %s at revision %" PRId64
                          ", where the log says otherwise",
                          name_of(call),
                          call->client,
                          kv_status_name(call->status),
                          revision_of(call));
        }
    }
    for (size_t i = oracle->first_read;
         i < oracle->n_reads && revision_of(oracle->reads[i]) == revision;
         i++) {
        oracle->reads[i]->is_explained =
            oracle->reads[i]->is_explained || is_explained(oracle, oracle->reads[i]);
    }
}

/* ---------------------------------------------------------------- real time */

struct moment {
    uint64_t time_ns;
    bool is_return; /* returns come last of a moment */
    struct history_call *call;
};

static int by_time(const void *a, const void *b)
{
    const struct moment *first = a;
    const struct moment *second = b;

    if (first->time_ns != second->time_ns) {
        return first->time_ns < second->time_ns ? -1 : 1;
    }
    return first->is_return - second->is_return;
}

static bool has_order(const struct history_call *call)
{
    return call->is_explained && !call->serializable && call->cls != KV_COMMAND_STREAM;
}

/* The revision in the past that a read asked for; 0: none. */
static int64_t past_of(const struct history_call *call)
{
    Kv__Request *request;
    const ProtobufCFieldDescriptor *field, *asked;
    int64_t revision = 0;

    if (call->cls != KV_COMMAND_READ || call->serializable || call->status != 0) {
        return 0;
    }
    request = kv__request__unpack(NULL, call->request.size, call->request.data);
    KV_ASSERT(request);
    field =
        protobuf_c_message_descriptor_get_field(&kv__request__descriptor, request->command_case);
    asked = protobuf_c_message_descriptor_get_field_by_name(field->descriptor, "at_revision");
    if (asked) {
        const uint8_t *body = *(uint8_t *const *)(const void *)((uint8_t *)request + field->offset);

        memcpy(&revision, body + asked->offset, sizeof revision);
    }
    kv__request__free_unpacked(request, NULL);
    return revision;
}

/* The oldest revision that an answered compaction left; 0: it is none. */
static int64_t oldest_of(const struct history_call *call)
{
    Kv__Reply *reply = call->status == 0 && call->cls == KV_COMMAND_WRITE
                           ? kv__reply__unpack(NULL, call->reply.size, call->reply.data)
                           : NULL;
    int64_t oldest = reply && reply->result_case == KV__REPLY__RESULT_COMPACT
                         ? reply->compact->oldest_revision
                         : 0;

    if (reply) {
        kv__reply__free_unpacked(reply, NULL);
    }
    return oldest;
}

struct order {
    struct oracle *oracle;
    int64_t known;    /* newest revision that was told so far */
    int64_t oldest;   /* that a compaction told */
    int64_t *floors;  /* by call: what was known when it was asked */
    int64_t *oldests; /* likewise */
};

static void check_return(struct order *order, const struct history_call *call)
{
    size_t number = (size_t)(call - order->oracle->history->calls);
    int64_t oldest = oldest_of(call);
    int64_t past = order->oldests[number] > 0 ? past_of(call) : 0;

    if (call->revision < order->floors[number]) {
        checkers_fail(order->oracle->checkers,
                      "stale: %s of client %u was answered at revision %" PRId64
                      ", revision %" PRId64 " was known when it was asked",
                      name_of(call),
                      call->client,
                      call->revision,
                      order->floors[number]);
    }
    if (past > 0 && past < order->oldests[number]) {
        checkers_fail(order->oracle->checkers,
                      "%s of client %u was answered from revision %" PRId64
                      ", before it was asked a compaction had left %" PRId64,
                      name_of(call),
                      call->client,
                      past,
                      order->oldests[number]);
    }
    order->known = call->revision > order->known ? call->revision : order->known;
    order->oldest = oldest > order->oldest ? oldest : order->oldest;
}

/* The revision of an answer says where in the one order of all commands it stands: not before what
 * had been answered when it was asked. */
static void check_real_time(struct oracle *oracle)
{
    struct history *history = oracle->history;
    struct moment *moments = malloc((2 * history->n_calls + 1) * sizeof *moments);
    struct order order = {.oracle = oracle};
    size_t n = 0;

    order.floors = calloc(history->n_calls + 1, sizeof *order.floors);
    order.oldests = calloc(history->n_calls + 1, sizeof *order.oldests);
    KV_ASSERT(moments && order.floors && order.oldests);
    for (size_t i = 0; i < history->n_calls; i++) {
        struct history_call *call = &history->calls[i];

        if (has_order(call)) {
            moments[n++] = (struct moment){call->called_ns, false, call};
            moments[n++] = (struct moment){call->returned_ns, true, call};
        }
    }
    qsort(moments, n, sizeof *moments, by_time);
    for (size_t i = 0; i < n; i++) {
        size_t number = (size_t)(moments[i].call - history->calls);

        if (moments[i].is_return) {
            check_return(&order, moments[i].call);
        } else {
            order.floors[number] = order.known;
            order.oldests[number] = order.oldest;
        }
    }
    free(moments);
    free(order.floors);
    free(order.oldests);
}

/* ---------------------------------------------------------------- all */

static int by_value(const void *a, const void *b)
{
    uint64_t first = *(const uint64_t *)a;
    uint64_t second = *(const uint64_t *)b;

    return first < second ? -1 : first > second;
}

static void check_ids(struct oracle *oracle)
{
    if (oracle->n_ids == 0) {
        return;
    }
    qsort(oracle->ids, oracle->n_ids, sizeof *oracle->ids, by_value);
    for (size_t i = 1; i < oracle->n_ids; i++) {
        if (oracle->ids[i] == oracle->ids[i - 1]) {
            checkers_fail(oracle->checkers,
                          "the request with id %" PRIx64 " is in the log twice",
                          oracle->ids[i]);
        }
    }
}

static void check_calls(struct oracle *oracle)
{
    struct history *history = oracle->history;

    for (size_t i = 0; i < history->n_calls; i++) {
        struct history_call *call = &history->calls[i];

        if (call->internal) {
            continue;
        }
        if (!call->has_returned) {
            checkers_fail(
                oracle->checkers, "%s of client %u never ended", name_of(call), call->client);
        } else if (call->cls == KV_COMMAND_WRITE && call->status == 0 && !call->is_explained) {
            checkers_fail(oracle->checkers,
                          "the acknowledged %s of client %u (revision %" PRId64
                          ") is not in the log",
                          name_of(call),
                          call->client,
                          call->revision);
        }
    }
}

void history_check(struct history *history, struct checkers *checkers, struct truth *truth)
{
    struct oracle oracle = {.history = history, .checkers = checkers, .truth = truth};

    KV_ASSERT(kv_machine_open(&oracle.machine) == 0);
    shape_history(oracle.machine, checkers->history_marks);
    kv_machine_on_wake(oracle.machine, on_wake, &oracle);
    collect_reads(&oracle);
    check_reads(&oracle);
    for (uint64_t index = 1; index <= checkers->n_entries && !checkers->has_failed; index++) {
        if (checkers->entries[index - 1].term == 0) {
            break; /* committed, and not yet applied anywhere */
        }
        oracle.index = index;
        run_entry(&oracle);
        check_reads(&oracle);
    }
    while (oracle.first_read < oracle.n_reads && !checkers->has_failed) {
        const struct history_call *call = oracle.reads[oracle.first_read++];

        if (!call->is_explained) {
            checkers_fail(checkers,
                          "%s of client %u was answered %s at revision %" PRId64
                          ", where the log says otherwise",
                          name_of(call),
                          call->client,
                          kv_status_name(call->status),
                          revision_of(call));
        }
    }
    check_ids(&oracle);
    check_calls(&oracle);
    check_real_time(&oracle);
    queues_check(history, oracle.machine, checkers);
    kv_machine_close(oracle.machine);
    free(oracle.reads);
    free(oracle.ids);
}
