/* What stays until it is told to end: signals, commands that are run, what of kvctl's streams is
 * shared. */
#ifndef KV_KVCTL_STREAM_H
#define KV_KVCTL_STREAM_H

#include "client/kvctl/kvctl.h"

/* How long a stream's or a lock's loop waits at most before it looks whether it is to end. */
enum { KVCTL_LOOK_MS = 100 };
/* Without a leader for so long it is said that nothing comes. An election takes half a second. */
enum { KVCTL_AWAY_MS = 5000 };

/* --- interrupt.c --- */
/* From now on SIGINT, SIGTERM and SIGHUP are noted rather than deadly, and stop the calls that have
 * kvctl_call_options. In the shell, which does so for each line, a command may do it once more. */
void kvctl_interrupts_begin(void);
/* As it was before, and nothing is noted any more; inside of the shell's a SIGTERM or SIGHUP is. */
void kvctl_interrupts_end(void);
bool kvctl_interrupted(void);
/* The same for kv_call_options and kv_lock_options. */
bool kvctl_stop(void *arg);
/* 128 + the signal. */
int kvctl_interrupt_code(void);

/* --- variables.c --- */
/* Variables for a command: those of the process and more. */
struct kvctl_variables {
    char **list; /* owned, NULL at the end */
    size_t n;
    size_t size;
    bool no_memory;
};
/* Those of the process. */
void kvctl_variables_init(struct kvctl_variables *variables);
/* NAME=value; replaces one of that name. What has a zero byte, or is over KVCTL_VARIABLE_BYTES_MAX,
 * cannot be one: it is left out. */
void kvctl_variables_set(struct kvctl_variables *variables,
                         const char *name,
                         struct kv_bytes value);
void kvctl_variables_set_number(struct kvctl_variables *variables,
                                const char *name,
                                int64_t number);
void kvctl_variables_deinit(struct kvctl_variables *variables);

/* --- exec.c --- */
/* Runs `sh -c command` with this on its standard input and waits; complains when it fails. KVCTL_OK
 * or KVCTL_LOCAL. */
int kvctl_exec(struct kvctl *kvctl,
               const char *command,
               const struct kvctl_variables *variables,
               FILE *input);

/* --- stream_print.c --- */
struct kv_event;
struct kv_message;
/* A stream's error, said. KVCTL_OK: there is no leader, and the stream goes on; else an exit code.
 */
int kvctl_stream_trouble(struct kvctl *kvctl, const struct kv_error *error);
/* Waits until `started` (kv_watch_started and the like) is no more KV_DEADLINE, for the time of a
 * call: that nobody is there is said; what comes later is waited out. */
int kvctl_stream_wait_start(struct kvctl *kvctl,
                            int (*started)(void *stream,
                                           unsigned timeout_ms,
                                           struct kv_error *ret_error),
                            void *stream);
void kvctl_print_event(FILE *file, const struct kv_event *event, enum kvctl_format format);
void kvctl_print_message(FILE *file, const struct kv_message *message, enum kvctl_format format);

#endif
