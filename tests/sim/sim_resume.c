/* Clients that follow through libkv: its session core, and above it the streams that go on over
 * lost connections and on other nodes. Each stream is judged as one, from its beginning to its end,
 * however often it was resumed (resume.h). */
#include "tests/sim/sim.h"

#include "common/assert.h"
#include "tests/sim/resume.h"

#include <stdlib.h>

enum { THINK_MS = 250, RESET_PERMILLE = 20 };

static uint64_t pick(struct sim *sim, uint64_t below)
{
    return sim_random(sim, SIM_RANDOM_RESUME, below);
}

static void think_later(struct sim_client *client)
{
    struct sim *sim = client->sim;

    sim_push(
        sim,
        (struct sim_event){.time_ns = sim->now_ns +
                                      SIM_MS * sim_random_time(sim, SIM_RANDOM_RESUME, THINK_MS),
                           .kind = SIM_EV_CLIENT_THINKS,
                           .peer = (uint8_t)client->id});
}

static void open_stream(struct sim_client *client, struct sim_resumed *stream)
{
    struct sim *sim = client->sim;
    struct sim_interest interest = {0};
    Kv__Request *request;

    sim_follow_choose(sim, &interest);
    request = kv__request__unpack(NULL, interest.request_size, interest.request);
    stream->followed = malloc(sizeof *stream->followed);
    KV_ASSERT(request && stream->followed);
    followed_init(stream->followed, client->id, request, sim->known_revision);
    stream->followed->asked_ns = sim->now_ns;
    sim_follow_keep(sim, stream->followed);
    stream->resumed = resumed_open(client->session, sim->now_ns, request, stream->followed);
    kv__request__free_unpacked(request, NULL);
    sim->counts.streams++;
}

static void close_stream(struct sim_client *client, struct sim_resumed *stream)
{
    resumed_close(stream->resumed, client->sim->now_ns);
    stream->resumed = NULL;
    if (stream->followed->is_open) {
        followed_end(stream->followed, KV_CLOSED, NULL);
    }
}

static void tend(struct sim_client *client, struct sim_resumed *stream)
{
    struct sim *sim = client->sim;

    if (stream->resumed && !stream->followed->is_open) {
        close_stream(client, stream); /* it has ended */
    }
    if (!stream->resumed) {
        if (sim->has_healed || pick(sim, 2)) {
            open_stream(client, stream);
        }
    } else if (sim->has_healed || pick(sim, 4) == 0) {
        resumed_pause(stream->resumed, sim->now_ns, !sim->has_healed && pick(sim, 2));
    } else if (pick(sim, 200) == 0) {
        close_stream(client, stream);
    }
}

void sim_resume_think(struct sim_client *client)
{
    struct sim *sim = client->sim;
    struct sim_resumed *streams = sim->resumed[client->id - sim->profile.n_clients];

    think_later(client);
    for (unsigned i = 0; i < SIM_STREAMS_MAX; i++) {
        tend(client, &streams[i]);
    }
    if (!sim->has_healed && sim_chance(sim, SIM_RANDOM_RESUME, RESET_PERMILLE)) {
        sim_client_reset(client);
    }
}

bool sim_resume_is_caught_up(const struct sim *sim, int64_t revision)
{
    for (unsigned i = 0; i < sim->profile.n_resumers; i++) {
        for (unsigned k = 0; k < SIM_STREAMS_MAX; k++) {
            const struct followed *followed = sim->resumed[i][k].followed;

            if (!followed || !followed->is_open || followed->n_items == 0 ||
                (sim_follow_progress_ms(followed->request) > 0 &&
                 followed_told(followed) < revision)) {
                return false;
            }
        }
    }
    return true;
}

void sim_resume_free(struct sim *sim)
{
    for (unsigned i = 0; i < sim->profile.n_resumers; i++) {
        for (unsigned k = 0; k < SIM_STREAMS_MAX; k++) {
            resumed_close(sim->resumed[i][k].resumed, sim->now_ns);
        }
    }
}
