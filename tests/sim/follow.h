/* What a stream told its client, and whether it was exactly what happened: complete, in order,
 * each event once, whole revisions, no progress that overtakes an event, an end only where it is
 * due. Knows nothing of the simulator. */
#ifndef KV_TESTS_SIM_FOLLOW_H
#define KV_TESTS_SIM_FOLLOW_H

#include "tests/sim/checkers.h"
#include "tests/sim/truth.h"

/* One stream, from its request to its end. */
struct followed {
    const Kv__Request *request; /* a Watch or a Subscribe */
    unsigned client;
    int64_t known; /* newest revision that anybody had been told of when it was asked for */
    uint64_t asked_ns;
    Kv__StreamItem **items;
    size_t n_items, capacity;
    bool is_open;   /* at the end of the run: it has had the time to tell everything */
    int status;     /* of its end */
    int64_t oldest; /* with COMPACTED: what the server said */
    struct kv_arena arena;
};

void followed_init(struct followed *followed,
                   unsigned client,
                   const Kv__Request *request,
                   int64_t known);
void followed_deinit(struct followed *followed);
void followed_item(struct followed *followed, const Kv__StreamItem *item);
void followed_end(struct followed *followed, int status, const Kv__Hint *hint);
/* Everything up to here was told; what it began with until then. -1: nothing has come. */
int64_t followed_told(const struct followed *followed);
/* Of a Subscribe; the other one calls it. */
void followed_judge_topics(const struct followed *followed,
                           const struct truth *truth,
                           struct checkers *checkers);
void followed_judge(const struct followed *followed,
                    const struct truth *truth,
                    struct checkers *checkers);

#endif
