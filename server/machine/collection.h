/* Collections: hash, list, set, sorted set.
 *
 * A small one is inline: all of it is the value of its key's record (packed.h). A larger one is
 * `large`: the record holds a number and sums (struct kv_large), and each element is a record of
 * its own in the tree of elements, under the number (8 bytes, big endian) and
 *
 *   hash, zset   the field or member; value: the field's value, the score's bits
 *   set          the member; no value
 *   list         its position (8 bytes, big endian); value: the element
 *
 * A collection becomes large when it does not fit the inline form any more, and stays so. A sorted
 * set's members by score are in a tree that has no history (zset.h).
 *
 * A command opens it, reads and changes elements, and commits once: that makes the key's new
 * record, after those of its elements. Single writer; nothing fails but what says so. */
#ifndef KV_MACHINE_COLLECTION_H
#define KV_MACHINE_COLLECTION_H

#include "server/machine/machine_internal.h"
#include "server/machine/packed.h"

enum {
    KV_COLLECTION_ID_BYTES = 8,
    KV_ELEMENT_KEY_BYTES_MAX = KV_COLLECTION_ID_BYTES + 8 + KV_KEY_BYTES_MAX,
};

struct kv_collection {
    struct kv_machine *machine;
    struct kv_slice key;
    enum kv_type type;
    int64_t revision;               /* that is read; 0: now */
    const struct kv_record *record; /* NULL: the key is absent */
    bool is_large;
    bool changed;
    bool expires;                                  /* its commit is an end of time */
    struct kv_life life;                           /* of the next record */
    struct kv_large large;                         /* if it is */
    struct kv_packed packed;                       /* otherwise */
    uint8_t element_key[KV_ELEMENT_KEY_BYTES_MAX]; /* scratch */
};

/* Opens it as it is at a revision (0: now, the only one that can be changed). An absent key is an
 * empty collection. KV_WRONG_TYPE; the revision's errors. */
int kv_collection_open(struct kv_machine *machine,
                       struct kv_slice key,
                       enum kv_type type,
                       int64_t revision,
                       struct kv_answer *answer,
                       struct kv_collection *ret_collection) KV_MUST_CHECK;
/* An empty one that will replace whatever the key holds. */
void kv_collection_create(struct kv_machine *machine,
                          struct kv_slice key,
                          enum kv_type type,
                          struct kv_collection *ret_collection);
uint64_t kv_collection_count(const struct kv_collection *collection);
/* Makes the key's new record, or deletes the key when nothing is left; without changes nothing. */
void kv_collection_commit(struct kv_collection *collection);

/* --- for the types: large collections --- */
/* From now on it is large; returns what it held inline, to be put again. */
struct kv_packed kv_collection_enlarge(struct kv_collection *collection);
/* Gives the packed memory to be edited. */
void kv_collection_edit(struct kv_collection *collection);
/* The key of an element in the tree; in the collection's scratch, until the next call. */
struct kv_slice kv_element_key(struct kv_collection *collection, struct kv_slice name);
/* The element's name again. */
static inline struct kv_slice kv_element_name(const struct kv_record *record)
{
    return kv_slice_of(record->bytes + KV_COLLECTION_ID_BYTES,
                       record->key_size - (size_t)KV_COLLECTION_ID_BYTES);
}
/* Live at the collection's revision, or NULL. */
const struct kv_record *kv_element_find(struct kv_collection *collection, struct kv_slice name);
/* Returns the live one that it replaced, or NULL. */
const struct kv_record *
kv_element_put(struct kv_collection *collection, struct kv_slice name, struct kv_slice value);
/* As kv_element_put(), of a hash's field that ends by itself; 0: it does not. */
const struct kv_record *kv_element_put_until(struct kv_collection *collection,
                                             struct kv_slice name,
                                             struct kv_slice value,
                                             int64_t expires_at_ms);
/* Returns what was there and live, or NULL. */
const struct kv_record *kv_element_remove(struct kv_collection *collection, struct kv_slice name);
/* Live elements with names below, now. */
uint64_t kv_element_rank(struct kv_collection *collection, struct kv_slice name);
/* The n-th live element, now; there are so many. */
const struct kv_record *kv_element_nth(struct kv_collection *collection, uint64_t n);

/* Walks the live elements of a large collection by name. Valid until something is changed. */
struct kv_element_cursor {
    const struct kv_collection *collection;
    struct kv_tree_cursor tree;
    bool descending;
};
/* To the first at or behind the name; descending: to the last before it (has_name false: to the
 * very last). */
void kv_element_seek(struct kv_collection *collection,
                     struct kv_slice name,
                     struct kv_element_cursor *ret_cursor);
void kv_element_seek_before(struct kv_collection *collection,
                            struct kv_slice name,
                            bool has_name,
                            struct kv_element_cursor *ret_cursor);
/* The next one, or NULL. Elements that were not live at the revision are passed over; *n_visited
 * (may be NULL) counts them, too. */
const struct kv_record *kv_element_next(struct kv_element_cursor *cursor, uint64_t *n_visited);

/* --- for savepoint.c, reclaim.c and the snapshot --- */
/* Brings the index of scores to what it was before this record was made. */
void kv_collection_undo_index(struct kv_machine *machine, const struct kv_record *element);
/* Frees one element of a collection that ended; false: there is none left. */
bool kv_collection_reclaim_one(struct kv_machine *machine, uint64_t id);

#endif
