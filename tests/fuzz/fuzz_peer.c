/* What another node may send, from its frames to the message that the core would get: whatever the
 * bytes say, the connection ends with a reason, the message is refused, or all of it is sane.
 *
 * The first byte chooses what the rest is: frames as they are, frames whose checksums are set right
 * (so that what lies behind them is reached), one message that we frame ourselves, or one that
 * repeats (so that it is large: fragments, lz4). */
#include "common/assert.h"
#include "common/crc32c.h"
#include "proto/frame.h"
#include "raft/configuration.h"
#include "raft/guards.h"
#include "raft/peer_codec.h"
#include "raft/snapshot_file.h"
#include "raft/transport_frame.h"
#include "raft/wal.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_FRAMES, INPUT_FRAMES_SET_RIGHT, INPUT_MESSAGE, INPUT_REPEATED, N_INPUTS };
enum {
    FROM_ID = 2,
    ARENA_BYTES = 4 * 1024 * 1024, /* as in raft/replica.c */
    HELLO_BYTES_MAX = 4096,        /* about as in raft/transport_conn.c */
    N_PIECES = 3,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---------------------------------------------------------------- messages */

static void free_entries(const struct raft_message *message)
{
    if (message->type == RAFT_APPEND_ENTRIES && message->append_entries.n_entries > 0) {
        raft_free(message->append_entries.entries[0].batch);
    }
}

/* The entries lie in one allocation, in order, and are the bulk. */
static void check_entries(const struct raft_append_entries *append, struct kv_slice bulk)
{
    size_t offset = 0;

    KV_ASSERT(append->n_entries <= KV_APPEND_ENTRIES_MAX);
    for (unsigned i = 0; i < append->n_entries; i++) {
        const struct raft_entry *entry = &append->entries[i];

        KV_ASSERT(entry->batch == append->entries[0].batch);
        KV_ASSERT((uint8_t *)entry->buf.base == (uint8_t *)entry->batch + offset);
        KV_ASSERT(entry->buf.len <= bulk.size - offset);
        KV_ASSERT(kv_slice_equal(kv_slice_of(entry->buf.base, entry->buf.len),
                                 kv_slice_of(bulk.data + offset, entry->buf.len)));
        offset += entry->buf.len;
    }
    KV_ASSERT(offset == bulk.size);
}

/* Of a change that guard 9 lets pass: encoded again, it is of the same members. */
static void check_configuration(struct kv_slice bytes)
{
    struct raft_configuration first;
    struct raft_configuration second;
    struct raft_buffer encoded;

    KV_ASSERT(kv_configuration_decode(bytes, &first) == 0);
    KV_ASSERT(raft_configuration_encode(&first, &encoded) == 0);
    KV_ASSERT(kv_configuration_decode(kv_slice_of(encoded.base, encoded.len), &second) == 0);
    KV_ASSERT(first.n == second.n);
    for (unsigned i = 0; i < first.n; i++) {
        KV_ASSERT(first.servers[i].id == second.servers[i].id &&
                  first.servers[i].role == second.servers[i].role &&
                  strcmp(first.servers[i].address, second.servers[i].address) == 0);
    }
    raft_free(encoded.base);
    raft_configuration_close(&first);
    raft_configuration_close(&second);
}

/* What guard 9 lets pass: terms that never run back, from the one before the entries on. */
static void check_append(const struct raft_append_entries *append)
{
    raft_term term = append->prev_log_term;
    unsigned done = 0;

    KV_ASSERT(append->term > 0 && (append->prev_log_index == 0) == (term == 0));
    for (unsigned i = 0; i < append->n_entries; i++) {
        KV_ASSERT(append->entries[i].term > 0 && append->entries[i].term >= term);
        KV_ASSERT(append->entries[i].type >= RAFT_COMMAND &&
                  append->entries[i].type <= RAFT_CHANGE);
        if (append->entries[i].type == RAFT_CHANGE) {
            check_configuration(
                kv_slice_of(append->entries[i].buf.base, append->entries[i].buf.len));
        }
        term = append->entries[i].term;
    }
    KV_ASSERT(term <= append->term);
    /* Guard 3: the pieces are all of it, a change always first. */
    while (done < append->n_entries) {
        unsigned n = kv_guard_3_piece(append->entries, append->n_entries, done);

        KV_ASSERT(n > 0 && n <= append->n_entries - done);
        for (unsigned i = done + 1; i < done + n; i++) {
            KV_ASSERT(append->entries[i].type != RAFT_CHANGE);
        }
        done += n;
    }
}

static void check_sane(const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_APPEND_ENTRIES:
        check_append(&message->append_entries);
        return;
    case RAFT_APPEND_ENTRIES_RESULT:
        KV_ASSERT(message->append_entries_result.term > 0);
        return;
    case RAFT_REQUEST_VOTE:
        KV_ASSERT(message->request_vote.term > 0);
        KV_ASSERT(message->request_vote.candidate_id == message->server_id);
        return;
    case RAFT_REQUEST_VOTE_RESULT:
        KV_ASSERT(message->request_vote_result.term > 0);
        return;
    case RAFT_TIMEOUT_NOW:
        KV_ASSERT(message->timeout_now.term > 0);
        return;
    default:
        abort();
    }
}

