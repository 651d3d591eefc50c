#include "server/net/decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the commands that carry a value. */
static size_t value_size(const Kv__Request *request)
{
    switch (request->command_case) {
    case KV__REQUEST__COMMAND_PUT:
        return request->put->value.len;
    case KV__REQUEST__COMMAND_APPEND:
        return request->append->value.len;
    case KV__REQUEST__COMMAND_GETSET:
        return request->getset->value.len;
    case KV__REQUEST__COMMAND_SET_RANGE:
        return request->set_range->value.len;
    default:
        return 0;
    }
}

/* The validation finds either a value or a key too large. */
static void name_limit(const struct kv_machine_settings *settings,
                       struct kv_decoded_request *request)
{
    bool is_value = value_size(request->request) > settings->value_bytes;

    /* Of a transaction the message says what it is. */
    if (request->status == KV_TOO_LARGE &&
        request->request->command_case != KV__REQUEST__COMMAND_TXN) {
        request->limit = is_value ? "value-limit" : "key-limit";
        request->limit_value = is_value ? settings->value_bytes : KV_KEY_BYTES_MAX;
    }
}

int kv_decode_request(struct kv_arena *arena,
                      struct kv_slice body,
                      const struct kv_machine_settings *settings,
                      struct kv_decoded_request *ret_request,
                      struct kv_error *ret_error)
{
    ProtobufCAllocator allocator;
    bool unknown = false;
    int status =
        kv_proto_scan(&kv__request__descriptor, body, KV_DECODED_BYTES_MAX, &unknown, ret_error);

    if (status != 0) {
        return status;
    }
    *ret_request = (struct kv_decoded_request){.limit = ""};
    ret_request->bytes = kv_slice_of(kv_arena_copy(arena, body.data, body.size), body.size);
    if (!ret_request->bytes.data) {
        return kv_error_set(ret_error, KV_BUSY, "the server has no memory for a request");
    }
    kv_arena_protobuf_allocator(arena, &allocator);
    ret_request->request = kv__request__unpack(&allocator, body.size, ret_request->bytes.data);
    if (!ret_request->request) {
        return kv_error_set(ret_error, KV_INVALID, "a request is malformed, or takes much memory");
    }
    ret_request->cls = kv_command_classify(ret_request->request);
    if (ret_request->request->session) {
        /* A retry gets the answer that the first try got, whatever the settings are now. */
        settings = kv_machine_settings_loosest();
    }
    ret_request->status = kv_command_validate(ret_request->request, settings, &ret_request->error);
    if (unknown && ret_request->cls == KV_COMMAND_NONE) {
        ret_request->status =
            kv_error_set(&ret_request->error,
                         KV_UNSUPPORTED,
                         "this server does not know the command: it is of a later version");
    } else if (ret_request->status == 0 && unknown && ret_request->cls == KV_COMMAND_WRITE) {
        ret_request->status =
            kv_error_set(&ret_request->error,
                         KV_INVALID,
                         "the write has a field that this server does not know: it could not do "
                         "what is meant");
    }
    name_limit(settings, ret_request);
    return 0;
}

int kv_decode_hello(struct kv_slice body,
                    struct kv_decoded_hello *ret_hello,
                    struct kv_error *ret_error)
{
    Kv__Hello *hello;
    bool unknown;
    int status = kv_proto_scan(
        &kv__hello__descriptor, body, KV_CONTROL_FRAME_BYTES_MAX, &unknown, ret_error);

    if (status != 0) {
        return status;
    }
    hello = kv__hello__unpack(NULL, body.size, body.data);
    if (!hello) {
        return kv_error_set(ret_error, KV_INVALID, "the hello is malformed");
    }
    if (hello->protocol_version != KV_PROTOCOL_VERSION) {
        status = kv_error_set(ret_error,
                              KV_INVALID,
                              "the client speaks protocol version %u, this server %u",
                              hello->protocol_version,
                              KV_PROTOCOL_VERSION);
    } else if (strlen(hello->client_name) > KV_NAME_BYTES_MAX) {
        status = kv_error_set(ret_error,
                              KV_INVALID,
                              "the client's name has %zu bytes, the limit is %u",
                              strlen(hello->client_name),
                              KV_NAME_BYTES_MAX);
    } else {
        ret_hello->lz4 = hello->lz4;
        snprintf(ret_hello->client_name, sizeof ret_hello->client_name, "%s", hello->client_name);
    }
    kv__hello__free_unpacked(hello, NULL);
    return status;
}

int kv_decode_cancel(struct kv_slice body, uint64_t *ret_id, struct kv_error *ret_error)
{
    Kv__Cancel *cancel;
    bool unknown;
    int status = kv_proto_scan(
        &kv__cancel__descriptor, body, KV_CONTROL_FRAME_BYTES_MAX, &unknown, ret_error);

    if (status != 0) {
        return status;
    }
    cancel = kv__cancel__unpack(NULL, body.size, body.data);
    if (!cancel) {
        return kv_error_set(ret_error, KV_INVALID, "a cancel is malformed");
    }
    *ret_id = cancel->id;
    kv__cancel__free_unpacked(cancel, NULL);
    return 0;
}

int kv_decode_credit(struct kv_slice body,
                     uint64_t *ret_id,
                     uint64_t *ret_bytes,
                     struct kv_error *ret_error)
{
    Kv__Credit *credit;
    bool unknown;
    int status = kv_proto_scan(
        &kv__credit__descriptor, body, KV_CONTROL_FRAME_BYTES_MAX, &unknown, ret_error);

    if (status != 0) {
        return status;
    }
    credit = kv__credit__unpack(NULL, body.size, body.data);
    if (!credit) {
        return kv_error_set(ret_error, KV_INVALID, "a credit is malformed");
    }
    *ret_id = credit->id;
    *ret_bytes = credit->bytes;
    kv__credit__free_unpacked(credit, NULL);
    return 0;
}

int kv_decode_body(const struct kv_frame *frame,
                   bool lz4,
                   struct kv_slice *ret_body,
                   uint8_t **ret_raw,
                   struct kv_error *ret_error)
{
    size_t size;
    int status;

    *ret_raw = NULL;
    *ret_body = frame->body;
    if (!(frame->flags & KV_FRAME_FLAG_LZ4)) {
        return 0;
    }
    if (!lz4) {
        return kv_error_set(
            ret_error, KV_INVALID, "a compressed frame, but lz4 was not offered in the hello");
    }
    status = kv_frame_decompress(frame->body, KV_REQUEST_BYTES_MAX, ret_raw, &size);
    switch (status) {
    case 0:
        *ret_body = kv_slice_of(*ret_raw, size);
        return 0;
    case KV_TOO_LARGE:
        return kv_error_set(ret_error,
                            status,
                            "a compressed frame holds more than %llu bytes",
                            KV_REQUEST_BYTES_MAX);
    case KV_NO_MEMORY:
        return kv_error_set(ret_error, KV_BUSY, "the server has no memory for a request");
    default:
        return kv_error_set(ret_error, KV_INVALID, "a compressed frame is malformed");
    }
}
