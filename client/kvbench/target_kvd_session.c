#include "client/kvbench/target_kvd_session.h"
#include "proto/frame.h"

#include <stdio.h>

int kvd_session_open(struct bench_conn *conn, uint64_t request_id)
{
    Kv__SessionOpen open = KV__SESSION_OPEN__INIT;
    Kv__Request message = KV__REQUEST__INIT;

    message.id = request_id;
    message.command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
    message.session_open = &open;
    return kv_frame_append(&conn->out, KV_FRAME_REQUEST, &message.base, false);
}

int kvd_session_opened(struct bench_conn *conn, struct kvd_session *session, struct kv_slice body)
{
    Kv__Reply *reply = kv__reply__unpack(NULL, body.size, body.data);
    bool good = reply && reply->result_case == KV__REPLY__RESULT_SESSION_OPEN;

    if (good) {
        session->id = reply->session_open->session_id;
    } else {
        snprintf(conn->error,
                 sizeof conn->error,
                 "no session: %.150s",
                 reply ? reply->message : "malformed");
    }
    if (reply) {
        kv__reply__free_unpacked(reply, NULL);
    }
    return good ? 0 : KV_INVALID;
}

void kvd_session_stamp(struct kvd_session *session, unsigned slot, Kv__Request *request)
{
    uint64_t sequence = ++session->next;

    session->done[sequence % KVD_SESSION_RING] = false;
    session->sequences[slot] = sequence;
    session->stamp = (Kv__SessionStamp)KV__SESSION_STAMP__INIT;
    session->stamp.session_id = session->id;
    session->stamp.sequence = sequence;
    session->stamp.acknowledged_through = session->acknowledged;
    request->session = &session->stamp;
}

void kvd_session_answered(struct kvd_session *session, unsigned slot)
{
    uint64_t sequence = session->sequences[slot];

    if (sequence == 0) {
        return;
    }
    session->sequences[slot] = 0;
    session->done[sequence % KVD_SESSION_RING] = true;
    while (session->acknowledged < session->next &&
           session->done[(session->acknowledged + 1) % KVD_SESSION_RING]) {
        session->acknowledged++;
    }
}
