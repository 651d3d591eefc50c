/* From a file to a state, block by block. */
#include "raft/replica_internal.h"

int kv_snapshot_load_open(struct kv_snapshot_load *load,
                          const struct kv_replica *r,
                          const struct kv_snapshot_receiver *receiver,
                          const struct kv_snapshot_id *id,
                          struct kv_error *ret_error)
{
    uint64_t cluster_id = r->options.cluster_id;
    char name[KV_SNAPSHOT_NAME_BYTES];
    int status;

    *load = (struct kv_snapshot_load){
        .ops = r->options.ops,
        .slice_bytes = kv_snapshot_slice_bytes(r, KV_SNAPSHOT_SLICE_BYTES),
    };
    kv_buf_init(&load->raw, KV_SNAPSHOT_BLOCK_BYTES_MAX);
    kv_snapshot_name(name, id->index, id->term, KV_SNAPSHOT_COMPLETE);
    status =
        receiver
            ? kv_snapshot_receiver_read(receiver, cluster_id, &load->reader, ret_error)
            : kv_snapshot_reader_open(&r->env.disk, name, cluster_id, &load->reader, ret_error);
    if (status == 0) {
        load->restore = load->ops->restore_open();
        if (!load->restore) {
            status = kv_error_set(ret_error, KV_NO_MEMORY, "no memory for the state in %s", name);
        }
    }
    if (status != 0) {
        kv_snapshot_load_close(load);
    }
    return status;
}

int kv_snapshot_load_some(struct kv_snapshot_load *load, struct kv_error *ret_error)
{
    size_t bytes = 0;
    int status = 1;

    while (status == 1 && bytes < load->slice_bytes) {
        status = kv_snapshot_reader_next(load->reader, &load->raw, ret_error);
        if (status == 1) {
            int fed = load->ops->restore_feed(
                load->restore, kv_slice_of(load->raw.data, load->raw.size), ret_error);

            bytes += load->raw.size;
            status = fed == 0 ? 1 : fed;
        } else if (status == 0) {
            status = load->ops->restore_finish(load->restore, ret_error);
            break;
        }
    }
    if (status < 0) {
        load->ops->restore_close(load->restore);
        load->restore = NULL;
    }
    return status;
}

void kv_snapshot_load_close(struct kv_snapshot_load *load)
{
    kv_snapshot_reader_close(load->reader);
    load->reader = NULL;
    kv_buf_deinit(&load->raw);
}
