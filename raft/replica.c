#include "raft/replica.h"

#include "common/assert.h"
#include "common/reached.h"
#include "raft/peer_codec.h"
#include "raft/replica_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 1000, MESSAGE_ARENA_BYTES = 4 * 1024 * 1024 };

uint64_t kv_replica_now_ms(struct kv_replica *r)
{
    uint64_t now = r->env.clock.ops->now_ns(r->env.clock.clock) / 1000000;

    /* Guard 20: the core must never see time run back. */
    if (now > r->last_now_ms) {
        r->last_now_ms = now;
    }
    return r->last_now_ms;
}

void kv_replica_die(struct kv_replica *r, int status, const char *format, ...)
{
    struct kv_error error = {.status = status};
    va_list arguments;

    if (r->dead) {
        return;
    }
    r->dead = true;
    va_start(arguments, format);
    vsnprintf(error.message, sizeof error.message, format, arguments);
    va_end(arguments);
    r->options.ops->fatal(r->options.arg, &error);
}

struct kv_peer *kv_replica_peer(struct kv_replica *r, uint64_t id)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        if (r->peers[i].id == id) {
            return &r->peers[i];
        }
    }
    return NULL;
}

bool kv_replica_is_leader(const struct kv_replica *r)
{
    return r->started && !r->dead && r->raft.state == RAFT_LEADER;
}

uint64_t kv_env_random_u64(const struct kv_env *env)
{
    uint64_t value = 0;

    /* At least 30 bits each. */
    for (int i = 0; i < 3; i++) {
        value = value << 30 ^ env->clock.ops->random(env->clock.clock);
    }
    return value;
}

static int add_peers(struct kv_replica *r, struct kv_error *ret_error)
{
    if (r->options.n_members == 0 || r->options.n_members > KV_MEMBERS_MAX) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "%zu members: want 1 to %u",
                            r->options.n_members,
                            KV_MEMBERS_MAX);
    }
    for (size_t i = 0; i < r->options.n_members; i++) {
        const struct kv_replica_member *member = &r->options.members[i];
        struct kv_peer *peer;

        if (member->id == r->options.node_id) {
            continue;
        }
        if (r->n_peers == r->options.n_members - 1) {
            return kv_error_set(ret_error,
                                KV_INVALID,
                                "node %" PRIu64 " is not among its members",
                                r->options.node_id);
        }
        peer = &r->peers[r->n_peers++];
        peer->id = member->id;
        peer->room = KV_ROOM_ENOUGH;
        snprintf(peer->address, sizeof peer->address, "%s", member->address);
        kv_outbox_init(&peer->outbox, r, member->id);
    }
    return 0;
}

static int start_network(struct kv_replica *r, struct kv_error *ret_error)
{
    const struct kv_net *net = &r->env.net;
    const struct kv_net_handler handler = {
        .arg = r,
        .receive = kv_replica_on_receive,
        .connected = kv_replica_on_connected,
        .disconnected = kv_replica_on_disconnected,
        .peer_info = kv_replica_on_peer_info,
    };
    int status = net->ops->start(net->net, &handler);

    for (size_t i = 0; i < r->n_peers && status == 0; i++) {
        status = net->ops->add_peer(net->net, r->peers[i].id, r->peers[i].address);
    }
    return status == 0 ? 0
                       : kv_error_set(ret_error,
                                      status,
                                      "cannot start the peer network: %s",
                                      kv_status_text(status));
}

int kv_replica_open(const struct kv_replica_options *options,
                    struct kv_replica **ret_replica,
                    struct kv_error *ret_error)
{
    struct kv_replica *r = calloc(1, sizeof *r);
    int status;

    if (!r) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory for the replica");
    }
    r->options = *options;
    r->env = *options->env;
    r->last_state = RAFT_FOLLOWER;
    r->room = KV_ROOM_ENOUGH;
    r->notice_ms = UINT64_MAX;
    r->remote_id = kv_env_random_u64(&r->env);
    kv_arena_init(&r->arena, MESSAGE_ARENA_BYTES);
    kv_buf_init(&r->buf, KV_PEER_MESSAGE_BYTES_MAX);
    kv_entry_cache_init(&r->cache, 0);
    kv_replica_snapshots_init(r);
    status = add_peers(r, ret_error);
    if (status == 0) {
        status = kv_replica_recover(r, ret_error);
    }
    if (status == 0) {
        status = start_network(r, ret_error);
    }
    if (status != 0) {
        kv_replica_close(r);
        return status;
    }
    if (r->start_sequence == 0) {
        kv_replica_start_core(r);
    }
    kv_wal_flush(r->wal);
    *ret_replica = r;
    return 0;
}

