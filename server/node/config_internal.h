/* What the files of the configuration share. */
#ifndef KV_NODE_CONFIG_INTERNAL_H
#define KV_NODE_CONFIG_INTERNAL_H

#include "server/node/config.h"

enum { KV_OPTIONS_MAX = 64 };

enum kv_option_type {
    KV_OPTION_TEXT,
    KV_OPTION_NUMBER,
    KV_OPTION_TIME,
    KV_OPTION_SIZE,
    KV_OPTION_BOOL
};

struct kv_option {
    const char *name;
    enum kv_option_type type;
    size_t offset; /* of the field in struct kv_config */
    size_t size;
    const char *default_text;
    uint64_t min, max;
    const char *unit;
    const char *help;
};

extern const struct kv_option kv_options[];
extern const size_t kv_n_options;

const struct kv_option *kv_option_find(const char *name, size_t size); /* NULL: there is none */
const char *kv_option_nearest(const char *name);
/* place: where the text stands, for the message. */
int kv_option_set(struct kv_config *config,
                  const struct kv_option *option,
                  const char *text,
                  const char *place,
                  struct kv_error *ret_error) KV_MUST_CHECK;
/* config_file.c */
int kv_config_read_file(struct kv_config *config,
                        const char *path,
                        struct kv_error *ret_error) KV_MUST_CHECK;
/* config_check.c: combinations, and what is derived. */
int kv_config_check(struct kv_config *config, struct kv_error *ret_error) KV_MUST_CHECK;

#endif
