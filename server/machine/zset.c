#include "server/machine/zset.h"

#include "common/assert.h"
#include "server/machine/zset_index.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- members */

/* Where the member is in the inline form. */
static bool find_packed(const struct kv_packed *packed,
                        struct kv_slice member,
                        size_t *ret_at,
                        size_t *ret_end,
                        double *ret_score)
{
    size_t at = kv_packed_first();
    struct kv_element element;
    size_t next;

    while ((next = kv_packed_get(packed, at, &element)) > 0) {
        if (element.name.size == member.size && kv_slice_equal(element.name, member)) {
            *ret_at = at;
            *ret_end = next;
            *ret_score = element.score;
            return true;
        }
        at = next;
    }
    return false;
}

/* Where it belongs there. */
static size_t find_place(const struct kv_packed *packed, const struct kv_element *wanted)
{
    size_t at = kv_packed_first();
    struct kv_element element;
    size_t next;

    while ((next = kv_packed_get(packed, at, &element)) > 0 &&
           (element.score < wanted->score ||
            (element.score == wanted->score && kv_slice_compare(element.name, wanted->name) < 0))) {
        at = next;
    }
    return at;
}

bool kv_zset_find(struct kv_collection *zset, struct kv_slice member, double *ret_score)
{
    const struct kv_record *record;
    size_t at, end;

    if (!zset->is_large) {
        return find_packed(&zset->packed, member, &at, &end, ret_score);
    }
    record = kv_element_find(zset, member);
    if (record) {
        *ret_score = kv_zset_score_of(record);
    }
    return record != NULL;
}

static bool put_element(struct kv_collection *zset, struct kv_slice member, double score)
{
    const struct kv_record *former;
    struct kv_zset_index_key key;
    uint8_t bits[8];

    /* Comes while the element is put. */
    kv_tree_prefetch(&zset->machine->scores,
                     kv_zset_index_key(zset->large.id, kv_score_order(score), member, &key));
    kv_put_u64(bits, kv_score_bits(score));
    former = kv_element_put(zset, member, kv_slice_of(bits, sizeof bits));
    if (former) {
        kv_zset_index_remove(zset->machine, former);
    }
    kv_zset_index_add(zset->machine, zset->large.id, score, member);
    return !former;
}

static void enlarge(struct kv_collection *zset)
{
    const struct kv_packed packed = kv_collection_enlarge(zset);
    size_t at = kv_packed_first();
    struct kv_element element;

    while ((at = kv_packed_get(&packed, at, &element)) > 0) {
        (void)put_element(zset, element.name, element.score);
    }
}

bool kv_zset_put(struct kv_collection *zset, struct kv_slice member, double score)
{
    const struct kv_element element = {.name = member, .score = score + 0.0 /* no -0 */};
    size_t at, end;
    double former;
    bool found;

    if (zset->is_large) {
        return put_element(zset, member, element.score);
    }
    found = find_packed(&zset->packed, member, &at, &end, &former);
    kv_collection_edit(zset);
    if (found) {
        KV_ASSERT(kv_packed_splice(&zset->packed, at, end, NULL));
    }
    at = find_place(&zset->packed, &element);
    if (!kv_packed_splice(&zset->packed, at, at, &element)) {
        enlarge(zset);
        (void)put_element(zset, member, element.score);
    }
    return !found;
}

bool kv_zset_remove(struct kv_collection *zset, struct kv_slice member)
{
    const struct kv_record *former;
    size_t at, end;
    double score;

    if (zset->is_large) {
        former = kv_element_remove(zset, member);
        if (former) {
            kv_zset_index_remove(zset->machine, former);
        }
        return former != NULL;
    }
    if (!find_packed(&zset->packed, member, &at, &end, &score)) {
        return false;
    }
    kv_collection_edit(zset);
    return kv_packed_splice(&zset->packed, at, end, NULL);
}

/* ---------------------------------------------------------------- arrays */

static void collect_packed(const struct kv_packed *packed, struct kv_zset_member *members)
{
    size_t at = kv_packed_first();
    struct kv_element element;

    while ((at = kv_packed_get(packed, at, &element)) > 0) {
        *members++ = (struct kv_zset_member){element.name, element.score};
    }
}

int kv_zset_collect(struct kv_collection *zset,
                    struct kv_answer *answer,
                    struct kv_zset_member **ret_members)
{
    struct kv_machine *machine = zset->machine;
    const uint64_t n = kv_collection_count(zset);
    const struct kv_record *record;
    struct kv_element_cursor cursor;
    struct kv_zset_member *members;
    uint64_t n_visited = 0;
    int status;

    if (zset->is_large && n > machine->settings.work_elements) {
        return kv_machine_work(machine, n, answer);
    }
    members = *ret_members = kv_reply_alloc(machine, n * sizeof *members);
    if (!zset->is_large) {
        collect_packed(&zset->packed, members);
        return 0;
    }
    kv_element_seek(zset, kv_slice_of(NULL, 0), &cursor);
    while ((record = kv_element_next(&cursor, &n_visited))) {
        status = kv_machine_work(machine, n_visited, answer);
        if (status != 0) {
            return status;
        }
        n_visited = 0;
        *members++ = (struct kv_zset_member){kv_element_name(record), kv_zset_score_of(record)};
    }
    KV_ASSERT(members == *ret_members + n);
    return 0;
}

