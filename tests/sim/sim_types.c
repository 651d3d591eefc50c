/* Commands on keys of all types: any command, with any of its options. What a command has is read
 * from the descriptors of kv.proto, so that its options need no list of their own. The keys are
 * apart from those that the judge of histories follows: here the log, run again, says what is
 * right. */
#include "tests/sim/sim.h"

#include "client/session_internal.h"
#include "common/assert.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    KEYS_LISTED_MAX = 3,
    OPERATIONS_MAX = 4,
    DEPTH_MAX = 4,
    NAME_BYTES = 16,
    LONG_BYTES = KV_INLINE_BYTES_MAX, /* no inline collection holds it */
    /* Of a list that is crowded at one place: too many to be inline, and more insertions than there
     * are numbers. */
    PUSHED_MAX = 200,
    PUSHED_MIN = 130,
    INSERTED = 30
};

struct kind {
    unsigned command; /* field of Request */
    char type;        /* that its keys have as a rule; 'x': any */
    bool is_write;
    unsigned weight;
};

/* `set_random` is a read, which every node answers as it likes: it belongs into transactions that
 * write. */
static const struct kind kinds[] = {
    {KV__REQUEST__COMMAND_PUT, 't', true, 3},
    {KV__REQUEST__COMMAND_APPEND, 't', true, 1},
    {KV__REQUEST__COMMAND_GETSET, 't', true, 1},
    {KV__REQUEST__COMMAND_GETDEL, 't', true, 1},
    {KV__REQUEST__COMMAND_SET_RANGE, 't', true, 1},
    {KV__REQUEST__COMMAND_GET, 't', false, 2},
    {KV__REQUEST__COMMAND_STRLEN, 't', false, 1},
    {KV__REQUEST__COMMAND_GET_RANGE, 't', false, 1},
    {KV__REQUEST__COMMAND_DELETE, 'x', true, 2},
    {KV__REQUEST__COMMAND_RENAME, 'x', true, 3},
    {KV__REQUEST__COMMAND_COPY, 'x', true, 3},
    {KV__REQUEST__COMMAND_TOUCH, 'x', true, 1},
    {KV__REQUEST__COMMAND_EXISTS, 'x', false, 1},
    {KV__REQUEST__COMMAND_COUNT, 'x', false, 1},
    {KV__REQUEST__COMMAND_RANGE, 'x', false, 3},
    {KV__REQUEST__COMMAND_TYPE, 'x', false, 1},
    {KV__REQUEST__COMMAND_COUNTER_ADD, 'c', true, 3},
    {KV__REQUEST__COMMAND_COUNTER_SET, 'c', true, 1},
    {KV__REQUEST__COMMAND_COUNTER_GET, 'c', false, 3},
    {KV__REQUEST__COMMAND_HASH_SET, 'h', true, 6},
    {KV__REQUEST__COMMAND_HASH_DELETE, 'h', true, 3},
    {KV__REQUEST__COMMAND_HASH_ADD, 'h', true, 2},
    {KV__REQUEST__COMMAND_HASH_GET, 'h', false, 2},
    {KV__REQUEST__COMMAND_HASH_GET_ALL, 'h', false, 4},
    {KV__REQUEST__COMMAND_HASH_EXISTS, 'h', false, 1},
    {KV__REQUEST__COMMAND_HASH_LEN, 'h', false, 1},
    {KV__REQUEST__COMMAND_HASH_SCAN, 'h', false, 1},
    {KV__REQUEST__COMMAND_LIST_PUSH, 'l', true, 6},
    {KV__REQUEST__COMMAND_LIST_POP, 'l', true, 3},
    {KV__REQUEST__COMMAND_LIST_SET, 'l', true, 1},
    {KV__REQUEST__COMMAND_LIST_INSERT, 'l', true, 1},
    {KV__REQUEST__COMMAND_LIST_REMOVE, 'l', true, 1},
    {KV__REQUEST__COMMAND_LIST_TRIM, 'l', true, 1},
    {KV__REQUEST__COMMAND_LIST_MOVE, 'l', true, 2},
    {KV__REQUEST__COMMAND_LIST_RANGE, 'l', false, 5},
    {KV__REQUEST__COMMAND_LIST_INDEX, 'l', false, 2},
    {KV__REQUEST__COMMAND_LIST_LEN, 'l', false, 1},
    {KV__REQUEST__COMMAND_SET_ADD, 's', true, 5},
    {KV__REQUEST__COMMAND_SET_REMOVE, 's', true, 3},
    {KV__REQUEST__COMMAND_SET_POP, 's', true, 2},
    {KV__REQUEST__COMMAND_SET_COMBINE, 's', true, 3},
    {KV__REQUEST__COMMAND_SET_COMBINE, 's', false, 2},
    {KV__REQUEST__COMMAND_SET_HAS, 's', false, 2},
    {KV__REQUEST__COMMAND_SET_MEMBERS, 's', false, 3},
    {KV__REQUEST__COMMAND_SET_LEN, 's', false, 1},
    {KV__REQUEST__COMMAND_ZSET_ADD, 'z', true, 6},
    {KV__REQUEST__COMMAND_ZSET_REMOVE, 'z', true, 2},
    {KV__REQUEST__COMMAND_ZSET_POP, 'z', true, 2},
    {KV__REQUEST__COMMAND_ZSET_REMOVE_RANGE, 'z', true, 1},
    {KV__REQUEST__COMMAND_ZSET_COMBINE, 'z', true, 3},
    {KV__REQUEST__COMMAND_ZSET_COMBINE, 'z', false, 2},
    {KV__REQUEST__COMMAND_ZSET_SCORE, 'z', false, 1},
    {KV__REQUEST__COMMAND_ZSET_RANK, 'z', false, 4},
    {KV__REQUEST__COMMAND_ZSET_RANGE, 'z', false, 5},
    {KV__REQUEST__COMMAND_ZSET_COUNT, 'z', false, 2},
    {KV__REQUEST__COMMAND_LIMITER_ACQUIRE, 'r', true, 4},
    {KV__REQUEST__COMMAND_PUBLISH, 'x', true, 4},
    {KV__REQUEST__COMMAND_TOPIC_LIST, 'x', false, 1},
    {KV__REQUEST__COMMAND_KEY_HISTORY, 'x', false, 2},
    {KV__REQUEST__COMMAND_SESSION_OPEN, 'x', true, 0}, /* as the seed says */
    {KV__REQUEST__COMMAND_SESSION_RENEW, 'x', true, 1},
    {KV__REQUEST__COMMAND_SESSION_CLOSE, 'x', true, 1},
    {KV__REQUEST__COMMAND_BACKUP, 'x', false, 1}, /* of a later version */
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

struct typing {
    struct sim *sim;
    struct kv_arena *arena;
    char type;
    bool is_write;
    size_t n_keys; /* of the command that is filled: as many weights */
    bool members;  /* a range is one of members, not of keys */
    bool reads_others;
    unsigned depth;
};

static uint64_t pick(const struct typing *typing, uint64_t below)
{
    return sim_random(typing->sim, SIM_RANDOM_TYPES, below);
}

static bool chance(const struct typing *typing, unsigned percent)
{
    return pick(typing, 100) < percent;
}

static void *allocate(const struct typing *typing, size_t size)
{
    void *memory = kv_arena_alloc(typing->arena, size ? size : 1);

    KV_ASSERT(memory);
    memset(memory, 0, size);
    return memory;
}

static void *make(const struct typing *typing, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = allocate(typing, descriptor->sizeof_message);

    protobuf_c_message_init(descriptor, message);
    return message;
}

static ProtobufCBinaryData KV_PRINTF(3, 4)
    text(const struct typing *typing, size_t capacity, const char *format, ...)
{
    char *memory = allocate(typing, capacity);
    va_list arguments;
    int size;

    va_start(arguments, format);
    size = vsnprintf(memory, capacity, format, arguments);
    va_end(arguments);
    return (ProtobufCBinaryData){(size_t)size, (uint8_t *)memory};
}

/* ---------------------------------------------------------------- values */

static ProtobufCBinaryData any_key(const struct typing *typing)
{
    static const char types[] = "tchlszr";
    char type = typing->type;

    if (typing->reads_others && chance(typing, 20)) {
        /* A counter that others add to: it has a long past. */
        return text(typing, NAME_BYTES, "c/%03u", (unsigned)pick(typing, 4));
    }

    if (type == 'x' || chance(typing, 4)) {
        type = types[pick(typing, sizeof types - 1)];
    }
    return text(typing,
                NAME_BYTES,
                "a/%c/%u",
                type,
                (unsigned)pick(typing, typing->sim->profile.type_keys));
}

/* In some runs all are long. */
static ProtobufCBinaryData element(const struct typing *typing, uint64_t number)
{
    const unsigned more = typing->sim->profile.element_bytes;

    number %= typing->sim->profile.elements;
    return more ? text(typing, NAME_BYTES + more, "e%" PRIu64 ".%0*d", number, (int)more, 0)
                : text(typing, NAME_BYTES, "e%" PRIu64, number);
}

static ProtobufCBinaryData any_element(const struct typing *typing)
{
    return element(typing, pick(typing, typing->sim->profile.elements));
}

static ProtobufCBinaryData any_value(const struct typing *typing)
{
    switch (pick(typing, 10)) {
    case 0:
        return text(typing, 80, "%064u", (unsigned)pick(typing, 1000));
    case 1: /* Now and then what was there is the same. */
        return text(typing, NAME_BYTES, "%u", (unsigned)pick(typing, 2));
    default:
        return text(typing, NAME_BYTES, "%u", (unsigned)pick(typing, 1000));
    }
}

static int64_t some_revision(const struct typing *typing)
{
    const struct history *history = &typing->sim->history;
    int64_t known = 1;

    for (size_t i = history->n_calls; i > 0 && i + 20 > history->n_calls; i--) {
        known = history->calls[i - 1].revision > known ? history->calls[i - 1].revision : known;
    }
    return chance(typing, 50) ? known - (int64_t)pick(typing, known < 20 ? (uint64_t)known : 20)
                              : 1 + (int64_t)pick(typing, (uint64_t)known + 1);
}

static double any_score(const struct typing *typing)
{
    switch (pick(typing, 20)) {
    case 0:
    case 1:
        return -(double)INFINITY;
    case 2:
    case 3:
        return (double)INFINITY;
    case 4:
        return -0.0;
    case 5:
        return chance(typing, 10) ? (double)NAN : 1e300;
    default:
        return (double)pick(typing, 16) / 4 - 1;
    }
}

static bool is_called(const ProtobufCFieldDescriptor *field, const char *names)
{
    const char *found = strstr(names, field->name);
    size_t size = strlen(field->name);

    while (found && ((found != names && found[-1] != ' ') || (found[size] && found[size] != ' '))) {
        found = strstr(found + 1, field->name);
    }
    return found != NULL;
}

/* What this version refuses, and what would take the command elsewhere. */
static bool is_left_out(const struct typing *typing, const ProtobufCFieldDescriptor *field)
{
    return is_called(field, "credit") ||
           (is_called(field, "ttl_ms lease_id keep") && typing->sim->profile.lives_percent == 0) ||
           (is_called(field, "block_ms") && typing->sim->profile.session_ttl_ms == 0);
}

static ProtobufCBinaryData bytes_of(const struct typing *typing,
                                    const ProtobufCFieldDescriptor *field)
{
    if (is_called(field, "key to keys")) {
        return any_key(typing);
    }
    if (is_called(field, "store")) {
        return typing->is_write ? any_key(typing) : (ProtobufCBinaryData){0};
    }
    if (is_called(field, "start end")) {
        return typing->members ? any_element(typing) : any_key(typing);
    }
    if (is_called(field, "element") && typing->sim->profile.element_bytes && chance(typing, 5)) {
        return text(typing, LONG_BYTES + NAME_BYTES, "%0*d", LONG_BYTES, 0);
    }
    if (is_called(field, "cursor")) {
        return chance(typing, 80)                          ? (ProtobufCBinaryData){0}
               : typing->type == 'x' && chance(typing, 50) ? any_key(typing)
                                                           : any_element(typing);
    }
    if (is_called(field, "prefix")) {
        return chance(typing, 50) ? any_element(typing) : (ProtobufCBinaryData){0};
    }
    return is_called(field, "value if_value payload") ? any_value(typing) : any_element(typing);
}

static int64_t number_of(const struct typing *typing, const ProtobufCFieldDescriptor *field)
{
    if (is_called(field, "at_revision")) {
        return chance(typing, 40) ? some_revision(typing) : 0;
    }
    if (is_called(field, "if_mod_revision") && chance(typing, 5)) {
        return -1;
    }
    if (strstr(field->name, "revision")) {
        return is_called(field, "if_mod_revision mod_revision create_revision") ||
                       chance(typing, 10)
                   ? some_revision(typing)
                   : 0;
    }
    if (is_called(field, "lease_id")) {
        return (int64_t)pick(typing, 5);
    }
    if (is_called(field, "delta") && chance(typing, 3)) {
        return INT64_MAX - 2;
    }
    return (int64_t)pick(typing, 16) - 4;
}

static uint64_t size_of(const struct typing *typing, const ProtobufCFieldDescriptor *field)
{
    if (is_called(field, "period_ms")) {
        return 10 + 1000 * pick(typing, 3);
    }
    if (is_called(field, "ttl_ms")) {
        return chance(typing, 30) ? 1 + pick(typing, 3000) : 0;
    }
    if (is_called(field, "session_id")) {
        /* Of whoever is asked first. */
        const struct kv_session *session =
            typing->sim->clients[pick(typing, typing->sim->profile.n_clients)].session;

        return session->once.session_id;
    }
    if (is_called(field, "block_ms")) {
        return chance(typing, 30) ? 1 + pick(typing, 2000) : 0;
    }
    if (is_called(field, "rate burst")) {
        return pick(typing, 12) + !chance(typing, 5);
    }
    return chance(typing, 50) ? 0 : pick(typing, 9);
}

/* ---------------------------------------------------------------- messages */

static void fill(struct typing *typing, ProtobufCMessage *message);

static void *filled(struct typing *typing, const ProtobufCFieldDescriptor *field)
{
    ProtobufCMessage *message = make(typing, field->descriptor);

    fill(typing, message);
    return message;
}

static void fill_one(struct typing *typing, const ProtobufCFieldDescriptor *field, void *member)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_BYTES:
        *(ProtobufCBinaryData *)member = bytes_of(typing, field);
        break;
    case PROTOBUF_C_TYPE_INT64:
        *(int64_t *)member = number_of(typing, field);
        break;
    case PROTOBUF_C_TYPE_UINT64:
        *(uint64_t *)member = size_of(typing, field);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        *(double *)member = any_score(typing);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)member = chance(typing, 25);
        break;
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumDescriptor *values = field->descriptor;

        *(int *)member = values->values[pick(typing, values->n_values)].value;
        break;
    }
    case PROTOBUF_C_TYPE_MESSAGE:
        typing->members = is_called(field, "members");
        *(void **)member = filled(typing, field);
        typing->members = false;
        break;
    default:
        break;
    }
}

