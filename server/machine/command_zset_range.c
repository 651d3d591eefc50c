/* Sorted sets: spans of members by rank, score or name, and their ends. */
#include "server/machine/command.h"
#include "server/machine/zset.h"

#include <math.h>

/* Bytes of a member on the wire besides itself, at most. */
enum { MEMBER_OVERHEAD_BYTES = 24 };
/* Of what a removed member leaves: header, number of the set. */
enum { TOMBSTONE_OVERHEAD_BYTES = 48 };

/* ---------------------------------------------------------------- checks */

static int check_scores(const Kv__ZSetSpan__Scores *scores, struct kv_error *ret_error)
{
    const Kv__ScoreBound *min = scores->min, *max = scores->max;

    if ((min && isnan(min->score)) || (max && isnan(max->score))) {
        return kv_error_set(ret_error, KV_INVALID, "a bound of the scores is not a number (NaN)");
    }
    if (min && max && min->score > max->score) {
        return kv_error_set(ret_error, KV_INVALID, "the range of scores ends before it starts");
    }
    return 0;
}

static int check_span(const Kv__ZSetSpan *span, struct kv_error *ret_error)
{
    switch (span ? span->span_case : KV__ZSET_SPAN__SPAN__NOT_SET) {
    case KV__ZSET_SPAN__SPAN_RANKS:
        return 0;
    case KV__ZSET_SPAN__SPAN_SCORES:
        return check_scores(span->scores, ret_error);
    case KV__ZSET_SPAN__SPAN_MEMBERS:
        return kv_check_range(span->members, ret_error);
    default:
        return kv_error_set(
            ret_error, KV_INVALID, "the span is missing: by ranks, scores or members");
    }
}

int kv_validate_zset_range(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    int status = kv_check_key(request->zset_range->key, ret_error);

    (void)settings;
    return status ? status : check_span(request->zset_range->span, ret_error);
}

int kv_validate_zset_count(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    const Kv__ZSetCount *command = request->zset_count;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    return status || !command->span ? status : check_span(command->span, ret_error);
}

int kv_validate_zset_pop(const Kv__Request *request,
                         const struct kv_machine_settings *settings,
                         struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->zset_pop->key, ret_error);
}

int kv_validate_zset_remove_range(const Kv__Request *request,
                                  const struct kv_machine_settings *settings,
                                  struct kv_error *ret_error)
{
    int status = kv_check_key(request->zset_remove_range->key, ret_error);

    (void)settings;
    return status ? status : check_span(request->zset_remove_range->span, ret_error);
}

/* ---------------------------------------------------------------- spans */

/* A part of a set in one of its orders: positions [from, to). */
struct part {
    struct kv_collection zset;
    struct kv_zset_view view;
    uint64_t from, to;
    bool descending;
};

static void resolve_ranks(const Kv__ZSetSpan__Ranks *ranks, struct part *part)
{
    const int64_t n = (int64_t)part->view.n;
    int64_t first = ranks->first, last = ranks->last;

    /* No overflow: only negative ones get larger. */
    first = first < 0 ? first + n : first;
    last = last < 0 ? last + n : last;
    first = first < 0 ? 0 : first;
    last = last >= n ? n - 1 : last;
    if (first > last) {
        part->from = part->to = 0;
        return;
    }
    part->from = (uint64_t)(part->descending ? n - 1 - last : first);
    part->to = (uint64_t)(part->descending ? n - first : last + 1);
}

static void resolve_scores(const Kv__ZSetSpan__Scores *scores, struct part *part)
{
    const Kv__ScoreBound *min = scores->min, *max = scores->max;
    const struct kv_slice none = {0};

    /* The order of a score and 1 lies behind all members of the score. */
    part->from =
        min ? kv_zset_view_rank(&part->view, kv_score_order(min->score) + min->exclusive, none) : 0;
    part->to =
        max ? kv_zset_view_rank(&part->view, kv_score_order(max->score) + !max->exclusive, none)
            : part->view.n;
}

static void resolve_members(const Kv__KeyRange *range, struct part *part)
{
    struct kv_bounds bounds;

    kv_bounds_of(range, &bounds);
    part->from = kv_zset_view_rank(&part->view, 0, bounds.start);
    part->to = bounds.has_end ? kv_zset_view_rank(&part->view, 0, bounds.end) : part->view.n;
}

