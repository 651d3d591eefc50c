/* Union, intersection and difference of sorted sets. At any time one of them is open. */
#include "server/machine/command.h"
#include "server/machine/zset.h"

#include <math.h>
#include <stdlib.h>

/* Bytes of a member on the wire besides itself, at most. */
enum { MEMBER_OVERHEAD_BYTES = 24 };
/* Of a member's record: header, number of the set, score. */
enum { RECORD_OVERHEAD_BYTES = 56 };

/* A member as a source has it, or as several have it together. */
struct found {
    struct kv_zset_member at; /* borrowed from records that stay until the end of the entry */
    size_t source;
};

struct combination {
    struct kv_machine *machine;
    const Kv__ZSetCombine *command;
    struct kv_answer *answer;
    struct found *items;
    size_t n, capacity;
};

int kv_validate_zset_combine(const Kv__Request *request,
                             const struct kv_machine_settings *settings,
                             struct kv_error *ret_error)
{
    const Kv__ZSetCombine *command = request->zset_combine;

    (void)settings;
    if ((unsigned)command->aggregate > KV__AGGREGATE__AGGREGATE_MAX) {
        return kv_error_set(ret_error, KV_INVALID, "unknown aggregate %d", (int)command->aggregate);
    }
    if (command->n_weights != 0 && command->n_weights != command->n_keys) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "%zu weights for %zu keys: give none, or one for each",
                            command->n_weights,
                            command->n_keys);
    }
    for (size_t i = 0; i < command->n_weights; i++) {
        if (isnan(command->weights[i])) {
            return kv_error_set(ret_error, KV_INVALID, "weight %zu is not a number (NaN)", i);
        }
    }
    return kv_check_sources(&(struct kv_sources){.combination = command->combination,
                                                 .keys = command->keys,
                                                 .n_keys = command->n_keys,
                                                 .store = command->store},
                            ret_error);
}

static int open_source(const struct combination *all, size_t source, struct kv_collection *ret_zset)
{
    return kv_collection_open(all->machine,
                              kv_slice_of_proto(all->command->keys[source]),
                              KV_TYPE_ZSET,
                              all->command->at_revision,
                              all->answer,
                              ret_zset);
}

static int refuse_nan(const struct combination *all)
{
    return kv_error_set(&all->answer->error,
                        KV_INVALID,
                        "the score of a member would be no number (NaN): infinities of both signs "
                        "added, or one times 0");
}

/* By the source's weight; NaN is judged once it is known who is in the result. */
static double weigh(const struct combination *all, size_t source, double score)
{
    return score * (all->command->n_weights > 0 ? all->command->weights[source] : 1);
}

static double aggregate(const struct combination *all, double total, double score)
{
    if (isnan(total) || isnan(score)) {
        return (double)NAN;
    }
    switch (all->command->aggregate) {
    case KV__AGGREGATE__AGGREGATE_MIN:
        return score < total ? score : total;
    case KV__AGGREGATE__AGGREGATE_MAX:
        return score > total ? score : total;
    default:
        return total + score;
    }
}

static int check_scores(const struct combination *all)
{
    for (size_t i = 0; i < all->n; i++) {
        if (isnan(all->items[i].at.score)) {
            return refuse_nan(all);
        }
    }
    return 0;
}

/* All members of a source behind those that are there. */
static int append(struct combination *all, size_t source)
{
    struct kv_zset_member *members;
    struct kv_collection zset;
    int status = open_source(all, source, &zset);

    if (status == 0 && !zset.is_large) {
        status = kv_machine_work(all->machine, kv_collection_count(&zset), all->answer);
    }
    if (status == 0) {
        status = kv_zset_collect(&zset, all->answer, &members);
    }
    for (uint64_t i = 0; status == 0 && i < kv_collection_count(&zset); i++) {
        all->items =
            kv_reply_grow(all->machine, all->items, all->n, &all->capacity, sizeof *all->items);
        all->items[all->n++] = (struct found){members[i], source};
    }
    return status;
}

/* By member, then in the order of the sources. */
static int compare_found(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    int order = kv_slice_compare(x->at.member, y->at.member);

    return order != 0 ? order : (x->source > y->source) - (x->source < y->source);
}

static int unite(struct combination *all)
{
    size_t kept = 0;
    int status = 0;

    for (size_t i = 0; i < all->command->n_keys && status == 0; i++) {
        status = append(all, i);
    }
    if (status != 0 || all->n == 0) {
        return status;
    }
    qsort(all->items, all->n, sizeof *all->items, compare_found);
    for (size_t i = 0; i < all->n; i++) {
        struct found *item = &all->items[i];

        item->at.score = weigh(all, item->source, item->at.score);
        if (kept > 0 && kv_slice_equal(all->items[kept - 1].at.member, item->at.member)) {
            struct kv_zset_member *total = &all->items[kept - 1].at;

            total->score = aggregate(all, total->score, item->at.score);
        } else {
            all->items[kept++] = *item;
        }
    }
    all->n = kept;
    return 0;
}

