/* kvctl run: a command with its environment from keys, restarted or signaled when they change. One
 * loop over signals, news of the configuration, and two times: when to kill, when to start. */
#define _GNU_SOURCE /* signalfd */
#include "client/kvctl/child.h"
#include "client/kvctl/config.h"
#include "client/kvctl/environment.h"
#include "client/kvctl/service_config.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    GRACE_DEFAULT_MS = 10000,
    PAUSE_MIN_MS = 500, /* before a command that has ended is started again, doubled each time */
    PAUSE_MAX_MS = 30000,
    STEADY_MS = 60000, /* it ran so long: the next pause is the shortest again */
};
extern char **environ;

enum action { RESTART, SIGNAL, NOTHING };

struct service {
    struct kvctl *kvctl;
    struct kvctl_config_source *source;
    struct kvctl_config *config; /* of `environment` */
    char **environment;          /* for the next start */
    enum action action;
    int action_signal;
    int64_t grace_ms;
    sigset_t signals; /* that are blocked, and come by signal_fd */
    int signal_fd;
    pid_t pid; /* 0: it does not run */
    int64_t started_ms;
    int64_t kill_ms;  /* when; 0: never */
    int64_t start_ms; /* likewise */
    int64_t pause_ms;
    bool restarting; /* it was told to end, to be started anew */
    bool ending;     /* it was told to end, and so do we */
    int code;        /* to exit with */
    bool over;
};

/* ---------------------------------------------------------------- the command */

static void finish(struct service *service, int code)
{
    service->code = code;
    service->over = true;
}

static void start(struct service *service)
{
    struct kv_error error;
    int code = kvctl_child_start(service->kvctl->args.arguments,
                                 service->environment,
                                 &service->signals,
                                 &service->pid,
                                 &error);

    service->start_ms = 0;
    service->restarting = false;
    if (code != 0) {
        service->pid = 0;
        fprintf(service->kvctl->err, "kvctl run: %s\n", error.message);
        finish(service, code);
        return;
    }
    service->started_ms = kvctl_now_ms();
}

/* To its whole group: what it started, too. */
static void send(struct service *service, int number)
{
    if (service->pid > 0) {
        kill(-service->pid, number);
    }
}

static void ask_to_end(struct service *service)
{
    send(service, SIGTERM);
    if (service->kill_ms == 0) {
        service->kill_ms = kvctl_now_ms() + service->grace_ms;
    }
}

static void kill_now(struct service *service)
{
    fprintf(service->kvctl->err,
            "kvctl run: %s did not end within %lld ms: it is killed\n",
            service->kvctl->args.arguments[0],
            (long long)service->grace_ms);
    service->kill_ms = 0;
    send(service, SIGKILL);
}

static void say_pause(struct service *service, int code)
{
    fprintf(service->kvctl->err,
            "kvctl run: %s ended with %d: started again in %lld ms\n",
            service->kvctl->args.arguments[0],
            code,
            (long long)service->pause_ms);
}

static void on_end(struct service *service, int wait_status)
{
    int code = kvctl_child_code(wait_status);

    service->pid = 0;
    service->kill_ms = 0;
    if (service->ending) {
        finish(service, code);
    } else if (service->restarting) {
        start(service);
    } else if (service->kvctl->args.set[KVCTL_RESTART_ON_EXIT]) {
        int64_t pause_ms = service->pause_ms;

        if (pause_ms == 0 || kvctl_now_ms() - service->started_ms >= STEADY_MS) {
            pause_ms = PAUSE_MIN_MS;
        } else if (2 * pause_ms <= PAUSE_MAX_MS) {
            pause_ms *= 2;
        } else {
            pause_ms = PAUSE_MAX_MS;
        }
        service->pause_ms = pause_ms;
        service->start_ms = kvctl_now_ms() + pause_ms;
        say_pause(service, code);
    } else {
        finish(service, code);
    }
}

