/* Followers: clients that watch keys and subscribe to topics, in their own words, so that they can
 * do what libkv would not: give a byte of credit at a time, ask in the middle of everything, leave
 * for another node whenever they like, and go on there behind what they were told last. follow.c
 * judges what each stream has told. */
#include "tests/sim/sim.h"

#include "common/assert.h"
#include "proto/frame.h"
#include "server/net/decode.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    THINK_MS = 150,
    SILENT_MS = 5000, /* then it looks elsewhere */
    TIME_TO_TELL_MS = 1500,
    LEAVE_PERMILLE = 15,
    CANCEL_PERMILLE = 10,
    CREDIT_ALL = 1024 * 1024,
    NAME_BYTES = 32,
};

static uint64_t pick(struct sim *sim, uint64_t below)
{
    return sim_random(sim, SIM_RANDOM_FOLLOW, below);
}

static bool chance(struct sim *sim, unsigned percent)
{
    return pick(sim, 100) < percent;
}

/* ---------------------------------------------------------------- what is asked for */

static ProtobufCBinaryData KV_PRINTF(2, 3) name(char *memory, const char *format, ...)
{
    va_list arguments;
    int size;

    va_start(arguments, format);
    size = vsnprintf(memory, NAME_BYTES, format, arguments);
    va_end(arguments);
    return (ProtobufCBinaryData){(size_t)size, (uint8_t *)memory};
}

static void choose_range(struct sim *sim, Kv__KeyRange *range, char *start, char *end)
{
    static const char *const prefixes[] = {"", "key/", "key/1/", "a/", "a/h", "a/z", "c/", "b/"};
    unsigned number = (unsigned)pick(sim, sim->profile.n_keys);

    switch (pick(sim, 6)) {
    case 0:
        range->start = name(start, "key/%u/%03u", number % 3, number);
        break;
    case 1:
        range->start = name(start, "key/0/%03u", number);
        range->end = name(end, "key/1/%03u", number);
        break;
    case 2:
        range->start = name(start, "b/l");
        range->special = KV__KEY_RANGE__SPECIAL__FROM_KEY;
        break;
    case 3:
        range->special = KV__KEY_RANGE__SPECIAL__ALL;
        break;
    default:
        range->start = name(start, "%s", prefixes[pick(sim, sizeof prefixes / sizeof prefixes[0])]);
        range->special = KV__KEY_RANGE__SPECIAL__PREFIX;
        break;
    }
}

static int64_t some_start(struct sim *sim)
{
    return chance(sim, 60) ? 0 : 1 + (int64_t)pick(sim, (uint64_t)sim->known_revision + 20);
}

static uint64_t some_progress_ms(struct sim *sim)
{
    return chance(sim, 20) ? 0 : 100 + pick(sim, 900);
}

static void choose_watch(struct sim *sim, Kv__Watch *watch, Kv__EventKind *kinds, Kv__Type *types)
{
    watch->with_previous = chance(sim, 40);
    watch->keys_only = chance(sim, 15);
    watch->progress_ms = some_progress_ms(sim);
    watch->require_leader_ms = chance(sim, 20) ? 500 + pick(sim, 3000) : 0;
    watch->start_revision = some_start(sim);
    watch->kinds = kinds;
    watch->types = types;
    if (chance(sim, 20)) {
        kinds[0] = (Kv__EventKind)pick(sim, 3);
        kinds[1] = (Kv__EventKind)pick(sim, 3);
        watch->n_kinds = 1 + (kinds[0] != kinds[1]);
    }
    if (chance(sim, 20)) {
        types[0] = (Kv__Type)(1 + pick(sim, 7));
        types[1] = (Kv__Type)(1 + pick(sim, 7));
        watch->n_types = 1 + (types[0] != types[1]);
    }
}

