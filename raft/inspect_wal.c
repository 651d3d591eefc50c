/* The log as text. Each segment is read by itself for what it holds; the verdict is that of the
 * recovery itself, run over a disk that lets nothing be changed. */
#include "common/assert.h"
#include "raft/inspect.h"
#include "raft/inspect_internal.h"
#include "raft/wal.h"
#include "raft/wal_format.h"

#include <errno.h>
#include <inttypes.h>
#include <raft.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONFIGURATIONS_MAX = 32, /* printed of one segment */
    TRIES_MAX = 8,           /* of a log that a running node writes to */
    KINDS = KV_WAL_NEXT + 1,
};

static const char *const kind_names[KINDS] = {
    [KV_WAL_ENTRY] = "entry",
    [KV_WAL_VOTE] = "vote",
    [KV_WAL_TRUNCATE] = "truncation",
    [KV_WAL_BOUNDARY] = "boundary",
    [KV_WAL_SYNCED] = "synced",
    [KV_WAL_SEGMENT] = "head",
    [KV_WAL_NEXT] = "next",
};

/* ---------------------------------------------------------------- a disk that cannot be changed */

struct view {
    struct kv_disk_ops ops;
    const struct kv_disk *disk;
};

static int view_open(void *arg, const char *path, unsigned flags, struct kv_file **ret_file)
{
    const struct kv_disk *disk = ((struct view *)arg)->disk;

    return flags & KV_DISK_CREATE ? -EROFS
                                  : disk->ops->open(disk->disk, path, KV_DISK_READ, ret_file);
}

static void view_close(void *arg, struct kv_file *file)
{
    const struct kv_disk *disk = ((struct view *)arg)->disk;

    disk->ops->close(disk->disk, file);
}

static int64_t view_pread(void *arg, struct kv_file *file, void *data, size_t size, uint64_t offset)
{
    const struct kv_disk *disk = ((struct view *)arg)->disk;

    return disk->ops->pread(disk->disk, file, data, size, offset);
}

static int64_t view_size(void *arg, struct kv_file *file)
{
    const struct kv_disk *disk = ((struct view *)arg)->disk;

    return disk->ops->size(disk->disk, file);
}

static int
view_list(void *arg, const char *path, void (*fn)(void *arg, const char *name), void *fn_arg)
{
    const struct kv_disk *disk = ((struct view *)arg)->disk;

    return disk->ops->list(disk->disk, path, fn, fn_arg);
}

/* What the recovery would mend, it believes mended. */
static int
ignore_write(void *arg, struct kv_file *file, const void *data, size_t size, uint64_t offset)
{
    (void)arg, (void)file, (void)data, (void)size, (void)offset;
    return 0;
}

static int ignore_file(void *arg, struct kv_file *file)
{
    (void)arg, (void)file;
    return 0;
}

static int ignore_path(void *arg, const char *path)
{
    (void)arg, (void)path;
    return 0;
}

static const struct kv_disk_ops view_ops = {
    .open = view_open,
    .close = view_close,
    .pread = view_pread,
    .pwrite = ignore_write,
    .datasync = ignore_file,
    .sync = ignore_file,
    .size = view_size,
    .unlink = ignore_path,
    .mkdir = ignore_path,
    .sync_dir = ignore_path,
    .list = view_list,
};

/* ---------------------------------------------------------------- one segment */

struct segment {
    const struct kv_inspect *inspect;
    const char *path;
    uint8_t *data;
    uint64_t size;
    struct kv_wal_segment_head head;
    uint32_t seed;
    uint64_t counts[KINDS];
    uint64_t first_index, last_index; /* of entries; 0: none */
    uint64_t first_term, last_term;
    uint64_t term, voted_for;
    uint64_t next_number; /* 0: it has no end yet */
    uint64_t offset;
    uint64_t expected; /* sequence */
    uint32_t link;
    unsigned n_configurations;
    uint64_t malformed_offset; /* of an entry with a malformed configuration; 0: none */
};

static int damaged(const struct segment *segment, const char *what, struct kv_error *ret_error)
{
    return kv_error_set(ret_error,
                        KV_CORRUPT,
                        "the segment is damaged: %s/%s at offset %" PRIu64 ": %s",
                        segment->inspect->disk->name,
                        segment->path,
                        segment->offset,
                        what);
}

