/* From a command's words to its request, and from the reply to text: what the commands share. */
#include "client/kvctl/kvctl.h"
#include "common/limits.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The values of one request, and the messages around them. */
#define ARENA_BYTES_MAX (4 * KV_REQUEST_BYTES_MAX)

/* ---------------------------------------------------------------- filling */

void *kvctl_alloc(struct kvctl_call *call, size_t size)
{
    void *memory = kv_arena_alloc(call->arena, size + 1);

    if (!memory) {
        fprintf(call->kvctl->err,
                "kvctl: the request is over %llu bytes, or memory is out\n",
                (unsigned long long)ARENA_BYTES_MAX);
        exit(KVCTL_LOCAL);
    }
    memset(memory, 0, size + 1);
    return memory;
}

void *kvctl_begin(struct kvctl_call *call, Kv__Request__CommandCase number)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(&kv__request__descriptor, number);
    const ProtobufCMessageDescriptor *descriptor = field->descriptor;
    void *message = kvctl_alloc(call, descriptor->sizeof_message);

    protobuf_c_message_init(descriptor, message);
    call->request.command_case = number;
    /* Any member of the union: they are all pointers to messages. */
    call->request.put = message;
    return message;
}

ProtobufCBinaryData kvctl_word(const struct kvctl_call *call, size_t i)
{
    const char *word = call->args->arguments[i];

    return (ProtobufCBinaryData){strlen(word), (uint8_t *)word};
}

ProtobufCBinaryData *kvctl_words(struct kvctl_call *call, size_t i, size_t *ret_n)
{
    size_t n = call->args->n_arguments - i;
    ProtobufCBinaryData *list = kvctl_alloc(call, n * sizeof *list);

    for (size_t k = 0; k < n; k++) {
        list[k] = kvctl_word(call, i + k);
    }
    *ret_n = n;
    return list;
}

int kvctl_value(struct kvctl_call *call, size_t i, ProtobufCBinaryData *ret_value)
{
    const char *word = call->args->arguments[i];
    struct kv_error error;
    struct kv_bytes value;
    void *memory;
    int status;

    if ((call->nested || call->kvctl->in_shell) && strcmp(word, "-") == 0) {
        return kvctl_usage(call->kvctl,
                           "in a transaction or a shell a value cannot be standard input (-); "
                           "\"@/dev/tty\" or @FILE can be");
    }
    status = kvctl_read_value(word, stdin, &value, &memory, &error);
    if (status < 0) {
        fprintf(call->kvctl->err, "kvctl: %s\n", error.message);
        return status == KV_TOO_LARGE ? KVCTL_REFUSED : KVCTL_LOCAL;
    }
    *ret_value = (ProtobufCBinaryData){value.size, kvctl_alloc(call, value.size)};
    if (value.size > 0) {
        memcpy(ret_value->data, value.data, value.size);
    }
    free(memory);
    return KVCTL_OK;
}

int kvctl_values(struct kvctl_call *call, size_t i, ProtobufCBinaryData **ret_list, size_t *ret_n)
{
    size_t n = call->args->n_arguments - i;
    ProtobufCBinaryData *list = kvctl_alloc(call, n * sizeof *list);

    for (size_t k = 0; k < n; k++) {
        int code = kvctl_value(call, i + k, &list[k]);

        if (code != KVCTL_OK) {
            return code;
        }
    }
    *ret_list = list;
    *ret_n = n;
    return KVCTL_OK;
}

int kvctl_integer(struct kvctl_call *call, size_t i, const char *name, int64_t *ret_number)
{
    const char *word = call->args->arguments[i];

    if (kvctl_parse_number(word, INT64_MIN, INT64_MAX, ret_number)) {
        return KVCTL_OK;
    }
    return kvctl_usage(call->kvctl,
                       "%s: %s is a whole number between -2^63 and 2^63-1, not \"%.100s\"",
                       call->args->command->name,
                       name,
                       word);
}

int kvctl_count(
    struct kvctl_call *call, size_t i, const char *name, uint64_t absent, uint64_t *ret_count)
{
    int64_t number;

    *ret_count = absent;
    if (i >= call->args->n_arguments) {
        return KVCTL_OK;
    }
    if (!kvctl_parse_number(call->args->arguments[i], 1, INT64_MAX, &number)) {
        return kvctl_usage(call->kvctl,
                           "%s: %s is a whole number from 1 on, not \"%.100s\"",
                           call->args->command->name,
                           name,
                           call->args->arguments[i]);
    }
    *ret_count = (uint64_t)number;
    return KVCTL_OK;
}

