/* Templates to steps. Includes are compiled in their place: a stack of sources, and one of open
 * blocks. */
#include "client/kvctl/template.h"
#include "common/limits.h"

#include <stdarg.h>
#include <string.h>

enum { STEPS_MIN = 64 };

struct block {
    size_t step;  /* of its IF or RANGE */
    size_t other; /* of the JUMP behind its first branch; 0: no else yet */
    unsigned line;
};
struct source {
    struct kvctl_template_source source;
    const char *p;
    const char *end;
    unsigned line;
    size_t blocks; /* that were open when it began */
    bool trim;     /* white space that comes next */
};
struct compiler {
    struct kv_arena *arena;
    struct kvctl_template_loader *loader;
    struct kvctl_template *template;
    struct source sources[KVCTL_TEMPLATE_INCLUDES_MAX];
    size_t n_sources; /* that are open */
    size_t loaded;
    struct block blocks[KVCTL_TEMPLATE_BLOCKS_MAX];
    size_t n_blocks;
    struct kv_error *error;
};

static struct source *current(struct compiler *compiler)
{
    return &compiler->sources[compiler->n_sources - 1];
}

static int wrong(struct compiler *compiler, const char *format, ...) KV_PRINTF(2, 3);
static int wrong(struct compiler *compiler, const char *format, ...)
{
    char what[300];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return kv_error_set(compiler->error,
                        KV_INVALID,
                        "%.150s line %u: %s",
                        current(compiler)->source.name,
                        current(compiler)->line,
                        what);
}

static int no_memory(struct compiler *compiler)
{
    return kv_error_set(compiler->error, KV_NO_MEMORY, "out of memory for the template");
}

/* ---------------------------------------------------------------- steps */

