"""The store whose data live in etcd, and this service one of many in front of it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Raw

from access import READ, reason
from backends.changes import Changes
from backends.endpoints import Endpoints, Login, NobodyLeads
from backends.gateway import Security
from backends.keys import LIVE, Keys, changing
from backends.local import LocalMembers
from backends.members import Members
from backends.messages import Range
from backends.roster import Roster
from backends.watch import Watch
from cluster.events import EventLog, log_event, wall_ms
from cluster.listing import KeyPage, Location, RecordPage
from cluster.reports import Measures, ShardMap
from config import CannotOpen, Settings
from engine import Engine, Scheme
from limits import VERSION_MAX, check_key, check_restored, check_ttl, json_text
from models import (
    Condition,
    Event,
    Intent,
    InvalidRequest,
    NodeId,
    NodeInfo,
    ReadOutcome,
    Unavailable,
    Version,
    WriteOutcome,
)

T = TypeVar("T")
LEVELS = LINEARIZABLE, ONE = ("linearizable", "one")
REQUEST_OVERHEAD_BYTES = 512 << 10  # of a transaction over its value, as etcd counts
START_SECONDS_MAX = 10.0  # for members that are started here to elect a leader
LOOK_SECONDS = 0.1


class EtcdEngine(Engine):
    """A store whose data live in etcd; any number of them may serve one etcd."""

    def __init__(
        self,
        settings: Settings,
        endpoints: Endpoints,
        keys: Keys,
        members: Members,
        changes: Changes,
    ) -> None:
        self.settings = settings
        self._endpoints = endpoints
        self._keys = keys
        self._members = members
        self._nodes = changes

    @property
    def scheme(self) -> Scheme:
        """Raft: every member holds every key, and a majority decides."""
        count = self._members.voters
        return Scheme(
            protocol="raft",
            placement="full",
            replication_factor=count,
            replicas=count,
            levels=LEVELS,
            fail_modes=self._nodes.fail_modes,
            survival=_survival(self.settings),
        )

    # --- Keys ------------------------------------------------------------------------

    def write(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | None = None,
        condition: Condition | None = None,
        consistency: str | None = None,
    ) -> WriteOutcome:
        """Create or update a key, at a majority. Level one is no weaker here."""
        check_key(key, self.settings.max_key_bytes)
        text = json_text(value, self.settings.max_value_bytes)
        ttl_ms = check_ttl(ttl) if ttl is not None else None
        self._check_level(consistency)
        return self._change(Intent(key, text, ttl_ms, condition))

    def delete(
        self,
        key: str,
        *,
        condition: Condition | None = None,
        consistency: str | None = None,
    ) -> WriteOutcome:
        """Delete a key; KeyNotFound where there is no value."""
        check_key(key)
        self._check_level(consistency)
        return self._change(Intent(key, None, None, condition or Condition()))

    def restore(
        self, key: str, value: Any, version: Version, expires_at_ms: int = 0
    ) -> WriteOutcome:
        """Write a key that has neither a value nor a tombstone, under a new version.

        etcd alone makes its revisions, so the version that it had cannot be kept.
        """
        check_key(key, self.settings.max_key_bytes)
        text = json_text(value, self.settings.max_value_bytes)
        # However far ahead of the clock: here no clock follows it.
        check_restored(version, expires_at_ms, 0, VERSION_MAX.ms)
        ttl_ms = None
        if expires_at_ms:
            ttl_ms = self._keys.until(expires_at_ms)
        intent = Intent(key, text, ttl_ms, Condition(if_absent=True), version=version)
        return self._change(intent)

    def read(self, key: str, *, consistency: str | None = None) -> ReadOutcome:
        """The value of a key; level one is what some member has, which may be stale."""
        check_key(key)
        is_stale = self._check_level(consistency) == ONE
        found, header = self._decided(lambda: self._keys.read(key, stale=is_stale))
        return ReadOutcome(
            key,
            Raw(found.value),
            Version(found.mod_revision).text,
            self._members.ids_of(header.member_id),
            may_be_stale=is_stale,
        )

    def keys(self, prefix: str = "", after: str = "", limit: int = 100) -> KeyPage:
        """A page of the keys that have a value: all of it at one revision."""
        return self._decided(lambda: self._keys.page(prefix, after, limit))

    def records(self, after: str = "", limit: int = 100) -> RecordPage:
        """A page of the keys with their values."""
        return self._decided(lambda: self._keys.records(after, limit))

    def locate(self, key: str) -> Location:
        """Which version each member holds, asked of each."""
        check_key(key)
        return self._members.locate(key, self._keys.look_for(key, stale=True))

    # --- Nodes -----------------------------------------------------------------------

    def nodes(self) -> tuple[NodeInfo, ...]:
        """Every member, asked now."""
        return self._members.nodes()

    def fail(self, node_id: NodeId, mode: str | None = None) -> NodeInfo:
        """Kill, pause or wipe a member that was started here."""
        return self._nodes.fail(node_id, mode)

    def recover(self, node_id: NodeId, *, accept_loss: bool = False) -> NodeInfo:
        """Bring such a member back, and wait until it has caught up."""
        return self._changed(
            lambda: self._nodes.recover(node_id, accept_loss=accept_loss)
        )

    def add_node(self, url: str | None = None) -> NodeInfo:
        """Add a member: a learner first, a voter once it has caught up."""
        return self._changed(lambda: self._nodes.add(url))

    def remove_node(self, node_id: NodeId) -> NodeInfo:
        """Remove a member, if the others remain a majority."""
        return self._changed(lambda: self._nodes.remove(node_id))

    # --- The whole -------------------------------------------------------------------

    def why_not_ready(self) -> Unavailable | None:
        """The error for keys now; a majority and a leader make it ready."""
        return self._members.why_not_ready(
            Range(self._keys.live, limit=1, keys_only=True)
        )

    def shards(self) -> ShardMap:
        """One shard: every member holds every key."""
        return self._members.shards()

    @property
    def revision(self) -> str:
        """Of the members and their states, the same for all services of one etcd."""
        return self._members.revision

    def events(self, since: int = 0) -> list[Event]:
        """What this service saw or did; others saw it at other moments."""
        return self._members.events.since(since)

    def measures(self) -> Measures:
        """What this service saw, in numbers."""
        return self._members.measures(self._keys.ahead_seconds)

    def close(self) -> None:
        """End the members that were started here, and let go of connections."""
        self._endpoints.closed.set()  # nobody waits, and nothing is told any more
        self._nodes.close()
        self._members.close()
        self._endpoints.close()

    def _change(self, intent: Intent) -> WriteOutcome:
        header = self._decided(lambda: self._keys.change(intent))
        return WriteOutcome(
            intent.key,
            Version(header.revision).text,
            self._members.ids_of(header.member_id),
            self._members.down,
        )

    def _changed(self, act: Callable[[], NodeInfo]) -> NodeInfo:
        """A member that was changed; what is wrong in the words of the API."""
        return self._decided(lambda: changing(act))

    def _decided(self, act: Callable[[], T]) -> T:
        """What a majority decides; DataLost where there can be none any more."""
        try:
            return act()
        except NobodyLeads as error:
            lost = self._members.lost()
            if lost is None:
                raise
            raise lost from error

    def _check_level(self, level: str | None) -> str:
        level = level or self.settings.consistency
        if level not in LEVELS:
            raise InvalidRequest(
                f"consistency level not offered by etcd (consistency={level!r}, offered: "
                f"{', '.join(LEVELS)})"
            )
        return level


def open_etcd(settings: Settings) -> EtcdEngine:
    """A service of the etcd that the settings name, or of one that is started here.

    An etcd that cannot be reached is no reason not to start: keys answer 503 until it is.
    Raises CannotOpen for a file of TLS that cannot be used, and its child
    backends.local.LocalFailed where members cannot be started.
    """
    prefix = settings.etcd_prefix.encode()
    with ExitStack() as opened:
        local = None
        if settings.local_members:
            local = _local(settings)
            opened.callback(local.close)
            local.start()
        endpoints = _endpoints(settings, local)
        opened.callback(endpoints.close)
        now = wall_ms()  # so that numbers grow over restarts
        events = EventLog(wall_ms, now, tell=log_event)
        roster = Roster(endpoints, prefix)

        def base() -> list[str]:
            if local is None:
                return list(settings.etcd_endpoints)
            return list(local.client_urls.values())

        def failed() -> dict[NodeId, str]:
            members = () if local is None else local.members
            down = (each for each in members if each.state != "running")
            return {each.node_id: each.client_url for each in down}

        space = prefix + LIVE
        watch = Watch(endpoints, roster, space, events, base, failed=failed)
        keys = Keys(
            endpoints,
            prefix,
            watch.quota,
            grace_seconds=settings.tombstone_grace_seconds,
            seconds=settings.etcd_seconds,
        )
        members = Members(endpoints, watch, local, events)
        opened.callback(members.close)
        changes = Changes(endpoints, members, roster, local, settings.max_stored_bytes)
        _wait(watch, START_SECONDS_MAX if local is not None else 0.0)
        changes.start()
        opened.pop_all()
        return EtcdEngine(settings, endpoints, keys, members, changes)


def _local(settings: Settings) -> LocalMembers:
    return LocalMembers(
        settings.data_dir / "etcd",
        settings.local_members,
        quota_bytes=settings.max_stored_bytes,
        request_bytes=settings.max_value_bytes + REQUEST_OVERHEAD_BYTES,
    )


def _endpoints(settings: Settings, local: LocalMembers | None) -> Endpoints:
    login = None
    if settings.etcd_user is not None and settings.etcd_password is not None:
        login = Login(settings.etcd_user, settings.etcd_password)
    urls = settings.etcd_endpoints if local is None else local.client_urls.values()
    return Endpoints(urls, _security(settings), settings.etcd_seconds, login)


def _security(settings: Settings) -> Security:
    """What TLS takes: read once here, so that a mistake in it is told at the start."""
    ca, certificate, key = settings.etcd_ca, settings.etcd_cert, settings.etcd_key
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    named = {"etcd_ca": ca, "etcd_cert": certificate, "etcd_key": key}
    for name, path in named.items():
        if path is not None:
            _check_readable(name, path)
    told = ""
    try:
        if ca is not None:
            told = f"etcd_ca={ca}"
            context.load_verify_locations(ca)
        if certificate is not None:
            told = f"etcd_cert={certificate}, etcd_key={key}"
            # The password: or OpenSSL would ask whoever sits at the terminal for one.
            context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # ssl.SSLError is one
        raise CannotOpen(f"cannot use {told}: {error.strerror or error}") from error
    return Security(ca, certificate, key)


def _check_readable(name: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        why = reason(READ, path, error)
        raise CannotOpen(f"cannot use {name}={path}: {why}") from error


def _wait(watch: Watch, seconds: float) -> None:
    """Until somebody leads, but no longer than that."""
    deadline = time.monotonic() + seconds
    while watch.look().leader is None and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def _survival(settings: Settings) -> str:
    if settings.local_members:
        folder = settings.data_dir / "etcd"
        return f"in {folder}/: members of etcd here; survives a restart and a power cut"
    urls = ", ".join(settings.etcd_endpoints)
    return f"in etcd at {urls}: survives whatever a majority of its members does"
