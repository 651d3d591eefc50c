/* Connections: which endpoint to use, and what happens when one is lost, closing or silent. */
#include "client/session_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned index_of(const struct kv_session *session, const struct kv_endpoint *endpoint)
{
    return (unsigned)(endpoint - session->endpoints);
}

static bool is_shunned(const struct kv_session *session, unsigned i)
{
    return session->now_ns < session->endpoints[i].shunned_until_ns;
}

static bool are_all_shunned(const struct kv_session *session)
{
    unsigned i = 0;

    while (i < session->n_endpoints && is_shunned(session, i)) {
        i++;
    }
    return i == session->n_endpoints;
}

static bool is_usable(const struct kv_session *session, unsigned i)
{
    return i != KV_SESSION_NONE && session->endpoints[i].state == KV_LINK_READY &&
           !session->endpoints[i].stalled && !is_shunned(session, i);
}

/* ---------------------------------------------------------------- going down */

static void reset_link(struct kv_endpoint *endpoint)
{
    endpoint->state = KV_LINK_IDLE;
    endpoint->stalled = false;
    endpoint->n_abandoned = 0;
    endpoint->probed_ns = 0;
    endpoint->asked_ns = 0;
    kv_buf_clear(&endpoint->in);
    kv_buf_clear(&endpoint->out);
}

/* What was sent, newest first so that the queue keeps the order: back to the queue where that is
 * safe, to an end where it is not. */
static void empty_sent(struct kv_session *session, struct kv_endpoint *endpoint, const char *reason)
{
    while (endpoint->streams.last) {
        kv_session_end_error(session,
                             endpoint->streams.last,
                             KV_CLOSED,
                             "the connection to %s was lost: %s",
                             endpoint->address,
                             reason);
    }
    while (endpoint->sent.last) {
        struct kv_request *request = endpoint->sent.last;
        bool unsent = request->out_end > endpoint->taken_bytes;

        if (unsent || (request->repeatable && !request->had_items)) {
            request->maybe_done = request->maybe_done || !unsent;
            kv_request_note(session,
                            request,
                            request->maybe_done && !request->read ? KV_OUTCOME_UNKNOWN : KV_CLOSED,
                            reason);
            kv_request_list_remove(request);
            request->state = KV_REQUEST_QUEUED;
            kv_request_list_push_front(&session->queue, request);
            continue;
        }
        kv_session_end_error(session,
                             request,
                             KV_OUTCOME_UNKNOWN,
                             "the connection to %s was lost (%s) before its answer%s",
                             endpoint->address,
                             reason,
                             request->had_items ? " was complete"
                                                : ": the request may or may not have been done");
    }
}

void kv_endpoint_lose(struct kv_session *session,
                      uint64_t now_ns,
                      struct kv_endpoint *endpoint,
                      const char *reason)
{
    unsigned i = index_of(session, endpoint);

    snprintf(endpoint->error, sizeof endpoint->error, "%s", reason);
    endpoint->connect_wanted = false;
    endpoint->close_wanted = true;
    endpoint->failures++;
    endpoint->retry_at_ns = now_ns + kv_session_backoff_ns(session,
                                                           endpoint->failures,
                                                           KV_CLIENT_RECONNECT_MIN_MS,
                                                           KV_CLIENT_RECONNECT_MAX_MS);
    if (session->current == i) {
        session->current = KV_SESSION_NONE;
    }
    if (session->want == i) {
        session->want = KV_SESSION_NONE;
    }
    session->next_try = (i + 1) % session->n_endpoints;
    empty_sent(session, endpoint, endpoint->error);
    reset_link(endpoint);
}

void kv_endpoint_drain(struct kv_session *session, uint64_t now_ns, struct kv_endpoint *endpoint)
{
    unsigned i = index_of(session, endpoint);

    if (endpoint->state != KV_LINK_READY) {
        return;
    }
    endpoint->state = KV_LINK_DRAINING;
    endpoint->failures++;
    endpoint->retry_at_ns = now_ns + KV_CLIENT_RECONNECT_MAX_MS * KV_NS_PER_MS;
    snprintf(endpoint->error, sizeof endpoint->error, "it is shutting down");
    if (session->current == i) {
        session->current = KV_SESSION_NONE;
    }
    if (session->want == i) {
        session->want = KV_SESSION_NONE;
    }
    session->next_try = (i + 1) % session->n_endpoints;
}

