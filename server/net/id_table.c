#include "server/net/net_internal.h"

#include <stdlib.h>

static size_t slot_of(const struct kv_id_table *table, uint64_t id)
{
    return (size_t)(id * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (table->capacity - 1);
}

struct kv_net_request *kv_id_table_find(const struct kv_id_table *table, uint64_t id)
{
    if (table->count == 0) {
        return NULL;
    }
    for (size_t i = slot_of(table, id); table->slots[i]; i = (i + 1) & (table->capacity - 1)) {
        if (table->slots[i]->id == id) {
            return table->slots[i];
        }
    }
    return NULL;
}

static void insert(struct kv_id_table *table, struct kv_net_request *request)
{
    size_t i = slot_of(table, request->id);

    while (table->slots[i]) {
        i = (i + 1) & (table->capacity - 1);
    }
    table->slots[i] = request;
    table->count++;
}

int kv_id_table_add(struct kv_id_table *table, struct kv_net_request *request)
{
    if (table->count * 2 >= table->capacity) {
        struct kv_id_table larger = {.capacity = table->capacity ? table->capacity * 2 : 16};

        larger.slots = calloc(larger.capacity, sizeof(struct kv_net_request *));
        if (!larger.slots) {
            return KV_NO_MEMORY;
        }
        for (size_t i = 0; i < table->capacity; i++) {
            if (table->slots[i]) {
                insert(&larger, table->slots[i]);
            }
        }
        free(table->slots);
        *table = larger;
    }
    insert(table, request);
    return 0;
}

void kv_id_table_remove(struct kv_id_table *table, uint64_t id)
{
    size_t i = slot_of(table, id);

    while (table->slots[i] && table->slots[i]->id != id) {
        i = (i + 1) & (table->capacity - 1);
    }
    if (!table->slots[i]) {
        return;
    }
    table->slots[i] = NULL;
    table->count--;
    /* What was pushed past the gap moves back. */
    for (size_t k = (i + 1) & (table->capacity - 1); table->slots[k];
         k = (k + 1) & (table->capacity - 1)) {
        struct kv_net_request *request = table->slots[k];

        table->slots[k] = NULL;
        table->count--;
        insert(table, request);
    }
}

void kv_id_table_deinit(struct kv_id_table *table)
{
    free(table->slots);
    *table = (struct kv_id_table){0};
}
