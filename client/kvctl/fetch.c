/* Typed keys out of a cluster, all of one revision: the range, then the content of collections. */
#include "client/kvctl/fetch.h"

#include <inttypes.h>
#include <kv/txn.h>
#include <string.h>

enum {
    LIST_PAGE = 4096, /* elements asked for at a time; fewer when they do not fit a reply */
    KEYS_PAGE = 256,  /* keys, likewise */
};

/* One reading. */
struct fetch {
    const struct kvctl_source *source;
    struct kvctl_document *document;
    int64_t revision;        /* that is read */
    int64_t cluster_time_ms; /* 0: not asked for yet */
    size_t limiters;
    struct kv_error *error;
};

static int no_memory(struct fetch *fetch)
{
    return kv_error_set(
        fetch->error, KV_NO_MEMORY, "out of memory: read less at a time, by longer prefixes");
}

static int copy(struct fetch *fetch, const void *data, size_t size, struct kv_bytes *ret_bytes)
{
    void *memory = kv_arena_copy(fetch->document->arena, size ? data : "", size);

    if (!memory) {
        return no_memory(fetch);
    }
    *ret_bytes = kv_bytes_of(memory, size);
    return 0;
}

/* One request with its reply, which has the result that belongs to it. */
static int call(struct fetch *fetch, const Kv__Request *request, Kv__Reply **ret_reply)
{
    Kv__Reply *reply;
    int status =
        kv_call(fetch->source->client, request, &fetch->source->options, &reply, fetch->error);

    if (status == 0 && (int)reply->result_case != (int)request->command_case) {
        status = kv_error_set(fetch->error, KV_INTERNAL, "the server's reply has no result");
    }
    if (status < 0) {
        kv_reply_free(reply);
        return status;
    }
    *ret_reply = reply;
    return 0;
}

/* ---------------------------------------------------------------- collections */

static int add_element(struct fetch *fetch,
                       struct kvctl_entry *entry,
                       ProtobufCBinaryData name,
                       ProtobufCBinaryData value,
                       double score)
{
    struct kvctl_element *element = kvctl_entry_add(fetch->document, entry);
    int status;

    if (!element) {
        return no_memory(fetch);
    }
    element->score = score;
    status = copy(fetch, name.data, name.len, &element->name);
    return status < 0 ? status : copy(fetch, value.data, value.len, &element->value);
}

static ProtobufCBinaryData key_of(const struct kvctl_entry *entry)
{
    return (ProtobufCBinaryData){entry->key.size, (uint8_t *)entry->key.data};
}

/* Keeps the cursor for the next request. */
static int go_on(struct fetch *fetch, const ProtobufCBinaryData *from, ProtobufCBinaryData *cursor)
{
    struct kv_bytes bytes;
    int status = copy(fetch, from->data, from->len, &bytes);

    if (status == 0) {
        *cursor = (ProtobufCBinaryData){bytes.size, (uint8_t *)bytes.data};
    }
    return status;
}

static int fetch_hash(struct fetch *fetch, struct kvctl_entry *entry)
{
    Kv__HashScan scan = KV__HASH_SCAN__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    bool more = true;
    int status = 0;

    scan.key = key_of(entry);
    scan.at_revision = fetch->revision;
    request.command_case = KV__REQUEST__COMMAND_HASH_SCAN;
    request.hash_scan = &scan;
    while (status == 0 && more) {
        const Kv__HashFieldsResult *result;
        Kv__Reply *reply;

        status = call(fetch, &request, &reply);
        if (status < 0) {
            break;
        }
        result = reply->hash_scan;
        for (size_t i = 0; i < result->n_fields && status == 0; i++) {
            status =
                add_element(fetch, entry, result->fields[i]->name, result->fields[i]->value, 0);
            if (status == 0) {
                entry->elements[entry->n_elements - 1].ttl_ms = (int64_t)result->fields[i]->ttl_ms;
            }
        }
        more = result->more;
        if (status == 0) {
            status = go_on(fetch, &result->cursor, &scan.cursor);
        }
        kv_reply_free(reply);
    }
    return status;
}

static int fetch_set(struct fetch *fetch, struct kvctl_entry *entry)
{
    const ProtobufCBinaryData none = {0, NULL};
    Kv__SetMembers members = KV__SET_MEMBERS__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    bool more = true;
    int status = 0;

    members.key = key_of(entry);
    members.at_revision = fetch->revision;
    request.command_case = KV__REQUEST__COMMAND_SET_MEMBERS;
    request.set_members = &members;
    while (status == 0 && more) {
        const Kv__ElementsResult *result;
        Kv__Reply *reply;

        status = call(fetch, &request, &reply);
        if (status < 0) {
            break;
        }
        result = reply->set_members;
        for (size_t i = 0; i < result->n_elements && status == 0; i++) {
            status = add_element(fetch, entry, result->elements[i], none, 0);
        }
        more = result->more;
        if (status == 0) {
            status = go_on(fetch, &result->cursor, &members.cursor);
        }
        kv_reply_free(reply);
    }
    return status;
}

