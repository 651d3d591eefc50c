/* A machine for tests of its commands: each write is an entry, invariants are asserted behind it,
 * and a copy through a snapshot can take its place at any moment. Bytes come from one seed. */
#ifndef KV_TESTS_SUPPORT_MACHINE_RIG_H
#define KV_TESTS_SUPPORT_MACHINE_RIG_H

#include "server/machine/machine.h"

struct machine_rig {
    struct kv_machine *machine;
    uint64_t log_index;
    int64_t cluster_time_ms;
    uint64_t random_state;
    bool checks;   /* the invariants after each write */
    bool is_still; /* no time passes by itself */
};

void machine_rig_open(struct machine_rig *rig, uint64_t seed);
void machine_rig_close(struct machine_rig *rig);
/* From 0 to below. */
uint64_t machine_rig_random(struct machine_rig *rig, uint64_t below);
/* One entry with this request. The reply is the caller's: kv__reply__free_unpacked(). */
Kv__Reply *machine_rig_write(struct machine_rig *rig, Kv__Request *request);
Kv__Reply *machine_rig_read(struct machine_rig *rig, Kv__Request *request);
/* As write or read, by the command's class; asserts the code and frees the reply. */
void machine_rig_expect(struct machine_rig *rig, Kv__Request *request, Kv__Code code);
/* As expect, and that nothing changed. */
void machine_rig_refuse(struct machine_rig *rig, Kv__Request *request, Kv__Code code);
/* An empty string under the key; a setting. */
void machine_rig_put_string(struct machine_rig *rig, const char *key);
void machine_rig_set(struct machine_rig *rig, const char *setting, uint64_t value);
/* Asserts that the state written and loaded again is the same, and goes on with the copy. */
void machine_rig_reload(struct machine_rig *rig);
/* Another rig whose machine was loaded from a snapshot of this one's. */
void machine_rig_copy(struct machine_rig *rig, struct machine_rig *ret_copy);
/* An empty entry at a later time. */
void machine_rig_pass_time(struct machine_rig *rig, int64_t ms);

static inline ProtobufCBinaryData machine_rig_bytes(const char *text)
{
    return (ProtobufCBinaryData){__builtin_strlen(text), (uint8_t *)(uintptr_t)text};
}

#endif
