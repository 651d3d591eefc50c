/* Random writes, truncations, votes, boundaries and releases, with crashes at any call to the disk
 * and any part of what was not synced kept: after recovery all that was reported synced is there,
 * the rest is a clean prefix of what was written, and nothing else. A failing seed is printed;
 * KV_SEED replays it. */
#include "tests/support/seeds.h"
#include "tests/support/wal_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { INDEXES_MAX = 4096, EVENTS_MAX = 8192, SEEDS = 400, STEPS = 400 };

/* What a log should hold. */
struct model {
    uint64_t term, voted_for;
    uint64_t boundary_index, boundary_term;
    uint64_t last_index;
    uint64_t ids[INDEXES_MAX]; /* by index */
    uint64_t terms[INDEXES_MAX];
};

enum event_kind { EVENT_VOTE, EVENT_TRUNCATE, EVENT_ENTRY, EVENT_BOUNDARY };

/* One record, as the log may lose it. */
struct event {
    enum event_kind kind;
    uint64_t sequence; /* of the write that it belongs to */
    uint64_t index;
    uint64_t term;
    uint64_t id;
};

struct run {
    uint64_t random;
    struct fake_disk *disk;
    struct wal_rig rig;
    struct model base; /* after the last recovery */
    struct model now;
    struct model scratch;
    struct event events[EVENTS_MAX]; /* since */
    size_t n_events;
    uint64_t committed; /* never truncated */
    uint64_t released;
    uint64_t next_id;
    uint64_t now_ms;
    unsigned n_crashes, n_torn, n_releases, n_recovery_crashes;
    unsigned n_room_made; /* a release let a log go on that stood still for want of room */
};

static struct run *run;
static uint64_t present_seed;

static uint64_t below(uint64_t n)
{
    run->random ^= run->random >> 12;
    run->random ^= run->random << 25;
    run->random ^= run->random >> 27;
    return (run->random * UINT64_C(2685821657736338717) >> 33) % n;
}

static void apply(struct model *model, const struct event *event)
{
    switch (event->kind) {
    case EVENT_VOTE:
        model->term = event->term;
        model->voted_for = event->id;
        break;
    case EVENT_TRUNCATE:
        model->last_index = event->index - 1;
        break;
    case EVENT_ENTRY:
        assert_int_equal(event->index, model->last_index + 1);
        assert_true(event->index < INDEXES_MAX);
        model->last_index = event->index;
        model->ids[event->index] = event->id;
        model->terms[event->index] = event->term;
        break;
    case EVENT_BOUNDARY:
        model->boundary_index = event->index;
        model->boundary_term = event->term;
        model->last_index = event->index;
        break;
    }
}

static void note(struct event event)
{
    assert_true(run->n_events < EVENTS_MAX);
    run->events[run->n_events++] = event;
    apply(&run->now, &event);
}

/* ---------------------------------------------------------------- what happens to the log */

static void write_vote(void)
{
    uint64_t term = run->now.term + 1 + below(3);
    uint64_t vote = below(6);
    uint64_t sequence = kv_wal_write_vote(run->rig.wal, term, vote);

    note((struct event){EVENT_VOTE, sequence, 0, term, vote});
}

/* The first entry that may be replaced. */
static uint64_t first_loose(void)
{
    uint64_t first =
        run->committed > run->now.boundary_index ? run->committed : run->now.boundary_index;

    return first + 1;
}

static void write_entries(bool truncate)
{
    static uint8_t data[8][1024];
    struct kv_wal_entry entries[8];
    uint64_t first = run->now.last_index + 1;
    uint64_t sequence, id = run->next_id;
    size_t n = 1 + below(8);

    if (truncate && first_loose() <= run->now.last_index) {
        first = first_loose() + below(run->now.last_index - first_loose() + 1);
    }
    for (size_t i = 0; i < n; i++) {
        size_t size = below(4) == 0 ? 8 + below(900) : 8 + below(60);

        wal_rig_fill(data[i], size, run->next_id++);
        entries[i] = (struct kv_wal_entry){run->now.term, 1, {data[i], size}};
    }
    sequence = kv_wal_write_entries(run->rig.wal, first, entries, n);
    if (first <= run->now.last_index) {
        note((struct event){EVENT_TRUNCATE, sequence, first, 0, 0});
    }
    for (size_t i = 0; i < n; i++) {
        note((struct event){EVENT_ENTRY, sequence, first + i, run->now.term, id + i});
    }
}

static void write_boundary(void)
{
    uint64_t index = first_loose() + below(30);
    uint64_t sequence = kv_wal_write_boundary(run->rig.wal, index, run->now.term);

    note((struct event){EVENT_BOUNDARY, sequence, index, run->now.term, 0});
}

/* What is synced may count as committed. */
static void commit(void)
{
    if (run->rig.synced + 1 >= (run->n_events ? run->events[run->n_events - 1].sequence + 1 : 0)) {
        uint64_t least = first_loose() - 1;

        if (run->now.last_index > least) {
            run->committed = least + below(run->now.last_index - least + 1);
        } else {
            run->committed = least;
        }
    }
}