static int fetch_zset(struct fetch *fetch, struct kvctl_entry *entry)
{
    const ProtobufCBinaryData none = {0, NULL};
    Kv__ZSetSpan__Ranks ranks = KV__ZSET_SPAN__RANKS__INIT;
    Kv__ZSetSpan span = KV__ZSET_SPAN__INIT;
    Kv__ZSetRange range = KV__ZSET_RANGE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    bool more = true;
    int status = 0;

    ranks.last = -1;
    span.span_case = KV__ZSET_SPAN__SPAN_RANKS;
    span.ranks = &ranks;
    range.key = key_of(entry);
    range.span = &span;
    range.at_revision = fetch->revision;
    request.command_case = KV__REQUEST__COMMAND_ZSET_RANGE;
    request.zset_range = &range;
    while (status == 0 && more) {
        const Kv__ZSetMembersResult *result;
        Kv__Reply *reply;

        status = call(fetch, &request, &reply);
        if (status < 0) {
            break;
        }
        result = reply->zset_range;
        for (size_t i = 0; i < result->n_members && status == 0; i++) {
            status = add_element(
                fetch, entry, result->members[i]->member, none, result->members[i]->score);
        }
        range.offset += result->n_members;
        more = result->more && result->n_members > 0;
        kv_reply_free(reply);
    }
    return status;
}

static int fetch_list(struct fetch *fetch, struct kvctl_entry *entry, uint64_t length)
{
    const ProtobufCBinaryData none = {0, NULL};
    Kv__ListRange range = KV__LIST_RANGE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    uint64_t page = LIST_PAGE;
    int status = 0;

    range.key = key_of(entry);
    range.at_revision = fetch->revision;
    request.command_case = KV__REQUEST__COMMAND_LIST_RANGE;
    request.list_range = &range;
    while (status == 0 && (uint64_t)range.first < length) {
        const Kv__ElementsResult *result;
        Kv__Reply *reply;

        range.last = range.first + (int64_t)page - 1;
        status = call(fetch, &request, &reply);
        if (status == KV_TOO_LARGE && page > 1) {
            page /= 2;
            status = 0;
            continue;
        }
        if (status < 0) {
            break;
        }
        result = reply->list_range;
        for (size_t i = 0; i < result->n_elements && status == 0; i++) {
            status = add_element(fetch, entry, result->elements[i], none, 0);
        }
        range.first += (int64_t)page;
        kv_reply_free(reply);
    }
    return status;
}

/* ---------------------------------------------------------------- entries */

/* What of the key's time remains, and never 0: that would be for ever. */
static int set_ttl(struct fetch *fetch, struct kvctl_entry *entry, int64_t expires_at_ms)
{
    struct kv_node_info info;

    if (fetch->cluster_time_ms == 0) {
        int status = kv_status(fetch->source->client, &fetch->source->options, &info, fetch->error);

        if (status < 0) {
            return status;
        }
        fetch->cluster_time_ms = info.cluster_time_ms;
        kv_node_info_free(&info);
    }
    entry->ttl_ms =
        expires_at_ms > fetch->cluster_time_ms ? expires_at_ms - fetch->cluster_time_ms : 1;
    return 0;
}

/* The key without the content of a collection. */
static int add_entry(struct fetch *fetch, const struct kv_pair *pair)
{
    struct kvctl_entry *entry = kvctl_document_add(fetch->document);
    int status;

    if (!entry) {
        return no_memory(fetch);
    }
    entry->type = pair->type;
    entry->counter = pair->counter;
    entry->mod_revision = pair->mod_revision;
    entry->lease_id = pair->lease_id;
    entry->line = pair->elements; /* until the content is read */
    status = copy(fetch, pair->key.data, pair->key.size, &entry->key);
    if (status == 0) {
        status = copy(fetch, pair->value.data, pair->value.size, &entry->value);
    }
    if (status == 0 && pair->expires_at_ms != 0) {
        status = set_ttl(fetch, entry, pair->expires_at_ms);
    }
    return status;
}

static int fetch_content(struct fetch *fetch, struct kvctl_entry *entry)
{
    size_t length = entry->line;

    entry->line = 0;
    if (fetch->source->no_content) {
        return 0;
    }
    switch (entry->type) {
    case KV_TYPE_HASH:
        return fetch_hash(fetch, entry);
    case KV_TYPE_LIST:
        return fetch_list(fetch, entry, length);
    case KV_TYPE_SET:
        return fetch_set(fetch, entry);
    case KV_TYPE_ZSET:
        return fetch_zset(fetch, entry);
    default:
        return 0;
    }
}

