/* The simulator: a cluster of real nodes (raft/, machine, server/node) and real clients (the
 * session core of libkv) in one thread. Clocks, network, disks and workers are simulated; all
 * chance comes from one seed. What the files of the simulator share.
 *
 * Time is simulated ns of one clock that nobody in the simulation sees; each node has its own. */
#ifndef KV_TESTS_SIM_SIM_H
#define KV_TESTS_SIM_SIM_H

#include "client/session.h"
#include "raft/replica_internal.h"
#include "raft/wal_internal.h"
#include "server/node/node_internal.h"
#include "tests/sim/calls.h"
#include "tests/sim/check.h"
#include "tests/sim/checkers.h"
#include "tests/sim/follow.h"
#include "tests/sim/lives.h"
#include "tests/support/fake_disk.h"

#include <stdio.h>

enum {
    SIM_NODES_MAX = 7,
    SIM_CLIENTS_MAX = 8,
    SIM_RESUMERS_MAX = 2,  /* the last ones of the clients */
    SIM_FOLLOWERS_MAX = 4, /* behind the clients, as peers of connections */
    SIM_STREAMS_MAX = 3,   /* of each */
    SIM_CROWD_MAX = 90,    /* of a follower that is a crowd: more than tables begin with */
    SIM_NOTES = 512,
    SIM_LANES = 3,
    SIM_FILES_MAX = 512
};
#define SIM_MS UINT64_C(1000000)

/* ---------------------------------------------------------------- what a run does */

enum sim_fault {
    SIM_KILL,          /* kill -9 of a process: its files stay as written */
    SIM_POWER,         /* power loss: what is not synced may be lost, torn, reordered */
    SIM_CUT,           /* power loss, or kill, in the middle of a job or of a recovery */
    SIM_STOP,          /* SIGTERM */
    SIM_PAUSE,         /* SIGSTOP */
    SIM_PARTITION,     /* two groups of nodes that do not hear each other */
    SIM_ONE_WAY,       /* one node does not hear another */
    SIM_SLOW_LINK,     /* few bytes per second and long delays to and from a node */
    SIM_RESET,         /* a connection between nodes is lost */
    SIM_LOSS,          /* messages are lost for a while */
    SIM_CLOCK,         /* the rate of a node's clock changes */
    SIM_SLOW_DISK,     /* syncs take long */
    SIM_STALL,         /* the disk does nothing at all */
    SIM_FULL_DISK,     /* */
    SIM_SYNC_FAILS,    /* the node must end */
    SIM_FLIP,          /* a bit of what was synced long ago changes: must be refused */
    SIM_TRANSFER,      /* an operator moves leadership */
    SIM_CLIENT_RESET,  /* a client's connections are lost */
    SIM_SNAPSHOT,      /* an operator asks for a snapshot */
    SIM_CUT_SNAPSHOT,  /* as SIM_CUT, in a job of the snapshot worker */
    SIM_BEHIND,        /* a follower hears nobody until the log that it needs is released */
    SIM_BAD_SNAPSHOTS, /* calls for snapshots fail: the node goes on without them */
    SIM_BAD_LOG,       /* reads of the log fail: the node may end */
    SIM_DIFFER,        /* a bit flips in memory: the state is not that of the others */
    SIM_FAULTS,
};
extern const char *const sim_fault_names[SIM_FAULTS];

/* What rots, where anything does. */
enum sim_rot {
    SIM_ROT_ANYWHERE,
    SIM_ROT_SERVED,  /* a snapshot while it is sent */
    SIM_ROT_FETCHED, /* one that was received, before it is loaded */
    SIM_ROT_LOG,     /* entries that are read back */
    SIM_ROTS
};

struct sim_options {
    uint64_t seed;
    unsigned n_nodes;      /* 0: the seed chooses */
    uint64_t duration_ms;  /* of load and faults; 0: the seed chooses */
    uint64_t commands_max; /* 0: no bound */
    uint32_t faults_off;   /* bits of enum sim_fault */
    unsigned faults_rarer; /* each fault comes so many times more seldom; 0: as the seed says */
    const char *profile;   /* NULL: a mix by seed; else one of sim_profile_names */
    bool trace;            /* print the timeline */
};

