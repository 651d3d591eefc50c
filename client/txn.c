/* Transactions: collected as messages, sent by commit. */
#include "client/typed.h"
#include "common/arena.h"
#include "common/limits.h"

#include <kv/txn.h>
#include <stdlib.h>
#include <string.h>

/* Pointers to the operations of one branch, or to the compares; grows by doubling in the arena. */
struct pointers {
    void **list;
    size_t n;
    size_t size;
};

struct kv_txn {
    struct kv_client *client;
    struct kv_arena arena; /* copies of all that was given */
    struct pointers compares;
    struct pointers branches[2]; /* then, otherwise */
    unsigned branch;             /* that operations are added to */
    struct kv_error error;       /* status 0: nothing is wrong so far */
};

/* Messages take more in memory than in the frame; what is over the frame is refused when sent. */
#define ARENA_BYTES_MAX (2 * KV_DECODED_BYTES_MAX)
enum { FIRST_POINTERS = 8 };

int kv_txn_begin(struct kv_client *client, struct kv_txn **ret_txn, struct kv_error *ret_error)
{
    struct kv_txn *txn = calloc(1, sizeof *txn);

    if (!txn) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    txn->client = client;
    kv_arena_init(&txn->arena, ARENA_BYTES_MAX);
    *ret_txn = txn;
    return 0;
}

void kv_txn_abort(struct kv_txn *txn)
{
    if (txn) {
        kv_arena_deinit(&txn->arena);
        free(txn);
    }
}

void kv_txn_then(struct kv_txn *txn)
{
    txn->branch = 0;
}

void kv_txn_otherwise(struct kv_txn *txn)
{
    txn->branch = 1;
}

/* ---------------------------------------------------------------- copies */

static void too_large(struct kv_txn *txn)
{
    if (txn->error.status == 0) {
        kv_error_set(&txn->error,
                     KV_TOO_LARGE,
                     "the transaction does not fit the %llu bytes of a request, or memory is out",
                     (unsigned long long)KV_REQUEST_BYTES_MAX);
    }
}

static void add_pointer(struct kv_txn *txn, struct pointers *pointers, void *pointer)
{
    if (pointers->n == pointers->size) {
        size_t size = pointers->size ? 2 * pointers->size : FIRST_POINTERS;
        void **list = kv_arena_alloc(&txn->arena, size * sizeof *list);

        if (!list) {
            too_large(txn);
            return;
        }
        if (pointers->n > 0) {
            memcpy(list, pointers->list, pointers->n * sizeof *list);
        }
        pointers->list = list;
        pointers->size = size;
    }
    pointers->list[pointers->n++] = pointer;
}

/* A copy in the arena; NULL, and the error is set, when there is no room. */
static void *copy_message(struct kv_txn *txn, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = kv_arena_alloc(&txn->arena, size + 1);
    ProtobufCAllocator allocator;
    ProtobufCMessage *copy = NULL;

    if (packed) {
        protobuf_c_message_pack(message, packed);
        kv_arena_protobuf_allocator(&txn->arena, &allocator);
        copy = protobuf_c_message_unpack(message->descriptor, &allocator, size, packed);
    }
    if (!copy) {
        too_large(txn);
    }
    return copy;
}

/* ---------------------------------------------------------------- compares */

/* A compare's message with the parts that it points at. */
struct compare_parts {
    Kv__Compare message;
    Kv__KeyRange range;
    Kv__Compare__FieldValue field;
    Kv__Compare__MemberScore score;
};

/* Where a number goes. */
static void fill_number(const struct kv_compare *compare, Kv__Compare *message)
{
    switch (compare->what) {
    case KV_COMPARE_VERSION:
        message->operand_case = KV__COMPARE__OPERAND_VERSION;
        message->version = compare->number;
        break;
    case KV_COMPARE_CREATE_REVISION:
        message->operand_case = KV__COMPARE__OPERAND_CREATE_REVISION;
        message->create_revision = compare->number;
        break;
    case KV_COMPARE_MOD_REVISION:
        message->operand_case = KV__COMPARE__OPERAND_MOD_REVISION;
        message->mod_revision = compare->number;
        break;
    case KV_COMPARE_LEASE:
        message->operand_case = KV__COMPARE__OPERAND_LEASE_ID;
        message->lease_id = compare->number;
        break;
    case KV_COMPARE_TYPE:
        message->operand_case = KV__COMPARE__OPERAND_TYPE;
        message->type = (Kv__Type)compare->number;
        break;
    default:
        message->operand_case = KV__COMPARE__OPERAND_COUNTER;
        message->counter = compare->number;
    }
}