/* Elements of one command differ, as a rule: they follow each other from anywhere. */
static void name_element(struct typing *typing,
                         void *item,
                         const ProtobufCFieldDescriptor *field,
                         uint64_t number)
{
    ProtobufCBinaryData name = element(typing, number);

    if (field->type == PROTOBUF_C_TYPE_BYTES && !is_called(field, "keys")) {
        *(ProtobufCBinaryData *)item = name;
    } else if (field->descriptor == &kv__hash_field__descriptor) {
        ((Kv__HashField *)*(void **)item)->name = name;
    } else if (field->descriptor == &kv__zset_member__descriptor) {
        ((Kv__ZSetMember *)*(void **)item)->member = name;
    }
}

static void fill_list(struct typing *typing, const ProtobufCFieldDescriptor *field, void *message)
{
    const struct sim_profile *profile = &typing->sim->profile;
    size_t item_size = field->type == PROTOBUF_C_TYPE_BYTES    ? sizeof(ProtobufCBinaryData)
                       : field->type == PROTOBUF_C_TYPE_DOUBLE ? sizeof(double)
                                                               : sizeof(void *);
    uint64_t first = pick(typing, profile->elements);
    size_t n = 1 + pick(typing, chance(typing, 30) ? profile->elements / 2 : 4);
    uint8_t *items;

    if (is_called(field, "keys")) {
        n = typing->n_keys = 1 + pick(typing, KEYS_LISTED_MAX);
    } else if (is_called(field, "weights")) {
        n = chance(typing, 50) ? typing->n_keys + chance(typing, 5) : 0;
    } else if (is_called(field, "ranges")) {
        n = chance(typing, 15);
    }
    items = allocate(typing, n * item_size);
    for (size_t i = 0; i < n; i++) {
        fill_one(typing, field, items + i * item_size);
        name_element(typing, items + i * item_size, field, first + i);
    }
    *(size_t *)((uint8_t *)message + field->quantifier_offset) = n;
    *(void **)((uint8_t *)message + field->offset) = items;
}

