#!/bin/sh
# On a bare machine, this brings the models back from the bucket: it fetches the kit and restores.
#
#     aws s3 cp @WORDS@ | sh
#     aws s3 cp @WORDS@ | sh -s -- --dry-run
#
# Any S3 client will do to get this file: rclone cat, s5cmd cat, curl with a presigned URL. To fetch the kit
# itself it needs one of aws, s5cmd, rclone and curl, with keys where those look for them, and a Python of the
# kind that a kit was made for. With the kit's files beside it, nothing is fetched. More: restore.md.
set -u

bucket=@BUCKET@
folder=@FOLDER@
endpoint=@ENDPOINT@
region=@REGION@
host=@HOST@
path=@PATH@
repository=@REPOSITORY@

case $0 in
*/recover.sh) beside=$(CDPATH='' cd -- "${0%/*}" && pwd -P) || exit 70 ;;
recover.sh) beside=$(pwd -P) ;;
*) beside='' ;;
esac

work=$(mktemp -d "${TMPDIR:-/var/tmp}/zitcache-kit-XXXXXX") || exit 5

tag_program='import os, sys
i = sys.implementation
print(("cp" if i.name == "cpython" else i.name) + "%d%d" % sys.version_info[:2]
      + "".join(c for c in getattr(sys, "abiflags", "") if c in "td") + "-" + os.uname()[4]
      + ("" if sys.maxsize > 1 << 32 else "-32")
      + ("-musl" if "musl" in getattr(i, "_multiarch", "") else ""))'
check_program='import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as file:
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
sys.exit(digest.hexdigest() != open(sys.argv[2]).read().split()[0])'

# fetch NAME: an object of the kit into the working folder
fetch() {
    if [ -n "$beside" ] && [ -f "$beside/$1" ]; then
        cp "$beside/$1" "$work/$1"
    elif command -v aws >/dev/null 2>&1; then
        aws ${endpoint:+--endpoint-url "$endpoint"} ${region:+--region "$region"} \
            s3 cp --only-show-errors "s3://$bucket/$folder/$1" "$work/$1" </dev/null
    elif command -v s5cmd >/dev/null 2>&1; then
        AWS_REGION=${AWS_REGION:-$region} s5cmd ${endpoint:+--endpoint-url "$endpoint"} \
            cp "s3://$bucket/$folder/$1" "$work/$1" >/dev/null </dev/null
    elif command -v rclone >/dev/null 2>&1; then
        RCLONE_S3_PROVIDER=Other RCLONE_S3_ENV_AUTH=true RCLONE_S3_ENDPOINT=$endpoint RCLONE_S3_REGION=$region \
            rclone copyto ":s3:$bucket/$folder/$1" "$work/$1" </dev/null
    elif command -v curl >/dev/null 2>&1 && [ -n "${AWS_ACCESS_KEY_ID:-}" ]; then
        # Keys go in by a file descriptor: a command line can be seen by everybody on the machine.
        {
            printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "${AWS_SECRET_ACCESS_KEY:-}"
            [ -z "${AWS_SESSION_TOKEN:-}" ] || printf 'header = "x-amz-security-token: %s"\n' "$AWS_SESSION_TOKEN"
        } | curl -K - -fsS --retry 5 --aws-sigv4 "aws:amz:${region:-us-east-1}:s3" \
            -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' -o "$work/$1" "$host$path/$folder/$1"
    else
        echo 'error: none of aws, s5cmd and rclone is here, nor curl with AWS_ACCESS_KEY_ID in the environment.' >&2
        exit 4
    fi
}

met=''
for python in "${ZITCACHE_PYTHON:-}" python3 python python3.13 python3.12 python3.11 python3.10 \
    /opt/conda/bin/python3 /root/miniconda3/bin/python3 /usr/bin/python3; do
    if [ -z "$python" ] || ! command -v "$python" >/dev/null 2>&1; then continue; fi
    tag=$("$python" -I -S -c "$tag_program" </dev/null 2>/dev/null) || continue
    case " $met " in *" $tag "*) continue ;; esac
    met="$met $tag"
    fetch "$tag.sha256" || continue
    fetch "$tag.tar" || continue
    if ! "$python" -I -c "$check_program" "$work/$tag.tar" "$work/$tag.sha256" </dev/null; then
        echo "error: the kit that was fetched ($tag.tar) is damaged. Try again." >&2
        exit 1
    fi
    "$python" -m tarfile -e "$work/$tag.tar" "$work/kit" </dev/null || exit 70
    rm -f "$work/$tag.tar"
    echo "The kit lies in $work/kit: sh $work/kit/zitcache COMMAND" >&2
    /bin/sh "$work/kit/zitcache" restore --repo "$repository" "$@" </dev/null
    exit $?
done
echo "error: there is no kit for the Pythons of this machine (found:${met:- none})." >&2
echo "See which there are: list s3://$bucket/$folder/. Then get such a Python and run this again;" >&2
echo "ZITCACHE_PYTHON=/path/to/python3 in front of sh names one in an unusual place." >&2
exit 6
