/* The typed calls on sorted sets. */
#include "client/typed.h"

#include <kv/zset.h>
#include <math.h>
#include <stdlib.h>

static const struct kv_call_options *call_of(const struct kv_get_options *options)
{
    return options ? &options->call : NULL;
}

static int64_t at_of(const struct kv_get_options *options)
{
    return options ? options->at_revision : 0;
}

/* ---------------------------------------------------------------- results */

void kv_scored_list_free(struct kv_scored_list *list)
{
    if (list) {
        kv_reply_free(list->memory);
        free(list->members);
        *list = (struct kv_scored_list){0};
    }
}

static int call_for_members(const struct kv_typed *typed,
                            Kv__Request__CommandCase number,
                            void *message,
                            struct kv_scored_list *ret_list)
{
    const Kv__ZSetMembersResult *result;
    struct kv_scored *members;
    Kv__Reply *reply;
    int status = kv_typed_call(typed, number, message, &reply);

    if (status < 0) {
        return status;
    }
    result = reply->zset_range;
    members = calloc(result->n_members + 1, sizeof *members);
    if (!members) {
        kv_reply_free(reply);
        return kv_typed_no_memory(typed);
    }
    for (size_t i = 0; i < result->n_members; i++) {
        const Kv__ZSetMember *member = result->members[i];

        members[i] = (struct kv_scored){
            .member = kv_bytes_of(member->member.data, member->member.len),
            .score = member->score,
            .present = true,
        };
    }
    *ret_list = (struct kv_scored_list){
        .n_members = result->n_members,
        .members = members,
        .more = result->more,
        .revision = reply->revision,
        .memory = reply,
    };
    return 0;
}

/* ---------------------------------------------------------------- spans */

/* A span's message with its parts, which point at one another. */
struct span {
    Kv__ZSetSpan message;
    Kv__ZSetSpan__Ranks ranks;
    Kv__ZSetSpan__Scores scores;
    Kv__ScoreBound min;
    Kv__ScoreBound max;
    Kv__KeyRange members;
};

static void fill_scores(const struct kv_span *from, struct span *span)
{
    kv__zset_span__scores__init(&span->scores);
    kv__score_bound__init(&span->min);
    kv__score_bound__init(&span->max);
    span->min.score = from->min;
    span->min.exclusive = from->min_exclusive;
    span->max.score = from->max;
    span->max.exclusive = from->max_exclusive;
    span->scores.min = &span->min;
    span->scores.max = &span->max;
    span->message.span_case = KV__ZSET_SPAN__SPAN_SCORES;
    span->message.scores = &span->scores;
}

static int fill_span(const struct kv_span *from, struct span *span, struct kv_error *ret_error)
{
    int status = 0;

    kv__zset_span__init(&span->message);
    kv__zset_span__ranks__init(&span->ranks);
    switch (from ? from->kind : KV_SPAN_ALL) {
    case KV_SPAN_ALL:
        span->ranks.last = -1;
        span->message.span_case = KV__ZSET_SPAN__SPAN_RANKS;
        span->message.ranks = &span->ranks;
        break;
    case KV_SPAN_RANKS:
        span->ranks.first = from->first;
        span->ranks.last = from->last;
        span->message.span_case = KV__ZSET_SPAN__SPAN_RANKS;
        span->message.ranks = &span->ranks;
        break;
    case KV_SPAN_SCORES:
        if (isnan(from->min) || isnan(from->max)) {
            return kv_error_set(ret_error, KV_INVALID, "a bound of the scores is not a number");
        }
        fill_scores(from, span);
        break;
    case KV_SPAN_MEMBERS:
        status = kv_range_to_proto(&from->members, &span->members, ret_error);
        span->message.span_case = KV__ZSET_SPAN__SPAN_MEMBERS;
        span->message.members = &span->members;
        break;
    default:
        status = kv_error_set(ret_error, KV_INVALID, "unknown kind %d of span", (int)from->kind);
    }
    return status;
}

/* ---------------------------------------------------------------- calls */

/* The messages and the array of pointers to them, one block; the caller frees it. */
static Kv__ZSetMember **members_to_proto(const struct kv_scored *members, size_t n_members)
{
    Kv__ZSetMember **list = calloc(1, n_members * (sizeof **list + sizeof *list) + 1);
    Kv__ZSetMember *messages = (Kv__ZSetMember *)(list + n_members);

    for (size_t i = 0; list && i < n_members; i++) {
        kv__zset_member__init(&messages[i]);
        messages[i].member = kv_bytes_to_proto(members[i].member);
        messages[i].score = members[i].score;
        list[i] = &messages[i];
    }
    return list;
}

