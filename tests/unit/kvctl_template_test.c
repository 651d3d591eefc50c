/* Templates: what each action gives, what is wrong is named with template and line, hostile ones
 * are bounded. */
#include "client/kvctl/template.h"
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static struct kv_arena arena;
static struct kvctl_document store;

/* Templates by name, the outermost is "t". */
static const char *files[8][2];

static int load(struct kvctl_template_loader *loader,
                const struct kvctl_template_source *from,
                const char *name,
                struct kvctl_template_source *ret_source,
                struct kv_error *ret_error)
{
    (void)loader;
    (void)from;
    for (size_t i = 0; i < 8 && files[i][0]; i++) {
        if (strcmp(files[i][0], name) == 0) {
            *ret_source =
                (struct kvctl_template_source){files[i][0], kv_bytes_str(files[i][1]), {i + 1, 0}};
            return 0;
        }
    }
    return kv_error_set(ret_error, KV_IO, "%s: no such file", name);
}

static int get(struct kvctl_template_keys *keys,
               struct kv_bytes key,
               const struct kvctl_entry **ret_entry,
               struct kv_error *ret_error)
{
    (void)keys;
    if (kvctl_bytes_equal(key, kv_bytes_str("away"))) {
        return kv_error_set(ret_error, KV_NO_LEADER, "no leader");
    }
    *ret_entry = kvctl_document_find(&store, key);
    return 0;
}

static int list(struct kvctl_template_keys *keys,
                struct kv_bytes prefix,
                const struct kvctl_document **ret_document,
                struct kv_error *ret_error)
{
    struct kvctl_document *found = kv_arena_alloc(&arena, sizeof *found);

    (void)keys;
    if (!found) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    *found = (struct kvctl_document){.arena = &arena};
    for (size_t i = 0; i < store.n_entries; i++) {
        if (kvctl_has_prefix(store.entries[i].key, prefix)) {
            struct kvctl_entry *entry = kvctl_document_add(found);

            if (!entry) {
                return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
            }
            *entry = store.entries[i];
        }
    }
    *ret_document = found;
    return 0;
}

static int set_up(void **state)
{
    static const char text[] = "app: {host: h, port: '80', odd: \"it's \\\"1\\\"\"}\n"
                               "list: {b: 2, a: 1}\n"
                               "more: {a/x: ax, b/x: bx}\n"
                               "n: !counter -7\n"
                               "user: !hash {name: ada, empty: ''}\n"
                               "bin: {$base64: /wA=}\n";
    struct kv_error error;

    (void)state;
    memset(files, 0, sizeof files);
    kv_arena_init(&arena, 256 * 1024 * 1024);
    store = (struct kvctl_document){.arena = &arena};
    return kvctl_document_parse(&store, "store", kv_bytes_of(text, sizeof text - 1), &error);
}

static int tear_down(void **state)
{
    (void)state;
    kv_arena_deinit(&arena);
    return 0;
}

/* What the template "t" gives: its text, or status and message. */
static int render(const char *template, struct kv_buf *out, struct kv_error *error)
{
    struct kvctl_template_loader loader = {load, &arena};
    struct kvctl_template_keys keys = {get, list};
    struct kvctl_template *compiled;
    int status;

    files[0][0] = "t";
    files[0][1] = template;
    kv_buf_init(out, KVCTL_RENDERED_BYTES_MAX);
    status = kvctl_template_compile(&arena, &loader, "t", &compiled, error);
    return status < 0 ? status : kvctl_template_render(compiled, &keys, &arena, out, error);
}

static void expect_text(const char *template, const char *expected)
{
    struct kv_error error = {0};
    struct kv_buf out;
    int status = render(template, &out, &error);

    if (status < 0) {
        fail_msg("%s: %s", template, error.message);
    }
    if (out.size != strlen(expected) || (out.size && memcmp(out.data, expected, out.size) != 0)) {
        fail_msg("%s: %.*s", template, (int)out.size, (const char *)out.data);
    }
    kv_buf_deinit(&out);
}

