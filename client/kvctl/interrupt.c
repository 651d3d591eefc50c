/* Signals that end what stays: noted, and looked at by its loop. */
#include "client/kvctl/stream.h"

#include <signal.h>

static const int watched[] = {SIGINT, SIGTERM, SIGHUP};
enum { N_WATCHED = sizeof watched / sizeof watched[0] };

static volatile sig_atomic_t noted;
static struct sigaction before[N_WATCHED];
static int depth;

static void note(int number)
{
    noted = number;
}

void kvctl_interrupts_begin(void)
{
    /* Calls that wait are to end: no SA_RESTART. */
    struct sigaction action = {.sa_handler = note};

    if (depth++ > 0) {
        return;
    }
    noted = 0;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < N_WATCHED; i++) {
        sigaction(watched[i], &action, &before[i]);
        if (before[i].sa_handler == SIG_IGN) {
            /* nohup and the like. */
            sigaction(watched[i], &before[i], NULL);
        }
    }
}

void kvctl_interrupts_end(void)
{
    if (--depth > 0) {
        noted = noted == SIGINT ? 0 : noted;
        return;
    }
    noted = 0;
    for (int i = 0; i < N_WATCHED; i++) {
        sigaction(watched[i], &before[i], NULL);
    }
}

bool kvctl_interrupted(void)
{
    return noted != 0;
}

bool kvctl_stop(void *arg)
{
    (void)arg;
    return kvctl_interrupted();
}

int kvctl_interrupt_code(void)
{
    return 128 + noted;
}
