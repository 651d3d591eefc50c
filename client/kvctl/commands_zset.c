/* kvctl's commands on sorted sets. */
#include "client/kvctl/kvctl.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define B KVCTL_BIT

/* ---------------------------------------------------------------- adding, removing */

static int fill_members(struct kvctl_call *call, Kv__ZSetAdd *command)
{
    size_t n_words = call->args->n_arguments - 1;
    int code = KVCTL_OK;

    if (n_words % 2 != 0) {
        return kvctl_usage(call->kvctl, "zadd wants a member after each score");
    }
    command->n_members = n_words / 2;
    command->members = kvctl_alloc(call, command->n_members * sizeof *command->members);
    for (size_t i = 0; i < command->n_members && code == KVCTL_OK; i++) {
        Kv__ZSetMember *member = kvctl_alloc(call, sizeof *member);

        kv__zset_member__init(member);
        code = kvctl_score(call, 1 + 2 * i, "SCORE", &member->score);
        member->member = kvctl_word(call, 2 + 2 * i);
        command->members[i] = member;
    }
    return code;
}

static int fill_zadd(struct kvctl_call *call)
{
    Kv__ZSetAdd *command = kvctl_begin(call, KV__REQUEST__COMMAND_ZSET_ADD);
    const bool *set = call->args->set;

    command->key = kvctl_word(call, 0);
    command->if_absent = set[KVCTL_NX];
    command->if_present = set[KVCTL_XX];
    command->if_greater = set[KVCTL_GT];
    command->if_less = set[KVCTL_LT];
    command->increment = set[KVCTL_INCR];
    if (set[KVCTL_NX] + set[KVCTL_GT] + set[KVCTL_LT] > 1 || (set[KVCTL_NX] && set[KVCTL_XX])) {
        return kvctl_usage(call->kvctl,
                           "zadd takes one of --nx, --gt and --lt, and not --nx with --xx");
    }
    if (set[KVCTL_INCR] && call->args->n_arguments != 3) {
        return kvctl_usage(call->kvctl, "zadd --incr takes one score and member");
    }
    return fill_members(call, command);
}

static int fill_zincrby(struct kvctl_call *call)
{
    Kv__ZSetAdd *command = kvctl_begin(call, KV__REQUEST__COMMAND_ZSET_ADD);

    command->key = kvctl_word(call, 0);
    command->increment = true;
    return fill_members(call, command);
}

static void show_score(struct kvctl_call *call, const Kv__Reply *reply, double score)
{
    FILE *out = call->kvctl->out;

    if (call->args->format == KVCTL_JSON) {
        /* JSON has no infinite numbers. */
        fprintf(out, "{\"score\":%s", isinf(score) ? "\"" : "");
        kvctl_print_score(out, score);
        fputs(isinf(score) ? "\"" : "", out);
        kvctl_show_end(call, reply);
    } else {
        kvctl_print_score(out, score);
        fputc('\n', out);
    }
}

static int print_zadd(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__ZSetAddResult *result = reply->zset_add;
    bool increment = call->args->set[KVCTL_INCR] || call->request.zset_add->increment;

    if (increment && result->changed == 0 && !call->nested &&
        (call->args->set[KVCTL_NX] || call->args->set[KVCTL_XX] || call->args->set[KVCTL_GT] ||
         call->args->set[KVCTL_LT])) {
        kvctl_show_nil(call);
        return KVCTL_NOT_MET;
    }
    if (increment) {
        show_score(call, reply, result->score);
    } else if (call->args->format == KVCTL_JSON) {
        fprintf(call->kvctl->out,
                "{\"added\":%" PRIu64 ",\"changed\":%" PRIu64,
                result->added,
                result->changed);
        kvctl_show_end(call, reply);
    } else {
        fprintf(call->kvctl->out,
                "%" PRIu64 "\n",
                call->args->set[KVCTL_CH] ? result->changed : result->added);
    }
    return KVCTL_OK;
}

