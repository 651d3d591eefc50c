/* A diff as one transaction: on the condition that what it was made from is still there. */
#include "client/kvctl/diff.h"
#include "common/limits.h"

#include <inttypes.h>
#include <string.h>

/* The messages around what one request may carry: 100 bytes for a field, of one byte at least. */
#define ARENA_BYTES_MAX (128 * (size_t)KV_REQUEST_BYTES_MAX)
/* Operations of one change: two at most, and one that sets its time. */
enum { OPERATIONS_PER_CHANGE = 3 };

struct builder {
    const struct kvctl_plan *plan;
    struct kv_arena arena;
    Kv__Txn *txn;
    Kv__Delete *removal;
    struct kvctl_call root;
};

static ProtobufCBinaryData data_of(struct kv_bytes bytes)
{
    return (ProtobufCBinaryData){bytes.size, (uint8_t *)bytes.data};
}

/* ---------------------------------------------------------------- operations */

/* The message of a new operation at the end. */
static void *add_operation(struct builder *builder, Kv__Request__CommandCase number)
{
    struct kvctl_call call = {.kvctl = builder->plan->kvctl, .arena = &builder->arena};
    Kv__Request *request = kvctl_alloc(&builder->root, sizeof *request);
    void *message;

    kv__request__init(&call.request);
    message = kvctl_begin(&call, number);
    *request = call.request;
    builder->txn->then[builder->txn->n_then++] = request;
    return message;
}

static void remove_key(struct builder *builder, const struct kvctl_entry *entry)
{
    builder->removal->keys[builder->removal->n_keys++] = data_of(entry->key);
}

static const struct kvctl_element *find(const struct kvctl_entry *entry, struct kv_bytes name)
{
    size_t low = 0;
    size_t high = entry ? entry->n_elements : 0;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = kvctl_bytes_compare(entry->elements[middle].name, name);

        if (order == 0) {
            return &entry->elements[middle];
        }
        *(order < 0 ? &low : &high) = order < 0 ? middle + 1 : middle;
    }
    return NULL;
}

static bool is_there(const struct kvctl_entry *entry, const struct kvctl_element *element)
{
    const struct kvctl_element *found = find(entry, element->name);

    return found && kvctl_bytes_equal(found->value, element->value) &&
           found->score == element->score;
}

/* Names that `from` has and `to` has not. */
static ProtobufCBinaryData *list_gone(struct builder *builder,
                                      const struct kvctl_entry *from,
                                      const struct kvctl_entry *to,
                                      size_t *ret_n)
{
    size_t n_from = from ? from->n_elements : 0;
    ProtobufCBinaryData *names = kvctl_alloc(&builder->root, n_from * sizeof *names);
    size_t n = 0;

    for (size_t i = 0; i < n_from; i++) {
        if (!find(to, from->elements[i].name)) {
            names[n++] = data_of(from->elements[i].name);
        }
    }
    *ret_n = n;
    return names;
}

/* Only the fields that are different, with the time to live that they have in the document, if any:
 * others keep theirs. */
static void
set_hash(struct builder *builder, const struct kvctl_entry *from, const struct kvctl_entry *to)
{
    Kv__HashField **fields = kvctl_alloc(&builder->root, to->n_elements * sizeof(Kv__HashField *));
    ProtobufCBinaryData *gone;
    size_t n_gone;
    size_t n = 0;

    for (size_t i = 0; i < to->n_elements; i++) {
        if (!is_there(from, &to->elements[i])) {
            fields[n] = kvctl_alloc(&builder->root, sizeof *fields[n]);
            kv__hash_field__init(fields[n]);
            fields[n]->name = data_of(to->elements[i].name);
            fields[n]->ttl_ms = (uint64_t)to->elements[i].ttl_ms;
            fields[n++]->value = data_of(to->elements[i].value);
        }
    }
    if (n > 0) {
        Kv__HashSet *set = add_operation(builder, KV__REQUEST__COMMAND_HASH_SET);

        set->key = data_of(to->key);
        set->fields = fields;
        set->n_fields = n;
    }
    gone = list_gone(builder, from, to, &n_gone);
    if (n_gone > 0) {
        Kv__HashDelete *delete = add_operation(builder, KV__REQUEST__COMMAND_HASH_DELETE);

        delete->key = data_of(to->key);
        delete->fields = gone;
        delete->n_fields = n_gone;
    }
}