static void test_actions(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"plain } { text\n", "plain } { text\n"},
        {"a {{ key \"app/host\" }}:{{key \"app/port\"}} b", "a h:80 b"},
        {"{{ key \"app/\" \"host\" }}", "h"},
        {"{{ key \"n\" }}", "-7"},
        {"{{ key \"no\" | default \"d\\\"\\n\" }}", "d\"\n"},
        {"{{ key \"app/host\" | default \"d\" }}", "h"},
        {"{{ hash \"user\" \"name\" }}{{ hash \"user\" \"empty\" }}{{ hash \"user\" \"x\" | "
         "default \"-\" }}",
         "ada-"},
        {"{{ hash \"no\" \"x\" | default \"-\" }}", "-"},
        {"{{ key \"app/odd\" | shell }}", "'it'\\''s \"1\"'"},
        {"{{ key \"app/odd\" | json }}", "\"it's \\\"1\\\"\""},
        {"{{ key \"bin\" | base64 }}", "/wA="},
        {"{{ key \"no\" | default \"a b\" | json | shell }}", "'\"a b\"'"},
        {"{{ range prefix \"list/\" }}{{ .key }} {{ .name }}={{ .value }};{{ end }}",
         "list/a a=1;list/b b=2;"},
        {"{{ range prefix \"none/\" }}x{{ else }}nothing{{ end }}!", "nothing!"},
        {"{{ range prefix \"list/\" }}x{{ else }}nothing{{ end }}!", "xx!"},
        {"{{ range prefix \"list/\" }}{{ range prefix \"more/\" .name }}{{ .value }}{{ end }}{{ "
         ".name }}{{ end }}",
         "axabxb"},
        {"{{ range prefix \"list/\" }}{{ key \"more/\" .name \"/x\" | json }}{{ end }}",
         "\"ax\"\"bx\""},
        {"{{ if exists \"n\" }}yes{{ else }}no{{ end }}", "yes"},
        {"{{ if exists \"no\" }}yes{{ else }}no{{ end }}", "no"},
        {"{{ if not exists \"no\" }}yes{{ end }}", "yes"},
        {"{{ if exists \"n\" }}{{ if exists \"no\" }}a{{ else }}b{{ end }}{{ else }}c{{ end }}",
         "b"},
        {"a  {{- \"x\" -}} \n b {{ \"{{\" }}", "axb {{"},
        {"a {{ # comment \" }} b{{- # and -}} c", "a  bc"},
        {"{{ \"}}\" }}", "}}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_text(cases[i][0], cases[i][1]);
    }
}

static void test_includes(void **state)
{
    (void)state;
    files[1][0] = "a";
    files[1][1] = "<{{ .name }}{{ include \"b\" }}>";
    files[2][0] = "b";
    files[2][1] = "{{ if exists \"n\" }}b{{ end }}";
    expect_text("{{ range prefix \"list/\" }}{{ include \"a\" }}{{ end }}{{ include \"b\" }}{{ "
                "include \"b\" }}",
                "<ab><bb>bb");
}

static void expect_error(const char *template, int status, const char *message)
{
    struct kv_error error = {0};
    struct kv_buf out;
    int got = render(template, &out, &error);

    if (got != status || !strstr(error.message, message)) {
        fail_msg("%.200s: %d %s", template, got, error.message);
    }
    kv_buf_deinit(&out);
}

