/* A feature that is rolled out step by step: first a fifth of the users, then half, then nobody,
 * since it has a fault. The program that asks has a live copy of the flags in memory: asking costs
 * some tens of nanoseconds, and the copy follows each change by itself. */
#include <kv/kv.h>
#include <stdio.h>
#include <threads.h>

#define FEATURE "new-checkout"
enum { USERS = 1000, WAIT_MS = 10000, LOOK_MS = 5 };

static bool old_answers[USERS];

/* How many users have it, and how many of those who had it before have it no more. */
static void ask_for_all(struct kv_flags *flags, const char *value)
{
    int with = 0;
    int lost = 0;

    for (int i = 0; i < USERS; i++) {
        char user[20];
        bool answer;

        snprintf(user, sizeof user, "user-%d", i);
        answer = kv_flags_check(flags, FEATURE, kv_bytes_str(user));
        with += answer;
        lost += old_answers[i] && !answer;
        old_answers[i] = answer;
    }
    printf("%s: %d of %d users have it, %d lost it\n", value, with, USERS, lost);
}

/* Until the copy is as new as the change: only a demonstration needs to wait for that. */
static bool has_come(struct kv_flags *flags, int64_t revision)
{
    struct kv_flags_state state;

    for (int ms = 0; ms < WAIT_MS; ms += LOOK_MS) {
        kv_flags_state(flags, &state);
        if (state.revision >= revision) {
            return true;
        }
        thrd_sleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
    }
    return false;
}

/* What an operator does with `kvctl flag rollout new-checkout 50%`. */
static int roll_out(struct kv_client *client,
                    struct kv_flags *flags,
                    const char *value,
                    struct kv_error *ret_error)
{
    struct kv_put_result result;
    int status = kv_put(
        client, kv_bytes_str("flags/" FEATURE), kv_bytes_str(value), NULL, &result, ret_error);

    if (status == 0 && has_come(flags, result.revision)) {
        ask_for_all(flags, value);
    }
    return status;
}

int main(int argc, char **argv)
{
    static const char *const steps[] = {"on 20%", "on 50%", "off 50%"};
    struct kv_client_options options = {.endpoints = argc > 1 ? argv[1] : "127.0.0.1:4700"};
    struct kv_flags *flags;
    struct kv_client *client;
    struct kv_error error = {0};
    int status = kv_client_open(&options, &client, &error);

    if (status == 0) {
        status =
            kv_flags_open(client, &(struct kv_flags_options){.wait_ms = WAIT_MS}, &flags, &error);
        for (size_t i = 0; status == 0 && i < sizeof steps / sizeof steps[0]; i++) {
            status = roll_out(client, flags, steps[i], &error);
        }
        if (status == 0) {
            kv_flags_close(flags);
        }
        kv_client_close(client);
    }
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", kv_status_name(status), error.message);
    }
    return status < 0;
}
