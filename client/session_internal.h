/* Inside of the session core, shared by session.c (requests), session_link.c (connections)
 * and session_frames.c (what they carry). */
#ifndef KV_CLIENT_SESSION_INTERNAL_H
#define KV_CLIENT_SESSION_INTERNAL_H

#include "client/session.h"
#include "common/arena.h"
#include "common/assert.h"

#define KV_SESSION_NONE UINT32_MAX
#define KV_NS_PER_MS 1000000ULL

enum kv_request_state {
    KV_REQUEST_QUEUED,    /* waits for a connection; in session->queue */
    KV_REQUEST_WAITING,   /* backs off until retry_at_ns; in session->waiting */
    KV_REQUEST_SENT,      /* in the sent list of its endpoint */
    KV_REQUEST_UNSTAMPED, /* waits for a session, or for its window; in once.unstamped */
};

struct kv_request {
    struct kv_request *next;
    struct kv_request *prev;
    struct kv_request_list *list;
    enum kv_request_state state;
    uint64_t handle;  /* what the caller knows */
    uint64_t wire_id; /* new with every send, so that late answers are told apart */
    uint64_t deadline_ns;
    uint64_t retry_at_ns;
    uint64_t sent_at_ns;
    uint64_t out_end;   /* endpoint->out_bytes behind its frame */
    unsigned endpoint;  /* of the last send */
    unsigned failures;  /* in a row, for the backoff */
    bool repeatable;    /* may be sent again when the outcome is unknown */
    bool read;          /* and then nothing is unknown to the caller */
    bool maybe_done;    /* a write that was sent and had no clear answer */
    bool is_asked_once; /* a full disk or a busy node is for people to know, not to be waited for */
    bool had_items;
    bool may_repeat; /* the caller said so, or it is no write */
    bool once;       /* carries a stamp, and may be sent again for that */
    bool internal;   /* no caller's */
    bool waits;      /* a pop that the cluster lets wait */
    bool endless;    /* a watch or subscription: no deadline, and in its endpoint's streams */
    bool held;       /* its credit is kept back */
    uint64_t credit_owed;
    uint64_t session_id;
    uint64_t sequence;     /* 0: no stamp yet */
    struct kv_error *last; /* why it is not done yet; NULL: no reason known */
    kv_session_item_fn item_fn;
    kv_session_end_fn end_fn;
    void *arg;
    size_t body_size;
    uint8_t body[]; /* packed, without id, deadline and stamp */
};

struct kv_request_list {
    struct kv_request *first;
    struct kv_request *last;
    size_t count;
};

enum kv_link_state {
    KV_LINK_IDLE,
    KV_LINK_CONNECTING,
    KV_LINK_GREETING, /* hello sent */
    KV_LINK_READY,
    KV_LINK_DRAINING, /* answers still come, nothing new is sent */
};

struct kv_endpoint {
    char address[KV_CLIENT_ADDRESS_BYTES];
    enum kv_link_state state;
    bool learned; /* from a hint; may be forgotten */
    bool stalled; /* silent for too long with requests under way */
    bool connect_wanted;
    bool close_wanted;
    unsigned failures; /* in a row; 0 after a hello */
    uint64_t node_id;  /* 0: not known */
    uint64_t since_ns; /* of the state */
    uint64_t heard_ns;
    uint64_t
        asked_ns; /* of the first request that was sent since the last byte came; 0: none was */
    uint64_t retry_at_ns;
    uint64_t shunned_until_ns; /* it said that it is not to be trusted */
    char error[160];           /* why it failed last; "" never */
    struct kv_buf in;
    struct kv_buf out;
    uint64_t out_bytes;   /* ever appended to out */
    uint64_t taken_bytes; /* ever taken by the driver */
    struct kv_request_list sent;
    struct kv_request_list streams; /* endless ones that have begun */
    uint64_t probed_ns;             /* when it was asked whether it lives, for their sake */
    size_t n_abandoned;             /* under way at the server, wanted by nobody here */
    size_t requests_max;
};

enum kv_once_state {
    KV_ONCE_OFF,  /* not wanted, or unknown to the cluster */
    KV_ONCE_NONE, /* the next write opens one */
    KV_ONCE_OPENING,
    KV_ONCE_OPEN,
};