static int fetch_contents(struct fetch *fetch, size_t from)
{
    int status = 0;

    for (size_t i = from; i < fetch->document->n_entries && status == 0; i++) {
        status = fetch_content(fetch, &fetch->document->entries[i]);
    }
    fetch->document->revision = fetch->revision;
    return status;
}

/* ---------------------------------------------------------------- what is called */

int kvctl_fetch_revision(const struct kvctl_source *source,
                         int64_t *ret_revision,
                         struct kv_error *ret_error)
{
    struct fetch fetch = {.source = source, .error = ret_error};
    ProtobufCBinaryData any = {1, (uint8_t *)"x"};
    Kv__Exists exists = KV__EXISTS__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;
    int status;

    exists.n_keys = 1;
    exists.keys = &any;
    request.command_case = KV__REQUEST__COMMAND_EXISTS;
    request.exists = &exists;
    status = call(&fetch, &request, &reply);
    if (status == 0) {
        *ret_revision = reply->revision;
        kv_reply_free(reply);
    }
    return status;
}

int kvctl_fetch_range(const struct kvctl_source *source,
                      const struct kv_range_spec *range,
                      int64_t at_revision,
                      struct kvctl_document *document,
                      size_t *ret_limiters,
                      struct kv_error *ret_error)
{
    struct fetch fetch = {.source = source, .document = document, .error = ret_error};
    struct kv_range_options options = {.at_revision = at_revision, .call = source->options};
    size_t first = document->n_entries;
    struct kv_range_iterator *iterator;
    struct kv_pair pair;
    int status = kv_range(source->client, range, &options, &iterator, ret_error);

    if (status < 0) {
        return status;
    }
    while ((status = kv_range_next(iterator, &pair, ret_error)) == 1) {
        if (pair.type == KV_TYPE_LIMITER) {
            fetch.limiters++;
            continue;
        }
        status = add_entry(&fetch, &pair);
        if (status < 0) {
            break;
        }
    }
    fetch.revision = at_revision ? at_revision : kv_range_revision(iterator);
    kv_range_close(iterator);
    if (status == 0) {
        status = fetch_contents(&fetch, first);
    }
    if (ret_limiters) {
        *ret_limiters = fetch.limiters;
    }
    return status;
}

/* A page of keys by one transaction of reads. */
static int fetch_page(struct fetch *fetch, const struct kvctl_entry *wanted, size_t n)
{
    struct kv_txn_result result;
    struct kv_txn *txn;
    int status = kv_txn_begin(fetch->source->client, &txn, fetch->error);

    if (status < 0) {
        return status;
    }
    for (size_t i = 0; i < n; i++) {
        Kv__KeyRange range = KV__KEY_RANGE__INIT;
        Kv__Range read = KV__RANGE__INIT;
        Kv__Request request = KV__REQUEST__INIT;

        range.start = key_of(&wanted[i]);
        read.range = &range;
        read.at_revision = fetch->revision;
        request.command_case = KV__REQUEST__COMMAND_RANGE;
        request.range = &read;
        kv_txn_add(txn, &request);
    }
    status = kv_txn_commit(txn, &fetch->source->options, &result, fetch->error);
    if (status < 0) {
        return status;
    }
    for (size_t i = 0; i < result.n_replies && status == 0; i++) {
        const Kv__Reply *reply = result.replies[i];

        if (reply->result_case == KV__REPLY__RESULT_RANGE && reply->range->n_kvs > 0) {
            struct kv_pair pair = kvctl_pair(reply->range->kvs[0]);

            status = add_entry(fetch, &pair);
        }
    }
    kv_txn_result_free(&result);
    return status;
}

int kvctl_fetch_keys(const struct kvctl_source *source,
                     const struct kvctl_document *wanted,
                     int64_t at_revision,
                     struct kvctl_document *document,
                     struct kv_error *ret_error)
{
    struct fetch fetch = {
        .source = source, .document = document, .revision = at_revision, .error = ret_error};
    size_t first = document->n_entries;
    size_t page = KEYS_PAGE;
    size_t done = 0;
    int status = 0;

    if (at_revision == 0) {
        status = kvctl_fetch_revision(source, &fetch.revision, ret_error);
    }
    while (status == 0 && done < wanted->n_entries) {
        size_t n = wanted->n_entries - done < page ? wanted->n_entries - done : page;

        status = fetch_page(&fetch, &wanted->entries[done], n);
        if (status == KV_TOO_LARGE && n > 1) {
            page = n / 2;
            status = 0;
            continue;
        }
        done += n;
    }
    return status < 0 ? status : fetch_contents(&fetch, first);
}