static int
add_step(struct compiler *compiler, enum kvctl_step_kind kind, struct kvctl_step **ret_step)
{
    struct kvctl_template *template = compiler->template;

    if (template->n_steps == KVCTL_TEMPLATE_STEPS_MAX) {
        return wrong(compiler, "more than %d actions and texts", (int)KVCTL_TEMPLATE_STEPS_MAX);
    }
    if (template->n_steps == template->capacity) {
        size_t capacity = template->capacity ? 2 * template->capacity : STEPS_MIN;
        struct kvctl_step *steps = kv_arena_alloc(compiler->arena, capacity * sizeof *steps);

        if (!steps) {
            return no_memory(compiler);
        }
        if (template->n_steps > 0) {
            memcpy(steps, template->steps, template->n_steps * sizeof *steps);
        }
        template->steps = steps;
        template->capacity = capacity;
    }
    *ret_step = &template->steps[template->n_steps++];
    **ret_step = (struct kvctl_step){
        .kind = kind, .file = current(compiler)->source.name, .line = current(compiler)->line};
    return 0;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int add_text(struct compiler *compiler, const char *text, size_t size)
{
    struct source *source = current(compiler);
    struct kvctl_step *step;
    int status;

    while (source->trim && size > 0 && is_space(*text)) {
        text++;
        size--;
    }
    if (size == 0) {
        return 0;
    }
    source->trim = false;
    status = add_step(compiler, KVCTL_STEP_TEXT, &step);
    if (status == 0) {
        step->text = kv_bytes_of(text, size);
    }
    return status;
}

/* ---------------------------------------------------------------- words of an action */

enum word_kind { WORD_END, WORD_NAME, WORD_TEXT, WORD_BAR };
struct word {
    enum word_kind kind;
    struct kv_bytes text;
};
struct words {
    const char *p;
    const char *end;
};

static bool is_called(const struct word *word, const char *name)
{
    return word->kind == WORD_NAME && kvctl_bytes_equal(word->text, kv_bytes_str(name));
}

/* Behind the opening quote; \" \\ \n \t are what they say. */
static int take_text(struct compiler *compiler, struct words *words, struct word *ret_word)
{
    static const char from[] = "\"\\nt";
    static const char to[] = "\"\\\n\t";
    char *text = kv_arena_alloc(compiler->arena, (size_t)(words->end - words->p) + 1);
    size_t size = 0;

    if (!text) {
        return no_memory(compiler);
    }
    while (words->p < words->end && *words->p != '"') {
        const char *at;

        if (*words->p != '\\') {
            text[size++] = *words->p++;
            continue;
        }
        at = words->p + 1 < words->end && words->p[1] ? strchr(from, words->p[1]) : NULL;
        if (!at) {
            return wrong(compiler, "in a text there are \\\" \\\\ \\n and \\t");
        }
        text[size++] = to[at - from];
        words->p += 2;
    }
    if (words->p == words->end) {
        return wrong(compiler, "the closing \" is missing");
    }
    words->p++;
    *ret_word = (struct word){WORD_TEXT, kv_bytes_of(text, size)};
    return 0;
}

static int next_word(struct compiler *compiler, struct words *words, struct word *ret_word)
{
    const char *start;

    while (words->p < words->end && is_space(*words->p)) {
        words->p++;
    }
    start = words->p;
    if (start == words->end) {
        *ret_word = (struct word){WORD_END, kv_bytes_of("", 0)};
        return 0;
    }
    words->p++;
    if (*start == '"') {
        return take_text(compiler, words, ret_word);
    }
    if (*start == '|') {
        *ret_word = (struct word){WORD_BAR, kv_bytes_of(start, 1)};
        return 0;
    }
    while (words->p < words->end && !is_space(*words->p) && *words->p != '|' && *words->p != '"') {
        words->p++;
    }
    *ret_word = (struct word){WORD_NAME, kv_bytes_of(start, (size_t)(words->p - start))};
    return 0;
}

static int unexpected(struct compiler *compiler, const struct word *word, const char *wanted)
{
    int size = word->text.size > 60 ? 60 : (int)word->text.size;

    if (word->kind == WORD_END) {
        return wrong(compiler, "%s is wanted before }}", wanted);
    }
    return wrong(compiler, "%s is wanted, not %.*s", wanted, size, (const char *)word->text.data);
}

/* ---------------------------------------------------------------- values */

static bool is_in_range(const struct compiler *compiler)
{
    for (size_t i = 0; i < compiler->n_blocks; i++) {
        const struct block *block = &compiler->blocks[i];

        /* What stands behind its else is not in it. */
        if (compiler->template->steps[block->step].kind == KVCTL_STEP_RANGE && block->other == 0) {
            return true;
        }
    }
    return false;
}

static int add_part(struct compiler *compiler, struct kvctl_step *step, const struct word *word)
{
    static const char *const names[] = {
        [KVCTL_PART_KEY] = ".key", [KVCTL_PART_NAME] = ".name", [KVCTL_PART_VALUE] = ".value"};
    struct kvctl_part part = {KVCTL_PART_TEXT, word->text};

    if (word->kind != WORD_TEXT) {
        size_t kind = KVCTL_PART_KEY;

        while (kind <= KVCTL_PART_VALUE && !is_called(word, names[kind])) {
            kind++;
        }
        if (kind > KVCTL_PART_VALUE) {
            return unexpected(compiler, word, "a \"text\", .key, .name or .value");
        }
        if (!is_in_range(compiler)) {
            return wrong(compiler, "%s is known within {{ range prefix ... }} only", names[kind]);
        }
        part.kind = (enum kvctl_part_kind)kind;
    }
    if (step->n_parts == KVCTL_TEMPLATE_PARTS_MAX) {
        return wrong(compiler, "more than %d texts for one key", (int)KVCTL_TEMPLATE_PARTS_MAX);
    }
    step->parts[step->n_parts++] = part;
    return 0;
}

/* Texts up to a bar or the end, at least so many; *word is what stands behind them. */
static int take_parts(struct compiler *compiler,
                      struct words *words,
                      struct kvctl_step *step,
                      size_t least,
                      struct word *word)
{
    int status = next_word(compiler, words, word);

    while (status == 0 && word->kind != WORD_END && word->kind != WORD_BAR) {
        status = add_part(compiler, step, word);
        if (status == 0) {
            status = next_word(compiler, words, word);
        }
    }
    if (status == 0 && step->n_parts < least) {
        return unexpected(compiler, word, least > 1 ? "a field's \"name\"" : "a \"key\"");
    }
    return status;
}

/* Behind a bar. */
static int take_filter(struct compiler *compiler,
                       struct words *words,
                       struct kvctl_step *step,
                       struct word *word)
{
    static const char *const names[] = {[KVCTL_FILTER_JSON] = "json",
                                        [KVCTL_FILTER_SHELL] = "shell",
                                        [KVCTL_FILTER_BASE64] = "base64"};
    int status = next_word(compiler, words, word);

    if (status == 0 && is_called(word, "default")) {
        status = next_word(compiler, words, word);
        if (status == 0 && (word->kind != WORD_TEXT || step->value == KVCTL_VALUE_PART ||
                            step->n_filters > 0 || step->has_default)) {
            return wrong(compiler, "default \"text\" stands once, directly behind a key or field");
        }
        step->has_default = true;
        step->text = word->text;
        return status < 0 ? status : next_word(compiler, words, word);
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0] && status == 0; i++) {
        if (!is_called(word, names[i])) {
            continue;
        }
        if (step->n_filters == KVCTL_TEMPLATE_FILTERS_MAX) {
            return wrong(compiler, "more than %d filters", (int)KVCTL_TEMPLATE_FILTERS_MAX);
        }
        step->filters[step->n_filters++] = (enum kvctl_filter_kind)i;
        return next_word(compiler, words, word);
    }
    return status < 0
               ? status
               : unexpected(compiler, word, "a filter (default \"text\", json, shell, base64)");
}

