/* From a data directory to a running core: meta, log, first configuration, START. */
#include "common/assert.h"
#include "common/log.h"
#include "common/reached.h"
#include "raft/configuration.h"
#include "raft/meta.h"
#include "raft/replica_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int
encode_configuration(struct kv_replica *r, struct raft_buffer *ret_data, struct kv_error *ret_error)
{
    struct raft_configuration configuration;
    int status = 0;

    raft_configuration_init(&configuration);
    for (size_t i = 0; i < r->options.n_members && status == 0; i++) {
        const struct kv_replica_member *member = &r->options.members[i];
        int rv = raft_configuration_add(&configuration, member->id, member->address, RAFT_VOTER);

        if (rv != 0) {
            status = kv_error_set(ret_error,
                                  rv == RAFT_NOMEM ? KV_NO_MEMORY : KV_INVALID,
                                  "member %" PRIu64 " at %s: %s",
                                  member->id,
                                  member->address,
                                  raft_strerror(rv));
        }
    }
    if (status == 0 && raft_configuration_encode(&configuration, ret_data) != 0) {
        status = kv_error_set(ret_error, KV_NO_MEMORY, "no memory for the first configuration");
    }
    raft_configuration_close(&configuration);
    return status;
}

/* An empty log begins with the same configuration, byte for byte, on all first members. */
static int bootstrap(struct kv_replica *r, struct kv_error *ret_error)
{
    struct raft_buffer data;
    struct kv_wal_entry entry;
    int status = encode_configuration(r, &data, ret_error);

    if (status != 0) {
        return status;
    }
    r->is_bootstrap = true;
    entry = (struct kv_wal_entry){1, RAFT_CHANGE, kv_slice_of(data.base, data.len)};
    /* Guard 8 for a cluster of one: its first leadership is a term of its own, too. */
    r->start_term = r->options.n_members == 1 ? 2 : 1;
    r->start_vote = r->options.n_members == 1 ? r->options.node_id : 0;
    kv_wal_write_vote(r->wal, r->start_term, r->start_vote);
    r->start_sequence = kv_wal_write_entries(r->wal, 1, &entry, 1);
    raft_free(data.base);
    return 0;
}

static int check_members(struct kv_replica *r,
                         const struct raft_configuration *configuration,
                         struct kv_error *ret_error)
{
    for (unsigned i = 0; i < configuration->n; i++) {
        uint64_t id = configuration->servers[i].id;

        if (id != r->options.node_id && !kv_replica_peer(r, id)) {
            return kv_error_set(ret_error,
                                KV_INVALID,
                                "the log names member %" PRIu64
                                " (%s), the configured cluster does not: "
                                "start with the members that the cluster was made with",
                                id,
                                configuration->servers[i].address);
        }
    }
    if (configuration->n != r->options.n_members) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "the cluster was made with %u members, %zu are configured: "
                            "members cannot be added or removed this way",
                            configuration->n,
                            r->options.n_members);
    }
    return 0;
}

/* The newest configuration of the loaded log, or NULL. */
static const struct raft_buffer *newest_configuration(const struct kv_replica *r)
{
    for (size_t i = r->n_log_entries; i > 0; i--) {
        if (r->log_entries[i - 1].type == RAFT_CHANGE) {
            return &r->log_entries[i - 1].buf;
        }
    }
    return NULL;
}

/* The snapshot and the log together must hold everything. A log that ends before the snapshot, or
 * goes another way, is what an install that a crash cut short has left: it begins anew behind it.
 */
static int reconcile(struct kv_replica *r, struct kv_error *ret_error)
{
    uint64_t first = kv_wal_first_index(r->wal);
    uint64_t last = kv_wal_last_index(r->wal);
    uint64_t index = r->restored_index;

    if (index + 1 < first) {
        return kv_error_set(ret_error,
                            KV_CORRUPT,
                            "the log in %s begins at index %" PRIu64
                            ", %s: replace this member (docs/operations)",
                            r->env.disk.name,
                            first,
                            index > 0 ? "behind the end of the newest snapshot that is sound"
                                      : "and there is no sound snapshot of what was before");
    }
    r->applied_index = index;
    if (index == 0 || (index <= last && kv_terms_of(&r->terms, index) == r->restored_term) ||
        (index == last && index + 1 == first)) {
        return 0;
    }
    KV_REACHED("log-dropped");
    KV_LOG(WARN,
           "raft",
           "log_dropped",
           "first=%" PRIu64 " last=%" PRIu64 " snapshot=%" PRIu64,
           first,
           last,
           index);
    kv_replica_unload_log(r);
    kv_terms_deinit(&r->terms);
    if (kv_terms_init(&r->terms, index, r->restored_term) != 0) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory");
    }
    r->start_sequence = kv_wal_write_boundary(r->wal, index, r->restored_term);
    return 0;
}