/* The source with the fewest members; all are looked at, so that a wrong type is always told. */
static int find_least(const struct combination *all, size_t *ret_least)
{
    uint64_t fewest = UINT64_MAX;

    for (size_t i = 0; i < all->command->n_keys; i++) {
        struct kv_collection zset;
        int status = open_source(all, i, &zset);

        if (status != 0) {
            return status;
        }
        if (kv_collection_count(&zset) < fewest) {
            fewest = kv_collection_count(&zset);
            *ret_least = i;
        }
    }
    return 0;
}

/* Keeps those that the source has, with their scores, or those that it has not. */
static int filter(struct combination *all, size_t source, bool has)
{
    struct kv_collection zset;
    size_t kept = 0;
    int status = open_source(all, source, &zset);

    if (status == 0) {
        status = kv_machine_work(all->machine, all->n, all->answer);
    }
    for (size_t i = 0; i < all->n && status == 0; i++) {
        struct found *item = &all->items[i];
        double score;

        if (kv_zset_find(&zset, item->at.member, &score) != has) {
            continue;
        }
        if (has) {
            score = weigh(all, source, score);
            item->at.score = source == 0 ? score : aggregate(all, item->at.score, score);
        }
        all->items[kept++] = *item;
    }
    all->n = kept;
    return status;
}

/* Of the smallest source only the names are used: all are asked for scores in their order. */
static int intersect(struct combination *all)
{
    size_t least = 0;
    int status = find_least(all, &least);

    if (status == 0) {
        status = append(all, least);
    }
    for (size_t i = 0; i < all->command->n_keys && status == 0; i++) {
        status = filter(all, i, true);
    }
    return status;
}

static int subtract(struct combination *all)
{
    int status = append(all, 0);

    for (size_t i = 1; i < all->command->n_keys && status == 0; i++) {
        status = filter(all, i, false);
    }
    for (size_t i = 0; i < all->n; i++) {
        all->items[i].at.score = weigh(all, 0, all->items[i].at.score);
    }
    return status;
}

static int store(struct combination *all)
{
    struct kv_collection zset;
    uint64_t bytes = 0;
    int status = kv_machine_work(all->machine, all->n, all->answer);

    for (size_t i = 0; i < all->n; i++) {
        bytes += all->items[i].at.member.size + RECORD_OVERHEAD_BYTES;
    }
    if (status == 0) {
        status = kv_machine_check_written(all->machine, bytes, all->answer);
    }
    if (status != 0) {
        return status;
    }
    kv_collection_create(all->machine, kv_slice_of_proto(all->command->store), KV_TYPE_ZSET, &zset);
    for (size_t i = 0; i < all->n; i++) {
        (void)kv_zset_put(&zset, all->items[i].at.member, all->items[i].at.score);
    }
    kv_collection_commit(&zset);
    all->answer->result.zset_members.stored = all->n;
    return 0;
}

static int give(const struct combination *all)
{
    Kv__ZSetMembersResult *result = &all->answer->result.zset_members;
    struct kv_zset_member *sorted = kv_reply_alloc(all->machine, all->n * sizeof *sorted);
    Kv__ZSetMember *members = kv_reply_alloc(all->machine, all->n * sizeof *members);
    uint64_t bytes = 0;

    for (size_t i = 0; i < all->n; i++) {
        sorted[i] = all->items[i].at;
        sorted[i].score += 0.0; /* no -0 */
        bytes += sorted[i].member.size + MEMBER_OVERHEAD_BYTES;
    }
    if (bytes > kv_reply_room(all->machine)) {
        return kv_reply_too_large(all->machine, all->answer, "store it, and read that in pieces");
    }
    kv_zset_sort(sorted, all->n, false);
    result->n_members = all->n;
    result->members = kv_reply_alloc(all->machine, all->n * sizeof *result->members);
    for (size_t i = 0; i < all->n; i++) {
        kv__zset_member__init(&members[i]);
        members[i].member = (ProtobufCBinaryData){sorted[i].member.size,
                                                  (uint8_t *)(uintptr_t)sorted[i].member.data};
        members[i].score = sorted[i].score;
        result->members[i] = &members[i];
    }
    return 0;
}

int kv_run_zset_combine(struct kv_machine *machine,
                        const Kv__Request *request,
                        struct kv_answer *answer)
{
    const Kv__ZSetCombine *command = request->zset_combine;
    struct combination all = {.machine = machine, .command = command, .answer = answer};
    int status = kv_machine_work(machine, command->n_keys, answer);

    kv__zset_members_result__init(&answer->result.zset_members);
    if (status == 0 && command->combination == KV__COMBINATION__COMBINE_UNION) {
        status = unite(&all);
    } else if (status == 0 && command->combination == KV__COMBINATION__COMBINE_INTERSECTION) {
        status = intersect(&all);
    } else if (status == 0) {
        status = subtract(&all);
    }
    if (status == 0) {
        status = check_scores(&all);
    }
    if (status == 0) {
        status = command->store.len > 0 ? store(&all) : give(&all);
    }
    if (status == 0) {
        KV_ANSWER(answer, ZSET_COMBINE, zset_combine, zset_members);
    }
    return status;
}
