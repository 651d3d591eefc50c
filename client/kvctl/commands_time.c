/* kvctl's commands on what ends by itself: expiry of keys, leases. */
#include "client/kvctl/kvctl.h"

#include <inttypes.h>

#define B KVCTL_BIT

/* A time in the largest unit that gives a whole number, as kvctl reads it. */
static void show_duration(FILE *file, uint64_t ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}};

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (ms > 0 && ms % units[i].ms == 0) {
            fprintf(file, "%" PRIu64 "%s", ms / units[i].ms, units[i].unit);
            return;
        }
    }
    fprintf(file, "%" PRIu64 "ms", ms);
}

/* In text as a duration, as a value in milliseconds. */
static void show_ms(struct kvctl_call *call, uint64_t ms)
{
    if (call->args->format == KVCTL_VALUE) {
        fprintf(call->kvctl->out, "%" PRIu64, ms);
    } else {
        show_duration(call->kvctl->out, ms);
    }
}

static int duration_word(struct kvctl_call *call, size_t i, uint64_t *ret_ms)
{
    int64_t ms;

    if (!kvctl_parse_duration_ms(call->args->arguments[i], &ms)) {
        return kvctl_usage(call->kvctl,
                           "%s: TIME is 500ms, 5s, 2m, 1h or 7d, above zero and at most 3650d, not "
                           "\"%.100s\"",
                           call->args->command->name,
                           call->args->arguments[i]);
    }
    *ret_ms = (uint64_t)ms;
    return KVCTL_OK;
}

static int lease_word(struct kvctl_call *call, size_t i, int64_t *ret_id)
{
    if (kvctl_parse_number(call->args->arguments[i], 1, INT64_MAX, ret_id)) {
        return KVCTL_OK;
    }
    return kvctl_usage(call->kvctl,
                       "%s: a lease's ID is a number from 1 on, not \"%.100s\"",
                       call->args->command->name,
                       call->args->arguments[i]);
}

/* ---------------------------------------------------------------- keys */

static int fill_expire(struct kvctl_call *call)
{
    Kv__Expire *command = kvctl_begin(call, KV__REQUEST__COMMAND_EXPIRE);
    bool leased = call->args->set[KVCTL_LEASE];

    if (leased == (call->args->n_arguments == 2)) {
        return kvctl_usage(call->kvctl, "expire wants KEY TIME, or KEY --lease ID");
    }
    command->key = kvctl_word(call, 0);
    if (leased) {
        command->expiry_case = KV__EXPIRE__EXPIRY_LEASE_ID;
        command->lease_id = call->args->numbers[KVCTL_LEASE];
        return KVCTL_OK;
    }
    command->expiry_case = KV__EXPIRE__EXPIRY_TTL_MS;
    return duration_word(call, 1, &command->ttl_ms);
}

static int fill_persist(struct kvctl_call *call)
{
    Kv__Persist *command = kvctl_begin(call, KV__REQUEST__COMMAND_PERSIST);

    command->key = kvctl_word(call, 0);
    return KVCTL_OK;
}

static int fill_ttl(struct kvctl_call *call)
{
    Kv__Ttl *command = kvctl_begin(call, KV__REQUEST__COMMAND_TTL);

    command->key = kvctl_word(call, 0);
    return KVCTL_OK;
}

static int print_ttl(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__TtlResult *result = reply->ttl;
    FILE *out = call->kvctl->out;

    if (call->args->format == KVCTL_JSON) {
        fprintf(out,
                "{\"remaining_ms\":%" PRId64 ",\"lease_id\":%" PRId64,
                result->remaining_ms,
                result->lease_id);
        kvctl_show_end(call, reply);
        return KVCTL_OK;
    }
    if (result->remaining_ms < 0) {
        fputs(call->args->format == KVCTL_TEXT ? "(none)" : "-1", out);
    } else {
        show_ms(call, (uint64_t)result->remaining_ms);
    }
    if (result->lease_id != 0 && call->args->format == KVCTL_TEXT) {
        fprintf(out, ", lease %" PRId64, result->lease_id);
    }
    fputc('\n', out);
    return KVCTL_OK;
}

/* ---------------------------------------------------------------- leases */

static int fill_grant(struct kvctl_call *call)
{
    Kv__LeaseGrant *command = kvctl_begin(call, KV__REQUEST__COMMAND_LEASE_GRANT);

    command->lease_id = call->args->numbers[KVCTL_ID];
    if (call->args->set[KVCTL_ID] && command->lease_id == 0) {
        return kvctl_usage(call->kvctl, "lease grant: --id is a number from 1 on");
    }
    return duration_word(call, 0, &command->ttl_ms);
}

