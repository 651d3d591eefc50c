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

static const char *const names[] = {
    [OPERATION_PUT] = "SET",
    [OPERATION_GET] = "GET",
    [OPERATION_COUNTER_ADD] = "INCRBY",
    [OPERATION_HASH_SET] = "HSET",
    [OPERATION_ZSET_ADD] = "ZADD",
    [OPERATION_ZSET_RANK] = "ZREVRANK",
    [OPERATION_LIST_PUSH] = "RPUSH",
    [OPERATION_LIST_POP] = "LPOP",
};
/* Those whose last word is the value. */
static const unsigned values =
    1u << OPERATION_PUT | 1u << OPERATION_HASH_SET | 1u << OPERATION_LIST_PUSH;

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

static int append_command(struct kv_buf *out, const struct kv_slice *words, size_t n_words)
{
    char head[32];
    int status = kv_buf_append(out, head, (size_t)snprintf(head, sizeof head, "*%zu\r\n", n_words));

    for (size_t i = 0; i < n_words && status == 0; i++) {
        status = append_bulk(out, words[i]);
    }
    return status;
}

static struct kv_slice word(const char *text)
{
    return kv_slice_of(text, strlen(text));
}

static int redis_encode(struct bench_conn *conn, unsigned slot, const struct bench_request *request)
{
    struct state *state = conn->state;
    struct kv_slice words[4];
    size_t n_words = 0;
    char score[32];

    words[n_words++] = word(names[request->operation]);
    words[n_words++] = request->key;
    if (request->operation == OPERATION_ZSET_ADD) {
        snprintf(score, sizeof score, "%.17g", request->score);
        words[n_words++] = word(score);
    } else if (request->operation == OPERATION_COUNTER_ADD) {
        words[n_words++] = word("1");
    }
    if (request->element.size > 0) {
        words[n_words++] = request->element;
    }
    if (values & 1u << request->operation) {
        words[n_words++] = request->value;
    }
    state->slots[(state->first + state->n++) % conn->depth] = slot;
    return append_command(&conn->out, words, n_words);
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

/* A limiter would be a script of one's own. */
const struct target target_redis = {
    .name = "redis",
    .operations = ((1u << (OPERATION_LIST_POP + 1)) - 1) & ~(1u << OPERATION_LIMITER),
    .open = redis_open,
    .close = redis_close,
    .encode = redis_encode,
    .parse = redis_parse,
};
