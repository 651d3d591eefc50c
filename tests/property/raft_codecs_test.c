/* Random messages between nodes, their frames, and records of the log: what is written is read
 * back; what is damaged is refused, or, where no checksum guards it, read as something within its
 * bounds. KV_SEED replays one run. */
#include "common/crc32c.h"
#include "raft/peer_codec.h"
#include "raft/transport_frame.h"
#include "raft/wal.h"
#include "raft/wal_format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RUNS = 5000, BODY_MAX = 200 * 1024, ENTRIES_MAX = 8, RECORDS_MAX = 6 };

static uint64_t random_state;
static struct kv_arena arena;

static uint64_t rnd64(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * UINT64_C(2685821657736338717);
}

static uint64_t rnd(uint64_t below)
{
    return (rnd64() >> 33) % below;
}

/* Of any length in bits. */
static uint64_t random_number(void)
{
    return rnd64() >> rnd(64);
}

static void for_all_seeds(void (*run)(void), uint64_t runs)
{
    const char *text = getenv("KV_SEED");
    uint64_t first = text ? strtoull(text, NULL, 0) : 1;
    uint64_t last = text ? first : runs;

    kv_arena_init(&arena, 1024 * 1024);
    for (uint64_t seed = first; seed <= last; seed++) {
        random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
        run();
        kv_arena_reset(&arena);
    }
    kv_arena_deinit(&arena);
}

static size_t random_bytes(uint8_t *bytes, size_t max)
{
    size_t size = rnd(10) ? rnd(max < 80 ? max : 80) : rnd(max);
    uint64_t kinds = rnd(2) ? 256 : 2;

    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)rnd(kinds);
    }
    return size;
}

/* A copy in memory of that size, so that a sanitizer sees a read beyond it. */
static struct kv_slice exact(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size + !size);

    assert_non_null(copy);
    if (size > 0) {
        memcpy(copy, bytes, size);
    }
    return kv_slice_of(copy, size);
}

static uint8_t *memory_of(struct kv_slice slice)
{
    return (uint8_t *)(uintptr_t)slice.data;
}

static void assert_within(struct kv_slice part, struct kv_slice whole)
{
    assert_true(part.size == 0 ||
                (part.data >= whole.data && part.data + part.size <= whole.data + whole.size));
}

/* ---------------------------------------------------------------- messages */

static struct raft_message random_message(void)
{
    struct raft_message message = {0};

    switch (rnd(4)) {
    case 0:
        message.type = RAFT_REQUEST_VOTE;
        message.request_vote = (struct raft_request_vote){.version = (uint8_t)rnd(256),
                                                          .term = random_number(),
                                                          .candidate_id = random_number(),
                                                          .last_log_index = random_number(),
                                                          .last_log_term = random_number(),
                                                          .disrupt_leader = rnd(2) != 0,
                                                          .pre_vote = rnd(2) != 0};
        break;
    case 1:
        message.type = RAFT_REQUEST_VOTE_RESULT;
        message.request_vote_result =
            (struct raft_request_vote_result){.version = (uint8_t)rnd(256),
                                              .term = random_number(),
                                              .vote_granted = rnd(2) != 0,
                                              .pre_vote = rnd(2) != 0,
                                              .features = (uint16_t)rnd(65536),
                                              .capacity = (uint16_t)rnd(65536)};
        break;
    case 2:
        message.type = RAFT_APPEND_ENTRIES_RESULT;
        message.append_entries_result =
            (struct raft_append_entries_result){.version = (uint8_t)rnd(256),
                                                .term = random_number(),
                                                .rejected = random_number(),
                                                .last_log_index = random_number(),
                                                .features = (uint16_t)rnd(65536),
                                                .capacity = (uint16_t)rnd(65536)};
        break;
    default:
        message.type = RAFT_TIMEOUT_NOW;
        message.timeout_now = (struct raft_timeout_now){.version = (uint8_t)rnd(256),
                                                        .term = random_number(),
                                                        .last_log_index = random_number(),
                                                        .last_log_term = random_number()};
        break;
    }
    return message;
}

