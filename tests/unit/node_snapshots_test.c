/* Snapshots of simulated nodes when something goes wrong in the middle: the other side vanishes or
 * lies, files change, the power goes at any call of the disk. */
#include "tests/support/cluster.h"
#include "tests/support/fake_disk.h"

#include "common/limits.h"
#include "common/log.h"
#include "raft/replica_internal.h"
#include "raft/snapshot_format.h"
#include "server/node/node_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VALUE_BYTES = 8000, KEYS = 400 };

/* What the nodes have said since forget(). */
static char said[1 << 16];
static size_t said_bytes;

static void note_line(void *arg, const char *line)
{
    size_t size = strlen(line);

    (void)arg;
    if (said_bytes + size + 2 < sizeof said) {
        memcpy(said + said_bytes, line, size);
        said[said_bytes + size] = '\n';
        said[said_bytes + size + 1] = 0;
        said_bytes += size + 1;
    }
}

static void forget(void)
{
    said[0] = 0;
    said_bytes = 0;
}

static struct kv_replica *replica_of(struct cluster *cluster, unsigned node)
{
    return cluster_node(cluster, node)->replica;
}

static struct kv_node_status status_of(struct cluster *cluster, unsigned node)
{
    struct kv_node_status status;

    kv_node_status_get(cluster_node(cluster, node), &status);
    return status;
}

static void submit_ok(struct cluster *cluster, unsigned node, const Kv__Request *request)
{
    struct cluster_request *sent = cluster_submit(cluster, node, request);

    assert_int_equal(cluster_await(cluster, sent, 6000), KV__CODE__OK);
    cluster_request_free(sent);
}

static void snapshot_now(struct cluster *cluster, unsigned node)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SnapshotNow body = KV__SNAPSHOT_NOW__INIT;

    request.id = 3;
    request.command_case = KV__REQUEST__COMMAND_SNAPSHOT_NOW;
    request.snapshot_now = &body;
    submit_ok(cluster, node, &request);
}

/* Letters that lz4 makes nothing less of. */
static void fill_value(unsigned number, char *value, size_t bytes)
{
    uint64_t random = number * UINT64_C(0x9E3779B97F4A7C15) + 1;

    for (size_t i = 0; i < bytes; i++) {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        value[i] = (char)('0' + (random * UINT64_C(2685821657736338717) >> 33) % 64);
    }
    value[bytes] = 0;
}

/* Key i % n_keys gets the value of i. */
static void put_many(struct cluster *cluster,
                     unsigned node,
                     unsigned first,
                     unsigned last,
                     unsigned n_keys,
                     size_t bytes)
{
    char *value = malloc(bytes + 1);

    assert_non_null(value);
    for (unsigned i = first; i <= last; i++) {
        struct cluster_request *request;
        char key[16];

        snprintf(key, sizeof key, "k%u", i % n_keys);
        fill_value(i, value, bytes);
        request = cluster_put(cluster, node, key, value);
        assert_int_equal(cluster_await(cluster, request, 6000), KV__CODE__OK);
        cluster_request_free(request);
    }
    free(value);
}

static void get_is(struct cluster *cluster, unsigned node, unsigned number, size_t bytes)
{
    struct cluster_request *request;
    char key[16];
    char *value = malloc(bytes + 1);

    assert_non_null(value);
    snprintf(key, sizeof key, "k%u", number % KEYS);
    fill_value(number, value, bytes);
    request = cluster_get(cluster, node, key);
    assert_int_equal(cluster_await(cluster, request, 60000), KV__CODE__OK);
    assert_int_equal(request->reply->get->kv->value.len, bytes);
    assert_memory_equal(request->reply->get->kv->value.data, value, bytes);
    cluster_request_free(request);
    free(value);
}

static struct cluster *new_cluster(uint64_t seed, uint64_t segment_bytes, uint64_t log_bytes)
{
    struct cluster *cluster = cluster_new(&(struct cluster_options){
        .seed = seed,
        .n_nodes = 3,
        .delay_max_us = 300,
        .sync_max_us = 400,
        .wal_segment_bytes = segment_bytes,
        .snapshot_log_bytes = log_bytes,
        .nodes_may_die = true,
    });
    Kv__Request request = KV__REQUEST__INIT;
    Kv__ConfigSet body = KV__CONFIG_SET__INIT;

