/* What clients ask: all commands that exist, few hot and many cold keys, values that tell who wrote
 * them. */
#include "tests/sim/sim.h"

#include "common/assert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_BYTES = 24,
    KEYS_MAX = 4,
    SETTLED_THINK_MS = 200,
    TIGHT_FROM = 3 /* first commands of each client make it so */
};

/* A request under construction: what it points at lives here. */
struct draft {
    struct sim *sim;
    struct sim_client *client;
    Kv__Request request;
    char keys[KEYS_MAX][KEY_BYTES];
    ProtobufCBinaryData key_list[KEYS_MAX];
    char value[16 * 1024];
    Kv__KeyRange range;
    Kv__KeyRange *range_list[1];
    Kv__Int64Bound bounds[2];
    union {
        Kv__Put put;
        Kv__Get get;
        Kv__Append append;
        Kv__GetSet getset;
        Kv__GetDel getdel;
        Kv__StrLen strlen;
        Kv__GetRange get_range;
        Kv__SetRange set_range;
        Kv__CounterAdd counter_add;
        Kv__CounterGet counter_get;
        Kv__CounterSet counter_set;
        Kv__Delete delete;
        Kv__Exists exists;
        Kv__Count count;
        Kv__Range range;
        Kv__ConfigList config_list;
        Kv__ConfigGet config_get;
        Kv__Compact compact;
        Kv__Status status;
        Kv__MemberList member_list;
        Kv__LeaderTransfer leader_transfer;
        Kv__SnapshotNow snapshot_now;
    } body;
    struct kv_call_options options;
    bool is_stream;
    bool is_judged; /* by the model of the search; else by the log alone */
};

static uint64_t throw(const struct draft *draft, uint64_t below)
{
    return sim_random(draft->sim, SIM_RANDOM_LOAD, below);
}

static bool chance(const struct draft *draft, unsigned percent)
{
    return throw(draft, 100) < percent;
}

/* ---------------------------------------------------------------- parts */

static ProtobufCBinaryData key(struct draft *draft, unsigned i)
{
    const struct sim_profile *profile = &draft->sim->profile;
    uint64_t number =
        chance(draft, profile->hot_percent) ? throw(draft, 2) : throw(draft, profile->n_keys);
    int size =
        snprintf(draft->keys[i], KEY_BYTES, "key/%" PRIu64 "/%03" PRIu64, number % 3, number);

    return (ProtobufCBinaryData){(size_t)size, (uint8_t *)draft->keys[i]};
}

/* Keys of counters alone, in front of the others. */
static ProtobufCBinaryData counter_key(struct draft *draft, unsigned i)
{
    int size = snprintf(draft->keys[i], KEY_BYTES, "c/%03" PRIu64, throw(draft, 4));

    return (ProtobufCBinaryData){(size_t)size, (uint8_t *)draft->keys[i]};
}

static bool wants_counter(struct draft *draft)
{
    unsigned percent = draft->sim->profile.counters_percent;

    return percent > 0 && chance(draft, percent);
}

static ProtobufCBinaryData value(struct draft *draft)
{
    size_t max = draft->sim->profile.value_max;
    size_t size = throw(draft, max + 1);
    int head;

    if (chance(draft, 2)) {
        return (ProtobufCBinaryData){0, (uint8_t *)draft->value};
    }
    head = snprintf(draft->value,
                    sizeof draft->value,
                    "c%u-%" PRIu64 ".",
                    draft->client->id,
                    draft->client->n_commands);

    for (size_t i = (size_t)head; i < size; i++) {
        draft->value[i] = (char)('a' + i % 26);
    }
    return (ProtobufCBinaryData){size > (size_t)head ? size : (size_t)head,
                                 (uint8_t *)draft->value};
}

static int64_t some_revision(struct draft *draft)
{
    const struct history *history = &draft->sim->history;
    int64_t known = 0;

    /* Of one of the last answers. */
    for (size_t i = history->n_calls; i > 0 && i + 20 > history->n_calls; i--) {
        known = history->calls[i - 1].revision > known ? history->calls[i - 1].revision : known;
    }
    return chance(draft, 75) ? 0 : 1 + (int64_t) throw(draft, (uint64_t)known + 2);
}

