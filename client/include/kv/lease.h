/* Leases: a time that many keys share. A lease ends its ttl after the last renewal that the cluster
 * logged, and its keys end with it (events KV_EVENT_EXPIRE). Keys are attached by kv_put_options,
 * or by kv_lease_attach. Conventions (status, threads, memory, retries): kv/client.h.
 *
 * A lease that is to live as long as the program holds it: kv_lease_hold. It is renewed in the
 * background, together with all others of the client, and the program hears early when that does
 * not work. */
#ifndef KV_LEASE_H
#define KV_LEASE_H

#include <kv/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- single calls */

struct kv_lease_info {
    int64_t lease_id;
    uint64_t ttl_ms; /* 0: it has ended, or never was (results of kv_lease_keep_alive) */
    /* The rest is of kv_lease_info_of. */
    uint64_t remaining_ms;
    uint64_t key_count; /* of all its keys */
    size_t n_keys;
    struct kv_bytes *keys; /* with_keys, in order */
    bool more;             /* there are keys behind these */
    void *memory;          /* libkv's own */
};
void kv_lease_info_free(struct kv_lease_info *info);

/* Makes a lease. lease_id: positive, or 0: the cluster chooses; *ret_lease_id is it. KV_EXISTS: the
 * id is in use. KV_OUT_OF_BOUNDS: ttl_ms is beyond the settings lease-ttl-min and lease-ttl-max (0
 * too). KV_BUSY: too many (setting lease-limit). KV_INVALID: a negative id. */
int kv_lease_grant(struct kv_client *client,
                   int64_t lease_id,
                   uint64_t ttl_ms,
                   const struct kv_call_options *options,
                   int64_t *ret_lease_id,
                   struct kv_error *ret_error) KV_MUST_CHECK;

/* Ends a lease now; its keys end with it as by kv_delete. *ret_keys (may be NULL): how many.
 * KV_NOT_FOUND. */
int kv_lease_revoke(struct kv_client *client,
                    int64_t lease_id,
                    const struct kv_call_options *options,
                    uint64_t *ret_keys,
                    struct kv_error *ret_error) KV_MUST_CHECK;

/* Renews 1 to 4096 leases; may take half a second, since the cluster collects renewals.
 * ret_ttls_ms: n_leases long, may be NULL; 0: that one has ended. KV_NOT_FOUND: it was the only one
 * asked for, and has ended or never was. KV_INVALID: none, or too many. */
int kv_lease_keep_alive(struct kv_client *client,
                        const int64_t *lease_ids,
                        size_t n_leases,
                        const struct kv_call_options *options,
                        uint64_t *ret_ttls_ms,
                        struct kv_error *ret_error) KV_MUST_CHECK;

struct kv_lease_info_options {
    bool with_keys;
    struct kv_bytes cursor; /* keys behind this one */
    uint64_t limit;         /* of keys; 0: what one reply holds */
    struct kv_call_options call;
};
/* KV_NOT_FOUND. options may be NULL. */
int kv_lease_info_of(struct kv_client *client,
                     int64_t lease_id,
                     const struct kv_lease_info_options *options,
                     struct kv_lease_info *ret_info,
                     struct kv_error *ret_error) KV_MUST_CHECK;

struct kv_lease_list {
    size_t n_leases;
    int64_t *lease_ids; /* ascending */
    bool more;          /* go on behind last_id; it may be so of an empty list */
    int64_t last_id;    /* so far was looked: leases that have ended are left out */
    void *memory;
};
/* Leases with ids behind after_id (0: from the first); limit 0: what one reply holds. */
int kv_lease_list(struct kv_client *client,
                  int64_t after_id,
                  uint64_t limit,
                  const struct kv_call_options *options,
                  struct kv_lease_list *ret_list,
                  struct kv_error *ret_error) KV_MUST_CHECK;
void kv_lease_list_free(struct kv_lease_list *list);

/* Lets a key end with a lease, rather than with what it had before. KV_NOT_FOUND: no such key or no
 * such lease. */
int kv_lease_attach(struct kv_client *client,
                    struct kv_bytes key,
                    int64_t lease_id,
                    const struct kv_call_options *options,
                    struct kv_error *ret_error) KV_MUST_CHECK;

/* ---------------------------------------------------------------- held leases */

struct kv_lease;

/* What is certain of a held lease, by the client's monotonic clock, counted from the moment when
 * the last acknowledged renewal was sent: never later than the cluster counts. */
enum kv_lease_state {
    KV_LEASE_HELD = 0, /* it lives for longer than the margin */
    KV_LEASE_IN_DOUBT, /* no renewal was acknowledged in time: it may end within the margin, or has
                        * ended. Stop what is allowed to its holder only. Renewing goes on: it may
                        * become KV_LEASE_HELD again, and then never ended in between */
    KV_LEASE_LOST,     /* the cluster said that it has ended. Final */
};
/* "held", "in doubt", "lost"; "?" for a number that is none. */
const char *kv_lease_state_name(enum kv_lease_state state);

/* The state has changed; why: code and text, status 0 when it is KV_LEASE_HELD again. Comes from
 * the client's own thread: it must return soon, and not make blocking calls with the same client.
 * kv_lease_state and kv_lease_left_ms may be called in it. Never called after kv_lease_close has
 * returned. */
typedef void (*kv_lease_fn)(void *arg, enum kv_lease_state state, const struct kv_error *why);

struct kv_lease_options {
    uint64_t ttl_ms;    /* of a new lease; under 2000 it may be in doubt now and then, since the
                         * cluster takes up to half a second for a renewal */
    int64_t lease_id;   /* of a new lease; 0: the cluster chooses */
    bool existing;      /* lease_id is there already: keep it alive, ttl_ms is not used */
    uint64_t margin_ms; /* KV_LEASE_IN_DOUBT comes so long before the end; 0: a quarter of the ttl,
                         * at most half of it. Choose what it takes to stop the work */
    kv_lease_fn fn;     /* may be NULL: ask with kv_lease_state */
    void *arg;
    struct kv_call_options call; /* of the grant */
};
/* Makes a lease, or takes one that is there, and keeps it alive until kv_lease_close. Renewals are
 * sent at a third of the ttl or before, those of all held leases of a client together. The client
 * must outlive the lease. Errors as of kv_lease_grant (existing: kv_lease_keep_alive); KV_INVALID:
 * the margin is over half of the ttl; KV_BUSY: over 100000 are held; KV_NO_MEMORY. */
int kv_lease_hold(struct kv_client *client,
                  const struct kv_lease_options *options,
                  struct kv_lease **ret_lease,
                  struct kv_error *ret_error) KV_MUST_CHECK;
/* Ends the keeping. revoke: also ends the lease and its keys, as well as that can be done within
 * its ttl (its own end does it otherwise). Takes NULL. No other call on the lease may be under way
 * or follow. Not from its callback. */
void kv_lease_close(struct kv_lease *lease, bool revoke);

int64_t kv_lease_id(const struct kv_lease *lease);
uint64_t kv_lease_ttl_ms(const struct kv_lease *lease);
/* By the clock as it is now, from any thread: also right in a process that was stopped for a while,
 * before its callback has run. */
enum kv_lease_state kv_lease_state(struct kv_lease *lease);
/* Until it may be KV_LEASE_IN_DOUBT; 0 when it is, or lost. */
uint64_t kv_lease_left_ms(struct kv_lease *lease);
/* Waits until the state is another than `seen`, at most timeout_ms, and returns what it is then. */
enum kv_lease_state
kv_lease_wait(struct kv_lease *lease, enum kv_lease_state seen, unsigned timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
