/* A watch or a subscription that libkv keeps going over lost connections, told as one stream: what
 * the program is given is put back into the words of the protocol, so that the same judge
 * (follow.h) holds for it. */
#ifndef KV_TESTS_SIM_RESUME_H
#define KV_TESTS_SIM_RESUME_H

#include "tests/sim/follow.h"

struct kv_session;
struct resumed;

/* request: a Watch or a Subscribe; `into` gets what is told, and its end. */
struct resumed *resumed_open(struct kv_session *session,
                             uint64_t now_ns,
                             const Kv__Request *request,
                             struct followed *into);
void resumed_pause(struct resumed *resumed, uint64_t now_ns, bool pause);
/* Takes NULL. */
void resumed_close(struct resumed *resumed, uint64_t now_ns);

#endif
