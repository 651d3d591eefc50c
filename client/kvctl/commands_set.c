/* kvctl's commands on sets. */
#include "client/kvctl/kvctl.h"

#define B KVCTL_BIT

static int fill_sadd(struct kvctl_call *call)
{
    Kv__SetAdd *command = kvctl_begin(call, KV__REQUEST__COMMAND_SET_ADD);

    command->key = kvctl_word(call, 0);
    command->members = kvctl_words(call, 1, &command->n_members);
    return KVCTL_OK;
}

static int fill_srem(struct kvctl_call *call)
{
    Kv__SetRemove *command = kvctl_begin(call, KV__REQUEST__COMMAND_SET_REMOVE);

    command->key = kvctl_word(call, 0);
    command->members = kvctl_words(call, 1, &command->n_members);
    return KVCTL_OK;
}

static int fill_has(struct kvctl_call *call)
{
    Kv__SetHas *command = kvctl_begin(call, KV__REQUEST__COMMAND_SET_HAS);

    command->key = kvctl_word(call, 0);
    command->members = kvctl_words(call, 1, &command->n_members);
    command->at_revision = call->args->numbers[KVCTL_AT];
    return KVCTL_OK;
}

static int fill_smembers(struct kvctl_call *call)
{
    Kv__SetMembers *command = kvctl_begin(call, KV__REQUEST__COMMAND_SET_MEMBERS);

    command->key = kvctl_word(call, 0);
    command->limit = (uint64_t)call->args->numbers[KVCTL_LIMIT];
    command->at_revision = call->args->numbers[KVCTL_AT];
    return kvctl_cursor(call, &command->cursor);
}

static int fill_scard(struct kvctl_call *call)
{
    Kv__SetLen *command = kvctl_begin(call, KV__REQUEST__COMMAND_SET_LEN);

    command->key = kvctl_word(call, 0);
    command->at_revision = call->args->numbers[KVCTL_AT];
    return KVCTL_OK;
}

static int fill_spop(struct kvctl_call *call)
{
    Kv__SetPop *command = kvctl_begin(call, KV__REQUEST__COMMAND_SET_POP);

    command->key = kvctl_word(call, 0);
    return kvctl_count(call, 1, "COUNT", 0, &command->count);
}

static int fill_srandmember(struct kvctl_call *call)
{
    Kv__SetRandom *command = kvctl_begin(call, KV__REQUEST__COMMAND_SET_RANDOM);

    command->key = kvctl_word(call, 0);
    return kvctl_count(call, 1, "COUNT", 0, &command->count);
}

/* Without COUNT one member as it is, with it a list. */
static int print_pop(struct kvctl_call *call, const Kv__Reply *reply)
{
    return call->args->n_arguments > 1 ? kvctl_show_elements(call, reply)
                                       : kvctl_show_element(call, reply);
}

/* ---------------------------------------------------------------- combinations */

static int fill_combine(struct kvctl_call *call, Kv__Combination combination)
{
    Kv__SetCombine *command = kvctl_begin(call, KV__REQUEST__COMMAND_SET_COMBINE);

    command->combination = combination;
    command->keys = kvctl_words(call, 0, &command->n_keys);
    return KVCTL_OK;
}

static int fill_store(struct kvctl_call *call, Kv__Combination combination)
{
    Kv__SetCombine *command = kvctl_begin(call, KV__REQUEST__COMMAND_SET_COMBINE);

    command->combination = combination;
    command->store = kvctl_word(call, 0);
    command->keys = kvctl_words(call, 1, &command->n_keys);
    if (command->store.len == 0) {
        return kvctl_usage(call->kvctl, "%s: TOKEY is empty", call->args->command->name);
    }
    return KVCTL_OK;
}

static int fill_sunion(struct kvctl_call *call)
{
    return fill_combine(call, KV__COMBINATION__COMBINE_UNION);
}

static int fill_sinter(struct kvctl_call *call)
{
    return fill_combine(call, KV__COMBINATION__COMBINE_INTERSECTION);
}

static int fill_sdiff(struct kvctl_call *call)
{
    return fill_combine(call, KV__COMBINATION__COMBINE_DIFFERENCE);
}

static int fill_sunionstore(struct kvctl_call *call)
{
    return fill_store(call, KV__COMBINATION__COMBINE_UNION);
}

static int fill_sinterstore(struct kvctl_call *call)
{
    return fill_store(call, KV__COMBINATION__COMBINE_INTERSECTION);
}

static int fill_sdiffstore(struct kvctl_call *call)
{
    return fill_store(call, KV__COMBINATION__COMBINE_DIFFERENCE);
}

/* ---------------------------------------------------------------- the table */

#define POP_HELP \
    "One member as it is, (nil) and exit code 2 when there is none; with COUNT a line each."
#define STORE_HELP                                                                             \
    "What TOKEY holds is replaced, whatever it is. Prints how many members it has; with none " \
    "it is\ndeleted."

