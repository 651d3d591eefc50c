/* Listening sockets of the server, for clients and for http. */
#ifndef KV_NET_LISTEN_H
#define KV_NET_LISTEN_H

#include "common/status.h"

/* Binds n sockets to one address ("host:port", "[v6]:port", ":port"; port 0: any, the same for
 * all), non-blocking and not yet listening. With several the kernel spreads the connections.
 * `what` names the users of the port and `option` the option to change, for messages. KV_INVALID:
 * no address, or not known; KV_IN_USE: taken; KV_IO. On failure nothing stays open. */
int kv_listen_bind(const char *address,
                   const char *what,
                   const char *option,
                   unsigned n,
                   int *ret_fds,
                   int *ret_port,
                   struct kv_error *ret_error) KV_MUST_CHECK;

#endif