static Kv__KeyRange *range(struct draft *draft)
{
    kv__key_range__init(&draft->range);
    switch (throw(draft, 4)) {
    case 0:
        /* Keys of all types lie before these two kinds, and are not the model's. */
        draft->range.special = KV__KEY_RANGE__SPECIAL__ALL;
        if (draft->sim->profile.types_percent > 0 || draft->sim->profile.queue_percent > 0 ||
            draft->sim->profile.lives_percent > 0 || draft->sim->profile.large_percent > 0) {
            draft->range.special = KV__KEY_RANGE__SPECIAL__FROM_KEY;
            draft->range.start = (ProtobufCBinaryData){2, (uint8_t *)(uintptr_t) "c/"};
        }
        break;
    case 1:
        draft->range.special = KV__KEY_RANGE__SPECIAL__PREFIX;
        draft->range.start = key(draft, 0);
        draft->range.start.len = 6; /* "key/N/" */
        break;
    case 2:
        draft->range.special = KV__KEY_RANGE__SPECIAL__FROM_KEY;
        draft->range.start = key(draft, 0);
        break;
    default:
        draft->range.start = key(draft, 0);
        draft->range.end = key(draft, 1);
        if (strcmp(draft->keys[0], draft->keys[1]) >= 0) {
            draft->range.end = (ProtobufCBinaryData){0};
        }
        break;
    }
    return &draft->range;
}

static size_t key_list(struct draft *draft)
{
    size_t n = 1 + throw(draft, KEYS_MAX);

    for (unsigned i = 0; i < n; i++) {
        draft->key_list[i] = wants_counter(draft) ? counter_key(draft, i) : key(draft, i);
    }
    return n;
}

/* ---------------------------------------------------------------- writes */

static void draft_put(struct draft *draft)
{
    Kv__Put *put = &draft->body.put;

    kv__put__init(put);
    put->key = key(draft, 0);
    put->value = value(draft);
    put->return_previous = chance(draft, 30);
    switch (throw(draft, 12)) {
    case 0:
        put->condition_case = KV__PUT__CONDITION_IF_ABSENT;
        put->if_absent = true;
        break;
    case 1:
        put->condition_case = KV__PUT__CONDITION_IF_PRESENT;
        put->if_present = true;
        break;
    case 2:
        put->condition_case = KV__PUT__CONDITION_IF_MOD_REVISION;
        put->if_mod_revision = some_revision(draft);
        break;
    case 3:
        put->condition_case = KV__PUT__CONDITION_IF_VALUE;
        if (chance(draft, 50)) {
            put->value = (ProtobufCBinaryData){4, (uint8_t *)(uintptr_t) "same"};
        }
        put->if_value = put->value;
        break;
    case 4:
        put->value = (ProtobufCBinaryData){4, (uint8_t *)(uintptr_t) "same"};
        break;
    default:
        draft->options.repeatable = draft->sim->profile.repeats && chance(draft, 30);
        break;
    }
    draft->request.command_case = KV__REQUEST__COMMAND_PUT;
    draft->request.put = put;
}

static void draft_delete(struct draft *draft)
{
    Kv__Delete *delete = &draft->body.delete;

    kv__delete__init(delete);
    if (chance(draft, 80)) {
        delete->n_keys = key_list(draft);
        delete->keys = draft->key_list;
    } else {
        delete->n_ranges = 1;
        draft->range_list[0] = range(draft);
        delete->ranges = draft->range_list;
    }
    delete->return_previous = chance(draft, 40);
    draft->request.command_case = KV__REQUEST__COMMAND_DELETE;
    draft->request.delete_ = delete;
}

/* Each changes something, so that it makes a revision: more or less by 1 to 5, or a number that was
 * not set before, and which adding does not reach. */