static int take_value(struct compiler *compiler, struct words *words, const struct word *first)
{
    struct word word = *first;
    struct kvctl_step *step;
    int status = add_step(compiler, KVCTL_STEP_PRINT, &step);

    if (status < 0) {
        return status;
    }
    if (is_called(first, "key")) {
        step->value = KVCTL_VALUE_KEY;
        status = take_parts(compiler, words, step, 1, &word);
    } else if (is_called(first, "hash")) {
        step->value = KVCTL_VALUE_FIELD;
        status = take_parts(compiler, words, step, 2, &word);
    } else if (first->kind == WORD_NAME && ((const char *)first->text.data)[0] != '.') {
        return unexpected(
            compiler,
            first,
            "key, hash, range, if, else, end, include, .key, .name, .value or a \"text\"");
    } else {
        step->value = KVCTL_VALUE_PART;
        status = add_part(compiler, step, first);
        if (status == 0) {
            status = next_word(compiler, words, &word);
        }
    }
    while (status == 0 && word.kind == WORD_BAR) {
        status = take_filter(compiler, words, step, &word);
    }
    if (status == 0 && word.kind != WORD_END) {
        return unexpected(compiler, &word, "| or }}");
    }
    return status;
}

/* ---------------------------------------------------------------- blocks */

static int take_end(struct compiler *compiler, struct words *words)
{
    struct word word;
    int status = next_word(compiler, words, &word);

    return status < 0 || word.kind == WORD_END ? status : unexpected(compiler, &word, "}}");
}

static int open_block(struct compiler *compiler, struct words *words, enum kvctl_step_kind kind)
{
    bool range = kind == KVCTL_STEP_RANGE;
    struct kvctl_step *step;
    struct word word;
    bool negated = false;
    int status = next_word(compiler, words, &word);

    if (status == 0 && !range && is_called(&word, "not")) {
        negated = true;
        status = next_word(compiler, words, &word);
    }
    if (status == 0 && !is_called(&word, range ? "prefix" : "exists")) {
        return unexpected(compiler, &word, range ? "prefix \"PREFIX\"" : "exists \"KEY\"");
    }
    if (status == 0 && compiler->n_blocks == KVCTL_TEMPLATE_BLOCKS_MAX) {
        return wrong(
            compiler, "range and if are nested more than %d deep", (int)KVCTL_TEMPLATE_BLOCKS_MAX);
    }
    if (status == 0) {
        status = add_step(compiler, kind, &step);
    }
    if (status < 0) {
        return status;
    }
    step->negated = negated;
    status = take_parts(compiler, words, step, 1, &word);
    if (status == 0 && word.kind != WORD_END) {
        return unexpected(compiler, &word, "}}");
    }
    compiler->blocks[compiler->n_blocks++] = (struct block){
        .step = (size_t)(step - compiler->template->steps), .line = current(compiler)->line};
    return status;
}

