/* A node of the log when memory is out: each allocation of raft/ and of the core fails in turn.
 * What it does then is to refuse to start, to end, or to go on without what it could not do; what
 * it has acknowledged is there at the next start. This test has a raft/ of its own, whose malloc
 * and the like are those below (CMakeLists.txt). */
#include "tests/support/replica_rig.h"
#include "tests/support/snapshot_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---------------------------------------------------------------- memory */

/* How many calls from now on the one is that fails; 0: none. */
static unsigned fails_in;

static bool fails(void)
{
    return fails_in > 0 && --fails_in == 0;
}

void *scarce_malloc(size_t size);
void *scarce_calloc(size_t n, size_t size);
void *scarce_realloc(void *memory, size_t size);

#undef malloc
#undef calloc
#undef realloc
void *malloc(size_t size);
void *calloc(size_t n, size_t size);
void *realloc(void *memory, size_t size);

void *scarce_malloc(size_t size)
{
    return fails() ? NULL : malloc(size);
}

void *scarce_calloc(size_t n, size_t size)
{
    return fails() ? NULL : calloc(n, size);
}

void *scarce_realloc(void *memory, size_t size)
{
    return fails() ? NULL : realloc(memory, size);
}

/* ---------------------------------------------------------------- a life */

enum { CLUSTER_ID = 77, SNAPSHOT_INDEX = 50 };

static struct replica_rig rig;
static uint8_t configuration[KV_CONFIGURATION_BYTES_MAX];
static struct kv_slice members;
static struct fake_disk *other_disk;
static struct kv_snapshot_descriptor descriptor;
static struct kv_slice file;
static uint64_t acknowledged;

/* What node 2, the leader, has. */
static int set_up(void **state)
{
    struct kv_slice block = kv_slice_of("state", 5);
    struct kv_snapshot_meta meta = {.cluster_id = CLUSTER_ID,
                                    .node_id = 2,
                                    .index = SNAPSHOT_INDEX,
                                    .term = 2,
                                    .configuration_index = 1};
    char name[KV_SNAPSHOT_NAME_BYTES];
    uint64_t size;

    (void)state;
    replica_rig_init(&rig, 3);
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    replica_rig_append(&rig,
                       2,
                       &(struct raft_append_entries){
                           .term = 2, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 1},
                       NULL,
                       0);
    replica_rig_settle(&rig);
    members = kv_slice_of(configuration, rig.replica->applied_configuration.size);
    memcpy(configuration, rig.replica->applied_configuration.data, members.size);
    replica_rig_deinit(&rig);
    meta.configuration = members;
    other_disk = fake_disk_new(1);
    descriptor = snapshot_rig_write(other_disk, &meta, &block, 1);
    kv_snapshot_name(name, descriptor.index, descriptor.term, KV_SNAPSHOT_COMPLETE);
    file.data = fake_disk_data(other_disk, name, &size);
    file.size = size;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fake_disk_free(other_disk);
    return 0;
}

static void settle(void)
{
    const Kv__PeerMessage *result;

    replica_rig_settle(&rig);
    result = replica_rig_sent(&rig, 2, KV__PEER_MESSAGE__BODY_APPEND_ENTRIES_RESULT);
    if (result && result->append_entries_result->rejected == 0 &&
        result->append_entries_result->last_log_index > acknowledged) {
        acknowledged = result->append_entries_result->last_log_index;
    }
    replica_rig_forget(&rig);
}

/* Entries of term 2 from node 2, in which a configuration is at each place that has a bit. */
static void append(raft_index prev_index, raft_term prev_term, unsigned n, unsigned changes)
{
    const struct raft_append_entries append = {.term = 2,
                                               .prev_log_index = prev_index,
                                               .prev_log_term = prev_term,
                                               .leader_commit = prev_index};
    struct kv_wal_entry entries[64];

    for (unsigned i = 0; i < n; i++) {
        entries[i] = changes & 1u << i
                         ? (struct kv_wal_entry){2, RAFT_CHANGE, members}
                         : (struct kv_wal_entry){2, RAFT_COMMAND, kv_slice_of("command", 7)};
    }
    replica_rig_append(&rig, 2, &append, entries, n);
}

