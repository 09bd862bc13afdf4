"""An HTTPS server and client of Python's ssl module, on blocking sockets or (words `memory`) on asyncio, whose TLS library never sees
a socket.

  peer.py server CERT KEY [memory]      prints its port; serves until standard input ends; then prints {"path": requests, ...}
  peer.py client PORT,... CONNECTIONS REQUESTS THREADS [memory]   waits for a line; prints {"requests": n}; ports take turns, by connection or
                                                                   (memory) by request
  peer.py late PORT,PORT REQUESTS   a client on one connection to each port that receives from both before it reads either: waits for a
                                    line; /late/red goes to the first port, /late/green to the second; prints {"requests": n}
"""

import asyncio
import json
import socket
import ssl
import sys
import threading

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
counts = {}
lock = threading.Lock()


def answer(head):
    path = head.split(b" ")[1].decode()
    with lock:
        counts[path] = counts.get(path, 0) + 1
    return MISSING if path.startswith("/missing") else ANSWER


def serve_connection(stream):
    pending = b""
    with stream:
        while True:
            piece = stream.recv(65536)
            if not piece:
                return
            pending += piece
            while b"\r\n\r\n" in pending:
                head, pending = pending.split(b"\r\n\r\n", 1)
                stream.sendall(answer(head))


def server_context(cert, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def client_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def accept_all(listener, context):
    while True:
        plain, _ = listener.accept()

        def run(plain=plain):
            try:
                serve_connection(context.wrap_socket(plain, server_side=True))
            except OSError:
                pass

        threading.Thread(target=run, daemon=True).start()


def blocking_server(cert, key):
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=accept_all, args=(listener, server_context(cert, key)), daemon=True).start()
    sys.stdin.read()


async def memory_server(cert, key):
    async def serve(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(answer(head))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context(cert, key))
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def request(i):
    path = "/missing" if i % 10 == 9 else "/page/" + ("red", "green", "blue")[i % 3]
    return b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n" % path.encode()


def blocking_client(ports, connections, requests):
    context = client_context()
    for c in range(connections):
        stream = context.wrap_socket(socket.create_connection(("127.0.0.1", ports[c % len(ports)])))
        with stream:
            for i in range(requests):
                stream.sendall(request(i))
                pending = b""
                while b"\r\n\r\n" not in pending or (b" 200 " in pending and not pending.endswith(b"hello")):
                    pending += stream.recv(65536)


async def memory_client(ports, connections, requests):
    async def one():
        streams = {}
        for i in range(requests):
            port = ports[i % len(ports)]
            if port not in streams:
                streams[port] = await asyncio.open_connection("127.0.0.1", port, ssl=client_context())
            reader, writer = streams[port]
            writer.write(request(i))
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " in head:
                await reader.readexactly(5)
        for _, writer in streams.values():
            writer.close()
            await writer.wait_closed()

    await asyncio.gather(*[one() for _ in range(connections)])


class Session:
    """TLS over memory, whose bytes a caller brings and takes."""

    def __init__(self, port):
        self.plain = socket.create_connection(("127.0.0.1", port))
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context().wrap_bio(self.incoming, self.outgoing)
        while not self.try_(self.tls.do_handshake):
            self.send()
            self.receive()
        self.send()

    @staticmethod
    def try_(call, *words):
        try:
            return call(*words) or True
        except ssl.SSLWantReadError:
            return False

    def send(self):
        self.plain.sendall(self.outgoing.read())

    def receive(self):
        self.incoming.write(self.plain.recv(65536))


def late_client(ports, requests):
    sessions = []
    for i in range(requests):
        if i % 5 == 0:
            sessions = [Session(port) for port in ports]
        for number, session in enumerate(sessions):
            session.tls.write(b"GET /late/%s HTTP/1.1\r\nHost: test\r\n\r\n" % (b"red", b"green")[number])
            session.send()
        answers = [b"" for _ in sessions]
        while not all(answer.endswith(b"hello") for answer in answers):
            for session, answer in zip(sessions, answers):
                if not answer.endswith(b"hello"):
                    session.receive()
            for number, session in enumerate(sessions):
                piece = session.try_(session.tls.read, 65536)
                answers[number] += piece if isinstance(piece, bytes) else b""
    return requests * len(ports)


def main():
    memory = "memory" in sys.argv
    if sys.argv[1] == "server":
        if memory:
            asyncio.run(memory_server(*sys.argv[2:4]))
        else:
            blocking_server(*sys.argv[2:4])
        print(json.dumps(counts), flush=True)
        return
    ports = [int(port) for port in sys.argv[2].split(",")]
    if sys.argv[1] == "late":
        sys.stdin.readline()
        print(json.dumps({"requests": late_client(ports, int(sys.argv[3]))}), flush=True)
        return
    connections, requests, threads = (int(word) for word in sys.argv[3:6])
    sys.stdin.readline()
    if memory:
        asyncio.run(memory_client(ports, connections, requests))
    else:
        workers = [
            threading.Thread(target=blocking_client, args=(ports, connections // threads, requests))
            for _ in range(threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    print(json.dumps({"requests": connections * requests}), flush=True)


main()
