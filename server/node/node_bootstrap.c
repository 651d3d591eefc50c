/* Settings that a flag gives a new cluster: its first leader writes them into the log as the very
 * first entry of requests. Whether an entry is that is decided when it is applied, so nothing is
 * lost, nor set again, when several nodes lead one after the other at the beginning. */
#include "proto/entry.h"
#include "server/node/node_internal.h"

#include <stdlib.h>

enum { SETTING_REQUEST_BYTES_MAX = 128 };

static size_t pack_setting(const char *name, uint64_t value, uint8_t *bytes)
{
    Kv__ConfigSet set = KV__CONFIG_SET__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    set.name = (char *)(uintptr_t)name;
    set.value = value;
    set.at_bootstrap = true;
    request.command_case = KV__REQUEST__COMMAND_CONFIG_SET;
    request.config_set = &set;
    return kv__request__get_packed_size(&request) <= SETTING_REQUEST_BYTES_MAX
               ? kv__request__pack(&request, bytes)
               : 0;
}

void kv_node_bootstrap_turn(struct kv_node *node)
{
    uint8_t bytes[SETTING_REQUEST_BYTES_MAX];
    struct kv_slice request = {bytes, 0};

    if (node->options.max_data_bytes == 0 || node->led_term == 0 ||
        node->led_term == node->bootstrap_term || kv_machine_applied_index(node->machine) != 0) {
        return;
    }
    request.size = pack_setting("data-limit", node->options.max_data_bytes, bytes);
    if (kv_node_propose_own(node, request)) {
        node->bootstrap_term = node->led_term;
    }
}
