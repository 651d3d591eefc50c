/* Documents: what is written is read back, in both notations; what is wrong is named; diffs. */
#include "client/kvctl/diff.h"
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static struct kv_arena arena;

static int set_up(void **state)
{
    (void)state;
    kv_arena_init(&arena, 256 * 1024 * 1024);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    kv_arena_deinit(&arena);
    return 0;
}

static int parse(const char *text, struct kvctl_document *document, struct kv_error *error)
{
    *document = (struct kvctl_document){.arena = &arena};
    return kvctl_document_parse(document, "f", kv_bytes_str(text), error);
}

/* ---------------------------------------------------------------- round trips */

static unsigned seed;

static unsigned chance(unsigned below)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 8) % below;
}

/* Bytes that notations find hard, texts that look like something else, and any bytes. */
static struct kv_bytes random_bytes(size_t least)
{
    static const char *const texts[] = {"true",
                                        "null",
                                        "~",
                                        "1e3",
                                        "0x1",
                                        "- a",
                                        "a: b",
                                        "# c",
                                        "a #b",
                                        "'q'",
                                        "\"",
                                        "\\n",
                                        "%",
                                        "@x",
                                        "`",
                                        "{a}",
                                        "[a]",
                                        "*a",
                                        "&a",
                                        "!a",
                                        "|",
                                        ">",
                                        "$hash",
                                        "$base64:YQ==",
                                        "---",
                                        "...",
                                        "a\n",
                                        "a\n\n",
                                        " a",
                                        "a ",
                                        "\ta",
                                        "a\nb",
                                        "a\n b\n",
                                        "\na",
                                        "a\r\nb",
                                        "a\nb\nc\n",
                                        "gr\xc3\xbc\xc3\x9f",
                                        "\xf0\x9f\x98\x80",
                                        "\xef\xbb\xbf",
                                        "\xc2\x85",
                                        "\xe2\x80\xa8",
                                        "\xef\xbf\xbe",
                                        "\x7f",
                                        "\x01",
                                        "?",
                                        "? a",
                                        ":",
                                        "a:",
                                        "=",
                                        "<<",
                                        "a\n#b\n"};
    char buffer[64];
    size_t size = least + chance(20);

    if (chance(2)) {
        const char *text = texts[chance(sizeof texts / sizeof texts[0])];

        return kv_bytes_str(text);
    }
    for (size_t i = 0; i < size; i++) {
        buffer[i] = (char)(chance(3) ? ' ' + (char)chance(95) : (char)chance(256));
    }
    return kv_bytes_of(kv_arena_copy(&arena, buffer, size), size);
}

static void random_entry(struct kvctl_document *document)
{
    static const double scores[] = {0, -1.5, 0.1, 1e300, 3, 1e-9};
    struct kvctl_entry *entry = kvctl_document_add(document);
    unsigned n = 1 + chance(5);

    entry->type = (enum kv_type)(1 + chance(6));
    entry->key = random_bytes(1);
    entry->ttl_ms = chance(4) ? 0 : 1 + (int64_t)chance(100000);
    entry->lease_id = chance(4) ? 0 : 1 + (int64_t)chance(100000);
    if (entry->type == KV_TYPE_STRING) {
        entry->value = random_bytes(0);
    } else if (entry->type == KV_TYPE_COUNTER) {
        entry->counter = chance(2) ? INT64_MIN : (int64_t)chance(1000);
    } else {
        for (unsigned i = 0; i < n; i++) {
            struct kvctl_element *element = kvctl_entry_add(document, entry);

            element->name = random_bytes(1);
            if (entry->type == KV_TYPE_HASH) {
                element->value = random_bytes(0);
                element->ttl_ms = chance(3) ? 0 : 1 + (int64_t)chance(100000);
            } else if (entry->type == KV_TYPE_ZSET) {
                element->score = scores[chance(6)] / (chance(9) ? 1 : 0.0);
                element->score = element->score == element->score ? element->score : 7;
            }
        }
    }
}

