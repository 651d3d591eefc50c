/* kvctl shell: lines to commands, on one connection. */
#include "client/kvctl/shell.h"
#include "client/kvctl/child.h"
#include "client/kvctl/stream.h"
#include "common/limits.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a line's command inherits from the shell's own options. */
static void inherit(const struct kvctl_args *from, struct kvctl_args *args)
{
    if (!args->set[KVCTL_OUTPUT] && !args->set[KVCTL_LINES]) {
        args->format = from->format;
    }
    if (!args->set[KVCTL_TIMEOUT]) {
        args->numbers[KVCTL_TIMEOUT] = from->numbers[KVCTL_TIMEOUT];
    }
    args->set[KVCTL_SERIALIZABLE] |= from->set[KVCTL_SERIALIZABLE];
}

/* On a terminal ctrl-C stops the command alone; what asks the program to end ends the shell. */
static int dispatch(struct kvctl_shell *shell, struct kvctl *one)
{
    int code;

    if (!shell->terminal) {
        return kvctl_dispatch(one);
    }
    kvctl_interrupts_begin();
    code = kvctl_dispatch(one);
    if (kvctl_interrupted() && kvctl_interrupt_code() != KVCTL_SIGNALED + SIGINT) {
        code = kvctl_interrupt_code();
        shell->ended = true;
    }
    kvctl_interrupts_end();
    return code;
}

static int run_words(struct kvctl_shell *shell, const struct kvctl_line *line, const char **argv)
{
    struct kvctl one = *shell->kvctl;
    struct kv_error error;
    int64_t begin_us;
    int code;

    argv[0] = "kvctl";
    memcpy(argv + 1, line->words, line->n_words * sizeof *argv);
    code = kvctl_args_parse((int)line->n_words + 1, argv, &one.args, &error);
    if (code != KVCTL_OK) {
        fprintf(one.err, "kvctl: %s\n", error.message);
        return code;
    }
    one.in_shell = true;
    inherit(&shell->kvctl->args, &one.args);
    begin_us = kvctl_now_us();
    if (one.args.set[KVCTL_ENDPOINTS]) {
        code = kvctl_usage(&one, "--endpoints belongs to the shell itself: kvctl -e ... shell");
    } else if (one.args.command && one.args.command->run == kvctl_run_shell) {
        code = kvctl_usage(&one, "this is a shell already");
    } else {
        code = dispatch(shell, &one);
    }
    kvctl_args_free(&one.args);
    fflush(one.out);
    if (shell->terminal && shell->timing) {
        fprintf(one.err, "(%.1f ms)\n", (double)(kvctl_now_us() - begin_us) / 1000.0);
    }
    return code;
}

/* The shell's own words. false: it is none of them. */
static bool run_own(struct kvctl_shell *shell, const struct kvctl_line *line)
{
    if (line->n_words == 1 &&
        (strcmp(line->words[0], "exit") == 0 || strcmp(line->words[0], "quit") == 0)) {
        shell->ended = true;
        return true;
    }
    if (line->n_words == 2 && strcmp(line->words[0], "timing") == 0 &&
        (strcmp(line->words[1], "on") == 0 || strcmp(line->words[1], "off") == 0)) {
        shell->timing = line->words[1][1] == 'n';
        return true;
    }
    return false;
}

void kvctl_shell_line(struct kvctl_shell *shell, const char *text)
{
    struct kvctl_line line;
    struct kv_arena arena;
    struct kv_error error;
    const char **argv;
    int code = KVCTL_OK;

    /* A word is no longer than its line; with each a pointer, twice. */
    kv_arena_init(&arena, 64 * KV_MIB + 64 * strlen(text));
    if (kvctl_split(&arena, text, &line, &error) < 0) {
        fprintf(shell->kvctl->err, "kvctl: %s\n", error.message);
        code = KVCTL_USAGE;
    } else if (line.n_words > 0 && !run_own(shell, &line)) {
        argv = kv_arena_alloc(&arena, (line.n_words + 1) * sizeof *argv);
        code = argv ? run_words(shell, &line, argv) : KVCTL_LOCAL;
    }
    kv_arena_deinit(&arena);
    if (code != KVCTL_OK) {
        shell->failure = code;
    }
}

/* No terminal: a line each, nothing but the commands' output. */
static void read_plain(struct kvctl_shell *shell)
{
    char *line = NULL;
    size_t size = 0;

    while (!shell->ended && getline(&line, &size, stdin) > 0) {
        kvctl_shell_line(shell, line);
    }
    free(line);
}

int kvctl_run_shell(struct kvctl *kvctl)
{
    struct kvctl_shell shell = {.kvctl = kvctl, .timing = true};

    shell.terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (!shell.terminal) {
        read_plain(&shell);
        return shell.failure;
    }
    return kvctl_shell_edit(&shell);
}
