/* Inside kvctl: what is different between two documents, and how it is applied. */
#ifndef KV_KVCTL_DIFF_H
#define KV_KVCTL_DIFF_H

#include "client/kvctl/fetch.h"

enum kvctl_change_kind { KVCTL_CREATE, KVCTL_CHANGE, KVCTL_REMOVE, KVCTL_N_CHANGE_KINDS };
struct kvctl_change {
    enum kvctl_change_kind kind;
    const struct kvctl_entry *from; /* NULL: KVCTL_CREATE */
    const struct kvctl_entry *to;   /* NULL: KVCTL_REMOVE */
};
struct kvctl_diff {
    struct kvctl_change *changes; /* in order of keys */
    size_t n_changes;
    size_t n[KVCTL_N_CHANGE_KINDS];
};

/* --- diff.c --- */
/* From one sorted document to the other. delete_missing: what is only in `from` is removed. */
int kvctl_diff_make(struct kv_arena *arena,
                    const struct kvctl_document *from,
                    const struct kvctl_document *to,
                    bool delete_missing,
                    struct kvctl_diff *ret_diff,
                    struct kv_error *ret_error) KV_MUST_CHECK;
/* + KEY: VALUE, - KEY: VALUE, ~ KEY with - and + lines below it. Long values are cut. */
void kvctl_diff_print(const struct kvctl_diff *diff, FILE *file);
/* "changes":[{"key":...,"change":"create|change|delete","from":VALUE,"to":VALUE},...], whole
 * values. */
int kvctl_diff_print_json(const struct kvctl_diff *diff,
                          FILE *file,
                          struct kv_error *ret_error) KV_MUST_CHECK;

/* --- apply.c --- */
struct kvctl_plan {
    struct kvctl *kvctl;
    const struct kvctl_source *source;
    const struct kvctl_diff *diff;
    int64_t revision;                  /* the diff's `from` is of this one */
    const struct kv_range_spec *scope; /* that no key may have come into since; NULL: any may */
    const char *too_large;             /* what to do then */
};
/* One transaction, on the condition that no key of the diff was changed since `revision`; who was
 * is told otherwise (KVCTL_NOT_MET). An enum kvctl_exit. */
int kvctl_plan_apply(const struct kvctl_plan *plan, int64_t *ret_revision);
/* Shows the diff if asked for, applies it unless it is a dry run, says what was done. */
int kvctl_plan_run(const struct kvctl_plan *plan);

#endif
