/* Operations of a history as lines for people. */
#include "tests/sim/history.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum { QUOTE_BYTES_MAX = 32, QUOTE_TEXT_SIZE = 4 * QUOTE_BYTES_MAX + 32, LISTED_MAX = 4 };

struct line {
    char *text;
    size_t size;
    size_t length;
};

static void KV_PRINTF(2, 3) say(struct line *line, const char *format, ...)
{
    va_list arguments;
    int n;

    va_start(arguments, format);
    n = vsnprintf(line->text + line->length, line->size - line->length, format, arguments);
    va_end(arguments);
    if (n > 0) {
        line->length +=
            (size_t)n < line->size - line->length ? (size_t)n : line->size - line->length - 1;
    }
}

void kv_history_quote(struct kv_slice bytes, char *ret_text, size_t size)
{
    struct line line = {ret_text, size, 0};
    size_t shown = bytes.size < QUOTE_BYTES_MAX ? bytes.size : QUOTE_BYTES_MAX;

    say(&line, "\"");
    for (size_t i = 0; i < shown; i++) {
        bool plain = bytes.data[i] >= ' ' && bytes.data[i] < 0x7f && bytes.data[i] != '"' &&
                     bytes.data[i] != '\\';

        say(&line, plain ? "%c" : "\\x%02x", bytes.data[i]);
    }
    say(&line, "\"");
    if (shown < bytes.size) {
        say(&line, "... (%zu bytes)", bytes.size);
    }
}

static void say_bytes(struct line *line, ProtobufCBinaryData bytes)
{
    char text[QUOTE_TEXT_SIZE];

    kv_history_quote(kv_slice_of(bytes.data, bytes.len), text, sizeof text);
    say(line, " %s", text);
}

static void say_kv(struct line *line, const Kv__KeyValue *kv, bool with_key)
{
    if (!kv) {
        say(line, " nothing");
        return;
    }
    if (with_key) {
        say_bytes(line, kv->key);
        say(line, " =");
    }
    say_bytes(line, kv->value);
    say(line,
        " (version %" PRId64 ", created at %" PRId64 ", mod_revision %" PRId64 ")",
        kv->version,
        kv->create_revision,
        kv->mod_revision);
}

static void say_at(struct line *line, int64_t revision)
{
    if (revision != 0) {
        say(line, " at revision %" PRId64, revision);
    }
}

static void say_put(struct line *line, const Kv__Put *put)
{
    say(line, "put");
    say_bytes(line, put->key);
    say_bytes(line, put->value);
    switch (put->condition_case) {
    case KV__PUT__CONDITION_IF_ABSENT:
        say(line, put->if_absent ? " if absent" : "");
        break;
    case KV__PUT__CONDITION_IF_PRESENT:
        say(line, put->if_present ? " if present" : "");
        break;
    case KV__PUT__CONDITION_IF_MOD_REVISION:
        say(line, " if mod_revision is %" PRId64, put->if_mod_revision);
        break;
    case KV__PUT__CONDITION_IF_VALUE:
        say(line, " if it holds");
        say_bytes(line, put->if_value);
        break;
    default:
        break;
    }
}

static void say_keys(struct line *line, size_t n, const ProtobufCBinaryData *keys)
{
    for (size_t i = 0; i < n && i < LISTED_MAX; i++) {
        say_bytes(line, keys[i]);
    }
    if (n > LISTED_MAX) {
        say(line, " and %zu more", n - LISTED_MAX);
    }
}

static void say_range(struct line *line, const Kv__KeyRange *range)
{
    switch (range->special) {
    case KV__KEY_RANGE__SPECIAL__ALL:
        say(line, " all keys");
        return;
    case KV__KEY_RANGE__SPECIAL__PREFIX:
        say(line, " prefix");
        say_bytes(line, range->start);
        return;
    case KV__KEY_RANGE__SPECIAL__FROM_KEY:
        say(line, " from");
        say_bytes(line, range->start);
        return;
    default:
        say(line, " from");
        say_bytes(line, range->start);
        say(line, " to");
        say_bytes(line, range->end);
    }
}

static void say_counter(struct line *line, const Kv__Request *request)
{
    switch (request->command_case) {
    case KV__REQUEST__COMMAND_COUNTER_ADD:
        say(line, "counter add");
        say_bytes(line, request->counter_add->key);
        say(line, " %" PRId64, request->counter_add->delta);
        break;
    case KV__REQUEST__COMMAND_COUNTER_SET:
        say(line, "counter set");
        say_bytes(line, request->counter_set->key);
        say(line, " %" PRId64, request->counter_set->value);
        break;
    case KV__REQUEST__COMMAND_COUNTER_GET:
        say(line, "counter get");
        say_bytes(line, request->counter_get->key);
        say_at(line, request->counter_get->at_revision);
        break;
    default:
        say(line, "command %d", (int)request->command_case);
    }
}

static void say_multi(struct line *line, const Kv__Request *request)
{
    switch (request->command_case) {
    case KV__REQUEST__COMMAND_DELETE:
        say(line, "delete");
        say_keys(line, request->delete_->n_keys, request->delete_->keys);
        for (size_t i = 0; i < request->delete_->n_ranges && i < LISTED_MAX; i++) {
            say_range(line, request->delete_->ranges[i]);
        }
        break;
    case KV__REQUEST__COMMAND_EXISTS:
        say(line, "exists");
        say_keys(line, request->exists->n_keys, request->exists->keys);
        say_at(line, request->exists->at_revision);
        break;
    case KV__REQUEST__COMMAND_COUNT:
        say(line, "count");
        say_range(line, request->count->range);
        say_at(line, request->count->at_revision);
        break;
    case KV__REQUEST__COMMAND_RANGE:
        say(line, request->range->stream ? "range, streamed," : "range");
        say_range(line, request->range->range);
        say_at(line, request->range->at_revision);
        break;
    case KV__REQUEST__COMMAND_TXN:
        say(line, "a write on other keys");
        break;
    default:
        say_counter(line, request);
    }
}

