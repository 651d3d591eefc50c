/* How a half line of kvctl shell may go on. */
#include "client/kvctl/shell.h"
#include "common/limits.h"

#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 128, ASK_MS = 500 };

/* The words before the one that is being typed, and that one. */
struct half {
    struct kvctl_line before;
    const char *word; /* "": a new one begins */
    size_t start;     /* of it in the text */
};

/* Where the last word begins, and which quote is open in it (0: none). */
static size_t find_last_word(const char *text, char *ret_quote)
{
    size_t start = strlen(text);
    bool in_word = false;
    char quote = '\0';

    for (size_t i = 0; text[i]; i++) {
        if (!in_word && !strchr(" \t", text[i])) {
            in_word = true;
            start = i;
        }
        if (text[i] == '\\' && quote != '\'' && text[i + 1]) {
            i++;
        } else if (quote) {
            quote = text[i] == quote ? '\0' : quote;
        } else if (text[i] == '"' || text[i] == '\'') {
            quote = text[i];
        } else if (strchr(" \t", text[i])) {
            in_word = false;
            start = strlen(text);
        }
    }
    *ret_quote = quote;
    return start;
}

static bool take_half(struct kv_arena *arena, const char *text, struct half *ret_half)
{
    size_t size = strlen(text);
    char *before = kv_arena_alloc(arena, size + 1);
    char *last = kv_arena_alloc(arena, size + 2);
    struct kvctl_line word;
    struct kv_error error;
    char quote;

    if (!before || !last) {
        return false;
    }
    ret_half->start = find_last_word(text, &quote);
    snprintf(before, size + 1, "%.*s", (int)ret_half->start, text);
    snprintf(last, size + 2, "%s%.1s", text + ret_half->start, quote ? &quote : "");
    if (kvctl_split(arena, before, &ret_half->before, &error) < 0 ||
        kvctl_split(arena, last, &word, &error) < 0) {
        return false;
    }
    ret_half->word = word.n_words ? word.words[0] : "";
    return true;
}

static void add(struct kvctl_completion *completion, const char *prefix, const char *word)
{
    if (strncmp(word, prefix, strlen(prefix)) != 0) {
        return;
    }
    for (size_t i = 0; i < completion->n; i++) {
        if (strcmp(completion->list[i], word) == 0) {
            return;
        }
    }
    if (completion->n == KVCTL_COMPLETIONS_MAX) {
        completion->more = true;
        return;
    }
    completion->list[completion->n] = strdup(word);
    completion->n += completion->list[completion->n] != NULL;
}

/* First words of the commands, or, behind one, the second ones of those that have two. */
static void add_commands(struct kvctl_completion *completion, const char *first, const char *prefix)
{
    const struct kvctl_command *command;

    for (size_t i = 0; (command = kvctl_command_at(i)) != NULL; i++) {
        size_t size = strcspn(command->name, " ");
        char name[NAME_BYTES];

        snprintf(name, sizeof name, "%.*s", (int)size, command->name);
        if (!first) {
            add(completion, prefix, name);
        } else if (strcmp(first, name) == 0 && command->name[size]) {
            add(completion, prefix, command->name + size + 1);
        }
    }
}

static void add_options(struct kvctl_completion *completion,
                        const struct kvctl_command *command,
                        const char *prefix)
{
    for (size_t i = 0; i < kvctl_n_options; i++) {
        const struct kvctl_option *option = &kvctl_options[i];
        char name[NAME_BYTES];

        if ((command->options & KVCTL_BIT(option->id)) || option->id == KVCTL_OUTPUT ||
            option->id == KVCTL_TIMEOUT || option->id == KVCTL_SERIALIZABLE ||
            option->id == KVCTL_HELP || option->id == KVCTL_LINES) {
            snprintf(name, sizeof name, "--%s", option->name);
            add(completion, prefix, name);
        }
    }
}

/* ---------------------------------------------------------------- keys */

