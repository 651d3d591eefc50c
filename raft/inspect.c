#include "raft/inspect.h"

#include "raft/configuration.h"
#include "raft/inspect_internal.h"
#include "raft/snapshot_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <raft.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 1024 };

void kv_inspect_say(const struct kv_inspect *inspect, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    inspect->print(inspect->arg, line);
}

int kv_inspect_meta(const struct kv_inspect *inspect,
                    struct kv_meta *ret_meta,
                    bool *ret_missing,
                    struct kv_error *ret_error)
{
    int status = kv_meta_read(inspect->disk, ret_meta, ret_missing, ret_error);

    if (status == 0 && *ret_missing) {
        kv_inspect_say(inspect, "meta: none: this is no data directory, or no start was finished");
    } else if (status == 0) {
        kv_inspect_say(inspect,
                       "meta: cluster %" PRIu64 ", node %" PRIu64 ", format %" PRIu32,
                       ret_meta->cluster_id,
                       ret_meta->node_id,
                       ret_meta->format_version);
    }
    if (status == 0 && !*ret_missing && ret_meta->format_version > KV_FORMAT_VERSION) {
        return kv_error_set(ret_error,
                            KV_WRONG_NODE,
                            "%s is of format %" PRIu32 ", this program knows up to %u: use a newer "
                            "one",
                            inspect->disk->name,
                            ret_meta->format_version,
                            KV_FORMAT_VERSION);
    }
    return status;
}

/* ---------------------------------------------------------------- configurations */

static const char *role_name(int role)
{
    switch (role) {
    case RAFT_VOTER:
        return "voter";
    case RAFT_STANDBY:
        return "standby";
    case RAFT_SPARE:
        return "spare";
    default:
        return "of unknown role";
    }
}

int kv_inspect_configuration(const struct kv_inspect *inspect, struct kv_slice bytes)
{
    struct raft_configuration configuration;
    int status = kv_configuration_decode(bytes, &configuration);

    if (status != 0) {
        return status;
    }
    for (unsigned i = 0; i < configuration.n; i++) {
        kv_inspect_say(inspect,
                       "    member %llu at %s, %s",
                       (unsigned long long)configuration.servers[i].id,
                       configuration.servers[i].address,
                       role_name(configuration.servers[i].role));
    }
    raft_configuration_close(&configuration);
    return 0;
}

/* ---------------------------------------------------------------- snapshots */

static int print_head(const struct kv_inspect *inspect,
                      const char *path,
                      const struct kv_snapshot_meta *meta,
                      struct kv_error *ret_error)
{
    int status;

    kv_inspect_say(inspect,
                   "  format %u, cluster %" PRIu64 ", made by node %" PRIu64,
                   KV_SNAPSHOT_FORMAT_VERSION,
                   meta->cluster_id,
                   meta->node_id);
    kv_inspect_say(inspect, "  state at index %" PRIu64 ", term %" PRIu64, meta->index, meta->term);
    kv_inspect_say(inspect,
                   "  configuration of index %" PRIu64 ", %zu bytes",
                   meta->configuration_index,
                   meta->configuration.size);
    status = kv_inspect_configuration(inspect, meta->configuration);
    if (status == KV_CORRUPT) {
        return kv_error_set(ret_error,
                            status,
                            "the snapshot is damaged: %s/%s at offset %u: its configuration is "
                            "malformed",
                            inspect->disk->name,
                            path,
                            KV_SNAPSHOT_HEAD_BYTES);
    }
    return status == 0 ? 0 : kv_snapshot_no_memory(ret_error);
}

static int read_blocks(const struct kv_inspect *inspect,
                       struct kv_snapshot_reader *reader,
                       struct kv_error *ret_error)
{
    struct kv_snapshot_descriptor descriptor;
    struct kv_buf raw;
    uint64_t raw_bytes = 0;
    int status;

    kv_buf_init(&raw, KV_SNAPSHOT_BLOCK_BYTES_MAX);
    do {
        status = kv_snapshot_reader_next(reader, &raw, ret_error);
        raw_bytes += status == 1 ? raw.size : 0;
    } while (status == 1);
    kv_buf_deinit(&raw);
    kv_inspect_say(inspect,
                   "  %" PRIu64 " sound blocks, %" PRIu64 " bytes raw, up to offset %" PRIu64,
                   kv_snapshot_reader_blocks(reader),
                   raw_bytes,
                   kv_snapshot_reader_offset(reader));
    if (status == 0) {
        descriptor = kv_snapshot_descriptor_of(reader);
        kv_inspect_say(inspect,
                       "  file of %" PRIu64 " bytes, hash %016" PRIx64,
                       descriptor.size_bytes,
                       descriptor.hash);
    }
    return status;
}

