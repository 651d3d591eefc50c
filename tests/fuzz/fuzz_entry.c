/* Entries of the log, as they are applied: two machines, one as on a leader (with replies), one as
 * on a follower, go through the same entries, whatever those hold. They stay equal, keep their
 * invariants, and what was readable at a revision is read the same later. After some entries the
 * follower is one that a snapshot of the leader has made.
 *
 * Input: entries one after the other, each behind its size (two bytes). */
#include "common/arena.h"
#include "common/crc32c.h"
#include "proto/entry.h"
#include "proto/log.pb-c.h"
#include "server/machine/machine.h"
#include "server/machine/snapshot.h"
#include "tests/fuzz/requests.h"

enum { POINTS_MAX = 64, PIECE_BYTES = 512, RELOAD_ENTRIES = 5 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the whole store was at a revision. */
struct point {
    int64_t revision;
    uint64_t n_keys;
    uint32_t digest;
};

struct fuzz {
    struct kv_machine *leader;
    struct kv_machine *follower;
    struct kv_arena arena;
    uint64_t index;
    size_t n_points;
    struct point points[POINTS_MAX];
    bool may_end_keys; /* the entry has not done so yet */
};

/* ---------------------------------------------------------------- history */

static void digest_piece(void *arg, Kv__RangeResult *result, int64_t revision)
{
    struct point *point = arg;

    KV_ASSERT(revision == point->revision);
    for (size_t i = 0; i < result->n_kvs; i++) {
        const Kv__KeyValue *kv = result->kvs[i];
        uint8_t numbers[48];

        kv_put_u64(numbers, kv->key.len);
        kv_put_u64(numbers + 8, (uint64_t)kv->create_revision);
        kv_put_u64(numbers + 16, (uint64_t)kv->mod_revision);
        kv_put_u64(numbers + 24, (uint64_t)kv->version);
        kv_put_u64(numbers + 32, (uint64_t)kv->counter);
        kv_put_u64(numbers + 40, kv->elements);
        point->digest = kv_crc32c(numbers, sizeof numbers, point->digest);
        point->digest = kv_crc32c(kv->key.data, kv->key.len, point->digest);
        point->digest = kv_crc32c(kv->value.data, kv->value.len, point->digest);
        point->n_keys++;
    }
}

/* Reads everything at the revision, in pieces. */
static struct point read_point(struct kv_machine *machine, int64_t revision)
{
    struct point point = {.revision = revision};
    struct kv_range_stream *stream = calloc(1, sizeof *stream);
    Kv__KeyRange all = KV__KEY_RANGE__INIT;
    Kv__Range range = KV__RANGE__INIT;
    struct kv_error error;
    int status;