static int fill_zrem(struct kvctl_call *call)
{
    Kv__ZSetRemove *command = kvctl_begin(call, KV__REQUEST__COMMAND_ZSET_REMOVE);

    command->key = kvctl_word(call, 0);
    command->members = kvctl_words(call, 1, &command->n_members);
    return KVCTL_OK;
}

/* ---------------------------------------------------------------- scores, ranks */

static int fill_zscore(struct kvctl_call *call)
{
    Kv__ZSetScore *command = kvctl_begin(call, KV__REQUEST__COMMAND_ZSET_SCORE);

    command->key = kvctl_word(call, 0);
    command->members = kvctl_words(call, 1, &command->n_members);
    command->at_revision = call->args->numbers[KVCTL_AT];
    return KVCTL_OK;
}

static bool complete(struct kvctl_call *call, const Kv__ZSetScoreResult *result)
{
    size_t n_asked = call->args->n_arguments - 1;

    if (result->n_present == n_asked && result->n_scores == n_asked) {
        return true;
    }
    fputs("kvctl: the server's reply has another number of members\n", call->kvctl->err);
    return false;
}

static int print_zscore(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__ZSetScoreResult *result = reply->zset_score;

    if (!complete(call, result)) {
        return KVCTL_REFUSED;
    }
    if (!result->present[0]) {
        kvctl_show_nil(call);
        return KVCTL_NOT_MET;
    }
    show_score(call, reply, result->scores[0]);
    return KVCTL_OK;
}

/* A member with its score, or (nil). */
static void
show_member(struct kvctl_call *call, struct kv_bytes member, const double *score, bool scores)
{
    FILE *out = call->kvctl->out;

    if (call->args->format == KVCTL_JSON) {
        fputc('{', out);
        kvctl_print_json_bytes(out, "member", member);
        fputs(",\"score\":", out);
        fputs(score && isinf(*score) ? "\"" : "", out);
        if (score) {
            kvctl_print_score(out, *score);
        } else {
            fputs("null", out);
        }
        fputs(score && isinf(*score) ? "\"}" : "}", out);
        return;
    }
    if (call->args->format == KVCTL_TEXT) {
        kvctl_print_escaped(out, member);
    } else {
        kvctl_print_raw(out, member);
    }
    if (scores) {
        fputc('\t', out);
        if (score) {
            kvctl_print_score(out, *score);
        } else {
            fputs("(nil)", out);
        }
    }
    fputc('\n', out);
}

static int print_zmscore(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__ZSetScoreResult *result = reply->zset_score;
    bool json = call->args->format == KVCTL_JSON;

    if (!complete(call, result)) {
        return KVCTL_REFUSED;
    }
    fputs(json ? "{\"members\":[" : "", call->kvctl->out);
    for (size_t i = 0; i < result->n_scores; i++) {
        ProtobufCBinaryData member = kvctl_word(call, 1 + i);

        fputs(json && i ? "," : "", call->kvctl->out);
        show_member(call,
                    kv_bytes_of(member.data, member.len),
                    result->present[i] ? &result->scores[i] : NULL,
                    true);
    }
    if (json) {
        fputc(']', call->kvctl->out);
        kvctl_show_end(call, reply);
    }
    return KVCTL_OK;
}

static int fill_zrank(struct kvctl_call *call)
{
    Kv__ZSetRank *command = kvctl_begin(call, KV__REQUEST__COMMAND_ZSET_RANK);

    command->key = kvctl_word(call, 0);
    command->member = kvctl_word(call, 1);
    command->descending = call->args->set[KVCTL_REV];
    command->at_revision = call->args->numbers[KVCTL_AT];
    return KVCTL_OK;
}

static int print_zrank(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__ZSetRankResult *result = reply->zset_rank;
    bool json = call->args->format == KVCTL_JSON;
    FILE *out = call->kvctl->out;

    fprintf(out, json ? "{\"rank\":%" PRIu64 : "%" PRIu64, result->rank);
    if (json) {
        fprintf(out, ",\"score\":%s", isinf(result->score) ? "\"" : "");
        kvctl_print_score(out, result->score);
        fputs(isinf(result->score) ? "\"" : "", out);
        kvctl_show_end(call, reply);
        return KVCTL_OK;
    }
    if (call->args->set[KVCTL_SCORES]) {
        fputc('\t', out);
        kvctl_print_score(out, result->score);
    }
    fputc('\n', out);
    return KVCTL_OK;
}

