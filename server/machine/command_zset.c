/* Sorted sets: single members. Spans of them: command_zset_range.c; several sets:
 * command_zset_combine.c. */
#include "server/machine/command.h"
#include "server/machine/zset.h"

#include <math.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- checks */

static int check_conditions(const Kv__ZSetAdd *command, struct kv_error *ret_error)
{
    if (command->if_absent && (command->if_present || command->if_greater || command->if_less)) {
        return kv_error_set(
            ret_error, KV_INVALID, "if_absent goes with no other condition on what is there");
    }
    if (command->if_greater && command->if_less) {
        return kv_error_set(ret_error, KV_INVALID, "if_greater and if_less exclude each other");
    }
    if (command->increment && command->n_members != 1) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "an increment is of one member, the command names %zu",
                            command->n_members);
    }
    return 0;
}

int kv_validate_zset_add(const Kv__Request *request,
                         const struct kv_machine_settings *settings,
                         struct kv_error *ret_error)
{
    const Kv__ZSetAdd *command = request->zset_add;
    ProtobufCBinaryData one, *names = &one;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    if (status == 0) {
        status = check_conditions(command, ret_error);
    }
    if (status != 0) {
        return status;
    }
    if (command->n_members > 1) {
        names = kv_machine_alloc(command->n_members * sizeof *names);
    }
    for (size_t i = 0; i < command->n_members; i++) {
        names[i] = command->members[i]->member;
        if (isnan(command->members[i]->score)) {
            status = kv_error_set(
                ret_error, KV_INVALID, "the score of member %zu is not a number (NaN)", i);
        }
    }
    if (status == 0) {
        status = kv_check_names(names, command->n_members, "member", true, ret_error);
    }
    if (names != &one) {
        free(names);
    }
    return status;
}

int kv_validate_zset_remove(const Kv__Request *request,
                            const struct kv_machine_settings *settings,
                            struct kv_error *ret_error)
{
    const Kv__ZSetRemove *command = request->zset_remove;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    return status ? status
                  : kv_check_names(command->members, command->n_members, "member", true, ret_error);
}

int kv_validate_zset_score(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    const Kv__ZSetScore *command = request->zset_score;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    return status
               ? status
               : kv_check_names(command->members, command->n_members, "member", false, ret_error);
}

int kv_validate_zset_rank(const Kv__Request *request,
                          const struct kv_machine_settings *settings,
                          struct kv_error *ret_error)
{
    const Kv__ZSetRank *command = request->zset_rank;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    return status ? status : kv_check_names(&command->member, 1, "member", false, ret_error);
}

/* ---------------------------------------------------------------- changes */

static int open_zset(struct kv_machine *machine,
                     ProtobufCBinaryData key,
                     int64_t revision,
                     struct kv_answer *answer,
                     struct kv_collection *ret_zset)
{
    return kv_collection_open(
        machine, kv_slice_of_proto(key), KV_TYPE_ZSET, revision, answer, ret_zset);
}

/* May the member get this score? */
static bool is_wanted(const Kv__ZSetAdd *command, bool present, double former, double score)
{
    if (!present) {
        return !command->if_present;
    }
    return !command->if_absent && (!command->if_greater || score > former) &&
           (!command->if_less || score < former) && score != former;
}

static int add_member(struct kv_collection *zset,
                      const Kv__ZSetAdd *command,
                      const Kv__ZSetMember *wanted,
                      struct kv_answer *answer)
{
    Kv__ZSetAddResult *result = &answer->result.zset_add;
    struct kv_slice member = kv_slice_of_proto(wanted->member);
    double former = 0;
    bool present = kv_zset_find(zset, member, &former);
    double score = wanted->score;

    if (command->increment) {
        score += former;
        result->score = former;
    }
    if (isnan(score)) {
        return kv_error_set(&answer->error,
                            KV_INVALID,
                            "the score would be no number (NaN): infinities of both signs added");
    }
    if (is_wanted(command, present, former, score)) {
        (void)kv_zset_put(zset, member, score);
        result->added += !present;
        result->changed++;
        result->score = command->increment ? score + 0.0 : 0;
    }
    return 0;
}

