/* Lists: elements in an order of their own, cheap at both ends and by index. An index counts from
 * 0; a negative one from the end (-1: the last). Conventions (status, threads, memory, retries):
 * kv/client.h. Every call: KV_WRONG_TYPE when the key holds something else. A list without elements
 * does not exist. */
#ifndef KV_LIST_H
#define KV_LIST_H

#include <kv/elements.h>

#ifdef __cplusplus
extern "C" {
#endif

enum kv_list_end {
    KV_LIST_LEFT = 0,
    KV_LIST_RIGHT = 1,
};

struct kv_push_options {
    bool if_present; /* only onto a list that exists */
    struct kv_call_options call;
};
/* Pushes one after the other: the last of them is outermost. *ret_length (may be NULL): length
 * afterwards; 0 when if_present and there is no list. KV_TOO_LARGE. */
int kv_list_push(struct kv_client *client,
                 struct kv_bytes key,
                 enum kv_list_end end,
                 const struct kv_bytes *elements,
                 size_t n_elements,
                 const struct kv_push_options *options,
                 uint64_t *ret_length,
                 struct kv_error *ret_error) KV_MUST_CHECK;

struct kv_pop_options {
    uint64_t count;    /* at most so many; 0: one */
    uint64_t block_ms; /* wait so long for an element (count must be 0 or 1); 0: do not wait. The
                        * call's deadline, when 0, is this and the client's own */
    struct kv_call_options call;
};
/* Takes elements off one end; none when there are none. With block_ms those who wait are served in
 * the order in which they came; KV_DEADLINE when no element came, or (then the outcome is unknown)
 * when the server does not answer. */
int kv_list_pop(struct kv_client *client,
                struct kv_bytes key,
                enum kv_list_end end,
                const struct kv_pop_options *options,
                struct kv_elements *ret_elements,
                struct kv_error *ret_error) KV_MUST_CHECK;

/* Elements first..last, both included; what is out of the list is left out. KV_COMPACTED,
 * KV_FUTURE_REVISION. */
int kv_list_range(struct kv_client *client,
                  struct kv_bytes key,
                  int64_t first,
                  int64_t last,
                  const struct kv_get_options *options,
                  struct kv_elements *ret_elements,
                  struct kv_error *ret_error) KV_MUST_CHECK;

/* One element. KV_OUT_OF_BOUNDS: there is none at this index. */
int kv_list_index(struct kv_client *client,
                  struct kv_bytes key,
                  int64_t index,
                  const struct kv_get_options *options,
                  struct kv_elements *ret_elements,
                  struct kv_error *ret_error) KV_MUST_CHECK;

/* Replaces one element. KV_OUT_OF_BOUNDS. */
int kv_list_set(struct kv_client *client,
                struct kv_bytes key,
                int64_t index,
                struct kv_bytes element,
                const struct kv_call_options *options,
                struct kv_error *ret_error) KV_MUST_CHECK;

/* 0 when absent. */
int kv_list_len(struct kv_client *client,
                struct kv_bytes key,
                const struct kv_get_options *options,
                uint64_t *ret_length,
                struct kv_error *ret_error) KV_MUST_CHECK;

/* Before, or after, the first element that equals pivot. *ret_length (may be NULL): length
 * afterwards. KV_NOT_FOUND: no such element. */
int kv_list_insert(struct kv_client *client,
                   struct kv_bytes key,
                   bool after,
                   struct kv_bytes pivot,
                   struct kv_bytes element,
                   const struct kv_call_options *options,
                   uint64_t *ret_length,
                   struct kv_error *ret_error) KV_MUST_CHECK;

/* Removes elements that equal `element`: count > 0 the first ones, < 0 the last ones, 0 all.
 * *ret_removed (may be NULL): how many went. */
int kv_list_remove(struct kv_client *client,
                   struct kv_bytes key,
                   int64_t count,
                   struct kv_bytes element,
                   const struct kv_call_options *options,
                   uint64_t *ret_removed,
                   struct kv_error *ret_error) KV_MUST_CHECK;

/* Keeps elements first..last only. *ret_length (may be NULL): length afterwards. */
int kv_list_trim(struct kv_client *client,
                 struct kv_bytes key,
                 int64_t first,
                 int64_t last,
                 const struct kv_call_options *options,
                 uint64_t *ret_length,
                 struct kv_error *ret_error) KV_MUST_CHECK;

/* One end of a list. */
struct kv_list_place {
    struct kv_bytes key;
    enum kv_list_end end;
};
/* Takes an element off one list and pushes it to another, or the same, as one change; the element
 * is the result. KV_NOT_FOUND: there was none. */
int kv_list_move(struct kv_client *client,
                 const struct kv_list_place *from,
                 const struct kv_list_place *to,
                 const struct kv_call_options *options,
                 struct kv_elements *ret_elements,
                 struct kv_error *ret_error) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
