#include "client/keeper.h"
#include "client/session_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    RENEWALS_PER_TTL = 3,
    JITTER_SHARE = 10,   /* of the interval, so that clients that began together do not stay so */
    TOGETHER_SHARE = 4,  /* what is due within a quarter of its interval goes along */
    ANSWER_MS_MIN = 600, /* the cluster may take KV_CLIENT_RENEWAL_LOG_MS */
    ANSWER_MS_MAX = 5000,
    INTERVAL_MS_MIN = 50,
    AGAIN_MS_MIN = 20,
    AGAIN_MS_MAX = 500,
};

struct kv_kept {
    struct kv_kept *next;
    struct kv_kept *prev;
    struct kv_keeper *keeper;
    struct kv_kept_options options;
    enum kv_lease_state state; /* that was told */
    uint64_t interval_ns;
    uint64_t due_ns;
    uint64_t certain_until_ns;
    struct renewal *renewal; /* under way; NULL: none */
    size_t place;            /* in it */
};

struct kv_keeper {
    struct kv_session *session;
    struct kv_kept *first;
    struct kv_kept *next; /* while they are gone through */
    size_t n;
    size_t n_renewals;
    unsigned failures; /* of renewals, in a row */
    struct kv_session_timer timer;
};

/* One LeaseKeepAlive. */
struct renewal {
    struct kv_keeper *keeper;
    uint64_t sent_ns;
    size_t n;
    struct kv_kept *leases[]; /* NULL: closed meanwhile */
};

/* ---------------------------------------------------------------- states */

static void tell(struct kv_kept *kept, enum kv_lease_state state, const struct kv_error *why)
{
    if (kept->state == state || kept->state == KV_LEASE_LOST) {
        return;
    }
    kept->state = state;
    if (kept->options.fn) {
        kept->options.fn(kept->options.arg, state, why);
    }
}

static void doubt(struct kv_kept *kept)
{
    struct kv_error why;

    (void)kv_error_set(&why,
                       KV_DEADLINE,
                       "no renewal of lease %lld was acknowledged in time: it ends within %llu ms, "
                       "unless one still comes through",
                       (long long)kept->options.lease_id,
                       (unsigned long long)kept->options.margin_ms);
    tell(kept, KV_LEASE_IN_DOUBT, &why);
}

static void lose(struct kv_kept *kept)
{
    struct kv_error why;

    kept->due_ns = UINT64_MAX;
    kept->certain_until_ns = 0;
    (void)kv_error_set(
        &why, KV_NOT_FOUND, "lease %lld has ended", (long long)kept->options.lease_id);
    tell(kept, KV_LEASE_LOST, &why);
}

static uint64_t certain_from(const struct kv_kept *kept, uint64_t sent_ns)
{
    return sent_ns + (kept->options.ttl_ms - kept->options.margin_ms) * KV_NS_PER_MS;
}

static void acknowledge(struct kv_kept *kept, uint64_t now_ns, uint64_t sent_ns)
{
    struct kv_error none = {0};
    uint64_t until_ns = certain_from(kept, sent_ns);

    if (until_ns <= kept->certain_until_ns) {
        return;
    }
    kept->certain_until_ns = until_ns;
    if (kept->options.renewed) {
        kept->options.renewed(kept->options.arg, until_ns);
    }
    if (now_ns < until_ns) {
        tell(kept, KV_LEASE_HELD, &none);
    }
}

/* ---------------------------------------------------------------- renewals */

/* Early enough that one may fail, and its answer be as late as the cluster collects renewals. */
static uint64_t interval_of(const struct kv_kept_options *options)
{
    uint64_t third_ms = options->ttl_ms / RENEWALS_PER_TTL;
    uint64_t certain_ms = options->ttl_ms - options->margin_ms;
    uint64_t half_ms = certain_ms > KV_CLIENT_RENEWAL_LOG_MS
                           ? (certain_ms - KV_CLIENT_RENEWAL_LOG_MS) / 2
                           : INTERVAL_MS_MIN;
    uint64_t ms = third_ms < half_ms ? third_ms : half_ms;

    return (ms > INTERVAL_MS_MIN ? ms : INTERVAL_MS_MIN) * KV_NS_PER_MS;
}

static uint64_t next_due(struct kv_kept *kept, uint64_t from_ns)
{
    unsigned jitter_ms = (unsigned)(kept->interval_ns / JITTER_SHARE / KV_NS_PER_MS);

    return from_ns + kept->interval_ns -
           kv_session_backoff_ns(kept->keeper->session, 1, jitter_ms, jitter_ms);
}

static void arm_at(struct kv_keeper *keeper, uint64_t at_ns)
{
    if (!keeper->timer.set || at_ns < keeper->timer.at_ns) {
        kv_session_timer_set(keeper->session, &keeper->timer, at_ns);
    }
}