    forget();
    for (unsigned i = 1; i <= 3; i++) {
        cluster_start(cluster, i);
    }
    assert_int_not_equal(cluster_await_leader(cluster, 5000), 0);
    /* No history: the state is as large as the values are. */
    request.id = 4;
    request.command_case = KV__REQUEST__COMMAND_CONFIG_SET;
    request.config_set = &body;
    body.name = (char *)(uintptr_t) "history-bytes";
    body.value = 0;
    submit_ok(cluster, 1, &request);
    return cluster;
}

/* A follower that is cut off, and needs a snapshot of some pieces when it comes back. */
struct laggard {
    struct cluster *cluster;
    unsigned follower;
    unsigned leader;
    unsigned last; /* number of the last value */
    int64_t revision;
    uint64_t offered_ms;
};

static struct laggard new_laggard(uint64_t seed)
{
    struct laggard l = {.cluster = new_cluster(seed, 64 * KV_KIB, 32 * KV_KIB), .last = 1000};

    l.leader = cluster_leader(l.cluster);
    l.follower = l.leader % 3 + 1;
    put_many(l.cluster, l.leader, 1, 50, KEYS, VALUE_BYTES);
    cluster_run_ms(l.cluster, 300);
    l.revision = status_of(l.cluster, l.follower).revision;
    cluster_crash(l.cluster, l.follower);
    put_many(l.cluster, l.leader, 51, l.last, KEYS, VALUE_BYTES);
    cluster_run_ms(l.cluster, 100);
    assert_int_equal(cluster_leader(l.cluster), l.leader);
    assert_true(replica_of(l.cluster, l.leader)->kept[0].descriptor.size_bytes >
                3 * KV_SNAPSHOT_PIECE_BYTES);
    return l;
}

static bool is_fetching(struct cluster *cluster, void *arg)
{
    struct laggard *l = arg;
    const struct kv_fetch *fetch = &replica_of(cluster, l->follower)->fetch;

    return fetch->phase == KV_FETCH_PIECES && fetch->written_offset > 0;
}

static bool has_installed(struct cluster *cluster, void *arg)
{
    struct laggard *l = arg;

    return status_of(cluster, l->follower).snapshots_installed > 0;
}

static void is_whole(struct laggard *l)
{
    assert_true(cluster_run_until(l->cluster, has_installed, l, 60000));
    get_is(l->cluster, l->follower, l->last, VALUE_BYTES);
    get_is(l->cluster, l->follower, l->last - KEYS + 1, VALUE_BYTES);
    cluster_check_same(l->cluster);
    cluster_crash(l->cluster, l->follower);
    cluster_start(l->cluster, l->follower);
    get_is(l->cluster, l->follower, l->last, VALUE_BYTES);
    cluster_check_same(l->cluster);
}

/* Enough that the others have a new snapshot. */
static void write_more(struct laggard *l)
{
    unsigned leader = cluster_leader(l->cluster);

    put_many(l->cluster, leader, l->last + 1, l->last + 600, KEYS, VALUE_BYTES);
    l->last += 600;
}

static void start_again(struct cluster *cluster, unsigned node)
{
    struct kv_error error;

    if (cluster_is_up(cluster, node)) {
        cluster_crash(cluster, node);
    }
    assert_int_equal(cluster_try_start(cluster, node, &error), 0);
}

static size_t count_snapshots(struct cluster *cluster, unsigned node)
{
    static char names[64][128];

    return fake_disk_list(cluster_disk(cluster, node), "snap", names, 64);
}

/* ---------------------------------------------------------------- the other side */

static void who_fetches_does_not_serve(void **state)
{
    struct laggard l = new_laggard(1);

    (void)state;
    cluster_start(l.cluster, l.follower);
    assert_true(cluster_run_until(l.cluster, is_fetching, &l, 5000));
    assert_false(status_of(l.cluster, l.follower).serving);
    assert_string_equal(status_of(l.cluster, l.follower).state, "starting");
    is_whole(&l);
    cluster_run_ms(l.cluster, 1000);
    assert_true(status_of(l.cluster, l.follower).serving);
    cluster_free(l.cluster);
}

