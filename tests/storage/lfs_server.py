"""A real git-lfs server on the loopback, for tests: giftless with local storage, open to everybody on this machine.

`python lfs_server.py STORE` prints its port when it listens; a repository uses it with
lfs.url = http://127.0.0.1:PORT/ORGANISATION/REPOSITORY.git/info/lfs
"""

from __future__ import annotations

import sys

from giftless.app import init_app
from giftless.auth.identity import Identity
from werkzeug.serving import make_server


class Everybody(Identity):
    """May do everything. giftless's own anonymous user may not touch single objects."""

    def is_authorized(self, *args: object, **kwargs: object) -> bool:
        return True


def everybody(request: object) -> Everybody:
    return Everybody("tests", "tests")


def main(store: str) -> None:
    transfer = {
        "factory": "giftless.transfer.basic_streaming:factory",
        "options": {
            "storage_class": "giftless.storage.local_storage:LocalStorage",
            "storage_options": {"path": store},
        },
    }
    app = init_app(
        None,
        {
            "AUTH_PROVIDERS": ["lfs_server:everybody"],
            "PRE_AUTHORIZED_ACTION_PROVIDER": None,
            "TRANSFER_ADAPTERS": {"basic": transfer},
            "LEGACY_ENDPOINTS": False,
        },
    )
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
