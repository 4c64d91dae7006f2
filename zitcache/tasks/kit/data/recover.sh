#!/bin/sh
# After a reset of the system disk, this one line puts the machine back as it was:
#
#     sh /path/to/recover.sh
#
# It needs no network, no installation and no settings, only a Python of the kind that this kit was made for.
# See first what it would do: sh recover.sh --dry-run. Everything else is in RESTORE.md beside this file.
set -u

case $0 in
*/*) here=${0%/*} ;;
*) here=. ;;
esac
here=$(CDPATH='' cd -- "${here:-/}" && pwd -P) || exit 70

if [ ! -f "$here/zitcache" ]; then
    echo "error: $here/zitcache is missing: recover.sh works only in the folder that it was made in." >&2
    exit 6
fi
exec /bin/sh "$here/zitcache" restore --from "$here" "$@"