static void choose_topic(struct sim *sim, Kv__Subscribe *subscribe, char *topic)
{
    static const char *const patterns[] = {"*", "t/*", "t/[0-1]", "[!t]/?", "?/2"};

    if (chance(sim, 40)) {
        subscribe->topic = name(topic, "t/%u", (unsigned)pick(sim, 4));
    } else {
        subscribe->topic =
            name(topic, "%s", patterns[pick(sim, sizeof patterns / sizeof patterns[0])]);
        subscribe->pattern = true;
    }
    subscribe->start_revision = some_start(sim);
    if (subscribe->start_revision == 0 && chance(sim, 30)) {
        subscribe->last = 1 + pick(sim, 12);
    }
    subscribe->progress_ms = some_progress_ms(sim);
    subscribe->require_leader_ms = chance(sim, 20) ? 500 + pick(sim, 3000) : 0;
}

/* What the stream follows for the whole run. */
void sim_follow_choose(struct sim *sim, struct sim_interest *stream)
{
    char start[NAME_BYTES], end[NAME_BYTES];
    Kv__EventKind kinds[2];
    Kv__Type types[2];
    Kv__KeyRange range = KV__KEY_RANGE__INIT;
    Kv__Watch watch = KV__WATCH__INIT;
    Kv__Subscribe subscribe = KV__SUBSCRIBE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    size_t size;

    choose_range(sim, &range, start, end);
    watch.range = &range;
    choose_watch(sim, &watch, kinds, types);
    if (sim->profile.topics_percent > 0 && chance(sim, 50)) {
        choose_topic(sim, &subscribe, start);
        request.command_case = KV__REQUEST__COMMAND_SUBSCRIBE;
        request.subscribe = &subscribe;
        stream->next = subscribe.start_revision;
    } else {
        request.command_case = KV__REQUEST__COMMAND_WATCH;
        request.watch = &watch;
        stream->next = watch.start_revision;
    }
    stream->is_slow = chance(sim, sim->profile.slow_follow_percent);
    size = kv__request__get_packed_size(&request);
    stream->request = kv_arena_alloc(&sim->follow_arena, size);
    KV_ASSERT(stream->request);
    stream->request_size = kv__request__pack(&request, stream->request);
}

/* ---------------------------------------------------------------- connection */

static struct sim_conn *conn_of(struct sim_follower *follower)
{
    return sim_conn_of(follower->sim, follower->conn);
}

static void send_message(struct sim_follower *follower,
                         enum kv_frame_kind kind,
                         const ProtobufCMessage *message)
{
    struct kv_buf buf;

    kv_buf_init(&buf, KV_REQUEST_BYTES_MAX);
    KV_ASSERT(kv_frame_append(&buf, kind, message, false) == 0);
    sim_client_send(follower->sim, conn_of(follower), kv_slice_of(buf.data, buf.size));
    kv_buf_deinit(&buf);
}

static void end_stream(struct sim_interest *stream, int status, const Kv__Hint *hint)
{
    int64_t told = followed_told(stream->now);

    followed_end(stream->now, status, hint);
    stream->next = status == KV_COMPACTED ? 0 : told >= 0 ? told + 1 : stream->next;
    stream->now = NULL;
}

/* It hears nothing more of this connection. */
static void leave(struct sim_follower *follower, bool tell)
{
    struct sim_conn *conn = conn_of(follower);

    if (conn && tell) {
        sim_client_send(follower->sim, conn, (struct kv_slice){0});
    }
    follower->conn = 0;
    follower->is_ready = false;
    kv_buf_clear(&follower->in);
    for (unsigned i = 0; i < follower->n_streams; i++) {
        if (follower->streams[i].now) {
            end_stream(&follower->streams[i], KV_CLOSED, NULL);
        }
    }
}

static void connect_somewhere(struct sim_follower *follower)
{
    struct sim *sim = follower->sim;
    unsigned node = 1 + (unsigned)pick(sim, sim->profile.n_nodes);
    Kv__Hello hello = KV__HELLO__INIT;

    if (!sim->nodes[node].is_up) {
        return;
    }
    follower->conn = sim_server_accept(sim, node, SIM_CLIENTS_MAX + follower->id, 0)->number;
    follower->heard_ns = sim->now_ns;
    hello.protocol_version = KV_PROTOCOL_VERSION;
    hello.client_name = (char *)(uintptr_t) "follower";
    hello.lz4 = sim->profile.compress;
    send_message(follower, KV_FRAME_HELLO, &hello.base);
}

