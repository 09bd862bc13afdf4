# Connects that the kernel refuses before a SYN, and one that it does not; says its process and the port that listens.

import errno
import os
import socket
import subprocess
import sys

TIMES = 20


def connects(family, address, port, expected):
    for _ in range(TIMES):
        with socket.socket(family) as one:
            assert errno.errorcode.get(one.connect_ex((address, port))) == expected
            assert errno.errorcode.get(one.connect_ex((address, port))) == expected  # the same again


subprocess.run("ip link set lo up; ip route add prohibit 192.0.2.0/24", shell=True, check=True)
listener = socket.create_server(("127.0.0.1", 0))
connects(socket.AF_INET, "198.51.100.7", 4701, "ENETUNREACH")
connects(socket.AF_INET6, "2001:db8::7", 4702, "ENETUNREACH")
connects(socket.AF_INET, "192.0.2.7", 4703, "EACCES")
with socket.create_connection(listener.getsockname()):
    listener.accept()
print(os.getpid(), listener.getsockname()[1], TIMES, flush=True)
sys.stdin.read()
