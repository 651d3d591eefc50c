/* Results that several types share: elements of lists and sets. */
#ifndef KV_ELEMENTS_H
#define KV_ELEMENTS_H

#include <kv/client.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kv_elements {
    size_t n_elements;
    struct kv_bytes *elements;
    bool more;              /* there is more than one reply holds: go on with the cursor */
    struct kv_bytes cursor; /* empty unless more */
    int64_t revision;       /* of the store when this was answered */
    void *memory;           /* libkv's own */
};
void kv_elements_free(struct kv_elements *elements);

#ifdef __cplusplus
}
#endif

#endif
