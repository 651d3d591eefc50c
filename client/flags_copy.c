/* A table of flags, and the way from one to the next under readers: see client/flags.h. */
#include "client/flags.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---------------------------------------------------------------- tables */

struct kv_flags_table *kv_flags_table_new(size_t n_flags, size_t name_bytes)
{
    struct kv_flags_table *table = calloc(1, sizeof *table);
    size_t n_slots = 4;

    /* At most half full: a look-up meets two slots or so. */
    while (n_slots < 2 * n_flags) {
        n_slots *= 2;
    }
    if (table) {
        table->n_slots = n_slots;
        table->slots = calloc(n_slots, sizeof *table->slots);
        table->names = malloc(name_bytes + 1);
    }
    if (!table || !table->slots || !table->names) {
        kv_flags_table_free(table);
        return NULL;
    }
    table->names[0] = '\0';
    return table;
}

void kv_flags_table_free(struct kv_flags_table *table)
{
    if (table) {
        free(table->slots);
        free(table->names);
        free(table);
    }
}

static struct kv_flags_slot *
find_slot(const struct kv_flags_table *table, struct kv_bytes name, uint64_t hash)
{
    size_t i = hash & (table->n_slots - 1);

    while (table->slots[i].name &&
           (table->slots[i].hash != hash || table->slots[i].name_size != name.size ||
            memcmp(table->slots[i].name, name.data, name.size) != 0)) {
        i = (i + 1) & (table->n_slots - 1);
    }
    return &table->slots[i];
}

static struct kv_flags_slot *add(struct kv_flags_table *table, struct kv_bytes name)
{
    uint64_t hash = XXH3_64bits(name.data, name.size);
    struct kv_flags_slot *slot = find_slot(table, name, hash);

    if (!slot->name) {
        slot->hash = hash;
        slot->name_size = name.size;
        slot->name = memcpy(table->names + table->names_used, name.data, name.size);
        table->names_used += name.size;
        table->n_flags++;
    }
    slot->gone = false;
    return slot;
}

void kv_flags_table_put(struct kv_flags_table *table, struct kv_bytes name, struct kv_bytes value)
{
    struct kv_flags_slot *slot = add(table, name);

    slot->flag = (struct kv_flag){0};
    slot->bad = !kv_flags_parse(value, &slot->flag);
}

void kv_flags_table_delete(struct kv_flags_table *table, struct kv_bytes name)
{
    struct kv_flags_slot *slot = find_slot(table, name, XXH3_64bits(name.data, name.size));

    slot->gone = slot->name != NULL;
}

void kv_flags_table_copy(struct kv_flags_table *table, const struct kv_flags_table *from)
{
    for (size_t i = 0; i < from->n_slots; i++) {
        const struct kv_flags_slot *slot = &from->slots[i];

        if (slot->name && !slot->gone) {
            struct kv_flags_slot *copy = add(table, kv_bytes_of(slot->name, slot->name_size));

            copy->flag = slot->flag;
            copy->bad = slot->bad;
        }
    }
}

size_t kv_flags_table_count(const struct kv_flags_table *table, size_t *ret_bad)
{
    size_t n = 0;

    *ret_bad = 0;
    for (size_t i = 0; i < table->n_slots; i++) {
        bool there = table->slots[i].name && !table->slots[i].gone;

        n += there;
        *ret_bad += there && table->slots[i].bad;
    }
    return n;
}

const struct kv_flag *kv_flags_table_find(const struct kv_flags_table *table, struct kv_bytes name)
{
    const struct kv_flags_slot *slot = find_slot(table, name, XXH3_64bits(name.data, name.size));

    return slot->name && !slot->gone ? &slot->flag : NULL;
}

/* ---------------------------------------------------------------- readers and the writer */

/* Threads differ in where their variables are. */
static unsigned stripe_of_thread(void)
{
    static _Thread_local char place;

    return (unsigned)(((uintptr_t)&place >> 6) * 0x9e3779b97f4a7c15ULL >> 60) % KV_FLAGS_STRIPES;
}

struct kv_flags_reading kv_flags_copy_begin(struct kv_flags_copy *copy)
{
    struct kv_flags_reading reading = {.stripe = stripe_of_thread(),
                                       .phase = atomic_load(&copy->phase)};

    /* In the order in which they stand: the count is seen before the table is read. */
    atomic_fetch_add(&copy->stripes[reading.stripe].readers[reading.phase], 1);
    reading.table = atomic_load(&copy->table);
    return reading;
}

void kv_flags_copy_end(struct kv_flags_copy *copy, const struct kv_flags_reading *reading)
{
    atomic_fetch_sub_explicit(
        &copy->stripes[reading->stripe].readers[reading->phase], 1, memory_order_release);
}

static void wait_for_readers(struct kv_flags_copy *copy, unsigned phase)
{
    for (unsigned i = 0; i < KV_FLAGS_STRIPES; i++) {
        /* They are in there for some tens of nanoseconds. */
        while (atomic_load(&copy->stripes[i].readers[phase]) != 0) {
            sched_yield();
        }
    }
}

void kv_flags_copy_replace(struct kv_flags_copy *copy, struct kv_flags_table *table)
{
    struct kv_flags_table *former = atomic_exchange(&copy->table, table);

    for (int i = 0; i < 2; i++) {
        unsigned phase = atomic_load(&copy->phase);

        atomic_store(&copy->phase, phase ^ 1U);
        wait_for_readers(copy, phase);
    }
    kv_flags_table_free(former);
}
