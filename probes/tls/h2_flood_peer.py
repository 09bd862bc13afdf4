"""An HTTP/2 client under TLS, one of whose calls of the library has more frames than sonde follows in one.

  h2_flood_peer.py PORT    waits for a line; asks for /page/before, writes the frames, asks 20 times for /page/behind
"""

import socket
import ssl
import sys

FRAMES = 40_000
HEADERS, SETTINGS, WINDOW_UPDATE = 1, 4, 8
END_STREAM, END_HEADERS = 1, 4


def frame(kind, flags, stream, payload=b""):
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def request(stream, path):
    """GET over https, with fields that are no entries of a table."""
    literal = lambda index, text: bytes([index, len(text)]) + text.encode()
    block = b"\x82\x87" + literal(4, path) + literal(1, "localhost")
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, block)


def exactly(tls, count):
    data = b""
    while len(data) < count:
        more = tls.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def read_to_end(tls, stream):
    while True:
        head = exactly(tls, 9)
        exactly(tls, int.from_bytes(head[:3], "big"))
        if int.from_bytes(head[5:], "big") == stream and head[3] <= HEADERS and head[4] & END_STREAM:
            return


def main(port):
    sys.stdin.readline()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as tls:
        tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
        tls.sendall(request(1, "/page/before"))
        read_to_end(tls, 1)
        tls.sendall(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * FRAMES)
        for i in range(20):
            tls.sendall(request(3 + 2 * i, "/page/behind"))
            read_to_end(tls, 3 + 2 * i)


main(int(sys.argv[1]))