static void
add_keys(struct kvctl_shell *shell, struct kvctl_completion *completion, const char *prefix)
{
    struct kv_range_spec spec = {
        .kind = prefix[0] ? KV_RANGE_PREFIX : KV_RANGE_ALL,
        .start = kv_bytes_str(prefix),
    };
    /* From what the node has: it is only a help to type. */
    struct kv_range_options options = {
        .limit = KVCTL_COMPLETIONS_MAX + 1,
        .page_keys = KVCTL_COMPLETIONS_MAX + 1,
        .keys_only = true,
        .call = {.deadline_ms = ASK_MS, .serializable = true},
    };
    struct kv_range_iterator *iterator;
    struct kv_pair pair;

    if (kv_range(shell->kvctl->client, &spec, &options, &iterator, NULL) < 0) {
        return;
    }
    while (kv_range_next(iterator, &pair, NULL) == 1) {
        char *key = strndup(pair.key.data, pair.key.size);

        /* One with a zero byte cannot be typed. */
        if (key && strlen(key) == pair.key.size) {
            add(completion, prefix, key);
        }
        free(key);
    }
    kv_range_close(iterator);
}

/* Is the i-th argument, by the row's text ("KEY FIELD...", "FROMKEY [COUNT]"), a key? */
static bool is_key(const struct kvctl_command *command, size_t i)
{
    const char *p = command->arguments;
    bool key = false;

    for (;;) {
        size_t size;
        size_t name;

        p += strspn(p, " [");
        size = strcspn(p, " ");
        if (size == 0 || *p == '|' || *p == '-') {
            return false;
        }
        name = strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        key = name >= 3 && strncmp(p + name - 3, "KEY", 3) == 0;
        if (i == 0 || strncmp(p + name, "...", 3) == 0) {
            return key;
        }
        i--;
        p += size;
    }
}

/* Which argument comes after these words; false: the value of an option does. */
static bool
count_arguments(const struct half *half, const struct kvctl_command *command, size_t *ret_count)
{
    size_t n = 0;

    for (size_t i = 0; i < half->before.n_words; i++) {
        const char *word = half->before.words[i];
        const struct kvctl_option *option = kvctl_word_option(command, word);

        if (option && option->type != KVCTL_FLAG && !strchr(word, '=')) {
            i++;
            if (i == half->before.n_words) {
                return false;
            }
        } else if (!option) {
            n++;
        }
    }
    *ret_count = n - (strchr(command->name, ' ') ? 2 : 1);
    return true;
}

/* The command that these words begin with, behind options; NULL. */
static const struct kvctl_command *command_of(const struct kvctl_line *words)
{
    const struct kvctl_command *command = NULL;
    char name[NAME_BYTES];

    if (words->n_words > 1) {
        snprintf(name, sizeof name, "%.60s %.60s", words->words[0], words->words[1]);
        command = kvctl_find_command(name);
    }
    return command || words->n_words == 0 ? command : kvctl_find_command(words->words[0]);
}

static void
complete_half(struct kvctl_shell *shell, const struct half *half, struct kvctl_completion *ret)
{
    const struct kvctl_command *command = command_of(&half->before);
    size_t argument;

    ret->start = half->start;
    if (half->before.n_words == 0) {
        add_commands(ret, NULL, half->word);
        add(ret, half->word, "exit");
        add(ret, half->word, "timing");
    } else if (strcmp(half->before.words[0], "help") == 0) {
        add_commands(ret, half->before.n_words > 1 ? half->before.words[1] : NULL, half->word);
    } else if (!command) {
        if (half->before.n_words == 1) {
            add_commands(ret, half->before.words[0], half->word);
        }
    } else if (half->word[0] == '-') {
        add_options(ret, command, half->word);
    } else if (count_arguments(half, command, &argument) && is_key(command, argument)) {
        add_keys(shell, ret, half->word);
    }
}

void kvctl_complete(struct kvctl_shell *shell,
                    const char *text,
                    struct kvctl_completion *ret_completion)
{
    struct kv_arena arena;
    struct half half;

    *ret_completion = (struct kvctl_completion){0};
    kv_arena_init(&arena, 4 * KV_MIB);
    if (take_half(&arena, text, &half)) {
        complete_half(shell, &half, ret_completion);
    }
    kv_arena_deinit(&arena);
}

void kvctl_completion_free(struct kvctl_completion *completion)
{
    for (size_t i = 0; i < completion->n; i++) {
        free(completion->list[i]);
    }
    *completion = (struct kvctl_completion){0};
}

const char *kvctl_hint(const char *text)
{
    const struct kvctl_command *command = NULL;
    struct kv_arena arena;
    struct half half;

    kv_arena_init(&arena, 4 * KV_MIB);
    if (take_half(&arena, text, &half)) {
        command = command_of(&half.before);
    }
    kv_arena_deinit(&arena);
    return command ? command->arguments : "";
}