static void arm(struct kv_keeper *keeper)
{
    uint64_t at_ns = UINT64_MAX;

    for (const struct kv_kept *kept = keeper->first; kept; kept = kept->next) {
        if (!kept->renewal && kept->due_ns < at_ns) {
            at_ns = kept->due_ns;
        }
        if (kept->state == KV_LEASE_HELD && kept->certain_until_ns < at_ns) {
            at_ns = kept->certain_until_ns;
        }
    }
    if (at_ns == UINT64_MAX) {
        kv_session_timer_stop(keeper->session, &keeper->timer);
    } else {
        kv_session_timer_set(keeper->session, &keeper->timer, at_ns);
    }
}

/* 0: it has ended; UINT64_MAX: the answer does not tell. */
static uint64_t
ttl_told(const struct kv_session_answer *answer, const struct renewal *renewal, size_t i)
{
    const Kv__LeaseKeepAliveResult *result;

    if (answer->status == KV_NOT_FOUND && renewal->n == 1) {
        return 0;
    }
    if (answer->status < 0 || answer->reply->result_case != KV__REPLY__RESULT_LEASE_KEEP_ALIVE) {
        return UINT64_MAX;
    }
    result = answer->reply->lease_keep_alive;
    return result->n_leases == renewal->n ? result->leases[i]->ttl_ms : UINT64_MAX;
}

static void on_renewed(void *arg, const struct kv_session_answer *answer)
{
    struct renewal *renewal = arg;
    struct kv_keeper *keeper = renewal->keeper;
    uint64_t now_ns = kv_session_now_ns(keeper->session);
    uint64_t again_ns = now_ns;
    bool told = renewal->n > 0 && ttl_told(answer, renewal, 0) != UINT64_MAX;

    keeper->n_renewals--;
    keeper->failures = told ? 0 : keeper->failures + 1;
    if (!told) {
        again_ns +=
            kv_session_backoff_ns(keeper->session, keeper->failures, AGAIN_MS_MIN, AGAIN_MS_MAX);
    }
    for (size_t i = 0; i < renewal->n; i++) {
        struct kv_kept *kept = renewal->leases[i];
        uint64_t ttl_ms = ttl_told(answer, renewal, i);

        /* A callback for one may close another. */
        if (!kept) {
            continue;
        }
        kept->renewal = NULL;
        if (ttl_ms == 0) {
            lose(kept);
        } else if (ttl_ms == UINT64_MAX) {
            kept->due_ns = again_ns;
        } else {
            kept->due_ns = next_due(kept, renewal->sent_ns);
            kept->due_ns =
                kept->due_ns > now_ns ? kept->due_ns : now_ns + INTERVAL_MS_MIN * KV_NS_PER_MS;
            acknowledge(kept, now_ns, renewal->sent_ns);
        }
    }
    free(renewal);
    arm(keeper);
}

/* The shortest of theirs: an answer that comes later is of no use to it. */
static unsigned answer_ms(const struct renewal *renewal)
{
    uint64_t ms = ANSWER_MS_MAX;

    for (size_t i = 0; i < renewal->n; i++) {
        uint64_t third_ms = renewal->leases[i]->options.ttl_ms / RENEWALS_PER_TTL;

        ms = third_ms < ms ? third_ms : ms;
    }
    return (unsigned)(ms > ANSWER_MS_MIN ? ms : ANSWER_MS_MIN);
}

static void send(struct kv_keeper *keeper, uint64_t now_ns, struct renewal *renewal)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__LeaseKeepAlive keep_alive = KV__LEASE_KEEP_ALIVE__INIT;
    struct kv_call_options options = {.deadline_ms = answer_ms(renewal)};
    int64_t ids[KV_CLIENT_RENEWALS_MAX];

    for (size_t i = 0; i < renewal->n; i++) {
        ids[i] = renewal->leases[i]->options.lease_id;
    }
    keep_alive.n_lease_ids = renewal->n;
    keep_alive.lease_ids = ids;
    request.command_case = KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE;
    request.lease_keep_alive = &keep_alive;
    if (kv_session_submit(
            keeper->session, now_ns, &request, &options, NULL, on_renewed, renewal, NULL) == 0) {
        keeper->n_renewals++;
        return;
    }
    for (size_t i = 0; i < renewal->n; i++) {
        renewal->leases[i]->renewal = NULL;
        renewal->leases[i]->due_ns = now_ns + AGAIN_MS_MAX * KV_NS_PER_MS;
    }
    free(renewal);
}

/* Those that are due, and those that soon are. */
static void renew(struct kv_keeper *keeper, uint64_t now_ns)
{
    struct kv_kept *kept = keeper->first;

    while (kept) {
        struct renewal *renewal = NULL;

        for (; kept && (!renewal || renewal->n < KV_CLIENT_RENEWALS_MAX); kept = kept->next) {
            if (kept->renewal || kept->state == KV_LEASE_LOST ||
                kept->due_ns > now_ns + kept->interval_ns / TOGETHER_SHARE) {
                continue;
            }
            if (!renewal) {
                renewal =
                    malloc(sizeof *renewal + KV_CLIENT_RENEWALS_MAX * sizeof renewal->leases[0]);
                if (!renewal) {
                    kept->due_ns = now_ns + AGAIN_MS_MAX * KV_NS_PER_MS;
                    return;
                }
                *renewal = (struct renewal){.keeper = keeper, .sent_ns = now_ns};
            }
            kept->renewal = renewal;
            kept->place = renewal->n;
            renewal->leases[renewal->n++] = kept;
        }
        if (renewal) {
            send(keeper, now_ns, renewal);
        }
    }
}