/* ---------------------------------------------------------------- spans */

/* "1.5", "(1.5" (exclusive), "-inf", "+inf". */
static int parse_bound(struct kvctl_call *call, size_t i, Kv__ScoreBound **ret_bound)
{
    Kv__ScoreBound *bound = kvctl_alloc(call, sizeof *bound);
    const char *text = call->args->arguments[i];

    kv__score_bound__init(bound);
    bound->exclusive = text[0] == '(';
    if (!kvctl_parse_score(text + bound->exclusive, &bound->score)) {
        return kvctl_usage(call->kvctl,
                           "%s: a bound of the scores is 1.5, (1.5 for without it, inf or -inf, "
                           "not \"%.100s\"",
                           call->args->command->name,
                           text);
    }
    *ret_bound = bound;
    return KVCTL_OK;
}

/* "[a" with it, "(a" without it, "-" and "+": the ends. A range of kvd is [start, end): the least
 * bytes behind x are x and a zero byte. */
static int
parse_member_bound(struct kvctl_call *call, const char *text, bool is_end, ProtobufCBinaryData *ret)
{
    bool behind = (text[0] == '(') != is_end;
    size_t size;

    if (text[0] != '[' && text[0] != '(') {
        return kvctl_usage(call->kvctl,
                           "%s --by-lex: a bound is [a for with it, (a for without it, - or + for "
                           "the ends, not \"%.100s\"",
                           call->args->command->name,
                           text);
    }
    size = strlen(text) - 1;
    ret->data = kvctl_alloc(call, size + 1);
    memcpy(ret->data, text + 1, size);
    ret->len = size + behind;
    return KVCTL_OK;
}

static int fill_lex(struct kvctl_call *call, Kv__ZSetSpan *span, const char *min, const char *max)
{
    Kv__KeyRange *range = kvctl_alloc(call, sizeof *range);
    int code = KVCTL_OK;

    kv__key_range__init(range);
    span->span_case = KV__ZSET_SPAN__SPAN_MEMBERS;
    span->members = range;
    if (strcmp(min, "-") == 0 && strcmp(max, "+") == 0) {
        range->special = KV__KEY_RANGE__SPECIAL__ALL;
        return KVCTL_OK;
    }
    if (strcmp(min, "-") != 0) {
        code = parse_member_bound(call, min, false, &range->start);
    } else {
        /* The least member there can be. */
        range->start = (ProtobufCBinaryData){1, (uint8_t *)"\0"};
    }
    if (strcmp(max, "+") == 0) {
        range->special = KV__KEY_RANGE__SPECIAL__FROM_KEY;
    } else if (code == KVCTL_OK) {
        code = parse_member_bound(call, max, true, &range->end);
    }
    return code;
}

/* The words first and last by --by-score, --by-lex, or as ranks. With --rev the greater of scores
 * and members may come first, as in redis. */
static int fill_span(struct kvctl_call *call, bool ranked, Kv__ZSetSpan **ret_span)
{
    Kv__ZSetSpan *span = kvctl_alloc(call, sizeof *span);
    bool by_lex = call->args->set[KVCTL_BY_LEX];
    bool by_score = call->args->set[KVCTL_BY_SCORE] || !ranked;
    bool swapped = call->args->set[KVCTL_REV];
    int code;

    kv__zset_span__init(span);
    *ret_span = span;
    if (by_lex && call->args->set[KVCTL_BY_SCORE]) {
        return kvctl_usage(
            call->kvctl, "%s takes one of --by-score and --by-lex", call->args->command->name);
    }
    if (by_lex) {
        const char *const *words = call->args->arguments;

        return fill_lex(call, span, words[swapped ? 2 : 1], words[swapped ? 1 : 2]);
    }
    if (by_score) {
        span->scores = kvctl_alloc(call, sizeof *span->scores);
        kv__zset_span__scores__init(span->scores);
        span->span_case = KV__ZSET_SPAN__SPAN_SCORES;
        code = parse_bound(call, swapped ? 2 : 1, &span->scores->min);
        return code == KVCTL_OK ? parse_bound(call, swapped ? 1 : 2, &span->scores->max) : code;
    }
    span->ranks = kvctl_alloc(call, sizeof *span->ranks);
    kv__zset_span__ranks__init(span->ranks);
    span->span_case = KV__ZSET_SPAN__SPAN_RANKS;
    code = kvctl_integer(call, 1, "FIRST", &span->ranks->first);
    return code == KVCTL_OK ? kvctl_integer(call, 2, "LAST", &span->ranks->last) : code;
}

