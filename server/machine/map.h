/* Collections of names: hash (with values) and set. */
#ifndef KV_MACHINE_MAP_H
#define KV_MACHINE_MAP_H

#include "server/machine/collection.h"

/* False: the name is not there. The value borrows, until something is changed. */
bool kv_map_find(struct kv_collection *map, struct kv_slice name, struct kv_slice *ret_value);
/* True: the name is new. A set's value is empty. */
bool kv_map_put(struct kv_collection *map, struct kv_slice name, struct kv_slice value);
/* As kv_map_put(), of a hash's field that ends at this time; 0: never. */
bool kv_map_put_until(struct kv_collection *map,
                      struct kv_slice name,
                      struct kv_slice value,
                      int64_t expires_at_ms);
/* When the field ends; 0: never, or it is not there. */
int64_t kv_map_expires_at_ms(struct kv_collection *map, struct kv_slice name);
/* True: it was there. */
bool kv_map_remove(struct kv_collection *map, struct kv_slice name);
/* The n-th element by name, of now; there are so many. */
void kv_map_nth(struct kv_collection *map, uint64_t n, struct kv_element *ret_element);

/* Walks by ascending name. Valid until something is changed. */
struct kv_map_cursor {
    struct kv_collection *map;
    size_t at; /* inline */
    struct kv_element_cursor elements;
    uint64_t n_visited; /* what was looked at, also what was not live at the revision */
};
/* To the first name at or behind `from`; empty: to the first of all. */
void kv_map_seek(struct kv_collection *map, struct kv_slice from, struct kv_map_cursor *ret_cursor);
/* False: behind the last. */
bool kv_map_next(struct kv_map_cursor *cursor, struct kv_element *ret_element);

#endif