void kv_replica_close(struct kv_replica *r)
{
    if (!r) {
        return;
    }
    r->dead = true;
    kv_replica_reads_role_changed(r);
    if (r->apply_reader.ready || r->apply_reader.active) {
        kv_wal_read_deinit(&r->apply_reader.read);
    }
    kv_replica_snapshots_deinit(r);
    for (size_t i = 0; i < r->n_peers; i++) {
        kv_outbox_deinit(&r->peers[i].outbox);
        kv_buf_deinit(&r->peers[i].serve.data);
    }
    if (r->raft_is_open) {
        raft_close(&r->raft, NULL);
    }
    kv_replica_unload_log(r);
    kv_entry_cache_deinit(&r->cache);
    kv_terms_deinit(&r->terms);
    kv_wal_close(r->wal);
    kv_buf_deinit(&r->buf);
    kv_arena_deinit(&r->arena);
    free(r);
}

/* What this leader has proposed and nobody has committed yet. */
static void inflight(const struct kv_replica *r, unsigned *ret_entries, uint64_t *ret_bytes)
{
    uint64_t commit = raft_commit_index(&r->raft);

    *ret_entries = 0;
    *ret_bytes = 0;
    for (uint64_t i = r->cache.last_index; i > commit && *ret_entries < KV_INFLIGHT_ENTRIES_MAX;
         i--) {
        const struct kv_cached_entry *entry = kv_entry_cache_get(&r->cache, i);

        *ret_entries += 1;
        *ret_bytes += entry ? entry->data.size : 0;
    }
}

bool kv_replica_log_takes(const struct kv_replica *r)
{
    return !kv_wal_is_full(r->wal) && r->n_pending + KV_APPEND_ENTRIES_MAX < KV_PENDING_WRITES_MAX;
}

bool kv_replica_can_propose(const struct kv_replica *r, size_t size)
{
    unsigned entries;
    uint64_t bytes;

    if (!kv_replica_is_leader(r) || raft_transferee(&r->raft) != 0) {
        return false;
    }
    inflight(r, &entries, &bytes);
    return kv_guard_18_may_propose(entries, bytes, size) && kv_replica_log_takes(r);
}

int kv_replica_propose(
    struct kv_replica *r, void *data, size_t size, uint64_t *ret_index, uint64_t *ret_term)
{
    struct raft_event event = {.type = RAFT_SUBMIT};
    struct raft_entry entry = {.type = RAFT_COMMAND, .buf = {data, size}, .batch = data};
    uint64_t term;
    int rv;

    if (!kv_replica_is_leader(r) || raft_transferee(&r->raft) != 0) {
        raft_free(data);
        return KV_NOT_LEADER;
    }
    if (!kv_replica_can_propose(r, size)) {
        raft_free(data);
        return KV_BUSY;
    }
    term = raft_current_term(&r->raft);
    entry.term = term;
    event.submit.entries = &entry;
    event.submit.n = 1;
    *ret_index = raft_last_index(&r->raft) + 1;
    *ret_term = term;
    rv = kv_replica_step(r, &event);
    if (rv != 0) {
        raft_free(data);
        return rv == RAFT_NOTLEADER ? KV_NOT_LEADER : rv == RAFT_NOSPACE ? KV_NO_SPACE : KV_BUSY;
    }
    return 0;
}

uint64_t kv_replica_choose_successor(struct kv_replica *r, enum kv_room room)
{
    uint64_t best = 0;
    raft_index best_match = 0;

    for (unsigned i = 0; i < r->raft.configuration.n; i++) {
        const struct raft_server *server = &r->raft.configuration.servers[i];
        const struct kv_peer *peer = kv_replica_peer(r, server->id);
        raft_index match;

        if (server->role == RAFT_VOTER && peer && peer->outbox.connected && peer->room >= room &&
            !peer->is_unfit && raft_match_index(&r->raft, server->id, &match) == 0 &&
            (best == 0 || match > best_match)) {
            best = server->id;
            best_match = match;
        }
    }
    return best;
}

int kv_replica_transfer(struct kv_replica *r, uint64_t to_id)
{
    struct raft_event event = {.type = RAFT_TRANSFER};
    int rv;

    if (!kv_replica_is_leader(r)) {
        return KV_NOT_LEADER;
    }
    if (raft_transferee(&r->raft) != 0) {
        return KV_BUSY;
    }
    event.transfer.server_id = to_id ? to_id : kv_replica_choose_successor(r, KV_ROOM_NONE);
    if (event.transfer.server_id == 0 || !kv_replica_is_connected(r, event.transfer.server_id)) {
        return KV_NOT_FOUND;
    }
    rv = kv_replica_step(r, &event);
    return rv == 0 ? 0 : rv == RAFT_NOTLEADER ? KV_NOT_LEADER : KV_NOT_FOUND;
}

