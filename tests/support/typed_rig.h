/* For tests of libkv's typed calls: stands in for the transport. Its kv_call keeps the request and
 * gives a prepared reply; each program that includes this has one. */
#ifndef KV_TESTS_TYPED_RIG_H
#define KV_TESTS_TYPED_RIG_H

#include "proto/kv.pb-c.h"

#include <kv/kv.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static Kv__Request *asked; /* the last request; owned */
static struct kv_call_options asked_options;
static const Kv__Reply *prepared; /* NULL: an OK without result */
static int prepared_status;
static struct kv_error error;
static int live_replies;

static struct kv_bytes text(const char *string)
{
    return kv_bytes_str(string);
}

#define assert_text(bytes, string)                                \
    do {                                                          \
        struct kv_bytes got_ = (bytes);                           \
        assert_int_equal(got_.size, strlen(string));              \
        assert_memory_equal(got_.data, (string), strlen(string)); \
    } while (0)
#define assert_proto(field, string) assert_text(kv_bytes_of((field).data, (field).len), string)

static void *copy(const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(size + 1);
    void *result;

    assert_non_null(packed);
    protobuf_c_message_pack(message, packed);
    result = protobuf_c_message_unpack(message->descriptor, NULL, size, packed);
    free(packed);
    assert_non_null(result);
    return result;
}

int kv_call(struct kv_client *client,
            const struct Kv__Request *request,
            const struct kv_call_options *options,
            struct Kv__Reply **ret_reply,
            struct kv_error *ret_error)
{
    Kv__Reply empty = KV__REPLY__INIT;

    (void)client;
    kv__request__free_unpacked(asked, NULL);
    asked = copy(&request->base);
    asked_options = options ? *options : (struct kv_call_options){0};
    *ret_reply = copy(prepared ? &prepared->base : &empty.base);
    live_replies++;
    return prepared_status < 0 ? kv_error_set(ret_error, prepared_status, "refused") : 0;
}

void kv_reply_free(struct Kv__Reply *reply)
{
    live_replies -= reply != NULL;
    kv__reply__free_unpacked(reply, NULL);
}

static int setup(void **state)
{
    (void)state;
    prepared = NULL;
    prepared_status = 0;
    live_replies = 0;
    error = (struct kv_error){0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kv__request__free_unpacked(asked, NULL);
    asked = NULL;
    /* Whatever a call made of it, its reply is free again. */
    assert_int_equal(live_replies, 0);
    return 0;
}

static void answer(Kv__Reply *reply, Kv__Reply__ResultCase number, void *result)
{
    kv__reply__init(reply);
    reply->revision = 7;
    reply->result_case = number;
    reply->put = result;
    prepared = reply;
}

#endif
