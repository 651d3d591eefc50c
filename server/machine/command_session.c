/* Exactly-once sessions: opening, renewing, closing, and what the stamp of a write means. A session
 * is dead at its deadline, even while it waits for its turn to be removed. */
#include "common/assert.h"
#include "common/reached.h"
#include "server/machine/command.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/* Ids given out so far are below the counter: one that is not there has ended. */
int kv_session_find_live(struct kv_machine *machine,
                         uint64_t id,
                         struct kv_sessions_one **ret_one,
                         struct kv_error *ret_error)
{
    struct kv_sessions_one *one = kv_sessions_find(&machine->sessions, id);

    if (id == 0 || id > machine->sessions.last_id) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "session %" PRIu64
                            " was never opened in this cluster: open one by SessionOpen",
                            id);
    }
    if (!one || one->due.deadline_ms <= machine->cluster_time_ms) {
        return kv_error_set(ret_error,
                            KV_SESSION_EXPIRED,
                            "session %" PRIu64
                            " has ended: what was sent in it and not answered may or may not have "
                            "been done",
                            id);
    }
    *ret_one = one;
    return 0;
}

int kv_run_session_open(struct kv_machine *machine,
                        const Kv__Request *request,
                        struct kv_answer *answer)
{
    const struct kv_machine_settings *settings = &machine->settings;
    struct kv_sessions *sessions = &machine->sessions;
    uint64_t ttl_ms = request->session_open->ttl_ms;
    struct kv_sessions_one *one;

    if (ttl_ms == 0) {
        ttl_ms = KV_SESSION_TTL_DEFAULT_MS;
        ttl_ms = ttl_ms > settings->session_ttl_max_ms ? settings->session_ttl_max_ms : ttl_ms;
        ttl_ms = ttl_ms < settings->session_ttl_min_ms ? settings->session_ttl_min_ms : ttl_ms;
    } else if (ttl_ms < settings->session_ttl_min_ms || ttl_ms > settings->session_ttl_max_ms) {
        return kv_error_set(&answer->error,
                            KV_OUT_OF_BOUNDS,
                            "a ttl of %" PRIu64 " ms: %" PRIu64 " to %" PRIu64
                            " (settings session-ttl-min, session-ttl-max)",
                            ttl_ms,
                            settings->session_ttl_min_ms,
                            settings->session_ttl_max_ms);
    }
    if (sessions->n >= settings->sessions) {
        answer->hint.limit = (char *)(uintptr_t) "session-limit";
        answer->hint.limit_value = settings->sessions;
        return kv_error_set(&answer->error,
                            KV_BUSY,
                            "%zu sessions are open (setting session-limit): close some, or wait "
                            "until silent ones have ended",
                            sessions->n);
    }
    one = kv_sessions_add(sessions, ++sessions->last_id, ttl_ms, 0, request->session_open->ordered);
    kv_sessions_renew(sessions, one, machine->cluster_time_ms);
    kv__session_open_result__init(&answer->result.session_open);
    answer->result.session_open.session_id = one->id;
    answer->result.session_open.ttl_ms = ttl_ms;
    answer->reply.result_case = KV__REPLY__RESULT_SESSION_OPEN;
    answer->reply.session_open = &answer->result.session_open;
    return 0;
}

int kv_run_session_renew(struct kv_machine *machine,
                         const Kv__Request *request,
                         struct kv_answer *answer)
{
    struct kv_sessions_one *one = NULL;
    int status =
        kv_session_find_live(machine, request->session_renew->session_id, &one, &answer->error);

    if (status == 0) {
        kv_sessions_renew(&machine->sessions, one, machine->cluster_time_ms);
    }
    return status;
}

int kv_run_session_close(struct kv_machine *machine,
                         const Kv__Request *request,
                         struct kv_answer *answer)
{
    struct kv_sessions_one *one = NULL;
    int status =
        kv_session_find_live(machine, request->session_close->session_id, &one, &answer->error);

    if (status == 0) {
        kv_sessions_remove(&machine->sessions, one);
    }
    return status;
}

/* ---------------------------------------------------------------- stamps */

int kv_stamp_validate(const Kv__Request *request,
                      enum kv_command_class cls,
                      struct kv_error *ret_error)
{
    const Kv__SessionStamp *stamp = request->session;

    if (cls != KV_COMMAND_WRITE) {
        return kv_error_set(ret_error, KV_INVALID, "only a write carries the stamp of a session");
    }
    if (request->command_case == KV__REQUEST__COMMAND_SESSION_OPEN ||
        request->command_case == KV__REQUEST__COMMAND_SESSION_RENEW ||
        request->command_case == KV__REQUEST__COMMAND_SESSION_CLOSE ||
        request->command_case == KV__REQUEST__COMMAND_SESSION_CANCEL) {
        return kv_error_set(
            ret_error, KV_INVALID, "a command about a session carries no stamp of one");
    }
    if (request->command_case == KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE) {
        return kv_error_set(
            ret_error, KV_INVALID, "a keepalive carries no stamp: it may be repeated as it is");
    }
    if (stamp->session_id == 0 || stamp->sequence == 0 ||
        stamp->sequence > KV_SESSION_SEQUENCE_MAX) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "the stamp of session %" PRIu64 " has sequence %" PRIu64
                            ": both begin with 1",
                            stamp->session_id,
                            stamp->sequence);
    }
    if (stamp->sequence <= stamp->acknowledged_through) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "sequence %" PRIu64
                            " is acknowledged by its own stamp (through %" PRIu64 ")",
                            stamp->sequence,
                            stamp->acknowledged_through);
    }
    return 0;
}

