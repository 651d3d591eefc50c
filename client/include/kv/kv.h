/* All of libkv's blocking calls. */
#ifndef KV_KV_H
#define KV_KV_H

#include <kv/barrier.h>
#include <kv/client.h>
#include <kv/counter.h>
#include <kv/election.h>
#include <kv/flags.h>
#include <kv/hash.h>
#include <kv/keys.h>
#include <kv/lease.h>
#include <kv/limiter.h>
#include <kv/list.h>
#include <kv/lock.h>
#include <kv/set.h>
#include <kv/topic.h>
#include <kv/txn.h>
#include <kv/watch.h>
#include <kv/zset.h>

#endif
