/* kvctl edit: keys as a YAML file in an editor, and what it changed as one transaction. */
#define _GNU_SOURCE /* mkstemps */
#include "client/kvctl/child.h"
#include "client/kvctl/config.h"
#include "client/kvctl/file.h"
#include "client/kvctl/stream.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANSWER_BYTES = 64 };

struct edit {
    struct kvctl *kvctl;
    const char *prefix;
    struct kv_arena arena;
    struct kvctl_document present;
    struct kvctl_document edited;
    struct kvctl_diff diff;
    struct kv_buf text; /* of the edited file, from which the document borrows nothing */
    char path[4096];
};

/* ---------------------------------------------------------------- the file */

static int fail_file(struct edit *edit, const char *what)
{
    struct kv_error error;

    kv_error_set(&error, KV_IO, "%s %.300s: %s", what, edit->path, strerror(errno));
    return kvctl_local_fault(edit->kvctl, &error);
}

/* Only its owner reads it: mkstemp makes it so. */
static int write_file(struct edit *edit)
{
    const char *directory = getenv("TMPDIR");
    struct kv_error error;
    FILE *file;
    int fd;

    snprintf(edit->path,
             sizeof edit->path,
             "%.4000s/kvctl-edit.XXXXXX.yaml",
             directory && directory[0] ? directory : "/tmp");
    fd = mkstemps(edit->path, 5);
    file = fd < 0 ? NULL : fdopen(fd, "w");
    if (!file) {
        return fail_file(edit, "making");
    }
    fprintf(
        file,
        "# The keys below \"%s\". A key that is taken out is deleted. Saved as it is, or empty of "
        "keys and\n"
        "# comments, nothing is changed. Types: {$counter: 5} {$hash: {NAME: VALUE}} {$list: "
        "[...]}\n"
        "# {$set: [...]} {$zset: {MEMBER: SCORE}}; {$base64: ...} for bytes that are no text.\n",
        edit->prefix);
    if (edit->present.n_entries > 0 &&
        kvctl_document_write(&edit->present, KVCTL_YAML, file, &error) < 0) {
        fclose(file);
        return kvctl_local_fault(edit->kvctl, &error);
    }
    return fclose(file) == 0 ? KVCTL_OK : fail_file(edit, "writing");
}

static int run_editor(struct edit *edit)
{
    const char *editor = getenv("VISUAL");
    struct kv_error error;
    char command[4200];
    int status;
    int code;

    if (!editor || !editor[0]) {
        editor = getenv("EDITOR");
    }
    if (!editor || !editor[0]) {
        editor = "vi";
    }
    /* As git and others do: the variable may have options. */
    if (snprintf(command, sizeof command, "%s {}", editor) >= (int)sizeof command) {
        return kvctl_usage(edit->kvctl, "the editor's command is too long");
    }
    fflush(edit->kvctl->out);
    /* Ctrl-C in the editor is the editor's: neither we nor its shell end by it. */
    kvctl_interrupts_begin();
    status = kvctl_shell_command("trap : INT; ", command, edit->path, &error);
    code = kvctl_interrupted() ? kvctl_interrupt_code() : KVCTL_OK;
    kvctl_interrupts_end();
    if (status < 0) {
        return kvctl_local_fault(edit->kvctl, &error);
    }
    return code == 128 + SIGINT ? KVCTL_OK : code;
}

/* Parses it and makes the diff; 0, or what is wrong with the file. */
static int read_file(struct edit *edit, struct kv_error *ret_error)
{
    struct kv_bytes prefix = kv_bytes_str(edit->prefix);
    int status;

    kv_buf_clear(&edit->text);
    edit->edited = (struct kvctl_document){.arena = &edit->arena};
    status = kvctl_file_read(edit->path, &edit->text, ret_error);
    if (status == 0) {
        status = kvctl_document_parse(
            &edit->edited, edit->path, kv_bytes_of(edit->text.data, edit->text.size), ret_error);
    }
    for (size_t i = 0; i < edit->edited.n_entries && status == 0; i++) {
        const struct kvctl_entry *entry = &edit->edited.entries[i];

        if (!kvctl_has_prefix(entry->key, prefix)) {
            status = kv_error_set(ret_error,
                                  KV_INVALID,
                                  "%.200s line %zu: the key is not below \"%.100s\"",
                                  edit->path,
                                  entry->line,
                                  edit->prefix);
        }
    }
    if (status == 0) {
        status = kvctl_diff_make(&edit->arena,
                                 &edit->present,
                                 &edit->edited,
                                 edit->edited.n_entries > 0,
                                 &edit->diff,
                                 ret_error);
    }
    return status;
}

/* ---------------------------------------------------------------- the dialogue */

/* false: no, or nobody answers. */
static bool ask(struct edit *edit, const char *question)
{
    char answer[ANSWER_BYTES];

    if (edit->kvctl->args.set[KVCTL_YES]) {
        return true;
    }
    fprintf(edit->kvctl->out, "%s [y/n] ", question);
    fflush(edit->kvctl->out);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static int keep_file(struct edit *edit, int code)
{
    fprintf(edit->kvctl->err, "kvctl edit: what you wrote is kept in %s\n", edit->path);
    return code;
}

/* Until the file is right, or the editor is not wanted any more. */
static int edit_until_right(struct edit *edit)
{
    struct kv_error error;
    int code;

    for (;;) {
        code = run_editor(edit);
        if (code != KVCTL_OK) {
            return keep_file(edit, code);
        }
        if (read_file(edit, &error) == 0) {
            return KVCTL_OK;
        }
        code = kvctl_local_fault(edit->kvctl, &error);
        /* --yes is for the diff: an editor that is no person would do the same again. */
        if (edit->kvctl->args.set[KVCTL_YES] || !ask(edit, "edit again?")) {
            return keep_file(edit, code);
        }
    }
}

static int apply(struct edit *edit)
{
    struct kvctl_source source = kvctl_source_of(edit->kvctl);
    struct kvctl_plan plan = {
        .kvctl = edit->kvctl,
        .source = &source,
        .diff = &edit->diff,
        .revision = edit->present.revision,
        .too_large = "edit parts, by longer prefixes",
    };
    int code;

    kvctl_diff_print(&edit->diff, edit->kvctl->out);
    if (edit->diff.n_changes > 0 && !ask(edit, "apply?")) {
        fputs("nothing was applied\n", edit->kvctl->out);
        return keep_file(edit, KVCTL_NOT_MET);
    }
    code = kvctl_plan_run(&plan);
    if (code != KVCTL_OK) {
        return keep_file(edit, code);
    }
    unlink(edit->path);
    return KVCTL_OK;
}

int kvctl_run_edit(struct kvctl *kvctl)
{
    struct edit edit = {.kvctl = kvctl, .prefix = kvctl->args.arguments[0]};
    struct kv_range_spec range = kvctl_prefix_spec(edit.prefix);
    int code;

    kv_arena_init(&edit.arena, KVCTL_DOCUMENT_BYTES_MAX);
    kv_buf_init(&edit.text, KVCTL_FILE_BYTES_MAX);
    edit.present = (struct kvctl_document){.arena = &edit.arena};
    code = kvctl_load_range(kvctl, &range, 0, &edit.present);
    if (code == KVCTL_OK) {
        code = write_file(&edit);
    }
    if (code == KVCTL_OK) {
        code = edit_until_right(&edit);
    }
    if (code == KVCTL_OK) {
        code = apply(&edit);
    }
    kv_buf_deinit(&edit.text);
    kv_arena_deinit(&edit.arena);
    return code;
}
