/* Exactly-once writes: an own session in the cluster, opened with the first write, whose stamp each
 * write carries, so that it may be sent again whenever its outcome is not known (kv.proto,
 * SessionStamp).
 *
 * A write gets its sequence when it first goes to the queue; one that has ended, however, counts as
 * finished: it is never sent again, and a try of it that is still on its way is refused once a
 * later stamp has acknowledged it. So what acknowledges moves on over writes that timed out, and
 * nothing is ever done twice. */
#include "client/session_internal.h"

#include <string.h>

enum { WORD_BITS = 64, RENEW_SHARE = 3 };
/* What the server may take for a last word that nobody waits for. */
#define FAREWELL_NS (1000 * KV_NS_PER_MS)
#define GIVE_UP_NS (5000 * KV_NS_PER_MS)

static bool is_current(const struct kv_session *session, const struct kv_request *request)
{
    return session->once.state == KV_ONCE_OPEN && request->session_id == session->once.session_id;
}

/* The session has ended, or is given up. What is stamped with it is sifted out of the queue, or
 * gets SESSION_EXPIRED from the server. */
static void leave_session(struct kv_session *session)
{
    session->once.n_stale += session->once.n_stamped;
    session->once.n_stamped = 0;
    session->once.state = KV_ONCE_NONE;
}

void kv_once_admit(struct kv_session *session, struct kv_request *request)
{
    if (request->once && session->once.state != KV_ONCE_OFF) {
        request->state = KV_REQUEST_UNSTAMPED;
        kv_request_list_push(&session->once.unstamped, request);
    } else {
        request->once = false;
        kv_request_list_push(&session->queue, request);
    }
}

/* ---------------------------------------------------------------- commands of our own */

/* They wait like any other request, and harm nobody when they are done twice. */
static int submit(struct kv_session *session,
                  uint64_t deadline_ns,
                  const Kv__Request *command,
                  kv_session_end_fn end_fn)
{
    struct kv_request *request;
    int status = kv_session_make(session, command, NULL, false, &request);

    if (status < 0) {
        return status;
    }
    request->read = true;
    request->repeatable = true;
    request->internal = true;
    request->once = false;
    request->end_fn = end_fn;
    request->arg = session;
    request->deadline_ns = deadline_ns;
    kv_session_add(session, request);
    session->once.n_internal++;
    return 0;
}

/* Sends what waits without a stamp: the cluster has no sessions. */
static void turn_off(struct kv_session *session)
{
    session->once.state = KV_ONCE_OFF;
    while (session->once.unstamped.first) {
        struct kv_request *request = session->once.unstamped.first;

        kv_request_list_remove(request);
        request->once = false;
        request->repeatable = request->may_repeat;
        request->state = KV_REQUEST_QUEUED;
        kv_request_list_push(&session->queue, request);
    }
}

/* What waits for a session will not get one. What is submitted meanwhile asks for another. */
static void end_unstamped(struct kv_session *session, const struct kv_error *why)
{
    for (size_t n = session->once.unstamped.count; n > 0 && session->once.unstamped.first; n--) {
        kv_session_end_error(session,
                             session->once.unstamped.first,
                             why->status,
                             "nothing was done, no session was opened for it: %s",
                             why->message);
    }
}

static void not_opened(struct kv_session *session, const struct kv_session_answer *answer)
{
    struct kv_once *once = &session->once;
    struct kv_error why = *answer->error;

    why.status = answer->status;
    once->why = why;
    if (answer->status == KV_UNSUPPORTED) {
        turn_off(session);
        return;
    }
    /* Without a reply its time was over: that of others is not. */
    if (answer->reply && (kv_status_retry(answer->status) == KV_RETRY_NEVER ||
                          kv_status_retry(answer->status) == KV_RETRY_FATAL)) {
        end_unstamped(session, &why);
        return;
    }
    once->failures++;
    once->open_at_ns = session->now_ns +
                       kv_session_backoff_ns(
                           session, once->failures, KV_CLIENT_RETRY_MIN_MS, KV_CLIENT_RETRY_MAX_MS);
}

