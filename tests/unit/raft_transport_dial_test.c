/* How nodes reach each other: names with several addresses, names that move, names that block,
 * peers that went and came. The resolver is a stand-in in this file, which takes the place of the
 * system's for the whole program. */
#define _GNU_SOURCE
#include "common/limits.h"
#include "raft/transport.h"
#include "tests/support/transport_rig.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

/* ---------------------------------------------------------------- the resolver */

enum { LOOKUPS_MAX = 64 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const char *answer[4]; /* addresses of every name; NULL: no more; none: the name is unknown */
    bool blocks;
    size_t n_blocked;
    size_t n_lookups;
    size_t n_lists; /* handed out and not yet freed */
} names = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

union any_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static struct addrinfo *make_address(const char *text, const char *port, struct addrinfo *next)
{
    struct addrinfo *made = calloc(1, sizeof *made);
    union any_address *address = calloc(1, sizeof *address);

    if (!made || !address) {
        abort();
    }
    if (inet_pton(AF_INET, text, &address->v4.sin_addr) == 1) {
        address->v4.sin_family = AF_INET;
        address->v4.sin_port = htons((uint16_t)atoi(port));
        made->ai_addrlen = sizeof address->v4;
    } else if (inet_pton(AF_INET6, text, &address->v6.sin6_addr) == 1) {
        address->v6.sin6_family = AF_INET6;
        address->v6.sin6_port = htons((uint16_t)atoi(port));
        made->ai_addrlen = sizeof address->v6;
    } else {
        free(made);
        free(address);
        return NULL;
    }
    made->ai_family = address->any.sa_family;
    made->ai_socktype = SOCK_STREAM;
    made->ai_addr = &address->any;
    made->ai_next = next;
    return made;
}

static struct addrinfo *look_up(const char *port)
{
    struct addrinfo *list = NULL;

    pthread_mutex_lock(&names.lock);
    names.n_lookups++;
    names.n_blocked++;
    pthread_cond_broadcast(&names.changed);
    while (names.blocks) {
        pthread_cond_wait(&names.changed, &names.lock);
    }
    names.n_blocked--;
    for (int i = 3; i >= 0; i--) {
        list = names.answer[i] ? make_address(names.answer[i], port, list) : list;
    }
    names.n_lists += list != NULL;
    pthread_mutex_unlock(&names.lock);
    return list;
}

int getaddrinfo(const char *name,
                const char *service,
                const struct addrinfo *hints,
                struct addrinfo **ret_list)
{
    struct addrinfo *numeric = make_address(name, service, NULL);

    (void)hints;
    if (numeric) {
        pthread_mutex_lock(&names.lock);
        names.n_lists++;
        pthread_mutex_unlock(&names.lock);
    }
    *ret_list = numeric ? numeric : look_up(service);
    return *ret_list ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *list)
{
    while (list) {
        struct addrinfo *next = list->ai_next;

        free(list->ai_addr);
        free(list);
        list = next;
    }
    pthread_mutex_lock(&names.lock);
    names.n_lists--;
    pthread_mutex_unlock(&names.lock);
}

/* Of the counts above, under the lock. */
static size_t see(const size_t *count)
{
    size_t seen;

    pthread_mutex_lock(&names.lock);
    seen = *count;
    pthread_mutex_unlock(&names.lock);
    return seen;
}

static void set_answer(const char *a, const char *b, const char *c, const char *d)
{
    pthread_mutex_lock(&names.lock);
    names.answer[0] = a;
    names.answer[1] = b;
    names.answer[2] = c;
    names.answer[3] = d;
    pthread_mutex_unlock(&names.lock);
}

static void set_blocking(bool blocks)
{
    pthread_mutex_lock(&names.lock);
    names.blocks = blocks;
    pthread_cond_broadcast(&names.changed);
    pthread_mutex_unlock(&names.lock);
}

/* ---------------------------------------------------------------- the rig */

static struct rig rig;

static int setup(void **state)
{
    (void)state;
    rig_setup(&rig);
    set_answer(NULL, NULL, NULL, NULL);
    names.n_lookups = 0;
    return 0;
}

static int teardown(void **state)
{
    uint64_t deadline = rig_patience();

    (void)state;
    rig_teardown(&rig);
    /* Whatever was looked up is freed, also by threads that nobody waited for. */
    while (see(&names.n_lists) > 0 || see(&names.n_blocked) > 0) {
        rig_check(deadline, "look-ups end");
    }
    return 0;
}

static void add_named_peer(uint64_t id, uint64_t peer_id, int port)
{
    struct kv_net net = rig_node(&rig, id)->net;
    char address[64];

    snprintf(address, sizeof address, "peer.test:%d", port);
    assert_int_equal(net.ops->add_peer(net.net, peer_id, address), 0);
}

/* ---------------------------------------------------------------- tests */