/* The exactly-once session of this client (once.c). */
struct kv_once {
    enum kv_once_state state;
    uint64_t ttl_wanted_ms; /* 0: the cluster's default */
    uint64_t session_id;
    uint64_t ttl_ns;
    uint64_t heard_ns; /* a stamped write or a renewal was answered */
    uint64_t next_sequence;
    uint64_t acknowledged_through;
    uint64_t finished[KV_SESSION_WINDOW / 64]; /* bits of sequences above it */
    size_t n_stamped;                          /* with a stamp of it, not ended */
    size_t n_stale;                            /* with one of a former session */
    size_t n_internal;                         /* requests of our own */
    bool renewing;
    struct kv_error why; /* of the newest try to open one */
    unsigned failures;   /* of such tries, in a row */
    uint64_t open_at_ns; /* not before: a try is an entry of the log */
    struct kv_request_list unstamped;
};

struct kv_session {
    char name[KV_NAME_BYTES_MAX + 1];
    uint64_t deadline_default_ns;
    bool stay;
    bool impatient;
    bool compress;
    bool closing;
    bool steering_held; /* inside an input: its end steers */
    bool submitting;    /* a request does not end from inside its submission */
    uint64_t random;
    uint64_t cluster_id; /* of the first hello; 0: none yet */
    uint64_t now_ns;     /* of the newest input */
    uint64_t wake_ns;
    struct kv_session_timer *timers;
    struct kv_session_timer *next_timer; /* while they are looked through */
    struct kv_keeper *keeper;            /* keeper.h; NULL until a lease is kept */
    struct kv_endpoint endpoints[KV_CLIENT_ENDPOINTS_MAX];
    unsigned n_endpoints;
    unsigned current;       /* where new requests go; KV_SESSION_NONE */
    unsigned want;          /* where they should go (the leader); KV_SESSION_NONE */
    uint64_t hold_until_ns; /* nothing is sent to current before, unless want is settled */
    unsigned next_try;
    struct kv_request **slots;
    size_t n_slots;
    uint32_t *free_slots;
    size_t n_free;
    uint64_t next_id;
    size_t n_requests;
    size_t request_bytes;
    struct kv_request_list queue;
    struct kv_request_list waiting;
    struct kv_once once;
    struct kv_arena arena;
};

/* --- session.c --- */
void kv_request_list_push(struct kv_request_list *list, struct kv_request *request);
void kv_request_list_push_front(struct kv_request_list *list, struct kv_request *request);
void kv_request_list_remove(struct kv_request *request);

/* Packs a request; its callbacks, argument and deadline are the caller's to fill. Errors as of
 * kv_session_submit. */
int kv_session_make(struct kv_session *session,
                    const Kv__Request *original,
                    const struct kv_call_options *options,
                    bool stream,
                    struct kv_request **ret_request) KV_MUST_CHECK;
/* Takes it. */
void kv_session_add(struct kv_session *session, struct kv_request *request);

/* The request of a wire id; NULL when it is nobody's any more. */
struct kv_request *kv_session_find(struct kv_session *session, uint64_t wire_id);
/* A wire id that no request has. */
uint64_t kv_session_spare_id(struct kv_session *session);
/* The request that the caller knows by this; NULL: it has ended. */
struct kv_request *kv_session_of_handle(struct kv_session *session, uint64_t id);
/* Gives it the id of its next send. */
void kv_session_stamp(struct kv_session *session, struct kv_request *request);
/* Calls end_fn and frees the request. */
void kv_session_end(struct kv_session *session,
                    struct kv_request *request,
                    const struct kv_session_answer *answer);
void kv_session_end_error(struct kv_session *session,
                          struct kv_request *request,
                          int status,
                          const char *format,
                          ...) KV_PRINTF(4, 5);
/* Remembers why the last try did not do it. */
void kv_request_note(struct kv_session *session,
                     struct kv_request *request,
                     int status,
                     const char *reason);
/* Not done yet, for this reason. wait: back off first. */
void kv_session_again(struct kv_session *session,
                      uint64_t now_ns,
                      struct kv_request *request,
                      bool wait,
                      int status,
                      const char *reason);
/* What to do after a final answer of a server: end, or again. */
void kv_session_answered(struct kv_session *session,
                         uint64_t now_ns,
                         struct kv_request *request,
                         const Kv__Reply *reply,
                         struct kv_slice packed);