static int
io_error(const struct segment *segment, int errnum, const char *what, struct kv_error *ret_error)
{
    return kv_error_set(ret_error,
                        errnum == -ENOENT ? KV_NOT_FOUND : KV_IO,
                        "cannot %s %s/%s: %s",
                        what,
                        segment->inspect->disk->name,
                        segment->path,
                        strerror(-errnum));
}

static int load(struct segment *segment, struct kv_error *ret_error)
{
    const struct kv_disk *disk = segment->inspect->disk;
    struct kv_file *file;
    int status = disk->ops->open(disk->disk, segment->path, KV_DISK_READ, &file);
    int64_t size;

    if (status != 0) {
        return io_error(segment, status, "open", ret_error);
    }
    size = disk->ops->size(disk->disk, file);
    if (size > (int64_t)KV_WAL_SEGMENT_BYTES_MAX) {
        status = damaged(segment, "the file is larger than any segment", ret_error);
        goto out;
    }
    segment->data = size < 0 ? NULL : malloc(size ? (size_t)size : 1);
    if (size >= 0 && !segment->data) {
        status = kv_error_set(ret_error, KV_NO_MEMORY, "no memory for a segment");
        goto out;
    }
    if (size >= 0) {
        size = disk->ops->pread(disk->disk, file, segment->data, (size_t)size, 0);
    }
    status = size < 0 ? io_error(segment, (int)size, "read", ret_error) : 0;
    segment->size = size < 0 ? 0 : (uint64_t)size;

out:
    disk->ops->close(disk->disk, file);
    return status;
}

static struct kv_slice rest(const struct segment *segment)
{
    return kv_slice_of(segment->data + segment->offset, (size_t)(segment->size - segment->offset));
}

static bool is_zero_from(const struct segment *segment, uint64_t offset)
{
    for (uint64_t i = offset; i < segment->size; i++) {
        if (segment->data[i] != 0) {
            return false;
        }
    }
    return true;
}

/* The name without its directory. */
static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static int read_head(struct segment *segment, struct kv_error *ret_error)
{
    const struct kv_wal_segment_head *head = &segment->head;
    struct kv_wal_record record;
    uint64_t size = kv_wal_record_decode(rest(segment), 0, &record);
    uint64_t first_index, number;

    if (size == 0 || record.type != KV_WAL_SEGMENT ||
        kv_wal_segment_head_decode(record.body, &segment->head) != 0) {
        return damaged(segment, "its head is not readable", ret_error);
    }
    kv_inspect_say(segment->inspect,
                   "  format %" PRIu32 ", cluster %" PRIu64 ", node %" PRIu64 ", number %" PRIu64
                   ", first index %" PRIu64 ", oldest segment %" PRIu64,
                   head->format_version,
                   head->cluster_id,
                   head->node_id,
                   head->number,
                   record.index,
                   head->oldest_number);
    kv_inspect_say(segment->inspect,
                   "  it began in term %" PRIu64 ", vote for %" PRIu64 ", behind index %" PRIu64
                   " of term %" PRIu64,
                   head->term,
                   head->voted_for,
                   head->boundary_index,
                   head->boundary_term);
    if (head->format_version > KV_WAL_FORMAT_VERSION) {
        return kv_error_set(ret_error,
                            KV_WRONG_NODE,
                            "%s is of format %" PRIu32 ", this program knows up to %u: use a newer "
                            "one",
                            segment->path,
                            head->format_version,
                            KV_WAL_FORMAT_VERSION);
    }
    if (kv_wal_segment_name_parse(base_name(segment->path), &first_index, &number) == 0 &&
        (number != head->number || first_index != record.index)) {
        return damaged(
            segment, "its head names another segment: it was swapped or copied", ret_error);
    }
    if (head->segment_bytes != segment->size) {
        return damaged(
            segment, "the file is not as long as it was made: it was cut or extended", ret_error);
    }
    segment->seed = kv_wal_segment_seed(head->log_seed, head->number);
    segment->term = head->term;
    segment->voted_for = head->voted_for;
    segment->counts[KV_WAL_SEGMENT]++;
    segment->offset = size;
    segment->expected = record.sequence + 1;
    segment->link = record.crc;
    return 0;
}