int kv_replica_send(struct kv_replica *r,
                    uint64_t peer_id,
                    enum kv_net_class cls,
                    const Kv__PeerMessage *message,
                    const struct kv_slice *bulk,
                    size_t n_bulk)
{
    const struct kv_net *net = &r->env.net;
    int status;

    kv_buf_clear(&r->buf);
    status = kv_peer_encode(&r->buf, message);
    if (status != 0) {
        return status;
    }
    return net->ops->send(
        net->net, peer_id, cls, kv_slice_of(r->buf.data, r->buf.size), bulk, n_bulk);
}

/* False: the peer knows as much of the commit index as it may. */
static bool make_commit_notice(struct kv_replica *r,
                               const struct kv_peer *peer,
                               struct raft_append_entries *ret_notice)
{
    struct raft_append_entries notice = {0};
    raft_index match;
    uint64_t commit = raft_commit_index(&r->raft);

    if (!peer->outbox.connected || raft_match_index(&r->raft, peer->id, &match) != 0 ||
        match == 0) {
        return false;
    }
    notice.prev_log_term = kv_terms_of(&r->terms, match);
    if (peer->told_commit >= (commit < match ? commit : match) || notice.prev_log_term == 0) {
        return false;
    }
    notice.term = raft_current_term(&r->raft);
    notice.prev_log_index = match;
    notice.leader_commit = commit;
    *ret_notice = notice;
    return true;
}

void kv_replica_tell_commit(struct kv_replica *r, struct kv_peer *peer)
{
    struct raft_append_entries notice;

    if (kv_replica_is_leader(r) && make_commit_notice(r, peer, &notice)) {
        KV_REACHED("commit-notice");
        kv_replica_send_append(r, peer, &notice);
    }
}

/* While entries follow each other closely they tell the commit index on their way: it is told alone
 * when they have ceased (docs/adr/0008). */
static void tell_commits(struct kv_replica *r)
{
    uint64_t now = kv_replica_now_ms(r);

    r->notice_ms = UINT64_MAX;
    for (size_t i = 0; i < r->n_peers && kv_replica_is_leader(r); i++) {
        struct kv_peer *peer = &r->peers[i];
        uint64_t due = peer->appended_ms + KV_COMMIT_NOTICE_MS;
        struct raft_append_entries notice;

        if (now >= due) {
            kv_replica_tell_commit(r, peer);
        } else if (due < r->notice_ms && make_commit_notice(r, peer, &notice)) {
            r->notice_ms = due;
        }
    }
}

static void tell_owner(struct kv_replica *r)
{
    if (r->changed) {
        r->changed = false;
        r->options.ops->changed(r->options.arg);
    }
}

bool kv_replica_turn(struct kv_replica *r)
{
    bool more = false;

    if (r->dead) {
        return false;
    }
    if (r->started) {
        tell_owner(r);
        more = kv_replica_apply_some(r);
        kv_replica_reads_turn(r);
        kv_replica_snapshots_turn(r);
        tell_commits(r);
        tell_owner(r);
    }
    kv_wal_flush(r->wal);
    return more || r->changed;
}

/* The core offers a snapshot again only after a long time-out, or when its follower was silent by
 * its own measure: so an offer that was lost is soon repeated. */
static bool offers_snapshot(const struct kv_replica *r, uint64_t now)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        uint64_t offered_ms = r->peers[i].offered_ms;

        if (offered_ms != 0 && now - offered_ms < KV_SNAPSHOT_FETCH_IDLE_MS) {
            return true;
        }
    }
    return false;
}

/* On a leader it also judges who was silent (guard 21). The mark that is moved for that also says
 * when a leader without followers steps down: it is put back if the core did not move it on. */
static void core_timeout(struct kv_replica *r, uint64_t now)
{
    struct raft_event event = {.type = RAFT_TIMEOUT};
    raft_time counted = r->raft.election_timer_start;
    raft_time since = kv_guard_21_contact_since(counted, now, r->options.heartbeat_ms);

    if (!kv_replica_is_leader(r) || offers_snapshot(r, now)) {
        kv_replica_step_or_die(r, &event, "TIMEOUT");
        return;
    }
    r->raft.election_timer_start = since;
    kv_replica_step_or_die(r, &event, "TIMEOUT");
    if (kv_replica_is_leader(r) && r->raft.election_timer_start == since) {
        r->raft.election_timer_start = counted;
    }
}

