/* The rows of the commands that keep a service's configuration; their functions are in the files
 * named after them. */
#include "client/kvctl/config.h"

#define B KVCTL_BIT
#define FILE_HELP                                                                              \
    "A file maps keys to values, in YAML or JSON. A text is a string; other types are "        \
    "{$counter: 5},\n{$hash: {NAME: VALUE}}, {$list: [...]}, {$set: [...]}, {$zset: {MEMBER: " \
    "SCORE}}, and {$base64: ...}\nfor bytes that are no text. A mapping inside another holds " \
    "keys below it: config: {theme: dark} is\nthe key config/theme."

static const struct kvctl_command commands[] = {
    {.name = "export",
     .arguments = "[PREFIX]",
     .min_arguments = 0,
     .max_arguments = 1,
     .options = B(KVCTL_NOTATION) | B(KVCTL_AT),
     .summary = "write keys with their types as YAML or JSON",
     .details = FILE_HELP
     "\n$ttl_ms and $lease tell what remains of a key's time, and its lease. All is of "
     "one revision.",
     .example = "kvctl export config/ > config.yaml",
     .run = kvctl_run_export},
    {.name = "import",
     .arguments = "FILE",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_PREFIX) | B(KVCTL_ALL) | B(KVCTL_DRY_RUN) | B(KVCTL_DIFF) |
                B(KVCTL_DELETE_MISSING),
     .writes = true,
     .summary = "make keys as a file says, in one transaction",
     .details = FILE_HELP
     "\nFILE may be - (standard input). --prefix takes only that part of the file. Nothing is "
     "applied when the "
     "file\nis wrong, or when a key that would change was changed by somebody else "
     "meanwhile (exit code 2). $ttl_ms is set on\nkeys that are new; what is there keeps its time.",
     .example = "kvctl import config.yaml --prefix config/ --delete-missing --diff",
     .run = kvctl_run_import},
    {.name = "rollback",
     .arguments = "KEY | PREFIX/ | --prefix P --to REVISION",
     .min_arguments = 0,
     .max_arguments = 1,
     .options = B(KVCTL_PREFIX) | B(KVCTL_BACK_TO) | B(KVCTL_DRY_RUN) | B(KVCTL_DIFF),
     .writes = true,
     .summary = "make keys as they were at a revision, in one transaction",
     .details =
         "Keys that were made since are deleted, deleted ones come back with their type, without "
         "an end of their own.\nNothing is applied when somebody else changes them meanwhile (exit "
         "code "
         "2). COMPACTED: the cluster does not\nremember that revision any more.",
     .example = "kvctl rollback config/ --to 41 --dry-run",
     .run = kvctl_run_rollback},
};
const struct kvctl_group kvctl_configuration_group = {
    "configuration", commands, sizeof commands / sizeof commands[0]};
