#include "client/kvbench/target.h"
#include "proto/frame.h"
#include "proto/kv.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int kvd_open(struct bench_conn *conn)
{
    Kv__Hello hello = KV__HELLO__INIT;

    hello.protocol_version = 1;
    hello.client_name = (char *)(uintptr_t) "kvbench";
    return kv_frame_append(&conn->out, KV_FRAME_HELLO, &hello.base, false);
}

static void kvd_close(struct bench_conn *conn)
{
    (void)conn;
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

static int kvd_encode(struct bench_conn *conn, unsigned slot, const struct bench_request *request)
{
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
    }
    message.serializable = conn->serializable && (request->operation == OPERATION_GET ||
                                                  request->operation == OPERATION_ZSET_RANK);
    return kv_frame_append(&conn->out, KV_FRAME_REQUEST, &message.base, false);
}

static uint64_t read_varint(const uint8_t **p, const uint8_t *end)
{
    uint64_t value = 0;

    for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
        uint8_t byte = *(*p)++;

        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            break;
        }
    }
    return value;
}

/* Only id (1) and code (2) are of interest; they come first. */
static void read_reply(struct kv_slice body, uint64_t *ret_id, uint64_t *ret_code)
{
    const uint8_t *p = body.data;
    const uint8_t *end = p + body.size;

    *ret_id = *ret_code = 0;
    while (p < end && (*p == 0x08 || *p == 0x10)) {
        uint8_t tag = *p++;
        uint64_t value = read_varint(&p, end);

        *(tag == 0x08 ? ret_id : ret_code) = value;
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
    conn->ready = true;
    kv__hello_reply__free_unpacked(reply, NULL);
    return 0;
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
        uint64_t id, code;

        if (size == 0) {
            kv_buf_consume(&conn->in, offset);
            return 0;
        }
        if (size < 0) {
            snprintf(conn->error, sizeof conn->error, "%.150s", error.message);
            return KV_INVALID;
        }
        offset += (size_t)size;
        if (frame.kind == KV_FRAME_HELLO_REPLY) {
            if (read_hello(conn, frame.body) != 0) {
                return KV_INVALID;
            }
        } else if (frame.kind == KV_FRAME_REPLY) {
            read_reply(frame.body, &id, &code);
            if (id == 0 || id > conn->depth) {
                snprintf(conn->error, sizeof conn->error, "reply to unknown id");
                return KV_INVALID;
            }
            completed(conn,
                      (unsigned)id - 1,
                      code == 0 || code == KV__CODE__NOT_FOUND,
                      code ? kv_status_name((int)code) : "");
        } else {
            snprintf(conn->error, sizeof conn->error, "the server said goodbye");
            return KV_CLOSED;
        }
    }
}

const struct target target_kvd = {
    .name = "kvd",
    .operations = (1u << (OPERATION_LIST_POP + 1)) - 1,
    .open = kvd_open,
    .close = kvd_close,
    .encode = kvd_encode,
    .parse = kvd_parse,
};