static void a_laggard_that_disappears_is_forgotten(void **state)
{
    struct laggard l = new_laggard(2);

    (void)state;
    cluster_start(l.cluster, l.follower);
    assert_true(cluster_run_until(l.cluster, is_fetching, &l, 5000));
    cluster_crash(l.cluster, l.follower);
    for (int i = 0; i < 3; i++) {
        write_more(&l);
    }
    cluster_run_ms(l.cluster, 2 * KV_SNAPSHOT_FETCH_IDLE_MS);
    write_more(&l);
    cluster_run_ms(l.cluster, 1000);
    assert_int_equal(replica_of(l.cluster, l.leader)->n_kept, 2);
    assert_int_equal(count_snapshots(l.cluster, l.leader), 2);
    assert_true(status_of(l.cluster, l.leader).wal_bytes < 16 * KV_MIB);
    cluster_start(l.cluster, l.follower);
    is_whole(&l);
    cluster_free(l.cluster);
}

static void a_transfer_goes_on_where_it_was(void **state)
{
    struct laggard l = new_laggard(3);

    (void)state;
    cluster_start(l.cluster, l.follower);
    assert_true(cluster_run_until(l.cluster, is_fetching, &l, 5000));
    cluster_isolate(l.cluster, l.follower, true);
    cluster_run_ms(l.cluster, 3000);
    assert_false(has_installed(l.cluster, &l));
    cluster_isolate(l.cluster, l.follower, false);
    is_whole(&l);
    cluster_free(l.cluster);
}

static void lie_about_size(struct kv_snapshot_descriptor *descriptor, int64_t difference)
{
    descriptor->size_bytes += (uint64_t)difference;
}

static void lie_about_hash(struct kv_snapshot_descriptor *descriptor, int64_t difference)
{
    descriptor->hash ^= (uint64_t)difference;
}

static void lie(struct laggard *l,
                void (*change)(struct kv_snapshot_descriptor *, int64_t),
                int64_t difference,
                const char *message)
{
    bool heals;

    change(&replica_of(l->cluster, l->leader)->kept[0].descriptor, difference);
    forget();
    cluster_start(l->cluster, l->follower);
    cluster_run_ms(l->cluster, 25000);
    assert_int_equal(cluster_leader(l->cluster), l->leader);
    /* Told of it, or unable to send what it announced, the leader looks at its file: it is another
     * than it believes, so it takes a new one. */
    heals = strstr(said, "snapshot_dropped");
    assert_true(has_installed(l->cluster, l) == heals);
    assert_false(cluster_has_died(l->cluster, l->follower));
    assert_true(heals || status_of(l->cluster, l->follower).revision <= l->revision);
    assert_non_null(strstr(said, "snapshot_not_fetched"));
    assert_non_null(strstr(said, message));
    if (!heals) {
        /* The next one is true, and it comes to that by itself. */
        write_more(l);
    }
    is_whole(l);
    cluster_free(l->cluster);
}