/* The seed's own mix. Mean times between two faults of a kind; 0: never. */
struct sim_profile {
    const char *name;
    unsigned n_nodes, n_clients;
    uint64_t duration_ms;
    uint64_t fault_every_ms[SIM_FAULTS];
    uint64_t segment_bytes;
    uint64_t snapshot_log_bytes, snapshot_slice_bytes;
    unsigned snapshot_job_times; /* slower than other jobs */
    uint64_t bulk_bytes_per_ms;
    unsigned bulk_loss_permille;
    unsigned delay_min_us, delay_spread_us;
    unsigned spike_permille, spike_max_ms; /* of messages, and how late they may be */
    unsigned job_min_us, job_spread_us;
    unsigned drift_ppm;
    unsigned think_ms, pipeline; /* of each client */
    unsigned n_keys, value_max;
    unsigned write_percent, hot_percent, rare_permille;
    unsigned deadline_ms;
    unsigned n_readers;      /* the first so many clients only read, and stay where they are */
    unsigned leader_percent; /* of faults of one node: they strike the leader */
    unsigned slow_percent;   /* of partitions: a leader that is cut off has a slow clock */
    unsigned restart_ms;     /* mean time until a process starts again */
    enum sim_rot rot;
    unsigned full_times;         /* disks are full so many times longer */
    uint64_t snapshot_pin_bytes; /* 0: as usual */
    bool slow_log_alone;         /* slow and stalled disks: other jobs than the log's go on */
    size_t entry_cache_bytes;
    uint64_t state_hash_entries;
    bool stay, compress;
    unsigned session_ttl_ms; /* 0: writes are not exactly-once */
    unsigned
        types_percent; /* of commands: on keys of all types, which the log judges; 0: strings */
    unsigned counters_percent;    /* of the others: on counters, which the search judges */
    unsigned txn_percent;         /* of those of all types: transactions */
    unsigned type_keys;           /* of each type */
    unsigned elements;            /* that collections choose from */
    unsigned element_bytes;       /* so much longer than a number are they all */
    unsigned session_open_weight; /* among commands of all types */
    bool crowds;                  /* lists with many insertions at one place */
    bool is_tight;                /* settings are mostly as low as can be */
    unsigned spoil_percent;       /* of those of all types, and of lives: no client should ask so */
    char types[8];                /* a letter for each that is in the mix */
    unsigned queue_percent;       /* of commands: pushes and pops, also such that wait; 0: none */
    unsigned queues;              /* lists that they are on */
    bool has_data_limit;          /* it is set now and then */
    unsigned lives_percent;       /* of commands: on keys that end by themselves, and leases */
    bool leases_are_full;         /* some have many keys */
    unsigned topics_percent;      /* of commands: publications */
    unsigned n_followers;         /* clients that watch */
    unsigned locks_percent;       /* of commands: about locks */
    unsigned room_bytes;          /* that a connection takes of streams in a turn; 0: all */
    unsigned n_resumers;          /* clients that watch through libkv */
    unsigned slow_follow_percent; /* of their streams: they give little credit */
    unsigned crowd;               /* so many streams has the first follower; 0: as the others */
    unsigned little_credit;    /* bytes that readers of streams give at first, at most; 0: much */
    unsigned large_percent;    /* of commands: more at a revision than an item of a stream */
    unsigned many_percent;     /* of those on keys that end: on many that end at once */
    unsigned look_us;          /* of a node, from one look at its clock to the next; 0: none */
    unsigned first_data_limit; /* that a new cluster is told to begin with; 0: none */
    bool repeats;              /* some puts may be done twice; what the search allows is once */
};
extern const char *const sim_profile_names[];

/* ---------------------------------------------------------------- events */

enum sim_event_kind {
    SIM_EV_MESSAGE,
    SIM_EV_JOB_RUN,
    SIM_EV_JOB_DONE,
    SIM_EV_TIMER,
    SIM_EV_CONNECT,
    SIM_EV_DISCONNECT,
    SIM_EV_START,
    SIM_EV_TO_SERVER, /* bytes of a client; none: it has closed */
    SIM_EV_TO_CLIENT, /* bytes of a server; none: it has closed */
    SIM_EV_CLIENT_CONNECT,
    SIM_EV_CLIENT_TIMER,
    SIM_EV_CLIENT_THINKS,
    SIM_EV_FAULT,
    SIM_EV_FAULT_END,
    SIM_EV_KINDS,
};
extern const char *const sim_event_names[SIM_EV_KINDS];

struct sim_event {
    uint64_t time_ns;
    uint64_t order;
    uint64_t incarnation; /* of the node; void after its end */
    uint64_t number;      /* epoch of a link, a connection, or what the kind needs */
    void *data;           /* a job; or bytes, from sim_alloc */
    uint32_t size;
    uint8_t kind, node, peer, lane;
};

