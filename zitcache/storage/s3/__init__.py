"""Repositories in object stores that speak S3: AWS, OSS, COS, R2, MinIO, Ceph, SeaweedFS.

``location``: what an ``s3://`` place says. ``addressing``: what follows from the endpoint's name.
``client``: the boto3 client and its keys. ``errors``: what an answer means. ``retry``: how long to go on.
``requests``: one request, whatever it takes. ``reading``, ``uploads``, ``listing``: the verbs. ``limits``:
bytes per second. ``storage``: all of it behind the storage protocol. ``probe``: what an endpoint can do,
found out by ``init``.

boto3 is imported when the first request is made, not before.
"""