static void a_descriptor_that_lies_is_refused(void **state)
{
    static const struct {
        void (*change)(struct kv_snapshot_descriptor *, int64_t);
        int64_t difference;
        const char *message;
    } lies[] = {
        {lie_about_hash, 1, "has another hash than was announced"},
        {lie_about_size, 1, "cannot send it any more"},
        {lie_about_size, KV_SNAPSHOT_PIECE_BYTES, "cannot send it any more"},
        {lie_about_size, -1, "goes beyond the"},
        {lie_about_size, -(int64_t)KV_SNAPSHOT_PIECE_BYTES, "goes beyond the"},
        {lie_about_size, INT64_C(1) << 62, "cannot be"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct laggard l = new_laggard(10 + i);

        print_message("lie %zu\n", i);
        lie(&l, lies[i].change, lies[i].difference, lies[i].message);
    }
}

enum harm { HARM_FLIP, HARM_CUT, HARM_REMOVE };

static void harm_served(uint64_t seed, enum harm harm)
{
    struct laggard l = new_laggard(seed);
    const struct kv_snapshot_descriptor *newest =
        &replica_of(l.cluster, l.leader)->kept[0].descriptor;
    struct fake_disk *disk = cluster_disk(l.cluster, l.leader);
    char name[KV_SNAPSHOT_NAME_BYTES];
    uint64_t size;

    kv_snapshot_name(name, newest->index, newest->term, KV_SNAPSHOT_COMPLETE);
    forget();
    cluster_start(l.cluster, l.follower);
    assert_true(cluster_run_until(l.cluster, is_fetching, &l, 5000));
    switch (harm) {
    case HARM_FLIP:
        fake_disk_data(disk, name, &size)[newest->size_bytes - 1000] ^= 4;
        break;
    case HARM_CUT:
        fake_disk_resize(disk, name, newest->size_bytes - 5000);
        break;
    case HARM_REMOVE:
        fake_disk_remove(disk, name);
        break;
    }
    cluster_run_ms(l.cluster, 25000);
    assert_false(cluster_has_died(l.cluster, l.follower));
    assert_false(cluster_has_died(l.cluster, l.leader));
    assert_non_null(strstr(said, "snapshot_not_fetched"));
    /* The leader has dropped it and made another, with which all comes right. */
    assert_non_null(strstr(said, "snapshot_dropped"));
    is_whole(&l);
    cluster_free(l.cluster);
}

static void a_file_that_changes_while_it_is_served_is_refused(void **state)
{
    (void)state;
    harm_served(31, HARM_FLIP);
    harm_served(32, HARM_CUT);
    harm_served(33, HARM_REMOVE);
}

/* Offers again and again, each millisecond of the way. */
static bool is_installed_under_offers(struct cluster *cluster, void *arg)
{
    struct laggard *l = arg;
    struct kv_replica *leader = replica_of(cluster, l->leader);
    struct kv_replica *follower = replica_of(cluster, l->follower);
    const struct kv_kept_snapshot *newest = &leader->kept[0];
    Kv__InstallSnapshot offer = KV__INSTALL_SNAPSHOT__INIT;

    if (cluster_now_ms(cluster) == l->offered_ms || !follower->started ||
        raft_state(&follower->raft) != RAFT_FOLLOWER) {
        return false;
    }
    l->offered_ms = cluster_now_ms(cluster);
    offer.term = raft_current_term(&leader->raft);
    offer.last_index = newest->descriptor.index;
    offer.last_term = newest->descriptor.term;
    offer.configuration_index = newest->descriptor.configuration_index;
    offer.size_bytes = newest->descriptor.size_bytes;
    offer.hash = newest->descriptor.hash;
    offer.configuration.data = newest->configuration.data;
    offer.configuration.len = newest->configuration.size;
    for (int i = 0; i < 3; i++) {
        kv_replica_receive_install(follower, kv_replica_peer(follower, l->leader), &offer);
    }
    kv_node_turn(cluster_node(cluster, l->follower));
    return follower->snapshots_installed > 0 && follower->install_sequence == 0;
}

static bool never_under_offers(struct cluster *cluster, void *arg)
{
    (void)is_installed_under_offers(cluster, arg);
    return false;
}

static void repeated_offers_change_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 41; seed < 44; seed++) {
        struct laggard l = new_laggard(seed);

        cluster_start(l.cluster, l.follower);
        assert_true(cluster_run_until(l.cluster, is_installed_under_offers, &l, 5000));
        (void)cluster_run_until(l.cluster, never_under_offers, &l, 500);
        assert_int_equal(status_of(l.cluster, l.follower).snapshots_installed, 1);
        is_whole(&l);
        cluster_free(l.cluster);
    }
}

/* ---------------------------------------------------------------- two things at once */

static bool is_in_fetch(struct cluster *cluster, void *arg)
{
    struct laggard *l = arg;

    return replica_of(cluster, l->follower)->fetch.phase == KV_FETCH_PIECES;
}

