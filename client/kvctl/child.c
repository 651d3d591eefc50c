/* Other programs. What runs beside us is forked, since posix_spawn knows nothing of a parent's
 * death; what we wait for is spawned. */
#define _GNU_SOURCE /* sigabbrev_np, execvpe, pipe2 */
#include "client/kvctl/child.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The terminal on standard input when this process's group has it, else -1. */
static int own_terminal(void)
{
    return isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp() ? STDIN_FILENO : -1;
}

/* What the child needs; prepared before the fork, since behind it nothing may be allocated. */
struct start {
    const char *const *argv;
    char *const *environment;
    sigset_t defaults; /* at their usual ways again; what has a handler is in any case */
    int terminal;      /* -1: none */
    pid_t parent;
    int report; /* where errno goes when it cannot be started; closed by exec */
};

static void reset_signals(const sigset_t *defaults)
{
    const struct sigaction usual = {.sa_handler = SIG_DFL};
    struct sigaction action;
    sigset_t none;

    for (int i = 1; i < NSIG; i++) {
        if (sigaction(i, NULL, &action) == 0 &&
            (sigismember(defaults, i) == 1 || action.sa_handler != SIG_IGN)) {
            (void)sigaction(i, &usual, NULL);
        }
    }
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child, all signals blocked: async-signal-safe calls alone, since other threads' locks may
 * be held for ever. */
static void become(const struct start *start)
{
    int number;

    (void)setpgid(0, 0);
    if (start->terminal >= 0) {
        (void)tcsetpgrp(start->terminal, getpgrp());
    }
    reset_signals(&start->defaults);
    /* However we end, kill -9 too, it is told to. */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != start->parent) {
        /* Too late for that: the parent is gone. */
        (void)raise(SIGTERM);
    }
    execvpe(start->argv[0], (char *const *)start->argv, start->environment);
    number = errno;
    if (write(start->report, &number, sizeof number) < 0) {
        /* Nobody hears it. */
        _exit(KVCTL_NO_COMMAND);
    }
    _exit(KVCTL_CANNOT_RUN);
}

/* 0, or errno of the fork, or of the child's exec. */
static int start_child(struct start *start, pid_t *ret_pid)
{
    sigset_t all;
    sigset_t before;
    int number = 0;
    int ends[2];
    ssize_t size;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        return errno;
    }
    start->parent = getpid();
    start->report = ends[1];
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pid = fork();
    if (pid == 0) {
        become(start);
    }
    number = pid < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(ends[1]);
    if (pid > 0) {
        while ((size = read(ends[0], &number, sizeof number)) < 0 && errno == EINTR) {
            /* once more */
        }
        if (size == (ssize_t)sizeof number) {
            (void)waitpid(pid, NULL, 0);
        } else {
            number = 0;
            *ret_pid = pid;
        }
    }
    close(ends[0]);
    return number;
}

int kvctl_child_start(const char *const *argv,
                      char *const *environment,
                      const sigset_t *blocked,
                      pid_t *ret_pid,
                      struct kv_error *ret_error)
{
    struct start start = {
        .argv = argv, .environment = environment, .defaults = *blocked, .terminal = own_terminal()};
    int number;

    sigaddset(&start.defaults, SIGPIPE);
    number = start_child(&start, ret_pid);
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
