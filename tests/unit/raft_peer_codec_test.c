#include "raft/peer_codec.h"

#include "common/limits.h"
#include "raft/wal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct kv_arena arena;

static int setup(void **state)
{
    (void)state;
    kv_arena_init(&arena, 1024 * 1024);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kv_arena_deinit(&arena);
    return 0;
}

/* Encodes, decodes and gives back the core's form. */
static struct raft_message round_trip(const struct raft_message *message)
{
    struct raft_message result;
    Kv__PeerMessage *decoded;
    struct kv_slice bulk;
    struct kv_buf buf;

    kv_buf_init(&buf, 1024);
    assert_int_equal(kv_peer_encode_raft(&buf, message), 0);
    assert_int_equal(kv_peer_decode(&arena, kv_slice_of(buf.data, buf.size), &decoded, &bulk, NULL),
                     0);
    assert_int_equal(kv_peer_to_raft(&arena, 2, "x", decoded, bulk, &result, NULL), 1);
    kv_buf_deinit(&buf);
    return result;
}

static void votes_survive_the_wire(void **state)
{
    struct raft_message message = {
        .type = RAFT_REQUEST_VOTE,
        .request_vote = {.version = 2,
                         .term = 1ULL << 40,
                         .candidate_id = 3,
                         .last_log_index = 9,
                         .last_log_term = 8,
                         .disrupt_leader = true,
                         .pre_vote = true},
    };
    struct raft_message result = round_trip(&message);

    (void)state;
    assert_int_equal(result.type, RAFT_REQUEST_VOTE);
    assert_int_equal(result.server_id, 2);
    assert_int_equal(result.request_vote.term, 1ULL << 40);
    assert_int_equal(result.request_vote.candidate_id, 3);
    assert_int_equal(result.request_vote.last_log_index, 9);
    assert_int_equal(result.request_vote.last_log_term, 8);
    assert_true(result.request_vote.disrupt_leader);
    assert_true(result.request_vote.pre_vote);

    message = (struct raft_message){
        .type = RAFT_REQUEST_VOTE_RESULT,
        .request_vote_result = {.version = 2, .term = 7, .vote_granted = true}};
    result = round_trip(&message);
    assert_int_equal(result.request_vote_result.term, 7);
    assert_true(result.request_vote_result.vote_granted);
    assert_false(result.request_vote_result.pre_vote);

    message = (struct raft_message){
        .type = RAFT_APPEND_ENTRIES_RESULT,
        .append_entries_result = {.term = 7, .rejected = 5, .last_log_index = 4}};
    result = round_trip(&message);
    assert_int_equal(result.append_entries_result.rejected, 5);
    assert_int_equal(result.append_entries_result.last_log_index, 4);

    message =
        (struct raft_message){.type = RAFT_TIMEOUT_NOW,
                              .timeout_now = {.term = 7, .last_log_index = 5, .last_log_term = 4}};
    result = round_trip(&message);
    assert_int_equal(result.timeout_now.last_log_term, 4);
}

/* An AppendEntries of two entries, as a whole message. */
static void encode_two_entries(struct kv_buf *buf)
{
    const struct raft_append_entries append = {
        .term = 4, .prev_log_index = 10, .prev_log_term = 3, .leader_commit = 9};
    const struct kv_wal_entry entries[2] = {{3, RAFT_COMMAND, kv_slice_str("abc")},
                                            {4, RAFT_BARRIER, kv_slice_str("")}};

    assert_int_equal(kv_peer_encode_append(buf, &append, entries, 2), 0);
    assert_int_equal(kv_buf_append(buf, "abc", 3), 0);
}

