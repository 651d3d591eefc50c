#include "client/kvbench/target_kvd_session.h"
#include "client/kvbench/target_kvd_stream.h"
#include "client/kvbench/wire.h"
#include "proto/frame.h"
#include "proto/kv.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct state {
    struct kvd_session session;
    struct kvd_streams streams;
};

static int kvd_open(struct bench_conn *conn)
{
    Kv__Hello hello = KV__HELLO__INIT;

    conn->state = calloc(1, sizeof(struct state));
    hello.protocol_version = 1;
    hello.client_name = (char *)(uintptr_t) "kvbench";
    return conn->state ? kv_frame_append(&conn->out, KV_FRAME_HELLO, &hello.base, false)
                       : KV_NO_MEMORY;
}

static void kvd_close(struct bench_conn *conn)
{
    struct state *state = conn->state;

    kvd_streams_deinit(&state->streams);
    free(state);
}

static ProtobufCBinaryData bytes(struct kv_slice slice)
{
    return (ProtobufCBinaryData){slice.size, (uint8_t *)(uintptr_t)slice.data};
}

/* Memory of the messages within a request. */
union command {
    Kv__Put put;
    Kv__Get get;
    Kv__CounterAdd counter_add;
    Kv__HashSet hash_set;
    Kv__ZSetAdd zset_add;
    Kv__ZSetRank zset_rank;
    Kv__LimiterAcquire limiter;
    Kv__ListPush push;
    Kv__ListPop pop;
    Kv__Publish publish;
    Kv__LeaseGrant grant;
    Kv__LeaseKeepAlive renew;
};
struct parts {
    union command command;
    Kv__HashField field;
    Kv__HashField *fields[1];
    Kv__ZSetMember member;
    Kv__ZSetMember *members[1];
    ProtobufCBinaryData elements[1];
};

static void
fill_string(Kv__Request *message, const struct bench_request *request, union command *command)
{
    if (request->operation == OPERATION_PUT) {
        command->put = (Kv__Put)KV__PUT__INIT;
        command->put.key = bytes(request->key);
        command->put.value = bytes(request->value);
        if (request->ttl_ms > 0) {
            command->put.expiry_case = KV__PUT__EXPIRY_TTL_MS;
            command->put.ttl_ms = request->ttl_ms;
        }
        message->command_case = KV__REQUEST__COMMAND_PUT;
        message->put = &command->put;
    } else {
        command->get = (Kv__Get)KV__GET__INIT;
        command->get.key = bytes(request->key);
        message->command_case = KV__REQUEST__COMMAND_GET;
        message->get = &command->get;
    }
}

static void
fill_number(Kv__Request *message, const struct bench_request *request, union command *command)
{
    if (request->operation == OPERATION_COUNTER_ADD) {
        command->counter_add = (Kv__CounterAdd)KV__COUNTER_ADD__INIT;
        command->counter_add.key = bytes(request->key);
        command->counter_add.delta = 1;
        message->command_case = KV__REQUEST__COMMAND_COUNTER_ADD;
        message->counter_add = &command->counter_add;
    } else {
        command->limiter = (Kv__LimiterAcquire)KV__LIMITER_ACQUIRE__INIT;
        command->limiter.key = bytes(request->key);
        command->limiter.rate = LIMITER_RATE;
        command->limiter.period_ms = LIMITER_PERIOD_MS;
        command->limiter.burst = LIMITER_BURST;
        message->command_case = KV__REQUEST__COMMAND_LIMITER_ACQUIRE;
        message->limiter_acquire = &command->limiter;
    }
}

static void
fill_hash_set(Kv__Request *message, const struct bench_request *request, struct parts *parts)
{
    Kv__HashSet *set = &parts->command.hash_set;

    parts->field = (Kv__HashField)KV__HASH_FIELD__INIT;
    parts->field.name = bytes(request->element);
    parts->field.value = bytes(request->value);
    parts->fields[0] = &parts->field;
    *set = (Kv__HashSet)KV__HASH_SET__INIT;
    set->key = bytes(request->key);
    set->n_fields = 1;
    set->fields = parts->fields;
    message->command_case = KV__REQUEST__COMMAND_HASH_SET;
    message->hash_set = set;
}