/* ---------------------------------------------------------------- streams */

void sim_follow_keep(struct sim *sim, struct followed *followed)
{
    if (sim->n_followed == sim->followed_capacity) {
        sim->followed_capacity = sim->followed_capacity ? sim->followed_capacity * 2 : 64;
        sim->followed = realloc(sim->followed, sim->followed_capacity * sizeof(struct followed *));
        KV_ASSERT(sim->followed);
    }
    sim->followed[sim->n_followed++] = followed;
}

static void aim(Kv__Request *request, int64_t start_revision, uint64_t credit)
{
    if (request->command_case == KV__REQUEST__COMMAND_WATCH) {
        request->watch->start_revision = start_revision;
        request->watch->credit = credit;
        return;
    }
    request->subscribe->start_revision = start_revision;
    request->subscribe->credit = credit;
    /* The last ones are asked for once; then it goes on. */
    request->subscribe->last = start_revision > 0 ? 0 : request->subscribe->last;
}

uint64_t sim_follow_progress_ms(const Kv__Request *request)
{
    return request->command_case == KV__REQUEST__COMMAND_WATCH ? request->watch->progress_ms
                                                               : request->subscribe->progress_ms;
}

static void open_stream(struct sim_follower *follower, struct sim_interest *stream)
{
    struct sim *sim = follower->sim;
    Kv__Request *request = kv__request__unpack(NULL, stream->request_size, stream->request);

    KV_ASSERT(request);
    stream->now = malloc(sizeof *stream->now);
    KV_ASSERT(stream->now);
    request->id = stream->id = ++follower->last_id;
    aim(request,
        stream->next,
        stream->is_slow && !sim->has_healed ? 1 + pick(sim, 400) : CREDIT_ALL);
    followed_init(stream->now, follower->id, request, sim->known_revision);
    stream->now->asked_ns = sim->now_ns;
    sim_follow_keep(sim, stream->now);
    send_message(follower, KV_FRAME_REQUEST, &request->base);
    kv__request__free_unpacked(request, NULL);
    sim->counts.streams++;
    sim_note(sim,
             0,
             "follower %u opens stream %" PRIu64 " from %" PRId64,
             follower->id,
             stream->id,
             stream->next);
}

static void give_credit(struct sim_follower *follower, struct sim_interest *stream, uint64_t bytes)
{
    Kv__Credit credit = KV__CREDIT__INIT;

    credit.id = stream->id;
    credit.bytes = bytes;
    send_message(follower, KV_FRAME_CREDIT, &credit.base);
}

/* Its end comes as that of any stream. */
static void cancel(struct sim_follower *follower, struct sim_interest *stream)
{
    Kv__Cancel message = KV__CANCEL__INIT;

    message.id = stream->id;
    send_message(follower, KV_FRAME_CANCEL, &message.base);
}

static struct sim_interest *stream_of(struct sim_follower *follower, uint64_t id)
{
    for (unsigned i = 0; i < follower->n_streams; i++) {
        if (follower->streams[i].now && follower->streams[i].id == id) {
            return &follower->streams[i];
        }
    }
    return NULL;
}

static void on_item(struct sim_follower *follower, const Kv__StreamItem *item, size_t size)
{
    struct sim *sim = follower->sim;
    struct sim_interest *stream = stream_of(follower, item->id);

    if (!stream) {
        sim_fail(sim, "follower %u was told of a stream that has ended", follower->id);
        return;
    }
    if (item->item_case != KV__STREAM_ITEM__ITEM__NOT_SET) {
        int64_t told;

        followed_item(stream->now, item);
        told = followed_told(stream->now);
        sim->known_revision =
            told > sim->known_revision && stream->now->n_items > 1 ? told : sim->known_revision;
        sim->counts.stream_items++;
    }
    if (item->end) {
        sim_note(sim,
                 0,
                 "follower %u stream %" PRIu64 " ends: %s",
                 follower->id,
                 item->id,
                 kv_status_name(-(int)item->code));
        end_stream(stream, -(int)item->code, item->hint);
    } else if (!stream->is_slow || sim->has_healed) {
        give_credit(follower, stream, size);
    }
}

