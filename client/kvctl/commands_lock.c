/* kvctl's commands of coordination: lock, elect. */
#include "client/kvctl/hold.h"

#include <inttypes.h>
#include <kv/election.h>
#include <string.h>
#include <unistd.h>

#define B KVCTL_BIT

/* Who we are, for those who look. */
static struct kv_bytes own_name(char name[64])
{
    name[0] = '\0';
    (void)gethostname(name, 63);
    name[63] = '\0';
    snprintf(name + strlen(name), 64 - strlen(name), ":%d", (int)getpid());
    return kv_bytes_str(name);
}

/* ---------------------------------------------------------------- lock */

static int choose_mode(struct kvctl *kvctl, struct kv_lock_options *options)
{
    const struct kvctl_args *args = &kvctl->args;

    if (args->set[KVCTL_SHARED] && args->set[KVCTL_PERMITS]) {
        return kvctl_usage(kvctl, "lock takes one of --shared and --permits");
    }
    if (args->set[KVCTL_TRY] && args->set[KVCTL_TIMEOUT]) {
        return kvctl_usage(kvctl, "lock takes one of --try and --timeout");
    }
    if (args->set[KVCTL_SHARED]) {
        options->mode = KV_LOCK_SHARED;
    } else if (args->set[KVCTL_PERMITS]) {
        options->mode = KV_LOCK_PERMIT;
        options->permits = args->numbers[KVCTL_PERMITS] > KV_LOCK_PERMITS_MAX
                               ? KV_LOCK_PERMITS_MAX + 1U
                               : (unsigned)args->numbers[KVCTL_PERMITS];
    }
    return KVCTL_OK;
}

static int run_lock(struct kvctl *kvctl)
{
    struct kv_lock_options options = kvctl_lock_options(kvctl);
    struct kv_lock *lock;
    struct kv_error error;
    char name[64];
    int code = choose_mode(kvctl, &options);

    if (code != KVCTL_OK) {
        return code;
    }
    options.value = own_name(name);
    kvctl_interrupts_begin();
    if (kv_lock_acquire(kvctl->client, &options, &lock, &error) < 0) {
        code = kvctl_lock_failed(kvctl, &error);
    } else {
        if (kvctl->args.n_arguments == 1) {
            fprintf(kvctl->out,
                    kvctl->args.format == KVCTL_JSON ? "{\"token\":%" PRId64 "}\n"
                                                     : "%" PRId64 "\n",
                    kv_lock_token(lock));
            fflush(kvctl->out);
        }
        code = kvctl_hold(kvctl, lock, 1);
        kvctl_tell_release(kvctl, kv_lock_release(lock));
    }
    kvctl_interrupts_end();
    return code;
}

/* ---------------------------------------------------------------- elect */

static void show_leader(struct kvctl *kvctl, const struct kv_leader *leader)
{
    FILE *out = kvctl->out;

    switch (kvctl->args.format) {
    case KVCTL_JSON:
        fputs("{\"leader\":", out);
        if (leader->present) {
            fputc('{', out);
            kvctl_print_json_bytes(out, "value", leader->value);
            fputc(',', out);
            kvctl_print_json_bytes(out, "key", leader->key);
            fprintf(out, ",\"token\":%" PRId64 "}", leader->token);
        } else {
            fputs("null", out);
        }
        fprintf(out, ",\"revision\":%" PRId64 "}\n", leader->revision);
        break;
    case KVCTL_TEXT:
        if (leader->present) {
            kvctl_print_text(out, leader->value);
            fprintf(out, "\t%" PRId64 "\n", leader->token);
        } else {
            fputs("(none)\n", out);
        }
        break;
    case KVCTL_VALUE:
        kvctl_print_raw(out, leader->value);
        fputc('\n', out);
        break;
    }
}

static int observe(struct kvctl *kvctl)
{
    int64_t left = kvctl->args.set[KVCTL_COUNT] ? kvctl->args.numbers[KVCTL_COUNT] : INT64_MAX;
    struct kv_election_observer *observer;
    struct kv_leader leader;
    struct kv_error error;
    int code = KVCTL_OK;
    struct kv_call_options options = kvctl_call_options(kvctl);
    int status =
        kv_election_observe(kvctl->client, kvctl_argument(kvctl, 0), &options, &observer, &error);

    if (status < 0) {
        return kvctl_fail(kvctl, &error);
    }
    while (code == KVCTL_OK && left > 0) {
        status = kv_election_observe_next(observer, KVCTL_LOOK_MS, &leader, &error);
        if (kvctl_interrupted()) {
            code = kvctl_interrupt_code();
        } else if (status < 0) {
            code = kvctl_stream_trouble(kvctl, &error);
        }
        if (status == 1) {
            show_leader(kvctl, &leader);
            kv_leader_free(&leader);
            left--;
            if (fflush(kvctl->out) != 0) {
                code = KVCTL_LOCAL;
            }
        }
    }
    kv_election_observe_close(observer);
    return code;
}