/* One of a oneof, or none. */
static bool is_chosen(const struct typing *typing,
                      const ProtobufCMessage *message,
                      const ProtobufCFieldDescriptor *field)
{
    const uint32_t *chosen =
        (const uint32_t *)(const void *)((const uint8_t *)message + field->quantifier_offset);
    unsigned n = 0;

    if (*chosen != 0) {
        return false;
    }
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        n += message->descriptor->fields[i].quantifier_offset == field->quantifier_offset &&
             message->descriptor->fields[i].id >= field->id;
    }
    /* A put has a condition now and then; a span, or a compare, always has what it is about. */
    return chance(typing, message->descriptor == &kv__put__descriptor ? 4 : 100 / n);
}

static void settle(struct typing *typing, ProtobufCMessage *message);

static void fill(struct typing *typing, ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        uint8_t *member = (uint8_t *)message + field->offset;

        if (is_left_out(typing, field)) {
            continue;
        }
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            fill_list(typing, field, message);
        } else if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            if (is_chosen(typing, message, field)) {
                fill_one(typing, field, member);
                *(uint32_t *)(void *)((uint8_t *)message + field->quantifier_offset) = field->id;
            }
        } else if (field->type != PROTOBUF_C_TYPE_MESSAGE || is_called(field, "range span") ||
                   chance(typing, 20)) {
            fill_one(typing, field, member);
        }
    }
    settle(typing, message);
}