/* ---------------------------------------------------------------- where to go */

/* The endpoint of this address; a new one, or one forgotten for it; KV_SESSION_NONE: no room. */
static unsigned learn(struct kv_session *session, const char *text)
{
    char addresses[KV_CLIENT_ENDPOINTS_MAX][KV_CLIENT_ADDRESS_BYTES];
    unsigned slot = KV_SESSION_NONE;
    size_t count;

    if (kv_endpoints_parse(text, addresses, &count, NULL) < 0 || count != 1) {
        return KV_SESSION_NONE;
    }
    for (unsigned i = 0; i < session->n_endpoints; i++) {
        if (strcmp(session->endpoints[i].address, addresses[0]) == 0) {
            return i;
        }
        if (session->endpoints[i].learned && session->endpoints[i].state == KV_LINK_IDLE &&
            i != session->want) {
            slot = i;
        }
    }
    if (session->n_endpoints < KV_CLIENT_ENDPOINTS_MAX) {
        slot = session->n_endpoints++;
    }
    if (slot != KV_SESSION_NONE) {
        struct kv_endpoint *endpoint = &session->endpoints[slot];

        memcpy(endpoint->address, addresses[0], sizeof endpoint->address);
        endpoint->learned = true;
        endpoint->failures = 0;
        endpoint->node_id = 0;
        endpoint->retry_at_ns = 0;
        endpoint->shunned_until_ns = 0;
        endpoint->error[0] = '\0';
    }
    return slot;
}

void kv_session_hint(struct kv_session *session, uint64_t leader_id, const char *address)
{
    unsigned found = KV_SESSION_NONE;

    for (unsigned i = 0; leader_id != 0 && i < session->n_endpoints; i++) {
        if (session->endpoints[i].node_id == leader_id) {
            found = i;
        }
    }
    if (found == KV_SESSION_NONE && address[0] != '\0') {
        found = learn(session, address);
    }
    if (found != KV_SESSION_NONE && session->endpoints[found].state != KV_LINK_DRAINING &&
        !is_shunned(session, found)) {
        session->want = found == session->current ? KV_SESSION_NONE : found;
    }
}

void kv_session_turn_away(struct kv_session *session, const struct kv_endpoint *endpoint)
{
    unsigned i = index_of(session, endpoint);
    unsigned next = (i + 1) % session->n_endpoints;

    while (next != i && is_shunned(session, next)) {
        next = (next + 1) % session->n_endpoints;
    }
    /* Many requests may say the same: only the first turns. */
    if (next != i && session->current == i &&
        (session->want == KV_SESSION_NONE || session->want == i)) {
        session->want = next;
    }
}

bool kv_endpoint_shun(struct kv_session *session, uint64_t now_ns, struct kv_endpoint *endpoint)
{
    unsigned shunned = index_of(session, endpoint);

    endpoint->shunned_until_ns = now_ns + KV_CLIENT_SHUN_MS * KV_NS_PER_MS;
    snprintf(endpoint->error, sizeof endpoint->error, "it is not to be trusted");
    if (session->want == shunned) {
        session->want = KV_SESSION_NONE;
    }
    for (unsigned i = 0; i < session->n_endpoints; i++) {
        const struct kv_endpoint *other = &session->endpoints[i];
        bool is_away = other->state == KV_LINK_IDLE && other->failures > 0;

        if (!is_shunned(session, i) && !(session->impatient && is_away)) {
            return true;
        }
    }
    return false;
}