static int campaign(struct kvctl *kvctl)
{
    struct kv_lock_options options = kvctl_lock_options(kvctl);
    struct kv_election *election;
    struct kv_error error;
    int code;

    options.value = kvctl_argument(kvctl, 1);
    if (kv_election_campaign(kvctl->client, &options, &election, &error) < 0) {
        return kvctl_lock_failed(kvctl, &error);
    }
    if (kvctl->args.n_arguments == 2) {
        struct kv_lock *lock = kv_election_lock(election);
        struct kv_leader own = {.present = true,
                                .value = options.value,
                                .key = kv_lock_key(lock),
                                .token = kv_lock_token(lock),
                                .revision = kv_lock_token(lock)};

        show_leader(kvctl, &own);
        fflush(kvctl->out);
    }
    code = kvctl_hold(kvctl, kv_election_lock(election), 2);
    kvctl_tell_release(kvctl, kv_election_resign(election));
    return code;
}

static int run_elect(struct kvctl *kvctl)
{
    bool observes = kvctl->args.set[KVCTL_OBSERVE];
    int code;

    if (observes == (kvctl->args.n_arguments > 1)) {
        return kvctl_usage(kvctl, "elect wants NAME VALUE [-- COMMAND], or NAME --observe");
    }
    if (kvctl->args.set[KVCTL_COUNT] && !observes) {
        return kvctl_usage(kvctl, "elect --count goes with --observe");
    }
    kvctl_interrupts_begin();
    code = observes ? observe(kvctl) : campaign(kvctl);
    kvctl_interrupts_end();
    return code;
}

/* ---------------------------------------------------------------- the table */

static const struct kvctl_command lock_commands[] = {
    {.name = "lock",
     .arguments = "NAME [--] [COMMAND...]",
     .min_arguments = 1,
     .max_arguments = -1,
     .options = B(KVCTL_TRY) | B(KVCTL_TTL) | B(KVCTL_SHARED) | B(KVCTL_PERMITS),
     .waits = true,
     .stays = true,
     .session = true,
     .summary = "run a command while a lock is held",
     .details =
         "Waits for the lock (not with --try, at most so long with --timeout, 12h say: exit code "
         "2), "
         "runs "
         "COMMAND and gives the\nlock up when it ends; its exit code is that of COMMAND. COMMAND "
         "finds KV_FENCING_TOKEN, KV_LOCK_KEY and KV_LEASE_ID\nin its environment. When the lock "
         "is "
         "lost, or may be lost soon, COMMAND gets TERM, then KILL; exit code 3. Without\nCOMMAND "
         "the token is printed and the lock held until ctrl-C. --ttl (default 10s) is how long "
         "others wait after a\ncrash. --shared: together with others that share; --permits N: one "
         "of "
         "N. What is under NAME/ are the holder and\nthose who wait, in the order of their create "
         "revisions: docs/guide/coordination.md.",
     .example = "kvctl lock backup -- sh -c \"tar czf backup.tgz data\"",
     .run = run_lock},
    {.name = "elect",
     .arguments = "NAME [VALUE] [--] [COMMAND...]",
     .min_arguments = 1,
     .max_arguments = -1,
     .options = B(KVCTL_TRY) | B(KVCTL_TTL) | B(KVCTL_OBSERVE) | B(KVCTL_COUNT),
     .waits = true,
     .stays = true,
     .session = true,
     .summary = "take part in an election, or look at it",
     .details =
         "Waits until this candidate leads, then runs COMMAND, or prints VALUE and token and leads "
         "until ctrl-C; as `kvctl lock`\notherwise. --observe prints who leads, as VALUE and "
         "token, "
         "and then each change; (none) when nobody does.",
     .example = "kvctl elect scheduler host-a -- run-scheduler",
     .run = run_elect},
};
const struct kvctl_group kvctl_lock_group = {
    "coordination", lock_commands, sizeof lock_commands / sizeof lock_commands[0]};