/* Opens the set at the revision and finds the part; without a span all of it. */
static int open_part(struct kv_machine *machine,
                     const Kv__ZSetRange *range,
                     struct kv_answer *answer,
                     struct part *ret_part)
{
    const Kv__ZSetSpan *span = range->span;
    bool by_member = span && span->span_case == KV__ZSET_SPAN__SPAN_MEMBERS;
    int status = kv_collection_open(machine,
                                    kv_slice_of_proto(range->key),
                                    KV_TYPE_ZSET,
                                    range->at_revision,
                                    answer,
                                    &ret_part->zset);

    if (status == 0) {
        status = kv_zset_view_open(&ret_part->zset, by_member, answer, &ret_part->view);
    }
    if (status != 0) {
        return status;
    }
    ret_part->descending = range->descending;
    ret_part->from = 0;
    ret_part->to = ret_part->view.n;
    if (by_member) {
        resolve_members(span->members, ret_part);
    } else if (span && span->span_case == KV__ZSET_SPAN__SPAN_RANKS) {
        resolve_ranks(span->ranks, ret_part);
    } else if (span) {
        resolve_scores(span->scores, ret_part);
    }
    if (ret_part->to < ret_part->from) {
        ret_part->to = ret_part->from;
    }
    return 0;
}

/* To its first member. */
static void seek_part(const struct part *part, struct kv_zset_cursor *ret_cursor)
{
    kv_zset_seek(
        &part->view, part->descending ? part->to - 1 : part->from, part->descending, ret_cursor);
}

/* Gives members of the part as long as they fit. */
static int
give_members(struct kv_machine *machine, const struct part *part, struct kv_answer *answer)
{
    Kv__ZSetMembersResult *result = &answer->result.zset_members;
    uint64_t room = kv_reply_room(machine);
    uint64_t n = part->to - part->from;
    struct kv_zset_cursor cursor;
    struct kv_zset_member member;
    Kv__ZSetMember *members;

    if (n > room / MEMBER_OVERHEAD_BYTES) {
        n = room / MEMBER_OVERHEAD_BYTES;
    }
    members = kv_reply_alloc(machine, n * sizeof *members);
    result->members = kv_reply_alloc(machine, n * sizeof *result->members);
    if (n > 0) {
        seek_part(part, &cursor);
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t cost;

        kv_zset_next(&cursor, &member);
        cost = member.member.size + MEMBER_OVERHEAD_BYTES;
        if (i > 0 && cost > room) {
            break;
        }
        room -= cost < room ? cost : room;
        kv__zset_member__init(&members[i]);
        members[i].member =
            (ProtobufCBinaryData){member.member.size, (uint8_t *)(uintptr_t)member.member.data};
        members[i].score = member.score;
        result->members[result->n_members++] = &members[i];
    }
    result->more = result->n_members < part->to - part->from;
    return kv_machine_work(machine, result->n_members, answer);
}

/* Leaves only so many of its first ones. */
static void cut_part(struct part *part, uint64_t limit)
{
    if (limit >= part->to - part->from) {
        return;
    }
    if (part->descending) {
        part->from = part->to - limit;
    } else {
        part->to = part->from + limit;
    }
}

/* Takes the members out; all of them at once count as one. */
static int remove_part(struct kv_machine *machine, struct part *part, struct kv_answer *answer)
{
    const uint64_t n = part->to - part->from;
    struct kv_zset_cursor cursor;
    struct kv_zset_member *members;
    uint64_t bytes = 0;
    int status;

    if (n == 0) {
        return 0;
    }
    if (n == part->view.n) {
        kv_keyspace_delete(machine, part->zset.key);
        return 0;
    }
    status = kv_machine_work(machine, n, answer);
    if (status != 0) {
        return status;
    }
    members = kv_reply_alloc(machine, n * sizeof *members);
    seek_part(part, &cursor);
    /* Each that goes is written down by name; the names are in memory until then. */
    for (uint64_t i = 0; i < n && status == 0; i++) {
        kv_zset_next(&cursor, &members[i]);
        bytes += members[i].member.size + TOMBSTONE_OVERHEAD_BYTES;
        status = kv_machine_check_written(machine, bytes, answer);
    }
    if (status != 0) {
        return status;
    }
    for (uint64_t i = 0; i < n; i++) {
        (void)kv_zset_remove(&part->zset, members[i].member);
    }
    kv_collection_commit(&part->zset);
    return 0;
}

