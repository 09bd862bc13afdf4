"""Five connections, whose client ends each in the way that is the only word, after shutdown(SHUT_WR).

Prints the server's port, and a line when all connections are over.
"""

import socket
import struct
import sys
import time

TCP_REPAIR = 19
way = sys.argv[1]
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)


def until(end, state):
    """Waits for a state of TCP at this end, by the first byte of TCP_INFO."""
    while end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != state:
        time.sleep(0.001)


def linger_0(end):
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT = 4, 5, 8
for _ in range(5):
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    if way == "repair":
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        client.close()
        server.close()
        continue
    client.sendall(b"request")
    server.recv(100)
    if way == "linger 0 before the FIN is acknowledged":
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        try:
            while True:
                client.send(bytes(65536))  # what waits to be sent keeps the FIN back
        except BlockingIOError:
            pass
    client.shutdown(socket.SHUT_WR)
    if way == "linger 0 before the FIN is acknowledged":
        until(client, FIN_WAIT1)
        linger_0(client)
    else:
        until(client, FIN_WAIT2)
    if way == "unread data":
        server.sendall(b"answer")
        while client.recv(100, socket.MSG_PEEK) != b"answer":
            pass
    if way == "linger 0":
        linger_0(client)
    if way == "all is read":
        server.sendall(b"answer")
        server.close()
        while client.recv(100):
            pass
    client.close()
    if way == "linger 0 before the FIN is acknowledged" or way in ("unread data", "linger 0"):
        until(server, 7)  # closed by the RST
    server.close()
print("over", flush=True)
