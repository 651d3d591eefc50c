/* Every bound of kvd, each with its reason, related by static assertions at the end. Sizes are in
 * bytes, times in milliseconds. */
#ifndef KV_COMMON_LIMITS_H
#define KV_COMMON_LIMITS_H

#define KV_KIB 1024ULL
#define KV_MIB (1024ULL * 1024ULL)

/* --- data model (docs/guide) --- */
#define KV_KEY_BYTES_MAX 4096u              /* fits a page; longer keys are values in disguise */
#define KV_VALUE_BYTES_DEFAULT (1 * KV_MIB) /* setting value-limit at bootstrap */
#define KV_VALUE_BYTES_MAX (8 * KV_MIB)     /* highest setting: two fit one request frame */
#define KV_WORK_ELEMENTS_DEFAULT 100000u    /* setting work-limit: about 10 ms of one core */
#define KV_WORK_ELEMENTS_MAX 1000000u       /* 100 ms: all nodes stand still, and none is elected */
#define KV_REPLY_BYTES_DEFAULT (16 * KV_MIB) /* setting reply-limit: one frame */
#define KV_REVISION_FIRST 1                  /* of the empty store */
#define KV_HISTORY_MARKS_MAX 65536u /* where history can end: 100 ms apart for 109 minutes */
#define KV_DATA_BYTES_MAX (1024 * 1024 * KV_MIB) /* setting data-limit: no memory holds more */
#define KV_INLINE_ELEMENTS_MAX                                                                 \
    128u                          /* of a small collection: looking through takes about 0.3 us \
                                   */
#define KV_INLINE_BYTES_MAX 2048u /* and all of it is copied by each change */
#define KV_COMMAND_WRITTEN_BYTES_MAX \
    (64 * KV_MIB) /* of versions that one makes: appends to a large value copy it each time */
#define KV_VERSIONS_PER_ELEMENT \
    64u /* passed over by a read of the past: a look, where an element is a search */
#define KV_TXN_DEPTH_MAX 4u /* of transactions within each other: the handler calls itself */
#define KV_TXN_OPERATIONS_MAX                                           \
    4096u /* of all branches at all depths: each has an answer of 2 KiB \
           */
#define KV_REPLY_MEMORY_BYTES_MAX (1024 * KV_MIB) /* of one reply being built, as structs */
#define KV_SNAPSHOT_ITEM_BYTES_MAX (9 * KV_MIB)   /* the largest record with its head */
#define KV_WAITERS_MAX 16384u                     /* pops that wait */
#define KV_WAITERS_SERVED_MAX 256u   /* served by one command, or the end of one entry: 0.3 ms */
#define KV_WAITERS_EXPIRE_MAX 10000u /* ended by their deadline in one entry */
#define KV_RECLAIM_PER_ENTRY 512u    /* pieces of memory freed after one entry: about 1 ms */

/* --- topics --- */
#define KV_TOPICS_DEFAULT 10000u            /* setting topic-limit */
#define KV_TOPICS_MAX 100000u               /* their names: 400 MiB at most */
#define KV_TOPIC_MESSAGES_DEFAULT 1024u     /* setting topic-messages */
#define KV_TOPIC_MESSAGES_MAX 1000000u      /* their array of 8 MiB is copied when it grows: 1 ms */
#define KV_TOPIC_BYTES_DEFAULT (4 * KV_MIB) /* setting topic-bytes */
#define KV_TOPIC_BYTES_MAX (1024 * KV_MIB)
#define KV_TOPIC_AGE_DEFAULT_MS 600000ULL /* setting topic-age-ms */
#define KV_TOPIC_AGE_MIN_MS 1000ULL       /* one step */
#define KV_TOPIC_AGE_MAX_MS (30 * 86400000ULL)
#define KV_TOPIC_AGE_STEP_MS 1000 /* messages end by age all that are due at once so often */
#define KV_TOPIC_DROPS_PER_PUBLISH \
    2u /* by count and bytes, always: one more than comes, so that what is too much ends */