static void fill_compare(const struct kv_compare *compare, struct compare_parts *parts)
{
    Kv__Compare *message = &parts->message;

    kv__compare__init(message);
    kv__compare__field_value__init(&parts->field);
    kv__compare__member_score__init(&parts->score);
    message->comparison = (Kv__Comparison)compare->comparison;
    message->range = &parts->range;
    switch (compare->what) {
    case KV_COMPARE_EXISTS:
        message->operand_case = KV__COMPARE__OPERAND_EXISTS;
        message->exists = true;
        break;
    case KV_COMPARE_VALUE:
        message->operand_case = KV__COMPARE__OPERAND_VALUE;
        message->value = kv_bytes_to_proto(compare->value);
        break;
    case KV_COMPARE_FIELD:
        parts->field.field = kv_bytes_to_proto(compare->name);
        parts->field.value = kv_bytes_to_proto(compare->value);
        message->operand_case = KV__COMPARE__OPERAND_HASH_FIELD;
        message->hash_field = &parts->field;
        break;
    case KV_COMPARE_MEMBER:
        message->operand_case = KV__COMPARE__OPERAND_SET_MEMBER;
        message->set_member = kv_bytes_to_proto(compare->name);
        break;
    case KV_COMPARE_SCORE:
        parts->score.member = kv_bytes_to_proto(compare->name);
        parts->score.score = compare->score;
        message->operand_case = KV__COMPARE__OPERAND_ZSET_SCORE;
        message->zset_score = &parts->score;
        break;
    default:
        fill_number(compare, message);
    }
}

void kv_txn_compare(struct kv_txn *txn, const struct kv_compare *compare)
{
    struct kv_range_spec one = {.kind = KV_RANGE_KEY, .start = compare->key};
    struct compare_parts parts;
    void *copy;

    if (txn->error.status < 0 ||
        kv_range_to_proto(compare->range ? compare->range : &one, &parts.range, &txn->error) < 0) {
        return;
    }
    if ((unsigned)compare->what > KV_COMPARE_SCORE) {
        kv_error_set(&txn->error, KV_INVALID, "unknown kind %d of compare", (int)compare->what);
        return;
    }
    fill_compare(compare, &parts);
    copy = copy_message(txn, &parts.message.base);
    if (copy) {
        add_pointer(txn, &txn->compares, copy);
    }
}

/* ---------------------------------------------------------------- operations */

void kv_txn_add(struct kv_txn *txn, const struct Kv__Request *operation)
{
    void *copy;

    if (txn->error.status < 0) {
        return;
    }
    copy = copy_message(txn, &operation->base);
    if (copy) {
        add_pointer(txn, &txn->branches[txn->branch], copy);
    }
}

static void add_command(struct kv_txn *txn, Kv__Request__CommandCase number, void *message)
{
    Kv__Request request = KV__REQUEST__INIT;

    request.command_case = number;
    /* Any member of the union: they are all pointers to messages. */
    request.put = message;
    kv_txn_add(txn, &request);
}

void kv_txn_put(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes value)
{
    Kv__Put command = KV__PUT__INIT;

    command.key = kv_bytes_to_proto(key);
    command.value = kv_bytes_to_proto(value);
    add_command(txn, KV__REQUEST__COMMAND_PUT, &command);
}

void kv_txn_put_with(struct kv_txn *txn,
                     struct kv_bytes key,
                     struct kv_bytes value,
                     const struct kv_put_options *options)
{
    Kv__Put command = KV__PUT__INIT;

    if (txn->error.status < 0 || kv_put_to_proto(options, &command, &txn->error) < 0) {
        return;
    }
    command.key = kv_bytes_to_proto(key);
    command.value = kv_bytes_to_proto(value);
    add_command(txn, KV__REQUEST__COMMAND_PUT, &command);
}

void kv_txn_publish(struct kv_txn *txn, struct kv_bytes topic, struct kv_bytes payload)
{
    Kv__Publish command = KV__PUBLISH__INIT;

    command.topic = kv_bytes_to_proto(topic);
    command.payload = kv_bytes_to_proto(payload);
    add_command(txn, KV__REQUEST__COMMAND_PUBLISH, &command);
}