static int inspect_snapshot(const struct kv_inspect *inspect,
                            const char *path,
                            uint64_t cluster_id,
                            struct kv_error *ret_error)
{
    struct kv_snapshot_reader *reader = NULL;
    int status;

    kv_inspect_say(inspect, "snapshot %s/%s", inspect->disk->name, path);
    status = kv_snapshot_reader_open(inspect->disk, path, cluster_id, &reader, ret_error);
    if (status == 0) {
        status = print_head(inspect, path, kv_snapshot_reader_meta(reader), ret_error);
    }
    if (status == 0) {
        status = read_blocks(inspect, reader, ret_error);
    }
    kv_snapshot_reader_close(reader);
    if (status == 0) {
        kv_inspect_say(inspect, "  sound");
    }
    return status;
}

int kv_inspect_snapshot(const struct kv_inspect *inspect,
                        const char *path,
                        struct kv_error *ret_error)
{
    return inspect_snapshot(inspect, path, 0, ret_error);
}

/* Names of one kind, without a look into them. */
static int name_others(const struct kv_inspect *inspect,
                       enum kv_snapshot_state state,
                       const char *what,
                       struct kv_error *ret_error)
{
    struct kv_snapshot_id ids[KV_SNAPSHOT_FILES_MAX];
    struct kv_snapshot_listing listing = {state, ids, KV_SNAPSHOT_FILES_MAX, 0};
    int status = kv_snapshot_list_names(inspect->disk, &listing, ret_error);

    for (size_t i = 0; i < listing.n && status == 0; i++) {
        char name[KV_SNAPSHOT_NAME_BYTES];

        kv_snapshot_name(name, ids[i].index, ids[i].term, state);
        kv_inspect_say(inspect, "%s: %s", name, what);
    }
    return status;
}

static bool has_snapshots(const struct kv_disk *disk)
{
    struct kv_snapshot_id id;
    struct kv_snapshot_listing listing = {KV_SNAPSHOT_COMPLETE, &id, 1, 0};

    return kv_snapshot_list_names(disk, &listing, NULL) == 0;
}

static int inspect_each(const struct kv_inspect *inspect,
                        uint64_t cluster_id,
                        const struct kv_snapshot_listing *listing,
                        struct kv_error *ret_error)
{
    int first_bad = 0;

    for (size_t i = 0; i < listing->n; i++) {
        char name[KV_SNAPSHOT_NAME_BYTES];
        struct kv_error error = {0};
        int status;

        kv_snapshot_name(name, listing->ids[i].index, listing->ids[i].term, KV_SNAPSHOT_COMPLETE);
        status = inspect_snapshot(inspect, name, cluster_id, &error);
        if (status != 0) {
            kv_inspect_say(inspect, "  not sound: %s", error.message);
        }
        /* A running node removes old ones. */
        if (status == KV_NOT_FOUND && inspect->is_running) {
            status = 0;
        }
        if (status != 0 && first_bad == 0) {
            first_bad = kv_error_set(ret_error, status, "%s", error.message);
        }
    }
    return first_bad;
}

int kv_inspect_snapshots(const struct kv_inspect *inspect, struct kv_error *ret_error)
{
    struct kv_snapshot_id ids[KV_SNAPSHOT_FILES_MAX];
    struct kv_snapshot_listing listing = {KV_SNAPSHOT_COMPLETE, ids, KV_SNAPSHOT_FILES_MAX, 0};
    struct kv_meta meta;
    bool meta_missing;
    int status = kv_inspect_meta(inspect, &meta, &meta_missing, ret_error);

    if (status != 0) {
        return status;
    }
    if (!has_snapshots(inspect->disk)) {
        kv_inspect_say(inspect, "no snapshots: there is no %s/snap", inspect->disk->name);
        return 0;
    }
    status = kv_snapshot_list_names(inspect->disk, &listing, ret_error);
    if (status == 0) {
        status = name_others(
            inspect, KV_SNAPSHOT_UNFINISHED, "being written, or left by a crash", ret_error);
    }
    if (status == 0) {
        status = name_others(
            inspect, KV_SNAPSHOT_PARTIAL, "a transfer, under way or to be resumed", ret_error);
    }
    if (status != 0) {
        return status;
    }
    if (listing.n == 0) {
        kv_inspect_say(inspect, "no snapshots");
    }
    return inspect_each(inspect, meta_missing ? 0 : meta.cluster_id, &listing, ret_error);
}