static Kv__ZSetSpan *whole(struct kvctl_call *call)
{
    Kv__ZSetSpan *span = kvctl_alloc(call, sizeof *span);

    kv__zset_span__init(span);
    span->ranks = kvctl_alloc(call, sizeof *span->ranks);
    kv__zset_span__ranks__init(span->ranks);
    span->span_case = KV__ZSET_SPAN__SPAN_RANKS;
    span->ranks->last = -1;
    return span;
}

static int fill_zrange(struct kvctl_call *call)
{
    Kv__ZSetRange *command = kvctl_begin(call, KV__REQUEST__COMMAND_ZSET_RANGE);

    command->key = kvctl_word(call, 0);
    command->descending = call->args->set[KVCTL_REV];
    command->offset = (uint64_t)call->args->numbers[KVCTL_OFFSET];
    command->limit = (uint64_t)call->args->numbers[KVCTL_LIMIT];
    command->at_revision = call->args->numbers[KVCTL_AT];
    return fill_span(call, true, &command->span);
}

static int print_members(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__ZSetMembersResult *result = reply->zset_range;
    bool scores = call->args->set[KVCTL_SCORES] ||
                  call->request.command_case == KV__REQUEST__COMMAND_ZSET_POP;
    bool json = call->args->format == KVCTL_JSON;

    fputs(json ? "{\"members\":[" : "", call->kvctl->out);
    for (size_t i = 0; i < result->n_members; i++) {
        const Kv__ZSetMember *member = result->members[i];

        fputs(json && i ? "," : "", call->kvctl->out);
        show_member(
            call, kv_bytes_of(member->member.data, member->member.len), &member->score, scores);
    }
    if (json) {
        fputs(result->more ? "],\"more\":true" : "]", call->kvctl->out);
        kvctl_show_end(call, reply);
    } else if (result->more && !call->args->set[KVCTL_LIMIT]) {
        fputs("kvctl: there is more: use --offset and --limit\n", call->kvctl->err);
    }
    return KVCTL_OK;
}

static int fill_zcount(struct kvctl_call *call)
{
    Kv__ZSetCount *command = kvctl_begin(call, KV__REQUEST__COMMAND_ZSET_COUNT);

    command->key = kvctl_word(call, 0);
    command->at_revision = call->args->numbers[KVCTL_AT];
    return fill_span(call, false, &command->span);
}

static int fill_zcard(struct kvctl_call *call)
{
    Kv__ZSetCount *command = kvctl_begin(call, KV__REQUEST__COMMAND_ZSET_COUNT);

    command->key = kvctl_word(call, 0);
    command->at_revision = call->args->numbers[KVCTL_AT];
    command->span = whole(call);
    return KVCTL_OK;
}

static int fill_zremrange(struct kvctl_call *call)
{
    Kv__ZSetRemoveRange *command = kvctl_begin(call, KV__REQUEST__COMMAND_ZSET_REMOVE_RANGE);

    command->key = kvctl_word(call, 0);
    return fill_span(call, true, &command->span);
}

static int fill_pop(struct kvctl_call *call, bool greatest)
{
    Kv__ZSetPop *command = kvctl_begin(call, KV__REQUEST__COMMAND_ZSET_POP);

    command->key = kvctl_word(call, 0);
    command->greatest = greatest;
    return kvctl_count(call, 1, "COUNT", 0, &command->count);
}