/* The own one is large, the one to be installed is small: it comes first. */
static void an_install_while_an_own_snapshot_is_written(void **state)
{
    enum { LARGE = 150000 };
    struct laggard l = {.cluster = new_cluster(50, KV_MIB, 2 * KV_MIB)};
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Delete body = KV__DELETE__INIT;
    Kv__KeyRange range = KV__KEY_RANGE__INIT;
    Kv__KeyRange *ranges = &range;
    struct kv_replica *follower;

    (void)state;
    l.leader = cluster_leader(l.cluster);
    l.follower = l.leader % 3 + 1;
    put_many(l.cluster, l.leader, 1, KEYS, KEYS, LARGE);
    cluster_run_ms(l.cluster, 1000);
    cluster_isolate(l.cluster, l.follower, true);
    range.special = KV__KEY_RANGE__SPECIAL__ALL;
    body.ranges = &ranges;
    body.n_ranges = 1;
    request.id = 5;
    request.command_case = KV__REQUEST__COMMAND_DELETE;
    request.delete_ = &body;
    submit_ok(l.cluster, l.leader, &request);
    put_many(l.cluster, l.leader, KEYS + 1, KEYS + 40, KEYS, VALUE_BYTES);
    snapshot_now(l.cluster, l.leader);
    put_many(l.cluster, l.leader, KEYS + 41, KEYS + 80, KEYS, VALUE_BYTES);
    snapshot_now(l.cluster, l.leader);
    cluster_run_ms(l.cluster, 500);
    cluster_isolate(l.cluster, l.follower, false);
    assert_true(cluster_run_until(l.cluster, is_in_fetch, &l, 20000));
    follower = replica_of(l.cluster, l.follower);
    assert_int_equal(kv_replica_take_snapshot(follower), 0);
    kv_node_turn(cluster_node(l.cluster, l.follower));
    assert_true(follower->take.under_way);
    assert_true(cluster_run_until(l.cluster, has_installed, &l, 20000));
    assert_true(follower->take.under_way);
    get_is(l.cluster, l.follower, KEYS + 80, VALUE_BYTES);
    cluster_run_ms(l.cluster, 1000);
    assert_false(follower->take.under_way);
    cluster_check_same(l.cluster);
    start_again(l.cluster, l.follower);
    get_is(l.cluster, l.follower, KEYS + 80, VALUE_BYTES);
    cluster_check_same(l.cluster);
    assert_true(count_snapshots(l.cluster, l.follower) <= 3);
    cluster_free(l.cluster);
}

/* ---------------------------------------------------------------- damage */

static void spoil(struct cluster *cluster, unsigned node, const struct kv_snapshot_descriptor *what)
{
    char name[KV_SNAPSHOT_NAME_BYTES];
    uint64_t size;

    kv_snapshot_name(name, what->index, what->term, KV_SNAPSHOT_COMPLETE);
    fake_disk_data(cluster_disk(cluster, node), name, &size)[what->size_bytes / 2] ^= 16;
}

/* A file that was refused is in nobody's way. */
static void a_snapshot_replaces_a_damaged_one_of_its_index(void **state)
{
    struct cluster *cluster = new_cluster(60, 64 * KV_KIB, 0);
    unsigned follower = cluster_leader(cluster) % 3 + 1;
    struct kv_snapshot_descriptor newest;

    (void)state;
    put_many(cluster, follower, 1, 100, KEYS, VALUE_BYTES);
    snapshot_now(cluster, follower);
    put_many(cluster, follower, 101, 200, KEYS, VALUE_BYTES);
    cluster_run_ms(cluster, 300);
    snapshot_now(cluster, follower);
    newest = replica_of(cluster, follower)->kept[0].descriptor;
    cluster_crash(cluster, follower);
    spoil(cluster, follower, &newest);
    forget();
    cluster_start(cluster, follower);
    assert_non_null(strstr(said, "snapshot_refused"));
    assert_non_null(strstr(said, "an older one is tried"));
    get_is(cluster, follower, 200, VALUE_BYTES);
    snapshot_now(cluster, follower);
    assert_int_equal(replica_of(cluster, follower)->kept[0].descriptor.index, newest.index);
    cluster_crash(cluster, follower);
    forget();
    cluster_start(cluster, follower);
    assert_null(strstr(said, "snapshot_refused"));
    assert_int_equal(status_of(cluster, follower).snapshot_index, newest.index);
    cluster_check_same(cluster);
    cluster_free(cluster);
}

