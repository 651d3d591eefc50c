/* Inside kvctl: keys as environment variables. Pure. */
#ifndef KV_KVCTL_ENVIRONMENT_H
#define KV_KVCTL_ENVIRONMENT_H

#include "client/kvctl/document.h"

enum {
    KVCTL_VARIABLES_MAX = 4096,
    KVCTL_ENVIRONMENT_BYTES_MAX = 1024 * 1024, /* of the 2 MiB that arguments share */
};

/* The name that a key without its prefix has: upper case, _ for whatever is no letter or digit.
 * size bytes with the zero. false: it is no name: empty, or a digit first. */
bool kvctl_variable_name(struct kv_bytes key, char *ret_name, size_t size);

/* `inherited` (NULL at its end) and over it what the sorted document has below the prefixes, a
 * later one over an earlier one: NAME=value, NULL at the end, sorted. What cannot be a variable,
 * and keys of one prefix that have the same name (the last one counts), are said on notes, a line
 * each that begins with "kvctl run: ". KV_TOO_LARGE. */
int kvctl_environment_make(struct kv_arena *arena,
                           const struct kvctl_document *document,
                           const char *const *prefixes,
                           size_t n_prefixes,
                           char *const *inherited,
                           FILE *notes,
                           char ***ret_environment,
                           struct kv_error *ret_error) KV_MUST_CHECK;
bool kvctl_environment_equal(char *const *a, char *const *b);

#endif
