"""Types into interactive bashes, each behind a pseudo terminal of its own.

Reads one JSON object a line from standard input, answers one a line on standard output:
  {"do": "open", "name": "a", "argv": [...], "root": "/path", "uid": 1234} -> {"name": "a", "pid": 17, "tty": "pts/3"}
  {"do": "type", "name": "a", "text": "echo hi\n", "until": "marker"}        -> {"name": "a"}   once the marker was printed
  {"do": "end", "name": "a"}                                                -> {"name": "a", "status": 0}
"""

import fcntl
import json
import os
import sys
import termios

shells = {}


def open_shell(order):
    fd, terminal = os.openpty()
    tty = os.ttyname(terminal)[len("/dev/"):]
    pid = os.fork()
    if pid == 0:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        for number in (0, 1, 2):
            os.dup2(terminal, number)
        os.closerange(3, 256)
        if "root" in order:
            os.chroot(order["root"])
            os.chdir("/")
        if "uid" in order:
            os.setgroups([])
            os.setgid(order["uid"])
            os.setuid(order["uid"])
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/", "TERM": "dumb", "PS1": "ready> ", "HISTFILE": ""}
        os.execve(order["argv"][0], order["argv"], environment)
    os.close(terminal)
    shells[order["name"]] = (pid, fd)
    read_until(fd, b"ready> ")
    return {"pid": pid, "tty": tty}


def read_until(fd, marker):
    seen = b""
    while marker not in seen:
        seen += os.read(fd, 65536)


def type_text(order):
    _, fd = shells[order["name"]]
    text = order["text"].encode()
    while text:
        text = text[os.write(fd, text[:512]):]
        if "until" not in order:
            continue
    read_until(fd, order["until"].encode())
    return {}


def end(order):
    pid, fd = shells.pop(order["name"])
    try:
        while os.read(fd, 65536):
            pass
    except OSError:
        pass
    os.close(fd)
    return {"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}


ACTS = {"open": open_shell, "type": type_text, "end": end}
for line in sys.stdin:
    order = json.loads(line)
    answer = ACTS[order["do"]](order)
    print(json.dumps({"name": order["name"], **answer}), flush=True)
