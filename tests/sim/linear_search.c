#include "tests/sim/linear.h"

#include "common/assert.h"

#include <stdlib.h>
#include <string.h>

enum { MEMO_CAPACITY_MIN = 1024, NOT_ENDED = UINT32_MAX };

struct print { /* of a set of operations and a state */
    uint64_t a, b;
};

enum phase { PHASE_FREE, PHASE_REQUIRED, PHASE_OPTIONAL };

/* Where to look on at the present depth. */
struct cursor {
    enum phase phase;
    uint32_t place; /* an event of the list, or a place among the optional ones */
};

struct frame {
    struct kv_key_state state; /* before */
    uint32_t touch;
    uint32_t place; /* among the optional ones */
    bool is_optional;
    bool is_free; /* there was no choice */
    bool is_ranked;
};

struct kv_search {
    struct kv_values *values;
    const int64_t *next_gap;
    int64_t newest;
    uint64_t steps_max;
    uint64_t memo_max;

    const struct kv_linear_key *key;
    size_t capacity;  /* of the arrays by touch */
    uint32_t *begins; /* place of the begin among the events */
    uint32_t *ends;   /* NOT_ENDED: none */
    uint32_t *next;   /* list of events that are not done, by event; 2n: head, 2n + 1: tail */
    uint32_t *previous;
    uint32_t *optional; /* touches that may be left out, by begin */
    size_t n_optional;
    bool *done;       /* by place in optional */
    uint32_t *ranked; /* touches that go in the order of their ranks */
    size_t n_ranked;
    size_t ranked_done;
    bool by_revision;
    struct frame *frames;
    size_t n_frames;
    struct kv_key_state state;
    struct print set;

    struct print *memo;
    size_t memo_allocated;
    size_t memo_capacity; /* in use; a power of two */
    size_t memo_count;
    bool memo_full;

    uint64_t steps;
    size_t n_required_done;
    size_t furthest;
    const struct kv_touch *stuck;
    struct kv_key_state stuck_state;
};

struct kv_search *kv_search_open(struct kv_values *values,
                                 const int64_t *next_gap,
                                 int64_t newest,
                                 uint64_t steps_max,
                                 uint64_t memo_max)
{
    struct kv_search *search = calloc(1, sizeof *search);

    KV_ASSERT(search);
    search->values = values;
    search->next_gap = next_gap;
    search->newest = newest;
    search->steps_max = steps_max;
    search->memo_max = memo_max;
    return search;
}

static void free_arrays(struct kv_search *search)
{
    free(search->begins);
    free(search->ends);
    free(search->next);
    free(search->previous);
    free(search->optional);
    free(search->done);
    free(search->ranked);
    free(search->frames);
}

void kv_search_close(struct kv_search *search)
{
    free_arrays(search);
    free(search->memo);
    free(search);
}

static void *allocate(size_t n, size_t size)
{
    void *memory = malloc((n ? n : 1) * size);

    KV_ASSERT(memory);
    return memory;
}

static void reserve(struct kv_search *search, size_t n)
{
    /* The first key may have been refused whatever was asked of it, and have no touches. */
    if (n < search->capacity) {
        return;
    }
    free_arrays(search);
    search->capacity = n = 2 * n + 1;
    search->begins = allocate(n, sizeof *search->begins);
    search->ends = allocate(n, sizeof *search->ends);
    search->next = allocate(2 * n + 2, sizeof *search->next);
    search->previous = allocate(2 * n + 2, sizeof *search->previous);
    search->optional = allocate(n, sizeof *search->optional);
    search->done = allocate(n, sizeof *search->done);
    search->ranked = allocate(n, sizeof *search->ranked);
    search->frames = allocate(n, sizeof *search->frames);
}

/* --- memo --- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static struct print print_of_touch(uint32_t touch)
{
    return (struct print){mix(touch + UINT64_C(0x9e3779b97f4a7c15)),
                          mix(touch + UINT64_C(0xd1b54a32d192ed03))};
}

static void toggle(struct print *set, uint32_t touch)
{
    struct print print = print_of_touch(touch);

    set->a ^= print.a;
    set->b ^= print.b;
}

static struct print print_of_all(const struct print *set, const struct kv_key_state *state)
{
    const uint64_t parts[] = {state->presence,
                              state->value ? state->value->number : 0,
                              (uint64_t)state->create,
                              (uint64_t)state->version,
                              (uint64_t)state->mod,
                              (uint64_t)state->mod_min};
    struct print print = *set;

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        print.a = mix(print.a + parts[i] + i);
        print.b = mix((print.b ^ parts[i]) + UINT64_C(0x632be59bd9b4e019));
    }
    print.b |= 1; /* all zero is an empty slot */
    return print;
}

