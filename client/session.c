/* Requests: from submission over retries to their end. */
#include "client/keeper.h"
#include "client/session_internal.h"
#include "proto/frame.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOT_BITS = 16, SLOTS_FIRST = 64, TRIES_BEFORE_TURNING = 3 };
_Static_assert(KV_CLIENT_REQUESTS_MAX <= 1u << SLOT_BITS, "a slot's number fits its bits");

/* ---------------------------------------------------------------- lists */

void kv_request_list_push(struct kv_request_list *list, struct kv_request *request)
{
    request->list = list;
    request->next = NULL;
    request->prev = list->last;
    if (list->last) {
        list->last->next = request;
    } else {
        list->first = request;
    }
    list->last = request;
    list->count++;
}

void kv_request_list_push_front(struct kv_request_list *list, struct kv_request *request)
{
    request->list = list;
    request->prev = NULL;
    request->next = list->first;
    if (list->first) {
        list->first->prev = request;
    } else {
        list->last = request;
    }
    list->first = request;
    list->count++;
}

void kv_request_list_remove(struct kv_request *request)
{
    struct kv_request_list *list = request->list;

    if (request->prev) {
        request->prev->next = request->next;
    } else {
        list->first = request->next;
    }
    if (request->next) {
        request->next->prev = request->prev;
    } else {
        list->last = request->prev;
    }
    list->count--;
    request->list = NULL;
}

/* ---------------------------------------------------------------- small things */

void kv_session_wake_at(struct kv_session *session, uint64_t at_ns)
{
    if (at_ns < session->wake_ns) {
        session->wake_ns = at_ns;
    }
}

/* xorshift64* */
static uint64_t next_random(struct kv_session *session)
{
    uint64_t x = session->random;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    session->random = x;
    return x * 2685821657736338717ULL;
}

uint64_t kv_session_backoff_ns(struct kv_session *session,
                               unsigned failures,
                               unsigned min_ms,
                               unsigned max_ms)
{
    uint64_t ns = min_ms * KV_NS_PER_MS;
    uint64_t max_ns = max_ms * KV_NS_PER_MS;

    for (unsigned i = 1; i < failures && ns < max_ns; i++) {
        ns *= 2;
    }
    if (ns > max_ns) {
        ns = max_ns;
    }
    return ns / 2 + next_random(session) % (ns / 2 + 1);
}

void kv_session_describe(const struct kv_session *session, char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    for (unsigned i = 0; i < session->n_endpoints && used < size; i++) {
        const struct kv_endpoint *endpoint = &session->endpoints[i];
        const char *why = endpoint->error;

        if (why[0] == '\0') {
            why = endpoint->state == KV_LINK_IDLE ? "not tried" : "no answer yet";
        }
        used += (size_t)snprintf(
            text + used, size - used, "%s%s: %s", i ? "; " : "", endpoint->address, why);
    }
}

/* ---------------------------------------------------------------- slots */

static int grow_slots(struct kv_session *session)
{
    size_t n = session->n_slots ? session->n_slots * 2 : SLOTS_FIRST;
    struct kv_request **slots;
    uint32_t *free_slots;

    if (session->n_slots == KV_CLIENT_REQUESTS_MAX) {
        return KV_BUSY;
    }
    slots = realloc(session->slots, n * sizeof(struct kv_request *));
    if (!slots) {
        return KV_NO_MEMORY;
    }
    session->slots = slots;
    free_slots = realloc(session->free_slots, n * sizeof(uint32_t));
    if (!free_slots) {
        return KV_NO_MEMORY;
    }
    session->free_slots = free_slots;
    for (size_t i = n; i-- > session->n_slots;) {
        slots[i] = NULL;
        free_slots[session->n_free++] = (uint32_t)i;
    }
    session->n_slots = n;
    return 0;
}

static uint64_t slot_of(uint64_t id)
{
    return id & ((1u << SLOT_BITS) - 1);
}

void kv_session_stamp(struct kv_session *session, struct kv_request *request)
{
    request->wire_id = ++session->next_id << SLOT_BITS | slot_of(request->handle);
}

uint64_t kv_session_spare_id(struct kv_session *session)
{
    return ++session->next_id << SLOT_BITS;
}

