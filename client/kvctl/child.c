/* Other programs, started by posix_spawn: it tells why one cannot be started, and works in a
 * process with threads. */
#define _GNU_SOURCE /* sigabbrev_np, posix_spawn_file_actions_addtcsetpgrp_np */
#include "client/kvctl/child.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The terminal on standard input when this process's group has it, else -1. */
static int own_terminal(void)
{
    return isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp() ? STDIN_FILENO : -1;
}

int kvctl_child_start(const char *const *argv,
                      char *const *environment,
                      const sigset_t *blocked,
                      pid_t *ret_pid,
                      struct kv_error *ret_error)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int terminal = own_terminal();
    sigset_t defaults = *blocked;
    sigset_t none;
    int number;

    sigemptyset(&none);
    sigaddset(&defaults, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    if (terminal >= 0) {
        posix_spawn_file_actions_addtcsetpgrp_np(&actions, terminal);
    }
    number =
        posix_spawnp(ret_pid, argv[0], &actions, &attributes, (char *const *)argv, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (number == 0) {
        return 0;
    }
    kv_error_set(ret_error, KV_IO, "cannot start %.200s: %s", argv[0], strerror(number));
    return number == ENOENT ? KVCTL_NO_COMMAND : KVCTL_CANNOT_RUN;
}

int kvctl_child_code(int wait_status)
{
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status)
                                  : KVCTL_SIGNALED + WTERMSIG(wait_status);
}

int kvctl_signal_number(const char *name)
{
    int64_t number;

    if (kvctl_parse_number(name, 1, NSIG - 1, &number)) {
        return (int)number;
    }
    name += strncmp(name, "SIG", 3) == 0 ? 3 : 0;
    for (int i = 1; i < NSIG; i++) {
        const char *known = sigabbrev_np(i);

        if (known && strcmp(known, name) == 0) {
            return i;
        }
    }
    return 0;
}

/* The command with "$KV_FILE" for each {}; the caller frees it. */
static char *fill_in(const char *before, const char *command)
{
    char *text = malloc(strlen(before) + 6 * strlen(command) + 1);
    char *p = text ? stpcpy(text, before) : NULL;

    while (text && *command) {
        if (command[0] == '{' && command[1] == '}') {
            p = stpcpy(p, "\"$KV_FILE\"");
            command += 2;
        } else {
            *p++ = *command++;
        }
    }
    if (text) {
        *p = '\0';
    }
    return text;
}

int kvctl_shell_command(const char *before,
                        const char *command,
                        const char *file,
                        struct kv_error *ret_error)
{
    char *text = fill_in(before ? before : "", command);
    char *argv[] = {(char *)"sh", (char *)"-c", text, NULL};
    int wait_status = 0;
    int number = ENOMEM;
    pid_t pid;

    if (text && setenv("KV_FILE", file, 1) == 0) {
        number = posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ);
    }
    free(text);
    if (number != 0) {
        return kv_error_set(ret_error, KV_IO, "cannot start /bin/sh: %s", strerror(number));
    }
    while (waitpid(pid, &wait_status, 0) < 0 && errno == EINTR) {
        /* once more */
    }
    if (wait_status != 0) {
        return kv_error_set(
            ret_error, KV_IO, "\"%.200s\" ended with %d", command, kvctl_child_code(wait_status));
    }
    return 0;
}