static struct block *open_here(struct compiler *compiler)
{
    return compiler->n_blocks > current(compiler)->blocks
               ? &compiler->blocks[compiler->n_blocks - 1]
               : NULL;
}

/* Behind the last step of the first branch: a range goes round. */
static int end_branch(struct compiler *compiler, const struct block *block)
{
    struct kvctl_step *step;
    int status;

    if (compiler->template->steps[block->step].kind != KVCTL_STEP_RANGE) {
        return 0;
    }
    status = add_step(compiler, KVCTL_STEP_NEXT, &step);
    if (status == 0) {
        step->jump = block->step + 1;
    }
    return status;
}

static int take_else(struct compiler *compiler)
{
    struct block *block = open_here(compiler);
    struct kvctl_step *step;
    int status;

    if (!block || block->other != 0) {
        return wrong(compiler, "else without range or if");
    }
    status = end_branch(compiler, block);
    if (status == 0) {
        status = add_step(compiler, KVCTL_STEP_JUMP, &step);
    }
    if (status == 0) {
        block->other = compiler->template->n_steps - 1;
        compiler->template->steps[block->step].jump = compiler->template->n_steps;
    }
    return status;
}

static int close_block(struct compiler *compiler)
{
    struct block *block = open_here(compiler);
    int status = 0;

    if (!block) {
        return wrong(compiler, "end without range or if");
    }
    if (block->other == 0) {
        status = end_branch(compiler, block);
    }
    if (status == 0) {
        size_t step = block->other ? block->other : block->step;

        compiler->template->steps[step].jump = compiler->template->n_steps;
        compiler->n_blocks--;
    }
    return status;
}

/* ---------------------------------------------------------------- sources */

static int begin_source(struct compiler *compiler, const struct kvctl_template_source *source)
{
    struct source *begun;

    for (size_t i = 0; i < compiler->n_sources; i++) {
        const struct kvctl_template_source *open = &compiler->sources[i].source;

        if (memcmp(open->identity, source->identity, sizeof open->identity) == 0) {
            return wrong(
                compiler,
                "a cycle: %.100s is being included already (by %zu templates from %.100s on)",
                source->name,
                compiler->n_sources - i,
                open->name);
        }
    }
    begun = &compiler->sources[compiler->n_sources++];
    *begun = (struct source){
        .source = *source,
        .p = source->text.size ? source->text.data : "",
        .line = 1,
        .blocks = compiler->n_blocks,
    };
    begun->end = begun->p + source->text.size;
    return 0;
}

static int take_include(struct compiler *compiler, struct words *words)
{
    struct kvctl_template_source source;
    struct word word;
    char name[1024];
    int status = next_word(compiler, words, &word);

    if (status == 0 &&
        (word.kind != WORD_TEXT || word.text.size == 0 || word.text.size >= sizeof name)) {
        return unexpected(compiler, &word, "a \"FILE\"");
    }
    if (status == 0) {
        snprintf(name, sizeof name, "%.*s", (int)word.text.size, (const char *)word.text.data);
        status = take_end(compiler, words);
    }
    if (status < 0) {
        return status;
    }
    if (compiler->n_sources == KVCTL_TEMPLATE_INCLUDES_MAX ||
        compiler->loaded == KVCTL_TEMPLATE_SOURCES_MAX) {
        return wrong(compiler,
                     "templates include each other more than %d deep, or are more than %d",
                     (int)KVCTL_TEMPLATE_INCLUDES_MAX,
                     (int)KVCTL_TEMPLATE_SOURCES_MAX);
    }
    compiler->loaded++;
    if (compiler->loader->load(
            compiler->loader, &current(compiler)->source, name, &source, compiler->error) < 0) {
        char text[KV_ERROR_MESSAGE_SIZE];

        snprintf(text, sizeof text, "%s", compiler->error->message);
        return wrong(compiler, "%s", text);
    }
    return begin_source(compiler, &source);
}

/* ---------------------------------------------------------------- actions */

