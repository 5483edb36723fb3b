"""A client of TRP/1 in pure Python (pip install pyzmq msgpack), written from docs/protocol.md alone: no Troupe code.

    python client.py tcp://127.0.0.1:5577 "Why is the sky blue?" [max_tokens] [server_key]

It streams the answer to stdout. With --resume FILE it notes how far it has come; run again after it was killed, it
goes on where it was, and what the two runs printed together is the whole answer.
"""
import argparse
import json
import os
import sys

import msgpack
import zmq

HELLO, WELCOME, REFUSED, PING, SUBMIT, CREDIT, RESUME, RELEASE = 0x01, 0x02, 0x03, 0x04, 0x10, 0x12, 0x14, 0x15
DELTA, DONE, CANCELLED, FAILED = 0x22, 0x23, 0x24, 0x25


def send(socket, kind, body, *blobs):
    socket.send_multipart([b"TR\x01" + bytes([kind]), msgpack.packb(body), *blobs])


def maps(body):
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(body)  # one map, or several back to back
    return unpacker


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoint")
    parser.add_argument("prompt")
    parser.add_argument("max_tokens", nargs="?", type=int, default=256)
    parser.add_argument("server_key", nargs="?")
    parser.add_argument("--resume", metavar="FILE")
    given = parser.parse_args()

    note = {"client": os.urandom(16).hex(), "id": os.urandom(16).hex(), "ticket": None, "tokens": 0, "bytes": 0}
    if known := bool(given.resume) and os.path.exists(given.resume):
        note = json.load(open(given.resume))
    socket = zmq.Context().socket(zmq.DEALER)
    socket.linger = 500
    if given.server_key:
        socket.curve_serverkey = given.server_key.encode()
        socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
    socket.connect(given.endpoint)

    client, request = bytes.fromhex(note["client"]), bytes.fromhex(note["id"])
    ticket = {4: bytes.fromhex(note["ticket"])} if note["ticket"] else {}
    send(socket, HELLO, {0: [1], 1: client, 2: "wire example", **ticket})
    heartbeat_ms = 1000
    while True:
        if not socket.poll(heartbeat_ms):
            send(socket, PING, {0: 0})
            continue
        head, body, *_ = socket.recv_multipart()
        for kind, event in ((head[3], event) for event in maps(body)):
            if kind == WELCOME:
                note["ticket"], heartbeat_ms = event[8].hex(), event[3]
                if known:
                    send(socket, RESUME, {0: request, 1: [[note["tokens"], note["bytes"]]], 2: 8})
                else:
                    send(socket, SUBMIT, {0: request, 1: 8, 2: {1: [[0, given.prompt]], 10: {8: given.max_tokens}}})
            elif kind == DELTA:
                print(event[6], end="", flush=True)
                note["tokens"], note["bytes"] = event[3] + len(event[5]), event[4] + len(event[6].encode())
                send(socket, CREDIT, {0: request, 1: 1})
            elif kind in (DONE, CANCELLED, FAILED, REFUSED):
                send(socket, RELEASE, {0: request})
                error = event.get(0 if kind == REFUSED else 15)
                sys.exit(f"error {error[0]}: {error[1]}" if error else 0)
            if given.resume:
                json.dump(note, open(given.resume + ".new", "w"))
                os.replace(given.resume + ".new", given.resume)


if __name__ == "__main__":
    main()
