/* Leases: grant, revoke, keepalive, info, list. */
#include "server/machine/command.h"
#include "server/machine/deadlines.h"

#include <inttypes.h>

/* Of a key, or an id, in a reply besides its bytes. */
enum { ITEM_OVERHEAD_BYTES = 12, ID_SHIFT = 12 };

/* ---------------------------------------------------------------- checks */

int kv_validate_lease_grant(const Kv__Request *request,
                            const struct kv_machine_settings *settings,
                            struct kv_error *ret_error)
{
    const Kv__LeaseGrant *command = request->lease_grant;

    (void)settings;
    if (command->lease_id != 0) {
        int status = kv_check_lease_id(command->lease_id, ret_error);

        if (status != 0) {
            return status;
        }
    }
    return kv_check_ttl_given(command->ttl_ms, ret_error);
}

int kv_validate_lease_revoke(const Kv__Request *request,
                             const struct kv_machine_settings *settings,
                             struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_lease_id(request->lease_revoke->lease_id, ret_error);
}

int kv_validate_lease_keep_alive(const Kv__Request *request,
                                 const struct kv_machine_settings *settings,
                                 struct kv_error *ret_error)
{
    const Kv__LeaseKeepAlive *command = request->lease_keep_alive;
    int status = 0;

    (void)settings;
    if (command->n_lease_ids == 0) {
        return kv_error_set(ret_error, KV_INVALID, "the keepalive names no lease");
    }
    if (command->n_lease_ids > KV_LEASE_KEEP_ALIVE_MAX) {
        return kv_error_set(ret_error,
                            KV_TOO_LARGE,
                            "the keepalive names %zu leases, at most %u at once",
                            command->n_lease_ids,
                            KV_LEASE_KEEP_ALIVE_MAX);
    }
    for (size_t i = 0; i < command->n_lease_ids && status == 0; i++) {
        status = kv_check_lease_id(command->lease_ids[i], ret_error);
    }
    return status;
}

int kv_validate_lease_info(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    const Kv__LeaseInfo *command = request->lease_info;
    int status = kv_check_lease_id(command->lease_id, ret_error);

    (void)settings;
    if (status == 0 && command->cursor.len > 0) {
        status = kv_check_key(command->cursor, ret_error);
    }
    return status;
}

int kv_validate_lease_list(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    (void)settings;
    return request->lease_list->after_id >= 0 ? 0
                                              : kv_error_set(ret_error,
                                                             KV_INVALID,
                                                             "after_id %" PRId64 " is negative",
                                                             request->lease_list->after_id);
}

/* ---------------------------------------------------------------- changes */

static bool is_live(const struct kv_machine *machine, const struct kv_lease *lease)
{
    return lease && !lease->revoked && lease->item.deadline_ms > machine->expired_ms;
}

int kv_lease_find_live(const struct kv_machine *machine,
                       int64_t lease_id,
                       struct kv_lease **ret_lease,
                       struct kv_error *ret_error)
{
    struct kv_lease *lease = kv_leases_find(&machine->leases, lease_id);

    if (!is_live(machine, lease)) {
        return kv_error_set(ret_error,
                            KV_NOT_FOUND,
                            "there is no lease %" PRId64 ": it has ended, or never was",
                            lease_id);
    }
    *ret_lease = lease;
    return 0;
}

/* One that is free: no other entry begins with the same number. Who takes that number and others on
 * purpose cannot make the search long: where it goes on depends on where it began. */
static int64_t choose_id(const struct kv_machine *machine)
{
    uint64_t id = machine->applied_index << ID_SHIFT | (machine->operation & 0xfff);

    while (id == 0 || kv_leases_find(&machine->leases, (int64_t)id)) {
        id = XXH3_64bits_withSeed(&id, sizeof id, machine->applied_index) & INT64_MAX;
    }
    return (int64_t)id;
}

static int check_id(const struct kv_machine *machine, int64_t id, struct kv_answer *answer)
{
    const struct kv_lease *lease = kv_leases_find(&machine->leases, id);

    if (is_live(machine, lease)) {
        return kv_error_set(&answer->error, KV_EXISTS, "there is a lease %" PRId64, id);
    }
    if (lease) {
        return kv_error_set(&answer->error,
                            KV_BUSY,
                            "lease %" PRId64 " has ended and its keys are being taken away: use "
                            "another id, or wait",
                            id);
    }
    return 0;
}