#define KV_TOPIC_DROPS_PER_ENTRY \
    4096u /* and so many more, when a setting was lowered or a large message came: about 2 ms */
#define KV_TOPIC_EXPIRE_MAX 4096u /* messages that one entry ends by age: about 2 ms */
#define KV_TOPIC_LOOKS_MAX 4096u  /* messages that one read for a subscriber looks at: 0.2 ms */
#define KV_TOPIC_LAST_MAX KV_TOPIC_MESSAGES_MAX /* of Subscribe */
#define KV_TOPIC_LIST_MAX 1024u /* topics of one reply: each is held against all patterns here */
#define KV_NODE_PATTERNS_MAX                                            \
    1024u /* different ones on a node: each message is held against all \
           */
#define KV_GLOB_WORK_MAX \
    1000000u /* steps of matching between looks at the clock: about 1 ms (glob.h) */
#define KV_NODE_MATCH_WORK_MAX                                                                  \
    (8 * KV_GLOB_WORK_MAX) /* of publications in a turn: patterns beyond it read by themselves, \
                              which costs more altogether */
#define KV_TOPIC_ITEM_BYTES_MAX \
    (9 * KV_MIB)                /* of a stream: a piece, and a largest message with its name */
#define KV_GLOB_BYTES_MAX 1024u /* a pattern with sets */
#define KV_GLOB_PLACES_MAX 255u /* four words of bits: 10 us for the longest name */

/* --- exactly-once sessions --- */
#define KV_SESSION_WINDOW                                                  \
    1024u /* sequences not yet acknowledged: as many as a connection sends \
           */
#define KV_SESSION_SEQUENCE_MAX INT64_MAX /* so that none overflows */
#define KV_SESSION_REPLY_BYTES_MAX \
    (1 * KV_MIB) /* answers kept of one; beyond it only that it was done */
#define KV_SESSIONS_REPLY_BYTES_MAX \
    (64 * KV_MIB) /* and of all: a snapshot begins with a copy of them, about 10 ms */
#define KV_SESSIONS_DEFAULT 65536u /* setting session-limit: 10 MiB of idle ones */
#define KV_SESSIONS_MAX 1000000u
#define KV_SESSION_TTL_DEFAULT_MS 60000 /* of a session that names none */
#define KV_SESSION_TTL_MIN_MS 1000      /* setting session-ttl-min: several renewals in it */
#define KV_SESSION_TTL_MAX_MS 86400000  /* setting session-ttl-max */
#define KV_SESSION_EXPIRE_PIECES 10000u /* sessions and answers freed by one entry: about 1 ms */

/* --- time: leases and ttl --- */
#define KV_TTL_MAX_MS 315360000000ULL /* setting ttl-max, of keys and fields: ten years */
#define KV_LEASES_MAX 10000000u       /* setting lease-limit: 2 GiB of them */
#define KV_LEASES_DEFAULT 1000000u
#define KV_LEASE_TTL_MIN_MS 1000          /* setting lease-ttl-min: renewals come twice a second */
#define KV_LEASE_TTL_MAX_MS 2678400000ULL /* setting lease-ttl-max: 31 days */
#define KV_LEASE_KEEP_ALIVE_MAX 4096u     /* leases renewed by one request: about 1 ms */
#define KV_EXPIRE_PIECES 250u             /* keys and fields ended by one entry: about 1 ms */
#define KV_EXPIRE_PIECES_BESIDE 25u       /* by one with commands: a tenth, many are under way */
/* --- rate limiters: their products are below 2^63, sums of two below 2^64 --- */
#define KV_LIMITER_RATE_MAX 1000000000ULL      /* permits a period: bytes of a fast link */
#define KV_LIMITER_BURST_MAX 1000000000ULL     /* as many at once */
#define KV_LIMITER_PERIOD_MS_MAX 2678400000ULL /* 31 days */
#define KV_LIMITER_FULL_MS_MAX \
    8640000000ULL                /* an empty bucket is full after so long at most: 100 days */