static void open_it(void)
{
    int status = replica_rig_open(&rig);

    if (status != 0) {
        rig.replica = NULL;
        return;
    }
    settle();
}

static void follow(void)
{
    append(1, 1, 3, 2);
    append(4, 2, 2, 1);
    settle();
    append(6, 2, 0, 0);
    settle();
}

static void start_again(void)
{
    replica_rig_kill(&rig);
    open_it();
    if (rig.replica) {
        append(6, 2, 2, 0);
        settle();
    }
}

static void install(void)
{
    replica_rig_offer_snapshot(&rig, 2, 2, &descriptor, members);
    settle();
    replica_rig_send_piece(&rig, 2, &descriptor, 0, file);
    settle();
    append(SNAPSHOT_INDEX, 2, 2, 0);
    settle();
}

/* What was asked of node 2 is granted, if it was. */
static void get_vote(void)
{
    const Kv__PeerMessage *asked = replica_rig_sent(&rig, 2, KV__PEER_MESSAGE__BODY_REQUEST_VOTE);
    struct raft_message answer = {.type = RAFT_REQUEST_VOTE_RESULT};

    if (asked) {
        answer.request_vote_result =
            (struct raft_request_vote_result){.version = 2,
                                              .term = asked->request_vote->term,
                                              .vote_granted = true,
                                              .pre_vote = asked->request_vote->pre_vote};
        replica_rig_forget(&rig);
        replica_rig_receive(&rig, 2, &answer);
    }
    replica_rig_settle(&rig);
}

static void lead(void)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__ReadIndex ask = KV__READ_INDEX__INIT;
    uint64_t index, term;
    void *data;

    replica_rig_wait(&rig, 5000);
    get_vote();
    get_vote();
    if (!kv_replica_is_leader(rig.replica)) {
        return;
    }
    replica_rig_answer_append(&rig, 2, 0, raft_last_index(&rig.replica->raft));
    message.body_case = KV__PEER_MESSAGE__BODY_READ_INDEX;
    message.read_index = &ask;
    replica_rig_receive_other(&rig, 3, &message, kv_slice_of(NULL, 0));
    data = malloc(8);
    assert_non_null(data);
    memset(data, 'x', 8);
    (void)!kv_replica_propose(rig.replica, data, 8, &index, &term);
    settle();
}

enum outcome { REFUSED, ENDED, WENT_ON, OUTCOMES };

/* A life in which the n-th allocation fails. */
static enum outcome live(unsigned n, bool *ret_has_failed)
{
    void (*const parts[])(void) = {open_it, follow, start_again, install, lead};
    enum outcome outcome = WENT_ON;

    replica_rig_init(&rig, 3);
    rig.snapshot_log_bytes = 1;
    acknowledged = 0;
    fails_in = n;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && outcome == WENT_ON; i++) {
        parts[i]();
        outcome = !rig.replica ? REFUSED : rig.n_fatal > 0 ? ENDED : WENT_ON;
    }
    *ret_has_failed = fails_in == 0;
    fails_in = 0;
    if (outcome != WENT_ON && !strstr(rig.error.message, "memory")) {
        fail_msg("allocation %u: %s", n, rig.error.message);
    }
    if (rig.replica) {
        replica_rig_kill(&rig);
    }
    rig.n_fatal = 0;
    rig.n_applied = 0;
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    assert_int_equal(rig.n_fatal, 0);
    assert_true(rig.replica->started);
    assert_true(rig.replica->cache.last_index >= acknowledged);
    replica_rig_deinit(&rig);
    return outcome;
}

static void each_allocation_may_fail(void **state)
{
    unsigned counts[OUTCOMES] = {0};
    bool has_failed = true;

    (void)state;
    for (unsigned n = 1; has_failed; n++) {
        enum outcome outcome = live(n, &has_failed);

        counts[outcome] += has_failed;
    }
    assert_true(counts[REFUSED] > 10);
    assert_true(counts[ENDED] > 10);
    assert_true(counts[WENT_ON] > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_allocation_may_fail, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