static void
expect_same(const struct kvctl_document *a, const struct kvctl_document *b, const char *text)
{
    if (a->n_entries != b->n_entries) {
        fail_msg("%zu entries, not %zu, in:\n%s", b->n_entries, a->n_entries, text);
    }
    for (size_t i = 0; i < a->n_entries; i++) {
        if (!kvctl_bytes_equal(a->entries[i].key, b->entries[i].key) ||
            !kvctl_entry_equal(&a->entries[i], &b->entries[i]) ||
            a->entries[i].ttl_ms != b->entries[i].ttl_ms ||
            a->entries[i].lease_id != b->entries[i].lease_id) {
            fail_msg("entry %zu differs in:\n%s", i, text);
        }
        for (size_t k = 0; k < a->entries[i].n_elements; k++) {
            if (a->entries[i].elements[k].ttl_ms != b->entries[i].elements[k].ttl_ms) {
                fail_msg("the time of element %zu of entry %zu differs in:\n%s", k, i, text);
            }
        }
    }
}

static void test_round_trip(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(2000);

    (void)state;
    for (uint64_t round = seeds.first; round <= seeds.last; round++) {
        struct kvctl_document document = {.arena = &arena};
        unsigned n = chance(6);
        struct kv_error error;

        kv_arena_reset(&arena);
        seed = (unsigned)round;
        for (unsigned i = 0; i < n; i++) {
            random_entry(&document);
        }
        if (kvctl_document_sort(&document, &error) < 0) {
            continue; /* the same key or element twice */
        }
        for (int notation = KVCTL_YAML; notation <= KVCTL_JSON_TEXT; notation++) {
            struct kvctl_document read = {.arena = &arena};
            char *text;
            size_t size;
            FILE *file = open_memstream(&text, &size);

            assert_int_equal(
                kvctl_document_write(&document, (enum kvctl_notation)notation, file, &error), 0);
            fclose(file);
            if (kvctl_document_parse(&read, "f", kv_bytes_of(text, size), &error) < 0) {
                fail_msg(
                    "KV_SEED=%llu: %s in:\n%s", (unsigned long long)round, error.message, text);
            }
            expect_same(&document, &read, text);
            free(text);
        }
    }
}

/* ---------------------------------------------------------------- by hand */

static void assert_holds(const struct kvctl_document *document, const char *key, const char *value)
{
    const struct kvctl_entry *entry = kvctl_document_find(document, kv_bytes_str(key));

    if (!entry || entry->type != KV_TYPE_STRING ||
        !kvctl_bytes_equal(entry->value, kv_bytes_str(value))) {
        fail_msg("%s is not %s", key, value);
    }
}

static void test_by_hand(void **state)
{
    struct kvctl_document document;
    struct kv_error error;

    (void)state;
    assert_int_equal(parse("config: {theme: dark, port: 8080, on: true}\n"
                           "app/:\n  db:\n    host: h\n    empty: ''\n"
                           "'app/x': y\n"
                           "n: !counter 5\n"
                           "v: 1.10\n"
                           "l: !list [a, {$base64: /w==}]\n"
                           "s: {$string: t, $ttl_ms: 9}\n"
                           "w: !!str null\n"
                           "h: {$hash: {a: {$ttl_ms: 7, $string: x}, b: {$string: y}}}\n",
                           &document,
                           &error),
                     0);
    assert_int_equal(document.n_entries, 12);
    assert_int_equal(kvctl_document_find(&document, kv_bytes_str("h"))->elements[0].ttl_ms, 7);
    assert_int_equal(kvctl_document_find(&document, kv_bytes_str("h"))->elements[1].ttl_ms, 0);
    assert_holds(&document, "config/theme", "dark");
    assert_holds(&document, "config/port", "8080");
    assert_holds(&document, "config/on", "true");
    assert_holds(&document, "app/db/host", "h");
    assert_holds(&document, "app/db/empty", "");
    assert_holds(&document, "app/x", "y");
    assert_holds(&document, "v", "1.10");
    assert_holds(&document, "w", "null");
    assert_int_equal(kvctl_document_find(&document, kv_bytes_str("n"))->counter, 5);
    assert_int_equal(kvctl_document_find(&document, kv_bytes_str("s"))->ttl_ms, 9);
    assert_int_equal(parse("{\"a\": {\"b\": 1, \"c\": [1].x}}", &document, &error), KV_INVALID);
    assert_int_equal(parse("{\"a\": {\"b\": 1, \"c\": 1.5, \"d\": false}}", &document, &error), 0);
    assert_holds(&document, "a/b", "1");
    assert_holds(&document, "a/c", "1.5");
    assert_holds(&document, "a/d", "false");
    /* Nothing in it is a document, too. */
    assert_int_equal(parse("# nothing\n", &document, &error), 0);
    assert_int_equal(document.n_entries, 0);
    assert_int_equal(parse("", &document, &error), 0);
    assert_int_equal(parse("{}", &document, &error), 0);
    assert_int_equal(document.n_entries, 0);
}

