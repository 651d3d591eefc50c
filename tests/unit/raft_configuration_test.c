/* Configurations from any bytes: whole ones come back, others are refused without a read behind
 * their end (each stands on a block of just its size, so that a sanitizer sees one). */
#include "raft/configuration.h"

#include <raft.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int decode(const void *data, size_t size, struct raft_configuration *ret_configuration)
{
    uint8_t *copy = malloc(size ? size : 1);
    int status;

    assert_non_null(copy);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    status = kv_configuration_decode(kv_slice_of(copy, size), ret_configuration);
    free(copy);
    return status;
}

static struct raft_buffer encode(void)
{
    struct raft_configuration configuration;
    struct raft_buffer buffer;

    raft_configuration_init(&configuration);
    assert_int_equal(raft_configuration_add(&configuration, 1, "a:1", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(&configuration, 300, "bb:22", RAFT_SPARE), 0);
    assert_int_equal(raft_configuration_encode(&configuration, &buffer), 0);
    raft_configuration_close(&configuration);
    return buffer;
}

static void whole_ones_come_back(void **state)
{
    struct raft_configuration configuration;
    struct raft_buffer buffer = encode();

    (void)state;
    assert_int_equal(decode(buffer.base, buffer.len, &configuration), 0);
    assert_int_equal(configuration.n, 2);
    assert_int_equal(configuration.servers[1].id, 300);
    assert_string_equal(configuration.servers[1].address, "bb:22");
    assert_int_equal(configuration.servers[1].role, RAFT_SPARE);
    raft_configuration_close(&configuration);
    raft_free(buffer.base);
}

static void cut_ones_are_refused(void **state)
{
    enum { USED_BYTES = 9 + 8 + 4 + 1 + 8 + 6 + 1 };
    struct raft_configuration configuration;
    struct raft_buffer buffer = encode();

    (void)state;
    for (size_t size = 0; size < USED_BYTES; size++) {
        assert_int_equal(decode(buffer.base, size, &configuration), KV_CORRUPT);
    }
    assert_int_equal(decode(buffer.base, USED_BYTES, &configuration), 0);
    raft_configuration_close(&configuration);
    raft_free(buffer.base);
}

static void flipped_ones_do_no_harm(void **state)
{
    struct raft_configuration configuration;
    struct raft_buffer buffer = encode();
    uint8_t *data = buffer.base;
    unsigned n_refused = 0;

    (void)state;
    for (size_t bit = 0; bit < 8 * buffer.len; bit++) {
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (decode(data, buffer.len, &configuration) == 0) {
            raft_configuration_close(&configuration);
        } else {
            n_refused++;
        }
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(n_refused > 60);
    raft_free(buffer.base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_ones_come_back),
        cmocka_unit_test(cut_ones_are_refused),
        cmocka_unit_test(flipped_ones_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
