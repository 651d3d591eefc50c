#include "client/kvbench/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Replies come in the order of the requests. */
struct state {
    unsigned *slots; /* ring of depth */
    unsigned first;
    unsigned n;
};

static int redis_open(struct bench_conn *conn)
{
    struct state *state = calloc(1, sizeof *state);

    if (state) {
        state->slots = calloc(conn->depth, sizeof *state->slots);
    }
    conn->state = state;
    conn->ready = true;
    return state && state->slots ? 0 : KV_NO_MEMORY;
}

static void redis_close(struct bench_conn *conn)
{
    struct state *state = conn->state;

    if (state) {
        free(state->slots);
        free(state);
    }
}

static int append_bulk(struct kv_buf *out, struct kv_slice bytes)
{
    char head[32];
    int n = snprintf(head, sizeof head, "$%zu\r\n", bytes.size);
    int status = kv_buf_append(out, head, (size_t)n);

    status = status ? status : kv_buf_append(out, bytes.data, bytes.size);
    return status ? status : kv_buf_append(out, "\r\n", 2);
}

static int redis_encode(struct bench_conn *conn,
                        unsigned slot,
                        enum operation operation,
                        struct kv_slice key,
                        struct kv_slice value)
{
    struct state *state = conn->state;
    const char *head = operation == OPERATION_PUT ? "*3\r\n$3\r\nSET\r\n" : "*2\r\n$3\r\nGET\r\n";
    int status = kv_buf_append(&conn->out, head, strlen(head));

    state->slots[(state->first + state->n++) % conn->depth] = slot;
    status = status ? status : append_bulk(&conn->out, key);
    return status || operation == OPERATION_GET ? status : append_bulk(&conn->out, value);
}

/* Size of the reply at p, 0: not whole yet. */
static size_t reply_size(const uint8_t *p, size_t size)
{
    const uint8_t *end = memchr(p, '\n', size);
    size_t line;
    long length;

    if (!end) {
        return 0;
    }
    line = (size_t)(end - p) + 1;
    if (p[0] != '$') {
        return line;
    }
    length = strtol((const char *)p + 1, NULL, 10);
    if (length < 0) {
        return line;
    }
    return size >= line + (size_t)length + 2 ? line + (size_t)length + 2 : 0;
}

static int redis_parse(struct bench_conn *conn, completed_fn completed)
{
    struct state *state = conn->state;
    size_t offset = 0;

    while (offset < conn->in.size) {
        const uint8_t *p = conn->in.data + offset;
        size_t size = reply_size(p, conn->in.size - offset);
        unsigned slot;

        if (size == 0) {
            break;
        }
        if (state->n == 0) {
            snprintf(conn->error, sizeof conn->error, "reply without a request");
            return KV_INVALID;
        }
        slot = state->slots[state->first];
        state->first = (state->first + 1) % conn->depth;
        state->n--;
        completed(conn, slot, p[0] != '-', p[0] == '-' ? "error reply" : "");
        offset += size;
    }
    kv_buf_consume(&conn->in, offset);
    return 0;
}

const struct target target_redis = {"redis", redis_open, redis_close, redis_encode, redis_parse};