static void settle_range(struct typing *typing, Kv__KeyRange *range)
{
    range->special = KV__KEY_RANGE__SPECIAL__NONE;
    switch (pick(typing, 3)) {
    case 0:
        range->end = (ProtobufCBinaryData){0};
        break;
    case 1:
        range->special = KV__KEY_RANGE__SPECIAL__PREFIX;
        range->end = (ProtobufCBinaryData){0};
        range->start.len = typing->members ? 2 : 3 + pick(typing, 2);
        break;
    default: /* as it is; it may end before it starts */
        break;
    }
}

static void settle_compare(struct typing *typing, Kv__Compare *compare)
{
    if (compare->operand_case == KV__COMPARE__OPERAND__NOT_SET) {
        compare->operand_case = KV__COMPARE__OPERAND_EXISTS;
        compare->exists = chance(typing, 60);
    }
    if (compare->range && chance(typing, 5)) {
        compare->range->special = KV__KEY_RANGE__SPECIAL__ALL;
        compare->range->start = compare->range->end = (ProtobufCBinaryData){0};
    }
    if (compare->operand_case == KV__COMPARE__OPERAND_TYPE ||
        compare->operand_case == KV__COMPARE__OPERAND_EXISTS ||
        (compare->operand_case == KV__COMPARE__OPERAND_SET_MEMBER && !chance(typing, 10))) {
        compare->comparison =
            chance(typing, 50) ? KV__COMPARISON__COMPARE_EQUAL : KV__COMPARISON__COMPARE_NOT_EQUAL;
    }
}

