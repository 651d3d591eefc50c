/* Replicated settings: one row each. */
#include "server/machine/command.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

struct setting {
    const char *name;
    size_t offset;
    uint64_t default_value, min, max;
    const char *unit;
    const char *help;
};

static const struct setting settings_table[] = {
    {"value-limit",
     offsetof(struct kv_machine_settings, value_bytes),
     KV_VALUE_BYTES_DEFAULT,
     1024,
     KV_VALUE_BYTES_MAX,
     "bytes",
     "largest value that a command may make"},
    {"work-limit",
     offsetof(struct kv_machine_settings, work_elements),
     KV_WORK_ELEMENTS_DEFAULT,
     100,
     KV_WORK_ELEMENTS_MAX,
     "elements",
     "most keys that one command may touch"},
    {"reply-limit",
     offsetof(struct kv_machine_settings, reply_bytes),
     KV_REPLY_BYTES_DEFAULT - 64 * KV_KIB,
     64 * KV_KIB,
     KV_REPLY_BYTES_DEFAULT - 64 * KV_KIB,
     "bytes",
     "largest reply; larger ranges are answered in pieces"},
    {"history-age",
     offsetof(struct kv_machine_settings, history_age_ms),
     600000,
     0,
     30 * 86400000ULL,
     "ms",
     "how long replaced versions can be read"},
    {"history-bytes",
     offsetof(struct kv_machine_settings, history_bytes),
     256 * KV_MIB,
     0,
     64 * 1024 * KV_MIB,
     "bytes",
     "how much replaced versions may take, whichever is reached first"},
    {"data-limit",
     offsetof(struct kv_machine_settings, data_bytes),
     0,
     0,
     KV_DATA_BYTES_MAX,
     "bytes",
     "how much data and its history may take, 0: no limit"},
    {"session-limit",
     offsetof(struct kv_machine_settings, sessions),
     KV_SESSIONS_DEFAULT,
     1,
     KV_SESSIONS_MAX,
     "sessions",
     "exactly-once sessions at the same time"},
    {"session-ttl-min",
     offsetof(struct kv_machine_settings, session_ttl_min_ms),
     KV_SESSION_TTL_MIN_MS,
     100,
     KV_SESSION_TTL_MAX_MS,
     "ms",
     "shortest silence that a session may ask to be ended after"},
    {"session-ttl-max",
     offsetof(struct kv_machine_settings, session_ttl_max_ms),
     KV_SESSION_TTL_MAX_MS,
     1000,
     KV_SESSION_TTL_MAX_MS,
     "ms",
     "longest silence that a session may ask for"},
    {"ttl-max",
     offsetof(struct kv_machine_settings, ttl_max_ms),
     KV_TTL_MAX_MS,
     1000,
     KV_TTL_MAX_MS,
     "ms",
     "longest time that a key or field may be given to live"},
    {"lease-limit",
     offsetof(struct kv_machine_settings, leases),
     KV_LEASES_DEFAULT,
     0,
     KV_LEASES_MAX,
     "leases",
     "leases at the same time"},
    {"lease-ttl-min",
     offsetof(struct kv_machine_settings, lease_ttl_min_ms),
     KV_LEASE_TTL_MIN_MS,
     100,
     KV_LEASE_TTL_MAX_MS,
     "ms",
     "shortest time that a lease may ask to live without a renewal"},
    {"lease-ttl-max",
     offsetof(struct kv_machine_settings, lease_ttl_max_ms),
     KV_LEASE_TTL_MAX_MS,
     1000,
     KV_LEASE_TTL_MAX_MS,
     "ms",
     "longest time that a lease may ask for"},
    {"topic-limit",
     offsetof(struct kv_machine_settings, topics),
     KV_TOPICS_DEFAULT,
     1,
     KV_TOPICS_MAX,
     "topics",
     "topics with messages at the same time"},
    {"topic-messages",
     offsetof(struct kv_machine_settings, topic_messages),
     KV_TOPIC_MESSAGES_DEFAULT,
     1,
     KV_TOPIC_MESSAGES_MAX,
     "messages",
     "how many messages of a topic are retained"},
    {"topic-bytes",
     offsetof(struct kv_machine_settings, topic_bytes),
     KV_TOPIC_BYTES_DEFAULT,
     1024,
     KV_TOPIC_BYTES_MAX,
     "bytes",
     "how much the messages of a topic may take"},
    {"topic-age-ms",
     offsetof(struct kv_machine_settings, topic_age_ms),
     KV_TOPIC_AGE_DEFAULT_MS,
     KV_TOPIC_AGE_MIN_MS,
     KV_TOPIC_AGE_MAX_MS,
     "ms",
     "how long messages of topics are retained"},
};
enum { N_SETTINGS = sizeof settings_table / sizeof settings_table[0] };

_Static_assert(N_SETTINGS <= sizeof(((struct kv_answer *)0)->entries) / sizeof(Kv__ConfigEntry),
               "answer has room");

static uint64_t *value_of(struct kv_machine_settings *settings, const struct setting *setting)
{
    return (uint64_t *)(void *)((char *)settings + setting->offset);
}

void kv_settings_init(struct kv_machine_settings *settings)
{
    for (size_t i = 0; i < N_SETTINGS; i++) {
        *value_of(settings, &settings_table[i]) = settings_table[i].default_value;
    }
}

