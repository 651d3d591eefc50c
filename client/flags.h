/* Inside libkv: the copy of feature flags (flags_copy.c) that readers use while it is replaced. */
#ifndef KV_CLIENT_FLAGS_H
#define KV_CLIENT_FLAGS_H

#include <kv/flags.h>
#include <stdatomic.h>

/* Never changed once it is shown to readers. */
struct kv_flags_table {
    size_t n_flags;
    size_t n_slots; /* a power of two, over n_flags */
    struct kv_flags_slot {
        uint64_t hash;
        const char *name; /* NULL: free. In `names` */
        size_t name_size;
        struct kv_flag flag;
        bool bad;  /* its value is not understood */
        bool gone; /* deleted: is left out of the next table */
    } * slots;
    char *names;
    size_t names_used;
};
/* Room for so many flags with names of so many bytes together; NULL: no memory. */
struct kv_flags_table *kv_flags_table_new(size_t n_flags, size_t name_bytes);
/* Reads the value. The name is copied; there is room for it. Replaces one of that name. */
void kv_flags_table_put(struct kv_flags_table *table, struct kv_bytes name, struct kv_bytes value);
void kv_flags_table_delete(struct kv_flags_table *table, struct kv_bytes name);
/* All of `from` that is not gone. */
void kv_flags_table_copy(struct kv_flags_table *table, const struct kv_flags_table *from);
/* How many there are; *ret_bad: of them with values that are not understood. */
size_t kv_flags_table_count(const struct kv_flags_table *table, size_t *ret_bad);
const struct kv_flag *kv_flags_table_find(const struct kv_flags_table *table, struct kv_bytes name);
void kv_flags_table_free(struct kv_flags_table *table);

/* Readers count themselves in one of these, each in a cache line of its own. */
enum { KV_FLAGS_STRIPES = 16 };
/* One writer, any number of readers who wait for nobody: sleepable RCU as in Linux (Guniguntala and
 * others, "The read-copy-update mechanism for supporting real-time applications", 2008). A reader
 * counts itself under the present phase; the writer shows the new table, changes the phase and
 * waits until the counts of the old phase are zero, twice, since a reader may have read the phase
 * before the change and counted itself after the wait. */
struct kv_flags_copy {
    _Atomic(struct kv_flags_table *) table;
    _Atomic unsigned phase; /* 0, 1 */
    struct {
        _Alignas(64) _Atomic uint64_t readers[2];
    } stripes[KV_FLAGS_STRIPES];
};
struct kv_flags_reading {
    const struct kv_flags_table *table; /* NULL: none yet */
    unsigned stripe;
    unsigned phase;
};
struct kv_flags_reading kv_flags_copy_begin(struct kv_flags_copy *copy);
void kv_flags_copy_end(struct kv_flags_copy *copy, const struct kv_flags_reading *reading);
/* Takes the table (NULL: none), frees the former one when nobody reads it any more. */
void kv_flags_copy_replace(struct kv_flags_copy *copy, struct kv_flags_table *table);

#endif