/* Chance: a stream for each purpose, so that leaving something out changes little else. */
enum sim_stream {
    SIM_RANDOM_NET,
    SIM_RANDOM_DISK,
    SIM_RANDOM_NODE,
    SIM_RANDOM_LOAD,
    SIM_RANDOM_FAULT,                                 /* and one per kind of fault */
    SIM_RANDOM_SWARM = SIM_RANDOM_FAULT + SIM_FAULTS, /* who is struck, who only reads */
    SIM_RANDOM_KEYS,                                  /* how many there are */
    SIM_RANDOM_TYPES,                                 /* what is done with keys of all types */
    SIM_RANDOM_QUEUES,                                /* pops that wait, limits, compaction */
    SIM_RANDOM_FOLLOW,                                /* what is watched, and how */
    SIM_RANDOM_LIVES,                                 /* ttls and leases */
    SIM_RANDOM_TOPICS,                                /* what is published */
    SIM_RANDOM_RESUME,                                /* what is watched through libkv */
    SIM_RANDOM_LOCKS,                                 /* who takes which lock */
    SIM_RANDOM_SIZES,                                 /* of what is large in a usual cluster */
    SIM_RANDOM_FILES,                                 /* what becomes of files */
    SIM_RANDOM_RARE,                                  /* what few runs have, and how */
    SIM_RANDOM_STREAMS
};

/* ---------------------------------------------------------------- nodes */

struct sim;
struct sim_node;

struct sim_worker {
    struct sim_node *node;
    uint64_t free_ns; /* when its last job ends: one at a time */
    uint64_t done_ns; /* when that is told */
};

struct sim_clock {
    uint64_t global_ns, local_ns; /* the same moment */
    uint64_t rate_ppm;            /* local time per global time */
};

/* Where a synced batch of the log lies, for bit flips that must be noticed. */
struct sim_place {
    char name[KV_WAL_NAME_BYTES];
    uint64_t offset;
};
enum { SIM_PLACES = 4 };

struct sim_node {
    struct sim *sim;
    unsigned id;
    bool is_up;
    bool has_stopped;       /* told by the node */
    bool is_closing;        /* nothing that it says leaves */
    bool may_die;           /* a storage fault was injected since it started */
    unsigned n_disk_faults; /* under way, that it may end itself for */
    bool is_full;           /* its disk */
    bool is_bad;            /* a part of it */
    bool is_damaged;        /* a bit of it was changed; never wiped, may refuse to start */
    uint64_t hash_error;    /* what its state hash is too large by */
    bool has_differed;      /* in this process */
    bool is_lost;           /* it has refused to start */
    bool is_dying;
    bool power_fails_at_cut;
    uint64_t incarnation;
    struct fake_disk *disk;
    struct kv_node *node;
    struct kv_net_handler handler;
    struct kv_replica_ops replica_ops; /* its own, with our apply */
    void (*apply)(
        void *arg, uint64_t index, uint64_t term, enum kv_entry_type type, struct kv_slice data);
    void (*install)(void *arg, void *restore, uint64_t index); /* likewise */
    bool cut_snapshot;   /* the disk is cut in the next job of the snapshot worker */
    bool cut_at_release; /* when the log next releases segments */
    unsigned flaps;      /* it is killed so many times more, each time soon after its start */
    struct sim_worker workers[3];
    struct sim_clock clock;
    uint64_t told_ns;        /* by its clock, which is slow to look at */
    uint64_t timer_ms;       /* on its clock */
    uint64_t timer_event_ns; /* when the earliest timer event comes */
    uint64_t paused_until_ns;
    uint64_t stalled_until_ns; /* its disk */
    unsigned slow_disk;        /* jobs take so many times longer; 0: not */
    struct sim_place places[SIM_PLACES];
    unsigned n_places;
    enum kv_role last_role;
    uint64_t last_term;
    struct sim_conn *conns;
    char why[200]; /* it ended */
};

struct sim_link {
    uint64_t epoch;                  /* of the sender's connection; 0: down */
    uint64_t heard;                  /* epoch from which the receiver still takes messages */
    uint64_t delivery_ns[SIM_LANES]; /* of the newest message */
    uint64_t blocked_ns[SIM_LANES];  /* nothing is delivered before */
    uint64_t silent_ns;              /* since when nothing came through; 0: it does */
    uint64_t free_ns;                /* slow links: when the last byte has left */
    size_t queued_bytes;
    unsigned failures;
    bool is_cut;
    bool is_slow;
};