/* Field by field: padding differs. */
static void check_message(const struct raft_message *a, const struct raft_message *b)
{
    assert_int_equal(a->type, b->type);
    switch (a->type) {
    case RAFT_REQUEST_VOTE:
        assert_int_equal(a->request_vote.version, b->request_vote.version);
        assert_true(a->request_vote.term == b->request_vote.term);
        assert_true(a->request_vote.candidate_id == b->request_vote.candidate_id);
        assert_true(a->request_vote.last_log_index == b->request_vote.last_log_index);
        assert_true(a->request_vote.last_log_term == b->request_vote.last_log_term);
        assert_int_equal(a->request_vote.disrupt_leader, b->request_vote.disrupt_leader);
        assert_int_equal(a->request_vote.pre_vote, b->request_vote.pre_vote);
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        assert_int_equal(a->request_vote_result.version, b->request_vote_result.version);
        assert_true(a->request_vote_result.term == b->request_vote_result.term);
        assert_int_equal(a->request_vote_result.vote_granted, b->request_vote_result.vote_granted);
        assert_int_equal(a->request_vote_result.pre_vote, b->request_vote_result.pre_vote);
        assert_int_equal(a->request_vote_result.features, b->request_vote_result.features);
        assert_int_equal(a->request_vote_result.capacity, b->request_vote_result.capacity);
        break;
    case RAFT_APPEND_ENTRIES_RESULT:
        assert_int_equal(a->append_entries_result.version, b->append_entries_result.version);
        assert_true(a->append_entries_result.term == b->append_entries_result.term);
        assert_true(a->append_entries_result.rejected == b->append_entries_result.rejected);
        assert_true(a->append_entries_result.last_log_index ==
                    b->append_entries_result.last_log_index);
        assert_int_equal(a->append_entries_result.features, b->append_entries_result.features);
        assert_int_equal(a->append_entries_result.capacity, b->append_entries_result.capacity);
        break;
    default:
        assert_int_equal(a->timeout_now.version, b->timeout_now.version);
        assert_true(a->timeout_now.term == b->timeout_now.term);
        assert_true(a->timeout_now.last_log_index == b->timeout_now.last_log_index);
        assert_true(a->timeout_now.last_log_term == b->timeout_now.last_log_term);
        break;
    }
}

/* 1: one of the core's messages, in *ret_message. */
static int decode(struct kv_slice bytes, struct raft_message *ret_message)
{
    Kv__PeerMessage *decoded;
    struct kv_slice bulk;
    struct kv_error error;
    int status = kv_peer_decode(&arena, bytes, &decoded, &bulk, &error);

    if (status == 0) {
        assert_within(bulk, bytes);
        status = kv_peer_to_raft(&arena, 2, "address", decoded, bulk, ret_message, &error);
    }
    return status;
}

/* Looks at every byte of what a damaged message was taken for, and frees it. */
static void use_and_free(const struct raft_message *message)
{
    const struct raft_append_entries *append = &message->append_entries;
    uint64_t sum = 0;

    if (message->type != RAFT_APPEND_ENTRIES || append->n_entries == 0) {
        return;
    }
    assert_true(append->n_entries <= KV_APPEND_ENTRIES_MAX);
    for (unsigned i = 0; i < append->n_entries; i++) {
        sum += kv_crc32c(append->entries[i].buf.base, append->entries[i].buf.len, 0);
    }
    assert_true(sum + 1 > 0);
    raft_free(append->entries[0].batch);
}

static void damage_and_decode(struct kv_slice bytes)
{
    struct raft_message message;
    struct kv_slice cut = exact(bytes.data, rnd(bytes.size));
    int status = decode(cut, &message);

    assert_true(status == 1 || status == 0 || status == KV_INVALID || status == KV_TOO_LARGE);
    if (status == 1) {
        use_and_free(&message);
    }
    free(memory_of(cut));
    for (uint64_t n = 1 + rnd(4); n > 0; n--) {
        memory_of(bytes)[rnd(rnd(2) ? bytes.size : 1 + bytes.size / 4)] ^= (uint8_t)(1 + rnd(255));
    }
    status = decode(bytes, &message);
    assert_true(status == 1 || status == 0 || status == KV_INVALID || status == KV_TOO_LARGE);
    if (status == 1) {
        use_and_free(&message);
    }
}

static void run_message(void)
{
    struct raft_message message = random_message();
    struct raft_message result;
    struct kv_slice bytes;
    struct kv_buf buf;

    kv_buf_init(&buf, 4096);
    assert_int_equal(kv_peer_encode_raft(&buf, &message), 0);
    bytes = exact(buf.data, buf.size);
    assert_int_equal(decode(bytes, &result), 1);
    check_message(&message, &result);
    assert_true(result.server_id == 2);
    damage_and_decode(bytes);
    free(memory_of(bytes));
    kv_buf_deinit(&buf);
}

static void messages_come_back(void **state)
{
    (void)state;
    for_all_seeds(run_message, RUNS);
}