int kv_zset_add(struct kv_client *client,
                struct kv_bytes key,
                const struct kv_scored *members,
                size_t n_members,
                const struct kv_zset_add_options *options,
                struct kv_zset_add_result *ret_result,
                struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options ? &options->call : NULL, ret_error};
    Kv__ZSetAdd command = KV__ZSET_ADD__INIT;
    Kv__Reply *reply;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.n_members = n_members;
    command.members = members_to_proto(members, n_members);
    if (!command.members) {
        return kv_typed_no_memory(&typed);
    }
    if (options) {
        command.if_absent = options->if_absent;
        command.if_present = options->if_present;
        command.if_greater = options->if_greater;
        command.if_less = options->if_less;
        command.increment = options->increment;
    }
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_ZSET_ADD, &command, &reply);
    if (status == 0 && ret_result) {
        *ret_result = (struct kv_zset_add_result){
            .added = reply->zset_add->added,
            .changed = reply->zset_add->changed,
            .score = reply->zset_add->score,
        };
    }
    kv_reply_free(reply);
    free(command.members);
    return status;
}

int kv_zset_remove(struct kv_client *client,
                   struct kv_bytes key,
                   const struct kv_bytes *members,
                   size_t n_members,
                   const struct kv_call_options *options,
                   uint64_t *ret_removed,
                   struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__ZSetRemove command = KV__ZSET_REMOVE__INIT;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.n_members = n_members;
    command.members = kv_typed_list(members, n_members);
    if (!command.members) {
        return kv_typed_no_memory(&typed);
    }
    status = kv_typed_count(&typed, KV__REQUEST__COMMAND_ZSET_REMOVE, &command, ret_removed);
    free(command.members);
    return status;
}

/* The members are those asked for, the scores the reply's. */
static int take_scores(const struct kv_typed *typed,
                       const struct kv_bytes *members,
                       size_t n_members,
                       Kv__Reply *reply,
                       struct kv_scored_list *ret_list)
{
    const Kv__ZSetScoreResult *result = reply->zset_score;
    struct kv_scored *list = NULL;

    if (result->n_present != n_members || result->n_scores != n_members) {
        return kv_missing_result(typed->error);
    }
    list = calloc(n_members + 1, sizeof *list);
    if (!list) {
        return kv_typed_no_memory(typed);
    }
    for (size_t i = 0; i < n_members; i++) {
        list[i] = (struct kv_scored){members[i], result->scores[i], result->present[i]};
    }
    *ret_list = (struct kv_scored_list){
        .n_members = n_members,
        .members = list,
        .revision = reply->revision,
    };
    return 0;
}

int kv_zset_score(struct kv_client *client,
                  struct kv_bytes key,
                  const struct kv_bytes *members,
                  size_t n_members,
                  const struct kv_get_options *options,
                  struct kv_scored_list *ret_scores,
                  struct kv_error *ret_error)
{
    struct kv_typed typed = {client, call_of(options), ret_error};
    Kv__ZSetScore command = KV__ZSET_SCORE__INIT;
    Kv__Reply *reply;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.n_members = n_members;
    command.members = kv_typed_list(members, n_members);
    command.at_revision = at_of(options);
    if (!command.members) {
        return kv_typed_no_memory(&typed);
    }
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_ZSET_SCORE, &command, &reply);
    if (status == 0) {
        status = take_scores(&typed, members, n_members, reply, ret_scores);
    }
    kv_reply_free(reply);
    free(command.members);
    return status;
}

int kv_zset_rank(struct kv_client *client,
                 struct kv_bytes key,
                 struct kv_bytes member,
                 bool descending,
                 const struct kv_get_options *options,
                 uint64_t *ret_rank,
                 double *ret_score,
                 struct kv_error *ret_error)
{
    struct kv_typed typed = {client, call_of(options), ret_error};
    Kv__ZSetRank command = KV__ZSET_RANK__INIT;
    Kv__Reply *reply;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.member = kv_bytes_to_proto(member);
    command.descending = descending;
    command.at_revision = at_of(options);
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_ZSET_RANK, &command, &reply);
    if (status == 0) {
        *ret_rank = reply->zset_rank->rank;
        if (ret_score) {
            *ret_score = reply->zset_rank->score;
        }
    }
    kv_reply_free(reply);
    return status;
}