static void draft_counter_write(struct draft *draft)
{
    Kv__CounterAdd *add = &draft->body.counter_add;

    if (chance(draft, 10)) {
        kv__counter_set__init(&draft->body.counter_set);
        draft->body.counter_set.key = counter_key(draft, 0);
        draft->body.counter_set.value =
            1000000 *
            (int64_t)(draft->client->n_commands * SIM_CLIENTS_MAX + draft->client->id + 1);
        draft->request.command_case = KV__REQUEST__COMMAND_COUNTER_SET;
        draft->request.counter_set = &draft->body.counter_set;
        return;
    }
    kv__counter_add__init(add);
    add->key = counter_key(draft, 0);
    add->delta = (int64_t) throw(draft, 5) + 1;
    add->delta = chance(draft, 30) ? -add->delta : add->delta;
    add->initial = chance(draft, 20) ? 100 : 0;
    for (unsigned i = 0; i < 2; i++) {
        kv__int64_bound__init(&draft->bounds[i]);
        draft->bounds[i].value = (int64_t) throw(draft, 200) * (i ? 1 : -1);
    }
    add->min = chance(draft, 20) ? &draft->bounds[0] : NULL;
    add->max = chance(draft, 20) ? &draft->bounds[1] : NULL;
    draft->request.command_case = KV__REQUEST__COMMAND_COUNTER_ADD;
    draft->request.counter_add = add;
}

static void draft_write(struct draft *draft)
{
    if (wants_counter(draft)) {
        draft_counter_write(draft);
        return;
    }
    switch (throw(draft, 10)) {
    case 0:
        kv__append__init(&draft->body.append);
        draft->body.append.key = key(draft, 0);
        draft->body.append.value = value(draft);
        draft->request.command_case = KV__REQUEST__COMMAND_APPEND;
        draft->request.append = &draft->body.append;
        break;
    case 1:
        kv__get_set__init(&draft->body.getset);
        draft->body.getset.key = key(draft, 0);
        draft->body.getset.value = value(draft);
        draft->request.command_case = KV__REQUEST__COMMAND_GETSET;
        draft->request.getset = &draft->body.getset;
        break;
    case 2:
        kv__get_del__init(&draft->body.getdel);
        draft->body.getdel.key = key(draft, 0);
        draft->request.command_case = KV__REQUEST__COMMAND_GETDEL;
        draft->request.getdel = &draft->body.getdel;
        break;
    case 3:
        kv__set_range__init(&draft->body.set_range);
        draft->body.set_range.key = key(draft, 0);
        draft->body.set_range.offset = throw(draft, 200);
        draft->body.set_range.value = value(draft);
        draft->request.command_case = KV__REQUEST__COMMAND_SET_RANGE;
        draft->request.set_range = &draft->body.set_range;
        break;
    case 4:
    case 5:
        draft_delete(draft);
        break;
    default:
        draft_put(draft);
        break;
    }
}

/* ---------------------------------------------------------------- reads */

static void draft_range(struct draft *draft)
{
    Kv__Range *body = &draft->body.range;

    kv__range__init(body);
    body->range = range(draft);
    body->limit = chance(draft, 50) ? 0 : 1 + throw(draft, 20);
    body->descending = chance(draft, 30);
    body->keys_only = chance(draft, 30);
    body->at_revision = some_revision(draft);
    if (chance(draft, 30)) {
        draft->is_stream = true;
        body->stream = true;
        body->credit = KV_CLIENT_STREAM_CREDIT_BYTES;
    } else {
        body->count_only = chance(draft, 20);
    }
    draft->request.command_case = KV__REQUEST__COMMAND_RANGE;
    draft->request.range = body;
}

