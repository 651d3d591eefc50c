/* kvctl's commands on lists. */
#include "client/kvctl/kvctl.h"
#include "common/limits.h"

#include <string.h>

#define B KVCTL_BIT

static int fill_push(struct kvctl_call *call, Kv__ListEnd end)
{
    Kv__ListPush *command = kvctl_begin(call, KV__REQUEST__COMMAND_LIST_PUSH);

    command->key = kvctl_word(call, 0);
    command->end = end;
    command->if_present = call->args->set[KVCTL_XX];
    return kvctl_values(call, 1, &command->elements, &command->n_elements);
}

static int fill_lpush(struct kvctl_call *call)
{
    return fill_push(call, KV__LIST_END__LIST_LEFT);
}

static int fill_rpush(struct kvctl_call *call)
{
    return fill_push(call, KV__LIST_END__LIST_RIGHT);
}

static int fill_pop(struct kvctl_call *call, Kv__ListEnd end)
{
    Kv__ListPop *command = kvctl_begin(call, KV__REQUEST__COMMAND_LIST_POP);

    command->key = kvctl_word(call, 0);
    command->end = end;
    return kvctl_count(call, 1, "COUNT", 0, &command->count);
}

static int fill_lpop(struct kvctl_call *call)
{
    return fill_pop(call, KV__LIST_END__LIST_LEFT);
}

static int fill_rpop(struct kvctl_call *call)
{
    return fill_pop(call, KV__LIST_END__LIST_RIGHT);
}

/* Without COUNT one element as it is, with it a list. */
static int print_pop(struct kvctl_call *call, const Kv__Reply *reply)
{
    return call->args->n_arguments > 1 ? kvctl_show_elements(call, reply)
                                       : kvctl_show_element(call, reply);
}

/* "5s" or, as redis has it, "5". */
static int fill_blocking(struct kvctl_call *call, Kv__ListEnd end)
{
    Kv__ListPop *command = kvctl_begin(call, KV__REQUEST__COMMAND_LIST_POP);
    const char *text = call->args->arguments[1];
    int64_t number;
    int64_t ms;

    if (kvctl_parse_number(text, 1, KV_DEADLINE_MAX_MS / 1000, &number)) {
        ms = number * 1000;
    } else if (!kvctl_parse_duration_ms(text, &ms) || ms > KV_DEADLINE_MAX_MS) {
        return kvctl_usage(call->kvctl,
                           "%s: TIME is 500ms, 5s, 5 (seconds), 2m, at most 10m, not \"%.100s\"",
                           call->args->command->name,
                           text);
    }
    command->key = kvctl_word(call, 0);
    command->end = end;
    command->block_ms = (uint64_t)ms;
    call->wait_ms = (unsigned)ms;
    return KVCTL_OK;
}

static int fill_blpop(struct kvctl_call *call)
{
    return fill_blocking(call, KV__LIST_END__LIST_LEFT);
}

static int fill_brpop(struct kvctl_call *call)
{
    return fill_blocking(call, KV__LIST_END__LIST_RIGHT);
}

static int fill_lrange(struct kvctl_call *call)
{
    Kv__ListRange *command = kvctl_begin(call, KV__REQUEST__COMMAND_LIST_RANGE);
    int code = kvctl_integer(call, 1, "FIRST", &command->first);

    if (code == KVCTL_OK) {
        code = kvctl_integer(call, 2, "LAST", &command->last);
    }
    command->key = kvctl_word(call, 0);
    command->at_revision = call->args->numbers[KVCTL_AT];
    return code;
}

static int fill_lindex(struct kvctl_call *call)
{
    Kv__ListIndex *command = kvctl_begin(call, KV__REQUEST__COMMAND_LIST_INDEX);

    command->key = kvctl_word(call, 0);
    command->at_revision = call->args->numbers[KVCTL_AT];
    return kvctl_integer(call, 1, "INDEX", &command->index);
}

static int fill_lset(struct kvctl_call *call)
{
    Kv__ListSet *command = kvctl_begin(call, KV__REQUEST__COMMAND_LIST_SET);
    int code = kvctl_integer(call, 1, "INDEX", &command->index);

    command->key = kvctl_word(call, 0);
    return code == KVCTL_OK ? kvctl_value(call, 2, &command->element) : code;
}

