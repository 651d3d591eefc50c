/* Replicated settings: any of them, to what is narrow, or to what there is none of. */
#include "tests/sim/sim.h"

#include "common/assert.h"

/* The first ones are what all commands run into; the third keeps large values away. */
static const struct {
    const char *name;
    uint64_t min, spread;
} settings[] = {{"work-limit", 100, 100000},
                {"reply-limit", 65536, 4000000},
                {"value-limit", 1024, 1000000},
                {"history-bytes", 0, 20000},
                {"history-age", 0, 20000},
                {"topic-limit", 1, 10},
                {"topic-messages", 1, 20},
                {"topic-age-ms", 1000, 9000},
                {"ttl-max", 1000, 10000},
                {"lease-limit", 0, 10},
                {"lease-ttl-min", 100, 2000},
                {"lease-ttl-max", 1000, 8000},
                {"nothing-such", 0, 10},
                /* Those of sessions would keep clients from writing that have any, also from
                 * setting them back. */
                {"session-ttl-min", 100, 2000},
                {"session-ttl-max", 1000, 100000},
                {"session-limit", 1, 100}};
enum {
    N_SETTINGS = sizeof settings / sizeof settings[0],
    OF_COMMANDS = 3,
    OF_SESSIONS = 3,
    NARROWED = 12 /* so many bits less; one of so many, when it is not to be tight */
};

static uint64_t throw(struct sim * sim, uint64_t below)
{
    return sim_random(sim, SIM_RANDOM_LOAD, below);
}

static uint64_t tight_one(struct sim *sim)
{
    return throw(sim, OF_COMMANDS - sim->options.seed % 2);
}

static void draft_any(struct sim *sim, Kv__ConfigSet *set)
{
    const bool is_tight = sim->profile.is_tight && throw(sim, 100) < 70;
    const uint64_t n = sim->profile.session_ttl_ms > 0 ? N_SETTINGS - OF_SESSIONS : N_SETTINGS;
    const uint64_t i = is_tight ? tight_one(sim) : throw(sim, n);

    set->name = (char *)(uintptr_t)settings[i].name;
    set->value = settings[i].min +
                 (throw(sim, settings[i].spread) >> (is_tight ? NARROWED : throw(sim, NARROWED)));
    if (throw(sim, 100) < 3) {
        set->value = UINT64_MAX;
    }
}

/* About as much as there may be. */
static uint64_t some_data_limit(struct sim *sim)
{
    const struct sim_profile *profile = &sim->profile;
    const uint64_t most = profile->n_keys * (uint64_t)(64 + profile->value_max / 2) + 40000;

    return throw(sim, 100) < 30 ? 0 : 1 + throw(sim, most);
}

void sim_settings_draft(struct sim *sim,
                        struct kv_arena *arena,
                        enum sim_setting what,
                        Kv__Request *request)
{
    Kv__ConfigSet *set = kv_arena_alloc(arena, sizeof *set);

    KV_ASSERT(set);
    kv__config_set__init(set);
    set->name = (char *)(uintptr_t) "data-limit";
    switch (what) {
    case SIM_SETTING_ANY:
        draft_any(sim, set);
        break;
    case SIM_SETTING_TIGHT: {
        const uint64_t i = tight_one(sim);

        set->name = (char *)(uintptr_t)settings[i].name;
        set->value = settings[i].min;
        break;
    }
    case SIM_SETTING_DATA_LIMIT:
        set->value = some_data_limit(sim);
        break;
    case SIM_SETTING_NO_DATA_LIMIT:
        break;
    }
    request->command_case = KV__REQUEST__COMMAND_CONFIG_SET;
    request->config_set = set;
}
