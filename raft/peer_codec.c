#include "raft/peer_codec.h"

#include "common/assert.h"
#include "common/limits.h"
#include "proto/frame.h"
#include "raft/snapshot_file.h"
#include "raft/wal.h"

#include <string.h>

enum { HEAD_SIZE_BYTES = 4 };

int kv_peer_encode(struct kv_buf *buf, const Kv__PeerMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(&message->base);
    uint8_t *p = kv_buf_reserve(buf, HEAD_SIZE_BYTES + size);

    if (!p) {
        return KV_NO_MEMORY;
    }
    kv_put_u32(p, (uint32_t)size);
    protobuf_c_message_pack(&message->base, p + HEAD_SIZE_BYTES);
    buf->size += HEAD_SIZE_BYTES + size;
    return 0;
}

static int encode_request_vote(struct kv_buf *buf, const struct raft_request_vote *vote)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__RequestVote body = KV__REQUEST_VOTE__INIT;

    body.version = vote->version;
    body.term = vote->term;
    body.candidate_id = vote->candidate_id;
    body.last_log_index = vote->last_log_index;
    body.last_log_term = vote->last_log_term;
    body.disrupt_leader = vote->disrupt_leader;
    body.pre_vote = vote->pre_vote;
    message.body_case = KV__PEER_MESSAGE__BODY_REQUEST_VOTE;
    message.request_vote = &body;
    return kv_peer_encode(buf, &message);
}

static int encode_request_vote_result(struct kv_buf *buf,
                                      const struct raft_request_vote_result *result)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__RequestVoteResult body = KV__REQUEST_VOTE_RESULT__INIT;

    body.version = result->version;
    body.term = result->term;
    body.vote_granted = result->vote_granted;
    body.pre_vote = result->pre_vote;
    body.features = result->features;
    body.capacity = result->capacity;
    message.body_case = KV__PEER_MESSAGE__BODY_REQUEST_VOTE_RESULT;
    message.request_vote_result = &body;
    return kv_peer_encode(buf, &message);
}

static int encode_append_result(struct kv_buf *buf, const struct raft_append_entries_result *result)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__AppendEntriesResult body = KV__APPEND_ENTRIES_RESULT__INIT;

    body.version = result->version;
    body.term = result->term;
    body.rejected = result->rejected;
    body.last_log_index = result->last_log_index;
    body.features = result->features;
    body.capacity = result->capacity;
    message.body_case = KV__PEER_MESSAGE__BODY_APPEND_ENTRIES_RESULT;
    message.append_entries_result = &body;
    return kv_peer_encode(buf, &message);
}

static int encode_timeout_now(struct kv_buf *buf, const struct raft_timeout_now *timeout_now)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__TimeoutNow body = KV__TIMEOUT_NOW__INIT;

    body.version = timeout_now->version;
    body.term = timeout_now->term;
    body.last_log_index = timeout_now->last_log_index;
    body.last_log_term = timeout_now->last_log_term;
    message.body_case = KV__PEER_MESSAGE__BODY_TIMEOUT_NOW;
    message.timeout_now = &body;
    return kv_peer_encode(buf, &message);
}

int kv_peer_encode_raft(struct kv_buf *buf, const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_REQUEST_VOTE:
        return encode_request_vote(buf, &message->request_vote);
    case RAFT_REQUEST_VOTE_RESULT:
        return encode_request_vote_result(buf, &message->request_vote_result);
    case RAFT_APPEND_ENTRIES_RESULT:
        return encode_append_result(buf, &message->append_entries_result);
    case RAFT_TIMEOUT_NOW:
        return encode_timeout_now(buf, &message->timeout_now);
    case RAFT_APPEND_ENTRIES:
    case RAFT_INSTALL_SNAPSHOT:
        break;
    }
    return KV_UNSUPPORTED;
}

