/* kvctl's commands on feature flags: see kv/flags.h. */
#include "client/kvctl/kvctl.h"

#include <inttypes.h>
#include <kv/flags.h>
#include <stdlib.h>
#include <string.h>

#define B KVCTL_BIT
#define PREFIX_DEFAULT "flags/"

/* Others may change it at the same time; so often in a row is no chance. */
enum { CHANGE_TRIES = 32 };

/* What is wanted of a flag. */
struct change {
    bool set_enabled;
    bool enabled;
    bool set_rollout;
    unsigned rollout;
};

static const char *prefix_of(const struct kvctl *kvctl)
{
    return kvctl->args.set[KVCTL_PREFIX] ? kvctl->args.strings[KVCTL_PREFIX] : PREFIX_DEFAULT;
}

/* PREFIX NAME, to be freed. */
static char *key_of(struct kvctl *kvctl)
{
    const char *prefix = prefix_of(kvctl);
    const char *name = kvctl->args.arguments[0];
    size_t size = strlen(prefix) + strlen(name) + 1;
    char *key = malloc(size);

    if (key) {
        snprintf(key, size, "%s%s", prefix, name);
    } else {
        fprintf(kvctl->err, "kvctl %s: out of memory\n", kvctl->args.command->name);
    }
    return key;
}

static void show(struct kvctl *kvctl, struct kv_bytes name, const struct kv_flag *flag)
{
    char text[KV_FLAG_TEXT_BYTES];

    kv_flags_format(flag, text);
    switch (kvctl->args.format) {
    case KVCTL_JSON:
        fputc('{', kvctl->out);
        kvctl_print_json_bytes(kvctl->out, "name", name);
        fprintf(kvctl->out,
                ",\"enabled\":%s,\"rollout\":%g}",
                flag->enabled ? "true" : "false",
                flag->rollout / 100.0);
        break;
    case KVCTL_TEXT:
        kvctl_print_escaped(kvctl->out, name);
        fprintf(kvctl->out, "\t%s\n", text);
        break;
    case KVCTL_VALUE:
        fprintf(kvctl->out, "%s\n", text);
        break;
    }
}

/* ---------------------------------------------------------------- list, check */