#define KV_LIMITER_REST_MS 1000u /* a full bucket's key ends no sooner after its last permit */

/* --- client protocol --- */
#define KV_FRAME_HEADER_BYTES 8u
#define KV_REQUEST_BYTES_MAX (16 * KV_MIB) /* one request frame */
#define KV_REPLY_FRAME_BYTES_MAX (16 * KV_MIB)
#define KV_NESTING_DEPTH_MAX 13u               /* a range by score, four transactions deep */
#define KV_DECODED_BYTES_MAX (64 * KV_MIB)     /* memory of one unpacked request */
#define KV_STREAM_PIECE_BYTES (64 * KV_KIB)    /* one item of a streamed range */
#define KV_STREAM_CREDIT_MAX (16 * KV_MIB)     /* what a client may grant ahead */
#define KV_LZ4_MIN_BYTES 1024u                 /* below, compression costs more than it saves */
#define KV_HELLO_TIMEOUT_MS 5000               /* strangers that stay silent are closed */
#define KV_CONNECTIONS_MAX 4096                /* default of max-connections, which is made of it */
#define KV_CONNECTION_REQUESTS_MAX 1024u       /* not yet answered, per connection */
#define KV_CONNECTION_SUBSCRIPTIONS_MAX 16384u /* watches and topics: 16 MiB of a node's memory */
#define KV_CONNECTION_STREAM_BYTES_MAX \
    (256 * KV_KIB) /* of their items not yet taken by the socket: more only when it has room */
#define KV_CONNECTION_OUT_BYTES_MAX \
    (32 * KV_MIB)              /* replies not yet read by the client: then closed */
#define KV_NAME_BYTES_MAX 255u /* client names, host names */
#define KV_CONTROL_FRAME_BYTES_MAX (64 * KV_KIB) /* of a hello, cancel or credit */
#define KV_FRAME_TIMEOUT_MS 30000 /* half a frame and silence: its buffer is wanted back */
#define KV_LINGER_MS 200 /* after a last word, until the client closes: else it may not be read */
#define KV_NET_BUFFER_BYTES_MAX \
    (1024 * KV_MIB) /* of all connections; beyond it those that hold much are closed */
#define KV_NET_ANSWER_BYTES_MAX \
    (256 * KV_MIB) /* on their way from the core to the connections: large ones are BUSY beyond */
#define KV_NET_ANSWER_BYTES_SMALL 4096u /* no answer of this size is refused */
#define KV_NET_BATCH_BYTES (1 * KV_MIB) /* a batch of requests; then the next is begun */

/* --- http --- */
#define KV_HTTP_CONNECTIONS_MAX 1024u /* at once: idle ones have gone before a probe gives up */
#define KV_HTTP_TIMEOUT_S 2           /* silence, or a client that does not read */
#define KV_HTTP_CONNECTION_BYTES (8 * KV_KIB) /* of a request's header; 8 MiB for all */

/* --- admission on one node --- */
#define KV_NODE_REQUESTS_MAX 65536u /* all that wait or are under way: BUSY beyond */
#define KV_NODE_REQUEST_BYTES_MAX (256 * KV_MIB)
#define KV_NODE_STREAMS_MAX 1024u
#define KV_PROGRESS_MIN_MS 100u           /* of a subscription: ten items a second say enough */
#define KV_PROGRESS_MAX_MS 86400000u      /* a day */
#define KV_CATCH_UP_BYTES (64 * KV_KIB)   /* one item of the past */
#define KV_CATCH_UP_RECORDS 4096u         /* looked at for it: about 0.2 ms */
#define KV_CATCH_UP_TURN_NS 100000u       /* of a turn for all that are behind */
#define KV_CATCH_UP_STEPS 64u             /* and items */
#define KV_NODE_SUBSCRIPTIONS_MAX 262144u /* watches and topics: about 1 KiB each */
#define KV_NODE_SUBSCRIPTION_BYTES_MAX \
    (64 * KV_MIB) /* of their ranges, topics and patterns: 256 for each, 8192 of the longest */