static void draft_short_read(struct draft *draft)
{
    switch (throw(draft, 4)) {
    case 0:
        kv__str_len__init(&draft->body.strlen);
        draft->body.strlen.key = key(draft, 0);
        draft->body.strlen.at_revision = some_revision(draft);
        draft->request.command_case = KV__REQUEST__COMMAND_STRLEN;
        draft->request.strlen = &draft->body.strlen;
        break;
    case 1:
        kv__get_range__init(&draft->body.get_range);
        draft->body.get_range.key = key(draft, 0);
        draft->body.get_range.first = (int64_t) throw(draft, 20);
        draft->body.get_range.last = -1 - (int64_t) throw(draft, 5);
        draft->body.get_range.at_revision = some_revision(draft);
        draft->request.command_case = KV__REQUEST__COMMAND_GET_RANGE;
        draft->request.get_range = &draft->body.get_range;
        break;
    case 2:
        kv__exists__init(&draft->body.exists);
        draft->body.exists.n_keys = key_list(draft);
        draft->body.exists.keys = draft->key_list;
        draft->body.exists.at_revision = some_revision(draft);
        draft->request.command_case = KV__REQUEST__COMMAND_EXISTS;
        draft->request.exists = &draft->body.exists;
        break;
    default:
        kv__count__init(&draft->body.count);
        draft->body.count.range = range(draft);
        draft->body.count.at_revision = some_revision(draft);
        draft->request.command_case = KV__REQUEST__COMMAND_COUNT;
        draft->request.count = &draft->body.count;
        break;
    }
}

static void draft_read(struct draft *draft)
{
    draft->options.serializable = chance(draft, 15);
    if (wants_counter(draft)) {
        kv__counter_get__init(&draft->body.counter_get);
        draft->body.counter_get.key = counter_key(draft, 0);
        draft->body.counter_get.at_revision = some_revision(draft);
        draft->request.command_case = KV__REQUEST__COMMAND_COUNTER_GET;
        draft->request.counter_get = &draft->body.counter_get;
        return;
    }
    switch (throw(draft, 4)) {
    case 0:
        draft_range(draft);
        break;
    case 1:
        draft_short_read(draft);
        break;
    default:
        kv__get__init(&draft->body.get);
        draft->body.get.key = key(draft, 0);
        draft->body.get.at_revision = some_revision(draft);
        draft->request.command_case = KV__REQUEST__COMMAND_GET;
        draft->request.get = &draft->body.get;
        break;
    }
}

/* ---------------------------------------------------------------- rare ones */

/* Half of them leave little. */
static void draft_compact(struct draft *draft)
{
    kv__compact__init(&draft->body.compact);
    draft->body.compact.revision = chance(draft, 50)
                                       ? draft->sim->known_revision - (int64_t) throw(draft, 20)
                                       : some_revision(draft);
    draft->body.compact.revision += draft->body.compact.revision == 0 && !chance(draft, 5);
    draft->request.command_case = KV__REQUEST__COMMAND_COMPACT;
    draft->request.compact = &draft->body.compact;
}

static void draft_setting(struct draft *draft, enum sim_setting what)
{
    kv_arena_reset(&draft->sim->typed);
    sim_settings_draft(draft->sim, &draft->sim->typed, what, &draft->request);
}

static void draft_snapshot(struct draft *draft)
{
    kv__snapshot_now__init(&draft->body.snapshot_now);
    draft->request.command_case = KV__REQUEST__COMMAND_SNAPSHOT_NOW;
    draft->request.snapshot_now = &draft->body.snapshot_now;
}