void kv_txn_get(struct kv_txn *txn, struct kv_bytes key)
{
    Kv__Get command = KV__GET__INIT;

    command.key = kv_bytes_to_proto(key);
    add_command(txn, KV__REQUEST__COMMAND_GET, &command);
}

void kv_txn_delete(struct kv_txn *txn, struct kv_bytes key)
{
    ProtobufCBinaryData keys = kv_bytes_to_proto(key);
    Kv__Delete command = KV__DELETE__INIT;

    command.n_keys = 1;
    command.keys = &keys;
    add_command(txn, KV__REQUEST__COMMAND_DELETE, &command);
}

void kv_txn_expire(struct kv_txn *txn, struct kv_bytes key, uint64_t ttl_ms)
{
    Kv__Expire command = KV__EXPIRE__INIT;

    command.key = kv_bytes_to_proto(key);
    command.expiry_case = KV__EXPIRE__EXPIRY_TTL_MS;
    command.ttl_ms = ttl_ms;
    add_command(txn, KV__REQUEST__COMMAND_EXPIRE, &command);
}

void kv_txn_counter_add(struct kv_txn *txn, struct kv_bytes key, int64_t delta)
{
    Kv__CounterAdd command = KV__COUNTER_ADD__INIT;

    command.key = kv_bytes_to_proto(key);
    command.delta = delta;
    add_command(txn, KV__REQUEST__COMMAND_COUNTER_ADD, &command);
}

void kv_txn_counter_get(struct kv_txn *txn, struct kv_bytes key)
{
    Kv__CounterGet command = KV__COUNTER_GET__INIT;

    command.key = kv_bytes_to_proto(key);
    add_command(txn, KV__REQUEST__COMMAND_COUNTER_GET, &command);
}

void kv_txn_hash_set(struct kv_txn *txn,
                     struct kv_bytes key,
                     const struct kv_field *fields,
                     size_t n_fields)
{
    Kv__HashSet command = KV__HASH_SET__INIT;
    Kv__HashField **list = calloc(n_fields + 1, sizeof *list);
    Kv__HashField *messages = calloc(n_fields + 1, sizeof *messages);

    if (list && messages) {
        for (size_t i = 0; i < n_fields; i++) {
            kv__hash_field__init(&messages[i]);
            messages[i].name = kv_bytes_to_proto(fields[i].name);
            messages[i].value = kv_bytes_to_proto(fields[i].value);
            messages[i].ttl_ms = fields[i].ttl_ms;
            list[i] = &messages[i];
        }
        command.key = kv_bytes_to_proto(key);
        command.n_fields = n_fields;
        command.fields = list;
        add_command(txn, KV__REQUEST__COMMAND_HASH_SET, &command);
    } else {
        too_large(txn);
    }
    free(list);
    free(messages);
}

void kv_txn_hash_add(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes name, int64_t delta)
{
    Kv__HashAdd command = KV__HASH_ADD__INIT;

    command.key = kv_bytes_to_proto(key);
    command.field = kv_bytes_to_proto(name);
    command.delta = delta;
    add_command(txn, KV__REQUEST__COMMAND_HASH_ADD, &command);
}

void kv_txn_hash_delete(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes name)
{
    ProtobufCBinaryData names = kv_bytes_to_proto(name);
    Kv__HashDelete command = KV__HASH_DELETE__INIT;

    command.key = kv_bytes_to_proto(key);
    command.n_fields = 1;
    command.fields = &names;
    add_command(txn, KV__REQUEST__COMMAND_HASH_DELETE, &command);
}

void kv_txn_hash_get_all(struct kv_txn *txn, struct kv_bytes key)
{
    Kv__HashGetAll command = KV__HASH_GET_ALL__INIT;

    command.key = kv_bytes_to_proto(key);
    add_command(txn, KV__REQUEST__COMMAND_HASH_GET_ALL, &command);
}

void kv_txn_list_push(struct kv_txn *txn,
                      struct kv_bytes key,
                      enum kv_list_end end,
                      struct kv_bytes element)
{
    ProtobufCBinaryData elements = kv_bytes_to_proto(element);
    Kv__ListPush command = KV__LIST_PUSH__INIT;

