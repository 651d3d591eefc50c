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
     .example = "kvctl export config/ --format json",
     .run = kvctl_run_export},
    {.name = "import",
     .arguments = "FILE",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_PREFIX) | B(KVCTL_ALL) | B(KVCTL_DRY_RUN) | B(KVCTL_DIFF) |
                B(KVCTL_DELETE_MISSING),
     .writes = true,
     .session = true,
     .summary = "make keys as a file says, in one transaction",
     .details = FILE_HELP
     "\nFILE may be - (standard input). --prefix takes only that part of the file. Nothing is "
     "applied when the "
     "file\nis wrong, or when a key that would change was changed by somebody else "
     "meanwhile (exit code 2). $ttl_ms is set on\nkeys, and on fields of hashes, that are new, on "
     "fields also with a new value; what is "
     "there keeps its time.",
     .example = "kvctl import config.yaml --prefix config/ --delete-missing --diff",
     .run = kvctl_run_import},
    {.name = "edit",
     .arguments = "PREFIX",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_YES),
     .writes = true,
     .session = true,
     .summary = "change keys in an editor, in one transaction",
     .details =
         "The keys below PREFIX, as export writes them, in $VISUAL, $EDITOR or vi. What is "
         "different "
         "afterwards is shown, and\napplied after a yes, unless one of those keys was changed by "
         "somebody "
         "else meanwhile (exit code 2): they are named,\nnothing is applied, and the file is kept.",
     .example = "kvctl edit config/",
     .run = kvctl_run_edit},
    {.name = "rollback",
     .arguments = "KEY | PREFIX/ | --prefix P --to REVISION",
     .min_arguments = 0,
     .max_arguments = 1,
     .options = B(KVCTL_PREFIX) | B(KVCTL_BACK_TO) | B(KVCTL_DRY_RUN) | B(KVCTL_DIFF),
     .writes = true,
     .session = true,
     .summary = "make keys as they were at a revision, in one transaction",
     .details =
         "Keys that were made since are deleted, deleted ones come back with their type, without "
         "an end of their own.\nNothing is applied when somebody else changes them meanwhile (exit "
         "code "
         "2). COMPACTED: the cluster does not\nremember that revision any more.",
     .example = "kvctl rollback config/ --to 41 --dry-run",
     .run = kvctl_run_rollback},
    {.name = "render",
     .arguments = "TEMPLATE FILE",
     .min_arguments = 2,
     .max_arguments = 2,
     .options = B(KVCTL_WATCH) | B(KVCTL_ONCE) | B(KVCTL_DEBOUNCE) | B(KVCTL_CHECK) | B(KVCTL_EXEC),
     .summary = "fill a file from keys by a template",
     .details =
         "In a template:\n\n"
         "  {{ key \"app/db/host\" }}                    a string or counter; it must be there\n"
         "  {{ key \"app/db/port\" | default \"5432\" }}   or this is taken\n"
         "  {{ hash \"user:1\" \"name\" }}               a field of a hash\n"
         "  {{ range prefix \"app/\" }} {{ .key }} {{ .name }} {{ .value }} {{ else }} {{ end }}\n"
         "  {{ if exists \"app/tls\" }} {{ else }} {{ end }}     `if not exists` as well\n"
         "  {{ include \"other.tmpl\" }}   {{ # a comment }}   {{ \"{{\" }}\n\n"
         "Filters behind a |: json and shell quote, base64. {{- and -}} take the white space off. "
         "All keys "
         "are of one\nrevision. FILE (- is standard output) is replaced as a whole, and only when "
         "it would "
         "be another; its mode stays.\nThe check gets the new file's path as {} or $KV_FILE before "
         "it "
         "takes effect, --exec gets FILE's afterwards.\nWith --watch what goes wrong is said, FILE "
         "stays, "
         "and the next change is waited for.",
     .example = "kvctl render app.tmpl /etc/app.conf --watch --check 'app -t {}' --exec 'systemctl "
                "reload app'",
     .run = kvctl_run_render},
    {.name = "run",
     .arguments = "--prefix P [--prefix P ...] -- COMMAND [ARGUMENTS]",
     .min_arguments = 1,
     .max_arguments = -1,
     .options = B(KVCTL_PREFIX) | B(KVCTL_ON_CHANGE) | B(KVCTL_DEBOUNCE) | B(KVCTL_GRACE) |
                B(KVCTL_CACHE) | B(KVCTL_RESTART_ON_EXIT),
     .offline = true,
     .summary = "run a command with its environment from keys",
     .details =
         "The key app/db-host below --prefix app/ is the variable DB_HOST: upper case, _ for "
         "whatever is no letter or digit.\nA later prefix overrides an earlier one, and both what "
         "is inherited. "
         "Keys that make no variable are said.\nSignals are passed on, and the command's exit code "
         "is "
         "kvctl's; 127: there is no such command, 126: it cannot be\nstarted. When keys change, "
         "the "
         "command gets TERM (and KILL after --grace) and is started anew, unless --on-change\nsays "
         "otherwise. While the cluster is away the command goes on; with --cache it can be started "
         "then, too.",
     .example = "kvctl run --prefix app/ --cache /var/lib/app/config.json -- app --serve",
     .run = kvctl_run_service},
};
const struct kvctl_group kvctl_configuration_group = {
    "configuration", commands, sizeof commands / sizeof commands[0]};
