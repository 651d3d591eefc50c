/* Inside kvctl: what the commands on configuration share. */
#ifndef KV_KVCTL_CONFIG_H
#define KV_KVCTL_CONFIG_H

#include "client/kvctl/diff.h"

int kvctl_run_export(struct kvctl *kvctl);
int kvctl_run_import(struct kvctl *kvctl);
int kvctl_run_rollback(struct kvctl *kvctl);
int kvctl_run_edit(struct kvctl *kvctl);
int kvctl_run_render(struct kvctl *kvctl);
int kvctl_run_service(struct kvctl *kvctl);

struct kvctl_source kvctl_source_of(const struct kvctl *kvctl);
/* Keys that begin with it; all for "". */
struct kv_range_spec kvctl_prefix_spec(const char *prefix);
/* The range, sorted; an enum kvctl_exit, said. What is left out is said as well. */
int kvctl_load_range(struct kvctl *kvctl,
                     const struct kv_range_spec *range,
                     int64_t at_revision,
                     struct kvctl_document *document);
/* --format, or what --output says. An enum kvctl_exit. */
int kvctl_notation(struct kvctl *kvctl, enum kvctl_notation *ret_notation);
/* Says it; an exit code for a local fault (a file that is wrong is a wrong command line). */
int kvctl_local_fault(struct kvctl *kvctl, const struct kv_error *error);

#endif
