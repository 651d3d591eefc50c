#include "server/machine/list.h"

#include "common/assert.h"

#include <string.h>

enum { POSITION_BYTES = 8, RANGE_BITS_MIN = 8, RANGE_BITS_MAX = 64 };
#define POSITION_FIRST (UINT64_C(1) << 63)

/* ---------------------------------------------------------------- positions */

static uint64_t position_of(const struct kv_record *element)
{
    return kv_get_u64_be(kv_element_name(element).data);
}

static void put_at(struct kv_collection *list, uint64_t position, struct kv_slice element)
{
    uint8_t name[POSITION_BYTES];

    kv_put_u64_be(name, position);
    (void)kv_element_put(list, kv_slice_of(name, sizeof name), element);
}

static void remove_at(struct kv_collection *list, uint64_t position)
{
    uint8_t name[POSITION_BYTES];

    kv_put_u64_be(name, position);
    (void)kv_element_remove(list, kv_slice_of(name, sizeof name));
}

static uint64_t rank_of(struct kv_collection *list, uint64_t position)
{
    uint8_t name[POSITION_BYTES];

    kv_put_u64_be(name, position);
    return kv_element_rank(list, kv_slice_of(name, sizeof name));
}

/* A free position before the n-th element; false: there is none between its neighbours. */
static bool find_position(struct kv_collection *list, uint64_t n, uint64_t *ret_position)
{
    const struct kv_record *before = n > 0 ? kv_element_nth(list, n - 1) : NULL;
    const struct kv_record *behind = n < list->large.count ? kv_element_nth(list, n) : NULL;
    uint64_t low = before ? position_of(before) : 0;
    uint64_t high = behind ? position_of(behind) : UINT64_MAX;

    if (!before && !behind) {
        *ret_position = POSITION_FIRST;
    } else if (!behind && high - low > KV_LIST_SPACING) {
        *ret_position = low + KV_LIST_SPACING;
    } else if (!before && high > KV_LIST_SPACING) {
        *ret_position = high - KV_LIST_SPACING;
    } else {
        /* The very first and last number stay free: then an end is as a neighbour. */
        *ret_position = low + (high - low) / 2;
    }
    return *ret_position > low && *ret_position < high;
}

/* Elements that lie in a range of numbers, and the place of one more among them. */
struct spread {
    uint64_t base;
    unsigned bits;
    uint64_t first; /* the place in the list of the first one */
    uint64_t n;     /* with the new one */
    uint64_t *positions;
    struct kv_slice *elements;
};

static uint64_t range_mask(unsigned bits)
{
    return bits == RANGE_BITS_MAX ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
}

/* The smallest range around the n-th element's place that may hold one more. */
static void find_range(struct kv_collection *list, uint64_t n, struct spread *ret_spread)
{
    const uint64_t anchor = position_of(kv_element_nth(list, n > 0 ? n - 1 : n));
    uint64_t capacity;

    for (unsigned bits = RANGE_BITS_MIN;; bits++) {
        uint64_t base = anchor & ~range_mask(bits);
        uint64_t last = base | range_mask(bits);

        ret_spread->base = base;
        ret_spread->bits = bits;
        ret_spread->first = rank_of(list, base);
        ret_spread->n = (last == UINT64_MAX ? list->large.count : rank_of(list, last + 1)) + 1 -
                        ret_spread->first;
        capacity = UINT64_C(1) << bits * 3 / 4;
        if (ret_spread->n <= capacity) {
            return;
        }
        /* 2^48 elements are in no memory. */
        KV_ASSERT(bits < RANGE_BITS_MAX);
    }
}

static uint64_t spread_position(const struct spread *spread, uint64_t i)
{
    uint64_t spacing = range_mask(spread->bits) / spread->n;

    return spread->base + spacing / 2 + i * spacing;
}

static void collect(struct kv_collection *list, uint64_t new_at, struct spread *spread)
{
    struct kv_list_cursor cursor = {.list = list};
    uint8_t name[POSITION_BYTES];

    spread->positions = kv_reply_alloc(list->machine, spread->n * sizeof *spread->positions);
    spread->elements = kv_reply_alloc(list->machine, spread->n * sizeof *spread->elements);
    kv_put_u64_be(name, spread->base);
    kv_element_seek(list, kv_slice_of(name, sizeof name), &cursor.elements);
    for (uint64_t i = 0; i < spread->n; i++) {
        const struct kv_record *record;

        if (i != new_at) {
            record = kv_element_next(&cursor.elements, NULL);
            spread->positions[i] = position_of(record);
            spread->elements[i] = kv_record_value(record);
        }
    }
}

/* Inserts before the n-th element, and spreads its neighbours evenly to make room. */
static int insert_spread(struct kv_collection *list,
                         uint64_t n,
                         struct kv_slice element,
                         struct kv_answer *answer)
{
    struct spread spread;
    uint64_t new_at, next = 0;
    int status;

