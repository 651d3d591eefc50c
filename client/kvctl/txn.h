/* Inside kvctl: a transaction between its text and its message. */
#ifndef KV_KVCTL_TXN_H
#define KV_KVCTL_TXN_H

#include "client/kvctl/kvctl.h"

#include <jansson.h>

struct kvctl_txn;

struct kvctl_operation {
    struct kvctl_operation *next;
    struct kvctl_call call;
    struct kvctl_args args;  /* owned */
    struct kvctl_line words; /* as they are printed; none of an inner one */
    struct kvctl_txn *inner; /* instead of a command; NULL */
};

/* All in the reader's arena, but for the args. */
struct kvctl_txn {
    struct kvctl_operation *first[2]; /* then, else */
    struct kvctl_operation **last[2];
    size_t n[2];
    size_t compares_size; /* places in message.compares */
    Kv__Txn message;
};

struct kvctl_txn_reader {
    struct kvctl *kvctl;
    struct kv_arena *arena;
    char *next;   /* text: what is not read yet */
    json_t *json; /* owned; words borrow from it */
    unsigned line;
    const char *unit; /* that line counts */
};

/* KVCTL_USAGE, said with the place. */
int kvctl_txn_wrong(struct kvctl_txn_reader *reader, const char *format, ...) KV_PRINTF(2, 3);
/* The words of one compare, without the "if", into the transaction. KVCTL_OK or KVCTL_USAGE. */
int kvctl_txn_compare(struct kvctl_txn_reader *reader,
                      struct kvctl_txn *txn,
                      const char *const *words,
                      size_t n_words);

#endif