int kv_peer_encode_install(struct kv_buf *buf,
                           const struct raft_install_snapshot *install,
                           const struct kv_snapshot_descriptor *descriptor,
                           struct kv_slice configuration)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__InstallSnapshot body = KV__INSTALL_SNAPSHOT__INIT;

    body.version = install->version;
    body.term = install->term;
    body.last_index = install->last_index;
    body.last_term = install->last_term;
    body.configuration_index = descriptor->configuration_index;
    body.configuration =
        (ProtobufCBinaryData){configuration.size, (uint8_t *)(uintptr_t)configuration.data};
    body.size_bytes = descriptor->size_bytes;
    body.hash = descriptor->hash;
    message.body_case = KV__PEER_MESSAGE__BODY_INSTALL_SNAPSHOT;
    message.install_snapshot = &body;
    return kv_peer_encode(buf, &message);
}

int kv_peer_encode_append(struct kv_buf *buf,
                          const struct raft_append_entries *append,
                          const struct kv_wal_entry *entries,
                          unsigned n_entries)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__AppendEntries body = KV__APPEND_ENTRIES__INIT;
    Kv__EntryHead heads[KV_APPEND_ENTRIES_MAX];
    Kv__EntryHead *pointers[KV_APPEND_ENTRIES_MAX];

    KV_ASSERT(n_entries <= KV_APPEND_ENTRIES_MAX);
    for (unsigned i = 0; i < n_entries; i++) {
        kv__entry_head__init(&heads[i]);
        heads[i].term = entries[i].term;
        heads[i].type = entries[i].type;
        heads[i].size = entries[i].data.size;
        pointers[i] = &heads[i];
    }
    body.version = append->version;
    body.term = append->term;
    body.prev_log_index = append->prev_log_index;
    body.prev_log_term = append->prev_log_term;
    body.leader_commit = append->leader_commit;
    body.n_entries = n_entries;
    body.entries = pointers;
    message.body_case = KV__PEER_MESSAGE__BODY_APPEND_ENTRIES;
    message.append_entries = &body;
    return kv_peer_encode(buf, &message);
}

int kv_peer_decode(struct kv_arena *arena,
                   struct kv_slice bytes,
                   Kv__PeerMessage **ret_message,
                   struct kv_slice *ret_bulk,
                   struct kv_error *ret_error)
{
    ProtobufCAllocator allocator;
    struct kv_slice head;
    bool unknown = false;
    size_t head_size;
    int status;

    if (bytes.size < HEAD_SIZE_BYTES) {
        return kv_error_set(ret_error, KV_INVALID, "message of %zu bytes is too short", bytes.size);
    }
    head_size = kv_get_u32(bytes.data);
    if (head_size > bytes.size - HEAD_SIZE_BYTES) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "head of %zu bytes in a message of %zu bytes",
                            head_size,
                            bytes.size);
    }
    head = kv_slice_of(bytes.data + HEAD_SIZE_BYTES, head_size);
    status =
        kv_proto_scan(&kv__peer_message__descriptor, head, arena->max_bytes, &unknown, ret_error);
    if (status != 0) {
        return status;
    }
    kv_arena_protobuf_allocator(arena, &allocator);
    *ret_message = kv__peer_message__unpack(&allocator, head.size, head.data);
    if (!*ret_message) {
        return kv_error_set(ret_error, KV_INVALID, "malformed head");
    }
    ret_bulk->data = head.data + head.size;
    ret_bulk->size = bytes.size - HEAD_SIZE_BYTES - head_size;
    return 0;
}

static int decode_append(struct kv_arena *arena,
                         const Kv__AppendEntries *body,
                         struct kv_slice bulk,
                         struct raft_append_entries *ret_append,
                         struct kv_error *ret_error)
{
    struct raft_entry *entries;
    uint8_t *memory;
    size_t left = bulk.size;