#define KV_NODE_LIVE_BYTES_MAX \
    (64 * KV_MIB) /* packed in one turn for those that are live; who is beyond reads the past */
#define KV_DEADLINE_DEFAULT_MS 5000 /* of a request that names none */
#define KV_DEADLINE_MAX_MS 600000

/* --- proposals and log --- */
#define KV_BATCH_BYTES_MAX (1 * KV_MIB)  /* one entry of many commands */
#define KV_ENTRY_BYTES_MAX (17 * KV_MIB) /* one entry of one largest command with its header */
#define KV_BATCH_COMMANDS_MAX 2048u      /* commands of one entry: about 2 ms of one core */
#define KV_TIME_LOG_MS 1000 /* while there are deadlines: a failover loses no more of them */
#define KV_RENEWAL_MS 500   /* between two entries for renewals of leases that wait alone */
#define KV_RENEWAL_HOLD_MS                                                                    \
    10 /* the time of an entry stands back by that for what the next one has, not by more: it \
          is what a lease that the entry renews loses */
#define KV_RENEWAL_BYTES_MAX \
    (8 * KV_MIB) /* of renewals in one entry, which go in together: 800,000 leases */
#define KV_RENEWAL_REQUEST_BYTES_MAX \
    (64 * KV_KIB)                   /* of one that is gathered: the ids of a largest one take 45 */
#define KV_INFLIGHT_ENTRIES_MAX 16u /* guard 18: proposed, not committed */
#define KV_INFLIGHT_BYTES_MAX (32 * KV_MIB)
#define KV_APPEND_BYTES_MAX (4 * KV_MIB) /* entries of one AppendEntries, or one larger entry */
#define KV_APPEND_ENTRIES_MAX 64u        /* raft_set_max_inflight_entries */
#define KV_ENTRY_CACHE_BYTES_MAX (64 * KV_MIB) /* beyond it entries are read back from the log */
#define KV_WAL_SEGMENT_BYTES (64 * KV_MIB)
#define KV_WAL_SEGMENT_BYTES_MAX \
    (1024 * KV_MIB)                          /* read whole at start; a larger file is no segment */
#define KV_WAL_QUEUE_BYTES_MAX (64 * KV_MIB) /* handed to the log thread, not yet synced */
#define KV_WAL_SLICE_BYTES                                                                       \
    (256 * KV_KIB) /* zero-filled and synced at a time: with 1 MiB the log's own syncs took 4 ms \
                    */
#define KV_WAL_SEQUENCE_SKIP \
    (1ULL << 24) /* record numbers left out at a start: lost ones had them */
#define KV_DISK_RESERVE_BYTES                                                                  \
    (64 * KV_MIB) /* kept free: below it what grows gets NO_SPACE; below half of it a follower \
                     takes no entries */
#define KV_FULL_DISK_PATIENCE_ELECTIONS \
    4u /* election timeouts that a full node leaves to those with room before it campaigns */

/* --- snapshots --- */
#define KV_SNAPSHOT_LOG_BYTES \
    (64 * KV_MIB) /* applied since the last one, or half of the state if that is more */
#define KV_SNAPSHOT_SLICE_BYTES \
    (4 *                        \
     KV_MIB) /* written or loaded in one job; then others have the worker, and it may be ended */
#define KV_SNAPSHOT_PIECES_AHEAD 2u /* received and not yet written */
#define KV_PIN_BYTES_MAX \
    (512 * KV_MIB) /* of replaced versions that a snapshot under way keeps; then it is given up */
