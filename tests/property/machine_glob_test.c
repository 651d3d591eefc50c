/* Patterns against a matcher that tries everything, random ones over few letters so that they match
 * often; what is malformed or costly is refused with its place. */
#include "server/machine/glob.h"
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { PATTERNS = 20000, TEXTS = 20, PATTERN_MAX = 14, TEXT_MAX = 12 };

static uint64_t random_state;
static struct kv_glob glob;

static unsigned below(unsigned n)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (unsigned)((random_state * UINT64_C(2685821657736338717) >> 33) % n);
}

/* Tells whether the byte is in the set behind the bracket; *ret_end is behind its end. */
static bool in_set(const char *p, char byte, const char **ret_end)
{
    bool negated = *p == '!';
    bool found = false;

    p += negated;
    while (*p != ']') {
        char low = *p == '\\' ? *++p : *p;
        char high = low;

        p++;
        if (*p == '-' && p[1] != ']') {
            p++;
            high = *p == '\\' ? *++p : *p;
            p++;
        }
        found = found || (byte >= low && byte <= high);
    }
    *ret_end = p + 1;
    return found != negated;
}

/* Exponential, and plain. */
static bool naive(const char *p, const char *end, const char *text, const char *text_end)
{
    const char *behind;

    if (p == end) {
        return text == text_end;
    }
    if (*p == '*') {
        return naive(p + 1, end, text, text_end) ||
               (text < text_end && naive(p, end, text + 1, text_end));
    }
    if (text == text_end) {
        return false;
    }
    if (*p == '[') {
        return in_set(p + 1, *text, &behind) && naive(behind, end, text + 1, text_end);
    }
    if (*p == '\\') {
        return p[1] == *text && naive(p + 2, end, text + 1, text_end);
    }
    return (*p == '?' || *p == *text) && naive(p + 1, end, text + 1, text_end);
}

static size_t random_pattern(char *p)
{
    static const char *const pieces[] = {
        "a", "b", "c", "/", "*", "?", "[ab]", "[!a]", "[a-c]", "\\*", "[b-]", "[\\]a]", "*"};
    size_t size = 0;

    for (unsigned n = 1 + below(6); n > 0; n--) {
        const char *piece = pieces[below(sizeof pieces / sizeof pieces[0])];

        if (size + strlen(piece) < PATTERN_MAX) {
            memcpy(p + size, piece, strlen(piece));
            size += strlen(piece);
        }
    }
    return size;
}

static void run_seed(uint64_t seed)
{
    uint64_t n_matches = 0;

    printf("KV_SEED=%llu\n", (unsigned long long)seed);
    random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (int i = 0; i < PATTERNS; i++) {
        char pattern[PATTERN_MAX + 1], text[TEXT_MAX + 1];
        size_t size = random_pattern(pattern);
        struct kv_error error;

        assert_int_equal(kv_glob_compile(kv_slice_of(pattern, size), &glob, &error), 0);
        for (int j = 0; j < TEXTS; j++) {
            size_t text_size = 1 + below(TEXT_MAX);
            bool expected;

            for (size_t k = 0; k < text_size; k++) {
                text[k] = "abc/*-]"[below(7)];
            }
            expected = naive(pattern, pattern + size, text, text + text_size);
            n_matches += expected;
            if (kv_glob_matches(&glob, kv_slice_of(text, text_size)) != expected) {
                fail_msg("pattern \"%.*s\", text \"%.*s\": %d expected",
                         (int)size,
                         pattern,
                         (int)text_size,
                         text,
                         expected);
            }
        }
    }
    assert_true(n_matches > PATTERNS / 2);
}

static void patterns_match_what_a_naive_matcher_does(void **state)
{
    const struct kv_test_seeds seeds = kv_test_seeds(2);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        run_seed(seed);
    }
}

static void assert_refused(const char *pattern, const char *message)
{
    struct kv_error error;

    assert_int_equal(kv_glob_compile(kv_slice_str(pattern), NULL, &error), KV_INVALID);
    assert_string_equal(error.message, message);
    assert_int_equal(kv_glob_compile(kv_slice_str(pattern), &glob, &error), KV_INVALID);
}

static void malformed_patterns_are_refused(void **state)
{
    (void)state;
    assert_refused("", "the pattern has 0 bytes: 1 to 1024");
    assert_refused("a[bc",
                   "the pattern has a set without its closing bracket, which began at byte 1");
    assert_refused("a[b-",
                   "the pattern has a set without its closing bracket, which began at byte 1");
    assert_refused("ab[]c]", "the pattern has an empty set at byte 2");
    assert_refused("ab[!]", "the pattern has an empty set at byte 2");
    assert_refused("[z-a]", "the pattern has a set with a range that runs backward, at byte 0");
    assert_refused("ab\\", "the pattern ends in a lone backslash, at byte 2");
}

/* As many places as there may be, in all words of the bits, and the time of the worst text. */
static void costly_patterns_are_refused_and_others_are_fast(void **state)
{
    char pattern[KV_GLOB_BYTES_MAX + 2], text[KV_KEY_BYTES_MAX];
    struct kv_error error;
    clock_t begin;

    (void)state;
    memset(pattern, 'a', sizeof pattern);
    memset(text, 'a', sizeof text);
    assert_int_equal(kv_glob_compile(kv_slice_of(pattern, KV_GLOB_BYTES_MAX), &glob, &error), 0);
    assert_true(kv_glob_matches(&glob, kv_slice_of(text, KV_GLOB_BYTES_MAX)));
    assert_int_equal(kv_glob_compile(kv_slice_of(pattern, sizeof pattern), NULL, &error),
                     KV_INVALID);
    for (unsigned i = 0; i < KV_GLOB_PLACES_MAX; i++) {
        memcpy(pattern + 2 * i, "*a", 2);
    }
    assert_int_equal(kv_glob_compile(kv_slice_of(pattern, 2 * KV_GLOB_PLACES_MAX), &glob, &error),
                     0);
    assert_int_equal(
        kv_glob_compile(kv_slice_of(pattern, 2 * KV_GLOB_PLACES_MAX + 1), NULL, &error),
        KV_INVALID);
    assert_non_null(strstr(error.message, "costly"));
    assert_true(kv_glob_matches(&glob, kv_slice_of(text, KV_GLOB_PLACES_MAX)));
    assert_false(kv_glob_matches(&glob, kv_slice_of(text, KV_GLOB_PLACES_MAX - 1)));
    begin = clock();
    for (int i = 0; i < 100; i++) {
        text[sizeof text - 1] = 'b';
        assert_false(kv_glob_matches(&glob, kv_slice_of(text, sizeof text)));
    }
    /* 41 million places: without the bound of the pattern's bits it would be far more. */
    assert_true(clock() - begin < 2 * CLOCKS_PER_SEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_what_a_naive_matcher_does),
        cmocka_unit_test(malformed_patterns_are_refused),
        cmocka_unit_test(costly_patterns_are_refused_and_others_are_fast),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
