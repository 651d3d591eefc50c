/* The typed calls on ranges: count, iteration, deletion in pieces. */
#include "client/blocking.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE_KEYS_DEFAULT = 1000, DELETE_PIECE_KEYS = 1000 };

int kv_range_to_proto(const struct kv_range_spec *spec,
                      Kv__KeyRange *ret_range,
                      struct kv_error *ret_error)
{
    Kv__KeyRange range = KV__KEY_RANGE__INIT;

    range.start = kv_bytes_to_proto(spec->start);
    switch (spec->kind) {
    case KV_RANGE_BETWEEN:
        range.end = kv_bytes_to_proto(spec->end);
        if (spec->end.size == 0) {
            return kv_error_set(ret_error,
                                KV_INVALID,
                                "a range between two keys needs its end: use KV_RANGE_FROM for all "
                                "keys from the start on");
        }
        break;
    case KV_RANGE_KEY:
        break;
    case KV_RANGE_PREFIX:
        range.special = KV__KEY_RANGE__SPECIAL__PREFIX;
        break;
    case KV_RANGE_FROM:
        range.special = KV__KEY_RANGE__SPECIAL__FROM_KEY;
        break;
    case KV_RANGE_ALL:
        range.special = KV__KEY_RANGE__SPECIAL__ALL;
        range.start = (ProtobufCBinaryData){0};
        break;
    default:
        return kv_error_set(ret_error, KV_INVALID, "unknown kind %d of range", (int)spec->kind);
    }
    *ret_range = range;
    return 0;
}

int kv_count(struct kv_client *client,
             const struct kv_range_spec *spec,
             const struct kv_get_options *options,
             uint64_t *ret_count,
             struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Count command = KV__COUNT__INIT;
    Kv__KeyRange range;
    Kv__Reply *reply;
    int status;

    status = kv_range_to_proto(spec, &range, ret_error);
    if (status < 0) {
        return status;
    }
    command.range = &range;
    command.at_revision = options ? options->at_revision : 0;
    request.command_case = KV__REQUEST__COMMAND_COUNT;
    request.count = &command;
    status = kv_call(client, &request, options ? &options->call : NULL, &reply, ret_error);
    if (status == 0 && reply->result_case != KV__REPLY__RESULT_COUNT) {
        status = kv_missing_result(ret_error);
    }
    if (status == 0) {
        *ret_count = reply->count->count;
    }
    kv_reply_free(reply);
    return status;
}

/* ---------------------------------------------------------------- iteration */

struct kv_range_iterator {
    struct kv_client *client;
    struct kv_range_options options;
    struct kv_range_spec spec; /* of bytes that this owns */
    uint8_t *bytes;
    uint64_t returned;
    int64_t revision; /* 0: nothing read yet */
    Kv__Reply *page;  /* NULL: the next one is to be fetched, or the end */
    size_t next;      /* in the page */
    uint8_t *cursor;
    size_t cursor_size;
    bool ended;
};

int kv_range(struct kv_client *client,
             const struct kv_range_spec *spec,
             const struct kv_range_options *options,
             struct kv_range_iterator **ret_iterator,
             struct kv_error *ret_error)
{
    struct kv_range_iterator *iterator;
    Kv__KeyRange range;
    int status;

    status = kv_range_to_proto(spec, &range, ret_error);
    if (status < 0) {
        return status;
    }
    iterator = calloc(1, sizeof *iterator);
    if (!iterator) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    iterator->bytes = malloc(spec->start.size + spec->end.size + 1);
    if (!iterator->bytes) {
        free(iterator);
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    iterator->client = client;
    if (options) {
        iterator->options = *options;
    }
    iterator->spec = *spec;
    if (spec->start.size > 0) {
        memcpy(iterator->bytes, spec->start.data, spec->start.size);
    }
    if (spec->end.size > 0) {
        memcpy(iterator->bytes + spec->start.size, spec->end.data, spec->end.size);
    }
    iterator->spec.start.data = iterator->bytes;
    iterator->spec.end.data = iterator->bytes + spec->start.size;
    *ret_iterator = iterator;
    return 0;
}

void kv_range_close(struct kv_range_iterator *iterator)
{
    if (!iterator) {
        return;
    }
    kv_reply_free(iterator->page);
    free(iterator->bytes);
    free(iterator->cursor);
    free(iterator);
}

int64_t kv_range_revision(const struct kv_range_iterator *iterator)
{
    return iterator->revision;
}

static int64_t or_from(int64_t revision, int64_t fallback)
{
    return revision ? revision : fallback;
}

static void fill_range(const struct kv_range_iterator *iterator, Kv__Range *command)
{
    const struct kv_range_options *options = &iterator->options;
    uint64_t page = options->page_keys ? options->page_keys : PAGE_KEYS_DEFAULT;
    uint64_t left = options->limit - iterator->returned;

    command->limit = options->limit && left < page ? left : page;
    command->descending = options->descending;
    command->keys_only = options->keys_only;
    command->at_revision = or_from(iterator->revision, options->at_revision);
    command->min_mod_revision = options->min_mod_revision;
    command->max_mod_revision = options->max_mod_revision;
    command->min_create_revision = options->min_create_revision;
    command->max_create_revision = options->max_create_revision;
    command->cursor.data = iterator->cursor;
    command->cursor.len = iterator->cursor_size;
}

/* Remembers where the next page begins. */
static int keep_cursor(struct kv_range_iterator *iterator,
                       const Kv__RangeResult *result,
                       struct kv_error *ret_error)
{
    uint8_t *cursor;

