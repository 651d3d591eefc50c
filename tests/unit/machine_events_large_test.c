/* Events of one revision that changed many large collections. */
#include "common/limits.h"
#include "server/machine/events.h"
#include "tests/support/machine_calls.h"
#include "tests/support/machine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HASHES = 20, FIELDS = 400, CHANGED = 300 };
_Static_assert(HASHES *CHANGED > KV_CATCH_UP_RECORDS, "more records than are looked at at once");

static struct machine_rig rig;
static struct kv_arena arena;

static const char *key_of(unsigned hash)
{
    static char keys[HASHES][16];

    snprintf(keys[hash], sizeof keys[hash], "hash%02u", hash);
    return keys[hash];
}

static void change_all(void)
{
    Kv__Request *operations[HASHES];
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Txn txn = KV__TXN__INIT;

    for (unsigned i = 0; i < HASHES; i++) {
        operations[i] = call_hash_set(&arena, key_of(i), i, CHANGED, "new");
    }
    txn.n_then = HASHES;
    txn.then = operations;
    request.command_case = KV__REQUEST__COMMAND_TXN;
    request.txn = &txn;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
}

/* Each is told once, whole: none is looked for among the records of all others. */
static void each_hash_is_one_event(void **state)
{
    struct kv_event_query query = {.kinds = UINT8_MAX, .types = UINT16_MAX};
    struct kv_event_position position;
    struct kv_event_piece piece = {.more = true};
    struct kv_buf buf;
    unsigned next = 0;

    (void)state;
    machine_rig_open(&rig, 1);
    rig.checks = false;
    kv_arena_init(&arena, 64 * KV_MIB);
    kv_buf_init(&buf, 16 * KV_MIB);
    for (unsigned i = 0; i < HASHES; i++) {
        machine_rig_expect(&rig, call_hash_set(&arena, key_of(i), 0, FIELDS, "old"), KV__CODE__OK);
    }
    position = (struct kv_event_position){.revision = kv_machine_revision(rig.machine) + 1};
    change_all();
    while (piece.more) {
        Kv__WatchEvents *events;

        piece = (struct kv_event_piece){.max_bytes = KV_CATCH_UP_BYTES,
                                        .max_records = KV_CATCH_UP_RECORDS,
                                        .to_revision = kv_machine_revision(rig.machine)};
        kv_buf_clear(&buf);
        kv_machine_read_events(rig.machine, &query, &position, &piece, &buf);
        events = kv__watch_events__unpack(NULL, buf.size, buf.data);
        assert_non_null(events);
        for (size_t i = 0; i < events->n_events; i++) {
            const Kv__Event *event = events->events[i];
            const char *key = key_of(next);
            char field[16];

            assert_int_equal(event->kv->key.len, strlen(key));
            assert_memory_equal(event->kv->key.data, key, strlen(key));
            assert_int_equal(event->n_fields, CHANGED);
            snprintf(field, sizeof field, "f%03u", next);
            assert_memory_equal(event->fields[0]->name.data, field, strlen(field));
            next++;
        }
        kv__watch_events__free_unpacked(events, NULL);
    }
    assert_int_equal(next, HASHES);
    kv_buf_deinit(&buf);
    kv_arena_deinit(&arena);
    machine_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_hash_is_one_event),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
