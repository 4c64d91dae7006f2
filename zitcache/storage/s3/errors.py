"""What an answer of an endpoint means, and how a person is told.

Servers differ in their error codes; the sets below hold those of AWS, OSS, COS, TOS, R2, MinIO, Ceph, Garage
and SeaweedFS. An answer to HEAD has no code at all: only its status counts then.
"""

from __future__ import annotations

import email.utils
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from zitcache.errors import (
    CredentialsError,
    IntegrityError,
    NoSpace,
    ObjectNotFound,
    RepositoryNotFound,
    Unreachable,
    UsageError,
    ZitcacheError,
)

if TYPE_CHECKING:
    from zitcache.storage.s3.client import Connection
    from zitcache.storage.s3.location import S3Location


class Kind(Enum):
    """What kind of failure it is, and so what can be done."""

    AWAY = "no answer, or a server error: try again"
    BUSY = "too many requests: try again, slower"
    UNKNOWN_HOST = "there is no such host"
    EXPIRED = "the session is over: renew it"
    KEYS = "the keys are wrong"
    DENIED = "the keys may not do this"
    SKEW = "the clocks differ"
    REGION = "the bucket is elsewhere"
    STYLE = "the bucket's name belongs elsewhere"
    NO_KEY = "no such object"
    NO_BUCKET = "no such bucket"
    EXISTS = "the object exists already"
    CHANGED = "the object is not the same any more"
    CONFLICT = "somebody else is writing it: try again"
    RANGE = "beyond the end of the object"
    UNSUPPORTED = "the endpoint cannot do this"
    CHECKSUM = "what arrived is not what was sent: try again"
    FULL = "no space or quota left"
    ARCHIVED = "the object is in a storage class that must be thawed first"
    IMMUTABLE = "the object is locked"
    SETTINGS = "a setting of this machine is wrong"
    NO_KEYS = "there are no keys"
    OTHER = "anything else"


_BY_CODE = {
    Kind.BUSY: """SlowDown Throttling ThrottlingException TooManyRequests TooManyRequestsException Busy
        RequestLimitExceeded ServiceUnavailable QpsLimitExceeded ReachedQPSLimit RequestThrottled SlowDownRead
        SlowDownWrite DownloadTrafficRateLimitExceeded UploadTrafficRateLimitExceeded BandwidthLimitExceeded
        XMinioServerNotInitialized ExceedAccountQPSLimit ExceedBucketQPSLimit""",
    Kind.AWAY: """InternalError RequestTimeout RequestTimeoutException BadGateway GatewayTimeout
        IncompleteBody OperationTimedOut XMinioReadQuorum XMinioWriteQuorum""",
    Kind.EXPIRED: """ExpiredToken ExpiredTokenException TokenRefreshRequired SecurityTokenExpired
        RequestExpired""",
    Kind.KEYS: """InvalidAccessKeyId SignatureDoesNotMatch InvalidToken InvalidSecurityToken AccountProblem
        InvalidClientTokenId UnrecognizedClientException AuthFailure NotSignedUp InvalidAccessKey UserDisable
        MissingSecurityHeader InvalidAccessKeySecret""",
    Kind.DENIED: "AccessDenied AllAccessDisabled Forbidden AccessForbidden UnauthorizedAccess Unauthorized",
    Kind.SKEW: "RequestTimeTooSkewed RequestInTheFuture",
    Kind.REGION: """PermanentRedirect TemporaryRedirect Redirect IllegalLocationConstraintException
        AuthorizationHeaderMalformed WrongRegion IncorrectEndpoint""",
    Kind.STYLE: """SecondLevelDomainForbidden PathStyleDomainForbidden InvalidPathAccess
        VirtualHostDomainRequired""",
    Kind.NO_KEY: "NoSuchKey NotFound NoSuchObject",
    Kind.NO_BUCKET: "NoSuchBucket",
    Kind.EXISTS: "FileAlreadyExists ObjectAlreadyExists",
    Kind.CONFLICT: "ConditionalRequestConflict OperationAborted ConcurrentUpdate",
    Kind.RANGE: "InvalidRange RequestedRangeNotSatisfiable",
    Kind.UNSUPPORTED: "NotImplemented MethodNotAllowed UnsupportedOperation",
    Kind.CHECKSUM: "BadDigest InvalidDigest XAmzContentSHA256Mismatch XAmzContentChecksumMismatch",
    Kind.FULL: """QuotaExceeded XMinioStorageFull XMinioAdminBucketQuotaExceeded InsufficientStorage
        StorageFull BucketQuotaExceeded OutOfSpace UserStorageExceeded""",
    Kind.ARCHIVED: "InvalidObjectState",
    Kind.IMMUTABLE: "FileImmutable ObjectLocked InvalidRetentionPeriod",
}
_CODES = {code: kind for kind, codes in _BY_CODE.items() for code in codes.split()}
_STATUSES = {
    301: Kind.REGION,
    302: Kind.REGION,
    307: Kind.REGION,
    308: Kind.REGION,
    401: Kind.KEYS,
    403: Kind.DENIED,
    404: Kind.NO_KEY,
    405: Kind.UNSUPPORTED,
    408: Kind.AWAY,
    409: Kind.CONFLICT,
    412: Kind.EXISTS,
    416: Kind.RANGE,
    425: Kind.BUSY,
    429: Kind.BUSY,
    501: Kind.UNSUPPORTED,
    503: Kind.BUSY,
    507: Kind.FULL,
}
_UNSIGNED = re.compile("content-sha256|XAmzContentSHA256Mismatch|UNSIGNED-PAYLOAD", re.IGNORECASE)
RETRIED = frozenset({Kind.AWAY, Kind.BUSY, Kind.CONFLICT, Kind.CHECKSUM, Kind.UNKNOWN_HOST})
_REGION_IN_TEXT = re.compile(r"expecting '([a-z0-9-]{1,40})'")
_PLAIN = re.compile(r"[^\x20-\x7e\u00a0-\U0001ffff]")


