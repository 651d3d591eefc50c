/* Requests to the nodes of a cluster, and their answers. */
#include "tests/support/cluster_internal.h"

#include "common/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- node callbacks */

static void on_reply(void *arg, struct kv_op *op, const Kv__Reply *reply)
{
    struct cluster_request *request = (struct cluster_request *)op;
    struct sim_node *node = arg;
    size_t size = kv__reply__get_packed_size(reply);
    uint8_t *packed = malloc(size + 1);

    KV_ASSERT(packed && !request->done);
    kv__reply__pack(reply, packed);
    request->reply = kv__reply__unpack(NULL, size, packed);
    request->done = true;
    request->done_ms = cluster_now_ms(node->cluster);
    free(packed);
}

static void on_reply_packed(void *arg, struct kv_op *op, struct kv_slice reply)
{
    struct cluster_request *request = (struct cluster_request *)op;
    struct sim_node *node = arg;

    KV_ASSERT(!request->done);
    request->reply = kv__reply__unpack(NULL, reply.size, reply.data);
    KV_ASSERT(request->reply);
    request->done = true;
    request->done_ms = cluster_now_ms(node->cluster);
}

static size_t on_stream_item(void *arg, struct kv_op *op, const Kv__StreamItem *item)
{
    struct cluster_request *request = (struct cluster_request *)op;
    struct sim_node *node = arg;
    size_t size = kv__stream_item__get_packed_size(item);
    uint8_t *packed = malloc(size + 1);

    KV_ASSERT(packed && !request->done && request->n_items < CLUSTER_ITEMS_MAX);
    kv__stream_item__pack(item, packed);
    request->items[request->n_items++] = kv__stream_item__unpack(NULL, size, packed);
    request->done = item->end;
    request->done_ms = cluster_now_ms(node->cluster);
    free(packed);
    return size;
}

/* As it is on the wire, with the id in front. */
static size_t on_stream_shared(void *arg, struct kv_op *op, struct kv_shared *shared)
{
    struct cluster_request *request = (struct cluster_request *)op;
    Kv__StreamItem *item = kv__stream_item__unpack(NULL, shared->size, shared->data);

    (void)arg;
    KV_ASSERT(item && !request->done && request->n_items < CLUSTER_ITEMS_MAX);
    KV_ASSERT(!item->end && item->id == 0);
    item->id = op->request->id;
    request->items[request->n_items++] = item;
    return shared->size;
}

static bool stream_has_room(void *arg, struct kv_op *op)
{
    (void)arg;
    return !((struct cluster_request *)op)->is_full;
}

static void on_fatal(void *arg, int exit_code, const struct kv_error *error)
{
    struct sim_node *node = arg;

    node->died = true;
    if (!node->cluster->options.nodes_may_die) {
        fprintf(stderr, "node %u ends with code %d: %s\n", node->id, exit_code, error->message);
        KV_ASSERT(!"a node died");
    }
}

static void on_stopped(void *arg)
{
    ((struct sim_node *)arg)->stopped = true;
}

static void on_changed(void *arg)
{
    (void)arg;
}

const struct kv_node_ops cluster_node_ops = {.reply = on_reply,
                                             .reply_packed = on_reply_packed,
                                             .stream_item = on_stream_item,
                                             .stream_shared = on_stream_shared,
                                             .stream_has_room = stream_has_room,
                                             .fatal = on_fatal,
                                             .stopped = on_stopped,
                                             .changed = on_changed};

/* ---------------------------------------------------------------- requests */

/* As the server does: of a subscription it has nothing else once it is submitted. */
static void keep_little(struct cluster_request *request)
{
    Kv__Request *kept = malloc(sizeof *kept);

    KV_ASSERT(kept);
    kv__request__init(kept);
    kept->id = request->request->id;
    kept->command_case = request->request->command_case;
    kv__request__free_unpacked(request->request, NULL);
    free(request->bytes);
    request->bytes = NULL;
    request->request = kept;
    request->op.request = kept;
}