static void draft_rare(struct draft *draft)
{
    switch (throw(draft, draft->sim->profile.has_data_limit ? 12 : 10)) {
    case 0:
        kv__config_list__init(&draft->body.config_list);
        draft->request.command_case = KV__REQUEST__COMMAND_CONFIG_LIST;
        draft->request.config_list = &draft->body.config_list;
        break;
    case 1:
        kv__config_get__init(&draft->body.config_get);
        draft->body.config_get.name =
            (char *)(uintptr_t)(chance(draft, 80) ? "value-limit" : "nothing-such");
        draft->request.command_case = KV__REQUEST__COMMAND_CONFIG_GET;
        draft->request.config_get = &draft->body.config_get;
        break;
    case 2:
        kv__status__init(&draft->body.status);
        draft->request.command_case = KV__REQUEST__COMMAND_STATUS;
        draft->request.status = &draft->body.status;
        break;
    case 3:
        kv__member_list__init(&draft->body.member_list);
        draft->request.command_case = KV__REQUEST__COMMAND_MEMBER_LIST;
        draft->request.member_list = &draft->body.member_list;
        break;
    case 4:
        kv__leader_transfer__init(&draft->body.leader_transfer);
        draft->body.leader_transfer.node_id = throw(draft, draft->sim->profile.n_nodes + 1);
        draft->request.command_case = KV__REQUEST__COMMAND_LEADER_TRANSFER;
        draft->request.leader_transfer = &draft->body.leader_transfer;
        break;
    case 5:
        draft_snapshot(draft);
        break;
    case 6:
    case 7:
    case 8:
        draft_setting(draft, SIM_SETTING_ANY);
        break;
    case 9:
        draft_compact(draft);
        break;
    default:
        draft_setting(draft, SIM_SETTING_DATA_LIMIT);
        break;
    }
}

/* ---------------------------------------------------------------- ends */

static void think(struct sim_client *client)
{
    struct sim *sim = client->sim;
    uint64_t mean_ms = sim->has_healed ? SETTLED_THINK_MS : sim->profile.think_ms;

    sim_push(sim,
             (struct sim_event){.time_ns = sim->now_ns +
                                           SIM_MS * sim_random_time(sim, SIM_RANDOM_LOAD, mean_ms),
                                .kind = SIM_EV_CLIENT_THINKS,
                                .peer = (uint8_t)client->id});
}

/* The session gives back one pointer: the number of the call; the client is found by it. */
static struct sim *ending_sim;

static void count_end(struct sim *sim, struct sim_client *client, const struct history_call *call)
{
    enum kv_retry retry = kv_status_retry(call->status);

    if (call->status == 0 && call->cls == KV_COMMAND_WRITE) {
        sim->counts.acknowledged_writes++;
        client->healed_writes += sim->has_healed;
    }
    sim->counts.reads += call->status == 0 && call->cls != KV_COMMAND_WRITE;
    sim->counts.unknown += retry == KV_RETRY_UNKNOWN;
    sim->counts.refused += retry == KV_RETRY_LATER || retry == KV_RETRY_ELSEWHERE;
}

/* What the model does not follow is recorded as a transaction, of which the judge knows only that
 * it may make a revision. */
static Kv__Request foreign_write(void)
{
    static Kv__Txn nothing = KV__TXN__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    request.command_case = KV__REQUEST__COMMAND_TXN;
    request.txn = &nothing;
    return request;
}

static Kv__Reply foreign_reply(const Kv__Reply *reply)
{
    Kv__Reply copy = KV__REPLY__INIT;

    copy.code = reply->code;
    copy.revision = reply->revision;
    return copy;
}

static void record_end(struct sim *sim,
                       const struct sim_client *client,
                       const struct history_call *call,
                       const struct kv_session_answer *answer)
{
    const Kv__Request *request = sim->recorded->ops[call->recorded].request;
    const Kv__Reply *reply = call->cls == KV_COMMAND_STREAM ? NULL : answer->reply;
    Kv__Reply foreign;

    if (reply && request->command_case == KV__REQUEST__COMMAND_TXN) {
        foreign = foreign_reply(reply);
        reply = &foreign;
    }
    KV_ASSERT(kv_history_end(sim->recorded,
                             call->recorded,
                             (int64_t)sim->now_ns,
                             client->heard_from,
                             answer->status,
                             reply) == 0);
}

static void note_lease(struct sim *sim, const Kv__Reply *reply)
{
    if (reply && reply->result_case == KV__REPLY__RESULT_LEASE_GRANT) {
        sim->chosen_lease = reply->lease_grant->lease_id;
    }
}

