/* kvctl shell on a terminal: libedit with the cluster's state in the prompt, a hint at the right,
 * completion by tab, and history. */
#include "client/kvctl/shell.h"

#include <histedit.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT_BYTES = 128, STATUS_MS = 500 };

struct editor {
    struct kvctl_shell *shell;
    EditLine *el;
    History *history;
    char prompt[PROMPT_BYTES];
    char hint[PROMPT_BYTES];
    char path[PATH_MAX]; /* of the history; "": none is kept */
    bool cancelled;      /* ctrl-c: the line is not to be run */
};

static struct editor *editor_of(EditLine *el)
{
    void *editor = NULL;

    el_get(el, EL_CLIENTDATA, &editor);
    return editor;
}

/* ---------------------------------------------------------------- prompt and hint */

/* kvd:2 (leader 1)>, kvd:1 (leads)>, kvd:1 (no leader)>, kvd (unreachable)>; what is not as it
 * should be is added. */
static void make_prompt(struct editor *editor)
{
    struct kv_call_options options = {.deadline_ms = STATUS_MS};
    struct kv_node_info info;
    char leader[40];
    bool serving;

    if (kv_status(editor->shell->kvctl->client, &options, &info, NULL) < 0) {
        snprintf(editor->prompt, sizeof editor->prompt, "kvd (unreachable)> ");
        return;
    }
    snprintf(leader, sizeof leader, "leader %llu", (unsigned long long)info.leader_id);
    if (info.leader_id == 0) {
        snprintf(leader, sizeof leader, "no leader");
    } else if (info.leader_id == info.node_id) {
        snprintf(leader, sizeof leader, "leads");
    }
    serving = strcmp(info.state, "serving") == 0 || strcmp(info.state, "no-leader") == 0;
    snprintf(editor->prompt,
             sizeof editor->prompt,
             "kvd:%llu (%s%s%.20s)> ",
             (unsigned long long)info.node_id,
             leader,
             serving ? "" : ", ",
             serving ? "" : info.state);
    kv_node_info_free(&info);
}

static char *give_prompt(EditLine *el)
{
    return editor_of(el)->prompt;
}

/* A copy of the line up to the cursor; the caller frees it. */
static char *typed(EditLine *el)
{
    const LineInfo *line = el_line(el);

    return strndup(line->buffer, (size_t)(line->cursor - line->buffer));
}

static char *give_hint(EditLine *el)
{
    struct editor *editor = editor_of(el);
    char *text = typed(el);

    snprintf(editor->hint, sizeof editor->hint, "%.100s", text ? kvctl_hint(text) : "");
    free(text);
    return editor->hint;
}

/* ---------------------------------------------------------------- keys */

/* The hint depends on words that are complete: a space makes one. */
static unsigned char on_space(EditLine *el, int ch)
{
    (void)ch;
    return el_insertstr(el, " ") < 0 ? CC_ERROR : CC_REFRESH;
}

static unsigned char on_interrupt(EditLine *el, int ch)
{
    struct editor *editor = editor_of(el);

    (void)ch;
    editor->cancelled = true;
    return CC_NEWLINE;
}

/* Puts word where the typed one is; `whole`: it is complete. */
static void replace_word(EditLine *el, size_t typed_size, const char *word, bool whole)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);

    if (!file) {
        return;
    }
    kvctl_quote(file, word);
    fputs(whole ? " " : "", file);
    if (fclose(file) == 0) {
        /* A quote stays open as long as more may follow. */
        if (!whole && text[0] == '"' && size > 1) {
            text[size - 1] = '\0';
        }
        el_deletestr(el, (int)typed_size);
        el_insertstr(el, text);
    }
    free(text);
}

static void list_words(struct editor *editor, const struct kvctl_completion *completion)
{
    FILE *out = editor->shell->kvctl->out;

    fputc('\n', out);
    for (size_t i = 0; i < completion->n; i++) {
        kvctl_quote(out, completion->list[i]);
        fputs(i + 1 < completion->n ? "  " : "", out);
    }
    fputs(completion->more ? "  ...\n" : "\n", out);
    fflush(out);
}

static size_t common_size(const struct kvctl_completion *completion)
{
    size_t size = strlen(completion->list[0]);

    for (size_t i = 1; i < completion->n; i++) {
        size_t k = 0;

        while (k < size && completion->list[i][k] == completion->list[0][k]) {
            k++;
        }
        size = k;
    }
    /* Not through the middle of a character. */
    while (size > 0 && (completion->list[0][size] & 0xc0) == 0x80) {
        size--;
    }
    return size;
}