/* Options that exclude each other: mostly one of them. */
static void settle(struct typing *typing, ProtobufCMessage *message)
{
    if (message->descriptor == &kv__key_range__descriptor) {
        settle_range(typing, (Kv__KeyRange *)message);
    } else if (message->descriptor == &kv__compare__descriptor) {
        settle_compare(typing, (Kv__Compare *)message);
    } else if (message->descriptor == &kv__zset_add__descriptor && !chance(typing, 5)) {
        Kv__ZSetAdd *add = (Kv__ZSetAdd *)message;

        add->n_members = add->increment ? 1 : add->n_members;
        add->if_present = add->if_present && !add->if_absent;
        add->if_greater = add->if_greater && !add->if_absent;
        add->if_less = add->if_less && !add->if_absent && !add->if_greater;
    } else if (message->descriptor == &kv__limiter_acquire__descriptor && !chance(typing, 5)) {
        Kv__LimiterAcquire *acquire = (Kv__LimiterAcquire *)message;

        acquire->n = acquire->n > acquire->burst ? acquire->burst : acquire->n;
        if (chance(typing, 5)) {
            /* Would be full after a year. */
            acquire->rate = 1;
            acquire->burst = 12;
            acquire->period_ms = KV_LIMITER_PERIOD_MS_MAX;
        }
    }
}

