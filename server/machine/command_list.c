/* Lists: elements by place. */
#include "server/machine/command.h"
#include "server/machine/list.h"

#include <inttypes.h>

/* Bytes of an element on the wire besides its own, at most. */
enum { ELEMENT_OVERHEAD_BYTES = 8 };
/* Of a copied element's record: header, number of the list, position. */
enum { COPY_OVERHEAD_BYTES = 56 };

/* ---------------------------------------------------------------- checks */

static int check_end(Kv__ListEnd end, struct kv_error *ret_error)
{
    if (end != KV__LIST_END__LIST_LEFT && end != KV__LIST_END__LIST_RIGHT) {
        return kv_error_set(
            ret_error, KV_INVALID, "unknown end %d of a list: LIST_LEFT or LIST_RIGHT", (int)end);
    }
    return 0;
}

int kv_validate_list_push(const Kv__Request *request,
                          const struct kv_machine_settings *settings,
                          struct kv_error *ret_error)
{
    const Kv__ListPush *command = request->list_push;
    int status = kv_check_key(command->key, ret_error);

    if (status == 0) {
        status = check_end(command->end, ret_error);
    }
    if (status == 0 && command->n_elements == 0) {
        status = kv_error_set(ret_error, KV_INVALID, "the command names no element");
    }
    for (size_t i = 0; i < command->n_elements && status == 0; i++) {
        status = kv_check_value(command->elements[i], settings, ret_error);
    }
    return status;
}

int kv_validate_list_pop(const Kv__Request *request,
                         const struct kv_machine_settings *settings,
                         struct kv_error *ret_error)
{
    const Kv__ListPop *command = request->list_pop;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    if (status == 0) {
        status = check_end(command->end, ret_error);
    }
    if (status == 0 && command->block_ms > 0 && command->count > 1) {
        status = kv_error_set(ret_error,
                              KV_INVALID,
                              "a pop that waits takes one element, not %" PRIu64,
                              command->count);
    }
    if (status == 0 && command->block_ms > KV_DEADLINE_MAX_MS) {
        status = kv_error_set(ret_error,
                              KV_OUT_OF_BOUNDS,
                              "a pop waits at most %u ms, not %" PRIu64,
                              KV_DEADLINE_MAX_MS,
                              command->block_ms);
    }
    return status;
}

int kv_validate_list_range(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->list_range->key, ret_error);
}

int kv_validate_list_index(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->list_index->key, ret_error);
}

int kv_validate_list_set(const Kv__Request *request,
                         const struct kv_machine_settings *settings,
                         struct kv_error *ret_error)
{
    int status = kv_check_key(request->list_set->key, ret_error);

    return status ? status : kv_check_value(request->list_set->element, settings, ret_error);
}

int kv_validate_list_len(const Kv__Request *request,
                         const struct kv_machine_settings *settings,
                         struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->list_len->key, ret_error);
}

int kv_validate_list_insert(const Kv__Request *request,
                            const struct kv_machine_settings *settings,
                            struct kv_error *ret_error)
{
    int status = kv_check_key(request->list_insert->key, ret_error);

    return status ? status : kv_check_value(request->list_insert->element, settings, ret_error);
}

int kv_validate_list_remove(const Kv__Request *request,
                            const struct kv_machine_settings *settings,
                            struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->list_remove->key, ret_error);
}

int kv_validate_list_trim(const Kv__Request *request,
                          const struct kv_machine_settings *settings,
                          struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->list_trim->key, ret_error);
}

int kv_validate_list_move(const Kv__Request *request,
                          const struct kv_machine_settings *settings,
                          struct kv_error *ret_error)
{
    const Kv__ListMove *command = request->list_move;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    if (status == 0) {
        status = kv_check_key(command->to, ret_error);
    }
    if (status == 0) {
        status = check_end(command->from, ret_error);
    }
    return status ? status : check_end(command->to_end, ret_error);
}

/* ---------------------------------------------------------------- parts */

static int open_list(struct kv_machine *machine,
                     ProtobufCBinaryData key,
                     int64_t revision,
                     struct kv_answer *answer,
                     struct kv_collection *ret_list)
{
    return kv_collection_open(
        machine, kv_slice_of_proto(key), KV_TYPE_LIST, revision, answer, ret_list);
}

static void answer_count(struct kv_answer *answer, uint64_t count)
{
    kv__count_result__init(&answer->result.count);
    answer->result.count.count = count;
}

/* The answer has room for n elements. */
static void begin_elements(struct kv_machine *machine, struct kv_answer *answer, uint64_t n)
{
    Kv__ElementsResult *result = &answer->result.elements;

    kv__elements_result__init(result);
    result->elements = kv_reply_alloc(machine, (size_t)n * sizeof *result->elements);
}

