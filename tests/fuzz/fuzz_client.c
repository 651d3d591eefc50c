/* What a client may send, from the first byte of its connection to the state machine: frames,
 * hello, requests, cancels, credits. Whatever they hold, a connection ends with a reason or goes
 * on; what the decoder lets pass the machine executes without harm. */
#include "server/net/decode.h"
#include "tests/fuzz/requests.h"

/* Bodies up to here are framed again, too: the rest would only cost time. */
enum { REFRAME_BYTES_MAX = 16 * 1024, PIECE_BYTES = 256 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
    struct kv_machine *machine;
    struct kv_arena arena;
    uint64_t index;
    bool hello_done;
    bool lz4;
};

/* ---------------------------------------------------------------- ranges */

/* The pieces of one range. */
struct pieces {
    const Kv__Range *range;
    int64_t revision;
    uint64_t n;
    size_t last_size;
    uint8_t last[KV_KEY_BYTES_MAX]; /* key */
};

static void check_inside(const Kv__Range *range, struct kv_slice key)
{
    struct kv_slice start = {range->range->start.data, range->range->start.len};
    struct kv_slice end = {range->range->end.data, range->range->end.len};

    switch (range->range->special) {
    case KV__KEY_RANGE__SPECIAL__PREFIX:
        KV_ASSERT(key.size >= start.size &&
                  kv_slice_equal(kv_slice_of(key.data, start.size), start));
        return;
    case KV__KEY_RANGE__SPECIAL__NONE:
        KV_ASSERT(end.size > 0 ? kv_slice_compare(key, end) < 0 : kv_slice_equal(key, start));
        break;
    default:
        break;
    }
    KV_ASSERT(kv_slice_compare(key, start) >= 0);
}

static void check_piece(struct pieces *pieces, const Kv__RangeResult *result)
{
    const Kv__Range *range = pieces->range;

    KV_ASSERT(range->count_only ? result->n_kvs == 0 : result->count == result->n_kvs);
    KV_ASSERT(!result->more || result->cursor.len > 0 || range->count_only);
    for (size_t i = 0; i < result->n_kvs; i++) {
        const Kv__KeyValue *kv = result->kvs[i];
        struct kv_slice key = {kv->key.data, kv->key.len};
        int order = kv_slice_compare(key, kv_slice_of(pieces->last, pieces->last_size));

        KV_ASSERT(key.size > 0 && key.size <= KV_KEY_BYTES_MAX);
        KV_ASSERT(pieces->n == 0 || (range->descending ? order < 0 : order > 0));
        KV_ASSERT(kv->create_revision <= kv->mod_revision && kv->mod_revision <= result->revision);
        check_inside(range, key);
        memcpy(pieces->last, key.data, key.size);
        pieces->last_size = key.size;
        pieces->n++;
    }
    KV_ASSERT(range->limit == 0 || pieces->n <= range->limit);
}

static void on_piece(void *arg, Kv__RangeResult *result, int64_t revision)
{
    struct pieces *pieces = arg;

    KV_ASSERT(revision == result->revision && (pieces->n == 0 || revision == pieces->revision));
    pieces->revision = revision;
    check_piece(pieces, result);
}

static void run_stream(struct fuzz *fuzz, const Kv__Request *request)
{
    struct kv_range_stream *stream = calloc(1, sizeof *stream);
    struct pieces *pieces = calloc(1, sizeof *pieces);
    struct kv_error error = {0};
    int status;

    KV_ASSERT(stream && pieces);
    pieces->range = request->range;
    do {
        status = kv_machine_range_piece(
            fuzz->machine, request->range, stream, PIECE_BYTES, on_piece, pieces, &error);
    } while (status == 1);
    KV_ASSERT(status == 0 || error.message[0] != '\0');
    free(pieces);
    free(stream);
}

/* ---------------------------------------------------------------- requests */

static void on_reply(void *arg, Kv__Reply *reply)
{
    const Kv__Request *request = arg;

    fuzz_check_reply(request, reply);
    if (reply->result_case == KV__REPLY__RESULT_RANGE) {
        struct pieces *pieces = calloc(1, sizeof *pieces);

        KV_ASSERT(pieces);
        pieces->range = request->range;
        check_piece(pieces, reply->range);
        free(pieces);
    }
}

static void run_request(struct fuzz *fuzz, const struct kv_decoded_request *decoded)
{
    int64_t revision = kv_machine_revision(fuzz->machine);
    void *arg = (void *)(uintptr_t)decoded->request;

    switch (decoded->cls) {
    case KV_COMMAND_WRITE:
        fuzz->index++;
        KV_ASSERT(kv_machine_begin(
                      fuzz->machine, fuzz->index, KV_MACHINE_VERSION, (int64_t)fuzz->index) == 0);
        kv_machine_execute(fuzz->machine, decoded->request, on_reply, arg);
        kv_machine_end(fuzz->machine);
        /* What time ends, the command, and what it serves to those that wait. */
        KV_ASSERT(kv_machine_revision(fuzz->machine) <= revision + 2 + KV_WAITERS_SERVED_MAX);
        return;
    case KV_COMMAND_READ:
        kv_machine_read(fuzz->machine, decoded->request, on_reply, arg);
        break;
    case KV_COMMAND_STREAM:
        run_stream(fuzz, decoded->request);
        break;
    case KV_COMMAND_NODE:
    case KV_COMMAND_SUBSCRIBE:
        break;
    case KV_COMMAND_NONE:
    case KV_COMMAND_UNSUPPORTED:
        abort(); /* those never pass */
    }
    KV_ASSERT(kv_machine_revision(fuzz->machine) == revision);
}

