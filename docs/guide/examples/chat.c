/* A chat room: each line of standard input is published to the room's topic, and whatever anybody
 * publishes there is printed. All see the same lines in the same order, across the death of nodes.
 *
 *     chat ENDPOINTS ROOM NAME
 *
 * Who comes later is shown the last ten lines first. It ends with standard input. */
#include <inttypes.h>
#include <kv/kv.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 1000, TOPIC_BYTES = 200, LAST = 10, WAIT_MS = 1000 };

static void print(const struct kv_message_batch *batch)
{
    /* Only who was away for longer than messages are kept comes here: never in silence. */
    if (batch->gap_from) {
        printf("-- lines of revisions %" PRId64 " to %" PRId64 " may be missing\n",
               batch->gap_from,
               batch->gap_to);
    }
    for (size_t i = 0; i < batch->n_messages; i++) {
        struct kv_bytes line = batch->messages[i].payload;

        printf("%.*s\n", (int)line.size, (const char *)line.data);
    }
    fflush(stdout);
}

static void *listen_to(void *arg)
{
    struct kv_subscription *subscription = arg;
    struct kv_message_batch *batch;
    struct kv_error error;
    int status;

    while ((status = kv_subscription_next(subscription, WAIT_MS, &batch, &error)) >= 0) {
        if (status == 1) {
            print(batch);
            kv_message_batch_free(batch);
        }
    }
    if (status != KV_CLOSED) {
        fprintf(stderr, "%s: %s\n", kv_status_name(status), error.message);
    }
    return NULL;
}

/* A line is published once, however often libkv has to send it while nodes die. */
static void talk(struct kv_client *client, struct kv_bytes topic, const char *name)
{
    char typed[LINE_BYTES];
    char line[LINE_BYTES + TOPIC_BYTES];
    struct kv_call_options patient = {.deadline_ms = 60000};
    struct kv_error error;

    while (fgets(typed, sizeof typed, stdin)) {
        typed[strcspn(typed, "\n")] = '\0';
        snprintf(line, sizeof line, "%s: %s", name, typed);
        if (kv_publish(client, topic, kv_bytes_str(line), &patient, NULL, &error) < 0) {
            fprintf(stderr, "not said: %s: %s\n", typed, error.message);
        }
    }
}

static int run(struct kv_client *client, const char *room, const char *name, struct kv_error *error)
{
    char topic[TOPIC_BYTES];
    struct kv_subscribe_options options = {.last = LAST};
    struct kv_subscription *subscription;
    pthread_t listener;
    int status;

    snprintf(topic, sizeof topic, "chat/%s", room);
    options.topic = kv_bytes_str(topic);
    status = kv_subscribe(client, &options, &subscription, error);
    if (status < 0) {
        return status;
    }
    if (pthread_create(&listener, NULL, listen_to, subscription) == 0) {
        talk(client, options.topic, name);
        kv_subscription_stop(subscription);
        pthread_join(listener, NULL);
    }
    kv_subscription_close(subscription);
    return 0;
}

int main(int argc, char **argv)
{
    struct kv_client_options options = {.endpoints = argc > 1 ? argv[1] : "127.0.0.1:4700"};
    struct kv_client *client;
    struct kv_error error = {0};
    int status = kv_client_open(&options, &client, &error);

    if (status == 0) {
        status =
            run(client, argc > 2 ? argv[2] : "general", argc > 3 ? argv[3] : "somebody", &error);
        kv_client_close(client);
    }
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", kv_status_name(status), error.message);
    }
    return status < 0;
}