static void add_element(struct kv_answer *answer, struct kv_slice element)
{
    Kv__ElementsResult *result = &answer->result.elements;

    result->elements[result->n_elements++] =
        (ProtobufCBinaryData){element.size, (uint8_t *)(uintptr_t)element.data};
}

/* The place that an index means, negative ones from the end. KV_OUT_OF_BOUNDS. */
static int place_of(const struct kv_collection *list,
                    int64_t index,
                    struct kv_answer *answer,
                    uint64_t *ret_place)
{
    const int64_t count = (int64_t)kv_collection_count(list);

    if (index >= count || index < -count) {
        return kv_error_set(&answer->error,
                            KV_OUT_OF_BOUNDS,
                            "index %" PRId64 " is outside of the list, which has %" PRId64
                            " elements",
                            index,
                            count);
    }
    *ret_place = (uint64_t)(index < 0 ? index + count : index);
    return 0;
}

static int
push(struct kv_collection *list, Kv__ListEnd end, struct kv_slice element, struct kv_answer *answer)
{
    uint64_t place = end == KV__LIST_END__LIST_LEFT ? 0 : kv_collection_count(list);

    return kv_list_insert(list, place, element, answer);
}

/* ---------------------------------------------------------------- changes */

int kv_run_list_push(struct kv_machine *machine,
                     const Kv__Request *request,
                     struct kv_answer *answer)
{
    const Kv__ListPush *command = request->list_push;
    struct kv_collection list;
    int status = open_list(machine, command->key, 0, answer, &list);

    if (status == 0) {
        status = kv_machine_work(machine, command->n_elements, answer);
    }
    if (status == 0 && !(command->if_present && !list.record)) {
        for (size_t i = 0; i < command->n_elements && status == 0; i++) {
            status = push(&list, command->end, kv_slice_of_proto(command->elements[i]), answer);
        }
    }
    if (status != 0) {
        return status;
    }
    kv_collection_commit(&list);
    answer_count(answer, kv_collection_count(&list));
    KV_ANSWER(answer, LIST_PUSH, list_push, count);
    return 0;
}

int kv_run_list_pop(struct kv_machine *machine,
                    const Kv__Request *request,
                    struct kv_answer *answer)
{
    const Kv__ListPop *command = request->list_pop;
    uint64_t n = command->count ? command->count : 1;
    struct kv_collection list;
    struct kv_slice element;
    uint64_t bytes = 0;
    int status = open_list(machine, command->key, 0, answer, &list);

    if (status != 0) {
        return status;
    }
    n = n < kv_collection_count(&list) ? n : kv_collection_count(&list);
    status = kv_machine_work(machine, n, answer);
    if (status != 0) {
        return status;
    }
    begin_elements(machine, answer, n);
    for (uint64_t i = 0; i < n; i++) {
        element = kv_list_pop(&list, command->end == KV__LIST_END__LIST_LEFT);
        add_element(answer, element);
        bytes += element.size + ELEMENT_OVERHEAD_BYTES;
    }
    if (bytes > kv_reply_room(machine)) {
        return kv_reply_too_large(machine, answer, "pop fewer elements at once");
    }
    kv_collection_commit(&list);
    KV_ANSWER(answer, LIST_POP, list_pop, elements);
    return 0;
}

int kv_run_list_set(struct kv_machine *machine,
                    const Kv__Request *request,
                    struct kv_answer *answer)
{
    const Kv__ListSet *command = request->list_set;
    struct kv_collection list;
    uint64_t place = 0;
    int status = open_list(machine, command->key, 0, answer, &list);

    if (status == 0) {
        status = place_of(&list, command->index, answer, &place);
    }
    if (status != 0) {
        return status;
    }
    kv_list_replace(&list, place, kv_slice_of_proto(command->element));
    kv_collection_commit(&list);
    kv__done_result__init(&answer->result.done);
    answer->result.done.done = true;
    KV_ANSWER(answer, LIST_SET, list_set, done);
    return 0;
}

/* The place of the first element that is equal. KV_NOT_FOUND. */
static int find_pivot(struct kv_collection *list,
                      struct kv_slice pivot,
                      struct kv_answer *answer,
                      uint64_t *ret_place)
{
    struct kv_list_cursor cursor;
    struct kv_slice element;
    int status = kv_list_seek(list, 0, answer, &cursor);

    for (uint64_t i = 0; status == 0 && kv_list_next(&cursor, &element); i++) {
        if (kv_slice_equal(element, pivot)) {
            *ret_place = i;
            return 0;
        }
        status = kv_machine_work(list->machine, cursor.n_visited, answer);
        cursor.n_visited = 0;
    }
    return status ? status
                  : kv_error_set(&answer->error, KV_NOT_FOUND, "the list has no such element");
}

