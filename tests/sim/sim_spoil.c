/* Requests as no client should send them: one field of a command, or of anything within it, is
 * missing, out of every bound, or of no value that is known. All nodes must refuse the same, or do
 * the same. */
#include "tests/sim/sim.h"

#include "common/assert.h"

#include <math.h>
#include <string.h>

struct spoiling {
    struct sim *sim;
    struct kv_arena *arena;
    uint64_t left; /* places to pass over before the one that is spoiled */
};

static uint64_t pick(const struct spoiling *spoiling, uint64_t below)
{
    return sim_random(spoiling->sim, SIM_RANDOM_TYPES, below);
}

/* Is this the place? */
static bool is_it(struct spoiling *spoiling)
{
    return spoiling->left-- == 0;
}

/* A bound of a range may have one more than a key. No range becomes one over the keys of others,
 * which lie behind "b": the judge of histories would know nothing of what happens to them. */
static ProtobufCBinaryData bad_bytes(const struct spoiling *spoiling, bool may_be_empty)
{
    const size_t size =
        may_be_empty && pick(spoiling, 2) ? 0 : KV_KEY_BYTES_MAX + 1 + pick(spoiling, 2);
    uint8_t *bytes = kv_arena_alloc(spoiling->arena, size + 1);

    KV_ASSERT(bytes);
    memset(bytes, 'a', size);
    return (ProtobufCBinaryData){size, bytes};
}

static bool is_not_wider(const ProtobufCMessage *message)
{
    return message->descriptor != &kv__key_range__descriptor ||
           ((const Kv__KeyRange *)message)->special == KV__KEY_RANGE__SPECIAL__NONE;
}

static void spoil_scalar(const struct spoiling *spoiling,
                         const ProtobufCMessage *message,
                         const ProtobufCFieldDescriptor *field,
                         void *member)
{
    static const int64_t integers[] = {INT64_MIN, -1, 0, INT64_MAX};

    switch (field->type) {
    case PROTOBUF_C_TYPE_BYTES:
        *(ProtobufCBinaryData *)member = bad_bytes(spoiling, is_not_wider(message));
        break;
    case PROTOBUF_C_TYPE_INT64:
        *(int64_t *)member = integers[pick(spoiling, sizeof integers / sizeof integers[0])];
        break;
    case PROTOBUF_C_TYPE_UINT64:
        *(uint64_t *)member = pick(spoiling, 2) ? UINT64_MAX : 0;
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        *(double *)member = (double)NAN;
        break;
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)member = !*(protobuf_c_boolean *)member;
        break;
    case PROTOBUF_C_TYPE_ENUM:
        *(int *)member = pick(spoiling, 2) ? 77 : -1;
        break;
    default:
        break;
    }
}

static bool spoil_message(struct spoiling *spoiling, ProtobufCMessage *message);

static size_t size_of(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_ENUM:
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(int);
    default:
        return sizeof(uint64_t);
    }
}

static bool spoil_list(struct spoiling *spoiling,
                       ProtobufCMessage *message,
                       const ProtobufCFieldDescriptor *field)
{
    size_t *n = (size_t *)(void *)((uint8_t *)message + field->quantifier_offset);
    uint8_t *items = *(uint8_t **)(void *)((uint8_t *)message + field->offset);

    if (is_it(spoiling)) {
        *n = 0;
        return true;
    }
    for (size_t i = 0; i < *n; i++) {
        if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
            if (spoil_message(spoiling, ((ProtobufCMessage **)(void *)items)[i])) {
                return true;
            }
        } else if (is_it(spoiling)) {
            spoil_scalar(spoiling, message, field, items + i * size_of(field));
            return true;
        }
    }
    return false;
}

static bool spoil_field(struct spoiling *spoiling,
                        ProtobufCMessage *message,
                        const ProtobufCFieldDescriptor *field)
{
    uint8_t *member = (uint8_t *)message + field->offset;

    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        uint32_t *chosen = (uint32_t *)(void *)((uint8_t *)message + field->quantifier_offset);

        if (*chosen != field->id) {
            return false;
        }
        if (is_it(spoiling)) {
            *chosen = 0;
            return true;
        }
    }
    if (field->type != PROTOBUF_C_TYPE_MESSAGE) {
        if (is_it(spoiling)) {
            spoil_scalar(spoiling, message, field, member);
            return true;
        }
        return false;
    }
    if (!*(ProtobufCMessage **)(void *)member) {
        return false;
    }
    if (!(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) && is_it(spoiling)) {
        *(ProtobufCMessage **)(void *)member = NULL;
        return true;
    }
    return spoil_message(spoiling, *(ProtobufCMessage **)(void *)member);
}

/* Was the place in it? */
static bool spoil_message(struct spoiling *spoiling, ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];

        if (field->label == PROTOBUF_C_LABEL_REPEATED ? spoil_list(spoiling, message, field)
                                                      : spoil_field(spoiling, message, field)) {
            return true;
        }
    }
    return false;
}

void sim_spoil(struct sim *sim, struct kv_arena *arena, Kv__Request *request)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(&kv__request__descriptor, request->command_case);
    ProtobufCMessage *command = *(ProtobufCMessage **)(void *)((uint8_t *)request + field->offset);
    struct spoiling spoiling = {sim, arena, UINT64_MAX};

    /* Once over it all to count the places. */
    (void)spoil_message(&spoiling, command);
    if (spoiling.left < UINT64_MAX) {
        spoiling.left = pick(&spoiling, UINT64_MAX - spoiling.left);
        (void)spoil_message(&spoiling, command);
    }
}