/* What is synced and not replaced by what waits may be committed, too, while the log stands still.
 */
static void commit_before_what_waits(void)
{
    uint64_t last = run->base.last_index;

    for (size_t i = 0; i < run->n_events; i++) {
        const struct event *event = &run->events[i];

        if (event->kind == EVENT_TRUNCATE && event->index <= last) {
            last = event->index - 1;
        } else if (event->kind == EVENT_BOUNDARY ||
                   (event->kind == EVENT_ENTRY && event->sequence <= run->rig.synced)) {
            last = event->index;
        }
    }
    if (last >= first_loose()) {
        run->committed = first_loose() + below(last - first_loose() + 1);
    }
}

static void release(void)
{
    if (run->committed > 0) {
        uint64_t index = 1 + below(run->committed);

        bool stands_still = kv_wal_is_out_of_room(run->rig.wal);

        run->released = index > run->released ? index : run->released;
        kv_wal_release(run->rig.wal, index);
        run->n_releases++;
        if (stands_still && below(2) == 0) {
            wal_rig_sync(&run->rig);
            run->n_room_made += !kv_wal_is_out_of_room(run->rig.wal);
        }
    }
}

/* A few segments more than there are, or enough. */
static void change_room(void)
{
    struct kv_wal_stats stats;

    kv_wal_stats(run->rig.wal, &stats);
    fake_disk_set_size(run->disk,
                       stats.segments > 0 && below(3) > 0
                           ? fake_disk_used(run->disk) + below(2) * run->rig.options.segment_bytes
                           : 0);
}

/* ---------------------------------------------------------------- recovery and its judge */

static int visit(void *arg, uint64_t index, const struct kv_wal_entry *entry)
{
    struct model *model = arg;
    uint64_t id;

    assert_true(wal_rig_check(entry->data, &id));
    assert_int_equal(entry->type, 1);
    model->ids[index] = id;
    model->terms[index] = entry->term;
    return 0;
}

static bool same(const struct model *model, const struct model *found, uint64_t first_index)
{
    if (model->term != found->term || model->voted_for != found->voted_for ||
        model->boundary_index != found->boundary_index ||
        model->boundary_term != found->boundary_term || model->last_index != found->last_index) {
        return false;
    }
    for (uint64_t i = first_index; i <= model->last_index; i++) {
        if (model->ids[i] != found->ids[i] || model->terms[i] != found->terms[i]) {
            return false;
        }
    }
    return true;
}

/* The recovered log must be what stood after some event, not before the last one reported synced.
 */
static void judge(uint64_t synced)
{
    static struct model found;
    const struct kv_wal_state *state = kv_wal_recovered(run->rig.wal);
    size_t at = 0;

    found = (struct model){
        .term = state->term,
        .voted_for = state->voted_for,
        .boundary_index = state->boundary_index,
        .boundary_term = state->boundary_term,
        .last_index = state->last_index,
    };
    assert_true(state->last_index < INDEXES_MAX);
    assert_int_equal(kv_wal_first_index(run->rig.wal), state->first_index);
    assert_int_equal(kv_wal_last_index(run->rig.wal), state->last_index);
    assert_true(state->first_index <=
                (run->released > state->boundary_index ? run->released : state->boundary_index) +
                    1);
    assert_int_equal(
        kv_wal_visit(
            run->rig.wal, state->first_index, state->last_index, visit, &found, &run->rig.error),
        0);
    run->scratch = run->base;
    while (at < run->n_events && run->events[at].sequence <= synced) {
        apply(&run->scratch, &run->events[at++]);
    }
    while (!same(&run->scratch, &found, state->first_index)) {
        assert_true(at < run->n_events);
        apply(&run->scratch, &run->events[at++]);
    }
    run->base = run->now = run->scratch;
    run->n_events = 0;
    run->n_torn += state->torn_bytes > 0;
}

static void crash(void)
{
    uint64_t synced = run->rig.synced;
    int status;

    run->n_crashes++;
    if (below(3) == 0) {
        /* Killed, even between a write and its sync: the disk goes on. */
        fake_disk_cut_at(run->disk, 0);
        fake_disk_close_all(run->disk);
    } else {
        fake_disk_crash(run->disk);
    }
    wal_rig_close(&run->rig);
    for (;;) {
        /* Even while it recovers. */
        fake_disk_cut_at(run->disk, below(3) == 0 ? 1 + below(8) : 0);
        status = wal_rig_open(&run->rig);
        if (!fake_disk_is_cut(run->disk)) {
            break;
        }
        assert_int_equal(status, KV_IO);
        run->n_recovery_crashes++;
        if (below(3) == 0) {
            fake_disk_cut_at(run->disk, 0);
            fake_disk_close_all(run->disk);
        } else {
            fake_disk_crash(run->disk);
        }
    }
    fake_disk_cut_at(run->disk, 0);
    if (status != 0) {
        print_error("%s\n", run->rig.error.message);
    }
    assert_int_equal(status, 0);
    judge(synced);
}

