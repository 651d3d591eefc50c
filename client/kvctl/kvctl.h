/* kvctl inside: one table row per command and per option (table.c), parsed arguments, output. */
#ifndef KV_KVCTL_KVCTL_H
#define KV_KVCTL_KVCTL_H

#include "common/arena.h"
#include "common/status.h"
#include "proto/kv.pb-c.h"

#include <kv/client.h>
#include <stdio.h>

/* What the process exits with; the table is part of `kvctl help`. */
enum kvctl_exit {
    KVCTL_OK = 0,
    KVCTL_USAGE = 1,       /* wrong command line */
    KVCTL_NOT_MET = 2,     /* not found, exists already, condition not met */
    KVCTL_UNAVAILABLE = 3, /* no endpoint, no leader, too busy: nothing was done */
    KVCTL_REFUSED = 4,     /* the server says that the request is wrong, or has a fault */
    KVCTL_UNKNOWN = 5,     /* a write that may or may not have been done */
    KVCTL_LOCAL = 6,       /* a file, the output or memory of this machine */
};

enum kvctl_option_id {
    KVCTL_ENDPOINTS,
    KVCTL_OUTPUT,
    KVCTL_TIMEOUT,
    KVCTL_SERIALIZABLE,
    KVCTL_HELP,
    KVCTL_IF_ABSENT,
    KVCTL_IF_PRESENT,
    KVCTL_IF_REV,
    KVCTL_IF_VALUE,
    KVCTL_PREV,
    KVCTL_AT,
    KVCTL_PREFIX,
    KVCTL_FROM,
    KVCTL_TO,
    KVCTL_ALL,
    KVCTL_LIMIT,
    KVCTL_KEYS_ONLY,
    KVCTL_COUNT_ONLY,
    KVCTL_DESC,
    KVCTL_ATOMIC,
    KVCTL_MIN,
    KVCTL_MAX,
    KVCTL_INITIAL,
    KVCTL_CURSOR,
    KVCTL_NX,
    KVCTL_XX,
    KVCTL_GT,
    KVCTL_LT,
    KVCTL_INCR,
    KVCTL_CH,
    KVCTL_REV,
    KVCTL_BY_SCORE,
    KVCTL_BY_LEX,
    KVCTL_SCORES,
    KVCTL_OFFSET,
    KVCTL_WEIGHTS,
    KVCTL_AGGREGATE,
    KVCTL_RATE,
    KVCTL_BURST,
    KVCTL_PERMITS,
    KVCTL_START_REVISION,
    KVCTL_FROM_REVISION,
    KVCTL_TO_REVISION,
    KVCTL_NOTATION,
    KVCTL_DRY_RUN,
    KVCTL_DIFF,
    KVCTL_DELETE_MISSING,
    KVCTL_YES,
    KVCTL_BACK_TO,
    KVCTL_WATCH,
    KVCTL_EXEC,
    KVCTL_CHECK,
    KVCTL_ONCE,
    KVCTL_ON_CHANGE,
    KVCTL_DEBOUNCE,
    KVCTL_CACHE,
    KVCTL_GRACE,
    KVCTL_RESTART_ON_EXIT,
    /* time, streams, coordination */
    KVCTL_TTL,
    KVCTL_LEASE,
    KVCTL_KEEP,
    KVCTL_ID,
    KVCTL_IS_PREFIX,
    KVCTL_KINDS,
    KVCTL_LINES,
    KVCTL_COUNT,
    KVCTL_PATTERN,
    KVCTL_LAST,
    KVCTL_TRY,
    KVCTL_SHARED,
    KVCTL_OBSERVE,
    KVCTL_FOR,
    KVCTL_INTERVAL,
    KVCTL_N_OPTIONS,
};
/* A set of options. */
__extension__ typedef unsigned __int128 kvctl_bits;
#define KVCTL_BIT(id) ((kvctl_bits)1 << (id))
_Static_assert(KVCTL_N_OPTIONS <= 128, "an option has a bit of kvctl_bits");

