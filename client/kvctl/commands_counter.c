/* kvctl's commands on counters and rate limiters. */
#include "client/kvctl/kvctl.h"

#include <inttypes.h>
#include <string.h>

#define B KVCTL_BIT

/* ---------------------------------------------------------------- counters */

static Kv__Int64Bound *bound(struct kvctl_call *call, enum kvctl_option_id id)
{
    Kv__Int64Bound *bound = NULL;

    if (call->args->set[id]) {
        bound = kvctl_alloc(call, sizeof *bound);
        kv__int64_bound__init(bound);
        bound->value = call->args->numbers[id];
    }
    return bound;
}

static void fill_add(struct kvctl_call *call, int64_t delta)
{
    Kv__CounterAdd *command = kvctl_begin(call, KV__REQUEST__COMMAND_COUNTER_ADD);

    command->key = kvctl_word(call, 0);
    command->delta = delta;
    command->min = bound(call, KVCTL_MIN);
    command->max = bound(call, KVCTL_MAX);
    command->initial = call->args->numbers[KVCTL_INITIAL];
    command->ttl_ms = (uint64_t)call->args->numbers[KVCTL_TTL];
}

static int fill_incr(struct kvctl_call *call)
{
    fill_add(call, 1);
    return KVCTL_OK;
}

static int fill_decr(struct kvctl_call *call)
{
    fill_add(call, -1);
    return KVCTL_OK;
}

static int fill_incrby(struct kvctl_call *call)
{
    int64_t delta = 0;
    int code = kvctl_integer(call, 1, "N", &delta);

    fill_add(call, delta);
    return code;
}

static int fill_decrby(struct kvctl_call *call)
{
    int64_t delta = 0;
    int code = kvctl_integer(call, 1, "N", &delta);

    /* The least number has no counterpart. */
    if (code == KVCTL_OK && delta == INT64_MIN) {
        return kvctl_usage(call->kvctl, "decrby: N cannot be -2^63");
    }
    fill_add(call, -delta);
    return code;
}

static int fill_counter(struct kvctl_call *call)
{
    Kv__CounterGet *get;
    Kv__CounterSet *set;

    if (call->args->n_arguments == 2) {
        set = kvctl_begin(call, KV__REQUEST__COMMAND_COUNTER_SET);
        set->key = kvctl_word(call, 0);
        if (call->args->set[KVCTL_AT]) {
            return kvctl_usage(call->kvctl, "counter: the past cannot be set");
        }
        return kvctl_integer(call, 1, "N", &set->value);
    }
    get = kvctl_begin(call, KV__REQUEST__COMMAND_COUNTER_GET);
    get->key = kvctl_word(call, 0);
    get->at_revision = call->args->numbers[KVCTL_AT];
    return KVCTL_OK;
}

/* ---------------------------------------------------------------- limiters */

/* "100/s", "5/m", "10/500ms", "3/2h": number and period. */
static bool parse_rate(const char *text, Kv__LimiterAcquire *command)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    const char *slash = strchr(text, '/');
    char number[20];
    int64_t rate;
    int64_t periods = 1;
    size_t digits;

    if (!slash || (size_t)(slash - text) >= sizeof number) {
        return false;
    }
    snprintf(number, sizeof number, "%.*s", (int)(slash - text), text);
    digits = strspn(slash + 1, "0123456789");
    if (!kvctl_parse_number(number, 0, INT64_MAX, &rate) || digits >= 10) {
        return false;
    }
    snprintf(number, sizeof number, "%.*s", (int)digits, slash + 1);
    if (digits > 0 && !kvctl_parse_number(number, 0, INT32_MAX, &periods)) {
        return false;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(slash + 1 + digits, units[i].unit) == 0) {
            command->rate = (uint64_t)rate;
            command->period_ms = (uint64_t)periods * units[i].ms;
            return true;
        }
    }
    return false;
}

static int fill_limit(struct kvctl_call *call)
{
    Kv__LimiterAcquire *command = kvctl_begin(call, KV__REQUEST__COMMAND_LIMITER_ACQUIRE);
    const struct kvctl_args *args = call->args;

    command->key = kvctl_word(call, 0);
    if (!args->set[KVCTL_RATE]) {
        return kvctl_usage(call->kvctl, "limit wants --rate, such as --rate 100/s");
    }
    if (!parse_rate(args->strings[KVCTL_RATE], command)) {
        return kvctl_usage(call->kvctl,
                           "--rate wants N/TIME with ms, s, m, h or d, such as 100/s or 10/500ms, "
                           "not \"%.100s\"",
                           args->strings[KVCTL_RATE]);
    }
    command->burst = args->set[KVCTL_BURST] ? (uint64_t)args->numbers[KVCTL_BURST] : command->rate;
    command->n = args->set[KVCTL_PERMITS] ? (uint64_t)args->numbers[KVCTL_PERMITS] : 1;
    return KVCTL_OK;
}