static void on_timer(void *arg, uint64_t now_ns)
{
    struct kv_keeper *keeper = arg;
    bool due = false;

    keeper->next = keeper->first;
    while (keeper->next) {
        struct kv_kept *kept = keeper->next;

        keeper->next = kept->next;
        due = due || (!kept->renewal && kept->due_ns <= now_ns);
        if (kept->state == KV_LEASE_HELD && kept->certain_until_ns <= now_ns) {
            doubt(kept);
        }
    }
    if (due) {
        renew(keeper, now_ns);
    }
    arm(keeper);
}

/* ---------------------------------------------------------------- open and close */

static int keeper_of(struct kv_session *session, struct kv_keeper **ret_keeper)
{
    if (!session->keeper) {
        session->keeper = calloc(1, sizeof *session->keeper);
        if (!session->keeper) {
            return KV_NO_MEMORY;
        }
        session->keeper->session = session;
        session->keeper->timer.fn = on_timer;
        session->keeper->timer.arg = session->keeper;
    }
    *ret_keeper = session->keeper;
    return 0;
}

int kv_kept_margin(uint64_t ttl_ms, uint64_t *margin_ms, struct kv_error *ret_error)
{
    if (ttl_ms == 0 || ttl_ms > UINT64_MAX / KV_NS_PER_MS / 2) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "a ttl of %llu ms is none that a lease can have",
                            (unsigned long long)ttl_ms);
    }
    if (*margin_ms > ttl_ms / 2) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "a margin of %llu ms: it is at most half of the ttl, %llu ms",
                            (unsigned long long)*margin_ms,
                            (unsigned long long)ttl_ms);
    }
    *margin_ms = *margin_ms > 0 ? *margin_ms : ttl_ms / 4;
    return 0;
}

int kv_kept_open(struct kv_session *session,
                 uint64_t now_ns,
                 const struct kv_kept_options *options,
                 struct kv_kept **ret_kept,
                 struct kv_error *ret_error)
{
    uint64_t margin_ms = options->margin_ms;
    struct kv_keeper *keeper;
    struct kv_kept *kept;
    int status;

    if (options->lease_id <= 0) {
        return kv_error_set(
            ret_error, KV_INVALID, "lease %lld: ids are positive", (long long)options->lease_id);
    }
    status = kv_kept_margin(options->ttl_ms, &margin_ms, ret_error);
    if (status < 0) {
        return status;
    }
    if (keeper_of(session, &keeper) < 0) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    if (keeper->n >= KV_CLIENT_LEASES_MAX) {
        return kv_error_set(
            ret_error, KV_BUSY, "this client keeps %u leases alive already", KV_CLIENT_LEASES_MAX);
    }
    kept = calloc(1, sizeof *kept);
    if (!kept) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    kept->keeper = keeper;
    kept->options = *options;
    kept->options.margin_ms = margin_ms;
    kept->interval_ns = interval_of(&kept->options);
    kept->due_ns = next_due(kept, options->granted_ns);
    kept->certain_until_ns = certain_from(kept, options->granted_ns);
    kept->next = keeper->first;
    if (kept->next) {
        kept->next->prev = kept;
    }
    keeper->first = kept;
    keeper->n++;
    if (kept->due_ns <= now_ns) {
        renew(keeper, now_ns);
    }
    arm_at(keeper,
           !kept->renewal && kept->due_ns < kept->certain_until_ns ? kept->due_ns
                                                                   : kept->certain_until_ns);
    *ret_kept = kept;
    return 0;
}

void kv_kept_close(struct kv_kept *kept)
{
    struct kv_keeper *keeper;

    if (!kept) {
        return;
    }
    keeper = kept->keeper;
    if (kept->renewal) {
        kept->renewal->leases[kept->place] = NULL;
    }
    if (keeper->next == kept) {
        keeper->next = kept->next;
    }
    if (kept->next) {
        kept->next->prev = kept->prev;
    }
    *(kept->prev ? &kept->prev->next : &keeper->first) = kept->next;
    keeper->n--;
    free(kept);
}

enum kv_lease_state kv_kept_state(const struct kv_kept *kept, uint64_t now_ns)
{
    if (kept->state == KV_LEASE_LOST) {
        return KV_LEASE_LOST;
    }
    return now_ns < kept->certain_until_ns ? KV_LEASE_HELD : KV_LEASE_IN_DOUBT;
}

uint64_t kv_kept_certain_until_ns(const struct kv_kept *kept)
{
    return kept->certain_until_ns;
}

void kv_keeper_close(struct kv_keeper *keeper)
{
    if (!keeper) {
        return;
    }
    /* Renewals ended with the session's requests. */
    KV_ASSERT(keeper->n_renewals == 0);
    while (keeper->first) {
        kv_kept_close(keeper->first);
    }
    free(keeper);
}

const char *kv_lease_state_name(enum kv_lease_state state)
{
    static const char *const names[] = {"held", "in doubt", "lost"};

    return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "?";
}