static void entries_survive_the_wire(void **state)
{
    struct raft_message result;
    Kv__PeerMessage *decoded;
    struct kv_slice bulk;
    struct kv_buf buf;

    (void)state;
    kv_buf_init(&buf, 1024);
    encode_two_entries(&buf);
    assert_int_equal(kv_peer_decode(&arena, kv_slice_of(buf.data, buf.size), &decoded, &bulk, NULL),
                     0);
    assert_int_equal(kv_peer_to_raft(&arena, 2, "x", decoded, bulk, &result, NULL), 1);
    assert_int_equal(result.append_entries.n_entries, 2);
    assert_int_equal(result.append_entries.prev_log_index, 10);
    assert_int_equal(result.append_entries.leader_commit, 9);
    assert_int_equal(result.append_entries.entries[0].term, 3);
    assert_int_equal(result.append_entries.entries[0].buf.len, 3);
    assert_memory_equal(result.append_entries.entries[0].buf.base, "abc", 3);
    assert_int_equal(result.append_entries.entries[1].type, RAFT_BARRIER);
    assert_int_equal(result.append_entries.entries[1].buf.len, 0);
    assert_ptr_equal(result.append_entries.entries[0].batch,
                     result.append_entries.entries[1].batch);
    raft_free(result.append_entries.entries[0].batch);
    kv_buf_deinit(&buf);
}

static void sizes_that_lie_are_refused(void **state)
{
    struct raft_message result;
    struct kv_error error;
    Kv__PeerMessage *decoded;
    struct kv_slice bulk;
    struct kv_buf buf;

    (void)state;
    kv_buf_init(&buf, 1024);
    encode_two_entries(&buf);
    for (size_t size = 0; size < buf.size; size++) {
        int status = kv_peer_decode(&arena, kv_slice_of(buf.data, size), &decoded, &bulk, &error);

        if (status == 0) {
            status = kv_peer_to_raft(&arena, 2, "x", decoded, bulk, &result, &error);
        }
        assert_int_equal(status, KV_INVALID);
    }
    assert_int_equal(kv_buf_append(&buf, "d", 1), 0);
    assert_int_equal(
        kv_peer_decode(&arena, kv_slice_of(buf.data, buf.size), &decoded, &bulk, &error), 0);
    assert_int_equal(kv_peer_to_raft(&arena, 2, "x", decoded, bulk, &result, &error), KV_INVALID);
    kv_put_u32(buf.data, 0xffffffffu);
    assert_int_equal(
        kv_peer_decode(&arena, kv_slice_of(buf.data, buf.size), &decoded, &bulk, &error),
        KV_INVALID);
    kv_buf_deinit(&buf);
}

static void other_messages_are_not_the_cores(void **state)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__Confirm confirm = KV__CONFIRM__INIT;
    struct raft_message result;

    (void)state;
    message.body_case = KV__PEER_MESSAGE__BODY_CONFIRM;
    message.confirm = &confirm;
    assert_int_equal(kv_peer_to_raft(&arena, 2, "x", &message, kv_slice_of(NULL, 0), &result, NULL),
                     0);
}

static void what_is_not_sent_this_way_is_not_encoded(void **state)
{
    struct raft_message message = {.type = RAFT_APPEND_ENTRIES};
    struct kv_buf buf;

    (void)state;
    kv_buf_init(&buf, 1024);
    assert_int_equal(kv_peer_encode_raft(&buf, &message), KV_UNSUPPORTED);
    message.type = RAFT_INSTALL_SNAPSHOT;
    assert_int_equal(kv_peer_encode_raft(&buf, &message), KV_UNSUPPORTED);
    assert_int_equal(buf.size, 0);
    kv_buf_deinit(&buf);
}

static void a_message_that_does_not_fit_is_not_begun(void **state)
{
    struct raft_message message = {.type = RAFT_TIMEOUT_NOW, .timeout_now = {.term = 7}};
    struct kv_buf buf;

    (void)state;
    kv_buf_init(&buf, 4);
    assert_int_equal(kv_peer_encode_raft(&buf, &message), KV_NO_MEMORY);
    assert_int_equal(buf.size, 0);
    kv_buf_deinit(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(votes_survive_the_wire),
        cmocka_unit_test(entries_survive_the_wire),
        cmocka_unit_test(sizes_that_lie_are_refused),
        cmocka_unit_test(other_messages_are_not_the_cores),
        cmocka_unit_test(what_is_not_sent_this_way_is_not_encoded),
        cmocka_unit_test(a_message_that_does_not_fit_is_not_begun),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