/* ---------------------------------------------------------------- clients */

struct sim_conn {
    uint64_t number;
    unsigned client, endpoint, node;
    uint64_t incarnation; /* of the node */
    bool is_open;         /* at the server */
    bool hello_done, lz4;
    uint64_t to_server_ns, to_client_ns; /* newest deliveries */
    struct kv_buf in, out;
    struct sim_op *ops;
    struct kv_listener listener;
    struct sim_conn *next; /* of the node */
};

struct sim_client {
    struct sim *sim;
    unsigned id; /* from 0 */
    struct kv_session *session;
    uint64_t conns[KV_CLIENT_ENDPOINTS_MAX]; /* numbers; 0: none */
    uint64_t timer_event_ns;
    unsigned n_pending;
    uint64_t n_commands;
    uint64_t healed_writes; /* acknowledged since the faults have ended */
    uint64_t last_id;       /* to cancel */
    uint64_t waiting_id;    /* of its newest pop that waits, or did */
    uint64_t n_published;
    int64_t tokens[2];   /* of the locks that it believes to hold; 0: it does not */
    uint64_t n_pushed;   /* values, each like no other */
    uint64_t heard_from; /* node and its incarnation, while an answer is handled */
};

/* What a follower wants to know for the whole run: streams of it follow each other. */
struct sim_interest {
    uint8_t *request; /* packed */
    size_t request_size;
    struct followed *now; /* NULL: it is not open */
    uint64_t id;
    int64_t next; /* revision to go on with; 0: now */
    bool is_slow;
};

struct resumed;
struct sim_resumed {
    struct resumed *resumed; /* NULL: it is not open */
    struct followed *followed;
};

struct sim_follower {
    struct sim *sim;
    unsigned id;   /* from 0 */
    uint64_t conn; /* number; 0: none */
    bool is_ready; /* the server has said hello */
    uint64_t heard_ns, last_id;
    struct kv_buf in;
    struct sim_interest streams[SIM_CROWD_MAX];
    unsigned n_streams;
};

struct sim_note {
    uint64_t time_ns;
    unsigned node;
    char text[104];
};

struct sim_counts {
    uint64_t faults[SIM_FAULTS];
    uint64_t events, messages, commands, acknowledged_writes, unknown, refused, reads;
    uint64_t restarts, recoveries_cut, refusals, entries, snapshots, installs, simulated_ns,
        keys_given_up, streams, stream_items;
};

struct sim {
    struct sim_options options;
    struct sim_profile profile;
    uint64_t start_ns, now_ns, end_ns;
    bool has_healed;
    bool load_ended;
    bool is_over;
    uint64_t order;
    uint64_t random[SIM_RANDOM_STREAMS];
    struct sim_event *events; /* heap */
    size_t n_events, events_capacity;
    struct sim_node nodes[SIM_NODES_MAX + 1];
    struct sim_link links[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1];
    uint64_t next_epoch;
    unsigned loss_permille;
    uint64_t slow_bytes_per_ms; /* of slow links */
    unsigned behind;            /* the node that is kept so; 0: none */
    uint64_t behind_until_ns;   /* at the latest */
    struct kv_node_member members[SIM_NODES_MAX];
    char addresses[SIM_NODES_MAX][32];
    struct sim_client clients[SIM_CLIENTS_MAX];
    struct sim_follower followers[SIM_FOLLOWERS_MAX];
    struct sim_resumed resumed[SIM_RESUMERS_MAX][SIM_STREAMS_MAX];
    struct followed **followed; /* all streams that ever were */
    size_t n_followed, followed_capacity;
    struct kv_arena follow_arena;
    struct truth truth;
    struct lives lives;
    int64_t chosen_lease;    /* the newest that the cluster gave a number */
    int64_t known_revision;  /* newest that anybody was told of */
    struct sim_conn **conns; /* by number - 1 */
    size_t n_conns, conns_capacity;
    struct sim_op *free_ops;
    void *free_memory[32]; /* by power of two */
    struct checkers checkers;
    struct history history;
    struct kv_history *recorded; /* the same, for the search */
    struct kv_arena typed;       /* the request of all types that is being made */
    uint64_t trace_hash;
    struct sim_note notes[SIM_NOTES];
    uint64_t n_notes;
    struct sim_counts counts;
};

