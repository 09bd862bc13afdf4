# Requests that are sent with the SYN (TCP Fast Open), and two behind each; says the port and how many it made.

import os
import socket
import sys

FASTOPEN, MSG_FASTOPEN = 23, 0x20000000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TIMES = 5


def request(path):
    return b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path


def answer(client, server):
    server.recv(1000)
    server.sendall(OK)
    client.recv(1000)


with open("/proc/sys/net/ipv4/tcp_fastopen", "w") as setting:
    setting.write("519")  # both ends, and without a cookie
listener = socket.socket()
listener.setsockopt(socket.IPPROTO_TCP, FASTOPEN, 16)
listener.bind(("127.0.0.1", 0))
listener.listen()
for _ in range(TIMES):
    client = socket.socket()
    client.sendto(request(b"/fast"), MSG_FASTOPEN, listener.getsockname())
    server, _ = listener.accept()
    answer(client, server)
    for _ in range(2):
        client.sendall(request(b"/later"))
        answer(client, server)
    client.close()
    server.close()
print(listener.getsockname()[1], TIMES, os.getpid(), flush=True)
sys.stdin.read()