#define KV_SNAPSHOTS_MAX 8u                   /* kept: two, and those that somebody still fetches */
#define KV_SNAPSHOT_FETCH_TIMEOUT_MS 1000     /* a piece that does not come is asked for again */
#define KV_SNAPSHOT_FETCH_TIMEOUT_MAX_MS 8000 /* where the network is slow */
#define KV_SNAPSHOT_FETCH_IDLE_MS \
    10000 /* nothing heard: the fetch is given up, its file is kept no longer for it */
#define KV_SNAPSHOT_RETRY_MS 10000 /* after a snapshot that could not be written or fetched */
#define KV_SNAPSHOT_BLOCK_BYTES (256 * KV_KIB) /* raw: large enough for lz4, small in memory */
#define KV_SNAPSHOT_BLOCK_BYTES_MAX KV_ENTRY_BYTES_MAX /* a block of one largest item */
#define KV_SNAPSHOT_PIECE_BYTES (1 * KV_MIB)           /* of a transfer */
#define KV_SNAPSHOT_PIECE_BYTES_MIN \
    (64 * KV_KIB) /* asked for where the network is slow: 8 s at 64 kbit/s */
#define KV_SNAPSHOT_SYNC_BYTES \
    (1 * KV_MIB) /* written between two syncs: with 4 MiB the log's p99 doubled meanwhile */
#define KV_SNAPSHOT_PART_SYNC_BYTES \
    (1 * KV_MIB) /* received between two: with 8 MiB the p99 of logs on the same disk doubled */
#define KV_SNAPSHOT_BYTES_MAX \
    (1024 * 1024 * KV_MIB)        /* no memory holds the state: a descriptor that says so lies */
#define KV_SNAPSHOT_FILES_MAX 64u /* looked at in snap/ at a time; two and a part are normal */
#define KV_CONFIGURATION_BYTES_MAX (16 * KV_KIB) /* encoded: all members with longest addresses */

/* --- the same state everywhere --- */
#define KV_STATE_HASH_ENTRIES 4096u /* between two comparisons: some seconds under load */
#define KV_STATE_HASH_NOTES 16u     /* kept: a member that is further behind is compared later */

/* --- peers --- */
#define KV_MEMBERS_MAX 15u
#define KV_PEER_FRAGMENT_BYTES (64 * KV_KIB)
#define KV_PEER_MESSAGE_BYTES_MAX \
    (20 * KV_MIB) /* one entry at its largest with the rest of the message */
#define KV_PEER_QUEUE_BYTES_MAX \
    (64 * KV_MIB) /* per peer; beyond it messages are dropped, raft retries */
#define KV_PEER_QUEUE_MESSAGES_MAX 4096u /* small ones: raft sends a few per heartbeat and peer */
#define KV_PEER_BULK_QUEUE_BYTES_MAX \
    (8 * KV_MIB) /* per peer: a few pieces of snapshots ahead of the throttle */
#define KV_PEER_BULK_BYTES_PER_S_DEFAULT \
    (256 * KV_MIB) /* to each peer: leaves most of a 10 Gbit/s network to the log */
#define KV_PEER_BULK_BURST_BYTES (1 * KV_MIB)        /* at once: some milliseconds of the network */
#define KV_PEER_BULK_BYTES_PER_S_MAX (1000 * KV_MIB) /* a burst each millisecond */
#define KV_PEER_BULK_IDLE_MS 5000                    /* then its connection is closed */
#define KV_PEER_ACCEPTED_MAX \
    124u /* connections: two of each member, as many that are being replaced, and strangers */
#define KV_PEER_BACKOFF_MIN_MS 20
#define KV_PEER_BACKOFF_MAX_MS 1000
#define KV_FORWARD_MAX 16384u      /* forwarded commands that wait for the leader's reply */
#define KV_READS_MAX 65536u        /* reads that wait for a confirm round */
#define KV_CONFIRM_TIMEOUT_MS 1000 /* a lost confirm or read-index request is NO_LEADER */
#define KV_ELECTION_TIMEOUT_MS 300
#define KV_HEARTBEAT_TIMEOUT_MS 50
/* Followers apply so much later than they could when no more writes come: well above what passes
 * between two writes of one busy client, too little to be seen by who reads there. */
