/* A program that takes part in locks, barriers, elections and flags as a test tells it, line by
 * line on standard input; each line is answered by one line. Built of libkv's public headers alone.
 *
 *     coordination_play ENDPOINTS
 *     lock NAME TTL_MS        -> locked TOKEN | the status' name
 *     put KEY VALUE           -> written | refused    (guarded by the lock)
 *     state                   -> held | in doubt | lost
 *     unlock                  -> unlocked
 *     enter NAME PARTIES      -> in
 *     leave                   -> out
 *     campaign NAME VALUE     -> leads TOKEN
 *     proclaim VALUE          -> proclaimed | the status' name
 *     resign                  -> resigned
 *     flags PREFIX            -> opened
 *     check NAME ID           -> on | off
 *     age                     -> milliseconds, or never
 */
#include <inttypes.h>
#include <kv/kv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 3, FLAGS_WAIT_MS = 10000, CALL_MS = 60000 };

static struct kv_client *client;
static struct kv_lock *lock;
static struct kv_barrier *barrier;
static struct kv_election *election;
static struct kv_flags *flags;
static struct kv_error error;

static void answer(int status, const char *text)
{
    printf("%s\n", status < 0 ? kv_status_name(status) : text);
}

static void guarded_put(const char *key, const char *value)
{
    struct kv_txn_result result = {0};
    struct kv_txn *txn;
    int status = kv_txn_begin(client, &txn, &error);

    if (status == 0) {
        kv_lock_guard(lock, txn);
        kv_txn_put(txn, kv_bytes_str(key), kv_bytes_str(value));
        status = kv_txn_commit(txn, NULL, &result, &error);
    }
    answer(status, result.succeeded ? "written" : "refused");
    kv_txn_result_free(&result);
}

static void on_lock(char *words[])
{
    struct kv_lock_options options = {.name = kv_bytes_str(words[1]),
                                      .ttl_ms = strtoull(words[2], NULL, 10)};
    int status = kv_lock_acquire(client, &options, &lock, &error);
    char text[64];

    snprintf(text, sizeof text, "locked %" PRId64, status == 0 ? kv_lock_token(lock) : 0);
    answer(status, text);
}

static void on_put(char *words[])
{
    guarded_put(words[1], words[2]);
}

static void on_state(char *words[])
{
    (void)words;
    answer(0, kv_lease_state_name(kv_lock_state(lock)));
}

static void on_unlock(char *words[])
{
    (void)words;
    kv_lock_release(lock);
    lock = NULL;
    answer(0, "unlocked");
}

static void on_enter(char *words[])
{
    struct kv_barrier_options options = {
        .name = kv_bytes_str(words[1]), .parties = (unsigned)atoi(words[2]), .ttl_ms = 2000};

    answer(kv_barrier_enter(client, &options, &barrier, &error), "in");
}

static void on_leave(char *words[])
{
    (void)words;
    answer(kv_barrier_leave(barrier, &error), "out");
}

static void on_campaign(char *words[])
{
    struct kv_lock_options options = {.name = kv_bytes_str(words[1]),
                                      .value = kv_bytes_str(words[2])};
    int status = kv_election_campaign(client, &options, &election, &error);
    char text[64];

    snprintf(text,
             sizeof text,
             "leads %" PRId64,
             status == 0 ? kv_lock_token(kv_election_lock(election)) : 0);
    answer(status, text);
}

static void on_proclaim(char *words[])
{
    answer(kv_election_proclaim(election, kv_bytes_str(words[1]), &error), "proclaimed");
}

static void on_resign(char *words[])
{
    (void)words;
    kv_election_resign(election);
    answer(0, "resigned");
}

static void on_flags(char *words[])
{
    struct kv_flags_options options = {.prefix = kv_bytes_str(words[1]), .wait_ms = FLAGS_WAIT_MS};

    answer(kv_flags_open(client, &options, &flags, &error), "opened");
}

static void on_check(char *words[])
{
    answer(0, kv_flags_check(flags, words[1], kv_bytes_str(words[2])) ? "on" : "off");
}

static void on_age(char *words[])
{
    uint64_t age_ms = kv_flags_age_ms(flags);
    char text[32];

    (void)words;
    snprintf(text, sizeof text, "%" PRIu64, age_ms);
    answer(0, age_ms == UINT64_MAX ? "never" : text);
}

static const struct {
    const char *word;
    int n_words; /* with itself */
    void (*run)(char *words[]);
} actions[] = {
    {"lock", 3, on_lock},
    {"put", 3, on_put},
    {"state", 1, on_state},
    {"unlock", 1, on_unlock},
    {"enter", 3, on_enter},
    {"leave", 1, on_leave},
    {"campaign", 3, on_campaign},
    {"proclaim", 2, on_proclaim},
    {"resign", 1, on_resign},
    {"flags", 2, on_flags},
    {"check", 3, on_check},
    {"age", 1, on_age},
};

static int act(char *line)
{
    char *words[WORDS_MAX + 1] = {NULL};
    int n = 0;

    for (char *word = strtok(line, " \n"); word && n < WORDS_MAX; word = strtok(NULL, " \n")) {
        words[n++] = word;
    }
    for (size_t i = 0; n > 0 && i < sizeof actions / sizeof actions[0]; i++) {
        if (strcmp(words[0], actions[i].word) == 0 && n == actions[i].n_words) {
            actions[i].run(words);
            return fflush(stdout);
        }
    }
    fprintf(stderr, "not understood: %s\n", n ? words[0] : "");
    return -1;
}

int main(int argc, char **argv)
{
    struct kv_client_options options = {.endpoints = argc > 1 ? argv[1] : "",
                                        .deadline_ms = CALL_MS};
    char line[512];
    int code = 0;

    if (kv_client_open(&options, &client, &error) < 0) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    while (code == 0 && fgets(line, sizeof line, stdin)) {
        code = act(line);
    }
    kv_flags_close(flags);
    kv_lock_release(lock);
    kv_client_close(client);
    return code != 0;
}
