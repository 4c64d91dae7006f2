"""Bytes somewhere: a local directory now, S3 later, behind one small protocol (``storage.protocol``)."""