    find_range(list, n, &spread);
    new_at = n - spread.first;
    status = kv_machine_work(list->machine, spread.n, answer);
    if (status != 0) {
        return status;
    }
    collect(list, new_at, &spread);
    /* Those whose number nobody will have go first; the others are replaced. */
    for (uint64_t i = 0; i < spread.n; i++) {
        if (i == new_at) {
            continue;
        }
        while (next < spread.n && spread_position(&spread, next) < spread.positions[i]) {
            next++;
        }
        if (next == spread.n || spread_position(&spread, next) != spread.positions[i]) {
            remove_at(list, spread.positions[i]);
        }
    }
    for (uint64_t i = 0; i < spread.n; i++) {
        if (i == new_at) {
            put_at(list, spread_position(&spread, i), element);
        } else if (spread.positions[i] != spread_position(&spread, i)) {
            put_at(list, spread_position(&spread, i), spread.elements[i]);
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- elements */

struct kv_slice kv_list_nth(struct kv_collection *list, uint64_t n)
{
    struct kv_element element;

    KV_ASSERT(list->revision == 0 && n < kv_collection_count(list));
    if (list->is_large) {
        return kv_record_value(kv_element_nth(list, n));
    }
    (void)kv_packed_get(&list->packed, kv_packed_nth(&list->packed, (unsigned)n), &element);
    return element.name;
}

static void enlarge(struct kv_collection *list)
{
    const struct kv_packed packed = kv_collection_enlarge(list);
    uint64_t position = POSITION_FIRST;
    size_t at = kv_packed_first();
    struct kv_element element;

    while ((at = kv_packed_get(&packed, at, &element)) > 0) {
        put_at(list, position, element.name);
        position += KV_LIST_SPACING;
    }
}

int kv_list_insert(struct kv_collection *list,
                   uint64_t n,
                   struct kv_slice element,
                   struct kv_answer *answer)
{
    uint64_t position;

    KV_ASSERT(n <= kv_collection_count(list));
    if (!list->is_large) {
        size_t at = kv_packed_nth(&list->packed, (unsigned)n);

        kv_collection_edit(list);
        if (kv_packed_splice(&list->packed, at, at, &(struct kv_element){.name = element})) {
            return 0;
        }
        enlarge(list);
    }
    if (!find_position(list, n, &position)) {
        return insert_spread(list, n, element, answer);
    }
    put_at(list, position, element);
    return 0;
}

void kv_list_replace(struct kv_collection *list, uint64_t n, struct kv_slice element)
{
    if (!list->is_large) {
        size_t at = kv_packed_nth(&list->packed, (unsigned)n);
        size_t end = kv_packed_nth(&list->packed, (unsigned)n + 1);

        kv_collection_edit(list);
        if (kv_packed_splice(&list->packed, at, end, &(struct kv_element){.name = element})) {
            return;
        }
        enlarge(list);
    }
    put_at(list, position_of(kv_element_nth(list, n)), element);
}

/* The inline form's memory moves under what it gave. */
static struct kv_slice copy_of(struct kv_machine *machine, struct kv_slice bytes)
{
    uint8_t *copy = kv_reply_alloc(machine, bytes.size);

    if (bytes.size > 0) {
        memcpy(copy, bytes.data, bytes.size);
    }
    return kv_slice_of(copy, bytes.size);
}

static void cut_packed(struct kv_collection *list, unsigned n)
{
    size_t at = kv_packed_nth(&list->packed, n);
    size_t end = kv_packed_nth(&list->packed, n + 1);

    kv_collection_edit(list);
    KV_ASSERT(kv_packed_splice(&list->packed, at, end, NULL));
}

struct kv_slice kv_list_pop(struct kv_collection *list, bool first)
{
    const uint64_t n = first ? 0 : kv_collection_count(list) - 1;
    const struct kv_record *record;
    struct kv_slice element;

    KV_ASSERT(kv_collection_count(list) > 0);
    if (list->is_large) {
        record = kv_element_nth(list, n);
        element = kv_record_value(record);
        remove_at(list, position_of(record));
    } else {
        element = copy_of(list->machine, kv_list_nth(list, n));
        cut_packed(list, (unsigned)n);
    }
    return element;
}

static void remove_packed(struct kv_collection *list,
                          struct kv_slice element,
                          uint64_t limit,
                          bool first,
                          uint64_t *ret_removed)
{
    unsigned places[KV_INLINE_ELEMENTS_MAX];
    unsigned found = 0, from = 0, to;
    struct kv_list_cursor cursor = {.list = list, .at = kv_packed_first()};
    struct kv_slice other;

    for (unsigned i = 0; kv_list_next(&cursor, &other); i++) {
        if (kv_slice_equal(other, element)) {
            places[found++] = i;
        }
    }
    to = found;
    if (limit < found && first) {
        to = (unsigned)limit;
    } else if (limit < found) {
        from = found - (unsigned)limit;
    }
    for (unsigned i = to; i > from; i--) {
        cut_packed(list, places[i - 1]);
    }
    *ret_removed = to - from;
}

static int remove_large(struct kv_collection *list,
                        struct kv_slice element,
                        uint64_t limit,
                        bool first,
                        struct kv_answer *answer,
                        uint64_t *ret_removed)
{
    struct kv_machine *machine = list->machine;
    struct kv_element_cursor cursor;
    const struct kv_record *record;
    uint64_t *positions = NULL;
    uint64_t visited = 0;
    size_t capacity = 0;
    size_t n = 0;

    if (first) {
        kv_element_seek(list, kv_slice_of(NULL, 0), &cursor);
    } else {
        kv_element_seek_before(list, kv_slice_of(NULL, 0), false, &cursor);
    }
    while (n < limit && (record = kv_element_next(&cursor, &visited))) {
        int status = kv_machine_work(machine, visited, answer);

        if (status != 0) {
            return status;
        }
        visited = 0;
        if (kv_slice_equal(kv_record_value(record), element)) {
            positions = kv_reply_grow(machine, positions, n, &capacity, sizeof *positions);
            positions[n++] = position_of(record);
        }
    }
    for (size_t i = 0; i < n; i++) {
        remove_at(list, positions[i]);
    }
    *ret_removed = n;
    return 0;
}

int kv_list_remove(struct kv_collection *list,
                   struct kv_slice element,
                   uint64_t limit,
                   bool first,
                   struct kv_answer *answer,
                   uint64_t *ret_removed)
{
    if (list->is_large) {
        return remove_large(list, element, limit, first, answer, ret_removed);
    }
    remove_packed(list, element, limit, first, ret_removed);
    return 0;
}

/* ---------------------------------------------------------------- walking */

/* Walks over n elements of a past revision, which has them, and counts that as work. */
static int walk(struct kv_list_cursor *cursor, uint64_t n, struct kv_answer *answer)
{
    struct kv_machine *machine = cursor->list->machine;
    int status = 0;

    for (uint64_t i = 0; i < n && status == 0; i++) {
        KV_ASSERT(kv_element_next(&cursor->elements, &cursor->n_visited));
        status = kv_machine_work(machine, cursor->n_visited, answer);
        cursor->n_visited = 0;
    }
    return status;
}

/* From the end, and then to where the element before lies. */
static int seek_from_end(struct kv_list_cursor *cursor, uint64_t from_end, struct kv_answer *answer)
{
    struct kv_collection *list = cursor->list;
    const struct kv_record *record;
    int status;

    kv_element_seek_before(list, kv_slice_of(NULL, 0), false, &cursor->elements);
    status = walk(cursor, from_end - 1, answer);
    if (status == 0) {
        record = kv_element_next(&cursor->elements, &cursor->n_visited);
        kv_element_seek(list, kv_element_name(record), &cursor->elements);
    }
    return status;
}

int kv_list_seek(struct kv_collection *list,
                 uint64_t n,
                 struct kv_answer *answer,
                 struct kv_list_cursor *ret_cursor)
{
    const uint64_t count = kv_collection_count(list);

    ret_cursor->list = list;
    ret_cursor->n_visited = 0;
    if (!list->is_large) {
        ret_cursor->at = kv_packed_nth(&list->packed, n < count ? (unsigned)n : (unsigned)count);
        return 0;
    }
    if (n >= count) {
        ret_cursor->elements = (struct kv_element_cursor){.collection = list};
        return 0;
    }
    if (list->revision == 0) {
        struct kv_slice name = kv_element_name(kv_element_nth(list, n));

        kv_element_seek(list, name, &ret_cursor->elements);
        return 0;
    }
    if (n > count / 2) {
        return seek_from_end(ret_cursor, count - n, answer);
    }
    kv_element_seek(list, kv_slice_of(NULL, 0), &ret_cursor->elements);
    return walk(ret_cursor, n, answer);
}

bool kv_list_next(struct kv_list_cursor *cursor, struct kv_slice *ret_element)
{
    const struct kv_record *record;
    struct kv_element element;
    size_t next;

    if (!cursor->list->is_large) {
        next = kv_packed_get(&cursor->list->packed, cursor->at, &element);
        cursor->n_visited += next > 0;
        cursor->at = next > 0 ? next : cursor->at;
        *ret_element = element.name;
        return next > 0;
    }
    record = kv_element_next(&cursor->elements, &cursor->n_visited);
    if (record) {
        *ret_element = kv_record_value(record);
    }
    return record != NULL;
}