enum kvctl_option_type {
    KVCTL_FLAG,
    KVCTL_STRING,
    KVCTL_NUMBER,   /* 0..2^63-1 */
    KVCTL_INTEGER,  /* -2^63..2^63-1 */
    KVCTL_DURATION, /* 500ms 5s 2m 1h 7d; kept in ms */
    KVCTL_FORMAT,   /* text json value */
};

struct kvctl_option {
    enum kvctl_option_id id;
    const char *name;  /* without dashes */
    const char *alias; /* other names, separated by spaces; NULL */
    char letter;       /* 0: none */
    enum kvctl_option_type type;
    const char *argument; /* how help names it */
    const char *help;
};

struct kvctl;
struct kvctl_call;
/* A command has run, or, if its request is all there is to it, fill and print: then it may also be
 * an operation of a transaction. Some have both, since by themselves they do more than one request.
 */
struct kvctl_command {
    const char *name;      /* "put", "config list" */
    const char *arguments; /* for help */
    int min_arguments;
    int max_arguments;  /* -1: any number */
    kvctl_bits options; /* KVCTL_BIT of those beyond the global ones */
    bool writes;
    bool offline; /* needs no client, or opens one itself */
    bool session; /* needs a session in the cluster: it waits, is many commands, or a large one */
    bool waits;   /* --timeout is how long it waits for its turn, not for an answer */
    bool stays;   /* until it is told to end: through the loss of nodes, too */
    const char *summary;
    const char *details; /* may be "" */
    const char *example;
    int (*run)(struct kvctl *kvctl); /* an enum kvctl_exit, as of the two below */
    int (*fill)(struct kvctl_call *call);
    int (*print)(struct kvctl_call *call, const Kv__Reply *reply);
};
struct kvctl_group {
    const char *title;
    const struct kvctl_command *commands;
    size_t n_commands;
};

extern const struct kvctl_option kvctl_options[];
extern const size_t kvctl_n_options;
extern const struct kvctl_group *const kvctl_groups[];
extern const size_t kvctl_n_groups;

enum kvctl_format { KVCTL_TEXT, KVCTL_JSON, KVCTL_VALUE };

enum {
    KVCTL_PREFIXES_MAX = 16, /* of one command line: layers of a configuration */
    KVCTL_VARIABLE_BYTES_MAX =
        128 * 1024 - 1, /* NAME=value; Linux: MAX_ARG_STRLEN, with the zero */
};

struct kvctl_args {
    const struct kvctl_command *command; /* NULL: none named */
    bool set[KVCTL_N_OPTIONS];
    const char *strings[KVCTL_N_OPTIONS];
    int64_t numbers[KVCTL_N_OPTIONS];
    enum kvctl_format format;
    const char *prefixes[KVCTL_PREFIXES_MAX]; /* each --prefix, in their order */
    size_t n_prefixes;
    const char **arguments; /* owned array of borrowed strings, NULL at the end */
    size_t n_arguments;
};

struct kvctl {
    struct kvctl_args args;
    const char *endpoints;
    struct kv_client *client;
    FILE *out;
    FILE *err;
    bool in_shell; /* standard input has the shell's lines, not a value */
};

/* One command's request on its way. */
struct kvctl_call {
    struct kvctl *kvctl;
    const struct kvctl_args *args;
    struct kv_arena *arena; /* what the request refers to */
    Kv__Request request;
    unsigned wait_ms; /* that the server is asked to wait, beyond the timeout */
    bool nested;      /* an operation of a transaction: standard input is not its value */
};

/* --- args.c --- */
/* The i-th of all commands; NULL behind the last. */
const struct kvctl_command *kvctl_command_at(size_t i);
size_t kvctl_n_commands(void);
/* Reads argv[1..]; KVCTL_USAGE with a message that names the nearest command or option. */
int kvctl_args_parse(int argc,
                     const char *const *argv,
                     struct kvctl_args *ret_args,
                     struct kv_error *ret_error) KV_MUST_CHECK;
