/* The lines of kvctl shell, kept in a file that only its owner can read. */
#include "client/kvctl/shell.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool kvctl_history_path(char *path, size_t size)
{
    const char *own = getenv("KVCTL_HISTORY");
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    int length;

    if (own) {
        length = snprintf(path, size, "%s", own);
    } else if (state && state[0] == '/') {
        length = snprintf(path, size, "%s/kvd/kvctl_history", state);
    } else if (home && home[0] == '/') {
        length = snprintf(path, size, "%s/.local/state/kvd/kvctl_history", home);
    } else {
        return false;
    }
    return length > 0 && (size_t)length < size;
}

/* The folders above the file, for their owner alone; those that are there stay as they are. */
static void make_folders(const char *path)
{
    char folder[PATH_MAX];

    snprintf(folder, sizeof folder, "%s", path);
    for (char *p = folder + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        if (mkdir(folder, 0700) < 0 && errno != EEXIST) {
            return;
        }
        *p = '/';
    }
}

bool kvctl_history_add(const char *path, const char *line)
{
    size_t size = strcspn(line, "\n");
    char *text;
    bool written;
    int fd;

    if (size == 0 || line[0] == ' ') {
        return true;
    }
    make_folders(path);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        return false;
    }
    text = malloc(size + 1);
    if (text) {
        memcpy(text, line, size);
        text[size] = '\n';
    }
    /* One write, so that the lines of two shells do not mix. */
    written = text && write(fd, text, size + 1) == (ssize_t)size + 1;
    free(text);
    close(fd);
    return written;
}

/* The file is cut to its last lines once it has twice as many: by a new one in its place. */
static void rewrite(const char *path, char *const *lines, size_t first, size_t n)
{
    char name[PATH_MAX];
    FILE *file;
    int fd;

    if (snprintf(name, sizeof name, "%s.new", path) >= (int)sizeof name) {
        return;
    }
    fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    file = fd < 0 ? NULL : fdopen(fd, "w");
    if (!file) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        fprintf(file, "%s\n", lines[(first + i) % KVCTL_HISTORY_LINES]);
    }
    if (fclose(file) != 0 || rename(name, path) < 0) {
        unlink(name);
    }
}

void kvctl_history_load(const char *path, void (*fn)(void *arg, const char *line), void *arg)
{
    char *lines[KVCTL_HISTORY_LINES] = {0};
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t size = 0;
    size_t n = 0;
    size_t kept;

    if (!file) {
        return;
    }
    while (getline(&line, &size, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        free(lines[n % KVCTL_HISTORY_LINES]);
        lines[n % KVCTL_HISTORY_LINES] = line;
        n++;
        line = NULL;
        size = 0;
    }
    free(line);
    fclose(file);
    kept = n < KVCTL_HISTORY_LINES ? n : KVCTL_HISTORY_LINES;
    for (size_t i = n - kept; i < n; i++) {
        fn(arg, lines[i % KVCTL_HISTORY_LINES]);
    }
    if (n > 2 * KVCTL_HISTORY_LINES) {
        rewrite(path, lines, n, kept);
    }
    for (size_t i = 0; i < KVCTL_HISTORY_LINES; i++) {
        free(lines[i]);
    }
}
