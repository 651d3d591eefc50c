/* Recovery of the log from any files: it ends with a log that can be read and written, and that a
 * second start finds the same, or with a refusal that names the place. Never a crash.
 *
 * The first byte chooses what the rest is: raw content of segments, or (odd) records that are
 * encoded well, whatever they say, so that the checks behind the checksums are reached. */
#include "raft/wal_format.h"
#include "tests/support/fake_disk.h"

#include "raft/wal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The program is linked with kvraft alone. */
#include "tests/support/fake_disk.c"
#include "tests/support/fake_disk_files.c"

enum { FUZZ_SEGMENT_BYTES = 4096, FUZZ_SEGMENTS_MAX = 4 };
static const uint64_t fuzz_seed = 42;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

/* ---------------------------------------------------------------- input */

struct input {
    const uint8_t *data;
    size_t size;
};

static uint64_t take(struct input *input, size_t n)
{
    uint64_t value = 0;

    for (size_t i = 0; i < n && input->size > 0; i++) {
        value |= (uint64_t)*input->data << (8 * i);
        input->data++;
        input->size--;
    }
    return value;
}

/* A number near another, or any. */
static uint64_t take_near(struct input *input, uint64_t near)
{
    uint64_t how = take(input, 1);

    return how < 250 ? near + how % 16 - 4 * (how >= 128) : take(input, 8);
}

static void put_raw(struct fake_disk *disk, struct input *input)
{
    for (uint64_t number = 1; number <= FUZZ_SEGMENTS_MAX && input->size > 0; number++) {
        uint8_t content[FUZZ_SEGMENT_BYTES] = {0};
        char name[KV_WAL_NAME_BYTES];
        size_t n = (size_t)take(input, 2) % (FUZZ_SEGMENT_BYTES + 1);
        uint64_t first_index = take_near(input, 1);

        n = n < input->size ? n : input->size;
        memcpy(content, input->data, n);
        input->data += n;
        input->size -= n;
        kv_wal_segment_name(name, first_index, number);
        fake_disk_put(disk, name, content, FUZZ_SEGMENT_BYTES);
    }
}

/* The chain as a writer would have it, unless the input says otherwise. */
struct writer {
    struct input *input;
    uint64_t sequence;
    uint64_t index;
    uint64_t term;
    uint32_t link;
};

static size_t put_head(struct writer *writer, uint8_t *content, uint64_t number)
{
    uint8_t body[KV_WAL_SEGMENT_HEAD_BYTES];
    struct kv_wal_segment_head head = {
        .format_version = KV_WAL_FORMAT_VERSION,
        .cluster_id = 1,
        .node_id = 1,
        .number = number,
        .oldest_number = take_near(writer->input, 0),
        .term = take_near(writer->input, writer->term),
        .voted_for = take(writer->input, 1),
        .boundary_index = take_near(writer->input, 0),
        .boundary_term = take(writer->input, 1),
        .segment_bytes = FUZZ_SEGMENT_BYTES,
        .log_seed = fuzz_seed,
    };
    struct kv_wal_record record = {
        .type = KV_WAL_SEGMENT,
        .link = writer->link,
        .sequence = take_near(writer->input, writer->sequence + 1),
        .index = writer->index + 1,
        .body = {body, sizeof body},
    };

    kv_wal_segment_head_encode(body, &head);
    writer->sequence = record.sequence;
    writer->term = head.term;
    writer->link = kv_wal_record_encode(content, &record, 0);
    return (size_t)kv_wal_record_size(sizeof body);
}

static size_t put_record(struct writer *writer, uint8_t *content, size_t room, uint64_t number)
{
    static const uint8_t body[512];
    uint64_t choice = take(writer->input, 1);
    struct kv_wal_record record = {
        .type = (enum kv_wal_record_type)(1 + choice % 7),
        .entry_type = 1,
        .link = writer->link + (choice > 250),
        .sequence = take_near(writer->input, writer->sequence + 1),
        .term = take_near(writer->input, writer->term),
        .synced_through = take_near(writer->input, writer->sequence),
    };

    record.index = take_near(writer->input,
                             record.type == KV_WAL_NEXT     ? number + 1
                             : record.type == KV_WAL_SYNCED ? 1
                                                            : writer->index + 1);
    if (record.type == KV_WAL_ENTRY) {
        record.body = kv_slice_of(body, (size_t)take(writer->input, 2) % sizeof body);
        writer->index = record.index;
    }
    if (kv_wal_record_size(record.body.size) > room) {
        return room;
    }
    writer->sequence = record.sequence;
    writer->term = record.type == KV_WAL_VOTE ? record.term : writer->term;
    writer->link = kv_wal_record_encode(content, &record, kv_wal_segment_seed(fuzz_seed, number));
    return (size_t)kv_wal_record_size(record.body.size);
}

