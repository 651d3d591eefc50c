/* Feature flags: switches that a program asks for millions of times a second, and that are changed
 * for all programs at once. Each is a string key under a prefix (flags/ as a rule): its value is
 * "on" or "off", and then maybe a percentage: "on 20%". Conventions (status, memory): kv/client.h.
 *
 *     status = kv_flags_open(client, &(struct kv_flags_options){.wait_ms = 1000}, &flags, &error);
 *     ...
 *     if (kv_flags_check(flags, "new-checkout", user_id)) {
 *
 * A percentage means: on for those ids whose bucket is below it. The bucket is the XXH3 (64 bits,
 * seed 0) of the flag's name, a zero byte and the id, modulo 10000, so the same id gets the same
 * answer in every program and language, those that have a flag keep it while its percentage grows,
 * and flags are independent of each other.
 *
 * The answers come from a copy in memory that a thread keeps up to date by a watch. When the
 * cluster is away, the last copy answers; kv_flags_age_ms tells how old it is. */
#ifndef KV_FLAGS_H
#define KV_FLAGS_H

#include <kv/client.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kv_flags;

enum {
    KV_FLAGS_MAX = 65536,    /* flags in a copy; further ones are left out and counted as bad */
    KV_FLAG_FULL = 10000,    /* a percentage of 100: hundredths of a percent */
    KV_FLAG_TEXT_BYTES = 16, /* of a value, with its end */
};

struct kv_flag {
    bool enabled;
    unsigned rollout; /* 0..KV_FLAG_FULL */
};

struct kv_flags_options {
    struct kv_bytes prefix; /* of the keys; empty: "flags/" */
    unsigned wait_ms;       /* so long kv_flags_open waits for the first copy; 0: not at all */
};
/* Begins to keep a copy. Without one after wait_ms it is opened all the same: every flag is off
 * until it comes (kv_flags_age_ms). The client must outlive it. KV_NO_MEMORY, KV_IO (no thread). */
int kv_flags_open(struct kv_client *client,
                  const struct kv_flags_options *options,
                  struct kv_flags **ret_flags,
                  struct kv_error *ret_error) KV_MUST_CHECK;
/* Takes NULL. No other call on it may be under way. */
void kv_flags_close(struct kv_flags *flags);

/* From any number of threads; takes well under a microsecond, waits for nobody. A flag that is not
 * there, or whose value is not understood, is off. id may be empty. */
bool kv_flags_check(struct kv_flags *flags, const char *name, struct kv_bytes id);
/* What is known of the flag; false: there is no such flag, *ret_flag is untouched. */
bool kv_flags_get(struct kv_flags *flags, const char *name, struct kv_flag *ret_flag);

/* Since the copy was known to be complete; grows while the cluster does not answer, or (after two
 * seconds) no node that is reached has a leader; otherwise it stays near a second. UINT64_MAX:
 * there was no copy yet. */
uint64_t kv_flags_age_ms(struct kv_flags *flags);
struct kv_flags_state {
    uint64_t age_ms;  /* as above */
    int64_t revision; /* of the copy */
    size_t n_flags;
    size_t n_bad; /* keys whose values are not understood, or that are beyond KV_FLAGS_MAX */
    struct kv_error error; /* why it is not up to date; status 0: nothing is wrong */
};
void kv_flags_state(struct kv_flags *flags, struct kv_flags_state *ret_state);

/* ---------------------------------------------------------------- values */

/* "on", "off", "on 20%", "off 12.5%"; without a percentage it is all. False: it is not one. */
bool kv_flags_parse(struct kv_bytes value, struct kv_flag *ret_flag);
/* The shortest text that is read as this. */
void kv_flags_format(const struct kv_flag *flag, char text[KV_FLAG_TEXT_BYTES]);
/* "20%", "12.5%" or the number alone: hundredths of a percent. */
bool kv_flags_parse_percent(struct kv_bytes text, unsigned *ret_rollout);
/* Is it on for this id? */
bool kv_flags_decide(const struct kv_flag *flag, struct kv_bytes name, struct kv_bytes id);

#ifdef __cplusplus
}
#endif

#endif
