/* Inside kvctl: the shell. shell.c runs lines, shell_edit.c reads them from a terminal,
 * shell_complete.c says how a word may go on, shell_history.c keeps the lines. */
#ifndef KV_KVCTL_SHELL_H
#define KV_KVCTL_SHELL_H

#include "client/kvctl/kvctl.h"

enum { KVCTL_COMPLETIONS_MAX = 50, KVCTL_HISTORY_LINES = 1000 };

struct kvctl_shell {
    struct kvctl *kvctl; /* as it was started; its client serves all lines */
    bool terminal;
    bool timing; /* print how long a command took */
    bool ended;
    int failure; /* exit code of the last line that failed; KVCTL_OK: none */
};

/* Runs one line, whatever it is. */
void kvctl_shell_line(struct kvctl_shell *shell, const char *line);

/* --- shell_edit.c --- */
/* Reads lines from the terminal until its end. KVCTL_OK or KVCTL_LOCAL. */
int kvctl_shell_edit(struct kvctl_shell *shell);

/* --- shell_complete.c --- */
struct kvctl_completion {
    size_t start;                      /* where in the text the word begins */
    char *list[KVCTL_COMPLETIONS_MAX]; /* owned; words as kvctl_split would give them */
    size_t n;
    bool more; /* there are others */
};
/* How the last word of the text may go on: a command, an option, or a key, for which the cluster is
 * asked, briefly. */
void kvctl_complete(struct kvctl_shell *shell,
                    const char *text,
                    struct kvctl_completion *ret_completion);
void kvctl_completion_free(struct kvctl_completion *completion);
/* What the command of this text takes: its arguments. "" when it names none. */
const char *kvctl_hint(const char *text);

/* --- shell_history.c --- */
/* Where lines are kept: KVCTL_HISTORY, else $XDG_STATE_HOME/kvd/kvctl_history, else
 * ~/.local/state/kvd/kvctl_history. false: nowhere. */
bool kvctl_history_path(char *path, size_t size);
/* Calls fn with each of the last lines, oldest first. A file that is not there has none. */
void kvctl_history_load(const char *path, void (*fn)(void *arg, const char *line), void *arg);
/* Appends a line to the file, which only its owner can read; makes it and its folder. A line that
 * begins with a space is not kept. false: it cannot be written. */
bool kvctl_history_add(const char *path, const char *line);

#endif
