"""Stands in for kvd: keeps the requests that it gets, and gives the replies that the test prepares."""

import socket
import struct
import threading

from kvcluster import GOODBYE, HELLO, HELLO_REPLY, HOST, REPLY, REQUEST, kv


class FakeServer:
    """answer(request) gives the kv.Reply, whose id is set here, or None: then it is never answered. Requests are kept in
    `requests`, but for the status, which is answered by `status`. With is_mute it takes connections and says nothing."""

    is_mute = False

    def __init__(self, answer, status=None):
        self.answer = answer
        self.status = status or kv.StatusResult(node_id=1, leader_id=1, role="leader", state="serving")
        self.requests = []
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_to_the_end, args=(connection,), daemon=True).start()

    def _serve_to_the_end(self, connection):
        try:
            self._serve(connection)
        except ConnectionError:
            pass  # the client is gone, with something that it did not wait for

    @staticmethod
    def _send(connection, kind, message):
        body = message.SerializeToString()
        connection.sendall(struct.pack("<IBBH", len(body), kind, 0, 0) + body)

    def _serve(self, connection):
        with connection, connection.makefile("rb") as stream:
            while header := stream.read(8):
                size, kind, _flags, _zero = struct.unpack("<IBBH", header)
                body = stream.read(size)
                if self.is_mute:
                    continue
                if kind == HELLO:
                    self._send(connection, HELLO_REPLY, kv.HelloReply(protocol_version=1, node_id=1, leader_id=1,
                                                                      leader_address=f"{HOST}:{self.port}"))
                elif kind == REQUEST:
                    reply = self._reply(kv.Request.FromString(body))
                    if reply:
                        self._send(connection, REPLY, reply)
                elif kind == GOODBYE:
                    return

    def _reply(self, request):
        if request.WhichOneof("command") == "status":
            reply = kv.Reply(status=self.status)
        elif request.WhichOneof("command") == "session_open":
            reply = kv.Reply(session_open=kv.SessionOpenResult(session_id=1, ttl_ms=60000))
        elif request.WhichOneof("command") in ("session_close", "session_renew"):
            reply = kv.Reply()
        else:
            self.requests.append(request)
            reply = self.answer(request)
        if reply:
            reply.id = request.id
        return reply
