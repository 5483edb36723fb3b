#!/usr/bin/env python3
"""Runs a command with the conformance table served over the wire.

    with_servers.py TROUPE ipc|tcp plain|curve COMMAND [ARGUMENT...]

Starts one `troupe serve` per engine of the table (sdk/conformance/README.md), writes the table with the
servers' endpoints into a folder of its own, tells its name in TROUPE_CONFORMANCE, and ends with the command's
exit code. In the arguments, {table} stands for the folder's files. Cases that cannot be run over the wire are
named, with the reason that the table gives.
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

TABLE = Path(__file__).resolve().parents[2] / "sdk" / "conformance"


class Servers:
    def __init__(self, troupe, transport, curve, folder):
        self.troupe, self.transport, self.folder = troupe, transport, folder
        self.processes, self.endpoints, self.options, self.flags = [], {}, {}, []
        if curve:
            server, client = self.keygen("server"), self.keygen("client")
            (folder / "clients").write_text(f"# those who may\n{client[0]}\n")
            self.options = {"server_key": server[0], "client_public_key": client[0], "client_secret_key": client[1]}
            self.flags = ["--curve", folder / "server.key", "--allow-list", folder / "clients"]

    def keygen(self, name):
        path = self.folder / f"{name}.key"
        public = subprocess.run([self.troupe, "keygen", path], check=True, capture_output=True, text=True).stdout
        secret = [line for line in path.read_text().splitlines() if line.startswith("secret-key")]
        return public.strip(), secret[0].split()[2]

    def endpoint_of(self, case):
        """Where the case's engine is served. An engine that will break is nobody else's."""
        model, options = case.get("endpoint", "echo:"), case.get("options", {})
        key = json.dumps([model, options, case["name"] if "fail" in model else ""])
        if key not in self.endpoints:
            self.endpoints[key] = self.serve(model, options)
        return self.endpoints[key]

    def serve(self, model, options):
        bind = "tcp://127.0.0.1:*" if self.transport == "tcp" else f"ipc://{self.folder}/{len(self.processes)}.sock"
        flags = [word for name, value in options.items() for word in ("--" + name.replace("_", "-"), str(value))]
        process = subprocess.Popen([self.troupe, "serve", model, "--zmq", bind, *flags, *self.flags],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.processes.append(process)
        line = process.stdout.readline().split()
        if line[:1] != ["zmq"]:
            raise SystemExit(f"troupe serve {model} did not start")
        return line[1]

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(timeout=60) for process in self.processes]
        return max(codes, default=0)


def rewrite(servers, folder):
    """The table, with endpoints of servers; how many cases stay local."""
    local = 0
    for path in sorted(TABLE.glob("*.json")):
        group = json.loads(path.read_text())
        for case in group["cases"]:
            if "local" in case:
                print(f"local: {path.stem}: {case['name']}: {case['local']}")
                local += 1
                continue
            case["endpoint"], case["options"] = servers.endpoint_of(case), servers.options
        (folder / path.name).write_text(json.dumps(group))
    return local


def main():
    troupe, transport, security, *command = sys.argv[1:]
    assert transport in ("ipc", "tcp") and security in ("plain", "curve") and command, __doc__
    with tempfile.TemporaryDirectory(prefix="troupe-") as name:
        folder, table = Path(name), Path(name) / "table"
        table.mkdir()
        servers = Servers(troupe, transport, security == "curve", folder)
        try:
            rewrite(servers, table)
            files = [str(path) for path in sorted(table.glob("*.json"))]
            command = [word for given in command for word in (files if given == "{table}" else [given])]
            code = subprocess.run(command, env={**os.environ, "TROUPE_CONFORMANCE": str(table)}).returncode
        finally:
            stopped = servers.stop()
    print(f"{len(servers.processes)} servers over {transport}, {security}: command ended with {code}, "
          f"servers with {stopped}")
    return code or stopped


if __name__ == "__main__":
    sys.exit(main())