/* ---------------------------------------------------------------- commands */

static void command(struct typing *typing, Kv__Request *request, const struct kind *kind)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(&kv__request__descriptor, kind->command);

    typing->type = kind->type;
    typing->is_write = kind->is_write;
    typing->reads_others = kind->command == KV__REQUEST__COMMAND_KEY_HISTORY;
    request->command_case = (Kv__Request__CommandCase)kind->command;
    *(void **)((uint8_t *)request + field->offset) = filled(typing, field);
}

static uint64_t weight_of(const struct typing *typing, const struct kind *kind, bool is_write)
{
    if (kind->is_write != is_write ||
        (kind->type != 'x' && !strchr(typing->sim->profile.types, kind->type))) {
        return 0;
    }
    return kind->command == KV__REQUEST__COMMAND_SESSION_OPEN
               ? typing->sim->profile.session_open_weight
               : kind->weight;
}

static void any_command(struct typing *typing, Kv__Request *request, bool is_write)
{
    uint64_t sum = 0;
    uint64_t left;

    for (unsigned i = 0; i < N_KINDS; i++) {
        sum += weight_of(typing, &kinds[i], is_write);
    }
    left = pick(typing, sum);
    for (unsigned i = 0; i < N_KINDS; i++) {
        uint64_t weight = weight_of(typing, &kinds[i], is_write);

        if (left < weight) {
            command(typing, request, &kinds[i]);
            return;
        }
        left -= weight;
    }
}

static void transaction(struct typing *typing, Kv__Request *request, bool is_write);