static struct kv_request *in_slot(struct kv_session *session, uint64_t id)
{
    return slot_of(id) < session->n_slots ? session->slots[slot_of(id)] : NULL;
}

struct kv_request *kv_session_of_handle(struct kv_session *session, uint64_t id)
{
    struct kv_request *request = in_slot(session, id);

    return request && request->handle == id ? request : NULL;
}

struct kv_request *kv_session_find(struct kv_session *session, uint64_t wire_id)
{
    struct kv_request *request = in_slot(session, wire_id);

    return request && request->state == KV_REQUEST_SENT && request->wire_id == wire_id ? request
                                                                                       : NULL;
}

/* ---------------------------------------------------------------- ends */

void kv_session_end(struct kv_session *session,
                    struct kv_request *request,
                    const struct kv_session_answer *answer)
{
    kv_request_list_remove(request);
    session->slots[slot_of(request->handle)] = NULL;
    session->free_slots[session->n_free++] = (uint32_t)slot_of(request->handle);
    session->n_requests--;
    session->request_bytes -= request->body_size;
    kv_once_finish(session, request);
    request->end_fn(request->arg, answer);
    free(request->last);
    free(request);
}

void kv_session_end_error(
    struct kv_session *session, struct kv_request *request, int status, const char *format, ...)
{
    struct kv_error error = {.status = status};
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error.message, sizeof error.message, format, arguments);
    va_end(arguments);
    kv_session_end(
        session, request, &(struct kv_session_answer){.status = status, .error = &error});
}

/* Takes the status of the reply, with the server's own words. */
static void end_with_reply(struct kv_session *session,
                           struct kv_request *request,
                           const Kv__Reply *reply,
                           struct kv_slice packed)
{
    struct kv_error error = {.status = -(int)reply->code};

    if (request->sequence != 0 && reply->code == KV__CODE__OK && reply->message[0] != '\0' &&
        reply->result_case == KV__REPLY__RESULT__NOT_SET) {
        /* It was done, but what it returned is lost. */
        error.status = KV_OUTCOME_UNKNOWN;
        snprintf(error.message, sizeof error.message, "%s", reply->message);
    }
    if (reply->code != KV__CODE__OK) {
        const char *text = reply->message[0] ? reply->message : kv_status_text(error.status);

        if (kv_status_retry(error.status) == KV_RETRY_NEVER) {
            snprintf(error.message, sizeof error.message, "%s", text);
        } else {
            snprintf(error.message,
                     sizeof error.message,
                     "%s (answered by %s)",
                     text,
                     session->endpoints[request->endpoint].address);
        }
    }
    kv_session_end(session,
                   request,
                   &(struct kv_session_answer){
                       .status = error.status, .reply = reply, .packed = packed, .error = &error});
}

void kv_request_note(struct kv_session *session,
                     struct kv_request *request,
                     int status,
                     const char *reason)
{
    request->failures++;
    if (!request->last) {
        request->last = malloc(sizeof *request->last);
    }
    kv_error_set(
        request->last, status, "%s: %s", session->endpoints[request->endpoint].address, reason);
}

void kv_session_again(struct kv_session *session,
                      uint64_t now_ns,
                      struct kv_request *request,
                      bool wait,
                      int status,
                      const char *reason)
{
    kv_request_note(session, request, status, reason);
    kv_request_list_remove(request);
    if (!wait) {
        request->state = KV_REQUEST_QUEUED;
        kv_request_list_push(&session->queue, request);
        return;
    }
    request->state = KV_REQUEST_WAITING;
    request->retry_at_ns =
        now_ns + kv_session_backoff_ns(
                     session, request->failures, KV_CLIENT_RETRY_MIN_MS, KV_CLIENT_RETRY_MAX_MS);
    kv_request_list_push(&session->waiting, request);
    kv_session_wake_at(session, request->retry_at_ns);
}

