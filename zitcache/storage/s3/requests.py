"""One request to the endpoint, whatever it takes: retries, renewed keys, the right region and addressing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from zitcache.errors import UsageError
from zitcache.storage.s3.client import Connection
from zitcache.storage.s3.errors import RETRIED, Answer, Kind, answer_of, translate
from zitcache.storage.s3.location import DEFAULT_CONCURRENCY, DEFAULT_GIVE_UP_SECONDS, S3Location
from zitcache.storage.s3.retry import FIRST_CONTACT_SECONDS, UNKNOWN_HOST_SECONDS, Patience, Tries

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ResultT = TypeVar("ResultT")

RENEWAL_SECONDS = 60.0
"""How long to wait for somebody, or something, to renew a session that has expired."""
_MOVES = 2


class Requests:
    """Runs attempts, at most ``concurrency`` at a time. May be used from any thread."""

    def __init__(self, location: S3Location) -> None:
        self.location = location
        self.concurrency = location.concurrency or DEFAULT_CONCURRENCY
        # Idle connections above the concurrency would be closed and opened again.
        self.connection = Connection(location, pool_size=self.concurrency + 4)
        self.patience = Patience(float(location.give_up_after or DEFAULT_GIVE_UP_SECONDS))
        self._gate = threading.BoundedSemaphore(self.concurrency)

    def run(
        self,
        doing: str,
        attempt: Callable[[S3Client], ResultT],
        *,
        expected: frozenset[Kind] = frozenset(),
        is_body: bool = False,
    ) -> ResultT:
        """The result of ``attempt``, which is made again while that may help.

        ``doing`` says what for ("reading packs/…"). Failures of an ``expected`` kind are raised as
        :class:`Expected` at once. ``is_body``: the attempt may be repeated after a part was received.
        """
        tries = self.patience.begin()
        moves = 0
        while True:
            generation = self.connection.generation
            try:
                with self._gate:
                    result = attempt(self.connection.client())
            except Exception as error:
                answer = answer_of(error, self.connection.secrets())
                if answer is None:
                    raise
                cause = error
            else:
                self.patience.succeeded()
                return result
            if answer.status:
                self.patience.answered()
            if answer.received:
                tries.progressed()
            if answer.wants_signed_bodies and self.connection.sign_bodies(generation):
                continue
            if answer.kind in expected:
                raise Expected(answer, tries.total)
            if answer.kind in {Kind.REGION, Kind.STYLE, Kind.UNKNOWN_HOST} and moves < _MOVES:
                moves += 1
                if self._moved(answer):
                    continue
            if self._goes_on(answer, tries, generation):
                continue
            failure = translate(answer, doing, self.location, self.connection)
            raise failure from (None if _tells_secrets(cause, self.connection) else cause)

    def _moved(self, answer: Answer) -> bool:
        if answer.kind is Kind.REGION:
            return answer.region is not None and self.connection.move(answer.region)
        return self.connection.readdress(self.connection.style)

    def _goes_on(self, answer: Answer, tries: Tries, generation: int) -> bool:
        """Wait, and say whether to try again."""
        if answer.kind is Kind.EXPIRED:
            self.connection.renew(generation)
            return tries.pause(at_most=RENEWAL_SECONDS)
        if answer.kind is Kind.KEYS and self.patience.was_trusted and not tries.has_new_keys:
            # They were good before, so they were replaced: read them again, once.
            tries.has_new_keys = True
            self.connection.renew(generation)
            return tries.pause()
        if answer.kind not in RETRIED:
            return False
        at_most = None
        if not self.patience.was_reached:
            at_most = UNKNOWN_HOST_SECONDS if answer.kind is Kind.UNKNOWN_HOST else FIRST_CONTACT_SECONDS
        return tries.pause(at_most=at_most, retry_after=answer.retry_after)


class Expected(Exception):
    """A failure that the caller asked for. ``retries``: failed attempts before this answer."""

    def __init__(self, answer: Answer, retries: int) -> None:
        self.answer = answer
        self.kind = answer.kind
        self.retries = retries
        super().__init__(answer.text)


def _tells_secrets(error: BaseException, connection: Connection) -> bool:
    return isinstance(error, UsageError) or any(secret in str(error) for secret in connection.secrets())