static int
take_entry(struct segment *segment, const struct kv_wal_record *record, struct kv_error *ret_error)
{
    int status;

    if (segment->first_index == 0) {
        segment->first_index = record->index;
        segment->first_term = record->term;
    }
    segment->last_index = record->index;
    segment->last_term = record->term;
    if (record->entry_type != RAFT_CHANGE || segment->n_configurations++ >= CONFIGURATIONS_MAX) {
        return 0;
    }
    kv_inspect_say(segment->inspect,
                   "  configuration at index %" PRIu64 ", term %" PRIu64,
                   record->index,
                   record->term);
    status = kv_inspect_configuration(segment->inspect, record->body);
    if (status == KV_CORRUPT) {
        kv_inspect_say(segment->inspect, "    malformed");
        segment->malformed_offset = segment->offset;
        return 0;
    }
    return status == 0 ? 0 : kv_error_set(ret_error, status, "no memory for a configuration");
}

static int
take_record(struct segment *segment, const struct kv_wal_record *record, struct kv_error *ret_error)
{
    segment->counts[record->type]++;
    switch (record->type) {
    case KV_WAL_ENTRY:
        return take_entry(segment, record, ret_error);
    case KV_WAL_VOTE:
        segment->term = record->term;
        segment->voted_for = record->index;
        kv_inspect_say(segment->inspect,
                       "  term %" PRIu64 ", vote for %" PRIu64 ", behind index %" PRIu64,
                       record->term,
                       record->index,
                       segment->last_index);
        return 0;
    case KV_WAL_TRUNCATE:
        kv_inspect_say(segment->inspect, "  truncated from index %" PRIu64, record->index);
        segment->last_index = record->index - 1;
        return 0;
    case KV_WAL_BOUNDARY:
        kv_inspect_say(segment->inspect,
                       "  continued behind a snapshot of index %" PRIu64 ", term %" PRIu64,
                       record->index,
                       record->term);
        segment->first_index = 0;
        return 0;
    case KV_WAL_NEXT:
        segment->next_number = record->index;
        return 0;
    case KV_WAL_SYNCED:
    case KV_WAL_SEGMENT:
        break;
    }
    return 0;
}

static bool follows(const struct segment *segment, const struct kv_wal_record *record)
{
    bool may_skip = record->type == KV_WAL_SYNCED || record->type == KV_WAL_NEXT;

    return record->link == segment->link && (record->sequence == segment->expected ||
                                             (may_skip && record->sequence > segment->expected));
}

static int read_records(struct segment *segment, struct kv_error *ret_error)
{
    int status = read_head(segment, ret_error);

    while (status == 0 && segment->next_number == 0) {
        struct kv_wal_record record;
        uint64_t size = kv_wal_record_decode(rest(segment), segment->seed, &record);

        if (size == 0 || !follows(segment, &record)) {
            break;
        }
        status = take_record(segment, &record, ret_error);
        if (status == 0) {
            segment->offset += size;
            segment->expected = record.sequence + 1;
            segment->link = record.crc;
        }
    }
    return status;
}

static void print_counts(const struct segment *segment)
{
    kv_inspect_say(segment->inspect,
                   "  records: %" PRIu64 " %s, %" PRIu64 " %s, %" PRIu64 " %s, %" PRIu64
                   " %s, %" PRIu64 " %s",
                   segment->counts[KV_WAL_ENTRY],
                   kind_names[KV_WAL_ENTRY],
                   segment->counts[KV_WAL_VOTE],
                   kind_names[KV_WAL_VOTE],
                   segment->counts[KV_WAL_TRUNCATE],
                   kind_names[KV_WAL_TRUNCATE],
                   segment->counts[KV_WAL_BOUNDARY],
                   kind_names[KV_WAL_BOUNDARY],
                   segment->counts[KV_WAL_SYNCED],
                   kind_names[KV_WAL_SYNCED]);
    if (segment->n_configurations > CONFIGURATIONS_MAX) {
        kv_inspect_say(segment->inspect,
                       "  %u configurations more",
                       segment->n_configurations - CONFIGURATIONS_MAX);
    }
    if (segment->first_index > 0 && segment->first_index <= segment->last_index) {
        kv_inspect_say(segment->inspect,
                       "  entries %" PRIu64 " to %" PRIu64 ", terms %" PRIu64 " to %" PRIu64,
                       segment->first_index,
                       segment->last_index,
                       segment->first_term,
                       segment->last_term);
    }
}

/* Is there a record behind the break that was written when the one missing there was on disk? */
static bool is_vouched_for(const struct segment *segment)
{
    for (uint64_t offset = segment->offset; offset + KV_WAL_RECORD_HEADER_BYTES <= segment->size;
         offset += 8) {
        struct kv_wal_record record;

        if (segment->data[offset + 8] != 0 &&
            kv_wal_record_peek(kv_slice_of(segment->data + offset, KV_WAL_RECORD_HEADER_BYTES),
                               segment->seed,
                               &record) &&
            record.synced_through >= segment->expected) {
            return true;
        }
    }
    return false;
}