static const struct kvctl_command set_commands[] = {
    {.name = "sadd",
     .arguments = "KEY MEMBER...",
     .min_arguments = 2,
     .max_arguments = -1,
     .writes = true,
     .summary = "add members to a set",
     .details = "Prints how many are new.",
     .example = "kvctl sadd user:42:skills c math",
     .fill = fill_sadd,
     .print = kvctl_show_count},
    {.name = "srem",
     .arguments = "KEY MEMBER...",
     .min_arguments = 2,
     .max_arguments = -1,
     .writes = true,
     .summary = "remove members from a set",
     .details = "Prints how many were there.",
     .example = "kvctl srem user:42:skills c",
     .fill = fill_srem,
     .print = kvctl_show_count},
    {.name = "sismember",
     .arguments = "KEY MEMBER",
     .min_arguments = 2,
     .max_arguments = 2,
     .options = B(KVCTL_AT),
     .summary = "is it a member of a set?",
     .details = "yes, or no and exit code 2.",
     .example = "kvctl sismember user:42:skills math",
     .fill = fill_has,
     .print = kvctl_show_present},
    {.name = "smismember",
     .arguments = "KEY MEMBER...",
     .min_arguments = 2,
     .max_arguments = -1,
     .options = B(KVCTL_AT),
     .summary = "say which of them are members of a set",
     .details = "Exit code 2 when one is not.",
     .example = "kvctl smismember user:42:skills c math",
     .fill = fill_has,
     .print = kvctl_show_present},
    {.name = "smembers",
     .arguments = "KEY",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_CURSOR) | B(KVCTL_LIMIT) | B(KVCTL_AT),
     .summary = "print the members of a set, in bytewise order",
     .details = "When there is more than a reply holds, or --limit allows, says with which "
                "--cursor to go on.",
     .example = "kvctl smembers user:42:skills",
     .fill = fill_smembers,
     .print = kvctl_show_elements},
    {.name = "scard",
     .arguments = "KEY",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_AT),
     .summary = "count the members of a set",
     .example = "kvctl scard user:42:skills",
     .fill = fill_scard,
     .print = kvctl_show_count},
    {.name = "spop",
     .arguments = "KEY [COUNT]",
     .min_arguments = 1,
     .max_arguments = 2,
     .writes = true,
     .summary = "take members off a set, chosen by chance",
     .details = POP_HELP,
     .example = "kvctl spop raffle",
     .fill = fill_spop,
     .print = print_pop},
    {.name = "srandmember",
     .arguments = "KEY [COUNT]",
     .min_arguments = 1,
     .max_arguments = 2,
     .summary = "print different members of a set, chosen by chance",
     .details = POP_HELP,
     .example = "kvctl srandmember raffle 3",
     .fill = fill_srandmember,
     .print = print_pop},
    {.name = "sunion",
     .arguments = "KEY...",
     .min_arguments = 1,
     .max_arguments = -1,
     .summary = "print what is in one of these sets",
     .example = "kvctl sunion user:42:skills user:7:skills",
     .fill = fill_sunion,
     .print = kvctl_show_elements},
    {.name = "sinter",
     .arguments = "KEY...",
     .min_arguments = 1,
     .max_arguments = -1,
     .summary = "print what is in all of these sets",
     .example = "kvctl sinter user:42:skills user:7:skills",
     .fill = fill_sinter,
     .print = kvctl_show_elements},
    {.name = "sdiff",
     .arguments = "KEY...",
     .min_arguments = 1,
     .max_arguments = -1,
     .summary = "print what is in the first set and in none of the others",
     .example = "kvctl sdiff user:42:skills user:7:skills",
     .fill = fill_sdiff,
     .print = kvctl_show_elements},
    {.name = "sunionstore",
     .arguments = "TOKEY KEY...",
     .min_arguments = 2,
     .max_arguments = -1,
     .writes = true,
     .summary = "store what is in one of these sets",
     .details = STORE_HELP,
     .example = "kvctl sunionstore skills user:42:skills user:7:skills",
     .fill = fill_sunionstore,
     .print = kvctl_show_stored},
    {.name = "sinterstore",
     .arguments = "TOKEY KEY...",
     .min_arguments = 2,
     .max_arguments = -1,
     .writes = true,
     .summary = "store what is in all of these sets",
     .details = STORE_HELP,
     .example = "kvctl sinterstore shared user:42:skills user:7:skills",
     .fill = fill_sinterstore,
     .print = kvctl_show_stored},
    {.name = "sdiffstore",
     .arguments = "TOKEY KEY...",
     .min_arguments = 2,
     .max_arguments = -1,
     .writes = true,
     .summary = "store what is in the first set and in none of the others",
     .details = STORE_HELP,
     .example = "kvctl sdiffstore only user:42:skills user:7:skills",
     .fill = fill_sdiffstore,
     .print = kvctl_show_stored},
};
const struct kvctl_group kvctl_set_group = {
    "sets",
    set_commands,
    sizeof set_commands / sizeof set_commands[0],
};
