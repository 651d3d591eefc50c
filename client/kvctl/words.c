/* A line of text to the words of a command: the quoting of `kvctl shell` and of transactions. */
#include "client/kvctl/kvctl.h"

#include <ctype.h>
#include <string.h>

/* What reads a line and writes words; out never overtakes the text that it came from. */
struct splitter {
    const char *p;
    char *out;
    struct kv_error *error;
};

static int hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Behind the backslash. */
static int take_escape(struct splitter *splitter)
{
    static const char from[] = "nt\\\"' #";
    static const char to[] = "\n\t\\\"' #";
    char c = *splitter->p;
    const char *at = c ? strchr(from, c) : NULL;

    if (at) {
        *splitter->out++ = to[at - from];
        splitter->p++;
        return 0;
    }
    if (c == 'x' && hex(splitter->p[1]) >= 0 && hex(splitter->p[2]) >= 0) {
        int byte = hex(splitter->p[1]) * 16 + hex(splitter->p[2]);

        if (byte == 0) {
            return kv_error_set(
                splitter->error,
                KV_INVALID,
                "a word cannot hold a zero byte: read the value from a file (@FILE)");
        }
        *splitter->out++ = (char)byte;
        splitter->p += 3;
        return 0;
    }
    return kv_error_set(
        splitter->error,
        KV_INVALID,
        "\\%c is no escape: there are \\n \\t \\\\ \\\" \\' \\# \\xNN and a backslash "
        "before a space",
        c ? c : ' ');
}

static int take_quoted(struct splitter *splitter, char quote)
{
    splitter->p++;
    while (*splitter->p != quote) {
        if (*splitter->p == '\0') {
            return kv_error_set(
                splitter->error, KV_INVALID, "the closing %c is missing at the line's end", quote);
        }
        if (*splitter->p == '\\' && quote == '"') {
            splitter->p++;
            if (take_escape(splitter) < 0) {
                return KV_INVALID;
            }
        } else {
            *splitter->out++ = *splitter->p++;
        }
    }
    splitter->p++;
    return 0;
}

static int take_word(struct splitter *splitter)
{
    int status = 0;

    while (status == 0 && *splitter->p && !strchr(" \t\r\n", *splitter->p)) {
        if (*splitter->p == '\'' || *splitter->p == '"') {
            status = take_quoted(splitter, *splitter->p);
        } else if (*splitter->p == '\\') {
            splitter->p++;
            status = take_escape(splitter);
        } else {
            *splitter->out++ = *splitter->p++;
        }
    }
    *splitter->out++ = '\0';
    return status;
}

int kvctl_split(struct kv_arena *arena,
                const char *line,
                struct kvctl_line *ret_line,
                struct kv_error *ret_error)
{
    size_t size = strlen(line);
    /* A word of one byte and a space; its copy is no longer, with its end. */
    const char **words = kv_arena_alloc(arena, (size / 2 + 2) * sizeof *words);
    char *text = kv_arena_alloc(arena, size + 2);
    struct splitter splitter = {line, text, ret_error};
    size_t n = 0;

    if (!words || !text) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory for the line");
    }
    for (;;) {
        splitter.p += strspn(splitter.p, " \t\r\n");
        if (*splitter.p == '\0' || *splitter.p == '#') {
            break;
        }
        words[n++] = splitter.out;
        if (take_word(&splitter) < 0) {
            return KV_INVALID;
        }
    }
    *ret_line = (struct kvctl_line){words, n};
    return 0;
}

void kvctl_quote(FILE *file, const char *word)
{
    if (*word && word[strcspn(word, " \t\n\"'\\#")] == '\0') {
        fputs(word, file);
        return;
    }
    fputc('"', file);
    for (const char *p = word; *p; p++) {
        switch (*p) {
        case '\n':
            fputs("\\n", file);
            break;
        case '\t':
            fputs("\\t", file);
            break;
        case '"':
        case '\\':
            fprintf(file, "\\%c", *p);
            break;
        default:
            if ((unsigned char)*p < 0x20 || *p == 0x7f) {
                fprintf(file, "\\x%02x", (unsigned char)*p);
            } else {
                fputc(*p, file);
            }
        }
    }
    fputc('"', file);
}