/* How the segment ends, as far as it can tell alone. */
static int judge_end(const struct segment *segment, struct kv_error *ret_error)
{
    if (segment->next_number > 0) {
        kv_inspect_say(segment->inspect,
                       "  ends at offset %" PRIu64 ", segment %" PRIu64 " follows",
                       segment->offset,
                       segment->next_number);
        return is_zero_from(segment, segment->offset)
                   ? 0
                   : damaged(segment, "something stands behind its last record", ret_error);
    }
    if (is_zero_from(segment, segment->offset)) {
        kv_inspect_say(
            segment->inspect, "  written up to offset %" PRIu64 ", zeros behind", segment->offset);
        return 0;
    }
    if (is_vouched_for(segment)) {
        return damaged(segment, "a record that was on disk is not readable", ret_error);
    }
    kv_inspect_say(segment->inspect,
                   "  written up to offset %" PRIu64
                   "; behind it the rest of a torn write (left as it is)",
                   segment->offset);
    return 0;
}

struct segment_summary {
    struct kv_wal_segment_head head;
    bool has_head;
    bool is_malformed; /* a configuration in it */
};

static int inspect_segment(const struct kv_inspect *inspect,
                           const char *path,
                           struct segment_summary *ret_summary,
                           struct kv_error *ret_error)
{
    struct segment segment = {.inspect = inspect, .path = path};
    int status;

    kv_inspect_say(inspect, "segment %s/%s", inspect->disk->name, path);
    status = load(&segment, ret_error);
    if (status == 0) {
        status = read_records(&segment, ret_error);
    }
    *ret_summary = (struct segment_summary){
        .head = segment.head,
        .has_head = segment.counts[KV_WAL_SEGMENT] > 0,
        .is_malformed = segment.malformed_offset > 0,
    };
    if (ret_summary->has_head) {
        print_counts(&segment);
    }
    if (status == 0) {
        status = judge_end(&segment, ret_error);
    }
    if (status == 0 && segment.malformed_offset > 0) {
        segment.offset = segment.malformed_offset;
        status = damaged(&segment, "the configuration in this entry is malformed", ret_error);
    }
    free(segment.data);
    return status;
}

int kv_inspect_wal_segment(const struct kv_inspect *inspect,
                           const char *path,
                           struct kv_error *ret_error)
{
    struct segment_summary summary;
    int status = inspect_segment(inspect, path, &summary, ret_error);

    if (status == 0) {
        kv_inspect_say(inspect, "  sound, as far as one segment can tell");
    }
    return status;
}

/* ---------------------------------------------------------------- the whole log */

struct names {
    char (*names)[KV_WAL_NAME_BYTES];
    uint64_t *numbers;
    size_t n;
    size_t capacity;
    bool no_memory;
};

static void note_name(void *arg, const char *name)
{
    struct names *names = arg;
    uint64_t first_index, number;
    size_t at;

    if (kv_wal_segment_name_parse(name, &first_index, &number) != 0 || names->no_memory) {
        return;
    }
    if (names->n == names->capacity) {
        size_t capacity = names->capacity ? names->capacity * 2 : 64;
        void *more = realloc(names->names, capacity * sizeof names->names[0]);
        void *numbers;

        names->names = more ? more : names->names;
        numbers = realloc(names->numbers, capacity * sizeof names->numbers[0]);
        names->numbers = numbers ? numbers : names->numbers;
        names->no_memory = !more || !numbers;
        if (names->no_memory) {
            return;
        }
        names->capacity = capacity;
    }
    /* In order of their numbers. */
    for (at = names->n++; at > 0 && names->numbers[at - 1] > number; at--) {
        names->numbers[at] = names->numbers[at - 1];
        memcpy(names->names[at], names->names[at - 1], KV_WAL_NAME_BYTES);
    }
    names->numbers[at] = number;
    kv_wal_segment_name(names->names[at], first_index, number);
}

static int
list_names(const struct kv_inspect *inspect, struct names *names, struct kv_error *ret_error)
{
    const struct kv_disk *disk = inspect->disk;
    int status = disk->ops->list(disk->disk, "wal", note_name, names);

    if (status == -ENOENT) {
        return kv_error_set(ret_error, KV_NOT_FOUND, "there is no %s/wal", disk->name);
    }
    if (status != 0) {
        return kv_error_set(
            ret_error, KV_IO, "cannot list %s/wal: %s", disk->name, strerror(-status));
    }
    if (names->no_memory) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory for the names of segments");
    }
    if (names->n == 0) {
        return kv_error_set(ret_error, KV_NOT_FOUND, "there is no segment in %s/wal", disk->name);
    }
    return 0;
}