/* Guard 8, and the check that the log belongs to this cluster's members. */
static int inspect_configuration(struct kv_replica *r, struct kv_error *ret_error)
{
    const struct raft_buffer *data = newest_configuration(r);
    const struct raft_buffer restored = {r->applied_configuration.data,
                                         r->applied_configuration.size};
    struct raft_configuration configuration;
    int status;

    if (!data && restored.len > 0) {
        data = &restored;
    }
    if (!data) {
        return kv_error_set(
            ret_error,
            KV_CORRUPT,
            "the log holds no configuration: replace this member (docs/operations)");
    }
    if (kv_configuration_decode(kv_slice_of(data->base, data->len), &configuration) != 0) {
        return kv_error_set(
            ret_error,
            KV_CORRUPT,
            "the configuration in the log is malformed: replace this member (docs/operations)");
    }
    status = check_members(r, &configuration, ret_error);
    if (status == 0 && kv_guard_8_is_only_voter(&configuration, r->options.node_id)) {
        KV_REACHED("guard-8-only-voter");
        r->start_term = r->start_term + 1;
        r->start_vote = r->options.node_id;
        r->start_sequence = kv_wal_write_vote(r->wal, r->start_term, r->start_vote);
    }
    raft_configuration_close(&configuration);
    return status;
}

static int visit_entry(void *arg, uint64_t index, const struct kv_wal_entry *entry)
{
    struct kv_replica *r = arg;
    struct raft_entry *target = &r->log_entries[r->n_log_entries++];

    *target = (struct raft_entry){.term = entry->term, .type = (enum raft_entry_type)entry->type};
    if (entry->type == RAFT_CHANGE) {
        void *copy = malloc(entry->data.size ? entry->data.size : 1);

        if (!copy) {
            return KV_NO_MEMORY;
        }
        memcpy(copy, entry->data.data, entry->data.size);
        target->buf = (struct raft_buffer){copy, entry->data.size};
    }
    return kv_terms_append(&r->terms, index, entry->term);
}

/* Fills the terms, and the entries as START wants them: data only of configurations. */
static int load_log(struct kv_replica *r, struct kv_error *ret_error)
{
    const struct kv_wal_state *state = kv_wal_recovered(r->wal);
    uint64_t first = kv_wal_first_index(r->wal);
    uint64_t last = kv_wal_last_index(r->wal);
    uint64_t base_term = r->restored_index == first - 1       ? r->restored_term
                         : state->boundary_index == first - 1 ? state->boundary_term
                                                              : 0;

    if (kv_terms_init(&r->terms, first - 1, first > 1 ? base_term : 0) != 0) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory");
    }
    r->log_entries = calloc(last - first + 2, sizeof *r->log_entries);
    if (!r->log_entries) {
        return kv_error_set(ret_error,
                            KV_NO_MEMORY,
                            "no memory for %" PRIu64 " entries of the log",
                            last - first + 1);
    }
    return kv_wal_visit(r->wal, first, last, visit_entry, r, ret_error);
}

void kv_replica_unload_log(struct kv_replica *r)
{
    for (size_t i = 0; i < r->n_log_entries; i++) {
        free(r->log_entries[i].buf.base);
    }
    free(r->log_entries);
    r->log_entries = NULL;
    r->n_log_entries = 0;
}

/* A node that has forgotten what it acknowledged must not vote as if it were new. */
static int log_is_missing(struct kv_replica *r, struct kv_error *ret_error)
{
    return kv_error_set(
        ret_error,
        KV_CORRUPT,
        "%s belongs to this node, but its log (wal/) is missing or empty: replace this "
        "member (docs/operations tells how)",
        r->env.disk.name);
}