static void show_lease_json(FILE *out, const Kv__LeaseResult *lease)
{
    fprintf(
        out, "{\"lease_id\":%" PRId64 ",\"ttl_ms\":%" PRIu64 "}", lease->lease_id, lease->ttl_ms);
}

static int print_grant(struct kvctl_call *call, const Kv__Reply *reply)
{
    if (call->args->format == KVCTL_JSON) {
        show_lease_json(call->kvctl->out, reply->lease_grant);
        fputc('\n', call->kvctl->out);
    } else {
        fprintf(call->kvctl->out, "%" PRId64 "\n", reply->lease_grant->lease_id);
    }
    return KVCTL_OK;
}

static int fill_revoke(struct kvctl_call *call)
{
    Kv__LeaseRevoke *command = kvctl_begin(call, KV__REQUEST__COMMAND_LEASE_REVOKE);

    return lease_word(call, 0, &command->lease_id);
}

static int fill_keepalive(struct kvctl_call *call)
{
    Kv__LeaseKeepAlive *command = kvctl_begin(call, KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE);
    int code = KVCTL_OK;

    command->n_lease_ids = call->args->n_arguments;
    command->lease_ids = kvctl_alloc(call, command->n_lease_ids * sizeof *command->lease_ids);
    for (size_t i = 0; i < command->n_lease_ids && code == KVCTL_OK; i++) {
        code = lease_word(call, i, &command->lease_ids[i]);
    }
    return code;
}

static int print_keepalive(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__LeaseKeepAliveResult *result = reply->lease_keep_alive;
    bool json = call->args->format == KVCTL_JSON;
    FILE *out = call->kvctl->out;
    bool all = true;

    fputs(json ? "[" : "", out);
    for (size_t i = 0; i < result->n_leases; i++) {
        const Kv__LeaseResult *lease = result->leases[i];

        all = all && lease->ttl_ms > 0;
        if (json) {
            fputs(i ? "," : "", out);
            show_lease_json(out, lease);
            continue;
        }
        fprintf(out, "%" PRId64 "\t", lease->lease_id);
        if (lease->ttl_ms > 0) {
            show_ms(call, lease->ttl_ms);
        } else {
            fputs("(ended)", out);
        }
        fputc('\n', out);
    }
    fputs(json ? "]\n" : "", out);
    return all ? KVCTL_OK : KVCTL_NOT_MET;
}

static int fill_info(struct kvctl_call *call)
{
    Kv__LeaseInfo *command = kvctl_begin(call, KV__REQUEST__COMMAND_LEASE_INFO);
    int code = lease_word(call, 0, &command->lease_id);

    command->with_keys = true;
    command->limit = (uint64_t)call->args->numbers[KVCTL_LIMIT];
    return code == KVCTL_OK ? kvctl_cursor(call, &command->cursor) : code;
}

static int print_info(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__LeaseInfoResult *info = reply->lease_info;
    bool json = call->args->format == KVCTL_JSON;
    FILE *out = call->kvctl->out;

    if (json) {
        fprintf(out,
                "{\"lease_id\":%" PRId64 ",\"ttl_ms\":%" PRIu64 ",\"remaining_ms\":%" PRIu64
                ",\"key_count\":%" PRIu64 ",\"keys\":[",
                info->lease_id,
                info->ttl_ms,
                info->remaining_ms,
                info->key_count);
    } else if (call->args->format == KVCTL_TEXT) {
        fprintf(out, "lease %" PRId64 ", ttl ", info->lease_id);
        show_duration(out, info->ttl_ms);
        fputs(", remaining ", out);
        show_duration(out, info->remaining_ms);
        fprintf(out, ", %" PRIu64 " keys\n", info->key_count);
    }
    for (size_t i = 0; i < info->n_keys; i++) {
        struct kv_bytes key = kv_bytes_of(info->keys[i].data, info->keys[i].len);

        fputs(json ? (i ? ",{" : "{") : "", out);
        kvctl_show_bytes(call, "key", key);
        fputs(json ? "}" : "\n", out);
    }
    fputs(json ? "]" : "", out);
    if (info->more && info->n_keys > 0) {
        kvctl_show_more(call, &info->keys[info->n_keys - 1]);
    }
    if (json) {
        kvctl_show_end(call, reply);
    }
    return KVCTL_OK;
}