/* Which way to turn after a refusal. True: another endpoint is worth trying at once. */
static bool follow(struct kv_session *session,
                   uint64_t now_ns,
                   struct kv_request *request,
                   const Kv__Reply *reply)
{
    const struct kv_endpoint *endpoint = &session->endpoints[request->endpoint];
    bool known = reply->hint && reply->hint->leader_address[0] != '\0';

    if (known) {
        kv_session_hint(session, reply->hint->leader_id, reply->hint->leader_address);
        if (session->want != KV_SESSION_NONE && session->want != request->endpoint) {
            /* The one that refused would refuse again: give the other time to connect. */
            session->hold_until_ns = now_ns + KV_CLIENT_TRY_NEXT_MS * KV_NS_PER_MS;
            return true;
        }
    }
    if (reply->code == KV__CODE__NOT_LEADER || reply->code == KV__CODE__NOT_MEMBER ||
        request->failures % (TRIES_BEFORE_TURNING + 1) == TRIES_BEFORE_TURNING) {
        kv_session_turn_away(session, endpoint);
    }
    return false;
}

/* The node is not to be trusted and has done nothing: another one may, also in an earlier try.
 * True: it goes on there, or has ended. */
static bool leave_untrusted(struct kv_session *session,
                            uint64_t now_ns,
                            struct kv_request *request,
                            bool others,
                            const char *text)
{
    const struct kv_endpoint *endpoint = &session->endpoints[request->endpoint];
    bool is_unknown = request->maybe_done && !request->read;

    if (others) {
        kv_session_again(
            session, now_ns, request, false, is_unknown ? KV_OUTCOME_UNKNOWN : KV_CORRUPT, text);
        return true;
    }
    if (is_unknown) {
        kv_once_give_up(session, now_ns, request);
        kv_session_end_error(session,
                             request,
                             KV_OUTCOME_UNKNOWN,
                             "an earlier try may have been done; %s: %s",
                             endpoint->address,
                             text);
    }
    return is_unknown;
}

void kv_session_answered(struct kv_session *session,
                         uint64_t now_ns,
                         struct kv_request *request,
                         const Kv__Reply *reply,
                         struct kv_slice packed)
{
    struct kv_endpoint *endpoint = &session->endpoints[request->endpoint];
    int status = -(int)reply->code;
    const char *text = reply->message[0] ? reply->message : kv_status_text(status);
    bool others = reply->code == KV__CODE__CORRUPT && kv_endpoint_shun(session, now_ns, endpoint);
    bool at_once;

    switch (request->had_items ? KV_RETRY_NEVER : kv_status_retry(status)) {
    case KV_RETRY_LATER:
    case KV_RETRY_ELSEWHERE:
        if (request->maybe_done && !request->read) {
            /* This time nothing was done, but an earlier time may have been. */
            status = KV_OUTCOME_UNKNOWN;
        }
        if (reply->code == KV__CODE__BUSY || reply->code == KV__CODE__NO_SPACE) {
            if (request->is_asked_once) {
                break;
            }
            kv_session_again(session, now_ns, request, true, status, text);
            return;
        }
        at_once =
            follow(session, now_ns, request, reply) && request->failures < TRIES_BEFORE_TURNING;
        if (reply->code == KV__CODE__SHUTTING_DOWN) {
            at_once = at_once || request->failures < TRIES_BEFORE_TURNING;
        }
        kv_session_again(session, now_ns, request, !at_once, status, text);
        if (reply->code == KV__CODE__SHUTTING_DOWN) {
            kv_endpoint_drain(session, now_ns, endpoint);
        }
        return;
    case KV_RETRY_UNKNOWN:
        if (reply->code == KV__CODE__SESSION_EXPIRED && request->sequence != 0) {
            kv_once_expired(session, request);
            return;
        }
        if (reply->code == KV__CODE__OUTCOME_UNKNOWN && request->repeatable) {
            request->maybe_done = true;
            kv_session_again(session, now_ns, request, true, status, text);
            return;
        }
        if (reply->code == KV__CODE__DEADLINE) {
            kv_session_turn_away(session, endpoint);
        }
        break;
    case KV_RETRY_FATAL:
        if (reply->code == KV__CODE__CORRUPT &&
            leave_untrusted(session, now_ns, request, others, text)) {
            return;
        }
        kv_once_answered(session, request);
        break;
    default:
        kv_once_answered(session, request);
        break;
    }
    end_with_reply(session, request, reply, packed);
}

/* NULL: none was asked for in vain. */
static const struct kv_error *why_no_session(const struct kv_session *session)
{
    for (size_t i = 0; i < session->n_slots; i++) {
        const struct kv_request *request = session->slots[i];

        if (request && request->internal && request->last) {
            return request->last;
        }
    }
    return session->once.state == KV_ONCE_NONE && session->once.why.status != 0 ? &session->once.why
                                                                                : NULL;
}