static void encode(struct kv_buf *buf, const struct raft_message *message)
{
    struct kv_wal_entry entries[KV_APPEND_ENTRIES_MAX];
    const struct raft_append_entries *append = &message->append_entries;

    if (message->type != RAFT_APPEND_ENTRIES) {
        KV_ASSERT(kv_peer_encode_raft(buf, message) == 0);
        return;
    }
    for (unsigned i = 0; i < append->n_entries; i++) {
        entries[i] = (struct kv_wal_entry){
            append->entries[i].term,
            (uint16_t)append->entries[i].type,
            kv_slice_of(append->entries[i].buf.base, append->entries[i].buf.len),
        };
    }
    KV_ASSERT(kv_peer_encode_append(buf, append, entries, append->n_entries) == 0);
    for (unsigned i = 0; i < append->n_entries; i++) {
        KV_ASSERT(kv_buf_append(buf, entries[i].data.data, entries[i].data.size) == 0);
    }
}

/* Does the core's form hold all that the message says? It has fewer bits for a few numbers. */
static bool is_kept(const Kv__PeerMessage *message)
{
    switch (message->body_case) {
    case KV__PEER_MESSAGE__BODY_REQUEST_VOTE:
        return message->request_vote->version <= UINT8_MAX;
    case KV__PEER_MESSAGE__BODY_REQUEST_VOTE_RESULT:
        return message->request_vote_result->version <= UINT8_MAX &&
               message->request_vote_result->features <= UINT16_MAX &&
               message->request_vote_result->capacity <= UINT16_MAX;
    case KV__PEER_MESSAGE__BODY_APPEND_ENTRIES:
        for (size_t i = 0; i < message->append_entries->n_entries; i++) {
            if (message->append_entries->entries[i]->type > UINT16_MAX) {
                return false;
            }
        }
        return message->append_entries->version <= UINT8_MAX;
    case KV__PEER_MESSAGE__BODY_APPEND_ENTRIES_RESULT:
        return message->append_entries_result->version <= UINT8_MAX &&
               message->append_entries_result->features <= UINT16_MAX &&
               message->append_entries_result->capacity <= UINT16_MAX;
    case KV__PEER_MESSAGE__BODY_TIMEOUT_NOW:
        return message->timeout_now->version <= UINT8_MAX;
    default:
        return false;
    }
}

/* The core's message, encoded again, is the message that came: as packed by protobuf-c from what
 * was unpacked, unless it has fields that we do not know. */
static void check_encoded_again(const Kv__PeerMessage *message,
                                struct kv_slice bytes,
                                struct kv_slice bulk,
                                const struct raft_message *core_message)
{
    struct kv_slice head = {bytes.data + 4, bytes.size - 4 - bulk.size};
    struct kv_error error;
    struct kv_buf buf;
    struct kv_buf expected;
    bool unknown;

    KV_ASSERT(kv_proto_scan(&kv__peer_message__descriptor, head, SIZE_MAX, &unknown, &error) == 0);
    kv_buf_init(&buf, KV_PEER_MESSAGE_BYTES_MAX);
    kv_buf_init(&expected, KV_PEER_MESSAGE_BYTES_MAX);
    encode(&buf, core_message);
    KV_ASSERT(kv_peer_encode(&expected, message) == 0);
    KV_ASSERT(kv_buf_append(&expected, bulk.data, bulk.size) == 0);
    if (!unknown && is_kept(message)) {
        KV_ASSERT(kv_slice_equal(kv_slice_of(buf.data, buf.size),
                                 kv_slice_of(expected.data, expected.size)));
    }
    kv_buf_deinit(&buf);
    kv_buf_deinit(&expected);
}