static void start_connect(struct kv_session *session, uint64_t now_ns, struct kv_endpoint *endpoint)
{
    reset_link(endpoint);
    endpoint->state = KV_LINK_CONNECTING;
    endpoint->connect_wanted = true;
    endpoint->since_ns = now_ns;
    kv_session_wake_at(session, now_ns + KV_CLIENT_CONNECT_TIMEOUT_MS * KV_NS_PER_MS);
    session->next_try = (index_of(session, endpoint) + 1) % session->n_endpoints;
}

/* One that is silent is better than none; so is one that is shunned, when all are. */
static bool is_better_than_none(const struct kv_session *session, unsigned i)
{
    return i != KV_SESSION_NONE && session->endpoints[i].state == KV_LINK_READY &&
           (!is_shunned(session, i) || are_all_shunned(session));
}

static void choose_current(struct kv_session *session)
{
    if (is_usable(session, session->want)) {
        session->current = session->want;
        session->want = KV_SESSION_NONE;
    }
    if (is_usable(session, session->current)) {
        return;
    }
    for (unsigned i = 0; i < session->n_endpoints; i++) {
        if (is_usable(session, i)) {
            session->current = i;
            return;
        }
    }
    if (is_better_than_none(session, session->current)) {
        return;
    }
    session->current = KV_SESSION_NONE;
    for (unsigned i = 0; i < session->n_endpoints; i++) {
        if (is_better_than_none(session, i)) {
            session->current = i;
        }
    }
}

static bool is_connecting(const struct kv_session *session)
{
    for (unsigned i = 0; i < session->n_endpoints; i++) {
        enum kv_link_state state = session->endpoints[i].state;

        if (state == KV_LINK_CONNECTING || state == KV_LINK_GREETING) {
            return true;
        }
    }
    return false;
}

/* Nothing usable: connects to the next one, unless a connection is being made and still young. */
static void connect_any(struct kv_session *session, uint64_t now_ns)
{
    uint64_t overtake_ns = KV_CLIENT_TRY_NEXT_MS * KV_NS_PER_MS;
    unsigned chosen = KV_SESSION_NONE;
    bool all = are_all_shunned(session);

    for (unsigned i = 0; i < session->n_endpoints; i++) {
        struct kv_endpoint *endpoint = &session->endpoints[i];

        if ((endpoint->state == KV_LINK_CONNECTING || endpoint->state == KV_LINK_GREETING) &&
            now_ns - endpoint->since_ns < overtake_ns) {
            kv_session_wake_at(session, endpoint->since_ns + overtake_ns);
            return;
        }
    }
    for (unsigned k = 0; k < session->n_endpoints && chosen == KV_SESSION_NONE; k++) {
        unsigned i = (session->next_try + k) % session->n_endpoints;
        struct kv_endpoint *endpoint = &session->endpoints[i];

        if (endpoint->state != KV_LINK_IDLE ||
            (is_shunned(session, i) && !(session->current == KV_SESSION_NONE && all))) {
            continue;
        }
        if (endpoint->retry_at_ns <= now_ns) {
            chosen = i;
        } else {
            kv_session_wake_at(session, endpoint->retry_at_ns);
        }
    }
    if (chosen != KV_SESSION_NONE) {
        start_connect(session, now_ns, &session->endpoints[chosen]);
        kv_session_wake_at(session, now_ns + overtake_ns);
    }
}

static void connect_more(struct kv_session *session, uint64_t now_ns)
{
    if (session->want != KV_SESSION_NONE) {
        struct kv_endpoint *endpoint = &session->endpoints[session->want];

        if (endpoint->state == KV_LINK_IDLE && endpoint->retry_at_ns <= now_ns) {
            start_connect(session, now_ns, endpoint);
        } else if (endpoint->state == KV_LINK_IDLE || endpoint->state == KV_LINK_DRAINING) {
            session->want = KV_SESSION_NONE;
        }
    }
    if (!is_usable(session, session->current)) {
        connect_any(session, now_ns);
    }
}