struct hash_buffer {
    ProtobufCBuffer base;
    XXH3_state_t *state;
};

static void hash_append(ProtobufCBuffer *buffer, size_t size, const uint8_t *data)
{
    struct hash_buffer *hash = (struct hash_buffer *)(void *)buffer;

    (void)XXH3_64bits_update(hash->state, data, size);
}

/* The member of a request's or reply's oneof; NULL: none. Packing the whole would look at each of
 * its some eighty fields. */
static const ProtobufCMessage *member_of(const ProtobufCMessage *message, unsigned number)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(message->descriptor, number);

    return field ? *(const ProtobufCMessage *const *)(const void *)((const char *)message +
                                                                    field->offset)
                 : NULL;
}

/* Of the command alone, as protobuf packs it: id, deadline and stamp differ between two tries of a
 * request, and the same message may come in other bytes. */
static uint64_t hash_command(struct kv_machine *machine, const Kv__Request *request)
{
    struct hash_buffer hash = {{hash_append}, machine->command_hash};
    unsigned number = (unsigned)request->command_case;

    (void)XXH3_64bits_reset_withSeed(hash.state, number);
    (void)protobuf_c_message_pack_to_buffer(member_of(&request->base, number), &hash.base);
    return XXH3_64bits_digest(hash.state);
}

/* Gives an answer that no command made. */
static void reply_error(struct kv_machine *machine,
                        const Kv__Request *request,
                        const struct kv_error *error,
                        kv_machine_reply_fn fn,
                        void *arg)
{
    Kv__Reply reply = KV__REPLY__INIT;
    Kv__Hint hint = KV__HINT__INIT;

    if (!fn) {
        return;
    }
    reply.id = request->id;
    reply.code = (Kv__Code)-error->status;
    reply.message = (char *)(uintptr_t)error->message;
    reply.hint = &hint;
    reply.revision = machine->revision;
    fn(arg, &reply);
}

/* The answer of the time when it was done. */
static void reply_recorded(const Kv__Request *request,
                           const struct kv_sessions_reply *recorded,
                           kv_machine_reply_fn fn,
                           void *arg)
{
    Kv__Reply lost = KV__REPLY__INIT;
    Kv__Reply *reply;
    char message[128];

    if (!fn) {
        return;
    }
    if (recorded->size == 0) {
        (void)snprintf(message,
                       sizeof message,
                       "done at revision %" PRId64
                       "; its answer was too large to be kept for a retry",
                       recorded->revision);
        lost.id = request->id;
        lost.code = (Kv__Code)recorded->code;
        lost.revision = recorded->revision;
        lost.message = message;
        fn(arg, &lost);
        return;
    }
    reply = kv__reply__unpack(NULL, recorded->size, recorded->bytes);
    KV_ASSERT(reply);
    reply->id = request->id;
    fn(arg, reply);
    kv__reply__free_unpacked(reply, NULL);
}

/* ---------------------------------------------------------------- recording */

enum { TAG_REVISION = 5 << 3, VARINT_BYTES_MAX = 10 };