int kv_run_zset_add(struct kv_machine *machine,
                    const Kv__Request *request,
                    struct kv_answer *answer)
{
    const Kv__ZSetAdd *command = request->zset_add;
    struct kv_collection zset;
    int status = open_zset(machine, command->key, 0, answer, &zset);

    if (status == 0) {
        status = kv_machine_work(machine, command->n_members, answer);
    }
    kv__zset_add_result__init(&answer->result.zset_add);
    for (size_t i = 0; i < command->n_members && status == 0; i++) {
        status = add_member(&zset, command, command->members[i], answer);
    }
    if (status != 0) {
        return status;
    }
    kv_collection_commit(&zset);
    KV_ANSWER(answer, ZSET_ADD, zset_add, zset_add);
    return 0;
}

int kv_run_zset_remove(struct kv_machine *machine,
                       const Kv__Request *request,
                       struct kv_answer *answer)
{
    const Kv__ZSetRemove *command = request->zset_remove;
    struct kv_collection zset;
    int status = open_zset(machine, command->key, 0, answer, &zset);

    if (status == 0) {
        status = kv_machine_work(machine, command->n_members, answer);
    }
    if (status != 0) {
        return status;
    }
    kv__count_result__init(&answer->result.count);
    for (size_t i = 0; i < command->n_members; i++) {
        answer->result.count.count += kv_zset_remove(&zset, kv_slice_of_proto(command->members[i]));
    }
    kv_collection_commit(&zset);
    KV_ANSWER(answer, ZSET_REMOVE, zset_remove, count);
    return 0;
}

/* ---------------------------------------------------------------- reads */

int kv_run_zset_score(struct kv_machine *machine,
                      const Kv__Request *request,
                      struct kv_answer *answer)
{
    const Kv__ZSetScore *command = request->zset_score;
    Kv__ZSetScoreResult *result = &answer->result.zset_score;
    struct kv_collection zset;
    int status = open_zset(machine, command->key, command->at_revision, answer, &zset);

    if (status == 0) {
        status = kv_machine_work(machine, command->n_members, answer);
    }
    if (status != 0) {
        return status;
    }
    kv__zset_score_result__init(result);
    result->n_present = result->n_scores = command->n_members;
    result->present = kv_reply_alloc(machine, result->n_present * sizeof *result->present);
    result->scores = kv_reply_alloc(machine, result->n_scores * sizeof *result->scores);
    for (size_t i = 0; i < command->n_members && status == 0; i++) {
        result->scores[i] = 0;
        result->present[i] =
            kv_zset_find(&zset, kv_slice_of_proto(command->members[i]), &result->scores[i]);
        status = kv_machine_work(machine, 0, answer);
    }
    if (status == 0) {
        KV_ANSWER(answer, ZSET_SCORE, zset_score, zset_score);
    }
    return status;
}

int kv_run_zset_rank(struct kv_machine *machine,
                     const Kv__Request *request,
                     struct kv_answer *answer)
{
    const Kv__ZSetRank *command = request->zset_rank;
    Kv__ZSetRankResult *result = &answer->result.zset_rank;
    struct kv_slice member = kv_slice_of_proto(command->member);
    struct kv_collection zset;
    struct kv_zset_view view;
    double score;
    int status = open_zset(machine, command->key, command->at_revision, answer, &zset);

    if (status == 0 && !kv_zset_find(&zset, member, &score)) {
        status = kv_error_set(&answer->error, KV_NOT_FOUND, "the sorted set has no such member");
    }
    if (status == 0) {
        status = kv_zset_view_open(&zset, false, answer, &view);
    }
    if (status != 0) {
        return status;
    }
    kv__zset_rank_result__init(result);
    result->score = score;
    result->rank = kv_zset_view_rank_of(&view, kv_score_order(score), member);
    if (command->descending) {
        result->rank = view.n - 1 - result->rank;
    }
    KV_ANSWER(answer, ZSET_RANK, zset_rank, zset_rank);
    return 0;
}
