/* The side that has a snapshot: offers it to who needs it, and reads pieces for who fetches it. */
#include "common/log.h"
#include "common/reached.h"
#include "raft/peer_codec.h"
#include "raft/replica_internal.h"

#include <inttypes.h>
#include <string.h>

void kv_replica_send_install(struct kv_replica *r,
                             struct kv_peer *peer,
                             const struct raft_install_snapshot *install)
{
    const struct kv_kept_snapshot *kept =
        kv_replica_kept(r, install->last_index, install->last_term);

    /* The core knows of none but the newest that it was told of. */
    if (!kept || kept->configuration.size == 0 || r->is_unfit) {
        return;
    }
    peer->offered_ms = kv_replica_now_ms(r);
    kv_buf_clear(&r->buf);
    if (kv_peer_encode_install(&r->buf,
                               install,
                               &kept->descriptor,
                               kv_slice_of(kept->configuration.data, kept->configuration.size)) ==
        0) {
        kv_replica_send_buf(r, peer, KV_NET_URGENT);
    }
}

static void
send_piece(struct kv_replica *r, struct kv_peer *peer, const struct kv_serve *serve, int status)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__SnapshotPiece piece = KV__SNAPSHOT_PIECE__INIT;
    const struct kv_slice bulk = kv_slice_of(serve->data.data, status == 0 ? serve->data.size : 0);

    piece.last_index = serve->index;
    piece.last_term = serve->term;
    piece.offset = serve->offset;
    piece.status = -status;
    message.body_case = KV__PEER_MESSAGE__BODY_SNAPSHOT_PIECE;
    message.snapshot_piece = &piece;
    /* What the network does not take is asked for again. */
    (void)!kv_replica_send(r, peer->id, KV_NET_BULK, &message, &bulk, 1);
}

static void run_serve(struct kv_job *job)
{
    struct kv_serve *serve = (struct kv_serve *)job;
    char name[KV_SNAPSHOT_NAME_BYTES];
    struct kv_error error;

    kv_snapshot_name(name, serve->index, serve->term, KV_SNAPSHOT_COMPLETE);
    kv_buf_clear(&serve->data);
    serve->status = kv_snapshot_piece_read(
        &serve->replica->env.disk, name, serve->offset, serve->size, &serve->data, &error);
}

static void serve_done(struct kv_job *job)
{
    struct kv_serve *serve = (struct kv_serve *)job;
    struct kv_replica *r = serve->replica;

    serve->under_way = false;
    if (serve->status != 0 && serve->status != KV_NO_MEMORY && !r->dead) {
        kv_replica_check_snapshot(r, serve->index, serve->term);
    }
    for (size_t i = 0; i < r->n_peers && !r->dead; i++) {
        if (&r->peers[i].serve == serve) {
            send_piece(r, &r->peers[i], serve, serve->status);
        }
    }
}

void kv_replica_receive_fetch(struct kv_replica *r,
                              struct kv_peer *peer,
                              const Kv__SnapshotFetch *fetch)
{
    struct kv_serve *serve = &peer->serve;
    struct kv_kept_snapshot *kept = kv_replica_kept(r, fetch->last_index, fetch->last_term);

    if (fetch->refused) {
        KV_LOG(WARN,
               "raft",
               "snapshot_refused_by_peer",
               "index=%" PRIu64 " peer=%" PRIu64 " next=\"it is checked here\"",
               fetch->last_index,
               peer->id);
        kv_replica_check_snapshot(r, fetch->last_index, fetch->last_term);
        return;
    }
    if (serve->under_way) {
        return; /* one at a time: it asks again */
    }
    serve->replica = r;
    serve->index = fetch->last_index;
    serve->term = fetch->last_term;
    serve->offset = fetch->offset;
    serve->size =
        fetch->size < KV_SNAPSHOT_PIECE_BYTES ? fetch->size : (size_t)KV_SNAPSHOT_PIECE_BYTES;
    if (!kept || fetch->size == 0 || r->is_unfit) {
        KV_REACHED("snapshot-not-served");
        send_piece(r, peer, serve, KV_NOT_FOUND);
        return;
    }
    kept->fetched_ms = kv_replica_now_ms(r);
    if (serve->data.max_size == 0) {
        kv_buf_init(&serve->data, KV_SNAPSHOT_PIECE_BYTES);
    }
    serve->under_way = true;
    serve->job.run = run_serve;
    serve->job.done = serve_done;
    r->env.snapshot_worker.ops->submit(r->env.snapshot_worker.worker, &serve->job);
}