static void receive_core_message(const Kv__PeerMessage *message,
                                 struct kv_slice bytes,
                                 struct kv_slice bulk,
                                 const struct raft_message *core_message)
{
    struct raft_append_entries_result result;
    const char *what = NULL;

    KV_ASSERT(core_message->server_id == FROM_ID);
    if (core_message->type == RAFT_APPEND_ENTRIES) {
        check_entries(&core_message->append_entries, bulk);
        check_encoded_again(message, bytes, bulk, core_message);
    } else {
        /* A bulk does not belong to it; it is dropped. */
        check_encoded_again(message,
                            kv_slice_of(bytes.data, bytes.size - bulk.size),
                            kv_slice_of(NULL, 0),
                            core_message);
    }
    if (kv_guard_9_check(core_message, &what) == 0) {
        check_sane(core_message);
        KV_ASSERT(!kv_guard_1_is_stale(core_message, 1, &result));
    } else {
        KV_ASSERT(what);
    }
}

/* An InstallSnapshot is not given to the core as it comes, but encoded it is what came, too. */
static void check_install(const Kv__PeerMessage *message)
{
    const Kv__InstallSnapshot *body = message->install_snapshot;
    const struct raft_install_snapshot install = {
        .version = (unsigned char)body->version,
        .term = body->term,
        .last_index = body->last_index,
        .last_term = body->last_term,
    };
    const struct kv_snapshot_descriptor descriptor = {
        .index = body->last_index,
        .term = body->last_term,
        .configuration_index = body->configuration_index,
        .size_bytes = body->size_bytes,
        .hash = body->hash,
    };
    struct kv_buf buf;
    struct kv_buf expected;

    if (body->version > UINT8_MAX || body->base.n_unknown_fields > 0 ||
        message->base.n_unknown_fields > 0) {
        return;
    }
    kv_buf_init(&buf, KV_PEER_MESSAGE_BYTES_MAX);
    kv_buf_init(&expected, KV_PEER_MESSAGE_BYTES_MAX);
    KV_ASSERT(kv_peer_encode(&expected, message) == 0);
    KV_ASSERT(kv_peer_encode_install(
                  &buf,
                  &install,
                  &descriptor,
                  kv_slice_of(body->configuration.data, body->configuration.len)) == 0);
    KV_ASSERT(
        kv_slice_equal(kv_slice_of(buf.data, buf.size), kv_slice_of(expected.data, expected.size)));
    kv_buf_deinit(&buf);
    kv_buf_deinit(&expected);
}

static void receive_message(struct kv_arena *arena, struct kv_slice bytes)
{
    struct raft_message core_message;
    struct kv_error error = {0};
    Kv__PeerMessage *message;
    struct kv_slice bulk;
    int status;

    kv_arena_reset(arena);
    status = kv_peer_decode(arena, bytes, &message, &bulk, &error);
    if (status != 0) {
        KV_ASSERT((status == KV_INVALID || status == KV_TOO_LARGE) && error.message[0] != '\0');
        return;
    }
    KV_ASSERT(bulk.size <= bytes.size && bulk.data + bulk.size == bytes.data + bytes.size);
    status = kv_peer_to_raft(arena, FROM_ID, "address", message, bulk, &core_message, &error);
    if (status == 1) {
        receive_core_message(message, bytes, bulk, &core_message);
        free_entries(&core_message);
    } else {
        KV_ASSERT(status == 0 || (status == KV_INVALID && error.message[0] != '\0'));
    }
    if (message->body_case == KV__PEER_MESSAGE__BODY_INSTALL_SNAPSHOT) {
        KV_ASSERT(status == 0);
        check_install(message);
    }
}

/* ---------------------------------------------------------------- frames */

struct fuzz {
    struct kv_arena arena;
    struct kv_peer_assembly assemblies[2]; /* of urgent frames, of others */
    struct kv_buf plain[2];                /* the same, put together without the assembly */
};

static void fuzz_init(struct fuzz *fuzz)
{
    kv_arena_init(&fuzz->arena, ARENA_BYTES);
    for (size_t i = 0; i < 2; i++) {
        kv_peer_assembly_init(&fuzz->assemblies[i]);
        kv_buf_init(&fuzz->plain[i], 2 * KV_PEER_MESSAGE_BYTES_MAX);
    }
}

static void fuzz_deinit(struct fuzz *fuzz)
{
    for (size_t i = 0; i < 2; i++) {
        kv_peer_assembly_deinit(&fuzz->assemblies[i]);
        kv_buf_deinit(&fuzz->plain[i]);
    }
    kv_arena_deinit(&fuzz->arena);
}