static void put_records(struct fake_disk *disk, struct input *input)
{
    struct writer writer = {.input = input};

    for (uint64_t number = 1; number <= FUZZ_SEGMENTS_MAX && input->size > 0; number++) {
        uint8_t content[FUZZ_SEGMENT_BYTES] = {0};
        char name[KV_WAL_NAME_BYTES];
        size_t offset;
        uint64_t n = take(input, 1);

        kv_wal_segment_name(name, writer.index + 1, number);
        offset = put_head(&writer, content, number);
        for (uint64_t i = 0; i < n && offset < sizeof content && input->size > 0; i++) {
            offset += put_record(&writer, content + offset, sizeof content - offset, number);
        }
        fake_disk_put(disk, name, content, FUZZ_SEGMENT_BYTES);
    }
}

/* ---------------------------------------------------------------- what is done with it */

static void run_now(void *arg, struct kv_job *job)
{
    (void)arg;
    job->run(job);
    job->done(job);
}

static void on_synced(void *arg, uint64_t sequence)
{
    *(uint64_t *)arg = sequence;
}

static void on_failed(void *arg, const struct kv_error *error)
{
    (void)arg;
    (void)error;
    abort();
}

static int visit(void *arg, uint64_t index, const struct kv_wal_entry *entry)
{
    uint64_t *expected = arg;

    check(index == (*expected)++ && (entry->data.size == 0 || entry->data.data));
    return 0;
}

static struct kv_wal *open_log(struct fake_disk *disk, uint64_t *synced)
{
    static const struct kv_worker_ops worker_ops = {run_now};
    static const struct kv_wal_ops wal_ops = {on_synced, on_failed};
    const struct kv_wal_options options = {
        .disk = *fake_disk_ops(disk),
        .log_worker = {&worker_ops, NULL},
        .file_worker = {&worker_ops, NULL},
        .cluster_id = 1,
        .node_id = 1,
        .seed = fuzz_seed,
        .segment_bytes = FUZZ_SEGMENT_BYTES,
        .ops = &wal_ops,
        .arg = synced,
    };
    struct kv_error error = {0};
    struct kv_wal *wal = NULL;
    int status = kv_wal_open(&options, &wal, &error);

    check(status == 0 || ((status == KV_CORRUPT || status == KV_WRONG_NODE) && error.message[0]));
    if (status == 0) {
        uint64_t expected = kv_wal_first_index(wal);

        check(kv_wal_visit(wal, expected, kv_wal_last_index(wal), visit, &expected, &error) == 0);
        check(expected == kv_wal_last_index(wal) + 1);
    }
    return wal;
}

static void write_on(struct kv_wal *wal, const uint64_t *synced)
{
    struct kv_wal_entry entry = {kv_wal_recovered(wal)->term, 1, kv_slice_of("0123456789", 10)};
    uint64_t sequence = 0;

    for (int i = 0; i < 100; i++) {
        sequence = kv_wal_write_entries(wal, kv_wal_last_index(wal) + 1, &entry, 1);
    }
    kv_wal_flush(wal);
    check(*synced == sequence && kv_wal_is_idle(wal));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fake_disk *disk = fake_disk_new(1);
    struct input input = {data, size};
    uint64_t synced = 0;
    struct kv_wal *wal;

    (void)fake_disk_ops(disk)->ops->mkdir(disk, "wal");
    if (take(&input, 1) % 2 == 0) {
        put_raw(disk, &input);
    } else {
        put_records(disk, &input);
    }
    wal = open_log(disk, &synced);
    if (wal) {
        uint64_t last_index = kv_wal_last_index(wal);
        uint64_t term = kv_wal_recovered(wal)->term;

        kv_wal_close(wal);
        wal = open_log(disk, &synced);
        check(wal && kv_wal_last_index(wal) == last_index && kv_wal_recovered(wal)->term == term &&
              kv_wal_recovered(wal)->torn_bytes == 0);
        write_on(wal, &synced);
        kv_wal_close(wal);
        wal = open_log(disk, &synced);
        check(wal && kv_wal_last_index(wal) == last_index + 100);
        kv_wal_close(wal);
    }
    fake_disk_free(disk);
    return 0;
}