/* ---------------------------------------------------------------- reads while it runs */

struct read_check {
    struct kv_wal_read read;
    bool done;
};

static void on_read(struct kv_wal_read *read, int status)
{
    struct read_check *check = read->arg;

    check->done = true;
    if (status == KV_NOT_FOUND) {
        return;
    }
    assert_int_equal(status, 0);
    assert_true(read->n_entries > 0);
    for (size_t i = 0; i < read->n_entries; i++) {
        uint64_t index = read->first_index + i;
        uint64_t id;

        assert_true(index <= read->last_index);
        assert_true(wal_rig_check(read->entries[i].data, &id));
        assert_int_equal(id, run->now.ids[index]);
        assert_int_equal(read->entries[i].term, run->now.terms[index]);
    }
}

/* Reads, and truncates or appends before the answer comes. */
static void read_back(void)
{
    struct read_check check = {.read = {.done = on_read, .arg = &check}};
    uint64_t first = kv_wal_first_index(run->rig.wal);

    if (first > run->now.last_index) {
        return;
    }
    check.read.first_index = first + below(run->now.last_index - first + 1);
    check.read.last_index = check.read.first_index + below(100);
    check.read.max_bytes = 1 + below(3000);
    kv_wal_read(run->rig.wal, &check.read);
    if (below(2) == 0) {
        write_entries(true);
    }
    while (!check.done) {
        assert_true(wal_rig_step(&run->rig.file_worker));
    }
    kv_wal_read_deinit(&check.read);
}

static void step(void)
{
    uint64_t choice = below(100);

    if (choice < 40) {
        write_entries(false);
    } else if (choice < 48) {
        write_entries(true);
    } else if (choice < 54) {
        write_vote();
    } else if (choice < 55) {
        write_boundary();
    } else if (choice < 58) {
        release();
    } else if (choice < 62) {
        commit();
    } else if (choice < 66) {
        read_back();
    } else if (choice < 70) {
        run->now_ms += 700;
        kv_wal_tick(run->rig.wal, run->now_ms);
    } else if (choice < 71) {
        change_room();
    } else if (choice < 73 && kv_wal_is_out_of_room(run->rig.wal)) {
        commit_before_what_waits();
        release();
    } else if (choice < 80) {
        kv_wal_flush(run->rig.wal);
    } else if (choice < 88) {
        wal_rig_step(&run->rig.log_worker);
    } else if (choice < 96) {
        wal_rig_step(&run->rig.file_worker);
    } else if (choice < 98) {
        wal_rig_sync(&run->rig);
    } else if (choice < 99) {
        fake_disk_cut_at(run->disk, 1 + below(20));
    } else {
        crash();
    }
    if (fake_disk_is_cut(run->disk)) {
        crash();
    }
}

static void one_seed(uint64_t seed)
{
    struct run *total = run;

    *run = (struct run){.random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1,
                        .next_id = 1,
                        .n_crashes = total->n_crashes,
                        .n_torn = total->n_torn,
                        .n_releases = total->n_releases,
                        .n_recovery_crashes = total->n_recovery_crashes,
                        .n_room_made = total->n_room_made};
    run->disk = fake_disk_new(seed);
    wal_rig_init(&run->rig, fake_disk_ops(run->disk), 4096 + 512 * below(8));
    assert_int_equal(wal_rig_open(&run->rig), 0);
    for (int i = 0; i < STEPS; i++) {
        step();
    }
    wal_rig_sync(&run->rig);
    if (fake_disk_is_cut(run->disk)) {
        crash();
    }
    assert_int_equal(run->rig.n_failed, 0);
    crash();
    wal_rig_close(&run->rig);
    fake_disk_free(run->disk);
}

static void crashes_lose_nothing_synced(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(SEEDS);

    (void)state;
    run = calloc(1, sizeof *run);
    assert_non_null(run);
    for (present_seed = seeds.first; present_seed <= seeds.last; present_seed++) {
        one_seed(present_seed);
    }
    print_message("%u crashes, %u torn tails, %u crashes in recovery, %u releases, %u made room\n",
                  run->n_crashes,
                  run->n_torn,
                  run->n_recovery_crashes,
                  run->n_releases,
                  run->n_room_made);
    /* A run that never came to these proves nothing. */
    if (seeds.last - seeds.first + 1 >= SEEDS) {
        assert_true(run->n_crashes > SEEDS && run->n_torn > 20 && run->n_recovery_crashes > 20 &&
                    run->n_releases > SEEDS && run->n_room_made > 20);
    }
    free(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crashes_lose_nothing_synced),
    };
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);

    if (n_failed > 0) {
        print_error("the failing seed: %llu\n", (unsigned long long)present_seed);
    }
    return n_failed;
}