static int print_limit(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__LimiterResult *result = reply->limiter_acquire;
    FILE *out = call->kvctl->out;

    if (call->args->format == KVCTL_JSON) {
        fprintf(out,
                "{\"allowed\":%s,\"remaining\":%" PRIu64 ",\"retry_after_ms\":%" PRIu64,
                result->allowed ? "true" : "false",
                result->remaining,
                result->retry_after_ms);
        kvctl_show_end(call, reply);
    } else if (call->args->format == KVCTL_VALUE) {
        fprintf(out, "%d\n", result->allowed);
    } else if (result->allowed) {
        fprintf(out, "allowed, %" PRIu64 " remaining\n", result->remaining);
    } else {
        fprintf(out,
                "refused, %" PRIu64 " remaining, retry after %" PRIu64 " ms\n",
                result->remaining,
                result->retry_after_ms);
    }
    return result->allowed ? KVCTL_OK : KVCTL_NOT_MET;
}

/* ---------------------------------------------------------------- the table */

#define BOUNDS_HELP                                                                                \
    "Beyond --min or --max, or 64 bits: an error, nothing is changed. --ttl counts only when the " \
    "counter\nis made now."

static const struct kvctl_command counter_commands[] = {
    {.name = "incr",
     .arguments = "KEY",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_MIN) | B(KVCTL_MAX) | B(KVCTL_INITIAL) | B(KVCTL_TTL),
     .writes = true,
     .summary = "add 1 to a counter, print it",
     .details = BOUNDS_HELP,
     .example = "kvctl incr visits",
     .fill = fill_incr,
     .print = kvctl_show_counter},
    {.name = "decr",
     .arguments = "KEY",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_MIN) | B(KVCTL_MAX) | B(KVCTL_INITIAL) | B(KVCTL_TTL),
     .writes = true,
     .summary = "take 1 off a counter, print it",
     .details = BOUNDS_HELP,
     .example = "kvctl decr --min 0 --initial 10 tickets",
     .fill = fill_decr,
     .print = kvctl_show_counter},
    {.name = "incrby",
     .arguments = "KEY N",
     .min_arguments = 2,
     .max_arguments = 2,
     .options = B(KVCTL_MIN) | B(KVCTL_MAX) | B(KVCTL_INITIAL) | B(KVCTL_TTL),
     .writes = true,
     .summary = "add N to a counter, print it",
     .details = BOUNDS_HELP,
     .example = "kvctl incrby visits 10",
     .fill = fill_incrby,
     .print = kvctl_show_counter},
    {.name = "decrby",
     .arguments = "KEY N",
     .min_arguments = 2,
     .max_arguments = 2,
     .options = B(KVCTL_MIN) | B(KVCTL_MAX) | B(KVCTL_INITIAL) | B(KVCTL_TTL),
     .writes = true,
     .summary = "take N off a counter, print it",
     .details = BOUNDS_HELP,
     .example = "kvctl decrby tickets 2 --min 0",
     .fill = fill_decrby,
     .print = kvctl_show_counter},
    {.name = "counter",
     .arguments = "KEY [N]",
     .min_arguments = 1,
     .max_arguments = 2,
     .options = B(KVCTL_AT),
     .writes = true,
     .summary = "print a counter, or set it",
     .details = "get and put are for strings: a counter is a type of its own.",
     .example = "kvctl counter visits",
     .fill = fill_counter,
     .print = kvctl_show_counter},
    {.name = "limit",
     .arguments = "KEY --rate N/TIME [--burst N] [--permits N]",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_RATE) | B(KVCTL_BURST) | B(KVCTL_PERMITS),
     .writes = true,
     .summary = "ask a rate limiter for a permit",
     .details =
         "Exit code 0: allowed; 2: refused, and how long to wait. The key is made when it is "
         "not there.",
     .example = "kvctl limit api:ada --rate 100/s --burst 20",
     .fill = fill_limit,
     .print = print_limit},
};
const struct kvctl_group kvctl_counter_group = {
    "counters and rate limiters",
    counter_commands,
    sizeof counter_commands / sizeof counter_commands[0],
};