/* Stopped at the terminal (ctrl-z): so are we, and it goes on with us. */
static void on_stop(struct service *service)
{
    if (tcgetpgrp(STDIN_FILENO) != service->pid) {
        return;
    }
    tcsetpgrp(STDIN_FILENO, getpgrp());
    raise(SIGSTOP);
    if (tcgetpgrp(STDIN_FILENO) == getpgrp()) {
        tcsetpgrp(STDIN_FILENO, service->pid);
    }
    send(service, SIGCONT);
}

/* ---------------------------------------------------------------- signals */

static void on_child(struct service *service)
{
    int wait_status;
    pid_t pid;

    while (service->pid > 0 &&
           (pid = waitpid(service->pid, &wait_status, WNOHANG | WUNTRACED)) > 0) {
        if (WIFSTOPPED(wait_status)) {
            on_stop(service);
        } else {
            on_end(service, wait_status);
        }
    }
}

static void on_signal(struct service *service, int number)
{
    bool ends = number == SIGTERM || number == SIGINT || number == SIGQUIT;

    if (number == SIGCHLD) {
        on_child(service);
        return;
    }
    if (ends && service->pid == 0) {
        finish(service, KVCTL_SIGNALED + number);
        return;
    }
    service->ending = service->ending || ends;
    if (number == SIGTERM) {
        ask_to_end(service);
    } else {
        send(service, number);
    }
}

static void take_signals(struct service *service)
{
    struct signalfd_siginfo info;

    while (!service->over && read(service->signal_fd, &info, sizeof info) == sizeof info) {
        on_signal(service, (int)info.ssi_signo);
    }
}

static int block_signals(struct service *service)
{
    /* Those that end, and those that programs listen to. */
    static const int numbers[] = {
        SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH};
    sigset_t blocked;

    sigemptyset(&service->signals);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        sigaddset(&service->signals, numbers[i]);
    }
    service->signal_fd = signalfd(-1, &service->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    blocked = service->signals;
    /* The terminal is taken back from a group behind which we are. */
    sigaddset(&blocked, SIGTTOU);
    return service->signal_fd < 0 || sigprocmask(SIG_BLOCK, &blocked, NULL) != 0 ? KVCTL_LOCAL
                                                                                 : KVCTL_OK;
}

/* ---------------------------------------------------------------- the configuration */

/* Takes the configuration; true: the environment is another. A configuration that makes none is
 * said and dropped. */
static bool take_config(struct service *service, struct kvctl_config *config, int *ret_status)
{
    const struct kvctl_args *args = &service->kvctl->args;
    struct kv_error error;
    char **environment;

    *ret_status = kvctl_environment_make(&config->arena,
                                         &config->document,
                                         (const char *const *)args->prefixes,
                                         args->n_prefixes,
                                         environ,
                                         service->kvctl->err,
                                         &environment,
                                         &error);
    if (*ret_status < 0) {
        fprintf(service->kvctl->err, "kvctl run: the configuration: %s\n", error.message);
        kvctl_config_free(config);
        return false;
    }
    if (service->environment && kvctl_environment_equal(service->environment, environment)) {
        kvctl_config_free(config);
        return false;
    }
    kvctl_config_free(service->config);
    service->config = config;
    service->environment = environment;
    return true;
}

static void on_news(struct service *service)
{
    struct kvctl_config *config = kvctl_config_take(service->source);
    int status;

    if (!config || !take_config(service, config, &status) || service->ending) {
        return;
    }
    if (service->pid == 0) {
        /* It waits after its end: perhaps this was what it lacked. */
        start(service);
    } else if (service->action == RESTART) {
        fprintf(service->kvctl->err,
                "kvctl run: the configuration has changed: %s is restarted\n",
                service->kvctl->args.arguments[0]);
        service->restarting = true;
        ask_to_end(service);
    } else if (service->action == SIGNAL) {
        send(service, service->action_signal);
    }
}