static void test_wrong(void **state)
{
    static const struct {
        const char *template;
        int status;
        const char *message;
    } cases[] = {
        {"a\n{{ key \"no/such\" }}", KV_NOT_FOUND, "t line 2: there is no key \"no/such\""},
        {"{{ key \"no\" | json }}", KV_NOT_FOUND, "t line 1: there is no key \"no\""},
        {"{{ hash \"user\" \"x\" }}", KV_NOT_FOUND, "the hash \"user\" has no field \"x\""},
        {"{{ hash \"no\" \"x\" }}", KV_NOT_FOUND, "there is no key \"no\""},
        {"{{ key \"user\" }}", KV_WRONG_TYPE, "the key \"user\" holds a hash"},
        {"{{ hash \"n\" \"x\" }}", KV_WRONG_TYPE, "the key \"n\" holds a counter, no hash"},
        {"{{ range prefix \"user\" }}{{ .value }}{{ end }}", KV_WRONG_TYPE, "holds a hash"},
        {"{{ key \"bin\" | json }}", KV_INVALID, "no UTF-8"},
        {"{{ key \"bin\" | shell }}", KV_INVALID, "zero byte"},
        {"{{ key \"away\" }}", KV_NO_LEADER, "t line 1: no leader"},
        {"{{ if exists \"\" }}{{ end }}", KV_INVALID, "1 to 4096 bytes"},
        {"a\nb {{ key \"x\"", KV_INVALID, "t line 2: {{ without }}"},
        {"{{ }}", KV_INVALID, "t line 1: a \"text\", .key, .name or .value is wanted before }}"},
        {"{{ kee \"x\" }}", KV_INVALID, "key, hash, range, if, else, end, include"},
        {"{{ key }}", KV_INVALID, "a \"key\" is wanted before }}"},
        {"{{ key x }}", KV_INVALID, "a \"text\", .key, .name or .value is wanted, not x"},
        {"{{ key \"x }}", KV_INVALID, "{{ without }}"},
        {"{{ key \"\\q\" }}", KV_INVALID, "in a text there are"},
        {"{{ hash \"x\" }}", KV_INVALID, "a field's \"name\" is wanted"},
        {"{{ .key }}", KV_INVALID, ".key is known within"},
        {"{{ range prefix \"x\" }}{{ else }}{{ .key }}{{ end }}",
         KV_INVALID,
         ".key is known within"},
        {"{{ .name \"x\" }}", KV_INVALID, ".name is known within"},
        {"{{ \"a\" \"b\" }}", KV_INVALID, "| or }} is wanted"},
        {"{{ \"a\" | default \"b\" }}", KV_INVALID, "directly behind a key"},
        {"{{ key \"a\" | json | default \"b\" }}", KV_INVALID, "directly behind a key"},
        {"{{ key \"a\" | default }}", KV_INVALID, "default \"text\""},
        {"{{ key \"a\" | upper }}", KV_INVALID, "a filter (default"},
        {"{{ key \"a\" | }}", KV_INVALID, "a filter (default"},
        {"{{ key \"a\" | json | json | json | json | json }}", KV_INVALID, "more than 4 filters"},
        {"{{ key \"a\" \"b\" \"c\" \"d\" \"e\" \"f\" \"g\" \"h\" \"i\" }}",
         KV_INVALID,
         "more than 8 texts"},
        {"{{ range \"x\" }}", KV_INVALID, "prefix \"PREFIX\" is wanted"},
        {"{{ if \"x\" }}", KV_INVALID, "exists \"KEY\" is wanted"},
        {"{{ if exists \"x\" | json }}", KV_INVALID, "}} is wanted, not |"},
        {"\n{{ if exists \"x\" }}\n", KV_INVALID, "the {{ end }} of line 2's block is missing"},
        {"{{ end }}", KV_INVALID, "end without range or if"},
        {"{{ end x }}", KV_INVALID, "}} is wanted, not x"},
        {"{{ else }}", KV_INVALID, "else without range or if"},
        {"{{ if exists \"x\" }}{{ else }}{{ else }}{{ end }}", KV_INVALID, "else without"},
        {"{{ include \"none\" }}", KV_INVALID, "t line 1: none: no such file"},
        {"{{ include x }}", KV_INVALID, "a \"FILE\" is wanted, not x"},
        {"\n{{ include \"t\" }}", KV_INVALID, "t line 2: a cycle: t is being included already"},
        {"{{ include \"a\" }}", KV_INVALID, "b line 3: a cycle: a is being included already"},
        {"{{ if exists \"n\" }}{{ include \"c\" }}{{ end }}", KV_INVALID, "c line 1: end without"},
        {"{{ include \"d\" }}{{ end }}", KV_INVALID, "d line 1: the {{ end }} of line 1's"},
    };

    (void)state;
    files[1][0] = "a";
    files[1][1] = "{{ include \"b\" }}";
    files[2][0] = "b";
    files[2][1] = "\n\n{{ include \"a\" }}";
    files[3][0] = "c";
    files[3][1] = "{{ end }}";
    files[4][0] = "d";
    files[4][1] = "{{ if exists \"n\" }}";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_error(cases[i].template, cases[i].status, cases[i].message);
    }
}