static void
fill_zset(Kv__Request *message, const struct bench_request *request, struct parts *parts)
{
    Kv__ZSetAdd *add = &parts->command.zset_add;
    Kv__ZSetRank *rank = &parts->command.zset_rank;

    if (request->operation == OPERATION_ZSET_RANK) {
        *rank = (Kv__ZSetRank)KV__ZSET_RANK__INIT;
        rank->key = bytes(request->key);
        rank->member = bytes(request->element);
        rank->descending = true;
        message->command_case = KV__REQUEST__COMMAND_ZSET_RANK;
        message->zset_rank = rank;
        return;
    }
    parts->member = (Kv__ZSetMember)KV__ZSET_MEMBER__INIT;
    parts->member.member = bytes(request->element);
    parts->member.score = request->score;
    parts->members[0] = &parts->member;
    *add = (Kv__ZSetAdd)KV__ZSET_ADD__INIT;
    add->key = bytes(request->key);
    add->n_members = 1;
    add->members = parts->members;
    message->command_case = KV__REQUEST__COMMAND_ZSET_ADD;
    message->zset_add = add;
}

static void
fill_list(Kv__Request *message, const struct bench_request *request, struct parts *parts)
{
    Kv__ListPush *push = &parts->command.push;
    Kv__ListPop *pop = &parts->command.pop;

    if (request->operation == OPERATION_LIST_POP) {
        *pop = (Kv__ListPop)KV__LIST_POP__INIT;
        pop->key = bytes(request->key);
        pop->end = KV__LIST_END__LIST_LEFT;
        message->command_case = KV__REQUEST__COMMAND_LIST_POP;
        message->list_pop = pop;
        return;
    }
    parts->elements[0] = bytes(request->value);
    *push = (Kv__ListPush)KV__LIST_PUSH__INIT;
    push->key = bytes(request->key);
    push->end = KV__LIST_END__LIST_RIGHT;
    push->n_elements = 1;
    push->elements = parts->elements;
    message->command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    message->list_push = push;
}

static void
fill_publish(Kv__Request *message, const struct bench_request *request, union command *command)
{
    command->publish = (Kv__Publish)KV__PUBLISH__INIT;
    command->publish.topic = bytes(request->key);
    command->publish.payload = bytes(request->value);
    message->command_case = KV__REQUEST__COMMAND_PUBLISH;
    message->publish = &command->publish;
}

static void
fill_lease(Kv__Request *message, const struct bench_request *request, union command *command)
{
    if (request->operation == OPERATION_LEASE_GRANT) {
        command->grant = (Kv__LeaseGrant)KV__LEASE_GRANT__INIT;
        command->grant.lease_id = request->leases[0];
        command->grant.ttl_ms = request->ttl_ms;
        message->command_case = KV__REQUEST__COMMAND_LEASE_GRANT;
        message->lease_grant = &command->grant;
        return;
    }
    command->renew = (Kv__LeaseKeepAlive)KV__LEASE_KEEP_ALIVE__INIT;
    command->renew.n_lease_ids = request->n_leases;
    command->renew.lease_ids = (int64_t *)(uintptr_t)request->leases;
    message->command_case = KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE;
    message->lease_keep_alive = &command->renew;
}

/* What changes nothing has no stamp; nor do renewals, which may be done twice. */
static bool is_stamped(enum operation operation)
{
    return operation != OPERATION_GET && operation != OPERATION_ZSET_RANK &&
           operation != OPERATION_LEASE_RENEW;
}

static int kvd_encode(struct bench_conn *conn, unsigned slot, const struct bench_request *request)
{
    struct state *state = conn->state;
    Kv__Request message = KV__REQUEST__INIT;
    struct parts parts;

    message.id = slot + 1;
    switch (request->operation) {
    case OPERATION_PUT:
    case OPERATION_GET:
        fill_string(&message, request, &parts.command);
        break;
    case OPERATION_COUNTER_ADD:
    case OPERATION_LIMITER:
        fill_number(&message, request, &parts.command);
        break;
    case OPERATION_HASH_SET:
        fill_hash_set(&message, request, &parts);
        break;
    case OPERATION_ZSET_ADD:
    case OPERATION_ZSET_RANK:
        fill_zset(&message, request, &parts);
        break;
    case OPERATION_LIST_PUSH:
    case OPERATION_LIST_POP:
        fill_list(&message, request, &parts);
        break;
    case OPERATION_PUBLISH:
        fill_publish(&message, request, &parts.command);
        break;
    case OPERATION_LEASE_GRANT:
    case OPERATION_LEASE_RENEW:
        fill_lease(&message, request, &parts.command);
        break;
    }
    if (state->session.id != 0 && is_stamped(request->operation)) {
        kvd_session_stamp(&state->session, slot, &message);
    }
    message.serializable = conn->serializable && (request->operation == OPERATION_GET ||
                                                  request->operation == OPERATION_ZSET_RANK);
    return kv_frame_append(&conn->out, KV_FRAME_REQUEST, &message.base, false);
}