static size_t memo_slot(const struct kv_search *search, const struct print *print)
{
    size_t i = (size_t)print->a & (search->memo_capacity - 1);

    while (search->memo[i].b != 0 &&
           (search->memo[i].a != print->a || search->memo[i].b != print->b)) {
        i = (i + 1) & (search->memo_capacity - 1);
    }
    return i;
}

static void memo_reset(struct kv_search *search)
{
    if (search->memo_allocated == 0) {
        search->memo = allocate(MEMO_CAPACITY_MIN, sizeof *search->memo);
        search->memo_allocated = MEMO_CAPACITY_MIN;
    }
    search->memo_capacity = MEMO_CAPACITY_MIN;
    memset(search->memo, 0, search->memo_capacity * sizeof *search->memo);
    search->memo_count = 0;
    search->memo_full = false;
}

static void memo_grow(struct kv_search *search)
{
    struct print *old = search->memo;
    size_t old_capacity = search->memo_capacity;

    search->memo_capacity = search->memo_allocated = 2 * old_capacity;
    search->memo = calloc(search->memo_capacity, sizeof *search->memo);
    KV_ASSERT(search->memo);
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i].b != 0) {
            search->memo[memo_slot(search, &old[i])] = old[i];
        }
    }
    free(old);
}

/* True when the set of operations has led to this state before: nothing new can come of it. */
static bool was_here(struct kv_search *search, uint32_t touch, const struct kv_key_state *state)
{
    struct print set = search->set;
    struct print print;
    size_t slot;

    toggle(&set, touch);
    print = print_of_all(&set, state);
    slot = memo_slot(search, &print);
    if (search->memo[slot].b != 0) {
        return true;
    }
    if (search->memo_count == search->memo_max) {
        search->memo_full = true;
        return true;
    }
    search->memo[slot] = print;
    if (2 * ++search->memo_count > search->memo_capacity) {
        memo_grow(search);
    }
    return false;
}

/* --- list of what is to be done --- */

static uint32_t head_of(const struct kv_search *search)
{
    return (uint32_t)(2 * search->key->n_touches);
}

static bool is_end(uint32_t event)
{
    return event & 1; /* so is the tail */
}

static void unlink_event(struct kv_search *search, uint32_t event)
{
    search->next[search->previous[event]] = search->next[event];
    search->previous[search->next[event]] = search->previous[event];
}

static void relink_event(struct kv_search *search, uint32_t event)
{
    search->next[search->previous[event]] = event;
    search->previous[search->next[event]] = event;
}

static bool is_ranked(const struct kv_search *search, uint32_t touch)
{
    return search->key->ranks[touch] != 0 &&
           (search->by_revision || search->key->touches[touch]->changes);
}

static void push(struct kv_search *search, struct frame frame, const struct kv_key_state *next)
{
    frame.state = search->state;
    frame.is_ranked = is_ranked(search, frame.touch);
    search->ranked_done += frame.is_ranked;
    if (frame.is_optional) {
        search->done[frame.place] = true;
    } else {
        unlink_event(search, 2 * frame.touch);
        unlink_event(search, 2 * frame.touch + 1);
        search->n_required_done++;
    }
    toggle(&search->set, frame.touch);
    search->state = *next;
    search->frames[search->n_frames++] = frame;
}

/* Takes back the last choice, and what followed from it without one; false: there was none. */
static bool backtrack(struct kv_search *search, struct cursor *ret_cursor)
{
    while (search->n_frames > 0) {
        const struct frame *frame = &search->frames[--search->n_frames];

        search->state = frame->state;
        search->ranked_done -= frame->is_ranked;
        toggle(&search->set, frame->touch);
        if (frame->is_optional) {
            search->done[frame->place] = false;
            *ret_cursor = (struct cursor){PHASE_OPTIONAL, frame->place + 1};
        } else {
            relink_event(search, 2 * frame->touch + 1);
            relink_event(search, 2 * frame->touch);
            search->n_required_done--;
            *ret_cursor = (struct cursor){PHASE_REQUIRED, search->next[2 * frame->touch]};
        }
        if (!frame->is_free) {
            return true;
        }
    }
    return false;
}

