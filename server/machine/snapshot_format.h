/* Items of a machine's snapshot, format 1. Little endian.
 *
 *   item:  u8 kind, u8 type and flags, u16 key size, u32 body size, body
 *   body:  fixed fields of the kind, key, value (what is left)
 *
 * In this order, by ascending kind:
 *   HEAD     one: u32 format, u32 machine version, u64 revision, oldest revision, cluster time,
 *            applied index, last number of a collection
 *   SETTING  one for each: u64 value; the key is its name
 *   MARKS    history can end at these: n times u64 revision, u64 time, ascending
 *   SESSIONS one when a session was ever opened: u64 last id given, number of sessions, their bytes
 *   SESSION  one for each, by ascending id: sessions_snapshot.c
 *   WAITERS  one when a pop ever waited: u64 last number given, number of those that wait
 *   WAITER   one for each, by ascending number: waiters_snapshot.c
 *   LEASES   n times u64 id, ttl, deadline, 1 when it was revoked; by ascending id: leases.c
 *   TOPICS   one when a topic ever was: u64 revision and number of the newest message of those that
 *            are gone, number of topics, of messages, their bytes
 *   TOPIC    one for each, by ascending name: u64 revision and number of the newest message that
 *            was dropped; the key is its name
 *   MESSAGE  one for each, in the order of their publication: u64 revision, number in it, cluster
 *            time; key is the topic, value the payload
 *   BASE     a live key as of the oldest revision, by ascending key: u64 mod revision, create
 *            revision, version; type
 *   ELEMENT  an element of those of them that are large collections, by ascending key: u64 mod
 *            revision; type of the collection
 *   CHANGE, ELEMENT_CHANGE
 *            what came later, in the order of the event log: u64 mod revision; type. A key that was
 *            deleted has type NONE, an element that was removed has DROPS
 *   END      one: u64 counts of MARKS' marks, BASE, ELEMENT and (both) CHANGE items, live keys,
 * data bytes, history bytes, replaced versions, state hash, hash of all bytes before this item
 *
 * The life of a record is up to three u64, as they stand behind its value (record.h), and a byte
 * that tells which: 1 an expiry, 2 a lease, 4 the earliest deadline of fields. An element has at
 * most the first.
 *
 * A kind or type that is not here was made by a newer version. */
#ifndef KV_MACHINE_SNAPSHOT_FORMAT_H
#define KV_MACHINE_SNAPSHOT_FORMAT_H

#include "common/limits.h"

#include <stddef.h>
#include <stdint.h>

enum {
    KV_SNAPSHOT_FORMAT = 1,
    KV_ITEM_HEAD_BYTES = 8,
    KV_ITEM_FIXED_BYTES_MAX = 80,
    KV_ITEM_MARK_BYTES = 16,
    KV_ITEM_MARKS_MAX = 64,    /* of one item: of any snapshot of some seconds there are several */
    KV_ITEM_LEASES_MAX = 1024, /* of one item */
    KV_ITEM_LIFE_BYTES_MAX = 25,
};

enum kv_item_kind {
    KV_ITEM_HEAD = 1,
    KV_ITEM_SETTING = 2,
    KV_ITEM_MARKS = 3,
    KV_ITEM_SESSIONS = 16,
    KV_ITEM_SESSION = 17,
    KV_ITEM_WAITERS = 18,
    KV_ITEM_WAITER = 19,
    KV_ITEM_LEASES = 24,
    KV_ITEM_TOPICS = 48,
    KV_ITEM_TOPIC = 49,
    KV_ITEM_MESSAGE = 50,
    KV_ITEM_BASE = 64,
    KV_ITEM_ELEMENT = 65,
    KV_ITEM_CHANGE = 128,
    KV_ITEM_ELEMENT_CHANGE = 129,
    KV_ITEM_END = 255,
};

/* In the byte of the type. */
enum {
    KV_ITEM_TYPE = 0x0f,
    KV_ITEM_IS_LARGE = 0x10, /* the value is a struct kv_large */
    KV_ITEM_HAS_LIFE = 0x40, /* behind the value: numbers of its life, and which they are */
    KV_ITEM_EXPIRED = 0x80,  /* the key was deleted since its time was over */
    KV_ITEM_DROPS = 0x20,    /* the large collection that was there ended; an element was removed */
};

enum { KV_ITEM_HEAD_FIXED = 48, KV_ITEM_BASE_FIXED = 24, KV_ITEM_CHANGE_FIXED = 8 };
enum {
    KV_ITEM_SESSIONS_FIXED = 24,
    KV_ITEM_WAITERS_FIXED = 16,
    KV_ITEM_TOPICS_FIXED = 40,
    KV_ITEM_TOPIC_FIXED = 16,
    KV_ITEM_MESSAGE_FIXED = 24,
    KV_ITEM_SETTING_FIXED = 8,
    KV_ITEM_END_FIXED = 80
};

/* In the byte behind the life's numbers. */
enum { KV_ITEM_LIFE_EXPIRY = 1, KV_ITEM_LIFE_LEASE = 2, KV_ITEM_LIFE_FIELDS = 4 };

/* What the END item says about those before it. */
struct kv_snapshot_totals {
    uint64_t marks;
    uint64_t base;
    uint64_t elements;
    uint64_t changes;
    uint64_t keys;
    uint64_t data_bytes;
    uint64_t history_bytes;
    uint64_t versions;
    uint64_t state_hash;
    uint64_t stream_hash;
};

_Static_assert(sizeof(struct kv_snapshot_totals) == KV_ITEM_END_FIXED, "ten numbers");
_Static_assert(KV_ITEM_HEAD_BYTES + KV_ITEM_FIXED_BYTES_MAX + KV_KEY_BYTES_MAX +
                       KV_VALUE_BYTES_MAX + KV_ITEM_LIFE_BYTES_MAX <=
                   KV_SNAPSHOT_ITEM_BYTES_MAX,
               "the largest record is an item");
_Static_assert((size_t)KV_ITEM_MARKS_MAX *KV_ITEM_MARK_BYTES <= KV_SNAPSHOT_ITEM_BYTES_MAX,
               "marks are an item");

#endif
