/* Inside kvctl: whole files, read and replaced. */
#ifndef KV_KVCTL_FILE_H
#define KV_KVCTL_FILE_H

#include "client/kvctl/kvctl.h"
#include "common/bytes.h"

/* The file's bytes, or standard input's ("-"), into an empty buffer that has the maximum. KV_IO,
 * KV_NOT_FOUND, KV_TOO_LARGE with the name. */
int kvctl_file_read(const char *path, struct kv_buf *buf, struct kv_error *ret_error) KV_MUST_CHECK;

/* A file that is to take another's place: written beside it, synced, and either put there in one
 * step or removed. */
struct kvctl_new_file {
    char target[4096]; /* symbolic links followed */
    char path[4096];   /* "" when there is none */
};
/* The mode is that of the file that is replaced, or for a new one `mode` less the umask; `mode` in
 * any case when `enforce`. What is there and no regular file (a device, a pipe) is left alone. Not
 * while other threads make files without `enforce`. */
int kvctl_new_file_write(struct kvctl_new_file *file,
                         const char *target,
                         struct kv_bytes content,
                         unsigned mode,
                         bool enforce,
                         struct kv_error *ret_error) KV_MUST_CHECK;
int kvctl_new_file_commit(struct kvctl_new_file *file, struct kv_error *ret_error) KV_MUST_CHECK;
void kvctl_new_file_drop(struct kvctl_new_file *file);

#endif