/* --- choices --- */

/* Never changes anything, whatever the state. */
static bool is_pure(const struct kv_touch *touch)
{
    return touch->kind <= KV_TOUCH_SLICE || (touch->answered && touch->op->status != 0) ||
           (touch->answered && touch->kind == KV_TOUCH_DELETE && touch->presence == KV_SEEN_ABSENT);
}

/* One that goes in the order of ranks waits for those with smaller ones. */
static bool must_wait(const struct kv_search *search, uint32_t touch)
{
    const int64_t *ranks = search->key->ranks;

    return is_ranked(search, touch) && (search->ranked_done == search->n_ranked ||
                                        ranks[search->ranked[search->ranked_done]] != ranks[touch]);
}

static enum kv_step
try_touch(struct kv_search *search, uint32_t number, struct kv_key_state *ret_next)
{
    const struct kv_touch *touch = search->key->touches[number];
    int64_t floor = kv_key_state_floor(&search->state);
    int64_t revision = search->key->revisions[number];
    int64_t gap = floor;

    if (!touch->answered && search->next_gap) {
        /* It must have made a revision that no answered write did, not after the next told one. */
        gap = floor < search->newest ? search->next_gap[floor] : floor + 1;
        if (search->ranked_done < search->n_ranked &&
            search->key->ranks[search->ranked[search->ranked_done]] / 2 < gap) {
            return KV_STEP_MISMATCH;
        }
    }
    search->steps++;
    return kv_model_step(
        search->values, touch, touch->answered ? revision : 0, gap, &search->state, ret_next);
}

/* Looks that fit now, and teach nothing, can be taken at once: they may as well be the first. */
static bool take_free(struct kv_search *search)
{
    for (uint32_t event = search->next[head_of(search)]; !is_end(event);
         event = search->next[event]) {
        struct kv_key_state next;

        if (is_pure(search->key->touches[event / 2]) && !must_wait(search, event / 2) &&
            try_touch(search, event / 2, &next) == KV_STEP_SAME) {
            push(search, (struct frame){.touch = event / 2, .is_free = true}, &next);
            return true;
        }
    }
    return false;
}

static bool take_required(struct kv_search *search, uint32_t event)
{
    for (; !is_end(event); event = search->next[event]) {
        struct kv_key_state next;

        if (!must_wait(search, event / 2) &&
            try_touch(search, event / 2, &next) != KV_STEP_MISMATCH &&
            !was_here(search, event / 2, &next)) {
            push(search, (struct frame){.touch = event / 2}, &next);
            return true;
        }
    }
    return false;
}

/* The first end that is still to come; all that is done now must have begun before it. */
static uint32_t first_end(const struct kv_search *search)
{
    uint32_t event = search->next[head_of(search)];

    while (!is_end(event)) {
        event = search->next[event];
    }
    return event;
}

static bool take_optional(struct kv_search *search, uint32_t place)
{
    uint32_t limit = search->ends[first_end(search) / 2];

    for (; place < search->n_optional; place++) {
        uint32_t touch = search->optional[place];
        struct kv_key_state next;

        if (search->begins[touch] > limit) {
            return false;
        }
        if (!search->done[place] && !must_wait(search, touch) &&
            try_touch(search, touch, &next) == KV_STEP_CHANGED && !was_here(search, touch, &next)) {
            push(
                search, (struct frame){.touch = touch, .place = place, .is_optional = true}, &next);
            return true;
        }
    }
    return false;
}

static bool advance(struct kv_search *search, struct cursor cursor)
{
    if (cursor.phase == PHASE_FREE) {
        if (take_free(search)) {
            return true;
        }
        cursor = (struct cursor){PHASE_REQUIRED, search->next[head_of(search)]};
    }
    if (cursor.phase == PHASE_REQUIRED) {
        if (take_required(search, cursor.place)) {
            return true;
        }
        cursor = (struct cursor){PHASE_OPTIONAL, 0};
    }
    return take_optional(search, cursor.place);
}