static void run_append(void)
{
    static uint8_t memory[ENTRIES_MAX][4096];
    struct kv_wal_entry entries[ENTRIES_MAX];
    unsigned n = (unsigned)rnd(ENTRIES_MAX + 1);
    const struct raft_append_entries append = {.version = (uint8_t)rnd(256),
                                               .term = random_number(),
                                               .prev_log_index = random_number(),
                                               .prev_log_term = random_number(),
                                               .leader_commit = random_number()};
    struct raft_message result;
    struct kv_slice bytes;
    struct kv_buf buf;

    kv_buf_init(&buf, 1 << 20);
    for (unsigned i = 0; i < n; i++) {
        entries[i] = (struct kv_wal_entry){
            random_number(),
            (uint16_t)(1 + rnd(3)),
            kv_slice_of(memory[i], random_bytes(memory[i], sizeof memory[i]))};
    }
    assert_int_equal(kv_peer_encode_append(&buf, &append, entries, n), 0);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(kv_buf_append(&buf, entries[i].data.data, entries[i].data.size), 0);
    }
    bytes = exact(buf.data, buf.size);
    assert_int_equal(decode(bytes, &result), 1);
    assert_int_equal(result.type, RAFT_APPEND_ENTRIES);
    assert_true(result.append_entries.term == append.term);
    assert_true(result.append_entries.prev_log_index == append.prev_log_index);
    assert_true(result.append_entries.prev_log_term == append.prev_log_term);
    assert_true(result.append_entries.leader_commit == append.leader_commit);
    assert_int_equal(result.append_entries.n_entries, n);
    for (unsigned i = 0; i < n; i++) {
        const struct raft_entry *entry = &result.append_entries.entries[i];

        assert_true(entry->term == entries[i].term);
        assert_int_equal(entry->type, entries[i].type);
        assert_true(kv_slice_equal(kv_slice_of(entry->buf.base, entry->buf.len), entries[i].data));
    }
    use_and_free(&result);
    damage_and_decode(bytes);
    free(memory_of(bytes));
    kv_buf_deinit(&buf);
}

static void appends_come_back(void **state)
{
    (void)state;
    for_all_seeds(run_append, RUNS);
}

/* ---------------------------------------------------------------- frames between nodes */

/* Feeds a stream of frames of one class; messages in order, 0 or why it ended. */
static int assemble(struct kv_slice stream, const struct kv_slice *expected, size_t *ret_n)
{
    struct kv_peer_assembly assembly;
    struct kv_slice message;
    struct kv_error error;
    int status = 0;

    *ret_n = 0;
    kv_peer_assembly_init(&assembly);
    while (stream.size > 0) {
        struct kv_peer_frame frame;
        int64_t size = kv_peer_frame_peek(stream, &frame, &error);

        if (size <= 0) {
            status = (int)size;
            break;
        }
        assert_true((uint64_t)size <= stream.size);
        assert_within(frame.body, stream);
        status = kv_peer_assembly_add(&assembly, &frame, &message, &error);
        if (status < 0) {
            break;
        }
        if (status == 1) {
            assert_true(kv_slice_equal(message, expected[*ret_n]));
            ++*ret_n;
        }
        status = 0;
        stream = kv_slice_of(stream.data + size, stream.size - (size_t)size);
    }
    kv_peer_assembly_deinit(&assembly);
    return status;
}

static void run_frames(void)
{
    static uint8_t memory[2][BODY_MAX];
    struct kv_slice messages[3] = {{0}};
    size_t n_messages = 1 + rnd(2);
    struct kv_slice whole;
    struct kv_buf buf;
    size_t n;

    kv_buf_init(&buf, 1 << 22);
    for (size_t i = 0; i < n_messages; i++) {
        struct kv_slice pieces[2];
        size_t at;

        messages[i] = kv_slice_of(memory[i], 1 + random_bytes(memory[i], BODY_MAX - 1));
        at = rnd(messages[i].size + 1);
        pieces[0] = kv_slice_of(memory[i], at);
        pieces[1] = kv_slice_of(memory[i] + at, messages[i].size - at);
        assert_int_equal(kv_peer_frame_append(&buf, KV_PEER_FRAME_ORDERED, pieces, 2, rnd(2) != 0),
                         0);
    }
    whole = exact(buf.data, buf.size);
    assert_int_equal(assemble(whole, messages, &n), 0);
    assert_int_equal(n, n_messages);
    /* A byte that changed: its frame is refused, or waits for bytes that its size promises, and
     * nothing wrong comes out. */
    memory_of(whole)[rnd(rnd(2) ? whole.size : KV_PEER_FRAME_HEADER_BYTES)] ^=
        (uint8_t)(1 + rnd(255));
    assert_in_range(-assemble(whole, messages, &n), 0, -KV_INVALID);
    assert_true(n < n_messages);
    free(memory_of(whole));
    kv_buf_deinit(&buf);
}

static void frames_come_back(void **state)
{
    (void)state;
    for_all_seeds(run_frames, RUNS / 5);
}

/* ---------------------------------------------------------------- records of the log */

