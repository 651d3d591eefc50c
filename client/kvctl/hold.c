/* A command under a lock: started with the fencing token, ended when the lock is in doubt. */
#include "client/kvctl/hold.h"
#include "client/kvctl/child.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The least time between TERM and KILL, in which the lease may end: then tokens protect. */
enum { GRACE_MIN_MS = 100 };

struct kv_lock_options kvctl_lock_options(const struct kvctl *kvctl)
{
    const struct kvctl_args *args = &kvctl->args;

    return (struct kv_lock_options){
        .name = kvctl_argument(kvctl, 0),
        .ttl_ms = (uint64_t)args->numbers[KVCTL_TTL],
        .no_wait = args->set[KVCTL_TRY],
        .timeout_ms = (uint64_t)args->numbers[KVCTL_TIMEOUT],
        .stop = kvctl_stop,
    };
}

int kvctl_lock_failed(struct kvctl *kvctl, const struct kv_error *error)
{
    int code = kvctl_fail(kvctl, error);

    if (kvctl_interrupted()) {
        return kvctl_interrupt_code();
    }
    return error->status == KV_DEADLINE ? KVCTL_NOT_MET : code;
}

static int64_t ttl_ms(const struct kvctl *kvctl)
{
    int64_t given_ms = kvctl->args.numbers[KVCTL_TTL];

    return given_ms ? given_ms : KV_LOCK_TTL_DEFAULT_MS;
}

void kvctl_tell_release(struct kvctl *kvctl, int status)
{
    if (status < 0) {
        fprintf(
            kvctl->err,
            "kvctl %s: the cluster does not answer: others have their turn when the lease ends, "
            "in %lld ms at most\n",
            kvctl->args.command->name,
            (long long)ttl_ms(kvctl));
    }
}

/* ---------------------------------------------------------------- a child under a lock */

struct holding {
    struct kvctl *kvctl;
    struct kv_lock *lock;
    pid_t pid;   /* and its process group */
    bool ending; /* TERM was sent */
    bool killed;
    int64_t kill_at_ms;
    int passed; /* the signal that was passed on; 0: none */
};

static int start(struct holding *holding, size_t first_word, const sigset_t *blocked)
{
    struct kvctl *kvctl = holding->kvctl;
    struct kvctl_variables variables;
    struct kv_error error = {0};
    int code = KVCTL_LOCAL;

    kvctl_variables_init(&variables);
    kvctl_variables_set_number(&variables, "KV_FENCING_TOKEN", kv_lock_token(holding->lock));
    kvctl_variables_set_number(&variables, "KV_LEASE_ID", kv_lock_lease_id(holding->lock));
    kvctl_variables_set(&variables, "KV_LOCK_KEY", kv_lock_key(holding->lock));
    if (variables.no_memory) {
        snprintf(error.message, sizeof error.message, "out of memory");
    } else {
        fflush(kvctl->out);
        code = kvctl_child_start(
            kvctl->args.arguments + first_word, variables.list, blocked, &holding->pid, &error);
    }
    if (code != KVCTL_OK) {
        fprintf(kvctl->err, "kvctl %s: %s\n", kvctl->args.command->name, error.message);
    }
    kvctl_variables_deinit(&variables);
    return code;
}

static void say(struct holding *holding, const char *what)
{
    fprintf(holding->kvctl->err, "kvctl %s: %s\n", holding->kvctl->args.command->name, what);
}

/* The lease may end within its margin: the command has half of that to end by itself. */
static void end_when_in_doubt(struct holding *holding)
{
    enum kv_lease_state state = kv_lock_state(holding->lock);

    if (holding->killed || (state == KV_LEASE_HELD && !holding->ending)) {
        return;
    }
    if (!holding->ending) {
        int64_t grace_ms = ttl_ms(holding->kvctl) / 8;

        say(holding,
            state == KV_LEASE_LOST ? "the lock is lost: the command is ended"
                                   : "the lock is in doubt: the command is ended");
        holding->ending = true;
        holding->kill_at_ms =
            kvctl_now_ms() + (grace_ms > GRACE_MIN_MS ? grace_ms : (int64_t)GRACE_MIN_MS);
        kill(-holding->pid, SIGTERM);
    } else if (kvctl_now_ms() >= holding->kill_at_ms) {
        say(holding, "the command did not end: it is killed");
        holding->killed = true;
        kill(-holding->pid, SIGKILL);
    }
}

/* A signal that came to us; from a terminal it goes to the command alone. */
static void pass_on(struct holding *holding)
{
    int number = kvctl_interrupt_code() - 128;

    if (kvctl_interrupted() && holding->passed != number) {
        holding->passed = number;
        kill(-holding->pid, number);
    }
}

/* Its end; 0: not yet. One that the terminal stopped (ctrl-z) goes on: who waits for the lock is
 * not to wait for that, too. */
static pid_t look_for_end(struct holding *holding, int *ret_status)
{
    pid_t pid = waitpid(holding->pid, ret_status, WNOHANG | WUNTRACED);

    if (pid > 0 && WIFSTOPPED(*ret_status)) {
        say(holding, "the command is not stopped while it holds the lock");
        kill(-holding->pid, SIGCONT);
        return 0;
    }
    return pid;
}

/* Until the child has ended: its exit code. SIGCHLD is blocked, so that none is missed between the
 * look and the wait. */
static int supervise(struct holding *holding)
{
    const struct timespec pause = {.tv_nsec = KVCTL_LOOK_MS * 1000000L};
    sigset_t child_ended;
    int status;
    pid_t ended;

    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    while ((ended = look_for_end(holding, &status)) == 0 || (ended < 0 && errno == EINTR)) {
        end_when_in_doubt(holding);
        pass_on(holding);
        (void)sigtimedwait(&child_ended, NULL, &pause);
    }
    if (isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == holding->pid) {
        (void)tcsetpgrp(STDIN_FILENO, getpgrp());
    }
    if (ended < 0) {
        return KVCTL_LOCAL;
    }
    /* What it started and left behind has no lock any more. */
    if (holding->ending) {
        kill(-holding->pid, SIGKILL);
    }
    return holding->ending ? KVCTL_UNAVAILABLE : kvctl_child_code(status);
}

/* ---------------------------------------------------------------- without a command */

static int wait_for_signal(struct holding *holding)
{
    enum kv_lease_state state = KV_LEASE_HELD;

    while (!kvctl_interrupted() && state == KV_LEASE_HELD) {
        state = kv_lock_wait(holding->lock, KV_LEASE_HELD, KVCTL_LOOK_MS);
    }
    if (state != KV_LEASE_HELD) {
        say(holding, state == KV_LEASE_LOST ? "it is lost" : "it is in doubt");
        return KVCTL_UNAVAILABLE;
    }
    return kvctl_interrupt_code();
}

int kvctl_hold(struct kvctl *kvctl, struct kv_lock *lock, size_t first_word)
{
    struct holding holding = {.kvctl = kvctl, .lock = lock};
    sigset_t blocked;
    sigset_t before;
    int code;

    if (kvctl->args.n_arguments <= first_word) {
        return wait_for_signal(&holding);
    }
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGCHLD);
    /* The terminal is taken back from a group behind which we are. */
    sigaddset(&blocked, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    code = start(&holding, first_word, &blocked);
    if (code == KVCTL_OK) {
        code = supervise(&holding);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}
