/* Lists: elements by place.
 *
 * Elements of a large list lie at positions, numbers of 64 bits: the first one in the middle of the
 * number space, those that are pushed KV_LIST_SPACING apart, one between two others in the middle
 * of them. Where no number is left, the elements of the smallest range around that has room are
 * spread anew: the range of 2^i numbers may hold 2^(3i/4) elements, so what is moved per insertion
 * stays logarithmic on average (Bender et al., Two Simplified Algorithms for Maintaining Order in a
 * List). Positions are part of the state, and follow from live elements alone. */
#ifndef KV_MACHINE_LIST_H
#define KV_MACHINE_LIST_H

#include "server/machine/collection.h"

/* 2^43 pushes at one end before the end of the numbers is reached; from there on they are found as
 * those between two elements. */
#define KV_LIST_SPACING (UINT64_C(1) << 20)

/* The n-th element of now, which is there. Borrows, until something is changed. */
struct kv_slice kv_list_nth(struct kv_collection *list, uint64_t n);
/* Before the n-th, or behind the last. KV_TOO_LARGE: making room is beyond the work limit. */
int kv_list_insert(struct kv_collection *list,
                   uint64_t n,
                   struct kv_slice element,
                   struct kv_answer *answer) KV_MUST_CHECK;
/* In place of the n-th, which is there. */
void kv_list_replace(struct kv_collection *list, uint64_t n, struct kv_slice element);
/* Takes the first or the last: there is one. The element stays until the reply is given. */
struct kv_slice kv_list_pop(struct kv_collection *list, bool first);
/* Removes those that are equal, at most `limit` of them: the first ones, or the last ones. */
int kv_list_remove(struct kv_collection *list,
                   struct kv_slice element,
                   uint64_t limit,
                   bool first,
                   struct kv_answer *answer,
                   uint64_t *ret_removed) KV_MUST_CHECK;

/* Walks in order. Valid until something is changed. */
struct kv_list_cursor {
    struct kv_collection *list;
    size_t at; /* inline */
    struct kv_element_cursor elements;
    uint64_t n_visited; /* what was looked at, also what was not live at the revision */
};
/* To the n-th element, or behind the last. At a past revision it walks there from the nearer end:
 * KV_TOO_LARGE when that is beyond the work limit. */
int kv_list_seek(struct kv_collection *list,
                 uint64_t n,
                 struct kv_answer *answer,
                 struct kv_list_cursor *ret_cursor) KV_MUST_CHECK;
/* False: behind the last. */
bool kv_list_next(struct kv_list_cursor *cursor, struct kv_slice *ret_element);

#endif