/* The time is over. */
static void end_late(struct kv_session *session, uint64_t now_ns, struct kv_request *request)
{
    char endpoints[KV_ERROR_MESSAGE_SIZE];
    const char *address = session->endpoints[request->endpoint].address;

    kv_once_give_up(session, now_ns, request);
    if (request->state == KV_REQUEST_SENT) {
        struct kv_endpoint *endpoint = &session->endpoints[request->endpoint];

        kv_endpoint_send_cancel(session, request);
        kv_session_turn_away(session, endpoint);
        kv_session_end_error(session,
                             request,
                             KV_DEADLINE,
                             "%s did not answer before the deadline%s",
                             address,
                             request->read ? "" : ": it may or may not have been done");
        return;
    }
    if (request->last) {
        kv_session_end_error(session,
                             request,
                             request->last->status,
                             "not done before the deadline; last answer of %s",
                             request->last->message);
        return;
    }
    if (request->state == KV_REQUEST_UNSTAMPED && why_no_session(session)) {
        kv_session_end_error(session,
                             request,
                             why_no_session(session)->status,
                             "not done before the deadline, no session was opened for it: %s",
                             why_no_session(session)->message);
        return;
    }
    kv_session_describe(session, endpoints, sizeof endpoints);
    kv_session_end_error(
        session, request, KV_CLOSED, "no endpoint answered before the deadline: %s", endpoints);
}

/* ---------------------------------------------------------------- open, close, submit, cancel */

static int check_options(const struct kv_client_options *options, struct kv_error *ret_error)
{
    if (options->name && (strlen(options->name) > KV_NAME_BYTES_MAX)) {
        return kv_error_set(
            ret_error, KV_INVALID, "the client's name has over %u bytes", KV_NAME_BYTES_MAX);
    }
    if (options->deadline_ms > KV_DEADLINE_MAX_MS) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "a deadline of %u ms, at most %u",
                            options->deadline_ms,
                            KV_DEADLINE_MAX_MS);
    }
    return 0;
}

int kv_session_open(const struct kv_client_options *options,
                    uint64_t seed,
                    struct kv_session **ret_session,
                    struct kv_error *ret_error)
{
    char addresses[KV_CLIENT_ENDPOINTS_MAX][KV_CLIENT_ADDRESS_BYTES];
    struct kv_session *session;
    size_t count;
    int status;

    status = check_options(options, ret_error);
    if (status == 0) {
        status = kv_endpoints_parse(options->endpoints, addresses, &count, ret_error);
    }
    if (status < 0) {
        return status;
    }
    session = calloc(1, sizeof *session);
    if (!session) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    snprintf(session->name, sizeof session->name, "%s", options->name ? options->name : "libkv");
    session->deadline_default_ns =
        (options->deadline_ms ? options->deadline_ms : KV_DEADLINE_DEFAULT_MS) * KV_NS_PER_MS;
    session->stay = options->stay;
    session->impatient = options->impatient;
    session->compress = options->compress;
    session->once.state = options->no_session ? KV_ONCE_OFF : KV_ONCE_NONE;
    session->once.ttl_wanted_ms = options->session_ttl_ms;
    session->random = seed | 1;
    session->wake_ns = UINT64_MAX;
    session->current = KV_SESSION_NONE;
    session->want = KV_SESSION_NONE;
    session->n_endpoints = (unsigned)count;
    kv_arena_init(&session->arena, KV_DECODED_BYTES_MAX);
    for (unsigned i = 0; i < KV_CLIENT_ENDPOINTS_MAX; i++) {
        struct kv_endpoint *endpoint = &session->endpoints[i];

        if (i < count) {
            memcpy(endpoint->address, addresses[i], sizeof endpoint->address);
        }
        kv_buf_init(&endpoint->in, KV_FRAME_HEADER_BYTES + KV_REPLY_FRAME_BYTES_MAX);
        kv_buf_init(&endpoint->out, KV_CLIENT_OUT_BYTES_MAX);
    }
    *ret_session = session;
    return 0;
}

