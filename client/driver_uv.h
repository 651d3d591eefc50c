/* Inside libkv: what is built on the session core beside requests enters it here. */
#ifndef KV_CLIENT_DRIVER_UV_H
#define KV_CLIENT_DRIVER_UV_H

#include "client/session.h"

#include <kv/async.h>

/* NULL: it is being closed, and nothing was entered. Otherwise to be followed by kv_async_leave,
 * with which what the session wants is carried out. */
struct kv_session *kv_async_enter(struct kv_async *async);
void kv_async_leave(struct kv_async *async);

#endif
