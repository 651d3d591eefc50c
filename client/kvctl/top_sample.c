/* What each node says of itself, and what has changed since the last look. */
#include "client/kvctl/top.h"

#include <stdlib.h>
#include <string.h>

/* A node that is not there is not to hold up the others. */
enum { STATUS_DEADLINE_MS = 500 };

/* ---------------------------------------------------------------- nodes */

static int
add_node(struct kvctl *kvctl, struct kvctl_top_sample *sample, const char *address, size_t size)
{
    struct kvctl_top_node *node = &sample->nodes[sample->n_nodes];
    struct kv_client_options options = {
        .endpoints = node->address,
        .name = "kvctl top",
        .stay = true,
        .impatient = true,
        .no_session = true,
    };
    struct kv_error error;

    if (sample->n_nodes == KVCTL_TOP_NODES_MAX || size == 0 || size >= sizeof node->address) {
        return KVCTL_OK;
    }
    memcpy(node->address, address, size);
    node->address[size] = '\0';
    node->requests_per_s = -1;
    if (kv_client_open(&options, &node->client, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    sample->n_nodes++;
    return KVCTL_OK;
}

static int add_endpoints(struct kvctl *kvctl, struct kvctl_top_sample *sample)
{
    const char *p = kvctl->endpoints;
    int code = KVCTL_OK;

    while (*p && code == KVCTL_OK) {
        size_t size = strcspn(p, ",");

        code = add_node(kvctl, sample, p, size);
        p += size + (p[size] == ',');
    }
    return code;
}

int kvctl_top_open(struct kvctl *kvctl, struct kvctl_top_sample *sample)
{
    struct kv_call_options options = kvctl_call_options(kvctl);
    struct kv_member_list list;
    struct kv_error error;
    int code = KVCTL_OK;

    memset(sample, 0, sizeof *sample);
    sample->changes_per_s = -1;
    sample->entries_per_s = -1;
    if (kv_member_list(kvctl->client, &options, &list, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    for (size_t i = 0; i < list.n_members && code == KVCTL_OK; i++) {
        const char *address = list.members[i].client_address;

        code = add_node(kvctl, sample, address, strlen(address));
    }
    /* Members that were never heard of have no address. */
    if (code == KVCTL_OK && sample->n_nodes < list.n_members) {
        kvctl_top_close(sample);
        code = add_endpoints(kvctl, sample);
    }
    kv_member_list_free(&list);
    return code;
}

void kvctl_top_close(struct kvctl_top_sample *sample)
{
    for (size_t i = 0; i < sample->n_nodes; i++) {
        kv_client_close(sample->nodes[i].client);
        kv_node_info_free(&sample->nodes[i].info);
        kv_node_info_free(&sample->nodes[i].before);
        sample->nodes[i] = (struct kvctl_top_node){0};
    }
    sample->n_nodes = 0;
}

/* ---------------------------------------------------------------- latencies */

/* The bound of the class in which the n-th of the counts is. */
static uint64_t bound_of(const struct kv_node_info *info, const uint64_t *counts, uint64_t n)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < info->n_latencies; i++) {
        sum += counts[i];
        if (sum >= n) {
            return info->latency_bounds_us[i];
        }
    }
    return UINT64_MAX;
}

static struct kvctl_top_latency latency_between(const struct kv_node_info *before,
                                                const struct kv_node_info *now)
{
    uint64_t counts[64] = {0};
    struct kvctl_top_latency latency = {0};
    bool comparable = before->n_latencies == now->n_latencies && now->n_latencies < 64 &&
                      now->uptime_ms >= before->uptime_ms;

    for (size_t i = 0; comparable && now->n_latencies > 0 && i <= now->n_latencies; i++) {
        counts[i] = now->latency_counts[i] - before->latency_counts[i];
        latency.count += counts[i];
    }
    if (latency.count > 0) {
        latency.median_us = bound_of(now, counts, (latency.count + 1) / 2);
        latency.p99_us = bound_of(now, counts, (latency.count * 99 + 99) / 100);
    }
    return latency;
}

/* ---------------------------------------------------------------- looks */

static void look_at(struct kvctl_top_node *node, double seconds)
{
    struct kv_call_options options = {.deadline_ms = STATUS_DEADLINE_MS};
    struct kv_node_info info;
    struct kv_error error;

    node->answers = kv_status(node->client, &options, &info, &error) == 0;
    node->requests_per_s = -1;
    node->latency = (struct kvctl_top_latency){0};
    if (!node->answers) {
        snprintf(node->error, sizeof node->error, "%.150s", error.message);
        return;
    }
    kv_node_info_free(&node->before);
    node->before = node->info;
    node->info = info;
    if (node->before.memory && seconds > 0 && info.uptime_ms >= node->before.uptime_ms) {
        node->requests_per_s = (double)(info.requests - node->before.requests) / seconds;
        node->latency = latency_between(&node->before, &info);
    }
}

const struct kv_node_info *kvctl_top_newest(const struct kvctl_top_sample *sample)
{
    const struct kv_node_info *newest = NULL;

    for (size_t i = 0; i < sample->n_nodes; i++) {
        const struct kvctl_top_node *node = &sample->nodes[i];

        if (node->answers && (!newest || node->info.revision > newest->revision)) {
            newest = &node->info;
        }
    }
    return newest;
}

void kvctl_top_look(struct kvctl_top_sample *sample)
{
    const struct kv_node_info *newest = kvctl_top_newest(sample);
    int64_t revision = newest ? newest->revision : 0;
    uint64_t index = newest ? newest->commit_index : 0;
    int64_t now_ms = kvctl_now_ms();
    double seconds = sample->at_ms ? (double)(now_ms - sample->at_ms) / 1000 : 0;

    for (size_t i = 0; i < sample->n_nodes; i++) {
        look_at(&sample->nodes[i], seconds);
    }
    sample->at_ms = now_ms;
    newest = kvctl_top_newest(sample);
    sample->changes_per_s = sample->entries_per_s = -1;
    if (newest && revision > 0 && seconds > 0 && newest->revision >= revision) {
        sample->changes_per_s = (double)(newest->revision - revision) / seconds;
    }
    if (newest && revision > 0 && seconds > 0 && newest->commit_index >= index) {
        sample->entries_per_s = (double)(newest->commit_index - index) / seconds;
    }
}
