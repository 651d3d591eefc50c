/* The typed calls of libkv: what each asks for, and what it makes of the answer. */
#include "tests/support/typed_rig.h"

#include <math.h>

/* Prepares a result of one number. */
#define ANSWER_COUNT(name, value)                     \
    Kv__CountResult result_ = KV__COUNT_RESULT__INIT; \
    Kv__Reply reply_;                                 \
    result_.count = (value);                          \
    answer(&reply_, KV__REPLY__RESULT_##name, &result_)
#define ANSWER_ELEMENTS(name)                                                      \
    ProtobufCBinaryData elements_[] = {{1, (uint8_t *)"a"}, {2, (uint8_t *)"bc"}}; \
    Kv__ElementsResult result_ = KV__ELEMENTS_RESULT__INIT;                        \
    Kv__Reply reply_;                                                              \
    result_.n_elements = 2;                                                        \
    result_.elements = elements_;                                                  \
    answer(&reply_, KV__REPLY__RESULT_##name, &result_)

static void check_elements(struct kv_elements *elements)
{
    assert_int_equal(elements->n_elements, 2);
    assert_text(elements->elements[0], "a");
    assert_text(elements->elements[1], "bc");
    assert_int_equal(elements->revision, 7);
    kv_elements_free(elements);
    kv_elements_free(elements);
}

/* ---------------------------------------------------------------- counters, limiters */

static void test_counter(void **state)
{
    Kv__CounterResult result = KV__COUNTER_RESULT__INIT;
    Kv__Reply reply;
    int64_t min = 0;
    int64_t value = 0;
    struct kv_counter_options options = {
        .min = &min, .initial = 5, .ttl_ms = 9, .call = {.deadline_ms = 3}};

    (void)state;
    result.value = -4;
    answer(&reply, KV__REPLY__RESULT_COUNTER_ADD, &result);
    assert_int_equal(kv_counter_add(NULL, text("c"), -9, &options, &value, &error), 0);
    assert_int_equal(value, -4);
    assert_proto(asked->counter_add->key, "c");
    assert_int_equal(asked->counter_add->delta, -9);
    assert_non_null(asked->counter_add->min);
    assert_null(asked->counter_add->max);
    assert_int_equal(asked->counter_add->initial, 5);
    assert_int_equal(asked->counter_add->ttl_ms, 9);
    assert_int_equal(asked_options.deadline_ms, 3);
    assert_int_equal(kv_counter_add(NULL, text("c"), 1, NULL, NULL, NULL), 0);

    answer(&reply, KV__REPLY__RESULT_COUNTER_GET, &result);
    assert_int_equal(
        kv_counter_get(NULL, text("c"), &(struct kv_get_options){.at_revision = 3}, &value, &error),
        0);
    assert_int_equal(asked->counter_get->at_revision, 3);
    answer(&reply, KV__REPLY__RESULT_COUNTER_SET, &result);
    assert_int_equal(kv_counter_set(NULL, text("c"), 12, NULL, &error), 0);
    assert_int_equal(asked->counter_set->value, 12);
}

static void test_limiter(void **state)
{
    Kv__LimiterResult result = KV__LIMITER_RESULT__INIT;
    struct kv_limit limit = {100, 1000, 20};
    struct kv_limiter_result got;
    Kv__Reply reply;

    (void)state;
    result.retry_after_ms = 8;
    result.remaining = 1;
    answer(&reply, KV__REPLY__RESULT_LIMITER_ACQUIRE, &result);
    assert_int_equal(kv_limiter_acquire(NULL, text("l"), &limit, 2, NULL, &got, &error), 0);
    assert_false(got.allowed);
    assert_int_equal(got.retry_after_ms, 8);
    assert_int_equal(got.remaining, 1);
    assert_int_equal(asked->limiter_acquire->rate, 100);
    assert_int_equal(asked->limiter_acquire->period_ms, 1000);
    assert_int_equal(asked->limiter_acquire->burst, 20);
    assert_int_equal(asked->limiter_acquire->n, 2);
}

/* ---------------------------------------------------------------- errors */

static void test_errors(void **state)
{
    int64_t value = 77;
    struct kv_elements elements = {.n_elements = 77};
    ANSWER_COUNT(HASH_SET, 1);

    (void)state;
    prepared_status = KV_WRONG_TYPE;
    assert_int_equal(kv_counter_get(NULL, text("c"), NULL, &value, &error), KV_WRONG_TYPE);
    assert_string_equal(error.message, "refused");
    assert_int_equal(kv_list_range(NULL, text("l"), 0, 1, NULL, &elements, NULL), KV_WRONG_TYPE);
    /* The server answered something else. */
    prepared_status = 0;
    assert_int_equal(kv_counter_get(NULL, text("c"), NULL, &value, &error), KV_INTERNAL);
    assert_int_equal(kv_list_range(NULL, text("l"), 0, 1, NULL, &elements, &error), KV_INTERNAL);
    prepared = NULL;
    assert_int_equal(kv_counter_get(NULL, text("c"), NULL, &value, &error), KV_INTERNAL);
    assert_int_equal(value, 77);
    assert_int_equal(elements.n_elements, 77);
}

/* ---------------------------------------------------------------- hashes */

static void test_hash_writes(void **state)
{
    struct kv_field fields[] = {{.name = text("a"), .value = text("1"), .ttl_ms = 5},
                                {.name = text("b"), .value = text("2")}};
    struct kv_bytes names[] = {text("x"), text("y")};
    uint64_t count = 0;
    ANSWER_COUNT(HASH_SET, 2);

    (void)state;
    assert_int_equal(kv_hash_set(NULL, text("h"), fields, 2, true, NULL, &count, &error), 0);
    assert_int_equal(count, 2);
    assert_true(asked->hash_set->if_absent);
    assert_int_equal(asked->hash_set->n_fields, 2);
    assert_proto(asked->hash_set->fields[0]->name, "a");
    assert_int_equal(asked->hash_set->fields[0]->ttl_ms, 5);
    assert_proto(asked->hash_set->fields[1]->value, "2");
    reply_.result_case = KV__REPLY__RESULT_HASH_DELETE;
    assert_int_equal(kv_hash_delete(NULL, text("h"), names, 2, NULL, NULL, &error), 0);
    assert_proto(asked->hash_delete->fields[1], "y");
    reply_.result_case = KV__REPLY__RESULT_HASH_LEN;
    assert_int_equal(
        kv_hash_len(NULL, text("h"), &(struct kv_get_options){.at_revision = 4}, &count, &error),
        0);
    assert_int_equal(asked->hash_len->at_revision, 4);
}

static void test_hash_get(void **state)
{
    struct kv_bytes names[] = {text("x"), text("y")};
    ProtobufCBinaryData values[] = {{3, (uint8_t *)"one"}, {0, NULL}};
    protobuf_c_boolean present[] = {true, false};
    Kv__HashGetResult result = KV__HASH_GET_RESULT__INIT;
    struct kv_fields fields;
    Kv__Reply reply;

    (void)state;
    result.n_values = result.n_present = 2;
    result.values = values;
    result.present = present;
    answer(&reply, KV__REPLY__RESULT_HASH_GET, &result);
    assert_int_equal(kv_hash_get(NULL, text("h"), names, 2, NULL, &fields, &error), 0);
    assert_text(fields.fields[0].name, "x");
    assert_text(fields.fields[0].value, "one");
    assert_true(fields.fields[0].present);
    assert_false(fields.fields[1].present);
    kv_fields_free(&fields);
    /* Fewer than asked for. */
    result.n_present = 1;
    assert_int_equal(kv_hash_get(NULL, text("h"), names, 2, NULL, &fields, &error), KV_INTERNAL);
}

static void test_hash_scan(void **state)
{
    struct kv_scan_options options = {.cursor = text("c"), .limit = 1, .at_revision = 6};
    Kv__HashField field = KV__HASH_FIELD__INIT;
    Kv__HashField *list = &field;
    Kv__HashFieldsResult result = KV__HASH_FIELDS_RESULT__INIT;
    struct kv_fields fields;
    Kv__Reply reply;

    (void)state;
    field.name = (ProtobufCBinaryData){1, (uint8_t *)"f"};
    field.ttl_ms = 11;
    result.n_fields = 1;
    result.fields = &list;
    result.more = true;
    result.cursor = (ProtobufCBinaryData){2, (uint8_t *)"go"};
    answer(&reply, KV__REPLY__RESULT_HASH_SCAN, &result);
    assert_int_equal(kv_hash_scan(NULL, text("h"), &options, &fields, &error), 0);
    assert_proto(asked->hash_scan->cursor, "c");
    assert_int_equal(asked->hash_scan->limit, 1);
    assert_int_equal(asked->hash_scan->at_revision, 6);
    assert_text(fields.fields[0].name, "f");
    assert_int_equal(fields.fields[0].ttl_ms, 11);
    assert_true(fields.more);
    assert_text(fields.cursor, "go");
    kv_fields_free(&fields);
    reply.result_case = KV__REPLY__RESULT_HASH_GET_ALL;
    assert_int_equal(kv_hash_get_all(NULL, text("h"), NULL, &fields, &error), 0);
    assert_int_equal(fields.n_fields, 1);
    kv_fields_free(&fields);
}

static void test_hash_numbers_and_presence(void **state)
{
    protobuf_c_boolean present[] = {false, true};
    struct kv_bytes names[] = {text("x"), text("y")};
    Kv__PresentResult result = KV__PRESENT_RESULT__INIT;
    Kv__CounterResult number = KV__COUNTER_RESULT__INIT;
    Kv__Reply reply;
    bool got[2];
    int64_t value;

    (void)state;
    result.n_present = 2;
    result.present = present;
    answer(&reply, KV__REPLY__RESULT_HASH_EXISTS, &result);
    assert_int_equal(kv_hash_exists(NULL, text("h"), names, 2, NULL, got, &error), 0);
    assert_true(!got[0] && got[1]);
    answer(&reply, KV__REPLY__RESULT_SET_HAS, &result);
    assert_int_equal(kv_set_has(NULL, text("s"), names, 2, NULL, got, &error), 0);
    assert_int_equal(kv_set_has(NULL, text("s"), names, 1, NULL, got, &error), KV_INTERNAL);
    number.value = 3;
    answer(&reply, KV__REPLY__RESULT_HASH_ADD, &number);
    assert_int_equal(kv_hash_add(NULL, text("h"), text("f"), 2, NULL, &value, &error), 0);
    assert_int_equal(value, 3);
    assert_proto(asked->hash_add->field, "f");
    assert_int_equal(asked->hash_add->delta, 2);
}

/* ---------------------------------------------------------------- lists and sets */

static void test_list_writes(void **state)
{
    struct kv_bytes elements[] = {text("x"), text("y")};
    Kv__DoneResult done = KV__DONE_RESULT__INIT;
    uint64_t length = 0;
    ANSWER_COUNT(LIST_PUSH, 5);

    (void)state;
    assert_int_equal(kv_list_push(NULL,
                                  text("l"),
                                  KV_LIST_RIGHT,
                                  elements,
                                  2,
                                  &(struct kv_push_options){.if_present = true},
                                  &length,
                                  &error),
                     0);
    assert_int_equal(length, 5);
    assert_int_equal(asked->list_push->end, KV__LIST_END__LIST_RIGHT);
    assert_true(asked->list_push->if_present);
    assert_proto(asked->list_push->elements[1], "y");
    reply_.result_case = KV__REPLY__RESULT_LIST_INSERT;
    assert_int_equal(
        kv_list_insert(NULL, text("l"), true, text("p"), text("e"), NULL, &length, &error), 0);
    assert_true(asked->list_insert->after);
    assert_proto(asked->list_insert->pivot, "p");
    reply_.result_case = KV__REPLY__RESULT_LIST_REMOVE;
    assert_int_equal(kv_list_remove(NULL, text("l"), -2, text("e"), NULL, &length, &error), 0);
    assert_int_equal(asked->list_remove->count, -2);
    reply_.result_case = KV__REPLY__RESULT_LIST_TRIM;
    assert_int_equal(kv_list_trim(NULL, text("l"), 1, -2, NULL, &length, &error), 0);
    assert_int_equal(asked->list_trim->last, -2);
    reply_.result_case = KV__REPLY__RESULT_LIST_LEN;
    assert_int_equal(kv_list_len(NULL, text("l"), NULL, &length, &error), 0);
    answer(&reply_, KV__REPLY__RESULT_LIST_SET, &done);
    assert_int_equal(kv_list_set(NULL, text("l"), -1, text("e"), NULL, &error), 0);
    assert_int_equal(asked->list_set->index, -1);
}

static void test_list_elements(void **state)
{
    struct kv_list_place from = {text("a"), KV_LIST_RIGHT};
    struct kv_list_place to = {text("b"), KV_LIST_LEFT};
    struct kv_pop_options block = {.block_ms = 7000};
    struct kv_elements elements;
    ANSWER_ELEMENTS(LIST_RANGE);

    (void)state;
    assert_int_equal(kv_list_range(NULL, text("l"), -3, -1, NULL, &elements, &error), 0);
    assert_int_equal(asked->list_range->first, -3);
    check_elements(&elements);
    reply_.result_case = KV__REPLY__RESULT_LIST_INDEX;
    assert_int_equal(kv_list_index(NULL, text("l"), 4, NULL, &elements, &error), 0);
    assert_int_equal(asked->list_index->index, 4);
    check_elements(&elements);
    reply_.result_case = KV__REPLY__RESULT_LIST_MOVE;
    assert_int_equal(kv_list_move(NULL, &from, &to, NULL, &elements, &error), 0);
    assert_proto(asked->list_move->to, "b");
    assert_int_equal(asked->list_move->from, KV__LIST_END__LIST_RIGHT);
    assert_int_equal(asked->list_move->to_end, KV__LIST_END__LIST_LEFT);
    check_elements(&elements);
    reply_.result_case = KV__REPLY__RESULT_LIST_POP;
    assert_int_equal(kv_list_pop(NULL, text("l"), KV_LIST_LEFT, &block, &elements, &error), 0);
    /* The wait has time. */
    assert_int_equal(asked->list_pop->block_ms, 7000);
    assert_true(asked_options.deadline_ms > 7000);
    check_elements(&elements);
    block.block_ms = 600001;
    assert_int_equal(kv_list_pop(NULL, text("l"), KV_LIST_LEFT, &block, &elements, &error),
                     KV_INVALID);
    assert_non_null(strstr(error.message, "600001"));
}

static void test_sets(void **state)
{
    struct kv_bytes list[] = {text("x"), text("y")};
    struct kv_scan_options scan = {.cursor = text("c"), .limit = 3, .at_revision = 2};
    struct kv_elements elements;
    uint64_t stored = 0;
    ANSWER_ELEMENTS(SET_MEMBERS);

    (void)state;
    assert_int_equal(kv_set_members(NULL, text("s"), &scan, &elements, &error), 0);
    assert_proto(asked->set_members->cursor, "c");
    assert_int_equal(asked->set_members->limit, 3);
    check_elements(&elements);
    reply_.result_case = KV__REPLY__RESULT_SET_POP;
    assert_int_equal(kv_set_pop(NULL, text("s"), 4, NULL, &elements, &error), 0);
    assert_int_equal(asked->set_pop->count, 4);
    check_elements(&elements);
    reply_.result_case = KV__REPLY__RESULT_SET_RANDOM;
    assert_int_equal(kv_set_random(NULL, text("s"), 5, NULL, &elements, &error), 0);
    check_elements(&elements);
    reply_.result_case = KV__REPLY__RESULT_SET_COMBINE;
    assert_int_equal(kv_set_combine(NULL, KV_DIFFERENCE, list, 2, NULL, &elements, &error), 0);
    assert_int_equal(asked->set_combine->combination, KV__COMBINATION__COMBINE_DIFFERENCE);
    assert_int_equal(asked->set_combine->store.len, 0);
    check_elements(&elements);
    result_.stored = 6;
    assert_int_equal(
        kv_set_combine_store(NULL, KV_UNION, list, 2, text("d"), NULL, &stored, &error), 0);
    assert_int_equal(stored, 6);
    assert_proto(asked->set_combine->store, "d");
    assert_int_equal(kv_set_combine_store(NULL, KV_UNION, list, 2, text(""), NULL, NULL, &error),
                     KV_INVALID);
}

static void test_set_counts(void **state)
{
    struct kv_bytes list[] = {text("x"), text("y")};
    uint64_t count = 0;
    ANSWER_COUNT(SET_ADD, 1);

    (void)state;
    assert_int_equal(kv_set_add(NULL, text("s"), list, 2, NULL, &count, &error), 0);
    assert_int_equal(count, 1);
    assert_proto(asked->set_add->members[0], "x");
    reply_.result_case = KV__REPLY__RESULT_SET_REMOVE;
    assert_int_equal(kv_set_remove(NULL, text("s"), list, 2, NULL, NULL, &error), 0);
    assert_int_equal(asked->set_remove->n_members, 2);
    reply_.result_case = KV__REPLY__RESULT_SET_LEN;
    assert_int_equal(kv_set_len(NULL, text("s"), NULL, &count, &error), 0);
}

/* ---------------------------------------------------------------- sorted sets */

static void test_zset_add_and_score(void **state)
{
    struct kv_scored members[] = {{text("a"), 1.5, false}, {text("b"), -INFINITY, false}};
    struct kv_bytes names[] = {text("a"), text("b")};
    struct kv_zset_add_options options = {.if_greater = true};
    protobuf_c_boolean present[] = {true, false};
    double scores[] = {1.5, 0};
    Kv__ZSetAddResult added = KV__ZSET_ADD_RESULT__INIT;
    Kv__ZSetScoreResult scored = KV__ZSET_SCORE_RESULT__INIT;
    struct kv_zset_add_result result;
    struct kv_scored_list list;
    Kv__Reply reply;

    (void)state;
    added.changed = 2;
    answer(&reply, KV__REPLY__RESULT_ZSET_ADD, &added);
    assert_int_equal(kv_zset_add(NULL, text("z"), members, 2, &options, &result, &error), 0);
    assert_int_equal(result.changed, 2);
    assert_true(asked->zset_add->if_greater && !asked->zset_add->if_less);
    assert_true(asked->zset_add->members[1]->score == -INFINITY);
    assert_int_equal(kv_zset_add(NULL, text("z"), members, 2, NULL, NULL, &error), 0);
    scored.n_present = scored.n_scores = 2;
    scored.present = present;
    scored.scores = scores;
    answer(&reply, KV__REPLY__RESULT_ZSET_SCORE, &scored);
    assert_int_equal(kv_zset_score(NULL, text("z"), names, 2, NULL, &list, &error), 0);
    assert_true(list.members[0].present && list.members[0].score == 1.5);
    assert_false(list.members[1].present);
    assert_text(list.members[1].member, "b");
    kv_scored_list_free(&list);
    scored.n_scores = 1;
    assert_int_equal(kv_zset_score(NULL, text("z"), names, 2, NULL, &list, &error), KV_INTERNAL);
}

static void test_zset_spans(void **state)
{
    struct kv_span scores = {
        .kind = KV_SPAN_SCORES, .min = 1, .max = INFINITY, .min_exclusive = true};
    struct kv_span members = {.kind = KV_SPAN_MEMBERS,
                              .members = {.kind = KV_RANGE_FROM, .start = text("m")}};
    struct kv_span ranks = {.kind = KV_SPAN_RANKS, .first = 2, .last = -2};
    uint64_t count;
    ANSWER_COUNT(ZSET_COUNT, 9);

    (void)state;
    assert_int_equal(kv_zset_count(NULL, text("z"), &scores, NULL, &count, &error), 0);
    assert_int_equal(count, 9);
    assert_int_equal(asked->zset_count->span->span_case, KV__ZSET_SPAN__SPAN_SCORES);
    assert_true(asked->zset_count->span->scores->min->exclusive);
    assert_true(asked->zset_count->span->scores->max->score == INFINITY);
    assert_int_equal(kv_zset_count(NULL, text("z"), NULL, NULL, &count, &error), 0);
    assert_int_equal(asked->zset_count->span->ranks->last, -1);
    reply_.result_case = KV__REPLY__RESULT_ZSET_REMOVE_RANGE;
    assert_int_equal(kv_zset_remove_range(NULL, text("z"), &ranks, NULL, &count, &error), 0);
    assert_int_equal(asked->zset_remove_range->span->ranks->first, 2);
    assert_int_equal(kv_zset_remove_range(NULL, text("z"), &members, NULL, &count, &error), 0);
    assert_proto(asked->zset_remove_range->span->members->start, "m");
    reply_.result_case = KV__REPLY__RESULT_ZSET_REMOVE;
    assert_int_equal(kv_zset_remove(NULL, text("z"), &members.members.start, 1, NULL, NULL, &error),
                     0);
    scores.max = NAN;
    assert_int_equal(kv_zset_count(NULL, text("z"), &scores, NULL, &count, &error), KV_INVALID);
    scores.kind = (enum kv_span_kind)9;
    assert_int_equal(kv_zset_count(NULL, text("z"), &scores, NULL, &count, &error), KV_INVALID);
}

static void test_zset_members(void **state)
{
    struct kv_zset_range_options options = {.descending = true, .offset = 1, .limit = 2};
    struct kv_bytes keys[] = {text("x"), text("y")};
    double weights[] = {1, 2};
    struct kv_zset_combination combination = {KV_INTERSECTION, keys, 2, weights, KV_AGGREGATE_MAX};
    Kv__ZSetMember member = KV__ZSET_MEMBER__INIT;
    Kv__ZSetMember *list = &member;
    Kv__ZSetMembersResult result = KV__ZSET_MEMBERS_RESULT__INIT;
    struct kv_scored_list got;
    uint64_t stored = 0;
    Kv__Reply reply;

    (void)state;
    member.member = (ProtobufCBinaryData){1, (uint8_t *)"m"};
    member.score = 2.5;
    result.n_members = 1;
    result.members = &list;
    answer(&reply, KV__REPLY__RESULT_ZSET_RANGE, &result);
    assert_int_equal(kv_zset_range(NULL, text("z"), NULL, &options, &got, &error), 0);
    assert_true(asked->zset_range->descending);
    assert_int_equal(asked->zset_range->offset, 1);
    assert_int_equal(asked->zset_range->limit, 2);
    assert_text(got.members[0].member, "m");
    assert_true(got.members[0].score == 2.5);
    kv_scored_list_free(&got);
    reply.result_case = KV__REPLY__RESULT_ZSET_POP;
    assert_int_equal(kv_zset_pop(NULL, text("z"), true, 3, NULL, &got, &error), 0);
    assert_true(asked->zset_pop->greatest);
    kv_scored_list_free(&got);
    reply.result_case = KV__REPLY__RESULT_ZSET_COMBINE;
    assert_int_equal(kv_zset_combine(NULL, &combination, NULL, &got, &error), 0);
    assert_int_equal(asked->zset_combine->n_weights, 2);
    assert_int_equal(asked->zset_combine->aggregate, KV__AGGREGATE__AGGREGATE_MAX);
    kv_scored_list_free(&got);
    result.stored = 7;
    assert_int_equal(kv_zset_combine_store(NULL, &combination, text("d"), NULL, &stored, &error),
                     0);
    assert_int_equal(stored, 7);
    assert_proto(asked->zset_combine->store, "d");
    assert_int_equal(kv_zset_combine_store(NULL, &combination, text(""), NULL, NULL, &error),
                     KV_INVALID);
}

static void test_zset_rank(void **state)
{
    Kv__ZSetRankResult result = KV__ZSET_RANK_RESULT__INIT;
    uint64_t rank;
    double score;
    Kv__Reply reply;

    (void)state;
    result.rank = 4;
    result.score = 0.5;
    answer(&reply, KV__REPLY__RESULT_ZSET_RANK, &result);
    assert_int_equal(kv_zset_rank(NULL, text("z"), text("m"), true, NULL, &rank, &score, &error),
                     0);
    assert_int_equal(rank, 4);
    assert_true(score == 0.5);
    assert_true(asked->zset_rank->descending);
    assert_int_equal(kv_zset_rank(NULL, text("z"), text("m"), false, NULL, &rank, NULL, &error), 0);
}

/* ---------------------------------------------------------------- keys */

static void test_keys(void **state)
{
    Kv__TypeResult type = KV__TYPE_RESULT__INIT;
    Kv__DoneResult done = KV__DONE_RESULT__INIT;
    Kv__CompactResult compacted = KV__COMPACT_RESULT__INIT;
    struct kv_bytes keys[] = {text("x"), text("y")};
    enum kv_type got;
    int64_t oldest;
    uint64_t touched;
    ANSWER_COUNT(TOUCH, 2);

    (void)state;
    assert_int_equal(kv_touch(NULL, keys, 2, NULL, &touched, &error), 0);
    assert_int_equal(touched, 2);
    type.type = KV__TYPE__TYPE_ZSET;
    answer(&reply_, KV__REPLY__RESULT_TYPE, &type);
    assert_int_equal(
        kv_type_of(NULL, text("k"), &(struct kv_get_options){.at_revision = 5}, &got, &error), 0);
    assert_int_equal(asked->type->at_revision, 5);
    assert_string_equal(kv_type_name(got), "zset");
    assert_string_equal(kv_type_name((enum kv_type)99), "?");
    answer(&reply_, KV__REPLY__RESULT_RENAME, &done);
    assert_int_equal(kv_rename(NULL, text("a"), text("b"), true, NULL, &error), 0);
    assert_true(asked->rename->if_absent);
    assert_proto(asked->rename->to, "b");
    answer(&reply_, KV__REPLY__RESULT_COPY, &done);
    assert_int_equal(kv_copy(NULL, text("a"), text("b"), false, NULL, &error), 0);
    compacted.oldest_revision = 44;
    answer(&reply_, KV__REPLY__RESULT_COMPACT, &compacted);
    assert_int_equal(kv_compact(NULL, 44, NULL, &oldest, &error), 0);
    assert_int_equal(oldest, 44);
    assert_int_equal(asked->compact->revision, 44);
}

static void test_history(void **state)
{
    struct kv_history_options options = {.from_revision = 2, .limit = 9, .descending = true};
    Kv__KeyValue kv = KV__KEY_VALUE__INIT;
    Kv__KeyVersion versions[] = {KV__KEY_VERSION__INIT, KV__KEY_VERSION__INIT};
    Kv__KeyVersion *list[] = {&versions[0], &versions[1]};
    Kv__KeyHistoryResult result = KV__KEY_HISTORY_RESULT__INIT;
    struct kv_history history;
    Kv__Reply reply;

    (void)state;
    kv.value = (ProtobufCBinaryData){1, (uint8_t *)"v"};
    kv.mod_revision = 3;
    versions[0].kv = versions[1].kv = &kv;
    versions[1].deleted = true;
    result.n_versions = 2;
    result.versions = list;
    answer(&reply, KV__REPLY__RESULT_KEY_HISTORY, &result);
    assert_int_equal(kv_key_history(NULL, text("k"), &options, &history, &error), 0);
    assert_int_equal(asked->key_history->from_revision, 2);
    assert_int_equal(asked->key_history->limit, 9);
    assert_true(asked->key_history->descending);
    assert_text(history.versions[0].pair.value, "v");
    assert_int_equal(history.versions[0].pair.mod_revision, 3);
    assert_true(history.versions[1].deleted);
    kv_history_free(&history);
    versions[1].kv = NULL;
    assert_int_equal(kv_key_history(NULL, text("k"), NULL, &history, &error), KV_INTERNAL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_counter),
        TEST(test_limiter),
        TEST(test_errors),
        TEST(test_hash_writes),
        TEST(test_hash_get),
        TEST(test_hash_scan),
        TEST(test_hash_numbers_and_presence),
        TEST(test_list_writes),
        TEST(test_list_elements),
        TEST(test_sets),
        TEST(test_set_counts),
        TEST(test_zset_add_and_score),
        TEST(test_zset_spans),
        TEST(test_zset_members),
        TEST(test_zset_rank),
        TEST(test_keys),
        TEST(test_history),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