void kvctl_args_free(struct kvctl_args *args);
/* A whole decimal number within bounds. */
bool kvctl_parse_number(const char *text, int64_t min, int64_t max, int64_t *ret_number);
/* 500ms 5s 2m 1h 7d; above zero, at most ten years. */
bool kvctl_parse_duration_ms(const char *text, int64_t *ret_ms);
/* A score: a decimal number, inf, +inf or -inf. Not NaN, nothing behind it. */
bool kvctl_parse_score(const char *text, double *ret_score);
/* The name of the list that is nearest to text, or NULL when none is near. */
const char *kvctl_nearest(const char *text, const char *(*name_of)(size_t i), size_t n_names);
/* The option that a word of a command line names; NULL. command may be NULL. */
const struct kvctl_option *kvctl_word_option(const struct kvctl_command *command, const char *word);
void kvctl_help(FILE *file);
void kvctl_help_command(FILE *file, const struct kvctl_command *command);
/* The row with this name; NULL. */
const struct kvctl_command *kvctl_find_command(const char *name);

/* --- clock.c --- */
/* Monotonic. */
int64_t kvctl_now_us(void);
int64_t kvctl_now_ms(void);

/* --- value.c --- */
/* A value as given on the command line: "-" reads standard input, "@file" a file, "@@x" is "@x".
 * At most the 8 MiB of the largest value. The caller frees *ret_memory. */
int kvctl_read_value(const char *argument,
                     FILE *input,
                     struct kv_bytes *ret_value,
                     void **ret_memory,
                     struct kv_error *ret_error) KV_MUST_CHECK;

/* --- base64.c --- */
/* Length of the well-formed UTF-8 character at p, 0 when there is none (RFC 3629: no surrogates, no
 * overlong forms, at most U+10FFFF). size is at least 1. */
size_t kvctl_utf8_length(const uint8_t *p, size_t size);
/* UTF-8 without a zero byte: JSON and YAML can hold it, as a name too. */
bool kvctl_is_text(struct kv_bytes bytes);
size_t kvctl_base64_size(size_t size);
/* ret_text: kvctl_base64_size() bytes and a zero. */
void kvctl_base64_encode(struct kv_bytes bytes, char *ret_text);
/* ret_bytes: room for three quarters of the text. */
bool kvctl_base64_decode(struct kv_bytes text, uint8_t *ret_bytes, size_t *ret_size);

/* --- print.c --- */
/* Printable UTF-8 as it is; backslash, control characters and bad UTF-8 as \\ \n \t \xNN. */
void kvctl_print_escaped(FILE *file, struct kv_bytes bytes);
/* Likewise, and a value in parentheses gets a backslash: (nil) and the like are no values. */
void kvctl_print_text(FILE *file, struct kv_bytes bytes);
/* What the key holds: a string's text, a counter's number, (hash of 3), (limiter). */
void kvctl_print_text_value(FILE *file, const struct kv_pair *pair);
/* Borrows. */
struct kv_pair kvctl_pair(const Kv__KeyValue *kv);
void kvctl_print_raw(FILE *file, struct kv_bytes bytes);
/* "name":"text"; bad UTF-8 becomes U+FFFD and "name_base64" follows with the exact bytes. */
void kvctl_print_json_bytes(FILE *file, const char *name, struct kv_bytes bytes);
void kvctl_print_json_string(FILE *file, const char *text);
/* Well-formed UTF-8. A failure to write shows at the file's end (ferror). */
void kvctl_print_json_text(FILE *file, const char *text, size_t size);
/* {"key":...,"value":...,...}; without value when keys_only. */
void kvctl_print_json_pair(FILE *file, const struct kv_pair *pair, bool keys_only);

/* The shortest decimal that reads back as the same double. */
void kvctl_print_score(FILE *file, double score);
/* At most 32 bytes. */
void kvctl_format_score(double score, char *ret_text, size_t size);

/* --- words.c --- */
struct kvctl_line {
    const char **words; /* in the arena */
    size_t n_words;
};
/* Words are separated by spaces; '...' is taken as it stands; in "..." and outside \n \t \\ \" \'
 * \# \xNN and a backslash with a space are what they say; # at the beginning of a word begins a
 * comment. KV_INVALID, KV_NO_MEMORY. */