static int fill_zpopmin(struct kvctl_call *call)
{
    return fill_pop(call, false);
}

static int fill_zpopmax(struct kvctl_call *call)
{
    return fill_pop(call, true);
}

/* ---------------------------------------------------------------- combinations */

static int fill_weights(struct kvctl_call *call, Kv__ZSetCombine *command)
{
    const char *text = call->args->strings[KVCTL_WEIGHTS];
    size_t n = 0;

    command->weights = kvctl_alloc(call, command->n_keys * sizeof *command->weights);
    while (text && n < command->n_keys) {
        size_t length = strcspn(text, ",");
        char number[64];

        snprintf(number, sizeof number, "%.*s", (int)(length < 63 ? length : 63), text);
        if (!kvctl_parse_score(number, &command->weights[n])) {
            break;
        }
        n++;
        text = text[length] ? text + length + 1 : NULL;
    }
    command->n_weights = n;
    if (text || n != command->n_keys) {
        return kvctl_usage(call->kvctl,
                           "--weights wants a number for each of the %zu keys, such as 1,2.5, not "
                           "\"%.100s\"",
                           command->n_keys,
                           call->args->strings[KVCTL_WEIGHTS]);
    }
    return KVCTL_OK;
}

static int fill_combination(struct kvctl_call *call, Kv__ZSetCombine *command)
{
    static const char *const names[] = {"sum", "min", "max"};
    const struct kvctl_args *args = call->args;
    bool known = !args->set[KVCTL_AGGREGATE];

    for (unsigned i = 0; args->set[KVCTL_AGGREGATE] && i < 3; i++) {
        if (strcmp(args->strings[KVCTL_AGGREGATE], names[i]) == 0) {
            command->aggregate = (Kv__Aggregate)i;
            known = true;
        }
    }
    if (!known) {
        return kvctl_usage(call->kvctl,
                           "--aggregate wants sum, min or max, not \"%.100s\"",
                           args->strings[KVCTL_AGGREGATE]);
    }
    return args->set[KVCTL_WEIGHTS] ? fill_weights(call, command) : KVCTL_OK;
}

static int fill_combine(struct kvctl_call *call, Kv__Combination combination)
{
    Kv__ZSetCombine *command = kvctl_begin(call, KV__REQUEST__COMMAND_ZSET_COMBINE);

    command->combination = combination;
    command->keys = kvctl_words(call, 0, &command->n_keys);
    return fill_combination(call, command);
}

static int fill_store(struct kvctl_call *call, Kv__Combination combination)
{
    Kv__ZSetCombine *command = kvctl_begin(call, KV__REQUEST__COMMAND_ZSET_COMBINE);

    command->combination = combination;
    command->store = kvctl_word(call, 0);
    command->keys = kvctl_words(call, 1, &command->n_keys);
    if (command->store.len == 0) {
        return kvctl_usage(call->kvctl, "%s: TOKEY is empty", call->args->command->name);
    }
    return fill_combination(call, command);
}

static int fill_zunion(struct kvctl_call *call)
{
    return fill_combine(call, KV__COMBINATION__COMBINE_UNION);
}

static int fill_zinter(struct kvctl_call *call)
{
    return fill_combine(call, KV__COMBINATION__COMBINE_INTERSECTION);
}

static int fill_zdiff(struct kvctl_call *call)
{
    return fill_combine(call, KV__COMBINATION__COMBINE_DIFFERENCE);
}

static int fill_zdiffstore(struct kvctl_call *call)
{
    return fill_store(call, KV__COMBINATION__COMBINE_DIFFERENCE);
}

static int fill_zunionstore(struct kvctl_call *call)
{
    return fill_store(call, KV__COMBINATION__COMBINE_UNION);
}

static int fill_zinterstore(struct kvctl_call *call)
{
    return fill_store(call, KV__COMBINATION__COMBINE_INTERSECTION);
}

/* ---------------------------------------------------------------- the table */