#define KV_COMMIT_NOTICE_MS 2
#define KV_TRANSFER_TIMEOUT_MS 1000 /* SIGTERM waits no longer for a successor */

/* --- libkv --- */
#define KV_CLIENT_ENDPOINTS_MAX 16u   /* given and learned: all members with one to spare */
#define KV_CLIENT_REQUESTS_MAX 65536u /* that have no answer yet, of one client: KV_BUSY beyond */
#define KV_CLIENT_BYTES_MAX (256 * KV_MIB) /* their requests together */
#define KV_CLIENT_FIELDS_BYTES 64u         /* of a frame, for what differs between two tries */
#define KV_CLIENT_OUT_BYTES_MAX \
    (32 * KV_MIB) /* packed for one connection and not yet taken; the rest waits its turn */
#define KV_CLIENT_CONNECT_TIMEOUT_MS 2000 /* connection and hello; then it counts as failed */
#define KV_CLIENT_TRY_NEXT_MS 150 /* a connection that takes longer is overtaken by another */
#define KV_CLIENT_STALL_MS 1000   /* requests and no byte for so long: try another endpoint */
/* A node that says that it is not to be trusted is left alone for so long, as the leader too: no
 * request of the usual deadline comes back to it. */
#define KV_CLIENT_SHUN_MS 5000
#define KV_CLIENT_RETRY_MIN_MS 5   /* backoff of one request, with jitter */
#define KV_CLIENT_RETRY_MAX_MS 100 /* an election takes a few hundred */
#define KV_CLIENT_RECONNECT_MIN_MS 20
#define KV_CLIENT_RECONNECT_MAX_MS 1000
#define KV_CLIENT_STREAM_CREDIT_BYTES (1 * KV_MIB) /* of one stream ahead of its reader */
#define KV_CLIENT_IDLE_MS 3000  /* streams and no byte for so long: is it alive? */
#define KV_CLIENT_PROBE_MS 3000 /* no byte for so long after the question: it is not */
/* So old may the revision be that a stream without events resumes at: history may be short. */
#define KV_CLIENT_PROGRESS_MS 10000
#define KV_CLIENT_PROGRESS_MIN_MS 100
#define KV_CLIENT_QUEUE_BYTES (4 * KV_MIB) /* of one stream, not yet taken by the program */
#define KV_CLIENT_QUEUE_BYTES_MAX (256 * KV_MIB)
/* What one transaction publishes fits a request, so a revision of messages is always held until it
 * is complete: which of them the last n are cannot be asked again. */
#define KV_CLIENT_MESSAGES_BYTES_MAX (2 * KV_REQUEST_BYTES_MAX)
#define KV_CLIENT_LEASES_MAX 100000u  /* held by one client: what the cluster is measured with */
#define KV_CLIENT_RENEWALS_MAX 4096u  /* leases in one LeaseKeepAlive, as kv.proto says */
#define KV_CLIENT_RENEWAL_LOG_MS 500u /* the cluster answers renewals so late (kv.proto) */

_Static_assert(KV_CONNECTION_REQUESTS_MAX <= KV_SESSION_WINDOW,
               "a full connection is within the window");
_Static_assert(KV_REQUEST_BYTES_MAX < KV_ENTRY_BYTES_MAX, "the largest request fits an entry");
_Static_assert(KV_ENTRY_BYTES_MAX < KV_PEER_MESSAGE_BYTES_MAX,
               "the largest entry fits a peer message");