    *ret_append = (struct raft_append_entries){
        .version = (unsigned char)body->version,
        .term = body->term,
        .prev_log_index = body->prev_log_index,
        .prev_log_term = body->prev_log_term,
        .leader_commit = body->leader_commit,
    };
    if (body->n_entries > KV_APPEND_ENTRIES_MAX) {
        return kv_error_set(ret_error, KV_INVALID, "%zu entries in one message", body->n_entries);
    }
    for (size_t i = 0; i < body->n_entries; i++) {
        if (body->entries[i]->size > left) {
            return kv_error_set(ret_error, KV_INVALID, "entries are larger than their message");
        }
        left -= body->entries[i]->size;
    }
    if (left != 0) {
        return kv_error_set(ret_error, KV_INVALID, "%zu bytes behind the entries", left);
    }
    if (body->n_entries == 0) {
        return 0;
    }
    entries = kv_arena_alloc(arena, body->n_entries * sizeof *entries);
    memory = raft_malloc(bulk.size ? bulk.size : 1);
    if (!entries || !memory) {
        raft_free(memory);
        return kv_error_set(
            ret_error, KV_NO_MEMORY, "no memory for %zu bytes of entries", bulk.size);
    }
    if (bulk.size > 0) {
        memcpy(memory, bulk.data, bulk.size);
    }
    ret_append->entries = entries;
    ret_append->n_entries = (unsigned)body->n_entries;
    for (size_t i = 0, offset = 0; i < body->n_entries; i++) {
        entries[i] = (struct raft_entry){
            .term = body->entries[i]->term,
            .type = (enum raft_entry_type)body->entries[i]->type,
            .buf = {.base = memory + offset, .len = body->entries[i]->size},
            .batch = memory,
        };
        offset += body->entries[i]->size;
    }
    return 0;
}

static void decode_votes(const Kv__PeerMessage *message, struct raft_message *ret_message)
{
    if (message->body_case == KV__PEER_MESSAGE__BODY_REQUEST_VOTE) {
        const Kv__RequestVote *body = message->request_vote;

        ret_message->type = RAFT_REQUEST_VOTE;
        ret_message->request_vote = (struct raft_request_vote){
            .version = (unsigned char)body->version,
            .term = body->term,
            .candidate_id = body->candidate_id,
            .last_log_index = body->last_log_index,
            .last_log_term = body->last_log_term,
            .disrupt_leader = body->disrupt_leader,
            .pre_vote = body->pre_vote,
        };
    } else {
        const Kv__RequestVoteResult *body = message->request_vote_result;

        ret_message->type = RAFT_REQUEST_VOTE_RESULT;
        ret_message->request_vote_result = (struct raft_request_vote_result){
            .version = (unsigned char)body->version,
            .term = body->term,
            .vote_granted = body->vote_granted,
            .pre_vote = body->pre_vote,
            .features = (unsigned short)body->features,
            .capacity = (unsigned short)body->capacity,
        };
    }
}

static void decode_append_result(const Kv__AppendEntriesResult *body,
                                 struct raft_message *ret_message)
{
    ret_message->type = RAFT_APPEND_ENTRIES_RESULT;
    ret_message->append_entries_result = (struct raft_append_entries_result){
        .version = (unsigned char)body->version,
        .term = body->term,
        .rejected = body->rejected,
        .last_log_index = body->last_log_index,
        .features = (unsigned short)body->features,
        .capacity = (unsigned short)body->capacity,
    };
}

int kv_peer_to_raft(struct kv_arena *arena,
                    uint64_t from_id,
                    const char *from_address,
                    const Kv__PeerMessage *message,
                    struct kv_slice bulk,
                    struct raft_message *ret_message,
                    struct kv_error *ret_error)
{
    int status;

    *ret_message = (struct raft_message){.server_id = from_id, .server_address = from_address};
    switch (message->body_case) {
    case KV__PEER_MESSAGE__BODY_REQUEST_VOTE:
    case KV__PEER_MESSAGE__BODY_REQUEST_VOTE_RESULT:
        decode_votes(message, ret_message);
        return 1;
    case KV__PEER_MESSAGE__BODY_APPEND_ENTRIES:
        ret_message->type = RAFT_APPEND_ENTRIES;
        status = decode_append(
            arena, message->append_entries, bulk, &ret_message->append_entries, ret_error);
        return status == 0 ? 1 : status;
    case KV__PEER_MESSAGE__BODY_APPEND_ENTRIES_RESULT:
        decode_append_result(message->append_entries_result, ret_message);
        return 1;
    case KV__PEER_MESSAGE__BODY_TIMEOUT_NOW:
        ret_message->type = RAFT_TIMEOUT_NOW;
        ret_message->timeout_now = (struct raft_timeout_now){
            .version = (unsigned char)message->timeout_now->version,
            .term = message->timeout_now->term,
            .last_log_index = message->timeout_now->last_log_index,
            .last_log_term = message->timeout_now->last_log_term,
        };
        return 1;
    default:
        return 0;
    }
}