static void all_addresses_of_a_name_are_tried(void **state)
{
    int port;

    (void)state;
    /* Of these, only the last has a listener. */
    set_answer("::1", "127.0.0.3", "127.0.0.2", "127.0.0.1");
    rig_open(&rig, 1, RIG_CLUSTER, 0);
    port = rig_open(&rig, 2, RIG_CLUSTER, 0);
    add_named_peer(1, 2, port);
    add_named_peer(2, 1, kv_transport_port(rig_node(&rig, 1)->transport));
    rig_run_until(&rig, rig_node(&rig, 1)->n_connected == 1);
    rig_run_until(&rig, rig_node(&rig, 2)->n_connected == 1);
    assert_true(see(&names.n_lookups) <= 8);
    assert_true(see(&names.n_lookups) >= 5);
}

static void a_name_is_looked_up_again_at_each_attempt(void **state)
{
    int port;

    (void)state;
    rig_open(&rig, 1, RIG_CLUSTER, 0);
    port = rig_open(&rig, 2, RIG_CLUSTER, 0);
    rig_add_peer(&rig, 2, 1, kv_transport_port(rig_node(&rig, 1)->transport));
    add_named_peer(1, 2, port);
    rig_run_until(&rig, see(&names.n_lookups) >= 3);
    assert_int_equal(rig_logged(&rig, "peer unreachable peer=2 address=peer.test"), 1);
    assert_int_equal(rig_node(&rig, 1)->n_connected, 0);
    /* Now there is one, and then it moves. */
    set_answer("127.0.0.1", NULL, NULL, NULL);
    rig_run_until(&rig, rig_node(&rig, 1)->n_connected == 1);
    rig_close(&rig, 2);
    rig_run_until(&rig, rig_node(&rig, 1)->n_disconnected == 1);
    set_answer("127.0.0.2", NULL, NULL, NULL);
    names.n_lookups = 0;
    rig_run_until(&rig, see(&names.n_lookups) >= 3);
    set_answer("127.0.0.1", NULL, NULL, NULL);
    rig_open(&rig, 2, RIG_CLUSTER, port);
    rig_add_peer(&rig, 2, 1, kv_transport_port(rig_node(&rig, 1)->transport));
    rig_run_until(&rig, rig_node(&rig, 1)->n_connected == 2);
}

static void a_peer_that_comes_back_is_connected_again(void **state)
{
    int port;

    (void)state;
    rig_connect_all(&rig, 2);
    port = kv_transport_port(rig_node(&rig, 2)->transport);
    for (size_t i = 1; i <= 3; i++) {
        rig_close(&rig, 2);
        rig_run_until(&rig, rig_node(&rig, 1)->n_disconnected == i);
        /* As a process that ended does. */
        assert_true(rig_node(&rig, 1)->last_reset);
        assert_false(rig_stats(&rig, 1, 2).connected);
        assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, 0, 4), KV_CLOSED);
        rig_open(&rig, 2, RIG_CLUSTER, port);
        rig_add_peer(&rig, 2, 1, kv_transport_port(rig_node(&rig, 1)->transport));
        rig_run_until(&rig, rig_node(&rig, 1)->n_connected == i + 1);
        rig_run_until(&rig, rig_node(&rig, 2)->n_connected == i + 1);
        assert_int_equal(rig_stats(&rig, 1, 2).connects, i + 1);
        assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, 0, 4), 0);
        rig_run_until(&rig, rig_node(&rig, 2)->n_messages == i);
    }
}

static void attempts_become_rarer(void **state)
{
    /* With jitter at its least: half of each backoff. */
    uint64_t least_ms = KV_PEER_BACKOFF_MIN_MS / 2;
    uint64_t last_ms = 0;

    (void)state;
    rig.now_ms = 1000000;
    rig.advance_ms = 1;
    rig_open(&rig, 1, RIG_CLUSTER, 0);
    add_named_peer(1, 2, 9);
    for (size_t n = 1; n < 10; n++) {
        rig_run_until(&rig, see(&names.n_lookups) >= n);
        assert_int_equal(see(&names.n_lookups), n);
        if (n > 1) {
            /* The turn that saw it began up to one later than the attempt before was made. */
            assert_true(rig.now_ms - last_ms + 1 >= least_ms);
            least_ms = 2 * least_ms < KV_PEER_BACKOFF_MAX_MS / 2 ? 2 * least_ms
                                                                 : KV_PEER_BACKOFF_MAX_MS / 2;
        }
        last_ms = rig.now_ms;
        rig.advance_ms = n < 6 ? 1 : 10;
    }
    assert_int_equal(least_ms, KV_PEER_BACKOFF_MAX_MS / 2);
    assert_int_equal(rig_logged(&rig, "peer unreachable"), 1);
}

static void who_connects_to_us_is_dialed_at_once(void **state)
{
    int port, own_port, fd;

    (void)state;
    rig.now_ms = 1000000; /* stands still: no backoff ever ends */
    own_port = rig_open(&rig, 1, RIG_CLUSTER, 0);
    port = rig_open(&rig, 2, RIG_CLUSTER, 0);
    rig_close(&rig, 2);
    rig_add_peer(&rig, 1, 2, port);
    rig_run_until(&rig, rig_logged(&rig, "connection refused") == 1);
    rig_open(&rig, 2, RIG_CLUSTER, port);
    fd = rig_raw_connect(own_port);
    assert_true(rig_raw_send_hello(&rig, fd, (struct rig_hello){.node_id = 2, .to_node_id = 1}));
    assert_true(rig_raw_is_accepted(&rig, fd, NULL));
    rig_run_until(&rig, rig_logged(&rig, "node 1 is not a member") > 0);
    close(fd);
}

