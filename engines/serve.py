"""A store over HTTP or HTTPS: manifests by model, everything else by digest, in ranges, so that a cut can be resumed.

    GET /model/<id>/model.json      the manifest, as it lies there
    GET /sha256/<digest>            the object: a segment, a weight or an engine

Only what a manifest names is served, and nothing can be changed from outside. aiohttp answers the ranges. Content is
not checked here: whoever pulls checks it, and trusts nobody on the way.
"""

import ssl
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

from pamdi.core.errors import EngineError
from pamdi.engines.manifest import FILE, Manifest, read_manifest
from pamdi.engines.store import file_with


class Served:
    """What lies under ``root``, a model's folder or a store of them, read again when a manifest has changed."""

    def __init__(self, root: Path, say: Callable[[str], None]) -> None:
        self._root, self._say = root, say
        self._read: Dict[Path, Tuple[int, Optional[Manifest]]] = {}

    def models(self) -> Dict[str, Tuple[Path, Manifest]]:
        found = {}
        for path in [self._root / FILE, *sorted(self._root.glob(f"*/{FILE}"))]:
            manifest = self._manifest(path)
            if manifest is not None:
                found[manifest.model] = (path.parent, manifest)
        return found

    def _manifest(self, path: Path) -> Optional[Manifest]:
        try:
            stamp = path.stat().st_mtime_ns
        except OSError:
            return None
        if self._read.get(path, (None, None))[0] != stamp:
            try:
                self._read[path] = (stamp, read_manifest(path.parent))
            except EngineError as error:
                self._read[path] = (stamp, None)
                self._say(f"not served: {error}")
        return self._read[path][1]

    def file(self, sha256: str) -> Optional[Path]:
        candidates = (file_with(folder, manifest, sha256) for folder, manifest in self.models().values())
        return next((path for path in candidates if path is not None), None)


def serve(
    root: Path, host: str, port: int, say: Callable[[str], None], cert: Optional[Path] = None,
    key: Optional[Path] = None,
) -> None:  # fmt: skip
    """Until interrupted. Raises EngineError for what a person must mend before anything is served."""
    try:
        from aiohttp import web
    except ImportError as error:
        raise EngineError("aiohttp is not installed: pip install 'pamdi[tools]'") from error
    served = Served(root, say)
    if not served.models():
        raise EngineError(f"{root}: holds no model: run `pamdi engines export MODEL --out {root}/MODEL`")

    async def manifest(request: Any) -> Any:
        known = served.models().get(request.match_info["model"])
        if known is None:
            raise web.HTTPNotFound(text="no such model")
        return web.FileResponse(known[0] / FILE)

    async def content(request: Any) -> Any:
        path = served.file(request.match_info["digest"])
        if path is None:
            raise web.HTTPNotFound(text="no such object")
        return web.FileResponse(path, chunk_size=1 << 20)

    app = web.Application()
    app.router.add_get("/model/{model}/model.json", manifest)
    app.router.add_get("/sha256/{digest:[0-9a-f]{64}}", content)
    context = _tls(cert, key) if cert is not None else None
    scheme = "http" if context is None else "https"
    try:
        web.run_app(
            app, host=host, port=port, ssl_context=context, access_log=None, handle_signals=True,
            print=lambda text, *rest: say(f"serving {', '.join(served.models())} at {scheme}://{host}:{port}"),
        )  # fmt: skip
    except OSError as error:
        raise EngineError(f"{host}:{port}: {error.strerror}: choose another --host or --port") from error


def _tls(cert: Path, key: Optional[Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise EngineError(f"{cert}: {error.strerror or error}: give a certificate and its --key") from error
    return context