    KV_ASSERT(stream);
    all.special = KV__KEY_RANGE__SPECIAL__ALL;
    range.range = &all;
    range.at_revision = revision;
    do {
        status = kv_machine_range_piece(
            machine, &range, stream, PIECE_BYTES, digest_piece, &point, &error);
    } while (status == 1);
    KV_ASSERT(status == (revision < kv_machine_oldest_revision(machine) ? KV_COMPACTED : 0));
    free(stream);
    return point;
}

static void note_point(struct fuzz *fuzz)
{
    int64_t revision = kv_machine_revision(fuzz->leader);
    struct kv_machine_stats stats;
    struct point *point;

    if (fuzz->n_points == POINTS_MAX ||
        (fuzz->n_points > 0 && fuzz->points[fuzz->n_points - 1].revision == revision)) {
        return;
    }
    point = &fuzz->points[fuzz->n_points++];
    *point = read_point(fuzz->leader, revision);
    kv_machine_stats(fuzz->leader, &stats);
    KV_ASSERT(stats.keys == point->n_keys);
}

static void check_points(const struct fuzz *fuzz)
{
    for (size_t i = 0; i < fuzz->n_points; i++) {
        const struct point *then = &fuzz->points[i];
        struct point now = read_point(i % 2 ? fuzz->leader : fuzz->follower, then->revision);

        KV_ASSERT(then->revision < kv_machine_oldest_revision(fuzz->leader) ||
                  (now.n_keys == then->n_keys && now.digest == then->digest));
    }
}

/* ---------------------------------------------------------------- entries */

/* Our writer makes of the parts what protobuf-c packs. */
static void check_rewritten(const Kv__Entry *entry, const struct kv_slice *requests, size_t n)
{
    size_t size = kv__entry__get_packed_size(entry);
    size_t max_size = 0;
    uint8_t *theirs = malloc(size + 1);
    uint8_t *ours;
    size_t at;

    for (size_t i = 0; i < n; i++) {
        max_size += requests[i].size;
    }
    max_size = kv_entry_size_max(max_size, n);
    ours = malloc(max_size);
    KV_ASSERT(theirs && ours && size <= max_size);
    at = kv_entry_write_head(ours, entry->machine_version, entry->cluster_time_ms);
    for (size_t i = 0; i < n; i++) {
        at += kv_entry_write_request(ours + at, requests[i]);
    }
    kv__entry__pack(entry, theirs);
    KV_ASSERT(at == size && memcmp(ours, theirs, size) == 0);
    free(ours);
    free(theirs);
}

/* What our reader takes means the same to protobuf-c, where that takes it, too (it is stricter
 * about the length of a length). */
static void check_entry_bytes(struct kv_slice bytes)
{
    Kv__Entry *entry = kv__entry__unpack(NULL, bytes.size, bytes.data);
    struct kv_slice *requests = calloc(bytes.size + 1, sizeof *requests);
    struct kv_entry_reader reader;
    size_t n = 0;
    int status = kv_entry_read_head(bytes, &reader);

    KV_ASSERT(requests);
    if (status == 0) {
        while ((status = kv_entry_read_request(&reader, &requests[n])) == 1) {
            KV_ASSERT(requests[n].data >= bytes.data &&
                      requests[n].data + requests[n].size <= bytes.data + bytes.size);
            n++;
        }
    }
    if (status == 0 && entry) {
        KV_ASSERT(reader.machine_version == entry->machine_version &&
                  reader.cluster_time_ms == entry->cluster_time_ms && n == entry->n_requests);
        for (size_t i = 0; i < n; i++) {
            KV_ASSERT(kv_slice_equal(requests[i],
                                     kv_slice_of(entry->requests[i].data, entry->requests[i].len)));
        }
        check_rewritten(entry, requests, n);
    }
    free(requests);
    if (entry) {
        kv__entry__free_unpacked(entry, NULL);
    }
}

static void on_reply(void *arg, Kv__Reply *reply)
{
    fuzz_check_reply(arg, reply);
}

/* Unpacked for each machine, as each node does it. */
static Kv__Request *unpack(struct fuzz *fuzz, struct kv_slice bytes)
{
    ProtobufCAllocator allocator;

    kv_arena_protobuf_allocator(&fuzz->arena, &allocator);
    return kv__request__unpack(&allocator, bytes.size, bytes.data);
}

static void run_request(struct fuzz *fuzz, struct kv_slice bytes)
{
    int64_t revision = kv_machine_revision(fuzz->leader);
    Kv__Request *request;
    struct kv_error error;
    bool unknown;
    bool is_write, renews;

    /* No leader proposes what the scan refuses. */
    if (kv_proto_scan(&kv__request__descriptor, bytes, KV_DECODED_BYTES_MAX, &unknown, &error) !=
        0) {
        return;
    }
    fuzz_check_request_bytes(bytes);
    kv_arena_reset(&fuzz->arena);
    request = unpack(fuzz, bytes);
    if (!request) {
        return;
    }
    is_write = kv_command_classify(request) == KV_COMMAND_WRITE;
    renews = request->command_case == KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE;
    kv_machine_execute(fuzz->leader, request, on_reply, request);
    request = unpack(fuzz, bytes);
    KV_ASSERT(request);
    kv_machine_execute(fuzz->follower, request, NULL, NULL);
    KV_ASSERT(kv_machine_revision(fuzz->leader) <= revision + is_write + fuzz->may_end_keys);
    fuzz->may_end_keys = fuzz->may_end_keys && renews;
}

static void check_same(const struct fuzz *fuzz)
{
    const struct kv_machine *a = fuzz->leader;
    const struct kv_machine *b = fuzz->follower;

    KV_ASSERT(kv_machine_state_hash(a) == kv_machine_state_hash(b));
    KV_ASSERT(kv_machine_revision(a) == kv_machine_revision(b));
    KV_ASSERT(kv_machine_oldest_revision(a) == kv_machine_oldest_revision(b));
    KV_ASSERT(kv_machine_cluster_time_ms(a) == kv_machine_cluster_time_ms(b));
    KV_ASSERT(memcmp(kv_machine_settings_of(a),
                     kv_machine_settings_of(b),
                     sizeof(struct kv_machine_settings)) == 0);
}

/* The follower becomes what a snapshot of the leader holds. */
static void reload(struct fuzz *fuzz)
{
    struct kv_machine_loader *loader;
    struct kv_machine_view *view;
    struct kv_error error;
    struct kv_buf buf;

    kv_buf_init(&buf, 4 * (size_t)FUZZ_STORE_BYTES_MAX);
    KV_ASSERT(kv_machine_view_open(fuzz->leader, &view) == 0);
    while (kv_machine_view_read(view, &buf, buf.size + PIECE_BYTES) == 1) {
    }
    kv_machine_view_close(fuzz->leader, view);
    kv_machine_close(fuzz->follower);
    KV_ASSERT(kv_machine_loader_open(&loader) == 0);
    KV_ASSERT(kv_machine_loader_feed(loader, kv_slice_of(buf.data, buf.size), &error) == 0);
    KV_ASSERT(kv_machine_loader_finish(loader, &fuzz->follower, &error) == 0);
    kv_machine_loader_close(loader);
    kv_buf_deinit(&buf);
}

/* False: of a newer machine; a node ends there. */
static bool apply(struct fuzz *fuzz, struct kv_slice bytes)
{
    int64_t time_ms = kv_machine_cluster_time_ms(fuzz->leader);
    struct kv_entry_reader reader;
    struct kv_slice request;
    int status;

    check_entry_bytes(bytes);
    fuzz->index++;
    if (kv_entry_read_head(bytes, &reader) != 0) {
        return true;
    }
    status =
        kv_machine_begin(fuzz->leader, fuzz->index, reader.machine_version, reader.cluster_time_ms);
    KV_ASSERT(kv_machine_begin(
                  fuzz->follower, fuzz->index, reader.machine_version, reader.cluster_time_ms) ==
              status);
    if (status != 0) {
        KV_ASSERT(status == KV_UNSUPPORTED && reader.machine_version > KV_MACHINE_VERSION);
        return false;
    }
    fuzz->may_end_keys = true;
    KV_ASSERT(kv_machine_applied_index(fuzz->leader) == fuzz->index);
    KV_ASSERT(kv_machine_cluster_time_ms(fuzz->leader) >= time_ms);
    while (kv_entry_read_request(&reader, &request) == 1 && !fuzz_is_full(fuzz->leader)) {
        run_request(fuzz, request);
    }
    kv_machine_end(fuzz->leader);
    kv_machine_end(fuzz->follower);
    check_same(fuzz);
    note_point(fuzz);
    if (fuzz->index % RELOAD_ENTRIES == 0) {
        reload(fuzz);
        check_same(fuzz);
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz fuzz = {0};
    bool go_on = true;

    KV_ASSERT(kv_machine_open(&fuzz.leader) == 0 && kv_machine_open(&fuzz.follower) == 0);
    kv_arena_init(&fuzz.arena, 4 * KV_DECODED_BYTES_MAX);
    while (size > 2 && go_on && !fuzz_is_full(fuzz.leader)) {
        size_t n = kv_get_u16(data);

        data += 2;
        size -= 2;
        n = n < size ? n : size;
        go_on = apply(&fuzz, kv_slice_of(data, n));
        data += n;
        size -= n;
    }
    check_points(&fuzz);
    kv_machine_check_invariants(fuzz.leader);
    kv_machine_check_invariants(fuzz.follower);
    kv_arena_deinit(&fuzz.arena);
    kv_machine_close(fuzz.leader);
    kv_machine_close(fuzz.follower);
    return 0;
}