_Static_assert(KV_PEER_MESSAGE_BYTES_MAX +
                       16 * (KV_PEER_MESSAGE_BYTES_MAX / KV_PEER_FRAGMENT_BYTES) <
                   KV_PEER_QUEUE_BYTES_MAX,
               "the largest peer message fits an empty queue");
_Static_assert(4 * KV_MEMBERS_MAX < KV_PEER_ACCEPTED_MAX, "members leave room for newcomers");
_Static_assert(KV_ENTRY_BYTES_MAX < KV_WAL_SEGMENT_BYTES, "the largest entry fits a segment");
_Static_assert(KV_MEMBERS_MAX *(KV_NAME_BYTES_MAX + 32) < KV_CONFIGURATION_BYTES_MAX,
               "all members fit a configuration");
_Static_assert(KV_SNAPSHOT_FETCH_TIMEOUT_MAX_MS < KV_SNAPSHOT_FETCH_IDLE_MS,
               "a slow piece comes before the fetch is given up");
_Static_assert(KV_SNAPSHOT_PIECE_BYTES < KV_PEER_MESSAGE_BYTES_MAX, "a piece fits a peer message");
_Static_assert(KV_WAL_SEQUENCE_SKIP * 48 > 4 * KV_WAL_QUEUE_BYTES_MAX,
               "a start leaves out more record numbers than the log's queue can hold");
_Static_assert(KV_VALUE_BYTES_MAX * 2 <= KV_REQUEST_BYTES_MAX, "two largest values fit a request");
_Static_assert((KV_LIMITER_FULL_MS_MAX + 1) * KV_LIMITER_RATE_MAX < 1ULL << 63 &&
                   KV_LIMITER_BURST_MAX * KV_LIMITER_PERIOD_MS_MAX < 1ULL << 63 &&
                   KV_LIMITER_RATE_MAX * KV_LIMITER_RATE_MAX < 1ULL << 63,
               "a limiter's numbers do not overflow");
_Static_assert(KV_REQUEST_BYTES_MAX * 2 <= KV_COMMAND_WRITTEN_BYTES_MAX,
               "what one request carries can be written");
_Static_assert(2 * KV_TXN_DEPTH_MAX + 5 <= KV_NESTING_DEPTH_MAX,
               "a request, for each transaction itself and its operation, then a range by score: "
               "command, span, scores, bound");
_Static_assert(KV_INLINE_ELEMENTS_MAX <= 255 && KV_INLINE_BYTES_MAX < 128 * 128,
               "numbers and sizes of the inline form fit their bytes");
_Static_assert(KV_RENEWAL_BYTES_MAX + 2 * KV_BATCH_BYTES_MAX <= KV_ENTRY_BYTES_MAX,
               "renewals and commands fit an entry");
_Static_assert(2 * KV_RENEWAL_MS <= KV_LEASE_TTL_MIN_MS, "two renewals in the shortest lease");
_Static_assert(KV_BATCH_BYTES_MAX <= KV_INFLIGHT_BYTES_MAX, "a batch fits the window");
_Static_assert(KV_ENTRY_BYTES_MAX <= KV_INFLIGHT_BYTES_MAX, "a largest entry fits the window");
_Static_assert(KV_HEARTBEAT_TIMEOUT_MS * 3 <= KV_ELECTION_TIMEOUT_MS, "two heartbeats may be lost");
_Static_assert(KV_REQUEST_BYTES_MAX < KV_CLIENT_OUT_BYTES_MAX, "the largest request can be sent");
_Static_assert(KV_CLIENT_STREAM_CREDIT_BYTES <= KV_STREAM_CREDIT_MAX,
               "a stream's credit is granted");
_Static_assert(KV_NODE_REQUESTS_MAX *KV_NET_ANSWER_BYTES_SMALL <= KV_NET_ANSWER_BYTES_MAX,
               "small answers to all requests have room");
_Static_assert(KV_MEMBERS_MAX < KV_CLIENT_ENDPOINTS_MAX, "every member can be an endpoint");

#endif