void kv_session_wake_at(struct kv_session *session, uint64_t at_ns);
/* "address: reason; address: reason". */
void kv_session_describe(const struct kv_session *session, char *text, size_t size);

/* --- once.c --- */
/* Puts a new request where it waits. */
void kv_once_admit(struct kv_session *session, struct kv_request *request);
/* Opens a session when writes wait for one, stamps what its window lets. */
void kv_once_pump(struct kv_session *session, uint64_t now_ns);
/* Renews an idle session. */
void kv_once_on_timer(struct kv_session *session, uint64_t now_ns);
/* The request ends. */
void kv_once_finish(struct kv_session *session, const struct kv_request *request);
/* Its caller waits no longer: nor may the cluster, which would give an element to nobody. */
void kv_once_give_up(struct kv_session *session, uint64_t now_ns, const struct kv_request *request);
/* It was answered from the log: its session is not silent. */
void kv_once_answered(struct kv_session *session, const struct kv_request *request);
/* It was answered SESSION_EXPIRED. */
void kv_once_expired(struct kv_session *session, struct kv_request *request);
void kv_once_fill(const struct kv_session *session,
                  const struct kv_request *request,
                  Kv__SessionStamp *ret_stamp);

/* --- session_link.c --- */
/* Chooses where requests go, makes connections, sends what waits. At the end of every input. */
void kv_session_steer(struct kv_session *session, uint64_t now_ns);
/* Closes the connection; what was sent on it is sent again or ends. */
void kv_endpoint_lose(struct kv_session *session,
                      uint64_t now_ns,
                      struct kv_endpoint *endpoint,
                      const char *reason);
/* Nothing new goes there; what is in its buffer is still sent, since a server that is closing still
 * answers. */
void kv_endpoint_drain(struct kv_session *session, uint64_t now_ns, struct kv_endpoint *endpoint);
/* The leader is (or may be) there: want it. Learns a new address. */
void kv_session_hint(struct kv_session *session, uint64_t leader_id, const char *address);
/* It is not to be trusted: for a while nothing goes there as long as there are others, whatever
 * they say of it as the leader. False: there are none; an impatient client wants one that was not
 * tried in vain. */
bool kv_endpoint_shun(struct kv_session *session, uint64_t now_ns, struct kv_endpoint *endpoint);
/* Somebody else may know better than this endpoint: want the next one. */
void kv_session_turn_away(struct kv_session *session, const struct kv_endpoint *endpoint);
void kv_endpoint_on_timer(struct kv_session *session,
                          uint64_t now_ns,
                          struct kv_endpoint *endpoint);

/* --- session_frames.c --- */
/* Gives the request a new id and puts it into the endpoint's output and sent list. False: no memory
 * or no room, try later. */
bool kv_endpoint_send(struct kv_session *session,
                      uint64_t now_ns,
                      struct kv_endpoint *endpoint,
                      struct kv_request *request);
/* A question whose answer is not waited for: any byte will do. */
int kv_endpoint_send_probe(struct kv_session *session, struct kv_endpoint *endpoint) KV_MUST_CHECK;
int kv_endpoint_send_hello(struct kv_session *session, struct kv_endpoint *endpoint) KV_MUST_CHECK;
/* Tells the server that nobody waits for the request any more. */
void kv_endpoint_send_cancel(struct kv_session *session, struct kv_request *request);
/* Allows the stream what it used. */
int kv_endpoint_send_credit(struct kv_session *session, struct kv_request *request) KV_MUST_CHECK;

/* --- session_stream.c --- */
/* Sets what an endless request needs in the copy that is packed; false: it is none. */
bool kv_stream_fill(Kv__Request *copy, Kv__Watch *watch, Kv__Subscribe *subscribe);
/* It has an item: the first, or a further one. */
void kv_stream_begun(struct kv_session *session, uint64_t now_ns, struct kv_request *request);
/* Asks an endpoint that only streams wait for whether it lives, and loses it when it does not. */
void kv_stream_probe(struct kv_session *session, uint64_t now_ns, struct kv_endpoint *endpoint);
void kv_session_run_timers(struct kv_session *session, uint64_t now_ns);

#endif
