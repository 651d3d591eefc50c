#include "server/machine/map.h"

#include "common/assert.h"

/* Where the name is, or belongs, in the inline form: [*ret_at, *ret_end) is its element. */
static bool find_packed(const struct kv_packed *packed,
                        struct kv_slice name,
                        size_t *ret_at,
                        size_t *ret_end,
                        struct kv_slice *ret_value)
{
    size_t at = kv_packed_first();
    struct kv_element element;
    size_t next;

    while ((next = kv_packed_get(packed, at, &element)) > 0) {
        int order = kv_slice_compare(element.name, name);

        if (order >= 0) {
            *ret_at = at;
            *ret_end = order == 0 ? next : at;
            *ret_value = element.value;
            return order == 0;
        }
        at = next;
    }
    *ret_at = *ret_end = at;
    return false;
}

bool kv_map_find(struct kv_collection *map, struct kv_slice name, struct kv_slice *ret_value)
{
    const struct kv_record *record;
    size_t at, end;

    if (!map->is_large) {
        return find_packed(&map->packed, name, &at, &end, ret_value);
    }
    record = kv_element_find(map, name);
    if (record) {
        *ret_value = kv_record_value(record);
    }
    return record != NULL;
}

static void enlarge(struct kv_collection *map)
{
    const struct kv_packed packed = kv_collection_enlarge(map);
    size_t at = kv_packed_first();
    struct kv_element element;

    while ((at = kv_packed_get(&packed, at, &element)) > 0) {
        (void)kv_element_put(map, element.name, element.value);
    }
}

int64_t kv_map_expires_at_ms(struct kv_collection *map, struct kv_slice name)
{
    return map->is_large ? kv_record_life(kv_element_find(map, name)).expires_at_ms : 0;
}

bool kv_map_put(struct kv_collection *map, struct kv_slice name, struct kv_slice value)
{
    return kv_map_put_until(map, name, value, 0);
}

bool kv_map_put_until(struct kv_collection *map,
                      struct kv_slice name,
                      struct kv_slice value,
                      int64_t expires_at_ms)
{
    const struct kv_element element = {.name = name, .value = value};

    /* The inline form knows no times. */
    if (!map->is_large && expires_at_ms != 0) {
        enlarge(map);
    }
    if (!map->is_large) {
        struct kv_slice former;
        size_t at, end;
        bool found = find_packed(&map->packed, name, &at, &end, &former);

        kv_collection_edit(map);
        if (kv_packed_splice(&map->packed, at, end, &element)) {
            return !found;
        }
        enlarge(map);
    }
    return !kv_element_put_until(map, name, value, expires_at_ms);
}

bool kv_map_remove(struct kv_collection *map, struct kv_slice name)
{
    struct kv_slice value;
    size_t at, end;

    if (map->is_large) {
        return kv_element_remove(map, name) != NULL;
    }
    if (!find_packed(&map->packed, name, &at, &end, &value)) {
        return false;
    }
    kv_collection_edit(map);
    return kv_packed_splice(&map->packed, at, end, NULL);
}

static void fill_element(const struct kv_record *record, struct kv_element *ret_element)
{
    *ret_element = (struct kv_element){.name = kv_element_name(record),
                                       .value = kv_record_value(record),
                                       .expires_at_ms = kv_record_life(record).expires_at_ms};
}

void kv_map_nth(struct kv_collection *map, uint64_t n, struct kv_element *ret_element)
{
    KV_ASSERT(n < kv_collection_count(map));
    if (map->is_large) {
        fill_element(kv_element_nth(map, n), ret_element);
    } else {
        (void)kv_packed_get(&map->packed, kv_packed_nth(&map->packed, (unsigned)n), ret_element);
    }
}

void kv_map_seek(struct kv_collection *map, struct kv_slice from, struct kv_map_cursor *ret_cursor)
{
    struct kv_slice value;
    size_t end;

    ret_cursor->map = map;
    ret_cursor->n_visited = 0;
    if (map->is_large) {
        kv_element_seek(map, from, &ret_cursor->elements);
    } else {
        (void)find_packed(&map->packed, from, &ret_cursor->at, &end, &value);
    }
}

bool kv_map_next(struct kv_map_cursor *cursor, struct kv_element *ret_element)
{
    const struct kv_record *record;
    size_t next;

    if (!cursor->map->is_large) {
        next = kv_packed_get(&cursor->map->packed, cursor->at, ret_element);
        cursor->n_visited += next > 0;
        cursor->at = next > 0 ? next : cursor->at;
        return next > 0;
    }
    record = kv_element_next(&cursor->elements, &cursor->n_visited);
    if (record) {
        fill_element(record, ret_element);
    }
    return record != NULL;
}