/* sim.c */
struct sim *sim_new(const struct sim_options *options);
void sim_free(struct sim *sim);
/* Runs it to its end and checks everything. False: checkers.message says what is wrong. */
bool sim_run(struct sim *sim);
uint64_t sim_random(struct sim *sim, enum sim_stream stream, uint64_t below);
/* Around the mean, never 0. */
uint64_t sim_random_time(struct sim *sim, enum sim_stream stream, uint64_t mean);
bool sim_chance(struct sim *sim, enum sim_stream stream, unsigned permille);
uint64_t sim_push(struct sim *sim, struct sim_event event);
/* Messages of a link that would come later come then, in their order. */
void sim_hasten(struct sim *sim, unsigned from, unsigned to, uint64_t time_ns);
void *sim_alloc(struct sim *sim, size_t size);
void sim_release(struct sim *sim, void *memory);
void sim_note(struct sim *sim, unsigned node, const char *format, ...) KV_PRINTF(3, 4);
void sim_fail(struct sim *sim, const char *format, ...) KV_PRINTF(2, 3);
/* The last events, by node. */
void sim_print_notes(const struct sim *sim, FILE *file);

/* sim_profile.c */
void sim_profile_choose(struct sim *sim);

/* sim_node.c */
void sim_node_init(struct sim *sim, unsigned id);
void sim_node_start(struct sim_node *node);
/* After a machine came into the node: it is made as shape.h says, every other one wholly. */
void sim_node_shape_machine(struct sim_node *node);
enum sim_end { SIM_END_STOPPED, SIM_END_KILLED, SIM_END_POWER };
void sim_node_end(struct sim_node *node, enum sim_end how);
void sim_node_restart_later(struct sim_node *node);
uint64_t sim_node_now_ns(const struct sim_node *node);
/* Of its machine, as it would be without a bit that has flipped in it. */
uint64_t sim_node_state_hash(const struct sim_node *node);
void sim_node_set_rate(struct sim_node *node, uint64_t rate_ppm);
void sim_node_arm(struct sim_node *node);
void sim_node_on_timer(struct sim_node *node);
void sim_node_run_job(struct sim_node *node, struct sim_event *event);
/* After every event in which the node was called. */
void sim_node_turn(struct sim_node *node);

/* sim_watch.c: what nodes do is told to the checkers */
void sim_watch_start(struct sim_node *node);
void sim_watch_turn(struct sim_node *node);
/* Before it: does it begin the log anew behind a snapshot? */
bool sim_watch_job(struct sim_node *node, struct kv_job *job, bool before);
void sim_watch_message(struct sim_node *node, struct kv_slice message);

/* sim_snapshots.c */
void sim_snapshots_look(struct sim_node *node);
/* The part of a snapshot that is being fetched, if there is one: what it notes is there. */
void sim_snapshots_look_at_part(struct sim_node *node);
/* Somebody may want an own one just while another is fetched, or the log has no room. */
void sim_snapshots_before_job(struct sim_node *node);
void sim_snapshots_on_install(void *arg, void *restore, uint64_t index);
/* All nodes hold the same, former versions of keys too. */
void sim_snapshots_check_end(struct sim *sim);

/* sim_disk.c */
/* The members that were never damaged stay a majority. */
bool sim_disk_may_damage(const struct sim *sim);
/* A bit changes, of what was synced long ago. False: not now. */
bool sim_disk_flip(struct sim_node *node);
/* In some runs it is just that which the job reads, or there is no room for what it makes. */
void sim_disk_before_job(struct sim_node *node, const struct kv_job *job);
void sim_disk_fill(struct sim_node *node);
/* Some calls fail: of files of snapshots, or reads of the log. False: not now. */
bool sim_disk_go_bad(struct sim_node *node, enum sim_fault fault);
void sim_disk_be_well(struct sim_node *node);

/* sim_net.c */
extern const struct kv_net_ops sim_net_ops;
void sim_net_on_message(struct sim *sim, struct sim_event *event);
void sim_net_on_stray(struct sim *sim, const struct sim_event *event);
void sim_net_on_connect(struct sim *sim, const struct sim_event *event);
void sim_net_on_disconnect(struct sim *sim, const struct sim_event *event);
void sim_net_node_started(struct sim *sim, unsigned node);
void sim_net_node_ended(struct sim *sim, unsigned node, bool abrupt);
/* What a slow link has queued is sent as fast as others send. */
void sim_net_quicken(struct sim *sim, unsigned from, unsigned to);
void sim_net_lose(struct sim *sim, unsigned from, unsigned to);