static int fill_llen(struct kvctl_call *call)
{
    Kv__ListLen *command = kvctl_begin(call, KV__REQUEST__COMMAND_LIST_LEN);

    command->key = kvctl_word(call, 0);
    command->at_revision = call->args->numbers[KVCTL_AT];
    return KVCTL_OK;
}

static int fill_linsert(struct kvctl_call *call)
{
    Kv__ListInsert *command = kvctl_begin(call, KV__REQUEST__COMMAND_LIST_INSERT);
    const char *where = call->args->arguments[1];
    int code;

    command->after = strcmp(where, "after") == 0;
    if (!command->after && strcmp(where, "before") != 0) {
        return kvctl_usage(
            call->kvctl, "linsert: before or after the pivot, not \"%.100s\"", where);
    }
    command->key = kvctl_word(call, 0);
    code = kvctl_value(call, 2, &command->pivot);
    return code == KVCTL_OK ? kvctl_value(call, 3, &command->element) : code;
}

static int fill_lrem(struct kvctl_call *call)
{
    Kv__ListRemove *command = kvctl_begin(call, KV__REQUEST__COMMAND_LIST_REMOVE);
    int code = kvctl_integer(call, 1, "COUNT", &command->count);

    command->key = kvctl_word(call, 0);
    return code == KVCTL_OK ? kvctl_value(call, 2, &command->element) : code;
}

static int fill_ltrim(struct kvctl_call *call)
{
    Kv__ListTrim *command = kvctl_begin(call, KV__REQUEST__COMMAND_LIST_TRIM);
    int code = kvctl_integer(call, 1, "FIRST", &command->first);

    if (code == KVCTL_OK) {
        code = kvctl_integer(call, 2, "LAST", &command->last);
    }
    command->key = kvctl_word(call, 0);
    return code;
}

static int parse_end(struct kvctl_call *call, size_t i, Kv__ListEnd *ret_end)
{
    const char *text = call->args->arguments[i];

    *ret_end = strcmp(text, "right") == 0 ? KV__LIST_END__LIST_RIGHT : KV__LIST_END__LIST_LEFT;
    if (strcmp(text, "right") != 0 && strcmp(text, "left") != 0) {
        return kvctl_usage(call->kvctl, "lmove: an end is left or right, not \"%.100s\"", text);
    }
    return KVCTL_OK;
}

static int fill_lmove(struct kvctl_call *call)
{
    Kv__ListMove *command = kvctl_begin(call, KV__REQUEST__COMMAND_LIST_MOVE);
    int code = parse_end(call, 2, &command->from);

    command->key = kvctl_word(call, 0);
    command->to = kvctl_word(call, 1);
    return code == KVCTL_OK ? parse_end(call, 3, &command->to_end) : code;
}

/* ---------------------------------------------------------------- the table */

#define ELEMENT_HELP                                                                            \
    "ELEMENT is the text itself, - for standard input, @FILE for a file's content, @@TEXT for " \
    "@TEXT."
#define INDEX_HELP "Indexes count from 0; negative ones from the end (-1: the last)."
#define POP_HELP \
    "One element as it is, (nil) and exit code 2 when there is none; with COUNT a line each."
#define BLOCK_HELP                                                                                 \
    "TIME: 500ms, 5s, 5 (seconds), 2m; at most 10m. Who waits longest is served first. When none " \
    "came:\n(nil) and exit code 2."