static void
set_zset(struct builder *builder, const struct kvctl_entry *from, const struct kvctl_entry *to)
{
    Kv__ZSetMember **members =
        kvctl_alloc(&builder->root, to->n_elements * sizeof(Kv__ZSetMember *));
    ProtobufCBinaryData *gone;
    size_t n_gone;
    size_t n = 0;

    for (size_t i = 0; i < to->n_elements; i++) {
        if (!is_there(from, &to->elements[i])) {
            members[n] = kvctl_alloc(&builder->root, sizeof *members[n]);
            kv__zset_member__init(members[n]);
            members[n]->member = data_of(to->elements[i].name);
            members[n++]->score = to->elements[i].score;
        }
    }
    if (n > 0) {
        Kv__ZSetAdd *add = add_operation(builder, KV__REQUEST__COMMAND_ZSET_ADD);

        add->key = data_of(to->key);
        add->members = members;
        add->n_members = n;
    }
    gone = list_gone(builder, from, to, &n_gone);
    if (n_gone > 0) {
        Kv__ZSetRemove *remove = add_operation(builder, KV__REQUEST__COMMAND_ZSET_REMOVE);

        remove->key = data_of(to->key);
        remove->members = gone;
        remove->n_members = n_gone;
    }
}

static void
set_set(struct builder *builder, const struct kvctl_entry *from, const struct kvctl_entry *to)
{
    ProtobufCBinaryData *list;
    size_t n = 0;

    if (from) {
        list = list_gone(builder, to, from, &n);
    } else {
        list = kvctl_alloc(&builder->root, to->n_elements * sizeof *list);
        for (; n < to->n_elements; n++) {
            list[n] = data_of(to->elements[n].name);
        }
    }
    if (n > 0) {
        Kv__SetAdd *add = add_operation(builder, KV__REQUEST__COMMAND_SET_ADD);

        add->key = data_of(to->key);
        add->members = list;
        add->n_members = n;
    }
    list = list_gone(builder, from, to, &n);
    if (n > 0) {
        Kv__SetRemove *remove = add_operation(builder, KV__REQUEST__COMMAND_SET_REMOVE);

        remove->key = data_of(to->key);
        remove->members = list;
        remove->n_members = n;
    }
}

/* Pushes what comes behind the common beginning, or everything and takes the old ones off: the list
 * is never empty, so that it keeps its time to live. */
static void
set_list(struct builder *builder, const struct kvctl_entry *from, const struct kvctl_entry *to)
{
    size_t old = from ? from->n_elements : 0;
    size_t common = 0;
    ProtobufCBinaryData *elements;
    Kv__ListPush *push;

    while (common < old && common < to->n_elements &&
           kvctl_bytes_equal(from->elements[common].name, to->elements[common].name)) {
        common++;
    }
    if (common < old) {
        common = 0;
    } else {
        old = 0;
    }
    elements = kvctl_alloc(&builder->root, to->n_elements * sizeof *elements);
    for (size_t i = common; i < to->n_elements; i++) {
        elements[i - common] = data_of(to->elements[i].name);
    }
    push = add_operation(builder, KV__REQUEST__COMMAND_LIST_PUSH);
    push->key = data_of(to->key);
    push->end = KV__LIST_END__LIST_RIGHT;
    push->elements = elements;
    push->n_elements = to->n_elements - common;
    if (old > 0) {
        Kv__ListTrim *trim = add_operation(builder, KV__REQUEST__COMMAND_LIST_TRIM);

        trim->key = data_of(to->key);
        trim->first = (int64_t)old;
        trim->last = -1;
    }
}

static void
set_string(struct builder *builder, const struct kvctl_entry *from, const struct kvctl_entry *to)
{
    Kv__Put *put = add_operation(builder, KV__REQUEST__COMMAND_PUT);

    put->key = data_of(to->key);
    put->value = data_of(to->value);
    if (from && (from->ttl_ms || from->lease_id)) {
        put->expiry_case = KV__PUT__EXPIRY_KEEP;
        put->keep = true;
    }
}

