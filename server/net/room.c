/* Room for items of subscriptions (node.h): a connection counts those between the core and its
 * socket. What counts outlives the connection by the way of its last word to the core. */
#include "server/net/net_internal.h"

#include "common/assert.h"

#include <stdlib.h>

struct kv_net_room *kv_net_room_new(void)
{
    struct kv_net_room *room = calloc(1, sizeof *room);

    if (room) {
        atomic_init(&room->references, 1);
    }
    return room;
}

void kv_net_room_release(struct kv_net_room *room)
{
    if (room && atomic_fetch_sub_explicit(&room->references, 1, memory_order_acq_rel) == 1) {
        free(room);
    }
}

bool kv_net_room_has(struct kv_net_room *room)
{
    if (atomic_load(&room->bytes) < KV_CONNECTION_STREAM_BYTES_MAX) {
        return true;
    }
    atomic_store(&room->is_awaited, true);
    /* The thread may have made room before it could see that. */
    return atomic_load(&room->bytes) < KV_CONNECTION_STREAM_BYTES_MAX;
}

void kv_net_room_make(struct kv_net_room *room, size_t bytes, struct kv_server *server)
{
    if (bytes == 0) {
        return;
    }
    atomic_fetch_sub(&room->bytes, bytes);
    if (!atomic_exchange(&room->is_awaited, false)) {
        return;
    }
    if (!atomic_exchange(&room->is_told, true)) {
        atomic_fetch_add(&room->references, 1);
        room->next_told = atomic_load(&server->rooms);
        while (!atomic_compare_exchange_weak(&server->rooms, &room->next_told, room)) {
        }
    }
    kv_wakeup_send(&server->wake);
}

void kv_net_rooms_take(struct kv_server *server)
{
    struct kv_net_room *room = atomic_exchange(&server->rooms, NULL);

    while (room) {
        struct kv_net_room *next = room->next_told;

        /* What is made from now on is told anew. */
        atomic_store(&room->is_told, false);
        if (server->node) {
            kv_node_stream_room(server->node, &room->listener);
        }
        kv_net_room_release(room);
        room = next;
    }
}