static void test_wrong(void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"a: b\nc: [\n", "f line 3: "},
        {"a: b\n\tc: d\n", "f line 2: "},
        {"{\"a\": 1,\n\"b\": }", "f line 2: "},
        {"{\"a\": 1, \"a\": 2}", "f line 1: duplicate object key"},
        {"a: b\na: c\n", "the key \"a\" is there twice, on lines 1 and 2"},
        {"a: {b: 1}\na/b: 2\n", "the key \"a/b\" is there twice"},
        {"- a\n", "f line 1: a mapping of keys"},
        {"text", "f line 1: a mapping of keys"},
        {"$hash: {a: b}\n", "f line 1: a mapping of keys"},
        {"a: b\nb: [c]\n", "f line 2: which type?"},
        {"a: {}\n", "f line 1: this has no value"},
        {"a:\n", "f line 1: null is no value"},
        {"a: ~\n", "null is no value"},
        {"{\"a\": {\"b\": null}}", "f at \"a/b\": null is no value"},
        {"'': x\n", "a key has 1 to 4096 bytes"},
        {"a: {$conter: 5}\n", "\"$conter\": one of $string"},
        {"a: !conter 5\n", "\"$conter\": one of $string"},
        {"a: !!int 5\n", "unknown tag tag:yaml.org,2002:int"},
        {"a: {$counter: x}\n", "$counter wants a whole number, not \"x\""},
        {"a: {$counter: 9223372036854775808}\n", "$counter wants a whole number"},
        {"a: {$counter: [1]}\n", "$counter wants one value"},
        {"a: {$counter: 1, $hash: {b: c}}\n", "one of $string"},
        {"a: {$ttl_ms: 5}\n", "this has no value"},
        {"a: {$string: b, $ttl_ms: 0}\n", "$ttl_ms wants a whole number"},
        {"a: {$hash: [b]}\n", "$hash wants a mapping"},
        {"a: {$hash: {}}\n", "a hash without elements does not exist"},
        {"a: {$hash: {b: {c: d}}}\n", "a field is a text, or one of {$string: ...}"},
        {"a: {$hash: {b: [c]}}\n", "a text or {$base64: ...}"},
        {"a: {$hash: {b: {$ttl_ms: 5}}}\n", "a field is a text, or one of {$string: ...}"},
        {"a: {$hash: {b: {$string: c, $string: d}}}\n", "a field is a text, or one of"},
        {"a: {$hash: {b: {$string: c, $base64: YQ==}}}\n", "a field is a text, or one of"},
        {"a: {$hash: {b: {$string: c, $ttl_ms: 0}}}\n", "$ttl_ms wants a whole number"},
        {"a: {$hash: {b: {$string: [c], $ttl_ms: 5}}}\n", "a text or {$base64: ...}"},
        {"a: {$hash: {b: {$base64: 'x', $ttl_ms: 5}}}\n", "this is no base64"},
        {"a: {$hash: {b: 1, b: 2}}\n", "\"b\" is there twice in \"a\""},
        {"a: {$list: {b: c}}\n", "$list wants a sequence"},
        {"a: {$set: [x, x]}\n", "\"x\" is there twice in \"a\""},
        {"a: {$set: ['']}\n", "names of fields and members have 1 to 4096 bytes"},
        {"a: {$zset: {m: nan}}\n", "a score is a number"},
        {"a: {$zset: {m: [1]}}\n", "a score is a number"},
        {"a: {$base64: 'x'}\n", "this is no base64"},
        {"a: {$base64: '====' }\n", "this is no base64"},
        {"$base64:Y$==: b\n", "this is no base64"},
        {"a: {b: 1, $x: 2}\n", "names with $ are types"},
        {"a: &x b\nc: *x\n", "f line 2: aliases"},
        {"a: b\n---\nc: d\n", "f line 2: a second document"},
        {"? [a]\n: b\n", "f line 1: a name is a text"},
        {"a: \xff\n", "f line 1: "},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kvctl_document document;
        struct kv_error error = {0};
        int status = parse(cases[i].text, &document, &error);

        if (status != KV_INVALID || !strstr(error.message, cases[i].message)) {
            fail_msg("%s: %d %s", cases[i].text, status, error.message);
        }
    }
}