static void add_change(struct builder *builder, const struct kvctl_change *change)
{
    const struct kvctl_entry *to = change->to;
    const struct kvctl_entry *from = change->from && to && change->from->type == to->type
                                         ? change->from
                                         : NULL; /* of another type, it is removed first */

    if (change->from && !from) {
        remove_key(builder, change->from);
    }
    if (!to) {
        return;
    }
    switch (to->type) {
    case KV_TYPE_COUNTER: {
        Kv__CounterSet *set = add_operation(builder, KV__REQUEST__COMMAND_COUNTER_SET);

        set->key = data_of(to->key);
        set->value = to->counter;
        break;
    }
    case KV_TYPE_HASH:
        set_hash(builder, from, to);
        break;
    case KV_TYPE_LIST:
        set_list(builder, from, to);
        break;
    case KV_TYPE_SET:
        set_set(builder, from, to);
        break;
    case KV_TYPE_ZSET:
        set_zset(builder, from, to);
        break;
    default:
        set_string(builder, from, to);
    }
    if (!change->from && to->ttl_ms) {
        Kv__Expire *expire = add_operation(builder, KV__REQUEST__COMMAND_EXPIRE);

        expire->key = data_of(to->key);
        expire->expiry_case = KV__EXPIRE__EXPIRY_TTL_MS;
        expire->ttl_ms = (uint64_t)to->ttl_ms;
    }
}

/* ---------------------------------------------------------------- compares */

static Kv__Compare *
add_compare(struct builder *builder, Kv__Comparison comparison, int64_t revision)
{
    Kv__Compare *compare = kvctl_alloc(&builder->root, sizeof *compare);

    kv__compare__init(compare);
    compare->range = kvctl_alloc(&builder->root, sizeof *compare->range);
    kv__key_range__init(compare->range);
    compare->comparison = comparison;
    compare->operand_case = KV__COMPARE__OPERAND_MOD_REVISION;
    compare->mod_revision = revision;
    builder->txn->compares[builder->txn->n_compares++] = compare;
    return compare;
}

static void add_compares(struct builder *builder)
{
    static const Kv__KeyRange__Special specials[] = {
        [KV_RANGE_KEY] = KV__KEY_RANGE__SPECIAL__NONE,
        [KV_RANGE_PREFIX] = KV__KEY_RANGE__SPECIAL__PREFIX,
        [KV_RANGE_ALL] = KV__KEY_RANGE__SPECIAL__ALL,
    };
    const struct kvctl_plan *plan = builder->plan;
    const struct kv_range_spec *scope = plan->scope;

    for (size_t i = 0; i < plan->diff->n_changes; i++) {
        const struct kvctl_change *change = &plan->diff->changes[i];
        const struct kvctl_entry *from = change->from;

        add_compare(builder, KV__COMPARISON__COMPARE_EQUAL, from ? from->mod_revision : 0)
            ->range->start = data_of(from ? from->key : change->to->key);
    }
    if (scope) {
        Kv__KeyRange *range =
            add_compare(builder, KV__COMPARISON__COMPARE_LESS_EQUAL, plan->revision)->range;

        range->special = specials[scope->kind];
        range->start = data_of(scope->start);
    }
}

/* ---------------------------------------------------------------- the transaction */

static int refuse_size(const struct kvctl_plan *plan, const char *what, size_t number, size_t limit)
{
    fprintf(plan->kvctl->err,
            "kvctl %s: %s of one transaction: %zu, at most %zu; nothing was applied: %s\n",
            plan->kvctl->args.command->name,
            what,
            number,
            limit,
            plan->too_large);
    return KVCTL_REFUSED;
}

/* Keys, values and elements, at their least size in a request. */
static size_t count_bytes(const struct kvctl_diff *diff)
{
    size_t bytes = 0;

    for (size_t i = 0; i < diff->n_changes; i++) {
        const struct kvctl_entry *to = diff->changes[i].to;

        bytes += diff->changes[i].from ? diff->changes[i].from->key.size : to->key.size;
        if (!to || (diff->changes[i].from && to->type != KV_TYPE_STRING)) {
            continue; /* only what is different is sent, which is counted afterwards */
        }
        bytes += to->value.size;
        for (size_t k = 0; k < to->n_elements; k++) {
            bytes += to->elements[k].name.size + to->elements[k].value.size;
        }
    }
    return bytes;
}