static void without_a_sound_one_it_does_not_start(void **state)
{
    struct cluster *cluster = new_cluster(61, 64 * KV_KIB, 32 * KV_KIB);
    unsigned follower = cluster_leader(cluster) % 3 + 1;
    struct kv_snapshot_descriptor kept[2];
    struct kv_error error;

    (void)state;
    put_many(cluster, follower, 1, 1000, KEYS, VALUE_BYTES);
    cluster_run_ms(cluster, 1000);
    assert_int_equal(replica_of(cluster, follower)->n_kept, 2);
    kept[0] = replica_of(cluster, follower)->kept[0].descriptor;
    kept[1] = replica_of(cluster, follower)->kept[1].descriptor;
    cluster_crash(cluster, follower);
    spoil(cluster, follower, &kept[0]);
    spoil(cluster, follower, &kept[1]);
    assert_int_equal(cluster_try_start(cluster, follower, &error), KV_CORRUPT);
    assert_non_null(strstr(error.message, "there is no sound snapshot of what was before"));
    spoil(cluster, follower, &kept[1]);
    cluster_start(cluster, follower);
    get_is(cluster, follower, 1000, VALUE_BYTES);
    cluster_check_same(cluster);
    cluster_free(cluster);
}

/* A newer server has written it: this one neither tries an older one nor touches it. */
static void one_of_a_newer_format_keeps_the_node_from_starting(void **state)
{
    struct cluster *cluster = new_cluster(63, 64 * KV_KIB, 32 * KV_KIB);
    unsigned follower = cluster_leader(cluster) % 3 + 1;
    struct kv_snapshot_descriptor newest;
    char name[KV_SNAPSHOT_NAME_BYTES];
    struct kv_snapshot_head head;
    struct kv_error error;
    uint64_t size;
    uint8_t *data;

    (void)state;
    put_many(cluster, follower, 1, 100, KEYS, VALUE_BYTES);
    cluster_run_ms(cluster, 1000);
    newest = replica_of(cluster, follower)->kept[0].descriptor;
    cluster_crash(cluster, follower);
    kv_snapshot_name(name, newest.index, newest.term, KV_SNAPSHOT_COMPLETE);
    data = fake_disk_data(cluster_disk(cluster, follower), name, &size);
    assert_null(kv_snapshot_head_decode(data, &head));
    head.format_version++;
    (void)kv_snapshot_head_encode(data, &head);
    assert_int_equal(cluster_try_start(cluster, follower, &error), KV_WRONG_NODE);
    assert_non_null(strstr(error.message, "upgrade the server"));
    head.format_version--;
    (void)kv_snapshot_head_encode(data, &head);
    cluster_start(cluster, follower);
    assert_int_equal(replica_of(cluster, follower)->restored_index, newest.index);
    cluster_free(cluster);
}

/* Whose disk cannot read it may still have it: it is not told to be replaced. */
static void what_cannot_be_read_is_no_reason_to_replace_a_member(void **state)
{
    struct cluster *cluster = new_cluster(62, 64 * KV_KIB, 32 * KV_KIB);
    unsigned follower = cluster_leader(cluster) % 3 + 1;
    unsigned n_refused = 0;

    (void)state;
    put_many(cluster, follower, 1, 100, KEYS, VALUE_BYTES);
    cluster_run_ms(cluster, 1000);
    assert_int_equal(replica_of(cluster, follower)->n_kept, 2);
    cluster_crash(cluster, follower);
    fake_disk_fail_at(cluster_disk(cluster, follower), "snap", true, 300);
    for (int i = 0; i < 30; i++) {
        struct kv_error error;

        forget();
        if (cluster_try_start(cluster, follower, &error) == 0) {
            cluster_crash(cluster, follower);
            continue;
        }
        assert_int_equal(error.status, KV_IO);
        assert_non_null(strstr(error.message, "snap"));
        n_refused += strstr(said, "the whole log is tried") != NULL;
    }
    assert_true(n_refused > 0);
    fake_disk_fail_at(cluster_disk(cluster, follower), NULL, false, 0);
    cluster_start(cluster, follower);
    get_is(cluster, follower, 100, VALUE_BYTES);
    cluster_check_same(cluster);
    cluster_free(cluster);
}

/* ---------------------------------------------------------------- the power goes */

