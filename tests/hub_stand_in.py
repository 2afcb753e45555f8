"""A hub on this machine: what huggingface_hub's downloads and uploads ask of one, and no more.

Repositories of models with branches and commits, files in git or, safetensors, in large-file storage. Everyone reads;
who writes needs the token.
"""

import base64
import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_of_the_stand_in"


class Repository:
    """Commits by their hash, each the whole content of the repository."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.commits: dict[str, dict[str, bytes]] = {}
        self.branches: dict[str, str] = {}
        self.large: set[str] = set()  # names of files in large-file storage
        self.commit("main", {})

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        content = self.commits.get(self.branches.get(branch, ""), {}) | files
        digests = [f"{name} {hashlib.sha256(data).hexdigest()}" for name, data in sorted(content.items())]
        sha = hashlib.sha1("\n".join([str(len(self.commits)), *digests]).encode()).hexdigest()
        self.commits[sha] = content
        self.branches[branch] = sha
        return sha

    def find(self, revision: str) -> str | None:
        sha = self.branches.get(revision, revision)
        return sha if sha in self.commits else None

    def etag(self, name: str, data: bytes) -> str:
        if name in self.large:
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class StandIn:
    """What the hub keeps."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}  # of large-file storage, by their SHA-256
        self.asked: list[str] = []  # method and path of every request
        self.lock = Lock()
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._read(with_body=True)

    def do_HEAD(self) -> None:
        self._read(with_body=False)

    def do_POST(self) -> None:
        self._write(self._body())

    def do_PUT(self) -> None:
        self._write(self._body())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _parts(self) -> list[str]:
        path = urlsplit(self.path).path
        self.server.hub.asked.append(f"{self.command} {path}")
        return [unquote(part) for part in path.strip("/").split("/")]

    def _answer(self, content: object, code: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, code: int, kind: str) -> None:
        self._answer({"error": kind}, code, X_Error_Code=kind, X_Error_Message=kind)

    def _read(self, with_body: bool) -> None:
        hub, parts = self.server.hub, self._parts()
        if parts[:2] == ["api", "models"]:
            name, rest = "/".join(parts[2:4]), parts[4:]
        else:
            name, rest = "/".join(parts[:2]), parts[2:]
        if (repository := hub.repositories.get(name)) is None:
            return self._refuse(404, "RepoNotFound")
        sha = repository.find(rest[1] if len(rest) > 1 else "main")
        if sha is None:
            return self._refuse(404, "RevisionNotFound")
        files = repository.commits[sha]
        if not rest or rest[0] == "revision":
            siblings = [{"rfilename": file} for file in files]
            return self._answer({"id": name, "sha": sha, "private": repository.private, "siblings": siblings})
        if rest[0] == "tree":
            return self._answer([self._entry(repository, file, data) for file, data in files.items()])
        file = "/".join(rest[2:])
        if rest[0] != "resolve" or file not in files:
            return self._refuse(404, "EntryNotFound")
        return self._answer(files[file], ETag=f'"{repository.etag(file, files[file])}"', X_Repo_Commit=sha)

    @staticmethod
    def _entry(repository: Repository, file: str, data: bytes) -> dict:
        entry = {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        if file in repository.large:
            entry["lfs"] = {"oid": repository.etag(file, data), "size": len(data), "pointerSize": 134}
        return entry

    def _write(self, body: bytes) -> None:
        hub, parts = self.server.hub, self._parts()
        if parts[0] == "lfs":  # where batches send objects; signed addresses need no token
            if hashlib.sha256(body).hexdigest() != parts[1]:
                return self._refuse(400, "WrongContent")
            hub.objects[parts[1]] = body
            return self._answer({})
        if parts == ["api", "validate-yaml"]:
            return self._answer({"errors": _faults(json.loads(body)["content"]), "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "Unauthorized")
        if parts == ["api", "repos", "create"]:
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            is_new = name not in hub.repositories
            if is_new:
                is_private = wanted.get("private", False) or wanted.get("visibility") == "private"
                hub.repositories[name] = Repository(is_private)
            return self._answer({"url": f"{hub.url}/{name}"}, 200 if is_new else 409)
        if parts[-3:] == ["lfs", "objects", "batch"]:
            return self._answer(
                {"transfer": "basic", "objects": [self._place(each) for each in json.loads(body)["objects"]]}
            )
        repository, (action, branch) = hub.repositories["/".join(parts[2:4])], parts[4:6]
        if action == "branch":
            is_new = branch not in repository.branches
            repository.branches.setdefault(branch, repository.branches["main"])
            return self._answer({}, 200 if is_new else 409)
        if action == "preupload":
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = {file: "lfs" if file.endswith(".safetensors") else "regular" for file in files}
            return self._answer(
                {"files": [{"path": file, "uploadMode": mode, "shouldIgnore": False} for file, mode in modes.items()]}
            )
        assert action == "commit", self.path
        sha = self._commit(repository, branch, [json.loads(line) for line in body.splitlines()])
        return self._answer({"commitUrl": f"{hub.url}/{'/'.join(parts[2:4])}/commit/{sha}", "commitOid": sha})

    def _place(self, wanted: dict) -> dict:
        """Where an object of large-file storage goes; nowhere if it is there."""
        upload = {"upload": {"href": f"{self.server.hub.url}/lfs/{wanted['oid']}"}}
        return wanted | ({} if wanted["oid"] in self.server.hub.objects else {"actions": upload})

    def _commit(self, repository: Repository, branch: str, lines: list[dict]) -> str:
        files = {}
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "lfsFile":
                repository.large.add(value["path"])
                files[value["path"]] = self.server.hub.objects[value["oid"]]
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        with self.server.hub.lock:
            return repository.commit(branch, files)


def _faults(card: str) -> list[dict]:
    """What is wrong with a card's metadata."""
    try:
        metadata = yaml.safe_load(card.split("---\n")[1])
    except (IndexError, yaml.YAMLError) as error:
        return [{"message": f"no metadata: {error}"}]
    return [] if isinstance(metadata, dict) else [{"message": "expected keys and values"}]


@contextmanager
def stand_in():
    """A running hub."""
    hub = StandIn()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.hub, hub.url = hub, f"http://127.0.0.1:{server.server_address[1]}"
        Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield hub
        server.shutdown()