static const struct kvctl_command list_commands[] = {
    {.name = "lpush",
     .arguments = "KEY ELEMENT...",
     .min_arguments = 2,
     .max_arguments = -1,
     .options = B(KVCTL_XX),
     .writes = true,
     .summary = "push elements at the left end, one after the other",
     .details = ELEMENT_HELP "\nPrints the length afterwards.",
     .example = "kvctl lpush notifications:42 \"Ada wrote\"",
     .fill = fill_lpush,
     .print = kvctl_show_count},
    {.name = "rpush",
     .arguments = "KEY ELEMENT...",
     .min_arguments = 2,
     .max_arguments = -1,
     .options = B(KVCTL_XX),
     .writes = true,
     .summary = "push elements at the right end",
     .details = ELEMENT_HELP "\nPrints the length afterwards.",
     .example = "kvctl rpush jobs one two three",
     .fill = fill_rpush,
     .print = kvctl_show_count},
    {.name = "lpop",
     .arguments = "KEY [COUNT]",
     .min_arguments = 1,
     .max_arguments = 2,
     .writes = true,
     .summary = "take elements off the left end",
     .details = POP_HELP,
     .example = "kvctl lpop jobs",
     .fill = fill_lpop,
     .print = print_pop},
    {.name = "rpop",
     .arguments = "KEY [COUNT]",
     .min_arguments = 1,
     .max_arguments = 2,
     .writes = true,
     .summary = "take elements off the right end",
     .details = POP_HELP,
     .example = "kvctl rpop notifications:42",
     .fill = fill_rpop,
     .print = print_pop},
    {.name = "blpop",
     .arguments = "KEY TIME",
     .min_arguments = 2,
     .max_arguments = 2,
     .writes = true,
     .summary = "take an element off the left end, wait for one",
     .details = BLOCK_HELP,
     .example = "kvctl blpop jobs 5s",
     .session = true,
     .fill = fill_blpop,
     .print = kvctl_show_element},
    {.name = "brpop",
     .arguments = "KEY TIME",
     .min_arguments = 2,
     .max_arguments = 2,
     .writes = true,
     .summary = "take an element off the right end, wait for one",
     .details = BLOCK_HELP,
     .example = "kvctl brpop jobs 500ms",
     .session = true,
     .fill = fill_brpop,
     .print = kvctl_show_element},
    {.name = "lrange",
     .arguments = "KEY FIRST LAST",
     .min_arguments = 3,
     .max_arguments = 3,
     .options = B(KVCTL_AT),
     .summary = "print elements, both ends included",
     .details = INDEX_HELP,
     .example = "kvctl lrange notifications:42 0 -1",
     .fill = fill_lrange,
     .print = kvctl_show_elements},
    {.name = "lindex",
     .arguments = "KEY INDEX",
     .min_arguments = 2,
     .max_arguments = 2,
     .options = B(KVCTL_AT),
     .summary = "print one element",
     .details = INDEX_HELP,
     .example = "kvctl lindex jobs -1",
     .fill = fill_lindex,
     .print = kvctl_show_element},
    {.name = "lset",
     .arguments = "KEY INDEX ELEMENT",
     .min_arguments = 3,
     .max_arguments = 3,
     .writes = true,
     .summary = "replace one element",
     .details = INDEX_HELP "\n" ELEMENT_HELP,
     .example = "kvctl lset jobs 0 first",
     .fill = fill_lset,
     .print = kvctl_show_done},
    {.name = "llen",
     .arguments = "KEY",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_AT),
     .summary = "length of a list",
     .example = "kvctl llen jobs",
     .fill = fill_llen,
     .print = kvctl_show_count},
    {.name = "linsert",
     .arguments = "KEY before|after PIVOT ELEMENT",
     .min_arguments = 4,
     .max_arguments = 4,
     .writes = true,
     .summary = "insert beside the first element equal to PIVOT",
     .details =
         "Prints the length afterwards; exit code 2 when there is no such element.\n" ELEMENT_HELP,
     .example = "kvctl linsert jobs before two one-and-a-half",
     .fill = fill_linsert,
     .print = kvctl_show_count},
    {.name = "lrem",
     .arguments = "KEY COUNT ELEMENT",
     .min_arguments = 3,
     .max_arguments = 3,
     .writes = true,
     .summary = "remove elements equal to ELEMENT",
     .details = "COUNT above 0: the first ones, below 0: the last ones, 0: all. Prints how many "
                "went.\n" ELEMENT_HELP,
     .example = "kvctl lrem jobs 0 two",
     .fill = fill_lrem,
     .print = kvctl_show_count},
    {.name = "ltrim",
     .arguments = "KEY FIRST LAST",
     .min_arguments = 3,
     .max_arguments = 3,
     .writes = true,
     .summary = "keep these elements only",
     .details = INDEX_HELP " Prints the length afterwards.",
     .example = "kvctl ltrim notifications:42 0 99",
     .fill = fill_ltrim,
     .print = kvctl_show_count},
    {.name = "lmove",
     .arguments = "KEY TOKEY left|right left|right",
     .min_arguments = 4,
     .max_arguments = 4,
     .writes = true,
     .summary = "move an element from an end of one list to an end of another",
     .details = "One change; prints the element. Exit code 2 when there is none.",
     .example = "kvctl lmove jobs jobs:running left right",
     .fill = fill_lmove,
     .print = kvctl_show_element},
};
const struct kvctl_group kvctl_list_group = {
    "lists",
    list_commands,
    sizeof list_commands / sizeof list_commands[0],
};
