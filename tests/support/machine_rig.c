#include "tests/support/machine_rig.h"

#include "common/limits.h"
#include "server/machine/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void machine_rig_open(struct machine_rig *rig, uint64_t seed)
{
    *rig = (struct machine_rig){.cluster_time_ms = 1000,
                                .random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1,
                                .checks = true};
    assert_int_equal(kv_machine_open(&rig->machine), 0);
}

void machine_rig_close(struct machine_rig *rig)
{
    kv_machine_close(rig->machine);
    rig->machine = NULL;
}

uint64_t machine_rig_random(struct machine_rig *rig, uint64_t below)
{
    rig->random_state ^= rig->random_state >> 12;
    rig->random_state ^= rig->random_state << 25;
    rig->random_state ^= rig->random_state >> 27;
    return (rig->random_state * UINT64_C(2685821657736338717) >> 33) % below;
}

/* What the machine answers borrows its memory: a copy by way of the wire. */
static void capture(void *arg, Kv__Reply *reply)
{
    Kv__Reply **ret_reply = arg;
    size_t size = kv__reply__get_packed_size(reply);
    uint8_t *packed = malloc(size + 1);

    kv__reply__pack(reply, packed);
    *ret_reply = kv__reply__unpack(NULL, size, packed);
    free(packed);
}

static void apply(struct machine_rig *rig, Kv__Request *request, Kv__Reply **ret_reply)
{
    rig->log_index++;
    assert_int_equal(
        kv_machine_begin(rig->machine, rig->log_index, KV_MACHINE_VERSION, rig->cluster_time_ms),
        0);
    if (request) {
        kv_machine_execute(rig->machine, request, capture, ret_reply);
    }
    kv_machine_end(rig->machine);
    if (rig->checks) {
        kv_machine_check_invariants(rig->machine);
    }
}

Kv__Reply *machine_rig_write(struct machine_rig *rig, Kv__Request *request)
{
    Kv__Reply *reply = NULL;

    if (!rig->is_still) {
        rig->cluster_time_ms += (int64_t)machine_rig_random(rig, 3);
    }
    apply(rig, request, &reply);
    assert_non_null(reply);
    return reply;
}

Kv__Reply *machine_rig_read(struct machine_rig *rig, Kv__Request *request)
{
    Kv__Reply *reply = NULL;

    kv_machine_read(rig->machine, request, capture, &reply);
    assert_non_null(reply);
    return reply;
}

void machine_rig_expect(struct machine_rig *rig, Kv__Request *request, Kv__Code code)
{
    Kv__Reply *reply = kv_command_classify(request) == KV_COMMAND_READ
                           ? machine_rig_read(rig, request)
                           : machine_rig_write(rig, request);

    if (reply->code != code) {
        print_error("code %d, not %d: %s\n", (int)reply->code, (int)code, reply->message);
    }
    assert_int_equal(reply->code, code);
    kv__reply__free_unpacked(reply, NULL);
}

void machine_rig_refuse(struct machine_rig *rig, Kv__Request *request, Kv__Code code)
{
    uint64_t hash = kv_machine_state_hash(rig->machine);
    int64_t revision = kv_machine_revision(rig->machine);

    machine_rig_expect(rig, request, code);
    assert_int_equal(kv_machine_state_hash(rig->machine), hash);
    assert_int_equal(kv_machine_revision(rig->machine), revision);
}

void machine_rig_put_string(struct machine_rig *rig, const char *key)
{
    Kv__Put put = KV__PUT__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    put.key = machine_rig_bytes(key);
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    machine_rig_expect(rig, &request, KV__CODE__OK);
}

void machine_rig_set(struct machine_rig *rig, const char *setting, uint64_t value)
{
    Kv__ConfigSet command = KV__CONFIG_SET__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.name = (char *)(uintptr_t)setting;
    command.value = value;
    request.command_case = KV__REQUEST__COMMAND_CONFIG_SET;
    request.config_set = &command;
    machine_rig_expect(rig, &request, KV__CODE__OK);
}

void machine_rig_pass_time(struct machine_rig *rig, int64_t ms)
{
    rig->cluster_time_ms += ms;
    apply(rig, NULL, NULL);
}

static void write_snapshot(struct kv_machine *machine, struct kv_buf *buf)
{
    struct kv_machine_view *view;

    kv_buf_init(buf, 1024 * KV_MIB);
    assert_int_equal(kv_machine_view_open(machine, &view), 0);
    while (kv_machine_view_read(view, buf, buf->size + 4096) == 1) {
    }
    kv_machine_view_close(machine, view);
}

static struct kv_machine *load(const struct kv_buf *bytes)
{
    struct kv_machine_loader *loader;
    struct kv_machine *loaded = NULL;
    struct kv_error error = {0};
    int status;

    assert_int_equal(kv_machine_loader_open(&loader), 0);
    status = kv_machine_loader_feed(loader, kv_slice_of(bytes->data, bytes->size), &error);
    if (status == 0) {
        status = kv_machine_loader_finish(loader, &loaded, &error);
    }
    if (status != 0) {
        print_error("%s\n", error.message);
    }
    assert_int_equal(status, 0);
    kv_machine_loader_close(loader);
    return loaded;
}

void machine_rig_copy(struct machine_rig *rig, struct machine_rig *ret_copy)
{
    struct kv_buf bytes;

    write_snapshot(rig->machine, &bytes);
    *ret_copy = *rig;
    ret_copy->machine = load(&bytes);
    kv_buf_deinit(&bytes);
}

void machine_rig_reload(struct machine_rig *rig)
{
    struct kv_machine *loaded;
    struct kv_buf first, second;

    write_snapshot(rig->machine, &first);
    loaded = load(&first);
    kv_machine_check_invariants(loaded);
    assert_int_equal(kv_machine_state_hash(loaded), kv_machine_state_hash(rig->machine));
    write_snapshot(loaded, &second);
    assert_int_equal(first.size, second.size);
    assert_memory_equal(first.data, second.data, first.size);
    kv_buf_deinit(&first);
    kv_buf_deinit(&second);
    kv_machine_close(rig->machine);
    rig->machine = loaded;
}