static void run_never(void *worker, struct kv_job *job)
{
    (void)worker;
    KV_ASSERT(!job); /* recovery starts none */
}

/* Nothing is written, so nothing is reported either. */
static const struct kv_wal_ops no_ops;
static const struct kv_worker_ops no_worker = {run_never};

static void print_state(const struct kv_inspect *inspect, const struct kv_wal_state *state)
{
    kv_inspect_say(inspect,
                   "log: term %" PRIu64 ", vote for %" PRIu64 ", entries %" PRIu64 " to %" PRIu64
                   ", behind index %" PRIu64 " of term %" PRIu64,
                   state->term,
                   state->voted_for,
                   state->first_index,
                   state->last_index,
                   state->boundary_index,
                   state->boundary_term);
    if (state->torn_bytes > 0) {
        kv_inspect_say(inspect,
                       "torn: the last %" PRIu64
                       " bytes are of a write that was cut off or is under way; a start would "
                       "zero them, they are left as they are",
                       state->torn_bytes);
    }
}

/* As a start would. */
static int judge_log(const struct kv_inspect *inspect,
                     uint64_t cluster_id,
                     uint64_t node_id,
                     struct kv_error *ret_error)
{
    struct view view = {view_ops, inspect->disk};
    struct kv_wal_options options = {
        .disk = {&view.ops, &view, inspect->disk->name},
        .log_worker = {&no_worker, NULL},
        .file_worker = {&no_worker, NULL},
        .cluster_id = cluster_id,
        .node_id = node_id,
        .ops = &no_ops,
    };
    struct kv_wal *wal = NULL;
    int tries = inspect->is_running ? TRIES_MAX : 1;
    int status;

    do {
        status = kv_wal_open(&options, &wal, ret_error);
    } while (--tries > 0 && (status == KV_CORRUPT || status == KV_IO));
    if (status == 0) {
        print_state(inspect, kv_wal_recovered(wal));
    }
    kv_wal_close(wal);
    return status;
}

/* What all segments say, together. */
struct log_summary {
    struct kv_wal_segment_head head; /* the newest that is readable */
    bool is_malformed;
    struct kv_error error; /* of that */
};

static void inspect_segments(const struct kv_inspect *inspect,
                             const struct names *names,
                             struct log_summary *ret_log)
{
    for (size_t i = 0; i < names->n; i++) {
        struct segment_summary summary;
        struct kv_error error = {0};

        if (inspect_segment(inspect, names->names[i], &summary, &error) != 0) {
            kv_inspect_say(inspect, "  not sound by itself: %s", error.message);
        }
        if (summary.has_head) {
            ret_log->head = summary.head;
        }
        if (summary.is_malformed && !ret_log->is_malformed) {
            ret_log->is_malformed = true;
            ret_log->error = error;
        }
    }
}

/* The verdict is the recovery's: a segment may be unsound by itself and of no harm, as one that a
 * crash left without a head, or that is released. Only malformed configurations it does not see. */
int kv_inspect_wal(const struct kv_inspect *inspect, struct kv_error *ret_error)
{
    struct log_summary log = {0};
    struct names names = {0};
    struct kv_meta meta = {0};
    bool meta_missing = false;
    int status = kv_inspect_meta(inspect, &meta, &meta_missing, ret_error);

    if (status != 0) {
        return status;
    }
    status = list_names(inspect, &names, ret_error);
    if (status == KV_NOT_FOUND && !meta_missing) {
        status = kv_error_set(ret_error,
                              KV_CORRUPT,
                              "the log in %s is gone, though meta is there",
                              inspect->disk->name);
    }
    if (status != 0) {
        goto out;
    }
    inspect_segments(inspect, &names, &log);
    status = judge_log(inspect,
                       meta_missing ? log.head.cluster_id : meta.cluster_id,
                       meta_missing ? log.head.node_id : meta.node_id,
                       ret_error);
    if (status == 0 && log.is_malformed) {
        status = kv_error_set(ret_error, KV_CORRUPT, "%s", log.error.message);
    }
    if (status == 0) {
        kv_inspect_say(inspect, "sound");
    }

out:
    free(names.names);
    free(names.numbers);
    return status;
}