static int fill_list(struct kvctl_call *call)
{
    Kv__LeaseList *command = kvctl_begin(call, KV__REQUEST__COMMAND_LEASE_LIST);

    command->limit = (uint64_t)call->args->numbers[KVCTL_LIMIT];
    return call->args->n_arguments ? lease_word(call, 0, &command->after_id) : KVCTL_OK;
}

static int print_list(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__LeaseListResult *result = reply->lease_list;
    bool json = call->args->format == KVCTL_JSON;
    FILE *out = call->kvctl->out;

    fputs(json ? "{\"lease_ids\":[" : "", out);
    for (size_t i = 0; i < result->n_lease_ids; i++) {
        fprintf(out,
                json ? "%s%" PRId64 : "%s%" PRId64 "\n",
                json && i ? "," : "",
                result->lease_ids[i]);
    }
    if (json) {
        fprintf(out, "],\"more\":%s", result->more ? "true" : "false");
        if (result->more) {
            fprintf(out, ",\"last_id\":%" PRId64, result->last_id);
        }
        kvctl_show_end(call, reply);
    } else if (result->more) {
        fprintf(
            call->kvctl->err, "kvctl: there is more: give %" PRId64 " as AFTER\n", result->last_id);
    }
    return KVCTL_OK;
}

/* ---------------------------------------------------------------- the table */

static const struct kvctl_command time_commands[] = {
    {.name = "expire",
     .arguments = "KEY [TIME]",
     .min_arguments = 1,
     .max_arguments = 2,
     .options = B(KVCTL_LEASE),
     .writes = true,
     .summary = "let a key end after a time, or with a lease",
     .details = "TIME: 500ms, 5s, 2m, 1h, 7d. The key is gone within some 100 ms after it, and "
                "watchers are told that it\nexpired. Exit code 2: there is no such key, or lease.",
     .example = "kvctl expire session/42 30m",
     .fill = fill_expire,
     .print = kvctl_show_done},
    {.name = "persist",
     .arguments = "KEY",
     .min_arguments = 1,
     .max_arguments = 1,
     .writes = true,
     .summary = "take a key's expiry and lease away",
     .details = "Exit code 2: there is no such key.",
     .example = "kvctl persist session/42",
     .fill = fill_persist,
     .print = kvctl_show_done},
    {.name = "ttl",
     .arguments = "KEY",
     .min_arguments = 1,
     .max_arguments = 1,
     .summary = "how long a key still has",
     .details = "(none) when it does not end by itself. With --output value: milliseconds, or -1.",
     .example = "kvctl ttl session/42",
     .fill = fill_ttl,
     .print = print_ttl},
    {.name = "lease grant",
     .arguments = "TIME",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_ID),
     .writes = true,
     .summary = "make a lease, print its id",
     .details = "It ends TIME after its last renewal, and with it the keys that were put with it.",
     .example = "kvctl lease grant 30s",
     .fill = fill_grant,
     .print = print_grant},
    {.name = "lease revoke",
     .arguments = "ID",
     .min_arguments = 1,
     .max_arguments = 1,
     .writes = true,
     .summary = "end a lease now, and its keys",
     .details = "Prints how many keys it had.",
     .example = "kvctl lease revoke 7",
     .fill = fill_revoke,
     .print = kvctl_show_count},
    {.name = "lease keepalive",
     .arguments = "ID...",
     .min_arguments = 1,
     .max_arguments = -1,
     .writes = true,
     .summary = "renew leases, once",
     .details = "Text: id, tab, the time that it has now; (ended) and exit code 2 for one that has "
                "ended.",
     .example = "kvctl lease keepalive 7",
     .fill = fill_keepalive,
     .print = print_keepalive},
    {.name = "lease info",
     .arguments = "ID",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_LIMIT) | B(KVCTL_CURSOR),
     .summary = "how long a lease still has, and its keys",
     .example = "kvctl lease info 7",
     .fill = fill_info,
     .print = print_info},
    {.name = "lease list",
     .arguments = "[AFTER]",
     .min_arguments = 0,
     .max_arguments = 1,
     .options = B(KVCTL_LIMIT),
     .summary = "the ids of leases",
     .details = "With AFTER those behind that id.",
     .example = "kvctl lease list",
     .fill = fill_list,
     .print = print_list},
};
const struct kvctl_group kvctl_time_group = {
    "time: expiry and leases", time_commands, sizeof time_commands / sizeof time_commands[0]};