static void on_refused(struct sim_follower *follower, const Kv__Reply *reply)
{
    struct sim_interest *stream = stream_of(follower, reply->id);

    if (stream) {
        end_stream(stream, -(int)reply->code, reply->hint);
    }
}

/* ---------------------------------------------------------------- in */

static void on_frame(struct sim_follower *follower, const struct kv_frame *frame)
{
    static const ProtobufCMessageDescriptor *const descriptors[] = {
        [KV_FRAME_REPLY] = &kv__reply__descriptor,
        [KV_FRAME_STREAM_ITEM] = &kv__stream_item__descriptor,
        [KV_FRAME_HELLO_REPLY] = &kv__hello_reply__descriptor,
        [KV_FRAME_GOODBYE] = &kv__goodbye__descriptor,
    };
    struct kv_slice body = frame->body;
    uint8_t *raw = NULL;
    ProtobufCMessage *message;
    size_t size;

    if (frame->flags & KV_FRAME_FLAG_LZ4) {
        KV_ASSERT(kv_frame_decompress(body, KV_REPLY_FRAME_BYTES_MAX, &raw, &size) == 0);
        body = kv_slice_of(raw, size);
    }
    message = protobuf_c_message_unpack(descriptors[frame->kind], NULL, body.size, body.data);
    KV_ASSERT(message);
    if (frame->kind == KV_FRAME_STREAM_ITEM) {
        on_item(follower, (Kv__StreamItem *)message, body.size);
    } else if (frame->kind == KV_FRAME_REPLY) {
        on_refused(follower, (Kv__Reply *)message);
    } else if (frame->kind == KV_FRAME_HELLO_REPLY) {
        follower->is_ready = true;
    } else {
        leave(follower, true);
    }
    protobuf_c_message_free_unpacked(message, NULL);
    free(raw);
}

static void on_bytes(struct sim_follower *follower, const struct sim_event *event)
{
    struct kv_frame frame;
    struct kv_error error;
    size_t used = 0;
    int64_t size;

    if (follower->conn != event->number) {
        return;
    }
    follower->heard_ns = follower->sim->now_ns;
    if (event->size == 0) {
        leave(follower, false);
        return;
    }
    KV_ASSERT(kv_buf_append(&follower->in, event->data, event->size) == 0);
    while (follower->conn == event->number &&
           (size = kv_frame_peek(kv_slice_of(follower->in.data + used, follower->in.size - used),
                                 KV_REPLY_FRAME_BYTES_MAX,
                                 &frame,
                                 &error)) > 0) {
        on_frame(follower, &frame);
        used += (size_t)size;
    }
    if (follower->conn == event->number) {
        kv_buf_consume(&follower->in, used);
    }
}

/* ---------------------------------------------------------------- life */

static void tend(struct sim_follower *follower, struct sim_interest *stream)
{
    struct sim *sim = follower->sim;

    if (!stream->now) {
        if (sim->has_healed || chance(sim, 50)) {
            open_stream(follower, stream);
        }
        return;
    }
    if (stream->is_slow && (sim->has_healed || chance(sim, 30))) {
        give_credit(follower, stream, sim->has_healed ? CREDIT_ALL : 1 + pick(sim, 500));
    }
    if (!sim->has_healed && sim_chance(sim, SIM_RANDOM_FOLLOW, CANCEL_PERMILLE)) {
        cancel(follower, stream);
    }
}

/* Who sees that a node stands still while it fetches a snapshot wants it to take one; nobody is
 * interested in what it answers. */
static void ask_for_snapshot(struct sim_follower *follower)
{
    const struct sim_node *node = &follower->sim->nodes[conn_of(follower)->node];
    Kv__SnapshotNow command = KV__SNAPSHOT_NOW__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    if (!node->is_up || node->node->replica->fetch.phase == KV_FETCH_NONE ||
        !chance(follower->sim, 50)) {
        return;
    }
    request.id = ++follower->last_id;
    request.command_case = KV__REQUEST__COMMAND_SNAPSHOT_NOW;
    request.snapshot_now = &command;
    send_message(follower, KV_FRAME_REQUEST, &request.base);
}