int kv_run_list_insert(struct kv_machine *machine,
                       const Kv__Request *request,
                       struct kv_answer *answer)
{
    const Kv__ListInsert *command = request->list_insert;
    struct kv_collection list;
    uint64_t place = 0;
    int status = open_list(machine, command->key, 0, answer, &list);

    if (status == 0) {
        status = find_pivot(&list, kv_slice_of_proto(command->pivot), answer, &place);
    }
    if (status == 0) {
        place += command->after != 0;
        status = kv_list_insert(&list, place, kv_slice_of_proto(command->element), answer);
    }
    if (status != 0) {
        return status;
    }
    kv_collection_commit(&list);
    answer_count(answer, kv_collection_count(&list));
    KV_ANSWER(answer, LIST_INSERT, list_insert, count);
    return 0;
}

int kv_run_list_remove(struct kv_machine *machine,
                       const Kv__Request *request,
                       struct kv_answer *answer)
{
    const Kv__ListRemove *command = request->list_remove;
    const bool first = command->count >= 0;
    const uint64_t count = first ? (uint64_t)command->count : 0 - (uint64_t)command->count;
    struct kv_collection list;
    uint64_t removed = 0;
    int status = open_list(machine, command->key, 0, answer, &list);

    if (status == 0) {
        status = kv_list_remove(&list,
                                kv_slice_of_proto(command->element),
                                count ? count : UINT64_MAX,
                                first,
                                answer,
                                &removed);
    }
    if (status != 0) {
        return status;
    }
    kv_collection_commit(&list);
    answer_count(answer, removed);
    KV_ANSWER(answer, LIST_REMOVE, list_remove, count);
    return 0;
}

/* Makes a list of [from, to) in place of the whole, which goes as one. */
static int
keep_copies(struct kv_collection *list, uint64_t from, uint64_t to, struct kv_answer *answer)
{
    struct kv_collection kept;
    struct kv_list_cursor cursor;
    struct kv_slice element;
    int status = kv_list_seek(list, from, answer, &cursor);

    kv_collection_create(list->machine, list->key, KV_TYPE_LIST, &kept);
    /* It is the same key: its lease and its end stay. */
    kept.life = list->life;
    for (uint64_t i = from; i < to && status == 0 && kv_list_next(&cursor, &element); i++) {
        status = push(&kept, KV__LIST_END__LIST_RIGHT, element, answer);
        /* What is in the tree may have moved. */
        if (status == 0 && kept.is_large) {
            status = kv_list_seek(list, i + 1, answer, &cursor);
        }
    }
    if (status == 0) {
        kv_collection_commit(&kept);
    }
    return status;
}

/* Is what copies of [from, to) take within what one command may write? */
static bool may_copy(struct kv_collection *list, uint64_t from, uint64_t to)
{
    uint64_t room = KV_COMMAND_WRITTEN_BYTES_MAX;

    room -= list->machine->written_bytes < room ? list->machine->written_bytes : room;
    for (uint64_t i = from; i < to; i++) {
        const uint64_t cost = kv_list_nth(list, i).size + COPY_OVERHEAD_BYTES;

        if (cost > room) {
            return false;
        }
        room -= cost;
    }
    return true;
}

static void remove_outside(struct kv_collection *list, uint64_t from, uint64_t to)
{
    while (kv_collection_count(list) > to) {
        (void)kv_list_pop(list, false);
    }
    for (uint64_t i = 0; i < from; i++) {
        (void)kv_list_pop(list, true);
    }
    kv_collection_commit(list);
}

/* Costs the smaller part: of what stays, unless it is large, and what goes. */
int kv_run_list_trim(struct kv_machine *machine,
                     const Kv__Request *request,
                     struct kv_answer *answer)
{
    const Kv__ListTrim *command = request->list_trim;
    struct kv_collection list;
    uint64_t from, to, kept, removed;
    int status = open_list(machine, command->key, 0, answer, &list);

    if (status != 0) {
        return status;
    }
    kv_clamp_range(kv_collection_count(&list), command->first, command->last, &from, &to);
    kept = to - from;
    removed = kv_collection_count(&list) - kept;
    status = kv_machine_work(machine, kept < removed ? kept : removed, answer);
    if (status == 0 && kept < removed && may_copy(&list, from, to)) {
        status = keep_copies(&list, from, to, answer);
    } else if (status == 0) {
        status = kv_machine_work(machine, kept < removed ? removed - kept : 0, answer);
        if (status == 0) {
            remove_outside(&list, from, to);
        }
    }
    if (status != 0) {
        return status;
    }
    answer_count(answer, kept);
    KV_ANSWER(answer, LIST_TRIM, list_trim, count);
    return 0;
}

/* Within one list; what stands where it was afterwards has not moved. */
static int rotate(struct kv_collection *list,
                  const Kv__ListMove *command,
                  struct kv_answer *answer,
                  struct kv_slice *ret_element)
{
    const bool left = command->from == KV__LIST_END__LIST_LEFT;
    int status;

