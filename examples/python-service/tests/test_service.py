"""The service as its users meet it."""

import json
import tempfile
import threading
import unittest
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from notes_service.server import serve
from notes_service.store import Store


class ServiceTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        server = serve("127.0.0.1", 0, Store(Path(folder.name)))
        self.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, object]:
        request = Request(self.address + path, data=body, method=method)
        try:
            with urlopen(request) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    def test_note_is_kept_and_counted(self) -> None:
        counted = {"lines": 1, "words": 2, "characters": 9}
        self.assertEqual(self.ask("PUT", "/first", b"two words"), (201, counted))
        self.assertEqual(self.ask("GET", "/first"), (200, {"text": "two words", "stats": counted}))
        self.assertEqual(self.ask("GET", "/"), (200, {"notes": ["first"]}))

    def test_missing_note_is_not_found(self) -> None:
        self.assertEqual(self.ask("GET", "/none")[0], 404)

    def test_name_that_leaves_the_folder_is_refused(self) -> None:
        self.assertEqual(self.ask("PUT", "/../escape", b"x")[0], 400)
        self.assertEqual(self.ask("GET", "/..%2Fescape")[0], 404)


if __name__ == "__main__":
    unittest.main()