/* ---------------------------------------------------------------- commands */

int kv_run_zset_range(struct kv_machine *machine,
                      const Kv__Request *request,
                      struct kv_answer *answer)
{
    const Kv__ZSetRange *command = request->zset_range;
    const uint64_t most = machine->settings.work_elements / 2;
    uint64_t limit = command->limit > 0 && command->limit < most ? command->limit : most;
    uint64_t offset, n;
    struct part part;
    int status = open_part(machine, command, answer, &part);

    if (status != 0) {
        return status;
    }
    n = part.to - part.from;
    offset = command->offset < n ? command->offset : n;
    if (part.descending) {
        part.to -= offset;
    } else {
        part.from += offset;
    }
    cut_part(&part, limit);
    kv__zset_members_result__init(&answer->result.zset_members);
    status = give_members(machine, &part, answer);
    answer->result.zset_members.more = answer->result.zset_members.n_members < n - offset;
    if (status == 0) {
        KV_ANSWER(answer, ZSET_RANGE, zset_range, zset_members);
    }
    return status;
}

int kv_run_zset_count(struct kv_machine *machine,
                      const Kv__Request *request,
                      struct kv_answer *answer)
{
    const Kv__ZSetCount *command = request->zset_count;
    Kv__ZSetRange range = KV__ZSET_RANGE__INIT;
    struct kv_collection zset;
    struct part part;
    int status;

    range.key = command->key;
    range.span = command->span;
    range.at_revision = command->at_revision;
    kv__count_result__init(&answer->result.count);
    if (!command->span) {
        status = kv_collection_open(machine,
                                    kv_slice_of_proto(command->key),
                                    KV_TYPE_ZSET,
                                    command->at_revision,
                                    answer,
                                    &zset);
        answer->result.count.count = status == 0 ? kv_collection_count(&zset) : 0;
    } else {
        status = open_part(machine, &range, answer, &part);
        answer->result.count.count = status == 0 ? part.to - part.from : 0;
    }
    if (status == 0) {
        KV_ANSWER(answer, ZSET_COUNT, zset_count, count);
    }
    return status;
}

int kv_run_zset_pop(struct kv_machine *machine,
                    const Kv__Request *request,
                    struct kv_answer *answer)
{
    const Kv__ZSetPop *command = request->zset_pop;
    Kv__ZSetRange range = KV__ZSET_RANGE__INIT;
    struct part part;
    int status;

    range.key = command->key;
    range.descending = command->greatest;
    kv__zset_members_result__init(&answer->result.zset_members);
    status = open_part(machine, &range, answer, &part);
    if (status != 0) {
        return status;
    }
    cut_part(&part, command->count > 0 ? command->count : 1);
    if (part.to - part.from > machine->settings.work_elements) {
        return kv_machine_work(machine, part.to - part.from, answer);
    }
    status = give_members(machine, &part, answer);
    if (status == 0 && answer->result.zset_members.more) {
        status = kv_reply_too_large(machine, answer, "take fewer members at once");
    }
    if (status == 0) {
        status = remove_part(machine, &part, answer);
    }
    if (status == 0) {
        KV_ANSWER(answer, ZSET_POP, zset_pop, zset_members);
    }
    return status;
}

int kv_run_zset_remove_range(struct kv_machine *machine,
                             const Kv__Request *request,
                             struct kv_answer *answer)
{
    const Kv__ZSetRemoveRange *command = request->zset_remove_range;
    Kv__ZSetRange range = KV__ZSET_RANGE__INIT;
    struct part part;
    int status;

    range.key = command->key;
    range.span = command->span;
    status = open_part(machine, &range, answer, &part);
    if (status == 0) {
        status = remove_part(machine, &part, answer);
    }
    if (status == 0) {
        kv__count_result__init(&answer->result.count);
        answer->result.count.count = part.to - part.from;
        KV_ANSWER(answer, ZSET_REMOVE_RANGE, zset_remove_range, count);
    }
    return status;
}