    if (command->from == command->to_end || kv_collection_count(list) == 1) {
        *ret_element = kv_list_nth(list, left ? 0 : kv_collection_count(list) - 1);
        return 0;
    }
    *ret_element = kv_list_pop(list, left);
    status = push(list, command->to_end, *ret_element, answer);
    if (status == 0) {
        kv_collection_commit(list);
    }
    return status;
}

static int move_between(struct kv_collection *list,
                        const Kv__ListMove *command,
                        struct kv_answer *answer,
                        struct kv_slice *ret_element)
{
    struct kv_collection to;
    int status = open_list(list->machine, command->to, 0, answer, &to);

    if (status == 0) {
        *ret_element = kv_list_pop(list, command->from == KV__LIST_END__LIST_LEFT);
        status = push(&to, command->to_end, *ret_element, answer);
    }
    if (status == 0) {
        kv_collection_commit(list);
        kv_collection_commit(&to);
    }
    return status;
}

int kv_run_list_move(struct kv_machine *machine,
                     const Kv__Request *request,
                     struct kv_answer *answer)
{
    const Kv__ListMove *command = request->list_move;
    struct kv_collection list;
    struct kv_slice element = {0};
    int status = open_list(machine, command->key, 0, answer, &list);

    if (status == 0 && !list.record) {
        status = kv_error_set(&answer->error, KV_NOT_FOUND, "the list to move from is empty");
    }
    if (status == 0) {
        bool same = kv_slice_equal(list.key, kv_slice_of_proto(command->to));

        status = (same ? rotate : move_between)(&list, command, answer, &element);
    }
    if (status != 0) {
        return status;
    }
    begin_elements(machine, answer, 1);
    add_element(answer, element);
    KV_ANSWER(answer, LIST_MOVE, list_move, elements);
    return 0;
}

/* ---------------------------------------------------------------- reads */

int kv_run_list_range(struct kv_machine *machine,
                      const Kv__Request *request,
                      struct kv_answer *answer)
{
    const Kv__ListRange *command = request->list_range;
    uint64_t room = kv_reply_room(machine);
    struct kv_collection list;
    struct kv_list_cursor cursor;
    struct kv_slice element;
    uint64_t from, to;
    int status = open_list(machine, command->key, command->at_revision, answer, &list);

    if (status != 0) {
        return status;
    }
    kv_clamp_range(kv_collection_count(&list), command->first, command->last, &from, &to);
    /* Looked at before there is memory for so many. */
    if (to - from > machine->settings.work_elements) {
        return kv_machine_work(machine, to - from, answer);
    }
    begin_elements(machine, answer, to - from);
    if (to > from) {
        status = kv_list_seek(&list, from, answer, &cursor);
    }
    for (uint64_t i = from; i < to && status == 0 && kv_list_next(&cursor, &element); i++) {
        if (element.size + ELEMENT_OVERHEAD_BYTES > room) {
            return kv_reply_too_large(machine, answer, "ask for fewer elements at once");
        }
        room -= element.size + ELEMENT_OVERHEAD_BYTES;
        add_element(answer, element);
        status = kv_machine_work(machine, cursor.n_visited, answer);
        cursor.n_visited = 0;
    }
    if (status == 0) {
        KV_ANSWER(answer, LIST_RANGE, list_range, elements);
    }
    return status;
}

int kv_run_list_index(struct kv_machine *machine,
                      const Kv__Request *request,
                      struct kv_answer *answer)
{
    const Kv__ListIndex *command = request->list_index;
    struct kv_collection list;
    struct kv_list_cursor cursor;
    struct kv_slice element = {0};
    uint64_t place = 0;
    int status = open_list(machine, command->key, command->at_revision, answer, &list);

    if (status == 0) {
        status = place_of(&list, command->index, answer, &place);
    }
    if (status == 0 && list.revision == 0) {
        element = kv_list_nth(&list, place);
    } else if (status == 0) {
        status = kv_list_seek(&list, place, answer, &cursor);
        if (status == 0) {
            (void)kv_list_next(&cursor, &element);
        }
    }
    if (status != 0) {
        return status;
    }
    begin_elements(machine, answer, 1);
    add_element(answer, element);
    KV_ANSWER(answer, LIST_INDEX, list_index, elements);
    return 0;
}

int kv_run_list_len(struct kv_machine *machine,
                    const Kv__Request *request,
                    struct kv_answer *answer)
{
    struct kv_collection list;
    int status =
        open_list(machine, request->list_len->key, request->list_len->at_revision, answer, &list);

    if (status != 0) {
        return status;
    }
    answer_count(answer, kv_collection_count(&list));
    KV_ANSWER(answer, LIST_LEN, list_len, count);
    return 0;
}