/* Writes on, with a cut at the n-th call that changes the disk; false: it was not reached. */
static bool cut_during_snapshots(uint64_t n)
{
    struct cluster *cluster = new_cluster(70, 16 * KV_KIB, 8 * KV_KIB);
    unsigned follower = cluster_leader(cluster) % 3 + 1;
    unsigned other = follower % 3 + 1;
    bool is_cut;

    put_many(cluster, other, 1, 70, KEYS, 150);
    fake_disk_cut_at(cluster_disk(cluster, follower), n);
    put_many(cluster, other, 71, 200, KEYS, 150);
    cluster_run_ms(cluster, 300);
    is_cut = fake_disk_is_cut(cluster_disk(cluster, follower));
    start_again(cluster, follower);
    get_is(cluster, follower, 1, 150);
    get_is(cluster, follower, 200, 150);
    cluster_check_same(cluster);
    cluster_free(cluster);
    return is_cut;
}

static void the_power_goes_at_any_call_during_snapshots(void **state)
{
    uint64_t n = 1;

    (void)state;
    while (cut_during_snapshots(n)) {
        n += getenv("KV_LONG") ? 1 : 7;
    }
    assert_true(n > 200);
}

static bool is_done_or_dead(struct cluster *cluster, void *arg)
{
    struct laggard *l = arg;

    return cluster_has_died(cluster, l->follower) ||
           fake_disk_is_cut(cluster_disk(cluster, l->follower)) || has_installed(cluster, arg);
}

static bool cut_during_install(uint64_t n)
{
    struct laggard l = {.cluster = new_cluster(71, 16 * KV_KIB, 8 * KV_KIB)};
    struct fake_disk *disk;
    struct kv_error error;
    bool is_cut;

    l.leader = cluster_leader(l.cluster);
    l.follower = l.leader % 3 + 1;
    put_many(l.cluster, l.leader, 1, 60, KEYS, 150);
    cluster_crash(l.cluster, l.follower);
    put_many(l.cluster, l.leader, 61, 400, KEYS, 150);
    disk = cluster_disk(l.cluster, l.follower);
    fake_disk_cut_at(disk, n);
    if (cluster_try_start(l.cluster, l.follower, &error) == 0) {
        assert_true(cluster_run_until(l.cluster, is_done_or_dead, &l, 20000));
        cluster_run_ms(l.cluster, 200);
        is_cut = fake_disk_is_cut(disk);
    } else {
        is_cut = true;
    }
    start_again(l.cluster, l.follower);
    get_is(l.cluster, l.follower, 1, 150);
    get_is(l.cluster, l.follower, 400, 150);
    cluster_check_same(l.cluster);
    put_many(l.cluster, l.follower, 401, 500, KEYS, 150);
    start_again(l.cluster, l.follower);
    get_is(l.cluster, l.follower, 500, 150);
    cluster_check_same(l.cluster);
    cluster_free(l.cluster);
    return is_cut;
}

static void the_power_goes_at_any_call_during_an_install(void **state)
{
    uint64_t n = 1;

    (void)state;
    while (cut_during_install(n)) {
        n++;
    }
    assert_true(n > 20);
}

static int listen_to_log(void **state)
{
    (void)state;
    kv_log_set_sink(note_line, NULL);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_fetches_does_not_serve),
        cmocka_unit_test(a_laggard_that_disappears_is_forgotten),
        cmocka_unit_test(a_transfer_goes_on_where_it_was),
        cmocka_unit_test(a_descriptor_that_lies_is_refused),
        cmocka_unit_test(a_file_that_changes_while_it_is_served_is_refused),
        cmocka_unit_test(repeated_offers_change_nothing),
        cmocka_unit_test(an_install_while_an_own_snapshot_is_written),
        cmocka_unit_test(a_snapshot_replaces_a_damaged_one_of_its_index),
        cmocka_unit_test(without_a_sound_one_it_does_not_start),
        cmocka_unit_test(one_of_a_newer_format_keeps_the_node_from_starting),
        cmocka_unit_test(what_cannot_be_read_is_no_reason_to_replace_a_member),
        cmocka_unit_test(the_power_goes_at_any_call_during_snapshots),
        cmocka_unit_test(the_power_goes_at_any_call_during_an_install),
    };

    return cmocka_run_group_tests(tests, listen_to_log, NULL);
}