static int check_grant(const struct kv_machine *machine, uint64_t ttl_ms, struct kv_answer *answer)
{
    const struct kv_machine_settings *settings = &machine->settings;

    if (ttl_ms < settings->lease_ttl_min_ms || ttl_ms > settings->lease_ttl_max_ms) {
        return kv_error_set(&answer->error,
                            KV_OUT_OF_BOUNDS,
                            "a ttl of %" PRIu64 " ms: %" PRIu64 " to %" PRIu64
                            " (settings lease-ttl-min, lease-ttl-max)",
                            ttl_ms,
                            settings->lease_ttl_min_ms,
                            settings->lease_ttl_max_ms);
    }
    if (machine->leases.heap.n >= settings->leases) {
        answer->hint.limit = (char *)(uintptr_t) "lease-limit";
        answer->hint.limit_value = settings->leases;
        return kv_error_set(&answer->error,
                            KV_BUSY,
                            "there are %zu leases (setting lease-limit): revoke some, or wait "
                            "until some have ended",
                            machine->leases.heap.n);
    }
    return kv_machine_check_room(machine, KV_LEASE_COST_BYTES, answer);
}

int kv_run_lease_grant(struct kv_machine *machine,
                       const Kv__Request *request,
                       struct kv_answer *answer)
{
    const Kv__LeaseGrant *command = request->lease_grant;
    const int64_t id = command->lease_id != 0 ? command->lease_id : choose_id(machine);
    Kv__LeaseResult *result = &answer->result.lease;
    int status = check_id(machine, id, answer);

    if (status == 0) {
        status = check_grant(machine, command->ttl_ms, answer);
    }
    if (status != 0) {
        return status;
    }
    (void)kv_leases_add(&machine->leases,
                        id,
                        command->ttl_ms,
                        machine->cluster_time_ms + (int64_t)command->ttl_ms,
                        false);
    kv__lease_result__init(result);
    result->lease_id = id;
    result->ttl_ms = command->ttl_ms;
    KV_ANSWER(answer, LEASE_GRANT, lease_grant, lease);
    return 0;
}

/* As many keys as one command may touch go at once, what is left with the next entries. */
int kv_run_lease_revoke(struct kv_machine *machine,
                        const Kv__Request *request,
                        struct kv_answer *answer)
{
    const int64_t id = request->lease_revoke->lease_id;
    struct kv_lease *lease = NULL;
    struct kv_slice key;
    uint64_t count, left;
    int status = kv_lease_find_live(machine, id, &lease, &answer->error);

    if (status != 0) {
        return status;
    }
    count = kv_lease_keys_count(machine, id);
    left = machine->settings.work_elements;
    while (left > 0 && kv_lease_keys_next(machine, id, kv_slice_of(NULL, 0), &key)) {
        kv_keyspace_delete(machine, kv_record_key(kv_keyspace_get(machine, key)));
        left--;
    }
    if (count <= machine->settings.work_elements) {
        kv_leases_remove(&machine->leases, lease);
    } else {
        kv_leases_revoke(&machine->leases, lease, machine->cluster_time_ms);
    }
    kv__count_result__init(&answer->result.count);
    answer->result.count.count = count;
    KV_ANSWER(answer, LEASE_REVOKE, lease_revoke, count);
    return 0;
}

int kv_run_lease_keep_alive(struct kv_machine *machine,
                            const Kv__Request *request,
                            struct kv_answer *answer)
{
    const Kv__LeaseKeepAlive *command = request->lease_keep_alive;
    Kv__LeaseKeepAliveResult *result = &answer->result.lease_keep_alive;
    Kv__LeaseResult *leases = kv_reply_alloc(machine, command->n_lease_ids * sizeof *leases);

    kv__lease_keep_alive_result__init(result);
    result->n_leases = command->n_lease_ids;
    result->leases = kv_reply_alloc(machine, command->n_lease_ids * sizeof(Kv__LeaseResult *));
    for (size_t i = 0; i < command->n_lease_ids; i++) {
        struct kv_lease *lease = NULL;
        int status = kv_lease_find_live(machine, command->lease_ids[i], &lease, &answer->error);

        if (status != 0 && command->n_lease_ids == 1) {
            return status;
        }
        kv__lease_result__init(&leases[i]);
        leases[i].lease_id = command->lease_ids[i];
        if (status == 0) {
            kv_leases_renew(&machine->leases, lease, machine->cluster_time_ms);
            leases[i].ttl_ms = lease->ttl_ms;
        }
        result->leases[i] = &leases[i];
    }
    KV_ANSWER(answer, LEASE_KEEP_ALIVE, lease_keep_alive, lease_keep_alive);
    return 0;
}