int kvctl_split(struct kv_arena *arena,
                const char *line,
                struct kvctl_line *ret_line,
                struct kv_error *ret_error) KV_MUST_CHECK;
/* The word so that kvctl_split gives it back. */
void kvctl_quote(FILE *file, const char *word);

/* --- request.c: from words to a request, from a reply to text --- */
/* The message of the command with this number, all fields unset; it belongs to call->request. */
void *kvctl_begin(struct kvctl_call *call, Kv__Request__CommandCase number);
/* Memory that lives as long as the call; zeroed. Ends the program when there is none. */
void *kvctl_alloc(struct kvctl_call *call, size_t size);
ProtobufCBinaryData kvctl_word(const struct kvctl_call *call, size_t i);
/* The words from the i-th on. */
ProtobufCBinaryData *kvctl_words(struct kvctl_call *call, size_t i, size_t *ret_n);
/* A word by the rules of kvctl_read_value; KVCTL_OK or an exit code. */
int kvctl_value(struct kvctl_call *call, size_t i, ProtobufCBinaryData *ret_value);
int kvctl_values(struct kvctl_call *call, size_t i, ProtobufCBinaryData **ret_list, size_t *ret_n);
/* A whole number; KVCTL_OK, or KVCTL_USAGE said with its name. */
int kvctl_integer(struct kvctl_call *call, size_t i, const char *name, int64_t *ret_number);
/* Likewise from 0, and `absent` when there is no such word. */
int kvctl_count(
    struct kvctl_call *call, size_t i, const char *name, uint64_t absent, uint64_t *ret_count);
int kvctl_score(struct kvctl_call *call, size_t i, const char *name, double *ret_score);
/* The bytes of --cursor, which is in hex. */
int kvctl_cursor(struct kvctl_call *call, ProtobufCBinaryData *ret_cursor);
/* What is printed of results; each an enum kvctl_exit. */
int kvctl_show_done(struct kvctl_call *call, const Kv__Reply *reply);
int kvctl_show_count(struct kvctl_call *call, const Kv__Reply *reply);
int kvctl_show_counter(struct kvctl_call *call, const Kv__Reply *reply);
int kvctl_show_elements(struct kvctl_call *call, const Kv__Reply *reply);
/* One element, or none: (nil), KVCTL_NOT_MET. */
int kvctl_show_element(struct kvctl_call *call, const Kv__Reply *reply);
/* The words from the second on, with yes or no; KVCTL_NOT_MET when one is no. */
int kvctl_show_present(struct kvctl_call *call, const Kv__Reply *reply);
/* How many members were stored. */
int kvctl_show_stored(struct kvctl_call *call, const Kv__Reply *reply);
/* --prefix, --from and --to, --all; KVCTL_OK or KVCTL_USAGE. Without any: everything. */
int kvctl_select_range(struct kvctl *kvctl,
                       const struct kvctl_args *args,
                       struct kv_range_spec *ret_spec);
int kvctl_range_message(struct kvctl_call *call, Kv__KeyRange **ret_range);
/* Pieces of output. */
void kvctl_show_bytes(struct kvctl_call *call, const char *name, struct kv_bytes bytes);
void kvctl_show_nil(struct kvctl_call *call);
/* The cursor with which to go on. */
void kvctl_show_more(struct kvctl_call *call, const ProtobufCBinaryData *cursor);
/* In JSON: ,"revision":N} or, without a revision, }. */
void kvctl_show_end(struct kvctl_call *call, const Kv__Reply *reply);
/* What a transaction, or the program, does with a command that has fill and print. */
int kvctl_run_request(struct kvctl *kvctl);

/* --- commands --- */
struct kv_call_options kvctl_call_options(const struct kvctl *kvctl);
/* Prints the error; returns the exit code of its status. */
int kvctl_fail(struct kvctl *kvctl, const struct kv_error *error);
int kvctl_usage(struct kvctl *kvctl, const char *format, ...) KV_PRINTF(2, 3);
enum kvctl_exit kvctl_exit_of(int status, bool writes);
struct kv_bytes kvctl_argument(const struct kvctl *kvctl, size_t i);
/* A client for this one endpoint or list; KVCTL_OK or an exit code. */
int kvctl_open(struct kvctl *kvctl, const char *endpoints, struct kv_client **ret_client);

