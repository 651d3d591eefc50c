/* What the typed calls share: see client/typed.h. */
#include "client/typed.h"

#include <stdlib.h>

int kv_typed_no_memory(const struct kv_typed *typed)
{
    return kv_error_set(typed->error, KV_NO_MEMORY, "out of memory");
}

ProtobufCBinaryData *kv_typed_list(const struct kv_bytes *list, size_t n)
{
    ProtobufCBinaryData *copy = calloc(n ? n : 1, sizeof *copy);

    for (size_t i = 0; copy && i < n; i++) {
        copy[i] = kv_bytes_to_proto(list[i]);
    }
    return copy;
}

int kv_typed_call(const struct kv_typed *typed,
                  Kv__Request__CommandCase number,
                  void *message,
                  Kv__Reply **ret_reply)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;
    int status;

    request.command_case = number;
    /* Any member of the union: they are all pointers to messages. */
    request.put = message;
    status = kv_call(typed->client, &request, typed->options, &reply, typed->error);
    if (status == 0 && (int)reply->result_case != (int)number) {
        status = kv_missing_result(typed->error);
    }
    if (status < 0) {
        kv_reply_free(reply);
        reply = NULL;
    }
    *ret_reply = reply;
    return status;
}

int kv_typed_count(const struct kv_typed *typed,
                   Kv__Request__CommandCase number,
                   void *message,
                   uint64_t *ret_count)
{
    Kv__Reply *reply;
    int status = kv_typed_call(typed, number, message, &reply);

    if (status == 0 && ret_count) {
        *ret_count = reply->count->count;
    }
    kv_reply_free(reply);
    return status;
}

int kv_typed_counter(const struct kv_typed *typed,
                     Kv__Request__CommandCase number,
                     void *message,
                     int64_t *ret_value)
{
    Kv__Reply *reply;
    int status = kv_typed_call(typed, number, message, &reply);

    if (status == 0 && ret_value) {
        *ret_value = reply->counter_get->value;
    }
    kv_reply_free(reply);
    return status;
}

int kv_typed_done(const struct kv_typed *typed, Kv__Request__CommandCase number, void *message)
{
    Kv__Reply *reply;
    int status = kv_typed_call(typed, number, message, &reply);

    kv_reply_free(reply);
    return status;
}

int kv_typed_present(const struct kv_typed *typed,
                     Kv__Request__CommandCase number,
                     void *message,
                     const struct kv_typed_present *present)
{
    Kv__Reply *reply;
    int status = kv_typed_call(typed, number, message, &reply);

    if (status == 0 && reply->set_has->n_present != present->n_asked) {
        status = kv_missing_result(typed->error);
    }
    for (size_t i = 0; status == 0 && i < present->n_asked; i++) {
        present->ret_present[i] = reply->set_has->present[i];
    }
    kv_reply_free(reply);
    return status;
}

int kv_typed_elements(const struct kv_typed *typed,
                      Kv__Request__CommandCase number,
                      void *message,
                      struct kv_elements *ret_elements)
{
    const Kv__ElementsResult *result;
    struct kv_bytes *elements;
    Kv__Reply *reply;
    int status = kv_typed_call(typed, number, message, &reply);

    if (status < 0) {
        return status;
    }
    result = reply->list_range;
    elements = calloc(result->n_elements + 1, sizeof *elements);
    if (!elements) {
        kv_reply_free(reply);
        return kv_typed_no_memory(typed);
    }
    for (size_t i = 0; i < result->n_elements; i++) {
        elements[i] = kv_bytes_of(result->elements[i].data, result->elements[i].len);
    }
    *ret_elements = (struct kv_elements){
        .n_elements = result->n_elements,
        .elements = elements,
        .more = result->more,
        .cursor = kv_bytes_of(result->cursor.data, result->cursor.len),
        .revision = reply->revision,
        .memory = reply,
    };
    return 0;
}

void kv_elements_free(struct kv_elements *elements)
{
    if (elements) {
        kv_reply_free(elements->memory);
        free(elements->elements);
        *elements = (struct kv_elements){0};
    }
}