const struct kv_machine_settings *kv_machine_settings_loosest(void)
{
    static const struct kv_machine_settings loosest = {
        .value_bytes = KV_VALUE_BYTES_MAX,
        .work_elements = KV_WORK_ELEMENTS_MAX,
        .reply_bytes = KV_REPLY_BYTES_DEFAULT,
        .session_ttl_max_ms = KV_SESSION_TTL_MAX_MS,
    };

    return &loosest;
}

static const struct setting *find_setting(const char *name)
{
    for (size_t i = 0; i < N_SETTINGS; i++) {
        if (strcmp(settings_table[i].name, name) == 0) {
            return &settings_table[i];
        }
    }
    return NULL;
}

int kv_settings_check_name(const char *name, struct kv_error *ret_error)
{
    if (find_setting(name)) {
        return 0;
    }
    return kv_error_set(ret_error,
                        KV_NOT_FOUND,
                        "there is no setting \"%.64s\"; there are value-limit, work-limit, "
                        "reply-limit, history-age, history-bytes, data-limit, session-limit, "
                        "session-ttl-min, session-ttl-max, ttl-max, lease-limit, lease-ttl-min, "
                        "lease-ttl-max, topic-limit, topic-messages, topic-bytes, topic-age-ms",
                        name);
}

int kv_settings_check(const char *name, uint64_t value, struct kv_error *ret_error)
{
    const struct setting *setting = find_setting(name);

    if (!setting) {
        return kv_settings_check_name(name, ret_error);
    }
    if (value < setting->min || value > setting->max) {
        return kv_error_set(ret_error,
                            KV_OUT_OF_BOUNDS,
                            "%s is %" PRIu64 " to %" PRIu64 " %s, not %" PRIu64,
                            name,
                            setting->min,
                            setting->max,
                            setting->unit,
                            value);
    }
    return 0;
}

bool kv_settings_at(const struct kv_machine_settings *settings,
                    size_t i,
                    const char **ret_name,
                    uint64_t *ret_value)
{
    if (i >= N_SETTINGS) {
        return false;
    }
    *ret_name = settings_table[i].name;
    memcpy(ret_value, (const char *)settings + settings_table[i].offset, sizeof *ret_value);
    return true;
}

int kv_settings_put(struct kv_machine_settings *settings,
                    const char *name,
                    uint64_t value,
                    struct kv_error *ret_error)
{
    int status = kv_settings_check(name, value, ret_error);

    if (status == 0) {
        *value_of(settings, find_setting(name)) = value;
    }
    return status;
}

static void
fill_entry(struct kv_machine *machine, const struct setting *setting, Kv__ConfigEntry *entry)
{
    kv__config_entry__init(entry);
    entry->name = (char *)(uintptr_t)setting->name;
    entry->value = *value_of(&machine->settings, setting);
    entry->default_value = setting->default_value;
    entry->min = setting->min;
    entry->max = setting->max;
    entry->unit = (char *)(uintptr_t)setting->unit;
    entry->help = (char *)(uintptr_t)setting->help;
}

int kv_validate_config_get(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    (void)settings;
    return kv_settings_check_name(request->config_get->name, ret_error);
}

int kv_validate_config_set(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    (void)settings;
    return kv_settings_check(request->config_set->name, request->config_set->value, ret_error);
}

int kv_run_config_list(struct kv_machine *machine,
                       const Kv__Request *request,
                       struct kv_answer *answer)
{
    (void)request;
    for (size_t i = 0; i < N_SETTINGS; i++) {
        fill_entry(machine, &settings_table[i], &answer->entries[i]);
        answer->entry_pointers[i] = &answer->entries[i];
    }
    kv__config_list_result__init(&answer->result.config_list);
    answer->result.config_list.n_entries = N_SETTINGS;
    answer->result.config_list.entries = answer->entry_pointers;
    answer->reply.result_case = KV__REPLY__RESULT_CONFIG_LIST;
    answer->reply.config_list = &answer->result.config_list;
    return 0;
}

/* Of this and the next, validation has found the setting. */
int kv_run_config_get(struct kv_machine *machine,
                      const Kv__Request *request,
                      struct kv_answer *answer)
{
    fill_entry(machine, find_setting(request->config_get->name), &answer->entries[0]);
    kv__config_get_result__init(&answer->result.config_get);
    answer->result.config_get.entry = &answer->entries[0];
    answer->reply.result_case = KV__REPLY__RESULT_CONFIG_GET;
    answer->reply.config_get = &answer->result.config_get;
    return 0;
}

int kv_run_config_set(struct kv_machine *machine,
                      const Kv__Request *request,
                      struct kv_answer *answer)
{
    const Kv__ConfigSet *command = request->config_set;
    uint64_t *value = value_of(&machine->settings, find_setting(command->name));

    kv__config_set_result__init(&answer->result.config_set);
    answer->result.config_set.previous = *value;
    if (!command->at_bootstrap || machine->is_first_entry) {
        *value = command->value;
    }
    answer->reply.result_case = KV__REPLY__RESULT_CONFIG_SET;
    answer->reply.config_set = &answer->result.config_set;
    return 0;
}