    iterator->ended = !result->more;
    if (iterator->ended) {
        return 0;
    }
    if (result->cursor.len == 0) {
        return kv_missing_result(ret_error);
    }
    cursor = realloc(iterator->cursor, result->cursor.len);
    if (!cursor) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    memcpy(cursor, result->cursor.data, result->cursor.len);
    iterator->cursor = cursor;
    iterator->cursor_size = result->cursor.len;
    return 0;
}

static int fetch_page(struct kv_range_iterator *iterator, struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Range command = KV__RANGE__INIT;
    Kv__KeyRange range;
    Kv__Reply *reply;
    int status;

    status = kv_range_to_proto(&iterator->spec, &range, ret_error);
    if (status < 0) {
        return status;
    }
    command.range = &range;
    fill_range(iterator, &command);
    request.command_case = KV__REQUEST__COMMAND_RANGE;
    request.range = &command;
    status = kv_call(iterator->client, &request, &iterator->options.call, &reply, ret_error);
    if (status == 0 && reply->result_case != KV__REPLY__RESULT_RANGE) {
        status = kv_missing_result(ret_error);
    }
    if (status == 0) {
        status = keep_cursor(iterator, reply->range, ret_error);
    }
    if (status < 0) {
        kv_reply_free(reply);
        return status;
    }
    iterator->revision = reply->range->revision;
    iterator->page = reply;
    iterator->next = 0;
    return 0;
}

int kv_range_next(struct kv_range_iterator *iterator,
                  struct kv_pair *ret_pair,
                  struct kv_error *ret_error)
{
    for (;;) {
        int status;

        if (iterator->page && iterator->next < iterator->page->range->n_kvs) {
            *ret_pair =
                kv_pair_of_proto(iterator->page->range->kvs[iterator->next++], iterator->revision);
            iterator->returned++;
            return 1;
        }
        kv_reply_free(iterator->page);
        iterator->page = NULL;
        if (iterator->ended ||
            (iterator->options.limit && iterator->returned >= iterator->options.limit)) {
            return 0;
        }
        status = fetch_page(iterator, ret_error);
        if (status < 0) {
            return status;
        }
    }
}

/* ---------------------------------------------------------------- deletion */

/* All at once. */
static int delete_whole(struct kv_client *client,
                        Kv__KeyRange *range,
                        const struct kv_call_options *options,
                        uint64_t *ret_deleted,
                        struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Delete command = KV__DELETE__INIT;
    Kv__Reply *reply;
    int status;

    command.n_ranges = 1;
    command.ranges = &range;
    request.command_case = KV__REQUEST__COMMAND_DELETE;
    request.delete_ = &command;
    status = kv_call(client, &request, options, &reply, ret_error);
    if (status == 0 && reply->result_case != KV__REPLY__RESULT_DELETE) {
        status = kv_missing_result(ret_error);
    }
    if (status == 0) {
        *ret_deleted = reply->delete_->deleted;
    }
    kv_reply_free(reply);
    return status;
}

/* Names the keys of one piece, then deletes those. 1: more may follow. */
static int delete_piece(struct kv_range_iterator *iterator,
                        const struct kv_call_options *options,
                        uint64_t *deleted,
                        struct kv_error *ret_error)
{
    struct kv_bytes keys[DELETE_PIECE_KEYS];
    struct kv_pair pair;
    uint64_t count = 0;
    size_t n_keys = 0;
    int status = 1;

    /* The pairs of one page stay until its end is asked for. */
    while (n_keys < DELETE_PIECE_KEYS && status == 1) {
        if (n_keys > 0 && iterator->next == iterator->page->range->n_kvs) {
            break;
        }
        status = kv_range_next(iterator, &pair, ret_error);
        if (status == 1) {
            keys[n_keys++] = pair.key;
        }
    }
    if (status < 0 || n_keys == 0) {
        return status;
    }
    status = kv_delete(iterator->client, keys, n_keys, options, &count, ret_error);
    if (status < 0) {
        return status;
    }
    *deleted += count;
    return 1;
}

int kv_delete_range(struct kv_client *client,
                    const struct kv_range_spec *spec,
                    bool atomic,
                    const struct kv_call_options *options,
                    uint64_t *ret_deleted,
                    struct kv_error *ret_error)
{
    struct kv_range_options range_options = {.keys_only = true, .page_keys = DELETE_PIECE_KEYS};
    struct kv_range_iterator *iterator;
    struct kv_error error = {0};
    uint64_t deleted = 0;
    Kv__KeyRange range;
    int status;

    status = kv_range_to_proto(spec, &range, ret_error);
    if (status < 0) {
        return status;
    }
    /* Most ranges fit one piece anyway. */
    status = delete_whole(client, &range, options, &deleted, &error);
    if (status != KV_TOO_LARGE || atomic) {
        goto out;
    }
    if (options) {
        range_options.call = *options;
    }
    status = kv_range(client, spec, &range_options, &iterator, &error);
    if (status < 0) {
        goto out;
    }
    do {
        status = delete_piece(iterator, options, &deleted, &error);
    } while (status == 1);
    kv_range_close(iterator);
out:
    if (ret_deleted && (status == 0 || deleted > 0)) {
        *ret_deleted = deleted;
    }
    if (status < 0 && ret_error) {
        *ret_error = error;
    }
    return status;
}