static void build(struct builder *builder)
{
    const struct kvctl_diff *diff = builder->plan->diff;
    Kv__Txn *txn = kvctl_begin(&builder->root, KV__REQUEST__COMMAND_TXN);
    size_t n = OPERATIONS_PER_CHANGE * diff->n_changes + 1;

    builder->txn = txn;
    txn->compares = kvctl_alloc(&builder->root, (diff->n_changes + 1) * sizeof(Kv__Compare *));
    txn->then = kvctl_alloc(&builder->root, n * sizeof(Kv__Request *));
    builder->removal = add_operation(builder, KV__REQUEST__COMMAND_DELETE);
    builder->removal->keys =
        kvctl_alloc(&builder->root, (diff->n_changes + 1) * sizeof(ProtobufCBinaryData));
    add_compares(builder);
    for (size_t i = 0; i < diff->n_changes; i++) {
        add_change(builder, &diff->changes[i]);
    }
    if (builder->removal->n_keys == 0) {
        memmove(txn->then, txn->then + 1, --txn->n_then * sizeof(Kv__Request *));
    }
}

/* Names the keys that are not what the diff was made from. */
static int tell_changed(const struct kvctl_plan *plan)
{
    struct kv_arena arena;
    struct kvctl_document keys = {.arena = &arena};
    struct kvctl_document now = {.arena = &arena};
    FILE *err = plan->kvctl->err;
    struct kv_error error;
    int status = 0;

    fprintf(err,
            "kvctl %s: changed by somebody else meanwhile, nothing was applied:\n",
            plan->kvctl->args.command->name);
    kv_arena_init(&arena, KVCTL_DOCUMENT_BYTES_MAX);
    for (size_t i = 0; i < plan->diff->n_changes && status == 0; i++) {
        const struct kvctl_change *change = &plan->diff->changes[i];
        struct kvctl_entry *entry = kvctl_document_add(&keys);

        if (entry) {
            *entry = change->from ? *change->from : *change->to;
            entry->mod_revision = change->from ? change->from->mod_revision : 0;
        }
    }
    status = plan->scope ? kvctl_fetch_range(plan->source, plan->scope, 0, &now, NULL, &error)
                         : kvctl_fetch_keys(plan->source, &keys, 0, &now, &error);
    if (status == 0) {
        status = kvctl_document_sort(&now, &error);
    }
    for (size_t i = 0; i < keys.n_entries && status == 0; i++) {
        const struct kvctl_entry *found = kvctl_document_find(&now, keys.entries[i].key);

        if ((found ? found->mod_revision : 0) != keys.entries[i].mod_revision) {
            fputs("  ", err);
            kvctl_print_escaped(err, keys.entries[i].key);
            fputc('\n', err);
        }
    }
    for (size_t i = 0; i < now.n_entries && status == 0 && plan->scope; i++) {
        if (now.entries[i].mod_revision > plan->revision &&
            !kvctl_document_find(&keys, now.entries[i].key)) {
            fputs("  ", err);
            kvctl_print_escaped(err, now.entries[i].key);
            fputc('\n', err);
        }
    }
    kv_arena_deinit(&arena);
    return KVCTL_NOT_MET;
}

static int send(struct builder *builder, int64_t *ret_revision)
{
    const struct kvctl_plan *plan = builder->plan;
    struct kv_error error;
    Kv__Reply *reply;
    bool succeeded = false;
    int status = kv_call(
        plan->source->client, &builder->root.request, &plan->source->options, &reply, &error);

    if (status == 0 && reply->result_case != KV__REPLY__RESULT_TXN) {
        status = kv_error_set(&error, KV_INTERNAL, "the server's reply has no result");
    }
    if (status == 0) {
        succeeded = reply->txn->succeeded;
        *ret_revision = reply->revision;
    }
    kv_reply_free(reply);
    if (status < 0) {
        int code = kvctl_fail(plan->kvctl, &error);

        if (status == KV_TOO_LARGE) {
            fprintf(plan->kvctl->err, "kvctl: nothing was applied: %s\n", plan->too_large);
        }
        return code;
    }
    return succeeded ? KVCTL_OK : tell_changed(plan);
}