static size_t write_varint(uint8_t *p, uint64_t value)
{
    size_t size = 0;

    while (value >= 0x80) {
        p[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    p[size++] = (uint8_t)value;
    return size;
}

/* What precedes the result's own bytes in the packed reply; its size. */
static size_t
write_head(uint8_t head[4 * VARINT_BYTES_MAX], const Kv__Reply *reply, size_t result_size)
{
    size_t size = 0;

    head[size++] = TAG_REVISION;
    size += write_varint(head + size, (uint64_t)reply->revision);
    if (reply->result_case != KV__REPLY__RESULT__NOT_SET) {
        size += write_varint(head + size, (uint64_t)reply->result_case << 3 | 2);
        size += write_varint(head + size, result_size);
    }
    return size;
}

/* Packs the reply without id: the usual one, with revision and result only, by hand. */
static struct kv_sessions_reply *
keep(const struct kv_sessions *sessions, const struct kv_sessions_one *one, Kv__Reply *reply)
{
    const ProtobufCMessage *result = member_of(&reply->base, (unsigned)reply->result_case);
    size_t result_size = result ? protobuf_c_message_get_packed_size(result) : 0;
    bool usual = reply->code == KV__CODE__OK && !reply->hint && reply->message[0] == '\0';
    struct kv_sessions_reply *kept;
    uint8_t head[4 * VARINT_BYTES_MAX];
    uint64_t id = reply->id;
    size_t head_size = write_head(head, reply, result_size);
    size_t size;

    reply->id = 0;
    size = usual ? head_size + result_size : kv__reply__get_packed_size(reply);
    size = kv_sessions_has_room(sessions, one, size) ? size : 0;
    kept = kv_sessions_reply_new(size);
    if (size > 0 && usual) {
        memcpy(kept->bytes, head, head_size);
        if (result) {
            (void)protobuf_c_message_pack(result, kept->bytes + head_size);
        }
    } else if (size > 0) {
        (void)kv__reply__pack(reply, kept->bytes);
    }
    reply->id = id;
    return kept;
}

void kv_session_keep(struct kv_machine *machine,
                     struct kv_sessions_one *one,
                     uint64_t sequence,
                     uint64_t command_hash,
                     Kv__Reply *reply)
{
    struct kv_sessions_reply *kept = keep(&machine->sessions, one, reply);

    kept->command_hash = command_hash;
    kept->revision = reply->revision;
    kept->code = (uint32_t)reply->code;
    kv_sessions_record(&machine->sessions, one, sequence, kept);
}

struct recording {
    struct kv_machine *machine;
    const Kv__Request *request;
    struct kv_sessions_one *one;
    uint64_t command_hash;
    kv_machine_reply_fn fn;
    void *arg;
};

/* What was just answered: kept, unless it is to be tried again. */
static void record(void *arg, Kv__Reply *reply)
{
    struct recording *recording = arg;
    enum kv_retry retry = kv_status_retry(-(int)reply->code);

    if (retry == KV_RETRY_OK || retry == KV_RETRY_NEVER) {
        kv_session_keep(recording->machine,
                        recording->one,
                        recording->request->session->sequence,
                        recording->command_hash,
                        reply);
    }
    if (recording->fn) {
        recording->fn(recording->arg, reply);
    }
}

/* May the sequence be run now? It is not done yet. */
static int check_sequence(const struct kv_sessions_one *one,
                          const Kv__SessionStamp *stamp,
                          struct kv_error *ret_error)
{
    uint64_t through = stamp->acknowledged_through > one->acknowledged_through
                           ? stamp->acknowledged_through
                           : one->acknowledged_through;

    if (stamp->sequence <= through) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "sequence %" PRIu64 " of session %" PRIu64
                            " is acknowledged already (through %" PRIu64 "): it is not done again",
                            stamp->sequence,
                            one->id,
                            through);
    }
    if (stamp->sequence - through > KV_SESSION_WINDOW) {
        return kv_error_set(ret_error,
                            KV_BUSY,
                            "sequence %" PRIu64 " of session %" PRIu64
                            " is more than %u beyond the acknowledged %" PRIu64,
                            stamp->sequence,
                            one->id,
                            KV_SESSION_WINDOW,
                            through);
    }
    if (one->ordered && stamp->sequence - 1 > through &&
        !kv_sessions_reply_of(one, stamp->sequence - 1)) {
        return kv_error_set(ret_error,
                            KV_BUSY,
                            "sequence %" PRIu64 " of session %" PRIu64
                            ", which is ordered, waits for the one before it",
                            stamp->sequence,
                            one->id);
    }
    return 0;
}

bool kv_execute_stamped(struct kv_machine *machine,
                        const Kv__Request *request,
                        kv_machine_reply_fn fn,
                        void *arg)
{
    const Kv__SessionStamp *stamp = request->session;
    struct recording recording = {.machine = machine, .request = request, .fn = fn, .arg = arg};
    const struct kv_sessions_reply *recorded = NULL;
    struct kv_sessions_one *one = NULL;
    struct kv_error error;
    int status = kv_stamp_validate(request, kv_command_classify(request), &error);

    if (status == 0) {
        status = kv_session_find_live(machine, stamp->session_id, &one, &error);
    }
    if (status == 0) {
        recording.command_hash = hash_command(machine, request);
        recorded = kv_sessions_reply_of(one, stamp->sequence);
        if (recorded && recorded->command_hash != recording.command_hash) {
            status = kv_error_set(&error,
                                  KV_INVALID,
                                  "sequence %" PRIu64 " of session %" PRIu64
                                  " was another command before: it is not done",
                                  stamp->sequence,
                                  one->id);
        } else if (!recorded) {
            status = check_sequence(one, stamp, &error);
            if (status == 0) {
                status = kv_wait_start(machine, request, recording.command_hash, &error);
            }
        }
    }
    if (status < 0) {
        reply_error(machine, request, &error, fn, arg);
        return true;
    }
    /* All before the answer, with which the request may go. */
    kv_sessions_renew(&machine->sessions, one, machine->cluster_time_ms);
    kv_sessions_acknowledge(&machine->sessions, one, stamp->acknowledged_through);
    kv_wait_acknowledged(machine, one);
    if (recorded) {
        KV_REACHED("session-retry");
        reply_recorded(request, recorded, fn, arg);
        return true;
    }
    if (status == 0) {
        recording.one = one;
        kv_machine_answer(machine, request, KV_COMMAND_WRITE, record, &recording);
    }
    return status == 0;
}
