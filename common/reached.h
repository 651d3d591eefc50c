/* Marks a rare path: KV_REACHED("wal-torn") counts how often it was taken, in builds that count
 * (KV_REACHED_ENABLED: the presets for development); elsewhere it is nothing. The simulator fails
 * when a path that it is meant to take was never taken (tests/sim/probes.txt). Any thread. */
#ifndef KV_COMMON_REACHED_H
#define KV_COMMON_REACHED_H

#include <stdint.h>

#ifdef KV_REACHED_ENABLED

#include <stdatomic.h>

struct kv_reached {
    const char *name;
    _Atomic uint64_t count;
    struct kv_reached *next; /* of those that were reached */
};

void kv_reached_note(struct kv_reached *probe);
/* Newest first; NULL: none was reached. */
struct kv_reached *kv_reached_first(void);

#define KV_REACHED(text)                                   \
    do {                                                   \
        static struct kv_reached kv_probe_ = {text, 0, 0}; \
        kv_reached_note(&kv_probe_);                       \
    } while (0)

#else

#define KV_REACHED(text) ((void)0)

#endif

#endif