int kv_replica_recover(struct kv_replica *r, struct kv_error *ret_error)
{
    struct kv_meta meta = {r->options.cluster_id, r->options.node_id, KV_FORMAT_VERSION};
    const struct kv_wal_state *state;
    static const struct kv_wal_ops ops = {kv_replica_on_synced, kv_replica_on_wal_failed};
    int status = kv_meta_open(&r->env.disk, &meta, &r->meta_missing, ret_error);

    if (status != 0) {
        return status;
    }
    status = kv_wal_open(
        &(struct kv_wal_options){
            .disk = r->env.disk,
            .log_worker = r->env.log_worker,
            .file_worker = r->env.file_worker,
            .cluster_id = r->options.cluster_id,
            .node_id = r->options.node_id,
            .seed = kv_env_random_u64(&r->env),
            .segment_bytes = r->options.wal_segment_bytes,
            .ops = &ops,
            .arg = r,
        },
        &r->wal,
        ret_error);
    if (status != 0) {
        return status;
    }
    state = kv_wal_recovered(r->wal);
    r->start_term = state->term;
    r->start_vote = state->voted_for;
    if (state->last_index == 0 && state->boundary_index == 0) {
        return r->meta_missing ? bootstrap(r, ret_error) : log_is_missing(r, ret_error);
    }
    /* Only the first configuration may be there without meta: the first start was cut short. */
    if (r->meta_missing && state->last_index > 1) {
        return kv_error_set(ret_error,
                            KV_CORRUPT,
                            "%s has a log but no meta: restore the file, or replace this member "
                            "(docs/operations tells how)",
                            r->env.disk.name);
    }
    status = kv_replica_load_snapshot(r, ret_error);
    if (status == 0) {
        status = load_log(r, ret_error);
    }
    if (status == 0) {
        status = reconcile(r, ret_error);
    }
    return status ? status : inspect_configuration(r, ret_error);
}

static int init_core(struct kv_replica *r)
{
    int rv = raft_init(&r->raft, NULL, NULL, r->options.node_id, "self");

    if (rv != 0) {
        return rv;
    }
    r->raft_is_open = true;
    r->raft.tracer = NULL;
    raft_seed(&r->raft, (unsigned)r->env.clock.ops->random(r->env.clock.clock) | 1u);
    raft_set_election_timeout(&r->raft, r->options.election_timeout_ms);
    raft_set_heartbeat_timeout(&r->raft, r->options.heartbeat_ms);
    raft_set_pre_vote(&r->raft, true);
    raft_set_max_inflight_entries(&r->raft, KV_APPEND_ENTRIES_MAX);
    raft_set_install_snapshot_timeout(&r->raft, KV_SNAPSHOT_FETCH_IDLE_MS);
    return 0;
}

static int write_meta(struct kv_replica *r, struct kv_error *ret_error)
{
    const struct kv_meta meta = {r->options.cluster_id, r->options.node_id, KV_FORMAT_VERSION};

    return kv_meta_write(&r->env.disk, &meta, ret_error);
}

void kv_replica_start_core(struct kv_replica *r)
{
    struct raft_event event = {.type = RAFT_START};
    struct raft_snapshot_metadata metadata;
    struct kv_error error = {.message = "no memory"};
    int status = 0;

    KV_ASSERT(!r->started);
    if (r->meta_missing) {
        status = write_meta(r, &error);
    }
    if (status == 0 && r->is_bootstrap) {
        status = load_log(r, &error);
    }
    if (status == 0 && r->restored_index > 0) {
        status = kv_replica_metadata(
            r->restored_index,
            r->restored_term,
            r->applied_configuration_index,
            kv_slice_of(r->applied_configuration.data, r->applied_configuration.size),
            &metadata);
        event.start.metadata = &metadata;
    }
    if (status != 0 || init_core(r) != 0) {
        kv_replica_die(r, status ? status : KV_NO_MEMORY, "cannot start: %s", error.message);
        return;
    }
    kv_entry_cache_init(&r->cache, kv_wal_last_index(r->wal));
    event.start.term = r->start_term;
    event.start.voted_for = r->start_vote;
    event.start.start_index = kv_wal_first_index(r->wal);
    event.start.entries = r->log_entries;
    event.start.n_entries = (unsigned)r->n_log_entries;
    r->started = true;
    kv_replica_step_or_die(r, &event, "START");
    kv_replica_unload_log(r);
}
