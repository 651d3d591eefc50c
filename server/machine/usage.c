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

uint64_t kv_machine_used_bytes(const struct kv_machine *machine)
{
    return kv_machine_live_bytes(machine) + machine->sessions.bytes + machine->history.bytes;
}

uint64_t kv_machine_history_room(const struct kv_machine *machine)
{
    const uint64_t limit = machine->settings.data_bytes;
    const uint64_t live = kv_machine_live_bytes(machine) + machine->sessions.bytes;
    const uint64_t room = limit > live ? limit - live : 0;

    return limit == 0 || room > machine->settings.history_bytes ? machine->settings.history_bytes
                                                                : room;
}

int kv_machine_check_space(const struct kv_machine *machine,
                           uint64_t live_before,
                           struct kv_answer *answer)
{
    const uint64_t limit = machine->settings.data_bytes;
    const uint64_t live = kv_machine_live_bytes(machine);

    /* Sessions count, but none is refused: who deletes may need one. */
    if (limit == 0 || live + machine->sessions.bytes <= limit || live <= live_before) {
        return 0;
    }
    answer->hint.limit = (char *)(uintptr_t) "data-limit";
    answer->hint.limit_value = limit;
    return kv_error_set(&answer->error,
                        KV_NO_SPACE,
                        "the store holds %" PRIu64 " bytes and would hold %" PRIu64
                        ", the limit is %" PRIu64
                        " (setting data-limit): delete something, or raise it",
                        live_before + machine->sessions.bytes,
                        live + machine->sessions.bytes,
                        limit);
}