static void think(struct sim_follower *follower)
{
    struct sim *sim = follower->sim;

    sim_push(
        sim,
        (struct sim_event){.time_ns = sim->now_ns +
                                      SIM_MS * sim_random_time(sim, SIM_RANDOM_FOLLOW, THINK_MS),
                           .kind = SIM_EV_CLIENT_THINKS,
                           .peer = (uint8_t)(SIM_CLIENTS_MAX + follower->id)});
    if (follower->conn != 0 &&
        (sim->now_ns > follower->heard_ns + SILENT_MS * SIM_MS ||
         (!sim->has_healed && sim_chance(sim, SIM_RANDOM_FOLLOW, LEAVE_PERMILLE)))) {
        leave(follower, true);
    }
    if (follower->conn == 0) {
        connect_somewhere(follower);
    }
    if (follower->is_ready) {
        ask_for_snapshot(follower);
        for (unsigned i = 0; i < follower->n_streams; i++) {
            tend(follower, &follower->streams[i]);
        }
    }
}

void sim_follow_on_event(struct sim *sim, const struct sim_event *event)
{
    struct sim_follower *follower = &sim->followers[event->peer - SIM_CLIENTS_MAX];

    if (event->kind == SIM_EV_TO_CLIENT) {
        on_bytes(follower, event);
    } else {
        think(follower);
    }
}

void sim_follow_begin(struct sim *sim)
{
    kv_arena_init(&sim->follow_arena, SIZE_MAX);
    truth_init(&sim->truth);
    for (unsigned i = 0; i < sim->profile.n_followers; i++) {
        struct sim_follower *follower = &sim->followers[i];

        follower->sim = sim;
        follower->id = i;
        follower->n_streams = i == 0 && sim->profile.crowd
                                  ? sim->profile.crowd
                                  : 1 + (unsigned)pick(sim, SIM_STREAMS_MAX);
        kv_buf_init(&follower->in, 2 * KV_REPLY_FRAME_BYTES_MAX);
        for (unsigned k = 0; k < follower->n_streams; k++) {
            sim_follow_choose(sim, &follower->streams[k]);
        }
        think(follower);
    }
}

void sim_follow_free(struct sim *sim)
{
    for (size_t i = 0; i < sim->n_followed; i++) {
        followed_deinit(sim->followed[i]);
        free(sim->followed[i]);
    }
    free(sim->followed);
    for (unsigned i = 0; i < sim->profile.n_followers; i++) {
        kv_buf_deinit(&sim->followers[i].in);
    }
    truth_deinit(&sim->truth);
    kv_arena_deinit(&sim->follow_arena);
}

/* The node at the other end knows of it: one that lost its power says nothing. */
static bool is_alive(const struct sim *sim, const struct sim_conn *conn)
{
    return conn && conn->is_open && sim->nodes[conn->node].is_up &&
           sim->nodes[conn->node].incarnation == conn->incarnation;
}

bool sim_follow_is_caught_up(const struct sim *sim, int64_t revision)
{
    for (unsigned i = 0; i < sim->profile.n_followers; i++) {
        const struct sim_follower *follower = &sim->followers[i];

        for (unsigned k = 0; k < follower->n_streams; k++) {
            const struct followed *now = follower->streams[k].now;

            if (!now || !is_alive(sim, sim->conns[follower->conn - 1]) || now->n_items == 0 ||
                (sim_follow_progress_ms(now->request) > 0 && followed_told(now) < revision)) {
                return false;
            }
        }
    }
    return true;
}

void sim_follow_check(struct sim *sim)
{
    for (size_t i = 0; i < sim->n_followed && !sim->checkers.has_failed; i++) {
        struct followed *followed = sim->followed[i];

        followed->is_open =
            followed->is_open && sim->now_ns - followed->asked_ns > TIME_TO_TELL_MS * SIM_MS;
        followed_judge(followed, &sim->truth, &sim->checkers);
    }
}
