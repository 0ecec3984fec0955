#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A monitor with a hostile or broken guest in it: takes lodge-vmm's place and speaks the agent protocol as $LODGE_FAKE says."""
import json
import os
import socket
import struct
import sys
import time

HELLO, INFO, RUN, STARTED, EXITED, ERROR, DATA, END = 1, 2, 3, 4, 5, 6, 16, 17
MAGIC = 0x4C444741


def frame(kind, payload=b""):
    return struct.pack("<IB3x", len(payload), kind) + payload


def string(text):
    return struct.pack("<I", len(text) + 1) + text + b"\0"


def hello(role, version=1):
    return frame(HELLO, struct.pack("<IHH", MAGIC, version, role))


def info():
    return frame(INFO, b"".join(map(string, (b"Linux", b"6", b"1", b"x"))) + struct.pack("<IQQQ", 1, 1, 1, 1))


class Guest:
    def __init__(self, path):
        self.path = path

    def connect(self, data=b""):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.path)
        connection.sendall(data)
        return connection

    def receive(self, connection, kind):
        """The payload of the next frame of that kind."""
        while True:
            header = connection.recv(8, socket.MSG_WAITALL)
            length, got = struct.unpack("<IB3x", header)
            payload = connection.recv(length, socket.MSG_WAITALL) if length else b""
            if got == kind:
                return payload

    def run(self):
        """Up to the command: the control connection and its two outputs."""
        control = self.connect(hello(0))
        self.receive(control, HELLO)
        control.sendall(info())
        self.receive(control, RUN)
        return control, self.connect(hello(2)), self.connect(hello(3))


def behave(guest, how):
    if how == "silent":
        time.sleep(1)
        print("console: last words\x1b[31m", flush=True)
        print("fake: info: cannot go on", file=sys.stderr, flush=True)
        sys.exit(3)
    if how == "garbage":
        guest.connect(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    elif how == "huge-frame":
        control = guest.connect(hello(0))
        guest.receive(control, HELLO)
        control.sendall(struct.pack("<IB3x", 0xFFFFFFFF, INFO))
    elif how == "cut-info":
        control = guest.connect(hello(0))
        guest.receive(control, HELLO)
        control.sendall(frame(INFO, string(b"Linux")))
    elif how == "bad-status":
        control, _, _ = guest.run()
        control.sendall(frame(EXITED, struct.pack("<IIQ", 99, 0, 0)))
    elif how == "error":
        control, _, _ = guest.run()
        control.sendall(frame(ERROR, struct.pack("<I", 126) + string(b"the fake says no")))
    elif how == "cut-output":
        control, out, err = guest.run()
        out.sendall(frame(DATA, b"half"))
        out.close()
        err.sendall(frame(END))
        control.sendall(frame(EXITED, struct.pack("<IIQ", 0, 0, 0)))
    elif how == "frame-in-output":
        control, out, err = guest.run()
        out.sendall(frame(DATA, b"x") + frame(RUN, b"y"))
        err.sendall(frame(END))
        control.sendall(frame(EXITED, struct.pack("<IIQ", 0, 0, 0)))
    elif how == "right":
        # Before it: data connections that come too early, too many, twice.
        strays = [guest.connect(hello(2)) for _ in range(20)] + [guest.connect() for _ in range(3)]
        control, out, err = guest.run()
        strays.append(guest.connect(hello(2)))
        time.sleep(0.2)
        strays.append(guest.connect(hello(0)))
        for byte in frame(DATA, b"out") + frame(DATA) + frame(END):
            out.sendall(bytes([byte]))
        err.sendall(frame(DATA, b"err") + frame(END))
        control.sendall(frame(STARTED, struct.pack("<IQ", 5, 1)) + frame(EXITED, struct.pack("<IIQ", 0, 7, 1)))
    elif how == "leaves":
        control, _, _ = guest.run()
        control.close()
    elif how.startswith("session-"):
        control, _, _ = guest.run()
        control.sendall(frame(STARTED, struct.pack("<IQ", 5, 1)))
        serve_sessions(guest.path.removesuffix("_1024"), SESSIONS[how.removeprefix("session-")])
    time.sleep(60)


# What a guest may answer to a further program, whatever it is.
SESSIONS = {
    "silent": b"",
    "garbage": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "huge-frame": struct.pack("<IB3x", 0xFFFFFFFF, STARTED),
    "exit-first": frame(EXITED, struct.pack("<IIQ", 0, 0, 0)),
    "data-first": frame(DATA, b"x"),
    "started-twice": frame(STARTED, struct.pack("<IQ", 5, 1)) * 2,
    "bad-status": frame(STARTED, struct.pack("<IQ", 5, 1)) + frame(EXITED, struct.pack("<IIQ", 0, 4242, 0)),
    "cut-frame": frame(STARTED, struct.pack("<IQ", 5, 1)) + frame(DATA, b"abc")[:-1],
    "control-words": frame(ERROR, struct.pack("<I", 3) + string(b"\x1b[2Jsorry\n")),
    "nonsense-top": frame(STARTED, struct.pack("<IQ", 5, 1)) + frame(DATA, b"1 2\n\x1b\0 rm\n") + frame(EXITED, struct.pack("<IIQ", 0, 0, 0)),
    "endless": frame(STARTED, struct.pack("<IQ", 5, 1)) + frame(DATA, b"7" * 1000000) * 8,
}


def serve_sessions(path, answer, ok=b"OK 1073741824\n"):
    """Like a monitor's vsock socket behind which every session gets this answer."""
    held = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        while True:
            connection, _ = listener.accept()
            held.append(connection)
            connection.settimeout(60)
            try:
                connection.recv(65536)
                connection.sendall(ok + answer)
                if answer.endswith(b"ab"):
                    connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def main():
    with open(sys.argv[2]) as file:
        config = json.load(file)
    guest = Guest(config["vsock"]["path"] + "_1024")
    try:
        behave(guest, os.environ["LODGE_FAKE"])
    except (BrokenPipeError, ConnectionResetError, struct.error):
        time.sleep(60)


if __name__ == "__main__":
    main()