/* ---------------------------------------------------------------- reads */

/* Keys behind the cursor as long as they fit. */
static int
collect_keys(struct kv_machine *machine, const Kv__LeaseInfo *command, struct kv_answer *answer)
{
    const uint64_t most = machine->settings.work_elements / 2;
    const uint64_t limit = command->limit > 0 && command->limit < most ? command->limit : most;
    Kv__LeaseInfoResult *result = &answer->result.lease_info;
    struct kv_slice after = kv_slice_of_proto(command->cursor);
    uint64_t room = kv_reply_room(machine);
    struct kv_slice key;
    size_t capacity = 0;
    int status = 0;

    while (status == 0 && kv_lease_keys_next(machine, command->lease_id, after, &key)) {
        const uint64_t cost = key.size + ITEM_OVERHEAD_BYTES;

        if (result->n_keys == limit || cost > room) {
            result->more = true;
            break;
        }
        result->keys =
            kv_reply_grow(machine, result->keys, result->n_keys, &capacity, sizeof *result->keys);
        result->keys[result->n_keys++] =
            (ProtobufCBinaryData){key.size, (uint8_t *)(uintptr_t)key.data};
        room -= cost;
        after = key;
        status = kv_machine_work(machine, 1, answer);
    }
    return status;
}

int kv_run_lease_info(struct kv_machine *machine,
                      const Kv__Request *request,
                      struct kv_answer *answer)
{
    const Kv__LeaseInfo *command = request->lease_info;
    Kv__LeaseInfoResult *result = &answer->result.lease_info;
    struct kv_lease *lease = NULL;
    int status = kv_lease_find_live(machine, command->lease_id, &lease, &answer->error);

    if (status != 0) {
        return status;
    }
    kv__lease_info_result__init(result);
    result->lease_id = command->lease_id;
    result->ttl_ms = lease->ttl_ms;
    result->remaining_ms = (uint64_t)kv_remaining_ms(machine, lease->item.deadline_ms);
    result->key_count = kv_lease_keys_count(machine, command->lease_id);
    if (command->with_keys) {
        status = collect_keys(machine, command, answer);
    }
    if (status == 0) {
        KV_ANSWER(answer, LEASE_INFO, lease_info, lease_info);
    }
    return status;
}

/* Those that have ended are looked at, too, and may be many while their keys go: an answer ends
 * behind a bounded number of looks, be it empty, and says where to go on. */
int kv_run_lease_list(struct kv_machine *machine,
                      const Kv__Request *request,
                      struct kv_answer *answer)
{
    const Kv__LeaseList *command = request->lease_list;
    const uint64_t most = machine->settings.work_elements / 2;
    const uint64_t room = kv_reply_room(machine) / ITEM_OVERHEAD_BYTES;
    uint64_t limit = command->limit > 0 && command->limit < most ? command->limit : most;
    Kv__LeaseListResult *result = &answer->result.lease_list;
    const struct kv_lease *lease;
    struct kv_tree_cursor cursor;
    size_t capacity = 0;

    limit = limit < room ? limit : room;
    kv__lease_list_result__init(result);
    result->last_id = command->after_id;
    kv_leases_seek(&machine->leases, command->after_id, &cursor);
    for (uint64_t looks = 0; (lease = kv_leases_at(&cursor)); looks++, kv_tree_next(&cursor)) {
        if (looks == most || (is_live(machine, lease) && result->n_lease_ids == limit)) {
            result->more = true;
            break;
        }
        result->last_id = kv_lease_id(lease);
        if (is_live(machine, lease)) {
            result->lease_ids = kv_reply_grow(
                machine, result->lease_ids, result->n_lease_ids, &capacity, sizeof(int64_t));
            result->lease_ids[result->n_lease_ids++] = kv_lease_id(lease);
        }
    }
    KV_ANSWER(answer, LEASE_LIST, lease_list, lease_list);
    return 0;
}