static void nobody_waits_for_a_look_up_that_blocks(void **state)
{
    struct kv_net net;

    (void)state;
    set_blocking(true);
    set_answer("127.0.0.1", NULL, NULL, NULL);
    rig_connect_all(&rig, 2);
    for (uint64_t peer = 10; peer < 20; peer++) {
        add_named_peer(1, peer, 9);
    }
    rig_run_until(&rig, see(&names.n_blocked) == 10);
    /* Others go on, however many block, and a numeric address needs none. */
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, 0, 4), 0);
    rig_run_until(&rig, rig_node(&rig, 2)->n_messages == 1);
    rig_add_peer(&rig, 2, 3, rig_open(&rig, 3, RIG_CLUSTER, 0));
    rig_add_peer(&rig, 3, 2, kv_transport_port(rig_node(&rig, 2)->transport));
    rig_run_until(&rig, rig_node(&rig, 3)->n_connected == 1);
    net = rig_node(&rig, 1)->net;
    net.ops->remove_peer(net.net, 10);
    net.ops->remove_peer(net.net, 11);
    rig_close(&rig, 1);
    /* It is gone, and they still block. */
    assert_int_equal(see(&names.n_blocked), 10);
    assert_int_equal(see(&names.n_lookups), 10);
    set_blocking(false);
}

static void a_look_up_may_end_while_it_is_closed(void **state)
{
    (void)state;
    set_answer("127.0.0.1", NULL, NULL, NULL);
    for (int i = 0; i < 200; i++) {
        rig_open(&rig, 1, RIG_CLUSTER, 0);
        add_named_peer(1, 2, 9);
        if (i % 2) {
            rig_turn(&rig);
        }
        rig_close(&rig, 1);
    }
}

static void addresses_to_listen_on_that_cannot_be(void **state)
{
    struct kv_transport *transport = NULL;
    struct kv_transport_options options = {
        .loop = &rig.loop, .cluster_id = 1, .node_id = 1, .client_address = ""};
    struct kv_error error;
    char taken[32];

    (void)state;
    options.listen = "nonsense";
    assert_int_equal(kv_transport_open(&options, &transport, &error), KV_INVALID);
    assert_non_null(strstr(error.message, "nonsense"));
    options.listen = "unknown.test:1";
    assert_int_equal(kv_transport_open(&options, &transport, &error), KV_INVALID);
    assert_non_null(strstr(error.message, "unknown.test:1"));
    snprintf(taken, sizeof taken, "127.0.0.1:%d", rig_open(&rig, 1, RIG_CLUSTER, 0));
    options.listen = taken;
    assert_int_equal(kv_transport_open(&options, &transport, &error), KV_IN_USE);
    assert_non_null(strstr(error.message, "--peer-listen"));
    options.listen = "127.1.2.3.4:0";
    assert_int_equal(kv_transport_open(&options, &transport, &error), KV_INVALID);
    assert_null(transport);
    kv_transport_close(NULL, NULL, NULL);
}

static void addresses_are_split(void **state)
{
    static const struct {
        const char *address, *host, *port;
    } good[] = {{"a:1", "a", "1"},
                {"example.test:65535", "example.test", "65535"},
                {":4701", "", "4701"},
                {"[::1]:80", "::1", "80"},
                {"127.0.0.1:0", "127.0.0.1", "0"}};
    static const char *const bad[] = {"",
                                      "a",
                                      "a:",
                                      ":",
                                      "a:b",
                                      "a:1b",
                                      "a:-1",
                                      "a:65536",
                                      "a:100000",
                                      "::1:80",
                                      "[::1]",
                                      "a:b:1"};
    char long_host[300];
    char host[256], port[8];

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(kv_address_split(good[i].address, host, port), 0);
        assert_string_equal(host, good[i].host);
        assert_string_equal(port, good[i].port);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(kv_address_split(bad[i], host, port), KV_INVALID);
    }
    memset(long_host, 'h', sizeof long_host);
    memcpy(long_host + 256, ":1", 3);
    assert_int_equal(kv_address_split(long_host, host, port), KV_INVALID);
    memcpy(long_host + 255, ":1", 3);
    assert_int_equal(kv_address_split(long_host, host, port), 0);
    assert_int_equal(strlen(host), 255);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(all_addresses_of_a_name_are_tried),
        T(a_name_is_looked_up_again_at_each_attempt),
        T(a_peer_that_comes_back_is_connected_again),
        T(attempts_become_rarer),
        T(who_connects_to_us_is_dialed_at_once),
        T(nobody_waits_for_a_look_up_that_blocks),
        T(a_look_up_may_end_while_it_is_closed),
        T(addresses_to_listen_on_that_cannot_be),
        T(addresses_are_split),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