void kv_replica_on_time(struct kv_replica *r)
{
    uint64_t now = kv_replica_now_ms(r);

    if (r->dead) {
        return;
    }
    r->on_time_ms = now;
    if (now >= r->last_tick_ms + TICK_MS) {
        r->last_tick_ms = now;
        kv_wal_tick(r->wal, now);
        kv_replica_check_space(r);
        if (r->is_unfit && kv_replica_is_leader(r)) {
            /* Until somebody takes it. */
            (void)!kv_replica_transfer(r, 0);
        }
    }
    if (!r->started) {
        return;
    }
    if (kv_replica_is_patient(r, now)) {
        /* It would refuse the others its vote, since it "has a leader". */
        r->raft.follower_state.current_leader.id = 0;
    }
    if (kv_replica_election_deadline_ms(r) <= now) {
        core_timeout(r, now);
    }
    kv_replica_reads_on_time(r, now);
    kv_replica_fetch_on_time(r, now);
}

uint64_t kv_replica_deadline_ms(const struct kv_replica *r)
{
    uint64_t deadline = r->last_tick_ms + TICK_MS;

    if (r->started && !r->dead) {
        uint64_t core = kv_guard_20_deadline(kv_replica_election_deadline_ms(r), r->on_time_ms);
        uint64_t reads = kv_replica_reads_deadline_ms(r);

        deadline = core < deadline ? core : deadline;
        deadline = reads < deadline ? reads : deadline;
        deadline = r->notice_ms < deadline ? r->notice_ms : deadline;
    }
    return deadline;
}

void kv_replica_note_unfit(struct kv_replica *r, uint64_t member_id)
{
    struct kv_peer *peer = kv_replica_peer(r, member_id);

    if (peer) {
        peer->is_unfit = true;
    }
}

void kv_replica_become_unfit(struct kv_replica *r)
{
    KV_REACHED("unfit");
    r->is_unfit = true;
    r->take.is_cancelled = true;
}

static void fill_snapshot_status(const struct kv_replica *r, struct kv_replica_status *ret_status)
{
    if (r->n_kept > 0) {
        ret_status->snapshot_index = r->kept[0].descriptor.index;
        ret_status->snapshot_bytes = r->kept[0].descriptor.size_bytes;
    }
    ret_status->snapshots_taken = r->snapshots_taken;
    ret_status->snapshots_installed = r->snapshots_installed;
    ret_status->snapshot_under_way = r->take.under_way;
    if (r->fetch.phase != KV_FETCH_NONE) {
        ret_status->fetch_index = r->fetch.descriptor.index;
        ret_status->fetch_bytes = r->fetch.written_offset;
        ret_status->fetch_size_bytes = r->fetch.descriptor.size_bytes;
    }
}

void kv_replica_status(const struct kv_replica *r, struct kv_replica_status *ret_status)
{
    static const enum kv_role roles[] = {
        [RAFT_UNAVAILABLE] = KV_ROLE_STARTING,
        [RAFT_FOLLOWER] = KV_ROLE_FOLLOWER,
        [RAFT_CANDIDATE] = KV_ROLE_CANDIDATE,
        [RAFT_LEADER] = KV_ROLE_LEADER,
    };

    *ret_status = (struct kv_replica_status){
        .applied_index = r->applied_index,
        .elections = r->elections,
        .confirm_rounds = r->confirm.round,
        .reads_waiting = r->confirm.waiting.count + r->confirm.asking.count +
                         r->remote_waiting.count + r->remote_asking.count,
    };
    if (r->started) {
        ret_status->role = roles[r->raft.state];
        ret_status->term = raft_current_term(&r->raft);
        ret_status->leader_id = r->raft.state == RAFT_LEADER ? r->options.node_id : r->last_leader;
        ret_status->commit_index = raft_commit_index(&r->raft);
        ret_status->cluster_commit_index =
            r->told_commit > ret_status->commit_index ? r->told_commit : ret_status->commit_index;
        ret_status->last_index = r->cache.last_index;
        ret_status->transferring = raft_transferee(&r->raft) != 0;
    }
    kv_wal_stats(r->wal, &ret_status->wal);
    ret_status->room = r->room;
    ret_status->has_room = kv_replica_has_room(r);
    ret_status->can_write = kv_replica_can_write(r);
    ret_status->idle = kv_wal_is_idle(r->wal) && !r->apply_reader.active &&
                       !r->space_check.under_way && kv_replica_snapshots_idle(r);
    fill_snapshot_status(r, ret_status);
}

uint64_t kv_replica_match_index(const struct kv_replica *r, uint64_t member_id)
{
    raft_index match = 0;

    if (!kv_replica_is_leader(r)) {
        return 0;
    }
    if (member_id == r->options.node_id) {
        return r->raft.last_stored;
    }
    return raft_match_index(&r->raft, member_id, &match) == 0 ? match : 0;
}

bool kv_replica_is_connected(const struct kv_replica *r, uint64_t member_id)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        if (r->peers[i].id == member_id) {
            return r->peers[i].outbox.connected;
        }
    }
    return member_id == r->options.node_id;
}