int kvctl_plan_apply(const struct kvctl_plan *plan, int64_t *ret_revision)
{
    struct builder builder = {.plan = plan,
                              .root = {.kvctl = plan->kvctl, .arena = &builder.arena}};
    size_t bytes = count_bytes(plan->diff);
    int code;

    if (bytes > KV_REQUEST_BYTES_MAX) {
        return refuse_size(plan, "bytes", bytes, KV_REQUEST_BYTES_MAX);
    }
    if (plan->diff->n_changes > KV_TXN_OPERATIONS_MAX) {
        return refuse_size(plan, "keys", plan->diff->n_changes, KV_TXN_OPERATIONS_MAX);
    }
    kv_arena_init(&builder.arena, ARENA_BYTES_MAX);
    kv__request__init(&builder.root.request);
    build(&builder);
    bytes = kv__request__get_packed_size(&builder.root.request);
    if (bytes > KV_REQUEST_BYTES_MAX) {
        code = refuse_size(plan, "bytes", bytes, KV_REQUEST_BYTES_MAX);
    } else if (builder.txn->n_then > KV_TXN_OPERATIONS_MAX) {
        code = refuse_size(plan, "operations", builder.txn->n_then, KV_TXN_OPERATIONS_MAX);
    } else {
        code = send(&builder, ret_revision);
    }
    kv_arena_deinit(&builder.arena);
    return code;
}

/* ---------------------------------------------------------------- what is said */

static int say_json(const struct kvctl_plan *plan, int64_t revision, bool applied)
{
    const struct kvctl_diff *diff = plan->diff;
    const bool *set = plan->kvctl->args.set;
    FILE *out = plan->kvctl->out;
    struct kv_error error;
    int code = KVCTL_OK;

    fputc('{', out);
    if (set[KVCTL_DIFF] || set[KVCTL_DRY_RUN]) {
        if (kvctl_diff_print_json(diff, out, &error) < 0) {
            code = kvctl_fail(plan->kvctl, &error);
        }
        fputc(',', out);
    }
    fprintf(out,
            "\"created\":%zu,\"changed\":%zu,\"deleted\":%zu,\"applied\":%s",
            diff->n[KVCTL_CREATE],
            diff->n[KVCTL_CHANGE],
            diff->n[KVCTL_REMOVE],
            applied ? "true" : "false");
    fprintf(out, ",\"revision\":%" PRId64 "}\n", applied ? revision : plan->revision);
    return code;
}

static void say(const struct kvctl_plan *plan, int64_t revision, bool applied)
{
    const struct kvctl_diff *diff = plan->diff;
    FILE *out = plan->kvctl->out;

    if (diff->n_changes == 0) {
        fputs("nothing to change\n", out);
        return;
    }
    fprintf(out,
            "%zu created, %zu changed, %zu deleted",
            diff->n[KVCTL_CREATE],
            diff->n[KVCTL_CHANGE],
            diff->n[KVCTL_REMOVE]);
    if (applied) {
        fprintf(out, ", revision %" PRId64 "\n", revision);
    } else {
        fputs(" (dry run: nothing was applied)\n", out);
    }
}

int kvctl_plan_run(const struct kvctl_plan *plan)
{
    const bool *set = plan->kvctl->args.set;
    bool json = plan->kvctl->args.format == KVCTL_JSON;
    bool applied = plan->diff->n_changes > 0 && !set[KVCTL_DRY_RUN];
    int64_t revision = 0;
    int code = KVCTL_OK;

    if ((set[KVCTL_DIFF] || set[KVCTL_DRY_RUN]) && !json) {
        kvctl_diff_print(plan->diff, plan->kvctl->out);
    }
    if (applied) {
        code = kvctl_plan_apply(plan, &revision);
    }
    if (code != KVCTL_OK) {
        return code;
    }
    if (json) {
        return say_json(plan, revision, applied);
    }
    say(plan, revision, applied);
    return KVCTL_OK;
}