/* A read, or a write of which no server can have done anything. */
static bool is_without_effect(const struct kv_request *request)
{
    return request->read || (request->state != KV_REQUEST_SENT && !request->maybe_done);
}

void kv_session_close(struct kv_session *session)
{
    if (!session) {
        return;
    }
    session->closing = true;
    for (size_t i = 0; i < session->n_slots; i++) {
        struct kv_request *request = session->slots[i];

        if (request) {
            bool sure = is_without_effect(request);

            kv_session_end_error(session,
                                 request,
                                 sure ? KV_CLOSED : KV_OUTCOME_UNKNOWN,
                                 "the client was closed%s",
                                 sure ? "" : ": it may or may not have been done");
        }
    }
    for (unsigned i = 0; i < KV_CLIENT_ENDPOINTS_MAX; i++) {
        kv_buf_deinit(&session->endpoints[i].in);
        kv_buf_deinit(&session->endpoints[i].out);
    }
    kv_keeper_close(session->keeper);
    kv_arena_deinit(&session->arena);
    free(session->slots);
    free(session->free_slots);
    free(session);
}

/* A write that carries no stamp of the caller's. */
static bool is_stampable(const Kv__Request *request)
{
    return !request->session && !kv_session_is_repeatable(request) &&
           request->command_case != KV__REQUEST__COMMAND_SESSION_OPEN &&
           request->command_case != KV__REQUEST__COMMAND_SESSION_RENEW &&
           request->command_case != KV__REQUEST__COMMAND_SESSION_CLOSE &&
           request->command_case != KV__REQUEST__COMMAND_SESSION_CANCEL;
}

/* The request as it travels, but for id, deadline and stamp, which change with every send. */
static int pack_request(const Kv__Request *original,
                        const struct kv_call_options *options,
                        bool stream,
                        struct kv_request **ret_request)
{
    Kv__Request copy = *original;
    Kv__Range range;
    Kv__Watch watch;
    Kv__Subscribe subscribe;
    bool endless = stream && kv_stream_fill(&copy, &watch, &subscribe);
    struct kv_request *request;
    size_t size;

    copy.id = 0;
    copy.deadline_ms = 0;
    copy.serializable = copy.serializable || (options && options->serializable);
    if (stream && copy.command_case == KV__REQUEST__COMMAND_RANGE) {
        range = *copy.range;
        range.stream = true;
        range.credit = KV_CLIENT_STREAM_CREDIT_BYTES;
        copy.range = &range;
    }
    size = kv__request__get_packed_size(&copy);
    if (size + KV_CLIENT_FIELDS_BYTES > KV_REQUEST_BYTES_MAX) {
        return KV_TOO_LARGE;
    }
    request = calloc(1, sizeof *request + size);
    if (!request) {
        return KV_NO_MEMORY;
    }
    request->body_size = kv__request__pack(&copy, request->body);
    request->read = kv_session_is_repeatable(&copy) &&
                    copy.command_case != KV__REQUEST__COMMAND_LEADER_TRANSFER;
    request->may_repeat = (options && options->repeatable) || kv_session_is_repeatable(&copy);
    request->once = is_stampable(&copy);
    request->repeatable = request->may_repeat || request->once;
    request->endless = endless;
    request->waits =
        copy.command_case == KV__REQUEST__COMMAND_LIST_POP && copy.list_pop->block_ms > 0;
    request->is_asked_once = endless || copy.command_case == KV__REQUEST__COMMAND_SNAPSHOT_NOW;
    *ret_request = request;
    return 0;
}

int kv_session_make(struct kv_session *session,
                    const Kv__Request *original,
                    const struct kv_call_options *options,
                    bool stream,
                    struct kv_request **ret_request)
{
    struct kv_request *request;
    int status = session->n_free == 0 ? grow_slots(session) : 0;

    if (status == 0) {
        status = pack_request(original, options, stream, &request);
    }
    if (status < 0) {
        return status;
    }
    if (request->body_size > KV_CLIENT_BYTES_MAX - session->request_bytes) {
        free(request);
        return KV_BUSY;
    }
    if (session->once.state == KV_ONCE_OFF) {
        request->once = false;
        request->repeatable = request->may_repeat;
    }
    *ret_request = request;
    return 0;
}