/* sim_server.c: what server/net is to a node */
extern const struct kv_node_ops sim_node_ops;
struct sim_conn *
sim_server_accept(struct sim *sim, unsigned node, unsigned client, unsigned endpoint);
void sim_server_on_bytes(struct sim *sim, struct sim_event *event);
void sim_server_on_stray(struct sim *sim, struct sim_event *event);
void sim_server_flush(struct sim_node *node);
void sim_server_node_ended(struct sim_node *node, bool abrupt);
void sim_server_free(struct sim *sim);
struct sim_conn *sim_conn_of(struct sim *sim, uint64_t number);

/* sim_client.c */
void sim_client_open(struct sim *sim, unsigned id);
void sim_client_on_event(struct sim *sim, struct sim_event *event);
void sim_client_pump(struct sim_client *client);
void sim_client_reset(struct sim_client *client);
/* Bytes, or none: it closes. */
void sim_client_send(struct sim *sim, struct sim_conn *conn, struct kv_slice bytes);

/* sim_locks.c */
/* To take a lock, to write under it, to renew its lease, to give it back; in the arena. */
void sim_locks_draft(struct sim_client *client, struct kv_arena *arena, Kv__Request *request);
void sim_locks_ended(struct sim_client *client,
                     const struct history_call *call,
                     const Kv__Reply *reply);

/* sim_resume.c */
void sim_resume_think(struct sim_client *client);
bool sim_resume_is_caught_up(const struct sim *sim, int64_t revision);
void sim_resume_free(struct sim *sim);

/* sim_lives.c */
/* A command on keys that end, or on leases; in the arena. */
void sim_lives_draft(struct sim *sim, struct kv_arena *arena, bool is_write, Kv__Request *request);
/* Nothing is left on any node that ends by itself. */
bool sim_lives_are_over(const struct sim *sim);

/* sim_topics.c */
/* A publication, or several in a transaction; in the arena. */
void sim_topics_draft(struct sim_client *client, struct kv_arena *arena, Kv__Request *request);

/* sim_large.c */
/* More than an item of a stream holds, at one revision; in the arena. */
void sim_large_draft(struct sim_client *client, struct kv_arena *arena, Kv__Request *request);

/* sim_follow.c */
void sim_follow_begin(struct sim *sim);
/* Something to follow. */
void sim_follow_choose(struct sim *sim, struct sim_interest *ret_interest);
/* Takes it, until the end of the run. */
void sim_follow_keep(struct sim *sim, struct followed *followed);
uint64_t sim_follow_progress_ms(const Kv__Request *request);
void sim_follow_free(struct sim *sim);
void sim_follow_on_event(struct sim *sim, const struct sim_event *event);
/* All are open and have told everything up to the revision. */
bool sim_follow_is_caught_up(const struct sim *sim, int64_t revision);
/* Judges all streams by the truth. */
void sim_follow_check(struct sim *sim);

/* sim_load.c */
void sim_load_next(struct sim_client *client);
/* Asks for a snapshot. */
bool sim_load_snapshot(struct sim_client *client);

/* sim_types.c */
/* A command on keys of all types, or a transaction of them; in the arena. */
void sim_types_draft(struct sim *sim, struct kv_arena *arena, bool is_write, Kv__Request *request);

/* sim_settings.c */
enum sim_setting {
    SIM_SETTING_ANY,
    SIM_SETTING_TIGHT, /* one that commands run into, as low as can be */
    SIM_SETTING_DATA_LIMIT,
    SIM_SETTING_NO_DATA_LIMIT
};
void sim_settings_draft(struct sim *sim,
                        struct kv_arena *arena,
                        enum sim_setting what,
                        Kv__Request *request);

/* sim_spoil.c */
/* Spoils one field of the command. */
void sim_spoil(struct sim *sim, struct kv_arena *arena, Kv__Request *request);

/* sim_queue.c */
/* A push or a pop, also one that waits or is ended while it does; in the arena. False: not now. */
bool sim_queue_draft(struct sim_client *client, struct kv_arena *arena, Kv__Request *request);
/* The client gives up its newest pop that waits. */
void sim_queue_give_up(struct sim_client *client);

/* sim_fault.c */
void sim_faults_begin(struct sim *sim);
void sim_fault_on_event(struct sim *sim, const struct sim_event *event);
/* It may be one that flaps. */
void sim_fault_node_started(struct sim_node *node);
/* How many ms it lasts. */
uint64_t sim_fault_end_later(struct sim *sim, enum sim_fault fault, unsigned node);
void sim_faults_heal(struct sim *sim);

#endif
