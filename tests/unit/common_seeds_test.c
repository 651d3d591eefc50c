/* What the environment does to tests of random choices. */
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* after the above, as it wants */
#include <cmocka.h>

static int clear(void **state)
{
    (void)state;
    unsetenv("KV_SEED");
    unsetenv("KV_SEEDS");
    unsetenv("KV_LONG");
    return 0;
}

static void expect(uint64_t first, uint64_t last)
{
    struct kv_test_seeds seeds = kv_test_seeds(12);

    assert_int_equal(seeds.first, first);
    assert_int_equal(seeds.last, last);
}

static void the_usual_number(void **state)
{
    (void)state;
    expect(1, 12);
}

static void a_long_run_takes_more(void **state)
{
    (void)state;
    setenv("KV_LONG", "1", 1);
    expect(1, 240);
}

static void a_number_is_taken(void **state)
{
    (void)state;
    setenv("KV_LONG", "1", 1);
    setenv("KV_SEEDS", "5", 1);
    expect(1, 5);
}

static void one_is_replayed(void **state)
{
    (void)state;
    setenv("KV_LONG", "1", 1);
    setenv("KV_SEEDS", "5", 1);
    setenv("KV_SEED", "0x21", 1);
    expect(33, 33);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_usual_number, clear),
        cmocka_unit_test_setup(a_long_run_takes_more, clear),
        cmocka_unit_test_setup(a_number_is_taken, clear),
        cmocka_unit_test_setup(one_is_replayed, clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