/* Connections that nobody needs any more. */
static void close_idle(struct kv_session *session)
{
    for (unsigned i = 0; i < session->n_endpoints; i++) {
        struct kv_endpoint *endpoint = &session->endpoints[i];
        bool open = endpoint->state == KV_LINK_READY || endpoint->state == KV_LINK_DRAINING;

        if (open && i != session->current && i != session->want && endpoint->sent.count == 0 &&
            endpoint->streams.count == 0) {
            reset_link(endpoint);
            endpoint->close_wanted = true;
        }
    }
}

/* ---------------------------------------------------------------- sending */

static void send_queue(struct kv_session *session, uint64_t now_ns)
{
    struct kv_endpoint *endpoint;

    if (session->current == KV_SESSION_NONE) {
        return;
    }
    endpoint = &session->endpoints[session->current];
    if (!is_usable(session, session->current) && is_connecting(session)) {
        return;
    }
    if (session->want != KV_SESSION_NONE && now_ns < session->hold_until_ns) {
        kv_session_wake_at(session, session->hold_until_ns);
        return;
    }
    while (session->queue.first &&
           endpoint->sent.count + endpoint->n_abandoned < endpoint->requests_max) {
        struct kv_request *request = session->queue.first;

        if (now_ns >= request->deadline_ns) {
            /* The timer, which is due, ends it. */
            kv_session_wake_at(session, now_ns);
            return;
        }
        if (!kv_endpoint_send(session, now_ns, endpoint, request)) {
            kv_session_wake_at(session, now_ns + KV_CLIENT_RETRY_MIN_MS * KV_NS_PER_MS);
            return;
        }
        if (session->n_endpoints > 1) {
            kv_session_wake_at(session, now_ns + KV_CLIENT_STALL_MS * KV_NS_PER_MS);
        }
    }
}

/* ---------------------------------------------------------------- events of the driver */

void kv_session_on_connected(struct kv_session *session, uint64_t now_ns, unsigned i)
{
    struct kv_endpoint *endpoint = &session->endpoints[i];

    if (endpoint->state != KV_LINK_CONNECTING) {
        return;
    }
    session->steering_held = true;
    session->now_ns = now_ns;
    endpoint->state = KV_LINK_GREETING;
    if (kv_endpoint_send_hello(session, endpoint) < 0) {
        kv_endpoint_lose(session, now_ns, endpoint, "out of memory");
    }
    session->steering_held = false;
    kv_session_steer(session, now_ns);
}

void kv_session_on_closed(struct kv_session *session,
                          uint64_t now_ns,
                          unsigned i,
                          const char *reason)
{
    struct kv_endpoint *endpoint = &session->endpoints[i];
    char said[sizeof endpoint->error];

    if (endpoint->state == KV_LINK_IDLE) {
        return;
    }
    session->steering_held = true;
    session->now_ns = now_ns;
    /* One that was closing said why before. */
    snprintf(
        said, sizeof said, "%s", endpoint->state == KV_LINK_DRAINING ? endpoint->error : reason);
    kv_endpoint_lose(session, now_ns, endpoint, said);
    endpoint->close_wanted = false;
    session->steering_held = false;
    kv_session_steer(session, now_ns);
}