int kv_zset_range(struct kv_client *client,
                  struct kv_bytes key,
                  const struct kv_span *span,
                  const struct kv_zset_range_options *options,
                  struct kv_scored_list *ret_members,
                  struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options ? &options->call : NULL, ret_error};
    Kv__ZSetRange command = KV__ZSET_RANGE__INIT;
    struct span parts;
    int status = fill_span(span, &parts, ret_error);

    if (status < 0) {
        return status;
    }
    command.key = kv_bytes_to_proto(key);
    command.span = &parts.message;
    if (options) {
        command.descending = options->descending;
        command.offset = options->offset;
        command.limit = options->limit;
        command.at_revision = options->at_revision;
    }
    return call_for_members(&typed, KV__REQUEST__COMMAND_ZSET_RANGE, &command, ret_members);
}

int kv_zset_count(struct kv_client *client,
                  struct kv_bytes key,
                  const struct kv_span *span,
                  const struct kv_get_options *options,
                  uint64_t *ret_count,
                  struct kv_error *ret_error)
{
    struct kv_typed typed = {client, call_of(options), ret_error};
    Kv__ZSetCount command = KV__ZSET_COUNT__INIT;
    struct span parts;
    int status = fill_span(span, &parts, ret_error);

    if (status < 0) {
        return status;
    }
    command.key = kv_bytes_to_proto(key);
    command.span = &parts.message;
    command.at_revision = at_of(options);
    return kv_typed_count(&typed, KV__REQUEST__COMMAND_ZSET_COUNT, &command, ret_count);
}

int kv_zset_pop(struct kv_client *client,
                struct kv_bytes key,
                bool greatest,
                uint64_t count,
                const struct kv_call_options *options,
                struct kv_scored_list *ret_members,
                struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__ZSetPop command = KV__ZSET_POP__INIT;

    command.key = kv_bytes_to_proto(key);
    command.greatest = greatest;
    command.count = count;
    return call_for_members(&typed, KV__REQUEST__COMMAND_ZSET_POP, &command, ret_members);
}

int kv_zset_remove_range(struct kv_client *client,
                         struct kv_bytes key,
                         const struct kv_span *span,
                         const struct kv_call_options *options,
                         uint64_t *ret_removed,
                         struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__ZSetRemoveRange command = KV__ZSET_REMOVE_RANGE__INIT;
    struct span parts;
    int status = fill_span(span, &parts, ret_error);

    if (status < 0) {
        return status;
    }
    command.key = kv_bytes_to_proto(key);
    command.span = &parts.message;
    return kv_typed_count(&typed, KV__REQUEST__COMMAND_ZSET_REMOVE_RANGE, &command, ret_removed);
}

/* Borrows all but command->keys, which the caller frees. */
static int fill_combine(const struct kv_zset_combination *from, Kv__ZSetCombine *command)
{
    command->combination = (Kv__Combination)from->combination;
    command->aggregate = (Kv__Aggregate)from->aggregate;
    command->n_keys = from->n_keys;
    command->keys = kv_typed_list(from->keys, from->n_keys);
    command->n_weights = from->weights ? from->n_keys : 0;
    command->weights = (double *)from->weights;
    return command->keys ? 0 : KV_NO_MEMORY;
}

int kv_zset_combine(struct kv_client *client,
                    const struct kv_zset_combination *combination,
                    const struct kv_call_options *options,
                    struct kv_scored_list *ret_members,
                    struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__ZSetCombine command = KV__ZSET_COMBINE__INIT;
    int status;

    if (fill_combine(combination, &command) < 0) {
        return kv_typed_no_memory(&typed);
    }
    status = call_for_members(&typed, KV__REQUEST__COMMAND_ZSET_COMBINE, &command, ret_members);
    free(command.keys);
    return status;
}

int kv_zset_combine_store(struct kv_client *client,
                          const struct kv_zset_combination *combination,
                          struct kv_bytes store,
                          const struct kv_call_options *options,
                          uint64_t *ret_stored,
                          struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__ZSetCombine command = KV__ZSET_COMBINE__INIT;
    Kv__Reply *reply;
    int status;

    /* Without a name this would be a read. */
    if (store.size == 0) {
        return kv_error_set(ret_error, KV_INVALID, "the key to store in is empty");
    }
    if (fill_combine(combination, &command) < 0) {
        return kv_typed_no_memory(&typed);
    }
    command.store = kv_bytes_to_proto(store);
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_ZSET_COMBINE, &command, &reply);
    if (status == 0 && ret_stored) {
        *ret_stored = reply->zset_combine->stored;
    }
    kv_reply_free(reply);
    free(command.keys);
    return status;
}