/* ---------------------------------------------------------------- the loop */

static int time_left(const struct service *service)
{
    int64_t next = service->kill_ms;
    int64_t left;

    if (service->start_ms != 0 && (next == 0 || service->start_ms < next)) {
        next = service->start_ms;
    }
    if (next == 0) {
        return -1;
    }
    left = next - kvctl_now_ms();
    return left > 0 ? (int)left : 0;
}

static void run_loop(struct service *service)
{
    while (!service->over) {
        struct pollfd fds[] = {
            {.fd = service->signal_fd, .events = POLLIN},
            {.fd = kvctl_config_fd(service->source), .events = POLLIN},
        };

        fflush(service->kvctl->err);
        if (poll(fds, 2, time_left(service)) < 0 && errno != EINTR) {
            finish(service, KVCTL_LOCAL);
            break;
        }
        if (service->kill_ms != 0 && service->kill_ms <= kvctl_now_ms()) {
            kill_now(service);
        }
        if (service->start_ms != 0 && service->start_ms <= kvctl_now_ms()) {
            start(service);
        }
        take_signals(service);
        if (!service->over && fds[1].revents) {
            on_news(service);
        }
    }
}

/* --on-change. */
static int read_action(struct service *service)
{
    const char *text = service->kvctl->args.strings[KVCTL_ON_CHANGE];

    if (!text || strcmp(text, "restart") == 0) {
        return KVCTL_OK;
    }
    service->action = strcmp(text, "none") == 0 ? NOTHING : SIGNAL;
    if (service->action == SIGNAL) {
        service->action_signal =
            strncmp(text, "signal:", 7) == 0 ? kvctl_signal_number(text + 7) : 0;
        if (service->action_signal == 0) {
            return kvctl_usage(
                service->kvctl,
                "--on-change wants restart, none or a signal (signal:HUP), not \"%.100s\"",
                text);
        }
    }
    return KVCTL_OK;
}

static int run(struct service *service)
{
    struct kvctl_config *config;
    int status;
    int code = kvctl_config_open(service->kvctl, &service->source, &config);

    if (code != KVCTL_OK) {
        return code;
    }
    if (config->document.n_entries == 0) {
        fprintf(service->kvctl->err, "kvctl run: there are no keys below --prefix yet\n");
    }
    take_config(service, config, &status);
    if (status == 0) {
        start(service);
        run_loop(service);
    } else {
        service->code = KVCTL_LOCAL;
    }
    if (tcgetpgrp(STDIN_FILENO) > 0 && tcgetpgrp(STDIN_FILENO) != getpgrp()) {
        tcsetpgrp(STDIN_FILENO, getpgrp());
    }
    kvctl_config_close(service->source);
    kvctl_config_free(service->config);
    return service->code;
}

int kvctl_run_service(struct kvctl *kvctl)
{
    const struct kvctl_args *args = &kvctl->args;
    struct service service = {.kvctl = kvctl, .grace_ms = GRACE_DEFAULT_MS, .signal_fd = -1};
    int code = read_action(&service);

    if (code != KVCTL_OK) {
        return code;
    }
    if (kvctl->in_shell) {
        return kvctl_usage(kvctl, "run wants a command line of its own");
    }
    if (args->n_prefixes == 0) {
        return kvctl_usage(kvctl, "run wants --prefix P, whose keys become the environment");
    }
    if (args->set[KVCTL_GRACE]) {
        service.grace_ms = args->numbers[KVCTL_GRACE];
    }
    /* Before the client's threads begin, which inherit it. */
    code = block_signals(&service);
    if (code == KVCTL_OK) {
        code = kvctl_open(kvctl, kvctl->endpoints, &kvctl->client);
    }
    if (code == KVCTL_OK) {
        code = run(&service);
        kv_client_close(kvctl->client);
    }
    if (service.signal_fd >= 0) {
        close(service.signal_fd);
    }
    return code;
}