static int compare_members(const void *a, const void *b)
{
    return kv_slice_compare(((const struct kv_zset_member *)a)->member,
                            ((const struct kv_zset_member *)b)->member);
}

static int compare_scores(const void *a, const void *b)
{
    double x = ((const struct kv_zset_member *)a)->score;
    double y = ((const struct kv_zset_member *)b)->score;

    return x != y ? (x > y) - (x < y) : compare_members(a, b);
}

void kv_zset_sort(struct kv_zset_member *members, uint64_t n, bool by_member)
{
    if (n > 1) {
        qsort(members, n, sizeof *members, by_member ? compare_members : compare_scores);
    }
}

/* ---------------------------------------------------------------- views */

/* The tree's key of what is at or behind. */
static struct kv_slice view_key(const struct kv_zset_view *view,
                                uint64_t order,
                                struct kv_slice member,
                                struct kv_zset_index_key *memory)
{
    return view->by_member ? kv_element_key(view->zset, member)
                           : kv_zset_index_key(view->zset->large.id, order, member, memory);
}

int kv_zset_view_open(struct kv_collection *zset,
                      bool by_member,
                      struct kv_answer *answer,
                      struct kv_zset_view *ret_view)
{
    struct kv_zset_view view = {
        .zset = zset, .by_member = by_member, .n = kv_collection_count(zset)};
    struct kv_zset_member *members;
    uint8_t prefix[KV_COLLECTION_ID_BYTES];
    int status;

    if (zset->is_large && zset->revision == 0) {
        view.tree = by_member ? &zset->machine->elements : &zset->machine->scores;
        kv_put_u64_be(prefix, zset->large.id);
        view.n_before = kv_tree_rank(view.tree, kv_slice_of(prefix, sizeof prefix));
        *ret_view = view;
        return 0;
    }
    status = kv_zset_collect(zset, answer, &members);
    if (status != 0) {
        return status;
    }
    /* Inline they are by score, as elements by member. */
    if (by_member != zset->is_large) {
        kv_zset_sort(members, view.n, by_member);
    }
    view.members = members;
    *ret_view = view;
    return 0;
}

/* Does the member come before (order, member)? */
static bool comes_before(const struct kv_zset_view *view,
                         const struct kv_zset_member *at,
                         uint64_t order,
                         struct kv_slice member)
{
    uint64_t mine = kv_score_order(at->score);

    return !view->by_member && mine != order ? mine < order
                                             : kv_slice_compare(at->member, member) < 0;
}

static uint64_t
rank_in_array(const struct kv_zset_view *view, uint64_t order, struct kv_slice member)
{
    uint64_t low = 0, high = view->n;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (comes_before(view, &view->members[middle], order, member)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

uint64_t kv_zset_view_rank(const struct kv_zset_view *view, uint64_t order, struct kv_slice member)
{
    struct kv_zset_index_key memory;

    if (!view->tree) {
        return rank_in_array(view, order, member);
    }
    return kv_tree_rank(view->tree, view_key(view, order, member, &memory)) - view->n_before;
}

uint64_t
kv_zset_view_rank_of(const struct kv_zset_view *view, uint64_t order, struct kv_slice member)
{
    struct kv_zset_index_key memory;

    if (!view->tree) {
        return rank_in_array(view, order, member);
    }
    return kv_tree_rank_of(view->tree, view_key(view, order, member, &memory)) - view->n_before;
}

void kv_zset_seek(const struct kv_zset_view *view,
                  uint64_t position,
                  bool descending,
                  struct kv_zset_cursor *ret_cursor)
{
    const struct kv_record *record;

    ret_cursor->view = view;
    ret_cursor->at = position;
    ret_cursor->descending = descending;
    if (view->tree) {
        KV_ASSERT(position < view->n);
        record = kv_tree_nth(view->tree, view->n_before + position);
        kv_tree_seek(view->tree, kv_record_key(record), &ret_cursor->tree);
    }
}

/* A record of the index goes with the next change of its member, so the bytes are copied. */
static struct kv_slice copy_member(struct kv_machine *machine, struct kv_slice member)
{
    uint8_t *bytes = kv_reply_alloc(machine, member.size);

    memcpy(bytes, member.data, member.size);
    return kv_slice_of(bytes, member.size);
}

void kv_zset_next(struct kv_zset_cursor *cursor, struct kv_zset_member *ret_member)
{
    const struct kv_zset_view *view = cursor->view;
    const struct kv_record *record;

    if (!view->tree) {
        *ret_member = view->members[cursor->descending ? cursor->at-- : cursor->at++];
        return;
    }
    kv_tree_skip_dead(&cursor->tree, !cursor->descending);
    record = kv_tree_cursor_get(&cursor->tree);
    if (view->by_member) {
        *ret_member = (struct kv_zset_member){kv_element_name(record), kv_zset_score_of(record)};
    } else {
        *ret_member =
            (struct kv_zset_member){copy_member(view->zset->machine, kv_zset_index_member(record)),
                                    kv_zset_index_score(record)};
    }
    if (cursor->descending) {
        kv_tree_previous(&cursor->tree);
    } else {
        kv_tree_next(&cursor->tree);
    }
}
