"""An operator publishes a catalogue and the consent text; a device fetches, verifies and uses them.

With `homebody server init` and `homebody server run` the first and the last step are commands; what
an aggregator learned is published the same way (`Publisher.publish_learned`).
"""

import tempfile
import threading
from pathlib import Path

from aggregator.ledger import Ledger
from aggregator.publishing import Publisher
from aggregator.registry import ReleaseRegistry
from aggregator.repository import Repository
from aggregator.server import create_app, listen, make_server
from client_sdk import Homebody
from client_sdk.keys import DeviceKey
from client_sdk.wire import DEFAULT_POLICY, Catalogue, Item
from privacy.budget import Budget

shop = Catalogue(
    items=(
        Item(item_id="tea", name="Green tea", category="pantry"),
        Item(item_id="lamp", name="Desk lamp", category="home"),
    )
)
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    database = f"sqlite:///{folder / 'house.db'}"
    repository = Repository.init(folder / "releases")
    publisher = Publisher(
        repository=repository,
        registry=ReleaseRegistry(database),
        ledger=Ledger(database, {"shop": Budget(epsilon=2.0, delta=1e-6)}),
        aggregator_key=DeviceKey.generate().public_key_hex,
        catalogue=shop,
        policy=DEFAULT_POLICY,
    )
    print(f"published release {publisher.publish_base().version}")

    socket = listen("127.0.0.1", 0)
    server = make_server(create_app(repository.directory))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    with Homebody.open(
        folder / "ada",
        server_url=f"http://127.0.0.1:{socket.getsockname()[1]}",
        trusted_root=repository.trusted_root(),  # an app embeds these bytes
    ) as home:
        print(f"the device runs release {home.update().version}")
        print(", ".join(item.name for item in home.rank()))
    server.should_exit = True
    thread.join()
    socket.close()
