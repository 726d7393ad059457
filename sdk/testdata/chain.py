"""Prints the vectors of TestFixedVectors, from docs/wire.md alone: python3 testdata/chain.py"""
import hashlib


def leaf(kind, *values):
    text = "\t".join([kind] + [str(v) for v in values])
    ascii_only = "".join(chr(b) if b < 0x80 else "\\x%02x" % b for b in text.encode())
    return hashlib.sha256(ascii_only.encode()).digest()


def root(level):
    while len(level) > 1:
        pairs = [level[i:i + 2] for i in range(0, len(level), 2)]
        level = [hashlib.sha256(b"\1" + p[0] + p[1]).digest() if len(p) == 2 else p[0] for p in pairs]
    return level[0]


host, epoch = "01" * 16, "02" * 16
flow = leaf(
    "flow", "2026-11-21 13:30:00", 1 << 40, 5, "/usr/bin/cürl", r"cu\xffrl", """curl -H 'it'"'"'s' '' 'ü'""", "cd" * 32,
    "/bin/bash", "bash", "-bash", "01" * 32, 0, 40000, 443, "10.0.0.1", "192.0.2.1", "org.example.www",
    host, epoch, 7, 1795280390000000000, 1795280400123456789, 2, 3, 4, 6, 1, 8,
    "out", "timed-out", "socket", 10, 6, "inferred", 9, "192.0.2.1:443 [2001::]:53", "sni", 1, 12, 13, 11, 14, 15,
    "listener", "fexit", 1, 16, 19, 17, 18, "ab" * 16, 24, 25, -1, 26, "pts/0", "/a/b", "", "docker:abc", 1, "nfs",
    "mntns:1", "racy", "/tmp/x.py", "curl 8", "idle", 27, 28, 20, 21, -1, 22, 23, 29, 30, "s", "ok",
    "/sshd", "sshd", "'sshd: user'", "", 31, 32, "", "gone", "gexe,claimed_cmdline")
no_process = ["", "", "", "", -1, 0, 0, 0, 0, "", -1, -1, -1, -1, "", "", "", "", 0, "", "", "", "", "", "",
              0, 0, 0, 0, 0, 0, 0]
gap = leaf("gap", host, epoch, 8, 1, 2, "events-lost", "ring", 3, 0, 0, "", 0, 0, "", *no_process, "")
unknown = leaf("unknown", host, epoch, 9)
tree = root([flow, gap, unknown])
chain = hashlib.sha256(b"\xee" + bytes(31) + tree + bytes.fromhex(host) + bytes.fromhex(epoch)
                       + (7).to_bytes(8, "big") + (9).to_bytes(8, "big")).digest()
print(flow.hex(), tree.hex(), chain.hex(), sep="\n")
