/* Between the replica, which writes, fetches and installs snapshots, and the machine, which is what
 * is in them. */
#include "server/machine/snapshot.h"

#include "common/assert.h"
#include "server/node/node_internal.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- a view of the state */

struct node_view {
    struct kv_machine_view *view;
    struct kv_machine *machine; /* that it is of: another may be installed meanwhile */
};

/* A machine that another has taken the place of; freed on the snapshot worker, since that takes
 * long, as soon as no view of it is open. */
struct kv_retired_machine {
    struct kv_job job;
    struct kv_node *node;
    struct kv_machine *machine;
    size_t n_views;
    bool is_submitted;
    struct kv_retired_machine *next;
};

uint64_t kv_node_state_bytes(void *arg)
{
    const struct kv_node *node = arg;
    struct kv_machine_stats stats;

    kv_machine_stats(node->machine, &stats);
    return stats.data_bytes + stats.history_bytes + stats.topic_bytes;
}

void *kv_node_snapshot_open(void *arg)
{
    struct kv_node *node = arg;
    struct node_view *view = malloc(sizeof *view);
    struct kv_replica_status status;

    if (!view || kv_machine_view_open(node->machine, &view->view) != 0) {
        free(view);
        return NULL;
    }
    view->machine = node->machine;
    node->n_views++;
    /* Who installs it says what it has then. */
    kv_replica_status(node->replica, &status);
    kv_node_note_hash(node, status.applied_index, false);
    return view;
}

int kv_node_snapshot_read(void *snapshot, struct kv_buf *buf, size_t max_bytes)
{
    struct node_view *view = snapshot;

    return kv_machine_view_read(view->view, buf, max_bytes);
}

static void run_free(struct kv_job *job)
{
    struct kv_retired_machine *retired = (struct kv_retired_machine *)job;

    kv_machine_close(retired->machine);
    retired->machine = NULL;
}

static void free_done(struct kv_job *job)
{
    struct kv_retired_machine *retired = (struct kv_retired_machine *)job;
    struct kv_retired_machine **link = &retired->node->retired;

    while (*link != retired) {
        link = &(*link)->next;
    }
    *link = retired->next;
    free(retired);
}

static void free_if_unseen(struct kv_node *node, struct kv_retired_machine *retired)
{
    if (retired->n_views > 0 || retired->is_submitted || node->dead) {
        return;
    }
    retired->is_submitted = true;
    retired->job.run = run_free;
    retired->job.done = free_done;
    node->env.snapshot_worker.ops->submit(node->env.snapshot_worker.worker, &retired->job);
}

void kv_node_snapshot_close(void *arg, void *snapshot)
{
    struct kv_node *node = arg;
    struct node_view *view = snapshot;

    kv_machine_view_close(view->machine, view->view);
    if (view->machine == node->machine) {
        node->n_views--;
    }
    for (struct kv_retired_machine *retired = node->retired; retired; retired = retired->next) {
        if (retired->machine == view->machine) {
            retired->n_views--;
            free_if_unseen(node, retired);
            break;
        }
    }
    free(view);
}

void kv_node_free_retired(struct kv_node *node)
{
    while (node->retired) {
        struct kv_retired_machine *retired = node->retired;

        node->retired = retired->next;
        kv_machine_close(retired->machine);
        free(retired);
    }
}

/* ---------------------------------------------------------------- a new state */

struct node_restore {
    struct kv_machine_loader *loader;
    struct kv_machine *machine; /* once it is whole */
};

void *kv_node_restore_open(void)
{
    struct node_restore *restore = calloc(1, sizeof *restore);

    if (restore && kv_machine_loader_open(&restore->loader) != 0) {
        free(restore);
        restore = NULL;
    }
    return restore;
}

int kv_node_restore_feed(void *arg, struct kv_slice piece, struct kv_error *ret_error)
{
    struct node_restore *restore = arg;

    return kv_machine_loader_feed(restore->loader, piece, ret_error);
}

int kv_node_restore_finish(void *arg, struct kv_error *ret_error)
{
    struct node_restore *restore = arg;

    return kv_machine_loader_finish(restore->loader, &restore->machine, ret_error);
}

void kv_node_restore_close(void *arg)
{
    struct node_restore *restore = arg;

    if (restore) {
        kv_machine_loader_close(restore->loader);
        kv_machine_close(restore->machine);
        free(restore);
    }
}

static void retire(struct kv_node *node, struct kv_machine *machine)
{
    struct kv_retired_machine *retired;

    /* At start nothing has seen it, and no worker may be left with it if the start fails. */
    if (!node->replica) {
        kv_machine_close(machine);
        return;
    }
    retired = calloc(1, sizeof *retired);
    if (!retired) {
        /* One that a worker looks at stays until the process ends, which is now. */
        if (node->n_views == 0) {
            kv_machine_close(machine);
        }
        kv_node_die(node, KV_NO_MEMORY, "no memory to install a snapshot");
        return;
    }
    retired->node = node;
    retired->machine = machine;
    retired->n_views = node->n_views;
    retired->next = node->retired;
    node->retired = retired;
    node->n_views = 0;
    free_if_unseen(node, retired);
}

void kv_node_restore_install(void *arg, void *restore_arg, uint64_t index)
{
    struct kv_node *node = arg;
    struct node_restore *restore = restore_arg;
    struct kv_machine *former = node->machine;

    KV_ASSERT(restore->machine && kv_machine_applied_index(restore->machine) <= index);
    kv_node_fail_waiting(node, "the state of this node was replaced while the pop waited");
    kv_watch_flush(node);
    kv_topic_flush(node);
    kv_subscriptions_restart(node);
    node->machine = restore->machine;
    kv_machine_on_wake(node->machine, kv_node_woken, node);
    kv_machine_on_publish(node->machine, kv_topic_published, node);
    kv_topic_restarted(node);
    restore->machine = NULL;
    kv_node_restore_close(restore);
    retire(node, former);
    node->again = true;
    kv_node_note_hash(node, index, true);
}

/* ---------------------------------------------------------------- on request */

void kv_node_snapshot_done(
    void *arg, int status, uint64_t index, uint64_t size_bytes, const struct kv_error *error)
{
    struct kv_node *node = arg;
    struct kv_op *op;

    while ((op = node->lists[KV_OP_SNAPSHOT].first)) {
        if (status == 0) {
            Kv__Reply reply = KV__REPLY__INIT;
            Kv__SnapshotNowResult result = KV__SNAPSHOT_NOW_RESULT__INIT;

            result.index = index;
            result.bytes = size_bytes;
            reply.result_case = KV__REPLY__RESULT_SNAPSHOT_NOW;
            reply.snapshot_now = &result;
            reply.revision = kv_machine_revision(node->machine);
            kv_node_finish(node, op, &reply);
        } else if (status == KV_CLOSED) {
            /* No status of the protocol: that is this node's own affair. */
            kv_node_fail(node,
                         op,
                         KV_BUSY,
                         "no snapshot was taken: it was given up, since one is installed instead, "
                         "or since too much changed while it was written");
        } else {
            kv_node_fail(node,
                         op,
                         status,
                         "no snapshot was taken: %s%s",
                         error->message,
                         status == KV_NO_SPACE ? ": make room there, then take it again" : "");
        }
    }
}
