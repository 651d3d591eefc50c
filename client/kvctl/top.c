/* kvctl top: what the cluster does, again and again. */
#include "client/kvctl/top.h"

#include <stdlib.h>
#include <time.h>

enum { INTERVAL_DEFAULT_MS = 1000 };

static void show(struct kvctl *kvctl,
                 bool screen,
                 const struct kvctl_top_sample *sample,
                 const struct kvctl_top_busy *busy,
                 double seconds)
{
    if (screen) {
        kvctl_top_show_screen(kvctl->out, sample, busy, seconds);
    } else if (kvctl->args.format == KVCTL_JSON) {
        kvctl_top_show_json(kvctl->out, sample, busy, seconds);
    } else {
        kvctl_top_show_lines(kvctl->out, sample, busy, seconds);
    }
}

static void wait_until(int64_t until_ms)
{
    while (kvctl_now_ms() < until_ms && !kvctl_interrupted() && !kvctl_top_screen_quit()) {
        struct timespec pause = {.tv_nsec = KVCTL_LOOK_MS * 1000000L};

        nanosleep(&pause, NULL);
    }
}

/* Each round counts for an interval, then looks. */
static int rounds(struct kvctl *kvctl,
                  bool screen,
                  struct kvctl_top_sample *sample,
                  struct kvctl_top_busy *busy)
{
    const struct kvctl_args *args = &kvctl->args;
    int64_t left = args->set[KVCTL_COUNT] ? args->numbers[KVCTL_COUNT] : INT64_MAX;
    int64_t interval_ms =
        args->set[KVCTL_INTERVAL] ? args->numbers[KVCTL_INTERVAL] : INTERVAL_DEFAULT_MS;

    kvctl_top_look(sample);
    while (left-- > 0) {
        int64_t from_ms = kvctl_now_ms();

        kvctl_top_busy_clear(busy);
        if (!busy->watch) {
            kvctl_top_busy_open(kvctl, busy);
        }
        if (busy->watch) {
            kvctl_top_busy_count(busy, from_ms + interval_ms);
        }
        wait_until(from_ms + interval_ms);
        if (kvctl_interrupted()) {
            return kvctl_interrupt_code();
        }
        if (kvctl_top_screen_quit()) {
            return KVCTL_OK;
        }
        kvctl_top_look(sample);
        kvctl_top_busy_sort(busy);
        show(kvctl, screen, sample, busy, (double)(kvctl_now_ms() - from_ms) / 1000);
        if (fflush(kvctl->out) != 0) {
            return KVCTL_LOCAL;
        }
    }
    return KVCTL_OK;
}

int kvctl_run_top(struct kvctl *kvctl)
{
    struct kvctl_top_sample *sample = calloc(1, sizeof *sample);
    struct kvctl_top_busy *busy = calloc(1, sizeof *busy);
    int code = KVCTL_LOCAL;
    bool screen;

    if (sample && busy && (code = kvctl_top_open(kvctl, sample)) == KVCTL_OK) {
        kvctl_interrupts_begin();
        screen = kvctl->args.format == KVCTL_TEXT && kvctl_top_screen_begin(kvctl->out);
        code = rounds(kvctl, screen, sample, busy);
        if (screen) {
            kvctl_top_screen_end(kvctl->out);
        }
        kvctl_interrupts_end();
        kvctl_top_busy_close(busy);
        kvctl_top_close(sample);
    }
    free(sample);
    free(busy);
    return code;
}
