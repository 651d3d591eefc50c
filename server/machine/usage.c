/* The data limit: what the store holds, by content alone, so that all nodes decide alike whatever
 * their allocators, pins and reclamation do. Live data has the first claim: history gets what is
 * left of the limit, and when that is nothing, commands that make the live data larger are refused.
 */
#include "server/machine/machine_internal.h"

#include <inttypes.h>

/* Of a key besides key, value and elements, as kv_record_cost() has it. */
enum { KEY_BYTES = 40 };

uint64_t kv_machine_live_bytes(const struct kv_machine *machine)
{
    /* What goes with the running command's success is as good as gone. */
    return machine->data_bytes + KEY_BYTES * kv_tree_count(&machine->tree) + machine->topics.bytes -
           machine->topics.excess_bytes;
}

/* Of what is not data. */
static uint64_t other_bytes(const struct kv_machine *machine)
{
    return machine->sessions.bytes + kv_leases_bytes(&machine->leases);
}

uint64_t kv_machine_used_bytes(const struct kv_machine *machine)
{
    return kv_machine_live_bytes(machine) + other_bytes(machine) + machine->history.bytes;
}

uint64_t kv_machine_history_room(const struct kv_machine *machine)
{
    const uint64_t limit = machine->settings.data_bytes;
    const uint64_t live = kv_machine_live_bytes(machine) + other_bytes(machine);
    const uint64_t room = limit > live ? limit - live : 0;

    return limit == 0 || room > machine->settings.history_bytes ? machine->settings.history_bytes
                                                                : room;
}

static int no_space(const struct kv_machine *machine,
                    uint64_t holds,
                    uint64_t would_hold,
                    struct kv_answer *answer)
{
    answer->hint.limit = (char *)(uintptr_t) "data-limit";
    answer->hint.limit_value = machine->settings.data_bytes;
    return kv_error_set(&answer->error,
                        KV_NO_SPACE,
                        "the store holds %" PRIu64 " bytes and would hold %" PRIu64
                        ", the limit is %" PRIu64
                        " (setting data-limit): delete something, or raise it",
                        holds,
                        would_hold,
                        machine->settings.data_bytes);
}

int kv_machine_check_space(const struct kv_machine *machine,
                           uint64_t live_before,
                           struct kv_answer *answer)
{
    const uint64_t limit = machine->settings.data_bytes;
    const uint64_t live = kv_machine_live_bytes(machine);
    const uint64_t other = other_bytes(machine);

    /* Sessions count, but none is refused: who deletes may need one. */
    if (limit == 0 || live + other <= limit || live <= live_before) {
        return 0;
    }
    return no_space(machine, live_before + other, live + other, answer);
}

int kv_machine_check_room(const struct kv_machine *machine,
                          uint64_t bytes,
                          struct kv_answer *answer)
{
    const uint64_t limit = machine->settings.data_bytes;
    const uint64_t holds = kv_machine_live_bytes(machine) + other_bytes(machine);

    if (limit == 0 || holds + bytes <= limit) {
        return 0;
    }
    return no_space(machine, holds, holds + bytes, answer);
}
