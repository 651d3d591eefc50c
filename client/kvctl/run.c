/* The program but its process: what commands share, and how one is run. */
#include "client/kvctl/stream.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define ENDPOINTS_DEFAULT "127.0.0.1:4700"
#ifndef KVCTL_VERSION_TEXT
#define KVCTL_VERSION_TEXT "unknown"
#endif
enum { TIMEOUT_DEFAULT_MS = 5000 };

struct kv_bytes kvctl_argument(const struct kvctl *kvctl, size_t i)
{
    return kv_bytes_str(kvctl->args.arguments[i]);
}

struct kv_call_options kvctl_call_options(const struct kvctl *kvctl)
{
    int64_t timeout_ms = kvctl->args.numbers[KVCTL_TIMEOUT];
    bool waits = kvctl->args.command && kvctl->args.command->waits;

    return (struct kv_call_options){
        .deadline_ms = timeout_ms && !waits ? (unsigned)timeout_ms : TIMEOUT_DEFAULT_MS,
        .serializable = kvctl->args.set[KVCTL_SERIALIZABLE],
        .stop = kvctl_stop,
    };
}

enum kvctl_exit kvctl_exit_of(int status, bool writes)
{
    switch (status) {
    case 0:
        return KVCTL_OK;
    case KV_NOT_FOUND:
    case KV_EXISTS:
    case KV_CONDITION_FAILED:
        return KVCTL_NOT_MET;
    case KV_NO_MEMORY:
        return KVCTL_LOCAL;
    default:
        break;
    }
    switch (kv_status_retry(status)) {
    case KV_RETRY_LATER:
    case KV_RETRY_ELSEWHERE:
        return KVCTL_UNAVAILABLE;
    case KV_RETRY_UNKNOWN:
        return writes ? KVCTL_UNKNOWN : KVCTL_UNAVAILABLE;
    default:
        return KVCTL_REFUSED;
    }
}

int kvctl_fail(struct kvctl *kvctl, const struct kv_error *error)
{
    const struct kvctl_command *command = kvctl->args.command;

    /* What was printed so far comes first, also when both go to one terminal. */
    fflush(kvctl->out);
    /* In the shell the terminal has shown a ^C. */
    fprintf(kvctl->err,
            "%skvctl %s: %s: %s\n",
            kvctl->in_shell && kvctl_interrupted() ? "\n" : "",
            command->name,
            kv_status_name(error->status),
            error->message);
    return kvctl_exit_of(error->status, command->writes);
}

int kvctl_usage(struct kvctl *kvctl, const char *format, ...)
{
    va_list arguments;

    fputs("kvctl: ", kvctl->err);
    va_start(arguments, format);
    vfprintf(kvctl->err, format, arguments);
    va_end(arguments);
    fputc('\n', kvctl->err);
    return KVCTL_USAGE;
}

int kvctl_open(struct kvctl *kvctl, const char *endpoints, struct kv_client **ret_client)
{
    /* One request: not worth a move to the leader, nor waiting for nodes that are not there. */
    struct kv_client_options options = {
        .endpoints = endpoints,
        .name = "kvctl",
        .stay = true,
        .impatient = !kvctl->args.command->stays,
        /* One command does not pay for a session. */
        .no_session = !kvctl->args.command->session,
    };
    struct kv_error error;
    int status = kv_client_open(&options, ret_client, &error);

    if (status == KV_INVALID) {
        return kvctl_usage(kvctl, "%s", error.message);
    }
    if (status < 0) {
        fprintf(kvctl->err, "kvctl: %s\n", error.message);
        return KVCTL_LOCAL;
    }
    return KVCTL_OK;
}

int kvctl_run_version(struct kvctl *kvctl)
{
    fprintf(kvctl->out, "kvctl " KVCTL_VERSION_TEXT "\n");
    return KVCTL_OK;
}

int kvctl_run_help(struct kvctl *kvctl)
{
    const struct kvctl_command *command;
    char name[128];

    if (kvctl->args.n_arguments == 0) {
        kvctl_help(kvctl->out);
        return KVCTL_OK;
    }
    snprintf(name,
             sizeof name,
             "%.60s%s%.60s",
             kvctl->args.arguments[0],
             kvctl->args.n_arguments > 1 ? " " : "",
             kvctl->args.n_arguments > 1 ? kvctl->args.arguments[1] : "");
    command = kvctl_find_command(name);
    if (!command) {
        return kvctl_usage(kvctl, "unknown command \"%s\"; see kvctl help", name);
    }
    kvctl_help_command(kvctl->out, command);
    return KVCTL_OK;
}

int kvctl_dispatch(struct kvctl *kvctl)
{
    const struct kvctl_command *command = kvctl->args.command;

    if (kvctl->args.set[KVCTL_HELP]) {
        if (command) {
            kvctl_help_command(kvctl->out, command);
        } else {
            kvctl_help(kvctl->out);
        }
        return KVCTL_OK;
    }
    return command->run ? command->run(kvctl) : kvctl_run_request(kvctl);
}

static int run_command(struct kvctl *kvctl)
{
    const struct kvctl_command *command = kvctl->args.command;
    int code;

    if (kvctl->args.set[KVCTL_HELP] || command->offline) {
        return kvctl_dispatch(kvctl);
    }
    code = kvctl_open(kvctl, kvctl->endpoints, &kvctl->client);
    if (code == KVCTL_OK) {
        code = kvctl_dispatch(kvctl);
        kv_client_close(kvctl->client);
    }
    return code;
}

int kvctl_main(int argc, const char *const *argv, const char *environment, FILE *out, FILE *err)
{
    struct kvctl kvctl = {.endpoints = ENDPOINTS_DEFAULT, .out = out, .err = err};
    struct kv_error error;
    int code = kvctl_args_parse(argc, argv, &kvctl.args, &error);

    if (code != KVCTL_OK) {
        fprintf(err, "kvctl: %s\n", error.message);
        return code;
    }
    if (kvctl.args.set[KVCTL_ENDPOINTS]) {
        kvctl.endpoints = kvctl.args.strings[KVCTL_ENDPOINTS];
    } else if (environment && environment[0]) {
        kvctl.endpoints = environment;
    }
    code = run_command(&kvctl);
    kvctl_args_free(&kvctl.args);
    if ((fflush(out) != 0 || ferror(out)) && code == KVCTL_OK) {
        fprintf(err, "kvctl: the output cannot be written\n");
        code = KVCTL_LOCAL;
    }
    return code;
}
