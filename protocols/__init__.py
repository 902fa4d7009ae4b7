"""The replication protocols, by the name that settings give them.

A new protocol is one file and one line here.
"""

from protocols.base import ReplicationProtocol
from protocols.primary_backup import PrimaryBackup

PROTOCOLS: dict[str, type[ReplicationProtocol]] = {
    protocol.name: protocol for protocol in (PrimaryBackup,)
}