/* Depth and cut or broken files do no harm. */
static void test_hostile(void **state)
{
    static const char *const openings[] = {"{a: ", "{\"a\":", "[", "!x [", "a:\n "};
    const char *sample = "a: {b: !hash {c: d}}\ne: !zset {f: 1}\ng: |\n  h\n  i\n";
    struct kvctl_document document;
    struct kv_error error;

    (void)state;
    for (size_t i = 0; i < sizeof openings / sizeof openings[0]; i++) {
        size_t length = strlen(openings[i]);
        char *text = calloc(1, 1000 * length + 1);

        for (size_t k = 0; k < 1000; k++) {
            memcpy(text + k * length, openings[i], length);
        }
        assert_int_equal(parse(text, &document, &error), KV_INVALID);
        free(text);
    }
    for (size_t cut = 0; cut < strlen(sample); cut++) {
        for (unsigned byte = 0; byte < 256; byte += 5) {
            char text[128];

            snprintf(text, sizeof text, "%s", sample);
            text[cut] = (char)byte;
            kv_arena_reset(&arena);
            /* Whatever it says, memory is in order (preset asan), and a failure has a text. */
            error.message[0] = '\0';
            if (parse(text, &document, &error) < 0) {
                assert_true(error.message[0] != '\0');
            }
        }
    }
}

/* ---------------------------------------------------------------- diffs */

static void test_diff(void **state)
{
    struct kvctl_document from;
    struct kvctl_document to;
    struct kvctl_diff diff;
    struct kv_error error;
    char *text;
    size_t size;
    FILE *file;

    (void)state;
    assert_int_equal(
        parse("a: 1\nb: 2\nc: !list [x, y, z]\nd: !hash {p: 1, q: 2}\ne: !counter 1\ng: s\n",
              &from,
              &error),
        0);
    assert_int_equal(parse("b: 2\nc: !list [x, w, z]\nd: !hash {q: 3, r: 4}\ne: one\nf: !set [m]\n",
                           &to,
                           &error),
                     0);
    assert_int_equal(kvctl_diff_make(&arena, &from, &to, true, &diff, &error), 0);
    assert_int_equal(diff.n[KVCTL_CREATE], 1);
    assert_int_equal(diff.n[KVCTL_CHANGE], 3);
    assert_int_equal(diff.n[KVCTL_REMOVE], 2);
    file = open_memstream(&text, &size);
    kvctl_diff_print(&diff, file);
    fclose(file);
    assert_string_equal(text,
                        "- a: 1\n"
                        "~ c: (list)\n  - y\n  + w\n"
                        "~ d: (hash)\n  - p: 1\n  - q: 2\n  + q: 3\n  + r: 4\n"
                        "~ e:\n  - (counter) 1\n  + one\n"
                        "+ f: (set of 1)\n  + m\n"
                        "- g: s\n");
    free(text);
    assert_int_equal(kvctl_diff_make(&arena, &from, &to, false, &diff, &error), 0);
    assert_int_equal(diff.n[KVCTL_REMOVE], 0);
    assert_int_equal(kvctl_diff_make(&arena, &to, &to, true, &diff, &error), 0);
    assert_int_equal(diff.n_changes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_by_hand, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_diff, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