static int take_action(struct compiler *compiler, struct words *words)
{
    struct word word;
    int status = next_word(compiler, words, &word);

    if (status < 0) {
        return status;
    }
    if (is_called(&word, "range")) {
        return open_block(compiler, words, KVCTL_STEP_RANGE);
    }
    if (is_called(&word, "if")) {
        return open_block(compiler, words, KVCTL_STEP_IF);
    }
    if (is_called(&word, "else")) {
        status = take_end(compiler, words);
        return status < 0 ? status : take_else(compiler);
    }
    if (is_called(&word, "end")) {
        status = take_end(compiler, words);
        return status < 0 ? status : close_block(compiler);
    }
    if (is_called(&word, "include")) {
        return take_include(compiler, words);
    }
    return take_value(compiler, words, &word);
}

static const char *find_pair(const char *p, const char *end, char c)
{
    while (p + 1 < end && !(p[0] == c && p[1] == c)) {
        p++;
    }
    return p + 1 < end ? p : NULL;
}

/* The }} of an action, which a text may hold too. */
static const char *find_end(const char *p, const char *end)
{
    bool quoted = false;

    for (; p + 1 < end; p++) {
        if (quoted && *p == '\\') {
            p++;
        } else if (*p == '"') {
            quoted = !quoted;
        } else if (!quoted && p[0] == '}' && p[1] == '}') {
            return p;
        }
    }
    return NULL;
}

static bool is_comment(const struct words *words)
{
    const char *p = words->p;

    while (p < words->end && is_space(*p)) {
        p++;
    }
    return p < words->end && *p == '#';
}

static void count_lines(struct source *source, const char *to)
{
    for (; source->p < to; source->p++) {
        source->line += *source->p == '\n';
    }
}

/* Text up to the next action, and that one. */
static int compile_piece(struct compiler *compiler)
{
    struct source *source = current(compiler);
    const char *open = find_pair(source->p, source->end, '{');
    const char *text_end = open ? open : source->end;
    struct words words;
    const char *close;
    int status;

    if (open && open + 2 < source->end && open[2] == '-') {
        while (text_end > source->p && is_space(text_end[-1])) {
            text_end--;
        }
    }
    status = add_text(compiler, source->p, (size_t)(text_end - source->p));
    count_lines(source, open ? open : source->end);
    if (status < 0 || !open) {
        return status;
    }
    source->trim = false;
    words.p = open + 2 + (open + 2 < source->end && open[2] == '-');
    words.end = source->end;
    close =
        is_comment(&words) ? find_pair(words.p, source->end, '}') : find_end(words.p, source->end);
    if (!close) {
        return wrong(compiler, "{{ without }}");
    }
    words.end = close;
    if (close > words.p && close[-1] == '-') {
        words.end--;
        source->trim = true;
    }
    if (!is_comment(&words)) {
        /* An include begins another source; this one goes on behind the action. */
        status = take_action(compiler, &words);
    }
    count_lines(source, close + 2);
    return status;
}

static int end_source(struct compiler *compiler)
{
    const struct block *block = open_here(compiler);

    if (block) {
        return wrong(compiler, "the {{ end }} of line %u's block is missing", block->line);
    }
    compiler->n_sources--;
    return 0;
}

int kvctl_template_compile(struct kv_arena *arena,
                           struct kvctl_template_loader *loader,
                           const char *name,
                           struct kvctl_template **ret_template,
                           struct kv_error *ret_error)
{
    struct compiler compiler = {.arena = arena, .loader = loader, .error = ret_error};
    struct kvctl_template_source source;
    int status = loader->load(loader, NULL, name, &source, ret_error);

    if (status < 0) {
        return status;
    }
    compiler.template = kv_arena_alloc(arena, sizeof *compiler.template);
    if (!compiler.template) {
        return no_memory(&compiler);
    }
    *compiler.template = (struct kvctl_template){0};
    status = begin_source(&compiler, &source);
    while (status == 0 && compiler.n_sources > 0) {
        struct source *now = current(&compiler);

        status = now->p < now->end ? compile_piece(&compiler) : end_source(&compiler);
    }
    if (status == 0) {
        *ret_template = compiler.template;
    }
    return status;
}