static unsigned char on_tab(EditLine *el, int ch)
{
    struct editor *editor = editor_of(el);
    char *text = typed(el);
    struct kvctl_completion completion;
    unsigned char result = CC_REFRESH_BEEP;
    size_t typed_size;
    char *word;

    (void)ch;
    if (!text) {
        return CC_ERROR;
    }
    kvctl_complete(editor->shell, text, &completion);
    if (completion.n > 0) {
        typed_size = strlen(text) - completion.start;
        word = strndup(completion.list[0], common_size(&completion));
        result = CC_REFRESH;
        if (completion.n == 1 && !completion.more) {
            replace_word(el, typed_size, completion.list[0], true);
        } else if (word && strlen(word) > typed_size) {
            replace_word(el, typed_size, word, false);
        } else {
            list_words(editor, &completion);
            result = CC_REDISPLAY;
        }
        free(word);
    }
    kvctl_completion_free(&completion);
    free(text);
    return result;
}

/* ---------------------------------------------------------------- lines */

static void remember(void *arg, const char *line)
{
    struct editor *editor = arg;
    HistEvent event;

    history(editor->history, &event, H_ENTER, line);
}

static int open_editor(struct editor *editor)
{
    struct kvctl *kvctl = editor->shell->kvctl;
    HistEvent event;

    editor->el = el_init("kvctl", stdin, kvctl->out, kvctl->err);
    editor->history = history_init();
    if (!editor->el || !editor->history) {
        fprintf(kvctl->err, "kvctl shell: the terminal cannot be set up\n");
        return KVCTL_LOCAL;
    }
    history(editor->history, &event, H_SETSIZE, KVCTL_HISTORY_LINES);
    history(editor->history, &event, H_SETUNIQUE, 1);
    el_set(editor->el, EL_CLIENTDATA, editor);
    el_set(editor->el, EL_PROMPT, give_prompt);
    el_set(editor->el, EL_RPROMPT, give_hint);
    el_set(editor->el, EL_EDITOR, "emacs");
    el_set(editor->el, EL_SIGNAL, 1);
    el_set(editor->el, EL_HIST, history, editor->history);
    el_set(editor->el, EL_ADDFN, "kvctl-tab", "completes the word", on_tab);
    el_set(editor->el, EL_ADDFN, "kvctl-space", "a space", on_space);
    el_set(editor->el, EL_ADDFN, "kvctl-interrupt", "drops the line", on_interrupt);
    el_set(editor->el, EL_BIND, "^I", "kvctl-tab", NULL);
    el_set(editor->el, EL_BIND, " ", "kvctl-space", NULL);
    /* While a line is typed ctrl-c drops it; while a command runs it is a signal, as ever. */
    el_set(editor->el, EL_SETTY, "-d", "-isig", NULL);
    el_set(editor->el, EL_BIND, "^C", "kvctl-interrupt", NULL);
    el_set(editor->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    return KVCTL_OK;
}

static void take_line(struct editor *editor, const char *line)
{
    struct kvctl *kvctl = editor->shell->kvctl;

    if (editor->cancelled) {
        editor->cancelled = false;
        return;
    }
    if (line[strspn(line, " \t\n")] == '\0') {
        return;
    }
    remember(editor, line);
    if (editor->path[0] && !kvctl_history_add(editor->path, line)) {
        fprintf(
            kvctl->err, "kvctl shell: %s cannot be written, lines are not kept\n", editor->path);
        editor->path[0] = '\0';
    }
    kvctl_shell_line(editor->shell, line);
}

static volatile sig_atomic_t idle_interrupt;

static void on_idle_interrupt(int number)
{
    idle_interrupt = number;
}

/* A ^C that comes between a line and its command, or between that and the next line, is late, not a
 * wish to end. A handler, not SIG_IGN, which commands of ours would inherit. */
static void outlive_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_idle_interrupt, .sa_flags = SA_RESTART};

    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

int kvctl_shell_edit(struct kvctl_shell *shell)
{
    struct editor *editor = calloc(1, sizeof *editor);
    const char *line = "";
    int code = KVCTL_LOCAL;
    int size;

    if (!editor) {
        return code;
    }
    setlocale(LC_CTYPE, "");
    outlive_interrupts();
    editor->shell = shell;
    code = open_editor(editor);
    if (code == KVCTL_OK) {
        if (!kvctl_history_path(editor->path, sizeof editor->path)) {
            editor->path[0] = '\0';
        }
        kvctl_history_load(editor->path, remember, editor);
    }
    while (code == KVCTL_OK && !shell->ended && line) {
        /* libedit would do this after the prompt is shown: what is typed in between, ctrl-d above
         * all, would be lost to the terminal. */
        el_set(editor->el, EL_PREP_TERM, 1);
        make_prompt(editor);
        idle_interrupt = 0;
        line = el_gets(editor->el, &size);
        if (!line && (editor->cancelled || idle_interrupt != 0)) {
            /* Not the end of the input: ctrl-c on an empty line, or before libedit reads. */
            editor->cancelled = false;
            line = "";
            size = 0;
        }
        if (line && size > 0) {
            take_line(editor, line);
        }
    }
    if (code == KVCTL_OK) {
        code = shell->failure;
        fputs(shell->ended ? "" : "\n", shell->kvctl->out);
    }
    if (editor->history) {
        history_end(editor->history);
    }
    if (editor->el) {
        el_end(editor->el);
    }
    free(editor);
    return code;
}