    command.key = kv_bytes_to_proto(key);
    command.end = (Kv__ListEnd)end;
    command.n_elements = 1;
    command.elements = &elements;
    add_command(txn, KV__REQUEST__COMMAND_LIST_PUSH, &command);
}

void kv_txn_list_pop(struct kv_txn *txn, struct kv_bytes key, enum kv_list_end end)
{
    Kv__ListPop command = KV__LIST_POP__INIT;

    command.key = kv_bytes_to_proto(key);
    command.end = (Kv__ListEnd)end;
    add_command(txn, KV__REQUEST__COMMAND_LIST_POP, &command);
}

void kv_txn_list_remove(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes element)
{
    Kv__ListRemove command = KV__LIST_REMOVE__INIT;

    command.key = kv_bytes_to_proto(key);
    command.element = kv_bytes_to_proto(element);
    add_command(txn, KV__REQUEST__COMMAND_LIST_REMOVE, &command);
}

void kv_txn_set_add(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes member)
{
    ProtobufCBinaryData members = kv_bytes_to_proto(member);
    Kv__SetAdd command = KV__SET_ADD__INIT;

    command.key = kv_bytes_to_proto(key);
    command.n_members = 1;
    command.members = &members;
    add_command(txn, KV__REQUEST__COMMAND_SET_ADD, &command);
}

void kv_txn_set_remove(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes member)
{
    ProtobufCBinaryData members = kv_bytes_to_proto(member);
    Kv__SetRemove command = KV__SET_REMOVE__INIT;

    command.key = kv_bytes_to_proto(key);
    command.n_members = 1;
    command.members = &members;
    add_command(txn, KV__REQUEST__COMMAND_SET_REMOVE, &command);
}

void kv_txn_zset_add(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes member, double score)
{
    Kv__ZSetMember scored = KV__ZSET_MEMBER__INIT;
    Kv__ZSetMember *members = &scored;
    Kv__ZSetAdd command = KV__ZSET_ADD__INIT;

    scored.member = kv_bytes_to_proto(member);
    scored.score = score;
    command.key = kv_bytes_to_proto(key);
    command.n_members = 1;
    command.members = &members;
    add_command(txn, KV__REQUEST__COMMAND_ZSET_ADD, &command);
}

void kv_txn_zset_remove(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes member)
{
    ProtobufCBinaryData members = kv_bytes_to_proto(member);
    Kv__ZSetRemove command = KV__ZSET_REMOVE__INIT;

    command.key = kv_bytes_to_proto(key);
    command.n_members = 1;
    command.members = &members;
    add_command(txn, KV__REQUEST__COMMAND_ZSET_REMOVE, &command);
}

/* ---------------------------------------------------------------- commit */

int kv_txn_commit(struct kv_txn *txn,
                  const struct kv_call_options *options,
                  struct kv_txn_result *ret_result,
                  struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Txn command = KV__TXN__INIT;
    Kv__Reply *reply = NULL;
    int status = txn->error.status;

    if (status < 0) {
        kv_error_set(ret_error, status, "%s", txn->error.message);
        goto out;
    }
    command.n_compares = txn->compares.n;
    command.compares = (Kv__Compare **)txn->compares.list;
    command.n_then = txn->branches[0].n;
    command.then = (Kv__Request **)txn->branches[0].list;
    command.n_otherwise = txn->branches[1].n;
    command.otherwise = (Kv__Request **)txn->branches[1].list;
    request.command_case = KV__REQUEST__COMMAND_TXN;
    request.txn = &command;
    status = kv_call(txn->client, &request, options, &reply, ret_error);
    if (status == 0 && reply->result_case != KV__REPLY__RESULT_TXN) {
        status = kv_missing_result(ret_error);
    }
    if (status < 0) {
        if (reply && reply->hint) {
            ret_result->failed_operation = reply->hint->operation;
        }
        goto out;
    }
    *ret_result = (struct kv_txn_result){
        .succeeded = reply->txn->succeeded,
        .revision = reply->revision,
        .n_replies = reply->txn->n_replies,
        .replies = reply->txn->replies,
        .memory = reply,
    };
    reply = NULL;
out:
    kv_reply_free(reply);
    kv_txn_abort(txn);
    return status;
}

void kv_txn_result_free(struct kv_txn_result *result)
{
    if (result) {
        kv_reply_free(result->memory);
        *result = (struct kv_txn_result){0};
    }
}