static int run_list(struct kvctl *kvctl)
{
    const char *prefix = prefix_of(kvctl);
    struct kv_range_spec range = {.kind = prefix[0] ? KV_RANGE_PREFIX : KV_RANGE_ALL,
                                  .start = kv_bytes_str(prefix)};
    struct kv_range_options options = {.call = kvctl_call_options(kvctl)};
    bool json = kvctl->args.format == KVCTL_JSON;
    struct kv_range_iterator *iterator;
    struct kv_error error;
    struct kv_pair pair;
    bool first = true;
    int status;

    if (kv_range(kvctl->client, &range, &options, &iterator, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    fputs(json ? "[" : "", kvctl->out);
    while ((status = kv_range_next(iterator, &pair, &error)) == 1) {
        struct kv_bytes name = kv_bytes_of((const char *)pair.key.data + strlen(prefix),
                                           pair.key.size - strlen(prefix));
        struct kv_flag flag;

        if (pair.type == KV_TYPE_STRING && kv_flags_parse(pair.value, &flag)) {
            fputs(json && !first ? "," : "", kvctl->out);
            show(kvctl, name, &flag);
            first = false;
        } else {
            fputs("kvctl flag list: ", kvctl->err);
            kvctl_print_escaped(kvctl->err, pair.key);
            fputs(" holds no flag's value (on, off, on 20%), so it is off\n", kvctl->err);
        }
    }
    fputs(json ? "]\n" : "", kvctl->out);
    kv_range_close(iterator);
    return status < 0 ? kvctl_fail(kvctl, &error) : KVCTL_OK;
}

/* KVCTL_OK with *ret_revision 0 when there is no such flag. */
static int
read_flag(struct kvctl *kvctl, const char *key, struct kv_flag *ret_flag, int64_t *ret_revision)
{
    struct kv_get_options options = {.call = kvctl_call_options(kvctl)};
    struct kv_error error;
    struct kv_pair pair;
    int status = kv_get(kvctl->client, kv_bytes_str(key), &options, &pair, &error);
    int code = KVCTL_OK;

    *ret_revision = 0;
    if (status == KV_NOT_FOUND) {
        *ret_flag = (struct kv_flag){.rollout = KV_FLAG_FULL};
        return KVCTL_OK;
    }
    if (status < 0) {
        return kvctl_fail(kvctl, &error);
    }
    if (kv_flags_parse(pair.value, ret_flag)) {
        *ret_revision = pair.mod_revision;
    } else {
        fprintf(
            kvctl->err,
            "kvctl %s: %s holds no flag's value (on, off, on 20%%); kvctl flag set replaces it\n",
            kvctl->args.command->name,
            key);
        code = KVCTL_REFUSED;
    }
    kv_pair_free(&pair);
    return code;
}

static int run_check(struct kvctl *kvctl)
{
    const char *id = kvctl->args.set[KVCTL_FOR] ? kvctl->args.strings[KVCTL_FOR] : "";
    char *key = key_of(kvctl);
    struct kv_flag flag;
    int64_t revision;
    bool on;
    int code = key ? read_flag(kvctl, key, &flag, &revision) : KVCTL_LOCAL;

    free(key);
    if (code != KVCTL_OK) {
        return code;
    }
    on = revision != 0 && kv_flags_decide(&flag, kvctl_argument(kvctl, 0), kv_bytes_str(id));
    if (kvctl->args.format == KVCTL_JSON) {
        fprintf(kvctl->out,
                "{\"on\":%s,\"exists\":%s}\n",
                on ? "true" : "false",
                revision ? "true" : "false");
    } else {
        fprintf(kvctl->out, "%s\n", on ? "on" : "off");
    }
    return on ? KVCTL_OK : KVCTL_NOT_MET;
}

/* ---------------------------------------------------------------- changes */

static int write_flag(struct kvctl *kvctl,
                      const char *key,
                      const struct kv_flag *flag,
                      const struct kv_put_options *options)
{
    char text[KV_FLAG_TEXT_BYTES];
    struct kv_error error;
    int status;

    kv_flags_format(flag, text);
    status = kv_put(kvctl->client, kv_bytes_str(key), kv_bytes_str(text), options, NULL, &error);
    if (status < 0) {
        return status == KV_CONDITION_FAILED ? -1 : kvctl_fail(kvctl, &error);
    }
    show(kvctl, kvctl_argument(kvctl, 0), flag);
    fputs(kvctl->args.format == KVCTL_JSON ? "\n" : "", kvctl->out);
    return KVCTL_OK;
}

/* Keeps of the flag what the change does not say; done anew when somebody came between. */
static int change_flag(struct kvctl *kvctl, const struct change *change)
{
    struct kv_put_options put = {.condition = KV_PUT_IF_MOD_REVISION,
                                 .call = kvctl_call_options(kvctl)};
    char *key = key_of(kvctl);
    int code = key ? -1 : KVCTL_LOCAL;

    for (int i = 0; i < CHANGE_TRIES && code < 0; i++) {
        struct kv_flag flag;

        code = read_flag(kvctl, key, &flag, &put.mod_revision);
        if (code == KVCTL_OK) {
            flag.enabled = change->set_enabled ? change->enabled : flag.enabled;
            flag.rollout = change->set_rollout ? change->rollout : flag.rollout;
            code = write_flag(kvctl, key, &flag, &put);
        }
    }
    free(key);
    if (code < 0) {
        fprintf(kvctl->err,
                "kvctl %s: others kept changing it; nothing was done\n",
                kvctl->args.command->name);
        return KVCTL_UNAVAILABLE;
    }
    return code;
}

static int run_on(struct kvctl *kvctl)
{
    return change_flag(kvctl, &(struct change){.set_enabled = true, .enabled = true});
}

static int run_off(struct kvctl *kvctl)
{
    return change_flag(kvctl, &(struct change){.set_enabled = true});
}

static int wrong_percent(struct kvctl *kvctl, const char *text)
{
    return kvctl_usage(kvctl,
                       "%s: PERCENT is 0 to 100 with at most two decimals, not \"%.100s\"",
                       kvctl->args.command->name,
                       text);
}

static int run_rollout(struct kvctl *kvctl)
{
    struct change change = {.set_enabled = true, .enabled = true, .set_rollout = true};

    if (!kv_flags_parse_percent(kvctl_argument(kvctl, 1), &change.rollout)) {
        return wrong_percent(kvctl, kvctl->args.arguments[1]);
    }
    return change_flag(kvctl, &change);
}

static int run_set(struct kvctl *kvctl)
{
    struct kv_put_options put = {.call = kvctl_call_options(kvctl)};
    struct kv_flag flag = {.rollout = KV_FLAG_FULL};
    const struct kvctl_args *args = &kvctl->args;
    char *key;
    int code;

    flag.enabled = strcmp(args->arguments[1], "on") == 0;
    if (!flag.enabled && strcmp(args->arguments[1], "off") != 0) {
        return kvctl_usage(
            kvctl, "flag set wants on or off after NAME, not \"%.100s\"", args->arguments[1]);
    }
    if (args->n_arguments == 3 &&
        !kv_flags_parse_percent(kvctl_argument(kvctl, 2), &flag.rollout)) {
        return wrong_percent(kvctl, args->arguments[2]);
    }
    key = key_of(kvctl);
    code = key ? write_flag(kvctl, key, &flag, &put) : KVCTL_LOCAL;
    free(key);
    return code;
}

/* ---------------------------------------------------------------- the table */

static const struct kvctl_command flag_commands[] = {
    {.name = "flag list",
     .arguments = "",
     .min_arguments = 0,
     .max_arguments = 0,
     .options = B(KVCTL_PREFIX),
     .summary = "list feature flags",
     .details = "Flags are the keys under flags/, or another --prefix.",
     .example = "kvctl flag list",
     .run = run_list},
    {.name = "flag set",
     .arguments = "NAME on|off [PERCENT]",
     .min_arguments = 2,
     .max_arguments = 3,
     .options = B(KVCTL_PREFIX),
     .writes = true,
     .summary = "make a feature flag, or give it another value",
     .details = "Without PERCENT it is on for all, or off.",
     .example = "kvctl flag set new-checkout on 20%",
     .run = run_set},
    {.name = "flag on",
     .arguments = "NAME",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_PREFIX),
     .writes = true,
     .summary = "turn a feature flag on",
     .details = "For those that its percentage means; one that is not there is made, for all.",
     .example = "kvctl flag on new-checkout",
     .run = run_on},
    {.name = "flag off",
     .arguments = "NAME",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_PREFIX),
     .writes = true,
     .summary = "turn a feature flag off, for all",
     .details = "Its percentage is kept for the next `flag on`.",
     .example = "kvctl flag off new-checkout",
     .run = run_off},
    {.name = "flag rollout",
     .arguments = "NAME PERCENT",
     .min_arguments = 2,
     .max_arguments = 2,
     .options = B(KVCTL_PREFIX),
     .writes = true,
     .summary = "turn a feature flag on for a part of all ids",
     .details = "Those that have it keep it while the percentage grows.",
     .example = "kvctl flag rollout new-checkout 20%",
     .run = run_rollout},
    {.name = "flag check",
     .arguments = "NAME",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_PREFIX) | B(KVCTL_FOR),
     .summary = "is a feature flag on?",
     .details = "Exit code 0: on; 2: off, or there is no such flag. --for says for which id.",
     .example = "kvctl flag check new-checkout --for user-42",
     .run = run_check},
};
const struct kvctl_group kvctl_flag_group = {
    "feature flags", flag_commands, sizeof flag_commands / sizeof flag_commands[0]};