void kv_session_add(struct kv_session *session, struct kv_request *request)
{
    uint32_t slot = session->free_slots[--session->n_free];

    request->handle = ++session->next_id << SLOT_BITS | slot;
    session->slots[slot] = request;
    session->n_requests++;
    session->request_bytes += request->body_size;
    kv_once_admit(session, request);
    kv_session_wake_at(session, request->deadline_ns);
}

int kv_session_submit(struct kv_session *session,
                      uint64_t now_ns,
                      const Kv__Request *original,
                      const struct kv_call_options *options,
                      kv_session_item_fn item_fn,
                      kv_session_end_fn end_fn,
                      void *arg,
                      uint64_t *ret_id)
{
    uint64_t deadline_ns = session->deadline_default_ns;
    struct kv_request *request;
    int status;

    session->now_ns = now_ns;
    if (session->closing) {
        return KV_CLOSED;
    }
    if (original->command_case == KV__REQUEST__COMMAND__NOT_SET ||
        (options && options->deadline_ms > KV_DEADLINE_MAX_MS)) {
        return KV_INVALID;
    }
    status = kv_session_make(session, original, options, item_fn != NULL, &request);
    if (status < 0) {
        return status;
    }
    if (options && options->deadline_ms > 0) {
        deadline_ns = options->deadline_ms * KV_NS_PER_MS;
    }
    request->deadline_ns = request->endless ? UINT64_MAX : now_ns + deadline_ns;
    request->item_fn = item_fn;
    request->end_fn = end_fn;
    request->arg = arg;
    kv_session_add(session, request);
    if (ret_id) {
        *ret_id = request->handle;
    }
    session->submitting = true;
    kv_session_steer(session, now_ns);
    session->submitting = false;
    return 0;
}

void kv_session_cancel(struct kv_session *session, uint64_t now_ns, uint64_t id)
{
    struct kv_request *request = kv_session_of_handle(session, id);
    const char *known = "";
    bool sure;

    session->now_ns = now_ns;
    if (!request) {
        return;
    }
    sure = is_without_effect(request);
    if (!request->read) {
        known = sure ? ": nothing was done" : ": it may or may not have been done";
    }
    if (request->state == KV_REQUEST_SENT) {
        kv_endpoint_send_cancel(session, request);
    }
    kv_once_give_up(session, now_ns, request);
    kv_session_end_error(
        session, request, sure ? KV_CLOSED : KV_OUTCOME_UNKNOWN, "stopped by the caller%s", known);
    kv_session_steer(session, now_ns);
}

/* ---------------------------------------------------------------- time */

void kv_session_on_timer(struct kv_session *session, uint64_t now_ns)
{
    session->steering_held = true;
    session->wake_ns = UINT64_MAX;
    session->now_ns = now_ns;
    kv_once_on_timer(session, now_ns);
    for (unsigned i = 0; i < session->n_endpoints; i++) {
        kv_endpoint_on_timer(session, now_ns, &session->endpoints[i]);
    }
    /* By slot: callbacks may submit, which moves lists and the array. */
    for (size_t i = 0; i < session->n_slots; i++) {
        struct kv_request *request = session->slots[i];

        if (!request) {
            continue;
        }
        if (now_ns >= request->deadline_ns) {
            end_late(session, now_ns, request);
            continue;
        }
        kv_session_wake_at(session, request->deadline_ns);
        if (request->state == KV_REQUEST_WAITING) {
            if (now_ns >= request->retry_at_ns) {
                kv_request_list_remove(request);
                request->state = KV_REQUEST_QUEUED;
                kv_request_list_push(&session->queue, request);
            } else {
                kv_session_wake_at(session, request->retry_at_ns);
            }
        }
    }
    kv_session_run_timers(session, now_ns);
    session->steering_held = false;
    kv_session_steer(session, now_ns);
}

uint64_t kv_session_wake_ns(const struct kv_session *session)
{
    return session->wake_ns;
}

size_t kv_session_pending(const struct kv_session *session)
{
    return session->n_requests - session->once.n_internal;
}

const char *kv_session_endpoint(const struct kv_session *session)
{
    return session->current == KV_SESSION_NONE ? "" : session->endpoints[session->current].address;
}

unsigned kv_session_endpoint_count(const struct kv_session *session)
{
    return session->n_endpoints;
}
