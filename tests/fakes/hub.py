"""The Hugging Face Hub on the loopback, for models and datasets: what huggingface_hub 1.27 says to it.

    python -m tests.fakes.hub --port 8091      # prints the variables that a client needs

    with FakeHub() as hub:
        subprocess.run(command, env=os.environ | hub.environment(home))   # any library, HF_HOME = home
        api = hub.api(monkeypatch)                                        # or huggingface_hub in this process

Large files go by Git LFS with the transfer "basic". A server cannot ask for it: where hf_xet is installed,
the client takes Xet (and here fails at once: 404 for …/xet-write-token/main), unless HF_HUB_DISABLE_XET=1 is
set on its side, as environment() and api() do. Downloads are plain HTTP because no X-Xet header is sent. A
missing repository is known by X-Error-Code: RepoNotFound; the client's guess from a bare 401 is for https only.

The one branch is main, and a commit's id is a revision too. There are no other branches, tags, pull requests,
organizations, gated repositories, copies, .gitignore rules, checks of the card's YAML, searches, histories or
redirects to a CDN; repositories are neither deleted nor moved, nor made public or private later.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".parquet", ".arrow", ".zip", ".gguf", ".npy", ".pdf", ".png")
LFS_BYTES = 10 * 1024**2  # every file from this size on
GIT_ATTRIBUTES = "".join(f"*{end} filter=lfs diff=lfs merge=lfs -text\n" for end in LFS_SUFFIXES).encode()
DATE = "2026-01-01T00:00:00.000Z"


def is_lfs(path: str, size: int) -> bool:
    return size >= LFS_BYTES or (size > 0 and path.endswith(LFS_SUFFIXES))


def file_id(path: str, data: bytes) -> str:
    """The id by which the Hub knows a file's content: SHA-256 of an LFS file, Git's SHA-1 of others."""
    if is_lfs(path, len(data)):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Commit:
    id: str
    message: str
    operations: list[tuple[str, str]]  # ("file", "README.md"), ("lfsFile", …), ("deletedFile", …)
    files: dict[str, bytes]  # the whole tree after it


@dataclass
class Repository:
    private: bool = False
    commits: list[Commit] = field(default_factory=list)  # the first made by the Hub itself

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1].files

    def commit(self, message: str, operations: list[tuple[str, str]], files: dict[str, bytes]) -> Commit:
        ids = sorted((path, file_id(path, data)) for path, data in files.items())
        made = hashlib.sha1(f"{len(self.commits)} {message} {ids}".encode()).hexdigest()
        self.commits.append(Commit(made, message, operations, files))
        return self.commits[-1]


class _Refusal(Exception):
    """(status, message) and the X-Error-Code, if it has one"""


@dataclass
class FakeHub:
    """A server in a `with` block: settings that a test changes at any time, and what the server saw.

    Each of `troubles` is (text, what) and is used up by the first request whose "METHOD /path" holds the text:
        503      that status instead of an answer; 429 carries Retry-After
        "drop"   read half of the body, do nothing, close the connection
        "lose"   do as asked, close the connection without an answer
    """

    token: str = "hf_fake"  # the only one that is accepted, of the user:
    user: str = "someone"
    troubles: list[tuple[str, int | str]] = field(default_factory=list)
    retry_after: int = 0  # seconds, to which the client adds one
    repos: dict[str, Repository] = field(default_factory=dict)  # by "models/someone/name", "datasets/…"
    lfs: dict[str, bytes] = field(default_factory=dict)  # by SHA-256
    lfs_received: int = 0  # bytes of complete LFS uploads
    requests: list[str] = field(default_factory=list)  # "GET /api/…?…", as they came

    def serve(self, port: int = 0) -> ThreadingHTTPServer:
        self.lock = threading.Lock()
        server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"hub": self}))
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        return server

    def __enter__(self) -> FakeHub:
        self.server = self.serve()
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def environment(self, home: object) -> dict[str, str]:
        """Variables for a client in another process; the libraries read them when they are imported."""
        # Unsloth switches all three of these on when it is imported offline.
        online = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "0")
        switches = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **online}
        return {"HF_ENDPOINT": self.endpoint, "HF_TOKEN": self.token, "HF_HOME": str(home), **switches}

    def api(self, monkeypatch):
        """An HfApi for this process, which had read "offline" and "Xet" when it started."""
        from huggingface_hub import HfApi, constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        return HfApi(endpoint=self.endpoint, token=self.token)

    def add(self, name: str, files: dict[str, bytes], private: bool = False) -> Repository:
        """A repository as another's upload left it, such as add("models/google/gemma", {…})."""
        repo = self.repos[name] = Repository(private)
        files = {".gitattributes": GIT_ATTRIBUTES, **files}
        repo.commit("initial commit", [("file", path) for path in files], files)
        return repo


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes
    hub: FakeHub

    def log_message(self, *_: object) -> None: ...

    def respond(self) -> None:
        hub, line = self.hub, f"{self.command} {self.path}"
        length = int(self.headers.get("Content-Length", 0))
        with hub.lock:
            hub.requests.append(line)
            due = next((at for at, (text, _) in enumerate(hub.troubles) if text in line), None)
            trouble = None if due is None else hub.troubles.pop(due)[1]
        self.body = self.rfile.read(length // 2 if trouble == "drop" else length)
        self.status, self.extra = 200, {}
        try:
            if isinstance(trouble, int):
                self.extra = {"Retry-After": hub.retry_after} if trouble == 429 else {}
                raise _Refusal(trouble, "Try again")
            with hub.lock:
                answer = None if trouble == "drop" else self.route()
        except _Refusal as refusal:
            self.status, message, *code = refusal.args
            answer = {"error": message}
            self.extra |= dict(zip(("X-Error-Message", "X-Error-Code"), (message, *code)))
        if trouble in ("drop", "lose"):
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(self.status)
        for name, value in {"Content-Length": len(data), **self.extra}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = respond

    def route(self) -> object:
        """Find the action for this request, check token, repository and revision, and return its answer."""
        hub, line = self.hub, f"{self.command.replace('HEAD', 'GET')} {urlsplit(self.path).path}"
        matches = ((re.fullmatch(pattern, line), action) for pattern, action in _ROUTES.items())
        match, action = next((each for each in matches if each[0]), (None, None))
        if not match:
            raise _Refusal(404, f"The fake Hub has no {line}")
        found = {name: unquote(value or "") for name, value in match.groupdict().items()}
        sent = self.headers.get("Authorization", "").removeprefix("Bearer ")
        writes = self.command == "POST" and action != _Handler.paths
        if sent not in ("", hub.token):
            raise _Refusal(401, "Invalid credentials in Authorization header")
        if not sent and (writes or "whoami" in line):
            raise _Refusal(401, "Invalid username or password.")
        if "name" in found:
            self.kind, self.name = found.pop("kind") or "models/", found.pop("name")
            self.repo, mine = hub.repos.get(self.kind + self.name), self.name.startswith(f"{hub.user}/")
            if self.repo is None or (self.repo.private and not (sent and mine)):
                raise _Refusal(404 if sent else 401, "Repository not found", "RepoNotFound")
            if writes and not mine:
                raise _Refusal(403, f"You have no write access to {self.name}")
        if "revision" in found:
            asked = found.pop("revision") or "main"
            self.commit = next((c for c in self.repo.commits[::-1] if asked in ("main", c.id)), None)
            if not self.commit:
                raise _Refusal(404, f"Invalid rev id: {asked}", "RevisionNotFound")
        return action(self, **found)

    def address(self, kind: str, name: str) -> str:
        return f"{self.hub.endpoint}/{kind.removeprefix('models/')}{name}"

    def create(self) -> dict:
        asked = json.loads(self.body)
        kind, owner = f"{asked.get('type') or 'model'}s/", asked.get("organization") or self.hub.user
        name = f"{owner}/{asked['name']}"
        if owner != self.hub.user:
            raise _Refusal(403, f"You have no rights to create a repository under {owner}")
        if kind + name in self.hub.repos:
            self.status = 409
        else:
            self.hub.add(kind + name, {}, private=asked.get("visibility") == "private")
        return {"url": self.address(kind, name), "name": name}

    def listing(self) -> list[dict]:
        """All files and their folders, as Git lists trees."""
        found = {}
        for path, data in sorted(self.commit.files.items()):
            oid, size = file_id(path, data), len(data)
            for end in re.finditer("/", path):
                at = path[: end.start()]
                found[at] = {"type": "directory", "path": at, "size": 0, "oid": file_id("", at.encode())}
            found[path] = {"type": "file", "path": path, "size": size, "oid": oid[:40]}
            if is_lfs(path, size):
                found[path]["lfs"] = {"oid": oid, "sha256": oid, "size": size, "pointerSize": 134}
        return list(found.values())

    def info(self) -> dict:
        files = [each for each in self.listing() if each["type"] == "file"]
        siblings = [each | {"rfilename": each["path"], "blobId": each["oid"]} for each in files]
        fixed = {"createdAt": DATE, "lastModified": DATE, "gated": False, "disabled": False, "tags": []}
        who = {"id": self.name, "author": self.name.split("/")[0], "private": self.repo.private}
        return {**who, **fixed, "sha": self.commit.id, "siblings": siblings, "downloads": 0, "likes": 0}

    def tree(self, path: str) -> list[dict]:
        top, deep = f"{path}/" if path else "", "recursive=true" in self.path
        inside = [each for each in self.listing() if each["path"].startswith(top)]
        if path and not inside:
            raise _Refusal(404, f"{path} does not exist on {self.commit.id}", "EntryNotFound")
        return [each for each in inside if deep or "/" not in each["path"].removeprefix(top)]

    def paths(self) -> list[dict]:
        asked = [path.strip("/") for path in parse_qs(self.body.decode()).get("paths", [])]
        return [each for each in self.listing() if each["path"] in asked]

    def file(self, path: str) -> bytes:
        if path not in self.commit.files:
            raise _Refusal(404, "Entry not found", "EntryNotFound")
        data = self.commit.files[path]
        self.extra = {"ETag": f'"{file_id(path, data)}"', "X-Repo-Commit": self.commit.id}
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, size = int(wanted[1]), len(data)
            data = data[start : int(wanted[2] or size) + 1]
            self.extra["Content-Range"] = f"bytes {start}-{start + len(data) - 1}/{size}"
            self.status = 206
        return data

    def preupload(self) -> dict:
        """Which files go by LFS, and the ids of those that are already here."""
        asked, here = json.loads(self.body)["files"], self.repo.files
        for each in asked:
            mode = "lfs" if is_lfs(each["path"], each["size"]) else "regular"
            known = file_id(each["path"], here[each["path"]]) if each["path"] in here else None
            each |= {"uploadMode": mode, "shouldIgnore": False, "oid": known}
        return {"files": asked}

    def batch(self) -> dict:
        """Where to PUT each object that is not here yet."""
        objects, verify = json.loads(self.body)["objects"], self.path.replace("objects/batch", "verify")
        for each in objects:
            if each["oid"] not in self.hub.lfs:
                places = {"upload": f"/lfs/{each['oid']}", "verify": verify}
                each["actions"] = {what: {"href": self.hub.endpoint + at} for what, at in places.items()}
        return {"transfer": "basic", "objects": objects}

    def upload(self, oid: str) -> bytes:
        """Like an address signed for S3, it asks for no token."""
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Refusal(400, f"The content is not that of {oid}")
        self.hub.lfs[oid] = self.body
        self.hub.lfs_received += len(self.body)
        return b""

    def stored(self, oid: str, size: int) -> bytes:
        if len(self.hub.lfs.get(oid, b"")) != size:
            raise _Refusal(422, f"The LFS object {oid} of {size} bytes was not uploaded")
        return self.hub.lfs[oid]

    def verify(self) -> dict:
        return {"size": len(self.stored(**json.loads(self.body)))}

    def take_commit(self) -> dict:
        """Apply all operations, or none."""
        header, *lines = [json.loads(line) for line in self.body.splitlines()]
        files = dict(self.repo.files)
        if "create_pr" in self.path:
            raise _Refusal(400, "The fake Hub has no pull requests")
        if header["value"].get("parentCommit") not in (None, self.repo.commits[-1].id):
            raise _Refusal(412, "A commit has happened since. Please refresh and try again.")
        for kind, value in ((line["key"], line["value"]) for line in lines):
            path = value["path"]
            if kind == "file":
                files[path] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[path] = self.stored(value["oid"], value["size"])
            else:
                inside = f"{path.rstrip('/')}/" if kind == "deletedFolder" else "/"  # no path begins with "/"
                gone = [each for each in files if each == path or each.startswith(inside)]
                if not gone:
                    raise _Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
                files = {each: data for each, data in files.items() if each not in gone}
        operations = [(line["key"], line["value"]["path"]) for line in lines]
        made = self.repo.commit(header["value"]["summary"], operations, files)
        return {"commitOid": made.id, "commitUrl": f"{self.address(self.kind, self.name)}/commit/{made.id}"}


_API = r"/api/(?P<kind>models/|datasets/)(?P<name>[^/]+/[^/]+)"
_WEB = r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+?)"
_AT = r"(?P<revision>[^/]+)"
_ROUTES = {
    r"GET /api/whoami-v2": lambda self: {"type": "user", "name": self.hub.user, "orgs": []},
    r"POST /api/validate-yaml": lambda self: {"errors": [], "warnings": []},
    r"POST /api/repos/create": _Handler.create,
    rf"GET {_API}(/revision/{_AT})?": _Handler.info,
    rf"GET {_API}/tree/{_AT}(/(?P<path>.+))?": _Handler.tree,
    rf"POST {_API}/paths-info/{_AT}": _Handler.paths,
    rf"GET {_WEB}/resolve/{_AT}/(?P<path>.+)": _Handler.file,
    rf"POST {_API}/preupload/{_AT}": _Handler.preupload,
    rf"POST {_WEB}\.git/info/lfs/objects/batch": _Handler.batch,
    r"PUT /lfs/(?P<oid>[0-9a-f]{64})": _Handler.upload,
    rf"POST {_WEB}\.git/info/lfs/verify": _Handler.verify,
    rf"POST {_API}/commit/{_AT}": _Handler.take_commit,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The Hugging Face Hub on the loopback.")
    parser.add_argument("--port", type=int, default=8091)
    hub = FakeHub()
    server = hub.serve(parser.parse_args().port)
    print(*map("=".join, hub.environment("/tmp/fake-hub").items()), sep="\n", flush=True)
    server.serve_forever()
