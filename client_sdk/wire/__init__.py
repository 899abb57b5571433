"""Every message that crosses a door of the device, versioned.

`frame` is the byte layout and the signature, `vocabulary` the closed word lists, `vectors` the
encoding of what is added up, `messages` the words of federation, `release` those of delivery.
This is the only part of the SDK that the server's folders may import.
"""

from client_sdk.wire.frame import (
    Frame,
    FrameKind,
    Signer,
    WireFormatError,
    WireSignatureError,
    canonical_json,
    read_frame,
    verify_signature,
)
from client_sdk.wire.messages import (
    Acceptance,
    Answer,
    ConsentReceipt,
    Contribution,
    Declined,
    Order,
    read_answer,
    sha256_hex,
)
from client_sdk.wire.release import (
    CARD_FILE,
    CATALOGUE_FILE,
    DEFAULT_POLICY,
    GRAPH_FILE,
    MANIFEST_TARGET,
    POLICY_FILE,
    RELEASE_FILES,
    TABLE_FILE,
    Catalogue,
    ConsentPolicy,
    Item,
    ReleaseManifest,
)
from client_sdk.wire.vectors import (
    SparseVector,
    decode_vector,
    encode_vector,
    pack_outer_product,
    packed_length,
    unpack_symmetric,
)
from client_sdk.wire.vocabulary import PURPOSE_OF, Purpose, Refusal, TaskKind

__all__ = [
    "CARD_FILE",
    "CATALOGUE_FILE",
    "DEFAULT_POLICY",
    "GRAPH_FILE",
    "MANIFEST_TARGET",
    "POLICY_FILE",
    "PURPOSE_OF",
    "RELEASE_FILES",
    "TABLE_FILE",
    "Acceptance",
    "Answer",
    "Catalogue",
    "ConsentPolicy",
    "ConsentReceipt",
    "Contribution",
    "Declined",
    "Frame",
    "FrameKind",
    "Item",
    "Order",
    "Purpose",
    "Refusal",
    "ReleaseManifest",
    "Signer",
    "SparseVector",
    "TaskKind",
    "WireFormatError",
    "WireSignatureError",
    "canonical_json",
    "decode_vector",
    "encode_vector",
    "pack_outer_product",
    "packed_length",
    "read_answer",
    "read_frame",
    "sha256_hex",
    "unpack_symmetric",
    "verify_signature",
]