/* As transport_conn.c does with a hello. */
static void receive_hello(const ProtobufCMessageDescriptor *descriptor, struct kv_slice body)
{
    ProtobufCMessage *message;
    bool unknown;

    if (body.size > HELLO_BYTES_MAX ||
        kv_proto_scan(descriptor, body, 64 * KV_KIB, &unknown, NULL) != 0) {
        return;
    }
    message = protobuf_c_message_unpack(descriptor, NULL, body.size, body.data);
    if (message) {
        KV_ASSERT(unknown || protobuf_c_message_get_packed_size(message) <= body.size);
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

static void check_decompressed(struct kv_slice message, struct kv_slice packed)
{
    char *raw = malloc(message.size + 1);

    KV_ASSERT(raw);
    KV_ASSERT(
        LZ4_decompress_safe((const char *)packed.data, raw, (int)packed.size, (int)message.size) ==
        (int)message.size);
    KV_ASSERT(kv_slice_equal(message, kv_slice_of(raw, message.size)));
    free(raw);
}

/* 1: *ret_message is whole; 0: more frames are needed; or why the connection ends. */
static int
assemble(struct fuzz *fuzz, const struct kv_peer_frame *frame, struct kv_slice *ret_message)
{
    size_t class = frame->kind != KV_PEER_FRAME_URGENT;
    struct kv_buf *plain = &fuzz->plain[class];
    struct kv_error error = {0};
    int status = kv_peer_assembly_add(&fuzz->assemblies[class], frame, ret_message, &error);

    KV_ASSERT(kv_buf_append(plain, frame->body.data, frame->body.size) == 0);
    if (status < 0) {
        KV_ASSERT(error.message[0] != '\0');
        return status;
    }
    KV_ASSERT((status == 1) == ((frame->flags & KV_PEER_FRAME_LAST) != 0));
    KV_ASSERT((frame->raw_size != 0) == ((frame->flags & KV_PEER_FRAME_LZ4) != 0));
    if (status == 1 && (frame->flags & KV_PEER_FRAME_LZ4)) {
        KV_ASSERT(ret_message->size == frame->raw_size);
        check_decompressed(*ret_message, kv_slice_of(plain->data, plain->size));
    } else if (status == 1) {
        KV_ASSERT(kv_slice_equal(*ret_message, kv_slice_of(plain->data, plain->size)));
    }
    if (status == 1) {
        kv_buf_clear(plain);
    }
    return status;
}

/* Not a byte of a frame can change unnoticed. */
static void check_flipped(struct kv_slice whole)
{
    struct kv_error error;
    struct kv_peer_frame frame;
    uint8_t *copy = malloc(whole.size);
    size_t at = kv_get_u32(whole.data) % whole.size;

    KV_ASSERT(copy);
    memcpy(copy, whole.data, whole.size);
    copy[at] ^= (uint8_t)(1u << whole.data[at] % 8);
    KV_ASSERT(kv_peer_frame_peek(kv_slice_of(copy, whole.size), &frame, &error) <= 0);
    free(copy);
}

/* The size of the frame at the front, 0 for half a one, or negative where the connection ends. */
static int64_t receive_frame(struct fuzz *fuzz, struct kv_slice input)
{
    struct kv_error error = {0};
    struct kv_peer_frame frame;
    struct kv_slice message;
    int64_t size = kv_peer_frame_peek(input, &frame, &error);
    int status = 0;

    if (size <= 0) {
        KV_ASSERT(size == 0 || error.message[0] != '\0');
        return size;
    }
    KV_ASSERT((size_t)size == KV_PEER_FRAME_HEADER_BYTES + frame.body.size);
    KV_ASSERT((size_t)size <= input.size && frame.body.size <= KV_PEER_FRAGMENT_BYTES);
    KV_ASSERT(kv_peer_frame_peek(kv_slice_of(input.data, (size_t)size - 1), &frame, &error) == 0);
    KV_ASSERT(kv_peer_frame_peek(kv_slice_of(input.data, (size_t)size), &frame, &error) == size);
    check_flipped(kv_slice_of(input.data, (size_t)size));
    switch (frame.kind) {
    case KV_PEER_FRAME_HELLO:
        receive_hello(&kv__peer_hello__descriptor, frame.body);
        break;
    case KV_PEER_FRAME_HELLO_REPLY:
        receive_hello(&kv__peer_hello_reply__descriptor, frame.body);
        break;
    case KV_PEER_FRAME_ORDERED:
    case KV_PEER_FRAME_URGENT:
    case KV_PEER_FRAME_BULK:
        status = assemble(fuzz, &frame, &message);
        if (status == 1) {
            receive_message(&fuzz->arena, message);
        }
        break;
    default:
        break;
    }
    return status < 0 ? status : size;
}

static void receive_frames(struct fuzz *fuzz, struct kv_slice input)
{
    int64_t taken = 1;

    while (taken > 0) {
        taken = receive_frame(fuzz, input);
        if (taken > 0) {
            input = kv_slice_of(input.data + taken, input.size - (size_t)taken);
        }
    }
}

/* Of all frames that are there from head to end. */
static void set_checksums_right(uint8_t *p, size_t size)
{
    while (size >= KV_PEER_FRAME_HEADER_BYTES &&
           size - KV_PEER_FRAME_HEADER_BYTES >= kv_get_u32(p + 4)) {
        size_t whole = KV_PEER_FRAME_HEADER_BYTES + kv_get_u32(p + 4);

        kv_put_u32(p, kv_crc32c(p + 4, whole - 4, 0));
        p += whole;
        size -= whole;
    }
}

/* Framed by us, it arrives as it was. */
static void check_framed(struct fuzz *fuzz,
                         const struct kv_slice *pieces,
                         size_t n_pieces,
                         struct kv_slice expected,
                         bool compress)
{
    struct kv_error error;
    struct kv_peer_frame frame;
    struct kv_slice message;
    struct kv_buf buf;
    size_t at = 0;
    int status = 0;

    kv_buf_init(&buf, KV_PEER_QUEUE_BYTES_MAX);
    KV_ASSERT(kv_peer_frame_append(&buf, KV_PEER_FRAME_ORDERED, pieces, n_pieces, compress) == 0);
    KV_ASSERT(compress ? buf.size <= kv_peer_frames_bytes(expected.size)
                       : buf.size == kv_peer_frames_bytes(expected.size));
    while (at < buf.size) {
        int64_t size =
            kv_peer_frame_peek(kv_slice_of(buf.data + at, buf.size - at), &frame, &error);

        KV_ASSERT(size > 0 && status == 0 && frame.kind == KV_PEER_FRAME_ORDERED);
        KV_ASSERT(compress || !(frame.flags & KV_PEER_FRAME_LZ4));
        at += (size_t)size;
        status = assemble(fuzz, &frame, &message);
        KV_ASSERT((status == 1) == (at == buf.size) && status >= 0);
    }
    KV_ASSERT(kv_slice_equal(message, expected));
    kv_buf_deinit(&buf);
}

/* Three bytes say how often the rest is repeated, and where the whole is cut into pieces. */
static void frame_pieces(struct fuzz *fuzz, struct kv_slice input)
{
    struct kv_slice pieces[N_PIECES];
    struct kv_buf whole;
    size_t cut;

    if (input.size < 3) {
        return;
    }
    kv_buf_init(&whole, KV_PEER_MESSAGE_BYTES_MAX);
    KV_ASSERT(kv_buf_reserve(&whole, 1)); /* so that there is something to point at */
    for (size_t i = 0; i < input.data[0]; i++) {
        KV_ASSERT(kv_buf_append(&whole, input.data + 3, input.size - 3) == 0);
    }
    cut = whole.size * input.data[1] / 256;
    pieces[0] = kv_slice_of(whole.data, cut / 2);
    pieces[1] = kv_slice_of(whole.data + cut / 2, cut - cut / 2);
    pieces[2] = kv_slice_of(whole.data + cut, whole.size - cut);
    check_framed(
        fuzz, pieces, N_PIECES, kv_slice_of(whole.data, whole.size), input.data[2] % 2 == 0);
    kv_buf_deinit(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned kind = size > 0 ? data[0] % N_INPUTS : INPUT_FRAMES;
    struct kv_slice input = size > 0 ? kv_slice_of(data + 1, size - 1) : kv_slice_of(NULL, 0);
    struct fuzz fuzz;
    uint8_t *copy;

    fuzz_init(&fuzz);
    switch (kind) {
    case INPUT_FRAMES:
        receive_frames(&fuzz, input);
        break;
    case INPUT_FRAMES_SET_RIGHT:
        copy = malloc(input.size + 1);
        KV_ASSERT(copy);
        memcpy(copy, input.data, input.size);
        set_checksums_right(copy, input.size);
        receive_frames(&fuzz, kv_slice_of(copy, input.size));
        free(copy);
        break;
    case INPUT_MESSAGE:
        receive_message(&fuzz.arena, input);
        check_framed(&fuzz, &input, 1, input, false);
        break;
    default:
        frame_pieces(&fuzz, input);
        break;
    }
    fuzz_deinit(&fuzz);
    return 0;
}