static struct kv_wal_record random_record(uint8_t *memory, size_t max)
{
    return (struct kv_wal_record){.type = (enum kv_wal_record_type)(1 + rnd(7)),
                                  .entry_type = (uint16_t)rnd(65536),
                                  .link = (uint32_t)rnd64(),
                                  .sequence = random_number(),
                                  .index = random_number(),
                                  .term = random_number(),
                                  .synced_through = random_number(),
                                  .body = kv_slice_of(memory, random_bytes(memory, max))};
}

static void check_record(const struct kv_wal_record *a, const struct kv_wal_record *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->entry_type, b->entry_type);
    assert_int_equal(a->link, b->link);
    assert_true(a->sequence == b->sequence && a->index == b->index && a->term == b->term);
    assert_true(a->synced_through == b->synced_through);
    assert_true(kv_slice_equal(a->body, b->body));
}

static void run_record(void)
{
    static uint8_t memory[5000];
    struct kv_wal_record record = random_record(memory, sizeof memory);
    struct kv_wal_record read;
    uint64_t size = kv_wal_record_size(record.body.size);
    uint32_t seed = (uint32_t)rnd64();
    uint8_t *bytes = malloc(size);
    struct kv_slice cut;

    assert_non_null(bytes);
    record.crc = kv_wal_record_encode(bytes, &record, seed);
    assert_true(kv_wal_record_announced_size(bytes) == size);
    assert_true(kv_wal_record_decode(kv_slice_of(bytes, size), seed, &read) == size);
    check_record(&record, &read);
    assert_int_equal(read.crc, record.crc);
    /* Under another seed, cut, or with one byte changed it is none. */
    assert_true(kv_wal_record_decode(
                    kv_slice_of(bytes, size), seed ^ (uint32_t)(1 + rnd(1u << 31)), &read) == 0);
    cut = exact(bytes, rnd(size));
    assert_true(kv_wal_record_decode(cut, seed, &read) == 0);
    free(memory_of(cut));
    bytes[rnd(rnd(2) ? size : KV_WAL_RECORD_HEADER_BYTES)] ^= (uint8_t)(1 + rnd(255));
    assert_true(kv_wal_record_decode(kv_slice_of(bytes, size), seed, &read) == 0);
    if (kv_wal_record_peek(kv_slice_of(bytes, size), seed, &read)) {
        assert_true(read.sequence == record.sequence && read.index == record.index);
    }
    free(bytes);
}

static void records_come_back(void **state)
{
    (void)state;
    for_all_seeds(run_record, RUNS * 4);
}

static void run_head_and_name(void)
{
    struct kv_wal_segment_head head = {.format_version = (uint32_t)rnd64(),
                                       .cluster_id = random_number(),
                                       .node_id = random_number(),
                                       .number = random_number(),
                                       .oldest_number = random_number(),
                                       .term = random_number(),
                                       .voted_for = random_number(),
                                       .boundary_index = random_number(),
                                       .boundary_term = random_number(),
                                       .segment_bytes = random_number(),
                                       .log_seed = random_number()};
    struct kv_wal_segment_head read = {0};
    uint8_t bytes[KV_WAL_SEGMENT_HEAD_BYTES];
    uint8_t again[KV_WAL_SEGMENT_HEAD_BYTES];
    char name[KV_WAL_NAME_BYTES];
    uint64_t first_index = random_number();
    uint64_t number = random_number() | 1;
    uint64_t read_index, read_number;

    kv_wal_segment_head_encode(bytes, &head);
    assert_int_equal(kv_wal_segment_head_decode(kv_slice_of(bytes, sizeof bytes), &read), 0);
    kv_wal_segment_head_encode(again, &read);
    assert_memory_equal(bytes, again, sizeof bytes);
    assert_true(read.log_seed == head.log_seed && read.boundary_index == head.boundary_index);
    assert_int_equal(kv_wal_segment_head_decode(kv_slice_of(bytes, rnd(sizeof bytes)), &read),
                     KV_INVALID);

    kv_wal_segment_name(name, first_index, number);
    assert_int_equal(kv_wal_segment_name_parse(name + 4, &read_index, &read_number), 0);
    assert_true(read_index == first_index && read_number == number);
    /* Another character: no name, or the name of another segment. */
    name[4 + rnd(strlen(name + 4))] ^= (char)(1 + rnd(127));
    if (kv_wal_segment_name_parse(name + 4, &read_index, &read_number) == 0) {
        char other[KV_WAL_NAME_BYTES];

        assert_true(read_index != first_index || read_number != number);
        kv_wal_segment_name(other, read_index, read_number);
        assert_string_equal(other, name);
    }
}

static void heads_and_names_come_back(void **state)
{
    (void)state;
    for_all_seeds(run_head_and_name, RUNS * 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_back),
        cmocka_unit_test(appends_come_back),
        cmocka_unit_test(frames_come_back),
        cmocka_unit_test(records_come_back),
        cmocka_unit_test(heads_and_names_come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