static int receive_request(struct fuzz *fuzz, struct kv_slice body, struct kv_error *error)
{
    struct kv_decoded_request decoded;
    int status = kv_decode_request(
        &fuzz->arena, body, kv_machine_settings_of(fuzz->machine), &decoded, error);

    if (status != 0) {
        return status;
    }
    KV_ASSERT(decoded.request && kv_slice_equal(decoded.bytes, body));
    fuzz_check_request_bytes(body);
    if (decoded.status == 0) {
        run_request(fuzz, &decoded);
    } else {
        KV_ASSERT(decoded.error.message[0] != '\0');
        KV_ASSERT(kv_status_retry(decoded.status) == KV_RETRY_NEVER);
        KV_ASSERT((decoded.status == KV_TOO_LARGE) == (decoded.limit[0] != '\0'));
    }
    return 0;
}

static int
receive_body(struct fuzz *fuzz, uint8_t kind, struct kv_slice body, struct kv_error *error)
{
    struct kv_decoded_hello hello;
    uint64_t id;
    uint64_t bytes;
    int status;

    switch (kind) {
    case KV_FRAME_HELLO:
        if (fuzz->hello_done) {
            return kv_error_set(error, KV_INVALID, "a second hello");
        }
        status = kv_decode_hello(body, &hello, error);
        KV_ASSERT(status != 0 || strlen(hello.client_name) <= KV_NAME_BYTES_MAX);
        fuzz->hello_done = status == 0;
        fuzz->lz4 = status == 0 && hello.lz4;
        return status;
    case KV_FRAME_REQUEST:
        return fuzz->hello_done ? receive_request(fuzz, body, error)
                                : kv_error_set(error, KV_INVALID, "no hello");
    case KV_FRAME_CANCEL:
        return kv_decode_cancel(body, &id, error);
    case KV_FRAME_CREDIT:
        return kv_decode_credit(body, &id, &bytes, error);
    default:
        return kv_error_set(error, KV_INVALID, "not a client's frame");
    }
}

/* ---------------------------------------------------------------- frames */

/* A whole frame is seen as such from its last byte on, and no byte earlier. */
static void check_cuts(struct kv_slice whole)
{
    struct kv_frame frame;
    struct kv_error error;

    for (size_t left = whole.size; left > 0; left /= 2) {
        KV_ASSERT(kv_frame_peek(
                      kv_slice_of(whole.data, left - 1), KV_REQUEST_BYTES_MAX, &frame, &error) ==
                  0);
    }
}

/* The body framed again: the same bytes without lz4, the same body with it. */
static void check_framed_again(struct kv_slice whole, const struct kv_frame *frame)
{
    struct kv_frame again;
    struct kv_error error;
    struct kv_slice body;
    struct kv_buf buf;
    uint8_t *raw;

    if (frame->body.size > REFRAME_BYTES_MAX) {
        return;
    }
    kv_buf_init(&buf, 2 * REFRAME_BYTES_MAX);
    KV_ASSERT(kv_frame_append_packed(&buf, frame->kind, frame->body, false) == 0);
    KV_ASSERT((frame->flags & KV_FRAME_FLAG_LZ4) ||
              kv_slice_equal(kv_slice_of(buf.data, buf.size), whole));
    kv_buf_clear(&buf);
    KV_ASSERT(kv_frame_append_packed(&buf, frame->kind, frame->body, true) == 0);
    KV_ASSERT(kv_frame_peek(kv_slice_of(buf.data, buf.size), SIZE_MAX, &again, &error) ==
              (int64_t)buf.size);
    KV_ASSERT(kv_decode_body(&again, true, &body, &raw, &error) == 0);
    KV_ASSERT(again.kind == frame->kind && kv_slice_equal(body, frame->body));
    free(raw);
    kv_buf_deinit(&buf);
}

/* The size of the frame at the front, 0 for half a one, or why the connection ends. */
static int64_t receive(struct fuzz *fuzz, struct kv_slice input)
{
    struct kv_error error = {0};
    struct kv_frame frame;
    struct kv_slice body;
    uint8_t *raw;
    int64_t taken = kv_frame_peek(input, KV_REQUEST_BYTES_MAX, &frame, &error);
    int status;

    if (taken == 0) {
        return 0;
    }
    if (taken > 0) {
        KV_ASSERT((size_t)taken <= input.size &&
                  frame.body.size + KV_FRAME_HEADER_BYTES == (size_t)taken);
        check_cuts(kv_slice_of(input.data, (size_t)taken));
        check_framed_again(kv_slice_of(input.data, (size_t)taken), &frame);
        status = kv_decode_body(&frame, fuzz->lz4, &body, &raw, &error);
        if (status == 0) {
            status = receive_body(fuzz, frame.kind, body, &error);
            free(raw);
        }
        kv_arena_reset(&fuzz->arena);
        taken = status < 0 ? status : taken;
    }
    /* Strangers and clients are told why. */
    KV_ASSERT(taken > 0 || error.message[0] != '\0');
    return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz fuzz = {0};
    size_t at = 0;
    int64_t taken = 1;

    KV_ASSERT(kv_machine_open(&fuzz.machine) == 0);
    kv_arena_init(&fuzz.arena, 2 * KV_DECODED_BYTES_MAX + KV_REQUEST_BYTES_MAX);
    while (taken > 0 && !fuzz_is_full(fuzz.machine)) {
        taken = receive(&fuzz, kv_slice_of(data + at, size - at));
        at += taken > 0 ? (size_t)taken : 0;
    }
    kv_machine_check_invariants(fuzz.machine);
    kv_arena_deinit(&fuzz.arena);
    kv_machine_close(fuzz.machine);
    return 0;
}