static void operation(struct typing *typing, Kv__Request *request, bool is_write)
{
    static const struct kind random = {KV__REQUEST__COMMAND_SET_RANDOM, 's', false, 0};

    if (typing->depth < DEPTH_MAX && chance(typing, 10)) {
        transaction(typing, request, is_write);
    } else if (is_write && chance(typing, 5)) {
        command(typing, request, &random);
    } else {
        any_command(typing, request, is_write && chance(typing, 70));
    }
}

/* The first operation of a branch that writes is a write, whatever follows. */
static Kv__Request **branch(struct typing *typing, size_t n, bool is_write)
{
    Kv__Request **operations = allocate(typing, n * sizeof *operations);

    for (size_t i = 0; i < n; i++) {
        operations[i] = make(typing, &kv__request__descriptor);
        if (i == 0) {
            any_command(typing, operations[i], is_write);
        } else {
            operation(typing, operations[i], is_write);
        }
    }
    return operations;
}

static void transaction(struct typing *typing, Kv__Request *request, bool is_write)
{
    Kv__Txn *txn = make(typing, &kv__txn__descriptor);

    typing->depth++;
    txn->n_compares = pick(typing, 3);
    txn->compares = allocate(typing, txn->n_compares * sizeof *txn->compares);
    for (size_t i = 0; i < txn->n_compares; i++) {
        typing->type = 'x';
        typing->reads_others = false;
        txn->compares[i] = make(typing, &kv__compare__descriptor);
        fill(typing, &txn->compares[i]->base);
    }
    txn->n_then = 1 + pick(typing, OPERATIONS_MAX);
    txn->then = branch(typing, txn->n_then, is_write);
    txn->n_otherwise = pick(typing, OPERATIONS_MAX);
    txn->otherwise = branch(typing, txn->n_otherwise, is_write);
    request->command_case = KV__REQUEST__COMMAND_TXN;
    request->txn = txn;
    typing->depth--;
}

/* Elements between the same two, until there is no number left between these. */
static void crowd(struct typing *typing, Kv__Request *request)
{
    Kv__Txn *txn = make(typing, &kv__txn__descriptor);
    Kv__ListPush *push = make(typing, &kv__list_push__descriptor);
    ProtobufCBinaryData pivot;

    typing->type = 'l';
    push->key = any_key(typing);
    push->end = KV__LIST_END__LIST_RIGHT;
    push->n_elements = PUSHED_MIN + pick(typing, PUSHED_MAX - PUSHED_MIN);
    push->elements = allocate(typing, push->n_elements * sizeof *push->elements);
    for (size_t i = 0; i < push->n_elements; i++) {
        push->elements[i] = text(typing, NAME_BYTES, "p%zu", i);
    }
    pivot = push->elements[pick(typing, push->n_elements)];
    txn->n_then = 1 + INSERTED;
    txn->then = allocate(typing, txn->n_then * sizeof *txn->then);
    for (size_t i = 0; i < txn->n_then; i++) {
        Kv__ListInsert *insert = make(typing, &kv__list_insert__descriptor);

        insert->key = push->key;
        insert->pivot = pivot;
        insert->element = any_element(typing);
        insert->after = chance(typing, 10);
        txn->then[i] = make(typing, &kv__request__descriptor);
        txn->then[i]->command_case = KV__REQUEST__COMMAND_LIST_INSERT;
        txn->then[i]->list_insert = insert;
    }
    txn->then[0]->command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    txn->then[0]->list_push = push;
    request->command_case = KV__REQUEST__COMMAND_TXN;
    request->txn = txn;
}

void sim_types_draft(struct sim *sim, struct kv_arena *arena, bool is_write, Kv__Request *request)
{
    struct typing typing = {.sim = sim, .arena = arena};

    if (is_write && sim->profile.crowds && chance(&typing, 2)) {
        crowd(&typing, request);
    } else if (chance(&typing, sim->profile.txn_percent)) {
        transaction(&typing, request, is_write);
    } else {
        any_command(&typing, request, is_write);
    }
    if (chance(&typing, sim->profile.spoil_percent)) {
        sim_spoil(sim, arena, request);
    }
}
