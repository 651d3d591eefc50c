/* kvctl inside: one table row per command and per option (table.c), parsed arguments, output. */
#ifndef KV_KVCTL_KVCTL_H
#define KV_KVCTL_KVCTL_H

#include "common/status.h"

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
    KVCTL_N_OPTIONS,
};
#define KVCTL_BIT(id) (1u << (id))

enum kvctl_option_type {
    KVCTL_FLAG,
    KVCTL_STRING,
    KVCTL_NUMBER,   /* 0..2^63-1 */
    KVCTL_DURATION, /* 500ms 5s 2m; kept in ms */
    KVCTL_FORMAT,   /* text json value */
};

struct kvctl_option {
    enum kvctl_option_id id;
    const char *name;  /* without dashes */
    const char *alias; /* another name; NULL */
    char letter;       /* 0: none */
    enum kvctl_option_type type;
    const char *argument; /* how help names it */
    const char *help;
};

struct kvctl;
struct kvctl_command {
    const char *name;      /* "put", "config list" */
    const char *arguments; /* for help */
    int min_arguments;
    int max_arguments; /* -1: any number */
    unsigned options;  /* KVCTL_BIT of those beyond the global ones */
    bool writes;
    bool offline; /* needs no client */
    const char *summary;
    const char *details; /* may be "" */
    const char *example;
    int (*run)(struct kvctl *kvctl); /* an enum kvctl_exit */
};

extern const struct kvctl_option kvctl_options[];
extern const size_t kvctl_n_options;
extern const struct kvctl_command kvctl_commands[];
extern const size_t kvctl_n_commands;

enum kvctl_format { KVCTL_TEXT, KVCTL_JSON, KVCTL_VALUE };

struct kvctl_args {
    const struct kvctl_command *command; /* NULL: none named */
    bool set[KVCTL_N_OPTIONS];
    const char *strings[KVCTL_N_OPTIONS];
    int64_t numbers[KVCTL_N_OPTIONS];
    enum kvctl_format format;
    const char **arguments; /* owned array of borrowed strings */
    size_t n_arguments;
};

struct kvctl {
    struct kvctl_args args;
    const char *endpoints;
    struct kv_client *client;
    FILE *out;
    FILE *err;
};

/* --- args.c --- */
/* Reads argv[1..]; KVCTL_USAGE with a message that names the nearest command or option. */
int kvctl_args_parse(int argc,
                     const char *const *argv,
                     struct kvctl_args *ret_args,
                     struct kv_error *ret_error) KV_MUST_CHECK;
void kvctl_args_free(struct kvctl_args *args);
/* A whole decimal number within bounds. */
bool kvctl_parse_number(const char *text, int64_t min, int64_t max, int64_t *ret_number);
bool kvctl_parse_duration_ms(const char *text, int64_t *ret_ms);
/* The name of the list that is nearest to text, or NULL when none is near. */
const char *kvctl_nearest(const char *text, const char *(*name_of)(size_t i), size_t n_names);
void kvctl_help(FILE *file);
void kvctl_help_command(FILE *file, const struct kvctl_command *command);
/* The row with this name; NULL. */
const struct kvctl_command *kvctl_find_command(const char *name);

/* --- value.c --- */
/* A value as given on the command line: "-" reads standard input, "@file" a file, "@@x" is "@x".
 * At most the 8 MiB of the largest value. The caller frees *ret_memory. */
int kvctl_read_value(const char *argument,
                     FILE *input,
                     struct kv_bytes *ret_value,
                     void **ret_memory,
                     struct kv_error *ret_error) KV_MUST_CHECK;

/* --- print.c --- */
/* Printable UTF-8 as it is; backslash, control characters and bad UTF-8 as \\ \n \t \xNN. */
void kvctl_print_escaped(FILE *file, struct kv_bytes bytes);
void kvctl_print_raw(FILE *file, struct kv_bytes bytes);
/* "name":"text"; bad UTF-8 becomes U+FFFD and "name_base64" follows with the exact bytes. */
void kvctl_print_json_bytes(FILE *file, const char *name, struct kv_bytes bytes);
void kvctl_print_json_string(FILE *file, const char *text);
/* {"key":...,"value":...,...}; without value when keys_only. */
void kvctl_print_json_pair(FILE *file, const struct kv_pair *pair, bool keys_only);

/* --- commands --- */
struct kv_call_options kvctl_call_options(const struct kvctl *kvctl);
/* Prints the error; returns the exit code of its status. */
int kvctl_fail(struct kvctl *kvctl, const struct kv_error *error);
int kvctl_usage(struct kvctl *kvctl, const char *format, ...) KV_PRINTF(2, 3);
enum kvctl_exit kvctl_exit_of(int status, bool writes);
struct kv_bytes kvctl_argument(const struct kvctl *kvctl, size_t i);
/* A client for this one endpoint or list; KVCTL_OK or an exit code. */
int kvctl_open(struct kvctl *kvctl, const char *endpoints, struct kv_client **ret_client);

int kvctl_run_put(struct kvctl *kvctl);
int kvctl_run_get(struct kvctl *kvctl);
int kvctl_run_append(struct kvctl *kvctl);
int kvctl_run_getset(struct kvctl *kvctl);
int kvctl_run_getdel(struct kvctl *kvctl);
int kvctl_run_strlen(struct kvctl *kvctl);
int kvctl_run_getrange(struct kvctl *kvctl);
int kvctl_run_setrange(struct kvctl *kvctl);
int kvctl_run_exists(struct kvctl *kvctl);
int kvctl_run_del(struct kvctl *kvctl);
int kvctl_run_range(struct kvctl *kvctl);
int kvctl_run_ls(struct kvctl *kvctl);
int kvctl_run_count(struct kvctl *kvctl);
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

/* The whole program but its process: parses, opens, runs. */
int kvctl_main(int argc, const char *const *argv, const char *environment, FILE *out, FILE *err);

#endif