/* --- a run --- */

static void note_stuck(struct kv_search *search)
{
    if (search->stuck && search->n_required_done <= search->furthest) {
        return;
    }
    search->furthest = search->n_required_done;
    search->stuck = search->key->touches[first_end(search) / 2];
    search->stuck_state = search->state;
}

static void append_event(struct kv_search *search, uint32_t event)
{
    uint32_t tail = head_of(search) + 1;

    search->previous[event] = search->previous[tail];
    search->next[event] = tail;
    search->next[search->previous[tail]] = event;
    search->previous[tail] = event;
}

/* Small ranks first; nearly all are in that order already. */
static void sort_ranked(struct kv_search *search)
{
    const int64_t *ranks = search->key->ranks;

    for (size_t i = 1; i < search->n_ranked; i++) {
        uint32_t touch = search->ranked[i];
        size_t to = i;

        for (; to > 0 && ranks[search->ranked[to - 1]] > ranks[touch]; to--) {
            search->ranked[to] = search->ranked[to - 1];
        }
        search->ranked[to] = touch;
    }
}

static void find_places(struct kv_search *search)
{
    const struct kv_linear_key *key = search->key;

    for (size_t i = 0; i < key->n_touches; i++) {
        search->ends[i] = NOT_ENDED;
    }
    for (uint32_t i = 0; i < key->n_events; i++) {
        if (is_end(key->events[i])) {
            search->ends[key->events[i] / 2] = i;
        } else {
            search->begins[key->events[i] / 2] = i;
        }
    }
}

/* Sorts the events of the window into required and optional ones. */
static void prepare(struct kv_search *search, const struct kv_linear_window *window)
{
    const struct kv_linear_key *key = search->key;
    uint32_t head = head_of(search);

    search->next[head] = head + 1;
    search->previous[head + 1] = head;
    search->by_revision = window->by_revision;
    search->n_optional = search->n_ranked = search->ranked_done = search->n_frames = 0;
    find_places(search);
    for (size_t i = 0; i < window->to; i++) {
        uint32_t touch = key->events[i] / 2;
        uint32_t end = search->ends[touch];
        bool required = end < window->to;

        if (end < window->from || (window->skip && window->skip[touch])) {
            continue;
        }
        if (required) {
            append_event(search, key->events[i]);
        }
        if (is_end(key->events[i]) || (!required && is_pure(key->touches[touch]))) {
            continue;
        }
        if (!required) {
            search->done[search->n_optional] = false;
            search->optional[search->n_optional++] = touch;
        }
        if (is_ranked(search, touch)) {
            search->ranked[search->n_ranked++] = touch;
        }
    }
    sort_ranked(search);
}

enum kv_linear_result kv_search_run(struct kv_search *search,
                                    const struct kv_linear_key *key,
                                    const struct kv_linear_window *window)
{
    struct cursor cursor = {PHASE_FREE, 0};

    search->key = key;
    reserve(search, key->n_touches);
    prepare(search, window);
    memo_reset(search);
    if (window->from == 0) {
        kv_key_state_init(&search->state);
    } else {
        kv_key_state_forget(&search->state);
    }
    search->set = (struct print){0, 0};
    search->steps = 0;
    search->n_required_done = search->furthest = 0;
    search->stuck = NULL;
    while (search->next[head_of(search)] != head_of(search) + 1) {
        if (search->steps++ > search->steps_max || search->memo_full) {
            return KV_LINEAR_GAVE_UP;
        }
        if (advance(search, cursor)) {
            cursor.phase = PHASE_FREE;
            continue;
        }
        note_stuck(search);
        if (search->memo_full) {
            return KV_LINEAR_GAVE_UP;
        }
        if (!backtrack(search, &cursor)) {
            return KV_LINEAR_FITS_NOT;
        }
    }
    return KV_LINEAR_FITS;
}

uint64_t kv_search_steps(const struct kv_search *search)
{
    return search->steps;
}

uint64_t kv_search_memo(const struct kv_search *search)
{
    return search->memo_count;
}

const struct kv_touch *kv_search_stuck(const struct kv_search *search,
                                       struct kv_key_state *ret_state)
{
    *ret_state = search->stuck_state;
    return search->stuck;
}