static void on_end(void *arg, const struct kv_session_answer *answer)
{
    struct sim *sim = ending_sim;
    size_t number = (size_t)(uintptr_t)arg;
    struct history_call *call;
    struct sim_client *client;

    if (sim->is_over) {
        return;
    }
    history_return(&sim->history, number, sim->now_ns, answer->status, answer->reply);
    call = &sim->history.calls[number];
    client = &sim->clients[call->client];
    sim->known_revision =
        call->revision > sim->known_revision ? call->revision : sim->known_revision;
    client->n_pending--;
    note_lease(sim, answer->reply);
    if (sim->profile.locks_percent > 0) {
        sim_locks_ended(client, call, answer->reply);
    }
    if (call->recorded != SIZE_MAX) {
        record_end(sim, client, call, answer);
    }
    count_end(sim, client, call);
    if (sim->options.trace) {
        sim_note(sim,
                 0,
                 "client %u call %zu: %s at revision %" PRId64,
                 client->id,
                 number,
                 kv_status_name(answer->status),
                 call->revision);
    }
}

static void on_item(void *arg, const Kv__StreamItem *item)
{
    size_t number = (size_t)(uintptr_t)arg;

    history_item(&ending_sim->history, number, item);
    if (ending_sim->history.calls[number].recorded != SIZE_MAX) {
        KV_ASSERT(kv_history_item(
                      ending_sim->recorded, ending_sim->history.calls[number].recorded, item) == 0);
    }
}

/* What a node says of itself has no place in the order of all commands; what the model does not
 * know has one if it makes a revision. */
static void
record(struct sim *sim, struct sim_client *client, size_t number, const struct draft *draft)
{
    struct history_call *call = &sim->history.calls[number];
    Kv__Request foreign = foreign_write();

    if (call->cls == KV_COMMAND_WRITE ||
        (draft->is_judged && call->cls != KV_COMMAND_NODE && call->cls != KV_COMMAND_UNSUPPORTED)) {
        KV_ASSERT(kv_history_begin(sim->recorded,
                                   client->id + 1,
                                   (int64_t)sim->now_ns,
                                   draft->is_judged ? &draft->request : &foreign,
                                   &call->recorded) == 0);
    }
}

static bool waits(const Kv__Request *request)
{
    return request->command_case == KV__REQUEST__COMMAND_LIST_POP &&
           request->list_pop->block_ms > 0;
}

static void submit(struct sim_client *client, struct draft *draft)
{
    struct sim *sim = client->sim;
    size_t number;

    if (sim_chance(sim, SIM_RANDOM_LOAD, 100)) {
        draft->options.deadline_ms = 1 + (unsigned)sim_random(sim, SIM_RANDOM_LOAD, 1000);
    }
    draft->request.serializable = draft->options.serializable;
    ending_sim = sim;
    number = history_call(
        &sim->history, client->id, sim->now_ns, &draft->request, draft->options.repeatable);
    sim->history.calls[number].is_stampable = !kv_session_is_repeatable(&draft->request);
    record(sim, client, number, draft);
    if (sim->options.trace) {
        sim_note(sim,
                 0,
                 "client %u call %zu: command %d",
                 client->id,
                 number,
                 (int)draft->request.command_case);
    }
    KV_ASSERT(kv_session_submit(client->session,
                                sim->now_ns,
                                &draft->request,
                                &draft->options,
                                draft->is_stream ? on_item : NULL,
                                on_end,
                                (void *)(uintptr_t)number,
                                &client->last_id) == 0);
    client->waiting_id = waits(&draft->request) ? client->last_id : client->waiting_id;
    client->n_pending++;
    client->n_commands++;
    sim->counts.commands++;
}

static struct draft *draft_new(struct sim_client *client)
{
    static struct draft draft;

    memset(&draft, 0, offsetof(struct draft, value));
    draft.options = (struct kv_call_options){0};
    draft.is_stream = false;
    draft.is_judged = true;
    draft.sim = client->sim;
    draft.client = client;
    kv__request__init(&draft.request);
    return &draft;
}

static bool wants(struct sim *sim, enum sim_stream stream, unsigned percent)
{
    return percent > 0 && sim_random(sim, stream, 100) < percent;
}