static void on_opened(void *arg, const struct kv_session_answer *answer)
{
    struct kv_session *session = arg;
    struct kv_once *once = &session->once;

    once->n_internal--;
    once->state = KV_ONCE_NONE;
    if (answer->status == 0 && answer->reply->result_case == KV__REPLY__RESULT_SESSION_OPEN) {
        once->state = KV_ONCE_OPEN;
        once->session_id = answer->reply->session_open->session_id;
        once->ttl_ns = answer->reply->session_open->ttl_ms * KV_NS_PER_MS;
        once->heard_ns = session->now_ns;
        once->next_sequence = 1;
        once->acknowledged_through = 0;
        memset(once->finished, 0, sizeof once->finished);
        once->failures = 0;
        once->open_at_ns = 0;
        once->why.status = 0;
    } else {
        not_opened(session, answer);
    }
}

static void open_session(struct kv_session *session)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionOpen open = KV__SESSION_OPEN__INIT;

    open.ttl_ms = session->once.ttl_wanted_ms;
    request.command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
    request.session_open = &open;
    /* For those who wait; the others open another. */
    if (submit(session, session->once.unstamped.first->deadline_ns, &request, on_opened) == 0) {
        session->once.state = KV_ONCE_OPENING;
    }
}

static void on_renewed(void *arg, const struct kv_session_answer *answer)
{
    struct kv_session *session = arg;
    struct kv_once *once = &session->once;

    once->n_internal--;
    once->renewing = false;
    if (answer->status == 0) {
        once->heard_ns = session->now_ns;
    } else if (once->n_stamped == 0 || kv_status_retry(answer->status) != KV_RETRY_LATER) {
        /* Nobody answers, and nobody waits: the next write opens another. */
        leave_session(session);
    }
}

static uint64_t renew_at_ns(const struct kv_once *once)
{
    return once->heard_ns + once->ttl_ns / RENEW_SHARE;
}

void kv_once_on_timer(struct kv_session *session, uint64_t now_ns)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionRenew renew = KV__SESSION_RENEW__INIT;
    struct kv_once *once = &session->once;

    session->now_ns = now_ns;
    if (once->state != KV_ONCE_OPEN || once->renewing) {
        return;
    }
    if (now_ns < renew_at_ns(once)) {
        kv_session_wake_at(session, renew_at_ns(once));
        return;
    }
    renew.session_id = once->session_id;
    request.command_case = KV__REQUEST__COMMAND_SESSION_RENEW;
    request.session_renew = &renew;
    once->renewing =
        submit(session, now_ns + once->ttl_ns / RENEW_SHARE, &request, on_renewed) == 0;
}

/* Of a last word, of which nothing follows. */
static void on_last_word(void *arg, const struct kv_session_answer *answer)
{
    struct kv_session *session = arg;

    (void)answer;
    session->once.n_internal--;
}

void kv_session_farewell(struct kv_session *session, uint64_t now_ns)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionClose close = KV__SESSION_CLOSE__INIT;

    close.session_id = session->once.session_id;
    request.command_case = KV__REQUEST__COMMAND_SESSION_CLOSE;
    request.session_close = &close;
    if (session->once.state == KV_ONCE_OPEN && session->current != KV_SESSION_NONE &&
        submit(session, now_ns + FAREWELL_NS, &request, on_last_word) == 0) {
        kv_session_steer(session, now_ns);
    }
}

/* ---------------------------------------------------------------- stamps */

static void unstamp(struct kv_session *session, struct kv_request *request)
{
    session->once.n_stale--;
    request->sequence = 0;
    kv_request_list_remove(request);
    request->state = KV_REQUEST_UNSTAMPED;
    kv_request_list_push(&session->once.unstamped, request);
}

/* What carries the stamp of a session that has ended: it gets another, unless a try of it may have
 * been done. */
static void drop_stamp(struct kv_session *session, struct kv_request *request)
{
    if (!request->maybe_done) {
        unstamp(session, request);
        return;
    }
    kv_session_end_error(session,
                         request,
                         KV_OUTCOME_UNKNOWN,
                         "its session has ended before a retry was answered, after %s: it may or "
                         "may not have been done",
                         request->last ? request->last->message : "a try without an answer");
}