int kvctl_score(struct kvctl_call *call, size_t i, const char *name, double *ret_score)
{
    if (kvctl_parse_score(call->args->arguments[i], ret_score)) {
        return KVCTL_OK;
    }
    return kvctl_usage(call->kvctl,
                       "%s: %s is a number, inf or -inf, not \"%.100s\"",
                       call->args->command->name,
                       name,
                       call->args->arguments[i]);
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

int kvctl_cursor(struct kvctl_call *call, ProtobufCBinaryData *ret_cursor)
{
    const char *text = call->args->strings[KVCTL_CURSOR];
    size_t length = text ? strlen(text) : 0;
    uint8_t *bytes = kvctl_alloc(call, length / 2);

    for (size_t i = 0; i + 1 < length; i += 2) {
        if (hex_digit(text[i]) < 0 || hex_digit(text[i + 1]) < 0) {
            length = 1;
            break;
        }
        bytes[i / 2] = (uint8_t)(hex_digit(text[i]) << 4 | hex_digit(text[i + 1]));
    }
    if (length % 2 != 0) {
        return kvctl_usage(
            call->kvctl,
            "--cursor wants what a former answer named as its cursor, not \"%.100s\"",
            text);
    }
    *ret_cursor = (ProtobufCBinaryData){length / 2, bytes};
    return KVCTL_OK;
}

/* ---------------------------------------------------------------- showing */

void kvctl_show_bytes(struct kvctl_call *call, const char *name, struct kv_bytes bytes)
{
    FILE *out = call->kvctl->out;

    switch (call->args->format) {
    case KVCTL_TEXT:
        kvctl_print_text(out, bytes);
        break;
    case KVCTL_JSON:
        kvctl_print_json_bytes(out, name, bytes);
        break;
    case KVCTL_VALUE:
        kvctl_print_raw(out, bytes);
        break;
    }
}

void kvctl_show_nil(struct kvctl_call *call)
{
    if (call->args->format != KVCTL_VALUE) {
        fputs(call->args->format == KVCTL_JSON ? "null\n" : "(nil)\n", call->kvctl->out);
    }
}

void kvctl_show_end(struct kvctl_call *call, const Kv__Reply *reply)
{
    if (reply->revision != 0) {
        fprintf(call->kvctl->out, ",\"revision\":%" PRId64, reply->revision);
    }
    fputs("}\n", call->kvctl->out);
}

int kvctl_show_done(struct kvctl_call *call, const Kv__Reply *reply)
{
    if (call->args->format == KVCTL_JSON) {
        fputs("{\"done\":true", call->kvctl->out);
        kvctl_show_end(call, reply);
    } else if (call->args->format == KVCTL_TEXT) {
        fputs("OK\n", call->kvctl->out);
    }
    return KVCTL_OK;
}

static void show_number(struct kvctl_call *call, const Kv__Reply *reply, uint64_t count)
{
    if (call->args->format == KVCTL_JSON) {
        fprintf(call->kvctl->out, "{\"count\":%" PRIu64, count);
        kvctl_show_end(call, reply);
    } else {
        fprintf(call->kvctl->out, "%" PRIu64 "\n", count);
    }
}

int kvctl_show_count(struct kvctl_call *call, const Kv__Reply *reply)
{
    show_number(call, reply, reply->count->count);
    return KVCTL_OK;
}

int kvctl_show_stored(struct kvctl_call *call, const Kv__Reply *reply)
{
    bool sorted = reply->result_case == KV__REPLY__RESULT_ZSET_COMBINE;

    show_number(call, reply, sorted ? reply->zset_combine->stored : reply->set_combine->stored);
    return KVCTL_OK;
}

int kvctl_show_counter(struct kvctl_call *call, const Kv__Reply *reply)
{
    if (call->args->format == KVCTL_JSON) {
        fprintf(call->kvctl->out, "{\"value\":%" PRId64, reply->counter_get->value);
        kvctl_show_end(call, reply);
    } else {
        fprintf(call->kvctl->out, "%" PRId64 "\n", reply->counter_get->value);
    }
    return KVCTL_OK;
}

void kvctl_show_more(struct kvctl_call *call, const ProtobufCBinaryData *cursor)
{
    bool json = call->args->format == KVCTL_JSON;
    FILE *file = json ? call->kvctl->out : call->kvctl->err;

    fputs(json ? ",\"more\":true,\"cursor\":\"" : "kvctl: there is more: --cursor ", file);
    for (size_t i = 0; i < cursor->len; i++) {
        fprintf(file, "%02x", cursor->data[i]);
    }
    fputs(json ? "\"" : "\n", file);
}

int kvctl_show_elements(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__ElementsResult *result = reply->list_range;
    bool json = call->args->format == KVCTL_JSON;
    FILE *out = call->kvctl->out;

    fputs(json ? "{\"elements\":[" : "", out);
    for (size_t i = 0; i < result->n_elements; i++) {
        fputs(json ? (i ? ",{" : "{") : "", out);
        kvctl_show_bytes(
            call, "element", kv_bytes_of(result->elements[i].data, result->elements[i].len));
        fputs(json ? "}" : "\n", out);
    }
    fputs(json ? "]" : "", out);
    if (result->more) {
        kvctl_show_more(call, &result->cursor);
    }
    if (json) {
        kvctl_show_end(call, reply);
    }
    return KVCTL_OK;
}

int kvctl_show_element(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__ElementsResult *result = reply->list_range;
    bool json = call->args->format == KVCTL_JSON;

    if (result->n_elements == 0) {
        kvctl_show_nil(call);
        return KVCTL_NOT_MET;
    }
    fputs(json ? "{" : "", call->kvctl->out);
    kvctl_show_bytes(
        call, "element", kv_bytes_of(result->elements[0].data, result->elements[0].len));
    if (json) {
        kvctl_show_end(call, reply);
    } else if (call->args->format == KVCTL_TEXT) {
        fputc('\n', call->kvctl->out);
    }
    return KVCTL_OK;
}

int kvctl_show_present(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__PresentResult *result = reply->set_has;
    bool json = call->args->format == KVCTL_JSON;
    FILE *out = call->kvctl->out;
    bool all = true;

    fputs(json ? "{\"asked\":[" : "", out);
    for (size_t i = 0; i < result->n_present; i++) {
        ProtobufCBinaryData word = kvctl_word(call, 1 + i);

        all = all && result->present[i];
        if (json) {
            fputs(i ? ",{" : "{", out);
            kvctl_print_json_bytes(out, "name", kv_bytes_of(word.data, word.len));
            fprintf(out, ",\"present\":%s}", result->present[i] ? "true" : "false");
            continue;
        }
        if (result->n_present > 1 && call->args->format == KVCTL_TEXT) {
            kvctl_print_escaped(out, kv_bytes_of(word.data, word.len));
            fputc('\t', out);
        }
        fputs(result->present[i] ? "yes\n" : "no\n", out);
    }
    if (json) {
        fputc(']', out);
        kvctl_show_end(call, reply);
    }
    return all ? KVCTL_OK : KVCTL_NOT_MET;
}

/* ---------------------------------------------------------------- running */

static struct kv_call_options options_of(const struct kvctl_call *call)
{
    struct kv_call_options options = kvctl_call_options(call->kvctl);
    uint64_t deadline_ms = (uint64_t)options.deadline_ms + call->wait_ms;

    options.deadline_ms =
        deadline_ms > KV_DEADLINE_MAX_MS ? KV_DEADLINE_MAX_MS : (unsigned)deadline_ms;
    return options;
}

static int send_and_print(struct kvctl_call *call)
{
    struct kv_call_options options = options_of(call);
    struct kvctl *kvctl = call->kvctl;
    int64_t until_ms = kvctl_now_ms() + options.deadline_ms;
    struct kv_error error;
    Kv__Reply *reply;
    int code = KVCTL_OK;
    int status = kv_call(kvctl->client, &call->request, &options, &reply, &error);

    if (status == KV_DEADLINE && reply && call->wait_ms > 0 && kvctl_now_ms() < until_ms) {
        /* The server waited as long as it was asked to, in vain. */
        kvctl_show_nil(call);
        kv_reply_free(reply);
        return KVCTL_NOT_MET;
    }
    if (status == 0 && (int)reply->result_case != (int)call->request.command_case) {
        status = kv_error_set(&error, KV_INTERNAL, "the server's reply has no result");
    } else if (reply && (int)reply->result_case == (int)call->request.command_case) {
        /* Also some refusals have a result: what is there instead. */
        code = call->args->command->print(call, reply);
    }
    if (status < 0) {
        code = kvctl_fail(kvctl, &error);
    }
    kv_reply_free(reply);
    return code;
}

int kvctl_run_request(struct kvctl *kvctl)
{
    struct kv_arena arena;
    struct kvctl_call call = {.kvctl = kvctl, .args = &kvctl->args, .arena = &arena};
    int code;

    kv_arena_init(&arena, ARENA_BYTES_MAX);
    kv__request__init(&call.request);
    code = kvctl->args.command->fill(&call);
    if (code == KVCTL_OK) {
        code = send_and_print(&call);
    }
    kv_arena_deinit(&arena);
    return code;
}