/* Instead of the commands that the model follows, if so the seed wants it. */
static bool draft_foreign(struct draft *draft, bool is_write, bool may_write)
{
    struct sim *sim = draft->sim;
    const struct sim_profile *profile = &sim->profile;
    struct kv_arena *arena = &sim->typed;
    Kv__Request *request = &draft->request;

    kv_arena_reset(arena);
    draft->is_judged = false;
    if (may_write && wants(sim, SIM_RANDOM_QUEUES, profile->queue_percent) &&
        sim_queue_draft(draft->client, arena, request)) {
        return true;
    }
    if (may_write && wants(sim, SIM_RANDOM_RARE, profile->large_percent)) {
        sim_large_draft(draft->client, arena, request);
        return true;
    }
    if (may_write && wants(sim, SIM_RANDOM_TOPICS, profile->topics_percent)) {
        sim_topics_draft(draft->client, arena, request);
        return true;
    }
    if (may_write && wants(sim, SIM_RANDOM_LOCKS, profile->locks_percent)) {
        sim_locks_draft(draft->client, arena, request);
        return true;
    }
    if (wants(sim, SIM_RANDOM_LIVES, profile->lives_percent)) {
        sim_lives_draft(sim, arena, is_write, request);
        return true;
    }
    if (wants(sim, SIM_RANDOM_TYPES, profile->types_percent)) {
        sim_types_draft(sim, arena, is_write, request);
        draft->is_stream = kv_command_classify(request) == KV_COMMAND_STREAM;
        draft->options.serializable =
            kv_command_classify(request) == KV_COMMAND_READ && chance(draft, 15);
        return true;
    }
    draft->is_judged = true;
    return false;
}

/* Somewhere a limit of the data stands in the way of progress. */
static bool is_limited(const struct sim *sim)
{
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        const struct sim_node *node = &sim->nodes[i];

        if (node->is_up && kv_machine_settings_of(node->node->machine)->data_bytes > 0) {
            return true;
        }
    }
    return false;
}

/* After the faults: writes that must succeed. */
static void draft_settled(struct draft *draft)
{
    if (is_limited(draft->sim)) {
        draft_setting(draft, SIM_SETTING_NO_DATA_LIMIT);
    } else {
        draft_put(draft);
        draft->body.put.condition_case = KV__PUT__CONDITION__NOT_SET;
    }
}

static void draft_any(struct draft *draft)
{
    const struct sim_profile *profile = &draft->sim->profile;
    bool may_write = draft->client->id >= profile->n_readers;
    bool is_write;

    if (sim_chance(draft->sim, SIM_RANDOM_LOAD, profile->rare_permille)) {
        draft_rare(draft);
        return;
    }
    if (profile->is_tight && may_write && draft->client->n_commands < TIGHT_FROM) {
        draft_setting(draft, SIM_SETTING_TIGHT);
        return;
    }
    is_write = may_write && chance(draft, profile->write_percent);
    if (!draft_foreign(draft, is_write, may_write)) {
        (is_write ? draft_write : draft_read)(draft);
    }
}

bool sim_load_snapshot(struct sim_client *client)
{
    struct draft *draft = draft_new(client);

    if (client->sim->load_ended || client->n_pending >= client->sim->profile.pipeline) {
        return false;
    }
    draft_snapshot(draft);
    submit(client, draft);
    sim_client_pump(client);
    return true;
}

void sim_load_next(struct sim_client *client)
{
    struct sim *sim = client->sim;
    struct draft *draft;

    if (sim->load_ended) {
        return;
    }
    think(client);
    if (client->n_pending >= sim->profile.pipeline ||
        (sim->options.commands_max && sim->counts.commands >= sim->options.commands_max &&
         !sim->has_healed)) {
        return;
    }
    sim_queue_give_up(client);
    if (client->n_pending > 0 && sim_chance(sim, SIM_RANDOM_LOAD, 10)) {
        kv_session_cancel(client->session, sim->now_ns, client->last_id);
        return;
    }
    draft = draft_new(client);
    (sim->has_healed ? draft_settled : draft_any)(draft);
    submit(client, draft);
}
