/* A leaderboard: best scores, the first three, one player's place and the neighbours of it. */
#include <kv/kv.h>
#include <stdio.h>

#define BOARD kv_bytes_str("leaderboard")

/* Only a better score counts. */
static int
report(struct kv_client *client, const char *player, double score, struct kv_error *ret_error)
{
    struct kv_zset_add_options best = {.if_greater = true};
    struct kv_scored member = {.member = kv_bytes_str(player), .score = score};

    return kv_zset_add(client, BOARD, &member, 1, &best, NULL, ret_error);
}

static int print_range(struct kv_client *client,
                       const char *title,
                       int64_t first,
                       int64_t last,
                       struct kv_error *ret_error)
{
    struct kv_span span = {.kind = KV_SPAN_RANKS, .first = first, .last = last};
    struct kv_zset_range_options best_first = {.descending = true};
    struct kv_scored_list list;
    int status = kv_zset_range(client, BOARD, &span, &best_first, &list, ret_error);

    if (status < 0) {
        return status;
    }
    printf("%s:", title);
    for (size_t i = 0; i < list.n_members; i++) {
        printf(" %.*s %g",
               (int)list.members[i].member.size,
               (const char *)list.members[i].member.data,
               list.members[i].score);
    }
    printf("\n");
    kv_scored_list_free(&list);
    return 0;
}

static int show(struct kv_client *client, const char *player, struct kv_error *ret_error)
{
    uint64_t rank;
    double score;
    int status = print_range(client, "first", 0, 2, ret_error);

    if (status == 0) {
        status =
            kv_zset_rank(client, BOARD, kv_bytes_str(player), true, NULL, &rank, &score, ret_error);
    }
    if (status < 0) {
        return status;
    }
    printf("%s: place %llu with %g\n", player, (unsigned long long)rank + 1, score);
    return print_range(
        client, "around", rank > 0 ? (int64_t)rank - 1 : 0, (int64_t)rank + 1, ret_error);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *player;
        double score;
    } games[] = {
        {"ada", 1500}, {"bob", 900}, {"cyd", 1720.5}, {"dan", 1100}, {"bob", 1300}, {"ada", 1200}};
    struct kv_client_options options = {.endpoints = argc > 1 ? argv[1] : "127.0.0.1:4700"};
    struct kv_client *client;
    struct kv_error error = {0};
    int status = kv_client_open(&options, &client, &error);

    if (status < 0) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    for (size_t i = 0; i < sizeof games / sizeof games[0] && status == 0; i++) {
        status = report(client, games[i].player, games[i].score, &error);
    }
    if (status == 0) {
        status = show(client, "bob", &error);
    }
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", kv_status_name(status), error.message);
    }
    kv_client_close(client);
    return status < 0;
}