int kvctl_run_del(struct kvctl *kvctl);
int kvctl_run_range(struct kvctl *kvctl);
int kvctl_run_ls(struct kvctl *kvctl);
int kvctl_run_config_list(struct kvctl *kvctl);
int kvctl_run_config_get(struct kvctl *kvctl);
int kvctl_run_config_set(struct kvctl *kvctl);
int kvctl_run_status(struct kvctl *kvctl);
int kvctl_run_health(struct kvctl *kvctl);
int kvctl_run_member_list(struct kvctl *kvctl);
int kvctl_run_snapshot_take(struct kvctl *kvctl);
int kvctl_run_leader_transfer(struct kvctl *kvctl);
int kvctl_run_help(struct kvctl *kvctl);
int kvctl_run_version(struct kvctl *kvctl);
int kvctl_run_txn(struct kvctl *kvctl);
int kvctl_run_shell(struct kvctl *kvctl);
int kvctl_run_watch(struct kvctl *kvctl);
int kvctl_run_subscribe(struct kvctl *kvctl);
int kvctl_run_top(struct kvctl *kvctl);

int kvctl_fill_append(struct kvctl_call *call);
int kvctl_fill_compact(struct kvctl_call *call);
int kvctl_fill_copy(struct kvctl_call *call);
int kvctl_fill_count(struct kvctl_call *call);
int kvctl_fill_del(struct kvctl_call *call);
int kvctl_fill_exists(struct kvctl_call *call);
int kvctl_fill_get(struct kvctl_call *call);
int kvctl_fill_getdel(struct kvctl_call *call);
int kvctl_fill_getrange(struct kvctl_call *call);
int kvctl_fill_getset(struct kvctl_call *call);
int kvctl_fill_history(struct kvctl_call *call);
int kvctl_fill_put(struct kvctl_call *call);
int kvctl_fill_rename(struct kvctl_call *call);
int kvctl_fill_setrange(struct kvctl_call *call);
int kvctl_fill_strlen(struct kvctl_call *call);
int kvctl_fill_touch(struct kvctl_call *call);
int kvctl_fill_type(struct kvctl_call *call);
int kvctl_print_compact(struct kvctl_call *call, const Kv__Reply *reply);
int kvctl_print_deleted(struct kvctl_call *call, const Kv__Reply *reply);
int kvctl_print_exists(struct kvctl_call *call, const Kv__Reply *reply);
int kvctl_print_history(struct kvctl_call *call, const Kv__Reply *reply);
int kvctl_print_length(struct kvctl_call *call, const Kv__Reply *reply);
int kvctl_print_pair(struct kvctl_call *call, const Kv__Reply *reply);
int kvctl_print_part(struct kvctl_call *call, const Kv__Reply *reply);
int kvctl_print_put(struct kvctl_call *call, const Kv__Reply *reply);
int kvctl_print_strlen(struct kvctl_call *call, const Kv__Reply *reply);
int kvctl_print_type(struct kvctl_call *call, const Kv__Reply *reply);

extern const struct kvctl_group kvctl_string_group;
extern const struct kvctl_group kvctl_key_group;
extern const struct kvctl_group kvctl_counter_group;
extern const struct kvctl_group kvctl_hash_group;
extern const struct kvctl_group kvctl_list_group;
extern const struct kvctl_group kvctl_set_group;
extern const struct kvctl_group kvctl_zset_group;
extern const struct kvctl_group kvctl_configuration_group;
extern const struct kvctl_group kvctl_time_group;
extern const struct kvctl_group kvctl_stream_group;
extern const struct kvctl_group kvctl_lock_group;
extern const struct kvctl_group kvctl_flag_group;
extern const struct kvctl_group kvctl_cluster_group;

/* Runs the command of the arguments, with the client that is open. */
int kvctl_dispatch(struct kvctl *kvctl);
/* The whole program but its process: parses, opens, runs. */
int kvctl_main(int argc, const char *const *argv, const char *environment, FILE *out, FILE *err);

#endif