struct cluster_request *
cluster_submit(struct cluster *cluster, unsigned id, const Kv__Request *message)
{
    const size_t size = kv__request__get_packed_size(message);
    uint8_t *bytes = malloc(size + 1);
    struct cluster_request *request;

    KV_ASSERT(bytes);
    kv__request__pack(message, bytes);
    request = cluster_submit_bytes(cluster, id, kv_slice_of(bytes, size));
    free(bytes);
    return request;
}

struct cluster_request *
cluster_submit_bytes(struct cluster *cluster, unsigned id, struct kv_slice bytes)
{
    struct sim_node *node = &cluster->nodes[id];
    struct cluster_request *request;
    uint64_t deadline_ms;

    if (!node->up) {
        return NULL;
    }
    request = calloc(1, sizeof *request);
    KV_ASSERT(request);
    request->cluster = cluster;
    request->next = node->requests;
    node->requests = request;
    request->bytes = malloc(bytes.size + 1);
    KV_ASSERT(request->bytes);
    memcpy(request->bytes, bytes.data, bytes.size);
    request->request = kv__request__unpack(NULL, bytes.size, request->bytes);
    KV_ASSERT(request->request);
    deadline_ms =
        request->request->deadline_ms ? request->request->deadline_ms : KV_DEADLINE_DEFAULT_MS;
    request->op.request = request->request;
    request->op.bytes = kv_slice_of(request->bytes, bytes.size);
    request->op.cls = kv_command_classify(request->request);
    request->op.listener = &request->listener;
    request->op.deadline_ns = cluster->now_ns + deadline_ms * 1000000;
    if (request->op.cls == KV_COMMAND_SUBSCRIBE && request->request->deadline_ms == 0) {
        request->op.deadline_ns = UINT64_MAX;
    }
    request->sent_ms = cluster_now_ms(cluster);
    request->node = id;
    kv_node_submit(node->node, &request->op);
    if (request->op.cls == KV_COMMAND_SUBSCRIBE && !request->done) {
        keep_little(request);
    }
    kv_node_turn(node->node);
    return request;
}

struct cluster_request *
cluster_put(struct cluster *cluster, unsigned id, const char *key, const char *value)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;

    put.key = (ProtobufCBinaryData){strlen(key), (uint8_t *)(uintptr_t)key};
    put.value = (ProtobufCBinaryData){strlen(value), (uint8_t *)(uintptr_t)value};
    request.id = 1;
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    return cluster_submit(cluster, id, &request);
}

struct cluster_request *cluster_get(struct cluster *cluster, unsigned id, const char *key)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Get get = KV__GET__INIT;

    get.key = (ProtobufCBinaryData){strlen(key), (uint8_t *)(uintptr_t)key};
    request.id = 2;
    request.command_case = KV__REQUEST__COMMAND_GET;
    request.get = &get;
    return cluster_submit(cluster, id, &request);
}

void cluster_make_room(struct cluster_request *request)
{
    request->is_full = false;
    if (!request->done && request->node != 0) {
        kv_node_stream_room(cluster_node(request->cluster, request->node), &request->listener);
    }
}

void cluster_request_free(struct cluster_request *request)
{
    if (!request) {
        return;
    }
    KV_ASSERT(request->done || request->node == 0);
    if (request->node != 0) {
        struct cluster_request **link = &request->cluster->nodes[request->node].requests;

        while (*link != request) {
            link = &(*link)->next;
        }
        *link = request->next;
    }
    for (size_t i = 0; i < request->n_items; i++) {
        kv__stream_item__free_unpacked(request->items[i], NULL);
    }
    if (request->reply) {
        kv__reply__free_unpacked(request->reply, NULL);
    }
    kv__request__free_unpacked(request->request, NULL);
    free(request->bytes);
    free(request);
}

static bool is_done(struct cluster *cluster, void *arg)
{
    const struct cluster_request *request = arg;

    (void)cluster;
    return request->done || request->node == 0;
}

int cluster_await(struct cluster *cluster, struct cluster_request *request, uint64_t max_ms)
{
    (void)cluster_run_until(cluster, is_done, request, max_ms);
    if (!request->done) {
        return -1;
    }
    return request->n_items ? (int)request->items[request->n_items - 1]->code
                            : (int)request->reply->code;
}
