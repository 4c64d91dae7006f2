"""What follows from the name of an endpoint: where the bucket's name goes, and the region.

OSS, COS and TOS take the bucket in the host name alone ("virtual"); a bare IP address or a name without dots
(``minio``, ``localhost``) cannot have anything before it ("path"). All others are tried with the path first.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_VIRTUAL_ONLY = (".aliyuncs.com", ".myqcloud.com", ".volces.com", ".tencentcos.cn")
_AWS = (".amazonaws.com", ".amazonaws.com.cn")
_REGIONS = (
    re.compile(r"(?:s3[.-])?(?:oss-)(?P<region>[a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com"),
    re.compile(r"cos(?:-internal)?\.(?P<region>[a-z0-9-]+)\.(?:myqcloud\.com|tencentcos\.cn)"),
    re.compile(r"tos-s3-(?P<region>[a-z0-9-]+)\.(?:i)?volces\.com"),
    re.compile(r"s3[.-](?:dualstack\.)?(?P<region>[a-z]{2,3}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?"),
    re.compile(
        r"s3\.(?P<region>[a-z0-9-]+)\.(?:wasabisys|backblazeb2|scw\.cloud|ovh|ovhcloud|io\.cloud\.ovh)\b.*"
    ),
)
_R2 = ".r2.cloudflarestorage.com"
FALLBACK_REGION = "us-east-1"
"""What servers that have no regions expect in a signature."""


def host_of(endpoint_url: str) -> str:
    """The host name of an endpoint, lower case."""
    return (urlsplit(endpoint_url).hostname or "").lower()


def is_aws(endpoint_url: str | None) -> bool:
    """Whether this is AWS itself: no endpoint named, or one of its own."""
    return endpoint_url is None or host_of(endpoint_url).endswith(_AWS)


def is_local(endpoint_url: str) -> bool:
    """Whether the endpoint is this machine, where no proxy may stand between."""
    host = host_of(endpoint_url)
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def preferred_style(endpoint_url: str | None) -> str:
    """The addressing to begin with, in boto3's words: "auto" (AWS), "path" or "virtual"."""
    if is_aws(endpoint_url) or endpoint_url is None:
        return "auto"
    return "virtual" if host_of(endpoint_url).endswith(_VIRTUAL_ONLY) else "path"


def other_style(endpoint_url: str | None, style: str) -> str | None:
    """The addressing to try when ``style`` was refused; None where there is only one."""
    if endpoint_url is None or is_aws(endpoint_url):
        return None
    host = host_of(endpoint_url)
    if host.endswith(_VIRTUAL_ONLY) or "." not in host or _address(host) is not None:
        return None
    return "virtual" if style == "path" else "path"


def region_of(endpoint_url: str) -> str | None:
    """The region that the endpoint's name gives away."""
    host = host_of(endpoint_url)
    if host.endswith(_R2):
        return "auto"
    for pattern in _REGIONS:
        match = pattern.fullmatch(host)
        if match:
            return match["region"]
    return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