static void say_request(struct line *line, const Kv__Request *request)
{
    switch (request->command_case) {
    case KV__REQUEST__COMMAND_PUT:
        say_put(line, request->put);
        break;
    case KV__REQUEST__COMMAND_GET:
        say(line, "get");
        say_bytes(line, request->get->key);
        say_at(line, request->get->at_revision);
        break;
    case KV__REQUEST__COMMAND_APPEND:
        say(line, "append");
        say_bytes(line, request->append->key);
        say_bytes(line, request->append->value);
        break;
    case KV__REQUEST__COMMAND_GETSET:
        say(line, "getset");
        say_bytes(line, request->getset->key);
        say_bytes(line, request->getset->value);
        break;
    case KV__REQUEST__COMMAND_GETDEL:
        say(line, "getdel");
        say_bytes(line, request->getdel->key);
        break;
    case KV__REQUEST__COMMAND_STRLEN:
        say(line, "strlen");
        say_bytes(line, request->strlen->key);
        say_at(line, request->strlen->at_revision);
        break;
    case KV__REQUEST__COMMAND_GET_RANGE:
        say(line, "get bytes");
        say_bytes(line, request->get_range->key);
        say(line, " %" PRId64 "..%" PRId64, request->get_range->first, request->get_range->last);
        say_at(line, request->get_range->at_revision);
        break;
    case KV__REQUEST__COMMAND_SET_RANGE:
        say(line, "set bytes");
        say_bytes(line, request->set_range->key);
        say(line, " from %" PRIu64, request->set_range->offset);
        say_bytes(line, request->set_range->value);
        break;
    default:
        say_multi(line, request);
    }
}

static void say_pairs(struct line *line, size_t n, Kv__KeyValue *const *kvs)
{
    for (size_t i = 0; i < n && i < LISTED_MAX; i++) {
        say_kv(line, kvs[i], true);
    }
    if (n > LISTED_MAX) {
        say(line, " and %zu more", n - LISTED_MAX);
    }
}

static void say_result(struct line *line, const Kv__Request *request, const Kv__Reply *reply)
{
    switch (reply->result_case) {
    case KV__REPLY__RESULT_PUT:
        if (reply->code == KV__CODE__OK) {
            say(line, " version %" PRId64, reply->put->version);
        }
        if (request->put && request->put->return_previous) {
            say(line, " previous");
            say_kv(line, reply->put->previous, false);
        }
        break;
    case KV__REPLY__RESULT_GET:
    case KV__REPLY__RESULT_GETSET:
    case KV__REPLY__RESULT_GETDEL:
        say_kv(line, reply->get->kv, false);
        break;
    case KV__REPLY__RESULT_APPEND:
    case KV__REPLY__RESULT_SET_RANGE:
        say(line, " length %" PRIu64, reply->append->length);
        break;
    case KV__REPLY__RESULT_COUNTER_ADD:
    case KV__REPLY__RESULT_COUNTER_GET:
    case KV__REPLY__RESULT_COUNTER_SET:
        say(line, " %" PRId64, reply->counter_add->value);
        break;
    case KV__REPLY__RESULT_STRLEN:
        say(line, " %" PRIu64, reply->strlen->length);
        break;
    case KV__REPLY__RESULT_GET_RANGE:
        say_bytes(line, reply->get_range->value);
        break;
    case KV__REPLY__RESULT_DELETE:
        say(line, " %" PRIu64 " deleted", reply->delete_->deleted);
        say_pairs(line, reply->delete_->n_previous, reply->delete_->previous);
        break;
    case KV__REPLY__RESULT_EXISTS:
        say(line, " %" PRIu64, reply->exists->count);
        break;
    case KV__REPLY__RESULT_COUNT:
        say(line, " %" PRIu64, reply->count->count);
        break;
    case KV__REPLY__RESULT_RANGE:
        say(line, " %" PRIu64 " keys", reply->range->count);
        say_pairs(line, reply->range->n_kvs, reply->range->kvs);
        break;
    default:
        break;
    }
}

static void say_answer(struct line *line, const struct kv_history_op *op)
{
    say(line, " -> ");
    if (op->end == KV_HISTORY_NEVER) {
        say(line, "no answer");
        return;
    }
    say(line, "%s", kv_status_name(op->status));
    if (op->reply) {
        say_result(line, op->request, op->reply);
        say(line, ", revision %" PRId64, op->reply->revision);
    }
    for (const struct kv_history_piece *piece = op->pieces; piece; piece = piece->next) {
        say(line, ", piece of revision %" PRId64, piece->revision);
        say_pairs(line, piece->result->n_kvs, piece->result->kvs);
    }
}

void kv_history_describe(const struct kv_history *history,
                         const struct kv_history_op *op,
                         char *ret_text,
                         size_t size)
{
    struct line line = {ret_text, size, 0};

    say(&line,
        "#%zu client %" PRIu64 " [%.6f, ",
        (size_t)(op - history->ops),
        op->client,
        (double)op->begin_ns / 1e9);
    if (op->end == KV_HISTORY_NEVER) {
        say(&line, "...] ");
    } else {
        say(&line, "%.6f] ", (double)op->end_ns / 1e9);
    }
    if (op->request->serializable) {
        say(&line, "serializable ");
    }
    say_request(&line, op->request);
    say_answer(&line, op);
    if (op->node != 0) {
        say(&line, " (node %" PRIu64 ")", op->node);
    }
}