/* The text so many times. */
static char *repeat(const char *text, size_t times)
{
    size_t size = strlen(text);
    char *all = malloc(size * times + 1);

    for (size_t i = 0; i < times; i++) {
        memcpy(all + i * size, text, size);
    }
    all[size * times] = '\0';
    return all;
}

static void test_bounds(void **state)
{
    static const struct {
        const char *text;
        size_t times;
        int status;
        const char *message;
    } cases[] = {
        {"{{ if exists \"n\" }}", 33, KV_INVALID, "nested more than 32 deep"},
        {"{{ range prefix \"\" }}", 33, KV_INVALID, "nested more than 32 deep"},
        {"{{ \"a\" }}", 100001, KV_INVALID, "more than 100000 actions"},
        {"{{ include \"a\" }}", 300, KV_INVALID, "more than 256"},
    };
    char *ranges = repeat("{{ range prefix \"\" }}", 12);
    char *ends = repeat("{{ end }}", 12);
    char *all = malloc(strlen(ranges) + strlen(ends) + 3);

    (void)state;
    files[1][0] = "a";
    files[1][1] = "x";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *template = repeat(cases[i].text, cases[i].times);

        expect_error(template, cases[i].status, cases[i].message);
        free(template);
    }
    /* Ten keys, twelve times over: ends by its number of steps, or its memory. */
    sprintf(all, "%sx%s", ranges, ends);
    {
        struct kv_error error = {0};
        struct kv_buf out;
        int status = render(all, &out, &error);

        assert_true(status == KV_TOO_LARGE || status == KV_NO_MEMORY);
        assert_true(strstr(error.message, "t line 1: ") != NULL);
        kv_buf_deinit(&out);
    }
    free(ranges);
    free(ends);
    free(all);
}

/* Any order of the words there are: an answer or an error with a text, and memory in order (preset
 * asan). */
static void test_random(void **state)
{
    static const char *const words[] = {"{{",
                                        "}}",
                                        "{{-",
                                        "-}}",
                                        " ",
                                        "\n",
                                        "\"",
                                        "\\",
                                        "|",
                                        "#",
                                        "key",
                                        "hash",
                                        "range prefix",
                                        "if exists",
                                        "if not",
                                        "else",
                                        "end",
                                        "include",
                                        "\"n\"",
                                        "\"list/\"",
                                        "\"a\"",
                                        ".key",
                                        ".name",
                                        ".value",
                                        "default",
                                        "json",
                                        "shell",
                                        "{{ if exists \"n\" }}",
                                        "{{ range prefix \"list/\" }}",
                                        "{{ end }}",
                                        "{{ else }}",
                                        "{{ .value }}",
                                        "{{ include \"a\" }}"};
    struct kv_test_seeds seeds = kv_test_seeds(5000);
    size_t rendered = 0;

    (void)state;
    files[1][0] = "a";
    files[1][1] = "{{ .name }}{{ if exists \"n\" }}{{ else }}{{ end }}";
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        unsigned random = (unsigned)seed * 2654435761u;
        struct kv_error error = {0};
        struct kv_buf out;
        char text[1024] = "";

        for (unsigned i = 0; i < 1 + seed % 20; i++) {
            random = random * 1103515245u + 12345u;
            strcat(text, words[(random >> 8) % (sizeof words / sizeof words[0])]);
        }
        if (render(text, &out, &error) < 0) {
            if (error.message[0] == '\0') {
                fail_msg(
                    "KV_SEED=%llu: an error without a text: %s", (unsigned long long)seed, text);
            }
        } else {
            rendered++;
        }
        kv_buf_deinit(&out);
    }
    /* Both happened. */
    assert_true(rendered > 0 && (seeds.first == seeds.last || rendered < seeds.last));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_actions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_includes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_random, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