void kv_endpoint_on_timer(struct kv_session *session, uint64_t now_ns, struct kv_endpoint *endpoint)
{
    uint64_t stall_ns = KV_CLIENT_STALL_MS * KV_NS_PER_MS;
    uint64_t limit_ns = endpoint->since_ns + KV_CLIENT_CONNECT_TIMEOUT_MS * KV_NS_PER_MS;
    uint64_t base_ns;

    if (endpoint->state == KV_LINK_CONNECTING || endpoint->state == KV_LINK_GREETING) {
        if (now_ns >= limit_ns) {
            kv_endpoint_lose(session,
                             now_ns,
                             endpoint,
                             endpoint->state == KV_LINK_CONNECTING
                                 ? "timed out while connecting"
                                 : "connected, but no answer to the hello");
        } else {
            kv_session_wake_at(session, limit_ns);
        }
        return;
    }
    if (endpoint->streams.count > 0) {
        kv_stream_probe(session, now_ns, endpoint);
    }
    if ((endpoint->sent.count == 0 && endpoint->asked_ns == 0) || session->n_endpoints < 2) {
        return;
    }
    /* Requests may end by their deadlines sooner than that, one after the other. */
    base_ns = endpoint->asked_ns ? endpoint->asked_ns : endpoint->sent.first->sent_at_ns;
    base_ns = endpoint->heard_ns > base_ns ? endpoint->heard_ns : base_ns;
    if (now_ns - base_ns < stall_ns) {
        kv_session_wake_at(session, base_ns + stall_ns);
        return;
    }
    endpoint->stalled = true;
    kv_session_turn_away(session, endpoint);
    for (struct kv_request *request = endpoint->sent.first, *next; request; request = next) {
        next = request->next;
        if ((request->read || request->sequence != 0) && !request->had_items &&
            now_ns - request->sent_at_ns >= stall_ns) {
            kv_endpoint_send_cancel(session, request);
            request->maybe_done = request->maybe_done || !request->read;
            kv_session_again(session,
                             now_ns,
                             request,
                             false,
                             request->read ? KV_CLOSED : KV_OUTCOME_UNKNOWN,
                             "no answer in time");
        }
    }
    kv_session_wake_at(session, now_ns + stall_ns);
}

/* ---------------------------------------------------------------- steering */

/* An impatient client ends its requests as soon as every endpoint has failed. */
static void give_up(struct kv_session *session)
{
    char endpoints[KV_ERROR_MESSAGE_SIZE];
    bool all = are_all_shunned(session);

    for (unsigned i = 0; i < session->n_endpoints; i++) {
        bool is_away =
            session->endpoints[i].state == KV_LINK_IDLE && session->endpoints[i].failures > 0;

        if (!is_away && (!is_shunned(session, i) || all)) {
            return;
        }
    }
    kv_session_describe(session, endpoints, sizeof endpoints);
    for (size_t i = 0; i < session->n_slots; i++) {
        struct kv_request *request = session->slots[i];
        bool sure = request && (request->read || !request->maybe_done);

        if (request) {
            kv_session_end_error(session,
                                 request,
                                 sure ? KV_CLOSED : KV_OUTCOME_UNKNOWN,
                                 "no endpoint can be reached: %s",
                                 endpoints);
        }
    }
}

void kv_session_steer(struct kv_session *session, uint64_t now_ns)
{
    if (session->steering_held || session->closing) {
        return;
    }
    choose_current(session);
    if (session->n_requests > 0) {
        if (session->impatient && session->submitting) {
            /* Time for the driver to connect. */
            kv_session_wake_at(session, now_ns);
        } else if (session->impatient) {
            session->steering_held = true;
            give_up(session);
            session->steering_held = false;
        }
        connect_more(session, now_ns);
    }
    session->steering_held = true;
    kv_once_pump(session, now_ns);
    session->steering_held = false;
    send_queue(session, now_ns);
    close_idle(session);
}

bool kv_session_next_action(struct kv_session *session, struct kv_session_action *ret_action)
{
    for (unsigned i = 0; i < session->n_endpoints; i++) {
        struct kv_endpoint *endpoint = &session->endpoints[i];

        if (endpoint->close_wanted || endpoint->connect_wanted) {
            ret_action->kind = endpoint->close_wanted ? KV_SESSION_DISCONNECT : KV_SESSION_CONNECT;
            ret_action->endpoint = i;
            ret_action->address = endpoint->address;
            *(endpoint->close_wanted ? &endpoint->close_wanted : &endpoint->connect_wanted) = false;
            return true;
        }
    }
    return false;
}

bool kv_session_take_output(struct kv_session *session, unsigned i, struct kv_buf *buf)
{
    struct kv_endpoint *endpoint = &session->endpoints[i];
    struct kv_buf taken = endpoint->out;

    if (taken.size == 0 || endpoint->state == KV_LINK_CONNECTING) {
        return false;
    }
    endpoint->out = *buf;
    endpoint->out.max_size = KV_CLIENT_OUT_BYTES_MAX;
    endpoint->taken_bytes = endpoint->out_bytes;
    *buf = taken;
    return true;
}
