/* Inside kvctl: other programs. */
#ifndef KV_KVCTL_CHILD_H
#define KV_KVCTL_CHILD_H

#include "client/kvctl/kvctl.h"

#include <signal.h>
#include <sys/types.h>

/* What a shell says of a command that cannot be started. */
enum { KVCTL_CANNOT_RUN = 126, KVCTL_NO_COMMAND = 127, KVCTL_SIGNALED = 128 };

/* Starts it in a process group of its own, which gets the terminal when this process has it; with
 * the signals that `blocked` names at their usual ways. When the thread that calls ends, kill -9
 * not excepted, it gets SIGTERM: it alone, not its children, and not when it is a program that
 * gets other rights by its exec (setuid, setgid, capabilities), for which the kernel forgets that.
 * 0, or KVCTL_NO_COMMAND or KVCTL_CANNOT_RUN with a message. */
int kvctl_child_start(const char *const *argv,
                      char *const *environment,
                      const sigset_t *blocked,
                      pid_t *ret_pid,
                      struct kv_error *ret_error);
/* What a shell would exit with: the code, or 128 and the signal. */
int kvctl_child_code(int wait_status);
/* TERM, HUP, SIGUSR1, 15; 0: no such signal. */
int kvctl_signal_number(const char *name);

/* Runs it by sh with KV_FILE in the environment; {} in it is "$KV_FILE". Waits. KV_IO with what it
 * ended with. before: what sh does first; NULL: nothing. */
int kvctl_shell_command(const char *before,
                        const char *command,
                        const char *file,
                        struct kv_error *ret_error) KV_MUST_CHECK;

#endif
