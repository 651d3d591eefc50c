/* Commands that are run for events, one after the other. */
#include "client/kvctl/child.h"
#include "client/kvctl/stream.h"

#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What we ignore or note is not for the child. It stays in our group: ctrl-C ends it, too. */
static int start(const char *command, char *const *variables, int input, pid_t *ret_pid)
{
    const char *argv[] = {"sh", "-c", command, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    int error;

    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    error = posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    if (error == 0) {
        /* It takes the strings as they are. */
        error =
            posix_spawn(ret_pid, "/bin/sh", &actions, &attributes, (char *const *)argv, variables);
    }
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return error;
}

static int wait_for(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        /* A signal to us: the command is waited for all the same. */
    }
    return kvctl_child_code(status);
}

int kvctl_exec(struct kvctl *kvctl,
               const char *command,
               const struct kvctl_variables *variables,
               FILE *input)
{
    const char *name = kvctl->args.command->name;
    int error = variables->no_memory ? ENOMEM : 0;
    pid_t pid;
    int code;

    /* What we printed comes first, also when both go to one file. */
    fflush(kvctl->out);
    if (fflush(input) != 0 || lseek(fileno(input), 0, SEEK_SET) < 0) {
        error = errno;
    }
    if (error == 0) {
        error = start(command, variables->list, fileno(input), &pid);
    }
    if (error != 0) {
        fprintf(kvctl->err, "kvctl %s: the command cannot be run: %s\n", name, strerror(error));
        return KVCTL_LOCAL;
    }
    code = wait_for(pid);
    if (code != 0) {
        fprintf(kvctl->err, "kvctl %s: the command ended with %d\n", name, code);
    }
    return KVCTL_OK;
}