/* Out of the queue with what cannot be sent any more. */
static void sift(struct kv_session *session)
{
    struct kv_request *request = session->queue.first;

    while (request && session->once.n_stale > 0) {
        struct kv_request *next = request->next;

        if (request->sequence != 0 && !is_current(session, request)) {
            bool ends = request->maybe_done;

            drop_stamp(session, request);
            /* Its callback may have changed the queue. */
            next = ends ? session->queue.first : next;
        }
        request = next;
    }
}

void kv_once_pump(struct kv_session *session, uint64_t now_ns)
{
    struct kv_once *once = &session->once;

    session->now_ns = now_ns;
    sift(session);
    if (once->unstamped.first && once->state == KV_ONCE_NONE) {
        if (now_ns < once->open_at_ns) {
            kv_session_wake_at(session, once->open_at_ns);
        } else if (now_ns < once->unstamped.first->deadline_ns) {
            open_session(session);
        }
    }
    if (once->state != KV_ONCE_OPEN) {
        return;
    }
    while (once->unstamped.first &&
           once->next_sequence - once->acknowledged_through <= KV_SESSION_WINDOW) {
        struct kv_request *request = once->unstamped.first;

        kv_request_list_remove(request);
        request->session_id = once->session_id;
        request->sequence = once->next_sequence++;
        request->state = KV_REQUEST_QUEUED;
        kv_request_list_push(&session->queue, request);
        once->n_stamped++;
    }
    if (!once->renewing) {
        kv_session_wake_at(session, renew_at_ns(once));
    }
}

void kv_once_finish(struct kv_session *session, const struct kv_request *request)
{
    struct kv_once *once = &session->once;
    uint64_t place = request->sequence % KV_SESSION_WINDOW;

    if (request->sequence == 0) {
        return;
    }
    if (!is_current(session, request)) {
        once->n_stale--;
        return;
    }
    once->n_stamped--;
    once->finished[place / WORD_BITS] |= UINT64_C(1) << place % WORD_BITS;
    for (;;) {
        uint64_t *word;

        place = (once->acknowledged_through + 1) % KV_SESSION_WINDOW;
        word = &once->finished[place / WORD_BITS];
        if (!(*word & UINT64_C(1) << place % WORD_BITS)) {
            return;
        }
        *word &= ~(UINT64_C(1) << place % WORD_BITS);
        once->acknowledged_through++;
    }
}

void kv_once_give_up(struct kv_session *session, uint64_t now_ns, const struct kv_request *request)
{
    Kv__Request command = KV__REQUEST__INIT;
    Kv__SessionCancel cancel = KV__SESSION_CANCEL__INIT;
    bool may_wait = request->state == KV_REQUEST_SENT || request->maybe_done;

    if (!request->waits || !may_wait || request->sequence == 0 || !is_current(session, request)) {
        return;
    }
    cancel.session_id = request->session_id;
    cancel.sequence = request->sequence;
    command.command_case = KV__REQUEST__COMMAND_SESSION_CANCEL;
    command.session_cancel = &cancel;
    /* Without memory for it the cluster waits until the pop's own time is over. */
    if (submit(session, now_ns + GIVE_UP_NS, &command, on_last_word) == 0) {
        kv_session_wake_at(session, now_ns);
    }
}

void kv_once_answered(struct kv_session *session, const struct kv_request *request)
{
    if (request->sequence != 0 && is_current(session, request)) {
        session->once.heard_ns = session->now_ns;
    }
}

void kv_once_expired(struct kv_session *session, struct kv_request *request)
{
    if (is_current(session, request)) {
        leave_session(session);
    }
    drop_stamp(session, request);
}

void kv_once_fill(const struct kv_session *session,
                  const struct kv_request *request,
                  Kv__SessionStamp *ret_stamp)
{
    kv__session_stamp__init(ret_stamp);
    ret_stamp->session_id = request->session_id;
    ret_stamp->sequence = request->sequence;
    ret_stamp->acknowledged_through = session->once.acknowledged_through;
}
