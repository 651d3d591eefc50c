/* Streams without an end (watches, subscriptions) as requests: no deadline, credit that can be held
 * back, a question to a connection that is silent; and timers for what is above requests. */
#include "client/session_internal.h"

bool kv_stream_fill(Kv__Request *copy, Kv__Watch *watch, Kv__Subscribe *subscribe)
{
    switch (copy->command_case) {
    case KV__REQUEST__COMMAND_WATCH:
        *watch = *copy->watch;
        watch->credit = KV_CLIENT_STREAM_CREDIT_BYTES;
        copy->watch = watch;
        return true;
    case KV__REQUEST__COMMAND_SUBSCRIBE:
        *subscribe = *copy->subscribe;
        subscribe->credit = KV_CLIENT_STREAM_CREDIT_BYTES;
        copy->subscribe = subscribe;
        return true;
    default:
        return false;
    }
}

void kv_stream_begun(struct kv_session *session, uint64_t now_ns, struct kv_request *request)
{
    struct kv_endpoint *endpoint = &session->endpoints[request->endpoint];

    if (request->endless && request->list == &endpoint->sent) {
        /* Nobody waits for its end: the endpoint is not slow because it does not come. */
        kv_request_list_remove(request);
        kv_request_list_push(&endpoint->streams, request);
        kv_session_wake_at(session, now_ns + KV_CLIENT_IDLE_MS * KV_NS_PER_MS);
    }
}

void kv_stream_probe(struct kv_session *session, uint64_t now_ns, struct kv_endpoint *endpoint)
{
    uint64_t probe_ns = endpoint->heard_ns + KV_CLIENT_IDLE_MS * KV_NS_PER_MS;
    uint64_t lose_ns = endpoint->probed_ns + KV_CLIENT_PROBE_MS * KV_NS_PER_MS;

    if (now_ns < probe_ns) {
        kv_session_wake_at(session, probe_ns);
    } else if (endpoint->probed_ns <= endpoint->heard_ns) {
        endpoint->probed_ns = now_ns;
        kv_session_wake_at(session, now_ns + KV_CLIENT_PROBE_MS * KV_NS_PER_MS);
        if (kv_endpoint_send_probe(session, endpoint) < 0) {
            kv_endpoint_lose(session, now_ns, endpoint, "no memory to ask whether it lives");
        }
    } else if (now_ns < lose_ns) {
        kv_session_wake_at(session, lose_ns);
    } else {
        kv_endpoint_lose(session, now_ns, endpoint, "it is silent");
    }
}

void kv_session_hold(struct kv_session *session, uint64_t now_ns, uint64_t id, bool hold)
{
    struct kv_request *request = kv_session_of_handle(session, id);
    bool before = session->steering_held;

    session->now_ns = now_ns;
    if (!request || request->held == hold) {
        return;
    }
    request->held = hold;
    if (hold || request->state != KV_REQUEST_SENT) {
        return;
    }
    session->steering_held = true;
    if (kv_endpoint_send_credit(session, request) < 0) {
        kv_endpoint_lose(
            session, now_ns, &session->endpoints[request->endpoint], "no memory to go on with it");
    }
    session->steering_held = before;
    kv_session_steer(session, now_ns);
}

uint64_t kv_session_now_ns(const struct kv_session *session)
{
    return session->now_ns;
}

bool kv_session_is_impatient(const struct kv_session *session)
{
    return session->impatient;
}

/* ---------------------------------------------------------------- timers */

void kv_session_timer_stop(struct kv_session *session, struct kv_session_timer *timer)
{
    if (!timer->set) {
        return;
    }
    if (session->next_timer == timer) {
        session->next_timer = timer->next;
    }
    if (timer->next) {
        timer->next->prev = timer->prev;
    }
    *(timer->prev ? &timer->prev->next : &session->timers) = timer->next;
    timer->set = false;
}

void kv_session_timer_set(struct kv_session *session,
                          struct kv_session_timer *timer,
                          uint64_t at_ns)
{
    kv_session_timer_stop(session, timer);
    timer->at_ns = at_ns;
    timer->prev = NULL;
    timer->next = session->timers;
    if (timer->next) {
        timer->next->prev = timer;
    }
    session->timers = timer;
    timer->set = true;
    kv_session_wake_at(session, at_ns);
}

void kv_session_run_timers(struct kv_session *session, uint64_t now_ns)
{
    /* What is set in here goes in front, and is not looked at: its wake is noted. */
    session->next_timer = session->timers;
    while (session->next_timer) {
        struct kv_session_timer *timer = session->next_timer;

        session->next_timer = timer->next;
        if (now_ns < timer->at_ns) {
            kv_session_wake_at(session, timer->at_ns);
            continue;
        }
        kv_session_timer_stop(session, timer);
        timer->fn(timer->arg, now_ns);
    }
}