class ShortBody(Exception):
    """A body ended early or broke off. ``received``: bytes that arrived in this attempt."""

    def __init__(self, received: int, reason: str) -> None:
        self.received = received
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a failure. ``text``: for people, without secrets."""

    kind: Kind
    text: str
    code: str = ""
    status: int = 0
    region: str | None = None
    retry_after: float | None = None
    server_time: float | None = None
    received: int = 0

    @property
    def wants_signed_bodies(self) -> bool:
        """Whether the endpoint refuses bodies that are not part of the signature."""
        return 400 <= self.status < 502 and _UNSIGNED.search(self.text) is not None


def answer_of(error: BaseException, secrets: Sequence[str] = ()) -> Answer | None:
    """What a failed attempt means; None if it is not the endpoint's or the network's failure but a bug."""
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    text = _scrubbed(str(error), secrets)
    if isinstance(error, ShortBody):
        return Answer(Kind.AWAY, text, received=error.received)
    if isinstance(error, boto.ClientError):
        return _of_response(error.response, secrets)
    if isinstance(error, boto.EndpointConnectionError):
        reason = error.kwargs.get("error")
        unknown = type(reason).__name__ == "NameResolutionError"
        return Answer(Kind.UNKNOWN_HOST if unknown else Kind.AWAY, _network_text(reason or error, secrets))
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError)):
        return Answer(Kind.NO_KEYS, text)
    if isinstance(
        error, (boto.CredentialRetrievalError, boto.TokenRetrievalError, boto.UnauthorizedSSOTokenError)
    ):
        return Answer(Kind.EXPIRED, text)
    if isinstance(error, (boto.ProfileNotFound, boto.ConfigNotFound, boto.ConfigParseError)):
        return Answer(Kind.NO_KEYS, text)
    if isinstance(error, boto.SSLError):
        return Answer(Kind.SETTINGS, _network_text(error, secrets))
    if isinstance(error, (boto.HTTPClientError, boto.IncompleteReadError, boto.ResponseStreamingError)):
        return Answer(Kind.AWAY, _network_text(error, secrets))
    if isinstance(error, ResponseParserError):
        return Answer(Kind.AWAY, "the answer cannot be read")
    if isinstance(error, boto.BotoCoreError):
        return Answer(Kind.SETTINGS, text)
    if isinstance(error, (HTTPError, OSError)):
        return Answer(Kind.AWAY, text or type(error).__name__)
    return None


def _of_response(response: Any, secrets: Sequence[str]) -> Answer:
    found = response.get("Error", {})
    meta = response.get("ResponseMetadata", {})
    headers = meta.get("HTTPHeaders", {})
    status = int(meta.get("HTTPStatusCode") or 0)
    code = str(found.get("Code", ""))
    message = _scrubbed(str(found.get("Message", "")), secrets)
    region = headers.get("x-amz-bucket-region") or found.get("Region")
    if not region and (match := _REGION_IN_TEXT.search(message)):
        region = match[1]
    kind = _CODES.get(code)
    if kind is None:
        kind = Kind.AWAY if status >= 500 and status not in _STATUSES else _STATUSES.get(status, Kind.OTHER)
    if region and status == 400 and kind is Kind.OTHER:
        kind = Kind.REGION
    shown = f"HTTP {status}" + (f" {code}" if code and not code.isdigit() else "")
    return Answer(
        kind,
        f"{shown}: {message}" if message else shown,
        code=code,
        status=status,
        region=str(region) if region else None,
        retry_after=_seconds(headers.get("retry-after")),
        server_time=_time(headers.get("date")),
    )


def translate(answer: Answer, doing: str, location: S3Location, connection: Connection) -> ZitcacheError:
    """The error for a person: what could not be done, why, and the next step."""
    place = f"s3://{location.bucket}" + (f"/{location.prefix}" if location.prefix else "")
    endpoint = connection.endpoint_url or "AWS"
    make = _MAKERS.get(answer.kind, _other)
    return make(_Case(answer, doing, place, location.bucket, endpoint, connection))


@dataclass(frozen=True, slots=True)
class _Case:
    answer: Answer
    doing: str
    place: str
    bucket: str
    endpoint: str
    connection: Connection

    @property
    def why(self) -> str:
        return f"{self.doing} in {self.place} ({self.endpoint}): {self.answer.text}"


def _away(case: _Case) -> ZitcacheError:
    what = "fails" if case.answer.status else "does not answer"
    return Unreachable(f"The endpoint {what}: {case.why}.")


def _unknown_host(case: _Case) -> ZitcacheError:
    return Unreachable(
        f"The endpoint was not found: {case.why}.",
        hint="Check the endpoint's name (--endpoint-url) and this machine's network, then try again.",
    )


def _expired(case: _Case) -> ZitcacheError:
    return CredentialsError(
        f"The session has expired ({case.connection.key_source()}): {case.why}.",
        hint="Renew it (aws sso login, or new keys in the environment), and run the command again.",
    )


def _keys(case: _Case) -> ZitcacheError:
    return CredentialsError(
        f"The endpoint does not accept {case.connection.key_source()}: {case.why}.",
        hint="Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name the right profile: --profile NAME",
    )


def _no_keys(case: _Case) -> ZitcacheError:
    return CredentialsError(
        f"There are no keys for S3: {case.answer.text}.",
        hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run: aws configure",
    )


def _denied(case: _Case) -> ZitcacheError:
    return CredentialsError(
        f"Not allowed for {case.connection.key_source()}: {case.why}.",
        hint="Its policy must allow s3:GetObject, s3:PutObject and s3:ListBucket here: see docs/how-to/.",
    )


def _skew(case: _Case) -> ZitcacheError:
    difference = ""
    if case.answer.server_time is not None:
        minutes = (time.time() - case.answer.server_time) / 60
        difference = f" This machine is {abs(minutes):.0f} minutes {'ahead' if minutes > 0 else 'behind'}."
    return CredentialsError(
        f"The clocks differ too much: {case.why}.{difference}",
        hint="Set this machine's clock (timedatectl set-ntp true; of a container: its host), then try again.",
    )


def _region(case: _Case) -> ZitcacheError:
    region = case.answer.region
    where = f" It is in {region}." if region else ""
    return UsageError(
        f"The bucket {case.bucket} is in another region or at another endpoint: {case.why}.{where}",
        hint=f"Add --region {region}" if region else "Name them: --region NAME --endpoint-url URL",
    )


def _style(case: _Case) -> ZitcacheError:
    return UsageError(
        f"The endpoint wants the bucket in another place of the URL: {case.why}.",
        hint="Add addressing=virtual (or path) to the place: s3://bucket/prefix?addressing=virtual",
    )


def _no_key(case: _Case) -> ZitcacheError:
    return ObjectNotFound(f"It is missing: {case.doing} in {case.place}.")


def _no_bucket(case: _Case) -> ZitcacheError:
    return RepositoryNotFound(
        f"There is no bucket {case.bucket} at {case.endpoint}.",
        hint="Check its name, or create it in the provider's console or with: "
        f"aws s3 mb s3://{case.bucket}"
        + (f" --endpoint-url {case.endpoint}" if "://" in case.endpoint else ""),
    )


def _full(case: _Case) -> ZitcacheError:
    return NoSpace(
        f"No space is left in the bucket: {case.why}.",
        hint="Raise the quota or remove old snapshots, then run the same command again: it resumes.",
    )


def _archived(case: _Case) -> ZitcacheError:
    return Unreachable(
        f"The object was moved to an archive and must be brought back first: {case.why}.",
        hint=f"Restore it to its bucket, and exempt {case.place} from lifecycle rules that archive.",
    )


def _immutable(case: _Case) -> ZitcacheError:
    return CredentialsError(
        f"The object is locked: {case.why}.", hint="It can be removed when its retention is over."
    )


def _settings(case: _Case) -> ZitcacheError:
    hint = "Check the endpoint, the profile and the variables that begin with AWS_."
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        if os.environ.get(name):
            hint = f"{name} names the certificates that are trusted: {os.environ[name]}. Correct or unset it."
            break
    return UsageError(f"The endpoint cannot be used so: {case.why}.", hint=hint)


def _checksum(case: _Case) -> ZitcacheError:
    return IntegrityError(
        f"The endpoint received other bytes than were sent, again and again: {case.why}.",
        hint="Something on the way changes data: check memory, network card and proxies.",
    )


def _other(case: _Case) -> ZitcacheError:
    return Unreachable(f"The endpoint refused: {case.why}.")


_MAKERS: dict[Kind, Callable[[_Case], ZitcacheError]] = {
    Kind.AWAY: _away,
    Kind.BUSY: _away,
    Kind.CONFLICT: _away,
    Kind.UNKNOWN_HOST: _unknown_host,
    Kind.EXPIRED: _expired,
    Kind.KEYS: _keys,
    Kind.NO_KEYS: _no_keys,
    Kind.DENIED: _denied,
    Kind.SKEW: _skew,
    Kind.REGION: _region,
    Kind.STYLE: _style,
    Kind.NO_KEY: _no_key,
    Kind.NO_BUCKET: _no_bucket,
    Kind.FULL: _full,
    Kind.ARCHIVED: _archived,
    Kind.IMMUTABLE: _immutable,
    Kind.SETTINGS: _settings,
    Kind.CHECKSUM: _checksum,
}


def _network_text(error: BaseException, secrets: Sequence[str]) -> str:
    text = _scrubbed(str(error), secrets)
    # "<urllib3.connection.HTTPConnection object at 0x…>: Failed to …" says nothing to a person.
    return re.sub(r"<[^<>]* object at 0x[0-9a-f]+>:? ?", "", text).rstrip(".")


def _scrubbed(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    text = re.sub(r"(?i)(https?://)[^/\s@]+@", r"\1…@", text)
    return _PLAIN.sub(" ", text)[:500].strip().rstrip(".")


def _seconds(value: str | None) -> float | None:
    return float(value) if value and value.isascii() and value.isdigit() and len(value) < 6 else None


def _time(value: str | None) -> float | None:
    if not value:
        return None
    try:
        return email.utils.parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