#define SPAN (B(KVCTL_BY_SCORE) | B(KVCTL_BY_LEX))
#define COMBINE (B(KVCTL_WEIGHTS) | B(KVCTL_AGGREGATE))
#define BOUNDS_HELP                                                                              \
    "Ranks count from 0, negative ones from the end. --by-score: 1.5 with it, (1.5 without it, " \
    "-inf, inf.\n--by-lex: [a with it, (a without it, - and + for the ends; for sorted sets "    \
    "whose scores are all the same."
#define STORE_HELP                                                                             \
    "What TOKEY holds is replaced, whatever it is. Prints how many members it has; with none " \
    "it is\ndeleted."

static const struct kvctl_command zset_commands[] = {
    {.name = "zadd",
     .arguments = "KEY SCORE MEMBER [SCORE MEMBER]...",
     .min_arguments = 3,
     .max_arguments = -1,
     .options = B(KVCTL_NX) | B(KVCTL_XX) | B(KVCTL_GT) | B(KVCTL_LT) | B(KVCTL_INCR) | B(KVCTL_CH),
     .writes = true,
     .summary = "set scores of members of a sorted set",
     .details = "Prints how many members are new. A score is a number, inf or -inf.",
     .example = "kvctl zadd leaderboard 1500 player:1 1720.5 player:2",
     .fill = fill_zadd,
     .print = print_zadd},
    {.name = "zincrby",
     .arguments = "KEY N MEMBER",
     .min_arguments = 3,
     .max_arguments = 3,
     .writes = true,
     .summary = "add to the score of a member, print it",
     .example = "kvctl zincrby leaderboard 10 player:1",
     .fill = fill_zincrby,
     .print = print_zadd},
    {.name = "zrem",
     .arguments = "KEY MEMBER...",
     .min_arguments = 2,
     .max_arguments = -1,
     .writes = true,
     .summary = "remove members from a sorted set",
     .details = "Prints how many were there.",
     .example = "kvctl zrem leaderboard player:1",
     .fill = fill_zrem,
     .print = kvctl_show_count},
    {.name = "zscore",
     .arguments = "KEY MEMBER",
     .min_arguments = 2,
     .max_arguments = 2,
     .options = B(KVCTL_AT),
     .summary = "print the score of a member",
     .details = "(nil) and exit code 2 when it is not there.",
     .example = "kvctl zscore leaderboard player:1",
     .fill = fill_zscore,
     .print = print_zscore},
    {.name = "zmscore",
     .arguments = "KEY MEMBER...",
     .min_arguments = 2,
     .max_arguments = -1,
     .options = B(KVCTL_AT),
     .summary = "print the scores of members",
     .details = "Text: member, tab, score; (nil) where there is none.",
     .example = "kvctl zmscore leaderboard player:1 player:2",
     .fill = fill_zscore,
     .print = print_zmscore},
    {.name = "zrank",
     .arguments = "KEY MEMBER",
     .min_arguments = 2,
     .max_arguments = 2,
     .options = B(KVCTL_REV) | B(KVCTL_SCORES) | B(KVCTL_AT),
     .summary = "print the place of a member, from 0",
     .details = "--rev: counted from the greatest score. Exit code 2 when it is not there.",
     .example = "kvctl zrank leaderboard player:1 --rev",
     .fill = fill_zrank,
     .print = print_zrank},
    {.name = "zrange",
     .arguments = "KEY FIRST LAST | KEY MIN MAX --by-score | --by-lex",
     .min_arguments = 3,
     .max_arguments = 3,
     .options =
         SPAN | B(KVCTL_REV) | B(KVCTL_SCORES) | B(KVCTL_OFFSET) | B(KVCTL_LIMIT) | B(KVCTL_AT),
     .summary = "print members in order",
     .details = BOUNDS_HELP "\nWith --rev from the greatest, and MAX is named before MIN.",
     .example = "kvctl zrange leaderboard 0 2 --rev --scores",
     .fill = fill_zrange,
     .print = print_members},
    {.name = "zcount",
     .arguments = "KEY MIN MAX",
     .min_arguments = 3,
     .max_arguments = 3,
     .options = B(KVCTL_BY_LEX) | B(KVCTL_AT),
     .summary = "count members by their scores",
     .details = BOUNDS_HELP,
     .example = "kvctl zcount leaderboard 1000 '(2000'",
     .fill = fill_zcount,
     .print = kvctl_show_count},
    {.name = "zcard",
     .arguments = "KEY",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_AT),
     .summary = "count the members of a sorted set",
     .example = "kvctl zcard leaderboard",
     .fill = fill_zcard,
     .print = kvctl_show_count},
    {.name = "zpopmin",
     .arguments = "KEY [COUNT]",
     .min_arguments = 1,
     .max_arguments = 2,
     .writes = true,
     .summary = "take the members with the least scores",
     .details = "Text: member, tab, score.",
     .example = "kvctl zpopmin delayed",
     .fill = fill_zpopmin,
     .print = print_members},
    {.name = "zpopmax",
     .arguments = "KEY [COUNT]",
     .min_arguments = 1,
     .max_arguments = 2,
     .writes = true,
     .summary = "take the members with the greatest scores",
     .details = "Text: member, tab, score.",
     .example = "kvctl zpopmax leaderboard 3",
     .fill = fill_zpopmax,
     .print = print_members},
    {.name = "zremrange",
     .arguments = "KEY FIRST LAST | KEY MIN MAX --by-score | --by-lex",
     .min_arguments = 3,
     .max_arguments = 3,
     .options = SPAN,
     .writes = true,
     .summary = "remove members by rank, score or bytes",
     .details = BOUNDS_HELP "\nPrints how many went.",
     .example = "kvctl zremrange leaderboard -inf '(1000' --by-score",
     .fill = fill_zremrange,
     .print = kvctl_show_count},
    {.name = "zunion",
     .arguments = "KEY...",
     .min_arguments = 1,
     .max_arguments = -1,
     .options = COMBINE | B(KVCTL_SCORES),
     .summary = "print what is in one of these sorted sets",
     .example = "kvctl zunion week:1 week:2 --weights 1,2 --scores",
     .fill = fill_zunion,
     .print = print_members},
    {.name = "zinter",
     .arguments = "KEY...",
     .min_arguments = 1,
     .max_arguments = -1,
     .options = COMBINE | B(KVCTL_SCORES),
     .summary = "print what is in all of these sorted sets",
     .example = "kvctl zinter week:1 week:2 --aggregate max --scores",
     .fill = fill_zinter,
     .print = print_members},
    {.name = "zdiff",
     .arguments = "KEY...",
     .min_arguments = 1,
     .max_arguments = -1,
     .options = B(KVCTL_SCORES),
     .summary = "print what is in the first sorted set and in none of the others",
     .example = "kvctl zdiff week:2 week:1",
     .fill = fill_zdiff,
     .print = print_members},
    {.name = "zunionstore",
     .arguments = "TOKEY KEY...",
     .min_arguments = 2,
     .max_arguments = -1,
     .options = COMBINE,
     .writes = true,
     .summary = "store what is in one of these sorted sets",
     .details = STORE_HELP,
     .example = "kvctl zunionstore month week:1 week:2",
     .fill = fill_zunionstore,
     .print = kvctl_show_stored},
    {.name = "zinterstore",
     .arguments = "TOKEY KEY...",
     .min_arguments = 2,
     .max_arguments = -1,
     .options = COMBINE,
     .writes = true,
     .summary = "store what is in all of these sorted sets",
     .details = STORE_HELP,
     .example = "kvctl zinterstore regulars week:1 week:2 --aggregate min",
     .fill = fill_zinterstore,
     .print = kvctl_show_stored},
    {.name = "zdiffstore",
     .arguments = "TOKEY KEY...",
     .min_arguments = 2,
     .max_arguments = -1,
     .writes = true,
     .summary = "store what is in the first sorted set and in none of the others",
     .details = STORE_HELP,
     .example = "kvctl zdiffstore newcomers week:2 week:1",
     .fill = fill_zdiffstore,
     .print = kvctl_show_stored},
};
const struct kvctl_group kvctl_zset_group = {
    "sorted sets",
    zset_commands,
    sizeof zset_commands / sizeof zset_commands[0],
};