/* Only id (1) and code (2) are of interest; they come first. */
static void read_reply(struct kv_slice rest, uint64_t *ret_id, uint64_t *ret_code)
{
    struct wire_field field;

    *ret_id = *ret_code = 0;
    while (wire_next(&rest, &field) && field.number <= 2) {
        *(field.number == 1 ? ret_id : ret_code) = field.value;
    }
}

static int read_hello(struct bench_conn *conn, struct kv_slice body)
{
    Kv__HelloReply *reply = kv__hello_reply__unpack(NULL, body.size, body.data);

    if (!reply || reply->code != KV__CODE__OK) {
        snprintf(conn->error,
                 sizeof conn->error,
                 "hello refused: %s",
                 reply ? reply->message : "malformed");
        return KV_INVALID;
    }
    snprintf(conn->leader, sizeof conn->leader, "%s", reply->leader_address);
    kv__hello_reply__free_unpacked(reply, NULL);
    if (conn->in_session) {
        return kvd_session_open(conn, conn->depth + 1);
    }
    conn->ready = true;
    return 0;
}

static int take_reply(struct bench_conn *conn, struct kv_slice body, completed_fn completed)
{
    struct state *state = conn->state;
    uint64_t id, code;
    int status;

    read_reply(body, &id, &code);
    if (!conn->ready && conn->in_session && id == conn->depth + 1) {
        status = kvd_session_opened(conn, &state->session, body);
        conn->ready = status == 0;
        return status;
    }
    if (id == 0 || id > conn->depth) {
        return kvd_stream_refused(conn, body);
    }
    kvd_session_answered(&state->session, (unsigned)id - 1);
    completed(conn,
              (unsigned)id - 1,
              code == 0 || code == KV__CODE__NOT_FOUND,
              code ? kv_status_name((int)code) : "");
    return 0;
}

static int take_frame(struct bench_conn *conn, const struct kv_frame *frame, completed_fn completed)
{
    struct state *state = conn->state;

    switch (frame->kind) {
    case KV_FRAME_HELLO_REPLY:
        return read_hello(conn, frame->body);
    case KV_FRAME_REPLY:
        return take_reply(conn, frame->body, completed);
    case KV_FRAME_STREAM_ITEM:
        return kvd_stream_item(conn, &state->streams, frame->body);
    default:
        snprintf(conn->error, sizeof conn->error, "the server said goodbye");
        return KV_CLOSED;
    }
}

static int kvd_parse(struct bench_conn *conn, completed_fn completed)
{
    size_t offset = 0;

    for (;;) {
        struct kv_frame frame;
        struct kv_error error = {0};
        int64_t size = kv_frame_peek(kv_slice_of(conn->in.data + offset, conn->in.size - offset),
                                     KV_REPLY_FRAME_BYTES_MAX,
                                     &frame,
                                     &error);

        if (size == 0) {
            kv_buf_consume(&conn->in, offset);
            return 0;
        }
        if (size < 0) {
            snprintf(conn->error, sizeof conn->error, "%.150s", error.message);
            return KV_INVALID;
        }
        offset += (size_t)size;
        if (take_frame(conn, &frame, completed) != 0) {
            return KV_INVALID;
        }
    }
}

static int kvd_watch(struct bench_conn *conn, const struct bench_watch *watch)
{
    struct state *state = conn->state;

    return kvd_stream_begin(conn, &state->streams, watch);
}

const struct target target_kvd = {
    .name = "kvd",
    .operations = (1u << (OPERATION_LEASE_RENEW + 1)) - 1,
    .open = kvd_open,
    .close = kvd_close,
    .encode = kvd_encode,
    .parse = kvd_parse,
    .watch = kvd_watch,
    .has_sessions = true,
};
