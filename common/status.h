/* Status codes: the one table from which the C enum, the wire codes of kv.proto, their texts and
 * their retry classes come.
 *
 * Functions return 0 or a negative enum kv_status. On the wire the code is the positive number
 * (kv.proto, enum Code). Foreign errors (errno, UV_*, RAFT_*) are translated once, at the adapter
 * that meets them. */
#ifndef KV_COMMON_STATUS_H
#define KV_COMMON_STATUS_H

#include <stdbool.h>
#include <stddef.h>

/* What a client may do after a reply (docs/protocol.md, "Status"). */
enum kv_retry {
    KV_RETRY_OK,        /* it was done */
    KV_RETRY_NEVER,     /* the request is wrong; nothing was done */
    KV_RETRY_LATER,     /* nothing was done; try again with backoff */
    KV_RETRY_ELSEWHERE, /* nothing was done; go to the hinted node */
    KV_RETRY_UNKNOWN,   /* it may or may not have been done */
    KV_RETRY_FATAL,     /* this node must be looked at */
};

/* X(name, wire value, retry class, text) */
#define KV_STATUS_MAP(X)                                                   \
    X(OK, 0, OK, "ok")                                                     \
    X(INVALID, 1, NEVER, "invalid request")                                \
    X(UNSUPPORTED, 2, NEVER, "not supported by this server")               \
    X(WRONG_TYPE, 3, NEVER, "the key holds another type")                  \
    X(NOT_FOUND, 4, NEVER, "not found")                                    \
    X(EXISTS, 5, NEVER, "exists already")                                  \
    X(CONDITION_FAILED, 6, NEVER, "a condition is not met")                \
    X(OUT_OF_BOUNDS, 7, NEVER, "out of bounds")                            \
    X(OVERFLOW, 8, NEVER, "number overflow")                               \
    X(TOO_LARGE, 9, NEVER, "too large")                                    \
    X(COMPACTED, 10, NEVER, "the revision is compacted")                   \
    X(FUTURE_REVISION, 11, NEVER, "the revision is not reached yet")       \
    X(PERMISSION, 12, NEVER, "permission denied")                          \
    X(UNAUTHENTICATED, 13, NEVER, "not authenticated")                     \
    X(BUSY, 20, LATER, "busy, try again")                                  \
    X(NO_SPACE, 21, LATER, "no space")                                     \
    X(NO_LEADER, 22, LATER, "no leader")                                   \
    X(SHUTTING_DOWN, 23, LATER, "shutting down")                           \
    X(NOT_LEADER, 30, ELSEWHERE, "not the leader")                         \
    X(NOT_MEMBER, 31, ELSEWHERE, "not a member of the cluster")            \
    X(OUTCOME_UNKNOWN, 40, UNKNOWN, "the outcome is unknown")              \
    X(DEADLINE, 41, UNKNOWN, "deadline exceeded")                          \
    X(SESSION_EXPIRED, 42, UNKNOWN, "the session has expired")             \
    X(CORRUPT, 50, FATAL, "data is corrupt")                               \
    X(INTERNAL, 51, FATAL, "internal error")                               \
    /* never on the wire: */                                               \
    X(NO_MEMORY, 90, LATER, "out of memory")                               \
    X(IO, 91, FATAL, "input/output error")                                 \
    X(IN_USE, 92, FATAL, "in use by another process")                      \
    X(WRONG_NODE, 93, FATAL, "belongs to another node, cluster or format") \
    X(CLOSED, 94, LATER, "the connection is closed")

enum kv_status {
#define KV_STATUS_ENUM(name, value, retry, text) KV_##name = -(value),
    KV_STATUS_MAP(KV_STATUS_ENUM)
#undef KV_STATUS_ENUM
};

/* Name as in kv.proto ("NOT_FOUND"); "?" for a number that is none. Takes either sign. */
const char *kv_status_name(int status);
/* One text for people. */
const char *kv_status_text(int status);
enum kv_retry kv_status_retry(int status);

#define KV_MUST_CHECK __attribute__((warn_unused_result))
#define KV_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* For errors that an operator or user reads: what, where, and what to do next. */
#define KV_ERROR_MESSAGE_SIZE 512
struct kv_error {
    int status;
    char message[KV_ERROR_MESSAGE_SIZE];
};

/* Sets *ret_error (may be NULL) and returns status, so that `return kv_error_set(...)` reads well.
 */
int kv_error_set(struct kv_error *ret_error, int status, const char *format, ...) KV_PRINTF(3, 4);

#endif
